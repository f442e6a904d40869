import type { PlacementObjective } from '../src/core/placement.js';
import type { PlacementRequest } from '../src/core/placement-request.js';
import type { Fleet } from '../src/placement/fleet.js';
import type { Occupancy } from '../src/placement/occupancy.js';
import { leastRelativeUse, type Preference, placeOn, withPins } from '../src/placement/strategies/filling.js';
import type { Mip, MipEngine, MipLimits } from './mip.js';

/**
 * What placements are compared with: the two rules by which schedulers choose a GPU, written by us, and a mixed-integer
 * program for the one component that is a textbook problem.
 *
 * The rules take services in the order of the document, as pods arrive. Where a service fits nowhere as it is, they go on as
 * gpumix's own strategies do (where it exceeds and shrinks least), which favours them: a scheduler leaves it pending.
 */
export const peerRules = {
  /** The fullest GPU on which it fits: HAMi's `binpack`, Kubernetes' MostAllocated. */
  binpack: (fleet: Fleet): Occupancy => filled(fleet, (a, b, occupancy) => leastRelativeUse(b, a, occupancy)),
  /** The emptiest GPU by relative use: HAMi's `spread`, Kubernetes' LeastAllocated. */
  spread: (fleet: Fleet): Occupancy => filled(fleet, leastRelativeUse),
};

function filled(fleet: Fleet, prefer: Preference): Occupancy {
  const occupancy = withPins(fleet);
  const byName = new Map(fleet.services.map((service) => [service.service.name, service]));
  for (const { name } of fleet.request.services) {
    const service = byName.get(name)!;
    if (!occupancy.isDecided(service)) placeOn(occupancy, service, service.options, prefer);
  }
  return occupancy;
}

/**
 * The least maxRelativeUse by a mixed-integer program, where everything can go everywhere and nothing gives way:
 *
 *   minimise U   subject to   Σ_g x_sg = 1,   Σ_s memory_s x_sg + used_g ≤ memory_g U,   x whole
 *
 * @returns null where the engine found nothing within its limit
 */
export function leastUseByMip(
  { gpus, services }: PlacementRequest,
  engine: MipEngine,
  limits: MipLimits,
): { readonly use: number; readonly bound: number; readonly milliseconds: number } | null {
  const once = services.length;
  const mip: Mip = {
    rowLower: [...services.map(() => 1), ...gpus.map(() => Number.NEGATIVE_INFINITY)],
    rowUpper: [...services.map(() => 1), ...gpus.map(({ usedMb, memoryMb }) => -usedMb / memoryMb)],
    columns: [
      { cost: 1, upper: 10, whole: false, entries: gpus.map((_, g) => [once + g, -1] as const) },
      ...services.flatMap(({ memoryMb }, s) =>
        gpus.map((gpu, g) => ({
          cost: 0,
          upper: 1,
          whole: true,
          entries: [[s, 1] as const, [once + g, memoryMb / gpu.memoryMb] as const],
        })),
      ),
    ],
  };
  const { values, bound, milliseconds } = engine.solve(mip, limits);
  return values === null ? null : { use: values[0]!, bound, milliseconds };
}

/** Components of the objective in the order in which they are compared. */
export const componentNames = [
  'refusedByPriority',
  'overcommitMb',
  'shrunkMb',
  'criticalSlowness',
  'maxRelativeUse',
] as const;
export type ComponentName = (typeof componentNames)[number];

/** The first component in which two objectives differ, and by how much `b` is more; null where they are equal. */
export function firstDifference(
  a: PlacementObjective,
  b: PlacementObjective,
): { readonly component: ComponentName; readonly difference: number; readonly ratio: number } | null {
  const priorities = [...a.refusedByPriority, ...b.refusedByPriority].map(({ priority }) => priority);
  for (const priority of [...new Set(priorities)].sort((x, y) => y - x)) {
    const count = ({ refusedByPriority }: PlacementObjective): number =>
      refusedByPriority.find((each) => each.priority === priority)?.count ?? 0;
    if (count(a) !== count(b)) return differing('refusedByPriority', count(a), count(b));
  }
  for (const component of ['overcommitMb', 'shrunkMb', 'criticalSlowness', 'maxRelativeUse'] as const) {
    // The document has six decimals of the slowness and three of the use.
    if (Math.abs(a[component] - b[component]) > 2e-6) return differing(component, a[component], b[component]);
  }
  return null;
}

function differing(component: ComponentName, a: number, b: number) {
  return { component, difference: b - a, ratio: b / a };
}
