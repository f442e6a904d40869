import { canonicalGpuType, type GpuCatalogue } from '../core/gpu-types.js';
import type { PlanNotice } from '../core/plan.js';
import { type PlanningProblem, planningProblemSchema } from '../core/planning-problem.js';
import type { ObservedDeployment } from '../core/ports.js';
import { type ClusterPools, typeOf } from './cluster-pools.js';
import { type Config, configuredPools } from './config.js';
import { type Shortage, stockOutNotices, withShortages } from './stock-out.js';

/**
 * What the models of the fleet share: pools, quotas and the budget as configured, pools of the types that the
 * configuration does not name, and what cannot be had at the moment.
 */
export type FleetLimits = Pick<PlanningProblem, 'pools' | 'quotas' | 'budgetUsdPerHour'> & {
  /** Why a limit is there that nobody configured. */
  readonly notices: readonly PlanNotice[];
  /**
   * Deployments on a type that the configured pools leave out, of which nobody knows what runs: their type may hold no
   * more than what runs, so there is no number for them.
   */
  readonly uncounted: ReadonlySet<string>;
  /** GPUs that each such type was seen to use at most, by type. */
  readonly seenGpus: ReadonlyMap<string, number>;
};

/** Without pools, quotas, budget and stock-outs, models share nothing. */
export const unlimited: FleetLimits = {
  pools: [],
  quotas: [],
  budgetUsdPerHour: null,
  notices: [],
  uncounted: new Set(),
  seenGpus: new Map(),
};

/** Whether what one model uses can be missing to another: then they are planned together. */
export function isLimited({ pools, quotas, budgetUsdPerHour }: FleetLimits): boolean {
  return pools.some(({ gpus }) => gpus !== null) || quotas.length > 0 || budgetUsdPerHour !== null;
}

/** The most GPUs of a type that a deployment of a namespace may ever use: the smaller of its pool and its quota. */
export function gpusAllowed({
  pools,
  quotas,
}: Pick<FleetLimits, 'pools' | 'quotas'>): (
  deployment: Pick<ObservedDeployment, 'namespace'>,
  gpuType: string,
) => number {
  const ofPool = new Map(pools.map(({ gpuType, gpus }) => [gpuType, gpus ?? Number.POSITIVE_INFINITY]));
  const ofQuota = new Map(quotas.map(({ namespace, gpuType, gpus }) => [JSON.stringify([namespace, gpuType]), gpus]));
  return ({ namespace }, gpuType) =>
    Math.min(
      ofPool.get(gpuType) ?? Number.POSITIVE_INFINITY,
      ofQuota.get(JSON.stringify([namespace, gpuType])) ?? Number.POSITIVE_INFINITY,
    );
}

const emptyProblem = planningProblemSchema.parse({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: [] });

export function fleetLimits(input: {
  readonly config: Pick<Config, 'pools' | 'quotas' | 'budgetUsdPerHour'>;
  readonly catalogue: GpuCatalogue;
  /** Every followed deployment. */
  readonly deployments: Iterable<ObservedDeployment>;
  /** What the nodes of the cluster have; null = nobody counts them. */
  readonly cluster?: ClusterPools | null;
  readonly shortages: readonly Shortage[];
  /** Of the call before. */
  readonly seenGpus: FleetLimits['seenGpus'];
}): FleetLimits {
  const { config, catalogue, shortages, seenGpus, cluster = null } = input;
  const deployments = [...input.deployments];
  const given = configuredPools(config).list.map(({ gpuType, gpus }) => ({
    gpuType: canonicalGpuType(catalogue, gpuType),
    gpus,
  }));
  const quotas = config.quotas.map((quota) => ({ ...quota, gpuType: canonicalGpuType(catalogue, quota.gpuType) }));
  // A type that nobody here uses is no pool of ours; one that is given is not counted.
  const taken = new Set(given.map(({ gpuType }) => gpuType));
  const used = new Set(deployments.map(typeOf));
  const counted = (cluster?.ledgers ?? []).filter(({ gpuType }) => used.has(gpuType) && !taken.has(gpuType));
  const configured = [...given, ...counted.map(({ gpuType, gpus }) => ({ gpuType, gpus }))];
  // A stock-out limits its own type, not those that the configuration leaves out.
  const implicit =
    configured.length === 0 && cluster === null
      ? []
      : implicitPools({ deployments, configured: new Set(configured.map(({ gpuType }) => gpuType)), seenGpus });
  const pools = [...configured, ...implicit.map(({ gpuType, gpus }) => ({ gpuType, gpus }))];
  return {
    pools: withShortages({ ...emptyProblem, pools }, shortages).pools,
    quotas,
    budgetUsdPerHour: config.budgetUsdPerHour,
    notices: [
      ...implicit.map((pool) => implicitPoolNotice(pool, cluster)),
      ...(cluster?.notices ?? []),
      ...stockOutNotices(shortages),
    ],
    uncounted: new Set(implicit.flatMap((pool) => pool.uncounted)),
    seenGpus: new Map(implicit.map(({ gpuType, gpus }) => [gpuType, gpus])),
  };
}

type ImplicitPool = { readonly gpuType: string; readonly gpus: number; readonly uncounted: readonly string[] };

/**
 * A pool of what runs for every type that has none: it may shrink, not grow. What ran a while ago counts as well: a
 * replica that goes so that another one can come in its place must not take the place with it.
 */
function implicitPools(input: {
  readonly deployments: Iterable<ObservedDeployment>;
  readonly configured: ReadonlySet<string>;
  readonly seenGpus: FleetLimits['seenGpus'];
}): readonly ImplicitPool[] {
  const pools = new Map<string, { gpus: number; uncounted: string[] }>();
  for (const { id, name, gpuType, gpusPerReplica, currentReplicas, readyReplicas } of input.deployments) {
    const type = typeOf({ gpuType, name });
    if (input.configured.has(type)) continue;
    const pool = pools.get(type) ?? { gpus: 0, uncounted: [] };
    pools.set(type, pool);
    // Replicas on their way down still hold their GPUs; those on their way up were granted.
    pool.gpus += gpusPerReplica * Math.max(readyReplicas ?? 0, currentReplicas ?? 0);
    if (currentReplicas === null) pool.uncounted.push(id);
  }
  return [...pools]
    .map(([gpuType, { gpus, uncounted }]) => ({
      gpuType,
      gpus: Math.max(gpus, input.seenGpus.get(gpuType) ?? 0),
      uncounted: uncounted.sort(),
    }))
    .sort((a, b) => (a.gpuType < b.gpuType ? -1 : 1));
}

function implicitPoolNotice(
  { gpuType, gpus, uncounted }: ImplicitPool,
  cluster: Pick<ClusterPools, 'ledgers'> | null,
): PlanNotice {
  const unknown =
    uncounted.length === 0 ? '' : `, and of ${uncounted.join(', ')} nobody knows what runs: no number is published`;
  const seen = cluster?.ledgers.map((ledger) => ledger.gpuType) ?? [];
  const nowhere = seen.length === 0 ? 'no node has it' : `no node has it (nodes have ${seen.slice(0, 6).join(', ')})`;
  const why = cluster === null ? 'pools does not name it' : nowhere;
  const where = cluster === null ? 'pools' : 'pools.list';
  return {
    code: 'implicit_pool',
    message: `${gpuType}: ${why}, so it may use the ${Number(gpus.toPrecision(6))} GPUs that ran at most since gpumix started and no more${unknown}; add it to ${where} (gpus: null = no limit)`,
  };
}
