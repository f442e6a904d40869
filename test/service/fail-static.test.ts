import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { type SharedStore, Unavailable } from '../../src/core/ports.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

const gpu = deployment({ name: 'gpu', currentReplicas: 6, usdPerReplicaHour: 2 });

/** A world that has planned 6 replicas for 6 requests/s. */
async function serving(options: WorldOptions = {}): Promise<World> {
  const world = await new World({ deployments: [gpu], profiles: { gpu: profileText({}) }, ...options }).start();
  await world.send('llama', { rps: 6 }).cycles(3);
  expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
  return world;
}

/** An empty store that has run for long. */
function longRunning(world: World): SharedStore {
  return createMemoryStore({ now: () => world.nowMs - 3_600_000 });
}

describe('losing the store', () => {
  it('never scales anything down, says so, and needs no restart to recover', async () => {
    const world = await serving();
    const planAt = world.controller.models()[0]?.planAt;
    world.storeFault = unreachable;
    world.send('llama', { rps: 1 });
    await world.cycles(40);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'redis_unreachable']);
    expect(world.controller.replicasOf('default', 'gpu')).toMatchObject({ status: 'held', at: planAt });
    expect(world.controller.plan()).toMatchObject({ status: 'held', usdPerHour: 12 });
    expect(
      world.controller
        .inputs()
        .filter(({ ok }) => !ok)
        .map(({ input }) => input),
    ).toEqual(['redis', 'profiles', 'traces']);
    expect(world.reports.at(-1)?.errors).toContainEqual({ input: 'redis', code: 'redis_unreachable' });
    world.storeFault = null;
    await world.cycles(24);
    expect([world.replicas('gpu'), world.held()]).toEqual([1, null]);
    expect(world.controller.inputs().every(({ ok }) => ok)).toBe(true);
  });

  it('before the first plan publishes nothing: 503, never 0', async () => {
    const world = new World({ deployments: [gpu], profiles: { gpu: profileText({}) } });
    world.storeFault = unreachable;
    await world.controller.start();
    await world.cycles(3);
    expect(world.controller.replicasOf('default', 'gpu')).toEqual({
      kind: 'not-known',
      reason: 'the store cannot be reached',
    });
    expect(world.controller.ready()).toBe(false);
  });

  it('right after a restart holds what was published before it', async () => {
    const first = await serving();
    await first.controller.stop();
    const second = new World({ deployments: [gpu], store: first.store, nowMs: first.nowMs + 5000 });
    let reads = 0;
    const { readTraces } = second.store;
    // The state is read at the start; then the store goes away.
    Object.assign(second.store, {
      readTraces: async (...args: Parameters<typeof readTraces>) => {
        reads += 1;
        if (reads > 0) throw unreachable;
        return readTraces(...args);
      },
    });
    await second.controller.start();
    await second.cycles(3);
    expect(reads).toBeGreaterThan(0);
    expect([second.replicas('gpu'), second.held()]).toEqual([6, 'redis_unreachable']);
    expect(second.controller.plan()?.deployments[0]?.reason).toContain('before the restart');
  });

  it('that holds a restored number does not undo what was scaled up in the meantime', async () => {
    const first = await serving();
    await first.controller.stop();
    const second = new World({ deployments: [{ ...gpu, currentReplicas: 9 }], store: first.store, nowMs: first.nowMs });
    await second.controller.start();
    second.deployments.set({ staleSince: second.nowMs });
    await second.cycle();
    expect(second.replicas('gpu')).toBe(9);
  });

  it('and finding it empty holds until traces come back, then follows them with the profiles it knew', async () => {
    const world = await serving();
    world.send('llama', null);
    Object.assign(world.store, createMemoryStore({ now: () => world.nowMs }));
    await world.cycles(30);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'no_traces']);
    world.send('llama', { rps: 2 });
    await world.cycles(26);
    expect([world.replicas('gpu'), world.held()]).toEqual([2, null]);
    expect(world.warnings()).toEqual(['profile_kept']);
  });

  it('and finding it empty writes back what must survive the next restart', async () => {
    const world = await serving();
    await world.controller.fixReplicas('default', 'gpu', 4, null);
    Object.assign(world.store, createMemoryStore({ now: () => world.nowMs }));
    await world.cycles(2);
    expect(await world.store.readState('overrides')).toContain('default/gpu');
    expect(await world.store.readState('published')).toContain('default/gpu');
    expect((await world.store.readList('decisions', 10)).length).toBeGreaterThan(0);
  });

  it('emptied while its server runs on makes silence mean nothing again', async () => {
    const world = await serving();
    world.runId = 'the same server';
    await world.cycles(26);
    world.send('llama', null);
    Object.assign(world.store, longRunning(world));
    await world.cycles(40);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'no_traces']);
    expect(world.log.map(({ message }) => message)).toContain(
      'the store is another one than before, or was emptied: gpumix writes its state again',
    );
    world.send('llama', { rps: 2 });
    await world.cycles(26);
    expect([world.replicas('gpu'), world.held()]).toEqual([2, null]);
  });

  it('emptied just before a restart scales nothing down: what was remembered of its traces is void', async () => {
    const first = await serving();
    first.runId = 'the same server';
    await first.cycles(26);
    // No cycle sees that everything is gone: the process writes what it remembers, and ends.
    Object.assign(first.store, longRunning(first));
    await first.controller.stop();
    expect(await first.store.readState('traces')).toContain('the same server');
    const second = new World({
      deployments: [gpu],
      profiles: { gpu: profileText({}) },
      store: first.store,
      nowMs: first.nowMs,
    });
    second.runId = 'the same server';
    await second.send('llama', { rps: 6 }).start();
    const seen = new Set([second.replicas('gpu')]);
    for (let i = 0; i < 30; i += 1) {
      await second.cycle();
      seen.add(second.replicas('gpu'));
    }
    // Its number is gone with everything else: 503 until a trace tells one, never a smaller one.
    expect([...seen]).toEqual(['not-known', 6]);
    expect(second.held()).toBeNull();
  });

  it('that cannot be written is the same one in every cycle', async () => {
    const world = await serving();
    const { writeState } = world.store;
    Object.assign(world.store, longRunning(world));
    world.store.writeState = async () => {
      throw new Unavailable('redis_refused', 'READONLY');
    };
    await world.cycles(26);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
    expect(world.log.filter(({ message }) => message.startsWith('the store is another one'))).toHaveLength(1);
    world.store.writeState = writeState;
  });

  it('does not make cycles come faster', async () => {
    const world = await serving();
    world.storeFault = unreachable;
    await world.cycles(3);
    const [a, b] = world.reports.slice(-2).map(({ at }) => at);
    expect(b! - a!).toBe(10_000);
    expect(world.waits()).toEqual([10_000]);
  });

  it('for one key is an unknown interval, not an empty one', async () => {
    const world = await serving();
    const { readTraces } = world.store;
    Object.assign(world.store, {
      readTraces: async (...args: Parameters<typeof readTraces>) =>
        (await readTraces(...args)).map(() => ({ kind: 'failed', message: 'WRONGTYPE' })),
    });
    await world.cycles(12);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'no_traces']);
    expect(world.reports.at(-1)?.errors).toContainEqual({ input: 'traces', code: 'unreadable' });
  });
});

describe('losing the traces of a model', () => {
  it('for a while without cycles loses nothing: the missed intervals are read later', async () => {
    const world = await serving();
    const before = world.controller.models()[0]!.demand!.knownIntervals;
    await world.skip(95);
    await world.cycle();
    expect(world.controller.models()[0]?.demand?.knownIntervals).toBe(before + 9);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
  });

  it('while requests are pending holds its plan', async () => {
    const world = await serving();
    await world.send('llama', { rps: 6, pending: 4 }).cycle();
    world.send('llama', null);
    await world.cycles(40);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'requests_pending']);
  });

  it('before any request has completed holds it without a number', async () => {
    const world = await new World({ deployments: [gpu], profiles: { gpu: profileText({}) } }).start();
    await world.send('llama', { rps: 6, completions: 0, pending: 60 }).cycles(3);
    expect([world.replicas('gpu'), world.held()]).toEqual(['not-known', 'no_lengths']);
    await world.send('llama', { rps: 6 }).cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
  });

  it('that were never seen says what to look at', async () => {
    const world = await new World({ deployments: [gpu], profiles: { gpu: profileText({}) } }).start();
    await world.cycles(3);
    const traces = world.controller.inputs().find(({ input }) => input === 'traces');
    expect(traces?.problem).toBe('no recent request traces of any model: is tracing switched on at the gateway?');
  });

  it('through one bad record holds nothing, and is logged once', async () => {
    const world = await serving();
    await world.store.writeTraces([
      { model: 'llama', endSeconds: Math.floor(world.nowMs / 10_000) * 10 + 10, text: '{"1:' },
    ]);
    world.send('llama', null);
    await world.cycles(2);
    world.send('llama', { rps: 6 });
    await world.cycles(2);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
    expect(world.log.filter(({ message }) => message.includes('traces of llama'))).toHaveLength(1);
  });
});

describe('losing Kubernetes', () => {
  it('holds every plan on the last view, and plans again when it is back', async () => {
    const world = await serving();
    world.deployments.set({ staleSince: world.nowMs, problem: 'connection refused' });
    await world.send('llama', { rps: 1 }).cycles(26);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'kubernetes_unreachable']);
    expect(world.controller.inputs()).toContainEqual(
      expect.objectContaining({ input: 'kubernetes', ok: false, problem: 'connection refused' }),
    );
    world.deployments.set({ staleSince: null, problem: null });
    await world.cycle();
    // Demand was read all the while: the window is whole, and the first plan is the right one.
    expect([world.replicas('gpu'), world.held()]).toEqual([1, null]);
  });

  it('before its first list has no verdict on other deployments, and holds what was published before a restart', async () => {
    const first = await serving();
    await first.controller.stop();
    const second = new World({ store: first.store, nowMs: first.nowMs });
    second.deployments.set({ synced: false });
    await second.controller.start();
    await second.cycle();
    expect(second.controller.replicasOf('default', 'gpu')).toMatchObject({
      kind: 'known',
      replicas: 6,
      heldReason: 'not_synced',
    });
    expect(second.replicas('other')).toBe('not-known');
    expect(second.controller.ready()).toBe(false);
  });
});

describe('losing the profiles', () => {
  const fault = new Unavailable('profiles_unreadable', 'the folder cannot be read');

  it('goes on with the last good ones', async () => {
    const world = await serving();
    world.profilesFault = fault;
    await world.send('llama', { rps: 9 }).cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([9, null]);
    expect(world.controller.inputs()).toContainEqual(expect.objectContaining({ input: 'profiles', ok: false }));
  });

  it('before they were ever read holds the models that need them', async () => {
    const world = new World({ deployments: [gpu], profiles: { gpu: profileText({}) } });
    world.profilesFault = fault;
    await world.start();
    await world.send('llama', { rps: 9 }).cycle();
    expect(world.replicas('gpu')).toBe('not-known');
    world.profilesFault = null;
    await world.cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([9, null]);
  });
});

describe('profiles that serve nothing', () => {
  const zero = profileText({ rps: 0 });

  it('replace no good one: the last good one is kept, and everybody is told', async () => {
    const world = await serving();
    await world.writeProfile('gpu', zero);
    await world.send('llama', { rps: 7 }).cycles(3);
    expect([world.replicas('gpu'), world.held(), world.warnings()]).toEqual([7, null, ['profile_kept']]);
    const profiles = world.controller.inputs().find(({ input }) => input === 'profiles');
    expect(profiles?.problem).toContain('serves nothing within its SLO: every throughput is 0');
  });

  it('are no profiles where there was none before', async () => {
    const world = await new World({ deployments: [gpu], profiles: { gpu: zero } }).start();
    await world.send('llama', { rps: 7 }).cycles(3);
    expect([world.replicas('gpu'), world.held(), world.warnings()]).toEqual([6, 'no_profile', ['bad_profile']]);
  });

  it('of the requests that arrive, also for their length, hold the plan, and what runs before the first one', async () => {
    // Less than any request takes.
    const short = { ...gpu, maxTokens: 600 };
    const world = await serving();
    world.deployments.set({ deployments: [short] });
    await world.cycles(30);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'nothing_servable']);
    const fresh = await new World({ deployments: [short], profiles: { gpu: profileText({}) } }).start();
    await fresh.send('llama', { rps: 6 }).cycles(3);
    expect([fresh.replicas('gpu'), fresh.held()]).toEqual([6, 'nothing_servable']);
  });
});

describe('losing what one deployment needs to be planned, on its way up', () => {
  const cheap = deployment({ name: 'cheap', currentReplicas: 2, usdPerReplicaHour: 1 });
  const dear = deployment({ name: 'dear', currentReplicas: 0, usdPerReplicaHour: 5 });
  const free = profileText({ cost: null });
  const profiles = { cheap: free, dear: free };

  async function climbing(): Promise<World> {
    const world = await new World({ deployments: [cheap, dear], profiles }).start();
    await world.send('llama', { rps: 12 }).cycles(3);
    expect([world.replicas('cheap'), world.replicas('dear')]).toEqual([12, 0]);
    return world;
  }
  const reasonOf = (world: World, id: string) =>
    world.controller.plan()?.deployments.find((each) => each.id === id)?.reason;

  it('keeps what was asked for, not what runs: its profile', async () => {
    const world = await climbing();
    world.hiddenProfiles.add('cheap');
    await world.cycles(3);
    expect([world.replicas('cheap'), world.held()]).toEqual([12, null]);
    expect(reasonOf(world, cheap.id)).toBe(
      'It lost its profile or its price: it keeps the 12 that were published when it could last be planned.',
    );
    world.hiddenProfiles.clear();
    await world.send('llama', { rps: 3 }).cycles(26);
    expect(world.replicas('cheap')).toBe(3);
  });

  it('keeps what was asked for, not what runs: its price', async () => {
    const world = await climbing();
    world.deployments.set({ deployments: [{ ...cheap, gpuType: 'L4', usdPerReplicaHour: null }, dear] });
    await world.cycles(3);
    expect([world.replicas('cheap'), world.held()]).toEqual([12, null]);
    expect(world.warnings()).toContain('no_price');
  });

  it('keeps it through a restart, and never above its maximum', async () => {
    const first = await climbing();
    await first.controller.stop();
    const second = new World({ deployments: [cheap, dear], profiles, store: first.store, nowMs: first.nowMs });
    second.hiddenProfiles.add('cheap');
    await second.send('llama', { rps: 12 }).start();
    await second.cycles(2);
    expect([second.replicas('cheap'), second.held()]).toEqual([12, null]);
    second.deployments.set({ deployments: [{ ...cheap, maxReplicas: 7 }, dear] });
    await second.cycle();
    expect(second.replicas('cheap')).toBe(7);
  });

  it('follows what people do with a deployment that never could be planned', async () => {
    const world = await new World({
      deployments: [{ ...cheap, currentReplicas: 5 }, dear],
      profiles: { dear: free },
    }).start();
    await world.send('llama', { rps: 2 }).cycles(2);
    expect(world.replicas('cheap')).toBe(5);
    world.deployments.set({ deployments: [{ ...cheap, currentReplicas: 3 }, dear] });
    await world.cycle();
    expect(world.replicas('cheap')).toBe(3);
  });
});

describe('readiness', () => {
  it('comes once a cycle has read every input, and does not go with a fault', async () => {
    const world = new World({ deployments: [gpu], profiles: { gpu: profileText({}) } });
    world.deployments.set({ synced: false });
    await world.controller.start();
    await world.cycle();
    expect(world.controller.ready()).toBe(false);
    world.deployments.set({ synced: true, deployments: [gpu] });
    await world.cycle();
    expect(world.controller.ready()).toBe(true);
    world.storeFault = unreachable;
    await world.cycle();
    expect(world.controller.ready()).toBe(true);
  });
});
