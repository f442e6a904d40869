/**
 * Merges buckets whose works are alike, so that the program stays small whatever the window holds.
 *
 * A merged bucket has the summed work on each deployment and the same shares for all its members, so a plan for the
 * merged program is a plan for the raw one with exactly the same loads. What merging can lose is freedom: members can
 * no longer go different ways. That loss is bounded: for any prices p,
 *   Σ_{b in M} min_d p_d a_bd ≥ kept_M · min_d p_d A_Md   with   kept_M = Σ_{b in M} min_d (a_bd / A_Md) ≤ 1,
 * so the program with works kept_M·A_Md is a relaxation of the raw one. Members in proportion have kept = 1: no loss.
 */
export type MergedBuckets = {
  readonly count: number;
  /** Merged bucket of each raw one. */
  readonly groupOf: Int32Array;
  /** count × deploymentCount; summed works, Infinity = cannot serve. */
  readonly work: Float64Array;
  /** Summed arrival rates. */
  readonly rate: Float64Array;
  /** kept_M of each merged bucket, in (0, 1]. */
  readonly kept: Float64Array;
  /** True where every kept is 1 to rounding: the merged program is the raw one. */
  readonly exact: boolean;
};

/** Work vectors whose ratios agree to this are in proportion. */
const proportional = 1e-9;

/**
 * @param work bucketCount × deploymentCount replicas of work, Infinity = cannot serve
 * @param maxBuckets how many merged buckets there may be, where the raw ones allow it: buckets that different sets of
 *   deployments serve are never merged
 */
export function mergeBuckets(options: {
  readonly bucketCount: number;
  readonly deploymentCount: number;
  readonly work: Float64Array;
  readonly rate: Float64Array;
  readonly maxBuckets: number;
}): MergedBuckets {
  const { bucketCount, deploymentCount, work, rate, maxBuckets } = options;
  const shapes = shapesOf(options);
  const groups = mergeInProportion(options, shapes);
  const clusters = groups.length > maxBuckets ? clusterShapes({ ...options, shapes, groups }) : groups;

  const groupOf = new Int32Array(bucketCount);
  const merged = new Float64Array(clusters.length * deploymentCount);
  const mergedRate = new Float64Array(clusters.length);
  const kept = new Float64Array(clusters.length).fill(1);
  clusters.forEach((members, m) => {
    for (const b of members) {
      groupOf[b] = m;
      mergedRate[m] = mergedRate[m]! + rate[b]!;
      for (let d = 0; d < deploymentCount; d++) {
        merged[m * deploymentCount + d] = merged[m * deploymentCount + d]! + work[b * deploymentCount + d]!;
      }
    }
    if (members.length > 1) kept[m] = keptShare({ members, m, deploymentCount, work, merged });
  });
  return {
    count: clusters.length,
    groupOf,
    work: merged,
    rate: mergedRate,
    kept,
    exact: kept.every((share) => share > 1 - 1e-8),
  };
}

/** Every bucket by itself. */
export function unmerged(raw: {
  readonly count: number;
  readonly work: Float64Array;
  readonly rate: Float64Array;
}): MergedBuckets {
  return {
    count: raw.count,
    groupOf: Int32Array.from({ length: raw.count }, (_, b) => b),
    work: raw.work,
    rate: raw.rate,
    kept: new Float64Array(raw.count).fill(1),
    exact: true,
  };
}

function keptShare(options: {
  readonly members: readonly number[];
  readonly m: number;
  readonly deploymentCount: number;
  readonly work: Float64Array;
  readonly merged: Float64Array;
}): number {
  const { members, m, deploymentCount, work, merged } = options;
  let kept = 0;
  for (const b of members) {
    let least = 1;
    for (let d = 0; d < deploymentCount; d++) {
      const whole = merged[m * deploymentCount + d]!;
      if (whole < Number.POSITIVE_INFINITY && whole > 0)
        least = Math.min(least, work[b * deploymentCount + d]! / whole);
    }
    kept += least;
  }
  return Math.min(1, kept);
}

/** Per bucket: a number that names the set of deployments that serve it, and its works' logarithms relative to the first. */
type Shapes = { readonly servableSet: Int32Array; readonly logRatio: Float64Array };

function shapesOf(options: {
  readonly bucketCount: number;
  readonly deploymentCount: number;
  readonly work: Float64Array;
}): Shapes {
  const { bucketCount, deploymentCount, work } = options;
  const logRatio = new Float64Array(bucketCount * deploymentCount);
  const servableSet = new Int32Array(bucketCount);
  const sets = new Map<string, number>();
  let everywhere = -1;
  for (let b = 0, at = 0; b < bucketCount; b++, at += deploymentCount) {
    let first = -1;
    let served = 0;
    for (let d = 0; d < deploymentCount; d++) {
      const w = work[at + d]!;
      if (w === Number.POSITIVE_INFINITY) continue;
      served++;
      if (first < 0) first = w;
      logRatio[at + d] = Math.log(w / first);
    }
    if (served === deploymentCount && everywhere >= 0) {
      servableSet[b] = everywhere;
      continue;
    }
    let key = '';
    for (let d = 0; d < deploymentCount; d++) key += work[at + d]! === Number.POSITIVE_INFINITY ? '0' : '1';
    const known = sets.get(key);
    servableSet[b] = known ?? sets.size;
    if (known === undefined) sets.set(key, sets.size);
    if (served === deploymentCount) everywhere = servableSet[b]!;
  }
  return { servableSet, logRatio };
}

/** Groups of raw buckets with proportional works, in the order of their first members. */
function mergeInProportion(
  options: { readonly bucketCount: number; readonly deploymentCount: number },
  shapes: Shapes,
): number[][] {
  const { bucketCount, deploymentCount } = options;
  const { servableSet, logRatio } = shapes;
  const groups: number[][] = [];
  const byHash = new Map<number, number[][]>();
  for (let b = 0; b < bucketCount; b++) {
    // Two vectors on either side of a rounding edge are not compared: a missed merge costs time, never money.
    let hash = servableSet[b]!;
    for (let d = 0; d < deploymentCount; d++) {
      hash = Math.imul(hash ^ Math.round(logRatio[b * deploymentCount + d]! * 1e6), 0x01000193);
    }
    const candidates = byHash.get(hash);
    const group = candidates?.find((members) => inProportion(b, members[0]!));
    if (group !== undefined) group.push(b);
    else {
      const created = [b];
      groups.push(created);
      if (candidates === undefined) byHash.set(hash, [created]);
      else candidates.push(created);
    }
  }
  return groups;

  function inProportion(b: number, other: number): boolean {
    if (servableSet[b] !== servableSet[other]) return false;
    for (let d = 0; d < deploymentCount; d++) {
      const difference = logRatio[b * deploymentCount + d]! - logRatio[other * deploymentCount + d]!;
      if (Math.abs(difference) > proportional) return false;
    }
    return true;
  }
}

type Cluster = { readonly members: readonly number[]; readonly axis: number; readonly spread: number };

/**
 * Splits the groups of each servable set along the widest log-ratio, the cluster with the largest weight × spread
 * first, until there are `maxBuckets` clusters.
 */
function clusterShapes(options: {
  readonly deploymentCount: number;
  readonly work: Float64Array;
  readonly maxBuckets: number;
  readonly shapes: Shapes;
  readonly groups: readonly (readonly number[])[];
}): number[][] {
  const { deploymentCount, work, maxBuckets, shapes, groups } = options;
  const { logRatio } = shapes;
  const weightOf = groups.map((members) => {
    let weight = 0;
    for (const b of members) {
      let least = Number.POSITIVE_INFINITY;
      for (let d = 0; d < deploymentCount; d++) least = Math.min(least, work[b * deploymentCount + d]!);
      weight += least;
    }
    return weight;
  });
  /** A cluster holds indexes into `groups`. */
  const describe = (members: readonly number[]): Cluster => {
    let axis = 0;
    let widest = 0;
    let weight = 0;
    for (const g of members) weight += weightOf[g]!;
    if (members.length > 1) {
      for (let d = 0; d < deploymentCount; d++) {
        let low = Number.POSITIVE_INFINITY;
        let high = Number.NEGATIVE_INFINITY;
        for (const g of members) {
          const value = logRatio[groups[g]![0]! * deploymentCount + d]!;
          if (value < low) low = value;
          if (value > high) high = value;
        }
        if (high - low > widest) {
          widest = high - low;
          axis = d;
        }
      }
    }
    return { members, axis, spread: widest * weight };
  };
  const bySet = new Map<number, number[]>();
  groups.forEach((members, g) => {
    const key = shapes.servableSet[members[0]!]!;
    const set = bySet.get(key);
    if (set === undefined) bySet.set(key, [g]);
    else set.push(g);
  });
  const heap = [...bySet.values()].map(describe);
  while (heap.length < maxBuckets) {
    let at = 0;
    for (let i = 1; i < heap.length; i++) if (heap[i]!.spread > heap[at]!.spread) at = i;
    const widest = heap[at]!;
    if (!(widest.spread > 0)) break;
    const value = (g: number): number => logRatio[groups[g]![0]! * deploymentCount + widest.axis]!;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const g of widest.members) {
      low = Math.min(low, value(g));
      high = Math.max(high, value(g));
    }
    const middle = (low + high) / 2;
    const left = widest.members.filter((g) => value(g) <= middle);
    const right = widest.members.filter((g) => value(g) > middle);
    heap[at] = describe(left);
    heap.push(describe(right));
  }
  return heap
    .map((cluster) => cluster.members.flatMap((g) => [...groups[g]!]).sort((a, b) => a - b))
    .sort((a, b) => a[0]! - b[0]!);
}
