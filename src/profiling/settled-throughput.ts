import type { Measurement } from './measurement.js';

/**
 * The throughput of a run, without the chance in its arrivals.
 *
 * How many Poisson arrivals fall into one window of n of them varies by about √n, and so do the completions: counted out, 60 of
 * them say the rate to ±13 %, ten times coarser than it is known, since it was chosen. What a server makes of its arrivals varies
 * far less: of n arrivals in the steady state so many were completed in it, less what failed and what piled up (`servedShare`). So the
 * throughput is the rate times that share, at most 1: a backlog that is worked off is no throughput to come.
 *
 * Without this, a profile made of short runs would carry that ±13 % in every cell, and one run in four that keeps up would be
 * taken for one that does not (under 0.9 of its rate). Runs without a steady state stay as counted.
 */
export function withSettledThroughput(measurement: Measurement): Measurement {
  const { servedShare, aborted, throughputRps, requestRate } = measurement;
  if (servedShare === null || aborted !== null || throughputRps === 0) return measurement;
  const settled = requestRate * servedShare;
  return {
    ...measurement,
    throughputRps: settled,
    outputTokensPerSecond: measurement.outputTokensPerSecond * (settled / throughputRps),
  };
}
