import { type GpuCatalogue, gpuByName, type MigProfile, vendorNames } from '../../core/gpu-types.js';
import type { Placement, PlacementAssignment } from '../../core/placement.js';
import {
  gpuKey,
  type PlacementGpu,
  type PlacementRequest,
  type PlacementService,
  type SharingModeName,
  sharingModeNames,
} from '../../core/placement-request.js';
import { gpuLabel, vendorsOf } from '../fleet.js';
import { vendorIndexOf } from '../vendor-index.js';
import {
  instanceMemoryMb,
  type MigInstance,
  migLayoutOf,
  migProfilesOf,
  packInstances,
  packInto,
  placeProfiles,
} from './mig-geometry.js';
import {
  hasUnifiedMemory,
  type SharingFamily,
  type SharingSupport,
  sharingFamilyOf,
  supportOf,
} from './sharing-modes.js';

/** GPUs that are alike, and what a placement put on each: what advice is given about. */
export type GpuKind = {
  /** Its name, or `NVIDIA GPU` where it has none. */
  readonly title: string;
  /** One of them; all have its name, vendor, architecture and memory. */
  readonly gpu: PlacementGpu;
  readonly family: SharingFamily | null;
  readonly isUnified: boolean;
  readonly profiles: readonly MigProfile[];
  /** How AMD cuts it into GPUs of their own; null = it does not. */
  readonly partitions: AmdPartitions | null;
  readonly support: Readonly<Record<SharingModeName, SharingSupport>>;
  /** In the order of the request. */
  readonly places: readonly GpuPlace[];
  /** Services of the request that are built for this vendor, whether they were placed here or not. */
  readonly candidates: readonly PlacementService[];
};

export type GpuPlace = {
  readonly gpu: PlacementGpu;
  /** `GPU 1`, or `GPU 1 of strix` where the request has several nodes. */
  readonly label: string;
  /** As the software of its vendor counts. */
  readonly vendorIndex: number;
  readonly placed: readonly PlacedService[];
  /** An instance for each of the placed; null where they cannot have one each at once, and where there is no MIG. */
  readonly instances: readonly PlacedInstance[] | null;
};

export type PlacedService = { readonly service: PlacementService; readonly assignment: PlacementAssignment };

export type PlacedInstance = {
  readonly profile: string;
  readonly memoryMb: number;
  /** First memory slice, where it is still to be made; null where it is there. */
  readonly start: number | null;
  readonly uuid: string | null;
};

/** `amd-smi set --compute-partition CPX --memory-partition NPS4`; null = its memory is not divided with the dies. */
export type AmdPartitions = { readonly compute: 'CPX'; readonly memory: 'NPS2' | 'NPS4' | null };

/**
 * Each die of a CDNA3 or CDNA4 part can be a GPU of its own. Its memory is divided with it into four parts on CDNA3 and
 * two on CDNA4, and not at all on the MI300A, where the CPU uses it too.
 */
function partitionsOf(gpu: PlacementGpu, catalogue: GpuCatalogue): AmdPartitions | null {
  const entry = gpuByName(catalogue, gpu.name);
  if (entry === undefined || !entry.sharing.includes('cpx')) return null;
  if (entry.name === 'MI300A') return { compute: 'CPX', memory: null };
  return { compute: 'CPX', memory: entry.architecture === 'cdna4' ? 'NPS2' : 'NPS4' };
}

/** The GPUs of a request by kind, in the order in which the request first has each. */
export function gpuKindsOf(
  request: PlacementRequest,
  placement: Placement,
  catalogue: GpuCatalogue,
): readonly GpuKind[] {
  const isOneNode = new Set(request.gpus.map(({ node }) => node)).size <= 1;
  const services = new Map(request.services.map((service) => [service.name, service]));
  const placedOn = new Map<string, PlacedService[]>();
  for (const assignment of placement.assignments) {
    const { node, gpuIndex } = assignment;
    const service = services.get(assignment.service);
    if (node === null || gpuIndex === null || service === undefined) continue;
    const key = gpuKey({ node, index: gpuIndex });
    const placed = placedOn.get(key);
    if (placed === undefined) placedOn.set(key, [{ service, assignment }]);
    else placed.push({ service, assignment });
  }
  const alike = new Map<string, PlacementGpu[]>();
  for (const gpu of request.gpus) {
    const key = JSON.stringify([gpu.name, gpu.vendor, gpu.architecture, gpu.memoryMb]);
    const gpus = alike.get(key);
    if (gpus === undefined) alike.set(key, [gpu]);
    else gpus.push(gpu);
  }
  return [...alike.values()].map((gpus): GpuKind => {
    const gpu = gpus[0]!;
    const profiles = migProfilesOf(gpu, catalogue);
    return {
      title: gpu.name === '' ? `${vendorNames[gpu.vendor]} GPU` : gpu.name,
      gpu,
      family: sharingFamilyOf(gpu, catalogue),
      isUnified: hasUnifiedMemory(gpu, catalogue),
      profiles,
      partitions: partitionsOf(gpu, catalogue),
      support: Object.fromEntries(
        sharingModeNames.map((mode) => [mode, supportOf(gpu, mode, catalogue)]),
      ) as GpuKind['support'],
      places: gpus.map((one): GpuPlace => {
        const placed = placedOn.get(gpuKey(one)) ?? [];
        return {
          gpu: one,
          label: gpuLabel(one, isOneNode),
          vendorIndex: vendorIndexOf(one, request),
          placed,
          instances: instancesFor(one, profiles, placed),
        };
      }),
      candidates: request.services.filter((service) => vendorsOf(service).has(gpu.vendor)),
    };
  });
}

/** GPUs with more than one service. */
export function sharedPlaces(places: readonly GpuPlace[]): readonly GpuPlace[] {
  return places.filter(({ placed }) => placed.length > 1);
}

/** What the placement chose, where it did; else what packing gives. */
function instancesFor(
  gpu: PlacementGpu,
  profiles: readonly MigProfile[],
  placed: readonly PlacedService[],
): readonly PlacedInstance[] | null {
  const needsMb = placed.map(({ assignment }) => assignment.memoryBudgetMb);
  const chosen = placed.flatMap(({ assignment }) => (assignment.mig === undefined ? [] : [assignment.mig]));
  if (gpu.migInstances !== null) {
    const there = gpu.migInstances.map(({ profile, uuid }) => {
      return { profile, uuid, start: null, memoryMb: instanceMemoryMb(profile, profiles) ?? 0 };
    });
    if (chosen.length === placed.length && chosen.length > 0) {
      return chosen.map(({ profile, uuid }) => {
        return { profile, uuid, start: null, memoryMb: instanceMemoryMb(profile, profiles) ?? 0 };
      });
    }
    return packInto({ instances: there, needsMb })?.map((at) => there[at]!) ?? null;
  }
  if (chosen.length === placed.length && chosen.length > 0) {
    const starts = placeProfiles({ profiles, names: chosen.map(({ profile }) => profile) });
    if (starts !== null) {
      return chosen.map(({ profile, uuid }, at) => {
        return { profile, uuid, start: starts[at]!, memoryMb: instanceMemoryMb(profile, profiles) ?? 0 };
      });
    }
  }
  return packInstances({ profiles, needsMb })?.map((instance: MigInstance) => ({ ...instance, uuid: null })) ?? null;
}

/**
 * Instances as `nvidia-smi mig -cgi` takes them, by their first slice; null where nothing is to be made. GPUs of eight
 * slices get the place said, since the driver may otherwise put a small one where a large one must lie.
 */
export function newInstancesOf(place: GpuPlace, profiles: readonly MigProfile[]): readonly string[] | null {
  const { instances } = place;
  if (instances === null || instances.length === 0 || instances.some(({ start }) => start === null)) return null;
  const saysStart = migLayoutOf(profiles)?.memorySlices === 8;
  return [...instances]
    .sort((a, b) => b.memoryMb - a.memoryMb || a.start! - b.start!)
    .map(({ profile, start }) => (saysStart ? `${profile}:${start}` : profile));
}

/** `1g.18gb × 2, 3g.71gb`: profiles with how many of each, in the order given. */
export function countedProfiles(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => (count === 1 ? name : `${name} × ${count}`)).join(', ');
}
