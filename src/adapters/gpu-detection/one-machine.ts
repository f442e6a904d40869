import { memoryBytesOf } from '../../core/gpu-memory.js';
import { type GpuCatalogue, type GpuVendor, gpuByName, vendorNames } from '../../core/gpu-types.js';
import type { PlacementGpuInput } from '../../core/placement-request.js';
import { pciGpu, pciName } from './pci-ids.js';
import type { SeenGpu } from './seen-gpu.js';
import type { MachineMemory } from './unified-memory.js';

/** Puts together what several sources say of the GPUs of one machine. Pure. */

export type Described = { readonly gpus: readonly PlacementGpuInput[]; readonly notices: readonly string[] };

/**
 * One list from the vendors' tools and from sysfs: a GPU of both is one by its PCI bus id. The tool's words count, sysfs
 * fills in what the tool does not say. What only sysfs has is added; of NVIDIA only where its tool listed nothing, since
 * that lists all that CUDA can use.
 */
export function mergeSources(
  tools: readonly SeenGpu[],
  sysfs: readonly SeenGpu[],
  { catalogue, nvidiaListed }: { readonly catalogue: GpuCatalogue; readonly nvidiaListed: boolean },
): { readonly gpus: readonly SeenGpu[]; readonly unlisted: readonly SeenGpu[] } {
  const byBusId = new Map(sysfs.map((gpu) => [gpu.pciBusId, gpu]));
  const listed = new Set(tools.map(({ pciBusId }) => pciBusId));
  const merged = tools.map((tool) => {
    const shown = tool.pciBusId === null ? undefined : byBusId.get(tool.pciBusId);
    return named(shown === undefined || shown.vendor !== tool.vendor ? tool : filled(tool, shown), catalogue);
  });
  const only = sysfs.filter(({ pciBusId }) => pciBusId === null || !listed.has(pciBusId));
  const isUnlisted = ({ vendor }: SeenGpu) => vendor === 'nvidia' && nvidiaListed;
  return { gpus: [...merged, ...only.filter((gpu) => !isUnlisted(gpu))], unlisted: only.filter(isUnlisted) };
}

function filled(tool: SeenGpu, shown: SeenGpu): SeenGpu {
  return {
    ...tool,
    name: tool.name === '' ? shown.name : tool.name,
    memoryMb: tool.memoryMb ?? shown.memoryMb,
    usedMb: tool.usedMb ?? shown.usedMb,
    pciId: tool.pciId ?? shown.pciId,
    renderNode: tool.renderNode ?? shown.renderNode,
    unified: tool.unified || shown.unified,
    gttMb: tool.gttMb ?? shown.gttMb,
  };
}

/** Tools call every GPU inside a processor `AMD Radeon Graphics`: a name of the catalogue by its PCI id says more. */
function named(gpu: SeenGpu, catalogue: GpuCatalogue): SeenGpu {
  if (gpuByName(catalogue, gpu.name) !== undefined) return gpu;
  const byId = pciName(gpu.pciId, gpu.memoryMb);
  return byId !== '' && gpuByName(catalogue, byId) !== undefined ? { ...gpu, name: byId } : gpu;
}

const vendorOrder: readonly GpuVendor[] = ['nvidia', 'amd', 'intel', 'huawei'];

/** The GPUs as a placement request has them, each with an index of its own on the node. */
export function describeGpus(
  seen: readonly SeenGpu[],
  options: {
    readonly node: string;
    readonly catalogue: GpuCatalogue;
    /** Null = not known. */
    readonly machine: MachineMemory | null;
  },
): Described {
  const notices: string[] = [];
  const sized = vendorOrder
    .flatMap((vendor) => seen.filter((gpu) => gpu.vendor === vendor))
    .flatMap((gpu) => withMemory(gpu, options, notices));
  const gpus = indexed(sized, notices).map(({ gpu, index }): PlacementGpuInput => {
    noteUnified(gpu, index, notices);
    return {
      index,
      node: options.node,
      name: gpu.name,
      vendor: gpu.vendor,
      memoryMb: gpu.memoryMb,
      usedMb: gpu.usedMb ?? 0,
      ...(gpu.architecture === null ? {} : { architecture: gpu.architecture }),
      ...tagsOf(gpu, index),
      ...(gpu.sharing === null ? {} : { sharing: gpu.sharing }),
      ...(gpu.migInstances === null ? {} : { migInstances: gpu.migInstances }),
    };
  });
  // GPUs of one kind have the same to be said of them.
  return { gpus, notices: [...new Set(notices)] };
}

type Sized = SeenGpu & { readonly memoryMb: number };

function withMemory(
  gpu: SeenGpu,
  { catalogue, machine }: { readonly catalogue: GpuCatalogue; readonly machine: MachineMemory | null },
  notices: string[],
): readonly Sized[] {
  const { memoryMb, name } = gpu;
  const called = calledOf(gpu);
  if (memoryMb !== null && memoryMb > 0) return [{ ...gpu, memoryMb }];
  if (gpu.vendor === 'nvidia' && gpu.unified && machine !== null) {
    notices.push(
      `${called} has no memory but the machine's: all of that is counted, ${inMib(machine.totalMb)} (MemTotal of /proc/meminfo), and what the machine uses now as used`,
    );
    return [{ ...gpu, memoryMb: machine.totalMb, usedMb: machine.usedMb }];
  }
  const known = gpuByName(catalogue, name);
  if (gpu.vendor === 'intel' && known === undefined) {
    notices.push(
      `${called} is left out: no memory of its own is told (an integrated GPU, or a driver that does not tell); write it down by hand`,
    );
    return [];
  }
  // Of a GPU inside a processor the catalogue knows the most that the platform takes, and not what this one has.
  if (known === undefined || gpu.unified) {
    notices.push(`${called} is left out: how much memory it has is not known; write it down by hand`);
    return [];
  }
  const assumed = Math.floor(memoryBytesOf(known) / 2 ** 20);
  notices.push(
    `${called}: its memory is not told, so that of ${known.name} in the catalogue is taken, ${inMib(assumed)}`,
  );
  return [{ ...gpu, memoryMb: assumed }];
}

/** For notices before a GPU has its index: `Tesla P40 (0000:01:00.0)`. */
function calledOf({ vendor, name, index, pciBusId }: SeenGpu): string {
  const place = pciBusId ?? (index === null ? null : `GPU ${index}`);
  return `${name || `a GPU of ${vendorNames[vendor]}`}${place === null ? '' : ` (${place})`}`;
}

function inMib(mebibytes: number): string {
  return `${mebibytes.toLocaleString('en-US')} MiB`;
}

/** Beside an integrated GPU's own memory, this many times as much of the machine's is worth a word. */
const muchMore = 2;

function noteUnified(gpu: Sized, index: number, notices: string[]): void {
  const { gttMb, memoryMb, vendor, name } = gpu;
  if (vendor !== 'amd' || gttMb === null || gttMb === 0) return;
  const called = `GPU ${index} (${name || 'AMD'})`;
  const isKnown = pciGpu(gpu.pciId) !== undefined || gpu.architecture !== null;
  if (gpu.unified) {
    const raise = gttMb > muchMore * memoryMb ? '; where its services use that as well, raise memoryMb by hand' : '';
    notices.push(
      `${called} shares the machine's memory: ${inMib(memoryMb)} are set aside for it and counted here, and its driver lets it use up to ${inMib(gttMb)} more (GTT)${raise}`,
    );
  } else if (!isKnown && gttMb > muchMore * memoryMb) {
    notices.push(
      `${called} may use ${inMib(gttMb)} of the machine's memory (GTT) beside its ${inMib(memoryMb)}: if it is an integrated GPU whose services do, raise memoryMb by hand`,
    );
  }
}

/**
 * Each GPU has the index that the tool of its vendor gives it. Where two vendors give the same, those of the later one
 * move behind all others.
 */
function indexed(
  gpus: readonly Sized[],
  notices: string[],
): readonly { readonly gpu: Sized; readonly index: number }[] {
  const taken = new Set<number>();
  const result: { gpu: Sized; index: number }[] = [];
  for (const vendor of vendorOrder) {
    const own = gpus.filter((gpu) => gpu.vendor === vendor);
    const inVendor = new Set(own.flatMap(({ index }) => (index === null ? [] : [index])));
    const seen = new Set<number>();
    const wanted = own.map((gpu) => {
      // Two rows of one index are a fault of the tool.
      const index = gpu.index !== null && !seen.has(gpu.index) ? gpu.index : firstFree(inVendor);
      inVendor.add(index);
      seen.add(index);
      return { gpu: { ...gpu, index }, index };
    });
    const clashes = wanted.some(({ index }) => taken.has(index));
    const from = Math.max(-1, ...taken) + 1;
    wanted.forEach(({ gpu, index }, position) => {
      const moved = clashes ? from + position : index;
      taken.add(moved);
      result.push({ gpu, index: moved });
    });
    if (clashes) {
      const pairs = wanted.slice(0, 8).map(({ index }, position) => `${index} is ${from + position} here`);
      notices.push(
        `the GPUs of ${vendorNames[vendor]} are counted after those of other vendors on this node (${pairs.join(', ')}); tags.vendorIndex has the index of their tool`,
      );
    }
  }
  return result;
}

function firstFree(taken: ReadonlySet<number>): number {
  let index = 0;
  while (taken.has(index)) index += 1;
  return index;
}

function tagsOf(gpu: SeenGpu, index: number): { readonly tags?: Readonly<Record<string, string>> } {
  const { uuid, pciBusId, renderNode, gttMb, unified } = gpu;
  const tags = {
    ...(uuid === null ? {} : { uuid }),
    ...(pciBusId === null ? {} : { pciBusId }),
    ...(renderNode === null ? {} : { renderNode }),
    ...(gpu.index === null || gpu.index === index ? {} : { vendorIndex: String(gpu.index) }),
    ...(unified && gttMb !== null ? { gttMb: String(gttMb) } : {}),
  };
  return Object.keys(tags).length === 0 ? {} : { tags };
}
