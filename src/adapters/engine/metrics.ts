import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { blockTokens } from '../../core/gpu-memory.js';
import type { ReplicaLoad } from '../../simulation/replica.js';

/**
 * vLLM's Prometheus metrics of a simulated engine: names, labels and buckets are those of vLLM's V1 engine.
 *
 * Source: vLLM's documentation, "Production metrics" (docs.vllm.ai, usage/metrics), and its design page on metrics. Both
 * generations of two names are there, as in the releases between: `kv_cache_usage_perc` was `gpu_cache_usage_perc`, and
 * `inter_token_latency_seconds` was `time_per_output_token_seconds`. Times are those that a client of this engine sees:
 * at `--speed 10` a tenth of the replica's.
 */

const latencyBuckets = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
const firstTokenBuckets = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const tokenGapBuckets = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];

/** 1, 2, 5, 10, … up to the longest request. */
function tokenCountBuckets(maxTokens: number): number[] {
  const buckets: number[] = [];
  for (let decade = 1; decade <= maxTokens; decade *= 10) {
    for (const digit of [1, 2, 5]) if (digit * decade <= maxTokens) buckets.push(digit * decade);
  }
  return buckets;
}

/** Why requests ended, as vLLM's label says it. */
const finishReasons = ['stop', 'length', 'abort', 'error'] as const;

export type EngineMetricsOptions = {
  readonly modelName: string;
  readonly maxModelTokens: number;
  /** Null where nothing is simulated. */
  readonly kvCacheTokens: number | null;
  readonly load: () => ReplicaLoad;
};

const labelNames = ['model_name', 'engine'];

/** Collects what the engine does. One registry of its own each. */
export class EngineMetrics {
  readonly #registry = new Registry();
  readonly #promptTokens: Counter.Internal;
  readonly #generationTokens: Counter.Internal;
  readonly #firstToken: Histogram.Internal<string>;
  readonly #tokenGaps: readonly Histogram.Internal<string>[];
  readonly #meanTokenGap: Histogram.Internal<string>;
  readonly #endToEnd: Histogram.Internal<string>;
  readonly #requestPromptTokens: Histogram.Internal<string>;
  readonly #requestGenerationTokens: Histogram.Internal<string>;
  readonly #requestMaxTokens: Histogram.Internal<string>;
  readonly #finished: Readonly<Record<(typeof finishReasons)[number], Counter.Internal>>;

  constructor({ modelName, maxModelTokens, kvCacheTokens, load }: EngineMetricsOptions) {
    const registers = [this.#registry];
    const labels = [modelName, '0'] as const;
    const gauge = (name: string, help: string, value: (load: ReplicaLoad) => number): void => {
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        collect() {
          this.labels(...labels).set(value(load()));
        },
      });
    };
    const counter = (name: string, help: string): Counter.Internal => {
      const made = new Counter({ name, help, labelNames, registers }).labels(...labels);
      made.inc(0);
      return made;
    };
    const histogram = (name: string, help: string, buckets: number[]): Histogram.Internal<string> => {
      const made = new Histogram({ name, help, labelNames, registers, buckets });
      made.zero({ model_name: modelName, engine: '0' });
      return made.labels(...labels);
    };

    gauge('vllm:num_requests_running', 'Requests in the batch that runs.', ({ running }) => running);
    gauge('vllm:num_requests_waiting', 'Requests that wait to be run.', ({ waiting }) => waiting);
    const used = 'Used part of the KV cache, 1 is all of it.';
    gauge('vllm:kv_cache_usage_perc', used, ({ kvCacheUsed }) => kvCacheUsed);
    gauge('vllm:gpu_cache_usage_perc', `${used} Earlier name.`, ({ kvCacheUsed }) => kvCacheUsed);
    let preempted = 0;
    new Counter({
      name: 'vllm:num_preemptions_total',
      help: 'Times that a running request had to give its cache back.',
      labelNames,
      registers,
      collect() {
        const { preemptions } = load();
        this.labels(...labels).inc(preemptions - preempted);
        preempted = preemptions;
      },
    });
    this.#promptTokens = counter('vllm:prompt_tokens_total', 'Prompt tokens computed.');
    this.#generationTokens = counter('vllm:generation_tokens_total', 'Tokens produced.');
    this.#firstToken = histogram('vllm:time_to_first_token_seconds', 'Time to first token.', firstTokenBuckets);
    this.#tokenGaps = [
      histogram('vllm:inter_token_latency_seconds', 'Time between two tokens of a request.', tokenGapBuckets),
      histogram('vllm:time_per_output_token_seconds', 'The same, by its earlier name.', tokenGapBuckets),
    ];
    this.#meanTokenGap = histogram(
      'vllm:request_time_per_output_token_seconds',
      'Mean time per output token of each finished request, without its first.',
      tokenGapBuckets,
    );
    this.#endToEnd = histogram('vllm:e2e_request_latency_seconds', 'Arrival to last token.', latencyBuckets);
    const counts = tokenCountBuckets(maxModelTokens);
    this.#requestPromptTokens = histogram('vllm:request_prompt_tokens', 'Prompt tokens of a request.', counts);
    this.#requestGenerationTokens = histogram('vllm:request_generation_tokens', 'Tokens of an answer.', counts);
    this.#requestMaxTokens = histogram('vllm:request_params_max_tokens', 'max_tokens of a request.', counts);
    const finished = new Counter({
      name: 'vllm:request_success_total',
      help: 'Requests that ended, by why.',
      labelNames: [...labelNames, 'finished_reason'],
      registers,
    });
    const reason = (name: (typeof finishReasons)[number]): Counter.Internal => {
      const made = finished.labels(...labels, name);
      made.inc(0);
      return made;
    };
    this.#finished = {
      stop: reason('stop'),
      length: reason('length'),
      abort: reason('abort'),
      error: reason('error'),
    };
    if (kvCacheTokens !== null) {
      new Gauge({
        name: 'vllm:cache_config_info',
        help: 'The KV cache, as labels.',
        labelNames: ['engine', 'block_size', 'num_gpu_blocks'],
        registers,
      })
        .labels('0', String(blockTokens), String(Math.floor(kvCacheTokens / blockTokens)))
        .set(1);
    }
  }

  firstToken(seconds: number, promptTokens: number): void {
    this.#promptTokens.inc(promptTokens);
    this.#generationTokens.inc();
    this.#firstToken.observe(seconds);
  }

  laterToken(secondsSinceLast: number): void {
    this.#generationTokens.inc();
    for (const histogram of this.#tokenGaps) histogram.observe(secondsSinceLast);
  }

  finished(request: {
    readonly reason: 'stop' | 'length';
    readonly seconds: number;
    readonly firstTokenSeconds: number;
    readonly promptTokens: number;
    readonly outputTokens: number;
    readonly maxTokens: number;
  }): void {
    const { reason, seconds, firstTokenSeconds, outputTokens } = request;
    this.#finished[reason].inc();
    this.#endToEnd.observe(seconds);
    if (outputTokens > 1) this.#meanTokenGap.observe((seconds - firstTokenSeconds) / (outputTokens - 1));
    this.#requestPromptTokens.observe(request.promptTokens);
    this.#requestGenerationTokens.observe(outputTokens);
    this.#requestMaxTokens.observe(request.maxTokens);
  }

  /** A request that ended without its answer: its client went, or the engine failed it. */
  ended(reason: 'abort' | 'error'): void {
    this.#finished[reason].inc();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The Prometheus text. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
