import type { ReplicaListener, ReplicaLoad, SimulatedReplica } from '../../simulation/replica.js';
import type { CancelTimer, EngineClock } from './clock.js';

/** What the engine is to produce for one request. */
export type Generation = {
  readonly inputTokens: number;
  readonly outputTokens: number;
};

/** Told of one request's progress. Times are of the engine's clock [ms]. */
export type GenerationListener = {
  /** `produced` tokens are there, this one included; once for each, in order. */
  token(produced: number, atMs: number): void;
  finished(atMs: number): void;
  /** The replica could never hold it; nothing follows. */
  rejected(): void;
};

/** Where tokens come from. */
export interface Backend {
  /** Returns the request's number; the listener is never called before this returns. */
  submit(generation: Generation, listener: GenerationListener): number;
  /** Nothing more is told of this request, and it takes no more of the replica. Unknown numbers are ignored. */
  cancel(id: number): void;
  load(): ReplicaLoad;
  nowMs(): number;
  /** Forgets everything that runs. */
  stop(): void;
}

/**
 * A simulated replica that lives in the time of a clock: it is asked for its next step's end, woken then, and told of
 * arrivals when they happen.
 *
 * The replica's own time is exact however late the process wakes: a step that is delivered late began on time, and so
 * does the next.
 */
export class SimulatedBackend implements Backend {
  readonly #replica: SimulatedReplica;
  readonly #clock: EngineClock;
  readonly #listeners = new Map<number, GenerationListener>();
  #lastId = 0;
  #timer: { readonly dueMs: number; readonly cancel: CancelTimer } | null = null;
  #delivering = false;
  /** Requests that a listener called off while events were told. */
  #calledOff: number[] = [];

  constructor(options: { readonly replica: SimulatedReplica; readonly clock: EngineClock }) {
    this.#replica = options.replica;
    this.#clock = options.clock;
  }

  submit(generation: Generation, listener: GenerationListener): number {
    const now = this.#clock.nowMs();
    this.#deliver(now);
    const id = ++this.#lastId;
    this.#listeners.set(id, listener);
    this.#replica.submit({ id, ...generation }, now);
    this.#schedule();
    return id;
  }

  cancel(id: number): void {
    if (!this.#listeners.delete(id)) return;
    this.#calledOff.push(id);
    if (this.#delivering) return;
    this.#deliver(this.#clock.nowMs());
    this.#schedule();
  }

  load(): ReplicaLoad {
    return this.#replica.load();
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  stop(): void {
    for (const id of [...this.#listeners.keys()]) this.cancel(id);
    this.#timer?.cancel();
    this.#timer = null;
  }

  #deliver(now: number): void {
    this.#delivering = true;
    try {
      this.#replica.advanceEach(now, this.#tell);
    } finally {
      this.#delivering = false;
    }
    for (const id of this.#calledOff) this.#replica.cancel(id, now);
    this.#calledOff = [];
  }

  readonly #tell: ReplicaListener = (kind, id, atMs, outputTokens) => {
    const listener = this.#listeners.get(id);
    if (listener === undefined || kind === 'preempted') return;
    if (kind === 'token') {
      listener.token(outputTokens, atMs);
      return;
    }
    this.#listeners.delete(id);
    if (kind === 'finished') listener.finished(atMs);
    else listener.rejected();
  };

  #schedule(): void {
    // A replica without work may still have to tell of a request that it rejected.
    const dueMs = this.#replica.nextStepEndMs() ?? (this.#listeners.size > 0 ? this.#clock.nowMs() : null);
    if (dueMs === this.#timer?.dueMs) return;
    this.#timer?.cancel();
    this.#timer = dueMs === null ? null : { dueMs, cancel: this.#clock.at(dueMs, this.#wake) };
  }

  readonly #wake = (): void => {
    this.#timer = null;
    this.#deliver(this.#clock.nowMs());
    this.#schedule();
  };
}

/**
 * No model of time at all: every turn of the event loop is a step that gives each running request one token.
 *
 * Tokens of one answer are written in turns of their own, as an engine does: a client sees first tokens apart from the
 * rest, and many writes. For measuring clients, and whatever else must not wait.
 */
export class NullBackend implements Backend {
  readonly #running = new Map<number, NullRequest>();
  #lastId = 0;
  #turn: NodeJS.Immediate | null = null;

  submit(generation: Generation, listener: GenerationListener): number {
    const id = ++this.#lastId;
    this.#running.set(id, { ...generation, produced: 0, listener });
    this.#turn ??= setImmediate(this.#step);
    return id;
  }

  cancel(id: number): void {
    this.#running.delete(id);
  }

  load(): ReplicaLoad {
    return { running: this.#running.size, waiting: 0, kvCacheUsed: 0, preemptions: 0 };
  }

  nowMs(): number {
    return performance.now();
  }

  stop(): void {
    this.#running.clear();
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#turn = null;
  }

  readonly #step = (): void => {
    const now = performance.now();
    for (const [id, request] of this.#running) {
      request.produced += 1;
      request.listener.token(request.produced, now);
      if (request.produced < request.outputTokens || !this.#running.delete(id)) continue;
      request.listener.finished(now);
    }
    this.#turn = this.#running.size > 0 ? setImmediate(this.#step) : null;
  };
}

type NullRequest = Generation & { produced: number; readonly listener: GenerationListener };
