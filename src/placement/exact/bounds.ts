import type { Fleet, FleetService } from '../fleet.js';
import { isRefused, type Occupancy } from '../occupancy.js';
import { type Score, slownessTolerance, thousandths } from '../score.js';
import { AssignmentBound } from './assignment-bound.js';
import type { SearchOrder } from './search-order.js';
import { currentSlowness, SeatBound } from './seat-bound.js';

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
  /** Of the best placement known. */
  readonly expectedSlowness: number;
  readonly expectedUse: number;
};

export type BoundQuestion = {
  readonly known: Known;
  /** Components that are looked at; the others are 0. */
  readonly count: number;
  /** Only whether the bound reaches this score is asked; null = the bound itself. */
  readonly least?: Score | null;
  /** How much work the dearest part of it may be. */
  readonly effort?: 'quick' | 'node' | 'root';
  readonly shouldStop?: () => boolean;
};

const never = (): boolean => false;

/**
 * Steps towards the best prices: once for the whole fleet, at each node from where its parent ended, and some more where
 * the last critical service has its place, since a packing of all others depends on it.
 */
const rootSteps = 600;
const nodeSteps = 12;
const lastCriticalSteps = 40;

export class Bounds {
  readonly #fleet: Fleet;
  readonly #order: SearchOrder;
  /** Refused before the search began: no GPU may ever take them. */
  readonly #refusedBefore: readonly number[];
  readonly #levels: readonly Level[];
  readonly #seats: SeatBound;
  readonly #assignment: AssignmentBound;
  readonly #prefixMb: Float64Array;
  /** Walls of each GPU [MiB]: of memory, and below some use. */
  readonly #memoryMb: Float64Array;
  readonly #wallsMb: Float64Array;
  readonly #wallsFor: { overMb: number | null; refused: number; use: number | null } = {
    overMb: null,
    refused: 0,
    use: null,
  };
  /** The largest service to come, at each depth [MiB]. */
  readonly #largestMb: Float64Array;

  constructor(fleet: Fleet, order: SearchOrder, refusedBefore: readonly number[]) {
    this.#fleet = fleet;
    this.#order = order;
    this.#refusedBefore = refusedBefore;
    this.#levels = fleet.refusesOvercommit ? levelsOf(fleet, order.services) : [];
    const { services } = order;
    this.#seats = new SeatBound(fleet, order);
    this.#assignment = new AssignmentBound(fleet, order);
    this.#memoryMb = Float64Array.from(fleet.gpus, ({ freeMb }) => freeMb);
    this.#wallsMb = new Float64Array(fleet.gpus.length);
    this.#prefixMb = new Float64Array(services.length + 1);
    this.#largestMb = new Float64Array(services.length + 1);
    for (let i = 0; i < services.length; i++) this.#prefixMb[i + 1] = this.#prefixMb[i]! + services[i]!.memoryMb;
    for (let i = services.length - 1; i >= 0; i--) {
      this.#largestMb[i] = Math.max(this.#largestMb[i + 1]!, services[i]!.memoryMb);
    }
  }

  /**
   * @param depth services of the search order that are decided
   */
  at(occupancy: Occupancy, depth: number, question: BoundQuestion): Score {
    const { known, count, least = null } = question;
    const refused = this.#refusedSoFar(occupancy, depth);
    let toRefuse = known.refused;
    for (const each of refused) toRefuse -= each;
    toRefuse = Math.max(0, toRefuse);
    this.#addForcedRefusals(refused, occupancy, depth);
    const bound = { refused, overMb: 0, shrunkMb: 0, slowness: 0, use: 0 };
    if (count === 1) return bound;
    // Nobody knows which: the largest may go.
    const goneMb = toRefuse * this.#largestMb[depth]!;
    const { gpus, refusesOvercommit } = this.#fleet;
    let overMb = 0;
    let shrunkMb = 0;
    for (const { at, cut } of gpus) {
      const load = occupancy.loadOf(at);
      overMb += load.overMb;
      // One instance more may be laid out so that another is larger: only the last word counts.
      if (cut === null || depth === this.#order.services.length) shrunkMb += load.shrunkMb;
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
    const current = currentSlowness(occupancy, this.#order);
    const refusals = { toRefuse, goneMb };
    if (count === 4) {
      const enough = least === null ? null : least.slowness - current;
      bound.slowness =
        current +
        this.#moreSlowness(occupancy, depth, question, { ...refusals, current, enough, wallsMb: this.#wallsOf(known) });
      return bound;
    }
    bound.slowness = Math.max(current, known.slowness ?? 0);
    bound.use = this.#use(occupancy, depth, known, { current, goneMb });
    const use = least?.use ?? known.expectedUse;
    if (known.slowness === null || thousandths(bound.use) >= thousandths(use)) return bound;
    // Whatever fills no GPU so far makes critical services slower than they need be: then none fills them less.
    const enough = known.slowness - current + slownessTolerance * Math.max(1, known.slowness) * 2;
    const wallsMb = this.#wallsBelow(use, known);
    const more = this.#moreSlowness(occupancy, depth, question, { ...refusals, current, enough, wallsMb });
    if (more >= enough) bound.use = use;
    return bound;
  }

  /** What the services to come add to the slowness at least, within walls. */
  #moreSlowness(occupancy: Occupancy, depth: number, question: BoundQuestion, about: SlownessQuestion): number {
    const { known, effort = 'node', shouldStop = never } = question;
    const { toRefuse, goneMb, current, enough, wallsMb } = about;
    const more = this.#seats.more(occupancy, depth, { known, toRefuse, goneMb, enough, wallsMb });
    const steps = this.#steps(depth, effort);
    // Dearer to reckon: asked only where critical services are to come or have just come, and where it may decide.
    if (steps === 0 || known.overMb === null || (enough !== null && more >= enough)) return more;
    const byPrices = this.#assignment.more(occupancy, depth, {
      wallsMb,
      isAsked: known.shrunkMb === 0,
      toRefuse,
      target: enough ?? Math.max(0, known.expectedSlowness - current),
      steps,
      shouldStop: effort === 'root' ? shouldStop : never,
      mayGiveUp: effort !== 'root',
    });
    return Math.max(more, byPrices);
  }

  /**
   * What services may take of each GPU [MiB]: what is free, and as much more as all GPUs together are exceeded by, less
   * what is exceeded for certain in a region that it is not in, whoever is refused.
   */
  #wallsOf({ overMb, refused }: Known): Float64Array {
    const made = this.#wallsFor;
    if (overMb === null || (made.overMb === overMb && made.refused === refused)) return this.#memoryMb;
    made.overMb = overMb;
    made.refused = refused;
    made.use = null;
    const { gpus } = this.#fleet;
    let toRefuse = refused;
    for (const each of this.#refusedBefore) toRefuse -= each;
    const goneMb = Math.max(0, toRefuse) * this.#largestMb[0]!;
    const usedBeyondMb = gpus.reduce((sum, { freeMb }) => sum + Math.max(0, -freeMb), 0);
    for (const { at, freeMb } of gpus) {
      let elsewhereMb = 0;
      for (const { gpus: inside, beyondMb } of this.#order.regions) {
        if (beyondMb - goneMb > elsewhereMb && !inside.includes(at)) elsewhereMb = beyondMb - goneMb;
      }
      this.#memoryMb[at] = freeMb + Math.max(0, overMb - usedBeyondMb - elsewhereMb);
    }
    return this.#memoryMb;
  }

  /** The same so that it is used less than that by at least a thousandth. */
  #wallsBelow(use: number, known: Known): Float64Array {
    const most = (thousandths(use) - 1) / 1000;
    const walls = this.#wallsOf(known);
    if (this.#wallsFor.use !== most) {
      this.#wallsFor.use = most;
      for (const { at, memoryMb, usedMb } of this.#fleet.gpus) {
        this.#wallsMb[at] = Math.min(walls[at]!, Math.floor(memoryMb * most + 1e-6) - usedMb);
      }
    }
    return this.#wallsMb;
  }

  #steps(depth: number, effort: 'quick' | 'node' | 'root'): number {
    const { criticalLeft, firstOther } = this.#order;
    if (effort === 'quick' || depth > firstOther || criticalLeft[0] === 0) return 0;
    if (effort === 'root') return rootSteps;
    return depth === firstOther ? lastCriticalSteps : nodeSteps;
  }

  /** Of the decided ones, and of those that had no choice. */
  #refusedSoFar(occupancy: Occupancy, depth: number): number[] {
    const { priorities } = this.#fleet;
    const refused = [...this.#refusedBefore];
    const { services } = this.#order;
    for (let i = 0; i < depth; i++) {
      if (occupancy.placeOf(services[i]!) === isRefused) refused[priorities.indexOf(services[i]!.priority)]! += 1;
    }
    return refused;
  }

  /** Where those of a priority and above do not fit, some must go; the fewest are the largest of the lowest of them. */
  #addForcedRefusals(refused: number[], occupancy: Occupancy, depth: number): void {
    if (this.#levels.length === 0) return;
    let freeMb = 0;
    for (const { at, freeMb: own } of this.#fleet.gpus) {
      if (!occupancy.isClosed(at)) freeMb += Math.max(0, own - occupancy.minMb(at));
    }
    for (let level = 0; level < this.#levels.length; level++) {
      const { minMb, largestMb } = this.#levels[level]!;
      const excessMb = minMb[depth]! - freeMb;
      if (excessMb <= 0) continue;
      refused[level]! += Math.max(1, Math.ceil(excessMb / largestMb[depth]! - 1e-9));
      return;
    }
  }

  /**
   * What of the services to come finds no free memory: what exceeds every GPU that it may take, and of the rest what is
   * too much for the region that it cannot leave; of the worst region.
   */
  #mostBeyond(occupancy: Occupancy, depth: number, which: 'askedMb' | 'minMb', goneMb: number): number {
    const { gpus } = this.#fleet;
    let most = 0;
    for (const region of this.#order.regions) {
      const comingMb = region[which][depth]!;
      if (comingMb <= most) continue;
      let freeMb = 0;
      for (const gpu of region.gpus) {
        if (occupancy.isClosed(gpu)) continue;
        const { takesOne, freeMb: allMb, cut } = gpus[gpu]!;
        const taken = which === 'askedMb' && cut === null ? occupancy.loadOf(gpu).assignedMb : occupancy.minMb(gpu);
        const ownMb = Math.max(0, allMb - taken);
        freeMb += takesOne ? Math.min(ownMb, this.#largestMb[depth]!) : ownMb;
      }
      most = Math.max(most, comingMb - freeMb);
    }
    return Math.max(0, most + this.#order.sureExcess[which][depth]! - goneMb);
  }

  /** What the next services ask for [MiB]; past the critical ones, the largest to come. */
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
    const { regions, criticalLeft, firstOther } = this.#order;
    const isAsked = known.shrunkMb === 0;
    let use = 0;
    // What is shrunk may be shrunk further for one service more.
    for (const { at, usedMb, memoryMb } of gpus) {
      use = Math.max(use, isAsked ? occupancy.relativeUse(at) : (usedMb + occupancy.minMb(at)) / memoryMb);
    }
    // Beside a critical service, the slowness that is left buys seats for few or none.
    const isPastCritical = criticalLeft[depth] === 0 && depth >= firstOther;
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

/** What is asked of a bound on slowness; `enough` as in SeatQuestion. */
type SlownessQuestion = {
  readonly toRefuse: number;
  readonly goneMb: number;
  readonly current: number;
  readonly enough: number | null;
  readonly wallsMb: Float64Array;
};

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
