import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ApiClient, connectToCluster } from '../../../src/adapters/kubernetes/api-client.js';
import { listOnce } from '../../../src/adapters/kubernetes/list-once.js';
import { type FakeCluster, manifest, startFakeCluster } from '../../support/test-cluster.js';

let cluster: FakeCluster;
let api: ApiClient;
beforeAll(async () => {
  cluster = await startFakeCluster();
  for (let i = 0; i < 600; i++) cluster.server.put(manifest({ name: `d-${i}` }));
  api = await connectToCluster({ kubeconfig: cluster.kubeconfig });
});
afterAll(() => cluster?.stop());

async function listed(mostObjects: number, listKind = 'DeploymentList') {
  const names = new Set<unknown>();
  const { complete } = await listOnce({
    api,
    path: '/apis/apps/v1/deployments',
    listKind,
    mostObjects,
    answerTimeoutMs: 5000,
    signal: new AbortController().signal,
    each: (object) => names.add((object as { readonly metadata: { readonly name: string } }).metadata.name),
  });
  return { count: names.size, complete };
}

it('reads all pages once', async () => {
  expect(await listed(1000)).toEqual({ count: 600, complete: true });
  expect(await listed(600)).toEqual({ count: 600, complete: true });
});

it('ends where it has read as many as it may, and says that there are more', async () => {
  cluster.server.requests.length = 0;
  expect(await listed(300)).toEqual({ count: 300, complete: false });
  expect(cluster.server.requests).toHaveLength(2);
});

it('refuses what is no list of the kind', async () => {
  await expect(listed(10, 'PodList')).rejects.toThrow('expected a PodList');
});

it('is told the time of the server, also where it may do nothing', async () => {
  cluster.server.fault = () => ({ kind: 'answer', status: 403 });
  const shown = await api.serverTime({ answerTimeoutMs: 5000, signal: new AbortController().signal });
  cluster.server.fault = () => undefined;
  expect(shown! % 1000).toBe(0);
});
