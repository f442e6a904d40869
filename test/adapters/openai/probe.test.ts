import { afterEach, describe, expect, it } from 'vitest';
import { probe } from '../../../src/adapters/openai/probe.js';
import type { OpenAiServer } from '../../../src/adapters/openai/server.js';
import type { OpenAiTarget } from '../../../src/adapters/openai/target.js';
import { InputError } from '../../../src/core/input-error.js';
import { Unavailable } from '../../../src/core/ports.js';
import { wordsFor } from '../../../src/profiling/prompts.js';
import { type Script, type ScriptedServer, scriptedServer, sendJson, streamWords, target } from './scripted-server.js';

const open: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function started(script: Script = {}): Promise<ScriptedServer> {
  const server = await scriptedServer(script);
  open.push(server);
  return server;
}

async function probed(url: string, overrides: Partial<OpenAiTarget> = {}): Promise<OpenAiServer> {
  const server = await probe(target(url, overrides), { promptSalt: 1 });
  open.push(server);
  return server;
}

async function refusal(url: string, overrides: Partial<OpenAiTarget> = {}): Promise<string> {
  const error = await probed(url, overrides).then(
    () => new Error('the probe accepted the server'),
    (thrown: unknown) => thrown as Error,
  );
  const isBusy = error instanceof Unavailable;
  expect(error).toBeInstanceOf(isBusy ? Unavailable : InputError);
  return `${isBusy ? 'not now: ' : ''}${error.message}`;
}

/** Tokens of a tokenizer to which words of over five letters are two. */
function twoForLong(text: string): number {
  return 1 + text.split(' ').reduce((sum, word) => sum + (word.length > 5 ? 2 : 1), 0);
}

describe('a server that can be measured', () => {
  it('is asked for its models, then with every field, and learns the length of words from its usage', async () => {
    const { url, requests } = await started({
      complete: streamWords({ countTokens: (text) => 7 + 2 * text.split(' ').length }),
    });
    const server = await probed(url);
    expect(requests[0]!.body).toMatchObject({
      model: 'm',
      stream: true,
      ignore_eos: true,
      min_tokens: 4,
      max_tokens: 4,
      temperature: 0,
      stream_options: { include_usage: true },
    });
    expect(server.warnings).toEqual([]);
    expect(server.abilities).toMatchObject({ hasUsage: true, hasExactLengths: false, maxModelTokens: 4096 });
    expect(server.promptLengths.tokensPerWord).toBeCloseTo(2, 9);
    expect(server.promptLengths.overheadTokens).toBeCloseTo(7, 6);
    expect(requests.length).toBeLessThan(5);
  });

  it.each(['', '/', '/v1', '/v1/'])('may be named with and without /v1 (here %s)', async (ending) => {
    const { url, paths } = await started();
    await probed(url + ending);
    expect(paths).toContain('/v1/models');
    expect(paths).toContain('/v1/completions');
  });

  it('is asked at /v1/chat/completions where chat is wanted', async () => {
    const { url, requests } = await started();
    await probed(url, { api: 'chat' });
    expect(requests[0]).toMatchObject({ path: '/v1/chat/completions', body: { messages: [{ role: 'user' }] } });
  });

  it('gets the key, which is in no warning and no error', async () => {
    const { url, requests } = await started();
    await probed(url, { apiKey: 'sk-secret' });
    expect(requests[0]!.headers.authorization).toBe('Bearer sk-secret');
    const angry = await started({
      complete: (_, response) => sendJson(response, 500, { error: { message: 'key sk-secret is broken' } }),
    });
    const message = await refusal(angry.url, { apiKey: 'sk-secret' });
    expect(message).not.toContain('sk-secret');
  });

  it('may leave out :latest, as Ollama does', async () => {
    const { url } = await started({
      other: (path, _, response) => {
        if (path !== '/v1/models') return false;
        sendJson(response, 200, { data: [{ id: 'm:latest' }] });
        return true;
      },
    });
    expect((await probed(url)).warnings).toEqual([]);
  });
});

describe('a server with a tokenizer', () => {
  it.each([
    ['of vLLM', (document: { prompt?: string }) => ({ count: twoForLong(document.prompt!) })],
    [
      'of llama.cpp',
      (document: { content?: string }) => ({ tokens: new Array(twoForLong(document.content ?? '')).fill(1) }),
    ],
  ])('%s gives prompts of exactly the wanted length', async (name, tokenize) => {
    const { url, requests } = await started({
      complete: streamWords({ countTokens: (text) => 20 + twoForLong(text) }),
      other: (path, body, response) => {
        if (path !== '/tokenize') return false;
        const document = JSON.parse(body);
        if (name === 'of vLLM' && document.prompt === undefined) sendJson(response, 400, {});
        else sendJson(response, 200, tokenize(document));
        return true;
      },
    });
    const server = await probed(url);
    expect(server.abilities.hasExactLengths).toBe(true);
    expect(server.abilities.words.every((word) => word.length <= 5)).toBe(true);
    // 20 of a template that /tokenize does not know, and the mark of the beginning.
    expect(server.promptLengths).toEqual({ overheadTokens: 21, tokensPerWord: 1 });
    expect(wordsFor(1000, server.promptLengths)).toBe(979);
    expect(requests.length).toBeLessThan(4);
  });

  it('that fails midway is done without', async () => {
    let questions = 0;
    const { url } = await started({
      other: (path, _, response) => {
        if (path !== '/tokenize') return false;
        questions += 1;
        sendJson(response, questions < 4 ? 200 : 500, { count: 5 });
        return true;
      },
    });
    expect((await probed(url)).abilities.hasExactLengths).toBe(false);
  });
});

describe('a server that lacks something', () => {
  const refusing =
    (fields: readonly string[], isNamed: boolean): Script['complete'] =>
    (request, response) => {
      const found = fields.filter((field) => field in request.body);
      if (found.length === 0) streamWords()(request, response);
      else
        sendJson(response, 400, {
          error: { message: isNamed ? `Unrecognized request argument: ${found[0]}` : 'Bad Request' },
        });
    };

  it.each([true, false])('is asked without the fields that it refuses (it names them: %s)', async (isNamed) => {
    const { url, requests } = await started({ complete: refusing(['ignore_eos', 'min_tokens'], isNamed) });
    const server = await probed(url);
    expect(server.abilities.shape.extras).toEqual(['stream_options']);
    expect(server.warnings).toEqual([
      'the server refuses ignore_eos and min_tokens: answers may end before the wanted length',
    ]);
    expect(requests.at(-1)!.body).not.toHaveProperty('ignore_eos');
  });

  it('is asked for max_completion_tokens where it wants that name', async () => {
    const { url } = await started({
      complete: (request, response) => {
        if ('max_tokens' in request.body) {
          sendJson(response, 400, { error: { message: "Use 'max_completion_tokens' instead of 'max_tokens'." } });
        } else
          streamWords()(
            { ...request, body: { ...request.body, max_tokens: request.body.max_completion_tokens as number } },
            response,
          );
      },
    });
    expect((await probed(url)).abilities.shape.lengthField).toBe('max_completion_tokens');
  });

  it('without usage is measured by chunks, with a warning', async () => {
    const { url } = await started({ complete: streamWords({ usage: false }) });
    const server = await probed(url);
    expect(server.abilities.hasUsage).toBe(false);
    expect(server.warnings).toEqual([expect.stringContaining('sends no usage')]);
  });

  it('without streaming is measured without it, with a warning', async () => {
    const { url } = await started({
      complete: (request, response) =>
        streamWords()({ ...request, body: { ...request.body, stream: false } }, response),
    });
    const server = await probed(url);
    expect(server.abilities.shape.streaming).toBe(false);
    expect(server.warnings).toEqual([expect.stringContaining('does not stream')]);
  });

  it('without a list of models is tried all the same, with a warning', async () => {
    const { url } = await started({
      other: (path, _, response) => {
        if (path !== '/v1/models') return false;
        sendJson(response, 404, {});
        return true;
      },
    });
    expect((await probed(url)).warnings).toEqual([expect.stringContaining('lists no models (status 404)')]);
  });
});

describe('a server that cannot be measured', () => {
  it('that is not there is said so', async () => {
    const { url, close } = await scriptedServer();
    await close();
    expect(await refusal(url)).toMatch(/^not now: .*ECONNREFUSED.*expected a running OpenAI-compatible server/);
    expect(await refusal('http://no-such-host.invalid:1')).toMatch(/^not now: .*expected a running OpenAI-compatible/);
  });

  it('with another model lists what it has, and the nearest', async () => {
    const { url } = await started({
      other: (path, _, response) => {
        if (path !== '/v1/models') return false;
        sendJson(response, 200, { data: [{ id: 'llama-3.1-8b' }, { id: 'qwen3-32b' }] });
        return true;
      },
    });
    const message = await refusal(url, { model: 'llama-3.1-8B-' });
    expect(message).toContain('model: found "llama-3.1-8B-", expected one of llama-3.1-8b, qwen3-32b');
    expect(message).toContain('did you mean "llama-3.1-8b"?');
  });

  it.each([
    [401, 'status 401 without an API key, expected an API key that the server takes'],
    [403, 'status 403 without an API key'],
    [429, 'status 429, expected a server that is ready'],
    [503, 'status 503, expected a server that is ready'],
    [302, 'redirects are not followed'],
  ])('with status %d for its models is refused: %s', async (status, message) => {
    const { url, requests } = await started({
      other: (_, __, response) => {
        response.writeHead(status, { location: 'http://127.0.0.1:1/' });
        response.end();
        return true;
      },
    });
    const said = await refusal(url);
    expect(said).toContain(message);
    expect(said.startsWith('not now: ')).toBe(status === 429 || status === 503);
    expect(requests).toEqual([]);
  });

  it.each([
    [
      'refuses every request',
      (response) => sendJson(response, 400, { error: { message: 'no chat template' } }),
      'no chat template',
    ],
    ['does not know the API', (response) => sendJson(response, 404, {}), 'speak the chat API instead'],
    ['fails', (response) => sendJson(response, 500, { detail: 'CUDA error' }), 'status 500'],
    ['sends a page', (response) => response.end('<html></html>'), 'in the event stream'],
    [
      'says nothing',
      (response) => sendJson(response, 200, { choices: [{ text: '', finish_reason: 'stop' }] }),
      'has no text',
    ],
    ['hangs up', (response) => response.destroy(), 'expected an answer with text'],
    [
      'breaks off',
      (response) => void response.write('data: {"choices":[{"text":"a"}]}\n\n', () => response.destroy()),
      'expected an answer with text',
    ],
  ] satisfies readonly [string, (response: import('node:http').ServerResponse) => void, string][])(
    'that %s is refused with what it said',
    async (_, answer, message) => {
      const { url } = await started({ complete: (__, response) => answer(response) });
      expect(await refusal(url)).toContain(message);
    },
  );

  it('that never answers is given up after the time allowed', async () => {
    const { url } = await started({ complete: () => {} });
    expect(await refusal(url, { timeoutSeconds: 0.2 })).toContain('no whole answer within 0.2 s');
  });

  it.each([
    ['localhost:8000', 'base URL'],
    ['ftp://host', 'expected a URL of http or https'],
    ['http://user:pass@host', 'a URL with a user name or password'],
    ['http://host/v1?x=1', 'expected a URL without ? and #'],
  ])('of the address %s is refused before it is asked', async (url, message) => {
    const found = await refusal(url);
    expect(found).toContain(message);
    expect(found).not.toContain('pass@');
  });

  it('with a key that cannot stand in a header is refused without repeating it', async () => {
    const message = await refusal('http://127.0.0.1:1', { apiKey: 'sk-se cret\n' });
    expect(message).toContain('printable ASCII without spaces');
    expect(message).not.toContain('cret');
  });

  it('is left alone as soon as the user says so', async () => {
    const { url } = await started({ complete: () => {} });
    const controller = new AbortController();
    const ended = probe(target(url), { promptSalt: 1, signal: controller.signal }).catch((error: Error) => error.name);
    controller.abort();
    expect(await ended).toBe('AbortError');
  });
});
