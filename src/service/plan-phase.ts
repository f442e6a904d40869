import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Plan, PlanNotice } from '../core/plan.js';
import type { PlanningProblem, ProblemModel } from '../core/planning-problem.js';
import type { ObservedDeployment } from '../core/ports.js';
import { PlanRejected } from '../optimizer/plan.js';
import { modelConfig } from './config.js';
import { type Cycle, type PhaseContext, sentence } from './cycle.js';
import type { ModelState } from './fleet.js';
import { isLimited } from './fleet-limits.js';
import { type ModelPlan, splitPlan, unproven } from './model-plan.js';
import type { MoveHorizon } from './move-horizon.js';
import { standingModel } from './problem.js';
import { problemOf } from './problem-phase.js';
import type { HoldFacts, ModelHolds, ReplicaHolds } from './replica-holds.js';
import { replannedModel } from './replica-pools.js';

/** Models that share nothing are planned in one call: enough to make it cheap, few enough that a fault is found quickly. */
const modelsPerCall = 64;

/**
 * How often models that share limits are planned together in one cycle: each time without those that turn out to have no
 * plan of their own, whose GPUs the others must then leave to them.
 */
const jointAttempts = 3;

/** What phase 6 must know of models that it does not plan. */
export type Standing = {
  /** At how many replicas each deployment of a model stays while it is not planned, by id; null = not known. */
  readonly replicasOf: (state: ModelState, cycle: Cycle) => ReadonlyMap<string, number | null>;
  /** Replicas of a deployment that run or were asked for; null = not known. */
  readonly runningOf: (deployment: ObservedDeployment) => number | null;
  /** USD per replica-hour by deployment id; null = not known. */
  readonly priceOf: (id: string) => number | null;
  readonly holds: ReplicaHolds;
  readonly moves: MoveHorizon;
};

/**
 * Phase 6, plan: the cheapest replicas for the demand.
 *
 * Models that share nothing are planned some at a time; where that fails or runs into its time limit, each alone. Models
 * that share pools, quotas or a budget are planned together, beside what the held ones keep.
 */
export class PlanPhase {
  readonly #context: PhaseContext;
  readonly #standing: Standing;

  constructor(context: PhaseContext, standing: Standing) {
    this.#context = context;
    this.#standing = standing;
  }

  /**
   * Held: everything, where an earlier phase says so; otherwise a fault holds its own model only (`planning_failed`,
   * `plan_rejected`), and so does demand of which nothing can be served (`nothing_servable`).
   */
  async plan(cycle: Cycle): Promise<void> {
    if (cycle.holdAll !== null) return;
    const { fleet, steadyMs } = this.#context;
    const ready = fleet.modelsByName().filter((state) => state.built !== null);
    const startedMs = steadyMs();
    if (isLimited(cycle.limits)) await this.#planJointly(cycle, ready);
    else {
      for (let start = 0; start < ready.length; start += modelsPerCall) {
        const some = ready.slice(start, start + modelsPerCall);
        const last = new Map(some.map((state) => [state, state.planned]));
        await this.#planAlike(cycle, some);
        await this.#settlePools(cycle, some, last);
      }
    }
    await this.#planHolds(cycle, ready);
    cycle.planMs = steadyMs() - startedMs;
  }

  /**
   * Plans again where replicas that share load are more or fewer than they were counted as: first with what the plan
   * gives, then, where that is less again, with that. So plans do not count on more sharing than they have.
   *
   * Where that fails, what was planned before stands as long as it counts on no more than that; otherwise the model is held.
   *
   * @param last the plans of the cycle before
   */
  async #settlePools(
    cycle: Cycle,
    states: readonly ModelState[],
    last: ReadonlyMap<ModelState, ModelState['planned']>,
  ): Promise<void> {
    const certain = new Map<ModelState, Pick<ModelState, 'built' | 'planned'>>();
    for (const onlyLess of [false, true, true]) {
      const again: ModelState[] = [];
      for (const state of states) {
        const { built, planned } = state;
        if (built === null || planned === null) continue;
        const less = poolsAsPlanned(state, { onlyLess: true });
        if (less === null) certain.set(state, { built, planned });
        const model = onlyLess ? less : poolsAsPlanned(state, { onlyLess });
        if (model === null) continue;
        again.push(state);
        state.built = { ...built, model };
      }
      if (again.length === 0) return;
      await this.#planAlike(cycle, again, (state, failure) => {
        const stands = certain.get(state);
        if (stands === undefined) {
          state.planned = last.get(state) ?? null;
          this.#fail(state, failure);
          return;
        }
        state.built = stands.built;
        state.planned = stands.planned;
        const { error } = failure;
        const message = `${state.name}: no plan was found that counts on all that its replicas share: they are more than it needs (${sentence(error)})`;
        this.#context.logger.warn({ model: state.name, err: error }, message);
      });
    }
  }

  /**
   * Plans once more what may not fall yet: with floors where holds keep replicas, so that what is kept serves, and
   * nothing is started beside it. What the first plan wants of what runs is a floor, too: filled up with what is kept, a
   * plan would let go of just what the next one asks for again. Where the floors would leave demand unserved that the first
   * plan serves (GPUs or money that others need), they give way; where no such plan is found, the first one stands.
   */
  async #planHolds(cycle: Cycle, ready: readonly ModelState[]): Promise<void> {
    const { holds, moves } = this.#standing;
    holds.keepOnly(this.#context.fleet.models);
    const held = new Map<ModelState, ModelHolds>();
    const factsOf = new Map<ModelState, readonly HoldFacts[]>();
    for (const state of ready) {
      if (state.built === null || state.planned === null) continue;
      const facts = this.#holdFacts(state);
      const kept = holds.observe(state.name, facts, cycle.nowMs);
      factsOf.set(state, facts);
      if (kept !== null) held.set(state, kept);
    }
    if (held.size > 0 && isLimited(cycle.limits)) await this.#planHoldsJointly(cycle, ready, held);
    else {
      const states = [...held.keys()];
      for (let start = 0; start < states.length; start += modelsPerCall) {
        await this.#planHoldsAlike(cycle, states.slice(start, start + modelsPerCall), held);
      }
    }
    for (const [state, facts] of factsOf) {
      const targets = targetsOf(state);
      // What is planned in the end: a change that is held back is none yet, and its mix is still judged by how long it stood.
      const headings = facts.map(({ id, running }) => ({ running, target: targets.get(id) ?? null }));
      moves.observe(state.name, headings, cycle.nowMs);
      if (state.holds === null) continue;
      const targetOf = (id: string) => targets.get(id) ?? null;
      holds.follow(state.name, facts, { holds: state.holds, targetOf, nowMs: cycle.nowMs });
    }
  }

  #holdFacts({ built, planned, deployments }: ModelState): readonly HoldFacts[] {
    const observed = new Map(deployments.map((deployment) => [deployment.id, deployment]));
    const parts = new Map(planned!.part.deployments.map((part) => [part.id, part]));
    return built!.model.deployments.flatMap((deployment): readonly HoldFacts[] => {
      const { id, profile, fixedReplicas, targetUtilization, usdPerReplicaHour, maxReplicas } = deployment;
      const part = parts.get(id);
      const wanted = part?.targetReplicas ?? null;
      if (profile === null || fixedReplicas !== null || part === undefined || wanted === null) return [];
      const running = this.#standing.runningOf(observed.get(id)!);
      return [{ id, wanted, running, maxReplicas, fill: part.utilization / targetUtilization, usdPerReplicaHour }];
    });
  }

  /** @param modelOf the models without floors; by default as this cycle's plans settled them */
  async #planHoldsAlike(
    cycle: Cycle,
    states: readonly ModelState[],
    held: HeldReplicas,
    modelOf = (state: ModelState): ProblemModel => state.built!.model,
  ): Promise<void> {
    const { config } = this.#context;
    const models = states.map((state) => withFloors(modelOf(state), held.get(state)));
    const answer = await this.#ask(cycle, problemOf(models, { config, limits: cycle.limits, at: cycle.at }));
    if (answer.failure !== null) {
      if (states.length === 1) this.#sayWithoutHolds(states[0]!, answer.failure.error);
      else for (const state of states) await this.#planHoldsAlike(cycle, [state], held, modelOf);
      return;
    }
    const parts = splitPlan(answer.plan, models);
    const dear: ModelState[] = [];
    const fewer = new Map<ModelState, ProblemModel>();
    for (const [index, state] of states.entries()) {
      const part = parts.get(state.name);
      const failure = failureOf(part, state);
      if (failure !== null) this.#sayWithoutHolds(state, failure.error);
      else if (isTooDear(part!, held.get(state))) dear.push(state);
      else if (!isWorse(part!, state)) {
        keep(state, part!, models[index]!, held);
        // Beside what is kept there are fewer of what the plan without holds wants: they share less. It stands until that is
        // planned, too: without it what is kept would fall.
        const targets = new Map(part!.deployments.map(({ id, targetReplicas }) => [id, targetReplicas]));
        const targetOf = (id: string) => targets.get(id) ?? null;
        const less = replannedModel(models[index]!, state.pools, { targetOf, onlyLess: true });
        if (less !== null) fewer.set(state, less);
      }
    }
    const others = otherwise(held, new Set(dear));
    const again = dear.filter((state) => others.has(state));
    if (again.length > 0) await this.#planHoldsAlike(cycle, again, others, modelOf);
    // Factors only fall, so this ends.
    if (fewer.size > 0) await this.#planHoldsAlike(cycle, [...fewer.keys()], held, (state) => fewer.get(state)!);
  }

  /** All at once: first with all floors, then without those that are not worth it, or others need the GPUs of. */
  async #planHoldsJointly(cycle: Cycle, ready: readonly ModelState[], held: HeldReplicas): Promise<void> {
    const states = ready.filter(({ built, planned }) => built !== null && planned !== null);
    let floors = held;
    for (let attempt = 1; attempt <= jointAttempts && floors.size > 0; attempt += 1) {
      const problem = withAllFloors(this.#problemBeside(cycle, states), states, floors);
      const answer = await this.#ask(cycle, problem);
      const parts = answer.failure === null ? splitPlan(answer.plan, problem.models) : new Map<string, ModelPlan>();
      const failure = answer.failure ?? firstOf(states.map((state) => failureOf(parts.get(state.name), state)));
      if (failure !== null) {
        this.#sayWithoutHolds(states[0]!, failure.error);
        return;
      }
      const worse = states.filter((state) => isWorse(parts.get(state.name)!, state));
      const dear = states.filter((state) => isTooDear(parts.get(state.name)!, floors.get(state)));
      if (worse.length + dear.length === 0) {
        const models = new Map(problem.models.map((model) => [model.name, model]));
        for (const state of states) keep(state, parts.get(state.name)!, models.get(state.name)!, floors);
        cycle.joint = problem;
        return;
      }
      const contested = new Set(worse.flatMap(({ built }) => built!.model.deployments.map(({ gpuType }) => gpuType)));
      floors = withoutTypes(otherwise(floors, new Set(dear)), contested);
    }
  }

  #sayWithoutHolds(state: ModelState, error: unknown): void {
    const found =
      state.holds === null
        ? 'no plan was found that keeps what was planned before: the replicas fall at once'
        : 'no second plan was found that keeps what was planned before: the first stands, which counts on more sharing than there is';
    this.#context.logger.warn({ model: state.name, err: error }, `${state.name}: ${found} (${sentence(error)})`);
  }

  /** Plans models that share nothing. */
  async #planAlike(
    cycle: Cycle,
    states: readonly ModelState[],
    fail = (state: ModelState, failure: PlanFailure): void => this.#fail(state, failure),
  ): Promise<void> {
    const { config, steadyMs } = this.#context;
    const problems = states.map((state) => state.built!.model);
    const startedMs = steadyMs();
    const answer = await this.#ask(cycle, problemOf(problems, { config, limits: cycle.limits, at: cycle.at }));
    if (answer.failure !== null) {
      if (states.length === 1) fail(states[0]!, answer.failure);
      else for (const state of states) await this.#planAlike(cycle, [state], fail);
      return;
    }
    const hitLimit = steadyMs() - startedMs >= config.options.timeLimitMs;
    const parts = splitPlan(answer.plan, problems);
    const again: ModelState[] = [];
    const accepted: { readonly state: ModelState; readonly part: ModelPlan }[] = [];
    for (const state of states) {
      const part = parts.get(state.name);
      const isCutShort = part?.model.status === 'held' || (hitLimit && part?.model.status === 'feasible');
      const failure = failureOf(part, state);
      if (states.length > 1 && isCutShort) again.push(state);
      else if (failure !== null) fail(state, failure);
      else accepted.push({ state, part: part! });
    }
    const isWhole = accepted.length === states.length;
    for (const { state, part } of accepted) accept(state, isWhole ? part : withoutScarcityBound(part));
    for (const state of again) await this.#planAlike(cycle, [state], fail);
  }

  /** Plans models that share limits, all at once, with one time limit. */
  async #planJointly(cycle: Cycle, ready: readonly ModelState[]): Promise<void> {
    const { config, steadyMs } = this.#context;
    const startedMs = steadyMs();
    let states = ready;
    for (let attempt = 1; states.length > 0; attempt += 1) {
      const problem = this.#problemBeside(cycle, states);
      const { timeLimitMs } = config.options;
      // Attempts have one time limit together, of which a later one gets a quarter at least.
      const leftMs = Math.max(timeLimitMs / 4, timeLimitMs - (steadyMs() - startedMs));
      const answer = await this.#ask(cycle, problem, leftMs);
      if (answer.failure !== null) {
        cycle.joint = problem;
        if (states.length > 1) cycle.notices = [...cycle.limits.notices, plannedApart(answer.failure)];
        await this.#planApart(cycle, { states, failure: answer.failure, planned: new Set() });
        return;
      }
      // A plan of a whole fleet: requests are answered between the passes over it.
      await nextTurn();
      const parts = splitPlan(answer.plan, problem.models);
      await nextTurn();
      const failures = new Map(states.map((state) => [state, failureOf(parts.get(state.name), state)]));
      const usable = states.filter((state) => failures.get(state) === null);
      if (usable.length === states.length) {
        acceptTogether(cycle, { states, problem, plan: answer.plan, parts });
        await this.#settlePoolsJointly(cycle, states);
        return;
      }
      // Those that are held instead keep what they have, of which this plan took a part for the others.
      const isLast = attempt === jointAttempts;
      for (const state of states) {
        const failure = failures.get(state) ?? (isLast ? tooManyHeld : null);
        if (failure !== null) this.#fail(state, failure);
      }
      states = isLast ? [] : usable;
    }
  }

  /**
   * Models that share limits are planned with half of the replicas that run, as what they can be counted on to share load
   * with. Where a plan has fewer still, all are planned once more with what it has; where that fails it stands.
   */
  async #settlePoolsJointly(cycle: Cycle, states: readonly ModelState[]): Promise<void> {
    const before = new Map<ModelState, ModelState['built']>();
    for (const state of states) {
      const model = poolsAsPlanned(state, { onlyLess: true });
      if (model === null) continue;
      before.set(state, state.built);
      state.built = { ...state.built!, model };
    }
    if (before.size === 0) return;
    const problem = this.#problemBeside(cycle, states);
    const { plan, failure } = await this.#ask(cycle, problem);
    const parts = plan === null ? new Map<string, ModelPlan>() : splitPlan(plan, problem.models);
    const fault = failure ?? firstOf(states.map((state) => failureOf(parts.get(state.name), state)));
    if (plan !== null && fault === null) {
      acceptTogether(cycle, { states, problem, plan, parts });
      return;
    }
    for (const [state, built] of before) state.built = built;
    const names = [...before.keys()].map(({ name }) => name).join(', ');
    const message = `no second plan was found: replicas of ${names} are counted on to share more load than they will (${sentence(fault?.error)})`;
    this.#context.logger.warn({ err: fault?.error }, message);
  }

  /**
   * Plans models that share limits although they could not be planned together: half of them at a time beside what the
   * others keep or were just given, and the halves of a half that fails. A fault then holds its own model only, nothing
   * is used twice, and nothing is proven of the whole.
   *
   * @param planned models that have a plan of this cycle; grows
   */
  async #planApart(
    cycle: Cycle,
    {
      states,
      failure,
      planned,
    }: { readonly states: readonly ModelState[]; readonly failure: PlanFailure; readonly planned: Set<ModelState> },
  ): Promise<void> {
    if (states.length === 1) {
      this.#fail(states[0]!, failure);
      return;
    }
    const middle = Math.ceil(states.length / 2);
    for (const half of [states.slice(0, middle), states.slice(middle)]) {
      const problem = this.#problemBeside(cycle, half, planned);
      const answer = await this.#ask(cycle, problem);
      const parts = answer.failure === null ? splitPlan(answer.plan, problem.models) : new Map<string, ModelPlan>();
      const failed = answer.failure ?? firstOf(half.map((state) => failureOf(parts.get(state.name), state)));
      if (failed !== null) {
        await this.#planApart(cycle, { states: half, failure: failed, planned });
        continue;
      }
      for (const state of half) {
        accept(state, unproven(parts.get(state.name)!));
        planned.add(state);
      }
    }
  }

  /** Some models to plan, and all others where they stand: at the targets of this cycle, or at what they keep. */
  #problemBeside(
    cycle: Cycle,
    states: readonly ModelState[],
    planned: ReadonlySet<ModelState> = new Set(),
  ): PlanningProblem {
    const { fleet, config } = this.#context;
    const { replicasOf, priceOf } = this.#standing;
    const wanted = new Set(states);
    const models = fleet.modelsByName().map((state): ProblemModel => {
      if (wanted.has(state)) return state.built!.model;
      const { name, deployments } = state;
      const replicas = planned.has(state) ? targetsOf(state) : replicasOf(state, cycle);
      const readyReplicasOf = (id: string) => fleet.readyReplicas(id);
      const settings = modelConfig(config, name);
      return standingModel({ name, deployments, replicas, readyReplicasOf, priceOf, settings });
    });
    return problemOf(models, { config, limits: cycle.limits, at: cycle.at });
  }

  async #ask(
    cycle: Cycle,
    problem: PlanningProblem,
    timeLimitMs = this.#context.config.options.timeLimitMs,
  ): Promise<Answer> {
    try {
      const plan = await this.#context.planner.plan(problem, { timeLimitMs });
      cycle.nodes += plan.solver.nodes;
      cycle.solver = plan.solver.name;
      return { plan, failure: null };
    } catch (error) {
      const reason = error instanceof PlanRejected ? 'plan_rejected' : 'planning_failed';
      return { plan: null, failure: { reason, error } };
    }
  }

  #fail(state: ModelState, { reason, error }: PlanFailure): void {
    state.hold = reason;
    state.built = null;
    this.#context.logger.error({ model: state.name, err: error }, `${state.name} is held: ${sentence(error)}`);
  }
}

type PlanFailure = {
  readonly reason: 'planning_failed' | 'plan_rejected' | 'nothing_servable';
  readonly error: unknown;
};

type Answer = { readonly plan: Plan; readonly failure: null } | { readonly plan: null; readonly failure: PlanFailure };

const tooManyHeld: PlanFailure = {
  reason: 'planning_failed',
  error: new Error('too many models that share its limits have no plan'),
};

function accept(state: ModelState, part: ModelPlan): void {
  state.planned = { problem: state.built!.model, part };
}

/** Takes a plan of models that share limits. */
function acceptTogether(
  cycle: Cycle,
  planned: {
    readonly states: readonly ModelState[];
    readonly problem: PlanningProblem;
    readonly plan: Plan;
    readonly parts: ReadonlyMap<string, ModelPlan>;
  },
): void {
  const { states, problem, plan, parts } = planned;
  cycle.joint = problem;
  cycle.notices = [...cycle.limits.notices, ...plan.warnings.filter(({ model }) => model === undefined)];
  for (const state of states) accept(state, parts.get(state.name)!);
}

/** The model with as many replicas that share load as its plan has; null where it was planned so. */
function poolsAsPlanned(state: ModelState, { onlyLess }: { readonly onlyLess: boolean }): ProblemModel | null {
  const targets = targetsOf(state);
  return replannedModel(state.built!.model, state.pools, { targetOf: (id) => targets.get(id) ?? null, onlyLess });
}

type HeldReplicas = ReadonlyMap<ModelState, ModelHolds>;

function withFloors(model: ProblemModel, holds: ModelHolds | undefined): ProblemModel {
  const deployments = model.deployments.map((deployment) => {
    const kept = holds?.replicas.get(deployment.id)?.replicas ?? holds?.wanted.get(deployment.id) ?? 0;
    return kept <= deployment.minReplicas ? deployment : { ...deployment, minReplicas: kept };
  });
  return { ...model, deployments };
}

function withAllFloors(problem: PlanningProblem, states: readonly ModelState[], floors: HeldReplicas): PlanningProblem {
  const byName = new Map(states.map((state) => [state.name, floors.get(state)]));
  return { ...problem, models: problem.models.map((model) => withFloors(model, byName.get(model.name))) };
}

/** The same with what some models keep where the first choice is too dear. */
function otherwise(floors: HeldReplicas, of: ReadonlySet<ModelState>): HeldReplicas {
  const left = new Map<ModelState, ModelHolds>();
  for (const [state, holds] of floors) {
    const next = of.has(state) ? holds.otherwise : holds;
    if (next !== null) left.set(state, next);
  }
  return left;
}

function withoutTypes(floors: HeldReplicas, types: ReadonlySet<string>): HeldReplicas {
  const left = new Map<ModelState, ModelHolds>();
  for (const [state, holds] of floors) {
    const typeOf = new Map(state.built!.model.deployments.map(({ id, gpuType }) => [id, gpuType]));
    const isLeft = ([id]: readonly [string, unknown]) => !types.has(typeOf.get(id)!);
    const replicas = new Map([...holds.replicas].filter(isLeft));
    const wanted = new Map([...holds.wanted].filter(isLeft));
    if (replicas.size > 0) left.set(state, { ...holds, replicas, wanted, otherwise: null });
  }
  return left;
}

/** Does a plan with floors leave more unserved than the model's plan without, or floors unmet that were met? */
function isWorse(part: ModelPlan, { planned }: ModelState): boolean {
  const without = planned!.part;
  const unserved = ({ unserved: all }: ModelPlan) => all.reduce((sum, { rps }) => sum + rps, 0);
  const before = unserved(without);
  return unserved(part) > before + 1e-9 * Math.max(1, before) || part.shortfalls.length > without.shortfalls.length;
}

/** Would it be cheaper to let go than to keep what is kept beside what the demand needs? */
function isTooDear({ deployments }: ModelPlan, holds: ModelHolds | undefined): boolean {
  const usdPerHour = deployments.reduce((sum, deployment) => sum + deployment.usdPerHour, 0);
  return holds !== undefined && usdPerHour > holds.mostUsdPerHour;
}

/** The plan with floors is the one in force. */
function keep(state: ModelState, part: ModelPlan, problem: ProblemModel, floors: HeldReplicas): void {
  state.planned = { problem, part };
  state.holds = floors.get(state) ?? null;
}

function targetsOf({ planned }: ModelState): ReadonlyMap<string, number | null> {
  return new Map(planned?.part.deployments.map(({ id, targetReplicas }) => [id, targetReplicas]));
}

/** A bound on the penalty of several models says nothing about some of them. */
function withoutScarcityBound(part: ModelPlan): ModelPlan {
  const { scarcity } = part;
  return scarcity === null || scarcity.proven ? part : { ...part, scarcity: { ...scarcity, boundUsdPerHour: 0 } };
}

function firstOf(failures: readonly (PlanFailure | null)[]): PlanFailure | null {
  return failures.find((failure) => failure !== null) ?? null;
}

function plannedApart({ error }: PlanFailure): PlanNotice {
  return {
    code: 'planned_apart',
    message: `the models could not be planned together (${sentence(error)}): some at a time were planned with what the others left`,
  };
}

/** Why a part cannot be used; null = it can. */
function failureOf(part: ModelPlan | undefined, { built }: ModelState): PlanFailure | null {
  if (part === undefined) {
    return { reason: 'planning_failed', error: new Error('the plan does not contain the model') };
  }
  if (part.model.heldReason !== null) {
    // The planner knows what runs; the service knows the last good plan, which is better to hold.
    const said = part.warnings.find((warning) => warning.code === part.model.heldReason);
    const reason = part.model.heldReason === 'plan_rejected' ? 'plan_rejected' : 'planning_failed';
    const why = reason === 'plan_rejected' ? 'its plan was rejected by its own check' : 'no plan was found';
    return { reason, error: new Error(said?.message ?? why) };
  }
  if (servesNothing(part, built!.model)) {
    const said = part.warnings.find(({ code }) => code === 'no_common_deployment');
    const message = said?.message ?? 'no profile serves any of its requests within the SLO';
    return { reason: 'nothing_servable', error: new Error(message) };
  }
  return null;
}

/** Whether there is demand and no profile serves any of it: such a plan would switch off what serves it all the same. */
function servesNothing({ unserved }: ModelPlan, { demand }: ProblemModel): boolean {
  const wanted = demand.filter(({ rps }) => rps > 0);
  const lost = unserved.filter(({ reason, rps }) => reason === 'slo' && rps > 0);
  const total = wanted.reduce((sum, { rps }) => sum + rps, 0);
  return total > 0 && lost.reduce((sum, { rps }) => sum + rps, 0) >= total * (1 - 1e-9);
}
