import { quantileSorted } from 'simple-statistics';
import { poissonQuantile } from '../poisson.js';
import type { Moment } from './moment.js';

/**
 * The larger of a quantile and the mean of the window. The quantile covers bursts; the mean keeps sparse traffic,
 * which a quantile does not see: one request in 240 s is 0.1 rps in one interval of 24 and a 0.95 quantile of 0.
 */
export function windowQuantile({ windowRps, windowMeanRps }: Moment, quantile: number): number {
  const ascending = [...windowRps].sort((a, b) => a - b);
  return Math.max(quantileSorted(ascending, quantile), windowMeanRps);
}

/** With fewer requests in the window, its intervals hold one or none, and say nothing of a busy minute. */
const fewArrivals = 30;

/** Quantiles near 1 of a rate that is known from so few requests would be those of a guess. */
const largestQuantile = 0.999;

/**
 * What to plan for while nothing is known of the errors of a forecaster: the quantile of the window, and for sparse traffic
 * that of the count of one minute at the mean rate.
 */
export function firstQuantile(moment: Moment, quantile: number): number {
  const rps = windowQuantile(moment, quantile);
  if (moment.windowArrivals >= fewArrivals) return rps;
  const count = poissonQuantile(60 * moment.windowMeanRps, Math.min(quantile, largestQuantile));
  return Math.max(rps, count / 60);
}
