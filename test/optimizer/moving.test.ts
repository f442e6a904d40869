import { describe, expect, test } from 'vitest';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { plan } from '../../src/optimizer/plan.js';
import { seededRandom } from '../support/seeded-random.js';
import { deployment, flat, model, problem, short } from './builders.js';

/**
 * A fleet that follows its plans for some cycles: what a plan heads for is what runs (and is ready) when the next is made.
 * Demand trembles by a hundredth; the two GPU types cost nearly the same per request.
 */
function follow(
  cycles: number,
  options: { readonly startUsdPerReplica: number; readonly stopUsdPerReplica: number; readonly gpus: number | null },
): { readonly changes: number; readonly costs: readonly number[] } {
  const random = seededRandom(7);
  const names = ['chat', 'code'];
  let running = new Map<string, number>();
  let changes = 0;
  const costs: number[] = [];
  for (let cycle = 0; cycle < cycles; cycle++) {
    const answer = plan(
      problem({
        models: names.map((name) =>
          model({
            name,
            demand: [short(36 * (1 + 0.01 * random.normal()))],
            deployments: [
              deployment({ id: `prod/${name}-a`, gpuType: 'A', usdPerReplicaHour: 1, profile: flat(10) }),
              deployment({ id: `prod/${name}-b`, gpuType: 'B', usdPerReplicaHour: 0.8, profile: flat(8.1) }),
            ].map((it) => {
              const known = running.get(it.id) ?? null;
              return { ...it, currentReplicas: known, readyReplicas: known };
            }),
          }),
        ),
        ...(options.gpus === null ? {} : { pools: [{ gpuType: 'B', gpus: options.gpus }] }),
        options: { startUsdPerReplica: options.startUsdPerReplica, stopUsdPerReplica: options.stopUsdPerReplica },
      }),
    );
    expect(answer.status).toBe('optimal');
    const next = new Map(answer.deployments.map((it) => [it.id, it.targetReplicas!]));
    if (cycle > 0 && [...next].some(([id, count]) => running.get(id) !== count)) changes++;
    running = next;
    costs.push(answer.usdPerHour);
  }
  return { changes, costs };
}

describe.each([
  ['models on their own', null],
  ['models that share a pool', 6],
] as const)('the mix of %s', (_, gpus) => {
  const free = follow(60, { startUsdPerReplica: 0, stopUsdPerReplica: 0, gpus });
  const priced = follow(60, { startUsdPerReplica: 0.5, stopUsdPerReplica: 0.5, gpus });

  test('trembles with the demand where starts and stops are free', () => {
    expect(free.changes).toBeGreaterThan(30);
  });

  test('stays where mixes cost nearly the same and a start has its price', () => {
    expect(priced.changes).toBeLessThan(free.changes / 4);
  });

  test('costs a tenth more for it at most', () => {
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(priced.costs)).toBeLessThan(1.1 * mean(free.costs));
  });
});

describe('what a start and a stop cost', () => {
  // One replica of B would do at 0.9 USD/h where one of A runs at 1.
  const cheaper = (options: PlanningProblem['options'] | object): PlanningProblem =>
    problem({
      demand: [short(5)],
      deployments: [
        deployment({ id: 'prod/a', gpuType: 'A', usdPerReplicaHour: 1, currentReplicas: 1 }),
        deployment({ id: 'prod/b', gpuType: 'B', usdPerReplicaHour: 0.9, currentReplicas: 0 }),
      ],
      options,
    });
  const targets = (of: PlanningProblem): readonly (number | null)[] =>
    plan(of).deployments.map(({ targetReplicas }) => targetReplicas);

  test('is spread over the horizon: a saving of 0.1 USD/h pays 0.09 in an hour, and 0.9 in ten', () => {
    expect(targets(cheaper({ startUsdPerReplica: 0.09 }))).toEqual([0, 1]);
    expect(targets(cheaper({ startUsdPerReplica: 0.11 }))).toEqual([1, 0]);
    expect(targets(cheaper({ startUsdPerReplica: 0.9, horizonHours: 10 }))).toEqual([0, 1]);
    expect(targets(cheaper({ startUsdPerReplica: 1.1, horizonHours: 10 }))).toEqual([1, 0]);
    expect(targets(cheaper({ startUsdPerReplica: 0.05, stopUsdPerReplica: 0.06 }))).toEqual([1, 0]);
  });

  test('is in the objective and apart from the money of the replicas', () => {
    expect(plan(cheaper({ startUsdPerReplica: 0.0625, stopUsdPerReplica: 0 }))).toMatchObject({
      status: 'optimal',
      usdPerHour: 0.9,
      switchingUsdPerHour: 0.0625,
      objectiveUsdPerHour: 0.9625,
      boundUsdPerHour: 0.9625,
      models: [{ usdPerHour: 0.9, switchingUsdPerHour: 0.0625, boundUsdPerHour: 0.9625 }],
    });
  });

  test('keeps a replica without demand as long as stopping it costs more than it', () => {
    const idle = (stopUsdPerReplica: number): PlanningProblem =>
      problem({
        demand: [short(0)],
        deployments: [deployment({ id: 'prod/a', currentReplicas: 2 })],
        options: { stopUsdPerReplica },
      });
    expect(targets(idle(0.9))).toEqual([0]);
    expect(targets(idle(1.1))).toEqual([2]);
    expect(plan(idle(1.1)).deployments[0]!.reason).toBe(
      'Kept at 2 replicas without demand: stopping costs more than it saves.',
    );
  });

  test('is nothing where the current replicas are not known', () => {
    const unknown = problem({
      demand: [short(5)],
      deployments: [deployment({ currentReplicas: null })],
      options: { startUsdPerReplica: 5, stopUsdPerReplica: 5 },
    });
    expect(plan(unknown)).toMatchObject({ switchingUsdPerHour: 0, objectiveUsdPerHour: 1 });
  });

  test('of what a person fixed is paid, too', () => {
    const fixed = problem({
      demand: [short(5)],
      deployments: [deployment({ currentReplicas: 1, fixedReplicas: 3 })],
      options: { startUsdPerReplica: 0.5, horizonHours: 2 },
    });
    expect(plan(fixed)).toMatchObject({ switchingUsdPerHour: 0.5, objectiveUsdPerHour: 3.5, boundUsdPerHour: 3.5 });
  });

  test('never outweighs demand that could be served', () => {
    const dear = problem({
      demand: [short(25)],
      deployments: [deployment({ currentReplicas: 0 })],
      options: { startUsdPerReplica: 1e6 },
    });
    expect(plan(dear)).toMatchObject({ unserved: [], deployments: [{ targetReplicas: 3 }] });
  });
});

describe('what a start costs one deployment', () => {
  test('takes the place of the price in the options, for that deployment alone', () => {
    const of = (startUsdPerReplica: number | undefined, common: number): PlanningProblem =>
      problem({
        demand: [short(5)],
        deployments: [
          deployment({ id: 'prod/a', gpuType: 'A', usdPerReplicaHour: 1, currentReplicas: 1 }),
          deployment({
            id: 'prod/b',
            gpuType: 'B',
            usdPerReplicaHour: 0.9,
            currentReplicas: 0,
            ...(startUsdPerReplica === undefined ? {} : { startUsdPerReplica }),
          }),
        ],
        options: { startUsdPerReplica: common },
      });
    const targets = (it: PlanningProblem) => plan(it).deployments.map(({ targetReplicas }) => targetReplicas);
    expect(targets(of(undefined, 0))).toEqual([0, 1]);
    expect(targets(of(0.11, 0))).toEqual([1, 0]);
    expect(targets(of(0.09, 0))).toEqual([0, 1]);
    expect(targets(of(undefined, 0.11))).toEqual([1, 0]);
    expect(targets(of(0.09, 0.11))).toEqual([0, 1]);
    expect(plan(of(0.09, 0.11)).switchingUsdPerHour).toBeCloseTo(0.09, 12);
  });

  test('is weighed exactly: no other replicas are cheaper with their own starts and stops', () => {
    const random = seededRandom(11);
    const amount = (most: number) => Math.round(random.next() * most * 100) / 100;
    for (let round = 0; round < 150; round += 1) {
      const kinds = [0, 1, 2].map(() => ({
        rps: 2 + Math.floor(random.next() * 9),
        usd: 0.5 + amount(3),
        start: amount(2),
        stop: amount(1),
        current: Math.floor(random.next() * 4),
      }));
      const rps = 1 + amount(25);
      const answer = plan(
        problem({
          demand: [short(rps)],
          deployments: kinds.map((kind, k) =>
            deployment({
              id: `prod/${k}`,
              gpuType: `${k}`,
              usdPerReplicaHour: kind.usd,
              startUsdPerReplica: kind.start,
              stopUsdPerReplica: kind.stop,
              currentReplicas: kind.current,
              maxReplicas: 14,
              profile: flat(kind.rps),
            }),
          ),
          options: { horizonHours: 0.5 },
        }),
      );
      let least = Number.POSITIVE_INFINITY;
      for (let a = 0; a <= 14; a += 1) {
        for (let b = 0; b <= 14; b += 1) {
          for (let c = 0; c <= 14; c += 1) {
            const counts = [a, b, c];
            if (kinds.reduce((sum, kind, k) => sum + kind.rps * counts[k]!, 0) < rps * (1 - 1e-9)) continue;
            const cost = kinds.reduce((sum, kind, k) => {
              const change = counts[k]! - kind.current;
              return sum + kind.usd * counts[k]! + 2 * (change > 0 ? kind.start * change : -kind.stop * change);
            }, 0);
            least = Math.min(least, cost);
          }
        }
      }
      expect(answer.status).toBe('optimal');
      expect(answer.objectiveUsdPerHour).toBeCloseTo(least, 6);
    }
  });
});
