import { mostSequences, type RunCell, type RunOptions, type SteadyLoad, steadyLoad } from './closed-loop.js';
import type { ReplicaLimits } from './replica.js';
import type { StepTimes } from './step-time.js';

/**
 * The highest rate of Poisson arrivals at which a replica meets an SLO at a percentile, without events.
 *
 * The steady state gives the means. Percentiles are means plus a margin, each from what makes that latency vary:
 * - TTFT: prompts that came just before (a queue with equal service, M/D/1, whose tail is exponential), and the rest of
 *   the step in progress.
 * - TPOT: how many sequences decode beside, and how many prompts come in between. Both are counts of arrivals, which
 *   vary with the square root of their mean; the more a step slows down with its sequences, the more of them gather.
 * - E2E: both.
 * Tested against the simulated replica (test/simulation/poisson-rate.test.ts).
 */

/** Limits on latency [s]; absent = no limit. */
export type LatencySlo = {
  readonly ttftSeconds?: number | undefined;
  readonly tpotSeconds?: number | undefined;
  readonly e2eSeconds?: number | undefined;
};

/** Percentiles at which an SLO can be stated; 0 = the mean. */
export const sloPercentiles = [0, 50, 90, 95, 99] as const;
export type SloPercentile = (typeof sloPercentiles)[number];

/** Mean latencies under Poisson arrivals, and those at the percentile asked for [ms]. */
export type PoissonLatencies = {
  readonly requestsPerSecond: number;
  readonly mean: { readonly ttftMs: number; readonly tpotMs: number; readonly e2eMs: number };
  readonly atPercentile: { readonly ttftMs: number; readonly tpotMs: number; readonly e2eMs: number };
  /** Sequences in the engine: their mean, and the most at the percentile. */
  readonly sequences: number;
  readonly sequencesAtPercentile: number;
};

/** How far the percentile of a normal variable is from its mean, in standard deviations. */
const deviations: Readonly<Record<SloPercentile, number>> = { 0: 0, 50: 0, 90: 1.2816, 95: 1.6449, 99: 2.3263 };

/**
 * Latencies of a cell while `batch` sequences decode on average.
 *
 * @returns null where prompts cannot come in fast enough, or queue up without end
 */
function latenciesAt(options: RunOptions, batch: number, percentile: SloPercentile): PoissonLatencies | null {
  const load = steadyLoad(options, batch);
  if (load === null) return null;
  const { cell, limits } = options;
  const decodes = cell.outputTokens - 1;
  const rate = load.requestsPerMs;
  const z = deviations[percentile];

  // What one more prompt adds to the steps, each of which is paid for anyway unless prompts fill it.
  const promptStepsFilled = cell.inputTokens / Math.max(1, limits.maxBatchedTokens - batch);
  const addedMs = load.chunks * Math.max(0, load.mixedStepMs - load.decodeStepMs);
  const serviceMs = addedMs + load.decodeStepMs * Math.min(1, promptStepsFilled);
  const use = rate * serviceMs;
  if (use >= 1) return null;
  const queue = promptQueue({ use, serviceMs, percentile });
  const stepMs = load.tpotMs > 0 ? load.tpotMs : load.mixedStepMs;
  // Others that come during the same step are computed together with this prompt, and end with it.
  const companionsMs = Math.min(1, rate * stepMs) * addedMs * Math.max(0, 1 - promptStepsFilled);
  const ownMs = load.promptMs + companionsMs;
  const meanTtft = ownMs + queue.meanMs + stepMs / 2;
  const excessTtft = queue.excessMs + (percentile === 0 ? 0 : (percentile / 100 - 0.5) * stepMs);

  // Sequences gather where a step slows down with them: variance n / (1 − g), g the elasticity of the step time.
  const more = steadyLoad(options, batch * 1.02 + 0.01);
  const slope = more === null ? 0 : Math.max(0, (more.tpotMs - load.tpotMs) / (0.02 * batch + 0.01));
  const elasticity = Math.min(0.95, load.tpotMs > 0 ? (slope * batch) / load.tpotMs : 0);
  const arrivalsBeside = Math.max(0, rate * decodes * load.tpotMs);
  const perPrompt = decodes > 0 ? addedMs / decodes : 0;
  const own = Math.max(0, slope - perPrompt);
  const spread = Math.sqrt(
    arrivalsBeside *
      ((own * own * (2 / 3)) / (1 - elasticity) +
        perPrompt * perPrompt +
        (own * perPrompt) / Math.sqrt(1 - elasticity)),
  );
  const excessTpot = z * spread;

  const mean = { ttftMs: meanTtft, tpotMs: load.tpotMs, e2eMs: meanTtft + decodes * load.tpotMs };
  const sequences = rate * mean.e2eMs;
  const sequenceSpread = Math.sqrt(sequences / (1 - elasticity));
  return {
    requestsPerSecond: 1000 * rate,
    mean,
    atPercentile: {
      ttftMs: meanTtft + excessTtft,
      tpotMs: load.tpotMs + excessTpot,
      e2eMs: mean.e2eMs + Math.hypot(excessTtft, decodes * excessTpot),
    },
    sequences,
    sequencesAtPercentile: sequences + Math.max(1, z) * sequenceSpread,
  };
}

/**
 * Waiting for prompts that came before: mean, and what the percentile adds to it [ms].
 *
 * M/D/1: the mean is use × service / (2 (1 − use)); the tail falls as use × e^(−θt) with λ (e^(θ service) − 1) = θ.
 */
function promptQueue({
  use,
  serviceMs,
  percentile,
}: {
  readonly use: number;
  readonly serviceMs: number;
  readonly percentile: SloPercentile;
}): { readonly meanMs: number; readonly excessMs: number } {
  const meanMs = (use * serviceMs) / (2 * (1 - use));
  const beyond = 1 - percentile / 100;
  if (percentile === 0 || use <= beyond) return { meanMs, excessMs: percentile === 0 ? 0 : -meanMs };
  // In units of the service time: use × (e^x − 1) = x, whose positive root lies below 2 (1/use − 1) + 2 ln(1/use).
  let low = 0;
  let high = 2 * (1 / use - 1) + 2 * Math.log(1 / use) + 1e-9;
  for (let i = 0; i < 60; i++) {
    const x = (low + high) / 2;
    if (use * Math.expm1(x) > x) high = x;
    else low = x;
  }
  return { meanMs, excessMs: (serviceMs * Math.log(use / beyond)) / ((low + high) / 2) - meanMs };
}

export type PoissonRateOptions = {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
  readonly cell: RunCell;
  readonly slo: LatencySlo;
  readonly percentile: SloPercentile;
};

/** The highest rate that meets the SLO; `requestsPerSecond` 0 = none does, and the latencies are those of a request alone. */
export function poissonRate(options: PoissonRateOptions): PoissonLatencies | null {
  const most = mostSequences(options);
  if (most === 0) return null;
  const { percentile } = options;
  const alone = aloneIn(options);
  const meets = (latencies: PoissonLatencies | null): boolean =>
    latencies !== null && isWithin(latencies, options, most);
  if (!meets(alone)) return { ...alone, requestsPerSecond: 0 };
  let low = 0;
  let high = most;
  let best: PoissonLatencies = alone;
  for (let i = 0; i < 40 && high - low > 1e-4 * high; i++) {
    const middle = (low + high) / 2;
    const latencies = latenciesAt(options, middle, percentile);
    if (latencies !== null && meets(latencies)) {
      low = middle;
      if (latencies.requestsPerSecond >= best.requestsPerSecond) best = latencies;
    } else high = middle;
  }
  return best.requestsPerSecond > 0 ? best : { ...alone, requestsPerSecond: 0 };
}

/** One request in an empty engine. */
function aloneIn(options: RunOptions): PoissonLatencies {
  const load: SteadyLoad = steadyLoad(options, 1, 0)!;
  const decodeMs = (options.cell.outputTokens - 1) * load.tpotMs;
  const latencies = { ttftMs: load.promptMs, tpotMs: load.tpotMs, e2eMs: load.promptMs + decodeMs };
  return { requestsPerSecond: 0, mean: latencies, atPercentile: latencies, sequences: 0, sequencesAtPercentile: 0 };
}

function isWithin(latencies: PoissonLatencies, { slo }: PoissonRateOptions, most: number): boolean {
  const { ttftMs, tpotMs, e2eMs } = latencies.atPercentile;
  const limit = (seconds: number | undefined): number => (seconds === undefined ? Infinity : 1000 * seconds);
  if (ttftMs > limit(slo.ttftSeconds) || tpotMs > limit(slo.tpotSeconds) || e2eMs > limit(slo.e2eSeconds)) return false;
  // Waiting for a place among the sequences is no part of the latencies above: where it counts, places must suffice.
  const waits = slo.ttftSeconds !== undefined || slo.e2eSeconds !== undefined;
  return (waits ? latencies.sequencesAtPercentile : latencies.sequences) <= most;
}
