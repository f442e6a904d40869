import { WorkingInverse } from './working-inverse.js';

/** The numbers of a linear program of shares (see share-lp.ts), and the bounds and closed rows of the moment. */
export type LpData = {
  readonly bucketCount: number;
  readonly rowCount: number;
  readonly columnCount: number;
  /** bucketCount × rowCount, row by bucket; Infinity = no such arc. */
  readonly work: Float64Array;
  readonly arcCost: Float64Array | null;
  /** Arc costs that the simplex works with: `arcCost`, or moved a little apart while it stands still. */
  simplexCost: Float64Array | null;
  readonly vectors: readonly Float64Array[];
  readonly cost: Float64Array;
  readonly rhs: Float64Array;
  /** Bounds of the columns. */
  readonly lower: Float64Array;
  readonly upper: Float64Array;
  /** 1 = the row's arcs are closed. */
  readonly closed: Uint8Array;
};

/** Enough to resume from a basis later. */
export type LpBasis = {
  readonly keys: Uint16Array;
  readonly basics: Int32Array;
  readonly atUpper: Uint8Array;
  readonly closed: Uint8Array;
  /** Prices at which rows are held, null where none is. */
  readonly held: Float64Array | null;
};

/** Prices of two rows for a bucket that agree to this are the same. */
const tieTolerance = 1e-11;

/** By how much costs are moved apart, of the price of a bucket: well above rounding, well below what a plan shows. */
const spreadSize = 1e-9;

/**
 * A basis of the program with generalised upper bounds, and what follows from it: prices, values.
 *
 * Each bucket has a *key* row, whose share is what the bucket's other basic arcs leave of 1. The *working basis* has
 * one place per row. Its variables are numbered: slack d → d; column j → rowCount + j; hold d → firstHold + d (a
 * variable fixed at 0 that gives its row any price); arc (b, d) → firstArc + b·rowCount + d. An arc's column is
 * relative to its bucket's key.
 */
export class GubBasis {
  readonly firstHold: number;
  readonly firstArc: number;
  readonly keys: Uint16Array;
  /** Variable of each place of the working basis. */
  readonly basics: Int32Array;
  /** Bucket and row of the arc at each place; bucket −1 where it is no arc. */
  readonly placeBucket: Int32Array;
  readonly placeRow: Int32Array;
  /** Basic arcs of each bucket, besides its key. */
  readonly basicArcs: Uint16Array;
  readonly isBasicArc: Uint8Array;
  readonly isBasicOther: Uint8Array;
  /** 1 = the nonbasic column is at its upper bound. */
  readonly atUpper: Uint8Array;
  readonly held: Float64Array;
  readonly inverse: WorkingInverse;
  readonly prices: Float64Array;
  readonly values: Float64Array;
  readonly #data: LpData;
  /** What keys and nonbasic columns leave of the right-hand side. */
  readonly #room: Float64Array;
  readonly #row: Float64Array;
  readonly #writeColumn: (place: number, into: Float64Array, at: number, step: number) => void;
  /** Rows that were closed when the keys were last known to be the cheapest; null = the keys are not known to be. */
  #settledClosed: Uint8Array | null = null;

  constructor(data: LpData) {
    const { bucketCount, rowCount, columnCount } = data;
    this.#data = data;
    this.firstHold = rowCount + columnCount;
    this.firstArc = 2 * rowCount + columnCount;
    this.keys = new Uint16Array(bucketCount);
    this.basics = new Int32Array(rowCount);
    this.placeBucket = new Int32Array(rowCount).fill(-1);
    this.placeRow = new Int32Array(rowCount);
    this.basicArcs = new Uint16Array(bucketCount);
    this.isBasicArc = new Uint8Array(bucketCount * rowCount);
    this.isBasicOther = new Uint8Array(this.firstArc);
    this.atUpper = new Uint8Array(columnCount);
    this.held = new Float64Array(rowCount);
    this.inverse = new WorkingInverse(rowCount);
    this.prices = new Float64Array(rowCount);
    this.values = new Float64Array(rowCount);
    this.#room = new Float64Array(rowCount);
    this.#row = new Float64Array(rowCount);
    this.#writeColumn = (place, into, at, step) => this.writeVariable(this.basics[place]!, into, at, step);
  }

  /** A working basis without arcs at given prices; every key becomes the cheapest open arc of its bucket. */
  begin(prices: ArrayLike<number>, basicOf: (row: number) => number): void {
    this.#clear();
    for (let d = 0; d < this.#data.rowCount; d++) {
      this.prices[d] = prices[d]!;
      this.setBasic(d, basicOf(d));
    }
    for (let b = 0; b < this.#data.bucketCount; b++) this.keys[b] = this.#cheapestArc(b);
    this.placeNonbasicColumns();
    this.#settledClosed = this.#data.closed.slice();
  }

  save(): LpBasis {
    const { firstHold, firstArc } = this;
    const holds = this.basics.some((variable) => variable >= firstHold && variable < firstArc);
    return {
      keys: this.keys.slice(),
      basics: this.basics.slice(),
      atUpper: this.atUpper.slice(),
      closed: this.#data.closed.slice(),
      held: holds ? this.held.slice() : null,
    };
  }

  load(basis: LpBasis): void {
    this.#clear();
    this.keys.set(basis.keys);
    for (let i = 0; i < this.#data.rowCount; i++) this.setBasic(i, basis.basics[i]!);
    this.atUpper.set(basis.atUpper);
    if (basis.held !== null) this.held.set(basis.held);
    this.#settledClosed = basis.closed;
  }

  #clear(): void {
    for (let i = 0; i < this.#data.rowCount; i++) {
      const bucket = this.placeBucket[i]!;
      if (bucket < 0) continue;
      this.basicArcs[bucket] = 0;
      this.isBasicArc[bucket * this.#data.rowCount + this.placeRow[i]!] = 0;
      this.placeBucket[i] = -1;
    }
    this.isBasicOther.fill(0);
  }

  /** Puts a variable in a place of the working basis; the one that was there must be out already. */
  setBasic(place: number, variable: number): void {
    this.basics[place] = variable;
    if (variable < this.firstArc) {
      this.isBasicOther[variable] = 1;
      this.placeBucket[place] = -1;
      return;
    }
    const arc = variable - this.firstArc;
    const bucket = (arc / this.#data.rowCount) | 0;
    this.isBasicArc[arc] = 1;
    this.basicArcs[bucket] = this.basicArcs[bucket]! + 1;
    this.placeBucket[place] = bucket;
    this.placeRow[place] = arc - bucket * this.#data.rowCount;
  }

  takeOut(place: number): void {
    const variable = this.basics[place]!;
    if (variable < this.firstArc) {
      this.isBasicOther[variable] = 0;
      return;
    }
    const bucket = this.placeBucket[place]!;
    this.isBasicArc[variable - this.firstArc] = 0;
    this.basicArcs[bucket] = this.basicArcs[bucket]! - 1;
  }

  /** Inverse, prices and values from the basis alone. False where it is singular. */
  refresh(): boolean {
    if (!this.inverse.invert(this.#writeColumn)) return false;
    this.computePrices();
    this.#computeRoom();
    this.computeValues();
    return true;
  }

  /**
   * Makes the basis dual feasible after rows were closed or bounds moved: keys leave closed rows, the other keys go to
   * their cheapest arc, nonbasic columns to the side that their reduced cost asks for.
   *
   * @returns `unusable` where that cannot be had with this working basis, `unserved` where a bucket has no open row
   */
  settle(): 'settled' | 'unusable' | 'unserved' {
    const { rowCount, bucketCount, closed } = this.#data;
    // A key on a closed row trades places with a basic arc of its bucket, which changes no price.
    for (let i = 0; i < rowCount; i++) {
      const bucket = this.placeBucket[i]!;
      if (bucket < 0) continue;
      if (closed[this.keys[bucket]!] === 1 && closed[this.placeRow[i]!] === 0) this.#tradeInBasis(i);
    }
    if (!this.inverse.invert(this.#writeColumn)) return 'unusable';
    this.computePrices();
    let usable = true;
    const noise = 1e-9 * largestSize(this.prices);
    for (let d = 0; d < rowCount && usable; d++) usable = this.prices[d]! >= -noise;
    // Keys that were the cheapest still are where no row was opened, unless their own was closed.
    const settled = this.#settledClosed;
    const known = settled !== null && closed.every((isClosed, d) => isClosed === 1 || settled[d] === 0);
    for (let b = 0; b < bucketCount; b++) {
      const key = this.keys[b]!;
      if (known && closed[key] === 0) continue;
      const row = this.#cheapestArc(b);
      if (closed[row] === 1) {
        this.#settledClosed = null;
        return 'unserved';
      }
      // Among equally cheap rows the bucket stays where it is: that is part of the basis.
      if (row === key || (closed[key] === 0 && !this.#isCheaper(b, row, key))) continue;
      if (this.basicArcs[b] === 0) this.keys[b] = row;
      else usable = false;
    }
    this.#settledClosed = null;
    if (!usable) return 'unusable';
    this.placeNonbasicColumns();
    this.#computeRoom();
    this.computeValues();
    return 'settled';
  }

  /** Puts each nonbasic column at the bound where its reduced cost keeps the basis dual feasible. */
  placeNonbasicColumns(): void {
    const { columnCount, rowCount, cost } = this.#data;
    for (let j = 0; j < columnCount; j++) {
      if (this.isBasicOther[rowCount + j] === 1) continue;
      const reduced = this.reducedCost(j);
      const noise = 1e-13 * Math.abs(cost[j]!);
      if (reduced < -noise) this.atUpper[j] = 1;
      else if (reduced > noise) this.atUpper[j] = 0;
    }
  }

  reducedCost(column: number): number {
    const vector = this.#data.vectors[column]!;
    let reduced = this.#data.cost[column]!;
    for (let d = 0; d < vector.length; d++) reduced += this.prices[d]! * vector[d]!;
    return reduced;
  }

  nonbasicValue(column: number): number {
    return this.atUpper[column] === 1 ? this.#data.upper[column]! : this.#data.lower[column]!;
  }

  keyShare(bucket: number): number {
    let share = 1;
    for (let i = 0; i < this.placeBucket.length; i++) if (this.placeBucket[i] === bucket) share -= this.values[i]!;
    return share;
  }

  /** Price of an arc, its own cost included. */
  arcPrice(bucket: number, row: number): number {
    const { work, simplexCost, rowCount } = this.#data;
    const at = bucket * rowCount + row;
    return this.prices[row]! * work[at]! + (simplexCost === null ? 0 : simplexCost[at]!);
  }

  /**
   * Makes every arc that is not basic a little dearer, each by its own amount: prices stay as they are, and what was a
   * tie no longer is one. The amounts follow from the arcs' numbers, so the same program takes the same way.
   */
  spread(into: Float64Array): void {
    const { bucketCount, rowCount, arcCost } = this.#data;
    let unit = 0;
    for (let b = 0; b < bucketCount; b++) unit += Math.abs(this.arcPrice(b, this.keys[b]!)) / bucketCount;
    if (!(unit > 0)) unit = 1 / bucketCount;
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      const size = spreadSize * Math.max(Math.abs(this.arcPrice(b, this.keys[b]!)), unit * 1e-3);
      for (let d = 0; d < rowCount; d++) {
        const own = arcCost === null ? 0 : arcCost[at + d]!;
        const isBasic = d === this.keys[b] || this.isBasicArc[at + d] === 1;
        // The high bits of a product with the golden ratio's are spread evenly, and no two neighbours are alike.
        const apart = (Math.imul(at + d + 1, 0x9e3779b1) >>> 0) / 2 ** 32;
        into[at + d] = isBasic ? own : own + size * (1 + apart);
      }
    }
  }

  /** The cheapest open arc of a bucket; its key where none is open. */
  #cheapestArc(bucket: number): number {
    const { rowCount, closed, work } = this.#data;
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let d = 0; d < rowCount; d++) {
      const price = this.arcPrice(bucket, d);
      // A row's price may be negative by rounding: an arc that does not exist would be the cheapest of all.
      if (price < least && closed[d] === 0 && work[bucket * rowCount + d]! < Number.POSITIVE_INFINITY) {
        least = price;
        best = d;
      }
    }
    return best < 0 ? this.keys[bucket]! : best;
  }

  /** Is one arc of a bucket cheaper than another, beyond rounding? */
  #isCheaper(bucket: number, row: number, than: number): boolean {
    const other = this.arcPrice(bucket, than);
    return this.arcPrice(bucket, row) < other - tieTolerance * Math.abs(other);
  }

  /** Adds a variable's column to `into[at + d · step]`. */
  writeVariable(variable: number, into: Float64Array, at: number, step: number): void {
    const { rowCount, vectors, work } = this.#data;
    if (variable < rowCount) into[at + variable * step] = 1;
    else if (variable < this.firstHold) {
      const vector = vectors[variable - rowCount]!;
      for (let d = 0; d < rowCount; d++) into[at + d * step] = vector[d]!;
    } else if (variable < this.firstArc) into[at + (variable - this.firstHold) * step] = 1;
    else {
      const arc = variable - this.firstArc;
      const bucket = (arc / rowCount) | 0;
      const row = arc - bucket * rowCount;
      const key = this.keys[bucket]!;
      into[at + row * step] = into[at + row * step]! + work[arc]!;
      into[at + key * step] = into[at + key * step]! - work[bucket * rowCount + key]!;
    }
  }

  computePrices(): void {
    const { rowCount, cost, simplexCost } = this.#data;
    const left = this.#row;
    for (let i = 0; i < rowCount; i++) {
      const variable = this.basics[i]!;
      if (variable < rowCount) left[i] = 0;
      else if (variable < this.firstHold) left[i] = -cost[variable - rowCount]!;
      else if (variable < this.firstArc) left[i] = this.held[variable - this.firstHold]!;
      else if (simplexCost === null) left[i] = 0;
      else {
        const bucket = this.placeBucket[i]!;
        const at = bucket * rowCount;
        left[i] = simplexCost[at + this.keys[bucket]!]! - simplexCost[at + this.placeRow[i]!]!;
      }
    }
    this.inverse.multiplyLeft(left, this.prices);
  }

  computeValues(): void {
    this.inverse.multiply(this.#room, this.values);
  }

  #computeRoom(): void {
    const { rowCount, bucketCount, columnCount, rhs, work } = this.#data;
    const room = this.#room;
    const keys = this.keys;
    room.set(rhs);
    for (let b = 0, at = 0; b < bucketCount; b++, at += rowCount) {
      const key = keys[b]!;
      room[key] = room[key]! - work[at + key]!;
    }
    for (let j = 0; j < columnCount; j++) {
      if (this.isBasicOther[rowCount + j] === 0) this.addColumnToRoom(j, -this.nonbasicValue(j));
    }
  }

  addColumnToRoom(column: number, value: number): void {
    if (value === 0) return;
    const vector = this.#data.vectors[column]!;
    for (let d = 0; d < vector.length; d++) this.#room[d] = this.#room[d]! + vector[d]! * value;
  }

  /** A nonbasic column goes to its other bound. */
  flip(column: number): void {
    this.addColumnToRoom(column, this.nonbasicValue(column));
    this.atUpper[column] = 1 - this.atUpper[column]!;
    this.addColumnToRoom(column, -this.nonbasicValue(column));
  }

  /** Moves the key of a bucket to another row. */
  moveKey(bucket: number, row: number): void {
    const { rowCount, work } = this.#data;
    const at = bucket * rowCount;
    const key = this.keys[bucket]!;
    this.#room[key] = this.#room[key]! + work[at + key]!;
    this.#room[row] = this.#room[row]! - work[at + row]!;
    this.keys[bucket] = row;
  }

  /** The basic arc at a place and its bucket's key change roles: same basis, written differently. */
  tradeKey(place: number): void {
    const { rowCount } = this.#data;
    const bucket = this.placeBucket[place]!;
    const rows = this.inverse.rows;
    const to = place * rowCount;
    for (let i = 0; i < rowCount; i++) {
      if (this.placeBucket[i] !== bucket || i === place) continue;
      for (let d = 0; d < rowCount; d++) rows[to + d] = rows[to + d]! + rows[i * rowCount + d]!;
    }
    for (let d = 0; d < rowCount; d++) rows[to + d] = -rows[to + d]!;
    this.#tradeInBasis(place);
  }

  #tradeInBasis(place: number): void {
    const bucket = this.placeBucket[place]!;
    const key = this.keys[bucket]!;
    this.takeOut(place);
    this.moveKey(bucket, this.placeRow[place]!);
    this.setBasic(place, this.firstArc + bucket * this.#data.rowCount + key);
  }
}

export function largestSize(values: Float64Array): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]!));
  return most;
}
