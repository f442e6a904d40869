import { describe, expect, it } from 'vitest';
import { drawArrivals } from '../../src/profiling/arrivals.js';
import { withSettledThroughput } from '../../src/profiling/settled-throughput.js';
import { measure } from '../../src/profiling/steady-state.js';
import { cell, judged, outcome, outcomes, plan } from './run-builders.js';

describe('the throughput of a run', () => {
  it('is its rate where completions differ from it by chance alone, on any arrivals', () => {
    const settled = Array.from({ length: 40 }, (_, seed) => {
      const schedule = drawArrivals({ kind: 'poisson', requestRate: 2, count: 120, seed, lengths: cell(100, 11) });
      const run = schedule.map(({ id, atSeconds }) => outcome({ id, sentSeconds: atSeconds }));
      const counted = measure(run, plan({ requestRate: 2, arrivals: 'poisson', seed }));
      return { counted: counted.throughputRps, settled: withSettledThroughput(counted).throughputRps };
    });
    expect(new Set(settled.map((one) => one.settled)).has(2)).toBe(true);
    expect(settled.filter((one) => one.settled === 2).length).toBeGreaterThanOrEqual(38);
    // As counted, they are spread: what this is for.
    expect(Math.max(...settled.map((one) => one.counted))).toBeGreaterThan(2.1);
    expect(Math.min(...settled.map((one) => one.counted))).toBeLessThan(1.9);
  });

  it('scales tokens with requests', () => {
    const { measurement } = judged(
      outcomes(60, () => ({}), 0.52),
      { plan: { requestRate: 2 } },
    );
    const settled = withSettledThroughput(measurement);
    expect(settled.throughputRps).toBe(2);
    expect(settled.outputTokensPerSecond).toBeCloseTo(22, 6);
  });

  it('stays as counted where it differs by more, and in runs that were cut off or never steady', () => {
    const slow = judged(outcomes(1000, () => ({}), 1.25)).measurement;
    expect(withSettledThroughput(slow)).toBe(slow);
    const aborted = judged(outcomes(60), { plan: { aborted: 'hopeless' } }).measurement;
    expect(withSettledThroughput(aborted)).toBe(aborted);
    const short = judged(outcomes(2)).measurement;
    expect(withSettledThroughput(short)).toBe(short);
  });
});
