import { describe, expect, it } from 'vitest';
import { renderGpus, renderPlacement } from '../../src/cli/placement-table.js';
import type { Placement, PlacementAssignment } from '../../src/core/placement.js';
import {
  checkPlacementRequest,
  type PlacementRequest,
  type PlacementRequestInput,
} from '../../src/core/placement-request.js';

function request(over: Partial<PlacementRequestInput> = {}): PlacementRequest {
  return checkPlacementRequest({ ...reference, ...over }, 'test');
}

const reference: PlacementRequestInput = {
  apiVersion: 'gpumix/v1',
  kind: 'PlacementRequest',
  gpus: [
    { index: 0, node: 'box', name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24_564 },
    { index: 1, node: 'box', name: 'RTX A400', vendor: 'nvidia', memoryMb: 4094 },
  ],
  services: [
    { name: 'ai-llm', memoryMb: 22_221, kind: 'llm', critical: true, priority: 10, frameworks: ['cuda'] },
    { name: 'ai-yolo26', memoryMb: 666, kind: 'vision', critical: true, frameworks: ['cuda'] },
    { name: 'ai-florence', memoryMb: 1536, kind: 'vision', frameworks: ['cuda'] },
    { name: 'ai-clip', memoryMb: 1229, kind: 'embedding', frameworks: ['cuda'] },
    { name: 'ai-enrichment', memoryMb: 6963, minMemoryMb: 1024, kind: 'llm', frameworks: ['cuda'] },
  ],
};

function assignment(over: Partial<PlacementAssignment>): PlacementAssignment {
  return {
    service: 'ai-llm',
    node: 'box',
    gpuIndex: 0,
    memoryBudgetMb: 22_221,
    sharing: 'time-slicing',
    share: 1,
    ...over,
  };
}

function placement(over: Partial<Placement> = {}): Placement {
  const objective = {
    refusedByPriority: [],
    overcommitMb: 0,
    shrunkMb: 5939,
    criticalSlowness: 3.333,
    maxRelativeUse: 0.968,
  };
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Placement',
    strategy: 'vram_based',
    status: 'optimal',
    overcommit: 'warn',
    assignments: [
      assignment({ share: 0.94 }),
      assignment({ service: 'ai-yolo26', gpuIndex: 1, memoryBudgetMb: 666, share: 0.17 }),
      assignment({ service: 'ai-florence', memoryBudgetMb: 1536, share: 0.06 }),
      assignment({ service: 'ai-clip', gpuIndex: 1, memoryBudgetMb: 1229, share: 0.31 }),
      assignment({ service: 'ai-enrichment', gpuIndex: 1, memoryBudgetMb: 1024, share: 0.26 }),
    ],
    gpus: [
      { node: 'box', index: 0, memoryMb: 24_564, usedMb: 0, assignedMb: 23_757 },
      { node: 'box', index: 1, memoryMb: 4094, usedMb: 0, assignedMb: 2919 },
    ],
    warnings: [
      {
        code: 'memory_shrunk',
        service: 'ai-enrichment',
        message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 1 GB.',
      },
    ],
    refusals: [],
    objective,
    bound: objective,
    nodes: 0,
    ...over,
  };
}

const view = { title: 'request.yaml', color: false, width: 80 };

describe('preview', () => {
  it('looks', () => {
    const over = placement({
      status: 'feasible',
      nodes: 12345,
      assignments: placement().assignments.map((a) => a.service === 'ai-enrichment' ? { ...a, memoryBudgetMb: 3584 } : a),
      gpus: [placement().gpus[0]!, { node: 'box', index: 1, memoryMb: 4094, usedMb: 512, assignedMb: 5479 }],
      objective: { refusedByPriority: [{ priority: 0, count: 1 }], overcommitMb: 1897, shrunkMb: 3379, criticalSlowness: 3.3, maxRelativeUse: 1.464 },
      refusals: [{ service: 'big', reason: 'vendor', message: 'big is built for rocm, and no GPU here is of AMD. Build it for cuda, or add such a GPU.' }],
    });
    const pinned = request({ services: reference.services.map((s) => ({ ...s, gpu: s.name === 'ai-llm' || s.name === 'ai-yolo26' ? { node: 'box', index: s.name === 'ai-llm' ? 0 : 1 } : null })), gpus: [{ ...reference.gpus[0]!, sharing: 'time-slicing', taints: ['gpu=llm:NoSchedule'] }, { ...reference.gpus[1]!, usedMb: 512 }] });
    for (const width of [60, 80, 100]) console.log(renderPlacement(over, pinned, { ...view, width }));
    const gpus = Array.from({ length: 64 }, (_, i) => ({ index: i % 8, node: `node-${Math.floor(i / 8)}`, name: 'H100', vendor: 'nvidia' as const, memoryMb: 81_559 }));
    const services = Array.from({ length: 200 }, (_, i) => ({ name: `service-${i}`, memoryMb: 8000 + 97 * i, frameworks: ['cuda' as const] }));
    const many = request({ gpus, services });
    const big = placement({
      assignments: services.map((s, i) => assignment({ service: s.name, node: `node-${Math.floor((i % 64) / 8)}`, gpuIndex: i % 8, memoryBudgetMb: s.memoryMb, share: 0.3 })),
      gpus: gpus.map((g, i) => ({ node: g.node, index: g.index, memoryMb: g.memoryMb, usedMb: 0, assignedMb: services.filter((_, k) => k % 64 === i).reduce((sum, x) => sum + x.memoryMb, 0) })),
    });
    for (const width of [80]) console.log(renderPlacement(big, many, { ...view, width }));
    expect(1).toBe(1);
  });
});
