import type { Fleet, FleetService } from '../fleet.js';
import { cpuSlowness, isRefused, type Occupancy, onCpu } from '../occupancy.js';
import { type Score, slownessTolerance } from '../score.js';
import type { SearchOrder } from './search-order.js';

/**
 * What no completion of a partial placement can be better than, component by component.
 *
 * Each bound relaxes the rest: services to come are poured like water into the GPUs that may take them. A bound of a later
 * component may assume that the earlier ones are at their proven least (`Known`), since the search compares in order:
 * where nothing is exceeded, memory is a wall, and a critical service's GPU takes only what its slowness allows.
 */
export type Known = {
  /** Services that are refused in all; 0 where that is not proven, since then no later component is looked at. */
  readonly refused: number;
  /** Proven least [MiB]; null = not proven yet. */
  readonly overMb: number | null;
  readonly shrunkMb: number | null;
  readonly slowness: number | null;
};

export class Bounds {
  readonly #fleet: Fleet;
  readonly #order: SearchOrder;
  /** Refused before the search began: no GPU may ever take them. */
  readonly #refusedBefore: readonly number[];
  readonly #levels: readonly Level[];
  /** Where services that are neither pinned nor critical begin; they come in descending size. */
  readonly #firstOther: number;
  readonly #prefixMb: Float64Array;
  /** The largest service to come, at each depth [MiB]. */
  readonly #largestMb: Float64Array;

  constructor(fleet: Fleet, order: SearchOrder, refusedBefore: readonly number[]) {
    this.#fleet = fleet;
    this.#order = order;
    this.#refusedBefore = refusedBefore;
    this.#levels = fleet.refusesOvercommit ? levelsOf(fleet, order.services) : [];
    const { services } = order;
    const firstOther = services.findIndex(({ critical, isPinned }) => !critical && !isPinned);
    this.#firstOther = firstOther === -1 ? services.length : firstOther;
    this.#prefixMb = new Float64Array(services.length + 1);
    this.#largestMb = new Float64Array(services.length + 1);
    for (let i = 0; i < services.length; i++) this.#prefixMb[i + 1] = this.#prefixMb[i]! + services[i]!.memoryMb;
    for (let i = services.length - 1; i >= 0; i--) {
      this.#largestMb[i] = Math.max(this.#largestMb[i + 1]!, services[i]!.memoryMb);
    }
  }

  /**
   * @param depth services of the search order that are decided
   * @param count components that are looked at; the others are 0
   */
  at(occupancy: Occupancy, depth: number, known: Known, count: number): Score {
    const bound = { refused: this.#refused(occupancy, depth), overMb: 0, shrunkMb: 0, slowness: 0, use: 0 };
    if (count === 1) return bound;
    let refusedSoFar = 0;
    for (const each of bound.refused) refusedSoFar += each;
    const toRefuse = Math.max(0, known.refused - refusedSoFar);
    // Nobody knows which: the largest may go.
    const goneMb = toRefuse * this.#largestMb[depth]!;
    const { gpus, refusesOvercommit } = this.#fleet;
    let overMb = 0;
    let shrunkMb = 0;
    for (const { at } of gpus) {
      const load = occupancy.loadOf(at);
      overMb += load.overMb;
      shrunkMb += load.shrunkMb;
    }
    bound.overMb = overMb;
    if (!refusesOvercommit) bound.overMb += this.#mostBeyond(occupancy, depth, 'minMb', goneMb);
    if (count === 2) return bound;
    bound.shrunkMb = shrunkMb;
    if (known.overMb !== null) {
      const togetherMb = overMb + shrunkMb + this.#mostBeyond(occupancy, depth, 'askedMb', goneMb);
      bound.shrunkMb = Math.max(shrunkMb, togetherMb - known.overMb);
    }
    if (count === 3) return bound;
    const current = this.#currentSlowness(occupancy);
    bound.slowness = current + this.#moreSlowness(occupancy, depth, known, { toRefuse, goneMb });
    if (count > 4) bound.use = this.#use(occupancy, depth, known, { current, goneMb });
    return bound;
  }

  #refused(occupancy: Occupancy, depth: number): readonly number[] {
    const { priorities, refusesOvercommit, gpus } = this.#fleet;
    const refused = [...this.#refusedBefore];
    const { services } = this.#order;
    for (let i = 0; i < depth; i++) {
      if (occupancy.placeOf(services[i]!) === isRefused) refused[priorities.indexOf(services[i]!.priority)]! += 1;
    }
    if (!refusesOvercommit) return refused;
    let freeMb = 0;
    for (const { at, freeMb: own } of gpus) {
      if (!occupancy.isClosed(at)) freeMb += Math.max(0, own - occupancy.minMb(at));
    }
    // Where those of a priority and above do not fit, some must go; the fewest are the largest of the lowest of them.
    for (let level = 0; level < this.#levels.length; level++) {
      const { minMb, largestMb } = this.#levels[level]!;
      const excessMb = minMb[depth]! - freeMb;
      if (excessMb <= 0) continue;
      refused[level]! += Math.max(1, Math.ceil(excessMb / largestMb[depth]! - 1e-9));
      break;
    }
    return refused;
  }

  /** What of the services to come finds no free memory in the region that they cannot leave; of the worst region. */
  #mostBeyond(occupancy: Occupancy, depth: number, which: 'askedMb' | 'minMb', goneMb: number): number {
    const { gpus } = this.#fleet;
    let most = 0;
    for (const region of this.#order.regions) {
      const comingMb = region[which][depth]! - goneMb;
      if (comingMb <= most) continue;
      let freeMb = 0;
      for (const gpu of region.gpus) {
        if (occupancy.isClosed(gpu)) continue;
        const taken = which === 'askedMb' ? occupancy.loadOf(gpu).assignedMb : occupancy.minMb(gpu);
        freeMb += Math.max(0, gpus[gpu]!.freeMb - taken);
      }
      most = Math.max(most, comingMb - freeMb);
    }
    return most;
  }

  #currentSlowness(occupancy: Occupancy): number {
    let slowness = 0;
    for (const { at, speed } of this.#fleet.gpus) {
      slowness += (occupancy.criticalCount(at) * occupancy.count(at)) / speed;
    }
    for (const service of this.#order.services) {
      if (service.critical && occupancy.placeOf(service) === onCpu) slowness += cpuSlowness;
    }
    return slowness;
  }

  /** What the services to come add to it at least. */
  #moreSlowness(occupancy: Occupancy, depth: number, known: Known, { toRefuse, goneMb }: Refusals): number {
    const left = this.#order.criticalLeft[depth]! - toRefuse;
    if (left > 0) {
      const together = this.#criticalTogether(occupancy, left);
      return toRefuse > 0 ? together : Math.max(together, this.#criticalEach(occupancy, depth, known));
    }
    const isPastCritical = this.#order.criticalLeft[depth] === 0 && depth >= this.#firstOther;
    return known.overMb === 0 && isPastCritical ? this.#beside(occupancy, depth, known, goneMb) : 0;
  }

  /** The cheapest seats for so many critical services, if each could sit anywhere: the next on a GPU costs 2/speed more. */
  #criticalTogether(occupancy: Occupancy, left: number): number {
    const { gpus } = this.#fleet;
    const next = gpus.map(({ at, speed }) =>
      occupancy.isClosed(at)
        ? Number.POSITIVE_INFINITY
        : (occupancy.criticalCount(at) + occupancy.count(at) + 1) / speed,
    );
    let sum = 0;
    for (let k = 0; k < left; k++) {
      let best = -1;
      for (let g = 0; g < next.length; g++) if (best === -1 || next[g]! < next[best]!) best = g;
      const cost = best === -1 ? cpuSlowness : Math.min(cpuSlowness, next[best]!);
      sum += cost;
      if (best === -1 || next[best]! >= cpuSlowness) continue;
      next[best]! += gpus[best]!.takesOne ? Number.POSITIVE_INFINITY : 2 / gpus[best]!.speed;
    }
    return sum;
  }

  /** Each critical service on the best GPU that may still take it, as if it were the only one to come. */
  #criticalEach(occupancy: Occupancy, depth: number, known: Known): number {
    const { gpus } = this.#fleet;
    const { services } = this.#order;
    const hasWalls = known.overMb === 0 || this.#fleet.refusesOvercommit;
    const asAsked = known.shrunkMb === 0;
    let sum = 0;
    for (let i = depth; i < services.length; i++) {
      const service = services[i]!;
      if (i >= this.#firstOther) break;
      if (!service.critical) continue;
      let best = service.mayUseCpu ? cpuSlowness : Number.POSITIVE_INFINITY;
      for (const gpu of service.options) {
        if (occupancy.isClosed(gpu)) continue;
        const { freeMb, speed } = gpus[gpu]!;
        if (hasWalls && occupancy.minMb(gpu) + service.minMb > freeMb) continue;
        if (hasWalls && asAsked && occupancy.askedMb(gpu) + service.memoryMb > freeMb) continue;
        best = Math.min(best, (occupancy.criticalCount(gpu) + occupancy.count(gpu) + 1) / speed);
      }
      // None: it will be refused, or something is exceeded, which the components before tell.
      if (best !== Number.POSITIVE_INFINITY) sum += best;
    }
    return sum;
  }

  /** What does not fit where nobody is critical must go beside somebody who is: the fewest services, the cheapest GPU. */
  #beside(occupancy: Occupancy, depth: number, known: Known, goneMb: number): number {
    const { gpus } = this.#fleet;
    const isAsked = known.shrunkMb === 0;
    const [all] = this.#order.regions;
    let freeMb = 0;
    let cheapest = Number.POSITIVE_INFINITY;
    for (const { at, freeMb: own, speed } of gpus) {
      if (occupancy.isClosed(at)) continue;
      const critical = occupancy.criticalCount(at);
      if (critical > 0) cheapest = Math.min(cheapest, critical / speed);
      else freeMb += Math.max(0, own - (isAsked ? occupancy.askedMb(at) : occupancy.minMb(at)));
    }
    const comingMb = (isAsked ? all!.askedMb[depth]! : all!.minMb[depth]!) - goneMb;
    if (comingMb <= freeMb || cheapest === Number.POSITIVE_INFINITY) return 0;
    return this.#fewest(depth, comingMb - freeMb) * cheapest;
  }

  /** The fewest services to come that ask for so much: the next ones, since the largest come first. */
  #fewest(depth: number, excessMb: number): number {
    let count = 0;
    while (depth + count < this.#order.services.length && this.#nextMb(depth, count) < excessMb) count += 1;
    return count;
  }

  /** What the next services ask for [MiB]. */
  #nextMb(depth: number, count: number): number {
    const prefix = this.#prefixMb;
    return prefix[Math.min(prefix.length - 1, depth + count)]! - prefix[depth]!;
  }

  #use(
    occupancy: Occupancy,
    depth: number,
    known: Known,
    { current, goneMb }: { readonly current: number; readonly goneMb: number },
  ): number {
    const { gpus } = this.#fleet;
    const { regions, criticalLeft } = this.#order;
    let use = 0;
    for (const { at } of gpus) use = Math.max(use, occupancy.relativeUse(at));
    const isAsked = known.shrunkMb === 0;
    // Beside a critical service, the slowness that is left buys seats for few or none.
    const isPastCritical = criticalLeft[depth] === 0 && depth >= this.#firstOther;
    const spare =
      known.slowness === null || !isPastCritical
        ? Number.POSITIVE_INFINITY
        : known.slowness - current + slownessTolerance * Math.max(1, known.slowness);
    for (const region of regions) {
      if (region.count[depth] === 0) continue;
      const comingMb = (isAsked ? region.askedMb[depth]! : region.minMb[depth]!) - goneMb;
      let openTakenMb = 0;
      let openMb = 0;
      let apartTakenMb = 0;
      let apartMb = 0;
      let cheapest = Number.POSITIVE_INFINITY;
      for (const gpu of region.gpus) {
        if (occupancy.isClosed(gpu)) continue;
        const { usedMb, memoryMb, speed } = gpus[gpu]!;
        const takenMb = usedMb + (isAsked ? occupancy.askedMb(gpu) : occupancy.minMb(gpu));
        const cost = occupancy.criticalCount(gpu) / speed;
        if (cost <= spare) {
          openTakenMb += takenMb;
          openMb += memoryMb;
        }
        if (cost === 0) {
          apartTakenMb += takenMb;
          apartMb += memoryMb;
        } else cheapest = Math.min(cheapest, cost);
      }
      if (openMb > 0) use = Math.max(use, (openTakenMb + comingMb) / openMb);
      if (spare === Number.POSITIVE_INFINITY || apartMb === 0) continue;
      const seats = cheapest === Number.POSITIVE_INFINITY ? 0 : Math.floor(spare / cheapest);
      use = Math.max(use, (apartTakenMb + comingMb - this.#nextMb(depth, seats)) / apartMb);
    }
    return use;
  }
}

/** Services to come that will be refused, and what they may have asked for [MiB]. */
type Refusals = { readonly toRefuse: number; readonly goneMb: number };

/** Of the services of a priority and above: what they need at least to come, and the largest of the priority itself. */
type Level = { readonly minMb: Float64Array; readonly largestMb: Float64Array };

function levelsOf(fleet: Fleet, services: readonly FleetService[]): readonly Level[] {
  return fleet.priorities.map((priority) => {
    const minMb = new Float64Array(services.length + 1);
    const largestMb = new Float64Array(services.length + 1);
    for (let i = services.length - 1; i >= 0; i--) {
      const service = services[i]!;
      const counts = service.priority >= priority && !service.mayUseCpu;
      minMb[i] = minMb[i + 1]! + (counts ? service.minMb : 0);
      largestMb[i] = Math.max(largestMb[i + 1]!, service.priority === priority ? service.minMb : 0);
    }
    return { minMb, largestMb };
  });
}
