import type { ProfileKey, TraceKey } from '../core/ports.js';

/**
 * The names under which the shared store holds things. Traces and profiles are AIBrix's names, which its gateway
 * and its benchmark tools use too; everything under the state prefix is our own. A model's name goes in verbatim (it may
 * hold `/`, `:`, `*`, a newline): keys are only ever used whole, never as a pattern.
 */

/** Events of [endSeconds − interval, endSeconds) of one model. */
export function traceKeyName(key: TraceKey): string {
  return `aibrix:${key.model}_request_trace_${key.endSeconds}`;
}

/** Null for any other key. */
export function traceOfKey(key: string): TraceKey | null {
  const parts = /^aibrix:([\s\S]+)_request_trace_(\d{1,12})$/.exec(key);
  return parts === null ? null : { model: parts[1]!, endSeconds: Number(parts[2]) };
}

const profilePrefix = 'aibrix:profile_';

/** The profile of one deployment (its name without namespace) for one model. */
export function profileKeyName(key: ProfileKey): string {
  return `${profilePrefix}${key.model}_${key.deployment}`;
}

/** Null for any other key. Names of deployments hold no `_`, so the last one divides them from the model. */
export function profileOfKey(key: string): ProfileKey | null {
  if (!key.startsWith(profilePrefix)) return null;
  const rest = key.slice(profilePrefix.length);
  const at = rest.lastIndexOf('_');
  return at < 0 ? { model: '', deployment: rest } : { model: rest.slice(0, at), deployment: rest.slice(at + 1) };
}

/** Two gpumix on one Redis (shadow beside live) need two prefixes: each would overwrite what the other must remember. */
export const defaultStatePrefix = 'gpumix';

export function stateKeyName(name: string, prefix: string): string {
  return `${prefix}:state:${name}`;
}

export function listKeyName(name: string, prefix: string): string {
  return `${prefix}:list:${name}`;
}

/** How long an interval record lives [s]: as long as the gateway lets it, so that late readers still find it. */
export const traceTtlSeconds = 600;

/** Longest trace or profile that is read [bytes]: real ones have 10 kB, and a mistaken value must not become memory. */
export const largestValueBytes = 1_048_576;

/** Longest state document [bytes]: room for the overrides of many thousand deployments. */
export const largestStateBytes = 8 * 1_048_576;

/** The sentence for a value that is too long to read. */
export function tooLong(limitBytes: number): string {
  return `found a value of more than ${limitBytes} bytes, expected at most ${limitBytes}`;
}
