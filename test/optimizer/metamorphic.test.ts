import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/core/plan.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../../src/core/planning-problem.js';
import { plan } from '../../src/optimizer/plan.js';
import { seededRandom } from '../support/seeded-random.js';
import { corpus } from './corpus.js';

/**
 * What must follow when a problem is changed in a known way, on the smaller instances of the corpus. No oracle is
 * needed: the plan of the changed problem is judged by the plan of the first.
 */

/** A search with more nodes ends unproven; far above what any of these takes, and the same on every machine. */
const guardNodes = 50_000;

/** Every third instance of moderate size, from every family. */
const instances = corpus().filter(({ gpuTypes, buckets }, index) => index % 3 === 0 && gpuTypes <= 6 && buckets <= 64);

const cases = instances.map(({ name, problem }, index) => ({
  name,
  problem,
  model: problem.models[0]!,
  base: planWithin(problem),
  random: seededRandom(index + 1),
}));
type Case = (typeof cases)[number];

/** A search without end becomes an unproven plan, which every test here reports. */
function planWithin(problem: PlanningProblem): Plan {
  return plan({ ...problem, options: { ...problem.options, nodeLimit: guardNodes } });
}

const unservedRps = (answer: Plan) => answer.unserved.reduce((sum, { rps }) => sum + rps, 0);
const replicasOf = (answer: Plan) => Object.fromEntries(answer.deployments.map((it) => [it.id, it.targetReplicas]));
/** Equal to rounding. */
const near = (a: number, b: number) => Math.abs(a - b) <= 1e-9 * Math.max(1e-9, Math.abs(a), Math.abs(b));
const atMost = (a: number, b: number) => a <= b + 1e-9 * Math.max(1e-9, Math.abs(b));

function withModel(problem: PlanningProblem, model: Partial<ProblemModel>): PlanningProblem {
  return { ...problem, models: [{ ...problem.models[0]!, ...model }] };
}

function withDeployments(
  problem: PlanningProblem,
  change: (deployment: ProblemDeployment) => ProblemDeployment,
): PlanningProblem {
  return withModel(problem, { deployments: problem.models[0]!.deployments.map(change) });
}

/** Runs a change over all cases and lists those in which what must follow did not. */
function violations(
  change: (it: Case) => PlanningProblem | null,
  holds: (base: Plan, changed: Plan, it: Case) => boolean,
): { readonly broken: readonly string[]; readonly tried: number } {
  let tried = 0;
  const broken = cases.flatMap((it) => {
    const problem = change(it);
    if (problem === null) return [];
    tried++;
    let changed: Plan;
    try {
      changed = planWithin(problem);
    } catch (error) {
      return [`${it.name}: ${String(error)}`];
    }
    if (holds(it.base, changed, it)) return [];
    return [
      `${it.name}: ${it.base.status} ${it.base.usdPerHour} (${unservedRps(it.base)} rps unserved) became ${changed.status} ${changed.usdPerHour} (${unservedRps(changed)})`,
    ];
  });
  return { broken, tried };
}

/** A plan as data, without what is allowed to differ when a document is written in another order. */
function inOrder(answer: Plan): unknown {
  const bySize = (a: { inputTokens: number; outputTokens: number }, b: typeof a) =>
    a.inputTokens - b.inputTokens || a.outputTokens - b.outputTokens;
  return {
    ...answer,
    solver: null,
    deployments: answer.deployments.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    shares: answer.shares
      .map((it) => ({ ...it, to: it.to.toSorted((a, b) => (a.deployment < b.deployment ? -1 : 1)) }))
      .toSorted(bySize),
    unserved: answer.unserved.toSorted(bySize),
    // A message may name the first bucket of its kind in the document.
    warnings: answer.warnings.map(({ code }) => code),
  };
}

describe('a plan', () => {
  test('is made of enough cases to mean something, all proven', () => {
    expect(cases.length).toBeGreaterThan(40);
    expect(cases.filter(({ base }) => base.status !== 'optimal').map(({ name }) => name)).toEqual([]);
  });

  test('scales with prices: eight times the prices, the same replicas at eight times the cost', () => {
    const { broken } = violations(
      ({ problem }) => withDeployments(problem, (it) => ({ ...it, usdPerReplicaHour: it.usdPerReplicaHour * 8 })),
      (base, changed) =>
        near(changed.usdPerHour, base.usdPerHour * 8) &&
        JSON.stringify(replicasOf(changed)) === JSON.stringify(replicasOf(base)),
    );
    expect(broken).toEqual([]);
  });

  test('takes replicas that share load for replicas with so many times the throughputs', () => {
    const factors = [1.5, 1.1, 1.25];
    let tried = 0;
    for (const { name, problem } of cases) {
      const pooled = (at: number) => factors[at % factors.length]!;
      const deployments = problem.models[0]!.deployments;
      const byFactor = planWithin(
        withModel(problem, { deployments: deployments.map((it, at) => ({ ...it, poolingFactor: pooled(at) })) }),
      );
      const byProfile = planWithin(
        withModel(problem, {
          deployments: deployments.map((it, at) => ({
            ...it,
            profile: it.profile && {
              ...it.profile,
              tputs: it.profile.tputs.map((row) => row.map((tput) => tput && tput * pooled(at))),
            },
          })),
        }),
      );
      tried += 1;
      expect(byFactor.status, name).toBe('optimal');
      expect(near(byFactor.usdPerHour, byProfile.usdPerHour), name).toBe(true);
      expect(near(unservedRps(byFactor), unservedRps(byProfile)), name).toBe(true);
    }
    expect(tried).toBe(cases.length);
  });

  test('costs the same without a deployment that it does not use', () => {
    const { broken, tried } = violations(
      ({ problem, model, base }) => {
        const used = new Set(base.deployments.filter((it) => it.targetReplicas !== 0).map((it) => it.id));
        const kept = model.deployments.filter(({ id }) => used.has(id));
        if (kept.length === 0 || kept.length === model.deployments.length) return null;
        // Where the demand of a bucket met its SLO only on paper, dropping the deployment changes what is asked.
        if (base.unserved.length > 0 || base.shares.some(({ bestEffort }) => bestEffort)) return null;
        return withModel(problem, { deployments: kept });
      },
      (base, changed) =>
        changed.status === 'optimal' && (near(changed.usdPerHour, base.usdPerHour) || hasBestEffort(changed)),
    );
    expect(broken).toEqual([]);
    expect(tried).toBeGreaterThan(20);
  });

  test('costs the same when the deployment that it uses most appears twice', () => {
    // On all of the corpus but the largest: two deployments of one kind are common (zones, namespaces), and a search
    // that tells them apart does everything twice.
    const broken = corpus()
      .filter(({ gpuTypes, buckets }) => gpuTypes <= 8 && buckets <= 144)
      .flatMap(({ name, problem }) => {
        const model = problem.models[0]!;
        const base = planWithin(problem);
        const replicas = replicasOf(base);
        const copied = model.deployments
          .filter(isFree)
          .reduce<ProblemDeployment | null>(
            (most, it) => (most === null || replicas[it.id]! > replicas[most.id]! ? it : most),
            null,
          );
        // Where a ceiling binds or nearly does, a second deployment is more than the same thing twice.
        if (copied === null || base.unserved.length > 0 || replicas[copied.id]! > copied.maxReplicas / 2) return [];
        const deployments = [...model.deployments, { ...copied, id: `${copied.id}-copy` }];
        try {
          const changed = planWithin(withModel(problem, { deployments }));
          if (changed.status === 'optimal' && near(changed.usdPerHour, base.usdPerHour)) return [];
          return [`${name}: optimal ${base.usdPerHour} became ${changed.status} ${changed.usdPerHour}`];
        } catch (error) {
          return [`${name}: ${String(error)}`];
        }
      });
    expect(broken).toEqual([]);
  }, 300_000);

  test('costs the same when a bucket is written as two', () => {
    const { broken } = violations(
      ({ problem, model, random }) => {
        const split = random.whole(0, model.demand.length - 1);
        const part = random.between(0.1, 0.9);
        return withModel(problem, {
          demand: model.demand.flatMap((bucket, b) =>
            b === split
              ? [
                  { ...bucket, rps: bucket.rps * part },
                  { ...bucket, rps: bucket.rps * (1 - part) },
                ]
              : [bucket],
          ),
        });
      },
      (base, changed) =>
        changed.status === 'optimal' &&
        near(changed.usdPerHour, base.usdPerHour) &&
        Math.abs(unservedRps(changed) - unservedRps(base)) <= 1e-8 * unservedRps(base),
    );
    expect(broken).toEqual([]);
  });

  test('is the very same plan when deployments and buckets are written in another order', () => {
    const { broken } = violations(
      ({ problem, model, random }) =>
        withModel(problem, {
          deployments: random.shuffle(model.deployments),
          demand: random.shuffle(model.demand),
        }),
      (base, changed) => sameNumbers(inOrder(base), inOrder(changed)),
    );
    expect(broken).toEqual([]);
  });

  test('is the very same plan, twice', () => {
    const { broken } = violations(
      ({ problem }) => structuredClone(problem),
      (base, changed) => JSON.stringify({ ...base, solver: null }) === JSON.stringify({ ...changed, solver: null }),
    );
    expect(broken).toEqual([]);
  });

  test('serves no less, and at equal service costs no more, with higher ceilings', () => {
    const { broken } = violations(
      ({ problem, random }) =>
        withDeployments(problem, (it) => ({ ...it, maxReplicas: it.maxReplicas + random.whole(0, 3) })),
      (base, changed) => isNoWorse(base, changed),
    );
    expect(broken).toEqual([]);
  });

  test('costs no more with lower floors', () => {
    const { broken } = violations(
      ({ problem, random }) =>
        withDeployments(problem, (it) => ({ ...it, minReplicas: Math.max(0, it.minReplicas - random.whole(0, 2)) })),
      (base, changed) => isNoWorse(base, changed),
    );
    expect(broken).toEqual([]);
  });

  test('costs no more when one price falls', () => {
    const { broken } = violations(
      ({ problem, model, random }) => {
        const cheaper = random.pick(model.deployments).id;
        return withDeployments(problem, (it) =>
          it.id === cheaper ? { ...it, usdPerReplicaHour: it.usdPerReplicaHour * 0.9 } : it,
        );
      },
      (base, changed) => isNoWorse(base, changed),
    );
    expect(broken).toEqual([]);
  });

  test('costs no less when there is more of some demand', () => {
    const { broken } = violations(
      ({ problem, model, random, base }) => {
        if (base.unserved.length > 0) return null;
        const grown = random.whole(0, model.demand.length - 1);
        return withModel(problem, {
          demand: model.demand.map((bucket, b) => (b === grown ? { ...bucket, rps: bucket.rps * 1.5 } : bucket)),
        });
      },
      (base, changed) => changed.unserved.length > 0 || atMost(base.usdPerHour, changed.usdPerHour),
    );
    expect(broken).toEqual([]);
  });

  test('costs no more when replicas may be filled further', () => {
    const { broken } = violations(
      ({ problem }) =>
        withDeployments(problem, (it) => ({ ...it, targetUtilization: Math.min(1, it.targetUtilization * 1.1) })),
      (base, changed) => isNoWorse(base, changed),
    );
    expect(broken).toEqual([]);
  });

  test('stays the plan when its own replicas are made the floors and ceilings', () => {
    const { broken } = violations(
      ({ problem, base }) => {
        const replicas = replicasOf(base);
        return withDeployments(problem, (it) => ({ ...it, fixedReplicas: replicas[it.id]! }));
      },
      (base, changed) =>
        changed.status === 'optimal' &&
        near(changed.usdPerHour, base.usdPerHour) &&
        Math.abs(unservedRps(changed) - unservedRps(base)) <= 1e-8 * unservedRps(base),
    );
    expect(broken).toEqual([]);
  });
});

function isFree(deployment: ProblemDeployment): boolean {
  return deployment.minReplicas === 0 && deployment.fixedReplicas === null && deployment.maxReplicas >= 1000;
}

function hasBestEffort(answer: Plan): boolean {
  return answer.shares.some(({ bestEffort }) => bestEffort);
}

/** Less demand unserved, or the same at no higher cost. */
function isNoWorse(base: Plan, changed: Plan): boolean {
  if (changed.status !== 'optimal') return false;
  const before = unservedRps(base);
  const after = unservedRps(changed);
  if (after < before * (1 - 1e-8)) return true;
  return after <= before * (1 + 1e-8) && atMost(changed.usdPerHour, base.usdPerHour);
}

/** The same structure, texts and whole numbers; other numbers to rounding, for sums made in another order. */
function sameNumbers(a: unknown, b: unknown): boolean {
  if (typeof a === 'number' && typeof b === 'number') {
    return Number.isInteger(a) || Number.isInteger(b) ? near(a, b) : Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a));
  }
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => sameNumbers((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]))
  );
}
