import { beforeAll, describe, expect, test } from 'vitest';
import type { Plan, UnservedReason } from '../../src/core/plan.js';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { checkPlan, planFaults } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { seededRandom } from '../support/seeded-random.js';
import { deployment, long, model, problem, short, shortAndLong } from './builders.js';
import { jointProblem, smallJoint, tinyJoint } from './joint-problems.js';

/** The checker on what models share: plans that are wrong in one way each, and the words by which it names it. */

type Draft<T> = T extends readonly (infer Item)[]
  ? Draft<Item>[]
  : T extends object
    ? { -readonly [Key in keyof T]: Draft<T[Key]> }
    : T;
type Overrides = NonNullable<Parameters<typeof problem>[0]>;

/** The plan that runs exactly these replicas, whatever the limits say: made of the same models without any limit. */
function planAt(input: PlanningProblem, replicas: Readonly<Record<string, number>>): Plan {
  return plan({
    ...input,
    pools: [],
    quotas: [],
    budgetUsdPerHour: null,
    models: input.models.map((it) => ({
      ...it,
      deployments: it.deployments.map((one) =>
        one.id in replicas ? { ...one, fixedReplicas: replicas[one.id]!, readyReplicas: null } : one,
      ),
    })),
  });
}

function faultsAt(input: PlanningProblem, replicas: Readonly<Record<string, number>>): string {
  return checkPlan(input, planAt(input, replicas)).join('\n');
}

/** What the checker says of the plan of a problem after one thing was changed in a copy of it. */
function faultsOf(input: PlanningProblem, change: (draft: Draft<Plan>) => void): string {
  const changed = structuredClone(plan(input)) as Draft<Plan>;
  change(changed);
  return checkPlan(input, changed).join('\n');
}

/** `first` comes before `second`; each would fill two replicas of type A. */
const rivals = (overrides: Overrides = {}, second: Parameters<typeof model>[0] = {}, first = {}) =>
  problem({
    models: [
      model({
        name: 'first',
        priority: 1,
        demand: [short(20)],
        deployments: [deployment({ id: 'x/first' })],
        ...first,
      }),
      model({ name: 'second', demand: [short(20)], deployments: [deployment({ id: 'y/second' })], ...second }),
    ],
    ...overrides,
  });
const pool = (gpus: number) => ({ pools: [{ gpuType: 'A', gpus }] });

describe('shared limits', () => {
  test('more GPUs than a pool has', () => {
    expect(faultsAt(rivals(pool(3)), { 'x/first': 2, 'y/second': 2 })).toMatch(/^pool A is 3, the plan uses 4$/m);
  });

  test('one GPU more than a pool has, by replicas of eight', () => {
    const input = rivals(pool(15), {}, { deployments: [deployment({ id: 'x/first', gpusPerReplica: 7 })] });
    expect(faultsAt(input, { 'x/first': 2, 'y/second': 2 })).toMatch(/^pool A is 15, the plan uses 16$/m);
    expect(faultsAt(rivals({ ...pool(16) }), { 'x/first': 2, 'y/second': 2 })).not.toMatch(/pool A/);
  });

  test('more GPUs than a quota allows its namespace, and only that', () => {
    const of = (namespace: string) => rivals({ quotas: [{ namespace, gpuType: 'A', gpus: 1 }] });
    expect(faultsAt(of('y'), { 'x/first': 2, 'y/second': 2 })).toMatch(/^the quota of y on A is 1, the plan uses 2$/m);
    expect(faultsAt(of('y'), { 'x/first': 2, 'y/second': 1 })).not.toMatch(/quota of y on A is/);
    expect(faultsAt(of('x'), { 'x/first': 2, 'y/second': 0 })).toMatch(/^the quota of x on A is 1, the plan uses 2$/m);
  });

  test('more money than the budget', () => {
    expect(faultsAt(rivals({ budgetUsdPerHour: 3.5 }), { 'x/first': 2, 'y/second': 2 })).toMatch(
      /^the budget is 3.5, the plan uses 4$/m,
    );
  });

  test('name the models that are at fault', () => {
    const bystander = model({ name: 'z', deployments: [deployment({ id: 'z/z', gpuType: 'B' })] });
    const input = rivals(pool(3));
    const all = { ...input, models: [...input.models, problem({ models: [bystander] }).models[0]!] };
    const fault = planFaults(all, planAt(all, { 'x/first': 2, 'y/second': 2 })).find(({ message }) =>
      /pool A is/.test(message),
    );
    expect(fault?.models).toEqual(['first', 'second']);
  });

  test('replicas on top of those that a person fixed above a limit', () => {
    const fixed = { deployments: [deployment({ id: 'x/first', fixedReplicas: 3 })] };
    const input = rivals(pool(2), {}, fixed);
    expect(faultsAt(input, { 'y/second': 1 })).toMatch(/^pool A is 2, the plan uses 4 \(3 of it cannot be changed\)$/m);
    expect(faultsAt(input, { 'y/second': 0 })).not.toMatch(/the plan uses/);
  });

  test('limits that are exceeded, or bind nothing, in silence', () => {
    const fixed = { deployments: [deployment({ id: 'x/first', fixedReplicas: 3 })] };
    const silence = (draft: Draft<Plan>) => {
      draft.warnings = [];
    };
    expect(faultsOf(rivals(pool(2), {}, fixed), silence)).toMatch(/0 warnings limit_exceeded for pool A/);
    expect(faultsOf(rivals({ pools: [{ gpuType: 'H1OO', gpus: 2 }] }), silence)).toMatch(
      /0 warnings limit_without_deployment for pool H1OO/,
    );
    expect(faultsOf(rivals({ quotas: [{ namespace: 'z', gpuType: 'A', gpus: 2 }] }), silence)).toMatch(
      /0 warnings limit_without_deployment for the quota of z on A/,
    );
    expect(
      faultsOf(rivals(pool(9)), (draft) => draft.warnings.push({ code: 'limit_exceeded', message: 'No.' })),
    ).toMatch(/1 warnings limit_exceeded for no limit/);
  });
});

describe('floors', () => {
  const floored = (gpus: number) =>
    rivals(
      pool(gpus),
      { deployments: [deployment({ id: 'y/second', minReplicas: 3 })] },
      { deployments: [deployment({ id: 'x/first', minReplicas: 2 })] },
    );

  test('a floor that is cut though there is room for it', () => {
    expect(faultsAt(floored(4), { 'x/first': 2, 'y/second': 1 })).toMatch(
      /y\/second is planned 1 replicas, outside 2 to 1000 \(its floor of 3 as far as there is room\)/,
    );
  });

  test('a floor that is cut for one that comes after it', () => {
    expect(faultsAt(floored(4), { 'x/first': 1, 'y/second': 3 })).toMatch(
      /x\/first is planned 1 replicas, outside 2 to 1000/,
    );
  });

  test('a floor that yields in silence, and one that is said to', () => {
    expect(faultsAt(floored(4), { 'x/first': 2, 'y/second': 2 })).toMatch(
      /y\/second has a floor that the limits do not allow, and nothing says so/,
    );
    expect(
      faultsOf(floored(5), (draft) =>
        draft.shortfalls.push({ code: 'floor_above_limit', message: 'No.', model: 'second', deployment: 'y/second' }),
      ),
    ).toMatch(/y\/second is said to have a floor above a limit, yet there is room for it/);
  });
});

describe('switching', () => {
  const moving = rivals(
    { options: { startUsdPerReplica: 3, stopUsdPerReplica: 1, horizonHours: 2 } },
    { deployments: [deployment({ id: 'y/second', currentReplicas: 6 })] },
    { deployments: [deployment({ id: 'x/first', currentReplicas: 0 })] },
  );

  test('is paid for by what starts and what stops', () => {
    // (2 × 3 + 4 × 1) / 2 h
    expect(plan(moving).switchingUsdPerHour).toBeCloseTo(5, 9);
    expect(checkPlan(moving, plan(moving))).toEqual([]);
  });

  test('that is not stated, of the plan or of a model', () => {
    expect(
      faultsOf(moving, (draft) => {
        draft.switchingUsdPerHour = 0;
        draft.objectiveUsdPerHour = draft.usdPerHour;
      }),
    ).toMatch(/switchingUsdPerHour is 0, the replicas started and stopped cost 5/);
    expect(
      faultsOf(moving, (draft) => {
        draft.models[0]!.switchingUsdPerHour = 0;
      }),
    ).toMatch(/model "first" states 0 USD\/h of switching, its replicas started and stopped cost 3/);
  });

  test('that is left out of an objective or a bound', () => {
    expect(
      faultsOf(moving, (draft) => {
        draft.objectiveUsdPerHour = draft.usdPerHour;
      }),
    ).toMatch(/objectiveUsdPerHour is 4, not usdPerHour \+ switchingUsdPerHour/);
    expect(
      faultsOf(moving, (draft) => {
        draft.models[0]!.boundUsdPerHour -= 3;
      }),
    ).toMatch(
      /model "first" states a gap of 0, objective and bound give 0\.6[\s\S]*the bounds of the models add up to/,
    );
  });
});

describe('proportional routing', () => {
  const routed = (overrides: Overrides = {}) =>
    problem({
      demand: [short(10), long(2)],
      deployments: [
        deployment({ id: 'x/a', profile: shortAndLong(10, 2) }),
        deployment({ id: 'x/b', gpuType: 'B', usdPerReplicaHour: 2, profile: shortAndLong(20, 1), maxReplicas: 2 }),
      ],
      options: { routing: 'proportional' },
      ...overrides,
    });

  test('other shares of one bucket', () => {
    const input = problem({
      demand: [short(10), long(2)],
      deployments: [
        deployment({ id: 'x/a', profile: shortAndLong(10, 2), maxReplicas: 1, minReplicas: 1 }),
        deployment({ id: 'x/b', gpuType: 'B', profile: shortAndLong(10, 2), minReplicas: 1 }),
      ],
      options: { routing: 'proportional' },
    });
    expect(checkPlan(input, plan(input))).toEqual([]);
    const free = { ...input, options: { ...input.options, routing: 'free' as const } };
    expect(
      checkPlan(input, { ...plan(free), routing: 'proportional', shares: twisted(plan(free)) }).join('\n'),
    ).toMatch(/bucket 2048:64 of model "llama" has other shares than 256:64, though routing is proportional/);
  });

  /** All of one bucket here, all of the other there. */
  function twisted(answer: Plan): Plan['shares'] {
    return answer.shares.map((it, b) => ({ ...it, to: [{ deployment: b === 0 ? 'x/a' : 'x/b', share: 1 }] }));
  }

  test('demand that only fits with shares of its own', () => {
    const input = routed();
    expect(faultsOf(input, (draft) => draft.shares[0]!.to.pop())).not.toBe('');
    expect(checkPlan(input, plan(input))).toEqual([]);
  });

  test('no deployment for all buckets, in silence', () => {
    const input = routed({
      deployments: [
        deployment({ id: 'x/a', profile: shortAndLong(10, 0) }),
        deployment({ id: 'x/b', profile: shortAndLong(0, 1) }),
      ],
    });
    const answer = plan(input);
    expect(checkPlan(input, answer)).toEqual([]);
    expect(answer.unserved.map(({ reason }) => reason)).toEqual(['slo', 'slo']);
    expect(
      faultsOf(input, (draft) => {
        draft.warnings = [];
      }),
    ).toMatch(/model "llama" has no deployment that serves all of its buckets, and nothing says so/);
  });

  test('demand that is left though a deployment could take its part of all', () => {
    expect(faultsAt(routed({ pools: [{ gpuType: 'A', gpus: 2 }] }), { 'x/a': 1, 'x/b': 0 })).toMatch(
      /bucket 256:64 of model "llama" leaves 5\.\d+ requests\/s unserved, though x\/a could grow by 1 to serve/,
    );
  });
});

describe('demand that is left', () => {
  test('though the pool, the quota and the budget have room for one more replica', () => {
    const limits = (gpus: number, usd: number) =>
      rivals({ ...pool(gpus), quotas: [{ namespace: 'y', gpuType: 'A', gpus: 2 }], budgetUsdPerHour: usd });
    const named =
      /bucket 256:64 of model "second" leaves [\d.]+ requests\/s unserved, though y\/second could grow by 1 to serve 10/;
    expect(faultsAt(limits(4, 4), { 'x/first': 2, 'y/second': 1 })).toMatch(named);
    expect(faultsAt(limits(3, 4), { 'x/first': 2, 'y/second': 1 })).not.toMatch(/could grow/);
    expect(faultsAt(limits(4, 3.5), { 'x/first': 2, 'y/second': 1 })).not.toMatch(/could grow/);
    expect(faultsAt(limits(4, 4), { 'x/first': 2, 'y/second': 2 })).not.toMatch(/could grow/);
  });

  test('though less important demand has the room', () => {
    const named =
      /bucket 256:64 of model "first" leaves [\d.]+ requests\/s unserved, though x\/first could grow by 1 to serve 10[\d.]* in place of demand that comes after it/;
    expect(faultsAt(rivals(pool(2)), { 'x/first': 1, 'y/second': 1 })).toMatch(named);
    expect(faultsAt(rivals({ budgetUsdPerHour: 2 }), { 'x/first': 1, 'y/second': 1 })).toMatch(named);
    expect(faultsAt(rivals(pool(2)), { 'x/first': 2, 'y/second': 0 })).not.toMatch(/in place of/);
  });

  test('though two smaller replicas of less important demand have the room', () => {
    const input = rivals(pool(4), {}, { deployments: [deployment({ id: 'x/first', gpusPerReplica: 2 })] });
    expect(faultsAt(input, { 'x/first': 1, 'y/second': 2 })).toMatch(
      /x\/first could grow by 1 to serve .* in place of/,
    );
  });

  test('but not in place of equal, promised, or fixed demand, or of floors', () => {
    const at = { 'x/first': 1, 'y/second': 1 };
    expect(faultsAt(rivals(pool(2), { priority: 1 }), at)).not.toMatch(/in place of/);
    expect(faultsAt(rivals(pool(2), { minServedShare: 0.5 }), at)).not.toMatch(/in place of/);
    expect(
      faultsAt(rivals(pool(2), { deployments: [deployment({ id: 'y/second', fixedReplicas: 1 })] }), at),
    ).not.toMatch(/in place of/);
    expect(
      faultsAt(rivals(pool(2), { deployments: [deployment({ id: 'y/second', minReplicas: 1 })] }), at),
    ).not.toMatch(/in place of/);
  });

  test('though it is promised, and the demand that has its room is not, however important', () => {
    expect(faultsAt(rivals(pool(2), { minServedShare: 0.5 }), { 'x/first': 2, 'y/second': 0 })).toMatch(
      /bucket 256:64 of model "second" leaves 20 requests\/s unserved, though y\/second could grow by 2 to serve 20 in place of/,
    );
    expect(faultsAt(rivals(pool(2), { minServedShare: 0.5 }), { 'x/first': 1, 'y/second': 1 })).not.toMatch(
      /in place of/,
    );
  });

  const roomy: readonly (readonly [reason: UnservedReason, limits: Overrides])[] = [
    ['capacity', pool(4)],
    ['quota', { quotas: [{ namespace: 'y', gpuType: 'A', gpus: 2 }] }],
    ['budget', { budgetUsdPerHour: 4 }],
    ['max_replicas', {}],
  ];
  test.each(roomy)('because of %s, which has room for all of it', (reason, limits) => {
    const tight = reason === 'max_replicas' ? pool(3) : {};
    const ceiling = reason === 'max_replicas' ? 2 : 1;
    const input = rivals(
      { ...limits, ...tight },
      { deployments: [deployment({ id: 'y/second', maxReplicas: ceiling })] },
    );
    const faults = faultsOf(input, (draft) => {
      expect(draft.unserved.length).toBe(1);
      draft.unserved[0]!.reason = reason;
    });
    expect(faults).toMatch(
      new RegExp(
        `of model "second" leaves [\\d.]+ requests/s unserved because of ${reason}, which leaves room for all of it`,
      ),
    );
  });
});

describe('the sums by priority', () => {
  const input = rivals(pool(1), { unservedUsdPerRequest: 2 });
  const lies: Record<string, readonly [change: (draft: Draft<Plan>) => void, named: RegExp]> = {
    'a priority left out': [
      (draft) => draft.scarcity.pop(),
      /scarcity is stated for the priorities 1, demand is left unserved at 1, 0/,
    ],
    'a priority without unserved demand': [
      (draft) => draft.scarcity.push({ ...draft.scarcity[0]!, priority: -1 }),
      /scarcity is stated for the priorities 1, 0, -1, demand is left unserved at 1, 0/,
    ],
    'the wrong order': [
      (draft) => {
        draft.scarcity.reverse();
      },
      /scarcity is stated for the priorities 0, 1, demand/,
    ],
    'less demand than is left': [
      (draft) => {
        draft.scarcity[1]!.unservedRps -= 1;
      },
      /priority 0 states 19 unserved requests\/s, its models leave 20/,
    ],
    'another price': [
      (draft) => {
        draft.scarcity[1]!.penaltyUsdPerHour /= 2;
      },
      /priority 0 states a penalty of 72000 USD\/h, its unserved demand weighs 144000/,
    ],
    'a bound above the penalty': [
      (draft) => {
        draft.scarcity[0]!.boundUsdPerHour *= 1.01;
      },
      /priority 1 has a bound of \d+(\.\d+)? on a penalty of/,
    ],
    'a bound that is not a number': [
      (draft) => {
        draft.scarcity[0]!.boundUsdPerHour = Number.NaN;
      },
      /priority 1 has a bound of NaN/,
    ],
    'a proof with an open bound': [
      (draft) => {
        draft.scarcity[0]!.boundUsdPerHour /= 2;
      },
      /priority 1 is called proven with a bound of/,
    ],
    'optimal models without a proof': [
      (draft) => {
        draft.scarcity[0]!.proven = false;
      },
      /priority 1 is not proven to leave the least unserved, yet all of its models that leave some are called optimal/,
    ],
  };

  test.each(Object.entries(lies))('%s', (_, [change, named]) => {
    expect(faultsOf(input, change)).toMatch(named);
  });

  test('hold as they are', () => {
    expect(plan(input).scarcity.map(({ priority }) => priority)).toEqual([1, 0]);
    expect(checkPlan(input, plan(input))).toEqual([]);
  });
});

describe('what is published on the way', () => {
  const moving = (ready: number | null, gpus = 4) =>
    rivals(
      pool(gpus),
      { deployments: [deployment({ id: 'y/second', currentReplicas: 2, readyReplicas: 2 })] },
      { deployments: [deployment({ id: 'x/first', currentReplicas: 1, readyReplicas: ready })] },
    );
  const publish = (replicas: number) => (draft: Draft<Plan>) => {
    const entry = draft.deployments.find(({ id }) => id === 'x/first')!;
    draft.publishedUsdPerHour += replicas - entry.replicas!;
    entry.replicas = replicas;
  };

  test('beyond the target, or away from it', () => {
    const named = /x\/first publishes \d replicas, not between the 1 it has and its target 2/;
    expect(faultsOf(moving(1), publish(3))).toMatch(named);
    expect(faultsOf(moving(1), publish(0))).toMatch(named);
    expect(faultsOf(moving(1), publish(1))).toBe('');
    expect(faultsOf(moving(1), publish(2))).toBe('');
  });

  test('a step where nobody could see that it was made', () => {
    expect(faultsOf(moving(null), publish(1))).toMatch(/x\/first publishes 1 replicas, it goes to its 2 at once/);
  });

  test('nothing, or a part of a replica', () => {
    expect(faultsOf(moving(1), publish(1.5))).toMatch(/x\/first publishes 1\.5 replicas/);
    expect(
      faultsOf(moving(1), (draft) => {
        Object.assign(draft.deployments.find(({ id }) => id === 'x/first')!, { replicas: null });
      }),
    ).toMatch(/x\/first publishes no replicas, yet 2 are planned/);
  });

  test('growth where the replicas that go are still in the pool', () => {
    // The second model gives one of its GPUs to the first; until that replica is gone, the pool is full.
    expect(faultsOf(moving(1, 3), publish(2))).toMatch(
      /^x\/first publishes 2 replicas \(1 ready\), though 4 of 3 are taken in pool A then$/m,
    );
    expect(faultsOf(moving(1, 3), publish(1))).toBe('');
  });

  /** The first model waits for a second GPU, which the second model still has. */
  const waiting = ({ gpus }: { readonly gpus: number | null }) =>
    rivals(
      gpus === null ? {} : pool(gpus),
      { deployments: [deployment({ id: 'y/second', currentReplicas: 2, readyReplicas: 2 })] },
      { deployments: [deployment({ id: 'x/first', currentReplicas: 2, readyReplicas: 1 })] },
    );

  test('replicas that could not start, though no step asked for them anew', () => {
    expect(faultsOf(waiting({ gpus: 3 }), publish(2))).toMatch(
      /^x\/first publishes 2 replicas \(1 ready\), though 4 of 3 are taken in pool A then$/m,
    );
    expect(faultsOf(waiting({ gpus: 3 }), publish(1))).toBe('');
  });

  test('fewer than are ready, or fewer than now and in the end without a limit that keeps them out', () => {
    const named = /x\/first publishes \d replicas, not between the 2 it has and its target 2/;
    expect(faultsOf(waiting({ gpus: 3 }), publish(0))).toMatch(named);
    expect(faultsOf(waiting({ gpus: null }), publish(1))).toMatch(named);
  });

  test('more than fits, of which each is ready', () => {
    // What runs may be above a limit; it goes step by step.
    const input = rivals(
      pool(2),
      { deployments: [deployment({ id: 'y/second', currentReplicas: 3, readyReplicas: 3 })] },
      { deployments: [deployment({ id: 'x/first', currentReplicas: 1, readyReplicas: 1 })] },
    );
    expect(checkPlan(input, plan(input))).toEqual([]);
  });
});

describe('random joint plans', () => {
  let cases: readonly { readonly input: PlanningProblem; readonly answer: Plan }[];
  beforeAll(() => {
    cases = [
      ...Array.from({ length: 60 }, (_, index) => jointProblem(7_000 + index, tinyJoint)),
      ...Array.from({ length: 60 }, (_, index) => jointProblem(8_000 + index, smallJoint)),
    ].map((input) => ({ input, answer: plan({ ...input, options: { ...input.options, nodeLimit: 20_000 } }) }));
  });

  test('keep their promises, and none is held', () => {
    const broken = cases.flatMap(({ input, answer }, index) => [
      ...checkPlan(input, answer).map((fault) => `${index}: ${fault}`),
      ...answer.models.filter(({ status }) => status === 'held').map(({ name }) => `${index}: ${name} is held`),
    ]);
    expect(broken).toEqual([]);
  });

  /** Another number of replicas, with all the money that follows from it. */
  function withReplicas(input: PlanningProblem, answer: Plan, id: string, replicas: number): Plan {
    const draft = structuredClone(answer) as Draft<Plan>;
    const entry = draft.deployments.find((it) => it.id === id)!;
    const source = input.models.flatMap(({ deployments }) => deployments).find((it) => it.id === id)!;
    const ofModel = draft.models.find(({ name }) => name === entry.model)!;
    const { startUsdPerReplica: start, stopUsdPerReplica: stop, horizonHours } = input.options;
    const switchingAt = (count: number): number => {
      const change = source.currentReplicas === null ? 0 : count - source.currentReplicas;
      return (Math.max(0, change) * start + Math.max(0, -change) * stop) / horizonHours;
    };
    const usd = (replicas - entry.targetReplicas!) * source.usdPerReplicaHour;
    const switching = switchingAt(replicas) - switchingAt(entry.targetReplicas!);
    entry.utilization *= replicas === 0 ? 0 : entry.targetReplicas! / replicas;
    entry.targetReplicas = replicas;
    entry.usdPerHour += usd;
    if (source.readyReplicas === null) {
      draft.publishedUsdPerHour += (replicas - entry.replicas!) * source.usdPerReplicaHour;
      entry.replicas = replicas;
    }
    for (const money of [ofModel, draft]) {
      money.usdPerHour += usd;
      money.switchingUsdPerHour += switching;
    }
    draft.objectiveUsdPerHour += usd + switching;
    const gapOf = (objective: number, bound: number) =>
      objective > 0 ? Math.max(0, (objective - bound) / objective) : 0;
    ofModel.gap = gapOf(ofModel.usdPerHour + ofModel.switchingUsdPerHour, ofModel.boundUsdPerHour);
    draft.gap = gapOf(draft.objectiveUsdPerHour, draft.boundUsdPerHour);
    return draft;
  }

  test('do not pass with one replica more or less anywhere, however well the money is cooked', () => {
    const passed: string[] = [];
    let tried = 0;
    cases.forEach(({ input, answer }, index) => {
      for (const { id, targetReplicas } of answer.deployments) {
        const source = input.models.flatMap(({ deployments }) => deployments).find((it) => it.id === id)!;
        // What costs nothing and uses nothing may as well run.
        const isFree = source.usdPerReplicaHour === 0;
        const runsOrStops = input.options.startUsdPerReplica + input.options.stopUsdPerReplica > 0;
        if (targetReplicas === null || isFree || runsOrStops) continue;
        const ofModel = answer.models.find(({ name }) =>
          input.models.some((it) => it.name === name && it.deployments.includes(source)),
        )!;
        if (ofModel.status === 'infeasible') continue;
        for (const replicas of [targetReplicas - 1, targetReplicas + 1]) {
          if (replicas < 0) continue;
          tried++;
          if (checkPlan(input, withReplicas(input, answer, id, replicas)).length === 0) {
            passed.push(`${index}: ${id} at ${replicas} instead of ${targetReplicas}`);
          }
        }
      }
    });
    expect(passed).toEqual([]);
    expect(tried).toBeGreaterThan(300);
  });

  test('do not pass with any number in them changed', () => {
    const random = seededRandom(3);
    const passed: string[] = [];
    let tried = 0;
    cases.forEach(({ input, answer }, index) => {
      for (let k = 0; k < 12; k++) {
        const draft = structuredClone(answer) as Draft<Plan>;
        const numbers = numbersIn(draft).filter(({ path }) => !/^solver|bound|planAt|merging/i.test(path));
        const { holder, key, path } = random.pick(numbers);
        const before = holder[key] as number;
        holder[key] = before + random.pick([1, -1, 0.25]) * Math.max(1, Math.abs(before) * 0.1);
        tried++;
        if (checkPlan(input, draft).length === 0) passed.push(`${index}: ${path} ${before} as ${String(holder[key])}`);
      }
    });
    expect(passed).toEqual([]);
    expect(tried).toBeGreaterThan(1_000);
  });

  type Place = { readonly holder: Record<string, unknown>; readonly key: string; readonly path: string };

  function numbersIn(value: unknown, path = ''): readonly Place[] {
    if (typeof value !== 'object' || value === null) return [];
    return Object.entries(value).flatMap(([key, inner]) =>
      typeof inner === 'number'
        ? [{ holder: value as Record<string, unknown>, key, path: `${path}${key}` }]
        : numbersIn(inner, `${path}${key}.`),
    );
  }
});
