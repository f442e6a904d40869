import type { Cell } from './measurement.js';

/**
 * What a quantity of one cell (work per request, latency) is likely to be, from the same quantity of other cells: how
 * a search starts close to the answer.
 *
 * The trend over the grid is a sum of non-negative terms in tokens, fitted to the relative errors:
 *
 *     value ≈ a + b·input + c·output + d·input·output + e·output²
 *
 * which is how the time of an engine adds up: prefill grows with the prompt, decoding with the answer, and each decoded
 * token reads a context of input + output / 2 tokens. What the trend leaves (the logarithm of value / trend) is taken to
 * vary smoothly over (log2 input, log2 output) and is predicted by a Gaussian process (kriging) with a fixed kernel, which
 * also says how far to trust the prediction. Reference: Rasmussen and Williams, Gaussian Processes for Machine Learning,
 * MIT Press 2006, algorithm 2.1.
 */
export type KnownValue = { readonly cell: Cell; readonly value: number };

export type PredictedValue = {
  /** > 0 */
  readonly value: number;
  /** Standard deviation of its natural logarithm. */
  readonly logDeviation: number;
};

/** Doublings of the tokens over which deviations from the trend are alike. */
const lengthScale = 2;
/** How far single values lie off the trend at least, as a standard deviation of the logarithm; else as they do lie. */
const leastDeviation = 0.2;
/** With few values the trend itself is a guess: at the first a factor of e³, later less. */
const guessDeviation = 3;
/** Of one measurement. */
const noiseDeviation = 0.03;

/** Prepared once per set of known values. */
export type Predictor = (cell: Cell) => PredictedValue | null;

/** @param known values > 0; others are left out. The predictor answers null where none is known. */
export function cellPredictor(known: readonly KnownValue[]): Predictor {
  const usable = known.filter(({ value }) => value > 0 && Number.isFinite(value));
  const count = usable.length;
  if (count === 0) return () => null;
  const trend = fitTrend(usable);
  const residuals = usable.map(({ cell, value }) => Math.log(value / trend(cell)));
  const spread = Math.sqrt(residuals.reduce((sum, residual) => sum + residual * residual, 0) / count);
  const scale = Math.max(leastDeviation, spread, guessDeviation / count);
  const covariance = (a: Cell, b: Cell): number => scale * scale * kernel(a, b);
  const lower = cholesky(
    usable.map((row, i) =>
      usable.map((column, j) => covariance(row.cell, column.cell) + (i === j ? noiseDeviation * noiseDeviation : 0)),
    ),
  );
  const weights = solveUpper(lower, solveLower(lower, residuals));
  return (cell) => {
    const towards = usable.map((one) => covariance(one.cell, cell));
    const mean = towards.reduce((sum, value, i) => sum + value * weights[i]!, 0);
    const explained = solveLower(lower, towards).reduce((sum, value) => sum + value * value, 0);
    const variance = Math.max(0, scale * scale - explained) + noiseDeviation * noiseDeviation;
    return { value: trend(cell) * Math.exp(mean), logDeviation: Math.sqrt(variance) };
  };
}

/** Matérn 3/2 in doublings: smooth, but not so smooth that a bend misleads cells far from it. */
function kernel(a: Cell, b: Cell): number {
  const distance = Math.hypot(doublings(a.inputTokens, b.inputTokens), doublings(a.outputTokens, b.outputTokens));
  const scaled = (Math.sqrt(3) * distance) / lengthScale;
  return (1 + scaled) * Math.exp(-scaled);
}

function doublings(a: number, b: number): number {
  return Math.log2(Math.max(1, a)) - Math.log2(Math.max(1, b));
}

/** Terms are in thousands of tokens, so that their squares stay near 1. */
function terms({ inputTokens, outputTokens }: Cell): readonly number[] {
  const input = inputTokens / 1000;
  const output = outputTokens / 1000;
  return [1, input, output, input * output, output * output];
}

/** Passes over the coefficients: the fit is convex in five numbers, and only the start of a search rests on it. */
const fitPasses = 200;

/** Non-negative least squares of the relative errors, by coordinate descent. */
function fitTrend(known: readonly KnownValue[]): (cell: Cell) => number {
  const rows = known.map(({ cell, value }) => terms(cell).map((term) => term / value));
  const size = rows[0]!.length;
  // Equal relative shares of the first value: with one value known, work grows with every term.
  const coefficients = terms(known[0]!.cell).map((term) => known[0]!.value / size / Math.max(term, 1e-9));
  const sums = rows.map((row) => dot(row, coefficients));
  // A pull towards small coefficients of the relative size 1e-3 decides what the values leave open.
  for (let pass = 0; pass < fitPasses; pass++) {
    for (let k = 0; k < size; k++) {
      let gradient = 0;
      let curvature = 0;
      for (let i = 0; i < rows.length; i++) {
        gradient += rows[i]![k]! * (1 - sums[i]!);
        curvature += rows[i]![k]! * rows[i]![k]!;
      }
      if (curvature === 0) continue;
      const change = Math.max(-coefficients[k]!, gradient / curvature);
      coefficients[k] = coefficients[k]! + change;
      for (let i = 0; i < rows.length; i++) sums[i] = sums[i]! + change * rows[i]![k]!;
    }
  }
  const smallest = Math.min(...known.map(({ value }) => value));
  // Where every fitted term vanishes (an axis that was never varied), the smallest value known is the least guess.
  return (cell) => Math.max(dot(terms(cell), coefficients), smallest * 1e-3);
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

/** Lower triangle L of a positive definite matrix, L·Lᵀ. */
function cholesky(matrix: readonly (readonly number[])[]): readonly Float64Array[] {
  const lower = matrix.map((row) => new Float64Array(row.length));
  for (let i = 0; i < matrix.length; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i]![j]!;
      for (let k = 0; k < j; k++) sum -= lower[i]![k]! * lower[j]![k]!;
      lower[i]![j] = i === j ? Math.sqrt(Math.max(sum, 1e-12)) : sum / lower[j]![j]!;
    }
  }
  return lower;
}

function solveLower(lower: readonly Float64Array[], right: readonly number[]): readonly number[] {
  const solution: number[] = [];
  for (let i = 0; i < right.length; i++) {
    let sum = right[i]!;
    for (let k = 0; k < i; k++) sum -= lower[i]![k]! * solution[k]!;
    solution.push(sum / lower[i]![i]!);
  }
  return solution;
}

function solveUpper(lower: readonly Float64Array[], right: readonly number[]): readonly number[] {
  const solution = new Array<number>(right.length).fill(0);
  for (let i = right.length - 1; i >= 0; i--) {
    let sum = right[i]!;
    for (let k = i + 1; k < right.length; k++) sum -= lower[k]![i]! * solution[k]!;
    solution[i] = sum / lower[i]![i]!;
  }
  return solution;
}
