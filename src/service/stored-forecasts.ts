import { setImmediate as nextTurn } from 'node:timers/promises';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import { type SharedStore, Unavailable } from '../core/ports.js';
import type { DemandForecaster, ForecastMemory } from '../demand/forecast.js';
import { forecastMemorySchema } from '../demand/forecast-memory.js';
import { sentence } from './cycle.js';
import type { Logger } from './log.js';
import { isDue } from './stored-document.js';

/**
 * What forecasters remember, in the shared store: one document a model, of about 118 kB.
 *
 * A model is written once in five minutes, and each in its turn, so that a thousand models are some dozens of writes a
 * cycle; all that is newer is written at the end. A restart without an end loses minutes that the window mostly still
 * knows. Only what was read (or found absent) is written: a store that was never read may hold more than this process.
 */
export class StoredForecasts {
  readonly #store: Pick<SharedStore, 'readState' | 'writeState'>;
  readonly #logger: Pick<Logger, 'warn' | 'error'>;
  /** When each model was written last, by this process or another [ms]. */
  readonly #writtenMs = new Map<string, number>();
  #flushing: Promise<unknown> = Promise.resolve();

  constructor(options: {
    readonly store: Pick<SharedStore, 'readState' | 'writeState'>;
    readonly logger: Pick<Logger, 'warn' | 'error'>;
  }) {
    this.#store = options.store;
    this.#logger = options.logger;
  }

  /**
   * What an earlier process remembered of some models, in their order; null = nothing that can be used.
   *
   * @throws Unavailable
   */
  async read(models: readonly string[], nowMs: number): Promise<readonly (ForecastMemory | null)[]> {
    const memories: (ForecastMemory | null)[] = [];
    for (let start = 0; start < models.length; start += documentsAtOnce) {
      const some = models.slice(start, start + documentsAtOnce);
      memories.push(...(await Promise.all(some.map((model) => this.#readOne(model)))));
      // The first write of many new models is spread over the time between two of one.
      some.forEach((model, i) => {
        const place = (start + i) / models.length;
        this.#writtenMs.set(model, nowMs - place * saveSeconds * 1000);
      });
      await nextTurn();
    }
    return memories;
  }

  async #readOne(model: string): Promise<ForecastMemory | null> {
    const name = documentName(model);
    try {
      const text = await this.#store.readState(name);
      return text === null ? null : check(forecastMemorySchema, parseJson(text, `state ${name}`), `state ${name}`);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.#logger.warn({ model, problem: error.message }, `the history of ${model} begins anew: ${error.message}`);
      return null;
    }
  }

  /** The store may have lost it: every model is written again, each in its turn. */
  storeWasReplaced(): void {
    for (const model of this.#writtenMs.keys()) this.#writtenMs.set(model, Number.NEGATIVE_INFINITY);
  }

  /**
   * Writes what is due; where `isLast`, all of it.
   *
   * @returns null, or the code of what went wrong: it is then tried again
   */
  flush(now: {
    readonly nowMs: number;
    readonly models: readonly { readonly name: string; readonly forecaster: DemandForecaster | null }[];
    readonly isLast: boolean;
  }): Promise<string | null> {
    const flushed = this.#flushing.then(() => this.#flush(now));
    this.#flushing = flushed;
    return flushed;
  }

  async #flush({ nowMs, models, isLast }: Parameters<StoredForecasts['flush']>[0]): Promise<string | null> {
    const names = new Set(models.map(({ name }) => name));
    for (const model of this.#writtenMs.keys()) if (!names.has(model)) this.#writtenMs.delete(model);
    const due = models
      .flatMap(({ name, forecaster }) => {
        const writtenMs = this.#writtenMs.get(name);
        if (forecaster === null || writtenMs === undefined) return [];
        return isLast || isDue(writtenMs, { nowMs, everySeconds: saveSeconds })
          ? [{ name, forecaster, writtenMs }]
          : [];
      })
      .sort((a, b) => a.writtenMs - b.writtenMs);
    const most = isLast ? due.length : Math.max(leastWrites, Math.ceil(models.length / writesPerRound));
    try {
      for (let start = 0; start < Math.min(most, due.length); start += documentsAtOnce) {
        await Promise.all(
          due.slice(start, Math.min(most, start + documentsAtOnce)).map(async ({ name, forecaster }) => {
            const memory = forecaster.memory();
            if (memory !== null) await this.#store.writeState(documentName(name), JSON.stringify(memory));
            this.#writtenMs.set(name, nowMs);
          }),
        );
        await nextTurn();
      }
      return null;
    } catch (error) {
      if (error instanceof Unavailable) return error.code;
      this.#logger.error({ err: error }, `the history of rates cannot be written: ${sentence(error)}`);
      return 'internal';
    }
  }
}

/** What a restart without an end may lose; traces of ten minutes are read again [s]. */
const saveSeconds = 300;

/** Cycles in which every model is written once where all are due: half of those in `saveSeconds` at one in 10 s. */
const writesPerRound = 15;
const leastWrites = 4;

/** Some milliseconds of work between two turns of the event loop. */
const documentsAtOnce = 8;

function documentName(model: string): string {
  return `forecast:${model}`;
}
