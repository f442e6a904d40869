import {
  type BacktestRequest,
  type Decision,
  defaultObjective,
  type FleetDeployment,
  type FleetSettings,
  type FleetView,
  type Policy,
} from '../../../src/simulation/backtest/backtest.js';
import type { StepTimes } from '../../../src/simulation/step-time.js';
import type { SeededRandom } from '../../support/seeded-random.js';

/** The simulated clock of these tests begins here; the gateway's intervals are whole from it on. */
export const startMs = Date.UTC(2026, 0, 5);

/** Every step takes as long. */
export const constantSteps = (ms: number): StepTimes => ({ kvCacheTokens: 1_000_000, stepMs: () => ms });

export const deployment = (overrides: Partial<FleetDeployment> = {}): FleetDeployment => ({
  id: 'default/a',
  gpuType: 'A100',
  gpusPerReplica: 1,
  usdPerReplicaHour: 3.6,
  minReplicas: 0,
  maxReplicas: 100,
  startup: { medianSeconds: 100, spread: 0 },
  engine: { stepTimes: constantSteps(100), limits: { maxSequences: 8, maxBatchedTokens: 2048, maxTokens: 10_000 } },
  profile: { indexes: [[1], [1]], tputs: [[1]] },
  ...overrides,
});

/** A quarter of an hour, scored from the start; one replica. */
export const fleet = (overrides: Partial<FleetSettings> = {}): FleetSettings => ({
  deployments: [deployment()],
  router: 'least-request',
  objective: defaultObjective,
  seed: 1,
  startMs,
  scoredFromMs: startMs,
  endMs: startMs + 900_000,
  initialReplicas: new Map([['default/a', 1]]),
  queueTimeoutSeconds: 60,
  drainSeconds: 600,
  meanHoursBetweenFailures: null,
  seriesSeconds: 60,
  ...overrides,
});

/** Seconds after the start, and lengths. */
export const request = (atSeconds: number, inputTokens = 100, outputTokens = 11): BacktestRequest => ({
  atMs: startMs + atSeconds * 1000,
  inputTokens,
  outputTokens,
});

export const decision = (overrides: Partial<Decision> = {}): Decision => ({
  replicas: new Map(),
  routing: null,
  forecastRps: null,
  ...overrides,
});

/** A policy that asks for replicas of `default/a` at certain seconds after the start, and keeps what it saw. */
export function scripted(
  script: Readonly<Record<number, number | ReadonlyMap<string, number>>> = {},
  overrides: Partial<Pick<Policy, 'periodSeconds' | 'lagSeconds'>> = {},
): Policy & { readonly views: FleetView[] } {
  const views: FleetView[] = [];
  return {
    periodSeconds: 10,
    lagSeconds: 0,
    ...overrides,
    views,
    decide: (view) => {
      views.push(view);
      const asked = script[(view.nowMs - startMs) / 1000];
      if (asked === undefined) return decision();
      return decision({ replicas: typeof asked === 'number' ? new Map([['default/a', asked]]) : asked });
    },
  };
}

/** Poisson arrivals within the span of the settings. */
export function* poisson(
  settings: FleetSettings,
  options: { readonly rps: number; readonly random: SeededRandom; readonly lengths: () => readonly [number, number] },
): Generator<BacktestRequest, void, void> {
  let atMs = settings.startMs;
  for (;;) {
    atMs += (-Math.log(1 - options.random.next()) * 1000) / options.rps;
    if (atMs >= settings.endMs) return;
    const [inputTokens, outputTokens] = options.lengths();
    yield { atMs, inputTokens, outputTokens };
  }
}
