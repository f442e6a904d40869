import { describe, expect, it } from 'vitest';
import type { ObservedDeployment } from '../../src/core/ports.js';
import { deployment, profileText, World } from '../support/controller-world.js';

/** A replica serves 1 request/s on either type; the new one is cheaper. */
const old = deployment({ name: 'old', usdPerReplicaHour: 9, currentReplicas: 4 });
const fresh = deployment({ name: 'new', gpuType: 'L4', usdPerReplicaHour: 3, currentReplicas: 0 });
const profiles = { old: profileText({}), new: profileText({}) };

type Runs = Partial<Pick<ObservedDeployment, 'currentReplicas' | 'readyReplicas'>>;

/** What the cluster shows of some deployments, and the cycle after it. */
async function see(world: World, runs: Readonly<Record<string, Runs>>): Promise<void> {
  const deployments = world.deployments.current.deployments.map((each) => ({ ...each, ...runs[each.name] }));
  world.deployments.set({ deployments });
  await world.cycle();
}

/** Share of all requests by deployment name, as a router is told. */
function routed(world: World): Readonly<Record<string, number>> {
  const shares: Record<string, number> = {};
  const buckets = world.controller.routingOf('llama').shares;
  const total = buckets.reduce((sum, { rps }) => sum + rps, 0);
  for (const { rps, to } of buckets) {
    for (const { deployment: id, share } of to) {
      const name = id.split('/')[1]!;
      shares[name] = (shares[name] ?? 0) + (share * rps) / total;
    }
  }
  return Object.fromEntries(Object.entries(shares).map(([name, share]) => [name, Number(share.toFixed(6))]));
}

async function moving(rps: number): Promise<World> {
  const world = await new World({ deployments: [old, fresh], profiles }).start();
  await world.send('llama', { rps }).cycles(30);
  return world;
}

describe('the shares that a router is told', () => {
  it('are of what is ready, while the plan already counts with what starts', async () => {
    const world = await moving(4);
    await see(world, { new: { currentReplicas: 4, readyReplicas: 0 } });
    const planned = world.controller.plan()!.shares.flatMap(({ to }) => to.map(({ deployment: id }) => id));
    expect(new Set(planned)).toEqual(new Set(['default/new']));
    expect(routed(world)).toEqual({ old: 1 });
  });

  it('load what is ready evenly', async () => {
    const world = await moving(4);
    await see(world, { new: { currentReplicas: 4, readyReplicas: 1 } });
    expect([world.replicas('old'), world.replicas('new')]).toEqual([3, 4]);
    expect(routed(world)).toEqual({ old: 0.75, new: 0.25 });
  });

  it('leave out replicas that are about to go', async () => {
    const world = await moving(4);
    await see(world, { new: { currentReplicas: 4, readyReplicas: 4 } });
    // Published: none of the old ones, which still run.
    expect(world.replicas('old')).toBe(0);
    expect(routed(world)).toEqual({ new: 1 });
  });

  it('spread more than can be served over all that is ready, instead of leaving some of it out', async () => {
    const world = await moving(40);
    await see(world, { old: { currentReplicas: 4, readyReplicas: 4 }, new: { currentReplicas: 36, readyReplicas: 4 } });
    expect(routed(world)).toEqual({ old: 0.5, new: 0.5 });
  });

  it('are those of the plan while nothing is ready', async () => {
    const world = await moving(4);
    await see(world, {
      old: { currentReplicas: 4, readyReplicas: 0 },
      new: { currentReplicas: 4, readyReplicas: 0 },
    });
    expect(routed(world)).toEqual({ new: 1 });
  });
});

describe('the deployments that a router is told beside the shares', () => {
  const short = profileText({
    tputs: [
      [1, 0],
      [1, 0],
    ],
  });
  const lengths = [
    [128, 64],
    [4096, 64],
  ] as const;
  const alsoTo = (world: World) =>
    world.controller
      .routingOf('llama')
      .shares.map(({ inputTokens, to, alsoTo }) => [inputTokens, to.map(({ deployment: id }) => id), alsoTo]);

  it('serve the bucket within the objective, run, and stay', async () => {
    const world = await new World({
      deployments: [
        deployment({ name: 'old', usdPerReplicaHour: 9, currentReplicas: 4 }),
        deployment({ name: 'new', gpuType: 'L4', usdPerReplicaHour: 3, currentReplicas: 4 }),
        deployment({ name: 'off', gpuType: 'L4', usdPerReplicaHour: 20, currentReplicas: 0 }),
      ],
      profiles: { old: profileText({}), new: short, off: profileText({}) },
    }).start();
    await world.send('llama', { rps: 4, lengths }).cycles(40);
    await see(world, { old: { currentReplicas: 2, readyReplicas: 2 }, new: { currentReplicas: 2, readyReplicas: 2 } });
    expect([world.replicas('new'), world.replicas('off')]).toEqual([2, 0]);
    expect(alsoTo(world)).toEqual([
      [128, ['default/new'], ['default/old']],
      [4096, ['default/old'], undefined],
    ]);
  });

  it('go with those that are about to go', async () => {
    const world = await moving(4);
    await see(world, { new: { currentReplicas: 4, readyReplicas: 1 } });
    expect(new Set(alsoTo(world).map(([, , also]) => also))).toEqual(new Set([undefined]));
    await see(world, { new: { currentReplicas: 4, readyReplicas: 0 } });
    // They start: requests may go there as soon as they are ready.
    expect(alsoTo(world).map(([, to, also]) => [to, also])).toEqual([[['default/old'], ['default/new']]]);
    await see(world, { new: { currentReplicas: 4, readyReplicas: 4 } });
    expect(world.replicas('old')).toBe(0);
    expect(alsoTo(world).map(([, to, also]) => [to, also])).toEqual([[['default/new'], undefined]]);
  });
});
