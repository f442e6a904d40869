import { afterAll, describe, expect, test } from 'vitest';
import { openSolver } from '../../../src/adapters/solvers/engines.js';
import type { Program, SolveLimits } from '../../../src/optimizer/program.js';
import { exactOptimum } from '../../optimizer/exact-oracle.js';
import { seededRandom } from '../../support/seeded-random.js';
import { objectiveInWords, threeModels, tinyJointProgram } from './joint-programs.js';

const limits: SolveLimits = { shouldStop: () => false, timeLimitMs: 20_000, nodeLimit: null, relativeGap: 0 };

describe.each(['highs', 'javascript-lp-solver'] as const)('%s', (name) => {
  const engine = openSolver(name);
  afterAll(() => engine.close());

  /** Two models, one deployment and one bucket each; the second is dearer. */
  const two = (overrides: Partial<Program>): Program => ({
    bucketCount: 2,
    deploymentCount: 2,
    work: Float64Array.of(2.5, Infinity, Infinity, 1.5),
    rate: Float64Array.of(10, 6),
    cost: Float64Array.of(1, 3),
    capacity: Float64Array.of(1, 1),
    lower: new Float64Array(2),
    upper: Float64Array.of(9, 9),
    unservedLimit: 0,
    ...overrides,
  });

  test('solves tiny joint programs to their exact optimum, or says that there is none', async () => {
    const wrong: unknown[] = [];
    const seen = { infeasible: 0, unserved: 0, optimal: 0, feasible: 0, unknown: 0 };
    for (let seed = 1; seed <= 200; seed++) {
      const program = tinyJointProgram(seededRandom(seed));
      const truth = exactOptimum(program);
      const answer = await engine.solve(program, limits);
      seen[answer.status]++;
      if (truth === 'infeasible') {
        if (answer.status !== 'infeasible') wrong.push({ seed, truth, answer });
        continue;
      }
      if (answer.status === 'unknown') continue;
      if (answer.replicas === null) {
        wrong.push({ seed, truth, answer });
        continue;
      }
      if (answer.unserved?.some((share) => share > 0)) seen.unserved++;
      const slack = 1e-6 * Math.max(1, truth.cost);
      const objective = objectiveInWords(program, answer.replicas, answer.unserved);
      // What is not proven may be dearer; the bound may never lie above the truth.
      const missed = answer.status === 'optimal' ? Math.abs(objective - truth.cost) : truth.cost - objective;
      if (missed > slack || answer.bound > truth.cost + slack) wrong.push({ seed, truth, objective, answer });
    }
    expect(wrong).toEqual([]);
    expect(seen.infeasible).toBeGreaterThan(30);
    expect(seen.unserved).toBeGreaterThan(60);
    expect(seen.optimal).toBeGreaterThan(130);
    expect(seen.feasible + seen.unknown).toBeLessThan(5);
  });

  test('leaves the part unserved whose price is the least per GPU', async () => {
    const pool = { use: Float64Array.of(1, 1), limit: 4 };
    const scarce = {
      unservedLimit: Number.POSITIVE_INFINITY,
      unservedPrice: Float64Array.of(100, 500),
      sharedLimits: [pool],
    };
    const answer = await engine.solve(two(scarce), limits);
    // Two replicas of the second serve it whole; the first gets the two GPUs that are left.
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(2, 2) });
    expect(answer.unserved![0]).toBeCloseTo(0.2, 9);
    expect(answer.unserved![1]).toBeCloseTo(0, 9);
    expect(answer.bound).toBeCloseTo(2 + 6 + 20, 6);
  });

  test('lets unserved demand that costs a million times more than replicas not blur their prices', async () => {
    const price = Float64Array.of(3.6e6, 3.6e6);
    const twins: Partial<Program> = { work: Float64Array.of(2.5, 2.5, 1.5, 1.5), cost: Float64Array.of(1.0001, 1) };
    const answer = await engine.solve(two({ ...twins, unservedLimit: Infinity, unservedPrice: price }), limits);
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(0, 4) });
    expect(answer.unserved).toEqual(new Float64Array(2));
  });

  test('minimises unserved demand alone where replicas cost nothing', async () => {
    const answer = await engine.solve(
      two({
        cost: new Float64Array(2),
        unservedLimit: Number.POSITIVE_INFINITY,
        unservedPrice: Float64Array.of(1e-6, 2e-6),
        sharedLimits: [{ use: Float64Array.of(2, 4), limit: 9 }],
      }),
      limits,
    );
    // Eight of the nine GPUs leave a fifth of the first and a third of the second; two of the second and none of the first
    // would leave the whole first.
    expect(answer).toMatchObject({ status: 'optimal', replicas: Float64Array.of(2, 1) });
    expect(answer.bound).toBeCloseTo(0.2e-6 + 2e-6 / 3, 12);
  });

  test('keeps a budget to the last digit of its sum', async () => {
    const tenths = { work: Float64Array.of(1, Infinity, Infinity, 2), cost: Float64Array.of(0.1, 0.1) };
    // 0.1 + 0.1 + 0.1 is 0.30000000000000004.
    const budget = (limit: number) => two({ ...tenths, sharedLimits: [{ use: tenths.cost, limit }] });
    expect(await engine.solve(budget(0.3), limits)).toMatchObject({
      status: 'optimal',
      replicas: Float64Array.of(1, 2),
    });
    expect(await engine.solve(budget(0.29999), limits)).toMatchObject({ status: 'infeasible', replicas: null });
  });

  test('calls infeasible what only whole replicas make so', async () => {
    // 2.5 and 1.5 replicas of work fit in four GPUs, three and two whole ones do not.
    const pool = { use: Float64Array.of(1, 1), limit: 4 };
    expect(await engine.solve(two({ sharedLimits: [pool] }), limits)).toMatchObject({ status: 'infeasible' });
    expect(await engine.solve(two({ sharedLimits: [{ ...pool, limit: 5 }] }), limits)).toMatchObject({
      status: 'optimal',
      replicas: Float64Array.of(3, 2),
    });
  });

  test('stays with what runs where moving costs more than it saves', async () => {
    const either = { work: Float64Array.of(2, 2, 1, 1), cost: Float64Array.of(1, 1.2), upper: Float64Array.of(9, 9) };
    const moving = (start: number, stop: number) =>
      two({
        ...either,
        switching: { current: Float64Array.of(0, 3), start: Float64Array.of(start, 9), stop: Float64Array.of(9, stop) },
      });
    expect(await engine.solve(moving(0.15, 0.1), limits)).toMatchObject({
      replicas: Float64Array.of(0, 3),
      bound: expect.closeTo(3.6, 9) as number,
    });
    expect(await engine.solve(moving(0.1, 0.05), limits)).toMatchObject({
      replicas: Float64Array.of(3, 0),
      bound: expect.closeTo(3.45, 9) as number,
    });
    const unknown = {
      current: Float64Array.of(Number.NaN, Number.NaN),
      start: Float64Array.of(5, 5),
      stop: Float64Array.of(5, 5),
    };
    expect(await engine.solve(two({ ...either, switching: unknown }), limits)).toMatchObject({
      replicas: Float64Array.of(3, 0),
      bound: 3,
    });
  });

  test('leaves the program of its caller whole, and answers in arrays of numbers', async () => {
    const buffer = new Float64Array(1000);
    const work = buffer.subarray(100, 104);
    work.set([1, Infinity, Infinity, 1]);
    const asked = two({ work, unservedLimit: 3, sharedLimits: [{ use: Float64Array.of(1, 1), limit: 4 }] });
    const before = structuredClone(asked);
    const answer = await engine.solve(asked, limits);
    expect(asked).toEqual(before);
    expect(buffer.byteLength).toBe(8000);
    expect(answer.replicas).toBeInstanceOf(Float64Array);
    expect(answer.unserved).toBeInstanceOf(Float64Array);
  });
});

test('the built-in solver refuses what it would leave out of account', () => {
  const engine = openSolver('builtin');
  const program = threeModels(seededRandom(1), 1);
  const { unservedPrice: _, unservedLimits: __, ...plain } = program;
  expect(() => engine.solve({ ...plain, unservedPrice: program.rate }, limits)).toThrow(RangeError);
  const limit = { weight: program.rate, limit: 1 };
  expect(() => engine.solve({ ...plain, unservedLimits: [limit] }, limits)).toThrow(RangeError);
});

describe('engines against each other', () => {
  const highs = openSolver('highs');
  const javascript = openSolver('javascript-lp-solver');
  afterAll(() => Promise.all([highs.close(), javascript.close()]));

  // Sizes at which HiGHS's presolve, and a finer tolerance of wholeness, once cut off optima and called the rest optimal.
  test.each([10, 10_000])(
    'agree on three models that share a pool and a budget, %d times their size',
    async (scale) => {
      let agreed = 0;
      for (let seed = 1; seed <= 40; seed++) {
        const program = threeModels(seededRandom(seed), scale);
        const [one, other] = [await highs.solve(program, limits), await javascript.solve(program, limits)];
        // The second may not end; what it has then is no proof.
        if (other.status === 'unknown') continue;
        expect({ seed, status: one.status }).toEqual({ seed, status: other.status });
        if (one.replicas === null || other.replicas === null) continue;
        const cost = objectiveInWords(program, one.replicas, one.unserved);
        expect({ seed, ratio: objectiveInWords(program, other.replicas, other.unserved) / cost }).toEqual({
          seed,
          ratio: expect.closeTo(1, 6) as number,
        });
        agreed++;
      }
      expect(agreed).toBeGreaterThan(15);
    },
  );
});
