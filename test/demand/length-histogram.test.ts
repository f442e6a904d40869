import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { histogramOf, independentPairs, type LengthShare, lengthsOf } from '../../src/demand/length-histogram.js';

const bounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];

/** The histogram that an engine has of some lengths. */
function observed(lengths: readonly number[], upTo: readonly number[] = bounds) {
  const cumulative = new Map(
    [...upTo, Number.POSITIVE_INFINITY].map((bound) => [bound, lengths.filter((one) => one <= bound).length]),
  );
  return histogramOf(
    cumulative,
    lengths.reduce((sum, one) => sum + one, 0),
  );
}

const meanOf = (lengths: readonly LengthShare[]) => lengths.reduce((sum, { tokens, share }) => sum + tokens * share, 0);

describe('lengths out of a histogram', () => {
  it('of equal requests are exactly theirs', () => {
    const lengths = lengthsOf(observed(Array.from({ length: 10 }, () => 128))!);
    expect(lengths).toHaveLength(1);
    expect(lengths[0]!.tokens).toBeCloseTo(128, 9);
  });

  it('beyond the last bucket are what the mean leaves for them', () => {
    const lengths = lengthsOf(observed([100, 100, 100, 3700])!);
    // The first three cannot be longer than their bucket, which ends at 100, nor shorter than 50.
    expect(lengths.map(({ share }) => share)).toEqual([0.75, 0.25]);
    expect(lengths[0]!.tokens).toBeLessThanOrEqual(100);
    expect(lengths[1]!.tokens).toBeGreaterThan(2000);
    expect(meanOf(lengths)).toBeCloseTo(1000, 6);
  });

  it('have the mean that was told and stay in their buckets, for any requests', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 200 }), (requests) => {
        const lengths = lengthsOf(observed(requests)!);
        const mean = requests.reduce((sum, one) => sum + one, 0) / requests.length;
        expect(meanOf(lengths) / mean).toBeCloseTo(1, 6);
        expect(lengths.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
        for (const { tokens, share } of lengths) {
          const bound = bounds.find((one) => tokens <= one + 1e-9) ?? Number.POSITIVE_INFINITY;
          const inBucket = requests.filter((one) => one <= bound && (bounds.find((b) => one <= b) ?? bound) === bound);
          // A length on the border of two buckets stands for the upper one too.
          expect(inBucket.length > 0 || bounds.some((one) => Math.abs(one - tokens) < 1e-6)).toBe(true);
          expect(share).toBeGreaterThan(0);
        }
      }),
    );
  });

  it('without a sum are the middles of their buckets; with an impossible one, the nearest possible', () => {
    const { bounds: upTo, counts } = observed([150, 150])!;
    expect(lengthsOf({ bounds: upTo, counts, sum: null })[0]!.tokens).toBeCloseTo(Math.sqrt(100 * 200), 9);
    expect(lengthsOf({ bounds: upTo, counts, sum: 2e9 })[0]!.tokens).toBeCloseTo(200, 6);
    expect(lengthsOf({ bounds: upTo, counts, sum: 0 })[0]!.tokens).toBeCloseTo(100, 6);
    expect(lengthsOf({ bounds: upTo, counts, sum: Number.NaN })[0]!.tokens).toBeCloseTo(Math.sqrt(100 * 200), 9);
  });

  it('are none without requests, or without the bucket of all', () => {
    expect(observed([])).toBeNull();
    expect(histogramOf(new Map([[10, 3]]), 12)).toBeNull();
    expect(histogramOf(new Map(), null)).toBeNull();
  });

  it('survive buckets that a counter reset left out of step', () => {
    const cumulative = new Map([
      [10, 5],
      [20, 3],
      [Number.POSITIVE_INFINITY, 8],
    ]);
    expect(histogramOf(cumulative, null)!.counts).toEqual([5, 0, 3]);
  });

  it('of one token and less are one token', () => {
    expect(lengthsOf(observed([0, 1])!)).toEqual([{ tokens: 1, share: 1 }]);
  });
});

describe('pairs of lengths', () => {
  it('are thought independent: both means stay, and shares multiply', () => {
    const pairs = independentPairs(
      [
        { tokens: 100, share: 0.25 },
        { tokens: 1000, share: 0.75 },
      ],
      [
        { tokens: 10, share: 0.5 },
        { tokens: 300, share: 0.5 },
      ],
    );
    expect(pairs.map(({ share }) => share)).toEqual([0.125, 0.125, 0.375, 0.375]);
    expect(pairs.reduce((sum, { inputTokens, share }) => sum + inputTokens * share, 0)).toBe(775);
    expect(pairs.reduce((sum, { outputTokens, share }) => sum + outputTokens * share, 0)).toBe(155);
  });
});
