import { heapOrder } from '../../core/binary-heap.js';
import { blockTokens } from '../../core/gpu-memory.js';
import type { ReplicaLimits } from '../replica.js';
import type { StepTimes } from '../step-time.js';

/**
 * A group of replicas that are alike, computed as one of them: the unit of `fluid` fidelity.
 *
 * The group follows the rules of `SimulatedReplica` (continuous batching, chunks of prompts, a queue that is never
 * overtaken, a cache that preempts the newest), with two differences that make its cost depend on requests and not on
 * tokens. Steps that only decode are taken together, up to the next one in which something happens (a request ends or
 * arrives, the cache is full), at the step time of their mean context. And a request of the group stands for `count`
 * requests, one on each of as many of its replicas: where the group has *r* replicas it is `count / r` of a sequence in
 * the batch of every one of them. Requests that a group takes have count = r; parts of a sequence arise only where groups
 * are split and merged, which keeps every request that is in flight.
 *
 * The cache is counted in tokens plus half a block for each sequence, instead of in blocks.
 */

/** What became of requests that ended alike. Times are those of the caller's clock [ms]. */
export type GroupOutcome = {
  readonly arrivedMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests that this stands for; need not be whole. */
  readonly count: number;
  readonly firstTokenMs: number;
  readonly endMs: number;
};

/** Requests of a group; lengths are whole numbers, 1 or more. */
export type LostRequests = Pick<GroupOutcome, 'arrivedMs' | 'inputTokens' | 'outputTokens' | 'count'>;

export type GroupListener = (outcome: GroupOutcome) => void;

export type GroupOptions = {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
  readonly listener: GroupListener;
  /** Replicas that the group stands for, > 0. */
  readonly replicas: number;
  readonly atMs: number;
  /** From which `inFlightMs` counts time; the same for groups that are split and merged. */
  readonly originMs: number;
};

type Sequence = {
  readonly arrivedMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  count: number;
  firstTokenMs: number;
  /** Tokens to compute before it decodes: the prompt, and after a preemption what it had produced. */
  promptTokens: number;
  computed: number;
  produced: number;
  /** Value of the group's clock of steps at which it has produced all; of decoding ones. */
  endStep: number;
  /** Order of admission: the highest is the newest. */
  admitted: number;
};

/** Last block of a sequence that is not full, as a mean [tokens]. */
const halfBlock = (blockTokens - 1) / 2;
/** Contexts may grow by this part in steps that are taken together: a step's time is nearly linear in them. */
const contextGrowth = 0.1;
/** Of fewer requests a split takes none, so that what is told of never gets lost in rounding. */
const crumb = 0.001;
/** Shares of sequences are sums of quotients. */
const rounding = 1e-9;

export class ReplicaGroup {
  readonly #stepTimes: StepTimes;
  readonly #limits: ReplicaLimits;
  readonly #listener: GroupListener;
  readonly #cacheTokens: number;
  #replicas: number;
  /** Start of what is in progress, or the end of the last step. */
  #nowMs: number;
  /** Steps taken since the start. */
  #steps = 0;
  #lastEndMs: number;
  #admissions = 0;
  /** By `endStep`, the earliest first: a binary heap. */
  #decoding: Sequence[] = [];
  /** Admitted, with prompts that are not yet computed, in the order of admission. */
  #prompts: Sequence[] = [];
  /** In the order of arrival from `#head` on. */
  #queue: Sequence[] = [];
  #head = 0;
  /** Stands before the queue; the last goes first. */
  #preempted: Sequence[] = [];

  // Of one replica: sums of shares over its batch.
  #batch = 0;
  #contextTokens = 0;
  #promptSequences = 0;
  #promptBlocksTokens = 0;

  /** Requests, over all replicas of the group. */
  #running = 0;
  #waiting = 0;
  #busyReplicaMs = 0;
  /** Minus the start of each request that came, plus the end of each that ended: requests × ms since `#originMs`. */
  #inFlightMs = 0;
  readonly #originMs: number;

  /** What is in progress: steps that only decode, or one step with prompts; Infinity = nothing is, or not begun. */
  #endMs = Number.POSITIVE_INFINITY;
  #stepMs = 0;
  /** Steps in progress that only decode; 0 = one with prompts. */
  #decodeSteps = 0;
  /** Tokens of each of `#prompts` in the step in progress. */
  readonly #chunks: number[] = [];

  constructor({ stepTimes, limits, listener, replicas, atMs, originMs }: GroupOptions) {
    this.#stepTimes = stepTimes;
    this.#limits = limits;
    this.#listener = listener;
    this.#cacheTokens = Math.floor(stepTimes.kvCacheTokens / blockTokens) * blockTokens;
    this.#replicas = replicas;
    this.#nowMs = atMs;
    this.#lastEndMs = atMs;
    this.#originMs = originMs;
  }

  get replicas(): number {
    return this.#replicas;
  }

  /** Requests in its batches, over all replicas. */
  get running(): number {
    return this.#running;
  }

  /** Requests in its queues, over all replicas. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Requests on one of its replicas. */
  get load(): number {
    return (this.#running + this.#waiting) / this.#replicas;
  }

  get isEmpty(): boolean {
    return (
      this.#decoding.length === 0 &&
      this.#prompts.length === 0 &&
      this.#queue.length === this.#head &&
      this.#preempted.length === 0
    );
  }

  /** When the last request ended that did, or the group was made [ms]. */
  get lastEndMs(): number {
    return this.#lastEndMs;
  }

  /** No later than the next time at which a request ends; Infinity without requests. */
  get nextEventMs(): number {
    return this.#endMs === Number.POSITIVE_INFINITY && !this.isEmpty ? this.#nowMs : this.#endMs;
  }

  /** Time in which its replicas computed, since the group was made [replica-ms]. */
  busyReplicaMs(atMs: number): number {
    const begun = this.#endMs === Number.POSITIVE_INFINITY ? 0 : Math.max(0, Math.min(atMs, this.#endMs) - this.#nowMs);
    return this.#busyReplicaMs + begun * this.#replicas;
  }

  /** Requests in its batches and queues, over all replicas, summed over time since the group was made [request-ms]. */
  inFlightMs(atMs: number): number {
    return this.#inFlightMs + (this.#running + this.#waiting) * (atMs - this.#originMs);
  }

  /**
   * Puts requests that are alike at the end of the queue: `count` of them, one on each of as many replicas.
   *
   * @returns false where they are refused: longer than `maxTokens`, or than the whole cache
   */
  submit(request: LostRequests, atMs: number): boolean {
    this.advance(atMs);
    const { inputTokens, outputTokens, count } = request;
    const kept = Math.ceil((inputTokens + outputTokens - 1) / blockTokens) * blockTokens;
    if (inputTokens + outputTokens > this.#limits.maxTokens || kept > this.#cacheTokens) return false;
    const blocked = this.#first() !== undefined;
    this.#queue.push({
      arrivedMs: request.arrivedMs,
      inputTokens,
      outputTokens,
      count,
      firstTokenMs: Number.NaN,
      promptTokens: inputTokens,
      computed: 0,
      produced: 0,
      endStep: 0,
      admitted: 0,
    });
    this.#waiting += count;
    this.#inFlightMs -= count * (atMs - this.#originMs);
    if (this.#endMs === Number.POSITIVE_INFINITY) this.#nowMs = Math.max(this.#nowMs, atMs);
    // It is looked at when the step ends that is in progress; where others wait already, they are no nearer to a place.
    else if (this.#decodeSteps > 0 && !blocked) this.#cutShort(atMs);
    return true;
  }

  /** Ends all steps that end by then, and tells the listener of requests that ended. */
  advance(untilMs: number): void {
    for (;;) {
      if (this.#endMs === Number.POSITIVE_INFINITY) {
        // What is submitted at the very time at which a step begins takes part in it.
        if (this.#nowMs >= untilMs || this.isEmpty) return;
        this.#begin();
      }
      if (this.#endMs > untilMs) return;
      this.#end();
    }
  }

  /** Takes some of its replicas out, with their requests, as a group of its own. */
  split(replicas: number): ReplicaGroup {
    if (!(replicas > 0 && replicas < this.#replicas)) {
      throw new RangeError(`${replicas} of ${this.#replicas} replicas, expected more than none and fewer than all`);
    }
    const part = replicas / this.#replicas;
    const other = new ReplicaGroup({
      stepTimes: this.#stepTimes,
      limits: this.#limits,
      listener: this.#listener,
      replicas,
      atMs: this.#nowMs,
      originMs: this.#originMs,
    });
    const take = (sequences: readonly Sequence[]): Sequence[] =>
      sequences.flatMap((sequence) => {
        const taken = sequence.count * part;
        if (taken < crumb) return [];
        sequence.count -= taken;
        return [{ ...sequence, count: taken }];
      });
    // Chunks of the step in progress go with their prompts.
    for (let i = 0; i < this.#prompts.length; i++) {
      const [prompt] = take([this.#prompts[i]!]);
      if (prompt === undefined) continue;
      other.#prompts.push(prompt);
      if (i < this.#chunks.length) other.#chunks.push(this.#chunks[i]!);
    }
    other.#decoding = take(this.#decoding);
    other.#queue = take(this.#queue.slice(this.#head));
    other.#preempted = take(this.#preempted);
    other.#inFlightMs = this.#inFlightMs * part;
    this.#inFlightMs -= other.#inFlightMs;
    other.#steps = this.#steps;
    other.#admissions = this.#admissions;
    // Shares of a sequence, and with them step times, are what they were.
    if (!other.isEmpty) {
      other.#endMs = this.#endMs;
      other.#stepMs = this.#stepMs;
      other.#decodeSteps = this.#decodeSteps;
    }
    other.#busyReplicaMs = this.#busyReplicaMs * part;
    this.#busyReplicaMs -= other.#busyReplicaMs;
    this.#replicas -= replicas;
    this.#sumUp();
    other.#sumUp();
    return other;
  }

  /** Takes in another group, with its requests; that one must not be used again. */
  merge(other: ReplicaGroup, atMs: number): void {
    this.#toBoundary(atMs);
    other.#toBoundary(atMs);
    const replicas = this.#replicas + other.#replicas;
    // Both stand between two steps, at most one step apart.
    this.#nowMs = (this.#nowMs * this.#replicas + other.#nowMs * other.#replicas) / replicas;
    // Who got its first token at the end of the later step got it at their common time: its next may come sooner than that.
    for (const one of [this, other]) {
      for (const sequence of [...one.#decoding, ...one.#preempted]) {
        sequence.firstTokenMs = Math.min(sequence.firstTokenMs, this.#nowMs);
      }
    }
    for (const sequence of other.#decoding) {
      sequence.endStep += this.#steps - other.#steps;
      byEnd.push(this.#decoding, sequence);
    }
    this.#prompts = inOrder([...this.#prompts, ...other.#prompts]);
    this.#queue = inOrder([...this.#queue.slice(this.#head), ...other.#queue.slice(other.#head)]);
    this.#head = 0;
    this.#preempted = inOrder([...this.#preempted, ...other.#preempted]).reverse();
    this.#admissions = Math.max(this.#admissions, other.#admissions);
    this.#replicas = replicas;
    this.#busyReplicaMs += other.#busyReplicaMs;
    this.#inFlightMs += other.#inFlightMs;
    this.#sumUp();
  }

  /** Loses all requests that have not ended. The group must not be used again. */
  abandon(): readonly LostRequests[] {
    const lost = [...this.#decoding, ...this.#prompts, ...this.#preempted, ...this.#queue.slice(this.#head)];
    this.#decoding = [];
    this.#prompts = [];
    this.#preempted = [];
    this.#queue = [];
    this.#head = 0;
    this.#endMs = Number.POSITIVE_INFINITY;
    this.#sumUp();
    return lost.map(({ arrivedMs, inputTokens, outputTokens, count }) => ({
      arrivedMs,
      inputTokens,
      outputTokens,
      count,
    }));
  }

  #sumUp(): void {
    const replicas = this.#replicas;
    let running = 0;
    let context = 0;
    for (const sequence of this.#decoding) {
      running += sequence.count;
      context += sequence.count * (sequence.inputTokens + sequence.outputTokens - 1 - (sequence.endStep - this.#steps));
    }
    this.#batch = running / replicas;
    this.#contextTokens = context / replicas;
    let prompts = 0;
    let promptBlocks = 0;
    for (const { count, promptTokens } of this.#prompts) {
      prompts += count;
      promptBlocks += count * wholeBlocks(promptTokens);
    }
    this.#promptSequences = prompts / replicas;
    this.#promptBlocksTokens = promptBlocks / replicas;
    this.#running = running + prompts;
    this.#waiting = 0;
    for (const { count } of this.#preempted) this.#waiting += count;
    for (let i = this.#head; i < this.#queue.length; i++) this.#waiting += this.#queue[i]!.count;
  }

  /** To the end of the step in progress, which may lie a step ahead of the time. */
  #toBoundary(atMs: number): void {
    this.advance(atMs);
    if (this.#endMs !== Number.POSITIVE_INFINITY && this.#decodeSteps > 0) this.#cutShort(atMs);
    if (this.#endMs !== Number.POSITIVE_INFINITY) this.#end();
    if (this.isEmpty) this.#nowMs = Math.max(this.#nowMs, atMs);
  }

  /** Ends the steps in progress that only decode with the first that ends at that time or after. */
  #cutShort(atMs: number): void {
    const begun = Math.ceil((atMs - this.#nowMs) / this.#stepMs - rounding);
    if (begun >= this.#decodeSteps) return;
    this.#decodeSteps = Math.max(0, begun);
    this.#endMs = this.#nowMs + this.#decodeSteps * this.#stepMs;
    // None has begun: whatever is next begins now.
    if (this.#decodeSteps === 0) this.#endMs = Number.POSITIVE_INFINITY;
  }

  /** Plans what is done from now on, where there is work. */
  #begin(): void {
    const { maxBatchedTokens, maxSequences } = this.#limits;
    const replicas = this.#replicas;
    const preempted = this.#makeRoom();
    let budget = maxBatchedTokens - this.#batch;
    let prefillTokens = 0;
    let prefillAttention = 0;
    this.#chunks.length = 0;
    const compute = (sequence: Sequence): void => {
      const share = sequence.count / replicas;
      const rest = sequence.promptTokens - sequence.computed;
      const tokens = Math.min(rest, Math.ceil(budget / share));
      prefillTokens += share * tokens;
      prefillAttention += share * tokens * (sequence.computed + tokens / 2);
      budget -= share * tokens;
      this.#chunks.push(tokens);
    };
    for (let i = 0; i < this.#prompts.length && budget > 0; i++) compute(this.#prompts[i]!);
    // After a preemption nothing is admitted in the same step: it would take the room that was just made.
    while (!preempted && budget > 0) {
      const next = this.#first();
      if (next === undefined) break;
      const share = next.count / replicas;
      const blocks = share * wholeBlocks(next.promptTokens);
      const isAlone = this.#decoding.length === 0 && this.#prompts.length === 0;
      if (!isAlone) {
        if (this.#batch + this.#promptSequences + share > maxSequences + rounding) break;
        if (this.#cacheUsed() + blocks > this.#cacheTokens) break;
      }
      this.#removeFirst();
      this.#admissions++;
      next.admitted = this.#admissions;
      this.#waiting -= next.count;
      this.#running += next.count;
      this.#promptSequences += share;
      this.#promptBlocksTokens += blocks;
      this.#prompts.push(next);
      compute(next);
    }
    if (this.#chunks.length > 0) {
      this.#decodeSteps = 0;
      this.#stepMs = this.#stepTimes.stepMs({
        prefillTokens,
        prefillAttention,
        decodeSequences: this.#batch,
        decodeContextTokens: this.#contextTokens + this.#batch,
      });
      this.#endMs = this.#nowMs + this.#stepMs;
      return;
    }
    const batch = this.#batch;
    const toNextEnd = this.#decoding[0]!.endStep - this.#steps;
    const toFullCache = Math.floor((this.#cacheTokens - this.#cacheUsed()) / batch);
    const together = Math.max(blockTokens, Math.ceil((contextGrowth * this.#contextTokens) / batch));
    const steps = Math.max(1, Math.min(toNextEnd, toFullCache, together));
    this.#decodeSteps = steps;
    this.#stepMs = this.#stepTimes.stepMs({
      prefillTokens: 0,
      prefillAttention: 0,
      decodeSequences: batch,
      decodeContextTokens: this.#contextTokens + (batch * (steps + 1)) / 2,
    });
    this.#endMs = this.#nowMs + steps * this.#stepMs;
  }

  #end(): void {
    const endMs = this.#endMs;
    const steps = Math.max(1, this.#decodeSteps);
    this.#busyReplicaMs += (endMs - this.#nowMs) * this.#replicas;
    this.#nowMs = endMs;
    this.#endMs = Number.POSITIVE_INFINITY;
    this.#steps += steps;
    this.#contextTokens += this.#batch * steps;
    while (this.#decoding.length > 0 && this.#decoding[0]!.endStep <= this.#steps) {
      const sequence = byEnd.pop(this.#decoding)!;
      const share = sequence.count / this.#replicas;
      this.#batch -= share;
      this.#contextTokens -= share * (sequence.inputTokens + sequence.outputTokens - 1);
      this.#tell(sequence, endMs);
    }
    // Sums of differences: an empty batch holds nothing at all.
    if (this.#decoding.length === 0) {
      this.#batch = 0;
      this.#contextTokens = 0;
    }
    if (this.#decodeSteps > 0) return;
    let unfinished = 0;
    for (let i = 0; i < this.#prompts.length; i++) {
      const sequence = this.#prompts[i]!;
      sequence.computed += this.#chunks[i] ?? 0;
      if (sequence.computed < sequence.promptTokens) this.#prompts[unfinished++] = sequence;
      else this.#promptComputed(sequence, endMs);
    }
    this.#prompts.length = unfinished;
    if (unfinished === 0) {
      this.#promptSequences = 0;
      this.#promptBlocksTokens = 0;
    }
  }

  #promptComputed(sequence: Sequence, atMs: number): void {
    const share = sequence.count / this.#replicas;
    this.#promptSequences -= share;
    this.#promptBlocksTokens -= share * wholeBlocks(sequence.promptTokens);
    if (sequence.produced === 0) sequence.firstTokenMs = atMs;
    sequence.produced++;
    if (sequence.produced >= sequence.outputTokens) {
      this.#tell(sequence, atMs);
      return;
    }
    sequence.endStep = this.#steps + sequence.outputTokens - sequence.produced;
    this.#batch += share;
    this.#contextTokens += share * (sequence.inputTokens + sequence.produced - 1);
    byEnd.push(this.#decoding, sequence);
  }

  #tell({ arrivedMs, inputTokens, outputTokens, count, firstTokenMs }: Sequence, endMs: number): void {
    this.#running -= count;
    this.#lastEndMs = endMs;
    this.#inFlightMs += count * (endMs - this.#originMs);
    this.#listener({ arrivedMs, inputTokens, outputTokens, count, firstTokenMs, endMs });
  }

  /** Tokens of the cache that one replica has taken. */
  #cacheUsed(): number {
    return this.#contextTokens + halfBlock * this.#batch + this.#promptBlocksTokens;
  }

  /** Where the next step does not fit into the cache, the newest go back to the head of the queue. */
  #makeRoom(): boolean {
    let preempted = false;
    while (
      this.#batch > 0 &&
      this.#cacheUsed() + this.#batch > this.#cacheTokens &&
      this.#decoding.length + this.#prompts.length > 1
    ) {
      this.#preemptNewest();
      preempted = true;
    }
    return preempted;
  }

  #preemptNewest(): void {
    const prompt = this.#prompts.at(-1);
    let place = 0;
    for (let i = 1; i < this.#decoding.length; i++) {
      if (this.#decoding[i]!.admitted > this.#decoding[place]!.admitted) place = i;
    }
    const decoding = this.#decoding[place];
    let newest: Sequence;
    if (prompt !== undefined && (decoding === undefined || prompt.admitted > decoding.admitted)) {
      newest = prompt;
      this.#prompts.pop();
    } else {
      newest = decoding!;
      this.#decoding.splice(place, 1);
      // In order it is a heap.
      this.#decoding.sort((a, b) => a.endStep - b.endStep);
      newest.produced = newest.outputTokens - (newest.endStep - this.#steps);
    }
    newest.computed = 0;
    newest.promptTokens = newest.inputTokens + newest.produced;
    this.#preempted.push(newest);
    this.#sumUp();
  }

  #first(): Sequence | undefined {
    return this.#preempted.at(-1) ?? this.#queue[this.#head];
  }

  #removeFirst(): void {
    if (this.#preempted.pop() !== undefined) return;
    this.#head++;
    // The part that has left is cut off now and then, so that a long queue is not copied at every step.
    if (this.#head > 256 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    } else if (this.#head === this.#queue.length) {
      this.#queue.length = 0;
      this.#head = 0;
    }
  }
}

function wholeBlocks(tokens: number): number {
  return Math.ceil(tokens / blockTokens) * blockTokens;
}

/** The next to end first. */
const byEnd = heapOrder<Sequence>((one, other) => one.endStep < other.endStep);

/** By arrival, those of earlier admission first at equal times. */
function inOrder(sequences: Sequence[]): Sequence[] {
  return sequences.sort((a, b) => a.arrivedMs - b.arrivedMs || a.admitted - b.admitted);
}
