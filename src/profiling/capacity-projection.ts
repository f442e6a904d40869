import { type Slo, ttftLimitSeconds } from './attainment.js';
import type { RequestOutcome } from './measurement.js';

/**
 * What one run says of the capacity of its cell, whatever its rate was: where a search goes next.
 *
 * Two things are read off the requests of any run, finished or cut off, warm-up included (while a server fills, its load passes
 * through all values below the last, which is what a line needs):
 *
 * - *The line of the load.* The time per token of a request grows with the number of requests that were in the server beside
 *   it, tpot = a + b·n, fitted by least squares. The SLO is met up to the n at which its quantile reaches the limit, where n
 *   varies by √n as a number of Poisson arrivals does: a + b·(n + z·√n) = limit. By Little's law that load belongs to the rate
 *   n / (TTFT + (output − 1)·tpot(n)).
 * - *The ceiling.* Where requests waited for longer than the limit on TTFT, as many run as ever will: they leave at
 *   running / (output − 1) / tpot per second. The capacity lies below, the more so the fewer run: arrivals vary, and all that
 *   evens them out is what leaves within the limit on TTFT. a + z·√a/2 = running · (1 + limit / stay).
 *
 * The lower of the two is the projection. It rests on nothing but the run, and is a guess: verdicts come from runs.
 */
export type Projection = {
  /** Requests/s. */
  readonly rate: number;
  /** Standard deviation of its natural logarithm, as seen on the simulated replica. */
  readonly logDeviation: number;
};

/** Requests that a line needs, and tokens that a request cut off must have produced to be one of them. */
const fewestPoints = 8;
const fewestTokens = 4;
/** The largest load by the smallest, below which a line has no slope. */
const leastSpread = 1.3;
/** Of the deviation of Poisson arrivals, what a queue in front of equal, long services still sees; and the most it takes. */
const queueDeviation = 0.5;
const fullest = 0.97;
/**
 * How well a projection tells where it was measured, and how much worse beyond, per unit of the logarithm. The fewer requests
 * run at once, the more a single prompt beside them counts, which neither rule knows of: 1 / √n more.
 */
const leastDeviation = 0.03;
const beyondDeviation = 0.1;

/** One-sided quantiles of the standard normal. */
const deviationsOf: Readonly<Record<Slo['percentile'], number>> = { 0: 0, 50: 0, 90: 1.2816, 95: 1.6449, 99: 2.3263 };

/** @returns null where the run says nothing: no streaming, too few requests, a load that never changed */
export function projectCapacity(outcomes: readonly RequestOutcome[], slo: Slo): Projection | null {
  const answered = outcomes.filter(
    ({ firstTokenSeconds, outputTokens, failure }) =>
      firstTokenSeconds !== null && (failure === null || failure === 'cancelled') && outputTokens >= 2,
  );
  const whole = answered.map(({ wantedOutputTokens }) => wantedOutputTokens);
  if (answered.length < fewestPoints) return null;
  const steps = whole.reduce((sum, tokens) => sum + tokens - 1, 0) / whole.length;
  const projections = [
    projectLine(outcomes, answered, { slo, steps }),
    projectCeiling(outcomes, answered, { slo, steps }),
  ];
  return projections.filter((one) => one !== null).toSorted((a, b) => a.rate - b.rate)[0] ?? null;
}

type About = { readonly slo: Slo /** Decoding steps of a request. */; readonly steps: number };

function projectLine(
  outcomes: readonly RequestOutcome[],
  answered: readonly RequestOutcome[],
  { slo, steps }: About,
): Projection | null {
  const ttft = median(answered.map(({ firstTokenSeconds, sentSeconds }) => firstTokenSeconds! - sentSeconds));
  const limits = [
    slo.tpotSeconds ?? Number.POSITIVE_INFINITY,
    slo.e2eSeconds === null ? Number.POSITIVE_INFINITY : (slo.e2eSeconds - ttft) / steps,
  ];
  const limit = Math.min(...limits);
  if (!(limit > 0) || limit === Number.POSITIVE_INFINITY) return null;
  const load = loadOf(outcomes.map(({ sentSeconds, endSeconds }) => [sentSeconds, endSeconds]));
  const points = answered
    .filter(({ outputTokens, failure }) => failure === null || outputTokens >= fewestTokens)
    .map((outcome) => ({ load: load(outcome.firstTokenSeconds!, outcome.endSeconds), tpot: tpotOf(outcome) }));
  const line = fitLine(points);
  if (line === null || line.intercept >= limit) return null;
  // a + b·(n + z·√n) = limit, a quadratic in √n.
  const z = deviationsOf[slo.percentile];
  const root = (-z + Math.sqrt(z * z + (4 * (limit - line.intercept)) / line.slope)) / 2;
  const load90 = root * root;
  const rate = load90 / (ttft + steps * (line.intercept + line.slope * load90));
  if (!(rate > 0)) return null;
  const seen = points.reduce((most, point) => Math.max(most, point.load), 0);
  const beyond = Math.abs(Math.log(load90 / seen));
  return { rate, logDeviation: leastDeviation + 1 / Math.sqrt(load90) + beyondDeviation * beyond };
}

function projectCeiling(
  outcomes: readonly RequestOutcome[],
  answered: readonly RequestOutcome[],
  { slo, steps }: About,
): Projection | null {
  const inputTokens = outcomes.reduce((sum, one) => sum + one.wantedInputTokens, 0) / Math.max(1, outcomes.length);
  const patience = ttftLimitSeconds(slo, inputTokens) ?? slo.e2eSeconds;
  if (patience === null) return null;
  const waited = outcomes.filter(
    ({ firstTokenSeconds, sentSeconds, endSeconds }) => (firstTokenSeconds ?? endSeconds) - sentSeconds > patience,
  );
  if (waited.length < fewestPoints / 2) return null;
  const from = Math.min(...waited.map(({ sentSeconds }) => sentSeconds + patience));
  const to = Math.max(...waited.map(({ firstTokenSeconds, endSeconds }) => firstTokenSeconds ?? endSeconds));
  const running = loadOf(answered.map(({ firstTokenSeconds, endSeconds }) => [firstTokenSeconds!, endSeconds]))(
    from,
    to,
  );
  const recent = answered.filter(({ endSeconds }) => endSeconds > from);
  const tpot = median((recent.length >= fewestPoints ? recent : answered).map(tpotOf));
  const stay = steps * tpot;
  const z = queueDeviation * deviationsOf[slo.percentile];
  const root = (-z + Math.sqrt(z * z + 4 * running * (1 + patience / stay))) / 2;
  const rate = Math.min(root * root, fullest * running) / stay;
  return rate > 0 && Number.isFinite(rate) ? { rate, logDeviation: leastDeviation + 1 / Math.sqrt(running) } : null;
}

function tpotOf({ firstTokenSeconds, endSeconds, outputTokens }: RequestOutcome): number {
  return (endSeconds - firstTokenSeconds!) / (outputTokens - 1);
}

/** The mean number of these intervals that hold a moment, over a stretch of time. */
function loadOf(intervals: readonly (readonly [number, number])[]): (from: number, to: number) => number {
  const changes = intervals
    .flatMap(([begin, end]) => [
      [begin, 1],
      [end, -1],
    ])
    .toSorted((a, b) => a[0]! - b[0]!);
  const times = new Float64Array(changes.length);
  /** Number held after each change, and the integral of that number up to it. */
  const held = new Float64Array(changes.length);
  const integral = new Float64Array(changes.length);
  let count = 0;
  for (const [i, [at, change]] of changes.entries()) {
    times[i] = at!;
    integral[i] = i === 0 ? 0 : integral[i - 1]! + count * (at! - times[i - 1]!);
    count += change!;
    held[i] = count;
  }
  const upTo = (time: number): number => {
    let low = -1;
    let high = times.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle]! <= time) low = middle;
      else high = middle;
    }
    return low < 0 ? 0 : integral[low]! + held[low]! * (time - times[low]!);
  };
  return (from, to) => (to > from ? (upTo(to) - upTo(from)) / (to - from) : 0);
}

function fitLine(
  points: readonly { readonly load: number; readonly tpot: number }[],
): { readonly intercept: number; readonly slope: number } | null {
  if (points.length < fewestPoints) return null;
  const least = points.reduce((low, { load }) => Math.min(low, load), Number.POSITIVE_INFINITY);
  const most = points.reduce((high, { load }) => Math.max(high, load), 0);
  if (!(most > leastSpread * least)) return null;
  const mean = (of: (point: { load: number; tpot: number }) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanLoad, meanTpot] = [mean(({ load }) => load), mean(({ tpot }) => tpot)];
  const covariance = mean(({ load, tpot }) => (load - meanLoad) * (tpot - meanTpot));
  const variance = mean(({ load }) => (load - meanLoad) ** 2);
  const slope = covariance / variance;
  return slope > 0 ? { slope, intercept: meanTpot - slope * meanLoad } : null;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
