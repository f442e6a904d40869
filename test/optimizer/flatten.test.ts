import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { flatten, mostFlattenedPairs } from '../../src/optimizer/flatten.js';
import type { Program } from '../../src/optimizer/program.js';
import { seededRandom } from '../support/seeded-random.js';
import { exactOptimum } from './exact-oracle.js';
import { randomProgram } from './random-program.js';

const none = Number.POSITIVE_INFINITY;

/** One bucket on one deployment. */
const single = (overrides: Partial<Program> = {}): Program => ({
  bucketCount: 1,
  deploymentCount: 1,
  work: Float64Array.of(1.5),
  rate: Float64Array.of(4),
  cost: Float64Array.of(2),
  capacity: Float64Array.of(1),
  lower: Float64Array.of(0),
  upper: Float64Array.of(9),
  unservedLimit: 0,
  ...overrides,
});

const wide: Program = {
  bucketCount: 2,
  deploymentCount: 3,
  work: Float64Array.of(1, 2, 3, 4, 5, none),
  rate: Float64Array.of(6, 7),
  cost: Float64Array.of(1, 2, 3),
  capacity: Float64Array.of(1, 0.9, 0.8),
  lower: Float64Array.of(0, 1, 0),
  upper: Float64Array.of(5, 6, 7),
  unservedLimit: 0,
};

describe('programs joined into one', () => {
  test('stand one after the other, with no work on deployments of others', () => {
    const { program, offsets } = flatten([single(), wide, single()]);
    expect(offsets).toEqual([
      { bucket: 0, deployment: 0 },
      { bucket: 1, deployment: 1 },
      { bucket: 3, deployment: 4 },
    ]);
    expect(program).toEqual({
      bucketCount: 4,
      deploymentCount: 5,
      work: Float64Array.from(
        [
          [1.5, none, none, none, none],
          [none, 1, 2, 3, none],
          [none, 4, 5, none, none],
          [none, none, none, none, 1.5],
        ].flat(),
      ),
      rate: Float64Array.of(4, 6, 7, 4),
      cost: Float64Array.of(2, 1, 2, 3, 2),
      capacity: Float64Array.of(1, 1, 0.9, 0.8, 1),
      lower: Float64Array.of(0, 0, 1, 0, 0),
      upper: Float64Array.of(9, 5, 6, 7, 9),
      unservedLimit: 0,
    });
  });

  test('keep their own limits on unserved demand, and one limit for all that must be served', () => {
    const { program } = flatten([
      single({ unservedLimit: 2.5 }),
      wide,
      single({ unservedLimit: none, unservedLimits: [{ weight: Float64Array.of(3), limit: 1 }] }),
      single(),
    ]);
    expect(program.unservedLimit).toBe(none);
    expect(program.unservedLimits).toEqual([
      { weight: Float64Array.of(4, 0, 0, 0, 0), limit: 2.5 },
      { weight: Float64Array.of(0, 0, 0, 3, 0), limit: 1 },
      { weight: Float64Array.of(0, 1, 1, 0, 1), limit: 0 },
    ]);
  });

  test('keep prices and switching, free where a part has none', () => {
    const switching = { current: Float64Array.of(3), start: Float64Array.of(0.5), stop: Float64Array.of(0.25) };
    const { program } = flatten([
      single({ switching }),
      single({ unservedLimit: none, unservedPrice: Float64Array.of(8) }),
    ]);
    expect(program.unservedPrice).toEqual(Float64Array.of(0, 8));
    expect(program.switching).toEqual({
      current: Float64Array.of(3, Number.NaN),
      start: Float64Array.of(0.5, 0),
      stop: Float64Array.of(0.25, 0),
    });
  });

  test('keep what they share with others, and what their own replicas share', () => {
    const pool = { use: Float64Array.of(1, 2, 4, 8), limit: 16 };
    const own = { use: Float64Array.of(1, 1, 1), limit: 3 };
    const { program } = flatten([single(), { ...wide, sharedLimits: [own] }], [pool]);
    expect(program.sharedLimits).toEqual([pool, { use: Float64Array.of(0, 1, 1, 1), limit: 3 }]);
  });

  test('cost together what they cost alone where they share nothing', () => {
    let compared = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const random = seededRandom(seed);
      const parts = [1, 2].map(() => {
        const part = randomProgram(random, { buckets: 2, deployments: 2, most: 3 });
        return random.chance(0.5) ? part : { ...part, unservedLimit: random.between(0.1, 1) };
      });
      const alone = parts.map(exactOptimum);
      const together = exactOptimum(flatten(parts).program);
      if (alone.includes('infeasible')) {
        expect(together).toBe('infeasible');
        continue;
      }
      compared++;
      const sum = alone.reduce((total, it) => total + (it === 'infeasible' ? 0 : it.cost), 0);
      expect(together).toMatchObject({ cost: expect.closeTo(sum, 9) as number });
    }
    expect(compared).toBeGreaterThan(20);
  });

  test('leave their parts as they were', () => {
    const parts = [single({ unservedLimit: 1, unservedPrice: Float64Array.of(8) }), wide];
    const before = structuredClone(parts);
    const { program } = flatten(parts);
    program.work.fill(0);
    expect(parts).toEqual(before);
  });

  test('of no parts are an empty program', () => {
    expect(flatten([]).program).toMatchObject({ bucketCount: 0, deploymentCount: 0, unservedLimit: 0 });
  });

  test('are refused before memory runs out, with their size', () => {
    const side = Math.ceil(Math.sqrt(mostFlattenedPairs / 4));
    const large = {
      ...single(),
      bucketCount: side,
      deploymentCount: side,
      work: new Float64Array(0),
      rate: new Float64Array(side),
    };
    const joined = () => flatten([large, large, large]);
    expect(joined).toThrow(InputError);
    expect(joined).toThrow(/models.*3 models.*4347 buckets × 4347 deployments.*at most 8388608/s);
  });

  test('refuse a shared limit that does not name a use for every deployment', () => {
    expect(() => flatten([single(), wide], [{ use: new Float64Array(3), limit: 1 }])).toThrow(
      '3 uses for 4 deployments',
    );
  });
});
