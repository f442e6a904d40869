import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  boundAt,
  compareAt,
  costAt,
  type FrontierPoint,
  lowerFrontier,
  positionOf,
  positionsOf,
  usdAt,
} from '../../../src/simulation/backtest/frontier.js';

const point = (attainment: number, usd: number): FrontierPoint => ({ attainment, usd });
const points = fc.array(
  fc.record({
    attainment: fc.double({ min: 0, max: 1, noNaN: true }),
    usd: fc.double({ min: 0, max: 1e6, noNaN: true }),
  }),
  { maxLength: 12 },
);

describe('the frontier of some runs', () => {
  it('holds those that no other run beats, ascending', () => {
    const runs = [point(0.99, 120), point(0.95, 100), point(0.97, 130), point(0.999, 200), point(0.9, 100)];
    expect(lowerFrontier(runs)).toEqual([point(0.95, 100), point(0.99, 120), point(0.999, 200)]);
  });

  it('of equal runs has one, and leaves out what is no number', () => {
    expect(lowerFrontier([point(0.9, 10), point(0.9, 10), point(0.9, 11), point(Number.NaN, 1)])).toEqual([
      point(0.9, 10),
    ]);
    expect(lowerFrontier([])).toEqual([]);
  });

  it('of any runs: a run is on it exactly if none attains as much for less, or more for as much', () => {
    fc.assert(
      fc.property(points, (runs) => {
        const frontier = lowerFrontier(runs);
        for (const run of runs) {
          const isBeaten = runs.some(
            (other) =>
              other.attainment >= run.attainment &&
              other.usd <= run.usd &&
              (other.attainment > run.attainment || other.usd < run.usd),
          );
          const isOn = frontier.some(({ attainment, usd }) => attainment === run.attainment && usd === run.usd);
          expect(isOn).toBe(!isBeaten);
        }
        for (const [i, { attainment, usd }] of frontier.entries()) {
          if (i === 0) continue;
          expect(attainment).toBeGreaterThan(frontier[i - 1]!.attainment);
          expect(usd).toBeGreaterThan(frontier[i - 1]!.usd);
        }
      }),
    );
  });
});

describe('the cost at an attainment', () => {
  const frontier = [point(0.9, 100), point(0.98, 140)];

  it('lies on the line between the two neighbours', () => {
    expect(costAt(frontier, 0.94)).toEqual({ usd: expect.closeTo(120, 9), basis: 'interpolated' });
    expect(usdAt(frontier, 0.96)).toBeCloseTo(130, 9);
  });

  it('is that of a run where one attains just this', () => {
    expect(costAt(frontier, 0.9)).toEqual({ usd: 100, basis: 'run' });
    expect(costAt(frontier, 0.98)).toEqual({ usd: 140, basis: 'run' });
  });

  it('is not known above the last run, and at most that of the first one below it', () => {
    expect(costAt(frontier, 0.981)).toEqual({ usd: null, basis: 'not-reached' });
    expect(costAt(frontier, 0.5)).toEqual({ usd: 100, basis: 'attains-more' });
    expect(usdAt(frontier, 0.5)).toBeNull();
    expect(usdAt(frontier, 0.981)).toBeNull();
    expect(costAt([], 0.5)).toEqual({ usd: null, basis: 'not-reached' });
  });

  it('of any runs never falls as the attainment grows, and is never above a run that attains as much', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(points, share, share, (runs, a, b) => {
        const frontier = lowerFrontier(runs);
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        const [atLow, atHigh] = [costAt(frontier, low).usd, costAt(frontier, high).usd];
        if (atHigh !== null) expect(atLow).toBeLessThanOrEqual(atHigh * (1 + 1e-9) + 1e-9);
        for (const run of runs) {
          const own = costAt(frontier, run.attainment).usd;
          expect(own).not.toBeNull();
          expect(own).toBeLessThanOrEqual(run.usd * (1 + 1e-9) + 1e-9);
        }
      }),
    );
  });
});

describe('the bound of the oracle', () => {
  it('is that of the nearest attainment at or below, never one between', () => {
    const oracle = [point(0.9, 50), point(0.99, 60)];
    expect(boundAt(oracle, 0.95)).toBe(50);
    expect(boundAt(oracle, 0.99)).toBe(60);
    expect(boundAt(oracle, 1)).toBe(60);
    expect(boundAt(oracle, 0.89)).toBeNull();
    expect(boundAt([], 0.9)).toBeNull();
  });

  it('takes the highest of the bounds that hold, should a looser one stand above', () => {
    expect(boundAt([point(0.9, 55), point(0.95, 50)], 0.97)).toBe(55);
  });
});

describe('policies at one attainment', () => {
  const frontiers = [
    { policy: 'gpumix', points: [point(0.95, 80), point(0.999, 100)] },
    { policy: 'aibrix', points: [point(0.9, 100), point(0.98, 125)] },
    { policy: 'hpa-concurrency', points: [point(0.99, 150), point(0.999, 200)] },
    { policy: 'static', points: [] },
  ] as const;

  it('are compared by what the first one saves, with the ratio to the oracle', () => {
    const compared = compareAt({ frontiers, policy: 'gpumix', attainment: 0.98, oracle: [point(0.9, 50)] });
    expect(compared).toMatchObject({ attainment: 0.98, policy: 'gpumix', oracleUsd: 50 });
    const [gpumix, aibrix, hpa, fixed] = compared.costs;
    // 80 + (0.98 − 0.95) / (0.999 − 0.95) × 20
    expect(gpumix!.usd).toBeCloseTo(92.2449, 4);
    expect(gpumix!.saving).toBeNull();
    expect(gpumix!.oracleRatio).toBeCloseTo(1.844898, 6);
    expect(aibrix).toMatchObject({ usd: 125, basis: 'run', oracleRatio: 2.5 });
    expect(aibrix!.saving).toBeCloseTo(1 - 92.2449 / 125, 5);
    expect(hpa).toEqual({
      policy: 'hpa-concurrency',
      usd: 150,
      basis: 'attains-more',
      saving: null,
      oracleRatio: null,
    });
    expect(fixed).toEqual({ policy: 'static', usd: null, basis: 'not-reached', saving: null, oracleRatio: null });
  });

  it('are not compared where the first one does not reach; where its cheapest run attains more, its cost counts in full', () => {
    const above = compareAt({ frontiers: [frontiers[1], frontiers[2]], policy: 'aibrix', attainment: 0.99 });
    expect(above.costs.map(({ saving }) => saving)).toEqual([null, null]);
    const below = compareAt({ frontiers, policy: 'gpumix', attainment: 0.9 });
    expect(below.costs[0]).toMatchObject({ usd: 80, basis: 'attains-more', oracleRatio: null });
    expect(below.costs[1]!.saving).toBeCloseTo(0.2, 9);
  });

  it('of which one is free, or dearer, give no nonsense', () => {
    const free = compareAt({
      frontiers: [
        { policy: 'gpumix', points: [point(1, 10)] },
        { policy: 'static', points: [point(1, 0)] },
        { policy: 'aibrix', points: [point(1, 8)] },
      ],
      policy: 'gpumix',
      attainment: 1,
      oracle: [point(1, 0)],
    });
    expect(free.costs.map(({ saving }) => saving)).toEqual([null, null, -0.25]);
    expect(free.costs.map(({ oracleRatio }) => oracleRatio)).toEqual([null, null, null]);
  });
});

describe('the position of a frontier to another', () => {
  const own = { policy: 'gpumix', points: [point(0.95, 80), point(0.99, 100)] } as const;

  it('is on or below it where it is never dearer', () => {
    const other = { policy: 'aibrix', points: [point(0.9, 81), point(0.98, 120)] } as const;
    expect(positionOf(own, other)).toEqual({
      policy: 'gpumix',
      against: 'aibrix',
      range: { from: 0.9, to: 0.98 },
      worstExcess: expect.closeTo(80 / 81 - 1, 9),
      worstAt: 0.9,
      beyond: null,
      onOrBelow: true,
    });
  });

  it('says by how much it is above, and where', () => {
    const other = { policy: 'aibrix', points: [point(0.9, 40), point(0.97, 85), point(0.98, 120)] } as const;
    const position = positionOf(own, other);
    expect(position).toMatchObject({ worstAt: 0.9, onOrBelow: false });
    expect(position.worstExcess).toBeCloseTo(1, 9);
  });

  it('claims nothing above what it reached', () => {
    const other = { policy: 'aibrix', points: [point(0.96, 200), point(0.999, 300)] } as const;
    expect(positionOf(own, other)).toMatchObject({
      range: { from: 0.96, to: 0.99 },
      beyond: 0.999,
      onOrBelow: false,
    });
    const far = { policy: 'aibrix', points: [point(0.995, 200)] } as const;
    expect(positionOf(own, far)).toMatchObject({ range: null, beyond: 0.995, onOrBelow: false });
  });

  it('is below one that attains less for more, although the two never attain the same', () => {
    const other = { policy: 'aibrix', points: [point(0.5, 90), point(0.6, 95)] } as const;
    expect(positionOf(own, other)).toMatchObject({ onOrBelow: true, range: { from: 0.5, to: 0.6 } });
  });

  it('of any two frontiers: nowhere it says on or below is there a dearer point', () => {
    fc.assert(
      fc.property(points, points, fc.double({ min: 0, max: 1, noNaN: true }), (a, b, part) => {
        const mine = { policy: 'gpumix', points: lowerFrontier(a) } as const;
        const theirs = { policy: 'aibrix', points: lowerFrontier(b) } as const;
        const { onOrBelow, range, worstExcess } = positionOf(mine, theirs);
        if (range === null) return;
        const at = range.from + part * (range.to - range.from);
        const [own, other] = [costAt(mine.points, at).usd, costAt(theirs.points, at).usd];
        if (own === null || other === null || worstExcess === null) return;
        if (onOrBelow) expect(own).toBeLessThanOrEqual(other * (1 + 1e-6) + 1e-6);
        else expect(own).toBeLessThanOrEqual(other * (1 + worstExcess) * (1 + 1e-6) + 1e-6);
      }),
    );
  });

  it('is asked of causal policies only: hindsight is no rival', () => {
    const frontiers = [own, { policy: 'static', points: [point(0.9, 1)] }, { policy: 'aibrix', points: [] }] as const;
    expect(positionsOf(frontiers, 'gpumix').map(({ against }) => against)).toEqual(['aibrix']);
    expect(positionsOf(frontiers, 'single-type-best')).toEqual([]);
  });
});
