import type { BucketShares } from './plan.js';
import type { PlanningProblem, ProblemDeployment } from './planning-problem.js';
import { bucketWork, compileWork } from './work.js';

/**
 * What a router is told: which share of which requests each deployment takes, and where requests go that find it full.
 *
 * Shares are of the demand that was planned for. Minute by minute it is another, and the smallest group of replicas feels
 * that first: it is full while the others have room. A router that follows shares and nothing else keeps sending there.
 * So it is also told how many requests a replica holds when it is full, and who else serves each bucket: a request whose
 * replica is full *overflows* to the least full one that serves it (docs/backtest.md, "Routers").
 */
export type ModelRouting = {
  readonly shares: readonly BucketRoute[];
  /** Requests in flight on a full replica, > 0, by deployment id; those of which it is known. */
  readonly fullInFlight: ReadonlyMap<string, number>;
};

export type BucketRoute = BucketShares & {
  /** Deployments without a share that serve the bucket within the objective; absent = none. */
  readonly alsoTo?: readonly string[];
};

/**
 * Says of the shares of one model who serves each bucket beside those that have a share; what was said before is forgotten.
 *
 * With `proportional` routing, whose router tells no bucket from another, these are the deployments that serve all that
 * any of them serves.
 *
 * @param options.deployments those that may take requests, e.g. not the ones that are about to go; without a profile
 *   nothing is known of what they serve
 */
export function withOverflow(
  shares: readonly BucketRoute[],
  options: {
    readonly deployments: readonly Pick<ProblemDeployment, 'id' | 'profile' | 'maxTokens'>[];
    readonly routing: PlanningProblem['options']['routing'];
  },
): readonly BucketRoute[] {
  const tables = options.deployments.flatMap(({ id, profile, maxTokens }) =>
    profile === null ? [] : [{ id, table: compileWork(profile, maxTokens) }],
  );
  const servers = shares.map(({ inputTokens, outputTokens }) =>
    tables.filter(({ table }) => bucketWork(table, inputTokens, outputTokens).servable).map(({ id }) => id),
  );
  const common =
    options.routing === 'proportional'
      ? tables.map(({ id }) => id).filter((id) => servers.every((ids) => ids.length === 0 || ids.includes(id)))
      : null;
  return shares.map(({ alsoTo: _, ...bucket }, at): BucketRoute => {
    const alsoTo = (common ?? servers[at]!).filter(
      (id) => !bucket.to.some(({ deployment, share }) => deployment === id && share > 0),
    );
    return alsoTo.length > 0 ? { ...bucket, alsoTo } : bucket;
  });
}
