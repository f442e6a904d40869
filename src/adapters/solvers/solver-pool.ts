import { Worker } from 'node:worker_threads';
import type { Program } from '../../optimizer/program.js';
import { type EngineAnswer, noAnswer } from './answer-check.js';
import type { EngineLimits } from './highs.js';
import type { SolveRequest, WorkerEngine, WorkerMessage } from './solver-worker.js';

/**
 * One thread per external engine for the whole process, with a deadline that holds whatever the engine does.
 *
 * States of the thread: absent (nothing asked yet, or the last one died or was ended) → loading → idle ⇄ busy. Calls
 * wait their turn. A call that is not answered by its deadline ends the thread and gets `unknown`; so does a call
 * whose thread dies. Either way the next call starts a fresh thread. An idle thread does not keep the process alive.
 */

/** Loading a WebAssembly runtime takes half a second on a quiet machine; more than this means that it never will [ms]. */
const loadLimitMs = 60_000;
/**
 * Beyond the engine's own time limit: for the check of its answer, and for an engine that looks at its clock only
 * between two steps [ms].
 */
const graceMs = 2_000;

/** The worker's script: next to this file once compiled; tests run this file as TypeScript and use the built one. */
const workerUrl = import.meta.url.endsWith('.ts')
  ? new URL('../../../dist/adapters/solvers/solver-worker.js', import.meta.url)
  : new URL('./solver-worker.js', import.meta.url);

export type SolverThreadOptions = {
  /** The script to run; tests give one that crashes. */
  readonly script?: URL;
  /** How long after the time limit the thread is ended [ms]. */
  readonly graceMs?: number;
};

export class SolverThread {
  readonly #engine: WorkerEngine;
  readonly #script: URL;
  readonly #graceMs: number;
  #worker: Promise<Worker> | undefined;
  #started: Worker | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(engine: WorkerEngine, options: SolverThreadOptions = {}) {
    this.#engine = engine;
    this.#script = options.script ?? workerUrl;
    this.#graceMs = options.graceMs ?? graceMs;
  }

  /** Solves one program, after the calls before it; never rejects: what goes wrong is an `unknown` with its detail. */
  solve(program: Program, limits: EngineLimits, shouldStop: () => boolean = () => false): Promise<EngineAnswer> {
    const turn = this.#last.then(async () => {
      if (this.#closed) return noAnswer('no-answer');
      if (shouldStop()) return noAnswer('time-limit');
      return this.#ask({ program, limits });
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /**
   * Loads the engine, so that a clock that starts afterwards does not count it (half a second, more on a busy machine).
   * Never rejects: what cannot load says so at the first problem.
   */
  async ready(): Promise<void> {
    if (this.#closed) return;
    this.#worker ??= this.#start();
    await this.#worker.catch(() => {
      this.#worker = undefined;
    });
  }

  /** Ends the thread; calls that wait get `unknown`. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#started;
    this.#forget(worker);
    await worker?.terminate();
    await this.#last;
  }

  async #ask(request: SolveRequest): Promise<EngineAnswer> {
    let worker: Worker;
    try {
      this.#worker ??= this.#start();
      worker = await this.#worker;
    } catch {
      this.#worker = undefined;
      return noAnswer('crashed');
    }
    worker.ref();
    const { answer, alive } = await new Promise<{ answer: EngineAnswer; alive: boolean }>((resolve) => {
      const finish = (answer: EngineAnswer, alive: boolean) => {
        clearTimeout(timer);
        worker.off('message', onMessage);
        worker.off('error', onDeath);
        worker.off('exit', onDeath);
        resolve({ answer, alive });
      };
      const onMessage = (message: WorkerMessage) => {
        if (message.kind === 'answer') finish(message.answer, true);
        else if (message.kind === 'failed') finish(noAnswer('crashed'), false);
      };
      const onDeath = () => finish(noAnswer('crashed'), false);
      const deadlineMs = request.limits.timeLimitMs + this.#graceMs;
      const timer = setTimeout(() => finish(noAnswer('time-limit', deadlineMs), false), deadlineMs);
      worker.on('message', onMessage);
      worker.on('error', onDeath);
      worker.on('exit', onDeath);
      const { program, buffers } = packed(request.program);
      worker.postMessage({ ...request, program } satisfies SolveRequest, buffers);
    });
    if (alive) worker.unref();
    else {
      this.#forget(worker);
      // An error of a thread that is being ended has no one left to tell.
      worker.on('error', () => undefined);
      await worker.terminate();
    }
    return answer;
  }

  #forget(worker: Worker | undefined): void {
    if (worker === undefined || this.#started === worker) {
      this.#worker = undefined;
      this.#started = undefined;
    }
  }

  #start(): Promise<Worker> {
    const worker = new Worker(this.#script, { workerData: { engine: this.#engine } });
    this.#started = worker;
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        worker.off('message', onMessage);
        worker.off('error', onError);
        worker.off('exit', onExit);
        act();
      };
      const fail = (error: Error) =>
        settle(() => {
          this.#forget(worker);
          worker.on('error', () => undefined);
          void worker.terminate();
          reject(error);
        });
      const onMessage = (message: WorkerMessage) => {
        if (message.kind !== 'ready') return;
        settle(() => {
          // A thread that dies while idle must not take the process with it; the next call starts another.
          worker.on('error', () => this.#forget(worker));
          worker.on('exit', () => this.#forget(worker));
          worker.unref();
          resolve(worker);
        });
      };
      const onError = (error: unknown) => fail(error instanceof Error ? error : new Error(String(error)));
      const onExit = () => fail(new Error(`the ${this.#engine} thread ended before it was ready`));
      const timer = setTimeout(() => fail(new Error(`the ${this.#engine} thread did not load`)), loadLimitMs);
      worker.on('message', onMessage);
      worker.on('error', onError);
      worker.on('exit', onExit);
    });
  }
}

/**
 * A program whose arrays are its own, to be handed over to a thread: one copy in memory, of what the program sees and not
 * of the larger buffers that some of its arrays look into; the caller's program stays whole.
 */
function packed(program: Program): { readonly program: Program; readonly buffers: ArrayBuffer[] } {
  const buffers: ArrayBuffer[] = [];
  const own = (values: Float64Array): Float64Array => {
    const copy = values.slice();
    buffers.push(copy.buffer);
    return copy;
  };
  const { unservedPrice, unservedLimits, switching, sharedLimits } = program;
  return {
    program: {
      bucketCount: program.bucketCount,
      deploymentCount: program.deploymentCount,
      work: own(program.work),
      rate: own(program.rate),
      cost: own(program.cost),
      capacity: own(program.capacity),
      lower: own(program.lower),
      upper: own(program.upper),
      unservedLimit: program.unservedLimit,
      ...(unservedPrice && { unservedPrice: own(unservedPrice) }),
      ...(unservedLimits && {
        unservedLimits: unservedLimits.map((it) => ({ weight: own(it.weight), limit: it.limit })),
      }),
      ...(switching && {
        switching: { current: own(switching.current), start: own(switching.start), stop: own(switching.stop) },
      }),
      ...(sharedLimits && { sharedLimits: sharedLimits.map((it) => ({ use: own(it.use), limit: it.limit })) }),
    },
    buffers,
  };
}

/** Threads in use, by engine, with the number of engines opened on each. */
const shared = new Map<WorkerEngine, { readonly thread: SolverThread; users: number }>();

/** The process-wide thread of an engine; `release` ends it when its last user has gone. */
export function sharedThread(engine: WorkerEngine): {
  readonly thread: SolverThread;
  readonly release: () => Promise<void>;
} {
  let entry = shared.get(engine);
  if (entry === undefined) {
    entry = { thread: new SolverThread(engine), users: 0 };
    shared.set(engine, entry);
  }
  const held = entry;
  held.users++;
  let released = false;
  return {
    thread: held.thread,
    release: async () => {
      if (released) return;
      released = true;
      if (--held.users > 0) return;
      if (shared.get(engine) === held) shared.delete(engine);
      await held.thread.close();
    },
  };
}
