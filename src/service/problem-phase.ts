import { setImmediate as nextTurn } from 'node:timers/promises';
import type { PlanNotice } from '../core/plan.js';
import type { PlanningProblem, ProblemModel } from '../core/planning-problem.js';
import { type ObservedDeployment, Unavailable } from '../core/ports.js';
import { clusterPools } from './cluster-pools.js';
import { type Config, modelConfig } from './config.js';
import { type Cycle, holdModel, modelsPerTurn, type PhaseContext } from './cycle.js';
import type { Fleet, ModelState } from './fleet.js';
import { type FleetLimits, fleetLimits, gpusAllowed, isLimited } from './fleet-limits.js';
import { KnownProfiles } from './known-profiles.js';
import type { MoveHorizon } from './move-horizon.js';
import { buildModelProblem } from './problem.js';
import type { ProfileDrift } from './profile-drift.js';
import { pooledModel, ReplicaPools } from './replica-pools.js';
import { SurplusPlanning } from './surplus-planning.js';

/** Phase 5: one problem for each model that can be planned, from its demand, deployments, profiles and prices. */
export class ProblemPhase {
  readonly #context: PhaseContext;
  readonly #lowestReplicasOf: (id: string, nowMs: number) => number;
  readonly #drift: ProfileDrift;
  readonly #moves: MoveHorizon;
  readonly #profiles = new KnownProfiles();
  readonly #pools = new ReplicaPools();
  readonly #surplus = new SurplusPlanning();
  readonly #prices = new Map<string, number | null>();
  readonly #loggedNotices = new Map<string, string>();
  #seenGpus: FleetLimits['seenGpus'] = new Map();

  /** @param options.lowestReplicasOf the fewest replicas of a deployment that may be published at a moment */
  constructor(
    context: PhaseContext,
    options: {
      readonly lowestReplicasOf: (id: string, nowMs: number) => number;
      readonly drift: ProfileDrift;
      readonly moves: MoveHorizon;
    },
  ) {
    this.#context = context;
    this.#lowestReplicasOf = options.lowestReplicasOf;
    this.#drift = options.drift;
    this.#moves = options.moves;
  }

  /** USD per replica-hour; null = not known. */
  price(id: string): number | null {
    return this.#prices.get(id) ?? null;
  }

  /**
   * Phase 5, problem. While the profiles cannot be read the last good ones serve.
   *
   * Held: a model with a deployment whose profile was never read (`redis_unreachable`), and one without any usable
   * deployment (`no_profile`).
   */
  async build(cycle: Cycle): Promise<void> {
    const { fleet, stored, config, catalogue, modelCatalogue, shortages, startupTimes } = this.#context;
    const { consumers, gpuNodes = null } = this.#context;
    this.#forgetWhatIsGone();
    const deployments = fleet.observed.values();
    const limits = fleetLimits({
      config,
      catalogue,
      deployments,
      cluster: gpuNodes === null ? null : clusterPools(gpuNodes.snapshot(), fleet.observed),
      shortages: shortages(cycle.nowMs),
      seenGpus: this.#seenGpus,
    });
    cycle.limits = {
      ...limits,
      notices: [...limits.notices, ...unreadConsumers(consumers?.snapshot().problems ?? [])],
    };
    this.#seenGpus = cycle.limits.seenGpus;
    cycle.notices = cycle.limits.notices;
    if (fleet.models.size > 0 || cycle.snapshot.synced) await this.#readAllProfiles(cycle);
    this.#drift.observe(cycle, fleet.observed, ({ id, model }) => this.#profiles.get(id, model));
    const fixedReplicas = stored.overrides.active(cycle.nowMs);
    const shared = isLimited(cycle.limits)
      ? {
          lowestReplicasOf: (id: string) => this.#lowestReplicasOf(id, cycle.nowMs),
          gpusAllowed: gpusAllowed(cycle.limits),
        }
      : null;
    const secondsOf = (deployment: ObservedDeployment) => Math.round(startupTimes().secondsOf(deployment));
    this.#moves.keepOnly(fleet.models);
    this.#pools.keepOnly(fleet.models);
    this.#surplus.keepOnly(fleet.models);
    // Models that share limits are planned once: half of what runs is what they can be counted on to have.
    const certainShare = shared === null ? 1 : 0.5;
    let done = 0;
    for (const state of fleet.models.values()) {
      if (done++ % modelsPerTurn === 0) await nextTurn();
      try {
        const profileOf = ({ id, model }: ObservedDeployment) => this.#drift.correct(id, this.#profiles.get(id, model));
        const traits = this.#pools.traitsOf(state.name, {
          deployments: state.deployments,
          // Engines that are slower serve fewer requests in as much more time: a full replica holds as many.
          profileOf: ({ id, model }) => this.#profiles.get(id, model),
          demand: state.planDemand,
          nowMs: cycle.nowMs,
        });
        const surplusNotices = this.#surplus.plan(state, {
          traits,
          readyReplicasOf: (id) => fleet.readyReplicas(id),
          nowMs: cycle.nowMs,
        });
        state.fullInFlight = new Map([...traits].map(([id, { inFlight }]) => [id, inFlight]));
        state.pools = config.profiles.pooling === 'least-request' ? traits : new Map();
        const built = buildModelProblem({
          name: state.name,
          deployments: state.deployments,
          profileOf,
          demand: state.planDemand,
          fixedReplicas,
          readyReplicasOf: (id) => fleet.readyReplicas(id),
          plannedReplicasOf: (id) => fleet.published.get(id)?.plannedReplicas ?? null,
          previousShares: previousShares(state),
          starts:
            config.options.startUsdPerReplica === null
              ? { secondsOf, weight: this.#startWeight(state, cycle.nowMs) }
              : null,
          wakes: wakes(state, { fleet, isExpected: this.#isExpected(state, cycle.nowMs) }),
          shared,
          settings: modelConfig(config, state.name),
          catalogue,
          modelCatalogue,
        });
        state.notices = [...built.notices, ...surplusNotices];
        for (const [id, price] of built.prices) this.#prices.set(id, price);
        const unread = state.deployments.some(({ id, model }) => this.#profiles.get(id, model).kind === 'unread');
        if (unread) state.hold ??= 'redis_unreachable';
        else if (built.usableDeployments === 0) state.hold ??= 'no_profile';
        // Whoever waits for lengths, completions or engines waits for ever where no replica runs that could tell of any.
        if (built.woken !== null && waitsForReplicas(state.hold)) state.hold = null;
        if (state.hold === null && cycle.holdAll === null) {
          const runs = (id: string) =>
            fleet.published.get(id)?.replicas ?? fleet.observed.get(id)?.currentReplicas ?? 1;
          const model = pooledModel(built.model, state.pools, (id) => Math.ceil(certainShare * runs(id)));
          state.built = { ...built, notices: state.notices, model };
        }
      } catch (error) {
        holdModel(state, this.#context, error);
      }
    }
  }

  /** Whether the calendar has an event that brings a model requests before a replica that is asked for now would serve. */
  #isExpected({ name, demand }: ModelState, nowMs: number): boolean {
    if (demand === null || demand.forecastRps === 0) return false;
    const untilMs = nowMs + demand.forecast.horizonSeconds * 1000;
    return this.#context.calendar.events(name, nowMs, untilMs).length > 0;
  }

  /** How many times a start counts, so that it is earned back while the mix is expected to last. */
  #startWeight({ name }: ModelState, nowMs: number): number {
    const longestSeconds = this.#context.config.options.horizonHours * 3600;
    return Math.max(1, longestSeconds / this.#moves.secondsOf(name, nowMs));
  }

  /**
   * Reads the profiles of some deployments now.
   *
   * @returns why some could not be used, a sentence each
   * @throws Unavailable
   */
  async readProfiles(deployments: readonly ObservedDeployment[]): Promise<readonly string[]> {
    const { profiles, config, stored } = this.#context;
    const readings = await profiles.read(deployments.map(({ id, model, name }) => ({ id, model, deployment: name })));
    const epoch = config.profiles.source === 'redis' ? (stored.runId ?? '') : '';
    const bad: string[] = [];
    deployments.forEach(({ id, model }, index) => {
      const reading = readings[index]!;
      if (reading.kind === 'bad') bad.push(reading.error.message);
      this.#profiles.update({ id, model, reading, epoch });
    });
    return bad;
  }

  async #readAllProfiles(cycle: Cycle): Promise<void> {
    const { fleet, inputs } = this.#context;
    try {
      const bad = await this.readProfiles([...fleet.observed.values()]);
      for (const _ of bad) cycle.errors.push({ input: 'profiles', code: 'bad_profile' });
      inputs.read('profiles', cycle.nowMs, badProfiles(bad));
      cycle.read.add('profiles');
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      inputs.failed('profiles', error.message);
      cycle.errors.push({ input: 'profiles', code: error.code });
    }
  }

  /** Once a cycle, when all notices are there: a warning is logged when it appears, not in each of the cycles that repeat it. */
  logNotices(state: ModelState): void {
    const now = state.notices.map((notice) => notice.message).join('\n');
    const before = this.#loggedNotices.get(state.name) ?? '';
    if (now === before) return;
    this.#loggedNotices.set(state.name, now);
    const known = new Set(before.split('\n'));
    for (const { code, message } of state.notices) {
      if (!known.has(message)) this.#context.logger.warn({ model: state.name, code }, message);
    }
  }

  #forgetWhatIsGone(): void {
    const { fleet } = this.#context;
    this.#profiles.keepOnly(fleet.observed);
    for (const id of this.#prices.keys()) if (!fleet.observed.has(id)) this.#prices.delete(id);
    for (const name of this.#loggedNotices.keys()) if (!fleet.models.has(name)) this.#loggedNotices.delete(name);
  }
}

/** Not one of the service's inputs: what was known of them still holds, and a plan without them is one without bounds. */
function unreadConsumers(problems: readonly string[]): readonly PlanNotice[] {
  return problems.slice(0, 3).map((problem) => ({
    code: 'consumers_unread',
    message: `objects that scale deployments cannot be read, what was known of their limits holds: ${problem}`,
  }));
}

/** Holds that end with the next completed request. */
function waitsForWork(hold: ModelState['hold']): boolean {
  return hold === 'no_lengths' || hold === 'requests_pending';
}

/** Holds that a running replica ends: engines that are read tell whether anything arrives. */
function waitsForReplicas(hold: ModelState['hold']): boolean {
  return hold === 'no_traces' || waitsForWork(hold);
}

/**
 * Whether requests wait (or a calendar expects them) that no plan has room for, because no length is known, or nothing is
 * where Prometheus watches engines and none runs: then one replica is started, which will tell. Not where something runs,
 * or might.
 */
function wakes(
  state: ModelState,
  { fleet, isExpected }: { readonly fleet: Fleet; readonly isExpected: boolean },
): boolean {
  const { demand, hold, planDemand, deployments } = state;
  if (demand === null || !(demand.pendingRequests > 0 || demand.rps > 0 || demand.forecastRps > 0)) return false;
  if (hold === null) return planDemand.every(({ rps }) => rps === 0);
  const isAsleep = deployments.every(({ id, currentReplicas }) => {
    const published = fleet.published.get(id)?.replicas ?? 0;
    return currentReplicas === 0 && published === 0;
  });
  return isAsleep && (waitsForWork(hold) || (hold === 'no_traces' && isExpected));
}

/** Longest reason that `/readyz` repeats, in characters: a profile can be wrong in many places. */
const shownReason = 300;

function badProfiles(reasons: readonly string[]): string | null {
  const [first] = reasons;
  if (first === undefined) return null;
  const line = first.replaceAll('\n', '; ');
  const shown = line.length > shownReason ? `${line.slice(0, shownReason)}…` : line;
  return `${reasons.length} ${reasons.length === 1 ? 'profile' : 'profiles'} cannot be used: ${shown}`;
}

/** Some models' problems as one document. */
export function problemOf(
  models: readonly ProblemModel[],
  {
    config,
    limits,
    at,
  }: {
    readonly config: Pick<Config, 'options'>;
    readonly limits: Pick<FleetLimits, 'pools' | 'quotas' | 'budgetUsdPerHour'>;
    readonly at: string | undefined;
  },
): PlanningProblem {
  const { pools, quotas, budgetUsdPerHour } = limits;
  return {
    apiVersion: 'gpumix/v1',
    kind: 'PlanningProblem',
    ...(at === undefined ? {} : { at }),
    models,
    pools,
    quotas,
    budgetUsdPerHour,
    // Without a common price of a start every deployment has its own.
    options: { ...config.options, startUsdPerReplica: config.options.startUsdPerReplica ?? 0 },
  };
}

/** Shares of the plan in force, which the next plan stays near. */
function previousShares(state: ModelState): ProblemModel['previousShares'] {
  return (state.planned?.part.shares ?? [])
    .filter((bucket) => bucket.to.length > 0)
    .map(({ inputTokens, outputTokens, to }) => ({ inputTokens, outputTokens, to }));
}
