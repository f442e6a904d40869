import { LatencyHistogram } from '../simulation/backtest/latency-histogram.js';
import { type Answered, attains } from '../simulation/backtest/run-tally.js';
import type { SloConfig } from './config.js';
import type { SimulatedServiceView } from './view.js';

/**
 * What became of the requests of the last while: which share met the objective, and how long first tokens took. A request
 * counts in the minute in which it ended. Memory is that of the minutes, however many requests there are.
 */

/** Long enough that a quiet night has some hundred requests in it, short enough to show an hour that went wrong. */
export const recentMinutes = 30;

const minuteMs = 60_000;

type Outcomes = { requests: number; attained: number; failed: number; unserved: number };
type Minute = Outcomes & { minute: number; readonly ttft: LatencyHistogram };

/** A request that was answered, in seconds from its arrival. */
export type RecentAnswer = Omit<Answered, 'arrivedMs'>;

export class RecentOutcomes {
  readonly #slo: SloConfig | null;
  readonly #minutes: readonly Minute[];
  readonly #all: Outcomes = noOutcomes();
  readonly #merged = new LatencyHistogram();

  /** @param slo null = there is no objective, and so no attainment; the same where it names no time at all */
  constructor(slo: SloConfig | null) {
    const limits = [slo?.ttftSeconds, slo?.tpotSeconds, slo?.e2eSeconds];
    this.#slo = limits.every((limit) => limit == null) ? null : slo;
    this.#minutes = Array.from({ length: recentMinutes }, () => ({
      minute: Number.NEGATIVE_INFINITY,
      ...noOutcomes(),
      ttft: new LatencyHistogram(),
    }));
  }

  answered(answer: RecentAnswer, endMs: number): void {
    const minute = this.#minuteOf(endMs);
    const isAttained = this.#attains(answer);
    for (const counts of [minute, this.#all]) {
      counts.requests += 1;
      if (isAttained) counts.attained += 1;
    }
    minute.ttft.add(answer.ttftSeconds);
  }

  /** Lost, refused, or never taken: it misses any objective. */
  missed(how: 'failed' | 'unserved', endMs: number): void {
    for (const counts of [this.#minuteOf(endMs), this.#all]) {
      counts.requests += 1;
      counts[how] += 1;
    }
  }

  /** The last minutes, the begun one included. */
  view(nowMs: number): SimulatedServiceView {
    const newest = Math.floor(nowMs / minuteMs);
    const recent = noOutcomes();
    this.#merged.clear();
    for (const minute of this.#minutes) {
      if (minute.minute <= newest - recentMinutes || minute.minute > newest) continue;
      for (const key of ['requests', 'attained', 'failed', 'unserved'] as const) recent[key] += minute[key];
      this.#merged.merge(minute.ttft);
    }
    const shareOf = ({ requests, attained }: Outcomes): number | null =>
      this.#slo === null || requests === 0 ? null : attained / requests;
    return {
      windowSeconds: recentMinutes * 60,
      requests: recent.requests,
      failed: recent.failed,
      unserved: recent.unserved,
      attainment: shareOf(recent),
      ttftP95Seconds: this.#merged.quantile(0.95),
      sinceStart: { requests: this.#all.requests, attainment: shareOf(this.#all) },
    };
  }

  #attains(answer: RecentAnswer): boolean {
    const slo = this.#slo;
    if (slo === null) return false;
    const objective = {
      ttftSeconds: slo.ttftSeconds ?? Number.POSITIVE_INFINITY,
      ttftSecondsPerInputToken: slo.ttftSecondsPerInputToken,
      tpotSeconds: slo.tpotSeconds ?? Number.POSITIVE_INFINITY,
    };
    return attains(objective, answer) && (slo.e2eSeconds === null || answer.e2eSeconds <= slo.e2eSeconds);
  }

  #minuteOf(endMs: number): Minute {
    const minute = Math.floor(endMs / minuteMs);
    const place = this.#minutes[minute % recentMinutes]!;
    if (place.minute < minute) {
      Object.assign(place, { minute, ...noOutcomes() });
      place.ttft.clear();
    }
    return place;
  }
}

function noOutcomes(): Outcomes {
  return { requests: 0, attained: 0, failed: 0, unserved: 0 };
}
