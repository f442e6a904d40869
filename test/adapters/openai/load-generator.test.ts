import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { type FaultSettings, noFaults } from '../../../src/adapters/engine/faults.js';
import { EngineServer } from '../../../src/adapters/engine/server.js';
import { nullEngine } from '../../../src/adapters/engine/simulated-engine.js';
import { type LoadOptions, type LoadRun, runLoad } from '../../../src/adapters/openai/load-generator.js';
import { probe } from '../../../src/adapters/openai/probe.js';
import type { OpenAiServer } from '../../../src/adapters/openai/server.js';
import type { OpenAiTarget } from '../../../src/adapters/openai/target.js';
import { drawArrivals } from '../../../src/profiling/arrivals.js';
import type { Cell, FailureKind, RequestOutcome, ScheduledRequest } from '../../../src/profiling/measurement.js';
import {
  event,
  type ReceivedRequest,
  type Script,
  type ScriptedServer,
  scriptedServer,
  sendJson,
  streamWords,
  target,
  textOf,
} from './scripted-server.js';

const open: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

const small: Cell = { inputTokens: 32, outputTokens: 4 };

function schedule(count: number, requestRate = 500, lengths: Cell = small): readonly ScheduledRequest[] {
  return drawArrivals({ kind: 'poisson', requestRate, count, seed: 1, lengths });
}

/** A server that behaves while it is probed, and as the script says from then on. */
async function probed(
  complete: Script['complete'],
  overrides: Partial<OpenAiTarget> = {},
): Promise<{ readonly scripted: ScriptedServer; readonly server: OpenAiServer }> {
  let behave = streamWords();
  const scripted = await scriptedServer({ complete: (request, response) => behave(request, response) });
  open.push(scripted);
  const server = await probe(target(scripted.url, overrides), { promptSalt: 1 });
  open.push(server);
  if (complete !== undefined) behave = complete;
  return { scripted, server };
}

function run(server: OpenAiServer, overrides: Partial<LoadOptions> = {}): Promise<LoadRun> {
  return runLoad({ target: server, requests: schedule(40), promptSalt: 7, ...overrides });
}

describe('a run against a server that answers', () => {
  it('sends the whole schedule and knows of each request when it was sent, its first and last token, and its counts', async () => {
    const { server } = await probed(streamWords());
    const { outcomes, aborted } = await run(server);
    expect(aborted).toBeNull();
    expect(outcomes.map(({ id }) => id)).toEqual(schedule(40).map(({ id }) => id));
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ failure: null, usage: 'server', inputTokens: 32, outputTokens: 4 });
      expect(outcome.sentSeconds).toBeGreaterThanOrEqual(outcome.scheduledSeconds);
      expect(outcome.firstTokenSeconds).toBeGreaterThan(outcome.sentSeconds);
      expect(outcome.endSeconds).toBeGreaterThanOrEqual(outcome.firstTokenSeconds!);
      expect(outcome.tokenGapsSeconds).toHaveLength(3);
    }
  });

  it('never sends before the time, and reports how late each request left', async () => {
    const { server } = await probed(streamWords());
    const { outcomes } = await run(server, { requests: schedule(30, 200) });
    expect(outcomes.every(({ sentSeconds, scheduledSeconds }) => sentSeconds >= scheduledSeconds)).toBe(true);
  });

  it('says where its event loop was held up, which dates answers too late', async () => {
    const { server } = await probed(streamWords());
    const holdUp = setInterval(() => {
      const until = performance.now() + 60;
      while (performance.now() < until);
    }, 100);
    const { generatorFault, generatorStall, outcomes } = await run(server, { requests: schedule(40, 10) });
    clearInterval(holdUp);
    expect(generatorStall).toMatch(/^the generator's event loop stood for over \d+ ms in 1 % of its turns/);
    expect(generatorFault).toBeNull();
    expect(outcomes.every(({ failure }) => failure === null)).toBe(true);
  });

  it('does not wait for answers: a server that answers none until all have arrived gets them all', async () => {
    const waiting: (() => void)[] = [];
    const { server } = await probed((request, response) => {
      waiting.push(() => streamWords()(request, response));
      if (waiting.length === 60) for (const answer of waiting) answer();
    });
    const { outcomes } = await run(server, { requests: schedule(60) });
    expect(outcomes.filter(({ failure }) => failure === null)).toHaveLength(60);
  });

  it('sends prompts that share no beginning, neither within a run nor with the next of another salt', async () => {
    const { scripted, server } = await probed(streamWords());
    await run(server);
    await run(server, { promptSalt: 8 });
    const blocks = scripted.requests.map((request) => textOf(request).split(' ').slice(0, 16).join(' '));
    expect(new Set(blocks.map((block) => block.split(' ').slice(0, 8).join(' '))).size).toBe(blocks.length);
  });

  it('sends prompts that the server counts as the wanted length, whatever its tokenizer', async () => {
    const countTokens = (text: string) =>
      20 + text.split(' ').reduce((sum, word) => sum + (word.length > 5 ? 2 : 1), 0);
    const scripted = await scriptedServer({ complete: streamWords({ countTokens }) });
    open.push(scripted);
    const server = await probe(target(scripted.url), { promptSalt: 3 });
    open.push(server);
    for (const wanted of [100, 1000]) {
      const requests = schedule(20, 500, { inputTokens: wanted, outputTokens: 2 });
      const { outcomes } = await run(server, { requests });
      const mean = outcomes.reduce((sum, { inputTokens }) => sum + inputTokens, 0) / outcomes.length;
      expect(Math.abs(mean / wanted - 1)).toBeLessThan(0.05);
    }
  });

  it('gives each token of a chunk of several its part of the gap', async () => {
    const { server } = await probed((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(event({ choices: [{ text: ' a' }] }));
      response.write(event({ choices: [{ text: ' bb cc dd', finish_reason: 'length' }] }));
      response.end(`${event({ choices: [], usage: { prompt_tokens: 32, completion_tokens: 4 } })}data: [DONE]\n\n`);
    });
    const { outcomes } = await run(server, { requests: schedule(3) });
    for (const { outputTokens, tokenGapsSeconds, firstTokenSeconds, endSeconds } of outcomes) {
      expect(outputTokens).toBe(4);
      const gaps = Array.from(tokenGapsSeconds);
      expect(gaps.length === 3 || gaps.length === 2).toBe(true);
      expect(gaps.reduce((sum, gap) => sum + gap, 0)).toBeCloseTo(endSeconds - firstTokenSeconds!, 5);
    }
  });

  it('counts chunks where a server sends no usage, and says so', async () => {
    const { server } = await probed(streamWords({ usage: false }));
    const { outcomes } = await run(server, { requests: schedule(3) });
    expect(outcomes.map(({ usage, outputTokens }) => [usage, outputTokens])).toEqual(new Array(3).fill(['counted', 4]));
  });

  it('without streaming knows the whole time and the counts, and no time of a token', async () => {
    const { server } = await probed(streamWords(), { streaming: false, api: 'chat' });
    const { outcomes } = await run(server, { requests: schedule(3) });
    expect(outcomes[0]).toMatchObject({ failure: null, firstTokenSeconds: null, outputTokens: 4, usage: 'server' });
    expect(outcomes[0]!.tokenGapsSeconds).toHaveLength(0);
  });

  it('without streaming and usage has only what was asked for, and says so', async () => {
    const { server } = await probed(streamWords({ usage: false }), { streaming: false });
    const { outcomes } = await run(server, { requests: schedule(2) });
    expect(outcomes[0]).toMatchObject({ usage: 'requested', outputTokens: 4, inputTokens: 32 });
  });

  it.each([
    ['goes on without end', true],
    ['stays open', false],
  ])('gives up the connection of a stream that %s after its last event, and counts the answer', async (_, goesOn) => {
    const closed: Promise<void>[] = [];
    const { server } = await probed((_request, response) => {
      closed.push(new Promise((resolve) => response.once('close', resolve)));
      const goOn = (): void => {
        while (!response.destroyed && response.write(': still here\n\n'));
        if (!response.destroyed) response.once('drain', goOn);
      };
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`${event({ choices: [{ text: ' a', finish_reason: 'stop' }] })}data: [DONE]\n\n`, () => {
        if (goesOn) goOn();
      });
    });
    const { outcomes } = await run(server, { requests: schedule(5) });
    expect(outcomes.map(({ failure, outputTokens }) => [failure, outputTokens])).toEqual(new Array(5).fill([null, 1]));
    // Nothing but an abort of ours closes these.
    await Promise.all(closed);
    expect(closed).toHaveLength(5);
  });

  it('keeps the connection of a stream that adds little after its last event', async () => {
    const sockets = new Set<unknown>();
    const { server } = await probed((request, response) => {
      sockets.add(response.socket);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`${event({ choices: [{ text: ' a', finish_reason: 'stop' }] })}data: [DONE]\n\n`, () =>
        response.end(`\n: ${request.path}\n\n`),
      );
    });
    const one: Cell = { inputTokens: 32, outputTokens: 1 };
    const { outcomes } = await run(server, { requests: schedule(20, 50, one) });
    expect(outcomes.every(({ failure }) => failure === null)).toBe(true);
    expect(sockets.size).toBeLessThan(10);
  });

  it('of no request is over at once', async () => {
    const { server } = await probed(streamWords());
    expect(await run(server, { requests: [] })).toMatchObject({ outcomes: [], aborted: null });
  });
});

describe('requests that fail', () => {
  const begin = (response: ServerResponse, ...pieces: readonly string[]): void => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const piece of pieces) response.write(piece);
  };
  const stream = (response: ServerResponse, ...pieces: readonly string[]): void => {
    begin(response, ...pieces);
    response.end();
  };
  const one = event({ choices: [{ text: ' a' }] });
  const cutOff = (response: ServerResponse): void => {
    begin(response);
    response.write(one, () => response.destroy());
  };
  const redirect = (response: ServerResponse): void => {
    response.writeHead(307, { location: '/elsewhere?token=x' }).end();
  };
  const empty = (response: ServerResponse): void => {
    response.writeHead(204).end();
  };

  it.each([
    ['http_401', (response) => sendJson(response, 401, { error: { message: 'who are you' } }), 'who are you'],
    ['http_404', (response) => sendJson(response, 404, { detail: 'no such model' }), 'no such model'],
    ['http_429', (response) => sendJson(response, 429, { error: 'slow down' }), 'status 429: slow down'],
    ['http_5xx', (response) => sendJson(response, 503, {}), 'status 503'],
    ['http_other', redirect, 'redirects are not followed'],
    ['http_other', empty, 'status 204'],
    ['malformed', (response) => stream(response, 'data: {"choi\n\n'), 'expected JSON'],
    ['malformed', (response) => sendJson(response, 200, { choices: [{ text: ' a b' }] }), 'expected a stream'],
    ['dropped', (response) => stream(response, one), 'ended before'],
    ['dropped', cutOff, ''],
    ['dropped', (response) => response.destroy(), ''],
    ['error_in_stream', (response) => stream(response, one, event({ error: { message: 'CUDA error' } })), 'CUDA error'],
    ['no_output', (response) => stream(response, 'data: [DONE]\n\n'), 'no text'],
  ] satisfies readonly [FailureKind, (response: ServerResponse) => void, string][])(
    'are counted as %s',
    async (failure, answer, detail) => {
      const { server } = await probed((_, response) => answer(response));
      const { outcomes } = await run(server, { requests: schedule(5) });
      expect(outcomes.map((outcome) => outcome.failure)).toEqual(new Array(5).fill(failure));
      expect(outcomes[0]!.failureDetail ?? '').toContain(detail);
      expect(outcomes[0]!.failureDetail ?? '').not.toContain('token=x');
    },
  );

  it('for want of time end at their limit, and the run with them', async () => {
    const { server } = await probed((_, response) => begin(response, one), { timeoutSeconds: 0.3 });
    const { outcomes } = await run(server, { requests: schedule(5) });
    expect(outcomes.map(({ failure }) => failure)).toEqual(new Array(5).fill('timeout'));
    expect(outcomes[0]).toMatchObject({ outputTokens: 1, usage: 'counted' });
  });

  it('without a server are counted as connect', async () => {
    const { server, scripted } = await probed(streamWords());
    await scripted.close();
    const { outcomes } = await run(server, { requests: schedule(5) });
    for (const { failure } of outcomes) expect(['connect', 'dropped']).toContain(failure);
    expect(outcomes.some(({ failure }) => failure === 'connect')).toBe(true);
  });

  it('do not harm those that succeed', async () => {
    let number = 0;
    const { server } = await probed((request, response) => {
      number += 1;
      if (number % 3 === 0) sendJson(response, 500, {});
      else if (number % 3 === 1) response.destroy();
      else streamWords()(request, response);
    });
    const { outcomes } = await run(server, { requests: schedule(60) });
    const kinds = (kind: FailureKind | null) => outcomes.filter(({ failure }) => failure === kind).length;
    expect([kinds(null), kinds('http_5xx'), kinds('dropped')]).toEqual([20, 20, 20]);
  });

  it('never repeat the key, even where the server does', async () => {
    const { server } = await probed(
      (_, response) => sendJson(response, 401, { error: { message: 'Incorrect API key provided: sk-secret.' } }),
      { apiKey: 'sk-secret' },
    );
    const { outcomes } = await run(server, { requests: schedule(2) });
    expect(outcomes[0]!.failureDetail).toBe('status 401: Incorrect API key provided: ***.');
  });
});

describe('a run against the simulated engine', () => {
  async function engine(faults: FaultSettings): Promise<OpenAiServer> {
    const server = new EngineServer({
      ...nullEngine({ modelName: 'm', maxModelTokens: 8192 }),
      version: '0',
      speed: 1,
      seed: 3,
      eosRate: 0.5,
      apiKey: 'sk-1',
      faults,
      maxRequests: 1000,
    });
    const url = await server.listen({ host: '127.0.0.1', port: 0 });
    open.push({ close: () => server.stop() });
    return connected(url);
  }

  async function connected(url: string): Promise<OpenAiServer> {
    for (let salt = 0; ; salt++) {
      // Its faults meet the probe as well; another request has another fate.
      const server = await probe(target(url, { apiKey: 'sk-1', timeoutSeconds: 1 }), { promptSalt: salt }).catch(
        (error: unknown) => {
          if (salt > 20) throw error;
          return null;
        },
      );
      if (server === null) continue;
      open.push(server);
      return server;
    }
  }

  it('gets exactly the tokens that it asked for, both ways', async () => {
    const server = await engine(noFaults);
    expect(server.abilities.hasExactLengths).toBe(true);
    const { outcomes } = await run(server, { requests: schedule(100, 500, { inputTokens: 300, outputTokens: 7 }) });
    for (const { failure, inputTokens, outputTokens } of outcomes) {
      expect([failure, inputTokens, outputTokens]).toEqual([null, 300, 7]);
    }
  });

  it('counts each of its faults by kind, and its answers as successes', async () => {
    const rates = { error: 0.1, rateLimit: 0.1, drop: 0.1, malformed: 0.1, streamError: 0.1, hang: 0.1 };
    const server = await engine({ rates, slowStartSeconds: 0, noUsage: false });
    const { outcomes } = await run(server, { requests: schedule(200, 500, { inputTokens: 40, outputTokens: 12 }) });
    const count = (kind: FailureKind | null) => outcomes.filter(({ failure }) => failure === kind).length;
    const kinds = ['http_5xx', 'http_429', 'dropped', 'malformed', 'error_in_stream', 'timeout'] as const;
    expect(count(null) + kinds.reduce((sum, kind) => sum + count(kind), 0)).toBe(200);
    for (const kind of kinds) expect(Math.abs(count(kind) - 20), kind).toBeLessThan(4 * Math.sqrt(18));
  });
});

describe('a run that ends early', () => {
  const hanging = (_: ReceivedRequest, response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
  };

  it('by the user cuts off what is in flight and sends no more', async () => {
    const controller = new AbortController();
    let arrived = 0;
    const { server, scripted } = await probed((request, response) => {
      hanging(request, response);
      arrived += 1;
      if (arrived === 10) controller.abort();
    });
    const before = scripted.requests.length;
    const { outcomes, aborted } = await run(server, { requests: schedule(1000, 100), signal: controller.signal });
    expect(aborted).toBe('interrupted');
    expect(outcomes.length).toBeLessThan(1000);
    expect(outcomes.every(({ failure }) => failure === 'cancelled')).toBe(true);
    expect(scripted.requests.length - before).toBeLessThanOrEqual(outcomes.length);
  });

  it('that was interrupted before it began sends nothing', async () => {
    const { server } = await probed(streamWords());
    expect(await run(server, { signal: AbortSignal.abort() })).toMatchObject({ outcomes: [], aborted: 'interrupted' });
  });

  it('because it is hopeless is told the outcomes so far and says why', async () => {
    const { server } = await probed(streamWords());
    const seen: number[] = [];
    const { aborted, outcomes } = await run(server, {
      requests: schedule(2000, 100),
      shouldAbort: (soFar, elapsedSeconds) => {
        seen.push(soFar.length);
        expect(elapsedSeconds).toBeGreaterThan(0);
        return soFar.length >= 10 ? 'hopeless' : null;
      },
    });
    expect(aborted).toBe('hopeless');
    expect(outcomes.length).toBeLessThan(2000);
    expect(seen.at(-1)).toBeGreaterThanOrEqual(10);
  });

  it('for want of connections is at fault, rather than hold requests back', async () => {
    const { server } = await probed(hanging, { maxInFlight: 8 });
    const { aborted, generatorFault, outcomes } = await run(server);
    expect(aborted).toBe('8 requests were in flight, the most that may be');
    expect(generatorFault).toContain('could not be sent in time');
    expect(outcomes).toHaveLength(8);
  });

  it('tells each outcome as it happens', async () => {
    const { server } = await probed(streamWords());
    const told: RequestOutcome[] = [];
    const { outcomes } = await run(server, { onOutcome: (outcome) => void told.push(outcome) });
    expect([...told].sort((a, b) => a.id - b.id)).toEqual(outcomes);
  });
});
