import type { FastifyInstance, FastifyRequest } from 'fastify';
import { quoteInput } from '../../core/input-error.js';
import { HttpError } from './errors.js';

/**
 * Bodies are JSON whatever the Content-Type says: `curl -d` calls it a form, other clients call it nothing.
 * They reach a handler as text, so that its parser can name line, column and key.
 */

/** Makes an app read every body as text. Empty and absent bodies are `''`. */
export function readBodiesAsText(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body));
}

/** An `onRequest` hook for routes with a body: a Content-Type that does not even parse must not decide either. */
export function ignoreContentType(request: FastifyRequest, _reply: unknown, done: () => void): void {
  delete request.raw.headers['content-type'];
  done();
}

/**
 * The text of a body.
 *
 * @throws HttpError 400 where there is none
 */
export function bodyText(request: FastifyRequest, expected: string): string {
  const { body } = request;
  if (typeof body !== 'string' || body === '') {
    throw new HttpError(400, 'bad_input', `body: found nothing, expected ${expected}`);
  }
  return body;
}

/**
 * Bodies are read as they come: one that is compressed would be told to be bad JSON.
 *
 * @throws HttpError 415 where a Content-Encoding says so
 */
export function refuseEncodedBody({ headers }: FastifyRequest): void {
  const encoding = headers['content-encoding'];
  if (encoding === undefined || /^\s*(identity)?\s*$/i.test(encoding)) return;
  const found = quoteInput(encoding);
  throw new HttpError(415, 'encoded_body', `Content-Encoding: found ${found}, expected none: bodies are plain JSON`);
}
