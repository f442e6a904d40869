import { describe, expect, it } from 'vitest';
import { seenGpu } from '../../../src/adapters/gpu-detection/seen-gpu.js';
import { parseXpuSmiDiscovery, withXpuSmiMemory } from '../../../src/adapters/gpu-detection/xpu-smi.js';
import { xpuDevice, xpuDiscovery, xpuStats } from './tool-outputs.js';

const arc = seenGpu({
  vendor: 'intel',
  index: 0,
  name: 'Intel(R) Arc(TM) A770 Graphics',
  pciBusId: '0000:03:00.0',
  pciId: '8086:56a0',
  uuid: '00000000-0000-0003-0000-000856a08086',
});

describe('the JSON of xpu-smi', () => {
  it('lists devices, and has the memory of each', () => {
    expect(parseXpuSmiDiscovery(xpuDiscovery)).toEqual({ gpus: [arc], notices: [] });
    expect(withXpuSmiMemory(arc, { device: xpuDevice, stats: xpuStats })).toEqual({
      ...arc,
      memoryMb: 16288,
      usedMb: 61,
    });
  });

  it('adds the tiles of a device whose statistics are told by tile', () => {
    const tile = (value: number) => ({ data_list: [{ metrics_type: 'XPUM_STATS_MEMORY_USED', value }] });
    const stats = JSON.stringify({ device_id: 0, tile_level: [tile(100.5), tile(200.6)] });
    expect(withXpuSmiMemory(arc, { device: null, stats }).usedMb).toBe(301);
  });

  it('leaves out virtual functions, and says what it was told instead of a list', () => {
    const list = [
      { device_id: 0, device_name: 'Intel(R) Data Center GPU Flex 170', device_function_type: 'physical' },
      { device_id: 1, device_name: 'Intel(R) Data Center GPU Flex 170', device_function_type: 'virtual' },
    ];
    expect(parseXpuSmiDiscovery(JSON.stringify({ device_list: list })).gpus.map(({ index }) => index)).toEqual([0]);
    expect(parseXpuSmiDiscovery('{"error": "Level Zero Initialization Error", "errno": 3}')).toEqual({
      gpus: [],
      notices: ['Level Zero Initialization Error'],
    });
    expect(parseXpuSmiDiscovery('{"device_list": []}').notices).toEqual(['no GPUs in its answer']);
    expect(parseXpuSmiDiscovery('No device discovered').notices).toEqual([
      'no JSON that could be read: No device discovered',
    ]);
  });
});
