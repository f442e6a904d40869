import { InputError } from '../../core/input-error.js';
import { type BenchmarkRun, type MetricName, type MetricSummary, tooManyFailures } from '../benchmark-row.js';
import { at, firstOf, inSeconds, isKnown, type JsonObject, meanOnly, needed, numberAt, textAt } from './fields.js';

/**
 * Reports of GuideLLM (`benchmarks.json`), whose `benchmarks` are one run each: strategies `constant` and `poisson` have
 * a rate, `concurrent` and `synchronous` are closed loops, `throughput` sends all at once.
 *
 * Each metric is a distribution per outcome (`successful`, `errored`, …). `request_latency` is in seconds, what ends in
 * `_ms` in milliseconds. GuideLLM's `time_per_output_token_ms` counts the wait for the first token too; our TPOT (vLLM's,
 * AIBrix's) is its `inter_token_latency_ms`. Source:
 * https://github.com/vllm-project/guidellm/blob/main/src/guidellm/benchmark/schemas/generative/metrics.py
 */
export function isGuideLlm(document: JsonObject): boolean {
  const { benchmarks } = document;
  return Array.isArray(benchmarks) && (benchmarks.length === 0 || at(benchmarks[0], 'metrics') !== undefined);
}

const milliseconds = 1000;

/** @throws InputError that names the benchmark which says nothing of lengths or throughput */
export function readGuideLlm(
  document: JsonObject,
  options: { readonly source: string; readonly row: number },
): readonly BenchmarkRun[] {
  const { source, row } = options;
  const benchmarks = document.benchmarks as readonly unknown[];
  if (benchmarks.length === 0) {
    throw new InputError(source, [{ place: 'benchmarks', found: '[]', expected: 'at least one benchmark' }]);
  }
  return benchmarks.map((benchmark, i) => readBenchmark(benchmark, { document, source, index: i, row: row + i }));
}

function readBenchmark(
  benchmark: unknown,
  options: { readonly document: JsonObject; readonly source: string; readonly index: number; readonly row: number },
): BenchmarkRun {
  const { document, source, index, row } = options;
  const place = `benchmarks[${index}].metrics`;
  const metricsOf = at(benchmark, 'metrics');
  const mean = (metric: string): number | null => numberAt(metricsOf, metric, 'successful', 'mean');
  const ofMetric = (metric: string, expected: string): number =>
    needed(mean(metric), {
      source,
      place: `${place}.${metric}.successful.mean`,
      found: at(metricsOf, metric),
      expected,
    });
  const rps = ofMetric('requests_per_second', 'requests/s above 0');
  const summary = (metric: string, factor: number): MetricSummary => {
    const statistics = at(metricsOf, metric, 'successful');
    const percentile = (name: string): number | null =>
      firstOf(numberAt(statistics, 'percentiles', name), numberAt(statistics, name));
    return inSeconds(
      {
        row,
        mean: numberAt(statistics, 'mean'),
        P50: firstOf(percentile('p50'), numberAt(statistics, 'median')),
        P90: percentile('p90'),
        P95: percentile('p95'),
        P99: percentile('p99'),
      },
      factor,
    );
  };
  const metrics: Partial<Record<MetricName, MetricSummary>> = {
    TPUT: meanOnly(rps, row),
    TT: meanOnly(mean('output_tokens_per_second'), row),
  };
  const times: readonly [MetricName, MetricSummary][] = [
    ['E2E', summary('request_latency', 1)],
    ['TTFT', summary('time_to_first_token_ms', milliseconds)],
    ['TPOT', summary('inter_token_latency_ms', milliseconds)],
    ['ITL', summary('inter_token_latency_ms', milliseconds)],
  ];
  for (const [metric, values] of times) if (isKnown(values)) metrics[metric] = values;

  const strategy = firstOf(
    at(benchmark, 'config', 'strategy') ?? null,
    at(benchmark, 'args', 'strategy') ?? null,
    at(benchmark, 'scheduler', 'strategy') ?? null,
  );
  const kind = firstOf(textAt(strategy, 'type_'), textAt(strategy, 'kind'), textAt(strategy, 'type')) ?? '';
  const rate = firstOf(numberAt(strategy, 'rate'), numberAt(benchmark, 'config', 'rate'));
  const hasRate = rate !== null && rate > 0 && kind !== 'throughput' && kind !== 'concurrent';
  const isAllAtOnce = kind === 'throughput';
  const totals = at(metricsOf, 'request_totals');
  const failed = numberAt(totals, 'errored') ?? 0;
  return {
    place: `${source}: benchmarks[${index}]`,
    model: firstOf(
      textAt(benchmark, 'config', 'backend', 'model'),
      textAt(benchmark, 'worker', 'backend_model'),
      textAt(document, 'args', 'model'),
      textAt(document, 'config', 'backend', 'model'),
      textAt(document, 'config', 'model'),
    ),
    inputTokens: ofMetric('prompt_token_count', 'input tokens per request, above 0'),
    outputTokens: ofMetric('output_token_count', 'output tokens per request, above 0'),
    requestRate: hasRate ? rate : isAllAtOnce ? Number.POSITIVE_INFINITY : rps,
    arrivals: hasRate ? 'rate' : isAllAtOnce ? 'all_at_once' : 'closed_loop',
    metrics,
    invalid: null,
    failures: tooManyFailures(failed, failed + (numberAt(totals, 'successful') ?? 0)),
    aborted: null,
    method: 'measured',
  };
}
