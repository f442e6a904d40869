import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openRedisInspection } from '../../src/adapters/redis-inspection.js';
import { parseRedisUrl, type RedisSettings } from '../../src/adapters/redis-settings.js';
import { createRedisStore, type RedisStoreOptions } from '../../src/adapters/redis-store.js';
import type { SharedStore } from '../../src/core/ports.js';
import {
  type RedisServer,
  redisMissing,
  type Sentinels,
  startRedisServer,
  startSentinels,
} from '../support/redis-server.js';
import { describeSharedStore } from './shared-store.contract.js';

if (redisMissing !== null) console.warn(`redis-sentinel.test.ts ${redisMissing}`);

const impatient = { commandTimeoutMs: 1000, connectTimeoutMs: 3000 } satisfies RedisStoreOptions;
const key = { model: 'llama', endSeconds: 10 };
const [dataPassword, sentinelPassword] = ['data-hunter2', 'sentinel-hunter3'] as const;

describe.skipIf(redisMissing !== null)('a Redis whose master Sentinels name', () => {
  const stores: SharedStore[] = [];
  const said: string[] = [];
  /** Everything that a store told its owner, in its own words. */
  function open(settings: RedisSettings, options: RedisStoreOptions = impatient): SharedStore {
    const onConnection = ({ message }: { readonly message: string }) => void said.push(message);
    const store = createRedisStore(settings, { now: () => Date.now() }, { onConnection, ...options });
    stores.push(store);
    return store;
  }
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    said.length = 0;
  });

  async function problemOf(work: Promise<unknown>): Promise<string> {
    const error: unknown = await work.then(
      () => new Error('it worked'),
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
    return (error as Error).message;
  }

  async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      const answer = await ask().catch((error: unknown) => {
        expect(error).toMatchObject({ name: 'Unavailable', code: 'redis_unreachable' });
        return null;
      });
      if (answer !== null) return answer;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async function until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  describe('with a replica, three Sentinels, and a password for each kind', () => {
    let servers: RedisServer[];
    let sentinels: Sentinels;
    const secrets = { password: dataPassword, args: ['--masterauth', dataPassword] };
    const settings = (): RedisSettings =>
      parseRedisUrl(
        `${sentinels.url.replace('://', `://:${dataPassword}@`)}&sentinelPassword=${sentinelPassword}`,
        'test',
      );
    const master = (): RedisServer => servers.find(({ port }) => port === sentinels.masterPort())!;

    beforeAll(async () => {
      const first = await startRedisServer(secrets);
      const replicaOf = ['--replicaof', first.host, String(first.port)];
      servers = [first, await startRedisServer({ ...secrets, args: [...secrets.args, ...replicaOf] })];
      sentinels = await startSentinels({
        master: first,
        replicas: 1,
        masterPassword: dataPassword,
        password: sentinelPassword,
      });
    }, 120_000);
    afterAll(async () => {
      await sentinels?.stop();
      for (const server of servers ?? []) await server.stop();
    });

    describeSharedStore('the master that Sentinels name', async () => {
      master().command('FLUSHALL');
      return { store: open(settings(), {}), stop: async () => {} };
    });

    it('is found by the Sentinels that are left', async () => {
      await sentinels.servers[0]!.kill();
      const store = open(settings());
      await store.writeState('s', 'found');
      expect(master().command('GET', 'gpumix:state:s')).toBe('found');
      await sentinels.servers[0]!.restartEmpty();
    });

    it('is looked at by the doctor too', async () => {
      master().command('SET', 'aibrix:profile_m_d', '{}');
      const inspection = openRedisInspection(settings(), { timeoutMs: 5000, now: () => Date.now() });
      expect((await inspection.keys()).profiles).toContain('aibrix:profile_m_d');
      const [clock] = await inspection.clocks();
      expect(clock!.where).toBe(`Redis at ${sentinels.url}`);
      await inspection.close();
    });

    it('tells neither password, whichever is wrong', async () => {
      const right = settings();
      const wrongData = { ...right, password: 'wrong-hunter4' };
      const wrongSentinel = { ...right, sentinel: { ...right.sentinel!, password: 'wrong-hunter5' } };
      expect(await problemOf(open(wrongData).readState('s'))).toMatch(/WRONGPASS/);
      expect(await problemOf(open(wrongSentinel).readState('s'))).toMatch(/no Sentinel says .*(WRONGPASS|NOAUTH)/);
      const looks = [wrongData, wrongSentinel].map((wrong) =>
        openRedisInspection(wrong, { timeoutMs: 5000, now: () => Date.now() }),
      );
      for (const look of looks) {
        said.push(await problemOf(look.clocks()));
        await look.close();
      }
      expect(said.length).toBeGreaterThan(2);
      expect(said.join('\n')).not.toContain('hunter');
    });

    it('is another server when the master is frozen, and stays it when the old one is back and takes itself for it', async () => {
      const store = open(settings());
      await store.identity();
      const old = master();
      old.pause();
      await until(() => sentinels.masterPort() !== old.port);
      await until(() => said.some((message) => message.includes('another server is the master now')));
      // Somebody who has seen it writes there.
      master().command('SET', 'aibrix:llama_request_trace_10', '{}');
      old.resume();
      expect(await untilAnswered(() => store.readTraces([key]))).toEqual([{ kind: 'present', text: '{}' }]);
      await until(() => old.command('ROLE').startsWith('slave'));
    }, 120_000);

    it('is followed where it was killed: what it had is there, and what is absent since is not known to be quiet', async () => {
      const store = open(settings());
      await store.writeState('s', 'before');
      const before = await store.identity();
      expect(master().command('WAIT', '1', '10000')).toBe('1');
      const old = master();
      await old.kill();
      const killedMs = Date.now();
      await problemOf(store.identity());
      const after = await untilAnswered(() => store.identity());
      expect(after.runId).not.toBe(before.runId);
      // The promoted replica has run since before the tests began.
      expect(after.startedAtMs).toBeGreaterThanOrEqual(killedMs);
      expect(await store.readState('s')).toBe('before');
      await store.writeState('s', 'after');
      await old.restartEmpty();
      await until(() => old.command('ROLE').startsWith('slave'));
      expect(await store.identity()).toEqual(after);
      expect(await store.readState('s')).toBe('after');
    }, 120_000);

    it('is left, and looked for again, when it answers that it only is a replica', async () => {
      const store = open(settings());
      await store.writeState('s', 'x');
      const demoted = master();
      demoted.command('REPLICAOF', '127.0.0.1', '1');
      expect(await problemOf(store.writeState('s', 'y'))).toMatch(/READONLY/);
      await until(() => said.some((message) => message.startsWith('lost Redis')));
      // The Sentinels name it still: a server that is no master is not taken for one.
      await problemOf(store.readState('s'));
      demoted.command('REPLICAOF', 'NO', 'ONE');
      await untilAnswered(async () => {
        await store.writeState('s', 'y');
        return 'written';
      });
      expect(demoted.command('GET', 'gpumix:state:s')).toBe('y');
    }, 120_000);

    it('is not known under another name', async () => {
      const right = settings();
      const problem = problemOf(open({ ...right, sentinel: { ...right.sentinel!, master: 'other' } }).readState('s'));
      expect(await problem).toMatch(/\?sentinel=other: no Sentinel knows a master "other"$/);
    });

    it('is no Sentinel: one whose URL lacks ?sentinel= is told apart from a server', async () => {
      const [one, other] = sentinels.servers.map(({ port }) => `127.0.0.1:${port}`);
      const single = parseRedisUrl(`redis://:${sentinelPassword}@${one}`, 'test');
      const several = parseRedisUrl(`redis://:${sentinelPassword}@${one},${other}`, 'test');
      expect(await problemOf(open(single).identity())).toMatch(/this is a Sentinel.*\?sentinel=NAME/);
      expect(await problemOf(open(several).identity())).toMatch(/is this a Sentinel\?.*\?sentinel=NAME/);
      const look = openRedisInspection(single, { timeoutMs: 5000, now: () => Date.now() });
      expect(await problemOf(look.clocks())).toMatch(/is this a Sentinel\?.*\?sentinel=NAME/);
      await look.close();
    });

    it('says so when no Sentinel answers, and finds it once one does', async () => {
      const [{ port }, ...others] = sentinels.servers as [RedisServer, ...RedisServer[]];
      for (const sentinel of sentinels.servers) await sentinel.kill();
      const store = open(settings());
      expect(await problemOf(store.readState('s'))).toMatch(
        /no Sentinel says where the master is: connect ECONNREFUSED 127.0.0.1:\d+$/,
      );
      await sentinels.servers[0]!.restartEmpty();
      expect(await untilAnswered(() => store.identity())).toBeDefined();
      expect([port, others.length]).toEqual([sentinels.servers[0]!.port, 2]);
    }, 120_000);
  });

  it('tells neither password where what answers repeats what it is sent', async () => {
    const sent: string[] = [];
    const echo = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (data) => {
        const text = String(data).replaceAll('\r\n', ' ');
        sent.push(text);
        socket.write(`-ERR bad ${text}\r\n`);
      });
    });
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    const { port } = echo.address() as AddressInfo;
    const sentinel = parseRedisUrl(`redis://127.0.0.1:${port}?sentinel=m&sentinelPassword=${sentinelPassword}`, 'test');
    const server = parseRedisUrl(`redis://:${dataPassword}@127.0.0.1:${port}`, 'test');
    for (const settings of [sentinel, server]) {
      said.push(await problemOf(open(settings).readState('s')));
      const inspection = openRedisInspection(settings, { timeoutMs: 5000, now: () => Date.now() });
      said.push(await problemOf(inspection.clocks()));
      await inspection.close();
    }
    echo.close();
    expect([sent.join().includes(sentinelPassword), sent.join().includes(dataPassword)]).toEqual([true, true]);
    expect(said.join('\n')).toContain('auth');
    expect(said.join('\n')).not.toContain('hunter');
  });

  it('says why a Sentinel does not answer, however late the first connection learns it', async () => {
    const opened: Socket[] = [];
    const slow = createServer((socket) => {
      socket.on('error', () => {});
      // The first one is answered last: long after any other would have been closed.
      const delayMs = opened.push(socket) === 1 ? 300 : 0;
      socket.once('data', () => setTimeout(() => socket.end('this is no TLS\r\n'), delayMs));
    });
    await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve));
    const url = `rediss://127.0.0.1:${(slow.address() as AddressInfo).port}?sentinel=m`;
    const settings = parseRedisUrl(url, 'test');
    const inspection = openRedisInspection(settings, { timeoutMs: 5000, now: () => Date.now() });
    const why = /no Sentinel says where the master is: .*(SSL|TLS|wrong version number)/;
    expect(await problemOf(open(settings).readState('s'))).toMatch(why);
    opened.length = 0;
    expect(await problemOf(inspection.clocks())).toMatch(why);
    await inspection.close();
    slow.close();
  });

  it('is spoken to with TLS, and so are the Sentinels', async () => {
    const server = await startRedisServer({ tls: true });
    const sentinels = await startSentinels({ master: server, replicas: 0, count: 1, tls: true, trusts: [server.ca!] });
    const settings = parseRedisUrl(sentinels.url, 'test');
    const ca = [server.ca, sentinels.servers[0]!.ca].join('');
    const store = open({ ...settings, tls: { ca, cert: null, key: null } });
    await store.writeState('s', 'x');
    expect(server.command('GET', 'gpumix:state:s')).toBe('x');
    expect(await problemOf(open(settings).readState('s'))).toMatch(/no Sentinel says .*certificate/);
    await sentinels.stop();
    await server.stop();
  }, 120_000);
});
