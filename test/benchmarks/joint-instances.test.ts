import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { gpusOf, type JointInstance, jointFleet, marketTypes, withPools } from '../../benchmarks/joint-instances.js';
import { type ProblemModel, planningProblemSchema } from '../../src/core/planning-problem.js';
import { plan } from '../../src/optimizer/plan.js';

const shares = [0.7, 0.9, 1.1];
const fleets = [
  { models: 10, gpuTypes: 4, buckets: 20, seed: 1 },
  { models: 8, gpuTypes: 8, buckets: 40, seed: 2 },
  { models: 3, gpuTypes: 12, buckets: 90, seed: 3 },
  { models: 6, gpuTypes: 2, buckets: 5, seed: 4 },
].map((size) => ({ size, fleet: jointFleet(size) }));
const instances = fleets.flatMap(({ size, fleet }) =>
  shares.map((share) => ({ size, fleet, share, instance: withPools(fleet, share) })),
);

describe('the generator of joint instances', () => {
  test('gives the same instance for the same options, and another for another seed', () => {
    const options = { models: 5, gpuTypes: 4, buckets: 20, seed: 7 };
    expect(withPools(jointFleet(options), 0.7)).toEqual(withPools(jointFleet(options), 0.7));
    expect(jointFleet({ ...options, seed: 8 }).models).not.toEqual(jointFleet(options).models);
  });

  test('a larger fleet begins with the models of the smaller one', () => {
    const options = { gpuTypes: 4, buckets: 20, seed: 7 };
    expect(jointFleet({ ...options, models: 5 }).models.slice(0, 3)).toEqual(
      jointFleet({ ...options, models: 3 }).models,
    );
  });

  test('has as many models, GPU types and buckets as asked for, and no bucket twice', () => {
    for (const { size, fleet } of fleets) {
      expect(fleet.models).toHaveLength(size.models);
      for (const { demand, deployments } of fleet.models) {
        expect(deployments.map(({ gpuType }) => gpuType)).toEqual(
          marketTypes.slice(0, size.gpuTypes).map(({ gpuType }) => gpuType),
        );
        const lengths = demand.map(({ inputTokens, outputTokens }) => `${inputTokens}:${outputTokens}`);
        expect(new Set(lengths).size).toBe(size.buckets);
      }
    }
  });

  test('each model needs 1 to 5 replicas alone', () => {
    const needed = fleets.flatMap(({ fleet }) => fleet.freeReplicas.map(total));
    expect(Math.min(...needed)).toBe(1);
    expect(Math.max(...needed)).toBe(5);
  });

  test('small GPU types cannot serve some long requests, and large ones can serve all', () => {
    const cells = (memoryGib: (gib: number) => boolean) =>
      fleets.flatMap(({ fleet }) =>
        fleet.models.flatMap(({ deployments }) =>
          deployments
            .filter((_, d) => memoryGib(marketTypes[d]!.memoryGib))
            .flatMap(({ profile }) => profile!.tputs.flat()),
        ),
      );
    expect(cells((gib) => gib < 80)).toContain(0);
    expect(cells((gib) => gib >= 80)).not.toContain(0);
  });

  test('per dollar, an H100 is relatively better at long requests than an L4', () => {
    // Of models that fit one GPU of either; more GPUs in a replica have more memory for long requests.
    const small = fleets[0]!.fleet.models.filter(({ deployments }) =>
      deployments.every(({ gpusPerReplica }) => gpusPerReplica === 1),
    );
    expect(small.length).toBeGreaterThan(4);
    for (const { deployments } of small) {
      const l4 = deployments.find(({ gpuType }) => gpuType === 'L4')!.profile!.tputs;
      const h100 = deployments.find(({ gpuType }) => gpuType === 'H100')!.profile!.tputs;
      const advantage = (row: number, column: number) => h100[row]![column]! / l4[row]![column]!;
      expect(advantage(5, 5)).toBeGreaterThan(advantage(1, 1));
    }
  });

  test('every pool but the relief is at its share of the free use', () => {
    for (const { fleet, share, instance } of instances) {
      for (const { gpuType, gpus } of instance.problem.pools) {
        const atShare = Math.floor(share * instance.freeGpus.get(gpuType)! + 1e-9);
        if (gpuType === instance.relief) expect(gpus).toBeGreaterThanOrEqual(atShare);
        else expect(gpus).toBe(atShare);
      }
      expect(instance.problem.models).toEqual(fleet.models);
    }
  });

  test('the witness fits every pool and leaves nothing unserved', () => {
    for (const { fleet, instance } of instances) {
      gpusOf(fleet, instance.witness).forEach((gpus, g) => {
        expect(gpus).toBeLessThanOrEqual(instance.problem.pools[g]!.gpus!);
      });
      expect(unservedOf(instance)).toBe(0);
    }
  });

  test('with pools above the free use the free plans are the witness, below it is dearer', () => {
    for (const { fleet, share, instance } of instances) {
      if (share > 1) expect(instance.witnessUsdPerHour).toBeCloseTo(fleet.freeUsdPerHour, 9);
      else expect(instance.witnessUsdPerHour).toBeGreaterThan(fleet.freeUsdPerHour);
    }
  });

  test('a joint plan serves everything and costs no more than the witness', () => {
    for (const { fleet, share, instance } of instances.filter(({ size }) => size.seed === 4)) {
      const answer = plan(instance.problem);
      expect(answer.unserved).toEqual([]);
      expect(answer.usdPerHour).toBeLessThanOrEqual(instance.witnessUsdPerHour * (1 + 1e-9));
      expect(answer.usdPerHour).toBeGreaterThanOrEqual(fleet.freeUsdPerHour * (1 - 1e-9));
      if (share > 1) expect(answer.status).toBe('optimal');
    }
  });

  test('an infinite share makes unlimited pools, and the free plans are the witness', () => {
    const { fleet } = fleets[0]!;
    const { problem, witness } = withPools(fleet, Number.POSITIVE_INFINITY);
    expect(new Set(problem.pools.map(({ gpus }) => gpus))).toEqual(new Set([null]));
    expect(witness).toEqual(fleet.freeReplicas);
  });

  test('refuses more GPU types than the market has', () => {
    expect(() => jointFleet({ models: 1, gpuTypes: 13, buckets: 4, seed: 1 })).toThrow(
      'gpuTypes: expected at most 12, found 13',
    );
  });

  test('the prices are those of the catalogue', () => {
    const { gpus } = JSON.parse(readFileSync('profiles/gpus.json', 'utf8')) as {
      gpus: { name: string; usdPerGpuHour: number; memoryGib: number }[];
    };
    for (const { gpuType, usdPerGpuHour, memoryGib } of marketTypes) {
      expect(gpus.find(({ name }) => name === gpuType)).toMatchObject({ usdPerGpuHour, memoryGib });
    }
  });
});

/** Requests/s that the witness leaves unserved: each model planned alone with exactly those replicas. */
function unservedOf({ problem, witness }: JointInstance): number {
  const fixed = problem.models.map(
    (model, m): ProblemModel => ({
      ...model,
      deployments: model.deployments.map((deployment, d) => ({ ...deployment, fixedReplicas: witness[m]![d]! })),
    }),
  );
  const answer = plan(planningProblemSchema.parse({ ...problem, models: fixed, pools: [] }));
  return total(answer.unserved.map(({ rps }) => rps));
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
