import type { Program } from '../../src/optimizer/program.js';

/**
 * The true optimum of a tiny program, in exact arithmetic: every vector of whole replicas, cheapest first, until one
 * admits shares. Whether it does is decided by the primal simplex method on fractions of BigInts with Bland's rule
 * (Bland, 1977), which cannot cycle and cannot round. It shares no code and no method with the solvers it judges.
 *
 * A deployment counts as full up to 1e-9 of its capacity beyond it, as every plan of this project does.
 */
export type ExactOptimum = { readonly cost: number; readonly replicas: Float64Array };

/** Most vectors of replicas that are looked at; a program with more is a mistake of the test. */
const largestEnumeration = 200_000;

/** @returns 'infeasible' where no replicas within the bounds admit shares */
export function exactOptimum(program: Program): ExactOptimum | 'infeasible' {
  const { deploymentCount: count } = program;
  const most = Array.from({ length: count }, (_, d) => largestUseful(program, d));
  let vectors: number[][] = [[]];
  for (let d = 0; d < count; d++) {
    const longer: number[][] = [];
    for (const vector of vectors) {
      for (let y = program.lower[d]!; y <= most[d]!; y++) longer.push([...vector, y]);
    }
    if (longer.length > largestEnumeration) throw new Error('the program is too large for the exact oracle');
    vectors = longer;
  }
  const costOf = (vector: readonly number[]) => vector.reduce((sum, y, d) => sum + y * program.cost[d]!, 0);
  const ordered = vectors.map((vector) => ({ vector, cost: costOf(vector) })).sort((a, b) => a.cost - b.cost);
  for (const { vector, cost } of ordered) {
    if (surelyTooFew(program, vector)) continue;
    if (admitsShares(program, vector)) return { cost, replicas: Float64Array.from(vector) };
  }
  return 'infeasible';
}

/** More replicas than all the demand at once would fill are never useful. */
function largestUseful(program: Program, d: number): number {
  let total = 0;
  for (let b = 0; b < program.bucketCount; b++) {
    const work = program.work[b * program.deploymentCount + d]!;
    if (Number.isFinite(work)) total += work;
  }
  const useful = Math.ceil(total / program.capacity[d]! - 1e-9);
  return Math.min(program.upper[d]!, Math.max(program.lower[d]!, total > 0 ? Math.max(1, useful) : 0));
}

/**
 * A quick certificate that no shares fit: under prices p the cheapest way to serve everything costs more than the
 * replicas are worth (the easy half of LP duality). Says nothing when it returns false.
 */
function surelyTooFew(program: Program, replicas: readonly number[]): boolean {
  if (program.unservedLimit > 0) return false;
  const { bucketCount, deploymentCount, work, capacity } = program;
  for (let mask = 1; mask < 1 << deploymentCount; mask++) {
    let needed = 0;
    let offered = 0;
    for (let d = 0; d < deploymentCount; d++) if (mask & (1 << d)) offered += capacity[d]! * replicas[d]!;
    for (let b = 0; b < bucketCount; b++) {
      let least = Infinity;
      for (let d = 0; d < deploymentCount; d++) {
        const at = work[b * deploymentCount + d]!;
        least = Math.min(least, Number.isFinite(at) ? (mask & (1 << d) ? at : 0) : Infinity);
      }
      needed += least;
    }
    if (needed > offered * (1 + 1e-6) + 1e-12 && needed > 1e-6) return true;
  }
  return false;
}

/** A fraction in lowest terms with a positive denominator. */
type Fraction = { readonly top: bigint; readonly bottom: bigint };

const zero: Fraction = { top: 0n, bottom: 1n };
const one: Fraction = { top: 1n, bottom: 1n };

function fraction(top: bigint, bottom: bigint): Fraction {
  if (top === 0n) return zero;
  let a = top < 0n ? -top : top;
  let b = bottom;
  while (b !== 0n) [a, b] = [b, a % b];
  return { top: top / a, bottom: bottom / a };
}

const multiply = (a: Fraction, b: Fraction) => fraction(a.top * b.top, a.bottom * b.bottom);
const subtract = (a: Fraction, b: Fraction) => fraction(a.top * b.bottom - b.top * a.bottom, a.bottom * b.bottom);
const divide = (a: Fraction, b: Fraction) =>
  b.top < 0n ? fraction(-a.top * b.bottom, a.bottom * -b.top) : fraction(a.top * b.bottom, a.bottom * b.top);
const isLess = (a: Fraction, b: Fraction) => a.top * b.bottom < b.top * a.bottom;

/** The exact value of a double. */
function exactly(value: number): Fraction {
  let bottom = 1n;
  let scaled = value;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    bottom *= 2n;
  }
  return fraction(BigInt(scaled), bottom);
}

const fullness = fraction(1_000_000_001n, 1_000_000_000n);

/** True where some shares satisfy every row exactly (the capacities and the unserved limit widened by 1e-9). */
export function admitsShares(program: Program, replicas: readonly number[]): boolean {
  const { bucketCount, deploymentCount, work, capacity, rate, unservedLimit } = program;
  const rowCount = bucketCount + deploymentCount + (unservedLimit > 0 ? 1 : 0);
  const columns: Fraction[][] = [];
  const column = (entries: readonly (readonly [number, Fraction])[]) => {
    const dense = new Array<Fraction>(rowCount).fill(zero);
    for (const [row, value] of entries) dense[row] = value;
    columns.push(dense);
  };
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const at = work[b * deploymentCount + d]!;
      if (Number.isFinite(at))
        column([
          [b, one],
          [bucketCount + d, exactly(at)],
        ]);
    }
    if (unservedLimit > 0)
      column([
        [b, one],
        [rowCount - 1, exactly(rate[b]!)],
      ]);
  }
  // Slacks of the capacity rows and of the unserved row start in the basis; so does an artificial of each bucket.
  const slackStart = columns.length;
  for (let row = bucketCount; row < rowCount; row++) column([[row, one]]);
  const artificialStart = columns.length;
  for (let b = 0; b < bucketCount; b++) column([[b, one]]);
  const basis = Array.from({ length: rowCount }, (_, row) =>
    row < bucketCount ? artificialStart + row : slackStart + row - bucketCount,
  );
  const rhs = Array.from({ length: rowCount }, (_, row) => {
    if (row < bucketCount) return one;
    if (row < bucketCount + deploymentCount) {
      const d = row - bucketCount;
      return multiply(fullness, multiply(exactly(capacity[d]!), exactly(replicas[d]!)));
    }
    return multiply(fullness, exactly(unservedLimit));
  });
  const rows = Array.from({ length: rowCount }, (_, row) => [...columns.map((entries) => entries[row]!), rhs[row]!]);
  // Phase 1: minimise the sum of the artificials; the objective row holds reduced costs.
  const width = columns.length + 1;
  let objective = Array.from({ length: width }, (_, j) => {
    if (j >= artificialStart && j < width - 1) return zero;
    let sum = zero;
    for (let b = 0; b < bucketCount; b++) sum = subtract(sum, rows[b]![j]!);
    return sum;
  });
  for (;;) {
    const entering = objective.findIndex((value, j) => j < artificialStart && value.top < 0n);
    if (entering < 0) return objective[width - 1]!.top === 0n;
    let leaving = -1;
    let best = zero;
    for (let row = 0; row < rowCount; row++) {
      const pivot = rows[row]![entering]!;
      if (pivot.top <= 0n) continue;
      const ratio = divide(rows[row]![width - 1]!, pivot);
      if (leaving < 0 || isLess(ratio, best) || (!isLess(best, ratio) && basis[row]! < basis[leaving]!)) {
        leaving = row;
        best = ratio;
      }
    }
    // Every share is bounded by its bucket's row, so phase 1 is never unbounded.
    if (leaving < 0) throw new Error('unbounded phase 1');
    const pivot = rows[leaving]![entering]!;
    const pivotRow = rows[leaving]!.map((value) => divide(value, pivot));
    const eliminate = (row: readonly Fraction[]) => {
      const factor = row[entering]!;
      return factor.top === 0n ? [...row] : row.map((value, j) => subtract(value, multiply(factor, pivotRow[j]!)));
    };
    for (let row = 0; row < rowCount; row++) rows[row] = row === leaving ? pivotRow : eliminate(rows[row]!);
    objective = eliminate(objective);
    basis[leaving] = entering;
  }
}
