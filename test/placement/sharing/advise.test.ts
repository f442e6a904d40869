import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseGpuCatalogue } from '../../../src/core/gpu-types.js';
import { checkPlacementRequest, type PlacementRequestInput } from '../../../src/core/placement-request.js';
import { place } from '../../../src/placement/place.js';
import { advise, type SharingAdvice } from '../../../src/placement/sharing/advise.js';

const catalogue = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');

type GpuInput = PlacementRequestInput['gpus'][number];
type ServiceInput = PlacementRequestInput['services'][number];

function gpu(name: string, memoryMb: number, overrides: Partial<GpuInput> = {}): GpuInput {
  return { index: 0, node: 'box', name, vendor: 'nvidia', memoryMb, ...overrides };
}

function service(name: string, memoryMb: number, overrides: Partial<ServiceInput> = {}): ServiceInput {
  return { name, memoryMb, kind: 'llm', frameworks: ['cuda'], ...overrides };
}

function advised(gpus: readonly GpuInput[], services: readonly ServiceInput[]): SharingAdvice {
  const request = checkPlacementRequest(
    { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', gpus, services },
    'a test',
  );
  return advise(request, { catalogue, placement: place(request, { catalogue }) });
}

/** What a reader looks at first, a line for each service. */
function told({ services }: SharingAdvice): readonly string[] {
  return services.map(({ service: name, place: where, vllmArguments, memoryFraction }) =>
    [name, where ?? 'refused', memoryFraction ?? '-', ...vllmArguments].join(' '),
  );
}

/** Mode by mode: whether it can be had, and how many services it holds. */
function options(advice: SharingAdvice, at = 0): readonly string[] {
  return advice.gpus[at]!.options.map(({ mode, supported, holds, recommended }) =>
    [recommended ? '* ' : '', mode, ' ', supported, holds === null ? '' : ` ${holds.text}`].join(''),
  );
}

function commands(advice: SharingAdvice, mode: string, at = 0): readonly string[] {
  return advice.gpus[at]!.options.find((option) => option.mode === mode)!.commands.flatMap(
    ({ where, about, lines }) => [`# ${where}: ${about}`, ...lines],
  );
}

describe('the advice for a Tesla P40 with an LLM and a vector database', () => {
  const advice = advised(
    [gpu('Tesla P40', 24_576)],
    [
      service('llm', 20_890, { critical: true, maxSessions: 10 }),
      service('vector-db', 4096, { kind: 'database', frameworks: ['cpu'] }),
    ],
  );

  it('gives the LLM the GPU and 0.85 of it, and puts the database on the CPU', () => {
    expect(advice).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'SharingAdvice',
      gpus: [
        {
          name: 'Tesla P40',
          vendor: 'nvidia',
          architecture: 'pascal',
          memoryMb: 24_576,
          unifiedMemory: false,
          places: [{ node: 'box', index: 0 }],
          options: [
            {
              mode: 'exclusive',
              title: 'Exclusive',
              supported: 'yes',
              reason: 'every GPU can serve one service alone',
              memoryIsolation: 'full',
              faultIsolation: 'full',
              latencyEffect: 'none',
              recommended: true,
              holds: { services: 1, of: 1, text: '1 of 1' },
              commands: [
                {
                  where: 'host',
                  about: 'Lets one process at a time use GPU 0',
                  lines: ['nvidia-smi -i 0 -c EXCLUSIVE_PROCESS'],
                },
              ],
            },
            {
              mode: 'mig',
              title: 'MIG',
              supported: 'no',
              reason: 'Tesla P40 (Pascal): MIG came with Ampere',
              memoryIsolation: 'full',
              faultIsolation: 'full',
              latencyEffect: 'none',
              recommended: false,
              holds: null,
              commands: [],
            },
            {
              mode: 'mps',
              title: 'MPS',
              supported: 'no',
              reason:
                'Tesla P40 (Pascal): before Volta all MPS clients share one address space, and the device plugin does not offer it',
              memoryIsolation: 'partial',
              faultIsolation: 'none',
              latencyEffect: 'low',
              recommended: false,
              holds: null,
              commands: [],
            },
            {
              mode: 'time-slicing',
              title: 'Time-slicing',
              supported: 'yes',
              reason: 'Tesla P40 (Pascal): the driver of every NVIDIA GPU lets processes take turns',
              memoryIsolation: 'none',
              faultIsolation: 'partial',
              latencyEffect: 'high',
              recommended: false,
              holds: { services: 1, of: 1, text: '1 of 1' },
              commands: [],
            },
            {
              mode: 'memory-limit',
              title: 'Memory limits',
              supported: 'yes',
              reason: 'the engine holds itself to it, whatever the GPU',
              memoryIsolation: 'partial',
              faultIsolation: 'partial',
              latencyEffect: 'medium',
              recommended: false,
              holds: { services: 1, of: 1, text: '1 of 1' },
              commands: [],
            },
            {
              mode: 'cpu',
              title: 'CPU',
              supported: 'yes',
              reason: 'a service that is built for the CPU needs no GPU',
              memoryIsolation: 'full',
              faultIsolation: 'full',
              latencyEffect: 'high',
              recommended: false,
              holds: { services: 0, of: 1, text: '0 of 1' },
              commands: [],
            },
          ],
          recommendation: {
            mode: 'exclusive',
            rule: 'nothing-to-share',
            reason: 'It serves llm alone, which has all of it.',
          },
          warnings: ['Tesla P40 has no hardware isolation between services: neither MIG nor MPS.'],
        },
      ],
      services: [
        {
          service: 'llm',
          kind: 'llm',
          place: 'GPU 0',
          memoryBudgetMb: 20_890,
          memoryFraction: 0.85,
          recommendedFraction: 0.85,
          vllmArguments: ['--gpu-memory-utilization', '0.85', '--max-num-seqs', '10'],
          environment: { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: '0' },
          notes: [],
        },
        {
          service: 'vector-db',
          kind: 'database',
          place: 'CPU',
          memoryBudgetMb: 4096,
          memoryFraction: null,
          recommendedFraction: null,
          vllmArguments: [],
          environment: {},
          notes: ['On the CPU it leaves the memory of the GPUs to models.'],
        },
      ],
    });
  });
});

describe('the advice for a Jetson Thor with an LLM and what stands around it', () => {
  const advice = advised(
    [gpu('Jetson AGX Thor', 131_072, { usedMb: 15_360 })],
    [
      service('llm', 91_751, { critical: true, maxSessions: 20 }),
      service('vector-db', 12_288, { kind: 'database' }),
      service('embeddings', 6144, { kind: 'embedding' }),
      service('guardrails', 4096, { kind: 'other' }),
    ],
  );

  it('holds each engine to its part of the memory of the system', () => {
    expect(options(advice)).toEqual([
      'exclusive yes 1 of 4',
      'mig no',
      'mps no',
      'time-slicing yes 4 of 4',
      '* memory-limit yes 4 of 4',
      'cpu yes 0 of 4',
    ]);
    expect(advice.gpus[0]!.recommendation).toEqual({
      mode: 'memory-limit',
      rule: 'unified-memory',
      reason:
        'Its 128 GB are memory of the system, of which others use 15 GB, and it has neither MIG nor MPS: each engine must hold itself to its part.',
    });
    expect(advice.gpus[0]!.warnings).toEqual([
      'Jetson AGX Thor has no hardware isolation between services: neither MIG nor MPS.',
      'Nothing enforces a memory limit: an engine that is told too much takes it from the others.',
    ]);
    expect(told(advice)).toEqual([
      'llm GPU 0 0.7 --gpu-memory-utilization 0.70 --max-num-seqs 20',
      'vector-db GPU 0 0.09',
      'embeddings GPU 0 0.04 --gpu-memory-utilization 0.04',
      'guardrails GPU 0 0.03',
    ]);
    expect(advice.services[0]!.recommendedFraction).toBe(0.7);
  });
});

describe('the advice for an RTX PRO 4000 of 20 GB', () => {
  const advice = advised(
    [gpu('RTX PRO 4000', 20_480)],
    [
      service('llm', 17_408, { critical: true, maxSessions: 8 }),
      service('vector-db', 4096, { kind: 'database', cpuAllowed: true, frameworks: ['cpu'] }),
    ],
  );

  it('gives the LLM 0.85 for 8 sessions, with MPS possible, and says that the part is known with more', () => {
    expect(told(advice)).toEqual(['llm GPU 0 0.85 --gpu-memory-utilization 0.85 --max-num-seqs 8', 'vector-db CPU -']);
    expect(options(advice)).toEqual([
      '* exclusive yes 1 of 1',
      'mig no',
      'mps yes 1 of 1',
      'time-slicing yes 1 of 1',
      'memory-limit yes 1 of 1',
      'cpu yes 0 of 1',
    ]);
    expect(advice.gpus[0]!.warnings).toEqual([
      'The request says 20 GB, which counts; RTX PRO 4000 is known with 24 GB; RTX-4000-Ada has that much.',
    ]);
    expect(advice.services[1]!.notes).toEqual(['On the CPU it leaves the memory of the GPUs to models.']);
  });
});

describe('the advice for a homelab of four nodes and three vendors', () => {
  const advice = advised(
    [
      gpu('Strix Halo', 65_536, { node: 'strix', vendor: 'amd', taints: ['dedicated=llm:NoSchedule'] }),
      gpu('RTX 2070', 8192, { node: 'tower' }),
      gpu('Radeon 680M', 12_288, { node: 'mini', vendor: 'amd' }),
      gpu('Intel Arc', 16_384, { node: 'arc', vendor: 'intel' }),
    ],
    [
      service('vllm', 62_260, { frameworks: ['rocm'], critical: true, tolerations: ['dedicated=llm:NoSchedule'] }),
      service('whisper', 4096, { kind: 'speech' }),
      service('xtts', 4096, { kind: 'speech' }),
      service('bge-embeddings', 9831, { kind: 'embedding', frameworks: ['rocm'] }),
      service('bge-reranker', 13_108, { kind: 'reranker', frameworks: ['oneapi'] }),
    ],
  );

  it('says of each service the part of its GPU', () => {
    expect(told(advice)).toEqual([
      'vllm GPU 0 of strix 0.95 --gpu-memory-utilization 0.95',
      'whisper GPU 0 of tower 0.5',
      'xtts GPU 0 of tower 0.5',
      'bge-embeddings GPU 0 of mini 0.8 --gpu-memory-utilization 0.80',
      'bge-reranker GPU 0 of arc 0.8 --gpu-memory-utilization 0.80',
    ]);
    expect(advice.services.map(({ recommendedFraction }) => recommendedFraction)).toEqual([0.95, null, null, 0.8, 0.8]);
    expect(advice.services.flatMap(({ notes }) => notes)).toEqual([]);
    expect(advice.services.map(({ environment }) => environment)).toEqual([
      { HIP_VISIBLE_DEVICES: '0' },
      {
        CUDA_VISIBLE_DEVICES: '0',
        CUDA_MPS_PIPE_DIRECTORY: '/tmp/nvidia-mps-0',
        CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '100',
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: '0=4096M',
      },
      {
        CUDA_VISIBLE_DEVICES: '0',
        CUDA_MPS_PIPE_DIRECTORY: '/tmp/nvidia-mps-0',
        CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '100',
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: '0=4096M',
      },
      { HIP_VISIBLE_DEVICES: '0' },
      { ZE_AFFINITY_MASK: '0' },
    ]);
  });

  it('shares only the RTX 2070, by MPS, and says what a fault does there', () => {
    expect(advice.gpus.map(({ name, recommendation }) => `${name}: ${recommendation.mode}`)).toEqual([
      'Strix Halo: exclusive',
      'RTX 2070: mps',
      'Radeon 680M: exclusive',
      'Intel Arc: exclusive',
    ]);
    expect(advice.gpus[1]!.recommendation.reason).toBe(
      'It has no MIG, and its 2 services are CUDA processes of known kinds: their kernels run side by side, with limits of memory and threads.',
    );
    expect(advice.gpus[1]!.warnings).toEqual([
      'A fatal fault of one MPS client ends every client on that GPU: share it only among services that may fail together.',
      'A container is a client only with the pipe directory mounted and the IPC namespace of the host.',
      'The device plugin of Kubernetes gives MPS clients equal parts, and does not combine MPS with MIG.',
      'The budgets on GPU 0 of tower leave 0 MiB; the contexts of 2 processes take 500 MiB or more.',
    ]);
    expect(commands(advice, 'mps', 1)).toEqual([
      '# host: Starts the MPS server of GPU 0 of tower',
      'nvidia-smi -i 0 -c EXCLUSIVE_PROCESS',
      'export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0',
      'export CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps-0 CUDA_MPS_LOG_DIRECTORY=/tmp/nvidia-mps-0',
      'mkdir -p /tmp/nvidia-mps-0',
      'nvidia-cuda-mps-control -d',
      'echo "set_default_device_pinned_mem_limit 0 4096M" | nvidia-cuda-mps-control',
      'echo "set_default_active_thread_percentage 100" | nvidia-cuda-mps-control',
      '# kubernetes: Shares each GPU by MPS, in equal parts of memory and threads',
      "cat > shared.yaml <<'END'",
      'version: v1',
      'sharing:',
      '  mps:',
      '    resources:',
      '    - name: nvidia.com/gpu',
      '      replicas: 2',
      'END',
      'helm upgrade -i nvdp nvdp/nvidia-device-plugin -n nvidia-device-plugin --create-namespace --set-file config.map.shared=shared.yaml',
    ]);
  });
});

describe('the advice for an H200 with a critical LLM and others', () => {
  const services = [
    service('llm', 68_000, { critical: true, maxSessions: 64 }),
    service('embed', 15_000, { kind: 'embedding' }),
    service('custom', 30_000, { kind: 'other' }),
  ];

  it('cuts it into instances where they may lie, and counts fractions in them', () => {
    const advice = advised([gpu('NVIDIA H200', 143_771)], services);
    expect(options(advice)).toEqual([
      'exclusive yes 1 of 3',
      '* mig yes 3 of 3 (1g.18gb, 1g.35gb, 3g.71gb)',
      'mps yes 3 of 3',
      'time-slicing yes 3 of 3',
      'memory-limit yes 3 of 3',
      'cpu yes 0 of 3',
    ]);
    expect(advice.gpus[0]!.recommendation.reason).toBe(
      'llm is critical and not alone: instances keep memory, faults and compute units apart (3g.71gb, 1g.18gb, 1g.35gb).',
    );
    expect(commands(advice, 'mig')).toEqual([
      '# host: Cuts GPU 0 into instances, and lists their UUIDs',
      'nvidia-smi -i 0 -mig 1',
      'nvidia-smi mig -i 0 -cgi 3g.71gb:4,1g.35gb:2,1g.18gb:1 -C',
      'nvidia-smi -L',
      '# kubernetes: Advertises each profile as nvidia.com/mig-PROFILE',
      'helm upgrade -i nvdp nvdp/nvidia-device-plugin -n nvidia-device-plugin --create-namespace --set migStrategy=mixed',
    ]);
    expect(told(advice)).toEqual([
      'llm GPU 0 0.94 --gpu-memory-utilization 0.94 --max-num-seqs 64',
      'embed GPU 0 0.91 --gpu-memory-utilization 0.91',
      'custom GPU 0 0.9',
    ]);
    expect(advice.services[0]!.notes).toEqual(['Its part is of the 70 GB of its instance, 3g.71gb.']);
  });

  it('uses the instances that are there, by their UUIDs', () => {
    const migInstances = [
      { profile: '4g.71gb', uuid: 'MIG-a' },
      { profile: '1g.35gb', uuid: 'MIG-b' },
      { profile: '1g.18gb', uuid: 'MIG-c' },
    ];
    const advice = advised([gpu('NVIDIA H200', 143_771, { sharing: 'mig', migInstances })], services);
    expect(advice.services.map(({ environment }) => environment)).toEqual([
      { CUDA_VISIBLE_DEVICES: 'MIG-a' },
      { CUDA_VISIBLE_DEVICES: 'MIG-c' },
      { CUDA_VISIBLE_DEVICES: 'MIG-b' },
    ]);
    expect(commands(advice, 'mig')).toEqual([]);
    expect(advice.gpus[0]!.warnings).toEqual(['Instances cannot talk to each other: no model spans two of them.']);
  });

  it('counts two LLMs of 60 GB as two halves', () => {
    const advice = advised(
      [gpu('NVIDIA H200', 143_771)],
      [service('a', 61_440, { critical: true }), service('b', 61_440), service('c', 61_440)],
    );
    expect(options(advice)[1]).toBe('mig yes 2 of 3 (3g.71gb × 2)');
  });

  it('says what Ampere needs besides, and who is on the GPU already', () => {
    const advice = advised([gpu('A100-80GB', 81_920, { usedMb: 2048 })], [services[1]!, services[2]!]);
    expect(advice.gpus[0]!.recommendation.reason).toBe(
      'It is not known what custom does, and instances keep its memory and faults to itself (1g.20gb, 3g.40gb).',
    );
    expect(advice.gpus[0]!.warnings).toEqual([
      'MIG is switched on while nothing uses the GPU: stop its processes first.',
      'On Ampere the switch needs a reset of the GPU, or a restart where it is passed through.',
      'Instances cannot talk to each other: no model spans two of them.',
      'Others use 2 GB of GPU 0; they end, or move to an instance.',
    ]);
  });
});

describe('the mode that is recommended', () => {
  const vision = service('yolo', 2048, { kind: 'vision' });
  const embed = service('embed', 2048, { kind: 'embedding' });
  const other = service('tool', 2048, { kind: 'other' });
  const llm = service('llm', 8192, { critical: true });
  const amd = (one: ServiceInput): ServiceInput => ({ ...one, frameworks: ['rocm'] });
  const intel = (one: ServiceInput): ServiceInput => ({ ...one, frameworks: ['oneapi'] });

  it.each<readonly [about: string, gpu: GpuInput, services: readonly ServiceInput[], mode: string, rule: string]>([
    ['no service', gpu('L4', 23_034), [], 'exclusive', 'nothing-to-share'],
    ['one service on a GPU with MIG', gpu('H100', 81_559), [llm], 'exclusive', 'nothing-to-share'],
    ['engines on Pascal', gpu('Tesla P40', 24_576), [llm, embed], 'memory-limit', 'engines-only'],
    ['mixed services on Pascal', gpu('Tesla P40', 24_576), [llm, vision], 'time-slicing', 'in-turns'],
    ['CUDA processes of known kinds on Ampere', gpu('RTX A5500', 24_564), [llm, vision], 'mps', 'known-cuda-processes'],
    ['one of an unknown kind', gpu('RTX A5500', 24_564), [llm, other], 'time-slicing', 'in-turns'],
    ['a critical LLM on A30', gpu('A30', 24_576), [llm, vision], 'mig', 'hardware-isolation'],
    ['nothing critical on A30', gpu('A30', 24_576), [embed, vision], 'mps', 'known-cuda-processes'],
    [
      'engines on MI300X',
      gpu('MI300X', 196_592, { vendor: 'amd' }),
      [amd(llm), amd(embed)],
      'memory-limit',
      'engines-only',
    ],
    [
      'mixed services on Arc',
      gpu('Arc A770', 16_384, { vendor: 'intel' }),
      [intel(llm), intel(vision)],
      'time-slicing',
      'in-turns',
    ],
    [
      'several on Gaudi',
      gpu('Gaudi3', 131_072, { vendor: 'intel' }),
      [intel(llm), intel(embed)],
      'exclusive',
      'one-process',
    ],
    [
      'several on Strix Halo',
      gpu('Strix Halo', 65_536, { vendor: 'amd' }),
      [amd(llm), amd(vision)],
      'memory-limit',
      'unified-memory',
    ],
    ['a GPU of which nothing is known', gpu('', 24_576), [llm, vision], 'time-slicing', 'in-turns'],
  ])('%s', (_, one, services, mode, rule) => {
    const { recommendation, options: all } = advised([one], services).gpus[0]!;
    expect([recommendation.mode, recommendation.rule]).toEqual([mode, rule]);
    expect(recommendation.reason).toMatch(/^[A-Za-z].*\.$/);
    expect(all.filter(({ recommended }) => recommended).map((option) => option.mode)).toEqual([mode]);
  });

  it('is never one that the GPU cannot do, for any part of the catalogue', () => {
    const frameworks = ['cuda', 'rocm', 'oneapi', 'cann'] as const;
    const mixes = [[llm], [llm, embed], [llm, vision], [embed, vision, other]];
    for (const { name, vendor } of catalogue.entries) {
      for (const mix of mixes) {
        const services = mix.map((one) => ({ ...one, memoryMb: 512, frameworks: [...frameworks] }));
        const { options: all } = advised([gpu(name, 65_536, { vendor })], services).gpus[0]!;
        const recommended = all.filter((option) => option.recommended);
        expect(
          recommended.map(({ supported }) => supported),
          name,
        ).toEqual(['yes']);
      }
    }
  });

  it('is one for GPUs that are alike, with commands for those that are shared', () => {
    const two = [0, 1].map((index) => gpu('RTX A5500', 24_564, { index }));
    const advice = advised(two, [
      service('llm', 20_000, { critical: true, gpu: { node: 'box', index: 0 } }),
      service('yolo', 2048, { kind: 'vision', computeShare: 0.3, gpu: { node: 'box', index: 1 } }),
      service('clip', 2048, { kind: 'embedding', gpu: { node: 'box', index: 1 } }),
    ]);
    expect(advice.gpus).toHaveLength(1);
    expect(advice.gpus[0]!.places).toEqual([
      { node: 'box', index: 0 },
      { node: 'box', index: 1 },
    ]);
    expect(commands(advice, 'mps').filter((line) => line.includes('nvidia-smi'))).toEqual([
      'nvidia-smi -i 1 -c EXCLUSIVE_PROCESS',
    ]);
    expect(advice.services.map(({ environment }) => environment)).toEqual([
      { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: '0' },
      {
        CUDA_VISIBLE_DEVICES: '0',
        CUDA_MPS_PIPE_DIRECTORY: '/tmp/nvidia-mps-1',
        CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '30',
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: '0=2048M',
      },
      {
        CUDA_VISIBLE_DEVICES: '0',
        CUDA_MPS_PIPE_DIRECTORY: '/tmp/nvidia-mps-1',
        CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '100',
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: '0=2048M',
      },
    ]);
  });
});

describe('the commands of other vendors', () => {
  it('share an Intel GPU by an argument of its device plugin', () => {
    const advice = advised(
      [gpu('Arc A770', 16_384, { vendor: 'intel' })],
      ['a', 'b', 'c'].map((name) => service(name, 4096, { kind: 'vision', frameworks: ['openvino'] })),
    );
    expect(commands(advice, 'time-slicing')).toEqual([
      '# kubernetes: Advertises each GPU 3 times: an argument of the Intel GPU device plugin',
      '-shared-dev-num=3',
    ]);
  });

  it('cut an AMD GPU into its dies instead of sharing it', () => {
    const partitions = (name: string) => {
      const services = ['a', 'b'].map((each) => service(each, 8192, { frameworks: ['rocm'] }));
      return commands(advised([gpu(name, 131_072, { vendor: 'amd' })], services), 'exclusive').slice(1);
    };
    expect(partitions('MI300X')).toEqual([
      'amd-smi set --gpu 0 --compute-partition CPX',
      'amd-smi set --gpu 0 --memory-partition NPS4',
    ]);
    expect(partitions('MI355X')[1]).toBe('amd-smi set --gpu 0 --memory-partition NPS2');
    expect(partitions('MI300A')).toEqual(['amd-smi set --gpu 0 --compute-partition CPX']);
    expect(partitions('MI210')).toEqual([]);
  });
});

describe('what a reader is told of single services', () => {
  it('that an LLM alone takes more than is wise, or could take more', () => {
    const notes = (memoryMb: number) => advised([gpu('L4', 24_000)], [service('llm', memoryMb)]).services[0]!.notes;
    expect(notes(22_800)).toEqual([
      'It takes 0.95; 0.85 is the most for an LLM that has a GPU with memory of its own for itself: the rest is for the context of the driver, for activations beyond what the engine measured, and for a screen.',
    ]);
    expect(notes(12_000)).toEqual(['It could take 0.85 (19.9 GB), for a larger cache of keys and values.']);
    expect(notes(20_400)).toEqual([]);
  });

  it('that a database takes memory of a small GPU which the CPU has', () => {
    const database = service('milvus', 4096, { kind: 'database', cpuAllowed: true });
    expect(advised([gpu('RTX 2070', 8192)], [database]).services[0]!.notes).toEqual([
      'A GPU of 8 GB is small: on the CPU it would leave its memory to models.',
    ]);
    expect(advised([gpu('L40S', 46_068)], [database]).services[0]!.notes).toEqual([]);
  });

  it('that it was refused', () => {
    const advice = advised([gpu('L4', 24_000)], [service('llm', 8192, { frameworks: ['rocm'] })]);
    expect(advice.services[0]).toMatchObject({ place: null, notes: ['It was refused: the placement says why.'] });
  });

  it('names the device as its vendor counts, on a node of several vendors', () => {
    const mixed = [gpu('RTX 2070', 8192), gpu('Radeon 680M', 12_288, { index: 1, vendor: 'amd' })];
    const { services } = advised(mixed, [service('bge', 6000, { kind: 'embedding', frameworks: ['rocm'] })]);
    expect(services.map(({ place, environment }) => [place, environment])).toEqual([
      ['GPU 1', { HIP_VISIBLE_DEVICES: '0' }],
    ]);
  });

  it('rounds parts down, and tells vLLM no part above 1', () => {
    expect(told(advised([gpu('L4', 24_000)], [service('llm', 20_398)]))).toEqual([
      'llm GPU 0 0.84 --gpu-memory-utilization 0.84',
    ]);
    const over = advised([gpu('L4', 24_000)], [service('llm', 36_000, { maxSessions: 4 })]);
    expect(told(over)).toEqual(['llm GPU 0 1.5 --max-num-seqs 4']);
    expect(over.gpus[0]!.warnings).toEqual(['The budgets on GPU 0 add up to 35.2 GB, of 23.4 GB.']);
  });
});

describe('a request that has nothing to advise about', () => {
  it('without GPUs, is answered for its services', () => {
    expect(advised([], [service('db', 1024, { kind: 'database', frameworks: ['cpu'] })])).toEqual({
      apiVersion: 'gpumix/v1',
      kind: 'SharingAdvice',
      gpus: [],
      services: [
        {
          service: 'db',
          kind: 'database',
          place: 'CPU',
          memoryBudgetMb: 1024,
          memoryFraction: null,
          recommendedFraction: null,
          vllmArguments: [],
          environment: {},
          notes: [],
        },
      ],
    });
  });

  it('that sets another mode than what suits, hears so', () => {
    const set = gpu('RTX A5500', 24_564, { sharing: 'time-slicing' });
    const services = [service('llm', 8192), service('yolo', 2048, { kind: 'vision' })];
    expect(advised([set], services).gpus[0]!.warnings.at(-1)).toBe('The request sets GPU 0 to time-slicing.');
  });
});
