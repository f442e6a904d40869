import type { Cell, Measurement, RequestOutcome, Summary } from './measurement.js';
import { summarise } from './summary.js';

/**
 * Whether a run met its objectives (SLO), and how sure that is.
 *
 * The rule is that of profiles: under percentile p, the p-quantile of TTFT, TPOT and E2E over the steady state lies
 * below its limit, and the throughput reaches nine tenths of the rate. Failures count as misses: a server that sheds
 * load does not serve it. Under the percentile 0 means are compared.
 *
 * Pure; the outcomes are those that the measurement was made of.
 */
export type SloLimits = {
  /** [s]; null = no limit. */
  readonly ttftSeconds: number | null;
  /** Added to the limit on TTFT for each token of the prompt: who sends more waits longer. Absent = 0. */
  readonly ttftSecondsPerInputToken?: number;
  readonly tpotSeconds: number | null;
  readonly e2eSeconds: number | null;
};

/** 0 = the mean. */
export const sloPercentiles = [0, 50, 90, 95, 99] as const;
export type SloPercentile = (typeof sloPercentiles)[number];

export type Slo = SloLimits & { readonly percentile: SloPercentile };

/** What `slos` of a profile calls the seconds that each token of the prompt adds to the limit on TTFT. */
export const ttftPerInputTokenName = 'ttft_per_input_token';

/** The limit on TTFT of a prompt of this length [s]; null = none. */
export function ttftLimitSeconds(
  { ttftSeconds, ttftSecondsPerInputToken = 0 }: Pick<SloLimits, 'ttftSeconds' | 'ttftSecondsPerInputToken'>,
  inputTokens: number,
): number | null {
  return ttftSeconds === null ? null : ttftSeconds + ttftSecondsPerInputToken * inputTokens;
}

/** Share of the planned rate that must come out again, as in AIBrix's profiles (TPUT_TOLERANCE). */
export const keepsUpShare = 0.9;

export type Attainment = {
  readonly meets: boolean;
  /** The limit that decided: of those that failed, the one that failed most; else the one that came closest. */
  readonly decidedBy: 'ttft' | 'tpot' | 'e2e' | 'failures' | 'throughput' | 'nothing';
  /** Requests judged, and those of them that met the limit which the fewest met. */
  readonly judged: number;
  readonly met: number;
  /** Judged requests, less what their likeness in time takes away (neighbours in a queue share their fate). */
  readonly effective: number;
  /** Standard deviations between what was seen and the boundary: > 0 where it meets, < 0 where it does not. */
  readonly evidence: number;
  /** The largest quantile (or mean) relative to its limit; 1 = exactly at it; null where none was measured. */
  readonly nearness: number | null;
  /** Whose that is; null where none was measured. */
  readonly nearestLimit: 'ttft' | 'tpot' | 'e2e' | null;
};

/** Judges a run. */
export function attainmentOf(outcomes: readonly RequestOutcome[], measurement: Measurement, slo: Slo): Attainment {
  const { start, end } = windowOf(measurement);
  const judged = outcomes
    .filter(({ sentSeconds }) => sentSeconds >= start && sentSeconds <= end)
    .toSorted((a, b) => a.sentSeconds - b.sentSeconds);
  const latencies = limitCriteria(judged, measurement, slo);
  const criteria = [...latencies, ...throughputCriterion(measurement), ...failureCriterion(judged, slo)];
  const failed = criteria.filter(({ meets }) => !meets).toSorted((a, b) => a.evidence - b.evidence);
  // That the server keeps up is no nearness to a limit: where all is met, latencies say how surely.
  const nearest = (latencies.length > 0 ? latencies : criteria).toSorted((a, b) => a.evidence - b.evidence)[0];
  const decisive = failed[0] ?? nearest;
  const highest = latencies.filter(({ ratio }) => ratio !== null).toSorted((a, b) => b.ratio! - a.ratio!)[0];
  return {
    meets: failed.length === 0 && judged.length > 0,
    decidedBy: decisive?.name ?? 'nothing',
    judged: decisive?.judged ?? 0,
    met: decisive?.met ?? 0,
    effective: decisive?.effective ?? 0,
    evidence: decisive?.evidence ?? 0,
    nearness: highest?.ratio ?? null,
    nearestLimit: highest === undefined ? null : highest.name,
  };
}

type Criterion<Name = Attainment['decidedBy']> = {
  readonly name: Name;
  readonly meets: boolean;
  readonly evidence: number;
  readonly judged: number;
  readonly met: number;
  readonly effective: number;
  readonly ratio: number | null;
};

function windowOf({ steadyState }: Measurement): { readonly start: number; readonly end: number } {
  if (steadyState === null) return { start: Number.NEGATIVE_INFINITY, end: Number.POSITIVE_INFINITY };
  return { start: steadyState.startSeconds, end: steadyState.endSeconds };
}

/** Seconds after which a request has missed one of the limits for certain, whatever it was doing; Infinity = never. */
export function certainMissSeconds(slo: SloLimits, { inputTokens, outputTokens }: Cell): number {
  const steps = Math.max(0, outputTokens - 1);
  const ttft = ttftLimitSeconds(slo, inputTokens);
  const both =
    ttft === null || (slo.tpotSeconds === null && steps > 0)
      ? Number.POSITIVE_INFINITY
      : ttft + steps * (slo.tpotSeconds ?? 0);
  return Math.min(both, slo.e2eSeconds ?? Number.POSITIVE_INFINITY);
}

type LimitName = 'ttft' | 'tpot' | 'e2e';

type Fate = 'met' | 'missed' | 'unknown';

const measures = {
  ttft: {
    limit: ttftLimitSeconds,
    of: ({ firstTokenSeconds, sentSeconds }: RequestOutcome) =>
      firstTokenSeconds === null ? null : firstTokenSeconds - sentSeconds,
    summary: ({ ttft }: Measurement) => ttft,
  },
  tpot: {
    limit: (slo: SloLimits) => slo.tpotSeconds,
    of: ({ firstTokenSeconds, endSeconds, outputTokens }: RequestOutcome) =>
      firstTokenSeconds === null || outputTokens < 2 ? null : (endSeconds - firstTokenSeconds) / (outputTokens - 1),
    summary: ({ tpot }: Measurement) => tpot,
  },
  e2e: {
    limit: (slo: SloLimits) => slo.e2eSeconds,
    of: ({ endSeconds, sentSeconds }: RequestOutcome) => endSeconds - sentSeconds,
    summary: ({ e2e }: Measurement) => e2e,
  },
} as const;

function limitCriteria(
  judged: readonly RequestOutcome[],
  measurement: Measurement,
  slo: Slo,
): readonly Criterion<LimitName>[] {
  return (['ttft', 'tpot', 'e2e'] as const).flatMap((name): Criterion<LimitName>[] => {
    const { limit: limitOf, of, summary } = measures[name];
    if (limitOf(slo, 0) === null) return [];
    const limits = judged.map(({ wantedInputTokens }) => limitOf(slo, wantedInputTokens)!);
    const values = judged.map((outcome) => (outcome.failure === null ? of(outcome) : null));
    // Where prompts of several lengths have limits of their own, each value counts as a share of its limit.
    const differ = limits.some((limit) => limit !== limits[0]);
    const shares = values.map((value, i) => (value === null || !differ ? value : value / limits[i]!));
    const limit = differ ? 1 : (limits[0] ?? limitOf(slo, 0)!);
    const summarised = differ ? summarise(shares.filter((share) => share !== null)) : summary(measurement);
    const typical = quantileOf(summarised, slo.percentile);
    const ratio = typical === null ? null : typical / limit;
    if (slo.percentile === 0) return [meanCriterion({ name, values: shares, limit, ratio })];
    const fates = judged.map((outcome, i) => fateOf(outcome, values[i]!, { slo, name, limit: limits[i]! }));
    const known = fates.filter((fate) => fate !== 'unknown').map((fate) => fate === 'met');
    return known.length === 0 ? [] : [shareCriterion({ name, fates: known, ratio, share: slo.percentile / 100 })];
  });
}

function fateOf(
  outcome: RequestOutcome,
  value: number | null,
  against: { readonly slo: Slo; readonly name: LimitName; readonly limit: number },
): Fate {
  const { slo, name, limit } = against;
  if (outcome.failure === 'cancelled') {
    // Cut off by us: it counts where it had missed already.
    const age = outcome.endSeconds - outcome.sentSeconds;
    return age >= certainMissSeconds(slo, wantedLengths(outcome)) ||
      (name !== 'tpot' && outcome.firstTokenSeconds === null && age >= limit)
      ? 'missed'
      : 'unknown';
  }
  if (outcome.failure !== null) return 'missed';
  // An answer of one token has no time between tokens.
  if (value === null) return name === 'tpot' ? 'unknown' : 'missed';
  return value < limit ? 'met' : 'missed';
}

function wantedLengths({ wantedInputTokens, wantedOutputTokens }: RequestOutcome): Cell {
  return { inputTokens: wantedInputTokens, outputTokens: wantedOutputTokens };
}

/** Of a run's figures, the one that the percentile names; null where nothing was measured. */
export function quantileOf(summary: Summary | null, percentile: SloPercentile): number | null {
  if (summary === null) return null;
  const { mean, p50, p90, p95, p99 } = summary;
  return { 0: mean, 50: p50, 90: p90, 95: p95, 99: p99 }[percentile];
}

/** A share is tested against the percentile as Wilson's interval does: with the variance at the boundary. */
function shareCriterion<Name>(options: {
  readonly name: Name;
  readonly fates: readonly boolean[];
  readonly ratio: number | null;
  readonly share: number;
}): Criterion<Name> {
  const { name, fates, ratio, share } = options;
  const judged = fates.length;
  const met = fates.filter(Boolean).length;
  const effective = effectiveSize(fates.map(Number));
  const evidence = (met / judged - share) / Math.sqrt((share * (1 - share)) / effective);
  // The quantile is what a profile goes by; where it lies exactly at the boundary of the share it decides.
  const meets = ratio === null ? met / judged >= share : ratio < 1 && met / judged >= share - 1 / judged;
  return {
    name,
    meets,
    evidence: meets ? Math.max(0, evidence) : Math.min(0, evidence),
    judged,
    met,
    effective,
    ratio,
  };
}

function meanCriterion<Name>(options: {
  readonly name: Name;
  readonly values: readonly (number | null)[];
  readonly limit: number;
  readonly ratio: number | null;
}): Criterion<Name> {
  const { name, limit, ratio } = options;
  const values = options.values.filter((value) => value !== null);
  const judged = values.length;
  const met = values.filter((value) => value < limit).length;
  const effective = effectiveSize(values);
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, judged);
  const deviation = Math.sqrt(variance(values) / Math.max(1, effective));
  const meets = judged > 0 && (ratio ?? mean / limit) < 1;
  const distance = deviation > 0 ? (limit - mean) / deviation : mean < limit ? sure : -sure;
  return {
    name,
    meets,
    evidence: meets ? Math.max(0, distance) : Math.min(0, distance),
    judged,
    met,
    effective,
    ratio,
  };
}

/** Beyond any doubt that a run can leave [standard deviations]. */
const sure = 8;

/** Only a whole steady state has a throughput that can be held against the server; else less ends than arrives. */
function throughputCriterion({
  aborted,
  throughputRps,
  requestRate,
  counts,
  e2e,
  steadyState,
}: Measurement): readonly Criterion[] {
  if (steadyState === null || aborted !== null) return [];
  const judged = counts.countedCompletions;
  const meets = throughputRps >= keepsUpShare * requestRate;
  // Completions differ from arrivals by how the number in the server changed, and that number varies as a Poisson one does.
  const inFlight = Math.max(1, requestRate * (e2e?.mean ?? 0));
  const evidence = (judged - keepsUpShare * counts.countedArrivals) / Math.sqrt(2 * inFlight);
  return [
    {
      name: 'throughput',
      meets,
      evidence: meets ? Math.max(0, evidence) : Math.min(0, evidence),
      judged,
      met: judged,
      effective: judged,
      ratio: null,
    },
  ];
}

/** A failed request has no latency: where nothing is limited but failures, or means are compared, they count alone. */
function failureCriterion(judged: readonly RequestOutcome[], slo: Slo): readonly Criterion[] {
  const fates = judged.filter(({ failure }) => failure !== 'cancelled').map(({ failure }) => failure === null);
  if (fates.length === 0) return [];
  const share = slo.percentile === 0 ? keepsUpShare : slo.percentile / 100;
  const met = fates.filter(Boolean).length;
  if (met === fates.length) return [];
  return [shareCriterion({ name: 'failures', fates, ratio: null, share })];
}

function variance(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1);
}

/**
 * How many independent values a series is worth, by the method of batch means: the variance of the means of √n
 * consecutive batches, against what it would be if the values were independent. Between 4 and n.
 */
function effectiveSize(values: readonly number[]): number {
  const count = values.length;
  const batches = Math.floor(Math.sqrt(count));
  const single = variance(values);
  if (batches < 4 || single === 0) return count;
  const size = Math.floor(count / batches);
  const means = Array.from({ length: batches }, (_, i) => {
    const batch = values.slice(i * size, (i + 1) * size);
    return batch.reduce((sum, value) => sum + value, 0) / size;
  });
  const inflation = (variance(means) * size) / single;
  return Math.min(count, Math.max(4, count / Math.max(1, inflation)));
}
