import { describe, expect, it } from 'vitest';
import {
  migProfileIn,
  nvidiaFields,
  nvidiaQuery,
  nvidiaRefusal,
  parseNvidiaListing,
  parseNvidiaQuery,
  withMigInstances,
  withoutRefusedField,
} from '../../../src/adapters/gpu-detection/nvidia-smi.js';
import { seenGpu } from '../../../src/adapters/gpu-detection/seen-gpu.js';
import { nvidiaMig, nvidiaMigListing, nvidiaTwoCards, nvidiaUnreachable } from './tool-outputs.js';

const row = (overrides: Partial<Record<(typeof nvidiaFields)[number], string>>) =>
  nvidiaFields
    .map(
      (field) =>
        ({
          index: '0',
          uuid: 'GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001',
          'pci.bus_id': '00000000:01:00.0',
          'memory.total': '24576',
          'memory.used': '0',
          compute_cap: '6.1',
          compute_mode: 'Default',
          'mig.mode.current': '[N/A]',
          name: 'Tesla P40',
          ...overrides,
        })[field],
    )
    .join(', ');
const parsed = (text: string) => parseNvidiaQuery(text, nvidiaFields);

describe('the CSV of nvidia-smi', () => {
  it('is read card by card', () => {
    expect(parsed(nvidiaTwoCards)).toEqual({
      notices: [],
      listed: 2,
      gpus: [
        seenGpu({
          vendor: 'nvidia',
          index: 0,
          name: 'NVIDIA RTX A5500',
          memoryMb: 24564,
          usedMb: 312,
          architecture: 'ampere',
          pciBusId: '0000:01:00.0',
          uuid: 'GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001',
        }),
        seenGpu({
          vendor: 'nvidia',
          index: 1,
          name: 'NVIDIA RTX A400',
          memoryMb: 4094,
          usedMb: 5,
          architecture: 'ampere',
          pciBusId: '0000:41:00.0',
          uuid: 'GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a002',
        }),
      ],
    });
  });

  it('tells what each GPU is set to, and leaves out one on which nothing may run', () => {
    const { gpus, notices, listed } = parsed(nvidiaMig);
    expect(listed).toBe(3);
    expect(gpus.map(({ index, sharing }) => [index, sharing])).toEqual([
      [0, 'mig'],
      [1, 'exclusive'],
    ]);
    expect(notices).toEqual([
      'GPU 2 (NVIDIA A100-SXM4-80GB) is left out: its compute mode is Prohibited (nvidia-smi -i 2 -c DEFAULT allows work)',
    ]);
  });

  it.each([
    ['6.1', 'pascal'],
    ['7.0', 'volta'],
    ['7.5', 'turing'],
    ['8.7', 'ampere'],
    ['8.9', 'ada'],
    ['9.0', 'hopper'],
    ['10.0', 'blackwell'],
    ['11.0', 'blackwell'],
    ['12.1', 'blackwell'],
    ['99.0', null],
    ['[N/A]', null],
  ])('with compute capability %s is of the architecture %s', (capability, architecture) => {
    expect(parsed(row({ compute_cap: capability })).gpus[0]!.architecture).toBe(architecture);
  });

  it('without memory is a GPU that has only that of the machine', () => {
    const { gpus, notices } = parsed(row({ 'memory.total': '[N/A]', 'memory.used': '[N/A]', name: 'NVIDIA GB10' }));
    expect(gpus[0]).toMatchObject({ name: 'NVIDIA GB10', memoryMb: null, usedMb: null, unified: true });
    expect(notices).toEqual([]);
  });

  it.each(['[Insufficient Permissions]', '[Unknown Error]', '[GPU is lost]'])('with memory %s says so', (value) => {
    const { gpus, notices } = parsed(row({ 'memory.total': value }));
    expect(gpus[0]).toMatchObject({ memoryMb: null, unified: false });
    expect(notices).toEqual([`GPU 0 (Tesla P40): memory.total is ${value}`]);
  });

  it('keeps a name with a comma, and cleans one with controls', () => {
    expect(parsed(row({ name: 'NVIDIA X, 2nd edition' })).gpus[0]!.name).toBe('NVIDIA X, 2nd edition');
    expect(parsed(row({ name: 'NVIDIA \u001b[31mX\u202e' })).gpus[0]!.name).toBe('NVIDIA [31mX');
  });

  it('is a notice where it is no CSV', () => {
    expect(parsed('Unable to determine the device handle for GPU0000:C1:00.0: Unknown Error\n')).toEqual({
      gpus: [],
      listed: 0,
      notices: ['a GPU no longer answers (GPU is lost): the machine needs a restart'],
    });
    expect(parsed('hello\n').notices).toEqual(['a line that was not understood: hello']);
    expect(parsed('\n\n')).toEqual({ gpus: [], notices: [], listed: 0 });
  });
});

describe('the fields that are asked for', () => {
  it('are all, the name last', () => {
    expect(nvidiaQuery(nvidiaFields)).toEqual([
      '--query-gpu=index,uuid,pci.bus_id,memory.total,memory.used,compute_cap,compute_mode,mig.mode.current,name',
      '--format=csv,noheader,nounits',
    ]);
  });

  it('are fewer after one was refused, unless nothing could be said without it', () => {
    const fewer = withoutRefusedField('Field "mig.mode.current" is not a valid field to query.\n\n', nvidiaFields);
    expect(fewer).not.toContain('mig.mode.current');
    expect(fewer).toHaveLength(nvidiaFields.length - 1);
    expect(withoutRefusedField('Field "memory.total" is not a valid field to query.', nvidiaFields)).toBeNull();
    expect(withoutRefusedField('Field "mig.mode.current" is not a valid field to query.', fewer!)).toBeNull();
    expect(withoutRefusedField(nvidiaTwoCards, nvidiaFields)).toBeNull();
  });
});

describe('a refusal of nvidia-smi', () => {
  it.each([
    [nvidiaUnreachable, 'it cannot reach the NVIDIA driver: is the kernel module loaded (lsmod | grep nvidia)?'],
    [
      'Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.90\n',
      'the loaded NVIDIA driver and its library have different versions: a restart after the update is missing',
    ],
    ['No devices were found\n', 'no devices were found'],
    [
      'Failed to initialize NVML: Insufficient Permissions\n',
      'this user may not ask the NVIDIA driver (/dev/nvidiactl)',
    ],
    ['Failed to initialize NVML: Unknown Error\n', 'the NVIDIA management library could not be initialised'],
    ['Segmentation fault\n', null],
  ])('is said in words: %s', (text, notice) => {
    expect(nvidiaRefusal(text)).toBe(notice);
  });
});

describe('the MIG listing of nvidia-smi', () => {
  it('has the instances of each GPU', () => {
    expect(parseNvidiaListing(nvidiaMigListing)).toEqual({
      notices: [],
      instances: new Map([
        [
          0,
          [
            { profile: '3g.40gb', uuid: 'MIG-1b000000-0000-5000-8000-000000000001' },
            { profile: '2g.20gb', uuid: 'MIG-1b000000-0000-5000-8000-000000000002' },
            { profile: '1g.10gb+me', uuid: 'MIG-1b000000-0000-5000-8000-000000000003' },
          ],
        ],
        [1, []],
        [2, []],
      ]),
    });
  });

  it('is read as older drivers write it, without parts of instances', () => {
    const text = `GPU 0: A100-SXM4-40GB (UUID: GPU-aa000000-0000-4000-8000-000000000001)
  MIG 3g.20gb Device 0: (UUID: MIG-GPU-aa000000-0000-4000-8000-000000000001/1/0)
  MIG 1c.3g.20gb Device 1: (UUID: MIG-GPU-aa000000-0000-4000-8000-000000000001/2/0)
`;
    expect(parseNvidiaListing(text)).toEqual({
      notices: ['the MIG device 1c.3g.20gb is left out: it is no whole GPU instance'],
      instances: new Map([[0, [{ profile: '3g.20gb', uuid: 'MIG-GPU-aa000000-0000-4000-8000-000000000001/1/0' }]]]),
    });
  });

  it('sets the GPUs that have instances to MIG', () => {
    const gpus = [0, 1].map((index) => seenGpu({ vendor: 'nvidia', index }));
    const [first, second] = withMigInstances(gpus, parseNvidiaListing(nvidiaMigListing));
    expect([first!.sharing, first!.migInstances!.length, second!.sharing, second!.migInstances]).toEqual([
      'mig',
      3,
      null,
      null,
    ]);
  });

  it('names profiles as the placement does', () => {
    expect(['1g.10gb', '1g.10gb.me', '1g.10gb+me.all', '1G.24GB+gfx', '1c.3g.20gb', 'x'].map(migProfileIn)).toEqual([
      '1g.10gb',
      '1g.10gb+me',
      '1g.10gb+me.all',
      '1g.24gb+gfx',
      null,
      null,
    ]);
  });
});
