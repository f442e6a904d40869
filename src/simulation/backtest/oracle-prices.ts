import type { DemandClasses } from './oracle-demand.js';

/**
 * Prices on the replica-time of slots at which no replica, started whenever, earns more than it costs.
 *
 * What requests must pay at such prices bounds the cost of every fleet from below (linear programming duality), whatever
 * the prices are. This looks for prices that are worth much: an ascent on the dual function of
 *
 *     minimise    Σ_d c_d (running time + start-ups)        fractions of replicas, started and stopped at will
 *     subject to  in every slot: work of requests ≤ ready time,   each request in its window or missed,   misses ≤ M
 *
 * With S the start-up time and Δ the slot's length, the prices of a deployment are μ_t = c (1 + (q_t − q_{t+1}) S / Δ_t) with
 * potentials 0 ≤ q_t ≤ min(1, time since the span began / S) and q at the end 0: summed over the slots of any interval they
 * exceed c · length by c S at most, and by no more than what was billed of the start-up within the span. Conversely, all
 * prices without such a profit are below some of this form.
 */

export type PricedDeployment = {
  readonly usdPerMs: number;
  /** No start takes less [ms]. */
  readonly startupMs: number;
};

/** Work of the demand's classes on one deployment [ms], of all of its requests together; Infinity where it cannot. */
export type ClassWork = { readonly prefillMs: Float64Array; readonly decodeMs: Float64Array };

export type PriceSearch = {
  readonly classes: DemandClasses;
  /** By deployment. */
  readonly work: readonly ClassWork[];
  readonly deployments: readonly PricedDeployment[];
  /** [ms] */
  readonly slotLengths: Float64Array;
};

/** Potentials by deployment; `slots + 1` of each. */
export type Potentials = readonly Float64Array[];

/** [USD/ms] by deployment and slot; the entry after the last slot is 0: what ends after the span costs nothing. */
export type SlotPrices = readonly Float64Array[];

/** Prices that any fleet would be run for at all times, and no start is worth. */
export function flatPotentials({ deployments, slotLengths }: PriceSearch): Potentials {
  return deployments.map(() => new Float64Array(slotLengths.length + 1));
}

/** Prices of potentials, which are first brought within their limits. */
export function pricesOf(potentials: Potentials, search: Pick<PriceSearch, 'deployments' | 'slotLengths'>): SlotPrices {
  const { deployments, slotLengths } = search;
  const slots = slotLengths.length;
  return deployments.map(({ usdPerMs, startupMs }, d) => {
    const prices = new Float64Array(slots + 1).fill(usdPerMs, 0, slots);
    if (!(startupMs > 0)) return prices;
    const wanted = potentials[d]!;
    let sinceMs = 0;
    let before = 0;
    for (let t = 0; t < slots; t++) {
      const length = slotLengths[t]!;
      sinceMs += length;
      // The second: no price is negative.
      const most = Math.min(1, sinceMs / startupMs, before + length / startupMs);
      const after = t + 1 === slots ? 0 : Math.min(most, Math.max(0, wanted[t + 1]!));
      prices[t] = Math.max(0, usdPerMs * (1 + ((before - after) * startupMs) / length));
      before = after;
    }
    return prices;
  });
}

/** Share of its price by which an ascent moves that of a slot, at first and at last. */
const firstStep = 0.15;
const lastStep = 0.003;
/** Which share more is near the cheapest, at first and at last. */
const firstNear = 0.3;
const lastNear = 0.02;
const momentum = 0.8;
const squareMomentum = 0.97;
/** Costs of requests are told apart by this factor when the costliest ones are left out. */
const costFactor = 1.05;
const costBins = 1600;

/**
 * Ascends from potentials; deterministic.
 *
 * @param misses requests that may be left out
 */
export function ascend(
  search: PriceSearch,
  { from, misses, rounds }: { readonly from: Potentials; readonly misses: number; readonly rounds: number },
): Potentials {
  const { deployments, slotLengths } = search;
  const slots = slotLengths.length;
  if (deployments.every(({ startupMs }) => !(startupMs > 0))) return from;
  const potentials = from.map((values) => Float64Array.from(values));
  const means = from.map(() => new Float64Array(slots + 1));
  const slopes = from.map(() => new Float64Array(slots + 1));
  const squares = from.map(() => new Float64Array(slots + 1));
  const evaluator = new DualEvaluator(search);
  let best = from;
  let bestUsd = Number.NEGATIVE_INFINITY;
  let near = firstNear;
  const consider = (candidate: Potentials): void => {
    const usd = evaluator.evaluate(pricesOf(candidate, search), { misses, near });
    if (usd <= bestUsd) return;
    bestUsd = usd;
    best = candidate.map((values) => Float64Array.from(values));
  };
  let weight = 0;
  for (let round = 0; round < rounds; round++) {
    const done = round / Math.max(1, rounds - 1);
    const step = firstStep * (lastStep / firstStep) ** done;
    near = firstNear * (lastNear / firstNear) ** done;
    consider(potentials);
    for (let d = 0; d < deployments.length; d++) {
      const { startupMs } = deployments[d]!;
      if (!(startupMs > 0)) continue;
      const move = step * Math.min(1, slotLengths[0]! / startupMs);
      const load = evaluator.loads[d]!;
      const q = potentials[d]!;
      let sinceMs = 0;
      for (let t = 1; t < slots; t++) {
        sinceMs += slotLengths[t - 1]!;
        const gradient = load[t]! / slotLengths[t]! - load[t - 1]! / slotLengths[t - 1]!;
        slopes[d]![t] = momentum * slopes[d]![t]! + (1 - momentum) * gradient;
        squares[d]![t] = squareMomentum * squares[d]![t]! + (1 - squareMomentum) * gradient * gradient;
        const slope = slopes[d]![t]! / (1 - momentum ** (round + 1));
        const size = Math.sqrt(squares[d]![t]! / (1 - squareMomentum ** (round + 1))) + 1e-12;
        q[t] = Math.min(1, sinceMs / startupMs, Math.max(0, q[t]! + (move * slope) / size));
      }
      // No price is negative: a potential may not rise by more than Δ / S. The ones before it give way, since a burst's
      // price can only rise where the slots before it become free.
      for (let t = slots - 1; t > 1; t--) q[t - 1] = Math.max(q[t - 1]!, q[t]! - slotLengths[t - 1]! / startupMs);
    }
    if (round * 2 >= rounds) {
      weight++;
      for (const [d, q] of potentials.entries()) {
        for (let t = 1; t < slots; t++) means[d]![t] = means[d]![t]! + (q[t]! - means[d]![t]!) / weight;
      }
    }
  }
  consider(potentials);
  if (weight > 0) consider(means);
  return best;
}

/** The dual function on classes of requests, and where their work lies at those prices. */
export class DualEvaluator {
  /** Work by deployment and slot at the last evaluation [ms]. */
  readonly loads: readonly Float64Array[];
  /** Above this so many requests paid at the last evaluation. */
  usdPerMiss = 0;
  readonly #search: PriceSearch;
  readonly #costs: Float64Array;
  /** By class and deployment. */
  readonly #costOn: Float64Array;
  readonly #binCounts = new Float64Array(costBins);

  constructor(search: PriceSearch) {
    this.#search = search;
    this.loads = search.deployments.map(() => new Float64Array(search.slotLengths.length + 1));
    this.#costs = new Float64Array(search.classes.requests.length);
    this.#costOn = new Float64Array(search.classes.requests.length * search.deployments.length);
  }

  /**
   * What requests pay [USD], the costliest left out; fills `loads` with the work of those that pay.
   *
   * @param near deployments and slots that cost more than the cheapest by less than this share get some of the work, the
   *   less the dearer they are: prices would chase a single one back and forth
   */
  evaluate(prices: SlotPrices, { misses, near }: { readonly misses: number; readonly near: number }): number {
    const { classes, work, deployments } = this.#search;
    const { requests, first, prefillLast, decodeLast } = classes;
    const slots = this.#search.slotLengths.length;
    const costs = this.#costs;
    const each = this.#costOn;
    for (const load of this.loads) load.fill(0);
    for (let i = 0; i < requests.length; i++) {
      let least = Number.POSITIVE_INFINITY;
      for (let d = 0; d < deployments.length; d++) {
        const { prefillMs, decodeMs } = work[d]!;
        let cost = Number.POSITIVE_INFINITY;
        if (prefillMs[i] !== Number.POSITIVE_INFINITY) {
          const price = prices[d]!;
          cost =
            prefillMs[i]! * lowest(price, first[i]!, Math.min(slots, prefillLast[i]!)) +
            decodeMs[i]! * lowest(price, first[i]!, Math.min(slots, decodeLast[i]!));
        }
        each[i * deployments.length + d] = cost;
        if (cost < least) least = cost;
      }
      costs[i] = least;
    }
    const most = this.#costOfMiss(misses);
    this.usdPerMiss = most;
    let usd = -most * misses;
    for (let i = 0; i < requests.length; i++) {
      const least = costs[i]!;
      if (least > most * requests[i]!) {
        usd += most * requests[i]!;
        continue;
      }
      usd += least;
      let weights = 0;
      for (let d = 0; d < deployments.length; d++) weights += nearness(each[i * deployments.length + d]!, least, near);
      for (let d = 0; d < deployments.length; d++) {
        const share = nearness(each[i * deployments.length + d]!, least, near) / weights;
        if (share === 0) continue;
        const price = prices[d]!;
        const load = this.loads[d]!;
        const { prefillMs, decodeMs } = work[d]!;
        const from = first[i]!;
        spread(load, price, { from, to: Math.min(slots, prefillLast[i]!), work: prefillMs[i]! * share, near });
        spread(load, price, { from, to: Math.min(slots, decodeLast[i]!), work: decodeMs[i]! * share, near });
      }
    }
    return usd;
  }

  /** Above this so many requests pay. */
  #costOfMiss(misses: number): number {
    const { requests } = this.#search.classes;
    const counts = this.#binCounts.fill(0);
    for (let i = 0; i < requests.length; i++) {
      const bin = costBin(this.#costs[i]! / requests[i]!);
      counts[bin] = counts[bin]! + requests[i]!;
    }
    let left = misses;
    for (let bin = costBins - 1; bin >= 0; bin--) {
      left -= counts[bin]!;
      if (left < 0) return costOfBin(bin + 1);
    }
    return 0;
  }
}

/** Costs from 1e-20 USD on; the last bin also has those of requests that nothing serves. */
const leastCost = 1e-20;
const logCostFactor = Math.log(costFactor);

function costBin(usd: number): number {
  if (!(usd > leastCost)) return 0;
  return Math.min(costBins - 1, Math.floor(Math.log(usd / leastCost) / logCostFactor));
}

function costOfBin(bin: number): number {
  return leastCost * costFactor ** bin;
}

function lowest(prices: Float64Array, from: number, to: number): number {
  let least = prices[from]!;
  for (let t = from + 1; t <= to; t++) if (prices[t]! < least) least = prices[t]!;
  return least;
}

/** 1 at the least cost, 0 from `near` above it on. */
function nearness(cost: number, least: number, near: number): number {
  return cost <= least ? 1 : Math.max(0, near > 0 && least > 0 ? 1 - (cost - least) / (near * least) : 0);
}

function spread(
  load: Float64Array,
  prices: Float64Array,
  {
    from,
    to,
    work,
    near,
  }: { readonly from: number; readonly to: number; readonly work: number; readonly near: number },
): void {
  if (from >= to) {
    load[from] = load[from]! + work;
    return;
  }
  const least = lowest(prices, from, to);
  let weights = 0;
  for (let t = from; t <= to; t++) weights += nearness(prices[t]!, least, near);
  for (let t = from; t <= to; t++) load[t] = load[t]! + (work * nearness(prices[t]!, least, near)) / weights;
}
