import { afterAll, describe, expect, test } from 'vitest';
import { openSolver } from '../../../src/adapters/solvers/engines.js';
import type { SolveLimits } from '../../../src/optimizer/program.js';
import { exactOptimum } from '../../optimizer/exact-oracle.js';
import { seededRandom } from '../../support/seeded-random.js';
import { objectiveInWords, tinyJointProgram } from './joint-programs.js';

const limits: SolveLimits = { shouldStop: () => false, timeLimitMs: 20_000, nodeLimit: null, relativeGap: 0 };

describe.each(['highs', 'javascript-lp-solver'] as const)('%s on tiny joint programs', (name) => {
  const engine = openSolver(name);
  afterAll(() => engine.close());

  test('finds the exact optimum of each, or that there is none', async () => {
    const wrong: unknown[] = [];
    const seen = { infeasible: 0, unserved: 0, optimal: 0, unknown: 0, open: 0 };
    for (let seed = 1; seed <= Number(process.env.SEEDS ?? 300); seed++) {
      const program = tinyJointProgram(seededRandom(seed));
      const truth = exactOptimum(program);
      const answer = await engine.solve(program, limits);
      if (truth === 'infeasible') {
        seen.infeasible++;
        if (answer.replicas !== null || answer.status !== 'infeasible') wrong.push({ seed, truth, answer });
        continue;
      }
      if (answer.replicas === null) {
        seen.unknown++;
        wrong.push({ seed, truth, answer });
        continue;
      }
      if (answer.status === 'feasible') seen.open++;
      else seen.optimal++;
      const objective = objectiveInWords(program, answer.replicas, answer.unserved);
      if (answer.unserved?.some((share) => share > 0)) seen.unserved++;
      const slack = 1e-6 * Math.max(1, truth.cost);
      if (Math.abs(objective - truth.cost) > slack || answer.bound > truth.cost + slack) {
        wrong.push({ seed, truth, objective, answer });
      }
    }
    console.log(seen);
    expect(wrong).toEqual([]);
  });
});
