import { type EngineLatency, type EngineSample, engineLatencies } from '../core/ports.js';

/**
 * What the replicas of one deployment did lately, from the totals that they count since they started.
 *
 * Totals become increases between two readings of one process. Where a total fell the process is another one: that
 * increase is left out. The last minutes are looked at, as many as are needed for means that mean something.
 */

/** What one deployment's replicas did over some minutes. */
export type EngineObservation = {
  /** Unix milliseconds. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Requests that got their first token. */
  readonly requests: number;
  /** The same for one replica [requests/s]. */
  readonly requestsPerSecond: number;
  readonly meanInputTokens: number;
  readonly meanOutputTokens: number;
  /** Mean latencies [s]; null where too few were told. */
  readonly latencies: Readonly<Record<EngineLatency, number | null>>;
};

/** Means of fewer requests vary too much: of a hundred times to first token, by a tenth or two. */
export const fewestRequests = 100;

/** Shorter than this, requests that began before and end after weigh too much. */
const shortestWindowMs = 120_000;

/** Longer than this, the load was not one load. */
const longestWindowMs = 1_800_000;

/** An increase over a longer gap is left out: nobody knows when in it the requests came. */
const longestGapMs = 600_000;

/** Increases of all replicas between two readings. */
type Increase = {
  fromMs: number;
  toMs: number;
  replicaSeconds: number;
  requests: number;
  promptTokens: number;
  generationTokens: number;
  readonly latencies: Record<EngineLatency, { seconds: number; count: number }>;
};

export class EngineWindow {
  readonly #last = new Map<string, EngineSample>();
  #increases: Increase[] = [];

  /**
   * Takes what the deployment's replicas say now. A sample that was taken before adds nothing; nor does one of a time to
   * come, after which everything later would look old until that time.
   */
  add(samples: readonly EngineSample[], nowMs: number): void {
    const isToCome = (atMs: number) => atMs > nowMs + longestGapMs;
    const increase = noIncrease();
    for (const sample of samples) {
      if (isToCome(sample.atMs)) continue;
      const before = this.#last.get(sample.instance);
      if (before !== undefined && sample.atMs <= before.atMs) continue;
      this.#last.set(sample.instance, sample);
      if (before !== undefined) addIncrease(increase, before, sample);
    }
    if (increase.replicaSeconds > 0) this.#increases.push(increase);
    // Times to come are there where our own clock was set back.
    this.#increases = this.#increases.filter(({ toMs }) => toMs > nowMs - longestWindowMs && !isToCome(toMs));
    for (const [instance, { atMs }] of this.#last) {
      if (atMs <= nowMs - longestGapMs || isToCome(atMs)) this.#last.delete(instance);
    }
  }

  /** The shortest last span with enough requests; null while there is none. */
  observation(nowMs: number): EngineObservation | null {
    const total = noIncrease();
    for (let i = this.#increases.length - 1; i >= 0; i -= 1) {
      sum(total, this.#increases[i]!);
      if (total.fromMs < nowMs - longestWindowMs) return null;
      if (total.requests >= fewestRequests && total.toMs - total.fromMs >= shortestWindowMs)
        return toObservation(total);
    }
    return null;
  }
}

function noIncrease(): Increase {
  return {
    fromMs: Number.POSITIVE_INFINITY,
    toMs: Number.NEGATIVE_INFINITY,
    replicaSeconds: 0,
    requests: 0,
    promptTokens: 0,
    generationTokens: 0,
    latencies: { ttft: { seconds: 0, count: 0 }, tpot: { seconds: 0, count: 0 }, e2e: { seconds: 0, count: 0 } },
  };
}

/** Every request has a first token, or at least an end. */
function requestsOf({ latencies }: EngineSample): number {
  return (latencies.ttft ?? latencies.e2e)?.count ?? 0;
}

function addIncrease(into: Increase, before: EngineSample, now: EngineSample): void {
  const elapsedMs = now.atMs - before.atMs;
  if (elapsedMs > longestGapMs || wasRestarted(before, now)) return;
  into.fromMs = Math.min(into.fromMs, before.atMs);
  into.toMs = Math.max(into.toMs, now.atMs);
  into.replicaSeconds += elapsedMs / 1000;
  into.requests += requestsOf(now) - requestsOf(before);
  into.promptTokens += now.promptTokens - before.promptTokens;
  into.generationTokens += now.generationTokens - before.generationTokens;
  for (const name of engineLatencies) {
    const [from, to] = [before.latencies[name], now.latencies[name]];
    if (from === null || to === null) continue;
    into.latencies[name].seconds += to.seconds - from.seconds;
    into.latencies[name].count += to.count - from.count;
  }
}

/** Totals never fall within one process, nor does an engine begin to count requests otherwise. */
function wasRestarted(before: EngineSample, now: EngineSample): boolean {
  const fell = (from: number, to: number) => to < from;
  return (
    fell(before.promptTokens, now.promptTokens) ||
    fell(before.generationTokens, now.generationTokens) ||
    (before.latencies.ttft === null) !== (now.latencies.ttft === null) ||
    engineLatencies.some((name) => {
      const [from, to] = [before.latencies[name], now.latencies[name]];
      return from !== null && to !== null && (fell(from.count, to.count) || fell(from.seconds, to.seconds));
    })
  );
}

function sum(into: Increase, part: Increase): void {
  into.fromMs = Math.min(into.fromMs, part.fromMs);
  into.toMs = Math.max(into.toMs, part.toMs);
  into.replicaSeconds += part.replicaSeconds;
  into.requests += part.requests;
  into.promptTokens += part.promptTokens;
  into.generationTokens += part.generationTokens;
  for (const name of engineLatencies) {
    into.latencies[name].seconds += part.latencies[name].seconds;
    into.latencies[name].count += part.latencies[name].count;
  }
}

function toObservation(total: Increase): EngineObservation {
  const mean = (name: EngineLatency): number | null => {
    const { seconds, count } = total.latencies[name];
    return count >= fewestRequests ? seconds / count : null;
  };
  return {
    fromMs: total.fromMs,
    toMs: total.toMs,
    requests: total.requests,
    requestsPerSecond: total.requests / total.replicaSeconds,
    meanInputTokens: total.promptTokens / total.requests,
    meanOutputTokens: total.generationTokens / total.requests,
    latencies: { ttft: mean('ttft'), tpot: mean('tpot'), e2e: mean('e2e') },
  };
}
