import type { Plan } from './plan.js';
import type { PlanningProblem } from './planning-problem.js';

/** How much of one shared limit a plan uses: of a pool, a quota or the budget. */
export type LimitUse = {
  readonly kind: 'pool' | 'quota' | 'budget';
  /** GPU type of a pool or a quota; null for the budget. */
  readonly gpuType: string | null;
  /** Namespace of a quota; null for the others. */
  readonly namespace: string | null;
  /** GPUs, or USD/hour; null = unlimited. */
  readonly limit: number | null;
  /** By `targetReplicas`, in the unit of the limit. */
  readonly used: number;
  /** While the change is made: the larger of what is ready and what is published. The budget is of the target. */
  readonly usedNow: number;
};

/**
 * The use of every pool, quota and the budget of a problem by its plan, in the order of the document. Deployments whose
 * replicas nobody knows count as none.
 */
export function limitUses(problem: PlanningProblem, plan: Plan): readonly LimitUse[] {
  const planned = new Map(plan.deployments.map((deployment) => [deployment.id, deployment]));
  const deployments = problem.models.flatMap((model) => model.deployments);
  const used = (counts: (deployment: (typeof deployments)[number]) => boolean) => {
    let target = 0;
    let now = 0;
    for (const deployment of deployments) {
      if (!counts(deployment)) continue;
      const { targetReplicas, replicas } = planned.get(deployment.id) ?? { targetReplicas: 0, replicas: 0 };
      target += deployment.gpusPerReplica * (targetReplicas ?? 0);
      now += deployment.gpusPerReplica * Math.max(deployment.readyReplicas ?? 0, replicas ?? 0);
    }
    return { used: target, usedNow: now };
  };
  const uses: LimitUse[] = problem.pools.map(({ gpuType, gpus }) => ({
    kind: 'pool',
    gpuType,
    namespace: null,
    limit: gpus,
    ...used((deployment) => deployment.gpuType === gpuType),
  }));
  for (const { namespace, gpuType, gpus } of problem.quotas) {
    uses.push({
      kind: 'quota',
      gpuType,
      namespace,
      limit: gpus,
      ...used((deployment) => deployment.gpuType === gpuType && deployment.id.startsWith(`${namespace}/`)),
    });
  }
  if (problem.budgetUsdPerHour !== null) {
    const usd = { used: plan.usdPerHour, usedNow: plan.usdPerHour };
    uses.push({ kind: 'budget', gpuType: null, namespace: null, limit: problem.budgetUsdPerHour, ...usd });
  }
  return uses;
}

/** Amounts closer to a limit than this (relative) reach it: the tolerance of the planner. */
const reached = 1e-9;

/** Whether nothing more fits. */
export function isUsedUp(use: LimitUse): boolean {
  return use.limit !== null && use.used >= use.limit * (1 - reached);
}
