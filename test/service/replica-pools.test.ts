import { describe, expect, it } from 'vitest';
import { poolingFactor } from '../../src/profiling/pooling.js';
import { deployment, profileText, World, type WorldOptions } from '../support/controller-world.js';

/** A profile of one request/s at any length, with so many requests in flight on a full replica. */
function pooledProfile(inFlight: number, { cost = 1, percentile = 99 } = {}): string {
  const seconds = [
    [inFlight, inFlight],
    [inFlight, inFlight],
  ];
  return JSON.stringify({ ...JSON.parse(profileText({ rps: 1, cost, slos: { percentile } })), e2e: seconds });
}

/** Within the profile's grid: beyond it nothing is known of latencies. */
const lengths = { inputTokens: 512, outputTokens: 256 };

const gpu = deployment({ name: 'gpu' });

function worldOf({ config, ...options }: WorldOptions = {}): Promise<World> {
  return new World({
    deployments: [gpu],
    profiles: { gpu: pooledProfile(4) },
    config: { profiles: { pooling: 'least-request' }, demand: { windowSeconds: 10 }, ...config },
    ...options,
  }).start();
}

/** `gpu` serves 20 requests/s, and `other` has become so cheap that all would go there, were nothing kept. */
async function worldOfCheaperOther(): Promise<World> {
  const world = await worldOf({
    deployments: [gpu, deployment({ name: 'other', gpuType: 'H100', currentReplicas: 0, readyReplicas: 0 })],
    profiles: { gpu: pooledProfile(4), other: pooledProfile(4, { cost: 3 }) },
    config: {
      profiles: { pooling: 'least-request' },
      demand: { windowSeconds: 10 },
      stability: { scaleDownStabilizationSeconds: 300 },
    },
  });
  await world.send('llama', { rps: 20, ...lengths }).cycle();
  world.follow();
  await world.writeProfile('other', pooledProfile(4, { cost: 0.3 }));
  return world;
}

/** Of each cycle that is to come, the first plan is made and no other. */
function failFromSecondPlan(world: World): void {
  let cycles = world.reports.length;
  world.planFault = () => {
    if (world.reports.length < cycles) throw new Error('out of luck');
    cycles = world.reports.length + 1;
  };
}

const problemOf = (world: World) => world.controller.problem()!.models[0]!;
const factorOf = (replicas: number) => poolingFactor({ inFlight: 4, replicas, percentile: 99 });

describe('replicas of a deployment that share load', () => {
  it('are as few as serve the demand by sharing it, and the plan says so', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 20, ...lengths }).cycle();
    const replicas = Number(world.replicas('gpu'));
    expect(replicas).toBeLessThan(20);
    // By hand: the fewest that carry 20 requests/s with what so many gain.
    let fewest = 1;
    while (fewest * factorOf(fewest) < 20) fewest += 1;
    expect(replicas).toBe(fewest);
    const [planned] = problemOf(world).deployments;
    expect(planned!.poolingFactor).toBeLessThanOrEqual(factorOf(replicas) * 1.003);
    expect(world.controller.plan()!.deployments[0]!.reason).toMatch(/that share load \(each 1\.\d+ × its profile\)/);
  });

  it.each([3, 9, 33, 150])(
    'never count on more sharing than they have: %i requests/s, then a quarter of it',
    async (rps: number) => {
      const world = await worldOf();
      for (const rate of [rps, rps / 4, rps]) {
        await world.send('llama', { rps: rate, ...lengths }).cycle();
        world.follow();
        const replicas = world.controller.plan()!.deployments[0]!.targetReplicas!;
        expect(replicas * factorOf(replicas)).toBeGreaterThanOrEqual(rate * 0.997);
      }
    },
  );

  it('count as their profile by default, where it is not known what the gateway does', async () => {
    const world = await worldOf({ config: { profiles: {} } });
    await world.send('llama', { rps: 20, ...lengths }).cycle();
    expect(world.replicas('gpu')).toBe(20);
    expect(problemOf(world).deployments[0]!.poolingFactor).toBe(1);
  });

  it('count as their profile where it tells no latencies, or keeps a mean', async () => {
    for (const profile of [profileText({ rps: 1, slos: { percentile: 99 } }), pooledProfile(4, { percentile: 0 })]) {
      const world = await worldOf({ profiles: { gpu: profile } });
      await world.send('llama', { rps: 20, ...lengths }).cycle();
      expect(world.replicas('gpu')).toBe(20);
    }
  });

  it('are as many as the first plan says, which counts on less sharing, where no second one is found', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 1, ...lengths }).cycle();
    failFromSecondPlan(world);
    await world.send('llama', { rps: 20, ...lengths }).cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([20, null]);
    expect(problemOf(world).deployments[0]!.poolingFactor).toBe(1);
    expect(world.log.at(-1)).toMatchObject({ level: 'warn', message: expect.stringContaining('out of luck') });
  });

  it('stay, and the plan that they have, where the first plan counts on more sharing than its replicas have', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 40, ...lengths }).cycle();
    world.follow();
    const before = { replicas: world.replicas('gpu'), problem: problemOf(world) };
    failFromSecondPlan(world);
    await world.send('llama', { rps: 4, ...lengths }).cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([before.replicas, 'planning_failed']);
    expect(problemOf(world)).toEqual(before.problem);
  });

  it('count on what they gain at the lengths that come now, not at those of a minute ago', async () => {
    // Of long prompts a full replica holds 2, of short ones 100, of which chance adds far less.
    const profile = JSON.stringify({
      ...JSON.parse(pooledProfile(1)),
      e2e: [
        [100, 2],
        [100, 2],
      ],
    });
    const world = await worldOf({ profiles: { gpu: profile } });
    const fewest = async (inputTokens: number) => {
      await world.send('llama', { rps: 40, inputTokens, outputTokens: 256 }).cycle();
      world.follow();
      return Number(world.replicas('gpu'));
    };
    const long = await fewest(4096);
    expect(long * poolingFactor({ inFlight: 2, replicas: long, percentile: 99 })).toBeGreaterThanOrEqual(40 * 0.997);
    const short = await fewest(128);
    expect(short * poolingFactor({ inFlight: 100, replicas: short, percentile: 99 })).toBeGreaterThanOrEqual(
      40 * 0.997,
    );
    expect(short).toBeGreaterThan(long);
  });

  it('of one type rather than a few of each, where the types cost the same', async () => {
    const world = await worldOf({
      deployments: [gpu, deployment({ name: 'other', gpuType: 'H100', currentReplicas: 0, readyReplicas: 0 })],
      profiles: { gpu: pooledProfile(4), other: pooledProfile(4) },
    });
    await world.send('llama', { rps: 20, ...lengths }).cycle();
    world.follow();
    await world.cycle();
    const targets = world.controller.plan()!.deployments.map(({ targetReplicas }) => targetReplicas!);
    expect(targets.filter((replicas) => replicas > 0)).toHaveLength(1);
  });

  it('do not count on more sharing than they have beside what is kept, either', async () => {
    const world = await worldOfCheaperOther();
    for (let cycle = 0; cycle < 3; cycle += 1) {
      await world.send('llama', { rps: 21, ...lengths }).cycle();
      world.follow();
      const { deployments } = world.controller.plan()!;
      const serves = deployments.reduce((sum, each) => sum + each.targetReplicas! * factorOf(each.targetReplicas!), 0);
      for (const { id, utilization, targetReplicas } of deployments) {
        const counted = problemOf(world).deployments.find((each) => each.id === id)!.poolingFactor;
        expect(utilization * counted).toBeLessThanOrEqual(factorOf(targetReplicas!) * 1.003);
      }
      expect(deployments.every(({ targetReplicas }) => targetReplicas! > 0)).toBe(true);
      expect(serves).toBeGreaterThanOrEqual(21);
    }
  });

  it('are kept also where the plan that counts on less sharing beside them fails', async () => {
    const world = await worldOfCheaperOther();
    const before = Number(world.replicas('gpu'));
    let withFloors = 0;
    world.planFault = ({ models }) => {
      if (!models[0]!.deployments.some(({ minReplicas }) => minReplicas > 0)) return undefined;
      withFloors += 1;
      if (withFloors > 1) throw new Error('out of luck');
      return undefined;
    };
    await world.send('llama', { rps: 21, ...lengths }).cycle();
    expect(withFloors).toBeGreaterThan(1);
    expect(world.controller.plan()!.deployments.find(({ id }) => id === 'default/gpu')!.targetReplicas).toBe(before);
    expect(world.log.some(({ message }) => message.includes('counts on more sharing than there is'))).toBe(true);
  });

  it('are told to routers as so many as are ready, while the others start', async () => {
    const world = await worldOf({
      deployments: [
        deployment({ name: 'gpu', maxReplicas: 4 }),
        deployment({ name: 'other', gpuType: 'H100', currentReplicas: 0, readyReplicas: 0 }),
      ],
      profiles: { gpu: pooledProfile(4), other: pooledProfile(4, { cost: 3 }) },
    });
    await world.send('llama', { rps: 30, ...lengths }).cycle();
    world.follow({ H100: 1 });
    await world.cycle();
    const { to } = world.controller.routingOf('llama').shares[0]!;
    // Four that are ready share their load, and the one has nobody to share its with.
    const four = 4 * factorOf(4);
    expect(to.find(({ deployment: id }) => id === 'default/other')!.share).toBeCloseTo(1 / (1 + four), 6);
  });

  it('where models share a pool, count as half of what runs, and fit the pool', async () => {
    const world = await worldOf({
      deployments: [deployment({ name: 'gpu', currentReplicas: 12, readyReplicas: 12 })],
      config: { profiles: { pooling: 'least-request' }, pools: [{ gpuType: 'A100-80GB', gpus: 15 }] },
    });
    await world.send('llama', { rps: 15, ...lengths }).cycle();
    expect(problemOf(world).deployments[0]!.poolingFactor).toBeCloseTo(factorOf(6), 9);
    const replicas = world.controller.plan()!.deployments[0]!.targetReplicas!;
    expect(replicas).toBe(Math.ceil(15 / factorOf(6)));
  });

  it.each([
    ['as the plan has', null] as const,
    ['as the first plan has where no second one is found', 'a fault'] as const,
  ])('where models share a pool and less than half is left, count as so many %s', async (_, fault) => {
    const world = await worldOf({
      deployments: [deployment({ name: 'gpu', currentReplicas: 40, readyReplicas: 40 })],
      config: { profiles: { pooling: 'least-request' }, pools: [{ gpuType: 'A100-80GB', gpus: 100 }] },
    });
    await world.send('llama', { rps: 40, ...lengths }).cycle();
    if (fault !== null) failFromSecondPlan(world);
    await world.send('llama', { rps: 1.2, ...lengths }).cycle();
    // By the twenty that were counted on, one would do.
    expect(1.2 / factorOf(20)).toBeLessThan(1);
    expect([world.replicas('gpu'), world.held()]).toEqual([fault === null ? 2 : 1, null]);
    expect(problemOf(world).deployments[0]!.poolingFactor).toBeCloseTo(factorOf(fault === null ? 1 : 13), 1);
  });
});
