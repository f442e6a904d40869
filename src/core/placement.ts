import type { PlacementRequest, SharingModeName, StrategyName } from './placement-request.js';

/**
 * The whole output of a placement: which service runs where, with what memory, and what could not be done.
 *
 * Contract: gpumix/v1. A Placement and its PlacementRequest are all that an export needs.
 */

export const refusalReasons = ['memory', 'vendor', 'sharing', 'pinned', 'taint'] as const;
export type RefusalReason = (typeof refusalReasons)[number];

export type PlacementAssignment = {
  readonly service: string;
  /** Null for a service on the CPU of any node. */
  readonly node: string | null;
  /** Null = the CPU. */
  readonly gpuIndex: number | null;
  /** What it may hold of its GPU; at least its minMemoryMb. */
  readonly memoryBudgetMb: number;
  readonly sharing: SharingModeName;
  /**
   * Part of the GPU's compute that it may count on: its computeShare, 1 where it is alone, that of its MIG instance, else
   * as its memory; 0 on the CPU.
   */
  readonly share: number;
  /** With `mig`: the profile of its instance, `3g.40gb`, and its UUID where the request names it. */
  readonly mig?: { readonly profile: string; readonly uuid: string | null };
};

export type PlacementGpuUse = {
  readonly node: string;
  readonly index: number;
  readonly memoryMb: number;
  readonly usedMb: number;
  /** Budgets of its services. */
  readonly assignedMb: number;
};

export type PlacementWarning = { readonly code: string; readonly service?: string; readonly message: string };

export type PlacementRefusal = {
  readonly service: string;
  readonly reason: RefusalReason;
  /** Why, with the arithmetic, and what would work. */
  readonly message: string;
};

/** Compared component by component in this order, less is better; the same for every strategy. */
export type PlacementObjective = {
  /** Refused services, from the highest priority; priorities without one are left out. */
  readonly refusedByPriority: readonly { readonly priority: number; readonly count: number }[];
  /** Σ over GPUs of max(0, used + assigned − memory) [MiB]. */
  readonly overcommitMb: number;
  /** Σ of memory − budget [MiB]. */
  readonly shrunkMb: number;
  /** Σ over critical services of (services on its GPU) / speed; the CPU counts 100 each. */
  readonly criticalSlowness: number;
  /** max over GPUs of (used + assigned) / memory, rounded up to thousandths. */
  readonly maxRelativeUse: number;
};

export type Placement = {
  readonly apiVersion: 'gpumix/v1';
  readonly kind: 'Placement';
  readonly strategy: StrategyName;
  /** `optimal` where the objective is proven the least there is, whatever the strategy. */
  readonly status: 'optimal' | 'feasible';
  readonly overcommit: PlacementRequest['overcommit'];
  /** In the order of the request's services. */
  readonly assignments: readonly PlacementAssignment[];
  /** In the order of the request's GPUs. */
  readonly gpus: readonly PlacementGpuUse[];
  readonly warnings: readonly PlacementWarning[];
  readonly refusals: readonly PlacementRefusal[];
  readonly objective: PlacementObjective;
  /** No placement of this request is better than this; equal to the objective where that is proven. */
  readonly bound: PlacementObjective;
  /** Nodes of the exact search; 0 for the other strategies. */
  readonly nodes: number;
};
