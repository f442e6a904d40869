import type { BudgetChange, ExplainedLimit, PlanChange } from '../../core/explanation.js';
import type { PlanningProblem, ProblemDeployment } from '../../core/planning-problem.js';
import type { Asked, BoundedPlans, Group } from './bounded-plans.js';
import { changeBetween, compareOutcomes, compareServed, type Outcome } from './outcome.js';
import { isInPool, isInQuota } from './sharing-groups.js';

/**
 * Pools, quotas and the budget: whether they bind, and what one more GPU or 10 % more money is worth, each by planning
 * again.
 *
 * A limit with room left may still bind (ten GPUs of a type could replace everything else where eight exist and two are
 * used), so that room alone proves nothing. One plan without all limits that have room proves it for all of them at once.
 */
export type SharedLimit = {
  readonly head: Pick<ExplainedLimit, 'kind' | 'gpuType' | 'namespace' | 'unit' | 'limit'>;
  /** For people: `pool H100`. */
  readonly subject: string;
  /** What one replica takes of it; 0 = nothing. */
  use(deployment: ProblemDeployment): number;
  /** The problem with this much more of it; null = without the limit. */
  relax(problem: PlanningProblem, by: number | null): PlanningProblem;
};

/** The finite shared limits of a problem. */
export function sharedLimitsOf(problem: PlanningProblem): readonly SharedLimit[] {
  const pools = problem.pools.flatMap((pool): readonly SharedLimit[] => {
    const { gpuType, gpus } = pool;
    if (gpus === null) return [];
    return [
      {
        head: { kind: 'pool', gpuType, unit: 'GPUs', limit: gpus },
        subject: `pool ${gpuType}`,
        use: (deployment) => (isInPool(pool, deployment) ? deployment.gpusPerReplica : 0),
        relax: (changed, by) => ({
          ...changed,
          pools: changed.pools.map((each) =>
            each === pool ? { gpuType, gpus: by === null ? null : gpus + by } : each,
          ),
        }),
      },
    ];
  });
  const quotas = problem.quotas.map((quota): SharedLimit => {
    const { namespace, gpuType, gpus } = quota;
    return {
      head: { kind: 'quota', gpuType, namespace, unit: 'GPUs', limit: gpus },
      subject: `quota of ${namespace} for ${gpuType}`,
      use: (deployment) => (isInQuota(quota, deployment) ? deployment.gpusPerReplica : 0),
      relax: (changed, by) => ({
        ...changed,
        quotas: changed.quotas.flatMap((each) =>
          each !== quota ? [each] : by === null ? [] : [{ ...quota, gpus: gpus + by }],
        ),
      }),
    };
  });
  const { budgetUsdPerHour } = problem;
  if (budgetUsdPerHour === null) return [...pools, ...quotas];
  const budget: SharedLimit = {
    head: { kind: 'budget', unit: 'USD/hour', limit: budgetUsdPerHour },
    subject: 'the budget',
    use: (deployment) => deployment.usdPerReplicaHour,
    relax: (changed, by) => ({ ...changed, budgetUsdPerHour: by === null ? null : budgetUsdPerHour + by }),
  };
  return [...pools, ...quotas, budget];
}

/** A limit that is full to this relative tolerance holds what it should. */
const fits = 1e-9;

/** Whether a limit binds, from the plan without it; null where what was found proves neither. */
export function bindsOf(base: Outcome, changed: Outcome, change: PlanChange): boolean | null {
  if (change.lowestUsdPerHour === null || change.highestUsdPerHour === null) return null;
  if (compareServed(changed, base) < 0) return true;
  if (change.highestUsdPerHour < 0) return true;
  return change.lowestUsdPerHour >= 0 ? false : null;
}

/** What the shared limits of a group do to its plan. */
export function explainSharedLimits(group: Group, plans: BoundedPlans): readonly ExplainedLimit[] {
  const limits = sharedLimitsOf(group.problem).map((limit) => ({ limit, ...usage(limit, group) }));
  const loose = limits.flatMap(({ limit, full }) => (full ? [] : [limit]));
  const withoutLoose = loose.length < 2 ? null : withoutLimits(loose, group, plans);
  return limits.map(({ limit, used, full }): ExplainedLimit => {
    const head = { ...limit.head, used, full };
    if (!full && withoutLoose !== null && withoutLoose.binds === false) {
      return { ...head, binds: false, without: withoutLoose.change, oneMore: null };
    }
    const removed = withoutLimits([limit], group, plans);
    if (removed === null) return { ...head, binds: null, without: null, oneMore: null };
    const { binds, change } = removed;
    const counted = binds !== false && limit.head.kind !== 'budget';
    return { ...head, binds, without: change, oneMore: counted ? valueOfOneMore({ limit, used, group, plans }) : null };
  });
}

/** Deployments of a group whose replicas the plan decides. */
function decided({ deployments }: Group): readonly ProblemDeployment[] {
  return [...deployments.values()].filter(
    (deployment) => deployment.profile !== null && deployment.fixedReplicas === null && deployment.maxReplicas > 0,
  );
}

function usage(limit: SharedLimit, group: Group): { readonly used: number; readonly full: boolean } {
  let used = 0;
  for (const deployment of group.deployments.values()) {
    used += limit.use(deployment) * (group.base.replicas.get(deployment.id) ?? 0);
  }
  const largest = decided(group).reduce((most, deployment) => Math.max(most, limit.use(deployment)), 0);
  return { used, full: largest > 0 && used + largest > limit.head.limit * (1 + fits) };
}

function withoutLimits(
  limits: readonly SharedLimit[],
  group: Group,
  plans: BoundedPlans,
): { readonly binds: boolean | null; readonly change: PlanChange } | null {
  const changed = limits.reduce((problem, limit) => limit.relax(problem, null), group.problem);
  const answer = plans.outcome(group, changed, askedAbout(limits[0]!));
  if (answer === null) return null;
  const change = changeBetween(group.base, answer, { direction: 'relaxed', deployments: group.deployments });
  return { binds: bindsOf(group.base, answer, change), change };
}

function askedAbout(limit: SharedLimit): Asked {
  return { question: 'limit', subject: limit.subject };
}

/**
 * The smallest step of whole GPUs, of those that can matter, that changes the plan for the better: one; what one more
 * replica of some size needs beside the room there is; and a whole such replica.
 */
function valueOfOneMore(options: {
  readonly limit: SharedLimit;
  readonly used: number;
  readonly group: Group;
  readonly plans: BoundedPlans;
}): ExplainedLimit['oneMore'] {
  const { limit, used, group, plans } = options;
  const steps = new Set([1]);
  for (const deployment of decided(group)) {
    const size = limit.use(deployment);
    if (size === 0) continue;
    steps.add(Math.max(1, Math.ceil(used + size - limit.head.limit - fits)));
    steps.add(Math.ceil(size));
  }
  for (const by of [...steps].sort((a, b) => a - b)) {
    const answer = plans.outcome(group, limit.relax(group.problem, by), askedAbout(limit));
    if (answer === null) return null;
    if (compareOutcomes(answer, group.base) >= 0) continue;
    const change = changeBetween(group.base, answer, { direction: 'relaxed', deployments: group.deployments });
    return { by, change };
  }
  return null;
}

/** What a tenth less and a tenth more of the budget would change. */
export function explainBudget(group: Group, plans: BoundedPlans): readonly BudgetChange[] {
  const { budgetUsdPerHour } = group.problem;
  if (budgetUsdPerHour === null) return [];
  return [0.9, 1.1].flatMap((factor) => {
    const changed = { ...group.problem, budgetUsdPerHour: budgetUsdPerHour * factor };
    const subject = factor < 1 ? '10 % less' : '10 % more';
    const answer = plans.outcome(group, changed, { question: 'budget', subject });
    if (answer === null) return [];
    const change = changeBetween(group.base, answer, {
      direction: factor < 1 ? 'tightened' : 'relaxed',
      deployments: group.deployments,
    });
    return [{ factor, budgetUsdPerHour: changed.budgetUsdPerHour, change }];
  });
}
