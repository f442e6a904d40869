import { describe, expect, test } from 'vitest';
import { openSolver } from '../../src/adapters/solvers/engines.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan, planWith } from '../../src/optimizer/plan.js';
import { deployment, flat, long, model, problem, short, shortAndLong } from './builders.js';

const limits = { timeLimitMs: 20_000 };

describe.each(['highs', 'javascript-lp-solver'] as const)('%s behind plan()', (name) => {
  const withEngine = async (input: ReturnType<typeof problem>) => {
    const engine = openSolver(name);
    try {
      await engine.ready();
      return await planWith(input, engine);
    } finally {
      await engine.close();
    }
  };

  test('plans a model without deployments: its demand is unserved', async () => {
    const input = problem({ models: [model({ deployments: [] })], options: limits });
    expect(await withEngine(input)).toMatchObject({
      status: 'optimal',
      usdPerHour: 0,
      unserved: [{ rps: 5, reason: 'slo' }],
    });
  });

  const shortPool = problem({
    models: [
      model({ name: 'must', minServedShare: 0.9, demand: [short(30)], deployments: [deployment({ id: 'n/must' })] }),
      model({ name: 'may', demand: [short(20)], deployments: [deployment({ id: 'n/may', profile: flat(10) })] }),
    ],
    pools: [{ gpuType: 'A', gpus: 2 }],
    options: limits,
  });

  test('gives the one model that requires a share all that there is of it, as the built-in solver does', async () => {
    const own = plan(shortPool);
    const answer = await withEngine(shortPool);
    for (const { models, deployments, scarcity, shortfalls } of [own, answer]) {
      expect(models.map(({ status }) => status)).toEqual(['infeasible', 'optimal']);
      expect(deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([2, 0]);
      expect(scarcity).toMatchObject([{ proven: true, unservedRps: expect.closeTo(30, 6) }]);
      expect(shortfalls.map(({ code }) => code)).toEqual(['min_served_share']);
    }
  });

  test('where several require more than there is, serves them by priority and does not call that proven', async () => {
    const requiring = (of: string, priority: number, rps: number) =>
      model({
        name: of,
        priority,
        minServedShare: 0.8,
        demand: [short(rps)],
        deployments: [deployment({ id: `n/${of}` })],
      });
    const input = problem({
      models: [
        requiring('second', 1, 30),
        requiring('first', 2, 20),
        model({ deployments: [deployment({ id: 'n/free' })] }),
      ],
      pools: [{ gpuType: 'A', gpus: 3 }],
      options: limits,
    });
    const answer = await withEngine(input);
    expect(checkPlan(input, answer)).toEqual([]);
    // 16 of 20 requests/s need two replicas; the third serves a third of what the other requires.
    expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([1, 2, 0]);
    expect(answer.models.map(({ status }) => status)).toEqual(['infeasible', 'feasible', 'feasible']);
    expect(answer.scarcity.map(({ proven }) => proven)).toEqual([false, false]);
    expect(answer.warnings.map(({ code }) => code)).toContain('unserved_not_proven');
  });

  test('counts what nothing can serve as unserved when it looks what is required', async () => {
    // Two thirds can be served at all. Half is required: 15 of the 20 that can be, two replicas; the third is for the other.
    const input = problem({
      models: [
        model({
          name: 'must',
          minServedShare: 0.5,
          demand: [short(20), long(10)],
          deployments: [deployment({ id: 'n/must', profile: shortAndLong(10, 1), maxTokens: 1000 })],
        }),
        model({ name: 'may', priority: 1, demand: [short(30)], deployments: [deployment({ id: 'n/may' })] }),
      ],
      pools: [{ gpuType: 'A', gpus: 4 }],
      options: limits,
    });
    for (const answer of [plan(input), await withEngine(input)]) {
      expect(checkPlan(input, answer)).toEqual([]);
      expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([2, 2]);
      expect(answer.models[0]).toMatchObject({ status: 'optimal' });
    }
    // All of it is more than can be served: as much as there is comes first.
    const all = {
      ...input,
      models: input.models.map((it) => (it.name === 'must' ? { ...it, minServedShare: 0.9 } : it)),
    };
    const tight = { ...all, pools: [{ gpuType: 'A', gpus: 2 }] };
    for (const answer of [plan(tight), await withEngine(tight)]) {
      expect(checkPlan(tight, answer)).toEqual([]);
      expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([2, 0]);
      expect(answer.models[0]).toMatchObject({ status: 'infeasible' });
    }
  });

  test('keeps the share that is required where it fits', async () => {
    const roomy = { ...shortPool, pools: [{ gpuType: 'A', gpus: 4 }] };
    const answer = await withEngine(roomy);
    expect(answer.status).toBe('optimal');
    expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([3, 1]);
  });
});
