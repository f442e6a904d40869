import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { seenGpu } from '../../../src/adapters/gpu-detection/seen-gpu.js';
import { parseSysfs, readSysfs } from '../../../src/adapters/gpu-detection/sysfs.js';
import { parseDeviceTreeModel, parseMeminfo } from '../../../src/adapters/gpu-detection/unified-memory.js';
import { deviceTreeOfThor, meminfo } from './tool-outputs.js';

const uevent = (driver: string, slot: string) => `DRIVER=${driver}\nPCI_CLASS=30000\nPCI_SLOT_NAME=${slot}\n`;
const amd = (card: string, slot: string, facts: Readonly<Record<string, string>>) =>
  Object.entries({ vendor: '0x1002\n', uevent: uevent('amdgpu', slot), ...facts }).map(
    ([name, text]) => [`${card}/device/${name}`, text] as const,
  );

describe('the graphics devices of the kernel', () => {
  it('are AMD GPUs with their memory and render node, in the order of the bus', () => {
    const files = new Map([
      ...amd('card1', '0000:c4:00.0', {
        device: '0x1681\n',
        mem_info_vram_total: '2147483648\n',
        mem_info_vram_used: '482263040\n',
        mem_info_gtt_total: '14680064000\n',
      }),
      ...amd('card0', '0000:03:00.0', { device: '0x744c\n', mem_info_vram_total: '25753026560\n' }),
      ['renderD128/device/uevent', uevent('amdgpu', '0000:03:00.0')],
      ['renderD129/device/uevent', uevent('amdgpu', '0000:c4:00.0')],
    ]);
    expect(parseSysfs(files)).toEqual({
      notices: [],
      gpus: [
        seenGpu({
          vendor: 'amd',
          name: 'Radeon RX 7900 XTX',
          memoryMb: 24560,
          pciBusId: '0000:03:00.0',
          pciId: '1002:744c',
          renderNode: '/dev/dri/renderD128',
        }),
        seenGpu({
          vendor: 'amd',
          name: 'Radeon 680M',
          memoryMb: 2048,
          usedMb: 459,
          pciBusId: '0000:c4:00.0',
          pciId: '1002:1681',
          renderNode: '/dev/dri/renderD129',
          unified: true,
          gttMb: 14000,
        }),
      ],
    });
  });

  it('have Intel memory by tile (xe) or for the card (i915), or none that is told', () => {
    const intel = (card: string, slot: string, device: string) =>
      [
        [`${card}/device/vendor`, '0x8086\n'],
        [`${card}/device/device`, `${device}\n`],
        [`${card}/device/uevent`, uevent('xe', slot)],
      ] as const;
    const files = new Map([
      ...intel('card0', '0000:00:02.0', '0x46a6'),
      ...intel('card1', '0000:03:00.0', '0xe20b'),
      ['card1/device/tile0/physical_vram_size_bytes', '12884901888\n'],
      ...intel('card2', '0000:04:00.0', '0x56a0'),
      ['card2/lmem_total_bytes', '17179869184\n'],
      ...intel('card3', '0000:05:00.0', '0x0bd5'),
      ['card3/device/tile0/memory/physical_vram_size_bytes', '68719476736\n'],
      ['card3/device/tile1/memory/physical_vram_size_bytes', '68719476736\n'],
    ]);
    expect(parseSysfs(files).gpus.map(({ name, memoryMb }) => [name, memoryMb])).toEqual([
      ['Intel 8086:46a6', null],
      ['Arc B580', 12288],
      ['Arc A770', 16384],
      ['Max 1550', 131072],
    ]);
  });

  it('are left out where their driver cannot compute, and where they are no GPU or a part of one', () => {
    const files = new Map([
      ['card0/device/vendor', '0x10de\n'],
      ['card0/device/device', '0x1b38\n'],
      ['card0/device/uevent', uevent('nouveau', '0000:01:00.0')],
      ['card1/device/vendor', '0x1a03\n'],
      ['card2/device/vendor', '0x8086\n'],
      ['card2/device/physfn', ''],
      ...amd('card3', '0000:09:00.0', { device: '0x150e\n' }),
    ]);
    const { gpus, notices } = parseSysfs(files);
    expect(gpus.map(({ name, unified }) => [name, unified])).toEqual([['AMD 1002:150e', true]]);
    expect(notices).toEqual([
      'Tesla P40 at 0000:01:00.0 is left out: its driver is nouveau, which cannot run CUDA: install the NVIDIA driver',
    ]);
  });
});

describe('reading them', () => {
  let root = '';
  afterEach(() => rm(root, { recursive: true, force: true }));

  it('follows the links of the kernel, and takes nothing but what matters', async () => {
    root = await mkdtemp(join(tmpdir(), 'gpumix-sysfs-'));
    const put = async (path: string, text: string) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    };
    const device = 'sys/devices/pci0000:00/0000:03:00.0';
    await put(`${device}/vendor`, '0x8086\n');
    await put(`${device}/device`, '0xe20b\n');
    await put(`${device}/uevent`, uevent('xe', '0000:03:00.0'));
    await put(`${device}/config`, 'binary');
    await put(`${device}/tile0/physical_vram_size_bytes`, '12884901888\n');
    await put('sys/class/drm/version', 'drm 1.1.0 20060810\n');
    for (const name of ['card0', 'renderD128', 'card0-HDMI-A-1']) {
      await mkdir(join(root, 'sys/class/drm', name));
      await symlink(join(root, device), join(root, 'sys/class/drm', name, 'device'));
    }
    const files = await readSysfs(root);
    expect([...files!.keys()].sort()).toEqual([
      'card0/device/device',
      'card0/device/tile0/physical_vram_size_bytes',
      'card0/device/uevent',
      'card0/device/vendor',
      'renderD128/device/uevent',
    ]);
    expect(parseSysfs(files!).gpus).toMatchObject([{ name: 'Arc B580', renderNode: '/dev/dri/renderD128' }]);
  });

  it('has nothing where there is no sysfs', async () => {
    root = await mkdtemp(join(tmpdir(), 'gpumix-sysfs-'));
    expect(await readSysfs(root)).toBeNull();
  });
});

describe('a machine whose GPU has no memory of its own', () => {
  it('has that of /proc/meminfo', () => {
    expect(parseMeminfo(meminfo)).toEqual({ totalMb: 125814, usedMb: 15360 });
    expect(parseMeminfo('MemTotal: 2048000 kB\n')).toEqual({ totalMb: 2000, usedMb: 0 });
    expect(parseMeminfo('MemTotal: many kB\n')).toBeNull();
  });

  it.each([
    [deviceTreeOfThor, 'Jetson Thor', 'blackwell'],
    ['NVIDIA Jetson AGX Orin Developer Kit\u0000', 'Jetson AGX Orin', 'ampere'],
    ['Jetson-AGX', 'Jetson-AGX', null],
    ['NVIDIA Jetson Xavier NX Developer Kit', 'Jetson Xavier NX', 'volta'],
  ])('is known by its device tree: %j', (model, name, architecture) => {
    expect(parseDeviceTreeModel(model).gpus).toEqual([
      seenGpu({ vendor: 'nvidia', index: 0, name, architecture, unified: true }),
    ]);
  });

  it.each(['Raspberry Pi 5 Model B Rev 1.0\u0000', '', 'NVIDIA Grace server'])('is none with %j', (model) => {
    expect(parseDeviceTreeModel(model).gpus).toEqual([]);
  });
});
