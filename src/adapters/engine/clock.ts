/** Engine time: what the simulated replica lives in. Injected, so that a test can be the clock. */
export interface EngineClock {
  /** Engine milliseconds since the clock began. */
  nowMs(): number;
  /** Calls back once at that engine time, or as soon after as the process can; a time that has passed is now. */
  at(dueMs: number, callback: () => void): CancelTimer;
}

export type CancelTimer = () => void;

/**
 * The machine's monotonic clock, `speed` engine seconds a second.
 *
 * Each call is due at an absolute time, so lateness never adds up. Timers of the system count whole milliseconds: one
 * that wakes early waits the rest out turn by turn of the event loop, which goes on serving sockets meanwhile; one that
 * wakes late does so by less than a millisecond, as long as the process has time.
 */
export function realClock(speed = 1): EngineClock {
  const start = performance.now();
  const nowMs = (): number => (performance.now() - start) * speed;
  return {
    nowMs,
    at(dueMs, callback) {
      let timer: NodeJS.Timeout | undefined;
      let immediate: NodeJS.Immediate | undefined;
      const wait = (): void => {
        const realMs = (dueMs - nowMs()) / speed;
        if (realMs >= 1) timer = setTimeout(wait, Math.min(Math.floor(realMs), longestTimeoutMs));
        else if (realMs > 0) immediate = setImmediate(wait);
        else callback();
      };
      // Never at once: whoever asks has not yet been given what cancels it.
      if (dueMs <= nowMs()) immediate = setImmediate(callback);
      else wait();
      return () => {
        clearTimeout(timer);
        clearImmediate(immediate);
      };
    },
  };
}

/** Longest delay that setTimeout takes; beyond it is waited for again. */
const longestTimeoutMs = 2 ** 31 - 1;
