import { describe, expect, test } from 'vitest';
import {
  type Comparison,
  type ComposedProfile,
  compare,
  fitEfficiency,
  fittedModel,
  readComposedProfiles,
  timesOf,
  withTheirCache,
} from '../../benchmarks/step-time.js';
import { percentile } from '../../benchmarks/timing.js';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { efficiencies, efficiencyClassOf } from '../../src/simulation/gpu-efficiency.js';
import { type ReplicaSpec, type Step, stepTimesOf } from '../../src/simulation/step-time.js';

const [gpus, models] = await Promise.all([loadGpuCatalogue(), loadModelCatalogue()]);
const gpu = (name: string) => gpuByName(gpus, name)!;
const model = (name: string) => modelByName(models, name)!;

function spec(overrides: Partial<ReplicaSpec> = {}): ReplicaSpec {
  return { gpu: gpu('H100'), model: model('llama-3.1-8b'), gpusPerReplica: 1, weightPrecision: 'bf16', ...overrides };
}
const decode = (sequences: number, contextEach: number): Step => ({
  prefillTokens: 0,
  prefillAttention: 0,
  decodeSequences: sequences,
  decodeContextTokens: sequences * contextEach,
});
const prompt = (tokens: number): Step => ({
  prefillTokens: tokens,
  prefillAttention: (tokens * tokens) / 2,
  decodeSequences: 0,
  decodeContextTokens: 0,
});

describe('the time of a step', () => {
  test('of one sequence is at least that of reading all weights at the full bandwidth, and at most twice that', () => {
    for (const name of ['A100-80GB', 'H100', 'H200', 'B200', 'L40S', 'RTX-PRO-6000', 'L4', 'A10G', 'MI300X']) {
      const bytes = 2 * (model('llama-3.1-8b').parameters - 128_256 * 4096);
      const readMs = bytes / (gpu(name).memoryGBps! * 1e6);
      const ms = stepTimesOf(spec({ gpu: gpu(name) })).stepMs(decode(1, 100));
      expect(ms, name).toBeGreaterThan(readMs);
      expect(ms, name).toBeLessThan(2 * readMs + 2);
    }
  });

  test('of a long prompt is that of its multiplications at 0.4 to 0.9 of the peak', () => {
    for (const name of ['A100-80GB', 'H100', 'H200', 'B200', 'L40S', 'RTX-PRO-6000', 'L4', 'A10G']) {
      // 2 operations a weight and token without embedding and output, and 4 a pair of tokens and attention's width.
      const weights = model('llama-3.1-8b').parameters - 2 * 128_256 * 4096;
      const operations = 2 * weights * 8192 + 4 * 4096 * 32 * ((8192 * 8192) / 2);
      const ms = stepTimesOf(spec({ gpu: gpu(name) })).stepMs(prompt(8192));
      const achieved = operations / ms / (gpu(name).teraflops.bf16! * 1e9);
      expect(achieved, name).toBeGreaterThan(0.4);
      expect(achieved, name).toBeLessThan(0.9);
    }
  });

  test('grows with every kind of work', () => {
    const { stepMs } = stepTimesOf(spec());
    const base = { prefillTokens: 512, prefillAttention: 512 * 256, decodeSequences: 32, decodeContextTokens: 32_000 };
    for (const key of Object.keys(base) as (keyof Step)[]) {
      expect(stepMs({ ...base, [key]: base[key] * 2 }), key).toBeGreaterThan(stepMs(base));
    }
  });

  test('falls with fewer bits a weight and with fewer bits in the cache', () => {
    const ms = (overrides: Partial<ReplicaSpec>): number => stepTimesOf(spec(overrides)).stepMs(decode(16, 8192));
    expect(ms({ weightPrecision: 'fp8' })).toBeLessThan(ms({}));
    expect(ms({ weightPrecision: 'int4' })).toBeLessThan(ms({ weightPrecision: 'fp8' }));
    expect(ms({ kvPrecision: 'fp8' })).toBeLessThan(ms({}));
    expect(ms({ bitsPerWeight: 4.85 })).toBeLessThan(ms({ weightPrecision: 'fp8' }));
  });

  test('falls with more GPUs a replica, by less than their number', () => {
    const ms = (gpusPerReplica: number): number =>
      stepTimesOf(spec({ model: model('llama-3.1-70b'), gpu: gpu('H200'), gpusPerReplica })).stepMs(decode(8, 2048));
    expect(ms(4)).toBeLessThan(ms(2));
    expect(ms(4)).toBeGreaterThan(ms(2) / 2);
  });

  test('reads of a mixture of experts only those that its tokens use', () => {
    const mixture = models.entries.find(
      ({ feedForward }) => feedForward.experts >= 64 && feedForward.activeExperts <= 8,
    )!;
    const large = { ...gpu('B200'), memoryGib: 4000, reportedMemoryMib: null };
    const { stepMs } = stepTimesOf(spec({ model: mixture, gpu: large, weightPrecision: mixture.publishedPrecision }));
    const one = stepMs(decode(1, 100));
    const many = stepMs(decode(256, 100));
    expect(many).toBeGreaterThan(2 * one);
  });

  test('does not grow with the context beyond the window where all layers have one', () => {
    const windowed = { ...model('llama-3.1-8b'), attentionWindow: 4096, windowedLayers: 32 };
    const { stepMs } = stepTimesOf(spec({ model: windowed }));
    expect(stepMs(decode(8, 8192))).toBeCloseTo(stepMs(decode(8, 4096)), 9);
    expect(stepMs(decode(8, 4096))).toBeGreaterThan(stepMs(decode(8, 2048)));
  });

  test('is a positive finite number for every model on every GPU that it fits and the catalogue describes', () => {
    let pairs = 0;
    for (const one of gpus.entries) {
      for (const other of models.entries) {
        let times: ReturnType<typeof stepTimesOf>;
        try {
          times = stepTimesOf(spec({ gpu: one, model: other, weightPrecision: other.publishedPrecision }));
        } catch (error) {
          expect((error as Error).name).toBe('InputError');
          continue;
        }
        pairs++;
        for (const step of [decode(1, 1), decode(256, 1000), prompt(1), prompt(8192)]) {
          const ms = times.stepMs(step);
          expect(Number.isFinite(ms) && ms > 0, `${other.name} on ${one.name}: ${ms}`).toBe(true);
        }
      }
    }
    expect(pairs).toBeGreaterThan(100);
  });
});

describe('a replica that cannot be', () => {
  test('says by how much its weights are too large', () => {
    expect(() => stepTimesOf(spec({ model: model('llama-3.1-70b') }))).toThrow(
      /llama-3\.1-70b on 1 × H100.*70\.6 billion weights.*expected weights that fit/s,
    );
  });

  test('names the figure that the catalogue lacks', () => {
    const bare = { ...gpu('H100'), memoryGBps: null };
    expect(() => stepTimesOf(spec({ gpu: bare }))).toThrow('GPU H100: memoryGBps: found null');
    const slow = { ...gpu('H100'), teraflops: {} };
    expect(() => stepTimesOf(spec({ gpu: slow }))).toThrow('GPU H100: teraflops: found no rate');
    const alone = { ...gpu('H100'), linkGBps: null };
    expect(() => stepTimesOf(spec({ gpu: alone, gpusPerReplica: 2 }))).toThrow('GPU H100: linkGBps: found null');
    expect(stepTimesOf(spec({ gpu: alone })).kvCacheTokens).toBeGreaterThan(0);
  });

  test('needs a whole number of GPUs', () => {
    expect(() => stepTimesOf(spec({ gpusPerReplica: 1.5 }))).toThrow('gpusPerReplica: found 1.5');
  });
});

const profiles = await readComposedProfiles();

/** The targets of the project: the median within 10 %, 90 % of the cells within 30 %. */
describe.skipIf(profiles === null)('against profiles added up from measured kernels (needs ../shared)', () => {
  type Compared = { readonly profile: ComposedProfile; readonly own: Comparison; readonly theirCache: Comparison };
  const compared = (profiles ?? []).map((profile): Compared => {
    const times = timesOf(profile);
    return { profile, own: compare(profile, times), theirCache: compare(profile, withTheirCache(profile, times)) };
  });
  const fitted = compared.filter(({ profile }) => profile.model.name === fittedModel);
  const unseen = compared.filter(({ profile }) => profile.model.name !== fittedModel);
  const ratesOf = (several: readonly Comparison[]): readonly number[] =>
    several.flatMap(({ rates }) => Object.values(rates).flat());
  const expectWithin = (ratios: readonly number[], most: { readonly median: number; readonly p90: number }): void => {
    expect(Math.abs(percentile(ratios, 0.5) - 1)).toBeLessThan(most.median);
    expect(
      percentile(
        ratios.map((ratio) => Math.abs(ratio - 1)),
        0.9,
      ),
    ).toBeLessThan(most.p90);
  };

  test('compares all cells of 19 files', () => {
    expect(compared).toHaveLength(19);
    for (const { own } of compared) {
      expect(Object.values(own.verdicts).reduce((sum, count) => sum + count)).toBe(9 * 8 * 5);
    }
  });

  test('rates of the fitted model are within the target', () => {
    expectWithin(ratesOf(fitted.map(({ own }) => own)), { median: 0.03, p90: 0.12 });
  });

  test('rates of models that were not fitted are within the target', () => {
    expectWithin(ratesOf(unseen.map(({ theirCache }) => theirCache)), { median: 0.05, p90: 0.25 });
    expectWithin(ratesOf(compared.map(({ own }) => own)), { median: 0.05, p90: 0.3 });
    expectWithin(ratesOf(unseen.map(({ own }) => own)), { median: 0.05, p90: 0.32 });
  });

  test('prompts and decode steps of models that were not fitted are within the target', () => {
    expectWithin(
      unseen.flatMap(({ own }) => own.prompts),
      { median: 0.1, p90: 0.25 },
    );
    expectWithin(
      unseen.flatMap(({ own }) => own.decodeSteps),
      { median: 0.05, p90: 0.2 },
    );
  });

  test('the median of every single file is within 20 %', () => {
    for (const { own } of compared) expectWithin(ratesOf([own]), { median: 0.2, p90: Number.POSITIVE_INFINITY });
    expect(
      compared
        .filter(({ own }) => Math.abs(percentile(ratesOf([own]), 0.5) - 1) >= 0.1)
        .map(({ profile }) => profile.file),
    ).toEqual([
      // Little of its cache is left beside the weights, and the catalogue leaves a third more than the yardstick.
      'b200-sxm-180gbx1__llama-3.1-70b-instruct__composed.json',
    ]);
  });

  test('agrees on which cells are feasible in 97 of 100', () => {
    const count = (key: keyof Comparison['verdicts']): number =>
      compared.reduce((sum, { own }) => sum + own.verdicts[key], 0);
    const agreed = count('both') + count('neither');
    expect(agreed / (agreed + count('oursOnly') + count('theirsOnly'))).toBeGreaterThan(0.97);
  });

  test('what is built in is what a fit on the fitted model gives', () => {
    const hopper = fitted.map(({ profile }) => profile).filter(({ gpu: one }) => efficiencyClassOf(one) === 'hopper');
    const refitted = fitEfficiency(hopper);
    for (const key of ['cacheBandwidth', 'compute', 'promptAttention'] as const) {
      expect(refitted[key]).toBeCloseTo(efficiencies.hopper[key], 2);
    }
  });
});
