import { describe, expect, it } from 'vitest';
import { DemandForecaster } from '../../src/demand/forecast.js';
import { randomFrom } from '../../src/profiling/random.js';

/** Poisson arrivals in intervals of 10 s, from a time on. */
function poissonIntervals(options: { readonly rps: number; readonly count: number; readonly seed: number }) {
  const chance = randomFrom(options.seed);
  return Array.from({ length: options.count }, () => {
    let arrivals = 0;
    for (let at = chance.exponential(); at < options.rps * 10; at += chance.exponential()) arrivals += 1;
    return arrivals / 10;
  });
}

describe('minutes that are handed over', () => {
  it('give the margins of a service that saw them itself, though nothing finer than minutes is known of them', () => {
    const rates = poissonIntervals({ rps: 5, count: 6 * 60 * 24, seed: 1 });
    const options = { method: 'auto', quantile: 0.95, intervalSeconds: 10, horizonSeconds: 200 } as const;
    const [own, handed] = [new DemandForecaster(options), new DemandForecaster(options)];
    const begin = 1_800_000_000;
    const window = (end: number) => ({
      intervals: rates.slice(Math.max(0, end - 24), end).map((rps, i) => ({
        endSeconds: begin + 10 * (Math.max(0, end - 24) + i + 1),
        state: 'known' as const,
        arrivals: rps * 10,
        completions: rps * 10,
        rps,
      })),
    });
    for (let end = 6; end <= rates.length; end += 6) own.observe(window(end), (begin + 10 * end) * 1000);
    handed.rememberMinutes(
      Array.from({ length: rates.length / 6 - 4 }, (_, minute) => ({
        endSeconds: begin + 60 * (minute + 1),
        rps: rates.slice(6 * minute, 6 * minute + 6).reduce((sum, rps) => sum + rps, 0) / 6,
      })),
    );
    const nowMs = (begin + 10 * rates.length) * 1000;
    handed.observe(window(rates.length), nowMs);
    const said = (forecaster: DemandForecaster) => forecaster.forecast({ nowMs, horizonSeconds: 200 }).rps;
    expect(said(handed)).toBeGreaterThan(5);
    expect(said(handed) / said(own)).toBeGreaterThan(0.9);
    expect(said(handed) / said(own)).toBeLessThan(1.1);
  });
});
