import type { Formulation } from './formulate.js';
import { ShareLp } from './share-lp.js';

/** Unserved demand below this share of what contends for room is rounding. */
const negligible = 1e-12;

/** How much demand stays unserved [requests/s], and whether it is proven that no plan serves more. */
export type LeastUnserved = { readonly rps: number; readonly proven: boolean };

const none: LeastUnserved = { rps: 0, proven: true };

/**
 * The least demand that must stay unserved when every deployment runs as many replicas as it may [requests/s].
 *
 * A deployment with room for all the work that it could ever serve takes its buckets out of the question: only the
 * others contend. 0 at once where none do.
 */
export function leastUnserved(
  formulation: Formulation,
  buckets: { readonly count: number; readonly work: Float64Array; readonly rate: Float64Array },
): LeastUnserved {
  const { deployments, bounds } = formulation;
  const count = deployments.length;
  if (buckets.count === 0) return none;
  const needed = new Float64Array(count);
  for (let at = 0; at < buckets.count * count; at++) {
    const work = buckets.work[at]!;
    if (work < Number.POSITIVE_INFINITY) needed[at % count] = needed[at % count]! + work;
  }
  const capacity = bounds.map((bound, d) => bound.upper * deployments[d]!.targetUtilization);
  const ample = capacity.map((room, d) => room >= needed[d]!);
  const contending: number[] = [];
  for (let b = 0; b < buckets.count; b++) {
    const hasRoom = ample.some((isAmple, d) => isAmple && buckets.work[b * count + d]! < Number.POSITIVE_INFINITY);
    if (!hasRoom) contending.push(b);
  }
  if (contending.length === 0) return none;

  const rowCount = count + 1;
  const arcWork = new Float64Array(contending.length * rowCount);
  let total = 0;
  contending.forEach((b, at) => {
    for (let d = 0; d < count; d++) arcWork[at * rowCount + d] = buckets.work[b * count + d]!;
    arcWork[at * rowCount + count] = buckets.rate[b]!;
    total += buckets.rate[b]!;
  });
  const rhs = new Float64Array(rowCount);
  for (let d = 0; d < count; d++) rhs[d] = capacity[d]!;
  const vector = new Float64Array(rowCount);
  vector[count] = -1;
  const lp = new ShareLp({
    bucketCount: contending.length,
    rowCount,
    arcWork,
    columns: [{ vector, cost: 1, lower: 0, upper: total }],
    rhs,
  });
  const prices = new Float64Array(rowCount);
  prices[count] = 1;
  const basics = new Int32Array(rowCount).fill(-1);
  basics[count] = 0;
  lp.startFrom(prices, basics);
  const outcome = lp.solve();
  // Anything but `optimal` is a numerical accident: what filling the room bucket by bucket leaves is possible too.
  const unserved = outcome === 'optimal' ? lp.columnValue(0) : leftByFilling(lp, { arcWork, rowCount, capacity });
  return {
    rps: unserved <= negligible * total ? 0 : Math.min(total, unserved * (1 + 1e-10)),
    proven: outcome === 'optimal',
  };
}

/**
 * Demand left when buckets fill the room one by one, those with the most requests per work first, each where it takes
 * the smallest part of what a deployment can hold. Not always the least, but nothing that is left would still fit.
 */
function leftByFilling(
  lp: ShareLp,
  { arcWork, rowCount, capacity }: { arcWork: Float64Array; rowCount: number; capacity: readonly number[] },
): number {
  const count = rowCount - 1;
  const room = [...capacity];
  const partOf = (b: number, d: number): number => arcWork[b * rowCount + d]! / capacity[d]!;
  const order = Array.from({ length: lp.bucketCount }, (_, b) => {
    let least = Number.POSITIVE_INFINITY;
    for (let d = 0; d < count; d++) if (capacity[d]! > 0) least = Math.min(least, partOf(b, d));
    return { b, worth: arcWork[b * rowCount + count]! / least };
  }).sort((x, y) => y.worth - x.worth || x.b - y.b);
  let left = 0;
  for (const { b } of order) {
    let share = 1;
    const cheapestFirst = room
      .map((_, d) => d)
      .filter((d) => capacity[d]! > 0 && arcWork[b * rowCount + d]! < Number.POSITIVE_INFINITY)
      .sort((d, e) => partOf(b, d) - partOf(b, e) || d - e);
    for (const d of cheapestFirst) {
      const work = arcWork[b * rowCount + d]!;
      const placed = Math.min(share, Math.max(0, room[d]!) / work);
      room[d] = room[d]! - placed * work;
      share -= placed;
      if (share <= 0) break;
    }
    left += Math.max(0, share) * arcWork[b * rowCount + count]!;
  }
  return left;
}
