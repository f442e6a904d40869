import { describe, expect, it } from 'vitest';
import type { ProblemModel } from '../../src/core/planning-problem.js';
import type { ModelPlan } from '../../src/service/model-plan.js';
import { cheapestSingleType } from '../../src/service/single-type.js';
import { deployment, profileText, World } from '../support/controller-world.js';

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
  const cheapest = (a: ModelPlan, b: ModelPlan) =>
    cheapestSingleType(model, planOf('optimal', 1), {
      parts: new Map([
        ['["m","A"]', a],
        ['["m","B"]', b],
      ]),
      room: { budgetUsdPerHour: null },
    });

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
