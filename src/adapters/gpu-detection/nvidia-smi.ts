import { nvidiaArchitecture } from './nvidia-architectures.js';
import {
  beginningOf,
  cleaned,
  mostGpus,
  nameIn,
  numberIn,
  type Parsed,
  pciBusIdIn,
  type SeenGpu,
  type SeenMigInstance,
  seenGpu,
  wholeMb,
} from './seen-gpu.js';

/**
 * What `nvidia-smi` prints: the CSV of `--query-gpu`, the listing of `-L`, and its refusals.
 *
 * Format: `nvidia-smi --help-query-gpu`; a value that the GPU, the driver or the user's rights do not give is in brackets
 * (`[N/A]`, `[Not Supported]`, `[Insufficient Permissions]`, `[Unknown Error]`).
 */

/** What is asked of each GPU. The name stands last of all, so that a comma in it does no harm. */
export const nvidiaFields = [
  'index',
  'uuid',
  'pci.bus_id',
  'memory.total',
  'memory.used',
  'compute_cap',
  'compute_mode',
  'mig.mode.current',
  'name',
] as const;
export type NvidiaField = (typeof nvidiaFields)[number];

/** Without these nothing can be said of a GPU. Older drivers know them too. */
const neededFields: readonly NvidiaField[] = ['index', 'name', 'memory.total'];

export function nvidiaQuery(fields: readonly NvidiaField[]): readonly string[] {
  return [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits'];
}

/**
 * The fields without the one that the driver does not know: `Field "compute_cap" is not a valid field to query.` Null
 * where the text says no such thing, or the field cannot be done without.
 */
export function withoutRefusedField(text: string, fields: readonly NvidiaField[]): readonly NvidiaField[] | null {
  const refused = /Field "([\w.]{1,60})" is not a valid field to query/.exec(text)?.[1];
  const known = fields.find((field) => field === refused);
  return known === undefined || neededFields.includes(known) ? null : fields.filter((field) => field !== known);
}

/** Sentences of nvidia-smi that say why there is nothing, and what would help. */
const refusals: readonly { readonly pattern: RegExp; readonly notice: string }[] = [
  {
    pattern: /couldn't communicate with the NVIDIA driver/i,
    notice: 'it cannot reach the NVIDIA driver: is the kernel module loaded (lsmod | grep nvidia)?',
  },
  {
    pattern: /Driver\/library version mismatch/i,
    notice: 'the loaded NVIDIA driver and its library have different versions: a restart after the update is missing',
  },
  { pattern: /No devices were found/i, notice: 'no devices were found' },
  {
    pattern: /Insufficient Permissions/i,
    notice: 'this user may not ask the NVIDIA driver (/dev/nvidiactl)',
  },
  {
    pattern: /Unable to determine the device handle.*?(?:Unknown Error|GPU is lost)|GPU is lost/is,
    notice: 'a GPU no longer answers (GPU is lost): the machine needs a restart',
  },
  { pattern: /Failed to initialize NVML/i, notice: 'the NVIDIA management library could not be initialised' },
];

/** Why nvidia-smi gives nothing, from what it printed and its exit code; null where it gives a reason we do not know. */
export function nvidiaRefusal(text: string): string | null {
  return refusals.find(({ pattern }) => pattern.test(text))?.notice ?? null;
}

type Row = Readonly<Partial<Record<NvidiaField, string>>>;

/**
 * `listed` counts all GPUs of the answer, also those that are left out.
 *
 * @param fields those that were asked for, the name last
 */
export function parseNvidiaQuery(text: string, fields: readonly NvidiaField[]): Parsed & { readonly listed: number } {
  const gpus: SeenGpu[] = [];
  let listed = 0;
  const notices: string[] = [];
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  for (const line of lines) {
    if (gpus.length === mostGpus) {
      notices.push(`more than ${mostGpus} GPUs: the rest is left out`);
      break;
    }
    const row = rowOf(line, fields);
    if (row !== null) listed += 1;
    const gpu = row === null ? null : gpuOf(row, notices);
    if (gpu !== null) gpus.push(gpu);
    else if (row === null) {
      const refusal = nvidiaRefusal(line);
      notices.push(refusal ?? `a line that was not understood: ${beginningOf(line)}`);
    }
    // A text that is no CSV at all is not repeated line by line.
    if (notices.length > 20) break;
  }
  return { gpus, notices, listed };
}

/** Null for a line with fewer values than fields, or without an index. */
function rowOf(line: string, fields: readonly NvidiaField[]): Row | null {
  const values = line.split(',').map((value) => value.trim());
  if (values.length < fields.length) return null;
  const last = fields.length - 1;
  const entries = fields.map((field, f) => [field, f === last ? values.slice(f).join(', ') : values[f]!] as const);
  const row: Row = Object.fromEntries(entries);
  return /^\d{1,6}$/.test(row.index ?? '') ? row : null;
}

function gpuOf(row: Row, notices: string[]): SeenGpu | null {
  const index = Number(row.index);
  const name = nameIn(row.name);
  const bracketed = (['memory.total', 'memory.used'] as const).find((field) =>
    /^\[(Insufficient Permissions|Unknown Error|GPU is lost)\]$/i.test(row[field] ?? ''),
  );
  if (bracketed !== undefined) {
    notices.push(`GPU ${index} (${name || 'no name'}): ${bracketed} is ${cleaned(row[bracketed], 60)}`);
  }
  const mode = (row.compute_mode ?? '').toLowerCase();
  if (mode === 'prohibited') {
    notices.push(
      `GPU ${index} (${name || 'no name'}) is left out: its compute mode is Prohibited (nvidia-smi -i ${index} -c DEFAULT allows work)`,
    );
    return null;
  }
  const memory = numberIn(row['memory.total']);
  const used = numberIn(row['memory.used']);
  const isMig = (row['mig.mode.current'] ?? '').toLowerCase() === 'enabled';
  return seenGpu({
    vendor: 'nvidia',
    index,
    name,
    memoryMb: memory === null || memory < 1 ? null : wholeMb(memory),
    usedMb: used === null ? null : wholeMb(used),
    architecture: nvidiaArchitecture(row.compute_cap ?? ''),
    pciBusId: pciBusIdIn(row['pci.bus_id']),
    uuid: uuidIn(row.uuid),
    sharing: isMig ? 'mig' : mode.startsWith('exclusive') ? 'exclusive' : null,
    unified: /^\[?(N\/A|Not Supported)\]?$/i.test(row['memory.total'] ?? ''),
  });
}

function uuidIn(text: string | undefined): string | null {
  const uuid = cleaned(text, 200);
  return /^(GPU|MIG)-[0-9A-Za-z/-]{4,190}$/.test(uuid) ? uuid : null;
}

/** MIG instances of `nvidia-smi -L`, by the index of their GPU; empty lists for GPUs that have none. */
export type MigListing = {
  readonly instances: ReadonlyMap<number, readonly SeenMigInstance[]>;
  readonly notices: readonly string[];
};

/**
 * Parses `nvidia-smi -L`:
 *
 *     GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-…)
 *       MIG 3g.20gb     Device  0: (UUID: MIG-GPU-5d5ba0d6-…/1/0)
 *
 * Drivers from 470 on print `MIG-` and a UUID of the instance's own. A compute instance that is a part of a GPU instance
 * (`MIG 1c.3g.20gb`) shares its memory with others and is left out.
 */
export function parseNvidiaListing(text: string): MigListing {
  const instances = new Map<number, SeenMigInstance[]>();
  const notices: string[] = [];
  let current: SeenMigInstance[] | null = null;
  for (const line of text.split(/\r?\n/)) {
    const gpu = /^GPU (\d{1,6}):/.exec(line);
    if (gpu !== null) {
      if (instances.size === mostGpus) break;
      current = instances.get(Number(gpu[1])) ?? [];
      instances.set(Number(gpu[1]), current);
      continue;
    }
    const mig = /^\s*MIG\s+(\S{1,40})\s+Device\s+\d+:\s*\(UUID:\s*(MIG-[0-9A-Za-z/-]{1,180})\s*\)/.exec(line);
    if (mig === null || current === null || current.length === 64) continue;
    const profile = migProfileIn(mig[1]!);
    if (profile !== null) current.push({ profile, uuid: mig[2]! });
    else notices.push(`the MIG device ${cleaned(mig[1], 40)} is left out: it is no whole GPU instance`);
  }
  return { instances, notices };
}

/** `3g.40gb`, `1g.10gb+me`; with a dot for the plus, as labels write it. Null for anything else. */
export function migProfileIn(text: string): string | null {
  const match = /^(\d{1,2}g\.\d{1,4}gb)(?:[+.-]([a-z]+(?:\.all)?))?$/.exec(text.trim().toLowerCase());
  if (match === null) return null;
  return match[2] === undefined ? match[1]! : `${match[1]}+${match[2]}`;
}

/** Puts the instances into GPUs that are set to MIG; one without instances may be cut anew. */
export function withMigInstances(gpus: readonly SeenGpu[], listing: MigListing): readonly SeenGpu[] {
  return gpus.map((gpu) => {
    const own = gpu.index === null ? undefined : listing.instances.get(gpu.index);
    if (own === undefined || own.length === 0) return gpu;
    // A driver too old to know mig.mode.current lists its instances all the same.
    return { ...gpu, sharing: 'mig', migInstances: own };
  });
}
