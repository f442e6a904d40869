import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BacktestRequest } from '../../../src/simulation/backtest/backtest.js';
import { copiesOf, windowOf } from '../../../src/simulation/backtest/trace-load.js';

async function listOf(stream: AsyncIterable<BacktestRequest>): Promise<readonly BacktestRequest[]> {
  const list: BacktestRequest[] = [];
  for await (const one of stream) list.push(one);
  return list;
}
const at = (atMs: number, inputTokens = 10, outputTokens = 5): BacktestRequest => ({ atMs, inputTokens, outputTokens });
const atTimes = (...times: readonly number[]): readonly BacktestRequest[] => times.map((one, i) => at(one, 10 + i));

describe('a window of a trace', () => {
  test('counts from the first request, and is moved to the start', async () => {
    const trace = atTimes(5000, 6000, 7000, 8000, 9000);
    const window = { fromSeconds: 1, durationSeconds: 2, startMs: 1e6 };
    expect(await listOf(windowOf(trace, window))).toEqual([at(1e6, 11), at(1e6 + 1000, 12)]);
    const rest = await listOf(windowOf(trace, { ...window, durationSeconds: null }));
    expect(rest.map(({ atMs }) => atMs - 1e6)).toEqual([0, 1000, 2000, 3000]);
    expect(await listOf(windowOf([], window))).toEqual([]);
  });

  test('reads no further than its end', async () => {
    let read = 0;
    let closed = false;
    function* trace() {
      try {
        for (;;) yield at(1000 * read++);
      } finally {
        closed = true;
      }
    }
    expect(await listOf(windowOf(trace(), { fromSeconds: 3, durationSeconds: 4, startMs: 0 }))).toHaveLength(4);
    expect([read, closed]).toEqual([8, true]);
  });

  test('refuses what is no window', async () => {
    const window = { fromSeconds: 0, durationSeconds: null, startMs: 0 };
    await expect(listOf(windowOf([], { ...window, fromSeconds: -1 }))).rejects.toThrow('a window from -1 s');
    await expect(listOf(windowOf([], { ...window, durationSeconds: 0 }))).rejects.toThrow('a window of 0 s');
  });
});

describe('copies of a trace', () => {
  const trace = fc
    .array(fc.integer({ min: 0, max: 5000 }), { maxLength: 60 })
    .map((gaps) => gaps.map((_, i) => gaps.slice(0, i + 1).reduce((sum, gap) => sum + gap, 0)))
    .map((times) => times.map((one, i) => at(one, i)));

  test('one copy is the trace itself', async () => {
    const requests = atTimes(0, 0, 5, 90);
    expect(await listOf(copiesOf(requests, { copies: 1, jitterSeconds: 30, seed: 1 }))).toEqual(requests);
  });

  test('every request comes once per copy, within the jitter, ascending, and the same for the same seed', async () => {
    await fc.assert(
      fc.asyncProperty(
        trace,
        fc.integer({ min: 1, max: 5 }),
        fc.nat({ max: 20 }),
        fc.nat(),
        async (requests, copies, jitterSeconds, seed) => {
          const list = await listOf(copiesOf(requests, { copies, jitterSeconds, seed }));
          expect(list).toHaveLength(copies * requests.length);
          for (const [i, { atMs, inputTokens }] of list.entries()) {
            if (i > 0) expect(atMs).toBeGreaterThanOrEqual(list[i - 1]!.atMs);
            const original = requests[inputTokens]!;
            expect(atMs).toBeGreaterThanOrEqual(original.atMs);
            expect(atMs - original.atMs).toBeLessThanOrEqual(1000 * jitterSeconds);
          }
          for (const { inputTokens } of requests) {
            expect(list.filter((one) => one.inputTokens === inputTokens)).toHaveLength(copies);
          }
          expect(await listOf(copiesOf(requests, { copies, jitterSeconds, seed }))).toEqual(list);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('of a fraction the last copy keeps that share, and those before it stay as they are', async () => {
    const requests = Array.from({ length: 4000 }, (_, i) => at(10 * i, i));
    const of = (copies: number, seed = 1) => listOf(copiesOf(requests, { copies, jitterSeconds: 5, seed }));
    const [two, more, half] = [await of(2), await of(2.5), await of(0.5)];
    expect(Math.abs(more.length - 10_000)).toBeLessThan(4 * Math.sqrt(1000));
    expect(Math.abs(half.length - 2000)).toBeLessThan(4 * Math.sqrt(1000));
    const known = new Set(more.map(({ atMs, inputTokens }) => `${atMs} ${inputTokens}`));
    expect(two.every(({ atMs, inputTokens }) => known.has(`${atMs} ${inputTokens}`))).toBe(true);
    expect(await of(0.5, 2)).not.toEqual(half);
    // Jitter is even: its mean is half of it, to four standard errors.
    const later = two.map(({ atMs, inputTokens }) => atMs - 10 * inputTokens).filter((ms) => ms > 0);
    expect(Math.abs(later.reduce((sum, ms) => sum + ms, 0) / later.length - 2500)).toBeLessThan(
      (4 * 1443) / Math.sqrt(4000),
    );
  });

  test('no more of the trace is read than what is asked for', async () => {
    let read = 0;
    function* endless() {
      for (;;) yield at(1000 * read++);
    }
    const stream = copiesOf(endless(), { copies: 3, jitterSeconds: 10, seed: 1 });
    let taken = 0;
    for await (const { atMs } of stream) {
      taken++;
      expect(1000 * read - atMs).toBeLessThanOrEqual(12_000);
      if (taken === 3000) break;
    }
  });

  test('refuses what is no number of copies', async () => {
    for (const copies of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(listOf(copiesOf([], { copies, jitterSeconds: 0, seed: 1 }))).rejects.toThrow(`copies is ${copies}`);
    }
    await expect(listOf(copiesOf([], { copies: 1, jitterSeconds: -1, seed: 1 }))).rejects.toThrow(
      'jitterSeconds is -1',
    );
  });
});
