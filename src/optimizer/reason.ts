import type { ProblemDeployment } from '../core/planning-problem.js';

/**
 * The sentences of a plan: why a deployment has its number of replicas, with numbers as people write them.
 */

/** What a sentence about a planned deployment may speak of. */
export type ReasonFacts = {
  readonly deployment: ProblemDeployment;
  /** Replicas that the plan gives it; null = not known. */
  readonly target: number | null;
  /** Replicas of full load that its shares put on it. */
  readonly load: number;
  /** Part of `load` that no deployment serves within the SLO. */
  readonly bestEffortLoad: number;
  /** Is there demand that it could serve? */
  readonly canServe: boolean;
  /** Every rps of the model is 0. */
  readonly idle: boolean;
  /** It is not the model's only deployment. */
  readonly hasSiblings: boolean;
  /** No cheaper plan exists. */
  readonly proven: boolean;
  /** The shared limit that has no room for one more replica of it, as a sentence names it; null = none. */
  readonly crowdedBy: string | null;
};

/** Work closer to the room than this (relative) fills it. */
const full = 1e-6;

/** Why a deployment has its number of replicas, in one sentence. */
export function deploymentReason(facts: ReasonFacts): string {
  const { deployment, target, load, canServe, idle, hasSiblings } = facts;
  if (target === null) return 'No profile, and its current replicas are not known: no number is published.';
  const count = replicas(target);
  if (deployment.fixedReplicas !== null) {
    if (deployment.profile === null) return `Fixed at ${count} by request; without a profile it is given no demand.`;
    if (load > 0) return `Fixed at ${count} by request, with ${workOf(facts)}.`;
    if (target === 0) return 'Fixed at 0 replicas by request.';
    return `Fixed at ${count} by request; ${idle ? 'there is no demand' : 'no demand is placed on it'}.`;
  }
  if (deployment.profile === null) return `No profile: kept at the ${count} it has now, and given no demand.`;

  const floor = Math.max(deployment.minReplicas, idle ? deployment.idleMinReplicas : 0);
  const isIdleFloor = floor > deployment.minReplicas;
  const atFloor = `Kept at its ${isIdleFloor ? 'idle floor' : 'floor'} of ${count} (${isIdleFloor ? 'idleMinReplicas' : 'minReplicas'})`;
  if (floor > deployment.maxReplicas) {
    return `At its ceiling of ${count} (maxReplicas), below its ${isIdleFloor ? 'idle floor' : 'floor'} of ${floor}.`;
  }
  if (target < floor) {
    const by = facts.crowdedBy ?? 'what it shares';
    return `At ${count}, below its ${isIdleFloor ? 'idle floor' : 'floor'} of ${floor}: ${by} had no room for more.`;
  }
  if (load === 0) {
    if (target > floor) return `Kept at ${count} without demand: stopping costs more than it saves.`;
    if (target > 0) return idle ? `${atFloor}: there is no demand.` : `${atFloor}, without demand in this plan.`;
    if (idle) return 'Idle: there is no demand, and no floor asks for a replica.';
    if (deployment.maxReplicas === 0) return 'At its ceiling of 0 replicas (maxReplicas).';
    if (!canServe) return 'Not needed: it cannot serve any of the demand.';
    if (facts.crowdedBy !== null) return `Not used: ${facts.crowdedBy} has no room for a replica of it.`;
    return hasSiblings ? 'Not needed: other deployments serve the demand at no higher cost.' : 'Not needed.';
  }

  const room = target * deployment.targetUtilization;
  if (target === deployment.maxReplicas && load >= room * (1 - full)) {
    return `At its ceiling of ${count} (maxReplicas), filled by ${workOf(facts)}.`;
  }
  const needed = Math.ceil((load / deployment.targetUtilization) * (1 - full));
  if (target > needed && target === floor) return `${atFloor}, with ${workOf(facts)}.`;
  // Shares are spread evenly, so that one of several deployments may be left with less than it could carry.
  const why =
    target === needed
      ? `${workOf(facts)} needs ${grouped(String(target))}`
      : `${count} ${target === 1 ? 'has' : 'have'} ${workOf(facts)}`;
  if (!hasSiblings) return `${why[0]!.toUpperCase()}${why.slice(1)}.`;
  const within = facts.crowdedBy === null ? '' : ` (${facts.crowdedBy} has no room for another)`;
  return `Part of the cheapest plan${facts.proven ? '' : ' found'}: ${why}${within}.`;
}

function workOf({ deployment, load, bestEffortLoad }: ReasonFacts): string {
  const shared =
    deployment.poolingFactor > 1 ? ` that share load (each ${amount(deployment.poolingFactor)} × its profile)` : '';
  const work = `work for ${amount(load)} replica${amount(load) === '1' ? '' : 's'}${shared}`;
  const filledTo =
    deployment.targetUtilization < 1 ? ` at a target utilization of ${percent(deployment.targetUtilization)}` : '';
  const byBestEffort =
    bestEffortLoad >= load * (1 - full)
      ? ' (all by best effort)'
      : bestEffortLoad > 0
        ? ' (partly by best effort)'
        : '';
  return `${work}${filledTo}${byBestEffort}`;
}

/** `1 replica`, `2 replicas`, `1,000,000 replicas`. */
export function replicas(count: number): string {
  return counted(count, 'replica');
}

/** A whole number with its noun, in the singular or the plural. */
export function counted(count: number, noun: string): string {
  return `${grouped(String(count))} ${noun}${count === 1 ? '' : 's'}`;
}

/** A token count, whole: `2,048`. */
export function tokenCount(tokens: number): string {
  return grouped(String(Math.round(tokens)));
}

/** A positive quantity to three significant digits, without exponents: `0.908`, `2.72`, `1,230,000`. */
export function amount(value: number): string {
  if (value === 0) return '0';
  if (value < 0.001) return 'less than 0.001';
  return grouped(String(Number(value.toPrecision(3))));
}

/** A share as `80 %`, `99.95 %`; only a whole is 100 %, and only nothing 0 %. */
export function percent(share: number): string {
  if (share <= 0) return '0 %';
  if (share >= 1) return '100 %';
  if (share < 1e-4) return 'less than 0.01 %';
  const rounded = Number((share * 100).toPrecision(4));
  return rounded >= 100 ? 'more than 99.99 %' : `${rounded} %`;
}

function grouped(digits: string): string {
  const [whole, fraction] = digits.split('.');
  const separated = whole!.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? separated : `${separated}.${fraction}`;
}
