import type { Clock } from '../core/ports.js';

/** A clock that is slewed, a long pause of the process and the grain of both clocks differ by less [ms]. */
const smallestStepMs = 5000;

/**
 * Notices that somebody set the clock: the time that it says has passed is not the time that has passed. A machine that
 * slept looks the same, and is treated the same: what went on meanwhile was not seen.
 */
export class ClockSteps {
  readonly #clock: Clock;
  readonly #steadyMs: () => number;
  /** What our clock shows when the steady one shows 0; null = never looked. */
  #offsetMs: number | null = null;

  /** @param steadyMs a clock that nobody sets [ms] */
  constructor(clock: Clock, steadyMs: () => number) {
    this.#clock = clock;
    this.#steadyMs = steadyMs;
  }

  /** By how much the clock was set since the last look, ahead or (below 0) back; 0 = it was not [ms]. */
  look(): number {
    const offsetMs = this.#clock.now() - this.#steadyMs();
    const byMs = this.#offsetMs === null ? 0 : offsetMs - this.#offsetMs;
    // Also a drift that no look finds large is taken along, so that many do not add up to a step.
    this.#offsetMs = offsetMs;
    return Math.abs(byMs) < smallestStepMs ? 0 : byMs;
  }
}
