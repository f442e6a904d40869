import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { chooseConfig } from '../../src/service/choose-config.js';
import { composeService } from '../../src/service/compose.js';
import { loadConfig } from '../../src/service/config-layers.js';
import { startTestEngine, type TestEngine } from '../adapters/engine/test-engine.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';
import { type ScriptedEndpoint, startEndpoint } from '../support/scripted-endpoint.js';

const list =
  'deployments: { source: config, list: [ { name: llama-a100, model: llama }, { name: llama-l4, model: llama } ] }';
const redis = 'redis: { url: redis://127.0.0.1:6379/0 }';
const load = (text: string, environment: Readonly<Record<string, string>> = {}) =>
  loadConfig({ file: { name: 'gpumix.yaml', text: `${redis}\n${list}\n${text}` }, environment }).config;
const urls = 'urls: [ "http://10.0.0.7:8000/metrics" ]';

describe('the configuration of engines', () => {
  it('reads none and corrects nothing where it is not given', () => {
    const { prometheus, engines, profiles } = load('');
    expect([prometheus, engines.scrape]).toEqual([null, []]);
    const correction = { enabled: false, minFactor: 0.5, maxFactor: 1.25, maxStepPerMinute: 0.05 };
    expect(profiles.correction).toEqual(correction);
  });

  it('takes a Prometheus server from the environment alone', () => {
    const { prometheus, profiles } = load('', {
      GPUMIX_PROMETHEUS_URL: 'https://prometheus:9090',
      GPUMIX_PROFILES_CORRECTION_ENABLED: 'true',
    });
    expect(prometheus).toMatchObject({ url: 'https://prometheus:9090', podLabel: 'pod', timeoutSeconds: 5 });
    expect(profiles.correction.enabled).toBe(true);
  });

  const refusals: readonly [string, string, string][] = [
    [
      'a correction without engines',
      'profiles: { correction: { enabled: true } }',
      'profiles.correction.enabled: found true, expected false, or prometheus',
    ],
    [
      'a deployment that is not there',
      `engines: { scrape: [ { deployment: default/llama-a10, ${urls} } ] }`,
      'did you mean default/llama-a100?',
    ],
    [
      'a deployment twice',
      `engines: { scrape: [ { deployment: default/llama-l4, ${urls} }, { deployment: default/llama-l4, ${urls} } ] }`,
      'engines.scrape[1].deployment',
    ],
    ['a deployment without namespace', `engines: { scrape: [ { deployment: llama-l4, ${urls} } ] }`, 'namespace/name'],
    ['no URL', 'engines: { scrape: [ { deployment: default/llama-l4, urls: [] } ] }', 'engines.scrape[0].urls'],
    ['another protocol', 'prometheus: { url: "ftp://prometheus" }', 'begins with http:// or https://'],
    ['a URL whose user is no text', 'prometheus: { url: "http://%zz@prometheus" }', 'begins with http:// or https://'],
    ['an authority without TLS', 'prometheus: { url: "http://p", caFile: ca.pem }', 'prometheus.caFile'],
    ['a label that is none', 'prometheus: { url: "http://p", podLabel: "pod-name" }', 'the name of a Prometheus label'],
    [
      'a factor that would raise what is slow',
      'profiles: { correction: { minFactor: 1.5 } }',
      'profiles.correction.minFactor: found 1.5, expected a number <= 1',
    ],
    ['an unknown key', 'prometheus: { url: "http://p", podlabel: x }', 'did you mean "podLabel"?'],
  ];
  it.each(refusals)('refuses %s', (_, text, expected) => {
    expect(() => load(text)).toThrow(expected);
  });

  it('refuses engines beside requests that are simulated', () => {
    const text = 'demand: { source: replay, replay: { file: x.csv } }\nprofiles: { source: files, directory: . }';
    const simulated = (rest: string) =>
      loadConfig({
        file: {
          name: 'gpumix.yaml',
          text: `${text}\n${list.replace(', { name: llama-l4, model: llama }', '')}\n${rest}`,
        },
        environment: {},
      });
    expect(() => simulated('')).not.toThrow();
    expect(() => simulated('prometheus: { url: "http://p" }')).toThrow('prometheus: found');
    expect(() => simulated(`engines: { scrape: [ { deployment: default/llama-a100, ${urls} } ] }`)).toThrow(
      'engines.scrape',
    );
  });
});

if (redisMissing !== null) console.log(`engines-config: ${redisMissing}`);

describe.skipIf(redisMissing !== null)('the service', () => {
  let folder: string;
  let server: RedisServer;
  let engine: TestEngine;
  let prometheus: ScriptedEndpoint;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gpumix-engines-'));
    server = await startRedisServer();
    engine = await startTestEngine();
    prometheus = await startEndpoint(JSON.stringify({ status: 'success', data: { resultType: 'vector', result: [] } }));
  });
  afterAll(async () => {
    await Promise.all([engine?.stop(), prometheus?.stop(), server?.stop(), rm(folder, { recursive: true })]);
  });

  it('reads the engines that its configuration names, and says when they are gone', async () => {
    const silent = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} } as never;
    await writeFile(join(folder, 'token'), 'sesame\n');
    const file = join(folder, 'gpumix.yaml');
    await writeFile(
      file,
      [
        `redis: { url: "${server.url}" }`,
        'demand: { intervalSeconds: 1 }',
        list,
        `engines: { scrape: [ { deployment: default/llama-a100, urls: [ "${engine.url}/metrics" ] } ] }`,
        `prometheus: { url: "${prometheus.url}/prom", bearerTokenFile: token }`,
      ].join('\n'),
    );
    const { config, directory } = await chooseConfig({ configFile: file, quickstart: false, environment: {} });
    const { controller, background } = await composeService({ config, directory, logger: silent });
    await background.start();
    const engines = () => controller.inputs().find(({ input }) => input === 'engines');
    try {
      await vi.waitFor(() => expect(engines()).toMatchObject({ ok: true }), { timeout: 20_000, interval: 50 });
      // The engine tells one of the deployments; the server is asked for the other, and has nothing.
      expect(engines()!.problem).toContain('found no counters of engines');
      const [asked] = prometheus.requests;
      expect([asked!.method, asked!.url, asked!.headers.authorization]).toEqual([
        'POST',
        '/prom/api/v1/query',
        'Bearer sesame',
      ]);
      await engine.stop();
      await prometheus.stop();
      await vi.waitFor(() => expect(engines()).toMatchObject({ ok: false }), { timeout: 20_000, interval: 50 });
      expect(engines()!.problem).toContain('ECONNREFUSED');
    } finally {
      await background.stop();
    }
  }, 60_000);
});
