import { connect } from 'node:net';
import fc from 'fast-check';
import type { InjectOptions } from 'fastify';
import { describe, expect, it } from 'vitest';
import { type AppUnderTest, appUnderTest } from '../../support/http-app.js';

const forbidden = 'vllm:deployment_replicas';

/** Pieces that have broken HTTP services before, and anything at all. */
const hostile = fc.oneof(
  fc.constantFrom(
    forbidden,
    '..',
    '%2e%2e',
    '%00',
    '%0a',
    '%zz',
    '%',
    '%F0%9F',
    '*',
    ':',
    '__proto__',
    'constructor',
    'toString',
    '{}',
    '',
    ' ',
    'llama',
    'default',
    'meta-llama%2FLlama-3',
  ),
  fc.string({ unit: 'binary', maxLength: 40 }).map((text) => {
    try {
      return encodeURIComponent(text);
    } catch {
      return '%ED%A0%80';
    }
  }),
  fc.webPath().map((path) => path.replaceAll('/', '')),
);
const templates = [
  (a: string, b: string) => `/metrics/${a}/${b}`,
  (a: string, b: string) => `/monitor/${a}/${b}`,
  (a: string, b: string) => `/scale/${a}/${b}`,
  (a: string, b: string) => `/api/v1/replicas/${a}/${b}`,
  (a: string, b: string) => `/api/v1/models/${a}?${b}`,
  (a: string, b: string) => `/api/v1/routing/${a}#${b}`,
  (a: string, b: string) => `/api/v1/plan?model=${a}&${b}`,
  (a: string, b: string) => `/api/v1/history?since=${a}&limit=${b}`,
  (a: string, b: string) => `/update_profile/${a}${b}`,
  (a: string, b: string) => `/${a}/${b}`,
];

async function expectCivil(under: AppUnderTest, request: InjectOptions): Promise<void> {
  const answer = await under.app.inject(request);
  expect(answer.statusCode).toBeLessThan(500);
  if (answer.statusCode < 400) return;
  expect(answer.body).not.toContain(forbidden);
  if (answer.body !== '') {
    const { error } = answer.json<{ error: string | { code: string; message: string } }>();
    expect(typeof error === 'string' ? error : error.message).toBeTruthy();
  }
}

/** What was logged as wrong: that somebody asked for a change is told, and is no fault. */
function faultsIn({ log }: AppUnderTest): readonly string[] {
  return log.filter((line) => JSON.parse(line).level !== 'info');
}

describe('hostile requests', () => {
  it('any URL is answered without a 5xx, and no error names the metric', async () => {
    const under = await appUnderTest();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('GET', 'HEAD', 'POST', 'DELETE', 'PUT', 'PATCH', 'OPTIONS'),
        fc.constantFrom(...templates),
        hostile,
        hostile,
        async (method, template, a, b) => expectCivil(under, { method: method as 'GET', url: template(a, b) }),
      ),
      { numRuns: 400 },
    );
    expect(faultsIn(under)).toEqual([]);
  });

  it('any body is answered without a 5xx, and no error names the metric', async () => {
    const under = await appUnderTest();
    const body = fc.oneof(
      fc.json(),
      fc.string(),
      fc.jsonValue().map((value) => JSON.stringify({ replicas: value, [forbidden]: forbidden })),
      fc
        .jsonValue()
        .map((value) =>
          JSON.stringify({ apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: value, [forbidden]: 1 }),
        ),
      fc.jsonValue().map((value) =>
        JSON.stringify({
          apiVersion: 'gpumix/v1',
          kind: 'PlanningProblem',
          models: [{ name: forbidden, demand: value }],
        }),
      ),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(
          ['PUT', '/scale/default/llama-l4'],
          ['POST', '/api/v1/plan'],
          ['POST', '/monitor/default/llama-l4'],
          ['DELETE', '/monitor/default/llama-l4'],
        ),
        body,
        fc.constantFrom(undefined, 'application/json', 'text/html', 'a b c', ''),
        async ([method, url], payload, type) =>
          expectCivil(under, {
            method: method as 'PUT',
            url: url!,
            payload,
            ...(type === undefined ? {} : { headers: { 'content-type': type } }),
          }),
      ),
      { numRuns: 400 },
    );
    expect(faultsIn(under)).toEqual([]);
  });

  it.each([
    ['nested 100,000 deep', `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['nested 100,000 deep inside a key', `{"models":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['a key of 1 MB', `{"${'k'.repeat(1_000_000)}":1}`],
    ['100,000 unknown keys', `{${Array.from({ length: 100_000 }, (_, i) => `"k${i}":1`).join(',')}}`],
    ['__proto__', '{"__proto__":{"models":[]},"models":[]}'],
    ['100,000 faults', `{"apiVersion":"gpumix/v1","kind":"PlanningProblem","models":[${'1,'.repeat(99_999)}1]}`],
  ])('a problem that is %s is a 400 with a short message', async (_name, payload) => {
    const { app, log } = await appUnderTest();
    const answer = await app.inject({ method: 'POST', url: '/api/v1/plan', payload });
    expect(answer.statusCode).toBe(400);
    expect(answer.body.length).toBeLessThan(20_000);
    expect(log).toEqual([]);
  });

  it.each([
    ['/metrics/default/', 404],
    ['/update_profile/', 404],
    ['/api/v1/models/', 404],
    ['/api/v1/replicas/default/', 404],
  ])('a name of 10 kB at %s is a %i with a short message', async (prefix, status) => {
    const { app } = await appUnderTest();
    const answer = await app.inject(`${prefix}${'x'.repeat(10_000)}`);
    expect(answer.statusCode).toBe(status);
    expect(answer.body.length).toBeLessThan(1000);
  });

  it('a name longer than any name may be is a 414', async () => {
    const { app } = await appUnderTest();
    const answer = await app.inject(`/api/v1/models/${'x'.repeat(13_000)}`);
    expect(answer.statusCode).toBe(414);
    expect(answer.json()).toEqual({
      error: { code: 'name_too_long', message: 'a name in the URL is longer than any name may be' },
    });
  });

  it.each([
    ['headers beyond 16 kB', `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431, 'headers_too_large'],
    ['something that is not HTTP', `${forbidden}\r\n\r\n`, 400, 'bad_request'],
    [
      'a chunked body with a bad length',
      'POST /api/v1/plan HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      400,
      'bad_request',
    ],
  ])('%s over a real connection is refused, and the service goes on', async (_name, text, status, code) => {
    const { app } = await appUnderTest();
    await app.listen({ host: '127.0.0.1', port: 0 });
    const address = app.server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    const answer = await new Promise<string>((resolve, reject) => {
      let received = '';
      const socket = connect(address.port, '127.0.0.1', () => socket.write(text));
      socket.on('data', (chunk) => {
        received += chunk;
      });
      socket.on('close', () => resolve(received));
      socket.on('error', reject);
    });
    expect(answer.startsWith(`HTTP/1.1 ${status} `), answer).toBe(true);
    expect(answer).toContain(`"code":"${code}"`);
    expect(answer).not.toContain(forbidden);
    expect((await app.inject('/healthz')).statusCode).toBe(200);
  });
});
