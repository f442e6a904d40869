import { on, placementInput } from './placement-documents.js';

/** Placements that exports are tried on: the set-ups that people have. */

const gpu0 = { node: 'box', index: 0 };
const gpu1 = { node: 'box', index: 1 };

/** A workstation with a large and a small GPU; one service does not fit and gives way. */
export const workstation = placementInput({
  gpus: [
    { ...gpu0, name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24564 },
    { ...gpu1, name: 'RTX A400', vendor: 'nvidia', memoryMb: 4094 },
  ],
  services: [
    {
      name: 'ai-llm',
      model: 'nvidia/Nemotron-3-Nano-30B',
      memoryMb: 22221,
      kind: 'llm',
      frameworks: ['cuda'],
      image: 'vllm/vllm-openai:v0.11.0',
      maxSessions: 8,
    },
    { name: 'AI Florence_2', memoryMb: 1536, kind: 'vision', frameworks: ['cuda'] },
    { name: 'ai-clip', memoryMb: 1229, kind: 'vision', frameworks: ['cuda'] },
    { name: 'ai-enrichment', memoryMb: 6963, frameworks: ['cuda'] },
  ],
  assignments: [
    on(gpu0, 'ai-llm', { memoryBudgetMb: 22221 }),
    on(gpu1, 'AI Florence_2', { memoryBudgetMb: 1536, sharing: 'time-slicing', share: 0.55 }),
    on(gpu1, 'ai-clip', { memoryBudgetMb: 1229, sharing: 'time-slicing', share: 0.45 }),
  ],
  warnings: [{ code: 'memory_exceeds_gpu', message: 'Combined VRAM (~23 GB) exceeds GPU 1 capacity (4 GB)' }],
  refusals: [
    { service: 'ai-enrichment', reason: 'memory', message: 'ai-enrichment requires ~6.8 GB,\nno GPU has it free' },
  ],
});

const strix = { node: 'strix', index: 0 };
const turing = { node: 'turing', index: 0 };
const mini = { node: 'mini', index: 0 };
const arc = { node: 'arc', index: 0 };

/** Four nodes of three vendors; the large one is for the language model alone. */
export const homelab = placementInput({
  gpus: [
    { ...strix, name: 'Strix Halo', vendor: 'amd', memoryMb: 65536, taints: ['dedicated=llm:NoSchedule'] },
    { ...turing, name: 'RTX 2070', vendor: 'nvidia', memoryMb: 8192, taints: ['slow:PreferNoSchedule'] },
    { ...mini, name: 'Radeon 680M', vendor: 'amd', memoryMb: 12288 },
    { ...arc, name: 'Intel Arc', vendor: 'intel', memoryMb: 8192 },
  ],
  services: [
    {
      name: 'llm',
      model: 'Qwen/Qwen3-30B',
      kind: 'llm',
      frameworks: ['rocm'],
      image: 'registry.lan/vllm-rocm-ray:2.52.0',
      maxSessions: 4,
      tolerations: ['dedicated=llm'],
    },
    { name: 'whisper', kind: 'speech', frameworks: ['cuda'], computeShare: 0.5 },
    { name: 'xtts-v2', kind: 'speech', frameworks: ['cuda'], computeShare: 0.5, importPath: 'speech.xtts:application' },
    { name: 'bge', kind: 'embedding', frameworks: ['rocm'], computeShare: 0.8 },
    { name: 'reranker', kind: 'reranker', frameworks: ['openvino'], computeShare: 0.8 },
    { name: 'qdrant', kind: 'database', frameworks: ['cpu'], image: 'qdrant/qdrant:v1.16' },
  ],
  assignments: [
    on(strix, 'llm', { memoryBudgetMb: 62259 }),
    on(turing, 'whisper', { memoryBudgetMb: 3072, sharing: 'time-slicing', share: 0.5 }),
    on(turing, 'xtts-v2', { memoryBudgetMb: 4096, sharing: 'time-slicing', share: 0.5 }),
    on(mini, 'bge', { memoryBudgetMb: 9830, share: 0.8 }),
    on(arc, 'reranker', { memoryBudgetMb: 6553, share: 0.8 }),
    on(null, 'qdrant'),
  ],
});

const h0 = { node: 'dgx', index: 0 };
const h1 = { node: 'dgx', index: 1 };

/** One H200 cut in two, the other shared by taking turns. */
export const cutH200 = placementInput({
  gpus: [
    { ...h0, name: 'H200', vendor: 'nvidia', memoryMb: 143771, sharing: 'mig', tags: { uuid: 'GPU-aa' } },
    { ...h1, name: 'H200', vendor: 'nvidia', memoryMb: 143771 },
  ],
  services: [
    { name: 'chat', model: 'Qwen/Qwen3-32B', kind: 'llm', frameworks: ['cuda'], image: 'vllm/vllm-openai:v0.11.0' },
    { name: 'code', model: 'Qwen/Qwen3-Coder', kind: 'llm', frameworks: ['cuda'] },
    { name: 'embed', kind: 'embedding', frameworks: ['cuda'] },
    { name: 'rerank', kind: 'reranker', frameworks: ['cuda'] },
  ],
  assignments: [
    on(h0, 'chat', { memoryBudgetMb: 65434, sharing: 'mig', share: 0.43, mig: { profile: '3g.71gb', uuid: null } }),
    on(h0, 'code', { memoryBudgetMb: 65434, sharing: 'mig', share: 0.43, mig: { profile: '3g.71gb', uuid: 'MIG-bb' } }),
    on(h1, 'embed', { memoryBudgetMb: 20480, sharing: 'memory-limit', share: 0.5 }),
    on(h1, 'rerank', { memoryBudgetMb: 20480, sharing: 'memory-limit', share: 0.5 }),
  ],
});

const l4 = { node: 'edge', index: 0 };

/** Three clients of one MPS daemon, one with more than an equal part. */
export const mpsEdge = placementInput({
  gpus: [{ ...l4, name: 'L4', vendor: 'nvidia', memoryMb: 23034, sharing: 'mps' }],
  services: ['detect', 'track', 'read'].map((name) => ({ name, kind: 'vision', frameworks: ['cuda'] as const })),
  assignments: [
    on(l4, 'detect', { memoryBudgetMb: 8192, sharing: 'mps', share: 0.4 }),
    on(l4, 'track', { memoryBudgetMb: 4096, sharing: 'mps', share: 0.3 }),
    on(l4, 'read', { memoryBudgetMb: 4096, sharing: 'mps', share: 0.3 }),
  ],
});
