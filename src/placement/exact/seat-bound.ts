import type { Fleet } from '../fleet.js';
import { cpuSlowness, type Occupancy, onCpu } from '../occupancy.js';
import type { Known } from './bounds.js';
import type { SearchOrder } from './search-order.js';

/**
 * What the services to come add to the slowness of critical ones at least.
 *
 * A GPU of speed s with c critical services among n counts c·n/s. So each critical service takes a seat, the next on the
 * same GPU dearer by 2/s, and each other service beside c critical ones costs c/s. The fewer GPUs have critical services,
 * the dearer their seats; the more, the less memory is left where nobody is critical, and what does not fit there must
 * sit beside somebody. Both together are what a choice of GPUs for critical services costs; the bound is the cheapest
 * choice.
 */
export type SeatQuestion = {
  readonly known: Known;
  /** Services to come that will be refused, nobody knows which, and what they may have asked for [MiB]. */
  readonly toRefuse: number;
  readonly goneMb: number;
  /** Only whether the bound reaches this is asked; null = the bound itself. */
  readonly enough: number | null;
  /** What services may take of each GPU [MiB]. */
  readonly wallsMb: Float64Array;
};

/** GPUs of which all choices are tried; of more, only seats are counted. */
const mostChoices = 10;

/** Slowness of what is decided. */
export function currentSlowness(occupancy: Occupancy, order: SearchOrder): number {
  let slowness = 0;
  for (const { at, speed } of occupancy.fleet.gpus) {
    slowness += (occupancy.criticalCount(at) * occupancy.count(at)) / speed;
  }
  for (const service of order.services) {
    if (service.critical && occupancy.placeOf(service) === onCpu) slowness += cpuSlowness;
  }
  return slowness;
}

export class SeatBound {
  readonly #fleet: Fleet;
  readonly #order: SearchOrder;
  /** Scratch, by GPU: what the next critical service there costs, what another beside costs, and what is free [MiB]. */
  readonly #next: Float64Array;
  readonly #unit: Float64Array;
  readonly #freeMb: Float64Array;

  constructor(fleet: Fleet, order: SearchOrder) {
    this.#fleet = fleet;
    this.#order = order;
    this.#next = new Float64Array(fleet.gpus.length);
    this.#unit = new Float64Array(fleet.gpus.length);
    this.#freeMb = new Float64Array(fleet.gpus.length);
  }

  more(occupancy: Occupancy, depth: number, question: SeatQuestion): number {
    const left = Math.max(0, this.#order.criticalLeft[depth]! - question.toRefuse);
    // Where it is not known what is exceeded, memory is no wall.
    const hasWalls = question.known.overMb !== null;
    if (left === 0 && !hasWalls) return 0;
    const isAsked = question.known.shrunkMb === 0;
    for (const { at } of this.#fleet.gpus) {
      this.#freeMb[at] = occupancy.isClosed(at)
        ? 0
        : Math.max(0, question.wallsMb[at]! - (isAsked ? occupancy.askedMb(at) : occupancy.minMb(at)));
    }
    const each = left > 0 && question.toRefuse === 0 ? this.#eachAlone(occupancy, depth, hasWalls) : 0;
    if (question.enough !== null && each >= question.enough) return each;
    return Math.max(each, this.#cheapestChoice(occupancy, depth, left, question));
  }

  /** Each critical service on the best GPU that may still take it, as if it were the only one to come. */
  #eachAlone(occupancy: Occupancy, depth: number, hasWalls: boolean): number {
    const { gpus } = this.#fleet;
    const { services, firstOther } = this.#order;
    let sum = 0;
    for (let i = depth; i < firstOther; i++) {
      const service = services[i]!;
      if (!service.critical) continue;
      let best = service.mayUseCpu ? cpuSlowness : Number.POSITIVE_INFINITY;
      for (const gpu of service.options) {
        if (occupancy.isClosed(gpu) || (hasWalls && service.minMb > this.#freeMb[gpu]!)) continue;
        best = Math.min(best, (occupancy.criticalCount(gpu) + occupancy.count(gpu) + 1) / gpus[gpu]!.speed);
      }
      // None: it will be refused, or something is exceeded, which the components before tell.
      if (best !== Number.POSITIVE_INFINITY) sum += best;
    }
    return sum;
  }

  #cheapestChoice(occupancy: Occupancy, depth: number, left: number, question: SeatQuestion): number {
    const { gpus } = this.#fleet;
    const hasWalls = question.known.overMb !== null;
    const taken: number[] = [];
    const apart: number[] = [];
    for (const { at } of gpus) {
      if (occupancy.isClosed(at)) continue;
      if (occupancy.criticalCount(at) > 0) taken.push(at);
      else if (left > 0 && this.#maySeat(depth, at)) apart.push(at);
    }
    if (apart.length > mostChoices || !hasWalls) {
      return this.#seats(occupancy, [...taken, ...apart], [], left);
    }
    let cheapest = Number.POSITIVE_INFINITY;
    const chosen: number[] = [];
    const visit = (from: number): void => {
      const cost = this.#costOf(occupancy, depth, { taken, chosen, left, question, than: cheapest });
      if (cost < cheapest) cheapest = cost;
      if (chosen.length === left) return;
      for (let i = from; i < apart.length; i++) {
        if (question.enough !== null && cheapest < question.enough) return;
        chosen.push(apart[i]!);
        visit(i + 1);
        chosen.pop();
      }
    };
    visit(0);
    return cheapest === Number.POSITIVE_INFINITY ? left * cpuSlowness : cheapest;
  }

  /** May a critical service that is to come go there? */
  #maySeat(depth: number, gpu: number): boolean {
    const { services, firstOther } = this.#order;
    for (let i = depth; i < firstOther; i++) {
      if (services[i]!.critical && services[i]!.takes[gpu] === 1) return true;
    }
    return false;
  }

  /** Where critical services sit on `taken` and on each of `chosen`, and nowhere else. */
  #costOf(
    occupancy: Occupancy,
    depth: number,
    choice: {
      readonly taken: readonly number[];
      readonly chosen: readonly number[];
      readonly left: number;
      readonly question: SeatQuestion;
      readonly than: number;
    },
  ): number {
    const { taken, chosen, left, question, than } = choice;
    const seats = this.#seats(occupancy, taken, chosen, left);
    if (seats >= than) return seats;
    return seats + this.#beside(occupancy, depth, chosen, question);
  }

  /** The cheapest seats for so many critical services, at least one on each of `chosen`. */
  #seats(occupancy: Occupancy, taken: readonly number[], chosen: readonly number[], left: number): number {
    const { gpus } = this.#fleet;
    let sum = 0;
    for (const gpu of taken) {
      this.#next[gpu] = (occupancy.criticalCount(gpu) + occupancy.count(gpu) + 1) / gpus[gpu]!.speed;
    }
    for (const gpu of chosen) {
      const { speed, takesOne } = gpus[gpu]!;
      const first = (occupancy.count(gpu) + 1) / speed;
      sum += Math.min(first, cpuSlowness);
      this.#next[gpu] = takesOne ? Number.POSITIVE_INFINITY : first + 2 / speed;
    }
    for (let k = chosen.length; k < left; k++) {
      let best = -1;
      let cost = cpuSlowness;
      for (const gpu of taken) {
        if (this.#next[gpu]! < cost) {
          best = gpu;
          cost = this.#next[gpu]!;
        }
      }
      for (const gpu of chosen) {
        if (this.#next[gpu]! < cost) {
          best = gpu;
          cost = this.#next[gpu]!;
        }
      }
      sum += cost;
      if (best === -1) continue;
      this.#next[best] = gpus[best]!.takesOne ? Number.POSITIVE_INFINITY : cost + 2 / gpus[best]!.speed;
    }
    return sum;
  }

  /**
   * What does not fit where nobody is critical sits beside somebody who is: the fewest services that take so much, on the
   * cheapest GPUs, each of which holds what is free there.
   */
  #beside(occupancy: Occupancy, depth: number, chosen: readonly number[], question: SeatQuestion): number {
    const { gpus } = this.#fleet;
    const isAsked = question.known.shrunkMb === 0;
    let most = 0;
    for (const region of this.#order.regions) {
      const { askedMb, minMb, decided } = region.others;
      const sums = isAsked ? askedMb : minMb;
      const from = decided[depth]!;
      if (from === sums.length - 1) continue;
      let excessMb = sums.at(-1)! - sums[from]! - question.goneMb;
      const beside: number[] = [];
      for (const gpu of region.gpus) {
        if (occupancy.isClosed(gpu)) continue;
        const isNew = chosen.includes(gpu);
        if (!isNew && occupancy.criticalCount(gpu) === 0) excessMb -= this.#freeMb[gpu]!;
        else if (!(isNew && gpus[gpu]!.takesOne)) {
          this.#unit[gpu] = Math.max(1, occupancy.criticalCount(gpu)) / gpus[gpu]!.speed;
          beside.push(gpu);
        }
      }
      if (excessMb <= 0) continue;
      beside.sort((a, b) => this.#unit[a]! - this.#unit[b]!);
      let cost = 0;
      let before = 0;
      for (let b = 0; b < beside.length && excessMb > 0; b++) {
        const unit = this.#unit[beside[b]!]!;
        let widestMb = 0;
        for (let c = b; c < beside.length; c++) widestMb = Math.max(widestMb, this.#freeMb[beside[c]!]!);
        const count = fewest(askedMb, isAsked ? firstWithin(askedMb, from, widestMb) : from, excessMb);
        // None that fit there take so much: this choice is none.
        if (count === Number.POSITIVE_INFINITY) return count;
        cost += (unit - before) * count;
        before = unit;
        excessMb -= this.#freeMb[beside[b]!]!;
      }
      // More than there is room for: this choice is none.
      if (excessMb > 0.5) return Number.POSITIVE_INFINITY;
      most = Math.max(most, cost);
    }
    return most;
  }
}

/** The first of the services from there on that is no larger than that: those before fit nowhere beside. */
function firstWithin(sums: Float64Array, from: number, mostMb: number): number {
  let at = from;
  while (at < sums.length - 1 && sums[at + 1]! - sums[at]! > mostMb) at += 1;
  return at;
}

/** The fewest of the services from there on that ask for so much: the next ones, since the largest come first. */
function fewest(sums: Float64Array, from: number, excessMb: number): number {
  if (sums[sums.length - 1]! - sums[from]! < excessMb - 0.5) return Number.POSITIVE_INFINITY;
  let count = 1;
  while (from + count < sums.length - 1 && sums[from + count]! - sums[from]! < excessMb) count += 1;
  return count;
}
