import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { drawArrivals } from '../../src/profiling/arrivals.js';
import { projectCapacity } from '../../src/profiling/capacity-projection.js';
import type { Cell } from '../../src/profiling/measurement.js';
import { simulateLoad } from '../../src/simulation/load-run.js';
import { SimulatedReplica } from '../../src/simulation/replica.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';
import { cell, outcomes, slo } from './run-builders.js';

const stepTimes = stepTimesOf({
  gpu: gpuByName(await loadGpuCatalogue(), 'L4')!,
  model: modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!,
  gpusPerReplica: 1,
  weightPrecision: 'bf16',
});
const limits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 16_384 };
const objective = slo({ ttftSeconds: 2 });

function runOn(one: Cell, options: { readonly requestRate: number; readonly count: number; readonly stopAt?: number }) {
  const { requestRate, count, stopAt = Number.POSITIVE_INFINITY } = options;
  const requests = drawArrivals({ kind: 'poisson', requestRate, count, seed: 4, lengths: one });
  const replica = new SimulatedReplica({ stepTimes, limits });
  const shouldAbort = (_: unknown, elapsed: number) => (elapsed > stopAt ? 'enough' : null);
  return simulateLoad({ replica, requests, shouldAbort }).outcomes;
}

describe('what one run says of the capacity', () => {
  // Long runs on this replica meet a P90 of TPOT 0.1 s up to these rates [requests/s] (benchmarks/search.ts).
  const limitedByTpot: [Cell, number][] = [
    [cell(4, 128), 15.5],
    [cell(8, 64), 31.5],
    [cell(64, 64), 16.9],
  ];
  it.each(limitedByTpot)(
    'cell %j: within 30 %% of %d requests/s, from runs at a third and at twice of it',
    (one, capacity) => {
      for (const [factor, stopAt] of [
        [1 / 3, undefined],
        [2, 25],
      ] as const) {
        const run = runOn(one, {
          requestRate: capacity * factor,
          count: 400,
          ...(stopAt === undefined ? {} : { stopAt }),
        });
        const projection = projectCapacity(run, objective)!;
        expect(Math.abs(Math.log(projection.rate / capacity))).toBeLessThan(Math.log(1.3));
        expect(projection.logDeviation).toBeLessThan(0.4);
      }
    },
  );

  it('where requests queue for the cache: about the rate at which a full one completes', () => {
    // 2,048 + 512 tokens: 15 fit the cache of an L4 at once.
    const run = runOn(cell(2048, 512), { requestRate: 0.6, count: 200, stopAt: 200 });
    const projection = projectCapacity(run, objective)!;
    expect(projection.rate).toBeGreaterThan(0.12);
    expect(projection.rate).toBeLessThan(0.35);
  });

  it('is nothing where nothing can be learnt: too few, no stream, one load only, no limit', () => {
    const run = runOn(cell(64, 64), { requestRate: 5, count: 100 });
    expect(projectCapacity(run.slice(0, 5), objective)).toBeNull();
    expect(
      projectCapacity(
        run.map((one) => ({ ...one, firstTokenSeconds: null })),
        objective,
      ),
    ).toBeNull();
    expect(
      projectCapacity(
        outcomes(50, () => ({}), 10),
        objective,
      ),
    ).toBeNull();
    expect(projectCapacity(run, slo({ ttftSeconds: null, tpotSeconds: null }))).toBeNull();
    expect(projectCapacity([], objective)).toBeNull();
  });
});
