import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify';
import { quoteInput } from '../../core/input-error.js';
import { Unavailable, type Verdict } from '../../core/ports.js';
import { type Access, howToAllow, isLoopbackAddress } from '../access.js';
import type { Logger } from '../log.js';
import { auditChange, decorateAudited } from './audit.js';
import { sentToken, timesSent } from './bearer.js';
import { HttpError, shorten } from './errors.js';

/**
 * What stands before the routes: the name under which a request asks, how many of one client are answered, whether a page
 * of another origin sent it, and whether its bearer may. In this order: what is refused cheaply is refused first.
 *
 * Nothing here looks at the text of a URL: a route is guarded by what it is declared to be, however its path was spelt.
 */

/**
 * What a route does, and hence who is served and how often.
 *
 * - `read`: hands out a number or a small document from memory. Open, and never limited: autoscalers ask for each of
 *   3,000 deployments every few seconds, from one address.
 * - `document`: hands out a document that grows with the fleet. Open, limited.
 * - `compute`: plans something. Needs a token, limited.
 * - `change`: changes what is decided, or what it rests on. Needs a token, limited, logged.
 */
export type RouteAccess = 'read' | 'document' | 'compute' | 'change';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: RouteAccess;
  }
}

/** A route that does not say what it does reads, or it changes something where its method does not only read. */
export function accessOfRoute({ method, config }: Pick<RouteOptions, 'method' | 'config'>): RouteAccess {
  if (config?.access !== undefined) return config.access;
  return [method].flat().every((each) => each === 'GET' || each === 'HEAD') ? 'read' : 'change';
}

export function needsToken(access: RouteAccess): boolean {
  return access === 'compute' || access === 'change';
}

const minuteMs = 60_000;

type Hook = (request: FastifyRequest) => Promise<void>;

/** Puts the guards before every route that is registered on this scope from now on. */
export async function guardRoutes(
  scope: FastifyInstance,
  { access, logger }: { readonly access: Access; readonly logger: Logger },
): Promise<void> {
  const limiters = await createLimiters(scope, access.requestsPerMinute);
  const checkToken = tokenCheck(access, logger);
  decorateAudited(scope);
  const audit = auditChange(logger, (request) => shorten(pathOf(request)));
  scope.addHook('onRequest', async (request) => refuseStrangeHost(request, access.hosts));
  scope.addHook('onRoute', (route) => {
    const kind = accessOfRoute(route);
    const hooks: Hook[] = [];
    if (kind !== 'read' && limiters !== null) hooks.push(limiters[kind]);
    if (needsToken(kind)) hooks.push(async (request) => refuseOtherOrigins(request), checkToken);
    route.onRequest = [...hooks, ...[route.onRequest ?? []].flat()] as NonNullable<RouteOptions['onRequest']>;
    if (kind === 'change')
      route.onSend = [audit, ...[route.onSend ?? []].flat()] as NonNullable<RouteOptions['onSend']>;
  });
}

/** One count of each client for each kind of route, so that scrapes and changes do not use up each other's. */
async function createLimiters(
  scope: FastifyInstance,
  requestsPerMinute: number | null,
): Promise<Readonly<Record<Exclude<RouteAccess, 'read'>, Hook>> | null> {
  if (requestsPerMinute === null) return null;
  const { default: rateLimit } = await import('@fastify/rate-limit');
  await scope.register(rateLimit, { global: false });
  // Counts 5,000 clients, and then forgets the one unseen for longest; an IPv6 network of 64 bits is one client.
  const limiter = (): Hook => {
    const count = scope.createRateLimit({ max: requestsPerMinute, timeWindow: minuteMs });
    return async (request) => {
      const counted = await count(request);
      if (counted.isAllowed || !counted.isExceeded) return;
      const message = `more than ${requestsPerMinute} requests a minute from this address (server.requestsPerMinute)`;
      throw new HttpError(429, 'too_many_requests', message, { retryAfterSeconds: counted.ttlInSeconds });
    };
  };
  return { document: limiter(), compute: limiter(), change: limiter() };
}

/**
 * A page on the internet may have its own name resolve to 127.0.0.1, and is then of one origin with what answers there
 * (DNS rebinding). Its requests name that name. An address as a name cannot be made to resolve elsewhere.
 *
 * @throws HttpError 421
 */
function refuseStrangeHost(request: FastifyRequest, hosts: Access['hosts']): void {
  if (timesSent(request.raw, 'host') > 1) throw new HttpError(400, 'bad_request', 'several Host headers');
  const { host } = request.headers;
  // Only a client of HTTP/1.0 sends none, which no browser is.
  if (hosts === null || host === undefined) return;
  const name = /^(\[[0-9a-f:.]+\]|[^:]*)(:\d+)?$/i.exec(host)?.[1]?.toLowerCase().replace(/\.$/, '');
  if (name !== undefined && (isAddress(name) || isLocalName(name) || hosts.has(name))) return;
  throw new HttpError(
    421,
    'strange_host',
    `Host: found ${quoteInput(shorten(host))}, expected localhost, an address, or a name of server.allowedHosts`,
  );
}

function isAddress(name: string): boolean {
  return /^\[.*\]$|^\d+\.\d+\.\d+\.\d+$/.test(name);
}

function isLocalName(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost');
}

/**
 * A page of another origin may make a browser send a POST or a GET here, though it may not read the answer. Browsers say
 * so in Sec-Fetch-Site, or at least in Origin; other clients send neither.
 *
 * @throws HttpError 403
 */
function refuseOtherOrigins({ headers }: FastifyRequest): void {
  const site = headers['sec-fetch-site'];
  if (site === 'same-origin' || site === 'none') return;
  const { origin } = headers;
  if (site === undefined && (origin === undefined || isOwnOrigin(origin, headers.host))) return;
  throw new HttpError(
    403,
    'other_origin',
    'a page of another origin sent this request; open the address of gpumix itself, or use a client that is no browser',
  );
}

function isOwnOrigin(origin: string, host: string | undefined): boolean {
  if (host === undefined || !/^https?:\/\//i.test(origin)) return false;
  try {
    const page = new URL(origin);
    // By the scheme of the page, which a proxy may have ended: host:443 is host for https.
    return page.host === new URL(`${page.protocol}//${host}`).host;
  } catch {
    return false;
  }
}

/** The check whether the bearer may. Every way out but the last throws. */
function tokenCheck({ callers }: Access, logger: Logger): Hook {
  let told: string | null = null;

  return async (request) => {
    if (callers.kind === 'everybody') {
      request.askedBy = isLoopbackAddress(request.ip) ? 'somebody on this machine' : 'somebody without a token';
      return;
    }
    if (callers.kind === 'nobody') {
      throw unauthenticated(`nobody may use this route until ${howToAllow} (docs/security.md)`, null);
    }
    const sent = sentToken(request.raw);
    if (sent.kind === 'absent') throw unauthenticated('this route needs a header Authorization: Bearer TOKEN', null);
    if (sent.kind === 'unusable') {
      throw unauthenticated(`Authorization: found ${sent.fault}, expected Bearer TOKEN`, 'invalid_request');
    }
    let verdict: Verdict;
    try {
      verdict = await callers.authority.judge(sent.token, {
        verb: request.method.toLowerCase(),
        path: pathOf(request),
      });
      told = null;
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      if (told !== error.message) logger.warn({ code: error.code }, `tokens cannot be checked: ${error.message}`);
      told = error.message;
      throw new HttpError(503, 'tokens_unchecked', 'tokens cannot be checked now; the log of the service says why', {
        retryAfterSeconds: 5,
      });
    }
    if (verdict.kind === 'unknown-token') {
      throw unauthenticated('this token is not known, or not any more', 'invalid_token');
    }
    if (verdict.kind === 'forbidden') {
      throw new HttpError(403, 'forbidden', `${verdict.user} may not do this: ${verdict.reason}`, {
        challenge: challengeOf('insufficient_scope'),
      });
    }
    request.askedBy = verdict.user;
  };
}

function unauthenticated(message: string, error: 'invalid_request' | 'invalid_token' | null): HttpError {
  return new HttpError(401, 'unauthenticated', message, { challenge: challengeOf(error) });
}

/** The value of WWW-Authenticate, as RFC 6750 has it. */
function challengeOf(error: string | null): string {
  return `Bearer realm="gpumix"${error === null ? '' : `, error="${error}"`}`;
}

/** The path of the route with its names filled in anew, so that each thing has one path, however it was spelt. */
function pathOf({ routeOptions, params }: FastifyRequest): string {
  const names = params as Readonly<Record<string, string>>;
  return (routeOptions.url ?? '').replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(names[name] ?? ''));
}
