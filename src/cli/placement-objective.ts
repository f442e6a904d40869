import type { Placement, PlacementObjective } from '../core/placement.js';
import { amount, percent } from './terminal-text.js';

/** The objective of a placement in words, component by component in the order in which they are compared. */

/** GPUs that are named before the rest is counted. */
const namedGpus = 3;

/**
 * `nothing refused`, `2.3 GB too much on GPU 1`, `3.3 GB shrunk`, `critical slowness 2.1`, `fullest GPU at 157 %`.
 *
 * @param overcommitted names of the GPUs that hold too much
 */
export function describeObjective(
  objective: PlacementObjective,
  overcommitted: readonly string[] = [],
): readonly string[] {
  const { overcommitMb, shrunkMb, criticalSlowness, maxRelativeUse } = objective;
  const rest = overcommitted.length - namedGpus;
  const named = overcommitted.slice(0, namedGpus).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
  return [
    refused(objective),
    overcommitMb === 0
      ? 'no memory overcommitted'
      : `${amount(overcommitMb)} too much${named === '' ? '' : ` on ${named}`}`,
    shrunkMb === 0 ? 'nothing shrunk' : `${amount(shrunkMb)} shrunk`,
    ...(criticalSlowness === 0 ? [] : [`critical slowness ${figure(criticalSlowness)}`]),
    ...(maxRelativeUse === 0 ? [] : [`fullest GPU at ${percent(maxRelativeUse)}`]),
  ];
}

/** `nothing refused`, `1 refused`, `1 refused of priority 10, 2 of 0`. */
function refused({ refusedByPriority }: PlacementObjective): string {
  const [first, ...rest] = refusedByPriority;
  if (first === undefined) return 'nothing refused';
  if (rest.length === 0) return `${first.count} refused`;
  return `${first.count} refused of priority ${first.priority}, ${rest.map(({ priority, count }) => `${count} of ${priority}`).join(', ')}`;
}

/** The first component in which at best below the objective: `at best 1.2 GB too much`. */
export function describeBound({ objective, bound }: Pick<Placement, 'objective' | 'bound'>): string {
  if (JSON.stringify(bound.refusedByPriority) !== JSON.stringify(objective.refusedByPriority)) {
    return `at best ${refused(bound)}`;
  }
  if (bound.overcommitMb < objective.overcommitMb) {
    return `at best ${bound.overcommitMb === 0 ? 'no memory overcommitted' : `${amount(bound.overcommitMb)} too much`}`;
  }
  if (bound.shrunkMb < objective.shrunkMb) {
    return `at best ${bound.shrunkMb === 0 ? 'nothing' : amount(bound.shrunkMb)} shrunk`;
  }
  if (bound.criticalSlowness < objective.criticalSlowness) {
    return `at best critical slowness ${figure(bound.criticalSlowness)}`;
  }
  return `at best the fullest GPU at ${percent(bound.maxRelativeUse)}`;
}

function figure(value: number): string {
  return String(Number(value.toPrecision(3)));
}
