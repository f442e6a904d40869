import type { StrategyName } from '../../core/placement-request.js';
import type { Fleet } from '../fleet.js';
import type { ImproveLimits } from '../improve.js';
import type { Occupancy } from '../occupancy.js';
import { balanced } from './balanced.js';
import { isolationFirst } from './isolation-first.js';
import { latencyOptimized } from './latency-optimized.js';
import { manual } from './manual.js';
import { vramBased } from './vram-based.js';

/** A rule by which services are given GPUs. Pins, and what hardware forbids, hold for all of them. */
export type Strategy = {
  /** The rule, as a person would follow it by hand. */
  readonly rule: string;
  /** Who wants it. */
  readonly suits: string;
};

/** Strategies that follow a rule; `optimal` searches, beginning with what these find. */
export const rules = {
  manual,
  vram_based: vramBased,
  latency_optimized: latencyOptimized,
  isolation_first: isolationFirst,
  balanced,
} satisfies Record<Exclude<StrategyName, 'optimal'>, (fleet: Fleet, limits?: ImproveLimits) => Occupancy>;

export const strategies = {
  manual: {
    rule: 'what is pinned goes where it is pinned; the rest is reported, not placed',
    suits: 'whoever has decided, and wants the arithmetic and the files',
  },
  vram_based: {
    rule: 'largest service first, each to the GPU with the most free memory',
    suits: 'a box where memory is all that matters; easy to foresee',
  },
  latency_optimized: {
    rule: 'critical services on the fastest GPU on which they fit, the others on the GPUs without one',
    suits: 'a path that users wait for, on GPUs of different speed',
  },
  isolation_first: {
    rule: 'the LLM alone on the largest GPU, everything else shares what remains',
    suits: 'an LLM that nothing may disturb',
  },
  balanced: {
    rule: 'largest first to the GPU that is least used with it, then moves and swaps to even out relative use',
    suits: 'equal GPUs and room for growth on each of them',
  },
  optimal: {
    rule: 'least in the objective, component by component, proven where the search ends in time',
    suits: 'everybody who can wait a second',
  },
} satisfies Record<StrategyName, Strategy>;
