import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backtestJson, oracleRatio } from '../../../src/simulation/backtest/backtest-document.js';
import {
  backtest,
  comparisonDay,
  finishedRun,
  noSeries,
  question,
  runResult,
} from '../../support/backtest-documents.js';

const knob = (value: number) => ({ name: 'quantile', unit: 'share', value });

describe('the document of a backtest', () => {
  it('lists runs by policy as asked, profile error, knob and what they ran on', () => {
    const runs = [
      finishedRun('single-type-best', { variant: 'L40S' }),
      finishedRun('single-type-best', { variant: 'H100', isUsualKnob: false }),
      finishedRun('aibrix', { knob: knob(80) }),
      finishedRun('aibrix', { knob: knob(60), isUsualKnob: false }),
      finishedRun('gpumix', { profileError: 0.2 }),
      finishedRun('gpumix', { profileError: -0.2 }),
      finishedRun('gpumix'),
    ];
    const asked = question({ policies: ['gpumix', 'aibrix', 'single-type-best'] });
    const document = backtest({ runs, asked });
    const named = (one: (typeof document.runs)[number]) =>
      [one.policy, one.variant, one.knob?.value ?? null, one.profileError, one.isMain] as const;
    expect(document.runs.map(named)).toEqual([
      ['gpumix', null, null, 0, true],
      ['gpumix', null, null, -0.2, false],
      ['gpumix', null, null, 0.2, false],
      ['aibrix', null, 60, 0, false],
      ['aibrix', null, 80, 0, true],
      ['single-type-best', 'H100', null, 0, false],
      ['single-type-best', 'L40S', null, 0, true],
    ]);
    expect(backtest({ runs: [...runs].reverse(), asked })).toEqual(document);
  });

  it('has one main run of each policy even where the usual knob was not run', () => {
    const runs = [
      finishedRun('aibrix', { knob: knob(0.9), isUsualKnob: false }),
      finishedRun('aibrix', { knob: knob(0.5), isUsualKnob: false }),
    ];
    expect(backtest({ runs }).runs.map(({ isMain }) => isMain)).toEqual([true, false]);
  });

  it('keeps the series of main runs only, to five digits', () => {
    const series = { ...noSeries, rps: [1 / 3], forecastRps: [null], usdPerHour: [2 / 3], attainment: [0.99 / 3] };
    const runs = [
      finishedRun('gpumix', { result: runResult({ series }) }),
      finishedRun('gpumix', { isUsualKnob: false, knob: knob(1), result: runResult({ series }) }),
    ];
    const [main, other] = backtest({ runs }).runs.map(({ result }) => result.series);
    expect(main).toMatchObject({ rps: [0.33333], forecastRps: [null], usdPerHour: [0.66667], attainment: [0.33] });
    expect(other).toBeNull();
  });

  it('draws frontiers from runs with true profiles only', () => {
    const runs = [
      finishedRun('gpumix', { knob: knob(0.5), result: runResult({ attainment: 0.98, usd: 10 }) }),
      finishedRun('gpumix', { profileError: 0.2, result: runResult({ attainment: 0.999, usd: 1 }) }),
    ];
    expect(backtest({ runs }).frontiers).toEqual([
      { policy: 'gpumix', points: [{ attainment: 0.98, usd: 10, knob: 0.5 }] },
    ]);
  });

  it('compares at the attainment that is aimed at, and at that of the first policy', () => {
    const { matched } = comparisonDay({ steps: 5 });
    expect(matched.map(({ at, attainment, policy }) => [at, attainment, policy])).toEqual([
      ['target', 0.99, 'gpumix'],
      ['own', 0.9935, 'gpumix'],
    ]);
    const same = [finishedRun('gpumix', { result: runResult({ attainment: 0.99 }) })];
    expect(backtest({ runs: same }).matched.map(({ at }) => at)).toEqual(['target']);
  });

  it('gives the ratio to the oracle at the attainment of the run', () => {
    const document = backtest({
      runs: [finishedRun('gpumix', { result: runResult({ attainment: 0.99, usd: 150 }) })],
      oracle: { points: [{ attainment: 0.9, usd: 100 }], assumptions: [] },
    });
    expect(oracleRatio(document.runs[0]!, document.oracle)).toBe(1.5);
    expect(oracleRatio(document.runs[0]!, null)).toBeNull();
    const tooHigh = { points: [{ attainment: 0.999, usd: 100 }], assumptions: [] };
    expect(oracleRatio(document.runs[0]!, tooHigh)).toBeNull();
  });

  it('without any run is a document still', () => {
    const empty = backtest({ runs: [], asked: question({ policies: [] }) });
    expect(empty).toMatchObject({ runs: [], frontiers: [], matched: [], positions: [] });
    expect(JSON.parse(backtestJson(empty))).toEqual(empty);
  });
});

describe('the JSON of a backtest', () => {
  it('is strict, reads back as it was, and begins with what it is', () => {
    const document = comparisonDay({ steps: 40 });
    const text = backtestJson(document);
    expect(JSON.parse(text)).toEqual(document);
    expect(text.startsWith('{\n  "apiVersion": "gpumix/v1",\n  "kind": "Backtest",\n')).toBe(true);
    expect(text.endsWith('}\n')).toBe(true);
  });

  it('of the same runs is the same, but for the timings of the machine', () => {
    const runs = (seconds: number) => [finishedRun('gpumix', { seconds })];
    const [one, two] = [backtest({ runs: runs(1), totalSeconds: 1 }), backtest({ runs: runs(9), totalSeconds: 9 })];
    expect(backtestJson(one)).not.toBe(backtestJson(two));
    const { timings: _, ...first } = one;
    expect(backtestJson({ ...first, timings: two.timings })).toBe(backtestJson(two));
  });

  it('of any names and numbers reads back as it was', () => {
    const number = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e9, max: 1e9 }).map((value) => value + 0);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), number, (name, usd) => {
        const document = backtest({
          asked: question({ trace: name }),
          runs: [finishedRun('gpumix', { result: runResult({ usd, gpuHours: { [name]: usd } }) })],
        });
        expect(JSON.parse(backtestJson(document))).toEqual(JSON.parse(JSON.stringify(document)));
      }),
      { numRuns: 50 },
    );
  });

  it('refuses a number that JSON cannot hold, and names it', () => {
    const document = backtest({ runs: [finishedRun('gpumix', { result: runResult({ usd: Number.NaN }) })] });
    expect(() => backtestJson(document)).toThrow('runs[0].result.usd of a backtest is NaN');
  });
});
