import type { Program, ProgramSolution } from '../../optimizer/program.js';

/**
 * The check that every engine's answer passes against the original numbers, before anyone sees it.
 *
 * Engines work within tolerances of their own: they call 10⁻⁷ of a replica zero, drop small coefficients, and one of
 * them hands out points that are not whole at its time limit. So an engine only *proposes* replicas and shares; what
 * is kept is decided here, on the program as it was asked, with plain sums.
 */

/**
 * How much more than the program's capacity a deployment may be filled, relative. A program's capacity already holds
 * half of the 1e-9 to which work fits; this is the other half, which is left for rounding. The same holds for limits on
 * unserved demand.
 */
export const fitTolerance = 5e-10;

/** How far above a shared limit replicas may be, relative: prices add up to a budget only to the last digits. */
export const limitTolerance = 1e-9;

/** A bound this close to the objective (relative) proves it: continuous shares are exact only to an engine's tolerances. */
const provenTolerance = 1e-7;

/** What an engine says, before it is checked. `shares` is bucketCount × deploymentCount; `unserved` per bucket. */
export type Proposal = {
  readonly claim: 'optimal' | 'feasible' | 'infeasible' | 'unknown';
  readonly replicas: Float64Array | null;
  readonly shares: Float64Array | null;
  readonly unserved: Float64Array | null;
  /** Lower bound that the engine claims [USD/hour]. */
  readonly bound: number;
  readonly nodes: number;
};

/** A checked answer, with what happened on the way. */
export type EngineAnswer = ProgramSolution & {
  /** Why the status is what it is: for logs and for the conformance report. */
  readonly detail: 'proved' | 'unproved' | 'time-limit' | 'claimed-infeasible' | 'rejected' | 'crashed' | 'no-answer';
  /** Time inside the engine, building its model included, without checks and messages [ms]. */
  readonly milliseconds: number;
};

/** An answer that says nothing: the caller holds what it has. */
export function noAnswer(detail: EngineAnswer['detail'], milliseconds = 0): EngineAnswer {
  return { status: 'unknown', replicas: null, bound: 0, nodes: 0, detail, milliseconds };
}

/**
 * The objective of an answer [USD/hour], summed in order: replicas, switching, unserved demand.
 *
 * @param unserved share of each bucket; null = all is served
 */
export function objectiveOf(program: Program, replicas: Float64Array, unserved: Float64Array | null): number {
  const { cost, switching, unservedPrice } = program;
  let usdPerHour = 0;
  for (let d = 0; d < program.deploymentCount; d++) {
    const count = replicas[d]!;
    usdPerHour += cost[d]! * count;
    if (switching === undefined) continue;
    const more = count - switching.current[d]!;
    // Comparisons with NaN are false: switching from an unknown number is free.
    if (more > 0) usdPerHour += switching.start[d]! * more;
    if (more < 0) usdPerHour -= switching.stop[d]! * more;
  }
  if (unserved !== null && unservedPrice !== undefined) {
    for (let b = 0; b < program.bucketCount; b++) usdPerHour += unservedPrice[b]! * unserved[b]!;
  }
  return usdPerHour;
}

/** Farthest from a whole number that a replica count of an engine may be and still be taken for it. */
const wholeTolerance = 1e-5;

/** Engine values as whole replicas within their bounds, or null where they are not whole. */
export function wholeReplicas(program: Program, values: ArrayLike<number>): Float64Array | null {
  const replicas = new Float64Array(program.deploymentCount);
  for (let d = 0; d < program.deploymentCount; d++) {
    const value = values[d]!;
    // Adding 0 turns the -0 of rounding into 0.
    const whole = Math.round(value) + 0;
    if (!(Math.abs(value - whole) <= wholeTolerance)) return null;
    if (whole < program.lower[d]! || whole > program.upper[d]!) return null;
    replicas[d] = whole;
  }
  return replicas;
}

/** May any part of this bucket stay unserved? */
export function mayLeave({ unservedLimit, unservedLimits = [] }: Program, b: number): boolean {
  return unservedLimit > 0 && unservedLimits.every(({ weight, limit }) => limit > 0 || weight[b] === 0);
}

/** True where replicas keep every shared limit. */
export function keepsSharedLimits({ sharedLimits = [] }: Program, replicas: Float64Array): boolean {
  return sharedLimits.every(({ use, limit }) => {
    let total = 0;
    for (let d = 0; d < replicas.length; d++) total += use[d]! * replicas[d]!;
    return total <= limit * (1 + limitTolerance);
  });
}

/**
 * What is left unserved of each bucket where the shares, cleaned of an engine's noise, satisfy every row of the program
 * at these replicas; null where they do not.
 *
 * Noise is cleaned in the only direction that keeps the answer honest: negative shares, shares on deployments without
 * replicas and unserved shares that may not be are dropped, the rest of a bucket is scaled back to 1, and the sums are
 * made afresh.
 */
export function settleShares(
  program: Program,
  replicas: Float64Array,
  { shares, unserved }: { readonly shares: Float64Array; readonly unserved: Float64Array | null },
): Float64Array | null {
  const { bucketCount, deploymentCount, work, rate, capacity } = program;
  const filled = new Float64Array(deploymentCount);
  const settled = new Float64Array(bucketCount);
  for (let b = 0; b < bucketCount; b++) {
    const left = unserved === null || !mayLeave(program, b) ? 0 : Math.max(0, unserved[b]!);
    let total = left;
    for (let d = 0; d < deploymentCount; d++) total += usableShare(program, replicas, shares, b, d);
    // Far from a whole bucket is a wrong answer, not noise.
    if (!(Math.abs(total - 1) <= 1e-3)) return null;
    for (let d = 0; d < deploymentCount; d++) {
      const share = usableShare(program, replicas, shares, b, d);
      if (share > 0) filled[d]! += (share / total) * work[b * deploymentCount + d]!;
    }
    settled[b] = left / total;
  }
  for (const { weight, limit } of [{ weight: rate, limit: program.unservedLimit }, ...(program.unservedLimits ?? [])]) {
    let total = 0;
    for (let b = 0; b < bucketCount; b++) total += weight[b]! * settled[b]!;
    if (!(total <= limit * (1 + fitTolerance))) return null;
  }
  for (let d = 0; d < deploymentCount; d++) {
    if (!(filled[d]! <= capacity[d]! * replicas[d]! * (1 + fitTolerance))) return null;
  }
  return settled;
}

function usableShare(program: Program, replicas: Float64Array, shares: Float64Array, b: number, d: number): number {
  const at = b * program.deploymentCount + d;
  const work = program.work[at]!;
  if (!Number.isFinite(work) || (work > 0 && replicas[d]! === 0)) return 0;
  return Math.max(0, shares[at]!);
}

/** Has the second look of an engine at questions that its answer leaves open. */
export type SecondLook = {
  /**
   * Shares that fit at fixed replicas, leaving unserved what is cheapest; or says that none do; null = could not decide.
   * Shared limits are not looked at.
   */
  findShares(
    program: Program,
    replicas: Float64Array,
  ): { readonly shares: Float64Array; readonly unserved: Float64Array } | 'none' | null;
  /**
   * By how much shared limits would have to be stretched for any answer to exist, at least and at most, in units of their
   * largest uses; null = could not decide.
   */
  stretch(program: Program): { readonly atLeast: number; readonly atMost: number } | null;
};

/** A stretch of limits below this is an engine's rounding. */
const negligibleStretch = 1e-7;

/**
 * Turns what an engine proposes into an answer that can be relied on.
 *
 * Replicas whose own shares fit are kept. Where they do not (engines round shares), `findShares` has the last word:
 * any shares that fit make the replicas right. The objective is that of the kept numbers, and an answer is `optimal`
 * only where the engine's bound reaches it. A claim of infeasibility is asked again as other questions, which have
 * answers: do shares fit at the upper bounds, and by how much would shared limits have to be stretched?
 */
export function checkProposal(
  program: Program,
  proposal: Proposal,
  how: { readonly secondLook: SecondLook; readonly relativeGap: number; readonly milliseconds: number },
): EngineAnswer {
  const { secondLook, relativeGap, milliseconds } = how;
  const { nodes } = proposal;
  if (proposal.claim === 'infeasible') {
    const detail = checkInfeasible(program, secondLook);
    if (detail !== 'proved') return noAnswer(detail, milliseconds);
    return { status: 'infeasible', replicas: null, bound: 0, nodes, detail, milliseconds };
  }
  const { shares, unserved } = proposal;
  if (proposal.replicas === null || shares === null || proposal.claim === 'unknown') {
    return noAnswer('no-answer', milliseconds);
  }
  const replicas = wholeReplicas(program, proposal.replicas);
  if (replicas === null || !keepsSharedLimits(program, replicas)) return noAnswer('rejected', milliseconds);
  let settled = settleShares(program, replicas, { shares, unserved });
  if (settled === null) {
    const found = secondLook.findShares(program, replicas);
    settled = found === null || found === 'none' ? null : settleShares(program, replicas, found);
    if (settled === null) return noAnswer('rejected', milliseconds);
  }
  const objective = objectiveOf(program, replicas, settled);
  // A bound above the cost of a plan that fits is noise of the engine's own sums.
  const bound = Math.min(objective, Math.max(0, proposal.bound));
  const proven = proposal.claim === 'optimal' && objective - bound <= (relativeGap + provenTolerance) * objective;
  return {
    status: proven ? 'optimal' : 'feasible',
    replicas,
    ...(program.unservedLimit > 0 ? { unserved: settled } : {}),
    bound,
    nodes,
    detail: proven ? 'proved' : proposal.claim === 'optimal' ? 'unproved' : 'time-limit',
    milliseconds,
  };
}

function checkInfeasible(program: Program, { findShares, stretch }: SecondLook): EngineAnswer['detail'] {
  if (!keepsSharedLimits(program, program.lower)) return 'proved';
  if (program.upper.some((count) => !Number.isFinite(count))) return 'claimed-infeasible';
  const atMost = findShares(program, program.upper);
  if (atMost === 'none') return 'proved';
  if (atMost === null) return 'claimed-infeasible';
  if (keepsSharedLimits(program, program.upper)) return 'rejected';
  const stretched = stretch(program);
  if (stretched === null) return 'claimed-infeasible';
  if (stretched.atLeast > negligibleStretch) return 'proved';
  return stretched.atMost <= negligibleStretch ? 'rejected' : 'claimed-infeasible';
}
