import { InputError } from '../src/core/input-error.js';
import {
  type CalibratedTimes,
  calibratedStepTimes,
  calibrationFor,
  type GpuClass,
  gpuClasses,
  gpuClassOf,
  type StepCalibration,
} from '../src/simulation/estimate-calibration.js';
import { kvCacheTokensOf } from '../src/simulation/step-time.js';
import { closedLoop, staticBatch } from './closed-loop.js';
import type { MeasuredPoint } from './measured-profiles.js';
import { median, percentile } from './timing.js';

/**
 * Estimates held against published measurements: predicted / measured for every figure that a source published, and the
 * fit of the few factors of an estimate on half of the GPUs.
 */

export const uncalibrated: StepCalibration = {
  compute: 1,
  bandwidth: 1,
  link: 1,
  layerTime: 1,
  stepMs: 0,
  requestMs: 0,
};

export type Calibrations = Readonly<Record<GpuClass, StepCalibration>>;

/** What of a run is compared. */
export const quantities = ['rate', 'ttft', 'tpot'] as const;
export type Quantity = (typeof quantities)[number];

export type Comparison = {
  readonly point: MeasuredPoint;
  /** Predicted / measured; absent where the source published none. */
  readonly ratios: Readonly<Partial<Record<Quantity, number>>>;
};

export type Yardstick = {
  readonly comparisons: readonly Comparison[];
  /** Points that were measured, and whose weights or requests do not fit by our figures: failures of the estimate. */
  readonly misfits: readonly MeasuredPoint[];
  /** Points for which the catalogue lacks a figure, by what is lacking. */
  readonly lacking: ReadonlyMap<string, number>;
};

/**
 * Flags of the servers are not published. Sequences: as many as were in flight, or vLLM's usual limit; tokens of a step:
 * the same as for estimates.
 */
const limitsOf = (point: MeasuredPoint) => ({
  maxSequences: Math.max(256, point.requests),
  maxBatchedTokens: 8192,
  maxTokens: Number.POSITIVE_INFINITY,
});

/** Step times of every point; the points of a file share them. */
class StepTimesOfPoints {
  readonly #known = new Map<string, CalibratedTimes | InputError>();

  constructor(private readonly calibrations: Calibrations) {}

  of(point: MeasuredPoint): CalibratedTimes | InputError {
    const key = `${point.gpu.name}|${point.model.name}|${point.gpusPerReplica}|${point.weightPrecision}`;
    let times = this.#known.get(key);
    if (times === undefined) {
      times = this.#make(point);
      this.#known.set(key, times);
    }
    return times;
  }

  #make(point: MeasuredPoint): CalibratedTimes | InputError {
    const { gpu, model, gpusPerReplica, weightPrecision } = point;
    try {
      const calibration = calibrationFor(gpu, this.calibrations);
      return calibratedStepTimes({ gpu, model, gpusPerReplica, weightPrecision }, calibration);
    } catch (error) {
      if (error instanceof InputError) return error;
      throw error;
    }
  }
}

/** How many requests a run had is not published: ten times as many as in flight is what the usual scripts do. */
const waves = 10;

function compare(point: MeasuredPoint, stepTimes: CalibratedTimes): Comparison | null {
  const { inputTokens, outputTokens, requests } = point;
  // Sequences of all ages have half of their answer on average; those of a batch reach its end together.
  const sequenceTokens = inputTokens + (point.run === 'closed' ? outputTokens / 2 : outputTokens);
  const options = {
    stepTimes: { ...stepTimes, kvCacheTokens: kvCacheTokensOf(point, sequenceTokens) },
    requestMs: stepTimes.requestMs,
    limits: limitsOf(point),
    cell: { inputTokens, outputTokens },
  };
  const result =
    point.run === 'closed'
      ? closedLoop({ ...options, concurrency: requests, waves })
      : staticBatch({ ...options, batch: requests });
  if (result === null) return null;
  return {
    point,
    ratios: {
      rate: result.requestsPerSecond / point.requestsPerSecond,
      ...(point.ttftMs === null ? {} : { ttft: result.ttftMs / point.ttftMs }),
      ...(point.tpotMs === null || result.tpotMs === null ? {} : { tpot: result.tpotMs / point.tpotMs }),
    },
  };
}

/** Predicted / measured of every point. */
export function holdAgainst(points: readonly MeasuredPoint[], calibrations: Calibrations): Yardstick {
  const times = new StepTimesOfPoints(calibrations);
  const comparisons: Comparison[] = [];
  const misfits: MeasuredPoint[] = [];
  const lacking = new Map<string, number>();
  for (const point of points) {
    const stepTimes = times.of(point);
    if (stepTimes instanceof InputError) {
      if (/fit/.test(stepTimes.message)) misfits.push(point);
      else lacking.set(stepTimes.message, (lacking.get(stepTimes.message) ?? 0) + 1);
      continue;
    }
    const comparison = compare(point, stepTimes);
    if (comparison === null) misfits.push(point);
    else comparisons.push(comparison);
  }
  return { comparisons, misfits, lacking };
}

/** How predicted / measured is spread. */
export type Spread = {
  readonly count: number;
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  /** Shares of the points that are predicted within ±25 % and ±50 % of what was measured. */
  readonly within25: number;
  readonly within50: number;
};

export function spreadOf(comparisons: readonly Comparison[], quantity: Quantity): Spread | null {
  const ratios = comparisons.flatMap(({ ratios }) => ratios[quantity] ?? []);
  if (ratios.length === 0) return null;
  const within = (share: number): number =>
    ratios.filter((ratio) => Math.abs(ratio - 1) <= share).length / ratios.length;
  return {
    count: ratios.length,
    median: median(ratios),
    p10: percentile(ratios, 0.1),
    p90: percentile(ratios, 0.9),
    within25: within(0.25),
    within50: within(0.5),
  };
}

/**
 * Which GPUs the factors are fitted on: of all GPUs with points, in the order of their names, every second from the
 * first. A rule that looks at nothing but names, so that no half is chosen for its result.
 */
export function fittedGpus(points: readonly MeasuredPoint[]): ReadonlySet<string> {
  const names = [...new Set(points.map(({ gpu }) => gpu.name))].toSorted((a, b) => (a < b ? -1 : 1));
  return new Set(names.filter((_, index) => index % 2 === 0));
}

/** Items by a key, in the order in which the keys first occur. */
export function grouped<Item>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
): ReadonlyMap<string, readonly Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

/** Points of one file that a fit looks at: many files repeat one sweep at many concurrencies. */
const pointsPerFile = 24;

function thinned(points: readonly MeasuredPoint[]): readonly (readonly MeasuredPoint[])[] {
  const byFile = grouped(points, ({ file }) => file);
  return [...byFile.values()].map((all) => {
    const step = Math.max(1, all.length / pointsPerFile);
    return Array.from({ length: Math.min(all.length, pointsPerFile) }, (_, i) => all[Math.floor(i * step)]!);
  });
}

/**
 * How far estimates are from a file's points: the mean of |ln (predicted / measured)|, of the rate as much as of TTFT
 * and TPOT together. Each GPU counts alike, but one with few points counts for less; each file of a GPU counts alike. What
 * does not fit counts as a factor of 4.
 */
function lossOf(files: readonly (readonly MeasuredPoint[])[], calibrations: Calibrations): number {
  const byGpu = new Map<string, { readonly losses: number[]; points: number }>();
  for (const points of files) {
    const { comparisons, misfits } = holdAgainst(points, calibrations);
    if (comparisons.length + misfits.length === 0) continue;
    const off = comparisons.map(({ ratios }) => {
      const far = (ratio: number | undefined): number | null =>
        ratio === undefined ? null : Math.abs(Math.log(Math.min(10, Math.max(0.1, ratio))));
      const latencies = [far(ratios.ttft), far(ratios.tpot)].filter((value) => value !== null);
      const latency = latencies.reduce((sum, value) => sum + value, 0) / Math.max(1, latencies.length);
      return latencies.length === 0 ? far(ratios.rate)! : (far(ratios.rate)! + latency) / 2;
    });
    const total = off.reduce((sum, value) => sum + value, 0) + misfits.length * Math.log(4);
    const name = points[0]!.gpu.name;
    const count = comparisons.length + misfits.length;
    const known = byGpu.get(name) ?? { losses: [], points: 0 };
    byGpu.set(name, known);
    known.losses.push(total / count);
    known.points += count;
  }
  let sum = 0;
  let weights = 0;
  for (const { losses, points } of byGpu.values()) {
    const weight = Math.min(1, points / enoughPoints);
    sum += (weight * losses.reduce((total, value) => total + value, 0)) / losses.length;
    weights += weight;
  }
  return weights > 0 ? sum / weights : 0;
}

/** Points from which on a GPU counts in full. */
const enoughPoints = 50;

/** Where each factor may lie: no engine is faster than its kernels by more than they vary. */
const bounds = {
  compute: [0.2, 1.1],
  bandwidth: [0.2, 1.1],
  link: [0.1, 3],
  layerTime: [0.2, 20],
  stepMs: [0, 20],
  requestMs: [0, 500],
} as const satisfies Record<keyof StepCalibration, readonly [number, number]>;

const factors = ['compute', 'bandwidth', 'link', 'layerTime', 'stepMs', 'requestMs'] as const;

/**
 * The factors of each class of GPUs that fit the points best: a pattern search, one factor at a time, in steps that
 * halve. Deterministic.
 */
export function calibrate(points: readonly MeasuredPoint[], start: Calibrations): Calibrations {
  let calibrations = start;
  for (const name of gpuClasses) {
    const files = thinned(points.filter(({ gpu }) => gpuClassOf(gpu) === name));
    if (files.length === 0) continue;
    let best: StepCalibration = calibrations[name];
    const lossWith = (candidate: StepCalibration): number => lossOf(files, { ...calibrations, [name]: candidate });
    let loss = lossWith(best);
    for (let step = 0.4; step > 0.02; ) {
      let improved = false;
      for (const factor of factors) {
        for (const direction of [1, -1]) {
          const [low, high] = bounds[factor];
          const moved =
            factor === 'stepMs' || factor === 'requestMs'
              ? best[factor] + direction * step * (factor === 'stepMs' ? 5 : 100)
              : best[factor] * (1 + step) ** direction;
          const candidate = { ...best, [factor]: Math.min(high, Math.max(low, moved)) };
          const candidateLoss = lossWith(candidate);
          if (candidateLoss < loss - 1e-5) {
            best = candidate;
            loss = candidateLoss;
            improved = true;
            break;
          }
        }
      }
      if (!improved) step /= 2;
    }
    calibrations = { ...calibrations, [name]: best };
  }
  return calibrations;
}
