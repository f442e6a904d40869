import fc from 'fast-check';

/**
 * Properties try the same examples in every run of `npm test`, so that a failure is of the change at hand and anybody
 * can repeat it. `PROPERTY_SEED=random` tries others, `PROPERTY_SEED=N` those of seed N: a failure names its seed.
 */
const seed = process.env.PROPERTY_SEED ?? '1';

if (seed !== 'random') {
  if (!/^-?\d{1,10}$/.test(seed)) throw new Error(`PROPERTY_SEED=${seed}: expected a whole number or "random"`);
  fc.configureGlobal({ seed: Number(seed) });
}
