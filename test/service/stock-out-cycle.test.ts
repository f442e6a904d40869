import { describe, expect, it } from 'vitest';
import { deployment, profileText, World, type WorldOptions } from '../support/controller-world.js';

/** A replica serves 1 request/s on either type; L4 costs 1 USD/hour, A100 3. Two minutes is late for both. */
const deployments = [
  deployment({
    name: 'l4',
    gpuType: 'L4',
    usdPerReplicaHour: 1,
    currentReplicas: 0,
    startupSeconds: 60,
  }),
  deployment({ name: 'a100', usdPerReplicaHour: 3, currentReplicas: 0, startupSeconds: 60 }),
];

type Supply = Readonly<Record<string, number>>;

async function start(options: WorldOptions = {}): Promise<World> {
  const world = new World({ deployments, profiles: { l4: profileText({}), a100: profileText({}) }, ...options });
  return world.start();
}

/** An autoscaler that follows at once, in a cluster that has so many GPUs of a type; those of other types are endless. */
async function cycles(world: World, count: number, supply: Supply): Promise<void> {
  for (let cycle = 0; cycle < count; cycle += 1) {
    world.follow(supply);
    await world.cycle();
  }
}

/** Published, target and ready replicas of a deployment. */
function replicas(world: World, name: string): readonly (number | null | string)[] {
  const planned = world.controller.plan()!.deployments.find(({ id }) => id === `default/${name}`)!;
  const seen = world.deployments.current.deployments.find((each) => each.name === name)!;
  return [world.replicas(name), planned.targetReplicas, seen.readyReplicas];
}

const minute = 6;

describe('a GPU type of which no more come', () => {
  it('is left alone for a while: the demand moves to another type, and back when it comes again', async () => {
    const world = await start();
    world.send('llama', { rps: 4 });
    // Two of the four L4 come.
    await cycles(world, 2 * minute, { L4: 2 });
    expect(replicas(world, 'l4')).toEqual([4, 4, 2]);
    expect(world.controller.shortages()).toEqual([]);
    expect(world.warnings()).toEqual([]);
    await cycles(world, 3, { L4: 2 });
    expect(world.controller.shortages()).toMatchObject([{ gpuType: 'L4', shortGpus: 2, usableGpus: 2 }]);
    expect([replicas(world, 'l4')[1], replicas(world, 'a100')[1]]).toEqual([2, 2]);
    const warning = world.controller.plan()!.warnings.find(({ code }) => code === 'stock_out')!;
    expect(warning.message).toMatch(/^L4: 2 GPUs that default\/l4 asked for did not come in time; planned with the 2/);
    // The type alone is limited, and the other one is free.
    expect(world.controller.problem()!.pools).toEqual([{ gpuType: 'L4', gpus: 2 }]);
    expect(world.log.filter(({ level, message }) => level === 'warn' && message === warning.message)).toHaveLength(1);
    await cycles(world, 3, { L4: 2 });
    expect([replicas(world, 'l4'), replicas(world, 'a100')]).toEqual([
      [2, 2, 2],
      [2, 2, 2],
    ]);
    // Nothing moves for the rest of the ten minutes.
    await cycles(world, 9 * minute, { L4: 8 });
    expect(replicas(world, 'l4')).toEqual([2, 2, 2]);
    // Then it may be asked for again, and comes; only then the other one goes.
    await cycles(world, minute, { L4: 2 });
    expect(world.controller.shortages()).toEqual([]);
    expect([replicas(world, 'l4'), replicas(world, 'a100')]).toEqual([
      [4, 4, 2],
      [2, 0, 2],
    ]);
    expect(world.log.some(({ level, message }) => level === 'info' && message.startsWith('L4 may be asked'))).toBe(
      true,
    );
    await cycles(world, 4, { L4: 8 });
    expect([replicas(world, 'l4'), replicas(world, 'a100')]).toEqual([
      [4, 4, 4],
      [0, 0, 0],
    ]);
    expect(world.warnings()).toEqual([]);
    expect(world.controller.problem()!.pools).toEqual([]);
  });

  it('is asked for no more than there is, also while another model still has a part of it', async () => {
    const fleet = [
      deployment({ name: 'tagging-l4', model: 'tagging', gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0 }),
      deployment({ name: 'tagging-t4', model: 'tagging', gpuType: 'T4', usdPerReplicaHour: 1.2, currentReplicas: 0 }),
      ...deployments,
    ];
    const world = await start({ deployments: fleet });
    for (const name of ['tagging-l4', 'tagging-t4']) await world.writeProfile(name, profileText({}), 'tagging');
    await cycles(world, 2, { L4: 4 });
    world.send('tagging', { rps: 1 });
    await cycles(world, minute, { L4: 4 });
    world.send('llama', { rps: 7 });
    await cycles(world, minute, { L4: 4 });
    expect([replicas(world, 'tagging-l4'), replicas(world, 'l4')]).toEqual([
      [1, 1, 1],
      [7, 7, 3],
    ]);
    const steps = new Set<string>();
    for (let cycle = 0; cycle < 3 * minute; cycle += 1) {
      await cycles(world, 1, { L4: 4 });
      if (world.controller.shortages().length === 0) continue;
      const onL4 = ['tagging-l4', 'l4'].map((name) => replicas(world, name) as [number, number, number]);
      expect(onL4.reduce((sum, [published, , ready]) => sum + Math.max(published, ready), 0)).toBeLessThanOrEqual(4);
      steps.add(onL4.map(([published, target]) => `${published} → ${target}`).join(', '));
    }
    // The fourth GPU of the type changes hands when what replaces it runs, and not before.
    expect([...steps]).toEqual(['1 → 0, 3 → 4', '0 → 0, 3 → 4', '0 → 0, 4 → 4']);
  });

  it('is left alone longer where it does not come the next time either', async () => {
    const world = await start();
    world.send('llama', { rps: 4 });
    await cycles(world, 3 * minute, { L4: 2 });
    const first = world.controller.shortages()[0]!.until;
    await cycles(world, 10 * minute + 3 * minute, { L4: 2 });
    const [again] = world.controller.shortages();
    expect(again).toMatchObject({ gpuType: 'L4', usableGpus: 2 });
    // Ten minutes, the trial of two, and twenty more.
    expect(again!.until - first).toBeGreaterThan(20 * 60_000);
    expect([replicas(world, 'l4')[1], replicas(world, 'a100')[1]]).toEqual([2, 2]);
  });

  it('takes no more than its configured pool, where that is less', async () => {
    const pools = [
      { gpuType: 'L4', gpus: 1 },
      { gpuType: 'a100', gpus: null },
    ];
    const world = await start({ config: { pools } });
    world.send('llama', { rps: 4 });
    await cycles(world, 3 * minute, { L4: 0 });
    expect(world.controller.shortages()).toMatchObject([{ gpuType: 'L4', usableGpus: 0 }]);
    expect(world.controller.problem()!.pools[0]).toEqual({ gpuType: 'L4', gpus: 0 });
    expect(replicas(world, 'a100')[1]).toBe(4);
  });

  it('stays asked for where nothing else serves the demand, and is there as soon as its cause is mended', async () => {
    const world = await start({ deployments: deployments.slice(0, 1) });
    world.send('llama', { rps: 4 });
    // The image of the only deployment cannot be pulled.
    await cycles(world, 12 * minute, { L4: 0 });
    expect(world.controller.shortages()).toMatchObject([{ gpuType: 'L4', usableGpus: 0 }]);
    expect(replicas(world, 'l4')).toEqual([4, 0, 0]);
    expect(world.controller.plan()!.deployments[0]!.reason).toBe(
      'Still asked for: L4 comes for 0 only, and nothing else serves this demand.',
    );
    // What runs stays too, and less demand asks for less once it is known to be served.
    await cycles(world, 1, { L4: 3 });
    expect(replicas(world, 'l4')[0]).toBe(4);
    await cycles(world, 2, { L4: 8 });
    expect(world.controller.shortages()).toEqual([]);
    expect(replicas(world, 'l4')).toEqual([4, 4, 4]);
  });

  it('is let go where the demand went', async () => {
    const world = await start({ deployments: deployments.slice(0, 1) });
    world.send('llama', { rps: 4 });
    await cycles(world, 3 * minute, { L4: 1 });
    expect(replicas(world, 'l4')).toEqual([4, 1, 1]);
    world.send('llama', { rps: 0.5 });
    await cycles(world, 8 * minute, { L4: 1 });
    expect(replicas(world, 'l4')).toEqual([1, 1, 1]);
  });

  it('is asked for within the limits of the deployment', async () => {
    const world = await start({ deployments: deployments.slice(0, 1) });
    world.send('llama', { rps: 4 });
    await cycles(world, 3 * minute, { L4: 0 });
    world.deployments.set({
      deployments: world.deployments.current.deployments.map((each) => ({ ...each, maxReplicas: 2 })),
    });
    await cycles(world, 2, { L4: 0 });
    expect(replicas(world, 'l4')[0]).toBe(2);
  });

  it('is remembered through a restart', async () => {
    const before = await start();
    before.send('llama', { rps: 4 });
    await cycles(before, 3 * minute, { L4: 2 });
    const shortages = before.controller.shortages();
    expect(shortages).toHaveLength(1);
    await before.controller.stop();
    const after = new World({
      deployments: before.deployments.current.deployments,
      store: before.store,
      nowMs: before.nowMs,
    });
    after.send('llama', { rps: 4 });
    await after.start();
    expect(after.controller.shortages()).toEqual(shortages);
    await cycles(after, 2, { L4: 2 });
    expect(replicas(after, 'l4')[1]).toBe(2);
  });

  it('is not made of a view that is old: nobody knows what came meanwhile', async () => {
    const world = await start();
    world.send('llama', { rps: 4 });
    await cycles(world, minute, { L4: 2 });
    world.deployments.set({ staleSince: world.nowMs, problem: 'the connection was refused' });
    await world.cycles(10 * minute);
    expect(world.controller.shortages()).toEqual([]);
    // They had come.
    world.deployments.set({ staleSince: null, problem: null });
    await cycles(world, 2, { L4: 8 });
    expect(world.controller.shortages()).toEqual([]);
    expect(replicas(world, 'l4')).toEqual([4, 4, 4]);
  });
});
