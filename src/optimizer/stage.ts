import type { PlanOptions, ProblemModel } from '../core/planning-problem.js';
import { type Formulation, formulate, mergeFormulation, toProgram } from './formulate.js';
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
  readonly raw: { readonly count: number; readonly work: Float64Array; readonly rate: Float64Array };
  /** Is it proven that no plan leaves less demand unserved? */
  readonly leastUnservedProven: boolean;
};

/** Formulates a model, finds the least demand that stays unserved, and merges its buckets. */
export function stageOf(model: ProblemModel, options: PlanOptions): Stage {
  const formulation = formulate(model);
  const raw = { count: formulation.placed.length, work: formulation.rawWork, rate: formulation.rawRate };
  const unserved = leastUnserved(formulation, raw);
  // Where demand must stay unserved, which of it matters (its rate per work): nothing is merged then.
  const merged = unserved.rps > 0 ? unmerged(raw) : mergeFormulation(formulation, options.maxBuckets);
  const program = toProgram(formulation, merged, unserved.rps);
  return { formulation, merged, program, raw, leastUnservedProven: unserved.proven };
}

/** Do whole replicas serve the merged buckets, the raw ones, or neither (or neither for sure)? */
export function whereItFits(stage: Stage, replicas: Float64Array): 'merged' | 'raw' | null {
  for (const [over, program] of [
    ['merged', stage.program],
    ['raw', rawProgram(stage)],
  ] as const) {
    const lp = fitLp(program);
    if (sharesFit(lp, replicas) === 'fits') return over;
  }
  return null;
}

/** The program over the buckets of the document. */
export function rawProgram(stage: Stage): Program {
  return toProgram(stage.formulation, stage.raw, stage.program.unservedLimit);
}
