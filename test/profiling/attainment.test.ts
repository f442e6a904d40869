import { describe, expect, it } from 'vitest';
import { certainMissSeconds, quantileOf } from '../../src/profiling/attainment.js';
import { judged, outcomes, slo } from './run-builders.js';

describe('whether a run met its SLO', () => {
  it('is said by the quantile of each limit over the steady state', () => {
    const { attainment } = judged(outcomes(200));
    expect(attainment).toMatchObject({
      meets: true,
      met: attainment.judged,
      decidedBy: expect.stringMatching(/ttft|tpot/),
    });
    expect(attainment.evidence).toBeGreaterThan(3);
    // TPOT 0.05 of 0.1; TTFT 0.2 of 1.
    expect(attainment.nearness).toBeCloseTo(0.5, 10);
    expect(attainment.nearestLimit).toBe('tpot');
  });

  it.each([
    [0.05, true],
    [0.15, false],
  ])('a share of %s that is late meets a P90: %s', (late, meets) => {
    const every = Math.round(1 / late);
    const { attainment } = judged(outcomes(400, (i) => ({ ttft: i % every === 0 ? 3 : 0.2 })));
    expect(attainment.meets).toBe(meets);
    expect(Math.sign(attainment.evidence)).toBe(meets ? 1 : -1);
    expect(attainment.met / attainment.judged).toBeCloseTo(1 - 1 / every, 1);
    if (!meets) expect(attainment.decidedBy).toBe('ttft');
  });

  it('weighs Wilson: the same share is surer in a longer run', () => {
    const run = (count: number) =>
      judged(outcomes(count, (i) => ({ ttft: i % 20 === 7 ? 3 : 0.2 }))).attainment.evidence;
    expect(run(100)).toBeGreaterThan(0);
    expect(run(1600) / run(100)).toBeCloseTo(4, 0);
  });

  it('weighs less where misses come together: neighbours in a queue are one event', () => {
    const spread = judged(outcomes(400, (i) => ({ ttft: i % 20 === 7 ? 3 : 0.2 }))).attainment;
    const together = judged(outcomes(400, (i) => ({ ttft: i >= 200 && i < 220 ? 3 : 0.2 }))).attainment;
    expect(together.met / together.judged).toBeCloseTo(spread.met / spread.judged, 1);
    expect(together.effective).toBeLessThan(spread.effective / 3);
    expect(together.evidence).toBeLessThan(spread.evidence / 1.5);
  });

  it('counts failures as misses, of every limit', () => {
    const { attainment } = judged(
      outcomes(200, (i) => (i % 4 === 0 ? { failure: 'http_5xx', firstTokenSeconds: null, outputTokens: 0 } : {})),
    );
    expect(attainment.meets).toBe(false);
    // A quarter is missing both of the answers and of the throughput.
    expect(attainment.evidence).toBeLessThan(-3);
  });

  it('counts what we cut off only where it had missed already', () => {
    const cut = { failure: 'cancelled', firstTokenSeconds: null, outputTokens: 0 } as const;
    const run = outcomes(100, (i) => (i < 50 ? {} : { ...cut, sentSeconds: i, endSeconds: i < 80 ? i + 0.5 : i + 5 }));
    const { attainment } = judged(run, { plan: { aborted: 'hopeless' } });
    // 50 met, the first of them in the warm-up; 30 are not known; 20 are late.
    expect({ judged: attainment.judged, met: attainment.met, meets: attainment.meets }).toEqual({
      judged: 69,
      met: 49,
      meets: false,
    });
  });

  it('compares means under percentile 0', () => {
    const mean = (late: number) =>
      judged(
        outcomes(200, (i) => ({ ttft: i % 2 === 0 ? late : 0.2 })),
        { slo: slo({ percentile: 0 }) },
      ).attainment;
    expect(mean(1.7)).toMatchObject({ meets: true });
    expect(mean(1.9)).toMatchObject({ meets: false, decidedBy: 'ttft' });
  });

  it('misses where the server does not keep up, and does not judge that by a run that is too short', () => {
    // One a second arrives, 0.8 a second leave, and none waits longer than the SLO allows.
    const slow = (count: number) => outcomes(count, (i) => ({ endSeconds: i * 1.25 + 0.7 }));
    const loose = slo({ ttftSeconds: 1000, tpotSeconds: 1000 });
    const long = judged(slow(1000), { slo: loose });
    expect(long.measurement.steadyState).not.toBeNull();
    expect(long.attainment).toMatchObject({ meets: false, decidedBy: 'throughput' });
    const short = judged(
      outcomes(5, () => ({ endSeconds: 100 })),
      { slo: loose },
    );
    expect(short.measurement.steadyState).toBeNull();
    expect(short.attainment.meets).toBe(true);
  });

  it('is never met by a run without requests', () => {
    expect(judged([]).attainment).toMatchObject({ meets: false, judged: 0, nearness: null });
  });
});

describe('a limit on TTFT that grows with the prompt', () => {
  // 1 s and 10 ms for each of 100 tokens: 2 s.
  const patient = slo({ ttftSecondsPerInputToken: 0.01 });

  it('is that of the cell: what misses without it meets with it', () => {
    const run = outcomes(200, () => ({ ttft: 1.5 }));
    expect(judged(run).attainment).toMatchObject({ meets: false, decidedBy: 'ttft' });
    const { attainment } = judged(run, { slo: patient });
    expect(attainment).toMatchObject({ meets: true, nearestLimit: 'ttft' });
    expect(attainment.nearness).toBeCloseTo(0.75, 10);
  });

  it.each([90, 0] as const)('at the percentile %i each prompt of a mixture has its own', (percentile) => {
    const mixture = (longTtft: number) =>
      outcomes(400, (i) => (i % 2 === 0 ? { ttft: 1.5 } : { wantedInputTokens: 1000, ttft: longTtft }));
    const met = judged(mixture(9), { slo: { ...patient, percentile } }).attainment;
    expect(met.meets).toBe(true);
    // The nearest are the long ones at 9 of 11 s; in the mean the others, at 1.5 of 2 s, count as much.
    expect(met.nearness).toBeCloseTo(percentile === 0 ? (9 / 11 + 1.5 / 2) / 2 : 9 / 11, 2);
    const missed = judged(mixture(15), { slo: { ...patient, percentile } }).attainment;
    expect(missed).toMatchObject({ meets: false, decidedBy: 'ttft' });
  });

  it('0 is as without it', () => {
    const run = outcomes(200, (i) => ({ ttft: i % 7 === 0 ? 3 : 0.2, wantedInputTokens: 50 + i }));
    expect(judged(run, { slo: slo({ ttftSecondsPerInputToken: 0 }) })).toEqual(judged(run));
  });

  it('is part of the time after which a request has missed for certain', () => {
    expect(certainMissSeconds(patient, { inputTokens: 100, outputTokens: 11 })).toBeCloseTo(3, 12);
    expect(certainMissSeconds(patient, { inputTokens: 1000, outputTokens: 1 })).toBeCloseTo(11, 12);
  });
});

describe('the time after which a request has missed for certain', () => {
  it.each([
    [slo(), 11, 1 + 10 * 0.1],
    [slo({ e2eSeconds: 1.5 }), 11, 1.5],
    [slo({ tpotSeconds: null }), 11, Number.POSITIVE_INFINITY],
    [slo({ tpotSeconds: null }), 1, 1],
    [slo({ ttftSeconds: null, e2eSeconds: 3 }), 11, 3],
  ])('%j with %i tokens: %d s', (limits, tokens, seconds) => {
    expect(certainMissSeconds(limits, { inputTokens: 10, outputTokens: tokens })).toBeCloseTo(seconds, 12);
  });
});

it('the quantile that the percentile names', () => {
  const summary = { count: 5, mean: 1, p50: 2, p90: 3, p95: 4, p99: 5 };
  expect(([0, 50, 90, 95, 99] as const).map((p) => quantileOf(summary, p))).toEqual([1, 2, 3, 4, 5]);
  expect(quantileOf(null, 90)).toBeNull();
});
