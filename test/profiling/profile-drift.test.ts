import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import { engineLatencies } from '../../src/core/ports.js';
import type { GpuProfile } from '../../src/core/profile.js';
import { EngineWindow } from '../../src/profiling/engine-window.js';
import {
  compareWithProfile,
  expectationOf,
  followBounds,
  nextFactor,
  type SlownessEstimate,
  scaledProfile,
  slownessBounds,
} from '../../src/profiling/profile-drift.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';
import { CountedEngine } from './counted-engine.js';

const stepTimes = stepTimesOf({
  gpu: gpuByName(await loadGpuCatalogue(), 'H100')!,
  model: modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!,
  gpusPerReplica: 1,
  weightPrecision: 'bf16',
});
const cell = { inputTokens: 1024, outputTokens: 256 };

/** The throughput of the profile: the simulated engine keeps its mean TPOT below 20 ms up to there. */
const throughputRps = 17;

/** What an engine is observed to do in ten minutes at a load, after two. */
function observe(options: { readonly loadRatio: number; readonly slowness: number; readonly seed: number }) {
  const { loadRatio, slowness, seed } = options;
  const engine = new CountedEngine({ stepTimes, slowness, lengths: cell, seed });
  engine.rate = loadRatio * throughputRps;
  const window = new EngineWindow();
  for (let seconds = 120; seconds <= 720; seconds += 10) {
    engine.runTo(seconds * 1000);
    window.add([engine.sample('default/llama')], seconds * 1000);
  }
  return window.observation(720_000)!;
}

function profileOf(latencies: Partial<Record<'ttft' | 'tpot' | 'e2e', number>>, rps = throughputRps): GpuProfile {
  const matrices = Object.fromEntries(Object.entries(latencies).map(([name, seconds]) => [name, [[seconds]]]));
  return {
    gpu: 'llama',
    cost: 1,
    created: 1,
    slos: {},
    grid: { indexes: [[cell.outputTokens], [cell.inputTokens]], tputs: [[rps]] },
    ...matrices,
  };
}

/** A profile as a benchmark would make it of the engine that is not slow: its means at its throughput, over many runs. */
function measuredProfile(): GpuProfile {
  const runs = [1, 2, 3, 4].map((seed) => observe({ loadRatio: 1, slowness: 1, seed }));
  const mean = (name: 'ttft' | 'tpot' | 'e2e') =>
    runs.reduce((sum, { latencies }) => sum + latencies[name]!, 0) / runs.length;
  return profileOf({ ttft: mean('ttft'), tpot: mean('tpot'), e2e: mean('e2e') });
}
const measured = expectationOf(measuredProfile());

describe('bounds of the slowness of a simulated engine', () => {
  const loads = [0.3, 0.5, 0.7, 0.8, 0.9, 1];
  const slownesses = [0.8, 1, 1.15, 1.3, 1.6];
  const cases = slownesses.flatMap((slowness) => loads.map((loadRatio) => ({ slowness, loadRatio })));

  it.each(cases)('hold it: every step $slowness times as long, at $loadRatio of the throughput', (given) => {
    // Where the slow engine cannot keep up, the rate of its first tokens is still what it is given.
    const { comparisons, loadRatio } = compareWithProfile(observe({ ...given, seed: 11 }), measured);
    expect(comparisons.map(({ latency }) => latency)).toEqual([...engineLatencies]);
    expect(loadRatio).toBeGreaterThan(0.9 * Math.min(given.loadRatio, 1 / given.slowness));
    for (const { low, high } of comparisons) {
      expect(low).toBeLessThan(given.slowness * 1.02);
      expect(high).toBeGreaterThan(given.slowness / 1.02);
    }
  });

  it('hold it also where far more arrives than is served, or there are none', () => {
    for (const slowness of [0.8, 1, 1.3, 1.6]) {
      const { comparisons } = compareWithProfile(observe({ loadRatio: 1.5, slowness, seed: 11 }), measured);
      if (slowness < 1.6) expect(comparisons.length).toBeGreaterThan(0);
      for (const { low, high } of comparisons) {
        expect(low).toBeLessThan(slowness * 1.02);
        expect(high).toBeGreaterThan(slowness / 1.02);
      }
    }
  });

  it('exclude 1 where the engine is 1.3 times as slow and not nearly idle', () => {
    for (const loadRatio of [0.7, 0.8, 0.9]) {
      const { comparisons } = compareWithProfile(observe({ loadRatio, slowness: 1.3, seed: 3 }), measured);
      expect(Math.max(...comparisons.map(({ low }) => low))).toBeGreaterThan(1.05);
    }
  });
});

describe('the estimate over time', () => {
  /** Ten-second looks at one engine, whose load is told for each; the estimates and the factor after each. */
  function follow(options: {
    readonly slowness: number;
    readonly seconds: number;
    readonly loadRatio: (factor: number, seconds: number) => number;
  }) {
    const { slowness, seconds: until, loadRatio } = options;
    const engine = new CountedEngine({ stepTimes, slowness, lengths: cell, seed: 21 });
    const window = new EngineWindow();
    const estimates = new Map<string, SlownessEstimate>();
    const factors: number[] = [];
    let factor = 1;
    for (let seconds = 10; seconds <= until; seconds += 10) {
      const nowMs = seconds * 1000;
      engine.rate = loadRatio(factor, seconds) * throughputRps;
      engine.runTo(nowMs);
      window.add([engine.sample('default/llama')], nowMs);
      const observed = window.observation(nowMs);
      if (observed !== null) {
        for (const { latency, ...bounds } of compareWithProfile(observed, measured).comparisons) {
          const estimate = followBounds(estimates.get(latency) ?? null, bounds, { nowMs, elapsedSeconds: 10 });
          if (estimate !== null) estimates.set(latency, estimate);
        }
      }
      const limits = { minFactor: 0.5, maxFactor: 1.25, maxStepPerMinute: 0.05 };
      factor = nextFactor(factor, { estimates: [...estimates.values()], nowMs, elapsedSeconds: 10, limits });
      factors.push(factor);
    }
    return { factors, factor, estimates };
  }

  it('finds 1.3 within 5 % where replicas are planned full by the corrected profile, and the factor 1/1.3', () => {
    const { factor, factors, estimates } = follow({
      slowness: 1.3,
      seconds: 5400,
      loadRatio: (current) => 0.97 * current,
    });
    expect(estimates.get('tpot')!.slowness).toBeGreaterThan(1.3 * 0.95);
    expect(estimates.get('tpot')!.slowness).toBeLessThan(1.3 * 1.05);
    expect(factor).toBeGreaterThan(0.95 / 1.3);
    expect(factor).toBeLessThan(1.05 / 1.3);
    // It gets there without ever going further.
    expect(Math.min(...factors)).toBeGreaterThan(0.93 / 1.3);
  });

  it('finds at least 1.2 of 1.3 without any correction, at nine tenths of the throughput', () => {
    const { estimates } = follow({ slowness: 1.3, seconds: 1800, loadRatio: () => 0.9 });
    const found = Math.max(...[...estimates.values()].map(({ slowness }) => slowness));
    expect(found).toBeGreaterThan(1.2);
    expect(found).toBeLessThan(1.3 * 1.05);
  });

  it('says 1 of an engine that is as profiled, whatever the load of its day', () => {
    const day = (seconds: number) => 0.65 + 0.33 * Math.sin(seconds / 600);
    const { estimates, factors } = follow({ slowness: 1, seconds: 5400, loadRatio: (_, seconds) => day(seconds) });
    for (const { slowness } of estimates.values()) {
      expect(slowness).toBeGreaterThan(0.95);
      expect(slowness).toBeLessThan(1.05);
    }
    expect(Math.min(...factors)).toBeGreaterThan(0.95);
    expect(Math.max(...factors)).toBeLessThan(1.05);
  });

  it('lets a faster engine serve more only where it served more than its profile says', () => {
    const below = follow({ slowness: 0.8, seconds: 1800, loadRatio: () => 0.7 });
    expect(below.factor).toBe(1);
    const above = follow({ slowness: 0.8, seconds: 3600, loadRatio: (factor) => 1.1 * factor });
    expect(above.factor).toBeGreaterThan(1.08);
    expect(above.factor).toBeLessThanOrEqual(1.25);
  });
});

describe('slownessBounds', () => {
  const ratio = fc.double({ min: 0.01, max: 100, noNaN: true });

  it('holds the slowness of every engine whose latency is a power of its load', () => {
    const largestPower = { ttft: 60, tpot: 4, e2e: 60 };
    fc.assert(
      fc.property(
        fc.constantFrom(...engineLatencies),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0.2, max: 5, noNaN: true }),
        fc.double({ min: 0.2, max: 3, noNaN: true }),
        (latency, share, slowness, loadRatio) => {
          const elasticity = share * largestPower[latency];
          const latencyRatio = slowness * (slowness * loadRatio) ** elasticity;
          const { low, high } = slownessBounds(latency, { loadRatio, latencyRatio });
          expect(low).toBeLessThanOrEqual(slowness);
          expect(high).toBeGreaterThanOrEqual(slowness);
        },
      ),
    );
  });

  it('are finite, positive and in order for any ratios', () => {
    fc.assert(
      fc.property(fc.constantFrom(...engineLatencies), ratio, ratio, (latency, loadRatio, latencyRatio) => {
        const { low, high } = slownessBounds(latency, { loadRatio, latencyRatio });
        expect(low).toBeGreaterThan(0);
        expect(high).toBeGreaterThan(low);
        expect(high).toBeLessThan(Number.POSITIVE_INFINITY);
      }),
    );
  });

  it('meet at the true slowness where the load is full for the slow engine', () => {
    const { low, high } = slownessBounds('tpot', { loadRatio: 1 / 1.3, latencyRatio: 1.3 });
    expect(low).toBeCloseTo(1.3 / 1.03, 9);
    expect(high).toBeCloseTo(1.3 * 1.03, 9);
  });

  it('gives the worked line of its docstring', () => {
    const { low, high } = slownessBounds('tpot', { loadRatio: 0.8, latencyRatio: 1.4 });
    expect(low).toBeCloseTo((1.4 ** 0.2 * 0.8 ** -0.8) / 1.03, 9);
    expect(low * 1.03).toBeCloseTo(1.28, 2);
    expect(high).toBeCloseTo(1.4 * 1.03, 9);
  });
});

describe('compareWithProfile', () => {
  const observed = {
    fromMs: 0,
    toMs: 300_000,
    requests: 300,
    requestsPerSecond: 1,
    meanInputTokens: cell.inputTokens,
    meanOutputTokens: cell.outputTokens,
    latencies: { ttft: 0.5, tpot: 0.05, e2e: 13 },
  };

  it('compares what both tell, at the load by the profile', () => {
    const expected = expectationOf(profileOf({ tpot: 0.04 }, 2));
    const { loadRatio, comparisons, nothingBecause } = compareWithProfile(observed, expected);
    expect(loadRatio).toBe(0.5);
    expect(nothingBecause).toBeNull();
    expect(comparisons).toHaveLength(1);
    expect(comparisons[0]).toMatchObject({ latency: 'tpot', observedSeconds: 0.05, profileSeconds: 0.04 });
  });

  it('says nothing of lengths beyond the grid on either side, and why', () => {
    const expected = expectationOf(profileOf({ tpot: 0.04 }, 2));
    for (const lengths of [{ meanInputTokens: 1200 }, { meanInputTokens: 800 }, { meanOutputTokens: 512 }]) {
      const reading = compareWithProfile({ ...observed, ...lengths }, expected);
      expect(reading.loadRatio).toBeNull();
      expect(reading.comparisons).toEqual([]);
      expect(reading.nothingBecause).toContain('grid');
    }
  });

  it('says nothing where the profile holds no latency, and why', () => {
    const reading = compareWithProfile(observed, expectationOf(profileOf({}, 2)));
    expect(reading.loadRatio).toBe(0.5);
    expect(reading.nothingBecause).toContain('holds no latency');
  });

  it('interpolates latencies between the cells that serve anything', () => {
    const profile: GpuProfile = {
      ...profileOf({}),
      grid: { indexes: [[128, 512], [1024]], tputs: [[4], [1]] },
      tpot: [[0.02], [0.04]],
    };
    // Half-way between 128 and 512 tokens; work likewise.
    const expected = expectationOf(profile);
    expect(expected.latency('tpot', 1024, 320)).toBeCloseTo(0.03, 12);
    expect(expected.work(1024, 320)).toBeCloseTo((1 / 4 + 1) / 2, 12);
    const unservable = expectationOf({ ...profile, grid: { ...profile.grid, tputs: [[4], [0]] } });
    expect(unservable.work(1024, 512)).toBeNull();
    expect(unservable.latency('tpot', 1024, 128)).toBeCloseTo(0.02, 12);
  });
});

describe('followBounds', () => {
  const at = (nowMs: number, elapsedSeconds = 10) => ({ nowMs, elapsedSeconds });

  it('says nothing of an interval that admits everything', () => {
    expect(followBounds(null, { low: 0.5, high: 2.5 }, at(1000))).toBeNull();
  });

  it('says 1 of a narrow interval that contains it', () => {
    expect(followBounds(null, { low: 0.8, high: 1.3 }, at(1000))).toEqual({ slowness: 1, evidenceAtMs: 1000 });
  });

  it('goes towards the nearest that is admitted, and stays there', () => {
    let estimate: SlownessEstimate | null = null;
    let before = 1;
    for (let second = 10; second <= 1200; second += 10) {
      estimate = followBounds(estimate, { low: 1.3, high: 4 }, at(second * 1000));
      expect(estimate!.slowness).toBeGreaterThanOrEqual(before);
      before = estimate!.slowness;
    }
    expect(before).toBeCloseTo(1.3, 3);
    expect(followBounds(estimate, { low: 0.9, high: 1.6 }, at(2_000_000))!.slowness).toBe(before);
    expect(followBounds(estimate, { low: 0.8, high: 1 }, at(2_000_000, 1e9))!.slowness).toBeCloseTo(1, 9);
  });

  it('leaves evidence as old as it is where an interval admits too much to be any', () => {
    const before = { slowness: 1.3, evidenceAtMs: 5 };
    expect(followBounds(before, { low: 0.5, high: 2 }, at(1000))).toEqual(before);
  });
});

describe('nextFactor', () => {
  const limits = { minFactor: 0.5, maxFactor: 1.25, maxStepPerMinute: 0.05 };
  const estimate = (slowness: number, evidenceAtMs = 0): SlownessEstimate => ({ slowness, evidenceAtMs });
  const settle = (factor: number, estimates: readonly SlownessEstimate[], nowMs = 0): number => {
    let settled = factor;
    for (let minute = 0; minute < 60; minute += 1) {
      settled = nextFactor(settled, { estimates, nowMs, elapsedSeconds: 60, limits });
    }
    return settled;
  };

  it('moves by no more than its step within a minute', () => {
    expect(nextFactor(1, { estimates: [estimate(2)], nowMs: 0, elapsedSeconds: 60, limits })).toBeCloseTo(1 / 1.05, 12);
    expect(nextFactor(1, { estimates: [estimate(0.5)], nowMs: 0, elapsedSeconds: 30, limits })).toBeCloseTo(
      1.05 ** 0.5,
      12,
    );
    expect(nextFactor(1, { estimates: [estimate(2)], nowMs: 0, elapsedSeconds: 0, limits })).toBe(1);
  });

  it('settles at 1 / the slowest latency, within its bounds', () => {
    expect(settle(1, [estimate(1.3), estimate(1)])).toBeCloseTo(1 / 1.3, 9);
    expect(settle(1, [estimate(0.9), estimate(0.85)])).toBeCloseTo(1 / 0.9, 9);
    expect(settle(1, [estimate(9)])).toBe(0.5);
    expect(settle(1, [estimate(0.1)])).toBe(1.25);
  });

  it('without recent evidence takes back what removed replicas, and keeps what added them', () => {
    const later = 16 * 60_000;
    expect(settle(1.2, [estimate(0.8)], later)).toBe(1);
    expect(settle(0.7, [estimate(1.4)], later)).toBe(0.7);
    expect(settle(0.7, [], later)).toBe(0.7);
    expect(settle(1, [], later)).toBe(1);
  });

  it('does not rise by evidence of one latency while another was slow when it was last seen', () => {
    const later = 16 * 60_000;
    expect(settle(0.7, [estimate(1.4), estimate(1, later)], later)).toBeCloseTo(1 / 1.4, 9);
  });

  it('keeps within its bounds, and its step, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.5, max: 1.25, noNaN: true }),
        fc.array(fc.record({ slowness: fc.double({ min: 1e-6, max: 1e6, noNaN: true }), evidenceAtMs: fc.nat(2e6) })),
        fc.nat(2e6),
        fc.double({ min: -10, max: 600, noNaN: true }),
        (factor, estimates, nowMs, elapsedSeconds) => {
          const next = nextFactor(factor, { estimates, nowMs, elapsedSeconds, limits });
          expect(next).toBeGreaterThanOrEqual(0.5);
          expect(next).toBeLessThanOrEqual(1.25);
          const furthest = 1.05 ** (Math.max(0, elapsedSeconds) / 60) * (1 + 1e-12);
          expect(Math.max(next / factor, factor / next)).toBeLessThanOrEqual(furthest);
        },
      ),
    );
  });
});

describe('scaledProfile', () => {
  it('multiplies throughputs, and nothing else', () => {
    const profile: GpuProfile = {
      ...profileOf({ tpot: 0.04 }),
      grid: { indexes: [[64], [128, 256, 512]], tputs: [[2, 0, null]], method: 'measured' },
    };
    const scaled = scaledProfile(profile, 0.75);
    expect(scaled.grid).toEqual({ indexes: [[64], [128, 256, 512]], tputs: [[1.5, 0, null]], method: 'measured' });
    expect({ ...scaled, grid: null }).toEqual({ ...profile, grid: null });
  });

  it('leaves a throughput that would be none alone', () => {
    const profile: GpuProfile = { ...profileOf({}), grid: { indexes: [[64], [128]], tputs: [[1e-9]] } };
    expect(scaledProfile(profile, 0.5).grid.tputs).toEqual([[1e-9]]);
  });
});
