import { describe, expect, it } from 'vitest';
import type { ObservedDeployment } from '../../src/core/ports.js';
import { ClockSteps } from '../../src/service/clock-steps.js';
import { StartupTimes } from '../../src/service/startup-times.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

const hourMs = 3_600_000;
const gpu = deployment({ name: 'gpu', currentReplicas: 6 });

/** A service that has published 6 for five minutes; its store is one server all the time. */
async function serving(options: WorldOptions = {}): Promise<World> {
  const world = new World({
    deployments: [gpu],
    profiles: { gpu: profileText({}) },
    config: { stability: { scaleDownStabilizationSeconds: 300, scaleDownTolerance: 0 } },
    ...options,
  });
  world.runId = 'one server';
  await world.start();
  await world.send('llama', { rps: 6 }).cycles(30);
  expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
  return world;
}

/** What is published in so many cycles, and how long after each of them the next one is due [s]. */
async function watch(world: World, cycles: number): Promise<{ published: unknown[]; waits: unknown[] }> {
  const [published, waits] = [new Set(), new Set()];
  for (let i = 0; i < cycles; i += 1) {
    await world.cycle();
    published.add(world.replicas('gpu'));
    waits.add(world.waits()[0]);
  }
  return { published: [...published], waits: [...waits] };
}

describe('a clock that is set while the service runs', () => {
  it.each([
    ['an hour ahead', hourMs],
    ['an hour back', -hourMs],
    ['five minutes ahead', 300_000],
    ['five minutes back', -300_000],
    ['a minute ahead', 60_000],
  ])('%s, with all others: nothing falls, and cycles go on as they did', async (_, byMs) => {
    // Nothing but what is known of demand keeps the replicas.
    const world = await serving({
      config: { stability: { scaleDownStabilizationSeconds: 0, scaleDownTolerance: 0 } },
    });
    world.setClocks(byMs, { whose: 'all' });
    expect(await watch(world, 40)).toEqual({ published: [6], waits: [10_000] });
    expect(world.held()).toBeNull();
    await world.send('llama', { rps: 9 }).cycles(3);
    expect(world.replicas('gpu')).toBe(9);
    await world.send('llama', { rps: 2 }).cycles(30);
    expect(world.replicas('gpu')).toBe(2);
  });

  it.each([
    ['an hour ahead', hourMs],
    ['an hour back', -hourMs],
  ])('%s, and no other: what runs stays, and it is followed again once the clock is right', async (_, byMs) => {
    const world = await serving();
    world.setClocks(byMs, { whose: 'ours' });
    expect(await watch(world, 120)).toEqual({ published: [6], waits: [10_000] });
    expect(world.held()).toBe('no_traces');
    world.setClocks(-byMs, { whose: 'ours' });
    expect((await watch(world, 3)).published).toEqual([6]);
    await world.send('llama', { rps: 9 }).cycles(3);
    expect([world.replicas('gpu'), world.held()]).toEqual([9, null]);
  });

  it.each([
    ['ahead', 300_000],
    ['back', -300_000],
  ])('less than records live %s, and no other: the clock of Redis tells', async (_, byMs) => {
    const world = await serving();
    world.storeTellsTime = true;
    world.setClocks(byMs, { whose: 'ours' });
    expect((await watch(world, 120)).published).toEqual([6]);
    expect(world.controller.inputs().find(({ input }) => input === 'redis')?.problem).toMatch(
      /^the clock of Redis is 300 s (ahead of|behind) the clock here: models without traces are held/,
    );
    world.setClocks(-byMs, { whose: 'ours' });
    await world.send('llama', { rps: 2 }).cycles(60);
    expect([world.replicas('gpu'), world.held()]).toEqual([2, null]);
    expect(world.controller.inputs().find(({ input }) => input === 'redis')?.problem).toBeNull();
  });

  it('is said once, with how far', async () => {
    const world = await serving();
    world.setClocks(-hourMs, { whose: 'all' });
    await world.cycles(5);
    expect(world.log.filter(({ message }) => message.startsWith('the clock was set'))).toEqual([
      { level: 'warn', message: 'the clock was set 3600 s back: what is quiet counts as unknown until traces arrive' },
    ]);
  });

  it('does not shorten the wait before a fall', async () => {
    const world = await serving();
    // The window is full of the smaller rate after 24 cycles, and 30 more are waited for.
    await world.send('llama', { rps: 2 }).cycles(30);
    expect(world.replicas('gpu')).toBe(6);
    world.setClocks(hourMs, { whose: 'all' });
    expect((await watch(world, 20)).published).toEqual([6]);
    await world.cycles(40);
    expect(world.replicas('gpu')).toBe(2);
  });

  it('leaves the silence of a model that is idle what it is, once traces were seen by the new time', async () => {
    const world = await serving();
    world.setClocks(hourMs, { whose: 'all' });
    await world.cycles(6);
    await world.send('llama', null).cycles(70);
    expect([world.replicas('gpu'), world.held()]).toEqual([1, null]);
  });

  it('does not make inputs older or younger than they are', async () => {
    const world = await serving();
    world.storeFault = unreachable;
    await world.cycles(3);
    const age = () => world.controller.inputs().find(({ input }) => input === 'redis')!.ageSeconds!;
    expect(age()).toBe(30);
    for (const byMs of [hourMs, -2 * hourMs]) world.setClocks(byMs, { whose: 'all' });
    await world.cycle();
    expect(age()).toBe(40);
  });
});

describe('a clock that was wrong before the service started', () => {
  it('shows no silence: the clock of Redis tells', async () => {
    const world = new World({
      deployments: [gpu],
      profiles: { gpu: profileText({}) },
      config: { stability: { scaleDownStabilizationSeconds: 0, scaleDownTolerance: 0 } },
    });
    [world.runId, world.storeTellsTime, world.outsideAheadMs] = ['one server', true, -300_000];
    await world.start();
    expect((await watch(world.send('llama', { rps: 6 }), 90)).published).not.toContain(1);
    expect(world.held()).toBe('no_traces');
  });
});

describe('what waits while the clock is set', () => {
  const rising = (overrides: Partial<ObservedDeployment>) => deployment({ name: 'gpu', ...overrides });

  it('is no GPU type that cannot be had: replicas are given the time that they need', async () => {
    const world = await serving();
    world.deployments.set({ deployments: [rising({ currentReplicas: 9, readyReplicas: 6, pendingReplicas: 3 })] });
    await world.send('llama', { rps: 9 }).cycles(3);
    world.setClocks(hourMs, { whose: 'all' });
    expect((await watch(world, 5)).published).toEqual([9]);
    expect(world.controller.shortages()).toEqual([]);
  });

  it('is no start that took longer than it did, and none that is forgotten', () => {
    const times = new StartupTimes(60);
    const seen = (currentReplicas: number, readyReplicas: number, atSeconds: number) =>
      times.observe([{ id: 'default/gpu', startupSeconds: null, currentReplicas, readyReplicas }], atSeconds * 1000);
    seen(1, 1, 0);
    seen(2, 1, 10);
    times.clockWasSet(100_000);
    seen(2, 2, 140);
    seen(3, 2, 150);
    times.clockWasSet(-hourMs);
    seen(3, 3, 190 - 3600);
    expect(times.toJSON()[0]!.seconds).toEqual([30, 40]);
  });

  it.each([hourMs, -hourMs])('keeps the old replicas of a move until the new ones serve (%i ms)', async (byMs) => {
    const [cheap, dear] = [
      deployment({ name: 'cheap', currentReplicas: 0, usdPerReplicaHour: 1 }),
      deployment({ name: 'gpu', currentReplicas: 6, usdPerReplicaHour: 5 }),
    ];
    const free = profileText({ cost: null });
    const world = await serving({ deployments: [dear], profiles: { gpu: free, cheap: free } });
    world.deployments.set({ deployments: [cheap, dear] });
    await world.cycles(40);
    expect([world.replicas('cheap'), world.replicas('gpu')]).toEqual([6, 6]);
    const starting = { ...cheap, currentReplicas: 6, readyReplicas: 0, pendingReplicas: 6 };
    world.deployments.set({ deployments: [starting, dear] });
    await world.cycle();
    world.setClocks(byMs, { whose: 'all' });
    expect((await watch(world, 5)).published).toEqual([6]);
    world.deployments.set({ deployments: [{ ...starting, readyReplicas: 6, pendingReplicas: 0 }, dear] });
    await world.cycles(45);
    expect([world.replicas('cheap'), world.replicas('gpu')]).toEqual([6, 0]);
  });
});

describe('a step of the clock', () => {
  it('is told once, whichever way; what drifts slowly is none', () => {
    let [wallMs, steadyMs] = [1_000_000, 5];
    const steps = new ClockSteps({ now: () => wallMs }, () => steadyMs);
    const pass = (ms: number, drift = 0) => {
      steadyMs += ms;
      wallMs += ms + drift;
      return steps.look();
    };
    expect(steps.look()).toBe(0);
    expect(pass(10_000)).toBe(0);
    expect(pass(3_000_000)).toBe(0);
    expect(pass(10_000, hourMs)).toBe(hourMs);
    expect(pass(10_000)).toBe(0);
    expect(pass(10_000, -6000)).toBe(-6000);
    expect(Array.from({ length: 100 }, () => pass(10_000, 400)).filter((byMs) => byMs !== 0)).toEqual([]);
  });
});
