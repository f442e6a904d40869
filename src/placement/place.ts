import type { GpuCatalogue } from '../core/gpu-types.js';
import type { Placement } from '../core/placement.js';
import type { PlacementRequest, StrategyName } from '../core/placement-request.js';
import { optimal, quickBound } from './exact/optimal.js';
import { type Fleet, fleetOf } from './fleet.js';
import type { Occupancy } from './occupancy.js';
import { placementOf } from './placement-document.js';
import { compareScores, type Score } from './score.js';
import { rules } from './strategies/strategies.js';

export type PlaceOptions = {
  /** What is known of GPUs: speed, architecture, MIG profiles. */
  readonly catalogue: GpuCatalogue;
  /** Ends the search of `optimal`, which then answers with the best it has, and a bound. */
  readonly shouldStop?: () => boolean;
  /** Ends it as well, and always at the same place; null = none. */
  readonly nodeLimit?: number | null;
};

/**
 * Gives every service of a request a GPU, or the CPU, or says why it has none.
 *
 * A pure function: the same request gives the same Placement, in whichever order its services and GPUs stand, unless
 * `shouldStop` ended the search. What hardware forbids is refused; what merely does not fit is placed where it exceeds
 * least, with a warning, unless the request says `overcommit: refuse`.
 */
export function place(request: PlacementRequest, options: PlaceOptions): Placement {
  return placeWith(request.strategy, fleetOf(request, options.catalogue), options);
}

/** The same by a strategy that need not be the request's. */
export function placeWith(strategy: StrategyName, fleet: Fleet, options: PlaceOptions): Placement {
  const { occupancy, bound, nodes } = decide(strategy, fleet, options);
  const isProven = compareScores(occupancy.score(), bound) <= 0;
  return placementOf(occupancy, { strategy, bound: isProven ? occupancy.score() : bound, isProven, nodes });
}

type Decision = { readonly occupancy: Occupancy; readonly bound: Score; readonly nodes: number };

function decide(strategy: StrategyName, fleet: Fleet, { shouldStop, nodeLimit }: PlaceOptions): Decision {
  if (strategy === 'optimal') {
    return optimal(fleet, { shouldStop: shouldStop ?? (() => false), nodeLimit: nodeLimit ?? null });
  }
  const occupancy = rules[strategy](fleet, { shouldStop });
  return { occupancy, bound: quickBound(fleet, occupancy.score()), nodes: 0 };
}
