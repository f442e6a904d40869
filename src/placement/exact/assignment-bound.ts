import type { Fleet, FleetService } from '../fleet.js';
import { cpuSlowness, type Occupancy } from '../occupancy.js';
import { climb } from './price-ascent.js';
import type { SearchOrder } from './search-order.js';

/**
 * A bound on the slowness of critical services by Lagrangian relaxation, where memory is a wall.
 *
 * Each service gets a price for being somewhere; then every GPU chooses for itself whom it takes, so that the prices less
 * what its slowness rises are the most, within its memory. The prices, less what the GPUs gain, bound the slowness of
 * any placement, whatever the prices are; a few steps raise services that nobody took and lower those that several did
 * (Fisher 1981). A GPU's choice is relaxed too: critical services exactly up to a few, the others as a fractional knapsack.
 *
 * One worked line: two critical services of 10 GB and GPUs of 16 and 8 GB, speed 1. With prices of 2 each, the first GPU
 * takes one and gains 2 − 1 = 1, the other none: the bound is 4 − 1 = 3. The one left has no seat, its price rises.
 */
export type AssignmentQuestion = {
  /** What services may take of each GPU [MiB]. */
  readonly wallsMb: Float64Array;
  /** Sizes are what services ask for, not their least. */
  readonly isAsked: boolean;
  /** Services that will be refused, nobody knows which. */
  readonly toRefuse: number;
  /** What the services to come add in the best placement known: it sets the length of steps. */
  readonly target: number;
  /** Ends as soon as the target is reached or these steps are done. */
  readonly steps: number;
  readonly shouldStop: () => boolean;
  /** Ends where the target is out of reach, with what it has. */
  readonly mayGiveUp: boolean;
};

/** Critical services of one GPU that are chosen exactly; more of them are bounded by their best prices. */
const exactCritical = 2;

export class AssignmentBound {
  readonly #fleet: Fleet;
  readonly #order: SearchOrder;
  /** Prices of the services by their place in the search order, as they were best at each depth. */
  readonly #prices: (Float64Array | null)[];
  readonly #slack: Float64Array;
  /** Gain per MiB of each service; scratch. */
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
    const each = this.#offersOf(occupancy, coming, question);
    const offers = depth === 0 ? withCopies(each) : each;
    const { best, bestPrices } = climb(this.#startOf(depth, coming, question.target), {
      ...question,
      valueAt: (prices) => this.#evaluate(prices, coming, offers, question.toRefuse),
      slope: this.#slack,
      places: coming.map(({ i }) => i),
      most: coming.map(({ service }) => mostPrice(service)),
    });
    this.#prices[depth] = bestPrices;
    return best;
  }

  /** Where the last question with as many or fewer decided ended; else the price of a seat of one's own, and little for others. */
  #startOf(depth: number, coming: readonly Coming[], target: number): Float64Array {
    for (let d = depth; d >= 0; d--) {
      const before = this.#prices[d];
      if (before != null) return Float64Array.from(before);
    }
    const prices = new Float64Array(this.#order.services.length);
    const critical = coming.filter(({ service }) => service.critical).length;
    for (const { i, service } of coming) {
      prices[i] = service.critical ? Math.min(mostPrice(service), target / Math.max(1, critical)) : 0;
    }
    return prices;
  }

  #offersOf(
    occupancy: Occupancy,
    coming: readonly Coming[],
    { isAsked, wallsMb }: AssignmentQuestion,
  ): readonly Offer[] {
    return this.#fleet.gpus.flatMap((gpu): readonly Offer[] => {
      const { at } = gpu;
      if (occupancy.isClosed(at)) return [];
      const freeMb = wallsMb[at]! - (isAsked ? occupancy.askedMb(at) : occupancy.minMb(at));
      const sizeOf = ({ memoryMb, minMb }: FleetService): number => (isAsked ? memoryMb : minMb);
      const count = occupancy.count(at);
      const able = coming
        .map(({ service, i }) => ({ i, service, sizeMb: sizeOf(service) }))
        .filter(({ service, sizeMb }) => sizeMb <= freeMb && service.takes[at] === 1)
        .filter(({ service }) => count === 0 || !service.dedicated);
      if (able.length === 0) return [];
      const criticalOnes = able.filter(({ service }) => service.critical);
      return [
        {
          copies: 1,
          speed: gpu.speed,
          freeMb,
          critical: occupancy.criticalCount(at),
          count,
          takesOne: gpu.takesOne,
          criticalOnes,
          criticalBySize: criticalOnes.map(({ sizeMb }) => sizeMb).sort((a, b) => a - b),
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
    for (const offer of offers) bound -= offer.copies * this.#bestOf(offer, prices);
    return bound;
  }

  /** What a GPU gains most, and whom it takes for that (taken off `#slack`). */
  #bestOf(offer: Offer, prices: Float64Array): number {
    const { speed, critical: c0, count: n0, takesOne, freeMb } = offer;
    const isTaken = takesOne && n0 > 0;
    const ones = [...offer.criticalOnes].sort((a, b) => prices[b.i]! - prices[a.i]!);
    const costOf = (x: number): number => (x * (c0 + n0 + x)) / speed;
    let best = 0;
    let choice: Choice | null = null;
    const fills: Fill[] = [];
    /** Others by what they gain beside so many critical services more. */
    const fillOf = (x: number): Fill => (fills[x] ??= this.#fillFor(offer, prices, (c0 + x) / speed));
    const consider = (chosen: readonly Sized[], sizeMb: number, gain: number): void => {
      const x = chosen.length;
      const room = isTaken || (takesOne && x > 0) ? 0 : freeMb - sizeMb;
      const fill = fillOf(x);
      const filled = fillRoom(fill, room);
      const own = gain - costOf(x) + filled.gain;
      if (own <= best + 1e-12) return;
      best = own;
      choice = { critical: chosen, fill, ...filled };
    };
    consider([], 0, 0);
    const mayBeat = (x: number, gain: number): boolean => gain - costOf(x) + fillOf(x).mostGain > best + 1e-12;
    if (!isTaken) {
      for (const one of ones) {
        if (!mayBeat(1, prices[one.i]!)) break;
        consider([one], one.sizeMb, prices[one.i]!);
      }
      if (!takesOne) {
        pairs: for (let a = 0; a < ones.length; a++) {
          const first = ones[a]!;
          if (first.service.dedicated) continue;
          for (let b = a + 1; b < ones.length; b++) {
            const second = ones[b]!;
            const gain = prices[first.i]! + prices[second.i]!;
            if (!mayBeat(2, gain)) {
              // The next pairs gain no more: prices descend.
              if (b === a + 1) break pairs;
              break;
            }
            if (second.service.dedicated || first.sizeMb + second.sizeMb > freeMb) continue;
            consider([first, second], first.sizeMb + second.sizeMb, gain);
          }
        }
        this.#considerMany(offer, ones, prices, consider);
      }
    }
    if (choice !== null) this.#take(choice, offer.copies);
    return best;
  }

  /** More critical services than are tried exactly: so many of the best prices, in the memory of the smallest. */
  #considerMany(
    { criticalBySize, freeMb }: Offer,
    byPrice: readonly Sized[],
    prices: Float64Array,
    consider: (chosen: readonly Sized[], sizeMb: number, gain: number) => void,
  ): void {
    let sizeMb = 0;
    let gain = 0;
    for (let x = 1; x <= byPrice.length; x++) {
      sizeMb += criticalBySize[x - 1]!;
      gain += prices[byPrice[x - 1]!.i]!;
      if (sizeMb > freeMb) return;
      if (x > exactCritical) consider(byPrice.slice(0, x), sizeMb, gain);
    }
  }

  /** Others that gain beside critical services of which each costs them `unit`, by gain per MiB. */
  #fillFor({ others, takesOne, freeMb }: Offer, prices: Float64Array, unit: number): Fill {
    const able = others.filter(({ i }) => prices[i]! > unit);
    if (takesOne) {
      const dearest = able.reduce<Sized | null>((a, b) => (a === null || prices[b.i]! > prices[a.i]! ? b : a), null);
      const order = dearest === null ? [] : [dearest];
      return {
        order,
        gains: order.map(({ i }) => prices[i]! - unit),
        mostGain: dearest === null ? 0 : prices[dearest.i]! - unit,
      };
    }
    for (const { i, sizeMb } of able) this.#profit[i] = (prices[i]! - unit) / Math.max(1, sizeMb);
    const order = able.sort((a, b) => this.#profit[b.i]! - this.#profit[a.i]!);
    const fill = { order, gains: order.map(({ i }) => prices[i]! - unit), mostGain: 0 };
    return { ...fill, mostGain: fillRoom(fill, freeMb).gain };
  }

  #take({ critical, fill, whole, part }: Choice, copies: number): void {
    for (const { i } of critical) this.#slack[i]! -= copies;
    for (let k = 0; k < whole; k++) this.#slack[fill.order[k]!.i]! -= copies;
    if (part > 0) this.#slack[fill.order[whole]!.i]! -= copies * part;
  }
}

/** The CPU takes whoever may use it, and gains from nobody: a price above what it costs there would bound too much. */
function mostPrice(service: FleetService): number {
  return service.mayUseCpu ? cpuSlowness : Number.POSITIVE_INFINITY;
}

/** GPUs that offer the same, asked once: at the same prices they choose the same. */
function withCopies(offers: readonly Offer[]): readonly Offer[] {
  const alike = new Map<string, Offer>();
  for (const offer of offers) {
    const { speed, freeMb, critical, count, takesOne, criticalOnes, others } = offer;
    const able = [criticalOnes, others].map((sized) => sized.map(({ i }) => i).join(' '));
    const key = [speed, freeMb, critical, count, takesOne, ...able].join('|');
    alike.set(key, { ...offer, copies: (alike.get(key)?.copies ?? 0) + 1 });
  }
  return [...alike.values()];
}

/** A fractional knapsack: the best by gain per MiB whole, and a part of the next. */
function fillRoom({ order, gains }: Pick<Fill, 'order' | 'gains'>, roomMb: number): Filled {
  let gain = 0;
  let left = roomMb;
  if (left <= 0) return { gain: 0, whole: 0, part: 0 };
  for (let k = 0; k < order.length; k++) {
    const { sizeMb } = order[k]!;
    if (sizeMb > left) {
      const part = left / sizeMb;
      return { gain: gain + part * gains[k]!, whole: k, part };
    }
    gain += gains[k]!;
    left -= sizeMb;
  }
  return { gain, whole: order.length, part: 0 };
}

type Coming = { readonly service: FleetService; readonly i: number };
type Sized = Coming & { readonly sizeMb: number };

/** A GPU, whom it may still take, and what it is now. */
type Offer = {
  /** GPUs that are alike in all that follows. */
  readonly copies: number;
  readonly speed: number;
  readonly freeMb: number;
  readonly critical: number;
  readonly count: number;
  readonly takesOne: boolean;
  readonly criticalOnes: readonly Sized[];
  /** Their sizes, smallest first [MiB]. */
  readonly criticalBySize: readonly number[];
  readonly others: readonly Sized[];
};

type Fill = { readonly order: readonly Sized[]; readonly gains: readonly number[]; readonly mostGain: number };
type Filled = { readonly gain: number; readonly whole: number; readonly part: number };
type Choice = {
  readonly critical: readonly Sized[];
  readonly fill: Fill;
  readonly whole: number;
  readonly part: number;
};
