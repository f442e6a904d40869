import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RateHistory } from '../../src/demand/rate-history.js';

describe('the history of rates', () => {
  it('keeps whole requests a minute exactly up to 4,096, and any rate within an eighth of a request or 1 part in 4,096', () => {
    const history = new RateHistory();
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4096 }), fc.double({ min: 100, max: 1e9, noNaN: true }), (count, any) => {
        history.set(1, count / 60);
        expect(history.at(1)! * 60).toBeCloseTo(count, 9);
        history.set(2, any / 60);
        expect(Math.abs(history.at(2)! * 60 - any)).toBeLessThanOrEqual(Math.max(1 / 8, any / 4096) * (1 + 1e-9));
      }),
    );
  });

  it('says of a minute that was not set, or left out, that it is not known', () => {
    const history = new RateHistory();
    history.set(100, 1);
    history.set(103, 0);
    expect([99, 100, 101, 102, 103, 104].map((minute) => history.at(minute))).toEqual([null, 1, null, null, 0, null]);
    expect(history.mean(99, 103)).toBe(0.5);
    expect(history.mean(100, 102)).toBeNull();
  });

  it('forgets what is older than 14 days', () => {
    const history = new RateHistory();
    history.set(10, 5);
    history.set(11, 1);
    history.set(10 + 14 * 1440, 2);
    expect([history.at(10), history.at(11)]).toEqual([null, 1]);
    expect(history.oldestKnown()).toBe(11);
    history.set(9, 7);
    expect(history.at(9)).toBeNull();
  });

  it('is the same again from its memory', () => {
    const history = new RateHistory();
    for (let minute = 1000; minute < 3000; minute += 7) history.set(minute, minute / 60);
    const again = new RateHistory(history.memory());
    expect(again.memory()).toEqual(history.memory());
    expect(again.peak()).toBe(history.peak());
    expect(new RateHistory({ newest: 5, minutes: '!' }).newest).toBeNull();
  });
});
