import { type StoreIdentity, type TraceKey, type TraceReading, type TraceSource, Unavailable } from '../core/ports.js';

import {
  areTooFewRead,
  arrivalsOfEngines,
  type EngineCourse,
  type EngineInterval,
  type EngineReading,
} from '../demand/engine-arrivals.js';
import {
  histogramOf,
  independentPairs,
  type LengthHistogram,
  type LengthPair,
  type LengthShare,
  lengthsOf,
} from '../demand/length-histogram.js';
import { formatTraceRecord, largestPrecision, type TraceBucket } from '../demand/trace-record.js';
import {
  createPrometheusApi,
  type Matrix,
  type PrometheusAccess,
  quotedAlternatives,
  quotedText,
  type SeriesLabels,
} from './prometheus-api.js';

/**
 * Demand from a Prometheus server that scrapes the engines, for fleets without a gateway that records request traces: what
 * they count becomes the interval records that a gateway would have written.
 *
 * *Queries.* One range query for each metric, over the missing intervals of all models; what came back is remembered, so
 * that a cycle asks for its newest interval only. Counters are read as they stand at the end of each interval
 * (`last_over_time(metric[interval])`: the last sample of the interval itself, also of a pod that has gone since) and
 * subtracted here; `increase()` and `rate()` are not used, because they extrapolate to the edges of their range (one
 * request seen by two samples becomes 1.5) and leave out the first sample of a series. What the differences mean is told in
 * `engine-arrivals.ts`, lengths in `length-histogram.ts`.
 *
 * *Names.* vLLM's and SGLang's, the first that a series has counts (`or`). Series of one engine process differ by the
 * labels of its cores and reasons, and are summed; those that two scrape jobs made of one target are one.
 *
 * Source of names and labels: vLLM's documentation, "Production metrics", and its `v1/metrics/loggers.py`; SGLang's
 * documentation, "Production metrics", and its `srt/metrics/collector.py`.
 */

export type PrometheusDemandSettings = PrometheusAccess & {
  readonly intervalSeconds: number;
  /** How long after its end an interval is asked for: until then its last samples may be on their way [s]. */
  readonly delaySeconds: number;
  readonly modelLabel: string;
  readonly namespaceLabel: string;
  readonly podLabel: string;
  /** Only series of these namespaces; empty = of all. */
  readonly namespaces: readonly string[];
  /** Only series with these labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** Names under which engines serve a model, where they are others than its own: served name → model. */
  readonly models: ReadonlyMap<string, string>;
  /**
   * How far the server's clock may differ from ours before nothing is read by it: what it tells of our present would be
   * another time's. Absent = its clock is not asked for. [s]
   */
  readonly clockToleranceSeconds?: number;
};

/** What is asked, under the names of vLLM, of vLLM as KServe relabels it, and of SGLang. */
const metricNames = {
  ended: ['vllm:request_success_total', 'kserve_vllm:request_success_total', 'sglang:num_requests_total'],
  firstTokens: [
    'vllm:time_to_first_token_seconds_count',
    'kserve_vllm:time_to_first_token_seconds_count',
    'sglang:time_to_first_token_seconds_count',
  ],
  waiting: ['vllm:num_requests_waiting', 'kserve_vllm:num_requests_waiting', 'sglang:num_queue_reqs'],
  running: ['vllm:num_requests_running', 'kserve_vllm:num_requests_running', 'sglang:num_running_reqs'],
} as const;
const counterKinds = ['ended', 'mostEnded', 'firstTokens', 'waiting', 'running'] as const;

/** The counters of ended requests, of which every engine has one. */
export const demandMetricNames: readonly string[] = metricNames.ended;

/** Histograms of lengths: without `_bucket` and `_sum`. */
const histogramNames = {
  input: ['vllm:request_prompt_tokens', 'kserve_vllm:request_prompt_tokens', 'sglang:prompt_tokens_histogram'],
  output: [
    'vllm:request_generation_tokens',
    'kserve_vllm:request_generation_tokens',
    'sglang:generation_tokens_histogram',
  ],
} as const;

/** SGLang's ranks of one scheduler tell the same numbers, where each of them tells any. */
const equalRanks = 'tp_rank, pp_rank, moe_ep_rank';

/**
 * An engine that was not read for longer has gone, and one that comes back later is a new one. Prometheus' own look-back
 * is as long. [s]
 */
const rememberedSeconds = 300;

/** Younger intervals that are unknown are asked for again: a late scrape or remote write may still tell them [s]. */
const patienceSeconds = 60;

/** Steps of one query for lengths: a thousand engines have 30,000 series, for which a server needs about a second a step. */
const stepsPerQuery = 4;

/** Completed requests are counted in this many parts, so that shares of a few requests are whole numbers. */
const partsOfRequest = 1000;

/** Answered intervals are kept this long after their end: no window asks for older ones [s]. */
const keptSeconds = 900;

/** Engines with at least this many readings tell how often they are scraped. */
const fewestReadings = 3;

/** What is known of one model in one interval. */
type Answered = {
  readonly interval: EngineInterval;
  /** One histogram for each kind of buckets that its engines have. */
  readonly input: readonly LengthHistogram[];
  readonly output: readonly LengthHistogram[];
};

/** Everything that was answered about one interval. */
type AnsweredInterval = { askedSeconds: number; readonly models: Map<string, Answered> };

/** A source of interval records out of a Prometheus server. */
export function createPrometheusDemand(settings: PrometheusDemandSettings, clock: { now(): number }): TraceSource {
  return new PrometheusDemand(settings, clock);
}

class PrometheusDemand implements TraceSource {
  readonly input = 'prometheus';
  readonly #settings: PrometheusDemandSettings;
  readonly #clock: { now(): number };
  readonly #api: ReturnType<typeof createPrometheusApi>;
  /** By interval end. */
  readonly #answered = new Map<number, AnsweredInterval>();
  /** Models that were ever asked for, and how many of their replicas were ready then; null = nobody told. */
  readonly #models = new Map<string, number | null>();
  #concern: string | null = null;

  constructor(settings: PrometheusDemandSettings, clock: { now(): number }) {
    this.#settings = settings;
    this.#clock = clock;
    this.#api = createPrometheusApi(settings);
  }

  get concern(): string | null {
    return this.#concern;
  }

  /** Nothing is ever `absent` here, so nothing hangs on which server answers. */
  async identity(): Promise<StoreIdentity> {
    return { runId: 'prometheus', startedAtMs: 0 };
  }

  async readTraces(
    keys: readonly (TraceKey & { readonly readyReplicas?: number | null })[],
  ): Promise<readonly TraceReading[]> {
    const nowSeconds = this.#clock.now() / 1000;
    const { intervalSeconds, delaySeconds } = this.#settings;
    for (const endSeconds of this.#answered.keys()) {
      if (endSeconds < nowSeconds - keptSeconds) this.#answered.delete(endSeconds);
    }
    const missing = new Set<number>();
    for (const { model, endSeconds, readyReplicas = null } of keys) {
      this.#models.set(model, readyReplicas);
      const ageSeconds = nowSeconds - delaySeconds - endSeconds;
      if (ageSeconds < 0 || ageSeconds > keptSeconds) continue;
      const answered = this.#answered.get(endSeconds);
      if (answered !== undefined) {
        const isKnown = (answered.models.get(model)?.interval ?? null) !== null;
        const isSettled = ageSeconds > patienceSeconds + intervalSeconds;
        // A model without engines is asked for again in the next cycle, not for each thousand keys of this one.
        if (isKnown || isSettled || nowSeconds - answered.askedSeconds < intervalSeconds / 2) continue;
      }
      missing.add(endSeconds);
    }
    if (missing.size > 0) await this.#ask(missing, nowSeconds);
    return keys.map((key) => this.#readingOf(key));
  }

  close(): Promise<void> {
    return this.#api.close();
  }

  #readingOf({ model, endSeconds }: TraceKey): TraceReading {
    const answer = this.#answered.get(endSeconds)?.models.get(model);
    if (answer === undefined || answer.interval === null) return { kind: 'unknown' };
    const { arrivals, pending } = answer.interval;
    const record = {
      intervalSeconds: this.#settings.intervalSeconds,
      arrivals,
      pending,
      queueing: 0,
      unknownLength: 0,
      buckets: bucketsOf(answer),
    };
    return { kind: 'present', text: formatTraceRecord(record, largestPrecision) };
  }

  /** Asks for everything between the oldest and the newest of some intervals; what was known of the others stays. */
  async #ask(missing: ReadonlySet<number>, nowSeconds: number): Promise<void> {
    const { intervalSeconds } = this.#settings;
    const oldest = Math.min(...missing);
    const newest = Math.max(...missing);
    // As many intervals before as an engine is remembered for: what lies behind a gap, and how often it is scraped.
    const pad = Math.max(1, Math.ceil(rememberedSeconds / intervalSeconds));
    const grid = { startSeconds: oldest - pad * intervalSeconds, endSeconds: newest, stepSeconds: intervalSeconds };
    const [, engines, input, output] = await Promise.all([
      this.#checkClock(),
      this.#courses(grid),
      this.#lengths(histogramNames.input, { ...grid, startSeconds: oldest }),
      this.#lengths(histogramNames.output, { ...grid, startSeconds: oldest }),
    ]);
    this.#concern = engines.concern;
    for (const endSeconds of missing) {
      const known = this.#answered.get(endSeconds)?.models ?? new Map<string, Answered>();
      this.#answered.set(endSeconds, { askedSeconds: nowSeconds, models: known });
    }
    for (const [model, courses] of engines.byModel) {
      const intervals = arrivalsOfEngines(courses, this.#models.get(model) ?? null);
      for (const endSeconds of missing) {
        const { models } = this.#answered.get(endSeconds)!;
        // What was told once stays: the intervals around it were counted beside it.
        if ((models.get(model)?.interval ?? null) !== null) continue;
        const interval = intervals[(endSeconds - grid.startSeconds) / intervalSeconds] ?? null;
        const key = lengthKey(model, endSeconds);
        models.set(model, { interval, input: input.get(key) ?? [], output: output.get(key) ?? [] });
      }
    }
  }

  /** @throws Unavailable where the server's time is another one than ours */
  async #checkClock(): Promise<void> {
    const { clockToleranceSeconds } = this.#settings;
    if (clockToleranceSeconds === undefined) return;
    const askedSeconds = this.#clock.now() / 1000;
    const [answer] = await this.#api.instant('vector(time())', null);
    const shownSeconds = Number(answer?.value[1] ?? Number.NaN);
    // Its time is of some moment between the question and the answer.
    const aheadSeconds =
      Math.max(0, shownSeconds - this.#clock.now() / 1000) + Math.min(0, shownSeconds - askedSeconds);
    if (!(Math.abs(aheadSeconds) > clockToleranceSeconds)) return;
    const text = `${Math.round(Math.abs(aheadSeconds))} s ${aheadSeconds > 0 ? 'ahead of' : 'behind'}`;
    throw new Unavailable(
      'prometheus_clock',
      `Prometheus at ${this.#api.name}: found a clock ${text} the clock here, expected the same time: nothing is planned by another one's`,
    );
  }

  /** What each engine said at the end of each interval, by model. */
  async #courses(grid: Grid): Promise<{
    readonly byModel: ReadonlyMap<string, readonly EngineCourse[]>;
    readonly concern: string | null;
  }> {
    const { intervalSeconds, modelLabel, namespaceLabel, podLabel } = this.#settings;
    const target = ['instance', namespaceLabel, podLabel];
    const engine = [...target, modelLabel].join(', ');
    const where = this.#matchers();
    const within = (names: readonly string[], range: number, over = 'last_over_time') =>
      names.map((name) => `${over}(${name}${where}[${range}s])`).join(' or ');
    const totals = await Promise.all([
      ...counterKinds.map((kind) => {
        const [names, over] =
          kind === 'mostEnded' ? [metricNames.ended, 'max_over_time'] : [metricNames[kind], 'last_over_time'];
        const ofEach = `max without (${equalRanks}) (${within(names, intervalSeconds, over)})`;
        // A target that two jobs scrape is one engine: its cores and reasons are summed within each job.
        return this.#api.range(`max by (${engine}) (sum by (job, ${engine}) (${ofEach}))`, grid);
      }),
      this.#api.range(
        `max by (${target.join(', ')}) (last_over_time(up[${intervalSeconds}s])) and on (${target.join(', ')}) count by (${target.join(', ')}) (${within(metricNames.running, rememberedSeconds)})`,
        grid,
      ),
    ]);
    const [ended, mostEnded, firstTokens, waiting, running, up] = totals as [
      Matrix,
      Matrix,
      Matrix,
      Matrix,
      Matrix,
      Matrix,
    ];
    const nameOf = (labels: readonly string[], metric: SeriesLabels) =>
      labels.map((label) => metric[label] ?? '').join('\n');
    const steps = Math.round((grid.endSeconds - grid.startSeconds) / grid.stepSeconds) + 1;
    const alongGrid = (matrix: Matrix, labels: readonly string[]): ReadonlyMap<string, Float64Array> =>
      new Map(matrix.map(({ metric, values }) => [nameOf(labels, metric), spread(values, { grid, steps })]));
    const engineLabels = [...target, modelLabel];
    const byKind = {
      mostEnded: alongGrid(mostEnded, engineLabels),
      firstTokens: alongGrid(firstTokens, engineLabels),
      waiting: alongGrid(waiting, engineLabels),
      running: alongGrid(running, engineLabels),
    };
    const targets = alongGrid(up, target);
    const byModel = new Map<string, EngineCourse[]>();
    const spacings: number[] = [];
    for (const { metric, values } of ended) {
      const served = metric[modelLabel] ?? '';
      if (served === '') continue;
      const name = nameOf(engineLabels, metric);
      const readings = readingsOf(
        {
          ended: spread(values, { grid, steps }),
          mostEnded: byKind.mostEnded.get(name),
          firstTokens: byKind.firstTokens.get(name),
          waiting: byKind.waiting.get(name),
          running: byKind.running.get(name),
        },
        steps,
      );
      const isListed = targets.get(nameOf(target, metric));
      const listedAt = Array.from({ length: steps }, (_, i) => isListed !== undefined && !Number.isNaN(isListed[i]!));
      const model = this.#settings.models.get(served) ?? served;
      const courses = byModel.get(model) ?? [];
      byModel.set(model, courses);
      courses.push({ readings, listed: listedAt });
      const spacing = leastSpacing(readings);
      if (spacing !== null) spacings.push(spacing);
    }
    // Engines that are gone say nothing of how engines are scraped now.
    const isRecent = (values: Matrix[number]['values']) =>
      (values.at(-1)?.[0] ?? 0) > grid.endSeconds - Math.max(rememberedSeconds, 2 * intervalSeconds);
    const served = new Set(
      ended.filter(({ values }) => isRecent(values)).map(({ metric }) => metric[modelLabel] ?? ''),
    );
    const read = new Map([...byModel].map(([model, courses]) => [model, mostReadNow(courses)]));
    return { byModel, concern: this.#concernOf({ served, spacings, read }) };
  }

  #concernOf(seen: {
    /** The names under which engines serve, '' where they tell none. */
    readonly served: ReadonlySet<string>;
    readonly spacings: readonly number[];
    /** Engines of each model that were read last. */
    readonly read: ReadonlyMap<string, number>;
  }): string | null {
    const { intervalSeconds, modelLabel } = this.#settings;
    const source = `Prometheus at ${this.#api.name}`;
    if (seen.served.size === 0) {
      const where = this.#matchers();
      const among = where === '' ? '' : ` among the series with ${where}`;
      return `${source}: found no counters of engines, expected ${metricNames.ended[0]} or ${metricNames.ended[2]}${among}`;
    }
    const models = new Set(
      [...seen.served].filter((name) => name !== '').map((name) => this.#settings.models.get(name) ?? name),
    );
    if (models.size === 0) {
      return `${source}: found counters of engines without the label ${JSON.stringify(modelLabel)}, expected the one that names their model (demand.prometheus.modelLabel)`;
    }
    const unserved = [...this.#models.keys()].filter((model) => !models.has(model)).sort();
    const strangers = [...models].filter((model) => !this.#models.has(model)).sort();
    if (unserved.length > 0 && strangers.length > 0) {
      return `${source}: found no engines that serve ${listed(unserved)}, and some that serve ${listed(strangers)}: a model that is served under another name needs models.<model>.servedNames`;
    }
    for (const [model, ready] of this.#models) {
      const read = seen.read.get(model) ?? 0;
      if (!models.has(model) || !areTooFewRead(read, ready)) continue;
      return `${source}: found engines of ${model}: ${read}, expected about as many as the ${ready} of its replicas that are ready: does Prometheus still scrape them all?`;
    }
    const spacings = [...seen.spacings].sort((a, b) => a - b);
    const typical = spacings[Math.floor(spacings.length / 2)] ?? 1;
    if (typical > 1) {
      const seconds = typical * intervalSeconds;
      return `${source}: found engines that are scraped about every ${seconds} s, expected at least one scrape in each interval of ${intervalSeconds} s: set demand.intervalSeconds to the scrape interval or more, or scrape more often`;
    }
    return null;
  }

  /** Requests by length that ended in each interval, by `lengthKey`. */
  async #lengths(names: readonly string[], grid: Grid): Promise<ReadonlyMap<string, readonly LengthHistogram[]>> {
    const { intervalSeconds, modelLabel, namespaceLabel, podLabel } = this.#settings;
    const engine = ['instance', namespaceLabel, podLabel, modelLabel].join(', ');
    const where = this.#matchers();
    const chain = (suffix: string, range: number, offset: string) =>
      names.map((name) => `last_over_time(${name}${suffix}${where}[${range}s]${offset})`).join(' or ');
    const increase = (suffix: string) =>
      `clamp_min((${chain(suffix, intervalSeconds, '')}) - (${chain(suffix, rememberedSeconds, ` offset ${intervalSeconds}s`)}), 0)`;
    // Engines with another longest request have other buckets: summed together, the counts of one would stop halfway.
    const kinds = `count_values by (${engine}) ("gpumix_buckets", count by (${engine}) (${chain('_bucket', intervalSeconds, '')}))`;
    const byKind = (suffix: string, also: string) =>
      `sum by (${modelLabel}, gpumix_buckets${also}) (max by (${engine}${also}) (sum by (job, ${engine}${also}) (${increase(suffix)})) * on (${engine}) group_left (gpumix_buckets) ${kinds})`;
    const queries = [byKind('_bucket', ', le'), byKind('_sum', '')];
    const spans: Grid[] = [];
    const spanSeconds = stepsPerQuery * grid.stepSeconds;
    for (let start = grid.startSeconds; start <= grid.endSeconds; start += spanSeconds) {
      const endSeconds = Math.min(grid.endSeconds, start + spanSeconds - grid.stepSeconds);
      spans.push({ ...grid, startSeconds: start, endSeconds });
    }
    const found = new Map<string, readonly LengthHistogram[]>();
    for (const span of spans) {
      const [buckets, sums] = await Promise.all(queries.map((query) => this.#api.range(query, span)));
      for (const [key, histograms] of this.#histogramsOf(buckets!, sums!)) found.set(key, histograms);
    }
    return found;
  }

  #histogramsOf(buckets: Matrix, sums: Matrix): ReadonlyMap<string, readonly LengthHistogram[]> {
    const modelOf = (metric: SeriesLabels) => {
      const served = metric[this.#settings.modelLabel] ?? '';
      return this.#settings.models.get(served) ?? served;
    };
    type Seen = { readonly cumulative: Map<number, number>; sum: number | null };
    /** By interval and model, then by the kind of buckets. */
    const seen = new Map<string, Map<string, Seen>>();
    const seenOf = (metric: SeriesLabels, atSeconds: number): Seen => {
      const key = lengthKey(modelOf(metric), atSeconds);
      const kinds = seen.get(key) ?? new Map<string, Seen>();
      seen.set(key, kinds);
      const kind = metric.gpumix_buckets ?? '';
      const one = kinds.get(kind) ?? { cumulative: new Map<number, number>(), sum: null };
      kinds.set(kind, one);
      return one;
    };
    for (const { metric, values } of buckets) {
      const bound = boundOf(metric.le ?? '');
      if (bound === null) continue;
      for (const [atSeconds, text] of values) {
        const { cumulative } = seenOf(metric, atSeconds);
        cumulative.set(bound, (cumulative.get(bound) ?? 0) + Number(text));
      }
    }
    for (const { metric, values } of sums) {
      for (const [atSeconds, text] of values) {
        const one = seenOf(metric, atSeconds);
        one.sum = (one.sum ?? 0) + Number(text);
      }
    }
    return new Map(
      [...seen].map(([key, kinds]) => [
        key,
        [...kinds.values()].flatMap(({ cumulative, sum }) => histogramOf(cumulative, sum) ?? []),
      ]),
    );
  }

  /** `{namespace=~"a|b",cluster="c"}`, or nothing. */
  #matchers(): string {
    const { namespaces, namespaceLabel, labels } = this.#settings;
    const matchers = [
      ...(namespaces.length === 0 ? [] : [`${namespaceLabel}=~${quotedAlternatives([...namespaces].sort())}`]),
      ...Object.entries(labels).map(([label, value]) => `${label}=${quotedText(value)}`),
    ];
    return matchers.length === 0 ? '' : `{${matchers.join(',')}}`;
  }
}

type Grid = { readonly startSeconds: number; readonly endSeconds: number; readonly stepSeconds: number };

function lengthKey(model: string, endSeconds: number): string {
  return `${endSeconds}\n${model}`;
}

/** The values of a series on the grid; NaN where there is none. */
function spread(
  values: readonly (readonly [number, string])[],
  { grid, steps }: { readonly grid: Grid; readonly steps: number },
): Float64Array {
  const along = new Float64Array(steps).fill(Number.NaN);
  for (const [atSeconds, text] of values) {
    const index = Math.round((atSeconds - grid.startSeconds) / grid.stepSeconds);
    const value = Number(text);
    if (index >= 0 && index < steps && Number.isFinite(value) && value >= 0) along[index] = value;
  }
  return along;
}

/** An engine that tells one of its numbers and not another was not read. */
function readingsOf(
  series: {
    readonly ended: Float64Array;
    readonly mostEnded: Float64Array | undefined;
    readonly firstTokens: Float64Array | undefined;
    readonly waiting: Float64Array | undefined;
    readonly running: Float64Array | undefined;
  },
  steps: number,
): readonly (EngineReading | null)[] {
  return Array.from({ length: steps }, (_, i) => {
    const ended = series.ended[i]!;
    const waiting = series.waiting?.[i] ?? Number.NaN;
    const running = series.running?.[i] ?? Number.NaN;
    if (Number.isNaN(ended + waiting + running)) return null;
    const told = (values: Float64Array | undefined) => {
      const value = values?.[i] ?? Number.NaN;
      return Number.isNaN(value) ? null : value;
    };
    const { mostEnded, firstTokens } = series;
    return { ended, mostEnded: told(mostEnded), firstTokens: told(firstTokens), waiting, running };
  });
}

/** Engines that were read in the newest of some intervals, or in the one before, where they are scraped seldom. */
function mostReadNow(courses: readonly EngineCourse[]): number {
  return courses.filter(({ readings }) => readings.slice(-2).some((reading) => reading !== null)).length;
}

/** Fewest intervals between two readings; null where there are too few of them to tell. */
function leastSpacing(readings: readonly (EngineReading | null)[]): number | null {
  const at = readings.flatMap((reading, i) => (reading === null ? [] : [i]));
  if (at.length < fewestReadings) return null;
  return Math.min(...at.slice(1).map((index, i) => index - at[i]!));
}

function boundOf(le: string): number | null {
  const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le);
  return le !== '' && bound > 0 ? bound : null;
}

/** The requests that ended, by both lengths, each in `partsOfRequest` parts. */
function bucketsOf({ input, output }: Answered): readonly TraceBucket[] {
  const requests = input.reduce((all, { counts }) => all + sumOf(counts), 0);
  return independentPairs(mixedLengths(input), mixedLengths(output)).flatMap((pair) => {
    const { inputTokens, share } = pair;
    const count = Math.round(requests * share * partsOfRequest);
    return count === 0 ? [] : [{ inputTokens, outputTokens: outputAside(pair), count }];
  });
}

/** The lengths of several histograms together, each by its requests. */
function mixedLengths(histograms: readonly LengthHistogram[]): readonly LengthShare[] {
  const total = histograms.reduce((all, { counts }) => all + sumOf(counts), 0);
  return histograms.flatMap((histogram) => {
    const part = sumOf(histogram.counts) / total;
    return lengthsOf(histogram).map(({ tokens, share }) => ({ tokens, share: share * part }));
  });
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((all, number) => all + number, 0);
}

/** Names that one sentence lists. */
const listedNames = 3;

function listed(names: readonly string[]): string {
  const rest = names.length - listedNames;
  return `${names.slice(0, listedNames).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/** One token in and one out would read back as a request of unknown length. */
function outputAside({ inputTokens, outputTokens }: Pick<LengthPair, 'inputTokens' | 'outputTokens'>): number {
  const index = (tokens: number) => Math.round(Math.log2(tokens) * largestPrecision);
  return index(inputTokens) > 0 ? outputTokens : Math.max(outputTokens, 2 ** (1 / largestPrecision));
}
