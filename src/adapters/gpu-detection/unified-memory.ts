import { join } from 'node:path';
import { cleaned, type Parsed, seenGpu, wholeMb } from './seen-gpu.js';
import { beginningOfFile } from './sysfs.js';

/**
 * Machines whose GPU has no memory but the machine's: Jetson modules, GB10, Grace with a GPU that hides its memory.
 * How much there is stands in `/proc/meminfo`, which module it is in `/proc/device-tree/model`.
 */

/** Memory of the machine [MiB]. */
export type MachineMemory = { readonly totalMb: number; readonly usedMb: number };

/** Null where it is no `/proc/meminfo`. Used is what the kernel does not count as available. */
export function parseMeminfo(text: string): MachineMemory | null {
  const total = kibibytes(text, 'MemTotal');
  if (total === null || total < 1024) return null;
  const available = Math.min(kibibytes(text, 'MemAvailable') ?? total, total);
  const totalMb = wholeMb(total / 1024);
  const usedMb = wholeMb((total - available) / 1024);
  return totalMb === null || usedMb === null ? null : { totalMb, usedMb };
}

function kibibytes(text: string, key: string): number | null {
  const match = new RegExp(`^${key}:\\s*(\\d{1,15}) kB\\s*$`, 'm').exec(text);
  return match === null ? null : Number(match[1]);
}

/** Jetson modules by what the device tree calls them. Source: NVIDIA Jetson module data sheets. */
const jetsons: readonly { readonly pattern: RegExp; readonly name: string; readonly architecture: string }[] = [
  { pattern: /thor/i, name: 'Jetson Thor', architecture: 'blackwell' },
  { pattern: /agx orin/i, name: 'Jetson AGX Orin', architecture: 'ampere' },
  { pattern: /orin nx/i, name: 'Jetson Orin NX', architecture: 'ampere' },
  { pattern: /orin nano/i, name: 'Jetson Orin Nano', architecture: 'ampere' },
  { pattern: /orin/i, name: 'Jetson Orin', architecture: 'ampere' },
  { pattern: /xavier nx/i, name: 'Jetson Xavier NX', architecture: 'volta' },
  { pattern: /xavier/i, name: 'Jetson AGX Xavier', architecture: 'volta' },
  { pattern: /tx2/i, name: 'Jetson TX2', architecture: 'pascal' },
  { pattern: /jetson nano/i, name: 'Jetson Nano', architecture: 'maxwell' },
];

/** The GPU of a Jetson, without its memory; none where the device tree names another machine. */
export function parseDeviceTreeModel(text: string): Parsed {
  const model = cleaned(text, 200);
  if (!/nvidia|jetson/i.test(model)) return { gpus: [], notices: [] };
  const known = jetsons.find(({ pattern }) => pattern.test(model));
  if (known === undefined && !/jetson/i.test(model)) return { gpus: [], notices: [] };
  return {
    gpus: [
      seenGpu({
        vendor: 'nvidia',
        index: 0,
        name: known?.name ?? model,
        architecture: known?.architecture ?? null,
        unified: true,
      }),
    ],
    notices: [],
  };
}

export async function readMachineMemory(root: string): Promise<MachineMemory | null> {
  return parseMeminfo((await beginningOfFile(join(root, 'proc/meminfo'))) ?? '');
}

export async function readDeviceTree(root: string): Promise<Parsed> {
  return parseDeviceTreeModel((await beginningOfFile(join(root, 'proc/device-tree/model'))) ?? '');
}
