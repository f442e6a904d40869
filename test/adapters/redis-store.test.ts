import { type AddressInfo, createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseRedisUrl, type RedisSettings } from '../../src/adapters/redis-settings.js';
import { createRedisStore, type RedisStoreOptions, reconnectDelayMs } from '../../src/adapters/redis-store.js';
import { InputError } from '../../src/core/input-error.js';
import { type SharedStore, Unavailable } from '../../src/core/ports.js';
import { type RedisServer, redisMissing, startRedisCluster, startRedisServer } from '../support/redis-server.js';
import { describeSharedStore } from './shared-store.contract.js';

const clock = { now: () => Date.now() };
/** Short, so that a test of a silence is not a long one. */
const impatient = { commandTimeoutMs: 400, connectTimeoutMs: 2000 } satisfies RedisStoreOptions;
const key = { model: 'llama', endSeconds: 10 };

if (redisMissing !== null) console.warn(`redis-store.test.ts ${redisMissing}`);

describe.skipIf(redisMissing !== null)('Redis', () => {
  const stores: SharedStore[] = [];
  function open(settings: string | RedisSettings, options: RedisStoreOptions = {}): SharedStore {
    const store = createRedisStore(
      typeof settings === 'string' ? parseRedisUrl(settings, 'test') : settings,
      clock,
      options,
    );
    stores.push(store);
    return store;
  }
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
  });

  /** Repeats a question until it is answered: reconnecting takes as long as it takes. */
  async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        expect(error).toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
      }
    }
  }

  describe('a server that works', () => {
    let server: RedisServer;
    beforeAll(async () => {
      server = await startRedisServer();
    });
    afterAll(() => server.stop());
    afterEach(() => {
      server.command('FLUSHALL');
    });

    describeSharedStore('a Redis server', async () => {
      server.command('FLUSHALL');
      return { store: open(server.url), stop: async () => {} };
    });

    it('writes the keys of AIBrix, with a time to live of 10 minutes for traces and none for profiles', async () => {
      const store = open(server.url);
      await store.writeTraces([{ model: 'llama2-7b', endSeconds: 1735693670, text: '{}' }]);
      await store.writeProfile({ model: 'llama2-7b', deployment: 'simulator-llama2-7b-a100' }, 'p');
      await store.writeState('overrides', 's');
      await store.appendToList('history', ['h'], 5);
      expect(server.command('KEYS', '*').split('\n').sort()).toEqual([
        'aibrix:llama2-7b_request_trace_1735693670',
        'aibrix:profile_llama2-7b_simulator-llama2-7b-a100',
        'gpumix:list:history',
        'gpumix:state:overrides',
      ]);
      const secondsToLive = Number(server.command('TTL', 'aibrix:llama2-7b_request_trace_1735693670'));
      expect(secondsToLive).toBeGreaterThan(590);
      expect(secondsToLive).toBeLessThanOrEqual(600);
      for (const name of ['aibrix:profile_llama2-7b_simulator-llama2-7b-a100', 'gpumix:state:overrides']) {
        expect(server.command('TTL', name)).toBe('-1');
      }
    });

    it('never scans: a read of known keys sends GETRANGE and EXISTS alone', async () => {
      const store = open(server.url);
      await store.writeTraces([{ ...key, text: '{}' }]);
      server.command('CONFIG', 'RESETSTAT');
      await store.readTraces([key, { ...key, endSeconds: 20 }]);
      await store.readProfiles([{ model: 'llama', deployment: 'a100' }]);
      const commands = [...server.command('INFO', 'commandstats').matchAll(/^cmdstat_([^:|]+)/gm)].map((at) => at[1]);
      expect(new Set(commands)).toEqual(
        new Set(['getrange', 'exists', 'config', 'info'].filter((c) => commands.includes(c))),
      );
      expect(commands).toEqual(expect.arrayContaining(['getrange', 'exists']));
    });

    it('fails a key of another type alone', async () => {
      const store = open(server.url);
      server.command('RPUSH', 'aibrix:llama_request_trace_10', 'x');
      await store.writeTraces([{ model: 'llama', endSeconds: 20, text: '{}' }]);
      expect(await store.readTraces([key, { model: 'llama', endSeconds: 20 }])).toEqual([
        { kind: 'failed', message: expect.stringMatching(/"aibrix:llama_request_trace_10".*another type/) },
        { kind: 'present', text: '{}' },
      ]);
    });

    it('fails a value that is not text alone', async () => {
      const store = open(server.url);
      server.command('EVAL', "return redis.call('SET', KEYS[1], '\\255\\254')", '1', 'aibrix:llama_request_trace_10');
      expect(await store.readTraces([key])).toEqual([
        { kind: 'failed', message: expect.stringContaining('not UTF-8') },
      ]);
    });

    it('fails a value of 200 MB without taking it into memory', async () => {
      const store = open(server.url);
      server.command('SETRANGE', 'aibrix:llama_request_trace_10', String(200 * 2 ** 20), 'x');
      await store.readTraces([{ ...key, endSeconds: 20 }]);
      const before = process.memoryUsage().rss;
      const [reading] = await store.readTraces([key]);
      expect(reading).toEqual({ kind: 'failed', message: expect.stringContaining('more than 1048576 bytes') });
      expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20);
    });

    it('says that a document of its own has another type, rather than that there is none', async () => {
      const store = open(server.url);
      server.command('RPUSH', 'gpumix:state:overrides', 'x');
      server.command('SET', 'gpumix:list:history', 'x');
      const document: unknown = await store.readState('overrides').catch((error) => error);
      const list: unknown = await store.readList('history', 5).catch((error) => error);
      expect([document instanceof InputError, list instanceof InputError]).toEqual([true, true]);
      expect(String(document)).toMatch(/gpumix:state:overrides.*another type/);
      expect(String(list)).toMatch(/gpumix:list:history.*another type/);
      await store.writeState('overrides', 's');
      await store.appendToList('history', ['a', 'b'], 5);
      expect([await store.readState('overrides'), await store.readList('history', 5)]).toEqual(['s', ['a', 'b']]);
    });

    it('says so too where it is no text, or too long', async () => {
      const store = open(server.url);
      server.command('EVAL', "return redis.call('SET', KEYS[1], '\\255\\254')", '1', 'gpumix:state:a');
      server.command('SETRANGE', 'gpumix:state:b', String(9 * 2 ** 20), 'x');
      await expect(store.readState('a')).rejects.toBeInstanceOf(InputError);
      await expect(store.readState('b')).rejects.toThrow(/gpumix:state:b.*8388608 bytes/);
    });

    it('keeps what two gpumix remember apart by their prefixes, and shares the traces', async () => {
      const [live, shadow] = [open(server.url), open(server.url, { statePrefix: 'gpumix-shadow' })];
      await live.writeState('published', 'live');
      await shadow.writeState('published', 'shadow');
      await live.appendToList('decisions', ['live'], 5);
      await shadow.appendToList('decisions', ['shadow'], 5);
      await live.writeTraces([{ ...key, text: '{}' }]);
      expect([await live.readState('published'), await live.readList('decisions', 5)]).toEqual(['live', ['live']]);
      expect([await shadow.readState('published'), await shadow.readList('decisions', 5)]).toEqual([
        'shadow',
        ['shadow'],
      ]);
      expect(await shadow.readTraces([key])).toEqual([{ kind: 'present', text: '{}' }]);
      expect(server.command('EXISTS', 'gpumix-shadow:state:published', 'gpumix-shadow:list:decisions')).toBe('2');
    });

    it('uses the database of the URL, and refuses one that the server does not have', async () => {
      await open(server.url.replace('/0', '/3')).writeState('s', 'in three');
      expect(await open(server.url).readState('s')).toBeNull();
      expect(await open(server.url.replace('/0', '/3')).readState('s')).toBe('in three');
      await expect(open(server.url.replace('/0', '/99')).readState('s')).rejects.toThrow(
        /^Redis at redis:\/\/127.0.0.1:\d+\/99: .*DB index is out of range/,
      );
    });

    it('knows the run of the server, and since when: never earlier than it is', async () => {
      const before = Date.now();
      const fresh = await startRedisServer();
      try {
        const identity = await open(fresh.url).identity();
        expect(identity.runId).toBe(/run_id:(\w+)/.exec(fresh.command('INFO', 'server'))?.[1]);
        expect(identity.startedAtMs).toBeGreaterThanOrEqual(before);
        expect(identity.startedAtMs).toBeLessThanOrEqual(Date.now());
      } finally {
        await fresh.stop();
      }
    });

    it.each([
      ['the same', 0],
      ['an hour ahead', -3_600_000],
      ['an hour behind', 3_600_000],
    ])('tells whether its clock is ours: %s', async (_, oursAheadMs) => {
      const store = createRedisStore(parseRedisUrl(server.url, 'test'), { now: () => Date.now() + oursAheadMs });
      stores.push(store);
      const { aheadMs } = await store.identity();
      expect(Math.round((aheadMs ?? Number.NaN) / 60_000)).toBe(Math.round(-oursAheadMs / 60_000) + 0);
    });

    it('is one connection, whatever is asked at once', async () => {
      const store = open(server.url);
      const before = Number(/total_connections_received:(\d+)/.exec(server.command('INFO', 'stats'))?.[1]);
      await Promise.all(Array.from({ length: 20 }, () => store.readTraces([key])));
      const after = Number(/total_connections_received:(\d+)/.exec(server.command('INFO', 'stats'))?.[1]);
      expect(after - before).toBe(2); // ours, and that of the second question about them
    });
  });

  describe('a server that fails', () => {
    let server: RedisServer;
    afterEach(() => server.stop());

    it('holds nothing back while it is down, and is found again without a restart of ours, empty and as another', async () => {
      server = await startRedisServer();
      const events: boolean[] = [];
      const store = open(server.url, { ...impatient, onConnection: (state) => events.push(state.connected) });
      const before = await store.identity();
      await store.writeTraces([{ ...key, text: '{}' }]);

      await server.kill();
      for (let attempt = 0; attempt < 3; attempt++) {
        await expect(store.readTraces([key])).rejects.toMatchObject({
          name: 'Unavailable',
          code: 'redis_unreachable',
          message: expect.stringMatching(/^Redis at redis:\/\/127\.0\.0\.1:\d+\/0: .+/),
        });
      }
      await expect(store.writeState('s', 'x')).rejects.toMatchObject({ code: 'redis_unreachable' });

      await server.restartEmpty();
      expect(await untilAnswered(() => store.readTraces([key]))).toEqual([{ kind: 'absent' }]);
      const after = await store.identity();
      expect(after.runId).not.toBe(before.runId);
      expect(after.startedAtMs).toBeGreaterThanOrEqual(before.startedAtMs);
      // What was refused while it was down was not kept for later.
      expect(await store.readState('s')).toBeNull();
      expect(events).toEqual([true, false, true]);
    });

    it('rejects a read during which it dies, rather than answering a part of it', async () => {
      server = await startRedisServer();
      const store = open(server.url, { ...impatient, commandTimeoutMs: 5000, chunkSize: 50 });
      const keys = Array.from({ length: 20_000 }, (_, i) => ({ model: 'llama', endSeconds: i }));
      await store.readTraces(keys.slice(0, 1));
      server.pause(); // nothing is answered, so the read cannot be over before the kill
      const read = store.readTraces(keys);
      const outcome = expect(read).rejects.toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
      await server.kill();
      await outcome;
    });

    it('gives up on a silent server after the time for a command, and goes on when it answers again', async () => {
      server = await startRedisServer();
      const store = open(server.url, impatient);
      await store.writeTraces([{ ...key, text: '{}' }]);
      server.pause();
      await expect(store.readTraces([key])).rejects.toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
      await expect(store.identity()).rejects.toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
      server.resume();
      expect(await untilAnswered(() => store.readTraces([key]))).toEqual([{ kind: 'present', text: '{}' }]);
    });

    it('waits for a server that pauses its clients for less than the time for a command', async () => {
      server = await startRedisServer();
      const store = open(server.url, { commandTimeoutMs: 10_000 });
      await store.identity();
      server.command('CLIENT', 'PAUSE', '300', 'ALL');
      expect(await store.readTraces([key])).toEqual([{ kind: 'absent' }]);
    });

    it('says so when the server is not there at all', async () => {
      server = await startRedisServer();
      await server.kill();
      await expect(open(server.url, impatient).readTraces([key])).rejects.toThrow(/ECONNREFUSED/);
      const elsewhere = open('redis://no-such-host.invalid:6379', impatient);
      await expect(elsewhere.readTraces([key])).rejects.toThrow(/no-such-host\.invalid/);
    });

    it('refuses to write on a server that is full or a replica, with its own words', async () => {
      server = await startRedisServer();
      const store = open(server.url, impatient);
      await expect(store.writeState('s', 'x')).resolves.toBeUndefined();
      server.command('CONFIG', 'SET', 'maxmemory', '100kb');
      await expect(store.writeState('t', 'x')).rejects.toMatchObject({
        code: 'redis_unreachable',
        message: expect.stringContaining('OOM'),
      });
      server.command('CONFIG', 'SET', 'maxmemory', '0');
      server.command('REPLICAOF', '127.0.0.1', '1');
      await expect(store.writeState('t', 'x')).rejects.toThrow(/READONLY/);
    });

    it('asks for the password, and never tells it', async () => {
      server = await startRedisServer({ password: 'right/hunter2' });
      const said: string[] = [];
      const attempt = (credentials: string): SharedStore =>
        open(`redis://${credentials}127.0.0.1:${server.port}`, {
          ...impatient,
          onConnection: (state) => said.push(state.message),
        });
      expect(await attempt(':right%2Fhunter2@').readTraces([key])).toEqual([{ kind: 'absent' }]);
      expect(await attempt('default:right%2Fhunter2@').readTraces([key])).toEqual([{ kind: 'absent' }]);
      for (const [credentials, refusal] of [
        ['', /NOAUTH/],
        [':wrong-hunter2@', /WRONGPASS/],
        ['nobody:wrong-hunter2@', /WRONGPASS/],
      ] as const) {
        const error = await attempt(credentials)
          .readTraces([key])
          .catch((caught: unknown) => caught);
        expect(error).toMatchObject({ name: 'Unavailable', message: expect.stringMatching(refusal) });
        said.push(JSON.stringify(error, Object.getOwnPropertyNames(error)));
      }
      expect(said.length).toBeGreaterThan(4);
      expect(said.join('\n')).not.toContain('hunter2');
    });

    it('comes in again when the password is mended on the server', async () => {
      server = await startRedisServer({ password: 'old' });
      const store = open(`redis://:new@127.0.0.1:${server.port}`, impatient);
      await expect(store.readTraces([key])).rejects.toThrow(/WRONGPASS/);
      server.command('CONFIG', 'SET', 'requirepass', 'new');
      expect(await untilAnswered(() => store.readTraces([key]))).toEqual([{ kind: 'absent' }]);
    });

    it('fails only the keys that its user may not read', async () => {
      server = await startRedisServer();
      server.command('ACL', 'SETUSER', 'gpumix', 'on', '>pw', '+@all', '~aibrix:llama_*');
      const store = open(`redis://gpumix:pw@127.0.0.1:${server.port}`, impatient);
      expect(await store.readTraces([key, { ...key, model: 'other' }])).toEqual([
        { kind: 'absent' },
        { kind: 'failed', message: expect.stringMatching(/"aibrix:other_request_trace_10".*NOPERM|permission/) },
      ]);
      // Who may not look does not know that it is garbage: it is not replaced.
      await expect(store.readState('overrides')).rejects.toBeInstanceOf(Unavailable);
    });

    it('speaks TLS, trusts the given certificate, and refuses a server that it cannot trust', async () => {
      server = await startRedisServer({ tls: true, password: 'pw' });
      const settings = parseRedisUrl(server.url, 'test');
      const trusting = { ...settings, tls: { ca: server.ca, cert: null, key: null } };
      const store = open(trusting, impatient);
      await store.writeTraces([{ ...key, text: '{}' }]);
      expect(await store.readTraces([key])).toEqual([{ kind: 'present', text: '{}' }]);
      await expect(open(settings, impatient).readTraces([key])).rejects.toThrow(/certificate/);
      await expect(open(server.url.replace('rediss', 'redis'), impatient).readTraces([key])).rejects.toMatchObject({
        code: 'redis_unreachable',
      });
    });
  });

  describe('what is not what it is taken for', () => {
    it('without TLS, where TLS is asked for', async () => {
      const server = await startRedisServer();
      const url = `rediss://127.0.0.1:${server.port}`;
      const problem = await open(url, impatient)
        .writeState('s', 'x')
        .catch((error: unknown) => error);
      await server.stop();
      expect(problem).toBeInstanceOf(Unavailable);
      expect(String(problem)).toContain('no connection with TLS yet');
    });

    it('another server, in words of a connection', async () => {
      const server = createServer((socket) => {
        socket.on('error', () => {});
        socket.end('HTTP/1.1 400 Bad Request\r\n\r\n', () => socket.destroy());
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      const problem = open(`redis://127.0.0.1:${port}`, impatient).writeState('s', 'x');
      await expect(problem).rejects.toThrow(Unavailable);
      await expect(problem).rejects.not.toThrow(/Stream|enableOfflineQueue/);
      server.close();
    });
  });

  describe('a cluster', () => {
    let servers: readonly RedisServer[];
    beforeAll(async () => {
      servers = await startRedisCluster(3);
    });
    afterAll(async () => {
      for (const server of servers) await server.stop();
    });
    const clusterUrl = (): string => `redis://${servers.map((server) => `127.0.0.1:${server.port}`).join(',')}`;

    describeSharedStore('a Redis cluster of three nodes', async () => {
      for (const server of servers) server.command('FLUSHALL');
      return { store: open(clusterUrl()), stop: async () => {} };
    });

    it('finds every node from one of them, and spreads the keys', async () => {
      const store = open(`redis://127.0.0.1:${servers[0]!.port}?cluster=true`);
      for (const server of servers) server.command('FLUSHALL');
      await store.writeTraces(Array.from({ length: 300 }, (_, i) => ({ model: 'm', endSeconds: i, text: `${i}` })));
      const sizes = servers.map((server) => Number(server.command('DBSIZE')));
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(300);
      for (const size of sizes) expect(size).toBeGreaterThan(50);
    });

    it('is all of its nodes: the identity names each run', async () => {
      const { runId } = await open(clusterUrl()).identity();
      const runs = servers.map((server) => /run_id:(\w+)/.exec(server.command('INFO', 'server'))![1]);
      expect(runId.split('+').sort()).toEqual([...runs].sort());
    });

    it('follows a slot that moved to another node since the last read', async () => {
      const store = open(clusterUrl());
      const keys = Array.from({ length: 60 }, (_, i) => ({ model: 'moving', endSeconds: i }));
      await store.writeTraces(keys.map((at) => ({ ...at, text: `${at.endSeconds}` })));
      const slot = servers[0]!.command('CLUSTER', 'KEYSLOT', 'aibrix:moving_request_trace_7');
      const ids = servers.map((server) => server.command('CLUSTER', 'MYID'));
      const owner = servers.findIndex((server) => server.command('CLUSTER', 'COUNTKEYSINSLOT', slot) !== '0');
      const target = (owner + 1) % servers.length;
      const back = async (from: number, to: number): Promise<void> => {
        servers[to]!.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from]!);
        servers[from]!.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[to]!);
        const moving = servers[from]!.command('CLUSTER', 'GETKEYSINSLOT', slot, '100').split('\n');
        servers[from]!.command('MIGRATE', '127.0.0.1', String(servers[to]!.port), '', '0', '5000', 'KEYS', ...moving);
        for (const server of [servers[to]!, servers[from]!])
          server.command('CLUSTER', 'SETSLOT', slot, 'NODE', ids[to]!);
      };
      await back(owner, target);
      expect(await store.readTraces(keys)).toEqual(keys.map((at) => ({ kind: 'present', text: `${at.endSeconds}` })));
      await store.writeTraces(keys.map((at) => ({ ...at, text: 'new' })));
      expect(await store.readTraces(keys)).toEqual(keys.map(() => ({ kind: 'present', text: 'new' })));
      await back(target, owner);
    });

    it('is unavailable as a whole while a node that holds asked keys is silent, and recovers', async () => {
      const store = open(clusterUrl(), impatient);
      const keys = Array.from({ length: 60 }, (_, i) => ({ model: 'silent', endSeconds: i }));
      await store.writeTraces(keys.map((at) => ({ ...at, text: '{}' })));
      servers[1]!.pause();
      await expect(store.readTraces(keys)).rejects.toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
      servers[1]!.resume();
      const readings = await untilAnswered(() => store.readTraces(keys));
      expect(readings).toEqual(keys.map(() => ({ kind: 'present', text: '{}' })));
    });
  });
});

it('waits longer before each attempt to reconnect, up to 3 seconds, and a different while each time', () => {
  expect([1, 2, 3, 4, 5, 6, 7, 50].map((attempt) => reconnectDelayMs(attempt, 1))).toEqual([
    100, 200, 400, 800, 1600, 3000, 3000, 3000,
  ]);
  expect(reconnectDelayMs(3, 0)).toBe(200);
  expect(reconnectDelayMs(3, 0.5)).toBe(300);
});
