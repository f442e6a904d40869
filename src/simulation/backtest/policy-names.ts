/**
 * Names of the policies of a backtest, in the order in which tables list them. What each does stands with its code:
 * the pure ones in ../policies/policies.ts, those that run the live service in src/service/backtest.
 */
export const policyNames = [
  'gpumix',
  'gpumix-reactive',
  'aibrix',
  'hpa-concurrency',
  'hpa-utilisation',
  'single-type-best',
  'static',
] as const;
export type PolicyName = (typeof policyNames)[number];

/** A causal policy knows nothing of the future; `static` is the best constant fleet in hindsight. */
export function isCausal(policy: PolicyName): boolean {
  return policy !== 'static';
}
