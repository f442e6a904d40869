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
 * half of the 1e-9 to which work fits; this is the other half, which is left for rounding.
 */
export const fitTolerance = 5e-10;

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
  readonly detail: 'proved' | 'time-limit' | 'claimed-infeasible' | 'rejected' | 'crashed' | 'no-answer';
  /** Time inside the engine, building its model included, without checks and messages [ms]. */
  readonly milliseconds: number;
};

/** An answer that says nothing: the caller holds what it has. */
export function noAnswer(detail: EngineAnswer['detail'], milliseconds = 0): EngineAnswer {
  return { status: 'unknown', replicas: null, bound: 0, nodes: 0, detail, milliseconds };
}

/** USD/hour of whole replicas, summed in order. */
export function costOf(program: Program, replicas: Float64Array): number {
  let usdPerHour = 0;
  for (let d = 0; d < program.deploymentCount; d++) usdPerHour += program.cost[d]! * replicas[d]!;
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

/**
 * True where the shares, cleaned of an engine's noise, satisfy every row of the program at these replicas.
 *
 * Noise is cleaned in the only direction that keeps the answer honest: negative shares and shares on deployments
 * without replicas are dropped, the rest of a bucket is scaled back to 1, and the sums are made afresh.
 */
export function sharesFit(
  program: Program,
  replicas: Float64Array,
  shares: Float64Array,
  unserved: Float64Array | null,
): boolean {
  const { bucketCount, deploymentCount, work, rate, capacity } = program;
  const filled = new Float64Array(deploymentCount);
  let unservedRate = 0;
  for (let b = 0; b < bucketCount; b++) {
    const left = unserved === null || program.unservedLimit <= 0 ? 0 : Math.max(0, unserved[b]!);
    let total = left;
    for (let d = 0; d < deploymentCount; d++) total += usableShare(program, replicas, shares, b, d);
    // Far from a whole bucket is a wrong answer, not noise.
    if (!(Math.abs(total - 1) <= 1e-3)) return false;
    for (let d = 0; d < deploymentCount; d++) {
      const share = usableShare(program, replicas, shares, b, d);
      if (share > 0) filled[d]! += (share / total) * work[b * deploymentCount + d]!;
    }
    unservedRate += (left / total) * rate[b]!;
  }
  if (unservedRate > program.unservedLimit * (1 + fitTolerance)) return false;
  for (let d = 0; d < deploymentCount; d++) {
    if (filled[d]! > capacity[d]! * replicas[d]! * (1 + fitTolerance)) return false;
  }
  return true;
}

function usableShare(program: Program, replicas: Float64Array, shares: Float64Array, b: number, d: number): number {
  const at = b * program.deploymentCount + d;
  const work = program.work[at]!;
  if (!Number.isFinite(work) || (work > 0 && replicas[d]! === 0)) return 0;
  return Math.max(0, shares[at]!);
}

/** Finds shares that fit at fixed replicas, or says that none do; null = could not decide. */
export type FindShares = (
  program: Program,
  replicas: Float64Array,
) => { readonly shares: Float64Array; readonly unserved: Float64Array | null } | 'none' | null;

/**
 * Turns what an engine proposes into an answer that can be relied on.
 *
 * Replicas whose own shares fit are kept. Where they do not (engines round shares), `findShares` has the last word:
 * any shares that fit make the replicas right. A claim of infeasibility is refuted by shares that fit at the upper bounds.
 */
export function checkProposal(
  program: Program,
  proposal: Proposal,
  findShares: FindShares,
  milliseconds: number,
): EngineAnswer {
  if (proposal.claim === 'infeasible') {
    const atMost = program.upper.some((count) => !Number.isFinite(count)) ? null : findShares(program, program.upper);
    if (atMost === 'none') {
      return { status: 'infeasible', replicas: null, bound: 0, nodes: proposal.nodes, detail: 'proved', milliseconds };
    }
    return noAnswer(atMost === null ? 'claimed-infeasible' : 'rejected', milliseconds);
  }
  if (proposal.replicas === null || proposal.shares === null || proposal.claim === 'unknown') {
    return noAnswer('no-answer', milliseconds);
  }
  if (!sharesFit(program, proposal.replicas, proposal.shares, proposal.unserved)) {
    const found = findShares(program, proposal.replicas);
    if (found === null || found === 'none' || !sharesFit(program, proposal.replicas, found.shares, found.unserved)) {
      return noAnswer('rejected', milliseconds);
    }
  }
  const cost = costOf(program, proposal.replicas);
  // A bound above the cost of a plan that fits is noise of the engine's own sums.
  const bound = Math.min(cost, Math.max(0, proposal.bound));
  return {
    status: proposal.claim,
    replicas: proposal.replicas,
    bound,
    nodes: proposal.nodes,
    detail: proposal.claim === 'optimal' ? 'proved' : 'time-limit',
    milliseconds,
  };
}
