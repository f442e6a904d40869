import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DemandForecaster,
  demandOf,
  type ForecasterName,
  type ForecastOptions,
  forecasterNames,
  meanLengths,
  meanRateOf,
} from '../../src/demand/forecast.js';
import { type ForecastMemory, forecastMemorySchema } from '../../src/demand/forecast-memory.js';
import { type DemandHistory, type DemandInterval, DemandWindow } from '../../src/demand/window.js';
import { randomFrom } from '../../src/profiling/random.js';
import { bucket, record, start, steady, TraceStore } from './traces.js';

const shape = [
  { inputTokens: 256, outputTokens: 64, share: 0.75 },
  { inputTokens: 1024, outputTokens: 64, share: 0.25 },
];

function intervals(rates: readonly (number | null)[], fromSeconds = start): readonly DemandInterval[] {
  return rates.map((rps, i) => {
    const endSeconds = fromSeconds + 10 * (i + 1);
    if (rps === null) return { endSeconds, state: 'unknown' };
    return { endSeconds, state: 'known', arrivals: rps * 10, completions: rps * 10, rps };
  });
}

/** What one window says, to a forecaster that knows nothing else. */
function planned(rates: readonly (number | null)[], options: Partial<ForecastOptions> = {}): number {
  const forecaster = new DemandForecaster({ method: 'window', quantile: 0.95, ...options });
  const nowMs = (start + 10 * rates.length) * 1000;
  forecaster.observe({ intervals: intervals(rates) }, nowMs);
  return forecaster.forecast({ nowMs, horizonSeconds: 205 }).rps;
}

const steps = 24;

/** Walks over rates of 10 s, a minute at a time, as the live window shows them. */
class Walk {
  readonly forecaster: DemandForecaster;
  readonly rates: (number | null)[] = [];
  readonly #horizonSeconds: number;

  constructor(options: Partial<ForecastOptions> = {}, memory: ForecastMemory | null = null) {
    this.#horizonSeconds = options.horizonSeconds ?? 240;
    this.forecaster = new DemandForecaster({ method: 'auto', quantile: 0.95, ...options }, memory);
  }

  get nowMs(): number {
    return (start + 10 * this.rates.length) * 1000;
  }

  /** Goes on for some minutes of a rate. */
  minutes(count: number, rateAt: (minute: number) => number | null): this {
    for (let minute = 0; minute < count; minute += 1) {
      for (let i = 0; i < 6; i += 1) this.rates.push(rateAt(minute));
      this.observe();
    }
    return this;
  }

  observe(): void {
    const from = Math.max(0, this.rates.length - steps);
    this.forecaster.observe({ intervals: intervals(this.rates.slice(from), start + 10 * from) }, this.nowMs);
  }

  rps(quantile?: number): number {
    const horizonSeconds = this.#horizonSeconds;
    return this.forecaster.forecast({
      nowMs: this.nowMs,
      horizonSeconds,
      ...(quantile === undefined ? {} : { quantile }),
    }).rps;
  }
}

/** Poisson counts of 10 s by adding up exponential gaps, as a rate. */
function poissonRates(seed: number): (rps: number) => number {
  const random = randomFrom(seed);
  return (rps) => {
    let arrivals = 0;
    for (let at = random.exponential() / rps; at < 10; at += random.exponential() / rps) arrivals += 1;
    return arrivals / 10;
  };
}

describe('the rate planned from a window alone', () => {
  it.each(forecasterNames)('of a constant load is that load, with one known interval or many: %s', (method) => {
    expect(planned([10], { method })).toBe(10);
    expect(planned(Array(24).fill(10), { method })).toBe(10);
  });

  it.each(forecasterNames)('leaves unknown intervals out instead of counting them as zero: %s', (method) => {
    expect(planned([null, 10, null, 10, null], { method })).toBe(10);
  });

  it('covers bursts: the quantile where it is the larger', () => {
    const rates = Array.from({ length: 20 }, (_, i) => (i < 2 ? 30 : 1));
    expect(planned(rates)).toBe(30);
    expect(planned(rates, { quantile: 0.5 })).toBeCloseTo(3.9, 12);
    expect(planned([3, 1, 2], { quantile: 1 })).toBe(3);
  });

  it.each(forecasterNames)(
    'where nothing was learnt yet has the margin that the noise of the window asks for: %s',
    (method) => {
      const rateOf = poissonRates(11);
      const rps = planned(
        Array.from({ length: 24 }, () => rateOf(50)),
        { method },
      );
      // The busiest of three minutes of 3000 ± 55 requests lies two deviations up: 51.8.
      expect(rps).toBeGreaterThan(50);
      expect(rps).toBeLessThan(57);
    },
  );

  it('plans for 0.02 requests/s, which a quantile does not see', () => {
    const store = new TraceStore();
    const demand = new DemandWindow();
    for (let at = 0; at <= 600; at += 10) {
      if (at % 50 === 0) store.write(start + at, record({ arrivals: 1, buckets: [bucket(64, 64, 1)] }));
      store.cycle(demand, start + at + 0.5);
    }
    const view = store.cycle(demand, start + 600.5);
    const forecaster = new DemandForecaster({ method: 'window', quantile: 0.5 });
    forecaster.observe(view, (start + 600.5) * 1000);
    // 5 requests in a window of 240 s.
    expect(forecaster.forecast({ nowMs: 0, horizonSeconds: 195 }).rps).toBeCloseTo(5 / 240, 9);
    expect(meanRateOf(view)).toBeCloseTo(5 / 240, 12);
  });

  it('of sparse traffic is the count that a minute of it seldom exceeds, and no multiple of one interval', () => {
    // 12 requests in 240 s: 3 a minute; a Poisson count of mean 3 is at most 6 with 96.6 % (5 with 91.6 %).
    const rates = Array.from({ length: 24 }, (_, i) => (i % 2 === 0 ? 0.1 : 0));
    expect(planned(rates, { method: 'auto' })).toBeGreaterThanOrEqual(0.1);
    // The rate itself is not known from so few, and the busiest of several minutes counts.
    const rps = planned(rates, { method: 'last-value' });
    expect(rps).toBeGreaterThanOrEqual(6 / 60);
    expect(rps).toBeLessThan(8 / 60);
  });

  it('is at least the mean, at most the largest rate, grows with the quantile, and ignores order', () => {
    const rate = fc.double({ min: 0, max: 1e4, noNaN: true });
    const quantile = fc.double({ min: 0.01, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.array(rate, { minLength: 1, maxLength: 24 }), quantile, quantile, (rates, q1, q2) => {
        const rps = planned(rates, { quantile: q1 });
        const mean = rates.reduce((sum, one) => sum + one, 0) / rates.length;
        expect(meanRateOf({ intervals: intervals(rates) })).toBeCloseTo(mean, 6);
        expect(rps).toBeGreaterThanOrEqual(mean * (1 - 1e-9));
        expect(rps).toBeLessThanOrEqual(Math.max(...rates) * (1 + 1e-9));
        expect(planned([...rates].reverse(), { quantile: q1 })).toBeCloseTo(rps, 6);
        const [low, high] = [Math.min(q1, q2), Math.max(q1, q2)];
        expect(planned(rates, { quantile: high })).toBeGreaterThanOrEqual(planned(rates, { quantile: low }));
      }),
    );
  });

  it('does not fall while the store is down or tracing is off', () => {
    const store = new TraceStore();
    const demand = new DemandWindow();
    const forecaster = new DemandForecaster({ method: 'auto', quantile: 0.95 });
    for (let at = 0; at <= 300; at += 10) {
      store.write(start + at, steady);
      forecaster.observe(store.cycle(demand, start + at + 0.5), (start + at + 0.5) * 1000);
    }
    for (let at = 310; at <= 820; at += 10) {
      store.down = at > 400;
      const nowMs = (start + at + 0.5) * 1000;
      forecaster.observe(store.cycle(demand, start + at + 0.5), nowMs);
      expect(forecaster.forecast({ nowMs, horizonSeconds: 205 }).rps).toBe(10);
    }
  });

  it('of a model of which nothing is known is 0', () => {
    expect(planned([null, null], { method: 'auto' })).toBe(0);
  });
});

describe('each forecaster', () => {
  const margin = (method: ForecasterName) => new Walk({ method });

  it.each(forecasterNames)('knows a constant load: %s', (method) => {
    expect(
      margin(method)
        .minutes(600, () => 7)
        .rps(),
    ).toBeCloseTo(7, 6);
  });

  it('covers Poisson noise as often as it was asked to', () => {
    const rateOf = poissonRates(7);
    const walk = new Walk({ horizonSeconds: 240 });
    const forecasts: number[] = [];
    for (let minute = 0; minute < 1500; minute += 1) {
      walk.minutes(1, () => null);
      walk.rates.splice(-6, 6, ...Array.from({ length: 6 }, () => rateOf(5)));
      walk.observe();
      forecasts.push(walk.rps());
    }
    const rates = walk.rates as number[];
    let covered = 0;
    let counted = 0;
    for (let minute = 500; minute < 1490; minute += 1) {
      const from = 6 * (minute + 1);
      let largest = 0;
      for (let end = from + 6; end <= from + 24; end += 1) {
        largest = Math.max(largest, rates.slice(end - 6, end).reduce((sum, rps) => sum + rps, 0) / 6);
      }
      counted += 1;
      if (largest <= forecasts[minute]!) covered += 1;
    }
    expect(covered / counted).toBeGreaterThan(0.92);
    expect(covered / counted).toBeLessThan(0.98);
    // The count of a minute is 300 ± 17: its largest of four minutes lies three deviations up at most, not twice as high.
    expect(forecasts.at(-1)).toBeLessThan(6.5);
  });

  it('that follows trends is ahead of a ramp by the horizon; the last value alone is not', () => {
    const ramp = (minute: number) => 5 + 0.1 * minute;
    const ahead = margin('holt').minutes(400, ramp).rps(0.5);
    // The last minute is 399: the largest of the next four is that of 403.
    expect(ahead).toBeGreaterThan(ramp(402));
    expect(ahead).toBeLessThan(ramp(405));
    const learnt = margin('last-value').minutes(400, ramp).rps(0.5);
    expect(learnt).toBeGreaterThan(ramp(399));
    expect(learnt).toBeLessThan(ramp(405));
  });

  it('does not plan for multiples of traffic that has just begun', () => {
    for (let seed = 1; seed <= 5; seed += 1) {
      const rateOf = poissonRates(seed);
      const walk = new Walk();
      // All of it within one minute.
      walk.rates.push(...[5, 15, 25, 35, 45, 50].map((rps) => rateOf(rps)));
      walk.observe();
      for (let minute = 1; minute < 20; minute += 1) {
        walk.rates.push(...Array.from({ length: 6 }, () => rateOf(50)));
        walk.observe();
        const rps = walk.rps();
        expect(rps).toBeGreaterThan(48);
        expect(rps).toBeLessThan(minute < 5 ? 85 : 65);
      }
    }
  });

  it('plans calmly for calm traffic: from minute to minute the plan moves less than the traffic', () => {
    const rateOf = poissonRates(5);
    const walk = new Walk();
    const seen: number[] = [];
    const said: number[] = [];
    for (let minute = 0; minute < 240; minute += 1) {
      const rates = Array.from({ length: 6 }, () => rateOf(6));
      walk.rates.push(...rates);
      walk.observe();
      seen.push(rates.reduce((sum, rps) => sum + rps, 0) / 6);
      said.push(walk.rps());
    }
    const moves = (of: readonly number[]) =>
      of.slice(60).reduce((sum, rps, i) => sum + Math.abs(Math.log(rps / of[59 + i]!)), 0) / (of.length - 60);
    expect(moves(said)).toBeLessThan(0.5 * moves(seen));
  });

  it('follows a step up within a minute', () => {
    for (const method of forecasterNames) {
      const walk = margin(method).minutes(300, () => 2);
      expect(walk.minutes(1, () => 20).rps()).toBeGreaterThan(method === 'holt' ? 8 : 14);
      expect(walk.minutes(3, () => 20).rps()).toBeGreaterThanOrEqual(19.9);
    }
  });

  it('comes down after a step within an hour', () => {
    for (const method of forecasterNames) {
      const walk = margin(method).minutes(300, () => 20);
      expect(walk.minutes(60, () => 2).rps()).toBeLessThan(method === 'window' ? 2.01 : 5);
    }
  });

  it('that knows days is there before the daily spike; one that does not is late', () => {
    // Ten minutes of 50 requests/s at noon, 1 at other times.
    const spiky = (minute: number) => (minute % 1440 >= 720 && minute % 1440 < 730 ? 50 : 1);
    const day = 1440;
    const before = margin('seasonal').minutes(5 * day + 718, spiky);
    expect(before.rps()).toBeGreaterThan(25);
    expect(before.forecaster.forecast({ nowMs: before.nowMs, horizonSeconds: 240 })).toMatchObject({ season: 'day' });
    expect(
      margin('last-value')
        .minutes(5 * day + 718, spiky)
        .rps(),
    ).toBeLessThan(5);
    // An hour before, nobody pays for it.
    expect(
      margin('seasonal')
        .minutes(5 * day + 640, spiky)
        .rps(),
    ).toBeLessThan(5);
  });

  it.each(forecasterNames)('never plans less than arrives: %s', (method) => {
    const random = randomFrom(3);
    const walk = margin(method);
    for (let hour = 0; hour < 8; hour += 1) {
      const level = 20 * random.unit();
      walk.minutes(60, () => level * (0.5 + random.unit()));
      const window = walk.rates.slice(-steps) as number[];
      const mean = window.reduce((sum, rps) => sum + rps, 0) / window.length;
      const last = window.slice(-6).reduce((sum, rps) => sum + rps, 0) / 6;
      expect(walk.rps(0.05)).toBeGreaterThanOrEqual(Math.min(mean, last) * (1 - 1e-9));
    }
  });
});

describe('any forecaster, on any rates', () => {
  const rate = fc.oneof(
    fc.constant(0),
    fc.constant(null),
    fc.double({ min: 0, max: 5, noNaN: true }),
    fc.double({ min: 0, max: 1e6, noNaN: true }),
  );
  const series = fc.array(rate, { minLength: 1, maxLength: 40 });
  const method = fc.constantFrom(...forecasterNames);

  it('says finite rates that ascend with the quantile', () => {
    fc.assert(
      fc.property(series, method, fc.integer({ min: 1, max: 9000 }), (rates, name, horizonSeconds) => {
        const walk = new Walk({ method: name, horizonSeconds });
        let least = Number.POSITIVE_INFINITY;
        for (const rps of rates) {
          walk.minutes(5, () => rps);
          least = 0;
          for (const quantile of [0.01, 0.3, 0.5, 0.8, 0.95, 0.99, 0.999, 1]) {
            const said = walk.rps(quantile);
            expect(Number.isFinite(said)).toBe(true);
            expect(said).toBeGreaterThanOrEqual(least * (1 - 1e-9));
            least = said;
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('remembers the same byte for byte, and says the same afterwards', () => {
    fc.assert(
      fc.property(series, method, (rates, name) => {
        const walk = new Walk({ method: name });
        for (const rps of rates) walk.minutes(7, () => rps);
        walk.rps();
        const memory = walk.forecaster.memory();
        const text = JSON.stringify(memory);
        if (memory === null) return;
        const again = new Walk({ method: name }, forecastMemorySchema.parse(JSON.parse(text)));
        expect(JSON.stringify(again.forecaster.memory())).toBe(text);
        again.rates.push(...walk.rates);
        again.observe();
        if (walk.rates.slice(-steps).some((rps) => rps !== null)) expect(again.rps()).toBeCloseTo(walk.rps(), 9);
      }),
      { numRuns: 40 },
    );
  });
});

describe('the memory of a forecaster', () => {
  it('takes less than 200 kB with 14 days and more, and keeps the newest', () => {
    const forecaster = new DemandForecaster({ method: 'auto', quantile: 0.95 });
    const random = randomFrom(5);
    const minutes = Array.from({ length: 15 * 1440 }, (_, i) => ({
      endSeconds: start + 60 * (i + 1),
      rps: 1e5 * random.unit(),
    }));
    forecaster.rememberMinutes(minutes);
    const memory = forecaster.memory()!;
    expect(JSON.stringify(memory).length).toBeLessThan(200_000);
    expect(memory.history.newest).toBe(start / 60 + minutes.length);
    expect(
      forecaster.busiestMinute((start + 60 * 1440 * 15 - 120) * 1000, (start + 60 * 1440 * 15) * 1000),
    ).toBeCloseTo(Math.max(...minutes.slice(-2).map(({ rps }) => rps)), -2);
  });

  it('is learnt from minutes that are handed over, as from a window', () => {
    const spiky = (minute: number) => (minute % 1440 >= 720 && minute % 1440 < 730 ? 50 : 1);
    const walk = new Walk({ method: 'seasonal' });
    const count = 4 * 1440 + 718;
    const minutes = Array.from({ length: count }, (_, i) => ({ endSeconds: start + 60 * (i + 1), rps: spiky(i) }));
    walk.forecaster.rememberMinutes(minutes);
    walk.rates.push(...Array.from({ length: 6 * count }, (_, i) => spiky(Math.floor(i / 6))));
    walk.observe();
    expect(walk.rps()).toBeGreaterThan(25);
  });

  it('refuses minutes that are none', () => {
    const forecaster = new DemandForecaster({ method: 'auto', quantile: 0.95 });
    expect(() => forecaster.rememberMinutes([{ endSeconds: 61, rps: 1 }])).toThrow('a minute ends at 61 with 1');
    expect(() => forecaster.rememberMinutes([{ endSeconds: 60, rps: Number.NaN }])).toThrow('expected');
    expect(forecaster.memory()).toBeNull();
  });

  it('of another version of the forecasters leaves the minutes', () => {
    const walk = new Walk({ method: 'auto' }).minutes(60, () => 3);
    const memory = walk.forecaster.memory()!;
    const other = { ...memory, members: { holt: { ...memory.members.holt!, variants: [] } } };
    const again = new DemandForecaster({ method: 'auto', quantile: 0.95 }, other);
    expect(again.memory()!.history).toEqual(memory.history);
  });

  it('survives a clock that ran ahead and was set back', () => {
    const walk = new Walk().minutes(60, () => 3);
    const honest = walk.nowMs;
    const farMs = honest + 30 * 86_400_000;
    walk.forecaster.observe({ intervals: intervals(Array(24).fill(9), farMs / 1000) }, farMs + 240_000);
    walk.minutes(5, () => 3);
    expect(walk.rps()).toBeCloseTo(3, 0);
    expect(walk.forecaster.memory()!.history.newest).toBe(Math.floor(walk.nowMs / 60_000));
  });

  it.each(forecasterNames)('sees what comes though the clock was set back by nine minutes: %s', (method) => {
    const walk = new Walk({ method }).minutes(120, () => 2);
    const before = walk.forecaster.memory()!.history.newest;
    walk.rates.splice(-54, 54);
    expect(walk.minutes(1, () => 40).rps()).toBeGreaterThan(method === 'holt' ? 11 : 25);
    expect(walk.minutes(3, () => 40).rps()).toBeGreaterThanOrEqual(39.9);
    // Minutes of a time that is to come again are not lost, and what is seen anew takes their place.
    expect(walk.forecaster.memory()!.history.newest).toBe(before);
    expect(walk.forecaster.busiestMinute(walk.nowMs - 60_000, walk.nowMs)).toBe(40);
    expect(walk.forecaster.busiestMinute(walk.nowMs, walk.nowMs + 60_000)).toBe(2);
  });

  it('is learnt from again after a small step back of the clock', () => {
    const learnt = (walk: Walk) => walk.forecaster.memory()!.members.holt!.lossWeight;
    const walk = new Walk({ method: 'holt' }).minutes(60, () => 2);
    walk.rates.splice(-54, 54);
    const before = learnt(walk.minutes(1, () => 2));
    expect(learnt(walk.minutes(7, () => 2))).toBeGreaterThan(before + 2);
  });

  it('takes back silence that turned out to mean nothing', () => {
    const walk = new Walk().minutes(60, () => 3).minutes(2, () => 0);
    expect(walk.forecaster.busiestMinute(walk.nowMs - 60_000, walk.nowMs)).toBe(0);
    walk.rates.splice(-12, 12, ...Array(12).fill(null));
    walk.observe();
    expect(walk.forecaster.busiestMinute(walk.nowMs - 60_000, walk.nowMs)).toBeNull();
  });

  it('learns a horizon that is much longer from the last day', () => {
    const ramp = (minute: number) => 5 + 0.05 * minute;
    const walk = new Walk({ method: 'last-value' }).minutes(600, ramp);
    const far = walk.forecaster.forecast({ nowMs: walk.nowMs, horizonSeconds: 1800, quantile: 0.5 }).rps;
    // 30 minutes further the ramp is at 36.45; residuals of four minutes would say 35.1.
    expect(far).toBeGreaterThan(36);
    expect(far).toBeLessThan(38);
  });
});

describe('the demand of a rate', () => {
  it('is spread over the lengths of the window', () => {
    expect(demandOf(10, shape)).toEqual([
      { inputTokens: 256, outputTokens: 64, rps: 7.5 },
      { inputTokens: 1024, outputTokens: 64, rps: 2.5 },
    ]);
    expect(demandOf(0, shape).map(({ rps }) => rps)).toEqual([0, 0]);
    expect(demandOf(10, [])).toEqual([]);
  });
});

describe('meanRateOf', () => {
  it('is that of the known intervals, 0 without any', () => {
    const window: Pick<DemandHistory, 'intervals'> = { intervals: intervals([null, 4, 8]) };
    expect(meanRateOf(window)).toBe(6);
    expect(meanRateOf({ intervals: intervals([null]) })).toBe(0);
  });
});

describe('meanLengths', () => {
  it('weighs the lengths by their shares', () => {
    expect(meanLengths(shape)).toEqual({ inputTokens: 448, outputTokens: 64 });
    expect(meanLengths([])).toBeNull();
  });
});
