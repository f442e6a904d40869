import type { z } from 'zod';
import { largestStateBytes } from '../adapters/store-keys.js';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import type { SharedStore } from '../core/ports.js';

export type StoredDocumentOptions<Value> = {
  readonly store: Pick<SharedStore, 'readState' | 'writeState'>;
  readonly name: string;
  readonly schema: z.ZodType<Value>;
  readonly initial: Value;
  /** Combines what the store had with what was set here before it could be read. */
  readonly merge: (stored: Value, here: Value) => Value;
  /** The first `share` (in [0, 1)) of what it holds, for a document that is too long to be written whole. */
  readonly firstOf: (value: Value, share: number) => Value;
  /** Longest text that is written [bytes]. */
  readonly largestBytes?: number;
};

/** The first `share` of a list. */
export function firstItems<Item>(items: readonly Item[], share: number): Item[] {
  return items.slice(0, Math.floor(items.length * share));
}

/**
 * Whether what is saved now and then is to be saved again. Also where it was saved later than now: a clock that was set
 * back must not stop saving until it has caught up.
 */
export function isDue(
  savedMs: number,
  { nowMs, everySeconds }: { readonly nowMs: number; readonly everySeconds: number },
): boolean {
  return savedMs > nowMs || nowMs - savedMs >= everySeconds * 1000;
}

/**
 * A small document that acts from memory and survives a restart in the shared store.
 *
 * It is `unread` until `restore` has seen the store once; changes before that are kept and merged. A change makes it
 * `dirty` until `flush` has written it. While the store cannot be reached it stays as it is in memory and is written
 * later.
 */
export class StoredDocument<Value> {
  readonly #options: StoredDocumentOptions<Value>;
  #value: Value;
  #restored = false;
  #dirty = false;
  #isTooLong = false;

  constructor(options: StoredDocumentOptions<Value>) {
    this.#options = options;
    this.#value = options.initial;
  }

  get value(): Value {
    return this.#value;
  }

  get restored(): boolean {
    return this.#restored;
  }

  set(value: Value): void {
    this.#value = value;
    this.#dirty = true;
  }

  /** The store may have lost it (another server answers): the next flush writes it whole. */
  storeWasReplaced(): void {
    this.#dirty = true;
  }

  /**
   * Reads the store once; does nothing after that.
   *
   * @returns why a document was there and could not be used (it is then replaced by what is in memory), or null
   * @throws Unavailable where the store cannot be reached; the next call tries again
   */
  async restore(): Promise<string | null> {
    if (this.#restored) return null;
    const { store, name, schema, merge } = this.#options;
    try {
      const text = await store.readState(name);
      this.#restored = true;
      if (text === null) return null;
      this.#value = merge(check(schema, parseJson(text, `state ${name}`), `state ${name}`), this.#value);
      return null;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.#restored = true;
      this.#dirty = true;
      return error.message;
    }
  }

  /**
   * Writes it where something changed since the last write; of one that is too long, as much as fits.
   *
   * @returns what was left out, once until it fits again, or null
   * @throws Unavailable where the store cannot be reached; it then stays to be written
   */
  async flush(): Promise<string | null> {
    const unusable = await this.restore();
    if (!this.#dirty) return unusable;
    const { store, name } = this.#options;
    const value = this.#value;
    const { text, problem } = this.#fitting(value);
    await store.writeState(name, text);
    // A change during the write is newer than what was written.
    if (this.#value === value) this.#dirty = false;
    const isNews = problem !== null && !this.#isTooLong;
    this.#isTooLong = problem !== null;
    return isNews ? problem : unusable;
  }

  #fitting(value: Value): { readonly text: string; readonly problem: string | null } {
    const { name, firstOf, largestBytes = largestStateBytes } = this.#options;
    const whole = JSON.stringify(value);
    const bytes = Buffer.byteLength(whole);
    if (bytes <= largestBytes) return { text: whole, problem: null };
    let share = largestBytes / bytes;
    let text = whole;
    while (Buffer.byteLength(text) > largestBytes) {
      // Items differ in length, so the first of them may take more than their share.
      share *= 0.9;
      text = JSON.stringify(firstOf(value, share < 0.001 ? 0 : share));
      if (share < 0.001) break;
    }
    const written = `its first ${Math.floor(share * 100)} % are written, a restart would forget the others`;
    return { text, problem: `state ${name}: found ${bytes} bytes, expected at most ${largestBytes}: ${written}` };
  }
}
