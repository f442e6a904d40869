import type { Formulation } from './formulate.js';
import { fitTolerance } from './formulate.js';
import type { Program } from './program.js';
import { fitLp, sharesFit } from './program-lp.js';
import { chooseShares } from './shares.js';
import { rawProgram, type Stage } from './stage.js';

/**
 * Shares of every raw bucket at whole replicas that are decided, raw.count × deployments; what a row lacks to 1 is
 * unserved. Null where none were found that hold.
 *
 * @param over the buckets in which the replicas are known to fit
 */
export function modelShares(stage: Stage, replicas: Float64Array, over: 'merged' | 'raw'): Float64Array | null {
  const previous = previousShares(stage.formulation);
  if (over === 'raw') return sharesAt(rawProgram(stage), replicas, previous);
  if (stage.formulation.routing === 'proportional') return commonShares(stage, replicas, previous);
  const inForce = previous === null ? null : averaged(stage, previous, partOfGroup(stage));
  const chosen = sharesAt(stage.program, replicas, inForce);
  return chosen === null ? null : memberShares(stage, chosen, previous);
}

/** One share of each deployment, the same for every bucket. */
function commonShares(stage: Stage, replicas: Float64Array, previous: Float64Array | null): Float64Array | null {
  const { placed, deployments, rawRate } = stage.formulation;
  const count = deployments.length;
  if (placed.length === 0) return new Float64Array(0);
  let inForce: Float64Array | null = null;
  if (previous !== null) {
    const total = rawRate.reduce((sum, rate) => sum + rate, 0);
    inForce = new Float64Array(count);
    for (let at = 0; at < previous.length; at++) {
      const d = at % count;
      inForce[d] = inForce[d]! + (previous[at]! * rawRate[Math.floor(at / count)]!) / total;
    }
  }
  const chosen = sharesAt(stage.program, replicas, inForce);
  return chosen === null ? null : Float64Array.from({ length: placed.length * count }, (_, at) => chosen[at % count]!);
}

/**
 * The best shares that fit at some whole replicas: the second choice near the shares in force, the second choice
 * without them, or whatever fits. What a linear program gives is believed only after the loads are added up: with works over
 * many orders of magnitude in one model, a choice between many good shares can lose its footing where finding any does not.
 */
function sharesAt(program: Program, replicas: Float64Array, inForce: Float64Array | null): Float64Array | null {
  if (inForce !== null) {
    const near = chooseShares(program, replicas, inForce);
    if (near !== null && holds(program, replicas, near)) return near;
  }
  const even = chooseShares(program, replicas, null);
  if (even !== null && holds(program, replicas, even)) return even;
  const { bucketCount, deploymentCount } = program;
  const lp = fitLp(program);
  if (sharesFit(lp, replicas) !== 'fits') return null;
  const all = new Float64Array(bucketCount * lp.rowCount);
  lp.readShares(all);
  const fitting = new Float64Array(bucketCount * deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) fitting[b * deploymentCount + d] = all[b * lp.rowCount + d]!;
  }
  return holds(program, replicas, fitting) ? fitting : null;
}

/** Do these shares fit, and leave no more unserved than they may? Added up anew. */
function holds(program: Program, replicas: Float64Array, shares: Float64Array): boolean {
  const { bucketCount, deploymentCount, work, rate, capacity, unservedLimit } = program;
  const load = new Float64Array(deploymentCount);
  let unserved = 0;
  let total = 0;
  for (let b = 0; b < bucketCount; b++) {
    let served = 0;
    for (let d = 0; d < deploymentCount; d++) {
      const share = shares[b * deploymentCount + d]!;
      if (share < 0) return false;
      if (share === 0) continue;
      served += share;
      load[d] = load[d]! + share * work[b * deploymentCount + d]!;
    }
    if (!(served <= 1 + 1e-9) || (unservedLimit === 0 && served < 1 - 1e-9)) return false;
    unserved += Math.max(0, 1 - served) * rate[b]!;
    total += rate[b]!;
  }
  // Half of the tolerance with which work fits is in the capacity, the other half is for rounding.
  return (
    load.every((amount, d) => amount <= capacity[d]! * replicas[d]! * (1 + fitTolerance / 2)) &&
    unserved <= unservedLimit + fitTolerance * total
  );
}

/** The shares in force per raw bucket, raw.count × deployments, or null where the document names none that still hold. */
function previousShares(formulation: Formulation): Float64Array | null {
  const { model, deployments, placed, rawWork } = formulation;
  if (model.previousShares.length === 0) return null;
  const indexOf = new Map(deployments.map((deployment, d) => [deployment.id, d]));
  const known = new Map(model.previousShares.map((entry) => [`${entry.inputTokens}:${entry.outputTokens}`, entry.to]));
  const count = deployments.length;
  const shares = new Float64Array(placed.length * count);
  let hasShare = false;
  placed.forEach((index, b) => {
    const { inputTokens, outputTokens } = model.demand[index]!;
    let total = 0;
    for (const { deployment, share } of known.get(`${inputTokens}:${outputTokens}`) ?? []) {
      const d = indexOf.get(deployment);
      if (d === undefined || !(rawWork[b * count + d]! < Number.POSITIVE_INFINITY)) continue;
      shares[b * count + d] = shares[b * count + d]! + share;
      total += share;
      hasShare = true;
    }
    if (total > 1) for (let d = 0; d < count; d++) shares[b * count + d] = shares[b * count + d]! / total;
  });
  return hasShare ? shares : null;
}

/** Part of its merged bucket's work that each raw bucket is; the same on every deployment where works are in proportion. */
function partOfGroup({ merged, formulation }: Stage): Float64Array {
  const count = formulation.deployments.length;
  return Float64Array.from(formulation.placed, (_, b) => {
    for (let d = 0; d < count; d++) {
      const whole = merged.work[merged.groupOf[b]! * count + d]!;
      if (whole < Number.POSITIVE_INFINITY && whole > 0) return formulation.rawWork[b * count + d]! / whole;
    }
    return 0;
  });
}

/** The mean of the members' shares in force, per merged bucket. */
function averaged(stage: Stage, previous: Float64Array, part: Float64Array): Float64Array {
  const count = stage.formulation.deployments.length;
  const shares = new Float64Array(stage.merged.count * count);
  for (let b = 0; b < part.length; b++) {
    const m = stage.merged.groupOf[b]!;
    for (let d = 0; d < count; d++) {
      shares[m * count + d] = shares[m * count + d]! + part[b]! * previous[b * count + d]!;
    }
  }
  return shares;
}

/** Groups that keep all of their freedom, to rounding: their members' works are in proportion. */
const inProportion = 1 - 1e-9;
/** What is left to hand out below this is rounding. */
const handedOut = 1e-12;

/**
 * Shares of the raw buckets from those of the merged ones. Members of a group whose works are in proportion may go
 * different ways as long as the group's shares come out: each keeps what it has in force of the deployments that the
 * group does not leave, and what is missing goes where the group grows. So nothing moves that need not.
 */
function memberShares(stage: Stage, shares: Float64Array, previous: Float64Array | null): Float64Array {
  const { formulation, merged } = stage;
  const count = formulation.deployments.length;
  const rawCount = formulation.placed.length;
  const own = new Float64Array(rawCount * count);
  for (let b = 0; b < rawCount; b++) {
    const at = merged.groupOf[b]! * count;
    for (let d = 0; d < count; d++) own[b * count + d] = shares[at + d]!;
  }
  if (previous === null) return own;
  const before = averaged(stage, previous, partOfGroup(stage));
  const members = new Int32Array(merged.count);
  for (let b = 0; b < rawCount; b++) members[merged.groupOf[b]!]!++;
  for (let b = 0; b < rawCount; b++) {
    const m = merged.groupOf[b]!;
    if (members[m]! < 2 || merged.kept[m]! < inProportion) continue;
    let rest = 1;
    let growth = 0;
    let largest = 0;
    for (let d = 0; d < count; d++) {
      const now = shares[m * count + d]!;
      const was = before[m * count + d]!;
      const kept = was > 0 ? previous[b * count + d]! * Math.min(1, now / was) : 0;
      own[b * count + d] = kept;
      rest -= kept;
      growth += Math.max(0, now - was);
      if (kept > own[b * count + largest]!) largest = d;
    }
    if (growth <= handedOut) own[b * count + largest] = own[b * count + largest]! + rest;
    else {
      for (let d = 0; d < count; d++) {
        const grown = Math.max(0, shares[m * count + d]! - before[m * count + d]!);
        own[b * count + d] = own[b * count + d]! + (Math.max(0, rest) * grown) / growth;
      }
    }
  }
  return own;
}
