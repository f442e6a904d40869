import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { readRequestLog } from '../src/adapters/request-log.js';
import { DemandForecaster, type ForecasterName, forecasterNames } from '../src/demand/forecast.js';
import { pinballLoss } from '../src/demand/forecasters/weighting.js';
import type { DemandInterval } from '../src/demand/window.js';
import { randomFrom } from '../src/profiling/random.js';
import { brief, progress, table } from './timing.js';

/**
 * How well each forecaster foretells the largest 60 s mean rate within a horizon, on recorded traces: a walk from minute
 * to minute in which a forecaster sees what the live window would show it, and nothing of what comes.
 *
 * The loss is the pinball loss of the quantile, summed over the trace after its first tenth, and told as a share of that
 * of the last value. Covered is the share of times in which what came was at most the forecast.
 */
export type ForecastBenchmark = { readonly results: readonly TraceForecasts[]; readonly microseconds: number };

type TraceForecasts = {
  readonly trace: string;
  readonly meanRps: number;
  readonly horizonSeconds: number;
  readonly quantile: number;
  readonly steps: number;
  /** By forecaster: mean loss [requests/s], covered share. */
  readonly losses: Readonly<Record<ForecasterName, { readonly loss: number; readonly covered: number }>>;
};

const data = join('..', 'shared', 'data');
const folder = join(data, 'traces');

/** Files of one trace follow each other in time. */
const traces: Readonly<Record<string, readonly string[]>> = {
  azure_code: ['azure_code_2023'],
  azure_conv: ['azure_conv_2023'],
  mooncake_conversation: ['mooncake_conversation'],
  sg_deepseekr1: ['sg_deepseekr1_00-12h', 'sg_deepseekr1_12-24h'],
  sg_mmimage_24h: ['sg_mmimage_24h'],
  sg_mlarge_diurnal_14d: ['sg_mlarge_diurnal_14d'],
  sg_mlarge_mixed_7d: ['sg_mlarge_mixed_7d'],
  sg_msmall_bursty_14d: ['sg_msmall_bursty_14d'],
  sg_msmall_dailyspike_7d: ['sg_msmall_dailyspike_7d'],
};

type Series = {
  readonly file: string;
  readonly column: string;
  /** What one row is the mean of [s]. */
  readonly rowSeconds: number;
  /** Of the column's value in one second of rate. */
  readonly perRps: number;
  /** Shorter ones than a row would ask for the rate now. */
  readonly horizonSeconds: readonly number[];
};

/** Rates that were counted by others: constant within a row. */
const series: Readonly<Record<string, Series>> = {
  // Tokens a second stand in for requests a second, a thousand for one.
  burstgpt_week1_1min: {
    file: 'burstgpt_week1_1min',
    column: 'total_tokens_per_s',
    rowSeconds: 60,
    perRps: 1000,
    horizonSeconds: [195, 600],
  },
  ...Object.fromEntries(
    ['m-large', 'm-small', 'mm-image', 'deepseek-r1'].map((model) => [
      `servegen_${model}_10min`,
      {
        file: `servegen_${model}_10min`,
        column: 'requests',
        rowSeconds: 600,
        perRps: 600,
        horizonSeconds: [600],
      } satisfies Series,
    ]),
  ),
};

const stepSeconds = 10;
const windowIntervals = 24;
/** What is usual, and each of both moved by itself: all combinations would take an hour. */
const usual = { horizonSeconds: 195, quantile: 0.95 } as const;
const asked = [
  usual,
  { ...usual, horizonSeconds: 60 },
  { ...usual, horizonSeconds: 600 },
  { ...usual, quantile: 0.5 },
  { ...usual, quantile: 0.9 },
  { ...usual, quantile: 0.99 },
] as const;
/** Mean rate of the scaled copies [requests/s]. */
const scaledRps = 10;
/** Copies of a request arrive within this time of it [s]. */
const jitterSeconds = 60;
const warmShare = 0.1;

export async function benchmarkForecasts(options: { readonly quick: boolean }): Promise<ForecastBenchmark> {
  const results: TraceForecasts[] = [];
  let forecasts = 0;
  let spentMs = 0;
  const add = (counts: Float64Array, of: Pick<TraceForecasts, 'trace' | 'horizonSeconds' | 'quantile'>) => {
    progress(`${of.trace}: ${of.horizonSeconds} s, ${of.quantile}`);
    const startedMs = performance.now();
    results.push(walk(counts, of));
    spentMs += performance.now() - startedMs;
    forecasts += (counts.length / 6) * forecasterNames.length;
  };
  for (const [trace, names] of Object.entries(traces)) {
    const files = names.map((name) => join(folder, `${name}.csv.gz`));
    if (!files.every((file) => existsSync(file))) continue;
    const arrivals = await readArrivals(files);
    const counts = countsOf(arrivals, 1);
    for (const each of options.quick ? [usual] : asked) add(counts, { trace, ...each });
    const meanRps = arrivals.length / (counts.length * stepSeconds);
    if (!options.quick) add(countsOf(arrivals, scaledRps / meanRps), { trace, ...usual });
  }
  for (const [trace, each] of Object.entries(series)) {
    const file = join(data, 'series', `${each.file}.csv.gz`);
    if (!existsSync(file)) continue;
    const counts = readSeries(file, each);
    for (const horizonSeconds of each.horizonSeconds) add(counts, { trace, ...usual, horizonSeconds });
  }
  progress('');
  return { results, microseconds: (1000 * spentMs) / forecasts };
}

/** Arrival times from the first one on [s]. */
async function readArrivals(files: readonly string[]): Promise<Float64Array> {
  const seconds: number[] = [];
  let from = 0;
  for (const file of files) {
    let last = 0;
    for await (const { atMs } of readRequestLog({ file })) {
      seconds.push(from + atMs / 1000);
      last = atMs / 1000;
    }
    from += Math.ceil(last);
  }
  return Float64Array.from(seconds);
}

/** Requests per interval, as many in each of a row. */
function readSeries(file: string, { column, rowSeconds, perRps }: Series): Float64Array {
  const [header, ...rows] = gunzipSync(readFileSync(file)).toString('utf8').trim().split('\n');
  const index = header!.split(',').indexOf(column);
  if (index < 0) throw new Error(`${file} has no column ${column}: ${header}`);
  const each = rowSeconds / stepSeconds;
  const counts = new Float64Array(rows.length * each);
  rows.forEach((row, i) => {
    counts.fill((stepSeconds * Number(row.split(',')[index])) / perRps, i * each, (i + 1) * each);
  });
  return counts;
}

/** Requests per interval of `copies` of the arrivals: a copy arrives up to the jitter later, the first one in its time. */
function countsOf(arrivals: Float64Array, copies: number): Float64Array {
  const random = randomFrom(1);
  const counts = new Float64Array(Math.floor(arrivals.at(-1)! / stepSeconds));
  const count = (seconds: number) => {
    const index = Math.floor(seconds / stepSeconds);
    if (index < counts.length) counts[index]! += 1;
  };
  for (const at of arrivals) {
    let left = copies;
    if (left >= 1) count(at);
    for (left -= 1; left > 0; left -= 1)
      if (left >= 1 || random.unit() < left) count(at + jitterSeconds * random.unit());
    if (copies < 1 && random.unit() < copies) count(at);
  }
  return counts;
}

/** A Monday at midnight [Unix s]. */
const startSeconds = 1_767_571_200;

function walk(
  counts: Float64Array,
  { trace, horizonSeconds, quantile }: Pick<TraceForecasts, 'trace' | 'horizonSeconds' | 'quantile'>,
): TraceForecasts {
  const forecasters = forecasterNames.map(
    (method) => new DemandForecaster({ method, quantile, horizonSeconds, intervalSeconds: stepSeconds }),
  );
  const losses = forecasterNames.map(() => 0);
  const covered = forecasterNames.map(() => 0);
  const ahead = Math.floor(horizonSeconds / stepSeconds);
  let steps = 0;
  for (let now = windowIntervals; now + ahead <= counts.length; now += 6) {
    const intervals: DemandInterval[] = [];
    for (let i = now - windowIntervals; i < now; i += 1) {
      const arrivals = counts[i]!;
      const endSeconds = startSeconds + (i + 1) * stepSeconds;
      intervals.push({ endSeconds, state: 'known', arrivals, completions: arrivals, rps: arrivals / stepSeconds });
    }
    const nowMs = (startSeconds + now * stepSeconds) * 1000;
    const isScored = now >= warmShare * counts.length;
    const actual = largestMinuteMean(counts, now, now + ahead);
    if (isScored) steps += 1;
    forecasters.forEach((forecaster, i) => {
      forecaster.observe({ intervals }, nowMs);
      const { rps } = forecaster.forecast({ nowMs, horizonSeconds });
      if (!isScored) return;
      losses[i]! += pinballLoss({ forecast: rps, actual, quantile });
      if (actual <= rps) covered[i]! += 1;
    });
  }
  const meanRps = counts.reduce((sum, each) => sum + each, 0) / (counts.length * stepSeconds);
  const each = forecasterNames.map((name, i) => [name, { loss: losses[i]! / steps, covered: covered[i]! / steps }]);
  return { trace, meanRps, horizonSeconds, quantile, steps, losses: Object.fromEntries(each) };
}

function largestMinuteMean(counts: Float64Array, from: number, to: number): number {
  let largest = 0;
  for (let end = from + 6; end <= to; end += 1) {
    let sum = 0;
    for (let i = end - 6; i < end; i += 1) sum += counts[i]!;
    largest = Math.max(largest, sum / 60);
  }
  return largest;
}

export function describeForecasts({ results, microseconds }: ForecastBenchmark): string {
  if (results.length === 0) return `no traces in ${folder}: nothing to compare`;
  const rows = results.map(({ trace, meanRps, horizonSeconds, quantile, steps, losses }) => {
    const ofLast = losses['last-value'].loss;
    const singles = forecasterNames.filter((name) => name !== 'auto').map((name) => losses[name].loss);
    return [
      trace,
      brief(meanRps),
      String(horizonSeconds),
      String(quantile),
      String(steps),
      ...forecasterNames.map((name) => (losses[name].loss / ofLast).toFixed(3)),
      (losses.auto.loss / Math.min(...singles)).toFixed(3),
      losses['last-value'].covered.toFixed(3),
      losses.auto.covered.toFixed(3),
    ];
  });
  const header = [
    'trace',
    'mean rps',
    'horizon s',
    'quantile',
    'steps',
    ...forecasterNames,
    'auto / best single',
    'last covered',
    'auto covered',
  ];
  const toBest = results.map(({ losses }) => {
    const singles = forecasterNames.filter((name) => name !== 'auto').map((name) => losses[name].loss);
    return losses.auto.loss / Math.min(...singles);
  });
  const toLast = results.map(({ losses }) => losses.auto.loss / losses['last-value'].loss);
  const within = toBest.filter((ratio) => ratio <= 1.05).length;
  const notWorse = toLast.filter((ratio) => ratio <= 1.02).length;
  return `${table(header, rows)}

Losses are shares of that of last-value. auto is within 5 % of the best single forecaster in ${within} of ${results.length} rows (at worst ${Math.max(...toBest).toFixed(3)}), and at most 2 % worse than last-value in ${notWorse} (at worst ${Math.max(...toLast).toFixed(3)}).
A minute of one model and one forecaster takes ${brief(microseconds)} µs on average.`;
}
