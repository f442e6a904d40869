import { describe, expect, it } from 'vitest';
import { generatedFleet } from '../../benchmarks/placement-fleets.js';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import type { Placement } from '../../src/core/placement.js';
import type { PlacementGpu } from '../../src/core/placement-request.js';
import { place } from '../../src/placement/place.js';
import { compareJudged, type Judged, leastByEnumeration } from './enumerated.js';

const catalogue = await loadGpuCatalogue();

function speedOf(gpu: PlacementGpu): number {
  return gpu.speed ?? (gpuByName(catalogue, gpu.name)?.memoryGBps ?? 100) / 1000;
}

function judgedOf({ objective }: Placement): Judged {
  return {
    refused: objective.refusedByPriority.map(({ priority, count }) => [priority, count] as const),
    overMb: objective.overcommitMb,
    shrunkMb: objective.shrunkMb,
    slowness: objective.criticalSlowness,
    thousandths: Math.round(objective.maxRelativeUse * 1000),
  };
}

/** 300 small fleets: roomy and tight, with and without rules, warning and refusing. */
const smallFleets = Array.from({ length: 300 }, (_, seed) =>
  generatedFleet({
    seed,
    gpus: 1 + (seed % 4),
    services: 2 + (seed % 5),
    fill: [0.4, 0.8, 1, 1.3][Math.floor(seed / 2) % 4]!,
    overcommit: seed % 3 === 0 ? 'refuse' : 'warn',
    isOneVendor: seed % 2 === 0,
    hasRules: seed % 5 !== 0,
  }),
);

describe('the optimal strategy', () => {
  it('finds and proves the least that there is among all placements, on 300 small fleets', () => {
    const wrong = smallFleets.flatMap((request, seed) => {
      const placement = place(request, { catalogue });
      const least = leastByEnumeration(request, speedOf);
      const isRight = compareJudged(judgedOf(placement), least) === 0 && placement.status === 'optimal';
      return isRight ? [] : [{ seed, placement: judgedOf(placement), status: placement.status, least }];
    });
    expect(wrong).toEqual([]);
  });
});
