import { describe, expect, it } from 'vitest';
import { amdArchitecture, isIntegratedGfx } from '../../../src/adapters/gpu-detection/amd-architectures.js';
import { parseAmdSmi } from '../../../src/adapters/gpu-detection/amd-smi.js';
import { parseRocmSmi } from '../../../src/adapters/gpu-detection/rocm-smi.js';
import { seenGpu } from '../../../src/adapters/gpu-detection/seen-gpu.js';
import { amdMetric, amdStatic, rocmTwoCards } from './tool-outputs.js';

describe('the JSON of rocm-smi', () => {
  it('is read behind its warnings, whichever case its keys have', () => {
    expect(parseRocmSmi(rocmTwoCards)).toEqual({
      notices: [],
      gpus: [
        seenGpu({
          vendor: 'amd',
          index: 0,
          name: 'Radeon RX 7900 XTX',
          memoryMb: 24560,
          usedMb: 1024,
          architecture: 'rdna3',
          pciBusId: '0000:03:00.0',
          pciId: '1002:744c',
          uuid: 'GPU-5e1d2c3b4a596877',
          gttMb: 32000,
        }),
        seenGpu({
          vendor: 'amd',
          index: 1,
          name: 'Radeon 680M',
          memoryMb: 2048,
          usedMb: 459,
          architecture: 'rdna2',
          pciBusId: '0000:c4:00.0',
          pciId: '1002:1681',
          unified: true,
          gttMb: 14000,
        }),
      ],
    });
  });

  it('is a notice where there is none, or no card in it', () => {
    expect(parseRocmSmi('ERROR:root:Driver not initialized (amdgpu not found in modules)\n').notices).toEqual([
      'no JSON that could be read: ERROR:root:Driver not initialized (amdgpu not found in modules)',
    ]);
    expect(parseRocmSmi('{"system": {"Driver version": "6.8.5"}}').notices).toEqual(['no GPUs in its answer']);
    expect(parseRocmSmi('').notices).toEqual(['no JSON that could be read: nothing']);
  });

  it('without values has a GPU of which only the index is known', () => {
    expect(parseRocmSmi('{"card2": {"Card Series": "N/A", "VRAM Total Memory (B)": "N/A"}}').gpus).toEqual([
      seenGpu({ vendor: 'amd', index: 2 }),
    ]);
  });
});

describe('the JSON of amd-smi', () => {
  const gpus = [
    seenGpu({
      vendor: 'amd',
      index: 0,
      name: 'AMD Instinct MI300X',
      memoryMb: 196592,
      usedMb: 284,
      architecture: 'cdna3',
      pciBusId: '0000:05:00.0',
      pciId: '1002:74a1',
      gttMb: 515587,
    }),
    seenGpu({
      vendor: 'amd',
      index: 1,
      name: 'AMD Radeon Graphics',
      memoryMb: 65536,
      usedMb: 1024,
      architecture: 'rdna3.5',
      pciBusId: '0000:c5:00.0',
      pciId: '1002:1586',
      unified: true,
      gttMb: 31744,
    }),
  ];

  it('is read in both of its shapes, memory from either command', () => {
    expect(parseAmdSmi({ static: amdStatic, metric: amdMetric })).toEqual({ gpus, notices: [] });
    const wrapped = JSON.stringify({ gpu_data: JSON.parse(amdStatic) });
    const bare = JSON.stringify(JSON.parse(amdMetric).gpu_data);
    expect(parseAmdSmi({ static: wrapped, metric: bare })).toEqual({ gpus, notices: [] });
  });

  it('without what is used has the rest', () => {
    const [first, second] = parseAmdSmi({ static: amdStatic, metric: null }).gpus;
    expect([first!.memoryMb, first!.usedMb, second!.memoryMb]).toEqual([196592, null, null]);
    expect(parseAmdSmi({ static: amdStatic, metric: 'no' }).notices).toEqual([
      'the memory in use is not known: amd-smi metric gave no JSON',
    ]);
  });

  it.each([
    [{ value: 192, unit: 'GB' }, 196608],
    [{ value: '16368', unit: 'MB' }, 16368],
    ['16368 MB', 16368],
    [16368, 16368],
    ['N/A', null],
    [{ value: 'N/A', unit: 'MB' }, null],
    [{ value: -5, unit: 'MB' }, null],
    [{ value: 1e300, unit: 'GB' }, null],
  ])('with a size of %j has %j MiB', (size, memoryMb) => {
    const text = JSON.stringify([{ gpu: 0, asic: {}, vram: { size } }]);
    expect(parseAmdSmi({ static: text, metric: null }).gpus[0]!.memoryMb).toBe(memoryMb);
  });

  it('is a notice where it has no GPUs', () => {
    expect(parseAmdSmi({ static: '[]', metric: null })).toEqual({ gpus: [], notices: ['no GPUs in its answer'] });
    expect(parseAmdSmi({ static: '{"gpu_data": 5}', metric: null }).gpus).toEqual([]);
  });
});

it('AMD architectures are told by the instruction set', () => {
  expect(
    Object.fromEntries(
      [
        'gfx906',
        'gfx908',
        'gfx90a',
        'gfx9010',
        'gfx90c',
        'gfx942',
        'gfx950',
        'gfx1030',
        'gfx1035',
        'gfx1100',
        'gfx1151',
        'gfx1201',
        'x',
      ].map((gfx) => [gfx, [amdArchitecture(gfx), isIntegratedGfx(gfx)]]),
    ),
  ).toEqual({
    gfx906: ['gcn5', false],
    gfx908: ['cdna', false],
    gfx90a: ['cdna2', false],
    gfx9010: ['cdna2', false],
    gfx90c: ['gcn5', true],
    gfx942: ['cdna3', false],
    gfx950: ['cdna4', false],
    gfx1030: ['rdna2', false],
    gfx1035: ['rdna2', true],
    gfx1100: ['rdna3', false],
    gfx1151: ['rdna3.5', true],
    gfx1201: ['rdna4', false],
    x: [null, false],
  });
});
