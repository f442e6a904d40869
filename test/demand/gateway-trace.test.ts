import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gatewayBucketIndex, tokensOfBucketIndex } from '../../src/core/token-bucket.js';
import { type FinishedInterval, type GatewayRequest, GatewayTrace } from '../../src/demand/gateway-trace.js';
import { formatTraceRecord, parseTraceRecord } from '../../src/demand/trace-record.js';
import { bucket, start } from './traces.js';

const request = (atSeconds: number, seconds: number, overrides: Partial<GatewayRequest> = {}): GatewayRequest => ({
  atMs: (start + atSeconds) * 1000,
  completesAtMs: (start + atSeconds + seconds) * 1000,
  inputTokens: 250,
  outputTokens: 33,
  ...overrides,
});

/** All records of a list of requests, as [seconds after the start, record]. */
function recordsOf(requests: readonly GatewayRequest[]): readonly FinishedInterval[] {
  const trace = new GatewayTrace();
  return [...requests.flatMap((one) => trace.add(one)), ...trace.finish()];
}

describe('a gateway trace', () => {
  it('counts an arrival in its window and its length in the window where it completes', () => {
    expect(recordsOf([request(3, 12)])).toMatchObject([
      { endSeconds: start + 10, record: { arrivals: 1, pending: 1, buckets: [] } },
      { endSeconds: start + 20, record: { arrivals: 0, pending: 0, buckets: [bucket(256, 32, 1)] } },
    ]);
  });

  it('names a window by its end, which is not part of it', () => {
    const ends = recordsOf([request(0, 1), request(9.999, 0), request(10, 0)]).map(({ endSeconds, record }) => [
      endSeconds - start,
      record.arrivals,
    ]);
    expect(ends).toEqual([
      [10, 2],
      [20, 1],
    ]);
  });

  it('counts a completion on the very tick in the next window, and as pending at the tick', () => {
    expect(recordsOf([request(5, 5)])).toMatchObject([
      { endSeconds: start + 10, record: { arrivals: 1, pending: 1, buckets: [] } },
      { endSeconds: start + 20, record: { arrivals: 0, pending: 0, buckets: [{ count: 1 }] } },
    ]);
  });

  it('writes nothing for a window without arrivals and completions, though requests are pending', () => {
    const ends = recordsOf([request(0, 1000)]).map(({ endSeconds }) => endSeconds - start);
    expect(ends).toEqual([10, 1010]);
  });

  it('crosses years of silence at once', () => {
    const years = 3600 * 24 * 365 * 10;
    expect(recordsOf([request(0, 1), request(years, 1)])).toHaveLength(2);
  });

  it('truncates lengths as the gateway does: 275 tokens go to index 80', () => {
    const [interval] = recordsOf([request(1, 1, { inputTokens: 275, outputTokens: 128 })]);
    expect(JSON.parse(formatTraceRecord(interval!.record))).toMatchObject({ '80:70': 1 });
  });

  it('writes a request of one token in and out as 0:0, as the gateway does', () => {
    const [interval] = recordsOf([request(1, 1, { inputTokens: 1, outputTokens: 1 })]);
    expect(interval!.record).toMatchObject({ arrivals: 1, unknownLength: 1, buckets: [] });
  });

  it('yields windows as time passes, not only as requests come', () => {
    const trace = new GatewayTrace();
    trace.add(request(1, 1));
    expect(trace.advanceTo((start + 9) * 1000)).toEqual([]);
    expect(trace.advanceTo((start + 10) * 1000)).toHaveLength(1);
    expect(trace.advanceTo((start + 500) * 1000)).toEqual([]);
    expect(trace.pending).toBe(0);
  });

  it('leaves requests that never end pending, and finishes all the same', () => {
    const trace = new GatewayTrace();
    trace.add(request(1, 1, { completesAtMs: Infinity }));
    expect(trace.finish()).toMatchObject([{ record: { arrivals: 1, pending: 1 } }]);
    expect(trace.pending).toBe(1);
  });

  it('refuses a request from before a finished window, and one that ends before it arrives', () => {
    const trace = new GatewayTrace();
    trace.add(request(25, 1));
    expect(() => trace.add(request(19, 1))).toThrow(/before the window that begins at/);
    expect(() => trace.add(request(26, -1))).toThrow(/expected times in order/);
    expect(() => trace.add(request(Number.NaN, 1))).toThrow(/expected times in order/);
    expect(trace.add(request(21, 1))).toEqual([]);
  });

  it('loses no request: arrivals, completions and pending add up at every tick', () => {
    const requests = fc.array(
      fc.record({
        gapMs: fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: 500_000 })),
        durationMs: fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: 900_000 })),
        inputTokens: fc.integer({ min: 0, max: 200_000 }),
        outputTokens: fc.integer({ min: 0, max: 20_000 }),
      }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(requests, fc.integer({ min: 0, max: 20_000 }), (drawn, offsetMs) => {
        let atMs = start * 1000 + offsetMs;
        const all = drawn.map(({ gapMs, durationMs, inputTokens, outputTokens }) => {
          atMs += gapMs;
          return { atMs, completesAtMs: atMs + durationMs, inputTokens, outputTokens };
        });
        const intervals = recordsOf(all);
        let arrived = 0;
        let completed = 0;
        let previousEnd = 0;
        for (const { endSeconds, record } of intervals) {
          const from = (endSeconds - 10) * 1000;
          const to = endSeconds * 1000;
          expect(endSeconds % 10).toBe(0);
          expect(endSeconds).toBeGreaterThan(previousEnd);
          previousEnd = endSeconds;
          const completions = record.buckets.reduce((sum, entry) => sum + entry.count, record.unknownLength);
          arrived += record.arrivals;
          completed += completions;
          // Against a count over the requests themselves, window by window.
          expect(record.arrivals).toBe(all.filter((one) => one.atMs >= from && one.atMs < to).length);
          expect(completions).toBe(all.filter((one) => one.completesAtMs >= from && one.completesAtMs < to).length);
          expect(record.pending).toBe(all.filter((one) => one.atMs < to && one.completesAtMs >= to).length);
          expect(record.pending).toBe(arrived - completed);
          expect(completions + record.arrivals).toBeGreaterThan(0);
          expect(parseTraceRecord(formatTraceRecord(record), 'key').record).toEqual(record);
        }
        expect(arrived).toBe(all.length);
        expect(completed).toBe(all.length);
        const lengths = (entries: readonly string[]) => [...entries].sort();
        expect(
          lengths(
            intervals.flatMap(({ record }) =>
              record.buckets.flatMap((entry) =>
                Array<string>(entry.count).fill(`${entry.inputTokens}:${entry.outputTokens}`),
              ),
            ),
          ),
        ).toEqual(
          lengths(
            all
              .map((one) => [gatewayBucketIndex(one.inputTokens), gatewayBucketIndex(one.outputTokens)] as const)
              .filter(([input, output]) => input + output > 0)
              .map(([input, output]) => `${tokensOfBucketIndex(input, 10)}:${tokensOfBucketIndex(output, 10)}`),
          ),
        );
      }),
    );
  });
});

describe('requests whose end is told later', () => {
  const requests = fc.array(
    fc.record({
      gapSeconds: fc.double({ min: 0, max: 25, noNaN: true }),
      seconds: fc.double({ min: 0, max: 60, noNaN: true }),
      inputTokens: fc.integer({ min: 1, max: 9000 }),
      outputTokens: fc.integer({ min: 1, max: 900 }),
    }),
    { maxLength: 40 },
  );

  it('make the records of those whose end was known at once', () => {
    fc.assert(
      fc.property(requests, fc.boolean(), (list, isReversed) => {
        let atSeconds = 0;
        const all = list.map(({ gapSeconds, seconds, inputTokens, outputTokens }) => {
          atSeconds += gapSeconds;
          return request(atSeconds, seconds, { inputTokens, outputTokens });
        });
        const trace = new GatewayTrace();
        const records: FinishedInterval[] = [];
        let open: GatewayRequest[] = [];
        const endBy = (ms: number): void => {
          const ended = open.filter(({ completesAtMs }) => completesAtMs <= ms);
          open = open.filter(({ completesAtMs }) => completesAtMs > ms);
          // Of one span of time, ends are told in any order.
          for (const { completesAtMs, inputTokens, outputTokens } of isReversed ? ended.toReversed() : ended) {
            trace.complete({ atMs: completesAtMs, inputTokens, outputTokens });
          }
        };
        for (const one of all) {
          endBy(one.atMs);
          records.push(...trace.arrive(one.atMs));
          open.push(one);
        }
        // What would be written of the ends that are still to come.
        endBy(Infinity);
        records.push(...trace.finish());
        const sorted = (intervals: readonly FinishedInterval[]) =>
          intervals.map(({ endSeconds, record }) => [endSeconds, formatTraceRecord(record)]);
        const known = recordsOf(all);
        expect(sorted(records).map(([end]) => end)).toEqual(sorted(known).map(([end]) => end));
        for (const [i, { record }] of records.entries()) {
          const { buckets, ...rest } = known[i]!.record;
          expect(record).toMatchObject(rest);
          expect(new Set(record.buckets.map((one) => JSON.stringify(one)))).toEqual(
            new Set(buckets.map((one) => JSON.stringify(one))),
          );
        }
      }),
      { numRuns: 200 },
    );
  });

  it('that fail are pending until then, and in no bucket', () => {
    const trace = new GatewayTrace();
    trace.arrive((start + 1) * 1000);
    trace.arrive((start + 2) * 1000);
    expect(trace.pending).toBe(2);
    trace.fail((start + 12) * 1000);
    expect(trace.advanceTo((start + 10) * 1000)).toMatchObject([{ record: { arrivals: 2, pending: 2 } }]);
    // An end without an answer alone is nothing to write about.
    expect(trace.advanceTo((start + 20) * 1000)).toEqual([]);
    trace.arrive((start + 21) * 1000);
    expect(trace.advanceTo((start + 30) * 1000)).toMatchObject([
      { record: { arrivals: 1, pending: 2, unknownLength: 0, buckets: [] } },
    ]);
  });

  it('must be outstanding, and end in a window that is not finished', () => {
    const trace = new GatewayTrace();
    expect(() => trace.fail(start * 1000)).toThrow('none is outstanding');
    trace.arrive((start + 1) * 1000);
    trace.advanceTo((start + 20) * 1000);
    expect(() => trace.fail((start + 5) * 1000)).toThrow('before the window that begins at');
    expect(() => trace.arrive(Number.NaN)).toThrow('arrives at NaN');
  });
});
