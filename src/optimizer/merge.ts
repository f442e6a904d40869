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
  /** USD/hour per replica of full work on each deployment: says which differences between buckets cost money. */
  readonly price: Float64Array;
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

/** A range of the groups' order. What merging it loses at the sampled prices is the reason to split it. */
type Cluster = {
  start: number;
  end: number;
  readonly work: Float64Array;
  /** Σ of its groups' cheapest prices, per sample. */
  readonly apart: Float64Array;
  loss: number;
};

/** A loss below this share of the price is rounding. */
const lossNoise = 1e-12;

/**
 * Splits the groups of each servable set until there are `maxBuckets` clusters, the one with the largest loss first.
 *
 * The loss of a cluster at prices p is min_d p_d A_d − Σ_b min_d p_d a_bd: nothing where all members have the same
 * cheapest deployment. It is measured at the prices that matter: those of the types themselves, the same with one type
 * closed, and a few on either side of them. A cluster is split where its members' two most contested works cross.
 */
function clusterShapes(options: {
  readonly deploymentCount: number;
  readonly work: Float64Array;
  readonly price: Float64Array;
  readonly maxBuckets: number;
  readonly shapes: Shapes;
  readonly groups: readonly (readonly number[])[];
}): number[][] {
  const { deploymentCount: count, work, price, maxBuckets, shapes, groups } = options;
  const prices = samplePrices(price);
  const sampleCount = 1 + factors.length * count;
  const groupWork = new Float64Array(groups.length * count);
  const logRatio = new Float64Array(groups.length * count);
  for (let g = 0; g < groups.length; g++) {
    const members = groups[g]!;
    const shape = members[0]! * count;
    for (let d = 0; d < count; d++) logRatio[g * count + d] = shapes.logRatio[shape + d]!;
    for (const b of members) {
      for (let d = 0; d < count; d++) groupWork[g * count + d] = groupWork[g * count + d]! + work[b * count + d]!;
    }
  }
  /** Cheapest price of each group at each sample, and whether a deployment is the cheapest of a group at any. */
  const least = new Float64Array(groups.length * sampleCount);
  const contests = new Uint8Array(groups.length * count);
  for (let g = 0; g < groups.length; g++) {
    cheapestAtSamples(groupWork, g * count, prices, least, g * sampleCount, contests);
  }

  // A cluster is a range of `order`; splitting it partitions the range in place.
  const bySet = new Map<number, number[]>();
  groups.forEach((members, g) => {
    const key = shapes.servableSet[members[0]!]!;
    const set = bySet.get(key);
    if (set === undefined) bySet.set(key, [g]);
    else set.push(g);
  });
  const order = new Int32Array(groups.length);
  const clusters: Cluster[] = [];
  const together = new Float64Array(sampleCount);
  let from = 0;
  for (const set of bySet.values()) {
    order.set(set, from);
    clusters.push(summed(from, from + set.length));
    from += set.length;
  }
  while (clusters.length < maxBuckets) {
    let worst = clusters[0]!;
    for (const cluster of clusters) if (cluster.loss > worst.loss) worst = cluster;
    if (!(worst.loss > 0)) break;
    const { start, end } = worst;
    const middle = splitWidest(start, end);
    if (middle === start || middle === end) {
      // Nothing tells the members apart.
      worst.loss = 0;
      continue;
    }
    // Only the smaller half is summed; the other is what it leaves.
    const takesLeft = middle - start <= end - middle;
    const part = takesLeft ? summed(start, middle) : summed(middle, end);
    for (let d = 0; d < count; d++) worst.work[d] = worst.work[d]! - part.work[d]!;
    for (let s = 0; s < sampleCount; s++) worst.apart[s] = worst.apart[s]! - part.apart[s]!;
    if (takesLeft) worst.start = middle;
    else worst.end = middle;
    worst.loss = lossOf(worst);
    clusters.push(part);
  }
  return clusters
    .map(({ start, end }) => {
      const members: number[] = [];
      for (let i = start; i < end; i++) for (const b of groups[order[i]!]!) members.push(b);
      return Array.from(Int32Array.from(members).sort());
    })
    .sort((a, b) => a[0]! - b[0]!);

  function summed(start: number, end: number): Cluster {
    const cluster = { start, end, work: new Float64Array(count), apart: new Float64Array(sampleCount), loss: 0 };
    for (let i = start; i < end; i++) {
      const at = order[i]! * count;
      for (let d = 0; d < count; d++) cluster.work[d] = cluster.work[d]! + groupWork[at + d]!;
      const from = order[i]! * sampleCount;
      for (let s = 0; s < sampleCount; s++) cluster.apart[s] = cluster.apart[s]! + least[from + s]!;
    }
    cluster.loss = lossOf(cluster);
    return cluster;
  }

  function lossOf(cluster: Cluster): number {
    if (cluster.end - cluster.start < 2) return 0;
    cheapestAtSamples(cluster.work, 0, prices, together, 0, null);
    let loss = 0;
    for (let s = 0; s < sampleCount; s++) {
      const lost = together[s]! - cluster.apart[s]!;
      if (lost > lossNoise * together[s]! && lost < Number.POSITIVE_INFINITY) loss += lost;
    }
    return loss;
  }

  /** Halves a cluster along the widest ratio between two works that some member contests; where the second half starts. */
  function splitWidest(start: number, end: number): number {
    const contested: number[] = [];
    for (let d = 0; d < count; d++) {
      for (let i = start; i < end; i++) {
        if (contests[order[i]! * count + d] === 0) continue;
        contested.push(d);
        break;
      }
    }
    let widest = 0;
    let first = -1;
    let second = -1;
    let middle = 0;
    for (const d of contested) {
      for (const e of contested) {
        if (e >= d) break;
        let low = Number.POSITIVE_INFINITY;
        let high = Number.NEGATIVE_INFINITY;
        for (let i = start; i < end; i++) {
          const at = order[i]! * count;
          const value = logRatio[at + d]! - logRatio[at + e]!;
          if (value < low) low = value;
          if (value > high) high = value;
        }
        if (high - low <= widest) continue;
        widest = high - low;
        first = d;
        second = e;
        middle = (low + high) / 2;
      }
    }
    if (first < 0) return start;
    let left = start;
    let right = end;
    while (left < right) {
      const g = order[left]!;
      if (logRatio[g * count + first]! - logRatio[g * count + second]! <= middle) left++;
      else {
        right--;
        order[left] = order[right]!;
        order[right] = g;
      }
    }
    return left;
  }
}

/** Prices at which losses are measured. */
function samplePrices(price: Float64Array): Float64Array {
  const floor = price.reduce((most, value) => Math.max(most, value), 0) * 1e-3;
  return price.map((value) => Math.max(value, floor));
}

/** Besides the types' own prices: each type, one at a time, a tenth cheaper, a tenth dearer, and closed. */
const factors = [0.8, 0.9, 0.96, 1.04, 1.1, 1.25, Number.POSITIVE_INFINITY] as const;

/**
 * The cheapest price of the works at `at` for every sample: own prices first, then type by type its factors. One price
 * changes at a time, so the cheapest two at the own prices settle all of them.
 *
 * @param contests where given, marks at `at + d` the types that are the cheapest at some sample
 */
function cheapestAtSamples(
  work: Float64Array,
  at: number,
  prices: Float64Array,
  into: Float64Array,
  intoAt: number,
  contests: Uint8Array | null,
): void {
  let first = -1;
  let second = -1;
  let least = Number.POSITIVE_INFINITY;
  let next = Number.POSITIVE_INFINITY;
  for (let d = 0; d < prices.length; d++) {
    const value = prices[d]! * work[at + d]!;
    if (value < least) {
      second = first;
      next = least;
      first = d;
      least = value;
    } else if (value < next) {
      second = d;
      next = value;
    }
  }
  if (contests !== null && first >= 0) contests[at + first] = 1;
  into[intoAt] = least;
  let s = intoAt + 1;
  for (let d = 0; d < prices.length; d++) {
    const others = d === first ? next : least;
    const own = prices[d]! * work[at + d]!;
    for (let k = 0; k < factors.length; k++) {
      const value = own * factors[k]!;
      into[s] = value < others ? value : others;
      s++;
      if (contests === null) continue;
      if (value < others) contests[at + d] = 1;
      else if (d === first && second >= 0) contests[at + second] = 1;
    }
  }
}
