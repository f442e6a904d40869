/**
 * Lengths of requests from two histograms, one of their input and one of their output tokens: what engines tell where no
 * gateway saw both lengths of each request.
 *
 * **Assumption**: within one interval the two lengths are independent. The mean work of a linear cost is right all the same;
 * where long inputs go with short outputs (or with long ones), requests of both lengths are thought more (less) frequent
 * than they are, and a plan may keep a little more (less) room for them than it needs. Intervals are not mixed before, so
 * that two kinds of traffic at different times stay two.
 *
 * **One length for each bucket**: the geometric mean of its bounds, all times one factor, such that the mean over the requests
 * is the exact one that the histogram's sum tells. A length never leaves its bucket; only the last bucket has no upper end,
 * and takes what the others cannot. Worked: 10 requests in (100, 200], sum 1280: 141.4 × 0.905 = 128 tokens.
 */

/** What was observed in some time. Bounds ascend; the last is infinite. */
export type LengthHistogram = {
  /** Upper ends of the buckets [tokens]. */
  readonly bounds: readonly number[];
  /** Requests in each bucket alone (not cumulative), >= 0; fractions are fine. */
  readonly counts: readonly number[];
  /** Tokens of all the requests; null = not told. */
  readonly sum: number | null;
};

/** Some of the requests, and their length. */
export type LengthShare = { readonly tokens: number; readonly share: number };

/** The bucket without an end is thought as wide as the widest of a 1, 2, 5, 10 … row. */
const openBucketRatio = 2.5;

/** Requests of fewer tokens are requests of one: lengths are counted in powers of two from there. */
const leastTokens = 1;

/** Halvings of 100 doublings: far below the last bit of a length that is kept. */
const halvings = 60;

/**
 * Makes plain counts out of a histogram as Prometheus has it, whose buckets hold everything up to their upper end.
 *
 * @param cumulative upper end (`le`) → requests up to it; where they fall, which no histogram does by itself, counter
 *   resets got between them: the larger one counts
 * @returns null where there is no infinite bucket, or no request
 */
export function histogramOf(cumulative: ReadonlyMap<number, number>, sum: number | null): LengthHistogram | null {
  const bounds = [...cumulative.keys()].sort((a, b) => a - b);
  if (bounds.at(-1) !== Number.POSITIVE_INFINITY) return null;
  const counts: number[] = [];
  let below = 0;
  for (const bound of bounds) {
    const upTo = Math.max(below, cumulative.get(bound)!);
    counts.push(upTo - below);
    below = upTo;
  }
  return below > 0 && Number.isFinite(below) ? { bounds, counts, sum } : null;
}

/** The lengths that stand for a histogram, ascending; shares sum to 1. Empty without requests. */
export function lengthsOf({ bounds, counts, sum }: LengthHistogram): readonly LengthShare[] {
  const buckets = counts.flatMap((count, i) => {
    if (!(count > 0)) return [];
    const low = Math.max(leastTokens, bounds[i - 1] ?? 0);
    const high = Math.max(low, bounds[i]!);
    const middle = Math.sqrt(low * (high === Number.POSITIVE_INFINITY ? low * openBucketRatio : high));
    return [{ count, low, high, middle }];
  });
  const total = buckets.reduce((all, { count }) => all + count, 0);
  if (buckets.length === 0) return [];
  const tokensAt = (factor: number) =>
    buckets.map(({ low, high, middle }) => Math.min(high, Math.max(low, middle * factor)));
  const meanAt = (factor: number) =>
    tokensAt(factor).reduce((all, tokens, i) => all + tokens * buckets[i]!.count, 0) / total;
  const factor = sum === null || !(sum >= 0) ? 1 : solveFactor(meanAt, Math.max(leastTokens, sum / total));
  return tokensAt(factor).map((tokens, i) => ({ tokens, share: buckets[i]!.count / total }));
}

/** The factor at which a mean that grows with it is `target`; the nearest there is where none is. */
function solveFactor(meanAt: (factor: number) => number, target: number): number {
  // On a logarithmic scale, far beyond any bucket: 2^±50.
  let [low, high] = [-50, 50];
  for (let i = 0; i < halvings; i += 1) {
    const middle = (low + high) / 2;
    if (meanAt(2 ** middle) < target) low = middle;
    else high = middle;
  }
  return 2 ** high;
}

/** A pair of lengths and its share of the requests. */
export type LengthPair = { readonly inputTokens: number; readonly outputTokens: number; readonly share: number };

/** Both lengths of the requests, thought independent; shares sum to 1. */
export function independentPairs(
  inputs: readonly LengthShare[],
  outputs: readonly LengthShare[],
): readonly LengthPair[] {
  return inputs.flatMap((input) =>
    outputs.map((output) => ({
      inputTokens: input.tokens,
      outputTokens: output.tokens,
      share: input.share * output.share,
    })),
  );
}
