import type { DemandChange } from '../../core/explanation.js';
import type { PlanningProblem, ProblemModel } from '../../core/planning-problem.js';
import type { BoundedPlans, Group } from './bounded-plans.js';
import { changeBetween } from './outcome.js';

/** Ten per cent less, and ten per cent more. */
const demandFactors = [0.9, 1.1] as const;

export function hasDemand(model: ProblemModel): boolean {
  return model.demand.some((bucket) => bucket.rps > 0);
}

/**
 * What less and more demand of some models of a group would change.
 *
 * @param asked.subject who is asked about, for people
 */
export function explainDemand(
  group: Group,
  plans: BoundedPlans,
  asked: { readonly models: readonly ProblemModel[]; readonly subject: string },
): readonly DemandChange[] {
  const names = new Set(asked.models.filter(hasDemand).map((model) => model.name));
  if (names.size === 0) return [];
  return demandFactors.flatMap((factor) => {
    const changed = withDemandTimes(group.problem, names, factor);
    const answer = plans.outcome(group, changed, { question: 'demand', subject: asked.subject });
    if (answer === null) return [];
    const change = changeBetween(group.base, answer, {
      direction: factor < 1 ? 'relaxed' : 'tightened',
      deployments: group.deployments,
    });
    return [{ factor, change }];
  });
}

function withDemandTimes(problem: PlanningProblem, names: ReadonlySet<string>, factor: number): PlanningProblem {
  return {
    ...problem,
    models: problem.models.map((model) =>
      names.has(model.name)
        ? { ...model, demand: model.demand.map((bucket) => ({ ...bucket, rps: bucket.rps * factor })) }
        : model,
    ),
  };
}
