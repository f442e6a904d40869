import { describe, expect, test } from 'vitest';
import type { FleetSettings, RunResult } from '../../../src/simulation/backtest/backtest.js';
import { runRequests } from '../../../src/simulation/backtest/request-run.js';
import { seededRandom } from '../../support/seeded-random.js';
import { constantSteps, deployment, fleet, poisson, scripted, startMs } from './fleets.js';

/*
 * Limits of the fleet that queueing theory knows. A step takes as long whatever is in it, and a prompt is one step, so
 * that the service of a request is its output tokens × the step.
 */

const stepMs = 10;
const singles = (replicas: number, maxSequences: number, overrides: Partial<FleetSettings>): FleetSettings =>
  fleet({
    deployments: [
      deployment({
        engine: {
          stepTimes: constantSteps(stepMs),
          limits: { maxSequences, maxBatchedTokens: 8192, maxTokens: 1_000_000 },
        },
      }),
    ],
    initialReplicas: new Map([['default/a', replicas]]),
    seriesSeconds: 1e6,
    ...overrides,
  });

type Load = { readonly count: number; readonly use: number; readonly servers: number; readonly meanTokens: number };

/** Mean wait before the first step [in services], over all requests; and the share of time in which replicas computed. */
async function waitOf(
  settings: FleetSettings,
  load: Load,
  exponential: boolean,
): Promise<{ readonly wait: number; readonly busy: number }> {
  const serviceSeconds = (load.meanTokens * stepMs) / 1000;
  const rps = (load.use * load.servers) / serviceSeconds;
  const random = seededRandom(1);
  // Geometric: as many steps as an exponential service rounds up to.
  const outputTokens = (): number =>
    exponential ? 1 + Math.floor(Math.log(1 - random.next()) / Math.log(1 - 1 / load.meanTokens)) : load.meanTokens;
  const whole = { ...settings, endMs: startMs + (load.count / rps) * 1000 };
  const requests = poisson(whole, { rps, random, lengths: () => [1, outputTokens()] });
  const result = await runRequests({ settings: whole, requests, policy: scripted({}, { periodSeconds: 1e5 }) });
  return { wait: (result.ttft!.mean - stepMs / 1000) / serviceSeconds, busy: result.utilization };
}

/** Mean wait of M/M/c with one queue [in services] (Erlang C). */
function erlangWait(servers: number, use: number): number {
  const offered = servers * use;
  let blocking = 1;
  for (let k = 1; k <= servers; k++) blocking = (offered * blocking) / (k + offered * blocking);
  const waits = blocking / (1 - use * (1 - blocking));
  return waits / (servers * (1 - use));
}

/**
 * Mean wait of two exponential servers with a queue each, where a request joins the shorter one [in services]: the
 * stationary distribution of (shorter, longer), cut off where next to nothing is left, by Gauss and Seidel.
 */
function shorterQueueWait(use: number): number {
  const most = 70;
  const arrivals = 2 * use;
  const place = (a: number, b: number): number => (a <= b ? a * (most + 1) + b : b * (most + 1) + a);
  let shares = new Float64Array((most + 1) ** 2);
  shares[0] = 1;
  for (let round = 0; round < 6000; round++) {
    // Uniformised: one event a round, of rates arrivals, 1 and 1.
    const next = new Float64Array(shares.length);
    const total = arrivals + 2;
    for (let a = 0; a <= most; a++) {
      for (let b = a; b <= most; b++) {
        const share = shares[place(a, b)]! / total;
        if (share === 0) continue;
        next[a < most ? place(a + 1, b) : place(a, b)]! += share * arrivals;
        next[a > 0 ? place(a - 1, b) : place(a, b)]! += share;
        next[b > 0 ? place(a, b - 1) : place(a, b)]! += share;
      }
    }
    shares = next;
  }
  // A request that joins the shorter queue waits for those in it.
  let wait = 0;
  for (let a = 0; a <= most; a++) for (let b = a; b <= most; b++) wait += a * shares[place(a, b)]!;
  return wait;
}

describe('against queueing theory', () => {
  test('one sequence at a time with services that are all alike: M/D/1', async () => {
    const load = { count: 400_000, use: 0.7, servers: 1, meanTokens: 5 };
    const { wait, busy } = await waitOf(singles(1, 1, {}), load, false);
    expect(Math.abs(wait / (load.use / (2 * (1 - load.use))) - 1)).toBeLessThan(0.03);
    expect(Math.abs(busy / load.use - 1)).toBeLessThan(0.03);
  });

  test('one replica of c sequences with exponential services, which is one queue: M/M/c', async () => {
    const load = { count: 300_000, use: 0.75, servers: 4, meanTokens: 100 };
    const { wait, busy } = await waitOf(singles(1, load.servers, {}), load, true);
    // A request that finds a place among others begins with the next step: half a step later, in the mean.
    const halfStep = 0.5 / load.meanTokens;
    expect(Math.abs(wait / (erlangWait(load.servers, load.use) + halfStep) - 1)).toBeLessThan(0.03);
    // The replica computes while anything is there: 1 − 1 / (1 + 3 + 3² / 2 + 3³ / 6 + 3⁴ / 24 / (1 − 0.75)).
    expect(Math.abs(busy / (1 - 1 / 26.5) - 1)).toBeLessThan(0.03);
  });

  test('replicas of one sequence that are chosen by chance: an M/M/1 each', async () => {
    const load = { count: 300_000, use: 0.6, servers: 4, meanTokens: 50 };
    const { wait, busy } = await waitOf(singles(load.servers, 1, { router: 'random' }), load, true);
    expect(Math.abs(wait / (load.use / (1 - load.use)) - 1)).toBeLessThan(0.03);
    expect(Math.abs(busy / load.use - 1)).toBeLessThan(0.03);
  });

  test('two replicas of one sequence by least request: the shorter queue is joined', async () => {
    const load = { count: 300_000, use: 0.75, servers: 2, meanTokens: 50 };
    const expected = shorterQueueWait(load.use);
    // Between one common queue and a queue each.
    expect(expected).toBeGreaterThan(erlangWait(2, load.use));
    expect(expected).toBeLessThan(load.use / (1 - load.use));
    const { wait, busy } = await waitOf(singles(load.servers, 1, {}), load, true);
    expect(Math.abs(wait / expected - 1)).toBeLessThan(0.03);
    expect(Math.abs(busy / load.use - 1)).toBeLessThan(0.03);
  });
});

describe("Little's law", () => {
  test('mean requests in flight = rate × mean time in the fleet', async () => {
    const settings = singles(3, 4, { endMs: startMs + 5e6 });
    const random = seededRandom(2);
    const policy = scripted({}, { periodSeconds: 100 });
    const requests = poisson(settings, { rps: 8, random, lengths: () => [random.whole(1, 500), random.whole(1, 200)] });
    const result: RunResult = await runRequests({ settings, requests, policy });
    const means = policy.views.slice(1).map(({ deployments }) => deployments[0]!.meanInFlight);
    const inFlight = means.reduce((sum, mean) => sum + mean, 0) / means.length;
    expect(Math.abs(inFlight / ((result.requests / 5000) * result.e2e!.mean) - 1)).toBeLessThan(0.002);
    expect(result.attained + result.late).toBe(result.requests);
  });
});
