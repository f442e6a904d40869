import { describe, expect, it } from 'vitest';
import { randomFrom } from '../../src/profiling/random.js';
import { kolmogorovSmirnov } from './distributions.js';

const draws = 50_000;

describe('chance from a seed', () => {
  it('repeats itself for one seed and differs for another, however near', () => {
    const beginning = (seed: number) => {
      const random = randomFrom(seed);
      return [random.unit(), random.unit(), random.unit()];
    };
    expect(beginning(7)).toEqual(beginning(7));
    const seeds = [0, 1, 2, -1, 0.5, 1.5, 2 ** 40, 2 ** 40 + 1, 1e-300];
    expect(new Set(seeds.map((seed) => beginning(seed)[0])).size).toBe(seeds.length);
  });

  it.each([0, 1, 12345, -3.5])('is even in [0, 1) by the test of Kolmogorov and Smirnov, from seed %d', (seed) => {
    const random = randomFrom(seed);
    const samples = Array.from({ length: draws }, () => random.unit());
    expect(Math.min(...samples)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...samples)).toBeLessThan(1);
    expect(kolmogorovSmirnov(samples, (x) => x)).toBeLessThan(1.95);
  });

  it('has no memory from one draw to the next, nor between neighbouring seeds', () => {
    const random = randomFrom(4);
    const samples = Array.from({ length: draws }, () => random.unit() - 0.5);
    const neighbours = Array.from({ length: draws }, (_, seed) => randomFrom(seed).unit() - 0.5);
    for (const series of [samples, neighbours]) {
      let product = 0;
      for (let i = 1; i < series.length; i++) product += series[i]! * series[i - 1]!;
      // Of independent draws a normal number with deviation 1/12 √n.
      expect(Math.abs(product) * 12).toBeLessThan(4 * Math.sqrt(draws));
    }
  });

  it('chooses whole numbers evenly: chi squared over 955 words', () => {
    const random = randomFrom(9);
    const counts = new Array<number>(955).fill(0);
    for (let i = 0; i < draws * 2; i++) counts[random.whole(955)]! += 1;
    const expected = (draws * 2) / 955;
    const chiSquared = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 954 degrees of freedom: mean 954, deviation √(2 · 954) = 43.7.
    expect(Math.abs(chiSquared - 954)).toBeLessThan(4 * 43.7);
  });
});
