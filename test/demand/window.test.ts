import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GatewayTrace } from '../../src/demand/gateway-trace.js';
import type { TraceRecord } from '../../src/demand/trace-record.js';
import {
  type DemandHistory,
  DemandWindow,
  type IntervalReading,
  interpretReading,
  type TraceMemory,
} from '../../src/demand/window.js';
import { bucket, knownRates, record, start, steady, TraceStore } from './traces.js';

/** Cycles at start+from, start+from+10, … start+to; before each one `load` may write to the store. */
function run(
  store: TraceStore,
  window: DemandWindow,
  span: { readonly from: number; readonly to: number },
  load: (endSeconds: number) => TraceRecord | null = () => null,
): DemandHistory[] {
  const views: DemandHistory[] = [];
  for (let at = span.from; at <= span.to; at += 10) {
    const written = load(start + at);
    if (written !== null) store.write(start + at, written);
    // Half a second after the tick, as the records of a gateway are there by then.
    views.push(store.cycle(window, start + at + 0.5));
  }
  return views;
}

describe('the rate of arrivals', () => {
  it('a constant 10 requests/s is 10 in the first cycle and in every later one', () => {
    const views = run(new TraceStore(), new DemandWindow(), { from: 0, to: 900 }, () => steady);
    for (const view of views) {
      expect(view.hold).toBeNull();
      expect(new Set(knownRates(view))).toEqual(new Set([10]));
    }
    expect(views[0]!.knownIntervals).toBe(1);
    expect(views.at(-1)!.knownIntervals).toBe(24);
  });

  it('is right at once after a restart of gpumix, from the keys that are there', () => {
    const store = new TraceStore();
    for (let at = -600; at <= 0; at += 10) store.write(start + at, steady);
    const view = store.cycle(new DemandWindow(), start + 0.5);
    expect(view.knownIntervals).toBe(24);
    expect(new Set(knownRates(view))).toEqual(new Set([10]));
  });

  it('is of arrivals, not of completions', () => {
    const load = () => record({ arrivals: 100, pending: 900, buckets: [bucket(4096, 512, 10)] });
    expect(knownRates(run(new TraceStore(), new DemandWindow(), { from: 0, to: 0 }, load)[0]!)).toEqual([10]);
  });

  it('a very low rate is seen: one request in 50 s', () => {
    const load = (end: number) =>
      (end - start) % 50 === 0 ? record({ arrivals: 1, buckets: [bucket(64, 64, 1)] }) : null;
    const view = run(new TraceStore(), new DemandWindow(), { from: 0, to: 600 }, load).at(-1)!;
    expect(view).toMatchObject({ hold: null, idle: false, knownIntervals: 24 });
    expect(knownRates(view).reduce((sum, rps) => sum + rps, 0) / 24).toBeCloseTo(0.02, 2);
  });

  it('has as many intervals as configured', () => {
    const store = new TraceStore();
    const window = new DemandWindow({ windowSeconds: 60 });
    const view = run(store, window, { from: 0, to: 200 }, () => steady).at(-1)!;
    expect(view.intervals.map((interval) => interval.endSeconds)).toEqual(
      [150, 160, 170, 180, 190, 200].map((at) => start + at),
    );
  });
});

describe('what the write side writes', () => {
  it('is what the window reads: every arrival in its interval, every length in the shape', () => {
    const requests = fc.array(
      fc.record({ gapMs: fc.nat(4000), durationMs: fc.nat(8000), inputLog2: fc.integer({ min: 1, max: 12 }) }),
      { minLength: 1, maxLength: 80 },
    );
    fc.assert(
      fc.property(requests, (drawn) => {
        const store = new TraceStore();
        const trace = new GatewayTrace();
        let atMs = start * 1000;
        const arrivals = drawn.map(({ gapMs, durationMs, inputLog2 }) => {
          atMs += gapMs;
          const request = { atMs, completesAtMs: atMs + durationMs, inputTokens: 2 ** inputLog2, outputTokens: 64 };
          for (const { endSeconds, record: written } of trace.add(request)) store.write(endSeconds, written);
          return atMs;
        });
        for (const { endSeconds, record: written } of trace.finish()) store.write(endSeconds, written);
        const endSeconds = Math.max(...store.keys.keys());
        const view = store.cycle(new DemandWindow({ windowSeconds: 580 }), endSeconds);
        const counted = new Map<number, number>();
        for (const at of arrivals) {
          const end = Math.floor(at / 10_000) * 10 + 10;
          counted.set(end, (counted.get(end) ?? 0) + 1);
        }
        for (const interval of view.intervals) {
          if (interval.state === 'known') expect(interval.arrivals).toBe(counted.get(interval.endSeconds) ?? 0);
          else expect(counted.has(interval.endSeconds)).toBe(false);
        }
        for (const { inputTokens, share } of view.shape) {
          const same = drawn.filter(({ inputLog2 }) => 2 ** inputLog2 === inputTokens).length;
          expect(share).toBeCloseTo(same / drawn.length, 12);
        }
        expect(view).toMatchObject({ pending: 0, hold: null });
      }),
    );
  });
});

describe('an interval that is not there', () => {
  it('is unknown before the first trace of the model, not zero', () => {
    const view = run(new TraceStore(), new DemandWindow(), { from: 0, to: 300 }, (end) =>
      end >= start + 280 ? steady : null,
    ).at(-1)!;
    expect(view.intervals.map((interval) => interval.state)).toEqual([
      ...Array(21).fill('unknown'),
      ...Array(3).fill('known'),
    ]);
    expect(knownRates(view)).toEqual([10, 10, 10]);
    expect(view.hold).toBeNull();
  });

  it('is zero arrivals after the first trace, once its record had time to be written', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    const quiet = record({ arrivals: 30, buckets: [bucket(64, 64, 30)] });
    run(store, window, { from: 0, to: 0 }, () => quiet);
    // 0.5 s after the tick the record of another gateway may still be on its way: the window ends one interval earlier.
    expect(knownRates(store.cycle(window, start + 10.5))).toEqual([3]);
    expect(knownRates(store.cycle(window, start + 20.5))).toEqual([3, 0]);
  });

  it('is read later, when it comes late', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 100 }, (end) => (end === start + 50 ? null : { ...steady, pending: 0 }));
    expect(knownRates(store.cycle(window, start + 100.5))).toEqual([10, 10, 10, 10, 10, 0, 10, 10, 10, 10, 10]);
    store.write(start + 50, steady);
    expect(knownRates(store.cycle(window, start + 105.5))).toEqual(Array(11).fill(10));
  });

  it('is read even minutes late, as long as it lies in the window', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 200 }, (end) => (end === start + 50 ? null : { ...steady, pending: 0 }));
    store.write(start + 50, steady);
    const view = run(store, window, { from: 210, to: 270 }, () => steady).at(-1)!;
    expect(new Set(knownRates(view))).toEqual(new Set([10]));
  });

  it('is unknown where it began before the store did: its memory may have been lost', () => {
    const store = new TraceStore();
    store.startedAtMs = (start + 33) * 1000;
    store.write(start + 10, { ...steady, pending: 0 });
    const view = store.cycle(new DemandWindow(), start + 80.5);
    // Key +40 holds [+30, +40), which the store did not live through.
    const states = new Map(view.intervals.map((interval) => [interval.endSeconds - start, interval.state]));
    expect([10, 20, 30, 40, 50, 60, 70].map((at) => states.get(at))).toEqual([
      'known',
      'unknown',
      'unknown',
      'unknown',
      'known',
      'known',
      'known',
    ]);
  });

  it('is unknown where it could not be read, and is asked for again in the next cycle', () => {
    const window = new DemandWindow();
    window.storeIdentity({ runId: 'a', startedAtMs: 0 });
    const at = (seconds: number) => (start + seconds) * 1000;
    window.record(start, { kind: 'present', record: { ...steady, pending: 0 } }, at(0));
    window.record(start + 10, { kind: 'failed' }, at(10));
    window.record(start + 20, { kind: 'absent' }, at(20));
    expect(window.view(at(30)).intervals.slice(-3)).toEqual([
      { endSeconds: start, state: 'known', arrivals: 100, completions: 100, rps: 10 },
      { endSeconds: start + 10, state: 'unknown' },
      { endSeconds: start + 20, state: 'known', arrivals: 0, completions: 0, rps: 0 },
    ]);
    expect(window.keysToRead(at(30))).toContain(start + 10);
  });

  it('is unknown where its text is no record; the other intervals are unaffected', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 40 }, () => steady);
    store.keys.set(start + 50, '{"80:50":NaN}');
    const view = run(store, window, { from: 50, to: 80 }, (end) => (end > start + 50 ? steady : null)).at(-1)!;
    expect(view.intervals.find((interval) => interval.endSeconds === start + 50)?.state).toBe('unknown');
    expect(knownRates(view)).toEqual(Array(8).fill(10));
    expect(view.hold).toBeNull();
  });

  it('a record of another interval length is unknown, not a rate', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 0 }, () => record({ arrivals: 100, intervalSeconds: 20 }));
    expect(store.cycle(window, start + 5)).toMatchObject({ knownIntervals: 0, hold: 'no_traces' });
    window.record(start - 10, { kind: 'present', record: { ...steady, intervalSeconds: 20 } }, (start + 5) * 1000);
    expect(window.view((start + 5) * 1000).knownIntervals).toBe(0);
  });
});

describe('silence', () => {
  const load = (end: number) => (end <= start + 300 ? { ...steady, pending: end === start + 300 ? 0 : 20 } : null);

  it('of a whole window with nothing pending is idleness', () => {
    const views = run(new TraceStore(), new DemandWindow(), { from: 0, to: 700 }, load);
    const firstIdle = views.findIndex((view) => view.idle);
    // The last arrivals are in key +300; 24 silent intervals end at +540, settled when the next tick has come.
    expect(firstIdle * 10).toBe(550);
    for (const view of views.slice(firstIdle)) expect(view).toMatchObject({ idle: true, hold: null, pending: 0 });
    for (const view of views.slice(0, firstIdle)) expect(view).toMatchObject({ idle: false, hold: null });
  });

  it('in a window that is known only in part is not idleness: it holds', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    const views = run(store, window, { from: 0, to: 300 }, (end) =>
      end === start ? record({ buckets: [bucket(64, 64, 1)] }) : null,
    );
    expect(views[10]).toMatchObject({ idle: false, hold: 'no_traces', knownIntervals: 10, pending: 0 });
    expect(views.at(-1)).toMatchObject({ idle: true, hold: null, knownIntervals: 24 });
  });

  it('of a model that was never traced holds with no_traces, for ever', () => {
    for (const view of run(new TraceStore(), new DemandWindow(), { from: 0, to: 900 })) {
      expect(view).toMatchObject({ hold: 'no_traces', idle: false, knownIntervals: 0, newestKnownSeconds: null });
    }
  });

  it('after tracing is switched off under load does not lower the rate, and holds', () => {
    const views = run(new TraceStore(), new DemandWindow(), { from: 0, to: 1200 }, (end) =>
      end <= start + 300 ? steady : null,
    );
    for (const view of views) {
      expect(knownRates(view).every((rps) => rps === 10)).toBe(true);
      expect(view.idle).toBe(false);
    }
    expect(views[32]!.hold).toBeNull();
    for (const view of views.slice(36)) expect(view.hold).toBe('requests_pending');
  });

  it('with requests pending and no arrivals over a whole window holds, though every interval is known', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    const trickle = record({ pending: 5, buckets: [bucket(4096, 4096, 1)] });
    const views = run(store, window, { from: 0, to: 600 }, (end) => (end === start ? steady : trickle));
    expect(views.at(-1)).toMatchObject({ hold: 'requests_pending', idle: false, pending: 5, knownIntervals: 24 });
  });

  it('between the start and the end of a long generation turns out to be zero when the next trace comes', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    const views = run(store, window, { from: 0, to: 120 }, (end) => {
      if (end === start) return record({ arrivals: 1, pending: 1, buckets: [bucket(64, 64, 3)] });
      return end === start + 120 ? record({ buckets: [bucket(64, 4096, 1)] }) : null;
    });
    expect(views[11]).toMatchObject({ hold: 'requests_pending', knownIntervals: 1 });
    expect(views[12]).toMatchObject({ hold: null, knownIntervals: 13, pending: 0 });
  });

  it('starts after the newest known interval has become too old, not with the first missing one', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 100 }, () => steady);
    store.down = true;
    const holds = [110, 120, 130, 140, 150, 160].map((at) => store.cycle(window, start + at + 0.5).hold);
    expect(holds).toEqual([null, null, null, 'no_traces', 'no_traces', 'no_traces']);
  });
});

describe('a store that was restarted', () => {
  it('empty: what was read stays known, silence on it is unknown, and traces that come back are followed', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 300 }, () => ({ ...steady, pending: 0 }));
    store.restart(start + 305);
    const silent = run(store, window, { from: 310, to: 400 });
    for (const view of silent) {
      expect(new Set(knownRates(view))).toEqual(new Set([10]));
      expect(view.idle).toBe(false);
    }
    expect(silent.at(-1)!.hold).toBe('no_traces');
    const back = run(store, window, { from: 410, to: 700 }, () => ({ ...steady, arrivals: 200 }));
    expect(back[0]).toMatchObject({ hold: null });
    expect(new Set(knownRates(back.at(-1)!))).toEqual(new Set([20]));
  });

  it('keeps the zeros that were known, and asks again for what was not', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 60 }, (end) => (end === start ? { ...steady, pending: 0 } : null));
    store.restart(start + 65);
    const view = run(store, window, { from: 70, to: 100 })[0]!;
    expect(knownRates(view)).toEqual([10, 0, 0, 0, 0, 0, 0]);
    expect(store.asked.at(-4)!).toContain(start - 100);
    expect(store.asked.at(-4)!).not.toContain(start + 30);
  });

  it('with its data is read as before', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 300 }, () => steady);
    store.runId = 'run-2';
    store.startedAtMs = (start + 302) * 1000;
    const view = run(store, window, { from: 310, to: 400 }, () => steady).at(-1)!;
    expect(view).toMatchObject({ hold: null, knownIntervals: 24 });
    expect(new Set(knownRates(view))).toEqual(new Set([10]));
  });
});

describe('what a later process is told', () => {
  const quietSince = (memory: TraceMemory | null, store = new TraceStore()) =>
    run(store, new DemandWindow({ memory }), { from: 1200, to: 1200 })[0]!;

  it('makes the silence of an idle model mean zero at once', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 20 }, () => ({ ...steady, pending: 0 }));
    const memory = window.memory();
    expect(memory).toEqual({
      runId: 'run-1',
      firstTraceSeconds: start,
      newestTraceSeconds: start + 20,
      pending: 0,
      busy: true,
    });
    expect(quietSince(JSON.parse(JSON.stringify(memory)))).toMatchObject({ idle: true, hold: null });
    expect(quietSince(null)).toMatchObject({ idle: false, hold: 'no_traces' });
  });

  it('keeps pending requests pending', () => {
    const memory = { runId: 'run-1', firstTraceSeconds: start, newestTraceSeconds: start + 20, pending: 3 };
    expect(quietSince(memory)).toMatchObject({ idle: false, hold: 'requests_pending', pending: 3 });
  });

  it('means nothing on another store', () => {
    const store = new TraceStore();
    store.runId = 'run-2';
    const memory = { runId: 'run-1', firstTraceSeconds: start, newestTraceSeconds: start + 20, pending: 0 };
    expect(quietSince(memory, store)).toMatchObject({ idle: false, hold: 'no_traces' });
  });

  it('is nothing before a trace was seen, and after the store was replaced', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    store.cycle(window, start);
    expect(window.memory()).toBeNull();
    run(store, window, { from: 0, to: 0 }, () => steady);
    store.restart(start + 5);
    store.cycle(window, start + 10);
    expect(window.memory()).toBeNull();
  });

  it('an old memory is corrected by keys that still live, also those older than the window', () => {
    const store = new TraceStore();
    store.write(start + 700, steady);
    const memory = { runId: 'run-1', firstTraceSeconds: start, newestTraceSeconds: start + 690, pending: 0 };
    expect(quietSince(memory, store)).toMatchObject({ idle: false, hold: 'requests_pending', pending: 20 });
  });
});

describe('the shape', () => {
  it('is that of the completed requests of the window, without those of unknown length', () => {
    const load = (end: number) =>
      end === start
        ? record({ arrivals: 10, unknownLength: 50, buckets: [bucket(256, 64, 1), bucket(1024, 64, 1)] })
        : record({ arrivals: 10, buckets: [bucket(256, 64, 2)] });
    const view = run(new TraceStore(), new DemandWindow(), { from: 0, to: 10 }, load).at(-1)!;
    expect(view.shape).toEqual([
      { inputTokens: 256, outputTokens: 64, share: 0.75 },
      { inputTokens: 1024, outputTokens: 64, share: 0.25 },
    ]);
  });

  it('leaves the window with its interval', () => {
    const load = (end: number) =>
      record({ arrivals: 1, buckets: [end < start + 100 ? bucket(256, 64, 1) : bucket(64, 8, 1)] });
    const views = run(new TraceStore(), new DemandWindow(), { from: 0, to: 400 }, load);
    expect(views[20]!.shape).toHaveLength(2);
    // The window of 24 intervals that ends at +330 begins with key +100.
    expect(views[32]!.shape).toHaveLength(2);
    expect(views[33]!.shape).toEqual([{ inputTokens: 64, outputTokens: 8, share: 1 }]);
  });

  it('is the last known one while requests arrive and none completes', () => {
    const load = (end: number) =>
      end === start ? { ...steady, pending: 0 } : record({ arrivals: 20, pending: 100 + (end - start) });
    const view = run(new TraceStore(), new DemandWindow(), { from: 0, to: 500 }, load).at(-1)!;
    expect(view).toMatchObject({ hold: null, shape: [{ inputTokens: 256, outputTokens: 64, share: 1 }] });
  });

  it('that was never known holds with no_lengths, until a request completes', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    const views = run(store, window, { from: 0, to: 50 }, () => record({ arrivals: 20, unknownLength: 20 }));
    for (const view of views) expect(view).toMatchObject({ hold: 'no_lengths', shape: [] });
    expect(run(store, window, { from: 60, to: 60 }, () => steady)[0]!.hold).toBeNull();
  });

  it('keeps every length that a gateway can write apart, to the last digit', () => {
    const buckets = Array.from({ length: 401 }, (_, i) => bucket(2 ** (i / 10), 2 ** ((400 - i) / 10), 1));
    const window = new DemandWindow();
    window.record(start, { kind: 'present', record: record({ arrivals: 401, buckets }) }, start * 1000);
    const { shape } = window.view(start * 1000);
    expect(shape.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens])).toEqual(
      buckets.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens]),
    );
  });
});

describe('the keys to read', () => {
  const keysAfter = (seconds: number, load: (end: number) => TraceRecord | null) => {
    const store = new TraceStore();
    run(store, new DemandWindow(), { from: 0, to: seconds }, load);
    return store.asked.map((keys) => keys.map((key) => key - start));
  };

  it('are in the first cycle all that may live', () => {
    const [first] = keysAfter(0, () => null);
    expect(first!.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, i) => -590 + 10 * i));
  });

  it('are in the first cycle those of the window alone where a trace stands at its beginning', () => {
    const store = new TraceStore();
    for (let at = -600; at <= 0; at += 10) store.write(start + at, steady);
    const view = store.cycle(new DemandWindow(), start + 1);
    expect(store.asked[0]!.map((key) => key - start)).toEqual(Array.from({ length: 25 }, (_, i) => -240 + 10 * i));
    expect(knownRates(view)).toEqual(Array(24).fill(10));
  });

  it('are older than the window too where it begins in silence, which an older trace makes zero', () => {
    const store = new TraceStore();
    store.write(start - 300, { ...steady, pending: 0 });
    for (let at = -100; at <= 0; at += 10) store.write(start + at, steady);
    const view = store.cycle(new DemandWindow(), start + 1);
    expect(store.asked[0]).toContain(start - 300);
    expect(view).toMatchObject({ knownIntervals: 24 });
    expect(knownRates(view).filter((rps) => rps === 0)).toHaveLength(13);
  });

  it('are afterwards the new one, the absent ones of the last minute, and once a minute the older absent ones', () => {
    const asked = keysAfter(900, (end) => ((end - start) % 100 === 0 ? null : { ...steady, pending: 0 }));
    for (const [cycle, keys] of asked.entries()) {
      if (cycle < 60) continue;
      const now = cycle * 10;
      expect(keys).toContain(now);
      for (const key of keys.filter((one) => one !== now)) expect(key % 100).toBe(0);
      const young = now - (now % 100);
      if (now - young < 60) expect(keys).toContain(young);
      expect(keys.length).toBeLessThanOrEqual(4);
    }
    const asksOfOne = asked.flatMap((keys, cycle) => (keys.includes(600) ? [cycle * 10] : []));
    // Every cycle for a minute, then once a minute as long as it lies in the window.
    expect(asksOfOne.slice(0, 6)).toEqual([600, 610, 620, 630, 640, 650]);
    expect(asksOfOne.slice(6).length).toBeGreaterThanOrEqual(2);
    expect(asksOfOne.slice(6).length).toBeLessThanOrEqual(5);
    expect(Math.max(...asksOfOne)).toBeLessThanOrEqual(840);
  });

  it('of a model that was never traced are spread over the minute', () => {
    const asked = keysAfter(600, () => null).slice(20);
    for (const keys of asked) expect(keys.length).toBeLessThanOrEqual(17);
    const inOneMinute = new Set(asked.slice(0, 6).flat());
    expect(inOneMinute.size).toBeGreaterThanOrEqual(60);
  });

  it('never name an interval that has not ended, or whose key is dead', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 10_000_000 }),
        fc.constantFrom(1, 5, 10, 60),
        (offsetMs, intervalSeconds) => {
          const nowMs = start * 1000 + offsetMs;
          for (const key of new DemandWindow({ intervalSeconds }).keysToRead(nowMs)) {
            expect(key % intervalSeconds).toBe(0);
            expect(key * 1000).toBeLessThanOrEqual(nowMs);
            expect(nowMs - key * 1000).toBeLessThan(600_000);
          }
        },
      ),
    );
  });

  it('cover a cycle that was slow, and one that did not happen', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    for (let at = 0; at <= 200; at += 10) store.write(start + at, steady);
    store.cycle(window, start + 3);
    expect(knownRates(store.cycle(window, start + 137.2))).toEqual(Array(14).fill(10));
  });
});

describe('order, repetition and clocks', () => {
  /** Readings of 40 consecutive intervals. */
  const readings: fc.Arbitrary<readonly IntervalReading[]> = fc.array(
    fc.oneof(
      fc.constant<IntervalReading>({ kind: 'absent' }),
      fc.constant<IntervalReading>({ kind: 'failed' }),
      fc.constant<IntervalReading>({ kind: 'unreadable' }),
      fc
        .record({
          arrivals: fc.nat(50),
          pending: fc.nat(2),
          unknownLength: fc.nat(3),
          buckets: fc.array(
            fc
              .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 9 }))
              .map(([input, output, count]) => bucket(2 ** input, 2 ** output, count)),
            { maxLength: 4 },
          ),
        })
        .map((fields): IntervalReading => ({ kind: 'present', record: record(fields) })),
    ),
    { minLength: 40, maxLength: 40 },
  );
  const nowMs = (start + 390) * 1000 + 500;
  const fresh = () => {
    const window = new DemandWindow();
    window.storeIdentity({ runId: 'a', startedAtMs: start * 1000 + 35_000 });
    return window;
  };

  it('neither the order nor the repetition of answers changes the view', () => {
    const deliveries = readings.chain((inOrder) =>
      fc
        .array(fc.nat(inOrder.length - 1), { maxLength: 40 })
        .chain((repeats) => {
          const indexes = [...inOrder.keys(), ...repeats];
          return fc.shuffledSubarray(indexes, { minLength: indexes.length });
        })
        .map((order) => ({ inOrder, order })),
    );
    fc.assert(
      fc.property(deliveries, fc.nat(79), ({ inOrder, order }, lookAfter) => {
        const straight = fresh();
        inOrder.forEach((reading, i) => {
          straight.record(start + 10 * i, reading, nowMs);
        });
        const shuffled = fresh();
        order.forEach((i, step) => {
          shuffled.record(start + 10 * i, inOrder[i]!, nowMs);
          // Looking in between changes nothing either.
          if (step === lookAfter) shuffled.view(nowMs);
        });
        expect(shuffled.view(nowMs)).toEqual(straight.view(nowMs));
        expect(shuffled.memory()).toEqual(straight.memory());
        expect(shuffled.keysToRead(nowMs + 10_000)).toEqual(straight.keysToRead(nowMs + 10_000));
      }),
    );
  });

  it('the view is what the rules say, interval by interval, counted anew', () => {
    fc.assert(
      fc.property(readings, (all) => {
        const window = fresh();
        all.forEach((reading, i) => {
          const at = (start + 10 * i) * 1000 + 500;
          window.record(start + 10 * i, reading, at);
          window.view(at);
        });
        const view = window.view(nowMs);
        const present = all.flatMap((reading, i) =>
          reading.kind === 'present' ? [{ i, record: reading.record }] : [],
        );
        const first = present[0]?.i ?? Infinity;
        const last = present.at(-1);
        const newest = all[39]!.kind === 'present' ? 39 : 38;
        const expected = Array.from({ length: 24 }, (_, k) => {
          const i = newest - 23 + k;
          const reading = all[i]!;
          const endSeconds = start + 10 * i;
          if (reading.kind === 'present') {
            const { arrivals, buckets, unknownLength } = reading.record;
            const completions = unknownLength + buckets.reduce((sum, { count }) => sum + count, 0);
            return { endSeconds, state: 'known', arrivals, completions, rps: arrivals / 10 };
          }
          const isZero = reading.kind === 'absent' && i > first && i >= 5 && !(last!.record.pending > 0 && i > last!.i);
          return isZero
            ? { endSeconds, state: 'known', arrivals: 0, completions: 0, rps: 0 }
            : { endSeconds, state: 'unknown' };
        });
        expect(view.intervals).toEqual(expected);
        expect(view.pending).toBe(last?.record.pending ?? 0);
        expect(view.pendingAtSeconds).toBe(last === undefined ? null : start + 10 * last.i);

        const counts = new Map<string, number>();
        let total = 0;
        for (const { i, record: seen } of present) {
          if (i <= newest - 24 || i > newest) continue;
          for (const { inputTokens, outputTokens, count } of seen.buckets) {
            counts.set(`${inputTokens}:${outputTokens}`, (counts.get(`${inputTokens}:${outputTokens}`) ?? 0) + count);
            total += count;
          }
        }
        if (total > 0) {
          expect(new Map(view.shape.map((part) => [`${part.inputTokens}:${part.outputTokens}`, part.share]))).toEqual(
            new Map([...counts].map(([key, count]) => [key, count / total])),
          );
        }
      }),
    );
  });

  it('a record that was read stays as it was, whatever is read later under its key', () => {
    const window = fresh();
    window.record(start, { kind: 'present', record: steady }, nowMs);
    window.record(start, { kind: 'absent' }, nowMs);
    window.record(start, { kind: 'unreadable' }, nowMs);
    window.record(start, { kind: 'failed' }, nowMs);
    window.record(start, { kind: 'present', record: record({ arrivals: 7 }) }, nowMs);
    expect(window.view((start + 1) * 1000).intervals.at(-1)).toMatchObject({ state: 'known', arrivals: 100 });
  });

  it('records of a gateway whose clock is behind ours are followed, one interval later', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    for (let at = 0; at <= 300; at += 10) {
      store.write(start + at - 10, steady);
      const view = store.cycle(window, start + at + 0.5);
      expect(new Set(knownRates(view))).toEqual(new Set([10]));
      expect(view.hold).toBeNull();
    }
  });

  it('a record from before all that is kept is a sign of life all the same', () => {
    const window = new DemandWindow();
    window.storeIdentity({ runId: 'a', startedAtMs: 0 });
    window.record(start, { kind: 'absent' }, start * 1000);
    expect(window.view((start + 10) * 1000).knownIntervals).toBe(0);
    window.record(start - 3000, { kind: 'present', record: record({ arrivals: 1 }) }, start * 1000);
    expect(window.view((start + 10) * 1000).knownIntervals).toBe(1);
    expect(window.memory()).toMatchObject({ firstTraceSeconds: start - 3000 });
  });

  it('a record from the near future counts when its time comes; one from the far future never', () => {
    const window = fresh();
    window.record(start + 400, { kind: 'present', record: steady }, nowMs);
    window.record(start + 4000, { kind: 'present', record: { ...steady, pending: 77 } }, nowMs);
    expect(window.view(nowMs)).toMatchObject({ knownIntervals: 0, pending: 20 });
    expect(window.view(nowMs + 10_000)).toMatchObject({ knownIntervals: 1 });
  });

  it('a clock that is set back and forth again leaves nothing behind', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    run(store, window, { from: 0, to: 300 }, () => steady);
    store.write(start - 5000, record({ arrivals: 3, buckets: [bucket(2, 2, 3)] }));
    window.record(
      start - 5000,
      { kind: 'present', record: record({ buckets: [bucket(2, 2, 9)] }) },
      (start - 5000) * 1000,
    );
    expect(window.view((start - 5000) * 1000).shape).toEqual([{ inputTokens: 2, outputTokens: 2, share: 1 }]);
    const view = run(store, window, { from: 310, to: 600 }, () => steady).at(-1)!;
    expect(view.shape).toEqual([{ inputTokens: 256, outputTokens: 64, share: 1 }]);
    expect(new Set(knownRates(view))).toEqual(new Set([10]));
  });

  it('refuses an interval end that is on no tick, and settings that make no window', () => {
    expect(() => fresh().record(start + 3, { kind: 'absent' }, nowMs)).toThrow(/not a multiple of 10 s/);
    expect(() => new DemandWindow({ windowSeconds: 5 })).toThrow(/windowSeconds is 5/);
    expect(() => new DemandWindow({ intervalSeconds: 0 })).toThrow(/intervalSeconds is 0/);
    expect(() => new DemandWindow({ latenessSeconds: -1 })).toThrow(/latenessSeconds is -1/);
  });
});

describe('interpretReading', () => {
  it('gives the record, or says why the interval is unknown', () => {
    expect(interpretReading({ kind: 'absent' }, 'key')).toEqual({
      reading: { kind: 'absent' },
      notices: [],
      problem: null,
    });
    // What a source cannot tell is unknown, and no problem of the key.
    expect(interpretReading({ kind: 'unknown' }, 'key')).toEqual({
      reading: { kind: 'failed' },
      notices: [],
      problem: null,
    });
    expect(interpretReading({ kind: 'failed', message: 'WRONGTYPE' }, 'key')).toMatchObject({
      reading: { kind: 'failed' },
      problem: 'key: WRONGTYPE',
    });
    expect(interpretReading({ kind: 'present', text: '[]' }, 'key')).toMatchObject({
      reading: { kind: 'unreadable' },
      problem: 'key: found [], expected an object of whole numbers (an interval record)',
    });
    expect(interpretReading({ kind: 'present', text: '{"8:7":2,"odd":1}' }, 'key')).toMatchObject({
      reading: { kind: 'present', record: { arrivals: 2 } },
      notices: [{ code: 'unknown_key' }],
      problem: null,
    });
  });
});
