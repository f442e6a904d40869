import { InvalidArgumentError } from 'commander';
import { InputError, type InputIssue, quoteInput } from '../core/input-error.js';
import { nearestName } from '../core/parse.js';
import { largestUsd } from '../core/profile.js';
import { type SloPercentile, sloPercentiles } from '../profiling/attainment.js';

/** Values of flags, each read in one way by all commands; what cannot be read is refused before anything is done. */

/** NaN where the text is no decimal number: `Number` would also take '', '0x10' and 'Infinity'. */
export function decimal(text: string): number {
  const value = /^\d*\.?\d+(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  return Number.isFinite(value) ? value : Number.NaN;
}

export function positiveNumber(text: string): number {
  const value = decimal(text);
  if (!(value > 0)) throw new InvalidArgumentError('expected a number > 0.');
  return value;
}

export function nonNegativeNumber(text: string): number {
  const value = decimal(text);
  if (!(value >= 0)) throw new InvalidArgumentError('expected a number >= 0.');
  return value;
}

export function usd(text: string): number {
  const value = decimal(text);
  if (!(value >= 0 && value <= largestUsd)) {
    throw new InvalidArgumentError(`expected a number from 0 to ${largestUsd}.`);
  }
  return value;
}

export function probability(text: string): number {
  const value = decimal(text);
  if (!(value >= 0 && value <= 1)) throw new InvalidArgumentError('expected a probability, 0 to 1.');
  return value;
}

/** Digits only, both ends included. */
export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `>= ${least}` : `from ${least} to ${most}`;
    throw new InvalidArgumentError(`expected a whole number ${range}.`);
  };
}

/** At which an SLO is stated; 0 is the mean. */
export function sloPercentile(text: string): SloPercentile {
  const known = sloPercentiles.find((percentile) => String(percentile) === text.trim());
  if (known === undefined) throw new InvalidArgumentError(`expected one of ${sloPercentiles.join(', ')}.`);
  return known;
}

/** A flag that may be given several times: all its values. */
export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/**
 * A value that is one of several names.
 *
 * @throws InputError with the nearest of them
 */
export function oneOf<Name extends string>(flag: string, text: string, names: readonly Name[]): Name {
  const known = names.find((name) => name === text);
  if (known !== undefined) return known;
  const suggestion = nearestName(text, names);
  throw flagError(flag, {
    found: quoteInput(text),
    expected: `one of ${names.join(', ')}`,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}

/** What is wrong with the value of a flag, or with flags together. */
export function flagError(flag: string, fault: Omit<InputIssue, 'place'>): InputError {
  return new InputError(flag, [{ place: '', ...fault }]);
}

/**
 * What each token of the prompt adds to an objective on TTFT means nothing without one.
 *
 * @throws InputError that names both flags
 */
export function requireTtft(
  { ttft, ttftPerInputToken }: { readonly ttft?: number | undefined; readonly ttftPerInputToken?: number | undefined },
  names: { readonly flag: string; readonly of: string },
): void {
  if (ttftPerInputToken === undefined || (ttft !== undefined && Number.isFinite(ttft))) return;
  throw flagError(names.flag, {
    found: `no ${names.of}`,
    expected: `${names.of}, the limit of the shortest prompt, to which it is added`,
  });
}

/** `TTFT 2 s + 0.2 ms per input token`. */
export function describeTtft(seconds: number, secondsPerInputToken: number): string {
  const perToken = Number((1000 * secondsPerInputToken).toPrecision(6));
  return `TTFT ${seconds} s${perToken === 0 ? '' : ` + ${perToken} ms per input token`}`;
}

/** Most token counts of an axis. */
const longestAxis = 64;

/** Token counts of the axis of a profile: `128,512,2048`. */
export function ascendingTokenCounts(text: string): readonly number[] {
  const values = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Number.NaN));
  const isRight = values.every(
    (value, index) => value >= 1 && value <= 1e9 && (index === 0 || value > values[index - 1]!),
  );
  if (!isRight || values.length > longestAxis) {
    throw new InvalidArgumentError(`expected up to ${longestAxis} ascending token counts, such as 128,512,2048.`);
  }
  return values;
}
