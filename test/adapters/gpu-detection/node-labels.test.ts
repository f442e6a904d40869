import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import { nodeGpus } from '../../../src/adapters/gpu-detection/node-labels.js';

const catalogue = await loadGpuCatalogue();

type Texts = Readonly<Record<string, string>>;

function node(facts: {
  readonly labels?: Texts;
  readonly devices?: Texts;
  readonly taints?: readonly object[];
  readonly spec?: object;
  readonly ready?: string;
}) {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'gpu-1', labels: { 'kubernetes.io/hostname': 'gpu-1', ...facts.labels } },
    spec: { ...(facts.taints === undefined ? {} : { taints: facts.taints }), ...facts.spec },
    status: {
      allocatable: { cpu: '63', memory: '263000000Ki', ...facts.devices },
      conditions: [{ type: 'Ready', status: facts.ready ?? 'True' }],
    },
  };
}
const found = (facts: Parameters<typeof node>[0]) => nodeGpus(node(facts), catalogue);
const messages = (facts: Parameters<typeof node>[0]) => found(facts).notices.map(({ message }) => message);

const twoL4: Texts = {
  'nvidia.com/gpu.product': 'NVIDIA-L4',
  'nvidia.com/gpu.memory': '23034',
  'nvidia.com/gpu.count': '2',
  'nvidia.com/gpu.replicas': '1',
  'nvidia.com/gpu.sharing-strategy': 'none',
  'nvidia.com/gpu.compute.major': '8',
  'nvidia.com/gpu.compute.minor': '9',
  'nvidia.com/gpu.family': 'ada-lovelace',
  'nvidia.com/mig.strategy': 'single',
  'nvidia.com/mps.capable': 'false',
};

describe('NVIDIA GPUs of a node', () => {
  const l4 = { node: 'gpu-1', name: 'NVIDIA-L4', vendor: 'nvidia', memoryMb: 23034, usedMb: 0, architecture: 'ada' };

  it('are as many as its device plugin offers, with its taints but those of its state', () => {
    const taints = [
      { key: 'nvidia.com/gpu', value: 'present', effect: 'NoSchedule' },
      { key: 'dedicated', effect: 'PreferNoSchedule' },
      { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' },
      { key: 'node.kubernetes.io/disk-pressure', effect: 'NoSchedule' },
      { key: 'x', effect: 'Sometimes' },
    ];
    expect(found({ labels: twoL4, devices: { 'nvidia.com/gpu': '2' }, taints })).toEqual({
      gpus: [0, 1].map((index) => ({
        index,
        ...l4,
        taints: ['nvidia.com/gpu=present:NoSchedule', 'dedicated:PreferNoSchedule'],
      })),
      notices: [{ source: 'node gpu-1', message: 'a taint that is none: x:Sometimes' }],
    });
  });

  it.each([
    ['time-slicing', { 'nvidia.com/gpu': '8' }, 'NVIDIA-L4-SHARED'],
    ['mps', { 'nvidia.com/gpu.shared': '8', 'nvidia.com/gpu': '0' }, 'NVIDIA-L4'],
  ] as const)('are counted once where %s offers each four times', (strategy, devices, product) => {
    const labels = {
      ...twoL4,
      'nvidia.com/gpu.product': product,
      'nvidia.com/gpu.replicas': '4',
      'nvidia.com/gpu.sharing-strategy': strategy,
    };
    expect(found({ labels, devices })).toEqual({
      gpus: [0, 1].map((index) => ({ index, ...l4, sharing: strategy })),
      notices: [],
    });
  });

  it('are fewer than labelled where one is not offered, and none where none is', () => {
    expect(messages({ labels: twoL4, devices: { 'nvidia.com/gpu': '1' } })).toEqual([
      'its labels say 2 GPUs, of which its device plugin offers 1: those are listed',
    ]);
    expect(found({ labels: twoL4, devices: { 'nvidia.com/gpu': '0' } })).toEqual({
      gpus: [],
      notices: [
        {
          source: 'node gpu-1',
          message: 'its labels say 2 GPUs, and its device plugin offers none now: they are left out',
        },
      ],
    });
    const { gpus, notices } = found({ labels: twoL4, devices: { 'nvidia.com/gpu': '20' } });
    expect([gpus.length, notices[0]!.message]).toEqual([
      2,
      'it offers 20 of nvidia.com/gpu for 2 GPUs: another plugin shares them (HAMi or the like); the 2 are listed',
    ]);
  });

  it('have their memory from the catalogue where no label tells it', () => {
    const labels = { 'nvidia.com/gpu.product': 'Tesla-T4' };
    expect(found({ labels, devices: { 'nvidia.com/gpu': '2' } })).toEqual({
      gpus: [0, 1].map((index) => ({
        index,
        node: 'gpu-1',
        name: 'Tesla-T4',
        vendor: 'nvidia',
        memoryMb: 15360,
        usedMb: 0,
      })),
      notices: [
        {
          source: 'node gpu-1',
          message: 'Tesla-T4: its memory is not told, so that of T4 in the catalogue is taken, 15,360 MiB',
        },
      ],
    });
    expect(found({ labels: {}, devices: { 'nvidia.com/gpu': '1' } }).notices.map(({ message }) => message)).toEqual([
      'a GPU of NVIDIA is left out: how much memory it has is not known; write it down by hand',
    ]);
    const instance = { 'node.kubernetes.io/instance-type': 'g4dn.xlarge' };
    expect(found({ labels: instance, devices: { 'nvidia.com/gpu': '1' } }).gpus[0]).toMatchObject({
      name: 'T4',
      memoryMb: 15360,
    });
  });

  const a100: Texts = {
    'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB',
    'nvidia.com/gpu.memory': '81920',
    'nvidia.com/gpu.count': '2',
    'nvidia.com/gpu.replicas': '1',
    'nvidia.com/gpu.compute.major': '8',
    'nvidia.com/gpu.compute.minor': '0',
    'nvidia.com/mig.capable': 'true',
    'nvidia.com/mig.strategy': 'mixed',
  };

  it('with the MIG strategy mixed are cut into the instances that are offered, spread evenly', () => {
    const devices = { 'nvidia.com/gpu': '0', 'nvidia.com/mig-3g.40gb': '2', 'nvidia.com/mig-1g.10gb.me': '1' };
    const { gpus, notices } = found({ labels: a100, devices });
    expect(gpus).toMatchObject([
      {
        index: 0,
        memoryMb: 81920,
        sharing: 'mig',
        migInstances: [
          { profile: '3g.40gb', uuid: null },
          { profile: '1g.10gb+me', uuid: null },
        ],
      },
      { index: 1, memoryMb: 81920, sharing: 'mig', migInstances: [{ profile: '3g.40gb', uuid: null }] },
    ]);
    expect(notices.map(({ message }) => message)).toEqual([
      'labels do not tell which MIG instance is on which GPU: they are spread evenly',
    ]);
  });

  it('may be whole and cut on one node', () => {
    const devices = { 'nvidia.com/gpu': '1', 'nvidia.com/mig-7g.80gb': '1' };
    expect(found({ labels: a100, devices }).gpus.map(({ sharing, migInstances }) => [sharing, migInstances])).toEqual([
      [undefined, undefined],
      ['mig', [{ profile: '7g.80gb', uuid: null }]],
    ]);
  });

  it('with the MIG strategy single are as many as the instances need', () => {
    const labels = {
      ...a100,
      'nvidia.com/gpu.product': 'NVIDIA-A100-SXM4-80GB-MIG-1g.10gb',
      'nvidia.com/gpu.memory': '9728',
      'nvidia.com/gpu.count': '14',
      'nvidia.com/mig.strategy': 'single',
    };
    const { gpus } = found({ labels, devices: { 'nvidia.com/gpu': '14' } });
    expect(gpus.map(({ name, memoryMb, migInstances }) => [name, memoryMb, migInstances?.length])).toEqual([
      ['NVIDIA-A100-SXM4-80GB', 81920, 7],
      ['NVIDIA-A100-SXM4-80GB', 81920, 7],
    ]);
  });

  it('are left out where their instances cannot be theirs', () => {
    const devices = { 'nvidia.com/mig-9g.400gb': '1' };
    expect(messages({ labels: a100, devices })).toEqual([
      'its MIG instances (9g.400gb) do not fit into NVIDIA-A100-SXM4-80GB: left out',
    ]);
  });
});

describe('AMD GPUs of a node', () => {
  it('are read by the labels of the labeller, its GiB cut off', () => {
    const labels = {
      'amd.com/gpu.product-name': 'AMD_Instinct_MI300X_OAM',
      'amd.com/gpu.vram': '191G',
      'amd.com/gpu.family': 'AI',
      'amd.com/gpu.device-id': '74a1',
      'beta.amd.com/gpu.vram.191G': '8',
    };
    const { gpus, notices } = found({ labels, devices: { 'amd.com/gpu': '8' } });
    expect([gpus.length, notices]).toEqual([8, []]);
    expect(gpus[7]).toEqual({
      index: 7,
      node: 'gpu-1',
      name: 'AMD Instinct MI300X OAM',
      vendor: 'amd',
      memoryMb: 196592,
      usedMb: 0,
    });
  });

  it('are read by the older labels, whose keys hold the values', () => {
    const labels = {
      'beta.amd.com/gpu.device-id.740f': '2',
      'beta.amd.com/gpu.vram.64G': '2',
      'beta.amd.com/gpu.family.AI': '2',
    };
    expect(found({ labels, devices: { 'amd.com/gpu': '2' } }).gpus).toMatchObject([
      { name: 'MI210', memoryMb: 65536 },
      { name: 'MI210', memoryMb: 65536 },
    ]);
  });

  it('of several kinds have their memory from the catalogue', () => {
    const labels = {
      'amd.com/gpu.product-name.AMD_Instinct_MI210': '1',
      'amd.com/gpu.product-name.AMD_Radeon_PRO_W7900': '1',
      'amd.com/gpu.vram.63G': '1',
      'amd.com/gpu.vram.47G': '1',
    };
    const { gpus, notices } = found({ labels, devices: { 'amd.com/gpu': '2' } });
    expect(gpus.map(({ name, memoryMb }) => [name, memoryMb])).toEqual([
      ['AMD Instinct MI210', 65520],
      ['AMD Radeon PRO W7900', 49152],
    ]);
    expect(notices[0]!.message).toBe('it has GPUs of several kinds (AMD Instinct MI210, AMD Radeon PRO W7900)');
  });

  it('in partitions are left out', () => {
    expect(messages({ labels: { 'amd.com/gpu.vram': '191G' }, devices: { 'amd.com/cpx_nps4': '64' } })).toEqual([
      'amd.com/cpx_nps4 are parts of GPUs, whose memory no label tells: left out',
    ]);
  });
});

describe('Intel GPUs of a node', () => {
  it('share out the memory of the label, which is that of all', () => {
    const labels = {
      'gpu.intel.com/product': 'Flex_170',
      'gpu.intel.com/memory.max': '34359738368',
      'gpu.intel.com/millicores': '2000',
    };
    const gpu = { node: 'gpu-1', name: 'Flex 170', vendor: 'intel', memoryMb: 16384, usedMb: 0 };
    expect(found({ labels, devices: { 'gpu.intel.com/i915': '2' } })).toEqual({
      gpus: [0, 1].map((index) => ({ index, ...gpu })),
      notices: [],
    });
    expect(found({ labels, devices: { 'gpu.intel.com/i915': '20' } }).gpus).toEqual(
      [0, 1].map((index) => ({ index, ...gpu, sharing: 'time-slicing' })),
    );
  });

  it('are named by their PCI id where no label names the product', () => {
    const labels = { 'gpu.intel.com/device-id.0300-56a0.present': 'true' };
    const devices = { 'gpu.intel.com/xe': '1', 'gpu.intel.com/memory.max': '17179869184' };
    expect(found({ labels, devices }).gpus).toMatchObject([{ name: 'Arc A770', memoryMb: 16384 }]);
  });
});

describe('a node', () => {
  it('with GPUs of two vendors counts them one after the other', () => {
    const labels = { ...twoL4, 'amd.com/gpu.vram': '64G' };
    const devices = { 'nvidia.com/gpu': '2', 'amd.com/gpu': '1', 'habana.ai/gaudi': '0', 'google.com/tpu': '4' };
    const { gpus, notices } = found({ labels, devices });
    expect(gpus.map(({ index, vendor, tags }) => [index, vendor, tags])).toEqual([
      [0, 'nvidia', undefined],
      [1, 'nvidia', undefined],
      [2, 'amd', { vendorIndex: '0' }],
    ]);
    expect(notices.map(({ message }) => message)).toEqual([
      'google.com/tpu is of no vendor that placement knows: left out',
      'the GPUs of AMD are counted after those of other vendors on this node (0 is 2 here); tags.vendorIndex has the index of their tool',
    ]);
  });

  it('of Gaudi or Ascend has the memory of the catalogue', () => {
    const ascend = { 'node.kubernetes.io/npu.chip.name': '910B4' };
    expect(found({ labels: ascend, devices: { 'huawei.com/Ascend910': '1' } }).gpus).toMatchObject([
      { vendor: 'huawei', name: 'Ascend-910B4', memoryMb: 32768 },
    ]);
    const gaudi = { 'node.kubernetes.io/instance-type': 'gaudi-hl-225' };
    expect(found({ labels: gaudi, devices: { 'habana.ai/gaudi': '8' } }).gpus).toHaveLength(8);
  });

  it('that is about to go has none, and one that is cordoned or not ready says so', () => {
    const l4 = { labels: twoL4, devices: { 'nvidia.com/gpu': '2' } };
    const leaving = [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }];
    expect(found({ ...l4, taints: leaving })).toEqual({
      gpus: [],
      notices: [{ source: 'node gpu-1', message: 'it is about to go: its GPUs are left out' }],
    });
    expect(messages({ ...l4, spec: { unschedulable: true } })).toEqual([
      'it is cordoned: its GPUs are listed all the same',
    ]);
    expect(messages({ ...l4, ready: 'Unknown' })).toEqual(['it is not ready: its GPUs are listed all the same']);
  });

  it('whose quantities and taints are objects has none of them', () => {
    const strange = node({ labels: twoL4 });
    const status = { allocatable: { 'nvidia.com/gpu': { toString: false } } };
    const spec = { taints: [{ key: { toString: false }, effect: 'NoSchedule' }] };
    expect(nodeGpus({ ...strange, spec, status }, catalogue).gpus).toEqual([]);
  });

  it('without GPUs, or without a name, says nothing', () => {
    expect(found({})).toEqual({ gpus: [], notices: [] });
    expect(nodeGpus({ kind: 'Node' }, catalogue)).toEqual({ gpus: [], notices: [] });
    expect(nodeGpus(null, catalogue)).toEqual({ gpus: [], notices: [] });
  });
});
