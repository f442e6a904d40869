import type { PlanOptions, ProblemModel } from '../core/planning-problem.js';
import {
  type Formulation,
  type FormulationContext,
  formulate,
  mergeFormulation,
  programBuckets,
  toProgram,
} from './formulate.js';
import { leastUnserved } from './least-unserved.js';
import { type MergedBuckets, unmerged } from './merge.js';
import type { Program } from './program.js';
import { fitLp, sharesFit } from './program-lp.js';

/** A model made ready for a solver. */
export type Stage = {
  readonly formulation: Formulation;
  readonly merged: MergedBuckets;
  /** Over merged buckets. */
  readonly program: Program;
  /** Before merging: the buckets of the document, or all of them as one where they have the same shares. */
  readonly raw: { readonly count: number; readonly work: Float64Array; readonly rate: Float64Array };
  /** Is it proven that no plan leaves less demand unserved? */
  readonly leastUnservedProven: boolean;
  readonly options: PlanOptions;
};

/** Formulates a model, finds the least demand that stays unserved, and merges its buckets. */
export function stageOf(model: ProblemModel, options: PlanOptions, context: FormulationContext): Stage {
  const formulation = formulate(model, context);
  const raw = programBuckets(formulation);
  const unserved = leastUnserved(formulation, raw);
  // Where demand must stay unserved, which of it matters (its rate per work): nothing is merged then.
  const merged =
    unserved.rps > 0 || formulation.routing === 'proportional'
      ? unmerged(raw)
      : mergeFormulation(formulation, options.maxBuckets);
  const program = toProgram(formulation, merged, { unservedLimit: unserved.rps, options });
  return { formulation, merged, program, raw, leastUnservedProven: unserved.proven, options };
}

/** The same model with its buckets as they are, and another limit on what may stay unserved [requests/s]. */
export function unmergedStage(stage: Stage, unservedRps: number): Stage {
  const merged = unmerged(stage.raw);
  const { formulation, options } = stage;
  return { ...stage, merged, program: toProgram(formulation, merged, { unservedLimit: unservedRps, options }) };
}

/**
 * The demand that the program places, and how much of it may stay unserved for what minServedShare requires of all demand:
 * what cannot be placed stays unserved anyway [requests/s]. Where nothing is required that is all of it, exactly.
 */
export function requirementOf({ formulation, raw }: Stage): {
  readonly placedRps: number;
  readonly allowedRps: number;
} {
  const { model, buckets } = formulation;
  const placedRps = raw.rate.reduce((sum, rate) => sum + rate, 0);
  let unplacedRps = 0;
  buckets.forEach(({ unplaced }, index) => {
    if (unplaced === 'slo' || unplaced === 'max_replicas') unplacedRps += model.demand[index]!.rps;
  });
  const requiredRps = (placedRps + unplacedRps) * model.minServedShare;
  return { placedRps, allowedRps: Math.max(0, placedRps - requiredRps) };
}

/** Do whole replicas serve the merged buckets, the raw ones, or neither (or neither for sure)? */
export function whereItFits(stage: Stage, replicas: Float64Array): 'merged' | 'raw' | null {
  for (const [over, program] of [
    ['merged', stage.program],
    ['raw', rawProgram(stage)],
  ] as const) {
    if (sharesFit(fitLp(program), replicas) === 'fits') return over;
  }
  return null;
}

/** The program over the buckets of the document. */
export function rawProgram({ formulation, raw, program, options }: Stage): Program {
  return toProgram(formulation, raw, { unservedLimit: program.unservedLimit, options });
}

/** Replicas that run now, 0 where that is not known; null where none are known. */
export function currentOf({ formulation }: Stage): Float64Array | null {
  const { deployments } = formulation;
  if (deployments.every(({ currentReplicas }) => currentReplicas === null)) return null;
  return Float64Array.from(deployments, ({ currentReplicas }) => currentReplicas ?? 0);
}

/** Replicas to try first: those that run, where all are known. */
export function incumbentOf(stage: Stage): Float64Array | null {
  const isKnown = stage.formulation.deployments.every(({ currentReplicas }) => currentReplicas !== null);
  return isKnown ? currentOf(stage) : null;
}
