import type { CataloguedGpu } from './gpu-types.js';
import type { CataloguedModel, WeightPrecision } from './model-types.js';

/**
 * What fits into the memory of a replica's GPUs: the weights, what the engine needs for itself, and how many tokens of
 * keys and values remain. The sums are those of an engine like vLLM; they say beforehand what it finds out on start-up.
 */

export type FitQuestion = {
  readonly gpu: CataloguedGpu;
  readonly model: CataloguedModel;
  /** GPUs that share every layer (tensor parallelism). */
  readonly gpusPerReplica: number;
  readonly weightPrecision: WeightPrecision;
  /** Mean bits of all weights alike (GGUF); otherwise those of `weightPrecision`, with embeddings kept at 16 bits. */
  readonly bitsPerWeight?: number | null;
  /** Of keys and values; bf16 by default. */
  readonly kvPrecision?: 'bf16' | 'fp8';
  /** Share of the memory that the engine takes; 0.9 by default, as vLLM's `gpu_memory_utilization`. */
  readonly memoryUtilization?: number;
  /** Most tokens of one step, on which activations depend; 8192 by default, as vLLM's for serving. */
  readonly maxBatchedTokens?: number;
  /** Length of the sequences in the cache, which matters where layers look back over a window only; 4096 by default. */
  readonly sequenceTokens?: number;
};

export type Fit = {
  /** The weights and what the engine needs leave room for at least one block of the cache. */
  readonly fits: boolean;
  /** All weights as they are stored, scales included. */
  readonly weightBytes: number;
  readonly weightBytesPerGpu: number;
  /** Memory of one GPU as its driver reports it, else its nominal size. */
  readonly memoryBytesPerGpu: number;
  /** What weights and cache may take of it: `memoryUtilization` of it, less context, workspaces and activations. */
  readonly usableBytesPerGpu: number;
  /** Keys and values of one token on one GPU. */
  readonly kvBytesPerTokenPerGpu: number;
  /** Tokens whose keys and values fit beside the weights, over all GPUs of the replica; 0 for models without a cache. */
  readonly kvCacheTokens: number;
  /** The sum as one sentence. */
  readonly arithmetic: string;
};

/**
 * Bits of one quantised weight, its share of the scales included: AWQ and GPTQ keep a 16-bit scale and a 4-bit zero for
 * 128 weights, MXFP4 an 8-bit scale for 32 (NVFP4 for 16: half a bit instead of a quarter); the scales of 8-bit formats
 * are too few to count.
 */
const bitsOfWeight = { bf16: 16, fp8: 8, int8: 8, int4: 4 + 20 / 128, fp4: 4 + 8 / 32 } satisfies Record<
  WeightPrecision,
  number
>;

/** CUDA context, kernels, communication buffers and fragmentation; vLLM's start-up log shows 0.5-1 GiB of them. */
const contextBytes = 0.75 * 2 ** 30;

/** Sequences whose logits the engine computes at once in its memory profile, and bytes of one logit: 32 bits, twice. */
const profiledSequences = 256;
const logitBytes = 8;

/** Tokens of one block of the cache (vLLM's default): with less, no request can start. */
export const blockTokens = 16;

const gib = 2 ** 30;

/** Bytes of a model's weights: everything but embeddings and output matrix in `precision`, those at 16 bits. */
export function weightBytesOf(
  model: CataloguedModel,
  precision: WeightPrecision,
  bitsPerWeight?: number | null,
): number {
  if (bitsPerWeight !== undefined && bitsPerWeight !== null) return (model.parameters * bitsPerWeight) / 8;
  const embeddings = Math.min(model.parameters, embeddingParameters(model));
  return ((model.parameters - embeddings) * bitsOfWeight[precision]) / 8 + embeddings * 2;
}

function embeddingParameters(model: CataloguedModel): number {
  const matrices = model.tiedEmbeddings || model.task === 'embed' ? 1 : 2;
  return matrices * model.vocabularySize * model.hiddenSize;
}

/**
 * Keys and values of one token on each of the GPUs [bytes], averaged over a sequence of `sequenceTokens`.
 *
 * Heads are split over the GPUs, and copied where there are fewer of them; MLA's one vector is on every GPU. Layers with a window keep no more than that.
 */
export function kvBytesPerTokenPerGpu(
  model: CataloguedModel,
  options: { readonly gpus: number; readonly kvPrecision?: 'bf16' | 'fp8'; readonly sequenceTokens?: number },
): number {
  const { gpus, kvPrecision = 'bf16', sequenceTokens = 4096 } = options;
  const share = Math.max(1, model.keyValueHeads / gpus) / model.keyValueHeads;
  const kept =
    model.attentionWindow === null || sequenceTokens <= model.attentionWindow
      ? 1
      : 1 - (model.windowedLayers / model.keyValueLayers) * (1 - model.attentionWindow / sequenceTokens);
  return model.kvBytesPerToken16 * (kvPrecision === 'fp8' ? 0.5 : 1) * share * kept;
}

/** What an engine's forward pass needs beside weights and cache, on each of the GPUs [bytes]. */
function activationBytes(model: CataloguedModel, gpus: number, batchedTokens: number): number {
  const { denseSize, expertSize, activeExperts, sharedSize } = model.feedForward;
  const inner = Math.max(denseSize, expertSize * activeExperts + sharedSize);
  // Residual, its norm, the attention's output and the block's result; the gated inner vectors, split over the GPUs.
  const perToken = 2 * (4 * model.hiddenSize + (2 * inner) / gpus);
  return batchedTokens * perToken + (profiledSequences * logitBytes * model.vocabularySize) / gpus;
}

/** Whether a model fits into a replica's GPUs, and what is left for its cache. Pure arithmetic; never throws. */
export function fitOf(question: FitQuestion): Fit {
  const { gpu, model, gpusPerReplica: gpus, weightPrecision, bitsPerWeight = null, kvPrecision = 'bf16' } = question;
  const { memoryUtilization = 0.9, maxBatchedTokens = 8192, sequenceTokens = 4096 } = question;
  const weightBytes = weightBytesOf(model, weightPrecision, bitsPerWeight);
  const weightBytesPerGpu = weightBytes / gpus;
  const memoryBytesPerGpu = memoryBytesOf(gpu);
  const reserve = contextBytes + activationBytes(model, gpus, maxBatchedTokens);
  const usableBytesPerGpu = Math.max(0, memoryBytesPerGpu * memoryUtilization - reserve);
  const left = usableBytesPerGpu - weightBytesPerGpu;
  const perToken = kvBytesPerTokenPerGpu(model, { gpus, kvPrecision, sequenceTokens });
  const kvCacheTokens = perToken === 0 ? 0 : Math.max(0, Math.floor(left / perToken));
  const fits = perToken === 0 ? left >= 0 : kvCacheTokens >= blockTokens;
  const rest =
    perToken === 0 ? '' : `, which leaves room for ${fits ? kvCacheTokens.toLocaleString('en-US') : 'no'} tokens`;
  return {
    fits,
    weightBytes,
    weightBytesPerGpu,
    memoryBytesPerGpu,
    usableBytesPerGpu,
    kvBytesPerTokenPerGpu: perToken,
    kvCacheTokens: fits ? kvCacheTokens : 0,
    arithmetic: `${weightSum({ model, weightPrecision, bitsPerWeight, gpus, weightBytes })}; of the ${inGib(memoryBytesPerGpu)} of ${gpu.name} an engine can use ${inGib(usableBytesPerGpu)}${rest}`,
  };
}

/** Memory of one GPU [bytes]: as its driver reports it, else nominal. */
export function memoryBytesOf(gpu: CataloguedGpu): number {
  return gpu.reportedMemoryMib === null ? gpu.memoryGib * gib : gpu.reportedMemoryMib * 2 ** 20;
}

/**
 * Why weights cannot fit into a replica's GPUs, as one sentence; null where they might.
 *
 * Certain cases only: the weights alone are larger than all of the memory of the largest part of that name.
 */
export function weightsExceedMemory(
  question: Pick<FitQuestion, 'gpu' | 'model' | 'gpusPerReplica' | 'weightPrecision' | 'bitsPerWeight'>,
): string | null {
  const { gpu, model, gpusPerReplica: gpus, weightPrecision, bitsPerWeight = null } = question;
  const weightBytes = weightBytesOf(model, weightPrecision, bitsPerWeight);
  const memory = Math.max(memoryBytesOf(gpu), gpu.largestMemoryGib > gpu.memoryGib ? gpu.largestMemoryGib * gib : 0);
  if (weightBytes / gpus <= memory) return null;
  return `${weightSum({ model, weightPrecision, bitsPerWeight, gpus, weightBytes })}, and ${gpu.name} has ${inGib(memory)}`;
}

/** `llama-3.1-70b has 70.6 billion weights, 131.4 GiB in bf16: 65.7 GiB on each of 2 GPUs`. */
function weightSum(sum: {
  readonly model: CataloguedModel;
  readonly weightPrecision: WeightPrecision;
  readonly bitsPerWeight: number | null;
  readonly gpus: number;
  readonly weightBytes: number;
}): string {
  const { model, weightPrecision, bitsPerWeight, gpus, weightBytes } = sum;
  const format = bitsPerWeight === null ? weightPrecision : `${bitsPerWeight} bits each`;
  const split = gpus === 1 ? ' on one GPU' : `: ${inGib(weightBytes / gpus)} on each of ${gpus} GPUs`;
  const billions = model.parameters / 1e9;
  const weights = `${billions >= 10 ? billions.toFixed(1) : billions.toFixed(2)} billion weights`;
  return `${model.name} has ${weights}, ${inGib(weightBytes)} in ${format}${split}`;
}

function inGib(bytes: number): string {
  return `${(bytes / gib).toFixed(1)} GiB`;
}
