import type { ProblemDeployment } from '../core/planning-problem.js';

/**
 * Why a deployment has its number of replicas, in one sentence.
 *
 * @param load replicas of full load that its shares put on it
 */
export function deploymentReason(options: {
  readonly deployment: ProblemDeployment;
  readonly target: number | null;
  readonly load: number;
  readonly idle: boolean;
  readonly demandRps: number;
}): string {
  const { deployment, target, load, idle } = options;
  if (target === null) return 'No profile, and the current replicas are not known: no number is published.';
  const replicas = `${target} replica${target === 1 ? '' : 's'}`;
  if (deployment.fixedReplicas !== null) return `Fixed at ${replicas} by request; ${loadOf(load)}.`;
  if (deployment.profile === null) return `No profile: kept at the ${replicas} that run now.`;
  if (load === 0) {
    if (target === 0)
      return idle
        ? 'Idle, and no floor asks for a replica.'
        : 'Not needed: other deployments serve the demand for less.';
    if (idle && deployment.idleMinReplicas > deployment.minReplicas)
      return `Idle: kept at its idle floor of ${replicas}.`;
    return `Kept at its floor of ${replicas}${idle ? ' while idle' : '; other deployments serve the demand for less'}.`;
  }
  const needed = Math.ceil(load / deployment.targetUtilization - 1e-9);
  if (target > needed && target === deployment.minReplicas) return `Its floor of ${replicas} carries ${loadOf(load)}.`;
  if (target === deployment.maxReplicas && load >= target * deployment.targetUtilization * (1 - 1e-6)) {
    return `At its ceiling of ${replicas}, full with ${loadOf(load)}.`;
  }
  return `Runs ${replicas} for ${loadOf(load)}.`;
}

function loadOf(load: number): string {
  return load === 0 ? 'no demand is placed on it' : `work for ${Number(load.toPrecision(3))}`;
}
