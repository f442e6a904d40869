import type { PlanningProblem, ProblemModel } from '../../../src/core/planning-problem.js';

/**
 * The best plans of tiny problems by trying every combination of whole replicas: no solver, no bound, no shares.
 *
 * Demand is that of `flat` profiles (one bucket, any throughput) or of `shortAndLong` (two buckets): whether replicas
 * serve two buckets is decided by filling the deployments in the order of their advantage for the first one. Replicas
 * beyond `most` of a deployment are not tried.
 */
export type Tried = {
  readonly replicas: ReadonlyMap<string, number>;
  /** From the highest priority down. */
  readonly unserved: readonly number[];
  readonly usdPerHour: number;
};

const tolerance = 1e-9;

/** Below 0 where `a` is better: less unserved by priority, then cheaper. */
export function compareTried(a: Tried, b: Tried): number {
  for (let i = 0; i < a.unserved.length; i++) {
    const difference = a.unserved[i]! - b.unserved[i]!;
    if (Math.abs(difference) > 1e-7) return difference;
  }
  const money = a.usdPerHour - b.usdPerHour;
  return Math.abs(money) > tolerance * Math.max(1, a.usdPerHour) ? money : 0;
}

/** The best of the combinations that fit the limits of a problem and pass a filter; null = there is none. */
export function bestByEnumeration(
  problem: PlanningProblem,
  options: { readonly most: number; readonly passes?: (replicas: ReadonlyMap<string, number>) => boolean },
): Tried | null {
  const passes = options.passes ?? (() => true);
  let best: Tried | null = null;
  for (const replicas of combinations(problem, options.most)) {
    if (!fitsLimits(problem, replicas) || !passes(replicas)) continue;
    const tried = outcomeOf(problem, replicas);
    if (tried !== null && (best === null || compareTried(tried, best) < 0)) best = tried;
  }
  return best;
}

function* combinations(problem: PlanningProblem, most: number): Generator<ReadonlyMap<string, number>> {
  const deployments = problem.models.flatMap((model) => model.deployments);
  const counts = deployments.map((deployment) => deployment.minReplicas);
  for (;;) {
    yield new Map(deployments.map(({ id }, d) => [id, counts[d]!]));
    let at = 0;
    while (at < counts.length && counts[at]! >= Math.min(most, deployments[at]!.maxReplicas)) {
      counts[at] = deployments[at]!.minReplicas;
      at += 1;
    }
    if (at === counts.length) return;
    counts[at]! += 1;
  }
}

function fitsLimits(problem: PlanningProblem, replicas: ReadonlyMap<string, number>): boolean {
  const deployments = problem.models.flatMap((model) => model.deployments);
  const total = (use: (deployment: ProblemModel['deployments'][number]) => number): number =>
    deployments.reduce((sum, deployment) => sum + use(deployment) * replicas.get(deployment.id)!, 0);
  const within = (used: number, limit: number): boolean => used <= limit * (1 + tolerance);
  return (
    problem.pools.every(
      ({ gpuType, gpus }) =>
        gpus === null ||
        within(
          total((each) => (each.gpuType === gpuType ? each.gpusPerReplica : 0)),
          gpus,
        ),
    ) &&
    problem.quotas.every(({ namespace, gpuType, gpus }) =>
      within(
        total((each) => (each.gpuType === gpuType && each.id.startsWith(`${namespace}/`) ? each.gpusPerReplica : 0)),
        gpus,
      ),
    ) &&
    (problem.budgetUsdPerHour === null ||
      within(
        total((each) => each.usdPerReplicaHour),
        problem.budgetUsdPerHour,
      ))
  );
}

function outcomeOf(problem: PlanningProblem, replicas: ReadonlyMap<string, number>): Tried | null {
  const levels = new Map<number, number>();
  let usdPerHour = 0;
  for (const model of problem.models) {
    const unserved = unservedOf(model, replicas);
    if (unserved === null) return null;
    levels.set(model.priority, (levels.get(model.priority) ?? 0) + unserved * model.unservedUsdPerRequest);
    for (const { id, usdPerReplicaHour } of model.deployments) usdPerHour += replicas.get(id)! * usdPerReplicaHour;
  }
  const unserved = [...levels].sort(([a], [b]) => b - a).map(([, rps]) => rps);
  return { replicas, unserved, usdPerHour };
}

/** Demand that some replicas of a model leave unserved; null where two buckets do not fit, which is not taken apart. */
function unservedOf(model: ProblemModel, replicas: ReadonlyMap<string, number>): number | null {
  const demand = model.demand.filter(({ rps }) => rps > 0);
  const rows = model.deployments.map((deployment) => {
    const { indexes, tputs } = deployment.profile!;
    const tput = (inputTokens: number): number => {
      const column = indexes[1]!.indexOf(inputTokens);
      return tputs[0]![column === -1 ? 0 : column] ?? 0;
    };
    return {
      room: replicas.get(deployment.id)! * deployment.targetUtilization,
      work: demand.map(({ inputTokens, rps }) => rps / tput(inputTokens)),
    };
  });
  if (demand.length === 0) return 0;
  if (demand.length === 1) {
    const served = rows.reduce((sum, { room, work }) => sum + (work[0]! > 0 ? room / work[0]! : 0), 0);
    return Math.max(0, 1 - served) * demand[0]!.rps;
  }
  // Two buckets: the first goes where it is cheapest in terms of the second, and the second takes what is left.
  const order = [...rows].sort((a, b) => a.work[0]! / a.work[1]! - b.work[0]! / b.work[1]!);
  let first = 1;
  let second = 1;
  for (const { room, work } of order) {
    const taken = work[0]! < Number.POSITIVE_INFINITY ? Math.min(first, room / work[0]!) : 0;
    first -= taken;
    const left = room - (taken > 0 ? taken * work[0]! : 0);
    second -= work[1]! < Number.POSITIVE_INFINITY ? left / work[1]! : 0;
  }
  return first > tolerance || second > tolerance ? null : 0;
}
