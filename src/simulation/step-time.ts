import type { CataloguedGpu } from '../core/gpu-types.js';
import type { CataloguedModel, WeightPrecision } from '../core/model-types.js';

/** One replica of a model: what the step times depend on. */
export type ReplicaSpec = {
  readonly gpu: CataloguedGpu;
  readonly model: CataloguedModel;
  /** Tensor parallelism: GPUs of one machine that share every layer. */
  readonly gpusPerReplica: number;
  readonly weightPrecision: WeightPrecision;
  /** Of the keys and values in the cache; bf16 by default. */
  readonly kvPrecision?: 'bf16' | 'fp8';
};

/** The work of one step of the engine: chunks of prompts and one token of every decoding sequence, together. */
export type Step = {
  /** Prompt tokens computed in this step, over all sequences. */
  readonly prefillTokens: number;
  /** Sum over those chunks of tokens × mean number of tokens that each attends to [tokens²]. */
  readonly prefillAttention: number;
  readonly decodeSequences: number;
  /** Sum over the decoding sequences of the tokens in their cache. */
  readonly decodeContextTokens: number;
};

/** How long steps of a replica take, and how much cache it has. */
export type StepTimes = {
  /** Tokens whose keys and values fit beside the weights, over all GPUs of the replica. */
  readonly kvCacheTokens: number;
  /** Duration of one step [ms]; > 0 for every step with work. */
  stepMs(step: Step): number;
};

/**
 * Step times of a replica out of the catalogue.
 *
 * @throws InputError where the weights do not fit, or the catalogue lacks a figure that the model needs
 */
export function stepTimesOf(spec: ReplicaSpec): StepTimes {
  throw new Error(`no step times yet for ${spec.gpu.name}`);
}
