import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatencyHistogram } from '../../../src/simulation/backtest/latency-histogram.js';

const latency = fc.oneof(
  fc.double({ min: 1e-6, max: 1e-3, noNaN: true }),
  fc.double({ min: 1e-3, max: 10, noNaN: true }),
  fc.double({ min: 10, max: 1e6, noNaN: true }),
);

describe('a histogram of latencies', () => {
  test('gives quantiles to half a per cent of those of the sorted list, and the mean exactly', () => {
    fc.assert(
      fc.property(
        fc.array(latency, { minLength: 1, maxLength: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (list, share) => {
          const histogram = new LatencyHistogram();
          for (const one of list) histogram.add(one);
          const sorted = list.toSorted((a, b) => a - b);
          const expected = sorted[Math.max(0, Math.ceil(share * list.length * (1 - 1e-12)) - 1)]!;
          expect(Math.abs(histogram.quantile(share)! / expected - 1)).toBeLessThanOrEqual(0.005);
          expect(histogram.mean).toBeCloseTo(list.reduce((sum, one) => sum + one, 0) / list.length, 6);
          expect(histogram.count).toBe(list.length);
        },
      ),
    );
  });

  test('two of them merge into that of both', () => {
    fc.assert(
      fc.property(fc.array(latency, { maxLength: 50 }), fc.array(latency, { maxLength: 50 }), (a, b) => {
        const of = (list: readonly number[]): LatencyHistogram => {
          const histogram = new LatencyHistogram();
          for (const one of list) histogram.add(one);
          return histogram;
        };
        const merged = of(a);
        merged.merge(of(b));
        const both = of([...a, ...b]);
        const { mean, ...quantiles } = merged.percentiles() ?? { mean: 0 };
        const { mean: expected, ...expectedQuantiles } = both.percentiles() ?? { mean: 0 };
        expect(quantiles).toEqual(expectedQuantiles);
        expect(mean).toBeCloseTo(expected, 9);
      }),
    );
  });

  test('a weight counts as so many values, also a fraction of one', () => {
    const histogram = new LatencyHistogram();
    histogram.add(1, 0.25);
    histogram.add(2, 0.5);
    histogram.add(4, 0.25);
    expect([0.2, 0.25, 0.26, 0.75, 0.76, 1].map((share) => Math.round(histogram.quantile(share)!))).toEqual([
      1, 1, 2, 2, 4, 4,
    ]);
    expect(histogram.mean).toBe(2.25);
  });

  test('values that are all alike come back exactly, as do none and zero', () => {
    const histogram = new LatencyHistogram();
    expect(histogram.percentiles()).toBeNull();
    for (let i = 0; i < 10; i++) histogram.add(0.3);
    expect(histogram.percentiles()).toMatchObject({ p50: 0.3, p99: 0.3 });
    histogram.clear();
    expect(histogram.quantile(0.5)).toBeNull();
    histogram.add(0);
    expect(histogram.percentiles()).toEqual({ mean: 0, p50: 0, p90: 0, p95: 0, p99: 0 });
  });

  test('beyond its range it says the smallest and the largest that it saw', () => {
    const histogram = new LatencyHistogram();
    histogram.add(1e12);
    histogram.add(1e-12);
    expect(histogram.quantile(0.5)).toBe(1e-12);
    expect(histogram.quantile(1)).toBeGreaterThan(4e6);
    expect(() => histogram.add(Number.NaN)).toThrow('NaN');
    expect(() => histogram.add(-1)).toThrow('a latency of -1');
    expect(() => histogram.add(1, Number.POSITIVE_INFINITY)).toThrow('weight Infinity');
  });
});
