import type { CataloguedGpu } from '../core/gpu-types.js';

/**
 * Which parts of a GPU's peaks the kernels of an engine achieve. Those of the yardstick were fitted on one model
 * (`npm run bench -- step-time` fits them again and prints both); the rest are their middle.
 */
export type Efficiency = {
  /** Share of the memory's bandwidth at which weights are read. */
  readonly weightBandwidth: number;
  /** Share of the memory's bandwidth at which decode attention reads the cache. */
  readonly cacheBandwidth: number;
  /** Share of the peak that large matrices achieve. */
  readonly compute: number;
  /** Share of the 16-bit peak that attention of prompts achieves. */
  readonly promptAttention: number;
  /** Tokens that a multiplication costs beyond its own: tiles that few tokens leave empty. */
  readonly rampTokens: number;
  /** Kernels' start and end in one layer, for which neither memory nor compute units work [µs]. */
  readonly layerMicroseconds: number;
};

/**
 * Weights are read at 0.85 of the bandwidth everywhere: one model does not tell a lower bandwidth from time per layer,
 * and large copies achieve 0.85 to 0.92.
 */
const weightBandwidth = 0.85;

/** Classes of GPUs that behave alike: an architecture, with its memory where that makes two of it. */
export const efficiencies = {
  /** A100. */
  ampere: {
    weightBandwidth,
    cacheBandwidth: 0.767,
    compute: 0.799,
    promptAttention: 0.66,
    rampTokens: 59,
    layerMicroseconds: 89,
  },
  /** H100 and H200, fitted together. */
  hopper: {
    weightBandwidth,
    cacheBandwidth: 0.854,
    compute: 0.706,
    promptAttention: 0.75,
    rampTokens: 66,
    layerMicroseconds: 39,
  },
  /** B200. */
  blackwell: {
    weightBandwidth,
    cacheBandwidth: 0.857,
    compute: 0.619,
    promptAttention: 0.75,
    rampTokens: 41,
    layerMicroseconds: 38,
  },
  /**
   * RTX PRO 6000: Blackwell with GDDR7. At the edge of the search: weights come even faster than 0.85 of the 1,597 GB/s
   * of its server edition; the workstation edition has 1,792.
   */
  blackwellWorkstation: {
    weightBandwidth,
    cacheBandwidth: 0.914,
    compute: 0.79,
    promptAttention: 0.699,
    rampTokens: 267,
    layerMicroseconds: 0,
  },
  /** L40S. */
  ada: {
    weightBandwidth,
    cacheBandwidth: 0.799,
    compute: 0.86,
    promptAttention: 0.511,
    rampTokens: 414,
    layerMicroseconds: 21,
  },
  /** Not in the yardstick: the median of those that are. */
  other: {
    weightBandwidth,
    cacheBandwidth: 0.854,
    compute: 0.79,
    promptAttention: 0.699,
    rampTokens: 66,
    layerMicroseconds: 38,
  },
} as const satisfies Readonly<Record<string, Efficiency>>;

export type EfficiencyClass = keyof typeof efficiencies;

/** Above this the memory of a Blackwell is stacked (HBM3e, 8,000), below it is GDDR7 or LPDDR (up to 1,792) [10⁹ bytes/s]. */
const stackedGBps = 2500;

/**
 * Most tokens that a multiplication costs beyond its own: the height of a tile. Where the fit of a GDDR GPU has more, it
 * stands for something else, which it takes to grow with the FLOP of the weights; for quantised weights, of which few
 * bytes are read, it would outweigh all else, while their kernels are bound by memory at small batches.
 */
export const tileTokens = 64;

/** The class of a GPU, `other` where the yardstick has none of its architecture. */
export function efficiencyClassOf(gpu: CataloguedGpu): EfficiencyClass {
  switch (gpu.architecture) {
    case 'ampere':
    case 'hopper':
    case 'ada':
      return gpu.architecture;
    case 'blackwell':
      return (gpu.memoryGBps ?? 0) >= stackedGBps ? 'blackwell' : 'blackwellWorkstation';
    default:
      return 'other';
  }
}

export function efficiencyOf(gpu: CataloguedGpu): Efficiency {
  return efficiencies[efficiencyClassOf(gpu)];
}
