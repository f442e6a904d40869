import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { NullBackend } from '../../../src/adapters/engine/backend.js';
import { noFaults } from '../../../src/adapters/engine/faults.js';
import { EngineServer } from '../../../src/adapters/engine/server.js';
import { countTokens, tokenize } from '../../../src/adapters/engine/tokenizer.js';
import {
  post,
  readStream,
  samplesOf,
  startTestEngine,
  TestClock,
  type TestEngine,
  textOf,
  type Usage,
  until,
} from './test-engine.js';

const running: TestEngine[] = [];
async function engine(overrides: Parameters<typeof startTestEngine>[0] = {}): Promise<TestEngine> {
  const started = await startTestEngine(overrides);
  running.push(started);
  return started;
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop()));
});

const completions = '/v1/completions';
const chats = '/v1/chat/completions';
type Answered = {
  readonly choices: readonly [{ readonly text: string; readonly finish_reason: string }];
  readonly usage: Usage;
  readonly count: number;
  readonly tokens: readonly number[];
  readonly error: Readonly<Record<string, unknown>>;
};
const answerOf = async (response: Response) => (await response.json()) as Answered;
const errorOf = async (response: Response) => (await answerOf(response)).error;
const metricsOf = async ({ url }: TestEngine) => samplesOf(await (await fetch(`${url}/metrics`)).text());
const model = '{model_name="test-model",engine="0"}';

describe('a completion', () => {
  it('streams one token an event, then usage, then its end', async () => {
    const { url } = await engine();
    const prompt = 'what the deployments of an engine are worth';
    const response = await post(url + completions, {
      model: 'test-model',
      prompt,
      max_tokens: 12,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const stream = await readStream(response);
    expect(stream).toMatchObject({ done: true, error: null });
    expect(stream.events).toHaveLength(13);
    expect(new Set(stream.events.map(({ id, object, model: name }) => `${id} ${object} ${name}`)).size).toBe(1);
    expect(stream.events[0]).toMatchObject({ object: 'text_completion', model: 'test-model' });
    expect(stream.events.slice(0, 12).map(({ choices }) => choices[0]!.finish_reason)).toEqual([
      ...Array.from({ length: 11 }, () => null),
      'length',
    ]);
    expect(stream.events.every(({ choices }) => choices.length === 0 || countTokens(choices[0]!.text!) === 1)).toBe(
      true,
    );
    const prompt_tokens = countTokens(prompt) + 1;
    expect(stream.events[12]).toMatchObject({
      choices: [],
      usage: { prompt_tokens, completion_tokens: 12, total_tokens: prompt_tokens + 12 },
    });
    expect(countTokens(textOf(stream))).toBe(12);
  });

  it('is the same text without streaming, for the same seed', async () => {
    const { url } = await engine();
    const request = { prompt: [1, 2, 3], max_tokens: 9, ignore_eos: true, seed: 3 };
    const stream = await readStream(await post(url + completions, { ...request, stream: true }));
    expect(stream.events.every(({ usage }) => usage === undefined)).toBe(true);
    const whole = await answerOf(await post(url + completions, request));
    expect(whole).toMatchObject({
      object: 'text_completion',
      model: 'test-model',
      choices: [{ index: 0, text: textOf(stream), finish_reason: 'length', stop_reason: null }],
      usage: { prompt_tokens: 3, completion_tokens: 9, total_tokens: 12 },
    });
  });

  it('answers a prompt alike at temperature 0 or with a seed, and each time anew otherwise', async () => {
    const { url } = await engine();
    const ask = async (more: object) => {
      const body = { prompt: 'hello', max_tokens: 8, ignore_eos: true, ...more };
      const { choices } = await answerOf(await post(url + completions, body));
      return choices[0].text;
    };
    expect(await ask({ temperature: 0 })).toBe(await ask({ temperature: 0 }));
    expect(await ask({ seed: 5 })).toBe(await ask({ seed: 5 }));
    expect(await ask({ seed: 5 })).not.toBe(await ask({ seed: 6 }));
    expect(await ask({})).not.toBe(await ask({}));
    expect(await ask({ temperature: 0 })).not.toBe(await ask({ temperature: 0, prompt: 'bye' }));
  });

  it('ends early where it may, which usage says', async () => {
    const { url } = await engine({ eosRate: 0.2 });
    const outputs: number[] = [];
    for (let i = 0; i < 20; i++) {
      const answer = await answerOf(await post(url + completions, { prompt: 'a', max_tokens: 200 }));
      expect(answer.choices[0]).toMatchObject({ finish_reason: 'stop' });
      outputs.push(answer.usage.completion_tokens);
    }
    expect(Math.max(...outputs)).toBeLessThan(200);
    expect(new Set(outputs).size).toBeGreaterThan(3);
    const least = await answerOf(await post(url + completions, { prompt: 'a', max_tokens: 200, min_tokens: 199 }));
    expect(least.usage.completion_tokens).toBe(200);
  });

  it('defaults to 16 tokens, and takes a prompt in an array and 1 for true', async () => {
    const { url } = await engine({ eosRate: 0 });
    const answer = await answerOf(await post(url + completions, { prompt: ['hello there'] }));
    expect(answer.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 16 });
    const ids = await answerOf(await post(url + completions, { prompt: [[1, 2, 3, 4]], max_tokens: 1 }));
    expect(ids.usage).toMatchObject({ prompt_tokens: 4 });
    const stream = await readStream(await post(url + completions, { prompt: 'a', max_tokens: 2, stream: 1 }));
    expect(stream).toMatchObject({ done: true });
  });

  it('ends before a stop string, in a stream as in one piece', async () => {
    const { url } = await engine();
    const request = { prompt: 'x', max_tokens: 30, ignore_eos: true, seed: 1 };
    const { choices } = await answerOf(await post(url + completions, request));
    const whole = choices[0].text;
    const stop = whole.slice(40, 46);
    const cut = whole.slice(0, whole.indexOf(stop));
    const short = await answerOf(await post(url + completions, { ...request, stop }));
    expect(short.choices[0]).toMatchObject({ text: cut, finish_reason: 'stop', stop_reason: stop });
    const stream = await readStream(await post(url + completions, { ...request, stop: [stop], stream: true }));
    expect(textOf(stream)).toBe(cut);
    expect(stream.events.at(-1)!.choices[0]).toMatchObject({ finish_reason: 'stop', stop_reason: stop });
  });

  it('says usage in every event where it is asked to', async () => {
    const { url } = await engine();
    const stream_options = { include_usage: true, continuous_usage_stats: true };
    const body = { prompt: 'a', max_tokens: 3, ignore_eos: true, stream: true, stream_options };
    const { events } = await readStream(await post(url + completions, body));
    expect(events.map(({ usage }) => usage?.completion_tokens)).toEqual([1, 2, 3, 3]);
  });
});

describe('a chat', () => {
  const messages = [
    { role: 'system', content: 'be brief' },
    { role: 'user', content: [{ type: 'text', text: 'hello' }] },
  ];

  it('streams its role, then one token an event', async () => {
    const { url } = await engine();
    const body = { messages, max_completion_tokens: 4, ignore_eos: true, stream: true };
    const stream = await readStream(await post(url + chats, body));
    expect(stream).toMatchObject({ done: true, error: null });
    expect(stream.events.map(({ object }) => object)).toEqual(Array.from({ length: 5 }, () => 'chat.completion.chunk'));
    expect(stream.events[0]!.choices[0]!.delta).toEqual({ role: 'assistant', content: '' });
    expect(countTokens(textOf(stream))).toBe(4);
    expect(stream.events.at(-1)!.choices[0]!.finish_reason).toBe('length');
  });

  it('counts its prompt as /tokenize does', async () => {
    const { url } = await engine();
    const answer = await answerOf(await post(url + chats, { messages, max_tokens: 4, ignore_eos: true }));
    expect(answer).toMatchObject({ object: 'chat.completion' });
    expect(answer.choices[0]).toMatchObject({ message: { role: 'assistant' }, finish_reason: 'length' });
    const { count } = await answerOf(await post(`${url}/tokenize`, { messages }));
    expect(answer.usage).toMatchObject({ prompt_tokens: count, completion_tokens: 4 });
  });

  it('runs to the end of the context where nothing ends it before', async () => {
    const { url } = await engine({ eosRate: 0 });
    const answer = await answerOf(await post(url + chats, { messages }));
    expect(answer.usage.total_tokens).toBe(4096);
  });
});

describe('times, on a clock that the test moves', () => {
  it('are those of the step times, to the token', async () => {
    const clock = new TestClock({ runs: false });
    const one = await engine({ clock });
    const { url, backend } = one;
    const seen: string[] = [];
    const answered = post(url + completions, {
      prompt: Array.from({ length: 1000 }, (_, i) => i),
      max_tokens: 3,
      ignore_eos: true,
      stream: true,
    }).then((response) => readStream(response, ({ data }) => seen.push(data)));
    await until(() => backend.load().waiting + backend.load().running === 1);
    const produced = async () => (await metricsOf(one)).get(`vllm:generation_tokens_total${model}`);
    // The prompt's step: 10 ms and 1,000 / 10.
    clock.advanceTo(109.9);
    expect(await produced()).toBe(0);
    clock.advanceTo(110);
    await until(() => seen.length === 1);
    expect(await produced()).toBe(1);
    // Each later step: 10 ms and a tenth.
    clock.advanceTo(120.0);
    expect(await produced()).toBe(1);
    clock.advanceTo(120.1);
    await until(() => seen.length === 2);
    clock.advanceTo(130.2);
    expect(await answered).toMatchObject({ done: true, error: null });
    const metrics = await metricsOf(one);
    expect(metrics.get(`vllm:time_to_first_token_seconds_sum${model}`)).toBeCloseTo(0.11, 10);
    expect(metrics.get(`vllm:inter_token_latency_seconds_sum${model}`)).toBeCloseTo(0.0202, 10);
    expect(metrics.get(`vllm:request_time_per_output_token_seconds_sum${model}`)).toBeCloseTo(0.0101, 10);
    expect(metrics.get(`vllm:e2e_request_latency_seconds_sum${model}`)).toBeCloseTo(0.1302, 10);
  });

  it('stay exact where the process wakes late', async () => {
    const clock = new TestClock({ runs: false });
    const one = await engine({ clock });
    const body = { prompt: [1], max_tokens: 5, ignore_eos: true };
    const answered = post(one.url + completions, body);
    await until(() => one.backend.load().waiting + one.backend.load().running === 1);
    clock.advanceTo(1000);
    expect((await answered).status).toBe(200);
    const metrics = await metricsOf(one);
    expect(metrics.get(`vllm:e2e_request_latency_seconds_sum${model}`)).toBeCloseTo((10.1 + 4 * 10.1) / 1000, 10);
  });

  it('are shorter by the speed in what clients and metrics see', async () => {
    const clock = new TestClock({ runs: false });
    const one = await engine({ clock, speed: 10 });
    const answered = post(one.url + completions, { prompt: [1], max_tokens: 1, ignore_eos: true });
    await until(() => one.backend.load().waiting + one.backend.load().running === 1);
    clock.advanceTo(20);
    await answered;
    const metrics = await metricsOf(one);
    expect(metrics.get(`vllm:e2e_request_latency_seconds_sum${model}`)).toBeCloseTo(0.00101, 10);
  });

  it('give requests that arrive together one batch', async () => {
    const clock = new TestClock({ runs: false });
    const one = await engine({ clock, limits: { maxSequences: 2 } });
    const ask = () => post(one.url + completions, { prompt: [1], max_tokens: 2, ignore_eos: true });
    const answers = [ask(), ask(), ask()];
    await until(() => one.backend.load().waiting + one.backend.load().running === 3);
    expect(one.backend.load()).toMatchObject({ running: 1, waiting: 2 });
    const metrics = await metricsOf(one);
    expect(metrics.get(`vllm:num_requests_running${model}`)).toBe(1);
    expect(metrics.get(`vllm:num_requests_waiting${model}`)).toBe(2);
    clock.advanceTo(10.1);
    expect(one.backend.load()).toMatchObject({ running: 2, waiting: 1 });
    clock.advanceTo(1000);
    for (const answer of answers) expect((await answer).status).toBe(200);
    expect(one.backend.load()).toMatchObject({ running: 0, waiting: 0, kvCacheUsed: 0 });
  });
});

describe('a client that goes', () => {
  it.each([true, false])('takes its request out of the replica (streaming: %s)', async (stream) => {
    const clock = new TestClock({ runs: false });
    const one = await engine({ clock });
    const { url, backend } = one;
    const leave = new AbortController();
    const body = { prompt: [1, 2, 3], max_tokens: 100, ignore_eos: true, stream };
    const answered = post(url + completions, body, { signal: leave.signal });
    const failed = answered.then(async (response) => (await readStream(response)).error).catch(() => 'aborted');
    await until(() => backend.load().waiting + backend.load().running === 1);
    clock.advanceTo(200);
    expect(backend.load().running).toBe(1);
    leave.abort();
    expect(await failed).not.toBeNull();
    await until(() => backend.load().running === 0);
    expect(backend.load().kvCacheUsed).toBe(0);
    clock.advanceTo(10_000);
    const metrics = await metricsOf(one);
    expect(metrics.get('vllm:request_success_total{model_name="test-model",engine="0",finished_reason="abort"}')).toBe(
      1,
    );
    expect(metrics.get('vllm:request_success_total{model_name="test-model",engine="0",finished_reason="length"}')).toBe(
      0,
    );
    expect(metrics.get(`vllm:generation_tokens_total${model}`)).toBeLessThan(30);
  });

  it('leaves no trace where it goes before its request is whole', async () => {
    const one = await engine();
    const socket = connect(Number(new URL(one.url).port), '127.0.0.1');
    socket.write('POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"prompt":');
    await new Promise((resolve) => socket.once('connect', resolve));
    socket.destroy();
    expect((await fetch(`${one.url}/health`)).status).toBe(200);
    expect(one.server.counts.requests).toBe(0);
  });
});

describe('requests on one connection', () => {
  it('are answered in their order', async () => {
    const { url } = await engine();
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    const one = (max_tokens: number, close: boolean) => {
      const body = JSON.stringify({ prompt: 'a', max_tokens, ignore_eos: true, stream: max_tokens > 2 });
      const head = `POST ${completions} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n`;
      return `${head}${close ? 'connection: close\r\n' : ''}\r\n${body}`;
    };
    socket.write(one(50, false) + one(1, true));
    let text = '';
    for await (const chunk of socket) text += chunk;
    expect(text.split('HTTP/1.1 200 OK')).toHaveLength(3);
    expect(text.split('data: ')).toHaveLength(52);
    expect(text.indexOf('[DONE]')).toBeLessThan(text.indexOf('"completion_tokens":1'));
  });
});

describe('metrics', () => {
  it('agree with what was answered', async () => {
    const one = await engine({ eosRate: 0.05 });
    const usages: Usage[] = [];
    const reasons: string[] = [];
    const ask = async (n: number) => {
      const body = { prompt: Array.from({ length: 10 + n }, () => n), max_tokens: 20 };
      const answer = await answerOf(await post(one.url + completions, body));
      usages.push(answer.usage);
      reasons.push(answer.choices[0].finish_reason);
    };
    await Promise.all(Array.from({ length: 30 }, (_, n) => ask(n)));
    const metrics = await metricsOf(one);
    const sum = (of: (usage: Usage) => number) => usages.reduce((total, usage) => total + of(usage), 0);
    const get = (name: string) => metrics.get(name + model);
    const outputs = sum(({ completion_tokens }) => completion_tokens);
    expect(get('vllm:prompt_tokens_total')).toBe(sum(({ prompt_tokens }) => prompt_tokens));
    expect(get('vllm:generation_tokens_total')).toBe(outputs);
    expect(get('vllm:time_to_first_token_seconds_count')).toBe(30);
    expect(get('vllm:inter_token_latency_seconds_count')).toBe(outputs - 30);
    expect(get('vllm:time_per_output_token_seconds_count')).toBe(outputs - 30);
    expect(get('vllm:e2e_request_latency_seconds_count')).toBe(30);
    expect(get('vllm:request_generation_tokens_sum')).toBe(outputs);
    expect(get('vllm:request_prompt_tokens_count')).toBe(30);
    expect(get('vllm:request_params_max_tokens_sum')).toBe(600);
    for (const reason of ['stop', 'length', 'abort', 'error']) {
      const name = `vllm:request_success_total{model_name="test-model",engine="0",finished_reason="${reason}"}`;
      expect(metrics.get(name)).toBe(reasons.filter((found) => found === reason).length);
    }
    expect(new Set(reasons)).toEqual(new Set(['stop', 'length']));
    for (const name of [
      'num_requests_running',
      'num_requests_waiting',
      'kv_cache_usage_perc',
      'gpu_cache_usage_perc',
    ]) {
      expect(get(`vllm:${name}`)).toBe(0);
    }
    expect(metrics.get('vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="1000"}')).toBe(1);
  });

  it("have vLLM's buckets, all of them from the start", async () => {
    const metrics = await metricsOf(await engine());
    const buckets = (name: string) =>
      [...metrics.keys()].flatMap((key) =>
        key.startsWith(`vllm:${name}_bucket{`) ? [/le="([^"]+)"/.exec(key)![1]!] : [],
      );
    expect(buckets('time_to_first_token_seconds').slice(0, 8).map(Number)).toEqual([
      0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
    ]);
    expect(buckets('time_to_first_token_seconds').at(-1)).toBe('+Inf');
    expect(buckets('inter_token_latency_seconds').slice(0, 4).map(Number)).toEqual([0.01, 0.025, 0.05, 0.075]);
    expect(buckets('e2e_request_latency_seconds').slice(0, 4).map(Number)).toEqual([0.3, 0.5, 0.8, 1]);
    expect(buckets('request_prompt_tokens').map(Number)).toEqual([
      1,
      2,
      5,
      10,
      20,
      50,
      100,
      200,
      500,
      1000,
      2000,
      Number.NaN,
    ]);
  });

  it('count preemptions of a cache that is too small', async () => {
    const steps = { kvCacheTokens: 160, stepMs: () => 1 };
    const one = await engine({ steps, limits: { maxTokens: 150 } });
    const ask = () =>
      post(one.url + completions, { prompt: Array.from({ length: 40 }, () => 1), max_tokens: 60, ignore_eos: true });
    await Promise.all([ask(), ask(), ask()]);
    const { preemptions } = one.backend.load();
    expect(preemptions).toBeGreaterThan(0);
    for (const _ of [1, 2]) {
      expect((await metricsOf(one)).get(`vllm:num_preemptions_total${model}`)).toBe(preemptions);
    }
  });
});

describe('other routes', () => {
  it('answer as vLLM does', async () => {
    const { url } = await engine();
    expect(await answerOf(await fetch(`${url}/v1/models`))).toMatchObject({
      object: 'list',
      data: [{ id: 'test-model', object: 'model', max_model_len: 4096 }],
    });
    const health = await fetch(`${url}/health`);
    expect([health.status, await health.text()]).toEqual([200, '']);
    expect(await answerOf(await fetch(`${url}/version`))).toMatchObject({ version: '1.2.3', simulated: true });
    const text = 'Hello deployments';
    const tokens = await answerOf(await post(`${url}/tokenize`, { model: 'test-model', prompt: text }));
    expect(tokens).toMatchObject({ count: 4, max_model_len: 4096 });
    const bare = await answerOf(await post(`${url}/tokenize`, { prompt: text, add_special_tokens: false }));
    expect(bare).toMatchObject({ count: 3, tokens: tokenize(text) });
    expect(await answerOf(await post(`${url}/detokenize`, { tokens: bare.tokens }))).toEqual({ prompt: text });
  });

  it('say in every header that nothing is real', async () => {
    const { url } = await engine({ apiKey: 'k' });
    const answers = await Promise.all([
      fetch(`${url}/health`),
      fetch(`${url}/metrics`),
      fetch(`${url}/no/such`),
      fetch(`${url}/v1/models`),
      post(url + completions, { prompt: 'a', stream: true }, { headers: { authorization: 'Bearer k' } }),
      post(url + completions, { prompt: 'a' }, { headers: { authorization: 'Bearer k' } }),
      post(url + completions, '{', { headers: { authorization: 'Bearer k' } }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 404, 401, 200, 200, 400]);
    for (const { headers } of answers) {
      expect(headers.get('x-gpumix-simulated')).toBe('true; gpu=test; model=test-model');
      expect(headers.get('server')).toBe('gpumix-engine/1.2.3 (simulated)');
    }
    await Promise.all(answers.map((response) => response.text()));
  });
});

describe('what is refused', () => {
  it.each<[string, object | string, string]>([
    ['no JSON', '{"prompt": NaN}', 'line 1, column 12'],
    ['no prompt', {}, 'prompt: found nothing'],
    ['an empty list of tokens', { prompt: [] }, 'prompt: found nothing, expected at least one token'],
    ['tokens that are none', { prompt: [1, -2] }, 'an array of token ids'],
    ['several prompts', { prompt: ['a', 'b'] }, 'found 2 prompts, expected one'],
    ['several answers', { prompt: 'a', n: 2 }, 'n: found 2, expected 1: this engine gives one answer a request'],
    ['best_of', { prompt: 'a', best_of: 3 }, 'best_of: found 3, expected 1'],
    ['log probabilities', { prompt: 'a', logprobs: 1 }, 'logprobs: found 1, expected nothing'],
    ['an echo', { prompt: 'a', echo: true }, 'echo: found true, expected nothing'],
    ['no tokens', { prompt: 'a', max_tokens: 0 }, 'max_tokens: found 0, expected a number >= 1'],
    ['half a token', { prompt: 'a', max_tokens: 1.5 }, 'max_tokens: found 1.5, expected a whole number'],
    [
      'more at least than at most',
      { prompt: 'a', max_tokens: 2, min_tokens: 3 },
      'min_tokens: found 3, expected at most',
    ],
    ['an empty stop string', { prompt: 'a', stop: '' }, 'stop: found ""'],
    ['stream options without a stream', { prompt: 'a', stream_options: {} }, 'stream_options: found options'],
    ['too long a prompt', { prompt: 'a '.repeat(5000) }, "This model's maximum context length is 4096 tokens."],
    ['too long an answer', { prompt: 'a', max_tokens: 4095 }, "This model's maximum context length is 4096 tokens."],
  ])('%s: 400 with the reason', async (_, body, reason) => {
    const one = await engine();
    const response = await post(one.url + completions, body);
    const error = await errorOf(response);
    expect(response.status).toBe(400);
    expect(error).toMatchObject({ type: 'BadRequestError', param: null, code: 400 });
    expect(error.message).toContain(reason);
    expect(one.server.counts.requests).toBe(0);
  });

  it.each<[string, object, string]>([
    ['no messages', { messages: [] }, 'messages: found []'],
    [
      'a picture',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'sees no pictures',
    ],
    ['tools', { messages: [{ role: 'user', content: 'a' }], tools: [{}] }, 'this engine calls no tools'],
    ['JSON mode', { messages: [{ role: 'user', content: 'a' }], response_format: { type: 'json_object' } }, 'made up'],
  ])('%s in a chat: 400 with the reason', async (_, body, reason) => {
    const { url } = await engine();
    const response = await post(url + chats, body);
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toContain(reason);
  });

  it('sampling parameters and unknown keys are not', async () => {
    const { url } = await engine();
    const body = { prompt: 'a', top_p: 0.9, top_k: 5, presence_penalty: 1, user: 'me', n: 1, best_of: null, xyz: 1 };
    expect((await post(url + completions, body)).status).toBe(200);
  });

  it('another model: 404 in the shape of vLLM', async () => {
    const { url } = await engine();
    for (const [path, body] of [
      [completions, { prompt: 'a' }],
      [chats, { messages: [{ role: 'user', content: 'a' }] }],
      ['/tokenize', { prompt: 'a' }],
    ] as const) {
      const response = await post(url + path, { model: 'gpt-4', ...body });
      expect(response.status).toBe(404);
      expect(await errorOf(response)).toEqual({
        message: 'The model `gpt-4` does not exist.',
        type: 'NotFoundError',
        param: null,
        code: 404,
      });
    }
  });

  it('a wrong key: 401 below /v1, and nowhere else', async () => {
    const { url } = await engine({ apiKey: 'secret' });
    const withKey = (authorization?: string) =>
      post(url + completions, { prompt: 'a' }, authorization === undefined ? {} : { headers: { authorization } });
    const wrong = [
      await withKey(),
      await withKey('Bearer Secret'),
      await withKey('Bearer secret2'),
      await withKey('secret'),
    ];
    expect(wrong.map(({ status }) => status)).toEqual([401, 401, 401, 401]);
    expect(await errorOf(wrong[0]!)).toMatchObject({ type: 'AuthenticationError', code: 401 });
    expect((await withKey('Bearer secret')).status).toBe(200);
    expect((await withKey('bearer secret')).status).toBe(200);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await fetch(`${url}/metrics`)).status).toBe(200);
  });

  it('unknown paths and methods', async () => {
    const { url } = await engine();
    const unknown = await post(`${url}/v1/embeddings`, {});
    expect(unknown.status).toBe(404);
    expect((await errorOf(unknown)).message).toContain('expected one of /v1/completions');
    expect((await fetch(`${url}/__proto__`)).status).toBe(404);
    const method = await fetch(url + completions);
    expect([method.status, method.headers.get('allow')]).toEqual([405, 'POST']);
  });

  it('a body beyond the limit: 413, and the connection is closed', async () => {
    const { url } = await engine();
    const response = await post(`${url}/tokenize`, JSON.stringify({ prompt: 'x'.repeat(9 * 2 ** 20) })).catch(
      () => null,
    );
    // A client that is still sending may see the closed connection before the answer.
    if (response !== null) expect([response.status, response.headers.get('connection')]).toEqual([413, 'close']);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  it.each([
    ['what is no HTTP', 'hello\r\n\r\n', 'HTTP/1.1 400 Bad Request'],
    ['a proxy', 'CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n', 'HTTP/1.1 405 '],
    [
      'an unknown expectation',
      'POST /v1/completions HTTP/1.1\r\nhost: x\r\nexpect: wonders\r\nconnection: close\r\ncontent-length: 0\r\n\r\n',
      'HTTP/1.1 417 ',
    ],
    ['a head without end', `GET /health HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, 'HTTP/1.1 431 '],
  ])('%s, and says even there that it is simulated', async (_, sent, status) => {
    const { url } = await engine();
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.write(sent);
    let text = '';
    for await (const chunk of socket) text += chunk;
    expect(text.startsWith(status)).toBe(true);
    expect(text).toContain('x-gpumix-simulated: true; gpu=test');
    expect(JSON.parse(text.slice(text.indexOf('{')))).toMatchObject({ error: { code: Number(status.split(' ')[1]) } });
  });

  it('more requests than the engine may hold: 503', async () => {
    const clock = new TestClock({ runs: false });
    const { url, backend } = await engine({ clock, maxRequests: 2 });
    const held = [1, 2].map(() => post(url + completions, { prompt: 'a', max_tokens: 1 }));
    await until(() => backend.load().running + backend.load().waiting === 2);
    const third = await post(url + completions, { prompt: 'a', max_tokens: 1 });
    expect([third.status, third.headers.get('retry-after')]).toEqual([503, '1']);
    clock.advanceTo(1000);
    for (const one of held) expect((await one).status).toBe(200);
  });

  it('a request that the replica can never hold, if one gets that far', async () => {
    const one = await engine({ limits: { maxTokens: 100 } });
    const body = { prompt: 'a', max_tokens: 200, ignore_eos: true };
    const whole = await post(one.url + completions, body);
    expect(whole.status).toBe(500);
    const stream = await readStream(await post(one.url + completions, { ...body, stream: true }));
    expect(stream.events[0]!.error).toMatchObject({ code: 500 });
    expect(one.backend.load()).toMatchObject({ running: 0, waiting: 0 });
  });

  it('an address that cannot be listened on, with a sentence', async () => {
    const { url, server: _, ...rest } = await engine();
    const other = new EngineServer({
      backend: rest.backend,
      model: { modelName: 'm', maxModelTokens: 10 },
      kvCacheTokens: null,
      simulates: 'null',
      version: '1',
      speed: 1,
      seed: 1,
      eosRate: 0,
      apiKey: null,
      faults: noFaults,
      maxRequests: 1,
    });
    const port = Number(new URL(url).port);
    await expect(other.listen({ host: '127.0.0.1', port })).rejects.toThrow(
      `--port: found ${port}, on which another process listens already, expected a free port, or 0 for any`,
    );
    await expect(other.listen({ host: '203.0.113.1', port: 0 })).rejects.toThrow('--host: found "203.0.113.1"');
  });
});

describe('an engine that simulates nothing', () => {
  it('answers many streams at once, token by token', async () => {
    const one = await engine({ backend: new NullBackend(), kvCacheTokens: null });
    const body = {
      prompt: 'hello',
      max_tokens: 16,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    };
    const streams = await Promise.all(
      Array.from({ length: 200 }, async () => readStream(await post(one.url + completions, body))),
    );
    for (const stream of streams) {
      expect(stream).toMatchObject({ done: true, error: null });
      expect(countTokens(textOf(stream))).toBe(16);
      expect(stream.events.at(-1)!.usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 16 });
    }
    expect(one.backend.load()).toMatchObject({ running: 0 });
    expect((await metricsOf(one)).get(`vllm:generation_tokens_total${model}`)).toBe(3200);
  });

  it('does not write an answer in one piece', async () => {
    const { url } = await engine({ backend: new NullBackend(), kvCacheTokens: null });
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    const body = JSON.stringify({ prompt: 'a', max_tokens: 64, ignore_eos: true, stream: true });
    socket.write(
      `POST ${completions} HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
    );
    let text = '';
    let arrivals = 0;
    for await (const chunk of socket) {
      text += chunk;
      if (String(chunk).includes('data: ')) arrivals += 1;
    }
    expect(text.split('data: ').length - 1).toBe(65);
    // More than one, since tokens are written in turns of their own; how many more is the system's to say.
    expect(arrivals).toBeGreaterThan(1);
  });
});

it('stops at once, whatever runs', async () => {
  const clock = new TestClock({ runs: false });
  const started = await startTestEngine({ clock });
  const failed = post(started.url + completions, { prompt: 'a' }).catch((error: Error) => error);
  await until(() => started.backend.load().running + started.backend.load().waiting === 1);
  await started.stop();
  expect(await failed).toBeInstanceOf(Error);
  expect(started.backend.load()).toMatchObject({ running: 0, waiting: 0 });
});
