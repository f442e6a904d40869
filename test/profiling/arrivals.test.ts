import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { type DrawnArrivals, drawArrivals, scheduleTrace, traceRate } from '../../src/profiling/arrivals.js';
import { kolmogorovSmirnov } from './distributions.js';

const cell = { inputTokens: 128, outputTokens: 64 };

function arrivals(overrides: Partial<DrawnArrivals> = {}) {
  return drawArrivals({ kind: 'poisson', requestRate: 4, count: 20_000, seed: 1, lengths: cell, ...overrides });
}

function gapsOf(schedule: readonly { readonly atSeconds: number }[]): readonly number[] {
  return schedule.map(({ atSeconds }, i) => atSeconds - (i === 0 ? 0 : schedule[i - 1]!.atSeconds));
}

function momentsOf(samples: readonly number[]): { readonly mean: number; readonly variance: number } {
  const mean = samples.reduce((sum, x) => sum + x, 0) / samples.length;
  return { mean, variance: samples.reduce((sum, x) => sum + (x - mean) ** 2, 0) / samples.length };
}

describe('Poisson arrivals', () => {
  it.each([1, 2, 3, 99])('have exponential gaps: mean 1/λ, variance 1/λ², Kolmogorov–Smirnov (seed %d)', (seed) => {
    const gaps = gapsOf(arrivals({ seed }));
    const { mean, variance } = momentsOf(gaps);
    expect(mean).toBeCloseTo(1 / 4, 12);
    // The variance of a sample of n exponentials has a relative deviation of √(8/n) = 2 %.
    expect(Math.abs(variance * 16 - 1)).toBeLessThan(0.08);
    expect(kolmogorovSmirnov(gaps, (x) => 1 - Math.exp(-4 * x))).toBeLessThan(1.95);
  });

  it('come in numbers of equal mean and variance in any stretch of time, as only Poisson arrivals do', () => {
    const perSecond = new Array<number>(5000).fill(0);
    for (const { atSeconds } of arrivals()) perSecond[Math.min(4999, Math.floor(atSeconds))]! += 1;
    const { mean, variance } = momentsOf(perSecond);
    expect(mean).toBeCloseTo(4, 10);
    // √(2/5000) = 2 % relative deviation.
    expect(Math.abs(variance / mean - 1)).toBeLessThan(0.08);
  });

  it('offer exactly the rate they are named after, however few', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0.01, max: 1e4, noNaN: true }),
        fc.integer(),
        (count, requestRate, seed) => {
          const schedule = arrivals({ count, requestRate, seed });
          expect(schedule).toHaveLength(count);
          expect(schedule.at(-1)!.atSeconds).toBeCloseTo(count / requestRate, 6);
          expect(gapsOf(schedule).every((gap) => gap > 0)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('are the same for the same seed, whatever lengths are drawn beside them, and others for another', () => {
    const times = (overrides: Partial<DrawnArrivals>) =>
      arrivals({ count: 50, ...overrides }).map((one) => one.atSeconds);
    expect(times({})).toEqual(times({}));
    expect(times({ lengths: [cell, { inputTokens: 1, outputTokens: 1 }] })).toEqual(times({}));
    expect(times({ seed: 2 })).not.toEqual(times({}));
  });

  it('draw each of the listed lengths as often as it is listed', () => {
    const long = { inputTokens: 4096, outputTokens: 8 };
    const schedule = arrivals({ lengths: [cell, cell, cell, long] });
    const share = schedule.filter(({ inputTokens }) => inputTokens === 4096).length / schedule.length;
    expect(Math.abs(share - 0.25)).toBeLessThan(4 * Math.sqrt((0.25 * 0.75) / schedule.length));
  });
});

describe('constant arrivals', () => {
  it('come at equal gaps from 0', () => {
    expect(arrivals({ kind: 'constant', count: 4 }).map(({ atSeconds }) => atSeconds)).toEqual([0, 0.25, 0.5, 0.75]);
  });
});

describe('arrivals of a trace', () => {
  const requests = [
    { atMs: 5000, inputTokens: 10, outputTokens: 1 },
    { atMs: 5100, inputTokens: 20, outputTokens: 2 },
    { atMs: 5100, inputTokens: 30, outputTokens: 3 },
    { atMs: 7000, inputTokens: 40, outputTokens: 4 },
  ];

  it('keep their gaps and lengths, from 0', () => {
    expect(scheduleTrace({ requests, requestRate: null })).toEqual([
      { id: 0, atSeconds: 0, inputTokens: 10, outputTokens: 1 },
      { id: 1, atSeconds: 0.1, inputTokens: 20, outputTokens: 2 },
      { id: 2, atSeconds: 0.1, inputTokens: 30, outputTokens: 3 },
      { id: 3, atSeconds: 2, inputTokens: 40, outputTokens: 4 },
    ]);
  });

  it('are stretched to a wanted mean rate, bursts and all', () => {
    expect(traceRate(requests)).toBe(1.5);
    const slow = scheduleTrace({ requests, requestRate: 0.15 });
    expect(slow.map(({ atSeconds }) => Number(atSeconds.toFixed(9)))).toEqual([0, 1, 1, 20]);
  });

  it.each([
    ['an empty trace', [], null, 'found no request'],
    ['a trace of one time', [requests[1]!, requests[2]!], 2, 'requests at one time only'],
    [
      'a trace that goes back',
      [requests[3]!, requests[0]!],
      null,
      'requests[1].atMs: found 5000, expected at least the 7000',
    ],
  ])('refuse %s, saying what was found', (_, trace, requestRate, message) => {
    expect(() => scheduleTrace({ requests: trace, requestRate })).toThrow(InputError);
    expect(() => scheduleTrace({ requests: trace, requestRate })).toThrow(message);
  });
});

describe('arrivals that cannot be', () => {
  it.each([
    [{ requestRate: 0 }, 'requestRate: found 0, expected a number > 0'],
    [{ requestRate: Number.NaN }, 'requestRate: found NaN'],
    [{ requestRate: Number.POSITIVE_INFINITY }, 'requestRate: found Infinity'],
    [{ count: 0 }, 'count: found 0, expected a whole number >= 1'],
    [{ count: 1.5 }, 'count: found 1.5'],
    [{ lengths: [] }, 'at least one pair of lengths'],
  ])('are refused: %j', (overrides, message) => {
    expect(() => arrivals(overrides)).toThrow(message);
  });
});
