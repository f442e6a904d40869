import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { arrivalsOfEngines, type EngineCourse, type EngineReading } from '../../src/demand/engine-arrivals.js';

type Said = readonly [ended: number, waiting: number, running: number, firstTokens?: number | null];

function reading([ended, waiting, running, firstTokens = null]: Said): EngineReading {
  return { ended, mostEnded: null, firstTokens, waiting, running };
}

/** Null = not read; listed all the time unless said. */
function course(readings: readonly (Said | null)[], listed?: readonly boolean[]): EngineCourse {
  return {
    readings: readings.map((one) => (one === null ? null : reading(one))),
    listed: listed ?? readings.map(() => true),
  };
}

const arrivals = (...courses: readonly EngineCourse[]) =>
  arrivalsOfEngines(courses).map((interval) => interval?.arrivals ?? null);

describe('arrivals of a model', () => {
  it('are what ended and what is in the engine more than before', () => {
    expect(
      arrivals(
        course([
          [7, 1, 2],
          [12, 0, 1],
          [12, 4, 3],
        ]),
      ),
    ).toEqual([null, 3, 6]);
    expect(
      arrivalsOfEngines([
        course([
          [7, 1, 2],
          [12, 0, 1],
        ]),
      ])[1],
    ).toEqual({ arrivals: 3, pending: 1 });
  });

  it('are none, and known, while engines are silent', () => {
    expect(
      arrivals(
        course([
          [7, 0, 0],
          [7, 0, 0],
        ]),
      ),
    ).toEqual([null, 0]);
  });

  it('are no less than the first tokens say, where clients went before their request ended', () => {
    // 10 arrived, all got a token, 6 ended, 4 went.
    expect(
      arrivals(
        course([
          [0, 0, 4, 4],
          [6, 0, 4, 14],
        ]),
      ),
    ).toEqual([null, 10]);
  });

  it('are never negative, whatever left an engine uncounted', () => {
    expect(
      arrivals(
        course([
          [5, 0, 9],
          [5, 0, 0],
        ]),
        course([
          [5, 0, 0],
          [8, 0, 0],
        ]),
      ),
    ).toEqual([null, 3]);
  });

  it('go on from zero where an engine started again, with what it had ended before', () => {
    expect(
      arrivals(
        course([
          [100, 0, 5],
          [3, 1, 1],
        ]),
      ),
    ).toEqual([null, 5]);
    const restarted = { ...reading([3, 1, 1]), mostEnded: 108 };
    const before = reading([100, 0, 5]);
    expect(arrivals({ readings: [before, restarted], listed: [true, true] })).toEqual([null, 13]);
  });

  it('spread the increase over a gap, in whole requests, and are unknown where nobody was read', () => {
    expect(arrivals(course([[0, 0, 0], null, null, [10, 0, 0]]))).toEqual([null, null, null, 4]);
    const other = course([
      [0, 0, 0],
      [6, 0, 0],
      [12, 0, 0],
      [18, 0, 0],
    ]);
    expect(arrivals(course([[0, 0, 0], null, null, [10, 0, 0]]), other)).toEqual([null, 9, 9, 10]);
  });

  it('count engines that cannot be read as the mean of the others, and those that are gone not at all', () => {
    const read = course([
      [0, 0, 0],
      [6, 0, 0],
      [12, 0, 0],
    ]);
    const lost: readonly (Said | null)[] = [[0, 0, 2], [4, 0, 2], null];
    expect(arrivals(read, course(lost))).toEqual([null, 10, 12]);
    expect(arrivals(read, course(lost, [true, true, false]))).toEqual([null, 10, 6]);
    expect(arrivalsOfEngines([read, course(lost)])[2]!.pending).toBe(2);
  });

  it('are unknown where more than half of the engines cannot be read', () => {
    const lost = course([[0, 0, 0], null]);
    expect(
      arrivals(
        course([
          [0, 0, 0],
          [9, 0, 0],
        ]),
        lost,
      ),
    ).toEqual([null, 18]);
    expect(
      arrivals(
        course([
          [0, 0, 0],
          [9, 0, 0],
        ]),
        lost,
        lost,
      ),
    ).toEqual([null, null]);
  });

  it('are unknown where engines vanished from the list whose replicas are ready', () => {
    const steady: readonly Said[] = [0, 1, 2, 3].map((step) => [100 * step, 0, 0]);
    const left = course(steady);
    const vanished = course([steady[0]!, steady[1]!, null, null], [true, true, false, false]);
    const courses = [left, vanished, vanished, vanished];
    const with4 = (ready: number | null, of: readonly EngineCourse[] = courses) =>
      arrivalsOfEngines(of, ready).map((interval) => interval?.arrivals ?? null);
    expect(with4(4)).toEqual([null, 400, null, null]);
    // As many as that are gone: nobody is missed.
    expect(with4(2)).toEqual([null, 400, 100, 100]);
    expect(with4(0)).toEqual([null, 400, 100, 100]);
    expect(with4(null)).toEqual([null, 400, 100, 100]);
    // Half of them speak for all.
    expect(with4(4, [left, left, vanished, vanished])).toEqual([null, 400, 200, 200]);
    // Engines that were just found count as read.
    expect(with4(4, [left, course([null, null, [30, 0, 0], [60, 0, 0]])])).toEqual([null, null, 130, 130]);
  });

  it('of a new engine are those of all its life, but no more than another engine got', () => {
    const old = course([
      [0, 0, 0],
      [10, 0, 0],
    ]);
    expect(arrivals(old, course([null, [3, 0, 1]]))).toEqual([null, 14]);
    expect(arrivals(old, course([null, [5000, 0, 1]]))).toEqual([null, 20]);
    // The only engine of its model begins a count.
    expect(arrivals(course([null, [5000, 0, 1], [5004, 0, 0]]))).toEqual([null, null, 3]);
  });

  it('are none of a model without engines', () => {
    expect(arrivalsOfEngines([])).toEqual([]);
  });

  it('sum up to what was sent, however it was spread and wherever scrapes are missing', () => {
    const step = fc.record({ sent: fc.nat(50), ended: fc.nat(50), isRead: fc.boolean() });
    fc.assert(
      fc.property(fc.array(fc.array(step, { minLength: 6, maxLength: 6 }), { minLength: 1, maxLength: 4 }), (plans) => {
        let sent = 0;
        const courses = plans.map((steps) => {
          let [ended, inside] = [1000, 0];
          const said: (Said | null)[] = [[ended, 0, inside]];
          for (const [i, one] of steps.entries()) {
            const isLast = i === steps.length - 1;
            sent += one.sent;
            const done = Math.min(inside + one.sent, one.ended);
            ended += done;
            inside += one.sent - done;
            said.push(one.isRead || isLast ? [ended, 0, inside] : null);
          }
          return course(said);
        });
        const found = arrivalsOfEngines(courses);
        const known = found.reduce((sum, interval) => sum + (interval?.arrivals ?? 0), 0);
        const unknown = found.slice(1).some((interval) => interval === null);
        expect(known).toBeLessThanOrEqual(sent);
        if (!unknown) expect(known).toBe(sent);
        for (const interval of found) {
          expect(interval === null || (Number.isInteger(interval.arrivals) && interval.arrivals >= 0)).toBe(true);
        }
      }),
    );
  });

  it('are whole, finite and not negative, whatever engines say', () => {
    const count = fc.nat(1_000_000);
    const any = fc.option(
      fc.record({
        ended: count,
        mostEnded: fc.option(count),
        firstTokens: fc.option(count),
        waiting: count,
        running: count,
      }),
    );
    const anyCourse = fc.array(fc.tuple(any, fc.boolean()), { minLength: 5, maxLength: 5 }).map((steps) => ({
      readings: steps.map(([one]) => one),
      listed: steps.map(([, isListed]) => isListed),
    }));
    fc.assert(
      fc.property(fc.array(anyCourse, { maxLength: 5 }), (courses) => {
        for (const interval of arrivalsOfEngines(courses)) {
          if (interval === null) continue;
          expect(Number.isSafeInteger(interval.arrivals) && interval.arrivals >= 0).toBe(true);
          expect(Number.isSafeInteger(interval.pending) && interval.pending >= 0).toBe(true);
        }
      }),
    );
  });
});
