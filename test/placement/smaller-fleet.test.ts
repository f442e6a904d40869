import { describe, expect, it } from 'vitest';
import { generatedFleet } from '../../benchmarks/placement-fleets.js';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { joined, narrowed, partsOf, placedIn } from '../../src/placement/exact/smaller-fleet.js';
import { fleetOf } from '../../src/placement/fleet.js';
import { place } from '../../src/placement/place.js';
import { rules } from '../../src/placement/strategies/strategies.js';
import { leastByEnumeration } from './enumerated.js';
import { gpu, request, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

/** A GPU of Intel that is asked for too much, and others with room, where half of the services may go anywhere. */
function overfullFleet(seed: number) {
  const next = ((state) => () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  })(seed * 7919 + 17);
  const between = (from: number, to: number): number => from + Math.floor(next() * (to - from));
  const gpus = [
    gpu({ index: 0, name: 'Arc A770', vendor: 'intel', memoryMb: 10_000, speed: 0.5, usedMb: between(0, 300) }),
    gpu({ index: 1, memoryMb: 9_000, speed: 1 }),
    gpu({ index: 2, memoryMb: between(4_000, 9_000), speed: 1 }),
    ...(seed % 3 === 0 ? [gpu({ index: 3, name: 'MI210', vendor: 'amd' as const, memoryMb: 3_000, speed: 1.6 })] : []),
  ];
  const services = Array.from({ length: 6 }, (_, i) => {
    const memoryMb = i < 3 ? between(3_200, 6_000) : between(500, 3_500);
    return service(`s${i}`, memoryMb, {
      frameworks: i < 3 ? ['openvino'] : next() < 0.3 ? ['rocm', 'cuda'] : ['cuda', 'openvino'],
      critical: next() < 0.4,
      cpuAllowed: next() < 0.1,
      ...(next() < 0.4 ? { minMemoryMb: Math.floor(memoryMb * 0.8) } : {}),
    });
  });
  return request(gpus, services, { strategy: 'optimal' });
}

const speedOf = ({ speed }: { readonly speed: number | null }): number => speed!;

describe('a fleet in which some GPUs are asked for more than they have', () => {
  it('is placed as the best of all placements, whoever could have gone there too', () => {
    const wrong = Array.from({ length: 150 }, (_, seed) => seed).flatMap((seed) => {
      const asked = overfullFleet(seed);
      const { objective, status } = place(asked, { catalogue });
      const least = leastByEnumeration(asked, speedOf);
      const found = [objective.overcommitMb, objective.shrunkMb, objective.criticalSlowness.toFixed(6)];
      const expected = [least.overMb, least.shrunkMb, least.slowness.toFixed(6)];
      const isRight = status === 'optimal' && found.join() === expected.join();
      const isFull = Math.round(objective.maxRelativeUse * 1000) === least.thousandths;
      return isRight && isFull ? [] : [{ seed, found, expected, status }];
    });
    expect(wrong).toEqual([]);
  });

  it('is proven in a few steps, where the search over all of it ends in none of a hundred thousand', () => {
    const asked = generatedFleet({ seed: 7, gpus: 8, services: 30, fill: 0.7 });
    const { status, objective, nodes } = place({ ...asked, strategy: 'optimal' }, { catalogue, nodeLimit: 5_000 });
    expect(status).toBe('optimal');
    expect(objective.overcommitMb).toBeGreaterThan(0);
    expect(nodes).toBeLessThan(5_000);
  });

  it('is proven part by part: what cannot be mended on one vendor does not hide the rest', () => {
    const intel = Array.from({ length: 12 }, (_, i) =>
      service(`intel-${i}`, 3_000 + 37 * i, { frameworks: ['openvino'], critical: i % 4 === 0 }),
    );
    const others = Array.from({ length: 12 }, (_, i) =>
      service(`any-${i}`, 2_000 + 91 * i, { frameworks: ['cuda', 'openvino'], critical: i % 3 === 0 }),
    );
    const gpus = [
      gpu({ index: 0, name: 'Arc A770', vendor: 'intel', memoryMb: 16_288 }),
      ...[1, 2, 3, 4].map((index) => gpu({ index })),
    ];
    const whole = place(request(gpus, [...intel, ...others], { strategy: 'optimal' }), {
      catalogue,
      nodeLimit: 20_000,
    });
    const alone = place(request(gpus.slice(1), others, { strategy: 'optimal' }), { catalogue, nodeLimit: 20_000 });
    expect([whole.status, alone.status]).toEqual(['optimal', 'optimal']);
    const intelOnOne = (3 * 12) / 0.56;
    expect(whole.objective.criticalSlowness).toBeCloseTo(alone.objective.criticalSlowness + intelOnOne, 4);
  });
});

describe('a fleet', () => {
  const fleets = Array.from({ length: 60 }, (_, seed) =>
    fleetOf(
      generatedFleet({ seed, gpus: 2 + (seed % 6), services: 3 + (seed % 17), fill: 0.9, hasRules: seed % 2 === 0 }),
      catalogue,
    ),
  );
  /** Everybody keeps to the GPUs of one vendor: that of the first GPU that may take it. */
  const divided = fleets.map((fleet) =>
    narrowed(fleet, ({ options }, at) => fleet.gpus[at]!.gpu.vendor === fleet.gpus[options[0]!]!.gpu.vendor),
  );

  it('that is divided and joined again is placed as it was', () => {
    expect(divided.some((fleet) => partsOf(fleet).length > 1)).toBe(true);
    for (const fleet of divided) {
      const whole = rules.vram_based(fleet);
      const parts = partsOf(fleet);
      const again = joined(
        fleet,
        parts.map((part) => [part, placedIn(part, whole)] as const),
      );
      expect(fleet.services.map((each) => again.placeOf(each))).toEqual(
        fleet.services.map((each) => whole.placeOf(each)),
      );
      expect(again.score()).toEqual(whole.score());
    }
  });

  it('has each GPU and each service in one part, and nobody may go from one to another', () => {
    for (const fleet of divided) {
      const parts = partsOf(fleet);
      expect(parts.flatMap(({ gpus }) => gpus).sort((a, b) => a - b)).toEqual(fleet.gpus.map(({ at }) => at));
      expect(parts.flatMap(({ services }) => services).sort((a, b) => a - b)).toEqual(
        fleet.services.map(({ at }) => at),
      );
      for (const { gpus, services } of parts) {
        for (const at of services) expect(gpus).toEqual(expect.arrayContaining([...fleet.services[at]!.options]));
      }
    }
  });
});
