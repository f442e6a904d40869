import { setImmediate as nextTurn } from 'node:timers/promises';
import { z } from 'zod';
import type { GpuCatalogue } from '../core/gpu-types.js';
import type { Plan, PlanNotice } from '../core/plan.js';
import type { BucketDemand, PlanningProblem, ProblemModel } from '../core/planning-problem.js';
import {
  type Clock,
  type DeploymentSnapshot,
  type DeploymentSource,
  type ObservedDeployment,
  type ProfileSource,
  type SharedStore,
  Unavailable,
} from '../core/ports.js';
import { forecastDemand, meanLengths } from '../demand/forecast.js';
import { DemandWindow, interpretReading, type TraceMemory } from '../demand/window.js';
import { type Config, modelConfig } from './config.js';
import { DecisionHistory } from './history.js';
import { InputStates } from './input-states.js';
import { KnownProfiles } from './known-profiles.js';
import { type Logger, logDecision } from './log.js';
import { heldPart, joinPlan, type ModelPlan, splitPlan } from './model-plan.js';
import { Overrides } from './overrides.js';
import { buildModelProblem, type ModelProblem, planOptions } from './problem.js';
import { type PublicationFacts, publishPlan, RecentlyPublished } from './publication.js';
import { type PublishedState, publishedState, publishedStateSchema, restoredPart } from './published-state.js';
import { cheapestSingleType, type SingleType, singleTypeVariants } from './single-type.js';
import { StoredDocument } from './stored-document.js';
import {
  type CyclePhase,
  type CycleReport,
  cyclePhases,
  type DecisionRecord,
  type DemandView,
  type HeldReason,
} from './view.js';

/** Plans off the event loop. Rejects with InputError for a problem that is refused, with anything else for a fault. */
export interface Planner {
  plan(problem: PlanningProblem, limits: { readonly timeLimitMs: number }): Promise<Plan>;
}

export type PlanningCycleOptions = {
  readonly config: Config;
  readonly clock: Clock;
  /** A steady clock for durations [ms]; it may differ from `clock`, which tells simulated time in a replay. */
  readonly steadyMs: () => number;
  readonly store: SharedStore;
  readonly profiles: ProfileSource;
  readonly deployments: DeploymentSource;
  readonly planner: Planner;
  readonly catalogue: GpuCatalogue;
  readonly logger: Logger;
};

/** One model, from the first time that a deployment of it is seen until the last one is gone. */
export type ModelState = {
  readonly name: string;
  deployments: readonly ObservedDeployment[];
  /** Null until the store was read once: what an earlier process remembered of the model comes first. */
  window: DemandWindow | null;
  demand: DemandView | null;
  /** Planned rate by length. */
  planDemand: readonly BucketDemand[];
  /** Why this cycle does not plan it; null = planned, or about to be. */
  hold: HeldReason | null;
  /** This cycle's problem; null while it is held. */
  built: ModelProblem | null;
  /** The last good plan. `problem` is null for one of an earlier process. */
  planned: { readonly problem: ProblemModel | null; readonly part: ModelPlan } | null;
  notices: readonly PlanNotice[];
  /** What one GPU type would cost, and what that was computed for and when. */
  single: {
    readonly rps: number;
    readonly problem: ProblemModel;
    readonly cheapest: SingleType | null;
    readonly atMs: number;
  } | null;
  traceProblem: string | null;
};

/** What is published for one deployment now. */
export type PublishedEntry = {
  readonly model: string;
  readonly gpuType: string;
  readonly replicas: number | null;
  readonly targetReplicas: number | null;
  readonly status: Plan['status'];
  readonly heldReason: string | null;
  readonly at: string;
  readonly reason: string;
  /** Published by an earlier process, and not planned since. */
  readonly restored: boolean;
};

/** Models that are planned in one call: enough to make the call cheap, few enough that a fault is found quickly. */
const modelsPerCall = 64;

/** Models whose single-type price is computed in one cycle: it is for information, so it may not cost much. */
const singleTypesPerCycle = 64;

/** A single-type price computed for a rate that has moved further than this share is not shown any more. */
const singleTypeTolerance = 0.1;

/** Keys live 10 minutes, so what silence means is known well enough when it is saved once in as many seconds. */
const saveTracesSeconds = 60;

/** Models between two turns of the event loop, so that requests are answered during long phases. */
const modelsPerTurn = 25;

type Cycle = {
  readonly nowMs: number;
  readonly at: string;
  readonly errors: { input: string; code: string }[];
  /** Why every model is held; the first reason stands. */
  holdAll: HeldReason | null;
  snapshot: DeploymentSnapshot;
  /** Inputs that this cycle read whole. */
  readonly read: Set<'deployments' | 'traces' | 'profiles'>;
  nodes: number;
  solver: string;
  planMs: number;
};

const unfollowedSchema = z.array(z.string());

const tracesSchema = z.array(
  z.object({
    model: z.string(),
    runId: z.string(),
    firstTraceSeconds: z.number(),
    newestTraceSeconds: z.number(),
    pending: z.number(),
  }),
);
type SavedTraces = readonly (TraceMemory & { readonly model: string })[];

/**
 * One pass from what is observed to what is published, in seven phases, and the state that outlives a pass.
 *
 * A phase that fails holds the last good plan of the models that it concerns, says why, and lets the later phases run
 * as far as they can: what can be read is read, so that recovery needs no restart. No number is published that was
 * computed from an input that was not read.
 */
export class PlanningCycle {
  readonly #options: PlanningCycleOptions;
  readonly #currentIsPublished: boolean;
  readonly #overrides: Overrides;
  readonly #unfollowed: StoredDocument<readonly string[]>;
  readonly #publishedState: StoredDocument<PublishedState>;
  readonly #traces: StoredDocument<SavedTraces>;
  readonly #history: DecisionHistory;
  readonly #inputs: InputStates;
  readonly #profiles = new KnownProfiles();
  readonly #recent = new RecentlyPublished();
  readonly #prices = new Map<string, number | null>();
  readonly #models = new Map<string, ModelState>();
  readonly #loggedNotices = new Map<string, string>();
  #observed: ReadonlyMap<string, ObservedDeployment> = new Map();
  #published: ReadonlyMap<string, PublishedEntry> = new Map();
  #plan: Plan | null = null;
  #restored = false;
  #ready = false;
  #runId: string | null = null;
  #flushing: Promise<void> = Promise.resolve();
  #tracesSavedMs = Number.NEGATIVE_INFINITY;

  constructor(options: PlanningCycleOptions) {
    const { config, store, logger } = options;
    this.#options = options;
    // A list in the configuration says what may run, not what runs: that is what was last published.
    this.#currentIsPublished = config.deployments.source === 'config';
    this.#overrides = new Overrides(store);
    this.#unfollowed = new StoredDocument<readonly string[]>({
      store,
      name: 'unfollowed',
      schema: unfollowedSchema,
      initial: [],
      merge: (stored, here) => [...new Set([...stored, ...here])],
    });
    this.#publishedState = new StoredDocument<PublishedState>({
      store,
      name: 'published',
      schema: publishedStateSchema,
      initial: { models: [] },
      merge: (stored) => stored,
    });
    this.#traces = new StoredDocument<SavedTraces>({
      store,
      name: 'traces',
      schema: tracesSchema,
      initial: [],
      merge: (stored) => stored,
    });
    this.#history = new DecisionHistory(store, config.history.decisions);
    this.#inputs = new InputStates(
      [...(config.redis === null ? [] : ['redis']), config.deployments.source, 'profiles', 'traces'],
      logger,
    );
  }

  get plan(): Plan | null {
    return this.#plan;
  }

  get ready(): boolean {
    return this.#ready;
  }

  get models(): ReadonlyMap<string, ModelState> {
    return this.#models;
  }

  /** Followed deployments, by id. */
  get observed(): ReadonlyMap<string, ObservedDeployment> {
    return this.#observed;
  }

  get published(): ReadonlyMap<string, PublishedEntry> {
    return this.#published;
  }

  get inputs(): InputStates {
    return this.#inputs;
  }

  get history(): DecisionHistory {
    return this.#history;
  }

  get overrides(): Overrides {
    return this.#overrides;
  }

  price(id: string): number | null {
    return this.#prices.get(id) ?? null;
  }

  /** The document that the plans in force answer: planning it again gives the same target replicas. */
  problem(): PlanningProblem | null {
    const models = sortedByName([...this.#models.values()]).flatMap((state) => state.planned?.problem ?? []);
    return models.length === 0 ? null : this.#problemOf(models, this.#plan?.at);
  }

  isUnfollowed(id: string): boolean {
    return this.#unfollowed.value.includes(id);
  }

  /** Leaves a deployment out of every plan, at once. */
  unfollow(id: string): void {
    if (!this.isUnfollowed(id)) this.#unfollowed.set([...this.#unfollowed.value, id]);
    this.#observed = without(this.#observed, id);
    this.#published = without(this.#published, id);
  }

  follow(id: string): void {
    this.#unfollowed.set(this.#unfollowed.value.filter((other) => other !== id));
  }

  /** Publishes a number that a person fixed without waiting for the next cycle. */
  publishOverride(id: string, replicas: number): void {
    const deployment = this.#observed.get(id);
    if (deployment === undefined) return;
    const { model, gpuType, name } = deployment;
    const plan = this.#models.get(model)?.planned?.part.model;
    const entry: PublishedEntry = {
      model,
      gpuType: gpuType ?? name,
      status: plan?.status ?? 'held',
      heldReason: this.#models.get(model)?.hold ?? null,
      reason: 'A person fixed it.',
      ...this.#published.get(id),
      replicas,
      targetReplicas: replicas,
      at: new Date(this.#options.clock.now()).toISOString(),
      restored: false,
    };
    this.#published = new Map(this.#published).set(id, entry);
  }

  /**
   * One pass. Never rejects: whatever fails is held, logged and reported.
   */
  async run(): Promise<CycleReport> {
    const nowMs = this.#options.clock.now();
    const cycle: Cycle = {
      nowMs,
      at: new Date(nowMs).toISOString(),
      errors: [],
      holdAll: null,
      snapshot: { synced: false, staleSince: null, problem: null, deployments: [] },
      read: new Set(),
      nodes: 0,
      solver: 'builtin',
      planMs: 0,
    };
    const phases: Record<CyclePhase, (cycle: Cycle) => Promise<void>> = {
      sync: (c) => this.#sync(c),
      deployments: (c) => this.#followDeployments(c),
      demand: (c) => this.#readDemand(c),
      forecast: (c) => this.#forecast(c),
      problem: (c) => this.#buildProblems(c),
      plan: (c) => this.#planModels(c),
      publish: (c) => this.#publish(c),
    };
    const phaseSeconds = {} as Record<CyclePhase, number>;
    for (const phase of cyclePhases) {
      const startedMs = this.#options.steadyMs();
      try {
        await phases[phase](cycle);
      } catch (error) {
        // A fault of gpumix itself: nothing that this phase should have decided is published.
        cycle.holdAll ??= 'planning_failed';
        cycle.errors.push({ input: phase, code: 'internal' });
        this.#options.logger.error({ phase, err: error }, `phase ${phase} failed: ${sentence(error)}`);
      }
      phaseSeconds[phase] = (this.#options.steadyMs() - startedMs) / 1000;
    }
    this.#ready ||= cycle.read.size === 3;
    await this.flush(cycle);
    await this.#compareWithSingleTypes(cycle).catch((error) => {
      this.#options.logger.warn({ err: error }, `the single-type comparison failed: ${sentence(error)}`);
    });
    return { at: nowMs, phaseSeconds, plan: this.#plan, errors: cycle.errors };
  }

  /**
   * Phase 1, synced? Held: everything, until the first complete view of the deployments (`not_synced`) and until what
   * an earlier process left in the store was read (`redis_unreachable`).
   */
  async #sync(cycle: Cycle): Promise<void> {
    cycle.snapshot = this.#options.deployments.snapshot();
    const { snapshot } = cycle;
    const source = this.#options.config.deployments.source;
    if (!snapshot.synced) {
      cycle.holdAll ??= 'not_synced';
      this.#inputs.failed(source, snapshot.problem ?? 'the first complete view has not arrived yet');
      cycle.errors.push({ input: source, code: 'not_synced' });
    }
    if (this.#restored) return;
    try {
      const problems = [
        await this.#overrides.restore(),
        await this.#unfollowed.restore(),
        await this.#publishedState.restore(),
        await this.#traces.restore(),
      ];
      const lost = await this.#history.restore();
      if (lost > 0) problems.push(`${lost} entries of the decision history could not be read`);
      for (const problem of problems) if (problem !== null) this.#options.logger.warn({ problem }, problem);
      this.#restored = true;
      this.#restorePublished();
    } catch (error) {
      this.#storeFailed(cycle, error);
    }
  }

  #restorePublished(): void {
    const published = new Map<string, PublishedEntry>();
    for (const model of this.#publishedState.value.models) {
      for (const { id, gpuType, replicas, targetReplicas, reason } of model.deployments) {
        published.set(id, {
          model: model.name,
          gpuType,
          replicas,
          targetReplicas,
          status: 'held',
          heldReason: 'not_synced',
          at: model.planAt ?? new Date(this.#options.clock.now()).toISOString(),
          reason,
          restored: true,
        });
      }
    }
    for (const [id, entry] of this.#published) if (entry.replicas !== null) published.set(id, entry);
    this.#published = published;
    for (const state of this.#models.values()) state.planned ??= this.#savedPlanOf(state.name);
  }

  /**
   * Phase 2, deployments. Held: everything, while the view is older than the API server's (`kubernetes_unreachable`):
   * a plan for deployments that changed unseen could scale down what now runs.
   */
  async #followDeployments(cycle: Cycle): Promise<void> {
    const { snapshot } = cycle;
    if (!snapshot.synced) return;
    const source = this.#options.config.deployments.source;
    if (snapshot.staleSince !== null) {
      cycle.holdAll ??= 'kubernetes_unreachable';
      this.#inputs.failed(source, snapshot.problem ?? 'the API server cannot be reached');
      cycle.errors.push({ input: source, code: 'kubernetes_unreachable' });
    } else {
      this.#inputs.read(source, cycle.nowMs);
      cycle.read.add('deployments');
    }
    const unfollowed = new Set(this.#unfollowed.value);
    const observed = new Map<string, ObservedDeployment>();
    const byModel = new Map<string, ObservedDeployment[]>();
    for (const seen of snapshot.deployments) {
      if (unfollowed.has(seen.id)) continue;
      const deployment = this.#currentIsPublished
        ? { ...seen, currentReplicas: this.#published.get(seen.id)?.replicas ?? null }
        : seen;
      observed.set(seen.id, deployment);
      const ofModel = byModel.get(seen.model);
      if (ofModel === undefined) byModel.set(seen.model, [deployment]);
      else ofModel.push(deployment);
    }
    this.#observed = observed;
    for (const name of this.#models.keys()) if (!byModel.has(name)) this.#models.delete(name);
    for (const [name, deployments] of byModel) {
      const state = this.#models.get(name);
      if (state === undefined) this.#models.set(name, this.#newModel(name, deployments));
      else state.deployments = deployments;
    }
    this.#profiles.keepOnly(observed);
    this.#recent.keepOnly(observed);
    for (const id of this.#prices.keys()) if (!observed.has(id)) this.#prices.delete(id);
    for (const name of this.#loggedNotices.keys()) if (!byModel.has(name)) this.#loggedNotices.delete(name);
  }

  #savedPlanOf(name: string): ModelState['planned'] {
    const saved = this.#publishedState.value.models.find((model) => model.name === name);
    return saved === undefined ? null : { problem: null, part: restoredPart(saved) };
  }

  #newModel(name: string, deployments: readonly ObservedDeployment[]): ModelState {
    return {
      name,
      deployments,
      window: null,
      demand: null,
      planDemand: [],
      hold: null,
      built: null,
      planned: this.#savedPlanOf(name),
      notices: [],
      single: null,
      traceProblem: null,
    };
  }

  /**
   * Phase 3, demand. Held: everything, while the store cannot be read (`redis_unreachable`); a single key that cannot
   * be read is an unknown interval of its model.
   */
  async #readDemand(cycle: Cycle): Promise<void> {
    for (const state of this.#models.values()) {
      state.hold = null;
      state.built = null;
    }
    if (!this.#restored) return;
    const { store, config } = this.#options;
    const { windowSeconds, intervalSeconds } = config.demand;
    const memories = new Map(this.#traces.value.map((memory) => [memory.model, memory]));
    try {
      const identity = await store.identity();
      if (this.#runId !== null && this.#runId !== identity.runId) this.#storeWasReplaced();
      this.#runId = identity.runId;
      const asked: { readonly state: ModelState; readonly endSeconds: number }[] = [];
      for (const state of this.#models.values()) {
        state.window ??= new DemandWindow({
          windowSeconds,
          intervalSeconds,
          memory: memories.get(state.name) ?? null,
        });
        state.window.storeIdentity(identity);
        for (const endSeconds of state.window.keysToRead(cycle.nowMs)) asked.push({ state, endSeconds });
      }
      const readings = await store.readTraces(
        asked.map(({ state, endSeconds }) => ({ model: state.name, endSeconds })),
      );
      let unreadable = 0;
      for (const [index, { state, endSeconds }] of asked.entries()) {
        if (index % (modelsPerTurn * 4) === 0) await nextTurn();
        unreadable += this.#takeReading(cycle, { state, endSeconds, reading: readings[index]! }) ? 0 : 1;
      }
      for (let count = 0; count < unreadable; count += 1) cycle.errors.push({ input: 'traces', code: 'unreadable' });
      if (config.redis !== null) this.#inputs.read('redis', cycle.nowMs);
      this.#inputs.read('traces', cycle.nowMs);
      cycle.read.add('traces');
    } catch (error) {
      this.#storeFailed(cycle, error);
    }
  }

  /** @returns false where the key was there and could not be used */
  #takeReading(
    cycle: Cycle,
    {
      state,
      endSeconds,
      reading,
    }: { state: ModelState; endSeconds: number; reading: Parameters<typeof interpretReading>[0] },
  ): boolean {
    try {
      const source = `traces of ${state.name} at ${endSeconds}`;
      const { intervalSeconds } = this.#options.config.demand;
      const { reading: interpreted, problem } = interpretReading(reading, source, { intervalSeconds });
      state.window!.record(endSeconds, interpreted, cycle.nowMs);
      // Once for a row of bad records, not for each of them.
      if (problem !== null && state.traceProblem === null) this.#options.logger.warn({ model: state.name }, problem);
      if (problem !== null || interpreted.kind === 'present') state.traceProblem = problem;
      return problem === null;
    } catch (error) {
      this.#modelFailed(state, error);
      return false;
    }
  }

  /** Another server answers, or the same one after a restart: what it may have lost is written again. */
  #storeWasReplaced(): void {
    this.#options.logger.warn({}, 'the store is another one than before: gpumix writes its state again');
    this.#overrides.storeWasReplaced();
    this.#unfollowed.storeWasReplaced();
    this.#publishedState.storeWasReplaced();
    this.#traces.storeWasReplaced();
    this.#history.storeWasReplaced();
  }

  #storeFailed(cycle: Cycle, error: unknown): void {
    if (!(error instanceof Unavailable)) throw error;
    cycle.holdAll ??= 'redis_unreachable';
    cycle.errors.push({ input: 'traces', code: error.code });
    if (this.#options.config.redis !== null) {
      this.#inputs.failed('redis', error.message);
      cycle.errors.push({ input: 'redis', code: error.code });
    }
    this.#inputs.failed('traces', error.message);
  }

  /** A fault that concerns one model holds that model alone. */
  #modelFailed(state: ModelState, error: unknown): void {
    state.hold ??= 'planning_failed';
    this.#options.logger.error(
      { model: state.name, err: error },
      `${state.name} cannot be planned: ${sentence(error)}`,
    );
  }

  /**
   * Phase 4, forecast. Held: a model whose window does not say what arrives (`no_traces`, `requests_pending`,
   * `no_lengths`).
   */
  async #forecast(cycle: Cycle): Promise<void> {
    let done = 0;
    let silent = 0;
    for (const state of this.#models.values()) {
      if (done++ % modelsPerTurn === 0) await nextTurn();
      if (state.window === null) continue;
      try {
        const history = state.window.view(cycle.nowMs);
        const { rps, meanRps, demand } = forecastDemand(history, this.#options.config.forecast);
        const lengths = meanLengths(history.shape);
        state.hold ??= history.hold;
        if (history.hold === 'no_traces') silent += 1;
        state.demand = {
          rps: meanRps,
          forecastRps: rps,
          knownIntervals: history.knownIntervals,
          windowIntervals: history.intervals.length,
          idle: history.idle,
          pendingRequests: history.pending,
          meanInputTokens: lengths?.inputTokens ?? null,
          meanOutputTokens: lengths?.outputTokens ?? null,
        };
        state.planDemand = demand;
      } catch (error) {
        this.#modelFailed(state, error);
      }
    }
    if (cycle.read.has('traces')) {
      const allSilent = silent > 0 && silent === this.#models.size;
      const concern = 'no recent request traces of any model: is tracing switched on at the gateway?';
      this.#inputs.read('traces', cycle.nowMs, allSilent ? concern : null);
    }
  }

  /**
   * Phase 5, problem. While the profiles cannot be read the last good ones serve; held: a model with a deployment
   * whose profile was never read (`redis_unreachable`), and one without any usable deployment (`no_profile`).
   */
  async #buildProblems(cycle: Cycle): Promise<void> {
    if (this.#models.size > 0 || cycle.snapshot.synced) {
      await this.#readProfiles(cycle, [...this.#observed.values()]);
    }
    const overrides = this.#overrides.active(cycle.nowMs);
    let done = 0;
    for (const state of this.#models.values()) {
      if (done++ % modelsPerTurn === 0) await nextTurn();
      try {
        const built = buildModelProblem({
          name: state.name,
          deployments: state.deployments,
          profileOf: (deployment) => this.#profiles.get(deployment.id, deployment.model),
          demand: state.planDemand,
          fixedReplicas: overrides,
          previousShares: previousShares(state),
          settings: modelConfig(this.#options.config, state.name),
          catalogue: this.#options.catalogue,
        });
        state.notices = built.notices;
        for (const [id, price] of built.prices) this.#prices.set(id, price);
        this.#logNotices(state);
        const unread = state.deployments.some(({ id, model }) => this.#profiles.get(id, model).kind === 'unread');
        if (unread) state.hold ??= 'redis_unreachable';
        else if (built.usableDeployments === 0) state.hold ??= 'no_profile';
        if (state.hold === null && cycle.holdAll === null) state.built = built;
      } catch (error) {
        this.#modelFailed(state, error);
      }
    }
  }

  async #readProfiles(cycle: Cycle, deployments: readonly ObservedDeployment[]): Promise<void> {
    try {
      const bad = await this.readProfiles(deployments);
      for (let count = 0; count < bad; count += 1) cycle.errors.push({ input: 'profiles', code: 'bad_profile' });
      this.#inputs.read('profiles', cycle.nowMs);
      cycle.read.add('profiles');
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      this.#inputs.failed('profiles', error.message);
      cycle.errors.push({ input: 'profiles', code: error.code });
    }
  }

  /**
   * Reads the profiles of some deployments now.
   *
   * @returns how many could not be used
   * @throws Unavailable
   */
  async readProfiles(deployments: readonly ObservedDeployment[]): Promise<number> {
    const { profiles, config } = this.#options;
    const readings = await profiles.read(deployments.map(({ id, model, name }) => ({ id, model, deployment: name })));
    let bad = 0;
    deployments.forEach(({ id, model }, index) => {
      const reading = readings[index]!;
      if (reading.kind === 'bad') bad += 1;
      const epoch = config.profiles.source === 'redis' ? (this.#runId ?? '') : '';
      this.#profiles.update({ id, model, reading, epoch });
    });
    return bad;
  }

  /** A warning is logged when it appears, not in each of the cycles that repeat it. */
  #logNotices(state: ModelState): void {
    const now = state.notices.map((notice) => notice.message).join('\n');
    const before = this.#loggedNotices.get(state.name) ?? '';
    if (now === before) return;
    this.#loggedNotices.set(state.name, now);
    const known = new Set(before.split('\n'));
    for (const { code, message } of state.notices) {
      if (!known.has(message)) this.#options.logger.warn({ model: state.name, code }, message);
    }
  }

  /**
   * Phase 6, plan. Models are planned a few at a time; where that fails or runs into its time limit, each alone, so that
   * a fault holds its own model only (`planning_failed`, `plan_rejected`).
   */
  async #planModels(cycle: Cycle): Promise<void> {
    if (cycle.holdAll !== null) return;
    const ready = sortedByName([...this.#models.values()]).filter((state) => state.built !== null);
    const startedMs = this.#options.steadyMs();
    for (let start = 0; start < ready.length; start += modelsPerCall) {
      await this.#planChunk(cycle, ready.slice(start, start + modelsPerCall));
    }
    cycle.planMs = this.#options.steadyMs() - startedMs;
  }

  async #planChunk(cycle: Cycle, states: readonly ModelState[]): Promise<void> {
    const { planner, config, steadyMs } = this.#options;
    const { timeLimitMs } = config.planning;
    const problems = states.map((state) => state.built!.model);
    const startedMs = steadyMs();
    let parts: ReadonlyMap<string, ModelPlan>;
    try {
      const plan = await planner.plan(this.#problemOf(problems, cycle.at), { timeLimitMs });
      parts = splitPlan(plan, problems);
      cycle.nodes += plan.solver.nodes;
      cycle.solver = plan.solver.name;
    } catch (error) {
      if (states.length === 1) this.#planFailed(states[0]!, error);
      else for (const state of states) await this.#planChunk(cycle, [state]);
      return;
    }
    const hitLimit = steadyMs() - startedMs >= timeLimitMs;
    for (const state of states) {
      const part = parts.get(state.name);
      if (part === undefined) this.#planFailed(state, new Error('the plan does not contain the model'));
      else if (hitLimit && states.length > 1 && part.model.status === 'feasible') await this.#planChunk(cycle, [state]);
      else state.planned = { problem: state.built!.model, part };
    }
  }

  #planFailed(state: ModelState, error: unknown): void {
    state.hold = /rejected by its own check/.test(sentence(error)) ? 'plan_rejected' : 'planning_failed';
    state.built = null;
    this.#options.logger.error({ model: state.name, err: error }, `${state.name} is held: ${sentence(error)}`);
  }

  #problemOf(models: readonly ProblemModel[], at: string | undefined): PlanningProblem {
    return {
      apiVersion: 'gpumix/v1',
      kind: 'PlanningProblem',
      ...(at === undefined ? {} : { at }),
      models,
      pools: [],
      quotas: [],
      budgetUsdPerHour: null,
      options: planOptions(this.#options.config.planning),
    };
  }

  /**
   * Phase 7, publish: from here on the new numbers are served. A held model keeps its numbers; a deployment that is
   * gone has none.
   */
  async #publish(cycle: Cycle): Promise<void> {
    const { config, logger } = this.#options;
    if (!cycle.snapshot.synced) return this.#holdRestored(cycle);
    const states = sortedByName([...this.#models.values()]);
    const parts = states.map((state) => this.#partOf(state, cycle));
    const joined = joinPlan(parts, {
      at: cycle.at,
      solver: { name: cycle.solver, nodes: cycle.nodes, milliseconds: cycle.planMs },
      notices: [],
    });
    const overrides = this.#overrides.active(this.#options.clock.now());
    const plan = publishPlan(joined, (id) => this.#factsOf(id, { cycle, overrides }), {
      mode: config.publish.mode,
      maxStepsDownPerMinute: config.publish.maxStepsDownPerMinute,
    });
    const decisions = this.#decisions(cycle, states, plan);
    this.#published = this.#entriesOf(cycle, plan);
    this.#plan = plan;
    if (config.publish.maxStepsDownPerMinute !== null) {
      for (const [id, { replicas }] of this.#published) {
        if (replicas !== null) this.#recent.add(id, replicas, cycle.nowMs);
      }
    }
    if (decisions.changed) this.#publishedState.set(publishedState([...splitPlan(plan, []).values()]));
    this.#history.add(decisions.records);
    for (const record of decisions.records) logDecision(logger, record);
  }

  /** Before the first view of the deployments, what an earlier process published is all there is. */
  #holdRestored(cycle: Cycle): void {
    const heldReason = cycle.holdAll ?? 'not_synced';
    this.#published = new Map([...this.#published].map(([id, entry]) => [id, { ...entry, heldReason }]));
  }

  #partOf(state: ModelState, cycle: Cycle): ModelPlan {
    const mine = new Map(
      state.deployments
        .filter(({ id }) => this.#observed.has(id))
        .map(({ id, gpuType, name }) => [id, gpuType ?? name] as const),
    );
    const reason = cycle.holdAll ?? state.hold;
    const concerned = new Set(state.notices.map((notice) => notice.deployment));
    // The plan says of a deployment without a profile that it has none; the notice says why.
    const withNotices = (part: ModelPlan): ModelPlan => ({
      ...part,
      deployments: part.deployments.filter(({ id }) => mine.has(id)),
      warnings: [
        ...state.notices,
        ...part.warnings.filter(({ code, deployment }) => code !== 'no_profile' || !concerned.has(deployment)),
      ],
    });
    if (reason !== null || state.planned === null) {
      const held = reason ?? 'planning_failed';
      state.hold = held;
      const last = state.planned?.part ?? null;
      const known = last === null ? null : { ...last, warnings: [] };
      return withNotices(heldPart({ name: state.name, reason: held, last: known, deployments: mine }));
    }
    return withNotices(state.planned.part);
  }

  #factsOf(
    id: string,
    { cycle, overrides }: { cycle: Cycle; overrides: ReturnType<Overrides['active']> },
  ): PublicationFacts | undefined {
    const deployment = this.#observed.get(id);
    if (deployment === undefined) return undefined;
    const override = overrides.get(id);
    const before = this.#published.get(id);
    return {
      currentReplicas: deployment.currentReplicas,
      paused: deployment.paused,
      usdPerReplicaHour: this.price(id),
      override:
        override === undefined
          ? null
          : {
              replicas: override.replicas,
              expiresAt: override.expiresAtMs === null ? null : new Date(override.expiresAtMs).toISOString(),
            },
      published: before?.replicas ?? null,
      restored: before?.restored ?? false,
      highestWithinMinute: this.#recent.highest(id, cycle.nowMs),
    };
  }

  #entriesOf(cycle: Cycle, plan: Plan): ReadonlyMap<string, PublishedEntry> {
    const models = new Map(plan.models.map((model) => [model.name, model]));
    return new Map(
      plan.deployments.map(({ id, model, gpuType, replicas, targetReplicas, reason }) => {
        const { status, heldReason, planAt } = models.get(model)!;
        const restored = heldReason !== null && (this.#published.get(id)?.restored ?? false);
        const at = planAt ?? cycle.at;
        return [id, { model, gpuType, replicas, targetReplicas, status, heldReason, at, reason, restored }];
      }),
    );
  }

  /**
   * What this cycle decides anew, one record per model: published numbers that change (in shadow mode and for a paused
   * deployment the planned ones, which are all that is decided there), and holds that begin or end.
   */
  #decisions(
    cycle: Cycle,
    states: readonly ModelState[],
    plan: Plan,
  ): { readonly records: readonly DecisionRecord[]; readonly changed: boolean } {
    const shadow = this.#options.config.publish.mode === 'shadow';
    const changesOf = new Map<string, DecisionRecord['changes'][number][]>();
    let changed = false;
    for (const { id, model, replicas, targetReplicas, reason } of plan.deployments) {
      const before = this.#published.get(id);
      if (before?.replicas !== replicas || before?.targetReplicas !== targetReplicas) changed = true;
      const silent = shadow || this.#observed.get(id)?.paused === true;
      const from = (silent ? before?.targetReplicas : before?.replicas) ?? null;
      const to = silent ? targetReplicas : replicas;
      if (from === to) continue;
      const changes = changesOf.get(model) ?? [];
      changes.push({ deployment: id, from, to, reason });
      changesOf.set(model, changes);
    }
    const heldBefore = new Map(this.#plan?.models.map(({ name, heldReason }) => [name, heldReason]) ?? []);
    const demandOf = new Map(states.map((state) => [state.name, state.demand?.forecastRps ?? 0]));
    const records = plan.models.flatMap(({ name, status, heldReason, usdPerHour, planAt }) => {
      const changes = changesOf.get(name) ?? [];
      const before = heldBefore.get(name);
      // Before the first plan there is nothing to hold, so another reason to wait decides nothing.
      if (changes.length === 0 && (before === undefined || before === heldReason || planAt === null)) return [];
      return [{ at: cycle.at, model: name, status, heldReason, usdPerHour, rps: demandOf.get(name) ?? 0, changes }];
    });
    return { records, changed: changed || records.length > 0 || this.#published.size !== plan.deployments.length };
  }

  /**
   * Writes what must outlive the process. While the store cannot be reached everything stays in memory and is written
   * by a later cycle.
   */
  flush(cycle?: Pick<Cycle, 'nowMs' | 'errors'>): Promise<void> {
    // One at a time: two writers of the same list would write an entry twice.
    this.#flushing = this.#flushing.then(() => this.#flush(cycle));
    return this.#flushing;
  }

  async #flush(cycle?: Pick<Cycle, 'nowMs' | 'errors'>): Promise<void> {
    if (!this.#restored) return;
    const nowMs = cycle?.nowMs ?? this.#options.clock.now();
    const memories = [...this.#models.values()].flatMap((state) => {
      const memory = state.window?.memory() ?? null;
      return memory === null ? [] : [{ model: state.name, ...memory }];
    });
    const due = cycle === undefined || nowMs - this.#tracesSavedMs >= saveTracesSeconds * 1000;
    if (memories.length > 0 && (due || memories.length > this.#traces.value.length)) {
      this.#tracesSavedMs = nowMs;
      this.#traces.set(memories);
    }
    try {
      await this.#overrides.flush();
      await this.#unfollowed.flush();
      await this.#publishedState.flush();
      await this.#traces.flush();
      await this.#history.flush();
    } catch (error) {
      if (!(error instanceof Unavailable)) {
        this.#options.logger.error({ err: error }, `gpumix's state cannot be written: ${sentence(error)}`);
      }
      cycle?.errors.push({ input: 'state', code: error instanceof Unavailable ? error.code : 'internal' });
    }
  }

  /**
   * After publication, for information: what the cheapest single GPU type would cost. Only for models whose demand has
   * changed since, oldest first and at most `singleTypesPerCycle` of them.
   */
  async #compareWithSingleTypes(cycle: Cycle): Promise<void> {
    const wanted: ModelState[] = [];
    for (const state of this.#models.values()) {
      if (state.built === null || state.planned === null) continue;
      const rps = state.demand?.forecastRps ?? 0;
      const { single } = state;
      const isCurrent = single !== null && sameDemand(single.problem, state.built.model);
      if (isCurrent && sameChoices(single.problem, state.built.model)) continue;
      if (single !== null && Math.abs(single.rps - rps) > singleTypeTolerance * single.rps) state.single = null;
      if (rps > 0) wanted.push(state);
    }
    // Those without a price come first, then those that were asked longest ago.
    const chosen = wanted.sort((a, b) => (a.single?.atMs ?? 0) - (b.single?.atMs ?? 0)).slice(0, singleTypesPerCycle);
    if (chosen.length === 0) return;
    const variants = chosen.flatMap((state) => singleTypeVariants(state.built!.model));
    const { planner, config } = this.#options;
    const { timeLimitMs } = config.planning;
    const plan = await planner.plan(this.#problemOf(variants, cycle.at), { timeLimitMs });
    const parts = splitPlan(plan, variants);
    for (const state of chosen) {
      const problem = state.built?.model;
      if (problem === undefined || state.planned === null) continue;
      const cheapest = cheapestSingleType(problem, state.planned.part, parts);
      state.single = { rps: state.demand?.forecastRps ?? 0, problem, cheapest, atMs: cycle.nowMs };
    }
  }
}

/** Whether the same requests are planned for: at the same total rate, longer ones can make every type dearer. */
function sameDemand(a: ProblemModel, b: ProblemModel): boolean {
  return (
    a.demand.length === b.demand.length &&
    a.demand.every((bucket, index) => {
      const other = b.demand[index]!;
      return (
        bucket.rps === other.rps &&
        bucket.inputTokens === other.inputTokens &&
        bucket.outputTokens === other.outputTokens
      );
    })
  );
}

/** Whether the same deployments with the same profiles and prices are there to choose from. */
function sameChoices(a: ProblemModel, b: ProblemModel): boolean {
  return (
    a.deployments.length === b.deployments.length &&
    a.deployments.every((deployment, index) => {
      const other = b.deployments[index]!;
      return (
        deployment.id === other.id &&
        deployment.usdPerReplicaHour === other.usdPerReplicaHour &&
        deployment.maxReplicas === other.maxReplicas &&
        deployment.profile === other.profile
      );
    })
  );
}

/** Shares of the plan in force, which the next plan stays near. */
function previousShares(state: ModelState): ProblemModel['previousShares'] {
  return (state.planned?.part.shares ?? [])
    .filter((bucket) => bucket.to.length > 0)
    .map(({ inputTokens, outputTokens, to }) => ({ inputTokens, outputTokens, to }));
}

function sortedByName(states: readonly ModelState[]): readonly ModelState[] {
  return [...states].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function without<Value>(map: ReadonlyMap<string, Value>, key: string): ReadonlyMap<string, Value> {
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
