import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { abortReason, binomialTail } from '../../src/profiling/early-abort.js';
import type { ScheduledRequest } from '../../src/profiling/measurement.js';
import { seededRandom } from '../support/seeded-random.js';
import { outcomes, slo } from './run-builders.js';

const schedule = (count: number, gapSeconds = 1): readonly ScheduledRequest[] =>
  Array.from({ length: count }, (_, id) => ({ id, atSeconds: id * gapSeconds, inputTokens: 100, outputTokens: 11 }));
const rules = (count: number, overrides: Parameters<typeof slo>[0] = {}) => ({
  slo: slo(overrides),
  schedule: schedule(count),
  requestRate: 1,
});

describe('a run is given up', () => {
  it('when more have missed than the whole sample allows, and a quarter more', () => {
    // Every fourth is late: of 100, 10 may be; the 13th is request 48.
    const run = outcomes(100, (i) => ({ ttft: i % 4 === 0 ? 2 : 0.2 }));
    const at = run.findIndex((_, i) => abortReason(rules(100), run.slice(0, i + 1), i) !== null);
    expect(at).toBe(48);
    expect(abortReason(rules(100), run.slice(0, 49), 48)).toBe('13 of 100 requests missed the SLO, at most 10 may');
  });

  it('at once where all of the first miss', () => {
    const run = outcomes(60, () => ({ tpot: 0.2 }));
    const at = run.findIndex((_, i) => abortReason(rules(60), run.slice(0, i + 1), i) !== null);
    expect(at).toBeGreaterThan(4);
    expect(at).toBeLessThan(14);
  });

  it('but not for what the length of the prompts allows', () => {
    const run = outcomes(100, () => ({ ttft: 1.5 }));
    const gaveUp = (overrides: Parameters<typeof slo>[0]) =>
      run.some((_, i) => abortReason(rules(100, overrides), run.slice(0, i + 1), i) !== null);
    expect(gaveUp({})).toBe(true);
    // 10 ms for each of 100 tokens is one more second.
    expect(gaveUp({ ttftSecondsPerInputToken: 0.01 })).toBe(false);
    expect(abortReason(rules(100, { ttftSecondsPerInputToken: 1 }), [], 25)).toBeNull();
  });

  it('by requests in flight that are late already, before any of them ends', () => {
    // Nothing ends; 1 s + 10 × 0.1 s is the most that a request may take.
    expect(abortReason(rules(100), [], 3)).toBeNull();
    expect(abortReason(rules(100), [], 25)).toMatch(/requests missed the SLO/);
  });

  it('where requests in flight grow, though no limit is missed', () => {
    const limits = { ttftSeconds: null, tpotSeconds: 1, percentile: 90 } as const;
    // Each stays longer than the one before: three quarters of what arrives leaves.
    const run = outcomes(2000, (i) => ({ ttft: 0.2, endSeconds: 20 + i * 1.33, outputTokens: 4000 }));
    const soFar = (at: number) => run.filter(({ endSeconds }) => endSeconds <= at);
    expect(abortReason(rules(2000, limits), soFar(1900), 1900)).toMatch(
      /^requests in flight grow: over the last \d+ s \d+ arrived and \d+ ended, at 1 requests\/s$/,
    );
    const steady = outcomes(2000, () => ({ ttft: 0.2, outputTokens: 4000, tpot: 0.01 }));
    const ended = (at: number) => steady.filter(({ endSeconds }) => endSeconds <= at);
    for (const at of [10, 60, 100, 500, 1500]) expect(abortReason(rules(2000, limits), ended(at), at)).toBeNull();
  });

  it('never under means, whatever misses: no share is limited', () => {
    const run = outcomes(60, () => ({ tpot: 0.2 }));
    expect(abortReason(rules(60, { percentile: 0 }), run, 59)).toBeNull();
  });

  it('hardly ever by mistake: of runs that meet a P90 with 5 % late, at most 1 in 200', () => {
    const random = seededRandom(5);
    let mistakes = 0;
    for (let trial = 0; trial < 1000; trial++) {
      const run = outcomes(100, () => ({ ttft: random.chance(0.05) ? 2 : 0.2 }));
      if (run.some((_, i) => i % 5 === 0 && abortReason(rules(100), run.slice(0, i + 1), i) !== null)) mistakes += 1;
    }
    expect(mistakes).toBeLessThanOrEqual(5);
  });
});

describe('the tail of a binomial count', () => {
  it('is what adding up its terms gives', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 0, max: 60 }),
        fc.double({ min: 0.001, max: 0.999, noNaN: true }),
        (trials, misses, chance) => {
          let sum = 0;
          for (let k = misses; k <= trials; k++) {
            let ways = 1;
            for (let i = 0; i < k; i++) ways *= (trials - i) / (i + 1);
            sum += ways * chance ** k * (1 - chance) ** (trials - k);
          }
          expect(binomialTail(trials, misses, chance)).toBeCloseTo(sum, 9);
        },
      ),
    );
  });

  it('does not underflow in long runs', () => {
    expect(binomialTail(10_000, 5, 0.5)).toBe(1);
    expect(binomialTail(10_000, 9_000, 0.5)).toBe(0);
    expect(binomialTail(10_000, 1_000, 0.1)).toBeCloseTo(0.505, 2);
  });
});
