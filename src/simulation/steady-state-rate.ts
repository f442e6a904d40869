import type { ReplicaLimits } from './replica.js';
import type { StepTimes } from './step-time.js';

/** Limits on latency; absent = no limit. */
export type LatencyLimits = { readonly ttftMs?: number; readonly tpotMs?: number; readonly e2eMs?: number };

/** A replica under constant load of one cell. Where `requestsPerSecond` is 0, the latencies are those of a request alone. */
export type SteadyState = {
  /** Completions per second of one replica; 0 = no concurrency meets the limits, or one request exceeds the cache. */
  readonly requestsPerSecond: number;
  /** Sequences in the engine at that rate. */
  readonly concurrency: number;
  /** Without waiting in the queue. */
  readonly ttftMs: number;
  readonly tpotMs: number;
  readonly e2eMs: number;
};

/** The highest steady rate of one cell (all requests alike) that meets the limits: analytic, without events. */
export function steadyRate(options: {
  readonly stepTimes: StepTimes;
  readonly limits: ReplicaLimits;
  readonly cell: { readonly inputTokens: number; readonly outputTokens: number };
  readonly slo: LatencyLimits;
}): SteadyState {
  throw new Error(`no steady state yet for ${options.cell.inputTokens}`);
}
