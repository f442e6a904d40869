import { type GpuCatalogue, gpuByName, type MigProfile } from '../../core/gpu-types.js';
import { nodeGpuType } from '../kubernetes/gpu-demand.js';
import type { NodeFacts } from './node-labels.js';
import { nvidiaArchitecture } from './nvidia-architectures.js';
import { migProfileIn } from './nvidia-smi.js';
import {
  cleaned,
  mostGpus,
  numberIn,
  type Parsed,
  type SeenGpu,
  type SeenMigInstance,
  seenGpu,
  wholeMb,
} from './seen-gpu.js';

/**
 * NVIDIA GPUs of a node, by the labels of GPU Feature Discovery and what the device plugin offers.
 *
 * Shared GPUs are offered `replicas` times each, as `nvidia.com/gpu` or `nvidia.com/gpu.shared`, and their product ends
 * with `-SHARED`. With the MIG strategy `mixed` each profile is a resource (`nvidia.com/mig-1g.10gb`); with `single` the
 * instances are `nvidia.com/gpu`, and the product ends with `-MIG-1g.10gb`.
 */
export function nvidiaNodeGpus(facts: NodeFacts, catalogue: GpuCatalogue): Parsed {
  const notices: string[] = [];
  const label = (key: string) => facts.labels[`nvidia.com/${key}`] ?? '';
  const product = cleaned(label('gpu.product')) || (nodeGpuType(facts.labels, 'nvidia.com/gpu', catalogue) ?? '');
  const split = /^(.*?)(?:-MIG-(\d+g\.\d+gb(?:[.+-][a-z.]+)?))?(-SHARED)?$/i.exec(product);
  const name = split?.[1] ?? product;
  const single = split?.[2] === undefined ? null : migProfileIn(split[2]);
  const offered = (facts.devices.get('nvidia.com/gpu') ?? 0) + (facts.devices.get('nvidia.com/gpu.shared') ?? 0);
  const replicas = Math.max(1, countIn(label('gpu.replicas')));
  const isShared = replicas > 1 || split?.[3] !== undefined || facts.devices.has('nvidia.com/gpu.shared');
  const memory = numberIn(label('gpu.memory'));
  const whole = {
    vendor: 'nvidia',
    name,
    architecture:
      nvidiaArchitecture(`${label('gpu.compute.major')}.${label('gpu.compute.minor')}`) ??
      familyOf(label('gpu.family')),
  } as const;
  const memoryMb = memory === null || memory < 1 ? null : wholeMb(memory);

  if (single !== null) {
    const instances = Array.from({ length: Math.min(Math.round(offered / replicas), 8 * mostGpus) }, () => single);
    // The memory of the label is that of a slice.
    const cut = cutGpus(seenGpu(whole), instances, 0, catalogue, notices);
    return { gpus: cut, notices };
  }
  const labelled = countIn(label('gpu.count'));
  const count = wholeCount({ offered, replicas, isShared, labelled, notices });
  const sharing = isShared ? (label('gpu.sharing-strategy') === 'mps' ? 'mps' : 'time-slicing') : null;
  const gpus = Array.from({ length: count }, () => seenGpu({ ...whole, memoryMb, sharing }));
  const mixed = mixedInstances(facts, label);
  if (mixed.length > 0) {
    gpus.push(...cutGpus(seenGpu({ ...whole, memoryMb }), mixed, labelled - count, catalogue, notices));
  } else if (count === 0 && labelled > 0) {
    notices.push(`its labels say ${labelled} GPUs, and its device plugin offers none now: they are left out`);
  } else if (count < labelled) {
    notices.push(`its labels say ${labelled} GPUs, of which its device plugin offers ${count}: those are listed`);
  }
  return { gpus, notices };
}

function wholeCount(facts: {
  readonly offered: number;
  readonly replicas: number;
  readonly isShared: boolean;
  readonly labelled: number;
  readonly notices: string[];
}): number {
  const { offered, replicas, isShared, labelled, notices } = facts;
  if (isShared) {
    // A plugin of old, which does not tell its replicas, tells how many GPUs there are.
    const count = replicas > 1 ? Math.ceil(offered / replicas) : Math.min(labelled || offered, offered);
    return Math.min(count, mostGpus);
  }
  if (labelled > 0 && offered > labelled && offered % labelled === 0) {
    notices.push(
      `it offers ${offered} of nvidia.com/gpu for ${labelled} GPUs: another plugin shares them (HAMi or the like); the ${labelled} are listed`,
    );
    return Math.min(labelled, mostGpus);
  }
  return Math.min(Math.floor(offered), mostGpus);
}

/** One entry for each MIG instance that the node offers, with the strategy `mixed`. */
function mixedInstances(facts: NodeFacts, label: (key: string) => string): readonly string[] {
  const profiles: string[] = [];
  for (const [resource, offered] of facts.devices) {
    const match = /^nvidia\.com\/mig-(.+?)(\.shared)?$/.exec(resource);
    const profile = match === null ? null : migProfileIn(match[1]!);
    if (profile === null) continue;
    const replicas = Math.max(1, countIn(label(`mig-${match![1]}.replicas`)));
    const count = Math.min(Math.round(offered / replicas), 8 * mostGpus);
    profiles.push(...Array.from({ length: count }, () => profile));
  }
  return profiles;
}

/** Compute slices of a GPU whose geometry is not in the catalogue: all but the A30 and the RTX PRO 6000 have seven. */
const usualSlices = 7;

type Slot = { slices: number; gib: number; readonly instances: SeenMigInstance[] };

/**
 * Spreads instances evenly over GPUs, as labels do not tell which is on which.
 *
 * @param atLeast GPUs that are known to be set to MIG; as many more as the instances need
 */
function cutGpus(
  gpu: SeenGpu,
  profiles: readonly string[],
  atLeast: number,
  catalogue: GpuCatalogue,
  notices: string[],
): readonly SeenGpu[] {
  if (profiles.length === 0) return [];
  const known = gpuByName(catalogue, gpu.name);
  const slices = Math.max(...(known?.migProfiles.map(({ computeSlices }) => computeSlices) ?? []), 0) || usualSlices;
  const gib = known?.memoryGib ?? (gpu.memoryMb === null ? Number.POSITIVE_INFINITY : gpu.memoryMb / 1024);
  const parts = profiles.map((profile) => ({ profile, ...sizeOf(profile, known?.migProfiles ?? []) }));
  if (parts.some((part) => part.slices > slices || part.gib > gib)) {
    notices.push(
      `its MIG instances (${[...new Set(profiles)].slice(0, 8).join(', ')}) do not fit into ${gpu.name || 'its GPU'}: left out`,
    );
    return [];
  }
  parts.sort((a, b) => b.slices - a.slices || b.gib - a.gib || (a.profile < b.profile ? -1 : 1));
  const needed = Math.ceil(parts.reduce((sum, part) => sum + part.slices, 0) / slices);
  for (let count = Math.max(needed, Math.min(atLeast, mostGpus), 1); count <= mostGpus; count++) {
    const slots = spread(parts, count, { slices, gib });
    if (slots === null) continue;
    if (count > 1) notices.push('labels do not tell which MIG instance is on which GPU: they are spread evenly');
    return slots.map(({ instances }) => ({ ...gpu, sharing: 'mig', migInstances: instances }));
  }
  notices.push(`its MIG instances need more than ${mostGpus} GPUs: left out`);
  return [];
}

function spread(
  parts: readonly { readonly profile: string; readonly slices: number; readonly gib: number }[],
  count: number,
  whole: { readonly slices: number; readonly gib: number },
): readonly Slot[] | null {
  const slots = Array.from({ length: count }, (): Slot => ({ ...whole, instances: [] }));
  for (const part of parts) {
    const fitting = slots.filter((slot) => slot.slices >= part.slices && slot.gib >= part.gib);
    const [first] = fitting;
    if (first === undefined) return null;
    const best = fitting.reduce((a, b) => (b.slices > a.slices ? b : a), first);
    best.slices -= part.slices;
    best.gib -= part.gib;
    best.instances.push({ profile: part.profile, uuid: null });
  }
  return slots;
}

/** Of `3g.40gb`: as the catalogue has it, else by its name. */
function sizeOf(profile: string, known: readonly MigProfile[]): { readonly slices: number; readonly gib: number } {
  const size = /^(\d+)g\.(\d+)gb/.exec(profile)!;
  const entry = known.find(({ name }) => name === size[0]);
  return { slices: entry?.computeSlices ?? Number(size[1]), gib: entry?.memoryGib ?? Number(size[2]) };
}

/** 0 for anything but a whole number. */
function countIn(text: string): number {
  return /^\d{1,6}$/.test(text) ? Number(text) : 0;
}

/** `nvidia.com/gpu.family` in the words of the catalogue. */
function familyOf(family: string): string | null {
  const word = family.toLowerCase().replace(/-lovelace$/, '');
  return /^(kepler|maxwell|pascal|volta|turing|ampere|ada|hopper|blackwell)$/.test(word) ? word : null;
}
