import { describe, expect, it } from 'vitest';
import type { ObservedDeployment } from '../../src/core/ports.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

/**
 * A model in the middle of a move from one GPU type to another, and what goes missing meanwhile. A replica serves 1
 * request/s on either type.
 */
const old = deployment({ name: 'old', usdPerReplicaHour: 1, currentReplicas: 4 });
const fresh = deployment({ name: 'new', gpuType: 'L4', usdPerReplicaHour: 3, currentReplicas: 0 });
const profiles = { old: profileText({}), new: profileText({}) };

type Runs = Partial<Pick<ObservedDeployment, 'currentReplicas' | 'readyReplicas'>>;

/** What the cluster says of some deployments from now on. */
function see(world: World, runs: Readonly<Record<string, Runs>>): void {
  const deployments = world.deployments.current.deployments.map((each): ObservedDeployment => {
    const now = { ...each, ...runs[each.name] };
    const { currentReplicas: current, readyReplicas: ready } = now;
    return { ...now, pendingReplicas: current === null || ready === null ? null : Math.max(0, current - ready) };
  });
  world.deployments.set({ deployments });
}

/** Published for the old and the new deployment. */
const numbers = (world: World) => [world.replicas('old'), world.replicas('new')];

/** Four requests/s, all on the old type, which has become dear: the new replicas are asked for. */
async function moving(options: WorldOptions = {}): Promise<World> {
  const world = await new World({ deployments: [old, fresh], profiles, ...options }).start();
  await world.send('llama', { rps: 4 }).cycles(2);
  await world.settle();
  expect(numbers(world)).toEqual([4, 0]);
  const deployments = world.deployments.current.deployments.map((each) =>
    each.name === 'old' ? { ...each, usdPerReplicaHour: 9 } : each,
  );
  world.deployments.set({ deployments });
  await world.cycle();
  expect(numbers(world)).toEqual([4, 4]);
  see(world, { new: { currentReplicas: 4, readyReplicas: 0 } });
  await world.cycle();
  expect(numbers(world)).toEqual([4, 4]);
  return world;
}

const limits: readonly (readonly [string, WorldOptions])[] = [
  ['alone', {}],
  ['in a pool', { config: { pools: ['A100-80GB', 'L4'].map((gpuType) => ({ gpuType, gpus: 8 })) } }],
];

describe.each(limits)('a move during which readiness goes missing, %s', (_, options) => {
  it.each([
    ['of the new replicas', { new: { readyReplicas: null } }],
    ['of the old ones', { old: { readyReplicas: null } }],
    ['of all', { old: { readyReplicas: null }, new: { readyReplicas: null } }],
  ])('waits, and goes on when it is told again: %s', async (_, gap) => {
    const world = await moving(options);
    for (let cycle = 0; cycle < 12; cycle += 1) {
      see(world, gap);
      await world.cycle();
      expect(numbers(world)).toEqual([4, 4]);
    }
    expect(world.warnings()).toContain('readiness_unread');
    see(world, { old: { readyReplicas: 4 }, new: { readyReplicas: 4 } });
    await world.cycle();
    expect(numbers(world)).toEqual([0, 4]);
    expect(world.warnings()).toEqual([]);
  });

  it('keeps what a part of the move released, and releases no more', async () => {
    const world = await moving(options);
    see(world, { new: { readyReplicas: 3 } });
    await world.cycle();
    expect(numbers(world)).toEqual([1, 4]);
    world.follow();
    see(world, { new: { readyReplicas: 3 } });
    await world.cycle();
    see(world, { old: { readyReplicas: null }, new: { readyReplicas: null } });
    await world.cycles(2);
    expect(numbers(world)).toEqual([1, 4]);
    see(world, { old: { readyReplicas: 1 }, new: { readyReplicas: 2 } });
    await world.cycle();
    expect(numbers(world)).toEqual([1, 4]);
    see(world, { new: { readyReplicas: 4 } });
    await world.cycle();
    expect(numbers(world)).toEqual([0, 4]);
  });

  it('counts no more ready replicas than are asked for by then', async () => {
    const world = await moving(options);
    see(world, { new: { currentReplicas: 4, readyReplicas: 4 } });
    await world.cycle();
    expect(numbers(world)).toEqual([0, 4]);
    // Somebody scales the new ones down before the old ones are gone, and nobody says how many are ready.
    see(world, { new: { currentReplicas: 1, readyReplicas: null } });
    await world.cycle();
    const [left, asked] = numbers(world);
    expect(asked).toBe(4);
    expect(left).toBeGreaterThanOrEqual(3);
  });

  it('keeps the old replicas where how many of the new ones are asked for goes missing', async () => {
    const world = await moving(options);
    see(world, { new: { currentReplicas: null } });
    await world.cycle();
    expect(numbers(world)).toEqual([4, 4]);
  });

  it('is made at once where the source never tells readiness', async () => {
    const silent = { readyReplicas: null, pendingReplicas: null };
    const world = await new World({
      deployments: [
        { ...old, ...silent },
        { ...fresh, ...silent },
      ],
      profiles,
      ...options,
    }).start();
    await world.send('llama', { rps: 4 }).cycles(2);
    expect(numbers(world)).toEqual([4, 0]);
    const deployments = world.deployments.current.deployments.map((each) =>
      each.name === 'old' ? { ...each, usdPerReplicaHour: 9 } : each,
    );
    world.deployments.set({ deployments });
    await world.cycle();
    expect(numbers(world)).toEqual([0, 4]);
    expect(world.warnings()).toEqual([]);
  });
});

describe.each(limits)('a model that is held in the middle of a move, %s', (_, options) => {
  const none = profileText({
    tputs: [
      [0, 0],
      [0, 1],
    ],
  });
  const faults: readonly (readonly [
    reason: string,
    lose: (world: World) => unknown,
    find: (world: World) => unknown,
  ])[] = [
    [
      'redis_unreachable',
      (world) => {
        world.storeFault = unreachable;
      },
      (world) => {
        world.storeFault = null;
      },
    ],
    ['no_profile', (world) => world.hiddenProfiles.add('old').add('new'), (world) => world.hiddenProfiles.clear()],
    [
      'planning_failed',
      (world) => {
        world.planFault = () => {
          throw new Error('out of luck');
        };
      },
      (world) => {
        world.planFault = null;
      },
    ],
    [
      'nothing_servable',
      async (world) => {
        for (const name of ['old', 'new']) await world.writeProfile(name, none);
        setMaxTokens(world, 100);
      },
      async (world) => {
        for (const name of ['old', 'new']) await world.writeProfile(name, profileText({}));
        setMaxTokens(world, null);
      },
    ],
    [
      'kubernetes_unreachable',
      (world) => world.deployments.set({ staleSince: world.nowMs }),
      (world) => world.deployments.set({ staleSince: null }),
    ],
  ];

  function setMaxTokens(world: World, maxTokens: number | null): void {
    const deployments = world.deployments.current.deployments.map((each) => ({ ...each, maxTokens }));
    world.deployments.set({ deployments });
  }

  it.each(faults)(
    'keeps the old and the new replicas, ready or not, and then goes on: %s',
    async (reason, lose, find) => {
      const world = await moving(options);
      await lose(world);
      // A profile is gone when it is missed twice.
      await world.cycle();
      expect(numbers(world)).toEqual([4, 4]);
      const seen: (number | null)[] = [0, 2, null, 4];
      for (const readyReplicas of seen) {
        see(world, { new: { readyReplicas } });
        await world.cycle();
        expect([world.held(), ...numbers(world)]).toEqual([reason, 4, 4]);
      }
      await find(world);
      see(world, { new: { readyReplicas: 1 } });
      await world.cycle();
      expect([world.held(), ...numbers(world)]).toEqual([null, 3, 4]);
      world.follow();
      await world.cycle();
      expect(numbers(world)).toEqual([0, 4]);
    },
  );
});

describe('a model that is held in the middle of a move, in pools that others share', () => {
  it('keeps the GPUs of both sides, and no step of the others counts on them', async () => {
    const other = ['A100-80GB', 'L4'].map((gpuType, index) =>
      deployment({
        name: `other-${gpuType}`,
        model: 'other',
        gpuType,
        usdPerReplicaHour: 2 + index,
        currentReplicas: 0,
      }),
    );
    const pools = ['A100-80GB', 'L4'].map((gpuType) => ({ gpuType, gpus: 5 }));
    const world = new World({ deployments: [old, fresh, ...other], profiles, config: { pools } });
    for (const { name } of other) await world.writeProfile(name, profileText({}), 'other');
    await world.start();
    await world.send('llama', { rps: 4 }).cycles(2);
    await world.settle();
    const deployments = world.deployments.current.deployments.map((each) =>
      each.name === 'old' ? { ...each, usdPerReplicaHour: 9 } : each,
    );
    world.deployments.set({ deployments });
    await world.cycle();
    see(world, { new: { currentReplicas: 4, readyReplicas: 0 } });
    expect(numbers(world)).toEqual([4, 4]);
    world.hiddenProfiles.add('old').add('new');
    await world.send('other', { rps: 3 }).cycles(3);
    expect(world.held()).toBe('no_profile');
    // One GPU is left of each type.
    expect([...numbers(world), ...other.map(({ name }) => world.replicas(name))]).toEqual([4, 4, 1, 1]);
    expect(world.controller.plan()!.unserved).toMatchObject([{ model: 'other', reason: 'capacity' }]);
    world.hiddenProfiles.clear();
    await world.settle();
    expect(world.controller.plan()!.unserved).toEqual([]);
    for (const { replicas, targetReplicas } of world.controller.plan()!.deployments) {
      expect(replicas).toBe(targetReplicas);
    }
  });
});

describe('a paused deployment', () => {
  const paused = (name: string, world: World, isPaused: boolean) => {
    const deployments = world.deployments.current.deployments.map((each) =>
      each.name === name ? { ...each, paused: isPaused } : each,
    );
    world.deployments.set({ deployments });
  };
  const pools = ['A100-80GB', 'L4'].map((gpuType) => ({ gpuType, gpus: 8 }));

  it('holds no surplus of its siblings where GPUs are shared: they are planned around what it runs', async () => {
    const world = await moving({ config: { pools } });
    // It will never be ready at four, and nobody waits for that.
    see(world, { new: { currentReplicas: 1, readyReplicas: 1 } });
    paused('new', world, true);
    await world.cycle();
    await world.settle();
    expect(numbers(world)).toEqual([3, 1]);
    expect(world.controller.plan()!.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([3, 1]);
    await world.send('llama', { rps: 6 }).cycles(2);
    await world.settle();
    expect(numbers(world)).toEqual([5, 1]);
    await world.send('llama', { rps: 2 }).cycles(30);
    await world.settle();
    expect(numbers(world)).toEqual([1, 1]);
  });

  it('with replicas that are not ready yet keeps what serves in their place until they are', async () => {
    const world = await moving({ config: { pools } });
    paused('new', world, true);
    await world.cycles(3);
    expect(numbers(world)).toEqual([4, 4]);
    see(world, { new: { currentReplicas: 4, readyReplicas: 3 } });
    await world.cycle();
    expect(numbers(world)).toEqual([1, 4]);
    see(world, { new: { currentReplicas: 4, readyReplicas: 4 } });
    await world.cycle();
    expect(numbers(world)).toEqual([0, 4]);
  });

  it('takes no replicas of its siblings away where nothing is shared, and they go when the pause ends', async () => {
    const world = await moving();
    see(world, { new: { currentReplicas: 0, readyReplicas: 0 } });
    paused('new', world, true);
    await world.cycles(5);
    expect(numbers(world)).toEqual([4, 0]);
    paused('new', world, false);
    await world.cycle();
    expect(numbers(world)).toEqual([4, 4]);
    await world.settle();
    expect(numbers(world)).toEqual([0, 4]);
  });
});
