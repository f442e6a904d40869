import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type InFlightSurplus, RequestsInFlight } from '../../src/demand/requests-in-flight.js';
import type { DemandInterval } from '../../src/demand/window.js';
import { seededRandom } from '../support/seeded-random.js';

/** One interval of 10 s as a gateway counts it; null = it is not known. */
type Counted = { readonly arrivals: number; readonly completions: number; readonly pending: number } | null;

const start = 1_800_000_000;
const [forecastRps, horizonSeconds] = [11, 250];

/** Looks once a minute at a window of 24 intervals that grows with the time. */
function looks(
  intervals: readonly Counted[],
  options: { readonly latencySeconds?: number | null } = {},
): readonly (InFlightSurplus | null)[] {
  const inFlight = new RequestsInFlight();
  const found: (InFlightSurplus | null)[] = [];
  for (let end = 6; end <= intervals.length; end += 6) {
    const window = intervals.slice(Math.max(0, end - 24), end);
    const first = end - window.length;
    const seen = window.map((each, i): DemandInterval => {
      const endSeconds = start + 10 * (first + i + 1);
      return each === null
        ? { endSeconds, state: 'unknown' }
        : { endSeconds, state: 'known', ...each, rps: each.arrivals / 10 };
    });
    const newest = intervals.slice(0, end).findLastIndex((each) => each !== null);
    inFlight.follow({
      intervals: seen,
      pending: intervals[newest]?.pending ?? 0,
      pendingAtSeconds: newest === -1 ? null : start + 10 * (newest + 1),
    });
    const nowMs = (start + 10 * end) * 1000;
    found.push(
      inFlight.surplus({ intervals: seen }, { nowMs, latencySeconds: 40, forecastRps, horizonSeconds, ...options }),
    );
  }
  return found;
}

/** Ten requests/s, for so many minutes, whose latency is what it is at each moment; of a gateway whose counter may leak. */
function served(
  minutes: number,
  latencyAt: (second: number) => number,
  gateway: { readonly leakedPerInterval?: number; readonly rpsAt?: (second: number) => number } = {},
): Counted[] {
  const { leakedPerInterval = 0, rpsAt = () => 10 } = gateway;
  const ends: number[] = [];
  const counted: { arrivals: number; completions: number; pending: number }[] = [];
  let inFlight = 0;
  for (let interval = 0; interval < 6 * minutes; interval += 1) {
    let arrivals = 0;
    for (let second = 10 * interval; second < 10 * (interval + 1); second += 1) {
      for (let i = 0; i < rpsAt(second); i += 1) {
        arrivals += 1;
        const at = Math.floor((second + latencyAt(second)) / 10);
        ends[at] = (ends[at] ?? 0) + 1;
      }
    }
    const completions = ends[interval] ?? 0;
    inFlight += arrivals - completions;
    counted.push({ arrivals, completions, pending: inFlight + leakedPerInterval * interval });
  }
  return counted;
}

const addedOf = (found: readonly (InFlightSurplus | null)[]) => found.map((each) => each?.addedRps ?? 0);

describe('requests in flight', () => {
  it('that rate and latency explain add nothing', () => {
    const found = looks(served(60, () => 40));
    // Until the first quarter of an hour is over nothing is known of what is usual.
    expect(found.slice(0, 15).every((each) => each === null)).toBe(true);
    expect(found.slice(16)).toEqual(Array(44).fill({ requests: 0, addedRps: 0 }));
  });

  it('tell of longer answers before the first of them is complete', () => {
    const found = addedOf(looks(served(36, (second) => (second < 1800 ? 40 : 160))));
    expect(found.slice(0, 30)).toEqual(Array(30).fill(0));
    // One minute later 600 are in flight, where 400 are explained; two minutes later 1,200.
    expect(found[30]).toBeGreaterThan(1);
    expect(found[31]).toBeGreaterThan(8);
    expect(Math.max(...found)).toBeLessThanOrEqual(forecastRps);
  });

  it('of a queue that formed add what takes it away within the horizon, while it is there and no longer', () => {
    // For five minutes no answer ends; then all of those that wait do, within ten minutes.
    const latencyAt = (second: number) => (second < 1800 || second > 2700 ? 40 : second < 2100 ? 340 : 40);
    const found = addedOf(looks(served(90, latencyAt)));
    expect(Math.max(...found.slice(30, 36))).toBeGreaterThan(5);
    expect(found.slice(46)).toEqual(Array(44).fill(0));
  });

  it('of short requests add little, however many times as many as usual there are', () => {
    const inFlight = served(40, (second) => (second >= 1800 && second < 1830 ? 30 : 1));
    const found = addedOf(looks(inFlight, { latencySeconds: 1 }));
    expect(Math.max(...found)).toBeLessThan(0.25 * forecastRps);
  });

  it('that a counter has forgotten to take back are none', () => {
    const found = addedOf(looks(served(120, () => 40, { leakedPerInterval: 50 })));
    expect(found).toEqual(Array(120).fill(0));
  });

  it('are usual after three quarters of an hour', () => {
    const found = addedOf(looks(served(180, (second) => (second < 3600 ? 40 : 120))));
    expect(found[63]).toBeGreaterThan(1);
    expect(found.slice(60 + 46)).toEqual(Array(74).fill(0));
  });

  it('may be usually more than the profile says, as where replicas share load', () => {
    const found = addedOf(looks(served(120, () => 60)));
    expect(found).toEqual(Array(120).fill(0));
  });

  it('that come with a leap of the rate are explained by it', () => {
    const found = addedOf(looks(served(60, () => 40, { rpsAt: (second) => (second < 1800 ? 10 : 30) })));
    expect(Math.max(...found)).toBe(0);
  });

  it('say nothing without latencies', () => {
    const found = looks(
      served(60, (second) => (second < 1800 ? 40 : 160)),
      { latencySeconds: null },
    );
    expect(found).toEqual(Array(60).fill(null));
  });

  it('are counted anew after intervals that nobody knows', () => {
    const counted = served(60, (second) => (second < 1800 ? 40 : 160));
    for (let i = 175; i < 190; i += 1) counted[i] = null;
    const found = addedOf(looks(counted));
    expect(found.slice(0, 30)).toEqual(Array(30).fill(0));
    expect(Math.max(...found.slice(31, 36))).toBeGreaterThan(1);
  });

  it('never take anything away, and at most double a plan, whatever a gateway counts', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 100 }), (seed, busy) => {
        const random = seededRandom(seed);
        const counted = Array.from({ length: 400 }, () =>
          random.chance(0.05)
            ? null
            : {
                arrivals: random.whole(0, busy),
                completions: random.whole(0, busy),
                pending: random.chance(0.1) ? random.whole(0, 1_000_000) : random.whole(0, 50 * busy),
              },
        );
        for (const each of looks(counted)) {
          if (each === null) continue;
          expect(each.requests).toBeGreaterThanOrEqual(0);
          expect(each.addedRps).toBeGreaterThanOrEqual(0);
          expect(each.addedRps).toBeLessThanOrEqual(forecastRps);
          if (each.requests === 0) expect(each.addedRps).toBe(0);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('add nothing for chance: Poisson arrivals whose latencies vary', () => {
    for (const seed of [1, 2, 3]) {
      const random = seededRandom(seed);
      const counted = served(180, () => -40 * Math.log(1 - random.next()), {
        rpsAt: () => Math.max(0, Math.round(10 + Math.sqrt(10) * random.normal())),
      });
      const added = addedOf(looks(counted));
      expect(added.filter((each) => each > 0).length).toBeLessThanOrEqual(2);
      expect(Math.max(...added)).toBeLessThan(0.1 * forecastRps);
    }
  });
});
