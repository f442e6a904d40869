import { describe, expect, it } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { PlanRejected, plan } from '../../src/optimizer/plan.js';
import { deployment, profileText, World, type WorldOptions } from '../support/controller-world.js';

/**
 * Two models that could each run on either GPU type. A replica on L4 serves 1 request/s for 1 USD/hour, one on A100 1
 * request/s for 3: whoever gets no L4 pays for it.
 */
const both = ['chat', 'code'].flatMap((model) => [
  deployment({ name: `${model}-l4`, model, gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0 }),
  deployment({ name: `${model}-a100`, model, usdPerReplicaHour: 3, currentReplicas: 0 }),
]);

async function twoModels(options: WorldOptions = {}): Promise<World> {
  const world = new World({ deployments: both, ...options });
  for (const { name, model } of world.deployments.current.deployments) {
    await world.writeProfile(name, profileText({}), model);
  }
  await world.start();
  return world;
}

/** What is published, in the order of the deployments. */
function published(world: World): readonly (number | string)[] {
  return world.deployments.current.deployments.map(({ name, namespace }) => world.replicas(name, namespace));
}

function gpusOf(world: World, gpuType: string, key: 'replicas' | 'targetReplicas' = 'targetReplicas'): number {
  const ofType = world.controller.plan()!.deployments.filter((each) => each.gpuType === gpuType);
  return ofType.reduce((sum, each) => sum + (each[key] ?? 0), 0);
}

const pools = [
  { gpuType: 'L4', gpus: 6 },
  { gpuType: 'A100-80GB', gpus: null },
];

describe('models that share a pool', () => {
  it('are planned together: what one uses is missing to the other', async () => {
    const world = await twoModels({ config: { pools } });
    await world.send('chat', { rps: 4 }).send('code', { rps: 4 }).cycles(2);
    await world.settle();
    expect(gpusOf(world, 'L4')).toBe(6);
    expect(gpusOf(world, 'A100-80GB')).toBe(2);
    expect(world.controller.plan()).toMatchObject({
      status: 'optimal',
      usdPerHour: 12,
      objectiveUsdPerHour: 12,
      gap: 0,
    });
    expect(published(world)).toEqual(world.controller.plan()!.deployments.map(({ targetReplicas }) => targetReplicas));
  });

  it('are one document: planned again it gives the same targets and passes its check', async () => {
    const world = await twoModels({
      config: {
        pools,
        quotas: [{ namespace: 'default', gpuType: 'a100', gpus: 9 }],
        budgetUsdPerHour: 40,
        models: { code: { priority: 2, unservedUsdPerRequest: 5, minServedShare: 0.5 } },
        options: { startUsdPerReplica: 0.25, horizonHours: 2, relativeGap: 0 },
      },
    });
    await world.send('chat', { rps: 4 }).send('code', { rps: 4 }).cycles(2);
    const problem = world.controller.problem()!;
    expect(problem).toMatchObject({
      pools,
      quotas: [{ namespace: 'default', gpuType: 'A100-80GB', gpus: 9 }],
      budgetUsdPerHour: 40,
      options: { startUsdPerReplica: 0.25, horizonHours: 2 },
      models: [
        { name: 'chat', priority: 0, unservedUsdPerRequest: 1000, minServedShare: 0 },
        { name: 'code', priority: 2, unservedUsdPerRequest: 5, minServedShare: 0.5 },
      ],
    });
    expect(problem.models[0]!.deployments[0]).toMatchObject({
      currentReplicas: 0,
      readyReplicas: 0,
      pendingReplicas: 0,
    });
    const again = plan(problem);
    const now = world.controller.plan()!;
    expect(checkPlan(problem, again)).toEqual([]);
    for (const key of ['usdPerHour', 'switchingUsdPerHour', 'objectiveUsdPerHour', 'boundUsdPerHour'] as const) {
      expect([key, now[key]]).toEqual([key, again[key]]);
    }
    expect(now.switchingUsdPerHour).toBe((8 * 0.25) / 2);
    expect(now.scarcity).toEqual(again.scarcity);
    expect(now.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual(
      again.deployments.map(({ targetReplicas }) => targetReplicas),
    );
  });

  it('leave the lower priority unserved where there are too few GPUs, and say why', async () => {
    const world = await twoModels({
      config: {
        pools: [
          { gpuType: 'L4', gpus: 5 },
          { gpuType: 'A100-80GB', gpus: 0 },
        ],
        models: { code: { priority: 1 } },
      },
    });
    await world.send('chat', { rps: 4 }).send('code', { rps: 4 }).cycles(2);
    expect(gpusOf(world, 'L4')).toBe(5);
    const unserved = world.controller.plan()!.unserved;
    expect(unserved).toMatchObject([{ model: 'chat', reason: 'capacity' }]);
    expect(unserved[0]!.rps).toBeCloseTo(3, 9);
    expect(world.controller.plan()!.scarcity).toMatchObject([{ priority: 0, proven: true }]);
    expect(world.controller.plan()!.penaltyUsdPerHour / (3 * 3600 * 1000)).toBeCloseTo(1, 6);
  });

  it('keep a share that was promised to a lower priority', async () => {
    const world = await twoModels({
      config: {
        pools: [
          { gpuType: 'L4', gpus: 5 },
          { gpuType: 'A100-80GB', gpus: 0 },
        ],
        models: { code: { priority: 1 }, chat: { minServedShare: 0.5 } },
      },
    });
    await world.send('chat', { rps: 4 }).send('code', { rps: 4 }).cycles(2);
    const left = world.controller.plan()!.unserved;
    expect(left.map(({ model, rps }) => [model, Math.round(rps * 1e6) / 1e6])).toEqual([
      ['chat', 2],
      ['code', 1],
    ]);
  });

  it('stay within a budget and the quota of a namespace', async () => {
    const own = both.map((each) =>
      each.model === 'code' ? { ...each, namespace: 'team', id: `team/${each.name}` } : each,
    );
    const world = await twoModels({
      deployments: own,
      config: { quotas: [{ namespace: 'team', gpuType: 'L4', gpus: 1 }], budgetUsdPerHour: 8 },
    });
    await world.send('chat', { rps: 4 }).send('code', { rps: 3 }).cycles(2);
    // 4 × 1 for chat, 1 × 1 + 1 × 3 for code. One more A100 is not in the budget; one more L4 would be.
    expect(world.controller.plan()).toMatchObject({ usdPerHour: 8, unserved: [{ model: 'code', reason: 'quota' }] });
  });

  it('stay within a budget alone', async () => {
    const world = await twoModels({ config: { budgetUsdPerHour: 5, models: { code: { priority: 1 } } } });
    await world.send('chat', { rps: 4 }).send('code', { rps: 3 }).cycles(2);
    expect(published(world)).toEqual([2, 0, 3, 0]);
    expect(world.controller.plan()).toMatchObject({ usdPerHour: 5, unserved: [{ model: 'chat', reason: 'budget' }] });
  });
});

describe('what stands beside the models that are planned', () => {
  const limited = { pools: [pools[0], { gpuType: 'A100-80GB', gpus: 3 }] };
  const fits = (world: World) => {
    expect(gpusOf(world, 'L4')).toBeLessThanOrEqual(6);
    expect(gpusOf(world, 'L4', 'replicas')).toBeLessThanOrEqual(6);
    expect(gpusOf(world, 'A100-80GB')).toBeLessThanOrEqual(3);
  };

  it('is a held model at what is published: the others get the rest, and the money is that of all', async () => {
    const world = await twoModels({ config: limited });
    await world.send('chat', { rps: 4 }).send('code', { rps: 1 }).cycles(2);
    await world.settle();
    expect(published(world)).toEqual([4, 0, 1, 0]);
    world.hiddenProfiles.add('chat-l4').add('chat-a100');
    await world.cycles(2);
    expect([world.held('chat'), world.held('code')]).toEqual(['no_profile', null]);
    await world.send('code', { rps: 4 }).cycles(2);
    await world.settle();
    // Two of the six L4 are left, the other two replicas run on A100.
    expect(published(world)).toEqual([4, 0, 2, 2]);
    fits(world);
    const now = world.controller.plan()!;
    expect(now).toMatchObject({ status: 'held', usdPerHour: 12, publishedUsdPerHour: 12, penaltyUsdPerHour: 0 });
    expect(now.models.map(({ name, status }) => [name, status])).toEqual([
      ['chat', 'held'],
      ['code', 'optimal'],
    ]);
    const problem = world.controller.problem()!;
    expect(problem.models[0]).toMatchObject({
      name: 'chat',
      demand: [],
      deployments: [
        { id: 'default/chat-l4', fixedReplicas: 4, profile: null, usdPerReplicaHour: 1 },
        { id: 'default/chat-a100', fixedReplicas: 0, profile: null },
      ],
    });
    expect(checkPlan(problem, plan(problem))).toEqual([]);
    // It comes back, and has its part again.
    world.hiddenProfiles.clear();
    await world.cycles(2);
    await world.settle();
    expect(world.held('chat')).toBeNull();
    expect(gpusOf(world, 'L4')).toBe(6);
  });

  it('is what runs of a model that was never planned, although no number of it is published', async () => {
    const running = both.map((each) => (each.name === 'chat-l4' ? { ...each, currentReplicas: 5 } : each));
    const world = await twoModels({ deployments: running, config: limited });
    await world.send('code', { rps: 3 }).cycles(2);
    expect(world.held('chat')).toBe('no_traces');
    expect(published(world)).toEqual(['not-known', 'not-known', 1, 2]);
  });

  it('is what a person fixed, also above the pool', async () => {
    const world = await twoModels({ config: limited });
    await world.send('chat', { rps: 1 }).send('code', { rps: 3 }).cycles(2);
    await world.settle();
    await world.controller.fixReplicas('default', 'chat-l4', 5, null);
    await world.cycle();
    await world.settle();
    expect(published(world)).toEqual([5, 0, 1, 2]);
    await world.controller.fixReplicas('default', 'chat-l4', 9, null);
    await world.cycle();
    await world.settle();
    expect(published(world).slice(0, 3)).toEqual([9, 0, 0]);
    expect(world.warnings()).toContain('limit_exceeded');
  });

  it('is a paused deployment as it runs', async () => {
    const paused = both.map((each) => (each.name === 'chat-l4' ? { ...each, paused: true, currentReplicas: 5 } : each));
    const world = await twoModels({ deployments: paused, config: limited });
    await world.send('chat', { rps: 1 }).send('code', { rps: 3 }).cycles(2);
    await world.settle();
    expect(published(world)).toEqual([5, 0, 1, 2]);
    fits(world);
  });

  it('is the last plan in shadow mode, where nothing moves', async () => {
    const world = await twoModels({ config: { ...limited, publish: { mode: 'shadow' } } });
    await world.send('chat', { rps: 4 }).send('code', { rps: 1 }).cycles(2);
    world.hiddenProfiles.add('chat-l4').add('chat-a100');
    await world.cycles(2);
    await world.send('code', { rps: 4 }).cycles(2);
    expect(world.held('chat')).toBe('no_profile');
    expect(world.controller.plan()!.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([4, 0, 2, 2]);
    expect(published(world)).toEqual([0, 0, 0, 0]);
  });

  it('is demand that nothing can serve: its model keeps its own, and nobody else gets it', async () => {
    const world = await twoModels({ config: limited });
    await world.send('chat', { rps: 4 }).send('code', { rps: 1 }).cycles(2);
    await world.settle();
    const none = profileText({
      tputs: [
        [0, 0],
        [0, 1],
      ],
    });
    for (const name of ['chat-l4', 'chat-a100']) await world.writeProfile(name, none, 'chat');
    const short = world.deployments.current.deployments.map((each) =>
      each.model === 'chat' ? { ...each, maxTokens: 100 } : each,
    );
    world.deployments.set({ deployments: short });
    await world.send('code', { rps: 4 }).cycles(25);
    await world.settle();
    expect(world.held('chat')).toBe('nothing_servable');
    expect(published(world)).toEqual([4, 0, 2, 2]);
  });
});

describe('models that cannot be planned together', () => {
  /** Fails for every problem in which one of these models asks for something. */
  function failsFor(names: readonly string[], error: () => Error) {
    return (problem: PlanningProblem): Plan | undefined => {
      if (problem.models.some(({ name, demand }) => names.includes(name) && demand.length > 0)) throw error();
      return undefined;
    };
  }
  const names = ['a', 'b', 'c', 'd', 'e'];
  const many = names.map((model) =>
    deployment({ name: model, model, gpuType: 'L4', usdPerReplicaHour: 1, currentReplicas: 0 }),
  );

  it.each<readonly [string, () => Error]>([
    ['planning_failed', () => new Error('out of luck')],
    ['plan_rejected', () => new PlanRejected(['something'])],
  ])('are planned beside each other, and only the one at fault is held (%s)', async (reason, error) => {
    const world = await twoModels({ deployments: many, config: { pools: [{ gpuType: 'L4', gpus: 8 }] } });
    for (const name of names) world.send(name, { rps: 1 });
    await world.cycles(2);
    await world.settle();
    expect(published(world)).toEqual([1, 1, 1, 1, 1]);
    world.planFault = failsFor(['c'], error);
    for (const name of names) world.send(name, { rps: 2 });
    await world.cycles(2);
    await world.settle();
    expect(names.map((name) => world.held(name))).toEqual([null, null, reason, null, null]);
    // 8 GPUs: c keeps its one, and 7 are left for 4 × 2.
    expect(published(world)[2]).toBe(1);
    expect(gpusOf(world, 'L4')).toBe(8);
    expect(world.warnings()).toContain('planned_apart');
    const now = world.controller.plan()!;
    expect(now.boundUsdPerHour).toBeLessThanOrEqual(1);
    expect(now.scarcity).toMatchObject([{ proven: false, boundUsdPerHour: 0 }]);
    world.planFault = null;
    await world.cycles(2);
    expect(world.controller.plan()!.status).toBe('optimal');
    expect(world.warnings()).not.toContain('planned_apart');
  });

  it('are all held where each fails alone', async () => {
    const world = await twoModels({ deployments: many, config: { pools: [{ gpuType: 'L4', gpus: 8 }] } });
    for (const name of names) world.send(name, { rps: 1 });
    await world.cycles(2);
    world.planFault = failsFor(names, () => new Error('out of luck'));
    await world.cycle();
    expect(names.map((name) => world.held(name))).toEqual(names.map(() => 'planning_failed'));
    expect(published(world)).toEqual([1, 1, 1, 1, 1]);
  });
});

describe('a number that may not fall faster', () => {
  it('is a floor of the plan: nobody gets the GPUs before they are given back', async () => {
    const world = await twoModels({
      config: {
        pools: [
          { gpuType: 'L4', gpus: 6 },
          { gpuType: 'A100-80GB', gpus: 0 },
        ],
        publish: { maxStepsDownPerMinute: 1 },
        models: { code: { priority: 1 } },
      },
    });
    await world.send('chat', { rps: 5 }).send('code', { rps: 1 }).cycles(2);
    await world.settle();
    expect(published(world)).toEqual([5, 0, 1, 0]);
    world.send('chat', null).send('code', { rps: 5 });
    const seen: number[] = [];
    for (let cycle = 0; cycle < 60; cycle += 1) {
      world.follow();
      await world.cycle();
      const [chat, , code] = published(world) as number[];
      expect(chat! + code!).toBeLessThanOrEqual(6);
      seen.push(chat!);
      // A minute is six cycles.
      expect(Math.max(...seen.slice(-6)) - chat!).toBeLessThanOrEqual(1);
    }
    expect([...new Set(seen)]).toEqual([4, 3, 2, 1]);
    expect(published(world)).toEqual([1, 0, 5, 0]);
  });
});

describe('a GPU type that the pools leave out', () => {
  it('may use what runs and no more, and every plan says so', async () => {
    const running = both.map((each) => (each.name === 'code-l4' ? { ...each, currentReplicas: 2 } : each));
    const world = await twoModels({ deployments: running, config: { pools: [{ gpuType: 'a100', gpus: 8 }] } });
    await world.send('chat', { rps: 2 }).send('code', { rps: 2 }).cycles(2);
    await world.settle();
    expect(gpusOf(world, 'L4')).toBe(2);
    expect(gpusOf(world, 'A100-80GB')).toBe(2);
    expect(world.controller.problem()!.pools).toEqual([
      { gpuType: 'A100-80GB', gpus: 8 },
      { gpuType: 'L4', gpus: 2 },
    ]);
    expect(world.warnings()).toEqual(['implicit_pool']);
  });

  it('has no number while nobody knows what runs, and is never scaled down for it', async () => {
    const listed = both.map(({ name, model, gpuType, usdPerReplicaHour }) => ({
      name,
      model,
      gpuType,
      usdPerReplicaHour,
    }));
    const configured = both.map((each) => ({
      ...each,
      currentReplicas: null,
      readyReplicas: null,
      pendingReplicas: null,
    }));
    const world = await twoModels({
      deployments: configured,
      config: { deployments: { source: 'config', list: listed }, pools: [{ gpuType: 'a100', gpus: 8 }] },
    });
    await world.send('chat', { rps: 2 }).send('code', { rps: 2 }).cycles(4);
    expect(published(world)).toEqual(['not-known', 2, 'not-known', 2]);
    const said = world.controller.replicasOf('default', 'chat-l4');
    expect(said).toMatchObject({ kind: 'not-known', reason: expect.stringContaining('No pool names L4') });
  });
});

describe('an idle model', () => {
  it('keeps one replica on the cheapest type that has room for it', async () => {
    const world = await twoModels({
      config: {
        pools: [
          { gpuType: 'L4', gpus: 0 },
          { gpuType: 'A100-80GB', gpus: 3 },
        ],
      },
    });
    await world.send('chat', { rps: 1 }).cycles(2);
    await world.send('chat', null).cycles(27);
    expect(world.controller.models()[0]).toMatchObject({ heldReason: null, demand: { idle: true } });
    expect(published(world).slice(0, 2)).toEqual([0, 1]);
    expect(world.controller.plan()!.shortfalls).toEqual([]);
  });
});

describe('the same shares for all requests', () => {
  const shortOnly = profileText({
    tputs: [
      [4, 0],
      [4, 0],
    ],
  });
  const all = profileText({ rps: 1 });
  const lengths = [[128, 64] as const, [4096, 64] as const];

  async function proportional(texts: readonly [string, string]): Promise<World> {
    const chat = both.filter(({ model }) => model === 'chat');
    const world = new World({ deployments: chat, config: { options: { routing: 'proportional' } } });
    for (const [index, { name, model }] of chat.entries()) await world.writeProfile(name, texts[index]!, model);
    await world.start();
    await world.send('chat', { rps: 4, lengths }).cycles(2);
    return world;
  }

  it('go to deployments that serve them all, and the plan says which routing it assumes', async () => {
    const free = await twoModels();
    await free.send('chat', { rps: 4 }).cycles(2);
    expect(free.controller.plan()!.routing).toBe('free');
    const world = await proportional([shortOnly, all]);
    expect(world.controller.plan()).toMatchObject({ routing: 'proportional', usdPerHour: 12 });
    expect(published(world)).toEqual([0, 4]);
  });

  it('that no deployment can take hold the model: what serves a part of them is not switched off', async () => {
    const longOnly = profileText({
      tputs: [
        [0, 1],
        [0, 1],
      ],
    });
    const world = await proportional([shortOnly, longOnly]);
    expect(world.held('chat')).toBe('nothing_servable');
    expect(
      world.log.some(({ message }) => message.startsWith('chat is held: ') && !message.includes('no profile')),
    ).toBe(true);
  });
});

describe('a plan on its way', () => {
  it('publishes its next step, and shows target, step and money of both', async () => {
    const world = await twoModels({ config: { pools } });
    await world.send('chat', { rps: 4 }).send('code', { rps: 1 }).cycles(2);
    await world.settle();
    expect(published(world)).toEqual([4, 0, 1, 0]);
    // The L4 become dear: all of it moves to A100, whose replicas have to start first.
    const moved = world.deployments.current.deployments.map((each) =>
      each.gpuType === 'L4' ? { ...each, usdPerReplicaHour: 9 } : each,
    );
    world.deployments.set({ deployments: moved });
    await world.cycle();
    expect(published(world)).toEqual([4, 4, 1, 1]);
    const now = world.controller.plan()!;
    expect(now.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([0, 4, 0, 1]);
    expect(now).toMatchObject({ usdPerHour: 15, publishedUsdPerHour: 5 * 9 + 5 * 3 });
    expect(world.controller.replicasOf('default', 'chat-l4')).toMatchObject({ replicas: 4, targetReplicas: 0 });
    expect(world.controller.models()[0]!.deployments[0]).toMatchObject({ replicas: 4, targetReplicas: 0 });
    // Asked for, and not ready yet.
    const asked = world.deployments.current.deployments.map((each) =>
      each.gpuType === 'L4'
        ? each
        : {
            ...each,
            currentReplicas: world.replicas(each.name) as number,
            pendingReplicas: world.replicas(each.name) as number,
          },
    );
    world.deployments.set({ deployments: asked });
    await world.cycle();
    expect(published(world)).toEqual([4, 4, 1, 1]);
    const before = world.controller.history({ limit: 1000 }).length;
    await world.cycle();
    expect(world.controller.history({ limit: 1000 })).toHaveLength(before);
    await world.settle();
    expect(published(world)).toEqual([0, 4, 0, 1]);
    expect(world.controller.history({ limit: 1, model: 'chat' })[0]!.changes).toMatchObject([
      { deployment: 'default/chat-l4', from: 4, to: 0 },
    ]);
  });
});
