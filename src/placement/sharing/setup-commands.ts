import type { GpuVendor } from '../../core/gpu-types.js';
import type { SharingModeName } from '../../core/placement-request.js';
import { mpsDirectory } from '../mps-client.js';

/**
 * What a person types to set a sharing mode up, on the machine itself and for a Kubernetes node.
 *
 * Sources: nvidia-smi and nvidia-cuda-mps-control manuals, the READMEs of the NVIDIA, AMD and Intel device plugins,
 * amd-smi of ROCm 6.4 and later.
 */
export type SetupStep = {
  readonly where: 'host' | 'kubernetes';
  /** What these lines do, on which machine. */
  readonly about: string;
  /** Of a shell. */
  readonly lines: readonly string[];
};

/** One GPU with what is to run on it. */
export type SetupGpu = {
  readonly index: number;
  /** As the software of its vendor counts, which is what commands take. */
  readonly vendorIndex: number;
  readonly node: string;
  readonly services: readonly SetupService[];
  /** MIG instances to make, as `-cgi` takes them: `3g.71gb:4`; null = they are there, or do not fit. */
  readonly newInstances: readonly string[] | null;
};

export type SetupService = {
  readonly name: string;
  readonly budgetMb: number;
  /** Of the threads of the GPU, 1 to 100. */
  readonly threadPercentage: number;
};

export type SetupInput = {
  readonly vendor: GpuVendor;
  /** The node's name is said where the request has several. */
  readonly hasSeveralNodes: boolean;
  /** AMD's partitions of these GPUs; null = none. */
  readonly partitions: { readonly compute: string; readonly memory: string | null } | null;
  readonly gpus: readonly SetupGpu[];
};

type Setup = (input: SetupInput) => readonly SetupStep[];

/** The lines that make a mode so; empty where nothing is to be done. */
export const setupCommands = {
  exclusive: (input) => {
    if (input.vendor === 'amd') return amdPartitions(input);
    if (input.vendor !== 'nvidia') return [];
    return input.gpus
      .filter(({ services }) => services.length === 1)
      .map((gpu) =>
        host(gpu, input.hasSeveralNodes, (title) => `Lets one process at a time use ${title}`, [
          `nvidia-smi -i ${gpu.vendorIndex} -c EXCLUSIVE_PROCESS`,
        ]),
      );
  },
  mig: ({ gpus, hasSeveralNodes }) => {
    const cut = gpus.flatMap((gpu) => (gpu.newInstances === null ? [] : [{ gpu, instances: gpu.newInstances }]));
    if (cut.length === 0) return [];
    return [
      ...cut.map(({ gpu, instances }) =>
        host(gpu, hasSeveralNodes, (title) => `Cuts ${title} into instances, and lists their UUIDs`, [
          `nvidia-smi -i ${gpu.vendorIndex} -mig 1`,
          `nvidia-smi mig -i ${gpu.vendorIndex} -cgi ${instances.join(',')} -C`,
          'nvidia-smi -L',
        ]),
      ),
      {
        where: 'kubernetes',
        about: 'Advertises each profile as nvidia.com/mig-PROFILE',
        lines: [`${helmUpgrade} --set migStrategy=mixed`],
      },
    ];
  },
  mps: ({ gpus, hasSeveralNodes }) => [
    ...gpus
      .filter(({ services }) => services.length > 0)
      .map((gpu) => {
        const largest = (each: (service: SetupService) => number) => Math.max(...gpu.services.map(each));
        return host(gpu, hasSeveralNodes, (title) => `Starts the MPS server of ${title}`, [
          `nvidia-smi -i ${gpu.vendorIndex} -c EXCLUSIVE_PROCESS`,
          `export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=${gpu.vendorIndex}`,
          `export CUDA_MPS_PIPE_DIRECTORY=${mpsDirectory(gpu.vendorIndex)} CUDA_MPS_LOG_DIRECTORY=${mpsDirectory(gpu.vendorIndex)}`,
          `mkdir -p ${mpsDirectory(gpu.vendorIndex)}`,
          'nvidia-cuda-mps-control -d',
          // The server numbers the GPUs that it sees from 0.
          `echo "set_default_device_pinned_mem_limit 0 ${largest(({ budgetMb }) => budgetMb)}M" | nvidia-cuda-mps-control`,
          `echo "set_default_active_thread_percentage ${largest(({ threadPercentage }) => threadPercentage)}" | nvidia-cuda-mps-control`,
        ]);
      }),
    ...devicePlugin(gpus, 'mps', 'Shares each GPU by MPS, in equal parts of memory and threads'),
  ],
  'time-slicing': ({ vendor, gpus, hasSeveralNodes }) => {
    const replicas = mostServices(gpus);
    if (replicas < 2) return [];
    if (vendor === 'nvidia') {
      return [
        ...gpus
          .filter(({ services }) => services.length > 1)
          .map((gpu) =>
            host(gpu, hasSeveralNodes, (title) => `Lets any process use ${title}`, [
              `nvidia-smi -i ${gpu.vendorIndex} -c DEFAULT`,
            ]),
          ),
        ...devicePlugin(gpus, 'timeSlicing', 'Shares each GPU in turns, without limits of memory'),
      ];
    }
    if (vendor !== 'intel') return [];
    return [
      {
        where: 'kubernetes',
        about: `Advertises each GPU ${replicas} times: an argument of the Intel GPU device plugin`,
        lines: [`-shared-dev-num=${replicas}`],
      },
    ];
  },
  // The arguments of the engines are the whole of it; they stand with the services.
  'memory-limit': () => [],
  cpu: () => [],
} satisfies Record<SharingModeName, Setup>;

const helmUpgrade = 'helm upgrade -i nvdp nvdp/nvidia-device-plugin -n nvidia-device-plugin --create-namespace';

function host(
  gpu: SetupGpu,
  hasSeveralNodes: boolean,
  about: (title: string) => string,
  lines: readonly string[],
): SetupStep {
  return { where: 'host', about: about(`GPU ${gpu.index}${hasSeveralNodes ? ` of ${gpu.node}` : ''}`), lines };
}

/** Where several services are on one GPU: a partition for each of them, which the next request lists as a GPU. */
function amdPartitions({ partitions, gpus, hasSeveralNodes }: SetupInput): readonly SetupStep[] {
  if (partitions === null) return [];
  return gpus
    .filter(({ services }) => services.length > 1)
    .map((gpu) =>
      host(
        gpu,
        hasSeveralNodes,
        (title) => `Makes each die of ${title} a GPU of its own; detect the GPUs anew afterwards`,
        [
          `amd-smi set --gpu ${gpu.vendorIndex} --compute-partition ${partitions.compute}`,
          ...(partitions.memory === null
            ? []
            : [`amd-smi set --gpu ${gpu.vendorIndex} --memory-partition ${partitions.memory}`]),
        ],
      ),
    );
}

function mostServices(gpus: readonly SetupGpu[]): number {
  return Math.max(0, ...gpus.map(({ services }) => services.length));
}

/** The device plugin divides all GPUs of a node alike, so for the GPU with the most services. */
function devicePlugin(gpus: readonly SetupGpu[], sharing: 'mps' | 'timeSlicing', about: string): readonly SetupStep[] {
  const replicas = mostServices(gpus);
  if (replicas < 2) return [];
  return [
    {
      where: 'kubernetes',
      about,
      lines: [
        "cat > shared.yaml <<'END'",
        'version: v1',
        'sharing:',
        `  ${sharing}:`,
        '    resources:',
        '    - name: nvidia.com/gpu',
        `      replicas: ${replicas}`,
        'END',
        `${helmUpgrade} --set-file config.map.shared=shared.yaml`,
      ],
    },
  ];
}
