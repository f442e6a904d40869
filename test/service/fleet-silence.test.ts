import { describe, expect, it } from 'vitest';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

const names = ['one', 'two', 'three'] as const;
const deployments = names.map((name) => deployment({ name, model: name, currentReplicas: 1, usdPerReplicaHour: 2 }));
const allSilent = 'all models fell silent at once: is tracing switched on at the gateway?';

async function world(options: WorldOptions = {}): Promise<World> {
  const created = new World({ deployments, ...options });
  for (const name of names) await created.writeProfile(name, profileText({}), name);
  return created.start();
}

/** Two busy models and a quiet one that was heard of long ago. */
async function serving(): Promise<World> {
  const fleet = await world();
  fleet.send('three', { rps: 3 });
  await fleet.send('one', { rps: 6 }).send('two', { rps: 4 }).cycles(2);
  await fleet.send('three', null).cycles(30);
  expect([numbers(fleet), holds(fleet)]).toEqual([
    [6, 4, 1],
    [null, null, null],
  ]);
  return fleet;
}

/** The gateway writes nothing any more. */
function switchOff(fleet: World): World {
  for (const name of names) fleet.send(name, null);
  return fleet;
}

const numbers = (fleet: World) => names.map((name) => fleet.replicas(name));
const holds = (fleet: World) => names.map((name) => fleet.held(name));
const concern = (fleet: World) => fleet.controller.inputs().find(({ input }) => input === 'traces')?.problem;

describe('tracing that is switched off under a fleet', () => {
  it('never scales anything down, says so once, and is followed again when it returns', async () => {
    const fleet = switchOff(await serving());
    for (let i = 0; i < 120; i += 1) {
      await fleet.cycle();
      expect(numbers(fleet)).toEqual([6, 4, 1]);
    }
    // The quiet model was idle while tracing worked, and is.
    expect(holds(fleet)).toEqual(['no_traces', 'no_traces', null]);
    expect(concern(fleet)).toBe(allSilent);
    expect(fleet.log.filter(({ message }) => message === `${allSilent} Held: one, two`)).toHaveLength(1);

    fleet.send('one', { rps: 2 }).send('two', { rps: 9 });
    // Not a moment of the silence counts as a quiet one.
    await fleet.cycle();
    expect([numbers(fleet), holds(fleet)]).toEqual([
      [2, 9, 1],
      [null, null, null],
    ]);
    expect(concern(fleet)).toBeNull();
    await fleet.cycles(40);
    expect(numbers(fleet)).toEqual([2, 9, 1]);
  });

  it('holds through restarts of gpumix', async () => {
    let fleet = switchOff(await serving());
    await fleet.cycles(10);
    for (const secondsDown of [5, 3600]) {
      await fleet.controller.stop();
      fleet = new World({ deployments, store: fleet.store, nowMs: fleet.nowMs + secondsDown * 1000 });
      await fleet.start();
      await fleet.cycles(40);
      expect([numbers(fleet).slice(0, 2), holds(fleet).slice(0, 2)]).toEqual([
        [6, 4],
        ['no_traces', 'no_traces'],
      ]);
      expect(concern(fleet)).toBe(allSilent);
    }
    await fleet.send('one', { rps: 5 }).cycles(2);
    expect([fleet.replicas('one'), fleet.held('one')]).toEqual([5, null]);
  });

  it('is noticed by a process that was not there when it happened', async () => {
    const before = await serving();
    await before.controller.stop();
    const after = new World({ deployments, store: before.store, nowMs: before.nowMs + 1200_000 });
    await after.start();
    await after.cycles(30);
    expect([numbers(after), holds(after)]).toEqual([
      [6, 4, 1],
      ['no_traces', 'no_traces', null],
    ]);
  });

  it('holds also the sparse model whose last request came before', async () => {
    const fleet = await world();
    await fleet.send('one', { rps: 6 }).send('two', { rps: 4 }).send('three', { rps: 3 }).cycles(30);
    await fleet.send('three', null).cycles(6);
    const sparse = fleet.replicas('three');
    expect(sparse).toBeGreaterThan(1);
    await switchOff(fleet).cycles(60);
    expect([numbers(fleet), holds(fleet)]).toEqual([
      [6, 4, sparse],
      ['no_traces', 'no_traces', 'no_traces'],
    ]);
  });

  it('says no_traces also of a model whose last record left requests pending', async () => {
    const fleet = await serving();
    await fleet.send('one', { rps: 6, pending: 3 }).cycle();
    await switchOff(fleet).cycles(40);
    expect(holds(fleet)).toEqual(['no_traces', 'no_traces', null]);
    expect(numbers(fleet)).toEqual([6, 4, 1]);
  });

  it('is not what a store looks like that could not be read meanwhile', async () => {
    const fleet = await serving();
    fleet.storeFault = unreachable;
    await fleet.cycles(20);
    fleet.storeFault = null;
    await fleet.cycle();
    expect([numbers(fleet), holds(fleet), concern(fleet)]).toEqual([[6, 4, 1], [null, null, null], null]);
  });
});

describe('models that fall quiet while tracing works', () => {
  it('are idle: one of two', async () => {
    const fleet = await serving();
    await fleet.send('two', null).cycles(30);
    expect([numbers(fleet), holds(fleet), concern(fleet)]).toEqual([[6, 1, 1], [null, null, null], null]);
  });

  it('are idle: the only busy one, for nothing tells it from tracing that was switched off', async () => {
    const fleet = await serving();
    await fleet.send('two', null).cycles(30);
    await switchOff(fleet).cycles(30);
    expect([numbers(fleet), holds(fleet)]).toEqual([
      [1, 1, 1],
      [null, null, null],
    ]);
  });

  it('are idle: two sparse ones', async () => {
    const fleet = await world();
    for (let i = 0; i < 8; i += 1) {
      await fleet.send('one', { rps: 6 }).send('two', { rps: 4 }).cycle();
      await switchOff(fleet).cycles(3);
    }
    await fleet.cycles(30);
    expect([numbers(fleet).slice(0, 2), holds(fleet).slice(0, 2), concern(fleet)]).toEqual([
      [1, 1],
      [null, null],
      expect.not.stringContaining('at once'),
    ]);
  });

  it('are idle: all that were silent, once any model is heard of again', async () => {
    const fleet = switchOff(await serving());
    await fleet.cycles(40);
    expect(holds(fleet)).toEqual(['no_traces', 'no_traces', null]);
    await fleet.send('three', { rps: 1 }).cycles(20);
    expect(numbers(fleet).slice(0, 2)).toEqual([6, 4]);
    await fleet.cycles(10);
    expect([numbers(fleet), holds(fleet)]).toEqual([
      [1, 1, 1],
      [null, null, null],
    ]);
  });
});
