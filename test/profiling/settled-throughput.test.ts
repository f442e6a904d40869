import { describe, expect, it } from 'vitest';
import { drawArrivals } from '../../src/profiling/arrivals.js';
import { withSettledThroughput } from '../../src/profiling/settled-throughput.js';
import { measure } from '../../src/profiling/steady-state.js';
import { cell, judged, outcome, outcomes, plan } from './run-builders.js';

/** Runs of one server, by seed: what throughput is settled and what is counted, as parts of the rate. */
function sharesOf(serve: (arrivals: readonly number[]) => readonly Parameters<typeof outcome>[0][]) {
  return Array.from({ length: 60 }, (_, seed) => {
    const schedule = drawArrivals({ kind: 'poisson', requestRate: 2, count: 120, seed, lengths: cell(100, 11) });
    const arrivals = schedule.map(({ atSeconds }) => atSeconds);
    const run = serve(arrivals).map((one, id) => outcome({ id, sentSeconds: arrivals[id]!, ...one }));
    const counted = measure(run, plan({ requestRate: 2, arrivals: 'poisson', seed }));
    return { counted: counted.throughputRps / 2, settled: withSettledThroughput(counted).throughputRps / 2 };
  });
}

/** One request after another, each for the same time. */
const fifo = (serviceSeconds: number) => (arrivals: readonly number[]) => {
  let free = 0;
  return arrivals.map((at) => {
    free = Math.max(at, free) + serviceSeconds;
    return { firstTokenSeconds: free - serviceSeconds, endSeconds: free };
  });
};

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('the throughput of a run', () => {
  it('is nearly its rate where the server keeps up, on any arrivals', () => {
    const shares = sharesOf((arrivals) => arrivals.map(() => ({})));
    expect(Math.min(...shares.map(({ settled }) => settled))).toBeGreaterThan(0.93);
    expect(mean(shares.map(({ settled }) => settled))).toBeGreaterThan(0.98);
    expect(Math.max(...shares.map(({ settled }) => settled))).toBeLessThanOrEqual(1);
    // As counted, they are spread: what this is for.
    expect(Math.max(...shares.map(({ counted }) => counted))).toBeGreaterThan(1.05);
    expect(Math.min(...shares.map(({ counted }) => counted))).toBeLessThan(0.95);
  });

  it('is what an overrun server completes, not the rate', () => {
    const shares = sharesOf(fifo(1 / (0.8 * 2)));
    expect(mean(shares.map(({ settled }) => settled))).toBeGreaterThan(0.74);
    expect(mean(shares.map(({ settled }) => settled))).toBeLessThan(0.9);
  });

  it('leaves out what failed', () => {
    const shares = sharesOf((arrivals) =>
      arrivals.map((at, id) => (id % 5 === 0 ? { failure: 'http_429', firstTokenSeconds: null, endSeconds: at } : {})),
    );
    expect(mean(shares.map(({ settled }) => settled))).toBeGreaterThan(0.76);
    expect(mean(shares.map(({ settled }) => settled))).toBeLessThan(0.84);
  });

  it('scales tokens with requests', () => {
    const { measurement } = judged(
      outcomes(60, () => ({}), 0.52),
      { plan: { requestRate: 2 } },
    );
    const settled = withSettledThroughput(measurement);
    expect(settled.outputTokensPerSecond / settled.throughputRps).toBeCloseTo(11, 6);
  });

  it('stays as counted in runs that were cut off or never steady', () => {
    const aborted = judged(outcomes(60), { plan: { aborted: 'hopeless' } }).measurement;
    expect(withSettledThroughput(aborted)).toBe(aborted);
    const short = judged(outcomes(2)).measurement;
    expect(withSettledThroughput(short)).toBe(short);
  });
});
