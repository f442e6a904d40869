import { Agent, type Dispatcher, request } from 'undici';
import { connectionFault } from './connection-fault.js';

/**
 * One HTTP request whose answer is small and soon there, or does not count: for servers that should answer at once and
 * may hang, or send something else without end.
 */

export type BoundedRequest = {
  readonly url: URL;
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the whole answer. */
  readonly timeoutMs: number;
  readonly largestBytes: number;
  readonly dispatcher: Dispatcher;
  /** Calls the request off. */
  readonly signal?: AbortSignal;
};

/** A connection pool of its own, with the authority to trust instead of the system's. */
export function createAgent(ca: string | null): Agent {
  // Engines and Prometheus answer again every few seconds; what hangs is given up by the time limit of each request.
  return new Agent({ connections: 16, ...(ca === null ? {} : { connect: { ca } }) });
}

/** Why there is no answer that can be used, in words that follow "found". */
export class RequestFailed extends Error {}

/**
 * The text of an answer with status 2xx.
 *
 * @throws RequestFailed; what `signal` says where that called it off
 */
export async function readBounded(options: BoundedRequest): Promise<string> {
  const { status, text } = await askBounded(options);
  if (isSuccess(status)) return text;
  throw new RequestFailed(`status ${status}${text === '' ? '' : ` (${text})`}`);
}

/**
 * The status of an answer, and its text: all of it with status 2xx, else how it begins, on one line.
 *
 * User and password in the URL are sent as Basic authentication.
 *
 * @throws RequestFailed; what `signal` says where that called it off
 */
export async function askBounded(options: BoundedRequest): Promise<{ readonly status: number; readonly text: string }> {
  const { url, method = 'GET', headers = {}, body, timeoutMs, largestBytes, dispatcher } = options;
  const target = new URL(url);
  const authorization =
    url.username === '' && url.password === ''
      ? {}
      : {
          authorization: `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString('base64')}`,
        };
  target.username = '';
  target.password = '';
  const limit = AbortSignal.timeout(timeoutMs);
  try {
    const answer = await request(target, {
      method,
      headers: { ...authorization, ...headers },
      ...(body === undefined ? {} : { body }),
      signal: options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]),
      dispatcher,
    });
    const { statusCode: status } = answer;
    if (isSuccess(status)) return { status, text: await wholeText(answer.body, largestBytes) };
    const sent = { ...authorization, ...headers }.authorization;
    return { status, text: await firstWords(answer.body, (text) => withoutCredentials(text, sent)) };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof RequestFailed) throw error;
    if (limit.aborted) throw new RequestFailed(`no whole answer within ${timeoutMs / 1000} s`);
    throw new RequestFailed(connectionFault(error).words);
  }
}

function isSuccess(status: number): boolean {
  return status >= 200 && status <= 299;
}

async function wholeText(body: Dispatcher.ResponseData['body'], largestBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > largestBytes) {
      body.destroy();
      throw new RequestFailed(`an answer of more than ${largestBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Characters of a refusal that are repeated. */
const shownCharacters = 200;

/** Characters of it that are read: where a secret of the longest kind begins among the shown ones, all of it. */
const readCharacters = 16_384;

/** Some servers repeat in a refusal what they were sent, and a refusal is shown to people. */
function withoutCredentials(text: string, authorization: string | undefined): string {
  const credentials = authorization?.split(' ')[1] ?? '';
  if (credentials === '') return text;
  const decoded = Buffer.from(credentials, 'base64').toString('utf8');
  const password = authorization?.startsWith('Basic ') === true ? decoded.slice(decoded.indexOf(':') + 1) : '';
  return [credentials, password]
    .filter((secret) => secret !== '')
    .reduce((words, secret) => words.replaceAll(secret, '[redacted]'), text);
}

async function firstWords(body: Dispatcher.ResponseData['body'], mask: (text: string) => string): Promise<string> {
  let text = '';
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      text += chunk.toString('utf8');
      if (text.length >= readCharacters) break;
    }
  } catch {
    // The status says enough.
  }
  body.destroy();
  // What is cut off first would be no secret any more that is found.
  return mask(text).slice(0, shownCharacters).replace(/\s+/g, ' ').trim();
}

/** A URL for people: without user, password and query. */
export function shownUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}
