import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BucketShares } from '../../../src/core/plan.js';
import type { BucketRoute, ModelRouting } from '../../../src/core/routing.js';
import { tokensOfBucketIndex } from '../../../src/core/token-bucket.js';
import { randomFrom } from '../../../src/profiling/random.js';
import type { Router } from '../../../src/simulation/backtest/backtest.js';
import { RequestRouter, ShareSelector } from '../../../src/simulation/backtest/router.js';
import { seededRandom } from '../../support/seeded-random.js';

const shares = (input: number, output: number, to: Readonly<Record<string, number>>): BucketShares => ({
  model: 'm',
  inputTokens: tokensOfBucketIndex(input, 10),
  outputTokens: tokensOfBucketIndex(output, 10),
  rps: 1,
  bestEffort: false,
  extrapolated: false,
  to: Object.entries(to).map(([deployment, share]) => ({ deployment, share })),
  unservedShare: 0,
});
const routing = (
  shares: readonly BucketRoute[],
  fullInFlight: Readonly<Record<string, number>> = {},
): ModelRouting => ({
  shares,
  fullInFlight: new Map(Object.entries(fullInFlight)),
});
/** In the middle of a bucket, so that the gateway's rounding does not matter. */
const inBucket = (input: number, output: number) => ({
  inputTokens: tokensOfBucketIndex(input, 10),
  outputTokens: tokensOfBucketIndex(output, 10),
});
const routerOf = (router: Router, deployments: readonly string[] = ['a', 'b']) =>
  new RequestRouter<{ readonly name: string; readonly inFlight: number }>({
    router,
    deployments,
    chance: randomFrom(1),
  });
const replica = (name: string, inFlight: number) => ({ name, inFlight });

describe('least-request', () => {
  test('takes the ready replica with the fewest requests, of all deployments', () => {
    const ready = [[replica('a1', 3), replica('a2', 2)], [replica('b1', 1)]];
    expect(routerOf('least-request').choose(inBucket(50, 50), ready)?.name).toBe('b1');
    expect(routerOf('least-request').choose(inBucket(50, 50), [[], []])).toBeNull();
  });

  test('equals take turns', () => {
    const router = routerOf('least-request');
    const ready = [
      [replica('a1', 1), replica('a2', 2)],
      [replica('b1', 1), replica('b2', 1)],
    ];
    const chosen = Array.from({ length: 40 }, () => router.choose(inBucket(50, 50), ready)!.name);
    expect(new Set(chosen)).toEqual(new Set(['a1', 'b1', 'b2']));
    expect(chosen.slice(0, 4)).toEqual(chosen.slice(4, 8));
  });

  test('is what happens without shares, too', () => {
    const router = routerOf('shares');
    expect(router.choose(inBucket(50, 50), [[replica('a1', 2)], [replica('b1', 1)]])?.name).toBe('b1');
    router.setRouting(routing([shares(50, 50, { elsewhere: 1 })]));
    expect(router.choose(inBucket(50, 50), [[replica('a1', 2)], [replica('b1', 1)]])?.name).toBe('b1');
  });
});

describe('random', () => {
  test('takes each ready replica as often as any other', () => {
    const router = routerOf('random');
    const ready = [[replica('a1', 9), replica('a2', 0)], [replica('b1', 0)]];
    const counts = new Map<string, number>();
    for (let i = 0; i < 9000; i++) {
      const { name } = router.choose(inBucket(50, 50), ready)!;
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    // Four standard deviations.
    for (const count of counts.values()) expect(Math.abs(count - 3000)).toBeLessThan(4 * Math.sqrt(2000));
    expect(router.choose(inBucket(50, 50), [[], []])).toBeNull();
  });
});

describe('shares', () => {
  test('go by the bucket of the request, then to the fewest requests in the deployment', () => {
    const router = routerOf('shares');
    router.setRouting(routing([shares(50, 50, { a: 1 }), shares(100, 50, { b: 1 })]));
    const ready = [[replica('a1', 9), replica('a2', 8)], [replica('b1', 0)]];
    expect(router.choose(inBucket(50, 50), ready)?.name).toBe('a2');
    expect(router.choose(inBucket(100, 50), ready)?.name).toBe('b1');
  });

  test('of a bucket that is not listed are those of the nearest in log2', () => {
    const selector = new ShareSelector(['a', 'b']);
    selector.set(routing([shares(50, 50, { a: 1 }), shares(100, 50, { b: 1 })]));
    expect(selector.next(inBucket(74, 50))).toBe(0);
    expect(selector.next(inBucket(76, 50))).toBe(1);
    expect(selector.next(inBucket(0, 0))).toBe(0);
  });

  test('where the chosen deployment has no ready replica, the others take it by fewest requests', () => {
    const router = routerOf('shares');
    router.setRouting(routing([shares(50, 50, { a: 1 })]));
    expect(router.choose(inBucket(50, 50), [[], [replica('b1', 5), replica('b2', 4)]])?.name).toBe('b2');
  });

  test('are followed to within one request at any time, without chance', () => {
    const selector = new ShareSelector(['a', 'b', 'c']);
    const wanted = { a: 0.62, b: 0.37, c: 0.01 };
    selector.set(routing([shares(50, 50, wanted)]));
    const counts = [0, 0, 0];
    for (let i = 1; i <= 3000; i++) {
      counts[selector.next(inBucket(50, 50))!]!++;
      for (const [place, share] of Object.values(wanted).entries()) {
        expect(Math.abs(counts[place]! - share * i)).toBeLessThanOrEqual(1);
      }
    }
  });

  test('that are small survive in buckets that are hit once in a while, through new plans', () => {
    const selector = new ShareSelector(['a', 'b']);
    const random = seededRandom(5);
    let taken = 0;
    for (let i = 0; i < 20_000; i++) {
      if (i % 10 === 0)
        selector.set(routing(Array.from({ length: 400 }, (_, at) => shares(at, 50, { a: 0.98, b: 0.02 }))));
      if (selector.next(inBucket(random.whole(0, 399), 50)) === 1) taken++;
    }
    expect(Math.abs(taken - 400)).toBeLessThanOrEqual(20);
  });

  test('hold in each of two buckets that take turns, and in all together', () => {
    const selector = new ShareSelector(['a', 'b']);
    selector.set(routing([shares(50, 50, { a: 0.5, b: 0.5 }), shares(100, 50, { a: 0.5, b: 0.5 })]));
    const first = [0, 0];
    for (let i = 0; i < 1000; i++) {
      const place = selector.next(inBucket(i % 2 === 0 ? 50 : 100, 50))!;
      if (i % 2 === 0) first[place]!++;
    }
    expect(Math.abs(first[0]! - 250)).toBeLessThanOrEqual(2);
  });

  test('leave out deployments of other fleets, and those without a share', () => {
    const selector = new ShareSelector(['a', 'b']);
    selector.set(routing([shares(50, 50, { elsewhere: 0.5, a: 0.25, b: 0.25 }), shares(90, 50, { a: 0, b: 0.4 })]));
    const chosen = Array.from({ length: 100 }, () => selector.next(inBucket(50, 50)));
    expect(chosen.filter((place) => place === 0)).toHaveLength(50);
    expect(Array.from({ length: 10 }, () => selector.next(inBucket(90, 50)))).toEqual(new Array(10).fill(1));
  });
});

describe('a request whose replica is full', () => {
  const bucket = shares(50, 50, { a: 1 });
  const full = { a: 10, b: 20, c: 5 };

  test('goes to the least full one that serves its bucket, if that is less full', () => {
    const router = routerOf('shares', ['a', 'b', 'c']);
    const chosen = (a: number, b: number, c: number) =>
      router.choose(inBucket(50, 50), [[replica('a', a)], [replica('b', b)], [replica('c', c)]])?.name;
    router.setRouting(routing([{ ...bucket, alsoTo: ['b', 'c'] }], full));
    expect(chosen(9, 0, 0)).toBe('a');
    // 12 of 20 are less than 4 of 5, and more requests.
    expect(chosen(10, 12, 4)).toBe('b');
    expect(chosen(10, 19, 4)).toBe('c');
    expect(chosen(10, 20, 5)).toBe('a');
    expect(chosen(13, 24, 7)).toBe('b');
    expect(chosen(11, 24, 7)).toBe('a');
  });

  test('goes only to those that serve its bucket, and of which it is known how full they are', () => {
    const router = routerOf('shares', ['a', 'b', 'c']);
    const ready = [[replica('a', 50)], [replica('b', 0)], [replica('c', 0)]];
    const chosen = () => router.choose(inBucket(50, 50), ready)?.name;
    router.setRouting(routing([bucket], full));
    expect(chosen()).toBe('a');
    router.setRouting(routing([{ ...bucket, alsoTo: ['b', 'elsewhere'] }], { a: 10, elsewhere: 9 }));
    expect(chosen()).toBe('a');
    router.setRouting(routing([{ ...bucket, alsoTo: ['b'] }], { b: 20 }));
    expect(chosen()).toBe('a');
    router.setRouting(routing([{ ...bucket, alsoTo: ['b'] }], { a: 10, b: 20 }));
    expect(chosen()).toBe('b');
  });

  test('goes by its own bucket', () => {
    const router = routerOf('shares');
    router.setRouting(routing([{ ...bucket, alsoTo: ['b'] }, shares(100, 50, { a: 1 })], full));
    const ready = [[replica('a', 10)], [replica('b', 0)]];
    expect(router.choose(inBucket(50, 50), ready)?.name).toBe('b');
    expect(router.choose(inBucket(100, 50), ready)?.name).toBe('a');
  });

  test('and one whose deployment has no ready replica goes where its bucket is served', () => {
    const router = routerOf('shares', ['a', 'b', 'c']);
    router.setRouting(routing([{ ...bucket, alsoTo: ['c'] }], full));
    expect(router.choose(inBucket(50, 50), [[], [replica('b', 0)], [replica('c', 4)]])?.name).toBe('c');
    // Nothing that serves it is there: any will do.
    expect(router.choose(inBucket(50, 50), [[], [replica('b', 0)], []])?.name).toBe('b');
    expect(router.choose(inBucket(50, 50), [[], [], []])).toBeNull();
  });

  test('uses up the turn of its deployment: nothing is owed to it, and shares hold again once there is room', () => {
    const router = routerOf('shares');
    router.setRouting(routing([shares(50, 50, { a: 0.6, b: 0.4 })], full));
    const send = (count: number, inFlight: readonly [number, number]): readonly number[] => {
      const counts = [0, 0];
      for (let i = 0; i < count; i++) {
        const ready = [[replica('a', inFlight[0])], [replica('b', inFlight[1])]];
        counts[router.choose(inBucket(50, 50), ready)!.name === 'a' ? 0 : 1]!++;
      }
      return counts;
    };
    expect(send(1000, [10, 3])).toEqual([0, 1000]);
    for (let i = 0; i < 40; i++) {
      const [a] = send(25, [3, 3]);
      expect(Math.abs(a! - 15)).toBeLessThanOrEqual(1);
    }
  });

  const place = fc.nat({ max: 3 });
  const world = fc.record({
    full: fc.tuple(...Array.from({ length: 4 }, () => fc.option(fc.double({ min: 0.5, max: 8, noNaN: true })))),
    to: fc.dictionary(place.map(String), fc.double({ min: 0.05, max: 1, noNaN: true }), { minKeys: 1, maxKeys: 4 }),
    alsoTo: fc.uniqueArray(place),
    moments: fc.array(fc.array(fc.array(fc.nat({ max: 12 }), { maxLength: 3 }), { minLength: 4, maxLength: 4 }), {
      minLength: 1,
      maxLength: 30,
    }),
  });
  const ids = ['a', 'b', 'c', 'd'];

  test('overflows just then, and only there, whatever happens', () => {
    fc.assert(
      fc.property(world, ({ full, to, alsoTo, moments }) => {
        const fullOf = (at: number) => full[at] ?? Number.POSITIVE_INFINITY;
        const known = Object.fromEntries(ids.flatMap((id, at) => (full[at] === null ? [] : [[id, full[at]!]])));
        const listed = {
          ...shares(50, 50, Object.fromEntries(Object.entries(to).map(([at, share]) => [ids[Number(at)]!, share]))),
          alsoTo: alsoTo.map((at) => ids[at]!),
        };
        const [router, twin] = [routerOf('shares', ids), routerOf('shares', ids)];
        // Whose turn it is does not depend on how full anybody is.
        const turns = new ShareSelector(ids);
        router.setRouting(routing([listed], known));
        twin.setRouting(routing([listed], known));
        turns.set(routing([listed]));
        const serving = new Set([...Object.keys(to).map(Number), ...alsoTo]);
        for (const moment of moments) {
          const ready = moment.map((replicas, at) => replicas.map((inFlight, i) => replica(`${at}.${i}`, inFlight)));
          const turn = turns.next(inBucket(50, 50))!;
          const chosen = router.choose(inBucket(50, 50), ready);
          expect(twin.choose(inBucket(50, 50), ready)).toBe(chosen);
          const fewest = Math.min(...moment[turn]!);
          const fullness = fewest === Number.POSITIVE_INFINITY ? fewest : fewest / fullOf(turn);
          const others = [...serving].flatMap((at) =>
            full[at] === null ? [] : moment[at]!.map((inFlight) => inFlight / fullOf(at)),
          );
          const least = Math.min(...others);
          if (chosen === null) {
            expect(ready.flat()).toEqual([]);
            continue;
          }
          const at = ready.findIndex((replicas) => replicas.includes(chosen));
          if (fullness < 1 || (least >= fullness && moment[turn]!.length > 0)) {
            expect([at, chosen.inFlight]).toEqual([turn, fewest]);
          } else if (least < fullness) {
            expect(serving).toContain(at);
            expect(chosen.inFlight / fullOf(at)).toBe(least);
          } else {
            expect(chosen.inFlight).toBe(Math.min(...moment.flat()));
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('stays where it is in a fleet of one deployment, and where nothing is known of how full replicas are', () => {
    fc.assert(
      fc.property(world, ({ full, to, alsoTo, moments }) => {
        const choices = (only: number, listed: BucketRoute, known: Readonly<Record<string, number>>) => {
          const router = routerOf('shares', ids.slice(0, only));
          router.setRouting(routing([listed], known));
          return moments.map((moment) => {
            const ready = moment
              .slice(0, only)
              .map((replicas, at) => replicas.map((inFlight, i) => replica(`${at}.${i}`, inFlight)));
            return router.choose(inBucket(50, 50), ready)?.name;
          });
        };
        const whole = shares(50, 50, Object.fromEntries(Object.entries(to).map(([at, x]) => [ids[Number(at)]!, x])));
        const also = { ...whole, alsoTo: alsoTo.map((at) => ids[at]!) };
        expect(choices(4, also, {})).toEqual(choices(4, whole, {}));
        const alone = shares(50, 50, { a: 1 });
        expect(choices(1, { ...alone, alsoTo: ['b'] }, { a: full[0] ?? 1, b: 3 })).toEqual(choices(1, alone, {}));
      }),
      { numRuns: 100 },
    );
  });
});
