import { describe, expect, test } from 'vitest';
import { benchmarkPlacement, describePlacement } from '../../benchmarks/placement.js';
import { generatedFleet } from '../../benchmarks/placement-fleets.js';
import { firstDifference, peerRules } from '../../benchmarks/placement-peers.js';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import type { PlacementObjective } from '../../src/core/placement.js';
import { fleetOf } from '../../src/placement/fleet.js';
import { gpu, request, service } from '../placement/request-builders.js';

const catalogue = await loadGpuCatalogue();

function objective(overrides: Partial<PlacementObjective> = {}): PlacementObjective {
  return {
    refusedByPriority: [],
    overcommitMb: 0,
    shrunkMb: 0,
    criticalSlowness: 0,
    maxRelativeUse: 0.5,
    ...overrides,
  };
}

describe("the peers' rules", () => {
  const two = [gpu({ memoryMb: 10_000 }), gpu({ index: 1, memoryMb: 20_000 })];
  const three = [service('first', 4_000), service('second', 5_000), service('third', 3_000)];
  const placesOf = (rule: keyof typeof peerRules) => {
    const fleet = fleetOf(request(two, three), catalogue);
    const occupancy = peerRules[rule](fleet);
    return fleet.services.map((each) => occupancy.placeOf(each));
  };

  test('binpack fills the fullest GPU as long as a service fits', () => {
    // 40 % rather than 20 %; then 90 % rather than 25 %; the third does not fit there.
    expect(placesOf('binpack')).toEqual([0, 0, 1]);
  });

  test('spread takes the GPU that is emptiest with the service, in the order of the document', () => {
    // 20 rather than 40 %; 45 rather than 50 %; 30 rather than 60 %.
    expect(placesOf('spread')).toEqual([1, 1, 0]);
  });
});

describe('the comparison of two objectives', () => {
  test('is by the first component that differs, and of refused services by the highest priority', () => {
    expect(firstDifference(objective(), objective())).toBeNull();
    expect(firstDifference(objective({ shrunkMb: 10 }), objective({ shrunkMb: 30, maxRelativeUse: 0.1 }))).toEqual({
      component: 'shrunkMb',
      difference: 20,
      ratio: 3,
    });
    const refusing = (priority: number, count: number) => objective({ refusedByPriority: [{ priority, count }] });
    expect(firstDifference(refusing(1, 9), refusing(2, 1))).toMatchObject({
      component: 'refusedByPriority',
      difference: 1,
    });
  });
});

describe('the placement benchmark', () => {
  test('in tiny sizes finds optimal never worse and of one mind with HiGHS', async () => {
    const result = await benchmarkPlacement({
      solved: [{ services: 6, gpus: 3, fill: 0.7, hasRules: true, count: 2, limitMs: 5_000 }],
      compared: { count: 6, limitMs: 5_000, largest: 10 },
      checked: [{ services: 6, gpus: 3, count: 2 }],
      checkLimitMs: 10_000,
    });
    expect(result.solved[0]!.runs.map(({ placement }) => placement.status)).toEqual(['optimal', 'optimal']);
    expect(result.compared.rivals.map(({ name }) => name)).toEqual([
      'vram_based',
      'latency_optimized',
      'isolation_first',
      'balanced',
      'binpack',
      'spread',
    ]);
    expect(result.checked[0]!.runs.map(({ agrees, isProven }) => ({ agrees, isProven }))).toEqual([
      { agrees: true, isProven: true },
      { agrees: true, isProven: true },
    ]);
    const text = describePlacement(result);
    expect(text).toContain('optimal is never worse.');
    expect(text).toContain('6 × 3, 70 %, rules');
  });

  test('the same seed gives the same fleet', () => {
    const shape = { seed: 7, gpus: 3, services: 6, fill: 0.7, hasRules: true };
    expect(generatedFleet(shape)).toEqual(generatedFleet(shape));
  });
});
