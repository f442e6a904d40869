import { compileDeploymentWork, isProfiled } from '../core/deployment-work.js';
import {
  isIdle,
  type PlanOptions,
  type ProblemDeployment,
  type ProblemModel,
  switchingPrices,
} from '../core/planning-problem.js';
import { bestEffortWork, bucketWork } from '../core/work.js';
import { type MergedBuckets, mergeBuckets } from './merge.js';
import type { Program, Switching } from './program.js';
import { byName, floorOf } from './shared-limits.js';

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
  readonly routing: PlanOptions['routing'];
  /** With the same shares for every bucket: there is demand, but no deployment can serve all of it. */
  readonly nothingInCommon: boolean;
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
  /** The ceiling of the deployment itself, whatever it shares with others. */
  readonly ceiling: number;
  /** The floor that was asked for; above `ceiling` where that does not allow it. */
  readonly floor: number;
};

/** What a model's problem is part of. */
export type FormulationContext = {
  readonly routing: PlanOptions['routing'];
  /** Most replicas that the shared limits leave a deployment, if the plan gave it all of them. */
  readonly mostReplicas: (deployment: ProblemDeployment) => number;
  /** Floor that the shared limits grant, where it is not the one that was asked for. */
  readonly grantedFloor: (deployment: ProblemDeployment) => number | undefined;
};

/** A model that shares nothing. */
export const alone: Omit<FormulationContext, 'routing'> = {
  mostReplicas: () => Number.POSITIVE_INFINITY,
  grantedFloor: () => undefined,
};

/** A replica's work fits to this relative tolerance; half of it is left for rounding in the solvers. */
export const fitTolerance = 1e-9;

/** The floor and ceiling of a deployment's replicas. A floor above its ceiling yields. */
function replicaBounds(deployment: ProblemDeployment, idle: boolean, context: FormulationContext): ReplicaBounds {
  const fixed = deployment.fixedReplicas;
  if (fixed !== null) return { lower: fixed, upper: fixed, ceiling: fixed, floor: fixed };
  const floor = floorOf(deployment, idle);
  const ceiling = deployment.maxReplicas;
  const upper = Math.min(ceiling, context.mostReplicas(deployment));
  return { lower: Math.min(context.grantedFloor(deployment) ?? floor, upper), upper, ceiling, floor };
}

export function formulate(model: ProblemModel, context: FormulationContext): Formulation {
  const idle = isIdle(model);
  const deployments = model.deployments.filter(isProfiled).sort((a, b) => byName(a.id, b.id));
  const unprofiled = model.deployments.filter((deployment) => deployment.profile === null);
  const tables = deployments.map(compileDeploymentWork);
  const bounds = deployments.map((deployment) => replicaBounds(deployment, idle, context));

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
  const servesAll = new Uint8Array(count).fill(1);
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
      if (rps > 0 && reachable && row[d] === Number.POSITIVE_INFINITY) servesAll[d] = 0;
      if (bounds[d]!.ceiling === 0) row[d] = Number.POSITIVE_INFINITY;
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
  const formulation: Formulation = {
    model,
    idle,
    deployments,
    unprofiled,
    buckets,
    placed,
    rawWork: rawWork.subarray(0, placed.length * count),
    rawRate: rawRate.subarray(0, placed.length),
    bounds,
    routing: context.routing,
    nothingInCommon: false,
  };
  return context.routing === 'free' ? formulation : withCommonShares(formulation, servesAll);
}

/** One share per deployment for all buckets: only deployments that can serve every bucket take part. */
function withCommonShares(formulation: Formulation, servesAll: Uint8Array): Formulation {
  const { placed, rawWork, buckets, bounds } = formulation;
  const count = servesAll.length;
  if (buckets.every(({ unplaced }) => unplaced === 'slo' || unplaced === 'no-demand')) return formulation;
  if (placed.length > 0 && servesAll.some((serves, d) => serves === 1 && bounds[d]!.ceiling > 0)) {
    const isOpenToAll = buckets.every(({ unplaced }) => unplaced !== 'max_replicas');
    if (isOpenToAll) {
      const work = rawWork.map((amount, at) => (servesAll[at % count] === 1 ? amount : Number.POSITIVE_INFINITY));
      return { ...formulation, rawWork: work };
    }
  }
  // The same share of nothing for every bucket.
  const nothingInCommon = !servesAll.includes(1);
  const reason = nothingInCommon ? 'slo' : 'max_replicas';
  return {
    ...formulation,
    buckets: buckets.map((bucket) => ({
      ...bucket,
      unplaced: bucket.unplaced === null || bucket.unplaced === 'max_replicas' ? reason : bucket.unplaced,
    })),
    placed: [],
    rawWork: new Float64Array(0),
    rawRate: new Float64Array(0),
    nothingInCommon,
  };
}

/** The buckets that a program places, before any are merged: those of the document, or all of them as one. */
export function programBuckets(formulation: Formulation): {
  readonly count: number;
  readonly work: Float64Array;
  readonly rate: Float64Array;
} {
  const { placed, rawWork, rawRate, routing, deployments } = formulation;
  if (routing === 'free' || placed.length === 0) return { count: placed.length, work: rawWork, rate: rawRate };
  const work = new Float64Array(deployments.length);
  rawWork.forEach((amount, at) => {
    const d = at % deployments.length;
    work[d] = work[d]! + amount;
  });
  return { count: 1, work, rate: Float64Array.of(rawRate.reduce((sum, rate) => sum + rate, 0)) };
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
  { unservedLimit, options }: { readonly unservedLimit: number; readonly options: PlanOptions },
): Program {
  const { deployments, bounds } = formulation;
  const switching = switchingOf(formulation, options);
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
    upper: Float64Array.from(bounds, (bound, d) => {
      const useful = Math.min(bound.upper, replicasFor(needed[d]!, deployments[d]!.targetUtilization));
      // Where stopping costs money, what runs may be kept without any use for it.
      const kept = switching === null ? 0 : Math.min(bound.upper, deployments[d]!.currentReplicas ?? 0);
      return Math.max(bound.lower, useful, kept);
    }),
    unservedLimit,
    ...(switching === null ? {} : { switching }),
  };
}

/** What starting and stopping costs [USD/hour per replica]; null = nothing. */
function switchingOf({ deployments, bounds }: Formulation, options: PlanOptions): Switching | null {
  const prices = deployments.map((deployment) => switchingPrices(deployment, options));
  if (prices.every(({ startUsd, stopUsd }) => startUsd === 0 && stopUsd === 0)) return null;
  return {
    // Outside the bounds the difference is paid whatever the plan: the program begins at the nearest bound.
    current: Float64Array.from(deployments, ({ currentReplicas }, d) =>
      currentReplicas === null ? Number.NaN : Math.min(bounds[d]!.upper, Math.max(bounds[d]!.lower, currentReplicas)),
    ),
    start: Float64Array.from(prices, ({ startUsd }) => startUsd / options.horizonHours),
    stop: Float64Array.from(prices, ({ stopUsd }) => stopUsd / options.horizonHours),
  };
}
