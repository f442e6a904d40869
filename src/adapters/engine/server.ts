import { timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import type { Duplex } from 'node:stream';
import { InputError, quoteInput } from '../../core/input-error.js';
import { settleAnswer } from './answer.js';
import type { Backend } from './backend.js';
import { seedOf } from './chance.js';
import { Delivery, sendJson, sendRefusal } from './delivery.js';
import { checkFaults, type FaultSettings, faultOf } from './faults.js';
import { EngineMetrics } from './metrics.js';
import {
  answerTokenize,
  type GenerationRequest,
  type ModelLimits,
  Refusal,
  readChat,
  readCompletion,
  readDetokenize,
} from './requests.js';
import { detokenize } from './tokenizer.js';
import { answerWriter } from './wire.js';

/**
 * The simulated engine's HTTP face: OpenAI's API as vLLM speaks it.
 *
 * It stands on node:http itself: its work is writing many small events, where a framework has nothing to give and its
 * part of each request would be measured as the engine's.
 */

export type EngineOptions = {
  readonly backend: Backend;
  readonly model: ModelLimits;
  /** Null where nothing is simulated. */
  readonly kvCacheTokens: number | null;
  /** What is simulated, `gpu=L4; model=llama-3.1-8b`: part of a header of every response. */
  readonly simulates: string;
  readonly version: string;
  /** Engine milliseconds per millisecond that clients see. */
  readonly speed: number;
  readonly seed: number;
  /** Probability that a token ends an answer whose request does not say `ignore_eos`. */
  readonly eosRate: number;
  /** Null: everybody may. */
  readonly apiKey: string | null;
  readonly faults: FaultSettings;
  /** Most requests in the engine, running and waiting; more are answered 503. */
  readonly maxRequests: number;
};

/** Largest body [bytes]: half a million token ids, or about a million tokens of text. */
const bodyLimit = 8 * 2 ** 20;
/** Most open connections; more are closed unheard. */
const connectionLimit = 20_000;
/** A client that does not get its head, or its whole request, across in this time is cut off [ms]. */
const timeouts = { headersMs: 10_000, requestMs: 60_000, keepAliveMs: 75_000 };

/** How many of what the engine has answered so far. */
export type EngineCounts = { readonly requests: number };

type Route = {
  readonly method: 'GET' | 'POST';
  /** Whether the key is asked for: as in vLLM, below /v1 only. */
  readonly guarded: boolean;
  readonly answer: (response: ServerResponse, body: string) => void | Promise<void>;
};

/** A running or not yet running engine. `listen` once, `stop` once. */
export class EngineServer {
  readonly #options: EngineOptions;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #metrics: EngineMetrics;
  readonly #server: Server;
  readonly #startMs: number;
  readonly #routes: Readonly<Record<string, Route>>;
  readonly #created = unixSeconds();
  /** Generation requests so far. */
  #ordinal = 0;

  /** @throws InputError for faults that cannot be */
  constructor(options: EngineOptions) {
    checkFaults(options.faults);
    this.#options = options;
    const { backend, model, kvCacheTokens, version, simulates } = options;
    this.#headers = {
      server: `gpumix-engine/${version} (simulated)`,
      'x-gpumix-simulated': `true; ${simulates.replace(/[^\x20-\x7e]/g, '?')}`,
    };
    this.#metrics = new EngineMetrics({ ...model, kvCacheTokens, load: () => backend.load() });
    this.#startMs = backend.nowMs();
    this.#routes = this.#makeRoutes();
    this.#server = createServer({ keepAlive: true, noDelay: true }, (request, response) =>
      this.#receive(request, response),
    );
    // Node answers these two by itself, without our headers, or not at all.
    this.#server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
      const found = quoteInput(request.headers.expect);
      this.#answerError(response, new Refusal(417, `expect: found ${found}, expected 100-continue`));
    });
    this.#server.on('connect', (_request, socket: Duplex) => {
      const refusal = new Refusal(405, 'found CONNECT, expected GET or POST: this engine is no proxy');
      this.#endWith(socket, refusal, 'Method Not Allowed');
    });
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#refuseNoHttp(error, socket));
    this.#server.headersTimeout = timeouts.headersMs;
    this.#server.requestTimeout = timeouts.requestMs;
    this.#server.keepAliveTimeout = timeouts.keepAliveMs;
    this.#server.maxConnections = connectionLimit;
  }

  /**
   * Begins to answer; port 0 takes a free one.
   *
   * @returns the URL, as a person would type it
   * @throws InputError where the address cannot be listened on
   */
  async listen({ host, port }: { readonly host: string; readonly port: number }): Promise<string> {
    const server = this.#server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, host, port)));
      server.listen({ host, port, backlog: 4096 }, resolve);
    });
    const address = server.address() as AddressInfo;
    const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : isIPv6(host) ? `[${host}]` : host;
    return `http://${shown}:${address.port}`;
  }

  get counts(): EngineCounts {
    return { requests: this.#ordinal };
  }

  /** Ends at once: what runs is cut off, as where an engine is killed. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    this.#options.backend.stop();
    await closed;
  }

  #makeRoutes(): Readonly<Record<string, Route>> {
    const { model, version } = this.#options;
    const get = (guarded: boolean, answer: Route['answer']): Route => ({ method: 'GET', guarded, answer });
    const post = (guarded: boolean, answer: Route['answer']): Route => ({ method: 'POST', guarded, answer });
    const json = (response: ServerResponse, value: unknown): void =>
      sendJson(response, 200, { headers: this.#headers, body: JSON.stringify(value) });
    return {
      '/v1/completions': post(true, (response, body) => this.#generate(response, body, readCompletion)),
      '/v1/chat/completions': post(true, (response, body) => this.#generate(response, body, readChat)),
      '/v1/models': get(true, (response) => json(response, this.#modelList())),
      '/tokenize': post(false, (response, body) => json(response, answerTokenize(body, model))),
      '/detokenize': post(false, (response, body) =>
        json(response, { prompt: detokenize(readDetokenize(body, model)) }),
      ),
      '/health': get(false, (response) => {
        response.writeHead(200, { ...this.#headers, 'content-length': 0 });
        response.end();
      }),
      '/version': get(false, (response) => json(response, { version, engine: 'gpumix', simulated: true })),
      '/metrics': get(false, async (response) => {
        const text = await this.#metrics.text();
        response.writeHead(200, { ...this.#headers, 'content-type': this.#metrics.contentType });
        response.end(text);
      }),
    };
  }

  #modelList(): object {
    const { modelName, maxModelTokens } = this.#options.model;
    return {
      object: 'list',
      data: [
        {
          id: modelName,
          object: 'model',
          created: this.#created,
          owned_by: 'gpumix',
          root: modelName,
          parent: null,
          max_model_len: maxModelTokens,
        },
      ],
    };
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    // A socket that breaks while it is written to: 'close' follows, which is handled.
    response.on('error', () => {});
    const url = request.url ?? '/';
    const query = url.indexOf('?');
    const path = query === -1 ? url : url.slice(0, query);
    const route = Object.hasOwn(this.#routes, path) ? this.#routes[path]! : undefined;
    try {
      this.#refuseWhileLoading();
      if (route === undefined) throw new Refusal(404, `found ${quoteInput(path)}, expected one of ${this.#paths()}`);
      if (request.method !== route.method) {
        throw new Refusal(405, `${path}: found ${request.method}, expected ${route.method}`, { allow: route.method });
      }
      if (route.guarded) this.#refuseWrongKey(request);
    } catch (error) {
      this.#answerError(response, error);
      return;
    }
    if (route.method === 'GET') this.#run(route, response, '');
    else
      readBody(
        request,
        (body) => this.#run(route, response, body),
        (error) => this.#answerError(response, error),
      );
  }

  /** What is no HTTP, or came too slowly, has no response object: its answer is written as it is, and the last. */
  #refuseNoHttp(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const tooSlow = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
    const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
    const [status, text] = tooSlow
      ? [408, 'Request Timeout']
      : tooLarge
        ? [431, 'Request Header Fields Too Large']
        : [400, 'Bad Request'];
    this.#endWith(
      socket,
      new Refusal(status, `found ${tooSlow ? 'an unfinished request' : 'no HTTP'} (${error.code})`),
      text,
    );
  }

  /** An answer without a response object. */
  #endWith(socket: Duplex, { status, body }: Refusal, text: string): void {
    const headers = { ...this.#headers, 'content-type': 'application/json', connection: 'close' };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.end(
      `HTTP/1.1 ${status} ${text}\r\n${lines.join('')}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  }

  #run(route: Route, response: ServerResponse, body: string): void {
    try {
      const answered = route.answer(response, body);
      if (answered instanceof Promise) answered.catch((error) => this.#answerError(response, error));
    } catch (error) {
      this.#answerError(response, error);
    }
  }

  #generate(
    response: ServerResponse,
    body: string,
    read: (body: string, limits: ModelLimits) => GenerationRequest,
  ): void {
    const { backend, model, seed, speed, eosRate, faults, maxRequests } = this.#options;
    const request = read(body, model);
    const ordinal = ++this.#ordinal;
    const fault = faultOf(faults, seed, ordinal);
    if (fault?.kind === 'error') throw new Refusal(500, 'Internal server error (simulated)');
    if (fault?.kind === 'rateLimit') throw new Refusal(429, 'Too many requests (simulated)', { 'retry-after': '1' });
    if (fault?.kind === 'hang') return;
    const { running, waiting } = backend.load();
    if (running + waiting >= maxRequests) {
      throw new Refusal(503, `found ${running + waiting} requests in the engine, expected fewer than ${maxRequests}`, {
        'retry-after': '1',
      });
    }
    const answer = settleAnswer({ ...request, seed: answerSeed(request, seed, ordinal), eosRate });
    const id = `${request.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${hex(seed)}${hex(ordinal)}`;
    const writer = answerWriter(request, answer, {
      identity: { id, model: model.modelName, created: unixSeconds() },
      usage: !faults.noUsage,
    });
    const headers = this.#headers;
    const metrics = this.#metrics;
    new Delivery({ request, answer, writer, response, headers, fault, backend, metrics, speed }).start();
  }

  #refuseWhileLoading(): void {
    const { backend, faults } = this.#options;
    const leftMs = this.#startMs + faults.slowStartSeconds * 1000 - backend.nowMs();
    if (leftMs <= 0) return;
    const seconds = Math.max(1, Math.ceil(leftMs / 1000 / this.#options.speed));
    throw new Refusal(503, 'Weights are being loaded (simulated)', { 'retry-after': String(seconds) });
  }

  #refuseWrongKey(request: IncomingMessage): void {
    const { apiKey } = this.#options;
    if (apiKey === null) return;
    // The name of the scheme has no case, in vLLM as in HTTP.
    const given = Buffer.from((request.headers.authorization ?? '').replace(/^bearer +/i, 'Bearer '));
    const wanted = Buffer.from(`Bearer ${apiKey}`);
    if (given.length === wanted.length && timingSafeEqual(given, wanted)) return;
    const found = given.length === 0 ? 'no key' : 'another key';
    throw new Refusal(401, `authorization: found ${found}, expected Bearer and the key of --api-key`);
  }

  #answerError(response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const refusal = error instanceof Refusal ? error : new Refusal(500, `a fault of the engine itself: ${error}`);
    sendRefusal(response, refusal, this.#headers);
  }

  #paths(): string {
    return Object.keys(this.#routes).join(', ');
  }
}

/** As of real engines at temperature 0, one prompt has one answer; else every request has its own, unless it has a seed. */
function answerSeed(request: GenerationRequest, seed: number, ordinal: number): number {
  if (request.seed !== null) return seedOf(seedOf(seed, request.promptHash), request.seed);
  return seedOf(seedOf(seed, request.promptHash), request.temperature === 0 ? 0 : ordinal);
}

function readBody(request: IncomingMessage, then: (body: string) => void, failed: (error: Refusal) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= bodyLimit) chunks.push(chunk);
    else {
      request.removeAllListeners('data').removeAllListeners('end');
      request.resume();
      failed(new Refusal(413, `body: found more than ${bodyLimit} bytes`, { connection: 'close' }));
    }
  });
  request.on('end', () =>
    then(chunks.length === 1 ? chunks[0]!.toString('utf8') : Buffer.concat(chunks).toString('utf8')),
  );
  // Cut off before its end: there is nobody to answer.
  request.on('error', () => {});
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): unknown {
  const refuse = (flag: string, found: string, expected: string) =>
    new InputError(flag, [{ place: '', found, expected }]);
  switch (error.code) {
    case 'EADDRINUSE':
      return refuse('--port', `${port}, on which another process listens already`, 'a free port, or 0 for any');
    case 'EACCES':
      return refuse('--port', `${port}, which needs privileges`, 'a port of 1024 or above, or 0 for any');
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EINVAL':
      return refuse('--host', quoteInput(host), 'an address of this machine, such as 127.0.0.1 or 0.0.0.0');
    default:
      return error;
  }
}

function unixSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}
