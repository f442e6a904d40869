import { isRecord, items, record } from '../kubernetes/wire.js';
import { jsonIn } from './json-text.js';
import {
  beginningOf,
  cleaned,
  hexWordIn,
  mbOfBytes,
  mostGpus,
  nameIn,
  numberIn,
  type Parsed,
  pciBusIdIn,
  type SeenGpu,
  seenGpu,
  wholeMb,
} from './seen-gpu.js';

/**
 * What Intel's `xpu-smi` prints with `-j`: `discovery` lists the devices, `discovery -d N` has the memory of one in bytes
 * (as text), `stats -d N` what is used of it in MiB, of the device or of its tiles.
 */

export const xpuSmiDiscoveryArguments = ['discovery', '-j'] as const;
export const xpuSmiDeviceArguments = (id: number) => ['discovery', '-d', String(id), '-j'] as const;
export const xpuSmiStatsArguments = (id: number) => ['stats', '-d', String(id), '-j'] as const;

type Json = Readonly<Record<string, unknown>>;

/** The GPUs of `xpu-smi discovery -j`, without their memory. */
export function parseXpuSmiDiscovery(text: string): Parsed {
  const document = jsonIn(text);
  if (!isRecord(document)) return { gpus: [], notices: [`no JSON that could be read: ${beginningOf(text)}`] };
  const fault = cleaned(document.error, 200);
  if (fault !== '') return { gpus: [], notices: [fault] };
  const devices = items(document.device_list).filter(isRecord);
  const notices = devices.length > mostGpus ? [`more than ${mostGpus} GPUs: the rest is left out`] : [];
  const gpus = devices.slice(0, mostGpus).flatMap((device) => {
    const index = numberIn(device.device_id);
    // Virtual functions of SR-IOV share the GPU that is listed beside them.
    const isVirtual = /virtual/i.test(cleaned(device.device_function_type, 60));
    return index === null || !Number.isInteger(index) || index > 1_000_000 || isVirtual ? [] : [gpuOf(index, device)];
  });
  return { gpus, notices: gpus.length === 0 ? [...notices, 'no GPUs in its answer'] : notices };
}

function gpuOf(index: number, device: Json): SeenGpu {
  const id = hexWordIn(device.pci_device_id);
  const uuid = cleaned(device.uuid, 100);
  return seenGpu({
    vendor: 'intel',
    index,
    name: nameIn(device.device_name),
    memoryMb: memoryOf(device),
    pciBusId: pciBusIdIn(device.pci_bdf_address),
    pciId: id === null ? null : `8086:${id}`,
    uuid: /^[0-9a-f-]{8,64}$/i.test(uuid) ? uuid : null,
  });
}

/** Null and 0 where the device has no memory of its own. [MiB] */
function memoryOf(device: Json): number | null {
  const memory = mbOfBytes(device.memory_physical_size_byte);
  return memory === 0 ? null : memory;
}

/**
 * Adds memory and what is used of it to a GPU.
 *
 * @param texts what `discovery -d N -j` and `stats -d N -j` printed; null = nothing
 */
export function withXpuSmiMemory(
  gpu: SeenGpu,
  texts: { readonly device: string | null; readonly stats: string | null },
): SeenGpu {
  const device = record(texts.device === null ? null : jsonIn(texts.device));
  const memoryMb = memoryOf(device) ?? gpu.memoryMb;
  const id = hexWordIn(device.pci_device_id);
  return {
    ...gpu,
    memoryMb,
    usedMb: texts.stats === null ? null : usedOf(record(jsonIn(texts.stats))),
    pciBusId: gpu.pciBusId ?? pciBusIdIn(device.pci_bdf_address),
    pciId: gpu.pciId ?? (id === null ? null : `8086:${id}`),
  };
}

/** Of the device; where only its tiles are told, their sum. [MiB] */
function usedOf(stats: Json): number | null {
  const whole = metricOf(stats.device_level);
  if (whole !== null) return wholeMb(whole);
  const tiles = items(stats.tile_level).map((tile) => metricOf(record(tile).data_list));
  if (tiles.length === 0 || tiles.some((used) => used === null)) return null;
  return wholeMb(tiles.reduce<number>((sum, used) => sum + used!, 0));
}

function metricOf(metrics: unknown): number | null {
  const found = items(metrics)
    .map(record)
    .find(({ metrics_type }) => metrics_type === 'XPUM_STATS_MEMORY_USED');
  return numberIn(found?.value);
}
