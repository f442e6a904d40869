import type { Plan, PlanNotice, PlannedDeployment, PlannedModel, UnservedReason } from '../core/plan.js';
import type { PlanningProblem, ProblemDeployment } from '../core/planning-problem.js';

/**
 * A plan as a table for people: what to run, what it costs, how sure that is, and what is left over.
 *
 * Pure text in a given width; colours are ANSI codes and only added where asked for.
 */
export type PlanTableOptions = {
  /** Where the problem came from: a file name, `standard input`. */
  readonly title: string;
  readonly color: boolean;
  /** Columns of the terminal; the table never gets wider, and uses at most 100. */
  readonly width: number;
};

/** Notices of one kind that are written out; --json has them all. */
const listedNotices = 12;

const narrowest = 60;
const widest = 100;
const barCells = 10;

export function renderPlan(plan: Plan, problem: PlanningProblem, options: PlanTableOptions): string {
  const width = Math.max(narrowest, Math.min(widest, options.width));
  const ink = options.color ? colours : plain;
  const known = new Map(problem.models.flatMap((model) => model.deployments.map((item) => [item.id, item] as const)));
  const columns = fitColumns(plan.deployments, known, width);
  const lines: string[] = [describeProblem(problem, options.title), ''];
  lines.push(ink.dim(row(columns, ['GPU', 'DEPLOYMENT', 'REPLICAS', 'USD/h', 'LOAD'])));
  for (const model of plan.models) {
    lines.push(modelLine(model, ink, columns, width));
    for (const deployment of plan.deployments.filter((item) => item.model === model.name)) {
      lines.push(deploymentLine(deployment, known.get(deployment.id), columns, ink));
      for (const line of wrap(deployment.reason, width - reasonIndent.length)) lines.push(ink.dim(reasonIndent + line));
    }
  }
  lines.push('', ...totalLines(plan, ink, width));
  lines.push(...unservedLines(plan, ink, width));
  lines.push(...noticeLines('shortfalls', plan.shortfalls, ink.bad, width));
  lines.push(...noticeLines('warnings', plan.warnings, ink.warn, width));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

type Ink = Readonly<Record<'bold' | 'dim' | 'good' | 'warn' | 'bad', (text: string) => string>>;

const same = (text: string): string => text;
const plain: Ink = { bold: same, dim: same, good: same, warn: same, bad: same };
const ansi =
  (open: number, close: number) =>
  (text: string): string =>
    `\u001b[${open}m${text}\u001b[${close}m`;
const colours: Ink = {
  bold: ansi(1, 22),
  dim: ansi(2, 22),
  good: ansi(32, 39),
  warn: ansi(33, 39),
  bad: ansi(31, 39),
};

const reasonIndent = '    ';

type Columns = {
  readonly gpu: number;
  readonly deployment: number;
  readonly replicas: number;
  readonly usd: number;
};

/** Names give way where the terminal is narrow; numbers never do. */
function fitColumns(
  deployments: readonly PlannedDeployment[],
  known: ReadonlyMap<string, ProblemDeployment>,
  width: number,
): Columns {
  const longest = (header: string, texts: readonly string[]): number =>
    texts.reduce((most, text) => Math.max(most, text.length), header.length);
  const replicas = longest(
    'REPLICAS',
    deployments.map((deployment) => replicasText(deployment, known.get(deployment.id))),
  );
  const usd = longest(
    'USD/h',
    deployments.map((deployment) => money(deployment.usdPerHour)),
  );
  const gaps = 4 * columnGap.length + 2;
  const room = width - gaps - replicas - usd - (barCells + 6);
  const gpu = Math.min(
    longest(
      'GPU',
      deployments.map((deployment) => deployment.gpuType),
    ),
    Math.max(6, Math.floor(room / 3)),
  );
  const deployment = Math.min(
    longest(
      'DEPLOYMENT',
      deployments.map((item) => item.id),
    ),
    Math.max(10, room - gpu),
  );
  return { gpu, deployment, replicas, usd };
}

const columnGap = '  ';

function row(columns: Columns, cells: readonly [string, string, string, string, string]): string {
  const [gpu, deployment, replicas, usd, load] = cells;
  return [
    `  ${cut(gpu, columns.gpu).padEnd(columns.gpu)}`,
    cut(deployment, columns.deployment).padEnd(columns.deployment),
    replicas.padStart(columns.replicas),
    usd.padStart(columns.usd),
    load,
  ].join(columnGap);
}

/** The end of an id tells deployments apart, so that the middle goes. */
function cut(text: string, length: number): string {
  const safe = printable(text);
  if (safe.length <= length) return safe;
  const head = Math.floor((length - 1) / 3);
  return `${safe.slice(0, head)}…${safe.slice(safe.length - (length - 1 - head))}`;
}

/** Names come from documents: control characters must not reach the terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '�');
}

function deploymentLine(
  deployment: PlannedDeployment,
  known: ProblemDeployment | undefined,
  columns: Columns,
  ink: Ink,
): string {
  const idle = deployment.targetReplicas === 0;
  const text = row(columns, [
    deployment.gpuType,
    deployment.id,
    replicasText(deployment, known),
    deployment.targetReplicas === null ? '' : money(deployment.usdPerHour),
    idle || deployment.targetReplicas === null ? '' : loadBar(deployment.utilization),
  ]);
  return idle ? ink.dim(text) : text;
}

/** `3`, `2 → 3` where 2 run now, `3, publish 2` where the change is made in steps. */
function replicasText(deployment: PlannedDeployment, known: ProblemDeployment | undefined): string {
  if (deployment.targetReplicas === null) return 'not known';
  const now = known?.currentReplicas ?? null;
  const target =
    now === null || now === deployment.targetReplicas
      ? String(deployment.targetReplicas)
      : `${now} → ${deployment.targetReplicas}`;
  if (deployment.replicas === deployment.targetReplicas) return target;
  return `${target}, publish ${deployment.replicas ?? 'none'}`;
}

function loadBar(utilization: number): string {
  const filled = Math.max(0, Math.min(barCells, Math.round(utilization * barCells)));
  return `${'█'.repeat(filled)}${'░'.repeat(barCells - filled)} ${percent(utilization).padStart(5)}`;
}

function modelLine(model: PlannedModel, ink: Ink, columns: Columns, width: number): string {
  const usdEnd = 2 + columns.gpu + columns.deployment + columns.replicas + columns.usd + 3 * columnGap.length;
  const usd = money(model.usdPerHour);
  const name = cut(model.name, usdEnd - usd.length - columnGap.length);
  const line = `${ink.bold(name.padEnd(usdEnd - usd.length))}${ink.bold(usd)}`;
  const verdict = proof(model, ink);
  // Too little room beside the money: the verdict still has to be read.
  const fits = usdEnd + columnGap.length + verdict.length <= width;
  return fits ? `${line}${columnGap}${verdict.ink}` : `${line}\n${reasonIndent}${verdict.ink}`;
}

type Inked = { readonly length: number; readonly ink: string };

/** How sure the money is. */
function proof(
  proven: Pick<PlannedModel, 'status' | 'gap' | 'boundUsdPerHour'> & { readonly heldReason?: string | null },
  ink: Ink,
): Inked {
  const say = (text: string, colour: (text: string) => string): Inked => ({ length: text.length, ink: colour(text) });
  switch (proven.status) {
    case 'optimal':
      return say('proven optimal', ink.good);
    case 'feasible':
      return say(`at most ${percent(proven.gap)} above the optimum (bound ${money(proven.boundUsdPerHour)})`, ink.warn);
    case 'infeasible':
      return say('infeasible', ink.bad);
    case 'held':
      return say(`held${proven.heldReason ? `: ${proven.heldReason}` : ''}`, ink.warn);
  }
}

function totalLines(plan: Plan, ink: Ink, width: number): readonly string[] {
  const lines = [`total    ${ink.bold(`${money(plan.usdPerHour)} USD/h`)}, ${proof(plan, ink).ink}`];
  if (plan.publishedUsdPerHour !== plan.usdPerHour) {
    lines.push(`now      ${money(plan.publishedUsdPerHour)} USD/h for the replicas to publish now`);
  }
  if (plan.switchingUsdPerHour > 0)
    lines.push(`         + ${money(plan.switchingUsdPerHour)} USD/h for starts and stops`);
  const routing =
    plan.routing === 'free'
      ? 'free: each bucket has shares of its own (--json lists them), which the router must follow'
      : 'proportional: all buckets share alike, as a weighted Service does';
  lines.push(...hang('routing  ', routing, width));
  lines.push(
    `solver   ${plan.solver.name}, ${plan.solver.nodes} ${plan.solver.nodes === 1 ? 'node' : 'nodes'}, ${plan.solver.milliseconds.toFixed(1)} ms`,
  );
  return lines;
}

const unservedWords: Readonly<Record<UnservedReason, string>> = {
  slo: 'no deployment meets the SLO for it',
  max_replicas: 'every deployment that could serve it is at its maxReplicas',
  quota: 'a quota is used up',
  capacity: 'the GPUs that exist are used up',
  budget: 'the budget is used up',
};

function unservedLines(plan: Plan, ink: Ink, width: number): readonly string[] {
  if (plan.unserved.length === 0) return [];
  const groups = new Map<string, { model: string; reason: UnservedReason; rps: number; buckets: number }>();
  for (const { model, reason, rps } of plan.unserved) {
    const key = JSON.stringify([model, reason]);
    const group = groups.get(key) ?? { model, reason, rps: 0, buckets: 0 };
    groups.set(key, { ...group, rps: group.rps + rps, buckets: group.buckets + 1 });
  }
  const lines = ['', ink.bad('unserved')];
  for (const group of [...groups.values()].slice(0, listedNotices)) {
    const buckets = `${group.buckets} ${group.buckets === 1 ? 'bucket' : 'buckets'}`;
    const text = `${printable(group.model)}: ${rate(group.rps)} in ${buckets}: ${unservedWords[group.reason]}`;
    lines.push(...hang('  - ', text, width));
  }
  return [...lines, ...andMore(groups.size)];
}

function noticeLines(
  title: string,
  notices: readonly PlanNotice[],
  colour: (text: string) => string,
  width: number,
): readonly string[] {
  if (notices.length === 0) return [];
  const lines = ['', colour(title)];
  for (const notice of notices.slice(0, listedNotices)) {
    lines.push(...hang('  - ', `${printable(notice.message)} (${notice.code})`, width));
  }
  return [...lines, ...andMore(notices.length)];
}

function andMore(count: number): readonly string[] {
  return count > listedNotices ? [`  … and ${count - listedNotices} more (--json has them all)`] : [];
}

function describeProblem(problem: PlanningProblem, title: string): string {
  const buckets = problem.models.reduce((sum, model) => sum + model.demand.length, 0);
  const rps = problem.models.reduce((sum, model) => sum + model.demand.reduce((inner, item) => inner + item.rps, 0), 0);
  const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
  return `${printable(title)}: ${plural(problem.models.length, 'model')}, ${rate(rps)} in ${plural(buckets, 'bucket')}`;
}

function rate(rps: number): string {
  return `${Number(rps.toPrecision(4))} requests/s`;
}

function money(usd: number): string {
  return usd.toFixed(2);
}

/** One decimal below 10 %, so that a gap of 0.3 % is not called none. */
function percent(share: number): string {
  const value = share * 100;
  return `${value.toFixed(value > 0 && value < 9.95 ? 1 : 0)} %`;
}

function hang(label: string, text: string, width: number): readonly string[] {
  const indent = ' '.repeat(label.length);
  return wrap(text, width - label.length).map((line, index) => (index === 0 ? label : indent) + line);
}

/** Breaks at spaces; a word that is longer than a line is broken where it must be. */
function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of printable(text)
    .split(/\s+/)
    .filter((part) => part !== '')) {
    let rest = word;
    if (line !== '' && line.length + 1 + rest.length > width) {
      lines.push(line);
      line = '';
    }
    while (rest.length > width) {
      lines.push(rest.slice(0, width));
      rest = rest.slice(width);
    }
    line = line === '' ? rest : `${line} ${rest}`;
  }
  return line === '' ? lines : [...lines, line];
}
