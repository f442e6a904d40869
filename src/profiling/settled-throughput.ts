import type { Measurement } from './measurement.js';

/**
 * The throughput of a run, without the chance in it.
 *
 * A server that keeps up completes, in the long run, exactly what arrives; how many completions fall into one window of n of
 * them varies by about √n. Counted out, 60 completions say the rate to ±13 %, ten times coarser than it is known: it was
 * chosen. So where completions per second differ from the rate by no more than chance explains, and nothing piled up, the
 * throughput is the rate. Where they differ by more, and in runs without a steady state, it stays as counted.
 *
 * Without this, a profile made of short runs would carry that ±13 % in every cell, and one run in four that keeps up would be
 * taken for one that does not (under 0.9 of its rate).
 */
export function withSettledThroughput(measurement: Measurement): Measurement {
  const { steadyState, saturated, aborted, throughputRps, requestRate, counts } = measurement;
  if (steadyState === null || saturated || aborted !== null || counts.countedCompletions === 0) return measurement;
  const chance = explainedDeviations / Math.sqrt(counts.countedCompletions);
  if (Math.abs(throughputRps / requestRate - 1) > chance) return measurement;
  const scale = requestRate / throughputRps;
  return {
    ...measurement,
    throughputRps: requestRate,
    outputTokensPerSecond: measurement.outputTokensPerSecond * scale,
  };
}

/** Standard deviations of a Poisson count that chance is held to explain. */
const explainedDeviations = 2;
