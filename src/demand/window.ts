import { InputError } from '../core/input-error.js';
import type { StoreIdentity, TraceReading } from '../core/ports.js';
import type { UntracedSpan } from './fleet-silence.js';
import { parseTraceRecord, type TraceNotice, type TraceRecord } from './trace-record.js';

/**
 * The window of request rates of one model, built from interval records that come late, twice, out of order or not at all.
 *
 * "Not read" is never "zero". A key that is *present* is known. A key that is *absent* is an interval without arrivals
 * only if all of this holds, and unknown otherwise:
 *   a. a trace of the model was seen on this store (same run id) at an earlier time: before that nothing was recorded;
 *   b. the interval begins after the store started: an earlier one may have been lost with its memory;
 *   c. the newest trace before it left no request pending, or a newer trace has come since: requests that are pending
 *      while nothing is recorded are long generations or tracing that was switched off, and the two look alike;
 *   d. it lies in no silence of the whole fleet (`fleet-silence.ts`): tracing that is switched off records nothing;
 *   e. its record had time to be written (`latenessSeconds`): before that the window simply ends one interval earlier;
 *   f. the clock of the store says what ours does, and ours was not set since (`clockWasSet`): with another time we look
 *      for keys that nobody writes.
 * A key that could not be read, or whose text is no record, is unknown; so is one of which the source says that it cannot
 * tell (`unknown`). A source that watches the engines (Prometheus) never answers `absent`: where nothing arrived it gives a
 * record of zero arrivals, which is known like any other.
 *
 * Key T holds [T − interval, T); keys live 10 minutes.
 */

/** What one key of this window turned out to be. `unreadable`: it exists, but holds no record. */
export type IntervalReading =
  | { readonly kind: 'present'; readonly record: TraceRecord }
  | { readonly kind: 'absent' | 'failed' | 'unreadable' };

export type DemandInterval =
  | {
      readonly endSeconds: number;
      readonly state: 'known';
      readonly arrivals: number;
      /** Requests that ended with an answer, of known length or not. */
      readonly completions: number;
      readonly rps: number;
    }
  | { readonly endSeconds: number; readonly state: 'unknown' };

/** A part of the completed requests; the shares of a shape sum to 1. */
export type ShapeBucket = { readonly inputTokens: number; readonly outputTokens: number; readonly share: number };

/**
 * Why no demand can be stated, so that the last plan is held.
 * `no_traces`: nothing recent is known; `requests_pending`: requests are outstanding and nothing arrives;
 * `no_lengths`: requests arrive, and none has ever completed with its lengths.
 */
export type DemandHold = 'no_traces' | 'requests_pending' | 'no_lengths';

/** What is known of a model's demand at one moment. */
export type DemandHistory = {
  /** The whole window, oldest first. */
  readonly intervals: readonly DemandInterval[];
  readonly knownIntervals: number;
  /** End of the newest known interval, also one before the window [Unix s]; null = none. */
  readonly newestKnownSeconds: number | null;
  /** Lengths of the requests completed in the window, else of the last window that had any; empty = never known. */
  readonly shape: readonly ShapeBucket[];
  /** Requests outstanding at the newest trace. */
  readonly pending: number;
  /** End of the interval of that trace [Unix s]; null = none was seen. */
  readonly pendingAtSeconds: number | null;
  /** No arrivals in a window that is known whole, and nothing pending. */
  readonly idle: boolean;
  readonly hold: DemandHold | null;
};

/**
 * What must outlive this process for silence to keep its meaning: whether the model was ever traced on this store, and
 * whether its newest trace left requests pending. Keys live 10 minutes, so saving it once a minute is often enough.
 */
export type TraceMemory = {
  readonly runId: string;
  readonly firstTraceSeconds: number;
  readonly newestTraceSeconds: number;
  readonly pending: number;
  /** See `DemandWindow.busy`; absent = not known. */
  readonly busy?: boolean | undefined;
};

export type DemandWindowOptions = {
  readonly windowSeconds?: number;
  readonly intervalSeconds?: number;
  /** How long after its end a record may take to appear; an absent key younger than this says nothing yet. */
  readonly latenessSeconds?: number;
  /** What an earlier process remembered of this model. */
  readonly memory?: TraceMemory | null;
};

/** Long enough for a stable rate, short enough to follow load; AIBrix's window. [s] */
const defaultWindowSeconds = 240;

/** Records appear within 0.5 s of their tick; the rest is for clocks that disagree. [s] */
export const defaultLatenessSeconds = 10;

/** Time to live that gateways give to a record: beyond it there is nothing left to read. [s] */
const keyLifeSeconds = 600;

/** Absent keys younger than this are asked for in every cycle, older ones once in as many seconds. [s] */
const retrySeconds = 60;

/** Without a known interval among this many newest ones (and the lateness) the numbers are too old to plan with. */
const staleIntervals = 3;

/** A model is busy or not in the minute before its newest trace [s], in at least as many intervals. */
const busySeconds = 60;
const busyIntervals = 6;

/** Arrivals in fewer intervals are too few to expect the next ones. */
const fewestBusyIntervals = 3;

/** A store whose clock differs from ours by more cannot show us silence: absent keys may lie where we do not look [s]. */
const clockToleranceSeconds = 15;

/** A clock of the gateway that is ahead of ours by up to this many intervals is harmless. */
const futureIntervals = 2;

/**
 * Interprets what the store answered for one key.
 *
 * @param source names the key in errors and notices
 * @returns the reading for `DemandWindow.record`, what was left out of it, and why it is unknown where it is
 */
export function interpretReading(
  reading: TraceReading,
  source: string,
  expected: { readonly intervalSeconds?: number } = {},
): { readonly reading: IntervalReading; readonly notices: readonly TraceNotice[]; readonly problem: string | null } {
  if (reading.kind === 'absent') return { reading: { kind: 'absent' }, notices: [], problem: null };
  if (reading.kind === 'unknown') return { reading: { kind: 'failed' }, notices: [], problem: null };
  if (reading.kind === 'failed') {
    return { reading: { kind: 'failed' }, notices: [], problem: `${source}: ${reading.message}` };
  }
  try {
    const { record, notices } = parseTraceRecord(reading.text, source, expected);
    return { reading: { kind: 'present', record }, notices, problem: null };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return { reading: { kind: 'unreadable' }, notices: [], problem: error.message };
  }
}

/**
 * One interval. It moves `unread → absent ⇄ unreadable → present`; `empty` is an absent interval that counted as zero
 * arrivals when its store went away, and stays so. Nothing leaves `present`, and a failed read changes nothing.
 */
type Slot = {
  readonly endSeconds: number;
  kind: 'unread' | 'absent' | 'unreadable' | 'empty' | 'present';
  arrivals: number;
  /** Completed requests, of known length or not. */
  completed: number;
  /** When it was last asked for [ms]. */
  askedMs: number;
  /** Completions by length: packed bucket, count, packed bucket, count … */
  completions: Uint32Array;
  /** Whether `completions` are part of the window's shape now. */
  inShape: boolean;
};

const noCompletions = new Uint32Array(0);

/**
 * The window of one model. A cycle is: `storeIdentity`, `keysToRead`, `record` for each answer, the same once more with
 * `olderKeysToRead`, `view`.
 *
 * Cheap enough for thousands of models: a record is unpacked once, and a view costs the number of intervals and buckets.
 */
export class DemandWindow {
  readonly #intervalSeconds: number;
  readonly #windowIntervals: number;
  readonly #latenessSeconds: number;
  /** Newest intervals among which the window lies, wherever lateness lets it end. */
  readonly #readIntervals: number;
  /** Intervals looked back upon: the window, and all that could still be read. */
  readonly #retainedIntervals: number;
  /** Ring: the interval that ends at T lies at (T / interval) mod length. */
  readonly #slots: (Slot | undefined)[];
  #store: StoreIdentity | null = null;
  /** Whether the clock of the store says what ours does, as far as it tells. */
  #clocksAgree = true;
  /** When our clock was last set: what is said of earlier intervals was counted by another one. */
  #clockSetMs = Number.NEGATIVE_INFINITY;
  #restored: TraceMemory | null;
  /** First and newest trace seen; the first one on this store only. */
  #firstTraceSeconds: number | null = null;
  #newestTrace: { readonly endSeconds: number; readonly pending: number } | null = null;
  /** Whether an earlier process saw it busy when it saw this trace. */
  #restoredBusy: { readonly endSeconds: number; readonly busy: boolean } | null = null;
  #untraced: readonly UntracedSpan[] = [];
  /** Completed requests of the window by packed bucket. */
  readonly #shapeCounts = new Map<number, number>();
  #shapeChanged = false;
  #shape: readonly ShapeBucket[] = [];

  constructor(options: DemandWindowOptions = {}) {
    this.#intervalSeconds = options.intervalSeconds ?? 10;
    const windowSeconds = options.windowSeconds ?? defaultWindowSeconds;
    this.#latenessSeconds = options.latenessSeconds ?? defaultLatenessSeconds;
    if (!Number.isInteger(this.#intervalSeconds) || this.#intervalSeconds < 1) {
      throw new RangeError(`intervalSeconds is ${this.#intervalSeconds}, expected a whole number >= 1`);
    }
    if (!(windowSeconds >= this.#intervalSeconds && windowSeconds <= 86_400)) {
      throw new RangeError(`windowSeconds is ${windowSeconds}, expected between one interval and a day`);
    }
    if (!(this.#latenessSeconds >= 0 && this.#latenessSeconds <= keyLifeSeconds)) {
      throw new RangeError(`latenessSeconds is ${this.#latenessSeconds}, expected between 0 and ${keyLifeSeconds}`);
    }
    this.#windowIntervals = Math.ceil(windowSeconds / this.#intervalSeconds);
    const lateIntervals = Math.ceil(this.#latenessSeconds / this.#intervalSeconds);
    this.#readIntervals = this.#windowIntervals + Math.max(1, lateIntervals);
    this.#retainedIntervals = Math.max(
      this.#windowIntervals + lateIntervals + 1,
      Math.ceil(keyLifeSeconds / this.#intervalSeconds),
    );
    this.#slots = new Array(this.#retainedIntervals + futureIntervals + 1).fill(undefined);
    this.#restored = options.memory ?? null;
  }

  /**
   * Says which store answers from now on. A new run id means that the store was restarted or replaced: what was read
   * stays known, silence on the new store means nothing until a trace of the model is seen there.
   */
  storeIdentity(identity: StoreIdentity): void {
    this.#clocksAgree = !clocksDisagree(identity);
    if (this.#store?.runId === identity.runId) return;
    if (this.#store !== null) {
      this.#forgetSilence();
    }
    this.#store = identity;
    const restored = this.#restored;
    if (restored !== null && restored.runId === identity.runId) {
      this.#sawTrace(restored.firstTraceSeconds, 0);
      this.#sawTrace(restored.newestTraceSeconds, restored.pending);
      this.#restoredBusy = { endSeconds: restored.newestTraceSeconds, busy: restored.busy ?? false };
    }
    // Requests that were pending on another store are nobody's news any more.
    this.#restored = null;
  }

  /**
   * Says that our clock was set, to what it shows now. What was read stays known, unless it lies ahead of us now; silence
   * means nothing until a trace is seen that is newer than this moment, since we may look where no gateway writes.
   */
  clockWasSet(nowMs: number): void {
    this.#forgetSilence();
    this.#clockSetMs = nowMs;
    for (const [index, slot] of this.#slots.entries()) {
      if (slot === undefined || slot.endSeconds * 1000 <= nowMs) continue;
      this.#countInShape(slot, false);
      this.#slots[index] = undefined;
    }
    if (this.#newestTrace !== null && this.#newestTrace.endSeconds * 1000 > nowMs) this.#newestTrace = null;
  }

  /** What silence said so far stays; from now on it says nothing until a trace is seen. */
  #forgetSilence(): void {
    for (const slot of this.#slots) {
      if (slot !== undefined && slot.kind !== 'present') slot.kind = this.#isKnown(slot) ? 'empty' : 'unread';
    }
    this.#firstTraceSeconds = null;
  }

  /** What a later process must be given as `memory`; null = no trace was seen on this store. */
  memory(): TraceMemory | null {
    if (this.#store === null || this.#firstTraceSeconds === null || this.#newestTrace === null) return null;
    return {
      runId: this.#store.runId,
      firstTraceSeconds: this.#firstTraceSeconds,
      newestTraceSeconds: this.#newestTrace.endSeconds,
      pending: this.#newestTrace.pending,
      busy: this.busy,
    };
  }

  /** End of the newest interval that has a trace, on whatever store [Unix s]; null = none was seen. */
  get newestTraceSeconds(): number | null {
    return this.#newestTrace?.endSeconds ?? null;
  }

  /**
   * Whether requests came all the time when the newest trace was written: in at least half of the known intervals of
   * the minute that ends with it (of its last six, where intervals are long), and in at least three of them.
   */
  get busy(): boolean {
    if (this.#newestTrace === null) return false;
    const { endSeconds } = this.#newestTrace;
    // Its keys may have expired while no process ran.
    if (this.#restoredBusy?.endSeconds === endSeconds && this.#slotOf(endSeconds)?.kind !== 'present') {
      return this.#restoredBusy.busy;
    }
    let known = 0;
    let withArrivals = 0;
    const count = Math.max(busyIntervals, Math.ceil(busySeconds / this.#intervalSeconds));
    for (let back = 0; back < count; back += 1) {
      const slot = this.#slotOf(endSeconds - back * this.#intervalSeconds);
      if (slot === undefined || !this.#isKnown(slot)) continue;
      known += 1;
      if (slot.arrivals > 0) withArrivals += 1;
    }
    return withArrivals >= fewestBusyIntervals && 2 * withArrivals >= known;
  }

  /** Says in which intervals an absent record means nothing; it replaces what was said before. */
  setUntraced(spans: readonly UntracedSpan[]): void {
    this.#untraced = spans;
  }

  /**
   * The interval ends to read in this cycle, oldest first: those of the window never answered, those absent that are
   * young, and once a minute those absent or unreadable that are older. Older ones are asked for within the window, or,
   * while the model was never traced here, within the life of a key. Each is asked in its own second of the minute, so
   * that a thousand silent models do not ask all at once.
   */
  keysToRead(nowMs: number): readonly number[] {
    const neverSeen = this.#firstTraceSeconds === null;
    return this.#livingKeys(nowMs, (endSeconds, back) => {
      const slot = this.#slotOf(endSeconds);
      if (slot === undefined || slot.kind === 'unread') return back < this.#readIntervals;
      if (slot.kind !== 'absent' && slot.kind !== 'unreadable') return false;
      if (slot.kind === 'absent' && nowMs / 1000 - endSeconds < retrySeconds) return true;
      const wanted = neverSeen || back <= this.#windowIntervals;
      return wanted && minuteOf(nowMs, endSeconds) !== minuteOf(slot.askedMs, endSeconds);
    });
  }

  /**
   * What is worth reading besides, once the answers to `keysToRead` are recorded: keys older than the window that were
   * never answered. They tell what silence in the window means, so there are none where a trace at its beginning says
   * so already: a fleet that is busy when the service starts costs less than half the reads.
   */
  olderKeysToRead(nowMs: number): readonly number[] {
    const oldest = this.#newestEnd(nowMs) - (this.#readIntervals - 1) * this.#intervalSeconds;
    const first = this.#firstTraceSeconds;
    const newest = this.#newestTrace;
    if (first !== null && first <= oldest && newest !== null && newest.endSeconds >= oldest) return [];
    return this.#livingKeys(nowMs, (endSeconds, back) => {
      return back >= this.#readIntervals && (this.#slotOf(endSeconds)?.kind ?? 'unread') === 'unread';
    });
  }

  /** Those of the keys that may still live, oldest first; `back` counts intervals from the newest. */
  #livingKeys(nowMs: number, isWanted: (endSeconds: number, back: number) => boolean): readonly number[] {
    const newest = this.#newestEnd(nowMs);
    const keys: number[] = [];
    for (let back = this.#retainedIntervals - 1; back >= 0; back -= 1) {
      const endSeconds = newest - back * this.#intervalSeconds;
      if (nowMs / 1000 - endSeconds < keyLifeSeconds && isWanted(endSeconds, back)) keys.push(endSeconds);
    }
    return keys;
  }

  /**
   * Takes one answer. Order and repetition do not matter: a record that was read stays as first read, and an answer
   * about an interval that has left the window only counts as a sign of life.
   */
  record(endSeconds: number, reading: IntervalReading, nowMs: number): void {
    if (!Number.isInteger(endSeconds / this.#intervalSeconds)) {
      throw new RangeError(`interval end ${endSeconds} is not a multiple of ${this.#intervalSeconds} s`);
    }
    const back = (this.#newestEnd(nowMs) - endSeconds) / this.#intervalSeconds;
    if (back < -futureIntervals || endSeconds * 1000 <= this.#clockSetMs) return;
    if (reading.kind === 'present') this.#sawTrace(endSeconds, reading.record.pending);
    if (back >= this.#retainedIntervals) return;

    const slot = this.#claimSlot(endSeconds);
    slot.askedMs = nowMs;
    switch (reading.kind) {
      case 'failed':
        return;
      case 'absent':
      case 'unreadable':
        if (slot.kind !== 'present' && slot.kind !== 'empty') slot.kind = reading.kind;
        return;
      case 'present': {
        if (slot.kind === 'present') return;
        const { record } = reading;
        // A record of another length overlaps its neighbours: its arrivals belong to no one interval.
        if (record.intervalSeconds !== this.#intervalSeconds) {
          slot.kind = 'unreadable';
          return;
        }
        slot.kind = 'present';
        slot.arrivals = record.arrivals;
        slot.completed = record.buckets.reduce((sum, { count }) => sum + count, record.unknownLength);
        slot.completions = packCompletions(record);
        return;
      }
    }
  }

  /** What is known at this moment. */
  view(nowMs: number): DemandHistory {
    const newest = this.#windowEnd(nowMs);
    const intervals: DemandInterval[] = [];
    let knownIntervals = 0;
    let arrivals = 0;
    for (let back = this.#windowIntervals - 1; back >= 0; back -= 1) {
      const endSeconds = newest - back * this.#intervalSeconds;
      const slot = this.#slotOf(endSeconds);
      if (slot !== undefined && this.#isKnown(slot)) {
        knownIntervals += 1;
        arrivals += slot.arrivals;
        const rps = slot.arrivals / this.#intervalSeconds;
        intervals.push({ endSeconds, state: 'known', arrivals: slot.arrivals, completions: slot.completed, rps });
      } else intervals.push({ endSeconds, state: 'unknown' });
    }
    const newestKnownSeconds = this.#newestKnown(nowMs);
    const shape = this.#shapeUntil(newest);
    const pending = this.#newestTrace?.pending ?? 0;
    const silent = arrivals === 0 && pending === 0;
    const idle = silent && knownIntervals === this.#windowIntervals;
    return {
      intervals,
      knownIntervals,
      newestKnownSeconds,
      shape,
      pending,
      pendingAtSeconds: this.newestTraceSeconds,
      idle,
      hold: idle ? null : this.#hold({ nowMs, newest, knownIntervals, newestKnownSeconds, arrivals, shape }),
    };
  }

  #hold(seen: {
    readonly nowMs: number;
    readonly newest: number;
    readonly knownIntervals: number;
    readonly newestKnownSeconds: number | null;
    readonly arrivals: number;
    readonly shape: readonly ShapeBucket[];
  }): DemandHold | null {
    const oldestUsable = seen.nowMs / 1000 - staleIntervals * this.#intervalSeconds - this.#latenessSeconds;
    const stale = seen.newestKnownSeconds === null || seen.newestKnownSeconds < oldestUsable;
    if (stale || seen.knownIntervals === 0) {
      const pendingHere = this.#firstTraceSeconds !== null && (this.#newestTrace?.pending ?? 0) > 0;
      const silent = this.#slotOf(seen.newest)?.kind === 'absent';
      return pendingHere && silent ? 'requests_pending' : 'no_traces';
    }
    if (seen.arrivals === 0) return (this.#newestTrace?.pending ?? 0) > 0 ? 'requests_pending' : 'no_traces';
    return seen.shape.length === 0 ? 'no_lengths' : null;
  }

  /** The newest tick at or before now. */
  #newestEnd(nowMs: number): number {
    return Math.floor(nowMs / (this.#intervalSeconds * 1000)) * this.#intervalSeconds;
  }

  /** Where the window ends: at the newest interval that is present, or whose record had time to be written. */
  #windowEnd(nowMs: number): number {
    let endSeconds = this.#newestEnd(nowMs);
    while (nowMs / 1000 - endSeconds < this.#latenessSeconds && this.#slotOf(endSeconds)?.kind !== 'present') {
      endSeconds -= this.#intervalSeconds;
    }
    return endSeconds;
  }

  #newestKnown(nowMs: number): number | null {
    const newest = this.#windowEnd(nowMs);
    for (let back = 0; back < this.#retainedIntervals; back += 1) {
      const slot = this.#slotOf(newest - back * this.#intervalSeconds);
      if (slot !== undefined && this.#isKnown(slot)) return slot.endSeconds;
    }
    return null;
  }

  #isKnown(slot: Slot): boolean {
    if (slot.kind === 'present') return true;
    const isUntraced = this.#untraced.some(
      ({ afterSeconds, beforeSeconds }) =>
        slot.endSeconds > afterSeconds && (beforeSeconds === null || slot.endSeconds < beforeSeconds),
    );
    if (isUntraced) return false;
    if (slot.kind === 'empty') return true;
    if (slot.kind !== 'absent' || this.#store === null || !this.#clocksAgree) return false;
    const tracedBefore = this.#firstTraceSeconds !== null && this.#firstTraceSeconds <= slot.endSeconds;
    const storeWasUp = (slot.endSeconds - this.#intervalSeconds) * 1000 >= this.#store.startedAtMs;
    const trace = this.#newestTrace;
    const pendingSince = trace !== null && trace.pending > 0 && trace.endSeconds < slot.endSeconds;
    return tracedBefore && storeWasUp && !pendingSince;
  }

  #sawTrace(endSeconds: number, pending: number): void {
    this.#firstTraceSeconds = Math.min(this.#firstTraceSeconds ?? endSeconds, endSeconds);
    if (this.#newestTrace === null || endSeconds >= this.#newestTrace.endSeconds) {
      this.#newestTrace = { endSeconds, pending };
    }
  }

  #indexOf(endSeconds: number): number {
    return (endSeconds / this.#intervalSeconds) % this.#slots.length;
  }

  #slotOf(endSeconds: number): Slot | undefined {
    const slot = this.#slots[this.#indexOf(endSeconds)];
    return slot?.endSeconds === endSeconds ? slot : undefined;
  }

  /** The slot of an interval; whatever lay there (an interval that has left, or one of a clock that was set back) goes. */
  #claimSlot(endSeconds: number): Slot {
    const index = this.#indexOf(endSeconds);
    const old = this.#slots[index];
    if (old?.endSeconds === endSeconds) return old;
    if (old !== undefined) this.#countInShape(old, false);
    const slot: Slot = {
      endSeconds,
      kind: 'unread',
      arrivals: 0,
      completed: 0,
      askedMs: 0,
      completions: noCompletions,
      inShape: false,
    };
    this.#slots[index] = slot;
    return slot;
  }

  /** The shape of the window that ends at `newest`; counts are whole numbers, so adding and removing leaves no residue. */
  #shapeUntil(newest: number): readonly ShapeBucket[] {
    const oldest = newest - this.#windowIntervals * this.#intervalSeconds;
    for (const slot of this.#slots) {
      if (slot === undefined) continue;
      this.#countInShape(slot, slot.endSeconds > oldest && slot.endSeconds <= newest);
      // What has left the window does not come back: its lengths are most of what a record weighs.
      if (slot.endSeconds <= oldest) slot.completions = noCompletions;
    }
    if (!this.#shapeChanged) return this.#shape;
    this.#shapeChanged = false;
    // While nothing completes, the last known lengths are the best guess.
    if (this.#shapeCounts.size === 0) return this.#shape;
    let total = 0;
    for (const count of this.#shapeCounts.values()) total += count;
    const buckets = Float64Array.from(this.#shapeCounts.keys()).sort();
    const shape: ShapeBucket[] = [];
    for (const bucket of buckets) {
      shape.push({
        inputTokens: unpackTokens(bucket >>> 16),
        outputTokens: unpackTokens(bucket & 0xffff),
        share: this.#shapeCounts.get(bucket)! / total,
      });
    }
    this.#shape = shape;
    return shape;
  }

  #countInShape(slot: Slot, inShape: boolean): void {
    if (slot.inShape === inShape || slot.completions.length === 0) return;
    slot.inShape = inShape;
    this.#shapeChanged = true;
    const { completions } = slot;
    for (let i = 0; i < completions.length; i += 2) {
      const bucket = completions[i]!;
      const count = (this.#shapeCounts.get(bucket) ?? 0) + (inShape ? completions[i + 1]! : -completions[i + 1]!);
      if (count === 0) this.#shapeCounts.delete(bucket);
      else this.#shapeCounts.set(bucket, count);
    }
  }
}

/** Whether a store's clock and ours differ so much that what is absent there says nothing. */
export function clocksDisagree({ aheadMs = null }: Pick<StoreIdentity, 'aheadMs'>): boolean {
  return aheadMs !== null && Math.abs(aheadMs) > clockToleranceSeconds * 1000;
}

/** Numbers a minute, shifted by the interval so that keys of different ends change minute at different seconds. */
function minuteOf(ms: number, endSeconds: number): number {
  return Math.floor((ms / 1000 + endSeconds) / retrySeconds);
}

/**
 * Lengths in a record are powers of two in steps of 1/precision (at most 1000), up to 2^40: log2 in thousandths fits 16
 * bits, a bucket 32. Kept so, a thousand models with full windows take some tens of megabytes, not hundreds.
 */
const packedSteps = 1000;

function packCompletions(record: TraceRecord): Uint32Array {
  const { buckets } = record;
  if (buckets.length === 0) return noCompletions;
  const packed = new Uint32Array(2 * buckets.length);
  buckets.forEach((bucket, i) => {
    packed[2 * i] = ((packTokens(bucket.inputTokens) << 16) | packTokens(bucket.outputTokens)) >>> 0;
    packed[2 * i + 1] = bucket.count;
  });
  return packed;
}

function packTokens(tokens: number): number {
  return tokens <= 1 ? 0 : Math.min(0xffff, Math.round(Math.log2(tokens) * packedSteps));
}

function unpackTokens(packed: number): number {
  return 2 ** (packed / packedSteps);
}
