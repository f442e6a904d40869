import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HoldFacts, ReplicaHolds, savedHoldsSchema } from '../../src/service/replica-holds.js';

const settings = {
  scaleDownStabilizationSeconds: 300,
  scaleDownTolerance: 0,
  minReplicaLifetimeSeconds: 0,
  intervalSeconds: 10,
};

const facts = (id: string, wanted: number, running: number | null, more: Partial<HoldFacts> = {}): HoldFacts => ({
  id,
  wanted,
  running,
  maxReplicas: 1000,
  fill: 0.5,
  usdPerReplicaHour: 1,
  ...more,
});

const kept = (holds: ReturnType<ReplicaHolds['observe']>) =>
  Object.fromEntries([...(holds?.replicas ?? [])].map(([id, { replicas }]) => [id, replicas]));

describe('what is kept', () => {
  it('is never more than runs, never less than is wanted, and nothing where nobody knows what runs', () => {
    const counts = fc.integer({ min: 0, max: 9 });
    const step = fc.record({
      wanted: fc.tuple(counts, counts),
      running: fc.tuple(fc.option(counts), counts),
      seconds: fc.integer({ min: 0, max: 400 }),
      fill: fc.double({ min: 0, max: 1, noNaN: true }),
      rise: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 90 }), (steps) => {
        const holds = new ReplicaHolds({ ...settings, scaleDownTolerance: 0.1, minReplicaLifetimeSeconds: 200 });
        let nowMs = 0;
        for (const { wanted, running, seconds, fill, rise } of steps) {
          nowMs += seconds * 1000;
          const both = [0, 1].map((k) => facts(`${k}`, wanted[k]!, running[k]!, { fill, maxReplicas: 8 }));
          const held = holds.observe('m', both, nowMs);
          for (let level = held; level !== null; level = level.otherwise) {
            for (const [id, hold] of level.replicas) {
              const { wanted: least, running: most } = both[Number(id)]!;
              expect(most).not.toBeNull();
              expect(hold.replicas).toBeGreaterThan(least);
              expect(hold.replicas).toBeLessThanOrEqual(Math.min(most!, 8));
              if (hold.untilMs !== null) expect(hold.untilMs).toBeGreaterThan(nowMs);
            }
          }
          if (rise) holds.rose('m', { id: '0', replicas: wanted[0] + 1, nowMs });
          const saved = holds.saved(nowMs);
          expect(savedHoldsSchema.parse(JSON.parse(JSON.stringify(saved)))).toEqual(saved);
          for (const each of saved) expect(each.plans.length + each.rises.length).toBeLessThanOrEqual(120);
        }
      }),
      { seed: 3 },
    );
  });

  it('is what the last plan within the window had, to the second', () => {
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 5, 5)], 0);
    for (let at = 10; at < 300; at += 10) {
      expect(kept(holds.observe('m', [facts('a', 2, 5)], at * 1000))).toEqual({ a: 5 });
    }
    expect(holds.observe('m', [facts('a', 2, 5)], 299_999)?.replicas.get('a')?.untilMs).toBe(300_000);
    expect(kept(holds.observe('m', [facts('a', 2, 5)], 300_000))).toEqual({});
  });

  it('of a mix is the most of each, while that costs little more than its dearest plan', () => {
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 8, 8), facts('b', 2, 3)], 0);
    // The most of both, 8 + 3, is a tenth dearer than the dearest plan, 8 + 2.
    holds.observe('m', [facts('a', 6, 8), facts('b', 3, 3)], 10_000);
    expect(kept(holds.observe('m', [facts('a', 5, 8), facts('b', 2, 3)], 20_000))).toEqual({ a: 8, b: 3 });
  });

  it('of a mix that was replaced is one whole plan, not both: the newest of those as dear as the dearest', () => {
    const both = (a: number, b: number) => [facts('a', a, 8), facts('b', b, 8)];
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 8, 8), facts('b', 0, 0)], 0);
    holds.observe('m', both(0, 8), 10_000);
    // Both run, and three would do: keeping all sixteen is too dear, keeping the eight that were wanted last is not.
    const held = holds.observe('m', both(0, 3), 20_000);
    expect(held?.mostUsdPerHour).toBeCloseTo(8.4, 3);
    expect(kept(held?.otherwise ?? null)).toEqual({ b: 8 });
  });

  it('is also what a plan needed beside what it kept, once, and not what it only kept', () => {
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 3, 3), facts('b', 2, 2)], 0);
    // Three of b alone would be cheapest; with three of a kept, a fourth of a is.
    const next = [facts('a', 0, 3), facts('b', 3, 2)];
    const keptNow = holds.observe('m', next, 10_000)!;
    holds.follow('m', next, { holds: keptNow, targetOf: (id) => (id === 'a' ? 4 : 2), nowMs: 10_000 });
    const after = [facts('a', 3, 4), facts('b', 2, 2)];
    const later = holds.observe('m', after, 20_000)!;
    expect(kept(later)).toEqual({ a: 4 });
    holds.follow('m', after, { holds: later, targetOf: (id) => (id === 'a' ? 4 : 2), nowMs: 20_000 });
    for (let at = 70; at < 310; at += 50) holds.observe('m', after, at * 1000);
    expect(kept(holds.observe('m', after, 310_000))).toEqual({});
  });

  it('after a gap without plans is what runs', () => {
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 2, 2)], 0);
    // A minute without a plan: whoever held the model, or watched it meanwhile, needed what runs.
    expect(kept(holds.observe('m', [facts('a', 2, 6)], 60_000))).toEqual({});
    expect(kept(holds.observe('m', [facts('a', 2, 6)], 130_000))).toEqual({ a: 6 });
  });

  it('does not outlive a clock that was set back', () => {
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 9, 9)], 10_000_000);
    // What is later than now is nobody's past: what runs counts from now on.
    expect(holds.observe('m', [facts('a', 2, 4)], 1_000_000)?.replicas.get('a')).toMatchObject({
      replicas: 4,
      untilMs: 1_300_000,
    });
  });

  it('is forgotten with its model', () => {
    const holds = new ReplicaHolds(settings);
    holds.observe('m', [facts('a', 9, 9)], 0);
    holds.keepOnly(new Map([['other', 1]]));
    expect(holds.saved(0)).toEqual([]);
  });

  it('stays bounded where every plan is another one', () => {
    const holds = new ReplicaHolds({ ...settings, scaleDownStabilizationSeconds: 86_400 });
    for (let k = 0; k < 500; k += 1) holds.observe('m', [facts('a', k % 97, 100)], k * 10_000);
    expect(holds.saved(5_000_000)[0]!.plans.length).toBeLessThanOrEqual(60);
    // What was joined still counts.
    expect(kept(holds.observe('m', [facts('a', 1, 100)], 5_000_000))).toEqual({ a: 100 });
  });
});

describe('tolerance', () => {
  const tolerant = { ...settings, scaleDownStabilizationSeconds: 0, scaleDownTolerance: 0.1 };

  it('keeps what demand a tenth larger would need, where what is left would be full', () => {
    const holds = new ReplicaHolds(tolerant);
    expect(kept(holds.observe('m', [facts('a', 5, 9, { fill: 0.95 })], 0))).toEqual({ a: 6 });
    expect(kept(holds.observe('m', [facts('a', 5, 9, { fill: 0.9 })], 0))).toEqual({});
    expect(kept(holds.observe('m', [facts('a', 0, 9, { fill: 0 })], 0))).toEqual({});
  });

  it('keeps nothing of what makes place for another type', () => {
    const holds = new ReplicaHolds(tolerant);
    expect(kept(holds.observe('m', [facts('a', 5, 9, { fill: 1 }), facts('b', 3, 1, { fill: 1 })], 0))).toEqual({});
  });
});
