import { InputError } from '../core/input-error.js';
import {
  type BucketShares,
  type Plan,
  type PlanNotice,
  type PlannedDeployment,
  type PlannedModel,
  type UnservedDemand,
  worstStatus,
} from '../core/plan.js';
import type { PlanningProblem, PlanOptions, ProblemModel } from '../core/planning-problem.js';
import { branchAndBound, programLp, sharesFit, startAtCost } from './branch-and-bound.js';
import { checkPlan } from './check.js';
import { type Formulation, formulate, mergeFormulation, toProgram } from './formulate.js';
import { leastUnserved } from './least-unserved.js';
import { type MergedBuckets, unmerged } from './merge.js';
import type { Program, ProgramSolution, SolveLimits, Solver } from './program.js';
import { deploymentReason } from './reason.js';
import { chooseShares } from './shares.js';

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
 * @throws InputError for parts of the document that this version cannot plan (named)
 * @throws PlanRejected where the result fails its independent check
 */
export function plan(problem: PlanningProblem, run: PlanRun = {}): Plan {
  refuseUnsupported(problem);
  const results = problem.models.map((model) => {
    const stage = stageOf(model, problem.options);
    return finish(stage, problem.options, solveBuiltin(stage, problem.options, run));
  });
  return assemble(problem, results, 'builtin', run);
}

/** Plans with another engine behind the same type; same documents, same check. */
export async function planWith(problem: PlanningProblem, solver: Solver, run: PlanRun = {}): Promise<Plan> {
  refuseUnsupported(problem);
  const results: ModelResult[] = [];
  for (const model of problem.models) {
    const stage = stageOf(model, problem.options);
    results.push(finish(stage, problem.options, await solveElsewhere(stage, problem.options, solver, run)));
  }
  return assemble(problem, results, solver.name, run);
}

/** What the document may say, but this version does not plan yet. */
function refuseUnsupported(problem: PlanningProblem): void {
  const { options } = problem;
  const later = 'nothing here: this version plans each model on its own; joint plans come with a later one';
  const issues = [
    { place: 'pools', found: 'pools with a number of GPUs', refused: problem.pools.some((pool) => pool.gpus !== null) },
    { place: 'quotas', found: 'quotas', refused: problem.quotas.length > 0 },
    { place: 'budgetUsdPerHour', found: String(problem.budgetUsdPerHour), refused: problem.budgetUsdPerHour !== null },
    { place: 'options.routing', found: '"proportional"', refused: options.routing === 'proportional' },
    {
      place: 'options.startUsdPerReplica',
      found: String(options.startUsdPerReplica),
      refused: options.startUsdPerReplica > 0,
    },
    {
      place: 'options.stopUsdPerReplica',
      found: String(options.stopUsdPerReplica),
      refused: options.stopUsdPerReplica > 0,
    },
  ];
  const refused = issues.filter((issue) => issue.refused);
  if (refused.length === 0) return;
  throw new InputError(
    'PlanningProblem',
    refused.map(({ place, found }) => ({
      place,
      found,
      expected: place.startsWith('options.') ? later.replace('nothing here', 'the default') : later,
    })),
  );
}

/** A model made ready for a solver. */
type Stage = {
  readonly formulation: Formulation;
  readonly merged: MergedBuckets;
  /** Over merged buckets. */
  readonly program: Program;
  readonly raw: { readonly count: number; readonly work: Float64Array; readonly rate: Float64Array };
};

function stageOf(model: ProblemModel, options: PlanOptions): Stage {
  const formulation = formulate(model);
  const raw = { count: formulation.placed.length, work: formulation.rawWork, rate: formulation.rawRate };
  const unserved = leastUnserved(formulation, raw);
  // Where demand must stay unserved, which of it matters (its rate per work): nothing is merged then.
  const merged = unserved > 0 ? unmerged(raw) : mergeFormulation(formulation, options.maxBuckets);
  return { formulation, merged, program: toProgram(formulation, merged, unserved), raw };
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

/** Do whole replicas serve the merged buckets, the raw ones, or neither (or neither for sure)? */
function whereItFits(stage: Stage, replicas: Float64Array): 'merged' | 'raw' | null {
  for (const [over, program] of [
    ['merged', stage.program],
    ['raw', rawProgram(stage)],
  ] as const) {
    const lp = programLp(program);
    startAtCost(lp, program);
    if (sharesFit(lp, replicas) === 'fits') return over;
  }
  return null;
}

function rawProgram(stage: Stage): Program {
  return toProgram(stage.formulation, stage.raw, stage.program.unservedLimit);
}

function solveBuiltin(stage: Stage, options: PlanOptions, run: PlanRun): Decision {
  const { program, merged, formulation } = stage;
  const current = formulation.deployments.map((deployment) => deployment.currentReplicas);
  const solution = branchAndBound(program, limitsOf(options, run), {
    ...(merged.exact ? {} : { raw: rawProgram(stage) }),
    ...(current.every((replicas) => replicas !== null) ? { incumbent: Float64Array.from(current, Number) } : {}),
  });
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

function finish(stage: Stage, _options: PlanOptions, decision: Decision): ModelResult {
  const { formulation, merged } = stage;
  const { model, deployments } = formulation;
  const { solution } = decision;
  const overRaw = decision.sharesOver === 'raw';
  const program = overRaw ? rawProgram(stage) : stage.program;
  const replicas = solution.replicas;
  const shares = replicas === null ? null : chooseShares(program, replicas, previousShares(stage, overRaw));
  if (replicas === null || shares === null) {
    throw new Error(`no plan was found for model ${JSON.stringify(model.name)} within its limits (${solution.status})`);
  }

  const count = deployments.length;
  const work = new Float64Array(count);
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
    const at = (overRaw ? b : merged.groupOf[b]!) * count;
    const to: { deployment: string; share: number }[] = [];
    let sum = 0;
    for (let d = 0; d < count; d++) {
      const share = shares[at + d]!;
      if (!(share > 0)) continue;
      sum += share;
      to.push({ deployment: deployments[d]!.id, share });
      work[d] = work[d]! + share * formulation.rawWork[b * count + d]!;
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

  const indexOf = new Map(deployments.map((deployment, d) => [deployment.id, d]));
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
      reason: deploymentReason({ deployment, target, load, idle: formulation.idle, demandRps }),
    };
  });

  const bound = Math.min(usdPerHour, solution.bound + standingCost);
  const proven = solution.status === 'optimal';
  const boundUsdPerHour = proven ? usdPerHour : bound;
  const servedEnough = demandRps === 0 || 1 - unservedRps / demandRps >= model.minServedShare - 1e-9;
  return {
    entry: {
      name: model.name,
      status: servedEnough ? (proven ? 'optimal' : 'feasible') : 'infeasible',
      heldReason: null,
      planAt: null,
      usdPerHour,
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
    warnings: warningsOf(formulation, rows),
    penaltyUsdPerHour: 3600 * model.unservedUsdPerRequest * unservedRps,
    nodes: solution.nodes,
  };
}

/** The shares in force per bucket of the program, or null where the document names none. */
function previousShares(stage: Stage, overRaw: boolean): Float64Array | null {
  const { formulation, merged } = stage;
  const { model, deployments } = formulation;
  if (model.previousShares.length === 0) return null;
  const indexOf = new Map(deployments.map((deployment, d) => [deployment.id, d]));
  const known = new Map(model.previousShares.map((entry) => [`${entry.inputTokens}:${entry.outputTokens}`, entry.to]));
  const count = deployments.length;
  const buckets = overRaw ? stage.raw.count : merged.count;
  const shares = new Float64Array(buckets * count);
  const rate = overRaw ? stage.raw.rate : merged.rate;
  let any = false;
  formulation.placed.forEach((index, b) => {
    const bucket = model.demand[index]!;
    const m = overRaw ? b : merged.groupOf[b]!;
    const weight = overRaw ? 1 : formulation.rawRate[b]! / rate[m]!;
    for (const { deployment, share } of known.get(`${bucket.inputTokens}:${bucket.outputTokens}`) ?? []) {
      const d = indexOf.get(deployment);
      if (d === undefined || !(formulation.rawWork[b * count + d]! < Number.POSITIVE_INFINITY)) continue;
      shares[m * count + d] = shares[m * count + d]! + weight * share;
      any = true;
    }
  });
  return any ? shares : null;
}

function floorShortfalls(formulation: Formulation): readonly PlanNotice[] {
  return formulation.deployments.flatMap((deployment, d) => {
    const { floor, lower } = formulation.bounds[d]!;
    if (floor <= lower) return [];
    return [
      {
        code: 'floor_above_ceiling',
        message: `${deployment.id}: a floor of ${floor} replicas does not fit under maxReplicas ${deployment.maxReplicas}; ${lower} are planned at least`,
        model: formulation.model.name,
        deployment: deployment.id,
      },
    ];
  });
}

function servedShareShortfall(model: ProblemModel, served: number): PlanNotice {
  return {
    code: 'min_served_share',
    message: `${model.name}: ${percent(served)} of the demand can be served, ${percent(model.minServedShare)} is required`,
    model: model.name,
  };
}

function warningsOf(formulation: Formulation, rows: readonly BucketShares[]): readonly PlanNotice[] {
  const { model } = formulation;
  const warnings: PlanNotice[] = [];
  const bestEffort = rows.filter((row) => row.bestEffort && row.rps > 0);
  if (bestEffort.length > 0) {
    const rps = bestEffort.reduce((sum, row) => sum + row.rps, 0);
    const first = bestEffort[0]!;
    warnings.push({
      code: 'best_effort',
      message: `${model.name}: no deployment meets the SLO for ${bestEffort.length} bucket${bestEffort.length === 1 ? '' : 's'} (${number(rps)} requests/s, e.g. ${number(first.inputTokens)} input and ${number(first.outputTokens)} output tokens); served by best effort`,
      model: model.name,
    });
  }
  for (const deployment of formulation.unprofiled) {
    const known = deployment.fixedReplicas ?? deployment.currentReplicas;
    warnings.push({
      code: 'no_profile',
      message:
        known === null
          ? `${deployment.id}: no profile and its current replicas are not known, so no number is published`
          : `${deployment.id}: no profile, kept at ${known} replica${known === 1 ? '' : 's'} and given no demand in this plan`,
      model: model.name,
      deployment: deployment.id,
    });
  }
  return warnings;
}

function assemble(problem: PlanningProblem, results: readonly ModelResult[], solverName: string, run: PlanRun): Plan {
  const usdPerHour = sum(results, (result) => result.entry.usdPerHour);
  const boundUsdPerHour = sum(results, (result) => result.entry.boundUsdPerHour);
  const deployments = results.flatMap((result) => result.deployments);
  const document: Plan = {
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
    shortfalls: results.flatMap((result) => result.shortfalls),
    warnings: results.flatMap((result) => result.warnings),
    models: results.map((result) => ({ ...result.entry, planAt: problem.at ?? null })),
    solver: {
      name: solverName,
      nodes: sum(results, (result) => result.nodes),
      milliseconds: run.elapsedMs?.() ?? 0,
    },
  };
  const violations = checkPlan(problem, document);
  if (violations.length > 0) throw new PlanRejected(violations);
  return document;
}

function sum<Item>(items: readonly Item[], amountOf: (item: Item) => number): number {
  return items.reduce((total, item) => total + amountOf(item), 0);
}

function gapOf(objective: number, bound: number): number {
  return objective > 0 ? Math.max(0, (objective - bound) / objective) : 0;
}

function percent(share: number): string {
  return `${Math.round(share * 1000) / 10} %`;
}

function number(value: number): string {
  return String(Number(value.toPrecision(3)));
}
