import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { forecastDemand, meanLengths } from '../../src/demand/forecast.js';
import type { DemandHistory } from '../../src/demand/window.js';
import { DemandWindow } from '../../src/demand/window.js';
import { bucket, record, start, steady, TraceStore } from './traces.js';

const shape = [
  { inputTokens: 256, outputTokens: 64, share: 0.75 },
  { inputTokens: 1024, outputTokens: 64, share: 0.25 },
];

function history(rates: readonly (number | null)[], overrides: Partial<DemandHistory> = {}): DemandHistory {
  return {
    intervals: rates.map((rps, i) => {
      const endSeconds = start + 10 * i;
      return rps === null ? { endSeconds, state: 'unknown' } : { endSeconds, state: 'known', arrivals: rps * 10, rps };
    }),
    knownIntervals: rates.filter((rps) => rps !== null).length,
    newestKnownSeconds: start,
    shape,
    pending: 0,
    idle: false,
    hold: null,
    ...overrides,
  };
}

const window = { method: 'window', quantile: 0.95 } as const;

describe('the planned rate from the window', () => {
  it('of a constant load is that load, with one known interval or many', () => {
    expect(forecastDemand(history([10]), window)).toMatchObject({ rps: 10, meanRps: 10 });
    expect(forecastDemand(history(Array(24).fill(10)), window)).toMatchObject({ rps: 10, meanRps: 10 });
  });

  it('covers bursts: the quantile where it is the larger', () => {
    const rates = Array.from({ length: 20 }, (_, i) => (i < 2 ? 30 : 1));
    expect(forecastDemand(history(rates), { method: 'window', quantile: 0.95 }).rps).toBe(30);
    expect(forecastDemand(history(rates), { method: 'window', quantile: 0.5 }).rps).toBeCloseTo(3.9, 12);
    expect(forecastDemand(history([3, 1, 2]), { method: 'window', quantile: 1 }).rps).toBe(3);
  });

  it('plans for 0.02 requests/s, which a quantile does not see', () => {
    const store = new TraceStore();
    const demand = new DemandWindow();
    for (let at = 0; at <= 600; at += 10) {
      if (at % 50 === 0) store.write(start + at, record({ arrivals: 1, buckets: [bucket(64, 64, 1)] }));
      store.cycle(demand, start + at + 0.5);
    }
    const { rps, meanRps } = forecastDemand(store.cycle(demand, start + 600.5), { method: 'window', quantile: 0.5 });
    // 5 requests in a window of 240 s.
    expect(rps).toBeCloseTo(5 / 240, 12);
    expect(meanRps).toBe(rps);
  });

  it('leaves unknown intervals out instead of counting them as zero', () => {
    expect(forecastDemand(history([null, 10, null, 10, null]), window)).toMatchObject({ rps: 10, meanRps: 10 });
  });

  it('is spread over the lengths of the window', () => {
    expect(forecastDemand(history([10]), window).demand).toEqual([
      { inputTokens: 256, outputTokens: 64, rps: 7.5 },
      { inputTokens: 1024, outputTokens: 64, rps: 2.5 },
    ]);
  });

  it('of an idle model is zero for every length it had', () => {
    const { rps, demand } = forecastDemand(history(Array(24).fill(0), { idle: true }), window);
    expect(rps).toBe(0);
    expect(demand.map((part) => part.rps)).toEqual([0, 0]);
  });

  it('of a model of which nothing is known is empty', () => {
    const nothing = history([null, null], { shape: [], hold: 'no_traces' });
    expect(forecastDemand(nothing, window)).toEqual({ rps: 0, meanRps: 0, demand: [] });
  });

  it('is at least the mean, at most the largest rate, grows with the quantile, and ignores order', () => {
    const rate = fc.double({ min: 0, max: 1e4, noNaN: true });
    const quantile = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.array(rate, { minLength: 1, maxLength: 24 }), quantile, quantile, (rates, q1, q2) => {
        const planned = (of: readonly number[], q: number) =>
          forecastDemand(history(of), { method: 'window', quantile: q });
        const { rps, meanRps, demand } = planned(rates, q1);
        expect(meanRps).toBeCloseTo(rates.reduce((sum, one) => sum + one, 0) / rates.length, 6);
        expect(rps).toBeGreaterThanOrEqual(meanRps);
        expect(rps).toBeLessThanOrEqual(Math.max(...rates) * (1 + 1e-12));
        expect(demand.reduce((sum, part) => sum + part.rps, 0)).toBeCloseTo(rps, 6);
        expect(planned([...rates].reverse(), q1).rps).toBeCloseTo(rps, 9);
        expect(planned(rates, Math.max(q1, q2)).rps).toBeGreaterThanOrEqual(planned(rates, Math.min(q1, q2)).rps);
      }),
    );
  });

  it('does not fall while the store is down or tracing is off', () => {
    const store = new TraceStore();
    const demand = new DemandWindow();
    for (let at = 0; at <= 300; at += 10) {
      store.write(start + at, steady);
      store.cycle(demand, start + at + 0.5);
    }
    for (let at = 310; at <= 520; at += 10) {
      store.down = at > 400;
      expect(forecastDemand(store.cycle(demand, start + at + 0.5), window).rps).toBe(10);
    }
  });
});

describe('meanLengths', () => {
  it('weighs the lengths by their shares', () => {
    expect(meanLengths(shape)).toEqual({ inputTokens: 448, outputTokens: 64 });
    expect(meanLengths([])).toBeNull();
  });
});
