import type { RandomSource } from '../../profiling/random.js';
import type { BacktestRequest, FleetSettings, Policy, RunResult } from './backtest.js';
import { chanceOf } from './chance.js';
import { latenciesOf } from './fleet.js';
import { FluidGateway } from './fluid-gateway.js';
import type { GroupOutcome, ReplicaGroup } from './fluid-group.js';
import { FluidPool } from './fluid-pool.js';
import { checkTimes, RunStopped } from './request-run.js';
import { ShareSelector } from './router.js';
import { RunTally } from './run-tally.js';
import type { RequestStream } from './trace-load.js';

/**
 * A run in `fluid` fidelity: fleets of hundreds of replicas at a cost that does not grow with them.
 *
 * Replicas are started, drained, lost and paid for one by one, as in `request` fidelity. They serve in groups of like
 * ones (`ReplicaGroup`), of which there are at most `groupsPerDeployment`. Requests that go to a deployment are counted,
 * all of them; each time as many have come as the next group has replicas, the last of them is put into that group and
 * stands for all of these. So the load of a group keeps the regularity of a large fleet's: it is every r-th request, and
 * not one drawn with chance 1/r. While no deployment has had more than `groupsPerDeployment` replicas, every group is one
 * replica and every request is computed.
 *
 * Where fluid may be trusted, and measured differences from `request` fidelity: `docs/backtest-fluid.md`.
 */
export type FluidRunOptions = {
  readonly settings: FleetSettings;
  /** Ascending in time. */
  readonly requests: RequestStream;
  readonly policy: Policy;
  /** Asked at every decision and every ten seconds of the simulation; true ends the run with a `RunStopped`. */
  readonly shouldStop?: () => boolean;
  /**
   * Requests that each of the stream stands for, > 0; 1 by default. So k copies of a trace may be read as k / w copies
   * whose requests weigh w: reading costs more than computing where fleets are large. At most the fleet's mean number of
   * replicas divided by its groups, or requests that are read once are computed several times.
   */
  readonly requestWeight?: number;
  /** Most groups of a deployment, a whole number >= 2. */
  readonly groupsPerDeployment?: number;
};

/** With six replicas a group, times to the first token are 5 % too short, with three 2 %; all else is less; twice as many cost twice as much. */
export const defaultGroupsPerDeployment = 32;

/** Requests that were counted, and not yet given to a group. */
type Stream = {
  count: number;
  /** Replicas of the group that stood next at the last look. */
  next: number;
  /** Drawn by the router `random`, and not yet given anything: drawing again would favour small groups. */
  drawn: ReplicaGroup | null;
};

/** A group of another deployment than the one whose turn it is. */
type Elsewhere = { readonly place: number; readonly group: ReplicaGroup };

type Queued = BacktestRequest & { readonly count: number };

type Pending = { readonly atMs: number; readonly replicas: ReadonlyMap<FluidPool, number> };

/**
 * Runs a policy against a load.
 *
 * @throws RangeError for requests out of order, options that are none, and decisions that no fleet can follow
 * @throws RunStopped
 */
export async function runFluid(options: FluidRunOptions): Promise<RunResult> {
  const run = new FluidRun(options);
  const { requests } = options;
  await run.controlUntil(options.settings.startMs);
  if (Symbol.iterator in requests) {
    for (const request of requests) {
      if (request.atMs >= run.nextControlMs) await run.controlUntil(request.atMs);
      if (!run.take(request)) break;
    }
  } else {
    for await (const request of requests) {
      if (request.atMs >= run.nextControlMs) await run.controlUntil(request.atMs);
      if (!run.take(request)) break;
    }
  }
  await run.controlUntil(options.settings.endMs);
  return run.finish();
}

class FluidRun {
  /** Nothing but arrivals happens before. */
  nextControlMs = Number.NEGATIVE_INFINITY;
  readonly #settings: FleetSettings;
  readonly #policy: Policy;
  readonly #shouldStop: () => boolean;
  readonly #requestWeight: number;
  readonly #pools: readonly FluidPool[];
  readonly #tally: RunTally;
  readonly #gateway = new FluidGateway();
  readonly #shares: ShareSelector;
  readonly #chance: RandomSource;
  /** Of requests that may go to any deployment, and of those that shares gave to one. */
  readonly #anyStream: Stream = { count: 0, next: 1, drawn: null };
  readonly #streams: readonly Stream[];
  #last: BacktestRequest | null = null;
  #lastMs: number;
  #turn = 0;
  #queue: Queued[] = [];
  #decideMs: number;
  #pending: Pending[] = [];
  #intervalEndMs: number;
  #isWarm = false;
  #nowMs: number;

  constructor(options: FluidRunOptions) {
    const { settings, policy, requestWeight = 1, groupsPerDeployment = defaultGroupsPerDeployment } = options;
    if (!(requestWeight > 0 && Number.isFinite(requestWeight))) {
      throw new RangeError(`requestWeight is ${requestWeight}, expected a number > 0`);
    }
    if (!(Number.isInteger(groupsPerDeployment) && groupsPerDeployment >= 2)) {
      throw new RangeError(`groupsPerDeployment is ${groupsPerDeployment}, expected a whole number >= 2`);
    }
    checkTimes(settings, policy);
    this.#settings = settings;
    this.#policy = policy;
    this.#shouldStop = options.shouldStop ?? (() => false);
    this.#requestWeight = requestWeight;
    const tally = new RunTally(settings);
    this.#tally = tally;
    const { startMs, drainSeconds, meanHoursBetweenFailures, seed } = settings;
    this.#pools = settings.deployments.map(
      (deployment) =>
        new FluidPool({
          deployment,
          initial: settings.initialReplicas.get(deployment.id) ?? 0,
          startMs,
          drainSeconds,
          meanHoursBetweenFailures,
          seed,
          mostGroups: groupsPerDeployment,
          tally,
          onAnswer: (outcome) => this.#answer(outcome),
          onLost: (requests) => {
            for (const each of requests) this.#fail(each.arrivedMs, each.count);
          },
        }),
    );
    this.#shares = new ShareSelector(settings.deployments.map(({ id }) => id));
    this.#streams = settings.deployments.map(() => ({ count: 0, next: 1, drawn: null }));
    this.#chance = chanceOf(seed, 'router');
    this.#decideMs = startMs;
    this.#intervalEndMs = this.#gateway.endOfInterval(startMs);
    this.#nowMs = startMs;
    this.#lastMs = startMs;
    for (const id of settings.initialReplicas.keys()) this.#poolOf(id);
  }

  /** A request comes in; false where the span is over. */
  take(request: BacktestRequest): boolean {
    const { atMs } = request;
    if (!(atMs >= this.#lastMs)) {
      throw new RangeError(
        `a request at ${atMs} ms after ${this.#lastMs} ms: expected ascending times from the start at ${this.#settings.startMs} ms on`,
      );
    }
    if (atMs >= this.#settings.endMs) return false;
    this.#lastMs = atMs;
    const weight = this.#requestWeight;
    this.#gateway.arrive(weight);
    this.#last = request;
    const place = this.#settings.router === 'shares' ? this.#readyPlaceOf(request) : null;
    if (place !== null || this.#pools.some(({ ready }) => ready > 0)) this.#count(request, place);
    else this.#enqueue(request, weight);
    return true;
  }

  /** The deployment whose turn it is; where none of its replicas is ready, the one that is least full. Null = any. */
  #readyPlaceOf(request: BacktestRequest): number | null {
    const place = this.#shares.next(request);
    if (place === null || this.#pools[place]!.ready > 0) return place;
    return this.#leastFull(request, { instead: place, below: Number.POSITIVE_INFINITY })?.place ?? null;
  }

  /** Everything but arrivals that happens up to then, in order. */
  async controlUntil(untilMs: number): Promise<void> {
    const { startMs, scoredFromMs, endMs } = this.#settings;
    for (;;) {
      this.nextControlMs = this.#nextControlMs();
      const atMs = Math.max(startMs, this.nextControlMs);
      if (atMs > untilMs) return;
      if (this.#shouldStop()) throw new RunStopped();
      this.#nowMs = atMs;
      for (const pool of this.#pools) {
        pool.advance(atMs);
        pool.change(atMs);
      }
      while (this.#pending.length > 0 && this.#pending[0]!.atMs <= atMs) this.#apply(this.#pending.shift()!, atMs);
      this.#serveQueue(atMs);
      if (!this.#isWarm && scoredFromMs <= atMs) {
        this.#isWarm = true;
        this.#giveRest();
        for (const pool of this.#pools) pool.settle(scoredFromMs);
      }
      if (this.#intervalEndMs <= atMs) {
        this.#gateway.finish(this.#intervalEndMs);
        this.#intervalEndMs = this.#gateway.endOfInterval(atMs);
      }
      if (this.#decideMs <= atMs) {
        await this.#decide(atMs);
        this.#decideMs += this.#policy.periodSeconds * 1000;
        // No question at the end or after.
        if (this.#decideMs >= endMs) this.#decideMs = Number.POSITIVE_INFINITY;
      }
    }
  }

  /** Serves what is open to its end. */
  finish(): RunResult {
    const { endMs, queueTimeoutSeconds } = this.#settings;
    this.#giveRest();
    for (const pool of this.#pools) pool.close(endMs);
    // Those that are starting come up as they would.
    while (this.#queue.length > 0) {
      const atMs = Math.min(
        ...this.#pools.map(({ nextMs }) => nextMs),
        this.#queue[0]!.atMs + queueTimeoutSeconds * 1000,
      );
      for (const pool of this.#pools) {
        pool.advance(atMs);
        pool.change(atMs);
      }
      this.#serveQueue(atMs);
    }
    for (const pool of this.#pools) pool.finish();
    const result = this.#tally.result();
    // Parts of requests add up to whole ones but for rounding.
    const [requests, attained, failed, unserved] = [
      result.requests,
      result.attained,
      result.failed,
      result.unserved,
    ].map(Math.round) as [number, number, number, number];
    return {
      ...result,
      requests,
      attained,
      failed,
      unserved,
      late: Math.max(0, requests - attained - failed - unserved),
    };
  }

  #nextControlMs(): number {
    let next = Math.min(this.#decideMs, this.#intervalEndMs, this.#pending[0]?.atMs ?? Number.POSITIVE_INFINITY);
    if (!this.#isWarm) next = Math.min(next, this.#settings.scoredFromMs);
    for (const pool of this.#pools) next = Math.min(next, pool.nextMs);
    const first = this.#queue[0];
    if (first !== undefined) next = Math.min(next, first.atMs + this.#settings.queueTimeoutSeconds * 1000);
    return next;
  }

  async #decide(atMs: number): Promise<void> {
    const decision = await this.#policy.decide({
      nowMs: atMs,
      deployments: this.#pools.map((pool) => pool.view(atMs)),
      queuedRequests: Math.round(this.#queue.reduce((sum, { count }) => sum + count, 0)),
      intervals: this.#gateway.take(),
    });
    if (this.#settings.router === 'shares') this.#shares.set(decision.routing);
    this.#tally.forecast(atMs, decision.forecastRps);
    const replicas = new Map<FluidPool, number>();
    for (const [id, wanted] of decision.replicas) {
      const pool = this.#poolOf(id);
      replicas.set(pool, pool.want(wanted));
    }
    this.#pending.push({ atMs: atMs + this.#policy.lagSeconds * 1000, replicas });
  }

  #poolOf(id: string): FluidPool {
    const pool = this.#pools.find(({ deployment }) => deployment.id === id);
    if (pool !== undefined) return pool;
    const ids = this.#pools.map(({ deployment }) => deployment.id).join(', ');
    throw new RangeError(`replicas of ${id} are asked for, expected one of ${ids}`);
  }

  #apply({ replicas }: Pending, atMs: number): void {
    for (const [pool, wanted] of replicas) pool.scaleTo(wanted, atMs);
  }

  /** Counts a request, and gives groups what has come for them. */
  #count(request: BacktestRequest, place: number | null): void {
    const stream = place === null ? this.#anyStream : this.#streams[place]!;
    stream.count += this.#requestWeight;
    // The look at all groups is what costs: it waits until there may be enough.
    while (stream.count >= stream.next - rounding) {
      const group = this.#isThere(stream.drawn) ? stream.drawn : this.#choose(place, request.atMs);
      if (group === null) return;
      stream.next = group.replicas;
      stream.drawn = null;
      if (stream.count < group.replicas - rounding) {
        if (this.#settings.router === 'random') stream.drawn = group;
        return;
      }
      const other = place === null ? null : this.#overflowOf(request, place, group);
      if (other === null) this.#give(stream, group, request);
      else this.#moveOver(stream, group, other, request);
    }
  }

  /**
   * What has come for a group that is full goes over to the requests that were counted for another deployment, as many as
   * its least full group still needs to have one for each of its replicas: the next look finds that group fuller.
   */
  #moveOver(stream: Stream, full: ReplicaGroup, other: Elsewhere, request: BacktestRequest): void {
    const into = this.#streams[other.place]!;
    const moved = Math.min(full.replicas, Math.max(0, other.group.replicas - into.count));
    stream.count -= moved;
    into.count += moved;
    if (into.count >= other.group.replicas - rounding) this.#give(into, other.group, request);
  }

  #give(stream: Stream, group: ReplicaGroup, request: BacktestRequest): void {
    const count = group.replicas;
    stream.count -= count;
    this.#tally.arrive(request.atMs, count);
    this.#submit(group, { ...request, count }, request.atMs);
  }

  /** Where requests go whose deployment's least loaded group is full; null where it is not, or no other is less full. */
  #overflowOf(request: BacktestRequest, place: number, group: ReplicaGroup | null): Elsewhere | null {
    const fullness = group === null ? Number.POSITIVE_INFINITY : group.load / this.#shares.fullInFlightOf(place);
    return fullness < 1 - rounding ? null : this.#leastFull(request, { instead: place, below: fullness - rounding });
  }

  /** The least full group of those that may take the request instead of a deployment, if it is less full than `below`. */
  #leastFull(
    request: BacktestRequest,
    { instead, below }: { readonly instead: number; readonly below: number },
  ): Elsewhere | null {
    const places = this.#shares.overflowOf(request, instead);
    const pools = places.map((place) => this.#pools[place]!);
    for (const pool of pools) pool.advance(request.atMs);
    const fullInFlight = places.map((place) => this.#shares.fullInFlightOf(place));
    const group = this.#least(pools, { fullInFlight, below });
    if (group === null) return null;
    return { place: places[pools.findIndex(({ groups }) => groups.includes(group))]!, group };
  }

  /** Gives away what was counted and is less than a group takes: nothing is open then that came before. */
  #giveRest(): void {
    const last = this.#last;
    if (last === null) return;
    [...this.#streams, this.#anyStream].forEach((stream, index) => {
      if (!(stream.count > rounding)) return;
      const count = stream.count;
      stream.count = 0;
      const place = index < this.#streams.length && this.#pools[index]!.ready > 0 ? index : null;
      const group = this.#choose(place, last.atMs);
      if (group === null) {
        this.#enqueue(last, count);
        return;
      }
      this.#tally.arrive(last.atMs, count);
      this.#submit(group, { ...last, count }, Math.max(last.atMs, this.#nowMs));
    });
  }

  #submit(group: ReplicaGroup, request: Queued, atMs: number): void {
    const { atMs: arrivedMs, count } = request;
    const inputTokens = Math.max(1, request.inputTokens);
    const outputTokens = Math.max(1, request.outputTokens);
    if (!group.submit({ arrivedMs, inputTokens, outputTokens, count }, atMs)) this.#fail(arrivedMs, count);
  }

  /** Null where no replica is ready. */
  #choose(place: number | null, atMs: number): ReplicaGroup | null {
    const pools = place === null ? this.#pools : [this.#pools[place]!];
    for (const pool of pools) pool.advance(atMs);
    if (this.#settings.router === 'random') return this.#any(pools);
    return this.#least(pools);
  }

  /** The group with the fewest requests on a replica, or the least full one, as `RequestRouter` chooses replicas. */
  #least(
    pools: readonly FluidPool[],
    by: { readonly fullInFlight: readonly number[]; readonly below: number } | null = null,
  ): ReplicaGroup | null {
    let count = 0;
    for (const { groups } of pools) count += groups.length;
    if (count === 0) return null;
    // Equals take turns.
    const turn = this.#turn % count;
    this.#turn = turn + 1;
    let best: ReplicaGroup | null = null;
    let least = by?.below ?? Number.POSITIVE_INFINITY;
    let fromTurn: ReplicaGroup | null = null;
    let leastFromTurn = least;
    let at = 0;
    for (let i = 0; i < pools.length; i++) {
      const full = by === null ? 1 : by.fullInFlight[i]!;
      for (const group of pools[i]!.groups) {
        const load = group.load / full;
        if (load < least) {
          least = load;
          best = group;
        }
        if (at++ >= turn && load < leastFromTurn) {
          leastFromTurn = load;
          fromTurn = group;
        }
      }
    }
    return fromTurn !== null && leastFromTurn <= least + rounding ? fromTurn : best;
  }

  /** Where a request goes that need not wait for others; null where no replica is ready. */
  #chooseFor(request: BacktestRequest): ReplicaGroup | null {
    const place = this.#settings.router === 'shares' ? this.#shares.next(request) : null;
    const own = place === null ? null : this.#choose(place, request.atMs);
    const other = place === null ? null : this.#overflowOf(request, place, own);
    return other?.group ?? own ?? this.#choose(null, request.atMs);
  }

  #isThere(group: ReplicaGroup | null): group is ReplicaGroup {
    return group !== null && this.#pools.some(({ groups }) => groups.includes(group));
  }

  /** Every group alike: what a large one gets stands for more. */
  #any(pools: readonly FluidPool[]): ReplicaGroup | null {
    let count = 0;
    for (const { groups } of pools) count += groups.length;
    if (count === 0) return null;
    let nth = this.#chance.whole(count);
    for (const { groups } of pools) {
      if (nth < groups.length) return groups[nth]!;
      nth -= groups.length;
    }
    return null;
  }

  #enqueue(request: BacktestRequest, count: number): void {
    this.#tally.arrive(request.atMs, count);
    this.#queue.push({ ...request, count });
  }

  #serveQueue(atMs: number): void {
    if (this.#queue.length === 0) return;
    const timeoutMs = this.#settings.queueTimeoutSeconds * 1000;
    const isReady = this.#pools.some(({ ready }) => ready > 0);
    let served = 0;
    for (const request of this.#queue) {
      if (request.atMs + timeoutMs <= atMs) {
        this.#tally.leaveUnserved(request.atMs, request.count);
        this.#gateway.lose(request.count);
      } else if (isReady) {
        this.#submit(this.#chooseFor({ ...request, atMs })!, request, atMs);
      } else break;
      served++;
    }
    this.#queue = this.#queue.slice(served);
  }

  #answer(outcome: GroupOutcome): void {
    const { arrivedMs, inputTokens, outputTokens, count } = outcome;
    this.#gateway.complete({ inputTokens, outputTokens, count });
    this.#tally.answer({ arrivedMs, inputTokens, outputTokens, ...latenciesOf(outcome, outcome.endMs) }, count);
  }

  #fail(arrivedMs: number, count: number): void {
    this.#tally.fail(arrivedMs, count);
    this.#gateway.lose(count);
  }
}

/** Counts are sums of parts. */
const rounding = 1e-9;
