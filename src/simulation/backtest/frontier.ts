import { isCausal, type PolicyName } from './policy-names.js';

/**
 * Cost versus attainment: what it takes to attain so much, read off the runs of a policy.
 *
 * The cost of attaining *at least* a share never falls as the share grows. A frontier holds the runs that no other run
 * of the policy beats in both; between two neighbours the cost is interpolated linearly, which is what running one of
 * them for a part of the time and the other for the rest would cost. Beyond its ends a frontier says nothing: above its
 * last point the policy was not seen to reach; below its first one its cheapest run already attains more.
 */

/** What one run came to. */
export type FrontierPoint = {
  /** Share of the requests within the objective, 0..1. */
  readonly attainment: number;
  readonly usd: number;
};

/**
 * The runs that no other one beats: ascending in attainment, strictly ascending in USD. Of equal ones the first stays.
 *
 * @param points any order; points that are not finite numbers are left out
 */
export function lowerFrontier<Point extends FrontierPoint>(points: readonly Point[]): readonly Point[] {
  const sorted = points
    .filter(({ attainment, usd }) => Number.isFinite(attainment) && Number.isFinite(usd))
    .sort((a, b) => b.attainment - a.attainment || a.usd - b.usd);
  const kept: Point[] = [];
  for (const point of sorted) {
    const above = kept.at(-1);
    if (above === undefined || point.usd < above.usd) kept.push(point);
  }
  return kept.reverse();
}

/** How a cost came about: read off a run, between two, or not at all. */
export const costBases = ['run', 'interpolated', 'attains-more', 'not-reached'] as const;
/**
 * - `run`: a run attains just this.
 * - `interpolated`: between two runs.
 * - `attains-more`: every run attains more; the cost is that of the cheapest, so the true one is at most this.
 * - `not-reached`: no run attains so much; there is no cost.
 */
export type CostBasis = (typeof costBases)[number];

export type CostAt = { readonly usd: number | null; readonly basis: CostBasis };

/** Nearer than this two attainments are the same: below what a billion requests can tell apart. */
const sameAttainment = 1e-10;

/**
 * What attaining at least `attainment` costs.
 *
 * @param frontier as `lowerFrontier` gives it
 */
export function costAt(frontier: readonly FrontierPoint[], attainment: number): CostAt {
  const first = frontier[0];
  const last = frontier.at(-1);
  if (first === undefined || last === undefined || attainment > last.attainment + sameAttainment) {
    return { usd: null, basis: 'not-reached' };
  }
  if (attainment < first.attainment - sameAttainment) return { usd: first.usd, basis: 'attains-more' };
  // The first point at or above it: there is one, because the last is.
  let at = frontier.findIndex((point) => point.attainment >= attainment - sameAttainment);
  if (at < 0) at = frontier.length - 1;
  const above = frontier[at]!;
  if (Math.abs(above.attainment - attainment) <= sameAttainment) return { usd: above.usd, basis: 'run' };
  const below = frontier[at - 1]!;
  const part = (attainment - below.attainment) / (above.attainment - below.attainment);
  return { usd: below.usd + part * (above.usd - below.usd), basis: 'interpolated' };
}

/** USD on the frontier itself, linear between neighbours; null outside it. */
export function usdAt(frontier: readonly FrontierPoint[], attainment: number): number | null {
  const { usd, basis } = costAt(frontier, attainment);
  return basis === 'attains-more' ? null : usd;
}

/**
 * The oracle's bound at an attainment: that of its point at the nearest attainment at or below. Linear interpolation
 * would not be a bound; this is, because the least cost never falls as the attainment grows.
 *
 * @param points of the oracle, any order; each says that attaining so much costs at least so much
 * @returns null below all of them
 */
export function boundAt(points: readonly FrontierPoint[], attainment: number): number | null {
  let best: number | null = null;
  for (const point of points) {
    if (point.attainment > attainment + sameAttainment) continue;
    if (best === null || point.usd > best) best = point.usd;
  }
  return best;
}

/** The frontier of one policy. */
export type PolicyFrontier<Point extends FrontierPoint = FrontierPoint> = {
  readonly policy: PolicyName;
  /** As `lowerFrontier` gives it. */
  readonly points: readonly Point[];
};

/** What one policy costs at the attainment that is compared. */
export type MatchedCost = CostAt & {
  readonly policy: PolicyName;
  /**
   * Share of this policy's cost that the compared one saves at the same attainment; negative where it is dearer. Null
   * for the compared one itself, where one of the two does not reach, or where this policy's runs all attain more: its
   * cost at this attainment is then not known. Where all runs of the *compared* one attain more, its cost is counted in
   * full, so that the saving is at least this.
   */
  readonly saving: number | null;
  /** Cost / the oracle's bound; null without either, or where the runs all attain more. */
  readonly oracleRatio: number | null;
};

/** All policies at one attainment. */
export type MatchedComparison = {
  readonly attainment: number;
  /** Whose saving it is. */
  readonly policy: PolicyName;
  /** The oracle's bound there; null without one. */
  readonly oracleUsd: number | null;
  readonly costs: readonly MatchedCost[];
};

/** Compares policies at one attainment. */
export function compareAt(options: {
  readonly frontiers: readonly PolicyFrontier[];
  /** Whose saving is wanted. */
  readonly policy: PolicyName;
  readonly attainment: number;
  /** Empty = no oracle. */
  readonly oracle?: readonly FrontierPoint[];
}): MatchedComparison {
  const { frontiers, policy, attainment, oracle = [] } = options;
  const own = costAt(frontiers.find((one) => one.policy === policy)?.points ?? [], attainment);
  const oracleUsd = boundAt(oracle, attainment);
  const costs = frontiers.map((frontier): MatchedCost => {
    const cost = costAt(frontier.points, attainment);
    const isKnown = cost.usd !== null && cost.basis !== 'attains-more';
    const saves = frontier.policy !== policy && isKnown && own.usd !== null && cost.usd > 0;
    return {
      policy: frontier.policy,
      ...cost,
      saving: saves ? 1 - own.usd / cost.usd : null,
      oracleRatio: isKnown && oracleUsd !== null && oracleUsd > 0 ? cost.usd / oracleUsd : null,
    };
  });
  return { attainment, policy, oracleUsd, costs };
}

/** How one frontier lies to another, over the attainments at which the other one was run. */
export type FrontierPosition = {
  readonly policy: PolicyName;
  readonly against: PolicyName;
  /** Attainments that could be compared; null where the first policy reaches none of the other's. */
  readonly range: { readonly from: number; readonly to: number } | null;
  /** Largest (own cost / other's cost − 1) in the range; at most 0 = never dearer. Null without a range, or against a cost of 0. */
  readonly worstExcess: number | null;
  readonly worstAt: number | null;
  /** The other reaches this attainment and the first policy was not seen to; null where it reaches all of them. */
  readonly beyond: number | null;
  /** Never dearer, wherever the other was run. */
  readonly onOrBelow: boolean;
};

/** Dearer by less than this share is the same: rounding of the last digits. */
const sameCost = 1e-9;

/**
 * How the frontier of one policy lies to that of another. Where all runs of the first attain more than is asked, its
 * cheapest run counts in full: what it claims is never more than what was seen.
 */
export function positionOf(own: PolicyFrontier, other: PolicyFrontier): FrontierPosition {
  const low = other.points[0]?.attainment;
  const high = other.points.at(-1)?.attainment;
  const reach = own.points.at(-1)?.attainment;
  const none = { policy: own.policy, against: other.policy, range: null, worstExcess: null, worstAt: null } as const;
  if (low === undefined || high === undefined) return { ...none, beyond: null, onOrBelow: true };
  if (reach === undefined || reach < low - sameAttainment) return { ...none, beyond: high, onOrBelow: false };
  const to = Math.min(high, reach);
  // Both are linear between these, and the quotient of two linear functions is monotone: the largest is at one of them.
  const corners = [low, to, ...own.points.map(toAttainment), ...other.points.map(toAttainment)].filter(
    (attainment) => attainment >= low && attainment <= to,
  );
  let worstExcess = Number.NEGATIVE_INFINITY;
  let worstAt = low;
  // The cost jumps nowhere inside: below its first run the own cost is constant, and meets the frontier there.
  for (const attainment of corners.sort((a, b) => a - b)) {
    const mine = costAt(own.points, attainment).usd;
    const theirs = costAt(other.points, attainment).usd;
    if (mine === null || theirs === null) continue;
    const excess = theirs > 0 ? mine / theirs - 1 : mine > 0 ? Number.POSITIVE_INFINITY : 0;
    if (excess > worstExcess) {
      worstExcess = excess;
      worstAt = attainment;
    }
  }
  const beyond = high > reach + sameAttainment ? high : null;
  return {
    policy: own.policy,
    against: other.policy,
    range: { from: low, to },
    worstExcess: Number.isFinite(worstExcess) ? worstExcess : null,
    worstAt,
    beyond,
    onOrBelow: beyond === null && worstExcess <= sameCost,
  };
}

/** How a policy lies to every other causal one. */
export function positionsOf(frontiers: readonly PolicyFrontier[], policy: PolicyName): readonly FrontierPosition[] {
  const own = frontiers.find((frontier) => frontier.policy === policy);
  if (own === undefined) return [];
  return frontiers
    .filter((other) => other.policy !== policy && isCausal(other.policy))
    .map((other) => positionOf(own, other));
}

function toAttainment({ attainment }: FrontierPoint): number {
  return attainment;
}
