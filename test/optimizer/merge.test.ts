import { describe, expect, it } from 'vitest';
import { type MergedBuckets, mergeBuckets, unmerged } from '../../src/optimizer/merge.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';

const none = Number.POSITIVE_INFINITY;

type Raw = Parameters<typeof mergeBuckets>[0];

/** Buckets of a window: works that follow two lengths, with some that are in proportion and some not servable. */
function randomBuckets(random: SeededRandom): Raw {
  const deploymentCount = random.whole(1, 6);
  const bucketCount = random.whole(1, 200);
  const speed = Array.from({ length: deploymentCount }, () => [random.logBetween(0.3, 3), random.logBetween(0.3, 3)]);
  const longest = Array.from({ length: deploymentCount }, () => (random.chance(0.3) ? random.between(0.5, 1) : 1));
  const work = new Float64Array(bucketCount * deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    const [input, output] = [random.next(), random.pick([0.1, 0.5, random.next()])];
    const rate = random.logBetween(1e-3, 1);
    for (let d = 0; d < deploymentCount; d++) {
      const serves = d === 0 || input <= longest[d]!;
      work[b * deploymentCount + d] = serves ? rate * (input * speed[d]![0]! + output * speed[d]![1]!) : none;
    }
  }
  return {
    bucketCount,
    deploymentCount,
    work,
    rate: Float64Array.from({ length: bucketCount }, () => random.logBetween(1e-2, 1e2)),
    price: Float64Array.from({ length: deploymentCount }, () => random.between(0.2, 5)),
    maxBuckets: random.whole(1, 64),
  };
}

function membersOf(raw: Raw, merged: MergedBuckets): number[][] {
  const members: number[][] = Array.from({ length: merged.count }, () => []);
  merged.groupOf.forEach((group, b) => {
    members[group]!.push(b);
  });
  expect(merged.groupOf).toHaveLength(raw.bucketCount);
  return members;
}

function servableSet(raw: Raw, bucket: number): string {
  return Array.from({ length: raw.deploymentCount }, (_, d) =>
    raw.work[bucket * raw.deploymentCount + d] === none ? '0' : '1',
  ).join('');
}

function leastPrice(work: Float64Array, at: number, prices: readonly number[]): number {
  return prices.reduce((least, price, d) => {
    const amount = work[at + d]!;
    return amount === none ? least : Math.min(least, price * amount);
  }, none);
}

describe('merging buckets', () => {
  it('keeps the work on every deployment and the rate, and never joins different sets of deployments', () => {
    const random = seededRandom(1);
    for (let i = 0; i < 150; i++) {
      const raw = randomBuckets(random);
      const merged = mergeBuckets(raw);
      membersOf(raw, merged).forEach((members, m) => {
        expect(members.length).toBeGreaterThan(0);
        expect(new Set(members.map((b) => servableSet(raw, b))).size).toBe(1);
        const rate = members.reduce((sum, b) => sum + raw.rate[b]!, 0);
        expect(Math.abs(merged.rate[m]! - rate)).toBeLessThanOrEqual(1e-12 * rate);
        for (let d = 0; d < raw.deploymentCount; d++) {
          const work = members.reduce((sum, b) => sum + raw.work[b * raw.deploymentCount + d]!, 0);
          const got = merged.work[m * raw.deploymentCount + d]!;
          if (work === none) expect(got).toBe(none);
          else expect(Math.abs(got - work)).toBeLessThanOrEqual(1e-12 * work);
        }
      });
    }
  });

  it('makes as few as asked for, or one for each set of deployments where there are more sets', () => {
    const random = seededRandom(2);
    let squeezed = 0;
    for (let i = 0; i < 150; i++) {
      const raw = randomBuckets(random);
      const merged = mergeBuckets(raw);
      const sets = new Set(Array.from({ length: raw.bucketCount }, (_, b) => servableSet(raw, b))).size;
      expect(merged.count).toBeLessThanOrEqual(Math.max(sets, raw.maxBuckets));
      if (merged.count < raw.bucketCount) squeezed++;
    }
    expect(squeezed).toBeGreaterThan(50);
  });

  it('says how much of the price is kept at least, whatever the prices', () => {
    const random = seededRandom(3);
    let lossy = 0;
    for (let i = 0; i < 150; i++) {
      const raw = randomBuckets(random);
      const merged = mergeBuckets(raw);
      const members = membersOf(raw, merged);
      expect(merged.kept.every((kept) => kept > 0 && kept <= 1)).toBe(true);
      for (let k = 0; k < 20; k++) {
        const prices = Array.from({ length: raw.deploymentCount }, () =>
          random.chance(0.1) ? 0 : random.logBetween(0.05, 20),
        );
        members.forEach((group, m) => {
          const apart = group.reduce((sum, b) => sum + leastPrice(raw.work, b * raw.deploymentCount, prices), 0);
          const together = leastPrice(merged.work, m * raw.deploymentCount, prices);
          expect(together).toBeGreaterThanOrEqual(apart * (1 - 1e-12));
          expect(merged.kept[m]! * together).toBeLessThanOrEqual(apart * (1 + 1e-12) + 1e-300);
          if (together > apart * (1 + 1e-6)) lossy++;
        });
      }
    }
    // Otherwise nothing was tested.
    expect(lossy).toBeGreaterThan(100);
  });

  it('joins buckets in proportion without any loss, also where more would be allowed', () => {
    const random = seededRandom(4);
    const shapes = [
      [1, 2, 3],
      [3, 1, 2],
      [1, none, 5],
    ];
    const bucketCount = 300;
    const work = new Float64Array(bucketCount * 3);
    for (let b = 0; b < bucketCount; b++) {
      const size = random.logBetween(1e-6, 1e6);
      shapes[b % 3]!.forEach((amount, d) => {
        work[b * 3 + d] = size * amount;
      });
    }
    const merged = mergeBuckets({
      bucketCount,
      deploymentCount: 3,
      work,
      rate: new Float64Array(bucketCount).fill(1),
      price: Float64Array.of(1, 1, 1),
      maxBuckets: 256,
    });
    expect(merged.count).toBe(3);
    expect(merged.exact).toBe(true);
    for (const kept of merged.kept) expect(kept).toBeCloseTo(1, 12);
    expect(new Set(Array.from({ length: 30 }, (_, i) => merged.groupOf[i * 3])).size).toBe(1);
  });

  it('parts buckets where they would go different ways, not where all go the same way', () => {
    // Ratios from 0.1 to 10 at a price ratio of 1: half of the buckets are cheaper on either side. A hundred more are far
    // from the edge, where no price near these changes anything.
    const ratios = [
      ...Array.from({ length: 40 }, (_, i) => 0.8 + i * 0.01),
      ...Array.from({ length: 100 }, (_, i) => 20 + i),
    ];
    const merged = mergeBuckets({
      bucketCount: ratios.length,
      deploymentCount: 2,
      work: Float64Array.from(ratios.flatMap((ratio) => [1, ratio])),
      rate: new Float64Array(ratios.length).fill(1),
      price: Float64Array.of(1, 1),
      maxBuckets: 24,
    });
    const edge = new Set(merged.groupOf.subarray(0, 40)).size;
    const far = new Set(merged.groupOf.subarray(40)).size;
    expect(edge).toBeGreaterThan(4);
    expect(far).toBeLessThanOrEqual(2);
    // At the prices themselves nothing is lost.
    const least = (work: Float64Array, count: number): number =>
      Array.from({ length: count }, (_, b) => Math.min(work[b * 2]!, work[b * 2 + 1]!)).reduce((a, b) => a + b, 0);
    const apart = ratios.reduce((sum, ratio) => sum + Math.min(1, ratio), 0);
    expect(least(merged.work, merged.count)).toBeCloseTo(apart, 9);
  });

  it('leaves buckets alone where it is told to', () => {
    const raw = { count: 2, work: Float64Array.of(1, 2, 3, 4), rate: Float64Array.of(5, 6) };
    const merged = unmerged(raw);
    expect(merged.count).toBe(2);
    expect([...merged.groupOf]).toEqual([0, 1]);
    expect(merged.work).toBe(raw.work);
    expect(merged.exact).toBe(true);
  });
});
