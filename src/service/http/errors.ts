import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { InputError } from '../../core/input-error.js';
import { aibrixMetricName } from '../../core/published-names.js';

/**
 * Error answers, in the two shapes that clients know: AIBrix's `{"error":"…"}` on its routes, and
 * `{"error":{"code":"…","message":"…"}}` on ours.
 */

/** Longest piece of a request that an error repeats, in characters. */
const repeatedLength = 200;

/** A request that cannot be answered as asked. `code` is stable and for programs, `message` is for people. */
export class HttpError extends Error {
  readonly statusCode: number;
  readonly code: string;
  readonly retryAfterSeconds: number | null;
  /** What WWW-Authenticate says; null = nothing. */
  readonly challenge: string | null;

  constructor(
    statusCode: number,
    code: string,
    message: string,
    options: { readonly retryAfterSeconds?: number; readonly challenge?: string } = {},
  ) {
    super(message);
    this.name = 'HttpError';
    this.statusCode = statusCode;
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds ?? null;
    this.challenge = options.challenge ?? null;
  }
}

/** A name from a request, fit to be repeated in a message. */
export function shorten(text: string): string {
  return text.length > repeatedLength ? `${text.slice(0, repeatedLength)}…` : text;
}

/** The answer that goes out for an error: status, JSON text, headers. */
export type ErrorAnswer = {
  readonly statusCode: number;
  readonly body: string;
  readonly retryAfterSeconds: number | null;
  readonly challenge: string | null;
  /** True where the fault is ours and belongs into the log. */
  readonly internal: boolean;
};

/**
 * Turns whatever was thrown into an answer in the shape of the route. Internal errors tell the client nothing but
 * that there was one.
 *
 * @param request method and raw URL decide the shape
 */
export function errorAnswer(error: unknown, request: { readonly method: string; readonly url: string }): ErrorAnswer {
  const { statusCode, code, message, retryAfterSeconds, challenge } = describe(error);
  const prefix = aibrixErrorPrefix(request.method, request.url);
  const text = refusedBeforeRoute.has(code) ? message : `${prefix}: ${message}`;
  const document = prefix === null ? { error: { code, message } } : { error: text };
  return {
    statusCode,
    body: withoutMetricName(JSON.stringify(document)),
    retryAfterSeconds,
    challenge,
    internal: statusCode === 500,
  };
}

/** Cuts the metric name out of a text that is not the metric. The ellipsis keeps the halves from joining anew. */
function withoutMetricName(text: string): string {
  return text.replaceAll(aibrixMetricName, 'vllm:…');
}

/** Sends an answer made by `errorAnswer`. */
export function sendError(answer: ErrorAnswer, reply: FastifyReply): FastifyReply {
  if (answer.challenge !== null) reply.header('www-authenticate', answer.challenge);
  if (answer.retryAfterSeconds !== null) reply.header('retry-after', String(answer.retryAfterSeconds));
  return reply.code(answer.statusCode).header('content-type', 'application/json; charset=utf-8').send(answer.body);
}

/** Sends one of the few AIBrix errors that carry no prefix. */
export function sendAibrixError(reply: FastifyReply, statusCode: number, text: string): FastifyReply {
  const body = withoutMetricName(JSON.stringify({ error: text }));
  return sendError({ statusCode, body, retryAfterSeconds: null, challenge: null, internal: false }, reply);
}

/** The 404 of a URL that no route has. */
export function noSuchRoute(request: FastifyRequest): HttpError {
  const path = shorten(request.url.split('?', 1)[0] ?? '');
  return new HttpError(
    404,
    'no_such_route',
    `no route ${request.method} ${path}; GET / lists the routes, and a "/" inside a name is written %2F`,
  );
}

type Description = {
  readonly statusCode: number;
  readonly code: string;
  readonly message: string;
  readonly retryAfterSeconds: number | null;
  readonly challenge: string | null;
};

const nothingMore = { retryAfterSeconds: null, challenge: null } as const;

function describe(error: unknown): Description {
  if (error instanceof HttpError) return error;
  if (error instanceof InputError) {
    return { statusCode: 400, code: 'bad_input', message: error.message, ...nothingMore };
  }
  const framework = frameworkDescription(error);
  if (framework !== null) return { ...framework, ...nothingMore };
  return {
    statusCode: 500,
    code: 'internal',
    message: 'an internal error, written to the log of the service',
    ...nothingMore,
  };
}

/** What Fastify itself refuses. Its own texts repeat the whole URL, so the common ones are said anew. */
function frameworkDescription(error: unknown): Omit<Description, keyof typeof nothingMore> | null {
  if (!(error instanceof Error)) return null;
  const { code = '', statusCode } = error as Partial<FastifyError>;
  if (statusCode === undefined || statusCode < 400 || statusCode >= 500) return null;
  switch (code) {
    case 'FST_ERR_BAD_URL':
      return { statusCode, code: 'bad_url', message: 'the URL is not validly percent-encoded' };
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return { statusCode, code: 'name_too_long', message: 'a name in the URL is longer than any name may be' };
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return { statusCode, code: 'body_too_large', message: 'the body is larger than this route takes' };
    default:
      return { statusCode, code: 'bad_request', message: shorten(error.message) };
  }
}

/**
 * What stands before the routes (guard.ts), and AIBrix has nothing of: there its texts about what the route did are wrong.
 * The shape is still that of the route.
 */
const refusedBeforeRoute: ReadonlySet<string> = new Set([
  'unauthenticated',
  'forbidden',
  'tokens_unchecked',
  'other_origin',
  'strange_host',
  'too_many_requests',
]);

/** What AIBrix puts before the error on one of its routes; null on ours. */
function aibrixErrorPrefix(method: string, url: string): string | null {
  const [, first = '', second = ''] = /^\/([^/?#]*)\/([^?#]*)/.exec(url) ?? [];
  switch (first) {
    case 'metrics':
      return 'Failed to read metrics';
    case 'scale':
      return 'Error starting deployment optimization';
    case 'monitor':
      return `Error ${method === 'DELETE' ? 'stopping' : 'starting'} deployment optimization`;
    case 'update_profile':
      return `failed to update workload profile of ${shorten(decoded(second))}`;
    default:
      return null;
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
