import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  KubernetesConsumers,
  type KubernetesConsumersOptions,
} from '../../../src/adapters/kubernetes/consumer-source.js';
import type { ConsumerSnapshot } from '../../../src/core/ports.js';
import { customResources } from '../../support/fake-api-resources.js';
import type { OpenWatch } from '../../support/fake-api-server.js';
import { type FakeCluster, startFakeCluster } from '../../support/test-cluster.js';

let cluster: FakeCluster;
let running: KubernetesConsumers[] = [];
const logged: string[] = [];

beforeEach(async () => {
  cluster = await startFakeCluster();
  logged.length = 0;
});
afterEach(async () => {
  await Promise.all(running.map((source) => source.stop()));
  running = [];
  await cluster.stop();
});

async function follow(options: Partial<KubernetesConsumersOptions> = {}): Promise<KubernetesConsumers> {
  const log = (_fields: object, message: string) => void logged.push(message);
  const source = new KubernetesConsumers({
    clock: { now: () => 0 },
    access: { kubeconfig: cluster.kubeconfig },
    log: { info: log, warn: log },
    ...options,
    timing: { backoffMs: 2, longestBackoffMs: 10, steadyMs: 0, absentMs: 3_600_000, ...options.timing },
  });
  running.push(source);
  await source.start();
  return source;
}

function until(source: KubernetesConsumers, fits: (snapshot: ConsumerSnapshot) => boolean): Promise<ConsumerSnapshot> {
  if (fits(source.snapshot())) return Promise.resolve(source.snapshot());
  return new Promise((resolve) => {
    source.onChange(() => {
      if (fits(source.snapshot())) resolve(source.snapshot());
    });
  });
}

const settled = (source: KubernetesConsumers) => until(source, (snapshot) => snapshot.settled);

type Overrides = {
  readonly name?: string;
  readonly spec?: object;
  readonly target?: object;
  readonly metadata?: object;
};

function object(apiVersion: string, kind: string, { name = 'llama', spec, target, metadata }: Overrides) {
  const scaleTargetRef = target ?? { apiVersion: 'apps/v1', kind: 'Deployment', name: 'llama-l20' };
  return cluster.server.put({
    apiVersion,
    kind,
    metadata: { namespace: 'prod', name, ...metadata },
    spec: { scaleTargetRef, ...spec },
  });
}

const hpa = (overrides: Overrides = {}) => object('autoscaling/v2', 'HorizontalPodAutoscaler', overrides);
const scaledObject = (overrides: Overrides = {}) => object('keda.sh/v1alpha1', 'ScaledObject', overrides);
const podAutoscaler = (overrides: Overrides = {}) =>
  object('autoscaling.aibrix.ai/v1alpha1', 'PodAutoscaler', overrides);
const madeBy = (kind: string, name: string) => ({ ownerReferences: [{ kind, name, controller: true }] });

describe('a consumer', () => {
  it('of each kind is read with the defaults of its controller', async () => {
    cluster.server.serve(customResources.scaledObjects, customResources.podAutoscalers);
    hpa({ spec: { maxReplicas: 12 }, target: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'a' } });
    scaledObject({ target: { name: 'b' } });
    scaledObject({ name: 'set', target: { name: 'c' }, spec: { minReplicaCount: 2, maxReplicaCount: 30 } });
    podAutoscaler({ spec: { minReplicas: 0, maxReplicas: 8 } });
    const { consumers } = await settled(await follow());
    expect(consumers).toEqual([
      {
        kind: 'HorizontalPodAutoscaler',
        namespace: 'prod',
        name: 'llama',
        deployment: 'prod/a',
        minReplicas: 1,
        maxReplicas: 12,
        pausedBy: null,
      },
      {
        kind: 'ScaledObject',
        namespace: 'prod',
        name: 'llama',
        deployment: 'prod/b',
        minReplicas: 0,
        maxReplicas: 100,
        pausedBy: null,
      },
      {
        kind: 'ScaledObject',
        namespace: 'prod',
        name: 'set',
        deployment: 'prod/c',
        minReplicas: 2,
        maxReplicas: 30,
        pausedBy: null,
      },
      {
        kind: 'PodAutoscaler',
        namespace: 'prod',
        name: 'llama',
        deployment: 'prod/llama-l20',
        minReplicas: 0,
        maxReplicas: 8,
        pausedBy: null,
      },
    ]);
  });

  it('that scales something else than a Deployment, or is going, is none', async () => {
    hpa({ name: 'set', target: { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'x' } });
    hpa({ name: 'crd', target: { apiVersion: 'example.com/v1', kind: 'Deployment', name: 'x' } });
    hpa({ name: 'going', metadata: { deletionTimestamp: '2026-11-20T10:00:00Z' } });
    hpa({ name: 'broken', target: {} });
    hpa({ name: 'kept', spec: { maxReplicas: 3 } });
    const { consumers } = await settled(await follow());
    expect(consumers.map(({ name }) => name)).toEqual(['kept']);
  });

  it.each([
    ['many', null],
    [-3, null],
    [2.5, null],
    // No controller takes it, so it is no reason to stop what runs.
    [0, null],
    [1, 1],
    // Whoever wants no limit writes the largest number that there is: more than a plan can hold.
    [2_147_483_647, 1_000_000],
  ])('with a maximum of %j is bounded by %j', async (maxReplicas, bound) => {
    cluster.server.serve(customResources.scaledObjects, customResources.podAutoscalers);
    hpa({ spec: { maxReplicas } });
    scaledObject({ spec: { maxReplicaCount: maxReplicas } });
    podAutoscaler({ spec: { maxReplicas } });
    const { consumers } = await settled(await follow());
    expect(consumers.map((each) => each.maxReplicas)).toEqual([bound, bound, bound]);
  });

  it('scales a Deployment of its own namespace', async () => {
    hpa({ spec: { maxReplicas: 3 } });
    hpa({ spec: { maxReplicas: 7 }, metadata: { namespace: 'test' } });
    const { consumers } = await settled(await follow());
    expect(consumers.map(({ deployment, maxReplicas }) => [deployment, maxReplicas])).toEqual([
      ['prod/llama-l20', 3],
      ['test/llama-l20', 7],
    ]);
  });

  it('that another one made is not counted beside it', async () => {
    cluster.server.serve(customResources.scaledObjects, customResources.podAutoscalers);
    scaledObject({ spec: { maxReplicaCount: 6 } });
    hpa({
      name: 'keda-hpa-llama',
      spec: { minReplicas: 1, maxReplicas: 6 },
      metadata: madeBy('ScaledObject', 'llama'),
    });
    podAutoscaler({
      name: 'aibrix',
      spec: { maxReplicas: 9 },
      target: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'x' },
    });
    hpa({ name: 'aibrix-hpa', spec: { maxReplicas: 9 }, metadata: madeBy('PodAutoscaler', 'aibrix') });
    const { consumers } = await settled(await follow());
    expect(consumers.map(({ kind, name }) => [kind, name])).toEqual([
      ['ScaledObject', 'llama'],
      ['PodAutoscaler', 'aibrix'],
    ]);
  });

  it('that another one made stands for it where that cannot be read, without a minimum that it made up', async () => {
    hpa({ spec: { minReplicas: 1, maxReplicas: 6 }, metadata: madeBy('ScaledObject', 'llama') });
    const { consumers } = await settled(await follow());
    expect(consumers).toMatchObject([{ kind: 'ScaledObject', name: 'llama', minReplicas: null, maxReplicas: 6 }]);
  });

  it.each([
    [{ 'autoscaling.keda.sh/paused': 'true' }, 'autoscaling.keda.sh/paused: "true"'],
    [{ 'autoscaling.keda.sh/paused-replicas': '0' }, 'autoscaling.keda.sh/paused-replicas: "0"'],
    [{ 'autoscaling.keda.sh/paused': 'false' }, null],
    [{}, null],
  ])('of KEDA with %j is paused by %s', async (annotations, pausedBy) => {
    cluster.server.serve(customResources.scaledObjects);
    scaledObject({ metadata: { annotations } });
    expect((await settled(await follow())).consumers).toMatchObject([{ pausedBy }]);
  });

  it('that appears, changes and goes is followed', async () => {
    const source = await follow();
    expect((await settled(source)).consumers).toEqual([]);
    await cluster.server.openWatch('horizontalpodautoscalers');
    hpa({ spec: { maxReplicas: 3 } });
    await until(source, ({ consumers }) => consumers[0]?.maxReplicas === 3);
    hpa({ spec: { maxReplicas: 4 } });
    await until(source, ({ consumers }) => consumers[0]?.maxReplicas === 4);
    cluster.server.remove('prod', 'llama', 'horizontalpodautoscalers');
    await until(source, ({ consumers }) => consumers.length === 0);
  });

  it('of anything at all does not throw', async () => {
    const source = await follow();
    await settled(source);
    const watch = await cluster.server.openWatch('horizontalpodautoscalers');
    const odd = fc.sample(fc.jsonValue(), { numRuns: 200, seed: 7 });
    odd.forEach((spec, index) => {
      const metadata = { namespace: 'prod', name: `odd-${index}`, resourceVersion: '9000', ownerReferences: spec };
      watch.event('ADDED', { metadata: { ...metadata, annotations: spec }, spec });
      watch.event('ADDED', { metadata, spec: { scaleTargetRef: spec, maxReplicas: spec } });
    });
    hpa({ name: 'last' });
    await until(source, ({ consumers }) => consumers.some(({ name }) => name === 'last'));
    expect(cluster.server.requests.filter(({ kind, resource }) => kind === 'list' && resource !== null)).toHaveLength(
      1,
    );
  });
});

describe('an object that is no Deployment', () => {
  it('has consumers where it is one of the deployments, told by its group, kind, namespace and name', async () => {
    cluster.server.serve(customResources.scaledObjects, customResources.podAutoscalers);
    const pool = { apiVersion: 'orchestration.aibrix.ai/v1alpha1', kind: 'StormService', name: 'pool' };
    podAutoscaler({ name: 'a', target: pool });
    podAutoscaler({ name: 'b', target: { ...pool, name: 'other' } });
    podAutoscaler({ name: 'c', target: { ...pool, apiVersion: 'example.com/v1' } });
    scaledObject({ name: 'd', target: { name: 'pool' } });
    const seen: object[] = [];
    const deploymentOf: KubernetesConsumersOptions['deploymentOf'] = (object) => {
      seen.push(object);
      const { group, kind, namespace, name } = object;
      return `${group}/${kind}/${namespace}/${name}` === 'orchestration.aibrix.ai/StormService/prod/pool'
        ? 'prod/llama'
        : null;
    };
    const { consumers } = await settled(await follow({ deploymentOf }));
    expect(consumers).toMatchObject([{ kind: 'PodAutoscaler', name: 'a', deployment: 'prod/llama' }]);
    expect(seen).toContainEqual({ group: 'apps', kind: 'Deployment', namespace: 'prod', name: 'pool' });
  });
});

describe('a kind that the cluster does not have', () => {
  it('is no problem, is looked for seldom, and is followed once it is there', async () => {
    const source = await follow({ timing: { absentMs: 20 } });
    const first = await settled(source);
    expect(first).toEqual({ settled: true, problems: [], unread: [], consumers: [] });
    for (let tries = 0; tries < 6; tries++) {
      await cluster.server.nextRequest(({ path }) => path.includes('keda.sh') || path.includes('aibrix'));
    }
    expect(logged.filter((line) => line.includes('is not served by this cluster'))).toHaveLength(2);
    cluster.server.serve(customResources.scaledObjects);
    scaledObject();
    await until(source, ({ consumers }) => consumers.length === 1);
    expect(source.snapshot().problems).toEqual([]);
  });

  it('and never had is asked for once in the time that is set', async () => {
    await settled(await follow());
    await cluster.server.openWatch('horizontalpodautoscalers');
    const asked = cluster.server.requests.filter(({ path }) => path.includes('keda.sh'));
    expect(asked).toHaveLength(1);
  });

  it('any more takes its objects with it, but not for a single answer', async () => {
    cluster.server.serve(customResources.scaledObjects);
    scaledObject();
    const source = await follow({ timing: { absentMs: 20 } });
    await until(source, ({ consumers }) => consumers.length === 1);
    await cluster.server.openWatch('scaledobjects');
    let refused = 0;
    cluster.server.fault = ({ resource }) => {
      if (resource !== 'scaledobjects' || refused > 0) return undefined;
      refused += 1;
      return { kind: 'answer', status: 404 };
    };
    const again = cluster.server.nextRequest(({ kind, resource }) => kind === 'list' && resource === 'scaledobjects');
    (await cluster.server.openWatch('scaledobjects')).close();
    await again;
    expect(source.snapshot().consumers).toHaveLength(1);
    cluster.server.unserve(customResources.scaledObjects);
    await until(source, ({ consumers }) => consumers.length === 0);
    expect(source.snapshot().problems).toEqual([]);
  });
});

describe('a kind that is forbidden', () => {
  it('is told with the right that is missing, what was known of it stays, and others are followed', async () => {
    cluster.server.serve(customResources.scaledObjects);
    hpa({ spec: { maxReplicas: 3 } });
    scaledObject({ target: { name: 'b' } });
    const source = await follow({ timing: { absentMs: 20 } });
    await until(source, ({ consumers }) => consumers.length === 2);
    const watch = await cluster.server.openWatch('horizontalpodautoscalers');
    cluster.server.fault = ({ resource }) =>
      resource === 'horizontalpodautoscalers' ? { kind: 'answer', status: 403 } : undefined;
    watch.close();
    const told = await until(source, ({ problems }) => problems.length > 0);
    expect(told.problems[0]).toContain('(needs list and watch on horizontalpodautoscalers.autoscaling)');
    expect(told.consumers).toHaveLength(2);
    // What was read is known; what was made since is not.
    expect(told.unread).toEqual([{ namespace: null, reason: told.problems[0] }]);
    scaledObject({ name: 'new', target: { name: 'c' } });
    await until(source, ({ consumers }) => consumers.length === 3);
    cluster.server.fault = () => undefined;
    const again = await until(source, ({ problems }) => problems.length === 0);
    expect(again.consumers).toHaveLength(3);
    expect(again.unread).toEqual([]);
  });

  it('from the beginning keeps nobody waiting, and is said once however often it is tried', async () => {
    cluster.server.fault = () => ({ kind: 'answer', status: 403 });
    const source = await follow({ timing: { absentMs: 5 } });
    const { problems, unread, consumers } = await settled(source);
    expect(problems).toHaveLength(3);
    expect(unread).toEqual(problems.map((reason) => ({ namespace: null, reason })));
    expect(consumers).toEqual([]);
    for (let tries = 0; tries < 9; tries++) await cluster.server.nextRequest(() => true);
    expect(logged.filter((line) => line.includes('needs list and watch'))).toHaveLength(3);
    expect(logged).toHaveLength(3);
  });
});

describe('a fault', () => {
  it('of the watch (410, 500, a broken connection) loses no consumer', async () => {
    hpa({ spec: { maxReplicas: 3 } });
    const source = await follow();
    await until(source, ({ consumers }) => consumers.length === 1);
    const faults: readonly ((watch: OpenWatch) => void)[] = [
      (watch) => watch.event('ERROR', { kind: 'Status', code: 410 }),
      (watch) => watch.event('ERROR', { kind: 'Status', code: 500 }),
      (watch) => watch.reset(),
      (watch) => watch.send('garbage\n'),
    ];
    const seen: number[] = [];
    source.onChange(() => seen.push(source.snapshot().consumers.length));
    for (const fault of faults) {
      const watch = await cluster.server.openWatch('horizontalpodautoscalers');
      const next = once(cluster.server, 'watch');
      fault(watch);
      await next;
    }
    expect(seen.every((count) => count === 1)).toBe(true);
  });

  it('that is a namespace which cannot be one is refused at the start', async () => {
    await expect(follow({ namespaces: ['../x'] })).rejects.toThrow('Kubernetes: namespaces[0]');
  });

  it('before anything was read leaves everything unread, and then only what is', async () => {
    const source = new KubernetesConsumers({ clock: { now: () => 0 }, access: { kubeconfig: cluster.kubeconfig } });
    expect(source.snapshot().unread).toEqual([{ namespace: null, reason: expect.any(String) }]);
    cluster.server.fault = ({ path }) =>
      path.includes('/namespaces/test/') ? { kind: 'answer', status: 403 } : undefined;
    const { unread, problems } = await settled(await follow({ namespaces: ['prod', 'test'] }));
    expect(unread).toEqual(problems.map((reason) => ({ namespace: 'test', reason })));
    expect(unread).toHaveLength(3);
  });

  it('of one namespace among several is its own', async () => {
    hpa();
    const source = await follow({ namespaces: ['prod', 'test'] });
    expect((await settled(source)).consumers).toHaveLength(1);
    expect(cluster.server.requests.map(({ path }) => path)).toContain(
      '/apis/autoscaling/v2/namespaces/test/horizontalpodautoscalers',
    );
  });
});
