import type { BucketShares, PlanNotice } from '../core/plan.js';
import type { ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import type { Formulation } from './formulate.js';
import { amount, counted, percent, replicas as replicasInWords, tokenCount } from './reason.js';

/** Shortfalls and warnings of one model's plan. */

/** Floors that their ceilings do not allow. */
export function floorShortfalls(formulation: Formulation): readonly PlanNotice[] {
  return formulation.deployments.flatMap((deployment, d) => {
    const { floor, ceiling } = formulation.bounds[d]!;
    if (floor <= ceiling) return [];
    return [
      {
        code: 'floor_above_ceiling',
        message: `${deployment.id}: its floor of ${replicasInWords(floor)} is above its ceiling of ${deployment.maxReplicas} (maxReplicas), which wins`,
        model: formulation.model.name,
        deployment: deployment.id,
      },
    ];
  });
}

export function servedShareShortfall(model: ProblemModel, served: number): PlanNotice {
  return {
    code: 'min_served_share',
    message: `${model.name}: ${percent(served)} of the demand can be served, ${percent(model.minServedShare)} is required (minServedShare)`,
    model: model.name,
  };
}

export function nothingInCommon(model: ProblemModel): PlanNotice {
  return {
    code: 'no_common_deployment',
    message: `${model.name}: no deployment can serve every bucket, so that no shares can be the same for all (options.routing "proportional")`,
    model: model.name,
  };
}

export function unservedNotProven(model: ProblemModel, unservedRps: number): PlanNotice {
  return {
    code: 'unserved_not_proven',
    message: `${model.name}: ${amount(unservedRps)} requests/s stay unserved; that it cannot be less is not proven`,
    model: model.name,
  };
}

/** What a reader must know of a plan: best effort, and deployments without a profile. */
export function warningsOf(formulation: Formulation, rows: readonly BucketShares[]): readonly PlanNotice[] {
  const { model } = formulation;
  const warnings: PlanNotice[] = [];
  const bestEffort = rows.filter((row) => row.bestEffort && row.rps > 0);
  const [first] = bestEffort;
  if (first !== undefined) {
    const rps = bestEffort.reduce((total, row) => total + row.rps, 0);
    const lengths = `${tokenCount(first.inputTokens)} input and ${tokenCount(first.outputTokens)} output tokens`;
    const which =
      bestEffort.length === 1 ? `of ${lengths}` : `in ${counted(bestEffort.length, 'bucket')}, such as ${lengths}`;
    const left = bestEffort.reduce((total, row) => total + row.rps * row.unservedShare, 0);
    const outcome =
      left === 0
        ? 'they are served by best effort'
        : left < rps
          ? 'as many as fit are served by best effort'
          : 'there is no room to serve them by best effort';
    warnings.push({
      code: 'best_effort',
      message: `${model.name}: no deployment meets the SLO for ${amount(rps)} requests/s ${which}; ${outcome}`,
      model: model.name,
    });
  }
  for (const deployment of formulation.unprofiled) {
    const known = deployment.fixedReplicas ?? deployment.currentReplicas;
    warnings.push({
      code: 'no_profile',
      message:
        known === null
          ? `${deployment.id}: it has no profile and its current replicas are not known, so no number is published`
          : `${deployment.id}: it has no profile, so it stays at ${replicasInWords(known)} and is given no demand in this plan`,
      model: model.name,
      deployment: deployment.id,
    });
  }
  return warnings;
}

/** Deployments that a notice names one by one; the rest are counted. */
const namedDeployments = 5;

/**
 * What is planned on figures that nobody measured: one notice a model, of the deployments that the plan uses.
 *
 * @param uses has the plan replicas or demand on it?
 */
export function estimatedProfiles(
  model: ProblemModel,
  uses: (deployment: ProblemDeployment) => boolean,
): readonly PlanNotice[] {
  const unmeasured = model.deployments.filter(
    (deployment) =>
      (deployment.profile?.method === 'estimated' || deployment.profile?.method === 'simulated') && uses(deployment),
  );
  if (unmeasured.length === 0) return [];
  const named = unmeasured.slice(0, namedDeployments).map(({ id, profile }) => `${id} (${profile!.method})`);
  const others = unmeasured.length - named.length;
  const [only] = unmeasured;
  return [
    {
      code: 'estimated_profile',
      message:
        `${model.name}: the plan rests on profiles that were not measured: ${named.join(', ')}` +
        `${others > 0 ? ` and ${counted(others, 'other')}` : ''}; a benchmark of each tells what it serves`,
      model: model.name,
      ...(unmeasured.length === 1 ? { deployment: only!.id } : {}),
    },
  ];
}
