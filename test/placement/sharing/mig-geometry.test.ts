import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gpuByName, type MigProfile, parseGpuCatalogue } from '../../../src/core/gpu-types.js';
import {
  instanceMemoryMb,
  migLayoutOf,
  migProfilesOf,
  packInstances,
  packInto,
  placeProfiles,
  profileMemoryMb,
} from '../../../src/placement/sharing/mig-geometry.js';

const catalogue = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');
const profilesOf = (name: string) => gpuByName(catalogue, name)!.migProfiles;
const gib = (n: number) => n * 1024;

describe('profiles that lie on one GPU together', () => {
  it.each<readonly [gpu: string, names: readonly string[], starts: readonly number[] | null]>([
    // The combinations of the MIG user guide.
    ['A100-80GB', ['7g.80gb'], [0]],
    ['A100-80GB', ['4g.40gb', '3g.40gb'], [0, 4]],
    ['A100-80GB', ['4g.40gb', '2g.20gb', '1g.10gb'], [0, 4, 6]],
    ['A100-80GB', ['4g.40gb', '1g.10gb', '1g.10gb', '1g.10gb'], [0, 4, 5, 6]],
    ['A100-80GB', ['3g.40gb', '3g.40gb'], [0, 4]],
    ['A100-80GB', ['3g.40gb', '2g.20gb', '2g.20gb'], [4, 0, 2]],
    ['A100-80GB', ['3g.40gb', '2g.20gb', '1g.10gb', '1g.10gb'], [4, 2, 0, 1]],
    ['A100-80GB', ['3g.40gb', '1g.10gb', '1g.10gb', '1g.10gb', '1g.10gb'], [4, 0, 1, 2, 3]],
    ['A100-80GB', ['2g.20gb', '2g.20gb', '2g.20gb', '1g.10gb'], [0, 2, 4, 6]],
    ['A100-80GB', Array<string>(7).fill('1g.10gb'), [0, 1, 2, 3, 4, 5, 6]],
    ['A100-80GB', Array<string>(4).fill('1g.20gb'), [0, 2, 4, 6]],
    ['A100-40GB', ['3g.20gb', '2g.10gb', '1g.5gb'], [4, 2, 1]],
    ['H100-NVL', ['3g.47gb', '3g.47gb'], [0, 4]],
    ['H200', ['4g.71gb', '2g.35gb', '1g.18gb'], [0, 4, 6]],
    ['B200', ['3g.90gb', '3g.90gb'], [0, 4]],
    ['A30', ['2g.12gb', '1g.6gb', '1g.6gb'], [2, 0, 1]],
    ['A30', Array<string>(4).fill('1g.6gb'), [0, 1, 2, 3]],
    ['RTX-PRO-6000', ['2g.48gb', '1g.24gb', '1g.24gb'], [2, 0, 1]],
    ['RTX-PRO-5000', ['1g.24gb', '1g.24gb'], [0, 1]],
    // The sizes add up, the places do not.
    ['A100-80GB', ['4g.40gb', '4g.40gb'], null],
    ['A100-80GB', Array<string>(8).fill('1g.10gb'), null],
    ['A100-80GB', Array<string>(4).fill('2g.20gb'), null],
    ['A100-80GB', ['3g.40gb', '3g.40gb', '1g.10gb'], null],
    ['A100-80GB', ['4g.40gb', '1g.10gb', '1g.10gb', '1g.10gb', '1g.10gb'], null],
    ['A100-80GB', ['4g.40gb', '2g.20gb', '2g.20gb'], null],
    ['A100-80GB', ['7g.80gb', '1g.10gb'], null],
    ['A100-80GB', ['3g.20gb'], null],
    ['A30', ['2g.12gb', '2g.12gb', '1g.6gb'], null],
    ['RTX-PRO-5000', ['2g.48gb', '1g.24gb'], null],
  ])('%s: %j at %j', (gpu, names, starts) => {
    expect(placeProfiles({ profiles: profilesOf(gpu), names })).toEqual(starts);
  });
});

describe('needs packed into instances', () => {
  it('takes the smallest profile that holds each, in the order of the needs', () => {
    expect(packInstances({ profiles: profilesOf('A100-80GB'), needsMb: [gib(9), gib(30), gib(9)] })).toEqual([
      { profile: '1g.10gb', start: 2, memoryMb: 9728 },
      { profile: '3g.40gb', start: 4, memoryMb: 40192 },
      { profile: '1g.10gb', start: 3, memoryMb: 9728 },
    ]);
  });

  it('takes a profile with more memory and no more compute before one with more of both', () => {
    expect(packInstances({ profiles: profilesOf('H100'), needsMb: [gib(15)] })).toEqual([
      { profile: '1g.20gb', start: 6, memoryMb: 20090 },
    ]);
  });

  it('takes a larger profile where the smallest ones do not lie together', () => {
    // Four halves of a half: only three 2g, so the fourth is a 1g with the same memory; a fifth finds no place.
    const fourth = packInstances({ profiles: profilesOf('H200'), needsMb: Array<number>(4).fill(gib(30)) });
    expect(fourth!.map(({ profile }) => profile)).toEqual(['1g.35gb', '1g.35gb', '1g.35gb', '1g.35gb']);
    expect(packInstances({ profiles: profilesOf('H200'), needsMb: Array<number>(5).fill(gib(30)) })).toBeNull();
    // 4g must begin at 0, so the second need of half a GPU gets 3g at the end.
    expect(packInstances({ profiles: profilesOf('A100-80GB'), needsMb: [gib(39), gib(39)] })).toEqual([
      { profile: '3g.40gb', start: 0, memoryMb: 40192 },
      { profile: '3g.40gb', start: 4, memoryMb: 40192 },
    ]);
  });

  it('says null for what is larger than the GPU, for too many, and for GPUs without MIG', () => {
    const profiles = profilesOf('A30');
    expect(packInstances({ profiles, needsMb: [gib(24)] })).toBeNull();
    expect(packInstances({ profiles, needsMb: Array<number>(5).fill(1) })).toBeNull();
    expect(packInstances({ profiles: profilesOf('L4'), needsMb: [1] })).toBeNull();
  });

  it('packs nothing into nothing', () => {
    expect(packInstances({ profiles: profilesOf('A30'), needsMb: [] })).toEqual([]);
    expect(packInto({ instances: [], needsMb: [] })).toEqual([]);
  });
});

/** Places as nvidia-smi mig -lgipp prints them, written out once more for the brute force. */
const places: Readonly<Record<string, { readonly starts: readonly number[]; readonly size: number }>> = {
  '1g.10gb': { starts: [0, 1, 2, 3, 4, 5, 6], size: 1 },
  '1g.20gb': { starts: [0, 2, 4, 6], size: 2 },
  '2g.20gb': { starts: [0, 2, 4], size: 2 },
  '3g.40gb': { starts: [0, 4], size: 4 },
  '4g.40gb': { starts: [0], size: 4 },
  '7g.80gb': { starts: [0], size: 8 },
};

/** Fewest memory slices on which the needs lie, by trying every profile and start for each need in turn; null = none. */
function bruteForce(profiles: readonly MigProfile[], needsMb: readonly number[], occupied = 0): number | null {
  const [need, ...rest] = needsMb;
  if (need === undefined) return 0;
  let best: number | null = null;
  for (const profile of profiles) {
    if (profileMemoryMb(profile) < need) continue;
    const { starts, size } = places[profile.name]!;
    for (const start of starts) {
      const mask = ((1 << size) - 1) << start;
      if ((occupied & mask) !== 0) continue;
      const more = bruteForce(profiles, rest, occupied | mask);
      if (more !== null && (best === null || size + more < best)) best = size + more;
    }
  }
  return best;
}

/** One need for each size of profile, just above the size before. */
const sizes = [1000, 9729, 19969, 40193];

describe('against brute force on an A100-80GB', () => {
  const profiles = profilesOf('A100-80GB');
  const slicesOf = (needsMb: readonly number[]) => {
    const packed = packInstances({ profiles, needsMb });
    return packed === null ? null : packed.reduce((sum, { profile }) => sum + places[profile]!.size, 0);
  };

  it('every multiset of up to five needs is packed exactly where it can be, on the fewest slices', () => {
    const visit = (needs: readonly number[], from: number): number => {
      expect(slicesOf(needs), needs.join('+')).toBe(bruteForce(profiles, needs));
      if (needs.length === 5) return 1;
      let count = 1;
      for (let at = from; at < sizes.length; at++) count += visit([...needs, sizes[at]!], at);
      return count;
    };
    expect(visit([], 0)).toBe(126);
  });

  const someNeeds = fc.array(fc.integer({ min: 0, max: 82_000 }), { maxLength: 8 });

  it('what is packed holds each need, lies where it may and overlaps nothing', () => {
    fc.assert(
      fc.property(someNeeds, (needsMb) => {
        const packed = packInstances({ profiles, needsMb });
        if (packed === null) return;
        const taken = packed.flatMap(({ profile, start }) => {
          expect(places[profile]!.starts).toContain(start);
          return Array.from({ length: places[profile]!.size }, (_, slice) => start + slice);
        });
        expect(new Set(taken).size).toBe(taken.length);
        expect(Math.max(-1, ...taken)).toBeLessThan(8);
        packed.forEach(({ memoryMb }, need) => {
          expect(memoryMb).toBeGreaterThanOrEqual(needsMb[need]!);
        });
      }),
    );
  });

  it('the order of the needs changes nothing in what they cost', () => {
    fc.assert(
      fc.property(someNeeds, fc.infiniteStream(fc.nat()), (needsMb, keys) => {
        const shuffled = needsMb
          .map((need) => ({ need, key: keys.next().value as number }))
          .sort((a, b) => a.key - b.key)
          .map(({ need }) => need);
        expect(slicesOf(shuffled)).toBe(slicesOf(needsMb));
      }),
    );
  });

  it('a part of what packs, packs too', () => {
    fc.assert(
      fc.property(someNeeds, fc.nat(), (needsMb, drop) => {
        if (needsMb.length === 0 || packInstances({ profiles, needsMb }) === null) return;
        const fewer = needsMb.filter((_, index) => index !== drop % needsMb.length);
        expect(packInstances({ profiles, needsMb: fewer })).not.toBeNull();
      }),
    );
  });
});

describe('services on the instances that are there', () => {
  it('get the smallest that holds them', () => {
    const instances = [{ memoryMb: 40192 }, { memoryMb: 9728 }, { memoryMb: 20090 }];
    expect(packInto({ instances, needsMb: [9000, 12_000] })).toEqual([1, 2]);
    expect(packInto({ instances, needsMb: [9000, 9000, 30_000] })).toEqual([1, 2, 0]);
    expect(packInto({ instances, needsMb: [30_000, 30_000] })).toBeNull();
    expect(packInto({ instances, needsMb: [1, 1, 1, 1] })).toBeNull();
  });

  it('get none of which the size is not known', () => {
    expect(packInto({ instances: [{ memoryMb: null }], needsMb: [1] })).toBeNull();
  });

  it('are matched wherever a matching exists', () => {
    const permutations = (items: readonly number[]): readonly (readonly number[])[] =>
      items.length === 0
        ? [[]]
        : items.flatMap((item, at) =>
            permutations(items.filter((_, other) => other !== at)).map((rest) => [item, ...rest]),
          );
    fc.assert(
      fc.property(
        fc.array(fc.nat(20), { maxLength: 5 }),
        fc.array(fc.nat(20), { maxLength: 5 }),
        (memories, needsMb) => {
          const given = packInto({ instances: memories.map((memoryMb) => ({ memoryMb })), needsMb });
          const possible = permutations(memories).some(
            (order) => order.length >= needsMb.length && needsMb.every((need, at) => order[at]! >= need),
          );
          expect(given !== null).toBe(possible);
          if (given === null) return;
          expect(new Set(given).size).toBe(needsMb.length);
          given.forEach((instance, need) => {
            expect(memories[instance]).toBeGreaterThanOrEqual(needsMb[need]!);
          });
        },
      ),
    );
  });
});

describe('the memory of an instance', () => {
  it('is that of its profile, with media engines or without', () => {
    const profiles = profilesOf('H200');
    expect(instanceMemoryMb('3g.71gb', profiles)).toBe(71_680);
    expect(instanceMemoryMb('1g.18gb+me', profiles)).toBe(16_384);
    expect(instanceMemoryMb('1g.24gb-me', profilesOf('RTX-PRO-6000'))).toBe(24_186);
    expect(instanceMemoryMb('1g.24gb+me.all', profilesOf('RTX-PRO-6000'))).toBe(24_186);
  });

  it('is at least seven eighths of its name where the catalogue does not know the profile', () => {
    expect(instanceMemoryMb('3g.40gb', [])).toBe(35_840);
    expect(instanceMemoryMb('2g.0gb', [])).toBeNull();
    expect(instanceMemoryMb('half', [])).toBeNull();
    for (const { name, migProfiles } of catalogue.entries) {
      for (const profile of migProfiles) {
        const guess = instanceMemoryMb(profile.name, [])!;
        expect(guess, `${name} ${profile.name}`).toBeLessThanOrEqual(profileMemoryMb(profile));
      }
    }
  });
});

describe('the MIG profiles of a GPU of a request', () => {
  it('are those of the part with its memory, where the name does not state it', () => {
    const names = (name: string, memoryMb: number) =>
      migProfilesOf({ name, memoryMb }, catalogue).map((profile) => profile.name);
    expect(names('A100', 40_960)).toContain('3g.20gb');
    expect(names('A100', 81_920)).toContain('3g.40gb');
    expect(names('NVIDIA H200', 143_771)).toContain('3g.71gb');
    expect(names('L4', 23_034)).toEqual([]);
    expect(names('no such GPU', 40_960)).toEqual([]);
  });

  it('all have a layout in the catalogue', () => {
    for (const { name, migProfiles } of catalogue.entries) {
      if (migProfiles.length > 0) expect(migLayoutOf(migProfiles), name).not.toBeNull();
    }
  });

  it('are as many as the layout has places for', () => {
    for (const { name, migProfiles } of catalogue.entries) {
      for (const profile of migProfiles) {
        const names = (count: number) => Array<string>(count).fill(profile.name);
        const place = (count: number) => placeProfiles({ profiles: migProfiles, names: names(count) });
        expect(place(profile.instances), `${name} ${profile.name}`).not.toBeNull();
        expect(place(profile.instances + 1), `${name} ${profile.name}`).toBeNull();
      }
    }
  });
});
