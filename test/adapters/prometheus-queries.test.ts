import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  createPrometheusEngines,
  deploymentOfPod,
  type PrometheusSettings,
} from '../../src/adapters/prometheus-queries.js';
import { type EngineMetrics, Unavailable } from '../../src/core/ports.js';
import { type PrometheusServer, prometheusMissing, startPrometheus } from '../support/prometheus-server.js';
import { type ScriptedEndpoint, startEndpoint } from '../support/scripted-endpoint.js';
import { post, startTestEngine, type TestEngine } from './engine/test-engine.js';

if (prometheusMissing !== null) console.log(`prometheus-queries: ${prometheusMissing}`);

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()));
});

const ofDeployment = (id: string) => {
  const [namespace, name] = id.split('/') as [string, string];
  return { id, namespace, name };
};

function source(settings: Partial<PrometheusSettings> & { readonly url: string }): EngineMetrics {
  const metrics = createPrometheusEngines({
    bearerTokenFile: null,
    ca: null,
    namespaceLabel: 'namespace',
    podLabel: 'pod',
    deploymentLabel: null,
    timeoutMs: 10_000,
    ...settings,
  });
  stops.push(() => metrics.close());
  return metrics;
}

describe.skipIf(prometheusMissing !== null)('engines that a Prometheus server scrapes', () => {
  const engines: TestEngine[] = [];
  let prometheus: PrometheusServer;
  const pod = (name: string) => `${name}-6d4cf56db6-x7k2p`;

  beforeAll(async () => {
    for (let i = 0; i < 3; i += 1) engines.push(await startTestEngine());
    const labels: readonly Readonly<Record<string, string>>[] = [
      { namespace: 'default', pod: pod('llama') },
      // Not a pod of `llama`, whose name is the beginning of its own.
      { namespace: 'default', pod: pod('llama-large') },
      { namespace: 'team.b', pod: pod('llama'), app: 'llama' },
    ];
    prometheus = await startPrometheus(
      engines.map(({ url }, i) => ({ address: new URL(url).host, labels: labels[i]! })),
    );
    const prompt = Array.from({ length: 20 }, (_, i) => i + 1);
    for (const [i, { url }] of engines.entries()) {
      const body = { model: 'test-model', prompt, max_tokens: 8, ignore_eos: true };
      for (let n = 0; n <= i; n += 1) await (await post(`${url}/v1/completions`, body)).text();
    }
  }, 60_000);
  afterAll(async () => {
    await prometheus?.stop();
    await Promise.all(engines.map((engine) => engine.stop()));
  });

  it('are told by namespace and pod, with the time at which each was scraped', async () => {
    const metrics = source({ url: prometheus.url });
    const followed = ['default/llama', 'default/llama-large', 'team.b/llama'].map(ofDeployment);
    const { samples, problems } = await vi.waitFor(
      async () => {
        const reading = await metrics.read(followed);
        const counts = reading.samples.map(({ latencies }) => latencies.e2e?.count).sort();
        expect(counts).toEqual([1, 2, 3]);
        return reading;
      },
      { timeout: 30_000, interval: 100 },
    );
    expect(problems).toEqual([]);
    const byDeployment = new Map(samples.map((sample) => [sample.deployment, sample]));
    expect([...byDeployment.keys()].sort()).toEqual(['default/llama', 'default/llama-large', 'team.b/llama']);
    expect(byDeployment.get('team.b/llama')).toMatchObject({ promptTokens: 60, generationTokens: 24 });
    expect(byDeployment.get('default/llama-large')!.latencies.ttft!.seconds).toBeCloseTo(2 * 0.012, 6);
    for (const { atMs } of samples) expect(Math.abs(atMs - Date.now())).toBeLessThan(60_000);
    // A later scrape is a later sample.
    const before = byDeployment.get('default/llama')!.atMs;
    await vi.waitFor(
      async () => {
        const again = await metrics.read([ofDeployment('default/llama')]);
        expect(again.samples.map(({ deployment }) => deployment)).toEqual(['default/llama']);
        expect(again.samples[0]!.atMs).toBeGreaterThan(before);
      },
      { timeout: 30_000, interval: 100 },
    );
  }, 60_000);

  it('are told by a label that names their deployment', async () => {
    const metrics = source({ url: prometheus.url, deploymentLabel: 'app' });
    const { samples } = await metrics.read(['default/llama', 'team.b/llama'].map(ofDeployment));
    expect(samples.map(({ deployment }) => deployment)).toEqual(['team.b/llama']);
  });

  it("are nobody's where the label is another than the configured one, which is said", async () => {
    const metrics = source({ url: prometheus.url, podLabel: 'pod_name' });
    const { samples, problems } = await metrics.read([ofDeployment('default/llama')]);
    expect(samples).toEqual([]);
    expect(problems.join()).toContain('found counters of engines without the label "pod_name"');
  });

  it('are none where the deployments are elsewhere, which is said', async () => {
    const { samples, problems } = await source({ url: prometheus.url }).read([ofDeployment('other/llama')]);
    expect(samples).toEqual([]);
    expect(problems.join()).toContain('found no counters of engines');
    // A namespace is no pattern: a dot in it stands for itself.
    expect((await source({ url: prometheus.url }).read([ofDeployment('team-b/llama')])).samples).toEqual([]);
  });

  it('are a clear refusal where the query is none', async () => {
    const broken = source({ url: `${prometheus.url}/nowhere/` }).read([ofDeployment('default/llama')]);
    await expect(broken).rejects.toThrow('found status 404');
  });
});

describe('a Prometheus server that cannot be used', () => {
  async function endpoint(answer: ScriptedEndpoint['answer'] | string): Promise<ScriptedEndpoint> {
    const started = await startEndpoint(answer);
    stops.push(() => started.stop());
    return started;
  }
  const vector = (result: readonly unknown[]) =>
    JSON.stringify({ status: 'success', data: { resultType: 'vector', result } });
  const llama = [ofDeployment('default/llama')];

  it.each([
    ['no JSON', 'gateway timeout', 'strict JSON'],
    ['an error', JSON.stringify({ status: 'error', error: 'x' }), 'status: found "error"'],
    ['a matrix', JSON.stringify({ status: 'success', data: { resultType: 'matrix', result: [] } }), 'resultType'],
    ['a number for a text', vector([{ metric: {}, value: [1, 2] }]), 'data.result[0].value[1]'],
  ])('is said to be where it answers with %s', async (_, answer, problem) => {
    const { url } = await endpoint(answer);
    const reading = source({ url }).read(llama);
    await expect(reading).rejects.toThrow(Unavailable);
    await expect(reading).rejects.toThrow(problem);
  });

  it('is given up where it hangs', async () => {
    const { url } = await endpoint(() => undefined);
    const reading = source({ url, timeoutMs: 50 }).read(llama);
    await expect(reading).rejects.toMatchObject({ code: 'prometheus_unreachable' });
    await expect(reading).rejects.toThrow('no whole answer within 0.05 s');
  });

  it('counts no series that holds what is no number', async () => {
    const metric = (name: string) => ({
      __name__: `vllm:${name}`,
      namespace: 'default',
      pod: 'llama-6d4cf56db6-x7k2p',
    });
    const names = [
      'prompt_tokens_total',
      'generation_tokens_total',
      'e2e_request_latency_seconds_sum',
      'e2e_request_latency_seconds_count',
    ];
    let value = 'NaN';
    const { url } = await endpoint((_, response) =>
      response.end(vector(names.map((name) => ({ metric: metric(name), value: [1, value] })))),
    );
    expect((await source({ url }).read(llama)).samples).toEqual([]);
    value = '5';
    expect((await source({ url }).read(llama)).samples).toHaveLength(1);
  });

  it('is sent the token of its file, as it is at that time', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gpumix-token-'));
    const bearerTokenFile = join(directory, 'token');
    const server = await endpoint(vector([]));
    const metrics = source({ url: server.url, bearerTokenFile });
    await expect(metrics.read(llama)).rejects.toThrow(`found no token in ${bearerTokenFile} (ENOENT)`);
    for (const token of ['one', 'two']) {
      writeFileSync(bearerTokenFile, `${token}\n`);
      await metrics.read(llama);
      expect(server.requests.at(-1)!.headers.authorization).toBe(`Bearer ${token}`);
    }
    rmSync(directory, { recursive: true });
  });
});

describe('the Deployment of a pod', () => {
  it.each([
    ['llama-6d4cf56db6-x7k2p', 'llama'],
    ['llama-3-8b-l4-5f7b9-bcdfg', 'llama-3-8b-l4'],
    ['llama-0', null],
    ['llama', null],
    ['llama-6d4cf56db6-x7k2', null],
    ['llama-6d4cf56db6-aeiou', null],
  ])('of %s is %s', (pod, deployment) => {
    expect(deploymentOfPod(pod)).toBe(deployment);
  });
});
