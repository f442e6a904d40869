import { Redis, type SentinelConnectionOptions } from 'ioredis';
import type { RedisNode, RedisSentinel, RedisSettings } from './redis-settings.js';

/** Settings of a Redis whose master Sentinels name. */
export type SentinelSettings = RedisSettings & { readonly sentinel: RedisSentinel };

export function hasSentinel(settings: RedisSettings): settings is SentinelSettings {
  return settings.sentinel !== null;
}

/** TLS as ioredis takes it; what is null is left to Node. */
export function tlsOptions({ tls }: RedisSettings): { readonly tls?: { ca?: string; cert?: string; key?: string } } {
  return tls === null ? {} : { tls: Object.fromEntries(Object.entries(tls).filter(([, text]) => text !== null)) };
}

/**
 * Options of ioredis that ask the Sentinels, one after the other, for the master, and refuse a server that turns out to
 * be a replica. One round for each attempt: who waits for a connection then learns why there is none.
 */
export function sentinelOptions(
  settings: SentinelSettings,
  { timeoutMs }: { readonly timeoutMs: number },
): SentinelConnectionOptions {
  const { sentinel, nodes } = settings;
  const { tls } = tlsOptions(settings);
  return {
    sentinels: nodes.map(({ host, port }) => ({ host, port })),
    name: sentinel.master,
    ...(sentinel.username === null ? {} : { sentinelUsername: sentinel.username }),
    ...(sentinel.password === null ? {} : { sentinelPassword: sentinel.password }),
    ...(tls === undefined ? {} : { sentinelTLS: tls, enableTLSForSentinelMode: true }),
    sentinelCommandTimeout: timeoutMs,
    sentinelRetryStrategy: () => null,
  };
}

/**
 * An error of ioredis in words that fit behind the address, where it is about Sentinels; as it is where it is not.
 *
 * @param seen what the watch saw of them: ioredis only says that their connections were closed
 */
export function sentinelSentence(text: string, sentinel: RedisSentinel | null, seen: string | null): string {
  if (sentinel === null) {
    // Sentinels answer like servers, and know a tenth of the commands.
    return /unknown command/i.test(text) ? `${text} (is this a Sentinel? Its URL needs ?sentinel=NAME)` : text;
  }
  const last = /^All sentinels are unreachable[^.]*\.(?: Last error: (.*))?$/s.exec(text);
  if (last === null) return text;
  const error = last[1] ?? 'ERR No such master';
  if (error.startsWith('ERR No such master')) return `no Sentinel knows a master ${JSON.stringify(sentinel.master)}`;
  return `no Sentinel says where the master is: ${error === 'Connection is closed.' ? (seen ?? error) : error}`;
}

/** Longest wait before a Sentinel that cannot be reached is tried again [ms]. */
const longestWaitMs = 5000;

/**
 * Calls back whenever a Sentinel says that the master is another server now, and which.
 *
 * A master that was frozen or cut off takes itself for the master for some ten seconds after it is back, and keeps its
 * connections: what is written meanwhile goes elsewhere, and would look like silence there. ioredis can watch too, but
 * writes every Sentinel that is down to the console.
 */
export class SentinelWatch {
  /**
   * Resolves when one of them has answered or failed for the first time, after `timeoutMs` at the latest. Who asks the Sentinels
   * only after that can tell why none answers: its own attempt never ends before the one that is seen here.
   */
  readonly begun: Promise<void>;
  readonly #clients: readonly Redis[];
  #problem: string | null = null;

  constructor(
    settings: SentinelSettings,
    { timeoutMs, onSwitch }: { readonly timeoutMs: number; readonly onSwitch: (master: RedisNode) => void },
  ) {
    this.#clients = settings.nodes.map((node) => {
      const client = connect(settings, { node, timeoutMs });
      client.on('message', (_channel: string, message: string) => {
        // NAME, host and port of before, host and port of now.
        const [name, , , host = '', port] = message.split(' ');
        if (name === settings.sentinel.master) onSwitch({ host, port: Number(port) });
      });
      // One that is down or refuses is not missed: the others tell, and the store finds the master without any of them.
      client.on('error', (error: Error & { errors?: readonly Error[] }) => {
        this.#problem = error.message || (error.errors?.[0]?.message ?? error.name);
      });
      return client;
    });
    this.begun = firstOutcome(this.#clients);
  }

  /** Why a Sentinel could not be reached lately; null = none failed. */
  get problem(): string | null {
    return this.#problem;
  }

  close(): void {
    for (const client of this.#clients) client.disconnect();
  }
}

function firstOutcome(clients: readonly Redis[]): Promise<void> {
  return new Promise((resolve) => {
    for (const client of clients) {
      // A server may close a connection without a word; one that never says anything is an error after the timeout.
      for (const outcome of ['ready', 'error', 'close', 'end']) client.once(outcome, () => resolve());
    }
  });
}

function connect(
  settings: SentinelSettings,
  { node, timeoutMs }: { readonly node: RedisNode; readonly timeoutMs: number },
): Redis {
  const { username, password } = settings.sentinel;
  const client = new Redis({
    host: node.host,
    port: node.port,
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...tlsOptions(settings),
    protocol: 2,
    disableClientInfo: true,
    enableReadyCheck: false,
    enableOfflineQueue: false,
    autoResubscribe: false,
    connectTimeout: timeoutMs,
    retryStrategy: (attempt) => Math.min(longestWaitMs, 100 * 2 ** Math.min(attempt, 10)),
  });
  client.on('ready', () => {
    client.subscribe('+switch-master').catch(() => {});
  });
  return client;
}
