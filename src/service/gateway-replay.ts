import type { LoggedRequest } from '../adapters/request-log.js';
import { InputError } from '../core/input-error.js';
import { type Clock, type SharedStore, Unavailable } from '../core/ports.js';
import { type FinishedInterval, GatewayTrace } from '../demand/gateway-trace.js';
import {
  formatTraceRecord,
  gatewayIntervalSeconds,
  newestTraceVersion,
  type TraceRecord,
} from '../demand/trace-record.js';

/**
 * Plays a request log into the shared store as a gateway would: in wall-clock time, one record per interval at its end.
 *
 * The first request arrives when the replay starts; what lies `s` seconds later in the log happens `s / speed` seconds
 * later on the clock; `engines` say when they complete. After the last
 * arrival the replay goes on until the last request has completed. When it is called off, requests in flight count as
 * cancelled, and the record of the begun interval is written at once: it says that nothing is pending any more.
 */
export type ReplayOptions = {
  /** Opens the log, from its beginning; more than once with `loop`. */
  readonly open: () => AsyncIterable<LoggedRequest>;
  /** Names the log in errors. */
  readonly source: string;
  readonly store: SharedStore;
  readonly model: string;
  /** Seconds of the log per second of the clock. */
  readonly speed: number;
  /** Who serves the requests, made for the records that tell of them. */
  readonly engines: (trace: GatewayTrace) => ReplayEngines;
  /** No arrivals after this many seconds of the clock; null = all of the log. */
  readonly durationSeconds: number | null;
  /** Begin again, one mean gap after the last arrival, when the log ends. */
  readonly loop: boolean;
  readonly clock: Clock;
  /** Resolves after that time, or as soon as the signal aborts. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Calls the replay off. */
  readonly signal: AbortSignal;
  /** Told once where the store does not answer at the start, and the replay waits for it: why. */
  readonly onWaiting?: (problem: string) => void;
  readonly onProgress?: (progress: ReplayProgress) => void;
  /** Told after every step up to which moment of the clock everything has happened and is written. */
  readonly onReached?: (ms: number) => void;
};

/** Who serves replayed requests, and tells the gateway's trace of their arrivals and ends. */
export interface ReplayEngines {
  /** A request arrives; times ascend. */
  arrive(request: LoggedRequest, atMs: number): void;
  /** Everything until then has happened, before the records of then are finished. */
  advance(untilMs: number): void;
}

/** Engines that take as long for every request, however many there are: arrival + ttft + output tokens × tpot, in the log's time. */
export function fixedEngines({
  ttftSeconds,
  tpotSeconds,
  speed,
}: {
  readonly ttftSeconds: number;
  readonly tpotSeconds: number;
  readonly speed: number;
}): ReplayOptions['engines'] {
  return (trace) => ({
    arrive({ inputTokens, outputTokens }, atMs) {
      const serviceMs = (ttftSeconds + outputTokens * tpotSeconds) * 1000;
      // Nothing is finished by it: the request lies in the interval that is being filled.
      trace.add({ atMs, inputTokens, outputTokens, completesAtMs: atMs + serviceMs / speed });
    },
    advance() {},
  });
}

export type ReplayProgress = {
  readonly elapsedSeconds: number;
  readonly requests: number;
  readonly records: number;
  /** Arrived, not completed. */
  readonly outstanding: number;
  /** Why records wait to be written; null = none does. */
  readonly problem: string | null;
};

export type ReplaySummary = {
  readonly model: string;
  /** Requests that arrived. */
  readonly requests: number;
  /** Interval records written. */
  readonly records: number;
  /** From the start to the last arrival, on the clock. */
  readonly seconds: number;
  /** requests / seconds, as it was written; null for a single moment. */
  readonly meanRps: number | null;
  readonly interrupted: boolean;
};

/** A record in which nothing happens; gateways write none, only the end of a replay needs to. */
const eventless: TraceRecord = {
  version: newestTraceVersion,
  intervalSeconds: gatewayIntervalSeconds,
  arrivals: 0,
  pending: 0,
  queueing: 0,
  unknownLength: 0,
  buckets: [],
};

const intervalMs = gatewayIntervalSeconds * 1000;

/** Between looks at the clock while an interval fills: short enough for a lively progress line. [ms] */
const stepMs = 500;

/** Requests between two turns of the event loop: simulated ones take some tens of microseconds each. */
const requestsPerTurn = 200;

/** How long a store that does not answer at the start is asked again: it may be starting as well. [ms] */
const startPatienceMs = 15_000;

/** Wait before asking a silent store again. [ms] */
const retryMs = 1000;

/**
 * An interval record that could not be written is retried for as long as the gateway's would have lived: until then a
 * reader that looks back finds it as if nothing had happened.
 */
const writePatienceMs = 600_000;

/**
 * @returns when the log is played, or the replay was called off and its last record is written
 * @throws InputError for a bad log
 * @throws Unavailable where the store cannot be reached at the start, or for longer than a record lives
 */
export async function replayAsGateway(options: ReplayOptions): Promise<ReplaySummary> {
  return new Replay(options).run();
}

/** What Redis says to a login that it refuses. */
const refusedLogin = /\b(?:WRONGPASS|NOAUTH)\b/;

/** Fails before the first request is played, rather than with the first record, where the store is not there. */
async function reachStore({ store, clock, sleep, signal, onWaiting }: ReplayOptions): Promise<void> {
  let isWaiting = false;
  const giveUpAt = clock.now() + startPatienceMs;
  for (;;) {
    try {
      await store.identity();
      return;
    } catch (error) {
      if (!(error instanceof Unavailable) || clock.now() + retryMs > giveUpAt || signal.aborted) throw error;
      // No wait cures a password that is wrong.
      if (refusedLogin.test(error.message)) throw error;
      if (!isWaiting) onWaiting?.(error.message);
      isWaiting = true;
      await sleep(retryMs, signal);
    }
  }
}

/** The requests with the first one at 0; with `loop`, without end. */
async function* fromZero({ open, loop, source }: ReplayOptions): AsyncGenerator<LoggedRequest, void, void> {
  let offsetMs = 0;
  for (;;) {
    let firstMs: number | null = null;
    let lastMs = 0;
    let requests = 0;
    for await (const request of open()) {
      firstMs ??= request.atMs;
      lastMs = request.atMs - firstMs;
      requests += 1;
      yield { ...request, atMs: offsetMs + lastMs };
    }
    if (!loop || requests === 0) return;
    if (lastMs === 0) {
      throw new InputError(source, [
        { place: '', found: 'all requests at one time', expected: 'a log that spans time, to play it in a loop' },
      ]);
    }
    offsetMs += (lastMs * requests) / (requests - 1);
  }
}

class Replay {
  readonly #options: ReplayOptions;
  readonly #trace = new GatewayTrace({ intervalSeconds: gatewayIntervalSeconds });
  /** Set when the first request arrives. */
  #startMs = 0;
  readonly #requests: AsyncIterator<LoggedRequest>;
  readonly #engines: ReplayEngines;
  /** The next request, and how long after the start it arrives on the clock; null when no more come. */
  #next: { readonly afterMs: number; readonly request: LoggedRequest } | null = null;
  #unwritten: FinishedInterval[] = [];
  #problem: Unavailable | null = null;
  #played = 0;
  #records = 0;
  /** After the start, on the clock. */
  #lastArrivalMs = 0;
  /** What the last record said is pending. */
  #saidPending = 0;

  constructor(options: ReplayOptions) {
    this.#options = options;
    this.#requests = fromZero(options)[Symbol.asyncIterator]();
    this.#engines = options.engines(this.#trace);
  }

  async run(): Promise<ReplaySummary> {
    const { clock, sleep, signal, source } = this.#options;
    let tickMs = 0;
    try {
      await this.#advance();
      if (this.#next === null && !signal.aborted) {
        throw new InputError(source, [
          { place: '', found: 'no requests', expected: 'at least one row after the header' },
        ]);
      }
      await reachStore(this.#options);
      this.#startMs = clock.now();
      this.#trace.advanceTo(this.#startMs);
      tickMs = (Math.floor(this.#startMs / intervalMs) + 1) * intervalMs;
      while (!signal.aborted) {
        const nowMs = clock.now();
        const untilMs = Math.min(nowMs, tickMs);
        await this.#arriveBefore(untilMs);
        const isTick = nowMs >= tickMs;
        if (isTick) {
          // One at a time also after a sleep of the machine: every tick has its record, with what was pending then.
          this.#finishInterval(tickMs);
          tickMs += intervalMs;
        }
        if (isTick || this.#problem !== null) await this.#write();
        this.#options.onReached?.(untilMs);
        if (this.#isOver()) return this.#summary(false);
        this.#report();
        const stepLimitMs = this.#problem === null ? stepMs : retryMs;
        await sleep(Math.max(0, Math.min(stepLimitMs, tickMs - clock.now())), signal);
      }
      await this.#callOff(Math.min(clock.now(), tickMs), tickMs);
      return this.#summary(true);
    } catch (error) {
      // A row that cannot be read ends the replay; what was played before it stays a whole story.
      if (error instanceof InputError && this.#played > 0) await this.#callOff(this.#startMs, tickMs).catch(() => {});
      throw error;
    } finally {
      await this.#requests.return?.();
    }
  }

  /** Everything has arrived and completed, and is written. */
  #isOver(): boolean {
    return this.#next === null && this.#trace.pending === 0 && this.#unwritten.length === 0;
  }

  /** Plays the requests that arrive before a moment. */
  async #arriveBefore(untilMs: number): Promise<void> {
    const { sleep, signal } = this.#options;
    while (this.#next !== null && this.#startMs + this.#next.afterMs < untilMs) {
      const { afterMs, request } = this.#next;
      this.#engines.arrive(request, this.#startMs + afterMs);
      this.#played += 1;
      this.#lastArrivalMs = afterMs;
      await this.#advance();
      if (this.#played % requestsPerTurn === 0) await sleep(0, signal);
    }
    this.#engines.advance(untilMs);
  }

  async #advance(): Promise<void> {
    const { speed, durationSeconds, signal } = this.#options;
    this.#next = null;
    try {
      const result = await this.#requests.next();
      if (result.done === true) return;
      const afterMs = result.value.atMs / speed;
      if (durationSeconds !== null && afterMs >= durationSeconds * 1000) return;
      this.#next = { afterMs, request: result.value };
    } catch (error) {
      // Being called off ends the reading with an error, too.
      if (!signal.aborted) throw error;
    }
  }

  #finishInterval(tickMs: number): void {
    for (const interval of this.#trace.advanceTo(tickMs)) {
      this.#unwritten.push(interval);
      this.#saidPending = interval.record.pending;
    }
  }

  /** Writes what waits; what cannot be written keeps waiting, until its record would no longer live. */
  async #write(): Promise<void> {
    const { store, model, clock } = this.#options;
    const records = this.#unwritten;
    if (records.length === 0) return;
    try {
      await store.writeTraces(
        records.map(({ endSeconds, record }) => ({ model, endSeconds, text: formatTraceRecord(record) })),
      );
      this.#records += records.length;
      this.#unwritten = [];
      this.#problem = null;
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      this.#problem = error;
      if (clock.now() - records[0]!.endSeconds * 1000 < writePatienceMs) return;
      throw new Unavailable(
        error.code,
        `${error.message}; ${records.length} interval records could not be written for ${writePatienceMs / 60_000} minutes`,
      );
    }
  }

  /** Ends in the middle of an interval: writes its record now, with nothing pending. */
  async #callOff(nowMs: number, tickMs: number): Promise<void> {
    await this.#arriveBefore(nowMs);
    const saidPending = this.#saidPending;
    const [last] = this.#trace.advanceTo(tickMs);
    if (last !== undefined || saidPending > 0) {
      const record = last?.record ?? eventless;
      this.#unwritten.push({ endSeconds: tickMs / 1000, record: { ...record, pending: 0 } });
    }
    await this.#write();
    if (this.#problem !== null) throw this.#problem;
  }

  #summary(interrupted: boolean): ReplaySummary {
    this.#report();
    const seconds = this.#lastArrivalMs / 1000;
    return {
      model: this.#options.model,
      requests: this.#played,
      records: this.#records,
      seconds,
      meanRps: seconds > 0 ? this.#played / seconds : null,
      interrupted,
    };
  }

  #report(): void {
    this.#options.onProgress?.({
      elapsedSeconds: (this.#options.clock.now() - this.#startMs) / 1000,
      requests: this.#played,
      records: this.#records,
      outstanding: this.#trace.pending,
      problem: this.#problem?.message ?? null,
    });
  }
}
