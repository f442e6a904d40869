import {
  type Plan,
  type PlanNotice,
  type PlannedDeployment,
  type PlannedModel,
  type PriorityScarcity,
  worstStatus,
} from '../core/plan.js';
import { type ProblemModel, problemModelSchema } from '../core/planning-problem.js';
import { gapOf } from '../optimizer/model-result.js';

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
  /** Its part of the unserved demand of its priority; null = all of it is served. */
  readonly scarcity: PriorityScarcity | null;
};

/** What a plan says of the fleet and of no model. */
export type PlanFrame = Pick<Plan, 'routing' | 'solver'> & {
  readonly at: string | undefined;
  readonly notices: readonly PlanNotice[];
};

const priorityDefault = problemModelSchema.shape.priority.parse(undefined);
const weightDefault = problemModelSchema.shape.unservedUsdPerRequest.parse(undefined);

/**
 * Cuts a plan in the parts of its models. Notices that name no model are left to the caller.
 *
 * Models of one priority share the bound on its penalty in proportion to theirs, so that the parts add up to the plan.
 *
 * @param problems the models that were planned, for their weights; those that are not there have the defaults
 */
export function splitPlan(plan: Plan, problems: readonly ProblemModel[]): ReadonlyMap<string, ModelPlan> {
  const weights = new Map(problems.map((problem) => [problem.name, problem]));
  const scarcities = new Map(plan.scarcity.map((entry) => [entry.priority, entry]));
  const sharesOf = groupBy(plan.shares, ({ model }) => model);
  const deploymentsOf = groupBy(plan.deployments, ({ model }) => model);
  const unservedOf = groupBy(plan.unserved, ({ model }) => model);
  const shortfallsOf = groupBy(plan.shortfalls, ({ model }) => model);
  const warningsOf = groupBy(plan.warnings, ({ model }) => model);
  return new Map(
    plan.models.map((model) => {
      const { name } = model;
      const shares = sharesOf.get(name) ?? [];
      const { priority = priorityDefault, unservedUsdPerRequest = weightDefault } = weights.get(name) ?? {};
      const part: ModelPlan = {
        model,
        deployments: deploymentsOf.get(name) ?? [],
        shares,
        unserved: unservedOf.get(name) ?? [],
        shortfalls: shortfallsOf.get(name) ?? [],
        warnings: warningsOf.get(name) ?? [],
        unservedUsdPerRequest,
        // The demand of a held model is that of another time.
        scarcity:
          model.status === 'held'
            ? null
            : scarcityOf(shares, { priority, unservedUsdPerRequest }, scarcities.get(priority)),
      };
      return [name, part];
    }),
  );
}

function scarcityOf(
  shares: Plan['shares'],
  { priority, unservedUsdPerRequest }: Pick<ProblemModel, 'priority' | 'unservedUsdPerRequest'>,
  whole: PriorityScarcity | undefined,
): PriorityScarcity | null {
  const unservedRps = total(shares, (bucket) => bucket.rps * bucket.unservedShare);
  if (unservedRps === 0) return null;
  const penaltyUsdPerHour = 3600 * unservedUsdPerRequest * unservedRps;
  if (whole === undefined) return { priority, unservedRps, penaltyUsdPerHour, boundUsdPerHour: 0, proven: false };
  const part = whole.penaltyUsdPerHour > 0 ? penaltyUsdPerHour / whole.penaltyUsdPerHour : 0;
  const boundUsdPerHour = Math.min(penaltyUsdPerHour, whole.boundUsdPerHour * part);
  return { priority, unservedRps, penaltyUsdPerHour, boundUsdPerHour, proven: whole.proven };
}

/**
 * A part of which nothing is proven any more: what it was planned beside is not what it will run beside. It serves what
 * it says at the price that it says; another plan may be better.
 */
export function unproven(part: ModelPlan): ModelPlan {
  const { model, scarcity } = part;
  const objective = model.usdPerHour + model.switchingUsdPerHour;
  return {
    ...part,
    model: {
      ...model,
      status: worstStatus([model.status, 'feasible']),
      boundUsdPerHour: 0,
      gap: gapOf(objective, 0),
    },
    scarcity: scarcity === null ? null : { ...scarcity, boundUsdPerHour: 0, proven: false },
  };
}

/** A deployment of a model that is held. */
export type StandingDeployment = {
  readonly gpuType: string;
  /** At how many replicas it stays; null = not known. */
  readonly replicas: number | null;
  /** USD per replica-hour; null = not known. */
  readonly usdPerReplicaHour: number | null;
};

/** The part of a model that is held: its last plan as far as its deployments still exist, at the replicas they keep. */
export function heldPart(input: {
  readonly name: string;
  readonly reason: string;
  readonly last: ModelPlan | null;
  /** The deployments that the model has now, by id. */
  readonly deployments: ReadonlyMap<string, StandingDeployment>;
}): ModelPlan {
  const { name, reason, last, deployments } = input;
  const planned = (last?.deployments ?? []).flatMap((before) => {
    const standing = deployments.get(before.id);
    return standing === undefined ? [] : [standingAt(before, standing)];
  });
  const known = new Set(planned.map(({ id }) => id));
  const unplanned = [...deployments]
    .filter(([id]) => !known.has(id))
    .map(([id, { gpuType }]) => ({
      id,
      model: name,
      gpuType,
      replicas: null,
      targetReplicas: null,
      utilization: 0,
      usdPerHour: 0,
      reason: `No plan includes it yet: its model is held (${reason}).`,
    }));
  const usdPerHour = total(planned, (deployment) => deployment.usdPerHour);
  const before = last?.model ?? { name, planAt: null, boundUsdPerHour: 0 };
  // Without a deployment that is gone the plan costs less than was proven for the whole.
  const boundUsdPerHour = Math.min(before.boundUsdPerHour, usdPerHour);
  const model: PlannedModel = {
    ...before,
    usdPerHour,
    // Nothing is decided for it, so nothing is started or stopped.
    switchingUsdPerHour: 0,
    boundUsdPerHour,
    gap: gapOf(usdPerHour, boundUsdPerHour),
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
    scarcity: null,
  };
}

/** A planned deployment at the replicas that it keeps instead: it heads nowhere else. */
function standingAt(before: PlannedDeployment, { replicas, usdPerReplicaHour }: StandingDeployment): PlannedDeployment {
  const target = before.targetReplicas;
  if (replicas === null || replicas === target) return before;
  const price = usdPerReplicaHour ?? (target === null || target === 0 ? 0 : before.usdPerHour / target);
  return {
    ...before,
    targetReplicas: replicas,
    utilization: replicas === 0 ? 0 : (before.utilization * (target ?? 0)) / replicas,
    usdPerHour: replicas * price,
  };
}

/**
 * One plan of some parts, in the order given. Its objective, bound and unserved demand are the sums of theirs: of models
 * that were planned together their parts of the common ones (`splitPlan`), of models that share nothing their own.
 *
 * `publishedUsdPerHour` is left at 0: what is published is decided behind the plan (`publishPlan`).
 */
export function joinPlan(parts: readonly ModelPlan[], frame: PlanFrame): Plan {
  const usdPerHour = total(parts, (part) => part.model.usdPerHour);
  const switchingUsdPerHour = total(parts, (part) => part.model.switchingUsdPerHour);
  const objectiveUsdPerHour = usdPerHour + switchingUsdPerHour;
  const boundUsdPerHour = total(parts, (part) => part.model.boundUsdPerHour);
  const scarcity = joinScarcity(parts);
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Plan',
    ...(frame.at === undefined ? {} : { at: frame.at }),
    status: worstStatus(parts.map((part) => part.model.status)),
    routing: frame.routing,
    usdPerHour,
    publishedUsdPerHour: 0,
    objectiveUsdPerHour,
    boundUsdPerHour,
    gap: gapOf(objectiveUsdPerHour, boundUsdPerHour),
    penaltyUsdPerHour: total(scarcity, (entry) => entry.penaltyUsdPerHour),
    switchingUsdPerHour,
    deployments: parts.flatMap((part) => part.deployments),
    shares: parts.flatMap((part) => part.shares),
    unserved: parts.flatMap((part) => part.unserved),
    scarcity,
    shortfalls: parts.flatMap((part) => part.shortfalls),
    warnings: [...parts.flatMap((part) => part.warnings), ...frame.notices],
    models: parts.map((part) => part.model),
    solver: frame.solver,
  };
}

/** Unserved demand by priority, highest first. */
function joinScarcity(parts: readonly ModelPlan[]): readonly PriorityScarcity[] {
  const entries = parts.flatMap((part) => part.scarcity ?? []);
  return [...groupBy(entries, ({ priority }) => priority)]
    .sort(([a], [b]) => b - a)
    .map(([priority, group]) => ({
      priority,
      unservedRps: total(group, (entry) => entry.unservedRps),
      penaltyUsdPerHour: total(group, (entry) => entry.penaltyUsdPerHour),
      boundUsdPerHour: total(group, (entry) => entry.boundUsdPerHour),
      proven: group.every((entry) => entry.proven),
    }));
}

function groupBy<Key, Item>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

function total<Item>(items: readonly Item[], measure: (item: Item) => number): number {
  let sum = 0;
  for (const item of items) sum += measure(item);
  return sum;
}
