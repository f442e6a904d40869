import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore, type RedisStoreOptions } from '../../src/adapters/redis-store.js';
import { type SharedStore, Unavailable } from '../../src/core/ports.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { deployment, profileText, World } from '../support/controller-world.js';
import {
  type RedisServer,
  redisMissing,
  type Sentinels,
  startRedisServer,
  startSentinels,
} from '../support/redis-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';

/**
 * What a controller publishes while real Redis servers fail over and are slow. That one is killed, comes back empty, or is
 * emptied while it runs is in redis-to-metric.test.ts.
 */
if (redisMissing !== null) console.log(`redis-faults: ${redisMissing}`);

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

const record = (rps: number): string => {
  const arrivals = Math.round(rps * 10);
  const buckets = [{ inputTokens: 512, outputTokens: 128, count: arrivals }];
  return formatTraceRecord({ intervalSeconds: 10, arrivals, pending: 0, queueing: 0, unknownLength: 0, buckets });
};

/** A replica serves one request a second, and what is not needed any more goes after 200 s. */
const settings = {
  config: { stability: { scaleDownStabilizationSeconds: 200, scaleDownTolerance: 0 } },
  deployments: [deployment({ name: 'gpu', currentReplicas: 6, usdPerReplicaHour: 2 })],
};

/** A controller on a Redis, with a gateway that has a connection of its own and loses what it cannot write. */
class Served {
  readonly world: World;
  readonly store: SharedStore;
  readonly gateway: SharedStore;
  /** Sentences of the controller's store about its connection. */
  readonly said: string[] = [];
  lost = 0;

  constructor(
    urls: { readonly controller: string; readonly gateway: string },
    options: RedisStoreOptions & { readonly nowMs?: number } = {},
  ) {
    const clock = { now: () => this.world?.nowMs ?? 0 };
    const { nowMs, ...storeOptions } = options;
    const onConnection = ({ message }: { readonly message: string }) => void this.said.push(message);
    this.store = createRedisStore(parseRedisUrl(urls.controller, 'test'), clock, { ...storeOptions, onConnection });
    this.gateway = createRedisStore(parseRedisUrl(urls.gateway, 'test'), clock, storeOptions);
    this.world = new World({ ...settings, store: this.store, ...(nowMs === undefined ? {} : { nowMs }) });
    stops.push(
      () => this.gateway.close(),
      () => this.store.close(),
      () => this.world.controller.stop(),
    );
  }

  async start(): Promise<this> {
    await this.gateway.writeProfile({ model: 'llama', deployment: 'gpu' }, profileText({}));
    await this.world.controller.start();
    return this;
  }

  /** The gateway writes the interval that ends before the next cycle, then that cycle runs. */
  async cycle(rps: number): Promise<void> {
    await this.write(rps);
    await this.world.cycle();
  }

  async write(rps: number): Promise<void> {
    const nextMs = this.world.nowMs + Math.max(0, Math.min(...this.world.waits()));
    const endSeconds = Math.floor(nextMs / 10_000) * 10;
    try {
      await this.gateway.writeTraces([{ model: 'llama', endSeconds, text: record(rps) }]);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      this.lost += 1;
    }
  }

  get published(): number | string {
    return this.world.replicas('gpu');
  }
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await delay(50);
}

describe.skipIf(redisMissing !== null)('Redis behind Sentinels', () => {
  async function sentinelled(): Promise<{ servers: readonly RedisServer[]; sentinels: Sentinels; served: Served }> {
    const first = await startRedisServer();
    stops.push(() => first.stop());
    const second = await startRedisServer({ args: ['--replicaof', first.host, String(first.port)] });
    stops.push(() => second.stop());
    const sentinels = await startSentinels({ master: first, replicas: 1 });
    stops.push(() => sentinels.stop());
    const urls = { controller: sentinels.url, gateway: sentinels.url };
    const served = await new Served(urls, { commandTimeoutMs: 1000, connectTimeoutMs: 3000 }).start();
    return { servers: [first, second], sentinels, served };
  }

  it('fails over: numbers stay, what was planned is kept as long as without it, and the old master is not missed', async () => {
    const { servers, sentinels, served } = await sentinelled();
    const { world } = served;
    // The same traffic on a store that never fails.
    const twin = await new World(settings).start();
    await twin.writeProfile('gpu', profileText({}));
    const step = async (rps: number): Promise<void> => {
      await served.cycle(rps);
      await twin.send('llama', { rps }).cycle();
      expect(served.published).toBeGreaterThanOrEqual(twin.replicas('gpu') as number);
    };
    for (let i = 0; i < 30; i += 1) await step(6);
    for (let i = 0; i < 14; i += 1) await step(2);
    // Less is needed for a while, and the time that what is spare stays has begun.
    expect([served.published, twin.replicas('gpu')]).toEqual([6, 6]);

    const [old, promoted] = servers as [RedisServer, RedisServer];
    expect(old.command('WAIT', '1', '10000')).toBe('1');
    // Cycles take as long as a busy machine makes them: the Sentinels wait for these two.
    sentinels.waitForMaster(600_000);
    await old.kill();
    for (let i = 0; i < 2; i += 1) await step(2);
    expect([served.published, world.held()]).toEqual([6, 'redis_unreachable']);
    expect(served.lost).toBeGreaterThan(0);

    sentinels.waitForMaster(500);
    await until(() => sentinels.masterPort() === promoted.port);
    // Waits between attempts are of real time, three seconds at most; the world's clock stands still meanwhile.
    await served.gateway.identity().catch(() => {});
    while ((await served.store.identity().catch(() => null)) === null) await delay(50);
    while ((await served.gateway.identity().catch(() => null)) === null) await delay(50);
    const lost = served.lost;
    await step(2);
    expect([served.lost, world.held()]).toEqual([lost, null]);
    expect(world.controller.inputs().every(({ ok }) => ok)).toBe(true);

    await old.restartEmpty();
    await until(() => old.command('ROLE').startsWith('slave'));
    const cyclesUntilTwo = { served: 0, twin: 0 };
    while (served.published !== 2) {
      cyclesUntilTwo.served += 1;
      if (twin.replicas('gpu') !== 2) cyclesUntilTwo.twin += 1;
      await step(2);
    }
    // Nothing was forgotten: the wait began before the failover, and is over as much later as was lost at most.
    expect(cyclesUntilTwo.served).toBeLessThanOrEqual(cyclesUntilTwo.twin + served.lost);
    expect(world.held()).toBeNull();
    await until(() => old.command('GET', 'gpumix:state:published').includes('default/gpu'));
    await world.controller.stop();

    // Another process finds at the promoted server what the first one left.
    const next = new Served(
      { controller: sentinels.url, gateway: sentinels.url },
      { commandTimeoutMs: 1000, connectTimeoutMs: 3000, nowMs: world.nowMs + 5000 },
    );
    await next.world.controller.start();
    await next.world.cycle();
    expect(next.published).toBe(2);
    await twin.controller.stop();
  }, 180_000);

  it('writes again what a master refused that had become a replica', async () => {
    const { servers, served } = await sentinelled();
    const [master] = servers as [RedisServer];
    for (let i = 0; i < 6; i += 1) await served.cycle(3);
    const before = served.published;
    await served.write(9);
    master.command('REPLICAOF', '127.0.0.1', '1');
    await served.world.cycle();
    // What it reads there it still plans for: only what is written fails.
    expect(served.published).toBeGreaterThan(before as number);
    expect(served.world.reports.at(-1)?.errors).toContainEqual({ input: 'state', code: 'redis_unreachable' });
    const published = () => master.command('GET', 'gpumix:state:published');
    const stored = published();
    await until(() => served.said.some((message) => message.includes('a replica now (READONLY)')));
    await served.world.cycle();
    expect(served.world.held()).toBe('redis_unreachable');
    master.command('REPLICAOF', 'NO', 'ONE');
    while ((await served.store.identity().catch(() => null)) === null) await delay(50);
    await served.world.cycle();
    expect(published()).not.toBe(stored);
    expect(JSON.parse(published())).toMatchObject({
      models: [{ name: 'llama', deployments: [{ id: 'default/gpu', replicas: served.published }] }],
    });
    expect(served.published).toBeGreaterThan(before as number);
  }, 120_000);
});

describe.skipIf(redisMissing !== null)('a slow Redis', () => {
  it('of 2 s an answer delays cycles, which come one after the other, and keeps no number from its deployment', async () => {
    const { served, proxy } = await slowly();
    proxy.answersAfterMs = 2000;
    for (const rps of [6, 12]) {
      await served.write(rps);
      let ended = false;
      const cycle = served.world.cycle().finally(() => {
        ended = true;
      });
      while (!ended) {
        await delay(50);
        // The next one is not even due while this one runs.
        if (!ended) expect(served.world.waits()).toEqual([]);
        expect(served.published).toBeGreaterThanOrEqual(6);
      }
      await cycle;
      expect([served.world.held(), served.world.waits().length]).toEqual([null, 1]);
      expect(served.world.controller.inputs().every(({ ok }) => ok)).toBe(true);
    }
    // What the last one read was planned for.
    expect(served.published).toBeGreaterThan(6);
  }, 120_000);

  it('of more than it is waited for holds the numbers, with the reason, until it is fast again', async () => {
    const { served, proxy } = await slowly({ commandTimeoutMs: 500, connectTimeoutMs: 1000 });
    proxy.answersAfterMs = 2000;
    for (let i = 0; i < 2; i += 1) await served.cycle(1);
    expect([served.published, served.world.held()]).toEqual([6, 'redis_unreachable']);
    proxy.answersAfterMs = 0;
    while ((await served.store.identity().catch(() => null)) === null) await delay(50);
    await served.cycle(6);
    expect([served.published, served.world.held()]).toEqual([6, null]);
  }, 120_000);

  async function slowly(options: RedisStoreOptions = {}): Promise<{ served: Served; proxy: TcpProxy }> {
    const redis = await startRedisServer();
    stops.push(() => redis.stop());
    const proxy = new TcpProxy(redis);
    await proxy.connect();
    stops.push(() => proxy.cut());
    const controller = `redis://${redis.host}:${proxy.port}`;
    const served = await new Served({ controller, gateway: redis.url }, options).start();
    // Until all is known that a cycle looks for: it then asks no more than it always does.
    for (let i = 0; i < 70; i += 1) await served.cycle(6);
    expect([served.published, served.world.held()]).toEqual([6, null]);
    return { served, proxy };
  }
});
