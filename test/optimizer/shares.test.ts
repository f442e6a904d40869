import { describe, expect, it } from 'vitest';
import { branchAndBound } from '../../src/optimizer/branch-and-bound.js';
import type { Program } from '../../src/optimizer/program.js';
import { chooseShares } from '../../src/optimizer/shares.js';
import { type SeededRandom, seededRandom } from '../support/seeded-random.js';
import { optimumByHighs, type Term } from './linear-program.js';
import { randomProgram } from './random-program.js';

/** A program with replicas that serve it, more of them than needed now and then. */
function* decided(seed: number, count: number): Generator<{ program: Program; replicas: Float64Array }> {
  const random = seededRandom(seed);
  for (let made = 0; made < count; ) {
    const program = randomProgram(random, { buckets: 8, deployments: 4, most: 6 });
    const { replicas } = branchAndBound(program, {
      shouldStop: () => false,
      timeLimitMs: 0,
      nodeLimit: null,
      relativeGap: 0,
    });
    if (replicas === null) continue;
    made++;
    yield { program, replicas: replicas.map((count) => count + (random.chance(0.3) ? 1 : 0)) };
  }
}

function utilization(program: Program, replicas: Float64Array, shares: Float64Array): number {
  const { bucketCount, deploymentCount } = program;
  let most = 0;
  for (let d = 0; d < deploymentCount; d++) {
    let work = 0;
    for (let b = 0; b < bucketCount; b++) {
      const share = shares[b * deploymentCount + d]!;
      if (share > 0) work += share * program.work[b * deploymentCount + d]!;
    }
    if (work > 0) most = Math.max(most, work / (program.capacity[d]! * replicas[d]!));
  }
  return most;
}

type Rows = { readonly served: Term[][]; readonly loads: Term[][] };

function rowsOf(program: Program, replicas: Float64Array): Rows {
  const { bucketCount, deploymentCount } = program;
  const served: Term[][] = Array.from({ length: bucketCount }, () => []);
  const loads: Term[][] = Array.from({ length: deploymentCount }, () => []);
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const work = program.work[b * deploymentCount + d]!;
      if (work === Number.POSITIVE_INFINITY || replicas[d] === 0) continue;
      served[b]!.push([1, `x${b}_${d}`]);
      loads[d]!.push([work, `x${b}_${d}`]);
    }
  }
  return { served, loads };
}

function leastUtilization(program: Program, replicas: Float64Array): Promise<number | 'infeasible'> {
  const { served, loads } = rowsOf(program, replicas);
  return optimumByHighs({
    objective: [[1, 't']],
    rows: [
      ...served.map((terms) => ({ terms, sense: '=' as const, right: 1 })),
      ...loads.map((terms, d) => ({
        terms: [...terms, [-program.capacity[d]! * replicas[d]!, 't'] as const],
        sense: '<=' as const,
        right: 0,
      })),
    ],
  });
}

/** Rate that moves: half the sum of the differences where both serve the whole bucket. */
function moved(program: Program, before: Float64Array, after: Float64Array): number {
  let total = 0;
  for (let b = 0; b < program.bucketCount; b++) {
    for (let d = 0; d < program.deploymentCount; d++) {
      const at = b * program.deploymentCount + d;
      total += program.rate[b]! * Math.max(0, before[at]! - after[at]!);
    }
  }
  return total;
}

/** The least rate that must move at a given utilisation. */
function leastMoved(options: {
  readonly program: Program;
  readonly replicas: Float64Array;
  readonly previous: Float64Array;
  readonly utilization: number;
}): Promise<number | 'infeasible'> {
  const { program, replicas, previous } = options;
  const { bucketCount, deploymentCount } = program;
  const { served, loads } = rowsOf(program, replicas);
  const objective: Term[] = [];
  const leaves: { terms: readonly Term[]; sense: '>='; right: number }[] = [];
  for (let b = 0; b < bucketCount; b++) {
    for (let d = 0; d < deploymentCount; d++) {
      const before = previous[b * deploymentCount + d]!;
      if (!(before > 0)) continue;
      objective.push([program.rate[b]!, `m${b}_${d}`]);
      const share = served[b]!.find(([, name]) => name === `x${b}_${d}`);
      leaves.push({
        terms: [[1, `m${b}_${d}`] as const, ...(share === undefined ? [] : [share])],
        sense: '>=',
        right: before,
      });
    }
  }
  return optimumByHighs({
    objective,
    rows: [
      ...served.map((terms) => ({ terms, sense: '=' as const, right: 1 })),
      ...loads.map((terms, d) => ({
        terms,
        sense: '<=' as const,
        right: program.capacity[d]! * replicas[d]! * options.utilization,
      })),
      ...leaves,
    ],
  });
}

function randomShares(random: SeededRandom, program: Program): Float64Array {
  const { bucketCount, deploymentCount } = program;
  const shares = new Float64Array(bucketCount * deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    // Some buckets are new.
    if (random.chance(0.15)) continue;
    const weights = Array.from({ length: deploymentCount }, (_, d) =>
      program.work[b * deploymentCount + d]! < Number.POSITIVE_INFINITY && random.chance(0.6) ? random.next() : 0,
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    if (sum === 0) continue;
    weights.forEach((weight, d) => {
      shares[b * deploymentCount + d] = weight / sum;
    });
  }
  return shares;
}

describe('shares at decided replicas', () => {
  it('have the smallest maximum utilisation that HiGHS finds', async () => {
    for (const { program, replicas } of decided(1, 120)) {
      const shares = chooseShares(program, replicas, null)!;
      const expected = Number(await leastUtilization(program, replicas));
      expect(Math.abs(utilization(program, replicas, shares) - expected)).toBeLessThan(1e-8);
    }
  });

  it('then move as little demand as HiGHS finds must move', async () => {
    const random = seededRandom(20);
    let moving = 0;
    for (const { program, replicas } of decided(2, 120)) {
      const previous = randomShares(random, program);
      const shares = chooseShares(program, replicas, previous)!;
      const allowed = Number(await leastUtilization(program, replicas));
      expect(utilization(program, replicas, shares)).toBeLessThan(allowed + 1e-8);
      const expected = Number(
        await leastMoved({ program, replicas, previous, utilization: Math.min(1, allowed * (1 + 1e-8)) }),
      );
      const rate = program.rate.reduce((sum, value) => sum + value, 0);
      // The hint towards where new demand fills least weighs a millionth; the judge may fill a little more than we do.
      expect(Math.abs(moved(program, previous, shares) - expected)).toBeLessThan(1e-5 * rate);
      if (expected > 0.01) moving++;
    }
    expect(moving).toBeGreaterThan(20);
  });

  it('stay as they are where they are as good as any', () => {
    for (const { program, replicas } of decided(3, 40)) {
      const first = chooseShares(program, replicas, null)!;
      const again = chooseShares(program, replicas, first)!;
      for (let at = 0; at < first.length; at++) expect(Math.abs(again[at]! - first[at]!)).toBeLessThan(1e-6);
    }
  });

  it('sum to 1 exactly, without rounding noise, with nothing on a deployment at zero', () => {
    for (const { program, replicas } of decided(4, 120)) {
      const shares = chooseShares(program, replicas, null)!;
      for (let b = 0; b < program.bucketCount; b++) {
        const row = shares.subarray(b * program.deploymentCount, (b + 1) * program.deploymentCount);
        expect(Math.abs(row.reduce((sum, share) => sum + share, 0) - 1)).toBeLessThan(1e-15);
        row.forEach((share, d) => {
          expect(share === 0 || share >= 1e-11).toBe(true);
          if (replicas[d] === 0) expect(share).toBe(0);
        });
      }
    }
  });

  it('are the same every time', () => {
    for (const { program, replicas } of decided(5, 20)) {
      expect(chooseShares(program, replicas, null)).toEqual(chooseShares(program, replicas, null));
    }
  });

  it('leave unserved what may stay unserved, and no more', () => {
    const program: Program = {
      bucketCount: 2,
      deploymentCount: 1,
      // The second bucket needs more work per request: it is the one to leave.
      work: Float64Array.of(1, 2),
      rate: Float64Array.of(1, 1),
      cost: Float64Array.of(1),
      capacity: Float64Array.of(1),
      lower: Float64Array.of(0),
      upper: Float64Array.of(2),
      unservedLimit: 0.5,
    };
    const shares = chooseShares(program, Float64Array.of(2), null)!;
    expect(shares[0]).toBe(1);
    expect(shares[1]).toBeCloseTo(0.5, 9);
    expect(chooseShares(program, Float64Array.of(1), null)).toBeNull();
  });

  it('do not exist where the replicas are too few', () => {
    let tried = 0;
    for (const { program, replicas } of decided(6, 60)) {
      const fewer = replicas.map((count, d) => Math.max(program.lower[d]!, Math.floor(count / 3)));
      const total = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0);
      if (total(fewer) * 2 > total(replicas)) continue;
      const shares = chooseShares(program, fewer, null);
      if (shares !== null) expect(utilization(program, fewer, shares)).toBeLessThan(1 + 1e-9);
      else tried++;
    }
    expect(tried).toBeGreaterThan(5);
  });
});
