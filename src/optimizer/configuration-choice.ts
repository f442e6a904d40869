import { ConfigurationLp } from './configuration-lp.js';

/**
 * One configuration for each model, at the least cost that the shared limits allow: branch and bound over the
 * configurations at hand, best bound first, diving from each node it takes up. A node closes configurations: those in
 * which a deployment has more replicas than a number, or fewer.
 */

/** A replica vector of one model: what it costs and what it uses of each limit. */
export type Candidate = {
  readonly model: number;
  readonly replicas: Float64Array;
  readonly cost: number;
  readonly use: Float64Array;
};

export type Choice = {
  /** Candidate of each model; null where none was found that keeps the limits. */
  readonly chosen: readonly Candidate[] | null;
  readonly cost: number;
  /** No choice among these candidates costs less. */
  readonly bound: number;
  readonly nodes: number;
};

export type ChoiceOptions = {
  readonly candidates: readonly Candidate[];
  readonly modelCount: number;
  /** Most of each limit that may be used, the tolerance for rounding included. */
  readonly limits: Float64Array;
  /** A choice that is known already. */
  readonly incumbent: readonly Candidate[] | null;
  readonly nodeLimit: number;
  readonly shouldStop: () => boolean;
  /** Stop within this distance of the bound. */
  readonly relativeGap: number;
};

/** Costs closer than this (relative) are equal. */
const costTolerance = 1e-9;
/** What a linear program overruns a limit by less than this, relative, is rounding. */
const overrunTolerance = 1e-10;
/** How often the price of an overrun is raised, a thousandfold each time. */
const mostRaises = 3;
/** A part this near to 0 or 1 is whole. */
const wholePart = 1e-6;
/** A bound this near (relative) below the cost of what the linear program itself takes is that cost but for rounding. */
const nearlyEqual = 1e-8;
/** Nodes within which such rounding is settled by splitting on: where many choices tie, there would be no end of it. */
const nodesForRounding = 200;

export function isWithin(use: Float64Array, limits: Float64Array): boolean {
  return use.every((amount, r) => amount <= limits[r]!);
}

export function totalUse(chosen: readonly Candidate[], rowCount: number): Float64Array {
  const total = new Float64Array(rowCount);
  for (const { use } of chosen) for (let r = 0; r < rowCount; r++) total[r] = total[r]! + use[r]!;
  return total;
}

export function chooseConfigurations(options: ChoiceOptions): Choice {
  return new ChoiceSearch(options).run();
}

type Restriction = {
  readonly parent: Restriction | null;
  readonly model: number;
  readonly deployment: number;
  readonly split: number;
  /** More than `split`, or at most. */
  readonly above: boolean;
};

type ChoiceNode = { readonly restriction: Restriction | null; readonly bound: number };

class ChoiceSearch {
  readonly #options: ChoiceOptions;
  readonly #lp: ConfigurationLp;
  readonly #ofModel: number[][];
  /** Closed for good: too dear for any better choice. */
  readonly #isFixed: Uint8Array;
  readonly #penalty: number;
  #closed: number[] = [];
  #raises = 0;
  #nodes = 0;
  #best: readonly Candidate[] | null = null;
  #bestCost = Number.POSITIVE_INFINITY;
  /** Least bound of the nodes that were closed though it is below the best cost, by rounding. */
  #closedBound = Number.POSITIVE_INFINITY;

  constructor(options: ChoiceOptions) {
    const { candidates, modelCount, limits, incumbent } = options;
    this.#options = options;
    this.#ofModel = Array.from({ length: modelCount }, () => []);
    let dearest = 1;
    candidates.forEach((candidate, j) => {
      this.#ofModel[candidate.model]!.push(j);
      dearest = Math.max(dearest, Math.abs(candidate.cost));
    });
    this.#penalty = 1e4 * dearest;
    // A unit over a limit is worse than any choice within it.
    const overflow = Float64Array.from(limits, (_, r) => {
      const least = candidates.reduce((small, { use }) => (use[r]! > 0 ? Math.min(small, use[r]!) : small), 1);
      return this.#penalty / Math.max(1e-3, Math.min(1, least));
    });
    this.#lp = new ConfigurationLp(modelCount, limits, overflow);
    for (const { model, cost, use } of candidates) this.#lp.add(model, cost, use);
    this.#isFixed = new Uint8Array(candidates.length);
    if (incumbent !== null) this.#accept(incumbent);
  }

  run(): Choice {
    const { nodeLimit, shouldStop } = this.#options;
    const open: ChoiceNode[] = [];
    let next: ChoiceNode | undefined = { restriction: null, bound: Number.NEGATIVE_INFINITY };
    let left = Number.POSITIVE_INFINITY;
    while (next !== undefined) {
      if (this.#nodes >= nodeLimit || (this.#nodes > 0 && shouldStop())) {
        left = Math.min(next.bound, ...open.map(({ bound }) => bound));
        break;
      }
      this.#nodes++;
      const children = this.#expand(next, this.#nodes === 1);
      if (children === null) next = takeLeast(open, this.#cutoff());
      else {
        const [first, second] = children;
        open.push(second);
        next = first;
      }
    }
    // With a gap allowed, what was closed may hold something better than the answer, but not than the cutoff.
    const closed = this.#options.relativeGap > 0 ? this.#cutoff() : this.#bestCost;
    return {
      chosen: this.#best,
      cost: this.#bestCost,
      bound: Math.min(left, closed, this.#closedBound),
      nodes: this.#nodes,
    };
  }

  #cutoff(): number {
    if (this.#best === null) return Number.POSITIVE_INFINITY;
    const size = Math.max(1e-3, Math.abs(this.#bestCost));
    return this.#bestCost - Math.max(costTolerance, this.#options.relativeGap) * size;
  }

  #accept(chosen: readonly Candidate[]): void {
    const cost = chosen.reduce((sum, candidate) => sum + candidate.cost, 0);
    if (cost >= this.#bestCost || !isWithin(totalUse(chosen, this.#options.limits.length), this.#options.limits))
      return;
    this.#best = chosen.slice();
    this.#bestCost = cost;
  }

  /** Solves a node; its two children, the one to go on with first, or null where it holds nothing better. */
  #expand(node: ChoiceNode, isRoot: boolean): readonly [ChoiceNode, ChoiceNode] | null {
    const { candidates, modelCount, limits } = this.#options;
    if (!this.#restrict(node.restriction)) return null;
    if (!this.#solveWithin()) return null;
    const bound = Math.max(node.bound, withoutRounding(this.#lp.boundAtPrices()));
    if (bound >= this.#cutoff()) return null;
    const parts = this.#lp.parts();
    let branchModel = -1;
    let leastWhole = 1 - wholePart;
    const largest = new Int32Array(modelCount).fill(-1);
    for (let m = 0; m < modelCount; m++) {
      for (const j of this.#ofModel[m]!) if (largest[m]! < 0 || parts[j]! > parts[largest[m]!]!) largest[m] = j;
      const part = parts[largest[m]!]!;
      if (part < leastWhole) {
        leastWhole = part;
        branchModel = m;
      }
    }
    const rounded = Array.from(largest, (j) => candidates[j]!);
    const isUsable = !this.#closed.some((j) => parts[j]! > wholePart);
    const isAnswer = branchModel < 0 && isUsable && isWithin(totalUse(rounded, limits.length), limits);
    if (isUsable) this.#round(rounded, isRoot);
    if (isRoot) this.#fixDear(bound);
    if (bound >= this.#cutoff()) return null;
    const isNear = this.#bestCost - bound <= nearlyEqual * Math.max(1, Math.abs(this.#bestCost));
    if (isAnswer && isNear && this.#nodes > nodesForRounding) {
      this.#closedBound = Math.min(this.#closedBound, bound);
      return null;
    }
    if (!isAnswer && (branchModel < 0 || !isUsable) && this.#lp.cannotFit()) return null;
    return this.#split(node, { preferred: branchModel, parts, bound });
  }

  /**
   * Solves the linear program of a node. What a unit over a limit costs is raised while some is overrun, however small
   * the overrun and dear what avoids it.
   *
   * @returns false where the prices prove that nothing in this node fits
   */
  #solveWithin(): boolean {
    for (;;) {
      this.#lp.solve(this.#penalty);
      const over = this.#lp.overflow();
      const overrun = over.map((amount, r) =>
        amount > overrunTolerance * Math.max(1, this.#options.limits[r]!) ? 1 : 0,
      );
      if (!overrun.includes(1)) return true;
      if (this.#lp.cannotFit()) return false;
      if (this.#raises >= mostRaises) return true;
      this.#raises++;
      overrun.forEach((is, r) => {
        if (is === 1) this.#lp.raiseOverflowPrice(r, 1e3);
      });
    }
  }

  /** Tries the rounded choice, mended where it overruns a limit, and the better choices one exchange away. */
  #round(rounded: Candidate[], thoroughly: boolean): void {
    if (this.#mend(rounded)) {
      this.#accept(rounded);
      if (thoroughly || this.#options.modelCount <= 40) {
        this.#exchange(rounded);
        this.#accept(rounded);
      }
    }
  }

  /** Exchanges configurations until no limit is overrun, each time at the least cost for what it frees. */
  #mend(chosen: Candidate[]): boolean {
    const { limits, candidates } = this.#options;
    const rowCount = limits.length;
    const used = totalUse(chosen, rowCount);
    const overrun = (extra: Float64Array | null, less: Float64Array | null): number => {
      let sum = 0;
      for (let r = 0; r < rowCount; r++) {
        const amount = used[r]! + (extra?.[r] ?? 0) - (less?.[r] ?? 0);
        const over = amount - limits[r]!;
        if (over > 0) sum += over / Math.max(1, limits[r]!);
      }
      return sum;
    };
    for (let moves = 0; moves < 4 * chosen.length + 20; moves++) {
      const over = overrun(null, null);
      if (over <= 0) return true;
      let best = -1;
      let least = Number.POSITIVE_INFINITY;
      for (let m = 0; m < chosen.length; m++) {
        const now = chosen[m]!;
        for (const j of this.#ofModel[m]!) {
          const other = candidates[j]!;
          if (other === now) continue;
          const freed = over - overrun(other.use, now.use);
          if (freed <= 1e-12) continue;
          const rate = Math.max(0, other.cost - now.cost) / freed;
          if (rate < least) {
            least = rate;
            best = j;
          }
        }
      }
      if (best < 0) return false;
      const to = candidates[best]!;
      const from = chosen[to.model]!;
      for (let r = 0; r < rowCount; r++) used[r] = used[r]! + to.use[r]! - from.use[r]!;
      chosen[to.model] = to;
    }
    return false;
  }

  /** Takes cheaper configurations where they fit, until none does. */
  #exchange(chosen: Candidate[]): void {
    const { limits, candidates } = this.#options;
    const used = totalUse(chosen, limits.length);
    for (let rounds = 0; rounds < 20; rounds++) {
      let best = -1;
      let saving = 1e-12;
      for (let m = 0; m < chosen.length; m++) {
        const now = chosen[m]!;
        for (const j of this.#ofModel[m]!) {
          const other = candidates[j]!;
          if (now.cost - other.cost <= saving) continue;
          if (other.use.every((amount, r) => used[r]! - now.use[r]! + amount <= limits[r]!)) {
            saving = now.cost - other.cost;
            best = j;
          }
        }
      }
      if (best < 0) return;
      const to = candidates[best]!;
      const from = chosen[to.model]!;
      for (let r = 0; r < used.length; r++) used[r] = used[r]! + to.use[r]! - from.use[r]!;
      chosen[to.model] = to;
    }
  }

  /** Closes for good what no better choice can contain: its reduced cost alone reaches from the bound to the cutoff. */
  #fixDear(bound: number): void {
    const cutoff = this.#cutoff();
    if (cutoff === Number.POSITIVE_INFINITY) return;
    const slack = this.#lp.slackOfEach();
    for (let j = 0; j < slack.length; j++) {
      if (slack[j]! <= cutoff - bound + costTolerance * Math.abs(cutoff)) continue;
      this.#isFixed[j] = 1;
      this.#lp.setClosed(j, true);
    }
  }

  /** Closes what the restrictions of a node exclude; false where a model is left with nothing. */
  #restrict(restriction: Restriction | null): boolean {
    const { candidates } = this.#options;
    for (const j of this.#closed) this.#lp.setClosed(j, this.#isFixed[j] === 1);
    this.#closed = [];
    const touched = new Set<number>();
    for (let at = restriction; at !== null; at = at.parent) {
      touched.add(at.model);
      for (const j of this.#ofModel[at.model]!) {
        if (candidates[j]!.replicas[at.deployment]! > at.split === at.above) continue;
        this.#lp.setClosed(j, true);
        this.#closed.push(j);
      }
    }
    const closed = new Set(this.#closed);
    for (const m of touched) {
      if (this.#ofModel[m]!.every((j) => closed.has(j) || this.#isFixed[j] === 1)) return false;
    }
    return true;
  }

  /** Splits the configurations of one model that are open in two; null where every model has only one. */
  #split(
    node: ChoiceNode,
    found: { preferred: number; parts: Float64Array; bound: number },
  ): readonly [ChoiceNode, ChoiceNode] | null {
    const { preferred, parts, bound } = found;
    const closed = new Set(this.#closed);
    const openOf = this.#ofModel.map((own) => own.filter((j) => !closed.has(j) && this.#isFixed[j] === 0));
    // What the linear program takes may be whole and yet overrun a limit, or be closed: then the open ones decide.
    const others = Array.from(openOf.keys()).sort((m, n) => openOf[n]!.length - openOf[m]!.length || m - n);
    for (const model of preferred < 0 ? others : [preferred, ...others]) {
      const open = openOf[model]!;
      if (open.length < 2) continue;
      const used = open.filter((j) => parts[j]! > wholePart * 1e-3);
      const split =
        this.#widestSplit(used, (j) => parts[j]!) ??
        this.#widestSplit(open, (j) => Math.max(parts[j]!, 1 / open.length));
      if (split === null) continue;
      const child = (above: boolean): ChoiceNode => ({
        restriction: { parent: node.restriction, model, deployment: split.deployment, split: split.at, above },
        bound,
      });
      return split.above >= 0.5 ? [child(true), child(false)] : [child(false), child(true)];
    }
    this.#accept(openOf.map(([j]) => this.#options.candidates[j!]!));
    return null;
  }

  /** Where the replicas of some configurations differ most: above and below it there are some; null where none differ. */
  #widestSplit(
    among: readonly number[],
    weightOf: (j: number) => number,
  ): { readonly deployment: number; readonly at: number; readonly above: number } | null {
    const { candidates } = this.#options;
    const total = among.reduce((sum, j) => sum + weightOf(j), 0);
    let widest = 1e-12;
    let best: { deployment: number; at: number; above: number } | null = null;
    for (let d = 0; d < (candidates[among[0] ?? 0]?.replicas.length ?? 0); d++) {
      let mean = 0;
      let square = 0;
      let most = 0;
      for (const j of among) {
        const count = candidates[j]!.replicas[d]!;
        mean += weightOf(j) * count;
        square += weightOf(j) * count * count;
        most = Math.max(most, count);
      }
      mean /= total;
      const spread = square / total - mean * mean;
      if (spread <= widest) continue;
      widest = spread;
      const at = Math.min(most - 1, Math.floor(mean + 1e-9));
      let above = 0;
      for (const j of among) if (candidates[j]!.replicas[d]! > at) above += weightOf(j) / total;
      best = { deployment: d, at, above };
    }
    return best;
  }
}

function withoutRounding(bound: number): number {
  return bound - 1e-11 * Math.abs(bound);
}

/** Takes the open node with the least bound out; none where that is not below the cutoff. */
function takeLeast(open: ChoiceNode[], cutoff: number): ChoiceNode | undefined {
  let least = -1;
  for (let i = 0; i < open.length; i++) if (least < 0 || open[i]!.bound < open[least]!.bound) least = i;
  if (least < 0 || open[least]!.bound >= cutoff) return undefined;
  const node = open[least]!;
  open[least] = open[open.length - 1]!;
  open.pop();
  return node;
}
