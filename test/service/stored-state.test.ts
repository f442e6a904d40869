import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore } from '../../src/adapters/redis-store.js';
import { largestStateBytes } from '../../src/adapters/store-keys.js';
import type { SharedStore } from '../../src/core/ports.js';
import { firstItems, StoredDocument } from '../../src/service/stored-document.js';
import { StoredState } from '../../src/service/stored-state.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

const clock = { now: () => 0 };

function stateOn(store: SharedStore) {
  const warnings: string[] = [];
  const logger = {
    warn: (_: object, message: string) => void warnings.push(message),
    error: (_: object, message: string) => void warnings.push(`error: ${message}`),
  };
  return { state: new StoredState({ store, keptDecisions: 10, logger: logger as never }), warnings };
}

const decision = {
  at: new Date(0).toISOString(),
  model: 'llama',
  status: 'optimal',
  heldReason: null,
  usdPerHour: 1,
  rps: 1,
  changes: [],
} as const;

function publishedModel(name: string, reason = 'needed') {
  const deployments = [
    { id: `a/${name}`, gpuType: 'L4', replicas: 3, targetReplicas: 3, utilization: 1, usdPerHour: 1, reason },
  ];
  return { name, status: 'optimal' as const, planAt: null, usdPerHour: 1, boundUsdPerHour: 1, deployments };
}

if (redisMissing !== null) console.warn(`stored-state.test.ts ${redisMissing}`);

describe.skipIf(redisMissing !== null)('a state whose keys hold something else', () => {
  let server: RedisServer | null = null;
  const stores: SharedStore[] = [];
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    await server?.stop();
    server = null;
  });

  it('is reported once, is no unreachable store, and is replaced at the next write', async () => {
    server = await startRedisServer();
    const open = () => {
      const store = createRedisStore(parseRedisUrl(server!.url, 'test'), clock);
      stores.push(store);
      return store;
    };
    for (const name of ['overrides', 'unfollowed', 'published', 'traces', 'silences']) {
      server.command('RPUSH', `gpumix:state:${name}`, 'x');
    }
    server.command('SET', 'gpumix:list:decisions', 'x');
    const { state, warnings } = stateOn(open());
    expect(await state.restore()).toBe(true);
    expect(warnings).toHaveLength(6);
    expect(warnings.every((warning) => /^Redis key .*another type/.test(warning))).toBe(true);
    state.overrides.fix({ id: 'a/b', replicas: 2, expiresAtMs: null });
    state.setPublished({ models: [publishedModel('llama')] });
    state.history.add([decision]);
    const traces = [{ model: 'llama', runId: 'r', firstTraceSeconds: 10, newestTraceSeconds: 20, pending: 0 }];
    expect(await state.flush({ nowMs: 0, traces, isLast: false })).toBeNull();
    expect(await state.flush({ nowMs: 0, traces, isLast: true })).toBeNull();
    expect(warnings).toHaveLength(6);

    const later = stateOn(open());
    await later.state.restore();
    expect(later.warnings).toEqual([]);
    expect(later.state.overrides.active(0).get('a/b')?.replicas).toBe(2);
    expect([later.state.published.models.length, later.state.traces]).toEqual([1, traces]);
    expect(later.state.history.query({ limit: 5 })).toEqual([decision]);
  });
});

describe('a clock that was set back', () => {
  /** One value of each document that is saved now and then, all of them told by one number. */
  async function save(state: StoredState, at: { readonly nowMs: number; readonly value: number }): Promise<void> {
    const { nowMs, value } = at;
    const trace = { model: 'llama', runId: 'r', firstTraceSeconds: 10, newestTraceSeconds: 20, pending: value };
    state.setHolds([{ model: 'llama', plans: [], rises: [{ id: 'a/b', atMs: 0, replicas: value }] }], {
      nowMs,
      isLast: false,
    });
    const start = { id: 'a/b', seconds: [value], current: 1, ready: 1, start: null };
    state.setStartupTimes([start], nowMs);
    state.setProfileCorrections([{ deployment: 'a/b', profile: 'p', factor: value, estimates: {} }], nowMs);
    const supply = { id: 'a/b', gpuType: 'L4', readyReplicas: value, waiting: [] };
    state.setStockOuts({ supplies: [supply], marks: [] }, nowMs);
    await state.flush({ nowMs, traces: [trace], isLast: false });
  }

  it('stops no saving: each is saved at once and from then on as often as before', async () => {
    const { state } = stateOn(createMemoryStore(clock));
    await state.restore();
    const saved = () => [
      state.holds[0]?.rises[0]?.replicas,
      state.startupTimes[0]?.seconds[0],
      state.profileCorrections[0]?.factor,
      state.stockOuts.supplies[0]?.readyReplicas,
      state.traces[0]?.pending,
    ];
    await save(state, { nowMs: 3_600_000, value: 1 });
    expect(saved()).toEqual([1, 1, 1, 1, 1]);
    await save(state, { nowMs: 5000, value: 2 });
    expect(saved()).toEqual([2, 2, 2, 2, 2]);
    await save(state, { nowMs: 20_000, value: 3 });
    expect(saved()).toEqual([2, 2, 2, 2, 2]);
    await save(state, { nowMs: 65_000, value: 4 });
    expect(saved()).toEqual([4, 4, 4, 4, 4]);
  });
});

describe('a state that is too long', () => {
  it('is written as far as it fits, is reported once, and loses nothing else', async () => {
    const store = createMemoryStore(clock);
    const { state, warnings } = stateOn(store);
    await state.restore();
    const models = Array.from({ length: 100 }, (_, i) => publishedModel(`m${i}`, 'r'.repeat(100_000)));
    const traces = [{ model: 'm', runId: 'r', firstTraceSeconds: 10, newestTraceSeconds: 20, pending: 0 }];
    for (let cycle = 0; cycle < 3; cycle += 1) {
      state.setPublished({ models });
      expect(await state.flush({ nowMs: cycle, traces, isLast: false })).toBeNull();
    }
    expect(warnings).toEqual([
      expect.stringMatching(/^state published: found 10\d{6} bytes, expected at most 8388608: its first 7\d % are/),
    ]);
    expect(await store.readState('traces')).toContain('"newestTraceSeconds":20');
    const later = stateOn(store);
    await later.state.restore();
    expect(later.state.published.models.length).toBeGreaterThan(60);
    expect(later.state.published.models.length).toBeLessThan(90);
    // Once it fits it is whole again; the next time is news again.
    state.setPublished({ models: models.slice(0, 80) });
    await state.flush({ nowMs: 4, traces, isLast: false });
    expect((await store.readState('published'))!.length).toBeGreaterThan(8_000_000);
    state.setPublished({ models });
    await state.flush({ nowMs: 5, traces, isLast: false });
    expect(warnings).toHaveLength(2);
  });

  it('keeps none of its items where its first one alone is too long', async () => {
    const store = createMemoryStore(clock);
    const document = new StoredDocument<readonly string[]>({
      store,
      name: 'list',
      schema: z.array(z.string()),
      initial: [],
      merge: (stored) => stored,
      firstOf: firstItems,
      largestBytes: 100,
    });
    document.set(['é'.repeat(60), 'short']);
    expect(await document.flush()).toMatch(/^state list: found 132 bytes, expected at most 100/);
    expect(await store.readState('list')).toBe('[]');
    expect(largestStateBytes).toBe(8 * 2 ** 20);
  });
});
