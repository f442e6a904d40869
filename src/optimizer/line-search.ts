import { Breakpoints } from './breakpoints.js';
import { type GubBasis, type LpData, largestSize } from './lp-basis.js';

/** A pivot smaller than this, relative to its terms, is noise. */
const pivotTolerance = 1e-9;

/** A slope below this share of what it was at the start is used up. */
const slopeTolerance = 1e-12;

/** Ratios that agree to this are a tie. */
const tie = 1e-12;

/**
 * The ratio test of the dual simplex as a line search: prices move along p − t q, t ≥ 0, for as long as the bound rises.
 *
 * Along the line the bound is concave; its slope starts at how far outside the leaving variable is. Free buckets (no
 * basic arc besides the key) let it pass when another row becomes the cheapest, boxed columns when their reduced cost
 * changes sign; each takes its part of the slope. It stops where the slope is used up, or at what cannot be passed:
 * slacks, and arcs of buckets with basic arcs.
 */
export class LineSearch {
  /** Where the last search stopped. */
  ratio = 0;
  readonly #data: LpData;
  readonly #basis: GubBasis;
  readonly #points: Breakpoints;
  /** Row that overtakes the key of a free bucket at its next breakpoint. */
  readonly #next: Uint16Array;
  #q: Float64Array = new Float64Array(0);
  /** Rows along which prices fall, then the others: only falling prices overtake a key whose price does not rise. */
  readonly #rows: Int32Array;
  #falling = 0;
  #blocker = -1;
  #blockerSize = 0;

  constructor(data: LpData, basis: GubBasis) {
    this.#data = data;
    this.#basis = basis;
    this.#points = new Breakpoints(data.bucketCount + data.columnCount);
    this.#next = new Uint16Array(data.bucketCount);
    this.#rows = new Int32Array(data.rowCount);
  }

  /**
   * @param slope rise of the bound per unit of t at the start
   * @param passing false stops at the first breakpoint, ties by the lowest index (Bland's rule)
   * @returns the variable that enters, −1 where the bound rises without end
   */
  search(q: Float64Array, slope: number, passing: boolean): number {
    const { bucketCount, rowCount } = this.#data;
    const basis = this.#basis;
    const points = this.#points;
    this.#q = q;
    this.#sortRows();
    this.#findBlocker(passing);
    const stop = this.#blocker >= 0 ? this.ratio : Number.POSITIVE_INFINITY;
    this.#findBreakpoints(stop, passing ? slope * (1 - slopeTolerance) : 0);

    let left = passing ? slope : 0;
    for (;;) {
      const at = points.firstAt();
      if (this.#blocker >= 0 && stop <= at) {
        this.ratio = stop;
        return this.#blocker;
      }
      if (points.count === 0) return -1;
      const id = points.firstId();
      const size = this.#sizeOf(id);
      left -= size * this.#rangeOf(id);
      if (left <= slopeTolerance * slope) {
        this.ratio = at;
        points.removeFirst();
        // At a tie the larger pivot enters.
        const other = passing && points.firstAt() <= at * (1 + tie) ? points.firstId() : -1;
        const sameKind = other < bucketCount === id < bucketCount;
        const chosen = other >= 0 && sameKind && this.#sizeOf(other) > size ? other : id;
        if (chosen >= bucketCount) return rowCount + chosen - bucketCount;
        return basis.firstArc + chosen * rowCount + this.#next[chosen]!;
      }
      if (id >= bucketCount) {
        basis.flip(id - bucketCount);
        points.removeFirst();
      } else {
        basis.moveKey(id, this.#next[id]!);
        const ratio = this.#nextOf(id, stop);
        if (ratio < Number.POSITIVE_INFINITY) points.moveFirst(Math.max(at, ratio));
        else points.removeFirst();
      }
    }
  }

  #sortRows(): void {
    const { rowCount } = this.#data;
    let count = 0;
    for (let d = 0; d < rowCount; d++) if (this.#q[d]! > 0) this.#rows[count++] = d;
    this.#falling = count;
    for (let d = 0; d < rowCount; d++) if (!(this.#q[d]! > 0)) this.#rows[count++] = d;
  }

  /** The nearest breakpoint that cannot be passed, into `#blocker` and `ratio`. */
  #findBlocker(passing: boolean): void {
    const { rowCount, work, closed } = this.#data;
    const { prices, placeBucket, keys, isBasicArc, isBasicOther, firstArc } = this.#basis;
    const q = this.#q;
    this.#blocker = -1;
    this.ratio = Number.POSITIVE_INFINITY;
    const tiny = pivotTolerance * largestSize(q);
    for (let d = 0; d < rowCount; d++) {
      if (isBasicOther[d] === 0 && q[d]! > tiny) this.#block(d, prices[d]!, q[d]!, passing);
    }
    for (let i = 0; i < rowCount; i++) {
      const bucket = placeBucket[i]!;
      if (bucket < 0) continue;
      const at = bucket * rowCount;
      const key = keys[bucket]!;
      const keyMove = q[key]! * work[at + key]!;
      for (let d = 0; d < rowCount; d++) {
        const w = work[at + d]!;
        const move = q[d]! * w;
        if (!(move - keyMove > pivotTolerance * (Math.abs(move) + Math.abs(keyMove)))) continue;
        if (w === Number.POSITIVE_INFINITY || closed[d] === 1 || isBasicArc[at + d] === 1) continue;
        const reduced = this.#basis.arcPrice(bucket, d) - this.#basis.arcPrice(bucket, key);
        this.#block(firstArc + at + d, reduced, move - keyMove, passing);
      }
    }
  }

  #block(variable: number, reduced: number, size: number, preferLarge: boolean): void {
    const ratio = Math.max(0, reduced) / size;
    if (
      ratio < this.ratio * (1 - tie) ||
      (preferLarge && ratio <= this.ratio * (1 + tie) && size > this.#blockerSize)
    ) {
      this.ratio = ratio;
      this.#blocker = variable;
      this.#blockerSize = size;
    }
  }

  /** Collects breakpoints up to where the slope is surely used up. */
  #findBreakpoints(stop: number, slope: number): void {
    const { bucketCount, rowCount, columnCount, vectors, lower, upper } = this.#data;
    const { basicArcs, isBasicOther, atUpper } = this.#basis;
    const q = this.#q;
    const points = this.#points;
    points.clear();
    let reach = stop;
    for (let j = 0; j < columnCount; j++) {
      if (isBasicOther[rowCount + j] === 1 || !(upper[j]! > lower[j]!)) continue;
      const vector = vectors[j]!;
      let alpha = 0;
      let scale = 0;
      for (let d = 0; d < rowCount; d++) {
        const term = q[d]! * vector[d]!;
        alpha += term;
        scale += Math.abs(term);
      }
      const towards = atUpper[j] === 1 ? -1 : 1;
      if (!(towards * alpha > pivotTolerance * scale)) continue;
      const ratio = Math.max(0, towards * this.#basis.reducedCost(j)) / Math.abs(alpha);
      if (ratio > reach) continue;
      points.add(ratio, bucketCount + j);
      if (Math.abs(alpha) * (upper[j]! - lower[j]!) >= slope) reach = ratio;
    }
    for (let b = 0; b < bucketCount; b++) {
      if (basicArcs[b] !== 0) continue;
      const ratio = this.#nextOf(b, reach);
      if (ratio === Number.POSITIVE_INFINITY) continue;
      points.add(ratio, b);
      if (this.#sizeOf(b) >= slope) reach = ratio;
    }
    points.arrange(reach);
  }

  /** How much of a variable's range lies between its sides of a breakpoint: 1 for a share. */
  #rangeOf(id: number): number {
    const j = id - this.#data.bucketCount;
    return j < 0 ? 1 : this.#data.upper[j]! - this.#data.lower[j]!;
  }

  /** How fast the reduced cost of what lies at a breakpoint moves along the line. */
  #sizeOf(id: number): number {
    const { bucketCount, rowCount, work, vectors } = this.#data;
    const q = this.#q;
    if (id < bucketCount) {
      const at = id * rowCount;
      const next = this.#next[id]!;
      const key = this.#basis.keys[id]!;
      return q[next]! * work[at + next]! - q[key]! * work[at + key]!;
    }
    const vector = vectors[id - bucketCount]!;
    let alpha = 0;
    for (let d = 0; d < rowCount; d++) alpha += q[d]! * vector[d]!;
    return Math.abs(alpha);
  }

  /** Where a free bucket's key is overtaken, and by which row (`#next`); Infinity where not before `limit`. */
  #nextOf(bucket: number, limit: number): number {
    const { rowCount, work, simplexCost, closed } = this.#data;
    const q = this.#q;
    const rows = this.#rows;
    const p = this.#basis.prices;
    const at = bucket * rowCount;
    const key = this.#basis.keys[bucket]!;
    const keyWork = work[at + key]!;
    const keyMove = q[key]! * keyWork;
    const count = keyMove < 0 ? rowCount : this.#falling;
    const keyPrice = p[key]! * keyWork + (simplexCost === null ? 0 : simplexCost[at + key]!);
    let best = limit;
    let bestSize = 0;
    for (let i = 0; i < count; i++) {
      const d = rows[i]!;
      const w = work[at + d]!;
      const move = q[d]! * w;
      const size = move - keyMove;
      if (!(size > 0)) continue;
      const reduced = p[d]! * w + (simplexCost === null ? 0 : simplexCost[at + d]!) - keyPrice;
      if (reduced > best * size || w === Number.POSITIVE_INFINITY || closed[d] === 1) continue;
      if (size <= pivotTolerance * (Math.abs(move) + Math.abs(keyMove))) continue;
      const ratio = Math.max(0, reduced) / size;
      if (bestSize === 0 || ratio < best || (ratio === best && size > bestSize)) {
        best = ratio;
        bestSize = size;
        this.#next[bucket] = d;
      }
    }
    return bestSize > 0 ? best : Number.POSITIVE_INFINITY;
  }
}
