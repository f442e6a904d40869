import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EngineSample } from '../../src/core/ports.js';
import { EngineWindow } from '../../src/profiling/engine-window.js';

/** An engine that answers `requests` requests so far, each of 100 + 50 tokens, 0.2 s TTFT, 0.02 s TPOT, 1.2 s E2E. */
function sample(seconds: number, requests: number, overrides: Partial<EngineSample> = {}): EngineSample {
  return {
    deployment: 'default/llama',
    instance: 'pod-1',
    atMs: seconds * 1000,
    promptTokens: 100 * requests,
    generationTokens: 50 * requests,
    latencies: {
      ttft: { seconds: 0.2 * requests, count: requests },
      tpot: { seconds: 0.02 * requests, count: requests },
      e2e: { seconds: 1.2 * requests, count: requests },
    },
    ...overrides,
  };
}

/** Reads every 10 s. */
function windowOf(until: number, samplesAt: (seconds: number) => readonly EngineSample[]): EngineWindow {
  const window = new EngineWindow();
  for (let seconds = 0; seconds <= until; seconds += 10) window.add(samplesAt(seconds), seconds * 1000);
  return window;
}

describe('an observation of engines', () => {
  it('is of the shortest last span with a hundred requests and two minutes', () => {
    const observation = windowOf(600, (seconds) => [sample(seconds, 2 * seconds)]).observation(600_000)!;
    expect(observation).toMatchObject({ fromMs: 480_000, toMs: 600_000, requests: 240 });
    expect(observation.requestsPerSecond).toBeCloseTo(2, 12);
    expect(observation.meanInputTokens).toBeCloseTo(100, 12);
    expect(observation.meanOutputTokens).toBeCloseTo(50, 12);
    expect(observation.latencies.ttft).toBeCloseTo(0.2, 9);
    expect(observation.latencies.tpot).toBeCloseTo(0.02, 9);
    expect(observation.latencies.e2e).toBeCloseTo(1.2, 9);
    const slow = windowOf(1200, (seconds) => [sample(seconds, seconds / 10)]).observation(1_200_000)!;
    expect(slow).toMatchObject({ fromMs: 200_000, toMs: 1_200_000, requests: 100 });
  });

  it('is none before that, nor of fewer requests in half an hour', () => {
    expect(new EngineWindow().observation(0)).toBeNull();
    expect(windowOf(110, (seconds) => [sample(seconds, 10 * seconds)]).observation(110_000)).toBeNull();
    expect(windowOf(3600, (seconds) => [sample(seconds, seconds / 20)]).observation(3_600_000)).toBeNull();
  });

  it('goes on after a clock that was years ahead: the one of the samples, or our own', () => {
    const year = 365 * 86_400;
    const counted = (seconds: number) => [sample(seconds, 2 * seconds)];
    const lied = windowOf(600, (seconds) =>
      seconds > 100 && seconds < 200 ? [sample(seconds + year, 2 * seconds)] : counted(seconds),
    );
    expect(lied.observation(600_000)).toMatchObject({ fromMs: 480_000, toMs: 600_000, requests: 240 });
    const setBack = new EngineWindow();
    for (let s = 0; s <= 300; s += 10) setBack.add([sample(s + year, 2 * s)], (s + year) * 1000);
    for (let s = 310; s <= 600; s += 10) setBack.add(counted(s), s * 1000);
    expect(setBack.observation(600_000)).toMatchObject({ fromMs: 480_000, toMs: 600_000, requests: 240 });
  });

  it('is of a mean replica: rates over all, divided by the time that each was there', () => {
    const window = windowOf(300, (seconds) => [
      sample(seconds, 3 * seconds),
      ...(seconds < 200 ? [] : [sample(seconds, seconds - 200, { instance: 'pod-2' })]),
    ]);
    const observation = window.observation(300_000)!;
    // The second replica is there for 100 s of the last 120.
    expect(observation.requests).toBe(3 * 120 + 100);
    expect(observation.requestsPerSecond).toBeCloseTo(460 / 220, 12);
  });

  it('leaves out the increase in which an engine was started anew', () => {
    const window = windowOf(300, (seconds) => [sample(seconds, seconds < 250 ? 2 * seconds : 2 * (seconds - 250))]);
    const observation = window.observation(300_000)!;
    // The ten seconds in which it was are missing of the last 120.
    expect(observation.requests).toBe(220);
    expect(observation.toMs - observation.fromMs).toBe(120_000);
    expect(observation.requestsPerSecond).toBeCloseTo(2, 12);
  });

  it('takes no reading twice, as of a Prometheus server that scrapes more seldom', () => {
    const window = windowOf(600, (seconds) => {
      const scraped = Math.floor(seconds / 30) * 30;
      return [sample(scraped, 2 * scraped)];
    });
    expect(window.observation(600_000)).toMatchObject({ fromMs: 480_000, toMs: 600_000, requests: 240 });
  });

  it('knows nothing of a gap of more than ten minutes', () => {
    const window = windowOf(1500, (seconds) => (seconds > 300 && seconds < 1000 ? [] : [sample(seconds, 2 * seconds)]));
    expect(window.observation(1_500_000)).toMatchObject({ requests: 240 });
    const short = windowOf(1060, (seconds) => (seconds > 300 && seconds < 1000 ? [] : [sample(seconds, 2 * seconds)]));
    expect(short.observation(1_060_000)!.requestsPerSecond).toBeCloseTo(2, 12);
    expect(short.observation(1_060_000)!.toMs).toBe(1_060_000);
  });

  it('tells no latency that the engines do not, and none of fewer than a hundred observations', () => {
    const withoutTpot = windowOf(300, (seconds) => {
      const { latencies, ...rest } = sample(seconds, 2 * seconds);
      return [{ ...rest, latencies: { ...latencies, tpot: null, e2e: { seconds: 1, count: 1 } } }];
    });
    expect(withoutTpot.observation(300_000)!.latencies).toMatchObject({ tpot: null, e2e: null });
  });

  it('is never anything but finite numbers, however totals move', () => {
    const total = fc.double({ min: 0, max: 1e15, noNaN: true });
    const latency = fc.option(fc.record({ seconds: total, count: fc.nat(1e9) }));
    const anySample = fc.record({
      deployment: fc.constant('default/llama'),
      instance: fc.constantFrom('pod-1', 'pod-2'),
      atMs: fc.nat(4e6),
      promptTokens: total,
      generationTokens: total,
      latencies: fc.record({ ttft: latency, tpot: latency, e2e: latency }),
    });
    fc.assert(
      fc.property(fc.array(anySample, { maxLength: 60 }), (samples) => {
        const window = new EngineWindow();
        const sorted = [...samples].sort((a, b) => a.atMs - b.atMs);
        for (const each of sorted) {
          window.add([each], each.atMs);
          const observation = window.observation(each.atMs);
          if (observation === null) continue;
          const { latencies, ...numbers } = observation;
          for (const value of [...Object.values(numbers), ...Object.values(latencies)]) {
            if (value === null) continue;
            expect(value).toBeGreaterThanOrEqual(0);
            expect(value).toBeLessThan(Number.POSITIVE_INFINITY);
          }
          expect(observation.requests).toBeGreaterThanOrEqual(100);
        }
      }),
    );
  });
});
