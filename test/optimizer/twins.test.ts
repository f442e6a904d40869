import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Program } from '../../src/optimizer/program.js';
import { joinTwins } from '../../src/optimizer/twins.js';

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
});
