import type { SharingModeName } from '../../core/placement-request.js';
import { gigabytes } from '../amounts.js';
import { hasEngine } from '../engine-kinds.js';
import { countedProfiles, type GpuKind, type GpuPlace, sharedPlaces } from './gpu-kinds.js';

/**
 * Which mode suits a kind of GPU and the services on it: the first of these rules that applies. The modes of the hardware
 * come before those that only ask processes to behave.
 */
export type ModeRule = {
  readonly name: string;
  /** For which GPUs and services, in words. */
  readonly when: string;
  readonly mode: SharingModeName;
  /** Why, as a sentence about this hardware and these services; null where the rule does not apply. */
  readonly reason: (kind: GpuKind) => string | null;
};

export type Recommendation = { readonly mode: SharingModeName; readonly rule: string; readonly reason: string };

export const modeRules: readonly ModeRule[] = [
  {
    name: 'one-process',
    when: 'the hardware lets one process at a time use it',
    mode: 'exclusive',
    reason: ({ support, places }) => {
      if (places.every(({ placed }) => placed.length === 0)) return null;
      if (support.mig.supported === 'yes' || support.mps.supported === 'yes') return null;
      if (support['time-slicing'].supported !== 'no') return null;
      return `It takes one process at a time (${support['time-slicing'].reason}): give the other services another GPU.`;
    },
  },
  {
    name: 'nothing-to-share',
    when: 'no GPU of the kind serves several services',
    mode: 'exclusive',
    reason: ({ places }) => {
      if (sharedPlaces(places).length > 0) return null;
      const busy = places.filter(({ placed }) => placed.length === 1);
      if (busy.length === 0) return 'No service is placed on it, so there is nothing to share.';
      if (busy.length > 1) return 'Each of these GPUs serves one service, which has all of it.';
      return `It serves ${busy[0]!.placed[0]!.service.name} alone, which has all of it.`;
    },
  },
  {
    name: 'unified-memory',
    when: 'a GPU inside the processor, which uses the memory of the system',
    mode: 'memory-limit',
    reason: ({ isUnified, gpu, support, places }) => {
      if (!isUnified || support.mig.supported === 'yes') return null;
      const without =
        support.mps.supported === 'yes' ? 'MPS does not bound what the CPU takes of it' : 'it has neither MIG nor MPS';
      const usedMb = Math.max(...places.map((place) => place.gpu.usedMb));
      const used = usedMb === 0 ? '' : `, of which others use ${gigabytes(usedMb)}`;
      return `Its ${gigabytes(gpu.memoryMb)} are memory of the system${used}, and ${without}: each engine must hold itself to its part.`;
    },
  },
  {
    name: 'hardware-isolation',
    when: 'MIG instances hold every service, and one of them is critical or of an unknown kind',
    mode: 'mig',
    reason: ({ support, places }) => {
      if (support.mig.supported !== 'yes') return null;
      const shared = sharedPlaces(places);
      if (shared.some(({ instances }) => instances === null)) return null;
      const all = shared.flatMap(({ placed }) => placed.map(({ service }) => service));
      const guarded = all.find(({ critical }) => critical);
      const unknown = all.find(({ kind }) => kind === 'other');
      if (guarded === undefined && unknown === undefined) return null;
      const profiles = countedProfiles(shared.flatMap(({ instances }) => instances!.map(({ profile }) => profile)));
      return guarded === undefined
        ? `It is not known what ${unknown!.name} does, and instances keep its memory and faults to itself (${profiles}).`
        : `${guarded.name} is critical and not alone: instances keep memory, faults and compute units apart (${profiles}).`;
    },
  },
  {
    name: 'known-cuda-processes',
    when: 'Volta and later, and every service is a CUDA process of a known kind',
    mode: 'mps',
    reason: ({ support, places }) => {
      if (support.mps.supported !== 'yes') return null;
      const all = sharedPlaces(places).flatMap(({ placed }) => placed.map(({ service }) => service));
      const isKnown = all.every(
        ({ kind, frameworks }) => kind !== 'other' && (frameworks.includes('cuda') || frameworks.includes('tensorrt')),
      );
      if (!isKnown) return null;
      const noMig = support.mig.supported === 'yes' ? withMig(sharedPlaces(places)) : 'It has no MIG';
      return `${noMig}, and its ${all.length} services are CUDA processes of known kinds: their kernels run side by side, with limits of memory and threads.`;
    },
  },
  {
    name: 'engines-only',
    when: 'every service is an engine that holds itself to a part of the memory',
    mode: 'memory-limit',
    reason: ({ places, support }) => {
      const all = sharedPlaces(places).flatMap(({ placed }) => placed.map(({ service }) => service));
      if (!all.every(hasEngine)) return null;
      return `${withoutIsolation(support)}, but all of its services are engines that hold themselves to a part of the memory.`;
    },
  },
  {
    name: 'in-turns',
    when: 'everything else',
    mode: 'time-slicing',
    reason: ({ support }) =>
      support['time-slicing'].supported === 'yes'
        ? `${withoutIsolation(support)}, so its services take turns; limits of memory in each of them are all that prevents shortage.`
        : null,
  },
  {
    name: 'not-known',
    when: 'nothing is known of how the GPU can be shared',
    mode: 'memory-limit',
    reason: () => 'It is not known how this GPU can be shared; a limit of memory in each service is the least.',
  },
];

/** Why not MIG, where the part has it. */
function withMig(shared: readonly GpuPlace[]): string {
  const fits = shared.every(({ instances }) => instances !== null);
  return fits ? 'Nothing on it is critical' : 'MIG has no instances for all of its services at once';
}

function withoutIsolation(support: GpuKind['support']): string {
  if (support.mps.supported === 'yes') return 'Not every service is a CUDA process of a known kind, as MPS needs';
  if (support.mps.supported === 'unknown') return 'It is not known whether it has MPS';
  return 'It has neither MIG nor MPS';
}

/** The first rule that applies. */
export function recommendMode(kind: GpuKind): Recommendation {
  for (const rule of modeRules) {
    const reason = rule.reason(kind);
    if (reason !== null) return { mode: rule.mode, rule: rule.name, reason };
  }
  throw new Error('the last rule applies to every GPU');
}
