import { Breakpoints } from './breakpoints.js';
import { WorkingInverse } from './working-inverse.js';

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
 * number of buckets. A step is a line search (the long-step rule of Kirillova, Gabasov and Kostyukova): prices move on
 * past the points where a bucket's cheapest row changes, for as long as the bound still rises, so that thousands of
 * small buckets cost a scan and not a step each. What leaves is the steepest edge, prices weighed by their rows' work.
 *
 * The prices p ≥ 0 of the rows give a lower bound that certifies itself, for any p (Lagrange):
 *   D(p) = Σ_b min_d (arcCost_bd + p_d arcWork_bd) − Σ_d p_d rhs_d + Σ_j min over s_j in its box of (cost_j + p·vector_j) s_j
 * so a wrong turn of the simplex can cost time but never a proof: callers prune with D computed afresh.
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

/** Enough to resume from a basis later. `held`: prices at which rows are held (see `startAt`), null where none is. */
export type LpBasis = {
  readonly keys: Uint8Array;
  readonly basics: Int32Array;
  readonly atUpper: Uint8Array;
  readonly held: Float64Array | null;
};

/** Shares that miss a bound by less than this count as within it. */
const shareTolerance = 1e-11;
/** Columns and slacks, relative to their size. */
const relativeTolerance = 1e-11;
/** A pivot smaller than this, relative to its terms, is noise. */
const pivotTolerance = 1e-9;
/** A price that moves by less than this share of the largest move, in money, does not move. */
const negligibleMove = 1e-12;
/** Prices of two rows for a bucket that agree to this are the same. */
const tieTolerance = 1e-11;
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
  /** Current bounds of the columns; change them with `setBounds`. */
  readonly lower: Float64Array;
  readonly upper: Float64Array;
  /** Steps since the program was made. */
  pivots = 0;

  readonly #work: Float64Array;
  readonly #arcCost: Float64Array | null;
  readonly #vectors: readonly Float64Array[];
  readonly #cost: Float64Array;
  readonly #rhs: Float64Array;
  /** Rows whose arcs are closed (a deployment with no replica serves nothing, however small the work). */
  readonly #closed: Uint8Array;
  readonly #keys: Uint8Array;
  /**
   * Variable of each place of the working basis: slack d → d; column j → rowCount + j; hold d → rowCount + columnCount
   * + d; arc (b, d) → firstArc + b·rowCount + d. A hold is a variable fixed at 0 that gives its row any price.
   */
  readonly #basics: Int32Array;
  readonly #firstHold: number;
  readonly #firstArc: number;
  /** Bucket and row of the arc at each place; bucket −1 where it is no arc. */
  readonly #placeBucket: Int32Array;
  readonly #placeRow: Int32Array;
  /** Basic arcs of each bucket, besides its key. */
  readonly #basicArcs: Uint8Array;
  readonly #isBasicArc: Uint8Array;
  readonly #isBasicOther: Uint8Array;
  readonly #atUpper: Uint8Array;
  readonly #held: Float64Array;
  readonly #inverse: WorkingInverse;
  readonly #writeColumn: (place: number, into: Float64Array, at: number, step: number) => void;
  /** What keys and nonbasic columns leave of the right-hand side. */
  readonly #room: Float64Array;
  readonly #values: Float64Array;
  readonly #row: Float64Array;
  readonly #direction: Float64Array;
  readonly #breakpoints: Breakpoints;
  /** Arc of each free bucket that takes over at its next breakpoint, as a row; bucketCount + j: columns. */
  readonly #next: Uint8Array;
  /** Work of each row in all: how far a price moves is measured in money. */
  readonly #weight: Float64Array;
  /** Size of each row's terms: what a slack's violation is measured against. */
  readonly #rowScale: Float64Array;
  #startPrices: ArrayLike<number>;
  #startBasics: ArrayLike<number>;
  /** Steps in a row that moved no price. */
  #standstill = 0;
  /** While true, ties fall to the lowest index and steps stop at the first breakpoint (Bland's rule): slow, never in a circle. */
  #bland = false;
  /** What `#chooseLeaving` found: a place, or rowCount + b for the key of bucket b; and how far outside it is. */
  #leaving = -1;
  #violation = 0;

  constructor(input: ShareLpInput) {
    const { bucketCount, rowCount, columns } = input;
    this.bucketCount = bucketCount;
    this.rowCount = rowCount;
    this.columnCount = columns.length;
    this.#firstHold = rowCount + columns.length;
    this.#firstArc = 2 * rowCount + columns.length;
    this.#work = input.arcWork;
    this.#arcCost = input.arcCost ?? null;
    this.#vectors = columns.map((column) => column.vector);
    this.#cost = Float64Array.from(columns, (column) => column.cost);
    this.lower = Float64Array.from(columns, (column) => column.lower);
    this.upper = Float64Array.from(columns, (column) => column.upper);
    this.#rhs = input.rhs;
    this.#closed = new Uint8Array(rowCount);
    this.#keys = new Uint8Array(bucketCount);
    this.#basics = new Int32Array(rowCount);
    this.#placeBucket = new Int32Array(rowCount).fill(-1);
    this.#placeRow = new Int32Array(rowCount);
    this.#basicArcs = new Uint8Array(bucketCount);
    this.#isBasicArc = new Uint8Array(bucketCount * rowCount);
    this.#isBasicOther = new Uint8Array(this.#firstArc);
    this.#atUpper = new Uint8Array(columns.length);
    this.#held = new Float64Array(rowCount);
    this.#inverse = new WorkingInverse(rowCount);
    this.#writeColumn = (place, into, at, step) => this.#writeVariable(this.#basics[place]!, into, at, step);
    this.#room = new Float64Array(rowCount);
    this.#values = new Float64Array(rowCount);
    this.#row = new Float64Array(rowCount);
    this.#direction = new Float64Array(rowCount);
    this.#breakpoints = new Breakpoints(bucketCount + columns.length);
    this.#next = new Uint8Array(bucketCount);
    this.#weight = new Float64Array(rowCount);
    this.#rowScale = new Float64Array(rowCount);
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      for (let d = 0; d < rowCount; d++) {
        const w = this.#work[at + d]!;
        if (w < Number.POSITIVE_INFINITY) this.#weight[d] = this.#weight[d]! + w;
      }
    }
    for (let d = 0; d < rowCount; d++) if (!(this.#weight[d]! > 0)) this.#weight[d] = 1;
    this.prices = new Float64Array(rowCount);
    this.ray = new Float64Array(rowCount);
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
    this.#begin(prices, (d) => (basics[d]! < 0 ? d : this.rowCount + basics[d]!));
  }

  /**
   * Starts from any prices ≥ 0, whether or not a basis belongs to them: every row is held at its price by a variable
   * that has to leave, one step each, and every such step raises the bound.
   */
  startAt(prices: ArrayLike<number>): void {
    for (let d = 0; d < this.rowCount; d++) this.#held[d] = prices[d]!;
    this.#begin(prices, (d) => this.#firstHold + d);
  }

  #begin(prices: ArrayLike<number>, basicOf: (row: number) => number): void {
    this.#isBasicArc.fill(0);
    this.#basicArcs.fill(0);
    this.#isBasicOther.fill(0);
    for (let d = 0; d < this.rowCount; d++) {
      this.prices[d] = prices[d]!;
      this.#basics[d] = basicOf(d);
      this.#isBasicOther[this.#basics[d]!] = 1;
      this.#placeBucket[d] = -1;
    }
    for (let b = 0; b < this.bucketCount; b++) this.#keys[b] = this.#cheapestArc(b);
    this.#placeNonbasicColumns();
  }

  saveBasis(): LpBasis {
    const holds = this.#basics.some((variable) => variable >= this.#firstHold && variable < this.#firstArc);
    return {
      keys: this.#keys.slice(),
      basics: this.#basics.slice(),
      atUpper: this.#atUpper.slice(),
      held: holds ? this.#held.slice() : null,
    };
  }

  loadBasis(basis: LpBasis): void {
    this.#keys.set(basis.keys);
    this.#clearBasis();
    for (let i = 0; i < this.rowCount; i++) this.#setBasic(i, basis.basics[i]!);
    this.#atUpper.set(basis.atUpper);
    if (basis.held !== null) this.#held.set(basis.held);
  }

  setBounds(column: number, lower: number, upper: number): void {
    this.lower[column] = lower;
    this.upper[column] = upper;
  }

  costOf(column: number): number {
    return this.#cost[column]!;
  }

  /** Closes or opens all arcs of a row. */
  setClosed(row: number, closed: boolean): void {
    this.#closed[row] = closed ? 1 : 0;
  }

  /**
   * Dual simplex from the current basis.
   *
   * @param cutoff stops with `cutoff` once the objective is at least this
   */
  solve(cutoff = Number.POSITIVE_INFINITY): LpOutcome {
    this.ray.fill(0);
    if (!this.#prepare()) return 'infeasible';
    const limit = 500 + 50 * this.rowCount + 4 * this.bucketCount;
    const patience = 20 + 4 * this.rowCount;
    this.#standstill = 0;
    for (let iteration = 0; iteration < limit; iteration++) {
      this.#bland = this.#standstill > patience;
      if (cutoff < Number.POSITIVE_INFINITY && this.objective() >= cutoff) return 'cutoff';
      const found = this.#chooseLeaving();
      if (!found || !this.#step()) {
        // An end is believed only from a fresh inverse.
        if (this.#inverse.age === 0) return found ? 'infeasible' : 'optimal';
        // A step that failed has moved keys to where no price went.
        if (found ? !this.#prepare() : !this.#refresh() && !this.#restart()) return 'infeasible';
        continue;
      }
      this.pivots++;
      if (this.#inverse.age >= freshAfter) {
        if (!this.#refresh() && !this.#restart()) return 'infeasible';
      } else {
        this.#computePrices();
        this.#inverse.multiply(this.#room, this.#values);
      }
    }
    return 'stalled';
  }

  /** Objective of the current basic solution: a lower bound on the optimum, up to rounding. */
  objective(): number {
    let total = 0;
    const { rowCount } = this;
    for (let j = 0; j < this.columnCount; j++) {
      if (this.#isBasicOther[rowCount + j] === 0) total += this.#cost[j]! * this.#nonbasicValue(j);
    }
    for (let i = 0; i < rowCount; i++) {
      const variable = this.#basics[i]!;
      if (variable >= this.#firstArc || variable < rowCount) continue;
      const cost =
        variable < this.#firstHold ? this.#cost[variable - rowCount]! : -this.#held[variable - this.#firstHold]!;
      total += cost * this.#values[i]!;
    }
    const arcCost = this.#arcCost;
    if (arcCost !== null) {
      for (let b = 0; b < this.bucketCount; b++) total += arcCost[b * rowCount + this.#keys[b]!]!;
      for (let i = 0; i < rowCount; i++) {
        const bucket = this.#placeBucket[i]!;
        if (bucket < 0) continue;
        const at = bucket * rowCount;
        total += (arcCost[at + this.#placeRow[i]!]! - arcCost[at + this.#keys[bucket]!]!) * this.#values[i]!;
      }
    }
    return total;
  }

  /** Value of a column in the current basic solution. */
  columnValue(column: number): number {
    if (this.#isBasicOther[this.rowCount + column] === 1) {
      return this.#values[this.#basics.indexOf(this.rowCount + column)]!;
    }
    return this.#nonbasicValue(column);
  }

  /** Writes the shares x, bucketCount × rowCount, of the current basic solution; tiny negative noise becomes 0. */
  readShares(into: Float64Array): void {
    into.fill(0);
    const { rowCount } = this;
    for (let b = 0; b < this.bucketCount; b++) into[b * rowCount + this.#keys[b]!] = 1;
    for (let i = 0; i < rowCount; i++) {
      const bucket = this.#placeBucket[i]!;
      if (bucket < 0) continue;
      into[bucket * rowCount + this.#placeRow[i]!] = Math.min(1, Math.max(0, this.#values[i]!));
      into[bucket * rowCount + this.#keys[bucket]!] = Math.min(1, Math.max(0, this.#keyShare(bucket)));
    }
  }

  /**
   * The certified lower bound D at any prices (negative ones count as 0), from the original data and the current
   * bounds. Closed rows are left out: their arcs do not exist.
   */
  boundAt(prices: Float64Array): number {
    const { rowCount, bucketCount } = this;
    const p = this.#row;
    for (let d = 0; d < rowCount; d++) {
      p[d] = this.#closed[d] === 1 ? Number.POSITIVE_INFINITY : Math.max(0, prices[d]!);
    }
    let total = this.#leastPrices(p);
    for (let d = 0; d < rowCount; d++) p[d] = Math.max(0, prices[d]!);
    for (let d = 0; d < rowCount; d++) total -= p[d]! * this.#rhs[d]!;
    for (let j = 0; j < this.columnCount; j++) {
      const vector = this.#vectors[j]!;
      let reduced = this.#cost[j]!;
      for (let d = 0; d < rowCount; d++) reduced += p[d]! * vector[d]!;
      total += reduced * (reduced >= 0 ? this.lower[j]! : this.upper[j]!);
    }
    return bucketCount === 0 && Number.isNaN(total) ? 0 : total;
  }

  /** Prices moved along the ray of an infeasible outcome, where the bound rises without end. */
  pricesAlongRay(scale: number): Float64Array {
    return this.prices.map((price, d) => price + scale * this.ray[d]!);
  }

  /** Σ_b min_d price_d · work_bd, for callers that keep cuts: every feasible column vector must cover it. */
  demandAt(prices: Float64Array): number {
    return this.#leastPrices(prices, false);
  }

  /** Σ_b min_d (p_d work_bd + arcCost_bd). A price of Infinity closes its row; no price times a missing arc is less than Infinity. */
  #leastPrices(p: Float64Array, withCost = true): number {
    const { rowCount, bucketCount } = this;
    const work = this.#work;
    const arcCost = withCost ? this.#arcCost : null;
    let total = 0;
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      let least = Number.POSITIVE_INFINITY;
      for (let d = 0; d < rowCount; d++) {
        // 0 × Infinity is NaN, and no NaN is less than anything.
        const price = p[d]! * work[at + d]! + (arcCost === null ? 0 : arcCost[at + d]!);
        if (price < least) least = price;
      }
      total += least;
    }
    return total;
  }

  #nonbasicValue(column: number): number {
    return this.#atUpper[column] === 1 ? this.upper[column]! : this.lower[column]!;
  }

  #keyShare(bucket: number): number {
    let share = 1;
    for (let i = 0; i < this.rowCount; i++) if (this.#placeBucket[i] === bucket) share -= this.#values[i]!;
    return share;
  }

  #cheapestArc(bucket: number): number {
    const at = bucket * this.rowCount;
    const arcCost = this.#arcCost;
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let d = 0; d < this.rowCount; d++) {
      const price = this.prices[d]! * this.#work[at + d]! + (arcCost === null ? 0 : arcCost[at + d]!);
      if (price < least && this.#closed[d] === 0) {
        least = price;
        best = d;
      }
    }
    return best < 0 ? this.#keys[bucket]! : best;
  }

  /** Puts each nonbasic column at the bound where its reduced cost keeps the basis dual feasible. */
  #placeNonbasicColumns(): void {
    for (let j = 0; j < this.columnCount; j++) {
      if (this.#isBasicOther[this.rowCount + j] === 1) continue;
      const reduced = this.#reducedCost(j);
      const noise = 1e-13 * Math.abs(this.#cost[j]!);
      if (reduced < -noise) this.#atUpper[j] = 1;
      else if (reduced > noise) this.#atUpper[j] = 0;
    }
  }

  #reducedCost(column: number): number {
    const vector = this.#vectors[column]!;
    let reduced = this.#cost[column]!;
    for (let d = 0; d < this.rowCount; d++) reduced += this.prices[d]! * vector[d]!;
    return reduced;
  }

  #clearBasis(): void {
    for (let i = 0; i < this.rowCount; i++) {
      const bucket = this.#placeBucket[i]!;
      if (bucket < 0) continue;
      this.#basicArcs[bucket] = 0;
      this.#isBasicArc[bucket * this.rowCount + this.#placeRow[i]!] = 0;
      this.#placeBucket[i] = -1;
    }
    this.#isBasicOther.fill(0);
  }

  /** Puts a variable in a place of the working basis; the one that was there must be out already. */
  #setBasic(place: number, variable: number): void {
    this.#basics[place] = variable;
    if (variable < this.#firstArc) {
      this.#isBasicOther[variable] = 1;
      this.#placeBucket[place] = -1;
      return;
    }
    const arc = variable - this.#firstArc;
    const bucket = (arc / this.rowCount) | 0;
    this.#isBasicArc[arc] = 1;
    this.#basicArcs[bucket] = this.#basicArcs[bucket]! + 1;
    this.#placeBucket[place] = bucket;
    this.#placeRow[place] = arc - bucket * this.rowCount;
  }

  #takeOut(place: number): void {
    const variable = this.#basics[place]!;
    if (variable < this.#firstArc) {
      this.#isBasicOther[variable] = 0;
      return;
    }
    const bucket = this.#placeBucket[place]!;
    this.#isBasicArc[variable - this.#firstArc] = 0;
    this.#basicArcs[bucket] = this.#basicArcs[bucket]! - 1;
  }

  /** A basis that cannot be used is replaced by that of `startFrom`. False where a bucket has no open row. */
  #restart(): boolean {
    this.startFrom(this.#startPrices, this.#startBasics);
    return this.#prepare(true);
  }

  /** Inverse, prices, room and values from the basis alone. False where it is singular. */
  #refresh(): boolean {
    if (!this.#inverse.invert(this.#writeColumn)) return false;
    this.#computePrices();
    this.#computeRoom();
    this.#inverse.multiply(this.#room, this.#values);
    return true;
  }

  /**
   * Makes the current basis a dual feasible start after rows were closed or bounds moved: keys leave closed rows, the
   * other keys go to their cheapest arc, nonbasic columns to the side that their reduced cost asks for. False where a
   * bucket has no open row: nothing serves it.
   */
  #prepare(again = false): boolean {
    const { rowCount } = this;
    // A key on a closed row trades places with a basic arc of its bucket, which changes no price.
    for (let i = 0; i < rowCount; i++) {
      const bucket = this.#placeBucket[i]!;
      if (bucket < 0) continue;
      if (this.#closed[this.#keys[bucket]!] === 0 || this.#closed[this.#placeRow[i]!] === 1) continue;
      this.#tradeKey(i);
    }
    for (let d = 0; d < rowCount; d++) {
      let scale = Math.abs(this.#rhs[d]!);
      for (let j = 0; j < this.columnCount; j++) {
        const coefficient = this.#vectors[j]![d]!;
        if (coefficient !== 0) {
          scale = Math.max(scale, Math.abs(coefficient) * Math.min(this.upper[j]!, Math.max(1, this.lower[j]!)));
        }
      }
      this.#rowScale[d] = scale > 0 ? scale : 1;
    }
    if (!this.#inverse.invert(this.#writeColumn)) return again ? false : this.#restart();
    this.#computePrices();
    let usable = true;
    const noise = 1e-9 * largest(this.prices);
    for (let d = 0; d < rowCount && usable; d++) usable = this.prices[d]! >= -noise;
    for (let b = 0; b < this.bucketCount; b++) {
      const row = this.#cheapestArc(b);
      if (this.#closed[row] === 1) return false;
      // Among equally cheap rows the bucket stays where it is: that is part of the basis.
      if (row === this.#keys[b]) continue;
      const mayStay = this.#closed[this.#keys[b]!] === 0 && !this.#isCheaper(b, row, this.#keys[b]!);
      if (mayStay) continue;
      if (this.#basicArcs[b] === 0) this.#keys[b] = row;
      else usable = false;
    }
    if (!usable && !again) {
      // Rows that were closed when this basis was made are open now, or the reverse: its prices alone are kept.
      const prices = this.prices.map((price) => Math.max(0, price));
      if (!prices.every(Number.isFinite)) return this.#restart();
      this.startAt(prices);
      return this.#prepare(true);
    }
    this.#placeNonbasicColumns();
    this.#computeRoom();
    this.#inverse.multiply(this.#room, this.#values);
    return true;
  }

  /** Is one arc of a bucket cheaper than another, beyond rounding? */
  #isCheaper(bucket: number, row: number, than: number): boolean {
    const at = bucket * this.rowCount;
    const cost = this.#arcCost;
    const price = this.prices[row]! * this.#work[at + row]! + (cost === null ? 0 : cost[at + row]!);
    const other = this.prices[than]! * this.#work[at + than]! + (cost === null ? 0 : cost[at + than]!);
    return price < other - tieTolerance * Math.abs(other);
  }

  /** Adds a variable's column to `into[at + d · step]`; an arc's is relative to its bucket's key. */
  #writeVariable(variable: number, into: Float64Array, at: number, step: number): void {
    const { rowCount } = this;
    if (variable < rowCount) into[at + variable * step] = 1;
    else if (variable < this.#firstHold) {
      const vector = this.#vectors[variable - rowCount]!;
      for (let d = 0; d < rowCount; d++) into[at + d * step] = vector[d]!;
    } else if (variable < this.#firstArc) into[at + (variable - this.#firstHold) * step] = 1;
    else {
      const arc = variable - this.#firstArc;
      const bucket = (arc / rowCount) | 0;
      const row = arc - bucket * rowCount;
      const key = this.#keys[bucket]!;
      into[at + row * step] = into[at + row * step]! + this.#work[arc]!;
      into[at + key * step] = into[at + key * step]! - this.#work[bucket * rowCount + key]!;
    }
  }

  #computePrices(): void {
    const { rowCount } = this;
    const left = this.#row;
    for (let i = 0; i < rowCount; i++) {
      const variable = this.#basics[i]!;
      if (variable < rowCount) left[i] = 0;
      else if (variable < this.#firstHold) left[i] = -this.#cost[variable - rowCount]!;
      else if (variable < this.#firstArc) left[i] = this.#held[variable - this.#firstHold]!;
      else if (this.#arcCost === null) left[i] = 0;
      else {
        const at = this.#placeBucket[i]! * rowCount;
        left[i] = this.#arcCost[at + this.#keys[this.#placeBucket[i]!]!]! - this.#arcCost[at + this.#placeRow[i]!]!;
      }
    }
    this.#inverse.multiplyLeft(left, this.prices);
  }

  #computeRoom(): void {
    const { rowCount, bucketCount } = this;
    const room = this.#room;
    room.set(this.#rhs);
    const work = this.#work;
    const keys = this.#keys;
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      const key = keys[b]!;
      room[key] = room[key]! - work[at + key]!;
    }
    for (let j = 0; j < this.columnCount; j++) {
      if (this.#isBasicOther[rowCount + j] === 0) this.#addColumnToRoom(j, -this.#nonbasicValue(j));
    }
  }

  #addColumnToRoom(column: number, value: number): void {
    if (value === 0) return;
    const vector = this.#vectors[column]!;
    for (let d = 0; d < this.rowCount; d++) this.#room[d] = this.#room[d]! + vector[d]! * value;
  }

  /** Moves the key of a bucket to another row. */
  #moveKey(bucket: number, row: number): void {
    const at = bucket * this.rowCount;
    const key = this.#keys[bucket]!;
    this.#room[key] = this.#room[key]! + this.#work[at + key]!;
    this.#room[row] = this.#room[row]! - this.#work[at + row]!;
    this.#keys[bucket] = row;
  }

  /** The basic arc at a place and its bucket's key change roles: same basis, written differently. */
  #tradeKey(place: number): void {
    const { rowCount } = this;
    const bucket = this.#placeBucket[place]!;
    const key = this.#keys[bucket]!;
    const rows = this.#inverse.rows;
    const to = place * rowCount;
    for (let i = 0; i < rowCount; i++) {
      if (this.#placeBucket[i] !== bucket || i === place) continue;
      for (let d = 0; d < rowCount; d++) rows[to + d] = rows[to + d]! + rows[i * rowCount + d]!;
    }
    for (let d = 0; d < rowCount; d++) rows[to + d] = -rows[to + d]!;
    this.#takeOut(place);
    this.#moveKey(bucket, this.#placeRow[place]!);
    this.#setBasic(place, this.#firstArc + bucket * rowCount + key);
  }

  /**
   * Finds the basic variable to take out: the one whose leaving raises the bound most steeply, per move of the prices.
   * False where all are within their bounds.
   */
  #chooseLeaving(): boolean {
    const { rowCount } = this;
    let best = 0;
    let lowest = Number.POSITIVE_INFINITY;
    this.#leaving = -1;
    const rows = this.#inverse.rows;
    const sum = this.#direction;
    const offer = (place: number, variable: number, violation: number, row: Float64Array, at: number): void => {
      let length = 0;
      for (let d = 0; d < rowCount; d++) {
        const move = row[at + d]! * this.#weight[d]!;
        length += move * move;
      }
      const merit = (violation * violation) / length;
      if (this.#bland ? variable < lowest : merit > best || this.#leaving < 0) {
        best = merit;
        lowest = variable;
        this.#leaving = place;
        this.#violation = violation;
      }
    };
    for (let i = 0; i < rowCount; i++) {
      const variable = this.#basics[i]!;
      const value = this.#values[i]!;
      const at = i * rowCount;
      if (variable >= this.#firstArc) {
        if (value < -shareTolerance) offer(i, variable, -value, rows, at);
        else if (value > shareTolerance && this.#closed[this.#placeRow[i]!] === 1) offer(i, variable, value, rows, at);
        const bucket = this.#placeBucket[i]!;
        if (this.#placeBucket.indexOf(bucket) < i) continue;
        const keyShare = this.#keyShare(bucket);
        if (keyShare >= -shareTolerance) continue;
        sum.fill(0);
        for (let k = i; k < rowCount; k++) {
          if (this.#placeBucket[k] !== bucket) continue;
          for (let d = 0; d < rowCount; d++) sum[d] = sum[d]! + rows[k * rowCount + d]!;
        }
        offer(rowCount + bucket, this.#firstArc + bucket * rowCount + this.#keys[bucket]!, -keyShare, sum, 0);
      } else if (variable >= this.#firstHold) {
        const size = Math.abs(value);
        if (size > relativeTolerance * this.#rowScale[variable - this.#firstHold]!) offer(i, variable, size, rows, at);
      } else if (variable >= rowCount) {
        const j = variable - rowCount;
        const outside = Math.max(this.lower[j]! - value, value - this.upper[j]!);
        if (outside > relativeTolerance * Math.max(1, Math.abs(value))) offer(i, variable, outside, rows, at);
      } else if (value < -relativeTolerance * this.#rowScale[variable]!) offer(i, variable, -value, rows, at);
    }
    return this.#leaving >= 0;
  }

  /**
   * The place of the working basis that leaves, and whether it lies below its bound. A leaving key becomes an
   * ordinary basic arc first: another basic arc of its bucket takes over as the key.
   */
  #leavingPlace(): { place: number; below: boolean } {
    const { rowCount } = this;
    const leaving = this.#leaving;
    if (leaving < rowCount) {
      const variable = this.#basics[leaving]!;
      const value = this.#values[leaving]!;
      const isColumn = variable >= rowCount && variable < this.#firstHold;
      return { place: leaving, below: value < (isColumn ? this.lower[variable - rowCount]! : 0) };
    }
    const bucket = leaving - rowCount;
    let place = -1;
    let most = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < rowCount; i++) {
      if (this.#placeBucket[i] !== bucket) continue;
      // A closed arc with a share is itself what must leave.
      if (this.#closed[this.#placeRow[i]!] === 1 && this.#values[i]! > 0) {
        this.#violation = this.#values[i]!;
        return { place: i, below: false };
      }
      if (this.#values[i]! > most) {
        most = this.#values[i]!;
        place = i;
      }
    }
    this.#tradeKey(place);
    return { place, below: true };
  }

  /**
   * One step: the leaving variable goes to its bound, prices move along the edge that this opens to where the bound
   * stops rising, and what stops it enters. False where nothing does: infeasible, `ray` is set.
   */
  #step(): boolean {
    const { rowCount } = this;
    const { place, below } = this.#leavingPlace();
    // z_place = const − Σ alpha_j t_j: to rise, a variable at its lower bound needs alpha < 0.
    const sign = below ? -1 : 1;
    const q = this.#direction;
    let longest = 0;
    for (let d = 0; d < rowCount; d++) {
      q[d] = sign * this.#inverse.rows[place * rowCount + d]!;
      longest = Math.max(longest, Math.abs(q[d]!) * this.#weight[d]!);
    }
    // What cancels in exact arithmetic must not pass for a direction.
    for (let d = 0; d < rowCount; d++) if (Math.abs(q[d]!) * this.#weight[d]! < negligibleMove * longest) q[d] = 0;
    const entering = this.#search(q);
    if (entering < 0) {
      // Prices that move along it raise the bound without end (Farkas).
      for (let d = 0; d < rowCount; d++) this.ray[d] = -q[d]!;
      return false;
    }
    const column = this.#row;
    column.fill(0);
    this.#writeVariable(entering, column, 0, 1);
    const pivot = this.#inverse.exchange(place, column);
    if (pivot === 0) return false;
    const leaving = this.#basics[place]!;
    this.#takeOut(place);
    if (leaving >= rowCount && leaving < this.#firstHold) {
      const j = leaving - rowCount;
      this.#atUpper[j] = below ? 0 : 1;
      this.#addColumnToRoom(j, -this.#nonbasicValue(j));
    }
    if (entering >= rowCount && entering < this.#firstHold) {
      this.#addColumnToRoom(entering - rowCount, this.#nonbasicValue(entering - rowCount));
    }
    this.#setBasic(place, entering);
    if (pivot < smallPivot) this.#inverse.age = freshAfter;
    return true;
  }

  /**
   * The line search along prices p − t q, t ≥ 0. Free buckets (no basic arc besides the key) let it pass when another
   * row becomes cheapest, boxed columns when their reduced cost changes sign; each takes its part of the slope. It
   * stops where the slope is used up, or at what cannot be passed.
   *
   * @returns the variable that enters, −1 where the bound rises without end
   */
  #search(q: Float64Array): number {
    const { rowCount, bucketCount } = this;
    const work = this.#work;
    const arcCost = this.#arcCost;
    const p = this.prices;
    const closed = this.#closed;
    const keys = this.#keys;
    let slope = this.#bland ? 0 : this.#violation;

    // What cannot be passed: slacks, and arcs of buckets that have basic arcs.
    let blocker = -1;
    let stop = Number.POSITIVE_INFINITY;
    let blockerSize = 0;
    const block = (variable: number, reduced: number, size: number): void => {
      const ratio = Math.max(0, reduced) / size;
      if (ratio < stop * (1 - 1e-12) || (!this.#bland && ratio <= stop * (1 + 1e-12) && size > blockerSize)) {
        stop = ratio;
        blocker = variable;
        blockerSize = size;
      }
    };
    const tiny = pivotTolerance * largest(q);
    for (let d = 0; d < rowCount; d++) {
      if (this.#isBasicOther[d] === 0 && q[d]! > tiny) block(d, p[d]!, q[d]!);
    }
    for (let i = 0; i < rowCount; i++) {
      const bucket = this.#placeBucket[i]!;
      if (bucket < 0) continue;
      const at = bucket * rowCount;
      const key = keys[bucket]!;
      const keyMove = q[key]! * work[at + key]!;
      const keyPrice = p[key]! * work[at + key]! + (arcCost === null ? 0 : arcCost[at + key]!);
      for (let d = 0; d < rowCount; d++) {
        const w = work[at + d]!;
        const move = q[d]! * w;
        if (!(move - keyMove > pivotTolerance * (Math.abs(move) + Math.abs(keyMove)))) continue;
        if (w === Number.POSITIVE_INFINITY || d === key || closed[d] === 1 || this.#isBasicArc[at + d] === 1) continue;
        block(
          this.#firstArc + at + d,
          p[d]! * w + (arcCost === null ? 0 : arcCost[at + d]!) - keyPrice,
          move - keyMove,
        );
      }
    }

    const points = this.#breakpoints;
    points.clear();
    // Nothing beyond `reach` matters: the slope is used up there.
    let reach = stop;
    for (let j = 0; j < this.columnCount; j++) {
      const range = this.upper[j]! - this.lower[j]!;
      if (this.#isBasicOther[rowCount + j] === 1 || !(range > 0)) continue;
      const vector = this.#vectors[j]!;
      let alpha = 0;
      let scale = 0;
      for (let d = 0; d < rowCount; d++) {
        const term = q[d]! * vector[d]!;
        alpha += term;
        scale += Math.abs(term);
      }
      const towards = this.#atUpper[j] === 1 ? -1 : 1;
      if (!(towards * alpha > pivotTolerance * scale)) continue;
      const ratio = Math.max(0, towards * this.#reducedCost(j)) / Math.abs(alpha);
      if (ratio > reach) continue;
      points.add(ratio, bucketCount + j);
      if (Math.abs(alpha) * range >= slope) reach = ratio;
    }
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      if (this.#basicArcs[b] !== 0) continue;
      const ratio = this.#nextOf(b, at, reach);
      if (ratio === Number.POSITIVE_INFINITY) continue;
      points.add(ratio, b);
      const d = this.#next[b]!;
      const key = keys[b]!;
      if (q[d]! * work[at + d]! - q[key]! * work[at + key]! >= slope) reach = ratio;
    }
    points.arrange(reach);

    for (;;) {
      const at = points.firstAt();
      if (blocker >= 0 && stop <= at) return this.#entered(blocker, stop);
      if (points.count === 0) return -1;
      const id = points.firstId();
      const size = this.#sizeOf(id, q);
      slope -= id >= bucketCount ? size * (this.upper[id - bucketCount]! - this.lower[id - bucketCount]!) : size;
      if (slope <= 0) {
        // At a tie the larger pivot enters.
        points.removeFirst();
        const next = points.firstAt();
        const other = !this.#bland && next <= at * (1 + 1e-12) ? points.firstId() : -1;
        const chosen =
          other >= 0 && this.#sizeOf(other, q) > size && other < bucketCount === id < bucketCount ? other : id;
        if (chosen >= bucketCount) return this.#entered(rowCount + chosen - bucketCount, at);
        return this.#entered(this.#firstArc + chosen * rowCount + this.#next[chosen]!, at);
      }
      if (id >= bucketCount) {
        const j = id - bucketCount;
        this.#addColumnToRoom(j, this.#nonbasicValue(j));
        this.#atUpper[j] = 1 - this.#atUpper[j]!;
        this.#addColumnToRoom(j, -this.#nonbasicValue(j));
        points.removeFirst();
      } else {
        this.#moveKey(id, this.#next[id]!);
        const ratio = this.#nextOf(id, id * rowCount, stop);
        if (ratio < Number.POSITIVE_INFINITY) points.moveFirst(Math.max(at, ratio));
        else points.removeFirst();
      }
    }
  }

  #entered(variable: number, ratio: number): number {
    this.#standstill = ratio > 0 ? 0 : this.#standstill + 1;
    return variable;
  }

  /** How fast what lies at a breakpoint moves along q. */
  #sizeOf(id: number, q: Float64Array): number {
    if (id >= this.bucketCount) {
      const vector = this.#vectors[id - this.bucketCount]!;
      let alpha = 0;
      for (let d = 0; d < this.rowCount; d++) alpha += q[d]! * vector[d]!;
      return Math.abs(alpha);
    }
    const at = id * this.rowCount;
    const next = this.#next[id]!;
    const key = this.#keys[id]!;
    return q[next]! * this.#work[at + next]! - q[key]! * this.#work[at + key]!;
  }

  /** Where along p − t q a free bucket's key is overtaken, and by which row (`#next`); Infinity where not before `limit`. */
  #nextOf(bucket: number, at: number, limit: number): number {
    const { rowCount } = this;
    const work = this.#work;
    const arcCost = this.#arcCost;
    const q = this.#direction;
    const p = this.prices;
    const closed = this.#closed;
    const key = this.#keys[bucket]!;
    const keyWork = work[at + key]!;
    const keyMove = q[key]! * keyWork;
    const keyPrice = p[key]! * keyWork + (arcCost === null ? 0 : arcCost[at + key]!);
    let best = limit;
    let bestSize = 0;
    for (let d = 0; d < rowCount; d++) {
      const w = work[at + d]!;
      const move = q[d]! * w;
      const size = move - keyMove;
      if (!(size > 0)) continue;
      const reduced = p[d]! * w + (arcCost === null ? 0 : arcCost[at + d]!) - keyPrice;
      if (reduced > best * size || w === Number.POSITIVE_INFINITY || closed[d] === 1) continue;
      if (size <= pivotTolerance * (Math.abs(move) + Math.abs(keyMove))) continue;
      const ratio = Math.max(0, reduced) / size;
      if (ratio < best || (ratio === best && size > bestSize && !this.#bland) || bestSize === 0) {
        best = ratio;
        bestSize = size;
        this.#next[bucket] = d;
      }
    }
    return bestSize > 0 ? best : Number.POSITIVE_INFINITY;
  }
}

function largest(values: Float64Array): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]!));
  return most;
}
