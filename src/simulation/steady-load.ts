import type { ReplicaLimits } from './replica.js';
import type { StepTimes } from './step-time.js';

/**
 * A replica under steady load, out of step times: analytic, without events; all requests are alike.
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
