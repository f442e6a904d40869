import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canonicalGpuType,
  gpuByName,
  gpuNameKey,
  gpuTypeInName,
  isKnownGpuType,
  parseGpuCatalogue,
} from '../../src/core/gpu-types.js';
import { InputError } from '../../src/core/input-error.js';

const document: unknown = JSON.parse(readFileSync('profiles/gpus.json', 'utf8'));
const catalogue = parseGpuCatalogue(document, 'profiles/gpus.json');

describe('the shipped GPU catalogue', () => {
  it.each([
    // nvidia.com/gpu.product of GPU feature discovery
    ['NVIDIA-A100-SXM4-80GB', 'A100-80GB'],
    ['NVIDIA-A100-SXM4-40GB', 'A100-40GB'],
    ['A100-PCIE-40GB', 'A100-40GB'],
    ['NVIDIA-H100-80GB-HBM3', 'H100'],
    ['NVIDIA-H100-PCIe', 'H100-PCIe'],
    ['NVIDIA-H100-NVL', 'H100-NVL'],
    ['NVIDIA-H200', 'H200'],
    ['NVIDIA-L20', 'L20'],
    ['NVIDIA-L40S', 'L40S'],
    ['Tesla-T4', 'T4'],
    ['Tesla-V100', 'V100'],
    ['Tesla-V100-SXM2-16GB', 'V100'],
    ['Tesla-V100-SXM2-32GB', 'V100-32GB'],
    ['NVIDIA-GeForce-RTX-4090', 'RTX-4090'],
    ['NVIDIA-RTX-6000-Ada-Generation', 'RTX-6000-Ada'],
    ['NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition', 'RTX-PRO-6000'],
    // cloud.google.com/gke-accelerator
    ['nvidia-tesla-t4', 'T4'],
    ['nvidia-l4', 'L4'],
    ['nvidia-tesla-a100', 'A100-40GB'],
    ['nvidia-a100-80gb', 'A100-80GB'],
    ['nvidia-h100-80gb', 'H100'],
    ['nvidia-h100-mega-80gb', 'H100'],
    ['nvidia-h200-141gb', 'H200'],
    ['nvidia-b200', 'B200'],
    // karpenter.k8s.aws/instance-gpu-name, instance types
    ['a10g', 'A10G'],
    ['l40s', 'L40S'],
    ['g6e.12xlarge', 'L40S'],
    ['Standard_ND96isr_MI300X_v5', 'MI300X'],
    // other vendors
    ['AMD_Instinct_MI300X_OAM', 'MI300X'],
    ['AMD-Instinct-MI210', 'MI210'],
    ['gaudi-hl-205', 'Gaudi'],
    ['Intel-Gaudi-3', 'Gaudi3'],
    ['Ascend910B', 'Ascend-910B'],
  ])('knows %s as %s', (alias, name) => {
    expect(canonicalGpuType(catalogue, alias)).toBe(name);
  });

  it('compares names without regard to case, dashes, underscores and spaces', () => {
    for (const spelling of ['NVIDIA-L20', 'nvidia_l20', 'Nvidia L20', ' l20 ']) {
      expect(canonicalGpuType(catalogue, spelling)).toBe('L20');
    }
  });

  it('leaves a name that it does not know as it is', () => {
    expect(canonicalGpuType(catalogue, 'Wafer-Scale-9')).toBe('Wafer-Scale-9');
    expect(gpuByName(catalogue, 'Wafer-Scale-9')).toBeUndefined();
  });

  it('names a part of a GPU after its whole', () => {
    expect(canonicalGpuType(catalogue, 'NVIDIA-A100-SXM4-80GB-MIG-1g.10gb')).toBe('A100-80GB-MIG-1g.10gb');
    expect(canonicalGpuType(catalogue, 'NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me')).toBe('H100-MIG-1g.10gb.me');
    expect(canonicalGpuType(catalogue, 'Tesla-T4-SHARED')).toBe('T4-SHARED');
    expect(isKnownGpuType(catalogue, 'Tesla-T4-SHARED')).toBe(true);
    expect(isKnownGpuType(catalogue, 'Unheard-Of-SHARED')).toBe(false);
  });

  it('has a price only with a source and a date, within what GPUs cost', () => {
    for (const entry of catalogue.entries) {
      if (entry.usdPerGpuHour === null) continue;
      expect(entry.priceSource, entry.name).toMatch(/^(AWS|Azure|RunPod|Lambda) .*on-demand|^Azure pay-as-you-go/);
      expect(entry.priceAsOf, entry.name).toMatch(/^20\d\d-\d\d-\d\d$/);
      expect(entry.usdPerGpuHour, entry.name).toBeGreaterThan(0.1);
      expect(entry.usdPerGpuHour, entry.name).toBeLessThan(30);
    }
  });

  it('takes a name that does not state the memory for the smaller part at the dearer price', () => {
    const [unstated, small, large] = ['A100', 'A100-40GB', 'A100-80GB'].map((name) => gpuByName(catalogue, name)!);
    expect(unstated!.memoryGib).toBe(Math.min(small!.memoryGib, large!.memoryGib));
    expect(unstated!.usdPerGpuHour).toBe(Math.max(small!.usdPerGpuHour!, large!.usdPerGpuHour!));
  });

  it('maps every canonical name to itself and every alias to its entry', () => {
    for (const entry of catalogue.entries) {
      for (const name of [entry.name, ...entry.aliases]) expect(canonicalGpuType(catalogue, name)).toBe(entry.name);
    }
  });
});

describe('a GPU type inside a deployment name', () => {
  it.each([
    ['deepseek-coder-7b-l20', 'L20'],
    ['deepseek-coder-7b-v100', 'V100'],
    ['simulator-llama2-7b-a100', 'A100'],
    ['llama-3-8b-a100-80gb', 'A100-80GB'],
    ['llama-3-8b-a100-80gb-canary', 'A100-80GB'],
    ['qwen-rtx-4090', 'RTX-4090'],
    ['qwen-rtx4090', 'RTX-4090'],
    ['mixtral-mi300x', 'MI300X'],
    ['l4-to-h100', 'H100'],
    ['llama2-7b', null],
    ['model-xl40', null],
    ['gpt-a1000', null],
    ['l-4', null],
    ['', null],
  ])('finds in %s: %s', (name, type) => {
    expect(gpuTypeInName(catalogue, name)).toBe(type);
  });

  it('prefers the longest name, then the one nearest to the end', () => {
    expect(gpuTypeInName(catalogue, 'a100-80gb-l4')).toBe('A100-80GB');
    expect(gpuTypeInName(catalogue, 't4-l4')).toBe('L4');
  });

  it('answers any name with null or a canonical name', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (name) => {
        const type = gpuTypeInName(catalogue, name);
        return type === null || gpuByName(catalogue, type)?.name === type;
      }),
    );
  });
});

describe('a GPU catalogue that cannot be used', () => {
  const entry = { name: 'X1', vendor: 'nvidia', memoryGib: 8, usdPerGpuHour: null, aliases: [] };
  const parse = (gpus: readonly unknown[]) =>
    parseGpuCatalogue({ apiVersion: 'gpumix/v1', kind: 'GpuCatalogue', gpus }, 'gpus.json');

  it('is refused where two entries claim one name', () => {
    expect(() => parse([entry, { ...entry, name: 'X2', aliases: ['x-1'] }])).toThrow(
      'gpus.json: gpus[1]: found "x-1", which "X1" has too, expected a name or alias that no other entry has',
    );
  });

  it('is refused where a price has no source', () => {
    expect(() => parse([{ ...entry, usdPerGpuHour: 1 }])).toThrow('the source and the date (priceAsOf) of the price');
  });

  it('is refused with place and nearest key where a key is misspelt', () => {
    expect(() => parse([{ ...entry, memoryGiB: 8 }])).toThrow('did you mean "memoryGib"?');
  });

  it('never makes anything but an InputError of any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        try {
          parseGpuCatalogue(value, 'gpus.json');
          return false;
        } catch (error) {
          return error instanceof InputError;
        }
      }),
    );
  });
});

it('compares names by an idempotent key', () => {
  fc.assert(fc.property(fc.string(), (name) => gpuNameKey(gpuNameKey(name)) === gpuNameKey(name)));
});
