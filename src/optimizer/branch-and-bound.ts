import type { Program, ProgramSolution, SolveLimits } from './program.js';
import { type LpBasis, ShareLp } from './share-lp.js';

/**
 * The built-in exact solver: branch and bound on whole replicas y, best bound first.
 *
 * A node is a box of y. Its linear program (`ShareLp`) is solved by the dual simplex from its parent's basis; it is
 * pruned by the bound that certifies itself. Incumbents come from rounding up and trimming. A candidate y is tested by
 * the cuts collected so far (prices p that every feasible y must cover: Σ p_d capacity_d y_d ≥ Σ_b min_d p_d a_bd) and
 * then by a linear program at fixed y, so the tree never trusts a rounding.
 */
export type BranchAndBoundOptions = {
  /**
   * The unmerged program, where merging cost freedom: the simplex runs on the merged buckets, but bounds, cuts and
   * doubtful candidates are those of the raw ones, so the proof is about the raw program.
   */
  readonly raw?: Program;
  /** Replicas that run now: tried first and kept among answers of equal cost. */
  readonly incumbent?: Float64Array;
};

type Node = {
  readonly lower: Float64Array;
  readonly upper: Float64Array;
  readonly bound: number;
  /** Where the simplex starts: the parent's basis; only prices, where the parent was solved on other buckets. */
  readonly start: LpBasis | { readonly prices: Float64Array } | null;
  readonly depth: number;
  /** The branching that made it; null at the root and where a node is solved again. */
  readonly branch: Branch | null;
  /** To be settled on the raw buckets: on the merged ones it holds nothing better. */
  readonly onRaw: boolean;
};

/** A deployment's y that was split: by how far the relaxed value was moved, up or down. */
type Branch = { readonly deployment: number; readonly up: boolean; readonly distance: number };

/** Costs closer than this (relative) are equal. */
const costTolerance = 1e-9;
/** y this close to whole, relative, is whole. Zero is whole only when exactly nothing is placed. */
const wholeTolerance = 1e-9;
/** Cuts kept for testing candidates. */
const keptCuts = 64;
/** Candidates that a node may test by a linear program. */
const candidatesPerNode = 4;

export function branchAndBound(
  program: Program,
  limits: SolveLimits,
  options: BranchAndBoundOptions = {},
): ProgramSolution {
  return new Search(program, limits, options).run();
}

/** Columns of the program: y_d for every deployment; with unserved demand one row more, whose arcs are the z. */
export function programLp(program: Program): ShareLp {
  const { bucketCount, deploymentCount, unservedLimit, work } = program;
  const mayLeave = unservedLimit > 0;
  const rowCount = deploymentCount + (mayLeave ? 1 : 0);
  let arcWork = work;
  const rhs = new Float64Array(rowCount);
  if (mayLeave) {
    arcWork = new Float64Array(bucketCount * rowCount);
    for (let b = 0; b < bucketCount; b++) {
      for (let d = 0; d < deploymentCount; d++) arcWork[b * rowCount + d] = work[b * deploymentCount + d]!;
      arcWork[b * rowCount + deploymentCount] = program.rate[b]!;
    }
    rhs[deploymentCount] = unservedLimit;
  }
  const columns = Array.from({ length: deploymentCount }, (_, d) => {
    const vector = new Float64Array(rowCount);
    vector[d] = -program.capacity[d]!;
    return { vector, cost: program.cost[d]!, lower: program.lower[d]!, upper: program.upper[d]! };
  });
  return new ShareLp({ bucketCount, rowCount, arcWork, columns, rhs });
}

/**
 * Starts the simplex at prices p_d = cost_d / capacity_d, where every y is basic: without bounds on y that is the
 * optimum. With unserved demand its row starts slack, at price 0.
 */
export function startAtCost(lp: ShareLp, program: Program): void {
  const prices = new Float64Array(lp.rowCount);
  const basics = new Int32Array(lp.rowCount).fill(-1);
  for (let d = 0; d < program.deploymentCount; d++) {
    prices[d] = program.cost[d]! / program.capacity[d]!;
    basics[d] = d;
  }
  lp.startFrom(prices, basics);
}

class Search {
  readonly #program: Program;
  readonly #limits: SolveLimits;
  readonly #options: BranchAndBoundOptions;
  /** Solves the nodes. */
  readonly #tree: ShareLp;
  /** Tests candidates. */
  readonly #probe: ShareLp;
  /** Bounds what the tree finds: the tree itself, or the raw program at the tree's prices. */
  readonly #raw: ShareLp;
  readonly #gains: BranchGains;
  readonly #cuts: { readonly weight: Float64Array; readonly need: number }[] = [];
  #nextCut = 0;
  #best: Float64Array | null = null;
  #bestCost = Number.POSITIVE_INFINITY;
  #nodes = 0;
  /** Two different costs differ by at least this [USD/hour]. */
  readonly #costStep: number;
  /** y below this is rounding noise [replicas], per deployment. */
  readonly #noise: Float64Array;

  constructor(program: Program, limits: SolveLimits, options: BranchAndBoundOptions) {
    this.#program = program;
    this.#limits = limits;
    this.#options = options;
    this.#probe = programLp(program);
    this.#tree = programLp(program);
    this.#raw = options.raw === undefined ? this.#tree : programLp(options.raw);
    startAtCost(this.#probe, program);
    startAtCost(this.#tree, program);
    if (options.raw !== undefined) startAtCost(this.#raw, options.raw);
    this.#gains = new BranchGains(program.cost);
    this.#costStep = costStep(program);
    this.#noise = new Float64Array(program.deploymentCount);
    for (let at = 0; at < program.work.length; at++) {
      const d = at % program.deploymentCount;
      if (program.work[at]! < Number.POSITIVE_INFINITY) this.#noise[d] = this.#noise[d]! + 1e-14 * program.work[at]!;
    }
  }

  run(): ProgramSolution {
    const { lower, upper } = this.#program;
    if (this.#options.incumbent !== undefined) this.#tryTrimmed(this.#options.incumbent);
    const open = new NodeHeap();
    open.push({
      lower: lower.slice(),
      upper: upper.slice(),
      bound: 0,
      start: null,
      branch: null,
      depth: 0,
      onRaw: false,
    });
    let openBound = Number.POSITIVE_INFINITY;
    let stopped = false;
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      if (node.bound >= this.#cutoff()) {
        openBound = Math.min(openBound, this.#closedBy(node.bound));
        break;
      }
      const limit = this.#limits.nodeLimit;
      if ((limit !== null && this.#nodes >= limit) || (this.#nodes > 0 && this.#limits.shouldStop())) {
        openBound = Math.min(openBound, node.bound);
        stopped = true;
        break;
      }
      this.#nodes++;
      const leaf = this.#expand(node, open);
      if (leaf < openBound) openBound = leaf;
    }
    const bound = Math.min(openBound, this.#bestCost);
    if (this.#best === null) {
      const status = stopped || openBound < Number.POSITIVE_INFINITY ? 'unknown' : 'infeasible';
      return { status, replicas: null, bound: status === 'unknown' ? Math.max(0, openBound) : 0, nodes: this.#nodes };
    }
    const proven = this.#bestCost - bound <= costTolerance * Math.max(1, this.#bestCost);
    return {
      status: proven ? 'optimal' : 'feasible',
      replicas: this.#best,
      bound: proven ? this.#bestCost : Math.max(0, bound),
      nodes: this.#nodes,
    };
  }

  /** A node whose bound reaches this is closed: it holds nothing better, or nothing better than the gap allows. */
  #cutoff(): number {
    if (this.#bestCost === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
    return Math.min(this.#nothingBetter(), this.#bestCost * (1 - this.#limits.relativeGap));
  }

  /** A node whose bound reaches this holds nothing better than the best answer so far. */
  #nothingBetter(): number {
    if (this.#bestCost === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
    return this.#bestCost - Math.max(costTolerance * Math.max(1e-3, this.#bestCost), this.#costStep * (1 - 1e-6));
  }

  /** Solves a node, pushes its children; returns the bound of a leaf that stays open, Infinity where it is closed. */
  #expand(node: Node, open: NodeHeap): number {
    const { deploymentCount } = this.#program;
    const lower = node.lower.slice();
    const upper = node.upper.slice();
    const lp = node.onRaw ? this.#raw : this.#tree;
    for (const each of lp === this.#raw ? [lp] : [lp, this.#raw]) {
      for (let d = 0; d < deploymentCount; d++) {
        each.setBounds(d, lower[d]!, upper[d]!);
        each.setClosed(d, upper[d] === 0);
      }
    }
    if (node.start !== null) {
      if ('prices' in node.start) lp.startAt(node.start.prices);
      else lp.loadBasis(node.start);
    }
    const outcome = lp.solve(this.#cutoff());
    const certified = this.#certified(this.#raw, lp, outcome);
    const bound = Math.max(node.bound, certified);
    if (node.branch !== null) this.#gains.learn(node.branch, bound - node.bound);
    if (bound >= this.#cutoff()) return this.#closedBy(bound);
    if (lp !== this.#raw && this.#certified(lp, lp, outcome) >= this.#cutoff()) {
      open.push({
        lower,
        upper,
        bound,
        start: { prices: nonNegative(lp.prices) },
        branch: null,
        depth: node.depth,
        onRaw: true,
      });
      return Number.POSITIVE_INFINITY;
    }
    const y = new Float64Array(deploymentCount);
    for (let d = 0; d < deploymentCount; d++) {
      const value = lp.columnValue(d);
      y[d] = Math.min(upper[d]!, Math.max(lower[d]!, value < this.#noise[d]! ? 0 : value));
    }
    // Candidates are tested on the raw buckets too, which moves that program's prices.
    const prices = lp.prices.slice();
    this.#rememberCut(prices);
    const start = lp.saveBasis();
    this.#roundAndTrim(y, { lower, upper });
    if (bound >= this.#cutoff()) return this.#closedBy(bound);
    if (outcome !== 'infeasible') this.#tighten({ lower, upper }, prices, certified);

    const branch = chooseBranch(y, { lower, upper }, this.#gains);
    if (branch < 0) {
      if (lower.some((low, d) => low > upper[d]!)) return Number.POSITIVE_INFINITY;
      return this.#boundAtPoint(lower, bound);
    }
    const whole = Math.floor(y[branch]! * (1 + wholeTolerance));
    const split = Math.min(upper[branch]! - 1, Math.max(lower[branch]!, whole));
    const below = upper.slice();
    below[branch] = split;
    const above = lower.slice();
    above[branch] = split + 1;
    const shared = { bound, start, depth: node.depth + 1, onRaw: node.onRaw };
    const value = Math.min(split + 1, Math.max(split, y[branch]!));
    open.push({ lower, upper: below, ...shared, branch: { deployment: branch, up: false, distance: value - split } });
    open.push({
      lower: above,
      upper,
      ...shared,
      branch: { deployment: branch, up: true, distance: split + 1 - value },
    });
    return Number.POSITIVE_INFINITY;
  }

  /** A box of one point that is cheap enough: an answer, proven impossible (Infinity), or left open at its bound. */
  #boundAtPoint(point: Float64Array, bound: number): number {
    const cost = this.#costOf(point);
    const fit = this.#fit(point);
    if (fit === 'fits') {
      if (this.#isBetter(cost)) this.#accept(point, cost);
      return Number.POSITIVE_INFINITY;
    }
    return fit === 'impossible' ? Number.POSITIVE_INFINITY : Math.max(bound, Math.min(cost, this.#bestCost));
  }

  /** With a gap allowed, a closed node may still hold something better: the answer's bound must say so. */
  #closedBy(bound: number): number {
    return bound >= this.#nothingBetter() ? Number.POSITIVE_INFINITY : bound;
  }

  /** The bound that `bounder` certifies at the prices (or along the ray) that `lp` ended with. */
  #certified(bounder: ShareLp, lp: ShareLp, outcome: string): number {
    const plain = bounder.boundAt(lp.prices) * (1 - 1e-12);
    if (outcome !== 'infeasible') return plain;
    let best = plain;
    const target = this.#bestCost < Number.POSITIVE_INFINITY ? this.#bestCost : 1e12;
    for (let scale = 1; scale <= 1e15; scale *= 1e3) {
      const bound = bounder.boundAt(lp.pricesAlongRay(scale));
      if (bound > best) best = bound;
      if (best > target) return Number.POSITIVE_INFINITY;
    }
    return best;
  }

  /** Keeps prices as a cut for candidates: Σ weight_d y_d ≥ need. */
  #rememberCut(from: Float64Array): void {
    const prices = nonNegative(from);
    const { deploymentCount, capacity, unservedLimit } = this.#program;
    const unserved = prices.length > deploymentCount ? prices[deploymentCount]! * unservedLimit : 0;
    const demand = this.#raw.demandAt(prices) - unserved;
    if (!(demand > 0) || demand === Number.POSITIVE_INFINITY) return;
    const weight = new Float64Array(deploymentCount);
    for (let d = 0; d < deploymentCount; d++) weight[d] = prices[d]! * capacity[d]!;
    this.#cuts[this.#nextCut] = { weight, need: demand * (1 - 1e-9) };
    this.#nextCut = (this.#nextCut + 1) % keptCuts;
  }

  #cutOff(y: Float64Array): boolean {
    for (const { weight, need } of this.#cuts) {
      let covered = 0;
      for (let d = 0; d < y.length; d++) covered += weight[d]! * y[d]!;
      if (covered < need) return true;
    }
    return false;
  }

  #fits(y: Float64Array): boolean {
    return this.#fit(y) === 'fits';
  }

  /** Do shares exist that fit in y? What the merged buckets cannot settle, the raw ones do. */
  #fit(y: Float64Array): 'fits' | 'impossible' | 'unknown' {
    // The tree's last basis is near: candidates are roundings of its answer.
    if (this.#nodes > 0) this.#probe.loadBasis(this.#tree.saveBasis());
    const fit = sharesFit(this.#probe, y);
    if (fit === 'fits') return fit;
    if (fit === 'impossible') this.#rememberCut(this.#probe.prices);
    if (this.#options.raw === undefined || this.#cutOff(y)) return fit;
    this.#raw.startAt(nonNegative(this.#probe.prices));
    const rawFit = sharesFit(this.#raw, y);
    if (rawFit === 'impossible') this.#rememberCut(this.#raw.prices);
    return rawFit;
  }

  #costOf(y: Float64Array): number {
    let cost = 0;
    for (let d = 0; d < y.length; d++) cost += this.#program.cost[d]! * y[d]!;
    return cost;
  }

  #isBetter(cost: number): boolean {
    return (
      cost <
      this.#bestCost - costTolerance * Math.max(1e-3, this.#bestCost < Number.POSITIVE_INFINITY ? this.#bestCost : 0)
    );
  }

  #accept(y: Float64Array, cost: number): void {
    this.#best = y.slice();
    this.#bestCost = cost;
  }

  /** Takes the replicas that run now, cut to their bounds, less what is not needed. */
  #tryTrimmed(start: Float64Array): void {
    const { lower, upper } = this.#program;
    const y = start.map((value, d) => Math.min(upper[d]!, Math.max(lower[d]!, value)));
    if (!this.#fits(y)) return;
    this.#trim(y, lower, 4 * y.length);
    const cost = this.#costOf(y);
    if (this.#isBetter(cost)) this.#accept(y, cost);
  }

  /** Takes replicas away, dearest first, while the rest still fits. `y` fits on entry and on return. */
  #trim(y: Float64Array, floor: Float64Array, attempts: number): void {
    const { cost } = this.#program;
    const order = Array.from(y.keys()).sort((a, b) => cost[b]! - cost[a]! || a - b);
    let left = attempts;
    for (const d of order) {
      while (y[d]! > floor[d]! && left > 0) {
        y[d] = y[d]! - 1;
        if (!this.#cutOff(y)) {
          left--;
          if (this.#fits(y)) continue;
        }
        y[d] = y[d]! + 1;
        break;
      }
    }
  }

  /** Rounds a relaxed y up, which always fits, and looks for cheaper neighbours. */
  #roundAndTrim(relaxed: Float64Array, box: Box): void {
    const y = relaxed.map((value, d) => Math.min(box.upper[d]!, roundUp(value)));
    let cost = this.#costOf(y);
    const { cost: price } = this.#program;
    // Only what could beat the incumbent is tested: the roundest point, or it less one replica of some type.
    const order = Array.from(y.keys())
      .filter((d) => y[d]! > box.lower[d]!)
      .sort((a, b) => price[b]! - price[a]! || a - b);
    let tests = this.#best === null ? Number.POSITIVE_INFINITY : candidatesPerNode;
    if (this.#isBetter(cost)) {
      if (!this.#cutOff(y) && this.#fits(y)) {
        this.#accept(y, cost);
        this.#trim(y, this.#program.lower, 4 * y.length);
        cost = this.#costOf(y);
        if (this.#isBetter(cost)) this.#accept(y, cost);
        return;
      }
    }
    for (const d of order) {
      if (tests <= 0) return;
      const less = cost - price[d]!;
      if (!this.#isBetter(less)) return;
      y[d] = y[d]! - 1;
      if (!this.#cutOff(y)) {
        tests--;
        if (this.#fits(y)) {
          this.#accept(y, less);
          this.#trim(y, this.#program.lower, 2 * y.length);
          const trimmed = this.#costOf(y);
          if (this.#isBetter(trimmed)) this.#accept(y, trimmed);
          return;
        }
      }
      y[d] = y[d]! + 1;
    }
  }

  /**
   * Reduced costs say how far a y may move from its bound before the node is not worth it: narrows the box in place.
   *
   * @param bound D at exactly these prices
   */
  #tighten(box: Box, prices: Float64Array, bound: number): void {
    const cutoff = this.#cutoff();
    if (cutoff === Number.POSITIVE_INFINITY || bound === Number.POSITIVE_INFINITY) return;
    const room = cutoff - bound;
    for (let d = 0; d < box.lower.length; d++) {
      const reduced = this.#program.cost[d]! - Math.max(0, prices[d]!) * this.#program.capacity[d]!;
      const low = box.lower[d]!;
      const high = box.upper[d]!;
      if (reduced > 0) box.upper[d] = Math.min(high, low + Math.floor(room / reduced + 1e-6));
      else if (reduced < 0) box.lower[d] = Math.max(low, high - Math.floor(room / -reduced + 1e-6));
    }
  }
}

/**
 * The greatest common divisor of the prices, in millionths of a USD: costs of whole replicas are multiples of it (plus
 * what is fixed). Prices of a cent give a cent; equal prices give the price, which proves ties at once.
 */
function costStep(program: Program): number {
  let divisor = 0;
  for (let d = 0; d < program.deploymentCount; d++) {
    if (program.lower[d] === program.upper[d] || program.cost[d] === 0) continue;
    const millionths = Math.round(program.cost[d]! * 1e6);
    if (Math.abs(program.cost[d]! * 1e6 - millionths) > 1e-4 || millionths > 1e12) return 0;
    let a = millionths;
    let b = divisor;
    while (b > 0) [a, b] = [b, a % b];
    divisor = a;
  }
  return divisor * 1e-6;
}

type Box = { readonly lower: Float64Array; readonly upper: Float64Array };

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

function nonNegative(prices: Float64Array): Float64Array {
  return prices.map((price) => Math.max(0, price));
}

function roundUp(value: number): number {
  const whole = Math.round(value);
  return whole > 0 && Math.abs(value - whole) <= wholeTolerance * whole ? whole : Math.ceil(value);
}

/**
 * What branching on each deployment has gained so far: the rise of the bound per replica that the relaxed value was
 * moved, up and down. Until it is known, a replica's price stands for it.
 */
class BranchGains {
  readonly #price: Float64Array;
  /** Down at 2 d, up at 2 d + 1. */
  readonly #sum: Float64Array;
  readonly #count: Float64Array;

  constructor(price: Float64Array) {
    this.#price = price;
    this.#sum = new Float64Array(2 * price.length);
    this.#count = new Float64Array(2 * price.length);
  }

  learn({ deployment, up, distance }: Branch, rise: number): void {
    // An impossible side says nothing about the next one; neither does a value that was whole.
    if (!(distance > 1e-6) || rise === Number.POSITIVE_INFINITY) return;
    const at = 2 * deployment + (up ? 1 : 0);
    this.#sum[at] = this.#sum[at]! + Math.max(0, rise) / distance;
    this.#count[at] = this.#count[at]! + 1;
  }

  /** How much is expected of branching at a value with this fraction: large where both sides gain. */
  expected(deployment: number, fraction: number): number {
    const down = this.#perReplica(2 * deployment) * fraction;
    const up = this.#perReplica(2 * deployment + 1) * (1 - fraction);
    return Math.max(down, 1e-9) * Math.max(up, 1e-9);
  }

  #perReplica(at: number): number {
    // The price counts as one observation.
    return (this.#sum[at]! + this.#price[at >> 1]!) / (this.#count[at]! + 1);
  }
}

/** The fractional y of which most is expected; among whole ones the widest box. −1 where the box is one point. */
function chooseBranch(y: Float64Array, box: Box, gains: BranchGains): number {
  let branch = -1;
  let most = 0;
  for (let d = 0; d < y.length; d++) {
    if (box.lower[d]! >= box.upper[d]!) continue;
    const value = y[d]!;
    if (roundUp(value) === value || Math.abs(value - Math.round(value)) <= wholeTolerance * Math.round(value)) continue;
    const score = gains.expected(d, value - Math.floor(value));
    if (score > most) {
      most = score;
      branch = d;
    }
  }
  if (branch >= 0) return branch;
  let widest = 0;
  for (let d = 0; d < y.length; d++) {
    const width = box.upper[d]! - box.lower[d]!;
    if (width > widest) {
      widest = width;
      branch = d;
    }
  }
  return branch;
}

/** Open nodes by bound, the deeper first among equals. */
class NodeHeap {
  readonly #items: Node[] = [];

  push(node: Node): void {
    const items = this.#items;
    let at = items.length;
    items.push(node);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!precedes(node, items[parent]!)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = node;
  }

  pop(): Node | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && precedes(items[child + 1]!, items[child]!)) child++;
      if (!precedes(items[child]!, last)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function precedes(a: Node, b: Node): boolean {
  return a.bound < b.bound || (a.bound === b.bound && a.depth > b.depth);
}
