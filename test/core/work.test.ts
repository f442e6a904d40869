import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ProfileGrid } from '../../src/core/profile.js';
import { tokensOfBucketIndex } from '../../src/core/token-bucket.js';
import { bestEffortWork, bucketWork, compileWork } from '../../src/core/work.js';

/** Throughputs of a row of input token counts at one output token count. */
function row(inputs: readonly number[], tputs: readonly (number | null)[]): ProfileGrid {
  return { indexes: [[64], inputs], tputs: [tputs] };
}

function workAt(grid: ProfileGrid, input: number, output: number, maxTokens: number | null = null) {
  return bucketWork(compileWork(grid, maxTokens), input, output);
}

function bestEffortAt(grid: ProfileGrid, input: number, output: number, maxTokens: number | null = null) {
  return bestEffortWork(compileWork(grid, maxTokens), input, output);
}

const notServable = { work: Number.POSITIVE_INFINITY, servable: false, extrapolated: false };

/** Throughputs 4, 2 | 2, 1: works 0.25, 0.5 | 0.5, 1. */
const square: ProfileGrid = {
  indexes: [
    [64, 128],
    [256, 1024],
  ],
  tputs: [
    [4, 2],
    [2, 1],
  ],
};

describe('work at and inside the grid', () => {
  test('is one over the throughput at a grid point', () => {
    expect(workAt(square, 256, 64)).toEqual({ work: 0.25, servable: true, extrapolated: false });
    expect(workAt(square, 1024, 64)).toEqual({ work: 0.5, servable: true, extrapolated: false });
    expect(workAt(square, 256, 128)).toEqual({ work: 0.5, servable: true, extrapolated: false });
    expect(workAt(square, 1024, 128)).toEqual({ work: 1, servable: true, extrapolated: false });
  });

  test('rows are output tokens, columns are input tokens', () => {
    const grid: ProfileGrid = { indexes: [[1, 2, 4], [8]], tputs: [[8], [4], [1]] };
    expect(workAt(grid, 8, 1).work).toBe(1 / 8);
    expect(workAt(grid, 8, 4).work).toBe(1);
  });

  test('is linear in tokens, not in their logarithm: 640 is the middle of 256 and 1024', () => {
    expect(workAt(square, 640, 64).work).toBeCloseTo((0.25 + 0.5) / 2, 12);
    // A quarter of the way on the input axis: 256 + 768/4 tokens.
    expect(workAt(square, 448, 64).work).toBeCloseTo(0.25 + 0.25 * 0.25, 12);
  });

  test('is that of requests whose prompts and answers take their time token by token, anywhere in a cell', () => {
    // 1 s a request, 1 ms a prompt token, 20 ms an answer token, 0.01 ms for each answer token to read each prompt token.
    const seconds = (input: number, output: number) => 1 + 0.001 * input + 0.02 * output + 0.00001 * input * output;
    const indexes = [
      [16, 256],
      [128, 8192],
    ];
    const [outputs, inputs] = indexes as [number[], number[]];
    const tputs = outputs.map((output) => inputs.map((input) => 1 / seconds(input, output)));
    for (const [input, output] of [
      [128, 100],
      [400, 16],
      [1024, 64],
      [3000, 200],
      [8000, 255],
    ] as const) {
      expect(workAt({ indexes, tputs }, input, output).work).toBeCloseTo(seconds(input, output), 10);
    }
  });

  test('is bilinear: works are averaged, not throughputs', () => {
    // The middle of the cell: (0.25 + 0.5 + 0.5 + 1) / 4. The mean of the throughputs would give 1 / 2.25.
    expect(workAt(square, 640, 96).work).toBeCloseTo(0.5625, 12);
  });

  test('a gateway index i at precision 10 means 2^(i/10) tokens', () => {
    // Index 90 is 512 tokens, a third of the way from 256 to 1024; index 60 is 64.
    expect(workAt(square, tokensOfBucketIndex(90, 10), tokensOfBucketIndex(60, 10)).work).toBeCloseTo(1 / 3, 12);
  });

  test('below the grid it is that of the edge, and not called extrapolated', () => {
    expect(workAt(square, 1, 1)).toEqual({ work: 0.25, servable: true, extrapolated: false });
    expect(workAt(square, 640, 3).work).toBeCloseTo(0.375, 12);
    expect(workAt(square, 0, 0).work).toBe(0.25);
  });

  test('an axis that begins with 0 tokens takes 0 for 1 and keeps both of its points', () => {
    const grid = row([0, 1, 4], [10, 5, 2]);
    expect(workAt(grid, 0, 64).work).toBe(0.1);
    expect(workAt(grid, 1, 64).work).toBe(0.2);
    expect(workAt(grid, 2, 64).work).toBeCloseTo(0.2 + 0.3 / 3, 12);
    // From 0 to 4 tokens is from 1 to 4.
    expect(workAt(row([0, 4], [10, 2]), 2, 64).work).toBeCloseTo(0.1 + 0.4 / 3, 12);
    expect(workAt(row([0], [10]), 1, 64)).toEqual({ work: 0.1, servable: true, extrapolated: false });
    expect(workAt(row([0], [10]), 8, 64)).toEqual({ work: 0.8, servable: true, extrapolated: true });
  });
});

describe('what cannot be served', () => {
  /** Only 1024 : 128 is beyond the SLO. */
  const corner: ProfileGrid = {
    ...square,
    tputs: [
      [4, 2],
      [2, 0],
    ],
  };

  test('a grid point of throughput 0 is not servable', () => {
    expect(workAt(corner, 1024, 128)).toEqual(notServable);
  });

  test('a bucket takes the verdict of its nearest corner, by doublings: 512 is as far from 256 as from 1024', () => {
    expect(workAt(corner, 600, 100).servable).toBe(false);
    expect(workAt(corner, 500, 100).servable).toBe(true);
    expect(workAt(corner, 600, 90).servable).toBe(true);
    expect(workAt(corner, 600, 91).servable).toBe(false);
    // In tokens 550 is nearer to 256, and 94 to 64.
    expect(workAt(corner, 550, 94).servable).toBe(false);
  });

  test('exactly between a servable and an unservable corner it is not servable', () => {
    expect(workAt(corner, 512, 128).servable).toBe(false);
    expect(workAt(corner, 1024, 64 * Math.SQRT2).servable).toBe(false);
    expect(workAt(corner, 512, 64 * Math.SQRT2).servable).toBe(false);
    expect(workAt(corner, 512, 64).servable).toBe(true);
  });

  test('the tie is one also for lengths that have no exact logarithm', () => {
    const grid = row([100, 1000], [4, 0]);
    expect(workAt(grid, Math.sqrt(100 * 1000), 64).servable).toBe(false);
    expect(workAt(grid, Math.sqrt(100 * 1000) * 0.999, 64).servable).toBe(true);
  });

  test('an unservable corner of a servable bucket counts as the largest work among the servable ones', () => {
    // Corners 0.25, 0.5 | 0.5, (0.5): a quarter of the way on both axes.
    const expected = 0.75 * 0.75 * 0.25 + (0.75 * 0.25 + 0.25 * 0.75 + 0.25 * 0.25) * 0.5;
    expect(workAt(corner, 448, 80).work).toBeCloseTo(expected, 12);
    // On the edge between 256 and the unservable corner, 0.5 is the only servable work.
    expect(workAt(corner, 300, 128).work).toBe(0.5);
  });

  test('below an unservable edge is not servable', () => {
    expect(workAt(row([256, 1024], [0, 2]), 1, 64)).toEqual(notServable);
  });

  test('beyond an unservable end of the grid is not servable', () => {
    expect(workAt(row([256, 1024], [2, 0]), 2048, 64)).toEqual(notServable);
    expect(workAt(corner, 4096, 128)).toEqual(notServable);
    expect(workAt(corner, 1024, 512)).toEqual(notServable);
    expect(workAt(corner, 4096, 512)).toEqual(notServable);
  });

  test('input and output together may reach maxTokens, and not exceed it', () => {
    expect(workAt(square, 256, 64, 320).servable).toBe(true);
    expect(workAt(square, 256, 64, 319)).toEqual(notServable);
    expect(workAt(square, 1e9, 64, 32_768)).toEqual(notServable);
  });
});

describe('work beyond the grid', () => {
  test('is the line through the last two points in tokens where that is larger than the proportion', () => {
    // Works 0.1, 0.5 at 256, 512. The line: 0.5 + 0.4/256 · 512 = 1.3; the proportion: 0.5 · 1024/512 = 1.
    expect(workAt(row([256, 512], [10, 2]), 1024, 64)).toEqual({
      work: expect.closeTo(1.3, 12),
      servable: true,
      extrapolated: true,
    });
  });

  test('is in proportion to tokens where that is larger than the line', () => {
    // Works 0.4, 0.5: the line gives 0.5 + 0.1/256 · 512 = 0.7, the proportion 1.
    expect(workAt(row([256, 512], [2.5, 2]), 1024, 64).work).toBeCloseTo(1, 12);
  });

  test('is in proportion where the last point but one cannot be served', () => {
    // With 0.1 at 128 two points back, a line would give something else than 0.5 · 1024/512.
    expect(workAt(row([128, 256, 512], [10, 0, 2]), 1024, 64).work).toBeCloseTo(1, 12);
  });

  test('is in proportion on an axis of one point, and the edge below it', () => {
    expect(workAt(row([256], [4]), 1024, 64)).toEqual({ work: 1, servable: true, extrapolated: true });
    expect(workAt(row([256], [4]), 16, 64)).toEqual({ work: 0.25, servable: true, extrapolated: false });
    expect(workAt(row([256], [4]), 256, 640)).toEqual({ work: 2.5, servable: true, extrapolated: true });
    expect(workAt(row([256], [4]), 512, 640).work).toBeCloseTo(0.25 * 2 * 10, 12);
  });

  test('on the output axis follows the same rule', () => {
    // Works 0.1, 0.5 at 64, 128 output tokens; at 256: 0.5 + 0.4/64 · 128 = 1.3.
    expect(workAt({ indexes: [[64, 128], [256]], tputs: [[10], [2]] }, 256, 256).work).toBeCloseTo(1.3, 12);
  });

  test('takes the input axis first, on each row, then the output axis', () => {
    // At 2048 input tokens, row 64: line 0.5 + 0.25/768 · 1024 = 0.8333, proportion 1 → 1. Row 128: 1 · 2 → 2.
    // At 256 output tokens: line 2 + (2 − 1)/64 · 128 = 4, proportion 4.
    expect(workAt(square, 2048, 256).work).toBeCloseTo(4, 12);
    const steep: ProfileGrid = {
      ...square,
      tputs: [
        [10, 2],
        [5, 1],
      ],
    };
    // Row 64: 0.5 + 0.4/768 · 1024 = 1.03333. Row 128: 1 + 0.8/768 · 1024 = 2.06667. Beyond: 2.06667 + 1.03333 · 2.
    expect(workAt(steep, 2048, 256).work).toBeCloseTo(2.066_666_667 + 2 * 1.033_333_333, 8);
  });

  test('between two rows or columns is linear in tokens', () => {
    // Rows at 2048 input tokens: 0.5 · 2 and 1 · 2.
    expect(workAt(square, 2048, 96)).toEqual({ work: expect.closeTo(1.5, 12), servable: true, extrapolated: true });
    // Columns at 256 output tokens: 0.5 · 2 and 1 · 2.
    expect(workAt(square, 640, 256)).toEqual({ work: expect.closeTo(1.5, 12), servable: true, extrapolated: true });
  });

  test('takes the verdict of the nearer row, and its work where the farther one cannot be served', () => {
    const grid: ProfileGrid = {
      ...square,
      tputs: [
        [4, 2],
        [2, 0],
      ],
    };
    expect(workAt(grid, 2048, 80)).toEqual({ work: 1, servable: true, extrapolated: true });
    expect(workAt(grid, 2048, 64 * Math.SQRT2)).toEqual(notServable);
    expect(workAt(grid, 2048, 100)).toEqual(notServable);
  });
});

describe('cells that were not profiled', () => {
  test('lie between their neighbours in tokens', () => {
    expect(workAt(row([256, 512, 1024], [4, null, 1]), 512, 64).work).toBeCloseTo(0.25 + 0.75 / 3, 12);
    expect(workAt({ indexes: [[64, 128, 512], [256]], tputs: [[4], [null], [1]] }, 256, 128).work).toBeCloseTo(
      0.25 + 0.75 / 7,
      12,
    );
  });

  test('between two others change nothing: what lies around them is read as if the axis had no such point', () => {
    const without = row([256, 1024], [4, 1]);
    for (const tokens of [300, 511, 512, 700, 1000]) {
      const filled = workAt(row([256, 512, 1024], [4, null, 1]), tokens, 64).work;
      expect(filled).toBeCloseTo(workAt(without, tokens, 64).work, 12);
    }
  });

  test('two in a row lie on one line', () => {
    const grid = row([128, 256, 512, 1024], [10, null, null, 1]);
    // 128 and 384 of the 896 tokens on.
    expect(workAt(grid, 256, 64).work).toBeCloseTo(0.1 + 0.9 / 7, 12);
    expect(workAt(grid, 512, 64).work).toBeCloseTo(0.1 + 0.9 * (3 / 7), 12);
  });

  test('take the larger work where row and column disagree', () => {
    const grid: ProfileGrid = {
      indexes: [
        [64, 128, 256],
        [256, 512, 1024],
      ],
      tputs: [
        [8, 4, 2],
        [4, null, 1],
        [2, 1, 0.5],
      ],
    };
    // A third of the way along the row and along the column: 0.25 + 0.75/3; with a heavier column the column's.
    expect(workAt(grid, 512, 128).work).toBeCloseTo(0.5, 12);
    const heavier = { ...grid, tputs: [grid.tputs[0]!, grid.tputs[1]!, [2, 0.5, 0.5]] };
    expect(workAt(heavier, 512, 128).work).toBeCloseTo(0.25 + 1.75 / 3, 12);
  });

  test('take the verdict of the neighbour nearer by doublings, ties to not servable', () => {
    expect(workAt(row([256, 512, 1024], [4, null, 0]), 512, 64).servable).toBe(false);
    expect(workAt(row([256, 512, 2048], [4, null, 0]), 512, 64)).toMatchObject({ servable: true, work: 0.25 });
    expect(workAt(row([256, 1024, 2048], [4, null, 0]), 1024, 64).servable).toBe(false);
  });

  test('at the start of an axis are the edge', () => {
    expect(workAt(row([128, 256, 512], [null, 4, 2]), 128, 64).work).toBe(0.25);
  });

  test('at the end of an axis grow as if the grid ended before them', () => {
    const grid = row([128, 256, 512, 1024], [10, 2.5, null, null]);
    const shorter = row([128, 256], [10, 2.5]);
    for (const tokens of [300, 512, 700, 1024, 5000]) {
      // A line between points of a line.
      expect(workAt(grid, tokens, 64).work).toBeCloseTo(workAt(shorter, tokens, 64).work, 12);
    }
    expect(workAt(row([128, 256], [4, null]), 512, 64).work).toBeCloseTo(1, 12);
  });

  test('are no point to draw a line through: beyond one next to the end, growth is in proportion', () => {
    // The filled 256 would be 0.1 + 0.4/3, and a line through it 0.5 + 0.2667/256 · 512 = 1.033.
    expect(workAt(row([128, 256, 512], [10, null, 2]), 1024, 64).work).toBeCloseTo(1, 12);
    // Likewise 2.2 instead of 2.
    expect(workAt(row([128, 400, 512], [10, null, 1]), 1024, 64).work).toBeCloseTo(2, 12);
    expect(workAt({ indexes: [[128, 400, 512], [256]], tputs: [[10], [null], [1]] }, 256, 1024).work).toBeCloseTo(
      2,
      12,
    );
  });

  test('a whole row and column without a number are filled from their neighbours', () => {
    const grid: ProfileGrid = {
      indexes: [
        [64, 128, 256],
        [256, 512, 1024],
      ],
      tputs: [
        [4, null, 2],
        [null, null, null],
        [2, null, 1],
      ],
    };
    // The corners are filled first, a third of the way on each axis: 0.25 + 0.25/3 twice, 0.5 + 0.5/3 twice. Then the middle.
    expect(workAt(grid, 512, 128).work).toBeCloseTo(0.25 * (4 / 3) ** 2, 12);
  });

  test('without any number nothing can be served', () => {
    expect(workAt(row([128, 256], [null, null]), 128, 64)).toEqual(notServable);
    expect(bestEffortAt(row([128, 256], [null, null]), 128, 64)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('best effort', () => {
  /** Servable up to 512 input tokens. */
  const grid: ProfileGrid = {
    indexes: [
      [64, 256],
      [256, 512, 1024],
    ],
    tputs: [
      [8, 4, 0],
      [2, 0, 0],
    ],
  };

  test('takes the work of the nearest servable cell, grown in proportion on each axis', () => {
    // Nearest to 1024:64 is 512:64 (0.25), twice as long.
    expect(bestEffortAt(grid, 1024, 64)).toBeCloseTo(0.5, 12);
    // Nearest to 4096:256 are 256:256 and 512:64 at 4 and √13 doublings: 0.25 · 8 · 4.
    expect(bestEffortAt(grid, 4096, 256)).toBeCloseTo(8, 12);
  });

  test('never shrinks a work: shorter than the nearest cell counts as that cell', () => {
    expect(bestEffortAt(row([256, 1024], [0, 4]), 16, 1)).toBe(0.25);
  });

  test('takes the larger work of two cells equally near', () => {
    expect(bestEffortAt(row([256, 512, 1024], [8, 0, 2]), 512, 64)).toBe(0.5);
    expect(bestEffortAt(row([256, 512, 1024], [2, 0, 8]), 512, 64)).toBe(1);
  });

  test('needs one servable cell, and does not go beyond maxTokens', () => {
    expect(bestEffortAt(row([256, 512], [0, 0]), 256, 64)).toBe(Number.POSITIVE_INFINITY);
    expect(bestEffortAt(grid, 1024, 64, 1088)).toBeCloseTo(0.5, 12);
    expect(bestEffortAt(grid, 1024, 64, 1087)).toBe(Number.POSITIVE_INFINITY);
  });
});

/** The rules once more, by enumeration and recursion over plain tables, without a shared line of code. */
function naiveWork(grid: ProfileGrid, input: number, output: number): number {
  const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
  const works = grid.tputs.map((tputs) => tputs.map((tput) => 1 / tput!));
  /** Points beside a token count with their weights: the nearer in tokens weighs more. */
  const bracket = (axis: readonly number[], tokens: number): readonly (readonly [number, number])[] => {
    if (tokens <= axis[0]!) return [[0, 1]];
    if (tokens >= axis.at(-1)!) return [[axis.length - 1, 1]];
    const above = axis.findIndex((point) => point > tokens);
    const [t1, t2] = [axis[above - 1]!, axis[above]!];
    return tokens === t1
      ? [[above - 1, 1]]
      : [
          [above - 1, (t2 - tokens) / (t2 - t1)],
          [above, (tokens - t1) / (t2 - t1)],
        ];
  };
  /** Doublings from a token count to a point; at or outside an end of the axis there is only that point. */
  const doublings = (axis: readonly number[], point: number, tokens: number): number =>
    tokens <= axis[0]! || tokens >= axis.at(-1)! ? 0 : Math.abs(Math.log2(tokens / axis[point]!));
  const isBeyond = (axis: readonly number[], tokens: number) => tokens > axis.at(-1)!;
  const grow = (axis: readonly number[], values: readonly number[], tokens: number): number => {
    const [t1, t2] = [axis.at(-2), axis.at(-1)!];
    const [w1, w2] = [values.at(-2), values.at(-1)!];
    const inProportion = w2 * (tokens / t2);
    if (t1 === undefined || w1 === undefined || w1 === Infinity || w2 === Infinity) return inProportion;
    return Math.max(inProportion, w1 + ((w2 - w1) * (tokens - t1)) / (t2 - t1));
  };
  const nearest = (corners: readonly { weight: number; far: number; work: number }[]): number => {
    const least = Math.min(...corners.map(({ far }) => far));
    if (corners.some(({ far, work }) => far < least + 1e-9 && work === Infinity)) return Infinity;
    const largest = Math.max(...corners.map(({ work }) => (work === Infinity ? 0 : work)));
    return corners.reduce((sum, { weight, work }) => sum + weight * (work === Infinity ? largest : work), 0);
  };
  const alongRow = (r: number): number =>
    isBeyond(inputs, input)
      ? grow(inputs, works[r]!, input)
      : nearest(
          bracket(inputs, input).map(([c, weight]) => ({
            weight,
            far: doublings(inputs, c, input) ** 2,
            work: works[r]![c]!,
          })),
        );
  if (isBeyond(outputs, output)) {
    const lastRow = alongRow(outputs.length - 1);
    if (lastRow === Infinity) return Infinity;
    // The row before the last is only asked for its work: there the verdict does not matter.
    const before =
      outputs.length < 2
        ? []
        : isBeyond(inputs, input)
          ? [alongRow(outputs.length - 2)]
          : [servableMean(works.at(-2)!, bracket(inputs, input))];
    return grow(outputs, [...before, lastRow], output);
  }
  if (isBeyond(inputs, input)) {
    return nearest(
      bracket(outputs, output).map(([r, weight]) => ({
        weight,
        far: doublings(outputs, r, output) ** 2,
        work: alongRow(r),
      })),
    );
  }
  const corners = bracket(outputs, output).flatMap(([r, rowWeight]) =>
    bracket(inputs, input).map(([c, columnWeight]) => ({
      weight: rowWeight * columnWeight,
      far: doublings(outputs, r, output) ** 2 + doublings(inputs, c, input) ** 2,
      work: works[r]![c]!,
    })),
  );
  return nearest(corners);
}

function servableMean(works: readonly number[], parts: readonly (readonly [number, number])[]): number {
  const servable = parts.filter(([c]) => works[c] !== Infinity);
  const largest = Math.max(0, ...servable.map(([c]) => works[c]!));
  if (servable.length === 0) return Infinity;
  return parts.reduce((sum, [c, weight]) => sum + weight * (works[c] === Infinity ? largest : works[c]!), 0);
}

const axis = fc
  .uniqueArray(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 5 })
  .map((points) => points.toSorted((a, b) => a - b));
const throughput = fc.double({ min: 0.01, max: 50, noNaN: true });
const share = fc.double({ min: 0, max: 1, noNaN: true });

function grids(cell: fc.Arbitrary<number | null>): fc.Arbitrary<ProfileGrid> {
  return fc.tuple(axis, axis).chain(([outputs, inputs]) =>
    fc
      .array(fc.array(cell, { minLength: inputs.length, maxLength: inputs.length }), {
        minLength: outputs.length,
        maxLength: outputs.length,
      })
      .map((tputs): ProfileGrid => ({ indexes: [outputs, inputs], tputs })),
  );
}

const servableGrids = grids(throughput);
const mixedGrids = grids(fc.oneof({ weight: 3, arbitrary: throughput }, { weight: 1, arbitrary: fc.constant(0) }));
const anyGrids = grids(
  fc.oneof(
    { weight: 3, arbitrary: throughput },
    { weight: 1, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constant(null) },
  ),
);
const tokens = fc.oneof(
  fc.integer({ min: 0, max: 20_000 }),
  fc.integer({ min: 0, max: 150 }).map((index) => 2 ** (index / 10)),
  fc.constantFrom(0, 1, 1e12),
);

/** Throughputs that fall along both axes. */
const monotoneGrids = servableGrids.map((grid): ProfileGrid => {
  const works = grid.tputs.map((tputs) => tputs.map((tput) => 1 / tput!));
  for (let r = 0; r < works.length; r++) {
    for (let c = 0; c < works[r]!.length; c++) {
      works[r]![c] = works[r]![c]! + Math.max(works[r - 1]?.[c] ?? 0, works[r]![c - 1] ?? 0);
    }
  }
  return { ...grid, tputs: works.map((line) => line.map((work) => 1 / work)) };
});

describe('work, for any profile', () => {
  test('agrees with a second, independent reading of the rules', () => {
    fc.assert(
      fc.property(mixedGrids, tokens, tokens, (grid, input, output) => {
        const expected = naiveWork(grid, input, output);
        const { work, servable } = workAt(grid, input, output);
        // Ties are ties only to rounding, where the two need not agree.
        const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
        fc.pre(!nearMiddle(inputs, input) && !nearMiddle(outputs, output));
        expect(servable).toBe(expected < Number.POSITIVE_INFINITY);
        if (servable) expect(Math.abs(work - expected)).toBeLessThanOrEqual(1e-9 * expected);
      }),
      { numRuns: 3000 },
    );
  });

  test('is exact at grid points', () => {
    fc.assert(
      fc.property(mixedGrids, (grid) => {
        const table = compileWork(grid, null);
        grid.tputs.forEach((tputs, r) => {
          tputs.forEach((tput, c) => {
            const answer = bucketWork(table, grid.indexes[1]![c]!, grid.indexes[0]![r]!);
            expect(answer).toEqual({ work: 1 / tput!, servable: tput !== 0, extrapolated: false });
          });
        });
      }),
    );
  });

  test('is a number >= 0 or not servable, never NaN, and extrapolated exactly beyond the grid', () => {
    fc.assert(
      fc.property(anyGrids, tokens, tokens, (grid, input, output) => {
        const { work, servable, extrapolated } = workAt(grid, input, output);
        expect(work > 0).toBe(true);
        expect(Number.isFinite(work)).toBe(servable);
        const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
        expect(extrapolated).toBe(servable && (input > inputs.at(-1)! || output > outputs.at(-1)!));
        expect(bestEffortAt(grid, input, output)).toBeGreaterThan(0);
      }),
      { numRuns: 2000 },
    );
  });

  test('lies between the smallest and the largest corner of its cell', () => {
    fc.assert(
      fc.property(servableGrids, share, share, (grid, u, v) => {
        const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
        const [c, r] = [inputs.length > 1 ? 1 : 0, outputs.length > 1 ? 1 : 0];
        const input = inputs[0]! * (inputs[c]! / inputs[0]!) ** u;
        const output = outputs[0]! * (outputs[r]! / outputs[0]!) ** v;
        const corners = [grid.tputs[0]![0]!, grid.tputs[0]![c]!, grid.tputs[r]![0]!, grid.tputs[r]![c]!].map(
          (it) => 1 / it,
        );
        const { work } = workAt(grid, input, output);
        expect(work).toBeGreaterThanOrEqual(Math.min(...corners) * (1 - 1e-12));
        expect(work).toBeLessThanOrEqual(Math.max(...corners) * (1 + 1e-12));
      }),
    );
  });

  test('has no jumps where everything is servable', () => {
    fc.assert(
      fc.property(servableGrids, tokens, tokens, (grid, input, output) => {
        const table = compileWork(grid, null);
        const at = (i: number, o: number) => bucketWork(table, i, o).work;
        const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
        const i = Math.min(input, inputs.at(-1)!);
        const o = Math.min(output, outputs.at(-1)!);
        // In the narrowest cell, 3999 to 4000 tokens, a step of 1e-9 is 4e-6 of what lies between its corners.
        const largest = Math.max(...table.work);
        expect(Math.abs(at(i * (1 + 1e-9), o) - at(i, o))).toBeLessThanOrEqual(1e-5 * largest);
        expect(Math.abs(at(i, o * (1 + 1e-9)) - at(i, o))).toBeLessThanOrEqual(1e-5 * largest);
      }),
    );
  });

  test('meets the grid from both sides of each of its lines', () => {
    fc.assert(
      fc.property(servableGrids, tokens, (grid, output) => {
        const table = compileWork(grid, null);
        // In the narrowest cell, 3999 to 4000 tokens, a step of 1e-12 is 4e-9 of what lies between its corners, however
        // small the work here is; beyond the grid, the line through the last two rows magnifies that.
        const [before, last] = [grid.indexes[0]!.at(-2), grid.indexes[0]!.at(-1)!];
        const slope = before === undefined ? 0 : 2 / (last - before);
        const reach = Math.max(1, output / last, 1 + slope * (output - last));
        const tolerance = 1e-8 * Math.max(...table.work) * reach;
        for (const input of grid.indexes[1]!) {
          const here = bucketWork(table, input, output).work;
          for (const beside of [input * (1 - 1e-12), input * (1 + 1e-12)]) {
            expect(Math.abs(bucketWork(table, beside, output).work - here)).toBeLessThanOrEqual(tolerance);
          }
        }
      }),
    );
  });

  test('grows with tokens inside the grid where the profile does', () => {
    fc.assert(
      fc.property(
        monotoneGrids,
        tokens,
        tokens,
        fc.double({ min: 1, max: 8, noNaN: true }),
        (grid, input, output, more) => {
          const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
          const i = Math.min(input, inputs.at(-1)!);
          const o = Math.min(output, outputs.at(-1)!);
          const here = workAt(grid, i, o).work * (1 - 1e-12);
          expect(workAt(grid, Math.min(i * more, inputs.at(-1)!), o).work).toBeGreaterThanOrEqual(here);
          expect(workAt(grid, i, Math.min(o * more, outputs.at(-1)!)).work).toBeGreaterThanOrEqual(here);
        },
      ),
    );
  });

  test('beyond the grid grows at least in proportion to tokens, on the axis that is left', () => {
    fc.assert(
      fc.property(servableGrids, tokens, fc.double({ min: 1, max: 50, noNaN: true }), (grid, other, more) => {
        const [outputs, inputs] = grid.indexes as readonly [readonly number[], readonly number[]];
        const byInput = workAt(grid, inputs.at(-1)! * more, Math.min(other, outputs.at(-1)!)).work;
        const inputEdge = workAt(grid, inputs.at(-1)!, Math.min(other, outputs.at(-1)!)).work;
        expect(byInput).toBeGreaterThanOrEqual(inputEdge * more * (1 - 1e-12));
        const byOutput = workAt(grid, other, outputs.at(-1)! * more).work;
        const outputEdge = workAt(grid, other, outputs.at(-1)!).work;
        expect(byOutput).toBeGreaterThanOrEqual(outputEdge * more * (1 - 1e-12));
      }),
    );
  });

  test('does not depend on the limit below it', () => {
    fc.assert(
      fc.property(anyGrids, tokens, tokens, fc.integer({ min: 1, max: 40_000 }), (grid, input, output, limit) => {
        const free = workAt(grid, input, output);
        expect(workAt(grid, input, output, limit)).toEqual(input + output > limit ? notServable : free);
      }),
    );
  });
});

/** So near to the middle of two grid points, in logarithms, that rounding decides. */
function nearMiddle(points: readonly number[], value: number): boolean {
  return points.some((point, i) => {
    const next = points[i + 1];
    if (next === undefined || value <= point || value >= next) return false;
    return Math.abs(Math.log(value / point) / Math.log(next / point) - 0.5) < 1e-7;
  });
}
