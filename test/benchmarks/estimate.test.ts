import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { shippedFigures } from '../../benchmarks/estimate.js';
import { calibrate, fittedGpus, holdAgainst, spreadOf, uncalibrated } from '../../benchmarks/estimate-yardstick.js';
import { type MeasuredPoints, measuredFolder, readMeasured } from '../../benchmarks/measured-profiles.js';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { InputError } from '../../src/core/input-error.js';
import {
  errorsByGpu,
  errorsOfUnseen,
  estimateCalibrations,
  gpuClasses,
} from '../../src/simulation/estimate-calibration.js';

describe('published measurements', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gpumix-measured-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  const document = (overrides: object) => ({
    schema: 'gpu-profile/1',
    kind: 'measured-end-to-end',
    gpu: 'H100',
    gpus_per_replica: 2,
    model: 'meta-llama/Llama-3.1-8B-Instruct',
    precision: 'fp16',
    engine: 'vLLM',
    source: { repo: 'someone/something' },
    points: [{ input: 128, output: 64, batch: 8, req_per_s: 3 }],
    ...overrides,
  });
  const read = async (...documents: readonly object[]) => {
    for (const file of readdirSync(folder)) rmSync(join(folder, file));
    for (const [i, content] of documents.entries()) writeFileSync(join(folder, `${i}.json`), JSON.stringify(content));
    return readMeasured({ gpus: await loadGpuCatalogue(), models: await loadModelCatalogue(), folder });
  };

  it('are read with GPU and model of the catalogue', async () => {
    const { points } = await read(
      document({}),
      document({
        gpus_per_replica: 'per point (tp)',
        precision: 'per point',
        engine: 'per point',
        points: [
          {
            input: 128,
            output: 64,
            concurrency: 8,
            tp: 4,
            precision: 'fp8',
            engine: 'trtllm 1.0',
            ttft_ms: 20,
            tpot_ms: 5,
            req_per_s: 3,
          },
        ],
      }),
    );
    expect(points).toMatchObject([
      {
        run: 'batch',
        requests: 8,
        gpusPerReplica: 2,
        weightPrecision: 'bf16',
        engine: 'vLLM',
        ttftMs: null,
        gpu: { name: 'H100' },
        model: { name: 'llama-3.1-8b' },
      },
      { run: 'closed', gpusPerReplica: 4, weightPrecision: 'fp8', engine: 'TensorRT-LLM', ttftMs: 20, tpotMs: 5 },
    ]);
  });

  it('are left out, and counted, where something is not stated or not known', async () => {
    const point = { input: 128, output: 64, batch: 8, req_per_s: 3 };
    const {
      points,
      leftOut,
      assumedPrecision,
      read: count,
    } = await read(
      document({ gpu: 'A100-memory-unstated' }),
      document({ precision: 'see section' }),
      document({ gpu: 'H100-SXM-80GB-power-capped' }),
      document({ model: 'someone/unheard-of-7b' }),
      document({ gpu: 'XYZ-1000' }),
      document({ precision: 'per point', points: [{ ...point, precision: 'unstated' }] }),
      document({ points: [{ ...point, input: 131_072 }] }),
      document({ points: [{ input: 128, output: 64, req_per_s: 3 }] }),
    );
    expect(points).toEqual([]);
    expect(count).toBe(8);
    expect([...leftOut.values()]).toEqual(Array.from({ length: 8 }, () => 1));
    expect(assumedPrecision).toHaveLength(1);
    expect([...leftOut.keys()].join('\n')).toContain('no XYZ-1000 in the catalogue');
  });

  it('of another shape are refused with their place', async () => {
    await expect(read(document({ points: [{ req_per_s: 'fast' }] }))).rejects.toThrow(InputError);
  });
});

describe.skipIf(!existsSync(measuredFolder))(
  'estimates against measurements (skipped where ../shared is absent)',
  () => {
    let measured: MeasuredPoints;
    beforeAll(async () => {
      measured = readMeasured({ gpus: await loadGpuCatalogue(), models: await loadModelCatalogue() });
    });

    it('are fitted on every second GPU by name', () => {
      const names = [...new Set(measured.points.map(({ gpu }) => gpu.name))].sort();
      expect([...fittedGpus(measured.points)].sort()).toEqual(names.filter((_, index) => index % 2 === 0));
      expect(names.length).toBeGreaterThanOrEqual(10);
      for (const [name, { fitted }] of Object.entries(errorsByGpu)) {
        expect(fitted, name).toBe(fittedGpus(measured.points).has(name));
      }
    });

    it('account for every point that was read', () => {
      const { comparisons, misfits, lacking } = holdAgainst(measured.points, estimateCalibrations);
      const left = [...measured.leftOut.values(), ...lacking.values()].reduce((sum, count) => sum + count, 0);
      expect(comparisons.length + misfits.length + left).toBe(measured.read);
      expect(misfits.length).toBeLessThan(0.01 * measured.points.length);
    });

    it('have the errors that they state', () => {
      const { comparisons } = holdAgainst(measured.points, estimateCalibrations);
      const { byGpu, unseen } = shippedFigures(comparisons, fittedGpus(measured.points));
      expect(Object.keys(errorsByGpu).sort()).toEqual(Object.keys(byGpu).sort());
      const stated = [...Object.entries(errorsByGpu), ...Object.entries(errorsOfUnseen)];
      const found = { ...byGpu, ...unseen } as Readonly<Record<string, { p10: number; median: number; p90: number }>>;
      for (const [name, spread] of stated) {
        for (const key of ['p10', 'median', 'p90'] as const) {
          expect(Math.abs(spread[key] / found[name]![key] - 1), `${name} ${key}`).toBeLessThan(0.03);
        }
      }
    });

    it('have the factors that fit best: a new fit from nothing is no better by more than a trace', () => {
      const fitted = fittedGpus(measured.points);
      const known = measured.points.filter(({ gpu }) => fitted.has(gpu.name));
      const start = Object.fromEntries(gpuClasses.map((name) => [name, uncalibrated])) as typeof estimateCalibrations;
      const again = calibrate(known, start);
      for (const name of gpuClasses) {
        for (const factor of ['compute', 'bandwidth'] as const) {
          expect(estimateCalibrations[name][factor] / again[name][factor], `${name} ${factor}`).toBeCloseTo(1, 1);
        }
      }
    }, 60_000);

    it('are within ±50 % for nine in ten runs on NVIDIA GPUs that the fit never saw, and better than without factors', () => {
      const fitted = fittedGpus(measured.points);
      const unseen = measured.points.filter(({ gpu }) => gpu.vendor === 'nvidia' && !fitted.has(gpu.name));
      const rateOf = (calibrations: typeof estimateCalibrations) =>
        spreadOf(holdAgainst(unseen, calibrations).comparisons, 'rate')!;
      const found = rateOf(estimateCalibrations);
      expect(found.within50).toBeGreaterThan(0.9);
      expect(Math.abs(found.median - 1)).toBeLessThan(0.1);
      const none = Object.fromEntries(gpuClasses.map((name) => [name, uncalibrated])) as typeof estimateCalibrations;
      expect(found.within25).toBeGreaterThan(rateOf(none).within25);
    });
  },
);
