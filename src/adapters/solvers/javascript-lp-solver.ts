import solver from 'javascript-lp-solver';
import type { Program } from '../../optimizer/program.js';
import {
  checkProposal,
  type EngineAnswer,
  noAnswer,
  objectiveOf,
  type SecondLook,
  wholeReplicas,
} from './answer-check.js';
import { type ProgramModel, programModel, readShares } from './engine-model.js';
import type { EngineLimits } from './highs.js';

/**
 * javascript-lp-solver 1.0 as an engine: a second opinion in plain JavaScript, never the default.
 *
 * Its time-out is not looked at inside one linear program, so it runs in the solver worker, which is ended at the
 * deadline. Known ways in which it goes wrong, and what is done here:
 * - a time-out can return the relaxation, or a partly fractional point, as `feasible: true`: `isIntegral` is read, the
 *   replicas must be whole, and the answer is checked against the program;
 * - its presolve answers some capped programs wrongly: it is off;
 * - variables named `result`, `feasible`, `bounded`, `isIntegral` collide with the answer's keys: names are `v0`, `v1`, … of columns, `r0`, `r1`, … of rows;
 * - a misspelt constraint or `opType` is ignored, NaN and Infinity are taken: the model is made here, from finite numbers;
 * - coefficients below 1e-8 are dropped: the linking row (see engine-model.ts) keeps small works from needing no replica;
 * - values are rounded to 1e-8: where its own shares do not fit exactly, HiGHS looks for shares at its replicas.
 */

type JsonModel = {
  readonly optimize: string;
  readonly opType: 'min';
  readonly constraints: Record<string, { min?: number; max?: number }>;
  readonly variables: Record<string, Record<string, number>>;
  readonly ints: Record<string, 1>;
  readonly options: { readonly timeout: number; readonly presolve: false; readonly tolerance?: number };
};

/** The package's types describe its CommonJS form, in which the solver is a property of what is imported. */
const engine = solver as unknown as {
  Solve(model: JsonModel): Readonly<Record<string, number | boolean | undefined>>;
};

/** Solves a program with javascript-lp-solver and checks the answer; blocks, possibly far beyond the time limit. */
export async function solveWithJavascriptLpSolver(
  program: Program,
  limits: EngineLimits,
  secondLookOf: () => Promise<SecondLook>,
): Promise<EngineAnswer> {
  const started = performance.now();
  const { model, columns } = programModel(program);
  const json = toJson(model, program.bucketCount, limits);
  const result = json === null ? null : engine.Solve(json);
  const milliseconds = performance.now() - started;
  const timedOut = milliseconds >= limits.timeLimitMs;
  const { relativeGap } = limits;
  if (result === null || result.feasible !== true) {
    if (result !== null && timedOut) return noAnswer('time-limit', milliseconds);
    return checkProposal(program, infeasible, { secondLook: await secondLookOf(), relativeGap, milliseconds });
  }
  if (result.isIntegral !== true || result.bounded === false) {
    return noAnswer(timedOut ? 'time-limit' : 'rejected', milliseconds);
  }
  const amountIn = (column: number): number => {
    const value = result[`v${column}`];
    return typeof value === 'number' ? value : 0;
  };
  const replicas = wholeReplicas(
    program,
    Array.from({ length: program.deploymentCount }, (_, d) => amountIn(d)),
  );
  if (replicas === null) return noAnswer('rejected', milliseconds);
  const { shares, unserved } = readShares(columns, amountIn);
  return checkProposal(
    program,
    {
      claim: timedOut ? 'feasible' : 'optimal',
      replicas,
      shares,
      unserved,
      // It publishes no bound: a finished search is its only proof.
      bound: timedOut ? 0 : objectiveOf(program, replicas, unserved) * (1 - relativeGap),
      nodes: 0,
    },
    { secondLook: await secondLookOf(), relativeGap, milliseconds },
  );
}

const infeasible = {
  claim: 'infeasible',
  replicas: null,
  shares: null,
  unserved: null,
  bound: 0,
  nodes: 0,
} as const;

/** The model in the engine's JSON form; null where a bucket can neither be served nor left out. */
function toJson(model: ProgramModel['model'], bucketCount: number, limits: EngineLimits): JsonModel | null {
  const constraints: JsonModel['constraints'] = {};
  const variables: JsonModel['variables'] = {};
  const ints: JsonModel['ints'] = {};
  const servable = new Uint8Array(bucketCount);
  for (let row = 0; row < model.rowCount; row++) {
    const least = model.rowLower[row]!;
    const most = model.rowUpper[row]!;
    constraints[`r${row}`] = least === Number.NEGATIVE_INFINITY ? { max: most } : { min: least };
  }
  for (let j = 0; j < model.columnCount; j++) {
    const name = `v${j}`;
    const column: Record<string, number> = { cost: model.cost[j]! };
    for (let at = model.starts[j]!; at < model.starts[j + 1]!; at++) {
      const row = model.indices[at]!;
      if (row < bucketCount) servable[row] = 1;
      column[`r${row}`] = model.values[at]!;
    }
    // Shares and switched replicas are bounded by their rows.
    if (model.whole[j] === 1) {
      const lower = model.lower[j]!;
      const upper = model.upper[j]!;
      column[name] = 1;
      constraints[name] = lower > 0 ? { min: lower, max: upper } : { max: upper };
      ints[name] = 1;
    }
    variables[name] = column;
  }
  if (servable.includes(0)) return null;
  return {
    optimize: 'cost',
    opType: 'min',
    constraints,
    variables,
    ints,
    options: {
      timeout: Math.max(1, limits.timeLimitMs),
      presolve: false,
      ...(limits.relativeGap > 0 ? { tolerance: limits.relativeGap } : {}),
    },
  };
}
