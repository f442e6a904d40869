import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { drawArrivals } from '../../src/profiling/arrivals.js';
import {
  failureKinds,
  type MeasurementPlan,
  type RequestOutcome,
  type ScheduledRequest,
  tokenSources,
} from '../../src/profiling/measurement.js';
import { randomFrom } from '../../src/profiling/random.js';
import { measure, warmUpLength } from '../../src/profiling/steady-state.js';
import { simulateLoad } from '../../src/simulation/load-run.js';
import { SimulatedReplica } from '../../src/simulation/replica.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';
import { waitOfMd1 } from './distributions.js';

const cell = { inputTokens: 100, outputTokens: 11 };

function plan(overrides: Partial<MeasurementPlan> = {}): MeasurementPlan {
  return {
    model: 'm',
    cell,
    mix: null,
    requestRate: 1,
    arrivals: 'poisson',
    seed: 1,
    temperature: 0,
    aborted: null,
    generatorFault: null,
    ...overrides,
  };
}

function outcome(overrides: Partial<RequestOutcome> = {}): RequestOutcome {
  const sentSeconds = overrides.sentSeconds ?? 0;
  return {
    id: 0,
    scheduledSeconds: sentSeconds,
    sentSeconds,
    firstTokenSeconds: sentSeconds + 0.5,
    endSeconds: sentSeconds + 1.5,
    inputTokens: 100,
    outputTokens: 11,
    wantedInputTokens: 100,
    wantedOutputTokens: 11,
    usage: 'server',
    tokenGapsSeconds: new Array<number>(10).fill(0.1),
    failure: null,
    ...overrides,
  };
}

function schedule(requestRate: number, count: number, seed = 1): readonly ScheduledRequest[] {
  return drawArrivals({ kind: 'poisson', requestRate, count, seed, lengths: cell });
}

/** One server, first come first served: TTFT is the wait, and the whole request the wait and the service. */
function singleServer(requests: readonly ScheduledRequest[], service: () => number): readonly RequestOutcome[] {
  let free = 0;
  return requests.map(({ id, atSeconds }) => {
    const begin = Math.max(free, atSeconds);
    free = begin + service();
    return outcome({ id, sentSeconds: atSeconds, firstTokenSeconds: begin, endSeconds: free, tokenGapsSeconds: [] });
  });
}

describe('queues whose answers are known', () => {
  it('M/D/1: throughput is the rate, and the wait has the percentiles of Erlang', () => {
    const measured = measure(
      singleServer(schedule(0.7, 60_000), () => 1),
      plan({ requestRate: 0.7 }),
    );
    expect(Math.abs(measured.throughputRps / 0.7 - 1)).toBeLessThan(0.01);
    for (const [key, share] of [
      ['p50', 0.5],
      ['p90', 0.9],
      ['p95', 0.95],
      ['p99', 0.99],
    ] as const) {
      expect(Math.abs(waitOfMd1(0.7, measured.ttft![key]) - share), key).toBeLessThan(0.012);
    }
    // Pollaczek and Khinchine: ρ / (2 (1 − ρ)).
    expect(Math.abs(measured.ttft!.mean / (0.7 / 0.6) - 1)).toBeLessThan(0.05);
    expect(measured).toMatchObject({ saturated: false, valid: true, invalidBecause: null });
  });

  it('M/M/1: the time in the system is exponential with rate μ − λ', () => {
    const random = randomFrom(5);
    const measured = measure(
      singleServer(schedule(0.6, 80_000), () => random.exponential()),
      plan({ requestRate: 0.6 }),
    );
    expect(Math.abs(measured.throughputRps / 0.6 - 1)).toBeLessThan(0.01);
    expect(Math.abs(measured.e2e!.mean * 0.4 - 1)).toBeLessThan(0.05);
    for (const [key, share] of [
      ['p50', 0.5],
      ['p90', 0.9],
      ['p99', 0.99],
    ] as const) {
      expect(Math.abs(1 - Math.exp(-0.4 * measured.e2e![key]) - share), key).toBeLessThan(0.012);
    }
  });

  it('M/D/∞: nobody waits, and throughput is the rate even where a request stays a fifth of the run', () => {
    const outcomes = schedule(50, 5000).map(({ id, atSeconds }) =>
      outcome({ id, sentSeconds: atSeconds, firstTokenSeconds: atSeconds + 1, endSeconds: atSeconds + 20 }),
    );
    const measured = measure(outcomes, plan({ requestRate: 50 }));
    // The AIBrix way, completions over the whole time, would say 41.7.
    expect(Math.abs(measured.throughputRps / 50 - 1)).toBeLessThan(0.03);
    expect(measured.saturated).toBe(false);
    expect(measured.steadyState!.startSeconds).toBeGreaterThanOrEqual(20);
    expect(measured.steadyState!.endSeconds).toBeCloseTo(100, 6);
    expect(measured.counts.counted).toBeLessThan(0.65 * 5000);
    expect(measured.ttft!.p99).toBeCloseTo(1, 9);
    expect(measured.e2e!.mean).toBeCloseTo(20, 9);
  });

  it.each([1.15, 1.5, 3])(
    'at %d times its capacity a server is saturated, and its throughput is the capacity',
    (load) => {
      const measured = measure(
        singleServer(schedule(load, 2000), () => 1),
        plan({ requestRate: load }),
      );
      if (measured.steadyState !== null) expect(measured.saturated).toBe(true);
      expect(Math.abs(measured.throughputRps - 1)).toBeLessThan(0.02);
    },
  );

  it('up to 85 % of its capacity a server is never called saturated, whatever the seed', () => {
    for (let seed = 0; seed < 60; seed++) {
      const measured = measure(
        singleServer(schedule(0.85, 300, seed), () => 1),
        plan({ requestRate: 0.85 }),
      );
      expect(measured.saturated, `seed ${seed}`).toBe(false);
    }
  });

  it('a backlog of the warm-up that is worked off does not count as throughput', () => {
    // Half a minute in which nothing is served, then everything at once: more leaves than arrives.
    const outcomes = schedule(10, 1000).map(({ id, atSeconds }) =>
      outcome({
        id,
        sentSeconds: atSeconds,
        firstTokenSeconds: null,
        endSeconds: Math.max(atSeconds, 30 + id / 20) + 0.1,
      }),
    );
    const measured = measure(outcomes, plan({ requestRate: 10 }));
    expect(measured.throughputRps).toBeLessThan(10.5);
  });
});

describe('the simulated replica, measured by the same code', async () => {
  const gpu = gpuByName(await loadGpuCatalogue(), 'L4')!;
  const model = modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!;
  const run = (requestRate: number, count: number) => {
    const stepTimes = stepTimesOf({ gpu, model, gpusPerReplica: 1, weightPrecision: 'bf16' });
    const limits = { maxSequences: 256, maxBatchedTokens: 8192, maxTokens: 8192 };
    const lengths = { inputTokens: 256, outputTokens: 64 };
    const requests = drawArrivals({ kind: 'poisson', requestRate, count, seed: 2, lengths });
    const { outcomes } = simulateLoad({ replica: new SimulatedReplica({ stepTimes, limits }), requests });
    return measure(outcomes, plan({ requestRate, cell: lengths }));
  };

  it('keeps up at a low rate, and its tokens add up: E2E = TTFT + 63 TPOT, Little’s law', () => {
    const measured = run(0.5, 300);
    expect(measured.saturated).toBe(false);
    expect(Math.abs(measured.throughputRps / 0.5 - 1)).toBeLessThan(0.1);
    expect(measured.e2e!.mean).toBeCloseTo(measured.ttft!.mean + 63 * measured.tpot!.mean, 6);
    expect(measured.itl!.mean).toBeCloseTo(measured.tpot!.mean, 6);
    expect(measured.outputTokensPerSecond / measured.throughputRps).toBeCloseTo(64, 6);
    expect(measured.counts).toMatchObject({ sent: 300, completed: 300, failed: {}, shortened: 0 });
  });

  it('saturates at a rate that it cannot serve, with the same throughput whatever that rate is', () => {
    const [high, higher] = [run(40, 3000), run(60, 4500)];
    expect(high.saturated || high.steadyState === null).toBe(true);
    expect(high.throughputRps).toBeLessThan(0.9 * 40);
    expect(Math.abs(higher.throughputRps / high.throughputRps - 1)).toBeLessThan(0.1);
  });
});

describe('the truncation point of MSER-5', () => {
  it('drops the samples of a start that is unlike the rest', () => {
    const random = randomFrom(8);
    const rising = Array.from({ length: 400 }, (_, i) => Math.min(i / 60, 1) * 10 + random.unit());
    expect(warmUpLength(rising)).toBeGreaterThanOrEqual(45);
    expect(warmUpLength(rising)).toBeLessThanOrEqual(75);
  });

  it('drops nothing of equal samples, nor of none', () => {
    expect(warmUpLength(new Array<number>(100).fill(3))).toBe(0);
    expect(warmUpLength([])).toBe(0);
    expect(warmUpLength([1, 2, 3])).toBe(0);
  });

  it('drops at most half, by the definition: the least sum of squares by the square of their number', () => {
    const samples = fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 5, maxLength: 120 });
    fc.assert(
      fc.property(samples, (values) => {
        const dropped = warmUpLength(values);
        expect(dropped).toBeLessThanOrEqual(values.length / 2);
        const means = Array.from({ length: Math.floor(values.length / 5) }, (_, i) =>
          values.slice(5 * i, 5 * i + 5).reduce((sum, x) => sum + x / 5, 0),
        );
        const errorAt = (d: number) => {
          const rest = means.slice(d);
          const mean = rest.reduce((sum, x) => sum + x, 0) / rest.length;
          return rest.reduce((sum, x) => sum + (x - mean) ** 2, 0) / rest.length ** 2;
        };
        const best = Math.min(...means.slice(0, Math.floor(means.length / 2) + 1).map((_, d) => errorAt(d)));
        expect(errorAt(dropped / 5)).toBeLessThanOrEqual(best * (1 + 1e-9) + 1e-9);
      }),
    );
  });
});

describe('what a measurement says', () => {
  it('counts failures by kind and never as successes', () => {
    const outcomes = schedule(1, 100).map(({ id, atSeconds }) =>
      outcome({
        id,
        sentSeconds: atSeconds,
        ...(id % 4 === 0
          ? { failure: 'http_429' as const, endSeconds: atSeconds, outputTokens: 0, firstTokenSeconds: null }
          : {}),
        ...(id % 50 === 1 ? { failure: 'dropped' as const, endSeconds: atSeconds + 100 } : {}),
      }),
    );
    const measured = measure(outcomes, plan());
    expect(measured.counts.failed).toEqual({ http_429: 25, dropped: 2 });
    expect(measured.counts.completed).toBe(73);
    expect(measured.throughputRps).toBeLessThan(0.85);
    expect(measured.e2e!.p99).toBeCloseTo(1.5, 9);
  });

  it('computes each latency from its own definition', () => {
    const measured = measure([outcome({ sentSeconds: 10 })], plan());
    expect(measured.ttft!.mean).toBeCloseTo(0.5, 12);
    expect(measured.tpot!.mean).toBeCloseTo(0.1, 12);
    expect(measured.itl).toMatchObject({ count: 10 });
    expect(measured.e2e!.mean).toBeCloseTo(1.5, 12);
  });

  it('has no TPOT of one token, and no TTFT where nothing was streamed', () => {
    expect(measure([outcome({ outputTokens: 1, tokenGapsSeconds: [] })], plan()).tpot).toBeNull();
    const whole = measure([outcome({ firstTokenSeconds: null, tokenGapsSeconds: [] })], plan());
    expect(whole).toMatchObject({ ttft: null, tpot: null, itl: null });
    expect(whole.e2e!.count).toBe(1);
  });

  it('says of a run shorter than three requests stay that it has no steady state, and underestimates', () => {
    const outcomes = schedule(64, 100).map(({ id, atSeconds }) =>
      outcome({ id, sentSeconds: atSeconds, endSeconds: atSeconds + 10 }),
    );
    const measured = measure(outcomes, plan({ requestRate: 64 }));
    expect(measured.steadyState).toBeNull();
    expect(measured.counts.counted).toBe(100);
    expect(measured.throughputRps).toBeCloseTo(100 / (outcomes[99]!.sentSeconds - outcomes[0]!.sentSeconds + 10), 6);
  });

  it('counts shortened answers, and produced tokens rather than wanted ones', () => {
    const measured = measure([outcome({ outputTokens: 4, tokenGapsSeconds: [] }), outcome({ sentSeconds: 1 })], plan());
    expect(measured.counts.shortened).toBe(1);
    expect(measured.meanOutputTokens).toBe(7.5);
  });

  it('names the least good source of token counts', () => {
    expect(measure([outcome(), outcome({ usage: 'counted' })], plan()).usage).toBe('counted');
    expect(measure([outcome({ usage: 'requested', failure: 'timeout' }), outcome()], plan()).usage).toBe('server');
  });

  it.each([
    // Late by, at the rate, valid?
    [0.009, 200, true],
    [0.011, 200, false],
    [0.05, 1, true],
    [0.2, 1, false],
  ])('with requests %d s late at %d requests/s: valid is %s', (late, requestRate, valid) => {
    const outcomes = schedule(requestRate, 100).map(({ id, atSeconds }) =>
      outcome({ id, scheduledSeconds: atSeconds, sentSeconds: atSeconds + late }),
    );
    const measured = measure(outcomes, plan({ requestRate }));
    expect(measured.valid).toBe(valid);
    expect(measured.scheduleError!.p99).toBeCloseTo(late, 9);
    if (!valid) expect(measured.invalidBecause).toContain('the generator fell behind its schedule');
  });

  it('is invalid where the generator says so itself, or nothing was sent', () => {
    expect(measure([outcome()], plan({ generatorFault: 'out of connections' })).invalidBecause).toBe(
      'out of connections',
    );
    expect(measure([], plan())).toMatchObject({ valid: false, invalidBecause: 'no request was sent', ttft: null });
  });

  it('has no NaN and no infinity in it, whatever the outcomes', () => {
    const anyOutcome = fc
      .record({
        sentSeconds: fc.double({ min: 0, max: 100, noNaN: true }),
        wait: fc.double({ min: 0, max: 50, noNaN: true }),
        stay: fc.double({ min: 0, max: 50, noNaN: true }),
        streamed: fc.boolean(),
        outputTokens: fc.nat(5),
        usage: fc.constantFrom(...tokenSources),
        failure: fc.oneof(fc.constant(null), fc.constantFrom(...failureKinds)),
      })
      .map(({ wait, stay, streamed, ...rest }) =>
        outcome({
          ...rest,
          firstTokenSeconds: streamed ? rest.sentSeconds + wait : null,
          endSeconds: rest.sentSeconds + wait + stay,
          tokenGapsSeconds: streamed ? [stay] : [],
        }),
      );
    // Shorter than any clock tells apart: a rate over it would be beyond all numbers.
    const momentary = measure([outcome({ sentSeconds: 0, endSeconds: Number.MIN_VALUE })], plan());
    expect([momentary.counts.completed, momentary.throughputRps]).toEqual([1, 0]);
    fc.assert(
      fc.property(fc.array(anyOutcome, { maxLength: 40 }), (outcomes) => {
        const measured = measure(outcomes, plan());
        expect(numbersIn(measured).filter((value) => !Number.isFinite(value))).toEqual([]);
        const { sent, completed, counted, failed } = measured.counts;
        expect(completed + Object.values(failed).reduce((sum, count) => sum + count, 0)).toBe(sent);
        expect(counted).toBeLessThanOrEqual(completed);
      }),
      { numRuns: 300 },
    );
  });
});

function numbersIn(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}
