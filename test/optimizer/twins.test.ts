import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Program } from '../../src/optimizer/program.js';
import { costsOf } from '../../src/optimizer/program-lp.js';
import { joinTwins } from '../../src/optimizer/twins.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { leastValue, limitedProgram, replicaTable, valueIn } from './replica-table.js';

function program(columns: readonly (readonly number[])[], over: Partial<Program> = {}): Program {
  const bucketCount = columns[0]!.length;
  const count = columns.length;
  const work = new Float64Array(bucketCount * count);
  columns.forEach((column, d) => {
    column.forEach((value, b) => {
      work[b * count + d] = value;
    });
  });
  return {
    bucketCount,
    deploymentCount: count,
    work,
    rate: new Float64Array(bucketCount).fill(1),
    cost: new Float64Array(count).fill(1),
    capacity: new Float64Array(count).fill(1),
    lower: new Float64Array(count),
    upper: new Float64Array(count).fill(10),
    unservedLimit: 0,
    ...over,
  };
}

describe('deployments that differ only in their names', () => {
  it('are solved as one deployment with the sum of their bounds', () => {
    const joined = joinTwins(
      program(
        [
          [1, Number.POSITIVE_INFINITY],
          [2, 1],
          [1, Number.POSITIVE_INFINITY],
        ],
        { lower: Float64Array.of(1, 0, 2), upper: Float64Array.of(3, 9, 4) },
      ),
    );
    expect(joined.program.deploymentCount).toBe(2);
    expect([...joined.program.lower]).toEqual([3, 0]);
    expect([...joined.program.upper]).toEqual([7, 9]);
    expect([...joined.program.work]).toEqual([1, 2, Number.POSITIVE_INFINITY, 1]);
  });

  it('keep the replicas that run, and give the rest by name', () => {
    const joined = joinTwins(program([[1], [1], [1]]));
    expect([...joined.part(Float64Array.of(5), Float64Array.of(0, 3, 1))]).toEqual([1, 3, 1]);
    expect([...joined.part(Float64Array.of(2), Float64Array.of(0, 3, 1))]).toEqual([0, 2, 0]);
    expect([...joined.part(Float64Array.of(12), null)]).toEqual([10, 2, 0]);
  });

  it('are not joined where a price, a target utilisation or any work differs', () => {
    const columns = [
      [1, 2],
      [1, 2],
    ];
    expect(joinTwins(program(columns, { cost: Float64Array.of(1, 2) })).program.deploymentCount).toBe(2);
    expect(joinTwins(program(columns, { capacity: Float64Array.of(1, 0.8) })).program.deploymentCount).toBe(2);
    expect(
      joinTwins(
        program([
          [1, 2],
          [1, 2.0001],
        ]),
      ).program.deploymentCount,
    ).toBe(2);
  });

  it('share out exactly what was decided, within the bounds of each', () => {
    const twin = fc.record({ lower: fc.integer({ min: 0, max: 3 }), more: fc.integer({ min: 0, max: 5 }) });
    fc.assert(
      fc.property(
        fc.array(twin, { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 0, max: 1000 }),
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 5, maxLength: 5 }),
        (twins, pick, current) => {
          const lower = Float64Array.from(twins, (each) => each.lower);
          const upper = Float64Array.from(twins, (each) => each.lower + each.more);
          const joined = joinTwins(
            program(
              twins.map(() => [1]),
              { lower, upper },
            ),
          );
          const [least, most] = [joined.program.lower[0]!, joined.program.upper[0]!];
          const total = least + (pick % (most - least + 1));
          const parted = joined.part(Float64Array.of(total), Float64Array.from(current.slice(0, twins.length)));
          expect(joined.join(parted)[0]).toBe(total);
          parted.forEach((replicas, d) => {
            expect(replicas).toBeGreaterThanOrEqual(lower[d]!);
            expect(replicas).toBeLessThanOrEqual(upper[d]!);
          });
        },
      ),
    );
  });

  it('are not joined where they take different amounts of a limit, or start and stop at other prices', () => {
    const columns = [[1], [1]];
    const count = (over: Partial<Program>): number => joinTwins(program(columns, over)).program.deploymentCount;
    const limit = (...use: number[]) => ({ sharedLimits: [{ use: Float64Array.from(use), limit: 5 }] });
    expect(count(limit(2, 2))).toBe(1);
    expect(count(limit(2, 1))).toBe(2);
    const moving = (over: Partial<NonNullable<Program['switching']>>) => ({
      switching: {
        current: Float64Array.of(1, 4),
        start: Float64Array.of(1, 1),
        stop: Float64Array.of(2, 2),
        ...over,
      },
    });
    expect(count(moving({}))).toBe(1);
    expect(count(moving({ start: Float64Array.of(1, 1.5) }))).toBe(2);
    expect(count(moving({ stop: Float64Array.of(0, 2) }))).toBe(2);
    // What runs of one is not known: moving it is free.
    expect(count(moving({ current: Float64Array.of(Number.NaN, 4) }))).toBe(2);
    expect(count(moving({ current: Float64Array.of(Number.NaN, Number.NaN) }))).toBe(1);
  });

  it('take of limits, and start and stop, as one', () => {
    const { program: joined } = joinTwins(
      program([[1], [2], [1]], {
        sharedLimits: [{ use: Float64Array.of(4, 1, 4), limit: 9 }],
        switching: {
          current: Float64Array.of(3, 1, 2),
          start: Float64Array.of(0.5, 7, 0.5),
          stop: Float64Array.of(0.25, 8, 0.25),
        },
      }),
    );
    expect(joined.sharedLimits).toEqual([{ use: Float64Array.of(4, 1), limit: 9 }]);
    expect(joined.switching).toEqual({
      current: Float64Array.of(5, 1),
      start: Float64Array.of(0.5, 7),
      stop: Float64Array.of(0.25, 8),
    });
  });

  it('cost as one what they cost as several, and start none while they stop another', () => {
    const random = seededRandom(41);
    let joinedCases = 0;
    for (let i = 0; i < 150; i++) {
      const single = limitedProgram(random, { switching: random.chance(0.7), limits: random.whole(0, 2) });
      const copies = Array.from(single.cost, () => random.pick([1, 1, 2]));
      const of = copies.flatMap((count, d) => new Array<number>(count).fill(d));
      const whole = copied(single, of, random);
      const twins = joinTwins(whole);
      expect(twins.program.deploymentCount).toBeLessThanOrEqual(of.length);
      const table = replicaTable(twins.program);
      const costs = costsOf(twins.program);
      const least = leastValue(twins.program, costs, table);
      const wholeTable = replicaTable(whole);
      expect(leastValue(whole, costsOf(whole), wholeTable), `case ${i}`).toBeCloseTo(least, 9);
      if (least === Number.POSITIVE_INFINITY || twins.program.deploymentCount === of.length) continue;
      joinedCases++;
      const best = table.find((entry) => valueIn(twins.program, costs, entry) <= least + 1e-9)!;
      const current = whole.switching?.current.map((count) => (Number.isNaN(count) ? 0 : count)) ?? null;
      const parted = twins.part(Float64Array.from(best.replicas), current);
      const entry = wholeTable.find(({ replicas }) => replicas.every((count, d) => count === parted[d]))!;
      expect(valueIn(whole, costsOf(whole), entry), `case ${i}`).toBeCloseTo(least, 9);
      expect([...twins.join(parted)]).toEqual(best.replicas);
      // Over other buckets they are the same twins.
      expect(twins.joinOver(whole)).toEqual(twins.program);
    }
    expect(joinedCases).toBeGreaterThan(40);
  });
});

/** Some deployments of a program more than once, each time with bounds and replicas of its own. */
function copied(single: Program, of: readonly number[], random: SeededRandom): Program {
  const each = (values: Float64Array): Float64Array => Float64Array.from(of, (d) => values[d]!);
  const lower = Float64Array.from(of, (d) => random.whole(0, single.lower[d]!));
  const upper = lower.map((low) => low + random.whole(1, 2));
  const { switching, sharedLimits } = single;
  return {
    ...single,
    deploymentCount: of.length,
    work: Float64Array.from({ length: single.bucketCount * of.length }, (_, at) => {
      const b = Math.floor(at / of.length);
      return single.work[b * single.deploymentCount + of[at % of.length]!]!;
    }),
    cost: each(single.cost),
    capacity: each(single.capacity),
    lower,
    upper,
    ...(switching === undefined
      ? {}
      : {
          switching: {
            current: Float64Array.from(of, (d, at) =>
              Number.isNaN(switching.current[d]!) ? Number.NaN : random.whole(lower[at]!, upper[at]!),
            ),
            start: each(switching.start),
            stop: each(switching.stop),
          },
        }),
    ...(sharedLimits === undefined
      ? {}
      : { sharedLimits: sharedLimits.map(({ use, limit }) => ({ use: each(use), limit })) }),
  };
}
