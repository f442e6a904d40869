import { type ChildProcess, spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore } from '../../src/adapters/redis-store.js';
import type { SharedStore } from '../../src/core/ports.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { childEnvironment } from '../support/child-environment.js';
import { profileText } from '../support/controller-world.js';
import { freePort, type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';
import { type FakeCluster, manifest, startFakeCluster } from '../support/test-cluster.js';

if (redisMissing !== null) console.log(`drop-in: ${redisMissing}`);

const model = 'deepseek-ai/deepseek-coder-7b';

/**
 * The service as it replaces AIBrix's optimizer: no configuration file, only the variables of its manifest; a real
 * Redis with what the gateway and the benchmarks wrote, and an API server that speaks the real protocol.
 */
describe.skipIf(redisMissing !== null)('gpumix serve in the place of another optimizer', () => {
  let redis: RedisServer;
  let store: SharedStore;
  let cluster: FakeCluster;
  let service: ChildProcess;
  let output = '';
  let url = '';

  beforeAll(async () => {
    redis = await startRedisServer({ password: 'of redis' });
    store = createRedisStore(parseRedisUrl(redis.url, 'test'), { now: () => Date.now() });
    cluster = await startFakeCluster();
    const l20 = { podSpec: { nodeSelector: { 'nvidia.com/gpu.product': 'NVIDIA-L20' } } };
    await cluster.write.create(manifest({ name: 'coder-l20', model, replicas: 4, ...l20 }));
    await cluster.write.create(manifest({ name: 'coder-v100', model, replicas: 7 }));
    await cluster.write.create(manifest({ namespace: 'team-b', name: 'other-l20', model: 'no-traffic', replicas: 5 }));
    await store.writeProfile({ model, deployment: 'coder-l20' }, profileText({ rps: 2, cost: 1.5 }));
    await store.writeProfile({ model, deployment: 'coder-v100' }, '{"gpu": "coder-v100", "tputs": [[NaN]]}');
    await store.writeProfile({ model: 'no-traffic', deployment: 'other-l20' }, profileText({}));
    await writeTraces(90);
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    service = spawn(process.execPath, ['dist/cli/main.js', 'serve'], {
      env: childEnvironment({
        KUBECONFIG: cluster.kubeconfig,
        REDIS_HOST: '127.0.0.1',
        REDIS_PORT: String(redis.port),
        REDIS_PASSWORD: 'of redis',
        GPUMIX_PORT: String(port),
        GPUMIX_REDIS_STATE_PREFIX: 'gpumix-candidate',
      }),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [service.stdout, service.stderr]) {
      stream?.on('data', (chunk) => {
        output += chunk;
      });
    }
    await until(async () => expect((await fetch(`${url}/readyz`)).status).toBe(200));
  });

  afterAll(async () => {
    if (service !== undefined && service.exitCode === null) {
      service.kill('SIGKILL');
      await new Promise((resolve) => service.once('close', resolve));
    }
    await store?.close();
    await cluster?.stop();
    await redis?.stop();
  });

  function until(check: () => Promise<void>): Promise<void> {
    return vi.waitFor(check, { timeout: 40_000, interval: 100 });
  }

  /** What a gateway has written in the last minutes, with `arrivals` in each interval. */
  async function writeTraces(arrivals: number): Promise<void> {
    const newest = Math.floor(Date.now() / 10_000) * 10;
    const text = formatTraceRecord({
      intervalSeconds: 10,
      arrivals,
      pending: 2,
      queueing: 0,
      unknownLength: 0,
      buckets: [{ inputTokens: 512, outputTokens: 128, count: arrivals }],
    });
    await store.writeTraces(Array.from({ length: 24 }, (_, i) => ({ model, endSeconds: newest - 10 * i, text })));
  }

  async function metric(path: string): Promise<string> {
    const answer = await fetch(`${url}/metrics/${path}`);
    return `${answer.status} ${(await answer.text()).split('\n')[answer.status === 200 ? 2 : 0]}`;
  }

  it('says why it runs with defaults, and never tells the password', () => {
    expect(output.split('\n')[0]).toContain('Redis and Kubernetes with defaults, because REDIS_HOST is set');
    expect(output).not.toContain('of redis');
  });

  it('answers the autoscaler of each deployment: planned, kept, or not known, never 0 for unknown', async () => {
    const sample = (value: number) => `200 vllm:deployment_replicas{model_name="${model}"} ${value}`;
    // 9 requests/s at 2 a replica; the sibling's profile is bad, so it keeps the 7 that run.
    await until(async () => expect(await metric('default/coder-l20')).toBe(sample(450)));
    expect(await metric('default/coder-v100')).toBe(sample(650));
    expect(await metric('team-b/other-l20')).toMatch(/^503 .*no recent request traces/);
    expect(await metric('default/unknown')).toMatch(/^404 /);
    expect(output).toContain('default/coder-v100: its profile cannot be used');
  });

  it('holds its numbers while the API server is gone, says so, and needs no restart when it is back', async () => {
    await cluster.network.cut();
    await until(async () => {
      const { inputs, status } = (await (await fetch(`${url}/readyz`)).json()) as {
        inputs: { input: string; ok: boolean }[];
        status: string;
      };
      expect([status, inputs.find(({ input }) => input === 'kubernetes')?.ok]).toEqual(['ready', false]);
    });
    // The input is known to be gone as soon as its watch ends; the plan is held from the next cycle on.
    await until(async () =>
      expect(await (await fetch(`${url}/api/v1/replicas/default/coder-l20`)).json()).toMatchObject({
        replicas: 5,
        status: 'held',
        heldReason: 'kubernetes_unreachable',
      }),
    );
    expect(await metric('default/coder-l20')).toMatch(/ 450$/);
    await cluster.write.remove('default/coder-v100');
    await cluster.network.connect();
    await until(async () => expect(await metric('default/coder-v100')).toMatch(/^404 /));
    expect(await metric('default/coder-l20')).toMatch(/^200 /);
  });

  it('ends on SIGTERM with 0', async () => {
    const ended = new Promise((resolve) => service.once('close', resolve));
    service.kill('SIGTERM');
    expect(await ended).toBe(0);
    // What outlives it lies under its own prefix, and nothing under that of another gpumix.
    expect(redis.command('EXISTS', 'gpumix-candidate:state:published', 'gpumix-candidate:list:decisions')).toBe('2');
    expect(redis.command('KEYS', 'gpumix:*')).toBe('');
  });
});
