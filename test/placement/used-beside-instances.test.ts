import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { strategyNames } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';
import { gpu, request, service } from './request-builders.js';

const catalogue = await loadGpuCatalogue();

/** Of 80 GB others use 60,000 MiB: 21,920 are free, and the largest instance holds 40,192. */
const cutGpu = gpu({ name: 'A100-80GB', memoryMb: 81_920, usedMb: 60_000, sharing: 'mig' });

describe('a GPU that is cut by MIG and of which others use a part', () => {
  it.each(strategyNames)(
    'is not overcommitted by a service that can shrink where overcommit is refused, by %s',
    (strategy) => {
      const pinned = service('llm', 40_000, { minMemoryMb: 1_000, gpu: { node: 'box', index: 0 } });
      const { assignments, objective, warnings } = place(
        request([cutGpu], [pinned], { strategy, overcommit: 'refuse' }),
        { catalogue },
      );
      expect(assignments).toEqual([
        {
          service: 'llm',
          node: 'box',
          gpuIndex: 0,
          memoryBudgetMb: 20_992,
          sharing: 'mig',
          share: 0.4285,
          mig: { profile: '3g.40gb', uuid: null },
        },
      ]);
      expect(objective).toEqual({
        refusedByPriority: [],
        overcommitMb: 0,
        shrunkMb: 19_008,
        criticalSlowness: 0,
        maxRelativeUse: 0.989,
      });
      expect(warnings).toEqual([
        {
          code: 'budget_adjusted',
          service: 'llm',
          message:
            'llm budget (39.1 GB) exceeds what others leave of GPU 0 (21.4 GB of 80 GB). Auto-adjusted to 20.5 GB.',
        },
      ]);
    },
  );
});
