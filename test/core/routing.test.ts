import { describe, expect, it } from 'vitest';
import type { ProfileGrid } from '../../src/core/profile.js';
import { type BucketRoute, withOverflow } from '../../src/core/routing.js';

/** Serves prompts of up to so many tokens: 0 = cannot meet the objective. */
const serving = (upTo: number): ProfileGrid => ({
  indexes: [[64], [128, 1024, 8192]],
  tputs: [[128, 1024, 8192].map((tokens) => (tokens <= upTo ? 1 : 0))],
});
const deployment = (id: string, upTo: number | null, maxTokens: number | null = null) => ({
  id,
  profile: upTo === null ? null : serving(upTo),
  maxTokens,
});
const bucket = (inputTokens: number, to: Readonly<Record<string, number>>, more: Partial<BucketRoute> = {}) => ({
  model: 'm',
  inputTokens,
  outputTokens: 64,
  rps: 1,
  bestEffort: false,
  extrapolated: false,
  to: Object.entries(to).map(([deployment, share]) => ({ deployment, share })),
  unservedShare: 0,
  ...more,
});
const alsoTo = (buckets: readonly BucketRoute[]) => buckets.map((each) => each.alsoTo);

describe('who takes requests of a bucket that find a replica full', () => {
  const deployments = [deployment('small', 1024), deployment('large', 8192), deployment('unknown', null)];

  it('is who serves it by its profile and has no share', () => {
    const shares = [bucket(128, { small: 1 }), bucket(8192, { large: 1 }), bucket(1024, { large: 0.6, small: 0.4 })];
    const told = withOverflow(shares, { deployments, routing: 'free' });
    expect(alsoTo(told)).toEqual([['large'], undefined, undefined]);
    // Nothing else is changed, and no key is there that says nothing.
    expect(told.map(({ alsoTo: _, ...rest }) => rest)).toEqual(shares);
    expect(Object.keys(told[1]!)).toEqual(Object.keys(shares[1]!));
  });

  it('is nobody for requests that nobody serves within the objective, nor beyond a context', () => {
    const best = [bucket(100_000, { large: 1 }, { bestEffort: true })];
    expect(alsoTo(withOverflow(best, { deployments: [deployment('small', 1024)], routing: 'free' }))).toEqual([
      undefined,
    ]);
    const short = [deployment('small', 8192, 1000), deployment('large', 8192)];
    const shares = [bucket(936, { large: 1 }), bucket(937, { large: 1 })];
    expect(alsoTo(withOverflow(shares, { deployments: short, routing: 'free' }))).toEqual([['small'], undefined]);
  });

  it('is the same for all requests where a router cannot tell them apart', () => {
    const common = { large: 1, small: 0 };
    const shares = [bucket(128, common), bucket(1024, common)];
    expect(alsoTo(withOverflow(shares, { deployments, routing: 'proportional' }))).toEqual([['small'], ['small']]);
    const long = [...shares, bucket(8192, common)];
    expect(alsoTo(withOverflow(long, { deployments, routing: 'proportional' }))).toEqual(new Array(3).fill(undefined));
    expect(alsoTo(withOverflow(long, { deployments, routing: 'free' }))).toEqual([['small'], ['small'], undefined]);
  });

  it('is said anew: what was said before is forgotten', () => {
    const before = [bucket(128, { small: 1 }, { alsoTo: ['large', 'gone'] })];
    expect(withOverflow(before, { deployments: [deployment('small', 1024)], routing: 'free' })).toEqual([
      bucket(128, { small: 1 }),
    ]);
  });
});
