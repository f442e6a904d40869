import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { chooseConfig, quickstartFile } from '../../src/service/choose-config.js';
import { composeService } from '../../src/service/compose.js';
import type { CycleReport } from '../../src/service/view.js';
import { customResources } from '../support/fake-api-resources.js';
import { redisMissing, startRedisServer } from '../support/redis-server.js';
import { manifest, startFakeCluster } from '../support/test-cluster.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gpumix-compose-'));
});
afterAll(() => rm(folder, { recursive: true }));

const nothing = { configFile: null, quickstart: false, environment: {} };
const messages: string[] = [];
const write = (_: object, message: string) => messages.push(message);
const logger = { debug: write, info: write, warn: write, error: write, fatal: write } as never;

describe('without a configuration file', () => {
  it('the embedded quickstart is served, with what it needs beside it', async () => {
    const chosen = await chooseConfig(nothing);
    expect(chosen.kind).toBe('quickstart');
    expect(chosen.description).toContain('embedded quickstart');
    expect(quickstartFile.startsWith(chosen.directory)).toBe(true);
    expect(chosen.config).toMatchObject({ redis: null, demand: { source: 'replay' } });
  });

  it.each([
    ['in a cluster', { KUBERNETES_SERVICE_HOST: '10.0.0.1' }, '0.0.0.0'],
    ['with REDIS_HOST set', { REDIS_HOST: 'redis' }, '127.0.0.1'],
  ])('Redis and Kubernetes are served %s', async (_, environment, host) => {
    const chosen = await chooseConfig({ ...nothing, environment });
    expect(chosen.kind).toBe('cluster');
    expect(chosen.config.server.host).toBe(host);
    expect(chosen.config).toMatchObject({ demand: { source: 'redis' }, deployments: { source: 'kubernetes' } });
  });

  it('the quickstart that was asked for is served wherever it runs', async () => {
    const environment = { REDIS_HOST: 'redis', REDIS_PASSWORD: 'x', GPUMIX_PORT: '8181' };
    const chosen = await chooseConfig({ ...nothing, quickstart: true, environment });
    expect(chosen.kind).toBe('quickstart');
    expect(chosen.config).toMatchObject({ redis: null, server: { port: 8181 } });
  });
});

describe('a configuration file', () => {
  it('that is not there is named', async () => {
    await expect(chooseConfig({ ...nothing, configFile: join(folder, 'no.yaml') })).rejects.toThrow(
      /no\.yaml: found no such file, expected a configuration in YAML/,
    );
  });

  it('does not go with the quickstart', async () => {
    await expect(chooseConfig({ ...nothing, configFile: 'x.yaml', quickstart: true })).rejects.toThrow('--quickstart');
  });

  it('that names a log or a certificate that is not there stops the start', async () => {
    const list = 'deployments: { source: config, list: [ { name: a, model: m } ] }';
    const cases = [
      [
        `demand: { source: replay, replay: { file: no.csv } }\nprofiles: { source: files, directory: . }\n${list}`,
        'no.csv',
      ],
      [`redis: { url: rediss://127.0.0.1:1/0, caFile: no.pem }\n${list}`, 'no.pem'],
    ] as const;
    for (const [text, name] of cases) {
      const file = join(folder, 'gpumix.yaml');
      await writeFile(file, text);
      const { config, directory } = await chooseConfig({ ...nothing, configFile: file });
      await expect(composeService({ config, directory, logger })).rejects.toThrow(join(folder, name));
    }
  });
});

describe("KEDA's external scaler", () => {
  const base = `demand: { source: replay, replay: { file: ${JSON.stringify('trace.csv')} } }
profiles: { source: files, directory: . }
deployments: { source: config, list: [ { name: a, model: m } ] }
`;
  async function composed(keda: string) {
    const file = join(folder, 'keda.yaml');
    await writeFile(join(folder, 'trace.csv'), 'timestamp_ms,input_tokens,output_tokens\n0,1,1\n');
    await writeFile(file, `${base}${keda}`);
    const { config, directory } = await chooseConfig({ ...nothing, configFile: file });
    const service = await composeService({ config, directory, logger });
    await service.background.stop();
    return service;
  }

  it('is off unless it is asked for', async () => {
    expect((await composed('')).listeners).toEqual([]);
    expect((await composed('keda: {}')).listeners).toEqual([]);
  });

  it('listens where the configuration says, on the host of the HTTP server by default', async () => {
    const { listeners } = await composed('keda: { scaler: { port: 0 } }');
    expect(listeners).toHaveLength(1);
    expect(await listeners[0]!.listen()).toMatch(/^KEDA's external scaler on 127\.0\.0\.1:\d+ \(gRPC, in the clear\)$/);
    await listeners[0]!.drain();
  });

  it.each([
    ['{ certFile: no.pem, keyFile: no.key }', /keda\.scaler\.certFile: found ".*no\.pem", which is not there/],
    [
      '{ certFile: a.pem }',
      /keda\.scaler\.keyFile: found nothing, expected a PEM file, because keda\.scaler\.certFile is/,
    ],
    [
      '{ keyFile: a.pem }',
      /keda\.scaler\.certFile: found nothing, expected a PEM file, because keda\.scaler\.keyFile is/,
    ],
    [
      '{ clientCaFile: a.pem }',
      /keda\.scaler\.certFile: found nothing, .* because keda\.scaler\.clientCaFile asks for/,
    ],
    ['{ prot: 1 }', /keda\.scaler\.prot.*did you mean "(keda\.scaler\.)?port"/],
  ])('%s is refused by its key', async (scaler, message) => {
    await expect(composed(`keda: { scaler: ${scaler} }`)).rejects.toThrow(message);
  });
});

describe('the embedded quickstart', () => {
  it('plans the replayed day in simulated time, with a proof, and stops whole', async () => {
    const flags = [{ flag: '--set', key: 'demand.replay.clock', value: '600' }];
    const { config, directory } = await chooseConfig({ ...nothing, quickstart: true, flags });
    const { controller, background, clock } = await composeService({ config, directory, logger });
    const planned = new Promise<CycleReport>((resolve) => {
      controller.onCycle((report) => {
        if (report.plan?.status === 'optimal' && report.plan.deployments.length > 0) resolve(report);
      });
    });
    await background.start();
    const report = await planned;
    expect(new Date(report.at).toISOString()).toMatch(/^2026-06-01T08:/);
    expect(clock.now()).toBeGreaterThanOrEqual(report.at);
    await background.stop();
    const [model] = controller.models();
    expect(model).toMatchObject({ name: 'qwen3-14b', status: 'optimal', heldReason: null });
    expect(model?.demand?.rps).toBeGreaterThan(0);
    expect(model?.deployments.some(({ replicas }) => (replicas ?? 0) > 0)).toBe(true);
    // Its profiles were simulated, and every plan says so.
    expect(controller.plan()?.warnings.map(({ code }) => code)).toEqual(['estimated_profile']);
    expect(controller.ready()).toBe(true);
    expect(controller.inputs().map(({ input, ok }) => [input, ok])).toEqual([
      ['config', true],
      ['profiles', true],
      ['traces', true],
    ]);
    const at = controller.plan()?.at;
    await new Promise((resolve) => setImmediate(resolve));
    expect(controller.plan()?.at).toBe(at);
  });
});

describe.skipIf(redisMissing !== null)('a cluster', () => {
  it('is followed: its deployments, what scales them, and the nodes that pools are counted from', async () => {
    const cluster = await startFakeCluster();
    const redis = await startRedisServer();
    onTestFinished(async () => {
      vi.unstubAllEnvs();
      await redis.stop();
      await cluster.stop();
    });
    vi.stubEnv('KUBECONFIG', cluster.kubeconfig);
    const product = { 'nvidia.com/gpu.product': 'NVIDIA-L4' };
    await cluster.write.create(
      manifest({ namespace: 'prod', name: 'llama', model: 'llama', podSpec: { nodeSelector: product } }),
    );
    cluster.server.put({
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { namespace: 'prod', name: 'llama-hpa' },
      spec: { maxReplicas: 5, scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'llama' } },
    });
    for (const [name, labels] of [
      ['gpu-1', product],
      ['gpu-2', {}],
    ] as const) {
      cluster.server.put({
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name, labels },
        status: { allocatable: { 'nvidia.com/gpu': '4' }, conditions: [{ type: 'Ready', status: 'True' }] },
      });
    }
    const file = join(folder, 'cluster.yaml');
    await writeFile(file, `redis: { url: "${redis.url}" }\npools: { fromNodes: true }\n`);
    const { config, directory } = await chooseConfig({ ...nothing, configFile: file });
    const { controller, background } = await composeService({ config, directory, logger });
    const warnings = () => controller.plan()?.warnings.map(({ code }) => code) ?? [];
    const counted = new Promise<void>((resolve) => {
      controller.onCycle(() => {
        if (warnings().includes('unnamed_gpus')) resolve();
      });
    });
    await background.start();
    await counted;
    await background.stop();
    // The type of its deployment is counted.
    expect(warnings()).not.toContain('implicit_pool');
    expect(controller.models()[0]?.deployments).toMatchObject([
      { id: 'prod/llama', consumers: [{ kind: 'HorizontalPodAutoscaler', name: 'llama-hpa', maxReplicas: 5 }] },
    ]);
    expect(controller.inputs()).toContainEqual(expect.objectContaining({ input: 'nodes', ok: true }));
    await expect.poll(() => cluster.server.watches.size).toBe(0);
  });

  it('is scaled: listed objects are read and written, and what something else scales is left alone', async () => {
    const cluster = await startFakeCluster();
    const redis = await startRedisServer();
    onTestFinished(async () => {
      vi.unstubAllEnvs();
      await redis.stop();
      await cluster.stop();
    });
    vi.stubEnv('KUBECONFIG', cluster.kubeconfig);
    const { stormServices, podAutoscalers } = customResources;
    cluster.server.serve(stormServices, podAutoscalers);
    const apiVersion = 'orchestration.aibrix.ai/v1alpha1';
    for (const name of ['mine', 'theirs']) {
      cluster.server.put({
        apiVersion,
        kind: 'StormService',
        metadata: { namespace: 'prod', name },
        spec: { replicas: 2 },
      });
    }
    cluster.server.put({
      apiVersion: 'autoscaling.aibrix.ai/v1alpha1',
      kind: 'PodAutoscaler',
      metadata: { namespace: 'prod', name: 'kpa' },
      spec: { maxReplicas: 5, scaleTargetRef: { apiVersion, kind: 'StormService', name: 'theirs' } },
    });
    const file = join(folder, 'scaled.yaml');
    await writeFile(
      file,
      `redis: { url: "${redis.url}" }
actuate: scale
deployments:
  source: config
  list:
    - { namespace: prod, name: a, model: m, gpuType: L4, target: { kind: StormService, name: mine } }
    - { namespace: prod, name: b, model: m, gpuType: L4, target: { kind: StormService, name: theirs } }
`,
    );
    const { config, directory } = await chooseConfig({ ...nothing, configFile: file });
    const { controller, background } = await composeService({ config, directory, logger });
    const deployments = () => controller.models()[0]?.deployments ?? [];
    const until = (holds: () => boolean) =>
      new Promise<void>((resolve) => {
        controller.onCycle(() => {
          if (holds()) resolve();
        });
      });
    const isSeen = until(() => deployments().length === 2 && deployments().every((each) => each.currentReplicas === 2));
    await background.start();
    await isSeen;
    const written = cluster.server.nextRequest(({ method }) => method === 'PATCH');
    const isDecided = until(() => deployments()[1]?.actuation?.why === 'other_scaler');
    await controller.fixReplicas('prod', 'a', 3, null);
    await controller.fixReplicas('prod', 'b', 3, null);
    await isDecided;
    expect((await written).path).toBe(`/apis/${apiVersion}/namespaces/prod/stormservices/mine/scale`);
    await background.stop();
    const asked = cluster.server.objects('stormservices').map(({ metadata, spec }) => [metadata.name, spec]);
    expect(asked).toEqual([
      ['mine', { replicas: 3 }],
      ['theirs', { replicas: 2 }],
    ]);
    expect(deployments()).toMatchObject([
      { id: 'prod/a', consumers: [] },
      { id: 'prod/b', consumers: [{ kind: 'PodAutoscaler', name: 'kpa' }], actuation: { state: 'withheld' } },
    ]);
    // Objects are looked for where they are listed, so that Roles suffice.
    const lists = cluster.server.requests.filter(({ resource }) => resource === 'horizontalpodautoscalers');
    expect(lists.every(({ path }) => path.includes('/namespaces/prod/'))).toBe(true);
    await expect.poll(() => cluster.server.watches.size).toBe(0);
  });
});
