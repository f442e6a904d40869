import { loadGpuCatalogue } from '../src/adapters/catalogue-file.js';
import { highsRuntime } from '../src/adapters/solvers/highs.js';
import type { GpuCatalogue } from '../src/core/gpu-types.js';
import type { Placement, PlacementObjective } from '../src/core/placement.js';
import type { PlacementRequest } from '../src/core/placement-request.js';
import { fleetOf } from '../src/placement/fleet.js';
import { place } from '../src/placement/place.js';
import { objectiveOf } from '../src/placement/score.js';
import { rules } from '../src/placement/strategies/strategies.js';
import { highsEngine, type MipEngine } from './mip.js';
import { type FleetShape, generatedFleet } from './placement-fleets.js';
import { type ComponentName, componentNames, firstDifference, leastUseByMip, peerRules } from './placement-peers.js';
import { brief, median, progress, table } from './timing.js';

/**
 * Placements on generated fleets: how often `optimal` is proven and how soon, how far it is from its bound where it is
 * not, what the rules and two peers' rules leave, and a second opinion of HiGHS on the last component.
 */
export type PlacementBenchmark = {
  readonly solved: readonly SolvedGroup[];
  readonly compared: { readonly fleets: number; readonly rivals: readonly Rival[] };
  readonly checked: readonly CheckedGroup[];
};

type SolvedGroup = { readonly name: string; readonly runs: readonly SolvedRun[] };
type SolvedRun = { readonly milliseconds: number; readonly placement: Placement };

/** One rival against `optimal`: the first component in which they differ, fleet by fleet; null = equal. */
type Rival = { readonly name: string; readonly differences: readonly ReturnType<typeof firstDifference>[] };

type CheckedGroup = { readonly name: string; readonly runs: readonly CheckedRun[] };
type CheckedRun = {
  readonly ownMs: number;
  /** Null where HiGHS had no answer within the limit; the limit counts as its time. */
  readonly highsMs: number | null;
  /** Whether each answer lies at or above the other's bound, to a thousandth. */
  readonly agrees: boolean;
  /** maxRelativeUse less HiGHS's, both proven or not; null without an answer. */
  readonly useDifference: number | null;
  readonly isProven: boolean;
};

export type PlacementSizes = {
  readonly solved: readonly (Omit<FleetShape, 'seed'> & { readonly count: number; readonly limitMs: number })[];
  readonly compared: { readonly count: number; readonly limitMs: number; readonly largest: number };
  readonly checked: readonly { readonly services: number; readonly gpus: number; readonly count: number }[];
  readonly checkLimitMs: number;
};

/** What `npm run bench -- placement` runs. */
export function placementSizes(quick: boolean): PlacementSizes {
  const limitMs = 10_000;
  const shapes = [0.5, 0.7, 0.85].flatMap((fill) => [false, true].map((hasRules) => ({ fill, hasRules })));
  return {
    solved: [
      ...shapes.map((shape) => ({ ...shape, services: 30, gpus: 8, count: quick ? 2 : 10, limitMs })),
      ...shapes
        .filter(({ fill }) => !quick || fill === 0.7)
        .map((shape) => ({ ...shape, services: 200, gpus: 64, count: quick ? 1 : 2, limitMs })),
    ],
    compared: quick ? { count: 20, limitMs: 500, largest: 30 } : { count: 200, limitMs: 1_000, largest: 60 },
    checked: [
      { services: 12, gpus: 4, count: quick ? 2 : 5 },
      { services: 20, gpus: 6, count: quick ? 1 : 5 },
      { services: 30, gpus: 8, count: quick ? 1 : 5 },
    ],
    checkLimitMs: limitMs,
  };
}

export async function benchmarkPlacement(sizes: PlacementSizes): Promise<PlacementBenchmark> {
  const catalogue = await loadGpuCatalogue();
  const engine = highsEngine(await highsRuntime());
  // Warm: a few fleets before the first that counts.
  for (let seed = 0; seed < 5; seed++) {
    timedOptimal(generatedFleet({ seed, gpus: 4, services: 12, fill: 0.7 }), catalogue, 200);
  }
  return {
    solved: sizes.solved.map(({ count, limitMs, ...shape }) => {
      const name = `${shape.services} × ${shape.gpus}, ${shape.fill * 100} %${shape.hasRules === true ? ', rules' : ''}`;
      return {
        name,
        runs: Array.from({ length: count }, (_, seed) => {
          progress(`placement: ${name}, ${seed + 1} of ${count}`);
          return timedOptimal(generatedFleet({ ...shape, seed }), catalogue, limitMs);
        }),
      };
    }),
    compared: compare(sizes.compared, catalogue),
    checked: sizes.checked.map(({ services, gpus, count }) => {
      const runs = Array.from({ length: count }, (_, seed) => {
        progress(`placement: ${services} × ${gpus} by HiGHS, ${seed + 1} of ${count}`);
        return checkRun(plainFleet({ seed, services, gpus, fill: 0.7 }), catalogue, engine, sizes.checkLimitMs);
      });
      return { name: `${services} × ${gpus}`, runs };
    }),
  };
}

function timedOptimal(request: PlacementRequest, catalogue: GpuCatalogue, limitMs: number): SolvedRun {
  const startedAt = performance.now();
  const shouldStop = (): boolean => performance.now() - startedAt > limitMs;
  const placement = place({ ...request, strategy: 'optimal' }, { catalogue, shouldStop });
  return { milliseconds: performance.now() - startedAt, placement };
}

/** Of the many fleets one has from 2 GPUs and 5 services up to the largest, roomy and tight, in either mode. */
function mixedFleet(seed: number, largest: number): PlacementRequest {
  return generatedFleet({
    seed: 10_000 + seed,
    gpus: 2 + (seed % Math.max(2, Math.round(largest / 4))),
    services: 5 + ((seed * 7) % (largest - 4)),
    fill: [0.5, 0.7, 0.9, 1.1][seed % 4]!,
    overcommit: seed % 5 === 0 ? 'refuse' : 'warn',
    hasRules: seed % 2 === 0,
    isOneVendor: seed % 3 === 0,
  });
}

function compare(
  { count, limitMs, largest }: PlacementSizes['compared'],
  catalogue: GpuCatalogue,
): PlacementBenchmark['compared'] {
  const { manual: _, ...strategies } = rules;
  const others = { ...strategies, ...peerRules };
  const differences = new Map<string, ReturnType<typeof firstDifference>[]>(
    Object.keys(others).map((name) => [name, []]),
  );
  for (let seed = 0; seed < count; seed++) {
    progress(`placement: rivals, ${seed + 1} of ${count}`);
    const request = mixedFleet(seed, largest);
    const fleet = fleetOf(request, catalogue);
    const best = timedOptimal(request, catalogue, limitMs).placement.objective;
    for (const [name, rule] of Object.entries(others)) {
      differences.get(name)!.push(firstDifference(best, objectiveOf(rule(fleet).score(), fleet)));
    }
  }
  return { fleets: count, rivals: [...differences].map(([name, all]) => ({ name, differences: all })) };
}

/** Everything can go everywhere, and nothing but the last component differs. */
function plainFleet(shape: FleetShape): PlacementRequest {
  const request = generatedFleet({ ...shape, isOneVendor: true });
  return {
    ...request,
    services: request.services.map((service) => ({
      ...service,
      critical: false,
      cpuAllowed: false,
      minMemoryMb: service.memoryMb,
      frameworks: ['cuda'],
    })),
  };
}

function checkRun(request: PlacementRequest, catalogue: GpuCatalogue, engine: MipEngine, limitMs: number): CheckedRun {
  const { milliseconds: ownMs, placement } = timedOptimal(request, catalogue, limitMs);
  // Half a thousandth of a use of about 1: as fine as our answer is rounded.
  const answer = leastUseByMip(request, engine, { timeLimitMs: limitMs, relativeGap: 5e-4 });
  const isPlain = (objective: PlacementObjective): boolean =>
    objective.refusedByPriority.length + objective.overcommitMb + objective.shrunkMb + objective.criticalSlowness === 0;
  if (!isPlain(placement.objective)) throw new Error('a plain fleet must fit, so that only the use is compared');
  const { objective, bound, status } = placement;
  return {
    ownMs,
    highsMs: answer?.milliseconds ?? null,
    agrees:
      answer === null ||
      (objective.maxRelativeUse >= answer.bound - 1e-6 && answer.use >= bound.maxRelativeUse - 0.001),
    useDifference: answer === null ? null : objective.maxRelativeUse - answer.use,
    isProven: status === 'optimal',
  };
}

const ofComponent: Readonly<Record<ComponentName, string>> = {
  refusedByPriority: 'refused',
  overcommitMb: 'overcommit',
  shrunkMb: 'shrunk',
  criticalSlowness: 'slowness',
  maxRelativeUse: 'use',
};

export function describePlacement({ solved, compared, checked }: PlacementBenchmark): string {
  const worse = compared.rivals.flatMap(({ differences }) => differences.filter((each) => (each?.difference ?? 0) < 0));
  return [
    'optimal: services × GPUs, what they ask for as a part of all memory. Milliseconds of place(), median / worst.',
    'Gap: of those not proven, the first component that is open, by how much it exceeds its bound, median / worst.',
    '',
    table(
      ['fleets', 'n', 'proven', 'ms', 'nodes', 'gap of those not proven', 'within 2 %'],
      solved.map(({ name, runs }) => [
        name,
        String(runs.length),
        String(runs.filter(isProven).length),
        spread(runs.map(({ milliseconds }) => milliseconds)),
        spread(runs.map(({ placement }) => placement.nodes)),
        gaps(runs),
        `${runs.filter(isWithinTwoPercent).length} of ${runs.length}`,
      ]),
    ),
    '',
    `${compared.fleets} mixed fleets: on how many optimal is better, by the first component that differs; then of those`,
    'the difference (a count, MiB) or the ratio (slowness, use) that the other has, median / worst.',
    '',
    table(
      ['against', 'equal', 'worse', ...componentNames.map((component) => ofComponent[component])],
      compared.rivals.map(({ name, differences }) => [
        name,
        String(differences.filter((each) => each === null).length),
        String(differences.filter((each) => each !== null && each.difference < 0).length),
        ...componentNames.map((component) => deciding(differences, component)),
      ]),
    ),
    '',
    worse.length === 0 ? 'optimal is never worse.' : `WRONG: optimal is worse in ${worse.length} cases.`,
    '',
    'The least use where nothing else matters, against HiGHS on the assignment program (gap 0.05 %).',
    '',
    table(
      ['fleets', 'n', 'proven', 'own ms', 'HiGHS ms', 'HiGHS:own', 'HiGHS answered', 'same to 0.001', 'contradictions'],
      checked.map(({ name, runs }) => [
        name,
        String(runs.length),
        String(runs.filter((run) => run.isProven).length),
        spread(runs.map(({ ownMs }) => ownMs)),
        spread(runs.flatMap(({ highsMs }) => (highsMs === null ? [] : [highsMs]))),
        `${brief(median(runs.flatMap(({ ownMs, highsMs }) => (highsMs === null ? [] : [highsMs / ownMs]))))}×`,
        String(runs.filter(({ highsMs }) => highsMs !== null).length),
        String(runs.filter(({ useDifference }) => useDifference !== null && Math.abs(useDifference) <= 0.001).length),
        String(runs.filter(({ agrees }) => !agrees).length),
      ]),
    ),
  ].join('\n');
}

const isProven = ({ placement }: SolvedRun): boolean => placement.status === 'optimal';

const spread = (values: readonly number[]): string =>
  values.length === 0 ? '–' : `${brief(median(values))} / ${brief(Math.max(...values))}`;

function gapOf({ placement }: SolvedRun): ReturnType<typeof firstDifference> {
  return firstDifference(placement.bound, placement.objective);
}

/** Proven, or only slowness or use are open, and they are at most 2 % above their bound. */
function isWithinTwoPercent(run: SolvedRun): boolean {
  if (isProven(run)) return true;
  const gap = gapOf(run);
  return gap === null || gap.ratio <= 1.02;
}

function gaps(runs: readonly SolvedRun[]): string {
  const open = runs.filter((run) => !isProven(run)).map(gapOf);
  const parts = componentNames.flatMap((component) => {
    const text = deciding(open, component);
    return text === '' ? [] : [`${ofComponent[component]} ${text}`];
  });
  return parts.join('; ') || '–';
}

/** How often a component is the first that differs, and by how much. */
function deciding(differences: readonly ReturnType<typeof firstDifference>[], component: ComponentName): string {
  const better = differences.flatMap((each) => (each?.component === component && each.difference > 0 ? [each] : []));
  if (better.length === 0) return '';
  // From 0 a ratio says nothing.
  const isRatio =
    (component === 'criticalSlowness' || component === 'maxRelativeUse') &&
    better.every((each) => Number.isFinite(each.ratio));
  const amounts = better.map(({ ratio, difference }) => (isRatio ? ratio : difference));
  return `${better.length}: ${isRatio ? `${median(amounts).toFixed(3)} / ${Math.max(...amounts).toFixed(3)}×` : `+${spread(amounts)}`}`;
}
