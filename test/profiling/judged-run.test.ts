import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { drawArrivals } from '../../src/profiling/arrivals.js';
import type { Slo } from '../../src/profiling/attainment.js';
import { judgeRun } from '../../src/profiling/judged-run.js';
import type { MeasurementPlan, RequestOutcome } from '../../src/profiling/measurement.js';
import { simulateLoad } from '../../src/simulation/load-run.js';
import { SimulatedReplica } from '../../src/simulation/replica.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';

const cell = { inputTokens: 128, outputTokens: 32 };
const slo: Slo = { ttftSeconds: 0.5, tpotSeconds: 0.1, e2eSeconds: null, percentile: 90 };
const stall = "the generator's event loop stood for over 95 ms";

function plan(overrides: Partial<MeasurementPlan> = {}): MeasurementPlan {
  return {
    model: 'm',
    cell,
    mix: null,
    requestRate: 4,
    arrivals: 'poisson',
    seed: 1,
    temperature: 0,
    ...overrides,
  };
}

const stepTimes = stepTimesOf({
  gpu: gpuByName(await loadGpuCatalogue(), 'L4')!,
  model: modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!,
  gpusPerReplica: 1,
  weightPrecision: 'bf16',
});
const limits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 8192 };

/** Answers of a simulated L4 to requests that leave when the generator is awake, dated when it is awake again. */
function servedBy(
  generator: { readonly awakeAt: (seconds: number) => number },
  load: { readonly requestRate: number; readonly count?: number; readonly seed?: number },
): readonly RequestOutcome[] {
  const { requestRate, count = 200, seed = 1 } = load;
  const due = drawArrivals({ kind: 'poisson', requestRate, count, seed, lengths: cell });
  const sent = due.map((request) => ({ ...request, atSeconds: generator.awakeAt(request.atSeconds) }));
  const replica = new SimulatedReplica({ stepTimes, limits });
  return simulateLoad({ replica, requests: sent }).outcomes.map((outcome) => ({
    ...outcome,
    scheduledSeconds: due.find(({ id }) => id === outcome.id)!.atSeconds,
    firstTokenSeconds: outcome.firstTokenSeconds === null ? null : generator.awakeAt(outcome.firstTokenSeconds),
    endSeconds: generator.awakeAt(outcome.endSeconds),
  }));
}

const punctual = { awakeAt: (seconds: number) => seconds };
/** Sleeps through the beginning of every second. */
const sleepy = (asleepSeconds: number) => ({
  awakeAt: (seconds: number) => Math.max(seconds, Math.floor(seconds) + asleepSeconds),
});

describe('a run whose generator was late', () => {
  it('counts where it meets the SLO even from when requests were due, with those latencies', () => {
    const outcomes = servedBy(sleepy(0.15), { requestRate: 4 });
    const { measurement, attainment, fromSchedule } = judgeRun(outcomes, plan({ generatorStall: stall }), slo);
    expect({ fromSchedule, valid: measurement.valid, meets: attainment.meets }).toEqual({
      fromSchedule: true,
      valid: true,
      meets: true,
    });
    const prompt = judgeRun(servedBy(punctual, { requestRate: 4 }), plan(), slo).measurement;
    expect(measurement.ttft!.p90).toBeGreaterThan(prompt.ttft!.p90);
    expect(measurement.scheduleError!.p99).toBeGreaterThan(0.1);
    expect(measurement.throughputRps).toBeCloseTo(prompt.throughputRps, 1);
  });

  it('is invalid where it does not: that may be the fault of the generator', () => {
    const outcomes = servedBy(sleepy(0.6), { requestRate: 4 });
    const { measurement, fromSchedule } = judgeRun(outcomes, plan({ generatorStall: stall }), slo);
    expect(fromSchedule).toBe(false);
    expect(measurement).toMatchObject({ valid: false, invalidBecause: stall });
  });

  it('is invalid where it was late in sending alone, and misses', () => {
    const outcomes = servedBy(sleepy(0.6), { requestRate: 4 });
    expect(judgeRun(outcomes, plan(), slo).measurement.invalidBecause).toContain('fell behind its schedule');
  });

  it.each([
    ['there is no SLO', { generatorStall: stall }, null],
    ['the load was another one', { generatorFault: 'no file descriptor was left' }, slo],
    [
      'it was late too, but the load was another one',
      { generatorFault: 'no file descriptor was left', generatorStall: stall },
      slo,
    ],
  ] as const)('is invalid where %s', (_, faults, objectives) => {
    const outcomes = servedBy(sleepy(0.15), { requestRate: 4 });
    const { measurement, fromSchedule } = judgeRun(outcomes, plan(faults), objectives);
    expect({ fromSchedule, valid: measurement.valid }).toEqual({ fromSchedule: false, valid: false });
  });

  it('stays as it was where it was ended early, or nothing was sent', () => {
    const outcomes = servedBy(sleepy(0.15), { requestRate: 4 });
    const aborted = judgeRun(outcomes, plan({ aborted: 'hopeless', generatorStall: stall }), slo);
    expect(aborted).toMatchObject({ fromSchedule: false, measurement: { aborted: 'hopeless' } });
    expect(judgeRun([], plan({ generatorStall: stall }), slo).measurement.valid).toBe(false);
  });

  it('meets no rate that a punctual generator would see missed by a sixth, on a simulated L4', () => {
    let met = 0;
    let doubted = 0;
    fc.assert(
      fc.property(
        fc.record({
          asleepSeconds: fc.double({ min: 0.03, max: 0.5, noNaN: true }),
          requestRate: fc.double({ min: 1, max: 20, noNaN: true }),
          seed: fc.nat(1000),
        }),
        ({ asleepSeconds, requestRate, seed }) => {
          const load = { requestRate, seed };
          const late = judgeRun(
            servedBy(sleepy(asleepSeconds), load),
            plan({ requestRate, generatorStall: stall }),
            slo,
          );
          if (!late.fromSchedule) {
            doubted += 1;
            return;
          }
          met += 1;
          // Of 3,124 that met, 33 did not for a punctual generator, the worst by 8 %: requests that wait for each other share steps.
          const { nearness } = judgeRun(servedBy(punctual, load), plan({ requestRate }), slo).attainment;
          expect(nearness).toBeLessThan(7 / 6);
        },
      ),
      { numRuns: 200 },
    );
    expect({ met: met > 20, doubted: doubted > 20 }).toEqual({ met: true, doubted: true });
  });
});

describe('a run whose generator was punctual', () => {
  it('is measured as it was sent, whether it meets the SLO or not', () => {
    for (const requestRate of [2, 20]) {
      const outcomes = servedBy(punctual, { requestRate });
      const judged = judgeRun(outcomes, plan({ requestRate }), slo);
      expect(judged).toMatchObject({
        fromSchedule: false,
        measurement: { valid: true },
        attainment: { meets: requestRate === 2 },
      });
      expect(judged.outcomes).toBe(outcomes);
    }
  });
});
