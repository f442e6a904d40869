import { existsSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { type LoggedRequest, readRequestLog } from '../../src/adapters/request-log.js';
import { InputError } from '../../src/core/input-error.js';
import { type SharedStore, Unavailable } from '../../src/core/ports.js';
import { gatewayBucketIndex } from '../../src/core/token-bucket.js';
import {
  fixedEngines,
  type ReplayOptions,
  type ReplayProgress,
  replayAsGateway,
} from '../../src/service/gateway-replay.js';

/** Clock, sleep and store of a replay that takes no time. Time begins five seconds into an interval. */
class Bench {
  nowMs = 1_735_693_655_000;
  readonly stop = new AbortController();
  /** What was written: end of the interval → record, and when. */
  readonly records = new Map<number, { readonly record: Record<string, number>; readonly atMs: number }>();
  /** While true, the store is away. */
  isDown: (nowMs: number) => boolean = () => false;
  onSleep: (bench: Bench) => void = () => {};

  async play(
    log: readonly LoggedRequest[] | (() => AsyncIterable<LoggedRequest>),
    overrides: Partial<ReplayOptions> = {},
  ): ReturnType<typeof replayAsGateway> {
    const bench = this;
    const clock = { now: () => this.nowMs };
    const memory = createMemoryStore(clock);
    const refuse = (): void => {
      if (this.isDown(this.nowMs)) throw new Unavailable('redis_unreachable', 'Redis at redis://here: no answer');
    };
    const store: SharedStore = {
      ...memory,
      async identity() {
        refuse();
        return memory.identity();
      },
      async writeTraces(records) {
        refuse();
        await memory.writeTraces(records);
        for (const { model, endSeconds, text } of records) {
          expect(model).toBe('llama');
          bench.records.set(endSeconds, { record: JSON.parse(text), atMs: bench.nowMs });
        }
      },
    };
    const { speed = 1 } = overrides;
    return replayAsGateway({
      open: typeof log === 'function' ? log : () => iterate(log),
      source: 'log.csv',
      store,
      model: 'llama',
      speed,
      engines: fixedEngines({ ttftSeconds: 0.5, tpotSeconds: 0.03, speed }),
      durationSeconds: null,
      loop: false,
      clock,
      sleep: async (ms) => {
        this.nowMs += ms;
        this.onSleep(this);
      },
      signal: this.stop.signal,
      ...overrides,
    });
  }

  sum(key: string): number {
    return [...this.records.values()].reduce((sum, { record }) => sum + (record[key] ?? 0), 0);
  }

  completions(): number {
    return [...this.records.values()].reduce((sum, { record }) => sum + completionsOf(record), 0);
  }
}

function completionsOf(record: Record<string, number>): number {
  return Object.entries(record).reduce((sum, [key, count]) => sum + (key.startsWith('meta_') ? 0 : count), 0);
}

async function* iterate(log: readonly LoggedRequest[]): AsyncGenerator<LoggedRequest> {
  yield* log;
}

function at(atMs: number, inputTokens = 100, outputTokens = 10): LoggedRequest {
  return { atMs, inputTokens, outputTokens };
}

/** Every record that a gateway writes of a log, counted request by request and interval by interval. */
function countedRecords(
  log: readonly LoggedRequest[],
  startMs: number,
  { speed = 1, ttft = 0.5, tpot = 0.03 } = {},
): Map<number, Record<string, number>> {
  const requests = log.map((request) => {
    const arrivesMs = startMs + (request.atMs - log[0]!.atMs) / speed;
    return {
      arrivesMs,
      completesMs: arrivesMs + ((ttft + request.outputTokens * tpot) * 1000) / speed,
      bucket: `${gatewayBucketIndex(request.inputTokens)}:${gatewayBucketIndex(request.outputTokens)}`,
    };
  });
  const ends = new Set(
    requests.flatMap(({ arrivesMs, completesMs }) =>
      [arrivesMs, completesMs].map((ms) => (Math.floor(ms / 10_000) + 1) * 10),
    ),
  );
  const records = new Map<number, Record<string, number>>();
  for (const end of ends) {
    const isIn = (ms: number): boolean => ms >= (end - 10) * 1000 && ms < end * 1000;
    const record: Record<string, number> = {
      meta_v: 4,
      meta_interval_sec: 10,
      meta_precision: 10,
      meta_queueing_reqs: 0,
      meta_total_reqs: requests.filter((request) => isIn(request.arrivesMs)).length,
      meta_pending_reqs: requests.filter(
        (request) => request.arrivesMs < end * 1000 && request.completesMs >= end * 1000,
      ).length,
    };
    for (const { bucket, completesMs } of requests) {
      if (isIn(completesMs)) record[bucket] = (record[bucket] ?? 0) + 1;
    }
    records.set(end, record);
  }
  return records;
}

const logs = fc
  .array(
    fc.record({
      atMs: fc.nat({ max: 120_000 }),
      inputTokens: fc.nat({ max: 5000 }),
      outputTokens: fc.nat({ max: 3000 }),
    }),
    { minLength: 1, maxLength: 40 },
  )
  .map((log) => log.sort((a, b) => a.atMs - b.atMs));

describe('a replay', () => {
  it('writes what a gateway would have written', async () => {
    const bench = new Bench();
    const log = [
      at(0, 4000, 1000), // still running at the end of the interval below, as are the last three
      ...Array.from({ length: 8 }, () => at(5000, 250, 33)),
      ...Array.from({ length: 3 }, () => at(5001, 2000, 128)),
      at(6000, 0, 0), // a stream without usage
      ...Array.from({ length: 3 }, () => at(14_900, 70, 90)),
    ];
    await bench.play(log);
    expect(bench.records.get(1735693670)?.record).toEqual({
      '0:0': 1,
      '110:70': 3,
      '80:50': 8,
      meta_interval_sec: 10,
      meta_pending_reqs: 4,
      meta_precision: 10,
      meta_queueing_reqs: 0,
      meta_total_reqs: 15,
      meta_v: 4,
    });
  });

  it('of any log at any speed, writes each interval as counted, at its end and never before', async () => {
    await fc.assert(
      fc.asyncProperty(logs, fc.constantFrom(0.5, 1, 3, 60), async (log, speed) => {
        const bench = new Bench();
        const startMs = bench.nowMs;
        const summary = await bench.play(log, { speed });
        const expected = countedRecords(log, startMs, { speed });
        expect(new Map([...bench.records].map(([end, { record }]) => [end, record]))).toEqual(expected);
        for (const [end, { atMs }] of bench.records) {
          expect(atMs).toBeGreaterThanOrEqual(end * 1000);
          expect(atMs).toBeLessThan(end * 1000 + 500);
        }
        expect(summary).toMatchObject({ requests: log.length, records: expected.size, interrupted: false });
      }),
      { numRuns: 60 },
    );
  });

  it('at speed N has N times the rate of the log, and an N-th of its times', async () => {
    const log = Array.from({ length: 3000 }, (_, i) => at(i * 200, 100, 10)); // 5 rps over 10 minutes
    const bench = new Bench();
    const summary = await bench.play(log, { speed: 10 });
    expect(summary.seconds).toBeCloseTo(59.98, 6);
    expect(summary.meanRps).toBeCloseTo(3000 / 59.98, 6);
    const inner = [...bench.records.entries()].filter(([end]) => end > 1735693660 && end < 1735693715);
    expect(inner.map(([, { record }]) => record.meta_total_reqs)).toEqual([500, 500, 500, 500, 500]);
  });

  it('begins with its first request, wherever the times of the log begin', async () => {
    const [early, late] = [new Bench(), new Bench()];
    await early.play([at(0), at(3000)]);
    await late.play([at(1_700_000_000_000), at(1_700_000_003_000)]);
    expect(late.records).toEqual(early.records);
  });

  it('keeps the intervals apart through which the machine slept', async () => {
    const log = Array.from({ length: 60 }, (_, i) => at(i * 1000));
    const bench = new Bench();
    const startMs = bench.nowMs;
    let slept = false;
    bench.onSleep = () => {
      if (slept || bench.nowMs < startMs + 8000) return;
      slept = true;
      bench.nowMs += 35_000;
    };
    await bench.play(log);
    expect(new Map([...bench.records].map(([end, { record }]) => [end, record]))).toEqual(countedRecords(log, startMs));
  });

  it('waits for quiet hours in the log, without records', async () => {
    const bench = new Bench();
    await bench.play([at(0), at(7_200_000)]);
    expect([...bench.records.keys()]).toEqual([1735693660, 1735693660 + 7200]);
  });
});

describe('a replay while the store is away', () => {
  it('waits for a store that is starting', async () => {
    const bench = new Bench();
    const startMs = bench.nowMs;
    bench.isDown = (now) => now < startMs + 10_000;
    expect(await bench.play([at(0)])).toMatchObject({ requests: 1, records: 1 });
  });

  it('gives up before the first request on a store that does not come', async () => {
    const bench = new Bench();
    bench.isDown = () => true;
    const startMs = bench.nowMs;
    const progress: ReplayProgress[] = [];
    await expect(bench.play([at(0)], { onProgress: (now) => progress.push(now) })).rejects.toThrow(
      'Redis at redis://here: no answer',
    );
    expect(bench.nowMs - startMs).toBeLessThanOrEqual(15_000);
    expect(progress).toEqual([]);
  });

  it('writes late what it could not write in time, and loses nothing', async () => {
    const log = Array.from({ length: 900 }, (_, i) => at(i * 1000));
    const bench = new Bench();
    const startMs = bench.nowMs;
    bench.isDown = (now) => now > startMs + 20_000 && now < startMs + 400_000;
    const problems = new Set<string | null>();
    await bench.play(log, { onProgress: ({ problem }) => problems.add(problem) });
    expect(new Map([...bench.records].map(([end, { record }]) => [end, record]))).toEqual(countedRecords(log, startMs));
    expect(problems).toEqual(new Set([null, 'Redis at redis://here: no answer']));
  });

  it('waits at its end, too, for a record that is not written', async () => {
    const bench = new Bench();
    const startMs = bench.nowMs;
    bench.isDown = (now) => now > startMs + 2000 && now < startMs + 60_000;
    expect(await bench.play([at(0)])).toMatchObject({ records: 1 });
    expect(bench.records.size).toBe(1);
  });

  it('gives up when a record would no longer live', async () => {
    const log = Array.from({ length: 3600 }, (_, i) => at(i * 1000));
    const bench = new Bench();
    const startMs = bench.nowMs;
    bench.isDown = (now) => now > startMs + 20_000;
    await expect(bench.play(log)).rejects.toThrow(/no answer; 61 interval records could not be written for 10 minutes/);
    expect(bench.nowMs - startMs).toBeLessThan(640_000);
  });
});

describe('a replay that is called off', () => {
  function callOffAfter(bench: Bench, ms: number): void {
    const startMs = bench.nowMs;
    bench.onSleep = () => {
      if (bench.nowMs >= startMs + ms) bench.stop.abort();
    };
  }

  it('writes the record of the begun interval, in which requests in flight are cancelled', async () => {
    const log = Array.from({ length: 600 }, (_, i) => at(i * 1000, 100, 1000));
    const bench = new Bench();
    callOffAfter(bench, 12_000);
    const summary = await bench.play(log);
    expect(summary).toMatchObject({ requests: 12, records: 2, interrupted: true });
    const [first, last] = [...bench.records.values()];
    expect(first!.record).toMatchObject({ meta_total_reqs: 5, meta_pending_reqs: 5 });
    expect(last!.record).toMatchObject({ meta_total_reqs: 7, meta_pending_reqs: 0 });
    expect([...bench.records.keys()]).toEqual([1735693660, 1735693670]);
    expect(bench.nowMs).toBeLessThan(1_735_693_668_000);
  });

  it('says that nothing is pending, also in an interval in which nothing happened', async () => {
    const bench = new Bench();
    callOffAfter(bench, 12_000);
    await bench.play([at(0, 100, 10_000), at(3_600_000)]);
    expect(bench.records.get(1735693660)?.record).toMatchObject({ meta_total_reqs: 1, meta_pending_reqs: 1 });
    expect(bench.records.get(1735693670)?.record).toEqual({
      meta_interval_sec: 10,
      meta_pending_reqs: 0,
      meta_precision: 10,
      meta_queueing_reqs: 0,
      meta_total_reqs: 0,
      meta_v: 4,
    });
  });

  it('writes nothing where nothing is left to say', async () => {
    const bench = new Bench();
    callOffAfter(bench, 12_000);
    await bench.play([at(0), at(3_600_000)]);
    expect([...bench.records.keys()]).toEqual([1735693660]);
  });

  it('says so when its last record cannot be written', async () => {
    const bench = new Bench();
    const startMs = bench.nowMs;
    bench.isDown = (now) => now > startMs;
    callOffAfter(bench, 2000);
    await expect(bench.play([at(0), at(3_600_000)])).rejects.toThrow(Unavailable);
  });
});

describe('the log of a replay', () => {
  it('must hold a request', async () => {
    await expect(new Bench().play([])).rejects.toThrow(
      'log.csv: found no requests, expected at least one row after the header',
    );
  });

  it('is played up to a row that cannot be read', async () => {
    const bench = new Bench();
    async function* broken(): AsyncGenerator<LoggedRequest> {
      yield at(0, 100, 5000);
      yield at(1000, 100, 5000);
      throw new InputError('log.csv', [{ place: 'line 4', found: '"x"', expected: 'a number' }]);
    }
    await expect(bench.play(broken)).rejects.toThrow('log.csv: line 4: found "x", expected a number');
    expect([...bench.records.values()].map(({ record }) => record)).toEqual([
      expect.objectContaining({ meta_total_reqs: 2, meta_pending_reqs: 0 }),
    ]);
  });

  it('is played for a given time, and what has arrived completes', async () => {
    const bench = new Bench();
    const summary = await bench.play(
      Array.from({ length: 600 }, (_, i) => at(i * 1000)),
      { durationSeconds: 30 },
    );
    expect(summary).toMatchObject({ requests: 30, interrupted: false });
    expect(bench.sum('meta_total_reqs')).toBe(30);
    expect(bench.completions()).toBe(30);
  });

  it('begins again in a loop, one mean gap after its last request', async () => {
    const bench = new Bench();
    const log = [at(500), at(2500), at(4500)]; // one every two seconds
    const summary = await bench.play(log, { loop: true, durationSeconds: 100, speed: 2 });
    expect(summary).toMatchObject({ requests: 100, seconds: 99, interrupted: false });
    const inner = [...bench.records.values()].slice(1, 9).map(({ record }) => record.meta_total_reqs);
    expect(inner).toEqual(Array(8).fill(10));
  });

  it('cannot be looped where it is one moment', async () => {
    await expect(new Bench().play([at(0), at(0)], { loop: true })).rejects.toThrow(
      'log.csv: found all requests at one time, expected a log that spans time, to play it in a loop',
    );
  });

  const azure = new URL('../../../shared/data/traces/azure_conv_2023.csv.gz', import.meta.url);
  it.skipIf(!existsSync(azure))('may be a public trace: every request arrives once and completes once', async () => {
    const bench = new Bench();
    const startMs = bench.nowMs;
    const file = azure.pathname;
    const summary = await bench.play(() => readRequestLog({ file }), { speed: 5 });
    expect(summary.requests).toBe(19_366);
    expect(bench.sum('meta_total_reqs')).toBe(19_366);
    expect(bench.completions()).toBe(19_366);
    // 5.53 rps is the publisher's mean rate.
    expect(summary.meanRps! / 5).toBeCloseTo(5.53, 2);
    const log: LoggedRequest[] = [];
    for await (const request of readRequestLog({ file })) log.push(request);
    expect(new Map([...bench.records].map(([end, { record }]) => [end, record]))).toEqual(
      countedRecords(log, startMs, { speed: 5 }),
    );
  });
});
