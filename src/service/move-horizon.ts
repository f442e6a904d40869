/**
 * For how long a change of mix is expected to last: the time over which it must earn its starts back.
 *
 * Nobody knows when the demand will make the next change worth it. What has stood for a while is taken to stand for as
 * long again: after a change the horizon is a quarter of an hour, so that near ties do not make replicas go to and fro;
 * in calm it grows, up to `longestSeconds`, so that a saving that lasts is taken however small it is.
 *
 * A change of mix is a plan that starts some replicas while others are let go. More of the same, or less, is none.
 */

/**
 * Starts take some minutes, and the old replicas run on meanwhile: in less time hardly any change earns that back, and a
 * fleet would grow by small steps of whatever is cheapest to add and never go to what serves it best.
 */
const shortestSeconds = 900;

export type MoveHorizonSettings = {
  /** `options.horizonHours`, in seconds. */
  readonly longestSeconds: number;
};

/** One deployment of a model: what runs or was asked for, and what the plan heads for. */
export type Heading = { readonly running: number | null; readonly target: number | null };

/** Remembers when the mix of each model changed last. */
export class MoveHorizon {
  readonly #settings: MoveHorizonSettings;
  readonly #changedMs = new Map<string, number>();

  constructor(settings: MoveHorizonSettings) {
    this.#settings = settings;
  }

  /** @returns seconds */
  secondsOf(model: string, nowMs: number): number {
    const { longestSeconds } = this.#settings;
    const changedMs = this.#changedMs.get(model);
    // Of a process that has just begun nobody knows how long its mix has stood.
    if (changedMs === undefined) this.#changedMs.set(model, nowMs);
    const calmSeconds = Math.max(0, nowMs - (changedMs ?? nowMs)) / 1000;
    return Math.min(longestSeconds, Math.max(shortestSeconds, calmSeconds));
  }

  /** Takes what a model's plan heads for. */
  observe(model: string, headings: readonly Heading[], nowMs: number): void {
    let starts = false;
    let stops = false;
    for (const { running, target } of headings) {
      if (running === null || target === null) continue;
      if (target > running) starts = true;
      if (target < running) stops = true;
    }
    if (starts && stops) this.#changedMs.set(model, nowMs);
  }

  /** Forgets models that are gone. */
  keepOnly(models: ReadonlyMap<string, unknown>): void {
    for (const name of this.#changedMs.keys()) if (!models.has(name)) this.#changedMs.delete(name);
  }
}
