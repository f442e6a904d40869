import type { BacktestRequest } from './backtest.js';
import { chanceOf } from './chance.js';

/**
 * The load of a backtest out of a trace: a window of it, played as several copies. Streams in, streams out.
 */

/** Longest window that is played: a year and a little. A longer trace has mistaken time stamps, and would run for days [s]. */
export const longestWindowSeconds = 400 * 86_400;

/** A stream of requests, ascending in time. */
export type RequestStream = AsyncIterable<BacktestRequest> | Iterable<BacktestRequest>;

/**
 * A window of a trace, moved so that it begins at `startMs`. Seconds count from the trace's first request. Reading ends
 * with the window, and what comes before it is skipped.
 */
export async function* windowOf(
  requests: RequestStream,
  window: { readonly fromSeconds: number; readonly durationSeconds: number | null; readonly startMs: number },
): AsyncGenerator<BacktestRequest, void, void> {
  const { fromSeconds, durationSeconds, startMs } = window;
  if (!(fromSeconds >= 0 && fromSeconds < Infinity)) {
    throw new RangeError(`a window from ${fromSeconds} s, expected a number >= 0`);
  }
  if (durationSeconds !== null && !(durationSeconds > 0)) {
    throw new RangeError(`a window of ${durationSeconds} s, expected a number > 0`);
  }
  const lengthMs = durationSeconds === null ? Number.POSITIVE_INFINITY : durationSeconds * 1000;
  let beginMs: number | null = null;
  for await (const request of requests) {
    beginMs ??= request.atMs + fromSeconds * 1000;
    const atMs = request.atMs - beginMs;
    if (atMs < 0) continue;
    if (atMs >= lengthMs) return;
    yield { atMs: startMs + atMs, inputTokens: request.inputTokens, outputTokens: request.outputTokens };
  }
}

export type Copies = {
  /** > 0. Of a fraction, the last copy keeps that share of its requests: 2.5 = two copies and half of a third. */
  readonly copies: number;
  /** Every request of a copy comes evenly up to so much later than in the trace [s]; those of the first copy do not. */
  readonly jitterSeconds: number;
  readonly seed: number;
};

/**
 * Several copies of a trace at once, ascending in time. Each copy has a chance of its own, so that the first n copies are
 * the same whatever their number. Memory holds what arrives within the jitter.
 *
 * @throws RangeError for options that are none
 */
export async function* copiesOf(
  requests: RequestStream,
  { copies, jitterSeconds, seed }: Copies,
): AsyncGenerator<BacktestRequest, void, void> {
  if (!(copies > 0 && copies < Infinity)) throw new RangeError(`copies is ${copies}, expected a number > 0`);
  if (!(jitterSeconds >= 0 && jitterSeconds < Infinity)) {
    throw new RangeError(`jitterSeconds is ${jitterSeconds}, expected a number >= 0`);
  }
  const jitterMs = jitterSeconds * 1000;
  const each = Array.from({ length: Math.ceil(copies) }, (_, copy) => ({
    share: Math.min(1, copies - copy),
    jitterMs: copy === 0 ? 0 : jitterMs,
    chance: chanceOf(seed, `copy ${copy}`),
  }));
  const held = new RequestQueue();
  for await (const request of requests) {
    while (held.earliestMs <= request.atMs) yield held.pop();
    for (const copy of each) {
      // Drawn in any case, so that one request does not move the chance of those after it.
      const isKept = copy.share >= 1 || copy.chance.unit() < copy.share;
      const laterMs = copy.jitterMs > 0 ? copy.jitterMs * copy.chance.unit() : 0;
      if (!isKept) continue;
      if (laterMs === 0) yield request;
      else held.push({ ...request, atMs: request.atMs + laterMs });
    }
  }
  while (held.earliestMs < Infinity) yield held.pop();
}

/** Requests by time, those of one time in the order in which they came: a binary heap. */
class RequestQueue {
  readonly #heap: { readonly request: BacktestRequest; readonly place: number }[] = [];
  #pushed = 0;

  get earliestMs(): number {
    return this.#heap[0]?.request.atMs ?? Number.POSITIVE_INFINITY;
  }

  push(request: BacktestRequest): void {
    const heap = this.#heap;
    const item = { request, place: this.#pushed++ };
    let at = heap.length;
    heap.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.request.atMs <= request.atMs) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = item;
  }

  /** The earliest; there must be one. */
  pop(): BacktestRequest {
    const heap = this.#heap;
    const earliest = heap[0]!.request;
    const item = heap.pop()!;
    if (heap.length === 0) return earliest;
    const comesBefore = (a: typeof item, b: typeof item): boolean =>
      a.request.atMs < b.request.atMs || (a.request.atMs === b.request.atMs && a.place < b.place);
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && comesBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!comesBefore(heap[child]!, item)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = item;
    return earliest;
  }
}
