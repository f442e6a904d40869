import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import {
  type PlanningProblem,
  type ProblemDeployment,
  type ProblemModel,
  parsePlanningProblem,
} from '../../src/core/planning-problem.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { deployment, flat, model, problem, short, shortAndLong } from './builders.js';
import { jointFacts, stagesOf } from './joint-facts.js';
import { jointProblem, smallJoint } from './joint-problems.js';

/**
 * What must follow when a joint problem is changed in a known way: the plan of the changed problem is judged by the plan of
 * the first. And problems at the edges of what a document may say.
 */

/** A search with more nodes ends unproven, which every test here reports; the same on every machine. */
const guardNodes = 20_000;

function planWithin(input: PlanningProblem): Plan {
  return plan({ ...input, options: { ...input.options, nodeLimit: guardNodes } });
}

const cases = Array.from({ length: 120 }, (_, index) => {
  const input = jointProblem(5_000 + index, smallJoint);
  return { seed: 5_000 + index, problem: input, base: planWithin(input), random: seededRandom(index + 1) };
});
type Case = (typeof cases)[number];

const isProven = (answer: Plan) =>
  answer.models.every(({ gap, status }) => gap <= 1e-8 && status !== 'held') &&
  answer.scarcity.every(({ proven }) => proven);

/** What a plan is judged by, in order: what minServedShare lacks, unserved demand by priority, money. */
function stagesIn(input: PlanningProblem, answer: Plan): readonly number[] {
  const facts = jointFacts(input);
  const left = facts.models.map(({ model: { name } }) =>
    answer.unserved.reduce((sum, it) => sum + (it.model === name ? it.rps : 0), 0),
  );
  const { servedShareShort, unserved } = stagesOf(facts, left);
  return [servedShareShort, ...unserved.map(({ weightedRps }) => weightedRps), answer.objectiveUsdPerHour];
}

const near = (a: number, b: number) => Math.abs(a - b) <= 1e-7 * Math.max(1, Math.abs(a), Math.abs(b));

function isSame(before: readonly number[], after: readonly number[]): boolean {
  return before.length === after.length && before.every((value, k) => near(value, after[k]!));
}

/** Better, or as good. */
function isNoWorse(before: readonly number[], after: readonly number[]): boolean {
  const first = before.findIndex((value, k) => !near(value, after[k]!));
  return first < 0 || after[first]! < before[first]!;
}

/** Runs a change over all cases and lists those in which what must follow did not. */
function violations(
  change: (it: Case) => PlanningProblem | null,
  holds: (before: readonly number[], after: readonly number[], it: Case, changed: Plan) => boolean,
): { readonly broken: readonly string[]; readonly tried: number } {
  let tried = 0;
  const broken = cases.flatMap((it) => {
    const input = change(it);
    if (input === null || !isProven(it.base)) return [];
    tried++;
    const changed = planWithin(input);
    const before = stagesIn(it.problem, it.base);
    const after = stagesIn(input, changed);
    if (isProven(changed) && holds(before, after, it, changed)) return [];
    const status = isProven(changed) ? '' : ' (not proven)';
    return [`seed ${it.seed}: ${before.join(' | ')} became ${after.join(' | ')}${status}`];
  });
  return { broken, tried };
}

function withModels(input: PlanningProblem, change: (it: ProblemModel) => ProblemModel): PlanningProblem {
  return { ...input, models: input.models.map(change) };
}

function withDeployments(
  input: PlanningProblem,
  change: (it: ProblemDeployment, of: ProblemModel) => readonly ProblemDeployment[],
): PlanningProblem {
  return withModels(input, (it) => ({ ...it, deployments: it.deployments.flatMap((one) => change(one, it)) }));
}

const isFree = (it: ProblemDeployment) => it.fixedReplicas === null && it.profile !== null;

/** The problem with room for one kind of thing more. */
function roomier(input: PlanningProblem, random: SeededRandom): PlanningProblem {
  const more = random.pick([1, 2, 8]);
  return {
    ...input,
    pools: input.pools.map((it) => ({
      ...it,
      gpus: it.gpus === null ? null : it.gpus + (random.chance(0.7) ? more : 0),
    })),
    quotas: input.quotas.map((it) => ({ ...it, gpus: it.gpus + (random.chance(0.7) ? more : 0) })),
    budgetUsdPerHour: input.budgetUsdPerHour === null ? null : input.budgetUsdPerHour + (random.chance(0.7) ? more : 0),
  };
}

describe('a joint plan', () => {
  test('is made of enough cases to mean something, nearly all proven', () => {
    const unproven = cases.filter(({ base }) => !isProven(base)).map(({ seed }) => seed);
    expect(unproven.length).toBeLessThan(3);
    expect(cases.filter(({ base }) => base.scarcity.length > 0).length).toBeGreaterThan(30);
    expect(cases.filter(({ base }) => base.scarcity.length === 0).length).toBeGreaterThan(30);
  });

  test('scales with prices: eight times those of replicas, starts, stops and the budget', () => {
    const { broken, tried } = violations(
      ({ problem: input }) => ({
        ...withDeployments(input, (it) => [{ ...it, usdPerReplicaHour: it.usdPerReplicaHour * 8 }]),
        budgetUsdPerHour: input.budgetUsdPerHour === null ? null : input.budgetUsdPerHour * 8,
        options: {
          ...input.options,
          startUsdPerReplica: input.options.startUsdPerReplica * 8,
          stopUsdPerReplica: input.options.stopUsdPerReplica * 8,
        },
      }),
      (before, after) => isSame([...before.slice(0, -1), before.at(-1)! * 8], after),
    );
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(100);
  });

  test('is no worse with more capacity: unserved by priority, then money', () => {
    const { broken, tried } = violations(
      // Where a floor is cut by a limit, more of the limit is more floor, which comes before all demand.
      ({ problem: input, base, random }) =>
        base.shortfalls.some(({ code }) => code === 'floor_above_limit') ? null : roomier(input, random),
      isNoWorse,
    );
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(80);
  });

  test('is no worse with higher ceilings', () => {
    const { broken } = violations(
      ({ problem: input, base, random }) =>
        base.shortfalls.some(({ code }) => code !== 'min_served_share')
          ? null
          : withDeployments(input, (it) => [{ ...it, maxReplicas: it.maxReplicas + random.whole(0, 3) }]),
      isNoWorse,
    );
    expect(broken).toEqual([]);
  });

  test('changes nothing when a GPU type appears twice and shares its pool', () => {
    const { broken, tried } = violations(({ problem: input, random }) => {
      const candidates = input.models.flatMap((it) => it.deployments.filter(isFree));
      // A second deployment has a ceiling of its own: it is the same thing twice only where ceilings do not bind.
      const open = candidates.filter(({ maxReplicas }) => maxReplicas >= 12);
      if (open.length === 0) return null;
      const copied = random.pick(open).id;
      return withDeployments(input, (it) => {
        if (it.id !== copied) return [it];
        // Its own start is paid as the first one's would be; it has no floor and nothing runs of it.
        const runs = it.currentReplicas === null ? null : 0;
        const twin = { ...it, id: `${it.id}-twin`, minReplicas: 0, idleMinReplicas: 0, currentReplicas: runs };
        return [it, { ...twin, readyReplicas: null, pendingReplicas: null }];
      });
    }, isSame);
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(80);
  });

  test('changes nothing when a bucket is written as two', () => {
    const { broken, tried } = violations(({ problem: input, random }) => {
      const part = random.between(0.1, 0.9);
      const split = random.pick(input.models).name;
      return withModels(input, (it) => {
        if (it.name !== split) return it;
        const at = random.whole(0, it.demand.length - 1);
        return {
          ...it,
          demand: it.demand.flatMap((bucket, b) =>
            b === at
              ? [
                  { ...bucket, rps: bucket.rps * part },
                  { ...bucket, rps: bucket.rps * (1 - part) },
                ]
              : [bucket],
          ),
        };
      });
    }, isSame);
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(100);
  });

  test('changes nothing without a deployment that it does not use', () => {
    let spared = 0;
    const { broken, tried } = violations(
      ({ problem: input, base, random }) => {
        // With demand left, or with one share for all buckets, who could have served says what is asked of the others.
        if (base.unserved.length > 0 || input.options.routing !== 'free') return null;
        const idle = new Set(base.deployments.filter((it) => it.targetReplicas === 0).map(({ id }) => id));
        const candidates = input.models
          .filter(({ deployments }) => deployments.length > 1)
          .flatMap((it) => it.deployments.filter((one) => isFree(one) && idle.has(one.id)));
        if (candidates.length === 0) return null;
        const dropped = random.pick(candidates);
        const { stopUsdPerReplica, horizonHours } = input.options;
        spared = ((dropped.currentReplicas ?? 0) * stopUsdPerReplica) / horizonHours;
        return withDeployments(input, (it) => (it.id === dropped.id ? [] : [it]));
      },
      (before, after) => isSame([...before.slice(0, -1), before.at(-1)! - spared], after),
    );
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(10);
  });

  test('changes nothing when models, deployments, buckets and limits are written in another order', () => {
    const { broken } = violations(
      ({ problem: input, random }) => ({
        ...input,
        models: random.shuffle(input.models).map((it) => ({
          ...it,
          deployments: random.shuffle(it.deployments),
          demand: random.shuffle(it.demand),
        })),
        pools: random.shuffle(input.pools),
        quotas: random.shuffle(input.quotas),
      }),
      (before, after, it, changed) => {
        const replicasOf = (answer: Plan) =>
          JSON.stringify(answer.deployments.map(({ id, targetReplicas }) => [id, targetReplicas]).toSorted());
        return isSame(before, after) && replicasOf(it.base) === replicasOf(changed);
      },
    );
    expect(broken).toEqual([]);
  });

  test('is never cheaper with proportional routing than with free routing', () => {
    const { broken, tried } = violations(
      ({ problem: input }) =>
        input.options.routing === 'proportional' ? { ...input, options: { ...input.options, routing: 'free' } } : null,
      isNoWorse,
    );
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(20);
  });

  test('is the very same plan, twice', () => {
    const broken = cases.filter(
      ({ problem: input, base }) =>
        JSON.stringify({ ...planWithin(structuredClone(input)), solver: null }) !==
        JSON.stringify({ ...base, solver: null }),
    );
    expect(broken.map(({ seed }) => seed)).toEqual([]);
  });

  test('is its own plan when its replicas are all that may run', () => {
    const { broken } = violations(({ problem: input, base }) => {
      if (base.shortfalls.some(({ code }) => code !== 'min_served_share')) return null;
      const replicas = new Map(base.deployments.map((it) => [it.id, it.targetReplicas!]));
      return withDeployments(input, (it) => [isFree(it) ? { ...it, fixedReplicas: replicas.get(it.id)! } : it]);
    }, isSame);
    expect(broken).toEqual([]);
  });
});

describe('at the edges of a document', () => {
  /** A plan that keeps its promises, with no model held. */
  function planned(input: PlanningProblem): Plan {
    const answer = planWithin(input);
    expect(checkPlan(input, answer)).toEqual([]);
    expect(answer.models.filter(({ status }) => status === 'held')).toEqual([]);
    return answer;
  }
  const targets = (answer: Plan) => Object.fromEntries(answer.deployments.map((it) => [it.id, it.targetReplicas]));
  const rivals = (overrides: Parameters<typeof model>[0] = {}) =>
    ['a', 'b', 'c'].map((name) => model({ name, deployments: [deployment({ id: `x/${name}` })], ...overrides }));

  test.each(['"usdPerReplicaHour": NaN', '"usdPerReplicaHour": -1', '"usdPerReplicaHour": 1e999'])(
    'a price is refused: %s',
    (price) => {
      const text = JSON.stringify(problem({ pools: [{ gpuType: 'A', gpus: 4 }] })).replace(
        '"usdPerReplicaHour":1',
        price,
      );
      expect(text).toContain(price);
      expect(() => parsePlanningProblem(text, 'problem.json')).toThrow(/problem\.json/);
    },
  );

  test.each([
    ['pools', [{ gpuType: 'A', gpus: -1 }]],
    ['pools', [{ gpuType: 'A', gpus: Number.NaN }]],
    ['quotas', [{ namespace: 'x', gpuType: 'A', gpus: -1 }]],
    ['budgetUsdPerHour', -0.01],
    ['options', { startUsdPerReplica: -1 }],
    ['options', { stopUsdPerReplica: Number.NaN }],
    ['options', { horizonHours: 0 }],
  ])('a limit or an option is refused: %s %j', (key, value) => {
    expect(() => problem({ [key]: value })).toThrow(new RegExp(key));
  });

  test('rates of 1e-9 and 1e9 requests/s share a pool', () => {
    const tiny = model({
      name: 'tiny',
      priority: 1,
      demand: [short(1e-9)],
      deployments: [deployment({ id: 'x/tiny' })],
    });
    const huge = model({
      name: 'huge',
      demand: [short(1e9)],
      deployments: [deployment({ id: 'x/huge', profile: flat(1e4), maxReplicas: 1_000_000 })],
    });
    const ample = planned(problem({ models: [tiny, huge], pools: [{ gpuType: 'A', gpus: 100_001 }] }));
    expect(targets(ample)).toEqual({ 'x/tiny': 1, 'x/huge': 100_000 });
    expect(ample.status).toBe('optimal');
    const scarce = planned(problem({ models: [tiny, huge], pools: [{ gpuType: 'A', gpus: 100_000 }] }));
    expect(targets(scarce)).toEqual({ 'x/tiny': 1, 'x/huge': 99_999 });
    expect(scarce.scarcity).toHaveLength(1);
    expect(scarce.scarcity[0]!.unservedRps).toBeCloseTo(1e4, -2);
  });

  test('a million replicas of each of two models fill a pool', () => {
    const input = problem({
      models: ['a', 'b'].map((name) =>
        model({
          name,
          demand: [short(9_999_995)],
          deployments: [deployment({ id: `x/${name}`, maxReplicas: 1_000_000 })],
        }),
      ),
      pools: [{ gpuType: 'A', gpus: 2_000_000 }],
    });
    expect(targets(planned(input))).toEqual({ 'x/a': 1_000_000, 'x/b': 1_000_000 });
  });

  test('equal prices and equal models: all is served, whoever gets what', () => {
    const types = ['A', 'B', 'C'];
    const input = problem({
      models: ['a', 'b', 'c', 'd'].map((name) =>
        model({
          name,
          demand: [short(17)],
          deployments: types.map((gpuType) => deployment({ id: `x/${name}-${gpuType}`, gpuType })),
        }),
      ),
      pools: types.map((gpuType) => ({ gpuType, gpus: 3 })),
    });
    const answer = planned(input);
    expect(answer).toMatchObject({ status: 'optimal', usdPerHour: 8, unserved: [] });
  });

  test('no capacity at all: nothing runs, everything is unserved because of it', () => {
    const answer = planned(problem({ models: rivals(), pools: [{ gpuType: 'A', gpus: 0 }] }));
    expect(Object.values(targets(answer))).toEqual([0, 0, 0]);
    expect(answer.unserved.map(({ rps, reason }) => [rps, reason])).toEqual(Array(3).fill([5, 'capacity']));
    expect(answer.scarcity).toMatchObject([{ priority: 0, unservedRps: 15, proven: true }]);
  });

  test('no money at all, and replicas that cost nothing', () => {
    const free = model({ name: 'free', deployments: [deployment({ id: 'x/free', usdPerReplicaHour: 0 })] });
    const answer = planned(problem({ models: [...rivals(), free], budgetUsdPerHour: 0 }));
    expect(targets(answer)).toEqual({ 'x/a': 0, 'x/b': 0, 'x/c': 0, 'x/free': 1 });
    expect(answer.unserved.map(({ reason }) => reason)).toEqual(['budget', 'budget', 'budget']);
  });

  test('floors above their pool: the first by name get theirs, and the rest is said', () => {
    const models = rivals().map((it) => ({
      ...it,
      deployments: it.deployments.map((one) => ({ ...one, minReplicas: 3 })),
    }));
    const answer = planned(problem({ models, pools: [{ gpuType: 'A', gpus: 5 }] }));
    expect(targets(answer)).toEqual({ 'x/a': 3, 'x/b': 2, 'x/c': 0 });
    expect(answer.shortfalls.map(({ code, deployment: id }) => [code, id])).toEqual([
      ['floor_above_limit', 'x/b'],
      ['floor_above_limit', 'x/c'],
    ]);
    expect(answer.unserved).toMatchObject([{ model: 'c', rps: 5, reason: 'capacity' }]);
  });

  test('replicas that a person fixed above a pool are left alone, and said', () => {
    const [a, b] = rivals();
    const fixed = { ...a!, deployments: a!.deployments.map((it) => ({ ...it, fixedReplicas: 4 })) };
    const answer = planned(problem({ models: [fixed, b!], pools: [{ gpuType: 'A', gpus: 2 }] }));
    expect(targets(answer)).toEqual({ 'x/a': 4, 'x/b': 0 });
    expect(answer.warnings.map(({ code }) => code)).toContain('limit_exceeded');
  });

  test('limits that no deployment is of are said', () => {
    const answer = planned(
      problem({
        models: rivals(),
        pools: [{ gpuType: 'Z', gpus: 4 }],
        quotas: [{ namespace: 'y', gpuType: 'A', gpus: 0 }],
      }),
    );
    expect(answer.warnings.map(({ code }) => code)).toEqual(['limit_without_deployment', 'limit_without_deployment']);
    expect(answer.unserved).toEqual([]);
  });

  test('two thousand buckets of two models in one pool', () => {
    const random = seededRandom(1);
    const windowOf = (name: string) =>
      model({
        name,
        demand: Array.from({ length: 2000 }, () => ({
          inputTokens: Math.round(random.logBetween(10, 8000)),
          outputTokens: Math.round(random.logBetween(4, 1000)),
          rps: random.logBetween(1e-3, 0.1),
        })),
        deployments: ['A', 'B'].map((gpuType, d) =>
          deployment({
            id: `x/${name}-${gpuType}`,
            gpuType,
            usdPerReplicaHour: 1 + 1.5 * d,
            profile: {
              indexes: [
                [16, 128, 1024],
                [64, 512, 4096],
              ],
              tputs: [
                [9, 6, 2],
                [6, 4, 1.4],
                [2, 1.5, d === 0 ? 0 : 0.8],
              ].map((row) => row.map((rps) => rps * (1 + d))),
            },
          }),
        ),
      });
    const answer = planned(
      problem({
        models: [windowOf('a'), windowOf('b')],
        pools: [
          { gpuType: 'A', gpus: 10 },
          { gpuType: 'B', gpus: 40 },
        ],
      }),
    );
    expect(answer.unserved).toEqual([]);
    expect(answer.shares).toHaveLength(4000);
    expect(answer.gap).toBeLessThan(0.02);
  });

  test('models without demand, without deployments, and none', () => {
    const input = problem({
      models: [
        model({ name: 'idle', demand: [], deployments: [deployment({ id: 'x/idle', idleMinReplicas: 1 })] }),
        model({ name: 'bare', deployments: [] }),
        model({ name: 'busy', deployments: [deployment({ id: 'x/busy', profile: shortAndLong(10, 1) })] }),
      ],
      pools: [{ gpuType: 'A', gpus: 2 }],
    });
    const answer = planned(input);
    expect(targets(answer)).toEqual({ 'x/idle': 1, 'x/busy': 1 });
    expect(answer.unserved).toMatchObject([{ model: 'bare', reason: 'slo' }]);
    expect(planned(problem({ models: [], pools: [{ gpuType: 'A', gpus: 2 }] })).deployments).toEqual([]);
  });
});
