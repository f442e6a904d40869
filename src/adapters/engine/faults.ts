import { InputError } from '../../core/input-error.js';
import { chanceOf } from './chance.js';

/**
 * What goes wrong on purpose, so that clients can be tried against it.
 *
 * - `error`: 500 at once; `rateLimit`: 429 with Retry-After.
 * - `hang`: the request is taken and never answered.
 * - `stall`: the answer begins, stops part of the way, and the connection stays open.
 * - `drop`: the answer begins and the connection is cut part of the way.
 * - `malformed`: one event of the stream, or the body, is no JSON.
 * - `streamError`: an error event takes the place of the rest of the stream.
 *
 * Without streaming there is no part of the way: stall is a hang, drop cuts before the answer, streamError is a 500.
 */
export const faultKinds = ['error', 'rateLimit', 'hang', 'stall', 'drop', 'malformed', 'streamError'] as const;
export type FaultKind = (typeof faultKinds)[number];

export type FaultSettings = {
  /** Share of requests that meet each fault, 0 … 1; together at most 1. */
  readonly rates: Readonly<Partial<Record<FaultKind, number>>>;
  /** Everything answers 503 for so long after the start, as behind a proxy while weights are loaded [s]. */
  readonly slowStartSeconds: number;
  /** Answers carry no `usage`. */
  readonly noUsage: boolean;
};

export const noFaults: FaultSettings = { rates: {}, slowStartSeconds: 0, noUsage: false };

export type Fault = {
  readonly kind: FaultKind;
  /** How far into the answer, 0 … 1. */
  readonly at: number;
};

/** Sums of rates such as 0.1 + 0.2 + 0.7 are off by a few units in the last place. */
const rounding = 1e-9;

/** @throws InputError for a rate that is no probability, or rates that are more than all requests */
export function checkFaults(settings: FaultSettings): void {
  let sum = 0;
  for (const kind of faultKinds) {
    const rate = settings.rates[kind] ?? 0;
    if (!(rate >= 0 && rate <= 1)) {
      throw new InputError('faults', [{ place: kind, found: String(rate), expected: 'a probability, 0 … 1' }]);
    }
    sum += rate;
  }
  if (sum > 1 + rounding) {
    throw new InputError('faults', [
      {
        place: '',
        found: `rates that add up to ${Number(sum.toPrecision(6))}`,
        expected: 'at most 1: each is a share of all requests',
      },
    ]);
  }
}

/** The fault that the n-th request meets, or null. The same for the same seed. */
export function faultOf({ rates }: FaultSettings, seed: number, ordinal: number): Fault | null {
  let left = chanceOf(seed, ordinal, 1);
  for (const kind of faultKinds) {
    left -= rates[kind] ?? 0;
    if (left < 0) return { kind, at: chanceOf(seed, ordinal, 2) };
  }
  return null;
}
