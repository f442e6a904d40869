import { type SloLimits, type SloPercentile, ttftLimitSeconds } from '../profiling/attainment.js';
import { mostSequences, type RunOptions, type SteadyLoad, steadyLoad } from './steady-load.js';

/**
 * The highest rate of Poisson arrivals at which a replica meets an SLO at a percentile, without events.
 *
 * The steady state gives the means. Percentiles are means plus a margin, each from what makes that latency vary:
 * - TTFT: prompts that came just before (a queue with equal service, M/D/1), a place among the sequences that run at
 *   once, and the rest of the step in progress.
 * - TPOT: how many sequences decode beside, and how many prompts come in between. Both are counts of arrivals, which
 *   vary with the square root of their mean; the more a step slows down with its sequences, the more of them gather.
 * - E2E: both.
 * Tested against the simulated replica (test/simulation/poisson-rate.test.ts).
 */

/** Mean latencies under Poisson arrivals, and those at the percentile asked for [ms]. */
export type PoissonLatencies = {
  readonly requestsPerSecond: number;
  readonly mean: { readonly ttftMs: number; readonly tpotMs: number; readonly e2eMs: number };
  readonly atPercentile: { readonly ttftMs: number; readonly tpotMs: number; readonly e2eMs: number };
  /** Mean sequences that run. */
  readonly sequences: number;
};

/** How far the percentile of a normal variable is from its mean, in standard deviations. */
const deviations: Readonly<Record<SloPercentile, number>> = { 0: 0, 50: 0, 90: 1.2816, 95: 1.6449, 99: 2.3263 };

/**
 * Latencies of a cell while `batch` sequences decode on average.
 *
 * @returns null where prompts cannot come in fast enough, or queue up without end
 */
function latenciesAt(options: PoissonRateOptions, batch: number, places: number): PoissonLatencies | null {
  const { percentile } = options;
  const load = steadyLoad(options, batch);
  if (load === null) return null;
  const { cell, limits } = options;
  const decodes = cell.outputTokens - 1;
  const rate = load.requestsPerMs;
  const z = deviations[percentile];

  // What one more prompt adds to the steps, each of which is paid for anyway unless prompts fill it.
  const stepsFilled = cell.inputTokens / Math.max(1, limits.maxBatchedTokens - batch);
  const addedMs = Math.max(0, load.mixedStepMs - load.decodeStepMs) / load.promptsPerMixedStep;
  const serviceMs = addedMs + load.decodeStepMs * Math.min(1, stepsFilled);
  const use = rate * serviceMs;
  if (use >= 1) return null;
  const queue = promptQueue({ use, serviceMs, percentile });
  const stepMs = load.tpotMs > 0 ? load.tpotMs : load.mixedStepMs;
  // Others that come during the same step are computed together with this prompt, and end with it.
  const companions = load.promptsPerMixedStep > 1 ? 0 : rate * stepMs * Math.max(0, 1 - stepsFilled);
  const promptMs = load.promptMs + companions * addedMs + queue.meanMs + stepMs / 2;
  const sequences = rate * (promptMs + decodes * load.tpotMs);
  if (sequences >= places) return null;
  const place = placeQueue({ sequences, places, requestsPerMs: rate, percentile });
  const meanTtft = (options.requestMs ?? 0) + promptMs + place.meanMs;
  const excessTtft = queue.excessMs + place.excessMs + (percentile === 0 ? 0 : (percentile / 100 - 0.5) * stepMs);

  // Sequences gather where a step slows down with them: variance n / (1 − g), g the elasticity of the step time.
  const more = steadyLoad(options, batch * 1.02 + 0.01);
  const slope = more === null ? 0 : Math.max(0, (more.tpotMs - load.tpotMs) / (0.02 * batch + 0.01));
  const elasticity = Math.min(0.95, load.tpotMs > 0 ? (slope * batch) / load.tpotMs : 0);
  const excessTpot = decodes > 0 && percentile > 0 ? tpotExcess({ load, decodes, addedMs, slope, elasticity, z }) : 0;

  const mean = { ttftMs: meanTtft, tpotMs: load.tpotMs, e2eMs: meanTtft + decodes * load.tpotMs };
  return {
    requestsPerSecond: 1000 * rate,
    mean,
    atPercentile: {
      ttftMs: meanTtft + excessTtft,
      tpotMs: load.tpotMs + excessTpot,
      e2eMs: mean.e2eMs + Math.hypot(excessTtft, decodes * excessTpot),
    },
    sequences,
  };
}

/**
 * What a percentile adds to the time per token [ms].
 *
 * While a sequence decodes, others arrive: each one's prompt stops it for a while, in which still more arrive, and then
 * decodes beside it. The count of arrivals is a Poisson variable; the number beside, as a mean over the sequence's life,
 * varies with 2/3 of their variance and is correlated with them.
 */
function tpotExcess(of: {
  readonly load: SteadyLoad;
  readonly decodes: number;
  readonly addedMs: number;
  readonly slope: number;
  readonly elasticity: number;
  readonly z: number;
}): number {
  const { load, decodes, addedMs, slope, elasticity, z } = of;
  const arrivals = load.requestsPerMs * decodes * load.tpotMs;
  const stopped = Math.min(0.95, load.requestsPerMs * addedMs);
  const perPrompt = addedMs / decodes / (1 - stopped);
  const perSequence = Math.max(0, slope - addedMs / decodes) / Math.sqrt(1 - elasticity);
  const spread = Math.sqrt(
    arrivals * ((2 / 3) * perSequence * perSequence + perPrompt * perPrompt + perPrompt * perSequence),
  );
  // Few arrivals are skewed: the percentile of a count lies (z² − 1)/6 above that of a normal variable.
  // Arrivals that stop a sequence for others to arrive in are more skewed still (a Borel variable).
  const skew = (Math.max(0, z * z - 1) / 6) * perPrompt * ((1 + 2 * stopped) / (1 - stopped));
  return z * spread + skew;
}

/** Waiting: its mean, and what a percentile adds to it [ms]. */
type Wait = { readonly meanMs: number; readonly excessMs: number };

/**
 * Waiting for prompts that came before: M/D/1.
 *
 * The mean is use × service / (2 (1 − use)). P(wait ≤ t) is (1 − use) e^(use t) for t up to one service time (as the unit
 * of time), and beyond it 1 − c e^(−x t) with use (e^x − 1) = x and c = (1 − use) / (use e^x − 1) (Erlang; Fry).
 */
function promptQueue(of: {
  readonly use: number;
  readonly serviceMs: number;
  readonly percentile: SloPercentile;
}): Wait {
  const { use, serviceMs, percentile } = of;
  const meanMs = (use * serviceMs) / (2 * (1 - use));
  if (percentile === 0) return { meanMs, excessMs: 0 };
  const share = percentile / 100;
  if (use <= 1 - share) return { meanMs, excessMs: -meanMs };
  const early = Math.log(share / (1 - use)) / use;
  if (early <= 1) return { meanMs, excessMs: early * serviceMs - meanMs };
  let low = 0;
  let high = 2 * (1 / use - 1) + 2 * Math.log(1 / use) + 1e-9;
  for (let i = 0; i < 60; i++) {
    const x = (low + high) / 2;
    if (use * Math.expm1(x) > x) high = x;
    else low = x;
  }
  const x = (low + high) / 2;
  const c = (1 - use) / (use * Math.exp(x) - 1);
  return { meanMs, excessMs: Math.max(1, Math.log(c / (1 - share)) / x) * serviceMs - meanMs };
}

/**
 * Waiting for a place among the sequences that the engine runs at once, by its limit or by its cache: M/D/c with
 * Sakasegawa's queue length, and an exponential tail.
 *
 * @param sequences mean sequences in the engine, below `places`
 */
function placeQueue(of: {
  readonly sequences: number;
  readonly places: number;
  readonly requestsPerMs: number;
  readonly percentile: SloPercentile;
}): Wait {
  const { sequences, places, requestsPerMs, percentile } = of;
  const use = sequences / places;
  const power = Math.sqrt(2 * (places + 1));
  const meanMs = (0.5 * use ** power) / (1 - use) / requestsPerMs;
  const mustWait = use ** (power - 1);
  const beyond = 1 - percentile / 100;
  if (percentile === 0) return { meanMs, excessMs: 0 };
  if (mustWait <= beyond) return { meanMs, excessMs: -meanMs };
  return { meanMs, excessMs: (meanMs / mustWait) * Math.log(mustWait / beyond) - meanMs };
}

export type PoissonRateOptions = RunOptions & {
  readonly slo: SloLimits;
  readonly percentile: SloPercentile;
};

/** The highest rate that meets the SLO; `requestsPerSecond` 0 = none does, and the latencies are those of a request alone. */
export function poissonRate(options: PoissonRateOptions): PoissonLatencies | null {
  const most = mostSequences(options);
  if (most === 0) return null;
  const alone = aloneIn(options);
  if (!isWithin(alone, options)) return { ...alone, requestsPerSecond: 0 };
  let low = 0;
  let high = most;
  let best: PoissonLatencies = alone;
  for (let i = 0; i < 40 && high - low > 1e-4 * high; i++) {
    const middle = (low + high) / 2;
    const latencies = latenciesAt(options, middle, most);
    if (latencies !== null && isWithin(latencies, options)) {
      low = middle;
      if (latencies.requestsPerSecond >= best.requestsPerSecond) best = latencies;
    } else high = middle;
  }
  return best.requestsPerSecond > 0 ? withFluctuation(best, options) : { ...alone, requestsPerSecond: 0 };
}

/**
 * The same with a mean time per token over the rates of arrivals that come up, instead of that at their mean: tokens slow
 * down more than proportionally, so that it is longer by the curvature times the variance.
 *
 * The rate over a sequence's life has variance λ / life; arrivals just before it count as well, which about doubles it
 * (as the simulated replica shows). The correction is a first term: it is bounded, and by what the percentile has.
 */
function withFluctuation(steady: PoissonLatencies, options: PoissonRateOptions): PoissonLatencies {
  const decodes = options.cell.outputTokens - 1;
  const { mean, atPercentile } = steady;
  const rate = steady.requestsPerSecond / 1000;
  const batch = rate * decodes * mean.tpotMs;
  const [less, same, more] = [0.9, 1, 1.1].map((factor) => steadyLoad(options, batch * factor));
  if (decodes === 0 || !less || !same || !more) return steady;
  const [rising, before] = [more.requestsPerMs - same.requestsPerMs, same.requestsPerMs - less.requestsPerMs];
  if (!(rising > 0 && before > 0)) return steady;
  const curvature =
    ((more.tpotMs - same.tpotMs) / rising - (same.tpotMs - less.tpotMs) / before) / ((rising + before) / 2);
  const longer = Math.min(mostFluctuation * mean.tpotMs, Math.max(0, (curvature * rate) / (decodes * mean.tpotMs)));
  const tpotMs = Math.min(atPercentile.tpotMs, mean.tpotMs + longer);
  return { ...steady, mean: { ...mean, tpotMs, e2eMs: Math.min(atPercentile.e2eMs, mean.ttftMs + decodes * tpotMs) } };
}

/** Largest share by which fluctuation lengthens the mean time per token. */
const mostFluctuation = 0.4;

/** One request in an empty engine. */
function aloneIn(options: RunOptions): PoissonLatencies {
  const load: SteadyLoad = steadyLoad(options, 1, 1)!;
  const decodeMs = (options.cell.outputTokens - 1) * load.tpotMs;
  const ttftMs = (options.requestMs ?? 0) + load.promptMs;
  const latencies = { ttftMs, tpotMs: load.tpotMs, e2eMs: ttftMs + decodeMs };
  return { requestsPerSecond: 0, mean: latencies, atPercentile: latencies, sequences: 0 };
}

function isWithin({ atPercentile }: PoissonLatencies, { slo, cell }: PoissonRateOptions): boolean {
  const limit = (seconds: number | null): number => (seconds === null ? Infinity : 1000 * seconds);
  return (
    atPercentile.ttftMs <= limit(ttftLimitSeconds(slo, cell.inputTokens)) &&
    atPercentile.tpotMs <= limit(slo.tpotSeconds) &&
    atPercentile.e2eMs <= limit(slo.e2eSeconds)
  );
}
