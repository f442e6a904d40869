import { performance } from 'node:perf_hooks';
import { Pool } from 'undici';
import type { FailureKind } from '../../profiling/measurement.js';
import type { CountedPrompt, PromptLengths } from '../../profiling/prompts.js';
import { assumedPromptLengths, fitPromptLengths } from '../../profiling/prompts.js';
import { promptWords } from '../../profiling/words.js';
import { askBounded } from '../bounded-request.js';
import { type Exchange, sendRequest } from './exchange.js';
import {
  checkApiKey,
  type OpenAiTarget,
  type RequestShape,
  readAddress,
  requestBody,
  type ServerAddress,
} from './target.js';

/** What a server can do, as its probe found. */
export type ServerAbilities = {
  readonly shape: RequestShape;
  /** Whether answers carry `usage`. */
  readonly hasUsage: boolean;
  /** Words that prompts are made of. */
  readonly words: readonly string[];
  /** Whether each of the words was seen to be one token, so that prompts have exactly the wanted length. */
  readonly hasExactLengths: boolean;
  /** Of the model, where the server says it. */
  readonly maxModelTokens: number | null;
};

/** Seconds that a question about the server itself may take (`/v1/models`, `/tokenize`). */
const questionSeconds = 10;
/** Seconds that a single small request may take: some servers load the model only then. */
const firstAnswerSeconds = 120;
/** Most bytes of an answer to such a question. */
const questionBytes = 16 * 2 ** 20;
/** Prompts remembered for learning how the server counts. */
const rememberedPrompts = 2000;

/** Connections to one server, and what is known of it. Made by `probe`; `close` it. */
export class OpenAiServer {
  readonly target: OpenAiTarget;
  readonly address: ServerAddress;
  /** What will be wrong or missing in measurements of this server, one sentence each. */
  readonly warnings: string[] = [];
  abilities: ServerAbilities;
  readonly #pool: Pool;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #counted: CountedPrompt[] = [];
  #lengths: PromptLengths = assumedPromptLengths;

  /** @throws InputError for a base URL or key that cannot be */
  constructor(target: OpenAiTarget) {
    this.target = target;
    this.address = readAddress(target.baseUrl);
    const key = checkApiKey(target.apiKey);
    this.#headers = {
      'content-type': 'application/json',
      accept: target.streaming ? 'text/event-stream, application/json' : 'application/json',
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
    };
    this.abilities = {
      shape: {
        extras: ['ignore_eos', 'min_tokens', 'stream_options'],
        lengthField: 'max_tokens',
        streaming: target.streaming,
      },
      hasUsage: true,
      words: promptWords,
      hasExactLengths: false,
      maxModelTokens: null,
    };
    // One request a connection: an answer that is long in coming must not hold up another's.
    this.#pool = new Pool(this.address.origin, {
      connections: target.maxInFlight,
      pipelining: 1,
      connect: { timeout: Math.min(questionSeconds, target.timeoutSeconds) * 1000 },
    });
  }

  /** How this server counts prompts, as far as is known. */
  get promptLengths(): PromptLengths {
    return this.#lengths;
  }

  /** @param overheadTokens tokens that every prompt has beside its words, each of which is one */
  setExactLengths(overheadTokens: number): void {
    this.#lengths = { overheadTokens, tokensPerWord: 1 };
  }

  /** Learns from prompts that the server counted, so that later ones come closer to the wanted length. */
  learnLengths(counted: readonly CountedPrompt[]): void {
    if (this.abilities.hasExactLengths || counted.length === 0) return;
    this.#counted.push(...counted.slice(-rememberedPrompts));
    if (this.#counted.length > rememberedPrompts) this.#counted.splice(0, this.#counted.length - rememberedPrompts);
    this.#lengths = fitPromptLengths(this.#counted, this.#lengths);
  }

  /** The body of a request for a completion, in the shape that this server takes. */
  body(request: { readonly prompt: string; readonly outputTokens: number }): string {
    return requestBody(this.target, this.abilities.shape, request);
  }

  /** Sends a body; `onEnd` is called once, within the time allowed. @returns a function that cuts it off */
  send(
    body: string,
    onEnd: (exchange: Exchange) => void,
    timeoutSeconds = this.target.timeoutSeconds,
  ): (kind: FailureKind, detail: string) => void {
    const { target, address, abilities } = this;
    return sendRequest({
      dispatcher: this.#pool,
      path: `${address.apiPath}/${target.api === 'chat' ? 'chat/completions' : 'completions'}`,
      headers: this.#headers,
      body,
      streaming: abilities.shape.streaming,
      timeoutSeconds,
      now: secondsNow,
      onEnd,
    });
  }

  /** Sends one request and waits, two minutes at most. @param signal cuts it off: an exchange of kind `cancelled` */
  ask(request: { readonly prompt: string; readonly outputTokens: number }, signal?: AbortSignal): Promise<Exchange> {
    return new Promise((resolve) => {
      const onEnd = (exchange: Exchange) => {
        signal?.removeEventListener('abort', onAbort);
        resolve(exchange);
      };
      const cut = this.send(this.body(request), onEnd, Math.min(this.target.timeoutSeconds, firstAnswerSeconds));
      const onAbort = () => cut('cancelled', 'interrupted');
      if (signal?.aborted === true) onAbort();
      else signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /**
   * A question about the server itself, answered in JSON.
   *
   * @returns status and document; document null where the body is no JSON, as for every status but 2xx
   * @throws RequestFailed where there is no answer; what the signal says where that called it off
   */
  async question(options: {
    readonly method: 'GET' | 'POST';
    readonly path: string;
    readonly body?: unknown;
    readonly signal?: AbortSignal;
  }): Promise<{ readonly status: number; readonly document: unknown }> {
    const { method, path, body, signal } = options;
    const { status, text } = await askBounded({
      url: new URL(path, this.address.origin),
      method,
      headers: { ...this.#headers, accept: 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      timeoutMs: questionSeconds * 1000,
      largestBytes: questionBytes,
      dispatcher: this.#pool,
      ...(signal === undefined ? {} : { signal }),
    });
    return { status, document: status >= 200 && status <= 299 ? parsedOrNull(text) : null };
  }

  /** A text of the server or the connection as it may be shown: without the key, on one line, shortened. */
  shown(text: string): string {
    const { apiKey } = this.target;
    const safe = apiKey === null ? text : text.replaceAll(apiKey, '***');
    const line = safe.replace(/[\s\p{Cc}]+/gu, ' ').trim();
    return line.length > 300 ? `${line.slice(0, 300)}…` : line;
  }

  /** Ends all connections, requests in flight included. */
  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

/** Monotonic, microseconds fine. */
export function secondsNow(): number {
  return performance.now() / 1000;
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
