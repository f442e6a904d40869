import { fitOf, kvBytesPerTokenPerGpu, weightBytesOf } from '../core/gpu-memory.js';
import type { CataloguedGpu, GpuPrecision } from '../core/gpu-types.js';
import { InputError, quoteInput } from '../core/input-error.js';
import type { CataloguedModel, WeightPrecision } from '../core/model-types.js';
import { type Efficiency, efficiencyOf, tileTokens } from './gpu-efficiency.js';

/**
 * How long one step of an engine takes on one replica: a roofline over the model's shape and the GPU's catalogue entry,
 * with what parts of the peaks kernels achieve (`gpu-efficiency.ts`). The formulas, how they were fitted and how far
 * they may be trusted are in `docs/simulated-engine.md`.
 *
 *     step = engine + layers · layer + matrices + decode attention + prompt attention + activations + all-reduce
 *     matrices = (read⁸ + compute⁸)^⅛     read    = weights that the tokens use / achieved bandwidth
 *                                          compute = 2 · parameters · (tokens + ramp) / achieved peak
 *
 * Worked: Llama-3.1-8B on one H100, 16 sequences of 1,024 tokens: 0.73 engine + 32 · 0.037 layers + 15.0 GB / 2.85 TB/s
 * = 5.3 read + 2.1 GB / 2.8 TB/s = 0.8 cache: 8.0 ms.
 */

/** One replica of a model: what the step times depend on. */
export type ReplicaSpec = {
  readonly gpu: CataloguedGpu;
  readonly model: CataloguedModel;
  /** Tensor parallelism: GPUs of one machine that share every layer. */
  readonly gpusPerReplica: number;
  readonly weightPrecision: WeightPrecision;
  /** Mean bits of all weights alike (GGUF); otherwise those of `weightPrecision`, with embeddings kept at 16 bits. */
  readonly bitsPerWeight?: number | null;
  /** Of the keys and values in the cache; bf16 by default. */
  readonly kvPrecision?: 'bf16' | 'fp8';
  /** Achieved parts of the GPU's peaks; those of its architecture by default. */
  readonly efficiency?: Efficiency;
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
  /**
   * Tokens whose keys and values fit beside the weights, over all GPUs of the replica; Infinity for models without a
   * cache. Where layers look back over a window only, in sequences of 4,096 tokens: `kvCacheTokensOf` for others.
   */
  readonly kvCacheTokens: number;
  /** Duration of one step [ms]; > 0 for every step with work. */
  stepMs(step: Step): number;
};

/** The engine's own work in a step, beside the GPU: scheduling, sampling, detokenising [ms] (vLLM; as the yardstick has it). */
const engineMs = 0.7;
/** The same for each decoding sequence [ms]. */
const engineMsPerSequence = 0.002;
/**
 * How sharply reading weights gives way to computing as tokens grow: at equal times the sum is 9 % above either.
 * Measured kernels bend that sharply; 4 and 20 fit as well.
 */
const bend = 8;
/** Times that the hidden vector of a token is read or written in a layer outside of matrices: norms, residuals, activations. */
const activationPasses = 16;
/** Share of a link's nominal rate that all-reduces of megabytes achieve (nccl-tests report 0.6 to 0.8 over NVLink). */
const linkEfficiency = 0.7;
/** One small all-reduce: the kernel and its synchronisation, and what each further GPU adds [ms] (about 10 to 20 µs over NVLink). */
const allReduceMs = 0.008;
const allReduceMsPerPeer = 0.002;
/**
 * Up to the nominal rate of PCIe 5.0 × 16 a link counts as PCIe, where the host's bridges decide and not the link. NCCL
 * plans with 24 GB/s there, whatever the generation, and unless it is tuned achieves 22 GB/s and 24 µs for a small one
 * between PCIe 5.0 cards (nccl-tests on RTX PRO 6000: github.com/voipmonitor/rtx6kpro, hardware/pcie-bandwidth.md).
 */
const pcieGBps = 64;
const pcieAllReduceGBps = 22;
const pcieAllReduceMs = 0.024;

/** Formats in which matrices of those weights are multiplied, the first that the GPU has: int4 (AWQ, GPTQ) is expanded first. */
const computeFormats = {
  bf16: ['bf16', 'fp16', 'fp32'],
  fp8: ['fp8', 'bf16', 'fp16', 'fp32'],
  int8: ['int8', 'bf16', 'fp16', 'fp32'],
  int4: ['bf16', 'fp16', 'fp32'],
  fp4: ['fp4', 'bf16', 'fp16', 'fp32'],
} satisfies Record<WeightPrecision, readonly GpuPrecision[]>;

function fault(gpu: CataloguedGpu, key: string, found: string, expected: string): InputError {
  return new InputError(`GPU ${gpu.name}`, [{ place: key, found, expected }]);
}

/** Operations (a multiplication and an addition are two) per millisecond at the peak of the first of these formats that the GPU has. */
function flopsPerMs(gpu: CataloguedGpu, formats: readonly GpuPrecision[]): number {
  for (const format of formats) {
    const teraflops = gpu.teraflops[format];
    if (teraflops !== undefined) return teraflops * 1e9;
  }
  throw fault(gpu, 'teraflops', 'no rate that step times can be computed from', `one of ${formats.join(', ')}`);
}

/**
 * Tokens whose keys and values fit beside the weights in sequences of that length; Infinity for models without a cache,
 * 0 where the weights do not fit. The length matters where layers look back over a window only: long sequences leave
 * out more, so that the same memory holds more of their tokens.
 */
export function kvCacheTokensOf(spec: ReplicaSpec, sequenceTokens: number): number {
  const { gpu, model, gpusPerReplica, weightPrecision, bitsPerWeight = null, kvPrecision = 'bf16' } = spec;
  const fit = fitOf({ gpu, model, gpusPerReplica, weightPrecision, bitsPerWeight, kvPrecision, sequenceTokens });
  return fit.fits && fit.kvBytesPerTokenPerGpu === 0 ? Number.POSITIVE_INFINITY : fit.kvCacheTokens;
}

/**
 * Step times of a replica out of the catalogue.
 *
 * @throws InputError where the weights do not fit, or the catalogue lacks a figure that the model needs
 */
export function stepTimesOf(spec: ReplicaSpec): StepTimes {
  const { gpu, model, gpusPerReplica: gpus, weightPrecision, bitsPerWeight = null, kvPrecision = 'bf16' } = spec;
  if (!(Number.isInteger(gpus) && gpus >= 1)) {
    throw new InputError(`${model.name} on ${gpu.name}`, [
      { place: 'gpusPerReplica', found: quoteInput(gpus), expected: 'a whole number >= 1' },
    ]);
  }
  const fit = fitOf({ gpu, model, gpusPerReplica: gpus, weightPrecision, bitsPerWeight, kvPrecision });
  if (!fit.fits) {
    throw new InputError(`${model.name} on ${gpus} × ${gpu.name}`, [
      { place: '', found: fit.arithmetic, expected: 'weights that fit, with room for a KV cache' },
    ]);
  }
  if (gpu.memoryGBps === null) throw fault(gpu, 'memoryGBps', 'null', 'the bandwidth of the memory');
  if (gpus > 1 && gpu.linkGBps === null) {
    throw fault(gpu, 'linkGBps', 'null', `the rate between GPUs, which ${gpus} GPUs a replica need`);
  }
  const efficiency = spec.efficiency ?? efficiencyOf(gpu);
  const bytesPerMs = gpu.memoryGBps * 1e6;
  const matrixFlopsPerMs = flopsPerMs(gpu, computeFormats[weightPrecision]) * efficiency.compute;
  // Attention and the output matrix are computed at 16 bits, whatever the weights.
  const sixteenBitFlopsPerMs = flopsPerMs(gpu, computeFormats.bf16);
  const attentionFlopsPerMs = sixteenBitFlopsPerMs * efficiency.promptAttention;

  // Matrices. The embedding is looked up, not multiplied; the output matrix works on tokens that are sampled only, and
  // quantised models keep it at 16 bits.
  const { feedForward, hiddenSize, layers } = model;
  const embedding = model.vocabularySize * hiddenSize;
  const output = model.task === 'embed' ? 0 : embedding;
  const lookedUp = model.task === 'generate' && model.tiedEmbeddings ? 0 : embedding;
  const weights = Math.max(0, model.parameters - lookedUp - output);
  const expertWeights =
    feedForward.expertLayers * feedForward.experts * feedForward.matrices * hiddenSize * feedForward.expertSize;
  const activeWeights = Math.max(0, model.activeParameters - lookedUp - output);
  const expertShare = feedForward.experts > 0 ? feedForward.activeExperts / feedForward.experts : 1;
  const routed = Math.min(expertWeights, weights);
  const readMsPerByte = 1 / (gpus * bytesPerMs * efficiency.weightBandwidth);
  const outputBytes = output * (bitsPerWeight === null ? 2 : bitsPerWeight / 8);
  const lookedUpBytes = lookedUp * (bitsPerWeight === null ? 2 : bitsPerWeight / 8);
  const bytes = Math.max(0, weightBytesOf(model, weightPrecision, bitsPerWeight) - outputBytes - lookedUpBytes);
  const msPerWeight = weights > 0 ? (bytes / weights) * readMsPerByte : 0;
  const readAlwaysMs = (weights - routed) * msPerWeight + outputBytes * readMsPerByte;
  const readExpertsMs = routed * msPerWeight;
  const rampTokens = weightPrecision === 'bf16' ? efficiency.rampTokens : Math.min(efficiency.rampTokens, tileTokens);
  const computeMsPerToken = (2 * activeWeights) / (gpus * matrixFlopsPerMs);
  const outputMsPerSequence = (2 * output) / (gpus * sixteenBitFlopsPerMs * efficiency.compute);

  // Of one token in every layer: windows are counted with the step's contexts, below.
  const kvBytes = kvBytesPerTokenPerGpu(model, { gpus, kvPrecision, sequenceTokens: 0 });
  const cacheMsPerToken = kvBytes / (bytesPerMs * efficiency.cacheBandwidth);
  // With MLA all heads work on the compressed vector, of kvBytes / 2 numbers a layer, instead of on heads of their own.
  const decodeWidth =
    model.attention === 'mla' && model.keyValueLayers > 0
      ? model.kvBytesPerToken16 / 2 / model.keyValueLayers
      : model.headSize;
  const flopsPerContext = (width: number): number =>
    (4 * model.attentionHeads * width * model.keyValueLayers) / gpus / attentionFlopsPerMs;
  const decodeMsPerToken = Math.max(cacheMsPerToken, flopsPerContext(decodeWidth));
  const promptMsPerPair = flopsPerContext(model.headSize);
  const window = model.attentionWindow ?? Number.POSITIVE_INFINITY;
  const windowed = model.keyValueLayers > 0 ? Math.min(1, model.windowedLayers / model.keyValueLayers) : 0;
  /** Tokens attended to, as a mean over layers. */
  const attended = (context: number): number =>
    context <= window ? context : (1 - windowed) * context + windowed * window;

  const fixedMs = engineMs + (layers * efficiency.layerMicroseconds) / 1000;
  const activationMsPerToken = (2 * hiddenSize * layers * activationPasses) / bytesPerMs;
  // Two all-reduces a layer, after attention and after the feed-forward part, and one for the output.
  const reductions = gpus > 1 ? 2 * layers + 1 : 0;
  const link = gpu.linkGBps ?? 0;
  const overPcie = link <= pcieGBps;
  const oneReduceMs = overPcie ? pcieAllReduceMs : allReduceMs + allReduceMsPerPeer * (gpus - 1);
  const reduceGBps = overPcie ? Math.min(linkEfficiency * link, pcieAllReduceGBps) : linkEfficiency * link;
  const reduceMs = reductions * oneReduceMs;
  const reduceMsPerToken =
    reductions > 0 ? (reductions * ((2 * (gpus - 1)) / gpus) * 2 * hiddenSize) / (reduceGBps * 1e6) : 0;

  const matricesMs = (tokens: number, decodeSequences: number): number => {
    // A token leaves out an expert with probability 1 − share; an expert that no token uses is not read.
    const read = readAlwaysMs + (routed > 0 ? readExpertsMs * (1 - (1 - expertShare) ** tokens) : 0);
    const compute = computeMsPerToken * (tokens + rampTokens) + outputMsPerSequence * Math.max(1, decodeSequences);
    const longer = Math.max(read, compute);
    return longer * (1 + (Math.min(read, compute) / longer) ** bend) ** (1 / bend);
  };
  // Step after step decodes the same sequences, and powers take most of the time: the last ones are kept.
  let lastTokens = Number.NaN;
  let lastSequences = Number.NaN;
  let matrices = 0;

  return {
    kvCacheTokens: fit.kvBytesPerTokenPerGpu === 0 ? Number.POSITIVE_INFINITY : fit.kvCacheTokens,
    stepMs: ({ prefillTokens, prefillAttention, decodeSequences, decodeContextTokens }) => {
      const tokens = prefillTokens + decodeSequences;
      if (tokens !== lastTokens || decodeSequences !== lastSequences) {
        matrices = matricesMs(tokens, decodeSequences);
        lastTokens = tokens;
        lastSequences = decodeSequences;
      }
      const decode =
        decodeSequences > 0 ? decodeSequences * attended(decodeContextTokens / decodeSequences) * decodeMsPerToken : 0;
      const prompt =
        prefillTokens > 0 ? prefillTokens * attended(prefillAttention / prefillTokens) * promptMsPerPair : 0;
      return (
        fixedMs +
        reduceMs +
        engineMsPerSequence * decodeSequences +
        (activationMsPerToken + reduceMsPerToken) * tokens +
        matrices +
        decode +
        prompt
      );
    },
  };
}
