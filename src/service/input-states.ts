import { type Logger, withoutSecrets } from './log.js';
import type { InputState } from './view.js';

type State = { ok: boolean; readAtMs: number | null; problem: string | null };

/** What is known of each input, for readiness and metrics; a change for the better or worse is logged once. */
export class InputStates {
  readonly #states = new Map<string, State>();
  readonly #logger: Pick<Logger, 'info' | 'warn'>;

  constructor(inputs: readonly string[], logger: Pick<Logger, 'info' | 'warn'>) {
    this.#logger = logger;
    for (const input of inputs) this.#states.set(input, { ok: false, readAtMs: null, problem: null });
  }

  /** It was read whole. `concern` is something about it that people should know all the same. */
  read(input: string, nowMs: number, concern: string | null = null): void {
    this.#change(input, { ok: true, readAtMs: nowMs, problem: concern === null ? null : withoutSecrets(concern) });
  }

  /** What is told of it is shown to everybody who reaches the port: an upstream may have repeated what it was sent. */
  failed(input: string, problem: string): void {
    const before = this.#states.get(input);
    this.#change(input, { ok: false, readAtMs: before?.readAtMs ?? null, problem: withoutSecrets(problem) });
  }

  /** What was read stays as old as it is. */
  clockWasSet(byMs: number): void {
    for (const state of this.#states.values()) if (state.readAtMs !== null) state.readAtMs += byMs;
  }

  all(nowMs: number): readonly InputState[] {
    return [...this.#states].map(([input, { ok, readAtMs, problem }]) => ({
      input,
      ok,
      ageSeconds: readAtMs === null ? null : Math.max(0, (nowMs - readAtMs) / 1000),
      problem,
    }));
  }

  #change(input: string, state: State): void {
    const before = this.#states.get(input);
    this.#states.set(input, state);
    if (!state.ok && before?.ok !== false) this.#logger.warn({ input }, `${input}: ${state.problem}`);
    else if (!state.ok && before?.problem === null) this.#logger.warn({ input }, `${input}: ${state.problem}`);
    else if (state.ok && before !== undefined && !before.ok && before.readAtMs !== null) {
      this.#logger.info({ input }, `${input}: read again`);
    }
  }
}
