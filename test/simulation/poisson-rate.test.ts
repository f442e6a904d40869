import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SloLimits, SloPercentile } from '../../src/profiling/attainment.js';
import { poissonRate } from '../../src/simulation/poisson-rate.js';
import type { ReplicaLimits } from '../../src/simulation/replica.js';
import type { StepTimes } from '../../src/simulation/step-time.js';
import { observe, simulatedRate, valueAt } from './simulated-rate.js';
import { within } from './slo.js';

const limits: ReplicaLimits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 131_072 };

/** Step times of the form of a roofline: fixed work, weights read or tokens multiplied, cache read, attention of prompts. */
const roofline = (of: {
  readonly kvCacheTokens: number;
  readonly fixedMs: number;
  readonly readMs: number;
  readonly msPerToken: number;
  readonly msPerCachedToken: number;
  readonly msPerPair: number;
}): StepTimes => ({
  kvCacheTokens: of.kvCacheTokens,
  stepMs: ({ prefillTokens, prefillAttention, decodeSequences, decodeContextTokens }) =>
    of.fixedMs +
    Math.max(of.readMs, (prefillTokens + decodeSequences) * of.msPerToken) +
    decodeContextTokens * of.msPerCachedToken +
    prefillAttention * of.msPerPair,
});

const replicas = {
  /** As an 8B model on an H100. */
  fast: roofline({
    kvCacheTokens: 430_000,
    fixedMs: 2,
    readMs: 5.3,
    msPerToken: 0.022,
    msPerCachedToken: 4.6e-5,
    msPerPair: 7e-7,
  }),
  /** As an 8B model on an L4, whose cache holds few sequences. */
  slow: roofline({
    kvCacheTokens: 24_000,
    fixedMs: 1.4,
    readMs: 59,
    msPerToken: 0.16,
    msPerCachedToken: 5.5e-4,
    msPerPair: 9e-6,
  }),
};

const cells = [
  [128, 32],
  [128, 256],
  [1024, 128],
  [1024, 512],
  [4096, 256],
] as const;

const cases: readonly (readonly [keyof typeof replicas, SloLimits, SloPercentile])[] = [
  ['fast', within({ ttftSeconds: 1, tpotSeconds: 0.05 }), 99],
  ['fast', within({ ttftSeconds: 0.5, tpotSeconds: 0.03 }), 90],
  ['fast', within({ ttftSeconds: 2, tpotSeconds: 0.1 }), 0],
  ['fast', within({ e2eSeconds: 10 }), 99],
  ['slow', within({ ttftSeconds: 4, tpotSeconds: 0.15 }), 99],
  ['slow', within({ ttftSeconds: 4, tpotSeconds: 0.15 }), 90],
  ['slow', within({ e2eSeconds: 40 }), 95],
];

describe('the rate under Poisson arrivals', () => {
  it('is that at which the simulated replica just meets the SLO: median within 10 %, each within a third', () => {
    const ratios: number[] = [];
    for (const [name, slo, percentile] of cases) {
      for (const [inputTokens, outputTokens] of cells) {
        const cell = { inputTokens, outputTokens };
        const stepTimes = replicas[name];
        const predicted = poissonRate({ stepTimes, limits, cell, slo, percentile })!;
        expect(predicted.requestsPerSecond).toBeGreaterThan(0);
        // Long enough to reach a steady state with so many sequences.
        const requests = Math.ceil(Math.max(400, 10 * predicted.sequences));
        const around = predicted.requestsPerSecond;
        const ratio = around / simulatedRate({ stepTimes, limits, cell, slo, percentile, around, requests });
        expect(ratio, `${name}, ${JSON.stringify({ slo, percentile, cell })}`).toBeGreaterThan(2 / 3);
        expect(ratio, `${name}, ${JSON.stringify({ slo, percentile, cell })}`).toBeLessThan(4 / 3);
        ratios.push(ratio);
      }
    }
    const median = ratios.toSorted((a, b) => a - b)[Math.floor(ratios.length / 2)]!;
    expect(median).toBeGreaterThan(0.9);
    expect(median).toBeLessThan(1.1);
  }, 60_000);

  it('has the means that the simulated replica shows at it', () => {
    const cell = { inputTokens: 1024, outputTokens: 128 };
    const slo = within({ ttftSeconds: 1, tpotSeconds: 0.025 });
    const stepTimes = replicas.fast;
    const { requestsPerSecond, mean } = poissonRate({ stepTimes, limits, cell, slo, percentile: 90 })!;
    const seen = observe({ stepTimes, limits, cell, requestsPerSecond, requests: 3000 });
    expect(mean.ttftMs / 1000 / valueAt(0, seen.ttft)).toBeGreaterThan(0.7);
    expect(mean.ttftMs / 1000 / valueAt(0, seen.ttft)).toBeLessThan(1.3);
    expect(mean.tpotMs / 1000 / valueAt(0, seen.tpot)).toBeGreaterThan(0.85);
    expect(mean.tpotMs / 1000 / valueAt(0, seen.tpot)).toBeLessThan(1.15);
  });

  it('is 0, with the latencies of a request alone, where even that misses the SLO', () => {
    const cell = { inputTokens: 1000, outputTokens: 101 };
    const stepTimes: StepTimes = { kvCacheTokens: 1e6, stepMs: ({ prefillTokens }) => 10 + prefillTokens / 100 };
    const found = poissonRate({ stepTimes, limits, cell, slo: within({ ttftSeconds: 0.019 }), percentile: 99 })!;
    expect(found.requestsPerSecond).toBe(0);
    // One step with 1,000 tokens, then 100 of 10 ms.
    expect(found.mean.ttftMs).toBeCloseTo(20, 9);
    expect(found.mean.tpotMs).toBeCloseTo(10, 9);
    expect(found.mean.e2eMs).toBeCloseTo(1020, 9);
    const barely = poissonRate({ stepTimes, limits, cell, slo: within({ ttftSeconds: 0.2 }), percentile: 99 })!;
    expect(barely.requestsPerSecond).toBeGreaterThan(0);
  });

  it('counts the time of a request before its first step in TTFT and E2E', () => {
    const cell = { inputTokens: 1000, outputTokens: 101 };
    const stepTimes: StepTimes = { kvCacheTokens: 1e6, stepMs: ({ prefillTokens }) => 10 + prefillTokens / 100 };
    const slo = within({ ttftSeconds: 0.001 });
    const found = poissonRate({ stepTimes, requestMs: 25, limits, cell, slo, percentile: 99 })!;
    expect(found.mean.ttftMs).toBeCloseTo(45, 9);
    expect(found.mean.e2eMs).toBeCloseTo(1045, 9);
  });

  it('is null where the cache cannot hold one request, and where it is longer than the longest allowed', () => {
    const slo = within({ tpotSeconds: 1 });
    const cell = { inputTokens: 20_000, outputTokens: 4001 };
    expect(poissonRate({ stepTimes: replicas.slow, limits, cell, slo, percentile: 99 })).toBeNull();
    const short = { ...limits, maxTokens: 24_000 };
    expect(poissonRate({ stepTimes: replicas.fast, limits: short, cell, slo, percentile: 99 })).toBeNull();
  });

  it('never rises as the SLO becomes tighter, and is never met with latencies above it', () => {
    const lengths = fc.record({
      inputTokens: fc.integer({ min: 1, max: 20_000 }),
      outputTokens: fc.integer({ min: 1, max: 3000 }),
    });
    const times = fc.record({
      kvCacheTokens: fc.integer({ min: 100, max: 1_000_000 }),
      fixedMs: fc.double({ min: 0.1, max: 20, noNaN: true }),
      readMs: fc.double({ min: 0.1, max: 100, noNaN: true }),
      msPerToken: fc.double({ min: 1e-4, max: 1, noNaN: true }),
      msPerCachedToken: fc.double({ min: 0, max: 1e-3, noNaN: true }),
      msPerPair: fc.double({ min: 0, max: 1e-4, noNaN: true }),
    });
    const seconds = fc.double({ min: 0.01, max: 100, noNaN: true });
    fc.assert(
      fc.property(lengths, times, seconds, seconds, (cell, given, ttftSeconds, tpotSeconds) => {
        const rateWith = (factor: number) =>
          poissonRate({
            stepTimes: roofline(given),
            limits,
            cell,
            slo: within({ ttftSeconds: ttftSeconds * factor, tpotSeconds: tpotSeconds * factor }),
            percentile: 95,
          });
        const loose = rateWith(1);
        if (loose === null) return;
        const tight = rateWith(0.7)!;
        expect(Number.isFinite(loose.requestsPerSecond)).toBe(true);
        expect(tight.requestsPerSecond).toBeLessThanOrEqual(loose.requestsPerSecond * (1 + 1e-3));
        for (const value of [...Object.values(loose.mean), ...Object.values(loose.atPercentile)]) {
          expect(Number.isFinite(value)).toBe(true);
        }
        if (loose.requestsPerSecond > 0) {
          expect(loose.atPercentile.ttftMs).toBeLessThanOrEqual(1000 * ttftSeconds);
          expect(loose.atPercentile.tpotMs).toBeLessThanOrEqual(1000 * tpotSeconds);
        }
      }),
      { numRuns: 150 },
    );
  });
});
