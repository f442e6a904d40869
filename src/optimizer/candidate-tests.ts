import type { Program } from './program.js';
import { fitLp, type SearchLp, sharesFit } from './program-lp.js';
import type { ShareLp } from './share-lp.js';

/**
 * Tests of whole replicas y: do they keep the shared limits, and do shares exist that fit in them?
 *
 * Cheap tests come first: the cuts collected so far (prices p that every feasible y must cover:
 * Σ p_d capacity_d y_d ≥ Σ_b min_d p_d a_bd), then a linear program at fixed y.
 */
export class CandidateTests {
  readonly #program: Program;
  /** Solves the nodes: its last basis is near every candidate. */
  readonly #tree: SearchLp;
  /** Says what demand is worth at some prices: on the raw buckets, where merging cost freedom. */
  readonly #bounder: SearchLp;
  /** At fixed y: on the tree's buckets, and on the raw ones where they differ. */
  readonly #probe: ShareLp;
  readonly #rawProbe: ShareLp | null;
  readonly #cuts: { readonly weight: Float64Array; readonly need: number }[] = [];
  #nextCut = 0;
  #treeIsSolved = false;

  constructor(
    program: Program,
    { tree, bounder, raw }: { readonly tree: SearchLp; readonly bounder: SearchLp; readonly raw: Program | null },
  ) {
    this.#program = program;
    this.#tree = tree;
    this.#bounder = bounder;
    this.#probe = fitLp(program);
    this.#rawProbe = raw === null ? null : fitLp(raw);
  }

  /** A new search begins: no node is solved yet. */
  begin(): void {
    this.#treeIsSolved = false;
  }

  /** A node is being solved: the tree's basis is a start from now on. */
  onNode(): void {
    this.#treeIsSolved = true;
  }

  /** Keeps prices as a cut for candidates: Σ weight_d y_d ≥ need. */
  rememberCut(from: Float64Array): void {
    const prices = nonNegative(from);
    const { deploymentCount, capacity, unservedLimit } = this.#program;
    const unserved = unservedLimit > 0 ? prices[deploymentCount]! * unservedLimit : 0;
    const demand = this.#bounder.lp.demandAt(prices) - unserved;
    if (!(demand > 0) || demand === Number.POSITIVE_INFINITY) return;
    const weight = new Float64Array(deploymentCount);
    for (let d = 0; d < deploymentCount; d++) weight[d] = prices[d]! * capacity[d]!;
    this.#cuts[this.#nextCut] = { weight, need: demand * (1 - 1e-9) };
    this.#nextCut = (this.#nextCut + 1) % keptCuts;
  }

  /** Does a cut say that y serves too little? */
  isCutOff(y: Float64Array): boolean {
    for (const { weight, need } of this.#cuts) {
      let covered = 0;
      for (let d = 0; d < y.length; d++) covered += weight[d]! * y[d]!;
      if (covered < need) return true;
    }
    return false;
  }

  isWithinShared(y: Float64Array): boolean {
    const { sharedLimits } = this.#program;
    if (sharedLimits === undefined) return true;
    return sharedLimits.every(({ use, limit }) => {
      let used = 0;
      for (let d = 0; d < y.length; d++) used += use[d]! * y[d]!;
      return used <= limit * (1 + 1e-9);
    });
  }

  fits(y: Float64Array): boolean {
    return !this.isCutOff(y) && this.fit(y) === 'fits';
  }

  /** Do shares exist that fit in y? What the merged buckets cannot settle, the raw ones do. */
  fit(y: Float64Array): 'fits' | 'impossible' | 'unknown' {
    // The tree's last basis is near: candidates are roundings of its answer.
    if (this.#treeIsSolved && this.#tree.isPlain) this.#probe.loadBasis(this.#tree.lp.saveBasis());
    const fit = sharesFit(this.#probe, y);
    if (fit === 'fits') return fit;
    if (fit === 'impossible') this.#rememberFitCut(this.#probe);
    if (this.#rawProbe === null || this.isCutOff(y)) return fit;
    this.#rawProbe.startAt(nonNegative(this.#probe.prices));
    const rawFit = sharesFit(this.#rawProbe, y);
    if (rawFit === 'impossible') this.#rememberFitCut(this.#rawProbe);
    return rawFit;
  }

  /** The probe has no rows for what is shared: its prices stand for none there. */
  #rememberFitCut({ prices }: ShareLp): void {
    const all = new Float64Array(this.#tree.lp.rowCount);
    all.set(prices);
    this.rememberCut(all);
  }
}

/** Cuts kept. */
const keptCuts = 64;

export function nonNegative(prices: Float64Array): Float64Array {
  return prices.map((price) => Math.max(0, price));
}
