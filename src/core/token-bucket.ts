/**
 * Token counts as the AIBrix gateway buckets them: an index is log2(tokens) in steps of 1/precision.
 *
 * The gateway rounds to a multiple of 0.1 and then truncates the division by 0.1 to a whole number. Binary
 * fractions make some multiples land just below (8.1 / 0.1 = 80.99…), so a few indexes are never written and
 * their requests land one lower; reading accepts every index. Source: contracts of the gateway, format v4
 * (precision 10); checked against recorded pairs in the conformance tests.
 */

const step = 0.1;

/** Largest length that is read, as log2 of tokens: 2^40 is far beyond any context length, and far below overflow. */
export const largestTokensLog2 = 40;

/**
 * The index that a v4 gateway writes for a token count. 0 and 1 token share index 0.
 *
 * @param tokens whole, >= 0
 */
export function gatewayBucketIndex(tokens: number): number {
  if (tokens <= 0) return 0;
  const rounded = Math.round(Math.log2(tokens) / step) * step;
  return Math.trunc(rounded / step);
}

/** Tokens that an index stands for: 2^(index / precision). */
export function tokensOfBucketIndex(index: number, precision: number): number {
  return 2 ** (index / precision);
}
