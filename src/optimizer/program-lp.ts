import { fitTolerance } from './formulate.js';
import type { Program } from './program.js';
import { ShareLp } from './share-lp.js';

/**
 * The linear programs of a `Program`.
 *
 * `fitLp` asks whether shares exist at some whole replicas; `SearchLp` is the relaxation that branch and bound solves at
 * its nodes. Both have a row for every deployment and, where demand may stay unserved, one more whose arcs are the z.
 */

/** The arcs of a program's buckets: a row for every deployment, one for unserved demand where it may be left. */
function arcsOf(program: Program, rowCount: number, mayLeave: boolean): Float64Array {
  const { bucketCount, deploymentCount, work } = program;
  if (rowCount === deploymentCount) return work;
  const arcs = new Float64Array(bucketCount * rowCount).fill(Number.POSITIVE_INFINITY);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) arcs[b * rowCount + d] = work[b * deploymentCount + d]!;
    if (mayLeave) arcs[b * rowCount + deploymentCount] = program.rate[b]!;
  }
  return arcs;
}

/** Columns: y_d for every deployment. What replicas share and what switching costs is not in it. */
export function fitLp(program: Program): ShareLp {
  const { bucketCount, deploymentCount, unservedLimit } = program;
  const mayLeave = unservedLimit > 0;
  const rowCount = deploymentCount + (mayLeave ? 1 : 0);
  const rhs = new Float64Array(rowCount);
  if (mayLeave) rhs[deploymentCount] = Math.min(unservedLimit, totalRate(program));
  const columns = Array.from({ length: deploymentCount }, (_, d) => {
    const vector = new Float64Array(rowCount);
    vector[d] = -program.capacity[d]!;
    return { vector, cost: program.cost[d]!, lower: program.lower[d]!, upper: program.upper[d]! };
  });
  const lp = new ShareLp({ bucketCount, rowCount, arcWork: arcsOf(program, rowCount, mayLeave), columns, rhs });
  // At prices p_d = cost_d / capacity_d every y is basic: without bounds on y that is the optimum. With unserved demand
  // its row starts slack, at price 0.
  const prices = new Float64Array(rowCount);
  const basics = new Int32Array(rowCount).fill(-1);
  for (let d = 0; d < deploymentCount; d++) {
    prices[d] = program.cost[d]! / program.capacity[d]!;
    basics[d] = d;
  }
  lp.startFrom(prices, basics);
  return lp;
}

function totalRate(program: Program): number {
  return program.rate.reduce((sum, rate) => sum + rate, 0);
}

/**
 * Do shares exist that fit in y whole replicas? `impossible` is certified: prices exist at which y cannot pay, and `lp`
 * ends with them. A deployment at zero replicas serves nothing, however small the work.
 *
 * Asked as: what do the shares cost at least, with up to y replicas? Where any fit, no more than y costs. Unlike at
 * replicas that are fixed, where no price is as good an answer as any other, the answer lies next to that of the tree.
 */
export function sharesFit(lp: ShareLp, y: Float64Array): 'fits' | 'impossible' | 'unknown' {
  let cost = 0;
  for (let d = 0; d < y.length; d++) {
    lp.setBounds(d, 0, y[d]!);
    lp.setClosed(d, y[d] === 0);
    cost += lp.costOf(d) * y[d]!;
  }
  const limit = cost * (1 + 1e-9) + 1e-9;
  const outcome = lp.solve(limit * (1 + 1e-9));
  if (outcome === 'optimal') return 'fits';
  if (outcome === 'cutoff') return lp.boundAt(lp.prices) > limit ? 'impossible' : 'unknown';
  if (outcome === 'stalled') return 'unknown';
  for (let scale = 1; scale <= 1e15; scale *= 1e3) {
    const prices = lp.pricesAlongRay(scale);
    if (lp.boundAt(prices) > limit) {
      lp.prices.set(prices);
      return 'impossible';
    }
  }
  return 'unknown';
}

/** A part of the demand that may stay unserved, and what leaving it costs [requests/s, USD/hour per request/s]. */
export type UnservedPiece = { readonly room: number; readonly price: number };

/** What replicas and unserved demand cost. Both are convex: what comes later costs no less. */
export type Costs = {
  /** USD/hour per replica up to `current`, and above it. */
  readonly below: Float64Array;
  readonly above: Float64Array;
  /** Parts in ascending order of their prices; null = what the program lets stay unserved costs nothing. */
  readonly unserved: readonly UnservedPiece[] | null;
  /** What is paid whatever the replicas: makes the cost of `current` come out right [USD/hour]. */
  readonly offset: number;
};

/** What a program's own document says that its replicas cost. */
export function costsOf(program: Program): Costs {
  const { cost, switching } = program;
  return {
    below: cost.map((usd, d) => usd - (hasCurrent(program, d) ? switching!.stop[d]! : 0)),
    above: cost.map((usd, d) => usd + (hasCurrent(program, d) ? switching!.start[d]! : 0)),
    offset: cost.reduce(
      (sum, _, d) => sum + (hasCurrent(program, d) ? switching!.stop[d]! * switching!.current[d]! : 0),
      0,
    ),
    unserved: null,
  };
}

/** What some replicas cost by themselves, switching included [USD/hour]. */
export function replicaCost(program: Program, { below, above, offset }: Costs, y: Float64Array): number {
  let cost = offset;
  for (let d = 0; d < y.length; d++) {
    const kink = hasCurrent(program, d) ? program.switching!.current[d]! : Number.POSITIVE_INFINITY;
    cost += below[d]! * Math.min(y[d]!, kink) + above[d]! * Math.max(0, y[d]! - kink);
  }
  return cost;
}

function hasCurrent({ switching }: Program, d: number): boolean {
  return switching !== undefined && !Number.isNaN(switching.current[d]!);
}

/**
 * The relaxation of a program: y continuous within a box. A deployment whose replicas cost more above `current` than
 * below has two columns, one for each part; the cheaper fills first.
 */
export class SearchLp {
  readonly lp: ShareLp;
  readonly #program: Program;
  /** Replicas up to which `below` counts; Infinity = there is no kink. */
  readonly #kink: Float64Array;
  /** Column of the replicas above the kink; −1 = none. */
  readonly #upperColumn: Int32Array;
  readonly #firstPiece: number;
  /** The same rows and columns as `fitLp`, so that a basis of one is a basis of the other. */
  readonly isPlain: boolean;
  #costs: Costs;

  constructor(program: Program, costs: Costs) {
    const { bucketCount, deploymentCount, sharedLimits = [], switching } = program;
    this.#program = program;
    this.#costs = costs;
    const mayLeave = costs.unserved !== null || program.unservedLimit > 0;
    const firstShared = deploymentCount + (mayLeave ? 1 : 0);
    const rowCount = firstShared + sharedLimits.length;
    const column = (d: number, cost: number) => {
      const vector = new Float64Array(rowCount);
      vector[d] = -program.capacity[d]!;
      sharedLimits.forEach(({ use }, r) => {
        vector[firstShared + r] = use[d]!;
      });
      return { vector, cost, lower: 0, upper: 0 };
    };
    this.#kink = new Float64Array(deploymentCount).fill(Number.POSITIVE_INFINITY);
    this.#upperColumn = new Int32Array(deploymentCount).fill(-1);
    const columns = Array.from(program.cost, (_, d) => column(d, costs.below[d]!));
    if (switching !== undefined) {
      for (let d = 0; d < deploymentCount; d++) {
        if (!hasCurrent(program, d) || (switching.start[d] === 0 && switching.stop[d] === 0)) continue;
        this.#kink[d] = switching.current[d]!;
        this.#upperColumn[d] = columns.length;
        columns.push(column(d, costs.above[d]!));
      }
    }
    this.#firstPiece = columns.length;
    for (const { room, price } of costs.unserved ?? []) {
      const vector = new Float64Array(rowCount);
      vector[deploymentCount] = -1;
      columns.push({ vector, cost: price, lower: 0, upper: room });
    }
    const rhs = new Float64Array(rowCount);
    if (mayLeave && costs.unserved === null) {
      rhs[deploymentCount] = Math.min(program.unservedLimit, totalRate(program));
    }
    sharedLimits.forEach(({ limit }, r) => {
      rhs[firstShared + r] = limit;
    });
    this.lp = new ShareLp({ bucketCount, rowCount, arcWork: arcsOf(program, rowCount, mayLeave), columns, rhs });
    this.isPlain = columns.length === deploymentCount && sharedLimits.length === 0;
    this.begin();
  }

  /** Changes what replicas and unserved demand cost; `costs.unserved` has the pieces that it had. */
  setCosts(costs: Costs): void {
    this.#costs = costs;
    for (let d = 0; d < this.#kink.length; d++) {
      this.lp.setCost(d, costs.below[d]!);
      if (this.#upperColumn[d]! >= 0) this.lp.setCost(this.#upperColumn[d]!, costs.above[d]!);
    }
    costs.unserved?.forEach(({ room, price }, i) => {
      this.lp.setCost(this.#firstPiece + i, price);
      this.lp.setBounds(this.#firstPiece + i, 0, room);
    });
  }

  /** Starts afresh where every replica pays for itself. */
  begin(): void {
    const { rowCount } = this.lp;
    const { capacity, deploymentCount } = this.#program;
    const prices = new Float64Array(rowCount);
    for (let d = 0; d < deploymentCount; d++) prices[d] = Math.max(0, this.#costs.below[d]! / capacity[d]!);
    if (!this.isPlain) {
      this.lp.startAt(prices);
      return;
    }
    const basics = new Int32Array(rowCount).fill(-1);
    for (let d = 0; d < deploymentCount; d++) basics[d] = d;
    this.lp.startFrom(prices, basics);
  }

  /** Bounds on the replicas of a deployment. */
  setBox(d: number, lower: number, upper: number): void {
    const kink = this.#kink[d]!;
    this.lp.setBounds(d, Math.min(lower, kink), Math.min(upper, kink));
    this.lp.setClosed(d, upper === 0);
    const above = this.#upperColumn[d]!;
    if (above >= 0) this.lp.setBounds(above, Math.max(0, lower - kink), Math.max(0, upper - kink));
  }

  /** Replicas of a deployment in the current solution. */
  replicasOf(d: number): number {
    const above = this.#upperColumn[d]!;
    return this.lp.columnValue(d) + (above >= 0 ? this.lp.columnValue(above) : 0);
  }

  /**
   * What one more replica costs at prices of the rows: from the lower bound of a box upwards, and what one less saves
   * from its upper bound downwards [USD/hour]. With a kink inside the box between them.
   */
  reducedCosts(d: number, prices: Float64Array): { readonly below: number; readonly above: number; kink: number } {
    const { capacity, sharedLimits } = this.#program;
    let paid = -Math.max(0, prices[d]!) * capacity[d]!;
    if (sharedLimits !== undefined) {
      const firstShared = this.lp.rowCount - sharedLimits.length;
      for (let r = 0; r < sharedLimits.length; r++) {
        paid += Math.max(0, prices[firstShared + r]!) * sharedLimits[r]!.use[d]!;
      }
    }
    const below = this.#costs.below[d]! + paid;
    const kink = this.#kink[d]!;
    return { below, above: kink === Number.POSITIVE_INFINITY ? below : this.#costs.above[d]! + paid, kink };
  }
}

/**
 * Says how much demand stays unserved at given whole replicas, whatever they cost.
 *
 * Replicas are filled to the brim, not beyond by the tolerance with which work fits: what two plans leave is the same
 * number where it is the same demand.
 */
export class UnservedDemandLp {
  readonly #lp: SearchLp;
  readonly #program: Program;
  readonly #total: number;

  constructor(program: Program) {
    const { switching: _, sharedLimits: __, ...own } = program;
    this.#program = own;
    const capacity = program.capacity.map((share) => share / (1 + fitTolerance / 2));
    this.#total = totalRate(program);
    const free = new Float64Array(program.deploymentCount);
    const unserved = [{ room: this.#total, price: 1 }];
    this.#lp = new SearchLp(
      { ...own, capacity, unservedLimit: this.#total },
      { below: free, above: free, offset: 0, unserved },
    );
  }

  /** The least demand that stays unserved [requests/s]. */
  at(replicas: Float64Array): number {
    if (!this.#solve(replicas)) return this.#total;
    const unserved = this.#lp.lp.objective();
    return unserved <= 1e-12 * this.#total ? 0 : Math.min(this.#total, unserved);
  }

  /** Unserved share of each bucket where the least demand stays unserved. */
  sharesAt(replicas: Float64Array): Float64Array {
    const { bucketCount, deploymentCount } = this.#program;
    const shares = new Float64Array(bucketCount);
    if (!this.#solve(replicas)) return shares.fill(1);
    const { rowCount } = this.#lp.lp;
    const all = new Float64Array(bucketCount * rowCount);
    this.#lp.lp.readShares(all);
    return shares.map((_, b) => all[b * rowCount + deploymentCount]!);
  }

  #solve(replicas: Float64Array): boolean {
    replicas.forEach((count, d) => {
      this.#lp.setBox(d, 0, count);
    });
    this.#lp.begin();
    return this.#lp.lp.solve() === 'optimal';
  }
}
