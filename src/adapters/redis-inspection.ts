import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { PodActivity, RedisInspection } from '../core/inspection.js';
import { Unavailable } from '../core/ports.js';
import { hasSentinel, SentinelWatch, sentinelOptions, sentinelSentence, tlsOptions } from './redis-sentinel.js';
import { describeRedis, type RedisSettings, redisPasswords } from './redis-settings.js';
import { defaultStatePrefix, profileOfKey, traceOfKey } from './store-keys.js';

/**
 * A look at a Redis from outside the service: its clock, the names of AIBrix's keys, what gateways say of pods. It reads
 * only, bounded in keys and time; the service itself never scans.
 */

/** Keys that one step of a scan passes by: some hundred microseconds of the server. */
const scanCount = 1000;
/** Steps of a scan of one server: two million keys of whatever kind. */
const mostSteps = 2000;
/** Keys of AIBrix that are kept: a thousand models have 60,000 records. */
const mostKeys = 200_000;
/** Pods that are asked about. */
const mostPods = 5000;
const podFields = ['requests_running', 'seq'] as const;
/** Longest field of a pod that is read; real ones have 20 digits. [bytes] */
const longestField = 64;

/** Connects at the first question. */
export function openRedisInspection(
  settings: RedisSettings,
  options: { readonly timeoutMs: number; readonly now: () => number },
): RedisInspection {
  const { timeoutMs, now } = options;
  const name = describeRedis(settings);
  const client = connect(settings, timeoutMs);
  let lastError: Error | null = null;
  const remember = (error: Error) => {
    lastError = error;
  };
  client.on('error', remember);
  let opened: Promise<unknown> | null = null;
  // Nothing is followed in one look, but this sees why Sentinels do not answer.
  let watch: SentinelWatch | null = null;

  const unavailable = (error: unknown): Unavailable => {
    if (error instanceof Unavailable) return error;
    const own = error instanceof Error ? error.message : String(error);
    const text = lastError === null || !/closed|retries/i.test(own) ? own : lastError.message || own;
    // Without `cause`: errors of ioredis carry the arguments of their command, which may be the password.
    const said = sentinelSentence(text, settings.sentinel, watch?.problem ?? null);
    const shown = redisPasswords(settings).reduce((rest, password) => rest.replaceAll(password, '***'), said);
    return new Unavailable('redis_unreachable', `Redis at ${name}: ${shown}`);
  };
  const asking = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      // A cluster that is not whole leaves this open for ever, without any error.
      if (watch === null && hasSentinel(settings))
        watch = new SentinelWatch(settings, { timeoutMs, onSwitch: () => {} });
      await watch?.begun;
      opened ??= within(Promise.resolve(client.connect()), 2 * timeoutMs);
      await opened;
      return await work();
    } catch (error) {
      throw unavailable(error);
    }
  };
  const servers = (): readonly Redis[] => (client instanceof Cluster ? client.nodes('master') : [client]);

  const activityOf = async (keys: readonly string[]): Promise<readonly PodActivity[]> => {
    const read = await Promise.all(
      keys.map(async (key) => {
        const lengths = await Promise.all(podFields.map((field) => client.hstrlen(key, field))).catch(wrongType);
        if (lengths === null || lengths.some((length) => length > longestField)) return null;
        const values = await client.hmget(key, ...podFields).catch(wrongType);
        const [running = null, completed = null] = values ?? [];
        // Gateways let these keys live for half a second: one that is gone says nothing any more.
        if (running === null && completed === null) return null;
        return { ...podOfKey(key), running: countOf(running) ?? 0, completed: countOf(completed) };
      }),
    );
    return read.filter((pod) => pod !== null);
  };

  return {
    clocks: () =>
      asking(() =>
        Promise.all(
          servers().map(async (server) => {
            const before = now();
            const [seconds, microseconds] = await server.time();
            const shown = Number(seconds) * 1000 + Number(microseconds) / 1000;
            const { host, port } = server.options;
            return {
              where: settings.sentinel === null ? `Redis at ${host}:${port}` : `Redis at ${name}`,
              shownMs: [shown, shown] as const,
              askedMs: [before, now()] as const,
            };
          }),
        ),
      ),
    keys: () =>
      asking(async () => {
        const newestTraces = new Map<string, number>();
        const profiles = new Set<string>();
        const pods = new Set<string>();
        let complete = true;
        for (const server of servers()) {
          let cursor = '0';
          for (let step = 0; ; step++) {
            const [next, keys] = await server.scan(cursor, 'MATCH', 'aibrix:*', 'COUNT', scanCount);
            for (const key of keys) {
              if (newestTraces.size + profiles.size + pods.size >= mostKeys) complete = false;
              else take(key, newestTraces, profiles, pods);
            }
            cursor = next;
            if (cursor === '0') break;
            if (step >= mostSteps || !complete) {
              complete = false;
              break;
            }
          }
        }
        const asked = [...pods].sort().slice(0, mostPods);
        return {
          newestTraces,
          profiles: [...profiles].sort(),
          pods: await activityOf(asked),
          complete: complete && asked.length === pods.size,
        };
      }),
    activity: (pods) =>
      asking(() => activityOf(pods.map(({ gateway, namespace, pod }) => `${podPrefix}${gateway}:${namespace}:${pod}`))),
    close: async () => {
      watch?.close();
      client.disconnect();
    },
  };
}

async function within<Value>(work: Promise<Value>, ms: number): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no connection within ${ms / 1000} s`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function connect(settings: RedisSettings, timeoutMs: number): Redis | Cluster {
  const common = {
    ...(settings.username === null ? {} : { username: settings.username }),
    ...(settings.password === null ? {} : { password: settings.password }),
    ...tlsOptions(settings),
    connectionName: `${defaultStatePrefix}-doctor`,
    protocol: 2,
    disableClientInfo: true,
    connectTimeout: timeoutMs,
    commandTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    disconnectTimeout: 500,
    maxRetriesPerRequest: 0,
    // A command that looks once has nothing to gain from trying again: what is not there is what it tells.
    retryStrategy: () => null,
    enableOfflineQueue: false,
    lazyConnect: true,
  } satisfies RedisOptions;
  if (!settings.cluster) {
    const { host, port } = settings.nodes[0]!;
    const server = hasSentinel(settings) ? sentinelOptions(settings, { timeoutMs }) : { host, port };
    return new Redis({ ...common, ...server, db: settings.database });
  }
  return new Cluster([...settings.nodes], {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: () => null,
    slotsRefreshTimeout: timeoutMs,
    redisOptions: common,
    ...(settings.tls === null ? {} : { dnsLookup: (address, callback) => callback(null, address) }),
  });
}

const podPrefix = 'aibrix:pod:';

function take(key: string, newestTraces: Map<string, number>, profiles: Set<string>, pods: Set<string>): void {
  const trace = traceOfKey(key);
  if (trace !== null) {
    newestTraces.set(trace.model, Math.max(newestTraces.get(trace.model) ?? 0, trace.endSeconds));
  } else if (profileOfKey(key) !== null) profiles.add(key);
  else if (key.startsWith(podPrefix) && key.split(':').length >= 5) pods.add(key);
}

/** `aibrix:pod:<gateway>:<namespace>:<pod>`; names of Kubernetes hold no colon, the gateway's own may. */
function podOfKey(key: string): Pick<PodActivity, 'gateway' | 'namespace' | 'pod'> {
  const parts = key.slice(podPrefix.length).split(':');
  return { gateway: parts.slice(0, -2).join(':'), namespace: parts.at(-2) ?? '', pod: parts.at(-1) ?? '' };
}

/** Something else lies under that name: it says nothing of a pod, and is no fault of the others. */
function wrongType(error: Error): null {
  if (error.message.startsWith('WRONGTYPE')) return null;
  throw error;
}

function countOf(text: string | null | undefined): number | null {
  return text != null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}
