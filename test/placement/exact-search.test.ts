import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { AssignmentBound } from '../../src/placement/exact/assignment-bound.js';
import { Bounds } from '../../src/placement/exact/bounds.js';
import { Search } from '../../src/placement/exact/search.js';
import { searchOrderOf } from '../../src/placement/exact/search-order.js';
import { fleetOf } from '../../src/placement/fleet.js';
import { isRefused, Occupancy } from '../../src/placement/occupancy.js';
import { gpu, request, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

describe('the exact search', () => {
  it('finds places for two services that are alike, though the second goes to a GPU before that of the first', () => {
    const gpus = [gpu({ index: 0, memoryMb: 10_000 }), gpu({ index: 1, memoryMb: 12_000 })];
    const services = ['a', 'b'].map((name) => service(name, 6_000));
    const fleet = fleetOf(request(gpus, services), catalogue);
    const refusing = new Occupancy(fleet);
    for (const each of fleet.services) refusing.settle(each, isRefused);
    const order = searchOrderOf(fleet, fleet.services, 'refusals');
    const limits = { shouldStop: () => false, nodeLimit: 1_000 };
    const search = new Search(refusing, limits);
    const known = { refused: 0, overMb: null, shrunkMb: null, slowness: null, expectedSlowness: 0, expectedUse: 0 };
    expect(search.prove(1, known, { start: new Occupancy(fleet), order, bounds: new Bounds(fleet, order, [0]) })).toBe(
      true,
    );
    expect(search.best.score().refused).toEqual([0]);
  });
});

describe('the bound by prices', () => {
  it('never says more than the CPU costs of a critical service that may use it, however slow the GPUs are', () => {
    const gpus = [gpu({ index: 0, memoryMb: 10_000, speed: 0.001 })];
    const services = [service('a', 1_000, { critical: true, cpuAllowed: true })];
    const fleet = fleetOf(request(gpus, services), catalogue);
    const order = searchOrderOf(fleet, fleet.services, 'objective');
    const bound = new AssignmentBound(fleet, order).more(new Occupancy(fleet), 0, {
      wallsMb: Float64Array.of(10_000),
      isAsked: true,
      toRefuse: 0,
      target: 1_000,
      steps: 20,
      shouldStop: () => false,
      mayGiveUp: false,
    });
    expect(bound).toBe(100);
  });
});
