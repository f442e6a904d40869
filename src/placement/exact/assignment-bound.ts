import type { Fleet, FleetService } from '../fleet.js';
import { cpuSlowness, type Occupancy } from '../occupancy.js';
import type { SearchOrder } from './search-order.js';

/**
 * A bound on the slowness of critical services by Lagrangian relaxation, where memory is a wall.
 *
 * Each service gets a price for being somewhere; then every GPU chooses for itself whom it takes, so that the prices less
 * what its slowness rises are the most, within its memory. The prices, less what the GPUs gain, bound the slowness of
 * any placement, whatever the prices are; a few subgradient steps raise services that nobody took and lower those that
 * several did (Held and Karp 1971; Fisher 1981). A GPU's choice is relaxed too: critical services exactly up to a few,
 * the others as a fractional knapsack.
 *
 * One worked line: two critical services of 10 GB and GPUs of 16 and 8 GB, speed 1. With prices of 2 each, the first GPU
 * takes one and gains 2 − 1 = 1, the other none: the bound is 4 − 1 = 3. The one left has no seat, its price rises.
 */
export type AssignmentQuestion = {
  /** Sizes are what services ask for, not their least. */
  readonly isAsked: boolean;
  /** Services that will be refused, nobody knows which. */
  readonly toRefuse: number;
  /** What the services to come add in the best placement known: it sets the length of steps. */
  readonly target: number;
  /** Ends as soon as the target is reached or these steps are done. */
  readonly steps: number;
};

/** Critical services of one GPU that are chosen exactly; more of them are bounded by their best prices. */
const exactCritical = 2;

/** Steps without a better bound after which they get shorter. */
const patience = 15;

export class AssignmentBound {
  readonly #fleet: Fleet;
  readonly #order: SearchOrder;
  /** Prices of the services by their place in the search order, as they were best at each depth. */
  readonly #prices: (Float64Array | null)[];
  readonly #slack: Float64Array;
  /** The services to come of one GPU, by price less what they cost per MiB; scratch. */
  readonly #profit: Float64Array;

  constructor(fleet: Fleet, order: SearchOrder) {
    this.#fleet = fleet;
    this.#order = order;
    this.#prices = order.services.map(() => null);
    this.#slack = new Float64Array(order.services.length);
    this.#profit = new Float64Array(order.services.length);
  }

  /** What the services from `depth` on add to the slowness at least. */
  more(occupancy: Occupancy, depth: number, question: AssignmentQuestion): number {
    const { services } = this.#order;
    const coming = services
      .map((service, i) => ({ service, i }))
      .slice(depth)
      .filter(({ service }) => service.critical || !service.mayUseCpu)
      .filter(({ service }) => service.options.length > 0);
    if (coming.length === 0) return 0;
    const offers = this.#offersOf(occupancy, coming, question.isAsked);
    const prices = this.#startOf(depth, coming, question.target);
    let best = 0;
    let bestPrices = prices;
    let length = 1.5;
    let stale = 0;
    for (let step = 0; step < question.steps; step++) {
      const bound = this.#evaluate(prices, coming, offers, question.toRefuse);
      if (bound > best) {
        best = bound;
        bestPrices = Float64Array.from(prices);
        stale = 0;
        if (best >= question.target) break;
      } else if (++stale === patience) {
        length /= 2;
        stale = 0;
      }
      let norm = 0;
      for (const { i } of coming) norm += this.#slack[i]! ** 2;
      if (norm === 0) break;
      const scale = (length * Math.max(1e-3, 1.05 * question.target - bound)) / norm;
      for (const { i, service } of coming) {
        const most = service.mayUseCpu ? cpuSlowness : Number.POSITIVE_INFINITY;
        prices[i] = Math.min(most, Math.max(0, prices[i]! + scale * this.#slack[i]!));
      }
    }
    this.#prices[depth] = bestPrices;
    return best;
  }

  /** Where the last question with fewer decided ended; else the price of a seat of one's own, and little for others. */
  #startOf(depth: number, coming: readonly Coming[], target: number): Float64Array {
    for (let d = depth; d >= 0; d--) {
      const before = this.#prices[d];
      if (before != null) return Float64Array.from(before);
    }
    const prices = new Float64Array(this.#order.services.length);
    const critical = coming.filter(({ service }) => service.critical).length;
    for (const { i, service } of coming) prices[i] = service.critical ? target / Math.max(1, critical) : 0;
    return prices;
  }

  #offersOf(occupancy: Occupancy, coming: readonly Coming[], isAsked: boolean): readonly Offer[] {
    return this.#fleet.gpus.flatMap((gpu): readonly Offer[] => {
      const { at } = gpu;
      if (occupancy.isClosed(at)) return [];
      const freeMb = gpu.freeMb - (isAsked ? occupancy.askedMb(at) : occupancy.minMb(at));
      const sizeOf = ({ memoryMb, minMb }: FleetService): number => (isAsked ? memoryMb : minMb);
      const count = occupancy.count(at);
      const able = coming
        .map(({ service, i }) => ({ i, service, sizeMb: sizeOf(service) }))
        .filter(({ service, sizeMb }) => sizeMb <= freeMb && service.options.includes(at))
        .filter(({ service }) => count === 0 || !service.dedicated);
      if (able.length === 0) return [];
      return [
        {
          speed: gpu.speed,
          freeMb,
          critical: occupancy.criticalCount(at),
          count,
          takesOne: gpu.takesOne,
          criticalOnes: able.filter(({ service }) => service.critical),
          others: able.filter(({ service }) => !service.critical),
        },
      ];
    });
  }

  /** The bound of these prices; leaves in `#slack` by how much each service is short of being somewhere. */
  #evaluate(prices: Float64Array, coming: readonly Coming[], offers: readonly Offer[], toRefuse: number): number {
    let bound = 0;
    for (const { i } of coming) {
      bound += prices[i]!;
      this.#slack[i] = 1;
    }
    if (toRefuse > 0) {
      const dearest = coming.map(({ i }) => prices[i]!).sort((a, b) => b - a);
      for (const price of dearest.slice(0, toRefuse)) bound -= price;
    }
    for (const offer of offers) bound -= this.#bestOf(offer, prices);
    return bound;
  }

  /** What a GPU gains most, and whom it takes for that (taken off `#slack`). */
  #bestOf(offer: Offer, prices: Float64Array): number {
    const { speed, critical: c0, count: n0, criticalOnes, others } = offer;
    let best = 0;
    let choice: Choice | null = null;
    const consider = (chosen: readonly number[], sizeMb: number, gain: number): void => {
      const c = c0 + chosen.length;
      const n = n0 + chosen.length;
      const own = gain - (c * n - c0 * n0) / speed;
      const isFull = offer.takesOne && c - c0 > 0;
      const room = isFull || (offer.takesOne && n0 > 0) ? 0 : offer.freeMb - sizeMb;
      const most = this.#fill(offer, prices, c / speed, room);
      if (own + most.gain <= best + 1e-12) return;
      best = own + most.gain;
      choice = { critical: chosen, others: most.count, part: most.part, order: most.order };
    };
    consider([], 0, 0);
    if (!(offer.takesOne && n0 > 0)) {
      for (let a = 0; a < criticalOnes.length; a++) {
        const first = criticalOnes[a]!;
        consider([a], first.sizeMb, prices[first.i]!);
        if (offer.takesOne || first.service.dedicated) continue;
        for (let b = a + 1; b < criticalOnes.length; b++) {
          const second = criticalOnes[b]!;
          if (second.service.dedicated || first.sizeMb + second.sizeMb > offer.freeMb) continue;
          consider([a, b], first.sizeMb + second.sizeMb, prices[first.i]! + prices[second.i]!);
        }
      }
      if (!offer.takesOne) this.#considerMany(offer, prices, consider);
    }
    if (choice !== null) this.#take(choice, offer, others);
    return best;
  }

  /** More critical services than are tried exactly: so many of the best prices, in the memory of the smallest. */
  #considerMany(
    { criticalOnes, freeMb }: Offer,
    prices: Float64Array,
    consider: (chosen: readonly number[], sizeMb: number, gain: number) => void,
  ): void {
    if (criticalOnes.length <= exactCritical) return;
    const bySize = criticalOnes.map(({ sizeMb }) => sizeMb).sort((a, b) => a - b);
    const byPrice = criticalOnes
      .map((_, a) => a)
      .sort((a, b) => prices[criticalOnes[b]!.i]! - prices[criticalOnes[a]!.i]!);
    let sizeMb = 0;
    let gain = 0;
    for (let x = 0; x < criticalOnes.length; x++) {
      sizeMb += bySize[x]!;
      gain += prices[criticalOnes[byPrice[x]!]!.i]!;
      if (sizeMb > freeMb) return;
      if (x >= exactCritical) consider(byPrice.slice(0, x + 1), sizeMb, gain);
    }
  }

  /** Others beside critical services: a fractional knapsack of what they gain. */
  #fill({ others, takesOne }: Offer, prices: Float64Array, unit: number, roomMb: number): Fill {
    if (roomMb <= 0 || others.length === 0) return noFill;
    const order: number[] = [];
    for (let o = 0; o < others.length; o++) {
      const gain = prices[others[o]!.i]! - unit;
      if (gain <= 0) continue;
      this.#profit[o] = gain / Math.max(1, others[o]!.sizeMb);
      order.push(o);
    }
    if (order.length === 0) return noFill;
    if (takesOne) {
      const first = order.reduce((a, b) => (prices[others[b]!.i]! > prices[others[a]!.i]! ? b : a));
      return { gain: prices[others[first]!.i]! - unit, count: 1, part: 0, order: [first] };
    }
    order.sort((a, b) => this.#profit[b]! - this.#profit[a]!);
    let gain = 0;
    let left = roomMb;
    for (let k = 0; k < order.length; k++) {
      const { i, sizeMb } = others[order[k]!]!;
      if (sizeMb > left) {
        const part = left / sizeMb;
        return { gain: gain + part * (prices[i]! - unit), count: k, part, order };
      }
      gain += prices[i]! - unit;
      left -= sizeMb;
    }
    return { gain, count: order.length, part: 0, order };
  }

  #take(choice: Choice, { criticalOnes }: Offer, others: Offer['others']): void {
    for (const a of choice.critical) this.#slack[criticalOnes[a]!.i]! -= 1;
    for (let k = 0; k < choice.others; k++) this.#slack[others[choice.order[k]!]!.i]! -= 1;
    if (choice.part > 0) this.#slack[others[choice.order[choice.others]!]!.i]! -= choice.part;
  }
}

type Coming = { readonly service: FleetService; readonly i: number };

/** A GPU, whom it may still take, and what it is now. */
type Offer = {
  readonly speed: number;
  readonly freeMb: number;
  readonly critical: number;
  readonly count: number;
  readonly takesOne: boolean;
  readonly criticalOnes: readonly (Coming & { readonly sizeMb: number })[];
  readonly others: readonly (Coming & { readonly sizeMb: number })[];
};

/** `count` of `order` whole, and a part of the next. */
type Fill = { readonly gain: number; readonly count: number; readonly part: number; readonly order: readonly number[] };
const noFill: Fill = { gain: 0, count: 0, part: 0, order: [] };

type Choice = {
  readonly critical: readonly number[];
  readonly others: number;
  readonly part: number;
  readonly order: readonly number[];
};
