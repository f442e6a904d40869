import { isIPv6 } from 'node:net';
import { InputError, quoteInput } from '../core/input-error.js';
import { nearestName } from '../core/parse.js';

/**
 * Where a Redis is and how to get in, from a URL or from AIBrix's environment variables.
 *
 * No message of this file repeats any part of a text that may hold a password.
 */
export type RedisSettings = {
  /** The server, the first known nodes of a cluster, or the Sentinels that tell where the master is. */
  readonly nodes: readonly RedisNode[];
  /** Keys are spread over the nodes by slot; only database 0 exists. */
  readonly cluster: boolean;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
  /** Null: plain TCP. With Sentinel it holds for the Sentinels and for the servers that they name. */
  readonly tls: RedisTls | null;
  /** Null: `nodes` hold the data. */
  readonly sentinel: RedisSentinel | null;
};

/** What Sentinels are asked for, and how to get in there; user and password of the data are those of the settings. */
export type RedisSentinel = {
  /** Name of the master in the configuration of the Sentinels (`sentinel monitor NAME …`). */
  readonly master: string;
  readonly username: string | null;
  readonly password: string | null;
};

export type RedisNode = { readonly host: string; readonly port: number };

/** PEM texts; null = Node's own roots (and NODE_EXTRA_CA_CERTS), no client certificate. */
export type RedisTls = { readonly ca: string | null; readonly cert: string | null; readonly key: string | null };

const defaultPort = 6379;
const defaultSentinelPort = 26_379;
const queryKeys = ['cluster', 'sentinel', 'sentinelUsername', 'sentinelPassword'] as const;
type QueryKey = (typeof queryKeys)[number];

/**
 * Whether a text may hold a password, also where it is misspelt: user information, or a password among the parameters.
 */
export function mayHoldRedisPassword(text: string): boolean {
  return text.includes('@') || /pas+w/i.test(text);
}

/**
 * `redis://[user][:password]@host[:port][,host[:port]]…[/database][?cluster=true]`, or `rediss://` for TLS.
 *
 * Several hosts, or `cluster=true`, mean a Redis cluster. With `?sentinel=NAME` the hosts are Sentinels (port 26379), which
 * tell where the master of that name is; `sentinelUsername` and `sentinelPassword` are their own.
 *
 * Users and passwords are percent-decoded (`@` is `%40`).
 *
 * @param source names the flag or key in errors
 * @throws InputError
 */
export function parseRedisUrl(url: string, source: string): RedisSettings {
  // Quoting is safe only where nothing can be a password.
  const isSecret = mayHoldRedisPassword(url);
  const quoted = (text: string): string => (isSecret ? 'a part that is not' : quoteInput(text));
  const fail = (place: string, found: string, expected: string): never => {
    throw new InputError(source, [{ place, found, expected }]);
  };

  const parts = /^(rediss?):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(url.trim());
  if (parts === null) {
    // Forms that other clients have for Sentinels.
    const expected = /^rediss?[+-]sentinel:/i.test(url.trim())
      ? 'redis://host:26379,host:26379/database?sentinel=NAME'
      : 'redis://host:port/database';
    return fail('', isSecret ? 'a text of another form' : quoteInput(url), expected);
  }
  const [, scheme = '', authority = '', path = '', query = ''] = parts;
  const at = authority.lastIndexOf('@');
  const [username, password] = at < 0 ? [null, null] : parseCredentials(authority.slice(0, at), fail);
  const asked = parseQuery(query, { source, quoted });
  const sentinel = parseSentinel(asked, { fail, quoted });

  const portWhereNone = sentinel === null ? defaultPort : defaultSentinelPort;
  const nodes = authority
    .slice(at + 1)
    .split(',')
    .map(
      (text) =>
        parseNode(text, portWhereNone) ?? fail('host', quoted(text), 'host or host:port, with a port of 1 to 65535'),
    );

  const database = path === '' ? 0 : Number(path);
  if (!/^\d*$/.test(path) || database > 2 ** 31) fail('database', quoted(path), 'the number of a database');

  const said = asked.get('cluster');
  if (said !== undefined && said !== 'true' && said !== 'false') fail('query.cluster', quoted(said), 'true or false');
  if (sentinel !== null && said === 'true')
    fail('query.cluster', 'true', 'nothing beside sentinel: it is one or the other');
  const cluster = sentinel === null && (said === undefined ? nodes.length > 1 : said === 'true');
  if (sentinel === null && !cluster && nodes.length > 1) {
    fail('host', `${nodes.length} hosts`, 'one host, as cluster=false says');
  }
  if (cluster && database !== 0) {
    const unless = nodes.length > 1 ? ' (Sentinels need ?sentinel=NAME)' : '';
    fail('database', String(database), `0, the only one that a Redis cluster has${unless}`);
  }

  const tls = scheme.toLowerCase() === 'rediss' ? { ca: null, cert: null, key: null } : null;
  return { nodes, cluster, username, password, database, tls, sentinel };
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

function parseNode(text: string, portWhereNone = defaultPort): RedisNode | null {
  const parts = /^(\[[0-9a-f:.]+\]|[^\s:[\]@/]+)(?::(\d{1,5}))?$/i.exec(text.trim());
  if (parts === null) return null;
  const port = parts[2] === undefined ? portWhereNone : Number(parts[2]);
  return port < 1 || port > 65_535 ? null : { host: parts[1]!.replace(/^\[|\]$/g, ''), port };
}

type Asked = ReadonlyMap<QueryKey, string>;
type Quoted = (text: string) => string;

function parseQuery(query: string, { source, quoted }: { readonly source: string; readonly quoted: Quoted }): Asked {
  const asked = new Map<QueryKey, string>();
  for (const [given, value] of new URLSearchParams(query)) {
    const key = queryKeys.find((known) => known === given);
    if (key === undefined) {
      const suggestion = nearestName(given, queryKeys);
      throw new InputError(source, [
        {
          place: 'query',
          found: quoted(given),
          expected: `one of ${queryKeys.join(', ')}`,
          ...(suggestion === undefined ? {} : { suggestion }),
        },
      ]);
    }
    if (asked.has(key)) throw new InputError(source, [{ place: `query.${key}`, found: 'two values', expected: 'one' }]);
    asked.set(key, value);
  }
  return asked;
}

function parseSentinel(
  asked: Asked,
  { fail, quoted }: { readonly fail: Fail; readonly quoted: Quoted },
): RedisSentinel | null {
  const master = asked.get('sentinel');
  if (master === undefined) {
    for (const key of ['sentinelUsername', 'sentinelPassword'] as const) {
      if (asked.has(key)) fail(`query.${key}`, 'a value', 'it beside sentinel=NAME alone');
    }
    return null;
  }
  // What Sentinel itself takes for a name.
  if (!/^[\w.-]+$/.test(master)) {
    fail('query.sentinel', quoted(master), 'the name of a master (letters, digits, . _ -), as the Sentinels know it');
  }
  return {
    master,
    username: asked.get('sentinelUsername') || null,
    password: asked.get('sentinelPassword') || null,
  };
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
    sentinel: null,
  };
}

/** Every password that messages of others may repeat. */
export function redisPasswords({ password, sentinel }: RedisSettings): readonly string[] {
  return [password, sentinel?.password ?? null].filter((each) => each !== null);
}

/** The settings as a URL that may be shown and logged: never with a password. */
export function describeRedis(settings: RedisSettings): string {
  const hosts = settings.nodes.map((node) => `${node.host.includes(':') ? `[${node.host}]` : node.host}:${node.port}`);
  const user = settings.username === null ? '' : `${encodeURIComponent(settings.username)}@`;
  const path = settings.cluster ? (hosts.length > 1 ? '' : '?cluster=true') : `/${settings.database}`;
  const query = settings.sentinel === null ? '' : `?sentinel=${settings.sentinel.master}`;
  return `${settings.tls === null ? 'redis' : 'rediss'}://${user}${hosts.join(',')}${path}${query}`;
}
