import { describe, expect, it } from 'vitest';
import { ReplayTime } from '../../src/service/replay-time.js';

const beginMs = Date.UTC(2026, 5, 1, 8);

/** A steady clock that is turned by hand, with its timers. */
function bench(speed: number) {
  let steadyMs = 1_000_000;
  let timers: { readonly atMs: number; readonly callback: () => void }[] = [];
  const time = new ReplayTime({
    beginMs,
    speed,
    steadyMs: () => steadyMs,
    delay: (delayMs, callback) => {
      const timer = { atMs: steadyMs + delayMs, callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((each) => each !== timer);
      };
    },
  });
  const pass = (ms: number): void => {
    const untilMs = steadyMs + ms;
    for (;;) {
      const [next] = timers.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      timers = timers.filter((each) => each !== next);
      steadyMs = Math.max(steadyMs, next.atMs);
      next.callback();
    }
    steadyMs = untilMs;
  };
  return { time, pass, waiting: () => timers.length };
}

describe('the time of a replay', () => {
  it('stands still until the replay begins, and then runs as many times as fast as the steady clock', () => {
    const { time, pass } = bench(60);
    pass(1000);
    expect(time.now()).toBe(beginMs);
    time.release();
    pass(1000);
    expect(time.now() - beginMs).toBeCloseTo(60_000, 6);
  });

  it('waits for a replay that is too slow, and does not catch up what it lost', () => {
    const { time, pass } = bench(60);
    time.reached(beginMs);
    pass(3_600_000);
    // 50 ms of the process at 60 s a second.
    expect(time.now() - beginMs).toBe(3000);
    time.reached(beginMs + 3000);
    pass(10);
    expect(time.now() - beginMs).toBeCloseTo(3600, 6);
  });

  it('never goes back, and runs by itself once the replay is over', () => {
    const { time, pass } = bench(60);
    time.release();
    pass(1000);
    time.reached(beginMs);
    pass(1000);
    expect(time.now() - beginMs).toBeCloseTo(60_000, 6);
    time.release();
    pass(1000);
    expect(time.now() - beginMs).toBeCloseTo(120_000, 6);
  });

  it('fires a timer when everything before it has been replayed, and not sooner', () => {
    const { time, pass, waiting } = bench(60);
    time.reached(beginMs);
    let fired = 0;
    time.timer(10_000, () => {
      fired += 1;
    });
    pass(5000);
    expect(fired).toBe(0);
    for (let ms = 500; ms < 10_000; ms += 500) {
      time.reached(beginMs + ms);
      pass(10);
    }
    expect(fired).toBe(0);
    time.reached(beginMs + 10_000);
    pass(10);
    expect([fired, waiting()]).toEqual([1, 0]);
  });

  it('forgets a timer that was cancelled, also one that waits for the replay', () => {
    const { time, pass, waiting } = bench(60);
    time.reached(beginMs);
    const cancel = time.timer(10, () => expect.unreachable());
    pass(1000);
    expect(waiting()).toBe(1);
    cancel();
    time.release();
    pass(1000);
    expect(waiting()).toBe(0);
  });
});
