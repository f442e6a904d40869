import { type EngineLatency, engineLatencies } from '../core/ports.js';
import { type GpuProfile, type ProfileMatrix, throughputSchema } from '../core/profile.js';
import { bucketWork, compileWork, type WorkTable } from '../core/work.js';
import type { EngineObservation } from './engine-window.js';

/**
 * How much slower an engine is than its profile says, as far as its latencies at its load can tell, and by which factor
 * plans may correct the profile.
 *
 * A profile tells one point of a curve: at its throughput T the mean latency is L. Engines run below T nearly always,
 * where latencies are lower by an amount that no profile tells. What can be said all the same follows from two premises:
 *
 * - Drift is slowness: an engine that takes k times as long for every step is the profiled engine on a clock that runs
 *   k times as slowly. At the load u = rate / T its latency is k · L(k·u), where L(1) = L.
 * - More load never shortens a latency. It lengthens time per output token by a bounded power, L(x) ~ x^p with p <= 4;
 *   what waits in a queue it may lengthen without bound.
 *
 * With r = observed latency / L this gives k = r^(1−θ) · u^−θ, where θ = p/(1+p): between r (p = 0) and the same for the
 * largest p, which is 1/u where nothing bounds it. A healthy engine's interval always contains 1, and at the load k·u = 1, where a
 * corrected plan puts the engine, both ends meet in k. See docs/decisions/profile-drift.md.
 *
 * Worked line: load 0.8, mean TPOT 40 % above the profile's: k is between 1.4 and 1.4^(1/5) · 0.8^(−4/5) = 1.28.
 */

/**
 * How steeply a mean latency may grow with load at most, as a power of it. Requests that wait for their first token wait
 * ever longer where more arrive than are served. Decoding has a largest batch: the simulated engine reaches 3.7 between
 * the loads at which its queue begins and at which it has no end; where profiles usually lie, 1 to 2.
 */
const largestElasticity = { ttft: Number.POSITIVE_INFINITY, tpot: 4, e2e: Number.POSITIVE_INFINITY } satisfies Record<
  EngineLatency,
  number
>;

/** Ends are moved apart by this: what means of a hundred requests, and of lengths between grid points, are good for. */
const measuringTolerance = 0.03;

/** An interval that is this wide still says something where it contains 1: nothing deviates by more. */
const widestInformative = 2;

/** How fast an estimate follows what its bounds say [s]: several windows of observation. */
const estimateSeconds = 120;

/** How long an estimate without new evidence is still reported, and may still raise a throughput [s]. */
export const evidenceSeconds = 900;

/** What a profile says of requests of given lengths. */
export type ProfileExpectation = {
  /** Share of a replica that one request/s takes [replica·seconds]; null = not servable, or beyond the grid. */
  work(inputTokens: number, outputTokens: number): number | null;
  /** Mean latency at the profile's throughput [s]; null = not told. */
  latency(name: EngineLatency, inputTokens: number, outputTokens: number): number | null;
};

/** Prepares a profile's own numbers, uncorrected. Latencies are interpolated as works are. */
export function expectationOf(profile: GpuProfile): ProfileExpectation {
  const work = compileWork(profile.grid, null);
  const tables = Object.fromEntries(engineLatencies.map((name) => [name, latencyTable(profile, profile[name])]));
  const read = (table: WorkTable | null | undefined, inputTokens: number, outputTokens: number): number | null => {
    if (table === null || table === undefined) return null;
    const [input, output] = [onAxis(table.inputs, inputTokens), onAxis(table.outputs, outputTokens)];
    if (input === null || output === null) return null;
    const { work: value, servable } = bucketWork(table, input, output);
    return servable && value > 0 ? value : null;
  };
  return {
    work: (inputTokens, outputTokens) => read(work, inputTokens, outputTokens),
    latency: (name, inputTokens, outputTokens) => read(tables[name], inputTokens, outputTokens),
  };
}

/** Means of requests that all have the length of an axis' end lie beside it, by those that are under way. */
const besideAxis = 1.05;

/** A mean length within an axis; null beyond its ends, where the profile knows nothing. */
function onAxis(axis: Float64Array, tokens: number): number | null {
  const [first, last] = [axis[0]!, axis.at(-1)!];
  return tokens >= first / besideAxis && tokens <= last * besideAxis ? Math.min(Math.max(tokens, first), last) : null;
}

/** A matrix of latencies as a table that is read as works are: only of cells that serve anything. */
function latencyTable({ grid }: GpuProfile, matrix: ProfileMatrix | undefined): WorkTable | null {
  const rates = matrix?.map((row, r) =>
    row.map((seconds, c) => (seconds !== null && seconds > 0 && (grid.tputs[r]?.[c] ?? 0) > 0 ? 1 / seconds : null)),
  );
  if (rates === undefined || rates.every((row) => row.every((cell) => cell === null))) return null;
  return compileWork({ indexes: grid.indexes, tputs: rates }, null);
}

/** Between which values the slowness lies; low <= high. */
export type SlownessBounds = { readonly low: number; readonly high: number };

/**
 * What one latency says of the slowness.
 *
 * @param options.loadRatio observed rate / the profile's throughput, > 0
 * @param options.latencyRatio observed latency / the profile's, > 0
 */
export function slownessBounds(
  name: EngineLatency,
  options: { readonly loadRatio: number; readonly latencyRatio: number },
): SlownessBounds {
  const { loadRatio, latencyRatio } = options;
  const flat = 1 / (1 + largestElasticity[name]);
  const steepest = latencyRatio ** flat * loadRatio ** (flat - 1);
  return {
    low: Math.min(latencyRatio, steepest) / (1 + measuringTolerance),
    high: Math.max(latencyRatio, steepest) * (1 + measuringTolerance),
  };
}

/** One latency, beside what the profile says of it. */
export type LatencyComparison = SlownessBounds & {
  readonly latency: EngineLatency;
  readonly observedSeconds: number;
  readonly profileSeconds: number;
};

/** An observation beside the profile. */
export type DriftReading = {
  /** Load of a replica: 1 = the throughput of the profile. Null where the profile does not tell it. */
  readonly loadRatio: number | null;
  /** Of the latencies that both tell. */
  readonly comparisons: readonly LatencyComparison[];
  /** Why nothing can be compared; null = something is. */
  readonly nothingBecause: string | null;
};

/** Compares what engines did with what their profile says of requests of that mean length at that rate. */
export function compareWithProfile(observed: EngineObservation, expected: ProfileExpectation): DriftReading {
  const { meanInputTokens, meanOutputTokens, requestsPerSecond } = observed;
  const lengths = `${Math.round(meanInputTokens)} input and ${Math.round(meanOutputTokens)} output tokens`;
  const work = expected.work(meanInputTokens, meanOutputTokens);
  if (work === null) {
    const nothingBecause = `its requests have ${lengths} on average, which the profile's grid does not serve`;
    return { loadRatio: null, comparisons: [], nothingBecause };
  }
  const loadRatio = requestsPerSecond * work;
  const comparisons = engineLatencies.flatMap((latency): readonly LatencyComparison[] => {
    const observedSeconds = observed.latencies[latency];
    const profileSeconds = expected.latency(latency, meanInputTokens, meanOutputTokens);
    if (observedSeconds === null || !(observedSeconds > 0) || profileSeconds === null || !(loadRatio > 0)) return [];
    const bounds = slownessBounds(latency, { loadRatio, latencyRatio: observedSeconds / profileSeconds });
    return [{ latency, observedSeconds, profileSeconds, ...bounds }];
  });
  const nothingBecause =
    comparisons.length > 0 ? null : `the profile holds no latency of ${lengths} that its engines tell`;
  return { loadRatio, comparisons, nothingBecause };
}

/** What is believed of the slowness, from all that was seen so far. */
export type SlownessEstimate = {
  /** Times as slow as the profile: 1.3 = steps take 1.3 times as long. */
  readonly slowness: number;
  /** Unix milliseconds: when bounds last said something about it. */
  readonly evidenceAtMs: number;
};

/**
 * The estimate after another look: it stays where the bounds admit it, and else goes towards the nearest that they admit.
 * It begins at 1, so what deviates is a deviation that was proven.
 *
 * @param before null = nothing was ever said
 * @param options.elapsedSeconds since the last look, over which it may move
 */
export function followBounds(
  before: SlownessEstimate | null,
  { low, high }: SlownessBounds,
  { nowMs, elapsedSeconds }: { readonly nowMs: number; readonly elapsedSeconds: number },
): SlownessEstimate | null {
  const slowness = before?.slowness ?? 1;
  const admitted = Math.min(Math.max(slowness, low), high);
  if (admitted === slowness && high / low > widestInformative) return before;
  const share = 1 - Math.exp(-Math.max(0, elapsedSeconds) / estimateSeconds);
  return { slowness: slowness * (admitted / slowness) ** share, evidenceAtMs: nowMs };
}

/** Whether an estimate rests on evidence that is recent enough to be told. */
export function isRecent(estimate: SlownessEstimate, nowMs: number): boolean {
  return nowMs - estimate.evidenceAtMs <= evidenceSeconds * 1000;
}

/** Bounds of the factor on a profile's throughputs, as configured. */
export type CorrectionLimits = {
  readonly minFactor: number;
  readonly maxFactor: number;
  /** 0.05 = by a twentieth within a minute at most. */
  readonly maxStepPerMinute: number;
};

/**
 * The factor on the profile's throughputs after another look.
 *
 * It goes towards 1 / slowness, where of several latencies the slowest counts: no objective may be missed. A factor above
 * 1 takes replicas away and needs recent evidence, without which it returns to 1. One below 1 stays until evidence says
 * otherwise: losing the engines' metrics scales nothing down.
 *
 * @param factor the one before; 1 = the profile's own numbers
 */
export function nextFactor(
  factor: number,
  options: {
    readonly estimates: readonly SlownessEstimate[];
    readonly nowMs: number;
    readonly elapsedSeconds: number;
    readonly limits: CorrectionLimits;
  },
): number {
  const { estimates, nowMs, elapsedSeconds, limits } = options;
  const { minFactor, maxFactor, maxStepPerMinute } = limits;
  const clamp = (value: number) => Math.min(Math.max(value, minFactor), maxFactor);
  const isEvident = estimates.some((estimate) => isRecent(estimate, nowMs));
  const counted = estimates.filter((estimate) => estimate.slowness > 1 || isRecent(estimate, nowMs));
  const target = isEvident
    ? clamp(1 / Math.max(...counted.map(({ slowness }) => slowness)))
    : Math.min(clamp(factor), 1);
  const furthest = (1 + maxStepPerMinute) ** (Math.max(0, elapsedSeconds) / 60);
  return Math.min(Math.max(target, clamp(factor) / furthest), clamp(factor) * furthest);
}

/** A profile whose throughputs are multiplied by a factor, where that leaves them throughputs; it is otherwise its own. */
export function scaledProfile(profile: GpuProfile, factor: number): GpuProfile {
  const scaled = (tput: number | null): number | null =>
    tput !== null && throughputSchema.safeParse(tput * factor).success ? tput * factor : tput;
  return { ...profile, grid: { ...profile.grid, tputs: profile.grid.tputs.map((row) => row.map(scaled)) } };
}
