import { describe, expect, test } from 'vitest';
import {
  HorizontalPodAutoscaler,
  type HpaObservation,
  type HpaSettings,
  hpaDefaults,
  hpaProposal,
} from '../../../src/simulation/policies/hpa.js';

const rules = { target: 10, tolerance: 0.1 };
const seen = (overrides: Partial<HpaObservation>): HpaObservation => ({
  current: 4,
  pods: 4,
  sum: 40,
  startingPods: 0,
  ...overrides,
});

describe('what the metric asks for', () => {
  test.each([
    ['exactly the target', seen({}), 4],
    ['a tenth above it changes nothing', seen({ sum: 44 }), 4],
    ['a tenth below it changes nothing', seen({ sum: 36 }), 4],
    ['a little more than a tenth above rounds up', seen({ sum: 44.1 }), 5],
    ['twice the target doubles', seen({ sum: 80 }), 8],
    ['half the target halves', seen({ sum: 20 }), 2],
    ['a quarter of a replica is one', seen({ sum: 2 }), 1],
    ['nothing in flight asks for none, which the minimum catches later', seen({ sum: 0 }), 0],
    ['no pod has the metric: it cannot be said', seen({ pods: 0, sum: 0, startingPods: 4 }), null],
  ])('%s', (_, observed, expected) => {
    expect(hpaProposal(rules, observed)).toBe(expected);
  });

  test('pods that start count as 0 on the way up: what they will take is not asked for twice', () => {
    // 2 pods with 20 each would ask for 4; with 2 that start the mean is 10, so nothing changes.
    expect(hpaProposal(rules, seen({ pods: 2, sum: 40, startingPods: 2 }))).toBe(4);
    // 60 over 4 is 15: six replicas.
    expect(hpaProposal(rules, seen({ pods: 2, sum: 60, startingPods: 2 }))).toBe(6);
    // 30 over 4 is 7.5, which would turn the direction round.
    expect(hpaProposal(rules, seen({ pods: 2, sum: 30, startingPods: 2 }))).toBe(4);
  });

  test('pods that start count as the target on the way down', () => {
    // 2 pods with 2 each and 2 at 10: 24 over 4 is 6, so ceil(0.6 × 4) = 3.
    expect(hpaProposal(rules, seen({ pods: 2, sum: 4, startingPods: 2 }))).toBe(3);
  });
});

const autoscalerOf = (overrides: Partial<HpaSettings> = {}) =>
  new HorizontalPodAutoscaler({ ...hpaDefaults, target: 10, maxReplicas: 100, ...overrides });

/** Looks every 15 s at this many requests in flight, spread over the replicas, each look acted upon at once. */
function follow(inFlight: readonly number[], start: number, overrides: Partial<HpaSettings> = {}): readonly number[] {
  const autoscaler = autoscalerOf(overrides);
  let current = start;
  return inFlight.map((sum, i) => {
    current = autoscaler.look(15_000 * i, { current, pods: current, sum, startingPods: 0 });
    return current;
  });
}

describe('over time', () => {
  test('a jump is followed at once, by doubling or by four more, whichever is more', () => {
    expect(follow([500, 500, 500, 500], 1)).toEqual([5, 10, 20, 40]);
    expect(follow([500, 500, 500, 500, 500], 5)).toEqual([10, 20, 40, 50, 50]);
  });

  test('the way down waits until the highest recommendation of five minutes is past', () => {
    const quiet = new Array<number>(25).fill(20);
    // The first look recommends 2, the replicas of before are a recommendation as well: 300 s later, at look 20, it goes.
    const found = follow(quiet, 8);
    expect(found.slice(0, 20)).toEqual(new Array(20).fill(8));
    expect(found.slice(20)).toEqual(new Array(5).fill(2));
  });

  test('one busy look in between makes it wait anew, for what that one recommended', () => {
    const found = follow([...new Array<number>(10).fill(20), 45, ...new Array<number>(25).fill(20)], 8);
    expect(found.slice(0, 20)).toEqual(new Array(20).fill(8));
    expect(found.slice(20, 30)).toEqual(new Array(10).fill(5));
    expect(found[30]).toBe(2);
  });

  test('it never goes below one, nor above the largest number', () => {
    expect(follow(new Array<number>(22).fill(0), 3).at(-1)).toBe(1);
    expect(follow([900, 900], 4, { maxReplicas: 6 })).toEqual([6, 6]);
  });

  test('a stabilisation window on the way up takes the lowest recommendation', () => {
    expect(follow([200, 200, 200], 10, { scaleUpStabilizationSeconds: 30 })).toEqual([10, 10, 20]);
  });

  test('a rise within the period counts against its limit', () => {
    const autoscaler = autoscalerOf({ scaleUp: { percent: 100, pods: 4, periodSeconds: 60 } });
    const look = (seconds: number, current: number) =>
      autoscaler.look(1000 * seconds, { current, pods: current, sum: 900, startingPods: 0 });
    expect(look(0, 10)).toBe(20);
    expect(look(15, 20)).toBe(20);
    expect(look(60, 20)).toBe(40);
  });

  test('a fall within the period counts against its limit', () => {
    const autoscaler = autoscalerOf({
      scaleDownStabilizationSeconds: 0,
      scaleDown: { percent: 50, periodSeconds: 60 },
    });
    const look = (seconds: number, current: number) =>
      autoscaler.look(1000 * seconds, { current, pods: current, sum: 1, startingPods: 0 });
    expect(look(0, 16)).toBe(8);
    expect(look(15, 8)).toBe(8);
    expect(look(60, 8)).toBe(4);
  });

  test('without any pod that has the metric nothing is scaled; at zero autoscaling is off', () => {
    const autoscaler = autoscalerOf();
    expect(autoscaler.look(0, { current: 3, pods: 0, sum: 0, startingPods: 3 })).toBe(3);
    expect(autoscaler.look(15_000, { current: 0, pods: 0, sum: 0, startingPods: 0 })).toBe(0);
    expect(autoscaler.look(30_000, { current: 200, pods: 200, sum: 2000, startingPods: 0 })).toBe(100);
  });
});
