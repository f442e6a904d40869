import { InputError, quoteInput } from '../core/input-error.js';
import type { Cell, ScheduledRequest } from './measurement.js';
import { randomFrom } from './random.js';

/**
 * When requests arrive. A schedule is made before a run and never looks at answers: an open loop.
 */

/** Arrivals drawn from a rate. */
export type DrawnArrivals = {
  readonly kind: 'poisson' | 'constant';
  /** Requests per second, > 0. */
  readonly requestRate: number;
  /** Requests, >= 1. */
  readonly count: number;
  readonly seed: number;
  /** One length for all, or a list to draw from, each entry as likely as any other (a longer request log is its own weight). */
  readonly lengths: Cell | readonly Cell[];
};

/**
 * A schedule of `count` requests; the last arrives after exactly count / requestRate seconds (constant: one gap earlier,
 * since the first arrives at 0).
 *
 * Poisson: exponential gaps, scaled so that they add up to that span. This is the Poisson process given the number of its
 * arrivals, so gaps keep their law (each a Beta(1, count − 1) of the span, which is exponential but for terms of 1/count),
 * while a run of a hundred requests does not offer 10 % more or less than the rate it is named after.
 *
 * @throws InputError where rate, count or lengths are none to work with
 */
export function drawArrivals(arrivals: DrawnArrivals): readonly ScheduledRequest[] {
  const { kind, requestRate, count, seed, lengths } = arrivals;
  positive('requestRate', requestRate);
  if (!Number.isInteger(count) || count < 1) reject('count', count, 'a whole number >= 1');
  const cells = Array.isArray(lengths) ? (lengths as readonly Cell[]) : [lengths as Cell];
  if (cells.length === 0) reject('lengths', [], 'at least one pair of lengths');
  // Times and lengths have streams of their own: the same seed gives the same times whatever is drawn beside them.
  const times = kind === 'poisson' ? poissonTimes(requestRate, count, seed) : constantTimes(requestRate, count);
  const choice = randomFrom(seed + 0.5);
  return Array.from(times, (atSeconds, id) => {
    const { inputTokens, outputTokens } = cells.length === 1 ? cells[0]! : cells[choice.whole(cells.length)]!;
    return { id, atSeconds, inputTokens, outputTokens };
  });
}

function poissonTimes(requestRate: number, count: number, seed: number): Float64Array {
  const random = randomFrom(seed);
  const times = new Float64Array(count);
  let sum = 0;
  for (let i = 0; i < count; i++) {
    sum += random.exponential();
    times[i] = sum;
  }
  const scale = count / requestRate / sum;
  return times.map((time) => time * scale);
}

function constantTimes(requestRate: number, count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => i / requestRate);
}

/** One line of a request log. */
export type TracedRequest = Cell & { readonly atMs: number };

/**
 * The arrivals of a request log, its first at 0; with a rate, time is stretched or squeezed until the log has that mean
 * rate, so that its bursts keep their shape.
 *
 * @param options.requests ascending in time
 * @param options.requestRate null: at the log's own rate
 * @throws InputError where the log is empty, not ascending, or all at one time while a rate is asked for
 */
export function scheduleTrace(options: {
  readonly requests: readonly TracedRequest[];
  readonly requestRate: number | null;
}): readonly ScheduledRequest[] {
  const { requests, requestRate } = options;
  const first = requests[0];
  if (first === undefined) throw new InputError('trace', [{ place: '', found: 'no request', expected: 'requests' }]);
  let scale = 1 / 1000;
  if (requestRate !== null) {
    positive('requestRate', requestRate);
    scale *= traceRate(requests) / requestRate;
  }
  let last = first.atMs;
  return requests.map(({ atMs, inputTokens, outputTokens }, id) => {
    if (!(atMs >= last)) reject(`requests[${id}].atMs`, atMs, `at least the ${last} before it`);
    last = atMs;
    return { id, atSeconds: (atMs - first.atMs) * scale, inputTokens, outputTokens };
  });
}

/**
 * Mean arrivals per second of a request log: gaps divided by the time they fill.
 *
 * @throws InputError where all requests are at one time (also: where there is but one)
 */
export function traceRate(requests: readonly TracedRequest[]): number {
  const spanMs = requests.length === 0 ? 0 : requests.at(-1)!.atMs - requests[0]!.atMs;
  if (!(spanMs > 0)) {
    throw new InputError('trace', [
      { place: '', found: 'requests at one time only', expected: 'at least two times, from which a rate follows' },
    ]);
  }
  return ((requests.length - 1) / spanMs) * 1000;
}

function positive(name: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) reject(name, value, 'a number > 0');
}

function reject(place: string, found: unknown, expected: string): never {
  throw new InputError('arrivals', [{ place, found: quoteInput(found), expected }]);
}
