/**
 * DBSCAN (Ester, Kriegel, Sander and Xu, 1996) on whole coordinates with counts, as request traces have them: many
 * requests of the same bucket are one point with a weight.
 *
 * A point is *core* where at least `minPoints` requests, its own among them, lie within `reach`. Core points within
 * reach of each other are one cluster; another point within reach of a core point belongs to the cluster of the nearest
 * one (of the first in order of y and x where several are equally near); the rest is noise. The clusters do not depend
 * on the order of the points.
 */
export type CountedPoint = { readonly x: number; readonly y: number; readonly count: number };

export type DensityCluster = {
  /** Requests, border points included. */
  readonly count: number;
  /** Mean over the requests. */
  readonly centre: { readonly x: number; readonly y: number };
};

export type DensityClusters = {
  /** In order of their first core point (by y, then x). */
  readonly clusters: readonly DensityCluster[];
  /** Cluster of each point, in the order given; −1 = noise. */
  readonly labels: readonly number[];
  readonly noiseCount: number;
};

/**
 * @param points whole coordinates; the same coordinates may come up several times; counts > 0
 * @param reach largest distance of neighbours, in steps of the coordinates (Euclid, inclusive)
 */
export function densityClusters(
  points: readonly CountedPoint[],
  { reach, minPoints }: { readonly reach: number; readonly minPoints: number },
): DensityClusters {
  if (points.length === 0) return { clusters: [], labels: [], noiseCount: 0 };
  const grid = gridOf(points, Math.floor(reach));
  const halfWidths = Array.from({ length: Math.floor(reach) + 1 }, (_, dy) =>
    Math.floor(Math.sqrt(reach * reach - dy * dy)),
  );
  const core = coreCells(grid, halfWidths, minPoints);
  const parents = linkCores(grid, halfWidths, core);
  const labelOfRoot = new Map<number, number>();
  for (const cell of core.cells) {
    const root = rootOf(parents, cell);
    if (!labelOfRoot.has(root)) labelOfRoot.set(root, labelOfRoot.size);
  }
  const labels = points.map(({ x, y }) => {
    const cell = cellOf(grid, x, y);
    const nearest = core.is[cell] === 1 ? cell : nearestCore(grid, halfWidths, core, cell);
    return nearest < 0 ? -1 : labelOfRoot.get(rootOf(parents, nearest))!;
  });
  const sums = Array.from(labelOfRoot, () => ({ count: 0, x: 0, y: 0 }));
  let noiseCount = 0;
  points.forEach(({ x, y, count }, i) => {
    const sum = sums[labels[i]!];
    if (sum === undefined) {
      noiseCount += count;
      return;
    }
    sum.count += count;
    sum.x += x * count;
    sum.y += y * count;
  });
  return {
    clusters: sums.map(({ count, x, y }) => ({ count, centre: { x: x / count, y: y / count } })),
    labels,
    noiseCount,
  };
}

/** A dense grid over all points with a margin of one reach, so that no neighbourhood leaves it. */
type Grid = {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly counts: Float64Array;
  /** Occupied cells, ascending: by y, then x. */
  readonly occupied: readonly number[];
};

function gridOf(points: readonly CountedPoint[], margin: number): Grid {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  left -= margin + 1;
  top -= margin;
  const width = right - left + margin + 1;
  const counts = new Float64Array(width * (bottom - top + margin + 1));
  for (const { x, y, count } of points) counts[(y - top) * width + x - left]! += count;
  const occupied: number[] = [];
  for (let cell = 0; cell < counts.length; cell++) if (counts[cell]! > 0) occupied.push(cell);
  return { left, top, width, counts, occupied };
}

function cellOf({ left, top, width }: Grid, x: number, y: number): number {
  return (y - top) * width + x - left;
}

type Cores = {
  readonly is: Uint8Array;
  /** Ascending. */
  readonly cells: readonly number[];
};

/** A cell is core by the sum over a disc, which running sums along rows give in two look-ups a row. */
function coreCells({ counts, occupied, width }: Grid, halfWidths: readonly number[], minPoints: number): Cores {
  const sums = new Float64Array(counts.length);
  for (let cell = 1; cell < counts.length; cell++) sums[cell] = sums[cell - 1]! + counts[cell]!;
  const is = new Uint8Array(counts.length);
  const cells = occupied.filter((cell) => {
    let within = 0;
    for (let dy = 1 - halfWidths.length; dy < halfWidths.length; dy++) {
      const half = halfWidths[Math.abs(dy)]!;
      const middle = cell + dy * width;
      within += sums[middle + half]! - sums[middle - half - 1]!;
    }
    if (within < minPoints) return false;
    is[cell] = 1;
    return true;
  });
  return { is, cells };
}

/**
 * Links core cells within reach of each other; the links of earlier rows and of the same row are enough.
 *
 * In one row only the first and the last core within reach need a link: a neighbourhood is at most 2 × reach wide, so
 * that its cores in between are linked to one of the two along the row.
 */
function linkCores({ counts, width }: Grid, halfWidths: readonly number[], core: Cores): Int32Array {
  const parents = new Int32Array(counts.length);
  for (const cell of core.cells) parents[cell] = cell;
  const link = (a: number, b: number) => {
    const [rootA, rootB] = [rootOf(parents, a), rootOf(parents, b)];
    parents[Math.max(rootA, rootB)] = Math.min(rootA, rootB);
  };
  for (const cell of core.cells) {
    for (let left = cell - halfWidths[0]!; left < cell; left++) if (core.is[left] === 1) link(left, cell);
    for (let dy = 1; dy < halfWidths.length; dy++) {
      const half = halfWidths[dy]!;
      const middle = cell - dy * width;
      let first = middle - half;
      while (first <= middle + half && core.is[first] !== 1) first++;
      if (first > middle + half) continue;
      let last = middle + half;
      while (core.is[last] !== 1) last--;
      link(first, cell);
      if (last !== first) link(last, cell);
    }
  }
  return parents;
}

function rootOf(parents: Int32Array, cell: number): number {
  let root = cell;
  while (parents[root] !== root) {
    parents[root] = parents[parents[root]!]!;
    root = parents[root]!;
  }
  return root;
}

/** −1 where none is within reach. */
function nearestCore({ width }: Grid, halfWidths: readonly number[], core: Cores, cell: number): number {
  let nearest = -1;
  let least = Infinity;
  for (let dy = 1 - halfWidths.length; dy < halfWidths.length; dy++) {
    const half = halfWidths[Math.abs(dy)]!;
    for (let dx = -half; dx <= half; dx++) {
      const neighbour = cell + dy * width + dx;
      if (core.is[neighbour] !== 1 || dx * dx + dy * dy >= least) continue;
      least = dx * dx + dy * dy;
      nearest = neighbour;
    }
  }
  return nearest;
}
