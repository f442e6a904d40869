import type { Fleet } from '../fleet.js';
import { improve, type Judge } from '../improve.js';
import { cpuSlowness, isRefused, Occupancy } from '../occupancy.js';
import { compareScores, components, type Score } from '../score.js';
import { openServices, withPins } from '../strategies/filling.js';
import { rules } from '../strategies/strategies.js';
import { admit } from './admit.js';
import { anneal } from './anneal.js';
import { Bounds, type Known } from './bounds.js';
import { Search } from './search.js';
import { searchOrderOf } from './search-order.js';

/**
 * The placement that is least in the objective, component by component.
 *
 * First every rule is tried and what it finds is improved by moves and swaps; then a branch and bound proves one component
 * after the other: with those before at their proven least, or finds better. Where a limit ends it, the best that is known
 * stays, with a bound on the first component that is open.
 */
export type Optimum = {
  readonly occupancy: Occupancy;
  readonly bound: Score;
  readonly isProven: boolean;
  readonly nodes: number;
};

export type OptimalLimits = { readonly shouldStop: () => boolean; readonly nodeLimit: number | null };

/** Runs of annealing before the search begins, each from the best so far. */
const mostAnnealings = 2;
/** Of more services, a proof is out of reach: the time is better spent on finding. */
const largestSearched = 80;
const mostLargeRuns = 6;

/** Steps of one run: a fifth of a second for 30 services, some seconds for hundreds. */
function annealingSteps(fleet: Fleet): number {
  return Math.min(2_000_000, 3_000 * fleet.services.length);
}

export function optimal(fleet: Fleet, { shouldStop, nodeLimit }: OptimalLimits): Optimum {
  const start = nobodyPlaced(fleet);
  const refusedBefore = start.score().refused;
  const orders = {
    refusals: searchOrderOf(fleet, openServices(start), 'refusals'),
    objective: searchOrderOf(fleet, openServices(start), 'objective'),
  };
  const bounds = new Bounds(fleet, orders.objective, refusedBefore);
  let best = firstPlacements(fleet, shouldStop);
  let bound = provableBound(bounds, start, best.score());
  const steps = annealingSteps(fleet);
  const mostRuns = fleet.services.length > largestSearched ? mostLargeRuns : mostAnnealings;
  for (let seed = 0; seed < mostRuns && !shouldStop() && compareScores(best.score(), bound) > 0; seed++) {
    const other = best.copy();
    anneal(other, { seed, steps, shouldStop });
    admit(other);
    improve(other, objectiveJudge, { shouldStop });
    const [now, before] = [other.score(), best.score()];
    if (compareScores(now, before) >= 0) continue;
    best = other;
    // What a bound assumes of the components before has changed.
    if (compareScores(now, before, components.length - 2) < 0) bound = provableBound(bounds, start, now);
  }
  const limits = { shouldStop, nodeLimit: nodeLimit ?? Number.POSITIVE_INFINITY };
  const search = new Search({ occupancy: start, best }, limits);
  for (let count = 1; count <= components.length; count++) {
    const score = search.best.score();
    const known = knownBefore(score, count);
    const rootBound = bounds.at(start, 0, { known, count, effort: 'root', shouldStop });
    if (compareScores(rootBound, score, count) >= 0) continue;
    const order = count === 1 ? orders.refusals : orders.objective;
    const tools = { order, bounds: count === 1 ? new Bounds(fleet, order, refusedBefore) : bounds };
    if (!search.prove(count, known, tools)) {
      return {
        occupancy: search.best,
        bound: openBound(rootBound, score, count),
        isProven: false,
        nodes: search.nodes,
      };
    }
    // What the search found was good in the components up to here; the later ones can often be had by moves.
    const polished = search.best.copy();
    improve(polished, objectiveJudge, { shouldStop });
    search.offer(polished);
  }
  return { occupancy: search.best, bound: search.best.score(), isProven: true, nodes: search.nodes };
}

/**
 * What no placement of the fleet is better than, without a search.
 *
 * Each component is bounded as if the score had the least of those before; where it has not, the bound is less in an
 * earlier one and the later ones say nothing.
 */
export function quickBound(fleet: Fleet, score: Score): Score {
  const start = nobodyPlaced(fleet);
  const order = searchOrderOf(fleet, openServices(start), 'objective');
  return provableBound(new Bounds(fleet, order, start.score().refused), start, score);
}

function provableBound(bounds: Bounds, start: Occupancy, score: Score): Score {
  for (let count = 1; count < components.length; count++) {
    const bound = bounds.at(start, 0, { known: knownBefore(score, count), count, effort: 'quick' });
    if (compareScores(bound, score, count) < 0) return openBound(bound, score, count);
  }
  const count = components.length;
  return bounds.at(start, 0, { known: knownBefore(score, count), count, effort: 'quick' });
}

/** Components before the open one are proven; those after it are not bounded. */
function openBound(bound: Score, proven: Score, count: number): Score {
  return {
    refused: count > 1 ? proven.refused : bound.refused,
    overMb: count > 2 ? proven.overMb : count === 2 ? bound.overMb : 0,
    shrunkMb: count > 3 ? proven.shrunkMb : count === 3 ? bound.shrunkMb : 0,
    slowness: count > 4 ? proven.slowness : count === 4 ? bound.slowness : 0,
    use: count === 5 ? bound.use : 0,
  };
}

function knownBefore(score: Score, count: number): Known {
  return {
    refused: count > 1 ? score.refused.reduce((sum, each) => sum + each, 0) : 0,
    overMb: count > 2 ? score.overMb : null,
    shrunkMb: count > 3 ? score.shrunkMb : null,
    slowness: count > 4 ? score.slowness : null,
    expectedSlowness: score.slowness,
    expectedUse: score.use,
  };
}

/** Nobody placed; those whom no GPU may ever take are refused. */
function nobodyPlaced(fleet: Fleet): Occupancy {
  const occupancy = new Occupancy(fleet);
  for (const service of fleet.services) {
    if (service.options.length === 0 && !service.mayUseCpu) occupancy.settle(service, isRefused);
  }
  return occupancy;
}

function firstPlacements(fleet: Fleet, shouldStop: () => boolean): Occupancy {
  let best: Occupancy | null = null;
  for (const rule of Object.values(rules)) {
    const found = rule(fleet);
    const improved = found.copy();
    admit(improved);
    improve(improved, objectiveJudge, { shouldStop });
    for (const each of [found, improved]) {
      if (best === null || compareScores(each.score(), best.score()) < 0) best = each;
    }
  }
  return best ?? withPins(fleet);
}

/** Large uses weigh so much more than small ones that the largest decides. */
const useExponent = 16;

/** The objective after what is exceeded and shrunk, made smooth. */
const objectiveJudge: Judge = {
  measure: (occupancy, gpu, load, services, critical) => [
    (critical * services) / occupancy.fleet.gpus[gpu]!.speed,
    occupancy.relativeUse(gpu, load) ** useExponent,
  ],
  value: ([slowness = 0, uses = 0, cpuCritical = 0]) => [slowness + cpuSlowness * cpuCritical, uses],
};
