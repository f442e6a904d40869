import { memoryBytesOf } from '../../core/gpu-memory.js';
import { type GpuCatalogue, gpuByName } from '../../core/gpu-types.js';
import { nodeGpuType } from '../kubernetes/gpu-demand.js';
import type { NodeFacts } from './node-labels.js';
import { pciName } from './pci-ids.js';
import { cleaned, mbOfBytes, mostGpus, numberIn, type Parsed, type SeenGpu, seenGpu, wholeMb } from './seen-gpu.js';

/** AMD's, Intel's and Huawei's accelerators of a node, by the labels of their labellers and what their plugins offer. */

/** Resources that are whole GPUs of AMD; `spx` is the mode in which a GPU is not partitioned. */
const wholeAmd = /^amd\.com\/(gpu|spx_nps\d)$/;
const partOfAmd = /^amd\.com\/[dtqc]px_nps\d$/;

/**
 * AMD GPUs, by the labels of AMD's node labeller: `amd.com/gpu.vram: 64G` (GiB, cut off), `amd.com/gpu.product-name`,
 * `amd.com/gpu.device-id`. Older ones write `beta.amd.com/gpu.vram.64G: "1"`, the value in the key and the count as value,
 * as those of today do beside the plain label.
 */
export function amdNodeGpus(facts: NodeFacts, catalogue: GpuCatalogue): Parsed {
  const notices: string[] = [];
  let count = 0;
  for (const [resource, offered] of facts.devices) {
    if (wholeAmd.test(resource)) count += offered;
    else if (partOfAmd.test(resource)) {
      notices.push(`${resource} are parts of GPUs, whose memory no label tells: left out`);
    }
  }
  count = Math.min(Math.floor(count), mostGpus);
  const products = valuesOf(facts.labels, 'product-name').map(({ value, count: of }) => ({
    name: value.replaceAll('_', ' '),
    count: of,
  }));
  const devices = valuesOf(facts.labels, 'device-id').map(({ value, count: of }) => ({
    name: pciName(`1002:${value.toLowerCase()}`, null) || `AMD 1002:${value.toLowerCase()}`,
    count: of,
  }));
  const kinds = products.length > 0 ? products : devices;
  const memories = valuesOf(facts.labels, 'vram');
  if (kinds.length > 1) {
    // Which memory belongs to which kind is not told.
    notices.push(
      `it has GPUs of several kinds (${kinds
        .slice(0, 8)
        .map(({ name }) => name)
        .join(', ')})`,
    );
    const gpus = kinds
      .flatMap(({ name, count: of }) => Array.from({ length: Math.min(of ?? 1, mostGpus) }, () => named(name)))
      .slice(0, count);
    return { gpus, notices };
  }
  const name = kinds[0]?.name ?? nodeGpuType(facts.labels, 'amd.com/gpu', catalogue) ?? '';
  const memoryMb = memories.length === 1 ? vramOf(memories[0]!.value, name, catalogue) : null;
  return { gpus: Array.from({ length: count }, () => ({ ...named(name), memoryMb })), notices };
}

function named(name: string): SeenGpu {
  return seenGpu({ vendor: 'amd', name });
}

type Valued = { readonly value: string; readonly count: number | null };

/** Values of a label of the labeller; those with a count say more than the plain one where they differ among GPUs. */
function valuesOf(labels: NodeFacts['labels'], key: string): readonly Valued[] {
  const plain = cleaned(labels[`amd.com/gpu.${key}`] ?? labels[`beta.amd.com/gpu.${key}`] ?? '');
  const counted = new Map<string, number>();
  for (const [name, text] of Object.entries(labels)) {
    const value = /^(?:beta\.)?amd\.com\/gpu\.(.+)$/.exec(name)?.[1];
    if (value === undefined || !value.startsWith(`${key}.`) || !/^\d{1,4}$/.test(text)) continue;
    counted.set(cleaned(value.slice(key.length + 1)), Number(text));
  }
  if (counted.size > 1 || plain === '') return [...counted].map(([value, count]) => ({ value, count }));
  return [{ value: plain, count: null }];
}

/** `191G`, GiB cut off; where the part is known to have that much, what its driver reports. [MiB] */
function vramOf(text: string, name: string, catalogue: GpuCatalogue): number | null {
  const gib = /^(\d{1,5})G$/.exec(text)?.[1];
  if (gib === undefined || Number(gib) === 0) return null;
  const known = gpuByName(catalogue, name);
  const reported = known === undefined || known.reportedMemoryMib === null ? null : memoryBytesOf(known) / 2 ** 20;
  return reported !== null && Math.floor(reported / 1024) === Number(gib) ? reported : wholeMb(Number(gib) * 1024);
}

/**
 * Intel GPUs, by the labels of its device plugin and of Node Feature Discovery: `gpu.intel.com/memory.max` [bytes, of all
 * GPUs together], `gpu.intel.com/millicores` (1000 for each GPU), `gpu.intel.com/product`, `gpu.intel.com/device-id.…`.
 * With `-shared-dev-num` each GPU is offered several times.
 */
export function intelNodeGpus(facts: NodeFacts, catalogue: GpuCatalogue): Parsed {
  const offered = (facts.devices.get('gpu.intel.com/i915') ?? 0) + (facts.devices.get('gpu.intel.com/xe') ?? 0);
  if (offered < 1) return { gpus: [], notices: [] };
  const fact = (key: string) => facts.labels[`gpu.intel.com/${key}`] ?? facts.allocatable[`gpu.intel.com/${key}`];
  const physical = Math.floor((numberIn(fact('millicores')) ?? 0) / 1000);
  const isShared = physical > 0 && offered > physical;
  const count = Math.min(Math.floor(isShared ? physical : offered), mostGpus);
  const total = mbOfBytes(fact('memory.max'));
  // Of all that there are, also where one of them is not offered now.
  const memoryMb = total === null || total === 0 ? null : Math.floor(total / (physical || count));
  const product = cleaned(facts.labels['gpu.intel.com/product'] ?? '').replaceAll('_', ' ');
  const name =
    product || (nodeGpuType(facts.labels, 'gpu.intel.com/i915', catalogue) ?? '') || deviceName(facts.labels);
  const sharing = isShared ? 'time-slicing' : null;
  return {
    gpus: Array.from({ length: count }, () =>
      seenGpu({ vendor: 'intel', name, memoryMb: memoryMb === 0 ? null : memoryMb, sharing }),
    ),
    notices: [],
  };
}

/** `gpu.intel.com/device-id.0380-56c0.present: "true"`; nothing where there are several kinds. */
function deviceName(labels: NodeFacts['labels']): string {
  const ids = new Set<string>();
  for (const key of Object.keys(labels)) {
    const id = /^gpu\.intel\.com\/device-id\.[0-9a-f]{4}-([0-9a-f]{4})\.(?:present|count)$/.exec(key)?.[1];
    if (id !== undefined) ids.add(id);
  }
  const [id] = ids;
  if (id === undefined || ids.size > 1) return '';
  return pciName(`8086:${id}`, null) || `Intel 8086:${id}`;
}

/** Gaudi and Ascend: how many there are is told by the plugin, their memory by the catalogue. */
const accelerators: readonly { readonly resource: RegExp; readonly vendor: 'intel' | 'huawei' }[] = [
  { resource: /^habana\.ai\/gaudi$/, vendor: 'intel' },
  { resource: /^huawei\.com\/(ascend[0-9a-z]+|npu)$/, vendor: 'huawei' },
];

export function acceleratorNodeGpus(facts: NodeFacts, catalogue: GpuCatalogue): Parsed {
  const gpus = [...facts.devices].flatMap(([resource, offered]) => {
    const vendor = accelerators.find((each) => each.resource.test(resource))?.vendor;
    if (vendor === undefined) return [];
    const name = nodeGpuType(facts.labels, resource, catalogue) ?? resource.slice(resource.indexOf('/') + 1);
    return Array.from({ length: Math.min(Math.floor(offered), mostGpus) }, () => seenGpu({ vendor, name }));
  });
  return { gpus: gpus.slice(0, mostGpus), notices: [] };
}
