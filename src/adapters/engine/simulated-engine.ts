import { blockTokens } from '../../core/gpu-memory.js';
import { InputError } from '../../core/input-error.js';
import { SimulatedReplica } from '../../simulation/replica.js';
import { type ReplicaSpec, stepTimesOf } from '../../simulation/step-time.js';
import { type Backend, NullBackend, SimulatedBackend } from './backend.js';
import type { EngineClock } from './clock.js';
import type { ModelLimits } from './requests.js';

/** What an engine of one GPU type and model is made of. */
export type EngineParts = {
  readonly backend: Backend;
  readonly model: ModelLimits;
  /** Null where nothing is simulated. */
  readonly kvCacheTokens: number | null;
  /** For a header: `gpu=L4; gpus=1; model=llama-3.1-8b; precision=bf16`. */
  readonly simulates: string;
};

export type SimulationSettings = ReplicaSpec & {
  /** Most sequences at once (vLLM: max-num-seqs). */
  readonly maxSequences: number;
  /** Most tokens of one step (vLLM: max-num-batched-tokens). */
  readonly maxBatchedTokens: number;
  /** Longest request (vLLM: max-model-len); null = as long as the model and its cache can. */
  readonly maxModelTokens: number | null;
  /** As requests call the model. */
  readonly servedModelName: string;
};

/**
 * A replica of the catalogue, living in the clock's time.
 *
 * @throws InputError for a model that writes nothing, weights that do not fit, and a context that the cache cannot hold
 */
export function simulatedEngine(settings: SimulationSettings, clock: EngineClock): EngineParts {
  const { gpu, model, gpusPerReplica, weightPrecision, bitsPerWeight = null } = settings;
  const { maxSequences, maxBatchedTokens } = settings;
  if (model.task !== 'generate') {
    throw new InputError('--model', [
      { place: '', found: `${model.name}, which makes embeddings`, expected: 'a model that writes tokens' },
    ]);
  }
  const stepTimes = stepTimesOf(settings);
  const cachedTokens = Math.floor(stepTimes.kvCacheTokens / blockTokens) * blockTokens;
  if (cachedTokens < smallestCache) {
    throw new InputError(`${model.name} on ${gpusPerReplica} × ${gpu.name}`, [
      {
        place: '',
        found: `a KV cache of ${cachedTokens} tokens beside the weights`,
        expected: `at least ${smallestCache}: more GPUs, or smaller weights (--precision)`,
      },
    ]);
  }
  const maxModelTokens = settings.maxModelTokens ?? Math.min(model.maxTokens, cachedTokens);
  const most = Math.min(model.maxTokens, cachedTokens);
  if (maxModelTokens > most) {
    const why =
      most < model.maxTokens ? 'the KV cache beside the weights' : `the context that ${model.name} is made for`;
    throw new InputError('--max-model-len', [
      { place: '', found: String(maxModelTokens), expected: `at most ${most}, ${why}` },
    ]);
  }
  const limits = { maxSequences, maxBatchedTokens, maxTokens: maxModelTokens };
  return {
    backend: new SimulatedBackend({ replica: new SimulatedReplica({ stepTimes, limits }), clock }),
    model: { modelName: settings.servedModelName, maxModelTokens },
    kvCacheTokens: stepTimes.kvCacheTokens,
    simulates: `gpu=${gpu.name}; gpus=${gpusPerReplica}; model=${model.name}; precision=${bitsPerWeight === null ? weightPrecision : `${bitsPerWeight} bits`}`,
  };
}

/** Below this no usual request fits, and real engines do not start [tokens]. */
const smallestCache = 1024;

/** No model of time: for measuring clients. */
export function nullEngine(model: ModelLimits): EngineParts {
  return { backend: new NullBackend(), model, kvCacheTokens: null, simulates: 'null' };
}
