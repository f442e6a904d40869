import { describe, expect, test } from 'vitest';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { grantFloors, limitsOf, limitWarnings, remainingOf } from '../../src/optimizer/shared-limits.js';
import { deployment, model, problem, short } from './builders.js';

const on = (id: string, gpuType: string, overrides: Parameters<typeof deployment>[0] = {}) =>
  deployment({ id, gpuType, ...overrides });
const nobody: ReadonlySet<string> = new Set();

const remains = (input: PlanningProblem, held = nobody): Record<string, number> =>
  Object.fromEntries(limitsOf(input, held).map((limit) => [limit.name, remainingOf(limit)]));

const grants = (input: PlanningProblem, held = nobody) => {
  const { granted, shortfalls } = grantFloors(input, limitsOf(input, held), held);
  return { granted: Object.fromEntries(granted), shortfalls: shortfalls.map(({ message }) => message) };
};

describe('what the plan may give out of a limit', () => {
  const deployments = [
    on('t/fixed', 'A', { fixedReplicas: 2, gpusPerReplica: 4, usdPerReplicaHour: 3 }),
    on('t/blind', 'A', { profile: null, currentReplicas: 3 }),
    on('u/unknown', 'A', { profile: null }),
    on('t/other', 'B', { currentReplicas: 7 }),
  ];
  const limited = {
    pools: [
      { gpuType: 'A', gpus: 20 },
      { gpuType: 'B', gpus: 9 },
      { gpuType: 'C', gpus: null },
    ],
    quotas: [{ namespace: 't', gpuType: 'A', gpus: 12 }],
    budgetUsdPerHour: 10,
  };

  test('is the rest of it without fixed deployments and those without a profile', () => {
    expect(remains(problem({ deployments, ...limited }))).toEqual({
      'the quota of t on A': 1,
      'the pool of A': 9,
      'the pool of B': 9,
      'the budget': 1,
    });
  });

  test('is less by what runs of models that are held, their fixed ones as fixed', () => {
    expect(remains(problem({ deployments, ...limited }), new Set(['llama']))).toEqual({
      'the quota of t on A': 1,
      'the pool of A': 9,
      'the pool of B': 2,
      'the budget': 0,
    });
  });

  test('is nothing where those alone take more, and the plan says how much', () => {
    const over = problem({ deployments, ...limited, pools: [{ gpuType: 'A', gpus: 8 }], budgetUsdPerHour: 8.5 });
    expect(remains(over)).toEqual({ 'the quota of t on A': 1, 'the pool of A': 0, 'the budget': 0 });
    expect(limitWarnings(over, limitsOf(over, nobody)).map(({ code, message }) => [code, message])).toEqual([
      [
        'limit_exceeded',
        'the pool of A is 8 GPUs, but deployments that this plan may not change take 11: nothing is left of it',
      ],
      [
        'limit_exceeded',
        'the budget is 8.5 USD/h, but deployments that this plan may not change take 9: nothing is left of it',
      ],
    ]);
    const answer = plan(over);
    expect(checkPlan(over, answer)).toEqual([]);
    expect(answer.warnings.filter(({ code }) => code === 'limit_exceeded')).toHaveLength(2);
    expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([2, 3, null, 0]);
  });

  test('is all of it to the last digit: limits of a tenth are not overrun by rounding', () => {
    const tenths = [on('t/a', 'A', { fixedReplicas: 3, usdPerReplicaHour: 0.1 })];
    const exact = problem({ deployments: tenths, budgetUsdPerHour: 0.3 });
    expect(limitWarnings(exact, limitsOf(exact, nobody))).toEqual([]);
  });

  test('of a pool or quota that no deployment is on is said to limit nothing, once each', () => {
    const input = problem({
      deployments: [on('team/a', 'H100')],
      pools: [{ gpuType: 'h100', gpus: 8 }],
      quotas: [
        { namespace: 'team', gpuType: 'H100', gpus: 8 },
        { namespace: 'teem', gpuType: 'H100', gpus: 8 },
        { namespace: 'tea', gpuType: 'H100', gpus: 8 },
      ],
    });
    expect(limitWarnings(input, limitsOf(input, nobody)).map(({ message }) => message)).toEqual([
      'the pool of h100 limits nothing: no deployment is on it',
      'the quota of teem on H100 limits nothing: no deployment is on it',
      'the quota of tea on H100 limits nothing: no deployment is on it',
    ]);
    expect(plan(input).warnings.map(({ code }) => code)).toEqual(new Array(3).fill('limit_without_deployment'));
  });

  test('a quota counts the namespace before the first slash, and no deployment without one', () => {
    const input = problem({
      models: [
        model({ name: 'a', deployments: [on('t/a/b', 'A', { fixedReplicas: 1 })] }),
        model({ name: 'b', deployments: [on('t', 'A', { fixedReplicas: 1 })] }),
        model({ name: 'c', deployments: [on('tt/c', 'A', { fixedReplicas: 1 })] }),
      ],
      quotas: [{ namespace: 't', gpuType: 'A', gpus: 8 }],
    });
    expect(remains(input)).toEqual({ 'the quota of t on A': 7 });
  });
});

describe('floors within limits', () => {
  const floored = (name: string, priority: number, minReplicas: number, gpuType = 'A') =>
    model({ name, priority, deployments: [on(`t/${name}`, gpuType, { minReplicas })] });

  test('are all granted where there is room for all, and nothing is said', () => {
    const input = problem({ models: [floored('a', 0, 2), floored('b', 0, 3)], pools: [{ gpuType: 'A', gpus: 5 }] });
    expect(grants(input)).toEqual({ granted: {}, shortfalls: [] });
  });

  test('are granted by priority, then by name of the model, as many whole replicas as fit', () => {
    const models = [floored('c', 0, 2), floored('b', 0, 2), floored('z', 5, 2), floored('a', -1, 2)];
    const input = problem({ models, pools: [{ gpuType: 'A', gpus: 5 }] });
    expect(grants(input)).toEqual({
      granted: { 't/c': 1, 't/a': 0 },
      shortfalls: [
        't/c: of its floor of 2 replicas, 1 replica fits in what is left of the pool of A',
        't/a: of its floor of 2 replicas, none fits in what is left of the pool of A',
      ],
    });
    const answer = plan(input);
    expect(checkPlan(input, answer)).toEqual([]);
    expect(answer.deployments.map(({ id, targetReplicas }) => [id, targetReplicas])).toEqual([
      ['t/c', 1],
      ['t/b', 2],
      ['t/z', 2],
      ['t/a', 0],
    ]);
    expect(answer.shortfalls.map(({ code, model: of, deployment: id }) => [code, of, id])).toEqual([
      ['floor_above_limit', 'c', 't/c'],
      ['floor_above_limit', 'a', 't/a'],
    ]);
  });

  test('within a model go by id; what is too large for what is left lets a smaller one in', () => {
    const input = problem({
      deployments: [
        on('t/b', 'A', { minReplicas: 1, gpusPerReplica: 8 }),
        on('t/c', 'A', { minReplicas: 3 }),
        on('t/a', 'A', { minReplicas: 1, gpusPerReplica: 4 }),
      ],
      pools: [{ gpuType: 'A', gpus: 10 }],
    });
    expect(grants(input)).toEqual({
      granted: { 't/b': 0 },
      shortfalls: ['t/b: of its floor of 1 replica, none fits in what is left of the pool of A'],
    });
  });

  test('name the limit that leaves least, of a pool, a quota and the budget', () => {
    const input = problem({
      deployments: [on('t/a', 'A', { minReplicas: 9, usdPerReplicaHour: 2 })],
      pools: [{ gpuType: 'A', gpus: 8 }],
      quotas: [{ namespace: 't', gpuType: 'A', gpus: 5 }],
      budgetUsdPerHour: 6.5,
    });
    expect(grants(input)).toEqual({
      granted: { 't/a': 3 },
      shortfalls: ['t/a: of its floor of 9 replicas, 3 replicas fit in what is left of the budget'],
    });
  });

  test('come before all demand, also of higher priority, but not before what is fixed', () => {
    const input = problem({
      models: [
        model({ name: 'busy', priority: 9, demand: [short(100)], deployments: [on('t/busy', 'A')] }),
        floored('floor', 0, 2),
        model({ name: 'fixed', deployments: [on('t/fixed', 'A', { fixedReplicas: 2 })] }),
      ],
      pools: [{ gpuType: 'A', gpus: 5 }],
    });
    const answer = plan(input);
    expect(checkPlan(input, answer)).toEqual([]);
    expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([1, 2, 2]);
  });

  test('of idleness hold only for models without demand; a ceiling below a floor is the floor that is asked for', () => {
    const idle = (name: string, demand: number) =>
      model({
        name,
        demand: [short(demand)],
        deployments: [on(`t/${name}`, 'A', { idleMinReplicas: 3, maxReplicas: 2 })],
      });
    const input = problem({ models: [idle('a', 0), idle('b', 5), idle('c', 0)], pools: [{ gpuType: 'A', gpus: 3 }] });
    expect(grants(input)).toEqual({
      granted: { 't/c': 1 },
      shortfalls: ['t/c: of its floor of 2 replicas, 1 replica fits in what is left of the pool of A'],
    });
  });

  test('of held models and of fixed deployments are no matter: they stay as they are', () => {
    const models = [
      model({ name: 'a', deployments: [on('t/a', 'A', { minReplicas: 4, fixedReplicas: 1 })] }),
      model({ name: 'b', deployments: [on('t/b', 'A', { minReplicas: 4, currentReplicas: 1 })] }),
      floored('c', 0, 2),
    ];
    const input = problem({ models, pools: [{ gpuType: 'A', gpus: 3 }] });
    expect(grants(input, new Set(['b']))).toEqual({
      granted: { 't/c': 1 },
      shortfalls: ['t/c: of its floor of 2 replicas, 1 replica fits in what is left of the pool of A'],
    });
  });
});
