import { describe, expect, it } from 'vitest';
import { StartupTimes } from '../../src/service/startup-times.js';

/** Views of one deployment every 10 s: [asked for, ready]. */
function follow(
  times: StartupTimes,
  views: readonly (readonly [number | null, number | null])[],
  fromSeconds = 0,
  startupSeconds: number | null = null,
): number {
  let seconds = fromSeconds;
  for (const [currentReplicas, readyReplicas] of views) {
    times.observe([{ id: 'd/a', currentReplicas, readyReplicas, startupSeconds }], seconds * 1000);
    seconds += 10;
  }
  return seconds;
}

const of = (startupSeconds: number | null = null) => ({ id: 'd/a', startupSeconds });

/** Some views of the same. */
const same = (count: number, current: number, ready: number) =>
  Array.from({ length: count }, () => [current, ready] as const);

describe('learnt start-up times', () => {
  it('are the prior before any start was seen: that of the deployment, else the configured one', () => {
    const times = new StartupTimes(180);
    expect(times.secondsOf(of())).toBe(180);
    expect(times.secondsOf(of(60))).toBe(60);
  });

  it('approach what starts take, with a high quantile of the last ones', () => {
    const times = new StartupTimes(180);
    let now = follow(times, [[1, 1]]);
    for (let start = 0; start < 20; start += 1) {
      // Asked for now, ready 50 s later, and given back.
      now = follow(times, [...same(5, 2, 1), [2, 2], [1, 1]], now);
    }
    expect(times.startsOf('d/a')).toBe(20);
    expect(times.secondsOf(of())).toBe(50);
  });

  it('believe slower starts at once, and faster ones only when there are many', () => {
    const times = new StartupTimes(60);
    const now = follow(times, [[1, 1], ...same(30, 2, 1), [2, 2]]);
    expect(times.secondsOf(of())).toBe(300);
    const faster = new StartupTimes(180);
    follow(faster, [
      [1, 1],
      [2, 1],
      [2, 2],
    ]);
    expect(faster.startsOf('d/a')).toBe(1);
    expect(faster.secondsOf(of())).toBe(180);
    expect(now).toBeGreaterThan(0);
  });

  it.each<[string, readonly (readonly [number | null, number | null])[]]>([
    [
      'a rollout, where ready ones go and come back',
      [
        [2, 2],
        [2, 1],
        [2, 1],
        [2, 2],
      ],
    ],
    [
      'a start that was taken back',
      [
        [1, 1],
        [2, 1],
        [1, 1],
        [1, 1],
      ],
    ],
    [
      'a rise while another start is under way',
      [
        [1, 1],
        [2, 1],
        [3, 1],
        [3, 3],
      ],
    ],
    [
      'a crash during a start',
      [
        [2, 2],
        [3, 2],
        [3, 1],
        [3, 3],
      ],
    ],
    [
      'a gap in the view',
      [
        [1, 1],
        [2, 1],
        [null, null],
        [2, 2],
      ],
    ],
    [
      'what was under way when it was seen first',
      [
        [2, 1],
        [2, 2],
      ],
    ],
    ['a stock-out', [[1, 1], ...same(100, 2, 1), [2, 2]]],
  ])('learn nothing from %s', (_, views) => {
    const times = new StartupTimes(180);
    follow(times, views);
    expect(times.startsOf('d/a')).toBe(0);
  });

  it('outlive the process, and forget deployments that are gone', () => {
    const times = new StartupTimes(60);
    follow(times, [[1, 1], ...same(30, 2, 1), [2, 2]]);
    const again = new StartupTimes(60, JSON.parse(JSON.stringify(times.toJSON())));
    expect(again.secondsOf(of())).toBe(300);
    again.observe([], 1e6);
    expect(again.toJSON()).toEqual([]);
  });
});
