import { z } from 'zod';
import { InputError, quoteInput } from './input-error.js';
import { check } from './parse.js';

/**
 * One name for each GPU type. Node labels, accelerator names of clouds, configuration and profiles spell the same part
 * in many ways (`NVIDIA-L20`, `l20`, `nvidia_l20`); prices and pools only meet when all of them become one canonical name.
 *
 * Names are compared without regard to case, `-`, `_` and spaces. A name that the catalogue does not know stays itself.
 */

export const gpuVendors = ['nvidia', 'amd', 'intel', 'huawei'] as const;
export type GpuVendor = (typeof gpuVendors)[number];

/** As the vendors write their own names. */
export const vendorNames = { nvidia: 'NVIDIA', amd: 'AMD', intel: 'Intel', huawei: 'Huawei' } satisfies Record<
  GpuVendor,
  string
>;

/** Number formats that GPUs compute in. */
export const gpuPrecisions = ['fp32', 'fp16', 'bf16', 'fp8', 'int8', 'fp4', 'int4'] as const;
export type GpuPrecision = (typeof gpuPrecisions)[number];

/**
 * Ways in which several containers can use one GPU, as NVIDIA's device plugin names them; `cpx` is AMD's compute
 * partition, in which each die of an MI300X is a GPU of its own.
 */
export const gpuSharingModes = ['time-slicing', 'mps', 'mig', 'cpx'] as const;
export type GpuSharingMode = (typeof gpuSharingModes)[number];

/** One size into which MIG can cut a GPU. */
export type MigProfile = {
  /** As nvidia-smi prints it without `MIG `: `1g.10gb`. Its variants with other media engines (`1g.10gb+me`) are the same. */
  readonly name: string;
  /** What `nvidia-smi mig -lgip` prints; drivers differ by a few hundredths. */
  readonly memoryGib: number;
  /** Of the compute slices of the GPU, which are as many as its largest profile has. */
  readonly computeSlices: number;
  /** Most instances of this profile that the GPU holds at once. */
  readonly instances: number;
};

/** What the catalogue knows of one GPU type, and where its facts come from. */
export type CataloguedGpu = {
  /** Canonical name, e.g. `A100-80GB`. */
  readonly name: string;
  /** Other spellings, and the instance types of clouds. */
  readonly aliases: readonly string[];
  /** Nominal size of the memory of the part. */
  readonly memoryGib: number;
  /** The largest memory of a part of this name; above `memoryGib` only where the name does not state it (`A100`). */
  readonly largestMemoryGib: number;
  /** Memory that the driver reports (`nvidia-smi`, MiB): less than nominal where error correction takes some; null = not known. */
  readonly reportedMemoryMib: number | null;
  /** `ada`, `hopper`, `cdna3`, …; null = not known. */
  readonly architecture: string | null;
  /** Bandwidth of the memory [10^9 bytes/s]; null = not known. */
  readonly memoryGBps: number | null;
  /**
   * Dense peak rates [10^12 operations/s], without sparsity: of the matrix units where the part has them, with fp32
   * accumulation for fp16 and bf16; absent = not known, or a format that it does not have. fp32 is that of the plain units.
   */
  readonly teraflops: Readonly<Partial<Record<GpuPrecision, number>>>;
  /** To the other GPUs of its machine, per GPU and direction [10^9 bytes/s]: NVLink, xGMI, else PCIe; null = not known. */
  readonly linkGBps: number | null;
  /** Largest power of the board (or module) [W]; null = not known. */
  readonly tdpWatts: number | null;
  /** MIG geometries; empty = none, or not known. */
  readonly migProfiles: readonly MigProfile[];
  /** Sharing modes that the part can do; empty = none, or not known. */
  readonly sharing: readonly GpuSharingMode[];
  /** Where the technical figures come from, in words; null where there are none. */
  readonly source: string | null;
  /** On-demand list price; null = not known. */
  readonly usdPerGpuHour: number | null;
  readonly vendor: GpuVendor;
  /** Whose list price `usdPerGpuHour` is and of which instance; null where there is no price. */
  readonly priceSource: string | null;
  /** Date of that price, `2026-07-20`; null where there is no price. */
  readonly priceAsOf: string | null;
};

/** The catalogue, indexed for lookups. Built by `parseGpuCatalogue`, never by hand. */
export type GpuCatalogue = {
  readonly entries: readonly CataloguedGpu[];
  /** By `gpuNameKey` of every canonical name, alias and instance type. */
  readonly byKey: ReadonlyMap<string, CataloguedGpu>;
  /** By the words of every name, `a100 80gb`: how a type is found inside a longer name. */
  readonly byWords: ReadonlyMap<string, CataloguedGpu>;
  /** Most words that one name has. */
  readonly longestWords: number;
};

const gpuName = z.string().min(1).max(100);

const positive = z.number().gt(0);

type Rates = Record<GpuPrecision, z.ZodOptional<z.ZodNumber>>;

const migProfileSchema = z.strictObject({
  name: z.string().regex(/^\d+g\.\d+gb$/),
  memoryGib: positive,
  computeSlices: z.number().int().gt(0).max(8),
  instances: z.number().int().gt(0).max(8),
});

const entrySchema = z
  .strictObject({
    name: gpuName,
    vendor: z.enum(gpuVendors),
    memoryGib: positive,
    largestMemoryGib: positive.optional(),
    reportedMemoryMib: z.number().int().gt(0).optional(),
    architecture: z.string().min(1).max(40).optional(),
    memoryGBps: positive.optional(),
    teraflops: z
      .strictObject({ ...(Object.fromEntries(gpuPrecisions.map((format) => [format, positive.optional()])) as Rates) })
      .default({}),
    linkGBps: positive.optional(),
    tdpWatts: positive.optional(),
    migProfiles: z.array(migProfileSchema).default([]),
    sharing: z.array(z.enum(gpuSharingModes)).default([]),
    source: z.string().min(1).optional(),
    usdPerGpuHour: z.number().gt(0).nullable(),
    priceSource: z.string().min(1).optional(),
    priceAsOf: z.iso.date().optional(),
    note: z.string().optional(),
    aliases: z.array(gpuName),
    instanceTypes: z.array(gpuName).default([]),
  })
  .refine((entry) => entry.usdPerGpuHour === null || (entry.priceSource !== undefined && entry.priceAsOf), {
    path: ['priceSource'],
    message: 'the source and the date (priceAsOf) of the price',
  })
  .refine((entry) => entry.source !== undefined || !hasTechnicalFigures(entry), {
    path: ['source'],
    message: 'where the technical figures come from',
  })
  .refine((entry) => entry.largestMemoryGib === undefined || entry.largestMemoryGib >= entry.memoryGib, {
    path: ['largestMemoryGib'],
    message: 'at least memoryGib',
  })
  .refine((entry) => entry.migProfiles.length === 0 || entry.sharing.includes('mig'), {
    path: ['sharing'],
    message: "a list with 'mig', since there are MIG profiles",
  });

function hasTechnicalFigures(entry: {
  readonly memoryGBps?: number | undefined;
  readonly teraflops: object;
  readonly linkGBps?: number | undefined;
  readonly tdpWatts?: number | undefined;
}): boolean {
  return (
    entry.memoryGBps !== undefined ||
    entry.linkGBps !== undefined ||
    entry.tdpWatts !== undefined ||
    Object.keys(entry.teraflops).length > 0
  );
}

const catalogueSchema = z.strictObject({
  apiVersion: z.literal('gpumix/v1'),
  kind: z.literal('GpuCatalogue'),
  note: z.string().optional(),
  gpus: z.array(entrySchema),
});

/** What two spellings of one name have in common: `NVIDIA-L20`, `nvidia_l20` and `NVIDIA L20` → `nvidial20`. */
export function gpuNameKey(name: string): string {
  return name.toLowerCase().replace(/[-_\s]/g, '');
}

function wordsOf(name: string): readonly string[] {
  return name
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
}

/**
 * Checks a GPU catalogue (`profiles/gpus.json`, as plain JSON) and indexes it.
 *
 * @throws InputError for a wrong shape, and for a name that two entries claim
 */
export function parseGpuCatalogue(document: unknown, source: string): GpuCatalogue {
  const { gpus } = check(catalogueSchema, document, source);
  const byKey = new Map<string, CataloguedGpu>();
  const byWords = new Map<string, CataloguedGpu>();
  let longestWords = 0;
  const entries = gpus.map((gpu, index): CataloguedGpu => {
    const entry: CataloguedGpu = {
      name: gpu.name,
      vendor: gpu.vendor,
      memoryGib: gpu.memoryGib,
      largestMemoryGib: gpu.largestMemoryGib ?? gpu.memoryGib,
      reportedMemoryMib: gpu.reportedMemoryMib ?? null,
      architecture: gpu.architecture ?? null,
      memoryGBps: gpu.memoryGBps ?? null,
      teraflops: gpu.teraflops as CataloguedGpu['teraflops'],
      linkGBps: gpu.linkGBps ?? null,
      tdpWatts: gpu.tdpWatts ?? null,
      migProfiles: gpu.migProfiles,
      sharing: gpu.sharing,
      source: gpu.source ?? null,
      usdPerGpuHour: gpu.usdPerGpuHour,
      priceSource: gpu.priceSource ?? null,
      priceAsOf: gpu.priceAsOf ?? null,
      aliases: [...gpu.aliases, ...gpu.instanceTypes],
    };
    for (const name of [entry.name, ...entry.aliases]) {
      const key = gpuNameKey(name);
      const other = byKey.get(key);
      if (other !== undefined && other !== entry) {
        throw new InputError(source, [
          {
            place: `gpus[${index}]`,
            found: `${quoteInput(name)}, which ${quoteInput(other.name)} has too`,
            expected: 'a name or alias that no other entry has',
          },
        ]);
      }
      byKey.set(key, entry);
    }
    // Instance types are left out: inside a deployment's name they would be found by accident.
    for (const name of [gpu.name, ...gpu.aliases]) {
      const words = wordsOf(name);
      longestWords = Math.max(longestWords, words.length);
      for (const text of [words.join(' '), words.join('')]) if (!byWords.has(text)) byWords.set(text, entry);
    }
    return entry;
  });
  return { entries, byKey, byWords, longestWords };
}

/** The entry of a name or alias; undefined where the catalogue does not know it. */
export function gpuByName(catalogue: GpuCatalogue, name: string): CataloguedGpu | undefined {
  return catalogue.byKey.get(gpuNameKey(name));
}

/** How node labels mark a part of a GPU: a MIG profile, or a GPU that several pods share in turns. */
const partialGpu = /^(.+?)-(SHARED|MIG-\d+g\.\d+gb(?:[+.](?:me(?:\.all)?|gfx)|-me)?(?:-SHARED)?)$/i;

/**
 * The canonical name of a GPU type: `NVIDIA-A100-SXM4-80GB` → `A100-80GB`. Unknown names stay themselves.
 *
 * A part of a GPU is a type of its own, named after its whole: `NVIDIA-A100-SXM4-80GB-MIG-1g.10gb` →
 * `A100-80GB-MIG-1g.10gb`. The catalogue has no price for parts.
 */
export function canonicalGpuType(catalogue: GpuCatalogue, name: string): string {
  const trimmed = name.trim();
  const known = gpuByName(catalogue, trimmed);
  if (known !== undefined) return known.name;
  const part = partialGpu.exec(trimmed);
  if (part === null) return trimmed;
  return `${gpuByName(catalogue, part[1]!)?.name ?? part[1]}-${canonicalPart(part[2]!)}`;
}

function canonicalPart(part: string): string {
  return part.toLowerCase().replace('mig', 'MIG').replace('shared', 'SHARED');
}

/**
 * The entry of a GPU type, or one made up for a part of it: `A100-80GB-MIG-1g.10gb`.
 *
 * A MIG slice has the memory of its profile, bandwidth in proportion to its memory and FLOP/s to its compute slices;
 * no link, since MIG instances cannot talk to each other. A GPU shared in turns (`-SHARED`) has all of the memory, and
 * rates that nobody knows. Parts have no price. Undefined where the catalogue does not know the whole or the profile.
 */
export function gpuOrPart(catalogue: GpuCatalogue, name: string): CataloguedGpu | undefined {
  const trimmed = name.trim();
  const known = gpuByName(catalogue, trimmed);
  if (known !== undefined) return known;
  const split = partialGpu.exec(trimmed);
  const whole = split === null ? undefined : gpuByName(catalogue, split[1]!);
  if (split === null || whole === undefined) return undefined;
  const part = canonicalPart(split[2]!);
  const base: CataloguedGpu = {
    ...whole,
    name: `${whole.name}-${part}`,
    aliases: [],
    migProfiles: [],
    linkGBps: null,
    tdpWatts: null,
    sharing: [],
    usdPerGpuHour: null,
    priceSource: null,
    priceAsOf: null,
  };
  const shared = part.endsWith('SHARED');
  if (!part.startsWith('MIG-')) return { ...base, memoryGBps: null, teraflops: {} };
  const size = /\d+g\.\d+gb/.exec(part)?.[0];
  const profile = whole.migProfiles.find((candidate) => candidate.name === size);
  if (profile === undefined) return undefined;
  const all = whole.migProfiles.reduce((a, b) => (b.computeSlices > a.computeSlices ? b : a));
  const compute = profile.computeSlices / all.computeSlices;
  const { memoryGBps } = whole;
  return {
    ...base,
    memoryGib: profile.memoryGib,
    largestMemoryGib: profile.memoryGib,
    reportedMemoryMib: null,
    memoryGBps: shared || memoryGBps === null ? null : (memoryGBps * profile.memoryGib) / all.memoryGib,
    teraflops: shared
      ? {}
      : Object.fromEntries(Object.entries(whole.teraflops).map(([format, rate]) => [format, rate * compute])),
  };
}

/** True where the catalogue knows the name, or the whole GPU of which it names a part. */
export function isKnownGpuType(catalogue: GpuCatalogue, name: string): boolean {
  const trimmed = name.trim();
  if (gpuByName(catalogue, trimmed) !== undefined) return true;
  const whole = partialGpu.exec(trimmed)?.[1];
  return whole !== undefined && gpuByName(catalogue, whole) !== undefined;
}

/**
 * The GPU type that a longer name mentions: `llama2-7b-a100-80gb` → `A100-80GB`.
 *
 * The longest run of whole words that names a type wins, then the one nearest to the end. Words are not cut: `a10` is
 * not found in `a100`, nor `l4` in `gpt-xl40`.
 */
export function gpuTypeInName(catalogue: GpuCatalogue, name: string): string | null {
  const words = wordsOf(name);
  let best: { readonly entry: CataloguedGpu; readonly length: number } | null = null;
  for (let start = 0; start < words.length; start++) {
    for (let count = 1; count <= catalogue.longestWords && start + count <= words.length; count++) {
      const run = words.slice(start, start + count);
      const entry = catalogue.byWords.get(run.join(' '));
      const length = run.join('').length;
      if (entry !== undefined && (best === null || length >= best.length)) best = { entry, length };
    }
  }
  return best === null ? null : best.entry.name;
}
