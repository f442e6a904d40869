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
    cacheBandwidth: 0.763,
    compute: 0.814,
    promptAttention: 0.617,
    rampTokens: 59,
    layerMicroseconds: 88,
  },
  /** H100 and H200, fitted together. */
  hopper: {
    weightBandwidth,
    cacheBandwidth: 0.843,
    compute: 0.724,
    promptAttention: 0.724,
    rampTokens: 57,
    layerMicroseconds: 37,
  },
  /** B200. */
  blackwell: {
    weightBandwidth,
    cacheBandwidth: 0.842,
    compute: 0.63,
    promptAttention: 0.796,
    rampTokens: 9,
    layerMicroseconds: 37,
  },
  /** RTX PRO 6000: Blackwell with GDDR7. */
  blackwellWorkstation: {
    weightBandwidth,
    cacheBandwidth: 0.809,
    compute: 0.791,
    promptAttention: 0.652,
    rampTokens: 229,
    layerMicroseconds: 42,
  },
  /** L40S. */
  ada: {
    weightBandwidth,
    cacheBandwidth: 0.797,
    compute: 0.875,
    promptAttention: 0.489,
    rampTokens: 418,
    layerMicroseconds: 23,
  },
  /** Not in the yardstick: the middle of those that are. */
  other: {
    weightBandwidth,
    cacheBandwidth: 0.81,
    compute: 0.79,
    promptAttention: 0.65,
    rampTokens: 59,
    layerMicroseconds: 37,
  },
} as const satisfies Readonly<Record<string, Efficiency>>;

export type EfficiencyClass = keyof typeof efficiencies;

/** Above this a memory is stacked (HBM), below it is GDDR or LPDDR [10⁹ bytes/s]: GDDR7 ends at 1,800, A100's HBM begins at 1,555. */
const stackedGBps = 2500;

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
