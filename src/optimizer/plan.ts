import { type Plan, type PriorityScarcity, worstStatus } from '../core/plan.js';
import type { PlanningProblem, PlanOptions } from '../core/planning-problem.js';
import { checkPlan } from './check.js';
import { type Group, type Prepared, prepare } from './coupling.js';
import { gapOf, heldModel, type ModelResult, modelResult, sum } from './model-result.js';
import type { SolveLimits, Solver } from './program.js';
import { limitWarnings } from './shared-limits.js';
import { solveGroupWith } from './solve-elsewhere.js';
import { type Decision, type NoDecision, solveGroup } from './solve-group.js';
import { stepTowards } from './transition.js';
import { withReasons } from './unserved-reasons.js';

/**
 * `plan`: a PlanningProblem in, a Plan with its proof out. The one entry of the optimizer.
 *
 * Models are formulated and grouped by the limits that can bind them; each group is solved: least unserved demand, then
 * money, whole replicas; then shares, reasons, the next step towards the replicas, the document, and the independent
 * checker. Pure: a time limit comes in as `shouldStop`.
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
 * A valid document always gets a plan. Models for which none is found within the limits, or whose plan fails its check,
 * are `held` with that reason at the replicas that run now; the others are planned all the same.
 */
export function plan(problem: PlanningProblem, run: PlanRun = {}): Plan {
  const prepared = prepare(problem);
  const limits = limitsOfRun(problem.options, run);
  const results = new Map<number, ModelResult>();
  for (const group of prepared.groups) {
    let outcome: readonly Decision[] | NoDecision;
    try {
      outcome = solveGroup(group, problem.options, limits);
    } catch (error) {
      outcome = { failure: describe(error) };
    }
    takeResults(problem, { group, outcome, results });
  }
  return checked(problem, { prepared, results, solverName: 'builtin', run });
}

/** Plans with another engine behind the same type; same documents, same check, same held models. */
export async function planWith(problem: PlanningProblem, solver: Solver, run: PlanRun = {}): Promise<Plan> {
  const prepared = prepare(problem);
  const limits = limitsOfRun(problem.options, run);
  const results = new Map<number, ModelResult>();
  for (const group of prepared.groups) {
    let outcome: readonly Decision[] | NoDecision;
    try {
      outcome = await solveGroupWith(group, solver, limits);
    } catch (error) {
      outcome = { failure: describe(error) };
    }
    takeResults(problem, { group, outcome, results });
  }
  return checked(problem, { prepared, results, solverName: solver.name, run });
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function limitsOfRun(options: PlanOptions, run: PlanRun): SolveLimits {
  return {
    shouldStop: run.shouldStop ?? (() => false),
    timeLimitMs: options.timeLimitMs,
    nodeLimit: options.nodeLimit,
    relativeGap: options.relativeGap,
  };
}

function takeResults(
  problem: PlanningProblem,
  {
    group,
    outcome,
    results,
  }: { group: Group; outcome: readonly Decision[] | NoDecision; results: Map<number, ModelResult> },
): void {
  group.entrants.forEach(({ index }, e) => {
    let detail = 'no shares were found for the replicas of the solver';
    let result: ModelResult | null = null;
    if ('failure' in outcome) detail = outcome.failure;
    else {
      try {
        result = modelResult(outcome[e]!);
      } catch (error) {
        detail = describe(error);
      }
    }
    results.set(
      index,
      result ?? heldModel(problem.models[index]!, { reason: 'planning_failed', detail }, problem.options),
    );
  });
}

type Found = {
  readonly prepared: Prepared;
  readonly results: ReadonlyMap<number, ModelResult>;
  readonly solverName: string;
  readonly run: PlanRun;
};

/**
 * The document of some results, checked. A model whose part does not pass alone is held instead; the others' parts
 * stand. What then still fails concerns the whole document, and is thrown: nobody sees it.
 *
 * @throws PlanRejected
 */
function checked(problem: PlanningProblem, found: Found): Plan {
  const { prepared } = found;
  const results = problem.models.map((model, m) => {
    const detail = prepared.failed.get(m);
    if (detail !== undefined) return heldModel(model, { reason: 'planning_failed', detail }, problem.options);
    return found.results.get(m)!;
  });
  const attributed = withReasons(problem, prepared, results);
  const document = assemble(problem, attributed, found);
  const faults = checkPlan(problem, document);
  if (faults.length === 0) return document;
  const kept = attributed.map((result, m) => {
    const model = problem.models[m]!;
    const isolated: PlanningProblem = { ...problem, models: [model], pools: [], quotas: [], budgetUsdPerHour: null };
    const violations = checkPlan(isolated, assemble(isolated, [result], { ...found, prepared: prepare(isolated) }));
    if (violations.length === 0) return result;
    const detail = `its plan was rejected by its own check: ${violations.join('; ')}`;
    return heldModel(model, { reason: 'plan_rejected', detail }, problem.options);
  });
  const second = assemble(problem, kept, found);
  const violations = checkPlan(problem, second);
  if (violations.length > 0) throw new PlanRejected(violations);
  return second;
}

function assemble(
  problem: PlanningProblem,
  results: readonly ModelResult[],
  { prepared, solverName, run }: Pick<Found, 'prepared' | 'solverName' | 'run'>,
): Plan {
  const usdPerHour = sum(results, ({ entry }) => entry.usdPerHour);
  const switchingUsdPerHour = sum(results, ({ entry }) => entry.switchingUsdPerHour);
  const objectiveUsdPerHour = usdPerHour + switchingUsdPerHour;
  const boundUsdPerHour = sum(results, ({ entry }) => entry.boundUsdPerHour);
  const decided = results.flatMap((result) => result.deployments);
  const step = stepTowards({
    problem,
    targets: new Map(decided.map(({ id, targetReplicas }) => [id, targetReplicas])),
    held: new Set(results.filter(({ entry }) => entry.status === 'held').map(({ entry }) => entry.name)),
  });
  const deployments = decided.map((deployment) => ({
    ...deployment,
    replicas: step.replicas.get(deployment.id) ?? null,
  }));
  const prices = new Map(
    problem.models.flatMap((model) => model.deployments.map((it) => [it.id, it.usdPerReplicaHour] as const)),
  );
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Plan',
    ...(problem.at === undefined ? {} : { at: problem.at }),
    status: worstStatus(results.map(({ entry }) => entry.status)),
    routing: problem.options.routing,
    usdPerHour,
    publishedUsdPerHour: sum(deployments, ({ id, replicas }) => (replicas ?? 0) * prices.get(id)!),
    objectiveUsdPerHour,
    boundUsdPerHour,
    gap: gapOf(objectiveUsdPerHour, boundUsdPerHour),
    penaltyUsdPerHour: sum(results, (result) => result.penaltyUsdPerHour),
    switchingUsdPerHour,
    deployments,
    shares: results.flatMap((result) => result.shares),
    unserved: results.flatMap((result) => result.unserved),
    scarcity: scarcityOf(problem, results),
    shortfalls: [...prepared.floors.shortfalls, ...results.flatMap((result) => result.shortfalls)],
    warnings: [
      ...limitWarnings(problem, prepared.limits),
      ...results.flatMap((result) => result.warnings),
      ...step.warnings,
    ],
    models: results.map(({ entry }) => ({ ...entry, planAt: problem.at ?? null })),
    solver: {
      name: solverName,
      nodes: sum(results, (result) => result.nodes),
      milliseconds: run.elapsedMs?.() ?? 0,
    },
  };
}

/** Unserved demand by priority, the highest first. */
function scarcityOf(problem: PlanningProblem, results: readonly ModelResult[]): readonly PriorityScarcity[] {
  const priorities = [...new Set(problem.models.map(({ priority }) => priority))].sort((a, b) => b - a);
  return priorities.flatMap((priority) => {
    const own = results.filter((_, m) => problem.models[m]!.priority === priority);
    const unservedRps = sum(own, ({ unserved }) => sum(unserved, ({ rps }) => rps));
    if (unservedRps === 0) return [];
    return [
      {
        priority,
        unservedRps,
        penaltyUsdPerHour: sum(own, (result) => result.penaltyUsdPerHour),
        boundUsdPerHour: sum(own, (result) => result.penaltyBoundUsdPerHour),
        proven: own.every((result) => result.unservedProven),
      },
    ];
  });
}
