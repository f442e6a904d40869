import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import type { TokenAuthority } from '../core/ports.js';
import type { Config } from './config.js';

/**
 * Who may ask the service for what. See docs/security.md.
 *
 * What was decided is open to everybody who reaches the port: autoscalers send no token. What changes the service, or makes
 * it work, needs one, unless it listens on loopback alone or the configuration says otherwise.
 */
export type Access = {
  /** Who may change something, or have something computed. */
  readonly callers: Callers;
  /** Names under which a request may ask for the service; null = any. */
  readonly hosts: ReadonlySet<string> | null;
  /** Requests of one client address to costly routes within a minute; null = no limit. */
  readonly requestsPerMinute: number | null;
};

export type Callers =
  | { readonly kind: 'everybody' }
  /** Nothing says who may. */
  | { readonly kind: 'nobody' }
  | { readonly kind: 'token-bearers'; readonly authority: TokenAuthority };

/** What a service on loopback has where nothing else is configured. */
export const loopbackAccess: Access = { callers: { kind: 'everybody' }, hosts: new Set(), requestsPerMinute: null };

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Of an IPv4 address, an IPv6 address or one mapped into the other. */
export function isLoopbackAddress(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** True where only this machine reaches what listens there. A name counts by every address that it has. */
export async function isLoopbackHost(host: string): Promise<boolean> {
  if (isIP(host) !== 0) return isLoopbackAddress(host);
  try {
    const found = await lookup(host, { all: true });
    return found.length > 0 && found.every(({ address }) => isLoopbackAddress(address));
  } catch {
    // Nothing can listen there either, and the server says so.
    return false;
  }
}

/** The rules of a configuration; `authority` null = it names none. */
export async function accessOf(
  { server }: Pick<Config, 'server'>,
  authority: TokenAuthority | null,
): Promise<{ readonly access: Access; readonly warning: string | null }> {
  const isLocal = await isLoopbackHost(server.host);
  const named = server.allowedHosts.map((host) => host.toLowerCase());
  const hosts = isLocal ? new Set([server.host.toLowerCase(), ...named]) : named.length > 0 ? new Set(named) : null;
  // Everything on this machine has one address, and could as well use up the machine itself.
  const rest = { hosts, requestsPerMinute: isLocal ? null : server.requestsPerMinute };
  if (authority !== null) return { access: { callers: { kind: 'token-bearers', authority }, ...rest }, warning: null };
  const where = `server.host is ${server.host}, which others reach`;
  if (isLocal) return { access: { callers: { kind: 'everybody' }, ...rest }, warning: null };
  if (server.allowUnauthenticated) {
    const warning = `${where}, and server.allowUnauthenticated is true: whoever reaches the port may fix replicas, leave deployments out of every plan, and make this service compute`;
    return { access: { callers: { kind: 'everybody' }, ...rest }, warning };
  }
  const warning = `${where}: ${guardedRoutes} are refused until ${howToAllow}; what was decided is read without a token`;
  return { access: { callers: { kind: 'nobody' }, ...rest }, warning };
}

/** For people; a test holds it against the routes. */
export const guardedRoutes =
  'PUT /scale, POST and DELETE /monitor, GET /update_profile, POST /api/v1/plan and GET /api/v1/explain';

/** What makes the guarded routes answer, in words that follow "until". */
export const howToAllow =
  'server.tokenFile (GPUMIX_TOKEN_FILE) or server.tokenReview says who may use them, or server.allowUnauthenticated (GPUMIX_ALLOW_UNAUTHENTICATED) is true';
