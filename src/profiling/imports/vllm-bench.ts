import { type BenchmarkRun, type MetricName, type MetricSummary, tooManyFailures } from '../benchmark-row.js';
import { summarise } from '../summary.js';
import { firstOf, inSeconds, isKnown, type JsonObject, meanOnly, needed, numberAt, textAt } from './fields.js';

/**
 * Results of `vllm bench serve --save-result` (and `--append-result`, one such object a line), and of SGLang's
 * `bench_serving`, which grew out of the same script and names its end-to-end latency differently.
 *
 * Times are in milliseconds. `request_rate` "inf" with `max_concurrency` is a closed loop. Percentiles are those of
 * `--metric-percentiles` (P99 alone by default); where the file holds every request (`--save-detailed`) the others are
 * computed from them. Source: https://github.com/vllm-project/vllm/blob/main/vllm/benchmarks/serve.py and
 * https://github.com/sgl-project/sglang/blob/main/python/sglang/bench_serving.py
 */
export function isVllmBench(document: JsonObject): boolean {
  return 'request_throughput' in document && 'total_input_tokens' in document && 'completed' in document;
}

const milliseconds = 1000;

/** @throws InputError where the file says nothing of lengths or throughput */
export function readVllmBench(
  document: JsonObject,
  options: { readonly source: string; readonly row: number },
): BenchmarkRun {
  const { source, row } = options;
  const completed = numberAt(document, 'completed');
  const place = 'completed';
  const requests = needed(completed, {
    source,
    place,
    found: document.completed,
    expected: 'a number of requests above 0',
  });
  const length = (key: string, perRequest: string): number => {
    const total = needed(numberAt(document, key), {
      source,
      place: key,
      found: document[key],
      expected: `the ${perRequest} tokens of all completed requests`,
    });
    return total / requests;
  };
  const rps = needed(numberAt(document, 'request_throughput'), {
    source,
    place: 'request_throughput',
    found: document.request_throughput,
    expected: 'requests/s above 0',
  });
  const metrics: Partial<Record<MetricName, MetricSummary>> = {
    TPUT: meanOnly(rps, row),
    TT: meanOnly(firstOf(numberAt(document, 'output_throughput'), numberAt(document, 'output_token_throughput')), row),
  };
  const perRequest = detailed(document);
  const names: readonly [MetricName, readonly string[]][] = [
    ['E2E', ['e2el', 'e2e_latency']],
    ['TTFT', ['ttft']],
    ['TPOT', ['tpot']],
    ['ITL', ['itl']],
  ];
  for (const [metric, spellings] of names) {
    const statistic = (prefix: string): number | null =>
      firstOf(...spellings.map((spelling) => numberAt(document, `${prefix}_${spelling}_ms`)));
    const stated = inSeconds(
      {
        row,
        mean: statistic('mean'),
        P50: firstOf(statistic('p50'), statistic('median')),
        P90: statistic('p90'),
        P95: statistic('p95'),
        P99: statistic('p99'),
      },
      milliseconds,
    );
    const values = perRequest?.[metric] ?? [];
    const summary = completedFrom(stated, values);
    if (isKnown(summary)) metrics[metric] = summary;
  }
  const failed = Math.max(0, (numberAt(document, 'num_prompts') ?? requests) - requests);
  const rate = numberAt(document, 'request_rate');
  const isClosedLoop = numberAt(document, 'max_concurrency') !== null;
  return {
    place: source,
    model: firstOf(textAt(document, 'model_id'), textAt(document, 'model'), textAt(document, 'model_name')),
    inputTokens: length('total_input_tokens', 'input'),
    outputTokens: length('total_output_tokens', 'output'),
    requestRate: rate !== null && rate > 0 ? rate : isClosedLoop ? rps : Number.POSITIVE_INFINITY,
    arrivals: rate !== null && rate > 0 ? 'rate' : isClosedLoop ? 'closed_loop' : 'all_at_once',
    metrics,
    invalid: null,
    failures: tooManyFailures(failed, failed + requests),
    aborted: null,
    method: 'measured',
  };
}

type PerRequest = Readonly<Partial<Record<MetricName, readonly number[]>>>;

/** Latencies of single successful requests [s], where the file holds them; null where it does not. */
function detailed(document: JsonObject): PerRequest | null {
  const { ttfts, itls, errors, output_lens: lengths } = document;
  if (!isNumbers(ttfts) || !Array.isArray(itls) || itls.length !== ttfts.length) return null;
  const E2E: number[] = [];
  const TTFT: number[] = [];
  const TPOT: number[] = [];
  const ITL: number[] = [];
  for (const [i, ttft] of ttfts.entries()) {
    const gaps: unknown = itls[i];
    const hasFailed = Array.isArray(errors) && typeof errors[i] === 'string' && errors[i] !== '';
    if (hasFailed || !isNumbers(gaps)) continue;
    const decoding = gaps.reduce((sum, gap) => sum + gap, 0);
    const stated: unknown = Array.isArray(lengths) ? lengths[i] : undefined;
    // A chunk may hold several tokens: the length counts, not the gaps.
    const tokens = typeof stated === 'number' ? stated : gaps.length + 1;
    TTFT.push(ttft);
    E2E.push(ttft + decoding);
    if (tokens > 1) TPOT.push(decoding / (tokens - 1));
    ITL.push(...gaps);
  }
  return { E2E, TTFT, TPOT, ITL };
}

function isNumbers(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number' && Number.isFinite(item) && item >= 0);
}

/** A summary with what it does not state computed from single values. */
function completedFrom(stated: MetricSummary, values: readonly number[]): MetricSummary {
  const computed = summarise(values);
  if (computed === null) return stated;
  return {
    row: stated.row,
    mean: stated.mean ?? computed.mean,
    P50: stated.P50 ?? computed.p50,
    P90: stated.P90 ?? computed.p90,
    P95: stated.P95 ?? computed.p95,
    P99: stated.P99 ?? computed.p99,
  };
}
