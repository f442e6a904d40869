import { type ProfileMatrix, smallestThroughput } from '../core/profile.js';
import { compileWork } from '../core/work.js';

/**
 * Fills what a benchmark left out of a grid, by the rules by which the optimizer would read the gaps (core/work.ts).
 *
 * A throughput is read from the works 1/T of its neighbours, in tokens; where the neighbour nearer by doublings cannot
 * meet the SLO, neither can the gap. At the end of an axis work grows with the tokens, at its beginning it is that of the edge.
 */
export type FilledCells = {
  readonly tputs: readonly (readonly number[])[];
  /** Gaps between measured cells, and gaps beyond them, which are further from what was measured. */
  readonly between: number;
  readonly beyond: number;
};

/**
 * @param indexes [output tokens …], [input tokens …], ascending
 * @param tputs row by output, requests/s; null = a gap. At least one is no gap.
 */
export function fillThroughputs(indexes: readonly (readonly number[])[], tputs: ProfileMatrix): FilledCells {
  const table = compileWork({ indexes, tputs }, null);
  const columns = table.inputs.length;
  let between = 0;
  let beyond = 0;
  const filled = tputs.map((row, r) =>
    row.map((tput, c) => {
      if (tput !== null) return tput;
      const cell = r * columns + c;
      if (table.interpolated[cell] === 1) between += 1;
      else beyond += 1;
      const filled = 1 / table.work[cell]!;
      return filled < smallestThroughput ? 0 : filled;
    }),
  );
  return { tputs: filled, between, beyond };
}

/**
 * Fills gaps of a latency matrix [s]: linear in tokens, as works, between neighbours on the row and on the column (the
 * mean of the two), the nearest one's where there are neighbours on one side only. All null where nothing is known.
 */
export function fillLatencies(indexes: readonly (readonly number[])[], values: ProfileMatrix): ProfileMatrix {
  const axes = indexes.map((axis) => axis.map((tokens) => Math.max(1, tokens)));
  const [outputs = [], inputs = []] = axes;
  let known = values;
  for (;;) {
    const before = known;
    const at = (row: number, column: number): number | null => before[row]![column]!;
    const next = before.map((row, r) =>
      row.map((value, c) => {
        if (value !== null) return value;
        const lines = [
          alongAxis(inputs, c, (column) => at(r, column)),
          alongAxis(outputs, r, (other) => at(other, c)),
        ].filter((found) => found !== null);
        const inside = lines.filter((found) => found.inside);
        const chosen = inside.length > 0 ? inside : lines;
        return chosen.length === 0 ? null : chosen.reduce((sum, found) => sum + found.value, 0) / chosen.length;
      }),
    );
    const gaps = count(next);
    if (gaps === 0 || gaps === count(before)) return next;
    known = next;
  }
}

function count(values: ProfileMatrix): number {
  return values.reduce((sum, row) => sum + row.filter((value) => value === null).length, 0);
}

function alongAxis(
  axis: readonly number[],
  at: number,
  lookUp: (index: number) => number | null,
): { readonly value: number; readonly inside: boolean } | null {
  const neighbour = (step: number): number | null => {
    for (let i = at + step; i >= 0 && i < axis.length; i += step) if (lookUp(i) !== null) return i;
    return null;
  };
  const below = neighbour(-1);
  const above = neighbour(1);
  if (below === null && above === null) return null;
  if (below === null || above === null) return { value: lookUp((below ?? above)!)!, inside: false };
  const width = axis[above]! - axis[below]!;
  const fraction = width > 0 ? (axis[at]! - axis[below]!) / width : 1;
  const from = lookUp(below)!;
  return { value: from + (lookUp(above)! - from) * fraction, inside: true };
}
