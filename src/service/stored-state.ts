import { z } from 'zod';
import { type SharedStore, Unavailable } from '../core/ports.js';
import type { FleetSilence } from '../demand/fleet-silence.js';
import type { TraceMemory } from '../demand/window.js';
import { sentence } from './cycle.js';
import { DecisionHistory } from './history.js';
import type { Logger } from './log.js';
import { Overrides } from './overrides.js';
import { type ProfileCorrections, profileCorrectionsSchema } from './profile-drift.js';
import { type PublishedState, publishedStateSchema } from './published-state.js';
import { type SavedHolds, savedHoldsSchema } from './replica-holds.js';
import { type StartupTimesState, startupTimesSchema } from './startup-times.js';
import { type StockOutState, stockOutStateSchema } from './stock-out.js';
import { firstItems, isDue, StoredDocument } from './stored-document.js';
import { StoredForecasts } from './stored-forecasts.js';

/** Keys live 10 minutes, so what silence means is known well enough when it is saved once in as many seconds. */
const saveTracesSeconds = 60;

/** Corrections move slowly: a restart loses no more of them than it takes as many seconds to find again. */
const saveCorrectionsSeconds = 60;

/** Start-ups take minutes: how long replicas have waited is known well enough when it is saved once in as many seconds. */
const saveSuppliesSeconds = 60;

/** What was planned lately counts for minutes: a crash forgets no more of it than as many seconds. */
const saveHoldsSeconds = 30;

const tracesSchema = z.array(
  z.object({
    model: z.string(),
    runId: z.string(),
    firstTraceSeconds: z.number(),
    newestTraceSeconds: z.number(),
    pending: z.number(),
    busy: z.boolean().optional(),
  }),
);
export type SavedTraces = readonly (TraceMemory & { readonly model: string })[];

const silencesSchema = z.array(
  z.object({
    afterSeconds: z.number(),
    beforeSeconds: z.number().nullable(),
    models: z.array(z.string()),
  }),
);

/**
 * All that outlives the process, in the shared store: what people fixed and unfollowed, what was published last and what
 * was decided, and which models were ever traced and when all of them fell silent.
 *
 * It acts from memory. `restore` reads the store until it has succeeded once; `flush` writes what changed, and what could
 * not be written is written by a later one.
 */
export class StoredState {
  readonly overrides: Overrides;
  readonly history: DecisionHistory;
  /** What forecasters remember; written apart, since it is much. */
  readonly forecasts: StoredForecasts;
  readonly #logger: Pick<Logger, 'warn' | 'error'>;
  readonly #unfollowed: StoredDocument<readonly string[]>;
  readonly #published: StoredDocument<PublishedState>;
  readonly #traces: StoredDocument<SavedTraces>;
  readonly #silences: StoredDocument<readonly FleetSilence[]>;
  readonly #stockOuts: StoredDocument<StockOutState>;
  readonly #profileCorrections: StoredDocument<ProfileCorrections>;
  readonly #startupTimes: StoredDocument<StartupTimesState>;
  readonly #holds: StoredDocument<SavedHolds>;
  #runId: string | null = null;
  #restored = false;
  #flushing: Promise<unknown> = Promise.resolve();
  #tracesSavedMs = Number.NEGATIVE_INFINITY;
  #suppliesSavedMs = Number.NEGATIVE_INFINITY;
  #correctionsSavedMs = Number.NEGATIVE_INFINITY;
  #startupsSavedMs = Number.NEGATIVE_INFINITY;
  #holdsSavedMs = Number.NEGATIVE_INFINITY;

  constructor(options: {
    readonly store: SharedStore;
    readonly keptDecisions: number;
    readonly logger: Pick<Logger, 'warn' | 'error'>;
  }) {
    const { store, keptDecisions, logger } = options;
    this.#logger = logger;
    this.overrides = new Overrides(store);
    this.history = new DecisionHistory(store, keptDecisions);
    this.forecasts = new StoredForecasts({ store, logger });
    this.#startupTimes = new StoredDocument<StartupTimesState>({
      store,
      name: 'startup_times',
      schema: startupTimesSchema,
      initial: [],
      merge: (stored) => stored,
      firstOf: firstItems,
    });
    this.#unfollowed = new StoredDocument<readonly string[]>({
      store,
      name: 'unfollowed',
      schema: z.array(z.string()),
      initial: [],
      merge: (stored, here) => [...new Set([...stored, ...here])],
      firstOf: firstItems,
    });
    this.#published = new StoredDocument<PublishedState>({
      store,
      name: 'published',
      schema: publishedStateSchema,
      initial: { models: [] },
      merge: (stored) => stored,
      firstOf: ({ models }, share) => ({ models: firstItems(models, share) }),
    });
    this.#traces = new StoredDocument<SavedTraces>({
      store,
      name: 'traces',
      schema: tracesSchema,
      initial: [],
      merge: (stored) => stored,
      firstOf: firstItems,
    });
    this.#silences = new StoredDocument<readonly FleetSilence[]>({
      store,
      name: 'silences',
      schema: silencesSchema,
      initial: [],
      merge: (stored) => stored,
      firstOf: firstItems,
    });
    this.#stockOuts = new StoredDocument<StockOutState>({
      store,
      name: 'stock_outs',
      schema: stockOutStateSchema,
      initial: { supplies: [], marks: [] },
      merge: (stored) => stored,
      // Who waits is seen again; which types are short is not.
      firstOf: ({ marks, supplies }, share) => ({ marks, supplies: firstItems(supplies, share) }),
    });
    this.#profileCorrections = new StoredDocument<ProfileCorrections>({
      store,
      name: 'profile_corrections',
      schema: profileCorrectionsSchema,
      initial: [],
      merge: (stored) => stored,
      firstOf: firstItems,
    });
    this.#holds = new StoredDocument<SavedHolds>({
      store,
      name: 'holds',
      schema: savedHoldsSchema,
      initial: [],
      merge: (stored) => stored,
      firstOf: firstItems,
    });
  }

  /** Whether the store was read once: before that nobody knows what an earlier process left there. */
  get restored(): boolean {
    return this.#restored;
  }

  /** Which store answered last; null = none yet. */
  get runId(): string | null {
    return this.#runId;
  }

  /** Deployments that people left out of every plan. */
  get unfollowed(): readonly string[] {
    return this.#unfollowed.value;
  }

  setUnfollowed(ids: readonly string[]): void {
    this.#unfollowed.set(ids);
  }

  /** What was published last, by this process or an earlier one. */
  get published(): PublishedState {
    return this.#published.value;
  }

  setPublished(state: PublishedState): void {
    this.#published.set(state);
  }

  /** What an earlier process remembered of the traces of each model. */
  get traces(): SavedTraces {
    return this.#traces.value;
  }

  /** When the whole fleet fell silent, as `followFleetSilences` tells it. */
  get silences(): readonly FleetSilence[] {
    return this.#silences.value;
  }

  setSilences(silences: readonly FleetSilence[]): void {
    this.#silences.set(silences);
  }

  /** Which GPU types could not be had, and who waits since when, as `StockOutWatch` tells it. */
  get stockOuts(): StockOutState {
    return this.#stockOuts.value;
  }

  /** Saved at once where another type is short, or for another time; who waits is saved now and then. */
  setStockOuts(state: StockOutState, nowMs: number): void {
    const before = this.#stockOuts.value;
    const isTime = isDue(this.#suppliesSavedMs, { nowMs, everySeconds: saveSuppliesSeconds });
    const isAnotherMark = JSON.stringify(state.marks) !== JSON.stringify(before.marks);
    if (!isAnotherMark && !(isTime && JSON.stringify(state.supplies) !== JSON.stringify(before.supplies))) return;
    this.#suppliesSavedMs = nowMs;
    this.#stockOuts.set(state);
  }

  /** How long replicas took to start, as `StartupTimes` tells it. */
  get startupTimes(): StartupTimesState {
    return this.#startupTimes.value;
  }

  /** Saved now and then: starts take minutes. */
  setStartupTimes(state: StartupTimesState, nowMs: number): void {
    if (!isDue(this.#startupsSavedMs, { nowMs, everySeconds: saveSuppliesSeconds })) return;
    if (JSON.stringify(state) === JSON.stringify(this.#startupTimes.value)) return;
    this.#startupsSavedMs = nowMs;
    this.#startupTimes.set(state);
  }

  /** By what profiles are multiplied, as `ProfileDrift` tells it. */
  get profileCorrections(): ProfileCorrections {
    return this.#profileCorrections.value;
  }

  /** Saved at once where another profile is corrected, or none any more; how far is saved now and then. */
  setProfileCorrections(corrections: ProfileCorrections, nowMs: number): void {
    const before = this.#profileCorrections.value;
    const idsOf = (some: ProfileCorrections) =>
      some.map(({ deployment, profile }) => `${deployment} ${profile}`).join();
    const isTime = isDue(this.#correctionsSavedMs, { nowMs, everySeconds: saveCorrectionsSeconds });
    const isAnother = idsOf(before) !== idsOf(corrections);
    if (!isAnother && !(isTime && JSON.stringify(before) !== JSON.stringify(corrections))) return;
    this.#correctionsSavedMs = nowMs;
    this.#profileCorrections.set(corrections);
  }

  /** What was planned lately, as `ReplicaHolds` tells it. */
  get holds(): SavedHolds {
    return this.#holds.value;
  }

  /** Saved now and then, or at once where it is the last time. */
  setHolds(holds: SavedHolds, { nowMs, isLast }: { readonly nowMs: number; readonly isLast: boolean }): void {
    if (!isLast && !isDue(this.#holdsSavedMs, { nowMs, everySeconds: saveHoldsSeconds })) return;
    if (holds.length === 0 && this.#holds.value.length === 0) return;
    this.#holdsSavedMs = nowMs;
    this.#holds.set(holds);
  }

  /**
   * Reads the store, until that has succeeded once.
   *
   * @returns whether this call was the one that did
   * @throws Unavailable; the next call tries again
   */
  async restore(): Promise<boolean> {
    if (this.#restored) return false;
    const problems = [
      await this.overrides.restore(),
      await this.#unfollowed.restore(),
      await this.#published.restore(),
      await this.#traces.restore(),
      await this.#silences.restore(),
      await this.#stockOuts.restore(),
      await this.#profileCorrections.restore(),
      await this.#startupTimes.restore(),
      await this.#holds.restore(),
      await this.history.restore(),
    ];
    for (const problem of problems) if (problem !== null) this.#logger.warn({ problem }, problem);
    this.#restored = true;
    return true;
  }

  /**
   * Another store than before (restarted, replaced or emptied): what it may have lost is written again. Not so what was
   * remembered of traces: they are gone, and silence means nothing until new ones come.
   */
  sawStore(runId: string): void {
    const isAnother = this.#runId !== null && this.#runId !== runId;
    this.#runId = runId;
    if (!isAnother) return;
    this.#logger.warn({}, 'the store is another one than before, or was emptied: gpumix writes its state again');
    this.overrides.storeWasReplaced();
    this.#unfollowed.storeWasReplaced();
    this.#published.storeWasReplaced();
    this.#traces.set([]);
    this.#silences.storeWasReplaced();
    this.#stockOuts.storeWasReplaced();
    this.#profileCorrections.storeWasReplaced();
    this.#startupTimes.storeWasReplaced();
    this.forecasts.storeWasReplaced();
    this.#holds.storeWasReplaced();
    this.history.storeWasReplaced();
  }

  /**
   * Writes what must outlive the process.
   *
   * @param traces what is remembered of the models now; saved now and then, or at once where `isLast`
   * @returns null, or the code of what went wrong: everything then stays in memory for a later call
   */
  flush(now: {
    readonly nowMs: number;
    readonly traces: SavedTraces;
    readonly isLast: boolean;
  }): Promise<string | null> {
    // One at a time: two writers of the same list would write an entry twice.
    const flushed = this.#flushing.then(() => this.#flush(now));
    this.#flushing = flushed;
    return flushed;
  }

  async #flush(now: Parameters<StoredState['flush']>[0]): Promise<string | null> {
    if (!this.#restored) return null;
    const { nowMs, traces, isLast } = now;
    const isTime = isLast || isDue(this.#tracesSavedMs, { nowMs, everySeconds: saveTracesSeconds });
    if (traces.length > 0 && (isTime || traces.length > this.#traces.value.length)) {
      this.#tracesSavedMs = nowMs;
      this.#traces.set(traces);
    }
    try {
      const documents = [
        this.overrides,
        this.#unfollowed,
        this.#published,
        this.#silences,
        this.#stockOuts,
        this.#profileCorrections,
        this.#startupTimes,
        this.#holds,
        this.#traces,
      ];
      for (const document of documents) {
        const problem = await document.flush();
        if (problem !== null) this.#logger.warn({ problem }, problem);
      }
      await this.history.flush();
      return null;
    } catch (error) {
      if (error instanceof Unavailable) return error.code;
      this.#logger.error({ err: error }, `gpumix's state cannot be written: ${sentence(error)}`);
      return 'internal';
    }
  }
}
