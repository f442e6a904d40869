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
import { repack } from './repack.js';
import { Search, type SearchTools } from './search.js';
import { type OrderFor, type Region, searchOrderOf } from './search-order.js';
import { type FleetPart, joined, narrowed, partsOf, placedIn } from './smaller-fleet.js';

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
/** Nodes of the search that places a few GPUs of a large fleet anew: most need some dozens. */
const nodesOfRepacking = 600;
/** Services times GPUs above which the dearest bound would take longer than people wait. */
const largestPriced = 50_000;
/** A search of so many nodes is tried before: it takes less time than annealing, and ends it where the fleet is small. */
const nodesAtFirst = 2_000;

/** Of each part before any is searched to the end. */
const nodesInATurn = 30_000;

const isLarge = ({ services }: Fleet): boolean => services.length > largestSearched;

/** Steps of one run: a fifth of a second for 30 services, some seconds for hundreds. */
function annealingSteps(fleet: Fleet): number {
  return Math.min(2_000_000, 3_000 * fleet.services.length);
}

export function optimal(fleet: Fleet, { shouldStop, nodeLimit }: OptimalLimits): Optimum {
  const best = firstPlacements(fleet, shouldStop);
  return improved(best, { shouldStop, nodeLimit: nodeLimit ?? Number.POSITIVE_INFINITY, fullElsewhere: 0 });
}

type Limits = {
  readonly shouldStop: () => boolean;
  readonly nodeLimit: number;
  /** Use of the fullest GPU of other parts: nobody asks for less of this one. */
  readonly fullElsewhere: number;
};

/** The least placement of the best one's fleet, as far as the limits go. */
function improved(from: Occupancy, limits: Limits): Optimum {
  const { nodeLimit } = limits;
  const tools = toolsFor(from.fleet, 'objective');
  let optimum = begun(from, tools);
  let nodes = 0;
  for (const turn of isLarge(from.fleet) ? turns : [tried, searched]) {
    if (optimum.isProven || nodes >= nodeLimit || limits.shouldStop()) break;
    optimum = after(turn, optimum, tools, { ...limits, nodeLimit: nodeLimit - nodes });
    nodes += optimum.nodes;
  }
  return { ...optimum, nodes };
}

/** A placement of which no more is known than what no search is needed for. */
function begun(occupancy: Occupancy, { start, bounds }: SearchTools): Optimum {
  return { occupancy, bound: provableBound(bounds, start, occupancy.score()), isProven: false, nodes: 0 };
}

/** One of several attempts at a placement, the shorter first. Its `nodes` are those of the attempt. */
type Turn = (optimum: Optimum, tools: SearchTools, limits: Limits) => Optimum;

/** What is known after a turn: of two bounds, the one that says more. */
function after(turn: Turn, before: Optimum, tools: SearchTools, limits: Limits): Optimum {
  const now = turn(before, tools, limits);
  return compareScores(before.bound, now.bound) > 0 ? { ...now, bound: before.bound } : now;
}

/** A short search, then annealing where that did not prove it. */
const tried: Turn = (before, tools, limits) => {
  const { fleet } = before.occupancy;
  const nodeLimit = Math.min(limits.nodeLimit, isLarge(fleet) ? 1 : nodesAtFirst);
  const first = prove(before.occupancy, tools, limits, { nodeLimit, effort: 'quick' });
  if (first.isProven || first.nodes >= limits.nodeLimit) return first;
  const runs = isLarge(fleet) ? 1 : mostAnnealings;
  return { ...first, occupancy: annealed(first.occupancy, tools, limits.shouldStop, runs) };
};

const searched: Turn = ({ occupancy }, tools, limits) => {
  const { fleet } = occupancy;
  const isPriced = fleet.services.length * fleet.gpus.length <= largestPriced;
  const effort = isPriced ? 'root' : 'quick';
  return prove(occupancy, tools, limits, { nodeLimit: limits.nodeLimit, effort });
};

/** So far that nobody waits for it for long; of a large fleet, the bound alone. */
const searchedABit: Turn = (optimum, tools, limits) => {
  const nodes = isLarge(optimum.occupancy.fleet) ? 1 : nodesInATurn;
  return searched(optimum, tools, { ...limits, nodeLimit: Math.min(limits.nodeLimit, nodes) });
};

/** A large fleet, a few GPUs at a time, for as long as that helps. */
const repacked: Turn = (before, _, { shouldStop }) => {
  if (!isLarge(before.occupancy.fleet)) return { ...before, nodes: 0 };
  const occupancy = before.occupancy.copy();
  repack(occupancy, { seed: 0, shouldStop, solve: (few, fullElsewhere) => solved(few, { shouldStop, fullElsewhere }) });
  return { ...before, occupancy, nodes: 0 };
};

/** Where parts take turns, or a large fleet is all there is. */
const turns: readonly Turn[] = [tried, searchedABit, repacked, searched];

/** A few GPUs: searched until it is proven, or said to be hard. */
function solved(from: Occupancy, limits: Omit<Limits, 'nodeLimit'>): Occupancy {
  const attempt = { nodeLimit: nodesOfRepacking, effort: 'quick' } as const;
  return prove(from, toolsFor(from.fleet, 'objective'), { ...limits, ...attempt }, attempt).occupancy;
}

type Effort = 'quick' | 'root';

function toolsFor(fleet: Fleet, orderFor: OrderFor): SearchTools {
  const start = nobodyPlaced(fleet);
  const order = searchOrderOf(fleet, openServices(start), orderFor);
  return { start, order, bounds: new Bounds(fleet, order, start.score().refused) };
}

function annealed(from: Occupancy, { start, bounds }: SearchTools, shouldStop: () => boolean, runs: number): Occupancy {
  const steps = annealingSteps(from.fleet);
  let best = from;
  let bound = provableBound(bounds, start, best.score());
  for (let seed = 0; seed < runs && !shouldStop() && compareScores(best.score(), bound) > 0; seed++) {
    const other = best.copy();
    anneal(other, { seed, steps, shouldStop });
    admit(other);
    polish(other, shouldStop);
    const [now, before] = [other.score(), best.score()];
    if (compareScores(now, before) >= 0) continue;
    best = other;
    // What a bound assumes of the components before has changed.
    if (compareScores(now, before, components.length - 2) < 0) bound = provableBound(bounds, start, now);
  }
  return best;
}

/** How far one search goes; parts have the limits of all. */
type Attempt = { readonly nodeLimit: number; readonly effort: Effort };

/** Proves one component after the other, as far as so many nodes go. */
function prove(best: Occupancy, tools: SearchTools, limits: Limits, { nodeLimit, effort }: Attempt): Optimum {
  const { shouldStop, fullElsewhere } = limits;
  const search = new Search(best, { shouldStop, nodeLimit });
  for (let count = 1; count <= components.length; count++) {
    const score = search.best.score();
    const known = knownBefore(score, count);
    if (count === firstWithWalls) {
      const parts = partsOf(withoutOverfull(tools, known));
      if (parts.length > 1)
        return byParts(search.best, parts, { ...limits, nodeLimit: limits.nodeLimit - search.nodes });
    }
    // Another part decides: no placement of this one makes the fullest GPU of all less full.
    const isLast = count === components.length;
    if (isLast && thousandths(score.use) <= thousandths(fullElsewhere)) {
      return { occupancy: search.best, bound: { ...score, use: 0 }, isProven: true, nodes: search.nodes };
    }
    let rootBound = tools.bounds.at(tools.start, 0, { known, count, effort, shouldStop });
    if (isLast) rootBound = { ...rootBound, use: leastUse(tools, score, rootBound.use, { effort, shouldStop }) };
    if (compareScores(rootBound, score, count) >= 0) continue;
    if (!search.prove(count, known, count === 1 ? toolsFor(best.fleet, 'refusals') : tools)) {
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

/** The first component that is looked at when it is known what must be exceeded. */
const firstWithWalls = 3;

/**
 * The fleet without places where anybody would add to what is exceeded: where all that is exceeded is so in regions that ask
 * for more than they have, whoever can be elsewhere is.
 */
function withoutOverfull({ start, order }: SearchTools, { overMb, refused }: Known): Fleet {
  const { fleet } = start;
  const refusedBefore = start.score().refused.reduce((sum, each) => sum + each, 0);
  if (overMb === null || refused > refusedBefore) return fleet;
  const overfull: Region[] = [];
  const inside = new Set<number>();
  for (const region of [...order.regions].sort((a, b) => b.beyondMb - a.beyondMb || a.gpus.length - b.gpus.length)) {
    if (!region.isOverfull || region.gpus.some((gpu) => inside.has(gpu))) continue;
    overfull.push(region);
    for (const gpu of region.gpus) inside.add(gpu);
  }
  const usedBeyondMb = fleet.gpus.reduce((sum, { freeMb }) => sum + Math.max(0, -freeMb), 0);
  const beyondMb = overfull.reduce((sum, region) => sum + region.beyondMb, usedBeyondMb);
  if (overfull.length === 0 || beyondMb < overMb) return fleet;
  const stays = new Map<readonly number[], boolean>();
  return narrowed(fleet, ({ options, isPinned }, gpu) => {
    if (isPinned || !inside.has(gpu)) return true;
    const known = stays.get(options) ?? overfull.some(({ gpus }) => options.every((other) => gpus.includes(other)));
    stays.set(options, known);
    return known;
  });
}

/**
 * Each part on its own, in turns that get longer, so that none takes all the time. That of the fullest GPU comes first: of
 * the others no more is asked than not to be fuller.
 */
function byParts(whole: Occupancy, parts: readonly FleetPart[], limits: Limits): Optimum {
  const open = parts
    .map((part) => {
      const tools = toolsFor(part.fleet, 'objective');
      return { part, tools, optimum: begun(placedIn(part, whole), tools) };
    })
    .sort((a, b) => b.optimum.occupancy.score().use - a.optimum.occupancy.score().use);
  let nodes = 0;
  for (const turn of turns) {
    for (const each of open) {
      if (each.optimum.isProven || nodes >= limits.nodeLimit || limits.shouldStop()) continue;
      const others = open.filter((other) => other !== each && other.optimum.isProven);
      const fullElsewhere = others.reduce(
        (most, { optimum }) => Math.max(most, optimum.occupancy.score().use),
        limits.fullElsewhere,
      );
      each.optimum = after(turn, each.optimum, each.tools, {
        ...limits,
        nodeLimit: limits.nodeLimit - nodes,
        fullElsewhere,
      });
      nodes += each.optimum.nodes;
    }
  }
  return {
    occupancy: joined(
      whole.fleet,
      open.map(({ part, optimum }) => [part, optimum.occupancy] as const),
    ),
    bound: sumOf(open.map(({ optimum }) => optimum.bound)),
    isProven: open.every(({ optimum }) => optimum.isProven),
    nodes,
  };
}

/** Bounds of parts bound the whole: where one of them is worse in a component, so is the sum, and the fullest GPU is a part's. */
function sumOf(bounds: readonly Score[]): Score {
  const add = (of: (bound: Score) => number): number => bounds.reduce((sum, bound) => sum + of(bound), 0);
  return {
    refused: bounds[0]!.refused.map((_, i) => add(({ refused }) => refused[i]!)),
    overMb: add(({ overMb }) => overMb),
    shrunkMb: add(({ shrunkMb }) => shrunkMb),
    slowness: add(({ slowness }) => slowness),
    use: Math.max(...bounds.map(({ use }) => use)),
  };
}

/** Halvings of what lies between the bound and the use that is known: a thousandth of what was a whole GPU. */
const halvings = 9;

/** The least use that no bound on slowness rules out: what critical services need at their best leaves others so much. */
function leastUse(
  { start, bounds }: SearchTools,
  score: Score,
  atLeast: number,
  { effort, shouldStop }: { readonly effort: Effort; readonly shouldStop: () => boolean },
): number {
  let low = atLeast;
  let high = score.use;
  for (let i = 0; i < halvings && thousandths(low) + 1 < thousandths(high) && !shouldStop(); i++) {
    const middle = (low + high) / 2;
    const known = { ...knownBefore(score, components.length), expectedUse: middle };
    const { use } = bounds.at(start, 0, { known, count: components.length, effort, shouldStop });
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
  const { start, bounds } = toolsFor(fleet, 'objective');
  return provableBound(bounds, start, score);
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
  // Polishing each rule's takes seconds in a large fleet, and annealing forgets where it began: there the best of the quick ones is.
  const polishesEach = !isLarge(fleet);
  let best = vram_based(fleet);
  const offer = (found: Occupancy): void => {
    if (compareScores(found.score(), best.score()) < 0) best = found;
  };
  if (polishesEach) offer(polishedCopy(best, shouldStop));
  for (const rule of [latency_optimized, isolation_first, manual]) {
    if (shouldStop()) return best;
    const found = rule(fleet);
    offer(found);
    if (polishesEach) offer(polishedCopy(found, shouldStop));
  }
  if (!polishesEach) offer(polishedCopy(best, shouldStop));
  if (shouldStop()) return best;
  const found = balanced(fleet, { shouldStop });
  offer(found);
  if (polishesEach) offer(polishedCopy(found, shouldStop));
  return best;
}

function polishedCopy(occupancy: Occupancy, shouldStop: () => boolean): Occupancy {
  const polished = occupancy.copy();
  if (!shouldStop()) admit(polished);
  polish(polished, shouldStop);
  return polished;
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
