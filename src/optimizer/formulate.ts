import type { ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { bestEffortWork, bucketWork, compileWork } from '../core/work.js';
import { type MergedBuckets, mergeBuckets } from './merge.js';
import type { Program } from './program.js';

/**
 * From a model of a PlanningProblem to numbers: which deployments can serve which buckets with how much work, what
 * bounds their replicas have, and the buckets merged. Deployments and buckets are put in a canonical order, so that
 * the order of the document never changes a plan.
 */
export type Formulation = {
  readonly model: ProblemModel;
  readonly idle: boolean;
  /** Deployments that the program decides on, by id. */
  readonly deployments: readonly ProblemDeployment[];
  /** Deployments without a profile: they stay as they are and serve nothing in the plan. */
  readonly unprofiled: readonly ProblemDeployment[];
  /** Every bucket of the demand, in the order of the document. */
  readonly buckets: readonly FormulatedBucket[];
  /** Document indexes of the buckets that the program places, in canonical order. */
  readonly placed: readonly number[];
  /** placed.length × deployments.length [replicas]; Infinity = cannot serve. */
  readonly rawWork: Float64Array;
  readonly rawRate: Float64Array;
  readonly bounds: readonly ReplicaBounds[];
};

export type FormulatedBucket = {
  readonly bestEffort: boolean;
  readonly extrapolated: boolean;
  /** Why the program does not place it: nothing can serve it (`slo`), or only deployments that may not run. */
  readonly unplaced: 'slo' | 'max_replicas' | 'no-demand' | null;
};

export type ReplicaBounds = {
  readonly lower: number;
  readonly upper: number;
  /** The floor that was asked for; above `upper` where the ceiling does not allow it. */
  readonly floor: number;
};

/** A replica's work fits to this relative tolerance; half of it is left for rounding in the solvers. */
export const fitTolerance = 1e-9;

/** The floor and ceiling of a deployment's replicas. A floor above its ceiling yields. */
function replicaBounds(deployment: ProblemDeployment, idle: boolean): ReplicaBounds {
  const fixed = deployment.fixedReplicas;
  if (fixed !== null) return { lower: fixed, upper: fixed, floor: fixed };
  const floor = Math.max(deployment.minReplicas, idle ? deployment.idleMinReplicas : 0);
  return { lower: Math.min(floor, deployment.maxReplicas), upper: deployment.maxReplicas, floor };
}

/** Compares ids as plain strings, the same on every machine. */
function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function formulate(model: ProblemModel): Formulation {
  const idle = model.demand.every((bucket) => bucket.rps === 0);
  const deployments = model.deployments
    .filter((deployment) => deployment.profile !== null)
    .sort((a, b) => byName(a.id, b.id));
  const unprofiled = model.deployments.filter((deployment) => deployment.profile === null);
  const tables = deployments.map((deployment) => compileWork(deployment.profile!, deployment.maxTokens));
  const bounds = deployments.map((deployment) => replicaBounds(deployment, idle));

  const count = deployments.length;
  const order = model.demand
    .map((_, index) => index)
    .sort((a, b) => {
      const left = model.demand[a]!;
      const right = model.demand[b]!;
      return (
        left.inputTokens - right.inputTokens || left.outputTokens - right.outputTokens || left.rps - right.rps || a - b
      );
    });
  const buckets: FormulatedBucket[] = new Array(model.demand.length);
  const placed: number[] = [];
  const rawWork = new Float64Array(model.demand.length * count);
  const rawRate = new Float64Array(model.demand.length);
  const row = new Float64Array(count);
  for (const index of order) {
    const { inputTokens, outputTokens, rps } = model.demand[index]!;
    let servable = false;
    let extrapolated = false;
    for (let d = 0; d < count; d++) {
      const answer = bucketWork(tables[d]!, inputTokens, outputTokens);
      row[d] = answer.work;
      if (answer.servable) {
        servable = true;
        if (answer.extrapolated) extrapolated = true;
      }
    }
    let reachable = servable;
    if (!servable) {
      for (let d = 0; d < count; d++) {
        row[d] = bestEffortWork(tables[d]!, inputTokens, outputTokens);
        if (row[d]! < Number.POSITIVE_INFINITY) reachable = true;
      }
    }
    let open = false;
    for (let d = 0; d < count; d++) {
      if (bounds[d]!.upper === 0) row[d] = Number.POSITIVE_INFINITY;
      else if (row[d]! < Number.POSITIVE_INFINITY) open = true;
    }
    const unplaced = rps === 0 ? 'no-demand' : !reachable ? 'slo' : !open ? 'max_replicas' : null;
    buckets[index] = { bestEffort: reachable && !servable, extrapolated, unplaced };
    if (unplaced !== null) continue;
    const at = placed.length * count;
    for (let d = 0; d < count; d++) rawWork[at + d] = row[d]! * rps;
    rawRate[placed.length] = rps;
    placed.push(index);
  }
  return {
    model,
    idle,
    deployments,
    unprofiled,
    buckets,
    placed,
    rawWork: rawWork.subarray(0, placed.length * count),
    rawRate: rawRate.subarray(0, placed.length),
    bounds,
  };
}

/** Merges the formulated buckets to at most `maxBuckets`. */
export function mergeFormulation(formulation: Formulation, maxBuckets: number): MergedBuckets {
  return mergeBuckets({
    bucketCount: formulation.placed.length,
    deploymentCount: formulation.deployments.length,
    work: formulation.rawWork,
    rate: formulation.rawRate,
    price: Float64Array.from(
      formulation.deployments,
      (deployment) => deployment.usdPerReplicaHour / deployment.targetUtilization,
    ),
    maxBuckets,
  });
}

/** Whole replicas that hold an amount of work, to the tolerance with which work fits. */
function replicasFor(work: number, capacity: number): number {
  const replicas = work / capacity;
  const whole = Math.round(replicas);
  return whole > 0 && Math.abs(replicas - whole) <= fitTolerance * whole ? whole : Math.ceil(replicas);
}

/**
 * The program of a formulation over some buckets (merged or raw). A ceiling above what all the work that a deployment
 * could serve would need is lowered to that.
 */
export function toProgram(
  formulation: Formulation,
  buckets: { readonly count: number; readonly work: Float64Array; readonly rate: Float64Array },
  unservedLimit: number,
): Program {
  const { deployments, bounds } = formulation;
  const count = deployments.length;
  const needed = new Float64Array(count);
  for (let at = 0; at < buckets.count * count; at++) {
    const work = buckets.work[at]!;
    if (work < Number.POSITIVE_INFINITY) needed[at % count] = needed[at % count]! + work;
  }
  const capacity = Float64Array.from(
    deployments,
    (deployment) => deployment.targetUtilization * (1 + fitTolerance / 2),
  );
  return {
    bucketCount: buckets.count,
    deploymentCount: count,
    work: buckets.work,
    rate: buckets.rate,
    cost: Float64Array.from(deployments, (deployment) => deployment.usdPerReplicaHour),
    capacity,
    lower: Float64Array.from(bounds, (bound) => bound.lower),
    upper: Float64Array.from(bounds, (bound, d) =>
      Math.max(bound.lower, Math.min(bound.upper, replicasFor(needed[d]!, deployments[d]!.targetUtilization))),
    ),
    unservedLimit,
  };
}
