import { runLoad } from '../adapters/openai/load-generator.js';
import type { OpenAiServer } from '../adapters/openai/server.js';
import type { RequestOutcome, ScheduledRequest } from '../profiling/measurement.js';
import { simulateLoad } from '../simulation/load-run.js';
import { type ReplicaLimits, SimulatedReplica } from '../simulation/replica.js';
import type { StepTimes } from '../simulation/step-time.js';

/** What became of a schedule. */
export type ServedLoad = {
  /** Of every request that was sent. */
  readonly outcomes: readonly RequestOutcome[];
  /** Why it was ended early; null where it was not. */
  readonly aborted: string | null;
  /** Why the load was another one than was asked for; null where it was that. */
  readonly generatorFault: string | null;
  /** Why answers may be dated too late; null where they are not. */
  readonly generatorStall: string | null;
};

/** Something that a schedule of requests can be sent to: a server, or the simulated replica in virtual time. */
export interface BenchmarkServer {
  /** For messages. */
  readonly name: string;
  readonly method: 'measured' | 'simulated';
  /** Longest request, input + output [tokens]; null = not known. */
  readonly maxTokens: number | null;
  /** Whether times to first token can be measured. */
  readonly streams: boolean;
  /** What will be missing or wrong in its measurements, a sentence each. */
  readonly warnings: readonly string[];
  /** Seconds on its own clock: the wall's, or virtual ones. */
  now(): number;
  /** Sends a schedule and waits for the answers; resolves also when it is called off. */
  serve(load: {
    readonly requests: readonly ScheduledRequest[];
    /** Runs of different salts have different prompts. */
    readonly promptSalt: number;
    readonly signal: AbortSignal;
    readonly onOutcome: (outcome: RequestOutcome) => void;
    readonly shouldAbort: (soFar: readonly RequestOutcome[], elapsedSeconds: number) => string | null;
  }): Promise<ServedLoad>;
  close(): Promise<void>;
}

/**
 * A server that was probed.
 *
 * @param options.nowSeconds the wall clock
 */
export function openAiBenchmarkServer(
  server: OpenAiServer,
  options: { readonly nowSeconds: () => number },
): BenchmarkServer {
  return {
    name: server.address.name,
    method: 'measured',
    maxTokens: server.abilities.maxModelTokens,
    streams: server.abilities.shape.streaming,
    warnings: server.warnings,
    now: options.nowSeconds,
    serve: (load) => runLoad({ target: server, ...load }),
    close: () => server.close(),
  };
}

/** A replica of the catalogue in virtual time: an hour of load takes seconds, and two runs give the same outcomes. */
export function simulatedBenchmarkServer(options: {
  readonly name: string;
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
}): BenchmarkServer {
  const { name, stepTimes, limits } = options;
  let seconds = 0;
  return {
    name,
    method: 'simulated',
    maxTokens: limits.maxTokens,
    streams: true,
    warnings: [],
    now: () => seconds,
    serve: async ({ requests, signal, onOutcome, shouldAbort }) => {
      // Called off between runs: a run holds the event loop, so that nothing could be heard meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      if (signal.aborted) return { outcomes: [], aborted: 'interrupted', generatorFault: null, generatorStall: null };
      const replica = new SimulatedReplica({ stepTimes, limits });
      const begun = seconds;
      const run = simulateLoad({
        replica,
        requests,
        onOutcome,
        shouldAbort: (soFar, elapsedSeconds) => {
          seconds = begun + elapsedSeconds;
          return shouldAbort(soFar, elapsedSeconds);
        },
      });
      seconds = begun + run.outcomes.reduce((last, { endSeconds }) => Math.max(last, endSeconds), 0);
      return { ...run, generatorFault: null, generatorStall: null };
    },
    close: async () => {},
  };
}
