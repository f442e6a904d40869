import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { climb, type Summit } from '../../src/placement/exact/price-ascent.js';

/**
 * Machines that are all alike, each takes up to so many jobs. Serving job i costs wᵢ wherever it is done, so that the least
 * that all of them cost is Σ wᵢ where they fit, and that is the highest value of the dual, which this is:
 * Σ pᵢ − machines · max over sets S of up to `seats` jobs of Σ (pᵢ − wᵢ).
 */
type Jobs = { readonly costs: readonly number[]; readonly machines: number; readonly seats: number };

function dualOf({ costs, machines, seats }: Jobs, prices: Float64Array): { value: number; slope: Float64Array } {
  const slope = new Float64Array(costs.length).fill(1);
  let value = prices.reduce((sum, price) => sum + price, 0);
  const wanted = costs
    .map((cost, i) => ({ i, gain: prices[i]! - cost }))
    .filter(({ gain }) => gain > 0)
    .sort((a, b) => b.gain - a.gain)
    .slice(0, seats);
  for (const { i, gain } of wanted) {
    value -= machines * gain;
    slope[i]! -= machines;
  }
  return { value, slope };
}

function summitOf(jobs: Jobs, steps: number, most = 1e3): Summit {
  const slope = new Float64Array(jobs.costs.length);
  const places = jobs.costs.map((_, i) => i);
  return climb(new Float64Array(jobs.costs.length), {
    valueAt: (prices) => {
      const dual = dualOf(jobs, prices);
      slope.set(dual.slope);
      return dual.value;
    },
    slope,
    places,
    most: places.map(() => most),
    target: 1.05 * sumOf(jobs.costs),
    steps,
    shouldStop: () => false,
    mayGiveUp: false,
  });
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** Fewer jobs than there are seats. */
const anyJobs = fc
  .record({
    machines: fc.integer({ min: 4, max: 20 }),
    seats: fc.integer({ min: 1, max: 5 }),
    share: fc.double({ min: 0.1, max: 0.9, noNaN: true }),
  })
  .chain(({ machines, seats, share }) =>
    fc.record({
      machines: fc.constant(machines),
      seats: fc.constant(seats),
      costs: fc.array(fc.double({ min: 0.1, max: 5, noNaN: true }), {
        minLength: 1,
        maxLength: Math.max(1, Math.floor(share * machines * seats)),
      }),
    }),
  );

describe('prices that climb', () => {
  it('never find more than all jobs cost, and their best is the value of its prices, which are within their bounds', () => {
    fc.assert(
      fc.property(
        anyJobs,
        fc.integer({ min: 1, max: 400 }),
        fc.double({ min: 0.5, max: 5, noNaN: true }),
        (jobs, steps, most) => {
          const { best, bestPrices } = summitOf(jobs, steps, most);
          expect(best).toBeLessThanOrEqual(sumOf(jobs.costs) * (1 + 1e-9));
          expect(Math.max(0, dualOf(jobs, bestPrices).value)).toBeCloseTo(best, 9);
          expect(bestPrices.every((price) => price >= 0 && price <= most)).toBe(true);
        },
      ),
    );
  });

  it.each([100, 600])('come within a tenth of what all jobs cost in %d steps, where machines are alike', (steps) => {
    fc.assert(
      fc.property(anyJobs, (jobs) => {
        expect(summitOf(jobs, steps).best).toBeGreaterThan(0.9 * sumOf(jobs.costs));
      }),
    );
  });

  it('end where they are called off, with what was found, and where no slope leads anywhere', () => {
    const level = {
      slope: Float64Array.of(0, 0),
      places: [0, 1],
      most: [9, 9],
      target: 10,
      steps: 600,
      mayGiveUp: false,
    };
    let asked = 0;
    const valueAt = () => {
      asked += 1;
      return 3;
    };
    expect(climb(Float64Array.of(1, 2), { ...level, valueAt, shouldStop: () => false })).toMatchObject({
      best: 3,
      bestPrices: Float64Array.of(1, 2),
    });
    expect(asked).toBe(1);
    const rising = { ...level, slope: Float64Array.of(1, 1), valueAt };
    expect(climb(Float64Array.of(1, 2), { ...rising, shouldStop: () => asked === 6 }).best).toBe(3);
    expect(asked).toBe(6);
  });
});
