import type { IncomingMessage } from 'node:http';
import { bearerTokenPattern, longestBearerToken } from '../../core/bearer-token.js';

/** The Authorization header of a request, as RFC 6750 has it: `Bearer` in letters of any case, spaces, one token. */

export type SentToken =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'absent' }
  /** `fault` is what is wrong, in words that follow "found"; nothing of the header is repeated. */
  | { readonly kind: 'unusable'; readonly fault: string };

/** Reads one header value; undefined = the header is not there. */
export function parseAuthorization(header: string | undefined): SentToken {
  if (header === undefined) return { kind: 'absent' };
  const scheme = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+/.exec(header)?.[0] ?? '';
  if (scheme.toLowerCase() !== 'bearer') return { kind: 'unusable', fault: 'another scheme' };
  const token = header.slice(scheme.length).replace(/^ +/, '');
  if (!header.startsWith(' ', scheme.length) || !bearerTokenPattern.test(token)) {
    return { kind: 'unusable', fault: 'Bearer without exactly one token after a space' };
  }
  if (token.length > longestBearerToken) return { kind: 'unusable', fault: `a token of ${token.length} characters` };
  return { kind: 'token', token };
}

/**
 * The token of a request. Two Authorization headers are none: a proxy on the way may have looked at the one that Node
 * drops.
 */
export function sentToken(request: IncomingMessage): SentToken {
  if (timesSent(request, 'authorization') > 1) return { kind: 'unusable', fault: 'several Authorization headers' };
  return parseAuthorization(request.headers.authorization);
}

/** How often a header stands in a request, in whatever letters. Node keeps one value of some headers. */
export function timesSent({ rawHeaders }: IncomingMessage, name: string): number {
  let times = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]!.toLowerCase() === name) times += 1;
  return times;
}
