import { check } from '../../core/parse.js';
import { type BucketDemand, planningProblemSchema } from '../../core/planning-problem.js';
import { plan } from '../../optimizer/plan.js';
import type { Decision, FleetDeployment, Policy } from '../backtest/backtest.js';

/**
 * Fleets that never change. The best one in hindsight is the yardstick of every autoscaler: who is dearer than it, at the
 * same service, had better not scale.
 */
export type ConstantFleet = {
  /** Replicas by deployment id, those without any included. */
  readonly replicas: ReadonlyMap<string, number>;
  readonly usdPerHour: number;
  /** The rate that it was planned for, as a multiple of the mean. */
  readonly rateFactor: number;
};

export type ConstantFleetOptions = {
  readonly deployments: readonly FleetDeployment[];
  /** The mean mix [requests/s by bucket]. */
  readonly meanDemand: readonly BucketDemand[];
  /** Multiples of the mean rate to plan for; not negative. */
  readonly rateFactors: readonly number[];
};

/** Nodes of a search: a time would make two runs differ. Plans of one model need tens. */
const nodeLimit = 20_000;

/**
 * For each rate the cheapest fleet that serves the mix at it by the profiles, as the optimizer plans it; each fleet once,
 * cheapest first. Rates that no fleet serves whole give the fleet that serves the most.
 */
export function constantFleets(options: ConstantFleetOptions): readonly ConstantFleet[] {
  const fleets = new Map<string, ConstantFleet>();
  for (const rateFactor of options.rateFactors.toSorted((a, b) => a - b)) {
    const fleet = cheapestFleet({ ...options, rateFactor });
    const key = [...fleet.replicas.values()].join();
    if (!fleets.has(key)) fleets.set(key, fleet);
  }
  return [...fleets.values()].sort((a, b) => a.usdPerHour - b.usdPerHour || a.rateFactor - b.rateFactor);
}

/** The cheapest fleet for the mean mix at a multiple of its rate. */
export function cheapestFleet(options: {
  readonly deployments: readonly FleetDeployment[];
  readonly meanDemand: readonly BucketDemand[];
  readonly rateFactor: number;
}): ConstantFleet {
  const { deployments, meanDemand, rateFactor } = options;
  const problem = check(
    planningProblemSchema,
    {
      apiVersion: 'gpumix/v1',
      kind: 'PlanningProblem',
      models: [
        {
          name: 'model',
          demand: meanDemand.map((bucket) => ({ ...bucket, rps: bucket.rps * rateFactor })),
          deployments: deployments.map((deployment) => ({
            id: deployment.id,
            gpuType: deployment.gpuType,
            gpusPerReplica: deployment.gpusPerReplica,
            usdPerReplicaHour: deployment.usdPerReplicaHour,
            minReplicas: deployment.minReplicas,
            maxReplicas: deployment.maxReplicas,
            currentReplicas: 0,
            maxTokens: deployment.engine.limits.maxTokens,
            profile: deployment.profile,
          })),
        },
      ],
      options: { nodeLimit },
    },
    'the mean mix of the trace',
  );
  const planned = plan(problem);
  const replicasOf = new Map(planned.deployments.map(({ id, targetReplicas }) => [id, targetReplicas ?? 0]));
  const replicas = new Map(deployments.map(({ id }) => [id, replicasOf.get(id) ?? 0]));
  return {
    replicas,
    usdPerHour: deployments.reduce((sum, { id, usdPerReplicaHour }) => sum + replicas.get(id)! * usdPerReplicaHour, 0),
    rateFactor,
  };
}

/** Time between two looks of something that never changes its mind: a failed replica is replaced by the fleet itself. */
const staticPeriodSeconds = 60;

export function staticPolicy(replicas: ReadonlyMap<string, number>): Policy {
  return {
    periodSeconds: staticPeriodSeconds,
    lagSeconds: 0,
    decide: (): Decision => ({ replicas, shares: null, forecastRps: null }),
  };
}
