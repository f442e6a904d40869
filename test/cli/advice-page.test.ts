import { describe, expect, it } from 'vitest';
import { type AdvicePage, renderAdvice } from '../../src/cli/advice-page.js';
import type { Placement } from '../../src/core/placement.js';
import { checkPlacementRequest, type StrategyName } from '../../src/core/placement-request.js';
import type { SharingOption } from '../../src/placement/sharing/advise.js';

const request = checkPlacementRequest(
  {
    apiVersion: 'gpumix/v1',
    kind: 'PlacementRequest',
    gpus: [
      { index: 0, node: 'edge', name: 'T4', vendor: 'nvidia', memoryMb: 15_360 },
      { index: 1, node: 'edge', name: 'T4', vendor: 'nvidia', memoryMb: 15_360 },
    ],
    services: [{ name: 'chat', memoryMb: 8192, kind: 'llm', frameworks: ['cuda'] }],
  },
  'test',
);

function placementOf(strategy: StrategyName, over: Partial<Placement['objective']>, status: Placement['status']) {
  const objective = {
    refusedByPriority: [],
    overcommitMb: 0,
    shrunkMb: 0,
    criticalSlowness: 0,
    maxRelativeUse: 0.534,
    ...over,
  };
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Placement',
    strategy,
    status,
    overcommit: 'warn',
    assignments: [],
    gpus: [],
    warnings: [],
    refusals: [],
    objective,
    bound: objective,
    nodes: 0,
  } satisfies Placement;
}

function option(over: Partial<SharingOption> & Pick<SharingOption, 'mode'>): SharingOption {
  return {
    title: over.mode,
    supported: 'yes',
    reason: 'it can',
    memoryIsolation: 'none',
    faultIsolation: 'partial',
    latencyEffect: 'high',
    recommended: false,
    holds: { services: 1, of: 1, text: '1 of 1' },
    commands: [],
    ...over,
  };
}

const advice: AdvicePage = {
  recommendation: {
    strategy: 'vram_based',
    reason: 'its rule is easy to follow, and no placement does better',
    placements: [
      placementOf('manual', { refusedByPriority: [{ priority: 0, count: 1 }], maxRelativeUse: 0 }, 'feasible'),
      placementOf('vram_based', {}, 'optimal'),
      placementOf('isolation_first', { overcommitMb: 1434, shrunkMb: 4915, criticalSlowness: 12.345 }, 'feasible'),
    ],
  },
  strategy: 'vram_based',
  sharing: {
    apiVersion: 'gpumix/v1',
    kind: 'SharingAdvice',
    gpus: [
      {
        name: 'T4',
        vendor: 'nvidia',
        architecture: 'turing',
        memoryMb: 15_360,
        unifiedMemory: false,
        places: [
          { node: 'edge', index: 0 },
          { node: 'edge', index: 1 },
        ],
        options: [
          option({ mode: 'mig', supported: 'no', reason: 'MIG came with Ampere', holds: null }),
          option({
            mode: 'time-slicing',
            recommended: true,
            commands: [
              {
                where: 'host',
                about: 'Lets any process use GPU 0',
                lines: [`nvidia-smi -i 0 -c DEFAULT # ${'x'.repeat(90)}`],
              },
              { where: 'kubernetes', about: 'Shares each GPU in turns', lines: ['helm upgrade'] },
            ],
          }),
        ],
        recommendation: { mode: 'time-slicing', rule: 'rest', reason: 'Its services take turns.' },
        warnings: ['Time-slicing isolates no memory.'],
      },
    ],
    services: [
      {
        service: 'chat',
        kind: 'llm',
        place: 'GPU 0',
        memoryBudgetMb: 8192,
        memoryFraction: 0.53,
        recommendedFraction: 0.85,
        vllmArguments: ['--gpu-memory-utilization 0.53'],
        environment: { CUDA_VISIBLE_DEVICES: '0' },
        notes: ['Starts first.'],
      },
    ],
  },
};

const view = { title: 'request.yaml', color: false };

describe('advice as a page', () => {
  it('compares strategies, then the ways to share each kind of GPU, with commands that can be copied', () => {
    expect(`\n${renderAdvice(advice, request, { ...view, width: 80 })}`).toBe(`
request.yaml: 1 service, 2 GPUs

  STRATEGY         REFUSED  TOO MUCH  SHRUNK  SLOWNESS  FULLEST
  manual                 1         -       -         -      0 %
→ vram_based             -         -       -         -     53 %  proven
  isolation_first        -    1.4 GB  4.8 GB      12.3     53 %
  recommended: vram_based: its rule is easy to follow, and no placement does
               better

T4 (turing, 15 GB): GPU 0, GPU 1
  MODE          POSSIBLE  MEMORY ISOLATION  FAULT ISOLATION  LATENCY   HOLDS
  mig           no
→ time-slicing  yes       none              partial          high     1 of 1
  recommended: time-slicing. Its services take turns.
  mig: not possible, MIG came with Ampere
  - Time-slicing isolates no memory.

    # Lets any process use GPU 0
    nvidia-smi -i 0 -c DEFAULT # xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx

    # Kubernetes: Shares each GPU in turns
    helm upgrade

services, as vram_based places them
  chat: GPU 0, 8 GB, 0.53 of the memory it sees, recommended at most 0.85
      CUDA_VISIBLE_DEVICES=0
      --gpu-memory-utilization 0.53
    Starts first.
`);
  });

  it('has short titles on a narrow terminal', () => {
    const lines = renderAdvice(advice, request, { ...view, width: 60 }).split('\n');
    expect(lines.slice(2, 6).join('\n')).toBe(`  STRATEGY        REFUSED TOO MUCH SHRUNK SLOW FULL
  manual                1        -      -    -  0 %
→ vram_based            -        -      -    - 53 %
  isolation_first       -   1.4 GB 4.8 GB 12.3 53 %`);
    expect(lines.filter((line) => line.length > 60)).toEqual([expect.stringContaining('nvidia-smi')]);
  });

  it('says of an empty fleet that there are no GPUs', () => {
    const nothing = { ...advice, sharing: { ...advice.sharing, gpus: [], services: [] } };
    const empty = { ...request, gpus: [], services: [] };
    expect(renderAdvice(nothing, empty, { ...view, width: 80 })).toBe(
      'request.yaml: 0 services, 0 GPUs\n\nNo GPUs detected\n',
    );
  });
});
