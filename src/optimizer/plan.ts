import { InputError, type InputIssue, quoteInput } from '../core/input-error.js';
import {
  type BucketShares,
  type Plan,
  type PlanNotice,
  type PlannedDeployment,
  type PlannedModel,
  type UnservedDemand,
  worstStatus,
} from '../core/plan.js';
import type { PlanningProblem, PlanOptions, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { branchAndBound } from './branch-and-bound.js';
import { checkPlan } from './check.js';
import { modelShares } from './model-shares.js';
import { floorShortfalls, servedShareShortfall, unservedNotProven, warningsOf } from './notices.js';
import type { ProgramSolution, SolveLimits, Solver } from './program.js';
import { counted, deploymentReason, replicas as replicasInWords } from './reason.js';
import { rawProgram, type Stage, stageOf, whereItFits } from './stage.js';
import { joinTwins } from './twins.js';

/**
 * `plan`: a PlanningProblem in, a Plan with its proof out. The one entry of the optimizer.
 *
 * Per model: formulate → least unserved demand → merge → whole replicas (branch and bound, or another engine) → shares
 * → document; then the independent checker. Pure: a time limit comes in as `shouldStop`.
 */
export type PlanRun = {
  /** Asked between nodes; true ends the search with the best answer so far. Default: never. */
  readonly shouldStop?: () => boolean;
  /** Milliseconds on a steady clock, for `solver.milliseconds`. Absent: 0 is reported. */
  readonly elapsedMs?: () => number;
};

/** A plan that broke a promise: a fault of the optimizer, never of the input. Nobody sees the plan. */
export class PlanRejected extends Error {
  readonly violations: readonly string[];

  constructor(violations: readonly string[]) {
    super(`the plan was rejected by its own check: ${violations.join('; ')}`);
    this.name = 'PlanRejected';
    this.violations = violations;
  }
}

/**
 * Plans with the built-in solver.
 *
 * A valid document always gets a plan. A model for which none is found within the limits, or whose plan fails its check,
 * is `held` with that reason at the replicas that run now; the other models are planned all the same.
 *
 * @throws InputError for parts of the document that this version cannot plan (named)
 */
export function plan(problem: PlanningProblem, run: PlanRun = {}): Plan {
  refuseUnsupported(problem);
  const results = problem.models.map((model): ModelResult => {
    try {
      const stage = stageOf(model, problem.options);
      return finish(stage, solveBuiltin(stage, problem.options, run));
    } catch (error) {
      return heldModel(model, 'planning_failed', describe(error));
    }
  });
  return checked(problem, results, 'builtin', run);
}

/** Plans with another engine behind the same type; same documents, same check, same held models. */
export async function planWith(problem: PlanningProblem, solver: Solver, run: PlanRun = {}): Promise<Plan> {
  refuseUnsupported(problem);
  const results: ModelResult[] = [];
  for (const model of problem.models) {
    try {
      const stage = stageOf(model, problem.options);
      results.push(finish(stage, await solveElsewhere(stage, problem.options, solver, run)));
    } catch (error) {
      results.push(heldModel(model, 'planning_failed', describe(error)));
    }
  }
  return checked(problem, results, solver.name, run);
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What the document may say, but this version does not plan yet. */
function refuseUnsupported({ pools, quotas, budgetUsdPerHour, options }: PlanningProblem): void {
  const issues: InputIssue[] = [];
  pools.forEach(({ gpuType, gpus }, p) => {
    if (gpus === null) return;
    issues.push({
      place: `pools[${p}].gpus`,
      found: `${gpus} for ${quoteInput(gpuType)}`,
      expected: 'null: models that share a limited pool cannot be planned in this version',
    });
  });
  if (quotas.length > 0) {
    issues.push({
      place: 'quotas',
      found: counted(quotas.length, 'quota'),
      expected: 'none: quotas cannot be planned in this version',
    });
  }
  if (budgetUsdPerHour !== null) {
    issues.push({
      place: 'budgetUsdPerHour',
      found: String(budgetUsdPerHour),
      expected: 'null: a common budget cannot be planned in this version',
    });
  }
  if (options.routing !== 'free') {
    issues.push({
      place: 'options.routing',
      found: quoteInput(options.routing),
      expected: '"free": the same shares for every bucket cannot be planned in this version',
    });
  }
  for (const key of ['startUsdPerReplica', 'stopUsdPerReplica'] as const) {
    if (options[key] === 0) continue;
    issues.push({
      place: `options.${key}`,
      found: String(options[key]),
      expected: '0: the cost of switching cannot be planned in this version',
    });
  }
  if (issues.length > 0) throw new InputError('PlanningProblem', issues);
}

function limitsOf(options: PlanOptions, run: PlanRun): SolveLimits {
  return {
    shouldStop: run.shouldStop ?? (() => false),
    timeLimitMs: options.timeLimitMs,
    nodeLimit: options.nodeLimit,
    relativeGap: options.relativeGap,
  };
}

/** Decided replicas, and the program in which their shares are to be chosen. */
type Decision = { readonly solution: ProgramSolution; readonly sharesOver: 'merged' | 'raw' };

function solveBuiltin(stage: Stage, options: PlanOptions, run: PlanRun): Decision {
  const { merged, formulation } = stage;
  const replicas = formulation.deployments.map((deployment) => deployment.currentReplicas);
  const current = replicas.every((count) => count !== null) ? Float64Array.from(replicas, Number) : null;
  const twins = joinTwins(stage.program);
  const joint = branchAndBound(twins.program, limitsOf(options, run), {
    ...(merged.exact ? {} : { raw: twins.joinOver(rawProgram(stage)) }),
    ...(current === null ? {} : { incumbent: twins.join(current) }),
  });
  const solution = joint.replicas === null ? joint : { ...joint, replicas: twins.part(joint.replicas, current) };
  const over = merged.exact || solution.replicas === null ? 'merged' : whereItFits(stage, solution.replicas);
  return { solution, sharesOver: over ?? 'merged' };
}

/**
 * Another engine solves the relaxation (merged works kept·work) for the bound; where its replicas do not serve the raw
 * buckets, it solves the merged program itself, and the gap between the two is stated.
 */
async function solveElsewhere(stage: Stage, options: PlanOptions, solver: Solver, run: PlanRun): Promise<Decision> {
  const limits = limitsOf(options, run);
  const { program, merged } = stage;
  if (merged.exact) return { solution: await solver.solve(program, limits), sharesOver: 'merged' };
  const relaxed = {
    ...program,
    work: program.work.map((work, at) => work * merged.kept[Math.floor(at / program.deploymentCount)]!),
  };
  const bound = await solver.solve(relaxed, limits);
  const over = bound.replicas === null ? null : whereItFits(stage, bound.replicas);
  if (over !== null) return { solution: bound, sharesOver: over };
  const own = await solver.solve(program, limits);
  return {
    solution: {
      ...own,
      status: own.status === 'optimal' ? 'feasible' : own.status,
      bound: bound.bound,
      nodes: bound.nodes + own.nodes,
    },
    sharesOver: 'merged',
  };
}

/** One model's part of the plan. */
type ModelResult = {
  readonly entry: PlannedModel;
  readonly deployments: readonly PlannedDeployment[];
  readonly shares: readonly BucketShares[];
  readonly unserved: readonly UnservedDemand[];
  readonly shortfalls: readonly PlanNotice[];
  readonly warnings: readonly PlanNotice[];
  readonly penaltyUsdPerHour: number;
  readonly nodes: number;
};

/** Why a model has no plan of its own; the service holds models for these and more reasons. */
type FailureReason = 'planning_failed' | 'plan_rejected';

/**
 * A model without a plan: what runs stays, as far as it is known. Nothing is claimed about its cost (bound 0), and no
 * shares are given, because none were decided.
 */
function heldModel(model: ProblemModel, reason: FailureReason, detail: string): ModelResult {
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
  return {
    entry: {
      name: model.name,
      status: 'held',
      heldReason: reason,
      planAt: null,
      usdPerHour,
      switchingUsdPerHour: 0,
      boundUsdPerHour: 0,
      gap: gapOf(usdPerHour, 0),
    },
    deployments,
    shares: [],
    unserved: [],
    shortfalls: [],
    warnings: [{ code: reason, message: `${model.name}: ${detail}`, model: model.name }],
    penaltyUsdPerHour: 0,
    nodes: 0,
  };
}

function heldDeploymentReason({ fixedReplicas, currentReplicas }: ProblemDeployment): string {
  if (fixedReplicas !== null) return `Fixed at ${replicasInWords(fixedReplicas)} by request; its model has no plan.`;
  return currentReplicas === null
    ? 'Its model has no plan, and its current replicas are not known: no number is published.'
    : `Its model has no plan: kept at the ${replicasInWords(currentReplicas)} it has now.`;
}

/** Says what a solver did that did not end in replicas. */
function noAnswer(solution: ProgramSolution): string {
  return solution.status === 'infeasible'
    ? 'the solver found no replicas that serve the demand, although its own ceilings do'
    : `the solver found no plan within its limits (${counted(solution.nodes, 'node')})`;
}

function finish(stage: Stage, decision: Decision): ModelResult {
  const { formulation, merged } = stage;
  const { model, deployments } = formulation;
  const { solution } = decision;
  const replicas = solution.replicas;
  if (replicas === null) return heldModel(model, 'planning_failed', noAnswer(solution));
  const shares = modelShares(stage, replicas, decision.sharesOver);
  if (shares === null)
    return heldModel(model, 'planning_failed', 'no shares were found for the replicas of the solver');

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
    const at = b * count;
    const to: { deployment: string; share: number }[] = [];
    let sum = 0;
    for (let d = 0; d < count; d++) {
      const share = shares[at + d]!;
      if (!(share > 0)) continue;
      sum += share;
      to.push({ deployment: deployments[d]!.id, share });
      const load = share * formulation.rawWork[b * count + d]!;
      work[d] = work[d]! + load;
      if (rows[index]!.bestEffort) bestEffortWork[d] = bestEffortWork[d]! + load;
    }
    const unservedShare = sum > 1 - 1e-9 ? 0 : 1 - sum;
    rows[index] = { ...rows[index]!, to, unservedShare };
  });

  const unserved: UnservedDemand[] = [];
  let demandRps = 0;
  let unservedRps = 0;
  rows.forEach((row, index) => {
    demandRps += row.rps;
    const rps = row.rps * row.unservedShare;
    if (!(rps > 0)) return;
    unservedRps += rps;
    const reason = formulation.buckets[index]!.unplaced === 'slo' ? 'slo' : 'max_replicas';
    unserved.push({ model: model.name, inputTokens: row.inputTokens, outputTokens: row.outputTokens, rps, reason });
  });

  const proven = solution.status === 'optimal';
  const indexOf = new Map(deployments.map((deployment, d) => [deployment.id, d]));
  const canServe = (d: number): boolean =>
    formulation.placed.some((_, b) => formulation.rawWork[b * count + d]! < Number.POSITIVE_INFINITY);
  let standingCost = 0;
  let usdPerHour = 0;
  const planned = model.deployments.map((deployment): PlannedDeployment => {
    const d = indexOf.get(deployment.id);
    const target = d === undefined ? (deployment.fixedReplicas ?? deployment.currentReplicas) : replicas[d]!;
    const load = d === undefined ? 0 : work[d]!;
    const cost = (target ?? 0) * deployment.usdPerReplicaHour;
    usdPerHour += cost;
    if (d === undefined) standingCost += cost;
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
        proven,
      }),
    };
  });

  const bound = Math.min(usdPerHour, solution.bound + standingCost);
  const boundUsdPerHour = proven ? usdPerHour : bound;
  const servedEnough = demandRps === 0 || 1 - unservedRps / demandRps >= model.minServedShare - 1e-9;
  return {
    entry: {
      name: model.name,
      status: statusOf({ servedEnough, proven: proven && stage.leastUnservedProven }),
      heldReason: null,
      planAt: null,
      usdPerHour,
      switchingUsdPerHour: 0,
      boundUsdPerHour,
      gap: gapOf(usdPerHour, boundUsdPerHour),
      ...(merged.exact
        ? {}
        : {
            merging: {
              rawBuckets: formulation.placed.length,
              mergedBuckets: merged.count,
              relativeErrorBound: 1 / merged.kept.reduce((least, kept) => Math.min(least, kept), 1) - 1,
            },
          }),
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
      ...(stage.leastUnservedProven || unservedRps === 0 ? [] : [unservedNotProven(model, unservedRps)]),
    ],
    penaltyUsdPerHour: 3600 * model.unservedUsdPerRequest * unservedRps,
    nodes: solution.nodes,
  };
}

/** Unserved demand comes before money: a plan that may leave too much of it is not called optimal. */
function statusOf(found: { readonly servedEnough: boolean; readonly proven: boolean }): PlannedModel['status'] {
  if (!found.servedEnough) return 'infeasible';
  return found.proven ? 'optimal' : 'feasible';
}

/**
 * The document of some results, checked. A model whose part does not pass alone is held instead; the others' parts
 * stand. What then still fails concerns the whole document, and is thrown: nobody sees it.
 *
 * @throws PlanRejected
 */
function checked(problem: PlanningProblem, results: readonly ModelResult[], solverName: string, run: PlanRun): Plan {
  const document = assemble(problem, results, solverName, run);
  if (checkPlan(problem, document).length === 0) return document;
  const kept = results.map((result, m) => {
    const model = problem.models[m]!;
    const alone: PlanningProblem = { ...problem, models: [model] };
    const violations = checkPlan(alone, assemble(alone, [result], solverName, run));
    if (violations.length === 0) return result;
    return heldModel(model, 'plan_rejected', `its plan was rejected by its own check: ${violations.join('; ')}`);
  });
  const second = assemble(problem, kept, solverName, run);
  const violations = checkPlan(problem, second);
  if (violations.length > 0) throw new PlanRejected(violations);
  return second;
}

function assemble(problem: PlanningProblem, results: readonly ModelResult[], solverName: string, run: PlanRun): Plan {
  const usdPerHour = sum(results, (result) => result.entry.usdPerHour);
  const boundUsdPerHour = sum(results, (result) => result.entry.boundUsdPerHour);
  const deployments = results.flatMap((result) => result.deployments);
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Plan',
    ...(problem.at === undefined ? {} : { at: problem.at }),
    status: worstStatus(results.map((result) => result.entry.status)),
    routing: problem.options.routing,
    usdPerHour,
    publishedUsdPerHour: usdPerHour,
    objectiveUsdPerHour: usdPerHour,
    boundUsdPerHour,
    gap: gapOf(usdPerHour, boundUsdPerHour),
    penaltyUsdPerHour: sum(results, (result) => result.penaltyUsdPerHour),
    switchingUsdPerHour: 0,
    deployments,
    shares: results.flatMap((result) => result.shares),
    unserved: results.flatMap((result) => result.unserved),
    scarcity: [],
    shortfalls: results.flatMap((result) => result.shortfalls),
    warnings: results.flatMap((result) => result.warnings),
    models: results.map((result) => ({ ...result.entry, planAt: problem.at ?? null })),
    solver: {
      name: solverName,
      nodes: sum(results, (result) => result.nodes),
      milliseconds: run.elapsedMs?.() ?? 0,
    },
  };
}

function sum<Item>(items: readonly Item[], amountOf: (item: Item) => number): number {
  return items.reduce((total, item) => total + amountOf(item), 0);
}

function gapOf(objective: number, bound: number): number {
  return objective > 0 ? Math.max(0, (objective - bound) / objective) : 0;
}
