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
const routerOf = (router: Router) =>
  new RequestRouter<{ readonly name: string; readonly inFlight: number }>({
    router,
    deployments: ['a', 'b'],
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
