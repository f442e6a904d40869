import { describe, expect, test } from 'vitest';
import type { FleetDeployment } from '../../../src/simulation/backtest/backtest.js';
import { aibrixNumbers, aibrixPolicy } from '../../../src/simulation/policies/aibrix.js';
import type { CountedPoint } from '../../../src/simulation/policies/density-clusters.js';
import { flatProfile, fleetDeployment, interval, seen, view } from './fleets.js';

const fast = fleetDeployment('default/fast', { usdPerReplicaHour: 3, profile: flatProfile(10) });
const slow = fleetDeployment('default/slow', { usdPerReplicaHour: 1, profile: flatProfile(4) });

const points = (count: number, inputLog2: number, outputLog2: number): CountedPoint => ({
  x: 10 * inputLog2,
  y: 10 * outputLog2,
  count,
});

/** The only deployment's number at one request/s, for requests of these lengths: 100 / throughput. */
function tputAt(profile: FleetDeployment['profile'], at: readonly CountedPoint[]): number {
  const [number] = aibrixNumbers({ deployments: [fleetDeployment('a', { profile })], points: at, rps: 1 })!;
  return 100 / number!;
}

describe('the numbers of the optimizer', () => {
  test('are hundredths of a GPU, on the type that is cheaper for the load', () => {
    // 8 requests/s at 4 a replica on the slow type: 2 replicas for 2 USD, against 0.8 for 2.4 on the fast one.
    const numbers = aibrixNumbers({ deployments: [fast, slow], points: [points(50, 9, 6)], rps: 8 });
    expect(numbers).toEqual([0, 200]);
  });

  test('a cluster is one cell, and the upper one from a quarter of the way on', () => {
    const profile = {
      indexes: [[64], [128, 512]],
      tputs: [[5, 2]],
    };
    expect(tputAt(profile, [points(20, 7, 6)])).toBe(5);
    expect(tputAt(profile, [points(20, 7.4, 6)])).toBe(5);
    expect(tputAt(profile, [points(20, 7.5, 6)])).toBe(2);
    expect(tputAt(profile, [points(20, 3, 6)])).toBe(5);
    expect(tputAt(profile, [points(20, 14, 6)])).toBe(2);
  });

  test('what is in no cluster is spread over the clusters', () => {
    const profile = {
      indexes: [[64], [128, 8192]],
      tputs: [[10, 1]],
    };
    // Five long requests are noise, and count as short ones: the whole rate at 10 a replica.
    expect(tputAt(profile, [points(40, 7, 6), points(5, 13, 6)])).toBe(10);
    // Ten of them are a cluster of a fifth: 0.8 / 10 + 0.2 / 1 = 0.28 replicas.
    expect(tputAt(profile, [points(40, 7, 6), points(10, 13, 6)])).toBeCloseTo(100 / 28, 9);
  });

  test('fewer than ten requests alike have no numbers', () => {
    expect(aibrixNumbers({ deployments: [slow], points: [points(9, 9, 6)], rps: 1 })).toBeNull();
  });

  test('a length that no type serves takes the nearest one that some type does', () => {
    const profile = {
      indexes: [[64], [128, 8192]],
      tputs: [[10, 0]],
    };
    expect(tputAt(profile, [points(20, 13, 6)])).toBe(10);
  });

  test('a length that only one type serves goes there, and a type with a grid of its own is read by that', () => {
    const short = fleetDeployment('short', {
      usdPerReplicaHour: 0.1,
      profile: { indexes: [[64], [128, 8192]], tputs: [[10, 0]] },
    });
    const long = fleetDeployment('long', { profile: { indexes: [[64], [4096]], tputs: [[2]] } });
    expect(aibrixNumbers({ deployments: [short, long], points: [points(20, 13, 6)], rps: 1 })).toEqual([0, 50]);
    expect(aibrixNumbers({ deployments: [short, long], points: [points(20, 7, 6)], rps: 1 })).toEqual([10, 0]);
  });
});

/** Runs the policy against a fleet that does at once what it is told; each interval has these buckets. */
function run(
  intervals: readonly (readonly (readonly [number, number, number])[])[],
  options: {
    readonly start?: number;
    readonly targetValue?: number;
    readonly deployments?: readonly FleetDeployment[];
  } = {},
) {
  const deployments = options.deployments ?? [slow];
  const policy = aibrixPolicy({ deployments, targetValue: options.targetValue ?? 100 });
  const replicas = new Map(deployments.map(({ id }) => [id, options.start ?? 1]));
  return intervals.map((buckets, i) => {
    const nowSeconds = 1_000_000 + policy.periodSeconds * i;
    const decision = policy.decide(
      view(nowSeconds, {
        intervals: buckets.length === 0 ? [] : [interval(nowSeconds, buckets)],
        deployments: deployments.map(({ id }) => seen(id, { wanted: replicas.get(id)! })),
      }),
    );
    if (decision instanceof Promise) throw new Error('this policy decides at once');
    for (const [id, count] of decision.replicas) replicas.set(id, count);
    return { rps: decision.forecastRps, replicas: [...decision.replicas.values()] };
  });
}

describe('the policy', () => {
  test('a steady 10 requests/s at 4 a replica need 250 hundredths: three replicas, and more with head-room', () => {
    const steady = new Array(60).fill([[512, 64, 100]] as const);
    const found = run(steady);
    // As written by AIBrix the first record alone would make 100 requests/s.
    expect(found.map(({ rps }) => rps)).toEqual(new Array(60).fill(10));
    expect(found.at(-1)!.replicas).toEqual([3]);
    expect(run(steady, { targetValue: 50 }).at(-1)!.replicas).toEqual([5]);
  });

  test('it doubles at most from one look to the next', () => {
    const found = run(new Array(4).fill([[512, 64, 1000]]));
    expect(found.map(({ replicas }) => replicas[0])).toEqual([2, 4, 8, 16]);
  });

  test('a burst counts at once by the newest record, and then for as long as the window holds it', () => {
    const bursts = [...new Array(30).fill([[512, 64, 100]]), [[512, 64, 500]], ...new Array(40).fill([[512, 64, 100]])];
    const found = run(bursts, { start: 3 });
    expect(found[30]!.rps).toBe(50);
    expect(found[31]!.rps).toBeGreaterThan(11);
    expect(found[31]!.rps).toBeLessThan(13);
    expect(found.at(-1)!.rps).toBe(10);
  });

  test('the window reaches back between 180 and 240 seconds', () => {
    // From the 30th record on there are ten times fewer: the rate is theirs once the last busy one is forgotten.
    const intervals = Array.from({ length: 60 }, (_, i) => [[512, 64, i < 30 ? 100 : 10] as const]);
    const found = run(intervals, { start: 3 });
    const forgotten = found.findIndex(({ rps }, i) => i > 30 && rps === 1);
    expect(forgotten - 30).toBeGreaterThanOrEqual(18);
    expect(forgotten - 30).toBeLessThanOrEqual(24);
  });

  test('too few requests alike keep the numbers there are, none at all ask for the minimum', () => {
    const few = Array.from({ length: 60 }, (_, i) => (i % 8 === 0 ? [[512, 64, 1] as const] : []));
    const found = run([...few, ...new Array(60).fill([])], { start: 5 });
    expect(found.slice(0, 60).map(({ replicas }) => replicas[0])).toEqual(new Array(60).fill(5));
    expect(found.at(-1)!.replicas).toEqual([1]);
  });

  test('with nothing to do one replica of the cheapest type stays, and none of the others', () => {
    const quiet = run([...new Array(30).fill([[512, 64, 100]]), ...new Array(100).fill([])], {
      deployments: [fast, slow],
    });
    expect(quiet.at(-1)!.replicas).toEqual([0, 1]);
  });

  test('a floor of several replicas holds while nothing arrives, whatever its number would make', () => {
    const idleMinReplicas = new Map([[slow.id, 3]]);
    const policy = aibrixPolicy({ deployments: [slow], targetValue: 100, idleMinReplicas });
    const deployments = [seen(slow.id, { wanted: 1 })];
    expect(policy.decide(view(0, { deployments }))).toMatchObject({ replicas: new Map([[slow.id, 3]]) });
  });

  test('before it knows anything it changes nothing', () => {
    const policy = aibrixPolicy({ deployments: [slow], targetValue: 100 });
    const found = policy.decide(
      view(0, { deployments: [seen(slow.id, { wanted: 8 })], intervals: [interval(0, [[512, 64, 3]])] }),
    );
    expect(found).toMatchObject({ replicas: new Map([[slow.id, 8]]) });
  });
});
