import type { Cell } from './measurement.js';
import {
  type CellResult,
  cellResults,
  leavesLowerRatesOpen,
  nextRun,
  type PlannedRun,
  type RunRecord,
  remainingSeconds,
  runLength,
  type SearchSettings,
} from './rate-search.js';
import { sweepRuns } from './sweep.js';

/** Which runs a benchmark makes: those of a search, or those of a sweep. Pure; what was made comes in as records. */
export type Agenda = {
  /** The next run, null where none is left. A cell that is busy elsewhere, or a run that does not fit the time, is passed over. */
  next(
    records: readonly RunRecord[],
    options: { readonly isBusy: (cell: Cell) => boolean; readonly fits: (run: PlannedRun) => boolean },
  ): PlannedRun | null;
  results(records: readonly RunRecord[]): readonly CellResult[];
  /** About how long one server takes for the rest [s]. */
  remainingSeconds(records: readonly RunRecord[]): number;
  /** Does a run leave it open whether lower rates of its cell meet the SLO? */
  leavesLowerRatesOpen(record: RunRecord): boolean;
  readonly cells: readonly Cell[];
};

export function searchAgenda(settings: SearchSettings): Agenda {
  return {
    next: (records, options) => nextRun(settings, records, options),
    results: (records) => cellResults(settings, records),
    remainingSeconds: (records) => remainingSeconds(settings, records),
    leavesLowerRatesOpen: (record) => leavesLowerRatesOpen(settings, record),
    cells: settings.cells,
  };
}

/**
 * Every cell at every rate. A run that turns out too short for a steady state, or invalid, is made once more, at a length
 * that goes by how long requests took in the first.
 */
export function sweepAgenda(options: {
  readonly cells: readonly Cell[];
  readonly rates: readonly number[];
  /** Counted requests of a run. */
  readonly requests: number;
  /** Larger cells are left out; null = not known. */
  readonly maxTokens: number | null;
}): Agenda {
  const { rates, requests, maxTokens } = options;
  const fitting = options.cells.filter(
    (cell) => maxTokens === null || cell.inputTokens + cell.outputTokens <= maxTokens,
  );
  const runs = sweepRuns({ cells: fitting, rates });
  const sameRun = (a: { cell: Cell; requestRate: number }, b: { cell: Cell; requestRate: number }): boolean =>
    a.requestRate === b.requestRate && sameCell(a.cell, b.cell);
  const planned = (records: readonly RunRecord[], run: { cell: Cell; requestRate: number }): PlannedRun | null => {
    const made = records.filter((record) => sameRun(record, run));
    if (made.some(({ verdict }) => verdict === 'meets' || verdict === 'misses') || made.length > 1) return null;
    const stay = nearestStay(records, run);
    const length = runLength({ requestRate: run.requestRate, staySeconds: stay, requests, length: made.length + 1 });
    return { ...run, requests: length, presumed: null, expectedSeconds: length / run.requestRate + stay };
  };
  return {
    cells: options.cells,
    next: (records, { isBusy, fits }) => {
      for (const run of runs) {
        if (isBusy(run.cell)) continue;
        const next = planned(records, run);
        if (next !== null && fits(next)) return next;
      }
      return null;
    },
    results: (records) =>
      options.cells.map((cell) => sweptCell({ cell, rates, tooLong: !fitting.includes(cell), records })),
    // A sweep makes them all, or is resumed: a profile of half a sweep is one of fewer rates, as AIBrix's is.
    leavesLowerRatesOpen: () => false,
    remainingSeconds: (records) => runs.reduce((sum, run) => sum + (planned(records, run)?.expectedSeconds ?? 0), 0),
  };
}

const sameCell = (a: Cell, b: Cell): boolean => a.inputTokens === b.inputTokens && a.outputTokens === b.outputTokens;

/** How long requests took in the run of this cell nearest in rate; 0 where there is none. */
function nearestStay(records: readonly RunRecord[], run: { cell: Cell; requestRate: number }): number {
  const distance = (record: RunRecord): number => Math.abs(Math.log(record.requestRate / run.requestRate));
  return (
    records
      .filter((record) => sameCell(record.cell, run.cell) && record.e2eSeconds !== null)
      .toSorted((a, b) => distance(a) - distance(b))[0]?.e2eSeconds ?? 0
  );
}

function sweptCell(options: {
  readonly cell: Cell;
  readonly rates: readonly number[];
  readonly tooLong: boolean;
  readonly records: readonly RunRecord[];
}): CellResult {
  const { cell, rates, tooLong } = options;
  const own = options.records.filter((record) => sameCell(record.cell, cell));
  const counted = own.filter(({ verdict }) => verdict === 'meets' || verdict === 'misses');
  const met = counted.filter(({ verdict }) => verdict === 'meets').toSorted((a, b) => a.requestRate - b.requestRate);
  const best = met.at(-1) ?? null;
  const missed = counted
    .filter(({ verdict, requestRate }) => verdict === 'misses' && requestRate > (best?.requestRate ?? 0))
    .toSorted((a, b) => a.requestRate - b.requestRate)[0];
  const isWhole = rates.every((rate) => own.some(({ requestRate }) => requestRate === rate));
  const state = ((): CellResult['state'] => {
    if (tooLong) return 'too_long';
    if (own.length === 0) return 'not_measured';
    if (counted.length === 0) return 'not_measurable';
    if (!isWhole) return 'unfinished';
    if (best === null) return 'none';
    return best.requestRate === rates.at(-1) ? 'at_limit' : 'found';
  })();
  return {
    cell,
    state,
    rate: best?.requestRate ?? null,
    throughputRps: best?.throughputRps ?? null,
    missedRate: missed?.requestRate ?? null,
    confidence: null,
    runs: own.length,
    requests: own.reduce((sum, { sent }) => sum + sent, 0),
    note: counted.length === 0 ? (own.at(-1)?.invalidBecause ?? null) : null,
  };
}
