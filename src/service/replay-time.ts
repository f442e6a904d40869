import type { Clock } from '../core/ports.js';
import type { Timer } from './controller.js';

/**
 * The virtual time of a replay: it runs `speed` times as fast as the steady clock, and never further ahead of what has
 * been replayed than a moment. A machine that is too slow, or was asleep, makes the replay's time slow instead of piling
 * up work; what was lost is not caught up.
 *
 * Timers fire when everything before them has been replayed.
 */
export type ReplayTimeOptions = {
  /** Simulated Unix milliseconds of the beginning. */
  readonly beginMs: number;
  /** Simulated seconds a second. */
  readonly speed: number;
  /** Milliseconds on a clock that is never set. */
  readonly steadyMs: () => number;
  /** Calls back after so many real milliseconds; the answer cancels it. */
  readonly delay: Timer;
};

/** How far the clock may be ahead of the replay: a pause of the process of so long is caught up [real ms] ... */
const catchUpMs = 50;
/** ... and at least this much simulated time, so that slow clocks tick between two steps of the replay [ms]. */
const leastAheadMs = 1000;

/** How soon a timer looks again when the replay has not come to it [real ms]. */
const lookAgainMs = 2;

export class ReplayTime implements Clock {
  readonly #options: ReplayTimeOptions;
  readonly #aheadMs: number;
  #nowMs: number;
  #seenMs: number;
  /** Replayed up to here; Infinity = nothing is waited for. */
  #reachedMs: number;

  constructor(options: ReplayTimeOptions) {
    this.#options = options;
    this.#aheadMs = Math.max(leastAheadMs, catchUpMs * options.speed);
    this.#nowMs = options.beginMs;
    // It stands still until the replay begins: what a process needs to start is no time of the day that is replayed.
    this.#reachedMs = options.beginMs - this.#aheadMs;
    this.#seenMs = options.steadyMs();
  }

  now(): number {
    const steadyMs = this.#options.steadyMs();
    const freeMs = this.#nowMs + (steadyMs - this.#seenMs) * this.#options.speed;
    this.#seenMs = steadyMs;
    // It stands still where it is too far ahead, and never goes back.
    this.#nowMs = Math.max(this.#nowMs, Math.min(freeMs, this.#reachedMs + this.#aheadMs));
    return this.#nowMs;
  }

  /** Everything before this moment has been replayed. */
  reached(ms: number): void {
    this.now();
    this.#reachedMs = ms;
  }

  /** The replay is over: time runs by itself. */
  release(): void {
    this.reached(Number.POSITIVE_INFINITY);
  }

  /** For the controller: after so much simulated time, once the replay has come there. */
  readonly timer: Timer = (delayMs, callback) => {
    const { delay, speed } = this.#options;
    const dueMs = this.now() + delayMs;
    let cancel = () => {};
    const look = (): void => {
      const nowMs = this.now();
      if (Math.min(nowMs, this.#reachedMs) >= dueMs) callback();
      else cancel = delay(Math.max(lookAgainMs, (dueMs - nowMs) / speed), look);
    };
    cancel = delay(delayMs / speed, look);
    return () => cancel();
  };
}
