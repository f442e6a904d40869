import solver from 'javascript-lp-solver';
import type { Program } from '../../optimizer/program.js';
import { checkProposal, type EngineAnswer, type FindShares, noAnswer, wholeReplicas } from './answer-check.js';
import type { EngineLimits } from './highs.js';

/**
 * javascript-lp-solver 1.0 as an engine: a second opinion in plain JavaScript, never the default.
 *
 * Its time-out is not looked at inside one linear program, so it runs in the solver worker, which is ended at the
 * deadline. Known ways in which it goes wrong, and what is done here:
 * - a time-out can return the relaxation, or a partly fractional point, as `feasible: true`: `isIntegral` is read, the
 *   replicas must be whole, and the answer is checked against the program;
 * - its presolve answers some capped programs wrongly: it is off;
 * - variables named `result`, `feasible`, `bounded`, `isIntegral` collide with the answer's keys: names are `y0`, `x0_0`, `z0`;
 * - a misspelt constraint or `opType` is ignored, NaN and Infinity are taken: the model is made here, from finite numbers;
 * - coefficients below 1e-8 are dropped: the linking row (see highs.ts) keeps small works from needing no replica;
 * - values are rounded to 1e-8: where its own shares do not fit exactly, HiGHS looks for shares at its replicas;
 * - `min: 1` rows take half the time of `equal: 1`: serving a bucket more than once is never cheaper.
 */

/** As in highs.ts: works below this get the linking row [replicas]. */
const smallWork = 1e-5;
/** As in highs.ts: works below this leave the work row; ten times the engine's own precision [replicas]. */
const negligibleWork = 1e-7;

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
  findShares: () => Promise<FindShares>,
): Promise<EngineAnswer> {
  const started = performance.now();
  const model = buildModel(program, limits);
  if (model === null) {
    return checkProposal(program, infeasible, await findShares(), performance.now() - started);
  }
  const result = engine.Solve(model);
  const milliseconds = performance.now() - started;
  const timedOut = milliseconds >= limits.timeLimitMs;
  if (result.feasible !== true) {
    if (timedOut) return noAnswer('time-limit', milliseconds);
    return checkProposal(program, infeasible, await findShares(), milliseconds);
  }
  if (result.isIntegral !== true || result.bounded === false) {
    return noAnswer(timedOut ? 'time-limit' : 'rejected', milliseconds);
  }
  const amount = (name: string): number => {
    const value = result[name];
    return typeof value === 'number' ? value : 0;
  };
  const { bucketCount, deploymentCount } = program;
  const replicas = wholeReplicas(
    program,
    Array.from({ length: deploymentCount }, (_, d) => amount(`y${d}`)),
  );
  if (replicas === null) return noAnswer('rejected', milliseconds);
  const shares = new Float64Array(bucketCount * deploymentCount);
  const unserved = new Float64Array(bucketCount);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) shares[b * deploymentCount + d] = amount(`x${b}_${d}`);
    unserved[b] = amount(`z${b}`);
  }
  let cost = 0;
  for (let d = 0; d < deploymentCount; d++) cost += program.cost[d]! * replicas[d]!;
  return checkProposal(
    program,
    {
      claim: timedOut ? 'feasible' : 'optimal',
      replicas,
      shares,
      unserved,
      // It publishes no bound: a finished search is its only proof.
      bound: timedOut ? 0 : cost * (1 - limits.relativeGap),
      nodes: 0,
    },
    await findShares(),
    milliseconds,
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

/** The program in the engine's JSON form; null where a bucket can neither be served nor left out. */
function buildModel(program: Program, limits: EngineLimits): JsonModel | null {
  const { bucketCount, deploymentCount, work, capacity, lower, upper, cost, rate, unservedLimit } = program;
  let costScale = 0;
  for (const price of cost) costScale = Math.max(costScale, price);
  if (costScale === 0) costScale = 1;
  const constraints: JsonModel['constraints'] = {};
  const variables: JsonModel['variables'] = {};
  const ints: JsonModel['ints'] = {};
  const smallCount = new Int32Array(deploymentCount);
  const withUnserved = unservedLimit > 0;
  for (let b = 0; b < bucketCount; b++) {
    let servable = withUnserved;
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]! / capacity[d]!;
      if (!Number.isFinite(value)) continue;
      servable = true;
      const column: Record<string, number> = { [`b${b}`]: 1 };
      if (value >= negligibleWork) column[`w${d}`] = value;
      if (value > 0 && value < smallWork) {
        column[`s${d}`] = 1;
        smallCount[d]!++;
      }
      variables[`x${b}_${d}`] = column;
    }
    if (!servable) return null;
    constraints[`b${b}`] = { min: 1 };
    if (withUnserved) variables[`z${b}`] = { [`b${b}`]: 1, unserved: rate[b]! / unservedLimit };
  }
  if (withUnserved) constraints.unserved = { max: 1 };
  for (let d = 0; d < deploymentCount; d++) {
    const name = `y${d}`;
    const column: Record<string, number> = { cost: cost[d]! / costScale, [`w${d}`]: -1, [name]: 1 };
    constraints[`w${d}`] = { max: 0 };
    if (smallCount[d]! > 0) {
      constraints[`s${d}`] = { max: 0 };
      column[`s${d}`] = -smallCount[d]!;
    }
    constraints[name] = lower[d]! > 0 ? { min: lower[d]!, max: upper[d]! } : { max: upper[d]! };
    variables[name] = column;
    ints[name] = 1;
  }
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
