import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { memoryBytesOf } from '../../src/core/gpu-memory.js';
import { type CataloguedGpu, gpuByName, gpuOrPart, parseGpuCatalogue } from '../../src/core/gpu-types.js';

/** What any catalogue of GPUs must satisfy: physics, and the ratios that the architectures have. */
const catalogue = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');
const { entries } = catalogue;
const gpu = (name: string): CataloguedGpu => gpuByName(catalogue, name)!;
const named = (list: readonly CataloguedGpu[]) => list.map(({ name }) => name);

describe('the figures of the GPU catalogue', () => {
  it('say where they come from, and are there for all but the parts of which none are published', () => {
    for (const { name, source, memoryGBps, teraflops } of entries) {
      if (memoryGBps !== null || Object.keys(teraflops).length > 0) expect(source, name).toMatch(/\w{3} /);
    }
    const without = entries.filter(({ memoryGBps }) => memoryGBps === null);
    expect(named(without)).toEqual(['MI308X', 'Ascend-910B', 'Ascend-910B4', 'Ascend-910C', 'Ascend-310P']);
  });

  it('have a memory that is read whole in 5 to 900 ms', () => {
    for (const { name, memoryGib, memoryGBps } of entries) {
      if (memoryGBps === null) continue;
      const milliseconds = (memoryGib * 1024 ** 3) / (memoryGBps * 1e6);
      expect(milliseconds, name).toBeGreaterThan(5);
      expect(milliseconds, name).toBeLessThan(900);
    }
  });

  it('report at most the nominal memory, and at least nine tenths of it', () => {
    for (const { name, memoryGib, reportedMemoryMib, largestMemoryGib } of entries) {
      expect(largestMemoryGib, name).toBeGreaterThanOrEqual(memoryGib);
      if (reportedMemoryMib === null) continue;
      expect(reportedMemoryMib / 1024 / memoryGib, name).toBeGreaterThan(0.9);
      // HBM parts are named in powers of ten or two, whichever reads better (GH200 and H20: 96 for 95.6).
      expect(reportedMemoryMib / 1024 / memoryGib, name).toBeLessThanOrEqual(1.03);
    }
  });

  it('have matrix units at whole multiples of each other', () => {
    const withFp8 = ['ada', 'hopper', 'blackwell', 'cdna3', 'cdna4'];
    for (const { name, architecture, teraflops } of entries) {
      const { fp32, fp16, bf16, fp8, int8, fp4, int4 } = teraflops;
      if (fp8 !== undefined && bf16 !== undefined && withFp8.includes(architecture ?? '')) {
        expect(fp8 / bf16, `${name} fp8/bf16`).toBeCloseTo(2, 1);
      }
      if (fp16 !== undefined && bf16 !== undefined && name !== 'MI100') expect(fp16, `${name} fp16`).toBe(bf16);
      if (int4 !== undefined && int8 !== undefined)
        expect([1, 2], `${name} int4/int8`).toContain(Math.round(int4 / int8));
      if (fp4 !== undefined && fp8 !== undefined) expect([2, 3, 4], `${name} fp4/fp8`).toContain(Math.round(fp4 / fp8));
      // Turing GeForce cards accumulate in fp32 at half rate: 4 times the plain rate, as Volta's 8 times halved.
      if (fp16 !== undefined && fp32 !== undefined) {
        expect(fp16 / fp32, `${name} fp16/fp32`).toBeGreaterThan(1.9);
        expect(fp16 / fp32, `${name} fp16/fp32`).toBeLessThan(34);
      }
    }
  });

  it('halve the rate of GeForce cards that accumulate in fp32, and not of their workstation twins', () => {
    for (const [card, ratio] of [
      ['RTX-4090', 2],
      ['RTX-3090', 2],
      ['RTX-5090', 2],
      ['RTX-2070', 4],
      ['RTX-6000-Ada', 4],
      ['RTX-A6000', 4],
      ['RTX-PRO-4000', 4],
    ] as const) {
      expect(gpu(card).teraflops.fp16! / gpu(card).teraflops.fp32!, card).toBeCloseTo(ratio, 1);
    }
  });

  it('have bf16 from Ampere on and fp8 from Ada on', () => {
    for (const { name, architecture, teraflops } of entries) {
      if (architecture === 'pascal' || architecture === 'volta' || architecture === 'turing') {
        expect(teraflops.bf16, name).toBeUndefined();
      }
      if (['pascal', 'volta', 'turing', 'ampere', 'cdna', 'cdna2', 'rdna2', 'rdna3'].includes(architecture ?? '')) {
        expect(teraflops.fp8, name).toBeUndefined();
      }
    }
  });

  it('agree with what datasheets are known for', () => {
    const expected: Readonly<Record<string, readonly [gbps: number, bf16: number]>> = {
      'A100-80GB': [2039, 312],
      H100: [3350, 989.4],
      H200: [4800, 989.4],
      B200: [8000, 2250],
      L4: [300, 121],
      L40S: [864, 362.05],
      A10G: [600, 70],
      MI300X: [5300, 1307.4],
      'RTX-4090': [1008, 165.2],
      Gaudi2: [2450, 432],
    };
    for (const [name, [gbps, bf16]] of Object.entries(expected)) {
      expect([gpu(name).memoryGBps, gpu(name).teraflops.bf16], name).toEqual([gbps, bf16]);
    }
  });

  it('give sharing modes that the architecture can do', () => {
    for (const { name, vendor, architecture, sharing, migProfiles } of entries) {
      // NVIDIA's multi-process service with limits and isolation needs Volta.
      if (sharing.includes('mps')) expect([vendor, architecture === 'pascal'], name).toEqual(['nvidia', false]);
      if (sharing.includes('mig')) expect(['ampere', 'hopper', 'blackwell'], name).toContain(architecture);
      if (sharing.includes('cpx')) expect(['cdna3', 'cdna4'], name).toContain(architecture);
      if (migProfiles.length > 0) expect(sharing, name).toContain('mig');
    }
    expect(named(entries.filter(({ migProfiles }) => migProfiles.length > 0))).toEqual(
      expect.arrayContaining(['A30', 'A100-40GB', 'A100-80GB', 'H100', 'H100-NVL', 'H200', 'B200', 'RTX-PRO-6000']),
    );
  });

  it('have MIG profiles that fit the GPU as often as they are said to, and are named after their size', () => {
    for (const entry of entries) {
      const slices = Math.max(0, ...entry.migProfiles.map(({ computeSlices }) => computeSlices));
      for (const { name, memoryGib, computeSlices, instances } of entry.migProfiles) {
        const place = `${entry.name} ${name}`;
        expect(memoryGib * instances, place).toBeLessThanOrEqual(memoryBytesOf(entry) / 1024 ** 3);
        expect(computeSlices * instances, place).toBeLessThanOrEqual(slices);
        const [, compute, gigabytes] = /^(\d)g\.(\d+)gb/.exec(name)!;
        expect(computeSlices, place).toBe(Number(compute));
        // The name counts the memory in eighths of the whole, rounded; what can be used is up to an eighth less.
        expect(memoryGib / Number(gigabytes), place).toBeGreaterThan(0.87);
        expect(memoryGib / Number(gigabytes), place).toBeLessThanOrEqual(1);
      }
    }
  });
});

describe('the GPUs that a mixed fleet has', () => {
  it.each([
    ['Tesla-T4', 'T4'],
    ['Tesla-P40', 'P40'],
    ['Tesla-V100-SXM2-32GB', 'V100-32GB'],
    ['NVIDIA-L4', 'L4'],
    ['NVIDIA-A10G', 'A10G'],
    ['NVIDIA-L20', 'L20'],
    ['NVIDIA-L40S', 'L40S'],
    ['NVIDIA-A40', 'A40'],
    ['NVIDIA-A100-SXM4-40GB', 'A100-40GB'],
    ['NVIDIA-A100 80GB PCIe', 'A100-80GB'],
    ['NVIDIA-H100-80GB-HBM3', 'H100'],
    ['NVIDIA-H100-PCIe', 'H100-PCIe'],
    ['NVIDIA-H100-NVL', 'H100-NVL'],
    ['NVIDIA-H200', 'H200'],
    ['NVIDIA-B200', 'B200'],
    ['NVIDIA-GeForce-RTX-2070', 'RTX-2070'],
    ['NVIDIA GeForce RTX 4090', 'RTX-4090'],
    ['NVIDIA-RTX-A400', 'RTX-A400'],
    ['RTX A5500', 'RTX-A5500'],
    ['NVIDIA-RTX-6000-Ada-Generation', 'RTX-6000-Ada'],
    ['NVIDIA-RTX-PRO-4000-Blackwell', 'RTX-PRO-4000'],
    ['NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition', 'RTX-PRO-6000'],
    ['NVIDIA-Thor', 'Jetson-Thor'],
    ['AMD_Instinct_MI210', 'MI210'],
    ['AMD_Instinct_MI250X_MI250', 'MI250'],
    ['AMD_Instinct_MI300X_OAM', 'MI300X'],
    ['AMD Radeon 680M', 'Radeon-680M'],
    ['AMD Radeon 8060S', 'Strix-Halo'],
    ['AMD Ryzen AI Max+ 395', 'Strix-Halo'],
    ['Intel-Arc-A770-Graphics', 'Arc-A770'],
    ['Max_1550', 'Max-1550'],
    ['HL-225', 'Gaudi2'],
  ])('are found as %s: %s, with memory, bandwidth and rates', (label, name) => {
    const entry = gpuByName(catalogue, label);
    expect(entry?.name).toBe(name);
    expect(entry!.memoryGBps).not.toBeNull();
    expect(Object.keys(entry!.teraflops).length).toBeGreaterThan(0);
  });
});

describe('a part of a GPU', () => {
  it('has the memory of its profile, bandwidth by memory and rates by compute slices, and no price', () => {
    const part = gpuOrPart(catalogue, 'NVIDIA-A100-SXM4-80GB-MIG-3g.40gb')!;
    expect(part.name).toBe('A100-80GB-MIG-3g.40gb');
    expect(part.memoryGib).toBe(39.25);
    expect(memoryBytesOf(part)).toBe(39.25 * 1024 ** 3);
    // Half of the memory: half of 2,039 GB/s, to the rounding of nvidia-smi; three of seven slices: 312 × 3/7.
    expect(part.memoryGBps).toBeCloseTo(2039 / 2, -1);
    expect(part.teraflops.bf16).toBeCloseTo((312 * 3) / 7, 9);
    expect([part.usdPerGpuHour, part.priceSource, part.linkGBps, part.migProfiles]).toEqual([null, null, null, []]);
  });

  it('counts four slices on parts that have four', () => {
    const part = gpuOrPart(catalogue, 'RTX-PRO-6000-MIG-1g.24gb')!;
    expect(part.teraflops.bf16).toBe(gpu('RTX-PRO-6000').teraflops.bf16! / 4);
  });

  it('is the same with media engines, and as large as the whole where it is shared in turns', () => {
    expect(gpuOrPart(catalogue, 'H100-MIG-1g.10gb.me')?.memoryGib).toBe(9.75);
    expect(gpuOrPart(catalogue, 'NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition-MIG-2g.48gb.gfx')).toMatchObject({
      name: 'RTX-PRO-6000-MIG-2g.48gb.gfx',
      memoryGib: 47.38,
    });
    const shared = gpuOrPart(catalogue, 'Tesla-T4-SHARED')!;
    expect([shared.memoryGib, shared.memoryGBps, shared.teraflops]).toEqual([16, null, {}]);
    const slice = gpuOrPart(catalogue, 'A100-80GB-MIG-1g.10gb-SHARED')!;
    expect([slice.memoryGib, slice.memoryGBps, slice.teraflops]).toEqual([9.5, null, {}]);
  });

  it('is the whole for a whole, and nothing where the whole or the profile is not known', () => {
    expect(gpuOrPart(catalogue, 'nvidia-l4')).toBe(gpu('L4'));
    for (const name of ['Unheard-Of-MIG-1g.10gb', 'A100-80GB-MIG-1g.99gb', 'L4-MIG-1g.3gb', 'Unheard-Of', '']) {
      expect(gpuOrPart(catalogue, name), name).toBeUndefined();
    }
  });

  it('is at most its whole, for every profile of every GPU', () => {
    for (const whole of entries) {
      for (const { name } of whole.migProfiles) {
        const part = gpuOrPart(catalogue, `${whole.name}-MIG-${name}`)!;
        expect(part.memoryGib).toBeLessThanOrEqual(whole.memoryGib);
        expect(part.memoryGBps!).toBeLessThanOrEqual(whole.memoryGBps! * (1 + 1e-12));
        for (const [format, rate] of Object.entries(part.teraflops)) {
          expect(rate).toBeLessThanOrEqual(whole.teraflops[format as 'bf16']! * (1 + 1e-12));
        }
      }
    }
  });
});

describe('a GPU entry that cannot be right', () => {
  const entry = { name: 'X1', vendor: 'nvidia', memoryGib: 8, usdPerGpuHour: null, aliases: [] };
  const parse = (change: object) => () =>
    parseGpuCatalogue({ apiVersion: 'gpumix/v1', kind: 'GpuCatalogue', gpus: [{ ...entry, ...change }] }, 'gpus.json');
  const profile = { name: '1g.5gb', memoryGib: 4.75, computeSlices: 1, instances: 7 };

  it.each([
    ['figures without a source', { memoryGBps: 100 }, 'gpus[0].source: found nothing, expected where the technical'],
    ['a rate of nothing', { teraflops: { bf16: 0 }, source: 's' }, 'gpus[0].teraflops.bf16: found 0'],
    ['a format that does not exist', { teraflops: { bf61: 1 }, source: 's' }, 'did you mean "bf16"?'],
    ['MIG profiles without the mode', { migProfiles: [profile] }, "a list with 'mig'"],
    ['a MIG profile that nvidia-smi would not print', { migProfiles: [{ ...profile, name: 'half' }] }, 'found "half"'],
    ['an unknown sharing mode', { sharing: ['mpss'] }, 'did you mean "mps"?'],
    ['a largest memory below the memory', { largestMemoryGib: 4 }, 'expected at least memoryGib'],
  ])('is refused: %s', (_, change, message) => {
    expect(parse(change)).toThrow(message);
  });

  it('is accepted without any figures', () => {
    expect(parse({})).not.toThrow();
  });
});

const index = '../shared/data/profiles/INDEX.csv';
it.skipIf(!existsSync(index))('knows the GPUs of the measured profiles (skipped where they are absent)', () => {
  const unnamed = new Set<string>();
  for (const row of readFileSync(index, 'utf8').trim().split(/\r?\n/).slice(1)) {
    const [, name] = row.split(',');
    if (gpuByName(catalogue, name!) === undefined) unnamed.add(name!);
  }
  // A module of two dies, a setting of its site, and a part whose memory the source does not state.
  expect([...unnamed].sort()).toEqual(['A100-memory-unstated', 'H100-SXM-80GB-power-capped', 'MI250-128GB']);
});
