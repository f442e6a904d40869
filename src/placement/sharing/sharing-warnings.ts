import { type CataloguedGpu, type GpuCatalogue, gpuByName } from '../../core/gpu-types.js';
import type { SharingModeName } from '../../core/placement-request.js';
import { gigabytes } from '../amounts.js';
import { reserveMb } from '../budgets.js';
import { type GpuKind, sharedPlaces } from './gpu-kinds.js';

/** What a person must know before setting a mode up on a kind of GPU, a sentence each. */
export function readerWarnings(kind: GpuKind, mode: SharingModeName, catalogue: GpuCatalogue): readonly string[] {
  return [
    ...hardwareWarnings(kind, catalogue),
    ...modeWarnings[mode](kind),
    ...settingWarnings(kind, mode),
    ...memoryWarnings(kind),
  ];
}

type WarningsOf = (kind: GpuKind) => readonly string[];

/** Of each mode, where it is the one recommended. */
const modeWarnings = {
  exclusive: () => [],
  mig: (kind) => [
    ...(kind.places.some(({ gpu }) => gpu.migInstances === null)
      ? ['MIG is switched on while nothing uses the GPU: stop its processes first.']
      : []),
    // Hopper and later switch without it.
    ...(kind.family === 'ampere' && kind.places.some(({ gpu }) => gpu.migInstances === null)
      ? ['On Ampere the switch needs a reset of the GPU, or a restart where it is passed through.']
      : []),
    'Instances cannot talk to each other: no model spans two of them.',
    ...kind.places
      .filter(({ gpu }) => gpu.usedMb > 0 && gpu.migInstances === null)
      .map(({ gpu, label }) => `Others use ${gigabytes(gpu.usedMb)} of ${label}; they end, or move to an instance.`),
  ],
  mps: () => [
    'A fatal fault of one MPS client ends every client on that GPU: share it only among services that may fail together.',
    'A container is a client only with the pipe directory mounted and the IPC namespace of the host.',
    'The device plugin of Kubernetes gives MPS clients equal parts, and does not combine MPS with MIG.',
  ],
  'time-slicing': () => ['Time-slicing isolates no memory: the service that starts last finds what the others left.'],
  'memory-limit': () => ['Nothing enforces a memory limit: an engine that is told too much takes it from the others.'],
  cpu: () => [],
} satisfies Record<SharingModeName, WarningsOf>;

function hardwareWarnings(
  { support, title, isUnified, gpu, partitions }: GpuKind,
  catalogue: GpuCatalogue,
): readonly string[] {
  const warnings: string[] = [];
  if (support.mig.supported === 'no' && support.mps.supported === 'no' && partitions === null) {
    warnings.push(`${title} has no hardware isolation between services: neither MIG nor MPS.`);
  }
  const entry = gpuByName(catalogue, gpu.name);
  if (partitions !== null) {
    warnings.push(`${title} can be cut into compute partitions (CPX); each is a GPU of its own, to be listed as one.`);
  }
  // Memory of an integrated GPU is a setting, not a property of the part.
  if (entry !== undefined && !isUnified && isOtherMemory(entry, gpu.memoryMb)) {
    const like = likeNamed(entry, gpu.memoryMb, catalogue);
    const hint = like === undefined ? '' : `; ${like.name} has that much`;
    warnings.push(
      `The request says ${gigabytes(gpu.memoryMb)}, which counts; ${title} is known with ${entry.memoryGib} GB${hint}.`,
    );
  }
  return warnings;
}

/** Further off than error correction and rounding explain. */
function isOtherMemory(entry: CataloguedGpu, memoryMb: number): boolean {
  const gib = memoryMb / 1024;
  return gib < entry.memoryGib * 0.9 || gib > entry.largestMemoryGib * 1.05;
}

/** A part of that memory whose name has a number of this one: RTX 4000 Ada for an RTX PRO 4000. */
function likeNamed(entry: CataloguedGpu, memoryMb: number, catalogue: GpuCatalogue): CataloguedGpu | undefined {
  const numbers = entry.name.match(/\d{4,}/g) ?? [];
  return catalogue.entries.find(
    (other) =>
      other !== entry &&
      other.vendor === entry.vendor &&
      !isOtherMemory(other, memoryMb) &&
      numbers.some((number) => other.name.match(/\d{4,}/g)?.includes(number) === true),
  );
}

/** The request sets another mode than what suits. */
function settingWarnings({ places }: GpuKind, mode: SharingModeName): readonly string[] {
  return places
    .filter(({ gpu, placed }) => gpu.sharing !== null && gpu.sharing !== mode && placed.length > 0)
    .map(({ gpu, label }) => `The request sets ${label} to ${gpu.sharing}.`);
}

function memoryWarnings({ places, isUnified, title }: GpuKind): readonly string[] {
  const warnings: string[] = [];
  if (isUnified && sharedPlaces(places).length > 0 && places.every(({ gpu }) => gpu.usedMb === 0)) {
    warnings.push(`The memory of ${title} is the system's: say in usedMb what the system itself needs.`);
  }
  for (const { gpu, label, placed } of places) {
    const budgetsMb = placed.reduce((sum, { assignment }) => sum + assignment.memoryBudgetMb, 0);
    const leftMb = gpu.memoryMb - gpu.usedMb - budgetsMb;
    if (placed.length > 1 && leftMb >= 0 && leftMb < reserveMb) {
      warnings.push(
        `The budgets on ${label} leave ${leftMb} MiB; the contexts of ${placed.length} processes take ${reserveMb} MiB or more.`,
      );
    }
    if (placed.length === 0 || leftMb >= 0) continue;
    const used = gpu.usedMb === 0 ? '' : ` beside ${gigabytes(gpu.usedMb)} of others`;
    warnings.push(`The budgets on ${label} add up to ${gigabytes(budgetsMb)}${used}, of ${gigabytes(gpu.memoryMb)}.`);
  }
  return warnings;
}
