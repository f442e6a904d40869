import type { ProblemModel } from '../core/planning-problem.js';
import type { Group } from './coupling.js';
import { flatten } from './flatten.js';
import { usesOf } from './joint-member.js';
import type { Program, ProgramSolution, SharedLimit, SolveLimits, Solver } from './program.js';
import { costsOf, replicaCost, UnservedDemandLp } from './program-lp.js';
import { unservedWeights } from './scarcity.js';
import { type Decision, decisionOf, type NoDecision, noAnswer } from './solve-group.js';
import { rawProgram, requirementOf, type Stage, unmergedStage, whereItFits } from './stage.js';

/** The same decisions by another engine: a model alone as one program, models that share limits joined into one. */
export async function solveGroupWith(
  group: Group,
  solver: Solver,
  limits: SolveLimits,
): Promise<readonly Decision[] | NoDecision> {
  const [first] = group.entrants;
  if (group.entrants.length > 1 || group.limits.length > 0) return solveJoined(group, solver, limits);
  const decision = await solveAlone(first!.stage, solver, limits);
  return 'failure' in decision ? decision : [decision];
}

/**
 * The engine solves the relaxation (merged works kept·work) for the bound; where its replicas do not serve the raw
 * buckets, it solves the merged program itself, and the gap between the two is stated.
 */
async function solveAlone(stage: Stage, solver: Solver, limits: SolveLimits): Promise<Decision | NoDecision> {
  const { program, merged } = stage;
  // Nothing to decide, which engines take for nothing found.
  if (program.deploymentCount === 0) {
    return decisionOf(stage, { status: 'optimal', replicas: new Float64Array(0), bound: 0, nodes: 0 }, 0);
  }
  const decide = (solution: ProgramSolution): Decision | NoDecision => {
    if (solution.replicas === null) return { failure: noAnswer(solution) };
    return decisionOf(stage, solution, replicaCost(program, costsOf(program), solution.replicas));
  };
  if (merged.exact) return decide(await solver.solve(program, limits));
  const relaxed = {
    ...program,
    work: program.work.map((work, at) => work * merged.kept[Math.floor(at / program.deploymentCount)]!),
  };
  const bound = await solver.solve(relaxed, limits);
  if (bound.replicas !== null && whereItFits(stage, bound.replicas) !== null) return decide(bound);
  const own = await solver.solve(program, limits);
  return decide({
    ...own,
    status: own.status === 'optimal' ? 'feasible' : own.status,
    bound: bound.bound,
    nodes: bound.nodes + own.nodes,
  });
}

/** Stage by stage: everything served as well as alone, or else the required parts, each priority, and money. */
async function solveJoined(
  { entrants, limits: shared }: Group,
  solver: Solver,
  limits: SolveLimits,
): Promise<readonly Decision[] | NoDecision> {
  const stages = entrants.map(({ stage }) => stage);
  const sharedOver = (): readonly SharedLimit[] => {
    const uses = stages.map((stage) => usesOf(stage, shared));
    return shared.map((_, r) => ({
      use: Float64Array.from(uses.flatMap((own) => Array.from(own[r]!.use))),
      limit: uses[0]![r]!.limit,
    }));
  };
  const joined = (own: readonly Stage[]) =>
    flatten(
      own.map((stage) => (stage.merged.exact ? stage.program : rawProgram(stage))),
      sharedOver(),
    );
  const served = joined(stages);
  const first = await solver.solve(served.program, limits);
  if (first.replicas !== null) return decideJoined(stages, served, { solution: first, unservedProven: true });
  if (first.status !== 'infeasible') return { failure: noAnswer(first) };

  const any = stages.map((stage) => unmergedStage(stage, Number.POSITIVE_INFINITY));
  const open = joined(any);
  const models = stages.map(({ formulation }) => formulation.model);
  const rateOf = (weightOf: (model: ProblemModel) => number): Float64Array => {
    const weight = new Float64Array(open.program.bucketCount);
    any.forEach(({ program }, m) => {
      for (let b = 0; b < program.bucketCount; b++) {
        weight[open.offsets[m]!.bucket + b] = program.rate[b]! * weightOf(models[m]!);
      }
    });
    return weight;
  };
  const free = new Float64Array(open.program.deploymentCount);
  const { switching: _, ...unswitched } = open.program;
  let nodes = first.nodes;
  /** The least weighted sum of unserved demand within some limits on it. */
  const least = async (weight: Float64Array, rows: readonly UnservedRow[]): Promise<LeastSum | ProgramSolution> => {
    const answer = await solver.solve(
      { ...unswitched, cost: free, unservedPrice: weight, unservedLimits: rows },
      limits,
    );
    nodes += answer.nodes;
    if (answer.replicas === null) return answer;
    const unserved = unservedOf(any, open, answer);
    const value = weight.reduce((sum, each, b) => sum + each * unserved[b]!, 0);
    const atStake = weight.reduce((sum, each) => sum + each, 0);
    const limit = value * (1 + 1e-9) + 1e-9 * atStake;
    return { value, isProven: answer.status === 'optimal', row: { weight, limit } };
  };

  const required = any.flatMap((stage, m): Requirement[] => {
    if (models[m]!.minServedShare === 0) return [];
    const { allowedRps } = requirementOf(stage);
    return [{ priority: models[m]!.priority, weight: rateOf((it) => (it === models[m] ? 1 : 0)), allowedRps }];
  });
  let rows: readonly UnservedRow[] = required.map(({ weight, allowedRps }) => ({ weight, limit: allowedRps }));
  let unservedProven = true;
  let mayLack = required.length > 0;
  for (const priority of [...new Set(models.map((model) => model.priority))].sort((a, b) => b - a)) {
    const weightOf = unservedWeights(models.filter((model) => model.priority === priority));
    const weight = rateOf((model) => (model.priority === priority ? weightOf(model) : 0));
    let answer = await least(weight, rows);
    if (mayLack && 'status' in answer && answer.status === 'infeasible') {
      const reachable = await reachableRows(required, least);
      if ('status' in reachable) return { failure: noAnswer(reachable) };
      rows = reachable.rows;
      unservedProven &&= reachable.isProven;
      answer = await least(weight, rows);
    }
    mayLack = false;
    if ('status' in answer) return { failure: noAnswer(answer) };
    unservedProven &&= answer.isProven;
    rows = [...rows, answer.row];
  }
  const last = await solver.solve({ ...open.program, unservedLimits: rows }, limits);
  if (last.replicas === null) return { failure: noAnswer(last) };
  return decideJoined(any, open, { solution: { ...last, nodes: nodes + last.nodes }, unservedProven });
}

type UnservedRow = { readonly weight: Float64Array; readonly limit: number };
type LeastSum = { readonly value: number; readonly isProven: boolean; readonly row: UnservedRow };

/** What a model with a minServedShare may leave of the demand that is placed [requests/s]. */
type Requirement = { readonly priority: number; readonly weight: Float64Array; readonly allowedRps: number };

/**
 * Where not all models can have the share that they require: one after the other, by priority, has as much of it as those
 * before it leave. A `Program` has no price for what lies beyond a sum, so the least weighted sum of what they lack is for
 * the built-in solver to find; with one such model this is the same.
 */
async function reachableRows(
  required: readonly Requirement[],
  least: (weight: Float64Array, rows: readonly UnservedRow[]) => Promise<LeastSum | ProgramSolution>,
): Promise<{ readonly rows: readonly UnservedRow[]; readonly isProven: boolean } | ProgramSolution> {
  const rows: UnservedRow[] = [];
  let isProven = required.length === 1;
  for (const { weight, allowedRps } of [...required].sort((a, b) => b.priority - a.priority)) {
    const answer = await least(weight, rows);
    if ('status' in answer) return answer;
    isProven &&= answer.isProven;
    rows.push(answer.value <= allowedRps ? { weight, limit: allowedRps } : answer.row);
  }
  return { rows, isProven };
}

/** Unserved share of each bucket of the joined program. */
function unservedOf(
  stages: readonly Stage[],
  { program, offsets }: ReturnType<typeof flatten>,
  { replicas, unserved }: ProgramSolution,
): Float64Array {
  if (unserved !== undefined) return unserved;
  const all = new Float64Array(program.bucketCount);
  stages.forEach((stage, m) => {
    const { bucket, deployment } = offsets[m]!;
    const own = replicas!.slice(deployment, deployment + stage.program.deploymentCount);
    all.set(new UnservedDemandLp(stage.program).sharesAt(own), bucket);
  });
  return all;
}

function decideJoined(
  stages: readonly Stage[],
  { program, offsets }: { readonly program: Program; readonly offsets: readonly { readonly deployment: number }[] },
  { solution, unservedProven }: { readonly solution: ProgramSolution; readonly unservedProven: boolean },
): readonly Decision[] {
  const all = solution.replicas!;
  const value = replicaCost(program, costsOf(program), all);
  const proven = solution.status === 'optimal';
  const slack = proven ? 0 : Math.max(0, value - solution.bound);
  return stages.map((stage, m) => {
    const { deployment } = offsets[m]!;
    const replicas = all.slice(deployment, deployment + stage.program.deploymentCount);
    const own = replicaCost(stage.program, costsOf(stage.program), replicas);
    const isOpen = stage.program.unservedLimit === Number.POSITIVE_INFINITY;
    const left = isOpen ? unmergedStage(stage, new UnservedDemandLp(stage.program).at(replicas)) : stage;
    return {
      replicas,
      stage: left,
      sharesOver: left.merged.exact ? 'merged' : (whereItFits(left, replicas) ?? 'merged'),
      slackUsdPerHour: value > 0 ? slack * (own / value) : 0,
      proven,
      unservedProven: unservedProven && stage.leastUnservedProven,
      unservedBoundShare: unservedProven ? 1 : 0,
      nodes: m === 0 ? solution.nodes : 0,
    };
  });
}
