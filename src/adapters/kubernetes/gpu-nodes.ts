import type { GpuCatalogue } from '../../core/gpu-types.js';
import { nearestName } from '../../core/parse.js';
import type { GpuNode, GpuNodeSource, GpuNodesSnapshot, NodeClosure, NodeGpus } from '../../core/ports.js';
import { FollowedObjects, type FollowOptions } from './followed-objects.js';
import { allocatableDevices, countDevices, nodeGpuType } from './gpu-demand.js';
import type { ListWatch } from './list-watch.js';
import { items, record, textEntries, textOf } from './wire.js';

export type KubernetesGpuNodesOptions = FollowOptions & {
  readonly catalogue: GpuCatalogue;
  /** Label selector of the nodes that count; empty = all. */
  readonly nodeSelector: string;
};

/** Devices by extended resource. */
type Devices = Readonly<Record<string, number>>;

/** What is kept of a node with GPUs. */
type SeenNode = Pick<GpuNode, 'name' | 'closed' | 'misspelt'> & {
  readonly devices: Devices;
  /** Type by resource; null = no label names it. */
  readonly types: Readonly<Record<string, string | null>>;
};

/** What is kept of a pod that holds GPUs. */
type SeenPod = {
  readonly node: string;
  readonly deployment: string | null;
  readonly ending: boolean;
  readonly devices: Devices;
};

/** Pods that hold a node's devices: assigned to one, and not at their end. */
const holdingPods = 'spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed';

/**
 * The nodes of a cluster that have GPUs, and what their pods hold of them, followed by list and watch.
 *
 * An API server cannot select pods by what they ask for, so that all running ones pass by; of those, and of the nodes, only
 * what has GPUs is kept, a few numbers each. What pods are given by resource claims (DRA) is not seen.
 */
export class KubernetesGpuNodes implements GpuNodeSource {
  readonly #options: KubernetesGpuNodesOptions;
  readonly #followed: FollowedObjects<GpuNodesSnapshot>;
  #nodes: ListWatch<SeenNode> | null = null;
  #pods: ListWatch<SeenPod> | null = null;
  /** The last that somebody asked for while both could be followed: what stays while one cannot. */
  #whole: readonly GpuNode[] | null = null;

  constructor(options: KubernetesGpuNodesOptions) {
    this.#options = options;
    this.#followed = new FollowedObjects(options, 'nodes', () => this.#compose());
  }

  /**
   * Finds the cluster's description and begins to follow it in the background.
   *
   * @throws InputError where no usable kubeconfig or service account is found. An API server that does not answer, or
   *   refuses, is no error: the snapshot says so, and it is tried until it answers.
   */
  async start(): Promise<void> {
    const { catalogue, nodeSelector } = this.#options;
    await this.#followed.start((watch) => {
      this.#nodes = watch({
        path: '/api/v1/nodes',
        listKind: 'NodeList',
        permission: 'nodes',
        labelSelector: nodeSelector,
        read: (object) => readNode(object, catalogue),
      });
      this.#pods = watch({
        path: '/api/v1/pods',
        listKind: 'PodList',
        permission: 'pods',
        labelSelector: '',
        fieldSelector: holdingPods,
        read: readPod,
      });
    });
  }

  snapshot(): GpuNodesSnapshot {
    return this.#followed.snapshot();
  }

  onChange(listener: () => void): void {
    this.#followed.onChange(listener);
  }

  stop(): Promise<void> {
    return this.#followed.stop();
  }

  #compose(): GpuNodesSnapshot {
    const nodes = this.#nodes;
    const pods = this.#pods;
    if (nodes === null || pods === null) return { synced: false, staleSince: null, problem: null, nodes: [] };
    const stale = [nodes, pods].filter(({ problem }) => problem !== null);
    const synced = nodes.synced && pods.synced;
    if (synced && (stale.length === 0 || this.#whole === null)) {
      this.#whole = joined([...nodes.items.values()], pods.items.values());
    }
    return {
      synced,
      staleSince: stale.length === 0 ? null : Math.min(...stale.map(({ freshAt }) => freshAt)),
      problem: stale.length === 0 ? null : stale.map(({ problem }) => problem).join('; '),
      nodes: this.#whole ?? [],
    };
  }
}

function joined(nodes: readonly SeenNode[], pods: Iterable<SeenPod>): readonly GpuNode[] {
  const podsOf = new Map<string, SeenPod[]>();
  for (const pod of pods) {
    const known = podsOf.get(pod.node);
    if (known === undefined) podsOf.set(pod.node, [pod]);
    else known.push(pod);
  }
  return nodes
    .map(({ name, closed, misspelt, devices, types }) => ({
      name,
      closed,
      misspelt,
      gpus: Object.entries(devices).map(
        ([resource, allocatable]): NodeGpus => ({
          resource,
          gpuType: types[resource] ?? null,
          allocatable,
          held: heldOf(podsOf.get(name) ?? [], resource),
        }),
      ),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function heldOf(pods: readonly SeenPod[], resource: string): NodeGpus['held'] {
  const byDeployment = new Map<string | null, { running: number; ending: number }>();
  for (const { deployment, ending, devices } of pods) {
    const count = devices[resource] ?? 0;
    if (count === 0) continue;
    const held = byDeployment.get(deployment) ?? { running: 0, ending: 0 };
    byDeployment.set(deployment, held);
    held[ending ? 'ending' : 'running'] += count;
  }
  return [...byDeployment].map(([deployment, held]) => ({ deployment, ...held }));
}

/** Labels that device plugins and their discovery write, for those who wrote one by hand. */
const productLabels = ['nvidia.com/gpu.product', 'amd.com/gpu.product-name', 'gpu.intel.com/product'];

/** Null for a node without GPUs. One whose device plugin is restarting has none to give, and says so in its capacity. */
function readNode(object: unknown, catalogue: GpuCatalogue): SeenNode | null {
  const metadata = record(record(object).metadata);
  const status = record(record(object).status);
  const capacity = allocatableDevices(status.capacity);
  const allocatable = allocatableDevices(status.allocatable);
  const name = textOf(metadata, 'name') ?? '';
  const resources = [...new Set([...capacity.keys(), ...allocatable.keys()])].sort();
  if (name === '' || resources.length === 0) return null;
  const labels = record(metadata.labels);
  const types = resources.map((resource) => [resource, nodeGpuType(labels, resource, catalogue)] as const);
  return {
    name,
    closed: closureOf(object),
    devices: Object.fromEntries(resources.map((resource) => [resource, allocatable.get(resource) ?? 0])),
    types: Object.fromEntries(types),
    misspelt: types.every(([, type]) => type !== null) ? null : misspeltLabel(labels),
  };
}

function misspeltLabel(labels: Readonly<Record<string, unknown>>): GpuNode['misspelt'] {
  for (const [key] of textEntries(labels)) {
    if (productLabels.includes(key)) continue;
    const nearest = key.includes('gpu') ? nearestName(key, productLabels) : undefined;
    // Labels such as nvidia.com/gpu.count are near to it, and right.
    if (nearest !== undefined && /prod|name/.test(key)) return [key, nearest];
  }
  return null;
}

/** Taints by which autoscalers, clouds and their agents say that a node is about to go. */
const leavingTaints = [
  /^ToBeDeletedByClusterAutoscaler$/,
  /^karpenter\.sh\/disrupt(ed|ion)$/,
  /^cloud\.google\.com\/impending-node-termination$/,
  /^aws-node-termination-handler\//,
  /^node\.cloudprovider\.kubernetes\.io\/shutdown$/,
];

/** Why nothing new may be put onto a node; null where it may. */
export function closureOf(object: unknown): NodeClosure | null {
  const { metadata, spec, status } = record(object);
  const taints = items(record(spec).taints).map((taint) => textOf(record(taint), 'key') ?? '');
  const isLeaving = (record(metadata).deletionTimestamp ?? null) !== null;
  if (isLeaving || taints.some((key) => leavingTaints.some((pattern) => pattern.test(key)))) return 'leaving';
  const ready = items(record(status).conditions).find((condition) => record(condition).type === 'Ready');
  if (record(ready).status !== 'True') return 'not_ready';
  return record(spec).unschedulable === true ? 'cordoned' : null;
}

/** Null for a pod that holds no GPU. The server's selector leaves out those that have ended; a watch may tell them all the same. */
function readPod(object: unknown): SeenPod | null {
  const metadata = record(record(object).metadata);
  const spec = record(record(object).spec);
  const node = textOf(spec, 'nodeName') ?? '';
  const phase = textOf(record(record(object).status), 'phase') ?? '';
  if (node === '' || phase === 'Succeeded' || phase === 'Failed') return null;
  const devices = countDevices(spec);
  if (devices.size === 0) return null;
  return {
    node,
    deployment: deploymentOf(metadata),
    ending: (metadata.deletionTimestamp ?? null) !== null,
    devices: Object.fromEntries(devices),
  };
}

/**
 * A pod's ReplicaSet is named after its Deployment and the hash of its template, which the pod carries as a label: so its
 * Deployment is known without following ReplicaSets.
 */
function deploymentOf(metadata: Readonly<Record<string, unknown>>): string | null {
  const hash = textOf(record(metadata.labels), 'pod-template-hash') ?? '';
  const owner = items(metadata.ownerReferences)
    .map(record)
    .find(({ controller }) => controller === true);
  const name = textOf(owner ?? {}, 'name') ?? '';
  if (owner?.kind !== 'ReplicaSet' || hash === '' || !name.endsWith(`-${hash}`)) return null;
  return `${textOf(metadata, 'namespace') ?? 'default'}/${name.slice(0, -hash.length - 1)}`;
}
