import type { ObservedDeployment } from '../../core/ports.js';
import type { ScaleTarget } from '../../core/scale.js';
import type { PublishedEntry } from '../fleet.js';
import type { ScaleRequest } from './actuator.js';

/**
 * What a cycle left, as requests to scale: one for every deployment that is followed, also where nothing will be written,
 * so that it is told why.
 *
 * @param from.atMs when the cycle began. Unix [ms]
 * @param from.observed as the cycle saw them, by id
 * @param from.fixed ids of those that a person fixed
 */
export function scaleRequests(from: {
  readonly atMs: number;
  readonly mode: 'live' | 'shadow';
  readonly observed: ReadonlyMap<string, ObservedDeployment>;
  readonly published: ReadonlyMap<string, PublishedEntry>;
  readonly fixed: ReadonlySet<string> | ReadonlyMap<string, unknown>;
  readonly targetOf: (deployment: ObservedDeployment) => ScaleTarget;
}): readonly ScaleRequest[] {
  const { atMs, mode, observed, published, fixed, targetOf } = from;
  return [...observed.values()].map((deployment) => {
    const { id, paused, currentReplicas } = deployment;
    const entry = published.get(id);
    const isFixed = fixed.has(id);
    // What a person fixed is decided as long as it stands; a plan is as old as what it was made of.
    const plannedMs = entry === undefined || isFixed ? atMs : Date.parse(entry.at);
    return {
      id,
      target: targetOf(deployment),
      decidedAtMs: Math.min(atMs, plannedMs),
      sentence: entry?.reason ?? 'The first plan has not been made yet.',
      facts: {
        mode,
        paused,
        published: entry?.replicas ?? null,
        heldReason: entry?.heldReason ?? null,
        isFixed,
        plannedOn: currentReplicas,
      },
    };
  });
}
