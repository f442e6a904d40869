import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChannelCredentials, type Client, type ClientReadableStream, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore } from '../../src/adapters/redis-store.js';
import type { SharedStore } from '../../src/core/ports.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { childEnvironment } from '../support/child-environment.js';
import { profileText } from '../support/controller-world.js';
import { freePort, type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';
import { certificateAuthority } from '../support/self-signed.js';
import { type FakeCluster, manifest, startFakeCluster } from '../support/test-cluster.js';

if (redisMissing !== null) console.log(`consumers: ${redisMissing}`);

const model = 'deepseek-coder-7b';
const now = new Date();
const serving = certificateAuthority(now, 'serving');
const frontProxies = certificateAuthority(now, 'front proxies');
const frontProxy = frontProxies.issue('front-proxy-client');
const proto = loadSync('samples/keda/external-scaler.proto', { longs: Number, defaults: true });
type Unary = (request: unknown, done: (error: Error | null, answer: unknown) => void) => void;
type Scaler = Client & {
  GetMetrics: Unary;
  IsActive: Unary;
  StreamIsActive(request: unknown): ClientReadableStream<unknown>;
};

/** One service with every face switched on, as processes of a cluster reach it, and what each of its readers is told. */
describe.skipIf(redisMissing !== null)('gpumix serve and who reads it', () => {
  let redis: RedisServer;
  let store: SharedStore;
  let cluster: FakeCluster;
  let folder = '';
  let service: ChildProcess;
  let scaler: Scaler;
  let url = '';
  let metricsPort = 0;
  let output = '';

  beforeAll(async () => {
    redis = await startRedisServer();
    store = createRedisStore(parseRedisUrl(redis.url, 'test'), { now: () => Date.now() });
    cluster = await startFakeCluster();
    cluster.server.fault = ({ path }) => ownDocument(path);
    await cluster.write.create(manifest({ name: 'coder-l20', model, replicas: 4 }));
    await cluster.write.create(manifest({ namespace: 'team-b', name: 'other-l20', model: 'no-traffic', replicas: 5 }));
    await store.writeProfile({ model, deployment: 'coder-l20' }, profileText({ rps: 2, cost: 1.5 }));
    await store.writeProfile({ model: 'no-traffic', deployment: 'other-l20' }, profileText({}));
    await writeTraces();
    folder = await mkdtemp(join(tmpdir(), 'gpumix-consumers-'));
    const { certificate, key } = serving.issue('gpumix-external-metrics.gpumix.svc');
    await writeFile(join(folder, 'tls.crt'), certificate);
    await writeFile(join(folder, 'tls.key'), key);
    const [port, scalerPort] = [await freePort(), await freePort()];
    metricsPort = await freePort();
    await writeFile(
      join(folder, 'gpumix.yaml'),
      `server: { port: ${port} }
redis: { url: ${redis.url} }
keda: { scaler: { port: ${scalerPort} } }
externalMetrics: { port: ${metricsPort}, certFile: tls.crt, keyFile: tls.key, serviceNamespace: gpumix }
`,
    );
    url = `http://127.0.0.1:${port}`;
    service = spawn(process.execPath, ['dist/cli/main.js', 'serve', '--config', join(folder, 'gpumix.yaml')], {
      env: childEnvironment({ KUBECONFIG: cluster.kubeconfig }),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [service.stdout, service.stderr]) {
      stream?.on('data', (chunk) => {
        output += chunk;
      });
    }
    const { ExternalScaler } = loadPackageDefinition(proto).externalscaler as unknown as {
      ExternalScaler: new (address: string, credentials: ChannelCredentials) => Scaler;
    };
    scaler = new ExternalScaler(`127.0.0.1:${scalerPort}`, ChannelCredentials.createInsecure());
    await vi.waitFor(async () => expect((await get('default/coder-l20')).status, output).toBe(200), {
      timeout: 50_000,
      interval: 100,
    });
  });

  afterAll(async () => {
    scaler?.close();
    if (service !== undefined && service.exitCode === null) {
      service.kill('SIGKILL');
      await new Promise((resolve) => service.once('close', resolve));
    }
    await store?.close();
    await cluster?.stop();
    await redis?.stop();
    if (folder !== '') await rm(folder, { recursive: true });
  });

  /** What a cluster keeps for aggregated API servers; undefined = the fake API server answers by itself. */
  function ownDocument(path: string) {
    const answer = (body: object) => ({ kind: 'answer', status: 200, body: JSON.stringify(body) }) as const;
    if (path.endsWith('/configmaps/extension-apiserver-authentication')) {
      const data = {
        'requestheader-client-ca-file': frontProxies.certificate,
        'requestheader-allowed-names': '["front-proxy-client"]',
      };
      return answer({ kind: 'ConfigMap', data });
    }
    if (path.endsWith('/apiservices/v1beta1.external.metrics.k8s.io')) {
      return answer({
        kind: 'APIService',
        spec: { service: { namespace: 'gpumix', name: 'gpumix-external-metrics' } },
      });
    }
    return undefined;
  }

  /** 9 requests/s for the last minutes: 5 replicas at 2 a replica. */
  async function writeTraces(): Promise<void> {
    const newest = Math.floor(Date.now() / 10_000) * 10;
    const text = formatTraceRecord({
      intervalSeconds: 10,
      arrivals: 90,
      pending: 2,
      queueing: 0,
      unknownLength: 0,
      buckets: [{ inputTokens: 512, outputTokens: 128, count: 90 }],
    });
    await store.writeTraces(Array.from({ length: 24 }, (_, i) => ({ model, endSeconds: newest - 10 * i, text })));
  }

  const get = (id: string) => fetch(`${url}/api/v1/replicas/${id}`);

  function ask(method: 'GetMetrics' | 'IsActive', asked: unknown): Promise<unknown> {
    return new Promise((resolve) => {
      scaler[method](asked, (error, answer) => resolve(error === null ? answer : error.message));
    });
  }

  /** As the cluster's API server asks for a user. */
  function external(path: string): Promise<{ readonly status: number; readonly body: unknown }> {
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          host: '127.0.0.1',
          port: metricsPort,
          path: `/apis/external.metrics.k8s.io/v1beta1/namespaces/${path}`,
          agent: false,
          ca: serving.certificate,
          cert: frontProxy.certificate,
          key: frontProxy.key,
          headers: { 'X-Remote-User': 'system:serviceaccount:kube-system:horizontal-pod-autoscaler' },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
        },
      );
      outgoing.on('error', reject).end();
    });
  }

  it('tells all of them the same replicas, each in its unit', async () => {
    expect(await (await get('default/coder-l20')).json()).toMatchObject({ replicas: 5, status: 'optimal' });
    const scaledObjectRef = { name: 'coder-l20', namespace: 'default' };
    expect(await ask('GetMetrics', { scaledObjectRef, metricName: 'gpumix-desired-replicas' })).toEqual({
      metricValues: [{ metricName: 'gpumix-desired-replicas', metricValue: 5, metricValueFloat: 5 }],
    });
    expect(await ask('IsActive', scaledObjectRef)).toEqual({ result: true });
    const bySelector = await external('default/gpumix_desired_replicas?labelSelector=deployment%3Dcoder-l20');
    expect(bySelector).toMatchObject({ status: 200, body: { items: [{ value: '5' }] } });
    expect(await external('default/gpumix-aibrix-coder-l20')).toMatchObject({ body: { items: [{ value: '4500m' }] } });
    expect(await (await fetch(`${url}/metrics/default/coder-l20`)).text()).toMatch(/} 450\n$/);
  });

  it('tells none of them 0 where the number is not known', async () => {
    const scaledObjectRef = { name: 'other-l20', namespace: 'team-b' };
    expect((await get('team-b/other-l20')).status).toBe(503);
    expect(await ask('GetMetrics', { scaledObjectRef })).toMatch(/^14 UNAVAILABLE: .*no recent request traces/);
    expect(await ask('IsActive', scaledObjectRef)).toMatch(/^14 UNAVAILABLE/);
    for (const metric of ['gpumix_desired_replicas', 'gpumix-aibrix-other-l20']) {
      expect(await external(`team-b/${metric}`)).toMatchObject({
        status: 503,
        body: { message: expect.stringContaining('no recent request traces') },
      });
    }
    expect((await fetch(`${url}/metrics/team-b/other-l20`)).status).toBe(503);
  });

  it('ends on SIGTERM with 0, and the streams of KEDA with it', async () => {
    const stream = scaler.StreamIsActive({ name: 'coder-l20', namespace: 'default' });
    const told = await new Promise((resolve) => stream.once('data', resolve));
    expect(told).toEqual({ result: true });
    const streamEnd = new Promise<Error>((resolve) => stream.once('error', resolve));
    const ended = new Promise((resolve) => service.once('close', resolve));
    service.kill('SIGTERM');
    expect((await streamEnd).message).toBe('14 UNAVAILABLE: gpumix is stopping');
    expect(await ended).toBe(0);
  });
});
