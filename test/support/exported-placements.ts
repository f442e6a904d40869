import { readFileSync } from 'node:fs';
import { parseGpuCatalogue } from '../../src/core/gpu-types.js';
import type { Placement, PlacementAssignment } from '../../src/core/placement.js';
import { checkPlacementRequest, type PlacementRequestInput } from '../../src/core/placement-request.js';
import type { ExportInput } from '../../src/placement/export/exporter.js';

/** Placements that are written out by hand, so that exports are tested without the strategies. */

const catalogue = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');

type Given = {
  readonly gpus: PlacementRequestInput['gpus'];
  readonly services: PlacementRequestInput['services'];
  readonly assignments: readonly PlacementAssignment[];
} & Partial<Omit<Placement, 'assignments' | 'gpus'>>;

/** Request and placement of one case; sums and the objective's plain parts are filled in. */
export function exportInput({ gpus, services, assignments, ...rest }: Given): ExportInput {
  const request = checkPlacementRequest(
    { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', gpus, services },
    'the test',
  );
  const objective = {
    refusedByPriority: [],
    overcommitMb: 0,
    shrunkMb: 0,
    criticalSlowness: 0,
    maxRelativeUse: 0,
  };
  return {
    request,
    catalogue,
    placement: {
      apiVersion: 'gpumix/v1',
      kind: 'Placement',
      strategy: 'vram_based',
      status: 'feasible',
      overcommit: 'warn',
      assignments,
      gpus: request.gpus.map(({ node, index, memoryMb, usedMb }) => ({
        node,
        index,
        memoryMb,
        usedMb,
        assignedMb: assignments
          .filter((one) => one.node === node && one.gpuIndex === index)
          .reduce((sum, { memoryBudgetMb }) => sum + memoryBudgetMb, 0),
      })),
      warnings: [],
      refusals: [],
      objective,
      bound: objective,
      nodes: 0,
      ...rest,
    },
  };
}

/** The reference case of a workstation: everything does not fit on the large GPU, so two services go to the small one. */
export const workstation = exportInput({
  gpus: [
    { index: 0, node: 'box', name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24564 },
    { index: 1, node: 'box', name: 'RTX A400', vendor: 'nvidia', memoryMb: 4094 },
  ],
  services: [
    {
      name: 'ai-llm',
      model: 'Nemotron-3-Nano-30B Q4_K_M',
      memoryMb: 22221,
      kind: 'llm',
      critical: true,
      frameworks: ['cuda'],
      priority: 10,
    },
    { name: 'ai-yolo26', memoryMb: 666, kind: 'vision', critical: true, frameworks: ['cuda'] },
    { name: 'ai-florence', memoryMb: 1536, kind: 'vision', frameworks: ['cuda'] },
    { name: 'ai-clip', memoryMb: 1229, kind: 'vision', frameworks: ['cuda'] },
    { name: 'ai-enrichment', memoryMb: 6963, minMemoryMb: 1024, frameworks: ['cuda'] },
  ],
  assignments: [
    { service: 'ai-llm', node: 'box', gpuIndex: 0, memoryBudgetMb: 22221, sharing: 'time-slicing', share: 0.9098 },
    { service: 'ai-yolo26', node: 'box', gpuIndex: 0, memoryBudgetMb: 666, sharing: 'time-slicing', share: 0.0272 },
    { service: 'ai-florence', node: 'box', gpuIndex: 0, memoryBudgetMb: 1536, sharing: 'time-slicing', share: 0.0628 },
    { service: 'ai-clip', node: 'box', gpuIndex: 1, memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.3749 },
    {
      service: 'ai-enrichment',
      node: 'box',
      gpuIndex: 1,
      memoryBudgetMb: 2048,
      sharing: 'time-slicing',
      share: 0.6249,
    },
  ],
  warnings: [
    {
      code: 'memory_adjusted',
      service: 'ai-enrichment',
      message: 'ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.',
    },
  ],
  objective: {
    refusedByPriority: [],
    overcommitMb: 0,
    shrunkMb: 4915,
    criticalSlowness: 6,
    maxRelativeUse: 0.995,
  },
});

/** Three vendors on three nodes, one of them with two GPUs; a database on any CPU, and a service that nobody can run. */
export const homelab = exportInput({
  gpus: [
    { index: 0, node: 'strix', name: 'Strix Halo', vendor: 'amd', memoryMb: 65536, taints: ['llm=only:NoSchedule'] },
    { index: 0, node: 'tower', name: 'RTX 2070', vendor: 'nvidia', memoryMb: 8192, usedMb: 300 },
    {
      index: 1,
      node: 'tower',
      name: 'Arc A770',
      vendor: 'intel',
      memoryMb: 16288,
      tags: { renderNode: '/dev/dri/renderD129' },
    },
    { index: 0, node: 'mini', name: 'Radeon 680M', vendor: 'amd', memoryMb: 12288 },
  ],
  services: [
    {
      name: 'vllm',
      model: 'openai/gpt-oss-120b',
      memoryMb: 62259,
      kind: 'llm',
      frameworks: ['rocm'],
      maxSessions: 16,
      tolerations: ['llm=only:NoSchedule'],
    },
    { name: 'whisper', model: 'large-v3', memoryMb: 3500, kind: 'speech', frameworks: ['cuda'] },
    { name: 'xtts', memoryMb: 3500, kind: 'speech', frameworks: ['cuda'] },
    { name: 'bge-embed', model: 'BAAI/bge-m3', memoryMb: 9830, kind: 'embedding', frameworks: ['rocm'] },
    { name: 'bge-rerank', model: 'BAAI/bge-reranker-v2-m3', memoryMb: 13030, kind: 'reranker', frameworks: ['oneapi'] },
    { name: 'qdrant', memoryMb: 2048, kind: 'database', cpuAllowed: true, frameworks: ['cpu', 'vulkan'] },
    { name: 'mindie', memoryMb: 20000, kind: 'llm', frameworks: ['cann'] },
  ],
  assignments: [
    { service: 'vllm', node: 'strix', gpuIndex: 0, memoryBudgetMb: 62259, sharing: 'exclusive', share: 1 },
    { service: 'whisper', node: 'tower', gpuIndex: 0, memoryBudgetMb: 3500, sharing: 'time-slicing', share: 0.5 },
    { service: 'xtts', node: 'tower', gpuIndex: 0, memoryBudgetMb: 3500, sharing: 'time-slicing', share: 0.5 },
    { service: 'bge-embed', node: 'mini', gpuIndex: 0, memoryBudgetMb: 9830, sharing: 'exclusive', share: 1 },
    { service: 'bge-rerank', node: 'tower', gpuIndex: 1, memoryBudgetMb: 13030, sharing: 'exclusive', share: 1 },
    { service: 'qdrant', node: null, gpuIndex: null, memoryBudgetMb: 2048, sharing: 'cpu', share: 0 },
  ],
  strategy: 'optimal',
  status: 'optimal',
  refusals: [
    {
      service: 'mindie',
      reason: 'vendor',
      message: 'mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.',
    },
  ],
  objective: {
    refusedByPriority: [{ priority: 0, count: 1 }],
    overcommitMb: 0,
    shrunkMb: 0,
    criticalSlowness: 0,
    maxRelativeUse: 0.951,
  },
});

/** One GPU cut into instances, of which one has a UUID and one has yet to be made; another GPU shared through MPS. */
export const partitioned = exportInput({
  gpus: [
    {
      index: 0,
      node: 'dgx',
      name: 'A100-80GB',
      vendor: 'nvidia',
      memoryMb: 81920,
      sharing: 'mig',
      migInstances: [
        { profile: '3g.40gb', uuid: 'MIG-b0e3ab4d-4ae1-5d2c-9f4e-3d2f7a0b6c11' },
        { profile: '2g.20gb', uuid: null },
      ],
    },
    { index: 2, node: 'dgx', name: 'A100-80GB', vendor: 'nvidia', memoryMb: 81920, sharing: 'mps' },
  ],
  services: [
    { name: 'chat', model: 'meta-llama/Llama-3.1-8B-Instruct', memoryMb: 36864, kind: 'llm', frameworks: ['cuda'] },
    { name: 'embed', model: 'BAAI/bge-m3', memoryMb: 12288, kind: 'embedding', frameworks: ['cuda'] },
    { name: 'guard', model: 'meta-llama/Llama-Guard-3-8B', memoryMb: 40960, kind: 'llm', frameworks: ['cuda'] },
    { name: 'whisper', memoryMb: 20480, kind: 'speech', frameworks: ['cuda'] },
  ],
  assignments: [
    {
      service: 'chat',
      node: 'dgx',
      gpuIndex: 0,
      memoryBudgetMb: 36864,
      sharing: 'mig',
      share: 0.4285,
      mig: { profile: '3g.40gb', uuid: 'MIG-b0e3ab4d-4ae1-5d2c-9f4e-3d2f7a0b6c11' },
    },
    {
      service: 'embed',
      node: 'dgx',
      gpuIndex: 0,
      memoryBudgetMb: 12288,
      sharing: 'mig',
      share: 0.2857,
      mig: { profile: '2g.20gb', uuid: null },
    },
    { service: 'guard', node: 'dgx', gpuIndex: 2, memoryBudgetMb: 40960, sharing: 'mps', share: 0.6666 },
    { service: 'whisper', node: 'dgx', gpuIndex: 2, memoryBudgetMb: 20480, sharing: 'mps', share: 0.3333 },
  ],
  strategy: 'isolation_first',
});

/** Accelerators that Docker reaches in ways of their own. */
export const accelerators = exportInput({
  gpus: [
    { index: 0, node: 'edge', name: 'NVIDIA Jetson AGX Thor', vendor: 'nvidia', memoryMb: 125772, usedMb: 15360 },
    { index: 1, node: 'edge', name: 'Gaudi2', vendor: 'intel', memoryMb: 98304 },
    { index: 2, node: 'edge', name: 'Ascend 910B', vendor: 'huawei', memoryMb: 65536 },
  ],
  services: [
    { name: 'thor', model: 'm/thor', memoryMb: 92160, kind: 'llm', frameworks: ['cuda'], maxSessions: 20 },
    { name: 'gaudi', model: 'm/gaudi', memoryMb: 65536, kind: 'llm', frameworks: ['oneapi'] },
    { name: 'ascend', model: 'm/ascend', memoryMb: 32768, kind: 'llm', frameworks: ['cann'] },
  ],
  assignments: [
    { service: 'thor', node: 'edge', gpuIndex: 0, memoryBudgetMb: 92160, sharing: 'exclusive', share: 1 },
    { service: 'gaudi', node: 'edge', gpuIndex: 1, memoryBudgetMb: 65536, sharing: 'exclusive', share: 1 },
    { service: 'ascend', node: 'edge', gpuIndex: 2, memoryBudgetMb: 32768, sharing: 'exclusive', share: 1 },
  ],
});

/** No GPU at all. */
export const gpuLess = exportInput({
  gpus: [],
  services: [
    { name: 'qdrant', memoryMb: 1024, kind: 'database', cpuAllowed: true, frameworks: ['cpu'] },
    { name: 'llm', model: 'm/llm', memoryMb: 8192, kind: 'llm', frameworks: ['cuda'] },
  ],
  assignments: [{ service: 'qdrant', node: null, gpuIndex: null, memoryBudgetMb: 1024, sharing: 'cpu', share: 0 }],
  refusals: [{ service: 'llm', reason: 'vendor', message: 'llm needs a GPU and there is none.' }],
});
