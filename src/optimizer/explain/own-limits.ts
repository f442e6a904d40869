import type { ExplainedLimit } from '../../core/explanation.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../../core/planning-problem.js';
import { type BoundedPlans, type Group, withDeployment } from './bounded-plans.js';
import { floorOf } from './floors.js';
import { changeBetween, compareOutcomes, type Direction, type Outcome } from './outcome.js';
import { bindsOf } from './shared-limits.js';

/**
 * Limits of one model's own that are reached: ceilings, floors, replicas fixed by a person, and the share of demand that
 * is promised. Those with room left are not tested.
 */
export function explainOwnLimits(
  group: Group,
  model: ProblemModel,
  asked: { readonly plans: BoundedPlans; readonly servable: ReadonlySet<string>; readonly unservedShare: number },
): readonly ExplainedLimit[] {
  const { plans, servable, unservedShare } = asked;
  const reached = model.deployments.flatMap((deployment) =>
    reachedLimits(model, deployment, {
      target: group.base.replicas.get(deployment.id) ?? 0,
      canServe: servable.has(deployment.id),
    }),
  );
  const promise = model.minServedShare > 0 && unservedShare > 0 && 1 - unservedShare <= model.minServedShare + 1e-6;
  return [...reached, ...(promise ? [servedShareLimit(model, unservedShare)] : [])].map((limit): ExplainedLimit => {
    const question = { question: 'limit', subject: limit.subject } as const;
    const base = limit.baseline(group.base);
    const removed = plans.outcome(group, limit.remove(group.problem), question);
    if (removed === null) return { ...limit.head, binds: null, without: null, oneMore: null };
    const { deployments } = group;
    const without = changeBetween(base, removed, { direction: limit.direction, deployments });
    const binds = bindsOf(base, removed, without);
    const raised = binds === false || limit.raise === null ? null : limit.raise(group.problem);
    const more = raised === null ? null : plans.outcome(group, raised, question);
    return {
      ...limit.head,
      binds,
      without,
      oneMore:
        more === null || compareOutcomes(more, base) >= 0
          ? null
          : { by: 1, change: changeBetween(base, more, { direction: limit.direction, deployments }) },
    };
  });
}

type OwnLimit = {
  readonly head: Omit<ExplainedLimit, 'binds' | 'without' | 'oneMore'>;
  readonly subject: string;
  readonly direction: Direction;
  remove(problem: PlanningProblem): PlanningProblem;
  /** With one more of it; null where that is no question. */
  readonly raise: ((problem: PlanningProblem) => PlanningProblem) | null;
  /** The plan to compare with, where the limit itself is part of what is compared. */
  baseline(base: Outcome): Outcome;
};

/** More replicas than any document may ask for. */
const noCeiling = 1_000_000;

function reachedLimits(
  model: ProblemModel,
  deployment: ProblemDeployment,
  { target, canServe }: { readonly target: number; readonly canServe: boolean },
): readonly OwnLimit[] {
  const { id, gpuType, profile, fixedReplicas, maxReplicas } = deployment;
  if (profile === null) return [];
  const place = { gpuType, model: model.name, deployment: id, unit: 'replicas', used: target, full: true } as const;
  const change = (values: Partial<ProblemDeployment>) => (problem: PlanningProblem) =>
    withDeployment(problem, id, values);
  const baseline = (base: Outcome): Outcome => base;
  if (fixedReplicas !== null) {
    return [
      {
        head: { kind: 'fixed', ...place, limit: fixedReplicas },
        subject: `fixed replicas of ${id}`,
        // Another number may be above the ceiling or below the floor that the fixed one passes over.
        direction: 'other',
        remove: change({ fixedReplicas: null }),
        raise: null,
        baseline,
      },
    ];
  }
  const limits: OwnLimit[] = [];
  const floor = floorOf(model, deployment);
  if (floor > 0 && target > 0 && target <= floor) {
    limits.push({
      head: { kind: 'floor', ...place, limit: floor },
      subject: `floor of ${id}`,
      direction: 'relaxed',
      remove: change({ minReplicas: 0, idleMinReplicas: 0 }),
      raise: null,
      baseline,
    });
  }
  if (target >= maxReplicas && canServe && maxReplicas < noCeiling) {
    limits.push({
      head: { kind: 'max_replicas', ...place, limit: maxReplicas },
      subject: `maxReplicas of ${id}`,
      direction: 'relaxed',
      // A floor above the ceiling yields to it; it must not come up when the ceiling goes.
      remove: change({ maxReplicas: noCeiling, minReplicas: floor, idleMinReplicas: floor }),
      raise: change({ maxReplicas: maxReplicas + 1, minReplicas: floor, idleMinReplicas: floor }),
      baseline,
    });
  }
  return limits;
}

function servedShareLimit(model: ProblemModel, unservedShare: number): OwnLimit {
  return {
    head: {
      kind: 'min_served_share',
      model: model.name,
      unit: 'share of demand',
      limit: model.minServedShare,
      used: 1 - unservedShare,
      full: true,
    },
    subject: `minServedShare of ${model.name}`,
    direction: 'relaxed',
    remove: (problem) => ({
      ...problem,
      models: problem.models.map((each) => (each.name === model.name ? { ...each, minServedShare: 0 } : each)),
    }),
    raise: null,
    // A promise that is broken must not count against the plan that no longer makes it.
    baseline: (base) => ({ ...base, brokenPromise: 0 }),
  };
}
