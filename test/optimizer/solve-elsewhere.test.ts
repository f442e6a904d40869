import { describe, expect, test } from 'vitest';
import { openSolver } from '../../src/adapters/solvers/engines.js';
import { plan, planWith } from '../../src/optimizer/plan.js';
import { deployment, flat, model, problem, short } from './builders.js';

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

  test('plans what fits where the share that is required does not, and does not call it proven', async () => {
    const answer = await withEngine(shortPool);
    expect(answer.models.map(({ name: of, status }) => [of, status])).toEqual([
      ['must', 'infeasible'],
      ['may', expect.stringMatching(/feasible|infeasible/)],
    ]);
    expect(answer.scarcity).toMatchObject([{ proven: false, unservedRps: 30 }]);
    expect(answer.shortfalls.map(({ code }) => code)).toContain('min_served_share');
  });

  test('the built-in solver gives such a share all that there is', () => {
    const targets = plan(shortPool).deployments.map(({ id, targetReplicas }) => [id, targetReplicas]);
    expect(targets).toEqual([
      ['n/must', 2],
      ['n/may', 0],
    ]);
  });

  test('keeps the share that is required where it fits', async () => {
    const roomy = { ...shortPool, pools: [{ gpuType: 'A', gpus: 4 }] };
    const answer = await withEngine(roomy);
    expect(answer.status).toBe('optimal');
    expect(answer.deployments.map(({ targetReplicas }) => targetReplicas)).toEqual([3, 1]);
  });
});
