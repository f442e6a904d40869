import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CountedPoint, densityClusters } from '../../../src/simulation/policies/density-clusters.js';

const rules = { reach: 5, minPoints: 10 };
const many = (count: number, x: number, y: number): CountedPoint => ({ x, y, count });

describe('clusters of requests by their lengths', () => {
  test('ten requests of one bucket are a cluster, nine are noise', () => {
    expect(densityClusters([many(10, 80, 60)], rules)).toEqual({
      clusters: [{ count: 10, centre: { x: 80, y: 60 } }],
      labels: [0],
      noiseCount: 0,
    });
    expect(densityClusters([many(9, 80, 60)], rules)).toEqual({ clusters: [], labels: [-1], noiseCount: 9 });
    expect(densityClusters([], rules)).toEqual({ clusters: [], labels: [], noiseCount: 0 });
  });

  test('neighbours up to the reach count, and those a step further do not', () => {
    expect(densityClusters([many(9, 0, 0), many(1, 3, 4)], rules).labels).toEqual([0, 0]);
    expect(densityClusters([many(9, 0, 0), many(1, 4, 4)], rules).labels).toEqual([-1, -1]);
  });

  test('dense places with a chain of dense points between them are one cluster, and two without', () => {
    const ends = [many(30, 0, 0), many(30, 20, 0)];
    const chain = [5, 10, 15].map((x) => many(10, x, 0));
    expect(densityClusters(ends, rules).labels).toEqual([0, 1]);
    expect(densityClusters([...ends, ...chain], rules).clusters).toEqual([{ count: 90, centre: { x: 10, y: 0 } }]);
  });

  test('a point that reaches two clusters without joining them goes to the nearer one', () => {
    const left = [many(14, 0, 0), many(13, -5, 0), many(13, 0, -5)];
    const right = [many(14, 9, 0), many(13, 14, 0), many(13, 9, 5)];
    const between = (x: number) => densityClusters([...left, ...right, many(1, x, 0)], { reach: 5, minPoints: 40 });
    expect(between(4).labels).toEqual([0, 0, 0, 1, 1, 1, 0]);
    expect(between(5).labels).toEqual([0, 0, 0, 1, 1, 1, 1]);
  });
});

/** DBSCAN as its definition reads: all pairs. */
function byDefinition(points: readonly CountedPoint[], { reach, minPoints }: typeof rules) {
  const near = (a: CountedPoint, b: CountedPoint) => (a.x - b.x) ** 2 + (a.y - b.y) ** 2 <= reach ** 2;
  const core = points.map(
    (point) => points.filter((other) => near(point, other)).reduce((sum, { count }) => sum + count, 0) >= minPoints,
  );
  const component = points.map(() => -1);
  let components = 0;
  points.forEach((_, start) => {
    if (!core[start] || component[start]! >= 0) return;
    const open = [start];
    component[start] = components;
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      points.forEach((point, i) => {
        if (!core[i] || component[i]! >= 0 || !near(point, points[at!]!)) return;
        component[i] = components;
        open.push(i);
      });
    }
    components++;
  });
  /** Components of the core points that a point may belong to. */
  const reachable = points.map(
    (point) => new Set(points.flatMap((other, i) => (core[i] && near(point, other) ? [component[i]!] : []))),
  );
  return { core, component, reachable };
}

test('on any points the clusters are those of the definition', () => {
  const point = fc.record({
    x: fc.integer({ min: 0, max: 40 }),
    y: fc.integer({ min: -5, max: 30 }),
    count: fc.integer({ min: 1, max: 6 }),
  });
  const asked = fc.record({
    points: fc.array(point, { maxLength: 60 }),
    reach: fc.constantFrom(0.5, 1, 2.5, 5),
    minPoints: fc.integer({ min: 1, max: 20 }),
  });
  let clustersSeen = 0;
  fc.assert(
    fc.property(asked, ({ points, ...rule }) => {
      const { labels, clusters, noiseCount } = densityClusters(points, rule);
      const { core, component, reachable } = byDefinition(points, rule);
      clustersSeen += clusters.length;
      expect(clusters).toHaveLength(new Set(component.filter((c) => c >= 0)).size);
      const labelOf = new Map<number, number>();
      points.forEach((_, i) => {
        if (core[i]) {
          expect(labelOf.get(component[i]!) ?? labels[i]).toBe(labels[i]);
          labelOf.set(component[i]!, labels[i]!);
        }
      });
      expect(new Set(labelOf.values()).size).toBe(labelOf.size);
      points.forEach((_, i) => {
        const allowed = [...reachable[i]!].map((c) => labelOf.get(c)!);
        if (allowed.length === 0) expect(labels[i]).toBe(-1);
        else expect(allowed).toContain(labels[i]);
      });
      const counts = clusters.map((_, c) => points.reduce((sum, p, i) => sum + (labels[i] === c ? p.count : 0), 0));
      expect(clusters.map(({ count }) => count)).toEqual(counts);
      expect(noiseCount).toBe(points.reduce((sum, p, i) => sum + (labels[i] === -1 ? p.count : 0), 0));
    }),
    { numRuns: 300, seed: 11 },
  );
  expect(clustersSeen).toBeGreaterThan(300);
});

test('the order of the points changes nothing', () => {
  const points = [many(12, 3, 3), many(4, 30, 9), many(11, 14, 2), many(2, 6, 6), many(9, 31, 8)];
  const there = densityClusters(points, rules);
  const back = densityClusters(points.toReversed(), rules);
  expect(back.labels.toReversed()).toEqual(there.labels);
  expect(back.clusters).toEqual(there.clusters);
});
