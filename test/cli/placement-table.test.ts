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

/** The drawn table behind a line break, as it stands in these tests. */
function drawn(
  placed: Placement,
  of: PlacementRequest,
  over: Partial<Parameters<typeof renderPlacement>[2]> = {},
): string {
  return `\n${renderPlacement(placed, of, { ...view, ...over })}`;
}

const vectors: PlacementRequestInput['services'][number] = {
  name: 'vectors',
  memoryMb: 3072,
  kind: 'database',
  cpuAllowed: true,
  frameworks: ['cpu'],
};

/** Too much on GPU 1, of which others have some; one service is refused, two are pinned. */
const pinned = request({
  gpus: [
    { ...reference.gpus[0]!, sharing: 'time-slicing', taints: ['gpu=llm:NoSchedule'] },
    { ...reference.gpus[1]!, usedMb: 512 },
  ],
  services: [
    ...reference.services.map((service) => ({
      ...service,
      gpu: service.critical === true ? { node: 'box', index: service.kind === 'llm' ? 0 : 1 } : null,
    })),
    { name: 'rocm-llm', memoryMb: 4096, frameworks: ['rocm'] },
    vectors,
  ],
});
const overcommitted = placement({
  status: 'feasible',
  strategy: 'optimal',
  nodes: 12_345,
  assignments: [
    ...placement().assignments.slice(0, 4),
    assignment({ service: 'ai-enrichment', gpuIndex: 1, memoryBudgetMb: 3584, share: 0.52 }),
    assignment({ service: 'vectors', node: null, gpuIndex: null, memoryBudgetMb: 3072, sharing: 'cpu', share: 0 }),
  ],
  gpus: [placement().gpus[0]!, { node: 'box', index: 1, memoryMb: 4094, usedMb: 512, assignedMb: 5479 }],
  warnings: [{ code: 'x', message: 'Combined VRAM (~5.4 GB) exceeds GPU 1 capacity (4 GB)' }],
  refusals: [
    { service: 'rocm-llm', reason: 'vendor', message: 'No GPU here is of AMD. Build it for cuda, or add such a GPU.' },
  ],
  objective: {
    refusedByPriority: [{ priority: 0, count: 1 }],
    overcommitMb: 1897,
    shrunkMb: 3379,
    criticalSlowness: 3.3,
    maxRelativeUse: 1.464,
  },
  bound: {
    refusedByPriority: [{ priority: 0, count: 1 }],
    overcommitMb: 873,
    shrunkMb: 0,
    criticalSlowness: 0,
    maxRelativeUse: 0,
  },
});

describe('a placement as a table', () => {
  it('is a tree of nodes, GPUs with a bar of memory, and services', () => {
    expect(
      drawn(placement(), request(), { rule: 'largest service first, each to the GPU with the most free memory' }),
    ).toBe(`
request.yaml: 5 services, 2 GPUs

        SERVICE        KIND            MEMORY  SHARING
box
├─ GPU 0 RTX A5500     [██████████████████████████████▓▓·]  23.2 of 24 GB  97 %
│  ├─ █ ai-llm         llm            21.7 GB  time-slicing 94 %  critical
│  └─ ▓ ai-florence    vision          1.5 GB  time-slicing  6 %
└─ GPU 1 RTX A400      [██████▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒·········]    2.9 of 4 GB  71 %
   ├─ █ ai-yolo26      vision          0.7 GB  time-slicing 17 %  critical
   ├─ ▓ ai-clip        embedding       1.2 GB  time-slicing 31 %
   └─ ▒ ai-enrichment  llm        1 of 6.8 GB  time-slicing 26 %

strategy   vram_based: largest service first, each to the GPU with the most free
           memory
objective  nothing refused, no memory overcommitted, 5.8 GB shrunk,
           critical slowness 3.33, fullest GPU at 97 %
proof      proven optimal: no placement of these services is better

warnings
  - ai-enrichment budget (6.8 GB) exceeds GPU 1 (4 GB). Auto-adjusted to 1 GB.
`);
  });

  it('shows what is too much behind the bracket, what others use, the CPU, refusals and the bound', () => {
    expect(drawn(overcommitted, pinned, { width: 100 })).toBe(`
request.yaml: 7 services, 2 GPUs

        SERVICE         KIND              MEMORY  SHARING
box
├─ GPU 0 RTX A5500      [████████████████████████▓▓·]               23.2 of 24 GB  97 %
│  set to time-slicing, taint gpu=llm:NoSchedule
│  ├─ █ ai-llm          llm              21.7 GB  time-slicing 94 %  critical, pinned
│  └─ ▓ ai-florence     vision            1.5 GB  time-slicing  6 %
└─ GPU 1 RTX A400       [░░░█████▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒]▒▒▒▒▒▒▒▒▒▒▒▒▒    5.9 of 4 GB 146 %
   ├─ ░ used by others                    0.5 GB
   ├─ █ ai-yolo26       vision            0.7 GB  time-slicing 17 %  critical, pinned
   ├─ ▓ ai-clip         embedding         1.2 GB  time-slicing 31 %
   └─ ▒ ai-enrichment   llm        3.5 of 6.8 GB  time-slicing 52 %
CPU
└─ vectors              database            3 GB

strategy   optimal
objective  1 refused, 1.9 GB too much on GPU 1, 3.3 GB shrunk, critical slowness 3.3,
           fullest GPU at 146 %
proof      not proven: at best 0.9 GB too much, 12345 nodes searched

refused
  - rocm-llm: No GPU here is of AMD. Build it for cuda, or add such a GPU. (vendor)

warnings
  - Combined VRAM (~5.4 GB) exceeds GPU 1 capacity (4 GB)
`);
  });

  it('gives up words and kinds on a narrow terminal, never numbers', () => {
    expect(drawn(overcommitted, pinned, { width: 40 })).toBe(`
request.yaml: 7 services, 2 GPUs

        SERVICE                MEMORY  SHARING
box
├─ GPU 0 RTX A5500      [██████▓·]      23.2 of 24 GB  97 %
│  set to time-slicing, taint gpu=llm:NoSchedule
│  ├─ █ ai-llm                21.7 GB  time-slicing 94 %  !*
│  └─ ▓ ai-florence            1.5 GB  time-slicing  6 %
└─ GPU 1 RTX A400       [░█▓▓▓▒▒▒]▒▒▒▒    5.9 of 4 GB 146 %
   ├─ ░ used by others         0.5 GB
   ├─ █ ai-yolo26              0.7 GB  time-slicing 17 %  !*
   ├─ ▓ ai-clip                1.2 GB  time-slicing 31 %
   └─ ▒ ai-enrichment   3.5 of 6.8 GB  time-slicing 52 %
CPU
└─ vectors                       3 GB

! critical   * pinned

strategy   optimal
objective  1 refused, 1.9 GB too much on GPU 1,
           3.3 GB shrunk, critical slowness 3.3,
           fullest GPU at 146 %
proof      not proven: at best 0.9 GB too much, 12345 nodes
           searched

refused
  - rocm-llm: No GPU here is of AMD. Build it for cuda, or
    add such a GPU. (vendor)

warnings
  - Combined VRAM (~5.4 GB) exceeds GPU 1 capacity (4 GB)
`);
  });

  it('is coloured where asked for', () => {
    expect(drawn(placement({ warnings: [] }), request(), { color: true })).toBe(`
request.yaml: 5 services, 2 GPUs

\u001b[2m        SERVICE        KIND            MEMORY  SHARING          \u001b[22m
\u001b[1mbox\u001b[22m
├─ \u001b[1mGPU 0\u001b[22m RTX A5500     [\u001b[36m██████████████████████████████\u001b[39m\u001b[35m▓▓\u001b[39m\u001b[2m·\u001b[22m]  23.2 of 24 GB  97 %
│  ├─ \u001b[36m█\u001b[39m ai-llm         llm            21.7 GB  \u001b[2mtime-slicing 94 %\u001b[22m  critical
│  └─ \u001b[35m▓\u001b[39m ai-florence    vision          1.5 GB  \u001b[2mtime-slicing  6 %\u001b[22m
└─ \u001b[1mGPU 1\u001b[22m RTX A400      [\u001b[36m██████\u001b[39m\u001b[35m▓▓▓▓▓▓▓▓▓▓\u001b[39m\u001b[34m▒▒▒▒▒▒▒▒\u001b[39m\u001b[2m·········\u001b[22m]    2.9 of 4 GB  71 %
   ├─ \u001b[36m█\u001b[39m ai-yolo26      vision          0.7 GB  \u001b[2mtime-slicing 17 %\u001b[22m  critical
   ├─ \u001b[35m▓\u001b[39m ai-clip        embedding       1.2 GB  \u001b[2mtime-slicing 31 %\u001b[22m
   └─ \u001b[34m▒\u001b[39m ai-enrichment  llm        \u001b[33m1 of 6.8 GB\u001b[39m  \u001b[2mtime-slicing 26 %\u001b[22m

strategy   vram_based
objective  nothing refused, no memory overcommitted, 5.8 GB shrunk,
           critical slowness 3.33, fullest GPU at 97 %
\u001b[32mproof      proven optimal: no placement of these services is better\u001b[39m
`);
  });

  it('says that there are no GPUs, and what runs on the CPU all the same', () => {
    const empty = request({ gpus: [], services: [reference.services[0]!, vectors] });
    const placed = placement({
      assignments: [overcommitted.assignments.at(-1)!],
      gpus: [],
      warnings: [],
      refusals: [{ service: 'ai-llm', reason: 'vendor', message: 'ai-llm needs a GPU, and there is none.' }],
      objective: {
        ...placement().objective,
        refusedByPriority: [{ priority: 10, count: 1 }],
        shrunkMb: 0,
        criticalSlowness: 0,
        maxRelativeUse: 0,
      },
    });
    expect(drawn(placed, empty)).toBe(`
request.yaml: 2 services, 0 GPUs

No GPUs detected
CPU
└─ vectors       database    3 GB

strategy   vram_based
objective  1 refused, no memory overcommitted, nothing shrunk
proof      proven optimal: no placement of these services is better

refused
  - ai-llm needs a GPU, and there is none. (vendor)
`);
  });

  it('names MIG instances, and parts of the fleet node by node', () => {
    const nodes = request({
      gpus: [
        {
          index: 0,
          node: 'a',
          name: 'A100',
          vendor: 'nvidia',
          memoryMb: 81_920,
          sharing: 'mig',
          migInstances: [{ profile: '3g.40gb' }, { profile: '4g.40gb' }],
        },
        { index: 0, node: 'b', vendor: 'amd', memoryMb: 65_536 },
      ],
      services: [
        reference.services[1]!,
        { ...reference.services[2]!, name: 'a-very-long-name-of-a-service-that-someone-chose' },
      ],
    });
    const placed = placement({
      assignments: [
        assignment({
          service: 'ai-yolo26',
          node: 'a',
          memoryBudgetMb: 666,
          sharing: 'mig',
          share: 0.43,
          mig: { profile: '3g.40gb', uuid: null },
        }),
        assignment({
          service: 'a-very-long-name-of-a-service-that-someone-chose',
          node: 'b',
          memoryBudgetMb: 70_000,
          sharing: 'exclusive',
          share: 1,
        }),
      ],
      gpus: [
        { node: 'a', index: 0, memoryMb: 81_920, usedMb: 0, assignedMb: 666 },
        { node: 'b', index: 0, memoryMb: 65_536, usedMb: 0, assignedMb: 70_000 },
      ],
      warnings: [],
      objective: { ...placement().objective, overcommitMb: 4464, shrunkMb: 0, maxRelativeUse: 1.069 },
    });
    expect(drawn(placed, nodes)).toBe(`
request.yaml: 2 services, 2 GPUs on 2 nodes

        SERVICE                             KIND     MEMORY  SHARING
a
└─ GPU 0 A100                               [█··········]    0.7 of 80 GB   1 %
   set to mig, cut into 3g.40gb, 4g.40gb
   └─ █ ai-yolo26                           vision   0.7 GB  mig 3g.40gb 43 %  !
b
└─ GPU 0 amd                                [███████████]█  68.4 of 64 GB 107 %
   └─ █ a-very-long…ice-that-someone-chose  vision  68.4 GB  exclusive

! critical

strategy   vram_based
objective  nothing refused, 4.4 GB too much on GPU 0 of b, nothing shrunk,
           critical slowness 3.33, fullest GPU at 107 %
proof      proven optimal: no placement of these services is better
`);
  });
});

describe('a large placement', () => {
  const gpus = Array.from({ length: 64 }, (_, i) => ({
    index: i % 8,
    node: `node-${Math.floor(i / 8)}`,
    name: 'H100',
    vendor: 'nvidia' as const,
    memoryMb: 81_559,
  }));
  const services = Array.from({ length: 200 }, (_, i) => ({
    name: `service-${i}`,
    memoryMb: 4000 + 97 * i,
    frameworks: ['cuda' as const],
  }));
  const large = placement({
    assignments: services.map(({ name, memoryMb }, i) =>
      assignment({
        service: name,
        node: gpus[i % 60]!.node,
        gpuIndex: gpus[i % 60]!.index,
        memoryBudgetMb: memoryMb,
        share: 0.3,
      }),
    ),
    gpus: gpus.map(({ node, index, memoryMb }, g) => ({
      node,
      index,
      memoryMb,
      usedMb: 0,
      assignedMb: services.reduce((sum, service, i) => sum + (i % 60 === g ? service.memoryMb : 0), 0),
    })),
    warnings: Array.from({ length: 30 }, (_, i) => ({ code: 'x', message: `Warning ${i}.` })),
  });

  it('of 64 GPUs and 200 services has one line for each GPU and one for its services', () => {
    const lines = renderPlacement(large, request({ gpus, services }), view).split('\n');
    expect(lines.length).toBeLessThan(170);
    expect(`\n${lines.slice(0, 8).join('\n')}\n`).toBe(`
request.yaml: 200 services, 64 GPUs on 8 nodes

node-0
├─ GPU 0 H100  [██▓▓▓▓▓▒▒▒▒▒▒▒▚▚▚▚▚▚▚▚▚▚···············]  49.7 of 79.6 GB  62 %
│  service-0, service-60, service-120, service-180
├─ GPU 1 H100  [██▓▓▓▓▓▒▒▒▒▒▒▒▒▚▚▚▚▚▚▚▚▚▚··············]  50.1 of 79.6 GB  63 %
│  service-1, service-61, service-121, service-181
├─ GPU 2 H100  [██▓▓▓▓▓▒▒▒▒▒▒▒▒▚▚▚▚▚▚▚▚▚▚··············]  50.5 of 79.6 GB  63 %
`);
    expect(lines.slice(-4)).toEqual([
      '  - Warning 10.',
      '  - Warning 11.',
      '  … and 18 more (--json has them all)',
      '',
    ]);
    expect(lines.every((line) => line.length <= 80)).toBe(true);
  });

  it('lists of more GPUs those that are overcommitted, then those in use, and counts the rest', () => {
    const many = Array.from({ length: 200 }, (_, i) => ({ ...gpus[0]!, index: i, node: 'n' }));
    const placed = placement({
      assignments: [assignment({ service: 'service-0', node: 'n', gpuIndex: 150, memoryBudgetMb: 90_000 })],
      gpus: many.map(({ node, index, memoryMb }) => ({
        node,
        index,
        memoryMb,
        usedMb: 0,
        assignedMb: index === 150 ? 90_000 : 0,
      })),
    });
    const text = renderPlacement(placed, request({ gpus: many, services: services.slice(0, 1) }), view);
    expect(text).toContain('└─ GPU 150 H100');
    expect(text).toContain('… and 136 more GPUs (--json has them all)');
  });
});

describe('GPUs that were found', () => {
  it('are drawn with what is known of them', () => {
    const found = request({
      gpus: [
        { ...reference.gpus[0]!, architecture: 'ampere', usedMb: 1500, tags: { driver: '570.86' } },
        { ...reference.gpus[1]!, taints: ['gpu=llm:NoSchedule'] },
      ],
      services: [],
    });
    expect(`\n${renderGpus(found.gpus, { ...view, title: 'this machine' })}`).toBe(`
this machine: 2 GPUs on 1 node

box
├─ GPU 0 RTX A5500      [░░·······························]  1.5 of 24 GB   6 %
│  nvidia ampere, driver 570.86
│  └─ ░ used by others        1.5 GB
└─ GPU 1 RTX A400       [·································]     0 of 4 GB   0 %
   nvidia, taint gpu=llm:NoSchedule
`);
  });

  it('may be none', () => {
    expect(renderGpus([], view)).toBe('No GPUs detected\n');
  });
});
