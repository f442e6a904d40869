import { connect } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  checkFaults,
  type FaultKind,
  type FaultSettings,
  faultKinds,
  faultOf,
  noFaults,
} from '../../../src/adapters/engine/faults.js';
import {
  post,
  readStream,
  samplesOf,
  startTestEngine,
  TestClock,
  type TestEngine,
  textOf,
  until,
} from './test-engine.js';

const running: TestEngine[] = [];
async function engine(faults: Partial<FaultSettings>, more: Parameters<typeof startTestEngine>[0] = {}) {
  const started = await startTestEngine({ ...more, faults: { ...noFaults, ...faults } });
  running.push(started);
  return started;
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop()));
});

const always = (kind: FaultKind): Partial<FaultSettings> => ({ rates: { [kind]: 1 } });
const request = { prompt: 'hello there', max_tokens: 40, ignore_eos: true };
const streamed = { ...request, stream: true, stream_options: { include_usage: true } };
const ask = ({ url }: TestEngine, body: object = request, signal?: AbortSignal) =>
  post(`${url}/v1/completions`, body, signal === undefined ? {} : { signal });

async function endings(one: TestEngine): Promise<Readonly<Record<string, number>>> {
  const samples = samplesOf(await (await fetch(`${one.url}/metrics`)).text());
  const of = (reason: string) =>
    samples.get(`vllm:request_success_total{model_name="test-model",engine="0",finished_reason="${reason}"}`)!;
  return { length: of('length'), abort: of('abort'), error: of('error') };
}

describe('shares of requests that meet a fault', () => {
  it('are as asked for, each by itself, and settled by the seed', () => {
    const settings: FaultSettings = { ...noFaults, rates: { error: 0.1, drop: 0.25, hang: 0.05 } };
    const counts: Record<string, number> = {};
    for (let ordinal = 1; ordinal <= 40_000; ordinal++) {
      const kind = faultOf(settings, 3, ordinal)?.kind ?? 'none';
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
    expect(Object.keys(counts).sort()).toEqual(['drop', 'error', 'hang', 'none']);
    // Within five standard deviations of the binomial.
    for (const [kind, rate] of [
      ['error', 0.1],
      ['drop', 0.25],
      ['hang', 0.05],
      ['none', 0.6],
    ] as const) {
      expect(Math.abs(counts[kind]! - 40_000 * rate)).toBeLessThan(5 * Math.sqrt(40_000 * rate * (1 - rate)));
    }
    fc.assert(
      fc.property(fc.integer(), fc.nat(), (seed, ordinal) => {
        expect(faultOf(settings, seed, ordinal)).toEqual(faultOf(settings, seed, ordinal));
      }),
    );
  });

  it('are none, or all', () => {
    for (let ordinal = 1; ordinal <= 1000; ordinal++) {
      expect(faultOf(noFaults, 1, ordinal)).toBeNull();
      for (const kind of faultKinds)
        expect(faultOf({ ...noFaults, rates: { [kind]: 1 } }, 1, ordinal)?.kind).toBe(kind);
    }
  });

  it('must be probabilities, and together no more than all requests', () => {
    const check = (rates: FaultSettings['rates']) => () => checkFaults({ ...noFaults, rates });
    expect(check({ error: 0.1, drop: 0.2, hang: 0.7 })).not.toThrow();
    expect(check({ error: 0.5, drop: 0.6 })).toThrow('faults: found rates that add up to 1.1, expected at most 1');
    expect(check({ error: -0.1 })).toThrow('faults: error: found -0.1, expected a probability, 0 … 1');
    expect(check({ error: Number.NaN })).toThrow('a probability');
  });
});

describe('a fault', () => {
  it('error: 500 at once, whatever the request', async () => {
    const one = await engine(always('error'));
    for (const body of [request, streamed]) {
      const response = await ask(one, body);
      expect(response.status).toBe(500);
      expect(await response.json()).toMatchObject({ error: { type: 'InternalServerError', code: 500 } });
    }
  });

  it('rateLimit: 429, and when to come again', async () => {
    const response = await ask(await engine(always('rateLimit')));
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '1']);
    expect(await response.json()).toMatchObject({ error: { type: 'RateLimitError', code: 429 } });
  });

  it('hang: no answer, until the client gives up or the engine stops', async () => {
    const one = await engine(always('hang'));
    const leave = new AbortController();
    const first = ask(one, request, leave.signal).then(
      () => 'answered',
      () => 'gave up',
    );
    const second = ask(one).then(
      () => 'answered',
      () => 'cut off',
    );
    await until(() => one.server.counts.requests === 2);
    leave.abort();
    expect(await first).toBe('gave up');
    expect((await fetch(`${one.url}/health`)).status).toBe(200);
    await one.stop();
    running.length = 0;
    expect(await second).toBe('cut off');
  });

  it('stall: a stream that stops in its middle and stays open', async () => {
    const one = await engine(always('stall'));
    const leave = new AbortController();
    let events = 0;
    const stream = ask(one, streamed, leave.signal).then((response) =>
      readStream(response, () => {
        events += 1;
      }),
    );
    await until(async () => (await endings(one)).abort === 1);
    // Nothing of it is left in the replica, and its client still listens.
    expect(one.backend.load().running).toBe(0);
    await until(() => events > 0);
    leave.abort();
    const read = await stream;
    expect(read.done).toBe(false);
    expect(read.error).toContain('abort');
    expect(read.events.length).toBeLessThan(40);
  });

  it('drop: a stream that is cut in its middle, after what was written', async () => {
    const one = await engine(always('drop'));
    const lengths: number[] = [];
    for (let i = 0; i < 5; i++) {
      const read = await readStream(await ask(one, streamed));
      expect(read.done).toBe(false);
      expect(read.error).not.toBeNull();
      lengths.push(read.events.length);
    }
    expect(Math.min(...lengths)).toBeGreaterThan(0);
    expect(Math.max(...lengths)).toBeLessThan(40);
    expect(new Set(lengths).size).toBeGreaterThan(1);
    expect(await endings(one)).toEqual({ length: 0, abort: 5, error: 0 });
    expect(one.backend.load().running).toBe(0);
  });

  it('drop: also where the answer waits for another one on its connection', async () => {
    const one = await engine(always('drop'), { clock: new TestClock({ runs: false }) });
    const socket = connect(Number(new URL(one.url).port), '127.0.0.1');
    const send = (max_tokens: number) => {
      const body = JSON.stringify({ ...streamed, max_tokens });
      return `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    };
    socket.write(send(4000) + send(1));
    await until(() => one.backend.load().running + one.backend.load().waiting === 2);
    one.clock.advanceTo(1e9);
    let text = '';
    for await (const chunk of socket) text += chunk;
    expect(text).not.toContain('[DONE]');
    expect(one.backend.load().running).toBe(0);
  });

  it('drop without a stream: no answer at all', async () => {
    await expect(ask(await engine(always('drop')))).rejects.toThrow('fetch failed');
  });

  it('malformed: one event that is no JSON, among good ones', async () => {
    const read = await readStream(await ask(await engine(always('malformed')), streamed));
    expect(read).toMatchObject({ done: true, error: null });
    // 40 tokens, usage and the end, and the one that broke.
    expect(read.data).toHaveLength(43);
    expect(read.events).toHaveLength(41);
  });

  it('malformed without a stream: half a body', async () => {
    const response = await ask(await engine(always('malformed')));
    expect(response.status).toBe(200);
    await expect(response.json()).rejects.toThrow(SyntaxError);
  });

  it('streamError: an error event instead of the rest', async () => {
    const one = await engine(always('streamError'));
    const read = await readStream(await ask(one, streamed));
    expect(read).toMatchObject({ done: true, error: null });
    expect(read.events.at(-1)!.error).toMatchObject({ code: 500 });
    expect(read.events.length).toBeLessThan(41);
    expect((await ask(one)).status).toBe(500);
    expect(await endings(one)).toEqual({ length: 0, abort: 0, error: 2 });
  });

  it('comes even where the answer is one token', async () => {
    for (const kind of ['drop', 'stall', 'streamError'] as const) {
      const one = await engine(always(kind));
      const leave = new AbortController();
      const read = ask(one, { ...streamed, max_tokens: 1 }, leave.signal).then((response) => readStream(response));
      await until(async () => {
        const { abort, error } = await endings(one);
        return abort! + error! === 1;
      });
      if (kind === 'stall') leave.abort();
      const outcome = await read.catch(() => ({ events: [] }));
      expect(outcome.events.filter(({ choices }) => choices !== undefined)).toEqual([]);
    }
  });

  it('noUsage: no usage, in a stream or without', async () => {
    const one = await engine({ noUsage: true });
    const read = await readStream(
      await ask(one, { ...streamed, stream_options: { include_usage: true, continuous_usage_stats: true } }),
    );
    expect(read).toMatchObject({ done: true });
    expect(read.events).toHaveLength(40);
    expect(read.events.every(({ usage }) => usage === undefined)).toBe(true);
    expect(textOf(read)).not.toBe('');
    expect(await (await ask(one)).json()).not.toHaveProperty('usage');
  });

  it('slowStart: 503 everywhere until the weights are there', async () => {
    const clock = new TestClock({ runs: false });
    const one = await engine({ slowStartSeconds: 30 }, { clock });
    for (const path of ['/health', '/v1/models', '/metrics']) {
      const response = await fetch(one.url + path);
      expect([path, response.status, response.headers.get('retry-after')]).toEqual([path, 503, '30']);
    }
    clock.advanceTo(29_000);
    expect((await ask(one)).status).toBe(503);
    clock.advanceTo(30_000);
    expect((await fetch(`${one.url}/health`)).status).toBe(200);
  });

  it('meets the same requests again, for the same seed', async () => {
    const rates = { error: 0.3, rateLimit: 0.3 };
    const statuses = async (seed: number) => {
      const one = await engine({ rates }, { seed });
      const found: number[] = [];
      for (let i = 0; i < 20; i++) found.push((await ask(one, { ...request, max_tokens: 1 })).status);
      return found;
    };
    const first = await statuses(4);
    expect(new Set(first)).toEqual(new Set([200, 429, 500]));
    expect(await statuses(4)).toEqual(first);
    expect(await statuses(5)).not.toEqual(first);
  });
});
