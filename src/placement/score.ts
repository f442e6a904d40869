import type { PlacementObjective } from '../core/placement.js';
import type { Fleet } from './fleet.js';

/**
 * The objective as numbers to compare: component by component, less is better.
 *
 * Memory is compared to a MiB, relative use in thousandths of a GPU (24 MiB of 24 GB): finer differences mean nothing
 * to anybody, and make proofs of the last digit as hard as partitioning numbers.
 */
export type Score = {
  /** Refused services of each of `Fleet.priorities`. */
  readonly refused: readonly number[];
  readonly overMb: number;
  readonly shrunkMb: number;
  readonly slowness: number;
  /** Not rounded. */
  readonly use: number;
};

/** Components in the order in which they are compared. */
export const components = ['refused', 'overMb', 'shrunkMb', 'slowness', 'use'] as const;

/** Sums of 1/speed are equal up to rounding in whichever order they were added. */
export const slownessTolerance = 1e-9;

/** Relative use in thousandths, rounded up. */
export function thousandths(use: number): number {
  return Math.max(0, Math.ceil(use * 1000 - 1e-6));
}

/** Negative where `a` is better; only the first `count` of `components` are looked at. */
export function compareScores(a: Score, b: Score, count: number = components.length): number {
  for (let i = 0; i < a.refused.length; i++) {
    const difference = a.refused[i]! - b.refused[i]!;
    if (difference !== 0) return difference;
  }
  if (count > 1 && a.overMb !== b.overMb) return a.overMb - b.overMb;
  if (count > 2 && a.shrunkMb !== b.shrunkMb) return a.shrunkMb - b.shrunkMb;
  if (count > 3) {
    const difference = a.slowness - b.slowness;
    if (Math.abs(difference) > slownessTolerance * Math.max(1, Math.abs(a.slowness))) return difference;
  }
  return count > 4 ? thousandths(a.use) - thousandths(b.use) : 0;
}

export function objectiveOf({ refused, overMb, shrunkMb, slowness, use }: Score, fleet: Fleet): PlacementObjective {
  return {
    refusedByPriority: fleet.priorities
      .map((priority, i) => ({ priority, count: refused[i]! }))
      .filter(({ count }) => count > 0),
    overcommitMb: overMb,
    shrunkMb,
    criticalSlowness: Number(slowness.toFixed(6)),
    maxRelativeUse: thousandths(use) / 1000,
  };
}
