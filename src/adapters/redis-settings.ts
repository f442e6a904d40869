import { isIPv6 } from 'node:net';
import { InputError, quoteInput } from '../core/input-error.js';
import { nearestName } from '../core/parse.js';

/**
 * Where a Redis is and how to get in, from a URL or from AIBrix's environment variables.
 *
 * No message of this file repeats any part of a text that may hold a password.
 */
export type RedisSettings = {
  /** The server, or the first known nodes of a cluster. */
  readonly nodes: readonly RedisNode[];
  /** Keys are spread over the nodes by slot; only database 0 exists. */
  readonly cluster: boolean;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
  /** Null: plain TCP. */
  readonly tls: RedisTls | null;
};

export type RedisNode = { readonly host: string; readonly port: number };

/** PEM texts; null = Node's own roots (and NODE_EXTRA_CA_CERTS), no client certificate. */
export type RedisTls = { readonly ca: string | null; readonly cert: string | null; readonly key: string | null };

const defaultPort = 6379;
const queryKeys = ['cluster'] as const;

/**
 * `redis://[user][:password]@host[:port][,host[:port]]…[/database][?cluster=true]`, or `rediss://` for TLS.
 *
 * User and password are percent-decoded (`@` is `%40`). Several hosts, or `cluster=true`, mean a Redis cluster.
 *
 * @param source names the flag or key in errors
 * @throws InputError
 */
export function parseRedisUrl(url: string, source: string): RedisSettings {
  // Quoting is safe only where nothing can be a password.
  const quoted = (text: string): string => (url.includes('@') ? 'a part that is not' : quoteInput(text));
  const fail = (place: string, found: string, expected: string): never => {
    throw new InputError(source, [{ place, found, expected }]);
  };

  const parts = /^(rediss?):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(url.trim());
  if (parts === null) {
    return fail('', url.includes('@') ? 'a text of another form' : quoteInput(url), 'redis://host:port/database');
  }
  const [, scheme = '', authority = '', path = '', query = ''] = parts;
  const at = authority.lastIndexOf('@');
  const [username, password] = at < 0 ? [null, null] : parseCredentials(authority.slice(0, at), fail);

  const nodes = authority
    .slice(at + 1)
    .split(',')
    .map((text) => parseNode(text) ?? fail('host', quoted(text), 'host or host:port, with a port of 1 to 65535'));

  const database = path === '' ? 0 : Number(path);
  if (!/^\d*$/.test(path) || database > 2 ** 31) fail('database', quoted(path), 'the number of a database');

  const cluster = parseQuery(query, source, quoted) ?? nodes.length > 1;
  if (!cluster && nodes.length > 1) fail('host', `${nodes.length} hosts`, 'one host, as cluster=false says');
  if (cluster && database !== 0) fail('database', String(database), '0, the only one that a Redis cluster has');

  const tls = scheme.toLowerCase() === 'rediss' ? { ca: null, cert: null, key: null } : null;
  return { nodes, cluster, username, password, database, tls };
}

type Fail = (place: string, found: string, expected: string) => never;

function parseCredentials(text: string, fail: Fail): [string | null, string | null] {
  const colon = text.indexOf(':');
  const decode = (part: string, place: string): string | null => {
    try {
      return part === '' ? null : decodeURIComponent(part);
    } catch {
      return fail(place, 'a % that starts no percent-encoded character', 'percent-encoded text (% itself is %25)');
    }
  };
  if (colon < 0) return [decode(text, 'user'), null];
  return [decode(text.slice(0, colon), 'user'), decode(text.slice(colon + 1), 'password')];
}

function parseNode(text: string): RedisNode | null {
  const parts = /^(\[[0-9a-f:.]+\]|[^\s:[\]@/]+)(?::(\d{1,5}))?$/i.exec(text.trim());
  if (parts === null) return null;
  const port = parts[2] === undefined ? defaultPort : Number(parts[2]);
  return port < 1 || port > 65_535 ? null : { host: parts[1]!.replace(/^\[|\]$/g, ''), port };
}

function parseQuery(query: string, source: string, quoted: (text: string) => string): boolean | undefined {
  let cluster: boolean | undefined;
  for (const [key, value] of new URLSearchParams(query)) {
    if (key !== 'cluster') {
      const suggestion = nearestName(key, queryKeys);
      throw new InputError(source, [
        {
          place: 'query',
          found: quoted(key),
          expected: `one of ${queryKeys.join(', ')}`,
          ...(suggestion === undefined ? {} : { suggestion }),
        },
      ]);
    }
    if (value !== 'true' && value !== 'false') {
      throw new InputError(source, [{ place: 'query.cluster', found: quoted(value), expected: 'true or false' }]);
    }
    cluster = value === 'true';
  }
  return cluster;
}

/**
 * AIBrix's REDIS_HOST, REDIS_PORT (6379) and REDIS_PASSWORD (verbatim, not percent-encoded); null without REDIS_HOST.
 *
 * A REDIS_PORT such as `tcp://10.0.0.7:6379` is understood: Kubernetes sets it in every pod beside a Service that is
 * named `redis`, whatever the manifest meant.
 *
 * @throws InputError that names the variable
 */
export function redisSettingsFromEnv(env: Readonly<Record<string, string | undefined>>): RedisSettings | null {
  const host = env.REDIS_HOST?.trim() ?? '';
  if (host === '') return null;
  const node = parseNode(isIPv6(host) ? `[${host}]` : host);
  if (node === null) {
    throw new InputError('REDIS_HOST', [{ place: '', found: quoteInput(host), expected: 'a host name or address' }]);
  }
  const portText = env.REDIS_PORT?.trim() ?? '';
  const port = /^(?:tcp:\/\/.*:)?(\d{1,5})$/.exec(portText)?.[1];
  if (portText !== '' && (port === undefined || Number(port) < 1 || Number(port) > 65_535)) {
    throw new InputError('REDIS_PORT', [
      { place: '', found: quoteInput(portText), expected: 'a port from 1 to 65535' },
    ]);
  }
  return {
    nodes: [{ host: node.host, port: port === undefined ? node.port : Number(port) }],
    cluster: false,
    username: null,
    password: env.REDIS_PASSWORD === undefined || env.REDIS_PASSWORD === '' ? null : env.REDIS_PASSWORD,
    database: 0,
    tls: null,
  };
}

/** The settings as a URL that may be shown and logged: never with the password. */
export function describeRedis(settings: RedisSettings): string {
  const hosts = settings.nodes.map((node) => `${node.host.includes(':') ? `[${node.host}]` : node.host}:${node.port}`);
  const user = settings.username === null ? '' : `${encodeURIComponent(settings.username)}@`;
  const path = settings.cluster ? (hosts.length > 1 ? '' : '?cluster=true') : `/${settings.database}`;
  return `${settings.tls === null ? 'redis' : 'rediss'}://${user}${hosts.join(',')}${path}`;
}
