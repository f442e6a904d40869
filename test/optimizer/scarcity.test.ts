import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { unservedWeights } from '../../src/optimizer/scarcity.js';
import { deployment, flat, model, problem, short } from './builders.js';

/** Ten requests/s per replica on one GPU of A, at one USD an hour. */
const user = (name: string, rps: number, overrides: Parameters<typeof model>[0] = {}) =>
  model({ name, demand: [short(rps)], deployments: [deployment({ id: `n/${name}` })], ...overrides });

function planned(input: Parameters<typeof problem>[0]): Plan {
  const document = problem(input);
  const answer = plan(document);
  expect(checkPlan(document, answer)).toEqual([]);
  return answer;
}

const targets = ({ deployments }: Plan) =>
  Object.fromEntries(deployments.map(({ id, targetReplicas }) => [id.slice(2), targetReplicas]));
const pool = (gpus: number) => ({ pools: [{ gpuType: 'A', gpus }] });

describe('what is scarce', () => {
  test('goes to the highest priority, then to the next, whatever it costs and weighs', () => {
    const models = [
      user('low', 40, { priority: -1, unservedUsdPerRequest: 1e6 }),
      user('high', 25, { priority: 1, unservedUsdPerRequest: 0.01 }),
      user('middle', 35),
    ];
    const answer = planned({ models, ...pool(5) });
    expect(targets(answer)).toEqual({ high: 3, middle: 2, low: 0 });
    expect(answer.scarcity.map(({ priority, unservedRps, proven }) => [priority, unservedRps, proven])).toEqual([
      [0, expect.closeTo(15, 6), true],
      [-1, 40, true],
    ]);
    expect(answer.scarcity[1]!.penaltyUsdPerHour).toBeCloseTo(3600 * 1e6 * 40, 0);
    expect(targets(planned({ models, ...pool(7) }))).toEqual({ high: 3, middle: 4, low: 0 });
    expect(targets(planned({ models, ...pool(9) }))).toEqual({ high: 3, middle: 4, low: 2 });
  });

  test('is not given up for a higher priority that gains nothing by it', () => {
    // Replicas of four GPUs: one fits. The three GPUs that are left serve the lower priority.
    const large = user('large', 20, { priority: 1, deployments: [deployment({ id: 'n/large', gpusPerReplica: 4 })] });
    expect(targets(planned({ models: [large, user('small', 50)], ...pool(7) }))).toEqual({ large: 1, small: 3 });
  });

  test('goes among equals to what weighs most per GPU', () => {
    const models = (firstWeight: number, secondWeight: number) => [
      user('first', 30, {
        unservedUsdPerRequest: firstWeight,
        deployments: [deployment({ id: 'n/first', profile: flat(10) })],
      }),
      user('second', 60, {
        unservedUsdPerRequest: secondWeight,
        deployments: [deployment({ id: 'n/second', profile: flat(20) })],
      }),
    ];
    expect(targets(planned({ models: models(1, 1), ...pool(3) }))).toEqual({ first: 0, second: 3 });
    expect(targets(planned({ models: models(3, 1), ...pool(3) }))).toEqual({ first: 3, second: 0 });
    // The last of the second model would serve half a load: 10 × 1 is less than 10 × 1.5.
    const last = models(1.5, 1);
    const half = [last[0]!, { ...last[1]!, demand: [short(50)] }];
    expect(targets(planned({ models: half, ...pool(3) }))).toEqual({ first: 1, second: 2 });
  });

  test('goes to requests that weigh nothing only where nothing else wants it, but then it does', () => {
    const models = [
      user('free', 20, { unservedUsdPerRequest: 0 }),
      user('paid', 1, { unservedUsdPerRequest: 0.001 }),
      user('other', 5, { priority: -3 }),
    ];
    expect(targets(planned({ models, ...pool(1) }))).toEqual({ free: 0, paid: 1, other: 0 });
    // Before a lower priority, all the same.
    expect(targets(planned({ models, ...pool(3) }))).toEqual({ free: 2, paid: 1, other: 0 });
    const nothing = models.map((it) => ({ ...it, unservedUsdPerRequest: 0 }));
    expect(targets(planned({ models: nothing, ...pool(2) }))).toEqual({ free: 2, paid: 0, other: 0 });
  });

  test('is first what minServedShare requires, before any priority, and no more than that', () => {
    const models = [user('low', 40, { priority: -1, minServedShare: 0.5 }), user('high', 40, { priority: 1 })];
    expect(targets(planned({ models, ...pool(5) }))).toEqual({ low: 2, high: 3 });
    const short4 = planned({ models, ...pool(1) });
    expect(targets(short4)).toEqual({ low: 1, high: 0 });
    expect(short4.models.map(({ status }) => status)).toEqual(['infeasible', 'optimal']);
    expect(short4.shortfalls.map(({ code, model: of }) => [code, of])).toEqual([['min_served_share', 'low']]);
  });

  test('is, of what is required, where the least weight is lacking', () => {
    const models = [
      user('light', 20, { minServedShare: 1, unservedUsdPerRequest: 1, priority: 5 }),
      user('heavy', 20, { minServedShare: 0.5, unservedUsdPerRequest: 10 }),
    ];
    // Two replicas: one for what the heavy one requires, the other for the light one's first half.
    expect(targets(planned({ models, ...pool(2) }))).toEqual({ light: 1, heavy: 1 });
    expect(targets(planned({ models, ...pool(1) }))).toEqual({ light: 0, heavy: 1 });
  });

  test('does not let a speck of demand of high priority hide what is below it', () => {
    const models = [user('speck', 1e-9, { priority: 1 }), user('rest', 100)];
    const answer = planned({ models, ...pool(10) });
    expect(targets(answer)).toEqual({ speck: 1, rest: 9 });
    expect(answer.status).toBe('optimal');
  });

  test('is paid for as cheaply as what it serves allows', () => {
    // Either type serves it; the pool of the cheap one is short, the budget allows one of the dear ones.
    const both = (name: string) => [
      deployment({ id: `n/${name}`, usdPerReplicaHour: 1 }),
      deployment({ id: `n/${name}2`, gpuType: 'B', usdPerReplicaHour: 2.5 }),
    ];
    const answer = planned({
      models: [user('a', 20, { deployments: both('a') }), user('b', 20, { deployments: both('b') })],
      ...pool(2),
      budgetUsdPerHour: 5,
    });
    expect(answer.scarcity).toMatchObject([{ unservedRps: expect.closeTo(10, 6), proven: true }]);
    expect(answer).toMatchObject({ usdPerHour: 4.5, boundUsdPerHour: expect.closeTo(4.5, 9), status: 'optimal' });
  });
});

describe('the weight of a request', () => {
  const models = (...weights: number[]) =>
    problem({ models: weights.map((unservedUsdPerRequest, m) => user(`m${m}`, 1, { unservedUsdPerRequest })) }).models;

  test('is its part of the largest; a millionth where it is nothing, and 1 for all where all are nothing', () => {
    const weighed = (...weights: number[]) => models(...weights).map(unservedWeights(models(...weights)));
    expect(weighed(10, 5, 0)).toEqual([1, 0.5, 1e-6]);
    expect(weighed(0, 0)).toEqual([1, 1]);
    expect(weighed(1e-300, 1e-300)).toEqual([1, 1]);
  });
});
