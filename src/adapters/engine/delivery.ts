import type { ServerResponse } from 'node:http';
import type { Answer } from './answer.js';
import type { Backend, GenerationListener } from './backend.js';
import type { Fault } from './faults.js';
import type { EngineMetrics } from './metrics.js';
import { type GenerationRequest, Refusal } from './requests.js';
import { type AnswerWriter, brokenEvent, failureEvents } from './wire.js';

/**
 * Unread bytes of an answer at which its client counts as gone [bytes]: a long answer is a few megabytes, and a client
 * that reads none of them must not fill the memory.
 */
const unreadLimit = 16 * 2 ** 20;

export type DeliveryOptions = {
  readonly request: GenerationRequest;
  readonly answer: Answer;
  readonly writer: AnswerWriter;
  readonly response: ServerResponse;
  readonly headers: Readonly<Record<string, string>>;
  readonly fault: Fault | null;
  readonly backend: Backend;
  readonly metrics: EngineMetrics;
  /** Engine milliseconds per millisecond that the client sees. */
  readonly speed: number;
};

/**
 * One answer on its way: from the replica's tokens to the client's socket, until it is finished, its client goes, or a
 * fault cuts it short. Each token is written by itself, when it is there.
 */
export class Delivery implements GenerationListener {
  readonly #options: DeliveryOptions;
  readonly #arrivedMs: number;
  /** The token, from 0, in whose place the fault comes; Infinity where there is none. */
  readonly #faultIndex: number;
  #id = 0;
  #firstTokenMs = 0;
  #lastTokenMs = 0;
  #over = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { fault, answer, backend } = options;
    // After the first token where there are more: what a fault before it looks like, other faults show.
    const last = answer.outputTokens - 1;
    this.#faultIndex = fault === null ? Number.POSITIVE_INFINITY : Math.min(last, 1 + Math.floor(fault.at * last));
    this.#arrivedMs = backend.nowMs();
  }

  /** Hands the request to the replica; of a stream, the head of the response goes at once, as vLLM's does. */
  start(): void {
    const { request, answer, response, headers, backend } = this.#options;
    response.on('close', () => this.#leave('abort'));
    if (request.stream) {
      response.writeHead(200, {
        ...headers,
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache',
      });
      response.flushHeaders();
    }
    this.#id = backend.submit({ inputTokens: request.inputTokens, outputTokens: answer.outputTokens }, this);
  }

  token(produced: number, atMs: number): void {
    if (this.#over) return;
    const { request, response, writer, metrics } = this.#options;
    if (produced === 1) {
      this.#firstTokenMs = atMs;
      metrics.firstToken(this.#seconds(atMs - this.#arrivedMs), request.inputTokens);
    } else metrics.laterToken(this.#seconds(atMs - this.#lastTokenMs));
    this.#lastTokenMs = atMs;
    if (produced - 1 === this.#faultIndex && this.#fail()) return;
    if (!request.stream) return;
    response.write(writer.eventsOf(produced - 1));
    if (response.writableLength > unreadLimit) response.destroy();
  }

  finished(atMs: number): void {
    if (this.#over) return;
    this.#over = true;
    const { request, answer, response, writer, metrics, headers, fault } = this.#options;
    metrics.finished({
      reason: answer.finishReason,
      seconds: this.#seconds(atMs - this.#arrivedMs),
      firstTokenSeconds: this.#seconds(this.#firstTokenMs - this.#arrivedMs),
      promptTokens: request.inputTokens,
      outputTokens: answer.outputTokens,
      maxTokens: request.maxTokens,
    });
    if (request.stream) {
      response.end(writer.end);
      return;
    }
    const whole = writer.body();
    sendJson(response, 200, { headers, body: fault?.kind === 'malformed' ? whole.slice(0, whole.length / 2) : whole });
  }

  /** The replica has no room for it, ever. Requests are checked before; this is for what that check may not see. */
  rejected(): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.metrics.ended('error');
    this.#answerFailure();
  }

  #seconds(engineMs: number): number {
    return engineMs / this.#options.speed / 1000;
  }

  /** Lets the fault happen; true where nothing of the answer follows. */
  #fail(): boolean {
    const { request, response, fault } = this.#options;
    switch (fault?.kind) {
      case 'malformed':
        if (!request.stream) return false;
        response.write(brokenEvent);
        return false;
      case 'streamError':
        this.#leave('error');
        this.#answerFailure();
        return true;
      case 'drop':
        this.#leave('abort');
        // What was written before still arrives, and then the connection is at its end without the stream being so.
        // (An answer that waits for another one on its connection has no socket yet.)
        if (request.stream && response.socket !== null) response.socket.destroySoon();
        else response.destroy();
        return true;
      case 'stall':
        this.#leave('abort');
        return true;
      default:
        return false;
    }
  }

  #answerFailure(): void {
    const { request, response, headers } = this.#options;
    if (request.stream) response.end(failureEvents);
    else sendRefusal(response, new Refusal(500, 'EngineCore encountered an issue (simulated).'), headers);
  }

  #leave(reason: 'abort' | 'error'): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.backend.cancel(this.#id);
    this.#options.metrics.ended(reason);
  }
}

/** Answers with JSON that is text already. */
export function sendJson(
  response: ServerResponse,
  status: number,
  { headers, body }: { readonly headers: Readonly<Record<string, string>>; readonly body: string },
): void {
  const length = Buffer.byteLength(body);
  response.writeHead(status, { ...headers, 'content-type': 'application/json', 'content-length': length });
  response.end(body);
}

/** Answers with what was refused and why. */
export function sendRefusal(
  response: ServerResponse,
  refusal: Refusal,
  headers: Readonly<Record<string, string>>,
): void {
  sendJson(response, refusal.status, { headers: { ...headers, ...refusal.headers }, body: refusal.body });
}
