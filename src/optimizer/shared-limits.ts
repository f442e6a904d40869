import type { PlanNotice } from '../core/plan.js';
import { isIdle, type PlanningProblem, type ProblemDeployment } from '../core/planning-problem.js';
import { counted, replicas as replicasInWords } from './reason.js';

/**
 * What models share: pools of GPUs, quotas of namespaces, the budget. Deployments that the plan does not decide on
 * (*standing*: fixed, without a profile, of a held model) take their part first; floors come next; demand gets the rest.
 */

export type LimitKind = 'pool' | 'quota' | 'budget';

export type ProblemLimit = {
  readonly kind: LimitKind;
  /** As a sentence names it: `the pool of H100`. */
  readonly name: string;
  /** As the document gives it [GPUs or USD/hour]. */
  readonly limit: number;
  /** Taken by standing deployments. */
  readonly standing: number;
  /** What one replica of a deployment takes of it; 0 = nothing. */
  readonly useOf: (deployment: ProblemDeployment) => number;
};

/** What the plan may still give out of a limit. */
export function remainingOf({ limit, standing }: ProblemLimit): number {
  return Math.max(0, limit - standing);
}

/** Replicas of a deployment that the plan does not decide on; null where it does. Unknown ones count as none. */
export function standingReplicas(deployment: ProblemDeployment, isHeld: boolean): number | null {
  if (deployment.fixedReplicas !== null) return deployment.fixedReplicas;
  return deployment.profile === null || isHeld ? (deployment.currentReplicas ?? 0) : null;
}

function isIn(namespace: string, { id }: ProblemDeployment): boolean {
  return id.startsWith(`${namespace}/`);
}

/**
 * The finite limits of a problem.
 *
 * @param held names of models that stay as they are
 */
export function limitsOf(problem: PlanningProblem, held: ReadonlySet<string>): readonly ProblemLimit[] {
  const limits: Omit<ProblemLimit, 'standing'>[] = [];
  for (const { namespace, gpuType, gpus } of problem.quotas) {
    limits.push({
      kind: 'quota',
      name: `the quota of ${namespace} on ${gpuType}`,
      limit: gpus,
      useOf: (deployment) =>
        deployment.gpuType === gpuType && isIn(namespace, deployment) ? deployment.gpusPerReplica : 0,
    });
  }
  for (const { gpuType, gpus } of problem.pools) {
    if (gpus === null) continue;
    limits.push({
      kind: 'pool',
      name: `the pool of ${gpuType}`,
      limit: gpus,
      useOf: (deployment) => (deployment.gpuType === gpuType ? deployment.gpusPerReplica : 0),
    });
  }
  if (problem.budgetUsdPerHour !== null) {
    limits.push({
      kind: 'budget',
      name: 'the budget',
      limit: problem.budgetUsdPerHour,
      useOf: (deployment) => deployment.usdPerReplicaHour,
    });
  }
  return limits.map((limit) => {
    let standing = 0;
    for (const model of problem.models) {
      for (const deployment of model.deployments) {
        const replicas = standingReplicas(deployment, held.has(model.name));
        if (replicas !== null) standing += replicas * limit.useOf(deployment);
      }
    }
    return { ...limit, standing };
  });
}

/** What a reader must know of the limits themselves. */
export function limitWarnings(problem: PlanningProblem, limits: readonly ProblemLimit[]): readonly PlanNotice[] {
  const warnings: PlanNotice[] = [];
  for (const { name, kind, limit, standing } of limits) {
    if (standing <= limit * (1 + 1e-9)) continue;
    const unit = kind === 'budget' ? 'USD/h' : 'GPUs';
    warnings.push({
      code: 'limit_exceeded',
      message: `${name} is ${limit} ${unit}, but deployments that this plan may not change take ${Number(standing.toPrecision(6))}: nothing is left of it`,
    });
  }
  const deployments = problem.models.flatMap((model) => model.deployments);
  const known = (test: (deployment: ProblemDeployment) => boolean, what: string): void => {
    if (deployments.some(test)) return;
    warnings.push({ code: 'limit_without_deployment', message: `${what} limits nothing: no deployment is on it` });
  };
  for (const { gpuType } of problem.pools) known((it) => it.gpuType === gpuType, `the pool of ${gpuType}`);
  for (const { namespace, gpuType } of problem.quotas) {
    known((it) => it.gpuType === gpuType && isIn(namespace, it), `the quota of ${namespace} on ${gpuType}`);
  }
  return warnings;
}

/** The floor that a deployment asks for, before anything limits it. */
export function floorOf(deployment: ProblemDeployment, idle: boolean): number {
  return Math.max(deployment.minReplicas, idle ? deployment.idleMinReplicas : 0);
}

export type GrantedFloors = {
  /** Whole replicas by deployment id; absent = the floor that was asked for. */
  readonly granted: ReadonlyMap<string, number>;
  readonly shortfalls: readonly PlanNotice[];
};

/**
 * Floors come before demand, but not above what there is: they are granted by priority, then by name, as far as whole
 * replicas fit.
 */
export function grantFloors(
  problem: PlanningProblem,
  limits: readonly ProblemLimit[],
  held: ReadonlySet<string>,
): GrantedFloors {
  const left = limits.map(remainingOf);
  const granted = new Map<string, number>();
  const shortfalls: PlanNotice[] = [];
  const models = problem.models
    .filter((model) => !held.has(model.name))
    .sort((a, b) => b.priority - a.priority || byName(a.name, b.name));
  for (const model of models) {
    const idle = isIdle(model);
    for (const deployment of [...model.deployments].sort((a, b) => byName(a.id, b.id))) {
      if (standingReplicas(deployment, false) !== null) continue;
      const floor = Math.min(floorOf(deployment, idle), deployment.maxReplicas);
      if (floor === 0) continue;
      let count = floor;
      let binding: ProblemLimit | null = null;
      limits.forEach((limit, r) => {
        const use = limit.useOf(deployment);
        if (use === 0) return;
        const fits = Math.floor((left[r]! / use) * (1 + 1e-9) + 1e-12);
        if (fits >= count) return;
        count = fits;
        binding = limit;
      });
      limits.forEach((limit, r) => {
        left[r] = Math.max(0, left[r]! - count * limit.useOf(deployment));
      });
      if (binding === null) continue;
      granted.set(deployment.id, count);
      const { name } = binding as ProblemLimit;
      shortfalls.push({
        code: 'floor_above_limit',
        message: `${deployment.id}: of its floor of ${replicasInWords(floor)}, ${count === 0 ? 'none fits' : `${counted(count, 'replica')} fit${count === 1 ? 's' : ''}`} in what is left of ${name}`,
        model: model.name,
        deployment: deployment.id,
      });
    }
  }
  return { granted, shortfalls };
}

/** Compares names as plain strings, the same on every machine. */
export function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
