import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../../src/core/gpu-types.js';
import { modelByName } from '../../../src/core/model-types.js';
import { randomFrom } from '../../../src/profiling/random.js';
import {
  decodeFloorMs,
  type FloorEngine,
  floorExcessMs,
  prefillFloorMs,
  type WorkFloor,
  workFloorOf,
} from '../../../src/simulation/backtest/work-floor.js';
import { leastCostMix } from '../../../src/simulation/backtest/work-floor-lp.js';
import { SimulatedReplica } from '../../../src/simulation/replica.js';
import { type Step, type StepTimes, stepTimesOf } from '../../../src/simulation/step-time.js';

const gpus = await loadGpuCatalogue();
const models = await loadModelCatalogue();

function engineOf(gpu: string, model: string, overrides: Partial<FloorEngine['limits']> = {}): FloorEngine {
  return {
    stepTimes: stepTimesOf({
      gpu: gpuByName(gpus, gpu)!,
      model: modelByName(models, model)!,
      gpusPerReplica: 1,
      weightPrecision: modelByName(models, model)!.publishedPrecision,
    }),
    limits: { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 32768, ...overrides },
  };
}

function mixOf(inputTokens: number, outputTokens: number) {
  const decodeTokens = outputTokens - 1;
  return {
    decodeTokens,
    decodeContextTokens: decodeTokens * (inputTokens + outputTokens / 2),
    prefillTokens: inputTokens,
    prefillAttention: inputTokens ** 2 / 2,
  };
}

type FlooredEngine = { readonly engine: FloorEngine; readonly floor: WorkFloor; readonly tpotSeconds: number };

const objective = { tpotSeconds: 0.1 };
const affine: StepTimes = {
  kvCacheTokens: 20_000,
  stepMs: (step) =>
    10 +
    0.05 * step.prefillTokens +
    1e-6 * step.prefillAttention +
    0.02 * step.decodeSequences +
    2e-4 * step.decodeContextTokens,
};
const affineEngine: FloorEngine = {
  stepTimes: affine,
  limits: { maxSequences: 32, maxBatchedTokens: 2048, maxTokens: 8192 },
};

describe('the work floor', () => {
  it.each([
    ['L40S', 'Llama-3.1-8B', 1155, 211],
    ['L40S', 'Llama-3.1-8B', 2000, 30],
    ['A100-80GB', 'Llama-3.1-8B', 1155, 211],
    ['H100', 'Llama-3.1-8B', 200, 400],
    // Windows bend the time of contexts downwards, experts that of tokens.
    ['H100', 'gpt-oss-20b', 1155, 211],
    ['H100', 'Gemma-3-12B', 3000, 100],
  ])('on %s with %s at %i + %i tokens holds for every feasible step', (gpu, model, input, output) => {
    const engine = engineOf(gpu, model);
    const floor = workFloorOf(engine, { mix: mixOf(input, output), objective });
    expect(floor.certifiedShare).toBeGreaterThan(0.9);
    let excess = Number.NEGATIVE_INFINITY;
    for (const step of randomSteps(engine, 20_000)) {
      excess = Math.max(excess, floorExcessMs(floor, step, engine.stepTimes.stepMs(step)));
    }
    expect(excess).toBeLessThanOrEqual(1e-9);
  });

  it('is what the best mix of full steps takes, where that is known', () => {
    // 32 sequences of 400 tokens fit the cache; prompts of 100 tokens a sequence ride along for their own time.
    const mix = { decodeTokens: 32, decodeContextTokens: 12_800, prefillTokens: 320, prefillAttention: 0 };
    const floor = workFloorOf(affineEngine, { mix, objective });
    const worth = floor.msPerDecodeToken * 32 + floor.msPerContextToken * 12_800 + floor.msPerPrefillToken * 320;
    const best = affine.stepMs({
      prefillTokens: 320,
      prefillAttention: 0,
      decodeSequences: 32,
      decodeContextTokens: 12_800,
    });
    expect(worth / best).toBeGreaterThan(0.995);
    expect(worth).toBeLessThanOrEqual(best);
  });

  it('knows that long steps break the time per token', () => {
    // Steps of 8,192 tokens take 400 ms, of which the fixed part is small; within 50 ms it is not.
    const engine = engineOf('L40S', 'Llama-3.1-8B');
    const mix = mixOf(1000, 20);
    const loose = workFloorOf(engine, { mix, objective: { tpotSeconds: 100 } });
    const strict = workFloorOf(engine, { mix, objective: { tpotSeconds: 0.04 } });
    expect(workOf(strict, 1000, 20)).toBeGreaterThan(1.02 * workOf(loose, 1000, 20));
    expect(strict.tpotWeight).toBeGreaterThan(0);
  });

  it('is not above the time that a replica computes, over all requests that attain', () => {
    // A small cache preempts; there, recomputed prompts make tokens as well.
    const [small, large] = [2048, 20_000].map((kvCacheTokens) => {
      const engine = {
        stepTimes: { ...affine, kvCacheTokens },
        limits: { ...affineEngine.limits, maxTokens: 2000 },
      };
      return [0.03, 10].map((tpotSeconds) => {
        const floor = workFloorOf(engine, { mix: mixOf(200, 60), objective: { tpotSeconds } });
        return { engine, floor, tpotSeconds };
      });
    }) as [FlooredEngine[], FlooredEngine[]];
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.integer({ min: 1, max: 40 }),
        fc.boolean(),
        (seed, gapMs, tight) => {
          for (const { engine, floor, tpotSeconds } of tight ? small : large) {
            const { busyMs, attained, preemptions, worst } = replay(engine, { seed, gapMs, floor, tpotSeconds });
            const work = attained.reduce((sum, [input, output]) => sum + workOf(floor, input, output), 0);
            expect(work).toBeLessThanOrEqual(busyMs * (1 + 1e-9));
            expect(worst).toBeLessThanOrEqual(1e-9);
            if (tight && gapMs < 10) expect(preemptions).toBeGreaterThan(0);
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('takes the cheaper of decoding and computing again for each token', () => {
    fc.assert(
      fc.property(
        fc.record({
          alpha: fc.double({ min: 0, max: 10, noNaN: true }),
          gamma: fc.double({ min: 0.01, max: 1, noNaN: true }),
          beta: fc.double({ min: 0, max: 0.5, noNaN: true }),
          theta: fc.double({ min: 0, max: 0.05, noNaN: true }),
        }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 300 }),
        ({ alpha, beta, gamma, theta }, input, output) => {
          const context = beta * gamma;
          const floor: WorkFloor = {
            msPerDecodeToken: alpha,
            msPerContextToken: context,
            msPerPrefillToken: gamma,
            msPerAttention: 0,
            tpotWeight: theta,
            tpotMs: 100,
            decodesFromTokens: Math.ceil((alpha + theta * 100) / (gamma - context)),
            certifiedShare: 1,
          };
          let least = 0;
          for (let m = input + 1; m < input + output; m++) {
            least += Math.min(alpha + context * m, gamma * m - theta * 100);
          }
          const found = decodeFloorMs(floor, input, output);
          expect(Math.abs(found - Math.max(0, least))).toBeLessThanOrEqual(1e-9 * (1 + Math.abs(least)));
        },
      ),
    );
  });

  it('refuses step times whose shape its proof does not cover', () => {
    const bent = { ...affine, stepMs: (step: Step) => 10 + 1e-6 * step.decodeContextTokens ** 2 };
    const falling = { ...affine, stepMs: (step: Step) => 100 - 0.01 * step.prefillTokens };
    for (const stepTimes of [bent, falling]) {
      expect(() => workFloorOf({ ...affineEngine, stepTimes }, { mix: mixOf(100, 100), objective })).toThrow(
        RangeError,
      );
    }
  });
});

describe('the least cost of a mix', () => {
  it('has prices that no column undercuts, and that pay for the optimum', () => {
    const column = fc.record({
      cost: fc.double({ min: 0.1, max: 10, noNaN: true }),
      rows: fc.array(fc.double({ min: 0, max: 5, noNaN: true }), { minLength: 3, maxLength: 3 }),
    });
    fc.assert(
      fc.property(fc.array(column, { minLength: 1, maxLength: 30 }), (drawn) => {
        const columns = [...drawn, { cost: 20, rows: [1, 1, 1] }];
        const { prices } = leastCostMix(columns, [1, 2, 0]);
        for (const { cost, rows } of columns) {
          expect(rows.reduce((sum, value, row) => sum + value * prices[row]!, 0)).toBeLessThanOrEqual(
            cost * (1 + 1e-6),
          );
        }
        expect(prices[0]! + 2 * prices[1]!).toBeLessThanOrEqual(40 * (1 + 1e-6));
        expect(prices[0]! + 2 * prices[1]!).toBeGreaterThan(0);
      }),
      {
        examples: [
          // Beside the price of what is lacking, rounding made the first column enter a basis that held it, again and again.
          [[{ cost: 0.1, rows: [3.906747093829285, 3.997806250214501, 0] }]],
        ],
      },
    );
  });
});

function workOf(floor: WorkFloor, inputTokens: number, outputTokens: number): number {
  return prefillFloorMs(floor, inputTokens) + decodeFloorMs(floor, inputTokens, outputTokens);
}

/** Evenly and logarithmically spread over what fits, its edges among them. */
function* randomSteps({ stepTimes, limits }: FloorEngine, count: number): Generator<Step> {
  const chance = randomFrom(7);
  const upTo = (most: number): number => {
    const kind = chance.unit();
    if (kind < 0.15) return most;
    if (kind < 0.25) return 0;
    return Math.floor(kind < 0.6 ? chance.unit() * (most + 1) : (most + 1) ** chance.unit() - 1);
  };
  for (let i = 0; i < count; i++) {
    const decodeSequences = upTo(limits.maxSequences);
    const prefillTokens = upTo(Math.min(limits.maxBatchedTokens - decodeSequences, stepTimes.kvCacheTokens));
    if (decodeSequences + prefillTokens === 0) continue;
    const room = Math.min(stepTimes.kvCacheTokens - prefillTokens, decodeSequences * limits.maxTokens);
    yield {
      decodeSequences,
      prefillTokens,
      decodeContextTokens: upTo(Math.max(0, Math.floor(room))),
      prefillAttention: upTo(prefillTokens * limits.maxTokens),
    };
  }
}

/** Random requests on one replica: what it computed, and which of them kept the time per token. */
function replay(
  engine: FloorEngine,
  options: { readonly seed: number; readonly gapMs: number; readonly floor: WorkFloor; readonly tpotSeconds: number },
) {
  const { seed, gapMs, floor, tpotSeconds } = options;
  const chance = randomFrom(seed);
  let busyMs = 0;
  let worst = Number.NEGATIVE_INFINITY;
  const stepMs = (step: Step): number => {
    const ms = engine.stepTimes.stepMs(step);
    busyMs += ms;
    worst = Math.max(worst, floorExcessMs(floor, step, ms));
    return ms;
  };
  const replica = new SimulatedReplica({ ...engine, stepTimes: { ...engine.stepTimes, stepMs } });
  const lengths = Array.from({ length: 80 }, () => [1 + chance.whole(400), 1 + chance.whole(120)] as const);
  const firstMs: number[] = [];
  const attained: (readonly [number, number])[] = [];
  const tell = (kind: string, id: number, atMs: number, produced: number): void => {
    if (kind === 'token' && produced === 1) firstMs[id] = atMs;
    if (kind !== 'finished') return;
    const [input, output] = lengths[id]!;
    if (output === 1 || atMs - firstMs[id]! <= 1000 * tpotSeconds * (output - 1)) attained.push([input, output]);
  };
  let atMs = 0;
  for (const [id, [inputTokens, outputTokens]] of lengths.entries()) {
    atMs += gapMs * chance.exponential();
    replica.advanceEach(atMs, tell);
    replica.submit({ id, inputTokens, outputTokens }, atMs);
  }
  replica.advanceEach(Number.POSITIVE_INFINITY, tell);
  return { busyMs, attained, worst, preemptions: replica.load().preemptions };
}
