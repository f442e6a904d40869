import { compileDeploymentWork, isProfiled } from '../../core/deployment-work.js';
import type { BucketCost } from '../../core/explanation.js';
import type { BucketShares, PlannedDeployment } from '../../core/plan.js';
import type { ProblemModel } from '../../core/planning-problem.js';
import { bestEffortWork, bucketWork, type WorkTable } from '../../core/work.js';

/**
 * What requests of each length cost, and who serves them.
 *
 * The cost of a deployment [USD/hour] is spread over the work on it: a bucket pays the part of it that its requests take
 * of all the work there. So the buckets of a deployment pay for it whole, with the room that is left on it. Replicas
 * without work (floors, fixed, without a profile) are nobody's and counted apart; starts and stops are not spread.
 */
export type ModelCosts = {
  readonly buckets: readonly BucketCost[];
  /** Per 1,000 requests that are served; null = none are. */
  readonly usdPer1000Requests: number | null;
  readonly usdPerHourWithoutWork: number;
};

const requestsPerHour = 3600;

/**
 * Worked line: 2 replicas at 3.60 USD/h, on which one bucket of 4 requests/s takes 1.5 replicas of work and another of 1
 * request/s 0.5: the first pays 5.40 USD/h for 14,400 requests, 0.375 USD per 1,000; the second 1.80 for 3,600, 0.50.
 */
export function bucketCosts(
  model: ProblemModel,
  deployments: readonly PlannedDeployment[],
  rows: readonly BucketShares[],
): ModelCosts {
  const tables = new Map<string, WorkTable>();
  for (const deployment of model.deployments) {
    if (isProfiled(deployment)) tables.set(deployment.id, compileDeploymentWork(deployment));
  }
  const planned = new Map(deployments.map((deployment) => [deployment.id, deployment]));
  const works = rows.map((row) => row.to.map(({ deployment }) => workOf(tables.get(deployment)!, row)));
  const loads = new Map<string, number>();
  rows.forEach((row, r) => {
    row.to.forEach(({ deployment, share }, t) => {
      loads.set(deployment, (loads.get(deployment) ?? 0) + share * row.rps * works[r]![t]!);
    });
  });

  let servedRps = 0;
  let usdOfWork = 0;
  const buckets = rows.map((row, r): BucketCost => {
    let usdPerHour = 0;
    const servedBy = row.to.map(({ deployment, share }, t) => {
      const { gpuType, usdPerHour: cost } = planned.get(deployment)!;
      const load = loads.get(deployment)!;
      const usdPerReplicaSecond = load > 0 ? cost / load / requestsPerHour : 0;
      const work = works[r]![t]!;
      usdPerHour += share * row.rps * requestsPerHour * work * usdPerReplicaSecond;
      return { deployment, gpuType, share, usdPer1000Requests: 1000 * work * usdPerReplicaSecond };
    });
    const served = row.rps * row.to.reduce((sum, { share }) => sum + share, 0);
    servedRps += served;
    usdOfWork += usdPerHour;
    const { inputTokens, outputTokens, rps, bestEffort, unservedShare } = row;
    return {
      inputTokens,
      outputTokens,
      rps,
      bestEffort,
      unservedShare,
      usdPerHour,
      usdPer1000Requests: served > 0 ? (1000 * usdPerHour) / (served * requestsPerHour) : null,
      servedBy,
    };
  });
  return {
    buckets,
    usdPer1000Requests: servedRps > 0 ? (1000 * usdOfWork) / (servedRps * requestsPerHour) : null,
    usdPerHourWithoutWork: deployments.reduce(
      (sum, { id, usdPerHour }) => sum + ((loads.get(id) ?? 0) > 0 ? 0 : usdPerHour),
      0,
    ),
  };
}

/** Replica-seconds per request, as the plan counted them. */
function workOf(table: WorkTable, row: BucketShares): number {
  return row.bestEffort
    ? bestEffortWork(table, row.inputTokens, row.outputTokens)
    : bucketWork(table, row.inputTokens, row.outputTokens).work;
}
