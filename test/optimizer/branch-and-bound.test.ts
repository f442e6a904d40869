import { describe, expect, it } from 'vitest';
import { branchAndBound } from '../../src/optimizer/branch-and-bound.js';
import { mergeBuckets } from '../../src/optimizer/merge.js';
import type { Program, SolveLimits } from '../../src/optimizer/program.js';
import { fitLp, sharesFit } from '../../src/optimizer/program-lp.js';
import { seededRandom } from '../support/seeded-random.js';
import { exactOptimum } from './exact-oracle.js';
import { costOf, randomProgram } from './random-program.js';

const unlimited: SolveLimits = { shouldStop: () => false, timeLimitMs: 0, nodeLimit: null, relativeGap: 0 };

function fits(program: Program, replicas: Float64Array): boolean {
  const lp = fitLp(program);
  return sharesFit(lp, replicas) === 'fits';
}

/** Merged to few buckets, as a window of thousands is; the raw program keeps its own. */
function merge(raw: Program, maxBuckets: number): Program {
  const merged = mergeBuckets({ ...raw, price: raw.cost, maxBuckets });
  return { ...raw, bucketCount: merged.count, work: merged.work, rate: merged.rate };
}

/** Programs that take some nodes. */
function* hardPrograms(seed: number, count: number): Generator<Program> {
  const random = seededRandom(seed);
  for (let i = 0; i < count; i++) {
    const program = randomProgram(random, { buckets: 30, deployments: 7, most: 30 });
    yield { ...program, work: program.work.map((work) => work * 3) };
  }
}

describe('branch and bound', () => {
  it('finds the exact optimum of small programs, or that there is none', () => {
    const random = seededRandom(1);
    const seen = { optimal: 0, infeasible: 0 };
    for (let i = 0; i < 150; i++) {
      const program = randomProgram(random, { buckets: 5, deployments: 3, most: 4 });
      const exact = exactOptimum(program);
      const solution = branchAndBound(program, unlimited);
      if (exact === 'infeasible') {
        expect(solution.status, `case ${i}`).toBe('infeasible');
        expect(solution.replicas).toBeNull();
        seen.infeasible++;
        continue;
      }
      expect(solution.status, `case ${i}`).toBe('optimal');
      expect(costOf(program, solution.replicas!), `case ${i}`).toBeCloseTo(exact.cost, 9);
      expect(solution.bound, `case ${i}`).toBeCloseTo(exact.cost, 9);
      expect(fits(program, solution.replicas!), `case ${i}`).toBe(true);
      seen.optimal++;
    }
    expect(seen.optimal).toBeGreaterThan(60);
    expect(seen.infeasible).toBeGreaterThan(10);
  });

  it('proves the optimum of the raw buckets while it searches merged ones', () => {
    const random = seededRandom(2);
    let dearerMerged = 0;
    let optimal = 0;
    for (let i = 0; i < 150; i++) {
      const raw = randomProgram(random, { buckets: 8, deployments: 3, most: 4 });
      const exact = exactOptimum(raw);
      const merged = merge(raw, 2);
      const solution = branchAndBound(merged, unlimited, { raw });
      if (exact === 'infeasible') {
        expect(solution.replicas, `case ${i}`).toBeNull();
        continue;
      }
      optimal++;
      expect(solution.status, `case ${i}`).toBe('optimal');
      expect(costOf(raw, solution.replicas!), `case ${i}`).toBeCloseTo(exact.cost, 9);
      const mergedAlone = branchAndBound(merged, unlimited);
      if (mergedAlone.replicas === null || costOf(raw, mergedAlone.replicas) > exact.cost + 1e-9) dearerMerged++;
    }
    expect(optimal).toBeGreaterThan(60);
    // The raw buckets must have mattered.
    expect(dearerMerged).toBeGreaterThan(10);
  });

  it('says the same of merged and of raw buckets where many nodes are settled on the raw ones', () => {
    // Candidates are tested on raw buckets between a node's bound and the narrowing of its box: neither may mix with
    // the other's prices.
    let optimal = 0;
    for (const raw of hardPrograms(3, 60)) {
      const direct = branchAndBound(raw, unlimited);
      const solution = branchAndBound(merge(raw, 4), unlimited, { raw });
      expect(solution.status).toBe(direct.status);
      if (direct.status !== 'optimal') continue;
      expect(costOf(raw, solution.replicas!)).toBeCloseTo(costOf(raw, direct.replicas!), 8);
      optimal++;
    }
    expect(optimal).toBeGreaterThan(20);
  });

  it('ends at a limit of nodes with its best answer and a bound below the optimum, the same every time', () => {
    let cutShort = 0;
    for (const program of hardPrograms(4, 60)) {
      const whole = branchAndBound(program, unlimited);
      if (whole.status !== 'optimal' || whole.nodes < 4) continue;
      const optimum = costOf(program, whole.replicas!);
      const limits = { ...unlimited, nodeLimit: 2 };
      const short = branchAndBound(program, limits);
      expect(short.nodes).toBeLessThanOrEqual(2);
      expect(short.bound).toBeLessThanOrEqual(optimum + 1e-9);
      expect(short.replicas).not.toBeNull();
      expect(fits(program, short.replicas!)).toBe(true);
      const cost = costOf(program, short.replicas!);
      expect(cost).toBeGreaterThanOrEqual(optimum - 1e-9);
      expect(short.status).toBe(short.bound >= cost - 1e-9 * Math.max(1, cost) ? 'optimal' : 'feasible');
      expect(branchAndBound(program, limits)).toEqual(short);
      cutShort++;
    }
    expect(cutShort).toBeGreaterThan(10);
  });

  it('asks between nodes whether to stop, and always looks at one', () => {
    for (const program of hardPrograms(5, 10)) {
      const stopped = branchAndBound(program, { ...unlimited, shouldStop: () => true });
      expect(stopped.nodes).toBeLessThanOrEqual(1);
      expect(stopped.status).not.toBe('unknown');
    }
  });

  it('stays within the gap that it is allowed, and states the bound that it has', () => {
    let fewer = 0;
    for (const program of hardPrograms(6, 60)) {
      const whole = branchAndBound(program, unlimited);
      if (whole.status !== 'optimal') continue;
      const optimum = costOf(program, whole.replicas!);
      for (const relativeGap of [0.001, 0.05]) {
        const near = branchAndBound(program, { ...unlimited, relativeGap });
        const cost = costOf(program, near.replicas!);
        expect(cost).toBeLessThanOrEqual(optimum * (1 + relativeGap) + 1e-9);
        expect(near.bound).toBeLessThanOrEqual(optimum + 1e-9);
        expect(near.bound).toBeGreaterThanOrEqual(cost * (1 - relativeGap) - 1e-9);
        expect(near.status === 'optimal').toBe(cost - near.bound <= 1e-9 * Math.max(1, cost));
        if (near.nodes < whole.nodes) fewer++;
      }
    }
    expect(fewer).toBeGreaterThan(10);
  });

  it('keeps the replicas that run among answers of equal cost', () => {
    // Two deployments alike but for their names' order: 3 replicas in all, any way.
    const program: Program = {
      bucketCount: 1,
      deploymentCount: 3,
      work: Float64Array.of(3, 3, 9),
      rate: Float64Array.of(1),
      cost: Float64Array.of(1, 1, 1),
      capacity: Float64Array.of(1, 1, 1),
      lower: new Float64Array(3),
      upper: new Float64Array(3).fill(5),
      unservedLimit: 0,
    };
    for (const running of [
      [3, 0, 0],
      [2, 1, 0],
      [0, 3, 0],
    ]) {
      const solution = branchAndBound(program, unlimited, { incumbent: Float64Array.from(running) });
      expect([...solution.replicas!]).toEqual(running);
      expect(solution.status).toBe('optimal');
    }
    // What runs is dropped where it costs more, and cut to its bounds.
    const dear = branchAndBound(program, unlimited, { incumbent: Float64Array.of(9, 9, 9) });
    expect(costOf(program, dear.replicas!)).toBe(3);
  });

  it('proves equal prices by their step: one node is enough', () => {
    const random = seededRandom(7);
    const program = randomProgram(random, { buckets: 20, deployments: 6, most: 40 });
    const equal = { ...program, cost: program.cost.map(() => 2.5), upper: program.upper.map(() => 40) };
    const solution = branchAndBound(equal, unlimited);
    expect(solution.status).toBe('optimal');
    expect(solution.nodes).toBeLessThanOrEqual(3);
  });
});

describe('whether replicas serve the demand', () => {
  it('agrees with exact arithmetic', () => {
    const random = seededRandom(8);
    const seen = { fits: 0, impossible: 0 };
    for (let i = 0; i < 200; i++) {
      const program = randomProgram(random, { buckets: 5, deployments: 3, most: 3 });
      const replicas = Float64Array.from(program.lower, (low, d) => random.whole(low, program.upper[d]!));
      const expected = exactOptimum({ ...program, lower: replicas, upper: replicas });
      const lp = fitLp(program);
      const answer = sharesFit(lp, replicas);
      expect(answer, `case ${i}`).toBe(expected === 'infeasible' ? 'impossible' : 'fits');
      seen[answer === 'fits' ? 'fits' : 'impossible']++;
    }
    expect(seen.fits).toBeGreaterThan(40);
    expect(seen.impossible).toBeGreaterThan(40);
  });
});
