import { heapOrder } from '../core/binary-heap.js';
import { gatewayBucketIndex, tokensOfBucketIndex } from '../core/token-bucket.js';
import { gatewayIntervalSeconds, gatewayPrecision, newestTraceVersion, type TraceRecord } from './trace-record.js';

/**
 * The write side of request traces: what a gateway would have written, from requests and when they end.
 *
 * A request is an arrival in the window of `atMs` and a count of its bucket in the window of `completesAtMs`; at each
 * tick T the record of [T − interval, T) is finished with the requests that are then outstanding. A window with neither
 * arrivals nor completions leaves no record, even while requests are outstanding.
 */

/** One request of one model. Times are Unix milliseconds. */
export type GatewayRequest = {
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** When its answer is complete, >= atMs; Infinity = never seen to end: it stays outstanding. */
  readonly completesAtMs: number;
};

/** A finished record and the tick that names it. */
export type FinishedInterval = { readonly endSeconds: number; readonly record: TraceRecord };

/**
 * Collects one model's requests into interval records.
 *
 * A request whose end is known is one `add`; otherwise it is an `arrive` and later a `complete` or `fail`. Requests come
 * in time order (within one window the order is free); time moves on with `add`, `arrive` and `advanceTo`, never back. Memory holds the outstanding requests and the buckets of one window.
 */
export class GatewayTrace {
  readonly #intervalMs: number;
  readonly #intervalSeconds: number;
  /** End of the window that is being filled; null before the first event. [ms] */
  #endMs: number | null = null;
  #arrivals = 0;
  /** Arrived, and nothing is known of their end. */
  #endless = 0;
  readonly #open = new CompletionQueue();

  constructor(options: { readonly intervalSeconds?: number } = {}) {
    this.#intervalSeconds = options.intervalSeconds ?? gatewayIntervalSeconds;
    if (!Number.isInteger(this.#intervalSeconds) || this.#intervalSeconds < 1) {
      throw new RangeError(`intervalSeconds is ${this.#intervalSeconds}, expected a whole number >= 1`);
    }
    this.#intervalMs = this.#intervalSeconds * 1000;
  }

  /** Requests that arrived and have not completed. */
  get pending(): number {
    return this.#endless + this.#open.size;
  }

  /**
   * Takes one request and returns the records that were finished by its arrival, oldest first.
   *
   * @throws RangeError where the request lies before a window that is already finished, or ends before it arrives
   */
  add(request: GatewayRequest): readonly FinishedInterval[] {
    const { atMs, completesAtMs } = request;
    if (!Number.isFinite(atMs) || !(completesAtMs >= atMs)) {
      throw new RangeError(`a request arrives at ${atMs} and completes at ${completesAtMs}: expected times in order`);
    }
    this.#checkOpen(atMs, 'arrives');
    const finished = this.advanceTo(atMs);
    this.#arrivals += 1;
    this.#open.push(completesAtMs, gatewayBucketIndex(request.inputTokens), gatewayBucketIndex(request.outputTokens));
    return finished;
  }

  /**
   * Takes a request whose end is not known yet, and returns the records that were finished by its arrival.
   *
   * @throws RangeError where it lies before a window that is already finished
   */
  arrive(atMs: number): readonly FinishedInterval[] {
    this.#checkOpen(atMs, 'arrives');
    // Most arrivals finish nothing, and there are many.
    const finished = this.#endMs !== null && atMs < this.#endMs ? nothing : this.advanceTo(atMs);
    this.#arrivals += 1;
    this.#endless += 1;
    return finished;
  }

  /**
   * A request that arrived is answered. Time need not have come there, but must not have passed it by a window.
   *
   * @throws RangeError where the window is already finished, or no request is outstanding
   */
  complete(request: { readonly atMs: number; readonly inputTokens: number; readonly outputTokens: number }): void {
    this.#end(request.atMs);
    this.#open.push(request.atMs, gatewayBucketIndex(request.inputTokens), gatewayBucketIndex(request.outputTokens));
  }

  /** A request that arrived ends without an answer: it is in no bucket. Throws as `complete`. */
  fail(atMs: number): void {
    this.#end(atMs);
    this.#open.push(atMs, noBucket, noBucket);
  }

  #end(atMs: number): void {
    this.#checkOpen(atMs, 'ends');
    if (this.#endless === 0) throw new RangeError(`a request ends at ${atMs} ms, and none is outstanding`);
    this.#endless -= 1;
  }

  #checkOpen(atMs: number, does: 'arrives' | 'ends'): void {
    if (!Number.isFinite(atMs)) throw new RangeError(`a request ${does} at ${atMs}, expected milliseconds`);
    if (this.#endMs === null || atMs >= this.#endMs - this.#intervalMs) return;
    throw new RangeError(
      `a request ${does} at ${atMs} ms, before the window that begins at ${this.#endMs - this.#intervalMs} ms`,
    );
  }

  /** Moves time on and returns the records of every window that ends at or before `nowMs`, oldest first. */
  advanceTo(nowMs: number): readonly FinishedInterval[] {
    this.#endMs ??= this.#endOfWindow(nowMs);
    const finished: FinishedInterval[] = [];
    while (this.#endMs <= nowMs) {
      const interval = this.#finish(this.#endMs);
      if (interval !== null) finished.push(interval);
      // Windows in which nothing happens leave no record: go straight to the next event.
      this.#endMs = this.#endOfWindow(Math.min(nowMs, this.#open.earliestMs));
    }
    return finished;
  }

  /** The records that are still to come when no further request arrives: until the last one of known end has completed. */
  finish(): readonly FinishedInterval[] {
    const finished: FinishedInterval[] = [];
    while (this.#endMs !== null && (this.#arrivals > 0 || this.#open.size > 0)) {
      if (this.#arrivals === 0 && this.#open.earliestMs === Infinity) break;
      const next = this.#arrivals > 0 ? this.#endMs : this.#endOfWindow(this.#open.earliestMs);
      finished.push(...this.advanceTo(next));
    }
    return finished;
  }

  /** The end of the window that holds a moment: T for a moment in [T − interval, T). */
  #endOfWindow(ms: number): number {
    return (Math.floor(ms / this.#intervalMs) + 1) * this.#intervalMs;
  }

  #finish(endMs: number): FinishedInterval | null {
    const arrivals = this.#arrivals;
    const counts = new Map<string, { input: number; output: number; count: number }>();
    let completions = 0;
    while (this.#open.earliestMs < endMs) {
      const { input, output } = this.#open.pop();
      if (input === noBucket) continue;
      completions += 1;
      const key = `${input}:${output}`;
      const bucket = counts.get(key);
      if (bucket === undefined) counts.set(key, { input, output, count: 1 });
      else bucket.count += 1;
    }
    this.#arrivals = 0;
    if (arrivals === 0 && completions === 0) return null;
    const unknownLength = counts.get('0:0')?.count ?? 0;
    counts.delete('0:0');
    return {
      endSeconds: endMs / 1000,
      record: {
        version: newestTraceVersion,
        intervalSeconds: this.#intervalSeconds,
        arrivals,
        pending: this.pending,
        queueing: 0,
        unknownLength,
        buckets: [...counts.values()].map(({ input, output, count }) => ({
          inputTokens: tokensOfBucketIndex(input, gatewayPrecision),
          outputTokens: tokensOfBucketIndex(output, gatewayPrecision),
          count,
        })),
      },
    };
  }
}

const nothing: readonly FinishedInterval[] = [];

/** In place of a bucket's indexes, for a request that failed. */
const noBucket = -1;

type Completion = { readonly atMs: number; readonly input: number; readonly output: number };

const byTime = heapOrder<Completion>((one, other) => one.atMs < other.atMs);

/** Outstanding requests, earliest completion first. */
class CompletionQueue {
  readonly #heap: Completion[] = [];

  get size(): number {
    return this.#heap.length;
  }

  get earliestMs(): number {
    return this.#heap[0]?.atMs ?? Infinity;
  }

  push(atMs: number, input: number, output: number): void {
    byTime.push(this.#heap, { atMs, input, output });
  }

  /** The earliest; there must be one. */
  pop(): Completion {
    return byTime.pop(this.#heap)!;
  }
}
