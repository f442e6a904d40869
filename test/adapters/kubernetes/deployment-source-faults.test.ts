import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClusterAccess } from '../../../src/adapters/kubernetes/api-client.js';
import type { KubernetesDeploymentsOptions } from '../../../src/adapters/kubernetes/deployment-source.js';
import type { Fault, OpenWatch, SeenRequest } from '../../support/fake-api-server.js';
import { type FollowedDeployments, followDeployments } from '../../support/followed-deployments.js';
import { seededRandom } from '../../support/seeded-random.js';
import { selfSignedCertificate } from '../../support/self-signed.js';
import { type FakeCluster, kubeconfigText, manifest, startFakeCluster } from '../../support/test-cluster.js';

let cluster: FakeCluster;
let running: FollowedDeployments[] = [];

beforeEach(async () => {
  cluster = await startFakeCluster();
});
afterEach(async () => {
  await Promise.all(running.map(({ source }) => source.stop()));
  running = [];
  await cluster.stop();
});

async function follow(
  options: Partial<KubernetesDeploymentsOptions> = {},
  access: ClusterAccess = { kubeconfig: cluster.kubeconfig },
): Promise<FollowedDeployments> {
  const followed = await followDeployments(access, options);
  running.push(followed);
  return followed;
}

/** Follows, and waits until the first watch is open. */
async function following(
  options: Partial<KubernetesDeploymentsOptions> = {},
): Promise<{ readonly followed: FollowedDeployments; readonly watch: OpenWatch }> {
  const followed = await follow(options);
  return { followed, watch: await cluster.server.openWatch() };
}

function put(name: string, replicas = 1, model = 'llama2-7b') {
  return cluster.server.put(manifest({ name, replicas, model }));
}

const lists = () => cluster.server.requests.filter(({ kind }) => kind === 'list');
const watches = () => cluster.server.requests.filter(({ kind }) => kind === 'watch');
const ofKind = (kind: SeenRequest['kind']) => (request: SeenRequest) => request.kind === kind;

/** The fault for the next `times` requests of a kind, then none. */
function failNext(kind: SeenRequest['kind'], fault: Fault, times = 1): void {
  let left = times;
  cluster.server.fault = (request) => {
    if (request.kind !== kind || left === 0) return undefined;
    left -= 1;
    return fault;
  };
}

describe('a watch', () => {
  it('begins at the version of the list, asks for bookmarks and a timeout, and carries the selector', async () => {
    put('llama-l20');
    const version = cluster.server.version;
    const { watch } = await following({ timing: { watchSeconds: [240, 480] }, random: () => 0.5 });
    expect(watch.request.query).toEqual({
      watch: '1',
      labelSelector: 'model.aibrix.ai/name',
      allowWatchBookmarks: 'true',
      resourceVersion: String(version),
      timeoutSeconds: '360',
    });
    expect(lists().map(({ query }) => query)).toEqual([{ labelSelector: 'model.aibrix.ai/name', limit: '500' }]);
  });

  it('that the server ends is renewed from the last version seen, without a new list', async () => {
    const { followed, watch } = await following();
    const { metadata } = put('llama-l20');
    await followed.untilDeployment('default/llama-l20');
    const next = cluster.server.nextRequest(ofKind('watch'));
    watch.close();
    expect((await next).query.resourceVersion).toBe(metadata.resourceVersion);
    expect(lists()).toHaveLength(1);
    expect(followed.source.snapshot().staleSince).toBeNull();
  });

  it('goes on from a bookmark, so that a quiet one does not fall out of the history', async () => {
    put('llama-l20');
    const { watch } = await following();
    for (let i = 0; i < 50; i++) cluster.server.advance();
    cluster.server.bookmark();
    // From here on any earlier version is too old.
    cluster.server.compact();
    const renewed = once(cluster.server, 'watch');
    watch.close();
    const [next] = (await renewed) as [OpenWatch];
    expect(next.request.query.resourceVersion).toBe(String(cluster.server.version));
    expect(lists()).toHaveLength(1);
  });

  it.each(['status', 'event'] as const)('too old to go on (410 as %s) is replaced by a new list', async (goneAs) => {
    cluster.server.goneAs = goneAs;
    put('stays-l20');
    put('goes-l20');
    const { followed } = await following();
    await cluster.network.cut();
    cluster.server.remove('default', 'goes-l20');
    put('comes-l20');
    cluster.server.compact();
    await cluster.network.connect();
    await followed.untilDeployment('default/comes-l20');
    expect(followed.source.snapshot().deployments.map(({ name }) => name)).toEqual(['comes-l20', 'stays-l20']);
    await followed.until(({ staleSince }) => staleSince === null);
    expect(lists()).toHaveLength(2);
  });

  it('told in its midst that it is too old is replaced by a new list at once, and nothing was stale', async () => {
    put('llama-l20', 1);
    const { followed, watch } = await following();
    const stale: unknown[] = [];
    followed.source.onChange(() => stale.push(followed.source.snapshot().staleSince));
    // The change is only in the list: the old watch never hears of it.
    cluster.server.watches.clear();
    put('llama-l20', 7);
    watch.event('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version: 1 (2)' });
    await followed.untilDeployment('default/llama-l20', (one) => one.currentReplicas === 7);
    expect(stale.every((since) => since === null)).toBe(true);
  });

  it('told of an error other than 410 is renewed after a wait, and the view is stale until then', async () => {
    put('llama-l20');
    const { followed, watch } = await following();
    const stale = followed.until(({ staleSince }) => staleSince !== null);
    watch.event('ERROR', { kind: 'Status', code: 500, message: 'etcdserver: no leader' });
    expect((await stale).problem).toContain('in the watch: 500 etcdserver: no leader');
    await followed.until(({ staleSince }) => staleSince === null);
    expect(lists()).toHaveLength(1);
  });

  it('broken in the middle of a line gets the event again', async () => {
    put('llama-l20', 1);
    const { followed, watch } = await following();
    cluster.server.watches.clear();
    const changed = put('llama-l20', 5);
    watch.send(JSON.stringify({ type: 'MODIFIED', object: changed }).slice(0, 200));
    watch.reset();
    await followed.untilDeployment('default/llama-l20', (one) => one.currentReplicas === 5);
    expect(lists()).toHaveLength(1);
  });

  it('reads an event that arrives in pieces, in the middle of a character too', async () => {
    const { followed, watch } = await following();
    const object = {
      ...manifest({ name: 'llama-l20', annotations: { note: 'größer — 更大' } }),
    };
    const line = Buffer.from(
      `${JSON.stringify({ type: 'ADDED', object: { ...object, metadata: { ...object.metadata, resourceVersion: '900' } } })}\n`,
    );
    for (const byte of line) watch.response.write(Buffer.from([byte]));
    await followed.untilDeployment('default/llama-l20');
    expect(followed.logged).toEqual([]);
  });

  it.each([
    ['a line that is not JSON', '{"type":"MODIFIED","object":{"metad\n'],
    [
      'an event without a version',
      '{"type":"MODIFIED","object":{"metadata":{"namespace":"default","name":"llama-l20"}}}\n',
    ],
    ['an event without a name', '{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"9999"}}}\n'],
    ['an event of unknown type', '{"type":"PATCHED","object":{"metadata":{"name":"x","resourceVersion":"9999"}}}\n'],
    ['a page of another program', '<html>Sign in</html>\n'],
  ])('with %s is not guessed at: a new list tells what it was', async (_name, text) => {
    put('llama-l20', 1);
    const { followed, watch } = await following();
    cluster.server.watches.clear();
    put('llama-l20', 4);
    watch.send(text);
    await followed.untilDeployment('default/llama-l20', (one) => one.currentReplicas === 4);
    expect(lists()).toHaveLength(2);
  });

  it('that keeps ending right after it began is renewed more and more slowly', async () => {
    const waits: number[] = [];
    const { followed } = await following({
      timing: { steadyMs: 1e9, backoffMs: 4, longestBackoffMs: 16 },
      // Jitter is asked for once per wait; each answer is one.
      random: () => {
        waits.push(1);
        return 0;
      },
    });
    for (let i = 0; i < 6; i++) {
      const next = once(cluster.server, 'watch');
      for (const watch of cluster.server.watches) watch.close();
      await next;
    }
    // 7 watches ask once each for their timeout; the first end is followed at once, the other 5 after a wait.
    expect(waits.length).toBe(7 + 5);
    expect(lists()).toHaveLength(1);
    expect(followed.source.snapshot().staleSince).toBeNull();
  });

  it('tells nobody of changes that do not matter to us', async () => {
    put('llama-l20');
    const { followed } = await following();
    let told = 0;
    followed.source.onChange(() => {
      told += 1;
    });
    for (let i = 0; i < 20; i++) {
      const same = manifest({ name: 'llama-l20', annotations: { 'example.com/heartbeat': String(i) } });
      cluster.server.put(same);
    }
    put('marker-l20');
    await followed.untilDeployment('default/marker-l20');
    expect(told).toBe(1);
  });
});

describe('a list', () => {
  it.each([
    ['500', { kind: 'answer', status: 500 }],
    ['503', { kind: 'answer', status: 503, headers: { 'retry-after': '0' } }],
    ['429', { kind: 'answer', status: 429, headers: { 'retry-after': '0' } }],
    ['a connection reset', { kind: 'reset' }],
    ['a broken body', { kind: 'answer', status: 200, body: '{"kind":"DeploymentList","items":[' }],
    ['a page of another program', { kind: 'answer', status: 200, body: '<html>Sign in</html>' }],
    ['another document', { kind: 'answer', status: 200, body: '{"kind":"Status","status":"Success"}' }],
    [
      'a list without items',
      { kind: 'answer', status: 200, body: '{"kind":"DeploymentList","metadata":{"resourceVersion":"5"}}' },
    ],
  ] as const)('answered with %s is tried again until it works', async (_name, fault) => {
    put('llama-l20');
    failNext('list', fault, 3);
    const followed = await follow();
    const stale = await followed.until(({ problem }) => problem !== null);
    expect(stale).toMatchObject({ synced: false, deployments: [] });
    const { deployments } = await followed.until(({ synced, staleSince }) => synced && staleSince === null);
    expect(deployments).toHaveLength(1);
    expect(lists()).toHaveLength(4);
  });

  it('that fails never empties what is known', async () => {
    put('llama-l20', 3);
    const { followed, watch } = await following();
    const before = followed.source.snapshot().deployments;
    expect(before).toHaveLength(1);
    failNext(
      'list',
      { kind: 'answer', status: 200, body: '{"kind":"List","metadata":{"resourceVersion":"1"},"items":[]}' },
      2,
    );
    cluster.server.watches.clear();
    watch.send('nonsense\n');
    const stale = await followed.until(({ staleSince }) => staleSince !== null);
    expect(stale.deployments).toEqual(before);
    expect(stale.problem).toContain('expected a DeploymentList');
    expect((await followed.until(({ staleSince }) => staleSince === null)).deployments).toEqual(before);
  });

  it.each([
    ['never answered', { kind: 'hang' }, { answerTimeoutMs: 40 }, 'no answer within 0.04 s'],
    ['never finished', { kind: 'stall', status: 200 }, { pageTimeoutMs: 40 }, 'no complete list within 0.04 s'],
    ['refused without an end', { kind: 'stall', status: 500, body: 'oh' }, { answerTimeoutMs: 40 }, '500'],
  ] as const)('that is %s is given up and tried again', async (_name, fault, timing, problem) => {
    put('llama-l20');
    failNext('list', fault, 1);
    const followed = await follow({ timing });
    expect((await followed.until((snapshot) => snapshot.problem !== null)).problem).toContain(problem);
    cluster.server.fault = () => undefined;
    expect((await followed.until(({ synced }) => synced)).deployments).toHaveLength(1);
  });

  it('whose pages expire on the way is fetched whole', async () => {
    for (let i = 0; i < 12; i++) put(`llama-l20-${i}`);
    let pages = 0;
    cluster.server.fault = (request) => {
      if (request.kind === 'list') pages += 1;
      if (request.kind === 'list' && pages === 3) cluster.server.compact();
      return undefined;
    };
    const followed = await follow({ timing: { pageSize: 5 } });
    expect((await followed.until(({ synced }) => synced)).deployments).toHaveLength(12);
    expect(lists().map(({ query }) => query.limit ?? 'all')).toEqual(['5', '5', '5', 'all']);
  });

  it('in pages shows nothing before its last page', async () => {
    for (let i = 0; i < 12; i++) put(`llama-l20-${i}`);
    const sizes: number[] = [];
    const followed = await follow({ timing: { pageSize: 5 } });
    followed.source.onChange(() => sizes.push(followed.source.snapshot().deployments.length));
    await followed.until(({ synced }) => synced);
    expect(sizes).toEqual([12]);
  });

  it('of thousands of deployments comes compressed, and is read', async () => {
    for (let i = 0; i < 3000; i++) put(`llama-l20-${i}`);
    const followed = await follow();
    expect((await followed.until(({ synced }) => synced)).deployments).toHaveLength(3000);
    expect(lists()).toHaveLength(6);
  });

  it('waits as long as the server asks', async () => {
    failNext('list', { kind: 'answer', status: 429, headers: { 'retry-after': '1' } });
    const started = performance.now();
    const followed = await follow();
    await followed.until(({ synced }) => synced);
    // Not a speed: the server's 1 s is a lower bound, a hundred times our own wait.
    expect(performance.now() - started).toBeGreaterThan(990);
  });
});

describe('credentials', () => {
  it('that are refused are said, and read anew where they come from', async () => {
    put('llama-l20');
    const { followed } = await following();
    cluster.server.token = 'rotated';
    const stale = followed.until(({ problem }) => problem !== null);
    for (const watch of cluster.server.watches) watch.close();
    expect((await stale).problem).toMatch(/401 Unauthorized.*\(credentials refused\)/);
    expect((await stale).deployments).toHaveLength(1);
    const server = `http://127.0.0.1:${cluster.network.port}`;
    await writeFile(cluster.kubeconfig, kubeconfigText({ server, token: 'rotated' }));
    await followed.until(({ staleSince }) => staleSince === null);
  });

  it('that are refused while the kubeconfig is gone are still tried, and the reason is said', async () => {
    const { followed } = await following();
    cluster.server.token = 'rotated';
    await rm(cluster.kubeconfig);
    for (const watch of cluster.server.watches) watch.close();
    const stale = await followed.until(({ problem }) => problem !== null);
    expect(stale.problem).toContain('reading the credentials again');
    cluster.server.token = 'test-token';
    await followed.until(({ staleSince }) => staleSince === null);
  });

  it('without the right to list name the right', async () => {
    const body = JSON.stringify({
      kind: 'Status',
      code: 403,
      message:
        'deployments.apps is forbidden: User "system:serviceaccount:gpu:gpumix" cannot list resource "deployments"',
    });
    failNext('list', { kind: 'answer', status: 403, body }, 2);
    const followed = await follow();
    const { problem } = await followed.until((snapshot) => snapshot.problem !== null);
    expect(problem).toContain('403 Forbidden: deployments.apps is forbidden: User "system:serviceaccount:gpu:gpumix"');
    expect(problem).toContain('(needs list and watch on deployments.apps)');
    await followed.until(({ synced, staleSince }) => synced && staleSince === null);
  });

  it('of an exec plug-in are asked for again after a 401', async () => {
    const plugin = join(cluster.folder, 'plugin.mjs');
    const given = join(cluster.folder, 'token');
    await writeFile(given, 'first');
    await writeFile(
      plugin,
      `import { readFileSync } from 'node:fs';
      console.log(JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential',
        status: { token: readFileSync(${JSON.stringify(given)}, 'utf8'), expirationTimestamp: '2999-01-01T00:00:00Z' } }));`,
    );
    const config = JSON.parse(kubeconfigText({ server: cluster.server.url, token: '' })) as { users: unknown };
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: process.execPath, args: [plugin] };
    config.users = [{ name: 'test', user: { exec } }];
    await writeFile(cluster.kubeconfig, JSON.stringify(config));
    cluster.server.token = 'first';
    const followed = await follow();
    await followed.until(({ synced }) => synced);
    await cluster.server.openWatch();
    await writeFile(given, 'second');
    cluster.server.token = 'second';
    const stale = followed.until(({ staleSince }) => staleSince !== null);
    for (const watch of cluster.server.watches) watch.close();
    await stale;
    await followed.until(({ staleSince }) => staleSince === null);
  });

  it('of a service account are those of its files, over TLS with its authority', async () => {
    const pair = selfSignedCertificate(new Date());
    const secure = await startFakeCluster({ tls: { key: pair.key, certificate: pair.certificate }, token: 'mounted' });
    const before = { host: process.env.KUBERNETES_SERVICE_HOST, port: process.env.KUBERNETES_SERVICE_PORT };
    try {
      const folder = join(secure.folder, 'var/run/secrets/kubernetes.io/serviceaccount');
      const { mkdir } = await import('node:fs/promises');
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'token'), 'mounted\n');
      await writeFile(join(folder, 'ca.crt'), pair.certificate);
      process.env.KUBERNETES_SERVICE_HOST = '127.0.0.1';
      process.env.KUBERNETES_SERVICE_PORT = String(secure.server.port);
      secure.server.put(manifest({ name: 'llama-l20' }));
      const followed = await follow({}, { serviceAccountRoot: secure.folder });
      await followed.untilDeployment('default/llama-l20');
      // A projected token is replaced in its file; the old one is refused from then on.
      await writeFile(join(folder, 'token'), 'renewed');
      secure.server.token = 'renewed';
      const watch = await secure.server.openWatch();
      watch.close();
      await followed.until(({ staleSince }) => staleSince !== null);
      await followed.until(({ staleSince }) => staleSince === null);
    } finally {
      setEnvironment('KUBERNETES_SERVICE_HOST', before.host);
      setEnvironment('KUBERNETES_SERVICE_PORT', before.port);
      await Promise.all(running.splice(0).map(({ source }) => source.stop()));
      await secure.stop();
    }
  });

  it('for a server with a certificate of an unknown authority are not sent', async () => {
    const pair = selfSignedCertificate(new Date());
    const secure = await startFakeCluster({ tls: { key: pair.key, certificate: pair.certificate } });
    try {
      await writeFile(cluster.kubeconfig, kubeconfigText({ server: secure.server.url, token: 'secret' }));
      const followed = await follow();
      expect((await followed.until(({ problem }) => problem !== null)).problem).toMatch(/certificate/);
      expect(secure.server.requests).toEqual([]);
    } finally {
      await Promise.all(running.splice(0).map(({ source }) => source.stop()));
      await secure.stop();
    }
  });
});

function setEnvironment(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

describe('a description of the cluster that cannot be used', () => {
  it('is named where the context does not exist, with the nearest', async () => {
    await expect(follow({}, { kubeconfig: cluster.kubeconfig, context: 'tset' })).rejects.toThrow(
      `${cluster.kubeconfig}: context: found "tset", expected a context whose cluster has a server URL (one of test); did you mean "test"?`,
    );
  });

  it('is named where the file does not exist or is no kubeconfig', async () => {
    await expect(follow({}, { kubeconfig: '/nowhere/kubeconfig' })).rejects.toThrow(
      /\/nowhere\/kubeconfig: found ENOENT/,
    );
    await writeFile(cluster.kubeconfig, '{ no: [yaml');
    await expect(follow()).rejects.toThrow('expected a kubeconfig that can be read');
    await writeFile(cluster.kubeconfig, 'kind: Config');
    await expect(follow()).rejects.toThrow('current-context: found nothing');
  });

  it('is named where nothing describes one', async () => {
    const before = { config: process.env.KUBECONFIG, home: process.env.HOME };
    try {
      setEnvironment('KUBECONFIG', undefined);
      process.env.HOME = cluster.folder;
      await expect(follow({}, {})).rejects.toThrow('found no kubeconfig and no service account');
      process.env.KUBECONFIG = cluster.kubeconfig;
      const followed = await follow({}, {});
      await followed.until(({ synced }) => synced);
    } finally {
      setEnvironment('KUBECONFIG', before.config);
      setEnvironment('HOME', before.home);
    }
  });

  it('another context than the current one can be chosen', async () => {
    const other = await startFakeCluster({ token: 'other' });
    try {
      other.server.put(manifest({ name: 'elsewhere-l20' }));
      const config = JSON.parse(kubeconfigText({ server: cluster.server.url, token: 'test-token' }));
      config.clusters.push({ name: 'other', cluster: { server: other.server.url } });
      config.users.push({ name: 'other', user: { token: 'other' } });
      config.contexts.push({ name: 'other', context: { cluster: 'other', user: 'other' } });
      await writeFile(cluster.kubeconfig, JSON.stringify(config));
      const followed = await follow({}, { kubeconfig: cluster.kubeconfig, context: 'other' });
      await followed.untilDeployment('default/elsewhere-l20');
    } finally {
      await Promise.all(running.splice(0).map(({ source }) => source.stop()));
      await other.stop();
    }
  });

  it.each(['../secrets', 'a/b', '', 'Default', 'x'.repeat(64)])('is named where a namespace is "%s"', async (name) => {
    await expect(follow({ namespaces: ['default', name] })).rejects.toThrow('Kubernetes: namespaces[1]: found');
  });
});

describe('hostile names', () => {
  it('in labels and object names are only names', async () => {
    const names = [
      '__proto__',
      'constructor',
      'toString',
      'a_request_trace_',
      'm*',
      'm?[x]',
      'a/b:c\n',
      'x'.repeat(253),
    ];
    for (const [index, model] of names.entries()) {
      cluster.server.put(manifest({ name: `hostile-${index}`, model }));
    }
    cluster.server.put(manifest({ name: '__proto__', namespace: '__proto__' }));
    cluster.server.put(manifest({ name: 'empty', model: '' }));
    cluster.server.put(manifest({ name: 'endless', model: 'x'.repeat(10_000) }));
    const followed = await follow();
    const { deployments } = await followed.until(({ synced }) => synced);
    const models = new Map(deployments.map(({ id, model }) => [id, model]));
    names.forEach((model, index) => {
      expect(models.get(`default/hostile-${index}`)).toBe(model);
    });
    expect(models.get('__proto__/__proto__')).toBe('llama2-7b');
    expect(models.has('default/empty')).toBe(false);
    expect(models.has('default/endless')).toBe(false);
    expect(deployments).toHaveLength(names.length + 1);
  });
});

describe('stopping', () => {
  it('ends the open watch and asks for nothing more', async () => {
    const { followed, watch } = await following();
    const closed = once(watch.response, 'close');
    await followed.source.stop();
    await closed;
    const asked = cluster.server.requests.length;
    put('llama-l20');
    await followed.source.stop();
    expect(cluster.server.requests).toHaveLength(asked);
    expect(followed.source.snapshot().problem).toBeNull();
  });

  it('ends a wait after a failure', async () => {
    cluster.server.fault = () => ({ kind: 'answer', status: 500 });
    const followed = await follow({ timing: { backoffMs: 3_600_000, longestBackoffMs: 3_600_000 } });
    await followed.until(({ problem }) => problem !== null);
    await followed.source.stop();
  });

  it('ends a request that is never answered', async () => {
    const asked = cluster.server.nextRequest(ofKind('list'));
    cluster.server.fault = () => ({ kind: 'hang' });
    const followed = await follow();
    await asked;
    await followed.source.stop();
  });
});

describe('the informer', () => {
  it('never dies: after any faults in any order the view is that of the server', async () => {
    const random = seededRandom(20261120);
    const { pick } = random;
    const faults: readonly Fault[] = [
      { kind: 'answer', status: 500 },
      { kind: 'answer', status: 429 },
      { kind: 'answer', status: 410 },
      { kind: 'answer', status: 403 },
      { kind: 'answer', status: 404 },
      { kind: 'answer', status: 302, headers: { location: '/' } },
      { kind: 'answer', status: 200, body: '<html>' },
      { kind: 'answer', status: 200, body: '' },
      { kind: 'reset' },
      { kind: 'hang' },
      { kind: 'stall', status: 200, body: '{"type":"ADDED","obj' },
    ];
    cluster.server.fault = () => (random.chance(0.25) ? pick(faults) : undefined);
    const followed = await follow({
      timing: { pageSize: 5, answerTimeoutMs: 25, pageTimeoutMs: 25, silenceMs: 25, backoffMs: 1, longestBackoffMs: 2 },
    });
    const disturbances: readonly ((watch: OpenWatch) => void)[] = [
      (watch) => watch.close(),
      (watch) => watch.reset(),
      (watch) => watch.send('{"type":'),
      (watch) => watch.send('garbage\n'),
      (watch) => watch.event('ERROR', { kind: 'Status', code: 410 }),
      (watch) => watch.event('ERROR', { kind: 'Status', code: 500 }),
      (watch) => watch.event('ERROR', null),
      (watch) => watch.event('BOOKMARK', {}),
    ];
    for (let round = 0; round < 400; round++) {
      const name = `llama-l20-${random.whole(0, 11)}`;
      const action = random.next();
      if (action < 0.5) put(name, random.whole(0, 19), pick(['a', 'b']));
      else if (action < 0.7) cluster.server.remove('default', name);
      else if (action < 0.75) cluster.server.compact();
      else if (action < 0.8) cluster.server.bookmark();
      else if (action < 0.85) cluster.network.reset();
      else if (action < 0.88) cluster.network.silence();
      else for (const watch of [...cluster.server.watches]) if (random.chance(0.7)) pick(disturbances)(watch);
      if (round % 4 === 0) await cluster.server.openWatch();
      if (round % 10 === 5) await cluster.server.nextRequest(() => true);
    }
    cluster.server.fault = () => undefined;
    put('last-l20');
    await followed.untilDeployment('default/last-l20');
    const seen = await followed.until(({ staleSince }) => staleSince === null);
    const asServed = await followed.until(({ deployments }) => deployments.length === served().length);
    expect(asServed.deployments.map(({ id, model, currentReplicas }) => [id, model, currentReplicas])).toEqual(
      served(),
    );
    expect(seen.synced).toBe(true);
    expect(watches().length).toBeGreaterThan(50);
  });
});

/** What a list would answer now: id, model, replicas. */
function served(): readonly (readonly unknown[])[] {
  return cluster.server
    .objects()
    .map(({ metadata, spec }) => [
      `${metadata.namespace}/${metadata.name}`,
      metadata.labels?.['model.aibrix.ai/name'],
      (spec as { readonly replicas: number }).replicas,
    ])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
}
