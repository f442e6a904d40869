import { describe, expect, it } from 'vitest';
import { generatedFleet } from '../../benchmarks/placement-fleets.js';
import { loadGpuCatalogue } from '../../src/adapters/catalogue-file.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import type { Placement, PlacementObjective } from '../../src/core/placement.js';
import { type PlacementGpu, type PlacementRequest, strategyNames } from '../../src/core/placement-request.js';
import { budgetsOn } from '../../src/placement/budgets.js';
import { fleetOf } from '../../src/placement/fleet.js';
import { place } from '../../src/placement/place.js';
import { compareJudged, type Judged, judge, leastByEnumeration } from './enumerated.js';
import { brokenRules } from './hardware-rules.js';

const catalogue = await loadGpuCatalogue();

function speedOf(gpu: PlacementGpu): number {
  return gpu.speed ?? (gpuByName(catalogue, gpu.name)?.memoryGBps ?? 100) / 1000;
}

/** An objective in the terms of the second reading. */
function judgedOf(objective: PlacementObjective): Judged {
  return {
    refused: objective.refusedByPriority.map(({ priority, count }) => [priority, count] as const),
    overMb: objective.overcommitMb,
    shrunkMb: objective.shrunkMb,
    slowness: objective.criticalSlowness,
    thousandths: Math.round(objective.maxRelativeUse * 1000),
  };
}

/** The objective of a placement by the second reading, from its assignments alone. */
function judgedAnew(request: PlacementRequest, { assignments }: Placement): Judged | null {
  const places = request.services.map(({ name }) => {
    const assignment = assignments.find(({ service }) => service === name);
    if (assignment === undefined) return -2;
    const { node, gpuIndex } = assignment;
    return gpuIndex === null ? -1 : request.gpus.findIndex((gpu) => gpu.node === node && gpu.index === gpuIndex);
  });
  return judge(request, places, speedOf);
}

function fleets(count: number, shape: { readonly gpus: number; readonly services: number }, firstSeed = 0) {
  return Array.from({ length: count }, (_, i) => {
    const seed = firstSeed + i;
    return generatedFleet({
      seed,
      gpus: 1 + (seed % shape.gpus),
      services: 1 + ((seed * 7) % shape.services),
      fill: [0.5, 0.9, 1.05, 1.4][seed % 4]!,
      overcommit: seed % 3 === 0 ? 'refuse' : 'warn',
      isOneVendor: seed % 2 === 0,
      hasRules: seed % 5 !== 0,
    });
  });
}

/** Up to 6 GPUs and 14 services: too many for every placement, few enough for the search. */
const usualFleets = fleets(300, { gpus: 6, services: 14 }, 1_000);
/** Up to 3 GPUs and 6 services: every placement can be looked at. */
const smallFleets = fleets(300, { gpus: 3, services: 6 }, 5_000);

/** A limit, so that the answer is the same on every machine. */
const nodeLimit = 20_000;

const known = new Map<PlacementRequest, readonly Placement[]>();

/** Every strategy's answer; the same request is placed once for all tests. */
function placements(request: PlacementRequest): readonly Placement[] {
  const before = known.get(request);
  if (before !== undefined) return before;
  const answers = strategyNames.map((strategy) => place({ ...request, strategy }, { catalogue, nodeLimit }));
  known.set(request, answers);
  return answers;
}

function optimalOf(request: PlacementRequest): Placement {
  return placements(request).find(({ strategy }) => strategy === 'optimal')!;
}

/** Cases in which something is wrong, by their seed; the first few are enough to see what. */
function faults<Fault>(
  requests: readonly PlacementRequest[],
  faultsOf: (request: PlacementRequest) => readonly Fault[],
) {
  return requests.flatMap((request, i) => faultsOf(request).map((fault) => ({ i, fault }))).slice(0, 5);
}

/** The same list in another order, by a fixed permutation. */
function reordered<Item>(items: readonly Item[], seed: number): readonly Item[] {
  return items
    .map((item, i) => ({ item, key: Math.imul(i + 1, 2654435761 + 2 * seed) >>> 0 }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

/** A placement without the order of the request. */
function unordered({ assignments, gpus, refusals, ...rest }: Placement) {
  return {
    ...rest,
    assignments: Object.fromEntries(assignments.map((assignment) => [assignment.service, assignment])),
    refusals: Object.fromEntries(refusals.map((refusal) => [refusal.service, refusal])),
    gpus: Object.fromEntries(gpus.map((gpu) => [`${gpu.node}/${gpu.index}`, gpu])),
  };
}

describe('every strategy, on 300 generated fleets', () => {
  it('keeps to what hardware forbids, to the pins and to the minima, and places or refuses each service once', () => {
    expect(
      faults(usualFleets, (request) =>
        placements(request).flatMap((placement) =>
          brokenRules(request, placement).map((rule) => `${placement.strategy}: ${rule}`),
        ),
      ),
    ).toEqual([]);
  });

  it('says the objective that a second reading finds in its assignments', () => {
    expect(
      faults(usualFleets, (request) =>
        placements(request).flatMap((placement) => {
          const anew = judgedAnew(request, placement);
          const said = judgedOf(placement.objective);
          return anew !== null && compareJudged(anew, said) === 0 ? [] : [{ strategy: placement.strategy, said, anew }];
        }),
      ),
    ).toEqual([]);
  });

  it('gives the same answer in whichever order services and GPUs stand', () => {
    expect(
      faults(usualFleets, (request) => {
        const other = { ...request, gpus: reordered(request.gpus, 3), services: reordered(request.services, 8) };
        const answers = placements(other).map(unordered);
        return placements(request)
          .map(unordered)
          .flatMap((answer, i) =>
            JSON.stringify(sorted(answer)) === JSON.stringify(sorted(answers[i]))
              ? []
              : [{ strategy: answer.strategy, answer, other: answers[i] }],
          );
      }),
    ).toEqual([]);
  });

  it('never exceeds a GPU under refuse, beyond what others use of it', () => {
    const refusing = usualFleets.map((request) => ({ ...request, overcommit: 'refuse' as const }));
    expect(
      faults(refusing, (request) =>
        placements(request).flatMap(({ strategy, gpus }) =>
          gpus
            .filter(({ memoryMb, usedMb, assignedMb }) => assignedMb > 0 && usedMb + assignedMb > memoryMb)
            .map((gpu) => ({ strategy, gpu })),
        ),
      ),
    ).toEqual([]);
  });

  it('has a bound that is never worse than its objective, and calls optimal what reaches it', () => {
    expect(
      faults(usualFleets, (request) =>
        placements(request).flatMap(({ strategy, status, objective, bound }) => {
          const difference = compareJudged(judgedOf(bound), judgedOf(objective));
          const isRight = difference <= 0 && (status === 'optimal') === (difference === 0);
          return isRight ? [] : [{ strategy, status, objective, bound }];
        }),
      ),
    ).toEqual([]);
  });
});

describe('optimal', () => {
  it('is never worse than a rule, whether its search ends or is cut off', () => {
    expect(
      faults(usualFleets, (request) =>
        [optimalOf(request), place({ ...request, strategy: 'optimal' }, { catalogue, nodeLimit: 50 })].flatMap((best) =>
          placements(request).flatMap((other) => {
            const isWorse = compareJudged(judgedAnew(request, best)!, judgedAnew(request, other)!) > 0;
            return isWorse && other.strategy !== 'optimal' ? [{ best: best.objective, other }] : [];
          }),
        ),
      ),
    ).toEqual([]);
  });

  it('cut off after 50 nodes still keeps to the rules and has a bound that the search does not pass', () => {
    expect(
      faults(usualFleets, (request) => {
        const cut = place({ ...request, strategy: 'optimal' }, { catalogue, nodeLimit: 50 });
        const whole = optimalOf(request);
        const broken = brokenRules(request, cut);
        const isPassed = compareJudged(judgedOf(whole.objective), judgedOf(cut.bound)) < 0;
        return [...broken, ...(isPassed ? [{ bound: cut.bound, found: whole.objective }] : [])];
      }),
    ).toEqual([]);
  });

  it('is never worse for a GPU more', () => {
    const more = { ...smallFleets[0]!.gpus[0]!, node: 'new', index: 0, usedMb: 0, taints: [], sharing: null };
    expect(
      faults(usualFleets, (request) => {
        const before = optimalOf(request);
        const after = place(
          { ...request, strategy: 'optimal', gpus: [...request.gpus, more] },
          { catalogue, nodeLimit },
        );
        // A search that was cut off may miss what it would have found.
        if (after.status !== 'optimal') return [];
        const isWorse = compareJudged(judgedOf(after.objective), judgedOf(before.objective)) > 0;
        return isWorse ? [{ before: before.objective, after: after.objective }] : [];
      }),
    ).toEqual([]);
  });
});

describe('against every placement there is, on 300 small fleets', () => {
  it('no bound of any strategy is above the least, and what is called optimal is the least', () => {
    expect(
      faults(smallFleets, (request) => {
        const least = leastByEnumeration(request, speedOf);
        const cut = place({ ...request, strategy: 'optimal' }, { catalogue, nodeLimit: 3 });
        return [...placements(request), cut].flatMap(({ strategy, status, objective, bound }) => {
          const isBound = compareJudged(judgedOf(bound), least) <= 0;
          const isLeast = compareJudged(judgedOf(objective), least) === 0;
          const isPossible = compareJudged(judgedOf(objective), least) >= 0;
          return isBound && isPossible && (status === 'feasible' || isLeast)
            ? []
            : [{ strategy, status, objective, bound, least }];
        });
      }),
    ).toEqual([]);
  });
});

describe('budgets on one GPU', () => {
  it('shrink and exceed no less with a service more, which bounds rely on', () => {
    expect(
      faults(usualFleets, (request) => {
        const { gpus, services } = fleetOf({ ...request, overcommit: 'warn' }, catalogue);
        return gpus.flatMap((gpu) => {
          const able = services.filter(({ options }) => options.includes(gpu.at));
          return able.flatMap((_, count) => {
            const before = budgetsOn(gpu, able.slice(0, count));
            const after = budgetsOn(gpu, able.slice(0, count + 1));
            if (before === null || after === null) return [];
            const isLess = after.shrunkMb < before.shrunkMb || after.overMb < before.overMb;
            return isLess ? [{ gpu: gpu.label, count, before, after }] : [];
          });
        });
      }),
    ).toEqual([]);
  });
});

/** Keys in one order, so that two values can be compared as text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, sorted(each)]),
  );
}
