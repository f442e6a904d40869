import type { ProfileGrid } from '../../../src/core/profile.js';
import type { FinishedInterval } from '../../../src/demand/gateway-trace.js';
import type { DeploymentView, FleetDeployment, FleetView } from '../../../src/simulation/backtest/backtest.js';

/** Builders with overrides for tests of policies. */

/** One cell, or the same throughput at every length of a small grid. */
export function flatProfile(tput: number): ProfileGrid {
  return {
    indexes: [
      [16, 64, 256],
      [128, 512, 2048],
    ],
    tputs: [0, 1, 2].map(() => [tput, tput, tput]),
  };
}

export function fleetDeployment(id: string, overrides: Partial<FleetDeployment> = {}): FleetDeployment {
  return {
    id,
    gpuType: id,
    gpusPerReplica: 1,
    usdPerReplicaHour: 1,
    minReplicas: 0,
    maxReplicas: 1000,
    startup: { medianSeconds: 180, spread: 0 },
    engine: {
      stepTimes: { kvCacheTokens: 100_000, stepMs: () => 10 },
      limits: { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 32_768 },
    },
    profile: flatProfile(4),
    ...overrides,
  };
}

export function seen(id: string, overrides: Partial<DeploymentView> = {}): DeploymentView {
  const ready = overrides.ready ?? overrides.wanted ?? 0;
  return {
    id,
    wanted: ready,
    ready,
    starting: 0,
    draining: 0,
    startingSinceMs: [],
    startupSeconds: [],
    runningRequests: 0,
    waitingRequests: 0,
    meanInFlight: 0,
    busyShare: 0,
    ...overrides,
  };
}

export function view(nowSeconds: number, overrides: Partial<FleetView> = {}): FleetView {
  return { nowMs: 1000 * nowSeconds, deployments: [], queuedRequests: 0, intervals: [], ...overrides };
}

/** Completed requests of one interval, `[input tokens, output tokens, count]` each; as many arrivals unless said. */
export function interval(
  endSeconds: number,
  buckets: readonly (readonly [inputTokens: number, outputTokens: number, count: number])[],
  arrivals = buckets.reduce((sum, [, , count]) => sum + count, 0),
): FinishedInterval {
  return {
    endSeconds,
    record: {
      version: 4,
      intervalSeconds: 10,
      arrivals,
      pending: 0,
      queueing: 0,
      unknownLength: 0,
      buckets: buckets.map(([inputTokens, outputTokens, count]) => ({ inputTokens, outputTokens, count })),
    },
  };
}
