import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { commandRunner } from '../../../src/adapters/gpu-detection/command-runner.js';
import { detectGpus } from '../../../src/adapters/gpu-detection/detect.js';
import { placementGpuSchema } from '../../../src/core/placement-request.js';
import { startFakeCluster } from '../../support/test-cluster.js';
import { makeToolFolder, type ToolFolder } from './tool-folder.js';
import {
  amdMetric,
  amdStatic,
  deviceTreeOfThor,
  meminfo,
  nvidiaMig,
  nvidiaMigListing,
  nvidiaTwoCards,
  nvidiaUnreachable,
  rocmTwoCards,
  xpuDevice,
  xpuDiscovery,
  xpuStats,
} from './tool-outputs.js';

let tools: ToolFolder;
beforeEach(async () => {
  tools = await makeToolFolder();
});
afterEach(() => tools.remove());

async function detected(limitMs = 20_000) {
  const { path, root } = tools;
  const found = await detectGpus({ from: 'machine', node: 'box', root, run: commandRunner({ path, root, limitMs }) });
  expect(() => z.array(placementGpuSchema).parse(found.gpus)).not.toThrow();
  return { gpus: found.gpus, notices: found.notices.map(({ source, message }) => `${source}: ${message}`) };
}

const graphics = async (card: number, slot: string, facts: Readonly<Record<string, string>>) => {
  const uevent = `PCI_SLOT_NAME=${slot}\n`;
  const all = { uevent, ...facts };
  for (const [name, text] of Object.entries(all)) {
    await tools.file(`sys/class/drm/card${card}/device/${name}`, `${text}\n`);
  }
  await tools.file(`sys/class/drm/renderD${128 + card}/device/uevent`, uevent);
};

const absent = [
  'nvidia-smi: not installed',
  'amd-smi: not installed',
  'rocm-smi: not installed',
  'xpu-smi: not installed',
];
const noSysfs = 'sysfs: there is no /sys/class/drm';

describe('a machine', () => {
  it('without GPUs says so, and what it looked at', async () => {
    expect(await detected()).toEqual({ gpus: [], notices: [...absent, noSysfs, 'detection: No GPUs detected'] });
  });

  it('with two NVIDIA cards has both, with the render nodes of the kernel', async () => {
    await tools.prints('nvidia-smi', { '--query-gpu=*': nvidiaTwoCards });
    await graphics(0, '0000:01:00.0', { vendor: '0x10de', device: '0x2233' });
    expect(await detected()).toEqual({
      gpus: [
        {
          index: 0,
          node: 'box',
          name: 'NVIDIA RTX A5500',
          vendor: 'nvidia',
          memoryMb: 24564,
          usedMb: 312,
          architecture: 'ampere',
          tags: {
            uuid: 'GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001',
            pciBusId: '0000:01:00.0',
            renderNode: '/dev/dri/renderD128',
          },
        },
        {
          index: 1,
          node: 'box',
          name: 'NVIDIA RTX A400',
          vendor: 'nvidia',
          memoryMb: 4094,
          usedMb: 5,
          architecture: 'ampere',
          tags: { uuid: 'GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a002', pciBusId: '0000:41:00.0' },
        },
      ],
      notices: absent.slice(1),
    });
  });

  it('with a driver of old is asked for fewer fields', async () => {
    const first = '--query-gpu=index,uuid,pci.bus_id,memory.total,memory.used,';
    await tools.prints('nvidia-smi', {
      [`${first}compute_cap,compute_mode,mig.mode.current,name*`]:
        'Field "compute_cap" is not a valid field to query.\n\n',
      [`${first}compute_mode,mig.mode.current,name*`]: 'Field "mig.mode.current" is not a valid field to query.\n\n',
      [`${first}compute_mode,name*`]:
        '0, GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001, 00000000:02:00.0, 24451, 0, Default, Tesla P40\n',
      '-L': 'GPU 0: Tesla P40 (UUID: GPU-6d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001)\n',
    });
    const { gpus, notices } = await detected();
    expect(gpus).toMatchObject([{ index: 0, name: 'Tesla P40', memoryMb: 24451 }]);
    expect(notices).toEqual([...absent.slice(1), noSysfs]);
  });

  it('with MIG instances lists them, and leaves out what may not be used, also where the kernel shows it', async () => {
    await tools.prints('nvidia-smi', { '--query-gpu=*': nvidiaMig, '-L': nvidiaMigListing });
    await graphics(0, '0000:ca:00.0', { vendor: '0x10de', device: '0x20b2' });
    const { gpus, notices } = await detected();
    expect(gpus.map(({ index, sharing, migInstances }) => [index, sharing, migInstances?.length])).toEqual([
      [0, 'mig', 3],
      [1, 'exclusive', undefined],
    ]);
    expect(notices).toEqual([
      'nvidia-smi: GPU 2 (NVIDIA A100-SXM4-80GB) is left out: its compute mode is Prohibited (nvidia-smi -i 2 -c DEFAULT allows work)',
      ...absent.slice(1),
      'sysfs: NVIDIA A100-SXM4-80GB (0000:ca:00.0) is left out: nvidia-smi does not list it',
    ]);
  });

  it('on whose only GPU nothing may run has none, though the kernel shows it', async () => {
    await tools.prints('nvidia-smi', { '--query-gpu=*': `${nvidiaMig.trim().split('\n')[2]}\n` });
    await graphics(0, '0000:ca:00.0', { vendor: '0x10de', device: '0x20b2' });
    const { gpus, notices } = await detected();
    expect(gpus).toEqual([]);
    expect(notices.at(-1)).toBe('detection: No GPUs detected');
  });

  it('whose driver fails has what the kernel shows, its memory by the catalogue', async () => {
    await tools.script('nvidia-smi', `printf '%s' "${nvidiaUnreachable.trim()}"; exit 9`);
    await graphics(0, '0000:01:00.0', { vendor: '0x10de', device: '0x1b38' });
    const { gpus, notices } = await detected();
    expect(gpus).toMatchObject([{ index: 0, name: 'Tesla P40', vendor: 'nvidia', memoryMb: 24576 }]);
    expect(notices).toEqual([
      'nvidia-smi: it cannot reach the NVIDIA driver: is the kernel module loaded (lsmod | grep nvidia)?',
      ...absent.slice(1),
      'box: Tesla P40 (0000:01:00.0): its memory is not told, so that of P40 in the catalogue is taken, 24,576 MiB',
    ]);
  });

  it('of which one GPU is lost has the others', async () => {
    const line = 'Unable to determine the device handle for GPU0000:C1:00.0: Unknown Error';
    await tools.script('nvidia-smi', `/bin/cat '${tools.root}/rows'; echo '${line}'; exit 15`);
    await tools.file('rows', nvidiaTwoCards);
    const { gpus, notices } = await detected();
    expect(gpus.map(({ index, memoryMb }) => [index, memoryMb])).toEqual([
      [0, 24564],
      [1, 4094],
    ]);
    expect(notices[0]).toBe('nvidia-smi: a GPU no longer answers (GPU is lost): the machine needs a restart');
  });

  it('whose tools hang, fail or print nonsense says so of each', async () => {
    await tools.script('nvidia-smi', 'exec /bin/sleep 600');
    await tools.script(
      'amd-smi',
      'echo "Traceback (most recent call last):" >&2; echo "KeyError: \'gpu\'" >&2; exit 1',
    );
    await tools.script('rocm-smi', 'echo "WARNING: no AMD GPUs"');
    await tools.script('xpu-smi', 'exit 1');
    expect(await detected(3000)).toEqual({
      gpus: [],
      notices: [
        'nvidia-smi: no answer within 3 s: it was ended; its driver may hang',
        "amd-smi: exit code 1: KeyError: 'gpu'",
        'rocm-smi: no JSON that could be read: WARNING: no AMD GPUs',
        'xpu-smi: exit code 1: nothing',
        noSysfs,
        'detection: No GPUs detected',
      ],
    });
  });

  it('with AMD cards is read by amd-smi, its integrated GPU named by its PCI id', async () => {
    await tools.prints('amd-smi', { 'static *': amdStatic, 'metric *': amdMetric });
    const { gpus, notices } = await detected();
    expect(gpus).toEqual([
      {
        index: 0,
        node: 'box',
        name: 'AMD Instinct MI300X',
        vendor: 'amd',
        memoryMb: 196592,
        usedMb: 284,
        architecture: 'cdna3',
        tags: { pciBusId: '0000:05:00.0' },
      },
      {
        index: 1,
        node: 'box',
        name: 'Strix Halo',
        vendor: 'amd',
        memoryMb: 65536,
        usedMb: 1024,
        architecture: 'rdna3.5',
        tags: { pciBusId: '0000:c5:00.0', gttMb: '31744' },
      },
    ]);
    expect(notices).toEqual([
      'nvidia-smi: not installed',
      'xpu-smi: not installed',
      noSysfs,
      "box: GPU 1 (Strix Halo) shares the machine's memory: 65,536 MiB are set aside for it and counted here, and its driver lets it use up to 31,744 MiB more (GTT)",
    ]);
  });

  it('without amd-smi is read by rocm-smi', async () => {
    await tools.prints('rocm-smi', { '*--json': rocmTwoCards });
    const { gpus, notices } = await detected();
    expect(gpus.map(({ index, name, memoryMb, tags }) => [index, name, memoryMb, tags?.uuid])).toEqual([
      [0, 'Radeon RX 7900 XTX', 24560, 'GPU-5e1d2c3b4a596877'],
      [1, 'Radeon 680M', 2048, undefined],
    ]);
    expect(notices).toContain(
      "box: GPU 1 (Radeon 680M) shares the machine's memory: 2,048 MiB are set aside for it and counted here, and its driver lets it use up to 14,000 MiB more (GTT); where its services use that as well, raise memoryMb by hand",
    );
  });

  it('with an Intel card is read by xpu-smi', async () => {
    await tools.prints('xpu-smi', {
      'discovery -j': xpuDiscovery,
      'discovery -d 0 -j': xpuDevice,
      'stats -d 0 -j': xpuStats,
    });
    const { gpus } = await detected();
    expect(gpus).toEqual([
      {
        index: 0,
        node: 'box',
        name: 'Intel(R) Arc(TM) A770 Graphics',
        vendor: 'intel',
        memoryMb: 16288,
        usedMb: 61,
        tags: { uuid: '00000000-0000-0003-0000-000856a08086', pciBusId: '0000:03:00.0' },
      },
    ]);
  });

  it('without any tool has what the kernel shows', async () => {
    await graphics(0, '0000:c4:00.0', {
      vendor: '0x1002',
      device: '0x1681',
      mem_info_vram_total: '536870912',
      mem_info_vram_used: '104857600',
      mem_info_gtt_total: '14680064000',
    });
    await graphics(1, '0000:00:02.0', { vendor: '0x8086', device: '0x46a6' });
    await graphics(2, '0000:07:00.0', {
      vendor: '0x1002',
      device: '0x6fdf',
      mem_info_vram_total: '4294967296',
      mem_info_gtt_total: '14680064000',
    });
    const { gpus, notices } = await detected();
    expect(gpus.map(({ index, name, memoryMb, usedMb, tags }) => [index, name, memoryMb, usedMb, tags])).toEqual([
      [0, 'AMD 1002:6fdf', 4096, 0, { pciBusId: '0000:07:00.0', renderNode: '/dev/dri/renderD130' }],
      [1, 'Radeon 680M', 512, 100, { pciBusId: '0000:c4:00.0', renderNode: '/dev/dri/renderD128', gttMb: '14000' }],
    ]);
    expect(notices.slice(4)).toEqual([
      'box: Intel 8086:46a6 (0000:00:02.0) is left out: no memory of its own is told (an integrated GPU, or a driver that does not tell); write it down by hand',
      "box: GPU 0 (AMD 1002:6fdf) may use 14,000 MiB of the machine's memory (GTT) beside its 4,096 MiB: if it is an integrated GPU whose services do, raise memoryMb by hand",
      "box: GPU 1 (Radeon 680M) shares the machine's memory: 512 MiB are set aside for it and counted here, and its driver lets it use up to 14,000 MiB more (GTT); where its services use that as well, raise memoryMb by hand",
    ]);
  });

  it('with GPUs of two vendors counts them one after the other', async () => {
    await tools.prints('nvidia-smi', { '--query-gpu=*': nvidiaTwoCards });
    await tools.prints('rocm-smi', { '*--json': rocmTwoCards });
    const { gpus } = await detected();
    expect(gpus.map(({ index, vendor, tags }) => [index, vendor, tags?.vendorIndex])).toEqual([
      [0, 'nvidia', undefined],
      [1, 'nvidia', undefined],
      [2, 'amd', '0'],
      [3, 'amd', '1'],
    ]);
  });

  it('that is a Jetson has the memory of the machine, with and without nvidia-smi', async () => {
    await tools.file('proc/device-tree/model', deviceTreeOfThor);
    await tools.file('proc/meminfo', meminfo);
    const gpu = { index: 0, node: 'box', vendor: 'nvidia', memoryMb: 125814, usedMb: 15360, architecture: 'blackwell' };
    expect((await detected()).gpus).toEqual([{ ...gpu, name: 'Jetson Thor' }]);
    await tools.prints('nvidia-smi', {
      '--query-gpu=*':
        '0, GPU-7d1f4c1e-0f52-4ad1-9b52-3f6cd0b1a001, 00000000:01:00.0, [N/A], [N/A], 11.0, Default, [N/A], NVIDIA Thor\n',
    });
    const { gpus, notices } = await detected();
    expect(gpus).toMatchObject([{ ...gpu, name: 'NVIDIA Thor' }]);
    expect(notices.at(-1)).toBe(
      "box: NVIDIA Thor (0000:01:00.0) has no memory but the machine's: all of that is counted, 125,814 MiB (MemTotal of /proc/meminfo), and what the machine uses now as used",
    );
  });
});

describe('a cluster', () => {
  const put = (server: Awaited<ReturnType<typeof startFakeCluster>>['server'], name: string) =>
    server.put({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: { 'nvidia.com/gpu.product': 'NVIDIA-L4', 'nvidia.com/gpu.memory': '23034' } },
      status: { allocatable: { 'nvidia.com/gpu': '1' }, conditions: [{ type: 'Ready', status: 'True' }] },
    });

  it('has the GPUs of all its nodes', async () => {
    const cluster = await startFakeCluster();
    try {
      for (const name of ['a', 'b']) put(cluster.server, name);
      const gpu = { index: 0, name: 'NVIDIA-L4', vendor: 'nvidia', memoryMb: 23034, usedMb: 0 };
      expect(await detectGpus({ from: 'kubernetes', cluster: { kubeconfig: cluster.kubeconfig } })).toEqual({
        gpus: [
          { ...gpu, node: 'a' },
          { ...gpu, node: 'b' },
        ],
        notices: [
          { source: 'Kubernetes', message: 'what running pods hold of the memory is not told by nodes: usedMb is 0' },
        ],
      });
    } finally {
      await cluster.stop();
    }
  });

  it('that refuses, or is none, is a notice; a context that does not exist is an error', async () => {
    const cluster = await startFakeCluster();
    const access = { kubeconfig: cluster.kubeconfig };
    try {
      cluster.server.token = 'another';
      const refused = await detectGpus({ from: 'kubernetes', cluster: access });
      expect(refused.gpus).toEqual([]);
      expect(refused.notices[0]!.message).toMatch(/^its nodes cannot be listed: 401 Unauthorized/);
      expect(refused.notices.at(-1)).toEqual({ source: 'detection', message: 'No GPUs detected' });
    } finally {
      await cluster.stop();
    }
    await expect(detectGpus({ from: 'kubernetes', cluster: { ...access, context: 'nowhere' } })).rejects.toThrow();
  });
});

it('a file of GPUs is taken as it is', async () => {
  const file = join(tools.root, 'gpus.yaml');
  await writeFile(file, 'gpus:\n- { index: 0, node: edge, name: Tesla P40, vendor: nvidia, memoryMb: 24576 }\n');
  expect(await detectGpus({ from: { file } })).toEqual({
    gpus: [{ index: 0, node: 'edge', name: 'Tesla P40', vendor: 'nvidia', memoryMb: 24576 }],
    notices: [],
  });
  await writeFile(file, 'gpus: []\n');
  expect((await detectGpus({ from: { file } })).notices).toEqual([
    { source: 'detection', message: 'No GPUs detected' },
  ]);
});
