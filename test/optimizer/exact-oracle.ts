import type { Program } from '../../src/optimizer/program.js';

/**
 * The true optimum of a tiny program, in exact arithmetic: every vector of whole replicas, cheapest first, until none can
 * be cheaper than the best that admits shares. Whether one does, and what the demand that it leaves costs, is decided by
 * the primal simplex method on fractions of BigInts with Bland's rule (Bland, 1977), which cannot cycle and cannot round.
 * It shares no code and no method with the solvers it judges.
 *
 * A deployment counts as full up to 1e-9 of its capacity beyond it, as every plan of this project does; so do limits.
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
  const ordered = vectors
    .filter((vector) => keepsSharedLimits(program, vector))
    .map((vector) => ({ vector, cost: costOf(program, vector) }))
    .sort((a, b) => a.cost - b.cost);
  let best: ExactOptimum | 'infeasible' = 'infeasible';
  for (const { vector, cost } of ordered) {
    if (best !== 'infeasible' && cost >= best.cost) break;
    if (surelyTooFew(program, vector)) continue;
    const unserved = leastUnservedCost(program, vector);
    if (unserved === null || (best !== 'infeasible' && cost + unserved >= best.cost)) continue;
    best = { cost: cost + unserved, replicas: Float64Array.from(vector) };
  }
  return best;
}

/** What replicas cost, with switching. */
function costOf({ cost, switching }: Program, vector: readonly number[]): number {
  return vector.reduce((sum, y, d) => {
    const more = switching === undefined ? Number.NaN : y - switching.current[d]!;
    const moved = more > 0 ? switching!.start[d]! * more : more < 0 ? -switching!.stop[d]! * more : 0;
    return sum + y * cost[d]! + moved;
  }, 0);
}

function keepsSharedLimits({ sharedLimits = [] }: Program, vector: readonly number[]): boolean {
  return sharedLimits.every(({ use, limit }) => {
    if (limit === Number.POSITIVE_INFINITY) return true;
    const left = vector.reduce(
      (rest, y, d) => subtract(rest, multiply(exactly(use[d]!), exactly(y))),
      multiply(fullness, exactly(limit)),
    );
    return left.top >= 0n;
  });
}

/** More replicas than all the demand at once would fill are never useful, except that they need not be stopped. */
function largestUseful(program: Program, d: number): number {
  let total = 0;
  for (let b = 0; b < program.bucketCount; b++) {
    const work = program.work[b * program.deploymentCount + d]!;
    if (Number.isFinite(work)) total += work;
  }
  const useful = Math.ceil(total / program.capacity[d]! - 1e-9);
  const current = program.switching?.current[d] ?? Number.NaN;
  const kept = Number.isNaN(current) ? 0 : current;
  return Math.min(program.upper[d]!, Math.max(program.lower[d]!, kept, total > 0 ? Math.max(1, useful) : 0));
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

/** True where some shares satisfy every row exactly (the capacities and the limits widened by 1e-9). */
export function admitsShares(program: Program, replicas: readonly number[]): boolean {
  return leastUnservedCost(program, replicas) !== null;
}

/** The least cost of unserved demand at some replicas, or null where no shares satisfy every row (widened by 1e-9). */
export function leastUnservedCost(program: Program, replicas: readonly number[]): number | null {
  const { bucketCount, deploymentCount, work, capacity, rate, unservedLimit, unservedPrice } = program;
  const limits =
    unservedLimit > 0
      ? [{ weight: rate, limit: unservedLimit }, ...(program.unservedLimits ?? [])].filter(
          ({ limit }) => limit < Number.POSITIVE_INFINITY,
        )
      : [];
  const rowCount = bucketCount + deploymentCount + limits.length;
  const columns: Fraction[][] = [];
  const costs: Fraction[] = [];
  const column = (entries: readonly (readonly [number, Fraction])[], cost = zero) => {
    const dense = new Array<Fraction>(rowCount).fill(zero);
    for (const [row, value] of entries) dense[row] = value;
    columns.push(dense);
    costs.push(cost);
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
      column(
        [[b, one], ...limits.map(({ weight }, i) => [bucketCount + deploymentCount + i, exactly(weight[b]!)] as const)],
        exactly(unservedPrice?.[b] ?? 0),
      );
  }
  // Slacks of the capacity rows and of the limits start in the basis; so does an artificial of each bucket.
  const slackStart = columns.length;
  for (let row = bucketCount; row < rowCount; row++) column([[row, one]]);
  const artificialStart = columns.length;
  for (let b = 0; b < bucketCount; b++) column([[b, one]]);
  const rhs = Array.from({ length: rowCount }, (_, row) => {
    if (row < bucketCount) return one;
    if (row < bucketCount + deploymentCount) {
      const d = row - bucketCount;
      return multiply(fullness, multiply(exactly(capacity[d]!), exactly(replicas[d]!)));
    }
    return multiply(fullness, exactly(limits[row - bucketCount - deploymentCount]!.limit));
  });
  const tableau: Tableau = {
    rows: Array.from({ length: rowCount }, (_, row) => [...columns.map((entries) => entries[row]!), rhs[row]!]),
    basis: Array.from({ length: rowCount }, (_, row) =>
      row < bucketCount ? artificialStart + row : slackStart + row - bucketCount,
    ),
    entering: artificialStart,
  };
  // Phase 1: minimise the sum of the artificials.
  const artificial = minimise(tableau, (j) => (j < artificialStart ? zero : one));
  if (artificial.top !== 0n) return null;
  if (unservedPrice === undefined || unservedLimit === 0) return 0;
  // Artificials that stay in the basis are 0; any pivot in their row takes them out.
  tableau.basis.forEach((variable, row) => {
    if (variable < artificialStart) return;
    const other = tableau.rows[row]!.findIndex((value, j) => j < artificialStart && value.top !== 0n);
    if (other >= 0) pivot(tableau, row, other);
  });
  return nearest(minimise(tableau, (j) => costs[j]!));
}

/** A fraction as a double, to 2^-100; its parts may be too large for one. */
function nearest({ top, bottom }: Fraction): number {
  return Number((top << 100n) / bottom) / 2 ** 100;
}

type Tableau = {
  /** The last entry of a row is its right-hand side. */
  readonly rows: Fraction[][];
  readonly basis: number[];
  /** Only columns below this may enter. */
  readonly entering: number;
};

/** The primal simplex method with Bland's rule from a feasible basis; returns the least objective. */
function minimise(tableau: Tableau, costOf: (j: number) => Fraction): Fraction {
  const { rows, basis, entering } = tableau;
  const last = rows[0]!.length - 1;
  for (;;) {
    const reduced = (j: number) =>
      rows.reduce((sum, row, i) => subtract(sum, multiply(costOf(basis[i]!), row[j]!)), j < last ? costOf(j) : zero);
    let enters = 0;
    while (enters < entering && reduced(enters).top >= 0n) enters++;
    // The reduced cost of the right-hand side is the objective with its sign turned.
    if (enters === entering) return subtract(zero, reduced(last));
    let leaving = -1;
    let best = zero;
    rows.forEach((row, i) => {
      const size = row[enters]!;
      if (size.top <= 0n) return;
      const ratio = divide(row[last]!, size);
      if (leaving < 0 || isLess(ratio, best) || (!isLess(best, ratio) && basis[i]! < basis[leaving]!)) {
        leaving = i;
        best = ratio;
      }
    });
    // Every share is bounded by its bucket's row.
    if (leaving < 0) throw new Error('unbounded');
    pivot(tableau, leaving, enters);
  }
}

function pivot({ rows, basis }: Tableau, leaving: number, enters: number): void {
  const size = rows[leaving]![enters]!;
  const pivotRow = rows[leaving]!.map((value) => divide(value, size));
  rows.forEach((row, i) => {
    const factor = row[enters]!;
    if (i === leaving) rows[i] = pivotRow;
    else if (factor.top !== 0n) rows[i] = row.map((value, j) => subtract(value, multiply(factor, pivotRow[j]!)));
  });
  basis[leaving] = enters;
}
