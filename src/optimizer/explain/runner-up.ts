import type { RunnerUp } from '../../core/explanation.js';
import type { ProblemModel } from '../../core/planning-problem.js';
import { type BoundedPlans, type Group, withDeployment } from './bounded-plans.js';
import { floorOf, isDecided } from './floors.js';
import { changeBetween, compareOutcomes, type Outcome } from './outcome.js';

/**
 * The next best mix of a model: the best plan in which some deployment of it has fewer replicas than in the plan.
 *
 * Every such plan has at most `target − 1` replicas of one of the deployments that are used, so that the best of as many
 * plans as deployments are used is the runner-up itself. Plans that only add replicas to the plan are no other mix: they
 * serve the same and are dearer by the price of what is added.
 */
export function runnerUp(group: Group, model: ProblemModel, plans: BoundedPlans): RunnerUp | null {
  const { base, problem, deployments } = group;
  let best: Outcome | null = null;
  let lowestBound = Number.POSITIVE_INFINITY;
  let proven = true;
  for (const deployment of model.deployments) {
    const target = base.replicas.get(deployment.id) ?? 0;
    if (!isDecided(deployment) || target === 0 || target <= floorOf(model, deployment)) continue;
    const maxReplicas = target - 1;
    const changed = withDeployment(problem, deployment.id, {
      maxReplicas,
      minReplicas: Math.min(deployment.minReplicas, maxReplicas),
    });
    const answer = plans.outcome(group, changed, { question: 'runner_up', subject: model.name });
    // What was found so far may not be the best, and a mix that is not the next best is no answer.
    if (answer === null) return null;
    if (best === null || compareOutcomes(answer, best) < 0) best = answer;
    lowestBound = Math.min(lowestBound, answer.bound);
    proven &&= answer.proven;
  }
  if (best === null) return null;
  const found: Outcome = { ...best, proven, bound: proven ? best.bound : Math.min(best.bound, lowestBound) };
  return {
    replicas: model.deployments.flatMap(({ id, gpuType }) => {
      const replicas = found.replicas.get(id) ?? 0;
      return replicas > 0 ? [{ deployment: id, gpuType, replicas }] : [];
    }),
    change: changeBetween(base, found, { direction: 'tightened', deployments }),
  };
}
