import { writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubernetesScaleClient } from '../../../src/adapters/kubernetes/scale-client.js';
import { scaleTarget } from '../../../src/adapters/kubernetes/scale-kinds.js';
import type { Scale, ScaleAnswer, TargetEvent } from '../../../src/core/scale.js';
import { customResources } from '../../support/fake-api-resources.js';
import type { Fault } from '../../support/fake-api-server.js';
import { type FakeCluster, kubeconfigText, manifest, startFakeCluster } from '../../support/test-cluster.js';

let cluster: FakeCluster;
let client: KubernetesScaleClient;

beforeEach(async () => {
  cluster = await startFakeCluster();
  client = new KubernetesScaleClient({ access: { kubeconfig: cluster.kubeconfig } });
  await client.start();
});
afterEach(() => cluster.stop());

const llama = scaleTarget(null, { namespace: 'prod', name: 'llama' });
const run = (replicas: number) => cluster.server.put(manifest({ namespace: 'prod', name: 'llama', replicas }));
const spec = () => cluster.server.objects()[0]!.spec as { readonly replicas: number };

function scaleOf(answer: ScaleAnswer): Scale {
  if (answer.kind === 'fault') throw new Error(answer.message);
  return answer.scale;
}

describe('the scale of a Deployment', () => {
  it('is read with its version, and written as gpumix at that version', async () => {
    run(2);
    const { replicas, resourceVersion, uid } = scaleOf(await client.read(llama));
    expect(replicas).toBe(2);
    expect(uid).toMatch(/^0{8}-/);
    const written = scaleOf(await client.write(llama, { replicas: 5, resourceVersion, dryRun: false }));
    expect(written.replicas).toBe(5);
    expect(spec().replicas).toBe(5);
    expect(cluster.server.managersOf('deployments', 'prod/llama', 'spec.replicas')).toEqual(['gpumix']);
  });

  it('of none is none', async () => {
    run(0);
    expect(scaleOf(await client.read(llama)).replicas).toBe(0);
  });

  it('is not written over what somebody else wrote meanwhile', async () => {
    run(2);
    const { resourceVersion } = scaleOf(await client.read(llama));
    run(7);
    const answer = await client.write(llama, { replicas: 5, resourceVersion, dryRun: false });
    expect(answer).toMatchObject({ kind: 'fault', fault: 'conflict' });
    expect(spec().replicas).toBe(7);
  });

  it('is not changed by a dry run, which the server checks all the same', async () => {
    run(2);
    const { resourceVersion } = scaleOf(await client.read(llama));
    expect(scaleOf(await client.write(llama, { replicas: 5, resourceVersion, dryRun: true })).replicas).toBe(5);
    expect(cluster.server.requests.at(-1)!.query).toEqual({ fieldManager: 'gpumix', dryRun: 'All' });
    expect(spec().replicas).toBe(2);
    run(3);
    const stale = await client.write(llama, { replicas: 5, resourceVersion, dryRun: true });
    expect(stale).toMatchObject({ fault: 'conflict' });
  });
});

describe('other kinds', () => {
  const named = (kind: string) => ({ kind, group: null, version: null, resource: null, name: null });

  it.each([
    ['StormService', customResources.stormServices, 'orchestration.aibrix.ai/v1alpha1'],
    ['RayClusterFleet', customResources.rayClusterFleets, 'orchestration.aibrix.ai/v1alpha1'],
    ['LeaderWorkerSet', customResources.leaderWorkerSets, 'leaderworkerset.x-k8s.io/v1'],
  ] as const)('%s: its own scale', async (kind, resource, apiVersion) => {
    const target = scaleTarget(named(kind), { namespace: 'prod', name: 'llama' });
    expect(await client.read(target)).toMatchObject({ fault: 'not_found' });
    cluster.server.serve(resource);
    cluster.server.put({
      apiVersion,
      kind,
      metadata: { namespace: 'prod', name: 'llama' },
      spec: { replicas: 1 },
    });
    const { resourceVersion } = scaleOf(await client.read(target));
    await client.write(target, { replicas: 4, resourceVersion, dryRun: false });
    expect(cluster.server.objects(resource.resource)[0]!.spec).toEqual({ replicas: 4 });
    const path = `/apis/${apiVersion}/namespaces/prod/${resource.resource}/llama/scale`;
    expect(cluster.server.requests.at(-1)!.path).toBe(path);
  });

  it('InferenceService: the Deployment of its predictor, as KServe names it', async () => {
    const target = scaleTarget(named('InferenceService'), { namespace: 'prod', name: 'llama' });
    expect(target).toMatchObject({ group: 'apps', resource: 'deployments', name: 'llama-predictor' });
    cluster.server.put(manifest({ namespace: 'prod', name: 'llama-predictor', replicas: 2 }));
    expect(scaleOf(await client.read(target)).replicas).toBe(2);
  });

  it('one that nobody knows is addressed as the configuration says, and another name too', () => {
    const kind = { kind: 'Fleet', group: 'example.com', version: 'v2', resource: 'fleets', name: 'other' };
    expect(scaleTarget(kind, { namespace: 'prod', name: 'llama' })).toEqual({ ...kind, namespace: 'prod' });
  });

  it('a kind of a known name in another group is another kind', () => {
    const kind = { kind: 'Deployment', group: 'example.com', version: 'v1', resource: 'deployments', name: null };
    expect(scaleTarget(kind, { namespace: 'prod', name: 'llama' }).group).toBe('example.com');
  });
});

describe('what goes wrong is a value', () => {
  const answerWith = (fault: Fault) => {
    cluster.server.fault = () => fault;
  };

  it.each([
    [403, 'forbidden'],
    [404, 'not_found'],
    [409, 'conflict'],
    [422, 'rejected'],
    [429, 'throttled'],
    [500, 'server_error'],
    [503, 'server_error'],
  ] as const)('%i: %s', async (status, fault) => {
    answerWith({ kind: 'answer', status, headers: { 'retry-after': '7' } });
    const answer = await client.read(llama);
    expect(answer).toMatchObject({ kind: 'fault', fault, retryAfterSeconds: 7 });
    expect(answer.kind === 'fault' && answer.message).toContain('/namespaces/prod/deployments/llama/scale');
  });

  it.each([
    ['another document', '{"kind":"Pod"}'],
    ['no JSON', '<html>'],
    ['replicas that are none', '{"kind":"Scale","metadata":{"resourceVersion":"1"},"spec":{"replicas":-1}}'],
    ['no version', '{"kind":"Scale","metadata":{},"spec":{"replicas":1}}'],
    ['no spec', '{"kind":"Scale","metadata":{"resourceVersion":"1"},"status":{"replicas":20}}'],
    ['a spec that is none', '{"kind":"Scale","metadata":{"resourceVersion":"1"},"spec":[20]}'],
    ['another object', '{"kind":"Scale","metadata":{"name":"other","resourceVersion":"1"},"spec":{"replicas":1}}'],
  ])('%s is no answer', async (_name, body) => {
    answerWith({ kind: 'answer', status: 200, body });
    expect(await client.read(llama)).toMatchObject({ kind: 'fault', fault: 'bad_answer' });
  });

  it('a server that hangs, resets or is gone is unreachable', async () => {
    const hasty = new KubernetesScaleClient({ access: { kubeconfig: cluster.kubeconfig }, timeoutMs: 50 });
    expect(await hasty.read(llama)).toMatchObject({ fault: 'unreachable' });
    await hasty.start();
    answerWith({ kind: 'hang' });
    expect(await hasty.read(llama)).toMatchObject({ fault: 'unreachable', message: expect.stringContaining('0.05 s') });
    answerWith({ kind: 'reset' });
    expect(await client.read(llama)).toMatchObject({ fault: 'unreachable' });
    await cluster.network.cut();
    expect(await client.read(llama)).toMatchObject({ fault: 'unreachable' });
  });

  it('a token that expired is read anew, and one that stays refused is told without it', async () => {
    run(2);
    cluster.server.token = 'rotated';
    const refused = await client.read(llama);
    expect(refused).toMatchObject({ fault: 'unauthorized' });
    expect(JSON.stringify(refused)).not.toContain('test-token');
    const server = `http://127.0.0.1:${cluster.network.port}`;
    await writeFile(cluster.kubeconfig, kubeconfigText({ server, token: 'rotated' }));
    expect(scaleOf(await client.read(llama)).replicas).toBe(2);
  });
});

describe('an Event', () => {
  const event = (overrides: Partial<TargetEvent> = {}): TargetEvent => ({
    target: llama,
    uid: 'a-uid',
    reason: 'ScaledUp',
    message: 'Scaled from 2 to 5: the cheapest mix.',
    count: 1,
    firstMs: Date.UTC(2026, 10, 20, 10, 0, 2, 345),
    lastMs: Date.UTC(2026, 10, 20, 10, 0, 2, 345),
    ...overrides,
  });

  it('is on the object, as kubectl describe finds it', async () => {
    await client.recordEvent(event(), null);
    expect(cluster.server.objects('events')).toMatchObject([
      {
        metadata: { namespace: 'prod', name: expect.stringMatching(/^llama\.[0-9a-f]{16}$/) },
        involvedObject: { apiVersion: 'apps/v1', kind: 'Deployment', namespace: 'prod', name: 'llama', uid: 'a-uid' },
        reason: 'ScaledUp',
        type: 'Normal',
        count: 1,
        firstTimestamp: '2026-11-20T10:00:02Z',
        source: { component: 'gpumix' },
      },
    ]);
  });

  it('is counted up, and written anew where the server has forgotten it', async () => {
    const first = await client.recordEvent(event(), null);
    const name = first.kind === 'recorded' ? first.name : '';
    const later = event({ count: 3, message: 'again', lastMs: Date.UTC(2026, 10, 20, 10, 5) });
    expect(await client.recordEvent(later, name)).toEqual({ kind: 'recorded', name });
    expect(cluster.server.objects('events')).toMatchObject([
      { count: 3, message: 'again', firstTimestamp: '2026-11-20T10:00:02Z', lastTimestamp: '2026-11-20T10:05:00Z' },
    ]);
    cluster.server.remove('prod', name, 'events');
    const again = await client.recordEvent(later, name);
    expect(again).toMatchObject({ kind: 'recorded' });
    expect(again).not.toEqual({ kind: 'recorded', name });
    expect(cluster.server.objects('events')).toHaveLength(1);
  });

  it('of an object with a very long name has a name that fits', async () => {
    const long = { ...llama, name: 'l'.repeat(253) };
    await client.recordEvent(event({ target: long }), null);
    expect(String(cluster.server.objects('events')[0]!.metadata.name).length).toBeLessThanOrEqual(253);
  });
});
