import { expect, it } from 'vitest';
import type { BucketDemand } from '../../src/core/planning-problem.js';
import { plan } from '../../src/optimizer/plan.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { deployment, model, problem, short, shortAndLong } from './builders.js';

/**
 * Journeys of whole plans: the demand changes places between models, and every step plans anew from what runs by then.
 * Every plan passes its own check, or its models would be held.
 */

const gpuTypes = ['A', 'B', 'C'];
const stepsAtMost = 200;

type Runs = { current: number; ready: number };

/** Models on three GPU types, and pools that hold what they need and no more. */
function anyFleet(random: SeededRandom) {
  const models = Array.from({ length: random.whole(2, 3) }, (_, m) => ({
    name: `m${m}`,
    priority: random.whole(0, 1),
    deployments: gpuTypes.map((gpuType) => ({
      id: `ns/${m}-${gpuType}`,
      gpuType,
      gpusPerReplica: random.pick([1, 1, 2]),
      usdPerReplicaHour: random.between(1, 5),
      profile: shortAndLong(random.between(5, 30), random.between(2, 12)),
    })),
  }));
  const runs = new Map<string, Runs>(
    models.flatMap(({ deployments }) => deployments.map(({ id }) => [id, { current: 0, ready: 0 }] as const)),
  );
  const demands = (): ReadonlyMap<string, readonly BucketDemand[]> =>
    new Map(
      models.map(({ name }) => [
        name,
        [short(random.between(1, 60)), { inputTokens: 2048, outputTokens: 64, rps: random.between(0, 10) }],
      ]),
    );
  return { models, runs, demands };
}
type Fleet = ReturnType<typeof anyFleet>;

/** GPUs of a type, by what each deployment counts. */
function gpusOf({ models }: Fleet, gpuType: string, replicasOf: (id: string) => number): number {
  return models
    .flatMap(({ deployments }) => deployments)
    .filter((each) => each.gpuType === gpuType)
    .reduce((sum, { id, gpusPerReplica }) => sum + gpusPerReplica * replicasOf(id), 0);
}

function planned(
  fleet: Fleet,
  demand: ReadonlyMap<string, readonly BucketDemand[]>,
  pools: Map<string, number> | null,
) {
  const { models, runs } = fleet;
  const found = plan(
    problem({
      pools: [...(pools ?? [])].map(([gpuType, gpus]) => ({ gpuType, gpus })),
      models: models.map((each) =>
        model({
          ...each,
          demand: [...demand.get(each.name)!],
          deployments: each.deployments.map((one) => {
            const { current, ready } = runs.get(one.id)!;
            return deployment({ ...one, currentReplicas: current, readyReplicas: ready });
          }),
        }),
      ),
      // Targets of equal cost would otherwise be as good from one step to the next.
      options: { startUsdPerReplica: 0.01, nodeLimit: 5_000 },
    }),
  );
  expect(found.models.filter(({ status }) => status === 'held')).toEqual([]);
  return found;
}

/** Some replicas become ready where there is a GPU for them, some that were released go. @returns how many */
function happen(fleet: Fleet, pools: ReadonlyMap<string, number>, random: SeededRandom): number {
  const most = random.whole(1, 4);
  let happened = 0;
  for (const each of random.shuffle(fleet.models.flatMap(({ deployments }) => deployments))) {
    const own = fleet.runs.get(each.id)!;
    if (happened === most || own.ready === own.current) continue;
    const taken = gpusOf(fleet, each.gpuType, (id) => fleet.runs.get(id)!.ready);
    if (own.ready < own.current && taken + each.gpusPerReplica > pools.get(each.gpuType)!) continue;
    own.ready += Math.sign(own.current - own.ready);
    happened++;
  }
  return happened;
}

it('reaches its targets through pools that are full, planning anew in every step', () => {
  const said = new Map<string, number>();
  let steps = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const random = seededRandom(seed);
    const fleet = anyFleet(random);
    const { runs } = fleet;
    for (const { id, targetReplicas } of planned(fleet, fleet.demands(), null).deployments) {
      runs.set(id, { current: targetReplicas!, ready: targetReplicas! });
    }
    const pools = new Map(gpuTypes.map((type) => [type, gpusOf(fleet, type, (id) => runs.get(id)!.current)]));
    const demand = fleet.demands();
    let step = 0;
    for (; step < stepsAtMost; step++) {
      const { deployments, warnings } = planned(fleet, demand, pools);
      for (const { code } of warnings) said.set(code, (said.get(code) ?? 0) + 1);
      const changed = deployments.filter(({ id, replicas }) => replicas !== runs.get(id)!.current);
      for (const { id, replicas } of changed) runs.get(id)!.current = replicas!;
      for (const [gpuType, gpus] of pools) {
        const taken = gpusOf(fleet, gpuType, (id) => Math.max(runs.get(id)!.current, runs.get(id)!.ready));
        expect(taken).toBeLessThanOrEqual(gpus);
      }
      if (happen(fleet, pools, random) > 0 || changed.length > 0) continue;
      for (const { replicas, targetReplicas } of deployments) expect(replicas).toBe(targetReplicas);
      break;
    }
    expect(step).toBeLessThan(stepsAtMost);
    steps += step;
  }
  expect(steps).toBeGreaterThan(50);
  expect(said.get('break_before_make')).toBeGreaterThan(3);
  // What runs fits its pool from the first step on.
  expect(said.get('pool_below_running')).toBeUndefined();
});

it('asks for nothing that could not start when a GPU type runs short in the middle of a move', () => {
  let cut = 0;
  for (let seed = 1; seed <= 25; seed++) {
    const random = seededRandom(1_000 + seed);
    const fleet = anyFleet(random);
    const { runs } = fleet;
    for (const { id, targetReplicas } of planned(fleet, fleet.demands(), null).deployments) {
      runs.set(id, { current: targetReplicas!, ready: targetReplicas! });
    }
    const pools = new Map(gpuTypes.map((type) => [type, gpusOf(fleet, type, (id) => runs.get(id)!.current)]));
    const demand = fleet.demands();
    // Some of what the first step without limits asks for comes; then no more of two types can be had.
    for (const { id, replicas } of planned(fleet, demand, null).deployments) runs.get(id)!.current = replicas!;
    for (const each of runs.values())
      if (each.current > each.ready) each.ready += random.whole(0, each.current - each.ready);
    for (const type of gpuTypes) {
      const ready = gpusOf(fleet, type, (id) => runs.get(id)!.ready);
      pools.set(type, type === 'C' ? ready + 50 : ready);
    }
    let step = 0;
    for (; step < stepsAtMost; step++) {
      const { deployments, warnings } = planned(fleet, demand, pools);
      expect(warnings.filter(({ code }) => code === 'pool_below_running')).toEqual([]);
      const changed = deployments.filter(({ id, replicas }) => replicas !== runs.get(id)!.current);
      for (const { id, replicas, targetReplicas } of changed) {
        const { current, ready } = runs.get(id)!;
        if (replicas! < Math.min(current, targetReplicas!)) cut++;
        expect(replicas).toBeGreaterThanOrEqual(Math.min(current, targetReplicas!, ready));
        runs.get(id)!.current = replicas!;
      }
      for (const [gpuType, gpus] of pools) {
        const taken = gpusOf(fleet, gpuType, (id) => Math.max(runs.get(id)!.current, runs.get(id)!.ready));
        expect(taken).toBeLessThanOrEqual(gpus);
      }
      if (happen(fleet, pools, random) > 0 || changed.length > 0) continue;
      for (const { replicas, targetReplicas } of deployments) expect(replicas).toBe(targetReplicas);
      break;
    }
    expect(step).toBeLessThan(stepsAtMost);
  }
  expect(cut).toBeGreaterThan(0);
});
