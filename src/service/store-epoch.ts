import { z } from 'zod';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import { type Clock, type SharedStore, type StoreIdentity, Unavailable } from '../core/ports.js';

const epochSchema = z.object({ id: z.string().min(1), sinceMs: z.number() });
type Epoch = z.output<typeof epochSchema>;

/** The name of the marker among the state documents. */
const epochName = 'epoch';

/**
 * Which store this is, also where it was emptied while its server ran on (FLUSHALL): the server's identity, and a
 * marker of our own that goes when everything goes. Without it the keys of an emptied store are absent like those of
 * quiet intervals, and absent would be taken for zero.
 *
 * The marker is written where there is none, and asked for in every cycle.
 */
export class StoreEpoch {
  readonly #store: Pick<SharedStore, 'identity' | 'readState' | 'writeState'>;
  readonly #clock: Clock;
  readonly #newId: () => string;
  /** A marker that could not be written yet: until it is, it stands for the store that has none. */
  #unwritten: Epoch | null = null;

  constructor(options: {
    readonly store: Pick<SharedStore, 'identity' | 'readState' | 'writeState'>;
    readonly clock: Clock;
    /** A name that nothing else has. */
    readonly newId: () => string;
  }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#newId = options.newId;
  }

  /**
   * The store that answers now. It begins when its server started, and not before its marker: what was there earlier
   * may have been emptied.
   *
   * @throws Unavailable where the store cannot be read
   */
  async identity(): Promise<StoreIdentity> {
    // At once: every cycle asks both, and where answers take seconds each wait counts.
    const [server, read] = await Promise.all([this.#store.identity(), this.#read()]);
    const epoch = read ?? (await this.#begin());
    return {
      ...server,
      runId: `${server.runId}/${epoch.id}`,
      startedAtMs: Math.max(server.startedAtMs, epoch.sinceMs),
    };
  }

  async #read(): Promise<Epoch | null> {
    try {
      const text = await this.#store.readState(epochName);
      if (text === null) return null;
      const epoch = check(epochSchema, parseJson(text, `state ${epochName}`), `state ${epochName}`);
      this.#unwritten = null;
      return epoch;
    } catch (error) {
      // Something else lies there: as good as none, and the write replaces it.
      if (error instanceof InputError) return null;
      throw error;
    }
  }

  async #begin(): Promise<Epoch> {
    const epoch = this.#unwritten ?? { id: this.#newId(), sinceMs: this.#clock.now() };
    this.#unwritten = epoch;
    try {
      await this.#store.writeState(epochName, JSON.stringify(epoch));
      this.#unwritten = null;
    } catch (error) {
      // A store that only reads still tells what arrives; that state cannot be written is reported where it is flushed.
      if (!(error instanceof Unavailable)) throw error;
    }
    return epoch;
  }
}
