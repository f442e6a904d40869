import { afterEach, describe, expect, it } from 'vitest';
import { createScrapedEngines, joinEngineMetrics, totalsOf } from '../../src/adapters/engine-metrics.js';
import { type EngineMetrics, Unavailable } from '../../src/core/ports.js';
import { type ScriptedEndpoint, startEndpoint } from '../support/scripted-endpoint.js';
import { post, startTestEngine } from './engine/test-engine.js';

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()));
});

async function endpoint(answer: ScriptedEndpoint['answer'] | string): Promise<ScriptedEndpoint> {
  const started = await startEndpoint(answer);
  stops.push(() => started.stop());
  return started;
}

const llama = { id: 'default/llama', namespace: 'default', name: 'llama' };

function engines(urls: readonly string[], timeoutMs = 5000): EngineMetrics {
  const targets = [{ deployment: llama.id, urls }];
  const source = createScrapedEngines({ targets, timeoutMs, clock: { now: () => 42 } });
  stops.push(() => source.close());
  return source;
}

/** What an engine of vLLM says, or of another by its prefix. */
function text(prefix = 'vllm:', tpot = 'request_time_per_output_token_seconds'): string {
  return [
    `${prefix}prompt_tokens_total{engine="0"} 1000`,
    `${prefix}prompt_tokens_total{engine="1"} 500`,
    `${prefix}generation_tokens_total 300`,
    `${prefix}time_to_first_token_seconds_bucket{le="+Inf"} 10`,
    `${prefix}time_to_first_token_seconds_sum 2`,
    `${prefix}time_to_first_token_seconds_count 10`,
    `${prefix}${tpot}_sum 0.4`,
    `${prefix}${tpot}_count 8`,
    `${prefix}e2e_request_latency_seconds_sum 12`,
    `${prefix}e2e_request_latency_seconds_count 9`,
    '',
  ].join('\n');
}

const told = {
  promptTokens: 1500,
  generationTokens: 300,
  latencies: { ttft: { seconds: 2, count: 10 }, tpot: { seconds: 0.4, count: 8 }, e2e: { seconds: 12, count: 9 } },
};

describe('engines that are scraped', () => {
  it('tell what they served: the simulated engine, over HTTP', async () => {
    const engine = await startTestEngine();
    stops.push(() => engine.stop());
    const prompt = Array.from({ length: 20 }, (_, i) => i + 1);
    const body = { model: 'test-model', prompt, max_tokens: 8, ignore_eos: true };
    for (let i = 0; i < 5; i += 1) await (await post(`${engine.url}/v1/completions`, body)).text();
    const { samples, problems } = await engines([`${engine.url}/metrics`]).read([llama]);
    expect(problems).toEqual([]);
    expect(samples).toHaveLength(1);
    const [sample] = samples;
    expect(sample).toMatchObject({ deployment: 'default/llama', instance: `${engine.url}/metrics`, atMs: 42 });
    expect([sample!.promptTokens, sample!.generationTokens]).toEqual([100, 40]);
    const { ttft, tpot, e2e } = sample!.latencies;
    expect([ttft!.count, tpot!.count, e2e!.count]).toEqual([5, 5, 5]);
    // Each is alone in its engine: 12 ms for its prompt, then 10.1 ms for each token.
    expect(ttft!.seconds / 5).toBeCloseTo(0.012, 6);
    expect(tpot!.seconds / 5).toBeCloseTo(0.0101, 6);
    expect(e2e!.seconds / 5).toBeCloseTo(0.012 + 7 * 0.0101, 6);
  });

  it.each([
    ['vLLM', text()],
    ['vLLM before it had a TPOT of requests', text('vllm:', 'inter_token_latency_seconds')],
    ['vLLM before that', text('vllm:', 'time_per_output_token_seconds')],
    ['vLLM as KServe relabels it', text('kserve_vllm:')],
    ['SGLang', text('sglang:', 'inter_token_latency_seconds')],
  ])('are read by the names of %s', async (_, answer) => {
    const { url } = await endpoint(answer);
    const { samples } = await engines([`${url}/metrics`]).read([llama]);
    expect(samples).toEqual([{ deployment: 'default/llama', instance: `${url}/metrics`, atMs: 42, ...told }]);
  });

  it('are asked as a user, where the URL has one, and no message repeats it', async () => {
    const server = await endpoint((request, response) => {
      if (request.headers.authorization === `Basic ${btoa('me:pass word')}`) response.end(text());
      else response.writeHead(401).end('who are you?');
    });
    const withUser = (user: string) => `http://${user}@${server.address}/metrics`;
    expect((await engines([withUser('me:pass%20word')]).read([llama])).samples).toHaveLength(1);
    const refused = engines([withUser('me:secret')]).read([llama]);
    await expect(refused).rejects.toThrow('found status 401 (who are you?), expected metrics as text');
    await expect(refused).rejects.not.toThrow('secret');
  });

  it('are not asked where their deployment is not followed', async () => {
    const server = await endpoint(text());
    expect(await engines([server.url]).read([])).toEqual({ samples: [], problems: [] });
    expect(server.requests).toHaveLength(0);
  });

  it('are a problem of their own where one of several cannot be read', async () => {
    const [good, bad] = [await endpoint(text()), await endpoint('<html>')];
    const { samples, problems } = await engines([good.url, bad.url]).read([llama]);
    expect(samples).toHaveLength(1);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^default\/llama: metrics of http:\/\/127.0.0.1:\d+\/: line 1: found "<html>"/);
  });

  const faults: readonly [string, ScriptedEndpoint['answer'] | string, string][] = [
    ['answer with an error', (_, response) => response.writeHead(503).end('loading'), 'status 503 (loading)'],
    ['send what is no metrics', '{"status":"ok"}', 'line 1: found'],
    ['are none that is known', 'up 1\n', 'found no counters of an engine'],
    ['tell numbers that are none', text().replaceAll(/ [\d.]+$/gm, ' NaN'), 'found no counters of an engine'],
    [
      'send without end',
      (_, response) => {
        const more = () => {
          while (!response.destroyed && response.write('# more\n'.repeat(10_000)));
          if (!response.destroyed) response.once('drain', more);
        };
        more();
      },
      'an answer of more than 8388608 bytes',
    ],
    ['close before the end', (_, response) => response.write('a 1\n', () => response.destroy()), 'closed before'],
  ];
  it.each(faults)('cannot be read where they %s', async (_, answer, problem) => {
    const { url } = await endpoint(answer);
    const reading = engines([url]).read([llama]);
    await expect(reading).rejects.toThrow(Unavailable);
    await expect(reading).rejects.toThrow(problem);
  });

  it('are given up where they say nothing, or stop within their answer', async () => {
    const [silent, stalled] = [
      await endpoint(() => undefined),
      await endpoint((_, response) => response.write('vllm:prompt_tokens_total 1\n')),
    ];
    await expect(engines([silent.url, stalled.url], 50).read([llama])).rejects.toThrow('no whole answer within 0.05 s');
  });

  it('are unavailable where nobody listens', async () => {
    const gone = await startEndpoint(text());
    await gone.stop();
    const reading = engines([gone.url]).read([llama]);
    await expect(reading).rejects.toMatchObject({ code: 'engines_unreachable' });
    await expect(reading).rejects.toThrow('ECONNREFUSED');
  });
});

describe('totals of an engine', () => {
  it('are none of half a histogram, and none at all without a number of requests', () => {
    const sums = new Map([
      ['vllm:prompt_tokens_total', 1],
      ['vllm:generation_tokens_total', 2],
      ['vllm:time_to_first_token_seconds_sum', 3],
    ]);
    expect(totalsOf(sums)).toBeNull();
    sums.set('vllm:e2e_request_latency_seconds_sum', 4).set('vllm:e2e_request_latency_seconds_count', 5);
    expect(totalsOf(sums)).toEqual({
      promptTokens: 1,
      generationTokens: 2,
      latencies: { ttft: null, tpot: null, e2e: { seconds: 4, count: 5 } },
    });
  });
});

describe('several sources', () => {
  const sample = { instance: 'x', atMs: 1, ...told };
  const asked: string[][] = [];
  const source = (ids: readonly string[], problem?: string): EngineMetrics => ({
    read: async (deployments) => {
      asked.push(deployments.map(({ id }) => id));
      if (problem !== undefined) throw new Unavailable('gone', problem);
      return { samples: ids.map((deployment) => ({ deployment, ...sample })), problems: [] };
    },
    close: async () => undefined,
  });
  const other = { ...llama, id: 'default/other', name: 'other' };

  it('are asked one after the other, each for what the ones before do not tell', async () => {
    const joined = joinEngineMetrics([source(['default/llama']), source(['default/other'])]);
    const { samples } = await joined.read([llama, other]);
    expect(samples.map(({ deployment }) => deployment)).toEqual(['default/llama', 'default/other']);
    expect(asked.splice(0)).toEqual([['default/llama', 'default/other'], ['default/other']]);
  });

  it('are unavailable where all are, and else the fault of one is a problem', async () => {
    const half = await joinEngineMetrics([source([], 'first'), source(['default/llama'])]).read([llama]);
    expect(half).toMatchObject({ samples: [{ deployment: 'default/llama' }], problems: ['first'] });
    await expect(joinEngineMetrics([source([], 'first'), source([], 'second')]).read([llama])).rejects.toThrow('first');
  });
});
