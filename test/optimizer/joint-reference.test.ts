import type { Highs } from 'highs';
import { beforeAll, describe, expect, test } from 'vitest';
import { highsRuntime } from '../../src/adapters/solvers/highs.js';
import { deployment, flat, long, model, problem, short, shortAndLong } from './builders.js';
import { jointOptimumByEnumeration } from './joint-brute-force.js';
import { grantedFloors, type JointOptimum } from './joint-facts.js';
import { jointProblem, tinyJoint } from './joint-problems.js';
import { jointOptimumByHighs } from './joint-reference.js';

/** The two references for joint plans are held to worked examples and to each other before anything is held to them. */

let highs: Highs;
beforeAll(async () => {
  highs = await highsRuntime();
});

function near(a: number, b: number, scale: number): boolean {
  return Math.abs(a - b) <= 1e-7 * Math.max(1, scale);
}

function agree(one: JointOptimum, other: JointOptimum): boolean {
  return (
    near(one.servedShareShort, other.servedShareShort, other.servedShareShort) &&
    one.unserved.every(({ weightedRps }, k) => near(weightedRps, other.unserved[k]!.weightedRps, weightedRps)) &&
    near(one.objectiveUsdPerHour, other.objectiveUsdPerHour, other.objectiveUsdPerHour)
  );
}

describe('the references for joint plans', () => {
  const two = (overrides: Partial<Parameters<typeof problem>[0]>) =>
    problem({
      models: [
        model({ name: 'first', priority: 1, demand: [short(15)], deployments: [deployment({ id: 'x/a' })] }),
        model({
          name: 'second',
          demand: [short(15)],
          deployments: [deployment({ id: 'y/a' }), deployment({ id: 'y/b', gpuType: 'B', usdPerReplicaHour: 3 })],
        }),
      ],
      ...overrides,
    });

  const worked = {
    'no limits: two replicas each': [two({}), [0, 0], 4],
    'a pool of 3: one of the second goes to the dear type': [two({ pools: [{ gpuType: 'A', gpus: 3 }] }), [0, 0], 6],
    'a pool of 2: both of the second go': [two({ pools: [{ gpuType: 'A', gpus: 2 }] }), [0, 0], 8],
    'a pool of 1: the first lacks 5 requests/s': [two({ pools: [{ gpuType: 'A', gpus: 1 }] }), [5000, 0], 7],
    'a quota of 1 for the second': [two({ quotas: [{ namespace: 'y', gpuType: 'A', gpus: 1 }] }), [0, 0], 6],
    'a budget of 3': [two({ budgetUsdPerHour: 3 }), [0, 5000], 3],
    'a budget of 6 and a pool of 2: what is left buys one dear replica': [
      two({ budgetUsdPerHour: 6, pools: [{ gpuType: 'A', gpus: 2 }] }),
      [0, 5000],
      5,
    ],
  } as const;

  test.each(Object.entries(worked))('find the optimum of %s', (_, [input, unserved, usdPerHour]) => {
    for (const optimum of [jointOptimumByEnumeration(input), jointOptimumByHighs(highs, input)]) {
      optimum.unserved.forEach(({ weightedRps }, k) => {
        expect(weightedRps).toBeCloseTo(unserved[k]!, 6);
      });
      expect(optimum.objectiveUsdPerHour).toBeCloseTo(usdPerHour, 6);
    }
  });

  test('serve what minServedShare asks for before any priority', () => {
    const input = problem({
      models: [
        model({ name: 'first', priority: 1, demand: [short(20)], deployments: [deployment({ id: 'x/a' })] }),
        model({ name: 'second', minServedShare: 0.5, demand: [short(20)], deployments: [deployment({ id: 'y/a' })] }),
      ],
      pools: [{ gpuType: 'A', gpus: 2 }],
    });
    for (const optimum of [jointOptimumByEnumeration(input), jointOptimumByHighs(highs, input)]) {
      expect(Object.fromEntries(optimum.replicas)).toEqual({ 'x/a': 1, 'y/a': 1 });
      expect(optimum.servedShareShort).toBe(0);
      expect(optimum.unserved.map(({ weightedRps }) => Math.round(weightedRps))).toEqual([10_000, 10_000]);
    }
  });

  test('weigh starting and stopping over the horizon', () => {
    // Two of B run (6 USD/h); moving to one of A (2 USD/h) costs (1 × 3 + 2 × 1) / 0.5 h = 10 USD/h, or 2.5 over two hours.
    const over = (horizonHours: number) =>
      problem({
        demand: [short(10)],
        deployments: [
          deployment({ id: 'x/a', usdPerReplicaHour: 2, currentReplicas: 0 }),
          deployment({ id: 'x/b', usdPerReplicaHour: 3, profile: flat(5), currentReplicas: 2 }),
        ],
        options: { startUsdPerReplica: 3, stopUsdPerReplica: 1, horizonHours },
      });
    for (const optimumOf of [jointOptimumByEnumeration, (it: typeof whole) => jointOptimumByHighs(highs, it)]) {
      expect(optimumOf(over(0.5)).objectiveUsdPerHour).toBeCloseTo(6, 9);
      expect(optimumOf(over(2)).objectiveUsdPerHour).toBeCloseTo(4.5, 9);
    }
  });
  const whole = problem({});

  test('give every bucket the same shares where routing is proportional', () => {
    // Free: one replica each serves all. Proportional: b cannot serve the long bucket, so a serves both, with three.
    const routed = (routing: 'free' | 'proportional') =>
      problem({
        demand: [short(10), long(2)],
        deployments: [
          deployment({ id: 'x/a', usdPerReplicaHour: 2, profile: shortAndLong(5, 2) }),
          deployment({ id: 'x/b', profile: shortAndLong(10, 0) }),
        ],
        options: { routing },
      });
    for (const optimumOf of [jointOptimumByEnumeration, (it: typeof whole) => jointOptimumByHighs(highs, it)]) {
      expect(optimumOf(routed('free')).objectiveUsdPerHour).toBeCloseTo(3, 9);
      expect(optimumOf(routed('proportional')).objectiveUsdPerHour).toBeCloseTo(6, 9);
    }
  });

  test('grant floors by priority, then by name, as far as there is room', () => {
    const input = problem({
      models: [
        model({ name: 'b', priority: 1, deployments: [deployment({ id: 'x/b', minReplicas: 3 })] }),
        model({ name: 'c', deployments: [deployment({ id: 'x/c', minReplicas: 2, gpusPerReplica: 2 })] }),
        model({
          name: 'a',
          deployments: [
            deployment({ id: 'x/a', minReplicas: 2 }),
            deployment({ id: 'x/fixed', fixedReplicas: 2, minReplicas: 5 }),
          ],
        }),
      ],
      pools: [{ gpuType: 'A', gpus: 7 }],
    });
    expect(Object.fromEntries(grantedFloors(input))).toEqual({ 'x/b': 3, 'x/a': 2, 'x/c': 0 });
  });

  test('agree with each other on every one of 200 tiny problems', () => {
    const apart: unknown[] = [];
    let scarce = 0;
    for (let seed = 1; seed <= 200; seed++) {
      const input = jointProblem(seed, tinyJoint);
      const one = jointOptimumByEnumeration(input);
      const other = jointOptimumByHighs(highs, input);
      if (one.unserved.some(({ weightedRps }) => weightedRps > 0)) scarce++;
      if (!agree(one, other)) apart.push({ seed, one, other });
    }
    expect(apart).toEqual([]);
    expect(scarce).toBeGreaterThan(40);
    expect(scarce).toBeLessThan(160);
  });
});
