import { isIdle, type ProblemDeployment, type ProblemModel } from '../../core/planning-problem.js';
import { floorOf as floorAsked } from '../shared-limits.js';
import type { Group } from './bounded-plans.js';
import type { Outcome } from './outcome.js';

/** Does the plan decide on the replicas of a deployment, or do they stand as they are? */
export function isDecided(deployment: ProblemDeployment): boolean {
  return deployment.profile !== null && deployment.fixedReplicas === null;
}

/** Replicas that a deployment is to have whatever the demand; its ceiling wins. */
export function floorOf(model: ProblemModel, deployment: ProblemDeployment): number {
  return Math.min(floorAsked(deployment, isIdle(model)), deployment.maxReplicas);
}

/**
 * Does a plan of a changed problem still grant every floor that the plan itself grants? A floor that is only raised to
 * ask a question must not take the room of another.
 */
export function keepsFloors(group: Group, changed: Outcome): boolean {
  return group.problem.models.every((model) =>
    model.deployments.every((deployment) => {
      if (!isDecided(deployment)) return true;
      const granted = Math.min(floorOf(model, deployment), group.base.replicas.get(deployment.id) ?? 0);
      return (changed.replicas.get(deployment.id) ?? 0) >= granted;
    }),
  );
}
