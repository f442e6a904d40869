import type { PlanChange, UnservedByPriority } from '../../core/explanation.js';
import type { BucketShares, Plan, PlannedDeployment, PlannedModel } from '../../core/plan.js';
import type { ProblemDeployment, ProblemModel } from '../../core/planning-problem.js';

/**
 * What a plan is worth, and how two plans compare: served shares that were promised first, then unserved demand from the
 * highest priority down, then money (with starts and stops).
 */
export type Outcome = {
  /** Demand below the served shares that are promised, weighed as the planner weighs it; 0 where all are kept. */
  readonly brokenPromise: number;
  /** Of each priority of the models, highest first. */
  readonly unserved: readonly (UnservedByPriority & { readonly weighted: number; readonly demand: number })[];
  readonly usdPerHour: number;
  /** usdPerHour + switching. */
  readonly objective: number;
  readonly bound: number;
  /** The money is proven, and so is that no less demand can stay unserved. */
  readonly proven: boolean;
  readonly unservedProven: boolean;
  readonly replicas: ReadonlyMap<string, number | null>;
  /** Models without a plan of their own; plans with different ones do not compare. */
  readonly held: string;
};

/** The parts of a plan by model. */
export type PlanParts = ReadonlyMap<
  string,
  {
    readonly entry: PlannedModel;
    readonly deployments: readonly PlannedDeployment[];
    readonly shares: readonly BucketShares[];
  }
>;

export function partsOf(plan: Plan): PlanParts {
  const parts = new Map(
    plan.models.map((entry) => [
      entry.name,
      { entry, deployments: [] as PlannedDeployment[], shares: [] as BucketShares[] },
    ]),
  );
  for (const deployment of plan.deployments) parts.get(deployment.model)?.deployments.push(deployment);
  for (const row of plan.shares) parts.get(row.model)?.shares.push(row);
  return parts;
}

/** Relative distance below which two amounts of money are the same. */
const sameMoney = 1e-9;
/** Share of all demand below which two amounts of unserved demand are the same: solvers place it to a tolerance. */
const sameDemand = 1e-6;

/** What some models of a plan come to. */
export function outcomeOf(plan: Plan, parts: PlanParts, models: readonly ProblemModel[]): Outcome {
  type Level = { weighted: number; rps: number; demand: number };
  const levels = new Map<number, Level>();
  const weights = weightsOf(models);
  const replicas = new Map<string, number | null>();
  const held: string[] = [];
  let brokenPromise = 0;
  let usdPerHour = 0;
  let objective = 0;
  let bound = 0;
  let moneyProven = true;
  let unservedProven = true;
  models.forEach((model, m) => {
    const { entry, deployments, shares } = parts.get(model.name)!;
    for (const deployment of deployments) replicas.set(deployment.id, deployment.targetReplicas);
    if (entry.status === 'held') {
      held.push(model.name);
      return;
    }
    usdPerHour += entry.usdPerHour;
    objective += entry.usdPerHour + entry.switchingUsdPerHour;
    bound += entry.boundUsdPerHour;
    let demand = 0;
    let rps = 0;
    for (const row of shares) {
      demand += row.rps;
      rps += row.rps * row.unservedShare;
    }
    const level = levels.get(model.priority) ?? { weighted: 0, rps: 0, demand: 0 };
    levels.set(model.priority, {
      weighted: level.weighted + weights[m]! * rps,
      rps: level.rps + rps,
      demand: level.demand + weights[m]! * demand,
    });
    const promised = rps - (1 - model.minServedShare) * demand;
    if (promised > sameDemand * demand) brokenPromise += weights[m]! * promised;
    // An unserved demand that is not proven has no bound on the money at the least unserved demand.
    if (entry.status === 'feasible' && !(entry.gap > sameMoney)) unservedProven = false;
  });
  if (objective - bound > sameMoney * Math.max(objective, 0)) moneyProven = false;
  const names = new Set(models.map((model) => model.name));
  if (
    plan.warnings.some(({ code, model }) => code === 'unserved_not_proven' && (model === undefined || names.has(model)))
  )
    unservedProven = false;
  if (plan.scarcity.some(({ priority, proven }) => !proven && (levels.get(priority)?.rps ?? 0) > 0))
    unservedProven = false;
  return {
    brokenPromise,
    unserved: [...levels.entries()]
      .sort(([a], [b]) => b - a)
      .map(([priority, level]) => ({ priority, rps: level.rps, weighted: level.weighted, demand: level.demand })),
    usdPerHour,
    objective,
    bound: Math.min(bound, objective),
    proven: moneyProven && unservedProven,
    unservedProven,
    replicas,
    held: held.join('\n'),
  };
}

/** Models of one priority weigh unserved demand by its price; a price of 0 counts as next to nothing, but not as nothing. */
function weightsOf(models: readonly ProblemModel[]): readonly number[] {
  const largest = new Map<number, number>();
  for (const { priority, unservedUsdPerRequest } of models) {
    largest.set(priority, Math.max(largest.get(priority) ?? 0, unservedUsdPerRequest));
  }
  return models.map(({ priority, unservedUsdPerRequest }) => {
    const most = largest.get(priority)!;
    return most === 0 ? 1 : unservedUsdPerRequest === 0 ? 1e-6 * most : unservedUsdPerRequest;
  });
}

/**
 * Compares what comes before money: below 0 where `a` serves more of what matters most.
 *
 * Both are of the same models, so that their priorities are the same.
 */
export function compareServed(a: Outcome, b: Outcome): number {
  const promise = a.brokenPromise - b.brokenPromise;
  const scale = a.unserved.reduce((sum, level) => sum + level.demand, 0);
  if (Math.abs(promise) > sameDemand * scale) return promise;
  for (let i = 0; i < a.unserved.length; i++) {
    const difference = a.unserved[i]!.weighted - b.unserved[i]!.weighted;
    if (Math.abs(difference) > sameDemand * Math.max(a.unserved[i]!.demand, b.unserved[i]!.demand)) return difference;
  }
  return 0;
}

/** Below 0 where `a` is better, 0 where neither is. */
export function compareOutcomes(a: Outcome, b: Outcome): number {
  const served = compareServed(a, b);
  if (served !== 0) return served;
  return isSameMoney(a.objective, b.objective) ? 0 : a.objective - b.objective;
}

export function isSameMoney(a: number, b: number): boolean {
  return Math.abs(a - b) <= sameMoney * Math.max(Math.abs(a), Math.abs(b));
}

/** What is known of the direction of a change before anything is solved. */
export type Direction = 'relaxed' | 'tightened' | 'other';

/** Changes of replicas that are listed one by one. */
const listedReplicaChanges = 20;

/**
 * The change from the plan of a problem to that of a changed problem.
 *
 * The proven change of the money lies between `changed.bound − base.objective` and `changed.objective − base.bound`; a
 * relaxed problem costs no more, a tightened one no less.
 */
export function changeBetween(
  base: Outcome,
  changed: Outcome,
  options: { readonly direction: Direction; readonly deployments: ReadonlyMap<string, ProblemDeployment> },
): PlanChange {
  const { direction, deployments } = options;
  // Where the base plan also fits the changed problem, a search that ended early may have found less than that.
  const keepsBase = direction === 'relaxed' && compareOutcomes(changed, base) > 0;
  const found = keepsBase ? base : changed;
  const served = compareServed(found, base);
  const unserved = found.unserved.flatMap((level, i) => {
    const rps = level.rps - base.unserved[i]!.rps;
    const tolerance = sameDemand * Math.max(level.rps, base.unserved[i]!.rps, 1e-9);
    return Math.abs(rps) > tolerance && served !== 0 ? [{ priority: level.priority, rps }] : [];
  });
  const proven = base.proven && changed.proven;
  const usdPerHour = isSameMoney(found.objective, base.objective) ? 0 : found.objective - base.objective;
  const comparable = base.unservedProven && changed.unservedProven;
  let lowest = proven ? usdPerHour : changed.bound - base.objective;
  let highest = proven ? usdPerHour : found.objective - base.bound;
  if (served === 0 && direction === 'relaxed') highest = Math.min(highest, 0);
  if (served === 0 && direction === 'tightened') lowest = Math.max(lowest, 0);
  const replicas = [...found.replicas]
    .filter(([id, to]) => base.replicas.get(id) !== to)
    .map(([id, to]) => ({ deployment: id, from: base.replicas.get(id) ?? null, to }))
    .sort((a, b) => moved(b, deployments) - moved(a, deployments) || (a.deployment < b.deployment ? -1 : 1));
  return {
    unservedRps: unserved.reduce((sum, { rps }) => sum + rps, 0),
    unserved,
    usdPerHour,
    lowestUsdPerHour: comparable ? Math.min(lowest, usdPerHour) : null,
    highestUsdPerHour: comparable ? Math.max(highest, usdPerHour) : null,
    proven,
    replicas: replicas.slice(0, listedReplicaChanges),
    moreReplicaChanges: Math.max(0, replicas.length - listedReplicaChanges),
  };
}

function moved(
  change: { readonly deployment: string; readonly from: number | null; readonly to: number | null },
  deployments: ReadonlyMap<string, ProblemDeployment>,
): number {
  const price = deployments.get(change.deployment)?.usdPerReplicaHour ?? 0;
  return Math.abs((change.to ?? 0) - (change.from ?? 0)) * price;
}
