import type { ProfileGrid } from '../../core/profile.js';
import type { ModelRouting } from '../../core/routing.js';
import type { FinishedInterval } from '../../demand/gateway-trace.js';
import type { ReplicaLimits } from '../replica.js';
import type { StepTimes } from '../step-time.js';

/**
 * The words of a backtest: a fleet of simulated replicas serves a recorded trace, a policy says how many of each kind
 * there are, and what that cost and what users felt is counted.
 *
 * Times are Unix milliseconds of the simulated clock. The truth is not the belief: replicas run `engine`, policies see
 * `profile`.
 */

/** One request of the trace. Lengths are whole numbers; an output of 0 counts as 1. */
export type BacktestRequest = { readonly atMs: number; readonly inputTokens: number; readonly outputTokens: number };

/** From the start of a replica, from which it is billed, until it serves. */
export type StartupTime = {
  readonly medianSeconds: number;
  /** Standard deviation of the logarithm: start-up times are log-normal. 0 = always the median. */
  readonly spread: number;
};

/** One kind of replica. */
export type FleetDeployment = {
  /** namespace/name */
  readonly id: string;
  readonly gpuType: string;
  readonly gpusPerReplica: number;
  readonly usdPerReplicaHour: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
  readonly startup: StartupTime;
  /** The truth: how a replica really behaves. */
  readonly engine: { readonly stepTimes: StepTimes; readonly limits: ReplicaLimits };
  /** The belief: what policies plan with. */
  readonly profile: ProfileGrid;
};

/**
 * When a request attains: its first token comes within `ttftSeconds + ttftSecondsPerInputToken × input tokens`, and with
 * more than one output token the mean time per further token is at most `tpotSeconds`. Failed and unserved ones miss.
 */
export type RequestObjective = {
  readonly ttftSeconds: number;
  readonly ttftSecondsPerInputToken: number;
  readonly tpotSeconds: number;
};

export const defaultObjective: RequestObjective = {
  ttftSeconds: 2,
  ttftSecondsPerInputToken: 0.0002,
  tpotSeconds: 0.1,
};

/**
 * Who gets a request. `shares`: the deployment by the plan's shares of the request's bucket, in it the replica with the
 * fewest requests; where that is known to be full, the least full one of those that serve the bucket, if that is less
 * full; where there are no shares, as `least-request`. `least-request`: the ready replica with the fewest requests, of
 * all. `random`: any ready replica.
 */
export const routers = ['shares', 'least-request', 'random'] as const;
export type Router = (typeof routers)[number];

/** `request`: every request on every replica. `fluid`: rates and means, for fleets of hundreds of replicas. */
export const fidelities = ['request', 'fluid'] as const;
export type Fidelity = (typeof fidelities)[number];

/** What does not depend on the policy. */
export type FleetSettings = {
  readonly deployments: readonly FleetDeployment[];
  readonly router: Router;
  readonly objective: RequestObjective;
  readonly seed: number;
  /** Simulated time of the first moment; the fleet begins with `initialReplicas`, all ready. */
  readonly startMs: number;
  /** Requests that arrive, and money that is spent, before this are not counted. */
  readonly scoredFromMs: number;
  /** No arrivals from here on; requests that are open then are served to their end by the fleet as it is, without cost. */
  readonly endMs: number;
  readonly initialReplicas: ReadonlyMap<string, number>;
  /** A request that no replica took for so long is unserved [s]. */
  readonly queueTimeoutSeconds: number;
  /** What a draining replica has not finished by then fails [s]; it is billed until it has drained. */
  readonly drainSeconds: number;
  /** Mean time between failures of a ready replica [h]; its requests fail, a new one starts in its place. Null = never. */
  readonly meanHoursBetweenFailures: number | null;
  /** Resolution of the series in the result [s]. */
  readonly seriesSeconds: number;
};

/** One deployment as a policy sees it. */
export type DeploymentView = {
  readonly id: string;
  /** Asked for: ready + starting, unless a change has not been acted on yet. */
  readonly wanted: number;
  readonly ready: number;
  readonly starting: number;
  readonly draining: number;
  /** When each of the starting ones was created [ms], ascending. */
  readonly startingSinceMs: readonly number[];
  /** Start-up times of those that became ready since the last view [s]. */
  readonly startupSeconds: readonly number[];
  /** Requests on its ready replicas now: in a batch, and waiting in their queues. */
  readonly runningRequests: number;
  readonly waitingRequests: number;
  /** The same, mean over the time since the last view. */
  readonly meanInFlight: number;
  /** Share of the time since the last view in which its ready replicas computed, 0..1: what nvidia-smi calls utilisation. */
  readonly busyShare: number;
};

/** What a policy may know at one moment: nothing of the future, and nothing that its live counterpart could not see. */
export type FleetView = {
  readonly nowMs: number;
  readonly deployments: readonly DeploymentView[];
  /** Requests at the gateway that no replica took yet. */
  readonly queuedRequests: number;
  /** The gateway's interval records that were finished since the last view, oldest first. */
  readonly intervals: readonly FinishedInterval[];
};

export type Decision = {
  /** Replicas to have, by deployment id; one that is not named stays. */
  readonly replicas: ReadonlyMap<string, number>;
  /** For the router `shares`; null = the policy has no shares. */
  readonly routing: ModelRouting | null;
  /** The rate that was planned for [requests/s], for the report; null = the policy has none. */
  readonly forecastRps: number | null;
};

/** One autoscaler in one run. `decide` is called every `periodSeconds`, first at the start. */
export interface Policy {
  readonly periodSeconds: number;
  /** From a decision until replicas are created or drained [s]. */
  readonly lagSeconds: number;
  decide(view: FleetView): Decision | Promise<Decision>;
}

/** Seconds; over the requests that were answered. */
export type LatencyPercentiles = {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
};

/** Sampled every `stepSeconds` from the start of the scored span; all lists are equally long. */
export type RunSeries = {
  readonly stepSeconds: number;
  readonly fromMs: number;
  readonly rps: readonly number[];
  readonly forecastRps: readonly (number | null)[];
  /** Ready replicas by deployment id, at the end of each step. */
  readonly readyReplicas: Readonly<Record<string, readonly number[]>>;
  readonly usdPerHour: readonly number[];
  /** Of the requests that arrived in the step; null where none did. */
  readonly attainment: readonly (number | null)[];
  readonly ttftP95Seconds: readonly (number | null)[];
};

/** What one run of one policy came to, over its scored span. */
export type RunResult = {
  readonly usd: number;
  readonly hours: number;
  readonly requests: number;
  readonly attained: number;
  /** Answered, but not within the objective. */
  readonly late: number;
  /** Lost with their replica, or refused by it (longer than it holds). */
  readonly failed: number;
  /** No replica took them in time. */
  readonly unserved: number;
  /** attained / requests; 1 without requests. */
  readonly attainment: number;
  /** Of requests that were answered. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** USD per million answered tokens, input and output together; null without any. */
  readonly usdPerMillionTokens: number | null;
  readonly ttft: LatencyPercentiles | null;
  readonly tpot: LatencyPercentiles | null;
  readonly e2e: LatencyPercentiles | null;
  readonly starts: number;
  readonly stops: number;
  readonly failures: number;
  readonly gpuHours: Readonly<Record<string, number>>;
  readonly meanReplicas: number;
  /** Share of the ready replicas' time in which they computed. */
  readonly utilization: number;
  readonly series: RunSeries;
};
