import type { PrometheusDemandSettings } from '../../src/adapters/prometheus-demand.js';

/**
 * What Prometheus holds of scripted engines: their counters at each scrape, as OpenMetrics text with times. The truth is the
 * list of requests; names, labels and buckets are those of vLLM's V1 engine.
 */

/** Reads such a history: everything but the server's address. */
export const historySettings: Omit<PrometheusDemandSettings, 'url'> = {
  bearerTokenFile: null,
  ca: null,
  timeoutMs: 20_000,
  intervalSeconds: 30,
  delaySeconds: 5,
  modelLabel: 'model_name',
  namespaceLabel: 'namespace',
  podLabel: 'pod',
  namespaces: [],
  labels: {},
  models: new Map(),
};

export type ScriptedRequest = {
  /** Seconds of the history, also below. */
  readonly arrivalS: number;
  readonly firstTokenS: number;
  readonly endS: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Its client goes at `endS`: vLLM's V1 engine counts it nowhere. */
  readonly isAborted?: boolean;
};

export type ScriptedEngine = {
  readonly pod: string;
  readonly namespace?: string;
  readonly model: string;
  readonly requests: readonly ScriptedRequest[];
  /** It is a target in [fromS, toS). */
  readonly fromS?: number;
  readonly toS?: number;
  readonly scrapeEveryS?: number;
  readonly scrapeOffsetS?: number;
  /** Moments at which its process starts again, with counters of zero. */
  readonly restartsS?: readonly number[];
  /** Whether the scrape at a moment fails. */
  readonly failsAt?: (seconds: number) => boolean;
  /** Nothing was scraped at all at a moment: Prometheus itself was away. */
  readonly isDark?: (seconds: number) => boolean;
  readonly maxModelTokens?: number;
  /** Jobs that scrape it; two count the same. */
  readonly jobs?: readonly string[];
  /** Further labels of its series. */
  readonly labels?: Readonly<Record<string, string>>;
};

/** 1, 2, 5, 10 … up to the longest request. */
function bucketBounds(maxTokens: number): readonly number[] {
  const bounds: number[] = [];
  for (let decade = 1; decade <= maxTokens; decade *= 10) {
    for (const digit of [1, 2, 5]) if (digit * decade <= maxTokens) bounds.push(digit * decade);
  }
  return bounds;
}

/** @param startSeconds Unix time at which the history's seconds begin */
export function engineHistory(
  engines: readonly ScriptedEngine[],
  { startSeconds, durationS }: { readonly startSeconds: number; readonly durationS: number },
): string {
  const lines: string[] = [];
  for (const engine of engines) {
    for (const job of engine.jobs ?? ['engines']) writeEngine(engine, { job, startSeconds, durationS, lines });
  }
  return `${lines.join('\n')}\n# EOF\n`;
}

function writeEngine(
  engine: ScriptedEngine,
  to: { readonly job: string; readonly startSeconds: number; readonly durationS: number; readonly lines: string[] },
): void {
  const { pod, namespace = 'default', model, requests, scrapeEveryS = 10, scrapeOffsetS = 3 } = engine;
  const { fromS = 0, toS = Number.POSITIVE_INFINITY, restartsS = [], maxModelTokens = 4096 } = engine;
  const target = { job: to.job, instance: `${namespace}-${pod}:8000`, namespace, pod, ...engine.labels };
  const bounds = bucketBounds(maxModelTokens);
  for (let t = scrapeOffsetS; t < to.durationS; t += scrapeEveryS) {
    if (t < fromS || t >= toS || (engine.isDark?.(t) ?? false)) continue;
    const at = (to.startSeconds + t).toFixed(3);
    const put = (name: string, labels: Readonly<Record<string, string>>, value: number) => {
      const text = Object.entries({ ...target, ...labels }).map(([key, one]) => `${key}=${JSON.stringify(one)}`);
      to.lines.push(`${name}{${text.join(',')}} ${value} ${at}`);
    };
    const fails = engine.failsAt?.(t) ?? false;
    put('up', {}, fails ? 0 : 1);
    if (fails) continue;
    const since = Math.max(Number.NEGATIVE_INFINITY, ...restartsS.filter((restart) => restart <= t));
    const seen = requests.filter(({ arrivalS }) => arrivalS > since && arrivalS <= t);
    const ended = seen.filter(({ endS, isAborted = false }) => endS <= t && !isAborted);
    const inside = seen.filter(({ endS }) => endS > t);
    const waiting = inside.filter(({ firstTokenS }) => firstTokenS > t).length;
    const labels = { model_name: model, engine: '0' };
    const firstTokens = seen.filter(({ firstTokenS, endS }) => firstTokenS <= t && firstTokenS <= endS).length;
    put('vllm:num_requests_waiting', labels, waiting);
    put('vllm:num_requests_running', labels, inside.length - waiting);
    put('vllm:time_to_first_token_seconds_count', labels, firstTokens);
    put('vllm:request_success_total', { ...labels, finished_reason: 'stop' }, Math.ceil(ended.length / 2));
    put('vllm:request_success_total', { ...labels, finished_reason: 'length' }, Math.floor(ended.length / 2));
    put('vllm:request_success_total', { ...labels, finished_reason: 'abort' }, 0);
    for (const [name, tokensOf] of [
      ['vllm:request_prompt_tokens', (request: ScriptedRequest) => request.inputTokens],
      ['vllm:request_generation_tokens', (request: ScriptedRequest) => request.outputTokens],
    ] as const) {
      const lengths = ended.map(tokensOf);
      for (const bound of bounds) {
        put(`${name}_bucket`, { ...labels, le: bound.toFixed(1) }, lengths.filter((tokens) => tokens <= bound).length);
      }
      put(`${name}_bucket`, { ...labels, le: '+Inf' }, lengths.length);
      put(
        `${name}_sum`,
        labels,
        lengths.reduce((all, tokens) => all + tokens, 0),
      );
      put(`${name}_count`, labels, lengths.length);
    }
  }
}

/** Requests that arrive evenly, in (fromS, toS]. */
export function steadyRequests(options: {
  readonly rps: number;
  readonly fromS: number;
  readonly toS: number;
  readonly inputTokens?: number | ((index: number) => number);
  readonly outputTokens?: number | ((index: number) => number);
  readonly seconds?: number;
  readonly isAborted?: (index: number) => boolean;
}): readonly ScriptedRequest[] {
  const { rps, fromS, toS, inputTokens = 700, outputTokens = 130, seconds = 4 } = options;
  const of = (value: number | ((index: number) => number), index: number) =>
    typeof value === 'number' ? value : value(index);
  return Array.from({ length: Math.floor((toS - fromS) * rps) }, (_, index) => {
    const arrivalS = fromS + (index + 0.5) / rps;
    return {
      arrivalS,
      firstTokenS: arrivalS + 0.5,
      endS: arrivalS + seconds,
      inputTokens: of(inputTokens, index),
      outputTokens: of(outputTokens, index),
      isAborted: options.isAborted?.(index) ?? false,
    };
  });
}
