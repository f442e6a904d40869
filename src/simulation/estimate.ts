import type { GpuProfile, ProfileMatrix } from '../core/profile.js';
import { type SloLimits, type SloPercentile, ttftPerInputTokenName } from '../profiling/attainment.js';
import { doubling } from '../profiling/sweep.js';
import { calibratedStepTimes, calibrationFor, errorBarsFor, type StepCalibration } from './estimate-calibration.js';
import { type PoissonLatencies, poissonRate } from './poisson-rate.js';
import type { ReplicaLimits } from './replica.js';
import { kvCacheTokensOf, type ReplicaSpec } from './step-time.js';

/**
 * A profile without a benchmark: the catalogue's figures of the GPU and the shape of the model give step times, factors
 * fitted on published measurements correct them, and queueing under Poisson arrivals gives the highest rate within the
 * SLO, cell by cell. `docs/profiles.md` says how far to trust it.
 */

/** Token counts of the cells, each ascending. */
export type EstimateGrid = { readonly inputTokens: readonly number[]; readonly outputTokens: readonly number[] };

/** Up to 32k input and 4k output tokens. Prompts of 64 tokens and less cost the same step. */
export const defaultEstimateGrid: EstimateGrid = {
  inputTokens: doubling(64, 32_768),
  outputTokens: doubling(16, 4_096),
};

/** vLLM's usual limits for online serving. */
export const defaultEstimateLimits = { maxSequences: 256, maxBatchedTokens: 8192 } as const;

export type EstimateOptions = {
  readonly spec: ReplicaSpec;
  readonly slo: SloLimits;
  readonly percentile: SloPercentile;
  readonly grid?: EstimateGrid;
  /** Longest request is the model's context where it is not given. */
  readonly limits?: Partial<ReplicaLimits>;
  readonly calibration?: StepCalibration;
  /** Names of the profile: of the deployment (without namespace), and of the model as its server names it. */
  readonly deployment: string;
  readonly modelName: string;
  readonly usdPerReplicaHour: number | null;
  /** When it is made [Unix seconds], and by which version of gpumix. */
  readonly createdSeconds: number;
  readonly version: string;
};

export type Estimate = {
  readonly profile: GpuProfile;
  /** Tokens that the KV cache of one replica holds; where layers have windows, in sequences of 4,096 tokens. */
  readonly kvCacheTokens: number;
  /** How many of the cells have a rate at all that meets the SLO. */
  readonly cellsThatMeet: number;
  readonly cells: number;
  /** Predicted / measured rate of published runs, and of which. */
  readonly errorBars: { readonly p10: number; readonly p90: number; readonly basis: string };
};

/**
 * Estimates the profile of one replica.
 *
 * A cell beyond the context of the model, or of which the KV cache cannot hold one request, has rate 0, as one that
 * cannot meet the SLO. Latencies are the means at the rate of the cell; where that is 0, of a request alone.
 *
 * @throws InputError where the weights do not fit, or the catalogue lacks a figure
 */
export function estimateProfile(options: EstimateOptions): Estimate {
  const { spec, slo, percentile } = options;
  const limits: ReplicaLimits = { ...defaultEstimateLimits, maxTokens: spec.model.maxTokens, ...options.limits };
  const stepTimes = calibratedStepTimes(spec, options.calibration ?? calibrationFor(spec.gpu));
  const grid = within(options.grid ?? defaultEstimateGrid, limits.maxTokens);
  const cells = grid.outputTokens.map((outputTokens) =>
    grid.inputTokens.map((inputTokens) =>
      poissonRate({
        // Half of its answer is what a sequence has on average: a window leaves out the more, the longer it is.
        stepTimes: { ...stepTimes, kvCacheTokens: kvCacheTokensOf(spec, inputTokens + outputTokens / 2) },
        requestMs: stepTimes.requestMs,
        limits,
        cell: { inputTokens, outputTokens },
        slo,
        percentile,
      }),
    ),
  );
  const matrix = (value: (cell: PoissonLatencies) => number): ProfileMatrix =>
    cells.map((row) => row.map((cell) => (cell === null ? null : significant(value(cell)))));
  const tputs = cells.map((row) => row.map((cell) => significant(cell?.requestsPerSecond ?? 0)));
  const errorBars = errorBarsFor(spec.gpu);
  const profile: GpuProfile = {
    gpu: options.deployment,
    cost: options.usdPerReplicaHour,
    grid: { indexes: [grid.outputTokens, grid.inputTokens], tputs, method: 'estimated' },
    created: options.createdSeconds,
    slos: stated({
      percentile,
      ttft: slo.ttftSeconds,
      tpot: slo.tpotSeconds,
      e2e: slo.e2eSeconds,
      [ttftPerInputTokenName]: slo.ttftSeconds === null ? null : slo.ttftSecondsPerInputToken || null,
    }),
    model: options.modelName,
    gpuType: spec.gpu.name,
    gpusPerReplica: spec.gpusPerReplica,
    e2e: matrix(({ mean }) => mean.e2eMs / 1000),
    ttft: matrix(({ mean }) => mean.ttftMs / 1000),
    tpot: matrix(({ mean }) => mean.tpotMs / 1000),
    cells: tputs.map((row) => row.map(() => 'estimated')),
    provenance: {
      method: 'estimated',
      by: `gpumix ${options.version}`,
      at: new Date(options.createdSeconds * 1000).toISOString(),
      details: detailsOf(spec, limits, stepTimes.kvCacheTokens, errorBars.basis),
      relativeError: { p10: errorBars.p10, p90: errorBars.p90 },
    },
  };
  const rates = tputs.flat();
  return {
    profile,
    kvCacheTokens: stepTimes.kvCacheTokens,
    cellsThatMeet: rates.filter((rate) => rate > 0).length,
    cells: rates.length,
    errorBars,
  };
}

/** Axes without token counts that exceed the longest request by themselves; each keeps at least its first. */
function within(grid: EstimateGrid, maxTokens: number): EstimateGrid {
  const below = (values: readonly number[]): readonly number[] =>
    values.filter((value, index) => index === 0 || value < maxTokens);
  return { inputTokens: below(grid.inputTokens), outputTokens: below(grid.outputTokens) };
}

/** Four digits: an estimate knows fewer. */
function significant(value: number): number {
  return Number(value.toPrecision(4));
}

function stated(values: Readonly<Record<string, number | null>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(values).flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
}

/** `int4 weights`, or `6.56-bit weights` (GGUF). */
export function describeWeights(spec: Pick<ReplicaSpec, 'weightPrecision' | 'bitsPerWeight'>): string {
  const { weightPrecision, bitsPerWeight = null } = spec;
  return bitsPerWeight === null ? `${weightPrecision} weights` : `${bitsPerWeight}-bit weights`;
}

function detailsOf(spec: ReplicaSpec, limits: ReplicaLimits, kvCacheTokens: number, basis: string): string {
  const { gpu, model, gpusPerReplica, kvPrecision = 'bf16' } = spec;
  return (
    `estimated without a run: ${model.name} (${describeWeights(spec)}, ${kvPrecision} KV cache of ${kvCacheTokens} tokens) ` +
    `on ${gpusPerReplica} x ${gpu.name} from catalogue figures; Poisson arrivals; at most ${limits.maxSequences} sequences ` +
    `and ${limits.maxBatchedTokens} tokens a step, ${limits.maxTokens} tokens a request; error: predicted / measured rate of ${basis}`
  );
}
