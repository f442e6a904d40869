import { randomUUID } from 'node:crypto';
import {
  type Clock,
  type ProfileKey,
  type Reading,
  type SharedStore,
  type StoreIdentity,
  type TraceKey,
  Unavailable,
} from '../core/ports.js';
import {
  largestStateBytes,
  largestValueBytes,
  profileKeyName,
  tooLong,
  traceKeyName,
  traceTtlSeconds,
} from './store-keys.js';

/**
 * The shared store inside this process: the quickstart has no Redis, and a gpumix that is alone needs none.
 *
 * It behaves as Redis does (the same contract tests run against both): traces expire after 10 minutes of the given
 * clock, too large values cannot be read, everything is gone when the process ends.
 */
export function createMemoryStore(clock: Clock): SharedStore {
  const identity: StoreIdentity = { runId: randomUUID(), startedAtMs: clock.now() };
  /** In the order of writing, hence of expiry: every trace lives equally long. */
  const traces = new Map<string, { readonly text: string; readonly expiresAtMs: number }>();
  const profiles = new Map<string, string>();
  const states = new Map<string, string>();
  const lists = new Map<string, readonly string[]>();
  let closed = false;

  const open = (): void => {
    if (closed) throw new Unavailable('store_closed', 'the in-process store was closed');
  };
  const expire = (): void => {
    const now = clock.now();
    for (const [key, trace] of traces) {
      if (trace.expiresAtMs > now) break;
      traces.delete(key);
    }
  };
  const reading = (text: string | undefined): Reading => {
    if (text === undefined) return { kind: 'absent' };
    if (Buffer.byteLength(text) > largestValueBytes) return { kind: 'failed', message: tooLong(largestValueBytes) };
    return { kind: 'present', text };
  };

  return {
    async identity() {
      open();
      return identity;
    },
    async readTraces(keys: readonly TraceKey[]) {
      open();
      expire();
      return keys.map((key) => reading(traces.get(traceKeyName(key))?.text));
    },
    async writeTraces(records) {
      open();
      expire();
      const expiresAtMs = clock.now() + traceTtlSeconds * 1000;
      for (const record of records) {
        const name = traceKeyName(record);
        traces.delete(name);
        traces.set(name, { text: record.text, expiresAtMs });
      }
    },
    async readProfiles(keys: readonly ProfileKey[]) {
      open();
      return keys.map((key) => reading(profiles.get(profileKeyName(key))));
    },
    async writeProfile(key, text) {
      open();
      profiles.set(profileKeyName(key), text);
    },
    async readState(name) {
      open();
      return states.get(name) ?? null;
    },
    async writeState(name, text) {
      open();
      if (Buffer.byteLength(text) > largestStateBytes)
        throw new RangeError(`state ${name}: ${tooLong(largestStateBytes)}`);
      states.set(name, text);
    },
    async appendToList(name, entries, keep) {
      open();
      const kept = keep <= 0 ? [] : [...(lists.get(name) ?? []), ...entries].slice(-keep);
      lists.set(name, kept);
    },
    async readList(name, count) {
      open();
      return count <= 0 ? [] : (lists.get(name) ?? []).slice(-count);
    },
    async close() {
      closed = true;
    },
  };
}
