import type { Plan } from '../core/plan.js';
import { savingVsSingleType } from './metrics.js';
import { heldReasons, heldSentences, type ModelView } from './view.js';

/**
 * The live table of the quickstart: what load there is, what the plan runs for it, what that costs, and what it saves.
 * Everything here is text in memory; `terminal-screen.ts` puts it on a terminal.
 */

/** The state after one cycle, over all models. */
export type QuickstartRow = {
  /** Unix milliseconds on the clock of the trace. */
  readonly atMs: number;
  /** Arrivals [requests/s]; null = not known yet. */
  readonly rps: number | null;
  readonly forecastRps: number | null;
  /** Published replicas by GPU type; null = not known yet. */
  readonly replicas: ReadonlyMap<string, number | null>;
  /** Of the published replicas, also of those that run until others are ready. */
  readonly usdPerHour: number | null;
  /** Cheapest plan on one GPU type; null = none serves it all. */
  readonly singleTypeUsdPerHour: number | null;
  readonly singleTypeGpu: string | null;
  /** What the simulated requests of the last while saw; null = none ended yet, or none are simulated. */
  readonly service: QuickstartService | null;
  /** Why there is no plan for now: an earlier one is served, or (with `usdPerHour` null) none yet. Null = there is. */
  readonly heldReason: string | null;
};

export type QuickstartService = {
  /** Share of the requests that met the objective; null = there is none. */
  readonly attainment: number | null;
  readonly ttftP95Seconds: number | null;
  readonly windowSeconds: number;
};

/** What stays the same while the quickstart runs. */
export type QuickstartFacts = {
  readonly title: string;
  /** `http://127.0.0.1:8080`, without a slash at the end. */
  readonly url: string;
  /** Path of one deployment's metric. */
  readonly metricPath: string;
  /** What a request must see to count as attained, for people: `TTFT ≤ 2 s, TPOT ≤ 0.1 s`; null = there is no objective. */
  readonly objective: string | null;
};

export type QuickstartSize = { readonly columns: number; readonly rows: number; readonly color: boolean };

/** Sums up what the view shows after a cycle. */
export function quickstartRow(atMs: number, models: readonly ModelView[], plan: Plan | null): QuickstartRow {
  const replicas = new Map<string, number | null>();
  for (const deployment of models.flatMap((model) => model.deployments)) {
    const sum = replicas.get(deployment.gpuType);
    const known = sum !== null && deployment.replicas !== null;
    replicas.set(deployment.gpuType, known ? (sum ?? 0) + deployment.replicas : null);
  }
  const demands = models.map((model) => model.demand);
  const singleTypes = new Set(models.map((model) => model.singleTypeGpu));
  return {
    atMs,
    rps: sumOrNull(demands.map((demand) => demand?.rps ?? null)),
    forecastRps: sumOrNull(demands.map((demand) => demand?.forecastRps ?? null)),
    replicas,
    usdPerHour: plan === null || models.some((model) => model.planAt === null) ? null : plan.publishedUsdPerHour,
    singleTypeUsdPerHour: sumOrNull(models.map((model) => model.singleTypeUsdPerHour)),
    singleTypeGpu: singleTypes.size === 1 ? ([...singleTypes][0] ?? null) : null,
    service: serviceOf(models),
    heldReason: models.find((model) => model.status === 'held')?.heldReason ?? null,
  };
}

/** Over all models that are simulated: every request counts alike, and of the percentiles the slowest model's is told. */
function serviceOf(models: readonly ModelView[]): QuickstartService | null {
  const simulated = models.flatMap((model) => model.simulated ?? []).filter(({ requests }) => requests > 0);
  if (simulated.length === 0) return null;
  const requests = simulated.reduce((sum, one) => sum + one.requests, 0);
  const attained = sumOrNull(
    simulated.map(({ attainment, requests }) => (attainment === null ? null : attainment * requests)),
  );
  const ttfts = simulated.flatMap(({ ttftP95Seconds }) => ttftP95Seconds ?? []);
  return {
    attainment: attained === null ? null : Math.min(1, attained / requests),
    ttftP95Seconds: ttfts.length === 0 ? null : Math.max(...ttfts),
    windowSeconds: Math.max(...simulated.map(({ windowSeconds }) => windowSeconds)),
  };
}

/** True where other replicas run, or why they run changed: such a row begins a new line. */
export function isPlanChange(before: QuickstartRow | undefined, after: QuickstartRow): boolean {
  if (before === undefined || before.heldReason !== after.heldReason) return true;
  if (before.replicas.size !== after.replicas.size) return true;
  return [...after.replicas].some(([gpuType, replicas]) => before.replicas.get(gpuType) !== replicas);
}

/** One plan change as one line, for pipes and log files. */
export function quickstartLine(row: QuickstartRow): string {
  if (row.usdPerHour === null) return `${clockText(row.atMs)} · ${heldSentence(row)}`;
  const replicas = [...row.replicas].map(([gpuType, count]) => `${count ?? '?'} × ${printable(gpuType)}`).join(', ');
  const saving = savingOf(row);
  const against = row.singleTypeGpu === null ? 'one GPU type' : `${printable(row.singleTypeGpu)} only`;
  return [
    clockText(row.atMs),
    `${decimal(row.rps, 1)} rps (forecast ${decimal(row.forecastRps, 1)})`,
    replicas,
    serviceText(row.service),
    `${decimal(row.usdPerHour, 2)} USD/h`,
    saving === null
      ? null
      : `${percent(Math.abs(saving))} ${saving < 0 ? 'more' : 'less'} than ${against} (${decimal(row.singleTypeUsdPerHour, 2)})`,
    row.heldReason === null ? null : `held: ${row.heldReason}`,
  ]
    .filter((part) => part !== null)
    .join(' · ');
}

/** `99.6 % in time, TTFT p95 0.84 s`; null where nothing is known. */
function serviceText(service: QuickstartService | null): string | null {
  if (service === null) return null;
  const { attainment, ttftP95Seconds } = service;
  const parts = [
    attainment === null ? null : `${attainedPercent(attainment)} in time`,
    ttftP95Seconds === null ? null : `TTFT p95 ${secondsText(ttftP95Seconds)}`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : parts.join(', ');
}

/** Lines around the rows of the table: title, load, status, headings, links, and the empty lines between. */
const linesAroundRows = 10;

/**
 * Draws the table.
 *
 * @param rows oldest first: one for each plan change, the last one being now; those before the first plan are not listed
 * @param loads arrivals of each cycle so far [requests/s], oldest first; several make one bar where they are many
 * @returns at most `size.rows` lines, none wider than `size.columns`
 */
export function renderQuickstart(
  facts: QuickstartFacts,
  rows: readonly QuickstartRow[],
  options: { readonly size: QuickstartSize; readonly loads: readonly number[] },
): readonly string[] {
  const { size, loads } = options;
  const paint = painter(size);
  const columns = fitColumns(rows, size.columns);
  const planned = rows.filter(({ usdPerHour }) => usdPerHour !== null);
  const shown = planned.slice(-Math.max(1, size.rows - linesAroundRows));
  const firstShown = planned.length - shown.length;
  const now = rows.at(-1);
  const lines = [
    paint([bold(' gpumix'), plain(`  ${printable(facts.title)}`)]),
    '',
    paint([
      dim(' load  '),
      plain(sparkline(averages(loads, Math.max(8, size.columns - 30)))),
      dim(`  ${range(loads)}`),
    ]),
    paint(statusSegments(facts, now)),
    paint([dim(headings(columns))]),
    ...shown.map((row, index) => paint(rowSegments(row, planned[firstShown + index - 1], columns))),
    '',
    paint([dim(' read  '), plain(`curl ${facts.url}${facts.metricPath}`)]),
    paint([dim(' look  '), plain(`${facts.url}/docs`), dim('  every route, to try')]),
    paint([dim('       '), plain(`${facts.url}/api/v1/plan`), dim('  the plan, with its proof')]),
    paint([dim(' stop  Ctrl-C')]),
  ];
  return lines.slice(0, size.rows);
}

/** A column beside those of the GPU types. */
type Figure = {
  readonly heading: string;
  readonly width: number;
  readonly segment: (row: QuickstartRow) => Segment;
};

/** Padded to the width of its column. */
const figures = {
  rps: { heading: 'rps', width: 6, segment: (row) => plain(decimal(row.rps, 1)) },
  // The rate that the replicas are planned for.
  forecast: { heading: 'forecast', width: 9, segment: (row) => plain(decimal(row.forecastRps, 1)) },
  usdPerHour: { heading: 'USD/h', width: 8, segment: (row) => plain(decimal(row.usdPerHour, 2)) },
  oneType: { heading: 'one type', width: 9, segment: (row) => dim(decimal(row.singleTypeUsdPerHour, 2)) },
  saving: { heading: 'saving', width: 8, segment: (row) => savingSegment(row) },
  attained: { heading: 'attained', width: 9, segment: (row) => attainedSegment(row.service) },
  ttft: {
    heading: 'TTFT p95',
    width: 9,
    segment: ({ service }) =>
      service === null || service.ttftP95Seconds === null ? dim('–') : plain(secondsText(service.ttftP95Seconds)),
  },
} satisfies Record<string, Figure>;

/** In the order in which they stand, GPU types between the first two and the others. */
const figuresBefore: readonly Figure[] = [figures.rps, figures.forecast];
/** What a narrow terminal goes without comes last here. */
const figuresWithService: readonly (readonly Figure[])[] = [
  [figures.usdPerHour, figures.oneType, figures.saving, figures.attained, figures.ttft],
  [figures.usdPerHour, figures.oneType, figures.saving, figures.attained],
  [figures.usdPerHour, figures.saving, figures.attained],
];
const figuresWithoutService: readonly (readonly Figure[])[] = [
  [figures.usdPerHour, figures.oneType, figures.saving],
  [figures.usdPerHour, figures.saving],
];

type Columns = {
  /** GPU types that have a column of their own. */
  readonly gpuTypes: readonly string[];
  /** Their headings, padded alike. */
  readonly titles: readonly string[];
  /** GPU types that found no room. */
  readonly hidden: number;
  /** Columns to the right of the GPU types. */
  readonly after: readonly Figure[];
};

const timeWidth = 12;

/** Shortest cut of a GPU type's name. */
const shortestName = 4;

/** Gives every GPU type a column if the names can be cut to fit; drops the last ones where even that is too much. */
function fitColumns(rows: readonly QuickstartRow[], columns: number): Columns {
  const all = [...new Set(rows.flatMap((row) => [...row.replicas.keys()]))];
  const names = all.map((gpuType) => printable(gpuType).padStart(shortestName));
  const choices = rows.some(({ service }) => service !== null) ? figuresWithService : figuresWithoutService;
  const roomBeside = (after: readonly Figure[]) =>
    Math.max(0, columns - timeWidth - widthOf(figuresBefore) - widthOf(after));
  const whole = names.reduce((sum, name) => sum + columnWidth(name.length), 0);
  const after = choices.find((choice) => whole <= roomBeside(choice)) ?? choices.at(-1)!;
  const room = roomBeside(after);
  const needed = (longest: number, count: number) =>
    names.slice(0, count).reduce((sum, name) => sum + columnWidth(Math.min(longest, name.length)), 0);
  let longest = Math.max(shortestName, ...names.map((name) => name.length));
  while (longest > shortestName && needed(longest, all.length) > room) longest -= 1;
  let count = all.length;
  // Three characters say how many are missing.
  while (count > 0 && needed(longest, count) > room - (count < all.length ? 3 : 0)) count -= 1;
  return {
    gpuTypes: all.slice(0, count),
    titles: names.slice(0, count).map((name) => {
      const text = cut(name, longest);
      return `${text.padStart(columnWidth(text.length) - 1)} `;
    }),
    hidden: all.length - count,
    after,
  };
}

/** A space, the name, and room for the arrow of a change. */
function columnWidth(name: number): number {
  return name + 2;
}

function widthOf(some: readonly Figure[]): number {
  return some.reduce((sum, { width }) => sum + width, 0);
}

function headings({ titles, hidden, after }: Columns): string {
  return [
    ' trace time'.padEnd(timeWidth),
    ...figuresBefore.map(({ heading, width }) => heading.padStart(width)),
    ...titles,
    hidden === 0 ? '' : `+${hidden}`.padEnd(3),
    ...after.map(({ heading, width }) => heading.padStart(width)),
  ].join('');
}

function rowSegments(row: QuickstartRow, before: QuickstartRow | undefined, columns: Columns): readonly Segment[] {
  const cellOf = ({ segment, width }: Figure): Segment => {
    const { text, style } = segment(row);
    return { text: text.padStart(width), style };
  };
  const cells = columns.gpuTypes.map((gpuType, index): Segment => {
    const count = row.replicas.get(gpuType) ?? null;
    const previous = before?.replicas.get(gpuType) ?? null;
    const arrow = previous === null || count === null || previous === count ? ' ' : count > previous ? '↑' : '↓';
    const text = `${count ?? '?'}${arrow}`.padStart(columns.titles[index]!.length);
    return arrow !== ' ' ? bold(text) : count === 0 ? dim(text) : plain(text);
  });
  return [
    plain(` ${clockText(row.atMs)}`),
    ...figuresBefore.map(cellOf),
    ...cells,
    plain(columns.hidden === 0 ? '' : '   '),
    ...columns.after.map(cellOf),
  ];
}

function savingSegment(row: QuickstartRow): Segment {
  const saving = savingOf(row);
  if (row.heldReason !== null) return yellow('held');
  if (saving === null) return dim('–');
  return saving > 0 ? green(percent(saving)) : yellow(percent(saving));
}

/** Below it, what is attained is worth a look. */
const goodAttainment = 0.99;

function attainedSegment(service: QuickstartService | null): Segment {
  if (service === null || service.attainment === null) return dim('–');
  const text = attainedPercent(service.attainment);
  return service.attainment >= goodAttainment ? green(text) : yellow(text);
}

/** What the requests of the last while saw, and what was promised them. */
function usersSegments({ objective }: QuickstartFacts, { service }: QuickstartRow): readonly Segment[] {
  const text = serviceText(service);
  if (service === null || text === null) return [];
  const promised = objective === null || service.attainment === null ? '' : ` (${printable(objective)})`;
  return [dim(' users '), plain(text), dim(`${promised}, last ${Math.round(service.windowSeconds / 60)} min`)];
}

/** What is wrong with the plan; else what users see. */
function statusSegments(facts: QuickstartFacts, now: QuickstartRow | undefined): readonly Segment[] {
  if (now === undefined || now.usdPerHour === null) return [yellow(` wait  ${heldSentence(now)}`)];
  return now.heldReason === null ? usersSegments(facts, now) : [yellow(` held  ${heldSentence(now)}`)];
}

function heldSentence(row: QuickstartRow | undefined): string {
  const reason = heldReasons.find((one) => one === row?.heldReason);
  const why = reason === undefined ? 'the first cycle is not over' : heldSentences[reason];
  return row === undefined || row.usdPerHour === null ? `no plan yet: ${why}` : `the last plan is kept: ${why}`;
}

function savingOf(row: QuickstartRow): number | null {
  return row.usdPerHour === null ? null : savingVsSingleType(row.singleTypeUsdPerHour, row.usdPerHour);
}

/** At most `count` averages of equally many neighbours each. */
function averages(values: readonly number[], count: number): readonly number[] {
  const group = Math.max(1, Math.ceil(values.length / count));
  return Array.from({ length: Math.ceil(values.length / group) }, (_, index) => {
    const part = values.slice(index * group, (index + 1) * group);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}

const bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;

/** Heights from zero to the largest, so that twice the load is twice as high. */
function sparkline(values: readonly number[]): string {
  const largest = Math.max(0, ...values);
  return values
    .map((value) => bars[largest > 0 ? Math.min(bars.length - 1, Math.floor((value / largest) * bars.length)) : 0])
    .join('');
}

function range(values: readonly number[]): string {
  if (values.length === 0) return 'waiting for the first requests';
  return `${decimal(Math.min(...values), 1)} – ${decimal(Math.max(...values), 1)} rps`;
}

/** `11-20 10:00`, UTC. */
function clockText(ms: number): string {
  return new Date(ms).toISOString().slice(5, 16).replace('T', ' ');
}

function decimal(value: number | null, digits: number): string {
  return value === null ? '?' : value.toFixed(digits);
}

function percent(ratio: number): string {
  return `${Math.round(ratio * 100)} %`;
}

/** One decimal, rounded down: 99.96 % is not all of them. */
function attainedPercent(ratio: number): string {
  return `${(Math.floor(ratio * 1000 + 1e-9) / 10).toFixed(1)} %`;
}

function secondsText(seconds: number): string {
  return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
}

function sumOrNull(values: readonly (number | null)[]): number | null {
  let sum = 0;
  for (const value of values) {
    if (value === null) return null;
    sum += value;
  }
  return values.length === 0 ? null : sum;
}

/** Names come from a configuration: control characters in them must not drive the terminal. */
function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

function cut(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, Math.max(0, width - 1))}…` : text;
}

type Style = 'plain' | 'bold' | 'dim' | 'green' | 'yellow';
type Segment = { readonly text: string; readonly style: Style };

const plain = (text: string): Segment => ({ text, style: 'plain' });
const bold = (text: string): Segment => ({ text, style: 'bold' });
const dim = (text: string): Segment => ({ text, style: 'dim' });
const green = (text: string): Segment => ({ text, style: 'green' });
const yellow = (text: string): Segment => ({ text, style: 'yellow' });

/** SGR codes: on, off. */
const codes: Record<Exclude<Style, 'plain'>, readonly [number, number]> = {
  bold: [1, 22],
  dim: [2, 22],
  green: [32, 39],
  yellow: [33, 39],
};

/** Joins segments to a line that is no wider than the terminal, in colour where that is wanted. */
function painter({ columns, color }: QuickstartSize): (segments: readonly Segment[]) => string {
  return (segments) => {
    let room = columns;
    let line = '';
    for (const { text, style } of segments) {
      const fitting = text.slice(0, Math.max(0, room));
      room -= fitting.length;
      if (fitting === '') continue;
      line += color && style !== 'plain' ? `\x1b[${codes[style][0]}m${fitting}\x1b[${codes[style][1]}m` : fitting;
    }
    return line.trimEnd();
  };
}
