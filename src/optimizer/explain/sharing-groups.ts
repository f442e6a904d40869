import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../../core/planning-problem.js';

/**
 * Which models share finite limits, directly or by way of others: a question about one of them is a question about its
 * whole group, and about no model outside it.
 */

export type Pool = PlanningProblem['pools'][number];
export type Quota = PlanningProblem['quotas'][number];

export function isInPool(pool: Pool, deployment: ProblemDeployment): boolean {
  return deployment.gpuType === pool.gpuType;
}

export function isInQuota(quota: Quota, deployment: ProblemDeployment): boolean {
  return deployment.gpuType === quota.gpuType && deployment.id.startsWith(`${quota.namespace}/`);
}

/** The models of a problem in groups that share no finite limit, in the order of their first models. */
export function sharingGroups(problem: PlanningProblem): readonly (readonly ProblemModel[])[] {
  const { models, pools, quotas, budgetUsdPerHour } = problem;
  if (models.length === 0) return [];
  if (budgetUsdPerHour !== null) return [models];
  const finite = pools.filter((pool) => pool.gpus !== null);
  if (finite.length === 0 && quotas.length === 0) return models.map((model) => [model]);

  // Joined trees: each model points towards the first model of its group.
  const towards = models.map((_, m) => m);
  const firstOf = (m: number): number => {
    let at = m;
    while (towards[at] !== at) at = towards[at]!;
    towards[m] = at;
    return at;
  };
  const join = (belongs: (deployment: ProblemDeployment) => boolean): void => {
    let first = -1;
    models.forEach((model, m) => {
      if (!model.deployments.some(belongs)) return;
      const own = firstOf(m);
      if (first === -1) first = own;
      else {
        const [low, high] = own < first ? [own, first] : [first, own];
        towards[high] = low;
        first = low;
      }
    });
  };
  for (const pool of finite) join((deployment) => isInPool(pool, deployment));
  for (const quota of quotas) join((deployment) => isInQuota(quota, deployment));

  const groups = new Map<number, ProblemModel[]>();
  models.forEach((model, m) => {
    const first = firstOf(m);
    const group = groups.get(first);
    if (group === undefined) groups.set(first, [model]);
    else group.push(model);
  });
  return [...groups.values()];
}

/** The problem of some groups alone, with the limits that concern them. */
export function problemOfGroup(problem: PlanningProblem, models: readonly ProblemModel[]): PlanningProblem {
  const concerns = (belongs: (deployment: ProblemDeployment) => boolean): boolean =>
    models.some((model) => model.deployments.some(belongs));
  return {
    ...problem,
    models,
    pools: problem.pools.filter((pool) => pool.gpus !== null && concerns((deployment) => isInPool(pool, deployment))),
    quotas: problem.quotas.filter((quota) => concerns((deployment) => isInQuota(quota, deployment))),
  };
}
