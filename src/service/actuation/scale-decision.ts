import type { RecentlyPublished } from '../publication.js';
import type { KnownScalers } from './other-scalers.js';

/**
 * Whether gpumix writes the published number of a deployment into the cluster itself, and how far it goes at once.
 *
 * Pure. It is asked twice: with what the view of the cluster says, before any request is sent, and with what `scale`
 * says a moment before the write. Nothing is written that an input's fault led to: what is not known, held, or older
 * than it should be stays as it runs.
 */

/** Why a number is not written. */
export const withheldReasons = [
  'shadow',
  'paused',
  'not_known',
  'held',
  'old_plan',
  'other_scaler',
  'scalers_unknown',
  'changed_since_plan',
  'step_limit',
] as const;
export type WithheldReason = (typeof withheldReasons)[number];

export type ScaleFacts = {
  readonly mode: 'live' | 'shadow';
  readonly paused: boolean;
  /** What should run; null = not known. */
  readonly published: number | null;
  /** Why its model keeps an earlier plan; null = it was planned. */
  readonly heldReason: string | null;
  /** A person fixed the number, which is no matter of plans, inputs and steps. */
  readonly isFixed: boolean;
  /** Since the number was decided; below 0 where the clock was set back. [ms] */
  readonly ageMs: number;
  /** What the plan took to run when it was made; null = not known. */
  readonly plannedOn: number | null;
  /** What else scales the object. */
  readonly otherScalers: KnownScalers;
};

export type ScaleLimits = {
  /** A number that was decided longer ago is not written. [ms] */
  readonly longestAgeMs: number;
  /** `publish.maxSteps…PerMinute`; null = no limit. */
  readonly maxStepsDownPerMinute: number | null;
  readonly maxStepsUpPerMinute: number | null;
};

/**
 * A number is written by the cycle that decided it or not at all: three cycles later, and at least a minute, something is
 * wrong with the clock, the server or us. As long as a model may go without a plan before what was held is forgotten.
 */
export function longestPlanAgeMs(intervalSeconds: number): number {
  return Math.max(60_000, 3 * intervalSeconds * 1000);
}

/** Extremes of what was asked for within the last minute; null = not seen. */
export type RecentReplicas = { readonly highest: number | null; readonly lowest: number | null };

export type ScaleDecision =
  /** `replicas` differs from `current`, and lies between it and what is published. */
  | { readonly kind: 'write'; readonly replicas: number; readonly isLimited: boolean }
  | { readonly kind: 'landed' }
  | { readonly kind: 'withheld'; readonly reason: WithheldReason; readonly message: string };

/** Most objects that a message names before it counts the rest. */
const mostNamed = 3;

/** As large as a PlanningProblem can have it. */
const mostReplicas = 1_000_000;

/**
 * @param current what the object asks for now; null = not known yet, and a write begins with reading it
 */
export function decideScale(
  facts: ScaleFacts,
  options: { readonly current: number | null; readonly recent: RecentReplicas; readonly limits: ScaleLimits },
): ScaleDecision {
  const { current, limits } = options;
  const { published, plannedOn, otherScalers } = facts;
  if (facts.mode === 'shadow') return withheld('shadow', 'publish.mode is shadow: nothing is written');
  if (facts.paused) return withheld('paused', 'it is paused: nothing is written');
  // Before all that comes and goes with inputs, so that it is told once.
  if (otherScalers.names.length > 0) {
    return withheld('other_scaler', scaledByOthers(otherScalers.names));
  }
  if (published === null || !Number.isSafeInteger(published) || published < 0 || published > mostReplicas) {
    return withheld('not_known', 'its number is not known');
  }
  if (facts.heldReason !== null && !facts.isFixed) {
    return withheld('held', `its model is held (${facts.heldReason}): it stays as it runs`);
  }
  if (facts.ageMs > limits.longestAgeMs || facts.ageMs < 0) {
    const when = facts.ageMs < 0 ? 'later than now (the clock was set back)' : 'too long ago';
    return withheld('old_plan', `its number was decided ${when}: a newer plan is awaited`);
  }
  if (otherScalers.unknownBecause !== null) {
    return withheld('scalers_unknown', `it is not known what else scales it: ${otherScalers.unknownBecause}`);
  }
  if (current === published) return { kind: 'landed' };
  if (current === null) return { kind: 'write', replicas: published, isLimited: false };
  if (published < current && current !== plannedOn && !facts.isFixed) {
    // Whoever raised it knew something that the plan did not; the next plan knows it, too.
    return withheld(
      'changed_since_plan',
      `${current} run and the plan counted on ${plannedOn ?? 'an unknown number'}: the next plan decides`,
    );
  }
  const replicas = facts.isFixed ? published : limitedStep(published, { ...options, current });
  if (replicas !== current) return { kind: 'write', replicas, isLimited: replicas !== published };
  return withheld('step_limit', `on its way from ${current} to ${published}, and as far as a minute allows`);
}

/**
 * The step towards `wanted` that publish.maxSteps…PerMinute allow, from what was asked for within the last minute.
 *
 * Publication keeps the same limits for the number that it tells; here they hold once more for what lands, because the
 * two part where nothing could be written for a while: twenty replicas that should have become two in ten minutes must
 * not fall at once when a missing permission is granted.
 */
function limitedStep(
  wanted: number,
  {
    current,
    recent,
    limits,
  }: { readonly current: number; readonly recent: RecentReplicas; readonly limits: ScaleLimits },
): number {
  if (wanted < current) {
    if (limits.maxStepsDownPerMinute === null) return wanted;
    const lowest = Math.max(current, recent.highest ?? current) - limits.maxStepsDownPerMinute;
    return Math.min(current, Math.max(wanted, lowest));
  }
  if (limits.maxStepsUpPerMinute === null) return wanted;
  const highest = Math.min(current, recent.lowest ?? current) + limits.maxStepsUpPerMinute;
  return Math.max(current, Math.min(wanted, highest));
}

/** @param recent remembers what was asked for, by deployment id */
export function recentReplicas(recent: RecentlyPublished, id: string, nowMs: number): RecentReplicas {
  return { highest: recent.highest(id, nowMs), lowest: recent.lowest(id, nowMs) };
}

function withheld(reason: WithheldReason, message: string): ScaleDecision {
  return { kind: 'withheld', reason, message };
}

function scaledByOthers(names: readonly string[]): string {
  const rest = names.length - mostNamed;
  const shown = names.slice(0, mostNamed).join(', ');
  const all = rest > 0 ? `${shown} and ${rest} more` : shown;
  return `${all} ${names.length === 1 ? 'scales' : 'scale'} it: gpumix leaves it alone`;
}
