import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { planningProblemSchema } from '../../src/core/planning-problem.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';

const a100 = deployment({ name: 'a100', usdPerReplicaHour: 3 });
const l4 = deployment({ name: 'l4', gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0 });
const profiles = { a100: profileText({ rps: 1 }), l4: profileText({ rps: 0.1 }) };

async function serving(options: WorldOptions = {}): Promise<World> {
  const world = await new World({ deployments: [a100, l4], profiles, ...options }).start();
  await world.send('llama', { rps: 4 }).cycle();
  return world;
}

describe('cycles', () => {
  it('begin at once, then 1.5 s after each interval boundary', async () => {
    const world = await serving();
    await world.cycles(2);
    expect(world.reports.map(({ at }) => new Date(at).toISOString().slice(11, 23))).toEqual([
      '10:00:02.000',
      '10:00:11.500',
      '10:00:21.500',
      '10:00:31.500',
    ]);
  });

  it('do not come twice where a timer fires a moment early', async () => {
    const world = await serving();
    const before = world.reports.length;
    world.timersAreEarlyByMs = 30;
    await world.cycles(3);
    const times = world.reports.slice(before).map(({ at }) => at);
    expect(times.map((at, i) => at - (times[i - 1] ?? at))).toEqual([0, 10_000, 10_000]);
  });

  it('that take longer than an interval are followed at once, and never overlap', async () => {
    const world = await serving();
    let running = 0;
    let most = 0;
    world.planFault = () => {
      running += 1;
      most = Math.max(most, running);
      world.nowMs += 13_000;
      running -= 1;
    };
    await world.cycle();
    expect(world.waits()).toEqual([0]);
    world.planFault = null;
    await world.cycle();
    expect(world.waits()[0]).toBeGreaterThan(0);
    expect(most).toBe(1);
  });

  it('report the duration of each phase', async () => {
    const world = await serving();
    expect(Object.keys(world.reports.at(-1)!.phaseSeconds)).toEqual([
      'sync',
      'deployments',
      'demand',
      'forecast',
      'problem',
      'plan',
      'publish',
    ]);
  });

  it('come at once when the first view of the deployments arrives', async () => {
    const world = new World({ profiles });
    world.deployments.set({ synced: false });
    await world.start();
    expect(world.waits()[0]).toBeGreaterThan(0);
    world.deployments.set({ synced: true, deployments: [a100] });
    expect(world.waits()).toEqual([0]);
  });

  it('end with stop, which lets the running one end', async () => {
    const world = await serving();
    const stopped = world.controller.stop();
    await stopped;
    expect(world.waits()).toEqual([]);
    expect(await world.store.readState('published')).toContain('default/a100');
  });
});

describe('a number that a person fixed', () => {
  it('is published at once, in whole replicas, and its siblings adapt', async () => {
    const world = await serving();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 0]);
    expect(await world.controller.fixReplicas('default', 'a100', 1, null)).toBe('fixed');
    expect(world.replicas('a100')).toBe(1);
    expect(world.waits()).toEqual([0]);
    await world.cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([1, 30]);
    expect(world.controller.models()[0]?.deployments[0]?.override).toEqual({ replicas: 1, expiresAt: null });
    expect(world.controller.plan()?.deployments[0]?.reason).toBe('A person fixed it at 1 until it is cleared.');
  });

  it('ends with its time to live', async () => {
    const world = await serving();
    await world.controller.fixReplicas('default', 'a100', 9, 60);
    await world.cycle();
    expect(world.controller.models()[0]?.deployments[0]?.override?.expiresAt).toBe('2026-11-20T10:01:11.500Z');
    await world.cycles(5);
    expect(world.replicas('a100')).toBe(9);
    await world.cycles(2);
    expect(world.replicas('a100')).toBe(4);
  });

  it('is cleared with every other one of its model', async () => {
    const world = await serving();
    await world.controller.fixReplicas('default', 'a100', 9, null);
    await world.controller.fixReplicas('default', 'l4', 2, null);
    await world.cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([9, 2]);
    expect(await world.controller.clearFixed('default', 'l4')).toEqual(['default/a100', 'default/l4']);
    expect(await world.controller.clearFixed('default', 'l4')).toEqual([]);
    await world.cycle();
    expect([world.replicas('a100'), world.replicas('l4')]).toEqual([4, 0]);
  });

  it('outlives a restart', async () => {
    const first = await serving();
    await first.controller.fixReplicas('default', 'a100', 9, null);
    await first.controller.stop();
    const second = new World({ deployments: [a100, l4], store: first.store, nowMs: first.nowMs });
    await second.controller.start();
    await second.send('llama', { rps: 4 }).cycles(2);
    expect(second.replicas('a100')).toBe(9);
  });

  it('acts while the store is down, wins over a held plan, and is written when the store is back', async () => {
    const world = await serving();
    world.storeFault = unreachable;
    await world.cycle();
    expect(await world.controller.fixReplicas('default', 'a100', 7, null)).toBe('fixed');
    await world.cycles(2);
    expect([world.replicas('a100'), world.held()]).toEqual([7, 'redis_unreachable']);
    world.storeFault = null;
    await world.cycle();
    expect(await world.store.readState('overrides')).toContain('"replicas":7');
  });

  it('gives a number to a deployment that has none yet', async () => {
    const world = await new World({ deployments: [a100], profiles }).start();
    expect(world.replicas('a100')).toBe('not-known');
    await world.controller.fixReplicas('default', 'a100', 2, null);
    expect(world.replicas('a100')).toBe(2);
    await world.cycle();
    expect(world.replicas('a100')).toBe(2);
  });

  it('is refused for a deployment that is not followed', async () => {
    const world = await serving();
    expect(await world.controller.fixReplicas('default', 'other', 2, null)).toBe('no-such-deployment');
    expect(await world.controller.clearFixed('default', 'other')).toBe('no-such-deployment');
  });
});

describe('following', () => {
  it('ends for a deployment that is left out, and begins again, also after a restart', async () => {
    const world = await serving();
    expect(await world.controller.unfollow('default', 'a100')).toBe('stopped');
    expect(world.replicas('a100')).toBe('no-such-deployment');
    await world.cycles(2);
    expect(world.replicas('a100')).toBe('no-such-deployment');
    expect(world.replicas('l4')).toBe(40);
    expect(await world.controller.unfollow('default', 'a100')).toBe('not-followed');
    await world.controller.stop();

    const second = new World({ deployments: [a100, l4], store: world.store, nowMs: world.nowMs });
    await second.controller.start();
    await second.send('llama', { rps: 4 }).cycles(2);
    expect(second.replicas('a100')).toBe('no-such-deployment');
    expect(second.controller.follow('default', 'a100')).toBe('started');
    await second.cycle();
    expect(second.replicas('a100')).toBe(4);
    expect(second.controller.follow('default', 'a100')).toBe('already-started');
    expect(second.controller.follow('default', 'other')).toBe('no-such-deployment');
  });

  it('ends for one deployment without touching the next plan of another one while a cycle runs', async () => {
    const world = await serving();
    world.planFault = () => {
      world.planFault = null;
      void world.controller.unfollow('default', 'a100');
    };
    await world.cycle();
    await nextTurn();
    expect(world.replicas('a100')).toBe('no-such-deployment');
    await world.cycle();
    expect(world.replicas('l4')).toBe(40);
  });
});

describe('shadow mode', () => {
  it('plans and shows, but publishes the current replicas', async () => {
    const world = await serving({ config: { publish: { mode: 'shadow' } } });
    expect(world.controller.mode).toBe('shadow');
    expect(world.controller.replicasOf('default', 'a100')).toMatchObject({ replicas: 1, targetReplicas: 4 });
    expect(world.controller.history({ limit: 9 })[0]?.changes).toMatchObject([
      { deployment: 'default/a100', from: null, to: 4 },
      { deployment: 'default/l4', from: null, to: 0 },
    ]);
  });

  it('publishes nothing where the current replicas are not known', async () => {
    const world = await serving({
      config: { publish: { mode: 'shadow' } },
      deployments: [{ ...a100, currentReplicas: null }],
    });
    expect(world.replicas('a100')).toBe('not-known');
  });

  it('for one deployment is the annotation paused', async () => {
    const world = await serving({ deployments: [{ ...a100, paused: true, currentReplicas: 2 }, l4] });
    expect(world.controller.replicasOf('default', 'a100')).toMatchObject({ replicas: 2, targetReplicas: 4 });
    expect(world.replicas('l4')).toBe(0);
  });
});

describe('steps down', () => {
  it('are at most so many a minute, and steps up are not limited', async () => {
    const world = await serving({ config: { publish: { maxStepsDownPerMinute: 1 } } });
    await world.send('llama', { rps: 10 }).cycles(2);
    expect(world.replicas('a100')).toBe(10);
    world.send('llama', { rps: 1 });
    const seen: number[] = [];
    let wasAhead = false;
    for (let i = 0; i < 90; i += 1) {
      await world.cycle();
      const published = world.controller.replicasOf('default', 'a100');
      if (published.kind !== 'known') throw new Error('no number');
      seen.push(published.replicas);
      wasAhead ||= published.targetReplicas < published.replicas - 1;
    }
    expect(wasAhead).toBe(true);
    seen.forEach((now, i) => {
      expect((seen[i - 5] ?? 10) - now).toBeLessThanOrEqual(1);
    });
    expect(seen.at(-1)).toBe(1);
  });
});

describe('deployments from the configuration', () => {
  const config = { deployments: { source: 'config', list: [{ name: 'a100', model: 'llama' }] } };

  it('run what was last published', async () => {
    const world = await serving({ config, deployments: [{ ...a100, currentReplicas: null }] });
    await world.cycle();
    expect(world.controller.problem()?.models[0]?.deployments[0]?.currentReplicas).toBe(4);
    expect(world.controller.inputs()[1]?.input).toBe('config');
  });
});

describe('the history', () => {
  it('has one record for each model and cycle that changed something, and outlives a restart', async () => {
    const world = await serving();
    await world.cycles(3);
    await world.send('llama', { rps: 6 }).cycle();
    const decisions = world.controller.history({ model: 'llama', limit: 10 });
    expect(decisions.map(({ changes }) => changes.map(({ from, to }) => [from, to]))).toEqual([
      [
        [null, 4],
        [null, 0],
      ],
      [[4, 6]],
    ]);
    expect(decisions[1]).toMatchObject({ status: 'optimal', heldReason: null, usdPerHour: 18, rps: 5.6 });
    expect(world.controller.history({ sinceMs: world.nowMs, limit: 10 })).toHaveLength(1);
    expect(world.controller.history({ model: 'other', limit: 10 })).toEqual([]);
    await world.controller.stop();
    const second = new World({ deployments: [a100, l4], store: world.store, nowMs: world.nowMs });
    await second.controller.start();
    await second.cycle();
    expect(second.controller.history({ limit: 10 })).toHaveLength(2);
  });

  it('says when a plan began to be held and when that ended', async () => {
    const world = await serving();
    world.storeFault = unreachable;
    await world.cycles(2);
    world.storeFault = null;
    await world.cycles(2);
    const reasons = world.controller.history({ limit: 10 }).map(({ heldReason }) => heldReason);
    expect(reasons).toEqual([null, 'redis_unreachable', null]);
    expect(world.log.filter(({ level }) => level === 'warn').map(({ message }) => message)).toContainEqual(
      expect.stringContaining('(held): redis_unreachable'),
    );
  });
});

describe('profiles on demand', () => {
  it('are read for a known model, and say whether that worked', async () => {
    const world = await serving();
    expect(await world.controller.refreshProfiles('llama')).toBe('updated');
    expect(await world.controller.refreshProfiles('other')).toBe('no-such-model');
    world.storeFault = unreachable;
    expect(await world.controller.refreshProfiles('llama')).toBe('failed');
  });
});

describe('what-if', () => {
  it('plans another problem without publishing it', async () => {
    const world = await serving();
    const problem = planningProblemSchema.parse({ ...world.controller.problem(), models: [] });
    expect((await world.controller.whatIf(problem)).deployments).toEqual([]);
    expect(world.replicas('a100')).toBe(4);
  });
});
