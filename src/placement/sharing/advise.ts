import { type GpuCatalogue, type GpuVendor, gpuByName, type MigProfile } from '../../core/gpu-types.js';
import type { Placement } from '../../core/placement.js';
import {
  type GpuRef,
  type PlacementGpu,
  type PlacementRequest,
  type PlacementService,
  type ServiceKind,
  type SharingModeName,
  sharingModeNames,
} from '../../core/placement-request.js';
import { gigabytes, memoryFractionOf } from '../amounts.js';
import { hasEngine } from '../engine-kinds.js';
import { mpsClientVariables, mpsThreadPercentage } from '../mps-client.js';
import {
  countedProfiles,
  type GpuKind,
  type GpuPlace,
  gpuKindsOf,
  newInstancesOf,
  type PlacedService,
  sharedPlaces,
} from './gpu-kinds.js';
import { instanceMemoryMb, packInstances, packInto } from './mig-geometry.js';
import { type Recommendation, recommendMode } from './mode-rules.js';
import { budgetClassOf, recommendedBudgets } from './recommended-budgets.js';
import { type SetupStep, setupCommands } from './setup-commands.js';
import { type SharingMode, type SharingSupport, sharingModes } from './sharing-modes.js';
import { readerWarnings } from './sharing-warnings.js';

/**
 * What a person should know before several services share the GPUs of a request: the options that each kind of GPU has,
 * the one that suits, how to set it up, and what each service must be told.
 */
export type SharingAdvice = {
  readonly apiVersion: 'gpumix/v1';
  readonly kind: 'SharingAdvice';
  /** One for each kind of GPU, in the order of the request. */
  readonly gpus: readonly GpuAdvice[];
  /** One for each service, in the order of the request. */
  readonly services: readonly ServiceAdvice[];
};

export type GpuAdvice = {
  readonly name: string;
  readonly vendor: GpuVendor;
  /** Of the request, else of the catalogue; null = not known. */
  readonly architecture: string | null;
  readonly memoryMb: number;
  /** Its memory is the system's. */
  readonly unifiedMemory: boolean;
  /** Where GPUs of this kind are. */
  readonly places: readonly GpuRef[];
  /** Every mode, in the order of the table. */
  readonly options: readonly SharingOption[];
  /** One mode, with the rule that chose it. */
  readonly recommendation: Recommendation;
  /** What a reader must know of that mode on this hardware, a sentence each. */
  readonly warnings: readonly string[];
};

export type SharingOption = {
  readonly mode: SharingModeName;
  readonly title: string;
  readonly supported: SharingSupport['supported'];
  /** Why, as a sentence without its full stop. */
  readonly reason: string;
  readonly memoryIsolation: SharingMode['memoryIsolation']['level'];
  readonly faultIsolation: SharingMode['faultIsolation']['level'];
  readonly latencyEffect: SharingMode['latencyEffect']['level'];
  readonly recommended: boolean;
  /** Of the request's services for this vendor, how many one such GPU holds at once, smallest first; null = unsupported. */
  readonly holds: { readonly services: number; readonly of: number; readonly text: string } | null;
  /** What sets it up for the services that are placed; empty where nothing is to be done. */
  readonly commands: readonly SetupStep[];
};

export type ServiceAdvice = {
  readonly service: string;
  readonly kind: ServiceKind;
  /** `GPU 1 of strix`, `CPU`; null where it was refused. */
  readonly place: string | null;
  readonly memoryBudgetMb: number;
  /** Budget as a part of the memory that it sees, in hundredths rounded down; null without a GPU. */
  readonly memoryFraction: number | null;
  /** Most that it should take, by the table of recommended budgets; null where none applies. */
  readonly recommendedFraction: number | null;
  /** For vLLM, of services whose kind it serves: `--gpu-memory-utilization 0.85 --max-num-seqs 10`. */
  readonly vllmArguments: readonly string[];
  /** That leads it to its GPU, or to its part of it. */
  readonly environment: Readonly<Record<string, string>>;
  /** A sentence each. */
  readonly notes: readonly string[];
};

/** A GPU up to this has no memory to spare for an index beside an LLM [MiB]: 8 GB of it are a third. */
const smallGpuMb = 24 * 1024;

/**
 * Compares the ways to share the GPUs of a request for the services that a placement put there.
 *
 * Pure: the same request and placement give the same advice. Any placement of that request will do, whatever strategy
 * made it; services that it refused get a line without a place.
 */
export function advise(
  request: PlacementRequest,
  { catalogue, placement }: { readonly catalogue: GpuCatalogue; readonly placement: Placement },
): SharingAdvice {
  const kinds = gpuKindsOf(request, placement, catalogue);
  const hasSeveralNodes = new Set(request.gpus.map(({ node }) => node)).size > 1;
  const lines = new Map<string, ServiceAdvice>();
  const gpus = kinds.map((kind): GpuAdvice => {
    const recommendation = recommendMode(kind);
    for (const place of kind.places) {
      place.placed.forEach((placed, at) => {
        // A service that has its GPU for itself needs no part of it, unless the GPU is cut already.
        const isWhole = place.placed.length === 1 && place.gpu.migInstances === null;
        const mode = isWhole ? 'exclusive' : recommendation.mode;
        lines.set(placed.service.name, serviceAdvice({ kind, place, placed, at, mode }));
      });
    }
    return {
      name: kind.title,
      vendor: kind.gpu.vendor,
      architecture: kind.gpu.architecture ?? gpuByName(catalogue, kind.gpu.name)?.architecture ?? null,
      memoryMb: kind.gpu.memoryMb,
      unifiedMemory: kind.isUnified,
      places: kind.places.map(({ gpu: { node, index } }) => ({ node, index })),
      options: sharingModeNames.map((mode) =>
        optionOf({ kind, mode, recommended: recommendation.mode, hasSeveralNodes }),
      ),
      recommendation,
      warnings: readerWarnings(kind, recommendation.mode, catalogue),
    };
  });
  const onCpu = new Set(
    placement.assignments.filter(({ gpuIndex }) => gpuIndex === null).map(({ service }) => service),
  );
  return {
    apiVersion: 'gpumix/v1',
    kind: 'SharingAdvice',
    gpus,
    services: request.services.map(
      (service) => lines.get(service.name) ?? withoutGpu(service, onCpu.has(service.name), request.gpus.length > 0),
    ),
  };
}

function optionOf({
  kind,
  mode,
  recommended,
  hasSeveralNodes,
}: {
  readonly kind: GpuKind;
  readonly mode: SharingModeName;
  readonly recommended: SharingModeName;
  readonly hasSeveralNodes: boolean;
}): SharingOption {
  const { title, memoryIsolation, faultIsolation, latencyEffect } = sharingModes[mode];
  const { supported, reason } = kind.support[mode];
  return {
    mode,
    title,
    supported,
    reason,
    memoryIsolation: memoryIsolation.level,
    faultIsolation: faultIsolation.level,
    latencyEffect: latencyEffect.level,
    recommended: mode === recommended,
    holds: supported === 'yes' ? holdsOf(kind, mode) : null,
    commands: supported === 'yes' ? commandsOf(kind, mode, hasSeveralNodes) : [],
  };
}

type Holds = NonNullable<SharingOption['holds']>;

/** How many services one GPU of a kind holds in a mode: as many as can be, so the smallest; of the GPU that holds most. */
function holdsOf(kind: GpuKind, mode: SharingModeName): Holds {
  const gpus = kind.places.map(({ gpu }) => gpu);
  // Free memory decides, and with MIG the instances that are there.
  const roomiest = gpus.reduce((most, gpu) => (gpu.usedMb < most.usedMb ? gpu : most));
  const cut = [...new Map(gpus.map((gpu) => [JSON.stringify(gpu.migInstances), gpu])).values()];
  const each = (mode === 'mig' ? cut : [roomiest]).map((gpu) => heldBy(gpu, kind, mode));
  return each.reduce((most, one) => (one.services > most.services ? one : most));
}

function heldBy(gpu: PlacementGpu, { candidates, profiles }: GpuKind, mode: SharingModeName): Holds {
  const of = candidates.length;
  const held = (services: number, text = `${services} of ${of}`) => ({ services, of, text });
  if (mode === 'cpu') {
    return held(candidates.filter(({ cpuAllowed, frameworks }) => cpuAllowed || frameworks.includes('cpu')).length);
  }
  let leftMb = gpu.memoryMb - gpu.usedMb;
  if (mode === 'exclusive') return held(candidates.some(({ memoryMb }) => memoryMb <= leftMb) ? 1 : 0);
  const shareable = candidates
    .filter(({ dedicated }) => !dedicated)
    .map(({ memoryMb }) => memoryMb)
    .sort((a, b) => a - b);
  if (mode !== 'mig') {
    const fitting = shareable.filter((size) => {
      leftMb -= size;
      return leftMb >= 0;
    });
    return held(fitting.length);
  }
  if (gpu.migInstances === null && profiles.length === 0) return held(0, 'profiles not known');
  const most = gpu.migInstances?.length ?? Math.max(...profiles.map(({ instances }) => instances));
  for (let count = Math.min(shareable.length, most); count > 0; count--) {
    const names = instanceNames(gpu, profiles, shareable.slice(0, count));
    if (names !== null) return held(count, `${count} of ${of} (${countedProfiles(names)})`);
  }
  return held(0);
}

/** Profiles that these needs take, largest last; null where they do not fit at once. */
function instanceNames(
  gpu: PlacementGpu,
  profiles: readonly MigProfile[],
  needsMb: readonly number[],
): readonly string[] | null {
  if (gpu.migInstances === null) return packInstances({ profiles, needsMb })?.map(({ profile }) => profile) ?? null;
  const instances = gpu.migInstances.map(({ profile }) => ({ memoryMb: instanceMemoryMb(profile, profiles) }));
  return packInto({ instances, needsMb })?.map((at) => gpu.migInstances![at]!.profile) ?? null;
}

function commandsOf(kind: GpuKind, mode: SharingModeName, hasSeveralNodes: boolean): readonly SetupStep[] {
  // Where nothing is shared yet, what would share the GPU.
  const shared = sharedPlaces(kind.places);
  const busy = kind.places.filter(({ placed }) => placed.length > 0);
  const places = mode === 'exclusive' || shared.length === 0 ? busy : shared;
  return setupCommands[mode]({
    vendor: kind.gpu.vendor,
    hasSeveralNodes,
    partitions: kind.partitions,
    gpus: places.map((place) => ({
      index: place.gpu.index,
      vendorIndex: place.vendorIndex,
      node: place.gpu.node,
      services: place.placed.map((placed) => ({
        name: placed.service.name,
        budgetMb: placed.assignment.memoryBudgetMb,
        threadPercentage: mpsThreadPercentage(placed),
      })),
      newInstances: newInstancesOf(place, kind.profiles),
    })),
  });
}

function serviceAdvice({
  kind,
  place,
  placed,
  at,
  mode,
}: {
  readonly kind: GpuKind;
  readonly place: GpuPlace;
  readonly placed: PlacedService;
  /** In the services of the place. */
  readonly at: number;
  readonly mode: SharingModeName;
}): ServiceAdvice {
  const { service, assignment } = placed;
  const budgetMb = assignment.memoryBudgetMb;
  const instance = mode === 'mig' ? (place.instances?.[at] ?? null) : null;
  const memoryMb = instance?.memoryMb ?? kind.gpu.memoryMb;
  const memoryFraction = memoryFractionOf(budgetMb, memoryMb);
  const isAlone = place.placed.length === 1 && place.gpu.usedMb === 0;
  const budgetClass =
    instance === null
      ? budgetClassOf({
          service,
          isUnified: kind.isUnified,
          others: place.placed.length - 1,
          isLargest: place.placed.every((other) => other.assignment.memoryBudgetMb <= budgetMb),
          usedMb: place.gpu.usedMb,
        })
      : null;
  const recommended = budgetClass === null ? null : recommendedBudgets[budgetClass];
  const notes: string[] = [];
  if (instance !== null) notes.push(`Its part is of the ${gigabytes(memoryMb)} of its instance, ${instance.profile}.`);
  if (recommended !== null && memoryFraction > recommended.fraction) {
    notes.push(
      `It takes ${memoryFraction}; ${recommended.fraction} is the most for ${recommended.when}: ${recommended.why}.`,
    );
  }
  if (recommended !== null && memoryFraction < recommended.fraction && service.kind === 'llm' && isAlone) {
    const more = gigabytes(Math.floor(recommended.fraction * memoryMb));
    notes.push(`It could take ${recommended.fraction} (${more}), for a larger cache of keys and values.`);
  }
  if (memoryFraction > 1) notes.push(`Its budget is more than the ${gigabytes(memoryMb)} that there are.`);
  if (service.kind === 'database' && !kind.isUnified && memoryMb <= smallGpuMb && service.cpuAllowed) {
    notes.push(`A GPU of ${gigabytes(memoryMb)} is small: on the CPU it would leave its memory to models.`);
  }
  return {
    service: service.name,
    kind: service.kind,
    place: place.label,
    memoryBudgetMb: budgetMb,
    memoryFraction,
    recommendedFraction: recommended?.fraction ?? null,
    vllmArguments: vllmArguments(service, memoryFraction),
    environment: environmentOf({ kind, place, placed, mode, uuid: instance?.uuid ?? null }),
    notes,
  };
}

function vllmArguments(service: PlacementService, memoryFraction: number): readonly string[] {
  if (!hasEngine(service)) return [];
  return [
    // vLLM takes a part above 0 and up to 1.
    ...(memoryFraction > 0 && memoryFraction <= 1 ? ['--gpu-memory-utilization', memoryFraction.toFixed(2)] : []),
    ...(service.maxSessions === null ? [] : ['--max-num-seqs', `${service.maxSessions}`]),
  ];
}

function environmentOf({
  kind,
  place,
  placed,
  mode,
  uuid,
}: {
  readonly kind: GpuKind;
  readonly place: GpuPlace;
  readonly placed: PlacedService;
  readonly mode: SharingModeName;
  readonly uuid: string | null;
}): Readonly<Record<string, string>> {
  const { vendorIndex: index } = place;
  switch (kind.gpu.vendor) {
    case 'nvidia':
      // The UUID of an instance is known once it is made; nvidia-smi -L lists it.
      if (mode === 'mig') return uuid === null ? {} : { CUDA_VISIBLE_DEVICES: uuid };
      // CUDA counts the fastest GPU first unless it is told to count as nvidia-smi does.
      if (mode !== 'mps') return { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: `${index}` };
      // The server sees one GPU, which its clients know as the first.
      return { CUDA_VISIBLE_DEVICES: '0', ...mpsClientVariables(placed, index) };
    case 'amd':
      return { HIP_VISIBLE_DEVICES: `${index}` };
    case 'intel':
      return { ZE_AFFINITY_MASK: `${index}` };
    case 'huawei':
      return { ASCEND_RT_VISIBLE_DEVICES: `${index}` };
  }
}

/** A service on the CPU, or one that was refused. */
function withoutGpu(service: PlacementService, isOnCpu: boolean, hasGpus: boolean): ServiceAdvice {
  const notes: string[] = [];
  if (isOnCpu && service.kind === 'database' && hasGpus) {
    notes.push('On the CPU it leaves the memory of the GPUs to models.');
  }
  if (!isOnCpu) notes.push('It was refused: the placement says why.');
  return {
    service: service.name,
    kind: service.kind,
    place: isOnCpu ? 'CPU' : null,
    memoryBudgetMb: isOnCpu ? service.memoryMb : 0,
    memoryFraction: null,
    recommendedFraction: null,
    vllmArguments: [],
    environment: {},
    notes,
  };
}
