import { describe, expect, it } from 'vitest';
import {
  type FleetSilence,
  followFleetSilences,
  lastingSilence,
  type ModelTraces,
} from '../../src/demand/fleet-silence.js';
import { DemandWindow } from '../../src/demand/window.js';
import { bucket, knownRates, record, start, steady, TraceStore } from './traces.js';

const quietly = { ...steady, pending: 0 };

function traces(name: string, secondsAgo: number | null, busy = true): ModelTraces {
  return { name, newestTraceSeconds: secondsAgo === null ? null : start - secondsAgo, busy };
}

function follow(models: readonly ModelTraces[], silences: readonly FleetSilence[] = [], more = {}) {
  return followFleetSilences({
    silences,
    models,
    nowSeconds: start,
    intervalSeconds: 10,
    latenessSeconds: 10,
    windowSeconds: 240,
    ...more,
  });
}

/** Names of the models that are held, or null. */
const held = (...args: Parameters<typeof follow>) => lastingSilence(follow(...args))?.models ?? null;

describe('a fleet falls silent', () => {
  it.each<readonly [string, readonly ModelTraces[], readonly string[] | null]>([
    ['when two busy models stop in the same interval', [traces('a', 40), traces('b', 40)], ['a', 'b']],
    ['when they stop within two intervals of each other', [traces('a', 60), traces('b', 40)], ['a', 'b']],
    ['but not when they stop three intervals apart', [traces('a', 70), traces('b', 40)], null],
    ['but not before three intervals and the lateness have passed', [traces('a', 39), traces('b', 39)], null],
    ['but not when only one of them was busy', [traces('a', 40), traces('b', 40, false)], null],
    ['but not when there is a single model', [traces('a', 40)], null],
    ['but not when both were sparse', [traces('a', 40, false), traces('b', 40, false)], null],
    [
      'but not when a third model was heard of long after them',
      [traces('a', 80), traces('b', 80), traces('c', 40, false)],
      null,
    ],
    ['but not when nothing was ever traced', [traces('a', null), traces('b', null)], null],
    [
      'with every model that was not idle by then',
      [traces('a', 40), traces('b', 50), traces('sparse', 270, false), traces('idle', 280, false), traces('new', null)],
      ['a', 'b', 'sparse'],
    ],
  ])('%s', (_, models, expected) => {
    expect(held(models)).toEqual(expected);
  });

  it('before a window shorter than three intervals would call it idle', () => {
    const models = [traces('a', 20), traces('b', 20)];
    expect(held(models, [], { windowSeconds: 10 })).toEqual(['a', 'b']);
    expect(held(models)).toBeNull();
  });
});

describe('a silence', () => {
  const silence: FleetSilence = { afterSeconds: start - 1000, beforeSeconds: null, models: ['a', 'b'] };

  it('lasts, however long, while no newer trace of any model is seen', () => {
    const silences = [silence];
    for (const models of [[], [traces('a', null)], [traces('a', 1000), traces('b', 1010)]]) {
      expect(follow(models, silences)).toBe(silences);
    }
  });

  it('ends with a newer trace of any model, also one that it does not concern', () => {
    const after = follow([traces('a', 1000), traces('b', 1000), traces('c', 30, false)], [silence]);
    expect(after).toEqual([{ ...silence, beforeSeconds: start - 30 }]);
    expect(lastingSilence(after)).toBeNull();
  });

  it('that has ended is remembered while a window holds its intervals', () => {
    const over = (secondsAgo: number) => [{ ...silence, beforeSeconds: start - secondsAgo }];
    const models = [traces('a', 0), traces('b', 0)];
    expect(follow(models, over(600))).toHaveLength(1);
    expect(follow(models, over(700))).toEqual([]);
  });

  it('can follow another one', () => {
    const before = [{ ...silence, beforeSeconds: start - 400 }];
    expect(follow([traces('a', 50), traces('b', 50)], before)).toEqual([
      before[0],
      { afterSeconds: start - 50, beforeSeconds: null, models: ['a', 'b'] },
    ]);
  });
});

describe('a window', () => {
  /** Its arrivals, newest last, one interval each; null = no record. */
  const after = (arrivals: readonly (number | null)[], intervalSeconds = 10) => {
    const store = new TraceStore();
    const window = new DemandWindow({ intervalSeconds });
    const first = start - (arrivals.length - 1) * intervalSeconds;
    arrivals.forEach((count, i) => {
      const written = record({ intervalSeconds, arrivals: count ?? 0, buckets: [bucket(256, 64, 1)] });
      if (count !== null)
        window.record(first + i * intervalSeconds, { kind: 'present', record: written }, start * 1000);
      else window.record(first + i * intervalSeconds, { kind: 'absent' }, start * 1000);
    });
    window.storeIdentity({ runId: store.runId, startedAtMs: store.startedAtMs });
    return window;
  };

  it.each<readonly [string, readonly (number | null)[], boolean]>([
    ['requests in every interval', [5, 5, 5, 5, 5, 5], true],
    ['requests in half of them', [5, null, 5, null, null, 5], true],
    ['requests in two of six', [5, null, null, null, null, 5], false],
    ['requests in two intervals, and nothing known before', [5, 5], false],
    ['requests in three intervals, and nothing known before', [5, 5, 5], true],
    ['requests long ago and one just now', [5, 5, 5, 5, null, null, null, null, null, 5], false],
    ['completions alone', [0, 0, 0, 0, 0, 0], false],
    ['nothing', [null, null, null], false],
  ])('with %s: busy or not', (_, arrivals, expected) => {
    expect(after(arrivals).busy).toBe(expected);
  });

  it('of intervals of a minute looks at six of them', () => {
    expect(after([5, 5, 5], 60).busy).toBe(true);
    expect(after([5, 5], 60).busy).toBe(false);
  });

  it('knows its newest trace', () => {
    expect(new DemandWindow().newestTraceSeconds).toBeNull();
    expect(after([5, 5, null, null]).newestTraceSeconds).toBe(start - 20);
  });

  it('keeps the intervals of a silence unknown, also once the traces are back', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    const cycles = (from: number, to: number, isTraced: boolean) => {
      let view = window.view((start + from) * 1000);
      for (let at = from; at <= to; at += 10) {
        if (isTraced) store.write(start + at, quietly);
        view = store.cycle(window, start + at + 1.5);
      }
      return view;
    };
    cycles(0, 230, true);
    cycles(240, 280, false);
    window.setUntraced([{ afterSeconds: start + 230, beforeSeconds: null }]);
    expect(cycles(290, 700, false)).toMatchObject({ hold: 'no_traces', idle: false, knownIntervals: 0 });
    window.setUntraced([{ afterSeconds: start + 230, beforeSeconds: start + 710 }]);
    const back = cycles(710, 710, true);
    expect(back.hold).toBeNull();
    expect(knownRates(back)).toEqual([10]);
    // A quiet model is idle again once its window holds nothing of the silence.
    expect(cycles(720, 930, false)).toMatchObject({ idle: false });
    expect(cycles(940, 970, false)).toMatchObject({ idle: true, hold: null });
  });

  it('keeps them unknown where the store was replaced meanwhile', () => {
    const store = new TraceStore();
    const window = new DemandWindow();
    for (let at = 0; at <= 50; at += 10) {
      if (at < 30) store.write(start + at, quietly);
      store.cycle(window, start + at + 1.5);
    }
    store.restart(start + 55);
    expect(knownRates(store.cycle(window, start + 61.5))).toContain(0);
    window.setUntraced([{ afterSeconds: start + 20, beforeSeconds: null }]);
    expect(knownRates(store.cycle(window, start + 61.5))).toEqual([10, 10, 10]);
  });

  it('remembers for a later process whether it was busy, whose keys may have expired', () => {
    const memory = after([5, 5, 5]).memory();
    expect(memory?.busy).toBe(true);
    const identity = { runId: 'run-1', startedAtMs: (start - 86_400) * 1000 };
    const later = new DemandWindow({ memory });
    later.storeIdentity(identity);
    expect([later.busy, later.newestTraceSeconds]).toEqual([true, start]);
    const { busy: _, ...older } = memory!;
    const unknown = new DemandWindow({ memory: older });
    unknown.storeIdentity(identity);
    expect(unknown.busy).toBe(false);
  });
});
