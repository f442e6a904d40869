import type { PlanningProblem } from '../core/planning-problem.js';
import { alone, type FormulationContext } from './formulate.js';
import { grantFloors, limitsOf, type ProblemLimit, remainingOf } from './shared-limits.js';
import { type Stage, stageOf } from './stage.js';

/** A model of the document, made ready. */
export type Entrant = { readonly index: number; readonly stage: Stage };

/** Models that must be planned together, and the limits that can bind them. */
export type Group = {
  readonly entrants: readonly Entrant[];
  readonly limits: readonly ProblemLimit[];
  /** Limits that a single deployment takes from: a bound on its replicas keeps them. */
  readonly bounds: readonly ProblemLimit[];
};

export type Prepared = {
  readonly limits: readonly ProblemLimit[];
  readonly groups: readonly Group[];
  readonly floors: ReturnType<typeof grantFloors>;
  /** Models that could not be made ready just now, by index: why. */
  readonly failed: ReadonlyMap<number, string>;
};

/**
 * Makes every model ready and finds out which depend on each other: a limit couples the models that take from it, unless
 * it has room for all that they could ever use.
 *
 * @param heldBefore indexes of models that stay as they are
 */
export function prepare(problem: PlanningProblem, heldBefore: ReadonlySet<number>): Prepared {
  const failed = new Map<number, string>();
  for (;;) {
    const held = new Set([...heldBefore, ...failed.keys()].map((m) => problem.models[m]!.name));
    const limits = limitsOf(problem, held);
    const floors = grantFloors(problem, limits, held);
    const context: FormulationContext = {
      routing: problem.options.routing,
      mostReplicas: (deployment) => {
        let most = alone.mostReplicas(deployment);
        for (const limit of limits) {
          const use = limit.useOf(deployment);
          if (use > 0) most = Math.min(most, Math.floor((remainingOf(limit) / use) * (1 + 1e-9) + 1e-12));
        }
        return most;
      },
      grantedFloor: ({ id }) => floors.granted.get(id),
    };
    const entrants: Entrant[] = [];
    let hasNewFailure = false;
    problem.models.forEach((model, index) => {
      if (failed.has(index) || heldBefore.has(index)) return;
      try {
        entrants.push({ index, stage: stageOf(model, problem.options, context) });
      } catch (error) {
        failed.set(index, error instanceof Error ? error.message : String(error));
        hasNewFailure = true;
      }
    });
    // What a held model keeps is taken from the limits of the others.
    if (hasNewFailure && limits.length > 0) continue;
    return { limits, floors, failed, groups: groupsOf(entrants, limits) };
  }
}

function groupsOf(entrants: readonly Entrant[], limits: readonly ProblemLimit[]): readonly Group[] {
  const root = entrants.map((_, e) => e);
  const find = (e: number): number => {
    let at = e;
    while (root[at] !== at) at = root[at]!;
    root[e] = at;
    return at;
  };
  const bounded = new Map<ProblemLimit, number>();
  const takers = limits.map((limit) => {
    let most = 0;
    let deployments = 0;
    const taking = entrants.flatMap(({ stage }, e) => {
      const own = mostUse(stage, limit);
      most += own.use;
      deployments += own.deployments;
      return own.use > 0 ? [e] : [];
    });
    if (deployments === 1) bounded.set(limit, taking[0]!);
    return deployments > 1 && most > remainingOf(limit) * (1 + 1e-9) ? taking : [];
  });
  for (const taking of takers) for (const e of taking) root[find(e)] = find(taking[0]!);
  const members = new Map<number, Entrant[]>();
  entrants.forEach((entrant, e) => {
    const at = find(e);
    const group = members.get(at);
    if (group === undefined) members.set(at, [entrant]);
    else group.push(entrant);
  });
  return Array.from(members, ([at, group]) => ({
    entrants: group,
    limits: limits.filter((_, r) => takers[r]!.length > 0 && find(takers[r]![0]!) === at),
    bounds: limits.filter((limit) => bounded.has(limit) && find(bounded.get(limit)!) === at),
  }));
}

/** What a model could take of a limit, and with how many deployments. */
function mostUse({ formulation, program }: Stage, limit: ProblemLimit): { use: number; deployments: number } {
  let use = 0;
  let deployments = 0;
  formulation.deployments.forEach((deployment, d) => {
    const own = deployment.fixedReplicas === null ? limit.useOf(deployment) * program.upper[d]! : 0;
    use += own;
    if (own > 0) deployments++;
  });
  return { use, deployments };
}
