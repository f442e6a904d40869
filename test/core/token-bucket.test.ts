import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gatewayBucketIndex, largestTokensLog2, tokensOfBucketIndex } from '../../src/core/token-bucket.js';

describe('the bucket index of a token count', () => {
  it.each([
    [0, 0],
    [1, 0],
    [2, 10],
    [3, 16],
    [64, 60],
    [1000, 100],
    [1024, 100],
    [2000, 110],
    [131072, 170],
  ])('of %i tokens is %i', (tokens, index) => {
    expect(gatewayBucketIndex(tokens)).toBe(index);
  });

  it('lands one lower where the division by 0.1 falls just short of a whole number', () => {
    // log2(275) rounds to 8.1, and 8.1 / 0.1 is 80.99999999999999 in binary fractions.
    expect(gatewayBucketIndex(274)).toBe(80);
    expect(gatewayBucketIndex(275)).toBe(80);
    expect(gatewayBucketIndex(300)).toBe(82);
  });

  it('is within a tenth of a doubling of the count, and one more where it lands lower', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 31 - 1 }), (tokens) => {
        const error = Math.log2(tokens) - gatewayBucketIndex(tokens) / 10;
        expect(error).toBeGreaterThan(-0.05 - 1e-9);
        expect(error).toBeLessThan(0.15 + 1e-9);
      }),
    );
  });

  it('never falls as the count grows', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.nat(1_000_000), (a, b) => {
        expect(gatewayBucketIndex(Math.max(a, b))).toBeGreaterThanOrEqual(gatewayBucketIndex(Math.min(a, b)));
      }),
    );
  });
});

describe('the tokens of a bucket index', () => {
  it('are two to the power of index over precision', () => {
    expect(tokensOfBucketIndex(80, 10)).toBe(256);
    expect(tokensOfBucketIndex(8, 1)).toBe(256);
    expect(tokensOfBucketIndex(0, 10)).toBe(1);
    expect(tokensOfBucketIndex(largestTokensLog2 * 10, 10)).toBe(2 ** 40);
  });
});

const conformance = '../shared/conformance/aibrix.json';

describe.skipIf(!existsSync(conformance))("the gateway's own numbers (skipped where ../shared is absent)", () => {
  const expected = () => JSON.parse(readFileSync(conformance, 'utf8')).go_token_to_index;

  it('are reproduced for every recorded count', () => {
    const cases: [number, number][] = expected().cases;
    expect(cases.length).toBeGreaterThan(40);
    expect(cases.map(([tokens]) => [tokens, gatewayBucketIndex(tokens)])).toEqual(cases);
  });

  it('include the indexes below 200 that no count leads to', () => {
    const emitted = new Set<number>();
    // Every index that a count can lead to: 40 counts in each tenth of a doubling, and all small ones.
    for (let tokens = 0; tokens <= 4096; tokens += 1) emitted.add(gatewayBucketIndex(tokens));
    for (let step = 0; step <= 4000; step += 1) emitted.add(gatewayBucketIndex(Math.round(2 ** (12 + step / 400))));
    const never = Array.from({ length: 120 }, (_, i) => i + 80).filter((index) => !emitted.has(index));
    const listed: number[] = expected().never_emitted_indexes_0_200;
    expect(never).toEqual(listed.filter((index) => index >= 80));
    expect(emitted.has(43)).toBe(false);
  });
});
