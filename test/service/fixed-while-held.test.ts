import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

/**
 * What a person fixed ends while nothing can be planned: the moment for which docs/alerts.md recommends to fix replicas.
 */

const gpu = deployment({ name: 'gpu', currentReplicas: 6, usdPerReplicaHour: 2 });
const profiles = { gpu: profileText({}) };

/** A world whose last plan published 6, and that cannot read its store any more. */
async function held(options: WorldOptions = {}): Promise<World> {
  const world = await new World({ deployments: [gpu], profiles, ...options }).start();
  await world.send('llama', { rps: 6 }).cycles(3);
  expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
  world.storeFault = unreachable;
  await world.cycle();
  expect([world.replicas('gpu'), world.held()]).toEqual([6, 'redis_unreachable']);
  return world;
}

const fix = (world: World, replicas: number, ttlSeconds: number | null = null) =>
  world.controller.fixReplicas('default', 'gpu', replicas, ttlSeconds);
const clear = (world: World) => world.controller.clearFixed('default', 'gpu');
const reasonOf = (world: World) => world.controller.plan()?.deployments[0]?.reason;

describe('replicas that a person fixed while a model is held', () => {
  it.each([3, 9])('and that expire (%i) give way to what was published before, whatever runs', async (replicas) => {
    const world = await held();
    await fix(world, replicas, 15);
    await world.cycle();
    expect(world.replicas('gpu')).toBe(replicas);
    world.follow();
    await world.cycles(2);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'redis_unreachable']);
    expect(reasonOf(world)).toBe('Held (redis_unreachable): back at the 6 from before a person fixed it.');
    await world.cycle();
    expect(reasonOf(world)).toBe('Held (redis_unreachable): it keeps the 6.');
  });

  it('and that are fixed anew and then cleared give way to what was published before the first time', async () => {
    const world = await held();
    for (const replicas of [3, 0, 9]) {
      await fix(world, replicas);
      await world.cycle();
      world.follow();
    }
    await clear(world);
    await world.cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'redis_unreachable']);
  });

  it('give way to what was published before also where plans were made around them', async () => {
    const world = await new World({ deployments: [gpu], profiles }).start();
    await world.send('llama', { rps: 6 }).cycles(3);
    await fix(world, 9);
    world.follow();
    await world.cycles(3);
    world.storeFault = unreachable;
    await world.cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([9, 'redis_unreachable']);
    await clear(world);
    await world.cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'redis_unreachable']);
  });

  it('stand until they end, and a plan made meanwhile decides then', async () => {
    const world = await held();
    await fix(world, 9);
    world.storeFault = null;
    await world.send('llama', { rps: 2 }).cycles(26);
    expect([world.replicas('gpu'), world.held()]).toEqual([9, null]);
    await clear(world);
    await world.cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([2, null]);
    world.storeFault = unreachable;
    await world.cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([2, 'redis_unreachable']);
  });

  it('give way to what was planned also where only their own profile is gone', async () => {
    const other = deployment({ name: 'other', currentReplicas: 0, usdPerReplicaHour: 9 });
    const world = await new World({
      deployments: [gpu, other],
      profiles: { ...profiles, other: profileText({}) },
    }).start();
    await world.send('llama', { rps: 6 }).cycles(3);
    await fix(world, 3);
    world.follow();
    await world.cycle();
    world.hiddenProfiles.add('gpu');
    await clear(world);
    await world.cycles(2);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
  });

  it('leave no number where none was published before: not known, and never 0', async () => {
    const world = new World({ deployments: [gpu], profiles });
    world.storeFault = unreachable;
    await world.controller.start();
    await world.cycle();
    await fix(world, 3);
    await world.cycle();
    expect(world.replicas('gpu')).toBe(3);
    await clear(world);
    await world.cycle();
    expect(world.replicas('gpu')).toBe('not-known');
  });

  const inPool = { pools: [{ gpuType: 'A100-80GB', gpus: 100 }] };
  it.each([
    [2, {}, [2, 4, 6, 6]],
    [10, {}, [10, 8, 6, 6]],
    [10, inPool, [10, 8, 6, 6]],
  ])('give way by steps from %i, where steps are limited (%j)', async (replicas, limits, expected) => {
    const publish = { maxStepsDownPerMinute: 2, maxStepsUpPerMinute: 2 };
    const world = await held({ config: { publish, ...limits } });
    await fix(world, replicas);
    await world.cycles(7);
    world.follow();
    await clear(world);
    const seen = [world.replicas('gpu')];
    for (let minute = 0; minute < 3; minute += 1) {
      await world.cycles(6);
      world.follow();
      seen.push(world.replicas('gpu'));
    }
    expect([seen, world.held()]).toEqual([expected, 'redis_unreachable']);
  });
});

describe('replicas that a person fixed before a restart', () => {
  /** A process that fixed 9 where its last plan published 6, and ended; `9` run. */
  async function restarted({
    ttlSeconds,
    downSeconds,
    running = 9,
  }: {
    readonly ttlSeconds: number;
    readonly downSeconds: number;
    readonly running?: number;
  }): Promise<World> {
    const first = await new World({ deployments: [gpu], profiles }).start();
    await first.send('llama', { rps: 6 }).cycles(3);
    await fix(first, 9, ttlSeconds);
    first.follow();
    await first.cycle();
    await first.controller.stop();
    const store = createMemoryStore({ now: () => first.nowMs - 3_600_000 });
    // What the first one remembers outlives it; what the gateway wrote does not.
    Object.assign(store, { readState: first.store.readState, identity: first.store.identity });
    const world = new World({
      deployments: [{ ...gpu, currentReplicas: running, readyReplicas: running }],
      store,
      nowMs: first.nowMs + downSeconds * 1000,
    });
    await world.controller.start();
    await world.cycle();
    return world;
  }

  it('and that end after it give way to what was published before them', async () => {
    const world = await restarted({ ttlSeconds: 60, downSeconds: 1 });
    expect([world.replicas('gpu'), world.held()]).toEqual([9, 'no_traces']);
    await world.cycles(8);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'no_traces']);
  });

  it('and that ended while nothing ran give way as well', async () => {
    const world = await restarted({ ttlSeconds: 30, downSeconds: 60 });
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'no_traces']);
    await world.cycles(2);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'no_traces']);
  });

  it('never undo what somebody scaled up beyond them while nothing ran', async () => {
    const world = await restarted({ ttlSeconds: 30, downSeconds: 60, running: 12 });
    await world.cycles(2);
    expect([world.replicas('gpu'), world.held()]).toEqual([12, 'no_traces']);
  });
});
