import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../../src/core/planning-problem.js';
import { bestEffortWork, bucketWork, compileWork } from '../../src/core/work.js';

/**
 * A joint PlanningProblem as plain numbers, for the references that judge the solver: which replicas are free to be
 * chosen and within what bounds, what each bucket's work is on each deployment, and what is left of every shared limit
 * once the replicas that nobody chooses are deducted.
 *
 * Written from the documents alone. Nothing of src/optimizer is used: only the works come from src/core/work.ts.
 */
export type JointFacts = {
  readonly proportional: boolean;
  readonly models: readonly ModelFacts[];
  readonly limits: readonly LimitFacts[];
  /** Highest first. */
  readonly priorities: readonly number[];
  /** USD/hour, switching included, of the replicas that nobody chooses. */
  readonly standingUsdPerHour: number;
};

export type ModelFacts = {
  readonly model: ProblemModel;
  readonly priority: number;
  /** Weight of a request/s left unserved among models of equal priority; > 0. */
  readonly weight: number;
  /** Demand of all buckets [requests/s]. */
  readonly rate: number;
  /** The part of it that nothing can serve [requests/s]. */
  readonly lostRate: number;
  /** Buckets that some deployment can serve. `works[d]` = replicas that the bucket alone would fill; Infinity = cannot. */
  readonly buckets: readonly { readonly rps: number; readonly works: readonly number[] }[];
  readonly deployments: readonly DeploymentFacts[];
};

export type DeploymentFacts = Priced & {
  readonly lower: number;
  readonly upper: number;
  /** What one replica uses of each limit; 0 where its use is deducted already. */
  readonly uses: readonly number[];
  readonly isFixed: boolean;
};

/** USD/hour of a deployment at a number of replicas, what it takes to get there from those that run now included. */
export function costAt({ deployment, start, stop }: Priced, replicas: number): number {
  const change = deployment.currentReplicas === null ? 0 : replicas - deployment.currentReplicas;
  return replicas * deployment.usdPerReplicaHour + Math.max(0, change) * start + Math.max(0, -change) * stop;
}

/** A deployment, and what starting and stopping one replica of it costs [USD/hour over the horizon]. */
type Priced = { readonly deployment: ProblemDeployment; readonly start: number; readonly stop: number };

export type LimitFacts = { readonly name: string; readonly left: number };

type Limit = { readonly name: string; readonly limit: number; useOf(deployment: ProblemDeployment): number };

function limitsOf(problem: PlanningProblem): readonly Limit[] {
  const limits: Limit[] = [];
  for (const { gpuType, gpus } of problem.pools) {
    if (gpus === null) continue;
    limits.push({
      name: `pool ${gpuType}`,
      limit: gpus,
      useOf: (it) => (it.gpuType === gpuType ? it.gpusPerReplica : 0),
    });
  }
  for (const { namespace, gpuType, gpus } of problem.quotas) {
    limits.push({
      name: `quota ${namespace}/${gpuType}`,
      limit: gpus,
      useOf: (it) => (it.gpuType === gpuType && it.id.startsWith(`${namespace}/`) ? it.gpusPerReplica : 0),
    });
  }
  const budget = problem.budgetUsdPerHour;
  if (budget !== null) limits.push({ name: 'budget', limit: budget, useOf: (it) => it.usdPerReplicaHour });
  return limits;
}

/** Replicas of a deployment that nobody chooses; null where they are to be chosen. */
function standingReplicas(deployment: ProblemDeployment): number | null {
  if (deployment.fixedReplicas !== null) return deployment.fixedReplicas;
  return deployment.profile === null ? (deployment.currentReplicas ?? 0) : null;
}

function floorOf(model: ProblemModel, deployment: ProblemDeployment): number {
  const isIdle = model.demand.every(({ rps }) => rps === 0);
  return Math.min(Math.max(deployment.minReplicas, isIdle ? deployment.idleMinReplicas : 0), deployment.maxReplicas);
}

/** Floors as far as there is room for them: by priority, model, deployment. */
export function grantedFloors(problem: PlanningProblem): ReadonlyMap<string, number> {
  const limits = limitsOf(problem);
  const left = limits.map((limit) => {
    let standing = 0;
    for (const model of problem.models) {
      for (const it of model.deployments) standing += (standingReplicas(it) ?? 0) * limit.useOf(it);
    }
    return Math.max(0, limit.limit - standing);
  });
  const waiting = problem.models
    .flatMap((model) => model.deployments.map((deployment) => ({ model, deployment })))
    .filter(({ deployment }) => standingReplicas(deployment) === null)
    .sort(
      (a, b) =>
        b.model.priority - a.model.priority ||
        compare(a.model.name, b.model.name) ||
        compare(a.deployment.id, b.deployment.id),
    );
  const granted = new Map<string, number>();
  for (const { model, deployment } of waiting) {
    let count = floorOf(model, deployment);
    limits.forEach((limit, l) => {
      const use = limit.useOf(deployment);
      if (use > 0) count = Math.min(count, Math.max(0, Math.floor((left[l]! + 1e-9 * limit.limit) / use)));
    });
    limits.forEach((limit, l) => {
      left[l] = left[l]! - count * limit.useOf(deployment);
    });
    granted.set(deployment.id, count);
  }
  return granted;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A weight of 0 still counts, a little: a millionth of the largest of its priority. */
function weightsOf(problem: PlanningProblem): ReadonlyMap<string, number> {
  return new Map(
    problem.models.map((model) => {
      const rivals = problem.models.filter(({ priority }) => priority === model.priority);
      const largest = Math.max(...rivals.map((it) => it.unservedUsdPerRequest));
      const weight = model.unservedUsdPerRequest > 0 ? model.unservedUsdPerRequest : largest > 0 ? 1e-6 * largest : 1;
      return [model.name, weight];
    }),
  );
}

export function jointFacts(problem: PlanningProblem): JointFacts {
  const { options } = problem;
  const proportional = options.routing === 'proportional';
  const limits = limitsOf(problem);
  const floors = grantedFloors(problem);
  const weights = weightsOf(problem);
  const standing = limits.map(() => 0);
  let standingUsdPerHour = 0;
  const start = options.startUsdPerReplica / options.horizonHours;
  const stop = options.stopUsdPerReplica / options.horizonHours;

  const models = problem.models.map((model): ModelFacts => {
    for (const deployment of model.deployments) {
      const count = standingReplicas(deployment);
      if (count === null) continue;
      limits.forEach((limit, l) => {
        standing[l] = standing[l]! + count * limit.useOf(deployment);
      });
      standingUsdPerHour += costAt({ deployment, start, stop }, count);
    }
    const profiled = model.deployments.filter(({ profile }) => profile !== null);
    const tables = profiled.map((it) => compileWork(it.profile!, it.maxTokens));
    let rate = 0;
    let lostRate = 0;
    let buckets: { rps: number; works: number[] }[] = [];
    for (const { inputTokens, outputTokens, rps } of model.demand) {
      if (rps === 0) continue;
      rate += rps;
      let works = tables.map((table) => rps * bucketWork(table, inputTokens, outputTokens).work);
      if (works.every((work) => work === Infinity)) {
        works = tables.map((table) => rps * bestEffortWork(table, inputTokens, outputTokens));
      }
      if (works.every((work) => work === Infinity)) lostRate += rps;
      else buckets.push({ rps, works });
    }
    if (proportional) {
      // A deployment that cannot serve one of the buckets serves none.
      const serving = profiled.map((_, d) => buckets.every(({ works }) => works[d]! < Infinity));
      buckets = buckets.map(({ rps, works }) => ({
        rps,
        works: works.map((work, d) => (serving[d]! ? work : Infinity)),
      }));
      if (!serving.includes(true)) {
        for (const { rps } of buckets) lostRate += rps;
        buckets = [];
      }
    }
    const deployments = profiled.map((deployment, d): DeploymentFacts => {
      const isFixed = deployment.fixedReplicas !== null;
      const needed = buckets.reduce((sum, { works }) => sum + (works[d]! < Infinity ? works[d]! : 0), 0);
      const lower = isFixed ? deployment.fixedReplicas : floors.get(deployment.id)!;
      // More than all of the demand needs only helps against the price of stopping what runs.
      const useful = Math.max(
        lower,
        Math.ceil((needed / deployment.targetUtilization) * (1 - 1e-9)),
        deployment.currentReplicas ?? 0,
      );
      return {
        deployment,
        start,
        stop,
        lower,
        upper: isFixed ? lower : Math.min(deployment.maxReplicas, useful),
        uses: limits.map((limit) => (isFixed ? 0 : limit.useOf(deployment))),
        isFixed,
      };
    });
    return {
      model,
      priority: model.priority,
      weight: weights.get(model.name)!,
      rate,
      lostRate,
      buckets,
      deployments,
    };
  });
  return {
    proportional,
    models,
    limits: limits.map(({ name, limit }, l) => ({ name, left: Math.max(0, limit - standing[l]!) })),
    priorities: [...new Set(problem.models.map(({ priority }) => priority))].sort((a, b) => b - a),
    standingUsdPerHour,
  };
}

/** What the lexicographic program comes to: each number is the least, given those before it. */
export type JointOptimum = {
  /** Σ weight × requests/s below what minServedShare asks for. */
  readonly servedShareShort: number;
  /** Σ weight × unserved requests/s, by priority from the highest. */
  readonly unserved: readonly { readonly priority: number; readonly weightedRps: number }[];
  /** USD/hour, switching included. */
  readonly objectiveUsdPerHour: number;
  readonly replicas: ReadonlyMap<string, number>;
};

/** The stages of a plan or of chosen replicas, from the unserved requests/s of each model. */
export function stagesOf(
  facts: JointFacts,
  unservedRps: readonly number[],
): Pick<JointOptimum, 'servedShareShort' | 'unserved'> {
  let servedShareShort = 0;
  const unserved = facts.priorities.map((priority) => ({ priority, weightedRps: 0 }));
  facts.models.forEach(({ model, priority, weight, rate }, m) => {
    servedShareShort += weight * Math.max(0, unservedRps[m]! - (1 - model.minServedShare) * rate);
    unserved.find((it) => it.priority === priority)!.weightedRps += weight * unservedRps[m]!;
  });
  return { servedShareShort, unserved };
}
