import type { ProblemDeployment } from './planning-problem.js';
import type { ProfileGrid } from './profile.js';
import { compileWork, type WorkTable } from './work.js';

/** A deployment that a profile was found for. */
type Profiled<Deployment> = Deployment & { readonly profile: ProfileGrid };

export function isProfiled<Deployment extends Pick<ProblemDeployment, 'profile'>>(
  deployment: Deployment,
): deployment is Profiled<Deployment> {
  return deployment.profile !== null;
}

/**
 * Prepares what requests take of a replica of a deployment in its fleet: its profile, where replicas share load divided by
 * what each gains by it.
 */
export function compileDeploymentWork({
  profile,
  maxTokens,
  poolingFactor,
}: Profiled<Pick<ProblemDeployment, 'profile' | 'maxTokens' | 'poolingFactor'>>): WorkTable {
  const table = compileWork(profile, maxTokens);
  return poolingFactor === 1 ? table : { ...table, work: table.work.map((work) => work / poolingFactor) };
}
