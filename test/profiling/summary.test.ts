import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomFrom } from '../../src/profiling/random.js';
import { summarise } from '../../src/profiling/summary.js';

describe('a summary of samples', () => {
  it('is null for none, and never NaN', () => {
    expect(summarise([])).toBeNull();
  });

  it('gives the percentiles that numpy gives', () => {
    // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6], [50, 90, 95, 99]) = [3.5, 6.9, 7.95, 8.79]
    const summary = summarise([3, 1, 4, 1, 5, 9, 2, 6])!;
    expect(summary.count).toBe(8);
    expect(summary.mean).toBeCloseTo(3.875, 12);
    expect(summary.p50).toBeCloseTo(3.5, 12);
    expect(summary.p90).toBeCloseTo(6.9, 12);
    expect(summary.p95).toBeCloseTo(7.95, 12);
    expect(summary.p99).toBeCloseTo(8.79, 12);
  });

  it('is the sample itself where there is one', () => {
    expect(summarise([0.25])).toEqual({ count: 1, mean: 0.25, p50: 0.25, p90: 0.25, p95: 0.25, p99: 0.25 });
  });

  it('stays within 0.05 % of the exact percentiles where a histogram answers, over seven orders of magnitude', () => {
    const random = randomFrom(3);
    const samples = Array.from({ length: 150_000 }, () => 1e-5 * 10 ** (7 * random.unit()));
    const sorted = Float64Array.from(samples).sort();
    const summary = summarise(samples)!;
    for (const [key, quantile] of [
      ['p50', 0.5],
      ['p90', 0.9],
      ['p95', 0.95],
      ['p99', 0.99],
    ] as const) {
      const at = (sorted.length - 1) * quantile;
      const exact = sorted[Math.round(at)]!;
      expect(Math.abs(summary[key] / exact - 1), key).toBeLessThan(0.0005);
    }
    expect(summary.mean).toBeCloseTo(samples.reduce((sum, x) => sum + x, 0) / samples.length, 8);
  });

  it('has a histogram that takes zeros and the tiniest numbers', () => {
    expect(summarise(new Float64Array(200_000))).toMatchObject({ mean: 0, p50: 0, p99: 0 });
    expect(summarise(new Float64Array(200_000).fill(2e-6))!.p99 / 2e-6).toBeCloseTo(1, 3);
  });

  it('orders its percentiles and keeps them among the samples', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 60 }),
        (samples) => {
          const { p50, p90, p95, p99, mean } = summarise(samples)!;
          const [least, most] = [Math.min(...samples), Math.max(...samples)];
          expect(p50).toBeGreaterThanOrEqual(least);
          expect([p50, p90, p95, p99]).toEqual([p50, p90, p95, p99].sort((a, b) => a - b));
          expect(p99).toBeLessThanOrEqual(most);
          expect(mean).toBeLessThanOrEqual(most * (1 + 1e-12));
        },
      ),
    );
  });
});
