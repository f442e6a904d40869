import { type CataloguedGpu, type GpuCatalogue, type GpuVendor, gpuByName } from '../core/gpu-types.js';
import {
  type FrameworkName,
  type GpuRef,
  gpuKey,
  type PlacementGpu,
  type PlacementRequest,
  type PlacementService,
} from '../core/placement-request.js';
import { compareText } from './compare-text.js';
import {
  instanceMemoryMb,
  migLayoutOf,
  migProfilesOf,
  packInstances,
  packInto,
  placeProfiles,
  profileMemoryMb,
} from './sharing/mig-geometry.js';
import { supportOf } from './sharing/sharing-modes.js';

/**
 * A request made ready for deciding: what hardware forbids is worked out once, so that strategies and the exact search
 * only look at which GPUs a service may take. Services and GPUs stand in an order of their own names, so that the order
 * of the document changes nothing.
 */
export type Fleet = {
  readonly request: PlacementRequest;
  readonly gpus: readonly FleetGpu[];
  readonly services: readonly FleetService[];
  /** Nothing may be placed beyond a GPU's memory. */
  readonly refusesOvercommit: boolean;
  /** Priorities of the services, highest first. */
  readonly priorities: readonly number[];
};

export type FleetGpu = {
  /** In `Fleet.gpus`. */
  readonly at: number;
  readonly gpu: PlacementGpu;
  /** `GPU 1`, or `GPU 1 of strix` where there are several nodes. */
  readonly label: string;
  readonly memoryMb: number;
  readonly usedMb: number;
  /** Memory less what others use [MiB]; negative where they use more than there is. */
  readonly freeMb: number;
  readonly speed: number;
  readonly isSpeedKnown: boolean;
  /** It takes one service: it is set so, or to a mode that it does not have, or one process at a time opens it. */
  readonly takesOne: boolean;
  /** Why its `sharing` cannot be had, as a sentence; null = it can, or none is set. */
  readonly sharingFault: string | null;
  /** How MIG cuts it; null where it does not. */
  readonly cut: MigCutter | null;
  /** Its `migInstances` cannot be on such a GPU at once; false where that is not known. */
  readonly hasImpossibleInstances: boolean;
};

/** Cuts a GPU into instances, or gives out those that it is cut into. */
export type MigCutter = {
  /** Memory of its instances, largest first [MiB]. */
  readonly sizesMb: readonly number[];
  /** An instance for each need, in their order; null = they do not fit at once. */
  readonly pack: (needsMb: readonly number[]) => readonly MigCut[] | null;
};

/** An instance of a GPU that is cut by MIG. */
export type MigCut = {
  readonly profile: string;
  readonly uuid: string | null;
  readonly memoryMb: number;
  /** Its compute slices, as a part of those of the GPU. */
  readonly compute: number;
};

export type FleetService = {
  /** In `Fleet.services`. */
  readonly at: number;
  readonly service: PlacementService;
  readonly memoryMb: number;
  readonly minMb: number;
  readonly priority: number;
  readonly critical: boolean;
  readonly dedicated: boolean;
  readonly computeShare: number;
  /** GPUs that hardware lets it run on, ascending; of a pinned service that one alone. The same list where it is the same. */
  readonly options: readonly number[];
  /** Whether it may run on a GPU, by its number: 1 or 0. */
  readonly takes: Uint8Array;
  readonly mayUseCpu: boolean;
  readonly isPinned: boolean;
};

/**
 * Memory bandwidth of a GPU that neither says its speed nor is in the catalogue [10^12 bytes/s]: about that of desktop
 * memory, so that a critical service prefers any part that is known.
 */
const unknownSpeed = 0.1;

/** Whose GPUs a framework runs on. Vulkan and OpenCL have drivers from all three vendors of the desktop. */
export const frameworkVendors: Readonly<Record<FrameworkName, readonly GpuVendor[]>> = {
  cuda: ['nvidia'],
  tensorrt: ['nvidia'],
  rocm: ['amd'],
  oneapi: ['intel'],
  openvino: ['intel'],
  vulkan: ['nvidia', 'amd', 'intel'],
  opencl: ['nvidia', 'amd', 'intel'],
  cann: ['huawei'],
  cpu: [],
};

export function vendorsOf(service: PlacementService): ReadonlySet<GpuVendor> {
  return new Set(service.frameworks.flatMap((framework) => frameworkVendors[framework]));
}

/**
 * How fast a GPU is, relative to others: what the request says, else the memory bandwidth of the catalogue
 * [10^12 bytes/s], since that is what bounds the generation of tokens.
 */
function speedOf(gpu: PlacementGpu, known: CataloguedGpu | undefined): { speed: number; isSpeedKnown: boolean } {
  if (gpu.speed !== null) return { speed: gpu.speed, isSpeedKnown: true };
  const bandwidth = known?.memoryGBps ?? null;
  return bandwidth === null
    ? { speed: unknownSpeed, isSpeedKnown: false }
    : { speed: bandwidth / 1000, isSpeedKnown: true };
}

/** Does one of the tolerations answer a taint? Both as kubectl writes them. */
export function tolerates(tolerations: readonly string[], taint: string): boolean {
  const [taintKeyValue = '', taintEffect = ''] = taint.split(':');
  const [taintKey] = taintKeyValue.split('=');
  return tolerations.some((toleration) => {
    if (toleration === '*') return true;
    const [keyValue = '', effect] = toleration.split(':');
    if (effect !== undefined && effect !== taintEffect) return false;
    return keyValue === taintKeyValue || keyValue === taintKey;
  });
}

/** Taints of a GPU that keep a service away. PreferNoSchedule keeps nobody away. */
export function forbiddingTaints(gpu: PlacementGpu, service: PlacementService): readonly string[] {
  return gpu.taints.filter((taint) => !taint.endsWith(':PreferNoSchedule') && !tolerates(service.tolerations, taint));
}

/** Works out what hardware allows. Pure. */
export function fleetOf(request: PlacementRequest, catalogue: GpuCatalogue): Fleet {
  const isOneNode = new Set(request.gpus.map(({ node }) => node)).size <= 1;
  const gpus = [...request.gpus]
    .sort((a, b) => compareText(a.node, b.node) || a.index - b.index)
    .map((gpu, at): FleetGpu => {
      const { cut, sharingFault } = sharingOf(gpu, catalogue);
      return {
        at,
        gpu,
        label: gpuLabel(gpu, isOneNode),
        memoryMb: gpu.memoryMb,
        usedMb: gpu.usedMb,
        freeMb: gpu.memoryMb - gpu.usedMb,
        ...speedOf(gpu, gpuByName(catalogue, gpu.name)),
        takesOne: gpu.sharing === 'exclusive' || sharingFault !== null || takesOneProcess(gpu, catalogue),
        sharingFault,
        cut,
        hasImpossibleInstances: gpu.sharing === 'mig' && areImpossible(gpu, catalogue),
      };
    });
  const atOf = new Map(gpus.map(({ gpu, at }) => [gpuKey(gpu), at]));
  const shared = sharedChoices(gpus.length);
  const services = [...request.services]
    .sort((a, b) => compareText(a.name, b.name))
    .map((service, at): FleetService => {
      const vendors = vendorsOf(service);
      const pin = service.gpu === null ? null : atOf.get(gpuKey(service.gpu))!;
      const able = (pin === null ? gpus : [gpus[pin]!]).filter(
        ({ gpu, cut, freeMb }) =>
          vendors.has(gpu.vendor) &&
          (gpu.taints.length === 0 || forbiddingTaints(gpu, service).length === 0) &&
          (cut === null || cut.pack([service.minMemoryMb]) !== null) &&
          (request.overcommit === 'warn' || service.minMemoryMb <= Math.max(0, freeMb)),
      );
      return {
        at,
        service,
        memoryMb: service.memoryMb,
        minMb: service.minMemoryMb,
        priority: service.priority,
        critical: service.critical,
        dedicated: service.dedicated,
        computeShare: service.computeShare ?? 0,
        ...shared(able.map(({ at: g }) => g)),
        mayUseCpu: pin === null && (service.cpuAllowed || service.frameworks.includes('cpu')),
        isPinned: pin !== null,
      };
    });
  return {
    request,
    gpus,
    services,
    refusesOvercommit: request.overcommit === 'refuse',
    priorities: [...new Set(services.map(({ priority }) => priority))].sort((a, b) => b - a),
  };
}

/** One list for all services that may run on the same GPUs: thousands of services have a few of them. */
function sharedChoices(gpuCount: number): (options: readonly number[]) => Pick<FleetService, 'options' | 'takes'> {
  const known = new Map<string, Pick<FleetService, 'options' | 'takes'>>();
  return (options) => {
    const key = options.join();
    const before = known.get(key);
    if (before !== undefined) return before;
    const takes = new Uint8Array(gpuCount);
    for (const gpu of options) takes[gpu] = 1;
    const choice = { options, takes };
    known.set(key, choice);
    return choice;
  };
}

export function gpuLabel({ node, index }: GpuRef, isOneNode: boolean): string {
  return isOneNode ? `GPU ${index}` : `GPU ${index} of ${node}`;
}

function sharingOf(gpu: PlacementGpu, catalogue: GpuCatalogue): Pick<FleetGpu, 'cut' | 'sharingFault'> {
  const mode = gpu.sharing;
  if (mode === null || mode === 'exclusive') return { cut: null, sharingFault: null };
  const profiles = migProfilesOf(gpu, catalogue);
  if (mode === 'mig' && gpu.migInstances !== null) {
    return { cut: cutsAmong(gpu.migInstances, profiles), sharingFault: null };
  }
  const support = supportOf(gpu, mode, catalogue);
  if (support.supported === 'no') return { cut: null, sharingFault: support.reason };
  if (mode !== 'mig') return { cut: null, sharingFault: null };
  if (migLayoutOf(profiles) === null) {
    return { cut: null, sharingFault: 'its MIG profiles are not known: list its instances in migInstances' };
  }
  return {
    cut: {
      sizesMb: descending(profiles.map(profileMemoryMb)),
      pack: (needsMb) =>
        packInstances({ profiles, needsMb })?.map(
          ({ profile, memoryMb }): MigCut => ({ profile, uuid: null, memoryMb, compute: computeOf(profile, profiles) }),
        ) ?? null,
    },
    sharingFault: null,
  };
}

/** Nobody has set how it is shared, and processes cannot even take turns on it: a Gaudi. */
function takesOneProcess(gpu: PlacementGpu, catalogue: GpuCatalogue): boolean {
  return gpu.sharing === null && supportOf(gpu, 'time-slicing', catalogue).supported === 'no';
}

/** Judged where every profile and its places are known; profiles with a suffix (`1g.10gb+me`) are not. */
function areImpossible(gpu: PlacementGpu, catalogue: GpuCatalogue): boolean {
  const profiles = migProfilesOf(gpu, catalogue);
  const names = (gpu.migInstances ?? []).map(({ profile }) => profile);
  const known = new Set(profiles.map(({ name }) => name));
  if (names.length === 0 || migLayoutOf(profiles) === null || !names.every((name) => known.has(name))) return false;
  return placeProfiles({ profiles, names }) === null;
}

/** The instances that a GPU is cut into already. */
function cutsAmong(
  given: NonNullable<PlacementGpu['migInstances']>,
  profiles: ReturnType<typeof migProfilesOf>,
): MigCutter {
  const slices = given.reduce((sum, { profile }) => sum + slicesOf(profile), 0);
  const instances = given.map(({ profile, uuid }) => ({
    profile,
    uuid,
    memoryMb: instanceMemoryMb(profile, profiles) ?? 0,
    compute: computeOf(profile, profiles, slices),
  }));
  return {
    sizesMb: descending(instances.map(({ memoryMb }) => memoryMb)),
    pack: (needsMb) => packInto({ instances, needsMb })?.map((at) => instances[at]!) ?? null,
  };
}

function descending(sizes: readonly number[]): readonly number[] {
  return [...new Set(sizes)].sort((a, b) => b - a);
}

/** Most compute slices that GPUs with MIG have; of one that is not known, so many. */
const mostComputeSlices = 7;

function slicesOf(profile: string): number {
  return Number.parseInt(profile, 10);
}

/** `3g.40gb` of a GPU whose largest profile is `7g.80gb` → 3/7; `given` are more slices than there are where a request says so. */
function computeOf(profile: string, profiles: ReturnType<typeof migProfilesOf>, given = 0): number {
  const whole = profiles.reduce((most, { computeSlices }) => Math.max(most, computeSlices), 0) || mostComputeSlices;
  return slicesOf(profile) / Math.max(whole, given);
}
