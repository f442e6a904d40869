import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { KubernetesDeploymentsOptions } from '../../../src/adapters/kubernetes/deployment-source.js';
import { type FollowedDeployments, followDeployments } from '../../support/followed-deployments.js';
import { kubebuilderAssets, startRealCluster } from '../../support/kube-apiserver.js';
import { selfSignedCertificate } from '../../support/self-signed.js';
import { manifest, startFakeCluster, type TestCluster } from '../../support/test-cluster.js';

// What holds against any API server. Faults that only a fake can be asked for are in deployment-source-faults.test.ts.
const assets = kubebuilderAssets();
if (assets === null) {
  console.info('not tested against a real kube-apiserver: KUBEBUILDER_ASSETS names no folder with it and etcd');
}
const clusters: readonly { readonly name: string; readonly start: (() => Promise<TestCluster>) | null }[] = [
  { name: 'the fake API server', start: () => startFakeCluster() },
  {
    name: 'the fake API server over TLS',
    start: () => startFakeCluster({ tls: tlsOf(selfSignedCertificate(new Date())) }),
  },
  assets === null
    ? { name: 'kube-apiserver', start: null }
    : { name: 'kube-apiserver', start: () => startRealCluster(assets) },
];

function tlsOf(pair: { readonly certificate: string; readonly key: string }) {
  return { key: pair.key, certificate: pair.certificate };
}

for (const { name, start } of clusters) {
  describe.skipIf(start === null)(`deployments of ${name}`, () => {
    let cluster: TestCluster;
    let running: FollowedDeployments[] = [];
    let namespaces = 0;

    beforeAll(async () => {
      cluster = await start!();
    });
    afterEach(async () => {
      await Promise.all(running.map(({ source }) => source.stop()));
      running = [];
    });
    afterAll(async () => {
      await cluster?.stop();
    });

    async function follow(options: Partial<KubernetesDeploymentsOptions> = {}): Promise<FollowedDeployments> {
      const followed = await followDeployments({ kubeconfig: cluster.kubeconfig }, options);
      running.push(followed);
      return followed;
    }

    /** A namespace of the test's own: all tests share one cluster. */
    async function namespace(): Promise<string> {
      namespaces += 1;
      const made = `test-${namespaces}`;
      await cluster.write.namespace(made);
      return made;
    }

    it('are there after the first list, and not before it', async () => {
      const ns = await namespace();
      await cluster.write.create(manifest({ namespace: ns, name: 'llama-l20', replicas: 4 }));
      const followed = await follow({ namespaces: [ns] });
      expect(followed.source.snapshot()).toEqual({ synced: false, staleSince: null, problem: null, deployments: [] });
      const snapshot = await followed.until(({ synced }) => synced);
      expect(snapshot).toMatchObject({ staleSince: null, problem: null });
      expect(snapshot.deployments).toMatchObject([
        { id: `${ns}/llama-l20`, model: 'llama2-7b', gpuType: 'L20', gpusPerReplica: 1, currentReplicas: 4 },
      ]);
    });

    it('are synced where there are none', async () => {
      const followed = await follow({ namespaces: [await namespace()] });
      expect((await followed.until(({ synced }) => synced)).deployments).toEqual([]);
    });

    it('follow creation, scaling, status and deletion', async () => {
      const ns = await namespace();
      const id = `${ns}/llama-l20`;
      const followed = await follow({ namespaces: [ns] });
      await followed.until(({ synced }) => synced);
      await cluster.write.create(manifest({ namespace: ns, name: 'llama-l20', replicas: 2 }));
      expect(await followed.untilDeployment(id)).toMatchObject({
        currentReplicas: 2,
        readyReplicas: 0,
        pendingReplicas: 2,
      });
      await cluster.write.patch(id, { spec: { replicas: 5 } });
      await followed.untilDeployment(id, (one) => one.currentReplicas === 5);
      await cluster.write.patchStatus(id, { replicas: 5, readyReplicas: 3, availableReplicas: 3 });
      const ready = await followed.untilDeployment(id, (one) => one.readyReplicas === 3);
      expect(ready.pendingReplicas).toBe(2);
      await cluster.write.remove(id);
      await followed.untilGone(id);
    });

    it('take over a changed annotation and a changed idle floor', async () => {
      const ns = await namespace();
      const id = `${ns}/llama-l20`;
      await cluster.write.create(manifest({ namespace: ns, name: 'llama-l20' }));
      const followed = await follow({ namespaces: [ns] });
      expect((await followed.untilDeployment(id)).idleMinReplicas).toBeNull();
      await cluster.write.patch(id, {
        metadata: {
          labels: { 'model.aibrix.ai/min_replicas': '3' },
          annotations: { 'gpumix.dev/max-replicas': '7', 'gpumix.dev/gpu-type': 'NVIDIA-L40S' },
        },
      });
      expect(await followed.untilDeployment(id, (one) => one.maxReplicas === 7)).toMatchObject({
        idleMinReplicas: 3,
        gpuType: 'L40S',
      });
    });

    it('move to another model when the label changes', async () => {
      const ns = await namespace();
      const id = `${ns}/engine-l20`;
      await cluster.write.create(manifest({ namespace: ns, name: 'engine-l20', model: 'llama2-7b' }));
      const followed = await follow({ namespaces: [ns] });
      expect((await followed.untilDeployment(id)).model).toBe('llama2-7b');
      await cluster.write.patch(id, { metadata: { labels: { 'model.aibrix.ai/name': 'mistral-7b' } } });
      await followed.untilDeployment(id, (one) => one.model === 'mistral-7b');
      expect(followed.source.snapshot().deployments).toHaveLength(1);
    });

    it('leave when the label is removed and come back with it', async () => {
      const ns = await namespace();
      const id = `${ns}/engine-l20`;
      await cluster.write.create(manifest({ namespace: ns, name: 'engine-l20' }));
      const followed = await follow({ namespaces: [ns] });
      await followed.untilDeployment(id);
      await cluster.write.patch(id, { metadata: { labels: { 'model.aibrix.ai/name': null } } });
      await followed.untilGone(id);
      await cluster.write.patch(id, { metadata: { labels: { 'model.aibrix.ai/name': 'llama2-7b' } } });
      await followed.untilDeployment(id);
    });

    it('without the label are not followed, even where their pods carry it', async () => {
      const ns = await namespace();
      const unlabelled = manifest({ namespace: ns, name: 'engine-l4' });
      await cluster.write.create({ ...unlabelled, metadata: { ...unlabelled.metadata, labels: {} } });
      await cluster.write.create(manifest({ namespace: ns, name: 'engine-l20' }));
      const followed = await follow({ namespaces: [ns] });
      const snapshot = await followed.until(({ synced }) => synced);
      expect(snapshot.deployments.map(({ id }) => id)).toEqual([`${ns}/engine-l20`]);
    });

    it('of one model in two namespaces are both followed, each under its own name', async () => {
      const [first, second, third] = [await namespace(), await namespace(), await namespace()];
      await cluster.write.create(manifest({ namespace: first, name: 'llama-l20', replicas: 1 }));
      await cluster.write.create(manifest({ namespace: second, name: 'llama-l20', replicas: 2 }));
      await cluster.write.create(manifest({ namespace: third, name: 'llama-l20', replicas: 3 }));
      const followed = await follow({ namespaces: [first, second] });
      const snapshot = await followed.until(({ synced }) => synced);
      expect(snapshot.deployments.map(({ id, currentReplicas }) => [id, currentReplicas])).toEqual([
        [`${first}/llama-l20`, 1],
        [`${second}/llama-l20`, 2],
      ]);
      await cluster.write.patch(`${second}/llama-l20`, { spec: { replicas: 9 } });
      await followed.untilDeployment(`${second}/llama-l20`, (one) => one.currentReplicas === 9);
      expect(followed.source.snapshot().deployments[0]).toMatchObject({ currentReplicas: 1 });
    });

    it('of all namespaces are followed where none is named', async () => {
      const [first, second] = [await namespace(), await namespace()];
      await cluster.write.create(manifest({ namespace: first, name: 'llama-l20' }));
      const followed = await follow();
      await followed.untilDeployment(`${first}/llama-l20`);
      await cluster.write.create(manifest({ namespace: second, name: 'llama-l20' }));
      await followed.untilDeployment(`${second}/llama-l20`);
    });

    it('are all listed where they take many pages, and followed after the last', async () => {
      const ns = await namespace();
      for (let i = 0; i < 23; i++) await cluster.write.create(manifest({ namespace: ns, name: `llama-l20-${i}` }));
      const followed = await follow({ namespaces: [ns], timing: { pageSize: 5 } });
      const snapshot = await followed.until(({ synced }) => synced);
      expect(new Set(snapshot.deployments.map(({ id }) => id)).size).toBe(23);
      await cluster.write.remove(`${ns}/llama-l20-7`);
      await followed.untilGone(`${ns}/llama-l20-7`);
      expect(followed.source.snapshot().deployments).toHaveLength(22);
    });

    it('with a bad min_replicas label stay, with a notice, beside the others', async () => {
      const ns = await namespace();
      const labels = { 'model.aibrix.ai/min_replicas': 'three' };
      await cluster.write.create(manifest({ namespace: ns, name: 'bad-l20', labels }));
      await cluster.write.create(manifest({ namespace: ns, name: 'good-l20' }));
      const followed = await follow({ namespaces: [ns] });
      const { deployments } = await followed.until(({ synced }) => synced);
      expect(deployments.map(({ id, idleMinReplicas }) => [id, idleMinReplicas])).toEqual([
        [`${ns}/bad-l20`, null],
        [`${ns}/good-l20`, null],
      ]);
      expect(deployments[0]!.notices).toMatchObject([{ code: 'bad_label' }]);
    });

    it('stay in the view, marked stale, while the API server cannot be reached, and catch up afterwards', async () => {
      const ns = await namespace();
      const [kept, gone, added] = ['kept', 'gone', 'added'].map((one) => `${ns}/${one}-l20`);
      await cluster.write.create(manifest({ namespace: ns, name: 'kept-l20', replicas: 1 }));
      await cluster.write.create(manifest({ namespace: ns, name: 'gone-l20', replicas: 2 }));
      const followed = await follow({ namespaces: [ns] });
      await followed.until(({ synced }) => synced);
      const before = followed.source.snapshot().deployments;
      const staleFrom = followed.clock.at;

      await cluster.network.cut();
      followed.clock.at += 60_000;
      const stale = await followed.until(({ staleSince }) => staleSince !== null);
      expect(stale).toMatchObject({ synced: true, staleSince: staleFrom });
      expect(stale.problem).toMatch(/^GET https?:\/\/127\.0\.0\.1:\d+\/apis\/apps\/v1\/.*ECONNREFUSED/);
      expect(stale.deployments).toEqual(before);

      // A deployment that went while disconnected is dropped, one that came is seen, a change is taken over.
      await cluster.write.remove(gone!);
      await cluster.write.create(manifest({ namespace: ns, name: 'added-l20' }));
      await cluster.write.patch(kept!, { spec: { replicas: 6 } });
      expect(followed.source.snapshot().deployments).toEqual(before);

      await cluster.network.connect();
      await followed.until(({ staleSince }) => staleSince === null);
      await followed.untilGone(gone!);
      await followed.untilDeployment(added!);
      await followed.untilDeployment(kept!, (one) => one.currentReplicas === 6);
      expect(followed.source.snapshot()).toMatchObject({ problem: null, synced: true });
    });

    it('are followed further after a connection reset, which nobody need notice', async () => {
      const ns = await namespace();
      await cluster.write.create(manifest({ namespace: ns, name: 'llama-l20', replicas: 1 }));
      const followed = await follow({ namespaces: [ns] });
      const stale: (number | null)[] = [];
      followed.source.onChange(() => stale.push(followed.source.snapshot().staleSince));
      await followed.until(({ synced }) => synced);
      for (let replicas = 2; replicas <= 6; replicas++) {
        cluster.network.reset();
        await cluster.write.patch(`${ns}/llama-l20`, { spec: { replicas } });
        await followed.untilDeployment(`${ns}/llama-l20`, (one) => one.currentReplicas === replicas);
      }
      expect(stale.filter((since) => since !== null)).toEqual([]);
    });

    it('are followed further after a connection went silent without closing', async () => {
      const ns = await namespace();
      await cluster.write.create(manifest({ namespace: ns, name: 'llama-l20', replicas: 1 }));
      const followed = await follow({ namespaces: [ns], timing: { silenceMs: 150 } });
      await followed.until(({ synced }) => synced);
      cluster.network.silence();
      await cluster.write.patch(`${ns}/llama-l20`, { spec: { replicas: 2 } });
      await followed.untilDeployment(`${ns}/llama-l20`, (one) => one.currentReplicas === 2);
    });

    it('are followed further when the server ends watches at their timeout', async () => {
      const ns = await namespace();
      await cluster.write.create(manifest({ namespace: ns, name: 'llama-l20', replicas: 1 }));
      const followed = await follow({ namespaces: [ns], timing: { watchSeconds: [1, 1] } });
      await followed.until(({ synced }) => synced);
      for (let replicas = 2; replicas <= 4; replicas++) {
        await cluster.network.nextConnection();
        await cluster.write.patch(`${ns}/llama-l20`, { spec: { replicas } });
        await followed.untilDeployment(`${ns}/llama-l20`, (one) => one.currentReplicas === replicas);
      }
      expect(followed.source.snapshot().staleSince).toBeNull();
    });
  });
}
