import { describe, expect, it } from 'vitest';
import { generatedFleet } from '../../benchmarks/placement-fleets.js';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { optimal } from '../../src/placement/exact/optimal.js';
import { repack } from '../../src/placement/exact/repack.js';
import { type Fleet, fleetOf } from '../../src/placement/fleet.js';
import { improve, type Judge } from '../../src/placement/improve.js';
import { isRefused, Occupancy } from '../../src/placement/occupancy.js';
import { place } from '../../src/placement/place.js';
import { compareScores } from '../../src/placement/score.js';
import { vramBased } from '../../src/placement/strategies/vram-based.js';
import { gpu, request, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

/** Ends after it was asked so often: the same each time, however fast the machine is. */
function askedFor(times: number): () => boolean {
  let left = times;
  return () => left-- <= 0;
}

const slownessAlone: Judge = {
  measure: ({ fleet }, at, _, services, critical) => [(critical * services) / fleet.gpus[at]!.speed],
  value: (sums) => sums,
};

const solve = (from: Occupancy) => optimal(from.fleet, { shouldStop: () => false, nodeLimit: 5_000 }).occupancy;

/** The same services on the same GPUs, put there anew. */
function putAnew(occupancy: Occupancy): Occupancy {
  const { fleet } = occupancy;
  const anew = new Occupancy(fleet);
  for (const each of fleet.services) {
    const at = occupancy.placeOf(each);
    if (at >= 0) anew.put(each, at, anew.with(each, at)!);
    else anew.settle(each, at === isRefused ? isRefused : -1);
  }
  return anew;
}

function placedAt(fleet: Fleet, places: Readonly<Record<string, number>>): Occupancy {
  const occupancy = new Occupancy(fleet);
  for (const each of fleet.services) {
    const at = places[each.service.name]!;
    occupancy.put(each, at, occupancy.with(each, at)!);
  }
  return occupancy;
}

describe('a placement of which a few GPUs at a time are placed anew', () => {
  it('gets out of where no move and no exchange of two helps', () => {
    // All GPUs are full. The critical ones (3, 2, 2 GB) fit on the fast one, and the rest on the others, as 4 + 3 and 5 + 2.
    const gpus = [0, 1, 2].map((index) => gpu({ index, memoryMb: 7_000, speed: index === 0 ? 4 : 1 }));
    const critical = [3, 2, 2].map((gb, i) => service(`critical-${i}`, gb * 1_000, { critical: true }));
    const others = [4, 3, 2, 5].map((gb) => service(`other-${gb}`, gb * 1_000));
    const fleet = fleetOf(request(gpus, [...critical, ...others]), catalogue);
    const stuck = placedAt(fleet, {
      'critical-0': 0,
      'other-4': 0,
      'critical-1': 1,
      'other-3': 1,
      'other-2': 1,
      'critical-2': 2,
      'other-5': 2,
    });
    const before = stuck.score().slowness;
    improve(stuck, slownessAlone);
    expect([before, stuck.score().slowness]).toEqual([2 / 4 + 3 + 2, 2 / 4 + 3 + 2]);
    repack(stuck, { seed: 0, shouldStop: () => false, solve });
    expect(stuck.score().slowness).toBeCloseTo((3 * 3) / 4, 9);
  });

  it('is never worse, whole, and the same each time', () => {
    for (const seed of [0, 1, 2, 3]) {
      const fleet = fleetOf(generatedFleet({ seed, gpus: 12, services: 36, fill: 0.6 }), catalogue);
      const before = vramBased(fleet);
      const [first, second] = [before.copy(), before.copy()];
      for (const each of [first, second]) repack(each, { seed: 1, shouldStop: askedFor(60), solve });
      expect(compareScores(first.score(), before.score())).toBeLessThan(0);
      const placesOf = (occupancy: Occupancy) => fleet.services.map((one) => occupancy.placeOf(one));
      expect(placesOf(second)).toEqual(placesOf(first));
      expect(compareScores(putAnew(first).score(), first.score())).toBe(0);
      expect(fleet.services.every((one) => first.isDecided(one))).toBe(true);
    }
  });

  it('leaves refused services, and those on the CPU, where they are', () => {
    const fleet = fleetOf(
      request(
        [0, 1, 2].map((index) => gpu({ index, memoryMb: 8_000 })),
        [
          service('nowhere', 3_000, { frameworks: ['rocm'] }),
          service('cpu', 9_000, { cpuAllowed: true }),
          ...['a', 'b', 'c', 'd'].map((name) => service(name, 3_000, { critical: true })),
        ],
      ),
      catalogue,
    );
    const occupancy = vramBased(fleet);
    const placeOf = (name: string) => occupancy.placeOf(fleet.services.find((one) => one.service.name === name)!);
    const before = [placeOf('nowhere'), placeOf('cpu')];
    repack(occupancy, { seed: 0, shouldStop: () => false, solve });
    expect([placeOf('nowhere'), placeOf('cpu')]).toEqual(before);
    expect(before[0]).toBe(isRefused);
  });
});

describe('a large fleet', () => {
  it('is placed better than by any rule, and close to what no placement is better than', () => {
    const asked = generatedFleet({ seed: 2, gpus: 32, services: 100, fill: 0.5 });
    const { objective, bound } = place({ ...asked, strategy: 'optimal' }, { catalogue, shouldStop: askedFor(10_000) });
    expect(objective.overcommitMb).toBe(bound.overcommitMb);
    expect(objective.criticalSlowness).toBeLessThan(1.1 * bound.criticalSlowness);
    const others = (['vram_based', 'latency_optimized', 'isolation_first', 'balanced'] as const).map(
      (strategy) => place({ ...asked, strategy }, { catalogue }).objective.criticalSlowness,
    );
    expect(objective.criticalSlowness).toBeLessThan(0.6 * Math.min(...others));
  });
});
