import { describe, expect, test } from 'vitest';
import { jointFleet, withPools } from '../../benchmarks/joint-instances.js';
import { costOfValues, highsEngine } from '../../benchmarks/mip.js';
import { wholeProgram } from '../../benchmarks/whole-program.js';
import { highsRuntime } from '../../src/adapters/solvers/highs.js';

const highs = highsEngine(await highsRuntime());
const fleet = jointFleet({ models: 4, gpuTypes: 4, buckets: 10, seed: 21 });
const limits = { timeLimitMs: 60_000, relativeGap: 0 };

describe('a joint problem as one program', () => {
  test('without pools it costs what the models cost alone', () => {
    const { mip, replicasOf } = wholeProgram(withPools(fleet, Number.POSITIVE_INFINITY).problem);
    const { status, values } = highs.solve(mip, limits);
    expect(status).toBe('optimal');
    expect(costOfValues(mip, values!)).toBeCloseTo(fleet.freeUsdPerHour, 6);
    expect(replicasOf(values!)).toBeInstanceOf(Array);
  });

  test('with pools it costs at least that, at most the witness, and fits them', () => {
    const { problem, witnessUsdPerHour } = withPools(fleet, 0.7);
    const { mip, replicasOf } = wholeProgram(problem);
    const { values, bound } = highs.solve(mip, limits);
    const cost = costOfValues(mip, values!);
    expect(cost).toBeGreaterThan(fleet.freeUsdPerHour);
    expect(cost).toBeLessThanOrEqual(witnessUsdPerHour * (1 + 1e-9));
    expect(bound).toBeLessThanOrEqual(cost * (1 + 1e-9));
    expect(replicasOf(values!)).toBeInstanceOf(Array);
  });

  test('an answer that does not fit is refused with the reason', () => {
    const { problem } = withPools(fleet, 0.7);
    const { mip, replicasOf } = wholeProgram(problem);
    const values = highs.solve(mip, limits).values!;
    const scaled = (factor: (column: number) => number) => values.map((value, c) => value * factor(c));
    expect(replicasOf(scaled((c) => (mip.columns[c]!.whole ? 0 : 1)))).toMatch(/replicas of work on 0$/);
    expect(replicasOf(scaled((c) => (mip.columns[c]!.whole ? 1 : 0.5)))).toMatch(/of a bucket is served$/);
    expect(replicasOf(scaled((c) => (mip.columns[c]!.whole ? 100 : 1)))).toMatch(/ GPUs of .*, of \d+$/);
  });
});
