import type { Dispatcher } from 'undici';
import type { FailureKind } from '../../profiling/measurement.js';
import { connectionFault } from '../connection-fault.js';
import { type Answer, AnswerReader } from './answer.js';

/** What happened to one request. Times are of the caller's clock. */
export type Exchange = {
  readonly sentSeconds: number;
  readonly endSeconds: number;
  /** null where no answer came, or none that was understood. */
  readonly answer: Answer | null;
  /** HTTP status, null where there was none. */
  readonly status: number | null;
  readonly failure: FailureKind | null;
  readonly failureDetail: string | null;
  /** Code of an error of the connection: `ECONNREFUSED`. */
  readonly errorCode: string | null;
};

export type ExchangeOptions = {
  readonly dispatcher: Dispatcher;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly streaming: boolean;
  readonly timeoutSeconds: number;
  /** Seconds; monotonic. */
  readonly now: () => number;
  /** Called once, not before sendRequest returned. */
  readonly onEnd: (exchange: Exchange) => void;
};

/** Bytes kept of an answer that is an error, for its message. */
const errorBytes = 2048;

/**
 * What may follow a stream's last event: the end of the body, perhaps an empty line or a comment. A connection that
 * goes on beyond either is given up, for it would be lost to other requests.
 */
const mostBytesAfter = 1024;
const mostMsAfter = 1000;

/**
 * Sends one request and follows its answer. Whatever happens, `onEnd` is called exactly once and within the time allowed;
 * redirects are not followed.
 *
 * @returns a function that cuts the request off, with the kind and the detail to report
 */
export function sendRequest(options: ExchangeOptions): (kind: FailureKind, detail: string) => void {
  const { dispatcher, now, timeoutSeconds } = options;
  const exchange = new RunningExchange(options);
  const timer = setTimeout(
    () => exchange.cut('timeout', `no whole answer within ${timeoutSeconds} s`),
    Math.min(timeoutSeconds * 1000, 2 ** 31 - 1),
  );
  exchange.start(timer, now());
  try {
    dispatcher.dispatch(
      {
        path: options.path,
        method: 'POST',
        headers: options.headers,
        body: options.body,
        headersTimeout: 0,
        bodyTimeout: 0,
      },
      exchange,
    );
  } catch (error) {
    exchange.refuse(error);
  }
  return (kind, detail) => exchange.cut(kind, detail);
}

/**
 * Handles the events of undici for one request.
 *
 * Sent → (connected) → status → body … → settled → over. It may be cut at any time: before a connection exists there is
 * nothing to abort yet, so that the abort waits for `onRequestStart`.
 */
class RunningExchange implements Dispatcher.DispatchHandler {
  readonly #options: ExchangeOptions;
  #timer: NodeJS.Timeout | null = null;
  #sentSeconds = 0;
  #controller: Dispatcher.DispatchController | null = null;
  #reader: AnswerReader | null = null;
  #errorBody: Buffer[] = [];
  #errorLength = 0;
  #status: number | null = null;
  #isConnected = false;
  #isSettled = false;
  #bytesAfter = 0;

  constructor(options: ExchangeOptions) {
    this.#options = options;
  }

  start(timer: NodeJS.Timeout, nowSeconds: number): void {
    this.#timer = timer;
    this.#sentSeconds = nowSeconds;
  }

  /** What dispatch itself threw. */
  refuse(error: unknown): void {
    const { code, words } = connectionFault(error);
    queueMicrotask(() => this.#settle({ failure: 'connect', failureDetail: words, errorCode: code }));
  }

  cut(failure: FailureKind, failureDetail: string): void {
    if (this.#isSettled) return;
    this.#settle({ failure, failureDetail });
    this.#controller?.abort(new CutOff());
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#isConnected = true;
    this.#controller = controller;
    if (this.#isSettled) controller.abort(new CutOff());
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (status < 200) return;
    this.#status = status;
    if (status >= 300 && status < 400) {
      this.#end('http_other', `status ${status} to ${location(headers.location)}; redirects are not followed`);
      return;
    }
    if (status !== 200) return;
    const type = String(headers['content-type'] ?? '');
    // Some servers announce a stream as plain text; one that sends JSON did not stream.
    const isJson = /^application\/(?:[\w.-]+\+)?json/i.test(type);
    this.#reader = new AnswerReader({ isStream: this.#options.streaming && !isJson });
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isSettled) {
      this.#bytesAfter += chunk.length;
      if (this.#bytesAfter > mostBytesAfter) this.#controller?.abort(new CutOff());
      return;
    }
    if (this.#reader === null) {
      if (this.#errorLength < errorBytes) this.#errorBody.push(chunk);
      this.#errorLength += chunk.length;
      if (this.#errorLength >= errorBytes) this.#endWithStatus();
      return;
    }
    // A stream that is over is settled now; the connection usually ends by itself soon, and is used again.
    if (!this.#reader.feed(chunk, this.#options.now())) return;
    this.#endWithAnswer();
    const controller = this.#controller;
    if (controller === null || controller.aborted) return;
    this.#timer = setTimeout(() => controller.abort(new CutOff()), mostMsAfter);
  }

  onResponseEnd(): void {
    if (this.#isSettled) {
      this.#stopTimer();
      return;
    }
    if (this.#reader === null) this.#endWithStatus();
    else this.#endWithAnswer();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#isSettled) {
      this.#stopTimer();
      return;
    }
    const { code, words } = connectionFault(error);
    const failure: FailureKind = !this.#isConnected ? 'connect' : code?.startsWith('HPE_') ? 'malformed' : 'dropped';
    // The status of an error is worth more than how its connection ended.
    if (this.#status !== null && this.#status !== 200) this.#endWithStatus();
    else this.#settle({ failure, failureDetail: words, errorCode: code });
  }

  #endWithAnswer(): void {
    const answer = this.#reader!.end(this.#options.now());
    const streamed = answer.chunkCharacters.length > 0;
    if (answer.failure !== null) {
      this.#settle({ failure: answer.failure, failureDetail: answer.failureDetail, answer });
      // Whatever else a broken stream brings is of no use.
      this.#controller?.abort(new CutOff());
    } else if (this.#options.streaming && answer.characters > 0 && !streamed) {
      this.#settle({ failure: 'malformed', failureDetail: 'found a whole answer, expected a stream', answer });
    } else if (answer.characters === 0 && !(answer.usage !== null && answer.usage.outputTokens > 0)) {
      this.#settle({ failure: 'no_output', failureDetail: 'the answer has no text', answer });
    } else this.#settle({ failure: null, answer, endSeconds: answer.lastTextSeconds });
  }

  #endWithStatus(): void {
    const status = this.#status ?? 0;
    const text = errorMessage(Buffer.concat(this.#errorBody).toString('utf8'));
    this.#end(kindOfStatus(status), `status ${status}${text === '' ? '' : `: ${text}`}`);
  }

  #end(failure: FailureKind, failureDetail: string): void {
    this.#settle({ failure, failureDetail });
    // An endless error page would hold the connection.
    if (this.#errorLength >= errorBytes || this.#errorLength === 0) this.#controller?.abort(new CutOff());
  }

  #settle(result: {
    readonly failure: FailureKind | null;
    readonly failureDetail?: string | null;
    readonly errorCode?: string | null;
    readonly answer?: Answer;
    readonly endSeconds?: number | null;
  }): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#stopTimer();
    this.#options.onEnd({
      sentSeconds: this.#sentSeconds,
      endSeconds: result.endSeconds ?? this.#options.now(),
      // What came before a failure is told too: a first token has its time even where the rest never came.
      answer: result.answer ?? this.#reader?.end(this.#options.now()) ?? null,
      status: this.#status,
      failure: result.failure,
      failureDetail: result.failureDetail ?? null,
      errorCode: result.errorCode ?? null,
    });
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

/** The reason of aborts that we caused ourselves; it is never reported. */
class CutOff extends Error {
  constructor() {
    super('cut off');
    this.name = 'AbortError';
  }
}

function kindOfStatus(status: number): FailureKind {
  if (status === 401 || status === 404 || status === 429) return `http_${status}`;
  return status >= 500 ? 'http_5xx' : 'http_other';
}

/** The message of an error body: OpenAI's, FastAPI's `detail`, or the beginning of whatever it is. */
function errorMessage(body: string): string {
  let text = body;
  try {
    const document = JSON.parse(body) as Record<string, unknown> | null;
    const error = document?.error as Record<string, unknown> | string | undefined;
    const message = typeof error === 'object' ? error?.message : (error ?? document?.message ?? document?.detail);
    if (typeof message === 'string') text = message;
  } catch {
    // Not JSON: told as it stands.
  }
  return text.replace(/\s+/g, ' ').trim();
}

/** Where a redirect leads, without a query, which may hold a secret. */
function location(header: string | string[] | undefined): string {
  const text = Array.isArray(header) ? header[0] : header;
  return text === undefined ? 'nowhere' : text.replace(/[?#].*$/, '').slice(0, 200);
}
