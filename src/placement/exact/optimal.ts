import type { Fleet } from '../fleet.js';
import { improve, type Judge } from '../improve.js';
import { cpuSlowness, isRefused, Occupancy } from '../occupancy.js';
import { compareScores, components, type Score, thousandths } from '../score.js';
import { openServices } from '../strategies/filling.js';
import { rules } from '../strategies/strategies.js';
import { admit } from './admit.js';
import { anneal } from './anneal.js';
import { Bounds, type Known } from './bounds.js';
import { level } from './level.js';
import { Search, type SearchTools } from './search.js';
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
/** Services times GPUs above which the dearest bound would take longer than people wait. */
const largestPriced = 50_000;
/** A search of so many nodes is tried before: it takes less time than annealing, and ends it where the fleet is small. */
const nodesAtFirst = 2_000;

/** Steps of one run: a fifth of a second for 30 services, some seconds for hundreds. */
function annealingSteps(fleet: Fleet): number {
  return Math.min(2_000_000, 3_000 * fleet.services.length);
}

export function optimal(fleet: Fleet, { shouldStop, nodeLimit }: OptimalLimits): Optimum {
  const start = nobodyPlaced(fleet);
  const refusedBefore = start.score().refused;
  const refusals = searchOrderOf(fleet, openServices(start), 'refusals');
  const objective = searchOrderOf(fleet, openServices(start), 'objective');
  const proving: Proving = {
    start,
    refusals: { order: refusals, bounds: new Bounds(fleet, refusals, refusedBefore) },
    objective: { order: objective, bounds: new Bounds(fleet, objective, refusedBefore) },
    shouldStop,
  };
  let best = firstPlacements(fleet, shouldStop);
  const most = nodeLimit ?? Number.POSITIVE_INFINITY;
  const isSmall = fleet.services.length <= largestSearched;
  const first = isSmall ? prove(proving, best, Math.min(most, nodesAtFirst), 'quick') : null;
  if (first !== null && (first.isProven || first.nodes >= most)) return first;
  best = annealed(fleet, first?.occupancy ?? best, proving, isSmall ? mostAnnealings : mostLargeRuns);
  const spent = first?.nodes ?? 0;
  const isLarge = fleet.services.length * fleet.gpus.length > largestPriced;
  const last = prove(proving, best, most - spent, isLarge ? 'quick' : 'root');
  return { ...last, nodes: spent + last.nodes };
}

type Effort = 'quick' | 'root';

type Proving = {
  readonly start: Occupancy;
  readonly refusals: SearchTools;
  readonly objective: SearchTools;
  readonly shouldStop: () => boolean;
};

function annealed(fleet: Fleet, from: Occupancy, { start, objective, shouldStop }: Proving, runs: number): Occupancy {
  const steps = annealingSteps(fleet);
  let best = from;
  let bound = provableBound(objective.bounds, start, best.score());
  for (let seed = 0; seed < runs && !shouldStop() && compareScores(best.score(), bound) > 0; seed++) {
    const other = best.copy();
    anneal(other, { seed, steps, shouldStop });
    admit(other);
    polish(other, shouldStop);
    const [now, before] = [other.score(), best.score()];
    if (compareScores(now, before) >= 0) continue;
    best = other;
    // What a bound assumes of the components before has changed.
    if (compareScores(now, before, components.length - 2) < 0) bound = provableBound(objective.bounds, start, now);
  }
  return best;
}

/** Proves one component after the other, as far as so many nodes go. */
function prove(proving: Proving, best: Occupancy, nodeLimit: number, effort: Effort): Optimum {
  const { start, objective, shouldStop } = proving;
  const search = new Search({ occupancy: start, best }, { shouldStop, nodeLimit });
  for (let count = 1; count <= components.length; count++) {
    const score = search.best.score();
    const known = knownBefore(score, count);
    let rootBound = objective.bounds.at(start, 0, { known, count, effort, shouldStop });
    if (count === components.length) rootBound = { ...rootBound, use: leastUse(proving, score, rootBound.use, effort) };
    if (compareScores(rootBound, score, count) >= 0) continue;
    if (!search.prove(count, known, count === 1 ? proving.refusals : objective)) {
      const bound = openBound(rootBound, score, count);
      return { occupancy: search.best, bound, isProven: false, nodes: search.nodes };
    }
    // What the search found was good in the components up to here; the later ones can often be had by moves.
    const polished = search.best.copy();
    polish(polished, shouldStop);
    search.offer(polished);
  }
  return { occupancy: search.best, bound: search.best.score(), isProven: true, nodes: search.nodes };
}

/** Halvings of what lies between the bound and the use that is known: a thousandth of what was a whole GPU. */
const halvings = 9;

/** The least use that no bound on slowness rules out: what critical services need at their best leaves others so much. */
function leastUse({ start, objective, shouldStop }: Proving, score: Score, atLeast: number, effort: Effort): number {
  let low = atLeast;
  let high = score.use;
  for (let i = 0; i < halvings && thousandths(low) + 1 < thousandths(high) && !shouldStop(); i++) {
    const middle = (low + high) / 2;
    const known = { ...knownBefore(score, components.length), expectedUse: middle };
    const { use } = objective.bounds.at(start, 0, { known, count: components.length, effort, shouldStop });
    if (use >= middle) low = middle;
    else high = middle;
  }
  return low;
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

/** What the rules find, the quick ones first; once time is up, those that are left are not tried. */
function firstPlacements(fleet: Fleet, shouldStop: () => boolean): Occupancy {
  const { vram_based, latency_optimized, isolation_first, manual, balanced } = rules;
  let best: Occupancy | null = null;
  for (const rule of [vram_based, latency_optimized, isolation_first, manual, balanced]) {
    if (best !== null && shouldStop()) break;
    const found = rule(fleet, { shouldStop });
    const improved = found.copy();
    if (!shouldStop()) admit(improved);
    polish(improved, shouldStop);
    for (const each of [found, improved]) {
      if (best === null || compareScores(each.score(), best.score()) < 0) best = each;
    }
  }
  return best!;
}

function polish(occupancy: Occupancy, shouldStop: () => boolean): void {
  improve(occupancy, objectiveJudge, { shouldStop });
  level(occupancy, shouldStop);
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
