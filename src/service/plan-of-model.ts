import type { Plan } from '../core/plan.js';
import { type PlanningProblem, problemModelSchema } from '../core/planning-problem.js';

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
  const entry = plan.models.find(({ name }) => name === model);
  if (entry === undefined) return null;
  const deployments = plan.deployments.filter((deployment) => deployment.model === model);
  const shares = plan.shares.filter((bucket) => bucket.model === model);
  const problemModel = context.problem?.models.find(({ name }) => name === model);
  const unservedUsd =
    problemModel?.unservedUsdPerRequest ?? problemModelSchema.shape.unservedUsdPerRequest.parse(undefined);
  const mine = (notice: { readonly model?: string | undefined; readonly deployment?: string | undefined }) =>
    notice.model === model || (notice.model === undefined && deployments.some(({ id }) => id === notice.deployment));
  return {
    ...plan,
    ...(entry.planAt === null ? {} : { at: entry.planAt }),
    status: entry.status,
    usdPerHour: entry.usdPerHour,
    publishedUsdPerHour: sum(deployments, (deployment) => publishedCost(deployment, context.prices)),
    objectiveUsdPerHour: entry.usdPerHour,
    boundUsdPerHour: entry.boundUsdPerHour,
    gap: entry.gap,
    penaltyUsdPerHour: sum(shares, (bucket) => 3600 * unservedUsd * bucket.rps * bucket.unservedShare),
    switchingUsdPerHour: 0,
    deployments,
    shares,
    unserved: plan.unserved.filter((bucket) => bucket.model === model),
    shortfalls: plan.shortfalls.filter(mine),
    warnings: plan.warnings.filter(mine),
    models: [entry],
  };
}

type Deployment = Plan['deployments'][number];

/** Replicas published × price; where no price is known, the price that the target implies. */
function publishedCost(deployment: Deployment, prices: ReadonlyMap<string, number>): number {
  const target = deployment.targetReplicas ?? 0;
  const price = prices.get(deployment.id) ?? (target > 0 ? deployment.usdPerHour / target : 0);
  return (deployment.replicas ?? 0) * price;
}

function sum<Item>(items: readonly Item[], amountOf: (item: Item) => number): number {
  return items.reduce((total, item) => total + amountOf(item), 0);
}
