import { DualEvaluator, type Potentials, type PriceSearch, pricesOf } from './oracle-prices.js';

/**
 * Finds prices where loads are anything but level: the saddle point of what slots cost and where work goes.
 *
 * The work of requests is counted in money, as what it costs at level prices where it is cheapest, so that one list of
 * factors m_t = 1 + (Q_t − Q_{t+1}) / Δ_t stands for the prices of all deployments. Whoever sets Q (0 ≤ Q ≤ start-up time)
 * wants what is paid to be large; work, which chooses among the slots of its window or to be missed at a fixed cost, wants
 * it to be small. Both move in turns, by steps that fit how much work touches a slot (the primal-dual method of Chambolle
 * and Pock with diagonal preconditioning), and start again from their means now and then, which is what lets such a method
 * end in a corner. Whatever Q is found becomes potentials that are brought within their limits, so that a bad end costs
 * tightness only.
 */
export class SaddleSearch {
  readonly #search: PriceSearch;
  readonly #evaluator: DualEvaluator;
  /** Q by slot edge [slots]; 0 at the first and the last. */
  readonly #held: Float64Array;
  readonly #limits: Float64Array;
  /** Q as far beyond the last step as that went: what work looks at. */
  readonly #ahead: Float64Array;
  readonly #factors: Float64Array;
  readonly #loads: Float64Array;
  /** Ready time without work: what keeps a price from falling below 0. */
  readonly #idle: Float64Array;
  readonly #idleUnit: number;
  /** By slot: a shorter one has a price that moves more. */
  readonly #weights: Float64Array;
  readonly #steps: Float64Array;
  readonly #groups: WorkGroups;
  readonly #shares: Float64Array;
  readonly #missed: Float64Array;
  readonly #slotMs: number;
  /** Sums over so many steps since the last restart. */
  #meanOf = 0;
  readonly #meanHeld: Float64Array;
  readonly #meanShares: Float64Array;
  readonly #meanMissed: Float64Array;
  readonly #meanIdle: Float64Array;

  /** @param startupMs the longest that Q may be: one of `saddleStartups` */
  constructor(search: PriceSearch, startupMs: number) {
    const { slotLengths } = search;
    const slots = slotLengths.length;
    this.#search = search;
    this.#evaluator = new DualEvaluator(search);
    this.#slotMs = slotLengths[0] ?? 1;
    this.#groups = groupsOf(search);
    const { first, last, usd, offset } = this.#groups;
    this.#held = new Float64Array(slots + 1);
    this.#ahead = new Float64Array(slots + 1);
    this.#limits = new Float64Array(slots + 1);
    let since = 0;
    for (let t = 1; t < slots; t++) {
      since += slotLengths[t - 1]!;
      this.#limits[t] = Math.min(startupMs, since) / this.#slotMs;
    }
    this.#weights = Float64Array.from(slotLengths, (length) => Math.min(2, this.#slotMs / length));
    const touching = new Float64Array(slots);
    let total = 0;
    for (let g = 0; g < usd.length; g++) {
      total += usd[g]!;
      for (let t = first[g]!; t <= last[g]!; t++) touching[t] = touching[t]! + usd[g]!;
    }
    this.#idleUnit = total / Math.max(1, slots);
    this.#steps = new Float64Array(slots + 1);
    for (let t = 1; t < slots; t++) {
      const both =
        (touching[t]! + this.#idleUnit) * this.#weights[t]! +
        (touching[t - 1]! + this.#idleUnit) * this.#weights[t - 1]!;
      this.#steps[t] = both > 0 ? 1 / both : 0;
    }
    this.#factors = new Float64Array(slots);
    this.#loads = new Float64Array(slots);
    this.#idle = new Float64Array(slots);
    this.#shares = new Float64Array(offset[usd.length]!);
    for (let g = 0; g < usd.length; g++) {
      this.#shares.fill(1 / (last[g]! - first[g]! + 1), offset[g]!, offset[g + 1]!);
    }
    this.#missed = new Float64Array(usd.length);
    this.#meanHeld = new Float64Array(slots + 1);
    this.#meanIdle = new Float64Array(slots);
    this.#meanShares = new Float64Array(this.#shares.length);
    this.#meanMissed = new Float64Array(usd.length);
  }

  /**
   * The best potentials that it comes by; it goes on from where it was.
   *
   * @param misses requests that may be left out
   * @param rounds at most
   */
  find({ misses, rounds }: { readonly misses: number; readonly rounds: number }): Potentials {
    const { deployments } = this.#search;
    let best: Potentials = [];
    let bestUsd = Number.NEGATIVE_INFINITY;
    const worthOf = (held: (t: number) => number): number => {
      const potentials = deployments.map(({ startupMs }) =>
        this.#held.map((_, t) => (startupMs > 0 ? (held(t) * this.#slotMs) / startupMs : 0)),
      );
      const usd = this.#evaluator.evaluate(pricesOf(potentials, this.#search), { misses, near: 0 });
      if (usd > bestUsd) {
        best = potentials;
        bestUsd = usd;
      }
      return usd;
    };
    worthOf(() => 0);
    if (!this.#limits.some((limit) => limit > 0)) return best;
    // Its first steps are worth less than level prices: it is measured by its own.
    let most = 0;
    let quiet = 0;
    for (let round = 0; round < rounds && quiet < maxQuietLooks; round += roundsPerLook) {
      this.#advance(roundsPerLook, misses > 0 ? this.#evaluator.usdPerMiss : Number.POSITIVE_INFINITY);
      const usdOfLast = worthOf((t) => this.#held[t]!);
      const usdOfMean = worthOf((t) => this.#meanHeld[t]! / this.#meanOf);
      this.#restart(usdOfMean > usdOfLast);
      const usd = Math.max(usdOfLast, usdOfMean);
      quiet = usd > most * (1 + leastGain) ? 0 : quiet + 1;
      most = Math.max(most, usd);
    }
    return best;
  }

  /** @param usdPerMiss at which a request is missed rather than paid for; Infinity = none may be */
  #advance(rounds: number, usdPerMiss: number): void {
    const held = this.#held;
    const ahead = this.#ahead;
    const slots = this.#factors.length;
    for (let round = 0; round < rounds; round++) {
      for (let t = 0; t < slots; t++) {
        this.#factors[t] = 1 + (ahead[t]! - ahead[t + 1]!) * this.#weights[t]!;
        this.#idle[t] = Math.max(0, this.#idle[t]! - workStep * this.#factors[t]!);
        this.#loads[t] = this.#idleUnit * this.#idle[t]!;
        this.#meanIdle[t] = this.#meanIdle[t]! + this.#idle[t]!;
      }
      this.#moveWork(usdPerMiss);
      for (let t = 1; t < slots; t++) {
        const slope = this.#loads[t]! * this.#weights[t]! - this.#loads[t - 1]! * this.#weights[t - 1]!;
        const moved = held[t]! + priceStep * this.#steps[t]! * slope;
        const next = moved < 0 ? 0 : Math.min(this.#limits[t]!, moved);
        ahead[t] = 2 * next - held[t]!;
        held[t] = next;
        this.#meanHeld[t] = this.#meanHeld[t]! + next;
      }
      this.#meanOf++;
    }
  }

  /** Goes on from the means, or from here, and means begin anew. */
  #restart(fromMean: boolean): void {
    const n = this.#meanOf;
    const lists = [
      [this.#held, this.#meanHeld],
      [this.#idle, this.#meanIdle],
      [this.#shares, this.#meanShares],
      [this.#missed, this.#meanMissed],
    ] as const;
    for (const [values, sums] of lists) {
      if (fromMean && n > 0) for (let i = 0; i < values.length; i++) values[i] = sums[i]! / n;
      sums.fill(0);
    }
    this.#ahead.set(this.#held);
    this.#meanOf = 0;
  }

  #moveWork(usdPerMiss: number): void {
    const { first, last, usd, requestsPerUsd, offset } = this.#groups;
    const factors = this.#factors;
    const loads = this.#loads;
    const shares = this.#shares;
    for (let g = 0; g < usd.length; g++) {
      const from = first[g]!;
      const count = last[g]! - from + 1;
      const at = offset[g]!;
      let sum = this.#missed[g]! - workStep * Math.min(1e3, usdPerMiss * requestsPerUsd[g]!);
      const missed = sum;
      for (let i = 0; i < count; i++) {
        const value = shares[at + i]! - workStep * factors[from + i]!;
        shares[at + i] = value;
        sum += value;
      }
      // The nearest shares that add up to 1: the same is taken from all, and from those that would fall below 0 all.
      let less = (sum - 1) / (count + 1);
      for (;;) {
        let above = 0;
        let aboveCount = 0;
        if (missed > less) {
          above += missed;
          aboveCount++;
        }
        for (let i = 0; i < count; i++) {
          const value = shares[at + i]!;
          if (value > less) {
            above += value;
            aboveCount++;
          }
        }
        const next = (above - 1) / aboveCount;
        if (!(next > less + 1e-12)) break;
        less = next;
      }
      const work = usd[g]!;
      for (let i = 0; i < count; i++) {
        const share = Math.max(0, shares[at + i]! - less);
        shares[at + i] = share;
        this.#meanShares[at + i] = this.#meanShares[at + i]! + share;
        loads[from + i] = loads[from + i]! + work * share;
      }
      const left = Math.max(0, missed - less);
      this.#missed[g] = left;
      this.#meanMissed[g] = this.#meanMissed[g]! + left;
    }
  }
}

/**
 * The start-up times to search with: that of the deployment that serves most at level prices, whose prices are found as they
 * are while those of others are cut to their own start-up; and the shortest, at which none is cut, where that is another.
 */
export function saddleStartups(search: PriceSearch): readonly number[] {
  const { usdOn } = groupsOf(search);
  const startups = search.deployments.map(({ startupMs }) => startupMs);
  const ofMost = startups[usdOn.indexOf(Math.max(...usdOn))] ?? 0;
  const shortest = Math.min(...startups);
  return shortest < alikeShare * ofMost ? [ofMost, shortest] : [ofMost];
}

/** Start-up times that differ by less are taken for one. */
const alikeShare = 0.9;

/** How far work moves at once for a slot that is dearer by its level price; prices move by the inverse. */
const workStep = 0.02;
const priceStep = 0.25 / workStep;
/** Rounds after which it is seen what the prices are worth. */
const roundsPerLook = 80;
/** Looks without this much more worth at which it ends. */
const maxQuietLooks = 3;
const leastGain = 1e-4;

/** Work of one window and of requests of about one size. */
type WorkGroups = {
  readonly first: Int32Array;
  readonly last: Int32Array;
  /** What it costs at level prices. */
  readonly usd: Float64Array;
  /** Requests that are missed where a USD of this work, and of the rest of those requests, is. */
  readonly requestsPerUsd: Float64Array;
  /** Where the shares of each group begin; one more than groups. */
  readonly offset: Int32Array;
  /** By deployment, what it serves at level prices. */
  readonly usdOn: readonly number[];
};

/** Costs of requests that differ by less than this factor are one group. */
const sizeFactor = 1.5;

function groupsOf({ classes, work, deployments, slotLengths }: PriceSearch): WorkGroups {
  const slots = slotLengths.length;
  const places = new Map<string, number>();
  const first: number[] = [];
  const last: number[] = [];
  const usd: number[] = [];
  const requests: number[] = [];
  const usdOn = deployments.map(() => 0);
  for (let i = 0; i < classes.requests.length; i++) {
    let least = Number.POSITIVE_INFINITY;
    let prefill = 0;
    let decode = 0;
    let on = 0;
    for (const [d, { usdPerMs }] of deployments.entries()) {
      const here = usdPerMs * (work[d]!.prefillMs[i]! + work[d]!.decodeMs[i]!);
      if (!(here < least)) continue;
      least = here;
      on = d;
      prefill = usdPerMs * work[d]!.prefillMs[i]!;
      decode = usdPerMs * work[d]!.decodeMs[i]!;
    }
    if (least === Number.POSITIVE_INFINITY || least === 0) continue;
    usdOn[on] = usdOn[on]! + least;
    const size = Math.floor(Math.log(least / classes.requests[i]!) / Math.log(sizeFactor));
    for (const [to, part] of [
      [classes.prefillLast[i]!, prefill],
      [classes.decodeLast[i]!, decode],
    ] as const) {
      // What can be done after the span costs nothing.
      if (to >= slots || part === 0) continue;
      const key = `${classes.first[i]!},${to},${size}`;
      let place = places.get(key);
      if (place === undefined) {
        place = usd.length;
        places.set(key, place);
        first.push(classes.first[i]!);
        last.push(to);
        usd.push(0);
        requests.push(0);
      }
      usd[place] = usd[place]! + part;
      requests[place] = requests[place]! + (classes.requests[i]! * part) / least;
    }
  }
  const offset = new Int32Array(usd.length + 1);
  for (let g = 0; g < usd.length; g++) offset[g + 1] = offset[g]! + last[g]! - first[g]! + 1;
  return {
    first: Int32Array.from(first),
    last: Int32Array.from(last),
    usd: Float64Array.from(usd),
    requestsPerUsd: Float64Array.from(usd, (work, g) => requests[g]! / work),
    offset,
    usdOn,
  };
}
