import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { realClock } from '../../../src/adapters/engine/clock.js';

/** The system's clock and timers, moved by hand: a timer wakes on whole milliseconds, and may be a little early. */
describe('the clock of the engine', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('calls back at the time, not before', () => {
    const clock = realClock();
    const called: number[] = [];
    clock.at(12.5, () => called.push(clock.nowMs()));
    vi.advanceTimersByTime(12);
    expect(called).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(called).toHaveLength(1);
    expect(called[0]).toBeGreaterThanOrEqual(12.5);
    expect(called[0]).toBeLessThanOrEqual(13);
  });

  it('plays engine time faster', () => {
    const clock = realClock(10);
    const called = vi.fn();
    clock.at(1000, called);
    vi.advanceTimersByTime(99);
    expect(clock.nowMs()).toBeCloseTo(990, 6);
    expect(called).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(called).toHaveBeenCalledOnce();
  });

  it('calls back for a time that has passed, but not before it has returned', () => {
    const clock = realClock();
    vi.advanceTimersByTime(5);
    const called = vi.fn();
    clock.at(3, called);
    expect(called).not.toHaveBeenCalled();
    vi.advanceTimersByTime(0);
    expect(called).toHaveBeenCalledOnce();
  });

  it('calls nothing back that was called off, before and while it waits', () => {
    const clock = realClock();
    const called = vi.fn();
    clock.at(5, called)();
    const late = clock.at(7.5, called);
    vi.advanceTimersByTime(7);
    late();
    vi.advanceTimersByTime(10);
    expect(called).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('waits for times that are further off than one timer can be', () => {
    const clock = realClock();
    const called = vi.fn();
    clock.at(2 ** 32, called);
    vi.advanceTimersByTime(2 ** 31);
    expect(called).not.toHaveBeenCalled();
    vi.advanceTimersByTime(2 ** 31);
    expect(called).toHaveBeenCalledOnce();
  });
});
