import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Axis,
  clockAxis,
  countAxis,
  ninesAxis,
  rangeAxis,
  timeAxis,
} from '../../../src/simulation/backtest/report-axes.js';
import {
  attainmentText,
  errorText,
  secondsText,
  spanText,
  usdText,
} from '../../../src/simulation/backtest/report-numbers.js';
import { thinSeries } from '../../../src/simulation/backtest/report-thin.js';
import { noSeries } from '../../support/backtest-documents.js';

const labels = (axis: Axis) => axis.ticks.map(({ label }) => label);

describe('an axis', () => {
  it('of attainment names its nines, 100 % and what was asked about', () => {
    const axis = ninesAxis({ low: 0.9, high: 1, finest: 5e-4, spacing: 0.08 });
    expect(labels(axis)).toEqual(['90 %', '95 %', '98 %', '99 %', '99.5 %', '99.8 %', '99.9 %', '100 %']);
    expect(axis.position(0.9)).toBeLessThan(axis.position(0.99));
    expect(axis.position(1)).toBeLessThanOrEqual(1);
  });

  it('of time names 1, 2 and 5 of a decade, or fewer where there are many', () => {
    const axis = (low: number, high: number) => labels(timeAxis({ low, high, label: String }));
    expect(axis(0.5, 4)).toEqual(['0.5', '1', '2']);
    expect(axis(0.1, 20)).toEqual(['0.1', '0.3', '1', '3', '10']);
    expect(axis(0.001, 1000)).toEqual(['0.001', '0.01', '0.1', '1', '10', '100', '1000']);
  });

  it('of the clock counts minutes, hours or days', () => {
    const axis = (fromSeconds: number, toSeconds: number) => clockAxis({ fromSeconds, toSeconds, ticks: 8 });
    expect([axis(0, 3600).unit, labels(axis(0, 3600))]).toEqual(['minutes', ['0', '10', '20', '30', '40', '50', '60']]);
    expect([axis(8640, 86_400).unit, labels(axis(8640, 86_400))]).toEqual([
      'hours',
      ['3', '6', '9', '12', '15', '18', '21', '24'],
    ]);
    expect([axis(0, 14 * 86_400).unit, labels(axis(0, 14 * 86_400))]).toEqual([
      'days',
      ['0', '2', '4', '6', '8', '10', '12', '14'],
    ]);
  });

  it('of any range ascends, with few ticks that lie on it', () => {
    const number = fc.double({ min: 0, max: 1e7, noNaN: true });
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const axes = fc.oneof(
      fc.tuple(share, share).map(([a, b]) => ({
        axis: ninesAxis({ low: Math.min(a, b), high: Math.max(a, b), finest: 1e-3, spacing: 0.07 }),
        values: [Math.min(a, b), Math.max(a, b)],
      })),
      number.map((most) => ({ axis: countAxis({ most, ticks: 5 }), values: [0, most] })),
      fc.tuple(number, number).map(([a, b]) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        return { axis: rangeAxis({ from, to, ticks: 6, label: String }), values: [from, to] };
      }),
      fc.tuple(number, number).map(([a, b]) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        return { axis: timeAxis({ low, high, label: String }), values: [low, high] };
      }),
      fc.tuple(number, number).map(([a, b]) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        return { axis: clockAxis({ fromSeconds: from, toSeconds: to, ticks: 8 }), values: [from, to] };
      }),
    );
    fc.assert(
      fc.property(axes, ({ axis, values: [low, high] }) => {
        expect(Number.isFinite(axis.position(low!))).toBe(true);
        expect(axis.position(low!)).toBeLessThanOrEqual(axis.position(high!));
        expect(axis.ticks.length).toBeLessThanOrEqual(16);
        for (const { value } of axis.ticks) {
          expect(axis.position(value)).toBeGreaterThanOrEqual(-1e-6);
          expect(axis.position(value)).toBeLessThanOrEqual(1 + 1e-6);
        }
      }),
      { numRuns: 400 },
    );
  });
});

describe('a number of the report', () => {
  it('is rounded as money, times and shares are read', () => {
    expect([0, 0.0123, 5.886, 812.3, 1234.5, 1e6].map(usdText)).toEqual([
      '0.00',
      '0.012',
      '5.89',
      '812.30',
      '1,235',
      '1,000,000',
    ]);
    expect([0, 0.0213, 0.099, 0.421, 9.999, 24.44, 312].map(secondsText)).toEqual([
      '0 s',
      '21 ms',
      '99 ms',
      '0.42 s',
      '10.0 s',
      '24.4 s',
      '312 s',
    ]);
    expect([45, 180, 5400, 21_600, 1_209_600].map(spanText)).toEqual(['45 s', '3 min', '90 min', '6 h', '14 days']);
    expect([0.2, -0.2, 0].map(errorText)).toEqual(['+20 %', '−20 %', '±0']);
  });

  it('never shows more attainment than there is, nor less by more than a hundredth of a percent', () => {
    expect([0.99, 0.999999, 1, 0, 0.989999].map(attainmentText)).toEqual([
      '99.00 %',
      '99.99 %',
      '100 %',
      '0.00 %',
      '98.99 %',
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100_000 }), (attained) => {
        const shown = Number.parseFloat(attainmentText(attained / 100_000)) * 1000;
        expect(shown).toBeLessThanOrEqual(attained + 0.001);
        expect(shown).toBeGreaterThan(attained - 10.001);
      }),
    );
  });
});

describe('a long series', () => {
  const series = {
    ...noSeries,
    rps: [1, 3, 0, 0, 5],
    forecastRps: [2, null, null, null, 6],
    usdPerHour: [10, 20, 30, 40, 50],
    attainment: [0, 1, null, null, 1],
    ttftP95Seconds: [8, 4, null, null, 1],
    readyReplicas: { 'default/a': [1, 1, 2, 2, 3], 'default/b': [0, 2, 2, 2, 0], 'default/c': [1, 1, 1, 1, 1] },
  };

  it('becomes columns: means over time, and by requests what is of requests', () => {
    const typeOf = (id: string) => (id === 'default/c' ? 'H100' : 'L40S');
    expect(thinSeries(series, { fromSeconds: 600, columns: 3, typeOf })).toEqual({
      // Two samples of a minute each; the last column has one.
      atSeconds: [660, 780, 870],
      columnSeconds: 120,
      rps: [2, 0, 5],
      forecastRps: [2, null, 6],
      usdPerHour: [15, 35, 50],
      attainment: [0.75, null, 1],
      ttftP95Seconds: [5, null, 1],
      replicas: { L40S: [2, 4, 3], H100: [1, 1, 1] },
    });
  });

  it('that is short stays as it is, and of nothing is nothing', () => {
    const typeOf = (id: string) => id;
    expect(thinSeries(series, { fromSeconds: 0, columns: 100, typeOf }).rps).toEqual(series.rps);
    expect(thinSeries(noSeries, { fromSeconds: 0, columns: 100, typeOf })).toMatchObject({
      atSeconds: [],
      replicas: {},
    });
  });

  it('of any length has at most so many columns, and keeps its mean where columns are equally long', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 30 }), (columns, each) => {
        const rps = Array.from({ length: columns * each }, (_, i) => (i * 7919) % 101);
        const thin = thinSeries({ ...noSeries, rps }, { fromSeconds: 0, columns, typeOf: String });
        expect(thin.atSeconds.length).toBe(columns);
        const mean = (values: readonly (number | null)[]) =>
          values.reduce<number>((sum, value) => sum + (value ?? 0), 0) / values.length;
        expect(mean(thin.rps)).toBeCloseTo(mean(rps), 6);
      }),
    );
  });
});
