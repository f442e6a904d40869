import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import { parseAmdSmi } from '../../../src/adapters/gpu-detection/amd-smi.js';
import { parseGpuFile } from '../../../src/adapters/gpu-detection/gpu-file.js';
import { nodeGpus } from '../../../src/adapters/gpu-detection/node-labels.js';
import {
  nvidiaFields,
  nvidiaRefusal,
  parseNvidiaListing,
  parseNvidiaQuery,
  withMigInstances,
  withoutRefusedField,
} from '../../../src/adapters/gpu-detection/nvidia-smi.js';
import { describeGpus, mergeSources } from '../../../src/adapters/gpu-detection/one-machine.js';
import { parseRocmSmi } from '../../../src/adapters/gpu-detection/rocm-smi.js';
import type { Parsed } from '../../../src/adapters/gpu-detection/seen-gpu.js';
import { parseSysfs } from '../../../src/adapters/gpu-detection/sysfs.js';
import { parseDeviceTreeModel, parseMeminfo } from '../../../src/adapters/gpu-detection/unified-memory.js';
import { parseXpuSmiDiscovery, withXpuSmiMemory } from '../../../src/adapters/gpu-detection/xpu-smi.js';
import { InputError } from '../../../src/core/input-error.js';
import { gpuKey, type PlacementGpuInput, placementGpuSchema } from '../../../src/core/placement-request.js';
import * as outputs from './tool-outputs.js';
import '../../support/property-seed.js';

const catalogue = await loadGpuCatalogue();
const machine = { totalMb: 64000, usedMb: 1000 };

/** Recorded outputs whole, cut off, with characters exchanged or lines repeated; and texts that are none of them. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.json(),
  fc.constantFrom(...Object.values<string>(outputs)).chain((text) =>
    fc.oneof(
      fc.nat(text.length).map((end) => text.slice(0, end)),
      fc
        .array(fc.tuple(fc.nat(text.length), fc.string({ unit: 'binary', maxLength: 3 })), { maxLength: 8 })
        .map((edits) => edits.reduce<string>((now, [at, piece]) => now.slice(0, at) + piece + now.slice(at + 1), text)),
      fc.array(fc.constantFrom(...text.split('\n')), { maxLength: 30 }).map((lines) => lines.join('\n')),
      // Values of another size or kind where the tool has numbers.
      fc
        .constantFrom('-1', '1e400', '99999999999999999999', 'null', '"\\u001b[2J"', '[]', '{}', '0')
        .map((value) => text.replace(/\d{3,}/g, value)),
    ),
  ),
);

const control = /\p{Cc}|\p{Surrogate}|[\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;

/** Whatever was read, a request takes it, and a terminal shows it. */
function expectUsable(gpus: readonly PlacementGpuInput[], notices: readonly string[]): void {
  expect(z.array(placementGpuSchema).safeParse(gpus).error).toBeUndefined();
  expect(new Set(gpus.map(gpuKey)).size).toBe(gpus.length);
  for (const text of [...notices, ...gpus.flatMap(({ name, tags }) => [name ?? '', ...Object.values(tags ?? {})])]) {
    expect(text).not.toMatch(control);
    expect(text.length).toBeLessThan(1000);
  }
  expect(notices.length).toBeLessThan(400);
}

function expectParsed({ gpus, notices }: Parsed): void {
  const described = describeGpus(gpus, { node: 'box', catalogue, machine });
  expectUsable(described.gpus, [...notices, ...described.notices]);
}

const parsers: Readonly<Record<string, (text: string, other: string) => Parsed>> = {
  'nvidia-smi': (text) => parseNvidiaQuery(text, nvidiaFields),
  'nvidia-smi -L': (text, other) => {
    const listing = parseNvidiaListing(text);
    const { gpus } = parseNvidiaQuery(other, nvidiaFields);
    return { gpus: withMigInstances(gpus, listing), notices: listing.notices };
  },
  'rocm-smi': parseRocmSmi,
  'amd-smi': (text, other) => parseAmdSmi({ static: text, metric: other }),
  'xpu-smi': (text, other) => {
    const { gpus, notices } = parseXpuSmiDiscovery(text);
    return { gpus: gpus.map((gpu) => withXpuSmiMemory(gpu, { device: other, stats: text })), notices };
  },
  'the device tree': parseDeviceTreeModel,
};

describe.each(Object.keys(parsers))('any text read as that of %s', (name) => {
  it('gives GPUs that a request takes, and notices that a terminal shows', () => {
    const parse = parsers[name]!;
    fc.assert(
      fc.property(anyText, anyText, (text, other) => {
        const parsed = parse(text, other);
        expectParsed(parsed);
        const { gpus, unlisted } = mergeSources(parsed.gpus, parseRocmSmi(other).gpus, {
          catalogue,
          nvidiaListed: true,
        });
        expectParsed({ gpus: [...gpus, ...unlisted], notices: [] });
      }),
      { numRuns: 300 },
    );
  });
});

it('any text is a refusal of nvidia-smi or none, and no field is dropped that is not named', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      nvidiaRefusal(text);
      const fewer = withoutRefusedField(text, nvidiaFields);
      expect(fewer?.length ?? nvidiaFields.length - 1).toBe(nvidiaFields.length - 1);
    }),
  );
});

it('any files of the kernel give GPUs that a request takes', () => {
  const names = [
    'vendor',
    'device',
    'uevent',
    'mem_info_vram_total',
    'mem_info_gtt_total',
    'tile0/physical_vram_size_bytes',
  ];
  const content = fc.oneof(
    anyText,
    fc.constantFrom(
      '0x1002\n',
      '0x8086\n',
      '0x10de\n',
      '0x744c\n',
      '0x56a0\n',
      '17179869184\n',
      '-1\n',
      '18446744073709551615\n',
    ),
    fc.constantFrom('DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n', 'PCI_SLOT_NAME=x\n'),
  );
  const path = fc.tuple(fc.constantFrom('card0', 'card1', 'renderD128', '..', 'card'), fc.constantFrom(...names));
  fc.assert(
    fc.property(fc.array(fc.tuple(path, content), { maxLength: 20 }), anyText, (entries, text) => {
      const files = new Map(entries.map(([[card, name], value]) => [`${card}/device/${name}`, value]));
      expectParsed(parseSysfs(files));
      parseMeminfo(text);
    }),
  );
});

const labelKeys = [
  'nvidia.com/gpu.product',
  'nvidia.com/gpu.memory',
  'nvidia.com/gpu.count',
  'nvidia.com/gpu.replicas',
  'nvidia.com/gpu.sharing-strategy',
  'nvidia.com/gpu.compute.major',
  'nvidia.com/gpu.compute.minor',
  'nvidia.com/gpu.family',
  'amd.com/gpu.product-name',
  'amd.com/gpu.vram',
  'beta.amd.com/gpu.vram.64G',
  'amd.com/gpu.device-id.74a1',
  'gpu.intel.com/memory.max',
  'gpu.intel.com/millicores',
  'gpu.intel.com/product',
  'constructor',
  '__proto__',
];
const resourceNames = [
  'nvidia.com/gpu',
  'nvidia.com/gpu.shared',
  'nvidia.com/mig-1g.10gb',
  'nvidia.com/mig-3g.40gb.shared',
  'nvidia.com/mig-nonsense',
  'amd.com/gpu',
  'amd.com/cpx_nps4',
  'gpu.intel.com/i915',
  'gpu.intel.com/xe',
  'habana.ai/gaudi',
  'huawei.com/Ascend910',
  'google.com/tpu',
];
const labelValue = fc.oneof(
  fc.constantFrom('NVIDIA-A100-SXM4-80GB', 'NVIDIA-L4-SHARED', 'NVIDIA-H100-80GB-HBM3-MIG-1g.10gb', 'X-MIG-9g.900gb'),
  fc.constantFrom('0', '1', '4', '8', '81920', '-1', '999999', '64G', '0G', 'mps', 'time-slicing', 'none'),
  fc.string({ unit: 'binary', maxLength: 20 }),
);
const anyNode = fc.record({
  kind: fc.constantFrom('Node', undefined),
  metadata: fc.record({
    name: fc.oneof(fc.constant('gpu-1'), fc.string({ unit: 'binary' })),
    labels: fc.dictionary(fc.constantFrom(...labelKeys), fc.oneof(labelValue, fc.jsonValue())),
  }),
  spec: fc.record({
    taints: fc.array(
      fc.oneof(
        fc.record({ key: labelValue, value: labelValue, effect: fc.constantFrom('NoSchedule', 'NoExecute', 'x') }),
        fc.jsonValue(),
      ),
      { maxLength: 5 },
    ),
  }),
  status: fc.record({
    allocatable: fc.dictionary(
      fc.constantFrom(...resourceNames),
      fc.oneof(fc.constantFrom('0', '1', '7', '14', '16', '500m', '99999'), fc.jsonValue()),
    ),
  }),
});

it('any node gives GPUs that a request takes', () => {
  fc.assert(
    fc.property(fc.oneof(anyNode, fc.jsonValue()), (object) => {
      const { gpus, notices } = nodeGpus(object, catalogue);
      expectUsable(
        gpus,
        notices.map(({ source, message }) => `${source}: ${message}`),
      );
    }),
    { numRuns: 500 },
  );
});

it('any file gives GPUs that a request takes, or says what is wrong with it', () => {
  const files = fc.oneof(
    anyText,
    fc.array(fc.oneof(anyNode, fc.jsonValue())).map((items) => JSON.stringify({ kind: 'List', items })),
  );
  fc.assert(
    fc.property(files, (text) => {
      try {
        const { gpus } = parseGpuFile(text, 'gpus.yaml', catalogue);
        expect(z.array(placementGpuSchema).safeParse(gpus).error).toBeUndefined();
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
      }
    }),
    { numRuns: 300 },
  );
});
