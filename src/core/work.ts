import type { ProfileGrid } from './profile.js';

/**
 * How much of a replica a request of given lengths takes: work = 1 / throughput [replica·seconds per request],
 * read from a profile between, below and beyond its grid points.
 *
 * - Inside the grid: bilinear in tokens (input, output), as work itself nearly is: prompts are computed token by token,
 *   answers step by step (docs/decisions/work-interpolation.md). A bucket is servable if its nearest corner is, by
 *   doublings: log2 of tokens on both axes (ties: not); unservable corners of a servable bucket count as the largest
 *   work among the cell's servable corners.
 * - Below the grid: the edge. Above: the input axis first, on each row, then the output axis; on an axis the larger of
 *   the line through the last two points, in tokens too, and growth in proportion to tokens. In proportion only where the
 *   last point but one is unservable, was not profiled, or does not exist. So more tokens never take less work on the
 *   axis that is extrapolated, and never less than in proportion.
 * - Cells that were not profiled (null) are filled between their neighbours before any of this. Those at the end of an
 *   axis grow as if the grid ended before them.
 * - Beyond `maxTokens` (input + output): not servable. Exactly `maxTokens` still is.
 * - 0 tokens count as 1, on an axis and in a bucket.
 *
 * Worked line: input grid 128, 512 with throughputs 4, 2 has works 0.25, 0.5. 224 tokens lie a quarter of the way on:
 * 0.25 + (0.5 − 0.25)·(224 − 128)/(512 − 128) = 0.3125 replica-seconds. 1024 tokens take the larger of the line
 * 0.5 + (0.5 − 0.25)·(1024 − 512)/(512 − 128) = 0.83 and the proportion 0.5·1024/512 = 1: one replica-second. With
 * throughput 0 at 512, what is shorter than √(128·512) = 256 tokens would take 0.25, and the rest would not be servable.
 */
export type WorkTable = {
  /** Token counts of the rows (output) and columns (input), ascending. */
  readonly outputs: Float64Array;
  readonly inputs: Float64Array;
  readonly logOutputs: Float64Array;
  readonly logInputs: Float64Array;
  /** Row by output; Infinity = cannot meet the SLO. */
  readonly work: Float64Array;
  /** 1 where the cell was not profiled and lies between profiled neighbours: no point to draw a line through. */
  readonly interpolated: Uint8Array;
  readonly maxTokens: number;
};

export type BucketWork = {
  /** Replica-seconds per request; Infinity where not servable. */
  readonly work: number;
  readonly servable: boolean;
  /** The lengths lie above the grid on an axis. */
  readonly extrapolated: boolean;
};

const notServable: BucketWork = { work: Number.POSITIVE_INFINITY, servable: false, extrapolated: false };

/** Prepares a profile for `bucketWork`. `maxTokens` null = no context limit. */
export function compileWork(grid: ProfileGrid, maxTokens: number | null): WorkTable {
  const outputs = Float64Array.from(grid.indexes[0]!);
  const inputs = Float64Array.from(grid.indexes[1]!);
  const logOutputs = outputs.map(logTokens);
  const logInputs = inputs.map(logTokens);
  const work = new Float64Array(outputs.length * inputs.length);
  grid.tputs.forEach((row, r) => {
    row.forEach((tput, c) => {
      work[r * inputs.length + c] = tput === null ? Number.NaN : 1 / tput;
    });
  });
  const interpolated = new Uint8Array(work.length);
  const limit = maxTokens ?? Number.POSITIVE_INFINITY;
  const table = { outputs, inputs, logOutputs, logInputs, work, interpolated, maxTokens: limit };
  fillAbsentCells(table);
  return table;
}

function counted(tokens: number): number {
  return Math.max(1, tokens);
}

function logTokens(tokens: number): number {
  return Math.log2(counted(tokens));
}

/**
 * Where a token count lies on an axis: between the points `low` and `high`. How far on from `low` is told twice:
 * `fraction` in tokens weighs works, `logFraction` in log2 of tokens says which point is nearer.
 */
type AxisPosition = { low: number; high: number; fraction: number; logFraction: number; beyond: boolean };

/** A token count on an axis: between two grid points, at an edge, or beyond the last. */
function locate(axis: Float64Array, logs: Float64Array, tokens: number): AxisPosition {
  const last = axis.length - 1;
  if (tokens <= axis[0]!) return at(0);
  if (tokens >= axis[last]!) return { ...at(last), beyond: counted(tokens) > counted(axis[last]!) };
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (axis[middle]! <= tokens) low = middle;
    else high = middle;
  }
  if (tokens === axis[low]) return at(low);
  return betweenPoints({ axis, logs, low, high, tokens });
}

function at(point: number): AxisPosition {
  return { low: point, high: point, fraction: 0, logFraction: 0, beyond: false };
}

/** Of points that both count as 1 token the upper one is meant. */
function betweenPoints(options: {
  axis: Float64Array;
  logs: Float64Array;
  low: number;
  high: number;
  tokens: number;
}): AxisPosition {
  const { axis, logs, low, high, tokens } = options;
  const from = counted(axis[low]!);
  const width = counted(axis[high]!) - from;
  const logWidth = logs[high]! - logs[low]!;
  return {
    low,
    high,
    fraction: width > 0 ? (counted(tokens) - from) / width : 1,
    logFraction: logWidth > 0 ? (logTokens(tokens) - logs[low]!) / logWidth : 1,
    beyond: false,
  };
}

/** Two positions this close to the middle are a tie. */
const tie = 1e-9;

/** Is the grid point nearest to a position servable, given the verdicts of the two around it? Ties count as not. */
function nearestServable(position: AxisPosition, low: number, high: number): boolean {
  if (position.logFraction < 0.5 - tie) return low < Number.POSITIVE_INFINITY;
  if (position.logFraction > 0.5 + tie) return high < Number.POSITIVE_INFINITY;
  return low < Number.POSITIVE_INFINITY && high < Number.POSITIVE_INFINITY;
}

/** Interpolates two works; an unservable one counts as the other, Infinity where both are. */
function between(position: AxisPosition, low: number, high: number): number {
  if (low === Number.POSITIVE_INFINITY) return high;
  if (high === Number.POSITIVE_INFINITY) return low;
  return low + (high - low) * position.fraction;
}

/** Work beyond the last of two points of an axis; `before` is Infinity where no line can be drawn through the two. */
function beyondAxis(options: {
  before: number;
  last: number;
  tokensBefore: number;
  tokensLast: number;
  tokens: number;
}): number {
  const { before, last, tokensBefore, tokensLast, tokens } = options;
  const proportional = (last * tokens) / counted(tokensLast);
  if (before === Number.POSITIVE_INFINITY) return proportional;
  const line = last + ((last - before) / (tokensLast - tokensBefore)) * (tokens - tokensLast);
  return Math.max(line, proportional);
}

/**
 * Work of one request of a bucket on a replica with this profile.
 *
 * @param inputTokens prompt tokens, >= 0 (0 counts as 1)
 * @param outputTokens generated tokens, >= 0 (0 counts as 1)
 */
export function bucketWork(table: WorkTable, inputTokens: number, outputTokens: number): BucketWork {
  if (inputTokens + outputTokens > table.maxTokens) return notServable;
  const { inputs, outputs, work } = table;
  const columns = inputs.length;
  const input = locate(inputs, table.logInputs, inputTokens);
  const output = locate(outputs, table.logOutputs, outputTokens);

  if (!input.beyond && !output.beyond) {
    const w00 = work[output.low * columns + input.low]!;
    const w01 = work[output.low * columns + input.high]!;
    const w10 = work[output.high * columns + input.low]!;
    const w11 = work[output.high * columns + input.high]!;
    if (!nearestCornerServable(input, output, w00, w01, w10, w11)) return notServable;
    const largest = Math.max(finite(w00), finite(w01), finite(w10), finite(w11));
    const low = mix(w00, w01, largest, input.fraction);
    const high = mix(w10, w11, largest, input.fraction);
    return { work: low + (high - low) * output.fraction, servable: true, extrapolated: false };
  }

  const lastRow = outputs.length - 1;
  if (!output.beyond) {
    const low = rowWorkBeyond(table, output.low, inputTokens);
    const high = rowWorkBeyond(table, output.high, inputTokens);
    if (!nearestServable(output, low, high)) return notServable;
    return { work: between(output, low, high), servable: true, extrapolated: true };
  }
  const nearest = input.beyond
    ? work[lastRow * columns + columns - 1]! < Number.POSITIVE_INFINITY
    : nearestServable(input, work[lastRow * columns + input.low]!, work[lastRow * columns + input.high]!);
  if (!nearest) return notServable;
  const rowWork = (row: number): number =>
    input.beyond
      ? rowWorkBeyond(table, row, inputTokens)
      : between(input, work[row * columns + input.low]!, work[row * columns + input.high]!);
  const drawable =
    lastRow > 0 && [input.low, input.high].every((column) => isPoint(table, (lastRow - 1) * columns + column, columns));
  return {
    work: beyondAxis({
      before: drawable ? rowWork(lastRow - 1) : Number.POSITIVE_INFINITY,
      last: rowWork(lastRow),
      tokensBefore: outputs[lastRow - 1] ?? 0,
      tokensLast: outputs[lastRow]!,
      tokens: outputTokens,
    }),
    servable: true,
    extrapolated: true,
  };
}

/**
 * May a line be drawn through a cell and the one that follows it at `step`? Not where either was filled between its
 * neighbours. A cell that continues the grid at its end is as good as the points that it continues.
 */
function isPoint(table: WorkTable, cell: number, step: number): boolean {
  return table.interpolated[cell] === 0 && table.interpolated[cell + step] === 0;
}

function nearestCornerServable(
  input: AxisPosition,
  output: AxisPosition,
  w00: number,
  w01: number,
  w10: number,
  w11: number,
): boolean {
  const lowRow = nearestServable(input, w00, w01);
  const highRow = nearestServable(input, w10, w11);
  if (output.logFraction < 0.5 - tie) return lowRow;
  if (output.logFraction > 0.5 + tie) return highRow;
  return lowRow && highRow;
}

function finite(work: number): number {
  return work === Number.POSITIVE_INFINITY ? 0 : work;
}

function mix(low: number, high: number, unservable: number, fraction: number): number {
  const from = low === Number.POSITIVE_INFINITY ? unservable : low;
  const to = high === Number.POSITIVE_INFINITY ? unservable : high;
  return from + (to - from) * fraction;
}

/** Work on one row for an input above the grid; Infinity where the row's last cell is not servable. */
function rowWorkBeyond(table: WorkTable, row: number, inputTokens: number): number {
  const columns = table.inputs.length;
  const last = table.work[row * columns + columns - 1]!;
  if (last === Number.POSITIVE_INFINITY) return last;
  return beyondAxis({
    before:
      columns > 1 && isPoint(table, row * columns + columns - 2, 1)
        ? table.work[row * columns + columns - 2]!
        : Number.POSITIVE_INFINITY,
    last,
    tokensBefore: table.inputs[columns - 2] ?? 0,
    tokensLast: table.inputs[columns - 1]!,
    tokens: inputTokens,
  });
}

/**
 * Work of a bucket that no deployment serves within the SLO: that of the nearest servable cell (Euclid in log2 tokens,
 * ties to the larger work), grown in proportion to tokens per axis. Infinity beyond `maxTokens` or without such a cell.
 */
export function bestEffortWork(table: WorkTable, inputTokens: number, outputTokens: number): number {
  if (inputTokens + outputTokens > table.maxTokens) return Number.POSITIVE_INFINITY;
  const logInput = logTokens(inputTokens);
  const logOutput = logTokens(outputTokens);
  const columns = table.inputs.length;
  let best = Number.POSITIVE_INFINITY;
  let bestCell = -1;
  for (let cell = 0; cell < table.work.length; cell++) {
    if (table.work[cell] === Number.POSITIVE_INFINITY) continue;
    const di = table.logInputs[cell % columns]! - logInput;
    const dj = table.logOutputs[Math.floor(cell / columns)]! - logOutput;
    const distance = di * di + dj * dj;
    const nearer = distance < best - tie;
    if (nearer || (distance <= best + tie && table.work[cell]! > table.work[bestCell]!)) {
      best = Math.min(best, distance);
      bestCell = cell;
    }
  }
  if (bestCell < 0) return Number.POSITIVE_INFINITY;
  const growInput = Math.max(1, inputTokens / counted(table.inputs[bestCell % columns]!));
  const growOutput = Math.max(1, outputTokens / counted(table.outputs[Math.floor(bestCell / columns)]!));
  return table.work[bestCell]! * growInput * growOutput;
}

/**
 * Replaces NaN (not profiled) cells: between their nearest profiled neighbours on the row and on the column, linear in
 * tokens with the verdict of the one nearer in log2, as any bucket there; where both axes know an answer, the larger work.
 * A cell with neighbours on one side of it only takes the edge (below the grid) or grows as beyond it (above). Cells
 * without any profiled neighbour on their row and column are filled from the cells filled before.
 */
function fillAbsentCells(table: WorkTable): void {
  const { work } = table;
  const columns = table.inputs.length;
  for (let absent = -1; ; ) {
    const before = absent;
    absent = 0;
    for (const cell of work) if (Number.isNaN(cell)) absent++;
    if (absent === 0) return;
    if (absent === before) {
      // Nothing was profiled at all: nothing can be served.
      work.fill(Number.POSITIVE_INFINITY);
      return;
    }
    const known = work.slice();
    for (let cell = 0; cell < work.length; cell++) {
      if (!Number.isNaN(known[cell]!)) continue;
      const row = Math.floor(cell / columns);
      const column = cell % columns;
      const alongRow = fillAlong(known, {
        start: row * columns,
        stride: 1,
        at: column,
        axis: table.inputs,
        logs: table.logInputs,
      });
      const alongColumn = fillAlong(known, {
        start: column,
        stride: columns,
        at: row,
        axis: table.outputs,
        logs: table.logOutputs,
      });
      const answers = [alongRow, alongColumn].filter((answer) => answer !== undefined);
      const inner = answers.filter((answer) => answer.inside);
      const chosen = inner.length > 0 ? inner : answers;
      if (chosen.length > 0) work[cell] = Math.max(...chosen.map((answer) => answer.work));
      if (inner.length > 0) table.interpolated[cell] = 1;
    }
  }
}

type Line = { start: number; stride: number; at: number; axis: Float64Array; logs: Float64Array };

function fillAlong(known: Float64Array, line: Line): { work: number; inside: boolean } | undefined {
  const value = (index: number): number => known[line.start + index * line.stride]!;
  const neighbour = (from: number, step: number): number => {
    let index = from + step;
    while (index >= 0 && index < line.axis.length && Number.isNaN(value(index))) index += step;
    return index >= 0 && index < line.axis.length ? index : -1;
  };
  const below = neighbour(line.at, -1);
  const above = neighbour(line.at, 1);
  if (below >= 0 && above >= 0) {
    const { axis, logs } = line;
    const position = betweenPoints({ axis, logs, low: below, high: above, tokens: axis[line.at]! });
    const servable = nearestServable(position, value(below), value(above));
    return { work: servable ? between(position, value(below), value(above)) : Number.POSITIVE_INFINITY, inside: true };
  }
  if (above >= 0) return { work: value(above), inside: false };
  if (below < 0) return undefined;
  const last = value(below);
  if (last === Number.POSITIVE_INFINITY) return { work: last, inside: false };
  const before = neighbour(below, -1);
  return {
    work: beyondAxis({
      before: before < 0 ? Number.POSITIVE_INFINITY : value(before),
      last,
      tokensBefore: before < 0 ? 0 : line.axis[before]!,
      tokensLast: line.axis[below]!,
      tokens: line.axis[line.at]!,
    }),
    inside: false,
  };
}
