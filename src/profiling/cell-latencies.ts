import { InputError } from '../core/input-error.js';
import type { ProfileMatrix } from '../core/profile.js';
import type { MetricName, MetricSummary } from './benchmark-row.js';
import { fillLatencies } from './fill-cells.js';
import type { DecidedCell } from './gen-profile.js';

/** Mean latencies of all cells [s]. TTFT and TPOT are absent where nothing was measured of them. */
export type CellLatencies = {
  readonly e2e: ProfileMatrix;
  readonly ttft?: ProfileMatrix;
  readonly tpot?: ProfileMatrix;
  /** Cells that have a run of their own, in which TTFT or TPOT is missing: the neighbours' stands there. */
  readonly filled: number;
};

/**
 * Latencies of all cells. E2E must be above 0 wherever the throughput is, since AIBrix's gateway divides by it: where it
 * was not measured it is TTFT + TPOT × (output − 1), which it is by definition, and in gaps that of the neighbours.
 */
export function latenciesOf(options: {
  readonly decided: readonly (readonly DecidedCell[])[];
  readonly indexes: readonly (readonly number[])[];
  readonly tputs: readonly (readonly number[])[];
  readonly source: string;
}): CellLatencies {
  const { decided, indexes, tputs, source } = options;
  let filled = 0;
  const whole = (metric: MetricName): ProfileMatrix | null => {
    const measured = matrixOf(decided, (cell) => latencyOf(cell, metric));
    if (measured.every((row) => row.every((value) => value === null))) return null;
    decided.forEach((row, r) => {
      row.forEach((cell, c) => {
        if (cell.tput !== null && measured[r]![c] === null) filled += 1;
      });
    });
    return fillLatencies(indexes, measured);
  };
  const ttft = whole('TTFT');
  const tpot = whole('TPOT');
  const derived = (cell: DecidedCell, r: number, c: number): number | null => {
    const first = ttft === null ? null : ttft[r]![c]!;
    const next = cell.outputTokens > 1 ? (tpot === null ? null : tpot[r]![c]!) : 0;
    return first === null || next === null ? null : first + next * (cell.outputTokens - 1);
  };
  const above0 = (value: number | null): number | null => (value !== null && value > 0 ? value : null);
  const e2e = fillLatencies(
    indexes,
    decided.map((row, r) =>
      row.map((cell, c) => {
        const measured = latencyOf(cell, 'E2E');
        if (above0(measured) !== null) return measured;
        // In a gap the neighbours tell more than a sum of two filled numbers.
        return cell.tput === null ? null : above0(derived(cell, r, c));
      }),
    ),
  );
  if (e2e.some((row, r) => row.some((value, c) => tputs[r]![c]! > 0 && above0(value) === null))) {
    throw new InputError(source, [
      {
        place: 'E2E',
        found: 'no latency above 0 in any run that counts',
        expected: 'rows of E2E, or of TTFT and TPOT: the gateway weighs requests by them',
      },
    ]);
  }
  return {
    filled,
    e2e: e2e.map((row) => row.map((value) => value ?? 0)),
    ...(ttft === null ? {} : { ttft }),
    ...(tpot === null ? {} : { tpot }),
  };
}

/** The run whose latencies stand for a cell: the chosen one, else the first of the cell in the files. */
function latencyOf(cell: DecidedCell, metric: MetricName): number | null {
  if (cell.tput === null) return null;
  if (cell.chosen !== null) return cell.chosen.metrics[metric]?.mean ?? null;
  const rows = cell.candidates
    .flatMap(({ run }): { row: MetricSummary; aborted: boolean }[] => {
      const row = run.metrics[metric];
      return row === undefined || row.mean === null ? [] : [{ row, aborted: run.aborted !== null }];
    })
    .sort((a, b) => Number(a.aborted) - Number(b.aborted) || a.row.row - b.row.row);
  return rows[0]?.row.mean ?? null;
}

function matrixOf(
  cells: readonly (readonly DecidedCell[])[],
  lookUp: (cell: DecidedCell) => number | null,
): ProfileMatrix {
  return cells.map((row) => row.map(lookUp));
}
