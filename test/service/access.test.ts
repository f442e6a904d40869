import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/input-error.js';
import type { TokenAuthority } from '../../src/core/ports.js';
import { accessOf, isLoopbackHost } from '../../src/service/access.js';
import { loadConfig } from '../../src/service/config-layers.js';

const working = `redis: { url: redis://127.0.0.1:6379/0 }
deployments: { source: config, list: [ { name: a, model: m } ] }
`;
const load = (server: string, environment: Readonly<Record<string, string>> = {}) =>
  loadConfig({ file: { name: 'gpumix.yaml', text: `${working}server: ${server}\n` }, environment }).config;
const authority: TokenAuthority = { judge: async () => ({ kind: 'unknown-token' }) };

describe('an address to listen on', () => {
  it.each([
    ['127.0.0.1', true],
    ['127.9.9.9', true],
    ['::1', true],
    ['0:0:0:0:0:0:0:1', true],
    ['::ffff:127.0.0.1', true],
    ['::ffff:7f00:1', true],
    ['localhost', true],
    ['0.0.0.0', false],
    ['::', false],
    ['::ffff:0.0.0.0', false],
    ['10.0.0.1', false],
    ['128.0.0.1', false],
    ['::ffff:10.0.0.1', false],
    ['fe80::1', false],
    ['no-such-host.invalid', false],
  ])('%s is loopback: %s', async (host, isLoopback) => {
    expect(await isLoopbackHost(host)).toBe(isLoopback);
  });
});

describe('who may use the routes that change something', () => {
  const callers = async (server: string, tokens: TokenAuthority | null = null) =>
    (await accessOf(load(server), tokens)).access.callers.kind;

  it('is everybody on this machine, where nobody else reaches it', async () => {
    expect(await callers('{}')).toBe('everybody');
    expect((await accessOf(load('{}'), null)).warning).toBeNull();
  });

  it('is nobody where others reach it and nothing says who, and the start says how to allow', async () => {
    const { access, warning } = await accessOf(load('{ host: 0.0.0.0 }'), null);
    expect(access.callers.kind).toBe('nobody');
    expect(warning).toMatch(/PUT \/scale.* are refused until server\.tokenFile \(GPUMIX_TOKEN_FILE\)/);
  });

  it('is nobody for the zero-configuration drop-in inside a cluster', async () => {
    const { config } = loadConfig({ file: null, environment: { KUBERNETES_SERVICE_HOST: '10.0.0.1' } });
    expect((await accessOf(config, null)).access.callers.kind).toBe('nobody');
    const environment = { KUBERNETES_SERVICE_HOST: '10.0.0.1', GPUMIX_ALLOW_UNAUTHENTICATED: 'true' };
    const allowed = await accessOf(loadConfig({ file: null, environment }).config, null);
    expect(allowed.access.callers.kind).toBe('everybody');
    expect(allowed.warning).toContain('whoever reaches the port may fix replicas');
  });

  it('is the bearers of tokens wherever there are any, on loopback too', async () => {
    for (const host of ['127.0.0.1', '0.0.0.0']) {
      expect(await callers(`{ host: ${host} }`, authority)).toBe('token-bearers');
    }
  });

  it.each([
    ['{ tokenFile: t, tokenReview: {} }', 'server.tokenReview: .*expected null, because server.tokenFile says who may'],
    ['{ tokenFile: t, allowUnauthenticated: true }', 'server.allowUnauthenticated: .*because server.tokenFile says'],
    [
      '{ tokenReview: {}, allowUnauthenticated: true }',
      'server.allowUnauthenticated: .*because server.tokenReview says',
    ],
    ['{ tokenReview: { audiences: [] } }', 'server.tokenReview.audiences'],
    ['{ tokenreview: {} }', 'did you mean "tokenReview"'],
    ["{ allowedHosts: ['gpumix.example.com:8080'] }", 'a host name, without port'],
  ])('is not said by %s', (server, message) => {
    expect(() => load(server)).toThrow(InputError);
    expect(() => load(server)).toThrow(new RegExp(message));
  });
});

describe('the rest of the rules', () => {
  it('are names on loopback, or where any is configured, and limits where others reach the service', async () => {
    const of = async (server: string) => (await accessOf(load(server), null)).access;
    expect([...((await of("{ allowedHosts: ['Gpumix.Example.com'] }")).hosts ?? [])]).toContain('gpumix.example.com');
    expect(await of('{}')).toMatchObject({ requestsPerMinute: null, hosts: expect.any(Set) });
    expect(await of('{ host: 0.0.0.0 }')).toMatchObject({ requestsPerMinute: 600, hosts: null });
    expect((await of('{ host: 0.0.0.0, allowedHosts: [a.b] }')).hosts).toEqual(new Set(['a.b']));
  });
});
