import { isRecord, items, record } from '../kubernetes/wire.js';
import { amdArchitecture, isIntegratedGfx } from './amd-architectures.js';
import { jsonIn } from './json-text.js';
import {
  beginningOf,
  hexWordIn,
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
 * What `amd-smi static` and `amd-smi metric` print with `--json`: a list of GPUs, from ROCm 7 on inside `gpu_data`; a
 * measured value is `{ "value": 196592, "unit": "MB" }`, where MB means MiB, or `N/A`.
 */

export const amdSmiStaticArguments = ['static', '--asic', '--bus', '--vram', '--json'] as const;
export const amdSmiMetricArguments = ['metric', '--mem-usage', '--json'] as const;

type Json = Readonly<Record<string, unknown>>;

/** @param metric what `metric` printed; null = it gave nothing, and how much memory is used is not known */
export function parseAmdSmi(texts: { readonly static: string; readonly metric: string | null }): Parsed {
  const rows = rowsOf(texts.static);
  if (rows === null) return { gpus: [], notices: [`no JSON that could be read: ${beginningOf(texts.static)}`] };
  const notices: string[] = [];
  const usage = texts.metric === null ? [] : rowsOf(texts.metric);
  if (usage === null) notices.push('the memory in use is not known: amd-smi metric gave no JSON');
  const gpus = rows
    .slice(0, mostGpus)
    .filter((row) => indexOf(row) !== null || isRecord(row.asic))
    .map((row, position) => {
      const index = indexOf(row) ?? position;
      return gpuOf(index, row, record(record((usage ?? []).find((each) => indexOf(each) === index)).mem_usage));
    });
  if (rows.length > mostGpus) notices.push(`more than ${mostGpus} GPUs: the rest is left out`);
  if (gpus.length === 0) notices.push('no GPUs in its answer');
  return { gpus, notices };
}

function rowsOf(text: string): readonly Json[] | null {
  const document = jsonIn(text);
  if (Array.isArray(document)) return document.filter(isRecord);
  if (!isRecord(document)) return null;
  return items(document.gpu_data).filter(isRecord);
}

function indexOf(row: Json): number | null {
  const index = numberIn(row.gpu);
  return index !== null && Number.isInteger(index) && index <= 1_000_000 ? index : null;
}

function gpuOf(index: number, row: Json, usage: Json): SeenGpu {
  const asic = record(row.asic);
  const gfx = nameIn(asic.target_graphics_version).toLowerCase();
  const device = hexWordIn(asic.device_id);
  const total = mbOf(record(row.vram).size) ?? mbOf(usage.total_vram);
  return seenGpu({
    vendor: 'amd',
    index,
    // Some answers have the PCI id where the name is not known.
    name: hexWordIn(asic.market_name) === null ? nameIn(asic.market_name) : '',
    memoryMb: total === 0 ? null : total,
    usedMb: mbOf(usage.used_vram),
    architecture: amdArchitecture(gfx),
    pciBusId: pciBusIdIn(record(row.bus).bdf),
    pciId: device === null ? null : `1002:${device}`,
    unified: isIntegratedGfx(gfx),
    gttMb: mbOf(usage.total_gtt),
  });
}

/** [MiB] for one of each unit. */
const units: Readonly<Record<string, number>> = { B: 2 ** -20, KB: 2 ** -10, MB: 1, GB: 2 ** 10 };

/** `{ "value": 196592, "unit": "MB" }`, `"196592 MB"` of older versions, or a number of MB. */
function mbOf(value: unknown): number | null {
  if (isRecord(value)) return scaled(numberIn(value.value), value.unit);
  if (typeof value !== 'string') return scaled(numberIn(value), 'MB');
  const match = /^\s*(\d{1,15}(?:\.\d{1,6})?)\s*([KMG]?B)?\s*$/.exec(value);
  return match === null ? null : scaled(Number(match[1]), match[2] ?? 'MB');
}

function scaled(amount: number | null, unit: unknown): number | null {
  const scale = typeof unit === 'string' && Object.hasOwn(units, unit) ? units[unit]! : 1;
  return amount === null ? null : wholeMb(amount * scale);
}
