import { connect } from 'node:net';
import type { InjectOptions } from 'fastify';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type TokenAuthority, Unavailable, type Wish } from '../../../src/core/ports.js';
import { type Access, guardedRoutes, loopbackAccess } from '../../../src/service/access.js';
import { type AppUnderTest, appUnderTest } from '../../support/http-app.js';

/** What stands before the routes: names, origins, tokens, limits; and the ways around it that there are not. */

const good = 'good-token-0123456789';
const guarded: readonly [method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE', url: string][] = [
  ['PUT', '/scale/default/llama-l4'],
  ['POST', '/monitor/default/llama-l4'],
  ['DELETE', '/monitor/default/llama-l4'],
  ['GET', '/update_profile/llama'],
  ['HEAD', '/update_profile/llama'],
  ['POST', '/api/v1/plan'],
  ['GET', '/api/v1/explain'],
  ['HEAD', '/api/v1/explain'],
];
const open = [
  '/',
  '/healthz',
  '/readyz',
  '/metrics',
  '/metrics/default/llama-l4',
  '/api/v1/models',
  '/api/v1/models/llama',
  '/api/v1/problem',
  '/api/v1/plan',
  '/api/v1/routing/llama',
  '/api/v1/history',
  '/api/v1/replicas/default/llama-l4',
  '/openapi.json',
  '/docs/',
];

/** Knows one token, and remembers what was asked for. */
function authorityOf(judge: TokenAuthority['judge'] = async () => ({ kind: 'allowed', user: 'ann' })) {
  const wishes: Wish[] = [];
  const authority: TokenAuthority = {
    judge: async (token, wish) => {
      wishes.push(wish);
      return token === good ? judge(token, wish) : { kind: 'unknown-token' };
    },
  };
  return { authority, wishes };
}

const bearers = (authority: TokenAuthority): Access => ({
  callers: { kind: 'token-bearers', authority },
  hosts: null,
  requestsPerMinute: null,
});
const nobody: Access = { callers: { kind: 'nobody' }, hosts: null, requestsPerMinute: null };
const withAccess = (access: Access) => appUnderTest({ app: { access } });
const authorization = `Bearer ${good}`;

/** What the routes were asked to do, of which nothing may reach the commands when it was refused. */
const refused = (under: AppUnderTest) => expect(under.calls).toEqual([]);

describe('what changes or computes something', () => {
  it.each(guarded)(
    '%s %s is refused where nothing says who may, with a sentence that says how',
    async (method, url) => {
      const under = await withAccess(nobody);
      const answer = await under.app.inject({ method, url, payload: method === 'PUT' ? { replicas: 3 } : undefined });
      expect(answer.statusCode).toBe(401);
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="gpumix"');
      if (method !== 'HEAD') {
        const { error } = answer.json<{ error: string | { code: string; message: string } }>();
        const isAibrix = !url.startsWith('/api');
        expect(typeof error).toBe(isAibrix ? 'string' : 'object');
        expect(typeof error === 'string' ? error : error.message).toMatch(/GPUMIX_TOKEN_FILE.*allowUnauthenticated/);
      }
      refused(under);
    },
  );

  it.each(guarded)('%s %s is done for a token that may, and for no other', async (method, url) => {
    const under = await withAccess(bearers(authorityOf().authority));
    const payload =
      method === 'PUT' ? { replicas: 3 } : { apiVersion: 'gpumix/v1', kind: 'PlanningProblem', models: [] };
    const ask = (headers: Record<string, string>) =>
      under.app.inject({ method, url, headers, ...(method === 'GET' || method === 'HEAD' ? {} : { payload }) });
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: `Basic ${good}` }]) {
      expect((await ask(headers as Record<string, string>)).statusCode).toBe(401);
    }
    refused(under);
    expect((await ask({ authorization })).statusCode).toBe(200);
    expect(under.calls).toHaveLength(1);
  });

  it('is told in the one sentence about it, each route of it', async () => {
    const { app } = await appUnderTest();
    const { paths } = (await app.inject('/openapi.json')).json<{
      paths: Record<string, Record<string, { security?: unknown }>>;
    }>();
    const withToken = Object.entries(paths).flatMap(([path, operations]) =>
      Object.entries(operations)
        .filter(([, { security }]) => security !== undefined)
        .map(([method]) => `${method.toUpperCase()} ${path.replace(/\/\{.*/, '')}`),
    );
    expect(withToken.sort()).toEqual(
      [
        'PUT /scale',
        'POST /monitor',
        'DELETE /monitor',
        'GET /update_profile',
        'POST /api/v1/plan',
        'GET /api/v1/explain',
      ].sort(),
    );
    for (const route of withToken) for (const word of route.split(' ')) expect(guardedRoutes).toContain(word);
  });

  it('is logged with who asked, and what computes is not', async () => {
    const under = await withAccess(bearers(authorityOf().authority));
    await under.app.inject({
      method: 'PUT',
      url: '/scale/default/llama-l4',
      payload: '{"replicas":1}',
      headers: { authorization },
    });
    await under.app.inject({ url: '/api/v1/explain', headers: { authorization } });
    expect(under.log).toHaveLength(1);
    expect(JSON.parse(under.log[0]!)).toMatchObject({
      msg: 'PUT /scale/default/llama-l4 (replicas 1) asked for by ann: done',
      user: 'ann',
      address: '127.0.0.1',
    });
    expect(under.log[0]).not.toContain(good);
  });

  it.each([
    [
      'PUT',
      '/scale/default/llama-l4',
      '{"replicas":3,"ttlSeconds":5}',
      '(replicas 3, ttlSeconds 5) asked for by ann: done',
    ],
    ['PUT', '/scale/default/llama-l4', '{"replicas":"-7"}', '(replicas -1) asked for by ann: done'],
    ['PUT', '/scale/default/nobody', '{"replicas":3}', '(replicas 3) asked for by ann: refused with 404'],
    ['PUT', '/scale/default/llama-l4', `{"replicas":"${good}"}`, 'asked for by ann: refused with 400'],
    ['PUT', '/scale/default/llama-l4', ' '.repeat(70_000), 'asked for by ann: refused with 413'],
    ['DELETE', '/monitor/default/llama-l4', undefined, 'asked for by ann: done'],
    ['GET', '/update_profile/nobody', undefined, 'asked for by ann: refused with 404'],
  ] as const)(
    '%s %s %.40s is logged once, with what was asked and what came of it',
    async (method, url, payload, rest) => {
      const under = await withAccess(bearers(authorityOf().authority));
      const answer = await under.app.inject({ method, url, headers: { authorization }, ...(payload && { payload }) });
      expect(under.log).toHaveLength(1);
      expect(JSON.parse(under.log[0]!)).toMatchObject({ msg: `${method} ${url} ${rest}`, status: answer.statusCode });
      expect(under.log[0]).not.toContain(good);
    },
  );

  it('is logged as numbers that a program finds, too', async () => {
    const under = await withAccess(bearers(authorityOf().authority));
    const payload = '{"replicas":3,"ttlSeconds":5}';
    await under.app.inject({ method: 'PUT', url: '/scale/default/llama-l4', payload, headers: { authorization } });
    expect(JSON.parse(under.log[0]!)).toMatchObject({ replicas: 3, ttlSeconds: 5, status: 200 });
  });

  it('is not blamed on the deployment where the token is: the text is about the token alone', async () => {
    const { authority } = authorityOf(async () => ({ kind: 'forbidden', user: 'ann', reason: 'no role' }));
    const { app } = await withAccess(bearers(authority));
    const ask = async (headers: Readonly<Record<string, string>>) =>
      (await app.inject({ method: 'PUT', url: '/scale/default/llama-l4', payload: '{"replicas":3}', headers })).json();
    expect(await ask({ authorization: 'Bearer other-token-0123456789' })).toEqual({
      error: 'this token is not known, or not any more',
    });
    expect(await ask({ authorization })).toEqual({ error: 'ann may not do this: no role' });
    expect(await ask({})).toEqual({ error: 'this route needs a header Authorization: Bearer TOKEN' });
  });
});

describe('what was decided', () => {
  it.each(open)('%s is read without a token, wherever the service listens', async (url) => {
    const { app } = await withAccess(nobody);
    expect((await app.inject(url)).statusCode).toBe(200);
  });
});

describe('a token', () => {
  it('is judged by one path for each thing, however its URL was spelt', async () => {
    const { authority, wishes } = authorityOf();
    const { app } = await withAccess(bearers(authority));
    const urls = [
      '/scale/default/llama-l4',
      '/scale/default/llama-l4?x=1',
      '/scale/def%61ult/llama%2Dl4',
      '/%73cale/default/llama-l4',
      'http://elsewhere/scale/default/llama-l4',
    ];
    for (const url of urls) {
      const answer = await app.inject({ method: 'PUT', url, headers: { authorization }, payload: '{"replicas":1}' });
      expect([url, answer.statusCode]).toEqual([url, 200]);
    }
    expect(wishes).toEqual(urls.map(() => ({ verb: 'put', path: '/scale/default/llama-l4' })));
  });

  it('for one namespace is not one for another by a slash in a name', async () => {
    const { authority, wishes } = authorityOf();
    const { app } = await withAccess(bearers(authority));
    const url = '/scale/team-a%2F..%2Fteam-b/llama-l4';
    await app.inject({ method: 'PUT', url, headers: { authorization }, payload: '{"replicas":1}' });
    expect(wishes).toEqual([{ verb: 'put', path: '/scale/team-a%2F..%2Fteam-b/llama-l4' }]);
  });

  it('whose bearer may not is told so with 403, in the shape of the route', async () => {
    const { authority } = authorityOf(async () => ({ kind: 'forbidden', user: 'bob', reason: 'no role' }));
    const under = await withAccess(bearers(authority));
    const scale = await under.app.inject({ method: 'PUT', url: '/scale/default/llama-l4', headers: { authorization } });
    expect([scale.statusCode, scale.json()]).toEqual([403, { error: 'bob may not do this: no role' }]);
    expect(scale.headers['www-authenticate']).toBe('Bearer realm="gpumix", error="insufficient_scope"');
    const explain = await under.app.inject({ url: '/api/v1/explain', headers: { authorization } });
    expect(explain.json()).toEqual({ error: { code: 'forbidden', message: 'bob may not do this: no role' } });
    refused(under);
  });

  it('that nobody can check is answered 503, logged once, and never let through', async () => {
    const { authority } = authorityOf(async () => {
      throw new Unavailable('kubernetes_unreachable', 'no answer within 5 s');
    });
    const under = await withAccess(bearers(authority));
    for (let times = 0; times < 3; times++) {
      const answer = await under.app.inject({
        method: 'DELETE',
        url: '/monitor/default/llama-l4',
        headers: { authorization },
      });
      expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, '5']);
    }
    expect(under.log).toHaveLength(1);
    refused(under);
  });

  it('check that breaks is a 500, and never let through', async () => {
    const { authority } = authorityOf(async () => {
      throw new TypeError('a bug');
    });
    const under = await withAccess(bearers(authority));
    const answer = await under.app.inject({
      method: 'PUT',
      url: '/scale/default/llama-l4',
      headers: { authorization },
    });
    expect(answer.statusCode).toBe(500);
    refused(under);
  });
});

describe('ways around a token', () => {
  const attempts: readonly [string, InjectOptions][] = [
    ['a slash at the end', { method: 'PUT', url: '/scale/default/llama-l4/' }],
    ['two slashes', { method: 'PUT', url: '//scale/default/llama-l4' }],
    ['capitals', { method: 'PUT', url: '/SCALE/default/llama-l4' }],
    ['a percent-encoded path', { method: 'PUT', url: '/%73%63ale/default/llama-l4' }],
    ['dots', { method: 'PUT', url: '/healthz/../scale/default/llama-l4' }],
    ['the documentation', { method: 'PUT', url: '/docs/../scale/default/llama-l4' }],
    ['the documentation, read', { method: 'GET', url: '/docs/../update_profile/llama' }],
    ['an absolute URL', { method: 'PUT', url: 'http://localhost/scale/default/llama-l4' }],
    ['a semicolon', { method: 'PUT', url: '/scale/default/llama-l4;x=/healthz' }],
    ['HEAD', { method: 'HEAD', url: '/update_profile/llama' }],
    ['OPTIONS', { method: 'OPTIONS', url: '/scale/default/llama-l4' }],
    [
      'a method in a header',
      { method: 'GET', url: '/scale/default/llama-l4', headers: { 'x-http-method-override': 'PUT' } },
    ],
    ['a method in a query', { method: 'POST', url: '/scale/default/llama-l4?_method=PUT' }],
    ['a token in the query', { method: 'PUT', url: `/scale/default/llama-l4?access_token=${good}` }],
    [
      'a token in a cookie',
      { method: 'PUT', url: '/scale/default/llama-l4', headers: { cookie: `authorization=${good}` } },
    ],
    [
      'an address in a header',
      {
        method: 'PUT',
        url: '/scale/default/llama-l4',
        headers: { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1', 'x-real-ip': '127.0.0.1' },
      },
    ],
    [
      'a path in a header',
      {
        method: 'PUT',
        url: '/scale/default/llama-l4',
        headers: { 'x-original-url': '/healthz', 'x-rewrite-url': '/healthz' },
      },
    ],
    [
      'a user in a header',
      {
        method: 'PUT',
        url: '/scale/default/llama-l4',
        headers: { 'x-remote-user': 'admin', 'x-remote-group': 'system:masters' },
      },
    ],
    [
      'the token of a proxy',
      { method: 'PUT', url: '/scale/default/llama-l4', headers: { 'proxy-authorization': authorization } },
    ],
    ['a content type', { method: 'PUT', url: '/scale/default/llama-l4', headers: { 'content-type': 'a b c' } }],
  ];

  it.each(attempts)('%s is none', async (_, request) => {
    const under = await withAccess(bearers(authorityOf().authority));
    const answer = await under.app.inject({
      payload: request.method === 'PUT' ? '{"replicas":9}' : undefined,
      ...request,
    });
    expect([401, 404], answer.body).toContain(answer.statusCode);
    expect(answer.headers['access-control-allow-origin']).toBeUndefined();
    refused(under);
  });

  it.each([
    ['two headers, the first of which is right', `Authorization: ${authorization}\r\nauthorization: Bearer x\r\n`],
    ['a tab before the token', `Authorization: Bearer\t${good}\r\n`],
    ['a space before the colon', `Authorization : ${authorization}\r\n`],
    ['a token of 8,193 characters', `Authorization: Bearer ${'a'.repeat(8193)}\r\n`],
    ['two lengths', `Content-Length: 0\r\nTransfer-Encoding: chunked\r\n`],
    ['two hosts', `Host: other\r\nAuthorization: ${authorization}\r\n`],
  ])('%s over a real connection is none', async (_, headers) => {
    const under = await withAccess(bearers(authorityOf().authority));
    const answer = await raw(
      under,
      `PUT /scale/default/llama-l4 HTTP/1.1\r\nHost: localhost\r\n${headers}Connection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 4(00|01) /);
    refused(under);
  });

  it.each(['Bearer', 'bearer', 'BEARER'])('the scheme may be written %s', async (scheme) => {
    const under = await withAccess(bearers(authorityOf().authority));
    const answer = await raw(
      under,
      `DELETE /monitor/default/llama-l4 HTTP/1.1\r\nHost: localhost\r\nAuthorization:   ${scheme}  ${good}  \r\nConnection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(under.calls).toHaveLength(1);
  });
});

async function raw({ app }: AppUnderTest, text: string): Promise<string> {
  if (!app.server.listening) await app.listen({ host: '127.0.0.1', port: 0 });
  const address = app.server.address();
  if (address === null || typeof address === 'string') throw new Error('no address');
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect(address.port, '127.0.0.1', () => socket.write(text));
    socket.on('data', (chunk) => {
      received += chunk;
    });
    socket.on('close', () => resolve(received));
    socket.on('error', reject);
  });
}

describe('a page in a browser', () => {
  it.each<[string, Record<string, string>, number]>([
    ['of this service', { 'sec-fetch-site': 'same-origin', origin: 'http://localhost:8080' }, 200],
    ['of this service, in an older browser', { origin: 'http://localhost:8080' }, 200],
    ['of this service behind a proxy that ends TLS', { origin: 'https://localhost:8080' }, 200],
    ['that is none: an address typed in', { 'sec-fetch-site': 'none' }, 200],
    ['on another port of this machine', { 'sec-fetch-site': 'same-site', origin: 'http://localhost:3000' }, 403],
    ['of another site', { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }, 403],
    ['of another site, that sends no origin', { 'sec-fetch-site': 'cross-site' }, 403],
    ['of another site, in an older browser', { origin: 'https://evil.example' }, 403],
    ['in a sandbox', { origin: 'null' }, 403],
    ['of a file', { origin: 'file://' }, 403],
    ['of a name that ends as ours', { origin: 'http://localhost:8080.evil.example' }, 403],
    ['of a name that begins as ours', { origin: 'http://localhost:8080@evil.example' }, 403],
    ['that says two things', { 'sec-fetch-site': 'same-origin, cross-site' }, 403],
  ])('%s', async (_, headers, status) => {
    const under = await appUnderTest();
    const answer = await under.app.inject({
      method: 'POST',
      url: '/monitor/default/llama-l4',
      headers: { host: 'localhost:8080', ...headers },
    });
    expect(answer.statusCode, answer.body).toBe(status);
    expect(under.calls).toHaveLength(status === 200 ? 1 : 0);
  });

  it('of another site reads nothing: no answer names an origin that may', async () => {
    const { app } = await appUnderTest();
    for (const url of open) {
      const { headers } = await app.inject({ url, headers: { host: 'localhost', origin: 'https://evil.example' } });
      expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
    const preflight = { origin: 'https://evil.example', 'access-control-request-method': 'PUT' };
    expect((await app.inject({ method: 'OPTIONS', url: '/scale/a/b', headers: preflight })).statusCode).toBe(404);
  });

  it.each(['/', '/docs/', '/docs/static/index.html', '/docs/static/swagger-initializer.js'])(
    '%s may not be framed, and runs only what this process serves',
    async (url) => {
      const { app } = await appUnderTest();
      const { headers, body } = await app.inject({ url, headers: { accept: 'text/html' } });
      expect(headers['content-security-policy']).toContain("default-src 'none'; script-src 'self';");
      expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
      expect(headers['x-frame-options']).toBe('DENY');
      expect(body).not.toMatch(/<script(?![^>]*\bsrc=)[^>]*>|\son\w+="/);
    },
  );
});

describe('the name that a request asks under', () => {
  const local = { ...loopbackAccess, hosts: new Set(['gpumix.example.com']) };
  it.each<[string, number]>([
    ['localhost:8080', 200],
    ['LOCALHOST', 200],
    ['localhost.', 200],
    ['gpumix.localhost:8080', 200],
    ['127.0.0.1:8080', 200],
    ['[::1]:8080', 200],
    ['[::ffff:127.0.0.1]', 200],
    ['192.168.1.5:8080', 200],
    ['gpumix.example.com', 200],
    ['GPUMIX.example.com:443', 200],
    ['evil.example', 421],
    ['localhost.evil.example', 421],
    ['127.0.0.1.evil.example:8080', 421],
    ['evil.example:80:80', 421],
    ['notlocalhost', 421],
    ['localhost@evil.example', 421],
  ])('on loopback may be %j: %i', async (host, status) => {
    const { app } = await appUnderTest({ app: { access: local } });
    for (const url of ['/api/v1/problem', '/metrics/default/llama-l4']) {
      expect((await app.inject({ url, headers: { host } })).statusCode).toBe(status);
    }
  });

  it('is any where nothing is said and others reach the service', async () => {
    const { app } = await withAccess(nobody);
    expect((await app.inject({ url: '/healthz', headers: { host: 'gpumix.gpu.svc' } })).statusCode).toBe(200);
  });
});

describe('the limit of requests', () => {
  afterEach(() => {
    vi.useRealTimers();
  });
  const limited = (requestsPerMinute: number) => withAccess({ ...nobody, requestsPerMinute });

  it('is of one address and of one kind of route, is told with the time to wait, and ends with its minute', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 0 });
    const { app } = await limited(2);
    const ask = async (method: 'PUT' | 'GET', url: string, remoteAddress: string) => {
      const { statusCode, headers } = await app.inject({ method, url, remoteAddress });
      return [statusCode, headers['retry-after']];
    };
    const scale = (address: string) => ask('PUT', '/scale/default/llama-l4', address);
    expect([await scale('10.0.0.1'), await scale('10.0.0.1')]).toEqual([
      [401, undefined],
      [401, undefined],
    ]);
    vi.setSystemTime(10_000);
    expect(await scale('10.0.0.1')).toEqual([429, '50']);
    expect(await ask('GET', '/update_profile/llama', '10.0.0.1')).toEqual([429, '50']);
    expect(await ask('GET', '/api/v1/problem', '10.0.0.1')).toEqual([200, undefined]);
    expect(await ask('GET', '/api/v1/explain', '10.0.0.1')).toEqual([401, undefined]);
    expect(await scale('10.0.0.2')).toEqual([401, undefined]);
    vi.setSystemTime(60_001);
    expect(await scale('10.0.0.1')).toEqual([401, undefined]);
  });

  it('counts an IPv6 network as one client, and an IPv4 address the same however it is written', async () => {
    const { app } = await limited(1);
    const ask = async (remoteAddress: string) => (await app.inject({ url: '/api/v1/plan', remoteAddress })).statusCode;
    expect([await ask('2001:db8::1'), await ask('2001:db8::2'), await ask('2001:db8:0:1::1')]).toEqual([200, 429, 200]);
    expect([await ask('10.0.0.1'), await ask('::ffff:10.0.0.1')]).toEqual([200, 429]);
  });

  it('is told in the shape of the route, and the guesses of tokens count', async () => {
    const { authority, wishes } = authorityOf();
    const { app } = await appUnderTest({ app: { access: { ...bearers(authority), requestsPerMinute: 1 } } });
    const guess = () => app.inject({ method: 'PUT', url: '/scale/a/b', headers: { authorization: 'Bearer guess' } });
    expect((await guess()).statusCode).toBe(401);
    const second = await guess();
    expect(second.statusCode).toBe(429);
    expect(second.json()).toEqual({
      error: expect.stringMatching(/^more than 1 requests a minute/),
    });
    expect(wishes).toHaveLength(1);
  });

  it('never holds up an autoscaler', async () => {
    const { app } = await limited(1);
    for (const url of ['/metrics/default/llama-l4', '/api/v1/replicas/default/llama-l4', '/readyz', '/healthz']) {
      for (let times = 0; times < 5; times++) expect((await app.inject(url)).statusCode).toBe(200);
    }
  });
});
