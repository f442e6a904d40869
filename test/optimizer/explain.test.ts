import { describe, expect, it } from 'vitest';
import { type Explanation, explanationSchema, type PlanChange } from '../../src/core/explanation.js';
import { type PlanningProblem, parsePlanningProblem } from '../../src/core/planning-problem.js';
import { type ExplainRun, explain } from '../../src/optimizer/explain.js';
import { plan } from '../../src/optimizer/plan.js';
import { seededRandom } from '../support/seeded-random.js';
import { deployment, flat, long, model, problem, short, shortAndLong } from './builders.js';
import { bestByEnumeration } from './explain/enumeration.js';

/** Explains, and holds every explanation against its schema. */
function explained(asked: PlanningProblem, run: ExplainRun = {}): Explanation {
  const answer = explain(asked, run);
  expect(explanationSchema.parse(JSON.parse(JSON.stringify(answer)))).toEqual(answer);
  return answer;
}

/** Three L4 and one A100 serve 8 short and 1 long requests/s at 5.80 USD/h; eight L4 cost 6.40, two A100 6.80. */
const mixed = () =>
  problem({
    name: 'chat',
    demand: [short(8), long(1)],
    deployments: [
      deployment({ id: 'default/l4', gpuType: 'L4', usdPerReplicaHour: 0.8, profile: shortAndLong(2, 0.3) }),
      deployment({ id: 'default/a100', gpuType: 'A100', usdPerReplicaHour: 3.4, profile: shortAndLong(9, 1.6) }),
    ],
  });

describe('the next best mix', () => {
  it('is the cheapest other one, with what it costs more', () => {
    const { models } = explained(mixed());
    expect(models[0]!.runnerUp!.replicas).toEqual([{ deployment: 'default/l4', gpuType: 'L4', replicas: 8 }]);
    expect(models[0]!.runnerUp!.change).toMatchObject({ usdPerHour: expect.closeTo(0.6, 9), proven: true });
  });

  it('is none where every replica is asked for by a floor', () => {
    const asked = problem({ deployments: [deployment({ minReplicas: 1 })] });
    expect(explained(asked).models[0]!.runnerUp).toBeNull();
  });

  it('says what it leaves unserved where no other mix serves as much', () => {
    const answer = explained(problem({ demand: [short(15)], deployments: [deployment({ maxReplicas: 2 })] }));
    expect(answer.models[0]!.runnerUp!.change).toMatchObject({ unservedRps: expect.closeTo(5, 6), usdPerHour: -1 });
    expect(answer.sentences).toContain(
      'No other mix serves as much of llama; the next best is 1 × A: 5 requests/s more unserved, 1.00 USD/h less.',
    );
  });
});

describe('the price at which what is not used would be', () => {
  it('is where the best plan with it costs as much as the plan in force', () => {
    // Six small ones serve 30 requests/s at 6.00. One large one of 28 needs one small one beside it: 5.00 are left for it.
    const asked = problem({
      demand: [short(30)],
      deployments: [
        deployment({ id: 'default/small', gpuType: 'S', usdPerReplicaHour: 1, profile: flat(5) }),
        deployment({ id: 'default/large', gpuType: 'L', usdPerReplicaHour: 9, profile: flat(28) }),
      ],
    });
    const [unused] = explained(asked).models[0]!.unused;
    expect(unused).toMatchObject({
      deployment: 'default/large',
      why: 'price',
      entersBelowUsdPerReplicaHour: expect.closeTo(5, 9),
      proven: true,
      // At its price of 9, with one small one: 10 instead of 6.
      oneReplica: { usdPerHour: expect.closeTo(4, 9) },
    });
  });

  it('counts that two replicas may be worth more each than one', () => {
    // Three small ones serve 25 requests/s at 3.00. One odd one leaves 12, for which two are needed: it is worth 1.00. Two
    // odd ones serve all: 1.50 each.
    const asked = problem({
      demand: [short(25)],
      deployments: [
        deployment({ id: 'default/small', gpuType: 'S', usdPerReplicaHour: 1, profile: flat(10) }),
        deployment({ id: 'default/odd', gpuType: 'O', usdPerReplicaHour: 2, profile: flat(13) }),
      ],
    });
    const answer = explained(asked);
    expect(answer.models[0]!.unused[0]).toMatchObject({
      entersBelowUsdPerReplicaHour: expect.closeTo(1.5, 9),
      oneReplica: { usdPerHour: expect.closeTo(1, 9) },
    });
    expect(answer.sentences).toContain(
      'O (default/odd) is not used: it would enter below 1.50 USD/h per replica (now 2.00, 25 % less).',
    );
  });

  it.each([
    ['cannot_serve', { profile: flat(0) }, 'it cannot serve any of the demand'],
    ['no_profile', { profile: null, currentReplicas: 0 }, 'without a profile it is given no demand'],
    ['max_replicas', { maxReplicas: 0 }, 'its maxReplicas is 0'],
    ['fixed', { fixedReplicas: 0 }, 'it is fixed at 0 replicas by request'],
  ] as const)('is none for what cannot be used whatever it costs: %s', (why, special, words) => {
    const asked = problem({
      deployments: [deployment(), deployment({ id: 'default/b', gpuType: 'B', ...special })],
    });
    const answer = explained(asked);
    expect(answer.models[0]!.unused).toMatchObject([
      { deployment: 'default/b', why, entersBelowUsdPerReplicaHour: null },
    ]);
    expect(answer.sentences).toContain(`B (default/b) is not used: ${words}.`);
  });

  it('is none for what would save nothing even for nothing', () => {
    const asked = problem({
      deployments: [
        deployment({ minReplicas: 1 }),
        deployment({ id: 'default/b', gpuType: 'B', usdPerReplicaHour: 2 }),
      ],
    });
    const answer = explained(asked);
    expect(answer.models[0]!.unused[0]).toMatchObject({
      why: 'never',
      entersBelowUsdPerReplicaHour: null,
      proven: true,
    });
    expect(answer.sentences).toContain('B (default/b) is not used: it would not be, even for nothing.');
  });

  it('is the price that it has where the plan could as well use it', () => {
    const asked = problem({ deployments: [deployment(), deployment({ id: 'default/b', gpuType: 'B' })] });
    const answer = explained(asked);
    expect(answer.models[0]!.unused[0]).toMatchObject({ why: 'price', entersBelowUsdPerReplicaHour: 1 });
    expect(answer.sentences).toContain('B (default/b) is not used: it could be at the same cost (a tie).');
  });
});

describe('less and more demand', () => {
  it('is planned again, for one model and for all at once', () => {
    const asked = problem({
      models: [
        model({ name: 'a', demand: [short(10)], deployments: [deployment({ id: 'default/a' })] }),
        model({ name: 'b', demand: [short(19)], deployments: [deployment({ id: 'default/b', usdPerReplicaHour: 3 })] }),
      ],
    });
    const { models, demand } = explained(asked);
    const money = (changes: readonly { readonly change: PlanChange }[]) =>
      changes.map(({ change }) => change.usdPerHour);
    // 9 and 11 requests/s at 10 a replica; 17.1 and 20.9.
    expect(money(models[0]!.demand)).toEqual([0, expect.closeTo(1, 9)]);
    expect(money(models[1]!.demand)).toEqual([0, expect.closeTo(3, 9)]);
    expect(money(demand)).toEqual([0, expect.closeTo(4, 9)]);
    expect(models[1]!.demand[1]!.change.replicas).toEqual([{ deployment: 'default/b', from: 2, to: 3 }]);
  });

  it('is not asked about for a model without demand', () => {
    const { models, sentences } = explained(
      problem({ demand: [short(0)], deployments: [deployment({ idleMinReplicas: 1 })] }),
    );
    expect(models[0]!.demand).toEqual([]);
    expect(sentences.some((sentence) => sentence.includes('10 %'))).toBe(false);
    expect(sentences).toContain('Replicas of llama without demand cost 1.00 USD/h.');
  });
});

describe("a model's own limits", () => {
  it('say what one replica more would serve, and what all of them would', () => {
    const { limits, sentences } = explained(
      problem({ demand: [short(35)], deployments: [deployment({ maxReplicas: 2 })] }),
    );
    expect(limits).toMatchObject([
      {
        kind: 'max_replicas',
        deployment: 'default/a',
        limit: 2,
        used: 2,
        binds: true,
        oneMore: { by: 1, change: { unservedRps: expect.closeTo(-10, 6), usdPerHour: 1 } },
        without: { unservedRps: expect.closeTo(-15, 6), usdPerHour: 2 },
      },
    ]);
    expect(sentences).toContain(
      'One more replica of default/a would serve 10 requests/s more and cost 1.00 USD/h more (maxReplicas 2); without that ceiling: 15 requests/s more served, 2.00 USD/h more.',
    );
  });

  it('say that a ceiling that is reached costs nothing', () => {
    const { limits } = explained(problem({ demand: [short(20)], deployments: [deployment({ maxReplicas: 2 })] }));
    expect(limits).toMatchObject([{ kind: 'max_replicas', binds: false, oneMore: null, without: { usdPerHour: 0 } }]);
  });

  it('say what a floor and fixed replicas cost', () => {
    const { limits } = explained(
      problem({
        models: [
          model({ name: 'a', deployments: [deployment({ id: 'default/a', minReplicas: 3 })] }),
          model({ name: 'b', deployments: [deployment({ id: 'default/b', fixedReplicas: 2 })] }),
          model({ name: 'c', deployments: [deployment({ id: 'default/c', minReplicas: 1 })] }),
        ],
      }),
    );
    expect(limits).toMatchObject([
      { kind: 'floor', deployment: 'default/a', limit: 3, binds: true, without: { usdPerHour: -2 } },
      { kind: 'fixed', deployment: 'default/b', limit: 2, binds: true, without: { usdPerHour: -1 } },
      { kind: 'floor', deployment: 'default/c', limit: 1, binds: false, without: { usdPerHour: 0 } },
    ]);
  });
});

describe('the cost of requests', () => {
  it('is that of their work', () => {
    // One replica at 3.60 with 4 short requests/s of 0.1 and 1 long one of 0.4: half of the work each.
    const asked = problem({
      demand: [short(4), long(1)],
      deployments: [deployment({ usdPerReplicaHour: 3.6, profile: shortAndLong(10, 2.5) })],
    });
    const [explainedModel] = explained(asked).models;
    expect(explainedModel!.buckets.map(({ usdPerHour }) => usdPerHour)).toEqual([
      expect.closeTo(1.8, 9),
      expect.closeTo(1.8, 9),
    ]);
    // 14,400 and 3,600 requests an hour.
    expect(explainedModel!.buckets.map(({ usdPer1000Requests }) => usdPer1000Requests)).toEqual([
      expect.closeTo(0.125, 9),
      expect.closeTo(0.5, 9),
    ]);
    expect(explainedModel!.usdPer1000Requests).toBeCloseTo(0.2, 9);
  });

  it('adds up to that of the deployments with work; the rest is told apart', () => {
    const random = seededRandom(7);
    for (let round = 0; round < 20; round++) {
      const asked = randomProblem(random, { models: 2, floors: true });
      const answer = plan(asked);
      for (const explainedModel of explained(asked, { maxSolves: 1 }).models) {
        const { buckets, name, usdPerHourWithoutWork } = explainedModel;
        const paid = buckets.reduce(
          (sum, { rps, unservedShare, usdPer1000Requests }) =>
            sum + (rps * (1 - unservedShare) * 3600 * (usdPer1000Requests ?? 0)) / 1000,
          0,
        );
        const cost = answer.models.find((each) => each.name === name)!.usdPerHour;
        expect(paid + usdPerHourWithoutWork).toBeCloseTo(cost, 9);
        for (const { servedBy, usdPer1000Requests } of buckets) {
          const shares = servedBy.reduce((sum, { share }) => sum + share, 0);
          const mean = servedBy.reduce((sum, each) => sum + each.share * each.usdPer1000Requests, 0) / shares;
          if (usdPer1000Requests !== null) expect(mean).toBeCloseTo(usdPer1000Requests, 9);
        }
      }
    }
  });

  it('counts best effort as the plan does, and nothing for what is not served', () => {
    const asked = parsePlanningProblem(
      JSON.stringify({
        apiVersion: 'gpumix/v1',
        kind: 'PlanningProblem',
        models: [
          model({
            demand: [short(1), { inputTokens: 100_000, outputTokens: 64, rps: 0.1 }],
            deployments: [
              deployment({ maxTokens: 200_000, profile: { indexes: [[64], [256, 2048]], tputs: [[10, 0]] } }),
            ],
          }),
          model({ name: 'none', deployments: [deployment({ id: 'default/n', profile: flat(0) })] }),
        ],
      }),
      'test',
    );
    const [far, none] = explained(asked).models;
    const { usdPerHour } = plan(asked).models[0]!;
    expect(far!.buckets.map(({ bestEffort }) => bestEffort)).toEqual([false, true]);
    expect(far!.buckets.reduce((sum, bucket) => sum + bucket.usdPerHour, 0)).toBeCloseTo(usdPerHour, 9);
    expect(none!.buckets).toMatchObject([{ usdPer1000Requests: null, usdPerHour: 0, servedBy: [] }]);
    expect(none!.usdPer1000Requests).toBeNull();
  });
});

describe('an explanation', () => {
  it('begins with what the plan costs, how sure that is, and the routing that is assumed', () => {
    expect(explained(mixed()).sentences.slice(0, 2)).toEqual([
      'The plan costs 5.80 USD/h: no plan that serves this demand is cheaper (proven).',
      'Routing is assumed to be free: each bucket has shares of its own, which the router must follow.',
    ]);
  });

  it('is the same twice', () => {
    expect(explain(mixed())).toEqual(explain(mixed()));
  });

  it('is of one model alone where that is asked, and cheaper by the questions about the others', () => {
    const asked = problem({
      models: ['a', 'b'].map((name) => model({ name, deployments: [deployment({ id: `default/${name}` })] })),
    });
    const answer = explained(asked, { model: 'b' });
    expect(answer.models.map(({ name }) => name)).toEqual(['b']);
    expect([answer.model, answer.plannedModels, answer.usdPerHour]).toEqual(['b', 1, 1]);
    expect(answer.solver.plans).toBeLessThan(explained(asked).solver.plans);
  });

  it('names the nearest model for one that the problem does not have', () => {
    expect(() => explain(mixed(), { model: 'chta' })).toThrow(
      'model: found "chta", expected a model of the problem; did you mean "chat"?',
    );
  });

  it('explains a problem without models', () => {
    expect(explained(problem({ models: [] }))).toMatchObject({
      usdPerHour: 0,
      models: [],
      limits: [],
      notComputed: [],
    });
  });

  it('makes no more plans than it may, and says what it left out', () => {
    const everything = explained(mixed());
    expect(everything.notComputed).toEqual([]);
    const bounded = explained(mixed(), { maxSolves: 2 });
    expect(bounded.solver.plans).toBe(2);
    expect(bounded.notComputed).toEqual([
      {
        question: 'demand',
        reason: 'solves',
        count: 1,
        subjects: ['chat'],
        message:
          'Not computed: what less and more demand would change (chat): the number of plans that one explanation may make was used up.',
      },
      expect.objectContaining({ question: 'runner_up', reason: 'solves', subjects: ['chat'] }),
    ]);
    expect(bounded.sentences.slice(-2)).toEqual(bounded.notComputed.map(({ message }) => message));
    // What it did compute is what the whole explanation says.
    expect(bounded.models[0]!.demand).toEqual(everything.models[0]!.demand.slice(0, 1));
    expect(bounded.models[0]!.runnerUp).toBeNull();
  });

  it('stops when it is told to, with what it has', () => {
    let calls = 0;
    explained(mixed(), { shouldStop: () => ++calls < 0 });
    let left = Math.floor(calls / 2);
    const answer = explained(mixed(), { shouldStop: () => --left < 0 });
    expect(answer.notComputed.map(({ reason }) => reason)).toContain('time');
    expect(answer.solver.plans).toBeLessThan(explained(mixed()).solver.plans);
    expect(answer.usdPerHour).toBeCloseTo(5.8, 9);
  });

  it('says of a model that is held that nothing is known, and explains the others', () => {
    // No nodes are left for the second search, which needs more than one.
    const asked = problem({
      models: [model({ name: 'a' }), { ...mixed().models[0]!, name: 'b' } as never],
      options: { nodeLimit: 1 },
    });
    const answer = explained(asked);
    const held = plan(asked).models.filter(({ status }) => status === 'held');
    for (const { name } of held) {
      expect(answer.sentences).toContain(`${name} is held (planning_failed): nothing is known about other plans.`);
    }
    expect(answer.models.find(({ name }) => name === 'a')!.demand).toHaveLength(2);
  });

  it('marks what it could not prove, and never states it as exact', () => {
    const random = seededRandom(3);
    let open = 0;
    for (let round = 0; round < 40 && open === 0; round++) {
      const asked = randomProblem(random, { models: 1, types: 4, rps: 60 });
      const answer = explain(asked, { nodesPerModel: 1 });
      const exact = explain(asked).models[0]!.demand;
      answer.models[0]!.demand.forEach(({ change }, i) => {
        const truth = exact[i]!.change.usdPerHour;
        expect(change.lowestUsdPerHour!).toBeLessThanOrEqual(truth + 1e-9);
        expect(change.highestUsdPerHour!).toBeGreaterThanOrEqual(truth - 1e-9);
        if (change.proven) expect(change.usdPerHour).toBeCloseTo(truth, 9);
        else open += 1;
      });
      if (open > 0) expect(answer.sentences.join('\n')).toMatch(/(at most|between|by [−+]).* USD\/h/);
    }
    expect(open).toBeGreaterThan(0);
  });
});

describe('held against every combination of replicas', () => {
  /** The cheapest combination that serves all; more than 13 replicas of one deployment no random problem needs. */
  const cheapest = (asked: PlanningProblem, passes?: (replicas: ReadonlyMap<string, number>) => boolean): number => {
    const best = bestByEnumeration(asked, { most: 13, ...(passes === undefined ? {} : { passes }) });
    expect(best!.unserved).toEqual([0]);
    return best!.usdPerHour;
  };

  it('the next best mix is the best one with fewer replicas of something', () => {
    const random = seededRandom(11);
    for (let round = 0; round < 50; round++) {
      const asked = randomProblem(random, { models: 1, twoBuckets: random.chance(0.5) });
      const { runnerUp, deployments } = explain(asked).models[0]!;
      const hasFewer = (replicas: ReadonlyMap<string, number>): boolean =>
        deployments.some(({ id, targetReplicas }) => (replicas.get(id) ?? 0) < targetReplicas!);
      expect(runnerUp!.change.proven).toBe(true);
      expect(cheapest(asked) + runnerUp!.change.usdPerHour).toBeCloseTo(cheapest(asked, hasFewer), 7);
      expect(hasFewer(new Map(runnerUp!.replicas.map(({ deployment: id, replicas }) => [id, replicas])))).toBe(true);
    }
  });

  it('just below its entry price the best plan uses a deployment, and just above it does not', () => {
    const random = seededRandom(12);
    let entered = 0;
    for (let round = 0; round < 50; round++) {
      const asked = randomProblem(random, { models: 1, twoBuckets: random.chance(0.5) });
      const base = cheapest(asked);
      for (const unused of explain(asked).models[0]!.unused) {
        const { deployment: id, usdPerReplicaHour } = unused;
        const price = unused.entersBelowUsdPerReplicaHour!;
        const costAt = (at: number): number => cheapest(priced(asked, id, at), (replicas) => replicas.get(id)! > 0);
        expect(unused).toMatchObject({ why: 'price', proven: true });
        expect(price).toBeLessThanOrEqual(usdPerReplicaHour);
        expect(costAt(price - 1e-4)).toBeLessThan(base);
        expect(costAt(price + 1e-4)).toBeGreaterThan(base);
        expect(base + unused.oneReplica!.usdPerHour).toBeCloseTo(costAt(usdPerReplicaHour), 7);
        entered += 1;
      }
    }
    expect(entered).toBeGreaterThan(40);
  });

  it('other demand costs what the best plan for it costs', () => {
    const random = seededRandom(13);
    for (let round = 0; round < 40; round++) {
      const asked = randomProblem(random, { models: 1, twoBuckets: random.chance(0.5) });
      const [answer] = explain(asked).models;
      expect(answer!.demand.map(({ factor }) => factor)).toEqual([0.9, 1.1]);
      for (const { factor, change } of answer!.demand) {
        const demand = asked.models[0]!.demand.map((bucket) => ({ ...bucket, rps: bucket.rps * factor }));
        const other = cheapest({ ...asked, models: [{ ...asked.models[0]!, demand }] });
        expect(change).toMatchObject({ proven: true, usdPerHour: expect.closeTo(other - cheapest(asked), 7) });
      }
    }
  });
});

describe('other routings and the cost of moving', () => {
  it('of proportional routing are said, and what cannot take a share of everything is not priced', () => {
    const asked = problem({
      demand: [short(4), long(1)],
      deployments: [
        deployment({ profile: shortAndLong(10, 2) }),
        deployment({ id: 'default/b', gpuType: 'B', profile: shortAndLong(10, 0) }),
      ],
      options: { routing: 'proportional' },
    });
    const { models, routing, sentences } = explained(asked);
    expect(routing).toBe('proportional');
    expect(models[0]!.unused).toMatchObject([{ deployment: 'default/b', why: 'not_common' }]);
    expect(sentences).toContain(
      'Routing is assumed to be proportional: all buckets share alike, as a weighted Service does.',
    );
    expect(sentences).toContain(
      'B (default/b) is not used: there are requests that it cannot serve, and proportional routing would send it some.',
    );
  });

  it('count starts and stops in what is saved', () => {
    // Two run and one is needed: one less saves 1.00 an hour; stopping one costs 0.40 of it.
    const asked = problem({
      demand: [short(9)],
      deployments: [deployment({ currentReplicas: 2, minReplicas: 2 })],
      options: { stopUsdPerReplica: 0.8, horizonHours: 2 },
    });
    const { limits, sentences } = explained(asked);
    expect(limits).toMatchObject([{ kind: 'floor', binds: true, without: { usdPerHour: expect.closeTo(-0.6, 9) } }]);
    expect(sentences).toContain('The floor of 2 replicas of default/a: without it: 0.60 USD/h less.');
  });

  it.each(['free', 'proportional'] as const)(
    'an entry price is the one below which the planner itself uses a deployment: %s',
    (routing) => {
      const random = seededRandom(31);
      let entered = 0;
      for (let round = 0; round < 25; round++) {
        const drawn = randomProblem(random, { models: 1 });
        const asked: PlanningProblem = {
          ...drawn,
          models: drawn.models.map((each) => ({
            ...each,
            deployments: each.deployments.map((one) => ({ ...one, currentReplicas: random.whole(0, 3) })),
          })),
          options: { ...drawn.options, routing, startUsdPerReplica: 0.3, stopUsdPerReplica: 0.1 },
        };
        for (const { deployment: id, why, entersBelowUsdPerReplicaHour: price } of explain(asked).models[0]!.unused) {
          const usedAt = (at: number): number =>
            plan(priced(asked, id, at)).deployments.find((one) => one.id === id)!.targetReplicas!;
          if (why === 'never') {
            expect(usedAt(0)).toBe(0);
            continue;
          }
          entered += 1;
          expect(why).toBe('price');
          expect(usedAt(price! - 1e-4)).toBeGreaterThan(0);
          expect(usedAt(price! + 1e-4)).toBe(0);
        }
      }
      expect(entered).toBeGreaterThan(15);
    },
  );
});

/** The problem with one deployment at another price. */
function priced(asked: PlanningProblem, id: string, usdPerReplicaHour: number): PlanningProblem {
  return {
    ...asked,
    models: asked.models.map((each) => ({
      ...each,
      deployments: each.deployments.map((one) => (one.id === id ? { ...one, usdPerReplicaHour } : one)),
    })),
  };
}

function randomProblem(
  random: ReturnType<typeof seededRandom>,
  options: {
    readonly models: number;
    readonly types?: number;
    readonly rps?: number;
    readonly twoBuckets?: boolean;
    readonly floors?: boolean;
  },
): PlanningProblem {
  const { types = 3, rps = 8, twoBuckets = true, floors = false } = options;
  return problem({
    models: Array.from({ length: options.models }, (_, m) =>
      model({
        name: `m${m}`,
        demand: twoBuckets
          ? [short(random.between(0.2, 1) * rps), long(random.between(0.1, 0.4) * rps)]
          : [short(random.between(0.2, 1) * rps)],
        deployments: Array.from({ length: types }, (_, t) => {
          const tput = random.between(2, 6);
          return deployment({
            id: `default/m${m}-${t}`,
            gpuType: `G${t}`,
            usdPerReplicaHour: Number((tput * random.between(0.6, 1.6)).toFixed(2)),
            minReplicas: floors && random.chance(0.3) ? random.whole(1, 2) : 0,
            targetUtilization: random.chance(0.3) ? 0.8 : 1,
            profile: twoBuckets ? shortAndLong(tput, tput * random.between(0.3, 0.9)) : flat(tput),
          });
        }),
      }),
    ),
  });
}
