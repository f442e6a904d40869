import { type Candidate, chooseConfigurations, isWithin, totalUse } from './configuration-choice.js';
import { ConfigurationLp } from './configuration-lp.js';
import type { Configuration, JointMember, MemberPrices } from './joint-member.js';
import type { SolveLimits } from './program.js';

/**
 * Plans models that share limits together: column generation (Dantzig and Wolfe).
 *
 * Each model's *configurations* are its replica vectors. A linear program over those found so far prices the limits; at
 * these prices each model finds its best configuration by an exact search of its own, which is added. For any prices
 * p ≥ 0 the models' proven bounds give one for the whole:
 *   D(p) = Σ_m bound_m(p) − Σ_r p_r limit_r,
 * so the bound holds whenever the search ends. One configuration per model is then chosen within the limits by branch and
 * bound; and where the models are few, every configuration that a better plan could contain is listed (those worth at
 * most bound_m + cost − D), which makes the choice among them a proof.
 */

/** One objective over configurations: money, or the unserved demand of a priority. */
export type Objective = {
  readonly valueOf: (member: JointMember, m: number, configuration: Configuration) => number;
  /** How a member sees the prices of the limits and of the extra rows. */
  readonly pricesFor: (m: number, limits: ArrayLike<number>, rows: ArrayLike<number>) => MemberPrices;
  /** Is it money? Else unserved demand. */
  readonly withMoney: boolean;
  /** No value is below this. */
  readonly least: number;
  /** Does a model look for new configurations? The others stay with what they have. */
  readonly isActive: (m: number) => boolean;
  /** What a unit of each row is at most worth, roughly: where the search for prices begins. */
  readonly firstPrices: (row: number) => number;
};

/** A limit on something else than what replicas take: what an earlier objective has reached. */
export type ExtraRow = {
  readonly limit: number;
  readonly amountOf: (m: number, configuration: Configuration) => number;
  /** Most demand that a member may leave unserved for an amount that it has left [requests/s]. */
  readonly mostUnserved: (m: number, amount: number) => number;
};

export type JointAnswer = {
  /** Null where no choice within the limits was found. */
  readonly chosen: readonly Configuration[] | null;
  readonly value: number;
  readonly bound: number;
};

export type JointRun = {
  readonly limits: SolveLimits;
  /** Nodes of all searches together so far, towards `limits.nodeLimit`. */
  spentNodes: number;
};

/** Values closer than this (relative) are equal. */
const valueTolerance = 1e-9;
/**
 * How near the linear program comes to its bound, and the searches at its prices to theirs, by how many models there are:
 * among few one configuration decides much; among many a part in a thousand is below what the forecast knows.
 */
function precisionFor(members: number): { readonly lp: number; readonly search: number } {
  if (members <= 30) return { lp: 1e-4, search: 0 };
  return members <= 200 ? { lp: 2e-4, search: 1e-4 } : { lp: 1e-3, search: 5e-4 };
}

const mostRounds = 60;
/** How often what a limit is at most worth is raised (eightfold) where nothing fits at it: then there is too little of it. */
const mostRaises = 2;
/** Rounds that are taken even when time is up, where the configurations still overrun a limit. */
const roundsToFit = 4;

/**
 * One configuration for each member at the least total value.
 *
 * @param shared the limits, in the order of each configuration's use
 */
export function solveObjective(members: readonly JointMember[], shared: Float64Array, stage: Stage): JointAnswer {
  return new ObjectiveStage(members, shared, stage).solve(stage.incumbent);
}

export type Stage = {
  readonly objective: Objective;
  readonly rows: readonly ExtraRow[];
  /** A choice that is known to keep limits and rows. */
  readonly incumbent: readonly Configuration[] | null;
  readonly run: JointRun;
};

type Priced = { readonly prices: Float64Array; readonly bounds: Float64Array; readonly total: number };

class ObjectiveStage {
  readonly #members: readonly JointMember[];
  readonly #rows: readonly ExtraRow[];
  readonly #objective: Objective;
  readonly #run: JointRun;
  readonly #limits: Float64Array;
  readonly #sharedCount: number;
  readonly #candidates: Candidate[] = [];
  readonly #configurationOf = new Map<Candidate, Configuration>();
  readonly #candidateOf = new Map<Configuration, Candidate>();
  readonly #lp: ConfigurationLp;
  #best: Priced | null = null;

  constructor(members: readonly JointMember[], shared: Float64Array, { objective, rows, run }: Stage) {
    this.#members = members;
    this.#rows = rows;
    this.#objective = objective;
    this.#run = run;
    this.#sharedCount = shared.length;
    // GPUs and money are used up to rounding; what an earlier objective has reached is not given up for a speck of it.
    this.#limits = Float64Array.of(
      ...Array.from(shared, (limit) => limit * (1 + 1e-9)),
      ...rows.map(({ limit }) => limit),
    );
    const overflow = Float64Array.from(this.#limits, (_, r) => objective.firstPrices(r));
    this.#lp = new ConfigurationLp(members.length, this.#limits, overflow);
    members.forEach((member, m) => {
      for (const configuration of member.configurations) this.#add(m, configuration);
    });
  }

  solve(incumbent: readonly Configuration[] | null): JointAnswer {
    const { least } = this.#objective;
    const known = incumbent?.map((configuration, m) => this.#add(m, configuration)) ?? null;
    if (known !== null && ((this.#rows.length > 0 && this.#shouldStop()) || this.#isNear(totalCost(known), least))) {
      return this.#answer(known, least);
    }
    const { search } = precisionFor(this.#members.length);
    const nothing = new Float64Array(this.#limits.length);
    const fitsFreely = (relativeGap: number): readonly Candidate[] | null => {
      const { found } = this.#price(nothing, relativeGap);
      return found !== null && isWithin(totalUse(found, this.#limits.length), this.#limits) ? found : null;
    };
    let freely = fitsFreely(search);
    if (freely !== null && this.#members.every((_, m) => this.#objective.isActive(m))) {
      // Nothing stands between the models: each is worth its own proof.
      if (search > 0 && !this.#shouldStop()) freely = fitsFreely(0) ?? freely;
      return this.#answer(freely, Math.max(this.#best!.total, least));
    }
    const overflows = this.#findPrices();
    let bound = Math.max(least, this.#best!.total);
    const mayBeWithin = !overflows || known !== null || this.#shouldStop();
    let best = mayBeWithin ? this.#choose(known, Math.max(20, Math.round(6_000 / this.#members.length))) : null;
    if (best === null) return { chosen: null, value: Number.POSITIVE_INFINITY, bound };
    best = this.#respond(this.#withFloors(best), bound);
    if (!this.#isNear(totalCost(best), bound) && this.#listAll(totalCost(best))) {
      const choice = chooseConfigurations(this.#choiceOptions(best, mostProofNodes));
      this.#run.spentNodes += choice.nodes;
      if (choice.chosen !== null) best = choice.chosen;
      bound = Math.max(bound, Math.min(choice.bound, totalCost(best)));
    }
    return this.#answer(best, bound);
  }

  #answer(chosen: readonly Candidate[], bound: number): JointAnswer {
    const value = totalCost(chosen);
    return {
      chosen: chosen.map((candidate) => this.#configurationOf.get(candidate)!),
      value,
      bound: value - bound <= valueTolerance * Math.max(1, Math.abs(value)) ? value : bound,
    };
  }

  #isNear(value: number, bound: number): boolean {
    const { relativeGap } = this.#run.limits;
    return value - bound <= Math.max(valueTolerance, relativeGap) * Math.max(1e-3, Math.abs(value));
  }

  #shouldStop(): boolean {
    const { nodeLimit, shouldStop } = this.#run.limits;
    return shouldStop() || (nodeLimit !== null && this.#run.spentNodes >= nodeLimit);
  }

  #add(m: number, configuration: Configuration): Candidate {
    const before = this.#candidateOf.get(configuration);
    if (before !== undefined) return before;
    const candidate: Candidate = {
      model: m,
      replicas: configuration.replicas,
      cost: this.#objective.valueOf(this.#members[m]!, m, configuration),
      use: Float64Array.of(...configuration.use, ...this.#rows.map(({ amountOf }) => amountOf(m, configuration))),
    };
    this.#candidateOf.set(configuration, candidate);
    this.#configurationOf.set(candidate, configuration);
    this.#candidates.push(candidate);
    this.#lp.add(m, candidate.cost, candidate.use);
    return candidate;
  }

  #memberPrices(m: number, prices: Float64Array): MemberPrices {
    return this.#objective.pricesFor(m, prices.subarray(0, this.#sharedCount), prices.subarray(this.#sharedCount));
  }

  /** Asks every active member for its best configuration at some prices, to a gap; keeps the best bound seen. */
  #price(
    prices: Float64Array,
    relativeGap: number,
  ): { found: readonly Candidate[] | null; total: number; newCount: number } {
    const bounds = new Float64Array(this.#members.length);
    const found: Candidate[] = [];
    let total = 0;
    let newCount = 0;
    this.#members.forEach((member, m) => {
      if (!this.#objective.isActive(m)) {
        bounds[m] = this.#leastKnown(m, prices).priced;
        total += bounds[m]!;
        return;
      }
      const near = this.#leastKnown(m, prices).candidate;
      const answer = member.search(
        this.#memberPrices(m, prices),
        {
          ...this.#run.limits,
          shouldStop: () => false,
          nodeLimit: 2_000,
          relativeGap,
        },
        [...(member.current === null ? [] : [member.current]), ...(near === null ? [] : [near.replicas])],
      );
      this.#run.spentNodes += answer.nodes;
      bounds[m] = answer.bound;
      total += answer.bound;
      if (answer.replicas === null) return;
      if (!member.isKnown(answer.replicas)) newCount++;
      found.push(this.#add(m, member.know(answer.replicas)));
    });
    for (let r = 0; r < prices.length; r++) total -= prices[r]! * this.#limits[r]!;
    total -= 1e-12 * Math.abs(total);
    if (this.#best === null || total > this.#best.total) {
      this.#best = { prices: prices.slice(), bounds, total };
    }
    return { found: found.length === this.#members.length ? found : null, total, newCount };
  }

  #leastKnown(m: number, prices: Float64Array): { candidate: Candidate | null; priced: number } {
    let candidate: Candidate | null = null;
    let priced = Number.POSITIVE_INFINITY;
    for (const configuration of this.#members[m]!.configurations) {
      const known = this.#candidateOf.get(configuration);
      if (known === undefined) continue;
      let value = known.cost;
      for (let r = 0; r < prices.length; r++) value += prices[r]! * known.use[r]!;
      if (value < priced) {
        priced = value;
        candidate = known;
      }
    }
    return { candidate, priced };
  }

  /**
   * Column generation. Prices are asked for between those of the linear program and the best so far, which keeps them
   * from swinging.
   *
   * @returns true where the configurations overrun a limit at any price that was tried
   */
  #findPrices(): boolean {
    const precision = precisionFor(this.#members.length);
    let raises = 0;
    let towardsBest = 0.5;
    for (let round = 0; round < mostRounds; round++) {
      this.#lp.solve(0);
      const value = this.#lp.boundAtPrices();
      const overflow = this.#lp.overflow();
      const overflows = overflow.some((amount, r) => amount > 1e-7 * Math.max(1, this.#limits[r]!));
      const isClose = value - this.#best!.total <= precision.lp * Math.max(1e-6, Math.abs(value));
      // Prices at which nothing fits are worth little: a few rounds more find some at which all does.
      const mustStop = this.#shouldStop() && (!overflows || round >= roundsToFit);
      if (isClose || mustStop) {
        if (!overflows || raises >= mostRaises || mustStop) return overflows;
        raises++;
        for (let r = 0; r < overflow.length; r++) this.#lp.raiseOverflowPrice(r, 8);
        continue;
      }
      const lpPrices = this.#lp.prices.map((price) => Math.max(0, price));
      const best = this.#best!.prices;
      const mixed = lpPrices.map((price, r) => towardsBest * best[r]! + (1 - towardsBest) * price);
      const before = this.#best!.total;
      // As long as the prices are far off, so may the answers be.
      const open = (value - before) / Math.max(1e-6, Math.abs(value));
      const gap = precision.search === 0 ? 0 : Math.min(5e-3, Math.max(precision.search, open / 10));
      const { newCount } = this.#price(mixed, gap);
      const isBetter = this.#best!.total > before;
      if (newCount === 0 && !isBetter && towardsBest === 0) {
        // The searches find nothing new at the prices of the linear program itself.
        if (!overflows || raises >= mostRaises) return overflows;
        raises++;
        for (let r = 0; r < overflow.length; r++) this.#lp.raiseOverflowPrice(r, 8);
      }
      // The fewer models find something new, the nearer the prices of the linear program are to the best there are.
      towardsBest = newCount === 0 ? 0 : Math.min(0.5, (2 * newCount) / this.#members.length);
    }
    return this.#lp.overflow().some((amount, r) => amount > 1e-7 * Math.max(1, this.#limits[r]!));
  }

  #choiceOptions(incumbent: readonly Candidate[] | null, mostNodes: number) {
    const { nodeLimit: ofRun } = this.#run.limits;
    const nodeLimit = ofRun === null ? mostNodes : Math.max(1, Math.min(mostNodes, ofRun - this.#run.spentNodes));
    return {
      candidates: this.#candidates,
      modelCount: this.#members.length,
      limits: this.#limits,
      incumbent,
      nodeLimit,
      shouldStop: () => this.#shouldStop(),
      relativeGap: this.#run.limits.relativeGap,
    };
  }

  #choose(known: readonly Candidate[] | null, nodeLimit: number): readonly Candidate[] | null {
    const choice = chooseConfigurations(this.#choiceOptions(known, nodeLimit));
    this.#run.spentNodes += choice.nodes;
    return choice.chosen;
  }

  /** Members whose turn is yet to come take no more than their floors. */
  #withFloors(chosen: readonly Candidate[]): readonly Candidate[] {
    return chosen.map((candidate, m) => {
      if (this.#objective.isActive(m)) return candidate;
      const member = this.#members[m]!;
      const least = this.#add(m, member.know(member.program.lower));
      return least.cost <= candidate.cost && least.use.every((amount, r) => amount <= candidate.use[r]!)
        ? least
        : candidate;
    });
  }

  /** Lets one member after the other take its best configuration within what the others leave, until none gains. */
  #respond(chosen: readonly Candidate[], bound: number): readonly Candidate[] {
    const isLarge = this.#members.length > mostMembersListed;
    // Of many only those that want for something: money they save elsewhere.
    if (isLarge && this.#objective.withMoney) return chosen;
    const best = chosen.slice();
    for (let pass = 0; pass < (isLarge ? 1 : mostPasses); pass++) {
      let hasGained = false;
      for (const [m, member] of this.#members.entries()) {
        if (this.#isNear(totalCost(best), bound) || (!isLarge && this.#shouldStop())) return best;
        if (!this.#objective.isActive(m) || (isLarge && best[m]!.cost <= 0)) continue;
        const others = totalUse(best, this.#limits.length);
        const room = this.#limits.map((limit, r) => limit - others[r]! + best[m]!.use[r]!);
        let unservedRps = Number.POSITIVE_INFINITY;
        this.#rows.forEach(({ mostUnserved }, r) => {
          unservedRps = Math.min(unservedRps, mostUnserved(m, room[this.#sharedCount + r]!));
        });
        const answer = member.respond(
          this.#memberPrices(m, new Float64Array(this.#limits.length)),
          { limits: room.subarray(0, this.#sharedCount), unservedRps },
          { ...this.#run.limits, shouldStop: () => false, nodeLimit: 500, relativeGap: 0 },
        );
        this.#run.spentNodes += answer.nodes;
        if (answer.replicas === null) continue;
        const candidate = this.#add(m, member.know(answer.replicas));
        const gain = best[m]!.cost - candidate.cost;
        if (gain <= valueTolerance * Math.max(1e-3, Math.abs(best[m]!.cost))) continue;
        const next = best.with(m, candidate);
        if (!isWithin(totalUse(next, this.#limits.length), this.#limits)) continue;
        best[m] = candidate;
        hasGained = true;
      }
      if (!hasGained) break;
    }
    return best;
  }

  /** Lists every configuration that a plan better than `value` could contain. False where they are too many. */
  #listAll(value: number): boolean {
    if (this.#members.length > mostMembersListed) return false;
    const { prices, bounds, total } = this.#best!;
    const room = Math.max(0, value - total);
    let left = mostListed;
    for (const [m, member] of this.#members.entries()) {
      if (!this.#objective.isActive(m)) continue;
      if (this.#shouldStop()) return false;
      const list = member.enumerate(this.#memberPrices(m, prices), {
        ceiling: bounds[m]! + room,
        most: left,
        nodeLimit: 20_000,
      });
      if (list === null) return false;
      left -= list.length;
      for (const replicas of list) this.#add(m, member.know(replicas));
    }
    return true;
  }
}

/** Models whose configurations are listed to prove a plan, and how many configurations in all. */
const mostMembersListed = 40;
/** Passes over the members that each take their best in turn. */
const mostPasses = 4;
const mostListed = 6_000;
/** Nodes of the choice among listed configurations. */
const mostProofNodes = 20_000;

function totalCost(chosen: readonly Candidate[]): number {
  return chosen.reduce((sum, { cost }) => sum + cost, 0);
}
