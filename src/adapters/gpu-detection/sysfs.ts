import { access, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type GpuVendor, vendorNames } from '../../core/gpu-types.js';
import { pciGpu, pciName } from './pci-ids.js';
import { hexWordIn, mbOfBytes, mostGpus, nameIn, type Parsed, pciBusIdIn, type SeenGpu, seenGpu } from './seen-gpu.js';

/**
 * What the Linux kernel shows of GPUs in `/sys/class/drm`, without any tool.
 *
 * amdgpu: `device/mem_info_{vram,gtt}_total` and `…_used` [bytes] (kernel documentation, "AMDGPU: driver information").
 * Intel: `device/tile*∕physical_vram_size_bytes` (xe), `lmem_total_bytes` (i915 of Intel's own packages; that of the
 * mainline kernel does not tell). NVIDIA's driver shows no memory here.
 */

/** Contents of the files that matter, by path below `/sys/class/drm`; a link that is there has the content ''. */
export type SysfsFiles = ReadonlyMap<string, string>;

const deviceFiles = [
  'vendor',
  'device',
  'uevent',
  'mem_info_vram_total',
  'mem_info_vram_used',
  'mem_info_gtt_total',
  'lmem_total_bytes',
  'product_name',
] as const;

/** sysfs gives at most a page. [bytes] */
const longestFile = 4096;

/** Reads them. Null where there is no `/sys/class/drm`: no Linux, or no graphics driver. */
export async function readSysfs(root: string): Promise<SysfsFiles | null> {
  const folder = join(root, 'sys/class/drm');
  const entries = await namesIn(folder);
  if (entries === null) return null;
  const files = new Map<string, string>();
  const take = async (path: string) => {
    const text = await beginningOfFile(join(folder, path));
    if (text !== null) files.set(path, text);
  };
  const cards = entries.filter((name) => /^card\d{1,4}$/.test(name)).slice(0, mostGpus);
  for (const card of cards) {
    for (const name of deviceFiles) await take(`${card}/device/${name}`);
    await take(`${card}/lmem_total_bytes`);
    if (await isThere(join(folder, card, 'device/physfn'))) files.set(`${card}/device/physfn`, '');
    const tiles = ((await namesIn(join(folder, card, 'device'))) ?? []).filter((name) => /^tile\d{1,2}$/.test(name));
    for (const tile of tiles) {
      await take(`${card}/device/${tile}/physical_vram_size_bytes`);
      await take(`${card}/device/${tile}/memory/physical_vram_size_bytes`);
    }
  }
  const renderNodes = entries.filter((name) => /^renderD\d{1,4}$/.test(name)).slice(0, mostGpus);
  for (const node of renderNodes) await take(`${node}/device/uevent`);
  return files;
}

async function namesIn(folder: string): Promise<readonly string[] | null> {
  try {
    return (await readdir(folder)).sort(byNumber);
  } catch {
    return null;
  }
}

function byNumber(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The first page of a file; null where it cannot be read. */
export async function beginningOfFile(path: string): Promise<string | null> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(longestFile), 0, longestFile, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch {
    return null;
  }
}

const vendors: Readonly<Record<string, GpuVendor>> = { '1002': 'amd', '10de': 'nvidia', '8086': 'intel' };

/** Drivers that show a GPU on a screen and cannot compute on it, or hold it for a virtual machine. */
const otherDrivers: Readonly<Record<string, string>> = {
  nouveau: 'its driver is nouveau, which cannot run CUDA: install the NVIDIA driver',
  radeon: 'its driver is radeon, which cannot run ROCm',
  'vfio-pci': 'it is held for a virtual machine (vfio-pci)',
};

/** The GPUs of AMD, Intel and NVIDIA among the graphics devices, in the order of their bus ids, without an index. */
export function parseSysfs(files: SysfsFiles): Parsed {
  const notices: string[] = [];
  const gpus: SeenGpu[] = [];
  const renderNodes = new Map<string, string>();
  const cards = new Set<string>();
  for (const [path, text] of files) {
    const [folder = '', , name] = path.split('/');
    if (/^card\d{1,4}$/.test(folder)) cards.add(folder);
    const busId =
      name === 'uevent' && /^renderD\d{1,4}$/.test(folder) ? pciBusIdIn(valueIn(text, 'PCI_SLOT_NAME')) : null;
    if (busId !== null) renderNodes.set(busId, `/dev/dri/${folder}`);
  }
  for (const card of cards) {
    const gpu = cardOf((name) => files.get(`${card}/${name}`), tilesOf(files, card), renderNodes, notices);
    if (gpu !== null) gpus.push(gpu);
  }
  gpus.sort((a, b) => byNumber(a.pciBusId ?? '~', b.pciBusId ?? '~'));
  return { gpus, notices };
}

/** Of each tile; the older xe drivers have it in a folder `memory`. [MiB] */
function tilesOf(files: SysfsFiles, card: string): readonly (number | null)[] {
  const tiles = new Map<string, number | null>();
  for (const [path, text] of files) {
    const match = /^(card\d+)\/device\/(tile\d+)\/(?:memory\/)?physical_vram_size_bytes$/.exec(path);
    if (match?.[1] === card) tiles.set(match[2]!, mbOfBytes(text) ?? tiles.get(match[2]!) ?? null);
  }
  return [...tiles.values()];
}

function cardOf(
  text: (name: string) => string | undefined,
  tilesMb: readonly (number | null)[],
  renderNodes: ReadonlyMap<string, string>,
  notices: string[],
): SeenGpu | null {
  const vendorId = hexWordIn(text('device/vendor')) ?? '';
  const vendor = Object.hasOwn(vendors, vendorId) ? vendors[vendorId]! : null;
  // A virtual function is a part of a GPU that stands beside it.
  if (vendor === null || text('device/physfn') !== undefined) return null;
  const device = hexWordIn(text('device/device'));
  const uevent = text('device/uevent') ?? '';
  const pciBusId = pciBusIdIn(valueIn(uevent, 'PCI_SLOT_NAME'));
  const pciId = device === null ? null : `${vendorId}:${device}`;
  const isIntegrated = pciGpu(pciId)?.integrated ?? false;
  const own =
    vendor === 'intel'
      ? (mbOfBytes(text('lmem_total_bytes')) ?? mbOfBytes(text('device/lmem_total_bytes')) ?? sumOf(tilesMb))
      : mbOfBytes(text('device/mem_info_vram_total'));
  const memoryMb = own === 0 ? null : own;
  const product = nameIn(text('device/product_name'));
  const name = pciName(pciId, memoryMb) || product || `${vendorNames[vendor]} ${pciId ?? 'GPU'}`;
  const driver = valueIn(uevent, 'DRIVER') ?? '';
  if (Object.hasOwn(otherDrivers, driver)) {
    notices.push(`${name} at ${pciBusId ?? 'an unknown place'} is left out: ${otherDrivers[driver]}`);
    return null;
  }
  return seenGpu({
    vendor,
    name,
    memoryMb,
    usedMb: mbOfBytes(text('device/mem_info_vram_used')),
    pciBusId,
    pciId,
    renderNode: pciBusId === null ? null : (renderNodes.get(pciBusId) ?? null),
    unified: isIntegrated,
    gttMb: mbOfBytes(text('device/mem_info_gtt_total')),
  });
}

function sumOf(tilesMb: readonly (number | null)[]): number | null {
  if (tilesMb.length === 0 || tilesMb.includes(null)) return null;
  return tilesMb.reduce<number>((sum, tile) => sum + tile!, 0);
}

/** `KEY=value` of a uevent file. */
function valueIn(uevent: string, key: string): string | null {
  const line = uevent.split('\n').find((each) => each.startsWith(`${key}=`));
  return line === undefined ? null : line.slice(key.length + 1).trim();
}
