import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeRedis, parseRedisUrl, redisSettingsFromEnv } from '../../src/adapters/redis-settings.js';
import { InputError } from '../../src/core/input-error.js';

const plain = { cluster: false, username: null, password: null, database: 0, tls: null, sentinel: null };

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a Redis URL', () => {
  it('has a default port and database', () => {
    expect(parseRedisUrl('redis://redis.default.svc', 'redis.url')).toEqual({
      ...plain,
      nodes: [{ host: 'redis.default.svc', port: 6379 }],
    });
    expect(parseRedisUrl('redis://127.0.0.1:7000/3', 'redis.url')).toEqual({
      ...plain,
      nodes: [{ host: '127.0.0.1', port: 7000 }],
      database: 3,
    });
    expect(parseRedisUrl('redis://[::1]:7000', 'redis.url').nodes).toEqual([{ host: '::1', port: 7000 }]);
  });

  it('decodes user and password', () => {
    expect(parseRedisUrl('redis://g%40us:p%40ss%3A%2Fw%C3%B6rd@h/0', 'redis.url')).toMatchObject({
      username: 'g@us',
      password: 'p@ss:/wörd',
    });
    expect(parseRedisUrl('redis://:secret@h', 'redis.url')).toMatchObject({ username: null, password: 'secret' });
    expect(parseRedisUrl('redis://user@h', 'redis.url')).toMatchObject({ username: 'user', password: null });
    expect(parseRedisUrl('redis://:p@ss@h', 'redis.url')).toMatchObject({ password: 'p@ss' });
  });

  it('decodes any password that was percent-encoded', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (password) => {
        const settings = parseRedisUrl(`rediss://:${encodeURIComponent(password)}@h:1/2`, 'redis.url');
        expect(settings.password).toBe(password);
        expect(settings.nodes).toEqual([{ host: 'h', port: 1 }]);
      }),
    );
  });

  it('asks for TLS with rediss, and for a cluster with several hosts or cluster=true', () => {
    expect(parseRedisUrl('rediss://h', 'redis.url').tls).toEqual({ ca: null, cert: null, key: null });
    expect(parseRedisUrl('redis://a:1,b:2,c', 'redis.url')).toMatchObject({
      cluster: true,
      nodes: [
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
        { host: 'c', port: 6379 },
      ],
    });
    expect(parseRedisUrl('redis://a?cluster=true', 'redis.url').cluster).toBe(true);
    expect(parseRedisUrl('redis://a/?cluster=false', 'redis.url').cluster).toBe(false);
  });

  it.each([
    ['127.0.0.1:6379', '--redis: found "127.0.0.1:6379", expected redis://host:port/database'],
    ['http://h', '--redis: found "http://h", expected redis://host:port/database'],
    ['redis://', '--redis: host: found "", expected host or host:port, with a port of 1 to 65535'],
    ['redis://h:0', '--redis: host: found "h:0", expected host or host:port, with a port of 1 to 65535'],
    ['redis://h:70000', '--redis: host: found "h:70000", expected host or host:port, with a port of 1 to 65535'],
    ['redis://h/prod', '--redis: database: found "prod", expected the number of a database'],
    ['redis://h/-1', '--redis: database: found "-1", expected the number of a database'],
    ['redis://a?cluster=true/1', '--redis: query.cluster: found "true/1", expected true or false'],
    ['redis://a/1?cluster=true', '--redis: database: found 1, expected 0, the only one that a Redis cluster has'],
    [
      'redis://a,b/1',
      '--redis: database: found 1, expected 0, the only one that a Redis cluster has (Sentinels need ?sentinel=NAME)',
    ],
    ['redis://a,b?cluster=false', '--redis: host: found 2 hosts, expected one host, as cluster=false says'],
    [
      'redis://h?clutser=true',
      '--redis: query: found "clutser", expected one of cluster, sentinel, sentinelUsername, sentinelPassword; did you mean "cluster"?',
    ],
    ['redis://h?cluster=yes', '--redis: query.cluster: found "yes", expected true or false'],
    ['redis://h?cluster=true&cluster=true', '--redis: query.cluster: found two values, expected one'],
    [
      'redis://h?sentinel=',
      '--redis: query.sentinel: found "", expected the name of a master (letters, digits, . _ -), as the Sentinels know it',
    ],
    [
      'redis://h?sentinel=my%20master',
      '--redis: query.sentinel: found "my master", expected the name of a master (letters, digits, . _ -), as the Sentinels know it',
    ],
    [
      'redis://h?sentinel=m&cluster=true',
      '--redis: query.cluster: found true, expected nothing beside sentinel: it is one or the other',
    ],
    [
      'redis://h?sentinelPassword=x',
      '--redis: query.sentinelPassword: found a value, expected it beside sentinel=NAME alone',
    ],
    [
      'redis+sentinel://h:26379/mymaster/0',
      '--redis: found "redis+sentinel://h:26379/mymaster/0", expected redis://host:26379,host:26379/database?sentinel=NAME',
    ],
    [
      'redis-sentinel://h?sentinelMasterId=m',
      '--redis: found "redis-sentinel://h?sentinelMasterId=m", expected redis://host:26379,host:26379/database?sentinel=NAME',
    ],
  ])('refuses %s with a sentence', (url, message) => {
    expect(messageOf(() => parseRedisUrl(url, '--redis'))).toBe(message);
  });

  it('never repeats a password, however the URL is wrong', () => {
    const wrong = [
      'http://u:hunter2@h',
      'redis://u:hunter2@',
      'redis://u:hunter2@h:x',
      'redis://u:hunter2%@h',
      'redis://u:a/hunter2@h',
      'redis://u:a?hunter2=1@h',
      'redis://u:a#hunter2@h',
      'redis://u:hunter2@h/db',
      'redis://u:x@h/hunter2',
      'redis://u:x@h?hunter2=1',
      'redis://h?sentinelPassword=hunter2',
      'redis://h?sentinel=m&sentinelPassword=a&hunter2=1',
      'redis://h?sentinel=m&sentinelPassword=hunter2#',
      'redis://h?sentinel=m&sentinelPasword=hunter2#',
      'redis://h?sentinel=m&sentinelPassword=a&sentinelPassword=hunter2',
      'redis+sentinel://h?sentinel_password=hunter2',
    ];
    for (const url of wrong)
      expect(
        messageOf(() => parseRedisUrl(url, '--redis')),
        url,
      ).not.toContain('hunter2');
  });

  it('asks Sentinels for a master with ?sentinel=, on their own port and with their own password', () => {
    expect(parseRedisUrl('redis://g:data@s1,s2:26380,[::1]/3?sentinel=mymaster', 'redis.url')).toEqual({
      ...plain,
      nodes: [
        { host: 's1', port: 26_379 },
        { host: 's2', port: 26_380 },
        { host: '::1', port: 26_379 },
      ],
      username: 'g',
      password: 'data',
      database: 3,
      sentinel: { master: 'mymaster', username: null, password: null },
    });
    expect(
      parseRedisUrl('rediss://s1?sentinel=a.b-c_1&sentinelUsername=u&sentinelPassword=p%2B%26%3D', 'redis.url'),
    ).toMatchObject({
      cluster: false,
      tls: { ca: null },
      password: null,
      sentinel: { master: 'a.b-c_1', username: 'u', password: 'p+&=' },
    });
    expect(parseRedisUrl('redis://s1,s2?cluster=false&sentinel=m', 'redis.url').cluster).toBe(false);
  });

  it('is the same again after it was shown, but for passwords', () => {
    const host = fc.constantFrom('h', 'redis.default.svc', '127.0.0.1', '[::1]');
    const node = fc.tuple(host, fc.option(fc.integer({ min: 1, max: 65_535 }))).map(([name, port]) => {
      return port === null ? name : `${name}:${port}`;
    });
    const name = fc.string({ minLength: 1, maxLength: 12, unit: fc.constantFrom(...'aZ09._-') });
    const secret = fc.string({ unit: 'grapheme', minLength: 1 }).map(encodeURIComponent);
    const parts = { scheme: fc.constantFrom('redis', 'rediss'), nodes: fc.array(node, { minLength: 1, maxLength: 4 }) };
    const secrets = { user: fc.option(secret), password: secret, sentinelUser: secret, sentinelPassword: secret };
    fc.assert(
      fc.property(
        fc.record({ ...parts, ...secrets, database: fc.nat(20), master: name }),
        ({ scheme, nodes, user, password, database, master, sentinelUser, sentinelPassword }) => {
          const query = `sentinel=${master}&sentinelUsername=${sentinelUser}&sentinelPassword=${sentinelPassword}`;
          const url = `${scheme}://${user ?? ''}:${password}@${nodes.join(',')}/${database}?${query}`;
          const settings = parseRedisUrl(url, 'redis.url');
          expect(settings.sentinel).toEqual({
            master,
            username: decodeURIComponent(sentinelUser),
            password: decodeURIComponent(sentinelPassword),
          });
          expect(parseRedisUrl(describeRedis(settings), 'redis.url')).toEqual({
            ...settings,
            password: null,
            sentinel: { master, username: null, password: null },
          });
        },
      ),
    );
  });

  it('either is understood or is an InputError', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map((text) => `redis://${text}`),
          fc.string().map((text) => `redis://h?sentinel=${text}`),
        ),
        (url) => {
          try {
            expect(parseRedisUrl(url, 'redis.url').nodes.length).toBeGreaterThan(0);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
    );
  });
});

describe('the environment of AIBrix', () => {
  it('names host, port and password; the password is verbatim', () => {
    expect(redisSettingsFromEnv({ REDIS_HOST: 'r', REDIS_PORT: '7000', REDIS_PASSWORD: 'p%40@/:' })).toEqual({
      ...plain,
      nodes: [{ host: 'r', port: 7000 }],
      password: 'p%40@/:',
    });
    expect(redisSettingsFromEnv({ REDIS_HOST: 'r', REDIS_PORT: '', REDIS_PASSWORD: '' })).toEqual({
      ...plain,
      nodes: [{ host: 'r', port: 6379 }],
    });
    expect(redisSettingsFromEnv({ REDIS_HOST: 'fd00::7' })?.nodes).toEqual([{ host: 'fd00::7', port: 6379 }]);
  });

  it('says nothing without a host', () => {
    expect(redisSettingsFromEnv({})).toBeNull();
    expect(redisSettingsFromEnv({ REDIS_HOST: ' ', REDIS_PORT: '1' })).toBeNull();
  });

  it('understands the REDIS_PORT that Kubernetes sets beside a Service named redis', () => {
    expect(redisSettingsFromEnv({ REDIS_HOST: 'r', REDIS_PORT: 'tcp://10.0.0.7:6380' })?.nodes).toEqual([
      { host: 'r', port: 6380 },
    ]);
  });

  it('refuses a port or host that is none, by its name', () => {
    expect(messageOf(() => redisSettingsFromEnv({ REDIS_HOST: 'r', REDIS_PORT: 'x' }))).toBe(
      'REDIS_PORT: found "x", expected a port from 1 to 65535',
    );
    expect(messageOf(() => redisSettingsFromEnv({ REDIS_HOST: 'redis://r' }))).toBe(
      'REDIS_HOST: found "redis://r", expected a host name or address',
    );
  });
});

describe('settings that are shown', () => {
  it('hold everything but the password', () => {
    const shown = (url: string): string => describeRedis(parseRedisUrl(url, 'redis.url'));
    expect(shown('redis://u:hunter2@h:1/2')).toBe('redis://u@h:1/2');
    expect(shown('rediss://:hunter2@[::1]')).toBe('rediss://[::1]:6379/0');
    expect(shown('redis://a,b:2')).toBe('redis://a:6379,b:2');
    expect(shown('redis://a?cluster=true')).toBe('redis://a:6379?cluster=true');
    const sentinels = 'rediss://u:hunter2@a,b:2/1?sentinel=m&sentinelUsername=s&sentinelPassword=hunter3';
    expect(shown(sentinels)).toBe('rediss://u@a:26379,b:2/1?sentinel=m');
  });
});
