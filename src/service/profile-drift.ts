import { createHash } from 'node:crypto';
import { z } from 'zod';
import {
  type EngineLatency,
  type EngineMetrics,
  type EngineReading,
  engineLatencies,
  type ObservedDeployment,
  Unavailable,
} from '../core/ports.js';
import type { GpuProfile } from '../core/profile.js';
import { type EngineObservation, EngineWindow } from '../profiling/engine-window.js';
import {
  compareWithProfile,
  type DriftReading,
  expectationOf,
  followBounds,
  isRecent,
  nextFactor,
  type ProfileExpectation,
  type SlownessEstimate,
  scaledProfile,
} from '../profiling/profile-drift.js';
import { type Cycle, type PhaseContext, sentence } from './cycle.js';
import type { KnownProfile } from './known-profiles.js';
import type { StoredState } from './stored-state.js';
import type { ProfileDriftView } from './view.js';

/**
 * What the engines tell, beside the profiles that plans believe; and, where it is switched on, the correction of those
 * profiles.
 *
 * Engines are read beside the cycles: a reading that is asked for after one is used by the next, so a server that hangs
 * delays no plan. All that it can do is to say nothing. Nothing of this is needed for a plan.
 */

/** What is remembered of the correction of one deployment, in the shared store. */
export const profileCorrectionsSchema = z.array(
  z.object({
    deployment: z.string(),
    profile: z.string(),
    factor: z.number().gt(0),
    estimates: z.partialRecord(
      z.enum(engineLatencies),
      z.object({ slowness: z.number().gt(0), evidenceAtMs: z.number() }),
    ),
  }),
);
export type ProfileCorrections = z.output<typeof profileCorrectionsSchema>;

/** Engines are not asked more often than this, however short the cycle [ms]. */
const leastBetweenReadingsMs = 9_000;

/** After a pause no estimate or factor may move further than over this [s]. */
const longestStepSeconds = 60;

type State = {
  /** Stands for the numbers of the profile that all of this is about. */
  readonly profileDigest: string;
  readonly expectation: ProfileExpectation;
  readonly window: EngineWindow;
  readonly estimates: Map<EngineLatency, SlownessEstimate>;
  factor: number;
  lookedAtMs: number;
  observation: EngineObservation | null;
  reading: DriftReading | null;
  /** The profile as it was last scaled. */
  scaled: { readonly of: GpuProfile; readonly factor: number; readonly profile: GpuProfile } | null;
};

type Options = Pick<PhaseContext, 'config' | 'inputs' | 'logger'> & {
  readonly engineMetrics: EngineMetrics | null;
  readonly stored: StoredState;
};

export class ProfileDrift {
  readonly #options: Options;
  readonly #byId = new Map<string, State>();
  readonly #digests = new WeakMap<GpuProfile, string>();
  #finished: EngineReading | Unavailable | null = null;
  #isReading = false;
  /** Whether what an earlier process had corrected was taken up, which needs the store. */
  #isResumed = false;
  #startedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Asks the engines; what they say is used by the next `observe`. Never rejects, never waits. */
  startReading(deployments: readonly ObservedDeployment[], nowMs: number): void {
    const { engineMetrics, logger } = this.#options;
    const isEarly = nowMs - this.#startedAtMs < leastBetweenReadingsMs && nowMs >= this.#startedAtMs;
    if (engineMetrics === null || this.#isReading || isEarly || deployments.length === 0) return;
    this.#isReading = true;
    this.#startedAtMs = nowMs;
    engineMetrics
      .read(deployments)
      .then(
        (reading) => {
          this.#finished = reading;
        },
        (error) => {
          if (!(error instanceof Unavailable)) logger.error({ err: error }, `engines: ${sentence(error)}`);
          this.#finished = error instanceof Unavailable ? error : new Unavailable('internal', sentence(error));
        },
      )
      .finally(() => {
        this.#isReading = false;
      });
  }

  /**
   * Takes what the engines said since the last cycle, and decides the factors of this one.
   *
   * @param profileOf the profiles as they are
   */
  observe(
    cycle: Cycle,
    observed: ReadonlyMap<string, ObservedDeployment>,
    profileOf: (deployment: ObservedDeployment) => KnownProfile,
  ): void {
    const { engineMetrics, stored } = this.#options;
    if (!this.#isOn && stored.profileCorrections.length > 0) stored.setProfileCorrections([], cycle.nowMs);
    if (engineMetrics === null) return;
    const { nowMs } = cycle;
    if (this.#isOn && stored.restored) this.#resume();
    const reading = this.#takeReading(cycle);
    const samples = new Map<string, EngineReading['samples'][number][]>();
    for (const sample of reading?.samples ?? []) {
      const ofDeployment = samples.get(sample.deployment);
      if (ofDeployment === undefined) samples.set(sample.deployment, [sample]);
      else ofDeployment.push(sample);
    }
    for (const deployment of observed.values()) {
      const known = profileOf(deployment);
      if (known.kind !== 'known') continue;
      const state = this.#stateOf(deployment, known.profile, nowMs);
      state.window.add(samples.get(deployment.id) ?? [], nowMs);
      this.#look(deployment.id, state, nowMs);
    }
    const isComplete = cycle.snapshot.synced && cycle.snapshot.staleSince === null;
    const isGone = (id: string) => isComplete && !observed.has(id);
    for (const id of this.#byId.keys()) if (isGone(id)) this.#byId.delete(id);
    if (this.#isOn && stored.restored) stored.setProfileCorrections(this.#toStore(isGone), nowMs);
  }

  /** What was seen while the store could not be read yields to what an earlier process had found over a longer time. */
  #resume(): void {
    if (this.#isResumed) return;
    this.#isResumed = true;
    for (const { deployment, profile } of this.#options.stored.profileCorrections) {
      if (this.#byId.get(deployment)?.profileDigest === profile) this.#byId.delete(deployment);
    }
  }

  get #isOn(): boolean {
    return this.#options.config.profiles.correction.enabled;
  }

  #takeReading(cycle: Cycle): EngineReading | null {
    const { inputs } = this.#options;
    const finished = this.#finished;
    this.#finished = null;
    if (finished === null) return null;
    if (finished instanceof Unavailable) {
      inputs.failed('engines', finished.message);
      cycle.errors.push({ input: 'engines', code: finished.code });
      return null;
    }
    for (const _ of finished.problems) cycle.errors.push({ input: 'engines', code: 'engine_unreadable' });
    inputs.read('engines', cycle.nowMs, finished.problems.length === 0 ? null : finished.problems.join('; '));
    return finished;
  }

  /** Another profile is another beginning: what was seen is about the one before. */
  #stateOf({ id }: ObservedDeployment, profile: GpuProfile, nowMs: number): State {
    const digest = this.#digestOf(profile);
    const before = this.#byId.get(id);
    if (before?.profileDigest === digest) return before;
    const saved = this.#isOn
      ? this.#options.stored.profileCorrections.find(
          (correction) => correction.deployment === id && correction.profile === digest,
        )
      : undefined;
    const state: State = {
      profileDigest: digest,
      expectation: expectationOf(profile),
      window: new EngineWindow(),
      estimates: new Map(
        engineLatencies.flatMap((name) => {
          const estimate = saved?.estimates[name];
          return estimate === undefined ? [] : [[name, estimate] as const];
        }),
      ),
      factor: saved?.factor ?? 1,
      lookedAtMs: nowMs,
      observation: null,
      reading: null,
      scaled: null,
    };
    if (before !== undefined && applied(before.factor) !== 1) {
      this.#options.logger.info({ deployment: id }, `${id}: it has another profile, which is not corrected yet`);
    }
    this.#byId.set(id, state);
    return state;
  }

  #digestOf(profile: GpuProfile): string {
    const known = this.#digests.get(profile);
    if (known !== undefined) return known;
    const { grid, ttft, tpot, e2e } = profile;
    const numbers = JSON.stringify([grid.indexes, grid.tputs, ttft, tpot, e2e]);
    const digest = createHash('sha256').update(numbers).digest('base64').slice(0, 16);
    this.#digests.set(profile, digest);
    return digest;
  }

  #look(id: string, state: State, nowMs: number): void {
    const { config, logger } = this.#options;
    const observation = state.window.observation(nowMs);
    const seen = state.observation;
    if (observation !== null && (seen === null || observation.toMs > seen.toMs)) {
      const sinceMs = observation.toMs - (seen?.toMs ?? observation.fromMs);
      const elapsedSeconds = Math.min(longestStepSeconds, sinceMs / 1000);
      state.reading = compareWithProfile(observation, state.expectation);
      for (const comparison of state.reading.comparisons) {
        const before = state.estimates.get(comparison.latency) ?? null;
        const estimate = followBounds(before, comparison, { nowMs, elapsedSeconds });
        if (estimate !== null) state.estimates.set(comparison.latency, estimate);
      }
    }
    state.observation = observation;
    const elapsedSeconds = Math.min(longestStepSeconds, Math.max(0, (nowMs - state.lookedAtMs) / 1000));
    state.lookedAtMs = nowMs;
    if (!this.#isOn) return;
    const before = applied(state.factor);
    state.factor = nextFactor(state.factor, {
      estimates: [...state.estimates.values()],
      nowMs,
      elapsedSeconds,
      limits: config.profiles.correction,
    });
    // Each factor is told by the warning of its plan, which is logged when it changes; that there is none is not.
    if (before !== 1 && applied(state.factor) === 1) {
      logger.info({ deployment: id }, `${id}: its profile counts as it is again`);
    }
  }

  /** Of a deployment or profile that was not read since the start, what was stored stays: nobody said that it is over. */
  #toStore(isGone: (id: string) => boolean): ProfileCorrections {
    const unread = this.#options.stored.profileCorrections.filter(
      ({ deployment }) => !this.#byId.has(deployment) && !isGone(deployment),
    );
    const known = [...this.#byId].flatMap(([deployment, { profileDigest, factor, estimates }]) =>
      applied(factor) === 1
        ? []
        : [{ deployment, profile: profileDigest, factor, estimates: Object.fromEntries(estimates) }],
    );
    return [...unread, ...known].sort((a, b) => (a.deployment < b.deployment ? -1 : 1));
  }

  /** The profile that plans use: the known one, or the same times the factor that was found. */
  correct(id: string, known: KnownProfile): KnownProfile {
    const state = this.#byId.get(id);
    if (!this.#isOn || known.kind !== 'known' || state === undefined) return known;
    const factor = applied(state.factor);
    const isAnother = state.profileDigest !== this.#digestOf(known.profile);
    if (factor === 1 || isAnother) return known;
    if (state.scaled?.of !== known.profile || state.scaled.factor !== factor) {
      state.scaled = { of: known.profile, factor, profile: scaledProfile(known.profile, factor) };
    }
    return { ...known, profile: state.scaled.profile, correctionFactor: factor };
  }

  /** What there is to say of one deployment; null where nobody asks its engines, or it has no profile. */
  viewOf(id: string, nowMs: number): ProfileDriftView | null {
    const state = this.#byId.get(id);
    if (state === undefined) return null;
    const { observation, reading } = state;
    const current = observation === null ? null : reading;
    const compared = new Map(current?.comparisons.map((comparison) => [comparison.latency, comparison]));
    return {
      correctionFactor: this.#isOn ? applied(state.factor) : null,
      loadRatio: current?.loadRatio ?? null,
      requests: observation?.requests ?? null,
      observedAt: observation === null ? null : new Date(observation.toMs).toISOString(),
      latencies: engineLatencies.flatMap((latency) => {
        const comparison = compared.get(latency);
        const estimate = state.estimates.get(latency);
        const driftRatio = estimate !== undefined && isRecent(estimate, nowMs) ? estimate.slowness : null;
        if (comparison === undefined && driftRatio === null) return [];
        const { observedSeconds = null, profileSeconds = null, low = null, high = null } = comparison ?? {};
        return [{ latency, observedSeconds, profileSeconds, lowestRatio: low, highestRatio: high, driftRatio }];
      }),
      nothingBecause: observation === null ? tooFew : (current?.nothingBecause ?? null),
    };
  }
}

const tooFew = 'its engines have told too few requests of the last half hour';

/** Factors are applied in hundredths: plans and their warnings change no more often than that. */
function applied(factor: number): number {
  return Math.round(factor * 100) / 100;
}
