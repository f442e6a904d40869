import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/core/input-error.js';
import { mergeLengths } from '../../../src/profiling/imports/merge-lengths.js';
import { readBenchmark } from '../../../src/profiling/imports/read-benchmark.js';

/**
 * Documents in the shapes that other tools write, made by hand: each has the keys that are read, and some that are not.
 * Where the shapes come from stands at the readers.
 */
const vllm = {
  date: '20261101-101112',
  endpoint_type: 'vllm',
  backend: 'vllm',
  label: null,
  model_id: 'meta-llama/Llama-3.1-8B-Instruct',
  tokenizer_id: 'meta-llama/Llama-3.1-8B-Instruct',
  num_prompts: 200,
  request_rate: 4.0,
  burstiness: 1.0,
  max_concurrency: null,
  duration: 51.2,
  completed: 200,
  failed: 0,
  total_input_tokens: 204_800,
  total_output_tokens: 25_600,
  request_throughput: 3.9,
  request_goodput: null,
  output_throughput: 499.2,
  total_token_throughput: 4492.8,
  mean_ttft_ms: 120.5,
  median_ttft_ms: 101.0,
  std_ttft_ms: 40.0,
  p99_ttft_ms: 350.25,
  mean_tpot_ms: 20.0,
  median_tpot_ms: 19.5,
  std_tpot_ms: 1.0,
  p99_tpot_ms: 30.0,
  mean_itl_ms: 20.0,
  median_itl_ms: 19.0,
  std_itl_ms: 4.0,
  p99_itl_ms: 60.0,
};

const sglang = {
  backend: 'sglang',
  dataset_name: 'random',
  request_rate: 8,
  max_concurrency: null,
  duration: 30,
  completed: 240,
  total_input_tokens: 240 * 512,
  total_output_tokens: 240 * 64,
  request_throughput: 7.8,
  input_throughput: 3993.6,
  output_throughput: 499.2,
  mean_e2e_latency_ms: 1500,
  median_e2e_latency_ms: 1400,
  p90_e2e_latency_ms: 2000,
  p99_e2e_latency_ms: 2600,
  mean_ttft_ms: 90,
  median_ttft_ms: 80,
  p99_ttft_ms: 200,
  mean_tpot_ms: 22,
  median_tpot_ms: 21,
  p99_tpot_ms: 35,
};

const distribution = (mean: number, percentiles: Record<string, number> = {}) => ({
  successful: {
    mean,
    median: mean * 0.9,
    mode: mean,
    variance: 1,
    std_dev: 1,
    min: 0,
    max: mean * 3,
    count: 100,
    total_sum: mean * 100,
    percentiles: { p001: 0, p50: mean * 0.9, p75: mean, p90: mean * 2, p95: mean * 2.5, p99: mean * 3, ...percentiles },
  },
  incomplete: null,
  errored: null,
});

const guidellmRun = (strategy: Record<string, unknown>, rps: number) => ({
  type_: 'generative_benchmark',
  config: { id_: 'a', run_id: 'b', strategy, backend: { kind: 'openai_http', model: 'qwen3-8b' } },
  metrics: {
    request_totals: { successful: 100, incomplete: 2, errored: 0, total: 102 },
    requests_per_second: distribution(rps),
    request_concurrency: distribution(12),
    request_latency: distribution(2.5),
    prompt_token_count: distribution(1000),
    output_token_count: distribution(128),
    time_to_first_token_ms: distribution(200),
    time_per_output_token_ms: distribution(19.5),
    inter_token_latency_ms: distribution(18),
    output_tokens_per_second: distribution(rps * 128),
  },
});
const guidellm = {
  metadata: { version: 1, guidellm_version: '0.5.0' },
  args: { target: 'http://localhost:8000', model: 'another' },
  benchmarks: [
    guidellmRun({ type_: 'synchronous' }, 0.4),
    guidellmRun({ type_: 'throughput', max_concurrency: 512 }, 9),
    guidellmRun({ type_: 'poisson', rate: 2 }, 1.9),
    guidellmRun({ type_: 'concurrent', streams: 16 }, 6),
  ],
};

const nvidiaMetric = (unit: string, avg: number) => ({
  unit,
  avg,
  p25: avg * 0.8,
  p50: avg,
  p75: avg * 1.2,
  p90: avg * 1.5,
  p95: avg * 1.6,
  p99: avg * 2,
  min: 0,
  max: avg * 3,
  std: 1,
});
const genaiPerf = {
  request_throughput: { unit: 'requests/sec', avg: 3.2 },
  request_latency: nvidiaMetric('ms', 1800),
  request_count: { unit: 'count', avg: 100 },
  time_to_first_token: nvidiaMetric('ms', 150),
  time_to_second_token: nvidiaMetric('ms', 15),
  inter_token_latency: nvidiaMetric('ms', 13),
  output_token_throughput: { unit: 'tokens/sec', avg: 409.6 },
  output_sequence_length: nvidiaMetric('tokens', 128),
  input_sequence_length: nvidiaMetric('tokens', 550),
  input_config: {
    model_names: ['llama-3.1-8b'],
    perf_analyzer: { stimulus: { request_rate: 3.5 } },
    endpoint: { type: 'chat', streaming: true },
  },
};
const aiperf = {
  ...genaiPerf,
  inter_token_latency: nvidiaMetric('us', 13_000),
  input_config: {
    endpoint: { model_names: ['openai/gpt-oss-20b'], type: 'chat', streaming: true },
    loadgen: { concurrency: 8, request_rate_mode: 'concurrency_burst', request_count: 100 },
  },
  was_cancelled: false,
  error_request_count: null,
};

const read = (document: unknown, source = 'result.json') =>
  readBenchmark(typeof document === 'string' ? document : JSON.stringify(document), source);

function faultOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a result of `vllm bench serve`', () => {
  it('is one run: milliseconds become seconds, totals become lengths', () => {
    const { format, runs, notices } = read(vllm);
    expect(format).toBe('vllm');
    expect(notices).toEqual([]);
    expect(runs).toEqual([
      {
        place: 'result.json',
        model: 'meta-llama/Llama-3.1-8B-Instruct',
        inputTokens: 1024,
        outputTokens: 128,
        requestRate: 4,
        arrivals: 'rate',
        metrics: {
          TPUT: { row: 0, mean: 3.9, P50: null, P90: null, P95: null, P99: null },
          TT: { row: 0, mean: 499.2, P50: null, P90: null, P95: null, P99: null },
          TTFT: { row: 0, mean: 0.1205, P50: 0.101, P90: null, P95: null, P99: 0.35025 },
          TPOT: { row: 0, mean: 0.02, P50: 0.0195, P90: null, P95: null, P99: 0.03 },
          ITL: { row: 0, mean: 0.02, P50: 0.019, P90: null, P95: null, P99: 0.06 },
        },
        invalid: null,
        failures: null,
        aborted: null,
        method: 'measured',
      },
    ]);
  });

  it('may be one object a line (--append-result), or indented, with any percentiles', () => {
    const second = { ...vllm, request_rate: 8, p90_e2el_ms: 3000, mean_e2el_ms: 2500, 'p99.9_ttft_ms': 1 };
    const { runs } = read(`${JSON.stringify(vllm)}\n${JSON.stringify(second)}`);
    expect(runs.map((run) => run.requestRate)).toEqual([4, 8]);
    expect(runs[1]!.metrics.E2E).toMatchObject({ mean: 2.5, P90: 3, P99: null });
    expect(read(JSON.stringify(vllm, null, 2)).runs).toEqual(read(vllm).runs);
    expect(read([vllm, second]).runs).toHaveLength(2);
  });

  it('with every request (--save-detailed) has the percentiles that it does not state', () => {
    const ttfts = Array.from({ length: 101 }, (_, i) => i / 100);
    const itls = ttfts.map(() => [0.02, 0.02, 0.04]);
    const detailed = {
      ...vllm,
      ttfts: [...ttfts, 99],
      itls: [...itls, []],
      output_lens: [...ttfts.map(() => 5), 0],
      input_lens: [],
      errors: [...ttfts.map(() => ''), 'timed out'],
      generated_texts: [],
    };
    const { metrics } = read(detailed).runs[0]!;
    expect(metrics.TTFT).toMatchObject({ mean: 0.1205, P50: 0.101, P90: 0.9, P95: 0.95, P99: 0.35025 });
    expect(metrics.E2E!.P90).toBeCloseTo(0.98, 12);
    expect(metrics.E2E!.mean).toBeCloseTo(0.58, 12);
    // Five tokens, of which some came in one chunk: 0.08 s over the four after the first.
    expect(metrics.TPOT!.P95).toBeCloseTo(0.02, 12);
    expect(metrics.ITL!.P90).toBeCloseTo(0.04, 12);
  });

  it.each([
    ['inf', null, Number.POSITIVE_INFINITY, 'all_at_once'],
    ['inf', 32, 3.9, 'closed_loop'],
    [2, 32, 2, 'rate'],
  ] as const)('at rate %s with at most %s in flight offers %s/s', (request_rate, max_concurrency, rate, arrivals) => {
    const { runs, notices } = read({ ...vllm, request_rate, max_concurrency });
    expect(runs[0]).toMatchObject({ requestRate: rate, arrivals });
    expect(notices.map(({ kind }) => kind)).toEqual(arrivals === 'closed_loop' ? ['closed_loop'] : []);
  });

  it('of which many requests failed says so', () => {
    expect(read({ ...vllm, num_prompts: 300 }).runs[0]!.failures).toBe('100 of 300 requests failed');
    expect(read({ ...vllm, num_prompts: 201 }).runs[0]!.failures).toBeNull();
  });

  it('of SGLang is read as well, whose end-to-end latency has another name', () => {
    const { runs } = read(`${JSON.stringify(sglang).replace('"request_rate":8', '"request_rate":Infinity')}\n`);
    expect(runs[0]).toMatchObject({
      inputTokens: 512,
      outputTokens: 64,
      requestRate: Number.POSITIVE_INFINITY,
      metrics: { E2E: { mean: 1.5, P50: 1.4, P90: 2, P99: 2.6 }, TTFT: { mean: 0.09 }, TPOT: { P99: 0.035 } },
    });
  });

  it.each([
    ['no completed request', { completed: 0 }, 'completed: found 0, expected a number of requests above 0'],
    ['no throughput', { request_throughput: 0 }, 'request_throughput: found 0, expected requests/s above 0'],
    ['no output', { total_output_tokens: 0 }, 'total_output_tokens: found 0, expected the output tokens of all'],
    ['a text for a total', { total_input_tokens: 'x' }, 'total_input_tokens: found "x", expected the input tokens'],
  ])('with %s is refused', (_, overrides, message) => {
    expect(faultOf(() => read({ ...vllm, ...overrides }))).toContain(`result.json: ${message}`);
  });
});

describe('a report of GuideLLM', () => {
  it('is one run for each of its benchmarks, whose rate depends on the strategy', () => {
    const { format, runs, notices } = read(guidellm);
    expect(format).toBe('guidellm');
    expect(runs.map(({ requestRate, arrivals }) => [requestRate, arrivals])).toEqual([
      [0.4, 'closed_loop'],
      [Number.POSITIVE_INFINITY, 'all_at_once'],
      [2, 'rate'],
      [6, 'closed_loop'],
    ]);
    expect(runs[2]).toMatchObject({
      place: 'result.json: benchmarks[2]',
      model: 'qwen3-8b',
      inputTokens: 1000,
      outputTokens: 128,
      invalid: null,
      metrics: {
        TPUT: { mean: 1.9 },
        TT: { mean: 243.2 },
        E2E: { mean: 2.5, P50: 2.25, P90: 5, P95: 6.25, P99: 7.5 },
        TTFT: { mean: 0.2, P95: 0.5 },
        // Their time per output token has the first token in it; ours is their latency between tokens.
        TPOT: { mean: 0.018, P99: 0.054 },
      },
    });
    expect(notices.map(({ message }) => message)[0]).toMatch(/^2 of 4 runs had a fixed number of requests in flight/);
  });

  it('of another age has its strategy and model elsewhere', () => {
    const { config, ...old } = guidellmRun({}, 3);
    const document = {
      benchmarks: [{ ...old, args: { strategy: { type_: 'constant', rate: 3 } }, worker: { backend_model: 'phi' } }],
    };
    expect(read(document).runs[0]).toMatchObject({ requestRate: 3, model: 'phi' });
  });

  it('with errors in many requests, without lengths, or without benchmarks is not believed, or refused', () => {
    const failing = guidellmRun({ type_: 'poisson', rate: 2 }, 1.9);
    failing.metrics.request_totals.errored = 50;
    expect(read({ benchmarks: [failing] }).runs[0]!.failures).toBe('50 of 150 requests failed');
    const { prompt_token_count, ...metrics } = failing.metrics;
    expect(faultOf(() => read({ benchmarks: [failing, { ...failing, metrics }] }))).toContain(
      'result.json: benchmarks[1].metrics.prompt_token_count.successful.mean: found nothing, expected input tokens per request',
    );
    expect(faultOf(() => read({ benchmarks: [] }))).toContain('benchmarks: found [], expected at least one benchmark');
  });
});

describe('an export of GenAI-Perf and AIPerf', () => {
  it('is one run, in the units that it states', () => {
    const { format, runs } = read(genaiPerf);
    expect(format).toBe('nvidia');
    expect(runs[0]).toMatchObject({
      model: 'llama-3.1-8b',
      inputTokens: 550,
      outputTokens: 128,
      requestRate: 3.5,
      arrivals: 'rate',
      metrics: {
        TPUT: { mean: 3.2 },
        TT: { mean: 409.6 },
        E2E: { mean: 1.8, P95: 2.88, P99: 3.6 },
        TTFT: { mean: 0.15 },
        TPOT: { mean: 0.013 },
      },
    });
    const inMicroseconds = read(aiperf).runs[0]!;
    expect(inMicroseconds.metrics.TPOT!.mean).toBeCloseTo(0.013, 12);
    expect(inMicroseconds).toMatchObject({ model: 'openai/gpt-oss-20b', requestRate: 3.2, arrivals: 'closed_loop' });
  });

  it('of an older GenAI-Perf has flat settings', () => {
    const old = {
      ...genaiPerf,
      input_config: { model: ['gpt2'], concurrency: null, request_rate: 5, synthetic_input_tokens_mean: 550 },
    };
    expect(read(old).runs[0]).toMatchObject({ model: 'gpt2', requestRate: 5 });
    const { input_config, ...bare } = genaiPerf;
    expect(read(bare).runs[0]).toMatchObject({ model: null, requestRate: 3.2, arrivals: 'closed_loop' });
  });

  it.each([
    [
      'an unknown unit',
      { request_latency: { unit: 'fortnights', avg: 1 } },
      'request_latency.unit: found "fortnights"',
    ],
    ['no lengths', { input_sequence_length: null }, 'input_sequence_length.avg: found null, expected input tokens'],
    ['no throughput', { request_throughput: { unit: 'x' } }, 'request_throughput.avg: found {"unit":"x"}'],
  ])('with %s is refused', (_, overrides, message) => {
    expect(faultOf(() => read({ ...genaiPerf, ...overrides }))).toContain(`result.json: ${message}`);
  });
});

describe('what is no benchmark result', () => {
  it.each([
    ['an empty file', '', 'found an empty file, expected benchmark results: JSON lines of gpumix or AIBrix, vLLM'],
    ['blank lines', '\n \n', 'found an empty file'],
    ['a binary file', 'PK\u0003\u0004\0\0', 'found a binary file'],
    ['another document', '{"apiVersion":"gpumix/v1","kind":"Plan"}', 'found an object with keys "apiVersion", "kind"'],
    ['a profile', '{"gpu":"a100","tputs":[[1]]}', 'found an object with keys "gpu", "tputs"'],
    ['a number', '7', 'found 7'],
    ['a list of numbers', '[1,2]', '[0]: found 1'],
    [
      'a list of rows',
      '[{"input_tokens":4,"output_tokens":4,"metric":"TPUT"}]',
      'found rows in one list, expected JSON lines of gpumix or AIBrix: each row on a line of its own',
    ],
    [
      'a row over several lines',
      '{\n"metric":"TPUT"}',
      'found rows in a document of several lines, expected JSON lines',
    ],
    ['an empty list', '[]', 'found no object at all'],
    ['prose', 'Successful requests: 200', 'line 1, column 1: found "Successful", expected strict JSON'],
    ['a document that is cut off', '{\n  "request_throughput": 3,', 'found the end of the text'],
    [
      'two kinds in one file',
      `${JSON.stringify(vllm)}\n{"a":1}`,
      'result 2: found an object with keys "a", expected vLLM',
    ],
    ['rows of single requests', '{"request_id":1,"input_tokens":4,"output_tokens":4,"E2E":1}', 'line 1: request_rate'],
  ])('is refused: %s', (_, text, message) => {
    expect(faultOf(() => read(text))).toContain(message);
  });
});

describe('numbers that no benchmark gives', () => {
  it.each([
    [{ total_input_tokens: 5e-324 }, 'input tokens of a request: found 0, expected a number above 0'],
    [{ completed: 5e-324 }, 'input tokens of a request: found Infinity, expected a number above 0'],
    [{ request_throughput: 1e300 }, 'TPUT mean: found 1e+300, expected a number, 0 to 1000000000'],
    [{ mean_ttft_ms: 1e300 }, 'TTFT mean: found 1e+297, expected a number, 0 to 1000000000'],
  ])('are refused: %j', (change, message) => {
    expect(faultOf(() => read({ ...vllm, ...change }))).toContain(message);
  });
});

describe('lengths that were measured', () => {
  it('are one cell where they differ by less than a twentieth', () => {
    const runs = [
      [1019.7, 128],
      [1023.4, 127.6],
      [1024, 128],
      [2048, 60.2],
    ].map(([input, output]) => ({
      ...read(vllm).runs[0]!,
      inputTokens: input!,
      outputTokens: output!,
    }));
    const merged = mergeLengths(runs);
    expect(merged.runs.map((run) => [run.inputTokens, run.outputTokens])).toEqual([
      [1023, 128],
      [1023, 128],
      [1023, 128],
      [2048, 60],
    ]);
    expect(merged.notices.map(({ message }) => message)).toEqual([
      'lengths that differ by less than 5 % are one cell: 1019.7 to 1024 input tokens as 1023',
    ]);
  });
});

describe('the readers', () => {
  it('throw nothing but InputError, and give no number that is none, whatever stands in whichever place', () => {
    const documents = [vllm, sglang, guidellm, genaiPerf, aiperf];
    const odd = fc.oneof(fc.jsonValue(), fc.constantFrom(-1, 0, 5e-324, 1e300, 'inf', null, [], {}));
    let accepted = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...documents),
        fc.array(fc.tuple(fc.nat(200), odd), { minLength: 1, maxLength: 3 }),
        (document, changes) => {
          const copy = structuredClone(document) as Record<string, unknown>;
          for (const [place, value] of changes) replaceLeaf(copy, place, value);
          try {
            const { runs } = read(copy);
            accepted += 1;
            for (const run of mergeLengths(runs).runs) {
              expect(Number.isFinite(run.inputTokens) && run.inputTokens > 0).toBe(true);
              expect(Number.isFinite(run.outputTokens) && run.outputTokens > 0).toBe(true);
              expect(run.requestRate > 0).toBe(true);
              for (const metric of Object.values(run.metrics)) {
                for (const number of Object.values(metric)) {
                  expect(number === null || (Number.isFinite(number) && number >= 0)).toBe(true);
                }
              }
            }
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(accepted).toBeGreaterThan(300);
  });

  it('throw nothing but InputError for any text', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.string(),
          fc.array(fc.json()).map((lines) => lines.join('\n')),
        ),
        (text) => {
          try {
            read(text);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

/** Replaces the n-th value inside a document, counted round and round. */
function replaceLeaf(document: Record<string, unknown>, n: number, value: unknown): void {
  const places: [Record<string, unknown>, string][] = [];
  const visit = (node: unknown): void => {
    if (node === null || typeof node !== 'object') return;
    for (const key of Object.keys(node)) {
      places.push([node as Record<string, unknown>, key]);
      visit((node as Record<string, unknown>)[key]);
    }
  };
  visit(document);
  const [node, key] = places[n % places.length]!;
  node[key] = value;
}
