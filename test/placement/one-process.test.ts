import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { checkPlacementRequest, strategyNames } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';

const catalogue = await loadGpuCatalogue();

function request(services: readonly string[], gpus: number) {
  return checkPlacementRequest(
    {
      apiVersion: 'gpumix/v1',
      kind: 'PlacementRequest',
      gpus: Array.from({ length: gpus }, (_, index) => ({
        index,
        node: 'habana',
        name: 'Gaudi-2',
        vendor: 'intel',
        memoryMb: 98_304,
      })),
      services: services.map((name) => ({ name, memoryMb: 1000, frameworks: ['oneapi'] })),
    },
    'request',
  );
}

describe('GPUs that one process at a time opens', () => {
  it.each(strategyNames.filter((name) => name !== 'manual'))('take one service each, by %s', (strategy) => {
    const { assignments, refusals } = place({ ...request(['a', 'b'], 2), strategy }, { catalogue });
    expect(refusals).toEqual([]);
    expect(assignments.map(({ gpuIndex }) => gpuIndex).sort()).toEqual([0, 1]);
    expect(assignments.map(({ sharing, share }) => [sharing, share])).toEqual([
      ['exclusive', 1],
      ['exclusive', 1],
    ]);
  });

  it('refuse a second one, and say why', () => {
    const { assignments, refusals } = place(request(['a', 'b'], 1), { catalogue });
    expect(assignments.map(({ service }) => service)).toEqual(['a']);
    expect(refusals).toEqual([
      {
        service: 'b',
        reason: 'sharing',
        message:
          'no GPU takes b: GPU 0 lets one process at a time use it and has a; what would work: a GPU that is shared, or cpuAllowed: true',
      },
    ]);
  });
});
