import type {
  Counts,
  FailureKind,
  Measurement,
  MeasurementPlan,
  RequestOutcome,
  SteadyState,
  TokenSource,
} from './measurement.js';
import { tokenSources } from './measurement.js';
import { summarise } from './summary.js';

/**
 * What a run says, warm-up and drain left out.
 *
 * With R the mean time a request stays (E2E) and arrivals from a to z:
 *
 * - *Warm-up* ends at the later of a + R (a server that starts empty has filled by then) and the truncation point of
 *   MSER-5 on E2E in the order of sending (White, "An effective truncation heuristic for bias reduction in simulation
 *   output", 1997): that which makes the standard error of the remaining mean smallest, looked for in the first half.
 * - *Steady state* lasts from there to z; after it the server drains. A run shorter than 3 R has none (R to fill, R to
 *   look at, R before the drain): then `steadyState` is null, everything completed counts, and throughput is completions
 *   over the whole time, an underestimate.
 * - *Throughput* is completions in the steady state by its length; where fewer arrived than left, by the bounds of
 *   saturation below, a backlog of the warm-up was worked off, which cannot last: then it is arrivals.
 * - *Latencies* are of requests sent in it, but for its last R, so that the typical one ended under full load; where
 *   those would be none, of all sent in it.
 * - *Saturated*: in the steady state more arrived than left, by over 5 % of the arrivals and over three standard
 *   deviations of a Poisson number in flight, and of its thirds each had more in flight than the one before.
 * - *Invalid*: the 99th percentile of the schedule error is over 10 ms and over a tenth of the mean gap between arrivals
 *   (at 2 requests/s, 50 ms move nothing; at 200 they make another arrival process), or the generator said so itself.
 *
 * Pure; never NaN: what was not measured is null.
 */
export function measure(outcomes: readonly RequestOutcome[], plan: MeasurementPlan): Measurement {
  const sent = [...outcomes].sort((a, b) => a.sentSeconds - b.sentSeconds);
  const completed = sent.filter(({ failure }) => failure === null);
  const steadyState = findSteadyState(sent, completed);
  const counted = steadyState === null ? completed : countedIn(completed, steadyState);
  const window = steadyState ?? wholeRun(sent, completed);
  const ended = completed.filter(
    ({ endSeconds }) =>
      steadyState === null || (endSeconds > steadyState.startSeconds && endSeconds <= steadyState.endSeconds),
  );
  const flow = steadyState === null ? null : flowIn(sent, steadyState);
  const seconds = window.endSeconds - window.startSeconds;
  // Of what a backlog gave, only the part that new arrivals would give.
  const lasting = flow?.trend === 'shrinking' ? flow.arrived / flow.left : 1;
  const perSecond = (amount: number) => (seconds > shortestSeconds ? (amount * lasting) / seconds : 0);
  const scheduleError = summarise(sent.map((outcome) => outcome.sentSeconds - outcome.scheduledSeconds));
  const late = plan.generatorStall ?? fellBehind(scheduleError?.p99 ?? 0, plan);
  const invalidBecause = plan.generatorFault ?? late ?? nothingSent(sent);
  return {
    model: plan.model,
    cell: plan.cell,
    mix: plan.mix,
    requestRate: plan.requestRate,
    arrivals: plan.arrivals,
    seed: plan.seed,
    temperature: plan.temperature,
    counts: countsOf({ sent, completed, counted, ended, arrivals: flow?.arrived ?? 0 }),
    throughputRps: perSecond(ended.length),
    outputTokensPerSecond: perSecond(total(ended, ({ outputTokens }) => outputTokens)),
    ...latenciesOf(counted),
    meanInputTokens: meanOf(counted, ({ inputTokens }) => inputTokens) ?? meanWanted(sent, 'wantedInputTokens'),
    meanOutputTokens: meanOf(counted, ({ outputTokens }) => outputTokens) ?? meanWanted(sent, 'wantedOutputTokens'),
    scheduleError,
    steadyState,
    valid: invalidBecause === null,
    invalidBecause,
    servedShare: flow === null ? null : servedShare(flow, ended.length),
    saturated: flow?.trend === 'growing',
    aborted: plan.aborted ?? null,
    seconds: sent.length === 0 ? 0 : lastEnd(sent) - sent[0]!.sentSeconds,
    usage: worstUsage(completed),
  };
}

/** What no clock tells apart [s]: rates over less would be beyond all numbers. */
const shortestSeconds = 1e-9;

/** Times a run must be longer than a request stays, to have a steady state. */
export const residencesOfSteadyRun = 3;

/** Schedule error that is never held against a run [s]: a timer and one turn of the event loop. */
const toleratedLagSeconds = 0.01;
/** Share of the mean gap between arrivals that the schedule error may have at any rate. */
const toleratedLagShare = 0.1;

function fellBehind(lagSeconds: number, plan: MeasurementPlan): string | null {
  const tolerated = Math.max(toleratedLagSeconds, toleratedLagShare / plan.requestRate);
  if (!(lagSeconds > tolerated)) return null;
  return `the generator fell behind its schedule: 1 % of the requests were sent over ${milliseconds(lagSeconds)} late (tolerated: ${milliseconds(tolerated)})`;
}

function milliseconds(seconds: number): string {
  return `${Number((seconds * 1000).toPrecision(3))} ms`;
}

function nothingSent(sent: readonly RequestOutcome[]): string | null {
  return sent.length === 0 ? 'no request was sent' : null;
}

/** null where the run was too short for a steady state, or nothing completed. */
function findSteadyState(sent: readonly RequestOutcome[], completed: readonly RequestOutcome[]): SteadyState | null {
  const residence = meanOf(completed, e2eOf);
  if (residence === null) return null;
  const first = sent[0]!.sentSeconds;
  const last = sent.at(-1)!.sentSeconds;
  if (!(last - first >= residencesOfSteadyRun * residence) || last === first) return null;
  const truncated = completed[warmUpLength(completed.map(e2eOf))]!.sentSeconds;
  const startSeconds = Math.max(first + residence, truncated);
  return last - startSeconds > shortestSeconds ? { startSeconds, endSeconds: last } : null;
}

function wholeRun(sent: readonly RequestOutcome[], completed: readonly RequestOutcome[]): SteadyState {
  if (completed.length === 0) return { startSeconds: 0, endSeconds: 0 };
  return { startSeconds: sent[0]!.sentSeconds, endSeconds: lastEnd(completed) };
}

function countedIn(completed: readonly RequestOutcome[], window: SteadyState): readonly RequestOutcome[] {
  const sentBetween = (from: number, to: number) =>
    completed.filter(({ sentSeconds }) => sentSeconds >= from && sentSeconds <= to);
  const residence = meanOf(completed, e2eOf) ?? 0;
  const beforeDrain = sentBetween(window.startSeconds, window.endSeconds - residence);
  return beforeDrain.length > 0 ? beforeDrain : sentBetween(window.startSeconds, window.endSeconds);
}

/** Batches of this many, as MSER-5 is named after. */
const mserBatch = 5;

/**
 * MSER-5: how many leading samples to drop, a multiple of 5, at most half of all.
 *
 * Batch means z_1 … z_n; of all d the one with the least sum over i > d of (z_i − mean)² / (n − d)².
 */
export function warmUpLength(samples: readonly number[]): number {
  const batches = Math.floor(samples.length / mserBatch);
  const means = Array.from({ length: batches }, (_, i) => {
    let sum = 0;
    for (let j = i * mserBatch; j < (i + 1) * mserBatch; j++) sum += samples[j]!;
    return sum / mserBatch;
  });
  // From the end, so that each d adds one batch (Welford's update, which does not cancel).
  let best = Number.POSITIVE_INFINITY;
  let bestAt = 0;
  let mean = 0;
  let squares = 0;
  for (let d = batches - 1; d >= 0; d--) {
    const size = batches - d;
    const off = means[d]! - mean;
    mean += off / size;
    squares += off * (means[d]! - mean);
    if (d > batches / 2) continue;
    const error = squares / size ** 2;
    // Of equals the earliest: nothing is dropped without gain.
    if (error <= best) {
      best = error;
      bestAt = d;
    }
  }
  return bestAt * mserBatch;
}

type Flow = {
  readonly arrived: number;
  readonly left: number;
  /** Requests in flight in the first or the last third of it, whichever are fewer. */
  readonly leastInFlight: number;
  /** Of requests in flight, where it is more than chance. */
  readonly trend: 'growing' | 'shrinking' | null;
};

function flowIn(sent: readonly RequestOutcome[], { startSeconds, endSeconds }: SteadyState): Flow {
  const isWithin = (seconds: number) => seconds > startSeconds && seconds <= endSeconds;
  const arrived = sent.filter(({ sentSeconds }) => isWithin(sentSeconds)).length;
  const left = sent.filter((outcome) => isWithin(outcome.endSeconds)).length;
  const length = endSeconds - startSeconds;
  const [first, second, third] = [0, 1, 2].map((i) =>
    meanInFlight(sent, startSeconds + (i * length) / 3, startSeconds + ((i + 1) * length) / 3),
  ) as [number, number, number];
  const chance = Math.max(0.05 * arrived, 3 * Math.sqrt(Math.max(1, second)));
  const counts = { arrived, left, leastInFlight: Math.min(first, third) };
  if (arrived - left > chance && first < second && second < third) return { ...counts, trend: 'growing' };
  if (left - arrived > chance) return { ...counts, trend: 'shrinking' };
  return { ...counts, trend: null };
}

/** See `Measurement.servedShare`. */
function servedShare({ arrived, left, leastInFlight, trend }: Flow, completed: number): number | null {
  if (arrived === 0) return null;
  // The numbers in flight at either end of the window are each off by their root: one deviation of their difference.
  const chance = trend === 'growing' ? 0 : Math.sqrt(2 * leastInFlight);
  const unfinished = Math.max(0, arrived - left);
  return Math.min(1, (completed + Math.min(unfinished, chance)) / arrived);
}

function meanInFlight(sent: readonly RequestOutcome[], from: number, to: number): number {
  const inside = total(sent, ({ sentSeconds, endSeconds }) =>
    Math.max(0, Math.min(endSeconds, to) - Math.max(sentSeconds, from)),
  );
  return inside / (to - from);
}

function latenciesOf(counted: readonly RequestOutcome[]): Pick<Measurement, 'ttft' | 'tpot' | 'itl' | 'e2e'> {
  const ttft: number[] = [];
  const tpot: number[] = [];
  let gaps = 0;
  for (const { firstTokenSeconds, sentSeconds, endSeconds, outputTokens, tokenGapsSeconds } of counted) {
    if (firstTokenSeconds === null) continue;
    ttft.push(firstTokenSeconds - sentSeconds);
    if (outputTokens > 1) tpot.push((endSeconds - firstTokenSeconds) / (outputTokens - 1));
    gaps += tokenGapsSeconds.length;
  }
  const itl = new Float64Array(gaps);
  let at = 0;
  for (const { firstTokenSeconds, tokenGapsSeconds } of counted) {
    if (firstTokenSeconds === null) continue;
    for (let i = 0; i < tokenGapsSeconds.length; i++) itl[at++] = tokenGapsSeconds[i]!;
  }
  return { ttft: summarise(ttft), tpot: summarise(tpot), itl: summarise(itl), e2e: summarise(counted.map(e2eOf)) };
}

function countsOf(groups: {
  readonly sent: readonly RequestOutcome[];
  readonly completed: readonly RequestOutcome[];
  readonly counted: readonly RequestOutcome[];
  readonly ended: readonly RequestOutcome[];
  readonly arrivals: number;
}): Counts {
  const failed: Partial<Record<FailureKind, number>> = {};
  for (const { failure } of groups.sent) {
    if (failure !== null) failed[failure] = (failed[failure] ?? 0) + 1;
  }
  return {
    sent: groups.sent.length,
    completed: groups.completed.length,
    counted: groups.counted.length,
    countedCompletions: groups.ended.length,
    countedArrivals: groups.arrivals,
    failed,
    shortened: groups.completed.filter(({ outputTokens, wantedOutputTokens }) => outputTokens < wantedOutputTokens)
      .length,
  };
}

function worstUsage(completed: readonly RequestOutcome[]): TokenSource {
  const worst = completed.reduce((worst, { usage }) => Math.max(worst, tokenSources.indexOf(usage)), -1);
  return worst < 0 ? 'requested' : tokenSources[worst]!;
}

function e2eOf({ sentSeconds, endSeconds }: RequestOutcome): number {
  return endSeconds - sentSeconds;
}

function lastEnd(outcomes: readonly RequestOutcome[]): number {
  return outcomes.reduce((last, { endSeconds }) => Math.max(last, endSeconds), 0);
}

function total<Item>(items: readonly Item[], amount: (item: Item) => number): number {
  return items.reduce((sum, item) => sum + amount(item), 0);
}

function meanOf<Item>(items: readonly Item[], amount: (item: Item) => number): number | null {
  return items.length === 0 ? null : total(items, amount) / items.length;
}

function meanWanted(sent: readonly RequestOutcome[], key: 'wantedInputTokens' | 'wantedOutputTokens'): number {
  return meanOf(sent, (outcome) => outcome[key]) ?? 0;
}
