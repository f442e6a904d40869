import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { firstDifference } from '../../benchmarks/placement-peers.js';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { checkPlacementRequest, type PlacementRequestInput, strategyNames } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';
import { brokenRules } from './hardware-rules.js';
import { type GpuInput, gpu, request, type ServiceInput, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

const a100 = (overrides: Partial<GpuInput> = {}) =>
  gpu({ name: 'A100-80GB', memoryMb: 81920, sharing: 'mig', ...overrides });

function placed(gpus: readonly GpuInput[], services: readonly ServiceInput[]) {
  const { assignments, warnings, refusals } = place(request(gpus, services), { catalogue });
  return { assignments, warnings: warnings.map(({ code, message }) => `${code}: ${message}`), refusals };
}

describe('a GPU that MIG may cut anew', () => {
  it('is cut into the smallest instances that hold its services', () => {
    expect(placed([a100()], [service('a', 30000), service('b', 9000), service('c', 8000)])).toEqual({
      assignments: [
        {
          service: 'a',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 30000,
          sharing: 'mig',
          share: 0.4285,
          mig: { profile: '3g.40gb', uuid: null },
        },
        {
          service: 'b',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 9000,
          sharing: 'mig',
          share: 0.1428,
          mig: { profile: '1g.10gb', uuid: null },
        },
        {
          service: 'c',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 8000,
          sharing: 'mig',
          share: 0.1428,
          mig: { profile: '1g.10gb', uuid: null },
        },
      ],
      warnings: [],
      refusals: [],
    });
  });

  it('shrinks what is shrinkable until the instances fit, and refuses what still finds none', () => {
    // Two of 3g.40gb: b has all of its instance, 39.25 GiB. No two hold c and another.
    const services = [service('a', 40000), service('b', 50000, { minMemoryMb: 20000 }), service('c', 50000)];
    const { assignments, warnings, refusals } = placed([a100()], services);
    expect(assignments.map(({ service, memoryBudgetMb, mig }) => [service, memoryBudgetMb, mig?.profile])).toEqual([
      ['a', 40000, '3g.40gb'],
      ['b', 40192, '3g.40gb'],
    ]);
    expect(warnings).toEqual([
      'budget_adjusted: b budget (48.8 GB) exceeds the MIG instance that it can have on GPU 0 (3g.40gb). Auto-adjusted to 39.3 GB.',
    ]);
    expect(refusals.map(({ service, reason }) => [service, reason])).toEqual([['c', 'sharing']]);
  });
});

describe('a GPU that is cut into MIG instances', () => {
  const cut = a100({
    migInstances: [
      { profile: '3g.40gb', uuid: 'MIG-1' },
      { profile: '1g.10gb', uuid: 'MIG-2' },
    ],
  });

  it('gives each service an instance with its UUID, and shrinks one into what is left', () => {
    expect(placed([cut], [service('a', 30000), service('b', 20000, { minMemoryMb: 8000 })])).toEqual({
      assignments: [
        {
          service: 'a',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 30000,
          sharing: 'mig',
          share: 0.4285,
          mig: { profile: '3g.40gb', uuid: 'MIG-1' },
        },
        {
          service: 'b',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 9728,
          sharing: 'mig',
          share: 0.1428,
          mig: { profile: '1g.10gb', uuid: 'MIG-2' },
        },
      ],
      warnings: [
        'budget_adjusted: b budget (19.5 GB) exceeds the MIG instance that it can have on GPU 0 (1g.10gb). Auto-adjusted to 9.5 GB.',
      ],
      refusals: [],
    });
  });

  it('gives a shrunk service the largest instance that is left, not the smallest that it can live with', () => {
    const instances = ['1g.10gb', '1g.10gb', '2g.20gb'].map((profile, i) => ({ profile, uuid: `MIG-${i}` }));
    const services = [service('a', 8920), service('b', 20961, { minMemoryMb: 5657 })];
    const { assignments } = placed([a100({ migInstances: instances })], services);
    expect(assignments.map(({ service, memoryBudgetMb, mig }) => [service, memoryBudgetMb, mig?.uuid])).toEqual([
      ['a', 8920, 'MIG-0'],
      ['b', 19968, 'MIG-2'],
    ]);
  });

  it('never gives an instance twice, whatever the strategy, and never lets a service exceed it', () => {
    const services = [7000, 9000, 12000, 30000, 38000].map((memoryMb, i) => service(`s${i}`, memoryMb));
    const gpus = [
      cut,
      { ...cut, index: 1, migInstances: cut.migInstances!.map((each, i) => ({ ...each, uuid: `MIG-${i + 3}` })) },
    ];
    for (const strategy of strategyNames) {
      const { assignments } = place(request(gpus, services, { strategy }), { catalogue });
      const uuids = assignments.map(({ mig }) => mig?.uuid);
      expect(new Set(uuids).size).toBe(uuids.length);
      for (const { mig, memoryBudgetMb } of assignments) {
        // 39.25 and 9.5 GiB.
        expect(memoryBudgetMb).toBeLessThanOrEqual(mig?.profile === '3g.40gb' ? 40192 : 9728);
      }
      expect(assignments).toHaveLength(strategy === 'manual' ? 0 : 4);
    }
  });
});

describe('any GPUs that MIG cuts or has cut, with any services', () => {
  const profiles = ['1g.10gb', '2g.20gb', '3g.40gb', '4g.40gb', '7g.80gb'];
  const cuts = fc.option(fc.array(fc.constantFrom(...profiles), { maxLength: 4 }), { nil: null });
  const sizes = fc.record({
    memoryMb: fc.integer({ min: 0, max: 60_000 }),
    spareMb: fc.integer({ min: 0, max: 30_000 }),
  });

  it('keep to the instances and the minima with every strategy, and optimal is never worse than a rule', () => {
    fc.assert(
      fc.property(
        fc.array(cuts, { minLength: 1, maxLength: 2 }),
        fc.array(sizes, { maxLength: 6 }),
        fc.constantFrom('warn' as const, 'refuse' as const),
        (instances, wanted, overcommit) => {
          const gpus = instances.map((each, index) =>
            a100({
              index,
              migInstances: each?.map((profile, i) => ({ profile, uuid: `MIG-${index}-${i}` })) ?? null,
            }),
          );
          const services = wanted.map(({ memoryMb, spareMb }, i) =>
            service(`s${i}`, memoryMb, { minMemoryMb: Math.max(0, memoryMb - spareMb) }),
          );
          const asked = request(gpus, services, { overcommit });
          const placements = strategyNames.map((strategy) =>
            place({ ...asked, strategy }, { catalogue, nodeLimit: 2_000 }),
          );
          for (const placement of placements) {
            expect(brokenRules(asked, placement)).toEqual([]);
            for (const { mig, memoryBudgetMb } of placement.assignments) {
              // The name promises no more than this, whichever part it is.
              expect(memoryBudgetMb).toBeLessThanOrEqual(Number(/\.(\d+)gb/.exec(mig!.profile)![1]) * 1024);
            }
          }
          const [optimal, ...others] = [...placements].reverse();
          for (const other of others) {
            const difference = firstDifference(optimal!.objective, other.objective);
            expect(difference === null || difference.difference > 0).toBe(true);
          }
        },
      ),
      { numRuns: 150, seed: 7 },
    );
  });
});

describe('a sharing mode that the GPU does not have', () => {
  it('leaves it to one service, with a warning and a refusal that say why', () => {
    const p40 = gpu({ name: 'P40', memoryMb: 24576, sharing: 'mps' });
    expect(placed([p40], [service('a', 6000), service('b', 500)])).toEqual({
      assignments: [{ service: 'a', node: 'box', gpuIndex: 0, memoryBudgetMb: 6000, sharing: 'exclusive', share: 1 }],
      warnings: [
        'sharing_not_supported: GPU 0 is set to mps, which does not work there: it takes one service. P40 (Pascal): before Volta all MPS clients share one address space, and the device plugin does not offer it.',
      ],
      refusals: [
        {
          service: 'b',
          reason: 'sharing',
          message:
            'no GPU takes b: GPU 0 takes one service, since mps does not work there, and has a; what would work: a GPU that is shared, or another sharing of GPU 0, or cpuAllowed: true',
        },
      ],
    });
  });
});

describe('shares of a GPU', () => {
  const sharesOf = (gpus: readonly GpuInput[], services: readonly ServiceInput[]) =>
    placed(gpus, services).assignments.map(({ service, sharing, share }) => [service, sharing, share]);

  it('are by memory limits where all services keep their own, else by time-slicing, unless the GPU is set', () => {
    const both = [service('llm', 12282, { kind: 'llm' }), service('rank', 6141, { kind: 'reranker' })];
    expect(sharesOf([gpu()], both)).toEqual([
      ['llm', 'memory-limit', 0.5],
      ['rank', 'memory-limit', 0.25],
    ]);
    expect(sharesOf([gpu()], [both[0]!, service('vision', 6141)])).toEqual([
      ['llm', 'time-slicing', 0.5],
      ['vision', 'time-slicing', 0.25],
    ]);
    expect(sharesOf([gpu({ sharing: 'mps' })], both)).toEqual([
      ['llm', 'mps', 0.5],
      ['rank', 'mps', 0.25],
    ]);
  });

  it('are what services ask for; the others have the rest by their memory', () => {
    const services = [service('asks', 2000, { computeShare: 0.5 }), service('large', 3000), service('small', 1000)];
    expect(sharesOf([gpu()], services)).toEqual([
      ['asks', 'time-slicing', 0.5],
      ['large', 'time-slicing', 0.375],
      ['small', 'time-slicing', 0.125],
    ]);
  });
});

describe('the CPU', () => {
  it('takes what is built for it, and what may run there and fits on no GPU as it is', () => {
    const services = [
      service('db', 3000, { frameworks: ['cpu'] }),
      service('llm', 23000),
      service('embed', 4000, { cpuAllowed: true }),
      service('clip', 1000, { cpuAllowed: true }),
    ];
    expect(placed([gpu()], services)).toEqual({
      assignments: [
        { service: 'db', node: 'box', gpuIndex: null, memoryBudgetMb: 3000, sharing: 'cpu', share: 0 },
        { service: 'llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 23000, sharing: 'time-slicing', share: 0.9363 },
        { service: 'embed', node: 'box', gpuIndex: null, memoryBudgetMb: 4000, sharing: 'cpu', share: 0 },
        { service: 'clip', node: 'box', gpuIndex: 0, memoryBudgetMb: 1000, sharing: 'time-slicing', share: 0.0407 },
      ],
      warnings: [],
      refusals: [],
    });
  });

  it('is that of no node where there are several, and is said where a critical service is on it', () => {
    const services = [service('db', 3000, { frameworks: ['cpu'], critical: true })];
    expect(placed([gpu(), gpu({ node: 'lab' })], services)).toEqual({
      assignments: [{ service: 'db', node: null, gpuIndex: null, memoryBudgetMb: 3000, sharing: 'cpu', share: 0 }],
      warnings: ['critical_on_cpu: db is critical and runs on the CPU, where it is far slower than on any GPU'],
      refusals: [],
    });
  });

  it('counts 100 for each critical service', () => {
    const services = [service('a', 1, { critical: true, frameworks: ['cpu'] })];
    expect(place(request([gpu()], services), { catalogue }).objective.criticalSlowness).toBe(100);
  });

  it('is all there is in an empty fleet, where everything else still works', () => {
    const services = [service('db', 3000, { cpuAllowed: true }), service('llm', 9000)];
    expect(place(request([], services, { strategy: 'optimal' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'optimal',
      status: 'optimal',
      overcommit: 'warn',
      assignments: [{ service: 'db', node: null, gpuIndex: null, memoryBudgetMb: 3000, sharing: 'cpu', share: 0 }],
      gpus: [],
      warnings: [{ code: 'no_gpus', message: 'No GPUs detected: services that need one are refused' }],
      refusals: [
        {
          service: 'llm',
          reason: 'vendor',
          message: 'No GPUs detected, and llm runs on NVIDIA GPUs; what would work: one of those, or cpuAllowed: true',
        },
      ],
      objective: {
        refusedByPriority: [{ priority: 0, count: 1 }],
        overcommitMb: 0,
        shrunkMb: 0,
        criticalSlowness: 0,
        maxRelativeUse: 0,
      },
      bound: {
        refusedByPriority: [{ priority: 0, count: 1 }],
        overcommitMb: 0,
        shrunkMb: 0,
        criticalSlowness: 0,
        maxRelativeUse: 0,
      },
      nodes: 0,
    });
  });
});

describe('the speed of a GPU', () => {
  it('that nobody knows is said where a critical service is on it', () => {
    const gpus = [gpu({ name: '' }), gpu({ index: 1, name: 'Foo 9000' })];
    const services = [service('a', 6000, { critical: true }), service('b', 7000, { critical: true })];
    expect(placed(gpus, services).warnings).toEqual([
      'speed_unknown: GPU 0 has no name: its speed is taken as 0.1. Set its speed.',
      'speed_unknown: GPU 1 (Foo 9000) is not in the catalogue with its memory bandwidth: its speed is taken as 0.1. Set its speed.',
    ]);
    expect(placed([gpu({ name: '', speed: 2 })], services).warnings).toEqual([]);
  });
});

describe('what a request says of its hardware', () => {
  const warningsOf = (gpu: Partial<PlacementRequestInput['gpus'][number]>): readonly string[] => {
    const gpus = [
      { index: 0, node: 'box', name: 'A100-80GB', vendor: 'nvidia' as const, memoryMb: 81920, ...gpu },
      { index: 1, node: 'box', name: 'RTX A400', vendor: 'nvidia' as const, memoryMb: 4094 },
    ];
    const services = [{ name: 'a', memoryMb: 1000, critical: true, frameworks: ['cuda' as const] }];
    const document = { apiVersion: 'gpumix/v1' as const, kind: 'PlacementRequest' as const, gpus, services };
    return place(checkPlacementRequest(document, 'test'), { catalogue }).warnings.map(({ message }) => message);
  };

  it('is doubted where its MIG instances cannot be there at once', () => {
    const three = ['3g.40gb', '3g.40gb', '3g.40gb'].map((profile) => ({ profile }));
    expect(warningsOf({ sharing: 'mig', migInstances: three })).toEqual([
      'GPU 0 cannot be cut into 3g.40gb, 3g.40gb and 3g.40gb at once: check migInstances against nvidia-smi -L',
    ]);
    expect(warningsOf({ sharing: 'mig', migInstances: three.slice(1) })).toEqual([]);
  });

  it('is doubted where some speeds are its own and some the catalogue’s', () => {
    expect(warningsOf({ speed: 1 })).toEqual([
      "speed is set for GPU 0, and that of GPU 1 is the catalogue's (memory bandwidth in TB/s): set it for all of them, or for none",
    ]);
    expect(warningsOf({})).toEqual([]);
  });
});
