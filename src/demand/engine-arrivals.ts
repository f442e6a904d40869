/**
 * How many requests arrived, from what inference engines count: requests that ended, and requests that are in them.
 *
 * In each interval, of each engine: arrivals = Δ ended + Δ (waiting + running). The readings are the last of each
 * interval, so consecutive intervals share them: nothing is extrapolated, and a request counts once, in the interval
 * whose readings saw it first. Worked: 7 ended and 3 in the engine, then 12 ended and 1 in it: 5 − 2 = 3 arrived.
 *
 * - *Aborted requests.* vLLM's V1 engine counts a request that its client abandons nowhere: it leaves the engine without
 *   having ended, and the sum above takes its arrival back. Those that had produced a token are counted by the histogram of
 *   times to first token, hence also: arrivals = Δ first tokens + Δ waiting. Of the two sums over the engines of a model the
 *   larger one counts; each misses some requests, neither counts one twice (they differ by those inside their prefill).
 * - *No part is negative*: nothing un-arrives, so an engine whose sum is negative had at least no arrivals.
 * - *Restart.* A counter that fell began at zero again: what it holds now is what came since, and the most that it held
 *   in the interval is what it had before. Requests that the restart dropped were counted when they arrived; those that came
 *   after the last scrape before it are lost.
 * - *New engines.* Their first reading holds all that they ever did, and whether that was long ago is not known: it counts,
 *   up to what the busiest of the model's other engines got in the interval. With no other engine it only begins a count.
 * - *Gaps.* The increase over intervals without a reading is exact; it is spread evenly over them.
 * - *Unread engines* are there and cannot be read now: they count as the mean of those that were. One that is gone
 *   (no target any more) counts as nothing: what it was sent since its last reading is lost.
 *
 * An interval is known only if readings were taken in it from at least half of the engines that were there, and from at
 * least half as many as the cluster has ready replicas: engines that its scraper lost from its list (service discovery,
 * relabelling) look like engines that are gone, and are not. One in which nothing was read is unknown, never zero; one whose
 * engines were read and were silent is known and zero.
 */

/** What one engine said last in an interval. Numbers are >= 0 and finite. */
export type EngineReading = {
  /** Requests that ended since the engine started, however they did. */
  readonly ended: number;
  /** The most that `ended` was in the interval: more than `ended` where the engine started again; null = not told. */
  readonly mostEnded: number | null;
  /** Requests that produced their first token since then; null = not told. */
  readonly firstTokens: number | null;
  readonly waiting: number;
  readonly running: number;
};

/** One engine in consecutive intervals, oldest first. */
export type EngineCourse = {
  /** Null = it was not read in that interval. */
  readonly readings: readonly (EngineReading | null)[];
  /** Whether it was there at the end of that interval, read or not, as its scraper lists it. */
  readonly listed: readonly boolean[];
};

/** What happened to one model in one interval; null = unknown. */
export type EngineInterval = {
  /** Whole requests. */
  readonly arrivals: number;
  /** Requests in the engines at the end. */
  readonly pending: number;
} | null;

/** Engines that are there, and replicas that are ready, must be read in at least this share for an interval to be known. */
const leastReadShare = 0.5;

/**
 * The arrivals of one model in each interval.
 *
 * @param courses its engines, all over the same intervals
 * @param readyReplicas as the cluster says, each with an engine at least; null = nobody tells
 * @returns one entry for each interval; the first is always unknown, since nothing lies before it
 */
export function arrivalsOfEngines(
  courses: readonly EngineCourse[],
  readyReplicas: number | null = null,
): readonly EngineInterval[] {
  const length = courses[0]?.readings.length ?? 0;
  const tallies = Array.from({ length }, newTally);
  for (const course of courses) countCourse(course, tallies);
  return tallies.map((tally) => concludeTally(tally, readyReplicas ?? 0));
}

/** Whether engines that were read are too few to speak for all that are ready. */
export function areTooFewRead(read: number, readyReplicas: number | null): boolean {
  return read < leastReadShare * (readyReplicas ?? 0);
}

type Tally = {
  /** Sums over the engines whose increase is known: by requests that ended, and by first tokens. */
  byEnds: number;
  byFirstTokens: number;
  /** Most of one engine. */
  most: number;
  /** Engines read in this interval with a reading before it. */
  read: number;
  /** Engines not read in it, but before and after it. */
  bridged: number;
  /** Engines that are there and were not read since. */
  unread: number;
  /** First readings of engines: all that they ever did, by both sums. */
  readonly firsts: { readonly byEnds: number; readonly byFirstTokens: number }[];
  pending: number;
};

function newTally(): Tally {
  return { byEnds: 0, byFirstTokens: 0, most: 0, read: 0, bridged: 0, unread: 0, firsts: [], pending: 0 };
}

function countCourse({ readings, listed }: EngineCourse, tallies: readonly Tally[]): void {
  let before: { readonly index: number; readonly reading: EngineReading } | null = null;
  for (const [index, reading] of readings.entries()) {
    if (reading === null) continue;
    const tally = tallies[index]!;
    tally.pending += inside(reading);
    if (before === null) {
      // The engines of the first interval are a beginning, not new ones.
      if (index > 0) tally.firsts.push(sinceStart(reading));
    } else {
      const span = index - before.index;
      const increase = increaseOf(before.reading, reading);
      for (let step = 0; step < span; step += 1) {
        const within = tallies[before.index + 1 + step]!;
        const byEnds = evenPart(increase.byEnds, { step, span });
        within.byEnds += byEnds;
        within.byFirstTokens += evenPart(increase.byFirstTokens, { step, span });
        within.most = Math.max(within.most, byEnds);
        if (step === span - 1) within.read += 1;
        else {
          within.bridged += 1;
          within.pending += inside(before.reading);
        }
      }
    }
    before = { index, reading };
  }
  if (before === null) return;
  for (let index = before.index + 1; index < readings.length && listed[index]; index += 1) {
    tallies[index]!.unread += 1;
    tallies[index]!.pending += inside(before.reading);
  }
}

function concludeTally(tally: Tally, readyReplicas: number): EngineInterval {
  const { read, bridged, unread } = tally;
  const counted = read + bridged;
  if (read === 0 || read < leastReadShare * (counted + unread)) return null;
  if (areTooFewRead(read + tally.firsts.length, readyReplicas)) return null;
  let { byEnds, byFirstTokens } = tally;
  for (const first of tally.firsts) {
    byEnds += Math.min(first.byEnds, tally.most);
    byFirstTokens += Math.min(first.byFirstTokens, tally.most);
  }
  const engines = counted + tally.firsts.length;
  const arrivals = Math.max(byEnds, byFirstTokens) * ((engines + unread) / engines);
  return { arrivals: Math.round(arrivals), pending: Math.round(tally.pending) };
}

function inside({ waiting, running }: EngineReading): number {
  return waiting + running;
}

function increaseOf(before: EngineReading, now: EngineReading): { byEnds: number; byFirstTokens: number } {
  const isFirstTokens = before.firstTokens !== null && now.firstTokens !== null;
  const hasRestarted = now.ended < before.ended || (isFirstTokens && now.firstTokens < before.firstTokens);
  if (hasRestarted) {
    const { byEnds, byFirstTokens } = sinceStart(now);
    // As many requests as before are thought to have been in it then: what it was sent had ended.
    const endedBefore = Math.max(0, (now.mostEnded ?? before.ended) - before.ended);
    return { byEnds: byEnds + endedBefore, byFirstTokens: byFirstTokens + endedBefore };
  }
  const byEnds = Math.max(0, now.ended - before.ended + inside(now) - inside(before));
  const byFirstTokens = isFirstTokens
    ? Math.max(0, now.firstTokens - before.firstTokens + now.waiting - before.waiting)
    : byEnds;
  return { byEnds, byFirstTokens };
}

function sinceStart(reading: EngineReading): { byEnds: number; byFirstTokens: number } {
  const byEnds = reading.ended + inside(reading);
  return { byEnds, byFirstTokens: reading.firstTokens === null ? byEnds : reading.firstTokens + reading.waiting };
}

/** One of `span` equal parts of a whole number, themselves whole, whose sum it is. */
function evenPart(total: number, { step, span }: { readonly step: number; readonly span: number }): number {
  return Math.floor((total * (step + 1)) / span) - Math.floor((total * step) / span);
}
