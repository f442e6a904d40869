import type { Placement } from '../core/placement.js';
import { type PlacementRequest, type StrategyName, strategyNames } from '../core/placement-request.js';
import { gigabytes } from './amounts.js';
import { fleetOf } from './fleet.js';
import { type PlaceOptions, placeWith } from './place.js';

/** Which strategy a request is best placed by, and what each would do. */
export type Recommendation = {
  readonly strategy: StrategyName;
  /** One sentence. */
  readonly reason: string;
  /** In the order of `strategyNames`. */
  readonly placements: readonly Placement[];
};

/** Strategies by how easily their answer is foreseen: of those that do as well, the first is recommended. */
const plainness: readonly StrategyName[] = [
  'manual',
  'vram_based',
  'isolation_first',
  'latency_optimized',
  'balanced',
  'optimal',
];

/**
 * Places a request by every strategy and names the plainest one that does as well as the best.
 *
 * `optimal` is never worse than the others, so that the question is whether a rule that people can follow by hand gets
 * as far; where none does, the sentence says what the best of them would cost.
 */
export function recommend(request: PlacementRequest, options: PlaceOptions): Recommendation {
  const fleet = fleetOf(request, options.catalogue);
  const placements = strategyNames.map((strategy) => placeWith(strategy, fleet, options));
  const of = (strategy: StrategyName): Placement => placements.find((placement) => placement.strategy === strategy)!;
  const best = of('optimal');
  const plainest = plainness.find((strategy) => compareObjectives(of(strategy), best) <= 0)!;
  if (request.services.length === 0) {
    return { strategy: plainest, reason: 'there is nothing to place', placements };
  }
  const proof = best.status === 'optimal' ? 'no placement does better' : 'the search found nothing better in its time';
  if (plainest === 'manual') {
    return { strategy: 'manual', reason: `everything is pinned, and ${proof}`, placements };
  }
  if (plainest !== 'optimal') {
    return { strategy: plainest, reason: `its rule is easy to follow, and ${proof}`, placements };
  }
  const runnerUp = plainness
    .filter((strategy) => strategy !== 'optimal' && strategy !== 'manual')
    .map(of)
    .reduce((a, b) => (compareObjectives(b, a) < 0 ? b : a));
  return {
    strategy: 'optimal',
    reason: `${runnerUp.strategy}, the best of the rules, ${shortcoming(runnerUp, best)}`,
    placements,
  };
}

/** Negative where `a` is better. */
function compareObjectives({ objective: a }: Placement, { objective: b }: Placement): number {
  const priorities = [...a.refusedByPriority, ...b.refusedByPriority].map(({ priority }) => priority);
  for (const priority of [...new Set(priorities)].sort((x, y) => y - x)) {
    const difference = refusedOf(a, priority) - refusedOf(b, priority);
    if (difference !== 0) return difference;
  }
  return (
    a.overcommitMb - b.overcommitMb ||
    a.shrunkMb - b.shrunkMb ||
    a.criticalSlowness - b.criticalSlowness ||
    a.maxRelativeUse - b.maxRelativeUse
  );
}

function refusedOf({ refusedByPriority }: Placement['objective'], priority: number): number {
  return refusedByPriority.find((each) => each.priority === priority)?.count ?? 0;
}

/** What the first component says in which one placement is worse than another. */
function shortcoming(
  { objective: worse, refusals }: Placement,
  { objective: best, refusals: fewer }: Placement,
): string {
  if (JSON.stringify(worse.refusedByPriority) !== JSON.stringify(best.refusedByPriority)) {
    return `refuses ${refusals.length} instead of ${fewer.length}, or more of a higher priority`;
  }
  if (worse.overcommitMb > best.overcommitMb) {
    return `exceeds memory by ${gigabytes(worse.overcommitMb)} instead of ${gigabytes(best.overcommitMb)}`;
  }
  if (worse.shrunkMb > best.shrunkMb) {
    return `shrinks by ${gigabytes(worse.shrunkMb)} instead of ${gigabytes(best.shrunkMb)}`;
  }
  if (worse.criticalSlowness > best.criticalSlowness) {
    const times = worse.criticalSlowness / best.criticalSlowness;
    return times < 1.1
      ? `makes critical services ${Number(((times - 1) * 100).toPrecision(2))} % slower`
      : `makes critical services ${times.toFixed(2)} times as slow`;
  }
  const percent = (use: number): string => `${(use * 100).toFixed(1)} %`;
  return `fills a GPU to ${percent(worse.maxRelativeUse)} instead of ${percent(best.maxRelativeUse)}`;
}
