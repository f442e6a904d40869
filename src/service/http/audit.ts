import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from '../log.js';

/** What a body asked for, by the names that it has there; null = it did not say. */
export type Asked = Readonly<Record<string, number | null>>;

declare module 'fastify' {
  interface FastifyRequest {
    /** Who may, in words, never a token; null = not known (yet). */
    askedBy: string | null;
    /** Null = nothing beyond the path, or a body that could not be used. */
    asked: Asked | null;
  }
}

export function decorateAudited(scope: FastifyInstance): void {
  scope.decorateRequest('askedBy', null);
  scope.decorateRequest('asked', null);
}

/**
 * An `onSend` hook for routes that change something: one line for each request whose sender may, with what was asked and
 * what came of it. It comes with the answer and not with the request, because only then both are known; it is there for a
 * client that has hung up, too.
 *
 * @param pathOf the path to log, without anything that a client could write at will
 */
export function auditChange(
  logger: Logger,
  pathOf: (request: FastifyRequest) => string,
): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  return async (request, { statusCode: status }) => {
    const { method, ip, askedBy: user, asked } = request;
    if (user === null) return;
    const path = pathOf(request);
    const outcome = status < 400 ? 'done' : `${status < 500 ? 'refused' : 'failed'} with ${status}`;
    logger.info(
      { method, path, user, address: ip, ...asked, status },
      `${method} ${path}${describeAsked(asked)} asked for by ${user}: ${outcome}`,
    );
  };
}

/** ` (replicas 3, ttlSeconds 5)`, or nothing. */
function describeAsked(asked: Asked | null): string {
  const parts = Object.entries(asked ?? {}).flatMap(([name, value]) => (value === null ? [] : [`${name} ${value}`]));
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}
