import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, long, model, problem, short, shortAndLong } from './builders.js';
import { jointProblem, smallJoint, tinyJoint } from './joint-problems.js';

const on = (id: string, gpuType: string, overrides: Parameters<typeof deployment>[0] = {}) =>
  deployment({ id, gpuType, ...overrides });

/** What stays unserved: requests/s by model and reason, `input:output` before the reason where asked for. */
function reasonsOf(answer: Plan, by: 'model' | 'bucket' = 'model'): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { model: name, inputTokens, reason, rps } of answer.unserved) {
    const key = by === 'model' ? `${name} ${reason}` : `${inputTokens} ${reason}`;
    sums[key] = Math.round(1e5 * ((sums[key] ?? 0) + rps)) / 1e5;
  }
  return sums;
}

function planned(input: Parameters<typeof problem>[0]): Plan {
  const document = problem(input);
  const answer = plan(document);
  expect(checkPlan(document, answer)).toEqual([]);
  expect(answer.models.map(({ status }) => status)).not.toContain('held');
  return answer;
}

describe('why demand stays unserved', () => {
  const demand = [short(50)];

  test.each<[string, Parameters<typeof problem>[0]]>([
    ['max_replicas', { deployments: [on('t/a', 'A', { maxReplicas: 2 })] }],
    ['max_replicas', { deployments: [on('t/a', 'A', { fixedReplicas: 2 })] }],
    ['quota', { deployments: [on('t/a', 'A')], quotas: [{ namespace: 't', gpuType: 'A', gpus: 2 }] }],
    ['capacity', { deployments: [on('t/a', 'A')], pools: [{ gpuType: 'A', gpus: 2 }] }],
    ['budget', { deployments: [on('t/a', 'A')], budgetUsdPerHour: 2.5 }],
  ])('is %s where that alone is in the way', (reason, input) => {
    const answer = planned({ demand, ...input });
    expect(reasonsOf(answer)).toEqual({ [`llama ${reason}`]: 30 });
  });

  test('is each limit for what its removal serves, in the order max_replicas, quota, capacity, budget', () => {
    const deployments = [on('t/a', 'A', { maxReplicas: 1 })];
    const quotas = [{ namespace: 't', gpuType: 'A', gpus: 2 }];
    const pools = [{ gpuType: 'A', gpus: 3 }];
    expect(reasonsOf(planned({ demand, deployments, quotas, pools, budgetUsdPerHour: 4 }))).toEqual({
      'llama max_replicas': 10,
      'llama quota': 10,
      'llama capacity': 10,
      'llama budget': 10,
    });
    expect(reasonsOf(planned({ demand, deployments, pools }))).toEqual({
      'llama max_replicas': 20,
      'llama capacity': 20,
    });
    expect(reasonsOf(planned({ demand, deployments: [on('t/a', 'A')], quotas, budgetUsdPerHour: 3 }))).toEqual({
      'llama quota': 10,
      'llama budget': 20,
    });
  });

  test('is the later limit where removing the earlier one serves nothing', () => {
    const quotas = [{ namespace: 't', gpuType: 'A', gpus: 3 }];
    const pools = [{ gpuType: 'A', gpus: 2 }];
    expect(reasonsOf(planned({ demand, deployments: [on('t/a', 'A')], quotas, pools }))).toEqual({
      'llama capacity': 30,
    });
    // And no limit at all that has room for everything.
    const roomy = [{ gpuType: 'A', gpus: 5 }];
    expect(reasonsOf(planned({ demand, deployments: [on('t/a', 'A')], quotas, pools: roomy }))).toEqual({
      'llama quota': 20,
    });
  });

  test('is max_replicas for a fixed number, and what is behind it for the rest', () => {
    const fixed = { demand, deployments: [on('t/a', 'A', { fixedReplicas: 1 })] };
    expect(reasonsOf(planned({ ...fixed, pools: [{ gpuType: 'A', gpus: 3 }] }))).toEqual({
      'llama max_replicas': 20,
      'llama capacity': 20,
    });
    expect(reasonsOf(planned({ ...fixed, budgetUsdPerHour: 100 }))).toEqual({ 'llama max_replicas': 40 });
    // Beside one that may run, of which there is no room for more.
    const two = [on('t/a', 'A', { fixedReplicas: 1 }), on('t/b', 'B')];
    expect(reasonsOf(planned({ demand, deployments: two, pools: [{ gpuType: 'B', gpus: 1 }] }))).toEqual({
      'llama max_replicas': 30,
    });
  });

  test('is not a limit that fixed replicas overrun where another one is in the way', () => {
    const deployments = [on('t/a', 'A', { fixedReplicas: 3 }), on('t/b', 'B', { maxReplicas: 1 })];
    const answer = planned({ demand, deployments, pools: [{ gpuType: 'A', gpus: 2 }] });
    expect(answer.warnings.map(({ code }) => code)).toContain('limit_exceeded');
    expect(reasonsOf(answer)).toEqual({ 'llama max_replicas': 10 });
  });

  test('is what is left of a limit by the other models, as this plan has them', () => {
    const answer = planned({
      models: [
        model({ name: 'high', priority: 1, demand: [short(20)], deployments: [on('t/a', 'A')] }),
        model({ name: 'low', demand: [short(30)], deployments: [on('u/b', 'A'), on('u/c', 'B', { maxReplicas: 1 })] }),
      ],
      pools: [{ gpuType: 'A', gpus: 3 }],
      quotas: [{ namespace: 'u', gpuType: 'A', gpus: 1 }],
    });
    // The ceiling on B is what would serve the rest; the pool has nothing left for the quota to give.
    expect(reasonsOf(answer)).toEqual({ 'low max_replicas': 10 });
    const without = planned({
      models: [
        model({ name: 'high', priority: 1, demand: [short(20)], deployments: [on('t/a', 'A')] }),
        model({ name: 'low', demand: [short(30)], deployments: [on('u/b', 'A')] }),
      ],
      pools: [{ gpuType: 'A', gpus: 4 }],
      quotas: [{ namespace: 'u', gpuType: 'A', gpus: 1 }],
    });
    expect(reasonsOf(without)).toEqual({ 'low quota': 10, 'low capacity': 10 });
  });

  test('differs from bucket to bucket', () => {
    const answer = planned({
      demand: [short(30), long(10), { inputTokens: 100_000, outputTokens: 64, rps: 2 }],
      deployments: [
        on('t/a', 'A', { profile: shortAndLong(10, 0), maxTokens: 8000 }),
        on('t/b', 'B', { profile: shortAndLong(0, 5), maxReplicas: 1, maxTokens: 8000 }),
      ],
      pools: [{ gpuType: 'A', gpus: 2 }],
    });
    expect(reasonsOf(answer, 'bucket')).toEqual({ '256 capacity': 10, '2048 max_replicas': 5, '100000 slo': 2 });
  });

  test('takes nothing away from what is served: equal demand does not change places', () => {
    // One of two equal buckets is served. Without the pool the budget still pays for one replica only: for either bucket.
    const answer = planned({
      demand: [short(10), long(10)],
      deployments: [on('t/a', 'A', { profile: shortAndLong(10, 10) })],
      pools: [{ gpuType: 'A', gpus: 1 }],
      budgetUsdPerHour: 1,
    });
    expect(reasonsOf(answer)).toEqual({ 'llama budget': 10 });
  });

  test('is told of every entry of a bucket that the document lists twice', () => {
    const answer = planned({
      demand: [short(30), short(20)],
      deployments: [on('t/a', 'A', { maxReplicas: 2 })],
      pools: [{ gpuType: 'A', gpus: 4 }],
    });
    expect(reasonsOf(answer)).toEqual({ 'llama max_replicas': 20, 'llama capacity': 10 });
    answer.shares.forEach(({ rps, unservedShare }) => {
      expect(rps * unservedShare).toBeLessThanOrEqual(30 + 1e-6);
    });
    const listed = answer.unserved.reduce((sum, { rps }) => sum + rps, 0);
    expect(listed).toBeCloseTo(
      answer.shares.reduce((sum, { rps, unservedShare }) => sum + rps * unservedShare, 0),
      9,
    );
  });

  test('with the same shares for all is the same for all, except where nothing can serve', () => {
    const answer = planned({
      demand: [short(30), long(10), { inputTokens: 100_000, outputTokens: 64, rps: 2 }],
      deployments: [on('t/a', 'A', { profile: shortAndLong(10, 10), maxReplicas: 2, maxTokens: 8000 })],
      pools: [{ gpuType: 'A', gpus: 3 }],
      options: { routing: 'proportional' },
    });
    // Work for four replicas: two may run, a third fits the pool, the fourth does not.
    expect(reasonsOf(answer, 'bucket')).toEqual({
      '256 max_replicas': 7.5,
      '256 capacity': 7.5,
      '2048 max_replicas': 2.5,
      '2048 capacity': 2.5,
      '100000 slo': 2,
    });
    const none = planned({
      demand: [short(5), long(5)],
      deployments: [on('t/a', 'A', { profile: shortAndLong(10, 0) }), on('t/b', 'B', { profile: shortAndLong(0, 10) })],
      options: { routing: 'proportional' },
    });
    expect(reasonsOf(none)).toEqual({ 'llama slo': 10 });
    expect(none.warnings.map(({ code }) => code)).toContain('no_common_deployment');
  });

  test('adds up to what the shares leave, and names only limits that there are', () => {
    let scarce = 0;
    for (let seed = 1; seed <= 120; seed++) {
      const input = jointProblem(5000 + seed, seed % 2 === 0 ? smallJoint : tinyJoint);
      const answer = plan({ ...input, options: { ...input.options, nodeLimit: 20_000 } });
      const listed = new Map<string, number>();
      for (const { model: name, inputTokens, outputTokens, rps, reason } of answer.unserved) {
        const key = `${name} ${inputTokens}:${outputTokens}`;
        listed.set(key, (listed.get(key) ?? 0) + rps);
        expect(rps).toBeGreaterThan(0);
        if (reason === 'quota') expect(input.quotas.length, `seed ${seed}`).toBeGreaterThan(0);
        if (reason === 'capacity')
          expect(
            input.pools.some(({ gpus }) => gpus !== null),
            `seed ${seed}`,
          ).toBe(true);
        if (reason === 'budget') expect(input.budgetUsdPerHour, `seed ${seed}`).not.toBeNull();
      }
      const left = new Map<string, number>();
      for (const { model: name, inputTokens, outputTokens, rps, unservedShare } of answer.shares) {
        const key = `${name} ${inputTokens}:${outputTokens}`;
        left.set(key, (left.get(key) ?? 0) + rps * unservedShare);
      }
      for (const [key, rps] of left) expect(listed.get(key) ?? 0, `seed ${seed}: ${key}`).toBeCloseTo(rps, 9);
      if (answer.unserved.length > 0) scarce++;
    }
    expect(scarce).toBeGreaterThan(40);
  });
});
