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
 * number of buckets. The basis is refactored at every pivot, which costs less than looking at the arcs once.
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
  /** The pivot limit was reached; the prices still give a valid bound. */
  | 'stalled';

/** Enough to resume from a basis later. */
export type LpBasis = { readonly keys: Uint8Array; readonly basics: Int32Array; readonly atUpper: Uint8Array };

/** Shares that miss a bound by less than this count as within it. */
const shareTolerance = 1e-11;
/** Columns and slacks, relative to their size. */
const relativeTolerance = 1e-11;
/** A pivot smaller than this, relative to its terms, is noise. */
const pivotTolerance = 1e-9;

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
  pivots = 0;
  /** Pivots in a row that moved no price. */
  #standstill = 0;
  /** While true, ties fall to the lowest index (Bland's rule): slower, but it never cycles. */
  #bland = false;

  readonly #work: Float64Array;
  readonly #arcCost: Float64Array | null;
  readonly #vectors: readonly Float64Array[];
  readonly #cost: Float64Array;
  readonly #rhs: Float64Array;
  /** Rows whose arcs are closed (a deployment with no replica serves nothing, however small the work). */
  readonly #closed: Uint8Array;
  readonly #keys: Uint8Array;
  /** Variable of each place of the working basis: slack d → d; column j → rowCount + j; arc (b,d) → rowCount + columnCount + b·rowCount + d. */
  readonly #basics: Int32Array;
  readonly #isBasicArc: Uint8Array;
  readonly #isBasicOther: Uint8Array;
  readonly #atUpper: Uint8Array;
  readonly #matrix: Float64Array;
  readonly #pivotRows: Int32Array;
  readonly #values: Float64Array;
  readonly #row: Float64Array;
  readonly #solved: Float64Array;
  readonly #keyShare: Float64Array;
  #startPrices: ArrayLike<number>;
  #startBasics: ArrayLike<number>;

  constructor(input: ShareLpInput) {
    const { bucketCount, rowCount, columns } = input;
    this.bucketCount = bucketCount;
    this.rowCount = rowCount;
    this.columnCount = columns.length;
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
    this.#isBasicArc = new Uint8Array(bucketCount * rowCount);
    this.#isBasicOther = new Uint8Array(rowCount + columns.length);
    this.#atUpper = new Uint8Array(columns.length);
    this.#matrix = new Float64Array(rowCount * rowCount);
    this.#pivotRows = new Int32Array(rowCount);
    this.#values = new Float64Array(rowCount);
    this.#row = new Float64Array(rowCount);
    this.#solved = new Float64Array(rowCount);
    this.#keyShare = new Float64Array(bucketCount);
    this.#startPrices = new Float64Array(rowCount);
    this.#startBasics = new Int32Array(rowCount).fill(-1);
    this.prices = new Float64Array(rowCount);
    this.ray = new Float64Array(rowCount);
  }

  /**
   * Starts from prices: `basics[d]` is the variable that is basic in row d, a slack (−1) or a column's index. The
   * prices must be those that these basics imply (a column's reduced cost is 0, a slack's price 0); every bucket's
   * key becomes its cheapest arc, which makes the start dual feasible.
   */
  startFrom(prices: ArrayLike<number>, basics: ArrayLike<number>): void {
    this.#startPrices = prices;
    this.#startBasics = basics;
    this.#isBasicArc.fill(0);
    this.#isBasicOther.fill(0);
    for (let d = 0; d < this.rowCount; d++) {
      this.prices[d] = prices[d]!;
      const variable = basics[d]! < 0 ? d : this.rowCount + basics[d]!;
      this.#basics[d] = variable;
      this.#isBasicOther[variable] = 1;
    }
    for (let b = 0; b < this.bucketCount; b++) this.#keys[b] = this.#cheapestArc(b);
    this.#placeNonbasicColumns();
  }

  saveBasis(): LpBasis {
    return { keys: this.#keys.slice(), basics: this.#basics.slice(), atUpper: this.#atUpper.slice() };
  }

  loadBasis(basis: LpBasis): void {
    this.#keys.set(basis.keys);
    this.#isBasicArc.fill(0);
    this.#isBasicOther.fill(0);
    const firstArc = this.rowCount + this.columnCount;
    for (let i = 0; i < this.rowCount; i++) {
      const variable = basis.basics[i]!;
      this.#basics[i] = variable;
      if (variable >= firstArc) this.#isBasicArc[variable - firstArc] = 1;
      else this.#isBasicOther[variable] = 1;
    }
    this.#atUpper.set(basis.atUpper);
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
      this.#computeValues();
      if (cutoff < Number.POSITIVE_INFINITY && this.objective() >= cutoff) return 'cutoff';
      const leaving = this.#chooseLeaving();
      if (leaving < 0) return 'optimal';
      const { place, below } = this.#leavingPlace(leaving);
      if (!this.#pivot(place, below)) return 'infeasible';
      this.pivots++;
      if (!this.#factor()) {
        this.#restart();
        if (!this.#prepare()) return 'infeasible';
      } else this.#computePrices();
    }
    return 'stalled';
  }

  /** Objective of the current basic solution: a lower bound on the optimum, up to rounding. */
  objective(): number {
    let total = 0;
    for (let j = 0; j < this.columnCount; j++) {
      if (this.#isBasicOther[this.rowCount + j] === 0) total += this.#cost[j]! * this.#nonbasicValue(j);
    }
    for (let i = 0; i < this.rowCount; i++) {
      const variable = this.#basics[i]!;
      if (variable >= this.rowCount && variable < this.rowCount + this.columnCount) {
        total += this.#cost[variable - this.rowCount]! * this.#values[i]!;
      }
    }
    if (this.#arcCost !== null) {
      for (let b = 0; b < this.bucketCount; b++) {
        total += this.#arcCost[b * this.rowCount + this.#keys[b]!]! * this.#keyShare[b]!;
      }
      const firstArc = this.rowCount + this.columnCount;
      for (let i = 0; i < this.rowCount; i++) {
        if (this.#basics[i]! >= firstArc) total += this.#arcCost[this.#basics[i]! - firstArc]! * this.#values[i]!;
      }
    }
    return total;
  }

  /** Value of a column in the current basic solution. */
  columnValue(column: number): number {
    for (let i = 0; i < this.rowCount; i++) {
      if (this.#basics[i] === this.rowCount + column) return this.#values[i]!;
    }
    return this.#nonbasicValue(column);
  }

  /** Writes the shares x, bucketCount × rowCount, of the current basic solution; tiny negative noise becomes 0. */
  readShares(into: Float64Array): void {
    into.fill(0);
    for (let b = 0; b < this.bucketCount; b++) {
      into[b * this.rowCount + this.#keys[b]!] = Math.min(1, Math.max(0, this.#keyShare[b]!));
    }
    const firstArc = this.rowCount + this.columnCount;
    for (let i = 0; i < this.rowCount; i++) {
      const arc = this.#basics[i]! - firstArc;
      if (arc >= 0) into[arc] = Math.min(1, Math.max(0, this.#values[i]!));
    }
  }

  /**
   * The certified lower bound D at any prices (negative ones count as 0), from the original data and the current
   * bounds. Closed rows are left out: their arcs do not exist.
   */
  boundAt(prices: Float64Array): number {
    const { rowCount, bucketCount } = this;
    let total = 0;
    const work = this.#work;
    const arcCost = this.#arcCost;
    const p = this.#solved;
    for (let d = 0; d < rowCount; d++)
      p[d] = this.#closed[d] === 1 ? Number.POSITIVE_INFINITY : Math.max(0, prices[d]!);
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      let least = Number.POSITIVE_INFINITY;
      for (let d = 0; d < rowCount; d++) {
        const w = work[at + d]!;
        if (w === Number.POSITIVE_INFINITY) continue;
        const price = p[d]! * w + (arcCost === null ? 0 : arcCost[at + d]!);
        if (price < least) least = price;
      }
      total += least;
    }
    for (let d = 0; d < rowCount; d++) p[d] = Math.max(0, prices[d]!);
    for (let d = 0; d < rowCount; d++) total -= p[d]! * this.#rhs[d]!;
    for (let j = 0; j < this.columnCount; j++) {
      const vector = this.#vectors[j]!;
      let reduced = this.#cost[j]!;
      for (let d = 0; d < rowCount; d++) reduced += p[d]! * vector[d]!;
      total += reduced * (reduced >= 0 ? this.lower[j]! : this.upper[j]!);
    }
    return total;
  }

  /** Prices moved along the ray of an infeasible outcome, where the bound rises without end. */
  pricesAlongRay(scale: number): Float64Array {
    return this.prices.map((price, d) => price + scale * this.ray[d]!);
  }

  /** Σ_b min_d price_d · work_bd, for callers that keep cuts: every feasible column vector must cover it. */
  demandAt(prices: Float64Array): number {
    let total = 0;
    for (let b = 0, at = 0; b < this.bucketCount; b++, at += this.rowCount) {
      let least = Number.POSITIVE_INFINITY;
      for (let d = 0; d < this.rowCount; d++) {
        const w = this.#work[at + d]!;
        if (w === Number.POSITIVE_INFINITY) continue;
        const price = prices[d]! * w;
        if (price < least) least = price;
      }
      total += least;
    }
    return total;
  }

  #nonbasicValue(column: number): number {
    return this.#atUpper[column] === 1 ? this.upper[column]! : this.lower[column]!;
  }

  #cheapestArc(bucket: number): number {
    const at = bucket * this.rowCount;
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let d = 0; d < this.rowCount; d++) {
      const w = this.#work[at + d]!;
      if (w === Number.POSITIVE_INFINITY || this.#closed[d] === 1) continue;
      const price = this.prices[d]! * w + (this.#arcCost === null ? 0 : this.#arcCost[at + d]!);
      if (best < 0 || price < least) {
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

  /** A basis that cannot be used is replaced by the one of `startFrom`. */
  #restart(): void {
    this.startFrom(this.#startPrices, this.#startBasics);
  }

  /**
   * Makes the current basis a dual feasible start after rows were closed or bounds moved: keys leave closed rows, the
   * other keys go to their cheapest arc, nonbasic columns to the side that their reduced cost asks for. False where a
   * bucket has no open row: nothing serves it.
   */
  #prepare(restarted = false): boolean {
    const { rowCount } = this;
    const firstArc = rowCount + this.columnCount;
    // A key on a closed row trades places with a basic arc of its bucket, which changes no price.
    const hasBasicArc = new Uint8Array(this.bucketCount);
    for (let i = 0; i < rowCount; i++) {
      const arc = this.#basics[i]! - firstArc;
      if (arc < 0) continue;
      const bucket = Math.floor(arc / rowCount);
      hasBasicArc[bucket] = 1;
      const key = this.#keys[bucket]!;
      if (this.#closed[key] === 0 || this.#closed[arc % rowCount] === 1) continue;
      this.#isBasicArc[arc] = 0;
      this.#isBasicArc[bucket * rowCount + key] = 1;
      this.#basics[i] = firstArc + bucket * rowCount + key;
      this.#keys[bucket] = arc % rowCount;
    }
    if (!this.#factor()) {
      this.#restart();
      hasBasicArc.fill(0);
      this.#factor();
    }
    this.#computePrices();
    let usable = true;
    for (let d = 0; d < rowCount && usable; d++) usable = this.prices[d]! >= -1e-9 * this.#priceScale(this.prices);
    for (let b = 0; b < this.bucketCount; b++) {
      const row = this.#cheapestArc(b);
      if (this.#closed[row] === 1) return false;
      if (hasBasicArc[b] === 0) this.#keys[b] = row;
      else if (usable) usable = this.#closed[this.#keys[b]!] === 0 && !this.#isCheaper(b, row, this.#keys[b]!);
    }
    if (!usable && !restarted) {
      // Rows that were closed when this basis was made are open now, or the reverse: start over.
      this.#restart();
      return this.#prepare(true);
    }
    this.#placeNonbasicColumns();
    return true;
  }

  /** Is one arc of a bucket cheaper than another, beyond rounding? */
  #isCheaper(bucket: number, row: number, than: number): boolean {
    const at = bucket * this.rowCount;
    const cost = this.#arcCost;
    const price = this.prices[row]! * this.#work[at + row]! + (cost === null ? 0 : cost[at + row]!);
    const other = this.prices[than]! * this.#work[at + than]! + (cost === null ? 0 : cost[at + than]!);
    return price < other - 1e-9 * Math.abs(other);
  }

  /** Column of a basic variable in the working basis, written at place `i` of the matrix (column-major by place). */
  #writeColumn(place: number): void {
    const { rowCount } = this;
    const matrix = this.#matrix;
    const variable = this.#basics[place]!;
    for (let d = 0; d < rowCount; d++) matrix[d * rowCount + place] = 0;
    if (variable < rowCount) {
      matrix[variable * rowCount + place] = 1;
    } else if (variable < rowCount + this.columnCount) {
      const vector = this.#vectors[variable - rowCount]!;
      for (let d = 0; d < rowCount; d++) matrix[d * rowCount + place] = vector[d]!;
    } else {
      const arc = variable - rowCount - this.columnCount;
      const bucket = Math.floor(arc / rowCount);
      const row = arc % rowCount;
      const key = this.#keys[bucket]!;
      matrix[row * rowCount + place] = this.#work[arc]!;
      matrix[key * rowCount + place] = matrix[key * rowCount + place]! - this.#work[bucket * rowCount + key]!;
    }
  }

  /** LU factors of the working basis with row pivoting, in place. False where it is singular. */
  #factor(): boolean {
    const n = this.rowCount;
    const m = this.#matrix;
    for (let i = 0; i < n; i++) this.#writeColumn(i);
    for (let i = 0; i < n; i++) this.#pivotRows[i] = i;
    for (let k = 0; k < n; k++) {
      let best = -1;
      let size = 0;
      for (let i = k; i < n; i++) {
        const candidate = Math.abs(m[i * n + k]!);
        if (candidate > size) {
          size = candidate;
          best = i;
        }
      }
      if (best < 0 || !(size > 1e-300)) return false;
      if (best !== k) {
        for (let j = 0; j < n; j++) {
          const swap = m[k * n + j]!;
          m[k * n + j] = m[best * n + j]!;
          m[best * n + j] = swap;
        }
        const swap = this.#pivotRows[k]!;
        this.#pivotRows[k] = this.#pivotRows[best]!;
        this.#pivotRows[best] = swap;
      }
      const inverse = 1 / m[k * n + k]!;
      for (let i = k + 1; i < n; i++) {
        const head = m[i * n + k]!;
        if (head === 0) continue;
        const factor = head * inverse;
        m[i * n + k] = factor;
        for (let j = k + 1; j < n; j++) m[i * n + j] = m[i * n + j]! - factor * m[k * n + j]!;
      }
    }
    return true;
  }

  /** Solves W v = right into `into`. */
  #solveColumn(right: Float64Array, into: Float64Array): void {
    const n = this.rowCount;
    const m = this.#matrix;
    for (let i = 0; i < n; i++) {
      let sum = right[this.#pivotRows[i]!]!;
      for (let j = 0; j < i; j++) sum -= m[i * n + j]! * into[j]!;
      into[i] = sum;
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = into[i]!;
      for (let j = i + 1; j < n; j++) sum -= m[i * n + j]! * into[j]!;
      into[i] = sum / m[i * n + i]!;
    }
  }

  /** Solves Wᵀ v = right into `into`; `right` is overwritten. */
  #solveRow(right: Float64Array, into: Float64Array): void {
    const n = this.rowCount;
    const m = this.#matrix;
    for (let i = 0; i < n; i++) {
      let sum = right[i]!;
      for (let j = 0; j < i; j++) sum -= m[j * n + i]! * right[j]!;
      right[i] = sum / m[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = right[i]!;
      for (let j = i + 1; j < n; j++) sum -= m[j * n + i]! * right[j]!;
      right[i] = sum;
    }
    for (let i = 0; i < n; i++) into[this.#pivotRows[i]!] = right[i]!;
  }

  #computePrices(): void {
    const { rowCount } = this;
    const firstArc = rowCount + this.columnCount;
    const right = this.#row;
    for (let i = 0; i < rowCount; i++) {
      const variable = this.#basics[i]!;
      if (variable < rowCount) right[i] = 0;
      else if (variable < firstArc) right[i] = -this.#cost[variable - rowCount]!;
      else if (this.#arcCost === null) right[i] = 0;
      else {
        const arc = variable - firstArc;
        const bucket = Math.floor(arc / rowCount);
        right[i] = this.#arcCost[bucket * rowCount + this.#keys[bucket]!]! - this.#arcCost[arc]!;
      }
    }
    this.#solveRow(right, this.prices);
  }

  #computeValues(): void {
    const { rowCount, bucketCount } = this;
    const right = this.#row;
    for (let d = 0; d < rowCount; d++) right[d] = this.#rhs[d]!;
    const work = this.#work;
    const keys = this.#keys;
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      const key = keys[b]!;
      right[key] = right[key]! - work[at + key]!;
    }
    for (let j = 0; j < this.columnCount; j++) {
      if (this.#isBasicOther[rowCount + j] === 1) continue;
      const value = this.#nonbasicValue(j);
      if (value === 0) continue;
      const vector = this.#vectors[j]!;
      for (let d = 0; d < rowCount; d++) right[d] = right[d]! - vector[d]! * value;
    }
    this.#solveColumn(right, this.#values);
    this.#keyShare.fill(1);
    const firstArc = rowCount + this.columnCount;
    for (let i = 0; i < rowCount; i++) {
      const arc = this.#basics[i]! - firstArc;
      if (arc < 0) continue;
      const bucket = Math.floor(arc / rowCount);
      this.#keyShare[bucket] = this.#keyShare[bucket]! - this.#values[i]!;
    }
  }

  /**
   * The most violated basic variable: a place of the working basis, or rowCount + b for the key of bucket b; −1 = none.
   */
  #chooseLeaving(): number {
    const { rowCount } = this;
    const firstArc = rowCount + this.columnCount;
    let worst = 0;
    let leaving = -1;
    let lowest = Number.POSITIVE_INFINITY;
    const consider = (place: number, variable: number, violation: number): void => {
      if (!(violation > 0)) return;
      if (this.#bland ? variable < lowest : violation > worst) {
        worst = violation;
        lowest = variable;
        leaving = place;
      }
    };
    for (let i = 0; i < rowCount; i++) {
      const variable = this.#basics[i]!;
      const value = this.#values[i]!;
      if (variable >= firstArc) {
        const arc = variable - firstArc;
        if (value < -shareTolerance) consider(i, variable, -value);
        else if (this.#closed[arc % rowCount] === 1 && value > shareTolerance) consider(i, variable, value);
        const bucket = Math.floor(arc / rowCount);
        const keyShare = this.#keyShare[bucket]!;
        if (keyShare < -shareTolerance) {
          consider(rowCount + bucket, firstArc + bucket * rowCount + this.#keys[bucket]!, -keyShare);
        }
      } else if (variable >= rowCount) {
        const j = variable - rowCount;
        const scale = Math.max(1, Math.abs(value));
        const outside = Math.max(this.lower[j]! - value, value - this.upper[j]!);
        if (outside > relativeTolerance * scale) consider(i, variable, outside / scale);
      } else if (value < 0) {
        const scale = this.#rowScale(variable);
        if (value < -relativeTolerance * scale) consider(i, variable, -value / scale);
      }
    }
    return leaving;
  }

  /** Size of a row's terms: what a slack's violation is measured against. */
  #rowScale(row: number): number {
    let scale = Math.abs(this.#rhs[row]!);
    for (let j = 0; j < this.columnCount; j++) {
      const coefficient = this.#vectors[j]![row]!;
      if (coefficient !== 0)
        scale = Math.max(scale, Math.abs(coefficient) * Math.min(this.upper[j]!, Math.max(1, this.lower[j]!)));
    }
    return scale > 0 ? scale : 1;
  }

  /**
   * The place of the working basis that leaves, and whether it lies below its bound. A leaving key becomes an
   * ordinary basic arc first: another basic arc of its bucket takes over as the key.
   */
  #leavingPlace(leaving: number): { place: number; below: boolean } {
    const { rowCount } = this;
    const firstArc = rowCount + this.columnCount;
    if (leaving < rowCount) {
      const variable = this.#basics[leaving]!;
      const value = this.#values[leaving]!;
      if (variable >= firstArc) return { place: leaving, below: value < 0 };
      if (variable >= rowCount) return { place: leaving, below: value < this.lower[variable - rowCount]! };
      return { place: leaving, below: true };
    }
    const bucket = leaving - rowCount;
    let place = -1;
    let largest = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < rowCount; i++) {
      const arc = this.#basics[i]! - firstArc;
      if (arc < 0 || Math.floor(arc / rowCount) !== bucket) continue;
      // A closed arc with a share is itself what must leave.
      if (this.#closed[arc % rowCount] === 1 && this.#values[i]! > 0) return { place: i, below: false };
      if (this.#values[i]! > largest) {
        largest = this.#values[i]!;
        place = i;
      }
    }
    const oldKey = this.#keys[bucket]!;
    const arc = this.#basics[place]! - firstArc;
    this.#keys[bucket] = arc % rowCount;
    this.#isBasicArc[arc] = 0;
    const leavingArc = bucket * rowCount + oldKey;
    this.#isBasicArc[leavingArc] = 1;
    this.#basics[place] = firstArc + leavingArc;
    this.#factor();
    return { place, below: true };
  }

  /** Exchanges the variable at `place` for the entering one. False where none can enter: infeasible, `ray` is set. */
  #pivot(place: number, below: boolean): boolean {
    const { rowCount, bucketCount } = this;
    const unit = this.#row;
    unit.fill(0);
    unit[place] = 1;
    const u = this.#solved;
    this.#solveRow(unit, u);
    // z_place = const − Σ alpha_j t_j: to rise, a variable at its lower bound needs alpha < 0.
    const sign = below ? -1 : 1;
    const bland = this.#bland;
    let entering = -1;
    let bestRatio = Number.POSITIVE_INFINITY;
    let bestAlpha = 0;
    const consider = (variable: number, alpha: number, reduced: number): void => {
      const size = Math.abs(alpha);
      const ratio = Math.max(0, reduced) / size;
      if (ratio < bestRatio * (1 - 1e-12) || (!bland && ratio <= bestRatio * (1 + 1e-12) && size > bestAlpha)) {
        bestRatio = ratio;
        bestAlpha = size;
        entering = variable;
      }
    };
    for (let d = 0; d < rowCount; d++) {
      if (this.#isBasicOther[d] === 1) continue;
      const alpha = u[d]!;
      if (sign * alpha > pivotTolerance * this.#priceScale(u)) consider(d, alpha, this.prices[d]!);
    }
    for (let j = 0; j < this.columnCount; j++) {
      if (this.#isBasicOther[rowCount + j] === 1) continue;
      if (this.lower[j]! === this.upper[j]!) continue;
      const vector = this.#vectors[j]!;
      let alpha = 0;
      let scale = 0;
      for (let d = 0; d < rowCount; d++) {
        const term = u[d]! * vector[d]!;
        alpha += term;
        scale += Math.abs(term);
      }
      const towards = this.#atUpper[j] === 1 ? -sign : sign;
      if (towards * alpha > pivotTolerance * scale) {
        const reduced = this.#reducedCost(j);
        consider(rowCount + j, alpha, this.#atUpper[j] === 1 ? -reduced : reduced);
      }
    }
    const work = this.#work;
    const arcCost = this.#arcCost;
    const prices = this.prices;
    const closed = this.#closed;
    const firstArc = rowCount + this.columnCount;
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      const key = this.#keys[b]!;
      const keyWork = work[at + key]!;
      const keyTerm = u[key]! * keyWork;
      const keyPrice = prices[key]! * keyWork + (arcCost === null ? 0 : arcCost[at + key]!);
      for (let d = 0; d < rowCount; d++) {
        if (d === key) continue;
        const w = work[at + d]!;
        if (w === Number.POSITIVE_INFINITY) continue;
        const term = u[d]! * w;
        const alpha = term - keyTerm;
        if (!(sign * alpha > 0)) continue;
        if (closed[d] === 1 || this.#isBasicArc[at + d] === 1) continue;
        if (sign * alpha <= pivotTolerance * (Math.abs(term) + Math.abs(keyTerm))) continue;
        const reduced = prices[d]! * w + (arcCost === null ? 0 : arcCost[at + d]!) - keyPrice;
        const size = sign * alpha;
        const ratio = Math.max(reduced, 0) / size;
        if (ratio < bestRatio * (1 - 1e-12) || (!bland && ratio <= bestRatio * (1 + 1e-12) && size > bestAlpha)) {
          bestRatio = ratio;
          bestAlpha = size;
          entering = firstArc + at + d;
        }
      }
    }
    if (entering < 0) {
      // Prices that move along it raise the bound without end (Farkas).
      for (let d = 0; d < rowCount; d++) this.ray[d] = -sign * u[d]!;
      return false;
    }
    this.#standstill = bestRatio > 0 ? 0 : this.#standstill + 1;
    const leavingVariable = this.#basics[place]!;
    if (leavingVariable >= firstArc) this.#isBasicArc[leavingVariable - firstArc] = 0;
    else {
      this.#isBasicOther[leavingVariable] = 0;
      if (leavingVariable >= rowCount) this.#atUpper[leavingVariable - rowCount] = below ? 0 : 1;
    }
    this.#basics[place] = entering;
    if (entering >= firstArc) this.#isBasicArc[entering - firstArc] = 1;
    else this.#isBasicOther[entering] = 1;
    return true;
  }

  #priceScale(u: Float64Array): number {
    let scale = 0;
    for (let d = 0; d < this.rowCount; d++) scale = Math.max(scale, Math.abs(u[d]!));
    return scale;
  }
}
