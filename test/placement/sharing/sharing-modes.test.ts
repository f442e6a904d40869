import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseGpuCatalogue } from '../../../src/core/gpu-types.js';
import {
  type PlacementGpu,
  placementGpuSchema,
  type SharingModeName,
  sharingModeNames,
} from '../../../src/core/placement-request.js';
import {
  hasUnifiedMemory,
  sharingFamilies,
  sharingFamilyOf,
  sharingModes,
  supportOf,
} from '../../../src/placement/sharing/sharing-modes.js';

const catalogue = parseGpuCatalogue(JSON.parse(readFileSync('profiles/gpus.json', 'utf8')), 'profiles/gpus.json');

function gpu(name: string, overrides: Partial<PlacementGpu> = {}): PlacementGpu {
  const vendor = overrides.vendor ?? 'nvidia';
  return { ...placementGpuSchema.parse({ index: 0, node: 'box', name, vendor, memoryMb: 24_576 }), ...overrides };
}

function supportedModes(one: PlacementGpu): readonly SharingModeName[] {
  return sharingModeNames.filter((mode) => supportOf(one, mode, catalogue).supported === 'yes');
}

describe('what a GPU can do', () => {
  const always: readonly SharingModeName[] = ['exclusive', 'cpu'];

  it.each<readonly [name: string, overrides: Partial<PlacementGpu>, hardware: readonly SharingModeName[]]>([
    ['Tesla P40', {}, ['time-slicing']],
    ['V100', {}, ['mps', 'time-slicing']],
    ['RTX 2070', {}, ['mps', 'time-slicing']],
    ['A30', {}, ['mig', 'mps', 'time-slicing']],
    ['NVIDIA A100-SXM4-80GB', {}, ['mig', 'mps', 'time-slicing']],
    ['A10', {}, ['mps', 'time-slicing']],
    ['RTX A5500', {}, ['mps', 'time-slicing']],
    ['L40S', {}, ['mps', 'time-slicing']],
    ['H100', {}, ['mig', 'mps', 'time-slicing']],
    ['H200', {}, ['mig', 'mps', 'time-slicing']],
    ['B200', {}, ['mig', 'mps', 'time-slicing']],
    ['B300', {}, ['mig', 'mps', 'time-slicing']],
    ['GB200', {}, ['mig', 'mps', 'time-slicing']],
    ['RTX PRO 6000 Blackwell', {}, ['mig', 'mps', 'time-slicing']],
    ['RTX PRO 5000', {}, ['mig', 'mps', 'time-slicing']],
    ['RTX PRO 4000', {}, ['mps', 'time-slicing']],
    ['RTX 5090', {}, ['mps', 'time-slicing']],
    ['Jetson-AGX-Thor', {}, ['time-slicing']],
    ['Jetson AGX Orin', { architecture: 'ampere' }, ['time-slicing']],
    ['MI300X', { vendor: 'amd' }, ['time-slicing']],
    ['Radeon 680M', { vendor: 'amd' }, ['time-slicing']],
    ['Strix Halo', { vendor: 'amd' }, ['time-slicing']],
    ['Arc A770', { vendor: 'intel' }, ['time-slicing']],
    ['Arc B580', { vendor: 'intel' }, ['time-slicing']],
    ['Gaudi3', { vendor: 'intel' }, []],
    ['Ascend 910B', { vendor: 'huawei' }, []],
    // Names that the catalogue does not have.
    ['Quadro M4000', { architecture: 'maxwell' }, ['time-slicing']],
    ['GTX 1080', { architecture: 'Pascal' }, ['time-slicing']],
    ['T1000', { architecture: 'turing' }, ['mps', 'time-slicing']],
    ['RTX 2000 Ada', { architecture: 'ada lovelace' }, ['mps', 'time-slicing']],
    ['Radeon RX 480', { vendor: 'amd', architecture: 'gcn4' }, ['time-slicing']],
    ['Intel Arc', { vendor: 'intel' }, ['time-slicing']],
    ['', {}, ['time-slicing']],
  ])('%s %j: %j', (name, overrides, hardware) => {
    // A limit is kept by any engine, where several processes can have the GPU open.
    const limits: readonly SharingModeName[] = name === 'Gaudi3' ? [] : ['memory-limit'];
    const expected = ['exclusive', 'mig', 'mps', 'time-slicing', 'memory-limit', 'cpu'].filter((mode) =>
      [...hardware, ...limits, ...always].includes(mode as SharingModeName),
    );
    expect(supportedModes(gpu(name, overrides))).toEqual(expected);
  });
});

describe('why it cannot', () => {
  it('is the architecture, with what works instead from the best isolation down', () => {
    expect(supportOf(gpu('Tesla P40'), 'mps', catalogue)).toEqual({
      supported: 'no',
      reason:
        'Tesla P40 (Pascal): before Volta all MPS clients share one address space, and the device plugin does not offer it',
      instead: ['memory-limit', 'time-slicing', 'exclusive'],
    });
    expect(supportOf(gpu('RTX 3090'), 'mig', catalogue)).toEqual({
      supported: 'no',
      reason: 'RTX 3090 has no MIG: of Ampere only A100, A800 and A30 have MIG',
      instead: ['mps', 'memory-limit', 'time-slicing', 'exclusive'],
    });
    expect(supportOf(gpu('L40S'), 'mig', catalogue).reason).toBe('L40S (Ada): no Ada GPU has MIG');
    expect(supportOf(gpu('Jetson-Thor'), 'mps', catalogue).reason).toBe(
      'Jetson-Thor: MPS is not offered on Jetson modules, whose GPU is a part of the processor',
    );
    expect(supportOf(gpu('MI300X', { vendor: 'amd' }), 'mps', catalogue)).toEqual({
      supported: 'no',
      reason: 'MI300X (CDNA): MPS is a part of CUDA',
      instead: ['memory-limit', 'time-slicing', 'exclusive'],
    });
  });

  it('is not said where nobody knows, but how to find out', () => {
    expect(supportOf(gpu('GA100 sample', { architecture: 'ampere' }), 'mig', catalogue)).toEqual({
      supported: 'unknown',
      reason:
        'of Ampere only A100, A800 and A30 have MIG, and the catalogue does not know GA100 sample; nvidia-smi -q shows whether it has a MIG mode',
      instead: ['mps', 'memory-limit', 'time-slicing', 'exclusive'],
    });
    expect(supportOf(gpu(''), 'mps', catalogue)).toEqual({
      supported: 'unknown',
      reason: 'it is not known what this NVIDIA GPU is: give its architecture, or a name that the catalogue knows',
      instead: ['memory-limit', 'time-slicing', 'exclusive'],
    });
    expect(supportOf(gpu('', { vendor: 'amd' }), 'mig', catalogue).supported).toBe('no');
  });

  it('is no question where the request lists MIG instances', () => {
    const cut = gpu('GA100 sample', { architecture: 'ampere', migInstances: [{ profile: '3g.40gb', uuid: null }] });
    expect(supportOf(cut, 'mig', catalogue)).toEqual({
      supported: 'yes',
      reason: 'the request lists its MIG instances',
      instead: [],
    });
    expect(supportOf({ ...cut, architecture: 'pascal' }, 'mig', catalogue).supported).toBe('no');
  });

  it('names the profiles where it can', () => {
    expect(supportOf(gpu('A30'), 'mig', catalogue)).toEqual({
      supported: 'yes',
      reason: 'A30 has MIG: 1g.6gb, 2g.12gb, 4g.24gb',
      instead: [],
    });
  });
});

describe('the family of a GPU', () => {
  it('follows the architecture of the request before that of the catalogue', () => {
    expect(sharingFamilyOf(gpu('T4'), catalogue)).toBe('turing');
    expect(sharingFamilyOf(gpu('T4', { architecture: 'pascal' }), catalogue)).toBe('pascal');
    expect(sharingFamilyOf(gpu('no such GPU'), catalogue)).toBeNull();
    expect(sharingFamilyOf(gpu('x', { vendor: 'amd', architecture: 'ampere' }), catalogue)).toBeNull();
  });

  it('tells memory that is shared with the CPU', () => {
    const unified = catalogue.entries
      .filter((entry) => hasUnifiedMemory(gpu(entry.name, { vendor: entry.vendor }), catalogue))
      .map(({ name }) => name);
    expect(unified).toEqual(['GB10', 'Jetson-Thor', 'Radeon-680M', 'Strix-Halo']);
    expect(hasUnifiedMemory(gpu('AMD Radeon 890M Graphics', { vendor: 'amd' }), catalogue)).toBe(true);
  });
});

describe('the catalogue', () => {
  it('lists the sharing modes that the matrix allows, and no other', () => {
    for (const entry of catalogue.entries) {
      const one = gpu(entry.name, { vendor: entry.vendor });
      const hardware = supportedModes(one).filter((mode) => ['mig', 'mps', 'time-slicing'].includes(mode));
      const listed = entry.sharing.filter((mode) => mode !== 'cpx');
      expect([...listed].sort(), entry.name).toEqual([...hardware].sort());
    }
  });

  it('has MIG for the parts of the MIG user guide', () => {
    expect(catalogue.entries.filter(({ sharing }) => sharing.includes('mig')).map(({ name }) => name)).toEqual([
      'A30',
      'A100',
      'A100-40GB',
      'A100-80GB',
      'A800',
      'H20',
      'H20-141GB',
      'H100',
      'H100-PCIe',
      'H100-NVL',
      'H800',
      'H200',
      'H200-NVL',
      'GH200',
      'B200',
      'GB200',
      'B300',
      'GB300',
      'RTX-PRO-6000',
      'RTX-PRO-4500',
      'RTX-PRO-5000',
    ]);
  });

  it('belongs to families of the matrix', () => {
    for (const entry of catalogue.entries) {
      expect(sharingFamilies, entry.name).toContain(
        sharingFamilyOf(gpu(entry.name, { vendor: entry.vendor }), catalogue),
      );
    }
  });
});

describe('the table of modes', () => {
  it('says of each what keeps services apart', () => {
    const levels = Object.entries(sharingModes).map(([name, mode]) => [
      name,
      mode.memoryIsolation.level,
      mode.faultIsolation.level,
      mode.computeIsolation.level,
      mode.latencyEffect.level,
    ]);
    expect(levels).toEqual([
      ['exclusive', 'full', 'full', 'full', 'none'],
      ['mig', 'full', 'full', 'full', 'none'],
      ['mps', 'partial', 'none', 'partial', 'low'],
      ['time-slicing', 'none', 'partial', 'none', 'high'],
      ['memory-limit', 'partial', 'partial', 'none', 'medium'],
      ['cpu', 'full', 'full', 'full', 'high'],
    ]);
  });
});
