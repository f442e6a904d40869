import { setImmediate as nextTurn } from 'node:timers/promises';
import { InputError } from '../../core/input-error.js';
import type { KnownMinute } from '../../demand/forecast.js';
import type { BacktestRequest } from '../../simulation/backtest/backtest.js';
import type { BacktestWindow } from '../../simulation/backtest/backtest-document.js';
import { type TraceFacts, traceFacts } from '../../simulation/backtest/trace-facts.js';
import { copiesOf, longestWindowSeconds, windowOf } from '../../simulation/backtest/trace-load.js';

/** Which part of a trace is played, and how often at once. */
export type TraceQuestion = {
  /** Opens the trace, from its beginning. */
  readonly open: () => AsyncIterable<BacktestRequest>;
  /** Names the trace in errors. */
  readonly source: string;
  readonly fromSeconds: number;
  readonly durationSeconds: number | null;
  readonly warmUpShare: number;
  readonly copies: number;
  readonly jitterSeconds: number;
  readonly seed: number;
  /** Simulated time of the trace's first request. */
  readonly startsAtMs: number;
  readonly signal: AbortSignal;
};

const minuteMs = 60_000;

/** Rates before the window that are handed on: as much as a service keeps. */
const keptHistoryMinutes = 14 * 24 * 60;

/** A source that never waits would leave no time for anything else, such as the call-off: after so many requests it does. */
const requestsPerTurn = 16_384;

/** The load of a backtest. It is read to know what there is, and then anew for every run: never held. */
export type BacktestTrace = {
  /** Of the window, one copy of it, at its simulated times. */
  readonly facts: TraceFacts;
  /** What a service that ran before the window knows: the rates of all copies, oldest first. */
  readonly history: readonly KnownMinute[];
  readonly startMs: number;
  readonly scoredFromMs: number;
  readonly endMs: number;
  readonly window: BacktestWindow;
  /** All copies of the window, ascending in time, from its beginning. */
  requests(): AsyncIterable<BacktestRequest>;
};

/** @throws InputError for a trace that cannot be read, and where no request lies in the window */
export async function readBacktestTrace(question: TraceQuestion): Promise<BacktestTrace> {
  const { source, durationSeconds, warmUpShare, startsAtMs, signal } = question;
  // Copies come late by up to the jitter: all of them are there only that much later.
  const fromSeconds = Math.max(question.fromSeconds, question.copies > 1 ? question.jitterSeconds : 0);
  const startMs = startsAtMs + fromSeconds * 1000;
  const before = new Map<number, number>();
  let firstMs: number | null = null;
  let lastMs = 0;
  const watched = watch(question.open(), (atMs) => {
    signal.throwIfAborted();
    firstMs ??= atMs;
    const beforeMs = lastMs;
    lastMs = atMs - firstMs;
    if (durationSeconds === null && lastMs > (fromSeconds + longestWindowSeconds) * 1000) {
      throw tooLong({ source, beforeMs, lastMs });
    }
    if (lastMs >= fromSeconds * 1000) return;
    const minute = Math.floor((startsAtMs + lastMs) / minuteMs);
    before.set(minute, (before.get(minute) ?? 0) + 1);
  });
  const facts = await traceFacts(windowOf(watched, { fromSeconds, durationSeconds, startMs }));
  if (facts.lastMs === null) {
    const found = firstMs === null ? 'no request' : `a trace of ${describeSeconds(lastMs / 1000)}`;
    const expected = `requests from ${describeSeconds(fromSeconds)} on, where the window begins`;
    throw new InputError(source, [{ place: '', found, expected }]);
  }
  // A window that is longer than the trace ends with it: nothing is known of what came after. One request beyond the
  // window was read where there is one.
  const askedMs = durationSeconds === null ? Number.POSITIVE_INFINITY : durationSeconds * 1000;
  const lengthMs = lastMs >= fromSeconds * 1000 + askedMs ? askedMs : facts.lastMs - startMs + 1;
  const endMs = startMs + lengthMs;
  const scoredFromMs = startMs + lengthMs * warmUpShare;
  const requests = () => play(question, { startMs, endMs });
  const scored = { requests: 0, inputTokens: 0, outputTokens: 0 };
  for await (const { atMs, inputTokens, outputTokens } of requests()) {
    signal.throwIfAborted();
    if (atMs < scoredFromMs) continue;
    scored.requests += 1;
    scored.inputTokens += inputTokens;
    scored.outputTokens += outputTokens;
  }
  if (scored.requests === 0) {
    const found = `no request after the warm-up, which ends at ${describeSeconds((scoredFromMs - startsAtMs) / 1000)}`;
    throw new InputError(source, [
      { place: '', found, expected: 'requests that count: another window, or less warm-up' },
    ]);
  }
  return {
    facts,
    history: historyOf(before, { ...question, fromSeconds }),
    startMs,
    scoredFromMs,
    endMs,
    window: {
      fromSeconds,
      toSeconds: (endMs - startsAtMs) / 1000,
      scoredFromSeconds: (scoredFromMs - startsAtMs) / 1000,
      ...scored,
    },
    requests,
  };
}

async function* play(
  question: TraceQuestion,
  { startMs, endMs }: { readonly startMs: number; readonly endMs: number },
): AsyncGenerator<BacktestRequest, void, void> {
  const { startsAtMs, copies, jitterSeconds, seed } = question;
  // Late copies of what came before the window fall into it.
  const earlySeconds = Math.min(copies > 1 ? jitterSeconds : 0, (startMs - startsAtMs) / 1000);
  const window = windowOf(question.open(), {
    fromSeconds: (startMs - startsAtMs) / 1000 - earlySeconds,
    durationSeconds: null,
    startMs: startMs - earlySeconds * 1000,
  });
  let read = 0;
  for await (const request of copiesOf(window, { copies, jitterSeconds, seed })) {
    if (request.atMs >= endMs) return;
    if (++read % requestsPerTurn === 0) await nextTurn();
    if (request.atMs >= startMs) yield request;
  }
}

/** Tells of every request that goes by, in the trace's own time. */
async function* watch(
  requests: AsyncIterable<BacktestRequest>,
  see: (atMs: number) => void,
): AsyncGenerator<BacktestRequest, void, void> {
  let read = 0;
  for await (const request of requests) {
    if (++read % requestsPerTurn === 0) await nextTurn();
    see(request.atMs);
    yield request;
  }
}

/** Such as a first row at 0 before others in Unix time: every minute of the years between would be simulated. */
function tooLong(trace: { readonly source: string; readonly beforeMs: number; readonly lastMs: number }): InputError {
  const [before, last] = [trace.beforeMs, trace.lastMs].map((ms) => describeSeconds(ms / 1000));
  return new InputError(trace.source, [
    {
      place: '',
      found: `a request ${last} after the first one, and ${before} after it the one before`,
      expected: `at most ${longestWindowSeconds / 86_400} days: time stamps in milliseconds, or a part of it (--duration)`,
    },
  ]);
}

/** @param before requests of one copy by minute since 1970 */
function historyOf(
  before: ReadonlyMap<number, number>,
  { fromSeconds, startsAtMs, copies }: TraceQuestion,
): readonly KnownMinute[] {
  // Minutes of the clock, as the service counts them: those that lie in the time before the window as a whole.
  const end = Math.floor((startsAtMs + fromSeconds * 1000) / minuteMs);
  const first = Math.max(Math.ceil(startsAtMs / minuteMs), end - keptHistoryMinutes);
  return Array.from({ length: Math.max(0, end - first) }, (_, index) => ({
    endSeconds: (first + index + 1) * 60,
    rps: ((before.get(first + index) ?? 0) * copies) / 60,
  }));
}

/** `90 s`, `2.5 h`. */
export function describeSeconds(seconds: number): string {
  return seconds < 7200 ? `${Number(seconds.toFixed(1))} s` : `${Number((seconds / 3600).toFixed(2))} h`;
}
