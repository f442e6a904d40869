/**
 * The smallest count that a Poisson count of this mean does not exceed with at least this probability. Exact, by adding
 * up the probabilities; meant for means of up to some hundreds.
 *
 * @param quantile in [0, 1); a quantile of 1 has no finite answer and is taken as 1 − 1e-12
 */
export function poissonQuantile(mean: number, quantile: number): number {
  if (!(mean > 0)) return 0;
  const wanted = Math.min(quantile, 1 - 1e-12);
  let probability = Math.exp(-mean);
  let below = probability;
  let count = 0;
  // Rounding may keep the sum below what is wanted for ever: nothing lies this far out.
  const largest = mean + 40 * Math.sqrt(mean) + 40;
  while (below < wanted && count < largest) {
    count += 1;
    probability *= mean / count;
    below += probability;
  }
  return count;
}
