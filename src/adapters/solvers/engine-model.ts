import type { Program } from '../../optimizer/program.js';
import { fitTolerance, limitTolerance, mayLeave } from './answer-check.js';

/**
 * A program as the mixed-integer linear model that engines are given, in numbers that their tolerances can bear.
 *
 * - Rows are divided so that their coefficients are of ordinary size: works by the capacity, limits on unserved demand by
 *   the limit, shared limits by their largest use. Prices are divided by the dearest replica.
 * - Engines call anything below their tolerances zero (1e-10 is the least that HiGHS takes), so a bucket of 1e-9 replicas
 *   of work would be "served" by no replicas at all, and coefficients near the tolerances lead presolve to dearer answers
 *   that it calls optimal. Raising such works to a floor would change the program. Instead every deployment with small
 *   works gets one more row, Σ_small x ≤ n y, which says in numbers of ordinary size that some replica must be there; and
 *   the very small ones leave the work row. What remains is a relaxation, so its bound holds, and the check of the answer
 *   on the original numbers settles the rest.
 * - A bucket's row is Σ x + z ≥ 1: serving a bucket more than once is never cheaper, engines are faster and more often
 *   right on it than on an equation, and what is too much is dropped when the answer is read, unserved shares first.
 * - Switching needs no whole variable: it is convex, so a part above `current` and a part below, each at its price, do.
 */

/** Works below this get the linking row [replicas]. */
const smallWork = 1e-5;
/** Works below this leave the work row: ten times the integrality tolerance given to HiGHS [replicas]. */
const negligibleWork = 1e-7;

/** A model by columns (CSC): minimise cost·v with rowLower ≤ A v ≤ rowUpper and lower ≤ v ≤ upper. */
export type SparseModel = {
  readonly columnCount: number;
  readonly rowCount: number;
  readonly cost: Float64Array;
  readonly lower: Float64Array;
  readonly upper: Float64Array;
  /** 1 = a whole number. */
  readonly whole: Int32Array;
  /** Entries of column j are those from starts[j] to starts[j + 1]. */
  readonly starts: Int32Array;
  readonly indices: Int32Array;
  readonly values: Float64Array;
  readonly rowLower: Float64Array;
  readonly rowUpper: Float64Array;
};

type ColumnBounds = {
  readonly cost?: number;
  readonly lower?: number;
  /** Default: 1, as for every share. */
  readonly upper?: number;
  readonly whole?: boolean;
};

/** Makes a model: the entries of a column, then the column itself, which takes them. */
export class ModelBuilder {
  readonly #cost: number[] = [];
  readonly #lower: number[] = [];
  readonly #upper: number[] = [];
  readonly #whole: number[] = [];
  readonly #starts: number[] = [0];
  readonly #indices: number[] = [];
  readonly #values: number[] = [];
  readonly #rowLower: number[] = [];
  readonly #rowUpper: number[] = [];

  get rowCount(): number {
    return this.#rowLower.length;
  }

  /** @returns the number of the first of `count` rows */
  rows(count: number, lower: number, upper: number): number {
    const first = this.#rowLower.length;
    for (let i = 0; i < count; i++) {
      this.#rowLower.push(lower);
      this.#rowUpper.push(upper);
    }
    return first;
  }

  entry(row: number, value: number): void {
    if (value === 0) return;
    this.#indices.push(row);
    this.#values.push(value);
  }

  /** @returns its number */
  column({ cost = 0, lower = 0, upper = 1, whole = false }: ColumnBounds): number {
    this.#cost.push(cost);
    this.#lower.push(lower);
    this.#upper.push(upper);
    this.#whole.push(whole ? 1 : 0);
    this.#starts.push(this.#indices.length);
    return this.#cost.length - 1;
  }

  model(): SparseModel {
    return {
      columnCount: this.#cost.length,
      rowCount: this.#rowLower.length,
      cost: Float64Array.from(this.#cost),
      lower: Float64Array.from(this.#lower),
      upper: Float64Array.from(this.#upper),
      whole: Int32Array.from(this.#whole),
      starts: Int32Array.from(this.#starts),
      indices: Int32Array.from(this.#indices),
      values: Float64Array.from(this.#values),
      rowLower: Float64Array.from(this.#rowLower),
      rowUpper: Float64Array.from(this.#rowUpper),
    };
  }
}

/** Where shares and unserved shares stand among the columns; −1 where one does not exist. */
export type ShareColumns = {
  /** bucketCount × deploymentCount. */
  readonly share: Int32Array;
  readonly unserved: Int32Array;
};

export type ProgramModel = {
  /** Columns of the replicas come first, deployment by deployment; so do the rows Σ x + z ≥ 1, bucket by bucket. */
  readonly model: SparseModel;
  readonly columns: ShareColumns;
  /** What the model's objective is multiplied with [USD/hour]. */
  readonly costScale: number;
};

export type ModelOptions = {
  /** Part of each replica that is kept free, by deployment. */
  readonly reserve?: Float64Array;
  /**
   * Asks another question: by how much must shared limits be stretched for any answer to exist? All at once, in units of
   * each one's largest use; above 0 the program is infeasible.
   */
  readonly stretched?: boolean;
};

export function programModel(program: Program, { reserve, stretched = false }: ModelOptions = {}): ProgramModel {
  const { bucketCount, deploymentCount, work, capacity, lower, upper, cost, switching, unservedPrice } = program;
  const costScale = stretched ? 1 : priceScale(program);
  const scaled = (usdPerHour: number): number => (stretched ? 0 : usdPerHour / costScale);
  const smallCount = smallWorkCounts(program);
  const shared = (program.sharedLimits ?? []).flatMap(({ use, limit }) => {
    const largest = use.reduce((most, each) => Math.max(most, each), 0);
    return limit === Number.POSITIVE_INFINITY || largest === 0 ? [] : [{ use, limit, largest }];
  });

  const builder = new ModelBuilder();
  builder.rows(bucketCount, 1, Number.POSITIVE_INFINITY);
  const workRow = builder.rows(deploymentCount, Number.NEGATIVE_INFINITY, 0);
  const linkRow = smallCount.map((count) => (count > 0 ? builder.rows(1, Number.NEGATIVE_INFINITY, 0) : -1));
  const unservedRow = unservedRows(builder, program, 1);
  const sharedRow = shared.map(({ limit, largest }) =>
    builder.rows(1, Number.NEGATIVE_INFINITY, (limit / largest) * (1 + limitTolerance / 2)),
  );
  const switchingRows = (price: Float64Array | undefined, rowFor: (current: number) => number): Int32Array =>
    Int32Array.from({ length: deploymentCount }, (_, d) => {
      const current = switching === undefined ? Number.NaN : switching.current[d]!;
      return price === undefined || price[d] === 0 || Number.isNaN(current) ? -1 : rowFor(current);
    });
  const startRow = switchingRows(switching?.start, (current) => builder.rows(1, Number.NEGATIVE_INFINITY, current));
  const stopRow = switchingRows(switching?.stop, (current) => builder.rows(1, current, Number.POSITIVE_INFINITY));

  for (let d = 0; d < deploymentCount; d++) {
    builder.entry(workRow + d, reserve === undefined ? -1 : reserve[d]! - 1);
    if (linkRow[d]! >= 0) builder.entry(linkRow[d]!, -smallCount[d]!);
    shared.forEach(({ use, largest }, r) => {
      builder.entry(sharedRow[r]!, use[d]! / largest);
    });
    if (startRow[d]! >= 0) builder.entry(startRow[d]!, 1);
    if (stopRow[d]! >= 0) builder.entry(stopRow[d]!, 1);
    builder.column({ cost: scaled(cost[d]!), lower: lower[d]!, upper: upper[d]!, whole: true });
  }
  const columns = shareColumns(builder, program, {
    share: (b, d) => {
      const value = work[b * deploymentCount + d]! / capacity[d]!;
      if (!Number.isFinite(value)) return false;
      if (value >= negligibleWork) builder.entry(workRow + d, value);
      if (value > 0 && value < smallWork) builder.entry(linkRow[d]!, 1);
      return true;
    },
    unservedRow,
    unservedCost: (b) => (unservedPrice === undefined ? 0 : scaled(unservedPrice[b]!)),
  });
  for (let d = 0; d < deploymentCount; d++) {
    for (const [row, direction, price] of [
      [startRow[d]!, -1, switching?.start],
      [stopRow[d]!, 1, switching?.stop],
    ] as const) {
      if (row < 0) continue;
      builder.entry(row, direction);
      builder.column({ cost: scaled(price![d]!), upper: Number.POSITIVE_INFINITY });
    }
  }
  if (stretched) {
    for (const row of sharedRow) builder.entry(row, -1);
    builder.column({ cost: 1, upper: Number.POSITIVE_INFINITY });
  }
  return { model: builder.model(), columns, costScale };
}

/**
 * What prices are divided by: the dearest replica, so that an engine's absolute tolerances mean the same for every
 * currency. Demand that is left unserved may cost a million times more; it must not push replicas into the tolerances,
 * so it counts only where replicas cost nothing.
 */
function priceScale({ cost, switching, unservedPrice }: Program): number {
  const largest = (prices: Float64Array | undefined): number =>
    prices?.reduce((most, each) => Math.max(most, each), 0) ?? 0;
  const ofReplicas = Math.max(largest(cost), largest(switching?.start), largest(switching?.stop));
  return ofReplicas || largest(unservedPrice) || 1;
}

/** How many small works each deployment has. */
function smallWorkCounts({ bucketCount, deploymentCount, work, capacity }: Program): Int32Array {
  const counts = new Int32Array(deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]!;
      if (value > 0 && value / capacity[d]! < smallWork) counts[d]!++;
    }
  }
  return counts;
}

/** The works that leave the work row, summed by deployment, as parts of its capacity. */
export function negligibleWorkOf({ bucketCount, deploymentCount, work, capacity }: Program): Float64Array {
  const sums = new Float64Array(deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]! / capacity[d]!;
      if (value < negligibleWork) sums[d]! += value;
    }
  }
  return sums;
}

/** Limits on unserved demand that are rows: Σ (weight / limit) z ≤ 1. */
function unservedLimitsOf({ rate, unservedLimit, unservedLimits = [] }: Program) {
  return [{ weight: rate, limit: unservedLimit }, ...unservedLimits].filter(
    ({ limit }) => limit > 0 && limit < Number.POSITIVE_INFINITY,
  );
}

/** A row for each limit on unserved demand. @returns the first */
export function unservedRows(builder: ModelBuilder, program: Program, upper: number): number {
  const count = program.unservedLimit > 0 ? unservedLimitsOf(program).length : 0;
  return builder.rows(count, Number.NEGATIVE_INFINITY, upper);
}

/**
 * The columns of x and z, with their entries in the bucket rows (which are the first rows) and in the rows of limits on
 * unserved demand. `share` adds the entries of one x in other rows, or says that there is no such x.
 */
export function shareColumns(
  builder: ModelBuilder,
  program: Program,
  rows: {
    readonly share: (b: number, d: number) => boolean;
    readonly unservedRow: number;
    readonly unservedCost: (b: number) => number;
  },
): ShareColumns {
  const { bucketCount, deploymentCount } = program;
  const share = new Int32Array(bucketCount * deploymentCount).fill(-1);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      if (!rows.share(b, d)) continue;
      builder.entry(b, 1);
      share[b * deploymentCount + d] = builder.column({});
    }
  }
  const unserved = new Int32Array(bucketCount).fill(-1);
  const limits = unservedLimitsOf(program);
  for (let b = 0; b < bucketCount; b++) {
    if (!mayLeave(program, b)) continue;
    builder.entry(b, 1);
    let most = 1;
    limits.forEach(({ weight, limit }, i) => {
      const relative = weight[b]! / limit;
      // A bucket whose rate is above the limit can be left out only in part; the bound keeps its coefficient tame.
      if (relative > 1) most = Math.min(most, (1 + fitTolerance) / relative);
      builder.entry(rows.unservedRow + i, relative);
    });
    unserved[b] = builder.column({ cost: rows.unservedCost(b), upper: most });
  }
  return { share, unserved };
}

/** Shares and unserved shares in an engine's answer, without what serves a bucket more than once. */
export function readShares(
  columns: ShareColumns,
  amountIn: (column: number) => number,
): { readonly shares: Float64Array; readonly unserved: Float64Array } {
  const read = (at: Int32Array): Float64Array => {
    const amounts = new Float64Array(at.length);
    for (let i = 0; i < at.length; i++) if (at[i]! >= 0) amounts[i] = amountIn(at[i]!);
    return amounts;
  };
  const shares = read(columns.share);
  const unserved = read(columns.unserved);
  const width = shares.length / unserved.length;
  unserved.forEach((left, b) => {
    const row = shares.subarray(b * width, (b + 1) * width);
    let served = 0;
    for (const share of row) served += share;
    unserved[b] = Math.max(0, Math.min(left, 1 - served));
    if (served > 1) row.set(row.map((share) => share / served));
  });
  return { shares, unserved };
}
