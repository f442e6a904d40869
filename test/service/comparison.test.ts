import { describe, expect, it } from 'vitest';
import type { ProblemModel } from '../../src/core/planning-problem.js';
import type { ModelPlan } from '../../src/service/model-plan.js';
import { splitPlan } from '../../src/service/model-plan.js';
import {
  cheapestSingleType,
  roomBesideOthers,
  type SingleTypePrice,
  singleTypePrices,
  singleTypeVariants,
} from '../../src/service/single-type.js';
import { deployment, profileText, World } from '../support/controller-world.js';
import { deploymentView, modelView, planOf, problemOf } from '../support/scripted-view.js';

const isVariant = (name: string, of = '') => name.startsWith(`["${of}`);

describe('a comparison with single types whose plan fails', () => {
  it('keeps no other model from its answer, and is not asked again while nothing changes', async () => {
    const names = ['bad', 'good'];
    const world = new World({ deployments: names.map((name) => deployment({ name, model: name })) });
    for (const name of names) await world.writeProfile(name, profileText({}), name);
    let failures = 0;
    world.planFault = ({ models }) => {
      if (!models.some(({ name }) => isVariant(name, 'bad'))) return;
      failures += 1;
      throw new Error('out of luck');
    };
    await world.start();
    await world.send('bad', { rps: 3 }).send('good', { rps: 2 }).cycles(4);
    expect(world.controller.models().map(({ name, singleTypeUsdPerHour }) => [name, singleTypeUsdPerHour])).toEqual([
      ['bad', null],
      ['good', 2],
    ]);
    const before = failures;
    await world.cycles(5);
    expect(failures).toBe(before);
    const warning = 'bad: the single-type comparison failed: out of luck';
    expect(world.log.filter(({ message }) => message === warning)).toHaveLength(1);
    // More of its demand asks again.
    await world.send('bad', { rps: 5 }).cycles(2);
    expect(failures).toBeGreaterThan(before);
  });
});

describe('the cheapest single type', () => {
  const model = {
    name: 'm',
    deployments: ['A', 'B'].map((gpuType) => ({ gpuType, profile: {}, usdPerReplicaHour: 1 })),
  } as unknown as ProblemModel;
  const planOf = (status: string, usdPerHour: number, boundUsdPerHour = usdPerHour) =>
    ({ model: { status, usdPerHour, boundUsdPerHour }, shares: [] }) as unknown as ModelPlan;
  const cheapest = (a: ModelPlan, b: ModelPlan, budgetUsdPerHour: number | null = null) =>
    cheapestSingleType([
      singleTypePrices(model, planOf('optimal', 1), {
        parts: new Map([
          ['["m","A"]', a],
          ['["m","B"]', b],
        ]),
        room: { budgetUsdPerHour },
      }),
    ]);

  it.each<readonly [string, ModelPlan, ModelPlan, string | null]>([
    ['is the cheaper of two proven ones', planOf('optimal', 5), planOf('optimal', 4), 'B'],
    ['is no unproven one', planOf('feasible', 5, 4), planOf('infeasible', 0), null],
    ['is a proven one that no unproven one can beat', planOf('feasible', 9, 6), planOf('optimal', 5), 'B'],
    ['is not told where an unproven one may be cheaper', planOf('feasible', 9, 4), planOf('optimal', 5), null],
    ['is not told where a type got no plan', planOf('held', 0), planOf('optimal', 5), null],
    ['is the other one where a type cannot serve', planOf('infeasible', 1), planOf('optimal', 5), 'B'],
  ])('%s', (_, a, b, expected) => {
    expect(cheapest(a, b)?.gpuType ?? null).toBe(expected);
  });

  it('is one that the budget allows beside the others', () => {
    const a = planOf('optimal', 5);
    const b = planOf('optimal', 6);
    expect(cheapest(a, b, 5)?.gpuType).toBe('A');
    expect(cheapest(b, a, 5)?.gpuType).toBe('B');
    expect(cheapest(a, b, 4)).toBeNull();
  });

  it('costs what it cost at most in the time for which plans keep what they had', () => {
    const at = (A: number | null, B: number | null): readonly SingleTypePrice[] =>
      Object.entries({ A, B }).flatMap(([gpuType, usdPerHour]) =>
        usdPerHour === null ? [] : { gpuType, usdPerHour, isProven: true },
      );
    expect(cheapestSingleType([at(9, 6), at(3, 5)])).toEqual({ gpuType: 'B', usdPerHour: 6 });
    expect(cheapestSingleType([at(9, null), at(3, 5)])).toEqual({ gpuType: 'A', usdPerHour: 9 });
    expect(cheapestSingleType([at(9, 6), at(3, null)])).toEqual({ gpuType: 'A', usdPerHour: 9 });
    expect(cheapestSingleType([at(null, 6), at(3, null)])).toBeNull();
    expect(cheapestSingleType([])).toBeNull();
    const unproven = at(9, 6).map((price) => ({ ...price, isProven: false }));
    expect(cheapestSingleType([unproven, at(3, 5)])).toBeNull();
    expect(cheapestSingleType([unproven.slice(0, 1), at(3, 5)])).toBeNull();
  });

  it('is compared while a plan keeps more than its demand needs, and forgets what was before', async () => {
    const names = ['l4', 'a100'];
    const prices = { l4: 1, a100: 3 } as const;
    const world = new World({
      deployments: names.map((name) =>
        deployment({ name, gpuType: name, usdPerReplicaHour: prices[name as 'l4'], currentReplicas: 0 }),
      ),
      profiles: Object.fromEntries(names.map((name) => [name, profileText({})])),
      config: { stability: { scaleDownStabilizationSeconds: 300, scaleDownTolerance: 0 } },
    });
    await world.start();
    const single = () => world.controller.models()[0]!.singleTypeUsdPerHour;
    const settle = async (cycles: number) => {
      for (let cycle = 0; cycle < cycles; cycle += 1) {
        world.follow();
        await world.cycle();
      }
    };
    world.send('llama', { rps: 8 });
    await settle(10);
    expect(single()).toBeNull();
    await settle(50);
    expect(single()).toBe(8);
    world.send('llama', { rps: 2 });
    await settle(30);
    // What runs is kept, and a fleet of L4 alone would be, too.
    expect([world.controller.plan()!.usdPerHour, single()]).toEqual([8, 8]);
    await settle(60);
    expect([world.controller.plan()!.usdPerHour, single()]).toEqual([2, 2]);
  });
});

describe('what the other models leave', () => {
  const views = ['mine', 'theirs'].map((name) =>
    modelView({
      name,
      deployments: [
        deploymentView({ name: `${name}-a100`, namespace: name, targetReplicas: 2, usdPerReplicaHour: 4 }),
        deploymentView({ name: `${name}-l4`, namespace: name, gpuType: 'L4', targetReplicas: 3, usdPerReplicaHour: 1 }),
      ],
    }),
  );
  const model = problemOf(views).models[0]!;
  const roomOf = (limits: Parameters<typeof roomBesideOthers>[0]['limits']) =>
    roomBesideOthers({
      limits,
      parts: [...splitPlan(planOf(views), []).values()],
      gpusPerReplicaOf: (id) => (id.endsWith('a100') ? 8 : 1),
    })(model);

  it('is the limit without what they use, and what the model itself cannot give up', () => {
    const limits = {
      pools: [
        { gpuType: 'A100', gpus: 40 },
        { gpuType: 'L4', gpus: 2 },
        { gpuType: 'H100', gpus: 9 },
      ],
      quotas: [
        { namespace: 'mine', gpuType: 'A100', gpus: 20 },
        { namespace: 'theirs', gpuType: 'A100', gpus: 20 },
      ],
      budgetUsdPerHour: 30,
    };
    expect(roomOf(limits)).toEqual({
      pools: [
        { gpuType: 'A100', gpus: 40 - 16 },
        { gpuType: 'L4', gpus: 0 },
      ],
      quotas: [{ namespace: 'mine', gpuType: 'A100', gpus: 20 }],
      budgetUsdPerHour: 30 - 11,
    });
    expect(roomOf({ pools: [{ gpuType: 'A100', gpus: null }], quotas: [], budgetUsdPerHour: null })).toEqual({
      pools: [],
      quotas: [],
      budgetUsdPerHour: null,
    });
    const unplannable = { ...model, deployments: model.deployments.map((each) => ({ ...each, profile: null })) };
    const parts = [...splitPlan(planOf(views), []).values()];
    const all = roomBesideOthers({ limits, parts, gpusPerReplicaOf: () => 1 })(unplannable);
    expect(all.pools[0]).toEqual({ gpuType: 'A100', gpus: 40 - 4 });
  });

  it('is given to each type as a choice of its own', () => {
    const room = {
      pools: [
        { gpuType: 'A100', gpus: 24 },
        { gpuType: 'L4', gpus: 0 },
      ],
      quotas: [{ namespace: 'mine', gpuType: 'L4', gpus: 1 }],
      budgetUsdPerHour: null,
    };
    const variants = singleTypeVariants(model, room);
    expect(variants.models.map(({ name, deployments }) => [name, deployments.map(({ gpuType }) => gpuType)])).toEqual([
      ['["mine","A100"]', ['["mine","A100"]']],
      ['["mine","L4"]', ['["mine","L4"]']],
    ]);
    expect(variants.pools).toEqual([
      { gpuType: '["mine","A100"]', gpus: 24 },
      { gpuType: '["mine","L4"]', gpus: 0 },
    ]);
    expect(variants.quotas).toEqual([{ namespace: 'mine', gpuType: '["mine","L4"]', gpus: 1 }]);
    const idle = { ...model, demand: model.demand.map((bucket) => ({ ...bucket, rps: 0 })) };
    expect(singleTypeVariants(idle, room)).toEqual({ models: [], pools: [], quotas: [] });
  });
});

describe('readiness', () => {
  it('says how many profiles cannot be used and why, as long as that is so', async () => {
    const names = ['one', 'three', 'two'];
    const world = new World({
      deployments: names.map((name) => deployment({ name })),
      profiles: { one: profileText({}), two: '{}', three: `{"tputs": ${JSON.stringify('x'.repeat(5000))}}` },
    });
    await world.start();
    const problem = () => world.controller.inputs().find(({ input }) => input === 'profiles')?.problem;
    expect(problem()).toMatch(/^2 profiles cannot be used: profile of default\/three: .+/);
    expect(problem()!.length).toBeLessThan(350);
    expect(problem()).not.toContain('\n');
    await world.writeProfile('three', profileText({}));
    await world.cycle();
    expect(problem()).toMatch(/^1 profile cannot be used: profile of default\/two: /);
    await world.writeProfile('two', profileText({}));
    await world.cycle();
    expect(problem()).toBeNull();
  });
});
