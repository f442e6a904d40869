import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { createMetrics } from '../../src/service/metrics.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

/**
 * What an autoscaler reads while demand trembles, falls, leaps and vanishes: numbers rise at once and fall late, and
 * every number that is kept says by which rule and until when.
 */

const gpu = deployment({ name: 'gpu', usdPerReplicaHour: 2 });
const stable = { scaleDownStabilizationSeconds: 300, scaleDownTolerance: 0.05, minReplicaLifetimeSeconds: 0 };

/** A world with the defaults of the service. One replica serves one request/s. The window is one interval long. */
function worldOf(options: WorldOptions = {}): Promise<World> {
  const { config, ...others } = options;
  return new World({
    deployments: [gpu],
    profiles: { gpu: profileText({ rps: 1 }) },
    config: { stability: stable, demand: { windowSeconds: 10 }, forecast: { method: 'window' }, ...config },
    ...others,
  }).start();
}

/** The next cycle, after an autoscaler did what was published. */
async function follow(world: World, cycles = 1): Promise<void> {
  for (let i = 0; i < cycles; i += 1) {
    world.follow();
    await world.cycle();
  }
}

/** Cycles until another number is published, each followed. */
async function cyclesUntil(world: World, name: string, replicas: number, most: number): Promise<number> {
  for (let cycle = 1; cycle <= most; cycle += 1) {
    await follow(world);
    if (world.replicas(name) === replicas) return cycle;
  }
  throw new Error(`${name} is at ${world.replicas(name)} after ${most} cycles, not at ${replicas}`);
}

function reasonOf(world: World, name: string): string | undefined {
  return world.controller.plan()?.deployments.find(({ id }) => id === `default/${name}`)?.reason;
}

describe('demand that trembles within a band', () => {
  it('never changes what is published', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 20, max: 90 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 50, maxLength: 80 }),
        async (top, trembles) => {
          const world = await worldOf();
          await world.send('llama', { rps: top / 10 }).cycle();
          const published = world.replicas('gpu');
          for (const tremble of trembles) {
            // Records hold whole arrivals: the band is cut to what is within the tolerance.
            const arrivals = Math.ceil((top / 1.05) * (1 - 1e-9) + tremble * (top - top / 1.05));
            world.send('llama', { rps: Math.min(top, arrivals) / 10 });
            await follow(world);
            expect(world.replicas('gpu')).toBe(published);
          }
        },
      ),
      { numRuns: 6, seed: 5 },
    );
  });

  it('of any width changes nothing while it comes back within the stabilisation', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 8 }).cycle();
    for (let minute = 0; minute < 12; minute += 1) {
      await follow(world.send('llama', { rps: 2 }), 24);
      expect(world.replicas('gpu')).toBe(8);
      await follow(world.send('llama', { rps: 8 }), 2);
    }
    expect(world.replicas('gpu')).toBe(8);
  });
});

describe('demand that falls', () => {
  it('is followed once the stabilisation is over, and the number says so until then', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 8 }).cycle();
    world.send('llama', { rps: 3.5 });
    await follow(world);
    expect(world.replicas('gpu')).toBe(8);
    const until = new Date(world.nowMs - 10_000 + 300_000).toISOString();
    expect(reasonOf(world, 'gpu')).toBe(
      `Kept at 8 where the demand now needs 4: 8 were planned for within the last 300 s, until ${until}.`,
    );
    const [view] = world.controller.models()[0]!.deployments;
    expect(view?.heldUp).toEqual({ rule: 'stabilization', replicas: 8, wantedReplicas: 4, until });
    const metrics = createMetrics(world.controller);
    expect(await metrics.render()).toContain(
      'gpumix_held_up_replicas{namespace="default",deployment="gpu",model="llama",gpu_type="A100-80GB",rule="stabilization"} 4',
    );
    metrics.close();
    // Planned last a cycle before: 300 s later it may go.
    expect(await cyclesUntil(world, 'gpu', 4, 60)).toBe(29);
  });

  it('is followed down to what would also serve a little more', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 8 }).cycle();
    world.send('llama', { rps: 4 });
    expect(await cyclesUntil(world, 'gpu', 5, 60)).toBe(30);
    await follow(world, 60);
    expect(world.replicas('gpu')).toBe(5);
    expect(reasonOf(world, 'gpu')).toBe(
      'Kept at 5 where the demand now needs 4: 4 would have no room for 5 % more demand, until it falls further.',
    );
    await follow(world.send('llama', { rps: 3.8 }), 31);
    expect(world.replicas('gpu')).toBe(4);
  });

  it('step by step is followed step by step: each number goes when it was not planned for long enough', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 7.5 }).cycle();
    await follow(world.send('llama', { rps: 5.5 }), 12);
    await follow(world.send('llama', { rps: 2.5 }), 18);
    expect(world.replicas('gpu')).toBe(6);
    await follow(world, 12);
    expect(world.replicas('gpu')).toBe(3);
  });

  it('is followed within the stabilisation and the steps that are allowed', async () => {
    const world = await worldOf({ config: { stability: stable, publish: { maxStepsDownPerMinute: 2 } } });
    await world.send('llama', { rps: 8 }).cycle();
    await follow(world.send('llama', { rps: 1.5 }), 29);
    const seen: (number | string)[] = [];
    for (let minute = 0; minute < 4; minute += 1) {
      await follow(world, 6);
      seen.push(world.replicas('gpu'));
    }
    expect(seen).toEqual([4, 2, 2, 2]);
  });

  it('to nothing keeps the replicas as long, then the idle floor', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 6 }).cycle();
    world.send('llama', { rps: 0 });
    await follow(world, 20);
    expect(world.replicas('gpu')).toBe(6);
    await follow(world, 15);
    expect(world.replicas('gpu')).toBe(1);
  });

  it('is followed at once with scaleDownStabilizationSeconds: 0', async () => {
    const world = await worldOf({ config: { stability: { ...stable, scaleDownStabilizationSeconds: 0 } } });
    await world.send('llama', { rps: 8 }).cycle();
    await follow(world.send('llama', { rps: 3.5 }));
    expect(world.replicas('gpu')).toBe(4);
  });
});

describe('demand that leaps', () => {
  it('is followed at once, however long something is held', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 8 }).cycle();
    await follow(world.send('llama', { rps: 2 }), 5);
    await follow(world.send('llama', { rps: 40 }));
    expect(world.replicas('gpu')).toBe(40);
  });

  it('is followed by the steps that publish.maxStepsUpPerMinute allows', async () => {
    const world = await worldOf({ config: { stability: stable, publish: { maxStepsUpPerMinute: 3 } } });
    await world.send('llama', { rps: 1 }).cycle();
    world.send('llama', { rps: 9 });
    const seen: (number | string)[] = [];
    await follow(world);
    seen.push(world.replicas('gpu'));
    expect(reasonOf(world, 'gpu')).toBe('On its way from 1 up to 9, by at most 3 a minute.');
    for (let minute = 0; minute < 3; minute += 1) {
      await follow(world, 6);
      seen.push(world.replicas('gpu'));
    }
    expect(seen).toEqual([4, 7, 9, 9]);
  });
});

describe('a start', () => {
  it('is kept for minReplicaLifetimeSeconds, and the number says so', async () => {
    const stability = { ...stable, scaleDownStabilizationSeconds: 0, minReplicaLifetimeSeconds: 120 };
    const world = await worldOf({ config: { stability } });
    await world.send('llama', { rps: 2.5 }).cycle();
    await follow(world.send('llama', { rps: 5.5 }));
    const rose = world.nowMs;
    await follow(world.send('llama', { rps: 2.5 }));
    expect(world.replicas('gpu')).toBe(6);
    expect(reasonOf(world, 'gpu')).toBe(
      `Kept at 6 where the demand now needs 3: a start is kept for 120 s, until ${new Date(rose + 120_000).toISOString()}.`,
    );
    expect(await cyclesUntil(world, 'gpu', 3, 20)).toBe(11);
  });
});

describe('what runs when gpumix first plans', () => {
  it('counts as planned just now', async () => {
    const world = await worldOf({ deployments: [{ ...gpu, currentReplicas: 9, readyReplicas: 9 }] });
    await world.send('llama', { rps: 2.5 }).cycle();
    expect(world.replicas('gpu')).toBe(9);
    expect(await cyclesUntil(world, 'gpu', 3, 60)).toBe(30);
  });

  it('is never raised by what was planned before', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 8 }).cycle();
    expect(world.replicas('gpu')).toBe(8);
    await world.controller.fixReplicas('default', 'gpu', 2, null);
    await follow(world.send('llama', { rps: 1.5 }), 2);
    await world.controller.clearFixed('default', 'gpu');
    await follow(world, 2);
    expect(world.replicas('gpu')).toBe(2);
  });
});

describe('a restart', () => {
  it('forgets neither what is kept nor until when', async () => {
    const store = createMemoryStore({ now: () => 0 });
    const first = await worldOf({ store });
    await first.send('llama', { rps: 8 }).cycle();
    await follow(first.send('llama', { rps: 2.5 }), 10);
    first.follow();
    await first.controller.stop();
    const { deployments } = first.deployments.current;
    const second = new World({
      store,
      deployments,
      nowMs: first.nowMs + 500,
      config: { stability: stable, demand: { windowSeconds: 10 }, forecast: { method: 'window' } },
    });
    second.send('llama', { rps: 2.5 });
    await second.start();
    expect(second.replicas('gpu')).toBe(8);
    // Ten cycles and the start are over: 300 s from the last plan for eight are not begun anew.
    expect(await cyclesUntil(second, 'gpu', 3, 60)).toBeLessThanOrEqual(20);
  });
});

describe('a restart during a scale-up', () => {
  it.each([
    ['of an interval', 10],
    ['of two minutes', 120],
  ])('keeps what was asked for and does not run yet, after a pause %s', async (_, seconds) => {
    const store = createMemoryStore({ now: () => 0 });
    const starting = { ...gpu, currentReplicas: 2, readyReplicas: 2 };
    const first = await worldOf({ store, deployments: [starting] });
    await first.send('llama', { rps: 8 }).cycle();
    expect(first.replicas('gpu')).toBe(8);
    await first.controller.stop();
    await first.send('llama', { rps: 3.5 }).skip(seconds);
    const second = new World({
      store,
      deployments: [starting],
      nowMs: first.nowMs,
      config: { stability: stable, demand: { windowSeconds: 10 }, forecast: { method: 'window' } },
    });
    await second.send('llama', { rps: 3.5 }).start();
    const published = [second.replicas('gpu')];
    for (let cycle = 0; cycle < 4; cycle += 1) {
      await second.cycle();
      published.push(second.replicas('gpu'));
    }
    expect(published).toEqual([8, 8, 8, 8, 8]);
    expect(second.held()).toBeNull();
    // What an earlier process asked for is held no longer than what this one asks for.
    await second.cycles(30);
    expect(second.replicas('gpu')).toBe(4);
  });
});

describe('an input that fails', () => {
  it.each([
    [
      'the store',
      (world: World) => {
        world.storeFault = unreachable;
      },
      (world: World) => {
        world.storeFault = null;
      },
    ],
    [
      'the view of the deployments',
      (world: World) => world.deployments.set({ staleSince: world.nowMs, problem: 'gone' }),
      (world: World) => world.deployments.set({ staleSince: null, problem: null }),
    ],
  ])('scales nothing down, also not when %s is back with less demand', async (_, fail, mend) => {
    const world = await worldOf();
    await world.send('llama', { rps: 8 }).cycle();
    await follow(world, 3);
    fail(world);
    world.send('llama', { rps: 2.5 });
    await world.cycles(40);
    expect(world.replicas('gpu')).toBe(8);
    mend(world);
    await follow(world, 10);
    expect(world.held()).toBeNull();
    // Nobody knows what was needed meanwhile: it counts as planned until the input was back.
    expect(world.replicas('gpu')).toBe(8);
    expect(await cyclesUntil(world, 'gpu', 3, 60)).toBeGreaterThan(15);
  });
});

describe('mixes that cost nearly the same', () => {
  const a = deployment({ name: 'a', gpuType: 'A100-80GB', usdPerReplicaHour: 1 });
  const b = deployment({ name: 'b', gpuType: 'L4', usdPerReplicaHour: 0.8, currentReplicas: 0, readyReplicas: 0 });
  const two: WorldOptions = {
    deployments: [{ ...a, currentReplicas: 4, readyReplicas: 4 }, b],
    profiles: { a: profileText({ rps: 1 }), b: profileText({ rps: 0.81 }) },
  };
  /** Demand around 3.6, whose cheapest mix changes with every tenth. */
  const changes = async (config: Readonly<Record<string, unknown>>): Promise<number> => {
    const world = await worldOf({ ...two, config });
    let count = 0;
    let before = '';
    for (let cycle = 0; cycle < 120; cycle += 1) {
      world.send('llama', { rps: 3.3 + 0.1 * ((cycle * 7) % 5) });
      await follow(world);
      const now = [world.replicas('a'), world.replicas('b')].join();
      if (cycle > 0 && now !== before) count += 1;
      before = now;
    }
    return count;
  };

  it('take turns where nothing is kept and a start is free, and do not by default', async () => {
    const free = { stability: { scaleDownStabilizationSeconds: 0, scaleDownTolerance: 0 } };
    expect(await changes({ ...free, demand: { windowSeconds: 10 }, forecast: { method: 'window' } })).toBeGreaterThan(
      60,
    );
    expect(await changes({ stability: stable, options: { startUsdPerReplica: null } })).toBeLessThanOrEqual(4);
  });

  it('change for a saving that lasts, and only once the new replicas are ready', async () => {
    const world = await worldOf({ ...two, config: { stability: stable, options: { startUsdPerReplica: null } } });
    await world.send('llama', { rps: 2.4 }).cycle();
    // 3 × 0.8 = 2.4 USD/h for 2.43 requests/s beat 3 × 1; the starts cost 0.12 USD, earned back within 12 minutes.
    await cyclesUntil(world, 'a', 0, 120);
    expect([world.replicas('a'), world.replicas('b')]).toEqual([0, 3]);
    const numbers = world.controller.history({ limit: 200 }).flatMap(({ changes: all }) => all);
    const rose = numbers.findIndex(({ deployment: id, to }) => id === 'default/b' && to === 3);
    const fell = numbers.findIndex(({ deployment: id, to }) => id === 'default/a' && to === 0);
    expect(rose).toBeGreaterThanOrEqual(0);
    expect(fell).toBeGreaterThan(rose);
  });

  it('do not change for a saving that its starts outweigh', async () => {
    const world = await worldOf({
      ...two,
      deployments: [
        { ...a, currentReplicas: 3, readyReplicas: 3 },
        // A start of half an hour: 0.4 USD each, 1.2 USD for a saving of 0.6 USD/h.
        { ...b, startupSeconds: 1800 },
      ],
      config: { stability: stable, options: { startUsdPerReplica: null } },
    });
    await world.send('llama', { rps: 2.4 }).cycle();
    await follow(world, 60);
    expect([world.replicas('a'), world.replicas('b')]).toEqual([3, 0]);
  });
});

describe('replicas of one type that others replace', () => {
  it('stay until the others are ready, over many cycles and a restart, and while their own are still draining', async () => {
    const a = deployment({
      name: 'a',
      gpuType: 'A100-80GB',
      usdPerReplicaHour: 3,
      currentReplicas: 4,
      readyReplicas: 4,
    });
    const b = deployment({ name: 'b', gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0, readyReplicas: 0 });
    const store = createMemoryStore({ now: () => 0 });
    const options: WorldOptions = {
      store,
      deployments: [a, b],
      profiles: { a: profileText({ rps: 1 }), b: profileText({ rps: 1 }) },
      config: {
        stability: { ...stable, scaleDownStabilizationSeconds: 60 },
        demand: { windowSeconds: 10 },
        forecast: { method: 'window' },
      },
    };
    let world = await worldOf(options);
    await world.send('llama', { rps: 3.5 }).cycle();
    const see = (readyB: number, readyA = 4) => {
      world.deployments.set({
        deployments: [
          { ...a, currentReplicas: world.replicas('a') as number, readyReplicas: readyA },
          { ...b, currentReplicas: world.replicas('b') as number, readyReplicas: readyB },
        ],
      });
      return world.cycle();
    };
    for (let i = 0; i < 30; i += 1) await see(0);
    expect([world.replicas('a'), world.replicas('b')]).toEqual([4, 4]);
    await world.controller.stop();
    world = new World({ ...options, deployments: world.deployments.current.deployments, nowMs: world.nowMs + 500 });
    await world.send('llama', { rps: 3.5 }).start();
    for (let i = 0; i < 30; i += 1) await see(0);
    expect([world.replicas('a'), world.replicas('b')]).toEqual([4, 4]);
    // Two are ready: two of the four may go. Those that drain are still ready, and serve nobody in the next step.
    await see(2);
    expect(world.replicas('a')).toBe(2);
    for (let i = 0; i < 10; i += 1) await see(2, 4);
    expect(world.replicas('a')).toBe(2);
    await see(4);
    expect([world.replicas('a'), world.replicas('b')]).toEqual([0, 4]);
  });
});

describe('models that share a pool', () => {
  const pools = [{ gpuType: 'A100-80GB', gpus: 8 }];
  const models = (priority: number): WorldOptions => ({
    deployments: [
      deployment({ name: 'low', model: 'low', usdPerReplicaHour: 2 }),
      deployment({ name: 'high', model: 'high', usdPerReplicaHour: 2 }),
    ],
    config: {
      pools,
      stability: stable,
      demand: { windowSeconds: 10 },
      forecast: { method: 'window' },
      models: { high: { priority } },
    },
  });
  const start = async (priority: number): Promise<World> => {
    const world = new World(models(priority));
    await world.writeProfile('low', profileText({ rps: 1 }), 'low');
    await world.writeProfile('high', profileText({ rps: 1 }), 'high');
    world.send('low', { rps: 5 }).send('high', { rps: 2 });
    await world.start();
    await follow(world, 3);
    expect([world.replicas('low'), world.replicas('high')]).toEqual([5, 2]);
    return world;
  };

  it('keep theirs while there is room', async () => {
    const world = await start(1);
    await follow(world.send('low', { rps: 1.5 }), 10);
    expect(world.replicas('low')).toBe(5);
    expect(reasonOf(world, 'low')).toMatch(/^Kept at 5 where the demand now needs 2: 5 were planned/);
    await follow(world, 25);
    expect(world.replicas('low')).toBe(2);
  });

  it('never keep GPUs that the demand of another needs', async () => {
    const world = await start(0);
    await follow(world.send('low', { rps: 1.5 }), 3);
    expect(world.replicas('low')).toBe(5);
    await follow(world.send('high', { rps: 5.5 }), 3);
    expect([world.replicas('low'), world.replicas('high')]).toEqual([2, 6]);
  });
});

it('what the demand needs beside what is kept says so, and not that a floor is configured', async () => {
  const world = await worldOf({
    deployments: [
      deployment({ name: 'kept', gpuType: 'L4', maxReplicas: 6 }),
      deployment({ name: 'needed', gpuType: 'A100-80GB', minReplicas: 3 }),
    ],
    profiles: { kept: profileText({ cost: 1.1 }), needed: profileText({ cost: 1.2 }) },
    config: { stability: stable, forecast: { method: 'window' } },
  });
  await world.send('llama', { rps: 20 }).cycle();
  world.follow();
  // Dearer now than the other, which has room for all beside what is kept.
  await world.writeProfile('kept', profileText({ cost: 1.21 }));
  await world.send('llama', { rps: 18 }).cycle();
  expect([world.replicas('kept'), world.replicas('needed')]).toEqual([6, 14]);
  expect(reasonOf(world, 'kept')).toMatch(/^Kept at 6 where the demand now needs 0: 6 were planned/);
  expect(reasonOf(world, 'needed')).toBe('Kept at 14: the demand needs them once what is kept beside them has gone.');
});

describe('a model at zero replicas', () => {
  const asleep = {
    deployments: [
      deployment({ name: 'small', gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0, readyReplicas: 0 }),
      deployment({ name: 'large', gpuType: 'A100-80GB', usdPerReplicaHour: 2, currentReplicas: 0, readyReplicas: 0 }),
    ],
    profiles: { small: profileText({ rps: 1 }), large: profileText({ rps: 3 }) },
    config: { models: { llama: { scaleToZero: true } }, stability: stable, forecast: { method: 'window' } },
  } satisfies WorldOptions;

  it('is woken at once by arrivals of which no length is known: one replica of the cheapest', async () => {
    const world = await worldOf(asleep);
    await world.send('llama', { rps: 2, completions: 0, pending: 20 }).cycle();
    expect([world.replicas('small'), world.replicas('large')]).toEqual([1, 0]);
    expect(reasonOf(world, 'small')).toBe(
      'Woken: requests wait or are expected, and no replica runs that could tell how long they are.',
    );
    // It starts: still no request has completed, and what was asked for stays.
    await follow(world, 12);
    expect([world.replicas('small'), world.held()]).toEqual([1, 'no_lengths']);
    // Its first completions say what it needs; the large one takes over once it is ready.
    await follow(world.send('llama', { rps: 2.5 }), 3);
    expect(world.held()).toBeNull();
    expect([world.replicas('small'), world.replicas('large')]).toEqual([0, 1]);
  });

  it('is not woken where something runs, or may run', async () => {
    for (const currentReplicas of [2, null]) {
      const deployments = asleep.deployments.map((each) => ({ ...each, currentReplicas, readyReplicas: null }));
      const world = await worldOf({ ...asleep, deployments });
      await world.send('llama', { rps: 2, completions: 0, pending: 20 }).cycle();
      expect(world.held()).toBe('no_lengths');
      expect(world.replicas('small')).toBe('not-known');
    }
  });

  it('is woken by requests that are pending while nothing arrives', async () => {
    const world = await worldOf({ ...asleep, config: { ...asleep.config, demand: { windowSeconds: 60 } } });
    await world.send('llama', { rps: 0, pending: 3 }).cycle();
    expect([world.replicas('small'), world.replicas('large')]).toEqual([1, 0]);
  });
});
