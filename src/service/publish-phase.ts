import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Plan } from '../core/plan.js';
import type { ObservedDeployment } from '../core/ports.js';
import { type Cycle, modelsPerTurn, type PhaseContext } from './cycle.js';
import type { ModelState, PublishedEntry } from './fleet.js';
import { isLimited } from './fleet-limits.js';
import { logDecision } from './log.js';
import { heldPart, joinPlan, type ModelPlan, type StandingDeployment, splitPlan } from './model-plan.js';
import type { Override } from './overrides.js';
import {
  heldReplicas,
  isGoingBack,
  lowestReplicas,
  type PublicationFacts,
  publishPlan,
  RecentlyPublished,
} from './publication.js';
import { publishedState } from './published-state.js';
import type { ReplicaHolds } from './replica-holds.js';
import { stillAskedFor } from './stock-out.js';
import type { DecisionRecord } from './view.js';

/** Where only what is kept is asked for. */
const noneInVain: ReadonlySet<string> = new Set();

/** Phase 7: the parts of all models become one plan, the plan becomes the numbers that are served. */
export class PublishPhase {
  readonly #context: PhaseContext;
  readonly #priceOf: (id: string) => number | null;
  readonly #recent = new RecentlyPublished();
  #plan: Plan | null = null;
  /** What people had fixed in the last cycle, as one text. */
  #fixed: string | null = null;
  #fleetNotices: ReadonlySet<string> = new Set();

  readonly #holds: ReplicaHolds;

  constructor(
    context: PhaseContext,
    { priceOf, holds }: { readonly priceOf: (id: string) => number | null; readonly holds: ReplicaHolds },
  ) {
    this.#context = context;
    this.#priceOf = priceOf;
    this.#holds = holds;
  }

  /** The plan that was published last. */
  get plan(): Plan | null {
    return this.#plan;
  }

  /**
   * Phase 7, publish: from here on the new numbers are served.
   *
   * Held: a held model keeps its numbers; a deployment that is gone has none. Before the first view of the deployments
   * what an earlier process published is all there is, and it stays.
   *
   * Whoever asks sees either all of the old numbers or all of the new ones: nothing waits before they are in place.
   */
  async publish(cycle: Cycle): Promise<void> {
    const { config, fleet, stored, clock, logger } = this.#context;
    if (!cycle.snapshot.synced) {
      this.#holdRestored(cycle);
      return;
    }
    this.#recent.keepOnly(fleet.observed);
    const states = fleet.modelsByName();
    const joined = joinPlan(
      states.map((state) => this.#partOf(state, cycle)),
      {
        at: cycle.at,
        routing: config.options.routing,
        solver: { name: cycle.solver, nodes: cycle.nodes, milliseconds: cycle.planMs },
        notices: cycle.notices,
      },
    );
    const overrides = stored.overrides.active(clock.now());
    const { mode, maxStepsDownPerMinute, maxStepsUpPerMinute } = config.publish;
    const inVain = stillAskedFor(joined, {
      shortages: this.#context.shortages(cycle.nowMs),
      replicasOf: (id) => ({
        ready: fleet.observed.get(id)?.readyReplicas ?? null,
        published: fleet.published.get(id)?.replicas ?? null,
      }),
    });
    const factsOf = (id: string) => this.#factsOf(id, { cycle, override: overrides.get(id), inVain });
    const plan = publishPlan(joined, factsOf, {
      mode,
      // Where models share limits the plan itself falls no faster: what is kept is missing to the others.
      maxStepsDownPerMinute: isLimited(cycle.limits) ? null : maxStepsDownPerMinute,
      maxHeldStepsDownPerMinute: maxStepsDownPerMinute,
      maxStepsUpPerMinute,
      stability: config.stability,
    });
    this.#followRises(plan, cycle.nowMs);
    const decisions = this.#decisions(cycle, states, plan);
    fleet.publish(this.#entriesOf(cycle, plan, overrides));
    this.#plan = plan;
    this.#logFleetNotices(cycle);
    if (maxStepsDownPerMinute !== null || maxStepsUpPerMinute !== null) {
      for (const [id, { replicas }] of fleet.published) {
        if (replicas !== null) this.#recent.add(id, replicas, cycle.nowMs);
      }
    }
    // Where a person fixes what is published anyway, no number changes, and yet there is one to go back to.
    const fixed = [...overrides.values()].map(({ id, replicas }) => `${id} ${replicas}`).join();
    if (decisions.changed || fixed !== this.#fixed) {
      this.#fixed = fixed;
      stored.setPublished(publishedState([...splitPlan(plan, []).values()], (id) => fleet.published.get(id)));
    }
    stored.history.add(decisions.records);
    for (const [index, record] of decisions.records.entries()) {
      if (index % modelsPerTurn === 0) await nextTurn();
      logDecision(logger, record);
    }
  }

  /** A number that a plan raises begins a lifetime. */
  #followRises({ deployments }: Plan, nowMs: number): void {
    const { published } = this.#context.fleet;
    for (const { id, model, replicas } of deployments) {
      const before = published.get(id)?.replicas ?? null;
      if (replicas !== null && before !== null && replicas > before) this.#holds.rose(model, { id, replicas, nowMs });
    }
  }

  /**
   * Replicas that run or were asked for: what is published may not be acted on yet, also where an earlier process
   * published it, or a restart during a scale-up would take back what is on its way. Null = not known.
   */
  runningOf({ id, paused, currentReplicas }: ObservedDeployment): number | null {
    const { config, fleet } = this.#context;
    const published = fleet.published.get(id)?.replicas ?? null;
    if (published === null) return currentReplicas;
    if (config.publish.mode === 'shadow' || paused) return currentReplicas ?? published;
    return Math.max(published, currentReplicas ?? 0);
  }

  /** Of the fleet and of no model; logged when it appears. A stock-out was logged when it was found. */
  #logFleetNotices({ notices }: Cycle): void {
    const before = this.#fleetNotices;
    this.#fleetNotices = new Set(notices.map(({ message }) => message));
    for (const { code, message } of notices) {
      if (code !== 'stock_out' && !before.has(message)) this.#context.logger.warn({ code }, message);
    }
  }

  #holdRestored(cycle: Cycle): void {
    const { fleet } = this.#context;
    const heldReason = cycle.holdAll ?? 'not_synced';
    fleet.publish(new Map([...fleet.published].map(([id, entry]) => [id, { ...entry, heldReason }])));
  }

  /** The fewest replicas of a deployment that may be published now: in live mode a number falls only so fast. */
  lowestReplicasOf(id: string, nowMs: number): number {
    const { config, fleet } = this.#context;
    const { mode, maxStepsDownPerMinute } = config.publish;
    const deployment = fleet.observed.get(id);
    if (mode === 'shadow' || deployment === undefined) return 0;
    return lowestReplicas(
      {
        highestWithinMinute: this.#recent.highest(id, nowMs),
        published: fleet.published.get(id)?.replicas ?? null,
        currentReplicas: deployment.currentReplicas,
      },
      maxStepsDownPerMinute,
    );
  }

  /**
   * At how many replicas each deployment of a model stays while it is not planned, by id; null = not known. In live mode
   * that is what is published; in shadow mode, where nothing is, where its plan was heading.
   */
  standing(state: ModelState, cycle: Cycle): ReadonlyMap<string, number | null> {
    const { config, stored } = this.#context;
    const overrides = stored.overrides.active(cycle.nowMs);
    const targets = new Map(state.planned?.part.deployments.map(({ id, targetReplicas }) => [id, targetReplicas]));
    const standing = new Map<string, number | null>();
    for (const { id, paused, currentReplicas } of state.deployments) {
      const override = overrides.get(id);
      const facts = this.#factsOf(id, { cycle, override });
      if (facts === undefined) continue;
      const heading = targets.get(id) ?? currentReplicas;
      // What is paused runs on whatever was planned for it: where others want its GPUs, that is what counts.
      const isShown = config.publish.mode === 'shadow' || (paused && !isLimited(cycle.limits));
      const reason = cycle.holdAll ?? state.hold ?? 'planning_failed';
      const kept = isShown ? heading : paused ? currentReplicas : this.#heldBySteps(reason, { id, facts, cycle });
      standing.set(id, override?.replicas ?? kept);
    }
    return standing;
  }

  /** What a held deployment keeps; on its way down from what a person fixed, what it still has. */
  #heldBySteps(
    heldReason: string,
    { id, facts, cycle }: { readonly id: string; readonly facts: PublicationFacts; readonly cycle: Cycle },
  ): number | null {
    const replicas = heldReplicas(heldReason, facts);
    if (replicas === null || !isGoingBack(facts)) return replicas;
    return Math.max(replicas, this.lowestReplicasOf(id, cycle.nowMs));
  }

  #partOf(state: ModelState, cycle: Cycle): ModelPlan {
    const followed = state.deployments.filter(({ id }) => this.#context.fleet.observed.has(id));
    const mine = new Set(followed.map(({ id }) => id));
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
      const standing = this.standing(state, cycle);
      const deployments = new Map(
        followed.map(({ id, gpuType, name }): readonly [string, StandingDeployment] => [
          id,
          {
            gpuType: gpuType ?? name,
            replicas: standing.get(id) ?? null,
            usdPerReplicaHour: this.#priceOf(id),
          },
        ]),
      );
      return withNotices(heldPart({ name: state.name, reason: held, last: known, deployments }));
    }
    return withNotices(state.planned.part);
  }

  #factsOf(
    id: string,
    {
      cycle,
      override,
      inVain = noneInVain,
    }: { readonly cycle: Cycle; readonly override: Override | undefined; readonly inVain?: ReadonlySet<string> },
  ): PublicationFacts | undefined {
    const { fleet } = this.#context;
    const deployment = fleet.observed.get(id);
    if (deployment === undefined) return undefined;
    const before = fleet.published.get(id);
    const state = fleet.models.get(deployment.model);
    const built = state?.built?.model.deployments.find((each) => each.id === id);
    const floor = built?.minReplicas ?? 0;
    const wanted = state?.holds?.wanted.get(id) ?? 0;
    return {
      currentReplicas: deployment.currentReplicas,
      paused: deployment.paused,
      usdPerReplicaHour: this.#priceOf(id),
      override:
        override === undefined
          ? null
          : {
              replicas: override.replicas,
              expiresAt: override.expiresAtMs === null ? null : new Date(override.expiresAtMs).toISOString(),
            },
      published: before?.replicas ?? null,
      ownReplicas: before?.ownReplicas ?? null,
      keptReplicas: this.#isPlanned(id, deployment.model) ? null : (before?.plannedReplicas ?? null),
      restored: before?.restored ?? false,
      isUncounted: cycle.limits.uncounted.has(id),
      highestWithinMinute: this.#recent.highest(id, cycle.nowMs),
      lowestWithinMinute: this.#recent.lowest(id, cycle.nowMs),
      hold: state?.holds?.replicas.get(id) ?? null,
      wantedBesideKept: wanted > floor ? wanted : null,
      askedForInVain: inVain.has(id) ? (built?.maxReplicas ?? Number.POSITIVE_INFINITY) : null,
      isWoken: state?.built?.woken === id,
    };
  }

  /** Whether the plan of this cycle chose its replicas: it has a profile and a price, and its model is not held. */
  #isPlanned(id: string, model: string): boolean {
    const state = this.#context.fleet.models.get(model);
    if (state === undefined || state.built === null) return false;
    return state.built.model.deployments.some((deployment) => deployment.id === id && deployment.profile !== null);
  }

  #entriesOf(cycle: Cycle, plan: Plan, overrides: ReadonlyMap<string, Override>): ReadonlyMap<string, PublishedEntry> {
    const models = new Map(plan.models.map((model) => [model.name, model]));
    const { published, observed } = this.#context.fleet;
    const { mode } = this.#context.config.publish;
    return new Map(
      plan.deployments.map(({ id, model, gpuType, replicas, targetReplicas, reason }) => {
        const { status, heldReason, planAt } = models.get(model)!;
        const before = published.get(id);
        const override = overrides.get(id);
        const isFixed = override !== undefined;
        const isShown = mode === 'shadow' || observed.get(id)?.paused === true;
        const facts = heldReason === null || isShown ? undefined : this.#factsOf(id, { cycle, override });
        // A held model that goes back by steps still knows where to.
        const kept = heldReason === null || facts === undefined ? replicas : heldReplicas(heldReason, facts);
        const ownReplicas = isFixed ? (before?.ownReplicas ?? null) : kept;
        // What a person fixed has the say about what runs: no trace of what others did is left.
        const hadFixed = before !== undefined && before.ownReplicas !== before.replicas;
        const restored = heldReason !== null && (before?.restored ?? false) && !isFixed && !hadFixed;
        const isChosen = this.#isPlanned(id, model) && !isFixed;
        const plannedReplicas = isChosen ? replicas : (before?.plannedReplicas ?? null);
        const numbers = { replicas, targetReplicas, ownReplicas, plannedReplicas };
        const at = planAt ?? cycle.at;
        return [id, { model, gpuType, ...numbers, status, heldReason, at, reason, restored }];
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
    const { config, fleet } = this.#context;
    const shadow = config.publish.mode === 'shadow';
    const changesOf = new Map<string, DecisionRecord['changes'][number][]>();
    let changed = false;
    for (const { id, model, replicas, targetReplicas, reason } of plan.deployments) {
      const before = fleet.published.get(id);
      if (before?.replicas !== replicas || before?.targetReplicas !== targetReplicas) changed = true;
      const silent = shadow || fleet.observed.get(id)?.paused === true;
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
    return { records, changed: changed || records.length > 0 || fleet.published.size !== plan.deployments.length };
  }
}
