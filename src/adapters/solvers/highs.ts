import loader, { type Highs, type InitOptions, type ModelData } from 'highs';
import type { Program } from '../../optimizer/program.js';
import {
  checkProposal,
  costOf,
  type EngineAnswer,
  type FindShares,
  fitTolerance,
  noAnswer,
  type Proposal,
  wholeReplicas,
} from './answer-check.js';

/**
 * HiGHS (WebAssembly) as an engine: the whole integer program in one go, by its persistent model API.
 *
 * The calls block: production code runs them in the solver worker (solver-pool.ts); benchmarks call them directly.
 *
 * What the model does about tolerances. HiGHS calls anything below its tolerances zero (1e-10 is the least it
 * takes), so a bucket of 1e-9 replicas of work would be "served" by no replicas at all, and coefficients near the
 * tolerances lead its presolve to dearer answers that it calls optimal. Raising such works to a floor would change the
 * program. Instead every deployment with small works gets one more row, Σ_small x ≤ n y, which says in numbers of
 * ordinary size that some replica must be there; and the very small ones leave the work row. What remains is a
 * relaxation, so its bound holds, and the check of the answer on the original numbers settles the rest.
 */

/** Works below this get the linking row [replicas]. */
const smallWork = 1e-5;
/** Works below this leave the work row: a hundred times the integrality tolerance given to HiGHS [replicas]. */
const negligibleWork = 1e-7;
/** The package's types describe its CommonJS form, in which the loader is a property of what is imported. */
const load = loader as unknown as (options?: InitOptions) => Promise<Highs>;

let loaded: Promise<Highs> | undefined;

/** The HiGHS runtime of this thread, loaded at the first call (about half a second). */
export function highsRuntime(): Promise<Highs> {
  loaded ??= load();
  return loaded;
}

export type EngineLimits = {
  readonly timeLimitMs: number;
  readonly nodeLimit: number | null;
  readonly relativeGap: number;
};

/** Where the columns of a program stand in the model: replicas first, then shares, then unserved shares. */
type Columns = {
  /** Column of share (b, d), or −1 where it does not exist; bucketCount × deploymentCount. */
  readonly share: Int32Array;
  /** First column of the unserved shares, or −1 where all is served. */
  readonly unserved: number;
  readonly count: number;
};

/** Solves a program with HiGHS and checks the answer against the original numbers. */
export function solveWithHighs(highs: Highs, program: Program, limits: EngineLimits): EngineAnswer {
  const findShares: FindShares = (asked, replicas) => findSharesWithHighs(highs, asked, replicas);
  const relaxed = propose(highs, program, limits, null);
  if (typeof relaxed.proposal === 'string') return noAnswer(relaxed.proposal, relaxed.milliseconds);
  const answer = checkProposal(program, relaxed.proposal, findShares, relaxed.milliseconds);
  if (answer.detail !== 'rejected' || relaxed.proposal.replicas === null) return answer;
  const reserve = negligibleWorkOf(program);
  if (reserve.every((work) => work === 0)) return answer;
  // A deployment is full to the last digit and has very small works besides. With room kept for those in every replica
  // the answer fits; the relaxation's bound says what it may cost too much.
  const roomy = propose(highs, program, limits, reserve);
  const milliseconds = relaxed.milliseconds + roomy.milliseconds;
  if (typeof roomy.proposal === 'string' || roomy.proposal.replicas === null) return noAnswer('rejected', milliseconds);
  const bound = Math.min(relaxed.proposal.bound, roomy.proposal.bound);
  const proven = costOf(program, roomy.proposal.replicas) <= relaxed.proposal.bound * (1 + provenTolerance);
  const claim = proven && roomy.proposal.claim === 'optimal' ? 'optimal' : 'feasible';
  return checkProposal(program, { ...roomy.proposal, claim, bound }, findShares, milliseconds);
}

/** A cost this close to a bound (relative) is the bound. */
const provenTolerance = 1e-9;

/** The works that leave the work row, summed by deployment, as parts of its capacity. */
function negligibleWorkOf({ bucketCount, deploymentCount, work, capacity }: Program): Float64Array {
  const sums = new Float64Array(deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]! / capacity[d]!;
      if (value < negligibleWork) sums[d]! += value;
    }
  }
  return sums;
}

/**
 * One run of HiGHS: what it proposes, or why it proposes nothing.
 *
 * @param reserve part of each replica that is kept free, by deployment; null = none
 */
function propose(
  highs: Highs,
  program: Program,
  limits: EngineLimits,
  reserve: Float64Array | null,
): { readonly proposal: Proposal | EngineAnswer['detail']; readonly milliseconds: number } {
  const started = performance.now();
  // Prices are scaled to at most 1, so that HiGHS's absolute gap and dual tolerances mean the same for every currency.
  let costScale = 0;
  for (const cost of program.cost) costScale = Math.max(costScale, cost);
  if (costScale === 0) costScale = 1;
  const { model: data, columns } = buildModel(program, costScale, reserve);
  return highs.withModel(data, (model) => {
    model.options.set({
      output_flag: false,
      mip_rel_gap: limits.relativeGap,
      mip_abs_gap: 1e-10,
      primal_feasibility_tolerance: 1e-10,
      dual_feasibility_tolerance: 1e-9,
      mip_feasibility_tolerance: 1e-9,
      time_limit: Math.max(0.001, limits.timeLimitMs / 1000),
    });
    if (limits.nodeLimit !== null) model.options.set('mip_max_nodes', limits.nodeLimit);
    const { modelStatus } = model.run();
    const status = highs.constants.modelStatus;
    const nodes = Math.max(0, Number(model.info.get('mip_node_count')));
    const ended = (proposal: Proposal | EngineAnswer['detail']) => ({
      proposal,
      milliseconds: performance.now() - started,
    });
    if (modelStatus === status.infeasible || modelStatus === status.unboundedOrInfeasible) {
      return ended({ claim: 'infeasible', replicas: null, shares: null, unserved: null, bound: 0, nodes });
    }
    const limited =
      modelStatus === status.timeLimit ||
      modelStatus === status.solutionLimit ||
      modelStatus === status.iterationLimit ||
      modelStatus === status.interrupted;
    if ((modelStatus !== status.optimal && !limited) || Number(model.info.get('primal_solution_status')) !== feasible) {
      return ended(limited ? 'time-limit' : 'no-answer');
    }
    const values = model.getSolution().colValue;
    const replicas = wholeReplicas(program, values);
    if (replicas === null) return ended('rejected');
    const dualBound = Number(model.info.get('mip_dual_bound'));
    return ended({
      claim: modelStatus === status.optimal ? 'optimal' : 'feasible',
      replicas,
      ...readShares(program, columns, values),
      bound: Number.isFinite(dualBound) ? dualBound * costScale : 0,
      nodes,
    });
  });
}

/** HiGHS's `primal_solution_status` where the point it holds is feasible; a limit can leave none. */
const feasible = 2;

function readShares(program: Program, columns: Columns, values: Float64Array) {
  const shares = new Float64Array(columns.share.length);
  for (let i = 0; i < shares.length; i++) {
    const column = columns.share[i]!;
    if (column >= 0) shares[i] = values[column]!;
  }
  const unserved = columns.unserved < 0 ? null : values.slice(columns.unserved, columns.unserved + program.bucketCount);
  return { shares, unserved };
}

/**
 * The program column by column. Rows: one per bucket (Σ x + z = 1), one per deployment (work − capacity·y ≤ 0, divided
 * by the capacity so that y's coefficient is −1), one linking row per deployment with small works, one for the
 * unserved rate (divided by its limit).
 */
function buildModel(
  program: Program,
  costScale: number,
  reserve: Float64Array | null,
): { readonly model: ModelData; readonly columns: Columns } {
  const { bucketCount, deploymentCount, work, capacity, lower, upper, cost, rate, unservedLimit } = program;
  const smallCount = new Int32Array(deploymentCount);
  let finiteCount = 0;
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]!;
      if (!Number.isFinite(value)) continue;
      finiteCount++;
      if (value > 0 && value / capacity[d]! < smallWork) smallCount[d]!++;
    }
  }
  const workRow = bucketCount;
  let rowCount = bucketCount + deploymentCount;
  const linkRow = new Int32Array(deploymentCount).fill(-1);
  for (let d = 0; d < deploymentCount; d++) if (smallCount[d]! > 0) linkRow[d] = rowCount++;
  const withUnserved = unservedLimit > 0;
  const unservedRow = withUnserved ? rowCount++ : -1;

  const columnCount = deploymentCount + finiteCount + (withUnserved ? bucketCount : 0);
  const share = new Int32Array(bucketCount * deploymentCount).fill(-1);
  const colCost = new Float64Array(columnCount);
  const colLower = new Float64Array(columnCount);
  const colUpper = new Float64Array(columnCount).fill(1);
  const integrality = new Int32Array(columnCount);
  const starts = new Int32Array(columnCount + 1);
  const indices: number[] = [];
  const values: number[] = [];
  let column = 0;
  const entry = (row: number, value: number) => {
    if (value === 0) return;
    indices.push(row);
    values.push(value);
  };
  for (let d = 0; d < deploymentCount; d++) {
    colCost[column] = cost[d]! / costScale;
    colLower[column] = lower[d]!;
    colUpper[column] = upper[d]!;
    integrality[column] = 1;
    entry(workRow + d, reserve === null ? -1 : reserve[d]! - 1);
    if (linkRow[d]! >= 0) entry(linkRow[d]!, -smallCount[d]!);
    starts[++column] = indices.length;
  }
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]! / capacity[d]!;
      if (!Number.isFinite(value)) continue;
      share[b * deploymentCount + d] = column;
      entry(b, 1);
      if (value >= negligibleWork) entry(workRow + d, value);
      if (value > 0 && value < smallWork) entry(linkRow[d]!, 1);
      starts[++column] = indices.length;
    }
  }
  const firstUnserved = withUnserved ? column : -1;
  if (withUnserved) {
    for (let b = 0; b < bucketCount; b++) {
      const relative = rate[b]! / unservedLimit;
      // A bucket whose rate is above the limit can be left out only in part; the bound keeps its coefficient tame.
      if (relative > 1) colUpper[column] = Math.min(1, (1 + fitTolerance) / relative);
      entry(b, 1);
      entry(unservedRow, relative);
      starts[++column] = indices.length;
    }
  }

  const rowLower = new Float64Array(rowCount).fill(-Infinity);
  const rowUpper = new Float64Array(rowCount);
  rowLower.fill(1, 0, bucketCount);
  rowUpper.fill(1, 0, bucketCount);
  if (withUnserved) rowUpper[unservedRow] = 1;
  return {
    model: {
      numCols: columnCount,
      numRows: rowCount,
      colCost,
      colLower,
      colUpper,
      rowLower,
      rowUpper,
      matrix: {
        format: 'csc',
        numRows: rowCount,
        numCols: columnCount,
        starts,
        indices: Int32Array.from(indices),
        values: Float64Array.from(values),
      },
      integrality,
    },
    columns: { share, unserved: firstUnserved, count: columnCount },
  };
}

/**
 * Shares that fit at fixed replicas, by a linear program that minimises the largest overload t ≥ 1 of any deployment
 * and of the unserved limit.
 *
 * Used where an engine's own shares are too rough to prove its replicas right.
 */
export function findSharesWithHighs(highs: Highs, program: Program, replicas: Float64Array): ReturnType<FindShares> {
  const { bucketCount, deploymentCount, work, capacity, rate, unservedLimit } = program;
  const share = new Int32Array(bucketCount * deploymentCount).fill(-1);
  const withUnserved = unservedLimit > 0;
  const starts: number[] = [0];
  const indices: number[] = [];
  const values: number[] = [];
  const upper: number[] = [];
  const entry = (row: number, value: number) => {
    if (value === 0) return;
    indices.push(row);
    values.push(value);
  };
  const rowCount = bucketCount + deploymentCount + (withUnserved ? 1 : 0);
  // Column 0 is the overload t.
  for (let d = 0; d < deploymentCount; d++) if (replicas[d]! > 0) entry(bucketCount + d, -1);
  if (withUnserved) entry(rowCount - 1, -1);
  upper.push(Infinity);
  starts.push(indices.length);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const value = work[b * deploymentCount + d]!;
      if (!Number.isFinite(value) || (value > 0 && replicas[d]! === 0)) continue;
      share[b * deploymentCount + d] = upper.length;
      entry(b, 1);
      if (value > 0) entry(bucketCount + d, value / (capacity[d]! * replicas[d]!));
      upper.push(1);
      starts.push(indices.length);
    }
  }
  const firstUnserved = withUnserved ? upper.length : -1;
  if (withUnserved) {
    for (let b = 0; b < bucketCount; b++) {
      entry(b, 1);
      entry(rowCount - 1, rate[b]! / unservedLimit);
      upper.push(1);
      starts.push(indices.length);
    }
  }
  const columnCount = upper.length;
  const colCost = new Float64Array(columnCount);
  colCost[0] = 1;
  const rowLower = new Float64Array(rowCount).fill(-Infinity);
  const rowUpper = new Float64Array(rowCount);
  rowLower.fill(1, 0, bucketCount);
  rowUpper.fill(1, 0, bucketCount);
  const data: ModelData = {
    numCols: columnCount,
    numRows: rowCount,
    colCost,
    colLower: new Float64Array(columnCount),
    colUpper: Float64Array.from(upper),
    rowLower,
    rowUpper,
    matrix: {
      format: 'csc',
      numRows: rowCount,
      numCols: columnCount,
      starts: Int32Array.from(starts),
      indices: Int32Array.from(indices),
      values: Float64Array.from(values),
    },
  };
  return highs.withModel(data, (model) => {
    model.options.set({
      output_flag: false,
      solver: 'simplex',
      primal_feasibility_tolerance: 1e-10,
      dual_feasibility_tolerance: 1e-10,
    });
    const { modelStatus } = model.run();
    const status = highs.constants.modelStatus;
    if (modelStatus === status.infeasible || modelStatus === status.unboundedOrInfeasible) return 'none';
    if (modelStatus !== status.optimal) return null;
    const point = model.getSolution().colValue;
    // Overloads between the fit tolerance and this are left to the check of the sums.
    if (point[0]! > 1 + 1e-8) return 'none';
    return readShares(program, { share, unserved: firstUnserved, count: columnCount }, point);
  });
}
