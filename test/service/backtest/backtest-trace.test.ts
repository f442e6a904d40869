import { describe, expect, it } from 'vitest';
import { readBacktestTrace, type TraceQuestion } from '../../../src/service/backtest/backtest-trace.js';
import type { BacktestRequest } from '../../../src/simulation/backtest/backtest.js';
import { streamed } from './scenario.js';

/** One request a second, its place in the trace as its input tokens. */
const steady = Array.from({ length: 3600 }, (_, i) => ({
  atMs: 5_000_000 + 1000 * i,
  inputTokens: i + 1,
  outputTokens: 10,
}));
const startsAtMs = Date.UTC(2026, 0, 5);

function question(overrides: Partial<TraceQuestion> = {}): TraceQuestion {
  return {
    open: () => streamed(steady),
    source: 'trace.csv',
    fromSeconds: 0,
    durationSeconds: null,
    warmUpShare: 0.1,
    copies: 1,
    jitterSeconds: 60,
    seed: 1,
    startsAtMs,
    signal: new AbortController().signal,
    ...overrides,
  };
}

async function all(requests: AsyncIterable<BacktestRequest>): Promise<readonly BacktestRequest[]> {
  const found: BacktestRequest[] = [];
  for await (const request of requests) found.push(request);
  return found;
}

describe('the trace of a backtest', () => {
  it('is played whole, from the simulated start on, as often as it is asked for', async () => {
    const trace = await readBacktestTrace(question());
    expect(trace.startMs).toBe(startsAtMs);
    expect(trace.endMs).toBe(startsAtMs + 3_599_001);
    expect(trace.history).toEqual([]);
    const first = await all(trace.requests());
    expect(first).toHaveLength(3600);
    expect(first[0]).toEqual({ atMs: startsAtMs, inputTokens: 1, outputTokens: 10 });
    expect(await all(trace.requests())).toEqual(first);
  });

  it('counts what is scored: after the warm-up, within the window', async () => {
    const trace = await readBacktestTrace(question({ fromSeconds: 600, durationSeconds: 1000, warmUpShare: 0.2 }));
    expect(trace.window).toEqual({
      fromSeconds: 600,
      toSeconds: 1600,
      scoredFromSeconds: 800,
      requests: 800,
      inputTokens: ((801 + 1600) * 800) / 2,
      outputTokens: 8000,
    });
    expect(trace.scoredFromMs).toBe(startsAtMs + 800_000);
    const played = await all(trace.requests());
    expect([played[0]!.inputTokens, played.at(-1)!.inputTokens]).toEqual([601, 1600]);
  });

  it('ends with the trace where more is asked for', async () => {
    const trace = await readBacktestTrace(question({ fromSeconds: 3000, durationSeconds: 86_400 }));
    expect(trace.window.toSeconds).toBe(3599.001);
  });

  it('may be longer than can be played where only a part of it is asked for', async () => {
    const open = () => streamed([...steady, { ...steady[0]!, atMs: Date.UTC(2026, 0, 5) }]);
    expect((await readBacktestTrace(question({ open, durationSeconds: 600 }))).endMs).toBe(startsAtMs + 600_000);
  });

  it('tells the rates before the window, of all copies, minute by minute', async () => {
    const { history } = await readBacktestTrace(question({ fromSeconds: 630, copies: 2.5 }));
    expect(history).toEqual(
      Array.from({ length: 10 }, (_, i) => ({ endSeconds: startsAtMs / 1000 + 60 * (i + 1), rps: 2.5 })),
    );
  });

  it('tells them by minutes of the clock, also where the trace begins within one', async () => {
    const { history } = await readBacktestTrace(question({ fromSeconds: 630, startsAtMs: startsAtMs + 30_000 }));
    // 00:00:30 to 00:11:00: the ten whole minutes from 00:01 on.
    expect(history).toEqual(
      Array.from({ length: 10 }, (_, i) => ({ endSeconds: startsAtMs / 1000 + 60 * (i + 2), rps: 1 })),
    );
  });

  it('plays copies at their full rate from the first moment on, in order of time', async () => {
    for (const fromSeconds of [0, 1200]) {
      const trace = await readBacktestTrace(question({ fromSeconds, durationSeconds: 600, copies: 3 }));
      // Copies that come late are there only that much later: the window waits for them.
      expect(trace.startMs).toBe(startsAtMs + 1000 * Math.max(60, fromSeconds));
      const played = await all(trace.requests());
      expect(played.every(({ atMs }, i) => i === 0 || atMs >= played[i - 1]!.atMs)).toBe(true);
      const inFirstMinute = played.filter(({ atMs }) => atMs < trace.startMs + 60_000).length;
      expect(inFirstMinute).toBeGreaterThan(150);
      expect(inFirstMinute).toBeLessThan(210);
      expect(played.every(({ atMs }) => atMs >= trace.startMs && atMs < trace.endMs)).toBe(true);
      expect(await all(trace.requests())).toEqual(played);
    }
  });

  it('differs with the seed only by chance of copies', async () => {
    const [a, b] = await Promise.all(
      [1, 2].map(async (seed) => all((await readBacktestTrace(question({ copies: 2, seed }))).requests())),
    );
    expect(a).not.toEqual(b);
    const single = await Promise.all(
      [1, 2].map(async (seed) => all((await readBacktestTrace(question({ seed }))).requests())),
    );
    expect(single[0]).toEqual(single[1]);
  });

  it.each<[string, Partial<TraceQuestion>, string]>([
    [
      'without any request',
      { open: () => streamed([]) },
      'trace.csv: found no request, expected requests from 0 s on, where the window begins',
    ],
    [
      'that ends before the window',
      { fromSeconds: 7200 },
      'trace.csv: found a trace of 3599 s, expected requests from 2 h on',
    ],
    [
      'whose first time stamp is 0 and whose others are Unix time',
      {
        open: () =>
          streamed([
            { ...steady[0]!, atMs: 0 },
            { ...steady[1]!, atMs: Date.UTC(2026, 0, 5) },
          ]),
      },
      'trace.csv: found a request 490992 h after the first one, and 0 s after it the one before, expected at most 400 days: time stamps in milliseconds, or a part of it (--duration)',
    ],
    [
      'whose requests all lie in the warm-up',
      { open: () => streamed([...steady.slice(0, 100), steady[1000]!]), durationSeconds: 900, warmUpShare: 0.5 },
      'trace.csv: found no request after the warm-up, which ends at 450 s, expected requests that count',
    ],
  ])('is refused %s', async (_, overrides, message) => {
    await expect(readBacktestTrace(question(overrides))).rejects.toThrow(message);
  });

  it('is read no further once it is called off, however fast it comes', async () => {
    const calledOff = new AbortController();
    let read = 0;
    async function* endless(): AsyncGenerator<BacktestRequest, void, void> {
      for (;;) yield { atMs: read++, inputTokens: 1, outputTokens: 1 };
    }
    setImmediate(() => calledOff.abort(new Error('called off')));
    const reading = readBacktestTrace(question({ open: endless, signal: calledOff.signal }));
    await expect(reading).rejects.toThrow('called off');
    expect(read).toBeLessThan(100_000);
  });
});
