import type { DemandHistory } from './window.js';

/**
 * Requests in flight that nothing explains: the first sign that answers became longer, and what a queue leaves behind.
 *
 * Lengths are known of requests that completed, and a plan is made for what arrives. Answers that become longer are missing
 * from both until they end; a queue that has formed is in neither, so that a plan for what arrives never takes it away.
 * Requests in flight tell of both at once. By Little's law rate × latency of them explain themselves: as many as arrived
 * within the mean latency that the profiles tell of the completed lengths. What is in flight beyond that, the *surplus*, has
 * to be served besides what arrives, and it grows by what arrives and is not served. So a plan for
 *
 *   forecast + growth of the surplus + surplus / horizon     [requests/s]
 *
 * serves both by the time its replicas have been there for as long as they took to come.
 *
 * Worked line: 10 requests/s with a latency of 40 s explain 400 in flight. Answers become twice as long: two minutes later 900
 * are in flight, and 250 more than a minute ago. At a horizon of 250 s that is 10 + 4.2 + 2 requests/s.
 *
 * What keeps it from seeing things:
 *
 * - *Conservation.* Of what a gateway says to be pending, as many count as arrived and did not complete since the last look:
 *   a counter that is not taken back when requests end makes no requests. Where the two disagree the smaller one holds.
 * - *What is usual here.* Profiles tell a latency at one load, and engines are as fast as they are. How many times as many as
 *   explained there are usually is learnt over an hour, never taken for less than once, and allowed for. It is a lower
 *   quartile: a quarter of an hour without a surplus is remembered through one of three quarters, and beyond that what
 *   lasts is usual. So nothing is added for longer.
 * - *Chance.* A tenth, and three standard deviations of a Poisson count, are no surplus.
 * - *A bound.* At most as much as the forecast is added: a plan is doubled at most.
 *
 * It only ever adds. Where latencies, intervals or a quarter of an hour of experience are missing it says nothing.
 */
export type InFlightSurplus = {
  /** In flight beyond what explains itself; >= 0. */
  readonly requests: number;
  /** What the plan is made for beside the forecast [requests/s]; >= 0. */
  readonly addedRps: number;
};

/** What is usual is learnt over this time [s] … */
const usualSeconds = 3600;

/** … and known after this one: less may lie within one queue. */
const leastUsualSeconds = 900;

/** Of the ratios that were seen, in order: so much lies below the usual one. */
const usualQuantile = 0.25;

/** Looks that are remembered lie so far apart [s]; the surplus grows between two of them. */
const sampleSeconds = 60;

/** Beyond what explains itself and below a surplus: means of latencies are known to about a tenth. */
const allowance = 1.1;

/** Standard deviations of a count that are chance: one look in a thousand is beyond, of a Poisson count. */
const chanceDeviations = 3;

/** Of the forecast, the most that is added. */
const largestShare = 1;

/** One look. */
type Sample = {
  readonly atMs: number;
  /** In flight, in multiples of what arrived within the latency. */
  readonly ratio: number;
  readonly surplus: number;
};

/** What is in flight of one model. A cycle is: `follow` the window, `surplus`. Memory is bounded: an hour of minutes. */
export class RequestsInFlight {
  /** As many as are taken to be in flight, and when the gateway counted them. */
  #inFlight: { readonly count: number; readonly atSeconds: number } | null = null;
  #samples: readonly Sample[] = [];

  /** Takes the window as it is known now. */
  follow(history: Pick<DemandHistory, 'intervals' | 'pending' | 'pendingAtSeconds'>): void {
    const { pending, pendingAtSeconds: atSeconds } = history;
    if (atSeconds === null) {
      this.#inFlight = null;
      return;
    }
    const before = this.#inFlight;
    if (before?.atSeconds === atSeconds) return;
    const change = before === null ? null : changeBetween(history, before.atSeconds, atSeconds);
    const conserved = change === null ? pending : Math.max(0, before!.count + change);
    this.#inFlight = { count: Math.min(pending, conserved), atSeconds };
  }

  /**
   * What is in flight beyond what explains itself, and what that adds to a plan.
   *
   * @param options.latencySeconds mean of the requests that completed lately, as their replicas' profiles tell; null = not told
   * @returns null where too little is known to say
   */
  surplus(
    { intervals }: Pick<DemandHistory, 'intervals'>,
    options: {
      readonly nowMs: number;
      readonly latencySeconds: number | null;
      readonly forecastRps: number;
      /** From a plan until its replicas serve [s], > 0. */
      readonly horizonSeconds: number;
    },
  ): InFlightSurplus | null {
    const { nowMs, latencySeconds, forecastRps, horizonSeconds } = options;
    // A clock that was set back names the same moments again.
    this.#samples = this.#samples.filter(({ atMs }) => atMs <= nowMs && atMs > nowMs - usualSeconds * 1000);
    if (this.#inFlight === null || latencySeconds === null) return null;
    const { count, atSeconds } = this.#inFlight;
    const arrived = arrivedWithin(intervals, atSeconds, latencySeconds);
    if (arrived === null) return null;
    const usual = this.#usualRatio(nowMs);
    const explained = usual === null ? null : arrivedWithin(intervals, atSeconds, usual * latencySeconds);
    const requests = explained === null ? 0 : surplusOf(count, explained);
    const growthRps = Math.max(0, this.#growth(requests, nowMs));
    const last = this.#samples.at(-1);
    if (arrived > 0 && (last === undefined || nowMs - last.atMs >= sampleSeconds * 1000)) {
      this.#samples = [...this.#samples, { atMs: nowMs, ratio: count / arrived, surplus: requests }];
    }
    if (explained === null) return null;
    const wanted = requests > 0 ? growthRps + requests / horizonSeconds : 0;
    return { requests, addedRps: Math.min(wanted, largestShare * forecastRps) };
  }

  /** How many times as many as explained are in flight here, as far as that is known; >= 1. */
  #usualRatio(nowMs: number): number | null {
    const [oldest] = this.#samples;
    if (oldest === undefined || nowMs - oldest.atMs < leastUsualSeconds * 1000) return null;
    const ratios = this.#samples.map(({ ratio }) => ratio).sort((a, b) => a - b);
    return Math.max(1, ratios[Math.floor(usualQuantile * (ratios.length - 1))]!);
  }

  /** How fast the surplus grew since the newest look that is old enough [requests/s]. */
  #growth(requests: number, nowMs: number): number {
    const before = this.#samples.findLast(({ atMs }) => nowMs - atMs >= sampleSeconds * 1000);
    return before === undefined ? 0 : (1000 * (requests - before.surplus)) / (nowMs - before.atMs);
  }
}

function surplusOf(inFlight: number, explained: number): number {
  return Math.max(0, inFlight - allowance * explained - chanceDeviations * Math.sqrt(Math.max(1, explained)));
}

/** Arrivals less completions between the ends of two intervals; null where not all of them are known. */
function changeBetween(
  { intervals }: Pick<DemandHistory, 'intervals'>,
  fromSeconds: number,
  toSeconds: number,
): number | null {
  const intervalSeconds = spacing(intervals);
  if (intervalSeconds === null || toSeconds < fromSeconds) return null;
  let change = 0;
  let known = 0;
  for (const interval of intervals) {
    if (interval.endSeconds <= fromSeconds || interval.endSeconds > toSeconds) continue;
    if (interval.state !== 'known') return null;
    change += interval.arrivals - interval.completions;
    known += 1;
  }
  return known === Math.round((toSeconds - fromSeconds) / intervalSeconds) ? change : null;
}

/**
 * Requests that arrived in the last so many seconds before a moment, by the mean rate of what is known of them; of a time
 * before the window, by that of the window. Null where nothing is.
 */
function arrivedWithin(intervals: DemandHistory['intervals'], untilSeconds: number, seconds: number): number | null {
  const intervalSeconds = spacing(intervals);
  if (intervalSeconds === null) return null;
  const sinceSeconds = untilSeconds - seconds;
  let arrivals = 0;
  let knownSeconds = 0;
  for (const interval of intervals) {
    if (interval.state !== 'known') continue;
    const begin = Math.max(sinceSeconds, interval.endSeconds - intervalSeconds);
    const within = Math.min(untilSeconds, interval.endSeconds) - begin;
    if (within <= 0) continue;
    arrivals += interval.rps * within;
    knownSeconds += within;
  }
  return knownSeconds > 0 ? (arrivals / knownSeconds) * seconds : null;
}

/** Length of the intervals [s]; null where there are not two of them. */
function spacing(intervals: DemandHistory['intervals']): number | null {
  return intervals.length < 2 ? null : intervals[1]!.endSeconds - intervals[0]!.endSeconds;
}
