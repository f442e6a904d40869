import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { OpenAiTarget } from '../../../src/adapters/openai/target.js';

/** A request for a completion as the server got it. */
export type ReceivedRequest = {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: {
    readonly model: string;
    readonly prompt?: string;
    readonly messages?: readonly { readonly content: string }[];
    readonly max_tokens?: number;
    readonly [field: string]: unknown;
  };
};

export type Script = {
  /** Answers a request for a completion. */
  readonly complete?: (request: ReceivedRequest, response: ServerResponse) => void;
  /** Answers anything else (`/v1/models`, `/tokenize`); false leaves it to the default. */
  readonly other?: (path: string, body: string, response: ServerResponse) => boolean;
};

export type ScriptedServer = {
  readonly url: string;
  readonly requests: readonly ReceivedRequest[];
  /** Paths of everything asked, in order. */
  readonly paths: readonly string[];
  close(): Promise<void>;
};

/** A server on loopback that does what a test says; by default it has one model, `m`, and streams words. */
export async function scriptedServer(script: Script = {}): Promise<ScriptedServer> {
  const requests: ReceivedRequest[] = [];
  const paths: string[] = [];
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    const path = request.url ?? '';
    paths.push(path);
    if (path.endsWith('/completions')) {
      const received = { path, headers: request.headers, body: JSON.parse(text) };
      requests.push(received);
      (script.complete ?? streamWords())(received, response);
    } else if (script.other?.(path, text, response) !== true) {
      if (path === '/v1/models') sendJson(response, 200, { object: 'list', data: [{ id: 'm', max_model_len: 4096 }] });
      else sendJson(response, 404, { detail: 'Not Found' });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    paths,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

export function textOf({ body }: ReceivedRequest): string {
  return body.prompt ?? body.messages![0]!.content;
}

export function event(document: unknown): string {
  return `data: ${JSON.stringify(document)}\n\n`;
}

/** Streams as many words as are asked for, or answers at once where no stream is. Prompt tokens: `countTokens`. */
export function streamWords(
  options: { readonly usage?: boolean; readonly countTokens?: (text: string) => number } = {},
): (request: ReceivedRequest, response: ServerResponse) => void {
  const { usage = true, countTokens = (text) => text.split(' ').length } = options;
  return (request, response) => {
    const tokens = request.body.max_tokens!;
    const counts = { prompt_tokens: countTokens(textOf(request)), completion_tokens: tokens };
    const isChat = request.path.endsWith('/chat/completions');
    if (request.body.stream !== true) {
      const text = ' word'.repeat(tokens);
      const choice = isChat ? { message: { content: text } } : { text };
      sendJson(response, 200, {
        choices: [{ ...choice, finish_reason: 'length' }],
        ...(usage ? { usage: counts } : {}),
      });
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let i = 0; i < tokens; i++) {
      const piece = isChat ? { delta: { content: ' word' } } : { text: ' word' };
      response.write(event({ choices: [{ index: 0, ...piece, finish_reason: i === tokens - 1 ? 'length' : null }] }));
    }
    const wantsUsage = (request.body.stream_options as { include_usage?: boolean } | undefined)?.include_usage === true;
    if (usage && wantsUsage) response.write(event({ choices: [], usage: counts }));
    response.end('data: [DONE]\n\n');
  };
}

export function target(baseUrl: string, overrides: Partial<OpenAiTarget> = {}): OpenAiTarget {
  return {
    baseUrl,
    model: 'm',
    apiKey: null,
    api: 'completions',
    streaming: true,
    temperature: 0,
    timeoutSeconds: 20,
    maxInFlight: 256,
    ...overrides,
  };
}
