import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Explanation } from '../core/explanation.js';
import { InputError } from '../core/input-error.js';
import type { Plan } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import { PlanRejected } from '../optimizer/plan.js';
import type { PlanningReply, PlanningRequest, PlanningTask, TransferredError } from './planning-worker.js';

/**
 * Plans and explains off the event loop, one problem at a time, in a thread of its own.
 *
 * States of the thread: absent (before the first call, and after one that ended badly) → working ⇄ idle. A call that
 * outlives its deadline ends the thread and is rejected; so is a call whose thread dies. The next call starts a fresh
 * one. An idle thread does not keep the process alive.
 */

/** Why a call was rejected without a plan. What `plan` itself throws on purpose is passed on as it is. */
const planningFailures = ['queue_full', 'deadline', 'crashed', 'failed', 'closed'] as const;
export type PlanningFailure = (typeof planningFailures)[number];

export class PlanningThreadError extends Error {
  readonly code: PlanningFailure;

  constructor(code: PlanningFailure, message: string) {
    super(message);
    this.name = 'PlanningThreadError';
    this.code = code;
  }
}

export type PlanningThreadOptions = {
  /** Calls that may wait behind the one in work. */
  readonly maxQueued?: number;
  /**
   * Beyond the time limit, for what the limit does not cover: carrying the problem and the plan, merging, the check of
   * the plan [ms]. After time limit and grace the thread is ended.
   */
  readonly graceMs?: number;
  /** The script to run; tests give one that hangs or dies. */
  readonly script?: URL;
};

const workerUrl = import.meta.url.endsWith('.ts')
  ? new URL('../../dist/adapters/planning-worker.js', import.meta.url)
  : new URL('./planning-worker.js', import.meta.url);

/** Controller cycles never queue behind each other; what-if requests may, a little. */
const defaultMaxQueued = 8;
/** Ten times what the largest problem that this project promises to plan takes on a busy machine. */
const defaultGraceMs = 10_000;
/** Time spent making text before other work gets its turn [ms]. */
const sliceMs = 5;
/** Text that is sent as one message [characters]. */
const pieceLength = 262_144;

type Job = {
  readonly problem: PlanningProblem;
  readonly timeLimitMs: number;
  readonly task: PlanningTask;
  /** With the document that the task asks for. */
  readonly resolve: (answer: Plan | Explanation) => void;
  readonly reject: (error: Error) => void;
};

export class PlanningThread {
  readonly #maxQueued: number;
  readonly #graceMs: number;
  readonly #script: URL;
  #worker: Worker | undefined;
  readonly #queue: Job[] = [];
  /** Ends the job in work with an error; undefined while idle. */
  #abort: ((error: PlanningThreadError) => void) | undefined;
  #closed = false;

  constructor(options: PlanningThreadOptions = {}) {
    this.#maxQueued = options.maxQueued ?? defaultMaxQueued;
    this.#graceMs = options.graceMs ?? defaultGraceMs;
    this.#script = options.script ?? workerUrl;
  }

  /**
   * Plans a problem.
   *
   * @param timeLimitMs when the search stops and the best plan so far is returned, with its gap
   * @throws InputError or PlanRejected as `plan` does; PlanningThreadError for everything else
   */
  async plan(problem: PlanningProblem, limits: { readonly timeLimitMs: number }): Promise<Plan> {
    return (await this.#ask(problem, limits.timeLimitMs, { kind: 'plan' })) as Plan;
  }

  /**
   * Explains the plan of a problem, all of it or one model.
   *
   * @param timeLimitMs when the explanation ends with what it has, and says what it left out
   * @throws InputError or PlanRejected as `explain` does; PlanningThreadError for everything else
   */
  async explain(
    problem: PlanningProblem,
    limits: { readonly timeLimitMs: number; readonly model: string | null },
  ): Promise<Explanation> {
    const { timeLimitMs, model } = limits;
    return (await this.#ask(problem, timeLimitMs, { kind: 'explain', model })) as Explanation;
  }

  #ask(problem: PlanningProblem, timeLimitMs: number, task: PlanningTask): Promise<Plan | Explanation> {
    if (this.#closed) return Promise.reject(new PlanningThreadError('closed', 'the planning thread is closed'));
    if (this.#queue.length >= this.#maxQueued && this.#abort !== undefined) {
      const message = `${this.#queue.length} problems are waiting to be planned, which is the most that may`;
      return Promise.reject(new PlanningThreadError('queue_full', message));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ problem, timeLimitMs, task, resolve, reject });
      this.#next();
    });
  }

  /** Ends the thread; calls in work or waiting are rejected. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    for (const job of this.#queue.splice(0))
      job.reject(new PlanningThreadError('closed', 'the planning thread closed'));
    this.#abort?.(new PlanningThreadError('closed', 'the planning thread closed before the plan was made'));
    await worker?.terminate();
  }

  #next(): void {
    if (this.#abort !== undefined) return;
    const job = this.#queue.shift();
    if (job === undefined) return;
    this.#run(job).then(job.resolve, job.reject);
  }

  async #run(job: Job): Promise<Plan | Explanation> {
    const worker = this.#worker ?? this.#start();
    this.#worker = worker;
    let aborted = false;
    let fail: (error: Error) => void = () => undefined;
    const failure = new Promise<never>((_, reject) => {
      fail = reject;
    });
    // The race below may be won by the answer; the loser must not be an unhandled rejection.
    failure.catch(() => undefined);
    this.#abort = (error) => {
      aborted = true;
      fail(error);
    };
    const onError = (error: unknown) =>
      this.#abort?.(new PlanningThreadError('crashed', `the planning thread died: ${String(error)}`));
    const onExit = (code: number) =>
      this.#abort?.(new PlanningThreadError('crashed', `the planning thread died with code ${code}`));
    worker.on('error', onError);
    worker.on('exit', onExit);
    const limitMs = job.timeLimitMs + this.#graceMs;
    const timer = setTimeout(() => {
      this.#abort?.(new PlanningThreadError('deadline', `no plan within ${limitMs} ms: the planning thread was ended`));
    }, limitMs);
    worker.ref();
    try {
      return await Promise.race([this.#exchange(worker, job, () => aborted), failure]);
    } finally {
      clearTimeout(timer);
      worker.off('error', onError);
      worker.off('exit', onExit);
      this.#abort = undefined;
      if (aborted) {
        if (this.#worker === worker) this.#worker = undefined;
        void worker.terminate();
      } else worker.unref();
      this.#next();
    }
  }

  /** Sends the problem in pieces, then pulls the answer in pieces. */
  async #exchange(worker: Worker, job: Job, isAborted: () => boolean): Promise<Plan | Explanation> {
    const send = (request: PlanningRequest) => worker.postMessage(request);
    const answer = receiveAnswer(worker, () => send({ kind: 'more' }));
    // Whoever waits for it hears of it; until then it must not be an unhandled rejection.
    answer.catch(() => undefined);
    const { models, ...head } = job.problem;
    send({ kind: 'begin', head: JSON.stringify(head) });
    let texts: string[] = [];
    let length = 0;
    let sliceStarted = performance.now();
    for (const model of models) {
      const text = JSON.stringify(model);
      texts.push(text);
      length += text.length;
      if (length < pieceLength && performance.now() - sliceStarted < sliceMs) continue;
      send({ kind: 'models', text: `[${texts.join(',')}]` });
      texts = [];
      length = 0;
      await nextTurn();
      if (isAborted()) return answer;
      sliceStarted = performance.now();
    }
    if (texts.length > 0) send({ kind: 'models', text: `[${texts.join(',')}]` });
    send({ kind: 'run', timeLimitMs: job.timeLimitMs, task: job.task });
    return answer;
  }

  #start(): Worker {
    const worker = new Worker(this.#script);
    const forget = () => {
      if (this.#worker === worker) this.#worker = undefined;
    };
    // A thread that dies while idle must not take the process with it; the next call starts another.
    worker.on('error', forget);
    worker.on('exit', forget);
    return worker;
  }
}

/** Puts an answer together from the worker's replies; `askForMore` is called after each, in a turn of its own. */
function receiveAnswer(worker: Worker, askForMore: () => void): Promise<Plan | Explanation> {
  return new Promise((resolve, reject) => {
    let head: Plan | Explanation | undefined;
    const lists: Record<string, unknown[]> = {};
    const onReply = (reply: PlanningReply) => {
      switch (reply.kind) {
        case 'failed':
          worker.off('message', onReply);
          reject(received(reply.error));
          return;
        case 'end':
          worker.off('message', onReply);
          resolve({ ...head, ...lists } as Plan | Explanation);
          return;
        case 'head':
          head = JSON.parse(reply.text) as Plan | Explanation;
          break;
        case 'items': {
          lists[reply.list] ??= [];
          const list = lists[reply.list]!;
          for (const item of JSON.parse(reply.text) as unknown[]) list.push(item);
        }
      }
      // The next piece is asked for in the next turn, so that requests are answered between two pieces.
      setImmediate(askForMore);
    };
    worker.on('message', onReply);
  });
}

function received(error: TransferredError): Error {
  switch (error.kind) {
    case 'input':
      return new InputError(error.source, error.issues);
    case 'rejected':
      return new PlanRejected(error.violations);
    case 'other':
      return new PlanningThreadError('failed', `planning failed: ${error.message}`);
  }
}
