import type { ReplicaLimits } from './replica.js';
import type { StepTimes } from './step-time.js';

/**
 * What published benchmarks measure, out of step times: a fixed number of requests always in flight, or one batch that
 * runs to its end. Analytic, without events; all requests of a run are alike.
 *
 * A replica in a steady state has two kinds of steps: those that only decode, and those that also compute a chunk of a
 * prompt. Of a request's output − 1 decodes, some fall into steps that hold a chunk of another's prompt; from how many
 * follow the rate, the time per token, and (Little's law) the time to the first token.
 */

/** Lengths of every request of a run [tokens]. */
export type RunCell = { readonly inputTokens: number; readonly outputTokens: number };

export type RunOptions = {
  readonly stepTimes: StepTimes;
  /** Time of a request before its first step [ms]; 0 by default. */
  readonly requestMs?: number;
  readonly limits: ReplicaLimits;
  readonly cell: RunCell;
};

/** A replica in a steady state. */
export type SteadyLoad = {
  readonly requestsPerMs: number;
  /** Sequences that decode, as a mean over time. */
  readonly decoding: number;
  /** Mean time between two tokens of a sequence [ms]; 0 where requests have one token. */
  readonly tpotMs: number;
  /** A step that only decodes [ms]. */
  readonly decodeStepMs: number;
  /** A step that also computes a chunk of a prompt [ms]. */
  readonly mixedStepMs: number;
  /** Prompts of one mixed step; below 1 where a prompt is cut into chunks. */
  readonly promptsPerMixedStep: number;
  /** From a prompt's turn to its first token [ms]. */
  readonly promptMs: number;
};

/**
 * The steady state in which `batch` sequences decode together.
 *
 * @param inFlight number of requests of a closed loop; absent = open arrivals. Requests of a closed loop that began
 *   together end together, so that the next prompts come together too, as many as one step has room for; and while they
 *   are computed, only the others decode. Open arrivals come one by one, and see the mean over time.
 * @returns null where prompts cannot come in fast enough for so many
 */
export function steadyLoad(
  { stepTimes, limits, cell }: RunOptions,
  batch: number,
  inFlight?: number,
): SteadyLoad | null {
  const { inputTokens, outputTokens } = cell;
  const decodes = outputTokens - 1;
  const roomBeside = Math.max(1, limits.maxBatchedTokens - batch);
  const together = inFlight === undefined ? 1 : Math.max(1, Math.min(inFlight, Math.floor(roomBeside / inputTokens)));
  const otherShare = inFlight === undefined ? 1 : (inFlight - together) / inFlight;
  const beside = batch * otherShare;
  const room = Math.max(1, limits.maxBatchedTokens - beside);
  /** Mixed steps for one prompt. */
  const chunks = together > 1 ? 1 / together : Math.ceil(inputTokens / room);
  const latency = Math.max(1, chunks);
  const context = inputTokens + outputTokens / 2;
  const step = (prefillTokens: number, sequences: number): number =>
    stepTimes.stepMs({
      prefillTokens,
      prefillAttention: prefillTokens * (inputTokens / 2),
      decodeSequences: sequences,
      decodeContextTokens: sequences * context,
    });
  // Fewer than one on average means that often none decodes: a step never has less than one.
  const decodeStepMs = step(0, Math.max(1, batch));
  if (decodes > 0) {
    const decodeOnly = decodes / batch - chunks * otherShare;
    if (decodeOnly >= 0) {
      const mixedStepMs = step(inputTokens / chunks, beside);
      const msPerRequest = chunks * mixedStepMs + decodeOnly * decodeStepMs;
      const decodingMs = decodeOnly * decodeStepMs * batch + chunks * mixedStepMs * beside;
      return {
        requestsPerMs: 1 / msPerRequest,
        decoding: decodingMs / msPerRequest,
        tpotMs: decodingMs / decodes,
        decodeStepMs,
        mixedStepMs,
        promptsPerMixedStep: 1 / chunks,
        promptMs: latency * mixedStepMs,
      };
    }
  }
  // Every step holds prompts, as many tokens of them as sequences complete.
  const promptsPerStep = decodes > 0 ? beside / decodes : Math.min(batch, room / inputTokens);
  const prefillTokens = promptsPerStep * inputTokens;
  if (prefillTokens > room * (1 + 1e-9)) return null;
  const mixedStepMs = step(prefillTokens, decodes > 0 ? beside : 0);
  return {
    requestsPerMs: promptsPerStep / mixedStepMs,
    decoding: decodes > 0 ? beside : 0,
    tpotMs: decodes > 0 ? mixedStepMs : 0,
    decodeStepMs,
    mixedStepMs,
    promptsPerMixedStep: promptsPerStep,
    promptMs: latency * mixedStepMs,
  };
}

/**
 * Most sequences of a cell that the engine runs at once: by its limit, and by the cache, in which sequences of all
 * ages hold their prompt and on average half of their output. 0 = the cache cannot hold one.
 */
export function mostSequences({ stepTimes, limits, cell }: RunOptions): number {
  const { inputTokens, outputTokens } = cell;
  const whole = inputTokens + outputTokens;
  if (whole > stepTimes.kvCacheTokens || whole > limits.maxTokens) return 0;
  const fitting = stepTimes.kvCacheTokens / (inputTokens + outputTokens / 2);
  return Math.max(1, Math.min(limits.maxSequences, Math.floor(fitting)));
}

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
