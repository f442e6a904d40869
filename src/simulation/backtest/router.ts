import type { BucketShares } from '../../core/plan.js';
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

  /** The shares from now on; null = none. Other routers ignore them. */
  setShares(shares: readonly BucketShares[] | null): void {
    if (this.#router === 'shares') this.#shares.set(shares);
  }

  /** @returns null where no replica is ready */
  choose(
    request: { readonly inputTokens: number; readonly outputTokens: number },
    ready: readonly (readonly Replica[])[],
  ): Replica | null {
    if (this.#router === 'random') return this.#any(ready);
    if (this.#router === 'shares') {
      const deployment = this.#shares.next(request);
      const own = deployment === null ? undefined : ready[deployment];
      if (own !== undefined && own.length > 0) return this.#fewest([own]);
    }
    return this.#fewest(ready);
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

  #fewest(ready: readonly (readonly Replica[])[]): Replica | null {
    let count = 0;
    for (const replicas of ready) count += replicas.length;
    if (count === 0) return null;
    const turn = this.#turn % count;
    let best: Replica | null = null;
    let bestFromTurn: Replica | null = null;
    let place = 0;
    for (const replicas of ready) {
      for (const replica of replicas) {
        if (best === null || replica.inFlight < best.inFlight) best = replica;
        if (place++ >= turn && (bestFromTurn === null || replica.inFlight < bestFromTurn.inFlight))
          bestFromTurn = replica;
      }
    }
    this.#turn = turn + 1;
    return bestFromTurn !== null && bestFromTurn.inFlight === best!.inFlight ? bestFromTurn : best;
  }
}

/** Of one bucket: deployments with a share > 0, and the shares, which sum to 1; empty = none that is known. */
type BucketEntry = { readonly deployments: readonly number[]; readonly shares: readonly number[] };

/**
 * Follows shares per bucket without chance, as smooth weighted round robin does: every request credits the deployments
 * with their shares and takes one from the one that is owed most. Credits are kept per bucket and, beside that, over all
 * buckets, and stay through new plans: a small share of a bucket that is hit once in a while is not lost.
 */
export class ShareSelector {
  readonly #places: ReadonlyMap<string, number>;
  readonly #owed: Float64Array;
  readonly #owedInBucket = new Map<number, Float64Array>();
  #listed: readonly BucketShares[] = [];
  /** (log2 input, log2 output) of each that is listed. */
  #lengths = new Float64Array(0);
  /** Place in the list, by bucket. */
  readonly #exact = new Map<number, number>();
  /** By bucket of requests that came: the listed entry, exact or nearest. */
  readonly #entries = new Map<number, BucketEntry>();

  constructor(deployments: readonly string[]) {
    this.#places = new Map(deployments.map((id, place) => [id, place]));
    this.#owed = new Float64Array(deployments.length);
  }

  /** Deployments that are not this fleet's are left out, and what is left of a bucket's shares is scaled to 1. */
  set(shares: readonly BucketShares[] | null): void {
    const listed = shares ?? [];
    if (listed === this.#listed) return;
    this.#listed = listed;
    this.#entries.clear();
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
    const input = gatewayBucketIndex(request.inputTokens);
    const output = gatewayBucketIndex(request.outputTokens);
    const key = keyOf(input, output);
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = this.#entryOf(
        this.#exact.get(key) ?? this.#nearest(input / indexesPerDoubling, output / indexesPerDoubling),
      );
      this.#entries.set(key, entry);
    }
    const { deployments, shares } = entry;
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

  #entryOf(at: number): BucketEntry {
    const own = this.#listed[at]!.to.flatMap(({ deployment, share }) => {
      const place = this.#places.get(deployment);
      return place === undefined || !(share > 0) ? [] : [{ place, share }];
    });
    const sum = own.reduce((total, { share }) => total + share, 0);
    return { deployments: own.map(({ place }) => place), shares: own.map(({ share }) => share / sum) };
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
