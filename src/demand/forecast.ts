import type { BucketDemand } from '../core/planning-problem.js';
import type { ForecastMemory } from './forecast-memory.js';
import { CalibratedForecaster, type Expectation } from './forecasters/calibrated.js';
import type { Moment } from './forecasters/moment.js';
import { createPointForecaster, demandForecasters, type ForecasterName } from './forecasters/table.js';
import { Weighting } from './forecasters/weighting.js';
import { type SparseTraffic, sparseTraffic, windowQuantile } from './forecasters/window.js';
import { IntervalRates } from './interval-rates.js';
import { type KnownMinute, minutesPerDay, RateHistory } from './rate-history.js';
import type { DemandHistory, ShapeBucket } from './window.js';

export type { ForecastMemory } from './forecast-memory.js';
export { demandForecasters, type ForecasterName, forecasterNames } from './forecasters/table.js';
export type { KnownMinute } from './rate-history.js';

/**
 * From what was seen to what is planned for: one rate per model.
 *
 * The target of every forecaster is the *largest 60 s mean rate within the horizon*, the time from a decision until its
 * replicas serve: replicas that come later cannot help, and a burst of a few seconds waits in the batch. A forecast is a
 * quantile of it. The lengths of requests are those of the window for all forecasters.
 *
 * Once a minute every forecaster expects something; once its horizon has passed it learns how far it was off. Nothing is
 * learnt of a time of which not enough is known.
 */
export type ForecastOptions = {
  readonly method: ForecasterName;
  /** Share of the times in which what comes is at most the forecast, in (0, 1]. */
  readonly quantile: number;
  /** Length of the intervals that are observed [s]. */
  readonly intervalSeconds?: number;
  /** Horizon before the first `forecast` names one [s]. */
  readonly horizonSeconds?: number;
};

/** What a forecaster says for one moment. */
export type RateForecast = {
  /** Rate to plan for [requests/s]. */
  readonly rps: number;
  readonly method: ForecasterName;
  /** The forecaster that counts most in it; of `auto` the one that lost least lately. */
  readonly leader: ForecasterName;
  /** How the leader's history repeats, where it does: `day` or `week`. */
  readonly season: string | null;
  readonly horizonSeconds: number;
};

/** Start-up of a replica (180 s), an autoscaler's period and one of planning. */
const usualHorizonSeconds = 205;

/** Rates change their nature over longer times; forecasts of an hour are taken. */
const longestHorizonSeconds = 3600;

/** Residuals of a horizon say little of one that is longer or shorter by more. */
const horizonTolerance = 1.5;

/**
 * How far beyond the busiest minute that is known, or ten seconds of the present window, a plan may go. Margins are learnt in
 * proportion to how much rates vary, and after one burst they would reach far beyond anything that ever came. Of n horizons that were seen and the one to come, each is
 * the busiest with the chance 1 / (n + 1): twice the peak where nothing was seen, a half more after one; a tenth more is
 * always left for growth.
 */
const leastOverPeak = 1.1;

/** A clock may be corrected by this much without the minutes that were seen being another time [s]. */
const clockToleranceSeconds = 600;

/** Digits of a planned rate: sums of the same numbers in another order agree to so many. */
const digits = 10;

/** An expectation that waits for its horizon to pass. */
type Pending = {
  readonly originSeconds: number;
  readonly horizonSeconds: number;
  readonly expectations: readonly (Expectation | null)[];
  /** At `options.quantile`, by member. */
  readonly quantiles: readonly number[];
};

type Member = { readonly name: ForecasterName; readonly calibrated: CalibratedForecaster | null };

/**
 * The forecaster of one model. A cycle is: `observe` the window, `forecast`. Time is that of the intervals; bounded
 * memory: 14 days of minutes, an hour of intervals.
 */
export class DemandForecaster {
  readonly #options: ForecastOptions;
  readonly #history: RateHistory;
  #rates: IntervalRates;
  #members: readonly Member[];
  #weighting: Weighting;
  #pending: Pending[] = [];
  /** That of the last forecast, and the one that most of what is known was learnt for. */
  #horizonSeconds: number;
  #learntHorizonSeconds: number;
  /** The last minute that forecasters learnt: the newest of the history, unless a clock was set back. */
  #learntMinute: number | null;
  /** First minute that this process learnt: what it knew of later ones it may take back. */
  #firstOwnMinute: number | null = null;
  /** Minutes are handed over of which nothing finer is known. */
  #isByMinutes = false;
  /** What was known when something was known last. */
  #lastMoment: Moment | null = null;

  /** @param memory what `memory` gave in an earlier process */
  constructor(options: ForecastOptions, memory: ForecastMemory | null = null) {
    this.#options = options;
    this.#history = new RateHistory(memory?.history ?? null);
    this.#learntMinute = this.#history.newest;
    this.#rates = new IntervalRates(options.intervalSeconds ?? 10, longestHorizonSeconds);
    this.#horizonSeconds = memory?.horizonSeconds ?? options.horizonSeconds ?? usualHorizonSeconds;
    this.#learntHorizonSeconds = this.#horizonSeconds;
    const names = demandForecasters[options.method].members;
    this.#members = names.map((name) => createMember(name, { quantile: options.quantile, memory }));
    const known = memory?.weighting;
    const isSame = known !== undefined && known.members.join() === names.join();
    this.#weighting = new Weighting(names.length, isSame ? known : null);
  }

  /**
   * Hands over what is known of earlier minutes, oldest first: of the time before the window, as after a start without
   * memory. Minutes that are known already stay as they are.
   *
   * @throws RangeError for a minute that does not end on one, or a rate that is none
   */
  rememberMinutes(minutes: readonly KnownMinute[]): void {
    for (const { endSeconds, rps } of minutes) {
      const minute = endSeconds / 60;
      if (!Number.isSafeInteger(minute) || !(rps >= 0 && rps < Number.POSITIVE_INFINITY)) {
        throw new RangeError(
          `a minute ends at ${endSeconds} with ${rps} requests/s, expected a multiple of 60 and a rate`,
        );
      }
      const newest = this.#history.newest;
      if (newest !== null && minute <= newest) {
        if (this.#history.at(minute) === null) this.#history.set(minute, rps);
        continue;
      }
      this.#rates.fillMinute(endSeconds, rps);
      this.#isByMinutes = true;
      this.#learn(minute, rps);
      this.#isByMinutes = false;
    }
  }

  /** Takes the window as it is known now; unknown intervals stay unknown. */
  observe({ intervals }: Pick<DemandHistory, 'intervals'>, nowMs: number): void {
    const last = intervals.at(-1);
    if (last === undefined) return;
    this.#followClock(Math.max(last.endSeconds, nowMs / 1000));
    for (const interval of intervals) {
      this.#rates.set(interval.endSeconds, interval.state === 'known' ? interval.rps : null);
    }
    const beginSeconds = intervals[0]!.endSeconds - this.#rates.intervalSeconds;
    const firstMinute = Math.floor(beginSeconds / 60) + 1;
    const lastMinute = Math.floor(last.endSeconds / 60);
    this.#rates.windowIntervals = intervals.length;
    for (let minute = firstMinute; minute <= lastMinute; minute += 1) {
      if (60 * (minute - 1) < beginSeconds) continue;
      const rps = this.#rates.minute(minute);
      if (this.#learntMinute === null || minute > this.#learntMinute) {
        this.#firstOwnMinute ??= minute;
        this.#learn(minute, rps);
      } else if (rps !== null || (this.#firstOwnMinute !== null && minute >= this.#firstOwnMinute)) {
        // A record that came late, or silence that turned out to mean nothing.
        this.#history.set(minute, rps);
      }
    }
    this.#settle();
  }

  /**
   * The rate to plan for. While nothing is known of the window it is that of the last moment of which something was; 0
   * where nothing ever was.
   *
   * @param options.quantile instead of that of the options
   * @param options.mayLearnAnew where the horizon is another one than `isLearntFor` says: whether its margins are learnt
   * now, from the minutes of the last day, which takes a tenth of a second; else those of the old horizon go on
   */
  forecast(options: {
    readonly nowMs: number;
    readonly horizonSeconds: number;
    readonly quantile?: number;
    readonly mayLearnAnew?: boolean;
  }): RateForecast {
    const { method } = this.#options;
    const quantile = options.quantile ?? this.#options.quantile;
    const horizonSeconds = withinHorizons(options.horizonSeconds);
    // The horizon moves while start-up times are learnt, and what is learnt from now on moves with it.
    this.#horizonSeconds = horizonSeconds;
    if (options.mayLearnAnew !== false && !this.isLearntFor(horizonSeconds)) this.#learnAnew();
    const weights = this.#weighting.weights(Math.ceil(horizonSeconds / 60));
    const leader = this.#members[weights.indexOf(Math.max(...weights))]!;
    const said = {
      method,
      leader: leader.name,
      season: leader.calibrated?.point.basis ?? null,
      horizonSeconds,
    };
    const moment = this.#moment(this.#rates.newestSeconds, horizonSeconds) ?? this.#lastMoment;
    if (moment === null) return { rps: 0, ...said };
    this.#lastMoment = moment;
    const { quantiles } = this.#quantiles(moment, quantile);
    const rps = quantiles.reduce((sum, each, i) => sum + weights[i]! * each, 0);
    return { rps: Number(rps.toPrecision(digits)), ...said };
  }

  /** Whether what was learnt of other horizons holds for this one [s]. */
  isLearntFor(horizonSeconds: number): boolean {
    const ratio = withinHorizons(horizonSeconds) / this.#learntHorizonSeconds;
    return ratio <= horizonTolerance && ratio >= 1 / horizonTolerance;
  }

  /** The busiest known minute of a time [requests/s]; null = none of it is known. */
  busiestMinute(fromMs: number, toMs: number): number | null {
    let busiest: number | null = null;
    for (let minute = Math.ceil(fromMs / 60_000) + 1; minute <= Math.floor(toMs / 60_000); minute += 1) {
      const rps = this.#history.at(minute);
      if (rps !== null && (busiest === null || rps > busiest)) busiest = rps;
    }
    return busiest;
  }

  /** What a later process must be given; null = nothing was ever known. 118 kB of JSON with 14 days. */
  memory(): ForecastMemory | null {
    const history = this.#history.memory();
    if (history === null) return null;
    return {
      version: 2,
      history,
      horizonSeconds: this.#learntHorizonSeconds,
      members: Object.fromEntries(
        this.#members.flatMap(({ name, calibrated }) => (calibrated === null ? [] : [[name, calibrated.memory()]])),
      ),
      weighting: { members: this.#members.map(({ name }) => name), ...this.#weighting.memory() },
    };
  }

  /** Ends a minute: forecasters learn its rate, and expect what comes next. */
  #learn(minute: number, rps: number | null): void {
    // Before a clock was set back, the minute may have been known already.
    if (rps !== null || this.#history.at(minute) === null) this.#history.set(minute, rps);
    this.#learntMinute = minute;
    this.#conclude(minute, rps);
  }

  #conclude(minute: number, rps: number | null): void {
    this.#settle();
    for (const { calibrated } of this.#members) calibrated?.point.learn(minute, rps, this.#history);
    this.#expect(minute);
  }

  #expect(minute: number): void {
    // With one forecaster that learns nothing there is nothing to compare.
    if (this.#members.every(({ calibrated }) => calibrated === null)) return;
    const horizonSeconds = this.#horizonSeconds;
    const originSeconds = this.#rates.endBefore(60 * minute);
    const moment = this.#moment(originSeconds, horizonSeconds, minute);
    if (moment === null) return;
    const { quantiles, sparse } = this.#quantiles(moment, this.#options.quantile);
    const expectations = this.#members.map(({ calibrated }) => calibrated?.expect(moment, sparse) ?? null);
    this.#pending.push({ originSeconds, horizonSeconds, expectations, quantiles });
  }

  #settle(): void {
    const newest = this.#rates.newestSeconds;
    let settled = 0;
    for (const { originSeconds, horizonSeconds, expectations, quantiles } of this.#pending) {
      if (originSeconds + horizonSeconds > newest) break;
      settled += 1;
      const actual = this.#rates.largestMinuteMean(originSeconds, originSeconds + horizonSeconds);
      if (actual === null) continue;
      this.#members.forEach(({ calibrated }, i) => {
        calibrated?.settle(expectations[i]!, actual);
      });
      const { quantile } = this.#options;
      if (this.#members.length > 1) {
        this.#weighting.add({ forecasts: quantiles, actual, quantile, delay: Math.ceil(horizonSeconds / 60) });
      }
    }
    if (settled > 0) this.#pending = this.#pending.slice(settled);
  }

  /** By member, and what stands in for them while little is learnt of sparse traffic [requests/s]. */
  #quantiles(
    moment: Moment,
    quantile: number,
  ): { readonly quantiles: readonly number[]; readonly sparse: SparseTraffic } {
    const { windowRps, windowMeanRps, lastRps } = moment;
    // What arrives now is not planned away, and sparse traffic not forgotten between two requests.
    const least = lastRps > 0 ? Math.min(lastRps, windowMeanRps) : windowMeanRps;
    const sparse = sparseTraffic(moment, quantile);
    const { newest } = this.#history;
    const knownMinutes = newest === null ? 0 : newest + 1 - (this.#history.oldestKnown() ?? newest + 1);
    const overPeak = Math.max(leastOverPeak, 1 + 1 / (1 + knownMinutes / moment.horizonMinutes));
    const most = Math.max(sparse.rps, overPeak * Math.max(this.#history.peak(), ...windowRps));
    const quantiles = this.#members.map(({ calibrated }) => {
      if (calibrated === null) return windowQuantile(moment, quantile);
      return Math.max(least, Math.min(most, calibrated.quantile(moment, { quantile, sparse })));
    });
    return { quantiles, sparse };
  }

  #moment(atSeconds: number, horizonSeconds: number, minute = this.#learntMinute): Moment | null {
    if (minute === null) {
      // The first minute is not over.
      minute = Math.floor(atSeconds / 60);
    }
    const seen = this.#rates.at(atSeconds, 60 * minute);
    if (seen === null) return null;
    return {
      ...seen,
      minute,
      isByMinutes: this.#isByMinutes,
      horizonMinutes: Math.max(1, Math.ceil(horizonSeconds / 60)),
      history: this.#history,
    };
  }

  /** Forgets what was learnt of another horizon, and learns this one from the minutes of the last day. */
  #learnAnew(): void {
    this.#learntHorizonSeconds = this.#horizonSeconds;
    this.#pending = [];
    this.#members = this.#members.map(({ name }) =>
      createMember(name, { quantile: this.#options.quantile, memory: null }),
    );
    this.#weighting = new Weighting(this.#members.length);
    const newest = this.#learntMinute;
    const oldest = this.#history.oldestKnown();
    if (newest === null || oldest === null) return;
    const live = this.#rates;
    this.#rates = new IntervalRates(live.intervalSeconds, longestHorizonSeconds);
    this.#rates.windowIntervals = live.windowIntervals;
    this.#isByMinutes = true;
    for (let minute = Math.max(oldest, newest - minutesPerDay); minute <= newest; minute += 1) {
      const rps = this.#history.at(minute);
      this.#rates.fillMinute(60 * minute, rps);
      this.#conclude(minute, rps);
    }
    this.#isByMinutes = false;
    this.#rates = live;
  }

  /**
   * A clock that was set back names the same moments again. What lies after now would hide what comes, so that nothing is
   * seen or learnt by it; minutes stay, since a small correction makes them hardly wrong, until they are seen anew.
   */
  #followClock(nowSeconds: number): void {
    this.#rates.forgetAfter(nowSeconds);
    const minute = Math.floor(nowSeconds / 60);
    if (this.#learntMinute !== null && this.#learntMinute > minute) {
      this.#learntMinute = minute;
      this.#pending = this.#pending.filter(({ originSeconds }) => originSeconds <= nowSeconds);
    }
    const newest = this.#history.newest;
    if (newest === null || 60 * newest <= nowSeconds + clockToleranceSeconds) return;
    this.#history.forgetAfter(minute);
    this.#learntMinute = this.#history.newest;
    this.#rates.clear();
    this.#pending = [];
    this.#lastMoment = null;
  }
}

/** Of the horizons that can be learnt, the one that is nearest [s]. */
function withinHorizons(horizonSeconds: number): number {
  return Math.min(longestHorizonSeconds, Math.max(60, horizonSeconds));
}

function createMember(
  name: ForecasterName,
  { quantile, memory }: { readonly quantile: number; readonly memory: ForecastMemory | null },
): Member {
  const point = createPointForecaster(name);
  if (point === null) return { name, calibrated: null };
  const known = memory !== null && Object.hasOwn(memory.members, name) ? memory.members[name]! : null;
  return { name, calibrated: new CalibratedForecaster(point, { quantile, memory: known }) };
}

/** A rate spread over the lengths of the window's requests; nothing where no length is known. */
export function demandOf(rps: number, shape: readonly ShapeBucket[]): readonly BucketDemand[] {
  return shape.map(({ inputTokens, outputTokens, share }) => ({ inputTokens, outputTokens, rps: rps * share }));
}

/** Mean rate of the known intervals [requests/s]; 0 where none is known. */
export function meanRateOf({ intervals }: Pick<DemandHistory, 'intervals'>): number {
  let sum = 0;
  let known = 0;
  for (const interval of intervals) {
    if (interval.state !== 'known') continue;
    sum += interval.rps;
    known += 1;
  }
  return known === 0 ? 0 : sum / known;
}

/** Mean lengths of a shape's requests [tokens]; null where no length is known. */
export function meanLengths(
  shape: readonly ShapeBucket[],
): { readonly inputTokens: number; readonly outputTokens: number } | null {
  if (shape.length === 0) return null;
  let inputTokens = 0;
  let outputTokens = 0;
  for (const bucket of shape) {
    inputTokens += bucket.share * bucket.inputTokens;
    outputTokens += bucket.share * bucket.outputTokens;
  }
  return { inputTokens, outputTokens };
}
