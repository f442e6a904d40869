import { LineSearch } from './line-search.js';
import { GubBasis, type LpBasis, type LpData } from './lp-basis.js';

export type { LpBasis } from './lp-basis.js';

/**
 * The linear program under every plan: how to share buckets among deployments.
 *
 *   minimise   Σ_j cost_j s_j + Σ_bd arcCost_bd x_bd
 *   subject to Σ_d x_bd = 1                                  every bucket b
 *              Σ_b arcWork_bd x_bd + Σ_j vector_j[d] s_j ≤ rhs_d   every row d
 *              x ≥ 0, lower_j ≤ s_j ≤ upper_j
 *
 * Solved by the dual simplex method with generalised upper bounds (Dantzig and Van Slyke, 1967): each bucket has a
 * *key* row whose share is what the others leave, so the working basis has one column per row (a dozen), whatever the
 * number of buckets. A step is a line search (the long-step rule of Kirillova, Gabasov and Kostyukova, 1979): prices
 * move on past the points where a bucket's cheapest row changes, for as long as the bound still rises, so that
 * thousands of small buckets cost one scan and not a step each. What leaves is the steepest edge, where prices are
 * measured in money: by the work of their rows.
 *
 * The prices p ≥ 0 of the rows give a lower bound that certifies itself, for any p (Lagrange):
 *   D(p) = Σ_b min_d (arcCost_bd + p_d arcWork_bd) − Σ_d p_d rhs_d + Σ_j min over s_j in its box of (cost_j + p·vector_j) s_j
 * so a wrong turn of the simplex can cost time but never a proof: callers prune with D computed afresh. Where many prices
 * tie (types whose works are in proportion) and steps move nothing, the simplex goes on with costs moved apart by 1e-9;
 * shares stay feasible, and D is that of the true costs.
 */

/** A variable that is not a share: whole replicas, a utilisation, the amount left unserved. */
export type LpColumn = {
  /** Coefficient in each row. */
  readonly vector: Float64Array;
  readonly cost: number;
  readonly lower: number;
  /** Finite. */
  readonly upper: number;
};

export type ShareLpInput = {
  readonly bucketCount: number;
  /** At most 65,535: rows are numbered in 16 bits. */
  readonly rowCount: number;
  /** bucketCount × rowCount, row by bucket; Infinity = no such arc. Every bucket has at least one arc. */
  readonly arcWork: Float64Array;
  /** Same shape; absent = all 0. */
  readonly arcCost?: Float64Array;
  readonly columns: readonly LpColumn[];
  readonly rhs: Float64Array;
};

export type LpOutcome =
  /** The current shares are optimal. */
  | 'optimal'
  /** No shares fit; the ray proves it. */
  | 'infeasible'
  /** The objective has reached the cutoff: not worth finishing. */
  | 'cutoff'
  /** The step limit was reached; the prices still give a valid bound. */
  | 'stalled';

/** Shares that miss a bound by less than this count as within it. */
const shareTolerance = 1e-11;
/** Columns and slacks, relative to their size. */
const relativeTolerance = 1e-11;
/** A price that moves by less than this share of the largest move, in money, does not move. */
const negligibleMove = 1e-12;
/** Steps that move no price after which costs are moved apart, and after which the lowest index decides. */
const spreadAfter = 10;
const blandAfter = 20;
/** Steps after which the working basis is inverted afresh. */
const freshAfter = 24;
/** A pivot this small against its column calls for a fresh inverse at once. */
const smallPivot = 1e-6;

export class ShareLp {
  readonly bucketCount: number;
  readonly rowCount: number;
  readonly columnCount: number;
  /** Prices of the rows after `solve`, ≥ 0 up to rounding. */
  readonly prices: Float64Array;
  /** After `infeasible`: adding any multiple of it to the prices raises the bound without end. */
  readonly ray: Float64Array;
  /** Steps since the program was made. */
  pivots = 0;

  readonly #data: LpData;
  readonly #basis: GubBasis;
  readonly #line: LineSearch;
  /** Work of each row in all: how far a price moves is measured in money. */
  readonly #weight: Float64Array;
  /** Size of each row's terms: what a slack's violation is measured against. */
  readonly #rowScale: Float64Array;
  readonly #row: Float64Array;
  readonly #direction: Float64Array;
  #spread: Float64Array | null = null;
  #startPrices: ArrayLike<number>;
  #startBasics: ArrayLike<number>;
  /** Steps in a row that moved no price. */
  #standstill = 0;
  /** While true, ties fall to the lowest index and steps stop at the first breakpoint (Bland's rule): slow, never in a circle. */
  #bland = false;
  /** What `#chooseLeaving` found: a place, or rowCount + b for the key of bucket b; how far outside; how steep. */
  #leaving = -1;
  #violation = 0;
  #merit = 0;
  #lowest = 0;

  constructor(input: ShareLpInput) {
    const { bucketCount, rowCount, columns } = input;
    this.bucketCount = bucketCount;
    this.rowCount = rowCount;
    this.columnCount = columns.length;
    this.#data = {
      bucketCount,
      rowCount,
      columnCount: columns.length,
      work: input.arcWork,
      arcCost: input.arcCost ?? null,
      simplexCost: input.arcCost ?? null,
      vectors: columns.map((column) => column.vector),
      cost: Float64Array.from(columns, (column) => column.cost),
      rhs: input.rhs,
      lower: Float64Array.from(columns, (column) => column.lower),
      upper: Float64Array.from(columns, (column) => column.upper),
      closed: new Uint8Array(rowCount),
    };
    this.#basis = new GubBasis(this.#data);
    this.#line = new LineSearch(this.#data, this.#basis);
    this.prices = this.#basis.prices;
    this.ray = new Float64Array(rowCount);
    this.#weight = rowWork(this.#data);
    this.#rowScale = new Float64Array(rowCount);
    this.#row = new Float64Array(rowCount);
    this.#direction = new Float64Array(rowCount);
    this.#startPrices = new Float64Array(rowCount);
    this.#startBasics = new Int32Array(rowCount).fill(-1);
    this.startFrom(this.#startPrices, this.#startBasics);
  }

  /**
   * Starts from prices: `basics[d]` is the variable that is basic in row d, a slack (−1) or a column's index. The
   * prices must be those that these basics imply (a column's reduced cost is 0, a slack's price 0); every bucket's
   * key becomes its cheapest arc, which makes the start dual feasible.
   */
  startFrom(prices: ArrayLike<number>, basics: ArrayLike<number>): void {
    this.#startPrices = prices;
    this.#startBasics = basics;
    this.#basis.begin(prices, (d) => (basics[d]! < 0 ? d : this.rowCount + basics[d]!));
  }

  /**
   * Starts from any prices ≥ 0, whether or not a basis belongs to them: every row is held at its price by a variable
   * that has to leave, one step each, and every such step raises the bound.
   */
  startAt(prices: ArrayLike<number>): void {
    this.#basis.held.set(prices);
    this.#basis.begin(prices, (d) => this.#basis.firstHold + d);
  }

  saveBasis(): LpBasis {
    return this.#basis.save();
  }

  /** Resumes from a basis that `saveBasis` gave after a solve of a program with the same buckets and rows. */
  loadBasis(basis: LpBasis): void {
    this.#basis.load(basis);
  }

  setBounds(column: number, lower: number, upper: number): void {
    this.#data.lower[column] = lower;
    this.#data.upper[column] = upper;
  }

  /** Changes a column's cost; the basis is not usable until the next start. */
  setCost(column: number, cost: number): void {
    this.#data.cost[column] = cost;
  }

  costOf(column: number): number {
    return this.#data.cost[column]!;
  }

  /** Closes or opens all arcs of a row: a deployment with no replica serves nothing, however small the work. */
  setClosed(row: number, closed: boolean): void {
    this.#data.closed[row] = closed ? 1 : 0;
  }

  /**
   * Dual simplex from the current basis.
   *
   * @param cutoff stops with `cutoff` once the objective is at least this
   */
  solve(cutoff = Number.POSITIVE_INFINITY): LpOutcome {
    const outcome = this.#iterate(cutoff);
    if (this.#data.simplexCost !== this.#data.arcCost) {
      // The basis stays: its shares are as feasible as they were, its prices are those of the true costs.
      this.#data.simplexCost = this.#data.arcCost;
      this.#basis.computePrices();
    }
    return outcome;
  }

  #iterate(cutoff: number): LpOutcome {
    const basis = this.#basis;
    this.ray.fill(0);
    this.#measureRows();
    if (!this.#prepare()) return 'infeasible';
    const limit = 500 + 50 * this.rowCount + 4 * this.bucketCount;
    this.#standstill = 0;
    for (let iteration = 0; iteration < limit; iteration++) {
      if (this.#standstill > spreadAfter && this.#data.simplexCost === this.#data.arcCost) this.#spreadCosts();
      this.#bland = this.#standstill > blandAfter + 4 * this.rowCount;
      if (cutoff < Number.POSITIVE_INFINITY && this.objective() >= cutoff) return 'cutoff';
      const found = this.#chooseLeaving();
      if (!found || !this.#step()) {
        // An end is believed only from a fresh inverse.
        if (basis.inverse.age === 0) return found ? 'infeasible' : 'optimal';
        // A step that failed has moved keys to where no price went.
        if (found ? !this.#prepare() : !basis.refresh() && !this.#restart()) return 'infeasible';
        continue;
      }
      this.pivots++;
      if (basis.inverse.age >= freshAfter) {
        if (!basis.refresh() && !this.#restart()) return 'infeasible';
      } else {
        basis.computePrices();
        basis.computeValues();
      }
    }
    return 'stalled';
  }

  /** Moves the costs of arcs apart, so that steps are no longer of length 0. */
  #spreadCosts(): void {
    this.#spread ??= new Float64Array(this.bucketCount * this.rowCount);
    this.#basis.spread(this.#spread);
    this.#data.simplexCost = this.#spread;
    this.#standstill = 0;
  }

  /** Objective of the current basic solution: a lower bound on the optimum, up to rounding. */
  objective(): number {
    const { rowCount, columnCount, cost, arcCost, bucketCount } = this.#data;
    const { basics, values, isBasicOther, firstHold, firstArc, held, placeBucket, placeRow, keys } = this.#basis;
    let total = 0;
    for (let j = 0; j < columnCount; j++) {
      if (isBasicOther[rowCount + j] === 0) total += cost[j]! * this.#basis.nonbasicValue(j);
    }
    for (let i = 0; i < rowCount; i++) {
      const variable = basics[i]!;
      if (variable < rowCount || variable >= firstArc) continue;
      total += (variable < firstHold ? cost[variable - rowCount]! : -held[variable - firstHold]!) * values[i]!;
    }
    if (arcCost === null) return total;
    for (let b = 0; b < bucketCount; b++) total += arcCost[b * rowCount + keys[b]!]!;
    for (let i = 0; i < rowCount; i++) {
      const bucket = placeBucket[i]!;
      if (bucket < 0) continue;
      const at = bucket * rowCount;
      total += (arcCost[at + placeRow[i]!]! - arcCost[at + keys[bucket]!]!) * values[i]!;
    }
    return total;
  }

  /** Value of a column in the current basic solution. */
  columnValue(column: number): number {
    const { isBasicOther, basics, values } = this.#basis;
    const variable = this.rowCount + column;
    return isBasicOther[variable] === 1 ? values[basics.indexOf(variable)]! : this.#basis.nonbasicValue(column);
  }

  /** Writes the shares x, bucketCount × rowCount, of the current basic solution; tiny negative noise becomes 0. */
  readShares(into: Float64Array): void {
    const { rowCount, bucketCount } = this;
    const { keys, placeBucket, placeRow, values } = this.#basis;
    into.fill(0);
    for (let b = 0; b < bucketCount; b++) into[b * rowCount + keys[b]!] = 1;
    for (let i = 0; i < rowCount; i++) {
      const bucket = placeBucket[i]!;
      if (bucket < 0) continue;
      const at = bucket * rowCount;
      into[at + placeRow[i]!] = Math.min(1, Math.max(0, values[i]!));
      into[at + keys[bucket]!] = Math.min(1, Math.max(0, this.#basis.keyShare(bucket)));
    }
  }

  /**
   * The certified lower bound D at any prices (negative ones count as 0), from the original data and the current
   * bounds. Closed rows are left out: their arcs do not exist.
   */
  boundAt(prices: Float64Array): number {
    const { rowCount, columnCount, closed, vectors, cost, rhs, lower, upper } = this.#data;
    const p = this.#row;
    for (let d = 0; d < rowCount; d++) p[d] = closed[d] === 1 ? Number.POSITIVE_INFINITY : Math.max(0, prices[d]!);
    let total = leastPrices(this.#data, p, true);
    for (let d = 0; d < rowCount; d++) {
      p[d] = Math.max(0, prices[d]!);
      total -= p[d]! * rhs[d]!;
    }
    for (let j = 0; j < columnCount; j++) {
      const vector = vectors[j]!;
      let reduced = cost[j]!;
      for (let d = 0; d < rowCount; d++) reduced += p[d]! * vector[d]!;
      total += reduced * (reduced >= 0 ? lower[j]! : upper[j]!);
    }
    return total;
  }

  /** Prices moved along the ray of an infeasible outcome, where the bound rises without end. */
  pricesAlongRay(scale: number): Float64Array {
    return this.prices.map((price, d) => price + scale * this.ray[d]!);
  }

  /** Σ_b min_d price_d · work_bd, for callers that keep cuts: every feasible column vector must cover it. */
  demandAt(prices: Float64Array): number {
    return leastPrices(this.#data, prices, false);
  }

  #measureRows(): void {
    const { rowCount, columnCount, rhs, vectors, lower, upper } = this.#data;
    for (let d = 0; d < rowCount; d++) {
      let scale = Math.abs(rhs[d]!);
      for (let j = 0; j < columnCount; j++) {
        const size = Math.abs(vectors[j]![d]!);
        if (size > 0) scale = Math.max(scale, size * Math.min(upper[j]!, Math.max(1, lower[j]!)));
      }
      this.#rowScale[d] = scale > 0 ? scale : 1;
    }
  }

  /** Makes the current basis a dual feasible start. False where a bucket has no open row: nothing serves it. */
  #prepare(): boolean {
    const outcome = this.#basis.settle();
    if (outcome !== 'unusable') return outcome === 'settled';
    // Rows that were closed when this basis was made are open now, or the reverse: its prices alone are kept.
    const prices = this.prices.map((price) => Math.max(0, price));
    if (!prices.every(Number.isFinite)) return this.#restart();
    this.startAt(prices);
    return this.#basis.settle() === 'settled';
  }

  /** A basis that cannot be used is replaced by that of `startFrom`. False where a bucket has no open row. */
  #restart(): boolean {
    this.startFrom(this.#startPrices, this.#startBasics);
    return this.#basis.settle() === 'settled';
  }

  /**
   * Finds the basic variable to take out: the one whose leaving raises the bound most steeply, per move of the prices.
   * False where all are within their bounds.
   */
  #chooseLeaving(): boolean {
    const { rowCount } = this;
    const { closed, lower, upper } = this.#data;
    const { basics, values, inverse, firstHold, firstArc, placeBucket, placeRow, keys } = this.#basis;
    const rows = inverse.rows;
    const sum = this.#direction;
    this.#leaving = -1;
    for (let i = 0; i < rowCount; i++) {
      const variable = basics[i]!;
      const value = values[i]!;
      const at = i * rowCount;
      if (variable >= firstArc) {
        if (value < -shareTolerance) this.#offer(i, variable, -value, rows, at);
        else if (value > shareTolerance && closed[placeRow[i]!] === 1) this.#offer(i, variable, value, rows, at);
        const bucket = placeBucket[i]!;
        if (placeBucket.indexOf(bucket) < i) continue;
        const keyShare = this.#basis.keyShare(bucket);
        if (keyShare >= -shareTolerance) continue;
        sum.fill(0);
        for (let k = i; k < rowCount; k++) {
          if (placeBucket[k] !== bucket) continue;
          for (let d = 0; d < rowCount; d++) sum[d] = sum[d]! + rows[k * rowCount + d]!;
        }
        this.#offer(rowCount + bucket, firstArc + bucket * rowCount + keys[bucket]!, -keyShare, sum, 0);
      } else if (variable >= firstHold) {
        const size = Math.abs(value);
        if (size > relativeTolerance * this.#rowScale[variable - firstHold]!) this.#offer(i, variable, size, rows, at);
      } else if (variable >= rowCount) {
        const j = variable - rowCount;
        const outside = Math.max(lower[j]! - value, value - upper[j]!);
        if (outside > relativeTolerance * Math.max(1, Math.abs(value))) this.#offer(i, variable, outside, rows, at);
      } else if (value < -relativeTolerance * this.#rowScale[variable]!) this.#offer(i, variable, -value, rows, at);
    }
    return this.#leaving >= 0;
  }

  /** Considers a variable outside its bounds, whose row of the inverse is `row` from `at`. */
  #offer(place: number, variable: number, violation: number, row: Float64Array, at: number): void {
    let length = 0;
    for (let d = 0; d < this.rowCount; d++) {
      const move = row[at + d]! * this.#weight[d]!;
      length += move * move;
    }
    const merit = (violation * violation) / length;
    if (this.#leaving >= 0 && (this.#bland ? variable > this.#lowest : merit <= this.#merit)) return;
    this.#merit = merit;
    this.#lowest = variable;
    this.#leaving = place;
    this.#violation = violation;
  }

  /**
   * The place of the working basis that leaves, and whether it lies below its bound. A leaving key becomes an
   * ordinary basic arc first: another basic arc of its bucket takes over as the key.
   */
  #leavingPlace(): { place: number; below: boolean } {
    const { rowCount } = this;
    const { basics, values, firstHold, placeBucket, placeRow } = this.#basis;
    const leaving = this.#leaving;
    if (leaving < rowCount) {
      const variable = basics[leaving]!;
      const isColumn = variable >= rowCount && variable < firstHold;
      return { place: leaving, below: values[leaving]! < (isColumn ? this.#data.lower[variable - rowCount]! : 0) };
    }
    const bucket = leaving - rowCount;
    let place = -1;
    let most = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < rowCount; i++) {
      if (placeBucket[i] !== bucket) continue;
      // A closed arc with a share is itself what must leave.
      if (this.#data.closed[placeRow[i]!] === 1 && values[i]! > 0) {
        this.#violation = values[i]!;
        return { place: i, below: false };
      }
      if (values[i]! > most) {
        most = values[i]!;
        place = i;
      }
    }
    this.#basis.tradeKey(place);
    return { place, below: true };
  }

  /**
   * One step: the leaving variable goes to its bound, prices move along the edge that this opens to where the bound
   * stops rising, and what stops it enters. False where nothing does: infeasible, `ray` is set.
   */
  #step(): boolean {
    const { rowCount } = this;
    const basis = this.#basis;
    const { place, below } = this.#leavingPlace();
    const q = this.#direction;
    let longest = 0;
    for (let d = 0; d < rowCount; d++) {
      const entry = basis.inverse.rows[place * rowCount + d]!;
      q[d] = below ? -entry : entry;
      longest = Math.max(longest, Math.abs(entry) * this.#weight[d]!);
    }
    // What cancels in exact arithmetic must not pass for a direction.
    for (let d = 0; d < rowCount; d++) if (Math.abs(q[d]!) * this.#weight[d]! < negligibleMove * longest) q[d] = 0;
    const entering = this.#line.search(q, this.#violation, !this.#bland);
    if (entering < 0) {
      // Prices that move along it raise the bound without end (Farkas).
      for (let d = 0; d < rowCount; d++) this.ray[d] = -q[d]!;
      return false;
    }
    this.#standstill = this.#line.ratio > 0 ? 0 : this.#standstill + 1;
    const column = this.#row;
    column.fill(0);
    basis.writeVariable(entering, column, 0, 1);
    const pivot = basis.inverse.exchange(place, column);
    if (pivot === 0) return false;
    const leaving = basis.basics[place]!;
    basis.takeOut(place);
    if (leaving >= rowCount && leaving < basis.firstHold) {
      const j = leaving - rowCount;
      basis.atUpper[j] = below ? 0 : 1;
      basis.addColumnToRoom(j, -basis.nonbasicValue(j));
    }
    if (entering >= rowCount && entering < basis.firstHold) {
      basis.addColumnToRoom(entering - rowCount, basis.nonbasicValue(entering - rowCount));
    }
    basis.setBasic(place, entering);
    if (pivot < smallPivot) basis.inverse.age = freshAfter;
    return true;
  }
}

/** Σ_b of work on each row; 1 where there is none. */
function rowWork({ bucketCount, rowCount, work }: LpData): Float64Array {
  const total = new Float64Array(rowCount);
  for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
    for (let d = 0; d < rowCount; d++) {
      const w = work[at + d]!;
      if (w < Number.POSITIVE_INFINITY) total[d] = total[d]! + w;
    }
  }
  return total.map((sum) => (sum > 0 ? sum : 1));
}

/** Σ_b min_d (p_d work_bd + arcCost_bd); a price of Infinity closes its row. */
function leastPrices(data: LpData, p: Float64Array, withCosts: boolean): number {
  const { bucketCount, rowCount, work } = data;
  const arcCost = withCosts ? data.arcCost : null;
  let total = 0;
  for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
    let least = Number.POSITIVE_INFINITY;
    // A missing arc never is the least: 0 × Infinity is NaN, and no NaN is less than anything.
    if (arcCost === null) {
      for (let d = 0; d < rowCount; d++) {
        const price = p[d]! * work[at + d]!;
        if (price < least) least = price;
      }
    } else {
      for (let d = 0; d < rowCount; d++) {
        const price = p[d]! * work[at + d]! + arcCost[at + d]!;
        if (price < least) least = price;
      }
    }
    total += least;
  }
  return total;
}
