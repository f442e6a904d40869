import { z } from 'zod';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import { planStatuses } from '../core/plan.js';
import type { SharedStore } from '../core/ports.js';
import type { DecisionRecord } from './view.js';

const decisionSchema = z.object({
  at: z.string(),
  model: z.string(),
  status: z.enum(planStatuses),
  heldReason: z.string().nullable(),
  usdPerHour: z.number(),
  rps: z.number(),
  changes: z.array(
    z.object({ deployment: z.string(), from: z.int().nullable(), to: z.int().nullable(), reason: z.string() }),
  ),
});

const listName = 'decisions';

/**
 * The newest decisions, oldest first: in memory for answers, in the store's list so that a restart remembers them.
 * While the store is down new ones wait here, at most as many as are kept.
 */
export class DecisionHistory {
  readonly #store: Pick<SharedStore, 'appendToList' | 'readList'>;
  readonly #keep: number;
  #decisions: DecisionRecord[] = [];
  #unwritten: DecisionRecord[] = [];
  #restored = false;
  #maybeEmptied = false;

  constructor(store: Pick<SharedStore, 'appendToList' | 'readList'>, keep: number) {
    this.#store = store;
    this.#keep = keep;
  }

  add(records: readonly DecisionRecord[]): void {
    if (records.length === 0) return;
    this.#decisions = [...this.#decisions, ...records].slice(-this.#keep);
    this.#unwritten = [...this.#unwritten, ...records].slice(-this.#keep);
  }

  /** The newest `limit` that match, oldest first. */
  query(query: {
    readonly model?: string;
    readonly sinceMs?: number;
    readonly limit: number;
  }): readonly DecisionRecord[] {
    const { model, sinceMs, limit } = query;
    if (limit <= 0) return [];
    return this.#decisions
      .filter((record) => model === undefined || record.model === model)
      .filter((record) => sinceMs === undefined || Date.parse(record.at) >= sinceMs)
      .slice(-limit);
  }

  /**
   * Reads the store's list once.
   *
   * @returns how many entries could not be read, or why none could (the next write then replaces what lies there); null
   * = all is well
   * @throws Unavailable; the next call tries again
   */
  async restore(): Promise<string | null> {
    if (this.#restored) return null;
    let texts: readonly string[] = [];
    let problem: string | null = null;
    try {
      texts = await this.#store.readList(listName, this.#keep);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      problem = error.message;
    }
    this.#restored = true;
    const stored = texts.flatMap((text) => parseDecision(text) ?? []);
    this.#decisions = [...stored, ...this.#decisions].slice(-this.#keep);
    const lost = texts.length - stored.length;
    return lost > 0 ? `${lost} entries of the decision history could not be read` : problem;
  }

  /** @throws Unavailable; what was not written stays to be written */
  async flush(): Promise<void> {
    await this.restore();
    if (this.#maybeEmptied) {
      // A server that kept its data through the restart must not get every decision twice.
      if (await this.#isListEmpty()) this.#unwritten = [...this.#decisions];
      this.#maybeEmptied = false;
    }
    const unwritten = this.#unwritten;
    if (unwritten.length === 0) return;
    await this.#store.appendToList(
      listName,
      unwritten.map((record) => JSON.stringify(record)),
      this.#keep,
    );
    // What came during the write has been added behind it; a cut at `keep` took from the front, which was written.
    const written = new Set(unwritten);
    this.#unwritten = this.#unwritten.filter((record) => !written.has(record));
  }

  async #isListEmpty(): Promise<boolean> {
    try {
      return (await this.#store.readList(listName, 1)).length === 0;
    } catch (error) {
      if (error instanceof InputError) return true;
      throw error;
    }
  }

  /** The store may have lost the list: the next flush looks, and writes all of it again where it did. */
  storeWasReplaced(): void {
    this.#maybeEmptied = true;
  }
}

function parseDecision(text: string): DecisionRecord | null {
  try {
    return check(decisionSchema, parseJson(text, listName), listName);
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}
