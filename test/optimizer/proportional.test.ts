import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, long, problem, short, shortAndLong } from './builders.js';
import { jointProblem, smallJoint } from './joint-problems.js';

/** One share of each deployment for all buckets. */
function planned(input: Parameters<typeof problem>[0]): Plan {
  const document = problem({ ...input, options: { ...input?.options, routing: 'proportional' } });
  const answer = plan(document);
  expect(checkPlan(document, answer)).toEqual([]);
  return answer;
}

const a = (overrides: Parameters<typeof deployment>[0] = {}) =>
  deployment({ id: 'n/a', profile: shortAndLong(10, 2), ...overrides });
const b = (overrides: Parameters<typeof deployment>[0] = {}) =>
  deployment({ id: 'n/b', gpuType: 'B', profile: shortAndLong(20, 8), usdPerReplicaHour: 3, ...overrides });

const shares = ({ shares: rows }: Plan) =>
  rows.map(({ to, unservedShare }) => ({
    ...Object.fromEntries(to.map((it) => [it.deployment.slice(2), Math.round(it.share * 1e6) / 1e6])),
    ...(unservedShare > 0 ? { left: Math.round(unservedShare * 1e6) / 1e6 } : {}),
  }));
const targets = ({ deployments }: Plan) => deployments.map(({ targetReplicas }) => targetReplicas);

describe('the same shares for every bucket', () => {
  const demand = [short(10), long(6)];

  test('are what work of all buckets together leaves to each deployment', () => {
    // On a that is 1 + 3 = 4 replicas, on b 0.5 + 0.75 = 1.25.
    expect(targets(planned({ demand, deployments: [a()] }))).toEqual([4]);
    expect(targets(planned({ demand, deployments: [b()] }))).toEqual([2]);
    const both = planned({ demand, deployments: [a(), b()] });
    // One b takes 0.8 of everything; the fifth that is left is 0.8 of a: 4 USD/h, as four of a are. Two of b cost 6.
    expect(both.usdPerHour).toBe(4);
    const fixed = planned({ demand, deployments: [a({ fixedReplicas: 1 }), b({ fixedReplicas: 1 })] });
    expect(shares(fixed)).toEqual(new Array(2).fill({ a: 0.238095, b: 0.761905 }));
    expect(fixed.deployments.map(({ utilization }) => utilization)).toEqual([
      expect.closeTo(0.952381, 6),
      expect.closeTo(0.952381, 6),
    ]);
  });

  test('are none of a deployment that cannot serve some bucket', () => {
    const partial = a({ profile: shortAndLong(1000, 0), usdPerReplicaHour: 0.01 });
    const answer = planned({ demand, deployments: [partial, b()] });
    expect(targets(answer)).toEqual([0, 2]);
    expect(shares(answer)).toEqual([{ b: 1 }, { b: 1 }]);
    expect(answer.deployments[0]!.reason).toMatch(/^Not needed/);
  });

  test('are some of it where that bucket has no demand', () => {
    const partial = a({ profile: shortAndLong(1000, 0), usdPerReplicaHour: 0.01 });
    const answer = planned({ demand: [short(10), long(0)], deployments: [partial, b()] });
    expect(targets(answer)).toEqual([1, 0]);
    expect(shares(answer)[0]).toEqual({ a: 1 });
  });

  test('count best effort like any work, on every deployment', () => {
    const slow = { profile: shortAndLong(10, 0) };
    const answer = planned({ demand: [short(10), long(0.5)], deployments: [a(slow), b(slow)] });
    expect(answer.shares.map(({ bestEffort }) => bestEffort)).toEqual([false, true]);
    expect(answer.unserved).toEqual([]);
    expect(answer.warnings.map(({ code }) => code)).toContain('best_effort');
    expect(shares(answer)[0]).toEqual(shares(answer)[1]);
  });

  test('leave the same part of every bucket, except of one that nothing can serve', () => {
    const beyond = { inputTokens: 100_000, outputTokens: 64, rps: 1 };
    const answer = planned({ demand: [...demand, beyond], deployments: [a({ maxReplicas: 3, maxTokens: 9000 })] });
    expect(targets(answer)).toEqual([3]);
    expect(shares(answer)).toEqual([{ a: 0.75, left: 0.25 }, { a: 0.75, left: 0.25 }, { left: 1 }]);
  });

  test('are no shares where no deployment can serve all: nothing is served, and it is said', () => {
    const halves = [a({ profile: shortAndLong(10, 0) }), b({ profile: shortAndLong(0, 10), minReplicas: 1 })];
    const answer = planned({ demand, deployments: halves });
    expect(targets(answer)).toEqual([0, 1]);
    expect(answer.unserved.map(({ rps, reason }) => [rps, reason])).toEqual([
      [10, 'slo'],
      [6, 'slo'],
    ]);
    expect(answer.warnings.map(({ code }) => code)).toContain('no_common_deployment');
    // With the ones that can do all not allowed to run, that is the reason.
    const closed = planned({ demand, deployments: [halves[0]!, b({ maxReplicas: 0 })] });
    expect(closed.unserved.map(({ reason }) => reason)).toEqual(['max_replicas', 'max_replicas']);
    expect(closed.warnings).toEqual([]);
  });

  test('are those of balance, whatever the shares in force were', () => {
    const input = { demand, deployments: [a({ fixedReplicas: 2 }), b({ fixedReplicas: 1 })] };
    const before = [
      { inputTokens: 256, outputTokens: 64, to: [{ deployment: 'n/a', share: 1 }] },
      { inputTokens: 2048, outputTokens: 64, to: [{ deployment: 'n/b', share: 1 }] },
    ];
    expect(shares(planned({ ...input, previousShares: before }))).toEqual(shares(planned(input)));
  });

  test('need no merging, however many buckets there are', () => {
    const many = Array.from({ length: 300 }, (_, i) => ({ inputTokens: 64 + 7 * i, outputTokens: 64, rps: 0.05 }));
    const wide = planned({ demand: many, deployments: [a(), b()], options: { maxBuckets: 1 } });
    expect(wide.models[0]!.merging).toBeUndefined();
    expect(wide.usdPerHour).toBe(planned({ demand: many, deployments: [a(), b()] }).usdPerHour);
    expect(new Set(shares(wide).map((row) => JSON.stringify(row))).size).toBe(1);
  });

  test('are the same in every plan of any problem, and never cheaper than shares of their own', () => {
    let dearer = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const input = jointProblem(9000 + seed, smallJoint);
      const limited = { ...input.options, nodeLimit: 20_000 };
      const answer = plan({ ...input, options: { ...limited, routing: 'proportional' } });
      for (const { name } of input.models) {
        const rows = answer.shares.filter(({ model: of, rps, to }) => of === name && rps > 0 && to.length > 0);
        const first = rows[0];
        for (const { to, unservedShare } of rows) {
          expect(unservedShare, `seed ${seed}`).toBeCloseTo(first!.unservedShare, 9);
          expect(to.length).toBe(first!.to.length);
          to.forEach((it, k) => {
            expect(it).toEqual({ deployment: first!.to[k]!.deployment, share: expect.closeTo(first!.to[k]!.share, 9) });
          });
        }
      }
      const free = plan({ ...input, options: { ...limited, routing: 'free' } });
      const left = (it: Plan) => it.unserved.reduce((sum, { rps }) => sum + rps, 0);
      if (left(free) > 0 || left(answer) > 0) continue;
      expect(answer.objectiveUsdPerHour, `seed ${seed}`).toBeGreaterThanOrEqual(free.objectiveUsdPerHour - 1e-9);
      if (answer.objectiveUsdPerHour > free.objectiveUsdPerHour + 1e-6) dearer++;
    }
    expect(dearer).toBeGreaterThan(1);
  });
});
