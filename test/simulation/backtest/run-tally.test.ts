import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { attains, RunTally } from '../../../src/simulation/backtest/run-tally.js';
import { deployment, fleet, startMs } from './fleets.js';

const at = (seconds: number): number => startMs + seconds * 1000;
/** Four steps of 60 s and one of 30 s, after a minute that does not count. */
const settings = fleet({ scoredFromMs: at(60), endMs: at(330) });
const answered = (seconds: number, ttftSeconds = 0.5) => ({
  arrivedMs: at(seconds),
  inputTokens: 1000,
  outputTokens: 11,
  ttftSeconds,
  tpotSeconds: 0.05,
  e2eSeconds: ttftSeconds + 0.5,
});

describe('outcomes', () => {
  test('are of requests that arrive in the scored span, whenever they end', () => {
    const tally = new RunTally(settings);
    for (const seconds of [59, 60, 100, 329, 330]) {
      tally.arrive(at(seconds));
      tally.answer(answered(seconds, seconds === 100 ? 9 : 0.5));
    }
    tally.arrive(at(200));
    tally.arrive(at(201));
    tally.fail(at(200));
    tally.leaveUnserved(at(201));
    const result = tally.result();
    expect(result).toMatchObject({ requests: 5, attained: 2, late: 1, failed: 1, unserved: 1, attainment: 0.4 });
    expect(result).toMatchObject({ inputTokens: 3000, outputTokens: 33, hours: 270 / 3600 });
    expect(result.series.attainment).toEqual([0.5, null, 0, null, 1]);
    expect(result.series.rps).toEqual([2 / 60, 0, 2 / 60, 0, 1 / 30]);
    expect(result.series.ttftP95Seconds).toEqual([9, null, null, null, 0.5]);
    expect(result.ttft!.mean).toBeCloseTo(10 / 3, 9);
  });

  test('within the objective: the limit itself is', () => {
    const objective = { ttftSeconds: 2, ttftSecondsPerInputToken: 0.001, tpotSeconds: 0.1 };
    const base = { inputTokens: 500, outputTokens: 5, ttftSeconds: 2.5, tpotSeconds: 0.1 };
    expect(attains(objective, base)).toBe(true);
    expect(attains(objective, { ...base, ttftSeconds: 2.5001 })).toBe(false);
    expect(attains(objective, { ...base, tpotSeconds: 0.1001 })).toBe(false);
    expect(attains(objective, { ...base, tpotSeconds: null })).toBe(true);
  });

  test('of fractions of requests are those of so many whole ones', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 60, max: 329 }), fc.double({ min: 0, max: 20, noNaN: true })), {
          maxLength: 60,
        }),
        (list) => {
          const [whole, parts] = [new RunTally(settings), new RunTally(settings)];
          for (const [seconds] of list) whole.arrive(at(seconds));
          for (const [seconds, ttft] of list) whole.answer(answered(seconds, ttft));
          for (const [seconds, ttft] of list.toSorted((a, b) => a[0] - b[0])) {
            for (let i = 0; i < 3; i++) {
              parts.arrive(at(seconds), 1 / 3);
              parts.answer(answered(seconds, ttft), 1 / 3);
            }
          }
          const [a, b] = [whole.result(), parts.result()];
          expect(b.attainment).toBeCloseTo(a.attainment, 9);
          expect(b.ttft === null ? null : [b.ttft.p50, b.ttft.p99]).toEqual(
            a.ttft === null ? null : [a.ttft.p50, a.ttft.p99],
          );
          expect(b.series.ttftP95Seconds).toEqual(a.series.ttftP95Seconds);
          for (const [step, share] of a.series.attainment.entries()) {
            if (share === null) expect(b.series.attainment[step]).toBeNull();
            else expect(b.series.attainment[step]).toBeCloseTo(share, 9);
          }
        },
      ),
    );
  });

  test('that never arrived are a mistake', () => {
    expect(() => new RunTally(settings).fail(at(100))).toThrow('never arrived');
  });

  test('nothing at all is a result without numbers that are none', () => {
    const result = new RunTally(settings).result();
    expect(result).toMatchObject({
      requests: 0,
      attainment: 1,
      usd: 0,
      utilization: 0,
      ttft: null,
      usdPerMillionTokens: null,
    });
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
  });
});

describe('money and replicas', () => {
  test('count pro rata within the span, told in any order', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 0, max: 200 }), fc.integer({ min: 1, max: 4 })),
          { maxLength: 12 },
        ),
        (spans) => {
          const tally = new RunTally(settings);
          const own = deployment({ usdPerReplicaHour: 3600, gpusPerReplica: 2 });
          for (const [from, seconds, replicas] of spans) {
            tally.bill(own, { fromMs: at(from), toMs: at(from + seconds), replicas });
            tally.ready(own, { fromMs: at(from), toMs: at(from + seconds), replicas, busyMs: 0 });
          }
          // Second by second, as someone with a pencil would.
          let paidSeconds = 0;
          const ready = [120, 180, 240, 300, 330].map(() => 0);
          for (const [from, seconds, replicas] of spans) {
            for (let second = from; second < from + seconds; second++)
              if (second >= 60 && second < 330) paidSeconds += replicas;
            for (const [step, end] of [120, 180, 240, 300, 330].entries()) {
              if (from < end && from + seconds >= end) ready[step]! += replicas;
            }
          }
          const result = tally.result();
          expect(result.usd).toBeCloseTo(paidSeconds, 6);
          expect(result.gpuHours.A100 ?? 0).toBeCloseTo((2 * paidSeconds) / 3600, 9);
          expect(result.meanReplicas).toBeCloseTo(paidSeconds / 270, 9);
          expect(result.series.readyReplicas['default/a']).toEqual(ready);
        },
      ),
    );
  });

  test('utilisation is busy over ready time; starts, stops and failures count in the span', () => {
    const tally = new RunTally(settings);
    tally.ready(deployment(), { fromMs: at(0), toMs: at(160), busyMs: 20_000 });
    tally.ready(deployment(), { fromMs: at(230), toMs: at(999), busyMs: 30_000 });
    for (const seconds of [10, 60, 329, 330]) {
      tally.countStart(at(seconds));
      tally.countStop(at(seconds), 2);
      tally.countFailure(at(seconds), 0.5);
    }
    expect(tally.result()).toMatchObject({ utilization: 0.25, starts: 2, stops: 4, failures: 1 });
  });

  test('what was planned for stays until something else is', () => {
    const tally = new RunTally(settings);
    tally.forecast(at(10), 5);
    tally.forecast(at(130), 6);
    tally.forecast(at(150), 7);
    tally.forecast(at(250), null);
    expect(tally.result().series.forecastRps).toEqual([5, 7, 7, null, null]);
  });
});
