import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { quoteInput } from '../core/input-error.js';
import { nearestName } from '../core/parse.js';
import { type PolicyName, policyNames } from '../simulation/backtest/policy-names.js';
import { longestWindowSeconds } from '../simulation/backtest/trace-load.js';
import { decimal, flagError } from './flag-values.js';
import { checkPlace, isSameFile } from './whole-file.js';

/** Values of the flags of `gpumix simulate` that no other command has. */

/** Most times that a trace is laid upon itself: with more, the trace is the wrong one. */
const mostCopies = 100_000;

const unitSeconds: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, min: 60, h: 3600, d: 86_400 };

/** `90`, `90s`, `15m`, `6h`, `7d`: seconds. */
export function timeSpan(text: string): number {
  const [, number = '', unit = ''] = /^([\d.]+(?:e\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
  const scale = Object.hasOwn(unitSeconds, unit) ? unitSeconds[unit]! : Number.NaN;
  const seconds = decimal(number) * scale;
  if (seconds >= 0 && seconds <= longestWindowSeconds) return seconds;
  throw new InvalidArgumentError('expected a time such as 90 (seconds), 90s, 15m, 6h or 7d, at most 400d.');
}

/** As `timeSpan`, and more than nothing. */
export function someTime(text: string): number {
  const seconds = timeSpan(text);
  if (seconds > 0) return seconds;
  throw new InvalidArgumentError('expected more than 0 seconds.');
}

/** As `demand.intervalSeconds`: the service plans once a second at most, and a thousandth of that would run for days. */
export function cadence(text: string): number {
  const seconds = timeSpan(text);
  if (seconds >= 1) return seconds;
  throw new InvalidArgumentError('expected at least 1 second.');
}

export function copies(text: string): number {
  const value = decimal(text);
  if (value > 0 && value <= mostCopies) return value;
  throw new InvalidArgumentError(
    `expected a number > 0, at most ${mostCopies}; 2.5 is two copies and half of a third.`,
  );
}

/** Of the window: something must be left to score. */
export function warmUpShare(text: string): number {
  const value = decimal(text);
  if (value >= 0 && value <= 0.9) return value;
  throw new InvalidArgumentError('expected a share from 0 to 0.9.');
}

/** Below 1: profiles that claim nothing plan nothing. */
export function profileError(text: string): number {
  const value = decimal(text);
  if (value > 0 && value < 1) return value;
  throw new InvalidArgumentError('expected a share above 0 and below 1; 0.2 is ±20 %.');
}

export function targetAttainment(text: string): number {
  const value = decimal(text);
  if (value > 0 && value <= 1) return value;
  throw new InvalidArgumentError('expected a share above 0, at most 1; 0.99 is 99 %.');
}

/**
 * The policies of `--policy`, each once, in their order; `all` is every one.
 *
 * @throws InputError with the nearest name
 */
export function readPolicies(texts: readonly string[]): readonly PolicyName[] {
  const names = texts.flatMap((text) => text.split(',').map((name) => name.trim()));
  if (names.includes('all')) {
    if (names.length === 1) return policyNames;
    throw flagError('--policy', { found: 'all beside others', expected: 'all alone, or names' });
  }
  const policies = names.map((name) => readPolicy('--policy', name));
  const repeated = policies.find((name, index) => policies.indexOf(name) !== index);
  if (repeated === undefined) return policies;
  throw flagError('--policy', { found: `${repeated} twice`, expected: 'each policy once' });
}

function readPolicy(flag: string, name: string): PolicyName {
  const known = policyNames.find((policy) => policy === name);
  if (known !== undefined) return known;
  const suggestion = nearestName(name, policyNames);
  throw flagError(flag, {
    found: quoteInput(name),
    expected: `policies, separated by commas: ${policyNames.join(', ')} (or all)`,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}

/** What is known of the knobs of policies. */
export type KnownPolicies = Readonly<
  Record<PolicyName, { readonly knob: { readonly name: string; readonly unit: string } }>
>;

/** Most values of one knob: each is a run. */
const mostValues = 50;

/**
 * The values of `--knob`: `aibrix=100,80,60`, or only the values where one policy is asked for.
 *
 * @throws InputError for a policy that is not asked for, and for values that its knob cannot have
 */
export function readKnobs(
  texts: readonly string[],
  { asked, known }: { readonly asked: readonly PolicyName[]; readonly known: KnownPolicies },
): Readonly<Partial<Record<PolicyName, readonly number[]>>> {
  const knobs: Partial<Record<PolicyName, readonly number[]>> = {};
  for (const text of texts) {
    const [, named, list = ''] = /^(?:([^=]*)=)?(.*)$/s.exec(text) ?? [];
    if (named === undefined && asked.length !== 1) {
      throw flagError('--knob', {
        found: quoteInput(text),
        expected: `whose knob it is, as ${asked.length} policies are asked for: POLICY=VALUES`,
      });
    }
    const policy = named === undefined ? asked[0]! : readPolicy('--knob', named.trim());
    if (!asked.includes(policy)) {
      throw flagError('--knob', { found: policy, expected: `a policy that is asked for: ${asked.join(', ')}` });
    }
    if (knobs[policy] !== undefined) {
      throw flagError('--knob', { found: `${policy} twice`, expected: 'its values in one list' });
    }
    knobs[policy] = readKnobValues(list, { policy, knob: known[policy].knob });
  }
  return knobs;
}

function readKnobValues(
  text: string,
  { policy, knob }: { readonly policy: PolicyName; readonly knob: { readonly name: string; readonly unit: string } },
): readonly number[] {
  const { below, words } = rangeOf(knob.unit);
  const values = text.split(',').map((part) => {
    const value = decimal(part.trim());
    if (value > 0 && below(value)) return value;
    throw flagError('--knob', {
      found: quoteInput(part.trim()),
      expected: `${words} for ${knob.name} of ${policy}${knob.unit === 'share' ? '' : ` (${knob.unit})`}`,
    });
  });
  const once = [...new Set(values)];
  if (once.length <= mostValues) return once;
  throw flagError('--knob', { found: `${once.length} values`, expected: `at most ${mostValues}` });
}

function rangeOf(unit: string): { readonly below: (value: number) => boolean; readonly words: string } {
  if (unit === 'share') return { below: (value) => value < 1, words: 'a number above 0 and below 1' };
  if (unit === 'percent') return { below: (value) => value <= 100, words: 'a number above 0, at most 100' };
  return { below: (value) => value <= 1e9, words: 'a number above 0' };
}

/**
 * Refuses a place where a result could not be written, or would replace what it is made from, before anything is computed
 * for it.
 *
 * @param flags.outputs the flag and what it says, of each output
 * @param flags.inputs the same of each file that is read
 */
export async function checkOutputs(flags: {
  readonly outputs: Readonly<Record<string, string | undefined>>;
  readonly inputs: Readonly<Record<string, string>>;
}): Promise<void> {
  const taken = new Map<string, string>();
  for (const [flag, path] of Object.entries(flags.outputs)) {
    if (path === undefined) continue;
    if (path === '' || path === '-') {
      const way = flag === '--report' ? '' : ' (--json prints the document)';
      throw flagError(flag, { found: quoteInput(path), expected: `a file${way}` });
    }
    const place = resolve(path);
    const other = taken.get(place);
    if (other !== undefined) {
      throw flagError(flag, { found: `the file of ${other}`, expected: 'a file of its own' });
    }
    taken.set(place, flag);
    for (const [read, file] of Object.entries(flags.inputs)) {
      if (!(await isSameFile(path, file))) continue;
      throw flagError(flag, { found: `the file of ${read}`, expected: 'a file of its own: it would be replaced' });
    }
    await checkPlace(flag, path);
  }
}
