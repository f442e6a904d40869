import { type GpuCatalogue, type GpuVendor, gpuByName, vendorNames } from '../../core/gpu-types.js';
import type { PlacementGpu, SharingModeName } from '../../core/placement-request.js';
import { migProfilesOf } from './mig-geometry.js';

/**
 * How several services can use one GPU, what keeps them apart, and which GPUs can do it.
 *
 * MIG is a property of the part: two GPUs of one architecture differ in it, so the catalogue says which. All else
 * follows from the architecture and the vendor.
 */

/** How strongly a mode does something, in a word, and what that means for a reader. */
export type SharingProperty = { readonly level: 'full' | 'partial' | 'none'; readonly about: string };

export type LatencyEffect = { readonly level: 'none' | 'low' | 'medium' | 'high'; readonly about: string };

export type SharingMode = {
  readonly title: string;
  /** What it is, in one sentence. */
  readonly about: string;
  /** Whether a service can take memory that another counts on, or read it. */
  readonly memoryIsolation: SharingProperty;
  /** Whether a crash of one service ends another. */
  readonly faultIsolation: SharingProperty;
  /** Whether a service has its part of the compute units whatever the others do. */
  readonly computeIsolation: SharingProperty;
  /** What sharing adds to the latency of a service. */
  readonly latencyEffect: LatencyEffect;
};

export const sharingModes = {
  exclusive: {
    title: 'Exclusive',
    about: 'One service has the whole GPU.',
    memoryIsolation: { level: 'full', about: 'Nobody else uses its memory.' },
    faultIsolation: { level: 'full', about: 'A fault ends nothing but the service itself.' },
    computeIsolation: { level: 'full', about: 'Nobody else uses its compute units.' },
    latencyEffect: { level: 'none', about: 'Nothing waits for another service.' },
  },
  mig: {
    title: 'MIG',
    about: 'The hardware cuts the GPU into instances with memory, cache and compute units of their own.',
    memoryIsolation: { level: 'full', about: 'An instance cannot use or read the memory of another.' },
    faultIsolation: { level: 'full', about: 'A fault stays in its instance.' },
    computeIsolation: { level: 'full', about: 'Each instance has compute units and bandwidth of its own.' },
    latencyEffect: { level: 'none', about: 'Steady, at the speed of the slice; power and PCIe are still shared.' },
  },
  mps: {
    title: 'MPS',
    about: 'One CUDA server runs the kernels of several processes at the same time.',
    memoryIsolation: { level: 'partial', about: 'Address spaces are separate; a limit for each client can be set.' },
    faultIsolation: { level: 'none', about: 'A fatal fault of one client ends every client on the GPU.' },
    computeIsolation: {
      level: 'partial',
      about: 'A client can be held to a percentage of threads; bandwidth is shared.',
    },
    latencyEffect: { level: 'low', about: 'Kernels run side by side, without a switch of context between them.' },
  },
  'time-slicing': {
    title: 'Time-slicing',
    about: 'Processes take turns on the whole GPU, as its driver does for any processes on it.',
    memoryIsolation: { level: 'none', about: 'Whoever allocates first has the memory; the next finds too little.' },
    faultIsolation: { level: 'partial', about: 'Processes fail alone, but a reset of the GPU ends all of them.' },
    computeIsolation: { level: 'none', about: 'Turns are equal, whatever a service needs.' },
    latencyEffect: { level: 'high', about: 'A request waits for the turns of the others.' },
  },
  'memory-limit': {
    title: 'Memory limits',
    about:
      'Each engine holds itself to a part of the memory (gpu_memory_utilization); turns are taken as in time-slicing.',
    memoryIsolation: { level: 'partial', about: 'Kept by the engines themselves; nothing enforces it.' },
    faultIsolation: { level: 'partial', about: 'Processes fail alone, but a reset of the GPU ends all of them.' },
    computeIsolation: { level: 'none', about: 'Turns are equal, whatever a service needs.' },
    latencyEffect: {
      level: 'medium',
      about: 'A request waits for the turns of the others, but memory never runs short.',
    },
  },
  cpu: {
    title: 'CPU',
    about: 'The service runs without a GPU.',
    memoryIsolation: { level: 'full', about: 'It takes no memory of a GPU.' },
    faultIsolation: { level: 'full', about: 'It shares no GPU with anybody.' },
    computeIsolation: { level: 'full', about: 'It takes no compute units of a GPU.' },
    latencyEffect: { level: 'high', about: 'Models run many times slower; a database hardly notices.' },
  },
} satisfies Record<SharingModeName, SharingMode>;

/** The modes that depend on the hardware; the others run wherever the services do. */
const hardwareModes = ['mig', 'mps', 'time-slicing'] as const;
type HardwareMode = (typeof hardwareModes)[number];

/** Families of GPUs that share alike. Jetson modules are one, since their driver is another than that of cards. */
export const sharingFamilies = [
  'jetson',
  'kepler',
  'maxwell',
  'pascal',
  'volta',
  'turing',
  'ampere',
  'ada',
  'hopper',
  'blackwell',
  'cdna',
  'rdna',
  'gcn',
  'xe',
  'gaudi',
  'ascend',
] as const;
export type SharingFamily = (typeof sharingFamilies)[number];

/** `part`: some parts of the family can, and the catalogue says which. */
export type FamilySupport = { readonly answer: 'yes' | 'no' | 'unknown' | 'part'; readonly reason: string };

type FamilyRow = { readonly vendor: GpuVendor; readonly title: string } & Readonly<Record<HardwareMode, FamilySupport>>;

const yes = (reason: string): FamilySupport => ({ answer: 'yes', reason });
const no = (reason: string): FamilySupport => ({ answer: 'no', reason });
const part = (reason: string): FamilySupport => ({ answer: 'part', reason });

const tooOldForMig = no('MIG came with Ampere');
const oldMps = no('before Volta all MPS clients share one address space, and the device plugin does not offer it');
const mpsRuns = yes('MPS runs on Volta and later');
const nvidiaTurns = yes('the driver of every NVIDIA GPU lets processes take turns');
const amdTurns = yes('processes take turns on the queues of an AMD GPU');
const notNvidiaMps = no('MPS is a part of CUDA');
const notNvidiaMig = no('MIG is a feature of NVIDIA GPUs');

/**
 * Who can do what: the support matrix.
 *
 * Sources: NVIDIA MIG user guide (supported GPUs), NVIDIA MPS documentation (Volta MPS) and k8s-device-plugin (MPS needs
 * compute capability 7.0), Intel GPU device plugin (`-shared-dev-num`), AMD partitioning documentation (CPX of CDNA3).
 */
export const sharingSupport = {
  jetson: {
    vendor: 'nvidia',
    title: 'Jetson',
    mig: no(
      'MIG on Jetson (Thor, from JetPack 7.2) makes at most one compute instance beside one for graphics, and divides no memory',
    ),
    mps: no('MPS is not offered on Jetson modules, whose GPU is a part of the processor'),
    'time-slicing': yes('processes take turns on the GPU of a Jetson, and share the memory of the system with the CPU'),
  },
  kepler: { vendor: 'nvidia', title: 'Kepler', mig: tooOldForMig, mps: oldMps, 'time-slicing': nvidiaTurns },
  maxwell: { vendor: 'nvidia', title: 'Maxwell', mig: tooOldForMig, mps: oldMps, 'time-slicing': nvidiaTurns },
  pascal: { vendor: 'nvidia', title: 'Pascal', mig: tooOldForMig, mps: oldMps, 'time-slicing': nvidiaTurns },
  volta: { vendor: 'nvidia', title: 'Volta', mig: tooOldForMig, mps: mpsRuns, 'time-slicing': nvidiaTurns },
  turing: { vendor: 'nvidia', title: 'Turing', mig: tooOldForMig, mps: mpsRuns, 'time-slicing': nvidiaTurns },
  ampere: {
    vendor: 'nvidia',
    title: 'Ampere',
    mig: part('of Ampere only A100, A800 and A30 have MIG'),
    mps: mpsRuns,
    'time-slicing': nvidiaTurns,
  },
  ada: { vendor: 'nvidia', title: 'Ada', mig: no('no Ada GPU has MIG'), mps: mpsRuns, 'time-slicing': nvidiaTurns },
  hopper: {
    vendor: 'nvidia',
    title: 'Hopper',
    mig: part('of Hopper H100, H200, H800, H20 and GH200 have MIG'),
    mps: mpsRuns,
    'time-slicing': nvidiaTurns,
  },
  blackwell: {
    vendor: 'nvidia',
    title: 'Blackwell',
    mig: part('of Blackwell B200, B300, GB200, GB300 and RTX PRO 6000, 5000 and 4500 have MIG'),
    mps: mpsRuns,
    'time-slicing': nvidiaTurns,
  },
  cdna: {
    vendor: 'amd',
    title: 'CDNA',
    mig: no(
      'MIG is a feature of NVIDIA GPUs; a compute partition (CPX) of MI300 and later is a GPU of its own instead',
    ),
    mps: notNvidiaMps,
    'time-slicing': amdTurns,
  },
  rdna: {
    vendor: 'amd',
    title: 'RDNA',
    mig: notNvidiaMig,
    mps: notNvidiaMps,
    'time-slicing': amdTurns,
  },
  gcn: {
    vendor: 'amd',
    title: 'GCN',
    mig: notNvidiaMig,
    mps: notNvidiaMps,
    'time-slicing': amdTurns,
  },
  xe: {
    vendor: 'intel',
    title: 'Xe',
    mig: notNvidiaMig,
    mps: notNvidiaMps,
    'time-slicing': yes('processes take turns on an Intel GPU; its device plugin shares it with -shared-dev-num'),
  },
  gaudi: {
    vendor: 'intel',
    title: 'Gaudi',
    mig: notNvidiaMig,
    mps: notNvidiaMps,
    'time-slicing': no('one process at a time opens a Gaudi'),
  },
  ascend: {
    vendor: 'huawei',
    title: 'Ascend',
    mig: notNvidiaMig,
    mps: notNvidiaMps,
    'time-slicing': { answer: 'unknown', reason: 'it is not known whether processes can take turns on an Ascend' },
  },
} satisfies Record<SharingFamily, FamilyRow>;

export type SharingSupport = {
  readonly supported: 'yes' | 'no' | 'unknown';
  /** Why, as a sentence without its full stop. */
  readonly reason: string;
  /** What works on this GPU instead, the best isolation first; empty where the mode itself is supported. */
  readonly instead: readonly SharingModeName[];
};

/** The best isolation first. */
const byIsolation = ['mig', 'mps', 'memory-limit', 'time-slicing', 'exclusive'] as const;

/** Modules with a GPU inside the processor, by the words that nvidia-smi and people use. */
const jetsonName = /\b(jetson|tegra|orin|xavier|thor)\b/i;

/**
 * Whether a GPU can be shared in this way, and what it can do instead.
 *
 * The architecture is the request's, else the catalogue's; a GPU of which neither is known gives `unknown` where the
 * answer depends on it.
 */
export function supportOf(gpu: PlacementGpu, mode: SharingModeName, catalogue: GpuCatalogue): SharingSupport {
  const own = answerOf(gpu, mode, catalogue);
  if (own.supported === 'yes') return { ...own, instead: [] };
  const instead = byIsolation.filter((other) => other !== mode && answerOf(gpu, other, catalogue).supported === 'yes');
  return { ...own, instead };
}

/**
 * The family that a GPU shares like; null where neither the request nor the catalogue tells. An Intel GPU without a name
 * that is known is taken for a graphics GPU.
 */
export function sharingFamilyOf(gpu: PlacementGpu, catalogue: GpuCatalogue): SharingFamily | null {
  const entry = gpuByName(catalogue, gpu.name);
  if (gpu.vendor === 'nvidia' && jetsonName.test(entry?.name ?? gpu.name)) return 'jetson';
  if (gpu.vendor === 'huawei') return 'ascend';
  const architecture = (gpu.architecture ?? entry?.architecture ?? '').toLowerCase().trim();
  const family = sharingFamilies.find(
    (name) => name !== 'jetson' && sharingSupport[name].vendor === gpu.vendor && architecture.startsWith(name),
  );
  if (family !== undefined || gpu.vendor !== 'intel') return family ?? null;
  return /gaudi|habana/i.test(gpu.name) ? 'gaudi' : 'xe';
}

/** True where the GPU uses the memory of the system, which the CPU and every other process take from too. */
export function hasUnifiedMemory(gpu: PlacementGpu, catalogue: GpuCatalogue): boolean {
  const entry = gpuByName(catalogue, gpu.name);
  return sharingFamilyOf(gpu, catalogue) === 'jetson' || unifiedName.test(entry?.name ?? gpu.name);
}

/** GPUs inside a processor without memory of their own. */
const unifiedName = /strix|radeon[ -]?\d{3}m\b|radeon[ -]?80[456]0s|\bgb10\b|dgx[ -]spark|iris|\buhd\b/i;

function answerOf(gpu: PlacementGpu, mode: SharingModeName, catalogue: GpuCatalogue): Answer {
  switch (mode) {
    case 'exclusive':
      return { supported: 'yes', reason: 'every GPU can serve one service alone' };
    case 'cpu':
      return { supported: 'yes', reason: 'a service that is built for the CPU needs no GPU' };
    case 'memory-limit': {
      // Limits share out the memory of a GPU that several processes have open.
      const turns = hardwareAnswer(gpu, 'time-slicing', catalogue);
      if (turns.supported === 'no') return turns;
      return { supported: 'yes', reason: 'the engine holds itself to it, whatever the GPU' };
    }
    case 'mig': {
      const answer = hardwareAnswer(gpu, mode, catalogue);
      if (answer.supported !== 'unknown' || (gpu.migInstances ?? []).length === 0) return answer;
      return { supported: 'yes', reason: 'the request lists its MIG instances' };
    }
    case 'mps':
    case 'time-slicing':
      return hardwareAnswer(gpu, mode, catalogue);
  }
}

type Answer = Pick<SharingSupport, 'supported' | 'reason'>;

function hardwareAnswer(gpu: PlacementGpu, mode: HardwareMode, catalogue: GpuCatalogue): Answer {
  const family = sharingFamilyOf(gpu, catalogue);
  const title = gpu.name === '' ? `this ${vendorNames[gpu.vendor]} GPU` : gpu.name;
  if (family === null) return withoutFamily(gpu, mode, title);
  const { answer, reason }: FamilySupport = sharingSupport[family][mode];
  if (answer === 'part') return partAnswer(gpu, catalogue, title, reason);
  const named = gpu.name.toLowerCase().includes(family) ? title : `${title} (${sharingSupport[family].title})`;
  return { supported: answer, reason: `${named}: ${reason}` };
}

/** MIG, which the catalogue lists for each part. */
function partAnswer(gpu: PlacementGpu, catalogue: GpuCatalogue, title: string, reason: string): Answer {
  const entry = gpuByName(catalogue, gpu.name);
  if (entry === undefined) {
    return {
      supported: 'unknown',
      reason: `${reason}, and the catalogue does not know ${title}; nvidia-smi -q shows whether it has a MIG mode`,
    };
  }
  if (!entry.sharing.includes('mig')) return { supported: 'no', reason: `${title} has no MIG: ${reason}` };
  const names = migProfilesOf(gpu, catalogue).map((profile) => profile.name);
  if (names.length > 0) return { supported: 'yes', reason: `${title} has MIG: ${names.join(', ')}` };
  return { supported: 'yes', reason: `${title} has MIG, but the catalogue does not know its profiles` };
}

/** Nothing is known of the GPU but its vendor. */
function withoutFamily(gpu: PlacementGpu, mode: HardwareMode, title: string): Answer {
  if (mode !== 'time-slicing' && gpu.vendor !== 'nvidia') {
    return { supported: 'no', reason: `${title}: ${(mode === 'mps' ? notNvidiaMps : notNvidiaMig).reason}` };
  }
  if (mode === 'time-slicing') {
    const turns = gpu.vendor === 'nvidia' ? nvidiaTurns : amdTurns;
    return { supported: 'yes', reason: `${title}: ${turns.reason}` };
  }
  return {
    supported: 'unknown',
    reason: `it is not known what ${title} is: give its architecture, or a name that the catalogue knows`,
  };
}
