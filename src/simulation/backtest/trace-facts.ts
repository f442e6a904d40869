import type { BucketDemand } from '../../core/planning-problem.js';
import { gatewayBucketIndex, tokensOfBucketIndex } from '../../core/token-bucket.js';
import { gatewayPrecision } from '../../demand/trace-record.js';
import type { BacktestRequest } from './backtest.js';

/** What one pass over a trace says of it, before anything is simulated. Memory holds buckets and minutes, no requests. */
export type TraceFacts = {
  readonly requests: number;
  /** Of the first and the last request; null without any. */
  readonly firstMs: number | null;
  readonly lastMs: number | null;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests by length, as gateways bucket them. */
  readonly buckets: readonly { readonly inputTokens: number; readonly outputTokens: number; readonly count: number }[];
  /** Requests of each minute from the first on, also of those without any: index 0 is the minute of `firstMs`. */
  readonly minutes: Float64Array;
  /** Longest time without a request [s]. */
  readonly longestGapSeconds: number;
};

const minuteMs = 60_000;

/** Longest span whose minutes are counted, a year: beyond it a trace is a mistake in its time stamps. */
const mostMinutes = 366 * 24 * 60;

/** Reads all of it, once. */
export async function traceFacts(
  requests: AsyncIterable<BacktestRequest> | Iterable<BacktestRequest>,
): Promise<TraceFacts> {
  const counts = new Map<number, number>();
  let minutes = new Float64Array(1024);
  let usedMinutes = 0;
  let count = 0;
  let firstMs: number | null = null;
  let lastMs: number | null = null;
  let inputTokens = 0;
  let outputTokens = 0;
  let longestGapMs = 0;
  for await (const request of requests) {
    firstMs ??= request.atMs;
    if (lastMs !== null) longestGapMs = Math.max(longestGapMs, request.atMs - lastMs);
    lastMs = request.atMs;
    count += 1;
    inputTokens += request.inputTokens;
    outputTokens += request.outputTokens;
    const bucket = gatewayBucketIndex(request.inputTokens) * 1000 + gatewayBucketIndex(request.outputTokens);
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
    const minute = Math.floor(request.atMs / minuteMs) - Math.floor(firstMs / minuteMs);
    if (minute >= mostMinutes) continue;
    while (minute >= minutes.length) {
      const longer = new Float64Array(2 * minutes.length);
      longer.set(minutes);
      minutes = longer;
    }
    minutes[minute]! += 1;
    usedMinutes = Math.max(usedMinutes, minute + 1);
  }
  return {
    requests: count,
    firstMs,
    lastMs,
    inputTokens,
    outputTokens,
    buckets: [...counts.entries()]
      .sort(([a], [b]) => a - b)
      .map(([bucket, of]) => ({
        inputTokens: tokensOfBucketIndex(Math.floor(bucket / 1000), gatewayPrecision),
        outputTokens: tokensOfBucketIndex(bucket % 1000, gatewayPrecision),
        count: of,
      })),
    minutes: minutes.slice(0, usedMinutes),
    longestGapSeconds: longestGapMs / 1000,
  };
}

/** The mix at its mean rate, of so many copies: demand by bucket. */
export function meanDemand(facts: TraceFacts, copies: number): readonly BucketDemand[] {
  const { buckets, firstMs, lastMs } = facts;
  // A single moment has no rate: it counts as a minute.
  const seconds = Math.max(60, ((lastMs ?? 0) - (firstMs ?? 0)) / 1000);
  return buckets.map(({ inputTokens, outputTokens, count }) => ({
    inputTokens,
    outputTokens,
    rps: (count * copies) / seconds,
  }));
}
