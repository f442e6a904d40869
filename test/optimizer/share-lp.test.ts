import { describe, expect, it } from 'vitest';
import { type LpColumn, ShareLp, type ShareLpInput } from '../../src/optimizer/share-lp.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { optimumByHighs, type Term } from './linear-program.js';

const missing = Number.POSITIVE_INFINITY;

/** What a test needs besides the program: it is told bounds and closed rows after it is made. */
type Case = ShareLpInput & { readonly closed: readonly boolean[] };

/** A program like those of plans: a column of replicas for every row, sometimes arcs with costs, sometimes room given. */
function randomCase(random: SeededRandom): Case {
  const rowCount = random.whole(1, 5);
  const bucketCount = random.whole(1, 8);
  const arcWork = new Float64Array(bucketCount * rowCount);
  for (let b = 0; b < bucketCount; b++) {
    const always = random.whole(0, rowCount - 1);
    for (let d = 0; d < rowCount; d++) {
      const exists = d === always || random.chance(0.8);
      // Round numbers make ties, which is where a simplex goes astray.
      arcWork[b * rowCount + d] = !exists ? missing : random.chance(0.5) ? random.whole(1, 4) : random.between(0.1, 5);
    }
  }
  const columns = Array.from({ length: rowCount }, (_, d): LpColumn => {
    const vector = new Float64Array(rowCount);
    vector[d] = -random.pick([1, 0.8, 2]);
    const lower = random.chance(0.3) ? random.whole(1, 3) : 0;
    return { vector, cost: random.whole(0, 5), lower, upper: lower + random.whole(0, 12) };
  });
  return {
    bucketCount,
    rowCount,
    arcWork,
    ...(random.chance(0.3) ? { arcCost: arcWork.map(() => random.whole(0, 3)) } : {}),
    columns,
    rhs: Float64Array.from({ length: rowCount }, () => (random.chance(0.3) ? random.between(0, 3) : 0)),
    closed: Array.from({ length: rowCount }, () => random.chance(0.1)),
  };
}

function made(input: Case): ShareLp {
  const lp = new ShareLp(input);
  input.closed.forEach((closed, d) => {
    lp.setClosed(d, closed);
  });
  return lp;
}

async function judged(input: Case): Promise<number | 'infeasible'> {
  const { bucketCount, rowCount, arcWork, arcCost, columns, rhs, closed } = input;
  const objective: Term[] = columns.map(({ cost }, j) => [cost, `s${j}`]);
  const loads: Term[][] = Array.from({ length: rowCount }, () => []);
  const served: Term[][] = Array.from({ length: bucketCount }, () => []);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < rowCount; d++) {
      const work = arcWork[b * rowCount + d]!;
      if (work === missing || closed[d]) continue;
      served[b]!.push([1, `x${b}_${d}`]);
      loads[d]!.push([work, `x${b}_${d}`]);
      if (arcCost !== undefined) objective.push([arcCost[b * rowCount + d]!, `x${b}_${d}`]);
    }
  }
  if (served.some((terms) => terms.length === 0)) return 'infeasible';
  columns.forEach(({ vector }, j) => {
    vector.forEach((factor, d) => {
      if (factor !== 0) loads[d]!.push([factor, `s${j}`]);
    });
  });
  return optimumByHighs({
    objective,
    rows: [
      ...served.map((terms) => ({ terms, sense: '=' as const, right: 1 })),
      ...loads.map((terms, d) => ({ terms, sense: '<=' as const, right: rhs[d]! })),
    ],
    bounds: columns.map(({ lower, upper }, j) => ({ name: `s${j}`, lower, upper })),
  });
}

/** The most that shares and columns miss any constraint by. */
function largestViolation(input: Case, lp: ShareLp): number {
  const { bucketCount, rowCount, arcWork, columns, rhs, closed } = input;
  const shares = new Float64Array(bucketCount * rowCount);
  lp.readShares(shares);
  const load = new Float64Array(rowCount);
  let worst = 0;
  for (let b = 0; b < bucketCount; b++) {
    let sum = 0;
    for (let d = 0; d < rowCount; d++) {
      const share = shares[b * rowCount + d]!;
      sum += share;
      if (share === 0) continue;
      if (closed[d] || share < 0) return Number.POSITIVE_INFINITY;
      load[d] = load[d]! + share * arcWork[b * rowCount + d]!;
    }
    worst = Math.max(worst, Math.abs(sum - 1));
  }
  columns.forEach(({ vector, lower, upper }, j) => {
    const value = lp.columnValue(j);
    worst = Math.max(worst, lower - value, value - upper);
    vector.forEach((factor, d) => {
      load[d] = load[d]! + factor * value;
    });
  });
  load.forEach((amount, d) => {
    worst = Math.max(worst, amount - rhs[d]!);
  });
  return worst;
}

function near(value: number, other: number): boolean {
  return Math.abs(value - other) <= 1e-7 * Math.max(1, Math.abs(other));
}

describe('the linear program of shares', () => {
  it('has the optimum that HiGHS finds, with shares that fit and a bound that meets it', async () => {
    const random = seededRandom(1);
    const seen = { optimal: 0, infeasible: 0 };
    for (let i = 0; i < 250; i++) {
      const input = randomCase(random);
      const lp = made(input);
      const outcome = lp.solve();
      const expected = await judged(input);
      if (expected === 'infeasible') {
        expect(outcome, `case ${i}`).toBe('infeasible');
        // The ray proves it: along it the bound passes every cost there could be.
        expect(lp.boundAt(lp.pricesAlongRay(1e9)), `case ${i}`).toBeGreaterThan(1e3);
        seen.infeasible++;
        continue;
      }
      seen.optimal++;
      expect(outcome, `case ${i}`).toBe('optimal');
      expect(near(lp.objective(), expected), `case ${i}: ${lp.objective()} against ${expected}`).toBe(true);
      expect(near(lp.boundAt(lp.prices), expected), `case ${i}: bound ${lp.boundAt(lp.prices)}`).toBe(true);
      expect(largestViolation(input, lp), `case ${i}`).toBeLessThan(1e-9);
    }
    expect(seen.optimal).toBeGreaterThan(100);
    expect(seen.infeasible).toBeGreaterThan(20);
  });

  it('has no bound above the optimum, whatever the prices', async () => {
    const random = seededRandom(2);
    let tried = 0;
    for (let i = 0; i < 60; i++) {
      const input = randomCase(random);
      const expected = await judged(input);
      if (expected === 'infeasible') continue;
      const lp = made(input);
      for (let k = 0; k < 40; k++) {
        const prices = Float64Array.from({ length: input.rowCount }, () =>
          random.chance(0.2) ? 0 : random.chance(0.1) ? -random.next() : random.logBetween(1e-3, 1e2),
        );
        expect(lp.boundAt(prices)).toBeLessThanOrEqual(expected + 1e-9 * Math.max(1, Math.abs(expected)));
        tried++;
      }
    }
    expect(tried).toBeGreaterThan(1000);
  });

  it('comes to the same optimum from a basis of other bounds, and from any prices', () => {
    const random = seededRandom(3);
    let optimal = 0;
    for (let i = 0; i < 400; i++) {
      const input = randomCase(random);
      const lp = made(input);
      lp.solve();
      const basis = lp.saveBasis();
      // Like a child in a tree: one column gets narrower, its row may close.
      const column = random.whole(0, input.columns.length - 1);
      const { lower, upper } = input.columns[column]!;
      const split = random.whole(lower, upper);
      const narrowed = random.chance(0.5) ? { lower, upper: split } : { lower: split, upper };
      const closed = input.closed.map((was, d) => was || (d === column && narrowed.upper === 0));
      const changed: Case = {
        ...input,
        columns: input.columns.map((it, j) => (j === column ? { ...it, ...narrowed } : it)),
        closed,
      };
      const fresh = made(changed);
      const expected = fresh.solve();
      // Solved for something else in between, so that only the saved basis can help.
      lp.setBounds(column, upper, upper);
      lp.solve();
      lp.setBounds(column, narrowed.lower, narrowed.upper);
      closed.forEach((isClosed, d) => {
        lp.setClosed(d, isClosed);
      });
      lp.loadBasis(basis);
      expect(lp.solve(), `case ${i}`).toBe(expected);
      const anywhere = made(changed);
      anywhere.startAt(Float64Array.from({ length: input.rowCount }, () => random.logBetween(1e-3, 1e2)));
      expect(anywhere.solve(), `case ${i} from any prices`).toBe(expected);
      if (expected !== 'optimal') continue;
      optimal++;
      expect(near(lp.objective(), fresh.objective()), `case ${i}`).toBe(true);
      expect(near(anywhere.objective(), fresh.objective()), `case ${i} from any prices`).toBe(true);
    }
    expect(optimal).toBeGreaterThan(150);
  });

  it('serves nothing on a closed row, however small the work', () => {
    const lp = new ShareLp({
      bucketCount: 1,
      rowCount: 2,
      arcWork: Float64Array.of(1e-15, 1),
      columns: [
        { vector: Float64Array.of(-1, 0), cost: 5, lower: 0, upper: 9 },
        { vector: Float64Array.of(0, -1), cost: 1, lower: 0, upper: 9 },
      ],
      rhs: new Float64Array(2),
    });
    lp.setClosed(0, true);
    expect(lp.solve()).toBe('optimal');
    expect(lp.objective()).toBeCloseTo(1, 12);
    const shares = new Float64Array(2);
    lp.readShares(shares);
    expect([...shares]).toEqual([0, 1]);
    lp.setClosed(1, true);
    expect(lp.solve()).toBe('infeasible');
    expect(lp.boundAt(lp.prices)).toBe(Number.POSITIVE_INFINITY);
  });

  it('stops at a cutoff only where the optimum is not below it', () => {
    const random = seededRandom(4);
    const seen = { cutoff: 0, optimal: 0 };
    for (let i = 0; i < 300; i++) {
      const input = randomCase(random);
      const whole = made(input);
      if (whole.solve() !== 'optimal') continue;
      const optimum = whole.objective();
      const cutoff = optimum * random.pick([0.5, 0.9, 1.1, 2]) + random.pick([-0.1, 0.1]);
      const lp = made(input);
      const outcome = lp.solve(cutoff);
      if (outcome === 'cutoff') {
        expect(lp.boundAt(lp.prices)).toBeGreaterThanOrEqual(cutoff - 1e-9 * Math.max(1, Math.abs(cutoff)));
        expect(optimum).toBeGreaterThanOrEqual(cutoff - 1e-7);
        seen.cutoff++;
      } else {
        expect(outcome).toBe('optimal');
        expect(near(lp.objective(), optimum)).toBe(true);
        seen.optimal++;
      }
    }
    expect(seen.cutoff).toBeGreaterThan(30);
    expect(seen.optimal).toBeGreaterThan(30);
  });

  it('ends in a few steps where all prices tie: works in proportion, equal costs', async () => {
    const random = seededRandom(5);
    for (let i = 0; i < 40; i++) {
      const rowCount = random.whole(2, 6);
      const bucketCount = random.whole(20, 120);
      const speed = Array.from({ length: rowCount }, () => random.pick([1, 1, 2]));
      const arcWork = new Float64Array(bucketCount * rowCount);
      for (let b = 0; b < bucketCount; b++) {
        const size = random.pick([0.1, 0.25, 1]);
        // Most buckets in proportion, so that most bases have the same prices; a few that break the pattern.
        for (let d = 0; d < rowCount; d++) {
          arcWork[b * rowCount + d] = (size / speed[d]!) * (random.chance(0.1) ? random.pick([1, 1.5]) : 1);
        }
      }
      const half = arcWork.reduce((sum, work) => sum + work, 0) / rowCount / rowCount;
      const input: Case = {
        bucketCount,
        rowCount,
        arcWork,
        columns: speed.map((factor, d): LpColumn => {
          const vector = new Float64Array(rowCount);
          vector[d] = -1;
          return {
            vector,
            cost: factor,
            lower: 0,
            upper: d === 0 ? 4 * rowCount * half : Math.floor(half * random.next()),
          };
        }),
        rhs: new Float64Array(rowCount),
        closed: speed.map(() => false),
      };
      const lp = made(input);
      expect(lp.solve(), `case ${i}`).toBe('optimal');
      expect(lp.pivots, `case ${i}`).toBeLessThan(40 * rowCount);
      const expected = await judged(input);
      expect(near(lp.objective(), Number(expected)), `case ${i}: ${lp.objective()} against ${expected}`).toBe(true);
      expect(largestViolation(input, lp), `case ${i}`).toBeLessThan(1e-9);
    }
  });

  it('needs no more steps for thousands of buckets than for a few', () => {
    const random = seededRandom(6);
    const rowCount = 6;
    const stepsFor = (bucketCount: number): number => {
      const arcWork = Float64Array.from(
        { length: bucketCount * rowCount },
        () => random.logBetween(0.2, 5) / bucketCount,
      );
      const lp = new ShareLp({
        bucketCount,
        rowCount,
        arcWork,
        columns: Array.from({ length: rowCount }, (_, d): LpColumn => {
          const vector = new Float64Array(rowCount);
          vector[d] = -1;
          return { vector, cost: 1 + d, lower: 0, upper: d === rowCount - 1 ? 10 : 0.1 };
        }),
        rhs: new Float64Array(rowCount),
      });
      expect(lp.solve()).toBe('optimal');
      return lp.pivots;
    };
    expect(stepsFor(50)).toBeLessThan(60);
    expect(stepsFor(5000)).toBeLessThan(60);
  });
});
