import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import type { PlacementRefusal } from '../../src/core/placement.js';
import type { PlacementRequestInput } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';
import { type GpuInput, gpu, request, type ServiceInput, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

const amd = (overrides: Partial<GpuInput> = {}) =>
  gpu({ index: 1, name: 'RX 7900 XTX', vendor: 'amd', memoryMb: 24560, ...overrides });
const small = (overrides: Partial<GpuInput> = {}) => gpu({ index: 1, name: 'RTX A400', memoryMb: 4094, ...overrides });
const pinnedTo = (index: number) => ({ gpu: { node: 'box', index } });

function refused(
  gpus: readonly GpuInput[],
  services: readonly ServiceInput[],
  overrides: Partial<PlacementRequestInput> = {},
): readonly PlacementRefusal[] {
  return place(request(gpus, services, overrides), { catalogue }).refusals;
}

describe('a service that no vendor here can run', () => {
  it('is refused with what it is built for, what is here, and what would run on it', () => {
    expect(refused([gpu()], [service('whisper', 3000, { frameworks: ['rocm'] })])).toEqual([
      {
        service: 'whisper',
        reason: 'vendor',
        message:
          'whisper runs on AMD GPUs (frameworks: rocm), and the GPUs here are NVIDIA; what would work: cuda in frameworks, or cpuAllowed: true',
      },
    ]);
    expect(refused([gpu(), amd()], [service('tts', 3000, { frameworks: ['openvino', 'cann'] })])).toEqual([
      {
        service: 'tts',
        reason: 'vendor',
        message:
          'tts runs on Intel and Huawei GPUs (frameworks: openvino, cann), and the GPUs here are AMD and NVIDIA; what would work: rocm in frameworks, or cuda in frameworks, or cpuAllowed: true',
      },
    ]);
  });

  it('is refused where its pin is of another vendor, also if it might run on the CPU', () => {
    expect(refused([gpu(), amd()], [service('whisper', 3000, { cpuAllowed: true, ...pinnedTo(1) })])).toEqual([
      {
        service: 'whisper',
        reason: 'vendor',
        message:
          'whisper runs on NVIDIA GPUs (frameworks: cuda), and GPU 1, to which it is pinned, is AMD; what would work: rocm in frameworks, or another pin, or none',
      },
    ]);
  });

  it('is refused where it names no framework', () => {
    expect(refused([gpu()], [service('db', 3000, { frameworks: [] })])).toEqual([
      {
        service: 'db',
        reason: 'vendor',
        message:
          'db is built for no GPU (frameworks: none); what would work: one such as cuda in frameworks, or cpuAllowed: true',
      },
    ]);
  });

  it('is refused where there is no GPU at all', () => {
    expect(refused([], [service('llm', 3000)])).toEqual([
      {
        service: 'llm',
        reason: 'vendor',
        message: 'No GPUs detected, and llm runs on NVIDIA GPUs; what would work: one of those, or cpuAllowed: true',
      },
    ]);
  });
});

describe('a taint', () => {
  const tainted = gpu({ taints: ['workload=llm:NoSchedule'] });

  it.each(['workload=llm:NoSchedule', 'workload=llm', 'workload:NoSchedule', 'workload', '*'])(
    'is tolerated by %s',
    (toleration) => {
      expect(refused([tainted], [service('a', 1000, { tolerations: [toleration] })])).toEqual([]);
    },
  );

  it.each(['workload=llm:NoExecute', 'workload=vision', 'workload:NoExecute', 'work'])(
    'is not tolerated by %s: the message says what would be',
    (toleration) => {
      expect(refused([tainted], [service('a', 1000, { tolerations: [toleration] })])).toEqual([
        {
          service: 'a',
          reason: 'taint',
          message:
            'GPU 0 has the taint workload=llm:NoSchedule, which a does not tolerate; what would work: tolerations: ["workload=llm"], or cpuAllowed: true',
        },
      ]);
    },
  );

  it('of several GPUs is said of the one with the fewest, all of them at once', () => {
    const both = gpu({ index: 1, taints: ['gone:NoExecute', 'workload=llm:NoSchedule'] });
    const [onBoth] = refused([both], [service('a', 1000)]);
    expect(onBoth?.message).toBe(
      'GPU 1 has the taints gone:NoExecute and workload=llm:NoSchedule, which a does not tolerate; what would work: tolerations: ["gone", "workload=llm"], or cpuAllowed: true',
    );
    const [onEither] = refused([both, { ...tainted, index: 2 }], [service('a', 1000)]);
    expect(onEither?.message).toBe(
      'a tolerates none of the 2 GPUs that it could run on: GPU 2 has the taint workload=llm:NoSchedule; what would work: tolerations: ["workload=llm"], or cpuAllowed: true',
    );
  });

  it('keeps a pinned service away too', () => {
    expect(refused([tainted, small()], [service('a', 1000, pinnedTo(0))])[0]).toEqual({
      service: 'a',
      reason: 'taint',
      message:
        'a is pinned to GPU 0 and does not tolerate its taint workload=llm:NoSchedule; what would work: tolerations: ["workload=llm"], or another pin, or none',
    });
  });

  it('that is only preferred is a warning', () => {
    const asked = request([gpu({ taints: ['workload=llm:PreferNoSchedule'] })], [service('a', 1000)]);
    const { warnings, refusals } = place(asked, { catalogue });
    expect({ warnings, refusals }).toEqual({
      warnings: [
        {
          code: 'taint_preferred',
          service: 'a',
          message: 'a is on GPU 0, whose taint workload=llm:PreferNoSchedule would rather keep it away',
        },
      ],
      refusals: [],
    });
  });
});

describe('a GPU that cannot be shared', () => {
  it('because it is exclusive refuses the second, smaller service', () => {
    expect(refused([gpu({ sharing: 'exclusive' })], [service('a', 2000), service('b', 1000)])).toEqual([
      {
        service: 'b',
        reason: 'sharing',
        message:
          'no GPU takes b: GPU 0 is exclusive and has a; what would work: a GPU that is shared, or cpuAllowed: true',
      },
    ]);
  });

  it('and has two pins keeps the one with the higher priority', () => {
    const services = [service('a', 2000, pinnedTo(0)), service('b', 1000, { ...pinnedTo(0), priority: 5 })];
    expect(refused([gpu({ sharing: 'exclusive' }), small()], services)).toEqual([
      {
        service: 'a',
        reason: 'pinned',
        message: 'a is pinned to GPU 0, which is exclusive and has b; what would work: another pin, or none',
      },
    ]);
  });

  it('because a dedicated service is there', () => {
    expect(refused([gpu()], [service('a', 2000, { dedicated: true }), service('b', 1000)])).toEqual([
      {
        service: 'b',
        reason: 'sharing',
        message:
          'no GPU takes b: GPU 0 belongs to a alone (dedicated); what would work: one GPU more, or cpuAllowed: true',
      },
    ]);
  });

  it('because the one that comes is dedicated', () => {
    expect(refused([gpu()], [service('a', 2000), service('b', 1000, { dedicated: true })])).toEqual([
      {
        service: 'b',
        reason: 'sharing',
        message:
          'b shares its GPU with nobody: GPU 0 has a; what would work: one GPU more, or dedicated: false, or cpuAllowed: true',
      },
    ]);
  });

  it('because its compute is given away', () => {
    const services = [
      service('a', 2000, { computeShare: 0.6 }),
      service('b', 1000, { computeShare: 0.3 }),
      service('c', 500, { computeShare: 0.25 }),
    ];
    expect(refused([gpu()], services)).toEqual([
      {
        service: 'c',
        reason: 'sharing',
        message:
          'c needs 0.25 of the compute of a GPU: GPU 0 has 0.1 left beside a and b; what would work: one GPU more, or a smaller computeShare, or cpuAllowed: true',
      },
    ]);
    const tenths = Array.from({ length: 10 }, (_, i) => service(`s${i}`, 10, { computeShare: 0.1 }));
    expect(refused([gpu()], tenths)).toEqual([]);
  });

  it('because its MIG instances are taken, or too small', () => {
    const cut = gpu({
      name: 'A100-80GB',
      memoryMb: 81920,
      sharing: 'mig',
      migInstances: [
        { profile: '3g.40gb', uuid: 'MIG-1' },
        { profile: '1g.10gb', uuid: 'MIG-2' },
      ],
    });
    expect(refused([cut], [service('a', 30000), service('b', 8000), service('c', 4000)])).toEqual([
      {
        service: 'c',
        reason: 'sharing',
        message:
          'c needs 3.9 GB: GPU 0 has no such MIG instance left beside a and b; what would work: a GPU with 3.9 GB free, or other instances, or less memory, or cpuAllowed: true',
      },
    ]);
    expect(refused([cut], [service('a', 60000, pinnedTo(0))])).toEqual([
      {
        service: 'a',
        reason: 'pinned',
        message:
          'a needs 58.6 GB and is pinned to GPU 0, which has no MIG instance of that size; what would work: other instances, or less memory, or another pin, or none',
      },
    ]);
  });
});

describe('memory under refuse', () => {
  const refuse = { overcommit: 'refuse' } as const;

  it('is said with the arithmetic of each GPU', () => {
    const services = [service('a', 20480), service('b', 8192, { minMemoryMb: 6144 })];
    // 24 GB − 1 GB − 20 GB = 3 GB (3,060 MiB).
    expect(refused([gpu({ usedMb: 1024 }), small()], services, refuse)).toEqual([
      {
        service: 'b',
        reason: 'memory',
        message:
          'b needs at least 6 GB: GPU 0 has 3 GB free (24 GB − 1 GB used by others − 20 GB of a), GPU 1 has 4 GB; what would work: a GPU with 6 GB free, or overcommit: warn, or cpuAllowed: true',
      },
    ]);
  });

  it('of many GPUs goes through the first few', () => {
    const gpus = Array.from({ length: 8 }, (_, i) => gpu({ index: i % 4, node: `n${i >> 2}`, memoryMb: 4096 }));
    expect(refused(gpus, [service('a', 20480)], refuse)[0]?.message).toBe(
      'a needs 20 GB: GPU 0 of n0 has 4 GB, GPU 1 of n0 has 4 GB, GPU 2 of n0 has 4 GB, and 5 GPUs more are no better; what would work: a GPU with 20 GB free, or overcommit: warn, or cpuAllowed: true',
    );
  });

  it('is blamed before sharing, with what would mend it', () => {
    const services = [service('a', 20480), service('b', 8192)];
    expect(refused([gpu({ sharing: 'exclusive' }), small()], services, refuse)).toEqual([
      {
        service: 'b',
        reason: 'memory',
        message:
          'b needs 8 GB: GPU 1 has 4 GB, GPU 0 is exclusive and has a; what would work: a GPU with 8 GB free, or overcommit: warn, or cpuAllowed: true',
      },
    ]);
  });

  it('of a pinned service is that of its GPU', () => {
    expect(refused([gpu(), small()], [service('a', 20480, pinnedTo(1))], refuse)).toEqual([
      {
        service: 'a',
        reason: 'memory',
        message:
          'a needs 20 GB and is pinned to GPU 1, which has 4 GB; what would work: overcommit: warn, or another pin, or none',
      },
    ]);
  });

  it('refuses the lower priority, not the larger service', () => {
    const services = [service('large', 20000, { priority: 1 }), service('first', 5000, { priority: 9 })];
    for (const strategy of ['vram_based', 'latency_optimized', 'isolation_first', 'balanced', 'optimal'] as const) {
      const { assignments, refusals } = place(request([gpu()], services, { ...refuse, strategy }), { catalogue });
      expect([assignments.map((each) => each.service), refusals.map((each) => each.service)]).toEqual([
        ['first'],
        ['large'],
      ]);
    }
  });
});

describe('manual', () => {
  const manual = { strategy: 'manual' } as const;

  it('reports what is not pinned, with a pin that would exceed least', () => {
    const services = [service('a', 22000, pinnedTo(0)), service('b', 3000)];
    expect(refused([gpu(), small()], services, manual)).toEqual([
      {
        service: 'b',
        reason: 'pinned',
        message:
          'b is not pinned, and manual places only what is; what would work: gpu: { node: "box", index: 1 }, or another strategy',
      },
    ]);
  });

  it('reports what needs no GPU as well', () => {
    expect(refused([gpu()], [service('db', 3000, { frameworks: ['cpu'] })], manual)).toEqual([
      {
        service: 'db',
        reason: 'pinned',
        message: 'db is not pinned, and manual places only what is; what would work: any other strategy, for the CPU',
      },
    ]);
  });
});
