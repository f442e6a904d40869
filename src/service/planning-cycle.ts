import type { Plan } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import type { ObservedDeployment, ReplicaConsumer } from '../core/ports.js';
import { Calendar } from '../demand/calendar.js';
import { compareWithSingleTypes } from './comparison.js';
import { simulatesReplicas } from './config/demand-config.js';
import { type Cycle, holdWithoutStore, type PhaseContext, type PlanningCycleOptions, sentence } from './cycle.js';
import { forecast, readDemand } from './demand-phases.js';
import { Fleet, type ModelState, type PublishedEntry } from './fleet.js';
import { unlimited } from './fleet-limits.js';
import type { DecisionHistory } from './history.js';
import { InputStates } from './input-states.js';
import {
  boundingConsumer,
  boundNotices,
  type ConsumersOf,
  consumersByDeployment,
  type Landing,
  LandingWatch,
  notLandedNotice,
  withConsumers,
} from './landing.js';
import { MoveHorizon } from './move-horizon.js';
import type { Overrides } from './overrides.js';
import { PlanPhase } from './plan-phase.js';
import { ProblemPhase, problemOf } from './problem-phase.js';
import { ProfileDrift } from './profile-drift.js';
import { PublishPhase } from './publish-phase.js';
import { ReplicaHolds } from './replica-holds.js';
import { chooseRouting } from './routing-shares.js';
import { StartupTimes } from './startup-times.js';
import { type Shortage, StockOutWatch, stockOutNotices } from './stock-out.js';
import { StoreEpoch } from './store-epoch.js';
import { StoredState } from './stored-state.js';
import { type CyclePhase, type CycleReport, cyclePhases, type ProfileDriftView } from './view.js';

/**
 * One pass from what is observed to what is published, in seven phases, and the state that outlives a pass.
 *
 * A phase that fails holds the last good plan of the models that it concerns, says why, and lets the later phases run
 * as far as they can: what can be read is read, so that recovery needs no restart. No number is published that was
 * computed from an input that was not read.
 */
export class PlanningCycle {
  readonly #context: PhaseContext;
  readonly #problems: ProblemPhase;
  readonly #plans: PlanPhase;
  readonly #publication: PublishPhase;
  readonly #drift: ProfileDrift;
  readonly #holds: ReplicaHolds;
  #stockOuts = new StockOutWatch();
  #startupTimes: StartupTimes;
  /** See `Cycle.limits` and `Cycle.joint`: those of the last cycle that planned. */
  #planned: Pick<Cycle, 'limits' | 'joint'> = { limits: unlimited, joint: null };
  #shortTypes: readonly string[] = [];
  #consumers: ConsumersOf = new Map();
  readonly #landing = new LandingWatch();
  /** Of an old view nobody knows what the deployments ask for now; ages go on when it is seen again. */
  #landingIsKnown = false;
  #ready = false;

  constructor(options: PlanningCycleOptions) {
    const { config, store, clock, newId, logger } = options;
    const stored = new StoredState({ store, keptDecisions: config.history.decisions, logger });
    const fleet = new Fleet({
      // Where gpumix scales, the cluster says what runs.
      currentIsPublished:
        config.deployments.source === 'config' && !simulatesReplicas(config) && config.actuate === 'none',
      saved: () => stored.published,
    });
    const { engineMetrics = null, traceSource = null } = options;
    const inputs = new InputStates(
      [
        ...(config.redis === null ? [] : ['redis']),
        config.deployments.source,
        ...((options.gpuNodes ?? null) === null ? [] : ['nodes']),
        'profiles',
        'traces',
        ...(traceSource === null ? [] : [traceSource.input]),
        ...(engineMetrics === null ? [] : ['engines']),
      ],
      logger,
    );
    const epoch = new StoreEpoch({ store, clock, newId });
    this.#startupTimes = new StartupTimes(config.forecast.startupSeconds);
    const calendar = new Calendar(config.forecast.calendar);
    const shortages = (nowMs: number) => this.#stockOuts.shortages(nowMs);
    this.#context = {
      ...options,
      fleet,
      stored,
      epoch,
      inputs,
      shortages,
      calendar,
      startupTimes: () => this.#startupTimes,
    };
    const priceOf = (id: string) => this.#problems.price(id);
    const { cadenceSeconds = config.demand.intervalSeconds } = options;
    this.#holds = new ReplicaHolds({ ...config.stability, intervalSeconds: cadenceSeconds });
    const moves = new MoveHorizon({ longestSeconds: config.options.horizonHours * 3600 });
    this.#publication = new PublishPhase(this.#context, { priceOf, holds: this.#holds });
    this.#drift = new ProfileDrift({ config, inputs, logger, engineMetrics, stored });
    this.#problems = new ProblemPhase(this.#context, {
      lowestReplicasOf: (id, nowMs) => this.#publication.lowestReplicasOf(id, nowMs),
      drift: this.#drift,
      moves,
    });
    this.#plans = new PlanPhase(this.#context, {
      replicasOf: (state, cycle) => this.#publication.standing(state, cycle),
      runningOf: (deployment) => this.#publication.runningOf(deployment),
      priceOf,
      holds: this.#holds,
      moves,
    });
  }

  /** The phases, in the order of `cyclePhases`, and what each of them holds when its input is not there. */
  readonly #phases: Readonly<Record<CyclePhase, (cycle: Cycle) => Promise<void> | void>> = {
    // 1. Is there a complete view of the deployments, and is it known what an earlier process left?
    //    If not, everything is held: not_synced, redis_unreachable.
    sync: (cycle) => this.#sync(cycle),
    // 2. Which deployments of which models are there? While the view is old everything is held: kubernetes_unreachable.
    deployments: (cycle) => this.#followDeployments(cycle),
    // 3. What arrived? While the store, or what tells the demand instead, cannot be read everything is held:
    //    redis_unreachable, prometheus_unreachable. One bad key holds nothing.
    demand: (cycle) => readDemand(cycle, this.#context),
    // 4. What to plan for? A model whose window does not say is held: no_traces, requests_pending, no_lengths.
    forecast: (cycle) => forecast(cycle, this.#context),
    // 5. What may run it, how fast, at what price? The last good profiles serve while none can be read; a model that
    //    never had any is held: redis_unreachable, no_profile.
    problem: (cycle) => this.#problems.build(cycle),
    // 6. The cheapest replicas. A model whose plan fails, or fails its check, is held: planning_failed, plan_rejected.
    plan: (cycle) => this.#planModels(cycle),
    // 7. From here on the new numbers are served; held models keep theirs.
    publish: async (cycle) => {
      await this.#publication.publish(cycle);
      this.#watchLanding(cycle);
      await chooseRouting(cycle, this.#context);
    },
  };

  get plan(): Plan | null {
    return this.#publication.plan;
  }

  /** True once a pass has read every input. */
  get ready(): boolean {
    return this.#ready;
  }

  get models(): ReadonlyMap<string, ModelState> {
    return this.#context.fleet.models;
  }

  /** Followed deployments, by id. */
  get observed(): ReadonlyMap<string, ObservedDeployment> {
    return this.#context.fleet.observed;
  }

  get published(): ReadonlyMap<string, PublishedEntry> {
    return this.#context.fleet.published;
  }

  get inputs(): InputStates {
    return this.#context.inputs;
  }

  get history(): DecisionHistory {
    return this.#context.stored.history;
  }

  get overrides(): Overrides {
    return this.#context.stored.overrides;
  }

  /** USD per replica-hour; null = not known. */
  price(id: string): number | null {
    return this.#problems.price(id);
  }

  /** What the engines of a deployment say of its profile; null where they are not read. */
  profileDrift(id: string): ProfileDriftView | null {
    return this.#drift.viewOf(id, this.#context.clock.now());
  }

  /** What scales a deployment, as far as was seen. */
  consumersOf(id: string): readonly ReplicaConsumer[] {
    return this.#consumers.get(id) ?? [];
  }

  /** Whether what is published of a deployment was done; null where nothing is, or nobody can tell. */
  landing(id: string): Landing | null {
    return this.#landingIsKnown ? this.#landing.of(id, this.#context.clock.now()) : null;
  }

  /** GPU types that cannot be had now, as far as was seen. */
  shortages(): readonly Shortage[] {
    return this.#context.shortages(this.#context.clock.now());
  }

  /**
   * The document that the plans in force answer: planning it again gives the same target replicas. Of models that share
   * limits it is what was planned together; of others each model's last one.
   */
  problem(): PlanningProblem | null {
    const { fleet, config } = this.#context;
    const { limits, joint } = this.#planned;
    if (joint !== null) return joint;
    const models = fleet.modelsByName().flatMap((state) => state.planned?.problem ?? []);
    return models.length === 0 ? null : problemOf(models, { config, limits, at: this.plan?.at });
  }

  isUnfollowed(id: string): boolean {
    return this.#context.stored.unfollowed.includes(id);
  }

  /** Leaves a deployment out of every plan, at once. */
  unfollow(id: string): void {
    const { fleet, stored } = this.#context;
    if (!this.isUnfollowed(id)) stored.setUnfollowed([...stored.unfollowed, id]);
    fleet.remove(id);
  }

  follow(id: string): void {
    const { stored } = this.#context;
    stored.setUnfollowed(stored.unfollowed.filter((other) => other !== id));
  }

  /** Publishes a number that a person fixed without waiting for the next pass. */
  publishOverride(id: string, replicas: number): void {
    const { fleet, clock } = this.#context;
    const deployment = fleet.observed.get(id);
    if (deployment === undefined) return;
    const { model, gpuType, name } = deployment;
    const state = fleet.models.get(model);
    const entry: PublishedEntry = {
      model,
      gpuType: gpuType ?? name,
      status: state?.planned?.part.model.status ?? 'held',
      heldReason: state?.hold ?? null,
      reason: 'A person fixed it.',
      ownReplicas: null,
      plannedReplicas: null,
      ...fleet.published.get(id),
      replicas,
      targetReplicas: replicas,
      at: new Date(clock.now()).toISOString(),
      restored: false,
    };
    fleet.publish(new Map(fleet.published).set(id, entry));
  }

  /**
   * Reads the profiles of some deployments now.
   *
   * @returns how many could not be used
   * @throws Unavailable
   */
  async readProfiles(deployments: readonly ObservedDeployment[]): Promise<number> {
    return (await this.#problems.readProfiles(deployments)).length;
  }

  /**
   * One pass. Never rejects: whatever fails is held, logged and reported.
   */
  async run(): Promise<CycleReport> {
    const { clock, steadyMs, logger } = this.#context;
    this.#followClock();
    const nowMs = clock.now();
    const cycle: Cycle = {
      nowMs,
      at: new Date(nowMs).toISOString(),
      errors: [],
      holdAll: null,
      snapshot: { synced: false, staleSince: null, problem: null, deployments: [] },
      read: new Set(),
      limits: unlimited,
      joint: null,
      notices: [],
      nodes: 0,
      solver: 'builtin',
      planMs: 0,
    };
    const phaseSeconds = {} as Record<CyclePhase, number>;
    for (const phase of cyclePhases) {
      const startedMs = steadyMs();
      try {
        await this.#phases[phase](cycle);
      } catch (error) {
        // A fault of gpumix itself: nothing that this phase should have decided is published.
        cycle.holdAll ??= 'planning_failed';
        cycle.errors.push({ input: phase, code: 'internal' });
        logger.error({ phase, err: error }, `phase ${phase} failed: ${sentence(error)}`);
      }
      phaseSeconds[phase] = (steadyMs() - startedMs) / 1000;
    }
    this.#ready ||= cycle.read.size === 3;
    this.#drift.startReading([...this.#context.fleet.observed.values()], clock.now());
    await this.flush(cycle);
    if (this.#context.comparesSingleTypes ?? true) {
      await compareWithSingleTypes(cycle, this.#context).catch((error) => {
        logger.warn({ err: error }, `the single-type comparison failed: ${sentence(error)}`);
      });
    }
    return { at: nowMs, phaseSeconds, plan: this.plan, errors: cycle.errors };
  }

  /**
   * Where the clock was set, what began before goes on to take as long as it would have, and no silence counts before
   * traces are seen by the new time.
   */
  #followClock(): void {
    const { clock, clockSteps, fleet, inputs, logger } = this.#context;
    const byMs = clockSteps?.look() ?? 0;
    if (byMs === 0) return;
    const text = `${Math.round(Math.abs(byMs) / 1000)} s ${byMs > 0 ? 'ahead' : 'back'}`;
    logger.warn({ byMs }, `the clock was set ${text}: what is quiet counts as unknown until traces arrive`);
    for (const { window } of fleet.models.values()) window?.clockWasSet(clock.now());
    this.#stockOuts.clockWasSet(byMs);
    this.#startupTimes.clockWasSet(byMs);
    inputs.clockWasSet(byMs);
  }

  async #sync(cycle: Cycle): Promise<void> {
    const { config, deployments, consumers = null, fleet, stored, inputs } = this.#context;
    const { source } = config.deployments;
    cycle.snapshot = deployments.snapshot();
    // What was refused or does not exist is settled too: only the first answers are waited for.
    if (consumers?.snapshot().settled === false) cycle.holdAll ??= 'not_synced';
    if (!cycle.snapshot.synced) {
      cycle.holdAll ??= 'not_synced';
      inputs.failed(source, cycle.snapshot.problem ?? 'the first complete view has not arrived yet');
      cycle.errors.push({ input: source, code: 'not_synced' });
    }
    try {
      if (await stored.restore()) {
        fleet.restore(cycle.at);
        this.#stockOuts = new StockOutWatch({}, stored.stockOuts);
        this.#startupTimes = new StartupTimes(config.forecast.startupSeconds, stored.startupTimes);
        this.#holds.restore(stored.holds);
      }
    } catch (error) {
      holdWithoutStore(cycle, this.#context, error);
    }
  }

  #followDeployments(cycle: Cycle): void {
    const { config, fleet, stored, inputs } = this.#context;
    const { snapshot } = cycle;
    if (!snapshot.synced) return;
    const { source } = config.deployments;
    if (snapshot.staleSince !== null) {
      // A plan for deployments that changed unseen could scale down what now runs.
      cycle.holdAll ??= 'kubernetes_unreachable';
      inputs.failed(source, snapshot.problem ?? 'the API server cannot be reached');
      cycle.errors.push({ input: source, code: 'kubernetes_unreachable' });
    } else {
      inputs.read(source, cycle.nowMs);
      cycle.read.add('deployments');
    }
    this.#readNodes(cycle);
    fleet.follow(this.#withConsumers(cycle), new Set(stored.unfollowed));
    if (snapshot.staleSince === null && stored.restored) {
      this.#watchSupply(cycle);
      this.#startupTimes.observe(fleet.observed.values(), cycle.nowMs);
      stored.setStartupTimes(this.#startupTimes.toJSON(), cycle.nowMs);
    }
  }

  /** Pools that were never counted hold everything; those that can no longer be counted stay as they were. */
  #readNodes(cycle: Cycle): void {
    const { gpuNodes = null, inputs } = this.#context;
    if (gpuNodes === null) return;
    const { synced, staleSince, problem } = gpuNodes.snapshot();
    if (synced && staleSince === null) {
      inputs.read('nodes', cycle.nowMs);
      return;
    }
    if (!synced) cycle.holdAll ??= 'nodes_unread';
    inputs.failed('nodes', problem ?? 'the first complete view has not arrived yet');
    cycle.errors.push({ input: 'nodes', code: synced ? 'nodes_stale' : 'nodes_unread' });
  }

  /** The deployments with the bounds of what scales them, and why what was published has not landed. */
  #withConsumers({ snapshot, nowMs }: Cycle): readonly ObservedDeployment[] {
    const { config, consumers = null, fleet, whyNotScaled = () => null } = this.#context;
    const seen = consumers?.snapshot() ?? null;
    this.#consumers = consumersByDeployment(seen?.consumers ?? []);
    return snapshot.deployments.map((deployment) => {
      const mine = this.consumersOf(deployment.id);
      const bounded = withConsumers(deployment, mine);
      const sinceMs = this.#landing.overdueSince(deployment.id, nowMs, config.forecast.consumerLagSeconds);
      const published = fleet.published.get(deployment.id)?.replicas ?? null;
      if (sinceMs === null || published === null || deployment.currentReplicas === published) return bounded;
      const notice = notLandedNotice({
        deployment,
        published,
        sinceMs,
        consumers: mine,
        snapshot: seen,
        whyNotScaled: whyNotScaled(deployment.id),
      });
      return { ...bounded, notices: [...bounded.notices, notice] };
    });
  }

  /** Of what is planned in this cycle: a held model's plan may be from before its bounds. */
  #tellBounds(state: ModelState): void {
    if (state.built === null || state.planned === null || state.hold !== null) return;
    const bounds = new Map<string, ReplicaConsumer>();
    for (const deployment of state.deployments) {
      const bound = boundingConsumer(deployment, this.consumersOf(deployment.id));
      if (bound !== null) bounds.set(deployment.id, bound);
    }
    state.notices = [...state.notices, ...boundNotices(state.name, state.planned.part, bounds)];
  }

  /** Only where the cluster says what runs, and it is meant to follow: not in shadow mode, nor while paused. */
  #watchLanding({ snapshot, nowMs }: Cycle): void {
    const { config, fleet } = this.#context;
    if (config.deployments.source !== 'kubernetes' && config.actuate === 'none') return;
    this.#landingIsKnown = snapshot.synced && snapshot.staleSince === null;
    if (!this.#landingIsKnown) return;
    const seen: { readonly id: string; readonly published: number; readonly currentReplicas: number }[] = [];
    for (const [id, { replicas }] of fleet.published) {
      const { paused = true, currentReplicas = null } = fleet.observed.get(id) ?? {};
      if (config.publish.mode === 'shadow' || paused || replicas === null || currentReplicas === null) continue;
      seen.push({ id, published: replicas, currentReplicas });
    }
    this.#landing.observe(seen, nowMs);
  }

  /** Which GPU types cannot be had: told when one is found short, and when it may be asked for again. */
  #watchSupply({ nowMs }: Cycle): void {
    const { fleet, stored, logger } = this.#context;
    const before = new Set(this.#shortTypes);
    this.#stockOuts.observe(fleet.observed.values(), nowMs);
    const shortages = this.#stockOuts.shortages(nowMs);
    this.#shortTypes = shortages.map(({ gpuType }) => gpuType);
    for (const { message } of stockOutNotices(shortages.filter(({ gpuType }) => !before.has(gpuType)))) {
      logger.warn({}, message);
    }
    for (const gpuType of before) {
      if (!this.#shortTypes.includes(gpuType)) logger.info({ gpuType }, `${gpuType} may be asked for again`);
    }
    stored.setStockOuts(this.#stockOuts.toJSON(), nowMs);
  }

  async #planModels(cycle: Cycle): Promise<void> {
    try {
      await this.#plans.plan(cycle);
    } finally {
      for (const state of this.models.values()) {
        this.#tellBounds(state);
        this.#problems.logNotices(state);
      }
    }
    if (cycle.holdAll === null) this.#planned = { limits: cycle.limits, joint: cycle.joint };
  }

  /**
   * Writes what must outlive the process: after a pass, or (without one) at once and whole.
   */
  async flush(cycle?: Pick<Cycle, 'nowMs' | 'errors'>): Promise<void> {
    const { fleet, stored, clock } = this.#context;
    const traces = [...fleet.models.values()].flatMap((state) => {
      const memory = state.window?.memory() ?? null;
      return memory === null ? [] : [{ model: state.name, ...memory }];
    });
    const nowMs = cycle?.nowMs ?? clock.now();
    stored.setHolds(this.#holds.saved(nowMs), { nowMs, isLast: cycle === undefined });
    const failure = await stored.flush({ nowMs, traces, isLast: cycle === undefined });
    if (failure !== null) cycle?.errors.push({ input: 'state', code: failure });
    // Of a store that just failed nothing more is asked.
    if (failure !== null || !stored.restored) return;
    const models = [...fleet.models.values()];
    const unwritten = await stored.forecasts.flush({ nowMs, models, isLast: cycle === undefined });
    if (unwritten !== null) cycle?.errors.push({ input: 'state', code: unwritten });
  }
}
