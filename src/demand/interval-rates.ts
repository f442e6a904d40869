import type { Moment } from './forecasters/moment.js';

/**
 * The newest rates of one model, interval by interval, for as long as the longest horizon: what forecasts begin with, and
 * what they are held to. An interval is named by its end [Unix s], a multiple of its length.
 */
export class IntervalRates {
  readonly intervalSeconds: number;
  /** Intervals of the window that a moment sees. */
  windowIntervals: number;
  /** Ring: the interval that ends at T lies at (T / interval) mod length. */
  readonly #ends: Float64Array;
  /** NaN = not known. */
  readonly #rps: Float64Array;
  readonly #intervalsPerMinute: number;
  #newestSeconds = Number.NEGATIVE_INFINITY;

  constructor(intervalSeconds: number, longestHorizonSeconds: number) {
    this.intervalSeconds = intervalSeconds;
    this.#intervalsPerMinute = Math.max(1, Math.round(60 / intervalSeconds));
    this.windowIntervals = Math.ceil(windowSeconds / intervalSeconds);
    const length = Math.ceil((longestHorizonSeconds + longestWindowSeconds) / intervalSeconds) + 2;
    this.#ends = new Float64Array(length).fill(Number.NaN);
    this.#rps = new Float64Array(length).fill(Number.NaN);
  }

  /** End of the newest interval that was set; −Infinity before the first one. */
  get newestSeconds(): number {
    return this.#newestSeconds;
  }

  /** The newest end at or before a moment [Unix s]. */
  endBefore(seconds: number): number {
    return Math.floor(seconds / this.intervalSeconds) * this.intervalSeconds;
  }

  set(endSeconds: number, rps: number | null): void {
    const index = this.#indexOf(endSeconds);
    this.#ends[index] = endSeconds;
    this.#rps[index] = rps ?? Number.NaN;
    if (endSeconds > this.#newestSeconds) this.#newestSeconds = endSeconds;
  }

  /** Every interval of a minute had its rate, as far as anybody knows. */
  fillMinute(endSeconds: number, rps: number | null): void {
    for (let end = this.endBefore(endSeconds); end > endSeconds - 60; end -= this.intervalSeconds) this.set(end, rps);
  }

  /** Forgets what lies after a moment [Unix s]: a clock that was set back had named it. */
  forgetAfter(seconds: number): void {
    if (this.#newestSeconds <= seconds) return;
    this.#ends.forEach((end, i) => {
      if (end > seconds) this.#ends[i] = Number.NaN;
    });
    this.#newestSeconds = this.endBefore(seconds);
  }

  clear(): void {
    this.#ends.fill(Number.NaN);
    this.#newestSeconds = Number.NEGATIVE_INFINITY;
  }

  /** Mean rate of minute n, which ends at 60·n; null where less than half of it is known. */
  minute(n: number): number | null {
    return this.#meanOfMinute(this.endBefore(60 * n));
  }

  /**
   * The largest mean rate of 60 s that begin and end within (from, to], at every interval; null where less than three
   * quarters of them are known.
   */
  largestMinuteMean(fromSeconds: number, toSeconds: number): number | null {
    const step = this.intervalSeconds;
    let largest = Number.NEGATIVE_INFINITY;
    let known = 0;
    let all = 0;
    const first = fromSeconds + this.#intervalsPerMinute * step;
    // A horizon of less than a minute is one minute long.
    for (let end = first; end <= Math.max(first, toSeconds); end += step) {
      all += 1;
      const mean = this.#meanOfMinute(end);
      if (mean === null) continue;
      known += 1;
      if (mean > largest) largest = mean;
    }
    return known >= 0.75 * all ? largest : null;
  }

  /**
   * What is seen at the end of an interval, of the window before it.
   *
   * @param minuteEndSeconds end of the last minute that was learnt
   * @returns null where nothing of the window is known
   */
  at(
    endSeconds: number,
    minuteEndSeconds: number,
  ): Pick<Moment, 'windowRps' | 'windowMeanRps' | 'windowArrivals' | 'lastRps' | 'sinceRps' | 'sinceShare'> | null {
    const windowRps: number[] = [];
    let sum = 0;
    let since = 0;
    let sinceKnown = 0;
    for (let back = this.windowIntervals - 1; back >= 0; back -= 1) {
      const end = endSeconds - back * this.intervalSeconds;
      const rps = this.#rateOf(end);
      if (Number.isNaN(rps)) continue;
      windowRps.push(rps);
      sum += rps;
      if (end > minuteEndSeconds) {
        since += rps;
        sinceKnown += 1;
      }
    }
    if (windowRps.length === 0) return null;
    let last = 0;
    const lastKnown = Math.min(this.#intervalsPerMinute, windowRps.length);
    for (const rps of windowRps.slice(-lastKnown)) last += rps;
    const lastRps = last / lastKnown;
    return {
      windowRps,
      windowMeanRps: sum / windowRps.length,
      windowArrivals: sum * this.intervalSeconds,
      lastRps,
      sinceRps: sinceKnown === 0 ? lastRps : since / sinceKnown,
      sinceShare: Math.min(1, sinceKnown / this.#intervalsPerMinute),
    };
  }

  #meanOfMinute(endSeconds: number): number | null {
    let sum = 0;
    let known = 0;
    for (let back = 0; back < this.#intervalsPerMinute; back += 1) {
      const rps = this.#rateOf(endSeconds - back * this.intervalSeconds);
      if (Number.isNaN(rps)) continue;
      sum += rps;
      known += 1;
    }
    return 2 * known >= this.#intervalsPerMinute ? sum / known : null;
  }

  #rateOf(endSeconds: number): number {
    const index = this.#indexOf(endSeconds);
    return this.#ends[index] === endSeconds ? this.#rps[index]! : Number.NaN;
  }

  #indexOf(endSeconds: number): number {
    const { length } = this.#ends;
    return (((endSeconds / this.intervalSeconds) % length) + length) % length;
  }
}

/** Before a first window is observed, it is taken to be as long as usual [s]. */
const windowSeconds = 240;

/** Room for the longest window, so that a horizon that has just passed is still whole [s]. */
const longestWindowSeconds = 660;
