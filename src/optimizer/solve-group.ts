import type { PlanOptions } from '../core/planning-problem.js';
import { branchAndBound, ReplicaSearch } from './branch-and-bound.js';
import type { Group } from './coupling.js';
import { JointMember, usesOf } from './joint-member.js';
import type { Program, ProgramSolution, SolveLimits } from './program.js';
import { costsOf, replicaCost, UnservedDemandLp } from './program-lp.js';
import { solveInOrder } from './scarcity.js';
import { type ProblemLimit, remainingOf } from './shared-limits.js';
import { currentOf, incumbentOf, rawProgram, type Stage, unmergedStage, whereItFits } from './stage.js';
import { joinTwins } from './twins.js';

/** What was decided about one model. */
export type Decision = {
  readonly replicas: Float64Array;
  /** The stage in whose program the shares are to be chosen: its limit on unserved demand is what the replicas leave. */
  readonly stage: Stage;
  /** The buckets in which the replicas are known to fit. */
  readonly sharesOver: 'merged' | 'raw';
  /** By how much a better plan could be cheaper [USD/hour]; 0 = it is proven that none is. */
  readonly slackUsdPerHour: number;
  readonly proven: boolean;
  readonly unservedProven: boolean;
  /** Part of the unserved demand that is proven to stay unserved in any plan. */
  readonly unservedBoundShare: number;
  readonly nodes: number;
};

/** Why no decision was found, in words that continue "…: ". */
export type NoDecision = { readonly failure: string };

/** Decides the replicas of a group's models with the built-in solver, in the order of the group. */
export function solveGroup(group: Group, options: PlanOptions, limits: SolveLimits): readonly Decision[] | NoDecision {
  const [first] = group.entrants;
  if (group.entrants.length === 1) {
    if (group.limits.length > 0)
      return solveLimited(first!.stage, group.limits, limits) ?? solveTogether(group, options, limits);
    const decision = solveFree(first!.stage, limits);
    return 'failure' in decision ? decision : [decision];
  }
  return solveTogether(group, options, limits);
}

/** A model that shares nothing. */
function solveFree(stage: Stage, limits: SolveLimits): Decision | NoDecision {
  const incumbent = incumbentOf(stage);
  const twins = joinTwins(stage.program);
  const solution = branchAndBound(twins.program, limits, {
    ...(stage.merged.exact ? {} : { raw: twins.joinOver(rawProgram(stage)) }),
    ...(incumbent === null ? {} : { incumbent: twins.join(incumbent) }),
  });
  if (solution.replicas === null) return { failure: noAnswer(solution) };
  const replicas = twins.part(solution.replicas, currentOf(stage));
  return decisionOf(stage, { ...solution, replicas }, valueOfReplicas(twins.program, solution.replicas));
}

function valueOfReplicas(program: Program, replicas: Float64Array): number {
  return replicaCost(program, costsOf(program), replicas);
}

export function decisionOf(stage: Stage, solution: ProgramSolution, value: number): Decision {
  const replicas = solution.replicas!;
  const over = stage.merged.exact ? 'merged' : whereItFits(stage, replicas);
  const proven = solution.status === 'optimal';
  return {
    replicas,
    stage,
    sharesOver: over ?? 'merged',
    slackUsdPerHour: proven ? 0 : Math.max(0, value - solution.bound),
    proven,
    unservedProven: stage.leastUnservedProven,
    unservedBoundShare: stage.leastUnservedProven ? 1 : 0,
    nodes: solution.nodes,
  };
}

/** Says what a solver did that did not end in replicas. */
export function noAnswer(solution: ProgramSolution): string {
  return solution.status === 'infeasible'
    ? 'the solver found no replicas that serve the demand, although its own ceilings do'
    : `the solver found no plan within its limits (${solution.nodes} nodes)`;
}

/**
 * One model within pools, quotas or a budget of its own: the limits are rows of its program.
 *
 * @returns null where the searches end before it is known how much can be served: plans by turns always serve something
 */
function solveLimited(stage: Stage, shared: readonly ProblemLimit[], limits: SolveLimits): readonly Decision[] | null {
  const current = currentOf(stage);
  const withLimits = (of: Stage, program: Program) => joinTwins({ ...program, sharedLimits: usesOf(of, shared) });
  const twins = withLimits(stage, stage.program);
  const incumbent = incumbentOf(stage);
  const served = branchAndBound(twins.program, limits, {
    ...(stage.merged.exact
      ? {}
      : { raw: twins.joinOver({ ...rawProgram(stage), sharedLimits: usesOf(stage, shared) }) }),
    ...(incumbent === null ? {} : { incumbent: twins.join(incumbent) }),
  });
  if (served.replicas !== null) {
    const replicas = twins.part(served.replicas, current);
    return [decisionOf(stage, { ...served, replicas }, valueOfReplicas(twins.program, served.replicas))];
  }
  if (served.status !== 'infeasible') return null;
  const any = unmergedStage(stage, Number.POSITIVE_INFINITY);
  const anyTwins = withLimits(any, any.program);
  const total = stage.raw.rate.reduce((sum, rate) => sum + rate, 0);
  const free = new Float64Array(anyTwins.program.deploymentCount);
  const { switching: _, ...unswitched } = anyTwins.program;
  const least = new ReplicaSearch(unswitched, {
    costs: { below: free, above: free, offset: 0, unserved: [{ room: total, price: 1 }] },
  });
  const most = least.minimise(limits);
  if (most.replicas === null || most.status !== 'optimal') return null;
  const unservedRps = new UnservedDemandLp(anyTwins.program).at(most.replicas);
  const left = unmergedStage(stage, unservedRps);
  const leftTwins = withLimits(left, left.program);
  const cheapest = branchAndBound(leftTwins.program, limits, { incumbent: most.replicas });
  const replicas = cheapest.replicas ?? most.replicas;
  const value = valueOfReplicas(leftTwins.program, replicas);
  return [
    {
      ...decisionOf(left, { ...cheapest, replicas: leftTwins.part(replicas, current) }, value),
      unservedProven: true,
      unservedBoundShare: unservedRps > 0 ? Math.min(1, most.bound / unservedRps) : 1,
      nodes: served.nodes + most.nodes + cheapest.nodes,
    },
  ];
}

/** Several models that take from the same limits. */
function solveTogether(
  { entrants, limits }: Group,
  options: PlanOptions,
  solveLimits: SolveLimits,
): readonly Decision[] | NoDecision {
  const members = entrants.map(({ stage }) => new JointMember(stage, limits));
  const run = { limits: { ...solveLimits, relativeGap: options.relativeGap }, spentNodes: 0 };
  const outcome = solveInOrder(members, Float64Array.from(limits, remainingOf), run);
  if (outcome === null) return { failure: 'no plan of the models that share limits was found within its limits' };
  const slack = Math.max(0, outcome.usdPerHour - outcome.boundUsdPerHour);
  const proven = slack <= 1e-9 * Math.max(1, outcome.usdPerHour);
  return members.map((member, m) => {
    const { stage, twins } = member;
    const { replicas, unservedRps, usdPerHour } = outcome.chosen[m]!;
    const priority = outcome.priorities.find((it) => it.priority === stage.formulation.model.priority);
    const isScarce = outcome.priorities.length > 0;
    const own = isScarce ? unmergedStage(stage, unservedRps) : stage;
    const parted = twins.part(replicas, currentOf(stage));
    return {
      replicas: parted,
      stage: own,
      sharesOver: own.merged.exact ? 'merged' : (whereItFits(own, parted) ?? 'merged'),
      slackUsdPerHour: proven || outcome.usdPerHour <= 0 ? 0 : slack * (usdPerHour / outcome.usdPerHour),
      proven,
      unservedProven: outcome.unservedProven,
      unservedBoundShare:
        priority === undefined || priority.proven || priority.value <= 0
          ? 1
          : Math.max(0, Math.min(1, priority.bound / priority.value)),
      nodes: m === 0 ? run.spentNodes : 0,
    };
  });
}
