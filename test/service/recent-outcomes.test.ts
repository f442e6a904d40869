import { describe, expect, it } from 'vitest';
import { sloSchema } from '../../src/service/config/fleet-config.js';
import { RecentOutcomes, recentMinutes } from '../../src/service/recent-outcomes.js';

const minuteMs = 60_000;
const startMs = Date.UTC(2026, 5, 1, 8);

function answer(ttftSeconds: number, overrides: { inputTokens?: number; tpotSeconds?: number | null } = {}) {
  return { inputTokens: 100, outputTokens: 10, ttftSeconds, tpotSeconds: 0.03, e2eSeconds: 1, ...overrides };
}

describe('the outcomes of the last half hour', () => {
  it('are nothing before a request has ended', () => {
    expect(new RecentOutcomes(sloSchema.parse({ ttftSeconds: 2 })).view(startMs)).toEqual({
      windowSeconds: recentMinutes * 60,
      requests: 0,
      failed: 0,
      unserved: 0,
      attainment: null,
      ttftP95Seconds: null,
      sinceStart: { requests: 0, attainment: null },
    });
  });

  it('hold each answer against every time of the objective, the first token against its prompt', () => {
    const slo = sloSchema.parse({ ttftSeconds: 2, ttftSecondsPerInputToken: 0.001, tpotSeconds: 0.1, e2eSeconds: 60 });
    const outcomes = new RecentOutcomes(slo);
    outcomes.answered(answer(2.1), startMs);
    outcomes.answered(answer(2.2), startMs);
    outcomes.answered(answer(2.2, { inputTokens: 1000 }), startMs);
    outcomes.answered(answer(1, { tpotSeconds: 0.11 }), startMs);
    outcomes.answered(answer(1, { tpotSeconds: null }), startMs);
    outcomes.answered({ ...answer(1), e2eSeconds: 61 }, startMs);
    expect(outcomes.view(startMs)).toMatchObject({ requests: 6, attainment: 3 / 6 });
  });

  it('count what failed, and what no replica took, as missed and not as a time', () => {
    const outcomes = new RecentOutcomes(sloSchema.parse({ ttftSeconds: 2 }));
    outcomes.answered(answer(0.5), startMs);
    outcomes.missed('failed', startMs);
    outcomes.missed('unserved', startMs);
    outcomes.missed('unserved', startMs);
    const view = outcomes.view(startMs);
    expect(view).toMatchObject({ requests: 4, failed: 1, unserved: 2, attainment: 0.25 });
    expect(view.ttftP95Seconds).toBeCloseTo(0.5, 2);
  });

  it('forget a minute once it is half an hour old, and the whole keeps it', () => {
    const outcomes = new RecentOutcomes(sloSchema.parse({ ttftSeconds: 2 }));
    outcomes.answered(answer(10), startMs);
    for (let minute = 1; minute < 100; minute++) outcomes.answered(answer(0.5), startMs + minute * minuteMs);
    expect(outcomes.view(startMs + 99 * minuteMs)).toMatchObject({ requests: recentMinutes, attainment: 1 });
    expect(outcomes.view(startMs + 120 * minuteMs)).toMatchObject({ requests: 9 });
    expect(outcomes.view(startMs + 200 * minuteMs)).toMatchObject({ requests: 0, attainment: null });
    expect(outcomes.view(startMs + 200 * minuteMs).sinceStart).toEqual({ requests: 100, attainment: 0.99 });
  });

  it('know the percentile of first tokens over minutes of different size', () => {
    const outcomes = new RecentOutcomes(null);
    for (let i = 0; i < 940; i++) outcomes.answered(answer(0.2), startMs);
    for (let i = 0; i < 60; i++) outcomes.answered(answer(3), startMs + minuteMs);
    const view = outcomes.view(startMs + minuteMs);
    expect(view.ttftP95Seconds! / 3).toBeCloseTo(1, 2);
    expect(view.attainment).toBeNull();
  });
});
