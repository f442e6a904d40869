import { type SloLimits, type SloPercentile, ttftLimitSeconds } from '../../src/profiling/attainment.js';
import { type ReplicaLimits, SimulatedReplica } from '../../src/simulation/replica.js';
import type { RunCell } from '../../src/simulation/steady-load.js';
import type { StepTimes } from '../../src/simulation/step-time.js';
import { seededRandom } from '../support/seeded-random.js';

/** Times of requests under Poisson arrivals, without the warm-up and the drain. */
export function observe(options: {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
  readonly cell: RunCell;
  readonly requestsPerSecond: number;
  readonly requests: number;
}) {
  const { stepTimes, limits, cell, requestsPerSecond, requests } = options;
  const replica = new SimulatedReplica({ stepTimes, limits });
  const random = seededRandom(7);
  const arrivals = new Float64Array(requests);
  const first = new Float64Array(requests);
  const end = new Float64Array(requests);
  const listen = (kind: string, id: number, atMs: number, outputTokens: number): void => {
    if (kind === 'token' && outputTokens === 1) first[id] = atMs;
    if (kind === 'finished') end[id] = atMs;
  };
  let atMs = 0;
  for (let id = 0; id < requests; id++) {
    atMs -= (Math.log(1 - random.between(0, 1)) / requestsPerSecond) * 1000;
    arrivals[id] = atMs;
    replica.advanceEach(atMs, listen);
    replica.submit({ id, ...cell }, atMs);
  }
  replica.advanceEach(Number.POSITIVE_INFINITY, listen);
  const counted = Array.from({ length: requests }, (_, id) => id).slice(requests * 0.2, requests * 0.9);
  const [from, until] = [arrivals[counted[0]!]!, arrivals[counted.at(-1)!]!];
  const completed = end.filter((atMs) => atMs >= from && atMs < until).length;
  return {
    ttft: counted.map((id) => (first[id]! - arrivals[id]!) / 1000),
    tpot: counted.map((id) => (end[id]! - first[id]!) / (cell.outputTokens - 1) / 1000),
    e2e: counted.map((id) => (end[id]! - arrivals[id]!) / 1000),
    keepsUp: completed > 0.95 * counted.length,
  };
}

export function valueAt(percentile: SloPercentile, values: readonly number[]): number {
  if (percentile === 0) return values.reduce((sum, value) => sum + value, 0) / values.length;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil((percentile / 100) * sorted.length) - 1]!;
}

/** The highest rate at which the simulated replica meets the SLO, by bisection. */
export function simulatedRate(options: {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
  readonly cell: RunCell;
  readonly slo: SloLimits;
  readonly percentile: SloPercentile;
  readonly around: number;
  readonly requests: number;
  /** The interval of three times `around` is halved so often. */
  readonly halvings?: number;
}): number {
  const { slo, percentile, halvings = 8 } = options;
  const meets = (requestsPerSecond: number): boolean => {
    const seen = observe({ ...options, requestsPerSecond });
    return (
      seen.keepsUp &&
      valueAt(percentile, seen.ttft) <= (ttftLimitSeconds(slo, options.cell.inputTokens) ?? Number.POSITIVE_INFINITY) &&
      valueAt(percentile, seen.tpot) <= (slo.tpotSeconds ?? Number.POSITIVE_INFINITY) &&
      valueAt(percentile, seen.e2e) <= (slo.e2eSeconds ?? Number.POSITIVE_INFINITY)
    );
  };
  let low = 0;
  let high = 3 * options.around;
  for (let i = 0; i < halvings; i++) {
    const middle = (low + high) / 2;
    if (meets(middle)) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
