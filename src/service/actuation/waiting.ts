import type { ScaleFault } from '../../core/scale.js';

/**
 * How long nothing is asked of an API server, or of one object, after requests failed. Times are steady milliseconds, so
 * that a clock that is set does not make anybody wait for ever.
 *
 * One object that cannot be scaled (a webhook that fails, an object that is gone) must not stop the others; a server that
 * is overloaded or down must not be asked a thousand times whether it still is.
 */

/** First wait for one object after a failure; doubles with each further one. A cycle is ten seconds. [ms] */
const targetBackoffMs = 5_000;
/** What failed while the server was down for an hour must not wait much longer when it is back. [ms] */
const longestTargetBackoffMs = 60_000;
/** First wait for the whole server; doubles up to the longest. As the watch on deployments waits. [ms] */
const serverBackoffMs = 500;
const longestServerBackoffMs = 30_000;
/** So many failures of different objects in a row are the server's, not theirs. */
const failuresOfTheServer = 5;
/** A server may ask for a longer wait than ours, but not for an endless one. [s] */
const longestRetryAfterSeconds = 120;
/** Permissions are given by people: trying again each cycle would be noise in the audit log. [ms] */
const forbiddenMs = 60_000;

export class Waiting {
  /** In [0, 1). */
  readonly #random: () => number;
  readonly #targets = new Map<string, { readonly failures: number; readonly untilMs: number }>();
  readonly #forbidden = new Map<string, { readonly fault: ScaleFault; readonly untilMs: number }>();
  #serverUntilMs = 0;
  #serverFailures = 0;
  #failuresInARow = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** How long nobody may be asked anything. [ms] */
  serverWaitMs(nowMs: number): number {
    return Math.max(0, this.#serverUntilMs - nowMs);
  }

  isTargetWaiting(id: string, nowMs: number): boolean {
    return nowMs < (this.#targets.get(id)?.untilMs ?? 0);
  }

  /**
   * What the server said when it refused this a moment ago; null = it did not.
   *
   * @param permission what is refused as one: a resource in a namespace
   */
  forbiddenBy(permission: string, nowMs: number): ScaleFault | null {
    const refused = this.#forbidden.get(permission);
    return refused !== undefined && nowMs < refused.untilMs ? refused.fault : null;
  }

  /** A request for the object did what it should. */
  succeeded(id: string, permission: string): void {
    this.#targets.delete(id);
    this.#forbidden.delete(permission);
    this.#failuresInARow = 0;
    this.#serverFailures = 0;
  }

  forbidden(permission: string, fault: ScaleFault, nowMs: number): void {
    this.#forbidden.set(permission, { fault, untilMs: nowMs + forbiddenMs });
  }

  /** The object could not be scaled; the server as such may be well. */
  targetFailed(id: string, nowMs: number): void {
    const failures = (this.#targets.get(id)?.failures ?? 0) + 1;
    const waitMs = this.#jittered(targetBackoffMs, longestTargetBackoffMs, failures - 1);
    this.#targets.set(id, { failures, untilMs: nowMs + waitMs });
  }

  /** The server did not answer, or answered with an error of its own; many of these in a row make everybody wait. */
  serverFailed(nowMs: number): void {
    this.#failuresInARow += 1;
    if (this.#failuresInARow >= failuresOfTheServer) this.serverAsksToWait(null, nowMs);
  }

  /** @param retryAfterSeconds what the server asks for; null = it only says that it is too much */
  serverAsksToWait(retryAfterSeconds: number | null, nowMs: number): void {
    // Requests that were under way together come back together: that is one refusal.
    if (this.serverWaitMs(nowMs) === 0) this.#serverFailures += 1;
    const asked = 1000 * Math.min(retryAfterSeconds ?? 0, longestRetryAfterSeconds);
    const waitMs = Math.max(asked, this.#jittered(serverBackoffMs, longestServerBackoffMs, this.#serverFailures - 1));
    this.#serverUntilMs = Math.max(this.#serverUntilMs, nowMs + waitMs);
  }

  /** Forgets objects that are gone, and permissions whose time is over. */
  keepOnly(known: ReadonlyMap<string, unknown>, nowMs: number): void {
    for (const id of this.#targets.keys()) if (!known.has(id)) this.#targets.delete(id);
    for (const [permission, { untilMs }] of this.#forbidden) if (untilMs <= nowMs) this.#forbidden.delete(permission);
  }

  /** Half of a wait is chance: what failed together must not come back together. */
  #jittered(firstMs: number, longestMs: number, step: number): number {
    return Math.min(longestMs, firstMs * 2 ** Math.min(step, 30)) * (0.5 + 0.5 * this.#random());
  }
}
