import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import type { PlacementRequest } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';
import { gpu, request, type ServiceInput, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

/** Budgets of services on one GPU of 24,564 MiB, with what is shrunk and exceeded. */
function budgets(services: readonly ServiceInput[], usedMb = 0, overrides: Parameters<typeof request>[2] = {}) {
  return budgetsOf(request([gpu({ usedMb })], services, overrides));
}

function budgetsOf(asked: PlacementRequest) {
  const { assignments, objective } = place(asked, { catalogue });
  return {
    ...Object.fromEntries(assignments.map(({ service, memoryBudgetMb }) => [service, memoryBudgetMb])),
    shrunkMb: objective.shrunkMb,
    overcommitMb: objective.overcommitMb,
  };
}

describe('budgets', () => {
  it('are what services ask for where that fits exactly: nothing is kept free', () => {
    expect(budgets([service('a', 20000), service('b', 4564, { minMemoryMb: 0 })])).toEqual({
      a: 20000,
      b: 4564,
      shrunkMb: 0,
      overcommitMb: 0,
    });
  });

  it('keep 500 MiB free and are multiples of half a GiB as soon as one is adjusted', () => {
    // One MiB too much: ⌊(24,564 − 500 − 20,000) / 512⌋ · 512 = 7 · 512.
    expect(budgets([service('a', 20000), service('b', 4565, { minMemoryMb: 0 })])).toEqual({
      a: 20000,
      b: 3584,
      shrunkMb: 981,
      overcommitMb: 0,
    });
  });

  it('never go under a minimum, even into what is kept free', () => {
    // 24,564 − 500 − 20,000 = 4,064 would be 3,584.
    expect(budgets([service('a', 20000), service('b', 9000, { minMemoryMb: 4100 })])).toEqual({
      a: 20000,
      b: 4100,
      shrunkMb: 4900,
      overcommitMb: 0,
    });
  });

  it('exceed the GPU only after everything has shrunk to its minimum', () => {
    expect(
      budgets([
        service('a', 20000),
        service('b', 9000, { minMemoryMb: 3000 }),
        service('c', 3000, { minMemoryMb: 2000 }),
      ]),
    ).toEqual({ a: 20000, b: 3000, c: 2000, shrunkMb: 7000, overcommitMb: 436 });
  });

  it('give way from the lowest priority, and stop as soon as the rest fits', () => {
    // low: 24,564 − 500 − 20,000 = 4,064 are left for it, 7 steps; high keeps all.
    expect(
      budgets([
        service('high', 12000, { minMemoryMb: 2000, priority: 5 }),
        service('low', 8000, { minMemoryMb: 2000 }),
        service('fixed', 8000),
      ]),
    ).toEqual({ high: 12000, low: 3584, fixed: 8000, shrunkMb: 4416, overcommitMb: 0 });
  });

  it('of equal priority give way from the largest, then by name', () => {
    // small keeps 6,000: large may have 24,564 − 500 − 12,000 = 12,064, 23 steps.
    expect(
      budgets([
        service('small', 6000, { minMemoryMb: 1000 }),
        service('large', 14000, { minMemoryMb: 1000 }),
        service('fixed', 6000),
      ]),
    ).toEqual({ small: 6000, large: 11776, fixed: 6000, shrunkMb: 2224, overcommitMb: 0 });
    // a: 24,564 − 500 − 15,000 = 9,064, 17 steps.
    expect(budgets([service('b', 15000, { minMemoryMb: 1000 }), service('a', 15000, { minMemoryMb: 1000 })])).toEqual({
      b: 15000,
      a: 8704,
      shrunkMb: 6296,
      overcommitMb: 0,
    });
  });

  it('shrink several, each to its minimum before the next gives way', () => {
    // low to 2,000, then high to ⌊(24,564 − 500 − 14,000) / 512⌋ · 512 = 9,728.
    expect(
      budgets([
        service('high', 12000, { minMemoryMb: 2000, priority: 5 }),
        service('low', 8000, { minMemoryMb: 2000 }),
        service('fixed', 12000),
      ]),
    ).toEqual({ high: 9728, low: 2000, fixed: 12000, shrunkMb: 8272, overcommitMb: 0 });
  });

  it('leave alone what others use of the GPU', () => {
    // 24,564 − 1,024 = 23,540 less 500: 45 steps.
    expect(budgets([service('a', 30000, { minMemoryMb: 0 })], 1024)).toEqual({
      a: 23040,
      shrunkMb: 6960,
      overcommitMb: 0,
    });
  });

  it('count what others exceed by themselves, also under refuse, where nothing is placed on it', () => {
    expect(budgets([service('a', 1000)], 25000)).toEqual({ a: 1000, shrunkMb: 0, overcommitMb: 1436 });
    expect(budgets([service('a', 1000)], 25000, { overcommit: 'refuse' })).toEqual({ shrunkMb: 0, overcommitMb: 436 });
  });

  it('are said with what was asked, what others leave, and what it became', () => {
    const asked = request(
      [gpu({ usedMb: 1024 })],
      [service('a', 20000), service('b', 9000, { minMemoryMb: 1000 }), service('c', 1000)],
    );
    // 24,564 − 1,024 − 21,000 = 2,540 free beside a and c; less 500, 3 steps.
    expect(place(asked, { catalogue }).warnings).toEqual([
      {
        code: 'budget_adjusted',
        service: 'b',
        message: 'b budget (8.8 GB) exceeds what others leave of GPU 0 (2.5 GB of 24 GB). Auto-adjusted to 1.5 GB.',
      },
    ]);
  });

  it('name the node of a GPU where there are several nodes', () => {
    const asked = request(
      [gpu({ node: 'strix', memoryMb: 4096 }), gpu({ node: 'arc', vendor: 'intel', name: '' })],
      [service('a', 5000)],
    );
    expect(place(asked, { catalogue }).warnings.map(({ message }) => message)).toEqual([
      'a requires ~4.9 GB, GPU 0 of strix only has 4 GB',
    ]);
  });
});
