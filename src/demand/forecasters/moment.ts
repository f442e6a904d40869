import type { RateHistory } from '../rate-history.js';

/** What a forecaster sees of one moment: the newest seconds, and the minutes before them. Rates are requests/s. */
export type Moment = {
  /** The last minute that was learnt (`RateHistory` says what its number means). */
  readonly minute: number;
  /** Known intervals of the window that ends now, oldest first, never empty. */
  readonly windowRps: readonly number[];
  /** Of the window only the rates of whole minutes are known, and nothing of how they vary inside. */
  readonly isByMinutes: boolean;
  /** Mean of `windowRps`. */
  readonly windowMeanRps: number;
  /** Requests that arrived in the known intervals of the window. */
  readonly windowArrivals: number;
  /** Mean of the newest known minute of intervals. */
  readonly lastRps: number;
  /** Mean since the end of `minute`, and how much of a minute that is, 0..1; at 0 the mean is `lastRps`. */
  readonly sinceRps: number;
  readonly sinceShare: number;
  /** Whole minutes that the horizon reaches into, at least 1. */
  readonly horizonMinutes: number;
  readonly history: RateHistory;
};

/**
 * Expects one rate: the largest 60 s mean within the horizon, without a margin. It may expect several, by settings that
 * cannot be known beforehand; `CalibratedForecaster` takes the one that was nearest lately, and adds the margin.
 */
export interface PointForecaster {
  /** How many expectations it has. */
  readonly variants: number;
  /** Takes the next minute; its rate is null where it is not known. */
  learn(minute: number, rps: number | null, history: RateHistory): void;
  /** The expectations, in the same order every time [requests/s]. */
  expect(moment: Moment): readonly number[];
  /** What its expectations rest on besides the rate now; null = nothing worth a word. */
  readonly basis: string | null;
  /** Finite numbers, always as many. */
  memory(): readonly number[];
  restore(memory: readonly number[]): void;
}
