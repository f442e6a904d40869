import { writeFile } from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { KubernetesConsumers } from '../../src/adapters/kubernetes/consumer-source.js';
import { KubernetesGpuNodes } from '../../src/adapters/kubernetes/gpu-nodes.js';
import { scaleTarget } from '../../src/adapters/kubernetes/scale-kinds.js';
import { type OtherScalers, otherScalers } from '../../src/service/actuation/other-scalers.js';
import { ActuatedCluster } from '../support/actuated-cluster.js';
import { profileText, World } from '../support/controller-world.js';
import type { Fault } from '../support/fake-api-server.js';
import { followDeployments } from '../support/followed-deployments.js';
import { kubeconfigText, manifest } from '../support/test-cluster.js';

/**
 * Everything that gpumix reads of a cluster and writes into it, at once: the watches on Deployments, on what scales them, on
 * nodes and pods, and the client of `scale` are the real ones, over HTTP. What a fault must not do is the same for each.
 */

const nowMs = Date.UTC(2026, 10, 20, 10, 0, 2);
const id = 'default/llama-a100';
const timing = { backoffMs: 2, longestBackoffMs: 10, steadyMs: 0, absentMs: 20 };
const catalogue = await loadGpuCatalogue();

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** 6 replicas that serve 6 requests/s, on 8 GPUs that are counted from nodes; gpumix scales them itself. */
async function start() {
  const time: { world: World | null } = { world: null };
  const clock = { now: () => time.world?.nowMs ?? nowMs };
  const others: { known: OtherScalers | null } = { known: null };
  const actuated = await ActuatedCluster.start({
    clock,
    steadyMs: clock.now,
    otherScalers: (deployment) => others.known!(deployment),
  });
  stops.push(() => actuated.stop());
  const { cluster } = actuated;
  const access = { kubeconfig: cluster.kubeconfig };
  const annotations = { 'gpumix.dev/gpu-type': 'A100-80GB' };
  cluster.server.put(manifest({ name: 'llama-a100', model: 'llama', replicas: 6, annotations }));
  cluster.server.put({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'gpu-1', labels: { 'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB' } },
    spec: {},
    status: {
      capacity: { 'nvidia.com/gpu': '8' },
      allocatable: { 'nvidia.com/gpu': '8' },
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  });
  await cluster.write.patchStatus(id, { replicas: 6, readyReplicas: 6 });
  const followed = await followDeployments(access, { clock });
  const consumers = new KubernetesConsumers({ access, clock, timing });
  const gpuNodes = new KubernetesGpuNodes({ access, clock, timing, catalogue, nodeSelector: '' });
  others.known = otherScalers(consumers);
  const world = new World({
    nowMs,
    config: { pools: { fromNodes: true } },
    profiles: { 'llama-a100': profileText({}) },
    deploymentSource: followed.source,
    consumerSource: consumers,
    gpuNodes,
    actuation: { actuator: actuated.actuator, targetOf: (deployment) => scaleTarget(null, deployment) },
  });
  time.world = world;
  stops.push(() => world.controller.stop());
  world.send('llama', { rps: 6 });
  await world.skip(60);
  await world.start();
  await vi.waitFor(() => expect(isWhole()).toBe(true));
  const replicas = () => actuated.replicas('llama-a100', 'default');
  /** Whether each of the views is the cluster's. */
  function isWhole(): boolean {
    const views = [followed.source.snapshot(), gpuNodes.snapshot()];
    return (
      views.every(({ synced, staleSince }) => synced && staleSince === null) &&
      consumers.snapshot().settled &&
      consumers.snapshot().problems.length === 0
    );
  }
  const cycle = async () => {
    await world.cycle();
    await actuated.settled();
    await cluster.write.patchStatus(id, { replicas: replicas(), readyReplicas: replicas() }).catch(() => undefined);
  };
  for (let index = 0; index < 3; index += 1) await cycle();
  expect([world.replicas('llama-a100'), world.held(), replicas()]).toEqual([6, null, 6]);
  return { world, actuated, cluster, followed, cycle, replicas, isWhole };
}
type Started = Awaited<ReturnType<typeof start>>;

const forbidden = JSON.stringify({ kind: 'Status', code: 403, message: 'forbidden: User "gpumix" cannot' });
const answers =
  (fault: Fault) =>
  ({ cluster }: Started) => {
    cluster.server.fault = () => fault;
    for (const watch of cluster.server.watches) watch.close();
  };
const repaired = async ({ cluster }: Started) => {
  cluster.server.fault = () => undefined;
};

/** What goes wrong while everything is followed, how it ends, and what readiness says of it. */
const faults: Readonly<
  Record<string, readonly [(s: Started) => void | Promise<void>, (s: Started) => Promise<void>, RegExp]>
> = {
  'is gone in the middle of its watches': [
    ({ cluster }) => cluster.network.cut(),
    ({ cluster }) => cluster.network.connect(),
    /connection|ECONNREFUSED|refused|reset/i,
  ],
  'says 410 to whatever is asked': [answers({ kind: 'answer', status: 410 }), repaired, /410/],
  'says 429 to whatever is asked': [
    answers({ kind: 'answer', status: 429, headers: { 'retry-after': '0' } }),
    repaired,
    /429/,
  ],
  'says 500 to whatever is asked': [answers({ kind: 'answer', status: 500 }), repaired, /500/],
  'answers with the page of another program': [
    answers({ kind: 'answer', status: 200, body: '<html>Sign in</html>' }),
    repaired,
    /list|JSON/,
  ],
  'does not take the token any more, which has expired': [
    ({ cluster }) => {
      cluster.server.token = 'rotated';
      for (const watch of cluster.server.watches) watch.close();
    },
    ({ cluster }) => {
      const server = `http://127.0.0.1:${cluster.network.port}`;
      return writeFile(cluster.kubeconfig, kubeconfigText({ server, token: 'rotated' }));
    },
    /401 Unauthorized.*credentials refused/,
  ],
  'takes every permission away': [
    answers({ kind: 'answer', status: 403, body: forbidden }),
    repaired,
    /403 Forbidden.*needs list and watch on deployments\.apps/,
  ],
};

describe('an API server that', () => {
  it.each(Object.entries(faults))('%s scales nothing down, is told, and needs no restart', async (_, fault) => {
    const [begin, end, problem] = fault;
    const started = await start();
    const { world, actuated, followed, cycle, replicas } = started;
    await begin(started);
    await followed.until(({ staleSince }) => staleSince !== null);
    // Less arrives by now: nobody knows what runs, so nothing follows it.
    world.send('llama', { rps: 1 });
    const published = new Set<unknown>();
    for (let index = 0; index < 30; index += 1) {
      await cycle();
      published.add(world.replicas('llama-a100'));
    }
    expect([[...published], world.held(), replicas()]).toEqual([[6], 'kubernetes_unreachable', 6]);
    expect(world.controller.inputs()).toContainEqual(
      expect.objectContaining({ input: 'kubernetes', ok: false, problem: expect.stringMatching(problem) }),
    );
    expect(actuated.events().filter(({ reason }) => reason === 'ScaledDown')).toEqual([]);
    expect(JSON.stringify(world.controller.inputs())).not.toContain('test-token');

    await end(started);
    await vi.waitFor(() => expect(started.isWhole()).toBe(true), { timeout: 10_000 });
    world.send('llama', { rps: 8 });
    for (let index = 0; index < 4; index += 1) await cycle();
    expect([world.replicas('llama-a100'), world.held(), replicas()]).toEqual([8, null, 8]);
  });

  it('answers late that there is nothing is not believed by halves: pages are taken whole or not at all', async () => {
    const started = await start();
    const { world, cluster, cycle, replicas, followed } = started;
    // Compacted away: every watch ends with 410, and every list breaks off after its beginning.
    cluster.server.fault = ({ path }) =>
      path.endsWith('/deployments')
        ? { kind: 'answer', status: 200, body: '{"kind":"DeploymentList","metadata":{"resourceVersion":"9"},"items":[' }
        : undefined;
    for (const watch of cluster.server.watches) watch.event('ERROR', { kind: 'Status', code: 410 });
    await followed.until(({ staleSince }) => staleSince !== null);
    for (let index = 0; index < 5; index += 1) await cycle();
    expect([world.replicas('llama-a100'), replicas()]).toEqual([6, 6]);
    await repaired(started);
    await vi.waitFor(() => expect(started.isWhole()).toBe(true), { timeout: 10_000 });
    await cycle();
    expect([world.replicas('llama-a100'), world.held()]).toEqual([6, null]);
  });
});

describe('a permission that is revoked alone', () => {
  it.each([
    ['nodes', /needs list and watch on nodes/],
    ['pods', /needs list and watch on pods/],
  ])('to read %s keeps the pools that were counted', async (resource, problem) => {
    const { world, cluster, cycle, replicas } = await start();
    cluster.server.fault = (request) =>
      request.resource === resource ? { kind: 'answer', status: 403, body: forbidden } : undefined;
    for (const watch of cluster.server.watches) watch.close();
    await vi.waitFor(async () => {
      await cycle();
      expect(world.controller.inputs().find(({ input }) => input === 'nodes')?.problem).toMatch(problem);
    });
    world.send('llama', { rps: 8 });
    for (let index = 0; index < 4; index += 1) await cycle();
    expect([world.replicas('llama-a100'), replicas()]).toEqual([8, 8]);
    expect(world.warnings()).toContain('nodes_stale');
  });

  it('to write scale leaves what runs, says which, and catches up', async () => {
    const { world, actuated, cluster, cycle, replicas } = await start();
    cluster.server.fault = ({ path }) =>
      path.endsWith('/scale') ? { kind: 'answer', status: 403, body: forbidden } : undefined;
    world.send('llama', { rps: 8 });
    for (let index = 0; index < 4; index += 1) await cycle();
    expect([world.replicas('llama-a100'), replicas()]).toEqual([8, 6]);
    expect(actuated.actuator.view().problem).toContain('deployments/scale');
    await repaired({ cluster } as Started);
    for (let index = 0; index < 10; index += 1) await cycle();
    expect(replicas()).toBe(8);
  });
});
