import type { Plan, PlannedDeployment } from '../../core/plan.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../../core/planning-problem.js';

/**
 * The books of a plan: every pool, every quota and the budget with what is used of them, added up again from the plan's
 * own targets, and the floors that there is room for.
 */
export type Ledger = {
  readonly planned: ReadonlyMap<string, PlannedDeployment>;
  /** Names of models that the plan holds: what runs stays. */
  readonly held: ReadonlySet<string>;
  readonly limits: readonly SharedLimit[];
  /** What one replica of a deployment uses of which limits; only uses above 0. */
  readonly usesOf: (deployment: ProblemDeployment) => readonly Use[];
  /** Replicas of each free deployment's floor that fit the limits. */
  readonly grantedFloors: ReadonlyMap<string, number>;
};

export type Use = { readonly limit: SharedLimit; readonly amount: number };

/** Amounts in GPUs, or in USD/hour for the budget. */
export type SharedLimit = {
  readonly kind: 'pool' | 'quota' | 'budget';
  /** As sentences name it: `pool A100`, `the quota of team-a on A100`, `the budget`. */
  readonly name: string;
  readonly amount: number;
  /** Used by replicas that the plan does not choose. */
  standing: number;
  /** Used by all target replicas. */
  used: number;
  /** Used by max(ready, published) replicas; as the targets for the budget, which is theirs. */
  usedNow: number;
  /** Whether any deployment is of its kind. */
  isTouched: boolean;
};

/** Amounts may differ by this (relative): fractions of a GPU and prices are added up. */
export const limitTolerance = 1e-9;

/** Most that a plan may use: what replicas that nobody chooses use already is not the plan's to change. */
export function allowed({ amount, standing }: SharedLimit): number {
  return Math.max(amount, standing);
}

/** Replicas that the plan does not choose: fixed by a person, without a profile, or of a model that is held. */
export function isStanding(deployment: ProblemDeployment, isHeld: boolean): boolean {
  return isHeld || deployment.fixedReplicas !== null || deployment.profile === null;
}

/** What stands: nothing is known to run where current replicas are not known. */
export function standingReplicas(deployment: ProblemDeployment): number {
  return deployment.fixedReplicas ?? deployment.currentReplicas ?? 0;
}

/** The floor that a free deployment asks for, within its ceiling. */
export function floorOf(model: ProblemModel, deployment: ProblemDeployment): number {
  return Math.min(wholeFloor(model, deployment), deployment.maxReplicas);
}

/** A floor that its own ceiling does not allow; the ceiling wins. */
export function isFloorAboveCeiling(model: ProblemModel, deployment: ProblemDeployment): boolean {
  return deployment.fixedReplicas === null && wholeFloor(model, deployment) > deployment.maxReplicas;
}

function wholeFloor(model: ProblemModel, { minReplicas, idleMinReplicas }: ProblemDeployment): number {
  const idle = model.demand.every((bucket) => bucket.rps === 0);
  return Math.max(minReplicas, idle ? idleMinReplicas : 0);
}

export function openLedger(problem: PlanningProblem, plan: Plan): Ledger {
  const planned = new Map(plan.deployments.map((deployment) => [deployment.id, deployment]));
  const held = new Set(plan.models.filter(({ status }) => status === 'held').map(({ name }) => name));
  const limits: SharedLimit[] = [];
  const add = (kind: SharedLimit['kind'], name: string, amount: number): SharedLimit => {
    const limit = { kind, name, amount, standing: 0, used: 0, usedNow: 0, isTouched: false };
    limits.push(limit);
    return limit;
  };
  const poolsOf = new Map<string, SharedLimit[]>();
  for (const { gpuType, gpus } of problem.pools) {
    if (gpus !== null) append(poolsOf, gpuType, add('pool', `pool ${gpuType}`, gpus));
  }
  const quotasOf = new Map<string, SharedLimit[]>();
  for (const { namespace, gpuType, gpus } of problem.quotas) {
    append(quotasOf, `${namespace}/ ${gpuType}`, add('quota', `the quota of ${namespace} on ${gpuType}`, gpus));
  }
  const budget = problem.budgetUsdPerHour === null ? null : add('budget', 'the budget', problem.budgetUsdPerHour);

  const touched = ({ id, gpuType }: ProblemDeployment): readonly SharedLimit[] => {
    const found = [...(poolsOf.get(gpuType) ?? [])];
    // A namespace may hold slashes: every beginning of the id that ends in one may be a namespace.
    for (let at = id.indexOf('/'); quotasOf.size > 0 && at >= 0; at = id.indexOf('/', at + 1)) {
      found.push(...(quotasOf.get(`${id.slice(0, at + 1)} ${gpuType}`) ?? []));
    }
    return found;
  };
  const uses = new Map<string, readonly Use[]>();
  for (const model of problem.models) {
    const isHeld = held.has(model.name);
    for (const deployment of model.deployments) {
      const own: Use[] = touched(deployment).map((limit) => ({ limit, amount: deployment.gpusPerReplica }));
      if (budget !== null) own.push({ limit: budget, amount: deployment.usdPerReplicaHour });
      for (const { limit } of own) limit.isTouched = true;
      const counting = own.filter(({ amount }) => amount > 0);
      uses.set(deployment.id, counting);
      const entry = planned.get(deployment.id);
      const target = entry?.targetReplicas ?? 0;
      const ready = deployment.readyReplicas ?? deployment.currentReplicas ?? 0;
      for (const { limit, amount } of counting) {
        if (isStanding(deployment, isHeld)) limit.standing += amount * standingReplicas(deployment);
        limit.used += amount * target;
        limit.usedNow += amount * (limit.kind === 'budget' ? target : Math.max(ready, entry?.replicas ?? 0));
      }
    }
  }
  const usesOf = (deployment: ProblemDeployment): readonly Use[] => uses.get(deployment.id) ?? [];
  return { planned, held, limits, usesOf, grantedFloors: grantFloors(problem, { held, limits, usesOf }) };
}

function append(map: Map<string, SharedLimit[]>, key: string, limit: SharedLimit): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [limit]);
  else list.push(limit);
}

/** Floors before all demand: by priority, then by model, then by deployment, each as far as there is room. */
function grantFloors(
  problem: PlanningProblem,
  { held, limits, usesOf }: Pick<Ledger, 'held' | 'limits' | 'usesOf'>,
): ReadonlyMap<string, number> {
  const left = new Map(limits.map((limit) => [limit, Math.max(0, limit.amount - limit.standing)]));
  const granted = new Map<string, number>();
  const waiting = problem.models
    .filter((model) => !held.has(model.name))
    .flatMap((model) => model.deployments.map((deployment) => ({ model, deployment })))
    .filter(({ deployment }) => !isStanding(deployment, false))
    .map(({ model, deployment }) => ({ model, deployment, floor: floorOf(model, deployment) }));
  for (const { deployment } of waiting) granted.set(deployment.id, 0);
  const asking = waiting
    .filter(({ floor }) => floor > 0)
    .sort(
      (a, b) =>
        b.model.priority - a.model.priority ||
        order(a.model.name, b.model.name) ||
        order(a.deployment.id, b.deployment.id),
    );
  for (const { deployment, floor } of asking) {
    let count = floor;
    for (const { limit, amount } of usesOf(deployment)) {
      const fits = Math.floor((left.get(limit)! + limitTolerance * limit.amount) / amount);
      count = Math.min(count, Math.max(0, fits));
    }
    for (const { limit, amount } of usesOf(deployment)) left.set(limit, left.get(limit)! - count * amount);
    granted.set(deployment.id, count);
  }
  return granted;
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * How many more replicas of a deployment the limits leave room for, all else as planned.
 *
 * @param freed what else would be free of a limit
 */
export function growth(uses: readonly Use[], freed: (limit: SharedLimit) => number = () => 0): number {
  let most = Number.POSITIVE_INFINITY;
  for (const { limit, amount } of uses) {
    const room = allowed(limit) - (limit.used - freed(limit));
    most = Math.min(most, Math.max(0, Math.floor(room / amount)));
  }
  return most;
}
