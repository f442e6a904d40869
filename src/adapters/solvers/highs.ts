import loader, { type Highs, type InitOptions, type ModelData } from 'highs';
import type { Program } from '../../optimizer/program.js';
import {
  checkProposal,
  type EngineAnswer,
  noAnswer,
  type Proposal,
  type SecondLook,
  wholeReplicas,
} from './answer-check.js';
import {
  ModelBuilder,
  type ModelOptions,
  negligibleWorkOf,
  programModel,
  readShares,
  type SparseModel,
  shareColumns,
  unservedRows,
} from './engine-model.js';

/**
 * HiGHS (WebAssembly) as an engine: the whole integer program in one go, by its persistent model API.
 *
 * The calls block: production code runs them in the solver worker (solver-pool.ts); benchmarks call them directly.
 * engine-model.ts says how the model keeps clear of its tolerances.
 */

/** The package's types describe its CommonJS form, in which the loader is a property of what is imported. */
const loadRuntime = loader as unknown as (options?: InitOptions) => Promise<Highs>;

let loaded: Promise<Highs> | undefined;

/** The HiGHS runtime of this thread, loaded at the first call (about half a second). */
export function highsRuntime(): Promise<Highs> {
  loaded ??= loadRuntime();
  return loaded;
}

export type EngineLimits = {
  readonly timeLimitMs: number;
  readonly nodeLimit: number | null;
  readonly relativeGap: number;
};

/** Solves a program with HiGHS and checks the answer against the original numbers. */
export function solveWithHighs(highs: Highs, program: Program, limits: EngineLimits): EngineAnswer {
  const started = performance.now();
  const remaining = (): EngineLimits => ({
    ...limits,
    timeLimitMs: limits.timeLimitMs - (performance.now() - started),
  });
  const secondLook = secondLookOf(highs, remaining);
  const relaxed = propose(highs, program, { limits });
  if (typeof relaxed.proposal === 'string') return noAnswer(relaxed.proposal, relaxed.milliseconds);
  const { relativeGap } = limits;
  const answer = checkProposal(program, relaxed.proposal, {
    secondLook,
    relativeGap,
    milliseconds: relaxed.milliseconds,
  });
  if (answer.detail !== 'rejected' || relaxed.proposal.replicas === null) return answer;
  const reserve = negligibleWorkOf(program);
  if (reserve.every((work) => work === 0) || remaining().timeLimitMs <= 0) return answer;
  // A deployment is full to the last digit and has very small works besides. With room kept for those in every replica
  // the answer fits; the relaxation's bound says what it may cost too much.
  const roomy = propose(highs, program, { limits: remaining(), reserve });
  const milliseconds = relaxed.milliseconds + roomy.milliseconds;
  if (typeof roomy.proposal === 'string' || roomy.proposal.replicas === null) return noAnswer('rejected', milliseconds);
  const proposal = { ...roomy.proposal, bound: relaxed.proposal.bound };
  return checkProposal(program, proposal, { secondLook, relativeGap, milliseconds });
}

/** How HiGHS settles what an engine's answer leaves open. `remaining` says what is left of the engine's limits. */
export function secondLookOf(highs: Highs, remaining: () => EngineLimits): SecondLook {
  return {
    findShares: (program, replicas) => findShares(highs, program, replicas),
    stretch: (program) => {
      const limits = { ...remaining(), relativeGap: 0 };
      if (limits.timeLimitMs <= 0) return null;
      const { proposal } = propose(highs, program, { limits, stretched: true });
      if (typeof proposal === 'string' || proposal.replicas === null) return null;
      return { atLeast: proposal.bound, atMost: proposal.objective };
    },
  };
}

type EngineProposal = Proposal & { readonly objective: number };

/** One run of HiGHS: what it proposes, or why it proposes nothing. */
function propose(
  highs: Highs,
  program: Program,
  { limits, ...question }: ModelOptions & { readonly limits: EngineLimits },
): { readonly proposal: EngineProposal | EngineAnswer['detail']; readonly milliseconds: number } {
  const started = performance.now();
  const { model: asked, columns, costScale } = programModel(program, question);
  return highs.withModel(toHighs(asked), (model) => {
    model.options.set({
      output_flag: false,
      mip_rel_gap: limits.relativeGap,
      mip_abs_gap: 1e-10,
      primal_feasibility_tolerance: 1e-10,
      dual_feasibility_tolerance: 1e-9,
      // Tens of thousands of replicas are not whole to less.
      mip_feasibility_tolerance: 1e-8,
      time_limit: Math.max(0.001, limits.timeLimitMs / 1000),
      // Where demand may stay unserved, presolve of 1.15.3 cuts off optima and calls what is left optimal: on 27 of 720
      // random programs with x + z = 1, once 72 times too dear; with x + z ≥ 1 still on some.
      presolve: program.unservedLimit > 0 ? 'off' : 'choose',
    });
    if (limits.nodeLimit !== null) model.options.set('mip_max_nodes', limits.nodeLimit);
    const { modelStatus } = model.run();
    const status = highs.constants.modelStatus;
    const nodes = Math.max(0, Number(model.info.get('mip_node_count')));
    const ended = (proposal: EngineProposal | EngineAnswer['detail']) => ({
      proposal,
      milliseconds: performance.now() - started,
    });
    if (modelStatus === status.infeasible || modelStatus === status.unboundedOrInfeasible) {
      const nothing = { replicas: null, shares: null, unserved: null, bound: 0, objective: 0 };
      return ended({ claim: 'infeasible', ...nothing, nodes });
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
      ...readShares(columns, (column) => values[column]!),
      bound: Number.isFinite(dualBound) ? dualBound * costScale : 0,
      objective: Number(model.info.get('objective_function_value')) * costScale,
      nodes,
    });
  });
}

/** HiGHS's `primal_solution_status` where the point it holds is feasible; a limit can leave none. */
const feasible = 2;

function toHighs(model: SparseModel): ModelData {
  const { columnCount, rowCount, starts, indices, values, rowLower, rowUpper } = model;
  return {
    numCols: columnCount,
    numRows: rowCount,
    colCost: model.cost,
    colLower: model.lower,
    colUpper: model.upper,
    rowLower,
    rowUpper,
    matrix: { format: 'csc', numRows: rowCount, numCols: columnCount, starts, indices, values },
    ...(model.whole.includes(1) ? { integrality: model.whole } : {}),
  };
}

/** Largest load of a linear program at fixed replicas that is left to the check of the sums. */
const mostLoad = 1 + 1e-8;

/**
 * Shares that fit at fixed replicas, by a linear program that minimises the largest load t of any deployment and of the
 * limits on unserved demand (1 = full); then, at that load or up to full, what is left unserved costs least.
 */
function findShares(highs: Highs, program: Program, replicas: Float64Array): ReturnType<SecondLook['findShares']> {
  const { bucketCount, deploymentCount, work, capacity, unservedPrice } = program;
  const builder = new ModelBuilder();
  builder.rows(bucketCount, 1, 1);
  const workRow = builder.rows(deploymentCount, Number.NEGATIVE_INFINITY, 0);
  const unservedRow = unservedRows(builder, program, 0);
  for (let d = 0; d < deploymentCount; d++) if (replicas[d]! > 0) builder.entry(workRow + d, -1);
  for (let row = unservedRow; row < builder.rowCount; row++) builder.entry(row, -1);
  const load = builder.column({ cost: 1, upper: Number.POSITIVE_INFINITY });
  const columns = shareColumns(builder, program, {
    share: (b, d) => {
      const value = work[b * deploymentCount + d]!;
      if (!Number.isFinite(value) || (value > 0 && replicas[d]! === 0)) return false;
      if (value > 0) builder.entry(workRow + d, value / (capacity[d]! * replicas[d]!));
      return true;
    },
    unservedRow,
    unservedCost: () => 0,
  });
  let dearest = 0;
  columns.unserved.forEach((column, b) => {
    if (column >= 0 && unservedPrice !== undefined) dearest = Math.max(dearest, unservedPrice[b]!);
  });
  return highs.withModel(toHighs(builder.model()), (model) => {
    model.options.set({
      output_flag: false,
      solver: 'simplex',
      primal_feasibility_tolerance: 1e-10,
      dual_feasibility_tolerance: 1e-10,
    });
    const status = highs.constants.modelStatus;
    const first = model.run().modelStatus;
    if (first === status.infeasible || first === status.unboundedOrInfeasible) return 'none';
    if (first !== status.optimal) return null;
    const point = model.getSolution().colValue;
    if (point[load]! > mostLoad) return 'none';
    const read = (values: Float64Array) => readShares(columns, (column) => values[column]!);
    if (dearest === 0) return read(point);
    model.changeColBounds(load, 0, Math.max(1, point[load]!));
    model.changeColCost(load, 0);
    columns.unserved.forEach((column, b) => {
      if (column >= 0) model.changeColCost(column, unservedPrice![b]! / dearest);
    });
    return read(model.run().modelStatus === status.optimal ? model.getSolution().colValue : point);
  });
}
