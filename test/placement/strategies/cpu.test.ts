import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../../src/adapters/catalogue-file.js';
import {
  checkPlacementRequest,
  type PlacementRequestInput,
  type StrategyName,
} from '../../../src/core/placement-request.js';
import { place } from '../../../src/placement/place.js';

const catalogue = await loadGpuCatalogue();
const box = [0, 1].map((index) => ({
  index,
  node: 'box',
  name: 'RTX A5500',
  vendor: 'nvidia' as const,
  memoryMb: 24564,
}));

function placesOf(strategy: StrategyName, services: PlacementRequestInput['services']) {
  const request = { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', strategy, gpus: box, services };
  const { assignments, refusals } = place(checkPlacementRequest(request, 'the test'), { catalogue });
  return [
    ...assignments.map(({ service, gpuIndex }) => `${service} on ${gpuIndex ?? 'the CPU'}`),
    ...refusals.map(({ service }) => `${service} refused`),
  ];
}

describe.each(['vram_based', 'latency_optimized', 'isolation_first', 'balanced', 'optimal'] as const)(
  '%s and services that may use the CPU',
  (strategy) => {
    it('has a critical one that no GPU may take on the CPU', () => {
      const services = [{ name: 'gateway', memoryMb: 1000, critical: true, frameworks: ['cpu' as const] }];
      expect(placesOf(strategy, services)).toEqual(['gateway on the CPU']);
    });

    it('keeps one that fits on its GPU', () => {
      const services = [
        { name: 'llm', memoryMb: 10000, critical: true, cpuAllowed: true, frameworks: ['cuda' as const] },
      ];
      expect(placesOf(strategy, services)).toEqual(['llm on 0']);
    });
  },
);
