import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  KpaPodAutoscaler,
  type KpaSettings,
  kpaDefaults,
  kpaPanics,
  kpaTarget,
} from '../../../src/simulation/policies/kpa.js';

const recorded = '../shared/conformance/aibrix.json';

type Recorded = {
  readonly kpa_head_one_step: {
    readonly cases: readonly { readonly current: number; readonly metric: number; readonly desired: number }[];
  };
};

describe.skipIf(!existsSync(recorded))(`conformance with ${recorded}, which is skipped where absent`, () => {
  test('every recorded step of the controller comes out the same', () => {
    const { cases } = (JSON.parse(readFileSync(recorded, 'utf8')) as Recorded).kpa_head_one_step;
    expect(cases).toHaveLength(65);
    for (const { current, metric, desired } of cases) {
      const autoscaler = new KpaPodAutoscaler({ ...kpaDefaults, minReplicas: 0, maxReplicas: 10 });
      const found = autoscaler.look({ nowMs: 1_700_000_000_000, value: metric, current });
      expect(found, `${metric} with ${current} replicas`).toBe(desired);
    }
  });
});

describe("the controller's own unit tests", () => {
  const rules = { ...kpaDefaults, targetValue: 10 };

  test.each([
    ['two replicas for twice the target', { current: 2, stable: 20, panic: 20 }, {}, 2],
    ['panic goes by the short window', { current: 2, stable: 30, panic: 40 }, { panicking: 2 }, 4],
    ['panic takes nothing away', { current: 5, stable: 20, panic: 20 }, { panicking: 5 }, 5],
    ['no load, no replicas', { current: 0, stable: 0, panic: 0 }, {}, 0],
    ['one replica without load goes', { current: 1, stable: 0, panic: 0 }, {}, 0],
    [
      'a start from nothing takes the activation scale',
      { current: 0, stable: 15, panic: 15 },
      { activationScale: 3 },
      3,
    ],
    ['one look halves at most', { current: 4, stable: 5, panic: 5 }, {}, 2],
  ])('%s', (_, observed, more, expected) => {
    expect(kpaTarget(rules, observed, more)).toBe(expected);
  });

  test('one look adds no more than its rate', () => {
    expect(kpaTarget({ ...rules, maxScaleUpRate: 1.5 }, { current: 2, stable: 100, panic: 100 })).toBe(3);
  });
});

test('it panics where the short average is more than twice the long one, or the long one is 0', () => {
  expect(kpaPanics({ current: 1, stable: 100, panic: 200 }, 2)).toBe(false);
  expect(kpaPanics({ current: 1, stable: 100, panic: 201 }, 2)).toBe(true);
  expect(kpaPanics({ current: 1, stable: 0, panic: 0 }, 2)).toBe(true);
});

/** Looks every 10 s with these values of the metric, each acted upon at once. */
function follow(values: readonly (number | null)[], start: number, overrides: Partial<KpaSettings> = {}) {
  const autoscaler = new KpaPodAutoscaler({ ...kpaDefaults, ...overrides, minReplicas: 0, maxReplicas: 50 });
  let current = start;
  return values.map((value, i) => {
    current = autoscaler.look({ nowMs: 10_000 * i, value, current });
    return current;
  });
}

describe('over time', () => {
  test('the long window averages the last 180 s, both ends included', () => {
    // 19 samples at most: 18 × 300 + 1400 over 19 = 357.9, which is 4 replicas; the next look has one 300 less.
    const steady = new Array<number>(18).fill(300);
    const found = follow([...steady, 1400, 1400], 3);
    expect(found.slice(0, 18)).toEqual(new Array(18).fill(3));
    expect(found.slice(18)).toEqual([4, 5]);
  });

  test('a jump to many times the load is met by panic, doubling at each look', () => {
    // The short window has 7 samples, the long one 19: a single one of 1600 makes 314 against 179, two make 529 against 258.
    const found = follow([...new Array<number>(19).fill(100), 1600, 1600, 1600, 1600], 1);
    expect(found.slice(0, 19)).toEqual(new Array(19).fill(1));
    const averages = [1, 2, 3, 4].map((n) => ({
      stable: (100 * (19 - n) + 1600 * n) / 19,
      panic: (100 * (7 - n) + 1600 * n) / 7,
    }));
    let current = 1;
    const expected = averages.map(({ stable, panic }) => {
      const value = panic / stable > 2 ? Math.max(stable, panic) : stable;
      current = Math.min(Math.ceil(value / 100), 2 * current);
      return current;
    });
    expect(expected).toEqual([2, 4, 8, 10]);
    expect(found.slice(19)).toEqual(expected);
  });

  test('going down takes the lowest recommendation of the last 300 s', () => {
    // Up from 2 to 4 replicas; a dip that asks for 3 then falls back to the 2 that were recommended at the start.
    const values = [
      ...new Array<number>(3).fill(150),
      ...new Array<number>(22).fill(400),
      ...new Array<number>(5).fill(10),
    ];
    const found = follow(values, 2);
    expect(found.slice(0, 3)).toEqual([2, 2, 2]);
    expect(found.slice(24)).toEqual([4, 4, 4, 4, 4, 2]);
    expect(follow(values, 2, { scaleDownCooldownSeconds: 0 }).at(-1)).toBe(3);
  });

  test('a metric that cannot be read scales nothing', () => {
    expect(follow([null, null, null], 7)).toEqual([7, 7, 7]);
  });

  test('bounds hold at once, and a deployment at zero that may not be there is left alone', () => {
    const autoscaler = new KpaPodAutoscaler({ ...kpaDefaults, minReplicas: 2, maxReplicas: 5 });
    expect(autoscaler.look({ nowMs: 0, value: 900, current: 8 })).toBe(5);
    expect(autoscaler.look({ nowMs: 10_000, value: 0, current: 1 })).toBe(2);
    expect(autoscaler.look({ nowMs: 20_000, value: 900, current: 0 })).toBe(0);
    const idle = new KpaPodAutoscaler({ ...kpaDefaults, minReplicas: 2, maxReplicas: 5 });
    expect(idle.look({ nowMs: 0, value: 0, current: 2 })).toBe(2);
  });
});
