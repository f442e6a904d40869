import type { ScaleClient, ScaleFault, ScaleTarget, TargetEvent } from '../../core/scale.js';

/**
 * What `kubectl describe` shows below a scaled object: `ScaledUp` and `ScaledDown` with the plan's sentence.
 *
 * Bounded so that a plan that trembles floods nobody: an object has at most one Event for each reason at a time, which is
 * counted up at most once a minute with the newest sentence. Events are for people; one that cannot be written is left
 * out, and scaling goes on.
 */

export type ScaledEvent = {
  readonly id: string;
  readonly target: ScaleTarget;
  readonly uid: string | null;
  readonly from: number;
  readonly to: number;
  /** The plan's. */
  readonly sentence: string;
};

/** Between two writes of one Event. [ms] */
const eventIntervalMs = 60_000;
/** API servers keep Events for an hour; one that is counted up later would be a new one anyway. [ms] */
const eventLifeMs = 3_600_000;
/** `note` of an Event may have 1 kB; a sentence of a plan rarely has 300 characters. */
const longestMessage = 1000;
/** Less than scaling has: in a burst the numbers come first. */
const eventsAtOnce = 2;
/** Events that cannot be written are not tried again for so long: nobody scales by them. [ms] */
const afterFaultMs = 60_000;

type Entry = {
  readonly id: string;
  readonly reason: string;
  target: ScaleTarget;
  uid: string | null;
  message: string;
  /** Of the Event as it should be. */
  count: number;
  firstMs: number;
  lastMs: number;
  /** Of the Event as it is on the server; null = it is not there yet. */
  name: string | null;
  writtenCount: number;
  /** Steady [ms]; null = never tried. */
  triedAtMs: number | null;
  isUnderWay: boolean;
};

export type EventCounts = { readonly written: number; readonly failed: number };

export class ScaleEvents {
  readonly #client: ScaleClient;
  readonly #clock: { now(): number };
  readonly #steadyMs: () => number;
  readonly #onFault: (fault: ScaleFault) => void;
  readonly #entries = new Map<string, Entry>();
  readonly #underWay = new Set<Promise<void>>();
  #silentUntilMs = 0;
  #written = 0;
  #failed = 0;

  /** @param options.onFault an Event could not be written */
  constructor(options: {
    readonly client: ScaleClient;
    readonly clock: { now(): number };
    readonly steadyMs: () => number;
    readonly onFault: (fault: ScaleFault) => void;
  }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#steadyMs = options.steadyMs;
    this.#onFault = options.onFault;
  }

  get counts(): EventCounts {
    return { written: this.#written, failed: this.#failed };
  }

  /** Takes something that happened; it is written now, or with what happens within the minute. */
  record({ id, target, uid, from, to, sentence }: ScaledEvent): void {
    const reason = to > from ? 'ScaledUp' : 'ScaledDown';
    const message = cut(`Scaled from ${from} to ${to}: ${sentence}`);
    const nowMs = this.#clock.now();
    const key = `${reason} ${id}`;
    const known = this.#entries.get(key);
    // An object of the same name that was made anew has a history of its own.
    if (known === undefined || known.uid !== uid || isOver(known, nowMs)) {
      this.#entries.set(key, {
        id,
        reason,
        target,
        uid,
        message,
        count: 1,
        firstMs: nowMs,
        lastMs: nowMs,
        name: null,
        writtenCount: 0,
        triedAtMs: null,
        isUnderWay: false,
      });
    } else Object.assign(known, { target, message, count: known.count + 1, lastMs: nowMs });
    this.send();
  }

  /** Writes what is due. Called often enough (each cycle) that what waited for its minute does not wait much longer. */
  send(): void {
    const steadyMs = this.#steadyMs();
    const nowMs = this.#clock.now();
    for (const [key, entry] of this.#entries) {
      if (isOver(entry, nowMs) && !entry.isUnderWay) {
        this.#entries.delete(key);
        continue;
      }
      if (this.#underWay.size >= eventsAtOnce || steadyMs < this.#silentUntilMs) continue;
      const isDue = entry.triedAtMs === null || steadyMs - entry.triedAtMs >= eventIntervalMs;
      if (entry.isUnderWay || entry.count === entry.writtenCount || !isDue) continue;
      const writing = this.#write(entry).finally(() => {
        this.#underWay.delete(writing);
        this.send();
      });
      this.#underWay.add(writing);
    }
  }

  /** Forgets objects that are gone. */
  keepOnly(known: ReadonlyMap<string, unknown>): void {
    for (const [key, { id }] of this.#entries) if (!known.has(id)) this.#entries.delete(key);
  }

  /** Resolves when everything is written that is due. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.race(this.#underWay);
  }

  /** Resolves when nothing is under way; what is due and cannot be sent at once is left out. */
  async stop(): Promise<void> {
    this.#silentUntilMs = Number.POSITIVE_INFINITY;
    await Promise.all(this.#underWay);
  }

  async #write(entry: Entry): Promise<void> {
    entry.isUnderWay = true;
    entry.triedAtMs = this.#steadyMs();
    const { target, uid, reason, message, count, firstMs, lastMs } = entry;
    const event: TargetEvent = { target, uid, reason, message, count, firstMs, lastMs };
    const answer = await this.#client.recordEvent(event, entry.name);
    entry.isUnderWay = false;
    if (answer.kind === 'recorded') {
      this.#written += 1;
      entry.name = answer.name;
      entry.writtenCount = count;
      return;
    }
    this.#failed += 1;
    // An object that is gone takes its Events with it; anything else is no matter of this one.
    if (answer.fault !== 'not_found') this.#silentUntilMs = this.#steadyMs() + afterFaultMs;
    this.#onFault(answer);
  }
}

function isOver({ firstMs, lastMs }: Entry, nowMs: number): boolean {
  // Later than now: the clock was set back.
  return nowMs - firstMs > eventLifeMs || lastMs > nowMs;
}

function cut(text: string): string {
  return text.length <= longestMessage ? text : `${text.slice(0, longestMessage - 1)}…`;
}
