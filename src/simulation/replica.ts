import { blockTokens } from '../core/gpu-memory.js';
import type { StepTimes } from './step-time.js';

/**
 * One replica of an engine as a continuous-batching queue in virtual time: deterministic, without clock or chance.
 *
 * The rules are those of vLLM's scheduler with its defaults. A step computes one token of every decoding sequence and,
 * with the tokens that are left of `maxBatchedTokens`, chunks of prompts: first of those begun, then of the queue, in
 * the order of arrival. Keys and values lie in blocks of 16 tokens. A request leaves the queue when a place among
 * `maxSequences` and blocks for its whole prompt are free; the head of the queue is never overtaken. Where a decoding
 * sequence needs a block and none is free, the newest sequence loses all of its blocks, goes back to the head of the
 * queue and computes prompt and produced tokens again later. The step that completes a prompt produces its first token.
 *
 * A request is *waiting*, *running* (from its first chunk on; back to waiting when preempted), then finished; or
 * rejected when it is submitted; or cancelled at any time, which makes no event.
 */

export type ReplicaLimits = {
  /** Most sequences that run at once (vLLM: max-num-seqs). */
  readonly maxSequences: number;
  /** Most tokens of one step, prompts and decodes together (vLLM: max-num-batched-tokens). */
  readonly maxBatchedTokens: number;
  /** Longest request, input + output (vLLM: max-model-len). */
  readonly maxTokens: number;
};

/** Lengths are whole numbers, 1 or more. Ids are unique among the requests that have not ended. */
export type ReplicaRequest = { readonly id: number; readonly inputTokens: number; readonly outputTokens: number };

export type ReplicaEventKind = 'token' | 'finished' | 'rejected' | 'preempted';

/**
 * What happened to a request. `finished` follows its last `token` at the same time. `rejected`: it is longer than
 * `maxTokens`, or than the whole cache.
 */
export type ReplicaEvent = {
  readonly kind: ReplicaEventKind;
  readonly id: number;
  readonly atMs: number;
  /** Produced so far by this request. */
  readonly outputTokens: number;
};

/** Told of events one by one, without an object for each; of tokens, `advanceMilestones` tells the first only. */
export type ReplicaListener = (kind: ReplicaEventKind, id: number, atMs: number, outputTokens: number) => void;

export type ReplicaLoad = {
  readonly running: number;
  readonly waiting: number;
  /** Share of the cache's blocks that are taken, 0..1. */
  readonly kvCacheUsed: number;
  /** Since the start. */
  readonly preemptions: number;
};

type Sequence = {
  readonly id: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  produced: number;
  /** Tokens whose keys and values are in the cache. */
  computed: number;
  /** Tokens to compute before it decodes: the prompt, and after a preemption what it had produced. */
  promptTokens: number;
  blocks: number;
  /** Tokens that it computes in the step in progress. */
  inStep: number;
  ended: boolean;
};

/** One replica as a continuous-batching queue in virtual time. */
export class SimulatedReplica {
  readonly #stepTimes: StepTimes;
  readonly #limits: ReplicaLimits;
  readonly #totalBlocks: number;
  #freeBlocks: number;
  /** In the order of admission; the last is the newest. */
  #running: Sequence[] = [];
  /** The queue from `#head` on, in the order of arrival; may hold cancelled ones. */
  #queue: Sequence[] = [];
  #head = 0;
  /** Stands before the queue; the last goes first. */
  readonly #preempted: Sequence[] = [];
  #waiting = 0;
  readonly #live = new Map<number, Sequence>();
  #preemptions = 0;
  #nowMs = 0;
  /** End of the step in progress; null between steps. */
  #stepEndMs: number | null = null;
  /** Sequences of the step in progress. */
  #inStep: Sequence[] = [];
  /** Events of steps that `submit` and `cancel` had to end first; told by the next `advance`. */
  readonly #untold: ReplicaEvent[] = [];
  /** Sum of the durations of all steps that began. */
  #begunMs = 0;
  /**
   * Steps that may be passed over: those that end and are followed by one alike, in which the same sequences decode, with
   * none that finishes, comes in or is preempted. `#passed` of them have been, and are not in the sequences yet.
   */
  #passable = 0;
  #passed = 0;
  /** Tokens in the cache of the sequences of the step in progress, where it may be passed over. */
  #contextTokens = 0;

  constructor({ stepTimes, limits }: { readonly stepTimes: StepTimes; readonly limits: ReplicaLimits }) {
    for (const name of ['maxSequences', 'maxBatchedTokens', 'maxTokens'] as const) {
      const value = limits[name];
      if (!(value >= 1 && (Number.isInteger(value) || value === Number.POSITIVE_INFINITY))) {
        throw new RangeError(`${name} is ${value}, expected a whole number >= 1`);
      }
    }
    this.#stepTimes = stepTimes;
    this.#limits = limits;
    this.#totalBlocks = Math.floor(stepTimes.kvCacheTokens / blockTokens);
    this.#freeBlocks = this.#totalBlocks;
  }

  /**
   * Puts a request at the end of the queue. A time before that of an earlier call counts as that of the earlier call.
   *
   * @throws RangeError for lengths that are no whole numbers of 1 or more, and for the id of a request that has not ended
   */
  submit({ id, inputTokens, outputTokens }: ReplicaRequest, atMs: number): void {
    if (!(Number.isInteger(inputTokens) && inputTokens >= 1 && Number.isInteger(outputTokens) && outputTokens >= 1)) {
      throw new RangeError(`request ${id} of ${inputTokens} + ${outputTokens} tokens, expected whole numbers >= 1`);
    }
    this.#moveTo(atMs);
    if (this.#live.has(id)) throw new RangeError(`request ${id} has not ended, expected an id of its own`);
    // The last token is never an input, so its keys and values are never kept.
    const blocks = Math.ceil((inputTokens + outputTokens - 1) / blockTokens);
    if (inputTokens + outputTokens > this.#limits.maxTokens || blocks > this.#totalBlocks) {
      this.#untold.push({ kind: 'rejected', id, atMs: this.#nowMs, outputTokens: 0 });
      return;
    }
    const sequence: Sequence = {
      id,
      inputTokens,
      outputTokens,
      produced: 0,
      computed: 0,
      promptTokens: inputTokens,
      blocks: 0,
      inStep: 0,
      ended: false,
    };
    this.#settle();
    this.#live.set(id, sequence);
    this.#queue.push(sequence);
    this.#waiting++;
  }

  /** Forgets a request, whatever its state; its cache is free at once, the step in progress takes as long as it would. Unknown ids are ignored. */
  cancel(id: number, atMs: number): void {
    this.#moveTo(atMs);
    const sequence = this.#live.get(id);
    if (sequence === undefined) return;
    this.#settle();
    this.#live.delete(id);
    sequence.ended = true;
    this.#release(sequence);
    const place = this.#running.indexOf(sequence);
    if (place >= 0) {
      this.#running.splice(place, 1);
      return;
    }
    this.#waiting--;
    const before = this.#preempted.indexOf(sequence);
    if (before >= 0) this.#preempted.splice(before, 1);
  }

  /** When the step in progress ends, which begins now where work waits; null where there is none. */
  nextStepEndMs(): number | null {
    this.#begin();
    return this.#stepEndMs;
  }

  /**
   * Ends all steps that end by then, and moves the clock there.
   *
   * @returns events in the order of time: one `token` for every token produced
   */
  advance(untilMs: number): readonly ReplicaEvent[] {
    const events: ReplicaEvent[] = [];
    this.advanceEach(untilMs, (kind, id, atMs, outputTokens) => events.push({ kind, id, atMs, outputTokens }));
    return events;
  }

  /** As `advance`, telling a listener instead of making a list. The listener must not call the replica. */
  advanceEach(untilMs: number, listener: ReplicaListener): void {
    for (const event of this.#untold) listener(event.kind, event.id, event.atMs, event.outputTokens);
    this.#untold.length = 0;
    this.#settle();
    this.#run(untilMs, listener, false);
  }

  /**
   * As `advanceEach`, without `token` events other than each request's first. What happens is the same to the last bit,
   * and costs far less: steps in which sequences only decode are added up without touching each sequence.
   */
  advanceMilestones(untilMs: number, listener: ReplicaListener): void {
    if (this.#untold.length > 0) {
      for (const { kind, id, atMs, outputTokens } of this.#untold) {
        if (kind !== 'token' || outputTokens === 1) listener(kind, id, atMs, outputTokens);
      }
      this.#untold.length = 0;
    }
    this.#run(untilMs, listener, true);
  }

  /** Requests in the batch. */
  get running(): number {
    return this.#running.length;
  }

  /** Requests in the queue. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Time since the start in which it computed, up to the last `advance` [ms]. */
  get busyMs(): number {
    return this.#begunMs - (this.#stepEndMs === null ? 0 : Math.max(0, this.#stepEndMs - this.#nowMs));
  }

  load(): ReplicaLoad {
    this.#settle();
    return {
      running: this.#running.length,
      waiting: this.#waiting,
      kvCacheUsed: this.#totalBlocks > 0 ? this.#usedBlocks() / this.#totalBlocks : 0,
      preemptions: this.#preemptions,
    };
  }

  #usedBlocks(): number {
    let used = 0;
    for (const { blocks } of this.#running) used += blocks;
    return used;
  }

  readonly #keep: ReplicaListener = (kind, id, atMs, outputTokens) =>
    this.#untold.push({ kind, id, atMs, outputTokens });

  #moveTo(atMs: number): void {
    if (!Number.isFinite(atMs)) throw new RangeError(`the time is ${atMs}, expected milliseconds`);
    if (atMs > this.#nowMs) this.#run(atMs, this.#keep, false);
  }

  #run(untilMs: number, listener: ReplicaListener, onlyMilestones: boolean): void {
    for (;;) {
      if (this.#stepEndMs === null) {
        // What is submitted at the very time at which a step begins takes part in it.
        if (this.#nowMs >= untilMs) return;
        this.#begin(listener);
        if (this.#stepEndMs === null) break;
      }
      if (this.#stepEndMs > untilMs) break;
      if (onlyMilestones && this.#passable > this.#passed) this.#pass(untilMs);
      if (this.#stepEndMs > untilMs) break;
      this.#end(this.#stepEndMs, listener, onlyMilestones);
    }
    if (untilMs > this.#nowMs && untilMs !== Number.POSITIVE_INFINITY) this.#nowMs = untilMs;
  }

  /** Passes over the steps that may be, as far as those go that end before then. */
  #pass(untilMs: number): void {
    const sequences = this.#inStep.length;
    let endMs = this.#stepEndMs!;
    let decodeContextTokens = this.#contextTokens;
    let passed = this.#passed;
    let begunMs = this.#begunMs;
    while (endMs < untilMs && passed < this.#passable) {
      passed++;
      decodeContextTokens += sequences;
      const ms = this.#stepTimes.stepMs({
        prefillTokens: 0,
        prefillAttention: 0,
        decodeSequences: sequences,
        decodeContextTokens,
      });
      begunMs += ms;
      endMs += ms;
    }
    this.#stepEndMs = endMs;
    this.#contextTokens = decodeContextTokens;
    this.#passed = passed;
    this.#begunMs = begunMs;
  }

  /** Brings the steps that were passed over into the sequences; the step in progress is an ordinary one then. */
  #settle(): void {
    const passed = this.#passed;
    this.#passable = 0;
    if (passed === 0) return;
    this.#passed = 0;
    for (const sequence of this.#inStep) {
      sequence.computed += passed;
      sequence.produced += passed;
      const blocks = Math.floor(sequence.computed / blockTokens) + 1;
      if (blocks > sequence.blocks) {
        this.#freeBlocks -= blocks - sequence.blocks;
        sequence.blocks = blocks;
      }
    }
  }

  /** Plans the next step, from now on, where none is in progress and there is work. */
  #begin(listener: ReplicaListener = this.#keep): void {
    if (this.#stepEndMs !== null || (this.#running.length === 0 && this.#waiting === 0)) return;
    const running = this.#running;
    const step = this.#inStep;
    step.length = 0;
    let budget = this.#limits.maxBatchedTokens;
    let prefillTokens = 0;
    let prefillAttention = 0;
    let decodeSequences = 0;
    let decodeContextTokens = 0;
    let preempted = false;
    let tokensLeft = Number.POSITIVE_INFINITY;

    const compute = (sequence: Sequence): void => {
      const rest = sequence.promptTokens - sequence.computed;
      if (rest <= 0) {
        sequence.inStep = 1;
        decodeSequences++;
        decodeContextTokens += sequence.computed + 1;
        budget--;
        const left = sequence.outputTokens - sequence.produced;
        if (left < tokensLeft) tokensLeft = left;
      } else {
        const tokens = rest < budget ? rest : budget;
        sequence.inStep = tokens;
        prefillTokens += tokens;
        prefillAttention += tokens * (sequence.computed + tokens / 2);
        budget -= tokens;
      }
      step.push(sequence);
    };

    for (let i = 0; i < running.length && budget > 0; i++) {
      const sequence = running[i]!;
      // Only a decoding sequence outgrows its blocks: a prompt has all of its own since it was admitted.
      if (sequence.computed >= sequence.blocks * blockTokens) {
        while (this.#freeBlocks === 0) {
          // The newest is never one that is in this step already, since those stand before `sequence`.
          const newest = running.pop()!;
          this.#preempt(newest, listener);
          preempted = true;
          if (newest === sequence) break;
        }
        if (i >= running.length) break;
        this.#freeBlocks--;
        sequence.blocks++;
      }
      compute(sequence);
    }
    // After a preemption nothing is admitted in the same step: it would take the blocks that were just freed.
    while (!preempted && budget > 0 && running.length < this.#limits.maxSequences) {
      const next = this.#first();
      if (next === undefined) break;
      const blocks = Math.ceil(next.promptTokens / blockTokens);
      if (blocks > this.#freeBlocks) break;
      this.#removeFirst();
      this.#freeBlocks -= blocks;
      next.blocks = blocks;
      running.push(next);
      compute(next);
    }
    const ms = this.#stepTimes.stepMs({ prefillTokens, prefillAttention, decodeSequences, decodeContextTokens });
    this.#begunMs += ms;
    this.#stepEndMs = this.#nowMs + ms;
    if (prefillTokens > 0 || preempted || decodeSequences < running.length || decodeSequences === 0) return;
    // The queue's head did not come in, and nothing frees a place or a block for it until one finishes.
    // Each sequence takes at most one block in 16 steps.
    const untilShort = blockTokens * Math.floor(this.#freeBlocks / decodeSequences);
    this.#passable = Math.min(tokensLeft - 1, untilShort);
    this.#contextTokens = decodeContextTokens;
  }

  #end(atMs: number, listener: ReplicaListener, onlyMilestones: boolean): void {
    this.#settle();
    this.#nowMs = atMs;
    this.#stepEndMs = null;
    let anyEnded = false;
    for (const sequence of this.#inStep) {
      if (sequence.ended) continue;
      sequence.computed += sequence.inStep;
      if (sequence.computed < sequence.promptTokens) continue;
      sequence.produced++;
      if (!onlyMilestones || sequence.produced === 1) listener('token', sequence.id, atMs, sequence.produced);
      if (sequence.produced === sequence.outputTokens) {
        sequence.ended = true;
        anyEnded = true;
        this.#live.delete(sequence.id);
        this.#release(sequence);
        listener('finished', sequence.id, atMs, sequence.produced);
      }
    }
    if (anyEnded) this.#running = this.#running.filter(({ ended }) => !ended);
  }

  #preempt(sequence: Sequence, listener: ReplicaListener): void {
    this.#preemptions++;
    this.#release(sequence);
    sequence.computed = 0;
    sequence.promptTokens = sequence.inputTokens + sequence.produced;
    this.#preempted.push(sequence);
    this.#waiting++;
    listener('preempted', sequence.id, this.#nowMs, sequence.produced);
  }

  #release(sequence: Sequence): void {
    this.#freeBlocks += sequence.blocks;
    sequence.blocks = 0;
  }

  #first(): Sequence | undefined {
    const before = this.#preempted.at(-1);
    if (before !== undefined) return before;
    while (this.#queue[this.#head]?.ended === true) this.#head++;
    // The part that has left is cut off now and then, so that a long queue is not copied at every step.
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return this.#queue[this.#head];
  }

  #removeFirst(): void {
    this.#waiting--;
    if (this.#preempted.pop() === undefined) this.#head++;
  }
}
