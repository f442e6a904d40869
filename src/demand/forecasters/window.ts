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

/** With fewer requests in the window, most of its intervals hold one or none, and say little of a busy minute. */
const fewArrivals = 60;

/** Quantiles near 1 of a rate that is known from so few requests would be those of a guess. */
const largestQuantile = 0.999;

/** What the number of requests alone says: a rate [requests/s], and how much of it to believe, 0 unless they are few. */
export type SparseTraffic = { readonly rps: number; readonly share: number };

/** The quantile of the count of one minute at the mean rate, if requests come one by one; and no less than the window's. */
export function sparseTraffic(moment: Moment, quantile: number): SparseTraffic {
  const share = Math.max(0, 1 - moment.windowArrivals / fewArrivals);
  if (share === 0) return { rps: 0, share };
  const count = poissonQuantile(60 * moment.windowMeanRps, Math.min(quantile, largestQuantile));
  return { rps: Math.max(windowQuantile(moment, quantile), count / 60), share };
}
