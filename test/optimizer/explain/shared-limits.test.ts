import { describe, expect, it } from 'vitest';
import { type Explanation, explanationSchema } from '../../../src/core/explanation.js';
import type { PlanningProblem } from '../../../src/core/planning-problem.js';
import { type ExplainRun, explain } from '../../../src/optimizer/explain.js';
import { type SeededRandom, seededRandom } from '../../support/seeded-random.js';
import { deployment, flat, model, problem, short } from '../builders.js';
import { bestByEnumeration, compareTried, type Tried } from './enumeration.js';

function explained(asked: PlanningProblem, run: ExplainRun = {}): Explanation {
  const answer = explain(asked, run);
  expect(explanationSchema.parse(JSON.parse(JSON.stringify(answer)))).toEqual(answer);
  return answer;
}

/** Ten requests/s: one H (4.00) or five L (1.00 each) serve them. */
function rival(name: string, overrides: Parameters<typeof model>[0] = {}) {
  return model({
    name,
    demand: [short(10)],
    deployments: [
      deployment({ id: `${name}/h`, gpuType: 'H', usdPerReplicaHour: 4, profile: flat(10) }),
      deployment({ id: `${name}/l`, gpuType: 'L', usdPerReplicaHour: 1, profile: flat(2) }),
    ],
    ...overrides,
  });
}

describe('a pool', () => {
  it('that is scarce has a value: what one more GPU would save', () => {
    const { limits, sentences } = explained(
      problem({ models: [rival('a'), rival('b')], pools: [{ gpuType: 'H', gpus: 1 }] }),
    );
    expect(limits).toMatchObject([
      {
        kind: 'pool',
        gpuType: 'H',
        limit: 1,
        used: 1,
        full: true,
        binds: true,
        oneMore: { by: 1, change: { usdPerHour: expect.closeTo(-1, 9), proven: true } },
        without: { usdPerHour: expect.closeTo(-1, 9) },
      },
    ]);
    expect(sentences).toContain(
      'One more H would save 1.00 USD/h (1 of 1 GPUs used); without the limit: 1.00 USD/h less.',
    );
  });

  it('is worth something only in whole replicas', () => {
    const large = ['a', 'b'].map((name) => {
      const one = rival(name);
      return {
        ...one,
        deployments: one.deployments.map((each) => ({ ...each, gpusPerReplica: each.gpuType === 'H' ? 2 : 1 })),
      };
    });
    const [limit] = explained(problem({ models: large, pools: [{ gpuType: 'H', gpus: 2 }] })).limits;
    expect(limit).toMatchObject({ used: 2, oneMore: { by: 2, change: { usdPerHour: expect.closeTo(-1, 9) } } });
    const [odd] = explained(problem({ models: large, pools: [{ gpuType: 'H', gpus: 3 }] })).limits;
    expect(odd).toMatchObject({
      used: 2,
      full: true,
      oneMore: { by: 1, change: { usdPerHour: expect.closeTo(-1, 9) } },
    });
  });

  it('that has room for all is not scarce, and that is said', () => {
    const { limits, sentences } = explained(
      problem({
        models: [rival('a'), rival('b')],
        pools: [
          { gpuType: 'H', gpus: 9 },
          { gpuType: 'L', gpus: 9 },
        ],
      }),
    );
    expect(limits).toMatchObject([
      { gpuType: 'H', used: 2, full: false, binds: false, oneMore: null },
      { gpuType: 'L', used: 0, full: false, binds: false, oneMore: null },
    ]);
    expect(sentences).toContain(
      'The pool of H is not scarce (2 of 9 GPUs used): no better plan exists without this limit.',
    );
  });

  it('may bind although it has room: the first GPU more may be the one that makes another mix possible', () => {
    // One S (5.00) serves all; four T would at 1.00 each, and three exist.
    const asked = problem({
      demand: [short(10)],
      deployments: [
        deployment({ id: 'default/s', gpuType: 'S', usdPerReplicaHour: 5, profile: flat(10) }),
        deployment({ id: 'default/t', gpuType: 'T', usdPerReplicaHour: 1, profile: flat(2.5) }),
      ],
      pools: [{ gpuType: 'T', gpus: 3 }],
    });
    expect(explained(asked).limits).toMatchObject([
      { used: 0, full: false, binds: true, oneMore: { by: 1, change: { usdPerHour: expect.closeTo(-1, 9) } } },
    ]);
  });

  it('that leaves demand unserved says what one more would serve, and of whom', () => {
    const asked = problem({
      models: ['a', 'b'].map((name, priority) =>
        model({ name, priority, demand: [short(20)], deployments: [deployment({ id: `${name}/h`, gpuType: 'H' })] }),
      ),
      pools: [{ gpuType: 'H', gpus: 3 }],
    });
    const { limits, unserved, sentences } = explained(asked);
    expect(unserved).toEqual([{ priority: 0, rps: expect.closeTo(10, 6) }]);
    expect(limits[0]!.oneMore!.change).toMatchObject({
      unserved: [{ priority: 0, rps: expect.closeTo(-10, 6) }],
      usdPerHour: 1,
      replicas: [{ deployment: 'a/h', from: 1, to: 2 }],
    });
    expect(sentences).toContain('It leaves 10 of 40 requests/s unserved.');
    expect(sentences).toContain(
      'One more H would serve 10 requests/s more and cost 1.00 USD/h more (3 of 3 GPUs used); without the limit: 10 requests/s more served, 1.00 USD/h more.',
    );
  });

  it('counts what stands in it', () => {
    const standing = deployment({ id: 'b/h', gpuType: 'H', profile: null, currentReplicas: 1 });
    const asked = problem({
      models: [rival('a'), model({ name: 'b', demand: [], deployments: [standing] })],
      pools: [{ gpuType: 'H', gpus: 1 }],
    });
    expect(explained(asked).limits).toMatchObject([
      { used: 1, full: true, binds: true, oneMore: { by: 1, change: { usdPerHour: expect.closeTo(-1, 9) } } },
    ]);
  });
});

describe('a quota', () => {
  it('binds its namespace alone', () => {
    const { limits, models, sentences } = explained(
      problem({ models: [rival('a'), rival('b')], quotas: [{ namespace: 'a', gpuType: 'H', gpus: 0 }] }),
    );
    expect(limits).toMatchObject([
      { kind: 'quota', namespace: 'a', gpuType: 'H', limit: 0, used: 0, full: true, binds: true, oneMore: { by: 1 } },
    ]);
    expect(sentences).toContain(
      'One more H in the quota of a would save 1.00 USD/h (0 of 0 GPUs used); without the limit: 1.00 USD/h less.',
    );
    expect(models.map(({ sharesLimitsWith }) => sharesLimitsWith)).toEqual([0, 0]);
    // Not its price keeps it out.
    expect(models[0]!.unused).toMatchObject([
      { deployment: 'a/h', why: 'no_room', entersBelowUsdPerReplicaHour: null },
    ]);
  });
});

describe('a budget', () => {
  const asked = problem({
    demand: [short(30)],
    deployments: [deployment(), deployment({ id: 'default/b', gpuType: 'B', usdPerReplicaHour: 3, profile: flat(30) })],
    budgetUsdPerHour: 2,
  });

  it('is worth what a tenth more and a tenth less of it would change', () => {
    const { budget, limits, sentences } = explained(asked);
    expect(limits).toMatchObject([
      { kind: 'budget', limit: 2, used: 2, full: true, binds: true, without: { unservedRps: expect.closeTo(-10, 6) } },
    ]);
    expect(budget).toMatchObject([
      { factor: 0.9, budgetUsdPerHour: 1.8, change: { unservedRps: expect.closeTo(10, 6), usdPerHour: -1 } },
      { factor: 1.1, budgetUsdPerHour: 2.2, change: { unservedRps: 0, usdPerHour: 0 } },
    ]);
    expect(sentences).toContain('A budget 10 % larger (2.20 USD/h) would change nothing.');
  });

  it('also keeps out what would be used below the price at which it fits', () => {
    // One B serves all of it, as soon as the budget pays for it.
    expect(explained(asked).models[0]!.unused).toMatchObject([
      { deployment: 'default/b', why: 'price', entersBelowUsdPerReplicaHour: expect.closeTo(2, 6) },
    ]);
  });
});

describe('held against every combination of replicas under limits', () => {
  const most = 4;

  it('one more GPU, no limit, the next best mix and entry prices are what they are said to be', () => {
    const random = seededRandom(21);
    const seen = { binding: 0, scarce: 0, entered: 0, runnersUp: 0 };
    for (let round = 0; round < 40; round++) {
      const asked = randomJoint(random);
      const base = best(asked);
      const answer = explain(asked);
      expect(answer.objectiveUsdPerHour).toBeCloseTo(base.usdPerHour, 6);
      expect(answer.notComputed).toEqual([]);
      for (const limit of answer.limits) {
        if (limit.kind !== 'pool' && limit.kind !== 'quota' && limit.kind !== 'budget') continue;
        const without = best(relaxed(asked, limit, null));
        expectChange(limit.without!, base, without);
        expect(limit.binds).toBe(compareTried(without, base) < 0);
        if (limit.binds) seen.binding += 1;
        if (limit.oneMore === null) continue;
        seen.scarce += 1;
        expectChange(limit.oneMore.change, base, best(relaxed(asked, limit, limit.oneMore.by)));
        if (limit.oneMore.by > 1) expect(compareTried(best(relaxed(asked, limit, 1)), base)).toBe(0);
      }
      for (const { name, runnerUp, unused, deployments } of answer.models) {
        if (runnerUp !== null) {
          seen.runnersUp += 1;
          const hasFewer = (replicas: ReadonlyMap<string, number>): boolean =>
            deployments.some(({ id, targetReplicas }) => replicas.get(id)! < targetReplicas!);
          expectChange(runnerUp.change, base, best(asked, hasFewer));
        }
        for (const { deployment: id, why, entersBelowUsdPerReplicaHour: price, usdPerReplicaHour, proven } of unused) {
          const isBetterAt = (at: number): number =>
            compareTried(
              best(priced(asked, name, id, at), (replicas) => replicas.get(id)! > 0, base),
              base,
            );
          if (why === 'price') {
            expect(price!).toBeLessThanOrEqual(usdPerReplicaHour);
            expect(isBetterAt(Math.max(0, price! - 1e-4))).toBeLessThan(0);
            // Where it is not proven it may enter before.
            if (!proven) continue;
            seen.entered += 1;
            expect(isBetterAt(price! + 2e-3)).toBeGreaterThanOrEqual(0);
          } else {
            expect(['never', 'no_room']).toContain(why);
            expect(isBetterAt(0)).toBeGreaterThanOrEqual(0);
          }
        }
      }
    }
    expect(Math.min(...Object.values(seen))).toBeGreaterThan(15);
  });

  function best(
    asked: PlanningProblem,
    passes: (replicas: ReadonlyMap<string, number>) => boolean = () => true,
    otherwise?: Tried,
  ): Tried {
    return (bestByEnumeration(asked, { most, passes }) ?? otherwise)!;
  }

  function expectChange(
    change: { readonly usdPerHour: number; readonly unservedRps: number; readonly proven: boolean },
    base: Tried,
    changed: Tried,
  ): void {
    // Weights are 1,000 in every model.
    const unserved = changed.unserved.reduce((sum, rps, i) => sum + rps - base.unserved[i]!, 0) / 1000;
    expect(change.proven).toBe(true);
    expect(change.unservedRps).toBeCloseTo(unserved, 5);
    expect(change.usdPerHour).toBeCloseTo(changed.usdPerHour - base.usdPerHour, 6);
  }
});

function relaxed(asked: PlanningProblem, limit: Explanation['limits'][number], by: number | null): PlanningProblem {
  if (limit.kind === 'budget') return { ...asked, budgetUsdPerHour: by === null ? null : limit.limit + by };
  if (limit.kind === 'pool') {
    return {
      ...asked,
      pools: asked.pools.map((pool) =>
        pool.gpuType === limit.gpuType ? { ...pool, gpus: by === null ? null : limit.limit + by } : pool,
      ),
    };
  }
  return {
    ...asked,
    quotas: asked.quotas.flatMap((quota) =>
      quota.namespace !== limit.namespace || quota.gpuType !== limit.gpuType
        ? [quota]
        : by === null
          ? []
          : [{ ...quota, gpus: limit.limit + by }],
    ),
  };
}

function priced(asked: PlanningProblem, name: string, id: string, usdPerReplicaHour: number): PlanningProblem {
  return {
    ...asked,
    models: asked.models.map((each) =>
      each.name !== name
        ? each
        : {
            ...each,
            deployments: each.deployments.map((one) => (one.id === id ? { ...one, usdPerReplicaHour } : one)),
          },
    ),
  };
}

/** Two models on two types each, at most four replicas of each, under a pool, and sometimes a quota or a budget. */
function randomJoint(random: SeededRandom): PlanningProblem {
  const cents = (value: number): number => Number(value.toFixed(2));
  return problem({
    models: ['a', 'b'].map((name) =>
      model({
        name,
        priority: random.whole(0, 1),
        demand: [short(cents(random.between(4, 14)))],
        deployments: ['G', 'H'].map((gpuType) => {
          const tput = cents(random.between(3, 8));
          return deployment({
            id: `${name}/${gpuType}`,
            gpuType,
            gpusPerReplica: random.whole(1, 2),
            usdPerReplicaHour: cents(tput * random.between(0.4, 1)),
            maxReplicas: 4,
            profile: flat(tput),
          });
        }),
      }),
    ),
    pools: [
      { gpuType: 'G', gpus: random.whole(1, 5) },
      { gpuType: 'H', gpus: random.chance(0.5) ? random.whole(1, 5) : null },
    ],
    quotas: random.chance(0.4) ? [{ namespace: 'a', gpuType: 'G', gpus: random.whole(0, 3) }] : [],
    budgetUsdPerHour: random.chance(0.4) ? cents(random.between(6, 14)) : null,
  });
}
