import { describe, expect, it } from 'vitest';
import type { PlanChange } from '../../../src/core/explanation.js';
import { mixOf, outcome, usd, wouldDo } from '../../../src/optimizer/explain/sentences.js';

function change(overrides: Partial<PlanChange> = {}): PlanChange {
  const { usdPerHour = 0, unserved = [] } = overrides;
  return {
    unserved,
    unservedRps: unserved.reduce((sum, { rps }) => sum + rps, 0),
    usdPerHour,
    lowestUsdPerHour: usdPerHour,
    highestUsdPerHour: usdPerHour,
    proven: true,
    replicas: [],
    moreReplicaChanges: 0,
    ...overrides,
  };
}

describe('a change in words', () => {
  it.each([
    [change(), 'would change nothing', 'the same plan'],
    [change({ usdPerHour: -3.2 }), 'would save 3.20 USD/h', '3.20 USD/h less'],
    [change({ usdPerHour: 1234.5 }), 'would cost 1,234.50 USD/h more', '1,234.50 USD/h more'],
    [
      change({ usdPerHour: 4, unserved: [{ priority: 0, rps: -2.5 }] }),
      'would serve 2.5 requests/s more and cost 4.00 USD/h more',
      '2.5 requests/s more served, 4.00 USD/h more',
    ],
    [
      change({ usdPerHour: -1, unserved: [{ priority: 0, rps: 5 }] }),
      'would leave 5 requests/s more unserved and save 1.00 USD/h',
      '5 requests/s more unserved, 1.00 USD/h less',
    ],
    [
      change({
        unserved: [
          { priority: 5, rps: -0.5 },
          { priority: 0, rps: 2 },
        ],
      }),
      'would serve 0.5 requests/s more of priority 5 and 2 less of priority 0',
      '0.5 requests/s more served of priority 5 and 2 less of priority 0',
    ],
    [
      change({ usdPerHour: -2, lowestUsdPerHour: -2.5, highestUsdPerHour: 0.1, proven: false }),
      'would change the cost by −2.50 to +0.10 USD/h',
      'a change of the cost by −2.50 to +0.10 USD/h',
    ],
    [
      change({ usdPerHour: 0, lowestUsdPerHour: -0.4, highestUsdPerHour: 0, proven: false }),
      'would save at most 0.40 USD/h',
      'at most 0.40 USD/h less',
    ],
    [
      change({ usdPerHour: 2, lowestUsdPerHour: 1.5, highestUsdPerHour: 2, proven: false }),
      'would cost between 1.50 and 2.00 USD/h more',
      'between 1.50 and 2.00 USD/h more',
    ],
    [
      change({ usdPerHour: 3, lowestUsdPerHour: null, highestUsdPerHour: null, proven: false }),
      'would cost about 3.00 USD/h more (not proven)',
      'about 3.00 USD/h more (not proven)',
    ],
  ])('%# says what would be and what comes out', (given, would, out) => {
    expect([wouldDo(given), outcome(given)]).toEqual([would, out]);
  });

  it('of the demand itself is told by what stays unserved, since more or less is asked for', () => {
    const given = change({
      unserved: [
        { priority: 5, rps: -0.5 },
        { priority: 0, rps: -2 },
      ],
    });
    expect(wouldDo(given, { otherDemand: true })).toBe(
      'would leave 0.5 requests/s less unserved of priority 5 and 2 less of priority 0',
    );
  });
});

describe('a mix in words', () => {
  it('counts replicas by GPU type, and names deployments where types alone do not tell', () => {
    const one = (deployment: string, gpuType: string, replicas: number) => ({ deployment, gpuType, replicas });
    expect(mixOf([])).toBe('no replica at all');
    expect(mixOf([one('a/x', 'L4', 8)])).toBe('8 × L4');
    expect(mixOf([one('a/x', 'L4', 3), one('a/y', 'A100', 1), one('a/z', 'H100', 2)])).toBe(
      '3 × L4, 1 × A100 and 2 × H100',
    );
    expect(mixOf([one('a/x', 'L4', 3), one('a/y', 'L4', 1)])).toBe('3 × L4 (a/x) and 1 × L4 (a/y)');
  });
});

describe('money in words', () => {
  it.each([
    [0, '0.00'],
    [5.8, '5.80'],
    [0.1, '0.10'],
    [0.0561, '0.056'],
    [0.00004, '0.00004'],
    [1e-9, 'less than 0.000001'],
    [1_234_567.891, '1,234,567.89'],
    [99.999, '100.00'],
  ])('%d USD is %s', (value, text) => {
    expect(usd(value)).toBe(text);
  });
});
