import { Agent, type Dispatcher, request } from 'undici';

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
 * User and password in the URL are sent as Basic authentication.
 *
 * @throws RequestFailed
 */
export async function readBounded(options: BoundedRequest): Promise<string> {
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
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const answer = await request(target, {
      method,
      headers: { ...authorization, ...headers },
      ...(body === undefined ? {} : { body }),
      signal,
      dispatcher,
    });
    if (answer.statusCode < 200 || answer.statusCode > 299) {
      const said = await firstWords(answer.body);
      throw new RequestFailed(`status ${answer.statusCode}${said === '' ? '' : ` (${said})`}`);
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > largestBytes) {
        answer.body.destroy();
        throw new RequestFailed(`an answer of more than ${largestBytes} bytes`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  } catch (error) {
    if (error instanceof RequestFailed) throw error;
    if (signal.aborted) throw new RequestFailed(`no whole answer within ${timeoutMs / 1000} s`);
    throw new RequestFailed(describe(error));
  }
}

/** Characters of a refusal that are repeated. */
const shownCharacters = 200;

async function firstWords(body: Dispatcher.ResponseData['body']): Promise<string> {
  let text = '';
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      text += chunk.toString('utf8');
      if (text.length >= shownCharacters) break;
    }
  } catch {
    // The status says enough.
  }
  body.destroy();
  return text.slice(0, shownCharacters).replace(/\s+/g, ' ').trim();
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Happy eyeballs fail with a list of what failed.
  const inner = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const { code } = inner as Error & { code?: string };
  const known: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'nobody who listens there (ECONNREFUSED)',
    ENOTFOUND: 'no such host (ENOTFOUND)',
    ECONNRESET: 'a connection that was reset (ECONNRESET)',
    UND_ERR_SOCKET: 'a connection that was closed before the answer ended',
  };
  return (code === undefined ? undefined : known[code]) ?? (inner.message || code || 'no answer');
}

/** A URL for people: without user, password and query. */
export function shownUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}
