import { existsSync, readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitOf, kvBytesPerTokenPerGpu, weightBytesOf, weightsExceedMemory } from '../../src/core/gpu-memory.js';
import { type CataloguedGpu, gpuByName, parseGpuCatalogue } from '../../src/core/gpu-types.js';
import {
  type CataloguedModel,
  modelByName,
  parseModelCatalogue,
  weightPrecisions,
} from '../../src/core/model-types.js';

const gpus = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');
const models = parseModelCatalogue(JSON.parse(readFileSync('profiles/models.json', 'utf8')), 'profiles/models.json');
const gpu = (name: string): CataloguedGpu => gpuByName(gpus, name)!;
const model = (name: string): CataloguedModel => modelByName(models, name)!;

describe('the bytes of weights', () => {
  it.each([
    // Sizes of the published safetensors files [GB].
    ['llama-3.1-8b', 'bf16', 16.06],
    ['llama-3.1-8b', 'fp8', 9.08],
    ['llama-3.1-8b', 'int4', 5.73],
    ['llama-3.1-70b', 'bf16', 141.1],
    ['llama-3.1-70b', 'fp8', 72.7],
    ['llama-3.1-70b', 'int4', 39.8],
    ['qwen2.5-7b', 'bf16', 15.23],
    ['qwen2.5-7b', 'int4', 5.57],
    ['qwen3-32b', 'bf16', 65.5],
    ['mixtral-8x7b', 'bf16', 93.4],
    ['gpt-oss-120b', 'fp4', 65.2],
    ['bge-m3', 'bf16', 1.136],
  ] as const)('of %s in %s are those of its files: %s GB', (name, precision, gigabytes) => {
    expect(weightBytesOf(model(name), precision) / 1e9 / gigabytes).toBeCloseTo(1, 1);
    expect(Math.abs(weightBytesOf(model(name), precision) / 1e9 / gigabytes - 1)).toBeLessThan(0.03);
  });

  it('are bits of every weight alike where a format states them', () => {
    // Llama-3.1-8B-Q4_K_M.gguf has 4.92 GB.
    expect(weightBytesOf(model('llama-3.1-8b'), 'int4', 4.89) / 1e9).toBeCloseTo(4.91, 2);
  });
});

describe('keys and values of one token', () => {
  const perToken = (name: string, gpus: number, sequenceTokens = 4096) =>
    kvBytesPerTokenPerGpu(model(name), { gpus, sequenceTokens });

  it('are split over GPUs as long as there are heads, and copied beyond', () => {
    expect([1, 2, 8, 16].map((count) => perToken('llama-3.1-70b', count) / 1024)).toEqual([320, 160, 40, 40]);
    expect([1, 2].map((count) => perToken('gemma-2b', count))).toEqual([18432, 18432]);
  });

  it("are on every GPU with MLA's one vector", () => {
    expect([1, 8].map((count) => perToken('deepseek-v3', count))).toEqual([70272, 70272]);
  });

  it('are kept by windowed layers as far as the window reaches', () => {
    // 18 of 36 layers look back over 128 tokens: of 4,096, half of them keep a 32nd.
    expect(perToken('gpt-oss-120b', 1, 4096)).toBe(73728 * (0.5 + 0.5 / 32));
    expect(perToken('gpt-oss-120b', 1, 100)).toBe(73728);
    expect(perToken('mistral-7b', 1, 8192)).toBe(131072 / 2);
  });

  it('take half at 8 bits', () => {
    expect(kvBytesPerTokenPerGpu(model('llama-3.1-8b'), { gpus: 1, kvPrecision: 'fp8' })).toBe(65536);
  });
});

describe('what fits into a replica', () => {
  const bf16 = (gpuName: string, modelName: string, gpusPerReplica = 1) =>
    fitOf({ gpu: gpu(gpuName), model: model(modelName), gpusPerReplica, weightPrecision: 'bf16' });

  it('is said with the whole sum', () => {
    // 81,559 MiB × 0.9 − 0.75 GiB − 8192 × 2 × (4 × 4096 + 2 × 14336) − 256 × 8 × 128256 bytes = 70.0 GiB; less 15.0 GiB: / 128 KiB.
    const fit = bf16('H100', 'llama-3.1-8b');
    expect(fit.usableBytesPerGpu).toBe(81559 * 2 ** 20 * 0.9 - 0.75 * 2 ** 30 - 8192 * 2 * 45056 - 2048 * 128256);
    expect(fit.kvCacheTokens).toBe(Math.floor((fit.usableBytesPerGpu - 2 * 8030261248) / 131072));
    expect(fit.arithmetic).toBe(
      `llama-3.1-8b has 8.03 billion weights, 15.0 GiB in bf16 on one GPU; of the 79.6 GiB of H100 an engine can use 70.0 GiB, which leaves room for ${fit.kvCacheTokens.toLocaleString('en-US')} tokens`,
    );
  });

  it.each([
    ['L4', 'llama-3.1-8b', 1, true],
    ['T4', 'llama-2-7b', 1, false],
    ['A10G', 'llama-2-13b', 1, false],
    ['A100-80GB', 'llama-3.1-70b', 1, false],
    ['A100-80GB', 'llama-3.1-70b', 2, true],
    ['H100', 'qwen3-32b', 1, true],
    ['RTX-4090', 'qwen3-32b', 1, false],
    ['L40S', 'qwen3-32b', 2, true],
    ['H200', 'llama-3.1-405b', 8, true],
    ['H100', 'llama-3.1-405b', 8, false],
  ] as const)('%s, %s, %i GPUs: %s', (gpuName, modelName, count, fits) => {
    const fit = bf16(gpuName, modelName, count);
    expect(fit.fits).toBe(fits);
    expect(fit.kvCacheTokens > 0).toBe(fits);
  });

  it('is no cache, and fits, for an encoder', () => {
    const fit = bf16('T4', 'bge-m3');
    expect([fit.fits, fit.kvCacheTokens]).toEqual([true, 0]);
    expect(fit.arithmetic).not.toContain('tokens');
  });

  it('never gets worse with more GPUs, more memory or fewer bits', () => {
    const anyGpu = fc.constantFrom(...gpus.entries);
    const anyModel = fc.constantFrom(...models.entries);
    fc.assert(
      fc.property(
        anyGpu,
        anyModel,
        fc.constantFrom(1, 2, 4, 8),
        fc.constantFrom(...weightPrecisions),
        (part, one, count, format) => {
          const question = { gpu: part, model: one, gpusPerReplica: count, weightPrecision: format };
          const fit = fitOf(question);
          const more = [
            fitOf({ ...question, gpusPerReplica: 2 * count }),
            fitOf({ ...question, gpu: { ...part, reportedMemoryMib: 1.2 * part.memoryGib * 1024 } }),
            fitOf({ ...question, weightPrecision: 'int4', kvPrecision: 'fp8' }),
          ];
          for (const value of [fit.kvCacheTokens, fit.usableBytesPerGpu, fit.weightBytesPerGpu]) {
            expect(Number.isFinite(value) && value >= 0).toBe(true);
          }
          // What surely cannot fit does not fit either way.
          if (weightsExceedMemory(question) !== null) expect(fit.fits).toBe(false);
          for (const better of more) expect(better.kvCacheTokens).toBeGreaterThanOrEqual(fit.kvCacheTokens);
          return more.every(({ fits }) => fits || !fit.fits);
        },
      ),
    );
  });
});

const composed = '../shared/data/profiles/composed';

it.skipIf(!existsSync(composed))(
  'leaves the cache that was composed for 19 replicas, within the memory that its author counted (skipped where they are absent)',
  () => {
    const deviations = readdirSync(composed).map((file) => {
      const document = JSON.parse(readFileSync(`${composed}/${file}`, 'utf8'));
      const { gpu: gpuName, model: modelName, gpus_per_replica: gpusPerReplica, kv_cache_tokens: expected } = document;
      const part = gpu(gpuName);
      const one = model(modelName);
      const fit = fitOf({ gpu: part, model: one, gpusPerReplica, weightPrecision: 'bf16' });
      // Its author takes 80 GB for 80 × 10^9 bytes; the driver reports 81,559 MiB. Compared is what remains of the memory
      // that he counts, at his share of 0.92: our reserve against his of 3 GB.
      const nominal = fitOf({
        ...{ gpu: { ...part, reportedMemoryMib: (part.memoryGib * 1e9) / 2 ** 20 }, model: one, gpusPerReplica },
        ...{ weightPrecision: 'bf16', memoryUtilization: 0.92 },
      });
      return { file, asReported: fit.kvCacheTokens / expected, asCounted: nominal.kvCacheTokens / expected };
    });
    expect(deviations).toHaveLength(19);
    for (const { file, asReported, asCounted } of deviations) {
      expect(asCounted, `${file}: of the memory counted there`).toBeGreaterThan(1);
      expect(asCounted, `${file}: of the memory counted there`).toBeLessThan(1.12);
      expect(asReported, `${file}: of the memory reported`).toBeGreaterThan(1);
      expect(asReported, `${file}: of the memory reported`).toBeLessThan(1.4);
    }
  },
);
