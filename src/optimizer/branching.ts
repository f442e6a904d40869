import { heapOrder } from '../core/binary-heap.js';
import type { LpBasis } from './share-lp.js';

/** The tree of a search over whole replicas: its nodes, in which order they are taken, and where a node is split. */
export type Node = {
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
export type Branch = { readonly deployment: number; readonly up: boolean; readonly distance: number };

/** Whole replicas between two bounds. */
export type Box = { readonly lower: Float64Array; readonly upper: Float64Array };

/** y this close to whole, relative, is whole. Zero is whole only when exactly nothing is placed. */
export const wholeTolerance = 1e-9;

export function roundUp(value: number): number {
  const whole = Math.round(value);
  return whole > 0 && Math.abs(value - whole) <= wholeTolerance * whole ? whole : Math.ceil(value);
}

/**
 * What branching on each deployment has gained so far: the rise of the bound per replica that the relaxed value was
 * moved, up and down. Until it is known, a replica's price stands for it.
 */
export class BranchGains {
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
export function chooseBranch(y: Float64Array, box: Box, gains: BranchGains): number {
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
export class NodeHeap {
  readonly #items: Node[] = [];

  push(node: Node): void {
    byBound.push(this.#items, node);
  }

  pop(): Node | undefined {
    return byBound.pop(this.#items);
  }
}

const byBound = heapOrder<Node>((a, b) => a.bound < b.bound || (a.bound === b.bound && a.depth > b.depth));
