import type { CataloguedGpu, GpuCatalogue, MigProfile } from '../../core/gpu-types.js';
import { gpuByName } from '../../core/gpu-types.js';
import type { PlacementGpu } from '../../core/placement-request.js';
import { compareText } from '../compare-text.js';

/**
 * How MIG instances lie on a GPU.
 *
 * A GPU has memory slices; an instance takes a run of them, and each profile may begin at some of them only. So the sum
 * of the sizes is not enough: of two free halves of an A100, one holds `4g`, the other not. Names and sizes of profiles
 * are the catalogue's; where they may begin is here, as `nvidia-smi mig -lgipp` prints it (`{0,2,4}:2`).
 */

/** Where the instances of one profile may lie. */
export type MigSlots = {
  /** Memory slices that may be the first. */
  readonly starts: readonly number[];
  /** Memory slices that it takes. */
  readonly size: number;
};

/** One way to lay out a GPU. A profile is found by its compute slices and by how many the GPU holds of it: `2g x3`. */
export type MigLayout = {
  readonly memorySlices: number;
  readonly slots: Readonly<Record<string, MigSlots>>;
  readonly source: string;
};

/** By the compute slices of the largest profile, which is the whole GPU. */
export const migLayouts = {
  /** A100, A800, H100, H200, H20, GH200, B200, GB200, B300. The eighth compute slice is not there. */
  7: {
    memorySlices: 8,
    slots: {
      '1g x7': { starts: [0, 1, 2, 3, 4, 5, 6], size: 1 },
      '1g x4': { starts: [0, 2, 4, 6], size: 2 },
      '2g x3': { starts: [0, 2, 4], size: 2 },
      '3g x2': { starts: [0, 4], size: 4 },
      '4g x1': { starts: [0], size: 4 },
      '7g x1': { starts: [0], size: 8 },
    },
    source: 'nvidia-smi mig -lgipp of A100-SXM4-80GB, H100 and H100 NVL; MIG user guide, supported MIG profiles',
  },
  /** A30, RTX PRO 6000 Blackwell; the latter counts twelve slices, three to a quarter. */
  4: {
    memorySlices: 4,
    slots: {
      '1g x4': { starts: [0, 1, 2, 3], size: 1 },
      '2g x2': { starts: [0, 2], size: 2 },
      '4g x1': { starts: [0], size: 4 },
    },
    source: 'MIG user guide, A30; nvidia-smi mig -lgipp of RTX PRO 6000 Blackwell: {0,3,6,9}:3, {0,6}:6, {0}:12',
  },
  /** RTX PRO 5000 and 4500 Blackwell. */
  2: {
    memorySlices: 2,
    slots: {
      '1g x2': { starts: [0, 1], size: 1 },
      '2g x1': { starts: [0], size: 2 },
    },
    source: 'MIG user guide, RTX PRO 5000 and 4500 Blackwell',
  },
} satisfies Record<number, MigLayout>;

/** One instance on a GPU. */
export type MigInstance = {
  /** `3g.40gb`. */
  readonly profile: string;
  /** Its first memory slice, in slices of the layout; of GPUs with eight, what `nvidia-smi mig -cgi 3g.40gb:4` takes. */
  readonly start: number;
  readonly memoryMb: number;
};

type Candidate = MigInstance & { readonly size: number; readonly computeSlices: number; readonly order: number };

/** All instances of one layout at once, with what they cost. */
type Configuration = {
  /** Largest memory first, then by start. */
  readonly instances: readonly Candidate[];
  readonly memorySlices: number;
  readonly computeSlices: number;
};

/** The layout of a GPU with these profiles; null where there are none, or a profile of which it is not known where it lies. */
export function migLayoutOf(profiles: readonly MigProfile[]): MigLayout | null {
  if (profiles.length === 0) return null;
  const whole = Math.max(...profiles.map(({ computeSlices }) => computeSlices));
  const layout: MigLayout | undefined = (migLayouts as Readonly<Record<number, MigLayout>>)[whole];
  if (layout === undefined) return null;
  return profiles.every((profile) => layout.slots[slotKey(profile)] !== undefined) ? layout : null;
}

function slotKey(profile: MigProfile): string {
  return `${profile.computeSlices}g x${profile.instances}`;
}

/**
 * The MIG profiles of a GPU of a request; empty where it has none or the catalogue does not know them.
 *
 * A name that does not state the memory (`A100`) is the part whose memory is nearest to the request's.
 */
export function migProfilesOf(
  gpu: Pick<PlacementGpu, 'name' | 'memoryMb'>,
  catalogue: GpuCatalogue,
): readonly MigProfile[] {
  const entry = gpuByName(catalogue, gpu.name);
  if (entry === undefined) return [];
  if (entry.largestMemoryGib === entry.memoryGib) return entry.migProfiles;
  const sizes = catalogue.entries.filter(
    (other) => other.name.startsWith(`${entry.name}-`) && other.vendor === entry.vendor,
  );
  const off = (other: CataloguedGpu) => Math.abs(other.memoryGib * 1024 - gpu.memoryMb);
  const nearest = sizes.reduce((best, other) => (off(other) < off(best) ? other : best), entry);
  return nearest.migProfiles;
}

/** Memory that a service in an instance of this profile has, in whole MiB. */
export function profileMemoryMb(profile: MigProfile): number {
  return Math.floor(profile.memoryGib * 1024);
}

/** `1g.10gb+me`, `1g.24gb-me`, `1g.24gb+gfx`: as large as the profile without its suffix. */
const profileSuffix = /[+.-][a-z.]+$/;

/**
 * Part of the memory in its name that an instance has for sure: every profile of the catalogue has at least 0.889 of it
 * (`1g.18gb` of the H200: 16 GiB).
 */
const leastOfName = 0.875;

/**
 * Memory of an instance by the name of its profile [MiB].
 *
 * Where the catalogue does not know the profile, what such a name promises at least; null for a name without a size.
 */
export function instanceMemoryMb(name: string, profiles: readonly MigProfile[]): number | null {
  const plain = /^\d+g\.\d+gb$/.test(name) ? name : name.replace(profileSuffix, '');
  const known = profiles.find((profile) => profile.name === plain);
  if (known !== undefined) return profileMemoryMb(known);
  const size = /^\d+g\.(\d+)gb$/.exec(plain)?.[1];
  return size === undefined || Number(size) === 0 ? null : Math.floor(Number(size) * 1024 * leastOfName);
}

/** Few and made once for each list of profiles, which are objects of the catalogue. */
const known = new WeakMap<readonly MigProfile[], readonly Configuration[]>();

/**
 * Every set of profiles that a GPU holds at once, cheapest first: fewest memory slices, then fewest compute slices.
 *
 * Of the ways to lay out one set, the one that packs it to the end, since that leaves the start free, where the large
 * profiles must begin (`4g` on an A100) and which all others may use too.
 */
function configurationsOf(profiles: readonly MigProfile[]): readonly Configuration[] {
  const before = known.get(profiles);
  if (before !== undefined) return before;
  const layout = migLayoutOf(profiles);
  const found = new Map<string, Configuration>();
  if (layout !== null) {
    const candidates = candidatesOf(profiles, layout);
    const taken: Candidate[] = [];
    const visit = (end: number): void => {
      keepBetter(found, taken);
      for (const candidate of candidates) {
        // From the last slice to the first, so that each set of places comes up once.
        if (candidate.start + candidate.size > end) continue;
        taken.push(candidate);
        visit(candidate.start);
        taken.pop();
      }
    };
    visit(layout.memorySlices);
  }
  const all = [...found.values()].sort(
    (a, b) =>
      a.memorySlices - b.memorySlices ||
      a.computeSlices - b.computeSlices ||
      compareText(setKey(a.instances), setKey(b.instances)),
  );
  known.set(profiles, all);
  return all;
}

function candidatesOf(profiles: readonly MigProfile[], layout: MigLayout): readonly Candidate[] {
  return profiles.flatMap((profile, order) => {
    const { starts, size } = layout.slots[slotKey(profile)]!;
    const { name, computeSlices } = profile;
    const memoryMb = profileMemoryMb(profile);
    return starts.map((start) => ({ profile: name, start, memoryMb, size, computeSlices, order }));
  });
}

function keepBetter(found: Map<string, Configuration>, taken: readonly Candidate[]): void {
  const instances = [...taken].sort((a, b) => b.memoryMb - a.memoryMb || a.order - b.order || a.start - b.start);
  const key = setKey(instances);
  const other = found.get(key);
  if (other !== undefined && comparePlaces(other.instances, instances) <= 0) return;
  found.set(key, {
    instances,
    memorySlices: instances.reduce((sum, { size }) => sum + size, 0),
    computeSlices: instances.reduce((sum, { computeSlices }) => sum + computeSlices, 0),
  });
}

function setKey(instances: readonly Candidate[]): string {
  return instances.map(({ profile }) => profile).join(',');
}

/** Less is better: the first slices are taken last; then the large instances lie last. */
function comparePlaces(a: readonly Candidate[], b: readonly Candidate[]): number {
  const byRoom = firstSlices(a) - firstSlices(b);
  if (byRoom !== 0) return byRoom;
  const at = a.findIndex(({ start }, index) => start !== b[index]!.start);
  return at === -1 ? 0 : b[at]!.start - a[at]!.start;
}

/** The taken slices as a number, in which the first slice weighs most. */
function firstSlices(instances: readonly Candidate[]): number {
  let sum = 0;
  for (const { start, size } of instances) for (let s = start; s < start + size; s++) sum += 2 ** -s;
  return sum;
}

/**
 * Cuts a GPU into instances for these needs: one for each, all at once, on the fewest memory slices (then the fewest
 * compute slices). So each need gets the smallest profile that holds it, or a larger one where those do not fit together.
 *
 * Exact: a GPU has few sets of profiles, and the needs fit into one of them where the largest fits into the largest, and
 * so on down. On an A100-80GB 9, 9 and 30 GiB become `1g.10gb`, `1g.10gb` and `3g.40gb`.
 *
 * @param profiles of the catalogue, `migProfilesOf`
 * @param needsMb in MiB, in any order; 0 takes the smallest profile
 * @returns in the order of the needs; null where they do not fit, or where the layout of the GPU is not known
 */
export function packInstances({
  profiles,
  needsMb,
}: {
  readonly profiles: readonly MigProfile[];
  readonly needsMb: readonly number[];
}): readonly MigInstance[] | null {
  const order = largestFirst(needsMb);
  const fits = configurationsOf(profiles).find(
    ({ instances }) =>
      instances.length === order.length && order.every((need, at) => instances[at]!.memoryMb >= needsMb[need]!),
  );
  if (fits === undefined) return null;
  const packed = new Array<MigInstance>(needsMb.length);
  order.forEach((need, at) => {
    const { profile, start, memoryMb } = fits.instances[at]!;
    packed[need] = { profile, start, memoryMb };
  });
  return packed;
}

/** Indexes of the needs from the largest; equal ones in their order. */
function largestFirst(needsMb: readonly number[]): readonly number[] {
  return needsMb.map((_, index) => index).sort((a, b) => needsMb[b]! - needsMb[a]! || a - b);
}

/**
 * Where instances of these profiles lie at once, by name: what `nvidia-smi mig -cgi` could make.
 *
 * @returns the first slice of each, in the order of the names; null where they cannot be there together
 */
export function placeProfiles({
  profiles,
  names,
}: {
  readonly profiles: readonly MigProfile[];
  readonly names: readonly string[];
}): readonly number[] | null {
  const wanted = [...names].sort().join(',');
  const fits = configurationsOf(profiles).find(
    ({ instances }) =>
      instances.length === names.length &&
      instances
        .map(({ profile }) => profile)
        .sort()
        .join(',') === wanted,
  );
  if (fits === undefined) return null;
  const left = [...fits.instances];
  return names.map(
    (name) =>
      left.splice(
        left.findIndex(({ profile }) => profile === name),
        1,
      )[0]!.start,
  );
}

/**
 * Gives each need one of the instances that a GPU is cut into, the smallest that holds it.
 *
 * Exact: the largest need takes the smallest instance that holds it, and so on down; whatever other matching there is,
 * exchanging instances turns it into this one.
 *
 * @param instances of the request, with their memory by `instanceMemoryMb`; null memory holds nothing
 * @returns for each need the index of its instance; null where one finds none
 */
export function packInto({
  instances,
  needsMb,
}: {
  readonly instances: readonly { readonly memoryMb: number | null }[];
  readonly needsMb: readonly number[];
}): readonly number[] | null {
  const free = instances
    .map(({ memoryMb }, index) => ({ memoryMb, index }))
    .filter((one): one is { memoryMb: number; index: number } => one.memoryMb !== null)
    .sort((a, b) => a.memoryMb - b.memoryMb || a.index - b.index);
  const given = new Array<number>(needsMb.length);
  for (const need of largestFirst(needsMb)) {
    const at = free.findIndex(({ memoryMb }) => memoryMb >= needsMb[need]!);
    if (at === -1) return null;
    given[need] = free.splice(at, 1)[0]!.index;
  }
  return given;
}
