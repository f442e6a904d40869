import { type CataloguedGpu, vendorNames } from '../core/gpu-types.js';
import { efficiencyOf, tileTokens } from './gpu-efficiency.js';
import { type ReplicaSpec, type StepTimes, stepTimesOf } from './step-time.js';

/**
 * How far real engines are from the step-time model, per class of GPUs: few factors, fitted on published end-to-end
 * measurements of half of the GPUs, and how far estimates are off on those and on the GPUs that the fit never saw.
 *
 * Made by `npm run bench -- estimate`, which prints this table; test/benchmarks/estimate.test.ts holds it to the
 * measurements where they are at hand.
 */

/** Factors on what the step-time model, which adds up kernels, takes a GPU to achieve; 1 = as it does. */
export type StepCalibration = {
  /** On the rate of matrices and of the attention of prompts. */
  readonly compute: number;
  /** On the bandwidth at which weights and the cache are read. */
  readonly bandwidth: number;
  /** On the rate between the GPUs of a replica. */
  readonly link: number;
  /** On the time per layer in which neither works. */
  readonly layerTime: number;
  /** Time of every step beside all that: the engine's own work [ms]. */
  readonly stepMs: number;
  /** Time of a request before its first step: HTTP, tokenising, the engine's queue [ms]. */
  readonly requestMs: number;
};

/** GPUs that share a software stack: drivers, kernels, engines. */
export const gpuClasses = ['nvidia', 'amd', 'intel'] as const;
export type GpuClass = (typeof gpuClasses)[number];

/** The class of a GPU; null where no GPU of its vendor was measured. */
export function gpuClassOf(gpu: CataloguedGpu): GpuClass | null {
  return gpuClasses.find((name) => name === gpu.vendor) ?? null;
}

/** How predicted / measured rates of published runs are spread. */
export type ErrorSpread = {
  readonly points: number;
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
};

// Printed by `npm run bench -- estimate`.

export const estimateCalibrations: Readonly<Record<GpuClass, StepCalibration>> = {
  nvidia: { compute: 1.1, bandwidth: 0.836, link: 0.363, layerTime: 1.17, stepMs: 0, requestMs: 22.5 },
  amd: { compute: 0.441, bandwidth: 0.523, link: 0.436, layerTime: 2.43, stepMs: 4.5, requestMs: 0 },
  intel: { compute: 0.625, bandwidth: 1.1, link: 0.388, layerTime: 1.47, stepMs: 0.125, requestMs: 22.5 },
};

/** Of every GPU that was measured, whether or not the factors were fitted on it. */
export const errorsByGpu: Readonly<Record<string, ErrorSpread & { readonly fitted: boolean }>> = {
  'A100-80GB': { points: 145, median: 1.02, p10: 0.85, p90: 1.76, fitted: true },
  A10G: { points: 12, median: 0.83, p10: 0.77, p90: 1.71, fitted: false },
  B200: { points: 1388, median: 0.97, p10: 0.68, p90: 1.36, fitted: true },
  B300: { points: 205, median: 1.03, p10: 0.84, p90: 1.35, fitted: false },
  GB200: { points: 1, median: 2.2, p10: 2.2, p90: 2.2, fitted: true },
  GH200: { points: 220, median: 1.06, p10: 0.82, p90: 1.33, fitted: false },
  Gaudi2: { points: 314, median: 1, p10: 0.87, p90: 1.16, fitted: true },
  H100: { points: 1101, median: 0.96, p10: 0.77, p90: 1.39, fitted: false },
  H200: { points: 693, median: 1.05, p10: 0.7, p90: 1.43, fitted: true },
  L40S: { points: 11, median: 0.66, p10: 0.53, p90: 0.95, fitted: false },
  MI250: { points: 359, median: 1, p10: 0.84, p90: 1.18, fitted: true },
  MI300X: { points: 808, median: 1.45, p10: 0.78, p90: 3.79, fitted: false },
};

/** Over the GPUs of a class that the fit never saw; absent where there is none. */
export const errorsOfUnseen: Readonly<Partial<Record<GpuClass, ErrorSpread>>> = {
  nvidia: { points: 1549, median: 0.97, p10: 0.78, p90: 1.38 },
  amd: { points: 808, median: 1.45, p10: 0.78, p90: 3.79 },
};

/** The factors for a GPU; those of AMD's, which are the more cautious ones, where no GPU of its vendor was measured. */
export function calibrationFor(
  gpu: CataloguedGpu,
  calibrations: Readonly<Record<GpuClass, StepCalibration>> = estimateCalibrations,
): StepCalibration {
  return calibrations[gpuClassOf(gpu) ?? 'amd'];
}

/** Step times, and the time of a request outside of steps. */
export type CalibratedTimes = StepTimes & { readonly requestMs: number };

/**
 * Step times of a replica under a calibration.
 *
 * @throws InputError as `stepTimesOf` does
 */
export function calibratedStepTimes(spec: ReplicaSpec, calibration: StepCalibration): CalibratedTimes {
  const { gpu } = spec;
  const efficiency = spec.efficiency ?? efficiencyOf(gpu);
  const times = stepTimesOf({
    ...spec,
    gpu: { ...gpu, linkGBps: gpu.linkGBps === null ? null : gpu.linkGBps * calibration.link },
    efficiency: {
      ...efficiency,
      weightBandwidth: efficiency.weightBandwidth * calibration.bandwidth,
      cacheBandwidth: efficiency.cacheBandwidth * calibration.bandwidth,
      compute: efficiency.compute * calibration.compute,
      promptAttention: efficiency.promptAttention * calibration.compute,
      layerMicroseconds: efficiency.layerMicroseconds * calibration.layerTime,
      rampTokens: Math.min(efficiency.rampTokens, tileTokens),
    },
  });
  return { ...times, stepMs: (step) => times.stepMs(step) + calibration.stepMs, requestMs: calibration.requestMs };
}

/** With fewer points a GPU's own spread says little, and that of its class is taken. */
const enoughPoints = 50;

/** How far an estimated rate may be off, and on what that was seen. */
export type ErrorBars = { readonly p10: number; readonly p90: number; readonly basis: string };

/**
 * Error bars of estimates for a GPU: those seen on that GPU; else those of GPUs of its vendor that the fit never saw; and
 * where no such was measured, the widest of all.
 */
export function errorBarsFor(gpu: CataloguedGpu): ErrorBars {
  const own = errorsByGpu[gpu.name];
  if (own !== undefined && own.points >= enoughPoints) {
    const how = own.fitted ? 'which the fit knew' : 'which the fit never saw';
    return { p10: own.p10, p90: own.p90, basis: `${own.points} published runs on ${gpu.name}, ${how}` };
  }
  const gpuClass = gpuClassOf(gpu);
  const unseen = gpuClass === null ? undefined : errorsOfUnseen[gpuClass];
  if (unseen !== undefined) {
    const basis = `${unseen.points} published runs on other GPUs of ${vendorNames[gpu.vendor]} that the fit never saw`;
    return { p10: unseen.p10, p90: unseen.p90, basis };
  }
  const known = Object.values(errorsByGpu).filter(({ points }) => points >= enoughPoints);
  return {
    p10: Math.min(...known.map(({ p10 }) => p10)),
    p90: Math.max(...known.map(({ p90 }) => p90)),
    basis: `published runs on the GPU that was predicted worst: no unseen GPU of ${vendorNames[gpu.vendor]} was measured`,
  };
}
