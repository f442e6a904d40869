import type { Highs, ModelData } from 'highs';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { type JointFacts, type JointOptimum, jointFacts } from './joint-facts.js';

/**
 * The whole joint problem as one integer program per stage, solved by HiGHS: all models, all limits, no decomposition.
 *
 * Stages: what minServedShare asks for, then every priority from the highest, then money. The optimum of a stage becomes a
 * row (or, where nothing is left unserved, bounds of 0) of the stages after it.
 */
export function jointOptimumByHighs(highs: Highs, problem: PlanningProblem): JointOptimum {
  const facts = jointFacts(problem);
  const program = jointProgram(facts);
  const servedShareShort = program.shortTerms.length === 0 ? 0 : minimised(highs, program, program.shortTerms).value;
  const unserved = facts.priorities.map((priority) => {
    const terms = program.unservedTerms.get(priority)!;
    const lost = program.lostUnserved.get(priority)!;
    return { priority, weightedRps: lost + (terms.length === 0 ? 0 : minimised(highs, program, terms).value) };
  });
  const { value, point } = minimised(highs, program, program.moneyTerms, true);
  const replicas = new Map(
    facts.models.flatMap(({ deployments }, m) =>
      deployments.map(({ deployment }, d) => [deployment.id, Math.round(point[program.replicas[m]![d]!]!)] as const),
    ),
  );
  return { servedShareShort, unserved, objectiveUsdPerHour: facts.standingUsdPerHour + value, replicas };
}

type Term = readonly [column: number, coefficient: number];
type Row = { readonly terms: readonly Term[]; readonly lower: number; readonly upper: number };

type JointProgram = {
  readonly lower: number[];
  readonly upper: number[];
  readonly isWhole: boolean[];
  readonly rows: Row[];
  /** Columns of replicas, by model and deployment. */
  readonly replicas: readonly (readonly number[])[];
  /** What models lack to their minServedShare. */
  readonly shortTerms: readonly Term[];
  readonly unservedTerms: ReadonlyMap<number, readonly Term[]>;
  readonly moneyTerms: readonly Term[];
  /** What demand that nothing can serve adds to each priority. */
  readonly lostUnserved: ReadonlyMap<number, number>;
};

function jointProgram(facts: JointFacts): JointProgram {
  const lower: number[] = [];
  const upper: number[] = [];
  const isWhole: boolean[] = [];
  const rows: Row[] = [];
  const column = (from: number, to: number, whole = false): number => {
    lower.push(from);
    upper.push(to);
    isWhole.push(whole);
    return lower.length - 1;
  };
  const limitTerms = facts.limits.map((): Term[] => []);
  const shortTerms: Term[] = [];
  const moneyTerms: Term[] = [];
  const unservedTerms = new Map(facts.priorities.map((priority) => [priority, [] as Term[]]));
  const lostUnserved = new Map(facts.priorities.map((priority) => [priority, 0]));

  const replicas = facts.models.map(({ model, priority, weight, rate, lostRate, buckets, deployments }) => {
    const counts = deployments.map(({ lower: from, upper: to }) => column(from, to, true));
    deployments.forEach(({ uses, deployment, start, stop, isFixed }, d) => {
      const count = counts[d]!;
      uses.forEach((use, l) => {
        if (use > 0) limitTerms[l]!.push([count, use]);
      });
      if (isFixed) return;
      moneyTerms.push([count, deployment.usdPerReplicaHour]);
      const now = deployment.currentReplicas;
      if (now === null || (start === 0 && stop === 0)) return;
      const started = column(0, Infinity);
      const stopped = column(0, Infinity);
      rows.push({
        terms: [
          [count, 1],
          [started, -1],
          [stopped, 1],
        ],
        lower: now,
        upper: now,
      });
      moneyTerms.push([started, start], [stopped, stop]);
    });

    const left: Term[] = [];
    const loads = deployments.map((): Term[] => []);
    if (facts.proportional) {
      if (buckets.length > 0) {
        const terms: Term[] = [];
        deployments.forEach((_, d) => {
          const work = buckets.reduce((sum, { works }) => sum + works[d]!, 0);
          if (work === Infinity) return;
          const share = column(0, 1);
          terms.push([share, 1]);
          loads[d]!.push([share, work]);
        });
        const lacking = column(0, 1);
        rows.push({ terms: [...terms, [lacking, 1]], lower: 1, upper: 1 });
        left.push([lacking, rate - lostRate]);
      }
    } else {
      for (const { rps, works } of buckets) {
        const terms: Term[] = [];
        works.forEach((work, d) => {
          if (work === Infinity) return;
          const share = column(0, 1);
          terms.push([share, 1]);
          loads[d]!.push([share, work]);
        });
        const lacking = column(0, 1);
        rows.push({ terms: [...terms, [lacking, 1]], lower: 1, upper: 1 });
        left.push([lacking, rps]);
      }
    }
    loads.forEach((terms, d) => {
      if (terms.length === 0) return;
      const room = deployments[d]!.deployment.targetUtilization;
      rows.push({ terms: [...terms, [counts[d]!, -room]], lower: -Infinity, upper: 0 });
    });
    unservedTerms.get(priority)!.push(...left.map(([at, rps]): Term => [at, weight * rps]));
    lostUnserved.set(priority, lostUnserved.get(priority)! + weight * lostRate);
    if (model.minServedShare > 0 && rate > 0) {
      const lacking = column(0, rate);
      const allowed = (1 - model.minServedShare) * rate - lostRate;
      rows.push({ terms: [...left, [lacking, -1]], lower: -Infinity, upper: allowed });
      shortTerms.push([lacking, weight]);
    }
    return counts;
  });
  limitTerms.forEach((terms, l) => {
    const { left } = facts.limits[l]!;
    if (terms.length > 0) rows.push({ terms, lower: -Infinity, upper: left });
  });
  return {
    lower,
    upper,
    isWhole,
    rows,
    replicas,
    shortTerms,
    unservedTerms,
    moneyTerms,
    lostUnserved,
  };
}

/** A stage this small, relative to all that it is about, is zero: nothing is left. */
const nothing = 1e-9;

/**
 * Minimises Σ terms and makes the optimum a part of the program, so that no later stage gives it up.
 *
 * @param isLast leaves the program as it is
 */
function minimised(
  highs: Highs,
  program: JointProgram,
  terms: readonly Term[],
  isLast = false,
): { readonly value: number; readonly point: Float64Array } {
  const scale = isLast
    ? Math.max(1e-12, ...terms.map(([, coefficient]) => Math.abs(coefficient)))
    : terms.reduce((sum, [at, coefficient]) => sum + coefficient * program.upper[at]!, 0);
  const objective = new Float64Array(program.lower.length);
  for (const [at, coefficient] of terms) objective[at]! += coefficient / (scale || 1);
  const { value, point } = solved(highs, program, objective);
  if (isLast) return { value: value * scale, point };
  if (value <= nothing) {
    for (const [at] of terms) program.upper[at] = 0;
    return { value: 0, point };
  }
  program.rows.push({
    terms: terms.map(([at, coefficient]) => [at, coefficient / scale]),
    lower: -Infinity,
    upper: value + nothing,
  });
  return { value: value * scale, point };
}

function solved(
  highs: Highs,
  { lower, upper, isWhole, rows }: JointProgram,
  objective: Float64Array,
): { readonly value: number; readonly point: Float64Array } {
  const columnCount = lower.length;
  // Nothing to keep (HiGHS calls such a program empty): what costs nothing or more is as low as it goes.
  if (rows.length === 0) {
    const point = Float64Array.from(lower);
    return { value: point.reduce((sum, at, j) => sum + objective[j]! * at, 0), point };
  }
  const byColumn = Array.from({ length: columnCount }, (): [number, number][] => []);
  rows.forEach(({ terms }, r) => {
    for (const [at, coefficient] of terms) byColumn[at]!.push([r, coefficient]);
  });
  const starts = new Int32Array(columnCount + 1);
  byColumn.forEach((entries, j) => {
    starts[j + 1] = starts[j]! + entries.length;
  });
  const data: ModelData = {
    numCols: columnCount,
    numRows: rows.length,
    colCost: objective,
    colLower: Float64Array.from(lower),
    colUpper: Float64Array.from(upper),
    rowLower: Float64Array.from(rows, (row) => row.lower),
    rowUpper: Float64Array.from(rows, (row) => row.upper),
    matrix: {
      format: 'csc',
      numRows: rows.length,
      numCols: columnCount,
      starts,
      indices: Int32Array.from(byColumn.flat(), ([r]) => r),
      values: Float64Array.from(byColumn.flat(), ([, coefficient]) => coefficient),
    },
    integrality: Int32Array.from(isWhole, Number),
  };
  // HiGHS 1.15.3 now and then cuts off optima where demand may stay unserved, on some problems with presolve and on others
  // without (about 1 of 1,000 each), at any tolerances. What it finds holds either way: the better of the two is taken.
  const one = minimumOf(highs, data, 'choose');
  if (one !== null && one.value <= nothing) return one;
  const other = minimumOf(highs, data, 'off');
  if (one === null && other === null) throw new Error('HiGHS has not judged a stage, with presolve or without');
  return one === null || (other !== null && other.value < one.value) ? other! : one;
}

/** Null where HiGHS ends without an optimum, or not at all. */
function minimumOf(
  highs: Highs,
  data: ModelData,
  presolve: 'choose' | 'off',
): { readonly value: number; readonly point: Float64Array } | null {
  return highs.withModel(data, (model) => {
    model.options.set({
      output_flag: false,
      mip_rel_gap: 0,
      mip_abs_gap: 1e-10,
      primal_feasibility_tolerance: 1e-10,
      dual_feasibility_tolerance: 1e-10,
      mip_feasibility_tolerance: 1e-9,
      presolve,
    });
    try {
      if (model.run().modelStatus !== highs.constants.modelStatus.optimal) return null;
    } catch {
      return null;
    }
    const point = model.getSolution().colValue;
    const value = point.reduce((sum, at, j) => sum + data.colCost![j]! * at, 0);
    return { value: Math.max(0, value), point };
  });
}
