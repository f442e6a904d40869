import { isUsedUp, type LimitUse, limitUses } from '../core/limit-use.js';
import type { Plan, PlanNotice, PlannedDeployment, PlannedModel, UnservedReason } from '../core/plan.js';
import type { PlanningProblem, ProblemDeployment } from '../core/planning-problem.js';
import {
  cut,
  hang,
  type Ink,
  inkOf,
  money,
  percent,
  precisePercent,
  printable,
  rate,
  wholeMoney,
  wrap,
} from './terminal-text.js';

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
  const ink = inkOf(options.color);
  const known = new Map(problem.models.flatMap((model) => model.deployments.map((item) => [item.id, item] as const)));
  const ofModel = byModel(plan.deployments);
  const columns = fitColumns(plan.deployments, known, width);
  const lines: string[] = [describeProblem(problem, options.title), ''];
  lines.push(ink.dim(row(columns, ['GPU', 'DEPLOYMENT', 'REPLICAS', 'USD/h', 'LOAD'])));
  for (const model of plan.models) {
    lines.push(modelLine(model, ink, columns, width));
    for (const deployment of ofModel.get(model.name) ?? []) {
      lines.push(deploymentLine(deployment, known.get(deployment.id), columns, ink));
      for (const line of wrap(deployment.reason, width - reasonIndent.length)) lines.push(ink.dim(reasonIndent + line));
    }
  }
  lines.push('', ...totalLines(plan, problem, ink, width));
  lines.push(...limitLines(limitUses(problem, plan), ink, width));
  lines.push(`solver   ${solverText(plan)}`);
  lines.push(...unservedLines(plan, problem, { ink, width, title: 'unserved' }));
  lines.push(...noticeLines('shortfalls', plan.shortfalls, ink.bad, width));
  lines.push(...noticeLines('warnings', plan.warnings, ink.warn, width));
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

/** Items by the model that they are of, in their order. */
export function byModel<Item extends { readonly model: string }>(
  items: readonly Item[],
): ReadonlyMap<string, readonly Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(item.model);
    if (group === undefined) groups.set(item.model, [item]);
    else group.push(item);
  }
  return groups;
}

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
export function proof(
  proven: Pick<PlannedModel, 'status' | 'gap' | 'boundUsdPerHour'> & { readonly heldReason?: string | null },
  ink: Ink,
): Inked {
  const say = (text: string, colour: (text: string) => string): Inked => ({ length: text.length, ink: colour(text) });
  switch (proven.status) {
    case 'optimal':
      return say('proven optimal', ink.good);
    case 'feasible':
      return say(
        `optimum at most ${precisePercent(proven.gap)} lower (bound ${money(proven.boundUsdPerHour)})`,
        ink.warn,
      );
    case 'infeasible':
      return say('infeasible', ink.bad);
    case 'held':
      return say(`held${proven.heldReason ? `: ${proven.heldReason}` : ''}`, ink.warn);
  }
}

function totalLines(plan: Plan, problem: PlanningProblem, ink: Ink, width: number): readonly string[] {
  const lines = [`total    ${ink.bold(`${money(plan.usdPerHour)} USD/h`)}, ${proof(plan, ink).ink}`];
  if (plan.publishedUsdPerHour !== plan.usdPerHour) {
    lines.push(`now      ${money(plan.publishedUsdPerHour)} USD/h for the replicas to publish now`);
  }
  if (plan.switchingUsdPerHour > 0) {
    const { horizonHours } = problem.options;
    const over = `spread over ${horizonHours} ${horizonHours === 1 ? 'hour' : 'hours'}`;
    lines.push(
      ...hang('moving   ', `${money(plan.switchingUsdPerHour)} USD/h on top: starts and stops, ${over}`, width),
    );
  }
  lines.push(...hang('routing  ', routingText(plan.routing), width));
  return lines;
}

/** What the money assumes of the router. */
export function routingText(routing: Plan['routing']): string {
  return routing === 'free'
    ? 'free: each bucket has shares of its own (--json lists them), which the router must follow'
    : 'proportional: all buckets share alike, as a weighted Service does';
}

function solverText({ solver }: Plan): string {
  return `${solver.name}, ${solver.nodes} ${solver.nodes === 1 ? 'node' : 'nodes'}, ${solver.milliseconds.toFixed(1)} ms`;
}

/** Pools, quotas and the budget: how much of each is used. Unlimited ones say nothing. */
function limitLines(uses: readonly LimitUse[], ink: Ink, width: number): readonly string[] {
  const limited = uses.filter((use) => use.limit !== null);
  const shown = binding(limited);
  const names = shown.map(limitName);
  const longest = Math.min(longestName, Math.max(0, ...names.map((name) => name.length)));
  const lines = shown.flatMap((use, index) => {
    const label = `${index === 0 ? 'limits   ' : '         '}${cut(names[index]!, longest).padEnd(longest)}  `;
    const text = hang(label, limitText(use), width);
    return isUsedUp(use) ? text.map(ink.warn) : text;
  });
  const left = limited.length - shown.length;
  return left === 0 ? lines : [...lines, `         … and ${left} more`];
}

/** Where there are too many to list, those that are used up come first: they are what matters. */
export function binding(uses: readonly LimitUse[]): readonly LimitUse[] {
  if (uses.length <= listedNotices) return uses;
  return [...uses].sort((a, b) => Number(isUsedUp(b)) - Number(isUsedUp(a))).slice(0, listedNotices);
}

const longestName = 32;

/** `H100`, `team-a on L4`, `budget`. */
export function limitName(use: LimitUse): string {
  if (use.gpuType === null) return 'budget';
  return use.namespace === null ? use.gpuType : `${use.namespace} on ${use.gpuType}`;
}

/** `8 of 8 GPUs, full`, `36.70 of 40.00 USD/h`. */
export function limitText(use: LimitUse): string {
  const limit = use.limit ?? Number.POSITIVE_INFINITY;
  const full = isUsedUp(use) ? ', full' : '';
  if (use.kind === 'budget') return `${money(use.used)} of ${money(limit)} USD/h${full}`;
  const gpus = (count: number): string => String(Number(count.toPrecision(6)));
  const now = use.usedNow > use.used ? `, ${gpus(use.usedNow)} until the change is made` : '';
  return `${gpus(use.used)} of ${gpus(limit)} GPUs${full}${now}`;
}

export const unservedWords: Readonly<Record<UnservedReason, string>> = {
  slo: 'no deployment meets the SLO for it',
  max_replicas: 'every deployment that could serve it is at its maxReplicas',
  quota: 'a quota is used up',
  capacity: 'the GPUs that exist are used up',
  budget: 'the budget is used up',
};

type UnservedGroup = { readonly model: string; readonly reason: UnservedReason; rps: number; buckets: number };

/** Demand that is left out: by priority, with how sure it is that no less could be; below it, whose and why. */
export function unservedLines(
  plan: Plan,
  problem: PlanningProblem,
  { ink, width, title }: { readonly ink: Ink; readonly width: number; readonly title: string },
): readonly string[] {
  if (plan.unserved.length === 0) return [];
  const groups = new Map<string, UnservedGroup>();
  for (const { model, reason, rps } of plan.unserved) {
    const key = JSON.stringify([model, reason]);
    const group = groups.get(key) ?? { model, reason, rps: 0, buckets: 0 };
    groups.set(key, { ...group, rps: group.rps + rps, buckets: group.buckets + 1 });
  }
  const priorityOf = new Map(problem.models.map((model) => [model.name, model.priority]));
  const lines = ['', ink.bad(title)];
  let listed = 0;
  const list = (indent: string, chosen: readonly UnservedGroup[]): void => {
    for (const group of chosen.slice(0, Math.max(0, listedNotices - listed))) {
      const buckets = `${group.buckets} ${group.buckets === 1 ? 'bucket' : 'buckets'}`;
      const text = `${printable(group.model)}: ${rate(group.rps)} in ${buckets}: ${unservedWords[group.reason]}`;
      lines.push(...hang(indent, text, width));
    }
    listed += chosen.length;
  };
  const all = [...groups.values()];
  const levels = plan.scarcity;
  for (const level of levels) {
    const proven = level.proven
      ? 'proven the least'
      : `not proven the least (bound ${wholeMoney(level.boundUsdPerHour)})`;
    const penalty = `penalty ${wholeMoney(level.penaltyUsdPerHour)} USD/h, ${proven}`;
    lines.push(...hang('  ', `priority ${level.priority}: ${rate(level.unservedRps)}, ${penalty}`, width));
    list(
      '    - ',
      all.filter((group) => priorityOf.get(group.model) === level.priority),
    );
  }
  const known = new Set(levels.map((level) => level.priority));
  list(
    '  - ',
    all.filter((group) => !known.has(priorityOf.get(group.model) ?? Number.NaN)),
  );
  return [...lines, ...andMore(groups.size)];
}

export function noticeLines(
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

export function describeProblem(problem: PlanningProblem, title: string): string {
  const buckets = problem.models.reduce((sum, model) => sum + model.demand.length, 0);
  const rps = problem.models.reduce((sum, model) => sum + model.demand.reduce((inner, item) => inner + item.rps, 0), 0);
  const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
  return `${printable(title)}: ${plural(problem.models.length, 'model')}, ${rate(rps)} in ${plural(buckets, 'bucket')}`;
}
