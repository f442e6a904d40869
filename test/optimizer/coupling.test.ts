import { describe, expect, test } from 'vitest';
import type { PlanningProblem } from '../../src/core/planning-problem.js';
import { type Prepared, prepare } from '../../src/optimizer/coupling.js';
import { remainingOf } from '../../src/optimizer/shared-limits.js';
import { deployment, model, problem, short } from './builders.js';
import { jointProblem, smallJoint } from './joint-problems.js';

const on = (id: string, gpuType: string, overrides: Parameters<typeof deployment>[0] = {}) =>
  deployment({ id, gpuType, ...overrides });
/** A model that needs one replica for every ten requests/s. */
const one = (name: string, gpuType: string, rps: number, overrides: Parameters<typeof deployment>[0] = {}) =>
  model({ name, demand: [short(rps)], deployments: [on(`t/${name}`, gpuType, overrides)] });

/** Names of the models of each group, `a+b`, with the limits that couple them. */
function groupsOf(input: PlanningProblem, held: ReadonlySet<number> = new Set()): readonly string[] {
  return prepare(input, held).groups.map(({ entrants, limits }) => {
    const names = entrants.map(({ stage }) => stage.formulation.model.name).join('+');
    return limits.length === 0 ? names : `${names} by ${limits.map(({ name }) => name).join(', ')}`;
  });
}

describe('models are planned together', () => {
  test('where they take from a pool that cannot hold all that they could use', () => {
    const models = [one('a', 'A', 25), one('b', 'A', 25), one('c', 'B', 25)];
    expect(groupsOf(problem({ models, pools: [{ gpuType: 'A', gpus: 5 }] }))).toEqual(['a+b by the pool of A', 'c']);
    // Three replicas each are all that they could ever use.
    expect(groupsOf(problem({ models, pools: [{ gpuType: 'A', gpus: 6 }] }))).toEqual(['a', 'b', 'c']);
    expect(groupsOf(problem({ models, pools: [{ gpuType: 'A', gpus: null }] }))).toEqual(['a', 'b', 'c']);
  });

  test('where a quota binds those of one namespace, whatever the others use', () => {
    const models = [
      model({ name: 'a', demand: [short(25)], deployments: [on('t/a', 'A')] }),
      model({ name: 'b', demand: [short(25)], deployments: [on('u/b', 'A')] }),
      model({ name: 'c', demand: [short(25)], deployments: [on('t/c', 'A')] }),
    ];
    expect(groupsOf(problem({ models, quotas: [{ namespace: 't', gpuType: 'A', gpus: 4 }] }))).toEqual([
      'a+c by the quota of t on A',
      'b',
    ]);
  });

  test('where one model links two pools, or a budget all of them', () => {
    const link = model({ name: 'link', demand: [short(25)], deployments: [on('t/l', 'A'), on('t/m', 'B')] });
    const models = [one('a', 'A', 25), one('b', 'B', 25), link, one('c', 'C', 25)];
    const pools = ['A', 'B', 'C'].map((gpuType) => ({ gpuType, gpus: 4 }));
    expect(groupsOf(problem({ models, pools }))).toEqual(['a+b+link by the pool of A, the pool of B', 'c']);
    expect(groupsOf(problem({ models, budgetUsdPerHour: 9 }))).toEqual(['a+b+link+c by the budget']);
    expect(groupsOf(problem({ models, budgetUsdPerHour: 100 }))).toEqual(['a', 'b', 'link', 'c']);
  });

  test('not for what a fixed deployment, one without a profile or a free one uses', () => {
    const models = [
      one('a', 'A', 25),
      one('b', 'A', 25, { fixedReplicas: 2 }),
      one('c', 'A', 25, { profile: null, currentReplicas: 1 }),
      one('d', 'A', 25, { gpusPerReplica: 0 }),
    ];
    const pools = [{ gpuType: 'A', gpus: 5 }];
    const { groups, limits } = prepare(problem({ models, pools }), new Set());
    expect(limits.map((limit) => [limit.standing, remainingOf(limit)])).toEqual([[3, 2]]);
    expect(groups.map(({ entrants }) => entrants.length)).toEqual([1, 1, 1, 1]);
    // The two GPUs that are left are a bound on the one deployment that takes from them.
    expect(groups[0]!.entrants[0]!.stage.program.upper[0]).toBe(2);
  });

  test('without those that are held: what runs of them is taken from the limits', () => {
    const models = [one('a', 'A', 25), one('b', 'A', 25, { currentReplicas: 2 }), one('c', 'A', 25)];
    const input = problem({ models, pools: [{ gpuType: 'A', gpus: 6 }] });
    const prepared = prepare(input, new Set([1]));
    expect(prepared.limits[0]!.standing).toBe(2);
    expect(groupsOf(input, new Set([1]))).toEqual(['a+c by the pool of A']);
    expect(prepared.groups[0]!.entrants.map(({ index }) => index)).toEqual([0, 2]);
  });

  test('never more than there is for one: its ceiling is what is left of each limit', () => {
    const input = problem({
      models: [one('a', 'A', 900, { gpusPerReplica: 4, usdPerReplicaHour: 0.1 }), one('b', 'A', 900)],
      pools: [{ gpuType: 'A', gpus: 23 }],
      budgetUsdPerHour: 0.3,
    });
    const { groups } = prepare(input, new Set());
    // 5 by the pool, 3 by the budget: 3 × 0.1 is 0.30000000000000004.
    expect(groups.flatMap(({ entrants }) => entrants).map(({ stage }) => stage.program.upper[0])).toEqual([3, 0]);
  });
});

describe('the groups of any problem', () => {
  /** Most that a model could ever take of a limit. */
  const wanted = ({ groups }: Prepared, l: number, limits: Prepared['limits']) =>
    new Map(
      groups
        .flatMap(({ entrants }) => entrants)
        .map(({ index, stage: { formulation, program } }) => [
          index,
          formulation.deployments.reduce(
            (sum, it, d) => sum + (it.fixedReplicas === null ? limits[l]!.useOf(it) * program.upper[d]! : 0),
            0,
          ),
        ]),
    );

  test('are the connected parts: every limit that can bind joins all that take from it, and nothing else joins', () => {
    const seen = { joined: 0, apart: 0 };
    for (let seed = 1; seed <= 300; seed++) {
      const input = jointProblem(7000 + seed, smallJoint);
      const prepared = prepare(input, new Set());
      const { groups, limits } = prepared;
      const indexes = groups.flatMap(({ entrants }) => entrants.map(({ index }) => index));
      expect([...indexes].sort((a, b) => a - b)).toEqual(input.models.map((_, m) => m));
      // Models that are linked, by walking from one to all that it reaches.
      const neighbours = new Map(indexes.map((m) => [m, new Set<number>()]));
      limits.forEach((limit, l) => {
        const takes = [...wanted(prepared, l, limits)].filter(([, amount]) => amount > 0);
        const total = takes.reduce((sum, [, amount]) => sum + amount, 0);
        if (total <= remainingOf(limit) * (1 + 1e-9)) return;
        for (const [m] of takes) for (const [other] of takes) neighbours.get(m)!.add(other);
      });
      const partOf = new Map<number, readonly number[]>();
      for (const m of indexes) {
        const reached = new Set([m]);
        for (const at of reached) for (const other of neighbours.get(at)!) reached.add(other);
        partOf.set(
          m,
          [...reached].sort((a, b) => a - b),
        );
      }
      for (const { entrants, limits: own, bounds } of groups) {
        const members = entrants.map(({ index }) => index).sort((a, b) => a - b);
        for (const m of members) expect(partOf.get(m), `seed ${seed}`).toEqual(members);
        if (members.length > 1) expect(own.length).toBeGreaterThan(0);
        for (const limit of [...own, ...bounds]) {
          const takers = [...wanted(prepared, limits.indexOf(limit), limits)].filter(([, amount]) => amount > 0);
          expect(takers.every(([m]) => members.includes(m))).toBe(true);
        }
        if (members.length > 1) seen.joined++;
        else seen.apart++;
      }
    }
    expect(seen.joined).toBeGreaterThan(100);
    expect(seen.apart).toBeGreaterThan(100);
  });
});
