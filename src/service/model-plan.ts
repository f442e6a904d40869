import { type Plan, type PlanNotice, type PlannedModel, worstStatus } from '../core/plan.js';
import type { ProblemModel } from '../core/planning-problem.js';

/**
 * A plan is made of models, and so are its faults: one model's part is cut out of a plan, kept while the model is
 * held, and put together with the others' to the one plan that is published.
 */
export type ModelPlan = {
  readonly model: PlannedModel;
  readonly deployments: Plan['deployments'];
  readonly shares: Plan['shares'];
  readonly unserved: Plan['unserved'];
  readonly shortfalls: Plan['shortfalls'];
  readonly warnings: Plan['warnings'];
  /** Weighs unserved demand in `penaltyUsdPerHour` [USD/request]. */
  readonly unservedUsdPerRequest: number;
};

/** Cuts a plan in the parts of its models. Notices that name no model are left to the caller. */
export function splitPlan(plan: Plan, problems: readonly ProblemModel[]): ReadonlyMap<string, ModelPlan> {
  const weights = new Map(problems.map((problem) => [problem.name, problem.unservedUsdPerRequest]));
  type Building = {
    -readonly [Key in keyof ModelPlan]: ModelPlan[Key] extends readonly (infer Item)[] ? Item[] : ModelPlan[Key];
  };
  const parts = new Map<string, Building>();
  for (const model of plan.models) {
    parts.set(model.name, {
      model,
      deployments: [],
      shares: [],
      unserved: [],
      shortfalls: [],
      warnings: [],
      unservedUsdPerRequest: weights.get(model.name) ?? 0,
    });
  }
  for (const deployment of plan.deployments) parts.get(deployment.model)?.deployments.push(deployment);
  for (const bucket of plan.shares) parts.get(bucket.model)?.shares.push(bucket);
  for (const bucket of plan.unserved) parts.get(bucket.model)?.unserved.push(bucket);
  for (const key of ['shortfalls', 'warnings'] as const) {
    for (const notice of plan[key]) if (notice.model !== undefined) parts.get(notice.model)?.[key].push(notice);
  }
  return parts;
}

/** The part of a model that is held: its last plan as far as its deployments still exist, or nothing yet. */
export function heldPart(input: {
  readonly name: string;
  readonly reason: string;
  readonly last: ModelPlan | null;
  /** GPU type by id of the deployments that the model has now. */
  readonly deployments: ReadonlyMap<string, string>;
}): ModelPlan {
  const { name, reason, last, deployments } = input;
  const planned = (last?.deployments ?? []).filter(({ id }) => deployments.has(id));
  const known = new Set(planned.map(({ id }) => id));
  const unplanned = [...deployments]
    .filter(([id]) => !known.has(id))
    .map(([id, gpuType]) => ({
      id,
      model: name,
      gpuType,
      replicas: null,
      targetReplicas: null,
      utilization: 0,
      usdPerHour: 0,
      reason: `No plan includes it yet: its model is held (${reason}).`,
    }));
  const usdPerHour = planned.reduce((sum, deployment) => sum + deployment.usdPerHour, 0);
  const before = last?.model ?? { name, planAt: null, switchingUsdPerHour: 0, boundUsdPerHour: 0 };
  // Without a deployment that is gone the plan costs less than was proven for the whole.
  const boundUsdPerHour = Math.min(before.boundUsdPerHour, usdPerHour);
  const model: PlannedModel = {
    ...before,
    usdPerHour,
    boundUsdPerHour,
    gap: usdPerHour > 0 ? (usdPerHour - boundUsdPerHour) / usdPerHour : 0,
    status: 'held',
    heldReason: reason,
  };
  return {
    model,
    deployments: [...planned, ...unplanned],
    shares: last?.shares ?? [],
    unserved: last?.unserved ?? [],
    shortfalls: last?.shortfalls ?? [],
    warnings: last?.warnings ?? [],
    unservedUsdPerRequest: last?.unservedUsdPerRequest ?? 0,
  };
}

/**
 * One plan of all models, in the order given. Without pools, quotas and budget models share nothing, so sums of their
 * objectives and bounds are the objective and a valid bound of the whole.
 */
export function joinPlan(
  parts: readonly ModelPlan[],
  context: {
    readonly at: string;
    readonly solver: Plan['solver'];
    readonly notices: readonly PlanNotice[];
  },
): Plan {
  const usdPerHour = total(parts, (part) => part.model.usdPerHour);
  const boundUsdPerHour = total(parts, (part) => part.model.boundUsdPerHour);
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Plan',
    at: context.at,
    status: worstStatus(parts.map((part) => part.model.status)),
    routing: 'free',
    usdPerHour,
    publishedUsdPerHour: usdPerHour,
    objectiveUsdPerHour: usdPerHour,
    boundUsdPerHour,
    gap: usdPerHour > 0 ? Math.max(0, (usdPerHour - boundUsdPerHour) / usdPerHour) : 0,
    // Of what was planned now: the demand of a held model is that of another time.
    penaltyUsdPerHour: total(
      parts.filter((part) => part.model.status !== 'held'),
      (part) => total(part.unserved, (bucket) => 3600 * part.unservedUsdPerRequest * bucket.rps),
    ),
    switchingUsdPerHour: 0,
    deployments: parts.flatMap((part) => part.deployments),
    shares: parts.flatMap((part) => part.shares),
    unserved: parts.flatMap((part) => part.unserved),
    scarcity: [],
    shortfalls: parts.flatMap((part) => part.shortfalls),
    warnings: [...parts.flatMap((part) => part.warnings), ...context.notices],
    models: parts.map((part) => part.model),
    solver: context.solver,
  };
}

function total<Item>(items: readonly Item[], measure: (item: Item) => number): number {
  let sum = 0;
  for (const item of items) sum += measure(item);
  return sum;
}
