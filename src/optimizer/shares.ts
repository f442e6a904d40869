import type { Program } from './program.js';
import { ShareLp } from './share-lp.js';

/**
 * The second choice: at whole replicas that are decided, which shares? First those with the smallest maximum
 * utilisation, then those that move the least demand from the shares in force; remaining ties fall by name, because
 * deployments and buckets come in canonical order. So shares do not jump from cycle to cycle.
 */

/** Slack that the second step leaves to the first one's result, relative. */
const slack = 1e-10;

/**
 * @param replicas whole replicas of each deployment; they fit the program
 * @param previous shares in force, bucketCount × deploymentCount, rows that sum to 0 have none; null = none at all
 * @returns shares x, bucketCount × deploymentCount; what a row lacks to 1 is unserved. Null where the replicas do not fit.
 */
export function chooseShares(
  program: Program,
  replicas: Float64Array,
  previous: Float64Array | null,
): Float64Array | null {
  const { bucketCount, deploymentCount } = program;
  if (bucketCount === 0) return new Float64Array(0);
  const balanced = balance(program, replicas);
  if (balanced === null) return null;
  const shares =
    previous === null
      ? balanced.shares
      : (stayClose(program, replicas, balanced.utilization, previous) ?? balanced.shares);
  return withoutNoise(shares, bucketCount, deploymentCount);
}

function rowCountOf(program: Program): number {
  return program.deploymentCount + (program.unservedLimit > 0 ? 1 : 0);
}

/**
 * minimise t subject to work_d ≤ capacity_d y_d t.
 *
 * Starts at prices in proportion to what a full replica costs, as at the optimum of the whole program, which these
 * replicas are near; scaled so that Σ_d p_d capacity_d y_d = 1.
 */
function balance(program: Program, replicas: Float64Array): { shares: Float64Array; utilization: number } | null {
  const { bucketCount, deploymentCount } = program;
  const rowCount = rowCountOf(program);
  const vector = new Float64Array(rowCount);
  const prices = new Float64Array(rowCount);
  const dearest = program.cost.reduce((most, cost) => Math.max(most, cost), 0);
  let total = 0;
  for (let d = 0; d < deploymentCount; d++) {
    vector[d] = -program.capacity[d]! * replicas[d]!;
    // No price at all would be a bad start: what is free counts as a thousandth of the dearest.
    prices[d] = dearest > 0 ? Math.max(program.cost[d]!, dearest * 1e-3) / program.capacity[d]! : 1;
    total -= prices[d]! * vector[d]!;
  }
  if (!(total > 0)) {
    const demand = program.rate.reduce((sum, rate) => sum + rate, 0);
    const mayAllStay = program.unservedLimit >= demand * (1 - slack);
    return mayAllStay ? { shares: new Float64Array(bucketCount * deploymentCount), utilization: 0 } : null;
  }
  const rhs = new Float64Array(rowCount);
  if (rowCount > deploymentCount) rhs[deploymentCount] = program.unservedLimit;
  const lp = new ShareLp({
    bucketCount,
    rowCount,
    arcWork: withUnservedArcs(
      program,
      bucketCount,
      (b) => b,
      (_, work) => work,
    ),
    columns: [{ vector, cost: 1, lower: 0, upper: 1 + slack }],
    rhs,
  });
  for (let d = 0; d < deploymentCount; d++) lp.setClosed(d, replicas[d] === 0);
  lp.startAt(prices.map((price) => price / total));
  if (lp.solve() !== 'optimal') return null;
  const all = new Float64Array(bucketCount * rowCount);
  lp.readShares(all);
  return { shares: deploymentsOnly(all, bucketCount, rowCount, deploymentCount), utilization: lp.columnValue(0) };
}

/**
 * minimise the demand that moves: each bucket is split into one piece per previous deployment, which stays for free
 * and costs its rate to move. The pieces' works are the bucket's in proportion, so any new shares can be reached.
 */
function stayClose(
  program: Program,
  replicas: Float64Array,
  utilization: number,
  previous: Float64Array,
): Float64Array | null {
  const { bucketCount, deploymentCount } = program;
  const rowCount = rowCountOf(program);
  const pieceBucket: number[] = [];
  const pieceHome: number[] = [];
  const pieceMass: number[] = [];
  for (let b = 0; b < bucketCount; b++) {
    let sum = 0;
    for (let d = 0; d < deploymentCount; d++) sum += previous[b * deploymentCount + d]!;
    for (let d = 0; d < deploymentCount; d++) {
      const mass = previous[b * deploymentCount + d]!;
      if (!(mass > 1e-9)) continue;
      pieceBucket.push(b);
      pieceHome.push(d);
      pieceMass.push(mass / Math.max(1, sum));
    }
    if (sum < 1 - 1e-9) {
      pieceBucket.push(b);
      pieceHome.push(-1);
      pieceMass.push(1 - sum);
    }
  }
  const pieces = pieceBucket.length;
  let totalRate = 0;
  for (let b = 0; b < bucketCount; b++) totalRate += program.rate[b]!;
  const arcCost = new Float64Array(pieces * rowCount);
  for (let piece = 0; piece < pieces; piece++) {
    const home = pieceHome[piece]!;
    const bucket = pieceBucket[piece]!;
    const weight = (program.rate[bucket]! * pieceMass[piece]!) / totalRate;
    for (let d = 0; d < rowCount; d++) {
      if (home >= 0) arcCost[piece * rowCount + d] = d === home ? 0 : weight;
      else if (d < deploymentCount && replicas[d]! > 0) {
        // New demand has no home: a hint towards where it fills least, too small to outweigh any move.
        const fill = program.work[bucket * deploymentCount + d]! / (program.capacity[d]! * replicas[d]!);
        arcCost[piece * rowCount + d] = 1e-6 * weight * Math.min(1, fill);
      }
    }
  }
  const rhs = new Float64Array(rowCount);
  for (let d = 0; d < deploymentCount; d++) {
    rhs[d] = program.capacity[d]! * replicas[d]! * Math.min(1, utilization * (1 + slack));
  }
  if (rowCount > deploymentCount) rhs[deploymentCount] = program.unservedLimit;
  const lp = new ShareLp({
    bucketCount: pieces,
    rowCount,
    arcWork: withUnservedArcs(
      program,
      pieces,
      (piece) => pieceBucket[piece]!,
      (piece, work) => work * pieceMass[piece]!,
    ),
    arcCost,
    columns: [],
    rhs,
  });
  for (let d = 0; d < deploymentCount; d++) lp.setClosed(d, replicas[d] === 0);
  lp.startFrom(new Float64Array(rowCount), new Int32Array(rowCount).fill(-1));
  if (lp.solve() !== 'optimal') return null;
  const all = new Float64Array(pieces * rowCount);
  lp.readShares(all);
  const shares = new Float64Array(bucketCount * deploymentCount);
  for (let piece = 0; piece < pieces; piece++) {
    const at = pieceBucket[piece]! * deploymentCount;
    for (let d = 0; d < deploymentCount; d++) {
      shares[at + d] = shares[at + d]! + all[piece * rowCount + d]! * pieceMass[piece]!;
    }
  }
  return shares;
}

function withUnservedArcs(
  program: Program,
  count: number,
  bucketOf: (index: number) => number,
  scaled: (index: number, work: number) => number,
): Float64Array {
  const { deploymentCount } = program;
  const rowCount = rowCountOf(program);
  const arcs = new Float64Array(count * rowCount);
  for (let i = 0; i < count; i++) {
    const b = bucketOf(i);
    for (let d = 0; d < deploymentCount; d++)
      arcs[i * rowCount + d] = scaled(i, program.work[b * deploymentCount + d]!);
    if (rowCount > deploymentCount) arcs[i * rowCount + deploymentCount] = scaled(i, program.rate[b]!);
  }
  return arcs;
}

function deploymentsOnly(
  all: Float64Array,
  bucketCount: number,
  rowCount: number,
  deploymentCount: number,
): Float64Array {
  if (rowCount === deploymentCount) return all;
  const shares = new Float64Array(bucketCount * deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) shares[b * deploymentCount + d] = all[b * rowCount + d]!;
  }
  return shares;
}

/** Shares below this are rounding. */
const noise = 1e-11;

/** Drops rounding noise and makes a row that is served whole sum to exactly 1. */
function withoutNoise(shares: Float64Array, bucketCount: number, deploymentCount: number): Float64Array {
  for (let b = 0; b < bucketCount; b++) {
    let sum = 0;
    let largest = 0;
    for (let d = 0; d < deploymentCount; d++) {
      const at = b * deploymentCount + d;
      if (shares[at]! < noise) shares[at] = 0;
      sum += shares[at]!;
      if (shares[at]! > shares[b * deploymentCount + largest]!) largest = d;
    }
    if (Math.abs(sum - 1) < 1e-9) {
      const at = b * deploymentCount + largest;
      shares[at] = shares[at]! + (1 - sum);
    }
  }
  return shares;
}
