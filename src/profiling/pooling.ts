import { probit } from 'simple-statistics';
import type { BucketDemand } from '../core/planning-problem.js';
import type { GpuProfile } from '../core/profile.js';
import { expectationOf, type ProfileExpectation } from './profile-drift.js';

/**
 * What replicas that share load serve beyond so many times one of them.
 *
 * A profile is measured on one replica under Poisson arrivals: its throughput leaves room for the requests that come
 * together by chance. Where a gateway gives each request to the replica with the fewest, n replicas share that room.
 * With N requests in flight on a full replica (throughput × latency, Little's law), chance adds about z·√N to it at the
 * percentile of the profile; to n replicas together z·√(n·N), which is z·√(N/n) to each. What one replica holds at the
 * worst, M = N + z·√N, then is reached at the larger mean x for which x + z·√(x/n) = M. This is square-root staffing, as for
 * call centres (Halfin and Whitt 1981; Whitt 1992, "Understanding the efficiency of multi-server service systems").
 *
 * Replicas do not share all of it: a request stays where it was sent, and chance is not all that makes requests late. So
 * only `sharedPart` of the gain is counted, which simulated pools reached or passed (docs/decisions/pooling.md).
 *
 * Worked line: N = 20 at P99 (z = 2.33) has M = 30.4; four replicas reach x = 24.6, 1.23 times one; 1.15 is counted.
 */
const sharedPart = 0.65;

/**
 * With this many in flight a replica is full by its largest batch (vLLM's `max_num_seqs` has long been 256), whatever chance
 * does: nothing is gained there, and all of the gain is counted up to half of it.
 */
const usualLargestBatch = 256;

/** Up to the median (and with a mean, AIBrix's 0) a profile leaves no room for chance; beyond P99.9 nobody measures. */
const [leastPercentile, mostPercentile] = [50, 99.9];

/** Pools of long prompts, of which a replica alone holds less than one, were seen to serve three times as much; not more. */
const mostFactor = 3;

/**
 * Requests/s of a replica among `replicas` that share load, as a multiple of what it serves alone; >= 1.
 *
 * @param options.inFlight requests in flight on a full replica, > 0
 * @param options.percentile of the objective that the profile keeps, e.g. 99
 */
export function poolingFactor(options: {
  readonly inFlight: number;
  readonly replicas: number;
  readonly percentile: number;
}): number {
  const { inFlight, replicas, percentile } = options;
  if (!(inFlight > 0) || !(replicas > 1) || !(percentile > leastPercentile)) return 1;
  const z = probit(Math.min(percentile, mostPercentile) / 100);
  const most = inFlight + z * Math.sqrt(inFlight);
  const spread = z / Math.sqrt(replicas);
  const root = (Math.sqrt(spread * spread + 4 * most) - spread) / 2;
  const byChance = Math.min(1, Math.max(0, 2 - (2 * inFlight) / usualLargestBatch));
  return Math.min(mostFactor, 1 + sharedPart * byChance * Math.max(0, (root * root) / inFlight - 1));
}

/** What of a profile says how much replicas gain by sharing load. */
export type PoolTraits = {
  /** Requests in flight on a full replica, at the mix that was asked about. */
  readonly inFlight: number;
  /** Their mean E2E latency there [s]; null where the profile tells of less than half of the requests. */
  readonly latencySeconds: number | null;
  readonly percentile: number;
};

/** Reads the traits of profiles; each profile is prepared once. */
export class PoolReader {
  readonly #expectations = new WeakMap<GpuProfile, ProfileExpectation>();

  /** @returns null where the profile tells no E2E latency of any of the lengths, or not which percentile it keeps */
  traitsOf(profile: GpuProfile, demand: readonly BucketDemand[]): PoolTraits | null {
    let expectation = this.#expectations.get(profile);
    if (expectation === undefined) {
      expectation = expectationOf(profile);
      this.#expectations.set(profile, expectation);
    }
    const full = fullReplica(profile, expectation, demand);
    const { percentile } = profile.slos;
    return full === null || percentile === undefined ? null : { ...full, percentile };
  }
}

/** A mean latency of fewer of the requests than this says nothing of the others. */
const leastToldShare = 0.5;

/**
 * Requests in flight on a replica that a mix fills, by Little's law: Σ rate × latency over the replicas that it fills. Of
 * the lengths that the profile tells, shorter ones at the edge of its grid, as works are read; null where it tells none.
 */
function fullReplica(
  { grid }: GpuProfile,
  expectation: ProfileExpectation,
  demand: readonly BucketDemand[],
): Pick<PoolTraits, 'inFlight' | 'latencySeconds'> | null {
  const [fewestOutput, fewestInput] = grid.indexes.map((axis) => axis[0]!);
  let requests = 0;
  let replicas = 0;
  let totalRps = 0;
  let toldRps = 0;
  for (const { inputTokens, outputTokens, rps } of demand) {
    totalRps += rps;
    const lengths = [Math.max(inputTokens, fewestInput!), Math.max(outputTokens, fewestOutput!)] as const;
    const work = expectation.work(...lengths);
    const seconds = expectation.latency('e2e', ...lengths);
    if (work === null || seconds === null) continue;
    toldRps += rps;
    requests += rps * seconds;
    replicas += rps * work;
  }
  if (!(replicas > 0)) return null;
  return {
    inFlight: requests / replicas,
    latencySeconds: toldRps >= leastToldShare * totalRps ? requests / toldRps : null,
  };
}
