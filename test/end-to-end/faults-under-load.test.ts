import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { ChannelCredentials, type Client, loadPackageDefinition, status } from '@grpc/grpc-js';
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

if (redisMissing !== null) console.log(`faults-under-load: ${redisMissing}`);

const model = 'deepseek-coder-7b';
const now = new Date();
const serving = certificateAuthority(now, 'serving');
const frontProxies = certificateAuthority(now, 'front proxies');
const frontProxy = frontProxies.issue('front-proxy-client');
const proto = loadSync('samples/keda/external-scaler.proto', { longs: Number, defaults: true });
type Scaler = Client & {
  GetMetrics(asked: unknown, done: (error: (Error & { code?: number }) | null, answer: unknown) => void): void;
};

/** What one reader was told: the number, or why there was none. */
type Told = number | { readonly refused: string };
type Reader = () => Promise<Told>;

/**
 * One service whose three faces are asked all the time, as many autoscalers do, while its certificates change and while it
 * is told to stop.
 */
describe.skipIf(redisMissing !== null)('gpumix serve under load', () => {
  let redis: RedisServer;
  let store: SharedStore;
  let cluster: FakeCluster;
  let folder = '';
  let service: ChildProcess;
  let [port, scalerPort, metricsPort] = [0, 0, 0];
  let output = '';
  const closings: (() => void)[] = [];

  beforeAll(async () => {
    redis = await startRedisServer();
    store = createRedisStore(parseRedisUrl(redis.url, 'test'), { now: () => Date.now() });
    cluster = await startFakeCluster();
    cluster.server.fault = ({ path }) => {
      const answer = (body: object) => ({ kind: 'answer', status: 200, body: JSON.stringify(body) }) as const;
      if (path.endsWith('/configmaps/extension-apiserver-authentication')) {
        const data = {
          'requestheader-client-ca-file': frontProxies.certificate,
          'requestheader-allowed-names': '["front-proxy-client"]',
        };
        return answer({ kind: 'ConfigMap', data });
      }
      if (!path.endsWith('/apiservices/v1beta1.external.metrics.k8s.io')) return undefined;
      const service = { namespace: 'gpumix', name: 'gpumix-external-metrics' };
      return answer({ kind: 'APIService', spec: { service } });
    };
    await cluster.write.create(manifest({ name: 'coder-l20', model, replicas: 4 }));
    await store.writeProfile({ model, deployment: 'coder-l20' }, profileText({ rps: 2, cost: 1.5 }));
    await writeTraces();
    folder = await mkdtemp(join(tmpdir(), 'gpumix-load-'));
    await writeSecret('first');
    for (const file of ['tls.crt', 'tls.key']) await symlink(join('data', file), join(folder, file));
    [port, scalerPort, metricsPort] = [await freePort(), await freePort(), await freePort()];
    await writeFile(
      join(folder, 'gpumix.yaml'),
      `server: { port: ${port} }
redis: { url: ${redis.url} }
keda: { scaler: { port: ${scalerPort}, certFile: tls.crt, keyFile: tls.key } }
externalMetrics: { port: ${metricsPort}, certFile: tls.crt, keyFile: tls.key, serviceNamespace: gpumix }
`,
    );
    service = spawn(process.execPath, ['dist/cli/main.js', 'serve', '--config', join(folder, 'gpumix.yaml')], {
      env: childEnvironment({ KUBECONFIG: cluster.kubeconfig }),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [service.stdout, service.stderr]) {
      stream?.on('data', (chunk) => {
        output += chunk;
      });
    }
    await vi.waitFor(async () => expect(await overHttp('/api/v1/replicas/default/coder-l20')(), output).toBe(5), {
      timeout: 50_000,
      interval: 100,
    });
  });

  afterAll(async () => {
    for (const close of closings) close();
    if (service !== undefined && service.exitCode === null) {
      service.kill('SIGKILL');
      await new Promise((resolve) => service.once('close', resolve));
    }
    await store?.close();
    await cluster?.stop();
    await redis?.stop();
    if (folder !== '') await rm(folder, { recursive: true });
  });

  /** 9 requests/s for the last minutes and the next: 5 replicas at 2 a replica, whatever the test takes. */
  async function writeTraces(): Promise<void> {
    const newest = Math.floor(Date.now() / 10_000) * 10 + 120;
    const text = formatTraceRecord({
      intervalSeconds: 10,
      arrivals: 90,
      pending: 2,
      queueing: 0,
      unknownLength: 0,
      buckets: [{ inputTokens: 512, outputTokens: 128, count: 90 }],
    });
    await store.writeTraces(Array.from({ length: 36 }, (_, i) => ({ model, endSeconds: newest - 10 * i, text })));
  }

  /** As the kubelet does it: a folder of its own, and a link that is swapped. */
  async function writeSecret(name: string): Promise<void> {
    const { certificate, key } = serving.issue(name);
    await writeSecretFiles(name, certificate, key);
  }

  async function writeSecretFiles(name: string, certificate: string, key: string): Promise<void> {
    const target = await mkdtemp(join(folder, `${name}-`));
    await writeFile(join(target, 'tls.crt'), certificate);
    await writeFile(join(target, 'tls.key'), key);
    await symlink(target, join(folder, `link-${name}`));
    await rename(join(folder, `link-${name}`), join(folder, 'data'));
  }

  const refusal = (error: unknown): Told => {
    const { code, cause } = error as { code?: string; cause?: { code?: string } };
    return { refused: String(code ?? cause?.code ?? error) };
  };

  const overHttp =
    (path: string): Reader =>
    async () => {
      try {
        const answer = await fetch(`http://127.0.0.1:${port}${path}`);
        const text = await answer.text();
        if (answer.status !== 200) return { refused: `HTTP ${answer.status}` };
        if (path.startsWith('/api')) return (JSON.parse(text) as { replicas: number }).replicas;
        return (Number(/ (\S+)\n$/.exec(text)?.[1]) + 50) / 100;
      } catch (error) {
        return refusal(error);
      }
    };

  /** The HPA, over connections that are kept or not. */
  function overExternalMetrics(keepAlive: boolean): Reader {
    const { certificate: cert, key } = frontProxy;
    const agent = new Agent({ keepAlive, ca: serving.certificate, cert, key });
    const headers = { 'X-Remote-User': 'system:serviceaccount:kube-system:horizontal-pod-autoscaler' };
    closings.push(() => agent.destroy());
    const path = '/apis/external.metrics.k8s.io/v1beta1/namespaces/default/gpumix_desired_replicas';
    return () =>
      new Promise((resolve) => {
        const outgoing = request({ host: '127.0.0.1', port: metricsPort, path, agent, headers }, (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
          });
          response.on('error', (error) => resolve(refusal(error)));
          response.on('end', () => {
            if (response.statusCode !== 200) return resolve({ refused: `HTTP ${response.statusCode}` });
            resolve(Number((JSON.parse(text) as { items: { value: string }[] }).items[0]?.value ?? Number.NaN));
          });
        });
        outgoing.on('error', (error) => resolve(refusal(error))).end();
      });
  }

  function overGrpc(): Reader {
    const { ExternalScaler } = loadPackageDefinition(proto).externalscaler as unknown as {
      ExternalScaler: new (address: string, credentials: ChannelCredentials, options: object) => Scaler;
    };
    const credentials = ChannelCredentials.createSsl(Buffer.from(serving.certificate));
    // Channels of one address and options are one connection otherwise.
    const client = new ExternalScaler(`127.0.0.1:${scalerPort}`, credentials, { 'grpc.use_local_subchannel_pool': 1 });
    closings.push(() => client.close());
    const asked = {
      scaledObjectRef: { name: 'coder-l20', namespace: 'default' },
      metricName: 'gpumix-desired-replicas',
    };
    return () =>
      new Promise((resolve) => {
        client.GetMetrics(asked, (error, answer) => {
          if (error !== null) return resolve({ refused: `gRPC ${status[error.code ?? 2]}` });
          const [value] = (answer as { metricValues: { metricValue: number; metricValueFloat: number }[] })
            .metricValues;
          resolve(value === undefined || value.metricValue !== value.metricValueFloat ? Number.NaN : value.metricValue);
        });
      });
  }

  /** Asks all the time, each reader as soon as it was answered, until it is stopped. */
  function load(readers: readonly Reader[]) {
    const told: Told[] = [];
    let isOn = true;
    const ends = readers.map(async (read) => {
      while (isOn) {
        const answer = await read();
        told.push(answer);
        // Nobody hammers a port that is closed.
        if (typeof answer !== 'number') await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
    return {
      told,
      stop: async () => {
        isOn = false;
        await Promise.all(ends);
        return told;
      },
    };
  }

  const everyFace = () => [
    ...Array.from({ length: 4 }, () => overHttp('/api/v1/replicas/default/coder-l20')),
    ...Array.from({ length: 4 }, () => overHttp('/metrics/default/coder-l20')),
    ...Array.from({ length: 4 }, (_, i) => overExternalMetrics(i % 2 === 0)),
    ...Array.from({ length: 4 }, () => overGrpc()),
  ];

  /** Whose certificate a new connection is shown. */
  const shownBy = (at: number) =>
    new Promise<string>((resolve, reject) => {
      const options = { host: 'localhost', port: at, ca: serving.certificate, ALPNProtocols: ['h2', 'http/1.1'] };
      const socket = connect(options, () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
      socket.on('error', reject);
    });
  const shown = async () => [await shownBy(metricsPort), await shownBy(scalerPort)];
  const soon = { timeout: 40_000, interval: 200 };

  it('shows a certificate that was renewed to new connections, and no reader notices; a broken one is not taken', async () => {
    const { told, stop } = load(everyFace());
    expect(await shown()).toEqual(['first', 'first']);
    const broken = serving.issue('broken');
    // Written half: the certificate is there, its key is not whole.
    await writeSecretFiles('broken', broken.certificate, broken.key.slice(0, 100));
    await vi.waitFor(() => expect(output.match(/the certificate from before stays in use/g)).toHaveLength(2), soon);
    expect(await shown()).toEqual(['first', 'first']);
    await writeSecret('second');
    await vi.waitFor(async () => expect(await shown()).toEqual(['second', 'second']), soon);
    const before = told.length;
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(before + 100), soon);
    expect(new Set((await stop()).map((each) => JSON.stringify(each)))).toEqual(new Set(['5']));
    expect(output).not.toContain(broken.key.split('\n')[1]!.slice(0, 30));
  });

  it('ends on SIGTERM with 0: who is answered is told the number, who is not is refused, and nobody is told another', async () => {
    const { told, stop } = load(everyFace());
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(200), soon);
    const ended = new Promise((resolve) => service.once('close', resolve));
    service.kill('SIGTERM');
    expect(await ended).toBe(0);
    const all = await stop();
    expect(new Set(all.filter((each) => typeof each === 'number'))).toEqual(new Set([5]));
    const refusals = new Set(all.flatMap((each) => (typeof each === 'number' ? [] : [each.refused])));
    // Closed ports, connections that were idle as the service closed them, and answers that say so.
    for (const refused of refusals) {
      expect(refused).toMatch(/^(ECONNREFUSED|ECONNRESET|UND_ERR_SOCKET|EPIPE|HTTP 503|gRPC UNAVAILABLE)$/);
    }
    expect(refusals).toContain('ECONNREFUSED');
    expect(output).toContain('"msg":"stopped"');
    expect(output).not.toContain('the remaining connections are cut');
    expect(output).not.toContain('could not stop cleanly');
  });
});
