import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { checkPlan } from '../../src/optimizer/check.js';
import { plan } from '../../src/optimizer/plan.js';
import { deployment, flat, long, model, problem, short, shortAndLong } from './builders.js';
import { corpus, rawWindowInstance } from './corpus.js';

/**
 * A plan with something of everything: two models, one of them short of replicas; best effort, extrapolation, a floor,
 * a fixed count, a deployment without a profile, an idle bucket, a gap of nothing.
 */
const whole: PlanningProblem = problem({
  at: '2026-11-20T10:00:00Z',
  models: [
    model({
      name: 'llama',
      demand: [
        short(30),
        long(4),
        { inputTokens: 4096, outputTokens: 64, rps: 1 },
        { inputTokens: 9, outputTokens: 9, rps: 0 },
      ],
      deployments: [
        deployment({ id: 'default/a', profile: shortAndLong(10, 2), minReplicas: 2 }),
        deployment({
          id: 'default/b',
          gpuType: 'B',
          usdPerReplicaHour: 3,
          profile: shortAndLong(20, 1),
          fixedReplicas: 1,
        }),
        deployment({ id: 'default/none', gpuType: 'C', profile: null, currentReplicas: 2 }),
      ],
    }),
    model({
      name: 'qwen',
      demand: [short(4), long(1)],
      unservedUsdPerRequest: 2,
      deployments: [deployment({ id: 'team/q', profile: shortAndLong(4, 0), maxReplicas: 2 })],
    }),
  ],
});
const good = plan(whole);

type Draft<T> = T extends readonly (infer Item)[]
  ? Draft<Item>[]
  : T extends object
    ? { -readonly [Key in keyof T]: Draft<T[Key]> }
    : T;

/** What the checker says of the plan after one thing was changed in a copy of it. */
function faultsOf(
  change: (plan: Draft<Plan>) => void,
  of: { problem: PlanningProblem; plan: Plan } = { problem: whole, plan: good },
) {
  const changed = structuredClone(of.plan) as Draft<Plan>;
  change(changed);
  return checkPlan(of.problem, changed);
}

const deploymentOf = (draft: Draft<Plan>, id: string) => draft.deployments.find((it) => it.id === id)!;
const bucketOf = (draft: Draft<Plan>, name: string, index: number) =>
  draft.shares.filter((it) => it.model === name)[index]!;

describe('the checker', () => {
  test('finds nothing in a plan that keeps its promises', () => {
    expect(checkPlan(whole, good)).toEqual([]);
    // The plan is worth corrupting: it has all that the changes below are about.
    expect(good.unserved).not.toEqual([]);
    expect(good.shares.some(({ bestEffort }) => bestEffort)).toBe(true);
    expect(good.shares.some(({ extrapolated }) => extrapolated)).toBe(true);
    expect(good.shares.some(({ to }) => to.length > 1)).toBe(true);
    expect(good.warnings.map(({ code }) => code).toSorted()).toEqual(['best_effort', 'no_profile']);
  });

  test('finds nothing in the plans of the corpus', () => {
    const broken = corpus()
      .filter(({ buckets }, index) => index % 5 === 0 && buckets <= 150)
      .concat(rawWindowInstance(500, 9))
      .flatMap(({ name, problem: input }) => checkPlan(input, plan(input)).map((fault) => `${name}: ${fault}`));
    expect(broken).toEqual([]);
  });

  test('shares nothing with the solvers: it imports the vocabulary only', () => {
    const folder = new URL('../../src/optimizer/', import.meta.url);
    const files = ['check.ts', ...readdirSync(new URL('check/', folder)).map((file) => `check/${file}`)];
    const outside = files.flatMap((file) => {
      const source = readFileSync(new URL(file, folder), 'utf8');
      const targets = [...source.matchAll(/from '([^']+)'/g)].map(([, from]) => new URL(from!, new URL(file, folder)));
      expect(targets.length).toBeGreaterThan(file === 'check/faults.ts' ? -1 : 0);
      return targets.map(({ pathname }) => pathname).filter((path) => !/\/(core|optimizer\/check)\/[^/]+$/.test(path));
    });
    expect(files.length).toBeGreaterThan(5);
    expect(outside).toEqual([]);
  });

  test('lists at most twenty faults of a plan that is wrong throughout', () => {
    expect(faultsOf((it) => it.shares.splice(0)).length).toBeGreaterThan(0);
    const many = problem({
      models: Array.from({ length: 40 }, (_, i) =>
        model({ name: `m${i}`, deployments: [deployment({ id: `d/${i}` })] }),
      ),
    });
    const changed = { problem: many, plan: plan(many) };
    expect(
      faultsOf((it) => {
        for (const planned of it.deployments) planned.usdPerHour += 1;
      }, changed),
    ).toHaveLength(20);
  });
});

/** Each is one lie, and the words by which the checker names it. */
const lies: Record<string, readonly [change: (plan: Draft<Plan>) => void, named: RegExp]> = {
  'replicas below a floor': [
    (it) => {
      deploymentOf(it, 'default/a').targetReplicas = 1;
    },
    /default\/a is planned 1 replicas, outside 2 to 1000/,
  ],
  'replicas above a ceiling': [
    (it) => {
      deploymentOf(it, 'team/q').targetReplicas = 3;
    },
    /team\/q is planned 3 replicas, outside 0 to 2/,
  ],
  'replicas other than the fixed ones': [
    (it) => {
      deploymentOf(it, 'default/b').targetReplicas = 2;
    },
    /default\/b is fixed at 1, planned 2/,
  ],
  'replicas of a deployment without a profile': [
    (it) => {
      deploymentOf(it, 'default/none').targetReplicas = 1;
    },
    /default\/none has no profile and runs 2, planned 1/,
  ],
  'parts of replicas': [
    (it) => {
      deploymentOf(it, 'default/a').targetReplicas! += 0.5;
    },
    /default\/a has \d+\.5 target replicas/,
  ],
  'parts of published replicas': [
    (it) => {
      deploymentOf(it, 'default/a').replicas! += 0.5;
    },
    /default\/a publishes \d+\.5 replicas/,
  ],
  'replicas that are not a number': [
    (it) => {
      deploymentOf(it, 'default/a').targetReplicas = Number.NaN;
    },
    /default\/a has NaN target replicas/,
  ],
  'no replicas for a deployment with a profile': [
    (it) => {
      deploymentOf(it, 'default/a').targetReplicas = null;
    },
    /default\/a has a profile but no target/,
  ],
  'no replicas for a deployment that is known to run': [
    (it) => {
      Object.assign(deploymentOf(it, 'default/none'), { replicas: null, targetReplicas: null, usdPerHour: 0 });
    },
    /default\/none has no target, yet its replicas are known/,
  ],
  'nothing published where something is planned': [
    (it) => {
      deploymentOf(it, 'default/a').replicas = null;
    },
    /default\/a publishes no replicas/,
  ],
  'one replica too few for the work': [
    (it) => {
      const planned = deploymentOf(it, 'default/a');
      planned.targetReplicas! -= 1;
    },
    /default\/a has work for [\d.]+ replicas at/,
  ],
  'a millionth too much work': [
    (it) => {
      // All of qwen's two replicas are full: a little less unserved is too much.
      const bucket = bucketOf(it, 'qwen', 1);
      const moved = 1e-6 * bucket.to[0]!.share;
      bucket.to[0]!.share += moved;
      bucket.unservedShare -= moved;
    },
    /team\/q has work for 2\.000\d+ replicas at 2 × 1/,
  ],
  'a missing deployment': [
    (it) => it.deployments.splice(0, 1),
    /4 deployments are planned|3 deployments are planned, 4 are asked for/,
  ],
  'another deployment in its place': [
    (it) => {
      deploymentOf(it, 'default/a').id = 'default/z';
    },
    /default\/a is not planned for model "llama" on A/,
  ],
  'a deployment twice': [(it) => it.deployments.push(it.deployments[0]!), /a deployment is planned twice/],
  'a deployment of another model': [
    (it) => {
      deploymentOf(it, 'default/a').model = 'qwen';
    },
    /default\/a is not planned for model "llama"/,
  ],
  'another GPU type': [
    (it) => {
      deploymentOf(it, 'default/a').gpuType = 'B';
    },
    /default\/a is not planned for model "llama" on A/,
  ],
  'no reason': [
    (it) => {
      deploymentOf(it, 'default/a').reason = '';
    },
    /default\/a has no sentence as its reason/,
  ],
  'shares that sum to less than 1': [
    (it) => {
      bucketOf(it, 'llama', 0).to[0]!.share *= 0.999;
    },
    /bucket 256:64 of model "llama" has shares that sum to 0\.999/,
  ],
  'shares that sum to more than 1': [
    (it) => {
      bucketOf(it, 'qwen', 1).unservedShare += 0.01;
    },
    /bucket 2048:64 of model "qwen" has shares that sum to 1\.0/,
  ],
  'a negative share': [
    (it) => {
      bucketOf(it, 'llama', 1).to[0]!.share *= -1;
    },
    /bucket 2048:64 of model "llama" has share -/,
  ],
  'a share that is not a number': [
    (it) => {
      bucketOf(it, 'llama', 1).to[0]!.share = Number.NaN;
    },
    /has share NaN/,
  ],
  'an unserved share that is not a number': [
    (it) => {
      bucketOf(it, 'llama', 1).unservedShare = Number.NaN;
    },
    /has an unserved share of NaN/,
  ],
  'a share on a deployment of another model': [
    (it) => {
      bucketOf(it, 'llama', 1).to[0]!.deployment = 'team/q';
    },
    /has share [\d.]+ on team\/q/,
  ],
  'a share on a deployment without a profile': [
    (it) => {
      bucketOf(it, 'llama', 1).to[0]!.deployment = 'default/none';
    },
    /has share [\d.]+ on default\/none/,
  ],
  'a deployment named twice in a bucket': [
    (it) => {
      const { to } = bucketOf(it, 'llama', 1);
      const [first] = to;
      to.splice(0, 1, { ...first!, share: first!.share / 2 }, { ...first!, share: first!.share / 2 });
    },
    /bucket 2048:64 of model "llama" names a deployment twice/,
  ],
  'shares of a bucket without demand': [
    (it) => {
      bucketOf(it, 'llama', 3).to.push({ deployment: 'default/a', share: 1 });
    },
    /bucket 9:9 of model "llama" has no demand but shares/,
  ],
  'a bucket left out': [(it) => it.shares.splice(0, 1), /model "llama" has shares for 3 of 4 buckets/],
  'a bucket with another rate': [
    (it) => {
      bucketOf(it, 'llama', 0).rps = 3;
    },
    /bucket 256:64 of model "llama" is not the bucket at its place/,
  ],
  'buckets in another order': [
    (it) => {
      it.shares.splice(0, 2, it.shares[1]!, it.shares[0]!);
    },
    /bucket 256:64 of model "llama" is not the bucket at its place/,
  ],
  'shares of a model that is not asked for': [
    (it) => it.shares.push({ ...it.shares[0]!, model: 'ghost' }),
    /there are shares of model "ghost"/,
  ],
  'best effort where the SLO is met': [
    (it) => {
      bucketOf(it, 'llama', 0).bestEffort = true;
    },
    /bucket 256:64 of model "llama" is called best effort, yet a deployment meets its SLO/,
  ],
  'the SLO where there is only best effort': [
    (it) => {
      bucketOf(it, 'qwen', 1).bestEffort = false;
    },
    /bucket 2048:64 of model "qwen" is not called best effort, yet no deployment meets its SLO/,
  ],
  'best effort without a warning': [
    (it) => {
      it.warnings = it.warnings.filter(({ code }) => code !== 'best_effort');
    },
    /model "qwen" does not say that it serves by best effort/,
  ],
  'no profile without a warning': [
    (it) => {
      it.warnings = it.warnings.filter(({ code }) => code !== 'no_profile');
    },
    /default\/none has no profile, and nothing says so/,
  ],
  'extrapolation that is not marked': [
    (it) => {
      bucketOf(it, 'llama', 2).extrapolated = false;
    },
    /bucket 4096:64 of model "llama" is not called extrapolated/,
  ],
  'extrapolation inside the grid': [
    (it) => {
      bucketOf(it, 'llama', 0).extrapolated = true;
    },
    /bucket 256:64 of model "llama" is called extrapolated/,
  ],
  'unserved demand that is not listed': [
    (it) => it.unserved.splice(0),
    /of model "qwen" leaves [\d.]+ requests\/s unserved, which are not listed/,
  ],
  'less unserved demand than there is': [
    (it) => {
      it.unserved[0]!.rps *= 0.999;
    },
    /of model "qwen" lists [\d.]+ unserved requests\/s, its shares leave/,
  ],
  'unserved demand of a bucket that is served': [
    (it) => it.unserved.push({ ...it.unserved[0]!, model: 'llama', inputTokens: 256 }),
    /bucket 256:64 of model "llama" lists [\d.]+ unserved requests\/s, its shares leave 0/,
  ],
  'unserved demand of a model that is not asked for': [
    (it) => it.unserved.push({ ...it.unserved[0]!, model: 'ghost' }),
    /demand of model "ghost" is unserved/,
  ],
  'another reason why demand is unserved': [
    (it) => {
      it.unserved[0]!.reason = 'slo';
    },
    /of model "qwen" is unserved because of slo, yet a deployment can serve it/,
  ],
  'wrong utilization': [
    (it) => {
      deploymentOf(it, 'default/a').utilization += 1e-6;
    },
    /default\/a states utilization/,
  ],
  'wrong money of a deployment': [
    (it) => {
      deploymentOf(it, 'default/a').usdPerHour += 0.01;
    },
    /default\/a states [\d.]+ USD\/h/,
  ],
  'wrong money of a model': [
    (it) => {
      it.models[0]!.usdPerHour += 0.01;
    },
    /model "llama" states [\d.]+ USD\/h/,
  ],
  'wrong money of the plan': [
    (it) => {
      it.usdPerHour += 0.01;
      it.objectiveUsdPerHour += 0.01;
    },
    /^usdPerHour is/m,
  ],
  'wrong published money': [
    (it) => {
      it.publishedUsdPerHour -= 0.01;
    },
    /publishedUsdPerHour is/,
  ],
  'an objective that is not its parts': [
    (it) => {
      it.objectiveUsdPerHour += 0.01;
    },
    /objectiveUsdPerHour is/,
  ],
  'switching that is not paid for': [
    (it) => {
      it.switchingUsdPerHour += 1;
      it.objectiveUsdPerHour += 1;
    },
    /switchingUsdPerHour is 1/,
  ],
  'a wrong penalty': [
    (it) => {
      it.penaltyUsdPerHour /= 2;
    },
    /penaltyUsdPerHour is/,
  ],
  'a bound above the objective': [
    (it) => {
      it.models[0]!.boundUsdPerHour += 0.01;
    },
    /model "llama" has a bound of/,
  ],
  'a bound of the plan above its objective': [
    (it) => {
      it.boundUsdPerHour += 0.01;
    },
    /the plan has a bound of/,
  ],
  'a bound of the plan above those of its models': [
    (it) => {
      Object.assign(it.models[0]!, { status: 'feasible', boundUsdPerHour: 0, gap: 1 });
      it.status = 'feasible';
    },
    /boundUsdPerHour is [\d.]+, the bounds of the models add up to/,
  ],
  'a negative bound': [
    (it) => {
      it.models[0]!.boundUsdPerHour = -1;
    },
    /model "llama" has a negative bound/,
  ],
  'a bound that is not a number': [
    (it) => {
      it.models[0]!.boundUsdPerHour = Number.NaN;
    },
    /model "llama" has a bound of NaN/,
  ],
  'a gap that is not that of bound and objective': [
    (it) => {
      it.models[0]!.gap = 0.1;
    },
    /model "llama" states a gap of 0\.1/,
  ],
  'optimality with an open bound': [
    (it) => {
      const entry = it.models[0]!;
      entry.boundUsdPerHour = entry.usdPerHour / 2;
      entry.gap = 0.5;
    },
    /model "llama" is called optimal with a gap of 0\.5/,
  ],
  'a status better than its models': [
    (it) => {
      it.models[0]!.status = 'feasible';
    },
    /status is optimal, the worst of its models is feasible/,
  ],
  'infeasibility where enough is served': [
    (it) => {
      it.models[0]!.status = 'infeasible';
      it.status = 'infeasible';
    },
    /model "llama" is infeasible, yet serves 1 of its demand/,
  ],
  'a held model without a reason': [
    (it) => {
      it.models[0]!.status = 'held';
      it.status = 'held';
    },
    /model "llama" is held with the held reason null/,
  ],
  'a reason to hold a model that is planned': [
    (it) => {
      it.models[0]!.heldReason = 'no_traces';
    },
    /model "llama" is optimal with the held reason no_traces/,
  ],
  'a model left out': [(it) => it.models.splice(1), /1 models are planned, 2 are asked for/],
  'models in another order': [
    (it) => {
      it.models.reverse();
    },
    /model "llama" has no entry in models\[0\]/,
  ],
  'another time': [
    (it) => {
      it.at = '2026-11-20T10:00:10Z';
    },
    /the plan is of 2026-11-20T10:00:10Z/,
  ],
  'a model of another time': [
    (it) => {
      it.models[0]!.planAt = null;
    },
    /model "llama" is of null/,
  ],
  'another routing': [
    (it) => {
      it.routing = 'proportional';
    },
    /the plan assumes proportional routing/,
  ],
};

describe('the checker names', () => {
  test.each(Object.entries(lies))('%s', (_, [change, named]) => {
    expect(faultsOf((it) => void change(it)).join('\n')).toMatch(named);
  });

  test('a placement where a deployment cannot serve, though another can', () => {
    const input = problem({
      demand: [short(1), long(1)],
      deployments: [
        deployment({ id: 'd/a', profile: shortAndLong(10, 0), minReplicas: 1 }),
        deployment({ id: 'd/b', profile: shortAndLong(0, 1) }),
      ],
    });
    const faults = faultsOf(
      (it) => {
        it.shares[1]!.to[0]!.deployment = 'd/a';
      },
      { problem: input, plan: plan(input) },
    );
    expect(faults.join('\n')).toMatch(/bucket 2048:64 of model "llama" is placed on d\/a, which cannot serve it/);
  });

  test('a placement beyond maxTokens', () => {
    const input = problem({ demand: [long(1)], deployments: [deployment({ profile: shortAndLong(10, 1) })] });
    const limited = problem({
      demand: [long(1)],
      deployments: [deployment({ profile: shortAndLong(10, 1), maxTokens: 2048 })],
    });
    expect(checkPlan(limited, plan(input)).join('\n')).toMatch(/is placed on default\/a, which cannot serve it/);
  });

  test('an idle floor that is not kept while idle', () => {
    const input = problem({ demand: [short(0)], deployments: [deployment({ idleMinReplicas: 2 })] });
    const faults = faultsOf(
      (it) => {
        Object.assign(it.deployments[0]!, { targetReplicas: 1 });
      },
      { problem: input, plan: plan(input) },
    );
    expect(faults.join('\n')).toMatch(/default\/a is planned 1 replicas, outside 2 to 1000/);
  });

  test('room that is filled beyond the target utilization', () => {
    const at = (targetUtilization: number) =>
      problem({ demand: [short(9)], deployments: [deployment({ targetUtilization })] });
    expect(checkPlan(at(0.8), plan(at(1))).join('\n')).toMatch(/default\/a has work for 0\.9 replicas at 1 × 0\.8/);
  });

  test('demand that is left though a deployment could grow to serve it', () => {
    const at = (maxReplicas: number) => problem({ demand: [short(20)], deployments: [deployment({ maxReplicas })] });
    expect(checkPlan(at(2), plan(at(1))).join('\n')).toMatch(
      /bucket 256:64 of model "llama" leaves 10\.0+1 requests\/s unserved, though default\/a could grow by 1 to serve 10/,
    );
  });

  test('demand that nobody can serve, given another reason', () => {
    const input = problem({ demand: [short(2)], deployments: [deployment({ profile: flat(0) })] });
    const faults = faultsOf(
      (it) => {
        it.unserved[0]!.reason = 'max_replicas';
      },
      { problem: input, plan: plan(input) },
    );
    expect(faults.join('\n')).toMatch(
      /bucket 256:64 of model "llama" is unserved because of max_replicas, yet nothing can serve it/,
    );
  });

  test('a promise of minServedShare that is broken in silence', () => {
    const input = problem({ demand: [short(20)], deployments: [deployment({ maxReplicas: 1 })], minServedShare: 0.9 });
    const answer = plan(input);
    const unsaid = faultsOf(
      (it) => {
        it.shortfalls = [];
      },
      { problem: input, plan: answer },
    );
    expect(unsaid.join('\n')).toMatch(/does not say that too little of its demand is served/);
    const called = faultsOf(
      (it) => {
        it.status = 'optimal';
        it.models[0]!.status = 'optimal';
      },
      { problem: input, plan: answer },
    );
    expect(called.join('\n')).toMatch(
      /model "llama" is optimal, yet serves 0\.49+5 of its demand where 0\.9 is required/,
    );
  });

  test('a floor that yields in silence', () => {
    const input = problem({ demand: [], deployments: [deployment({ idleMinReplicas: 3, maxReplicas: 1 })] });
    const faults = faultsOf(
      (it) => {
        it.shortfalls = [];
      },
      { problem: input, plan: plan(input) },
    );
    expect(faults).toEqual(['default/a has a floor above its ceiling, and nothing says so']);
  });

  test('hostile names in one line', () => {
    const input = problem({
      name: `a\nb${'x'.repeat(4000)}`,
      deployments: [deployment({ profile: null, currentReplicas: 1 })],
    });
    const [fault] = faultsOf(
      (it) => {
        it.models[0]!.usdPerHour = 99;
      },
      { problem: input, plan: plan(input) },
    );
    expect(fault).not.toContain('\n');
    expect(fault!.length).toBeLessThan(200);
  });
});

describe('a held model', () => {
  test('may run outside its bounds and has no shares, but its money is checked', () => {
    const input = problem({ deployments: [deployment({ minReplicas: 3, currentReplicas: 1 })] });
    const held = structuredClone(plan(input)) as Draft<Plan>;
    Object.assign(held.deployments[0]!, { replicas: 1, targetReplicas: 1, usdPerHour: 1, utilization: 0 });
    Object.assign(held.models[0]!, {
      status: 'held',
      heldReason: 'planning_failed',
      usdPerHour: 1,
      boundUsdPerHour: 0,
      gap: 1,
    });
    Object.assign(held, {
      status: 'held',
      shares: [],
      usdPerHour: 1,
      publishedUsdPerHour: 1,
      objectiveUsdPerHour: 1,
      boundUsdPerHour: 0,
      gap: 1,
    });
    expect(checkPlan(input, held)).toEqual([]);
    held.usdPerHour = 2;
    expect(checkPlan(input, held).join('\n')).toMatch(/usdPerHour is 2, the target replicas cost 1/);
  });
});
