import { type Box, BranchGains, chooseBranch, type Node, NodeHeap, roundUp, wholeTolerance } from './branching.js';
import { CandidateTests, nonNegative } from './candidate-tests.js';
import type { Program, ProgramSolution, SolveLimits } from './program.js';
import { type Costs, costsOf, replicaCost, SearchLp } from './program-lp.js';
import type { LpBasis, ShareLp } from './share-lp.js';

/**
 * The built-in exact solver: branch and bound on whole replicas y, best bound first.
 *
 * A node is a box of y. Its linear program (`SearchLp`) is solved by the dual simplex from its parent's basis; it is
 * pruned by the bound that certifies itself. Incumbents come from rounding up and trimming, and are tested
 * (`CandidateTests`) at fixed y, so the tree never trusts a rounding.
 *
 * A search can be asked again at other costs (the prices of shared limits): what it knows about which replicas fit stays.
 */
export type SearchOptions = {
  /**
   * The unmerged program, where merging cost freedom: the simplex runs on the merged buckets, but bounds, cuts and
   * doubtful candidates are those of the raw ones, so the proof is about the raw program.
   */
  readonly raw?: Program;
  /** Costs to begin with; absent = those of the program. */
  readonly costs?: Costs;
};

export type BranchAndBoundOptions = SearchOptions & {
  /** Replicas that run now: tried first and kept among answers of equal cost. */
  readonly incumbent?: Float64Array;
};

/** Costs closer than this (relative) are equal. */
const costTolerance = 1e-9;
/** Candidates that a node may test by a linear program. */
const candidatesPerNode = 4;

export function branchAndBound(
  program: Program,
  limits: SolveLimits,
  { incumbent, ...options }: BranchAndBoundOptions = {},
): ProgramSolution {
  if (program.unservedPrice !== undefined || program.unservedLimits !== undefined) {
    throw new Error('a program of several models is not for this search: they are planned one by one, at prices');
  }
  const search = new ReplicaSearch(program, options);
  return search.minimise(limits, incumbent === undefined ? [] : [incumbent]);
}

/** Searches the whole replicas of one program, at costs that may change from one search to the next. */
export class ReplicaSearch {
  readonly #program: Program;
  /** Solves the nodes. */
  readonly #tree: SearchLp;
  /** Bounds what the tree finds: the tree itself, or the raw program at the tree's prices. */
  readonly #raw: SearchLp;
  readonly #candidates: CandidateTests;
  /** Says what unserved demand costs at some replicas; null where it costs nothing to leave what may be left. */
  #worth: SearchLp | null = null;
  #costs: Costs;
  #gains: BranchGains;
  #limits: SolveLimits = unlimited;
  #best: Float64Array | null = null;
  #bestCost = Number.POSITIVE_INFINITY;
  #nodes = 0;
  /** Two different costs differ by at least this [USD/hour]. */
  #costStep = 0;
  /** y below this is rounding noise [replicas], per deployment. */
  readonly #noise: Float64Array;

  constructor(program: Program, { raw, costs = costsOf(program) }: SearchOptions = {}) {
    this.#program = program;
    this.#costs = costs;
    this.#tree = new SearchLp(program, costs);
    this.#raw = raw === undefined ? this.#tree : new SearchLp(raw, costs);
    this.#candidates = new CandidateTests(program, { tree: this.#tree, bounder: this.#raw, raw: raw ?? null });
    this.#gains = new BranchGains(costs.above);
    this.#noise = new Float64Array(program.deploymentCount);
    for (let at = 0; at < program.work.length; at++) {
      const d = at % program.deploymentCount;
      if (program.work[at]! < Number.POSITIVE_INFINITY) this.#noise[d] = this.#noise[d]! + 1e-14 * program.work[at]!;
    }
    this.setCosts(costs);
  }

  /** Changes what replicas and unserved demand cost; `costs.unserved` has as many pieces as before. */
  setCosts(costs: Costs): void {
    this.#costs = costs;
    this.#tree.setCosts(costs);
    if (this.#raw !== this.#tree) this.#raw.setCosts(costs);
    this.#costStep = costStep(this.#program, costs);
    this.#gains = new BranchGains(costs.above);
    if (costs.unserved === null) this.#worth = null;
    else {
      const free = new Float64Array(this.#program.deploymentCount);
      const unservedOnly = { below: free, above: free, unserved: costs.unserved, offset: 0 };
      if (this.#worth === null) this.#worth = new SearchLp({ ...this.#program, sharedLimits: [] }, unservedOnly);
      else this.#worth.setCosts(unservedOnly);
      this.#worth.begin();
    }
  }

  /**
   * The cheapest whole replicas.
   *
   * @param incumbents replicas tried first; among answers of equal cost the first found is kept
   */
  minimise(limits: SolveLimits, incumbents: readonly Float64Array[] = []): ProgramSolution {
    const { lower, upper } = this.#program;
    this.#limits = limits;
    this.#best = null;
    this.#bestCost = Number.POSITIVE_INFINITY;
    this.#nodes = 0;
    this.#candidates.begin();
    this.#tree.begin();
    if (this.#raw !== this.#tree) this.#raw.begin();
    for (const incumbent of incumbents) this.#tryTrimmed(incumbent);
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
      this.#candidates.onNode();
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

  /**
   * All replicas whose objective is at most `ceiling`, without those that another one beats in every deployment: fewer
   * replicas that serve as much, where fewer replicas never cost more.
   *
   * @param options.moreMaySave fewer replicas may cost more by what the answers are compared by later, though not by the
   *   costs of this search: every answer is listed
   * @returns null where there are more than `most`, or more nodes than `nodeLimit` are needed
   */
  enumerate(options: {
    readonly ceiling: number;
    readonly most: number;
    readonly nodeLimit: number;
    readonly moreMaySave: boolean;
  }): readonly Float64Array[] | null {
    const { ceiling, most, nodeLimit, moreMaySave } = options;
    const isMonotone =
      !moreMaySave &&
      this.#worth === null &&
      this.#costs.below.every((cost) => cost >= 0) &&
      this.#costs.above.every((cost) => cost >= 0);
    this.#limits = { ...unlimited, nodeLimit };
    this.#best = null;
    // Costs up to the ceiling are of interest, equal ones too.
    this.#bestCost = ceiling + 1e-7 * Math.max(1e-3, Math.abs(ceiling));
    this.#costStep = 0;
    const found: Float64Array[] = [];
    const stack: { readonly box: Box; readonly start: LpBasis | null }[] = [
      { box: { lower: this.#program.lower.slice(), upper: this.#program.upper.slice() }, start: null },
    ];
    const record = (y: Float64Array): boolean => {
      if (this.#candidates.isWithinShared(y) && this.valueOf(y) <= this.#bestCost) found.push(y.slice());
      return found.length <= most;
    };
    this.#tree.begin();
    this.#candidates.begin();
    let complete = true;
    this.#nodes = 0;
    for (let item = stack.pop(); item !== undefined; item = stack.pop()) {
      this.#nodes++;
      this.#candidates.onNode();
      if (this.#nodes > nodeLimit) {
        complete = false;
        break;
      }
      const { box } = item;
      if (box.lower.some((low, d) => low > box.upper[d]!)) continue;
      if (isMonotone && this.#candidates.isWithinShared(box.lower) && this.#candidates.fits(box.lower)) {
        // All else in this box has more replicas.
        if (!record(box.lower)) {
          complete = false;
          break;
        }
        continue;
      }
      const lp = this.#tree;
      this.#setBox(lp, box);
      if (item.start !== null) lp.lp.loadBasis(item.start);
      const outcome = lp.lp.solve(this.#bestCost - this.#costs.offset);
      const bound = this.#certified(this.#raw, lp.lp, outcome);
      if (bound >= this.#bestCost) continue;
      const y = this.#relaxed(lp, box);
      const start = lp.lp.saveBasis();
      if (outcome !== 'infeasible') this.#tighten(box, lp.lp.prices.slice(), bound);
      if (box.lower.some((low, d) => low > box.upper[d]!)) continue;
      const branch = chooseBranch(y, box, this.#gains);
      if (branch < 0) {
        if (record(box.lower)) continue;
        complete = false;
        break;
      }
      const split = Math.min(box.upper[branch]! - 1, Math.max(box.lower[branch]!, Math.floor(y[branch]!)));
      const below = box.upper.slice();
      below[branch] = split;
      const above = box.lower.slice();
      above[branch] = split + 1;
      stack.push({ box: { lower: above, upper: box.upper }, start });
      stack.push({ box: { lower: box.lower, upper: below }, start });
    }
    this.#costStep = costStep(this.#program, this.#costs);
    return complete ? found : null;
  }

  /** What some replicas cost, unserved demand included; Infinity where they do not serve what they must. */
  valueOf(y: Float64Array): number {
    const cost = this.costOf(y);
    if (this.#worth === null) return this.#candidates.fits(y) ? cost : Number.POSITIVE_INFINITY;
    return cost + this.#unservedCost(this.#worth, y);
  }

  /** What some replicas cost by themselves. */
  costOf(y: Float64Array): number {
    return replicaCost(this.#program, this.#costs, y);
  }

  #unservedCost(worth: SearchLp, y: Float64Array): number {
    for (let d = 0; d < y.length; d++) worth.setBox(d, 0, y[d]!);
    // Candidates are near each other: the last one's basis is a start, unless it leads nowhere.
    if (worth.lp.solve() === 'optimal') return worth.lp.objective();
    worth.begin();
    return worth.lp.solve() === 'optimal' ? worth.lp.objective() : Number.POSITIVE_INFINITY;
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

  /** Puts the program that is solved and the one that certifies it, mostly the same, on a box. */
  #setBox(solved: SearchLp, { lower, upper }: Box): void {
    for (let d = 0; d < lower.length; d++) {
      solved.setBox(d, lower[d]!, upper[d]!);
      if (solved !== this.#raw) this.#raw.setBox(d, lower[d]!, upper[d]!);
    }
  }

  /** The relaxed y of the current solution, within its box. */
  #relaxed(lp: SearchLp, { lower, upper }: Box): Float64Array {
    return lower.map((low, d) => {
      const value = lp.replicasOf(d);
      // No number says nothing about where to split; a box split there would be no box.
      if (Number.isNaN(value)) return low;
      return Math.min(upper[d]!, Math.max(low, value < this.#noise[d]! ? 0 : value));
    });
  }

  /** Solves a node, pushes its children; returns the bound of a leaf that stays open, Infinity where it is closed. */
  #expand(node: Node, open: NodeHeap): number {
    // No other node has these: they are narrowed in place and go on to a child.
    const { lower, upper } = node;
    const search = node.onRaw ? this.#raw : this.#tree;
    const { lp } = search;
    this.#setBox(search, { lower, upper });
    if (node.start !== null) {
      if ('prices' in node.start) lp.startAt(node.start.prices);
      else lp.loadBasis(node.start);
    }
    const outcome = lp.solve(this.#cutoff() - this.#costs.offset);
    const certified = this.#certified(this.#raw, lp, outcome);
    const bound = Math.max(node.bound, certified);
    if (node.branch !== null) this.#gains.learn(node.branch, bound - node.bound);
    if (bound >= this.#cutoff()) return this.#closedBy(bound);
    if (search !== this.#raw && this.#certified(search, lp, outcome) >= this.#cutoff()) {
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
    const y = this.#relaxed(search, { lower, upper });
    const prices = lp.prices.slice();
    if (this.#worth === null) this.#candidates.rememberCut(prices);
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
    if (!this.#candidates.isWithinShared(point)) return Number.POSITIVE_INFINITY;
    if (this.#worth !== null) {
      const value = this.valueOf(point);
      if (this.#isBetter(value)) this.#accept(point, value);
      return value < Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : bound;
    }
    const cost = this.costOf(point);
    const fit = this.#candidates.fit(point);
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
  #certified(bounder: SearchLp, lp: ShareLp, outcome: string): number {
    const { offset } = this.#costs;
    const certify = (prices: Float64Array): number => {
      const bound = bounder.lp.boundAt(prices);
      return bound === Number.POSITIVE_INFINITY ? bound : bound - 1e-12 * Math.abs(bound) + offset;
    };
    const plain = certify(lp.prices);
    if (outcome !== 'infeasible') return plain;
    let best = plain;
    const target = this.#bestCost < Number.POSITIVE_INFINITY ? this.#bestCost : 1e12;
    for (let scale = 1; scale <= 1e15; scale *= 1e3) {
      const bound = certify(lp.pricesAlongRay(scale));
      if (bound > best) best = bound;
      if (best > target) return Number.POSITIVE_INFINITY;
    }
    return best;
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

  /** Takes replicas that were given, cut to their bounds, less what is not needed. */
  #tryTrimmed(start: Float64Array): void {
    const { lower, upper } = this.#program;
    const y = start.map((value, d) => Math.min(upper[d]!, Math.max(lower[d]!, value)));
    if (!this.#candidates.isWithinShared(y)) return;
    this.#takeTrimmed(y, this.valueOf(y), 4 * y.length);
  }

  /** Accepts y, if its value is better, and what is left of it when replicas that cost more than they bring are gone. */
  #takeTrimmed(y: Float64Array, value: number, attempts: number): void {
    if (value === Number.POSITIVE_INFINITY) return;
    if (this.#isBetter(value)) this.#accept(y, value);
    const trimmed = this.#trim(y, value, attempts);
    if (this.#isBetter(trimmed)) this.#accept(y, trimmed);
  }

  /** Takes replicas away, those that save most first, while that saves money. Returns the value of what is left. */
  #trim(y: Float64Array, value: number, attempts: number): number {
    const { lower } = this.#program;
    const saving = y.map((_, d) => this.#savingOfOneLess(y, d));
    const order = numbersBelow(y.length).sort((a, b) => saving[b]! - saving[a]! || a - b);
    let left = attempts;
    let least = value;
    for (const d of order) {
      while (y[d]! > lower[d]! && left > 0 && this.#savingOfOneLess(y, d) > 0) {
        y[d] = y[d]! - 1;
        if (this.#worth !== null || !this.#candidates.isCutOff(y)) {
          left--;
          const less = this.valueOf(y);
          if (less < least) {
            least = less;
            continue;
          }
        }
        y[d] = y[d]! + 1;
        break;
      }
    }
    return least;
  }

  #savingOfOneLess(y: Float64Array, d: number): number {
    const { below, above } = this.#costs;
    const current = this.#program.switching?.current[d] ?? Number.NaN;
    return y[d]! > current ? above[d]! : below[d]!;
  }

  /** Rounds a relaxed y up, which always fits where nothing is shared, and looks for cheaper neighbours. */
  #roundAndTrim(relaxed: Float64Array, box: Box): void {
    const { lower } = this.#program;
    const y = relaxed.map((value, d) => Math.min(box.upper[d]!, roundUp(value)));
    if (this.#worth !== null) {
      for (const round of [roundUp, Math.round, Math.floor]) {
        const near = relaxed.map((value, d) => Math.min(box.upper[d]!, Math.max(box.lower[d]!, round(value))));
        if (!this.#candidates.isWithinShared(near) || this.costOf(near) >= this.#bestCost) continue;
        const value = this.valueOf(near);
        if (this.#isBetter(value)) this.#takeTrimmed(near, value, 2 * y.length);
      }
      return;
    }
    const cost = this.costOf(y);
    if (this.#isBetter(cost) && this.#candidates.isWithinShared(y) && this.#candidates.fits(y)) {
      this.#takeTrimmed(y, cost, 4 * y.length);
      return;
    }
    // Only what could beat the incumbent is tested: the roundest point, or it less one replica of some type.
    let tests = this.#best === null ? Number.POSITIVE_INFINITY : candidatesPerNode;
    const saving = y.map((_, d) => this.#savingOfOneLess(y, d));
    const order = numbersBelow(y.length)
      .filter((d) => y[d]! > box.lower[d]!)
      .sort((a, b) => saving[b]! - saving[a]! || a - b);
    for (const d of order) {
      if (tests <= 0) return;
      if (y[d]! <= lower[d]!) continue;
      y[d] = y[d]! - 1;
      const less = this.costOf(y);
      if (!this.#isBetter(less)) return;
      if (this.#candidates.isWithinShared(y) && !this.#candidates.isCutOff(y)) {
        tests--;
        if (this.#candidates.fits(y)) {
          this.#takeTrimmed(y, less, 2 * y.length);
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
    // What a gap allows to leave aside may be better than the answer: it stays in the box, for the bound to tell of it.
    const most = this.#nothingBetter();
    if (most === Number.POSITIVE_INFINITY || bound === Number.POSITIVE_INFINITY) return;
    const room = most - bound;
    const steps = (reduced: number): number => Math.floor(room / reduced + 1e-6);
    for (let d = 0; d < box.lower.length; d++) {
      const { below, above, kink } = this.#tree.reducedCosts(d, prices);
      const low = box.lower[d]!;
      const high = box.upper[d]!;
      // Where y is cheapest: at the lower bound, at the upper one, or at the kink between them.
      const first = low < kink ? below : above;
      const last = high > kink ? above : below;
      if (first > 0) box.upper[d] = Math.min(high, low + steps(first));
      else if (last < 0) box.lower[d] = Math.max(low, high - steps(-last));
      else if (low < kink && kink < high) {
        if (above > 0) box.upper[d] = Math.min(high, kink + steps(above));
        if (below < 0) box.lower[d] = Math.max(low, kink - steps(-below));
      }
    }
  }
}

const unlimited: SolveLimits = {
  shouldStop: () => false,
  timeLimitMs: Number.POSITIVE_INFINITY,
  nodeLimit: null,
  relativeGap: 0,
};

/**
 * The greatest common divisor of the prices, in millionths of a USD: costs of whole replicas are multiples of it (plus
 * what is fixed). Prices of a cent give a cent; equal prices give the price, which proves ties at once.
 */
function costStep(program: Program, { below, above, unserved }: Costs): number {
  if (unserved !== null) return 0;
  let divisor = 0;
  for (let d = 0; d < program.deploymentCount; d++) {
    if (program.lower[d] === program.upper[d]) continue;
    for (const cost of [below[d]!, above[d]!]) {
      if (cost === 0) continue;
      const millionths = Math.round(Math.abs(cost) * 1e6);
      if (Math.abs(Math.abs(cost) * 1e6 - millionths) > 1e-4 || millionths > 1e12) return 0;
      let a = millionths;
      let b = divisor;
      while (b > 0) [a, b] = [b, a % b];
      divisor = a;
    }
  }
  return divisor * 1e-6;
}

function numbersBelow(count: number): number[] {
  const numbers: number[] = [];
  for (let d = 0; d < count; d++) numbers.push(d);
  return numbers;
}
