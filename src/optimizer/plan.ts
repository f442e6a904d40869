import { type Plan, type PriorityScarcity, worstStatus } from '../core/plan.js';
import type { PlanningProblem, PlanOptions } from '../core/planning-problem.js';
import { planFaults } from './check.js';
import { type Group, type Prepared, prepare } from './coupling.js';
import { type FailureReason, gapOf, heldModel, type ModelResult, modelResult, sum } from './model-result.js';
import type { SolveLimits, Solver } from './program.js';
import { limitWarnings, remainingOf } from './shared-limits.js';
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
 *
 * @throws PlanRejected where a plan breaks a promise that no model's part is to blame for
 */
export function plan(problem: PlanningProblem, run: PlanRun = {}): Plan {
  const steps = planning(problem, 'builtin', run);
  for (let step = steps.next(); ; ) {
    if (step.done) return step.value;
    const { group, limits } = step.value;
    step = steps.next(attempt(() => solveGroup(group, problem.options, limits)));
  }
}

/** Plans with another engine behind the same type; same documents, same check, same held models. */
export async function planWith(problem: PlanningProblem, solver: Solver, run: PlanRun = {}): Promise<Plan> {
  const steps = planning(problem, solver.name, run);
  for (let step = steps.next(); ; ) {
    if (step.done) return step.value;
    const { group, limits } = step.value;
    step = steps.next(await solveGroupWith(group, solver, limits).catch(asFailure));
  }
}

type Outcome = readonly Decision[] | NoDecision;

function attempt(solve: () => Outcome): Outcome {
  try {
    return solve();
  } catch (error) {
    return asFailure(error);
  }
}

function asFailure(error: unknown): NoDecision {
  return { failure: error instanceof Error ? error.message : String(error) };
}

/** Why a model stays as it is. */
type Failure = { readonly reason: FailureReason; readonly detail: string };

/**
 * The way from a document to a checked plan; every group of models is handed out to be solved.
 *
 * What a model keeps that is held is taken from the limits that it shares, so the others are then planned anew.
 */
function* planning(
  problem: PlanningProblem,
  solverName: string,
  run: PlanRun,
): Generator<{ group: Group; limits: SolveLimits }, Plan, Outcome> {
  const limits = limitsOfRun(problem.options, run);
  const failures = new Map<number, Failure>();
  for (;;) {
    const prepared = prepare(problem, new Set(failures.keys()));
    for (const [m, detail] of prepared.failed) failures.set(m, { reason: 'planning_failed', detail });
    const results = new Map<number, ModelResult>();
    const failedBefore = failures.size;
    for (const group of prepared.groups) {
      const outcome = yield { group, limits };
      const crowdedBy = crowding(group, outcome);
      group.entrants.forEach(({ index }, e) => {
        const result = attemptResult(outcome, e, crowdedBy);
        if ('failure' in result) failures.set(index, { reason: 'planning_failed', detail: result.failure });
        else results.set(index, result);
      });
    }
    if (failures.size > failedBefore && prepared.limits.length > 0) continue;
    const all = problem.models.map((model, m) => results.get(m) ?? heldModel(model, failures.get(m)!, problem.options));
    const document = assemble(problem, withReasons(problem, prepared, all), { prepared, solverName, run });
    const faults = planFaults(problem, document);
    if (faults.length === 0) return document;
    const failedNow = failures.size;
    problem.models.forEach(({ name }, m) => {
      const own = faults.filter(({ models }) => models.includes(name)).map(({ message }) => message);
      if (own.length === 0 || failures.has(m)) return;
      failures.set(m, { reason: 'plan_rejected', detail: `its plan was rejected by its own check: ${own.join('; ')}` });
    });
    if (failures.size === failedNow) throw new PlanRejected(faults.slice(0, 20).map(({ message }) => message));
  }
}

type CrowdedBy = Parameters<typeof modelResult>[1];

/** Which of a group's limits has no room for one more replica of a deployment. All that takes from them is in the group. */
function crowding({ entrants, limits: shared, bounds }: Group, outcome: Outcome): CrowdedBy {
  if ('failure' in outcome) return () => null;
  const limits = [...bounds, ...shared];
  const left = limits.map((limit) => {
    const used = sum(entrants, ({ stage }, e) =>
      sum(stage.formulation.deployments, (deployment, d) =>
        deployment.fixedReplicas === null ? limit.useOf(deployment) * outcome[e]!.replicas[d]! : 0,
      ),
    );
    return remainingOf(limit) * (1 + 1e-9) - used;
  });
  return (deployment) => limits.find((limit, r) => limit.useOf(deployment) > left[r]!)?.name ?? null;
}

function attemptResult(outcome: Outcome, e: number, crowdedBy: CrowdedBy): ModelResult | NoDecision {
  if ('failure' in outcome) return outcome;
  try {
    return modelResult(outcome[e]!, crowdedBy) ?? { failure: 'no shares were found for the replicas of the solver' };
  } catch (error) {
    return asFailure(error);
  }
}

function limitsOfRun(options: PlanOptions, run: PlanRun): SolveLimits {
  return {
    shouldStop: run.shouldStop ?? (() => false),
    timeLimitMs: options.timeLimitMs,
    nodeLimit: options.nodeLimit,
    relativeGap: options.relativeGap,
  };
}

function assemble(
  problem: PlanningProblem,
  results: readonly ModelResult[],
  { prepared, solverName, run }: { readonly prepared: Prepared; readonly solverName: string; readonly run: PlanRun },
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
        // Less than nothing cannot be left: what serves all that it has proves itself.
        proven: own.every(({ unservedProven, unserved }) => unservedProven || unserved.length === 0),
      },
    ];
  });
}
