import type { ReplicaLimits } from '../src/simulation/replica.js';
import type { StepTimes } from '../src/simulation/step-time.js';

/**
 * How many requests a second one replica completes in the long run when all requests are alike: analytic, out of step
 * times, without events. It counts as the composed yardstick does, and step times are fitted through it; estimates have
 * queues as well (src/simulation/poisson-rate.ts).
 *
 * With c sequences in the engine, each takes as many steps as it has output tokens (the first comes with its prompt),
 * so c / output requests end in a step and as many prompts must be computed in it on average. Prompts come in chunks,
 * so a share of the steps holds a chunk and the others only decode:
 *
 *     prompt tokens a step   p = c · input / output
 *     chunk                      = p, or a whole prompt where that is more, at most what the step has room for
 *     step                       = (1 − p/chunk) · step without + p/chunk · step with a chunk
 *     rate                       = c / (output · step)
 *
 * The time per token is that mean step: as with open arrivals, prompts of others slow every sequence. With one request
 * at a time it counts the request's own prompt as well, which errs on the safe side. The time to the first token is an
 * unqueued prompt and half a step of waiting for the step in progress.
 */

/** Limits on latency; absent = no limit. */
export type LatencyLimits = { readonly ttftMs?: number; readonly tpotMs?: number; readonly e2eMs?: number };

export type SteadyCell = { readonly inputTokens: number; readonly outputTokens: number };

/** A replica under constant load of one cell. */
export type SteadyRate = {
  /** Completions per second of one replica; 0 = no concurrency meets the limits, or one request exceeds the cache. */
  readonly requestsPerSecond: number;
  /** Sequences in the engine at that rate; 0 with rate 0. */
  readonly concurrency: number;
  /** Where the rate is 0, the latencies are those of one request at a time. */
  readonly ttftMs: number;
  readonly tpotMs: number;
  readonly e2eMs: number;
};

export type SteadyOptions = {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
  readonly cell: SteadyCell;
};

/** One prompt alone on the replica, in chunks [ms]. */
export function promptMs({ stepTimes, limits, cell }: SteadyOptions): number {
  let total = 0;
  for (let done = 0; done < cell.inputTokens; done += limits.maxBatchedTokens) {
    const tokens = Math.min(limits.maxBatchedTokens, cell.inputTokens - done);
    total += stepTimes.stepMs({
      prefillTokens: tokens,
      prefillAttention: tokens * (done + tokens / 2),
      decodeSequences: 0,
      decodeContextTokens: 0,
    });
  }
  return total;
}

/** The steady state with `concurrency` sequences in the engine, whether or not that many fit its cache. */
export function steadyStateAt(options: SteadyOptions & { readonly concurrency: number }): SteadyRate {
  return atConcurrency(options, options.concurrency, promptMs(options));
}

function atConcurrency(options: SteadyOptions, concurrency: number, unqueuedPromptMs: number): SteadyRate {
  const { stepTimes, limits, cell } = options;
  const { inputTokens, outputTokens } = cell;
  // More than fill every step with prompts only wait.
  const served = Math.min(concurrency, (limits.maxBatchedTokens * outputTokens) / (outputTokens - 1 + inputTokens));
  const decoding = (served * (outputTokens - 1)) / outputTokens;
  const promptTokens = (served * inputTokens) / outputTokens;
  const chunk = Math.min(limits.maxBatchedTokens - decoding, Math.max(inputTokens, promptTokens));
  const share = Math.min(1, promptTokens / chunk);
  const decode = {
    decodeSequences: decoding,
    decodeContextTokens: decoding * (inputTokens + outputTokens / 2),
  };
  const mixedMs = stepTimes.stepMs({ prefillTokens: chunk, prefillAttention: (chunk * inputTokens) / 2, ...decode });
  const decodeMs = share < 1 ? stepTimes.stepMs({ prefillTokens: 0, prefillAttention: 0, ...decode }) : mixedMs;
  const stepMs = share * mixedMs + (1 - share) * decodeMs;
  const perMs = served / (outputTokens * stepMs);
  return {
    requestsPerSecond: 1000 * perMs,
    concurrency,
    ttftMs: unqueuedPromptMs + stepMs / 2,
    tpotMs: stepMs,
    e2eMs: concurrency / perMs,
  };
}

/**
 * The highest steady rate of one cell that meets the limits.
 *
 * @param options.concurrencies numbers of sequences to try; all up to `maxSequences` by default
 */
export function steadyRate(
  options: SteadyOptions & { readonly slo: LatencyLimits; readonly concurrencies?: readonly number[] },
): SteadyRate {
  const { stepTimes, limits, cell, slo } = options;
  const whole = cell.inputTokens + cell.outputTokens;
  const unqueued = promptMs(options);
  const alone = atConcurrency(options, 1, unqueued);
  const none: SteadyRate = { ...alone, requestsPerSecond: 0, concurrency: 0 };
  if (whole > limits.maxTokens) return none;
  // Each keeps room for its whole length, so that none is preempted.
  const most = Math.min(limits.maxSequences, Math.floor(stepTimes.kvCacheTokens / whole));
  let best = none;
  const consider = (concurrency: number): void => {
    const state = atConcurrency(options, concurrency, unqueued);
    const meets =
      state.ttftMs <= (slo.ttftMs ?? Number.POSITIVE_INFINITY) &&
      state.tpotMs <= (slo.tpotMs ?? Number.POSITIVE_INFINITY) &&
      state.e2eMs <= (slo.e2eMs ?? Number.POSITIVE_INFINITY);
    if (meets && state.requestsPerSecond > best.requestsPerSecond) best = state;
  };
  if (options.concurrencies === undefined) {
    for (let concurrency = 1; concurrency <= most; concurrency++) consider(concurrency);
  } else {
    for (const concurrency of options.concurrencies) if (concurrency <= most) consider(concurrency);
  }
  return best;
}
