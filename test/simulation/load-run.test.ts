import { describe, expect, test } from 'vitest';
import type { RequestOutcome, ScheduledRequest } from '../../src/profiling/measurement.js';
import { measure } from '../../src/profiling/steady-state.js';
import { simulateLoad } from '../../src/simulation/load-run.js';
import { type ReplicaLimits, SimulatedReplica } from '../../src/simulation/replica.js';
import { seededRandom } from '../support/seeded-random.js';

const limits: ReplicaLimits = { maxSequences: 4, maxBatchedTokens: 1000, maxTokens: 500 };
/** Every step takes 10 ms. */
const replica = (overrides: Partial<ReplicaLimits> = {}): SimulatedReplica =>
  new SimulatedReplica({
    stepTimes: { kvCacheTokens: 16_000, stepMs: () => 10 },
    limits: { ...limits, ...overrides },
  });
const request = (overrides: Partial<ScheduledRequest> = {}): ScheduledRequest => ({
  id: 1,
  atSeconds: 0,
  inputTokens: 100,
  outputTokens: 4,
  ...overrides,
});

describe('a run in virtual time', () => {
  test('says of a request when its tokens came', () => {
    const { outcomes, aborted } = simulateLoad({ replica: replica(), requests: [request({ atSeconds: 1.5 })] });
    expect(aborted).toBeNull();
    expect(outcomes).toHaveLength(1);
    const [{ tokenGapsSeconds, ...outcome }] = outcomes as [RequestOutcome];
    expect(outcome).toEqual({
      id: 1,
      scheduledSeconds: 1.5,
      sentSeconds: 1.5,
      firstTokenSeconds: 1.51,
      endSeconds: 1.54,
      inputTokens: 100,
      outputTokens: 4,
      wantedInputTokens: 100,
      wantedOutputTokens: 4,
      usage: 'server',
      failure: null,
    });
    expect(Array.from(tokenGapsSeconds, (gap) => Math.round(gap * 1e9) / 1e9)).toEqual([0.01, 0.01, 0.01]);
  });

  test('the gaps of a request add up to the time from its first token to its end', () => {
    const random = seededRandom(3);
    let atSeconds = 0;
    const requests = Array.from({ length: 500 }, (_, id) => {
      atSeconds += random.between(0, 0.05);
      return request({ id, atSeconds, inputTokens: random.whole(1, 300), outputTokens: random.whole(1, 60) });
    });
    const { outcomes } = simulateLoad({ replica: replica(), requests });
    expect(outcomes.map(({ id }) => id)).toEqual(requests.map(({ id }) => id));
    for (const [place, outcome] of outcomes.entries()) {
      expect(outcome).toMatchObject({ failure: null, outputTokens: requests[place]!.outputTokens });
      expect(outcome.firstTokenSeconds!).toBeGreaterThan(outcome.sentSeconds);
      expect(outcome.tokenGapsSeconds).toHaveLength(outcome.outputTokens - 1);
      const sum = Array.from(outcome.tokenGapsSeconds).reduce((total, gap) => total + gap, 0);
      expect(sum).toBeCloseTo(outcome.endSeconds - outcome.firstTokenSeconds!, 9);
    }
  });

  test('gives the same outcomes when it is run again', () => {
    const requests = Array.from({ length: 50 }, (_, id) => request({ id, atSeconds: id / 30 }));
    const run = () => simulateLoad({ replica: replica(), requests });
    expect(run()).toEqual(run());
  });

  test('a request that the engine refuses is a failure, as over HTTP', () => {
    const { outcomes } = simulateLoad({
      replica: replica(),
      requests: [request({ inputTokens: 499 }), request({ id: 2, atSeconds: 1 })],
    });
    expect(outcomes[0]).toMatchObject({
      failure: 'http_other',
      failureDetail: '400: 503 tokens are more than the engine holds',
      outputTokens: 0,
      firstTokenSeconds: null,
      endSeconds: 0,
    });
    expect(outcomes[1]).toMatchObject({ failure: null });
  });

  test('tells of outcomes as requests end, not as they are scheduled', () => {
    const told: number[] = [];
    const requests = [request({ id: 1, outputTokens: 50 }), request({ id: 2, atSeconds: 0.01, outputTokens: 2 })];
    const { outcomes } = simulateLoad({ replica: replica(), requests, onOutcome: ({ id }) => told.push(id) });
    expect(told).toEqual([2, 1]);
    expect(outcomes.map(({ id }) => id)).toEqual([1, 2]);
  });

  test('is ended when it is told to: what is in flight is cancelled, the rest not sent', () => {
    const requests = Array.from({ length: 100 }, (_, id) => request({ id, atSeconds: id * 0.02, outputTokens: 10 }));
    const { outcomes, aborted } = simulateLoad({
      replica: replica(),
      requests,
      shouldAbort: (soFar, elapsedSeconds) =>
        soFar.length >= 5 && elapsedSeconds > 0.1 ? `five are enough after ${elapsedSeconds} s` : null,
    });
    expect(aborted).toMatch(/^five are enough after 0\.\d+ s$/);
    const cancelled = outcomes.filter(({ failure }) => failure === 'cancelled');
    expect(outcomes.filter(({ failure }) => failure === null).length).toBe(5);
    expect(cancelled.length).toBeGreaterThan(0);
    expect(outcomes.length).toBeLessThan(30);
    for (const { failureDetail, tokenGapsSeconds, outputTokens } of cancelled) {
      expect(failureDetail).toBe(aborted);
      expect(tokenGapsSeconds).toHaveLength(Math.max(0, outputTokens - 1));
    }
  });

  test('asks whether to end twice a second, also while nothing ends', () => {
    const asked: number[] = [];
    simulateLoad({
      replica: replica(),
      requests: [request({ outputTokens: 400 })],
      shouldAbort: (_soFar, elapsedSeconds) => {
        asked.push(elapsedSeconds);
        return null;
      },
    });
    expect(asked).toEqual([0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]);
  });

  test('is measured by the code that measures servers', () => {
    // One sequence at a time, 40 ms each, arrivals every 50 ms: nothing waits.
    const requests = Array.from({ length: 400 }, (_, id) => request({ id, atSeconds: id * 0.05 }));
    const { outcomes, aborted } = simulateLoad({ replica: replica({ maxSequences: 1 }), requests });
    const measured = measure(outcomes, {
      model: 'any',
      cell: { inputTokens: 100, outputTokens: 4 },
      mix: null,
      requestRate: 20,
      arrivals: 'constant',
      seed: 1,
      temperature: 0,
      aborted,
    });
    expect(measured).toMatchObject({ valid: true, saturated: false, aborted: null, usage: 'server' });
    expect(measured.throughputRps).toBeCloseTo(20, 0);
    expect(measured.ttft!.mean).toBeCloseTo(0.01, 6);
    expect(measured.tpot!.p99).toBeCloseTo(0.01, 6);
    expect(measured.e2e!.p50).toBeCloseTo(0.04, 6);
  });

  test('of nothing is nothing', () => {
    expect(simulateLoad({ replica: replica(), requests: [] })).toEqual({ outcomes: [], aborted: null });
  });
});
