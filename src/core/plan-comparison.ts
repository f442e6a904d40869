import type { ProblemEdit } from './edit-syntax.js';
import type { Plan, PlannedDeployment } from './plan.js';

/**
 * The answer to a what-if question: the plan of a problem as it was given, the plan of the edited problem, and what lies
 * between them. Contract: gpumix/v1.
 *
 * Differences are edited − base. Money is that of the target (`Plan.usdPerHour`); where a plan is not `optimal`, its
 * own `boundUsdPerHour` says how much of the difference may be lack of proof. Where `differenceServedRps` is not 0 the
 * two do not serve the same demand.
 */
export type PlanComparison = {
  readonly apiVersion: 'gpumix/v1';
  readonly kind: 'PlanComparison';
  readonly edits: readonly ({ readonly set: string } | { readonly without: string })[];
  readonly differenceUsdPerHour: number;
  readonly differenceUsdPerMonth: number;
  readonly differenceServedRps: number;
  /** Every deployment of either plan, in the order of the first that has it. */
  readonly deployments: readonly ComparedDeployment[];
  readonly base: Plan;
  readonly edited: Plan;
};

export type ComparedDeployment = {
  readonly id: string;
  readonly model: string;
  readonly gpuType: string;
  /** null = not in that plan. */
  readonly base: ComparedSide | null;
  readonly edited: ComparedSide | null;
  readonly differenceUsdPerHour: number;
};

export type ComparedSide = {
  /** null = not known. */
  readonly targetReplicas: number | null;
  readonly usdPerHour: number;
};

/** 365 days of 24 hours over 12 months, as cloud price lists count. */
export const hoursPerMonth = 730;

/** Compares two plans, the second of which is of the edited problem. */
export function comparePlans(options: {
  readonly base: Plan;
  readonly edited: Plan;
  readonly edits: readonly ProblemEdit[];
}): PlanComparison {
  const { base, edited, edits } = options;
  const differenceUsdPerHour = edited.usdPerHour - base.usdPerHour;
  return {
    apiVersion: 'gpumix/v1',
    kind: 'PlanComparison',
    edits: edits.map((edit) => (edit.kind === 'set' ? { set: edit.text } : { without: edit.gpuType })),
    differenceUsdPerHour,
    differenceUsdPerMonth: differenceUsdPerHour * hoursPerMonth,
    differenceServedRps: ratesOf(edited).servedRps - ratesOf(base).servedRps,
    deployments: comparedDeployments(base, edited),
    base,
    edited,
  };
}

function comparedDeployments(base: Plan, edited: Plan): readonly ComparedDeployment[] {
  const before = new Map(base.deployments.map((deployment) => [deployment.id, deployment]));
  const after = new Map(edited.deployments.map((deployment) => [deployment.id, deployment]));
  return [...new Set([...before.keys(), ...after.keys()])].map((id) => {
    const [base, edited] = [before.get(id), after.get(id)];
    const { model, gpuType } = (base ?? edited)!;
    const differenceUsdPerHour = (edited?.usdPerHour ?? 0) - (base?.usdPerHour ?? 0);
    return { id, model, gpuType, base: sideOf(base), edited: sideOf(edited), differenceUsdPerHour };
  });
}

function sideOf(planned: PlannedDeployment | undefined): ComparedSide | null {
  return planned === undefined ? null : { targetReplicas: planned.targetReplicas, usdPerHour: planned.usdPerHour };
}

/** How much a plan is asked to serve, serves and leaves out [requests/s]. */
export function ratesOf(plan: Plan): {
  readonly rps: number;
  readonly servedRps: number;
  readonly unservedRps: number;
} {
  const rps = plan.shares.reduce((sum, bucket) => sum + bucket.rps, 0);
  const unservedRps = plan.unserved.reduce((sum, bucket) => sum + bucket.rps, 0);
  return { rps, unservedRps, servedRps: Math.max(0, rps - unservedRps) };
}
