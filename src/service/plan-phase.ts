import type { BucketDemand, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { PlanRejected } from '../optimizer/plan.js';
import { type Cycle, type PhaseContext, sentence } from './cycle.js';
import type { ModelState } from './fleet.js';
import { type ModelPlan, splitPlan } from './model-plan.js';
import { problemOf } from './problem-phase.js';
import { cheapestSingleType, singleTypeVariants } from './single-type.js';

/** Phase 6, and what the cycle computes with the planner besides, for information. */

/** Models that are planned in one call: enough to make the call cheap, few enough that a fault is found quickly. */
const modelsPerCall = 64;

/** Models whose single-type price is computed in one cycle: it is for information, so it may not cost much. */
const singleTypesPerCycle = 64;

/** A single-type price computed for a rate that has moved further than this share is not shown any more. */
const singleTypeTolerance = 0.1;

/**
 * Phase 6, plan. Models are planned some at a time; where that fails or runs into its time limit, each alone.
 *
 * Held: everything, where an earlier phase says so; otherwise a fault holds its own model only (`planning_failed`,
 * `plan_rejected`), and so does demand of which nothing can be served (`nothing_servable`).
 */
export async function planModels(cycle: Cycle, context: PhaseContext): Promise<void> {
  if (cycle.holdAll !== null) return;
  const ready = context.fleet.modelsByName().filter((state) => state.built !== null);
  const startedMs = context.steadyMs();
  for (let start = 0; start < ready.length; start += modelsPerCall) {
    await planTogether(cycle, context, ready.slice(start, start + modelsPerCall));
  }
  cycle.planMs = context.steadyMs() - startedMs;
}

async function planTogether(cycle: Cycle, context: PhaseContext, states: readonly ModelState[]): Promise<void> {
  const { planner, config, steadyMs } = context;
  const { timeLimitMs } = config.options;
  const problems = states.map((state) => state.built!.model);
  const startedMs = steadyMs();
  let parts: ReadonlyMap<string, ModelPlan>;
  try {
    const plan = await planner.plan(problemOf(problems, { config, at: cycle.at }), { timeLimitMs });
    parts = splitPlan(plan, problems);
    cycle.nodes += plan.solver.nodes;
    cycle.solver = plan.solver.name;
  } catch (error) {
    const reason = error instanceof PlanRejected ? 'plan_rejected' : 'planning_failed';
    if (states.length === 1) planFailed(states[0]!, context, { reason, error });
    else for (const state of states) await planTogether(cycle, context, [state]);
    return;
  }
  const hitLimit = steadyMs() - startedMs >= timeLimitMs;
  for (const state of states) {
    const part = parts.get(state.name);
    if (part === undefined) {
      const error = new Error('the plan does not contain the model');
      planFailed(state, context, { reason: 'planning_failed', error });
    } else if (states.length > 1 && (part.model.status === 'held' || (hitLimit && part.model.status === 'feasible'))) {
      await planTogether(cycle, context, [state]);
    } else if (part.model.heldReason !== null) {
      // The planner knows what runs; the service knows the last good plan, which is better to hold.
      const said = part.warnings.find((warning) => warning.code === part.model.heldReason);
      const reason = part.model.heldReason === 'plan_rejected' ? 'plan_rejected' : 'planning_failed';
      const why = reason === 'plan_rejected' ? 'its plan was rejected by its own check' : 'no plan was found';
      planFailed(state, context, { reason, error: new Error(said?.message ?? why) });
    } else if (servesNothing(part, state.built!.model)) {
      const message = 'no profile serves any of its requests within the SLO';
      planFailed(state, context, { reason: 'nothing_servable', error: new Error(message) });
    } else state.planned = { problem: state.built!.model, part };
  }
}

/** Whether there is demand and no profile serves any of it: such a plan would switch off what serves it all the same. */
function servesNothing({ unserved }: ModelPlan, { demand }: ProblemModel): boolean {
  const wanted = demand.filter(({ rps }) => rps > 0);
  const lost = unserved.filter(({ reason, rps }) => reason === 'slo' && rps > 0);
  const total = wanted.reduce((sum, { rps }) => sum + rps, 0);
  return total > 0 && lost.reduce((sum, { rps }) => sum + rps, 0) >= total * (1 - 1e-9);
}

type PlanHold = 'planning_failed' | 'plan_rejected' | 'nothing_servable';

function planFailed(
  state: ModelState,
  { logger }: PhaseContext,
  { reason, error }: { readonly reason: PlanHold; readonly error: unknown },
): void {
  state.hold = reason;
  state.built = null;
  logger.error({ model: state.name, err: error }, `${state.name} is held: ${sentence(error)}`);
}

/**
 * After publication, for information: what the cheapest single GPU type would cost. Only for models whose demand has
 * changed since, oldest first and at most `singleTypesPerCycle` of them.
 */
export async function compareWithSingleTypes(cycle: Cycle, context: PhaseContext): Promise<void> {
  const wanted: ModelState[] = [];
  for (const state of context.fleet.models.values()) {
    if (state.built === null || state.planned === null) continue;
    const rps = state.demand?.forecastRps ?? 0;
    const { single } = state;
    const { demand, deployments } = state.built.model;
    if (single !== null && sameDemand(single.demand, demand) && sameChoices(single.deployments, deployments)) continue;
    if (single !== null && Math.abs(single.rps - rps) > singleTypeTolerance * single.rps) state.single = null;
    if (rps > 0) wanted.push(state);
  }
  // Those without a price come first, then those that were asked longest ago.
  const chosen = wanted.sort((a, b) => (a.single?.atMs ?? 0) - (b.single?.atMs ?? 0)).slice(0, singleTypesPerCycle);
  if (chosen.length === 0) return;
  await compareTogether(cycle, context, chosen);
}

/** Compares some models with one plan; where that fails, each alone, so that none keeps the others from an answer. */
async function compareTogether(cycle: Cycle, context: PhaseContext, states: readonly ModelState[]): Promise<void> {
  const variants = states.flatMap((state) => singleTypeVariants(state.built!.model));
  const { planner, config, logger } = context;
  let parts: ReadonlyMap<string, ModelPlan> = new Map();
  try {
    const problem = problemOf(variants, { config, at: cycle.at });
    const plan = await planner.plan(problem, { timeLimitMs: config.options.timeLimitMs });
    parts = splitPlan(plan, variants);
  } catch (error) {
    if (states.length > 1) {
      for (const state of states) await compareTogether(cycle, context, [state]);
      return;
    }
    // Without an answer until its demand or its choices change: asked again, it would fail again.
    const { name } = states[0]!;
    logger.warn({ model: name, err: error }, `${name}: the single-type comparison failed: ${sentence(error)}`);
  }
  for (const state of states) {
    const model = state.built?.model;
    if (model === undefined || state.planned === null) continue;
    const { demand, deployments } = model;
    const cheapest = cheapestSingleType(model, state.planned.part, parts);
    state.single = { rps: state.demand?.forecastRps ?? 0, demand, deployments, cheapest, atMs: cycle.nowMs };
  }
}

/** Whether the same requests are planned for: at the same total rate, longer ones can make every type dearer. */
function sameDemand(a: readonly BucketDemand[], b: readonly BucketDemand[]): boolean {
  return (
    a.length === b.length &&
    a.every((bucket, index) => {
      const other = b[index]!;
      return (
        bucket.rps === other.rps &&
        bucket.inputTokens === other.inputTokens &&
        bucket.outputTokens === other.outputTokens
      );
    })
  );
}

/** Whether the same deployments with the same profiles and prices are there to choose from. */
function sameChoices(a: readonly ProblemDeployment[], b: readonly ProblemDeployment[]): boolean {
  return (
    a.length === b.length &&
    a.every((deployment, index) => {
      const other = b[index]!;
      return (
        deployment.id === other.id &&
        deployment.usdPerReplicaHour === other.usdPerReplicaHour &&
        deployment.maxReplicas === other.maxReplicas &&
        deployment.profile === other.profile
      );
    })
  );
}
