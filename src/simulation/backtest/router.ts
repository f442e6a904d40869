import type { BucketRoute, ModelRouting } from '../../core/routing.js';
import { gatewayBucketIndex } from '../../core/token-bucket.js';
import type { RandomSource } from '../../profiling/random.js';
import type { Router } from './backtest.js';

/**
 * Who gets a request: the gateway's choice among ready replicas, at the moment of the arrival. A choice is final: a
 * request waits in the queue of its replica, not in one of the fleet. With single-sequence replicas this is
 * join-the-shortest-queue, not M/M/c.
 */

/** What a router looks at. */
export type Routable = { readonly inFlight: number };

/** Bucket indexes are below 401: `largestTokensLog2` times the precision. */
const bucketSpan = 512;

/** The gateway's indexes count tenths of a doubling. */
const indexesPerDoubling = 10;

/** Routes the requests of one run. `Replica` is whatever the caller keeps of one. */
export class RequestRouter<Replica extends Routable> {
  readonly #router: Router;
  readonly #chance: RandomSource;
  readonly #shares: ShareSelector;
  /** Where the search for the fewest requests begins: equals take turns. */
  #turn = 0;

  /** @param deployments ids, in the order in which `choose` is given their ready replicas */
  constructor(options: {
    readonly router: Router;
    readonly deployments: readonly string[];
    readonly chance: RandomSource;
  }) {
    this.#router = options.router;
    this.#chance = options.chance;
    this.#shares = new ShareSelector(options.deployments);
  }

  /** Where requests go from now on; null = there are no shares. Other routers ignore it. */
  setRouting(routing: ModelRouting | null): void {
    if (this.#router === 'shares') this.#shares.set(routing);
  }

  /** @returns null where no replica is ready */
  choose(
    request: { readonly inputTokens: number; readonly outputTokens: number },
    ready: readonly (readonly Replica[])[],
  ): Replica | null {
    if (this.#router === 'random') return this.#any(ready);
    if (this.#router === 'shares') {
      const deployment = this.#shares.next(request);
      const chosen = deployment === null ? null : this.#choiceOf(deployment, request, ready);
      if (chosen !== null) return chosen;
    }
    return this.#least(ready);
  }

  /** The deployment's own replica, or the one that the request overflows to; null where there is neither. */
  #choiceOf(
    deployment: number,
    request: { readonly inputTokens: number; readonly outputTokens: number },
    ready: readonly (readonly Replica[])[],
  ): Replica | null {
    const own = this.#least([ready[deployment]!]);
    // A replica that is not there has no room either.
    const fullness = own === null ? Number.POSITIVE_INFINITY : own.inFlight / this.#shares.fullInFlightOf(deployment);
    if (fullness < 1) return own;
    const others = this.#shares.overflowOf(request, deployment);
    const fullInFlight = others.map((place) => this.#shares.fullInFlightOf(place));
    const lists = others.map((place) => ready[place]!);
    return this.#least(lists, { fullInFlight, below: fullness }) ?? own;
  }

  #any(ready: readonly (readonly Replica[])[]): Replica | null {
    let count = 0;
    for (const replicas of ready) count += replicas.length;
    if (count === 0) return null;
    let place = this.#chance.whole(count);
    for (const replicas of ready) {
      if (place < replicas.length) return replicas[place]!;
      place -= replicas.length;
    }
    return null;
  }

  /**
   * The replica with the fewest requests of some lists; or the least full one, by what a full replica of each list holds,
   * if it is less full than `below`. Null where there is none.
   */
  #least(
    lists: readonly (readonly Replica[])[],
    by: { readonly fullInFlight: readonly number[]; readonly below: number } | null = null,
  ): Replica | null {
    let count = 0;
    for (const replicas of lists) count += replicas.length;
    if (count === 0) return null;
    const turn = this.#turn % count;
    this.#turn = turn + 1;
    let best: Replica | null = null;
    let bestFromTurn: Replica | null = null;
    let least = by?.below ?? Number.POSITIVE_INFINITY;
    let leastFromTurn = least;
    let place = 0;
    for (let list = 0; list < lists.length; list++) {
      const full = by === null ? 1 : by.fullInFlight[list]!;
      for (const replica of lists[list]!) {
        const load = replica.inFlight / full;
        if (load < least) {
          least = load;
          best = replica;
        }
        if (place++ >= turn && load < leastFromTurn) {
          leastFromTurn = load;
          bestFromTurn = replica;
        }
      }
    }
    return bestFromTurn !== null && leastFromTurn === least ? bestFromTurn : best;
  }
}

/** Of one bucket. */
type BucketEntry = {
  /** Deployments with a share > 0, and the shares, which sum to 1; empty = none that is known. */
  readonly deployments: readonly number[];
  readonly shares: readonly number[];
  /** Deployments that take its requests where another's replica is full; those of which it is known when they are. */
  readonly overflow: readonly number[];
};

/**
 * Follows shares per bucket without chance, as smooth weighted round robin does: every request credits the deployments
 * with their shares and takes one from the one that is owed most. Credits are kept per bucket and, beside that, over all
 * buckets, and stay through new plans: a small share of a bucket that is hit once in a while is not lost.
 *
 * A request that overflows has used the turn of the deployment that was full. If it counted for the one that took it, the
 * full one would be owed ever more: asked more often while it is full, and flooded once it is not.
 */
export class ShareSelector {
  readonly #places: ReadonlyMap<string, number>;
  readonly #owed: Float64Array;
  readonly #owedInBucket = new Map<number, Float64Array>();
  /** Requests on a full replica, by place; Infinity where that is not known: such a one is never full. */
  readonly #fullInFlight: Float64Array;
  #routing: ModelRouting | null = null;
  #listed: readonly BucketRoute[] = [];
  /** (log2 input, log2 output) of each that is listed. */
  #lengths = new Float64Array(0);
  /** Place in the list, by bucket. */
  readonly #exact = new Map<number, number>();
  /** By bucket of requests that came: the listed entry, exact or nearest. */
  readonly #entries = new Map<number, BucketEntry>();

  constructor(deployments: readonly string[]) {
    this.#places = new Map(deployments.map((id, place) => [id, place]));
    this.#owed = new Float64Array(deployments.length);
    this.#fullInFlight = new Float64Array(deployments.length).fill(Number.POSITIVE_INFINITY);
  }

  /** Deployments that are not this fleet's are left out, and what is left of a bucket's shares is scaled to 1. */
  set(routing: ModelRouting | null): void {
    if (routing === this.#routing) return;
    this.#routing = routing;
    const listed = routing?.shares ?? [];
    this.#fullInFlight.fill(Number.POSITIVE_INFINITY);
    for (const [id, full] of routing?.fullInFlight ?? []) {
      const place = this.#places.get(id);
      if (place !== undefined && full > 0) this.#fullInFlight[place] = full;
    }
    this.#entries.clear();
    if (listed === this.#listed) return;
    this.#listed = listed;
    this.#exact.clear();
    this.#lengths = new Float64Array(2 * listed.length);
    for (const [at, { inputTokens, outputTokens }] of listed.entries()) {
      const inputLog2 = Math.log2(Math.max(1, inputTokens));
      const outputLog2 = Math.log2(Math.max(1, outputTokens));
      this.#lengths[2 * at] = inputLog2;
      this.#lengths[2 * at + 1] = outputLog2;
      const key = keyOf(Math.round(inputLog2 * indexesPerDoubling), Math.round(outputLog2 * indexesPerDoubling));
      if (!this.#exact.has(key)) this.#exact.set(key, at);
    }
  }

  /** The place of the deployment that takes the request; null where its bucket has no shares. */
  next(request: { readonly inputTokens: number; readonly outputTokens: number }): number | null {
    if (this.#listed.length === 0) return null;
    const key = keyOf(gatewayBucketIndex(request.inputTokens), gatewayBucketIndex(request.outputTokens));
    const { deployments, shares } = this.#entryOf(key);
    if (deployments.length === 0) return null;
    if (deployments.length === 1) return deployments[0]!;
    let owedInBucket = this.#owedInBucket.get(key);
    if (owedInBucket === undefined) {
      owedInBucket = new Float64Array(this.#owed.length);
      this.#owedInBucket.set(key, owedInBucket);
    }
    let chosen = deployments[0]!;
    let most = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < deployments.length; i++) {
      const place = deployments[i]!;
      this.#owed[place]! += shares[i]!;
      owedInBucket[place]! += shares[i]!;
      const owed = this.#owed[place]! + owedInBucket[place]!;
      // Rounding must not decide between equals.
      if (owed > most + 1e-9) {
        most = owed;
        chosen = place;
      }
    }
    this.#owed[chosen]! -= 1;
    owedInBucket[chosen]! -= 1;
    return chosen;
  }

  /** Requests in flight on a full replica of the deployment at a place; Infinity where that is not known. */
  fullInFlightOf(place: number): number {
    return this.#fullInFlight[place]!;
  }

  /** Places of those that may take a request instead of a deployment whose replica is full. */
  overflowOf(
    request: { readonly inputTokens: number; readonly outputTokens: number },
    deployment: number,
  ): readonly number[] {
    if (this.#listed.length === 0) return [];
    const key = keyOf(gatewayBucketIndex(request.inputTokens), gatewayBucketIndex(request.outputTokens));
    return this.#entryOf(key).overflow.filter((place) => place !== deployment);
  }

  #entryOf(key: number): BucketEntry {
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const [input, output] = [Math.floor(key / bucketSpan), key % bucketSpan];
    const at = this.#exact.get(key) ?? this.#nearest(input / indexesPerDoubling, output / indexesPerDoubling);
    const { to, alsoTo = [] } = this.#listed[at]!;
    const own = to.flatMap(({ deployment, share }) => {
      const place = this.#places.get(deployment);
      return place === undefined || !(share > 0) ? [] : [{ place, share }];
    });
    const sum = own.reduce((total, { share }) => total + share, 0);
    const also = alsoTo.flatMap((id) => this.#places.get(id) ?? []);
    const serving = [...new Set([...own.map(({ place }) => place), ...also])];
    const entry: BucketEntry = {
      deployments: own.map(({ place }) => place),
      shares: own.map(({ share }) => share / sum),
      overflow: serving.filter((place) => this.#fullInFlight[place] !== Number.POSITIVE_INFINITY),
    };
    this.#entries.set(key, entry);
    return entry;
  }

  /** By the distance in (log2 input, log2 output); of equals the first listed. */
  #nearest(inputLog2: number, outputLog2: number): number {
    const lengths = this.#lengths;
    let nearest = 0;
    let least = Number.POSITIVE_INFINITY;
    for (let at = 0; at < lengths.length; at += 2) {
      const distance = (lengths[at]! - inputLog2) ** 2 + (lengths[at + 1]! - outputLog2) ** 2;
      if (distance < least) {
        least = distance;
        nearest = at / 2;
      }
    }
    return nearest;
  }
}

function keyOf(input: number, output: number): number {
  return input * bucketSpan + output;
}
