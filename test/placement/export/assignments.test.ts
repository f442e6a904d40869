import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { assignments } from '../../../src/placement/export/assignments.js';
import type { ExportInput } from '../../../src/placement/export/exporter.js';
import { exportInput, gpuLess, homelab, partitioned, workstation } from '../../support/exported-placements.js';

type Page = {
  readonly gpus: readonly { readonly node: string; readonly index: number; readonly memory_gb: number }[];
  readonly services: Map<string, Map<string, unknown>>;
  readonly warnings: readonly { readonly message: string }[];
};

function textOf(input: ExportInput): string {
  const { files, notices } = assignments.write(input);
  expect(files.map(({ fileName }) => fileName)).toEqual(['gpu-assignments.yml']);
  expect(notices).toEqual([]);
  return files[0]!.text;
}

/** The page as data; services stay a Map, so that no name is special. */
function readBack(text: string): Page {
  const page = parse(text, { mapAsMap: true }) as Map<string, unknown>;
  const plain = (value: unknown): unknown =>
    value instanceof Map
      ? Object.fromEntries([...value].map(([key, one]) => [key, plain(one)]))
      : Array.isArray(value)
        ? value.map(plain)
        : value;
  return {
    gpus: plain(page.get('gpus')) as Page['gpus'],
    services: page.get('services') as Page['services'],
    warnings: plain(page.get('warnings')) as Page['warnings'],
  };
}

describe('the page of assignments', () => {
  it('shows a workstation: GPUs with their services, services with their budgets, warnings and the objective', () => {
    expect(
      textOf(workstation),
    ).toBe(`# GPU assignments. Made by gpumix place: strategy vram_based, status feasible (not proven the best
#   there is).
# Memory is in GB (GiB), rounded down; what was asked, overcommitted or shrunk, and relative use,
#   are rounded up.

strategy: vram_based
status: feasible
overcommit: warn
# used: taken by others; assigned: the budgets of its services.
gpus:
  - node: box
    index: 0
    name: RTX A5500
    vendor: nvidia
    memory_gb: 23.98
    used_gb: 0
    assigned_gb: 23.85
    relative_use: 0.995
    services:
      ai-llm: 21.7
      ai-yolo26: 0.65
      ai-florence: 1.5
  - node: box
    index: 1
    name: RTX A400
    vendor: nvidia
    memory_gb: 3.99
    used_gb: 0
    assigned_gb: 3.2
    relative_use: 0.801
    services:
      ai-clip: 1.2
      ai-enrichment: 2
# gpu: index on its node; null is the CPU. share: part of the compute of its GPU.
services:
  ai-llm:
    model: Nemotron-3-Nano-30B Q4_K_M
    kind: llm
    critical: true
    node: box
    gpu: 0
    budget_gb: 21.7
    sharing: time-slicing
    share: 0.909
  ai-yolo26:
    kind: vision
    critical: true
    node: box
    gpu: 0
    budget_gb: 0.65
    sharing: time-slicing
    share: 0.027
  ai-florence:
    kind: vision
    node: box
    gpu: 0
    budget_gb: 1.5
    sharing: time-slicing
    share: 0.062
  ai-clip:
    kind: vision
    node: box
    gpu: 1
    budget_gb: 1.2
    sharing: time-slicing
    share: 0.374
  ai-enrichment:
    kind: other
    node: box
    gpu: 1
    budget_gb: 2
    asked_gb: 6.8
    sharing: time-slicing
    share: 0.624
warnings:
  - code: memory_adjusted
    service: ai-enrichment
    message: ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 2 GB.
refusals: []
# Less is better; the first that differs decides.
objective:
  refused_by_priority: []
  overcommit_gb: 0
  shrunk_gb: 4.8
  critical_slowness: 6
  max_relative_use: 0.995
`);
  });

  it('shows several nodes, a service on the CPU and a refusal', () => {
    expect(
      textOf(homelab),
    ).toBe(`# GPU assignments. Made by gpumix place: strategy optimal, status optimal (proven the best there
#   is).
# Memory is in GB (GiB), rounded down; what was asked, overcommitted or shrunk, and relative use,
#   are rounded up.

strategy: optimal
status: optimal
overcommit: warn
# used: taken by others; assigned: the budgets of its services.
gpus:
  - node: strix
    index: 0
    name: Strix Halo
    vendor: amd
    memory_gb: 64
    used_gb: 0
    assigned_gb: 60.79
    relative_use: 0.95
    services:
      vllm: 60.79
  - node: tower
    index: 0
    name: RTX 2070
    vendor: nvidia
    memory_gb: 8
    used_gb: 0.29
    assigned_gb: 6.83
    relative_use: 0.892
    services:
      whisper: 3.41
      xtts: 3.41
  - node: tower
    index: 1
    name: Arc A770
    vendor: intel
    memory_gb: 15.9
    used_gb: 0
    assigned_gb: 12.72
    relative_use: 0.8
    services:
      bge-rerank: 12.72
  - node: mini
    index: 0
    name: Radeon 680M
    vendor: amd
    memory_gb: 12
    used_gb: 0
    assigned_gb: 9.59
    relative_use: 0.8
    services:
      bge-embed: 9.59
# gpu: index on its node; null is the CPU. share: part of the compute of its GPU.
services:
  vllm:
    model: openai/gpt-oss-120b
    kind: llm
    node: strix
    gpu: 0
    budget_gb: 60.79
    sharing: exclusive
    share: 1
  whisper:
    model: large-v3
    kind: speech
    node: tower
    gpu: 0
    budget_gb: 3.41
    sharing: time-slicing
    share: 0.5
  xtts:
    kind: speech
    node: tower
    gpu: 0
    budget_gb: 3.41
    sharing: time-slicing
    share: 0.5
  bge-embed:
    model: BAAI/bge-m3
    kind: embedding
    node: mini
    gpu: 0
    budget_gb: 9.59
    sharing: exclusive
    share: 1
  bge-rerank:
    model: BAAI/bge-reranker-v2-m3
    kind: reranker
    node: tower
    gpu: 1
    budget_gb: 12.72
    sharing: exclusive
    share: 1
  qdrant:
    kind: database
    node: null
    gpu: null
    budget_gb: 2
    sharing: cpu
    share: 0
warnings: []
# These run nowhere.
refusals:
  - service: mindie
    reason: vendor
    message: mindie runs on huawei (cann); the GPUs here are of amd, nvidia and intel.
# Less is better; the first that differs decides.
objective:
  refused_by_priority:
    - priority: 0
      count: 1
  overcommit_gb: 0
  shrunk_gb: 0
  critical_slowness: 0
  max_relative_use: 0.951
`);
  });

  it('shows MIG instances and shares of MPS', () => {
    expect(
      textOf(partitioned),
    ).toBe(`# GPU assignments. Made by gpumix place: strategy isolation_first, status feasible (not proven the
#   best there is).
# Memory is in GB (GiB), rounded down; what was asked, overcommitted or shrunk, and relative use,
#   are rounded up.

strategy: isolation_first
status: feasible
overcommit: warn
# used: taken by others; assigned: the budgets of its services.
gpus:
  - node: dgx
    index: 0
    name: A100-80GB
    vendor: nvidia
    memory_gb: 80
    used_gb: 0
    assigned_gb: 48
    relative_use: 0.6
    services:
      chat: 36
      embed: 12
  - node: dgx
    index: 2
    name: A100-80GB
    vendor: nvidia
    memory_gb: 80
    used_gb: 0
    assigned_gb: 60
    relative_use: 0.75
    services:
      guard: 40
      whisper: 20
# gpu: index on its node; null is the CPU. share: part of the compute of its GPU.
services:
  chat:
    model: meta-llama/Llama-3.1-8B-Instruct
    kind: llm
    node: dgx
    gpu: 0
    budget_gb: 36
    sharing: mig
    share: 0.428
    mig:
      profile: 3g.40gb
      uuid: MIG-b0e3ab4d-4ae1-5d2c-9f4e-3d2f7a0b6c11
  embed:
    model: BAAI/bge-m3
    kind: embedding
    node: dgx
    gpu: 0
    budget_gb: 12
    sharing: mig
    share: 0.285
    mig:
      profile: 2g.20gb
      uuid: null
  guard:
    model: meta-llama/Llama-Guard-3-8B
    kind: llm
    node: dgx
    gpu: 2
    budget_gb: 40
    sharing: mps
    share: 0.666
  whisper:
    kind: speech
    node: dgx
    gpu: 2
    budget_gb: 20
    sharing: mps
    share: 0.333
warnings: []
refusals: []
# Less is better; the first that differs decides.
objective:
  refused_by_priority: []
  overcommit_gb: 0
  shrunk_gb: 0
  critical_slowness: 0
  max_relative_use: 0
`);
  });

  it('is written without a GPU too', () => {
    expect(
      textOf(gpuLess),
    ).toBe(`# GPU assignments. Made by gpumix place: strategy vram_based, status feasible (not proven the best
#   there is).
# Memory is in GB (GiB), rounded down; what was asked, overcommitted or shrunk, and relative use,
#   are rounded up.

strategy: vram_based
status: feasible
overcommit: warn
# used: taken by others; assigned: the budgets of its services.
gpus: []
# gpu: index on its node; null is the CPU. share: part of the compute of its GPU.
services:
  qdrant:
    kind: database
    node: null
    gpu: null
    budget_gb: 1
    sharing: cpu
    share: 0
warnings: []
# These run nowhere.
refusals:
  - service: llm
    reason: vendor
    message: llm needs a GPU and there is none.
# Less is better; the first that differs decides.
objective:
  refused_by_priority: []
  overcommit_gb: 0
  shrunk_gb: 0
  critical_slowness: 0
  max_relative_use: 0
`);
  });

  it('reads back as the same assignments whatever names, sizes and messages are', () => {
    // YAML has no text for half of a surrogate pair; JSON documents that hold one are read as U+FFFD.
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 });
    const service = fc.record({
      name: fc.oneof(
        text,
        fc.constantFrom('no', '1', '__proto__', '# x', 'a: b', '- a', '!reset', '=', 'a\tb', '<<', "'", '"', '\n'),
      ),
      memoryMb: fc.integer({ min: 0, max: 2 ** 30 }),
      gpu: fc.option(fc.integer({ min: 0, max: 1 })),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.uniqueArray(service, { maxLength: 8, selector: (one) => one.name }), text, (services, message) => {
        const input = exportInput({
          gpus: [0, 1].map((index) => ({ index, node: message, vendor: 'nvidia', name: message, memoryMb: 2 ** 20 })),
          services: services.map(({ name, memoryMb }) => ({ name, model: message, memoryMb, frameworks: ['cuda'] })),
          assignments: services.map(({ name, memoryMb, gpu, share }) => ({
            service: name,
            node: gpu === null ? null : message,
            gpuIndex: gpu,
            memoryBudgetMb: memoryMb,
            sharing: gpu === null ? 'cpu' : 'time-slicing',
            share,
          })),
          warnings: [{ code: 'x', message }],
        });
        const page = readBack(textOf(input));
        expect([...page.services.keys()]).toEqual(services.map(({ name }) => name));
        expect(page.gpus.map(({ node, index }) => ({ node, index }))).toEqual(
          [0, 1].map((index) => ({ node: message, index })),
        );
        expect(page.warnings).toEqual([{ code: 'x', message }]);
        for (const { name, memoryMb, gpu, share } of services) {
          const row = page.services.get(name)!;
          expect([row.get('gpu'), row.get('node'), row.get('model')]).toEqual([
            gpu,
            gpu === null ? null : message,
            message,
          ]);
          expect(memoryMb / 1024 - (row.get('budget_gb') as number)).toBeGreaterThanOrEqual(0);
          expect(memoryMb / 1024 - (row.get('budget_gb') as number)).toBeLessThan(0.0101);
          expect(Math.abs(share - (row.get('share') as number))).toBeLessThan(0.0011);
        }
      }),
    );
  });
});
