import { beforeAll, describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { type GpuCatalogue, gpuByName } from '../../src/core/gpu-types.js';
import { InputError } from '../../src/core/input-error.js';
import { type ModelCatalogue, modelByName, type WeightPrecision } from '../../src/core/model-types.js';
import { parseProfile, profileDocument } from '../../src/core/profile.js';
import { type EstimateOptions, estimateProfile } from '../../src/simulation/estimate.js';
import { errorBarsFor, errorsByGpu, errorsOfUnseen } from '../../src/simulation/estimate-calibration.js';
import { within } from './slo.js';

let gpus: GpuCatalogue;
let models: ModelCatalogue;
beforeAll(async () => {
  [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
});

type Asked = Partial<Omit<EstimateOptions, 'spec'>> & {
  readonly gpu?: string;
  readonly model?: string;
  readonly gpus?: number;
  readonly precision?: WeightPrecision;
};

function estimate({
  gpu = 'H100',
  model = 'llama-3.1-8b',
  gpus: count = 1,
  precision = 'bf16',
  ...options
}: Asked = {}) {
  return estimateProfile({
    spec: {
      gpu: gpuByName(gpus, gpu)!,
      model: modelByName(models, model)!,
      gpusPerReplica: count,
      weightPrecision: precision,
    },
    slo: within({ ttftSeconds: 1, tpotSeconds: 0.05 }),
    percentile: 99,
    deployment: 'llama-h100',
    modelName: 'meta-llama/Llama-3.1-8B-Instruct',
    usdPerReplicaHour: 5,
    createdSeconds: 1_790_000_000,
    version: '0.1.0',
    ...options,
  });
}

describe('an estimated profile', () => {
  it('is one that readers of profiles take, with its origin, its SLO and its error', () => {
    const { profile, errorBars } = estimate();
    const text = JSON.stringify(profileDocument(profile));
    const read = parseProfile(text, 'the estimate');
    expect(read).toMatchObject({
      gpu: 'llama-h100',
      cost: 5,
      model: 'meta-llama/Llama-3.1-8B-Instruct',
      gpuType: 'H100',
      gpusPerReplica: 1,
      created: 1_790_000_000,
      slos: { percentile: 99, ttft: 1, tpot: 0.05 },
      grid: { method: 'estimated' },
      provenance: { method: 'estimated', by: 'gpumix 0.1.0', at: '2026-09-21T14:13:20.000Z' },
    });
    expect(read.grid.tputs).toEqual(profile.grid.tputs);
    expect(read.cells!.flat().every((origin) => origin === 'estimated')).toBe(true);
    expect(read.provenance!.relativeError).toEqual({ p10: errorBars.p10, p90: errorBars.p90 });
    expect(read.provenance!.details).toContain('estimated without a run');
  });

  it('holds more sequences of a model with windows, the longer they are', () => {
    // gpt-oss-20b: half of its 24 layers look back over 128 tokens only. 2 (K, V) · 8 heads · 64 · 2 bytes a layer.
    const cacheBytes = (tokens: number): number => 12 * 2048 * (tokens + Math.min(tokens, 128));
    // Without a limit on latency only the cache bounds how many decode at once: rate × time (Little's law).
    const sequences = (inputTokens: number): number => {
      const { profile } = estimate({
        gpu: 'L4',
        model: 'gpt-oss-20b',
        precision: 'fp4',
        slo: within({ tpotSeconds: 1e6 }),
        percentile: 0,
        grid: { inputTokens: [inputTokens], outputTokens: [2000] },
        limits: { maxSequences: 1e6 },
      });
      return profile.grid.tputs[0]![0]! * 1999 * profile.tpot![0]![0]!;
    };
    const [short, long] = [sequences(1000), sequences(15_000)] as const;
    // The same memory, in sequences with half of their answer each.
    const ratio = short / long / (cacheBytes(16_000) / cacheBytes(2000));
    // One figure for all lengths would be 5.5 % off.
    expect(Math.abs(ratio - 1)).toBeLessThan(0.02);
  });

  it('has cells up to 32k input and 4k output tokens, and latencies beside every rate', () => {
    const { profile, cells, cellsThatMeet } = estimate();
    const [outputs, inputs] = profile.grid.indexes;
    expect([outputs!.at(-1), inputs!.at(-1)]).toEqual([4096, 32_768]);
    expect(cells).toBe(outputs!.length * inputs!.length);
    expect(cellsThatMeet).toBeGreaterThan(cells / 2);
    profile.grid.tputs.forEach((row, r) => {
      row.forEach((rate, c) => {
        if (!(rate! > 0)) return;
        expect(profile.ttft![r]![c]!).toBeGreaterThan(0);
        expect(profile.ttft![r]![c]!).toBeLessThanOrEqual(1);
        expect(profile.tpot![r]![c]!).toBeGreaterThan(0);
        expect(profile.tpot![r]![c]!).toBeLessThanOrEqual(0.05);
        const decodes = outputs![r]! - 1;
        expect(profile.e2e![r]![c]! / (profile.ttft![r]![c]! + decodes * profile.tpot![r]![c]!)).toBeCloseTo(1, 1);
      });
    });
  });

  it('serves less as prompts grow, as the SLO tightens, and on a slower GPU', () => {
    const rates = (asked: Asked) => estimate(asked).profile.grid.tputs as readonly (readonly number[])[];
    const base = rates({});
    for (const row of base) for (let c = 1; c < row.length; c++) expect(row[c]!).toBeLessThanOrEqual(row[c - 1]!);
    const others = [
      rates({ slo: within({ ttftSeconds: 0.5, tpotSeconds: 0.03 }) }),
      rates({ gpu: 'L4' }),
      rates({ slo: within({ ttftSeconds: 1, tpotSeconds: 0.05, e2eSeconds: 5 }) }),
    ];
    for (const other of others) {
      for (const [r, row] of other.entries()) {
        for (const [c, rate] of row.entries()) expect(rate).toBeLessThanOrEqual(base[r]![c]! * 1.001);
      }
      expect(other).not.toEqual(base);
    }
  });

  it('allows prompts the time that their length adds, and says so', () => {
    const fixed = { ttftSeconds: 0.5, tpotSeconds: 0.1 };
    const strict = estimate({ slo: within(fixed) }).profile;
    const patient = estimate({ slo: within({ ...fixed, ttftSecondsPerInputToken: 0.001 }) }).profile;
    const [, inputs] = strict.grid.indexes;
    const last = inputs!.length - 1;
    expect(strict.grid.tputs[0]![last]).toBe(0);
    expect(patient.grid.tputs.some((row) => row[last]! > 0)).toBe(true);
    patient.grid.tputs.forEach((row, r) => {
      row.forEach((rate, c) => {
        expect(rate!).toBeGreaterThanOrEqual(strict.grid.tputs[r]![c]!);
        if (rate! > 0) expect(patient.ttft![r]![c]!).toBeLessThanOrEqual(0.5 + 0.001 * inputs![c]!);
      });
    });
    expect(patient.slos).toEqual({ ...strict.slos, ttft_per_input_token: 0.001 });
    const none = estimate({ slo: within({ ...fixed, ttftSecondsPerInputToken: 0 }) }).profile;
    expect(none).toEqual(strict);
  });

  it('has 0 where a request is longer than the context, or than the cache', () => {
    const { profile } = estimate({ limits: { maxTokens: 5000 }, slo: within({ tpotSeconds: 0.05 }) });
    const [outputs, inputs] = profile.grid.indexes;
    expect(inputs!.at(-1)).toBe(4096);
    expect(profile.grid.tputs[outputs!.indexOf(1024)]![inputs!.indexOf(4096)]).toBe(0);
    expect(profile.e2e![outputs!.indexOf(1024)]![inputs!.indexOf(4096)]).toBeNull();
    expect(profile.grid.tputs[outputs!.indexOf(512)]![inputs!.indexOf(4096)]).toBeGreaterThan(0);
    const small = estimate({ gpu: 'L4', slo: within({ tpotSeconds: 10 }) });
    expect(small.kvCacheTokens).toBeLessThan(32_768);
    expect(small.profile.grid.tputs[0]!.at(-1)).toBe(0);
  });

  it('is written where no cell meets the SLO, with the latencies of a request alone', () => {
    const { profile, cellsThatMeet } = estimate({ slo: within({ tpotSeconds: 0.0001 }) });
    expect(cellsThatMeet).toBe(0);
    expect(profile.tpot![0]![0]!).toBeGreaterThan(0.001);
    expect(() => profileDocument(profile)).not.toThrow();
  });

  it('is refused where the weights do not fit', () => {
    expect(() => estimate({ gpu: 'L4', model: 'qwen3-32b' })).toThrow(InputError);
  });
});

describe('the error bars of an estimate', () => {
  const barsOf = (name: string) => errorBarsFor(gpuByName(gpus, name)!);

  it('are those seen on that very GPU where enough runs were published', () => {
    const { p10, p90, basis } = barsOf('H200');
    expect({ p10, p90 }).toEqual({ p10: errorsByGpu.H200!.p10, p90: errorsByGpu.H200!.p90 });
    expect(basis).toContain('on H200');
    expect(barsOf('L4').basis).toContain('on other GPUs of NVIDIA that');
  });

  it('are those of unseen GPUs of its vendor where it was not measured, or hardly', () => {
    for (const name of ['L4', 'L40S']) {
      expect(barsOf(name)).toMatchObject({ p10: errorsOfUnseen.nvidia!.p10, p90: errorsOfUnseen.nvidia!.p90 });
      expect(barsOf(name).basis).toContain('never saw');
    }
  });

  it('are the widest of all where no unseen GPU of its vendor was measured', () => {
    const intel = gpus.entries.find(({ vendor, name }) => vendor === 'intel' && errorsByGpu[name] === undefined)!;
    const spreads = Object.values(errorsByGpu).filter(({ points }) => points >= 50);
    expect(errorBarsFor(intel)).toMatchObject({
      p10: Math.min(...spreads.map(({ p10 }) => p10)),
      p90: Math.max(...spreads.map(({ p90 }) => p90)),
    });
  });
});
