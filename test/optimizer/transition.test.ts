import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PlanningProblem, ProblemDeployment } from '../../src/core/planning-problem.js';
import { stepTowards, type Transition } from '../../src/optimizer/transition.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { deployment, flat, model, problem, short, shortAndLong } from './builders.js';

type DeploymentInput = Parameters<typeof deployment>[0];
type Pools = Readonly<Record<string, number | null>>;

/** A deployment that asks for some replicas, of which all are ready, and heads for a target. */
type Case = DeploymentInput & { readonly id: string; readonly target?: number | null };

/** One model with its deployments, each on a GPU type of its own name unless it says another. */
function fleetOf(
  models: Readonly<Record<string, { readonly priority?: number; readonly of: readonly Case[] }>>,
  { pools = {}, ...rest }: { readonly pools?: Pools } & Pick<Parameters<typeof problem>[0] & object, 'quotas'> = {},
) {
  const targets = new Map<string, number | null>();
  const planning = problem({
    ...rest,
    pools: Object.entries(pools).map(([gpuType, gpus]) => ({ gpuType, gpus })),
    models: Object.entries(models).map(([name, { priority = 0, of }]) =>
      model({
        name,
        priority,
        demand: [short(10)],
        deployments: of.map(({ target, ...each }) => {
          if (target !== undefined) targets.set(each.id, target);
          return deployment({ gpuType: each.id.split('/')[1]!, readyReplicas: each.currentReplicas ?? null, ...each });
        }),
      }),
    ),
  });
  return { problem: planning, targets };
}

function step(
  fleet: { readonly problem: PlanningProblem; readonly targets: ReadonlyMap<string, number | null> },
  held: readonly string[] = [],
) {
  const { replicas, warnings } = stepTowards({ ...fleet, held: new Set(held) });
  return { replicas: Object.fromEntries(replicas), warnings };
}

const oneModel = (of: readonly Case[], limits?: Parameters<typeof fleetOf>[1]) => fleetOf({ llama: { of } }, limits);

describe('a move where there is room', () => {
  it('keeps the old replicas until the new ones are ready', () => {
    const before = step(
      oneModel([
        { id: 'ns/old', currentReplicas: 4, target: 0 },
        { id: 'ns/new', currentReplicas: 0, target: 2 },
      ]),
    );
    expect(before).toEqual({ replicas: { 'ns/old': 4, 'ns/new': 2 }, warnings: [] });
    const starting = step(
      oneModel([
        { id: 'ns/old', currentReplicas: 4, target: 0 },
        { id: 'ns/new', currentReplicas: 2, readyReplicas: 0, target: 2 },
      ]),
    );
    expect(starting).toEqual({ replicas: { 'ns/old': 4, 'ns/new': 2 }, warnings: [] });
    const ready = step(
      oneModel([
        { id: 'ns/old', currentReplicas: 4, target: 0 },
        { id: 'ns/new', currentReplicas: 2, readyReplicas: 2, target: 2 },
      ]),
    );
    expect(ready).toEqual({ replicas: { 'ns/old': 0, 'ns/new': 2 }, warnings: [] });
  });

  it('keeps them too when the target of the new ones falls while they start', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, target: 0 },
      { id: 'ns/new', currentReplicas: 4, readyReplicas: 0, target: 3 },
    ]);
    expect(step(fleet).replicas['ns/old']).toBe(4);
  });

  it('keeps replicas that are not ready either: they may be the first to serve', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, readyReplicas: 0, target: 0 },
      { id: 'ns/new', currentReplicas: 0, target: 2 },
    ]);
    expect(step(fleet).replicas['ns/old']).toBe(4);
  });

  it('does not take for ready what is on its way out', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, target: 0 },
      { id: 'ns/new', currentReplicas: 0, readyReplicas: 2, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 4, 'ns/new': 2 });
  });

  it('shrinks at once what nothing has to replace', () => {
    const fleet = oneModel([
      { id: 'ns/a', currentReplicas: 4, target: 1 },
      { id: 'ns/b', currentReplicas: 2, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/a': 1, 'ns/b': 2 });
  });

  it('shrinks at once a deployment whose own replicas are all that is missing', () => {
    const fleet = oneModel([
      { id: 'ns/a', currentReplicas: 4, readyReplicas: 1, target: 2 },
      { id: 'ns/b', currentReplicas: 2, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/a': 2, 'ns/b': 2 });
  });

  it('moves each model for itself', () => {
    const fleet = fleetOf({
      llama: { of: [{ id: 'ns/a', currentReplicas: 3, target: 1 }] },
      qwen: { of: [{ id: 'ns/b', currentReplicas: 0, target: 1 }] },
    });
    expect(step(fleet).replicas).toEqual({ 'ns/a': 1, 'ns/b': 1 });
  });
});

describe('a move of which a part is done', () => {
  it('releases as much as the new replicas replace, and no more', () => {
    // One new replica serves 20 requests/s, an old one 10: one of two ready replaces two of four.
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, target: 0, profile: flat(10) },
      { id: 'ns/new', currentReplicas: 2, readyReplicas: 1, target: 2, profile: flat(20) },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 2, 'ns/new': 2 });
  });

  it('releases no more than that, even of replicas that nobody needs', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 10, target: 0, profile: flat(10) },
      { id: 'ns/new', currentReplicas: 2, readyReplicas: 1, target: 2, profile: flat(20) },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 8, 'ns/new': 2 });
  });

  it('releases nothing more in the next step, when no more new replicas are ready', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 2, target: 0, profile: flat(10) },
      { id: 'ns/new', currentReplicas: 2, readyReplicas: 1, target: 2, profile: flat(20) },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 2, 'ns/new': 2 });
  });

  it('keeps what the demand needs, also where the target leaves some of it unserved', () => {
    const fleet = {
      ...oneModel([
        { id: 'ns/old', currentReplicas: 4, target: 0, profile: flat(10) },
        { id: 'ns/new', currentReplicas: 2, readyReplicas: 1, target: 2, profile: flat(10) },
      ]),
    };
    const demanding = { ...fleet.problem, models: [{ ...fleet.problem.models[0]!, demand: [short(50)] }] };
    expect(step({ ...fleet, problem: demanding }).replicas['ns/old']).toBe(4);
  });

  it('releases nothing while the new ones serve only some of the lengths', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, target: 0, profile: shortAndLong(10, 5) },
      { id: 'ns/new', currentReplicas: 3, readyReplicas: 2, target: 3, profile: shortAndLong(20, 0) },
    ]);
    const long = { inputTokens: 2048, outputTokens: 64, rps: 1 };
    const mixed = { ...fleet.problem, models: [{ ...fleet.problem.models[0]!, demand: [short(5), long] }] };
    expect(step({ ...fleet, problem: mixed }).replicas['ns/old']).toBe(4);
    // The same move, were there only short requests.
    expect(step(fleet).replicas['ns/old']).toBe(2);
  });

  it('releases first what costs most for what it serves', () => {
    const fleet = oneModel([
      { id: 'ns/cheap', currentReplicas: 2, target: 0, usdPerReplicaHour: 1 },
      { id: 'ns/dear', currentReplicas: 2, target: 0, usdPerReplicaHour: 3 },
      { id: 'ns/new', currentReplicas: 4, readyReplicas: 1, target: 4 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/cheap': 2, 'ns/dear': 1, 'ns/new': 4 });
  });
});

describe('what is not known, or not for the plan to decide', () => {
  it('goes to its target at once where nobody sees what is ready', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, readyReplicas: null, target: 0 },
      { id: 'ns/new', currentReplicas: 0, readyReplicas: null, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 0, 'ns/new': 2 });
  });

  it('goes to its target at once where neither what is asked for nor what is ready is known of a deployment', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, target: 0 },
      { id: 'ns/new', currentReplicas: null, readyReplicas: null, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 0, 'ns/new': 2 });
  });

  it('publishes the target of what is asked for in unknown numbers, and keeps the others until that is ready', () => {
    const fleet = (ready: number) =>
      oneModel([
        { id: 'ns/old', currentReplicas: 4, target: 0 },
        { id: 'ns/new', currentReplicas: null, readyReplicas: ready, target: 2 },
      ]);
    expect(step(fleet(0)).replicas).toEqual({ 'ns/old': 4, 'ns/new': 2 });
    expect(step(fleet(2)).replicas).toEqual({ 'ns/old': 0, 'ns/new': 2 });
  });

  it('releases nothing in the middle of a move because the readiness of the new replicas is missing', () => {
    const move = (old: number, ready: number | null) =>
      step(
        oneModel([
          { id: 'ns/old', currentReplicas: old, target: 0, profile: flat(10) },
          { id: 'ns/new', currentReplicas: 2, readyReplicas: ready, target: 2, profile: flat(20) },
        ]),
      ).replicas['ns/old'];
    expect([move(4, 0), move(4, null), move(4, 1)]).toEqual([4, 4, 2]);
    // What was released before does not come back either.
    expect([move(2, 1), move(2, null), move(2, 2)]).toEqual([2, 2, 0]);
  });

  it('does not count on replicas of unknown readiness for what others replace', () => {
    const move = (ready: number | null) =>
      step(
        oneModel([
          { id: 'ns/old', currentReplicas: 3, target: 0 },
          { id: 'ns/new', currentReplicas: 3, readyReplicas: 2, target: 3 },
          { id: 'ns/steady', currentReplicas: 1, readyReplicas: ready, target: 1 },
        ]),
      ).replicas['ns/old'];
    expect([move(1), move(null)]).toEqual([1, 2]);
  });

  it('grows where readiness is missing, and counts what may be ready in its pool', () => {
    const fleet = oneModel(
      [
        { id: 'ns/old', gpuType: 'A', currentReplicas: 2, target: 0 },
        { id: 'ns/new', gpuType: 'A', currentReplicas: 1, readyReplicas: null, target: 3 },
      ],
      { pools: { A: 4 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/old': 2, 'ns/new': 2 }, warnings: [] });
  });

  it('waits for the others where only the readiness of what shrinks is not known', () => {
    const fleet = oneModel([
      { id: 'ns/old', currentReplicas: 4, readyReplicas: null, target: 0 },
      { id: 'ns/new', currentReplicas: 2, readyReplicas: 0, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/old': 4, 'ns/new': 2 });
  });

  it('publishes no number where none is known', () => {
    const fleet = oneModel([
      { id: 'ns/a', currentReplicas: null, profile: null, target: null },
      { id: 'ns/b', currentReplicas: 1, target: 2 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/a': null, 'ns/b': 2 });
  });

  it('obeys a person at once, and keeps the siblings until that is ready', () => {
    const fleet = oneModel([
      { id: 'ns/fixed-up', currentReplicas: 0, fixedReplicas: 3, target: 3 },
      { id: 'ns/fixed-down', currentReplicas: 3, fixedReplicas: 0, target: 0 },
      { id: 'ns/sibling', currentReplicas: 2, target: 0 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/fixed-up': 3, 'ns/fixed-down': 0, 'ns/sibling': 2 });
  });

  it('keeps nothing for a deployment that serves nothing in the plan', () => {
    const fleet = oneModel([
      { id: 'ns/no-profile', currentReplicas: 2, readyReplicas: 1, profile: null, target: 2 },
      { id: 'ns/sibling', currentReplicas: 2, target: 1 },
    ]);
    expect(step(fleet).replicas).toEqual({ 'ns/no-profile': 2, 'ns/sibling': 1 });
  });

  it('leaves held models as they are, whatever their targets say', () => {
    const fleet = fleetOf({
      llama: { of: [{ id: 'ns/a', currentReplicas: 3, target: 1 }] },
      qwen: { of: [{ id: 'ns/b', currentReplicas: 3, fixedReplicas: 4, target: 1 }] },
    });
    expect(step(fleet, ['llama', 'qwen']).replicas).toEqual({ 'ns/a': 3, 'ns/b': 4 });
  });
});

describe('growth in a pool', () => {
  it('takes the room there is, by priority, then by name', () => {
    const growing = (id: string): Case => ({ id, gpuType: 'A', currentReplicas: 0, target: 2 });
    const fleet = fleetOf(
      {
        first: { of: [growing('ns/first')] },
        last: { of: [growing('ns/last'), { id: 'ns/last-old', gpuType: 'A', currentReplicas: 1, target: 0 }] },
        urgent: { priority: 1, of: [growing('ns/urgent')] },
        leaving: { of: [{ id: 'ns/leaving', gpuType: 'A', currentReplicas: 2, target: 0 }] },
      },
      { pools: { A: 6 } },
    );
    // Two GPUs are on their way out and one is held: three are left.
    expect(step(fleet)).toEqual({
      replicas: { 'ns/first': 1, 'ns/last': 0, 'ns/last-old': 1, 'ns/urgent': 2, 'ns/leaving': 0 },
      warnings: [],
    });
  });

  it('waits for replicas that are on their way out', () => {
    const fleet = fleetOf(
      {
        llama: { of: [{ id: 'ns/a', gpuType: 'A', currentReplicas: 0, target: 2 }] },
        qwen: { of: [{ id: 'ns/b', gpuType: 'A', currentReplicas: 1, readyReplicas: 2, target: 1 }] },
      },
      { pools: { A: 3 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/a': 1, 'ns/b': 1 }, warnings: [] });
  });

  it('grows in whole replicas, and in no quota of its namespace beyond what is left', () => {
    const fleet = fleetOf(
      {
        llama: {
          of: [
            { id: 'team-a/x', gpuType: 'A', gpusPerReplica: 4, currentReplicas: 0, target: 2 },
            { id: 'team-b/x', gpuType: 'A', gpusPerReplica: 4, currentReplicas: 0, target: 2 },
          ],
        },
        qwen: { of: [{ id: 'team-a/y', gpuType: 'A', currentReplicas: 0, readyReplicas: 2, target: 0 }] },
      },
      { pools: { A: 64 }, quotas: [{ namespace: 'team-a', gpuType: 'A', gpus: 8 }] },
    );
    expect(step(fleet).replicas).toEqual({ 'team-a/x': 1, 'team-b/x': 2, 'team-a/y': 0 });
  });

  it('takes no namespace for another one that begins with its name', () => {
    const fleet = oneModel(
      [
        { id: 'team-a/x', gpuType: 'A', currentReplicas: 0, target: 2 },
        { id: 'team/y', gpuType: 'A', currentReplicas: 1, readyReplicas: 4, target: 1 },
      ],
      { quotas: [{ namespace: 'team', gpuType: 'A', gpus: 1 }] },
    );
    expect(step(fleet).replicas['team-a/x']).toBe(2);
  });

  it('takes the GPUs of surplus replicas that are not ready, which serve nobody', () => {
    const fleet = oneModel(
      [
        { id: 'ns/old', gpuType: 'A', currentReplicas: 3, readyReplicas: 1, target: 0 },
        { id: 'ns/new', gpuType: 'A', currentReplicas: 0, target: 2 },
      ],
      { pools: { A: 4 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/old': 2, 'ns/new': 2 }, warnings: [] });
  });

  it('counts no pool that is unlimited, and no replica without a GPU', () => {
    const fleet = oneModel(
      [
        { id: 'ns/a', gpuType: 'A', currentReplicas: 0, target: 100 },
        { id: 'ns/b', gpuType: 'B', gpusPerReplica: 0, currentReplicas: 0, target: 100 },
      ],
      { pools: { A: null, B: 0 } },
    );
    expect(step(fleet).replicas).toEqual({ 'ns/a': 100, 'ns/b': 100 });
  });

  it('fits fractions of a GPU exactly', () => {
    const fleet = oneModel(
      [
        { id: 'ns/a', gpuType: 'A', gpusPerReplica: 0.1, currentReplicas: 0, target: 7 },
        { id: 'ns/b', gpuType: 'A', gpusPerReplica: 0.1, currentReplicas: 3, target: 3 },
      ],
      { pools: { A: 1 } },
    );
    expect(step(fleet).replicas).toEqual({ 'ns/a': 7, 'ns/b': 3 });
  });
});

describe('replicas that could not start', () => {
  const pending = (id: string, priority: number) => ({
    priority,
    of: [{ id: `ns/${id}`, gpuType: 'A', currentReplicas: 4, readyReplicas: 2, target: 4 }],
  });
  /** Holds GPUs of the pool until its replacement is ready. */
  const leaving = {
    of: [
      { id: 'ns/old', gpuType: 'A', currentReplicas: 2, target: 0 },
      { id: 'ns/new', gpuType: 'B', currentReplicas: 1, readyReplicas: 0, target: 1 },
    ],
  };

  it('are not asked for, those of the lowest priority first, and no ready one goes for them', () => {
    const fleet = (gpus: number) =>
      fleetOf({ high: pending('high', 2), low: pending('low', 1), leaving }, { pools: { A: gpus } });
    const published = (gpus: number) => {
      const { replicas, warnings } = step(fleet(gpus));
      expect(warnings).toEqual([]);
      expect(replicas).toMatchObject({ 'ns/old': 2, 'ns/new': 1 });
      return [replicas['ns/high'], replicas['ns/low']];
    };
    expect([10, 9, 8].map(published)).toEqual([
      [4, 4],
      [4, 3],
      [4, 2],
    ]);
  });

  it('are those beyond a target before any other, whatever their priority', () => {
    const surplus = { id: 'ns/surplus', gpuType: 'A', currentReplicas: 4, readyReplicas: 2, target: 2 };
    const fleet = fleetOf(
      {
        high: { priority: 3, of: [surplus, { id: 'ns/late', currentReplicas: 1, readyReplicas: 0, target: 1 }] },
        low: pending('low', 1),
      },
      { pools: { A: 7 } },
    );
    expect(step(fleet).replicas).toMatchObject({ 'ns/surplus': 3, 'ns/low': 4 });
  });

  it('come back when there is room', () => {
    const fleet = (asked: number, old: number) =>
      oneModel(
        [
          { id: 'ns/old', gpuType: 'A', currentReplicas: old, target: 0 },
          { id: 'ns/a', gpuType: 'A', currentReplicas: asked, readyReplicas: 3, target: 4 },
          { id: 'ns/b', gpuType: 'B', currentReplicas: 1, readyReplicas: 0, target: 1 },
        ],
        { pools: { A: 4 } },
      );
    expect(step(fleet(7, 1)).replicas).toEqual({ 'ns/old': 1, 'ns/a': 3, 'ns/b': 1 });
    // Also while whoever scales has not followed yet.
    expect(step(fleet(3, 1)).replicas).toEqual({ 'ns/old': 1, 'ns/a': 3, 'ns/b': 1 });
    expect(step(fleet(3, 0)).replicas).toEqual({ 'ns/old': 0, 'ns/a': 4, 'ns/b': 1 });
  });

  it('do not fit beside replicas that are on their way out', () => {
    const fleet = fleetOf(
      {
        llama: { of: [{ id: 'ns/a', gpuType: 'A', currentReplicas: 2, readyReplicas: 1, target: 2 }] },
        qwen: { of: [{ id: 'ns/b', gpuType: 'A', currentReplicas: 1, readyReplicas: 2, target: 1 }] },
      },
      { pools: { A: 3 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/a': 1, 'ns/b': 1 }, warnings: [] });
  });

  it('are not asked for in a pool that shrank below what is ready in it', () => {
    const fleet = fleetOf(
      {
        llama: { of: [{ id: 'ns/a', gpuType: 'A', currentReplicas: 3, readyReplicas: 1, target: 3 }] },
        qwen: {
          of: [
            { id: 'ns/b', gpuType: 'A', currentReplicas: 4, target: 0 },
            { id: 'ns/c', gpuType: 'B', currentReplicas: 1, readyReplicas: 0, target: 1 },
          ],
        },
      },
      { pools: { A: 4 } },
    );
    expect(step(fleet)).toMatchObject({
      replicas: { 'ns/a': 1, 'ns/b': 3, 'ns/c': 1 },
      warnings: [{ code: 'pool_below_running', deployment: 'ns/b' }],
    });
  });

  it('are asked for all the same where a person fixed them, who is not the step to overrule', () => {
    const fleet = oneModel(
      [
        { id: 'ns/fixed', gpuType: 'A', currentReplicas: 4, readyReplicas: 1, fixedReplicas: 4, target: 4 },
        { id: 'ns/free', gpuType: 'A', currentReplicas: 2, readyReplicas: 1, target: 1 },
      ],
      { pools: { A: 5 } },
    );
    expect(step(fleet).replicas).toEqual({ 'ns/fixed': 4, 'ns/free': 1 });
  });
});

describe('a full pool, where waiting cannot help', () => {
  it('breaks before it makes, and says so', () => {
    const fleet = oneModel(
      [
        { id: 'ns/old', gpuType: 'A', currentReplicas: 1, target: 0 },
        { id: 'ns/new', gpuType: 'A', currentReplicas: 0, target: 1 },
      ],
      { pools: { A: 1 } },
    );
    expect(step(fleet)).toEqual({
      replicas: { 'ns/old': 0, 'ns/new': 0 },
      warnings: [
        {
          code: 'break_before_make',
          model: 'llama',
          deployment: 'ns/old',
          message:
            'ns/old: 1 of its 1 replica is released before what replaces it is ready: ns/new needs room in pool A (1 GPU), where nothing else will leave any',
        },
      ],
    });
  });

  it('releases at most a quarter of what a model runs, and no more than the growth needs', () => {
    const swap = (running: number, target: number, spare = 0) =>
      step(
        oneModel(
          [
            { id: 'ns/old', gpuType: 'A', currentReplicas: running, target: 0 },
            { id: 'ns/new', gpuType: 'A', currentReplicas: 0, target },
          ],
          { pools: { A: running + spare } },
        ),
      ).replicas['ns/old'];
    expect(swap(2, 2)).toBe(1);
    expect(swap(4, 4)).toBe(3);
    expect(swap(5, 5)).toBe(3);
    expect(swap(16, 16)).toBe(12);
    expect(swap(16, 2)).toBe(14);
  });

  it('waits while another part of the model starts', () => {
    const fleet = oneModel(
      [
        { id: 'ns/old', gpuType: 'A', currentReplicas: 2, target: 0 },
        { id: 'ns/new', gpuType: 'A', currentReplicas: 0, target: 1 },
        { id: 'ns/elsewhere', gpuType: 'B', currentReplicas: 1, readyReplicas: 0, target: 1 },
      ],
      { pools: { A: 2 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/old': 2, 'ns/new': 0, 'ns/elsewhere': 1 }, warnings: [] });
  });

  it('waits for the GPUs of a model whose replacement starts', () => {
    const fleet = fleetOf(
      {
        llama: { priority: 1, of: [{ id: 'ns/a', gpuType: 'A', currentReplicas: 0, target: 1 }] },
        qwen: {
          of: [
            { id: 'ns/b', gpuType: 'A', currentReplicas: 1, target: 0 },
            { id: 'ns/c', gpuType: 'B', currentReplicas: 1, readyReplicas: 0, target: 1 },
          ],
        },
      },
      { pools: { A: 1 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/a': 0, 'ns/b': 1, 'ns/c': 1 }, warnings: [] });
  });

  /** Two models on one GPU each, which are to change places. */
  const swap = (overrides: { readonly llamaOnB?: Partial<Case>; readonly qwenOnA?: Partial<Case> } = {}) =>
    fleetOf(
      {
        llama: {
          priority: 1,
          of: [
            { id: 'ns/llama-a', gpuType: 'A', currentReplicas: 1, target: 0 },
            { id: 'ns/llama-b', gpuType: 'B', currentReplicas: 0, target: 1, ...overrides.llamaOnB },
          ],
        },
        qwen: {
          of: [
            { id: 'ns/qwen-a', gpuType: 'A', currentReplicas: 0, target: 1, ...overrides.qwenOnA },
            { id: 'ns/qwen-b', gpuType: 'B', currentReplicas: 1, target: 0 },
          ],
        },
      },
      { pools: { A: 1, B: 1 } },
    );

  it('breaks only the model of lower priority where two wait for each other', () => {
    const { replicas, warnings } = step(swap());
    expect(replicas).toEqual({ 'ns/llama-a': 1, 'ns/llama-b': 0, 'ns/qwen-a': 0, 'ns/qwen-b': 0 });
    expect(warnings.map(({ code, deployment }) => [code, deployment])).toEqual([['break_before_make', 'ns/qwen-b']]);
  });

  it('takes from the lowest priority first', () => {
    const old = (id: string): readonly Case[] => [
      { id: `ns/${id}-old`, gpuType: 'A', currentReplicas: 1, target: 0 },
      { id: `ns/${id}-new`, gpuType: 'B', currentReplicas: 0, target: 1 },
    ];
    const fleet = fleetOf(
      {
        a: { priority: 2, of: old('a') },
        b: { priority: 1, of: old('b') },
        c: {
          priority: 3,
          of: [
            { id: 'ns/c-new', gpuType: 'A', currentReplicas: 0, target: 1 },
            { id: 'ns/c-old', gpuType: 'B', currentReplicas: 2, target: 0 },
          ],
        },
      },
      { pools: { A: 2, B: 2 } },
    );
    const { replicas } = step(fleet);
    expect(replicas).toMatchObject({ 'ns/a-old': 1, 'ns/b-old': 0, 'ns/c-old': 2 });
  });

  it('makes room in a quota as in a pool', () => {
    const fleet = oneModel(
      [
        { id: 'team-a/old', gpuType: 'A', gpusPerReplica: 1, currentReplicas: 8, target: 0 },
        { id: 'team-a/new', gpuType: 'A', gpusPerReplica: 8, currentReplicas: 0, target: 1 },
        { id: 'team-b/old', gpuType: 'A', gpusPerReplica: 1, currentReplicas: 8, target: 0 },
      ],
      { pools: { A: 64 }, quotas: [{ namespace: 'team-a', gpuType: 'A', gpus: 8 }] },
    );
    const { replicas, warnings } = step(fleet);
    expect(replicas).toEqual({ 'team-a/old': 4, 'team-a/new': 0, 'team-b/old': 8 });
    expect(warnings.map(({ message }) => message)).toEqual([
      'team-a/old: 4 of its 8 replicas are released before what replaces them is ready: team-a/new needs room in the quota of team-a on A (8 GPUs), where nothing else will leave any',
    ]);
  });

  it('withdraws what is not ready before it releases what is', () => {
    const fleet = oneModel(
      [
        { id: 'ns/large', gpuType: 'A', gpusPerReplica: 8, currentReplicas: 0, target: 1 },
        { id: 'ns/old-ready', gpuType: 'A', currentReplicas: 4, target: 0 },
        { id: 'ns/old-starting', gpuType: 'A', currentReplicas: 4, readyReplicas: 0, target: 0 },
      ],
      { pools: { A: 8 } },
    );
    expect(step(fleet).replicas).toEqual({ 'ns/large': 0, 'ns/old-ready': 3, 'ns/old-starting': 0 });
  });

  it('makes room for what a person fixed, which waits in a full pool', () => {
    const fleet = oneModel(
      [
        { id: 'ns/fixed', gpuType: 'A', currentReplicas: 2, readyReplicas: 0, fixedReplicas: 2, target: 2 },
        { id: 'ns/old', gpuType: 'A', currentReplicas: 2, target: 0 },
      ],
      { pools: { A: 2 } },
    );
    expect(step(fleet)).toMatchObject({
      replicas: { 'ns/fixed': 2, 'ns/old': 1 },
      warnings: [{ code: 'break_before_make' }],
    });
  });
});

describe('a pool that shrank below what runs in it', () => {
  it('releases what must go at once, and says so', () => {
    const fleet = oneModel(
      [
        { id: 'ns/a', currentReplicas: 8, target: 4 },
        { id: 'ns/b', currentReplicas: 0, target: 4 },
      ],
      { pools: { a: 6 } },
    );
    expect(step(fleet)).toEqual({
      replicas: { 'ns/a': 6, 'ns/b': 4 },
      warnings: [
        {
          code: 'pool_below_running',
          model: 'llama',
          deployment: 'ns/a',
          message:
            'ns/a: 2 of its 8 replicas are released before what replaces them is ready: 8 GPUs run in pool a (6 GPUs)',
        },
      ],
    });
  });

  it('withdraws first what is not ready, in silence: nobody is served by it', () => {
    const fleet = oneModel(
      [
        { id: 'ns/a', currentReplicas: 5, readyReplicas: 2, target: 2 },
        { id: 'ns/b', currentReplicas: 0, target: 4 },
      ],
      { pools: { a: 2 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/a': 2, 'ns/b': 4 }, warnings: [] });
  });

  it('cuts nothing that a person fixed or that is at its target', () => {
    const fleet = fleetOf(
      {
        llama: { of: [{ id: 'ns/a', gpuType: 'A', currentReplicas: 4, fixedReplicas: 4, target: 4 }] },
        qwen: { of: [{ id: 'ns/b', gpuType: 'A', currentReplicas: 2, target: 2 }] },
      },
      { pools: { A: 3 } },
    );
    expect(step(fleet)).toEqual({ replicas: { 'ns/a': 4, 'ns/b': 2 }, warnings: [] });
  });
});

/** A random fleet on its way: what runs, where it heads, and what a simulated cluster does with it. */
type Journey = {
  readonly problem: PlanningProblem;
  readonly targets: ReadonlyMap<string, number | null>;
  readonly held: ReadonlySet<string>;
  readonly random: SeededRandom;
};

/**
 * Targets always fit, as those of a plan do; what runs now need not.
 *
 * @param kind `tight` = pools are what the larger of now and then needs, or less; `roomy` = none
 */
function anyJourney(seed: number, kind: 'tight' | 'roomy'): Journey {
  const random = seededRandom(seed);
  const gpuTypes = ['A', 'B', 'C'].slice(0, random.whole(1, 3));
  const namespaces = ['team-a', 'team-b'];
  const sizes = random.pick([[1], [1, 2], [1, 8], [0.5, 1, 4], [0, 1, 3]]);
  const most = random.pick([1, 3, 20]);
  const oddity = random.chance(0.3) ? 0.3 : 0;
  const targets = new Map<string, number | null>();
  const models = Array.from({ length: random.whole(1, 4) }, (_, m) =>
    model({
      name: `model-${m}`,
      priority: random.whole(0, 2),
      demand: [short(random.between(1, 40)), { inputTokens: 2048, outputTokens: 64, rps: random.between(0, 10) }],
      deployments: Array.from({ length: random.whole(1, 4) }, (_, d) => {
        const id = `${random.pick(namespaces)}/${m}-${d}`;
        const current = random.chance(0.4) ? 0 : random.whole(0, most);
        const target = random.chance(0.4) ? 0 : random.whole(0, most);
        const isOdd = random.chance(oddity);
        const odd = isOdd ? random.pick(['fixed', 'no profile', 'current', 'ready'] as const) : null;
        targets.set(id, odd === 'no profile' ? current : target);
        return deployment({
          id,
          gpuType: random.pick(gpuTypes),
          gpusPerReplica: random.pick(sizes),
          usdPerReplicaHour: random.whole(0, 4),
          currentReplicas: odd === 'current' ? null : current,
          readyReplicas: odd === 'ready' ? null : random.chance(0.6) ? current : random.whole(0, most),
          fixedReplicas: odd === 'fixed' ? target : null,
          profile: odd === 'no profile' ? null : shortAndLong(random.between(2, 30), random.pick([0, 3, 12])),
        });
      }),
    }),
  );
  const ofAll = models.flatMap(({ deployments }) => deployments);
  const gpusOf = (wanted: (each: (typeof ofAll)[number]) => boolean, replicasOf: (id: string) => number): number =>
    ofAll.filter(wanted).reduce((sum, each) => sum + (each.gpusPerReplica ?? 1) * replicasOf(each.id), 0);
  const limit = (wanted: (each: (typeof ofAll)[number]) => boolean): number => {
    const now = gpusOf(wanted, (id) => ofAll.find((each) => each.id === id)!.currentReplicas ?? 0);
    const then = gpusOf(wanted, (id) => targets.get(id) ?? 0);
    return random.pick([then, then, Math.max(now, then), Math.ceil((now + then) / 2), now + then]);
  };
  const limited = kind === 'tight';
  const pools = limited
    ? gpuTypes
        .filter(() => random.chance(0.9))
        .map((gpuType) => ({
          gpuType,
          gpus: Math.max(
            limit((each) => each.gpuType === gpuType),
            gpusOf(
              (each) => each.gpuType === gpuType,
              (id) => targets.get(id) ?? 0,
            ),
          ),
        }))
    : [];
  const quotas =
    limited && random.chance(0.4)
      ? [
          {
            namespace: 'team-a',
            gpuType: 'A',
            gpus: gpusOf(
              (each) => each.gpuType === 'A' && each.id.startsWith('team-a/'),
              (id) => targets.get(id) ?? 0,
            ),
          },
        ]
      : [];
  const held = new Set(
    models
      .filter(({ deployments }) => deployments.every((each) => each.currentReplicas !== null))
      .filter(() => random.chance(oddity / 3))
      .map(({ name }) => name),
  );
  return { problem: problem({ models, pools, quotas }), targets, held, random };
}

const deploymentsOf = (planning: PlanningProblem) => planning.models.flatMap(({ deployments }) => deployments);

/** The problem with what runs after something happened. */
function withRuns(
  planning: PlanningProblem,
  change: (each: ProblemDeployment) => Partial<ProblemDeployment>,
): PlanningProblem {
  return {
    ...planning,
    models: planning.models.map((each) => ({
      ...each,
      deployments: each.deployments.map((one) => ({ ...one, ...change(one) })),
    })),
  };
}

/** Limits as lists of members, read anew from the document. */
function limitsOf(planning: PlanningProblem) {
  const all = deploymentsOf(planning);
  return [
    ...planning.pools.map(({ gpuType, gpus }) => ({ gpus: gpus!, of: all.filter((it) => it.gpuType === gpuType) })),
    ...planning.quotas.map(({ namespace, gpuType, gpus }) => ({
      gpus,
      of: all.filter((it) => it.gpuType === gpuType && it.id.startsWith(`${namespace}/`)),
    })),
  ];
}

const close = 1e-6;

/** Where a deployment ends: held models stay, and so does what has no target. */
function ends({ problem: planning, targets, held }: Journey): ReadonlyMap<string, number | null> {
  return new Map(
    planning.models.flatMap(({ name, deployments }) =>
      deployments.map((each) => {
        const kept = each.fixedReplicas ?? each.currentReplicas;
        return [each.id, held.has(name) ? kept : (targets.get(each.id) ?? kept)] as const;
      }),
    ),
  );
}

/** What of one step is not as promised. */
function faultsOf(journey: Journey, { replicas, warnings }: Transition): readonly string[] {
  const { problem: planning, held } = journey;
  const goals = ends(journey);
  const faults: string[] = [];
  const staged = stagedIn(journey);
  const publishedOf = ({ id }: ProblemDeployment) => replicas.get(id) ?? 0;
  const gpus = (of: readonly ProblemDeployment[], replicasOf: (each: ProblemDeployment) => number) =>
    of.reduce((total, each) => total + each.gpusPerReplica * replicasOf(each), 0);
  /** Deployments in a limit that has no room for all that is asked for now. */
  const crowded = new Set<string>();
  for (const { gpus: limit, of } of limitsOf(planning)) {
    const room = Math.max(
      limit,
      gpus(of, ({ id }) => goals.get(id) ?? 0),
    );
    const taken = gpus(of, (each) => Math.max(readyOf(each), publishedOf(each)));
    const settled = gpus(of, (each) => Math.max(readyOf(each), staged.has(each.id) ? 0 : publishedOf(each)));
    if (taken > Math.max(room, settled) + close) faults.push(`${taken} of ${room} are taken, ${settled} are ready`);
    const asked = gpus(of, (each) =>
      Math.max(readyOf(each), staged.has(each.id) ? each.currentReplicas! : publishedOf(each)),
    );
    if (asked > room + close) for (const { id } of of) crowded.add(id);
  }
  for (const each of deploymentsOf(planning)) {
    const { id, currentReplicas: current } = each;
    const published = replicas.get(id);
    const goal = goals.get(id);
    if (published === undefined || goal === undefined) faults.push(`${id} is left out`);
    else if (published === null || goal === null || current === null) {
      if (published !== goal) faults.push(`${id}: ${published} instead of ${goal}`);
    } else {
      const lowest = Math.min(current, goal, crowded.has(id) ? readyOf(each) : current);
      if (published >= lowest && published <= Math.max(current, goal)) continue;
      faults.push(`${id}: ${published} is not between ${current} and ${goal}, ${each.readyReplicas} are ready`);
    }
  }
  for (const { name, deployments } of planning.models) {
    if (held.has(name) || !deployments.every(isSeen)) continue;
    const goal = ({ id }: ProblemDeployment) => goals.get(id) ?? 0;
    const lacking = deployments.filter((each) => each.profile !== null && runs(each) < goal(each));
    const released = (each: ProblemDeployment) =>
      each.fixedReplicas === null && lacking.some((other) => other !== each)
        ? Math.max(0, runs(each) - replicas.get(each.id)!)
        : 0;
    const said = warnings.filter((warning) => warning.model === name);
    for (const each of deployments) {
      if (lacking.every((other) => runs(other) === 0 || goal(other) < other.currentReplicas!) && released(each) > 0) {
        if (!said.some(({ deployment: id }) => id === each.id)) faults.push(`${each.id} breaks in silence`);
      }
    }
    if (said.some(({ code }) => code === 'pool_below_running')) continue;
    const running = deployments.reduce((sum, each) => sum + runs(each), 0);
    const broken = said.reduce((sum, { message }) => sum + Number(/: (\d+) of its/.exec(message)![1]), 0);
    if (broken > Math.ceil(running / 4)) faults.push(`${name} loses ${broken} of ${running}`);
  }
  return faults;
}

/** Ids of the deployments that move in steps: of the others only their target is published. */
function stagedIn({ problem: planning, held }: Journey): ReadonlySet<string> {
  return new Set(
    planning.models
      .filter(({ name, deployments }) => {
        const told = deployments.filter(({ readyReplicas }) => readyReplicas !== null);
        const lost = deployments.filter((each) => each.readyReplicas === null && each.currentReplicas === null);
        return !held.has(name) && told.length > 0 && lost.every(({ profile }) => profile === null);
      })
      .flatMap(({ deployments }) => deployments)
      .filter((each) => each.fixedReplicas === null && each.profile !== null && each.currentReplicas !== null)
      .map(({ id }) => id),
  );
}

/** Replicas that hold GPUs as far as is known. */
function readyOf({ readyReplicas, currentReplicas }: ProblemDeployment): number {
  return readyReplicas ?? currentReplicas ?? 0;
}

/** Ready replicas that are asked for. */
function runs({ readyReplicas, currentReplicas }: ProblemDeployment): number {
  return Math.min(readyReplicas!, currentReplicas!);
}

function isSeen({ currentReplicas, readyReplicas }: ProblemDeployment): boolean {
  return currentReplicas !== null && readyReplicas !== null;
}

/**
 * Takes steps until the targets run, while a cluster starts and stops one replica after the other in any order, each
 * only where there is a GPU for it.
 */
function travel(journey: Journey): { readonly faults: readonly string[]; readonly broken: ReadonlySet<string> } {
  const goals = ends(journey);
  const { random, targets, held } = journey;
  let planning = journey.problem;
  const rooms = limitsOf(planning).map(({ gpus, of }) =>
    Math.max(
      gpus,
      of.reduce((sum, each) => sum + each.gpusPerReplica * (goals.get(each.id) ?? 0), 0),
    ),
  );
  const broken = new Set<string>();
  const isAllSeen = deploymentsOf(planning).every(isSeen);
  for (let steps = 1; steps < 3000; steps++) {
    const made = stepTowards({ problem: planning, targets, held });
    const { replicas } = made;
    for (const { code } of made.warnings) broken.add(code);
    const faults = faultsOf({ ...journey, problem: planning }, made);
    if (faults.length > 0) return { faults, broken };
    const changed = deploymentsOf(planning).some(({ id, currentReplicas }) => replicas.get(id) !== currentReplicas);
    if (steps > 1 && isAllSeen) {
      for (const { id, currentReplicas: current } of deploymentsOf(planning)) {
        const [from, to, goal] = [current!, replicas.get(id)!, goals.get(id)!];
        if (Math.abs(to - goal) > Math.abs(from - goal))
          return { faults: [`${id} goes back, ${from} to ${to}`], broken };
      }
    }
    planning = withRuns(planning, ({ id }) => ({ currentReplicas: replicas.get(id)! }));

    const isFree = (each: ProblemDeployment) =>
      each.gpusPerReplica === 0 ||
      limitsOf(planning).every(({ of }, at) => {
        if (!of.some(({ id }) => id === each.id)) return true;
        const runs = of.reduce((sum, one) => sum + one.gpusPerReplica * (one.readyReplicas ?? 0), 0);
        return runs + each.gpusPerReplica <= rooms[at]! + close;
      });
    let happened = 0;
    const candidates = random.shuffle(deploymentsOf(planning));
    const most = random.whole(0, candidates.length);
    for (const { id } of candidates) {
      if (happened > most) break;
      const each = deploymentsOf(planning).find((one) => one.id === id)!;
      const { currentReplicas: current, readyReplicas: ready } = each;
      if (current === null || ready === current) continue;
      if (ready !== null && ready < current && !isFree(each)) continue;
      // What is not known is told some day.
      const next = ready === null ? random.whole(0, current) : ready + Math.sign(current - ready);
      planning = withRuns(planning, (one) => (one.id === id ? { readyReplicas: next } : {}));
      happened++;
    }
    const isThere = deploymentsOf(planning).every(
      ({ id, currentReplicas, readyReplicas }) =>
        currentReplicas === (goals.get(id) ?? null) &&
        (readyReplicas === null || currentReplicas === null || readyReplicas === currentReplicas),
    );
    if (isThere) return { faults: [], broken };
    if (!changed && happened === 0) {
      const state = deploymentsOf(planning).map(
        ({ id, gpuType, gpusPerReplica, currentReplicas, readyReplicas }) =>
          `${id} ${gpuType}×${gpusPerReplica}: ${readyReplicas}/${currentReplicas} → ${goals.get(id)}`,
      );
      return { faults: ['nothing moves any more', ...state], broken };
    }
  }
  return { faults: ['it never ends'], broken };
}

describe('any journey', () => {
  const seeds = fc.integer({ min: 0, max: 2 ** 31 });

  it('reaches its targets through full pools, in steps that keep every promise', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(seeds, (seed) => {
        const { faults, broken } = travel(anyJourney(seed, 'tight'));
        expect(faults).toEqual([]);
        for (const code of broken) seen.set(code, (seen.get(code) ?? 0) + 1);
      }),
      { numRuns: 1000, seed: 1 },
    );
    expect(seen.get('break_before_make')).toBeGreaterThan(100);
    expect(seen.get('pool_below_running')).toBeGreaterThan(20);
  });

  it('reaches its targets where there is room, without breaking anything', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const journey = anyJourney(seed, 'roomy');
        expect(stepTowards(journey).warnings).toEqual([]);
        expect(travel(journey).faults).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  it('never releases a ready replica, where there is room, before what replaces it is ready', () => {
    let moves = 0;
    let partial = 0;
    fc.assert(
      fc.property(seeds, (seed) => {
        const { problem: planning, targets, held } = anyJourney(seed, 'roomy');
        // One length, so that capacities are plain sums.
        const alike: PlanningProblem = {
          ...planning,
          models: planning.models.map((each) => ({
            ...each,
            demand: [short(each.demand[0]!.rps)],
            deployments: each.deployments.filter((one) => isSeen(one) && one.fixedReplicas === null),
          })),
        };
        const { replicas } = stepTowards({ problem: alike, targets, held });
        for (const { deployments, demand } of alike.models) {
          const capacity = (replicasOf: (each: ProblemDeployment) => number) =>
            deployments.reduce(
              (sum, each) => sum + (each.profile === null ? 0 : each.profile.tputs[0]![0]!) * replicasOf(each),
              0,
            );
          const released = deployments.filter((each) => replicas.get(each.id)! < runs(each));
          const lacking = deployments.filter(
            (each) => each.profile !== null && runs(each) < (targets.get(each.id) ?? 0),
          );
          const isMove = released.some((each) => lacking.some((other) => other !== each));
          if (lacking.length > 0) moves++;
          if (!isMove) continue;
          partial++;
          const then = capacity(({ id }) => targets.get(id) ?? 0);
          const left = capacity((each) => Math.min(runs(each), replicas.get(each.id)!));
          expect(left * (1 + 1e-6)).toBeGreaterThanOrEqual(Math.max(then, demand[0]!.rps));
          expect(lacking.some((each) => each.readyReplicas! > 0)).toBe(true);
        }
      }),
      { numRuns: 1000, seed: 1 },
    );
    expect(moves).toBeGreaterThan(100);
    expect(partial).toBeGreaterThan(10);
  });

  it('is the same whatever the order of models, deployments and pools in the document', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const journey = anyJourney(seed, 'tight');
        const { problem: planning, random } = journey;
        const shuffled: PlanningProblem = {
          ...planning,
          pools: random.shuffle(planning.pools),
          models: random
            .shuffle(planning.models)
            .map((each) => ({ ...each, deployments: random.shuffle(each.deployments) })),
        };
        const first = stepTowards(journey);
        const second = stepTowards({ ...journey, problem: shuffled });
        expect(new Map([...second.replicas].sort())).toEqual(new Map([...first.replicas].sort()));
        expect(second.warnings.map(({ message }) => message).sort()).toEqual(
          first.warnings.map(({ message }) => message).sort(),
        );
      }),
      { numRuns: 300 },
    );
  });
});
