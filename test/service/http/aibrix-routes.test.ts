import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/core/input-error.js';
import { loopbackAccess } from '../../../src/service/access.js';
import { escapeLabelValue, metricBody, parseScaleBody } from '../../../src/service/http/aibrix-routes.js';
import { appUnderTest } from '../../support/http-app.js';
import { deploymentView, modelView } from '../../support/scripted-view.js';

const forbidden = 'vllm:deployment_replicas';

describe('GET /metrics/{namespace}/{deployment}', () => {
  it('answers exactly the three lines that the autoscaler parses', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject('/metrics/default/llama-l4');
    expect(answer.statusCode).toBe(200);
    expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8');
    expect(answer.body).toBe(
      '# HELP vllm:deployment_replicas Number of suggested replicas.\n' +
        '# TYPE vllm:deployment_replicas gauge\n' +
        'vllm:deployment_replicas{model_name="llama"} 250\n',
    );
  });

  it.each([
    [0, 0],
    [1, 50],
    [2, 150],
    [3, 250],
    [1000, 99_950],
  ])('says 100·n − 50 for whole replicas, and 0 for none: %i → %i', async (replicas, value) => {
    const models = [modelView({ deployments: [deploymentView({ replicas })] })];
    const { app } = await appUnderTest({ state: { models } });
    const { body } = await app.inject('/metrics/default/llama-a100');
    expect(body.endsWith(`} ${value}\n`)).toBe(true);
  });

  it('answers HEAD with the same headers and no body', async () => {
    const { app } = await appUnderTest();
    const [head, get] = [
      await app.inject({ method: 'HEAD', url: '/metrics/default/llama-l4' }),
      await app.inject('/metrics/default/llama-l4'),
    ];
    expect(head.statusCode).toBe(200);
    expect(head.body).toBe('');
    expect(head.headers['content-type']).toBe(get.headers['content-type']);
    expect(head.headers['content-length']).toBe(String(Buffer.byteLength(get.body)));
  });

  it('answers byte for byte over a real connection that is kept alive', async () => {
    const { app } = await appUnderTest({ app: { access: { ...loopbackAccess, hosts: null } } });
    await app.listen({ host: '127.0.0.1', port: 0 });
    const address = app.server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    const socket = connect(address.port, '127.0.0.1');
    const received: Buffer[] = [];
    socket.on('data', (chunk) => received.push(chunk));
    const text = () => Buffer.concat(received).toString('latin1');
    const bodies = () => text().split('model_name="llama"} 250\n').length - 1;
    const ask = () => socket.write('GET /metrics/default/llama-l4 HTTP/1.1\r\nHost: optimizer\r\n\r\n');
    ask();
    await until(() => bodies() === 1);
    ask();
    await until(() => bodies() === 2);
    socket.destroy();
    const length = Buffer.byteLength(metricBody('llama', 250));
    const lines = text().split('\r\n');
    expect(lines[0]).toBe('HTTP/1.1 200 OK');
    expect(lines).toContain('content-type: text/plain; charset=utf-8');
    expect(lines).toContain(`content-length: ${length}`);
    expect(text()).toContain('Connection: keep-alive');
  });

  it('tells a deployment that nobody follows with 404 in the shape of AIBrix', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject('/metrics/default/no-such');
    expect(answer.statusCode).toBe(404);
    expect(answer.json()).toEqual({ error: 'Failed to read metrics: no deployment default/no-such is followed' });
  });

  it('tells a number that is not known yet with 503, never with 0', async () => {
    const { app } = await appUnderTest({ state: { notKnown: new Set(['default/llama-l4']) } });
    const answer = await app.inject('/metrics/default/llama-l4');
    expect(answer.statusCode).toBe(503);
    expect(answer.json<{ error: string }>().error).toMatch(
      /^Failed to read metrics: replicas of default\/llama-l4 are/,
    );
  });

  it('never repeats the metric name in an error, even where the client puts it in the URL', async () => {
    const { app } = await appUnderTest();
    for (const url of [
      `/metrics/${forbidden}/x`,
      `/metrics/default/${encodeURIComponent(forbidden)}`,
      `/metrics/default/vllm:deployment_vllm:deployment_replicasreplicas`,
      `/metrics/a/b/${forbidden}`,
      `/metrics/%zz/${forbidden}`,
      `/${forbidden}`,
      `/api/v1/models/${forbidden}`,
      `/api/v1/plan?model=${forbidden}`,
      `/api/v1/plan?${forbidden}=1`,
      `/api/v1/replicas/${forbidden}/x`,
      `/update_profile/${forbidden}`,
    ]) {
      const answer = await app.inject(url);
      expect(answer.statusCode, url).toBeGreaterThanOrEqual(400);
      expect(answer.body, url).not.toContain(forbidden);
    }
  });

  it('follows the plan from one request to the next', async () => {
    const { app, state } = await appUnderTest();
    expect((await app.inject('/metrics/default/llama-a100')).body).toContain('} 150\n');
    state.models = [modelView({ deployments: [deploymentView({ replicas: 5 })] })];
    expect((await app.inject('/metrics/default/llama-a100')).body).toContain('} 450\n');
  });

  it('is one sample that a strict Prometheus parser reads back, for every model name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), fc.nat(100_000), (model, value) => {
        const lines = metricBody(model, value).split('\n');
        expect(lines).toHaveLength(4);
        expect(lines[3]).toBe('');
        const sample = /^vllm:deployment_replicas\{model_name="((?:[^"\\\n]|\\[\\"n])*)"\} (\d+)$/su.exec(lines[2]!);
        expect(sample).not.toBeNull();
        expect(unescaped(sample![1]!)).toBe(model);
        expect(Number(sample![2])).toBe(value);
        // The older parser: the last field of the line, whatever spaces the label holds.
        expect(lines[2]!.split(/\s+/).at(-1)).toBe(String(value));
      }),
    );
  });

  it('escapes backslash, quote and newline, and nothing else', () => {
    expect(escapeLabelValue('a\\b"c\nd é')).toBe('a\\\\b\\"c\\nd é');
  });
});

describe('POST and DELETE /monitor/{namespace}/{deployment}', () => {
  it('answers as AIBrix does, with and without a body', async () => {
    const { app, calls } = await appUnderTest();
    for (const body of [{}, { payload: '' }, { payload: 'x=1', headers: { 'content-type': 'no type at all' } }]) {
      const answer = await app.inject({ method: 'POST', url: '/monitor/default/llama-l4', ...body });
      expect([answer.statusCode, answer.body]).toEqual([200, '{"message":"Deployment optimization already started"}']);
    }
    expect(calls).toEqual(Array.from({ length: 3 }, () => ['follow', 'default', 'llama-l4']));
  });

  it('tells an unknown deployment with 404', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject({ method: 'POST', url: '/monitor/default/other' });
    expect([answer.statusCode, answer.json()]).toEqual([
      404,
      { error: 'Error starting deployment optimization: no deployment default/other is followed' },
    ]);
  });

  it('stops following, and stopping what is not followed hangs nothing and answers the same', async () => {
    const { app, calls } = await appUnderTest();
    for (const name of ['llama-l4', 'never-seen', 'never-seen']) {
      const answer = await app.inject({ method: 'DELETE', url: `/monitor/default/${name}` });
      expect([answer.statusCode, answer.body]).toEqual([200, '{"message":"Deployment optimization stopped"}']);
    }
    expect((await app.inject('/metrics/default/llama-l4')).statusCode).toBe(200);
    expect(calls).toHaveLength(3);
  });
});

describe('GET /update_profile/{model}', () => {
  it('takes a model name with a slash, percent-encoded', async () => {
    const { app, calls } = await appUnderTest({ state: { models: [modelView({ name: 'meta-llama/Llama-3' })] } });
    const answer = await app.inject('/update_profile/meta-llama%2FLlama-3');
    expect([answer.statusCode, answer.json()]).toEqual([
      200,
      { message: 'workload profile of meta-llama/Llama-3 updated' },
    ]);
    expect(calls).toEqual([['refreshProfiles', 'meta-llama/Llama-3']]);
  });

  it('has the errors of AIBrix', async () => {
    const { app, commands } = await appUnderTest();
    const unknown = await app.inject('/update_profile/nope');
    expect([unknown.statusCode, unknown.json()]).toEqual([404, { error: 'nope not monitored' }]);
    Object.assign(commands, { refreshProfiles: async () => 'failed' });
    const failed = await app.inject('/update_profile/llama');
    expect([failed.statusCode, failed.json()]).toEqual([500, { error: 'failed to update workload profile of llama' }]);
  });
});

describe('PUT /scale/{namespace}/{deployment}', () => {
  const put = (payload: string, headers: Record<string, string> = {}) => ({
    method: 'PUT' as const,
    url: '/scale/default/llama-l4',
    payload,
    headers,
  });

  it.each([
    ['{"replicas": 3}', 3],
    ['{"replicas": "3"}', 3],
    ['{"replicas": " 4 "}', 4],
    ['{"replicas": 0}', 0],
    ['{"replicas": 3.0}', 3],
  ])('fixes whole replicas: %s', async (payload, replicas) => {
    const { app, calls } = await appUnderTest();
    const answer = await app.inject(put(payload));
    expect([answer.statusCode, answer.body]).toEqual([200, `{"message":"Scaled to ${replicas}"}`]);
    expect(calls).toEqual([['fixReplicas', 'default', 'llama-l4', replicas, null]]);
  });

  it.each(['{"replicas": -1}', '{"replicas": "-1"}', '{"replicas": -250}', '{}'])('clears: %s', async (payload) => {
    const { app, calls } = await appUnderTest();
    const answer = await app.inject(put(payload));
    expect([answer.statusCode, answer.body]).toEqual([
      200,
      '{"message":"Scaled to -1","cleared":["default/llama-l4"]}',
    ]);
    expect(calls).toEqual([['clearFixed', 'default', 'llama-l4']]);
  });

  it('refuses an encoded body as what it is', async () => {
    const { app, calls } = await appUnderTest();
    const headers = { 'content-encoding': 'gzip' };
    const answer = await app.inject({ ...put('{"replicas": 3}'), headers });
    expect([answer.statusCode, answer.json()]).toEqual([
      415,
      {
        error:
          'Error starting deployment optimization: Content-Encoding: found "gzip", expected none: bodies are plain JSON',
      },
    ]);
    expect(calls).toEqual([]);
  });

  it('takes a time to live', async () => {
    const { app, calls } = await appUnderTest();
    expect((await app.inject(put('{"replicas": 3, "ttlSeconds": 900}'))).statusCode).toBe(200);
    expect(calls).toEqual([['fixReplicas', 'default', 'llama-l4', 3, 900]]);
  });

  it.each([
    ['application/x-www-form-urlencoded'],
    ['text/plain'],
    ['application/json; charset=nonsense'],
    ['no type at all'],
    ['application/problem+json'],
  ])('reads the body as JSON whatever its Content-Type says: %s', async (type) => {
    const { app } = await appUnderTest();
    expect((await app.inject(put('{"replicas": 3}', { 'content-type': type }))).statusCode).toBe(200);
  });

  it('reads a body that curl -d sends, and one without any Content-Type, over a real connection', async () => {
    const { app, calls } = await appUnderTest();
    const base = await app.listen({ host: '127.0.0.1', port: 0 });
    for (const headers of [{ 'content-type': 'application/x-www-form-urlencoded' }, {}]) {
      const status = await new Promise<number | undefined>((resolve, reject) => {
        const request = httpRequest(`${base}/scale/default/llama-l4`, { method: 'PUT', headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        request.on('error', reject);
        request.end('{"replicas": 3}');
      });
      expect(status).toBe(200);
    }
    expect(calls).toHaveLength(2);
  });

  it.each([
    ['{"replicas": null}', 'null'],
    ['{"replicas": "many"}', '"many"'],
    ['{"replicas": "3.5"}', '"3.5"'],
    ['{"replicas": 3.5}', '3.5'],
    ['{"replicas": true}', 'true'],
    ['{"replicas": [3]}', '[3]'],
    ['{"replicas": {}}', '{}'],
    ['{"replicas": 1e400}', 'Infinity'],
    ['{"replicas": 10001}', '10001'],
    ['{"replicas": "99999999999999999999"}', '"99999999999999999999"'],
    ['[3]', 'an object'],
    ['3', 'an object'],
    ['null', 'an object'],
    ['{"replicas": NaN}', 'NaN'],
    ['{"replicas"', 'the end of the text'],
    ['', 'nothing'],
    ['replicas=3', 'replicas'],
    ['{"replica": 3}', 'did you mean "replicas"'],
    ['{"replicas": 3, "ttlSeconds": 0}', 'ttlSeconds'],
    ['{"replicas": 3, "ttlSeconds": 0.5}', 'found 0.5, expected a number >= 1'],
    ['{"replicas": 3, "ttlSeconds": "1h"}', '"1h"'],
    ['{"replicas": -1, "ttlSeconds": 5}', 'ttlSeconds'],
  ])('a body that is not a number of replicas is a clear 400, not a crash: %s', async (payload, named) => {
    const { app, calls } = await appUnderTest();
    const answer = await app.inject(put(payload));
    const { error } = answer.json<{ error: string }>();
    expect(answer.statusCode).toBe(400);
    expect(error).toMatch(/^Error starting deployment optimization: body/);
    expect(error).toContain(named);
    expect(calls).toEqual([]);
  });

  it('tells an unknown deployment with 404 for fixing and for clearing', async () => {
    const { app } = await appUnderTest();
    for (const replicas of [3, -1]) {
      const answer = await app.inject({ method: 'PUT', url: '/scale/default/other', payload: { replicas } });
      expect(answer.statusCode).toBe(404);
      expect(answer.json<{ error: string }>().error).toContain('default/other');
    }
  });

  it('parses every JSON value to whole replicas or to an InputError', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.string(),
          fc.jsonValue().map((v) => JSON.stringify({ replicas: v })),
        ),
        (text) => {
          try {
            const { replicas } = parseScaleBody(text);
            expect(Number.isInteger(replicas)).toBe(true);
            expect(replicas).toBeGreaterThanOrEqual(-1);
            expect(replicas).toBeLessThanOrEqual(10_000);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
    );
  });
});

function unescaped(text: string): string {
  return text.replace(/\\([\\"n])/g, (_whole, letter: string) => (letter === 'n' ? '\n' : letter));
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
