import type { Plan } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import { joinPlan, splitPlan } from './model-plan.js';

/**
 * One model's part of a plan, as a Plan of its own: lists are filtered, and the money is that of the model.
 *
 * @param prices USD per replica-hour of each deployment, for what is published now
 * @param problem the problem of the plan, for the weight of unserved demand; null = the defaults
 * @returns null where the plan does not know the model
 */
export function planOfModel(
  plan: Plan,
  model: string,
  context: { readonly prices: ReadonlyMap<string, number>; readonly problem: PlanningProblem | null },
): Plan | null {
  const part = splitPlan(plan, context.problem?.models ?? []).get(model);
  if (part === undefined) return null;
  const ids = new Set(part.deployments.map(({ id }) => id));
  const notices = plan.warnings.filter(
    (notice) => notice.model === undefined && notice.deployment !== undefined && ids.has(notice.deployment),
  );
  const { routing, solver } = plan;
  const own = joinPlan([part], { at: part.model.planAt ?? plan.at, routing, solver, notices });
  let publishedUsdPerHour = 0;
  for (const deployment of part.deployments) publishedUsdPerHour += publishedCost(deployment, context.prices);
  return { ...own, publishedUsdPerHour };
}

/** Replicas published × price; where no price is known, the price that the target implies. */
function publishedCost(deployment: Plan['deployments'][number], prices: ReadonlyMap<string, number>): number {
  const target = deployment.targetReplicas ?? 0;
  const price = prices.get(deployment.id) ?? (target > 0 ? deployment.usdPerHour / target : 0);
  return (deployment.replicas ?? 0) * price;
}
