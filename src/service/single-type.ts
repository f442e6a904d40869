import type { ProblemModel } from '../core/planning-problem.js';
import type { ModelPlan } from './model-plan.js';

/**
 * What the same demand would cost on a single GPU type: the comparison that says what mixing types saves.
 *
 * Each GPU type of a model becomes a model of its own, with the deployments of that type alone; planning them all
 * gives the price of each choice.
 */

export type SingleType = { readonly gpuType: string; readonly usdPerHour: number };

/** A model's variants, one for each GPU type that it could run on. Empty while it is idle: nothing is compared then. */
export function singleTypeVariants(model: ProblemModel): readonly ProblemModel[] {
  if (model.demand.every((bucket) => bucket.rps === 0)) return [];
  const usable = model.deployments.filter((deployment) => deployment.profile !== null);
  return [...new Set(usable.map((deployment) => deployment.gpuType))].map((gpuType) => ({
    ...model,
    name: variantName(model.name, gpuType),
    previousShares: [],
    // A number that a person fixed belongs to the mix, not to the type.
    deployments: usable
      .filter((deployment) => deployment.gpuType === gpuType)
      .map((deployment) => ({ ...deployment, fixedReplicas: null })),
  }));
}

/**
 * The cheapest type that serves as much as the whole plan does, as well as it does; null where none can, and where a
 * type whose plan is not proven might be cheaper than it: a saving is never told too large.
 *
 * @param variants plans of `singleTypeVariants`, by name
 */
export function cheapestSingleType(
  model: ProblemModel,
  plan: ModelPlan,
  variants: ReadonlyMap<string, ModelPlan>,
): SingleType | null {
  // Deployments that gpumix cannot plan run in either case.
  const standing = model.deployments
    .filter((deployment) => deployment.profile === null)
    .reduce((sum, { fixedReplicas, currentReplicas, usdPerReplicaHour }) => {
      return sum + (fixedReplicas ?? currentReplicas ?? 0) * usdPerReplicaHour;
    }, 0);
  const whole = shortcomings(plan);
  let best: SingleType | null = null;
  let leastUnproven = Number.POSITIVE_INFINITY;
  for (const gpuType of new Set(model.deployments.map((deployment) => deployment.gpuType))) {
    const variant = variants.get(variantName(model.name, gpuType));
    if (variant === undefined || variant.model.status === 'infeasible') continue;
    if (variant.model.status !== 'optimal') {
      leastUnproven = Math.min(leastUnproven, variant.model.boundUsdPerHour + standing);
      continue;
    }
    const { unservedRps, bestEffortRps } = shortcomings(variant);
    if (unservedRps > whole.unservedRps + 1e-9 || bestEffortRps > whole.bestEffortRps + 1e-9) continue;
    const usdPerHour = variant.model.usdPerHour + standing;
    if (best === null || usdPerHour < best.usdPerHour) best = { gpuType, usdPerHour };
  }
  return best === null || leastUnproven < best.usdPerHour ? null : best;
}

/** Names hold any characters, so two of them are joined as JSON. */
function variantName(model: string, gpuType: string): string {
  return JSON.stringify([model, gpuType]);
}

function shortcomings(plan: ModelPlan): { readonly unservedRps: number; readonly bestEffortRps: number } {
  let unservedRps = 0;
  let bestEffortRps = 0;
  for (const bucket of plan.shares) {
    unservedRps += bucket.rps * bucket.unservedShare;
    if (bucket.bestEffort) bestEffortRps += bucket.rps * (1 - bucket.unservedShare);
  }
  return { unservedRps, bestEffortRps };
}
