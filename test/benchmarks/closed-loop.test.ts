import { describe, expect, it } from 'vitest';
import { closedLoop, staticBatch } from '../../benchmarks/closed-loop.js';
import { type ReplicaLimits, SimulatedReplica } from '../../src/simulation/replica.js';
import type { StepTimes } from '../../src/simulation/step-time.js';

const limits: ReplicaLimits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 131_072 };

/** 10 ms a step, 0.05 ms a prompt token, 0.1 ms a decoding sequence. */
const stepTimes: StepTimes = {
  kvCacheTokens: 1_000_000,
  stepMs: ({ prefillTokens, decodeSequences }) => 10 + prefillTokens / 20 + decodeSequences / 10,
};

/** A run of the simulated replica: so many at once, and where `waves` is above 1, each that ends is followed by another. */
function run(of: {
  readonly times: StepTimes;
  readonly cell: { readonly inputTokens: number; readonly outputTokens: number };
  readonly requests: number;
  readonly waves: number;
}) {
  const { times, cell, requests, waves } = of;
  const replica = new SimulatedReplica({ stepTimes: times, limits });
  const total = requests * waves;
  const sent: number[] = [];
  const first: number[] = [];
  const end: number[] = [];
  let ended: number[] = [];
  const submit = (atMs: number): void => {
    replica.submit({ id: sent.length, ...cell }, atMs);
    sent.push(atMs);
  };
  for (let i = 0; i < requests; i++) submit(0);
  for (let atMs = replica.nextStepEndMs(); atMs !== null; atMs = replica.nextStepEndMs()) {
    replica.advanceEach(atMs, (kind, id, at, outputTokens) => {
      if (kind === 'token' && outputTokens === 1) first[id] = at;
      if (kind === 'finished') {
        end[id] = at;
        ended.push(at);
      }
    });
    for (const at of ended) if (sent.length < total) submit(at);
    ended = [];
  }
  const mean = (timeOf: (id: number) => number): number =>
    sent.reduce((sum, _, id) => sum + timeOf(id), 0) / sent.length;
  return {
    ttftMs: mean((id) => first[id]! - sent[id]!),
    tpotMs: mean((id) => (end[id]! - first[id]!) / (cell.outputTokens - 1)),
    e2eMs: Math.max(...end),
  };
}

describe('a closed loop', () => {
  it('of one request is that request again and again', () => {
    const cell = { inputTokens: 1000, outputTokens: 101 };
    const found = closedLoop({ stepTimes, limits, cell, concurrency: 1 })!;
    expect(found.ttftMs).toBeCloseTo(60, 6);
    expect(found.tpotMs).toBeCloseTo(10.1, 6);
    expect(found.requestsPerSecond).toBeCloseTo(1000 / (60 + 100 * 10.1), 6);
  });

  it.each([
    [{ inputTokens: 1024, outputTokens: 256 }, 4],
    [{ inputTokens: 1024, outputTokens: 256 }, 64],
    [{ inputTokens: 2048, outputTokens: 128 }, 32],
    [{ inputTokens: 128, outputTokens: 512 }, 128],
    [{ inputTokens: 8000, outputTokens: 512 }, 8],
  ])('of %o at %i in flight is as the simulated replica has it', (cell, concurrency) => {
    const seen = run({ times: stepTimes, cell, requests: concurrency, waves: 10 });
    const found = closedLoop({ stepTimes, limits, cell, concurrency, waves: 10 })!;
    expect(found.tpotMs! / seen.tpotMs).toBeGreaterThan(0.98);
    expect(found.tpotMs! / seen.tpotMs).toBeLessThan(1.07);
    // Lowest, 0.84, in the third of these cells; that the prompts of a closed loop come in whole groups is a simplification.
    expect(found.ttftMs / seen.ttftMs).toBeGreaterThan(0.82);
    expect(found.ttftMs / seen.ttftMs).toBeLessThan(1.03);
  });

  it('obeys Little: as many are in flight as its rate times its latency', () => {
    for (const concurrency of [1, 7, 100, 1000]) {
      const found = closedLoop({ stepTimes, limits, cell: { inputTokens: 500, outputTokens: 200 }, concurrency })!;
      expect((found.requestsPerSecond * found.e2eMs) / 1000).toBeCloseTo(concurrency, 6);
    }
  });

  it('beyond the limit of the engine is no faster, and requests wait', () => {
    const cell = { inputTokens: 100, outputTokens: 100 };
    const full = closedLoop({ stepTimes, limits, cell, concurrency: 256 })!;
    const more = closedLoop({ stepTimes, limits, cell, concurrency: 512 })!;
    expect(more.requestsPerSecond).toBeCloseTo(full.requestsPerSecond, 6);
    expect(more.ttftMs).toBeGreaterThan(full.ttftMs + full.e2eMs / 2);
  });

  it('has no result where the cache or the longest request cannot hold one', () => {
    const cell = { inputTokens: 900, outputTokens: 101 };
    const small = { ...stepTimes, kvCacheTokens: 1000 };
    expect(closedLoop({ stepTimes: small, limits, cell, concurrency: 1 })).toBeNull();
    const short = { ...limits, maxTokens: 1000 };
    expect(closedLoop({ stepTimes, limits: short, cell, concurrency: 1 })).toBeNull();
  });
});

describe('a static batch', () => {
  it('computes all prompts, then all answers', () => {
    const cell = { inputTokens: 1000, outputTokens: 11 };
    const found = staticBatch({ stepTimes, limits, cell, batch: 10 })!;
    // 10,000 prompt tokens in steps of 8,192 and 1,808; then 10 steps of 10 sequences.
    expect(found.ttftMs).toBeCloseTo(20 + 10_000 / 20, 6);
    expect(found.tpotMs).toBeCloseTo(11, 6);
    expect(found.e2eMs).toBeCloseTo(520 + 110, 6);
    expect(found.requestsPerSecond).toBeCloseTo(10 / 0.63, 6);
  });

  it('takes about as long as the simulated replica, which mixes the two', () => {
    const cell = { inputTokens: 1024, outputTokens: 256 };
    const growing: StepTimes = {
      ...stepTimes,
      stepMs: (step) => stepTimes.stepMs(step) + step.decodeContextTokens / 5000,
    };
    const seen = run({ times: growing, cell, requests: 64, waves: 1 });
    const found = staticBatch({ stepTimes: growing, limits, cell, batch: 64 })!;
    expect(found.e2eMs / seen.e2eMs).toBeGreaterThan(0.95);
    expect(found.e2eMs / seen.e2eMs).toBeLessThan(1.05);
  });

  it('runs in waves where the cache does not hold all', () => {
    const cell = { inputTokens: 1000, outputTokens: 1000 };
    const small = { ...stepTimes, kvCacheTokens: 8000 };
    const four = staticBatch({ stepTimes: small, limits, cell, batch: 4 })!;
    const ten = staticBatch({ stepTimes: small, limits, cell, batch: 10 })!;
    const two = staticBatch({ stepTimes: small, limits, cell, batch: 2 })!;
    expect(ten.e2eMs).toBeCloseTo(2 * four.e2eMs + two.e2eMs, 6);
    expect(staticBatch({ stepTimes: { ...stepTimes, kvCacheTokens: 1999 }, limits, cell, batch: 1 })).toBeNull();
  });
});
