import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import { KubernetesGpuNodes, type KubernetesGpuNodesOptions } from '../../../src/adapters/kubernetes/gpu-nodes.js';
import type { GpuNodesSnapshot } from '../../../src/core/ports.js';
import type { OpenWatch } from '../../support/fake-api-server.js';
import { type FakeCluster, startFakeCluster } from '../../support/test-cluster.js';

const catalogue = await loadGpuCatalogue();
let cluster: FakeCluster;
let running: KubernetesGpuNodes[] = [];

beforeEach(async () => {
  cluster = await startFakeCluster();
});
afterEach(async () => {
  await Promise.all(running.map((source) => source.stop()));
  running = [];
  await cluster.stop();
});

async function follow(options: Partial<KubernetesGpuNodesOptions> = {}): Promise<KubernetesGpuNodes> {
  const source = new KubernetesGpuNodes({
    catalogue,
    clock: { now: () => 1_000 },
    nodeSelector: '',
    access: { kubeconfig: cluster.kubeconfig },
    ...options,
    timing: { backoffMs: 2, longestBackoffMs: 10, steadyMs: 0, ...options.timing },
  });
  running.push(source);
  await source.start();
  return source;
}

function until(source: KubernetesGpuNodes, fits: (snapshot: GpuNodesSnapshot) => boolean): Promise<GpuNodesSnapshot> {
  if (fits(source.snapshot())) return Promise.resolve(source.snapshot());
  return new Promise((resolve) => {
    source.onChange(() => {
      if (fits(source.snapshot())) resolve(source.snapshot());
    });
  });
}

const synced = (source: KubernetesGpuNodes) => until(source, (snapshot) => snapshot.synced);

type Json = Readonly<Record<string, unknown>>;

function putNode(
  name: string,
  overrides: {
    readonly labels?: Json;
    readonly devices?: Json;
    readonly capacity?: Json;
    readonly spec?: Json;
    readonly ready?: string;
  } = {},
) {
  const { labels = { 'nvidia.com/gpu.product': 'NVIDIA-L4' }, devices = { 'nvidia.com/gpu': '4' } } = overrides;
  return cluster.server.put({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels },
    spec: overrides.spec ?? {},
    status: {
      capacity: { cpu: '64', ...(overrides.capacity ?? devices) },
      allocatable: { cpu: '63', memory: '200Gi', ...devices },
      conditions: [
        { type: 'MemoryPressure', status: 'False' },
        { type: 'Ready', status: overrides.ready ?? 'True' },
      ],
    },
  });
}

function putPod(
  name: string,
  overrides: {
    readonly node?: string;
    readonly of?: string | null;
    readonly limits?: Json;
    readonly phase?: string;
    readonly metadata?: Json;
    readonly spec?: Json;
  } = {},
) {
  const { node = 'gpu-1', of = null, limits = { 'nvidia.com/gpu': '1' }, phase = 'Running' } = overrides;
  const owner = { ownerReferences: [{ kind: 'ReplicaSet', name: `${of}-7d9f`, controller: true }] };
  return cluster.server.put({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: 'prod',
      name,
      ...(of === null ? {} : { labels: { 'pod-template-hash': '7d9f' }, ...owner }),
      ...overrides.metadata,
    },
    spec: { nodeName: node, containers: [{ name: 'engine', resources: { limits } }], ...overrides.spec },
    status: { phase },
  });
}

/** `resource type allocatable` of every node. */
const devicesOf = ({ nodes }: GpuNodesSnapshot) =>
  nodes.flatMap(({ gpus }) => gpus.map(({ resource, gpuType, allocatable }) => [resource, gpuType, allocatable]));

describe('a node', () => {
  it.each<readonly [string, Json, Json, readonly (readonly unknown[])[]]>([
    [
      'NVIDIA',
      { 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB' },
      { 'nvidia.com/gpu': '8' },
      [['nvidia.com/gpu', 'A100-80GB', 8]],
    ],
    [
      'AMD',
      { 'amd.com/gpu.product-name': 'AMD_Instinct_MI300X_OAM' },
      { 'amd.com/gpu': 8 },
      [['amd.com/gpu', 'MI300X', 8]],
    ],
    [
      'GKE',
      { 'cloud.google.com/gke-accelerator': 'nvidia-l4' },
      { 'nvidia.com/gpu': '1' },
      [['nvidia.com/gpu', 'L4', 1]],
    ],
    [
      'Karpenter',
      { 'karpenter.k8s.aws/instance-gpu-name': 'l4' },
      { 'nvidia.com/gpu': '1' },
      [['nvidia.com/gpu', 'L4', 1]],
    ],
    [
      'an unknown product',
      { 'nvidia.com/gpu.product': 'NVIDIA-X9000' },
      { 'nvidia.com/gpu': '2' },
      [['nvidia.com/gpu', 'NVIDIA-X9000', 2]],
    ],
    [
      'shared GPUs',
      { 'nvidia.com/gpu.product': 'NVIDIA-L4-SHARED' },
      { 'nvidia.com/gpu.shared': '16' },
      [['nvidia.com/gpu.shared', 'L4-SHARED', 16]],
    ],
    [
      'shared GPUs under the old name',
      { 'nvidia.com/gpu.product': 'NVIDIA-L4-SHARED' },
      { 'nvidia.com/gpu': '16' },
      [['nvidia.com/gpu', 'L4-SHARED', 16]],
    ],
    [
      'MIG beside whole GPUs',
      { 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB' },
      { 'nvidia.com/gpu': '4', 'nvidia.com/mig-1g.10gb': '28' },
      [
        ['nvidia.com/gpu', 'A100-80GB', 4],
        ['nvidia.com/mig-1g.10gb', 'A100-80GB-MIG-1g.10gb', 28],
      ],
    ],
    ['no GPU', { 'nvidia.com/gpu.product': 'NVIDIA-L4' }, {}, []],
  ])('of %s is read by its labels and devices', async (_name, labels, devices, expected) => {
    putNode('gpu-1', { labels, devices });
    expect(devicesOf(await synced(await follow()))).toEqual(expected);
  });

  it('whose vendor label and cloud label differ is what the vendor says', async () => {
    putNode('gpu-1', {
      labels: { 'cloud.google.com/gke-accelerator': 'nvidia-l4', 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB' },
    });
    expect(devicesOf(await synced(await follow()))).toEqual([['nvidia.com/gpu', 'A100-80GB', 4]]);
  });

  it('without a product label has GPUs of no type, and says which label was probably meant', async () => {
    putNode('gpu-1', { labels: { 'nvidia.com/gpu.prodct': 'NVIDIA-X9000', 'nvidia.com/gpu.count': '4' } });
    const { nodes } = await synced(await follow());
    expect(nodes).toMatchObject([
      { gpus: [{ gpuType: null, allocatable: 4 }], misspelt: ['nvidia.com/gpu.prodct', 'nvidia.com/gpu.product'] },
    ]);
  });

  it.each<readonly [string | null, Parameters<typeof putNode>[1]]>([
    [null, {}],
    ['cordoned', { spec: { unschedulable: true } }],
    ['not_ready', { ready: 'Unknown' }],
    ['not_ready', { ready: 'False', spec: { unschedulable: true } }],
    ['leaving', { spec: { taints: [{ key: 'karpenter.sh/disrupted', effect: 'NoSchedule' }] } }],
    ['leaving', { spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] } }],
    [null, { spec: { taints: [{ key: 'nvidia.com/gpu', effect: 'NoSchedule' }] } }],
  ])('is closed as %s with %j', async (closed, overrides) => {
    putNode('gpu-1', overrides);
    expect((await synced(await follow())).nodes[0]!.closed).toBe(closed);
  });

  it('that flaps is closed and open again, and its devices stay known while its plugin restarts', async () => {
    putNode('gpu-1');
    const source = await follow();
    await synced(source);
    await cluster.server.openWatch('nodes');
    putNode('gpu-1', { ready: 'Unknown' });
    await until(source, ({ nodes }) => nodes[0]?.closed === 'not_ready');
    putNode('gpu-1', { devices: { 'nvidia.com/gpu': '0' }, capacity: { 'nvidia.com/gpu': '4' } });
    const restarting = await until(source, ({ nodes }) => nodes[0]?.closed === null);
    expect(devicesOf(restarting)).toEqual([['nvidia.com/gpu', 'L4', 0]]);
    cluster.server.remove(null, 'gpu-1', 'nodes');
    await until(source, ({ nodes }) => nodes.length === 0);
  });

  it('that is relabelled is of the other type, and not there once the selector no longer takes it', async () => {
    putNode('gpu-1');
    const source = await follow({ nodeSelector: '!dedicated' });
    await synced(source);
    await cluster.server.openWatch('nodes');
    putNode('gpu-1', { labels: { 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB' } });
    await until(source, ({ nodes }) => nodes[0]?.gpus[0]?.gpuType === 'A100-80GB');
    putNode('gpu-1', { labels: {} });
    await until(source, ({ nodes }) => nodes[0]?.gpus[0]?.gpuType === null);
    putNode('gpu-1', { labels: { 'nvidia.com/gpu.product': 'NVIDIA-L4', dedicated: 'team-a' } });
    await until(source, ({ nodes }) => nodes.length === 0);
    expect(source.snapshot().staleSince).toBeNull();
  });

  it('that the selector leaves out is not there', async () => {
    putNode('gpu-1', { labels: { 'nvidia.com/gpu.product': 'NVIDIA-L4', dedicated: 'team-a' } });
    putNode('gpu-2');
    const { nodes } = await synced(await follow({ nodeSelector: '!dedicated' }));
    expect(nodes.map(({ name }) => name)).toEqual(['gpu-2']);
  });
});

describe('a pod', () => {
  it('holds devices of its node, for its Deployment', async () => {
    putNode('gpu-1');
    putPod('llama-1', { of: 'llama' });
    putPod('llama-2', { of: 'llama', limits: { 'nvidia.com/gpu': 2 } });
    putPod('llama-3', { of: 'llama', metadata: { deletionTimestamp: '2026-11-20T10:00:00Z' } });
    putPod('job', { limits: { 'nvidia.com/gpu': '1', cpu: '4' } });
    putPod('web', { limits: { cpu: '4' } });
    const { nodes } = await synced(await follow());
    expect(nodes[0]!.gpus[0]!.held).toEqual([
      { deployment: null, running: 1, ending: 0 },
      { deployment: 'prod/llama', running: 2 + 1, ending: 1 },
    ]);
  });

  const gpu = (count: number) => ({ 'nvidia.com/gpu': String(count) });

  it.each<readonly [string, number, Json]>([
    ['only in its requests', 2, { containers: [{ resources: { requests: gpu(2) } }] }],
    ['in two containers', 3, { containers: [{ resources: { limits: gpu(1) } }, { resources: { limits: gpu(2) } }] }],
    [
      'in an init container that takes more than what follows',
      4,
      { initContainers: [{ resources: { limits: gpu(4) } }], containers: [{ resources: { limits: gpu(1) } }] },
    ],
    [
      'in an init container that takes less',
      2,
      { initContainers: [{ resources: { limits: gpu(1) } }], containers: [{ resources: { limits: gpu(2) } }] },
    ],
    [
      'in a sidecar',
      3,
      {
        initContainers: [{ restartPolicy: 'Always', resources: { limits: gpu(1) } }],
        containers: [{ resources: { limits: gpu(2) } }],
      },
    ],
  ])('that asks for GPUs %s holds %i', async (_where, running, spec) => {
    putNode('gpu-1');
    putPod('job', { spec });
    expect((await synced(await follow())).nodes[0]!.gpus[0]!.held).toEqual([{ deployment: null, running, ending: 0 }]);
  });

  it('of another namespace is of another Deployment, whatever its name', async () => {
    putNode('gpu-1');
    putPod('llama-1', { of: 'llama' });
    putPod('llama-1', {
      metadata: {
        namespace: 'test',
        labels: { 'pod-template-hash': '7d9f' },
        ownerReferences: [{ kind: 'ReplicaSet', name: 'llama-7d9f', controller: true }],
      },
    });
    expect((await synced(await follow())).nodes[0]!.gpus[0]!.held).toEqual([
      { deployment: 'prod/llama', running: 1, ending: 0 },
      { deployment: 'test/llama', running: 1, ending: 0 },
    ]);
  });

  it('that has ended, or waits for a node, holds nothing', async () => {
    putNode('gpu-1');
    putPod('done', { phase: 'Succeeded' });
    putPod('failed', { phase: 'Failed' });
    putPod('waits', { node: '', phase: 'Pending' });
    const source = await follow();
    expect((await synced(source)).nodes[0]!.gpus[0]!.held).toEqual([]);
    await cluster.server.openWatch('pods');
    putPod('waits', { phase: 'Running' });
    await until(source, ({ nodes }) => nodes[0]!.gpus[0]!.held.length === 1);
    for (const phase of ['Succeeded', 'Failed']) {
      putPod('waits', { phase });
      await until(source, ({ nodes }) => nodes[0]!.gpus[0]!.held.length === 0);
      putPod('waits', { phase: 'Running' });
      await until(source, ({ nodes }) => nodes[0]!.gpus[0]!.held.length === 1);
    }
    // Not every server selects what it watches.
    const watch = await cluster.server.openWatch('pods');
    const ended = {
      metadata: { namespace: 'prod', name: 'waits', resourceVersion: '9000' },
      spec: { nodeName: 'gpu-1', containers: [{ resources: { limits: { 'nvidia.com/gpu': '1' } } }] },
    };
    for (const phase of ['Succeeded', 'Failed']) {
      watch.event('MODIFIED', { ...ended, status: { phase } });
      await until(source, ({ nodes }) => nodes[0]!.gpus[0]!.held.length === 0);
      watch.event('MODIFIED', { ...ended, status: { phase: 'Running' } });
      await until(source, ({ nodes }) => nodes[0]!.gpus[0]!.held.length === 1);
    }
    const asked = cluster.server.requests.filter(({ resource }) => resource === 'pods');
    const selector = 'spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed';
    expect(asked.every(({ query }) => query.fieldSelector === selector)).toBe(true);
  });

  it('of a ReplicaSet that nobody named after its hash is of no Deployment', async () => {
    putNode('gpu-1');
    putPod('own', { of: 'llama', metadata: { labels: { 'pod-template-hash': 'another' } } });
    expect((await synced(await follow())).nodes[0]!.gpus[0]!.held).toEqual([
      { deployment: null, running: 1, ending: 0 },
    ]);
  });
});

describe('anything at all', () => {
  it.each([
    ['nodes', 'a node'],
    ['pods', 'a pod'],
  ])('that a watch of %s tells of as %s neither throws nor ends the watch', async (resource) => {
    putNode('gpu-1');
    const source = await follow();
    await synced(source);
    const watch = await cluster.server.openWatch(resource);
    const lists = () => cluster.server.requests.filter(({ kind }) => kind === 'list').length;
    const before = lists();
    const odd = fc.sample(fc.jsonValue(), { numRuns: 200, seed: 11 });
    odd.forEach((value, index) => {
      const metadata = { namespace: 'prod', name: `odd-${index}`, resourceVersion: '9000' };
      watch.event('ADDED', {
        metadata: { ...metadata, labels: value, ownerReferences: value },
        spec: value,
        status: value,
      });
      watch.event('ADDED', {
        metadata: { ...metadata, labels: { 'nvidia.com/gpu.product': value } },
        spec: { nodeName: value, taints: value, unschedulable: value, containers: value, initContainers: value },
        status: { capacity: value, allocatable: value, conditions: value, phase: value },
      });
      watch.event('ADDED', {
        metadata,
        spec: { nodeName: 'gpu-1', containers: [{ resources: { limits: { 'nvidia.com/gpu': value } } }] },
        status: { capacity: { 'nvidia.com/gpu': value }, allocatable: { 'nvidia.com/gpu': value } },
      });
    });
    if (resource === 'nodes') putNode('gpu-last');
    else putPod('last');
    await until(source, ({ nodes }) =>
      resource === 'nodes' ? nodes.some(({ name }) => name === 'gpu-last') : nodes[0]!.gpus[0]!.held.length > 0,
    );
    for (const { gpus } of source.snapshot().nodes) {
      for (const { allocatable, held } of gpus) {
        expect(allocatable).toBeGreaterThanOrEqual(0);
        for (const { running, ending } of held) expect(running + ending).toBeGreaterThan(0);
      }
    }
    expect(lists()).toBe(before);
  });
});

describe('a fault', () => {
  it.each(['nodes', 'pods'])(
    'that %s are forbidden freezes the view, says the right, and ends with it',
    async (resource) => {
      putNode('gpu-1');
      putPod('job');
      const source = await follow();
      const before = (await synced(source)).nodes;
      const watch = await cluster.server.openWatch(resource);
      cluster.server.fault = (request) => (request.resource === resource ? { kind: 'answer', status: 403 } : undefined);
      watch.close();
      const stale = await until(source, ({ staleSince }) => staleSince !== null);
      expect(stale).toMatchObject({ synced: true, staleSince: 1_000, nodes: before });
      expect(stale.problem).toContain(`(needs list and watch on ${resource})`);
      // What the other of the two tells meanwhile would be half a picture.
      if (resource === 'nodes') putPod('another');
      else putNode('gpu-2');
      await cluster.server.nextRequest((request) => request.resource === resource);
      expect(source.snapshot().nodes).toEqual(before);
      cluster.server.fault = () => undefined;
      const after = await until(source, ({ staleSince }) => staleSince === null);
      expect(after.nodes).not.toEqual(before);
    },
  );

  it('from the beginning is no empty cluster', async () => {
    cluster.server.fault = ({ resource }) => (resource === 'pods' ? { kind: 'answer', status: 403 } : undefined);
    putNode('gpu-1');
    const source = await follow();
    expect(await until(source, ({ problem }) => problem !== null)).toMatchObject({ synced: false, nodes: [] });
  });

  it('of the watch (410, 500, a broken connection, nonsense) changes nothing', async () => {
    putNode('gpu-1');
    putPod('job');
    const source = await follow();
    const before = (await synced(source)).nodes;
    const seen: unknown[] = [];
    source.onChange(() => seen.push(source.snapshot().nodes));
    const faults: readonly ((watch: OpenWatch) => void)[] = [
      (watch) => watch.event('ERROR', { kind: 'Status', code: 410 }),
      (watch) => watch.event('ERROR', { kind: 'Status', code: 500 }),
      (watch) => watch.reset(),
      (watch) => watch.send('garbage\n'),
    ];
    for (const resource of ['nodes', 'pods']) {
      for (const fault of faults) {
        const watch = await cluster.server.openWatch(resource);
        const next = once(cluster.server, 'watch');
        fault(watch);
        await next;
      }
    }
    for (const nodes of seen) expect(nodes).toEqual(before);
  });
});
