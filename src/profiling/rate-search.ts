import { type Attainment, type Slo, ttftLimitSeconds } from './attainment.js';
import type { Projection } from './capacity-projection.js';
import { cellPredictor, type KnownValue, type PredictedValue, type Predictor } from './cell-prediction.js';
import type { Cell, Measurement } from './measurement.js';
import { residencesOfSteadyRun } from './steady-state.js';

/**
 * The highest rate of each cell that meets the SLO, with few runs.
 *
 * A search has no state but the runs that were made: from them it says which run is the next (`nextRun`) and what is
 * known so far (`cellResults`). So it can be stopped anywhere and go on from a file, and several servers can be measured
 * at once. Pure.
 *
 * For each cell, in the order given (`coarseFirstCells`), it looks for two rates, the *highest that meets* and the *lowest
 * that does not*, until they are within the resolution of each other:
 *
 * 1. *Where to look.* Each run of the cell projects its capacity (`projectCapacity`), and the capacities of other cells
 *    predict it (`cellPredictor`), kept within what cells with more and with fewer tokens allow. Each is a normal
 *    distribution of the logarithm of the rate; they are multiplied, and where two contradict each other the less sure has
 *    no say.
 * 2. *Which rate.* The median of that distribution within the bracket, so that either outcome halves what is not known;
 *    without any knowledge that is bisection in the logarithm of the rate. Rates nearer to the bracket's end than the
 *    resolution are not asked for; where runs keep coming out alike, the bracket is halved, or steps away from its one end
 *    double. Where TPOT or E2E is within half the resolution of its limit, the rate is the answer without a miss above it.
 * 3. *How long.* The counted requests asked for, after as many as are in the server in the steady state (Little's law:
 *    rate × time of a request), and as many again. While the place is not known, a quarter of them (a draft); the rate that
 *    is the answer is measured in full.
 * 4. *How sure.* Both ends need the stated confidence; where a run leaves it open, it is repeated at twice the length,
 *    once. The last run at a rate counts, as in profiles. A rate that misses below one that meets is measured again.
 * 5. *What cannot be measured.* An invalid run (the generator fell behind) is repeated once, one too short for a steady
 *    state twice, each longer; then rates from there on are not looked at, and the result says so.
 */
export type SearchSettings = {
  /** In the order in which they are to be measured. */
  readonly cells: readonly Cell[];
  readonly slo: Slo;
  /** Lowest and highest rate that is looked at [requests/s]. */
  readonly rateStart: number;
  readonly rateLimit: number;
  /** Counted requests that a run aims at, at its first length. */
  readonly requests: number;
  /** How far apart the two rates may be: 0.05 = 5 %. */
  readonly resolution: number;
  /** Chance that a verdict is right: 0.9 = 90 %. */
  readonly confidence: number;
  /** Longest request, input + output; null = not known. Larger cells are not measured. */
  readonly maxTokens: number | null;
};

/** A run to be made. */
export type SearchRun = {
  readonly cell: Cell;
  readonly requestRate: number;
  /** To be sent, warm-up included. */
  readonly requests: number;
  /**
   * Why the outcome is no question: a cell with no more tokens cannot serve this rate either. One request is sent, so that
   * the cell has its row, and the run counts as ended early for this reason. null: a run like any other.
   */
  readonly presumed: string | null;
};

/** What is kept of a run that was made. */
export type RunRecord = SearchRun & {
  /** short: it met the SLO, and ended before it was steady; no rate is said to meet the SLO by such a run. */
  readonly verdict: 'meets' | 'misses' | 'short' | 'invalid';
  /** Why it does not count; null where it does. */
  readonly invalidBecause: string | null;
  readonly aborted: boolean;
  /** As in `Attainment`. */
  readonly evidence: number;
  readonly nearness: number | null;
  readonly nearestLimit: Attainment['nearestLimit'];
  readonly decidedBy: Attainment['decidedBy'];
  /** Where the run puts the capacity; null where it says nothing of it. */
  readonly projection: Projection | null;
  readonly sent: number;
  readonly throughputRps: number;
  /** Mean time of a request; null where none completed. */
  readonly e2eSeconds: number | null;
  readonly seconds: number;
};

/** Makes the record of a run. */
export function recordOf(
  run: SearchRun,
  results: {
    readonly measurement: Measurement;
    readonly attainment: Attainment;
    readonly projection: Projection | null;
  },
): RunRecord {
  const { measurement, attainment, projection } = results;
  const { aborted, valid, invalidBecause, counts, throughputRps, e2e, seconds, steadyState } = measurement;
  // An aborted run says that its rate is too high; whether it would have been valid otherwise is no matter. A run that
  // missed before it was steady would have missed later too; one that met may only have been too short to fill the server.
  const meets = aborted === null && attainment.meets;
  const isOpen =
    aborted === null &&
    attainment.decidedBy === 'throughput' &&
    !attainment.meets &&
    attainment.evidence > -decidedEvidence;
  const isShort = (meets && steadyState === null) || isOpen;
  const fault = aborted !== null || valid ? null : (invalidBecause ?? 'no reason stated');
  return {
    cell: run.cell,
    requestRate: run.requestRate,
    requests: run.requests,
    presumed: run.presumed,
    verdict: fault !== null ? 'invalid' : isShort ? 'short' : meets ? 'meets' : 'misses',
    invalidBecause: fault ?? (isShort ? 'the run was too short for a steady state' : null),
    aborted: aborted !== null,
    evidence: aborted === null ? attainment.evidence : Math.min(attainment.evidence, -certainty),
    nearness: attainment.nearness,
    nearestLimit: attainment.nearestLimit,
    decidedBy: attainment.decidedBy,
    projection,
    sent: counts.sent,
    throughputRps,
    e2eSeconds: e2e?.mean ?? null,
    seconds,
  };
}

/** Below, a throughput that lacks a tenth of the rate may have it in flight: the run was too short to tell. */
const decidedEvidence = 2;

/** The evidence of a run that was given up: its rules leave one mistake in ten thousand [standard deviations]. */
const certainty = 3.7;

export type CellResult = {
  readonly cell: Cell;
  /**
   * - found: between two rates within the resolution
   * - at_limit: the highest rate that is looked at meets the SLO
   * - none: the lowest rate that is looked at does not, or a request misses it that has the server to itself
   * - unfinished: runs were made, and the search ended before it knew
   * - not_measurable: no run was valid
   * - too_long: input + output exceed what the model takes
   * - not_measured: no run was made
   */
  readonly state: 'found' | 'at_limit' | 'none' | 'unfinished' | 'not_measurable' | 'too_long' | 'not_measured';
  /** Highest rate that met the SLO, and what it completed [requests/s]; null = none. */
  readonly rate: number | null;
  readonly throughputRps: number | null;
  /** Lowest rate above it that did not; null = none. */
  readonly missedRate: number | null;
  /** Chance that both verdicts are right; null where there is no verdict. */
  readonly confidence: number | null;
  readonly runs: number;
  readonly requests: number;
  /** What limits it, or why it is not known; null where nothing is to be said. */
  readonly note: string | null;
};

/** Runs of one cell, after which it is left as it is. */
const mostRuns = 14;
/** A run may be repeated at twice its length. */
const mostLengthenings = 1;
/** Invalid runs at one rate after which it is given up, and runs too short for a steady state, each longer than before. */
const mostInvalid = 2;
const mostShort = 3;

/**
 * The next run to be made; null where every cell is known as well as it can be.
 *
 * @param options.isBusy cells that another server is measuring at this moment
 * @param options.fits whether a run may still be made (a budget of time); a cell whose next run may not is left
 */
export function nextRun(
  settings: SearchSettings,
  records: readonly RunRecord[],
  options: { readonly isBusy?: (cell: Cell) => boolean; readonly fits?: (run: PlannedRun) => boolean } = {},
): PlannedRun | null {
  const { isBusy = () => false, fits = () => true } = options;
  const known = knowledgeOf(settings, records);
  for (const cell of settings.cells) {
    if (isBusy(cell)) continue;
    const run = nextOfCell(known, cell);
    if (run !== null && fits(run)) return run;
  }
  return null;
}

/** A run, and how long it will take. */
export type PlannedRun = SearchRun & { readonly expectedSeconds: number };

/** What is known of every cell, in the order of the settings. */
export function cellResults(settings: SearchSettings, records: readonly RunRecord[]): readonly CellResult[] {
  const known = knowledgeOf(settings, records);
  return settings.cells.map((cell) => resultOf(known, cell));
}

/** Runs that a cell takes on average, from none: for an estimate of the time left. */
const usualRuns = 3.5;

/** About how long the runs that are left will take one server [s]. */
export function remainingSeconds(settings: SearchSettings, records: readonly RunRecord[]): number {
  const known = knowledgeOf(settings, records);
  return settings.cells.reduce((sum, cell) => {
    const next = nextOfCell(known, cell);
    if (next === null) return sum;
    const made = known.byCell.get(keyOf(cell))?.records.length ?? 0;
    return sum + next.expectedSeconds * (next.presumed === null ? Math.max(1, usualRuns - made) : 1);
  }, 0);
}

type Knowledge = {
  readonly settings: SearchSettings;
  readonly byCell: ReadonlyMap<string, CellKnowledge>;
  /** Replica-seconds per request, from other cells. */
  readonly work: Predictor;
  readonly e2e: Predictor;
};

type CellKnowledge = {
  readonly cell: Cell;
  readonly records: readonly RunRecord[];
  /** The run that counts at each rate, by rate. */
  readonly lastAt: ReadonlyMap<number, RunRecord>;
  /** Highest that meets, lowest above it that does not, lowest that could not be measured. */
  readonly low: RunRecord | null;
  readonly high: RunRecord | null;
  /** A rate above `low` and below `high` that is as good as met: a short run was far from the limit there. */
  readonly likelyLow: RunRecord | null;
  /**
   * A whole run missed at a rate that a short one was far from missing at, or none became steady: short runs of this cell tell
   * nothing.
   */
  readonly shortRunsMislead: boolean;
  readonly invalidFrom: number | null;
};

const keyOf = ({ inputTokens, outputTokens }: Cell): string => `${inputTokens} ${outputTokens}`;

function knowledgeOf(settings: SearchSettings, records: readonly RunRecord[]): Knowledge {
  const grouped = new Map<string, RunRecord[]>();
  for (const record of records) {
    const key = keyOf(record.cell);
    const group = grouped.get(key);
    if (group === undefined) grouped.set(key, [record]);
    else group.push(record);
  }
  const byCell = new Map([...grouped].map(([key, group]) => [key, cellKnowledge(group[0]!.cell, group)]));
  const works: KnownValue[] = [];
  const bounds: KnownValue[] = [];
  const stays: KnownValue[] = [];
  for (const { cell, low, high, records: own } of byCell.values()) {
    const stay = (low ?? own.findLast(({ e2eSeconds }) => e2eSeconds !== null))?.e2eSeconds ?? null;
    if (stay !== null) stays.push({ cell, value: stay });
    if (low !== null && high !== null) works.push({ cell, value: 1 / Math.sqrt(low.requestRate * high.requestRate) });
    else if (low !== null && low.requestRate < settings.rateLimit) works.push({ cell, value: 1 / low.requestRate });
    // Cells at either end of the range have a bound, no value.
    else if (low !== null) bounds.push({ cell, value: 1 / low.requestRate });
    else if (high !== null && high.presumed === null) bounds.push({ cell, value: 1 / high.requestRate });
  }
  // Bounds are better than nothing, and worse than few values.
  if (works.length < fewWorks) works.push(...bounds);
  const workOfAll = cellPredictor(works);
  // What a cell has served so far is no hint of how much more it can: it is predicted from the others.
  const work: Predictor = (cell) => {
    const others = works.filter((one) => keyOf(one.cell) !== keyOf(cell));
    return (others.length === works.length ? workOfAll : cellPredictor(others))(cell);
  };
  return { settings, byCell, work, e2e: cellPredictor(stays) };
}

/** Fewer values say little of how work grows with tokens. */
const fewWorks = 3;

function cellKnowledge(cell: Cell, records: readonly RunRecord[]): CellKnowledge {
  const lastAt = new Map<number, RunRecord>();
  const invalid = new Map<number, number>();
  const short = new Map<number, number>();
  for (const record of records) {
    if (record.verdict === 'meets' || record.verdict === 'misses') lastAt.set(record.requestRate, record);
    else {
      const kind = record.verdict === 'short' ? short : invalid;
      kind.set(record.requestRate, (kind.get(record.requestRate) ?? 0) + 1);
    }
  }
  const counted = [...lastAt.values()].toSorted((a, b) => a.requestRate - b.requestRate);
  const low = counted.findLast(({ verdict }) => verdict === 'meets') ?? null;
  const high =
    counted.find(({ verdict, requestRate }) => verdict === 'misses' && requestRate > (low?.requestRate ?? 0)) ?? null;
  const givenUp = [
    ...[...invalid].filter(([, count]) => count >= mostInvalid),
    ...[...short].filter(([, count]) => count >= mostShort),
  ]
    .map(([rate]) => rate)
    .filter((rate) => !lastAt.has(rate));
  const isMisled =
    [...short.values()].some((count) => count >= mostShort) ||
    records.some((draft) => isTelling(draft) && high !== null && high.requestRate <= draft.requestRate * roundingSlack);
  return {
    cell,
    records,
    lastAt,
    low,
    high,
    shortRunsMislead: isMisled,
    likelyLow:
      records
        .filter(
          (record) =>
            !isMisled &&
            isTelling(record) &&
            // A second short run at a rate tells that longer ones are short as well.
            short.get(record.requestRate) === 1 &&
            record.requestRate > (low?.requestRate ?? 0) &&
            record.requestRate < (high?.requestRate ?? Number.POSITIVE_INFINITY),
        )
        .toSorted((a, b) => b.requestRate - a.requestRate)[0] ?? null,
    invalidFrom: givenUp.length === 0 ? null : Math.min(...givenUp),
  };
}

const nothingKnown = (cell: Cell): CellKnowledge => ({
  cell,
  records: [],
  lastAt: new Map(),
  low: null,
  high: null,
  shortRunsMislead: false,
  likelyLow: null,
  invalidFrom: null,
});

/** A short run in which the server filled, and stayed far from the limit: not the last word, but a place to go on from. */
function isTelling({ verdict, nearness, requests, requestRate, e2eSeconds }: RunRecord): boolean {
  if (verdict !== 'short' || nearness === null || e2eSeconds === null) return false;
  return nearness < 0.9 && requests >= filledResidences * requestRate * e2eSeconds;
}

/** So many times the requests that are in a full server have filled it, and shown how it fares. */
const filledResidences = 1.5;

function isTooLong({ maxTokens }: SearchSettings, { inputTokens, outputTokens }: Cell): boolean {
  return maxTokens !== null && inputTokens + outputTokens > maxTokens;
}

function nextOfCell(known: Knowledge, cell: Cell): PlannedRun | null {
  const { settings } = known;
  if (isTooLong(settings, cell)) return null;
  const own = known.byCell.get(keyOf(cell)) ?? nothingKnown(cell);
  if (own.records.length >= mostRuns) return null;
  const repeated = invalidToRepeat(own) ?? conflictToRepeat(settings, own);
  if (repeated !== null) return planned(known, own, repeated);
  if (isClosed(settings, own)) {
    const undecided = undecidedToRepeat(settings, own);
    return undecided === null ? null : planned(known, own, undecided);
  }
  const smaller = presumedNone(known, own);
  if (smaller !== null) return presumedRun(known, own, smaller);
  const requestRate = nextRate(known, own);
  if (requestRate === null) return null;
  return planned(known, own, { requestRate, length: requestRate === own.likelyLow?.requestRate ? 1 : null });
}

/** `length`: how many times the usual length; null = as long as what is known so far is worth. */
type Wanted = { readonly requestRate: number; readonly length: number | null };

/** The last run was invalid, and its rate has not been given up. */
function invalidToRepeat({ records, likelyLow }: CellKnowledge): Wanted | null {
  const last = records.at(-1);
  if (last === undefined || last.verdict === 'meets' || last.verdict === 'misses' || last === likelyLow) return null;
  const same = records.filter(
    (record) => record.verdict === last.verdict && record.requestRate === last.requestRate,
  ).length;
  if (same >= (last.verdict === 'short' ? mostShort : mostInvalid)) return null;
  // Not at once in full: that a run was short says how long requests take, from which the next length follows.
  return { requestRate: last.requestRate, length: last.verdict === 'short' ? same : 2 };
}

/** A rate that misses lies below one that meets: chance made one of the two. The one with less evidence is repeated. */
function conflictToRepeat(settings: SearchSettings, own: CellKnowledge): Wanted | null {
  const { low, lastAt } = own;
  if (low === null) return null;
  const below = [...lastAt.values()].filter(
    ({ verdict, requestRate }) => verdict === 'misses' && requestRate < low.requestRate,
  );
  const candidates = [low, ...below].toSorted((a, b) => Math.abs(a.evidence) - Math.abs(b.evidence));
  return below.length === 0 ? null : lengthened(settings, own, candidates[0]!);
}

/** An end of the bracket without the confidence that is asked for, the weaker one first. */
function undecidedToRepeat(settings: SearchSettings, own: CellKnowledge): Wanted | null {
  const { confidence } = settings;
  // The rate that is given as the answer is measured in full.
  if (own.low !== null && isDraft(settings, own.low)) return { requestRate: own.low.requestRate, length: 1 };
  const ends = [own.low, own.high]
    .filter((record) => record !== null)
    .toSorted((a, b) => Math.abs(a.evidence) - Math.abs(b.evidence));
  for (const record of ends) {
    if (confidenceOf(record) >= confidence) continue;
    const wanted = lengthened(settings, own, record);
    if (wanted !== null) return wanted;
  }
  return null;
}

/** A run that was made short on purpose, to find the place. */
function isDraft({ requests }: SearchSettings, record: RunRecord): boolean {
  return record.requests < requests;
}

function lengthened(settings: SearchSettings, own: CellKnowledge, { requestRate }: RunRecord): Wanted | null {
  const made = own.records.filter(
    (one) =>
      one.requestRate === requestRate &&
      !isDraft(settings, one) &&
      (one.verdict === 'meets' || one.verdict === 'misses'),
  ).length;
  return made > mostLengthenings ? null : { requestRate, length: 2 ** made };
}

/** Chance that a verdict is right. */
function confidenceOf({ evidence }: RunRecord): number {
  return normalCdf(Math.abs(evidence));
}

/** Two rates this close are one: rates are rounded. */
const roundingSlack = 1.002;

/** Is there nothing left to ask between the two ends? */
function isClosed(settings: SearchSettings, own: CellKnowledge): boolean {
  const { low, high, invalidFrom } = own;
  const { rateStart, rateLimit, resolution } = settings;
  const top = Math.min(high?.requestRate ?? Number.POSITIVE_INFINITY, invalidFrom ?? Number.POSITIVE_INFINITY);
  if (low === null) return top <= rateStart * roundingSlack || missesAlone(high);
  if (low.requestRate >= rateLimit || top <= low.requestRate * (1 + resolution) * roundingSlack) return true;
  return isAtLimit(low, resolution);
}

/**
 * Is a rate that meets the SLO so near the limit that the capacity is within the resolution of it? So it is where TPOT or
 * E2E has come to it: among many sequences they rise with the rate at least half as fast as it. (TTFT does not: it stays
 * low until the queue begins.)
 */
function isAtLimit(record: RunRecord, resolution: number): boolean {
  const { nearness, nearestLimit, requestRate, e2eSeconds } = record;
  if (nearness === null || nearestLimit === null || nearestLimit === 'ttft') return false;
  return nearness >= 1 - resolution / 2 && requestRate * (e2eSeconds ?? 0) >= manySequences;
}

/** Fewer requests at once, and latencies jump with each. */
const manySequences = 32;

/** Share of the time in which a request had company, below which a run shows how requests fare alone. */
const nearlyAlone = 0.25;

/** Did requests miss the SLO although each had the server to itself? Then no rate meets it. */
function missesAlone(high: RunRecord | null): boolean {
  if (high === null || high.e2eSeconds === null || high.aborted) return false;
  return high.requestRate * high.e2eSeconds <= nearlyAlone && confidenceOf(high) >= 0.99;
}

/**
 * Does a run that missed leave it open whether lower rates meet the SLO? It does not where it is at the lowest rate that is looked at,
 * where its requests had the server to themselves, and where a smaller cell said so.
 */
export function leavesLowerRatesOpen({ rateStart }: SearchSettings, record: RunRecord): boolean {
  if (record.verdict !== 'misses' || record.presumed !== null) return false;
  return record.requestRate > rateStart * roundingSlack && !missesAlone(record);
}

/** A normal distribution of the natural logarithm of the capacity [requests/s]. */
type Belief = { readonly mean: number; readonly deviation: number };

/** The rate to look at next; null where none is left between the ends. */
function nextRate(known: Knowledge, own: CellKnowledge): number | null {
  const { settings } = known;
  const { rateStart, rateLimit, resolution } = settings;
  const step = Math.log(1 + resolution);
  const floor = Math.log(rateStart);
  const top = Math.log(rateLimit);
  const lowest = own.likelyLow ?? own.low;
  const low = lowest === null ? null : Math.log(lowest.requestRate);
  // Rates that cannot be measured are as good as rates that miss: nothing from there on is looked at.
  const highest = Math.min(
    own.high?.requestRate ?? Number.POSITIVE_INFINITY,
    own.invalidFrom ?? Number.POSITIVE_INFINITY,
  );
  const high = highest === Number.POSITIVE_INFINITY ? null : Math.log(highest);
  // What a short run made likely is settled by a whole one.
  if (own.likelyLow !== null && (high ?? top) - low! <= step + Math.log(roundingSlack))
    return own.likelyLow.requestRate;
  const belief = beliefOf(known, own);
  const isGuess = belief.deviation > wideBelief;
  if (own.records.length === 0 && reachesLimit(known, own.cell)) return rateLimit;
  // The capacity may lie beyond either end of the range: that much beyond is looked at as part of it.
  const from = low ?? floor - 2 * step;
  const to = high ?? Math.min(top, Math.log(rateLimit)) + 2 * step;
  // Where the last two runs moved the same end of a bracket, the belief is off: halve it.
  const isStuck = low !== null && high !== null && sameVerdicts(own) >= 2;
  let rate = isStuck ? (from + to) / 2 : truncatedMedian(belief, from, to);
  if (low === null && isGuess) {
    // A run above the capacity is over in seconds, one far below it takes minutes: a guess comes down from above.
    const seconds = Math.log(settings.requests / firstRunSeconds);
    rate = Math.max(rate, high === null ? seconds : high - Math.log(descent));
  }
  // With a rate that meets the SLO, one far above the capacity costs the more requests: they pile up until that is seen.
  else if (high === null && isGuess) rate -= Math.min(belief.deviation, (rate - from) / 2) / 2;
  if (own.shortRunsMislead) {
    // What an overrun server completed is what it can, however late that would have shown in the latencies.
    const served = Math.log(mostServed(own) * withinServed);
    if (Number.isFinite(served) && (low === null || served > low + step)) rate = Math.min(rate, served);
  }
  // Where only one end is known, what led there was wrong: steps away from it double.
  const stride = step * 2 ** Math.min(mostDoublings, Math.max(0, sameVerdicts(own) - 1));
  const atLeast = low === null ? floor : low + (high === null ? Math.min(stride, top - low) : step);
  const atMost = high === null ? top : high - (low === null ? Math.min(stride, high - floor) : step);
  // In a bracket of less than two steps its middle settles it: either part is within the resolution.
  rate = atLeast >= atMost ? (from + to) / 2 : Math.min(Math.max(rate, atLeast), atMost);
  if (low === null && rate < floor + step / 2) rate = floor;
  if (high === null && rate > top - step / 2) rate = top;
  const rounded = roundedRate(Math.exp(rate));
  const requestRate = Math.min(Math.max(rounded, rateStart), rateLimit);
  if (own.invalidFrom !== null && requestRate >= own.invalidFrom) return null;
  return own.lastAt.has(requestRate) ? null : requestRate;
}

/** The highest rate of completions among the runs in which arrivals outran them [requests/s]; 0 = none. */
function mostServed({ records }: CellKnowledge): number {
  return records
    .filter(({ verdict, throughputRps, requestRate }) => verdict !== 'meets' && throughputRps < 0.9 * requestRate)
    .reduce((most, { throughputRps }) => Math.max(most, throughputRps), 0);
}

/** The part of it that is looked at. */
const withinServed = 0.95;

/** How many of the last runs came out alike: on the same side of the capacity. */
function sameVerdicts(own: CellKnowledge): number {
  const records = own.shortRunsMislead
    ? own.records.filter(({ verdict }) => verdict === 'meets' || verdict === 'misses')
    : own.records;
  const isMiss = records.at(-1)?.verdict === 'misses';
  const other = records.findLastIndex(({ verdict }) => (verdict === 'misses') !== isMiss);
  return records.length - 1 - other;
}

/** Strides of 16 steps more than double the rate. */
const mostDoublings = 4;

/** A cell of which nothing is known is first looked at by a run that takes about so long [s] … */
const firstRunSeconds = 5;
/** … and further down by rates that are so many times lower. */
const descent = 4;

/** Beliefs wider than this, as a logarithm, are guesses. */
const wideBelief = 0.5;

/** Four digits: enough for any resolution, and the same text in every file. */
function roundedRate(rate: number): number {
  return Number(rate.toPrecision(4));
}

/** A cell with at least as many tokens served the highest rate. */
function reachesLimit({ settings, byCell }: Knowledge, cell: Cell): boolean {
  return [...byCell.values()].some(
    (other) =>
      isAtLeast(other.cell, cell) &&
      isAsPatient(settings.slo, other.cell, cell) &&
      other.low !== null &&
      other.low.requestRate >= settings.rateLimit,
  );
}

/** A cell with no more tokens whose lowest rate missed for good; null = none, or the cell has been looked at itself. */
function presumedNone({ settings, byCell }: Knowledge, own: CellKnowledge): CellKnowledge | null {
  if (own.records.length > 0) return null;
  for (const other of byCell.values()) {
    if (other.low !== null || other.high === null || !isAtLeast(own.cell, other.cell)) continue;
    if (!isClosed(settings, other) || confidenceOf(other.high) < presumptionConfidence) continue;
    if (other.high.decidedBy === 'ttft' && !isAsPatient(settings.slo, own.cell, other.cell)) continue;
    // A short answer can miss a limit on TPOT that a longer one meets: see priorOf.
    const alike = other.cell.outputTokens === own.cell.outputTokens || other.high.decidedBy !== 'tpot';
    if (settings.slo.tpotSeconds === null || alike) return other;
  }
  return null;
}

/** How sure it must be that a cell serves nothing before larger ones are presumed to. */
const presumptionConfidence = 0.995;

/** Have prompts of two cells the same limit on TTFT? Else the longer one may meet what the shorter one misses. */
function isAsPatient(slo: Slo, a: Cell, b: Cell): boolean {
  return ttftLimitSeconds(slo, a.inputTokens) === ttftLimitSeconds(slo, b.inputTokens);
}

const isAtLeast = (a: Cell, b: Cell): boolean => a.inputTokens >= b.inputTokens && a.outputTokens >= b.outputTokens;

/** Where the capacity of a cell lies, from other cells and from its own runs. */
function beliefOf(known: Knowledge, own: CellKnowledge): Belief {
  const { settings } = known;
  // Only of the two ends: runs farther off say the same again, and less of it.
  const beliefs: Belief[] = [own.likelyLow ?? own.low, own.high].flatMap((end) =>
    end === null ? [] : (ownBelief(end) ?? []),
  );
  const predicted = known.work(own.cell);
  if (predicted !== null) {
    const prior = priorOf(known, own.cell, predicted);
    // Where cells around it and its own runs contradict each other, the one that knows less has no say.
    const contradicting = beliefs.findIndex(
      ({ mean, deviation }) => Math.abs(mean - prior.mean) > 2 * Math.hypot(deviation, prior.deviation),
    );
    if (contradicting < 0) beliefs.push(prior);
    else if (beliefs[contradicting]!.deviation > prior.deviation) beliefs.splice(contradicting, 1, prior);
  }
  if (beliefs.length === 0) {
    const middle = (Math.log(settings.rateStart) + Math.log(settings.rateLimit)) / 2;
    return { mean: middle, deviation: Math.log(settings.rateLimit / settings.rateStart) };
  }
  // Independent sources: precisions add up.
  const precision = beliefs.reduce((sum, { deviation }) => sum + 1 / deviation ** 2, 0);
  const mean = beliefs.reduce((sum, one) => sum + one.mean / one.deviation ** 2, 0) / precision;
  return { mean, deviation: 1 / Math.sqrt(precision) };
}

/**
 * The prediction, kept within what cells with more and with fewer tokens allow. Under a limit on TPOT only cells with as
 * many output tokens are compared: a short answer has few tokens over which the wait for another's prompt is spread, so
 * that it can miss the limit at rates at which a longer one meets it.
 */
function priorOf({ byCell, settings }: Knowledge, cell: Cell, { value, logDeviation }: PredictedValue): Belief {
  let least = Number.NEGATIVE_INFINITY;
  let most = Number.POSITIVE_INFINITY;
  for (const other of byCell.values()) {
    if (other.cell === cell) continue;
    if (settings.slo.tpotSeconds !== null && other.cell.outputTokens !== cell.outputTokens) continue;
    if (other.low !== null && isAtLeast(other.cell, cell)) least = Math.max(least, Math.log(other.low.requestRate));
    if (other.high !== null && isAtLeast(cell, other.cell)) most = Math.min(most, Math.log(other.high.requestRate));
  }
  const mean = -Math.log(value);
  const within = least <= most ? Math.min(Math.max(mean, least), most) : mean;
  return { mean: within, deviation: Math.max(logDeviation, minimumDeviation) };
}

/** No single hint is trusted beyond this: it would pin the search to a wrong place. */
const minimumDeviation = 0.02;

/** What one run of the cell says of its capacity; null = nothing beyond its verdict. */
function ownBelief({ projection, requestRate, verdict }: RunRecord): Belief | null {
  if (projection === null) return null;
  // A projection that the run's own verdict refutes took the wrong limit for the one that binds.
  if (verdict === 'misses' ? projection.rate >= requestRate : projection.rate <= requestRate) return null;
  return { mean: Math.log(projection.rate), deviation: Math.max(minimumDeviation, projection.logDeviation) };
}

/** The median of a normal distribution within bounds, which need not hold its mean. */
function truncatedMedian({ mean, deviation }: Belief, from: number, to: number): number {
  // A mean far outside the bracket was wrong: the wider it was off, the less it is worth.
  const off = Math.max(from - mean, mean - to, 0);
  const spread = Math.max(deviation, 2 * off);
  const low = normalCdf((from - mean) / spread);
  const high = normalCdf((to - mean) / spread);
  if (!(high - low > 1e-12)) return (from + to) / 2;
  const wanted = (low + high) / 2;
  let [left, right] = [from, to];
  for (let i = 0; i < 50; i++) {
    const middle = (left + right) / 2;
    if (normalCdf((middle - mean) / spread) < wanted) left = middle;
    else right = middle;
  }
  return (left + right) / 2;
}

/** Standard normal distribution, to 1e-7 (Abramowitz and Stegun, 26.2.17). */
export function normalCdf(z: number): number {
  if (z < 0) return 1 - normalCdf(-z);
  const t = 1 / (1 + 0.2316419 * z);
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return 1 - (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
}

function planned(known: Knowledge, own: CellKnowledge, { requestRate, length }: Wanted): PlannedRun {
  const { settings } = known;
  const stay = expectedStay(known, own, requestRate);
  const isFinding = length === null && !own.shortRunsMislead && !isNarrow(known, own);
  const requests = isFinding
    ? draftLength({ requestRate, staySeconds: stay, requests: settings.requests })
    : runLength({ requestRate, staySeconds: stay, requests: settings.requests, length: length ?? 1 });
  return { cell: own.cell, requestRate, requests, presumed: null, expectedSeconds: requests / requestRate + stay };
}

/** While the place is not known, a part of a run is enough: to fill the server and see how it fares. */
function draftLength(options: {
  readonly requestRate: number;
  readonly staySeconds: number;
  readonly requests: number;
}): number {
  const { requestRate, staySeconds, requests } = options;
  const inFlight = Math.min(Math.ceil(requestRate * staySeconds), mostInFlight);
  const counted = Math.min(requests, Math.max(fewestCounted, Math.ceil(requests * draftShare)));
  return Math.ceil(Math.max(counted, exploringResidences * inFlight));
}

const draftShare = 0.25;
const fewestCounted = 60;

/** Longer than `filledResidences`, since requests take longer at higher rates than they were seen to. */
const exploringResidences = 1.8;

/** Is the capacity known to some steps, so that the next run may be the last? */
function isNarrow({ settings, ...known }: Knowledge, own: CellKnowledge): boolean {
  if (own.records.length === 0 && reachesLimit({ settings, ...known }, own.cell)) return true;
  const lowest = own.likelyLow ?? own.low;
  const factor = (1 + settings.resolution) ** narrowSteps;
  if (lowest !== null && own.high !== null) return own.high.requestRate <= lowest.requestRate * factor;
  if (lowest !== null && lowest.requestRate * factor >= settings.rateLimit) return true;
  return beliefOf({ settings, ...known }, own).deviation <= narrowDeviation;
}

/** A bracket of so many steps of the resolution takes two or three runs. */
const narrowSteps = 4;
/** A belief as narrow as this, as a logarithm, is worth a whole run at once. */
const narrowDeviation = 0.35;

/**
 * Requests of a run: those that are to be counted, as many as are in the server when it has filled, and as many again that
 * keep it full while the counted ones end; at least what a steady state needs.
 *
 * @param options.length 1; 2 and more where a run is repeated at so many times its length
 */
export function runLength(options: {
  readonly requestRate: number;
  readonly staySeconds: number;
  readonly requests: number;
  readonly length: number;
}): number {
  const { requestRate, staySeconds, requests, length } = options;
  const inFlight = Math.min(Math.ceil(requestRate * staySeconds), mostInFlight * length);
  return Math.ceil(Math.max(requests * length + 2 * inFlight, steadyMargin * residencesOfSteadyRun * inFlight));
}

function presumedRun(known: Knowledge, own: CellKnowledge, smaller: CellKnowledge): PlannedRun {
  const { inputTokens, outputTokens } = smaller.cell;
  const { requestRate } = smaller.high!;
  const presumed = `${inputTokens} input and ${outputTokens} output tokens already miss the SLO at this rate`;
  const expectedSeconds = expectedStay(known, own, requestRate);
  return { cell: own.cell, requestRate, requests: 1, presumed, expectedSeconds };
}

/** What engines run at once by default (vLLM: max-num-seqs); a wrong guess of the latency must not ask for much more. */
const mostInFlight = 256;
/** A run that is just long enough for a steady state would have none whenever requests take a little longer. */
const steadyMargin = 1.1;

/** How long a request stays in the server at a rate [s], from this cell's runs, from other cells, from the SLO. */
function expectedStay(known: Knowledge, own: CellKnowledge, requestRate: number): number {
  const measured = own.records
    .filter((record) => record.e2eSeconds !== null)
    .toSorted(
      (a, b) => Math.abs(Math.log(a.requestRate / requestRate)) - Math.abs(Math.log(b.requestRate / requestRate)),
    );
  const longest = longestStay(known.settings.slo, own.cell);
  const guess = measured[0]?.e2eSeconds ?? known.e2e(own.cell)?.value ?? 0;
  return Math.min(guess, longest);
}

/** How long a request may stay that meets the SLO [s]; Infinity where that is not limited. */
function longestStay(slo: Slo, { inputTokens, outputTokens }: Cell): number {
  const { tpotSeconds, e2eSeconds } = slo;
  const ttft = ttftLimitSeconds(slo, inputTokens);
  const both =
    ttft === null || tpotSeconds === null
      ? Number.POSITIVE_INFINITY
      : ttft + Math.max(0, outputTokens - 1) * tpotSeconds;
  return Math.min(both, e2eSeconds ?? Number.POSITIVE_INFINITY);
}

function resultOf(known: Knowledge, cell: Cell): CellResult {
  const { settings } = known;
  const own = known.byCell.get(keyOf(cell)) ?? nothingKnown(cell);
  const { low, high, records, invalidFrom } = own;
  const ends = [low, high].filter((record) => record !== null);
  const base = {
    cell,
    rate: low?.requestRate ?? null,
    throughputRps: low?.throughputRps ?? null,
    missedRate: high?.requestRate ?? null,
    confidence: ends.length === 0 ? null : Math.min(...ends.map(confidenceOf)),
    runs: records.length,
    requests: records.reduce((sum, { sent }) => sum + sent, 0),
  };
  const state = ((): CellResult['state'] => {
    if (isTooLong(settings, cell)) return 'too_long';
    if (records.length === 0) return 'not_measured';
    if (ends.length === 0) return 'not_measurable';
    if (!isClosed(settings, own)) return 'unfinished';
    if (low === null) return 'none';
    return low.requestRate >= settings.rateLimit ? 'at_limit' : 'found';
  })();
  return { ...base, state, note: noteOf(own, { state, invalidFrom }) };
}

function noteOf(
  { records, high }: CellKnowledge,
  { state, invalidFrom }: { readonly state: CellResult['state']; readonly invalidFrom: number | null },
): string | null {
  const lastFault = records.findLast(({ verdict }) => verdict === 'invalid' || verdict === 'short')?.invalidBecause;
  if (invalidFrom !== null && lastFault) {
    return `not measured from ${Number(invalidFrom.toPrecision(4))} requests/s on: ${lastFault}`;
  }
  if (state === 'not_measurable') return lastFault ?? null;
  if (high === null) return null;
  const limits: Readonly<Record<RunRecord['decidedBy'], string>> = {
    ttft: 'TTFT',
    tpot: 'TPOT',
    e2e: 'E2E',
    failures: 'failed requests',
    throughput: 'throughput',
    nothing: 'no answer in time',
  };
  return `limited by ${limits[high.decidedBy]}`;
}
