import { InputError, quoteInput } from '../../core/input-error.js';
import { type BenchmarkRun, type MetricName, type MetricSummary, tooManyFailures } from '../benchmark-row.js';
import {
  at,
  firstOf,
  inSeconds,
  isKnown,
  isObject,
  type JsonObject,
  meanOnly,
  needed,
  numberAt,
  textAt,
} from './fields.js';

/**
 * Results of NVIDIA's GenAI-Perf (`profile_export_genai_perf.json`) and of AIPerf, which follows it
 * (`profile_export_aiperf.json`): one run a file, each metric an object with its `unit`, `avg` and percentiles.
 *
 * Units are read from the file. Their `inter_token_latency` is (latency − time to first token) / (tokens − 1) of a
 * request: our TPOT. Sources:
 * https://github.com/triton-inference-server/perf_analyzer/blob/main/genai-perf/genai_perf/export_data/json_exporter.py and
 * https://github.com/ai-dynamo/aiperf/blob/main/docs/tutorials/working-with-profile-exports.md
 */
export function isNvidiaPerf(document: JsonObject): boolean {
  return isObject(document.request_throughput) && isObject(document.request_latency);
}

/** How many of a unit of time are a second, by the spellings that the two tools use. */
const unitsPerSecond: Readonly<Record<string, number>> = {
  ns: 1e9,
  nanoseconds: 1e9,
  us: 1e6,
  microseconds: 1e6,
  ms: 1000,
  milliseconds: 1000,
  s: 1,
  sec: 1,
  seconds: 1,
};

/** Where request rate and concurrency stand in `input_config`, by version: its shape is not promised to be stable. */
const loadPaths: readonly (readonly string[])[] = [['loadgen'], ['perf_analyzer', 'stimulus'], ['stimulus'], []];

/** @throws InputError where a unit is not known, or the file says nothing of lengths or throughput */
export function readNvidiaPerf(
  document: JsonObject,
  options: { readonly source: string; readonly row: number },
): BenchmarkRun {
  const { source, row } = options;
  const average = (key: string, expected: string): number =>
    needed(numberAt(document, key, 'avg'), { source, place: `${key}.avg`, found: at(document, key), expected });
  const rps = average('request_throughput', 'requests/s above 0');
  const firstLength = (keys: readonly string[], expected: string): number => {
    const key = keys.find((name) => document[name] !== undefined && document[name] !== null) ?? keys[0]!;
    return average(key, expected);
  };
  const metrics: Partial<Record<MetricName, MetricSummary>> = {
    TPUT: meanOnly(rps, row),
    TT: meanOnly(numberAt(document, 'output_token_throughput', 'avg'), row),
  };
  const times: readonly [MetricName, string][] = [
    ['E2E', 'request_latency'],
    ['TTFT', 'time_to_first_token'],
    ['TPOT', 'inter_token_latency'],
    ['ITL', 'inter_token_latency'],
  ];
  for (const [metric, key] of times) {
    const statistics = document[key];
    if (!isObject(statistics)) continue;
    const summary = {
      row,
      mean: numberAt(statistics, 'avg'),
      P50: numberAt(statistics, 'p50'),
      P90: numberAt(statistics, 'p90'),
      P95: numberAt(statistics, 'p95'),
      P99: numberAt(statistics, 'p99'),
    };
    if (isKnown(summary)) metrics[metric] = inSeconds(summary, perSecondOf({ statistics, key, source }));
  }
  const config = document.input_config;
  const load = (key: string): number | null =>
    firstOf(...loadPaths.map((path) => numberAt(config, ...path, key))) ?? deepNumber(config, key);
  const rate = load('request_rate');
  const hasRate = rate !== null && rate > 0;
  const errors =
    firstOf(numberAt(document, 'error_request_count', 'avg'), numberAt(document, 'error_request_count')) ?? 0;
  const completed = numberAt(document, 'request_count', 'avg') ?? 0;
  return {
    place: source,
    model: modelOf(config),
    inputTokens: firstLength(['input_sequence_length', 'num_input_token'], 'input tokens per request, above 0'),
    outputTokens: firstLength(
      ['output_sequence_length', 'num_output_token', 'output_token_count'],
      'output tokens per request, above 0',
    ),
    requestRate: hasRate ? rate : rps,
    arrivals: hasRate ? 'rate' : 'closed_loop',
    metrics,
    invalid: null,
    failures: tooManyFailures(errors, errors + completed),
    // A run that a person stopped is as good as it is long; it did not stop because its rate was too high.
    aborted: null,
    method: 'measured',
  };
}

function perSecondOf(options: {
  readonly statistics: JsonObject;
  readonly key: string;
  readonly source: string;
}): number {
  const { statistics, key, source } = options;
  const unit = textAt(statistics, 'unit')?.toLowerCase() ?? '';
  const perSecond = Object.hasOwn(unitsPerSecond, unit) ? unitsPerSecond[unit] : undefined;
  if (perSecond !== undefined) return perSecond;
  throw new InputError(source, [
    { place: `${key}.unit`, found: quoteInput(statistics.unit), expected: 'a unit of time: ms, s, us, ns' },
  ]);
}

function modelOf(config: unknown): string | null {
  const names = firstOf<unknown>(
    at(config, 'endpoint', 'model_names') ?? null,
    at(config, 'model_names') ?? null,
    at(config, 'model') ?? null,
    at(config, 'models') ?? null,
  );
  const first: unknown = Array.isArray(names) ? names[0] : names;
  if (typeof first === 'string' && first !== '') return first;
  return textAt(first, 'name');
}

/** Deepest nesting of a configuration that is searched. */
const searchedDepth = 6;

/** The first number under a key anywhere inside; null where there is none. */
function deepNumber(value: unknown, key: string, depth = 0): number | null {
  if (depth > searchedDepth || value === null || typeof value !== 'object') return null;
  const own = numberAt(value, key);
  if (own !== null) return own;
  for (const inner of Object.values(value)) {
    const found = deepNumber(inner, key, depth + 1);
    if (found !== null) return found;
  }
  return null;
}
