import { rm, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ApiCall,
  type ApiClient,
  ApiError,
  connectToCluster,
} from '../../../src/adapters/kubernetes/api-client.js';
import { customResources } from '../../support/fake-api-resources.js';
import { type FakeCluster, kubeconfigText, manifest, startFakeCluster } from '../../support/test-cluster.js';

let cluster: FakeCluster;
let api: ApiClient;

beforeEach(async () => {
  cluster = await startFakeCluster();
  api = await connectToCluster({ kubeconfig: cluster.kubeconfig });
});
afterEach(() => cluster.stop());

const deployment = '/apis/apps/v1/namespaces/default/deployments/llama-l20';

function send(call: Partial<ApiCall> & Pick<ApiCall, 'path'>): Promise<unknown> {
  return api.send({
    method: 'GET',
    query: {},
    body: null,
    contentType: null,
    answerTimeoutMs: 5_000,
    signal: new AbortController().signal,
    ...call,
  });
}

const merge = { method: 'PATCH', contentType: 'application/merge-patch+json' } as const;
const apply = (fieldManager: string, more: Readonly<Record<string, string>> = {}) =>
  ({ method: 'PATCH', contentType: 'application/apply-patch+yaml', query: { fieldManager, ...more } }) as const;

async function refusal(promise: Promise<unknown>): Promise<ApiError> {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

describe('a write', () => {
  it('of the scale changes the replicas and nothing else, and is the field manager’s from then on', async () => {
    const before = cluster.server.put(manifest({ name: 'llama-l20', replicas: 2 }));
    const answer = await send({
      ...merge,
      path: `${deployment}/scale`,
      query: { fieldManager: 'gpumix' },
      body: { spec: { replicas: 5 } },
    });
    expect(answer).toMatchObject({ kind: 'Scale', spec: { replicas: 5 }, status: { selector: 'app=llama-l20' } });
    const [after] = cluster.server.objects();
    expect(after).toEqual({
      ...before,
      metadata: { ...before.metadata, generation: 2, resourceVersion: after!.metadata.resourceVersion },
      spec: { ...(before.spec as object), replicas: 5 },
    });
    expect(cluster.server.managersOf('deployments', 'default/llama-l20', 'spec.replicas')).toEqual(['gpumix']);
    expect(cluster.server.requests.at(-1)).toMatchObject({
      kind: 'write',
      resource: 'deployments',
      contentType: 'application/merge-patch+json',
      body: { spec: { replicas: 5 } },
    });
  });

  it('that is a dry run answers what would be, and changes nothing', async () => {
    cluster.server.put(manifest({ name: 'llama-l20', replicas: 2 }));
    const version = cluster.server.version;
    const query = { dryRun: 'All' };
    const answer = await send({ ...merge, path: `${deployment}/scale`, query, body: { spec: { replicas: 5 } } });
    expect(answer).toMatchObject({ spec: { replicas: 5 } });
    expect(cluster.server.objects()[0]!.spec).toMatchObject({ replicas: 2 });
    expect(cluster.server.version).toBe(version);
  });

  it('of a version that is not the present one is refused as a conflict', async () => {
    const { metadata } = cluster.server.put(manifest({ name: 'llama-l20', replicas: 2 }));
    cluster.server.put(manifest({ name: 'llama-l20', replicas: 3 }));
    const body = { metadata: { resourceVersion: metadata.resourceVersion }, spec: { replicas: 5 } };
    const error = await refusal(send({ ...merge, path: `${deployment}/scale`, body }));
    expect(error).toMatchObject({ status: 409, reason: 'Conflict' });
    expect(error.message).toContain('409 Conflict: Operation cannot be fulfilled on deployments.apps "llama-l20"');
  });

  it('of a status leaves the rest alone, and one of the rest its status', async () => {
    cluster.server.put(manifest({ name: 'llama-l20', replicas: 2 }));
    const both = { spec: { replicas: 9 }, status: { readyReplicas: 1 } };
    await send({ ...merge, path: `${deployment}/status`, body: both });
    expect(cluster.server.objects()[0]).toMatchObject({ spec: { replicas: 2 }, status: { readyReplicas: 1 } });
    await send({ ...merge, path: deployment, body: { spec: { replicas: 9 }, status: { readyReplicas: 7 } } });
    expect(cluster.server.objects()[0]).toMatchObject({ spec: { replicas: 9 }, status: { readyReplicas: 1 } });
  });

  it('that applies takes no field of another manager, unless it is forced to', async () => {
    cluster.server.put(manifest({ name: 'llama-l20', replicas: 2 }));
    await send({ ...merge, path: deployment, query: { fieldManager: 'keda' }, body: { spec: { replicas: 3 } } });
    const body = { apiVersion: 'apps/v1', kind: 'Deployment', spec: { replicas: 5 } };
    const error = await refusal(send({ ...apply('gpumix'), path: deployment, body }));
    expect(error.message).toContain('Apply failed with 1 conflict: conflict with "keda" using apps/v1: .spec.replicas');
    await send({ ...apply('gpumix', { force: 'true' }), path: deployment, body });
    expect(cluster.server.objects()[0]!.spec).toMatchObject({ replicas: 5 });
    // The same value from both is no conflict: both own it.
    await send({ ...apply('keda'), path: deployment, body });
    expect(cluster.server.managersOf('deployments', 'default/llama-l20', 'spec.replicas')).toEqual(['gpumix', 'keda']);
  });

  it('that applies removes what it applied before and sends no more', async () => {
    const path = '/api/v1/namespaces/default/configmaps/dashboards';
    const map = { apiVersion: 'v1', kind: 'ConfigMap' };
    await send({ ...apply('gpumix'), path, body: { ...map, data: { a: '1', b: '2' } } });
    await send({ ...apply('gpumix'), path, body: { ...map, data: { b: '2' } } });
    expect(cluster.server.objects('configmaps')).toMatchObject([{ data: { b: '2' } }]);
    expect((cluster.server.objects('configmaps')[0] as { data?: object }).data).toEqual({ b: '2' });
  });

  it('of a new object is refused where its name is taken', async () => {
    const path = '/apis/coordination.k8s.io/v1/namespaces/gpu/leases';
    const body = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'gpumix' } };
    await send({ method: 'POST', path, body });
    expect(await refusal(send({ method: 'POST', path, body }))).toMatchObject({ status: 409, reason: 'AlreadyExists' });
    expect(await refusal(send({ method: 'PUT', path: `${path}/gpumix`, body }))).toMatchObject({ status: 422 });
    await send({ method: 'DELETE', path: `${path}/gpumix` });
    expect(await refusal(send({ path: `${path}/gpumix` }))).toMatchObject({ status: 404, reason: 'NotFound' });
  });

  it('of an Event is kept under a name of the server, and a review is answered as the test says', async () => {
    const event = { apiVersion: 'v1', kind: 'Event', metadata: { generateName: 'llama.' }, reason: 'Scaled' };
    await send({ method: 'POST', path: '/api/v1/namespaces/default/events', body: event });
    expect(cluster.server.objects('events')).toMatchObject([{ reason: 'Scaled' }]);
    const path = '/apis/authentication.k8s.io/v1/tokenreviews';
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token: 'x' } };
    expect(await send({ method: 'POST', path, body: review })).toMatchObject({ status: { authenticated: false } });
    cluster.server.replies.set('tokenreviews', (body) => ({
      body: { ...body, status: { authenticated: (body.spec as { token: string }).token === 'x' } },
    }));
    expect(await send({ method: 'POST', path, body: review })).toMatchObject({ status: { authenticated: true } });
  });
});

describe('a cluster', () => {
  it('does not know a custom resource before it is installed, nor after it is removed', async () => {
    const path = '/apis/keda.sh/v1alpha1';
    expect((await refusal(send({ path }))).status).toBe(404);
    cluster.server.serve(customResources.scaledObjects);
    expect(await send({ path })).toMatchObject({ groupVersion: 'keda.sh/v1alpha1' });
    expect(await send({ path: `${path}/scaledobjects` })).toMatchObject({ kind: 'ScaledObjectList', items: [] });
    cluster.server.unserve(customResources.scaledObjects);
    expect((await refusal(send({ path: `${path}/scaledobjects` }))).status).toBe(404);
  });

  it('selects by fields that it knows, and refuses those that it does not', async () => {
    const pod = (name: string, phase: string) =>
      cluster.server.put({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace: 'default', name },
        spec: { nodeName: 'gpu-1' },
        status: { phase },
      });
    pod('runs', 'Running');
    pod('done', 'Succeeded');
    const query = { fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed' };
    const list = (await send({ path: '/api/v1/pods', query })) as { items: { metadata: { name: string } }[] };
    expect(list.items.map(({ metadata }) => metadata.name)).toEqual(['runs']);
    const unknown = send({ path: '/api/v1/pods', query: { fieldSelector: 'spec.image=x' } });
    expect((await refusal(unknown)).message).toContain('field label not supported: spec.image');
  });
});

describe('a kubeconfig', () => {
  const secret = 'eyJ-secret';

  it.each([
    ['indented wrongly', `users:\n- name: a\n  user:\n    token: ${secret}\n   client-key-data: x\n`],
    ['with an open quote', `users: [{ user: { token: ${secret}, client-key-data: "x } }]\n`],
    ['with a key twice', `user: { token: ${secret}, token: ${secret} }\n`],
    ['with a tab', `users:\n- user:\n\ttoken: ${secret}\n`],
  ])('%s is refused by its line, and no token of it is repeated', async (_name, text) => {
    await writeFile(cluster.kubeconfig, text);
    const error = await connectToCluster({ kubeconfig: cluster.kubeconfig }).catch((thrown: Error) => thrown);
    expect((error as Error).message).toMatch(/found no YAML \(.+, line \d\), expected a kubeconfig that can be read$/);
    expect((error as Error).message).not.toContain(secret);
  });

  it('whose plug-in prints a bare token does not lead to that token in a message', async () => {
    const server = `http://127.0.0.1:${cluster.network.port}`;
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'echo', args: [secret] };
    const config = JSON.parse(kubeconfigText({ server, token: '' }));
    config.users[0].user = { exec };
    await writeFile(cluster.kubeconfig, JSON.stringify(config));
    const client = await connectToCluster({ kubeconfig: cluster.kubeconfig });
    const signal = new AbortController().signal;
    const sent = client.get({ path: deployment, query: {}, answerTimeoutMs: 10_000, signal });
    const error = await sent.catch((thrown: Error) => thrown);
    expect((error as Error).message).toBe('the credentials are not the JSON that is expected of them');
  });
});

describe('a request', () => {
  it('that is refused for its credentials is sent once more with those of now', async () => {
    cluster.server.put(manifest({ name: 'llama-l20' }));
    const server = `http://127.0.0.1:${cluster.network.port}`;
    await writeFile(cluster.kubeconfig, kubeconfigText({ server, token: 'rotated' }));
    cluster.server.token = 'rotated';
    expect(await send({ path: deployment })).toMatchObject({ kind: 'Deployment' });
    cluster.server.token = 'again';
    expect((await refusal(send({ path: deployment }))).status).toBe(401);
    await rm(cluster.kubeconfig);
    await expect(send({ path: deployment })).rejects.toThrow('a kubeconfig that can be read');
  });

  it.each([
    ['never answered', { kind: 'hang' }, 'no answer within 0.04 s'],
    ['never finished', { kind: 'stall', status: 200 }, 'no complete answer within 0.04 s'],
    ['answered by another program', { kind: 'answer', status: 200, body: '<html>' }, 'found a text that is not JSON'],
  ] as const)('that is %s is given up', async (_name, fault, message) => {
    cluster.server.fault = () => fault;
    await expect(send({ path: deployment, answerTimeoutMs: 40 })).rejects.toThrow(message);
  });

  it('that is called off ends at once, and the wait that a busy server asks for is told', async () => {
    cluster.server.fault = () => ({ kind: 'hang' });
    const stop = new AbortController();
    const asked = cluster.server.nextRequest(() => true);
    const hanging = send({ path: deployment, signal: stop.signal });
    hanging.catch(() => {});
    await asked;
    stop.abort();
    await expect(hanging).rejects.toThrow('abort');
    cluster.server.fault = () => ({ kind: 'answer', status: 429, headers: { 'retry-after': '7' } });
    expect(await refusal(send({ path: deployment }))).toMatchObject({ status: 429, retryAfterSeconds: 7 });
  });
});
