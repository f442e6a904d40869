import type { z } from 'zod';
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
};

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
    const text = await store.readState(name);
    this.#restored = true;
    if (text === null) return null;
    try {
      this.#value = merge(check(schema, parseJson(text, `state ${name}`), `state ${name}`), this.#value);
      return null;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.#dirty = true;
      return error.message;
    }
  }

  /**
   * Writes it where something changed since the last write.
   *
   * @throws Unavailable where the store cannot be reached; it then stays to be written
   */
  async flush(): Promise<void> {
    await this.restore();
    if (!this.#dirty) return;
    const value = this.#value;
    await this.#options.store.writeState(this.#options.name, JSON.stringify(value));
    // A change during the write is newer than what was written.
    if (this.#value === value) this.#dirty = false;
  }
}
