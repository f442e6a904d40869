import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PlannedDeployment } from '../../src/core/plan.js';
import {
  aibrixMetric,
  type PublicationFacts,
  publishDeployment,
  RecentlyPublished,
} from '../../src/service/publication.js';

const conformanceFile = new URL('../../../shared/conformance/aibrix.json', import.meta.url);

/**
 * One step of the autoscaler that reads the number (its KPA algorithm with default tolerances 0.1 and rates 2): divide
 * by the target value and round up, keep what runs within a tenth of the target, at most double and at least halve.
 */
function kpaStep(current: number, metric: number, targetValue = 100, maxReplicas = 10): number {
  const isInBand = metric >= targetValue * 0.9 && metric <= targetValue * 1.1;
  const wanted = isInBand ? current : Math.ceil(metric / targetValue);
  const most = Math.max(1, Math.ceil(2 * current));
  const least = Math.floor(current / 2);
  return Math.min(maxReplicas, Math.max(least, Math.min(most, wanted)));
}

function settle(current: number, metric: number): number {
  let replicas = current;
  for (let i = 0; i < 30; i += 1) replicas = kpaStep(replicas, metric, 100, 10_000);
  return replicas;
}

describe.skipIf(!existsSync(conformanceFile))('the rule of the autoscaler in this test (needs ../shared)', () => {
  it('gives the recorded answers', () => {
    const { cases } = JSON.parse(readFileSync(conformanceFile, 'utf8')).kpa_head_one_step as {
      cases: { current: number; metric: number; desired: number }[];
    };
    expect(cases.length).toBeGreaterThan(50);
    for (const { current, metric, desired } of cases) {
      expect({ current, metric, desired: kpaStep(current, metric) }).toEqual({ current, metric, desired });
    }
  });
});

describe('the number for AIBrix', () => {
  it('is 50, 150, 250 … for 1, 2, 3 … replicas, and 0 for none', () => {
    expect([0, 1, 2, 3, 8].map((n) => aibrixMetric(n, 100))).toEqual([0, 50, 150, 250, 750]);
  });

  it('lands on n whole replicas, whatever runs', () => {
    for (const current of [0, 1, 2, 3, 5, 8, 13, 40, 200]) {
      for (let n = 0; n <= 60; n += 1)
        expect({ current, n: settle(current, aibrixMetric(n, 100)) }).toEqual({ current, n });
    }
  });

  it('of three idle replicas is three pods through targetValue 100', () => {
    expect([0, 1, 8].map((current) => settle(current, aibrixMetric(3, 100)))).toEqual([3, 3, 3]);
  });

  it('is whole and lands on n with any unit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 1_000_000 }), fc.integer({ min: 0, max: 10_000 }), (unit, n) => {
        const metric = aibrixMetric(n, unit);
        expect(Number.isInteger(metric)).toBe(true);
        expect(Math.ceil(metric / unit)).toBe(n);
        if (n > 0) expect(metric >= unit * 0.9 && metric <= unit * 1.1).toBe(false);
      }),
    );
  });
});

const planned: PlannedDeployment = {
  id: 'default/gpu',
  model: 'llama',
  gpuType: 'L4',
  replicas: 5,
  targetReplicas: 5,
  utilization: 1,
  usdPerHour: 5,
  reason: 'As planned.',
};

function publish(change: {
  readonly facts?: Partial<PublicationFacts>;
  /** The plan's next step. */
  readonly step?: number | null;
  readonly heldReason?: string | null;
  readonly mode?: 'live' | 'shadow';
  readonly maxStepsDownPerMinute?: number | null;
  readonly maxStepsUpPerMinute?: number | null;
}): number | null {
  return publishDeployment({
    deployment: { ...planned, replicas: change.step === undefined ? 5 : change.step },
    heldReason: change.heldReason ?? null,
    facts: {
      currentReplicas: 3,
      paused: false,
      usdPerReplicaHour: 1,
      override: null,
      published: null,
      ownReplicas: change.facts?.published ?? null,
      keptReplicas: null,
      restored: false,
      isUncounted: false,
      highestWithinMinute: null,
      lowestWithinMinute: null,
      hold: null,
      wantedBesideKept: null,
      askedForInVain: null,
      isWoken: false,
      ...change.facts,
    },
    settings: {
      mode: change.mode ?? 'live',
      maxStepsDownPerMinute: change.maxStepsDownPerMinute ?? null,
      maxHeldStepsDownPerMinute: change.maxStepsDownPerMinute ?? null,
      maxStepsUpPerMinute: change.maxStepsUpPerMinute ?? null,
      stability: { scaleDownStabilizationSeconds: 300, scaleDownTolerance: 0, minReplicaLifetimeSeconds: 0 },
    },
  }).replicas;
}

describe('what is published', () => {
  const override = { replicas: 9, expiresAt: null };
  const cases: readonly (readonly [string, Parameters<typeof publish>[0], number | null])[] = [
    ['the next step of the plan', {}, 5],
    ['the next step, not the target behind it', { step: 4 }, 4],
    [
      'an override before everything',
      { facts: { override, paused: true }, mode: 'shadow', heldReason: 'no_traces' },
      9,
    ],
    ['the current replicas in shadow mode', { mode: 'shadow' }, 3],
    ['the current replicas of a paused deployment', { facts: { paused: true } }, 3],
    ['nothing in shadow mode without current replicas', { mode: 'shadow', facts: { currentReplicas: null } }, null],
    ['the number before, of a held model', { heldReason: 'no_traces', facts: { published: 7 } }, 7],
    [
      'the number before a restart, of a held model',
      { heldReason: 'no_traces', facts: { published: 7, restored: true } },
      7,
    ],
    [
      'what runs where it is more than the number before a restart',
      { heldReason: 'no_traces', facts: { published: 7, restored: true, currentReplicas: 8 } },
      8,
    ],
    [
      'the number before and not what runs, where this process planned it',
      { heldReason: 'x', facts: { published: 2 } },
      2,
    ],
    ['nothing for a held model without a number', { heldReason: 'no_traces' }, null],
    ['what runs, for a model without any profile', { heldReason: 'no_profile' }, 3],
    ['nothing for a deployment without a step', { step: null }, null],
    ['nothing where its type is limited to what runs, and that is not known', { facts: { isUncounted: true } }, null],
    ['the number before, where it is not known any more', { facts: { isUncounted: true, published: 2 } }, 2],
    ['a fall within the limit', { maxStepsDownPerMinute: 2, facts: { highestWithinMinute: 7 } }, 5],
    ['no fall beyond the limit', { maxStepsDownPerMinute: 2, step: 0, facts: { highestWithinMinute: 7 } }, 5],
    [
      'no fall beyond the limit below what was restored',
      { maxStepsDownPerMinute: 1, step: 0, facts: { published: 4 } },
      3,
    ],
    ['no fall beyond the limit below what runs at the start', { maxStepsDownPerMinute: 1, step: 0 }, 2],
    [
      'no rise beyond the limit',
      { maxStepsUpPerMinute: 2, step: 90, facts: { published: 4, lowestWithinMinute: 3 } },
      5,
    ],
    ['no rise beyond the limit above what runs at the start', { maxStepsUpPerMinute: 2, step: 90 }, 5],
    ['a fall, where rises are limited', { maxStepsUpPerMinute: 1, step: 0, facts: { published: 7 } }, 0],
    [
      'what was published before, where the limit of rises was lowered since',
      { maxStepsUpPerMinute: 1, step: 90, facts: { published: 8, lowestWithinMinute: 2 } },
      8,
    ],
    ['any rise', { maxStepsDownPerMinute: 1, step: 90, facts: { highestWithinMinute: 1 } }, 90],
  ];
  it.each(cases)('is %s', (_, change, expected) => {
    expect(publish(change)).toBe(expected);
  });
});

describe('the highest number of the last minute', () => {
  it('forgets what is older, and deployments that are gone', () => {
    const recent = new RecentlyPublished();
    recent.add('a', 9, 0);
    recent.add('a', 4, 30_000);
    expect([recent.highest('a', 59_999), recent.highest('a', 60_000), recent.highest('a', 90_000)]).toEqual([
      9,
      4,
      null,
    ]);
    recent.keepOnly(new Set<string>());
    expect(recent.highest('a', 30_000)).toBeNull();
  });

  it('forgets what is later than now: a clock that was set back limits no number', () => {
    const recent = new RecentlyPublished();
    recent.add('a', 9, 3_600_000);
    recent.add('a', 1, 3_610_000);
    expect([recent.highest('a', 1000), recent.lowest('a', 1000)]).toEqual([null, null]);
    recent.add('a', 4, 1000);
    expect([recent.highest('a', 2000), recent.lowest('a', 2000)]).toEqual([4, 4]);
    // Gone for good: also when the clock is there again.
    expect([recent.highest('a', 3_610_000), recent.lowest('a', 3_610_000)]).toEqual([null, null]);
  });

  it('never lets a number fall by more than the limit within any minute', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ gapMs: fc.integer({ min: 1, max: 40_000 }), target: fc.integer({ min: 0, max: 50 }) }), {
          maxLength: 60,
        }),
        fc.integer({ min: 1, max: 10 }),
        (steps, limit) => {
          const recent = new RecentlyPublished();
          const all: { atMs: number; replicas: number }[] = [];
          let atMs = 0;
          for (const { gapMs, target } of steps) {
            atMs += gapMs;
            const facts = { highestWithinMinute: recent.highest('a', atMs), published: all.at(-1)?.replicas ?? null };
            const replicas = publish({ step: target, facts, maxStepsDownPerMinute: limit })!;
            for (const before of all) {
              if (atMs - before.atMs < 60_000) expect(before.replicas - replicas).toBeLessThanOrEqual(limit);
            }
            expect(replicas).toBeGreaterThanOrEqual(target);
            all.push({ atMs, replicas });
            recent.add('a', replicas, atMs);
          }
        },
      ),
    );
  });
});
