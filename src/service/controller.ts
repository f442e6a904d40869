import type { Explanation } from '../core/explanation.js';
import type { Plan } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import { type ObservedDeployment, type ReplicaConsumer, Unavailable } from '../core/ports.js';
import type { ModelRouting } from '../core/routing.js';
import type { ScaleTarget } from '../core/scale.js';
import type { Actuator } from './actuation/actuator.js';
import { scaleRequests } from './actuation/scale-requests.js';
import { prometheusDemand } from './config/demand-config.js';
import type { Planner, PlanningCycleOptions } from './cycle.js';
import { type Explainer, Explanations } from './explanations.js';
import type { ModelState, PublishedEntry } from './fleet.js';
import { PlanningCycle } from './planning-cycle.js';
import type { ReplicaHold } from './replica-holds.js';
import {
  type ActuationView,
  type ConsumerView,
  type ControllerCommands,
  type ControllerView,
  type CycleReport,
  type DecisionRecord,
  type GpuShortage,
  type HeldUpView,
  heldSentences,
  type InputState,
  type ModelView,
  type PublishedReplicas,
  type SimulatedServiceView,
} from './view.js';

/** Starts a timer on the controller's clock; the answer cancels it. */
export type Timer = (delayMs: number, callback: () => void) => () => void;

export type ControllerOptions = PlanningCycleOptions & {
  readonly timer: Timer;
  /** Plans what users ask for (`whatIf`), so that it does not wait for the cycle, nor the cycle for it. */
  readonly whatIfPlanner: Planner;
  /** Explains the plan in force, beside all others: an explanation is many plans. */
  readonly explainer: Explainer;
  /** What users of a model feel, where its replicas are simulated. */
  readonly simulatedService?: (model: string) => SimulatedServiceView | null;
  /** Writes what is published into the cluster; absent or null = autoscalers do. */
  readonly actuation?: {
    readonly actuator: Actuator;
    readonly targetOf: (deployment: ObservedDeployment) => ScaleTarget;
  } | null;
};

/** Records of an interval appear up to half a second after its end; the rest is for clocks that disagree. [ms] */
const afterIntervalMs = 1500;

/** A what-if plan may take this long, whatever its document says. [ms] */
const longestWhatIfMs = 10_000;

/**
 * The service's brain over time: runs a cycle shortly after each interval boundary, answers what was decided from
 * memory, and takes what people decide themselves.
 *
 * States: stopped → `start` → waiting ⇄ running → `stop` → stopped. Never two cycles at once; one that takes longer
 * than an interval, or was asked for while another ran, follows at once.
 */
export class Controller implements ControllerView, ControllerCommands {
  readonly mode: 'live' | 'shadow';
  readonly #options: ControllerOptions;
  readonly #cycle: PlanningCycle;
  readonly #explanations: Explanations;
  readonly #listeners: ((report: CycleReport) => void)[] = [];
  #views: { readonly models: readonly ModelView[]; readonly actuationVersion: number } | null = null;
  #problem: PlanningProblem | null | undefined;
  #state: 'stopped' | 'waiting' | 'running' = 'stopped';
  #isWantedNow = false;
  #running: Promise<void> = Promise.resolve();
  #cancelTimer: () => void = () => undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { actuation = null } = options;
    this.#cycle = new PlanningCycle({
      ...options,
      whyNotScaled: (id) => actuation?.actuator.whyNotScaled(id) ?? null,
    });
    this.#explanations = new Explanations(options.explainer);
    this.mode = options.config.publish.mode;
  }

  /** Begins to follow the deployments and runs the first cycle at once. */
  async start(): Promise<void> {
    if (this.#state !== 'stopped') return;
    this.#state = 'waiting';
    const { deployments, consumers = null, gpuNodes = null } = this.#options;
    const look = () => {
      // The first complete view is what everything waits for; later changes are taken up by the next cycle.
      const isComplete =
        deployments.snapshot().synced &&
        consumers?.snapshot().settled !== false &&
        gpuNodes?.snapshot().synced !== false;
      if (!this.#cycle.ready && isComplete) this.#runSoon();
    };
    deployments.onChange(look);
    consumers?.onChange(look);
    gpuNodes?.onChange(look);
    try {
      await deployments.start();
      await consumers?.start();
      await gpuNodes?.start();
      await this.#options.actuation?.actuator.start();
    } catch (error) {
      this.#state = 'stopped';
      await this.#stopSources();
      throw error;
    }
    this.#runSoon();
  }

  /** Lets the running cycle end, writes what must outlive the process, and stops following the deployments. */
  async stop(): Promise<void> {
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    this.#isWantedNow = false;
    this.#cancelTimer();
    await this.#running;
    await this.#options.actuation?.actuator.stop();
    await this.#cycle.flush();
    await this.#stopSources();
  }

  async #stopSources(): Promise<void> {
    const { deployments, consumers, gpuNodes } = this.#options;
    await Promise.all([deployments.stop(), consumers?.stop(), gpuNodes?.stop()]);
  }

  #runSoon(): void {
    if (this.#state === 'running') this.#isWantedNow = true;
    if (this.#state !== 'waiting') return;
    this.#cancelTimer();
    this.#cancelTimer = this.#options.timer(0, () => this.#run(this.#options.clock.now()));
  }

  /** @param dueMs when this cycle was due; the timer may have fired a moment before */
  #run(dueMs: number): void {
    if (this.#state !== 'waiting') return;
    this.#state = 'running';
    this.#isWantedNow = false;
    const nowMs = this.#options.clock.now();
    // A moment early, not an hour: a clock that was set back meanwhile is followed at once.
    const isEarly = dueMs - nowMs < this.#options.config.demand.intervalSeconds * 1000;
    const nextMs = this.#nextDue(isEarly ? Math.max(nowMs, dueMs) : nowMs);
    this.#running = this.#runCycle().then(() => {
      if (this.#state !== 'running') return;
      this.#state = 'waiting';
      if (this.#isWantedNow) return this.#runSoon();
      const waitMs = Math.max(0, nextMs - this.#options.clock.now());
      this.#cancelTimer = this.#options.timer(waitMs, () => this.#run(nextMs));
    });
  }

  async #runCycle(): Promise<void> {
    const report = await this.#cycle.run();
    this.#forget();
    this.#actuate(report);
    for (const listener of this.#listeners) {
      try {
        listener(report);
      } catch (error) {
        this.#options.logger.error({ err: error }, 'a listener of the cycle failed');
      }
    }
  }

  /** Hands over what the cycle decided, and waits for nothing of it. */
  #actuate({ at: atMs }: CycleReport): void {
    const { actuation, clock } = this.#options;
    // A process that is told to stop begins nothing.
    if (actuation == null || this.#state === 'stopped') return;
    const { observed, published, overrides } = this.#cycle;
    const { targetOf } = actuation;
    const fixed = overrides.active(clock.now());
    actuation.actuator.follow(scaleRequests({ atMs, mode: this.mode, observed, published, fixed, targetOf }), atMs);
  }

  /** The first moment after `nowMs` that lies shortly behind an interval boundary. */
  #nextDue(nowMs: number): number {
    const { config } = this.#options;
    const intervalMs = config.demand.intervalSeconds * 1000;
    // What Prometheus tells of an interval is asked for after its own delay: a cycle before that would plan with the one before.
    const settledMs = config.demand.source === 'prometheus' ? prometheusDemand(config).delaySeconds * 1000 : 0;
    const delayMs = settledMs + Math.min(afterIntervalMs, intervalMs / 2);
    return (Math.floor((nowMs - delayMs) / intervalMs) + 1) * intervalMs + delayMs;
  }

  /** Answers that were put together for the last state. */
  #forget(): void {
    this.#views = null;
    this.#problem = undefined;
  }

  plan(): Plan | null {
    return this.#cycle.plan;
  }

  problem(): PlanningProblem | null {
    if (this.#problem === undefined) this.#problem = this.#cycle.problem();
    return this.#problem;
  }

  models(): readonly ModelView[] {
    // Numbers land between cycles, too.
    const actuationVersion = this.#options.actuation?.actuator.version ?? 0;
    if (this.#views?.actuationVersion !== actuationVersion) {
      this.#views = { models: this.#createViews(), actuationVersion };
    }
    return this.#views.models;
  }

  replicasOf(namespace: string, name: string): PublishedReplicas {
    const id = `${namespace}/${name}`;
    const entry = this.#cycle.published.get(id);
    const deployment = this.#cycle.observed.get(id);
    if (entry === undefined && deployment === undefined) {
      return this.#cycle.ready
        ? { kind: 'no-such-deployment' }
        : { kind: 'not-known', reason: 'not every input has been read' };
    }
    if (entry === undefined || entry.replicas === null) {
      return { kind: 'not-known', reason: this.#whyNotKnown(entry?.model ?? deployment!.model, entry) };
    }
    const { model, gpuType, replicas, targetReplicas, status, heldReason, at } = entry;
    return {
      kind: 'known',
      model,
      gpuType,
      replicas,
      targetReplicas: targetReplicas ?? replicas,
      status,
      heldReason,
      at,
    };
  }

  routingOf(model: string): ModelRouting {
    const state = this.#cycle.models.get(model);
    if (state === undefined) return { shares: [], fullInFlight: new Map() };
    const { routing, planned, fullInFlight } = state;
    // Before this process has planned, what an earlier one left is all there is.
    return { shares: routing.length > 0 ? routing : (planned?.part.shares ?? []), fullInFlight };
  }

  #whyNotKnown(model: string, entry: PublishedEntry | undefined): string {
    // While a cycle looks anew, what the last one found still holds.
    const hold = this.#cycle.models.get(model)?.hold ?? entry?.heldReason ?? null;
    const sentences: Readonly<Record<string, string>> = heldSentences;
    return (hold === null ? undefined : sentences[hold]) ?? entry?.reason ?? 'the first plan has not been made yet';
  }

  inputs(): readonly InputState[] {
    return this.#cycle.inputs.all(this.#options.clock.now());
  }

  shortages(): readonly GpuShortage[] {
    return this.#cycle.shortages();
  }

  actuation(): ActuationView | null {
    return this.#options.actuation?.actuator.view() ?? null;
  }

  ready(): boolean {
    return this.#cycle.ready;
  }

  /** The newest `limit` decisions that match, oldest first. */
  history(query: {
    readonly model?: string;
    readonly sinceMs?: number;
    readonly limit: number;
  }): readonly DecisionRecord[] {
    return this.#cycle.history.query(query);
  }

  onCycle(listener: (report: CycleReport) => void): void {
    this.#listeners.push(listener);
  }

  follow(namespace: string, name: string): 'started' | 'already-started' | 'no-such-deployment' {
    const id = `${namespace}/${name}`;
    const exists = this.#options.deployments.snapshot().deployments.some((deployment) => deployment.id === id);
    if (!exists) return 'no-such-deployment';
    if (!this.#cycle.isUnfollowed(id)) return 'already-started';
    this.#cycle.follow(id);
    this.#runSoon();
    return 'started';
  }

  async unfollow(namespace: string, name: string): Promise<'stopped' | 'not-followed'> {
    const id = `${namespace}/${name}`;
    if (!this.#cycle.observed.has(id) && !this.#cycle.published.has(id)) return 'not-followed';
    this.#cycle.unfollow(id);
    await this.#decided();
    return 'stopped';
  }

  async refreshProfiles(model: string): Promise<'updated' | 'no-such-model' | 'failed'> {
    const deployments = this.#cycle.models.get(model)?.deployments;
    if (deployments === undefined) return 'no-such-model';
    try {
      const bad = await this.#cycle.readProfiles(deployments);
      this.#runSoon();
      return bad === 0 ? 'updated' : 'failed';
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      return 'failed';
    }
  }

  async fixReplicas(
    namespace: string,
    name: string,
    replicas: number,
    ttlSeconds: number | null,
  ): Promise<'fixed' | 'no-such-deployment'> {
    const id = `${namespace}/${name}`;
    if (!this.#cycle.observed.has(id)) return 'no-such-deployment';
    const expiresAtMs = ttlSeconds === null ? null : this.#options.clock.now() + ttlSeconds * 1000;
    this.#cycle.overrides.fix({ id, replicas, expiresAtMs });
    this.#cycle.publishOverride(id, replicas);
    await this.#decided();
    return 'fixed';
  }

  async clearFixed(namespace: string, name: string): Promise<readonly string[] | 'no-such-deployment'> {
    const deployment = this.#cycle.observed.get(`${namespace}/${name}`);
    if (deployment === undefined) return 'no-such-deployment';
    const siblings = this.#cycle.models.get(deployment.model)?.deployments ?? [deployment];
    const { overrides } = this.#cycle;
    const fixed = overrides.active(this.#options.clock.now());
    const ids = siblings.map((sibling) => sibling.id);
    overrides.clear(new Set(ids));
    await this.#decided();
    return ids.filter((id) => fixed.has(id));
  }

  /** Writes what a person decided, unless the store is known to be down: it then acts all the same, and is written later. */
  async #decided(): Promise<void> {
    this.#forget();
    const written = this.#cycle.flush();
    const isDown = this.inputs().some(({ input, ok, ageSeconds }) => input === 'redis' && !ok && ageSeconds !== null);
    if (!isDown) await written;
    this.#runSoon();
  }

  whatIf(problem: PlanningProblem): Promise<Plan> {
    const timeLimitMs = Math.min(problem.options.timeLimitMs, longestWhatIfMs);
    return this.#options.whatIfPlanner.plan(problem, { timeLimitMs });
  }

  explain(problem: PlanningProblem, model: string | null): Promise<Explanation | 'busy'> {
    return this.#explanations.of(problem, model);
  }

  #createViews(): readonly ModelView[] {
    const overrides = this.#cycle.overrides.active(this.#options.clock.now());
    return [...this.#cycle.models.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((state) => this.#viewOf(state, overrides));
  }

  #viewOf(
    state: ModelState,
    overrides: ReadonlyMap<string, { replicas: number; expiresAtMs: number | null }>,
  ): ModelView {
    const { published, observed } = this.#cycle;
    const plan = state.planned?.part.model;
    return {
      name: state.name,
      status: state.hold === null ? (plan?.status ?? 'held') : 'held',
      heldReason: state.hold,
      planAt: plan?.planAt ?? null,
      demand: state.demand,
      singleTypeUsdPerHour: state.single?.cheapest?.usdPerHour ?? null,
      singleTypeGpu: state.single?.cheapest?.gpuType ?? null,
      simulated: this.#options.simulatedService?.(state.name) ?? null,
      deployments: state.deployments
        .filter(({ id }) => observed.has(id))
        .map((deployment) => {
          const { id } = deployment;
          const entry = published.get(id);
          const override = overrides.get(id);
          return {
            id,
            namespace: deployment.namespace,
            name: deployment.name,
            gpuType: deployment.gpuType ?? deployment.name,
            currentReplicas: deployment.currentReplicas,
            readyReplicas: deployment.readyReplicas,
            pendingReplicas: deployment.pendingReplicas,
            replicas: entry?.replicas ?? null,
            targetReplicas: entry?.targetReplicas ?? null,
            usdPerReplicaHour: this.#cycle.price(id),
            override:
              override === undefined
                ? null
                : {
                    replicas: override.replicas,
                    expiresAt: override.expiresAtMs === null ? null : new Date(override.expiresAtMs).toISOString(),
                  },
            paused: deployment.paused,
            heldUp: heldUpView(state.holds?.replicas.get(id)),
            profileDrift: this.#cycle.profileDrift(id),
            landing: this.#cycle.landing(id),
            consumers: this.#cycle.consumersOf(id).map(consumerView),
            actuation: this.#options.actuation?.actuator.of(id) ?? null,
            notices: [
              ...state.notices
                .filter((notice) => notice.deployment === id)
                .map(({ code, message }) => ({ code, message })),
              ...(this.#options.actuation?.actuator.noticesOf(id) ?? []),
            ],
          };
        }),
    };
  }
}

function consumerView({ kind, namespace, name, minReplicas, maxReplicas, pausedBy }: ReplicaConsumer): ConsumerView {
  return { kind, namespace, name, minReplicas, maxReplicas, pausedBy };
}

function heldUpView(hold: ReplicaHold | undefined): HeldUpView | null {
  if (hold === undefined) return null;
  const { rule, replicas, wanted, untilMs } = hold;
  return {
    rule,
    replicas,
    wantedReplicas: wanted,
    until: untilMs === null ? null : new Date(untilMs).toISOString(),
  };
}
