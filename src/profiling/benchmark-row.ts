import { InputError, type InputIssue, quoteInput } from '../core/input-error.js';
import { parseJson } from '../core/parse.js';
import { largestRps, largestTokens } from '../core/profile.js';
import type { Measurement, Summary } from './measurement.js';

/**
 * Benchmark results as JSON lines, one metric of one run a line: AIBrix's format, which either tool's gen-profile reads,
 * with keys of our own that AIBrix's reader ignores.
 *
 * A run is one cell (input tokens, output tokens) at one rate. Its rows:
 *
 * | metric | unit | what |
 * |---|---|---|
 * | `TPUT` | requests/s | completed |
 * | `TT` | tokens/s | output tokens (we count produced ones, AIBrix requested ones) |
 * | `E2E`, `TTFT`, `TPOT` | s | end to end, to the first token, per output token after it |
 * | `ITL` | s | between two tokens, over all of them (ours) |
 *
 * Times have `mean`, `P50`, `P90`, `P99` and, in our files, `P95`. Source of the format: AIBrix's gpu_benchmark.py.
 */
export const metricNames = ['TPUT', 'TT', 'E2E', 'TTFT', 'TPOT', 'ITL'] as const;
export type MetricName = (typeof metricNames)[number];

export const percentileNames = ['P50', 'P90', 'P95', 'P99'] as const;
export type PercentileName = (typeof percentileNames)[number];

/** One line. Keys are those of the format, hence their spelling. */
export type BenchmarkRow = {
  readonly input_tokens: number;
  readonly output_tokens: number;
  /** Requests/s offered; Infinity = all at once. */
  readonly request_rate: number;
  readonly seed: number | null;
  readonly model: string | null;
  readonly temperature?: number | undefined;
  readonly samples: number | null;
  /** Others than ours are kept as they are: files may hold more. */
  readonly metric: string;
  /** Null: not measured, or not to be believed; see `unreliable_mean`. */
  readonly mean: number | null;
  readonly P50?: number | null | undefined;
  readonly P90?: number | null | undefined;
  readonly P95?: number | null | undefined;
  readonly P99?: number | null | undefined;
  /** False where the run must not be believed: the generator fell behind. Absent = true. */
  readonly valid?: boolean | undefined;
  readonly invalid_because?: string | undefined;
  /** Why the run was ended before its time; such a run says that its rate is too high, and no more. */
  readonly aborted?: string | undefined;
  /** True where the run missed the SLO of its search, and whether a lower rate meets it was not known by then. */
  readonly lower_rates_open?: boolean | undefined;
  /** What TPUT was in a run that is invalid or aborted. `mean` is null there, so that AIBrix's reader drops the rate. */
  readonly unreliable_mean?: number | null | undefined;
  /** On TPUT: requests arrived faster than they were served. */
  readonly saturated?: boolean | undefined;
  /** On TPUT: from the first arrival to the last end [s]. */
  readonly seconds?: number | undefined;
  /** On TPUT: where token counts come from. */
  readonly usage?: string | undefined;
  readonly arrivals?: string | undefined;
  /** On TPUT: requests sent, and those of them that failed (what we cut off ourselves is neither). */
  readonly sent?: number | undefined;
  readonly failed?: number | undefined;
  readonly shortened?: number | undefined;
  /** On TPUT: how late requests were sent, 99th percentile [s]. */
  readonly schedule_error_p99?: number | null | undefined;
  /** Name of a mixture of lengths; the token counts are then means, and the row is no cell of a grid. */
  readonly mix?: string | undefined;
  /** `simulated` where no engine was measured. Absent = measured. */
  readonly method?: 'measured' | 'simulated' | undefined;
};

/** Statistics of one metric of one run; null = not known. `row`: its place among the rows of all files. */
export type MetricSummary = { readonly mean: number | null; readonly row: number } & Readonly<
  Record<PercentileName, number | null>
>;

/** One run: everything that was measured of one cell at one rate. */
export type BenchmarkRun = {
  /** File, and line where it has lines. */
  readonly place: string;
  readonly model: string | null;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests/s offered; Infinity = all at once; the throughput itself in a closed loop. */
  readonly requestRate: number;
  /** `rate`: requests came at a rate, whatever became of those before. `closed_loop`: a fixed number was in flight. */
  readonly arrivals: 'rate' | 'closed_loop' | 'all_at_once';
  /** In seconds, requests/s and tokens/s, in the order in which the file has them. */
  readonly metrics: Readonly<Partial<Record<MetricName, MetricSummary>>>;
  /** Why nothing of the run counts: the generator fell behind; null = it counts. */
  readonly invalid: string | null;
  /** Why its server did not serve this rate, however fast the answers were that came: too many failed; null = it did. */
  readonly failures: string | null;
  /** Why it was ended before its time: its rate was too high to go on; null = it was not. */
  readonly aborted: string | null;
  /** It missed the SLO of its search, which had not looked at lower rates yet. */
  readonly lowerRatesOpen?: boolean;
  readonly method: 'measured' | 'simulated';
};

/** What is worth saying about an input that can be used. */
export type ReadNotice = {
  readonly kind:
    | 'truncated'
    | 'not_a_number'
    | 'unknown_metric'
    | 'mixes'
    | 'closed_loop'
    | 'merged_lengths'
    | 'left_out';
  readonly message: string;
};

export type ReadRows = { readonly rows: readonly BenchmarkRow[]; readonly notices: readonly ReadNotice[] };

/**
 * The rows of a measurement, in the order in which AIBrix writes them.
 *
 * @param options.method `simulated` where no real engine was measured
 */
export function rowsOf(
  measurement: Measurement,
  options: { readonly method?: 'measured' | 'simulated'; readonly lowerRatesOpen?: boolean } = {},
): readonly BenchmarkRow[] {
  const { cell, counts, throughputRps, scheduleError } = measurement;
  const counted = measurement.valid && measurement.aborted === null;
  const run = {
    input_tokens: cell?.inputTokens ?? Math.round(measurement.meanInputTokens),
    output_tokens: cell?.outputTokens ?? Math.round(measurement.meanOutputTokens),
    request_rate: measurement.requestRate,
    seed: measurement.seed,
    model: measurement.model,
    temperature: measurement.temperature,
    samples: counts.counted,
  };
  const state = {
    ...(measurement.valid ? {} : { valid: false, invalid_because: measurement.invalidBecause ?? 'no reason stated' }),
    ...(measurement.aborted === null ? {} : { aborted: measurement.aborted }),
    ...(options.lowerRatesOpen === true ? { lower_rates_open: true } : {}),
    ...(measurement.mix === null ? {} : { mix: measurement.mix }),
    ...(options.method === 'simulated' ? { method: options.method } : {}),
  };
  const cutOff = counts.failed.cancelled ?? 0;
  const ofWhole = {
    saturated: measurement.saturated,
    seconds: measurement.seconds,
    usage: measurement.usage,
    arrivals: measurement.arrivals,
    sent: counts.sent - cutOff,
    failed: Object.values(counts.failed).reduce((sum, count) => sum + count, 0) - cutOff,
    shortened: counts.shortened,
    schedule_error_p99: scheduleError?.p99 ?? null,
  };
  const times: readonly [MetricName, Summary | null][] = [
    ['E2E', measurement.e2e],
    ['TTFT', measurement.ttft],
    ['TPOT', measurement.tpot],
    ['ITL', measurement.itl],
  ];
  return [
    {
      ...run,
      metric: 'TPUT',
      mean: counted ? throughputRps : null,
      ...(counted ? {} : { unreliable_mean: throughputRps }),
      ...state,
      ...ofWhole,
    },
    { ...run, metric: 'TT', mean: measurement.outputTokensPerSecond, ...state },
    ...times.flatMap(([metric, summary]): BenchmarkRow[] => {
      if (summary === null) return [];
      const { mean, p50, p90, p95, p99 } = summary;
      return [{ ...run, metric, mean, P50: p50, P90: p90, P95: p95, P99: p99, ...state }];
    }),
  ];
}

/**
 * Parses JSON lines of rows, AIBrix's of every age and ours.
 *
 * A last line that is cut off (the benchmark was killed while it wrote) is left out and said, with all before it used.
 * `NaN`, which AIBrix's tool writes where nothing was measured, is read as "not measured" and said.
 *
 * @throws InputError that names line and key of what cannot be used
 */
export function parseRows(text: string, source: string): ReadRows {
  const rows: BenchmarkRow[] = [];
  let notNumbers = 0;
  let truncatedLine = 0;
  let line = 0;
  for (let start = 0; start < text.length; ) {
    let end = text.indexOf('\n', start);
    if (end < 0) end = text.length;
    line += 1;
    const content = text.slice(start, end).trim();
    const lineStart = start;
    start = end + 1;
    if (content === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch {
      const mended = withoutNaN(content);
      try {
        value = mended === null ? null : JSON.parse(mended);
        if (mended === null) throw new SyntaxError();
        notNumbers += 1;
      } catch {
        const isLast = text.slice(start).trim() === '';
        // One line that makes no sense is no benchmark file; the last of many is one that was being written.
        if (isLast && rows.length > 0 && content.startsWith('{')) {
          truncatedLine = line;
          break;
        }
        throw brokenLine({ text: text.slice(lineStart, end), line, source });
      }
    }
    rows.push(checkRow(value, line, source));
  }
  if (rows.length === 0) {
    throw new InputError(source, [
      { place: '', found: 'no row at all', expected: 'JSON lines of a benchmark, one metric of one run a line' },
    ]);
  }
  const notices: ReadNotice[] = [];
  if (truncatedLine > 0) {
    const message = `line ${truncatedLine} is cut off: it is left out, the ${rows.length} rows before it are used`;
    notices.push({ kind: 'truncated', message });
  }
  if (notNumbers > 0) {
    const lines = notNumbers === 1 ? '1 line holds' : `${notNumbers} lines hold`;
    notices.push({ kind: 'not_a_number', message: `${lines} NaN or Infinity for a time: read as not measured` });
  }
  return { rows, notices };
}

/** Share of failed requests beyond which a rate was not served: the latencies are those of the requests that survived. */
const toleratedFailures = 0.1;

/** What is wrong with a run of so many failures; null where nothing is. */
export function tooManyFailures(failed: number, all: number): string | null {
  return all > 0 && failed / all > toleratedFailures ? `${failed} of ${all} requests failed` : null;
}

/** A JSON text with its bare `NaN` and `Infinity`, which Python writes, as JSON; null where it has none. */
export function withoutNaN(line: string): string | null {
  if (!/NaN|Infinity/.test(line)) return null;
  return line.replace(/"(?:\\.|[^"\\])*"|-?\bInfinity\b|\bNaN\b/g, (token) => {
    if (token.startsWith('"')) return token;
    // Too large for a number: JSON.parse gives Infinity, which a rate may be.
    return token === 'NaN' ? 'null' : token.replace('Infinity', '1e999');
  });
}

/** The fault of a line, found by the strict parser, with the line's number in the file. */
function brokenLine(options: { readonly text: string; readonly line: number; readonly source: string }): InputError {
  const { text, line, source } = options;
  try {
    parseJson(text, source);
  } catch (error) {
    if (error instanceof InputError) {
      return new InputError(
        source,
        error.issues.map((issue) => ({ ...issue, place: issue.place.replace(/^line \d+/, `line ${line}`) })),
      );
    }
  }
  return new InputError(source, [{ place: `line ${line}`, found: quoteInput(text), expected: 'a row as strict JSON' }]);
}

/** Of any metric: a throughput beyond it is none, and a latency is three decades. */
export const largestStatistic = largestRps;

const own = (value: object, key: string): unknown =>
  Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;

function checkRow(value: unknown, line: number, source: string): BenchmarkRow {
  const issues: InputIssue[] = [];
  const fault = (key: string, found: unknown, expected: string): void => {
    const place = key === '' ? `line ${line}` : `line ${line}: ${key}`;
    issues.push({ place, found: quoteInput(found), expected });
  };
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    fault('', value, 'a row: an object with input_tokens, output_tokens, request_rate, metric, mean');
    throw new InputError(source, issues);
  }
  const tokens = (key: 'input_tokens' | 'output_tokens'): number => {
    const count = own(value, key);
    if (typeof count === 'number' && count >= 0 && count <= largestTokens) return count;
    fault(key, count, `a number of tokens, 0 to ${largestTokens}`);
    return 0;
  };
  const input_tokens = tokens('input_tokens');
  const output_tokens = tokens('output_tokens');
  const rate = own(value, 'request_rate') === 'inf' ? Number.POSITIVE_INFINITY : own(value, 'request_rate');
  const isRate = typeof rate === 'number' && rate > 0 && (rate <= largestRps || rate === Number.POSITIVE_INFINITY);
  if (!isRate) fault('request_rate', rate, `requests/s, above 0, at most ${largestRps}`);
  const metric = own(value, 'metric');
  if (typeof metric !== 'string') fault('metric', metric, `one of ${metricNames.join(', ')}`);
  const statistic = (key: string): number | null => {
    const number = own(value, key);
    if (number === undefined || number === null) return null;
    if (number === Number.POSITIVE_INFINITY) return null;
    if (typeof number === 'number' && number >= 0 && number <= largestStatistic) return number;
    fault(key, number, `a number, 0 to ${largestStatistic}`);
    return null;
  };
  const mean = statistic('mean');
  const percentiles = percentileNames.flatMap((name) => {
    const number = statistic(name);
    return own(value, name) === undefined ? [] : [[name, number] as const];
  });
  if (issues.length > 0) throw new InputError(source, issues);
  const text = (key: string): string | undefined => {
    const found = own(value, key);
    return typeof found === 'string' ? found : undefined;
  };
  const number = (key: string): number | undefined => {
    const found = own(value, key);
    return typeof found === 'number' && Number.isFinite(found) ? found : undefined;
  };
  const valid = own(value, 'valid');
  const saturated = own(value, 'saturated');
  const lowerRatesOpen = own(value, 'lower_rates_open');
  const method = text('method');
  const row: Record<string, unknown> = {
    input_tokens,
    output_tokens,
    request_rate: rate as number,
    seed: number('seed') ?? null,
    model: text('model') ?? null,
    temperature: number('temperature'),
    samples: number('samples') ?? null,
    metric: metric as string,
    mean,
    valid: typeof valid === 'boolean' ? valid : undefined,
    invalid_because: text('invalid_because'),
    aborted: text('aborted'),
    lower_rates_open: lowerRatesOpen === true ? true : undefined,
    unreliable_mean: number('unreliable_mean'),
    saturated: typeof saturated === 'boolean' ? saturated : undefined,
    seconds: number('seconds'),
    usage: text('usage'),
    arrivals: text('arrivals'),
    sent: number('sent'),
    failed: number('failed'),
    shortened: number('shortened'),
    schedule_error_p99: number('schedule_error_p99'),
    mix: text('mix'),
    method: method === 'simulated' || method === 'measured' ? method : undefined,
  };
  for (const [name, found] of percentiles) row[name] = found;
  return row as BenchmarkRow;
}

/**
 * Rows as runs. Rows of mixtures of lengths are left out: they are no cells.
 *
 * Rows of one cell and rate belong to one run until a metric comes a second time, which begins the next run.
 */
export function runsOfRows(
  read: ReadRows,
  options: { readonly source: string; readonly firstRow?: number },
): { readonly runs: readonly BenchmarkRun[]; readonly notices: readonly ReadNotice[] } {
  const { source, firstRow = 0 } = options;
  type OpenRun = { -readonly [Key in keyof BenchmarkRun]: BenchmarkRun[Key] } & {
    metrics: Partial<Record<MetricName, MetricSummary>>;
  };
  const runs: OpenRun[] = [];
  const open = new Map<string, OpenRun>();
  const unknown = new Set<string>();
  const mixes = new Set<string>();
  for (const [index, row] of read.rows.entries()) {
    if (row.mix !== undefined) {
      mixes.add(row.mix);
      continue;
    }
    const metric = metricNames.find((name) => name === row.metric);
    if (metric === undefined) {
      unknown.add(row.metric);
      continue;
    }
    const key = `${row.input_tokens} ${row.output_tokens} ${row.request_rate} ${row.model ?? ''}`;
    let run = open.get(key);
    if (run === undefined || run.metrics[metric] !== undefined) {
      run = {
        place: source,
        model: row.model,
        inputTokens: row.input_tokens,
        outputTokens: row.output_tokens,
        requestRate: row.request_rate,
        arrivals: row.request_rate === Number.POSITIVE_INFINITY ? 'all_at_once' : 'rate',
        metrics: {},
        invalid: null,
        failures: null,
        aborted: null,
        lowerRatesOpen: false,
        method: row.method ?? 'measured',
      };
      open.set(key, run);
      runs.push(run);
    }
    run.metrics[metric] = {
      row: firstRow + index,
      mean: row.mean,
      P50: row.P50 ?? null,
      P90: row.P90 ?? null,
      P95: row.P95 ?? null,
      P99: row.P99 ?? null,
    };
    if (row.aborted !== undefined) run.aborted = row.aborted;
    if (row.lower_rates_open === true) run.lowerRatesOpen = true;
    if (row.sent !== undefined) run.failures = tooManyFailures(row.failed ?? 0, row.sent);
    if (row.valid === false) run.invalid = row.invalid_because ?? 'marked invalid';
  }
  const notices = [...read.notices];
  if (unknown.size > 0) {
    const names = [...unknown].slice(0, 5).map(quoteInput).join(', ');
    notices.push({ kind: 'unknown_metric', message: `metrics that no profile uses are left out: ${names}` });
  }
  if (mixes.size > 0) {
    const message = `rows of mixtures of lengths are no cells of a profile and are left out (${mixes.size})`;
    notices.push({ kind: 'mixes', message });
  }
  return { runs, notices };
}
