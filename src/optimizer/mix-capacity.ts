import { compileDeploymentWork, isProfiled } from '../core/deployment-work.js';
import type { ProblemModel } from '../core/planning-problem.js';
import { bucketWork } from '../core/work.js';

/**
 * What one replica of each deployment serves of its model's demand as it is mixed now [requests/s], within the SLO and
 * up to its target utilization.
 *
 * Replicas of several deployments whose capacities add up to the model's rate serve all of its demand, whoever routes
 * it: each takes every bucket in proportion to its capacity, which fills all of them alike. (With shares chosen by
 * bucket they may serve more.) A deployment that cannot serve some bucket has no such share, and counts 0; so do all
 * where there is no demand, and those without a profile.
 *
 * Worked line: 4 requests/s that take 0.1 replica-seconds each and 1 request/s that takes 0.6 are work for one replica:
 * its capacity is 5 requests/s of that mix.
 */
export function mixCapacity(model: ProblemModel): {
  /** By deployment id. */
  readonly rpsPerReplica: ReadonlyMap<string, number>;
  /** Of the whole model. */
  readonly demandRps: number;
} {
  const demand = model.demand.filter(({ rps }) => rps > 0);
  const demandRps = demand.reduce((sum, { rps }) => sum + rps, 0);
  const rpsPerReplica = new Map<string, number>();
  for (const deployment of model.deployments) {
    const { id, targetUtilization } = deployment;
    let replicas = 0;
    if (isProfiled(deployment) && demandRps > 0) {
      const table = compileDeploymentWork(deployment);
      for (const { inputTokens, outputTokens, rps } of demand) {
        replicas += rps * bucketWork(table, inputTokens, outputTokens).work;
        if (replicas === Number.POSITIVE_INFINITY) break;
      }
    }
    rpsPerReplica.set(id, replicas > 0 ? (targetUtilization * demandRps) / replicas : 0);
  }
  return { rpsPerReplica, demandRps };
}
