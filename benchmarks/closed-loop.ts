import { mostSequences, type RunOptions, type SteadyLoad, steadyLoad } from '../src/simulation/steady-load.js';

/**
 * What published benchmarks measure, out of step times: a fixed number of requests always in flight, or one batch that
 * runs to its end. Analytic, without events; all requests of a run are alike.
 */

/** What a run gives; means over its requests. */
export type RunResult = {
  readonly requestsPerSecond: number;
  readonly ttftMs: number;
  /** null where requests have one token. */
  readonly tpotMs: number | null;
  readonly e2eMs: number;
};

/**
 * A closed loop: `concurrency` requests are always in flight; what exceeds the engine's limit or its cache waits.
 *
 * @param options.waves how many times as many requests the run has as are in flight: the first of them all come at once.
 *   Absent = so many that the beginning does not count
 * @returns null where the cache, or the longest request allowed, cannot hold one request
 */
export function closedLoop(
  options: RunOptions & { readonly concurrency: number; readonly waves?: number },
): RunResult | null {
  const most = mostSequences(options);
  if (most === 0) return null;
  const { cell, concurrency, waves = Number.POSITIVE_INFINITY, requestMs = 0 } = options;
  const running = Math.min(concurrency, most);
  const inFlight = (load: SteadyLoad): number => load.decoding + load.requestsPerMs * (load.promptMs + requestMs);
  // The more decode, the more are in flight: bisection on how many decode.
  let low = Math.min(1e-3, running);
  let high = running;
  for (let i = 0; i < 40 && high - low > 1e-4 * high; i++) {
    const middle = (low + high) / 2;
    const load = steadyLoad(options, middle, running);
    if (load === null || inFlight(load) > running) high = middle;
    else low = middle;
  }
  const load = steadyLoad(options, high, running) ?? steadyLoad(options, low, running)!;
  const decodeMs = (cell.outputTokens - 1) * load.tpotMs;
  const serviceMs = Math.max(running / load.requestsPerMs, requestMs + load.promptMs + decodeMs);
  const steadyMs = serviceMs * (concurrency / running) - decodeMs;
  // At the start all prompts wait for each other: on average for half of them.
  const first = wave(options, running).promptMs;
  const firstMs =
    requestMs + (first + Math.min(first, load.promptMs)) / 2 + (serviceMs * (concurrency - running)) / running / 2;
  const ttftMs = steadyMs + Math.max(0, firstMs - steadyMs) / waves;
  return {
    requestsPerSecond: (1000 * concurrency) / (ttftMs + decodeMs),
    ttftMs,
    tpotMs: cell.outputTokens > 1 ? load.tpotMs : null,
    e2eMs: ttftMs + decodeMs,
  };
}

/**
 * A static batch: `batch` requests are there at once, and none follows. Their prompts are computed first, then all
 * decode together. What the engine's limit or its cache cannot hold runs in further waves.
 *
 * @returns of the first wave: the time until all its prompts are computed and the mean time per token; e2eMs is that of
 *   the whole batch, and the rate is batch / e2e; null where the cache cannot hold one request
 */
export function staticBatch(options: RunOptions & { readonly batch: number }): RunResult | null {
  const { stepTimes, limits, cell, batch, requestMs = 0 } = options;
  const whole = cell.inputTokens + cell.outputTokens;
  // All grow together: each needs its whole length.
  const room = Math.min(limits.maxSequences, Math.floor(stepTimes.kvCacheTokens / whole));
  if (room < 1 || whole > limits.maxTokens) return null;
  const atOnce = Math.min(batch, room);
  const first = wave(options, atOnce);
  const waves = Math.floor(batch / atOnce);
  const rest = batch - waves * atOnce;
  const last = rest > 0 ? wave(options, rest) : null;
  const e2eMs =
    requestMs + waves * (first.promptMs + first.decodeMs) + (last === null ? 0 : last.promptMs + last.decodeMs);
  return {
    requestsPerSecond: (1000 * batch) / e2eMs,
    ttftMs: requestMs + first.promptMs,
    tpotMs: cell.outputTokens > 1 ? first.decodeMs / (cell.outputTokens - 1) : null,
    e2eMs,
  };
}

/** Where on the way from the prompt to the last token steps are evaluated: Gauss's points of the third degree. */
const gaussPoints = [
  [(1 - Math.sqrt(0.6)) / 2, 5 / 18],
  [0.5, 8 / 18],
  [(1 + Math.sqrt(0.6)) / 2, 5 / 18],
] as const;

function wave(
  { stepTimes, limits, cell }: RunOptions,
  sequences: number,
): { readonly promptMs: number; readonly decodeMs: number } {
  const { inputTokens, outputTokens } = cell;
  const promptStep = (prefillTokens: number): number =>
    prefillTokens <= 0
      ? 0
      : stepTimes.stepMs({
          prefillTokens,
          prefillAttention: prefillTokens * (inputTokens / 2),
          decodeSequences: 0,
          decodeContextTokens: 0,
        });
  const tokens = sequences * inputTokens;
  const fullSteps = Math.floor(tokens / limits.maxBatchedTokens);
  const promptMs =
    (fullSteps > 0 ? fullSteps * promptStep(limits.maxBatchedTokens) : 0) +
    promptStep(tokens - fullSteps * limits.maxBatchedTokens);
  let decodeMs = 0;
  if (outputTokens > 1) {
    for (const [at, weight] of gaussPoints) {
      const context = inputTokens + 1 + at * (outputTokens - 1);
      const stepMs = stepTimes.stepMs({
        prefillTokens: 0,
        prefillAttention: 0,
        decodeSequences: sequences,
        decodeContextTokens: sequences * context,
      });
      decodeMs += weight * (outputTokens - 1) * stepMs;
    }
  }
  return { promptMs, decodeMs };
}
