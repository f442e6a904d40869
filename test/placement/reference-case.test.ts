import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import type { PlacementRequest, PlacementRequestInput } from '../../src/core/placement-request.js';
import { checkPlacementRequest } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';
import { recommend } from '../../src/placement/recommend.js';

const catalogue = await loadGpuCatalogue();

/**
 * A workstation with a 24 GB and a 4 GB card, and five services that ask for 31.8 GB: more than GPU 0 holds, and than both do.
 *
 * 21.7, 0.65, 1.5, 1.2 and 6.8 GB are 22,221, 666, 1,536, 1,229 and 6,963 MiB: 32,615 in all, and both cards have 28,658.
 * The cards' speeds are those of the catalogue: 0.768 and 0.096 TB/s.
 */
function workstation(
  overrides: Partial<PlacementRequestInput> = {},
  pins: Readonly<Record<string, number>> = {},
): PlacementRequest {
  const services: PlacementRequestInput['services'] = [
    {
      name: 'ai-llm',
      model: 'Nemotron-3-Nano-30B Q4_K_M',
      memoryMb: 22221,
      kind: 'llm',
      critical: true,
      priority: 10,
      frameworks: ['cuda'],
    },
    { name: 'ai-yolo26', memoryMb: 666, kind: 'vision', critical: true, frameworks: ['cuda'] },
    { name: 'ai-florence', memoryMb: 1536, kind: 'vision', frameworks: ['cuda'] },
    { name: 'ai-clip', memoryMb: 1229, kind: 'embedding', frameworks: ['cuda'] },
    { name: 'ai-enrichment', memoryMb: 6963, minMemoryMb: 2048, frameworks: ['cuda'] },
  ];
  return checkPlacementRequest(
    {
      apiVersion: 'gpumix/v1',
      kind: 'PlacementRequest',
      gpus: [
        { index: 0, node: 'box', name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24564 },
        { index: 1, node: 'box', name: 'RTX A400', vendor: 'nvidia', memoryMb: 4094 },
      ],
      services: services.map((service) => {
        const index = pins[service.name];
        return index === undefined ? service : { ...service, gpu: { node: 'box', index } };
      }),
      ...overrides,
    },
    'workstation.json',
  );
}

describe('the workstation with a 24 GB and a 4 GB card', () => {
  it('vram_based: the LLM, then the enrichment on the other card, then the rest where most is free', () => {
    // Enrichment: on GPU 0 it would keep 2,048, alone on GPU 1 ⌊(4,094 − 500) / 512⌋ · 512 = 3,584. Florence fits on GPU 0:
    // 22,221 + 1,536 = 23,757. CLIP would exceed it (807 left), so it shrinks enrichment to 2,048. YOLO fits on both, and
    // leaves 4,094 − 3,277 − 666 = 151 on GPU 1, 141 on GPU 0.
    // Slowness: 1 · 2 / 0.768 + 1 · 3 / 0.096 = 2.604167 + 31.25. Bound of what is shrunk: 32,615 − 28,658 = 3,957.
    expect(place(workstation({ strategy: 'vram_based' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'vram_based',
      status: 'feasible',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9046 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 1, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.1626 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.0625,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 1, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.3001 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 2048,
          sharing: 'time-slicing',
          share: 0.5002,
        },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 23757 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 3943 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
        },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 4915,
        criticalSlowness: 33.854167,
        maxRelativeUse: 0.968,
      },
      bound: { refusedByPriority: [], overcommitMb: 0, shrunkMb: 3957, criticalSlowness: 0, maxRelativeUse: 0 },
      nodes: 0,
    });
  });

  it('latency_optimized: both critical services on the faster card, the others apart from them where they fit', () => {
    // Both take 22,887 of GPU 0. Enrichment keeps 3,584 on GPU 1; Florence finds 510 there and 1,677 on GPU 0, CLIP 141.
    // CLIP shrinks enrichment to ⌊(4,094 − 500 − 1,229) / 512⌋ · 512 = 2,048. Slowness: 2 · 3 / 0.768.
    expect(place(workstation({ strategy: 'latency_optimized' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'latency_optimized',
      status: 'feasible',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9046 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 0, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.0271 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.0625,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 1, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.3001 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 2048,
          sharing: 'time-slicing',
          share: 0.5002,
        },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 24423 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 3277 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
        },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 4915,
        criticalSlowness: 7.8125,
        maxRelativeUse: 0.995,
      },
      bound: { refusedByPriority: [], overcommitMb: 0, shrunkMb: 3957, criticalSlowness: 0, maxRelativeUse: 0 },
      nodes: 0,
    });
  });

  it('isolation_first: the LLM alone on the larger card, the four others share 4 GB and exceed it', () => {
    // 666 + 1,536 + 1,229 + 2,048 = 5,479, which is 1,385 beyond 4,094. Slowness: 1 / 0.768 + 4 / 0.096.
    expect(place(workstation({ strategy: 'isolation_first' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'isolation_first',
      status: 'feasible',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'exclusive', share: 1 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 1, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.1215 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.2803,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 1, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.2243 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 2048,
          sharing: 'time-slicing',
          share: 0.3737,
        },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 22221 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 5479 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
        },
        { code: 'combined_memory_exceeds_gpu', message: 'Combined VRAM (~5.4 GB) exceeds GPU 1 capacity (4 GB)' },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 1385,
        shrunkMb: 4915,
        criticalSlowness: 42.96875,
        maxRelativeUse: 1.339,
      },
      bound: { refusedByPriority: [], overcommitMb: 0, shrunkMb: 0, criticalSlowness: 0, maxRelativeUse: 0 },
      nodes: 0,
    });
  });

  it('balanced: as vram_based, where 96.8 and 96.4 % are in use', () => {
    // 23,757 / 24,564 = 0.96715 and 3,943 / 4,094 = 0.96312.
    expect(place(workstation({ strategy: 'balanced' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'balanced',
      status: 'feasible',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9046 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 1, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.1626 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.0625,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 1, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.3001 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 2048,
          sharing: 'time-slicing',
          share: 0.5002,
        },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 23757 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 3943 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
        },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 4915,
        criticalSlowness: 33.854167,
        maxRelativeUse: 0.968,
      },
      bound: { refusedByPriority: [], overcommitMb: 0, shrunkMb: 3957, criticalSlowness: 0, maxRelativeUse: 0 },
      nodes: 0,
    });
  });

  it('optimal: as fast as latency_optimized, with less of GPU 0 in use, and proven', () => {
    // Florence changes place with CLIP: 22,221 + 666 + 1,229 = 24,116 of 24,564 is 0.98176, rounded up to 0.982.
    // Enrichment beside Florence keeps max(2,048, ⌊(4,094 − 500 − 1,536) / 512⌋ · 512 = 2,048).
    expect(place(workstation({ strategy: 'optimal' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'optimal',
      status: 'optimal',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9046 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 0, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.0271 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.3751,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 0, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.05 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 2048,
          sharing: 'time-slicing',
          share: 0.5002,
        },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 24116 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 3584 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
        },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 4915,
        criticalSlowness: 7.8125,
        maxRelativeUse: 0.982,
      },
      bound: {
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 4915,
        criticalSlowness: 7.8125,
        maxRelativeUse: 0.982,
      },
      // Of the search, which says nothing of the placement.
      nodes: expect.any(Number),
    });
  });

  it('manual without pins places nothing, and says of each service how to pin it', () => {
    expect(place(workstation({ strategy: 'manual' }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'manual',
      status: 'feasible',
      overcommit: 'warn',
      assignments: [],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 0 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 0 },
      ],
      warnings: [],
      refusals: [
        {
          service: 'ai-llm',
          reason: 'pinned',
          message:
            'ai-llm is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 0 }, or another strategy',
        },
        {
          service: 'ai-yolo26',
          reason: 'pinned',
          message:
            'ai-yolo26 is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 0 }, or another strategy',
        },
        {
          service: 'ai-florence',
          reason: 'pinned',
          message:
            'ai-florence is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 0 }, or another strategy',
        },
        {
          service: 'ai-clip',
          reason: 'pinned',
          message:
            'ai-clip is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 0 }, or another strategy',
        },
        {
          service: 'ai-enrichment',
          reason: 'pinned',
          message:
            'ai-enrichment is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 0 }, or another strategy',
        },
      ],
      objective: {
        refusedByPriority: [
          { priority: 10, count: 1 },
          { priority: 0, count: 4 },
        ],
        overcommitMb: 0,
        shrunkMb: 0,
        criticalSlowness: 0,
        maxRelativeUse: 0,
      },
      bound: { refusedByPriority: [], overcommitMb: 0, shrunkMb: 0, criticalSlowness: 0, maxRelativeUse: 0 },
      nodes: 0,
    });
  });

  it('manual with all but one pinned keeps the pins, and would pin the last where nothing is exceeded', () => {
    // Alone on GPU 1, enrichment keeps ⌊(4,094 − 500) / 512⌋ · 512 = 3,584. CLIP beside it shrinks it to 2,048, while on
    // GPU 0, where 141 are free, it would exceed.
    const pins = { 'ai-llm': 0, 'ai-yolo26': 0, 'ai-florence': 0, 'ai-enrichment': 1 };
    expect(place(workstation({ strategy: 'manual' }, pins), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'manual',
      status: 'feasible',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9046 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 0, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.0271 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.0625,
        },
        { service: 'ai-enrichment', node: 'box', gpuIndex: 1, memoryBudgetMb: 3584, sharing: 'exclusive', share: 1 },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 24423 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 3584 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 3.5 GB.',
        },
      ],
      refusals: [
        {
          service: 'ai-clip',
          reason: 'pinned',
          message:
            'ai-clip is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 1 }, or another strategy',
        },
      ],
      objective: {
        refusedByPriority: [{ priority: 0, count: 1 }],
        overcommitMb: 0,
        shrunkMb: 3379,
        criticalSlowness: 7.8125,
        maxRelativeUse: 0.995,
      },
      bound: { refusedByPriority: [], overcommitMb: 0, shrunkMb: 0, criticalSlowness: 0, maxRelativeUse: 0 },
      nodes: 0,
    });
  });

  it('an LLM pinned to the small card is placed there all the same, with what it requires', () => {
    // 22,221 − 4,094 = 18,127 beyond; 22,221 / 4,094 = 5.42770. Slowness: 1 / 0.096 + 1 · 4 / 0.768.
    expect(place(workstation({ strategy: 'optimal' }, { 'ai-llm': 1 }), { catalogue })).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'optimal',
      status: 'optimal',
      overcommit: 'warn',
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 1, memoryBudgetMb: 22221, sharing: 'exclusive', share: 1 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 0, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.0271 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.0625,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 0, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.05 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 6963,
          sharing: 'time-slicing',
          share: 0.2834,
        },
      ],
      gpus: [
        { node: 'box', index: 0, memoryMb: 24564, usedMb: 0, assignedMb: 10394 },
        { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 22221 },
      ],
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-llm',
          message: 'ai-llm (Nemotron-3-Nano-30B Q4_K_M) requires ~21.7 GB, GPU 1 only has 4 GB',
        },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 18127,
        shrunkMb: 0,
        criticalSlowness: 15.625,
        maxRelativeUse: 5.428,
      },
      bound: {
        refusedByPriority: [],
        overcommitMb: 18127,
        shrunkMb: 0,
        criticalSlowness: 15.625,
        maxRelativeUse: 5.428,
      },
      // Of the search, which says nothing of the placement.
      nodes: expect.any(Number),
    });
  });

  it('recommends optimal, since no rule gets as far, and says what the best of them misses', () => {
    const { strategy, reason, placements } = recommend(workstation(), { catalogue });
    expect({ strategy, reason }).toEqual({
      strategy: 'optimal',
      reason: 'latency_optimized, the best of the rules, fills a GPU to 99.5 % instead of 98.2 %',
    });
    expect(placements.map((each) => [each.strategy, each.objective.criticalSlowness])).toEqual([
      ['manual', 0],
      ['vram_based', 33.854167],
      ['latency_optimized', 7.8125],
      ['isolation_first', 42.96875],
      ['balanced', 33.854167],
      ['optimal', 7.8125],
    ]);
  });

  it('under refuse nothing is exceeded: isolation_first lets those who would have no GPU at all onto that of the LLM', () => {
    // Enrichment (2,048 at least) and Florence fill GPU 1 to 3,584: 510 are left for CLIP (1,229) and YOLO (666).
    const { assignments, refusals, objective, warnings } = place(
      workstation({ strategy: 'isolation_first', overcommit: 'refuse' }),
      { catalogue },
    );
    expect({ assignments, refusals, objective, warnings }).toEqual({
      assignments: [
        { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9046 },
        { service: 'ai-yolo26', node: 'box', gpuIndex: 0, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.0271 },
        {
          service: 'ai-florence',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 1536,
          sharing: 'time-slicing',
          share: 0.3751,
        },
        { service: 'ai-clip', node: 'box', gpuIndex: 0, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.05 },
        {
          service: 'ai-enrichment',
          node: 'box',
          gpuIndex: 1,
          memoryBudgetMb: 2048,
          sharing: 'time-slicing',
          share: 0.5002,
        },
      ],
      refusals: [],
      objective: {
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 4915,
        criticalSlowness: 7.8125,
        maxRelativeUse: 0.982,
      },
      warnings: [
        {
          code: 'memory_exceeds_gpu',
          service: 'ai-enrichment',
          message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
        },
      ],
    });
  });
});

describe('messages of memory', () => {
  const messagesOf = (request: PlacementRequest) =>
    place(request, { catalogue }).warnings.map(({ message }) => message);

  it('a shrunk service that is larger than its GPU', () => {
    expect(messagesOf(workstation({ strategy: 'manual' }, { 'ai-enrichment': 1 }))).toEqual([
      'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 3.5 GB.',
    ]);
  });

  it('several services that exceed their GPU together', () => {
    // 22,221 + 1,331 = 23,552 = 23 GiB.
    const services = workstation({}, { 'ai-llm': 1, 'ai-clip': 1 }).services.map((service) =>
      service.name === 'ai-clip' ? { ...service, memoryMb: 1331, minMemoryMb: 1331 } : service,
    );
    expect(messagesOf({ ...workstation({ strategy: 'manual' }), services })).toEqual([
      'ai-llm (Nemotron-3-Nano-30B Q4_K_M) requires ~21.7 GB, GPU 1 only has 4 GB',
      'Combined VRAM (~23 GB) exceeds GPU 1 capacity (4 GB)',
    ]);
  });

  it('a service that is larger than its GPU and cannot shrink', () => {
    const request = workstation({
      strategy: 'manual',
      services: [{ name: 'Nemotron-30B', memoryMb: 22221, frameworks: ['cuda'], gpu: { node: 'box', index: 1 } }],
    });
    expect(messagesOf(request)).toEqual(['Nemotron-30B requires ~21.7 GB, GPU 1 only has 4 GB']);
  });
});
