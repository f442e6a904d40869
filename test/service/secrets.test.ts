import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import { chooseConfig } from '../../src/service/choose-config.js';
import { composeService } from '../../src/service/compose.js';
import { loadConfig } from '../../src/service/config-layers.js';
import { buildApp } from '../../src/service/http/app.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics } from '../../src/service/metrics.js';
import { startServer } from '../../src/service/server.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';
import { type ScriptedEndpoint, startEndpoint } from '../support/scripted-endpoint.js';
import { type FakeCluster, manifest, startFakeCluster } from '../support/test-cluster.js';

if (redisMissing !== null) console.log(`secrets: ${redisMissing}`);

/** One of each kind, unlike anything else. */
const secrets = {
  redis: 'Redis4Secret9x',
  prometheusPassword: 'Prom4Secret9x',
  enginePassword: 'Engine4Secret9x',
  cluster: 'Cluster4Secret9x.abc',
  known: 'Known4Secret9x-0123456789',
  guessed: 'Guessed4Secret9x-0123456789',
} as const;

const encoded = (user: string, password: string) => Buffer.from(`${user}:${password}`).toString('base64');
/** The same as they cross the wire. */
const spelt = [
  ...Object.values(secrets),
  encoded('reader', secrets.prometheusPassword),
  encoded('scraper', secrets.enginePassword),
];

/**
 * The whole service with a secret in every place that takes one, and upstreams that repeat what they are sent: nothing
 * that it writes or answers holds one.
 */
describe.skipIf(redisMissing !== null)('secrets', () => {
  let folder: string;
  let redis: RedisServer;
  let echo: ScriptedEndpoint;
  let cluster: FakeCluster;
  let url: string;
  let stop: () => Promise<void>;
  const log: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gpumix-secrets-'));
    redis = await startRedisServer({ password: secrets.redis });
    echo = await startEndpoint((request, response) => {
      response.statusCode = 401;
      const [, credentials = ''] = (request.headers.authorization ?? '').split(' ');
      const decoded = Buffer.from(credentials, 'base64').toString('utf8');
      response.end(`bad credentials: ${request.headers.authorization} (${credentials} is ${decoded})`);
    });
    cluster = await startFakeCluster({ token: secrets.cluster });
    await cluster.write.create(manifest({ name: 'llama-l4', model: 'llama', replicas: 2 }));
    vi.stubEnv('KUBECONFIG', cluster.kubeconfig);
    await writeFile(join(folder, 'tokens'), `${secrets.known}\n`, { mode: 0o600 });
    await writeFile(
      join(folder, 'gpumix.yaml'),
      `server: { port: 0, tokenFile: tokens }
redis: { url: 'redis://:${secrets.redis}@127.0.0.1:${redis.port}/0' }
prometheus: { url: 'http://reader:${secrets.prometheusPassword}@${echo.address}/' }
engines: { scrape: [ { deployment: default/llama-l4, urls: [ 'http://scraper:${secrets.enginePassword}@${echo.address}/metrics' ] } ] }
demand: { intervalSeconds: 1, windowSeconds: 10 }
log: { level: trace }
`,
    );
    const chosen = await chooseConfig({ configFile: join(folder, 'gpumix.yaml'), quickstart: false, environment: {} });
    const logger = await createLogger({ level: 'trace', to: { write: (line) => void log.push(line) }, pretty: false });
    const { config, directory } = chosen;
    const { controller, background, access } = await composeService({ config, directory, logger });
    const metrics = createMetrics(controller);
    const app = buildApp({ view: controller, commands: controller, metrics, logger, version: '9.9.9', access });
    const server = await startServer({ app, background, host: '127.0.0.1', port: 0, logger });
    url = server.url;
    stop = async () => {
      await server.stop();
      metrics.close();
    };
    await vi.waitFor(async () => expect((await fetch(`${url}/readyz`)).status).toBe(200), {
      timeout: 60_000,
      interval: 50,
    });
  }, 120_000);

  afterAll(async () => {
    await stop?.();
    vi.unstubAllEnvs();
    await cluster?.stop();
    await echo?.stop();
    await redis?.stop();
    await rm(folder, { recursive: true });
  });

  /** All that the service says to somebody who asks everything, well and badly. */
  async function everyAnswer(): Promise<string> {
    const paths = [
      '/',
      '/healthz',
      '/readyz',
      '/metrics',
      '/openapi.json',
      '/api/v1/models',
      '/api/v1/models/llama',
    ].concat(
      [
        '/api/v1/problem',
        '/api/v1/plan',
        '/api/v1/history',
        '/api/v1/routing/llama',
        '/api/v1/replicas/default/llama-l4',
      ],
      ['/metrics/default/llama-l4', '/nowhere', `/nowhere?token=${secrets.guessed}`, '/api/v1/explain'],
    );
    const calls: [string, string][] = [
      ...paths.map((path): [string, string] => ['GET', path]),
      ['PUT', '/scale/default/llama-l4'],
      ['POST', '/monitor/default/llama-l4'],
      ['GET', '/update_profile/llama'],
      ['POST', '/api/v1/plan'],
    ];
    const texts: string[] = [];
    const headers = [`Bearer ${secrets.known}`, `Bearer ${secrets.guessed}`, `Basic ${secrets.guessed}`, null];
    for (const [method, path] of calls) {
      for (const authorization of headers) {
        const answer = await fetch(url + path, {
          method,
          headers: authorization === null ? {} : { authorization },
          ...(method === 'GET' ? {} : { body: `{"replicas": "${authorization === null ? 'x' : 2}"}` }),
        });
        texts.push(JSON.stringify([...answer.headers]), await answer.text());
      }
    }
    return texts.join('\n');
  }

  const found = (text: string) => spelt.filter((secret) => text.includes(secret));

  it('are in no answer and no line of the log while upstreams refuse them, and repeat them', async () => {
    await vi.waitFor(() => expect(echo.requests.length).toBeGreaterThan(2), { timeout: 30_000, interval: 50 });
    const sent = echo.requests.map(({ headers }) => headers.authorization ?? '').join(' ');
    expect(sent).toContain(encoded('reader', secrets.prometheusPassword));
    await vi.waitFor(async () => expect(await (await fetch(`${url}/readyz`)).text()).toContain('bad credentials'), {
      timeout: 30_000,
      interval: 50,
    });
    const answers = await everyAnswer();
    expect(found(answers)).toEqual([]);
    expect(found(log.join('\n'))).toEqual([]);
    // What was allowed was done, so that the known token was looked at and logged about.
    expect(log.join('\n')).toContain('asked for by the token in line 1 of');
  });

  it('are in none either while Redis and the API server are gone', async () => {
    await redis.kill();
    await cluster.network.cut();
    await vi.waitFor(
      async () => {
        const { inputs } = (await (await fetch(`${url}/readyz`)).json()) as {
          inputs: { input: string; ok: boolean }[];
        };
        const gone = inputs.filter(({ ok }) => !ok).map(({ input }) => input);
        expect(gone).toEqual(expect.arrayContaining(['redis', 'kubernetes']));
      },
      { timeout: 60_000, interval: 50 },
    );
    expect(found(await everyAnswer())).toEqual([]);
    expect(found(log.join('\n'))).toEqual([]);
  });
});

describe('a configuration that is refused', () => {
  it.each([
    `redis: { url: 'http://:${secrets.redis}@h' }`,
    `redis: { url: 'redis://h', password: [ '${secrets.redis}' ] }`,
    `redis: { url: 'redis://h?sentinel=m&sentinelPassword=${secrets.redis}#' }`,
    `redis: { url: 'redis://h?sentinelPassword=${secrets.redis}' }`,
    `redis: { url: 'redis://h', sentinelPassword: '${secrets.redis}' }`,
    `redis: { url: 'redis://h?sentinel=m', sentinelPassword: [ '${secrets.redis}' ] }`,
    `prometheus: { url: 'ftp://reader:${secrets.redis}@h' }`,
    `prometheus: { url: 'http://reader:${secrets.redis}/x@h' }`,
    `engines: { scrape: [ { deployment: default/a, urls: [ 'http//u:${secrets.redis}@h' ] } ] }`,
  ])('names the key, and not the secret in it: case %#', (text) => {
    const load = () => loadConfig({ file: { name: 'gpumix.yaml', text }, environment: {} });
    expect(load).toThrow(InputError);
    expect(load).not.toThrow(secrets.redis);
  });
});
