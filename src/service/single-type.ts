import { isIdle, type PlanningProblem, type ProblemModel } from '../core/planning-problem.js';
import type { FleetLimits } from './fleet-limits.js';
import type { ModelPlan } from './model-plan.js';

/**
 * What the same demand would cost on a single GPU type: the comparison that says what mixing types saves.
 *
 * Each GPU type of a model becomes a model of its own, with the deployments of that type alone; planning them all
 * gives the price of each choice. Where models share pools, quotas or a budget, a type is a choice only within what the
 * plans of the other models leave.
 */

export type SingleType = { readonly gpuType: string; readonly usdPerHour: number };

/** Where it is not proven, no plan on that type alone is cheaper than this. */
export type SingleTypePrice = SingleType & { readonly isProven: boolean };

/** What of the shared limits one model may use beside the others. Only of its own GPU types and namespaces. */
export type Room = Pick<PlanningProblem, 'pools' | 'quotas' | 'budgetUsdPerHour'>;

type Usage = { readonly gpusOfType: Map<string, number>; readonly gpusOfQuota: Map<string, number>; usd: number };

/**
 * What each model may use beside the targets of all others, and beside its own deployments that gpumix cannot plan.
 *
 * @param input.parts the plans of all models
 */
export function roomBesideOthers(input: {
  readonly limits: Pick<FleetLimits, 'pools' | 'quotas' | 'budgetUsdPerHour'>;
  readonly parts: readonly ModelPlan[];
  readonly gpusPerReplicaOf: (id: string) => number;
}): (model: ProblemModel) => Room {
  const { limits, parts, gpusPerReplicaOf } = input;
  const pools = limits.pools.filter(({ gpus }) => gpus !== null);
  const usageOf = (deployments: ModelPlan['deployments']): Usage => {
    const usage: Usage = { gpusOfType: new Map(), gpusOfQuota: new Map(), usd: 0 };
    for (const { id, gpuType, targetReplicas, usdPerHour } of deployments) {
      const gpus = (targetReplicas ?? 0) * gpusPerReplicaOf(id);
      add(usage.gpusOfType, gpuType, gpus);
      add(usage.gpusOfQuota, quotaKey({ namespace: namespaceOf(id), gpuType }), gpus);
      usage.usd += usdPerHour;
    }
    return usage;
  };
  const all = usageOf(parts.flatMap((part) => part.deployments));
  const partOf = new Map(parts.map((part) => [part.model.name, part]));
  return (model) => {
    const types = new Set(model.deployments.map(({ gpuType }) => gpuType));
    const namespaces = new Set(model.deployments.map(({ id }) => namespaceOf(id)));
    const plannable = new Set(model.deployments.filter(({ profile }) => profile !== null).map(({ id }) => id));
    const own = usageOf(partOf.get(model.name)?.deployments.filter(({ id }) => plannable.has(id)) ?? []);
    const left = (limit: number, used: number | undefined, mine: number | undefined) =>
      Math.max(0, limit - ((used ?? 0) - (mine ?? 0)));
    return {
      pools: pools
        .filter(({ gpuType }) => types.has(gpuType))
        .map(({ gpuType, gpus }) => ({
          gpuType,
          gpus: left(gpus!, all.gpusOfType.get(gpuType), own.gpusOfType.get(gpuType)),
        })),
      quotas: limits.quotas
        .filter(({ namespace, gpuType }) => types.has(gpuType) && namespaces.has(namespace))
        .map((quota) => {
          const key = quotaKey(quota);
          return { ...quota, gpus: left(quota.gpus, all.gpusOfQuota.get(key), own.gpusOfQuota.get(key)) };
        }),
      budgetUsdPerHour: limits.budgetUsdPerHour === null ? null : left(limits.budgetUsdPerHour, all.usd, own.usd),
    };
  };
}

/**
 * A model's variants, one for each GPU type that it could run on, with limits of their own: variants are alternatives, so
 * their types carry their names. Empty while the model is idle: nothing is compared then.
 */
export function singleTypeVariants(
  model: ProblemModel,
  room: Room,
): Pick<PlanningProblem, 'models' | 'pools' | 'quotas'> {
  if (isIdle(model)) return { models: [], pools: [], quotas: [] };
  const usable = model.deployments.filter((deployment) => deployment.profile !== null);
  const types = new Set(usable.map((deployment) => deployment.gpuType));
  const inVariant = <Limit extends { readonly gpuType: string }>(limits: readonly Limit[]): readonly Limit[] =>
    limits
      .filter(({ gpuType }) => types.has(gpuType))
      .map((limit) => ({ ...limit, gpuType: variantName(model.name, limit.gpuType) }));
  return {
    models: [...types].map((gpuType) => ({
      ...model,
      name: variantName(model.name, gpuType),
      previousShares: [],
      // A number that a person fixed belongs to the mix, not to the type.
      deployments: usable
        .filter((deployment) => deployment.gpuType === gpuType)
        .map((deployment) => ({
          ...deployment,
          gpuType: variantName(model.name, gpuType),
          fixedReplicas: null,
        })),
    })),
    pools: inVariant(room.pools),
    quotas: inVariant(room.quotas),
  };
}

/**
 * What each type costs that serves as much as the whole plan does, as well as it does.
 *
 * @param variants plans of `singleTypeVariants`, by name, and the room that they were made for
 */
export function singleTypePrices(
  model: ProblemModel,
  plan: ModelPlan,
  variants: { readonly parts: ReadonlyMap<string, ModelPlan>; readonly room: Pick<Room, 'budgetUsdPerHour'> },
): readonly SingleTypePrice[] {
  // Deployments that gpumix cannot plan run in either case.
  const standing = model.deployments
    .filter((deployment) => deployment.profile === null)
    .reduce((sum, { fixedReplicas, currentReplicas, usdPerReplicaHour }) => {
      return sum + (fixedReplicas ?? currentReplicas ?? 0) * usdPerReplicaHour;
    }, 0);
  const budget = variants.room.budgetUsdPerHour ?? Number.POSITIVE_INFINITY;
  const whole = shortcomings(plan);
  const prices: SingleTypePrice[] = [];
  for (const gpuType of new Set(model.deployments.map((deployment) => deployment.gpuType))) {
    const variant = variants.parts.get(variantName(model.name, gpuType));
    if (variant === undefined || variant.model.status === 'infeasible') continue;
    if (variant.model.status !== 'optimal') {
      prices.push({ gpuType, usdPerHour: variant.model.boundUsdPerHour + standing, isProven: false });
      continue;
    }
    const { unservedRps, bestEffortRps } = shortcomings(variant);
    if (unservedRps > whole.unservedRps + 1e-9 || bestEffortRps > whole.bestEffortRps + 1e-9) continue;
    if (variant.model.usdPerHour > budget * (1 + 1e-9)) continue;
    prices.push({ gpuType, usdPerHour: variant.model.usdPerHour + standing, isProven: true });
  }
  return prices;
}

/**
 * The cheapest type over some moments, each type at the most that it cost in any of them; null where none could serve in all
 * of them, and where a type whose plan is not proven might be cheaper than it: a saving is never told too large.
 */
export function cheapestSingleType(moments: readonly (readonly SingleTypePrice[])[]): SingleType | null {
  let best: SingleType | null = null;
  let leastUnproven = Number.POSITIVE_INFINITY;
  for (const { gpuType } of moments.at(-1) ?? []) {
    const prices = moments.flatMap((moment) => moment.find((price) => price.gpuType === gpuType) ?? []);
    if (prices.length < moments.length) continue;
    const usdPerHour = Math.max(...prices.map((price) => price.usdPerHour));
    if (prices.some(({ isProven }) => !isProven)) leastUnproven = Math.min(leastUnproven, usdPerHour);
    else if (best === null || usdPerHour < best.usdPerHour) best = { gpuType, usdPerHour };
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

/** The first part of `namespace/name`. */
function namespaceOf(id: string): string {
  const slash = id.indexOf('/');
  return slash < 0 ? '' : id.slice(0, slash);
}

/** Names hold any characters, so two of them are joined as JSON. */
function quotaKey({ namespace, gpuType }: { readonly namespace: string; readonly gpuType: string }): string {
  return JSON.stringify([namespace, gpuType]);
}

function add(sums: Map<string, number>, key: string, amount: number): void {
  sums.set(key, (sums.get(key) ?? 0) + amount);
}
