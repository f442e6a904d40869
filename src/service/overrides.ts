import { z } from 'zod';
import type { SharedStore } from '../core/ports.js';
import { firstItems, StoredDocument } from './stored-document.js';

/** A person fixed the replicas of one deployment (PUT /scale). */
export type Override = {
  /** namespace/name */
  readonly id: string;
  readonly replicas: number;
  /** Unix milliseconds; null = until cleared. */
  readonly expiresAtMs: number | null;
};

const overridesSchema = z.object({
  overrides: z.array(
    z.object({
      id: z.string(),
      replicas: z.int().min(0),
      expiresAtMs: z.number().nullable(),
    }),
  ),
  /** Cleared before the store could be read: what it holds for these is void. */
  cleared: z.array(z.string()).default([]),
});

type Document = {
  readonly overrides: readonly Override[];
  readonly cleared: readonly string[];
};

/**
 * The overrides in force. They act from memory at once, also while the store is down, and outlive a restart in the
 * store.
 */
export class Overrides {
  readonly #document: StoredDocument<Document>;

  constructor(store: Pick<SharedStore, 'readState' | 'writeState'>) {
    this.#document = new StoredDocument<Document>({
      store,
      name: 'overrides',
      schema: overridesSchema,
      initial: { overrides: [], cleared: [] },
      merge: (stored, here) => {
        const newer = new Set([...here.cleared, ...here.overrides.map((override) => override.id)]);
        return {
          overrides: [...stored.overrides.filter((override) => !newer.has(override.id)), ...here.overrides],
          cleared: [],
        };
      },
      firstOf: ({ overrides, cleared }, share) => {
        return { overrides: firstItems(overrides, share), cleared: firstItems(cleared, share) };
      },
    });
  }

  fix(override: Override): void {
    const { overrides, cleared } = this.#document.value;
    this.#document.set({
      overrides: [...overrides.filter((other) => other.id !== override.id), override],
      cleared: cleared.filter((id) => id !== override.id),
    });
  }

  /** Clears the overrides of some deployments, also those that the store may still hold. */
  clear(ids: ReadonlySet<string>): void {
    const { overrides, cleared } = this.#document.value;
    const kept = overrides.filter((override) => !ids.has(override.id));
    if (this.#document.restored && kept.length === overrides.length) return;
    this.#document.set({
      overrides: kept,
      cleared: this.#document.restored ? [] : [...new Set([...cleared, ...ids])],
    });
  }

  /** Those in force at a moment, by deployment id; expired ones are forgotten. */
  active(nowMs: number): ReadonlyMap<string, Override> {
    const { overrides, cleared } = this.#document.value;
    const inForce = overrides.filter(({ expiresAtMs }) => expiresAtMs === null || expiresAtMs > nowMs);
    if (inForce.length < overrides.length) this.#document.set({ overrides: inForce, cleared });
    return new Map(inForce.map((override) => [override.id, override]));
  }

  /** See `StoredDocument`. */
  restore(): Promise<string | null> {
    return this.#document.restore();
  }

  flush(): Promise<string | null> {
    return this.#document.flush();
  }

  storeWasReplaced(): void {
    this.#document.storeWasReplaced();
  }
}
