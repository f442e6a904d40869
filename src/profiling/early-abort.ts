import { certainMissSeconds, keepsUpShare, type Slo, ttftLimitSeconds } from './attainment.js';
import type { RequestOutcome, ScheduledRequest } from './measurement.js';

/**
 * When a run need not be finished, because it cannot meet its objectives any more. A pure predicate on what is known
 * while it runs; each rule alone is enough.
 *
 * - *Too many misses*: a quarter more than 1 − p of the whole planned sample have missed. What is counted in the end is a
 *   part of the sample, which could leave some of them out, but hardly more. Under means (percentile 0) there is no such
 *   number.
 * - *Misses too unlikely*: so many of those judged have missed that, if the server met the objectives, one run in ten
 *   thousand would look like this (an exact binomial tail; misses come in bursts, so three count as one).
 * - *Growing*: over the last stay of a request, arrivals outran completions by more than a tenth of the rate, and by more
 *   than chance explains: requests in flight grow without bound.
 *
 * A request in flight for longer than every limit allows counts as a miss before it ends.
 */
export type AbortRules = {
  readonly slo: Slo;
  /** All requests of the run, by the time of their arrival. */
  readonly schedule: readonly ScheduledRequest[];
  readonly requestRate: number;
};

/** Of all runs that meet their objectives, the share that may be given up by mistake, at one look. */
const mistakenAborts = 1e-4;

/** How many more must have missed than may. */
const hopelessExcess = 1.25;
/** Requests that miss together: those that wait behind one another. */
const burst = 3;

/** Standard deviations of a Poisson count that chance is held to explain. */
const chanceDeviations = 4;

/** The sentence that ends the run, or null while there is hope. */
export function abortReason(
  rules: AbortRules,
  soFar: readonly RequestOutcome[],
  elapsedSeconds: number,
): string | null {
  return tooManyMisses(rules, soFar, elapsedSeconds) ?? growing(rules, soFar, elapsedSeconds);
}

function tooManyMisses(
  { slo, schedule }: AbortRules,
  soFar: readonly RequestOutcome[],
  elapsedSeconds: number,
): string | null {
  if (slo.percentile === 0) return null;
  const ended = soFar.filter(({ failure }) => failure !== 'cancelled');
  const late = lateInFlight({ slo, schedule, soFar, elapsedSeconds });
  const judged = ended.length + late;
  const allowed = 1 - slo.percentile / 100;
  // Each limit is judged alone, as profiles do.
  const misses = late + Math.max(0, ...missesPerLimit(ended, slo));
  if (misses === 0) return null;
  if (misses > hopelessExcess * allowed * schedule.length) {
    return `${misses} of ${schedule.length} requests missed the SLO, at most ${Math.floor(allowed * schedule.length + 1e-9)} may`;
  }
  if (binomialTail(Math.ceil(judged / burst), Math.floor(misses / burst), allowed) < mistakenAborts) {
    return `${misses} of the first ${judged} requests missed the SLO`;
  }
  return null;
}

function missesPerLimit(ended: readonly RequestOutcome[], slo: Slo): readonly number[] {
  const failed = ended.filter(({ failure }) => failure !== null).length;
  const done = ended.filter(({ failure }) => failure === null);
  const count = (
    limitOf: (outcome: RequestOutcome) => number | null,
    value: (outcome: RequestOutcome) => number | null,
  ): number => failed + done.filter((outcome) => (value(outcome) ?? 0) >= (limitOf(outcome) ?? Infinity)).length;
  return [
    count(
      (one) => ttftLimitSeconds(slo, one.wantedInputTokens),
      (one) => (one.firstTokenSeconds === null ? null : one.firstTokenSeconds - one.sentSeconds),
    ),
    count(
      () => slo.tpotSeconds,
      (one) =>
        one.firstTokenSeconds === null || one.outputTokens < 2
          ? null
          : (one.endSeconds - one.firstTokenSeconds) / (one.outputTokens - 1),
    ),
    count(
      () => slo.e2eSeconds,
      (one) => one.endSeconds - one.sentSeconds,
    ),
  ];
}

/** Requests that are still in flight and have missed a limit for certain. */
function lateInFlight(options: {
  readonly slo: Slo;
  readonly schedule: readonly ScheduledRequest[];
  readonly soFar: readonly RequestOutcome[];
  readonly elapsedSeconds: number;
}): number {
  const { slo, schedule, soFar, elapsedSeconds } = options;
  const ended = new Set(soFar.map(({ id }) => id));
  let late = 0;
  for (const request of schedule) {
    const { id, atSeconds } = request;
    if (atSeconds > elapsedSeconds) break;
    if (!ended.has(id) && elapsedSeconds - atSeconds > certainMissSeconds(slo, request)) late += 1;
  }
  return late;
}

/** Completions looked at for how long requests stay. */
const recentCompletions = 10;

function growing(
  { schedule, requestRate }: AbortRules,
  soFar: readonly RequestOutcome[],
  elapsedSeconds: number,
): string | null {
  if (soFar.length < 2 * recentCompletions) return null;
  const recent = soFar.slice(-recentCompletions);
  const stay = recent.reduce((sum, { sentSeconds, endSeconds }) => sum + endSeconds - sentSeconds, 0) / recent.length;
  const since = elapsedSeconds - stay;
  // Before the first stay has passed twice, requests in flight grow in any case.
  if (since < stay || elapsedSeconds > (schedule.at(-1)?.atSeconds ?? 0)) return null;
  const arrived = schedule.filter(({ atSeconds }) => atSeconds > since && atSeconds <= elapsedSeconds).length;
  const ended = soFar.filter(({ endSeconds }) => endSeconds > since).length;
  const excess = arrived - ended;
  const noise = chanceDeviations * Math.sqrt(arrived + ended);
  if (excess <= noise || ended >= keepsUpShare * arrived) return null;
  return (
    `requests in flight grow: over the last ${stay.toPrecision(3)} s ${arrived} arrived and ${ended} ended, ` +
    `at ${Number(requestRate.toPrecision(4))} requests/s`
  );
}

/** P(X ≥ misses) of a binomial count of `trials` with this chance each. */
export function binomialTail(trials: number, misses: number, chance: number): number {
  if (misses <= 0) return 1;
  if (misses > trials || chance <= 0) return 0;
  if (chance >= 1) return 1;
  // Summed from the term next to the boundary outwards, where terms only fall; the smaller side is summed.
  const above = misses > trials * chance;
  const first = above ? misses : misses - 1;
  let log = (trials - first) * Math.log1p(-chance);
  for (let i = 0; i < first; i++) log += Math.log((trials - i) / (i + 1)) + Math.log(chance);
  const odds = chance / (1 - chance);
  let term = Math.exp(log);
  let sum = term;
  for (let k = first; above ? k < trials : k > 0; k += above ? 1 : -1) {
    term *= above ? ((trials - k) / (k + 1)) * odds : k / (trials - k + 1) / odds;
    sum += term;
    if (term < sum * 1e-12) break;
  }
  return Math.min(1, Math.max(0, above ? sum : 1 - sum));
}
