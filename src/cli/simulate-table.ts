import type { LatencyPercentiles } from '../simulation/backtest/backtest.js';
import { type BacktestDocument, type BacktestRun, oracleRatio } from '../simulation/backtest/backtest-document.js';
import type { FrontierPosition, MatchedCost } from '../simulation/backtest/frontier.js';
import {
  attainmentText,
  errorText,
  knobText,
  positionText,
  quantityText,
  secondsText,
  shareText,
  spanText,
  targetText,
  usdText,
  wholeText,
} from '../simulation/backtest/report-numbers.js';
import { cut, hang, type Ink, inkOf, wrap } from './terminal-text.js';

/** A backtest as text for a terminal of 80 to 120 columns: money and service, latencies, the same service in money. Pure. */
export type BacktestTableOptions = {
  readonly color: boolean;
  /** Columns of the terminal. */
  readonly width: number;
};

const narrowest = 80;
const widest = 120;

export function renderBacktest(document: BacktestDocument, options: BacktestTableOptions): string {
  const width = Math.max(narrowest, Math.min(widest, options.width));
  const ink = inkOf(options.color);
  const blocks = [
    header(document, width),
    runLines(document, { ink, width }),
    latencyLines(document, { ink, width }),
    fleetLines(document, { ink, width }),
    ...document.matched.map((one) => matchedLines(document, one, ink)),
    positionLines(document, width),
    noticeLines(document, { ink, width }),
  ];
  const lines = blocks.filter((block) => block.length > 0).flatMap((block) => [...block, '']);
  return `${lines
    .slice(0, -1)
    .map((line) => line.trimEnd())
    .join('\n')}\n`;
}

function header(document: BacktestDocument, width: number): readonly string[] {
  const { asked, window, fleet } = document;
  const copies = asked.copies === 1 ? '' : `, ${quantityText(asked.copies, 4)} copies`;
  const { ttftSeconds, ttftSecondsPerInputToken, tpotSeconds } = asked.objective;
  const perToken =
    ttftSecondsPerInputToken === 0 ? '' : ` + ${quantityText(ttftSecondsPerInputToken * 1000)} ms per input token`;
  const types = [...new Set(fleet.deployments.map(({ gpuType }) => gpuType))];
  return [
    ...hang(
      'trace      ',
      `${cut(asked.trace, 60)}${copies}: ${wholeText(window.requests)} requests over ${spanText(window.toSeconds - window.scoredFromSeconds)} that count`,
      width,
    ),
    ...hang('fleet      ', `${types.join(', ')}; router ${asked.router}, fidelity ${asked.fidelity}`, width),
    ...hang(
      'objective  ',
      `TTFT ≤ ${quantityText(ttftSeconds)} s${perToken}, TPOT ≤ ${quantityText(tpotSeconds * 1000)} ms; ${targetText(asked.targetAttainment)} of the requests aimed at`,
      width,
    ),
  ];
}

type Look = { readonly ink: Ink; readonly width: number };

type Column = { readonly head: string; readonly cells: readonly string[]; readonly isLeft?: boolean };

/** Columns two blanks apart, each as wide as it must be; those that do not fit (the hours of many GPU types) are left to the document. */
function tableLines(
  columns: readonly Column[],
  { ink, width }: Look,
): { readonly head: string; readonly rows: readonly string[] } {
  const widths = columns.map(({ head, cells }) => Math.max(head.length, ...cells.map((cell) => cell.length)));
  let used = 0;
  const shown = columns.filter((_, i) => {
    const next = used + (i === 0 ? 0 : 2) + widths[i]!;
    if (next > width) return false;
    used = next;
    return true;
  });
  const line = (textOf: (column: Column) => string): string =>
    shown
      .map((column) => {
        const size = widths[columns.indexOf(column)]!;
        const text = textOf(column);
        return column.isLeft === true ? text.padEnd(size) : text.padStart(size);
      })
      .join('  ');
  const count = columns[0]?.cells.length ?? 0;
  return {
    head: ink.dim(line(({ head }) => head)),
    rows: Array.from({ length: count }, (_, row) => line(({ cells }) => cells[row] ?? '')),
  };
}

/** `  quantile 0.95, profiles +20 %` below the name of the policy; a policy with one run has one line. */
function labels(runs: readonly BacktestRun[], most: number): readonly string[] {
  return runs.map((run) => {
    const main = runs.find(({ policy, isMain }) => isMain && policy === run.policy);
    // With wrong profiles the knob is the usual one, which stands above.
    const hasUsualKnob = run.profileError !== 0 && main?.knob?.value === run.knob?.value;
    const alone = runs.filter(({ policy }) => policy === run.policy).length === 1;
    const details = [
      ...(run.knob === null || alone || hasUsualKnob ? [] : [knobText(run.knob)]),
      ...(run.variant === null ? [] : [run.variant]),
      ...(run.profileError === 0 ? [] : [`profiles ${errorText(run.profileError)}`]),
    ].join(', ');
    if (alone) return cut(details === '' ? run.policy : `${run.policy} ${details}`, most);
    return cut(`${run.isMain ? '*' : ' '} ${details === '' ? 'usual' : details}`, most);
  });
}

const labelWidth = { narrow: 24, wide: 38 } as const;

function runLines(document: BacktestDocument, look: Look): readonly string[] {
  const { runs, oracle } = document;
  if (runs.length === 0) return ['no runs'];
  const { ink, width } = look;
  const of = (head: string, text: (run: BacktestRun) => string): Column => ({ head, cells: runs.map(text) });
  const lost = runs.some(({ result }) => result.failed > 0);
  const columns: readonly Column[] = [
    { head: 'policy', cells: labels(runs, width < 100 ? labelWidth.narrow : labelWidth.wide), isLeft: true },
    of('USD', ({ result }) => usdText(result.usd)),
    of('USD/M tok', ({ result }) => (result.usdPerMillionTokens === null ? '-' : usdText(result.usdPerMillionTokens))),
    of('attained', ({ result }) => attainmentText(result.attainment)),
    ...(oracle === null ? [] : [of('×oracle', (run) => oracleRatio(run, oracle)?.toFixed(2) ?? '-')]),
    of('late', ({ result }) => wholeText(result.late)),
    ...(lost || width >= 100 ? [of('failed', ({ result }) => wholeText(result.failed))] : []),
    of('unserved', ({ result }) => wholeText(result.unserved)),
    // Where there is room; those of each policy stand below in any case.
    ...(width < 100
      ? []
      : [
          of('start/stop', ({ result }) => `${wholeText(result.starts)}/${wholeText(result.stops)}`),
          of('busy', ({ result }) => shareText(result.utilization, 0)),
        ]),
  ];
  const { head, rows } = tableLines(columns, look);
  const lines = [head];
  for (const [i, run] of runs.entries()) {
    const isFirst = runs[i - 1]?.policy !== run.policy;
    const isOneOfMany = runs.some((other) => other !== run && other.policy === run.policy);
    if (isFirst && isOneOfMany) lines.push(ink.bold(run.policy));
    lines.push(run.isMain && isOneOfMany ? ink.bold(rows[i]!) : rows[i]!);
  }
  if (runs.some(({ isMain }) => !isMain))
    lines.push(ink.dim('* the policy as its user has it; the blocks below are of these'));
  return lines;
}

function latencyLines({ runs }: BacktestDocument, look: Look): readonly string[] {
  const mains = runs.filter(({ isMain }) => isMain);
  if (mains.length === 0) return [];
  const at = (times: LatencyPercentiles | null, p: 'p50' | 'p99'): string =>
    times === null ? '-' : secondsText(times[p]);
  const of = (head: string, text: (run: BacktestRun) => string): Column => ({ head, cells: mains.map(text) });
  const { head, rows } = tableLines(
    [
      { head: 'latency', cells: mains.map(({ policy }) => policy), isLeft: true },
      of('TTFT p50', ({ result }) => at(result.ttft, 'p50')),
      of('p99', ({ result }) => at(result.ttft, 'p99')),
      of('TPOT p50', ({ result }) => at(result.tpot, 'p50')),
      of('p99', ({ result }) => at(result.tpot, 'p99')),
      of('E2E p50', ({ result }) => at(result.e2e, 'p50')),
      of('p99', ({ result }) => at(result.e2e, 'p99')),
    ],
    look,
  );
  return [head, ...rows];
}

function fleetLines({ runs }: BacktestDocument, look: Look): readonly string[] {
  const mains = runs.filter(({ isMain }) => isMain);
  if (mains.length === 0) return [];
  const types = [...new Set(mains.flatMap(({ result }) => Object.keys(result.gpuHours)))].sort();
  const of = (head: string, text: (run: BacktestRun) => string): Column => ({ head, cells: mains.map(text) });
  const { head, rows } = tableLines(
    [
      { head: 'fleet', cells: mains.map(({ policy }) => policy), isLeft: true },
      of('replicas', ({ result }) => quantityText(result.meanReplicas)),
      of('busy', ({ result }) => shareText(result.utilization, 0)),
      of('starts', ({ result }) => wholeText(result.starts)),
      of('stops', ({ result }) => wholeText(result.stops)),
      ...types.map((type) => of(`${cut(type, 16)} h`, ({ result }) => quantityText(result.gpuHours[type] ?? 0, 4))),
    ],
    look,
  );
  return [head, ...rows];
}

function matchedLines(
  document: BacktestDocument,
  matched: BacktestDocument['matched'][number],
  ink: Ink,
): readonly string[] {
  const { at, attainment, costs, oracleUsd, policy: own } = matched;
  if (costs.length < 2 && oracleUsd === null) return [];
  const title =
    at === 'target'
      ? `the same service in money: ${targetText(attainment)} attained, as aimed at`
      : `the same service in money: ${attainmentText(attainment)} attained, as by ${own}`;
  const reachOf = (cost: MatchedCost): string => {
    const most = document.frontiers.find(({ policy }) => policy === cost.policy)?.points.at(-1)?.attainment;
    return most === undefined ? 'no run' : `attains at most ${attainmentText(most)}`;
  };
  const isLimit = costs.find(({ policy }) => policy === own)?.basis === 'attains-more';
  const rows = costs.map((cost) => {
    const limit = cost.basis === 'attains-more' ? '≤ ' : '';
    const money = cost.usd === null ? '-    ' : `${limit}${usdText(cost.usd)} USD`;
    const ratio = cost.oracleRatio === null ? '' : `${cost.oracleRatio.toFixed(2)} × oracle`;
    const remark =
      cost.usd === null
        ? reachOf(cost)
        : cost.saving !== null
          ? savingText(cost.saving, { own, isLimit, ink })
          : cost.basis === 'attains-more'
            ? 'its cheapest run attains more'
            : '';
    return `  ${cost.policy.padEnd(18)}${money.padStart(16)}  ${ratio.padEnd(13)}  ${remark}`;
  });
  const floor =
    oracleUsd === null ? [] : [`  ${'oracle'.padEnd(18)}${usdText(oracleUsd).padStart(12)} USD  nobody can be cheaper`];
  return [ink.bold(title), ...rows, ...floor];
}

/** Where all runs of the compared one attain more, it might be cheaper than it is counted. */
function savingText(
  saving: number,
  { own, isLimit, ink }: { readonly own: string; readonly isLimit: boolean; readonly ink: Ink },
): string {
  return saving >= 0
    ? ink.good(`${own} saves ${isLimit ? 'at least ' : ''}${shareText(saving)}`)
    : ink.bad(`${own} is ${isLimit ? 'at most ' : ''}${shareText(-saving)} dearer`);
}

function positionLines({ positions }: BacktestDocument, width: number): readonly string[] {
  if (positions.length === 0) return [];
  const text = (position: FrontierPosition): readonly string[] => hang('  ', positionText(position), width);
  return [`frontier of ${positions[0]!.policy}, against that of`, ...positions.flatMap(text)];
}

function noticeLines({ notices }: BacktestDocument, { ink, width }: Look): readonly string[] {
  return notices.flatMap(({ message, policy }) =>
    wrap(policy === undefined ? message : `${policy}: ${message}`, width - 6).map((line, i) =>
      ink.warn(i === 0 ? `note: ${line}` : `      ${line}`),
    ),
  );
}
