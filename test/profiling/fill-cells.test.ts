import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bucketWork, compileWork } from '../../src/core/work.js';
import { fillLatencies, fillThroughputs } from '../../src/profiling/fill-cells.js';

const axes = [
  [64, 128, 256],
  [128, 512, 2048],
];

describe('a gap in the throughputs', () => {
  it('between two cells is read from their works, in tokens', () => {
    const { tputs, between, beyond } = fillThroughputs(axes, [
      [4, null, 1],
      [4, 3, 1],
      [4, 3, 1],
    ]);
    // 512 lies a fifth of the way from 128 to 2048: work 1/4 + (3/4)/5 = 0.4 on the row. On the column there is nothing before it.
    expect(tputs[0]![1]).toBeCloseTo(2.5, 12);
    expect({ between, beyond }).toEqual({ between: 1, beyond: 0 });
  });

  it('between neighbours on both axes takes the larger work', () => {
    const { tputs } = fillThroughputs(axes, [
      [4, 2, 1],
      [4, null, 1],
      [4, 1, 1],
    ]);
    // 0.4 on the row as above; on the column 128 lies a third of the way from 64 to 256: 1/2 + (1/2)/3.
    expect(tputs[1]![1]).toBeCloseTo(1.5, 12);
  });

  it('at the end of an axis grows with the tokens, at its beginning is the edge, and both are said to lie beyond', () => {
    const { tputs, between, beyond } = fillThroughputs([[64], [128, 256, 512, 1024]], [[null, 4, 2, null]]);
    expect(tputs).toEqual([[4, 4, 2, 1]]);
    expect({ between, beyond }).toEqual({ between: 0, beyond: 2 });
  });

  it('next to cells that cannot meet the SLO cannot either', () => {
    expect(fillThroughputs([[64], [128, 512, 1024]], [[4, null, 0]]).tputs[0]![1]).toBe(0);
    expect(fillThroughputs([[64], [128, 512, 8192]], [[4, null, 0]]).tputs[0]![1]).toBe(4);
  });

  it('is filled as the optimizer would have read it, so that filling changes no plan', () => {
    const cell = fc.oneof(
      { weight: 3, arbitrary: fc.double({ min: 0.01, max: 50, noNaN: true }) },
      fc.constantFrom(null, 0),
    );
    fc.assert(
      fc.property(fc.array(fc.array(cell, { minLength: 3, maxLength: 3 }), { minLength: 3, maxLength: 3 }), (tputs) => {
        if (tputs.every((row) => row.every((tput) => tput === null))) return;
        const { tputs: filled } = fillThroughputs(axes, tputs);
        const before = compileWork({ indexes: axes, tputs }, null);
        const after = compileWork({ indexes: axes, tputs: filled }, null);
        for (const input of [100, 128, 300, 2048]) {
          for (const output of [64, 90, 200, 256]) {
            const expected = bucketWork(before, input, output);
            const found = bucketWork(after, input, output);
            expect(found.servable).toBe(expected.servable);
            if (expected.servable) expect(found.work / expected.work).toBeCloseTo(1, 9);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a gap in the latencies', () => {
  it('is linear in tokens between neighbours, the mean of both axes, and the nearest at an end', () => {
    expect(
      fillLatencies(axes, [
        [1, 2, 3],
        [2, null, 6],
        [3, 8, null],
      ]),
    ).toEqual([
      [1, 2, 3],
      // 2 + 4/5 on the row, 2 + 6/3 on the column.
      [2, expect.closeTo(3.4, 12), 6],
      [3, 8, 7],
    ]);
  });

  it('is left where nothing is known', () => {
    const nothing = axes[0]!.map(() => [null, null, null]);
    expect(fillLatencies(axes, nothing)).toEqual(nothing);
  });

  it('is reached from wherever something is known', () => {
    const far = axes[0]!.map((_, r) => axes[1]!.map((_, c) => (r === 0 && c === 2 ? 7 : null)));
    expect(fillLatencies(axes, far).flat()).toEqual(Array(9).fill(7));
  });
});
