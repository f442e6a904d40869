import { gatewayBucketIndex, tokensOfBucketIndex } from '../../core/token-bucket.js';
import type { FinishedInterval } from '../../demand/gateway-trace.js';
import { gatewayIntervalSeconds, gatewayPrecision, newestTraceVersion } from '../../demand/trace-record.js';

/**
 * The interval records of a gateway in `fluid` fidelity: as `GatewayTrace` writes them, from requests that end many at a
 * time, and in parts. Counts in records are whole numbers; what is left over goes to the next.
 */
export class FluidGateway {
  #arrivals = 0;
  #arrivalsLeft = 0;
  #completionsLeft = 0;
  #pending = 0;
  /** By input × span + output index. */
  #buckets = new Map<number, number>();
  #finished: FinishedInterval[] = [];

  /** End of the interval that holds a moment [ms]. */
  endOfInterval(atMs: number): number {
    const intervalMs = gatewayIntervalSeconds * 1000;
    return (Math.floor(atMs / intervalMs) + 1) * intervalMs;
  }

  arrive(count: number): void {
    this.#arrivals += count;
    this.#pending += count;
  }

  complete({ inputTokens, outputTokens, count }: Lengths & { readonly count: number }): void {
    const key = gatewayBucketIndex(inputTokens) * indexSpan + gatewayBucketIndex(outputTokens);
    this.#buckets.set(key, (this.#buckets.get(key) ?? 0) + count);
    this.#pending -= count;
  }

  /** Requests ended without an answer. */
  lose(count: number): void {
    this.#pending -= count;
  }

  /** Writes the record of the interval that ends then; one without arrivals and completions leaves none. */
  finish(endMs: number): void {
    const arrivals = Math.floor(this.#arrivals + this.#arrivalsLeft + rounding);
    this.#arrivalsLeft += this.#arrivals - arrivals;
    this.#arrivals = 0;
    const buckets: { inputTokens: number; outputTokens: number; count: number }[] = [];
    let unknownLength = 0;
    for (const [key, exact] of this.#buckets) {
      const count = Math.floor(exact + this.#completionsLeft + rounding);
      this.#completionsLeft += exact - count;
      if (count === 0) continue;
      if (key === 0) unknownLength += count;
      else {
        buckets.push({
          inputTokens: tokensOfBucketIndex(Math.floor(key / indexSpan), gatewayPrecision),
          outputTokens: tokensOfBucketIndex(key % indexSpan, gatewayPrecision),
          count,
        });
      }
    }
    this.#buckets.clear();
    if (arrivals === 0 && unknownLength === 0 && buckets.length === 0) return;
    const record = {
      version: newestTraceVersion,
      intervalSeconds: gatewayIntervalSeconds,
      arrivals,
      pending: Math.max(0, Math.round(this.#pending)),
      queueing: 0,
      unknownLength,
      buckets,
    };
    this.#finished.push({ endSeconds: endMs / 1000, record });
  }

  /** Records that were finished since the last call, oldest first. */
  take(): readonly FinishedInterval[] {
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }
}

type Lengths = { readonly inputTokens: number; readonly outputTokens: number };

/** More than any bucket index. */
const indexSpan = 1024;
/** Sums of parts end a rounding below the whole. */
const rounding = 1e-6;
