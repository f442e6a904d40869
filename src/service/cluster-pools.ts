import type { PlanNotice } from '../core/plan.js';
import type { GpuNode, GpuNodesSnapshot, NodeGpus, ObservedDeployment } from '../core/ports.js';

/**
 * Pools out of the nodes of a cluster: how many GPUs of each type the followed deployments may use, all together.
 *
 * A pool is what is free on nodes that new pods can start on, and what our replicas hold already, wherever that is. So no
 * fault of a node, a label or a device plugin makes a pool smaller than what runs: a node that is closed (cordoned, not
 * ready, leaving) keeps its replicas and gets no new ones, and a replica whose node is not counted, or says another type,
 * stays in the pool that its deployment is planned in.
 */

/** Where the GPUs of one type are. gpus + foreign + excluded = allocatable + oversubscribed + unseen. */
export type PoolLedger = {
  readonly gpuType: string;
  /** For the followed deployments: the pool. */
  readonly gpus: number;
  /** Held by others, on any node; by pods of ours that are going, on closed ones; by ours that are planned as another type. */
  readonly foreign: number;
  /** Of closed nodes, held by nobody. */
  readonly excluded: number;
  readonly allocatable: number;
  /** Held beyond what nodes have: devices that failed, or a plugin that restarts. */
  readonly oversubscribed: number;
  /** Held by replicas that are planned as this type, and not seen on its nodes. */
  readonly unseen: number;
};

export type ClusterPools = {
  /** Of the types that nodes have, by type. */
  readonly ledgers: readonly PoolLedger[];
  readonly notices: readonly PlanNotice[];
};

type FollowedDeployment = Pick<ObservedDeployment, 'gpuType' | 'name' | 'gpusPerReplica' | 'readyReplicas'>;
/** By id. */
type Followed = ReadonlyMap<string, FollowedDeployment>;

export function clusterPools(
  { nodes, staleSince, problem }: Pick<GpuNodesSnapshot, 'nodes' | 'staleSince' | 'problem'>,
  followed: Followed,
): ClusterPools {
  const ledgers = new Map<string, PoolLedger>();
  for (const { closed, gpus } of nodes) {
    for (const each of gpus) {
      if (each.gpuType === null) continue;
      const part = ledgerOf(each, { gpuType: each.gpuType, closed: closed !== null, followed });
      const sum = ledgers.get(each.gpuType);
      ledgers.set(each.gpuType, sum === undefined ? part : added(sum, part));
    }
  }
  const holdings = holdingsOf(nodes);
  const stale: readonly PlanNotice[] =
    staleSince === null
      ? []
      : [
          {
            code: 'nodes_stale',
            message: `nodes and pods cannot be followed, so pools are as they were at ${new Date(staleSince).toISOString()}: ${problem}`,
          },
        ];
  return {
    ledgers: [...ledgers.values()]
      .map((ledger) => withUnseen(ledger, { holdings, followed, isOld: staleSince !== null }))
      .sort((a, b) => (a.gpuType < b.gpuType ? -1 : 1)),
    notices: [...stale, ...unnamedGpus(nodes), ...otherTypes(nodes, followed)],
  };
}

/** What the pods of a deployment hold, node by node. */
type Holding = { readonly gpuType: string | null; readonly running: number; readonly ending: number };
type Holdings = ReadonlyMap<string, readonly Holding[]>;

function holdingsOf(nodes: readonly GpuNode[]): Holdings {
  const holdings = new Map<string, Holding[]>();
  for (const { gpuType, held } of nodes.flatMap(({ gpus }) => gpus)) {
    for (const { deployment, running, ending } of held) {
      if (deployment === null) continue;
      const known = holdings.get(deployment);
      if (known === undefined) holdings.set(deployment, [{ gpuType, running, ending }]);
      else known.push({ gpuType, running, ending });
    }
  }
  return holdings;
}

/**
 * Adds what replicas hold that is not seen on nodes of their type: on a node that is not selected, lost its label or says
 * another type; by a resource claim, or as a part of a GPU that somebody else's pod stands for.
 */
function withUnseen(
  ledger: PoolLedger,
  { holdings, followed, isOld }: { readonly holdings: Holdings; readonly followed: Followed; readonly isOld: boolean },
): PoolLedger {
  const { gpuType, gpus } = ledger;
  let unseen = 0;
  let needed = 0;
  for (const [id, deployment] of followed) {
    if (typeOf(deployment) !== gpuType) continue;
    let seen = 0;
    let elsewhere = 0;
    for (const { gpuType: of, running, ending } of holdings.get(id) ?? []) {
      if (of === gpuType) seen += running + ending;
      else elsewhere += running;
    }
    const need = deployment.gpusPerReplica * (deployment.readyReplicas ?? 0);
    needed += need;
    // Replicas that came since a view is old took what was free in it: those are no GPUs beside it.
    unseen += Math.max(elsewhere, isOld ? 0 : need - seen);
  }
  unseen += Math.max(0, needed - gpus - unseen);
  return { ...ledger, gpus: gpus + unseen, unseen };
}

function ledgerOf(
  { allocatable, held }: NodeGpus,
  { gpuType, closed, followed }: { readonly gpuType: string; readonly closed: boolean; readonly followed: Followed },
): PoolLedger {
  let ours = 0;
  let foreign = 0;
  for (const { deployment, running, ending } of held) {
    const known = deployment === null ? undefined : followed.get(deployment);
    const isOurs = known !== undefined && typeOf(known) === gpuType;
    // A replica that goes makes room for another one on an open node; on a closed one nothing comes in its place.
    ours += isOurs ? running + (closed ? 0 : ending) : 0;
    foreign += isOurs ? (closed ? ending : 0) : running + ending;
  }
  const free = Math.max(0, allocatable - ours - foreign);
  return {
    gpuType,
    gpus: closed ? ours : ours + free,
    foreign,
    excluded: closed ? free : 0,
    allocatable,
    oversubscribed: Math.max(0, ours + foreign - allocatable),
    unseen: 0,
  };
}

function added(a: PoolLedger, b: PoolLedger): PoolLedger {
  return {
    gpuType: a.gpuType,
    gpus: a.gpus + b.gpus,
    foreign: a.foreign + b.foreign,
    excluded: a.excluded + b.excluded,
    allocatable: a.allocatable + b.allocatable,
    oversubscribed: a.oversubscribed + b.oversubscribed,
    unseen: a.unseen + b.unseen,
  };
}

/** Enough names to find the others by. */
const named = 3;

function list(names: readonly string[]): string {
  const shown = names.slice(0, named).join(', ');
  return names.length > named ? `${shown} and ${names.length - named} more` : shown;
}

/** GPUs that nobody can say the type of are in no pool; one sentence for each resource. */
function unnamedGpus(nodes: readonly GpuNode[]): readonly PlanNotice[] {
  const byResource = new Map<string, { gpus: number; nodes: string[]; misspelt: GpuNode['misspelt'] }>();
  for (const { name, gpus, misspelt } of nodes) {
    for (const { resource, gpuType, allocatable } of gpus) {
      if (gpuType !== null) continue;
      const known = byResource.get(resource) ?? { gpus: 0, nodes: [], misspelt: null };
      byResource.set(resource, known);
      known.gpus += allocatable;
      known.nodes.push(name);
      known.misspelt ??= misspelt;
    }
  }
  return [...byResource].map(([resource, { gpus, nodes: on, misspelt }]) => {
    const hint = misspelt === null ? '' : `; did you mean ${misspelt[1]} by the label ${misspelt[0]}?`;
    return {
      code: 'unnamed_gpus',
      message: `${gpus} ${resource} of ${list(on)} are in no pool: no label of the node names the product (such as nvidia.com/gpu.product)${hint}`,
    };
  });
}

/** Deployments that are planned as one type and run on another: their replicas count in the wrong pool. */
function otherTypes(nodes: readonly GpuNode[], followed: Followed): readonly PlanNotice[] {
  const found = new Map<string, string>();
  for (const { gpus } of nodes) {
    for (const { gpuType, held } of gpus) {
      for (const { deployment } of held) {
        const of = deployment === null ? undefined : followed.get(deployment);
        if (of === undefined || gpuType === null || typeOf(of) === gpuType) continue;
        found.set(deployment!, gpuType);
      }
    }
  }
  return [...found].sort().map(([id, gpuType]) => ({
    code: 'gpu_type_differs',
    message: `${id} is planned on ${typeOf(followed.get(id)!)}, but its pods run on nodes of ${gpuType}: name that by gpumix.dev/gpu-type or a node selector`,
    deployment: id,
  }));
}

/** Where nothing names a GPU type, the deployment's name stands for one. */
export function typeOf({ gpuType, name }: Pick<ObservedDeployment, 'gpuType' | 'name'>): string {
  return gpuType ?? name;
}
