import type { Cell } from './measurement.js';

/**
 * Which cells and rates a benchmark looks at: AIBrix's doubling sweep, and the order in which cells are measured.
 *
 * A doubling axis starts at one number and doubles while it does not exceed the limit: 4 … 4096 has 11 points, 4 … 100
 * has 4, 8, 16, 32, 64. With AIBrix's defaults (4 … 4096, 4 … 4096, 1 … 64) a sweep has 11 × 11 × 7 = 847 runs.
 */

/** Start, then doubled while it is at most the limit; both > 0. Empty where the start is above the limit. */
export function doubling(start: number, limit: number): readonly number[] {
  const points: number[] = [];
  // Nothing that is measured spans more than 2^60; a start of 0 would double for ever.
  for (let point = start; point <= limit && point > 0 && points.length < 60; point *= 2) points.push(point);
  return points;
}

/** One run of a sweep. */
export type SweepRun = { readonly cell: Cell; readonly requestRate: number };

/** Every cell at every rate, cells in the given order and the rates of a cell from the lowest. */
export function sweepRuns(options: {
  readonly cells: readonly Cell[];
  readonly rates: readonly number[];
}): readonly SweepRun[] {
  return options.cells.flatMap((cell) => options.rates.map((requestRate) => ({ cell, requestRate })));
}

/**
 * All cells of a grid, so ordered that whatever part of it is measured covers the grid evenly: first its corners, then
 * the middles between what was measured, and so on. A benchmark that ends early leaves a coarse grid, not half of one.
 *
 * Among cells of one level those with fewer tokens come first: they are the quick ones.
 */
export function coarseFirstCells(inputs: readonly number[], outputs: readonly number[]): readonly Cell[] {
  const inputLevels = levels(inputs.length);
  const outputLevels = levels(outputs.length);
  return inputs
    .flatMap((inputTokens, i) =>
      outputs.map((outputTokens, o) => ({
        cell: { inputTokens, outputTokens },
        level: Math.max(inputLevels[i]!, outputLevels[o]!),
        place: i + o,
        i,
      })),
    )
    .toSorted((a, b) => a.level - b.level || a.place - b.place || a.i - b.i)
    .map(({ cell }) => cell);
}

/** The level of each place of an axis: 0 for its ends, 1 for the middle between them, and so on by halves. */
function levels(length: number): readonly number[] {
  const level = new Array<number>(length).fill(0);
  const halve = (low: number, high: number, depth: number): void => {
    if (high - low < 2) return;
    const middle = (low + high) >> 1;
    level[middle] = depth;
    halve(low, middle, depth + 1);
    halve(middle, high, depth + 1);
  };
  halve(0, length - 1, 1);
  return level;
}
