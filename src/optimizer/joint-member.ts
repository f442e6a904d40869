import { ReplicaSearch } from './branch-and-bound.js';
import type { Program, ProgramSolution, SolveLimits } from './program.js';
import { type Costs, costsOf, replicaCost, UnservedDemandLp, type UnservedPiece } from './program-lp.js';
import { type ProblemLimit, remainingOf } from './shared-limits.js';
import { incumbentOf, rawProgram, requirementOf, type Stage, unmergedStage } from './stage.js';
import { type JoinedTwins, joinTwins } from './twins.js';

/** A replica vector of a model and what follows from it, whatever the other models do. */
export type Configuration = {
  /** Replicas of the program's deployments (twins joined). */
  readonly replicas: Float64Array;
  /** Running and switching [USD/hour]. */
  readonly usdPerHour: number;
  /** The least demand that it leaves unserved [requests/s]. */
  readonly unservedRps: number;
  /** What it takes of each shared limit. */
  readonly use: Float64Array;
};

/** Prices of what models share, as one model sees them. */
export type MemberPrices = {
  /** Does its own money count? */
  readonly withMoney: boolean;
  /** Per unit of each shared limit. */
  readonly limits: ArrayLike<number>;
  /** Per request/s that stays unserved: as long as enough is served, and beyond. */
  readonly unserved: number;
  readonly required: number;
};

/**
 * One of the models that share limits: finds its best configurations at any prices of what is shared. Two searches
 * stand behind it: with the least unserved demand that it could have alone, and with any, at a price.
 */
export class JointMember {
  readonly stage: Stage;
  readonly limits: readonly ProblemLimit[];
  readonly twins: JoinedTwins;
  /** Most that may stay unserved for what is required to be served [requests/s]. */
  readonly allowedRps: number;
  readonly totalRps: number;
  readonly configurations: Configuration[] = [];
  /** Replicas that run now, within their bounds; null where some are not known. Among plans of equal value they stay. */
  readonly current: Float64Array | null;
  readonly #known = new Map<string, Configuration>();
  readonly #own: Costs;
  readonly #uses: readonly Float64Array[];
  readonly #served: ReplicaSearch;
  #anyStage: Stage | null = null;
  #any: ReplicaSearch | null = null;
  #worth: UnservedDemandLp | null = null;

  constructor(stage: Stage, limits: readonly ProblemLimit[]) {
    this.stage = stage;
    this.limits = limits;
    const { placedRps, allowedRps } = requirementOf(stage);
    this.totalRps = placedRps;
    this.allowedRps = allowedRps;
    this.twins = joinTwins({ ...stage.program, sharedLimits: usesOf(stage, limits) });
    this.#uses = this.twins.program.sharedLimits!.map(({ use }) => use);
    this.#own = costsOf(this.twins.program);
    const known = incumbentOf(stage);
    const { lower, upper } = this.twins.program;
    this.current =
      known === null ? null : this.twins.join(known).map((count, d) => Math.min(upper[d]!, Math.max(lower[d]!, count)));
    const raw = stage.merged.exact ? undefined : withoutShared(this.twins.joinOver(this.#withUses(rawProgram(stage))));
    this.#served = new ReplicaSearch(withoutShared(this.twins.program), raw === undefined ? {} : { raw });
  }

  get program(): Program {
    return this.twins.program;
  }

  /** Must a part of its demand be served before anything else is? */
  get requires(): boolean {
    return this.allowedRps < this.totalRps;
  }

  /** What stays unserved of its placed demand when it has all that there is of the limits [requests/s]. */
  get leastUnservedRps(): number {
    return this.program.unservedLimit;
  }

  #withUses(program: Program): Program {
    return { ...program, sharedLimits: usesOf(this.stage, this.limits) };
  }

  /** Adds a configuration; returns it, or the one that was there. */
  know(replicas: Float64Array): Configuration {
    const key = replicas.join();
    const before = this.#known.get(key);
    if (before !== undefined) return before;
    const configuration = {
      replicas: replicas.slice(),
      usdPerHour: replicaCost(this.program, this.#own, replicas),
      unservedRps: this.#worth === null ? this.program.unservedLimit : this.#worth.at(replicas),
      use: this.useOf(replicas),
    };
    this.#known.set(key, configuration);
    this.configurations.push(configuration);
    return configuration;
  }

  /** What some replicas take of each shared limit. */
  useOf(replicas: Float64Array): Float64Array {
    return Float64Array.from(this.#uses, (use) => replicas.reduce((sum, count, d) => sum + count * use[d]!, 0));
  }

  isKnown(replicas: Float64Array): boolean {
    return this.#known.has(replicas.join());
  }

  /** Do the replicas that run now serve as much as the model could alone? */
  servesAsItRuns(): boolean {
    return this.current !== null && this.#served.valueOf(this.current) < Number.POSITIVE_INFINITY;
  }

  /** From now on any part of the demand may stay unserved, and configurations are told apart by how much. */
  letAnyStay(): void {
    if (this.#anyStage !== null) return;
    this.#anyStage = unmergedStage(this.stage, Number.POSITIVE_INFINITY);
    const program = withoutShared(this.twins.joinOver(this.#withUses(this.#anyStage.program)));
    const pieces = this.#pieces(1, 0);
    this.#any = new ReplicaSearch(program, { costs: { ...this.#own, unserved: pieces } });
    this.#worth = new UnservedDemandLp(program);
    const before = this.configurations.splice(0);
    this.#known.clear();
    for (const { replicas } of before) this.know(replicas);
    this.know(program.lower);
  }

  /** The best configuration at some prices, with its proof. */
  search(prices: MemberPrices, limits: SolveLimits, incumbents: readonly Float64Array[]): ProgramSolution {
    const search = this.#at(prices);
    return search.minimise(limits, incumbents);
  }

  /** Every configuration worth at most `ceiling` at some prices; null where they are too many. */
  enumerate(
    prices: MemberPrices,
    options: { ceiling: number; most: number; nodeLimit: number },
  ): readonly Float64Array[] | null {
    // The prices of the limits can hide that a replica costs less than to stop it.
    const moreMaySave = prices.withMoney && this.#own.below.some((cost) => cost < 0);
    return this.#at(prices).enumerate({ ...options, moreMaySave });
  }

  /**
   * The best configuration within what the other members leave.
   *
   * @param room of each shared limit, and for unserved demand [requests/s]
   */
  respond(
    prices: MemberPrices,
    room: { readonly limits: Float64Array; readonly unservedRps: number },
    limits: SolveLimits,
  ): ProgramSolution {
    const program = this.#any === null ? this.program : this.twins.joinOver(this.#withUses(this.#anyStage!.program));
    const costs = this.#costsAt(prices);
    const allowed = Math.max(0, Math.min(this.totalRps, room.unservedRps));
    const [within, beyond] = costs.unserved ?? [];
    const search = new ReplicaSearch(
      {
        ...program,
        sharedLimits: this.#uses.flatMap((use, r) => {
          return use.some((amount) => amount > 0) ? [{ use, limit: room.limits[r]! }] : [];
        }),
      },
      {
        costs: {
          ...costs,
          unserved:
            within === undefined
              ? null
              : [
                  { room: Math.min(within.room, allowed), price: within.price },
                  { room: Math.min(beyond!.room, Math.max(0, allowed - within.room)), price: beyond!.price },
                ],
        },
      },
    );
    return search.minimise(limits);
  }

  #at(prices: MemberPrices): ReplicaSearch {
    const search = this.#any ?? this.#served;
    search.setCosts(this.#costsAt(prices));
    return search;
  }

  #costsAt({ withMoney, limits, unserved, required }: MemberPrices): Costs {
    const { below, above, offset } = this.#own;
    const added = (costs: Float64Array): Float64Array =>
      costs.map((own, d) => {
        let cost = withMoney ? own : 0;
        this.#uses.forEach((use, r) => {
          cost += Math.max(0, limits[r]!) * use[d]!;
        });
        return cost;
      });
    return {
      below: added(below),
      above: added(above),
      offset: withMoney ? offset : 0,
      unserved: this.#any === null ? null : this.#pieces(unserved, required),
    };
  }

  #pieces(unserved: number, required: number): readonly UnservedPiece[] {
    return [
      { room: this.allowedRps, price: unserved },
      { room: this.totalRps - this.allowedRps, price: unserved + required },
    ];
  }
}

function withoutShared({ sharedLimits: _, ...program }: Program): Program {
  return program;
}

/** What one replica of each deployment takes of each limit. Fixed ones have taken theirs. */
export function usesOf(stage: Stage, limits: readonly ProblemLimit[]): readonly { use: Float64Array; limit: number }[] {
  const { deployments } = stage.formulation;
  return limits.map((limit) => ({
    use: Float64Array.from(deployments, (it) => (it.fixedReplicas === null ? limit.useOf(it) : 0)),
    limit: remainingOf(limit),
  }));
}
