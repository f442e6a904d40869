import type { BucketShares, PlanNotice, PlannedDeployment, PlannedModel, UnservedDemand } from '../core/plan.js';
import {
  type PlanningProblem,
  type ProblemDeployment,
  type ProblemModel,
  switchingPrices,
} from '../core/planning-problem.js';
import type { Formulation } from './formulate.js';
import { modelShares } from './model-shares.js';
import {
  estimatedProfiles,
  floorShortfalls,
  nothingInCommon,
  servedShareShortfall,
  unservedNotProven,
  warningsOf,
} from './notices.js';
import { deploymentReason, replicas as replicasInWords } from './reason.js';
import type { Decision } from './solve-group.js';

/** One model's part of the plan. */
export type ModelResult = {
  readonly entry: PlannedModel;
  readonly deployments: readonly PlannedDeployment[];
  readonly shares: readonly BucketShares[];
  readonly unserved: readonly UnservedDemand[];
  readonly shortfalls: readonly PlanNotice[];
  readonly warnings: readonly PlanNotice[];
  readonly penaltyUsdPerHour: number;
  /** What of the penalty is proven to be owed by any plan. */
  readonly penaltyBoundUsdPerHour: number;
  readonly unservedProven: boolean;
  readonly nodes: number;
};

/** Why a model has no plan of its own; the service holds models for these and more reasons. */
export type FailureReason = 'planning_failed' | 'plan_rejected';

/**
 * A model without a plan: what runs stays, as far as it is known. Nothing is claimed about its cost (bound 0), and no
 * shares are given, because none were decided.
 */
export function heldModel(
  model: ProblemModel,
  failure: { readonly reason: FailureReason; readonly detail: string },
  options: PlanningProblem['options'],
): ModelResult {
  const { reason, detail } = failure;
  const deployments = model.deployments.map((deployment): PlannedDeployment => {
    const kept = deployment.fixedReplicas ?? deployment.currentReplicas;
    return {
      id: deployment.id,
      model: model.name,
      gpuType: deployment.gpuType,
      replicas: kept,
      targetReplicas: kept,
      utilization: 0,
      usdPerHour: (kept ?? 0) * deployment.usdPerReplicaHour,
      reason: heldDeploymentReason(deployment),
    };
  });
  const usdPerHour = sum(deployments, (deployment) => deployment.usdPerHour);
  const switchingUsdPerHour = sum(model.deployments, (deployment, d) =>
    switchingCost(deployment, deployments[d]!.targetReplicas, options),
  );
  return {
    entry: {
      name: model.name,
      status: 'held',
      heldReason: reason,
      planAt: null,
      usdPerHour,
      switchingUsdPerHour,
      boundUsdPerHour: 0,
      gap: gapOf(usdPerHour + switchingUsdPerHour, 0),
    },
    deployments,
    shares: [],
    unserved: [],
    shortfalls: [],
    warnings: [{ code: reason, message: `${model.name}: ${detail}`, model: model.name }],
    penaltyUsdPerHour: 0,
    penaltyBoundUsdPerHour: 0,
    unservedProven: true,
    nodes: 0,
  };
}

function heldDeploymentReason({ fixedReplicas, currentReplicas }: ProblemDeployment): string {
  if (fixedReplicas !== null) return `Fixed at ${replicasInWords(fixedReplicas)} by request; its model has no plan.`;
  return currentReplicas === null
    ? 'Its model has no plan, and its current replicas are not known: no number is published.'
    : `Its model has no plan: kept at the ${replicasInWords(currentReplicas)} it has now.`;
}

/** What going from the current replicas to the target costs, spread over the horizon [USD/hour]. */
export function switchingCost(
  deployment: ProblemDeployment,
  target: number | null,
  options: PlanningProblem['options'],
): number {
  const { currentReplicas } = deployment;
  if (currentReplicas === null || target === null) return 0;
  const { startUsd, stopUsd } = switchingPrices(deployment, options);
  const change = target - currentReplicas;
  return (change > 0 ? startUsd * change : stopUsd * -change) / options.horizonHours;
}

/**
 * A model's part of the plan from what was decided; null where no shares were found for its replicas.
 *
 * @param crowdedBy names the shared limit that has no room for one more replica of a deployment
 */
export function modelResult(
  decision: Decision,
  crowdedBy: (deployment: ProblemDeployment) => string | null,
): ModelResult | null {
  const { stage, replicas } = decision;
  const { formulation, options } = stage;
  const { model, deployments } = formulation;
  const shares = modelShares(stage, replicas, decision.sharesOver);
  if (shares === null) return null;

  const { rows, work, bestEffortWork } = bucketRows(formulation, shares);
  let demandRps = 0;
  let unservedRps = 0;
  let unplacedRps = 0;
  const unserved: UnservedDemand[] = [];
  rows.forEach((row, index) => {
    demandRps += row.rps;
    const rps = row.rps * row.unservedShare;
    if (!(rps > 0)) return;
    unservedRps += rps;
    const { unplaced } = formulation.buckets[index]!;
    if (unplaced !== null) unplacedRps += rps;
    const reason = unplaced === 'slo' ? 'slo' : 'max_replicas';
    unserved.push({ model: model.name, inputTokens: row.inputTokens, outputTokens: row.outputTokens, rps, reason });
  });

  const indexOf = new Map(deployments.map((deployment, d) => [deployment.id, d]));
  const canServe = (d: number): boolean =>
    formulation.placed.some((_, b) => formulation.rawWork[b * deployments.length + d]! < Number.POSITIVE_INFINITY);
  let usdPerHour = 0;
  let switchingUsdPerHour = 0;
  const planned = model.deployments.map((deployment): PlannedDeployment => {
    const d = indexOf.get(deployment.id);
    const target = d === undefined ? (deployment.fixedReplicas ?? deployment.currentReplicas) : replicas[d]!;
    const load = d === undefined ? 0 : work[d]!;
    const cost = (target ?? 0) * deployment.usdPerReplicaHour;
    usdPerHour += cost;
    switchingUsdPerHour += switchingCost(deployment, target, options);
    return {
      id: deployment.id,
      model: model.name,
      gpuType: deployment.gpuType,
      replicas: target,
      targetReplicas: target,
      utilization: target === null || target === 0 ? 0 : load / target,
      usdPerHour: cost,
      reason: deploymentReason({
        deployment,
        target,
        load,
        bestEffortLoad: d === undefined ? 0 : bestEffortWork[d]!,
        canServe: d !== undefined && canServe(d),
        idle: formulation.idle,
        hasSiblings: model.deployments.length > 1,
        proven: decision.proven,
        crowdedBy: crowdedBy(deployment),
      }),
    };
  });

  const objective = usdPerHour + switchingUsdPerHour;
  const boundUsdPerHour = decision.proven ? objective : Math.max(0, objective - decision.slackUsdPerHour);
  const servedEnough = demandRps === 0 || 1 - unservedRps / demandRps >= model.minServedShare - 1e-9;
  const penaltyOf = (rps: number): number => 3600 * model.unservedUsdPerRequest * rps;
  return {
    entry: {
      name: model.name,
      status: statusOf({ servedEnough, proven: decision.proven && decision.unservedProven }),
      heldReason: null,
      planAt: null,
      usdPerHour,
      switchingUsdPerHour,
      boundUsdPerHour,
      gap: gapOf(objective, boundUsdPerHour),
      ...mergingOf(decision),
    },
    deployments: planned,
    shares: rows,
    unserved,
    shortfalls: [
      ...floorShortfalls(formulation),
      ...(servedEnough ? [] : [servedShareShortfall(model, 1 - unservedRps / demandRps)]),
    ],
    warnings: [
      ...warningsOf(formulation, rows),
      ...estimatedProfiles(model, ({ id }) => {
        const d = indexOf.get(id);
        return d !== undefined && (replicas[d]! > 0 || work[d]! > 0);
      }),
      ...(formulation.nothingInCommon ? [nothingInCommon(model)] : []),
      ...(decision.unservedProven || unservedRps === 0 ? [] : [unservedNotProven(model, unservedRps)]),
    ],
    penaltyUsdPerHour: penaltyOf(unservedRps),
    penaltyBoundUsdPerHour: decision.unservedProven
      ? penaltyOf(unservedRps)
      : penaltyOf(unplacedRps) + penaltyOf(unservedRps - unplacedRps) * decision.unservedBoundShare,
    unservedProven: decision.unservedProven,
    nodes: decision.nodes,
  };
}

function mergingOf({ stage: { merged, formulation } }: Decision): Pick<PlannedModel, 'merging'> {
  if (merged.exact) return {};
  return {
    merging: {
      rawBuckets: formulation.placed.length,
      mergedBuckets: merged.count,
      relativeErrorBound: 1 / merged.kept.reduce((least, kept) => Math.min(least, kept), 1) - 1,
    },
  };
}

/** The shares of every bucket of the document, and what they put on each deployment [replicas of work]. */
function bucketRows(
  formulation: Formulation,
  shares: Float64Array,
): { readonly rows: BucketShares[]; readonly work: Float64Array; readonly bestEffortWork: Float64Array } {
  const { model, deployments } = formulation;
  const count = deployments.length;
  const work = new Float64Array(count);
  const bestEffortWork = new Float64Array(count);
  const rows: BucketShares[] = model.demand.map((bucket, index) => {
    const facts = formulation.buckets[index]!;
    return {
      model: model.name,
      ...bucket,
      bestEffort: facts.bestEffort,
      extrapolated: facts.extrapolated,
      to: [],
      unservedShare: facts.unplaced === 'slo' || facts.unplaced === 'max_replicas' ? 1 : 0,
    };
  });
  formulation.placed.forEach((index, b) => {
    const to: { deployment: string; share: number }[] = [];
    let served = 0;
    for (let d = 0; d < count; d++) {
      const share = shares[b * count + d]!;
      if (!(share > 0)) continue;
      served += share;
      to.push({ deployment: deployments[d]!.id, share });
      const load = share * formulation.rawWork[b * count + d]!;
      work[d] = work[d]! + load;
      if (rows[index]!.bestEffort) bestEffortWork[d] = bestEffortWork[d]! + load;
    }
    rows[index] = { ...rows[index]!, to, unservedShare: served > 1 - 1e-9 ? 0 : 1 - served };
  });
  return { rows, work, bestEffortWork };
}

/** Unserved demand comes before money: a plan that may leave too much of it is not called optimal. */
function statusOf(found: { readonly servedEnough: boolean; readonly proven: boolean }): PlannedModel['status'] {
  if (!found.servedEnough) return 'infeasible';
  return found.proven ? 'optimal' : 'feasible';
}

/** How far an objective may be from the least, as a part of it; 0 where nothing is paid. */
export function gapOf(objective: number, bound: number): number {
  return objective > 0 ? Math.max(0, (objective - bound) / objective) : 0;
}

export function sum<Item>(items: readonly Item[], amountOf: (item: Item, index: number) => number): number {
  return items.reduce((total, item, index) => total + amountOf(item, index), 0);
}
