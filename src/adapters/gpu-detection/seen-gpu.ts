import type { GpuVendor } from '../../core/gpu-types.js';
import type { PlacementGpuInput } from '../../core/placement-request.js';

/**
 * A GPU as one source describes it, before what several sources say of it is put together.
 *
 * Everything here comes out of a tool or a file and may be anything: the readers below answer with null instead of throwing.
 */

export type SeenGpu = {
  readonly vendor: GpuVendor;
  /** As the source counts; null = it does not. */
  readonly index: number | null;
  /** '' = not known. */
  readonly name: string;
  /** Null = the source does not know, as where the GPU has no memory of its own. [MiB] */
  readonly memoryMb: number | null;
  readonly usedMb: number | null;
  /** Null = not known from this source. */
  readonly architecture: string | null;
  /** `0000:01:00.0`; null = none, or not known. */
  readonly pciBusId: string | null;
  /** `1002:1681`, vendor and device; null = not known. */
  readonly pciId: string | null;
  readonly uuid: string | null;
  /** `/dev/dri/renderD128`; null = not known. */
  readonly renderNode: string | null;
  readonly sharing: NonNullable<PlacementGpuInput['sharing']> | null;
  readonly migInstances: readonly SeenMigInstance[] | null;
  /** True where it has no memory but the machine's. */
  readonly unified: boolean;
  /** Memory of the machine that its driver lets it use beside its own (amdgpu's GTT) [MiB]; null = not known. */
  readonly gttMb: number | null;
};

export type SeenMigInstance = { readonly profile: string; readonly uuid: string | null };

/** What a parser makes of one text: never throws, whatever the text is. */
export type Parsed = {
  readonly gpus: readonly SeenGpu[];
  /** What a person should know, a sentence each. */
  readonly notices: readonly string[];
};

const blank = {
  index: null,
  name: '',
  memoryMb: null,
  usedMb: null,
  architecture: null,
  pciBusId: null,
  pciId: null,
  uuid: null,
  renderNode: null,
  sharing: null,
  migInstances: null,
  unified: false,
  gttMb: null,
} satisfies Omit<SeenGpu, 'vendor'>;

/** A GPU of which only this is known; its name as one line that can be shown. */
export function seenGpu(facts: Partial<SeenGpu> & Pick<SeenGpu, 'vendor'>): SeenGpu {
  return { ...blank, ...facts, name: cleaned(facts.name ?? '') };
}

/** Most GPUs that are taken from one source: the largest machines have 16, cut into eight partitions each. */
export const mostGpus = 256;

/** As `placementGpuSchema` allows. [MiB] */
const mostMemoryMb = 2 ** 30;

/** Whole MiB; null where there is no such memory. */
export function wholeMb(mebibytes: number): number | null {
  const whole = Math.floor(mebibytes);
  return Number.isFinite(mebibytes) && whole >= 0 && whole <= mostMemoryMb ? whole : null;
}

/** Digits of a text as a number; null for anything else (`[N/A]`, `N/A`, a number with a unit). */
export function numberIn(text: unknown): number | null {
  if (typeof text === 'number') return Number.isFinite(text) ? text : null;
  if (typeof text !== 'string' || !/^\s*\d{1,20}(\.\d{1,20})?\s*$/.test(text)) return null;
  return Number(text);
}

/** Bytes as a number or as digits, in whole MiB; null for anything else. */
export function mbOfBytes(bytes: unknown): number | null {
  const count = numberIn(bytes);
  return count === null ? null : wholeMb(count / 2 ** 20);
}

/** Controls, and marks that change the direction or width of what follows: no name has them. */
const unprintable = /[\p{Cc}\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu;

/** A text of a tool as one line that can be shown, cut to a length. */
export function cleaned(text: unknown, length = 200): string {
  if (typeof text !== 'string') return '';
  return (
    text
      .slice(0, 4 * length)
      .replace(unprintable, ' ')
      .replace(/\s+/g, ' ')
      .trim()
      .slice(0, length)
      // The cut may have gone through a pair.
      .replace(/\p{Surrogate}$/u, '')
      .trim()
  );
}

/** What tools print where they have nothing to say. */
const nothings = new Set(['', 'n/a', '[n/a]', 'unknown', 'none', 'null', '[not supported]', 'not supported']);

/** As `cleaned`; '' where a tool says that there is none. */
export function nameIn(text: unknown, length = 200): string {
  const name = cleaned(text, length);
  return nothings.has(name.toLowerCase()) ? '' : name;
}

/** `00000000:0A:00.0`, `0000:0a:00.0` and `0a:00.0` are one place: `0000:0a:00.0`. Null for anything else. */
export function pciBusIdIn(text: unknown): string | null {
  if (typeof text !== 'string') return null;
  const match = /^\s*(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])\s*$/i.exec(text);
  if (match === null) return null;
  const domain = Number.parseInt(match[1] ?? '0', 16)
    .toString(16)
    .padStart(4, '0');
  return `${domain}:${match[2]}:${match[3]}.${match[4]}`.toLowerCase();
}

/** `0x1681` → `1681`; null for anything else. */
export function hexWordIn(text: unknown): string | null {
  if (typeof text !== 'string') return null;
  return /^\s*(?:0x)?([0-9a-f]{4})\s*$/i.exec(text)?.[1]?.toLowerCase() ?? null;
}

/** The beginning of a text that was not understood, for a notice. */
export function beginningOf(text: string): string {
  const line = cleaned(text, 200);
  return line === '' ? 'nothing' : line;
}
