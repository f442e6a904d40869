import { InputError, quoteInput } from '../core/input-error.js';

/**
 * Unix milliseconds that a written document carries: now, or `SOURCE_DATE_EPOCH` (seconds, https://reproducible-builds.org/specs/source-date-epoch/),
 * with which the same inputs give the same bytes.
 *
 * @throws InputError where the variable is no whole number of seconds
 */
export function documentTime(env: Readonly<Record<string, string | undefined>>, now: () => number): number {
  const text = env.SOURCE_DATE_EPOCH ?? '';
  if (text === '') return now();
  if (!/^\d{1,11}$/.test(text)) {
    throw new InputError('SOURCE_DATE_EPOCH', [
      { place: '', found: quoteInput(text), expected: 'whole seconds since 1970, such as 1795132800' },
    ]);
  }
  return Number(text) * 1000;
}
