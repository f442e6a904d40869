import { WorkingInverse } from './working-inverse.js';

/**
 * The linear program over configurations: each model takes a mix of the replica vectors known for it, within the limits
 * that models share.
 *
 *   minimise   Σ_j cost_j x_j + Σ_r overflowPrice_r t_r
 *   subject to Σ_{j of model m} x_j = 1            every model m
 *              Σ_j use_rj x_j − t_r ≤ limit_r      every limit r
 *              x, t ≥ 0
 *
 * Primal simplex with generalised upper bounds: each model has a *key* configuration, whose part is what its others
 * leave of 1, so the working basis has one column per limit, however many models there are. Configurations can be
 * added between solves, and closed and opened again; the basis goes on from where it was. `prices` are those of the limits.
 */
export class ConfigurationLp {
  /** After `solve`: USD/hour that one more unit of each limit is worth, ≥ 0. */
  readonly prices: Float64Array;
  readonly #modelCount: number;
  readonly #rowCount: number;
  readonly #limits: Float64Array;
  readonly #overflowPrice: Float64Array;
  #count = 0;
  #cost = new Float64Array(256);
  #use: Float64Array;
  #model = new Int32Array(256);
  #isClosed = new Uint8Array(256);
  /** Key of each model; −1 = it has no configuration yet. */
  readonly #key: Int32Array;
  /** Variables of the working basis: slack r → r; overflow r → rowCount + r; configuration j → 2 rowCount + j. */
  readonly #basics: Int32Array;
  /** Model of the configuration at each place; −1 for a slack or an overflow. */
  readonly #placeModel: Int32Array;
  readonly #inverse: WorkingInverse;
  readonly #room: Float64Array;
  readonly #values: Float64Array;
  readonly #left: Float64Array;
  readonly #column: Float64Array;
  readonly #step: Float64Array;
  /** What the parts of closed configurations cost more than their own cost. */
  #closedPenalty = 0;
  #isBegun = false;

  constructor(modelCount: number, limits: Float64Array, overflowPrice: Float64Array) {
    const rowCount = limits.length;
    this.#modelCount = modelCount;
    this.#rowCount = rowCount;
    this.#limits = limits;
    this.#overflowPrice = overflowPrice;
    this.#use = new Float64Array(256 * rowCount);
    this.prices = new Float64Array(rowCount);
    this.#key = new Int32Array(modelCount).fill(-1);
    this.#basics = new Int32Array(rowCount);
    this.#placeModel = new Int32Array(rowCount).fill(-1);
    this.#inverse = new WorkingInverse(rowCount);
    this.#room = new Float64Array(rowCount);
    this.#values = new Float64Array(rowCount);
    this.#left = new Float64Array(rowCount);
    this.#column = new Float64Array(rowCount);
    this.#step = new Float64Array(rowCount);
  }

  /** Adds a configuration; they are numbered in the order in which they come. */
  add(model: number, cost: number, use: ArrayLike<number>): void {
    const j = this.#count++;
    if (j >= this.#cost.length) this.#grow();
    this.#cost[j] = cost;
    this.#model[j] = model;
    for (let r = 0; r < this.#rowCount; r++) this.#use[j * this.#rowCount + r] = use[r]!;
    if (this.#key[model]! < 0) this.#key[model] = j;
  }

  #grow(): void {
    const size = this.#cost.length * 2;
    const larger = <T extends Float64Array | Int32Array | Uint8Array>(from: T, into: T): T => {
      into.set(from);
      return into;
    };
    this.#cost = larger(this.#cost, new Float64Array(size));
    this.#use = larger(this.#use, new Float64Array(size * this.#rowCount));
    this.#model = larger(this.#model, new Int32Array(size));
    this.#isClosed = larger(this.#isClosed, new Uint8Array(size));
  }

  raiseOverflowPrice(row: number, factor: number): void {
    this.#overflowPrice[row] = this.#overflowPrice[row]! * factor;
  }

  /** Closes or opens a configuration: a closed one is not to be used. */
  setClosed(j: number, isClosed: boolean): void {
    this.#isClosed[j] = isClosed ? 1 : 0;
  }

  /**
   * Solves from the current basis.
   *
   * @param closedPenalty what using a closed configuration costs: more than any plan
   * @returns false where the step limit ended it; the prices still are prices
   */
  solve(closedPenalty: number): boolean {
    this.#closedPenalty = closedPenalty;
    if (!this.#isBegun) this.#begin();
    if (!this.#refresh()) this.#begin();
    const limit = 200 + 20 * this.#rowCount + 4 * this.#modelCount;
    let standstill = 0;
    for (let iteration = 0; iteration < limit; iteration++) {
      const entering = this.#entering(standstill > 30 + this.#rowCount);
      if (entering === null) {
        if (this.#inverse.age === 0) return true;
        if (!this.#refresh()) this.#begin();
        continue;
      }
      const moved = this.#enter(entering);
      standstill = moved > 1e-12 ? 0 : standstill + 1;
    }
    return false;
  }

  /** Part of each configuration in the current solution, by its number. */
  parts(): Float64Array {
    const parts = new Float64Array(this.#count);
    for (let m = 0; m < this.#modelCount; m++) if (this.#key[m]! >= 0) parts[this.#key[m]!] = 1;
    for (let i = 0; i < this.#rowCount; i++) {
      const m = this.#placeModel[i]!;
      if (m < 0) continue;
      const j = this.#basics[i]! - 2 * this.#rowCount;
      const value = Math.min(1, Math.max(0, this.#values[i]!));
      parts[j] = parts[j]! + value;
      parts[this.#key[m]!] = parts[this.#key[m]!]! - value;
    }
    return parts;
  }

  /** By how much each limit is overrun. */
  overflow(): Float64Array {
    const over = new Float64Array(this.#rowCount);
    for (let i = 0; i < this.#rowCount; i++) {
      const r = this.#basics[i]! - this.#rowCount;
      if (r >= 0 && r < this.#rowCount) over[r] = Math.max(0, this.#values[i]!);
    }
    return over;
  }

  /** Σ over models of the least priced open configuration − Σ price × limit: a valid bound on the open configurations. */
  boundAtPrices(): number {
    const least = new Float64Array(this.#modelCount).fill(Number.POSITIVE_INFINITY);
    for (let j = 0; j < this.#count; j++) {
      if (this.#isClosed[j] === 1) continue;
      const m = this.#model[j]!;
      const priced = this.#priced(j);
      if (priced < least[m]!) least[m] = priced;
    }
    let bound = 0;
    for (let m = 0; m < this.#modelCount; m++) bound += least[m]!;
    for (let r = 0; r < this.#rowCount; r++) bound -= Math.max(0, this.prices[r]!) * this.#limits[r]!;
    return bound;
  }

  /** Do the current prices prove that no open configurations keep the limits: is what they use worth more than all there is? */
  cannotFit(): boolean {
    const n = this.#rowCount;
    const least = new Float64Array(this.#modelCount).fill(Number.POSITIVE_INFINITY);
    for (let j = 0; j < this.#count; j++) {
      if (this.#isClosed[j] === 1) continue;
      let worth = 0;
      for (let r = 0; r < n; r++) worth += Math.max(0, this.prices[r]!) * this.#use[j * n + r]!;
      least[this.#model[j]!] = Math.min(least[this.#model[j]!]!, worth);
    }
    const used = least.reduce((sum, worth) => sum + worth, 0);
    const there = this.#limits.reduce((sum, limit, r) => sum + Math.max(0, this.prices[r]!) * limit, 0);
    return used > there + 1e-12 * (Math.abs(used) + Math.abs(there));
  }

  /** How much dearer than the least of its model each configuration is at the current prices; 0 for the least. */
  slackOfEach(): Float64Array {
    const least = new Float64Array(this.#modelCount).fill(Number.POSITIVE_INFINITY);
    const slack = new Float64Array(this.#count);
    for (let j = 0; j < this.#count; j++) {
      slack[j] = this.#priced(j);
      if (this.#isClosed[j] === 0) least[this.#model[j]!] = Math.min(least[this.#model[j]!]!, slack[j]!);
    }
    for (let j = 0; j < this.#count; j++) slack[j] = slack[j]! - least[this.#model[j]!]!;
    return slack;
  }

  /** Cost of a configuration with what it uses at the current prices. */
  #priced(j: number): number {
    let priced = this.#cost[j]!;
    for (let r = 0, at = j * this.#rowCount; r < this.#rowCount; r++) {
      priced += Math.max(0, this.prices[r]!) * this.#use[at + r]!;
    }
    return priced;
  }

  #costOf(j: number): number {
    return this.#isClosed[j] === 1 ? this.#cost[j]! + this.#closedPenalty : this.#cost[j]!;
  }

  /** Keys alone, with the slack or the overflow of each limit. */
  #begin(): void {
    this.#isBegun = true;
    this.#computeRoom();
    for (let r = 0; r < this.#rowCount; r++) {
      this.#basics[r] = this.#room[r]! >= 0 ? r : this.#rowCount + r;
      this.#placeModel[r] = -1;
    }
    this.#refresh();
  }

  readonly #writeColumn = (place: number, into: Float64Array, at: number, step: number): void => {
    this.#writeVariable(this.#basics[place]!, into, at, step);
  };

  #writeVariable(variable: number, into: Float64Array, at: number, step: number): void {
    const n = this.#rowCount;
    if (variable < n) into[at + variable * step] = 1;
    else if (variable < 2 * n) into[at + (variable - n) * step] = -1;
    else {
      const j = variable - 2 * n;
      const key = this.#key[this.#model[j]!]!;
      for (let r = 0; r < n; r++) into[at + r * step] = this.#use[j * n + r]! - this.#use[key * n + r]!;
    }
  }

  #refresh(): boolean {
    if (!this.#inverse.invert(this.#writeColumn)) return false;
    this.#computeRoom();
    this.#inverse.multiply(this.#room, this.#values);
    this.#computePrices();
    // What rounding or a changed program made negative: begin again from the keys.
    return this.#values.every((value) => value >= -1e-7 * Math.max(1, Math.abs(value)));
  }

  #computeRoom(): void {
    const n = this.#rowCount;
    this.#room.set(this.#limits);
    for (let m = 0; m < this.#modelCount; m++) {
      const key = this.#key[m]!;
      if (key < 0) continue;
      for (let r = 0; r < n; r++) this.#room[r] = this.#room[r]! - this.#use[key * n + r]!;
    }
  }

  #computePrices(): void {
    const n = this.#rowCount;
    for (let i = 0; i < n; i++) {
      const variable = this.#basics[i]!;
      if (variable < n) this.#left[i] = 0;
      else if (variable < 2 * n) this.#left[i] = -this.#overflowPrice[variable - n]!;
      else {
        const j = variable - 2 * n;
        this.#left[i] = this.#costOf(this.#key[this.#model[j]!]!) - this.#costOf(j);
      }
    }
    this.#inverse.multiplyLeft(this.#left, this.prices);
  }

  /** The variable whose entering lowers the objective most; with `first` the first that lowers it at all. */
  #entering(first: boolean): number | null {
    const n = this.#rowCount;
    const { prices } = this;
    let best: number | null = null;
    let most = 0;
    const offer = (variable: number, reduced: number, scale: number): boolean => {
      if (reduced >= -1e-9 * Math.max(1, scale)) return false;
      if (best === null || reduced < most) {
        best = variable;
        most = reduced;
      }
      return first;
    };
    for (let r = 0; r < n; r++) {
      if (offer(r, prices[r]!, 1)) return best;
      if (offer(n + r, this.#overflowPrice[r]! - prices[r]!, this.#overflowPrice[r]!)) return best;
    }
    const keyPriced = new Float64Array(this.#modelCount);
    for (let m = 0; m < this.#modelCount; m++) {
      const key = this.#key[m]!;
      if (key < 0) continue;
      let priced = this.#costOf(key);
      for (let r = 0; r < n; r++) priced += prices[r]! * this.#use[key * n + r]!;
      keyPriced[m] = priced;
    }
    const use = this.#use;
    for (let j = 0, at = 0; j < this.#count; j++, at += n) {
      if (this.#isClosed[j] === 1) continue;
      const key = keyPriced[this.#model[j]!]!;
      let reduced = this.#cost[j]! - key;
      for (let r = 0; r < n; r++) reduced += prices[r]! * use[at + r]!;
      if (reduced < most && offer(2 * n + j, reduced, Math.abs(key))) return best;
    }
    return best;
  }

  /** Lets a variable in as far as all stays at or above 0; returns how far. */
  #enter(entering: number): number {
    const n = this.#rowCount;
    const column = this.#column;
    column.fill(0);
    this.#writeVariable(entering, column, 0, 1);
    this.#inverse.multiply(column, this.#step);
    const own = entering >= 2 * n ? this.#model[entering - 2 * n]! : -1;
    let longest = Number.POSITIVE_INFINITY;
    let place = -1;
    let pivot = 0;
    let keyOf = -1;
    for (let i = 0; i < n; i++) {
      const rate = this.#step[i]!;
      if (rate > 1e-10) {
        const length = Math.max(0, this.#values[i]!) / rate;
        if (length < longest - 1e-12 || (length <= longest + 1e-12 && rate > pivot)) {
          longest = Math.min(longest, length);
          place = i;
          pivot = rate;
        }
      }
    }
    // Keys give way too: those of the models that have something in the basis, and of what enters.
    const seen = new Set<number>();
    if (own >= 0) seen.add(own);
    for (let i = 0; i < n; i++) if (this.#placeModel[i]! >= 0) seen.add(this.#placeModel[i]!);
    for (const m of seen) {
      let part = 1;
      let rate = m === own ? 1 : 0;
      for (let i = 0; i < n; i++) {
        if (this.#placeModel[i] !== m) continue;
        part -= this.#values[i]!;
        rate -= this.#step[i]!;
      }
      if (rate <= 1e-10) continue;
      const length = Math.max(0, part) / rate;
      if (length < longest - 1e-12) {
        longest = length;
        place = -1;
        keyOf = m;
      }
    }
    if (longest === Number.POSITIVE_INFINITY) return 0;
    if (keyOf >= 0 && place < 0) {
      this.#replaceKey(keyOf, entering, own);
      return longest;
    }
    if (this.#inverse.exchange(place, column) === 0 || this.#inverse.age > 60) {
      this.#setBasic(place, entering);
      if (!this.#refresh()) this.#begin();
      return longest;
    }
    this.#setBasic(place, entering);
    this.#inverse.multiply(this.#room, this.#values);
    this.#computePrices();
    return longest;
  }

  #setBasic(place: number, variable: number): void {
    this.#basics[place] = variable;
    this.#placeModel[place] = variable >= 2 * this.#rowCount ? this.#model[variable - 2 * this.#rowCount]! : -1;
  }

  /** The key of a model leaves: what enters takes its place where it can, else a basic configuration of the model does. */
  #replaceKey(m: number, entering: number, own: number): void {
    const n = this.#rowCount;
    let place = -1;
    let most = 0;
    for (let i = 0; i < n; i++) {
      if (this.#placeModel[i] !== m) continue;
      // Where the model itself gets another configuration, the one with the largest part becomes the key.
      const size = m === own ? this.#values[i]! + 1e-6 : Math.abs(this.#step[i]!);
      if (place < 0 || size > most) {
        place = i;
        most = size;
      }
    }
    if (place < 0) this.#key[m] = entering - 2 * n;
    else {
      this.#key[m] = this.#basics[place]! - 2 * n;
      this.#setBasic(place, entering);
    }
    if (!this.#refresh()) this.#begin();
  }
}
