import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decideScale,
  longestPlanAgeMs,
  recentReplicas,
  type ScaleFacts,
  type ScaleLimits,
} from '../../../src/service/actuation/scale-decision.js';
import { RecentlyPublished } from '../../../src/service/publication.js';

const noLimits: ScaleLimits = { longestAgeMs: 60_000, maxStepsDownPerMinute: null, maxStepsUpPerMinute: null };
const alone = { names: [], unknownBecause: null };
const nothingRecent = { highest: null, lowest: null };

function facts(overrides: Partial<ScaleFacts> = {}): ScaleFacts {
  return {
    mode: 'live',
    paused: false,
    published: 5,
    heldReason: null,
    isFixed: false,
    ageMs: 100,
    plannedOn: 3,
    otherScalers: alone,
    ...overrides,
  };
}

function decide(overrides: Partial<ScaleFacts>, current: number | null = 3, limits: Partial<ScaleLimits> = {}) {
  return decideScale(facts(overrides), {
    current,
    recent: nothingRecent,
    limits: { ...noLimits, ...limits },
  });
}

describe('a published number', () => {
  it('is written where another one runs, up and down', () => {
    expect(decide({ published: 5 })).toEqual({ kind: 'write', replicas: 5, isLimited: false });
    expect(decide({ published: 0 })).toEqual({ kind: 'write', replicas: 0, isLimited: false });
  });

  it('that runs already has landed', () => {
    expect(decide({ published: 3 })).toEqual({ kind: 'landed' });
  });

  it('is written where nobody knows what runs, after reading it', () => {
    expect(decide({ plannedOn: null }, null)).toMatchObject({ kind: 'write', replicas: 5 });
    expect(decide({ plannedOn: null, published: 2 }, 3)).toMatchObject({ reason: 'changed_since_plan' });
  });

  it.each([
    ['in shadow mode', { mode: 'shadow' }, 'shadow'],
    ['of a paused deployment', { paused: true }, 'paused'],
    ['that is not known', { published: null }, 'not_known'],
    ['that is none', { published: Number.NaN }, 'not_known'],
    ['below none', { published: -1 }, 'not_known'],
    ['of a held model', { heldReason: 'redis_unreachable' }, 'held'],
    ['of a plan that is too old', { ageMs: 60_001 }, 'old_plan'],
    ['of a plan later than now', { ageMs: -1 }, 'old_plan'],
    [
      'that an autoscaler writes',
      { otherScalers: { names: ['ScaledObject a/b'], unknownBecause: null } },
      'other_scaler',
    ],
    ['that nobody knows who writes', { otherScalers: { names: [], unknownBecause: '403' } }, 'scalers_unknown'],
  ] as const)('%s is not written', (_name, overrides, reason) => {
    expect(decide(overrides)).toMatchObject({ kind: 'withheld', reason });
    expect(decide(overrides, 9)).toMatchObject({ kind: 'withheld', reason });
  });

  it('that a person fixed is written while its model is held, but not in shadow mode and not of a paused one', () => {
    const fixed = { isFixed: true, heldReason: 'redis_unreachable' };
    expect(decide({ ...fixed, published: 1 }, 9)).toMatchObject({ kind: 'write', replicas: 1 });
    expect(decide({ ...fixed, mode: 'shadow' })).toMatchObject({ reason: 'shadow' });
    expect(decide({ ...fixed, paused: true })).toMatchObject({ reason: 'paused' });
  });

  it('is left to what else scales it, told the same whatever comes and goes with inputs, and a person too', () => {
    const names = ['a', 'b', 'c', 'd', 'e'].map((name) => `ScaledObject prod/${name}`);
    const otherScalers = { names, unknownBecause: '403' };
    const told = decide({ otherScalers });
    expect(told).toMatchObject({
      reason: 'other_scaler',
      message:
        'ScaledObject prod/a, ScaledObject prod/b, ScaledObject prod/c and 2 more scale it: gpumix leaves it alone',
    });
    for (const faulty of [
      { heldReason: 'x' },
      { ageMs: 1e9 },
      { published: null },
      { isFixed: true },
      { published: 3 },
    ]) {
      expect(decide({ otherScalers, ...faulty })).toEqual(told);
    }
  });

  it('does not take away what came after its plan was made', () => {
    expect(decide({ published: 4, plannedOn: 3 }, 10)).toMatchObject({ reason: 'changed_since_plan' });
    expect(decide({ published: 4, plannedOn: 10 }, 10)).toMatchObject({ kind: 'write', replicas: 4 });
    // Less than was counted on: what is missing is added.
    expect(decide({ published: 4, plannedOn: 3 }, 1)).toMatchObject({ kind: 'write', replicas: 4 });
  });

  it('is written in a cluster of long cycles as long as three of them', () => {
    expect([longestPlanAgeMs(10), longestPlanAgeMs(60)]).toEqual([60_000, 180_000]);
  });
});

describe('the limits per minute', () => {
  it('hold for what lands: twenty replicas do not become two because a permission came late', () => {
    const late = { published: 2, plannedOn: 20 };
    expect(decide(late, 20, { maxStepsDownPerMinute: 3 })).toEqual({ kind: 'write', replicas: 17, isLimited: true });
    expect(decide({ published: 30, plannedOn: 20 }, 20, { maxStepsUpPerMinute: 4 })).toMatchObject({ replicas: 24 });
  });

  it('count from what ran within the minute, and never turn a fall into a rise', () => {
    const limits = { ...noLimits, maxStepsDownPerMinute: 3 };
    const down = (highest: number) =>
      decideScale(facts({ published: 2, plannedOn: 20 }), { current: 20, recent: { highest, lowest: 20 }, limits });
    expect(down(22)).toMatchObject({ kind: 'write', replicas: 19 });
    expect(down(23)).toMatchObject({ kind: 'withheld', reason: 'step_limit' });
    expect(down(40)).toMatchObject({ kind: 'withheld', reason: 'step_limit' });
  });

  it('are no matter of what a person fixed', () => {
    const fixed = { published: 2, plannedOn: 20, isFixed: true };
    expect(decide(fixed, 20, { maxStepsDownPerMinute: 3 })).toMatchObject({ kind: 'write', replicas: 2 });
  });
});

const replicas = fc.integer({ min: 0, max: 20 });
const anyFacts: fc.Arbitrary<ScaleFacts> = fc.record({
  mode: fc.constantFrom('live' as const, 'shadow' as const),
  paused: fc.boolean(),
  published: fc.option(replicas),
  heldReason: fc.option(fc.constant('redis_unreachable')),
  isFixed: fc.boolean(),
  ageMs: fc.integer({ min: -1000, max: 120_000 }),
  plannedOn: fc.option(replicas),
  otherScalers: fc.record({
    names: fc.constantFrom([], ['ScaledObject prod/llama']),
    unknownBecause: fc.option(fc.constant('403')),
  }),
});
const limit = fc.option(fc.integer({ min: 1, max: 10 }));
const anyLimits: fc.Arbitrary<ScaleLimits> = fc.record({
  longestAgeMs: fc.constant(60_000),
  maxStepsDownPerMinute: limit,
  maxStepsUpPerMinute: limit,
});
const anyRecent = fc.record({ highest: fc.option(replicas), lowest: fc.option(replicas) });

describe('of any facts', () => {
  it('a write moves towards what is published and never beyond it', () => {
    fc.assert(
      fc.property(anyFacts, fc.option(replicas), anyRecent, anyLimits, (given, current, recent, limits) => {
        const decision = decideScale(given, { current, recent, limits });
        if (decision.kind !== 'write') return;
        const from = current ?? 0;
        const to = given.published!;
        expect(decision.replicas).not.toBe(current);
        if (current !== null) {
          expect(decision.replicas).toBeGreaterThanOrEqual(Math.min(from, to));
          expect(decision.replicas).toBeLessThanOrEqual(Math.max(from, to));
        }
        expect(decision.isLimited).toBe(decision.replicas !== to);
      }),
    );
  });

  it('nothing is written that a fault, a person or another scaler forbids', () => {
    fc.assert(
      fc.property(anyFacts, fc.option(replicas), anyRecent, anyLimits, (given, current, recent, limits) => {
        const decision = decideScale(given, { current, recent, limits });
        const isForbidden =
          given.mode === 'shadow' ||
          given.paused ||
          given.published === null ||
          (given.heldReason !== null && !given.isFixed) ||
          given.ageMs < 0 ||
          given.ageMs > limits.longestAgeMs ||
          given.otherScalers.names.length > 0 ||
          given.otherScalers.unknownBecause !== null;
        if (isForbidden) expect(decision.kind).toBe('withheld');
        const falls = decision.kind === 'write' && current !== null && decision.replicas < current;
        if (falls && !given.isFixed) expect(current).toBe(given.plannedOn);
      }),
    );
  });

  it('what lands in any minute of a series of plans stays within the limits, and arrives', () => {
    const series = fc.array(replicas, { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(replicas, series, fc.integer({ min: 1, max: 5 }), (start, plans, most) => {
        const recent = new RecentlyPublished();
        const limits = { ...noLimits, maxStepsDownPerMinute: most, maxStepsUpPerMinute: most };
        const ran: number[] = [];
        let current = start;
        const cycle = (published: number, index: number) => {
          const nowMs = 1_000_000 + index * 10_000;
          recent.add('d', current, nowMs);
          ran.push(current);
          const decision = decideScale(facts({ published, plannedOn: current }), {
            current,
            recent: recentReplicas(recent, 'd', nowMs),
            limits,
          });
          if (decision.kind === 'write') current = decision.replicas;
          recent.add('d', current, nowMs);
          // What ran in the last minute: at this cycle and the five before it.
          const minute = ran.slice(-6);
          expect(Math.max(...minute) - current).toBeLessThanOrEqual(most);
          expect(current - Math.min(...minute)).toBeLessThanOrEqual(most);
        };
        plans.forEach(cycle);
        for (let index = 0; index < 6 * 21; index += 1) cycle(plans.at(-1)!, plans.length + index);
        expect(current).toBe(plans.at(-1));
      }),
      { numRuns: 30 },
    );
  });
});
