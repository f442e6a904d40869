import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { promptMs, steadyRate, steadyStateAt } from '../../benchmarks/steady-state-rate.js';
import type { StepTimes } from '../../src/simulation/step-time.js';

/** 2 ms a step, 0.01 ms a prompt token, 0.1 ms a decoding sequence: sums that can be done by hand. */
const stepTimes: StepTimes = {
  kvCacheTokens: 50_000,
  stepMs: ({ prefillTokens, decodeSequences }) => 2 + prefillTokens / 100 + decodeSequences / 10,
};
const limits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 20_000 };
const cell = { inputTokens: 1000, outputTokens: 100 };

describe('the steady rate', () => {
  test('is that of the mean step: every sequence takes as many steps as it has tokens', () => {
    // 20 sequences: 19.8 decode, 200 prompt tokens a step: a fifth of the steps holds a prompt of 1,000.
    const state = steadyStateAt({ stepTimes, limits, cell, concurrency: 20 });
    const stepMs = 0.2 * (2 + 10 + 1.98) + 0.8 * (2 + 1.98);
    expect(state.tpotMs).toBeCloseTo(stepMs, 9);
    expect(state.requestsPerSecond).toBeCloseTo((1000 * 20) / (100 * stepMs), 9);
    expect(state.e2eMs).toBeCloseTo(100 * stepMs, 9);
    expect(state.ttftMs).toBeCloseTo(12 + stepMs / 2, 9);
  });

  test('takes the most sequences that the cache holds with their whole length', () => {
    expect(steadyRate({ stepTimes, limits, cell, slo: {} })).toMatchObject({ concurrency: Math.floor(50_000 / 1100) });
    expect(steadyRate({ stepTimes: { ...stepTimes, kvCacheTokens: 1099 }, limits, cell, slo: {} })).toMatchObject({
      requestsPerSecond: 0,
      concurrency: 0,
    });
  });

  test('meets each limit, and with one sequence more it would not', () => {
    for (const slo of [{ tpotMs: 6 }, { ttftMs: 15 }, { e2eMs: 700 }]) {
      const state = steadyRate({ stepTimes, limits, cell, slo });
      expect(state.concurrency).toBeGreaterThan(0);
      const key = Object.keys(slo)[0] as keyof typeof slo & ('tpotMs' | 'ttftMs' | 'e2eMs');
      const most = Object.values(slo)[0]!;
      expect(state[key]).toBeLessThanOrEqual(most);
      const more = steadyStateAt({ stepTimes, limits, cell, concurrency: state.concurrency + 1 });
      expect(more[key]).toBeGreaterThan(most);
    }
  });

  test('is zero, with the latencies of one request at a time, where nothing meets the limits', () => {
    const state = steadyRate({ stepTimes, limits, cell, slo: { ttftMs: 11 } });
    expect(state).toMatchObject({ requestsPerSecond: 0, concurrency: 0 });
    expect(state.ttftMs).toBeGreaterThan(12);
  });

  test('is zero beyond the longest request', () => {
    const { requestsPerSecond } = steadyRate({ stepTimes, limits: { ...limits, maxTokens: 1099 }, cell, slo: {} });
    expect(requestsPerSecond).toBe(0);
  });

  test('is bounded by the prompts that full steps compute, however many sequences there are', () => {
    const short = { inputTokens: 8000, outputTokens: 2 };
    const roomy = { ...stepTimes, kvCacheTokens: 1e9 };
    const { requestsPerSecond } = steadyRate({ stepTimes: roomy, limits, cell: short, slo: {} });
    // 8,192 tokens a step hold 8,192 / 8,001 requests' prompts and decodes.
    const perStep = 8192 / 8001;
    const stepMs = 2 + (perStep * 8000) / 100 + perStep / 10;
    expect(requestsPerSecond).toBeCloseTo((1000 * perStep) / stepMs, 6);
  });

  test('a prompt is computed in as many steps as it has chunks', () => {
    expect(promptMs({ stepTimes, limits, cell: { inputTokens: 20_000, outputTokens: 1 } })).toBeCloseTo(3 * 2 + 200, 9);
  });

  test('never rises with longer requests or tighter limits, and is never NaN', () => {
    const tokens = fc.integer({ min: 1, max: 8000 });
    fc.assert(
      fc.property(tokens, tokens, fc.integer({ min: 1, max: 200 }), (inputTokens, outputTokens, tpotMs) => {
        const rate = (input: number, output: number, limit: number): number =>
          steadyRate({ stepTimes, limits, cell: { inputTokens: input, outputTokens: output }, slo: { tpotMs: limit } })
            .requestsPerSecond;
        const base = rate(inputTokens, outputTokens, tpotMs);
        expect(Number.isFinite(base) && base >= 0).toBe(true);
        expect(rate(inputTokens, outputTokens, tpotMs / 2)).toBeLessThanOrEqual(base);
        expect(rate(inputTokens + 500, outputTokens, tpotMs)).toBeLessThanOrEqual(base * (1 + 1e-9));
      }),
      { numRuns: 300 },
    );
  });
});
