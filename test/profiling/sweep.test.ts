import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coarseFirstCells, doubling, sweepRuns } from '../../src/profiling/sweep.js';

describe('the doubling sweep', () => {
  it('has the 847 runs of AIBrix by its defaults', () => {
    const axis = doubling(4, 4096);
    expect(axis).toEqual([4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]);
    expect(sweepRuns({ cells: coarseFirstCells(axis, axis), rates: doubling(1, 64) })).toHaveLength(847);
  });

  it.each([
    [4, 100, [4, 8, 16, 32, 64]],
    [3, 3, [3]],
    [1 / 8, 1, [1 / 8, 1 / 4, 1 / 2, 1]],
    [5, 4, []],
    [0, 4, []],
  ])('from %d to %d', (start, limit, points) => {
    expect(doubling(start, limit)).toEqual(points);
  });
});

describe('the order of cells', () => {
  it('begins with the corners, then the middles between them', () => {
    const order = coarseFirstCells([1, 2, 3, 4, 5], [10, 20, 30, 40, 50]);
    const corners = order.slice(0, 4).map(({ inputTokens: i, outputTokens: o }) => `${i}/${o}`);
    expect(new Set(corners)).toEqual(new Set(['1/10', '5/10', '1/50', '5/50']));
    expect(corners[0]).toBe('1/10');
    const second = order.slice(4, 9).map(({ inputTokens: i, outputTokens: o }) => `${i}/${o}`);
    expect(new Set(second)).toEqual(new Set(['3/10', '1/30', '3/30', '5/30', '3/50']));
  });

  it('holds each cell once, and its beginning spans the grid', () => {
    const axis = fc.uniqueArray(fc.integer({ min: 1, max: 1e6 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(axis, axis, (a, b) => {
        const [inputs, outputs] = [a, b].map((values) => values.toSorted((x, y) => x - y)) as [number[], number[]];
        const order = coarseFirstCells(inputs, outputs);
        expect(new Set(order.map(({ inputTokens: i, outputTokens: o }) => `${i} ${o}`)).size).toBe(a.length * b.length);
        const four = order.slice(0, 4);
        expect(Math.max(...four.map(({ inputTokens }) => inputTokens))).toBe(inputs.at(-1));
        expect(Math.max(...four.map(({ outputTokens }) => outputTokens))).toBe(outputs.at(-1));
      }),
    );
  });
});
