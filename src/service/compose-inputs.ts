import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { createScrapedEngines, joinEngineMetrics } from '../adapters/engine-metrics.js';
import { createMemoryStore } from '../adapters/memory-store.js';
import { createFileProfiles, createStoreProfiles } from '../adapters/profile-source.js';
import type { PrometheusAccess } from '../adapters/prometheus-api.js';
import { createPrometheusDemand } from '../adapters/prometheus-demand.js';
import { createPrometheusEngines } from '../adapters/prometheus-queries.js';
import { parseRedisUrl, type RedisSettings } from '../adapters/redis-settings.js';
import { InputError, quoteInput } from '../core/input-error.js';
import type { Clock, EngineMetrics, ProfileSource, SharedStore, TraceSource } from '../core/ports.js';
import { prometheusDemand } from './config/demand-config.js';
import type { Config } from './config.js';
import type { Logger } from './log.js';

/** What a configuration says is read: the store, profiles, engines and records of demand. */

export async function createStore(
  config: Config,
  { directory, clock, logger }: { readonly directory: string; readonly clock: Clock; readonly logger: Logger | null },
): Promise<SharedStore> {
  const settings = await redisSettings(config, directory);
  if (settings === null) return createMemoryStore(clock);
  // Loaded where it is used: its driver is a tenth of the time that the quickstart takes to start.
  const { createRedisStore } = await import('../adapters/redis-store.js');
  return createRedisStore(settings, clock, {
    ...(config.redis === null ? {} : { statePrefix: config.redis.statePrefix }),
    onConnection: ({ connected, message }) => logger?.[connected ? 'info' : 'warn']({ input: 'redis' }, message),
  });
}

/** Null where no Redis is configured. */
export async function redisSettings({ redis }: Config, directory: string): Promise<RedisSettings | null> {
  if (redis === null) return null;
  const parsed = parseRedisUrl(redis.url, 'redis.url');
  const pem = (key: 'caFile' | 'certFile' | 'keyFile') => {
    const file = redis[key];
    return file === null ? null : readText(resolve(directory, file), `the PEM file of redis.${key}`);
  };
  const { sentinelUsername, sentinelPassword } = redis;
  return {
    ...parsed,
    password: redis.password ?? parsed.password,
    sentinel:
      parsed.sentinel === null
        ? null
        : {
            ...parsed.sentinel,
            username: sentinelUsername ?? parsed.sentinel.username,
            password: sentinelPassword ?? parsed.sentinel.password,
          },
    tls:
      parsed.tls === null ? null : { ca: await pem('caFile'), cert: await pem('certFile'), key: await pem('keyFile') },
  };
}

export function createProfiles(config: Config, directory: string, store: SharedStore): ProfileSource {
  const { profiles } = config;
  return profiles.source === 'files'
    ? createFileProfiles(resolve(directory, profiles.directory ?? '.'))
    : createStoreProfiles(store);
}

/** The profiles of a configuration, for a command that reads them and is done. */
export async function openProfiles({
  config,
  directory,
}: {
  readonly config: Config;
  readonly directory: string;
}): Promise<{ readonly source: ProfileSource; readonly close: () => Promise<void> }> {
  const clock = { now: () => Date.now() };
  // Files need no Redis, wherever the service keeps its demand.
  const store =
    config.profiles.source === 'files'
      ? createMemoryStore(clock)
      : await createStore(config, { directory, clock, logger: null });
  return { source: createProfiles(config, directory, store), close: () => store.close() };
}

/** Null where the configuration names no engines to read. */
export async function createEngineMetrics(
  config: Config,
  options: { readonly directory: string; readonly clock: Clock },
): Promise<EngineMetrics | null> {
  const { scraped, prometheus } = await createEngineSources(config, options);
  const sources = [scraped, prometheus].filter((source) => source !== null);
  return sources.length === 0 ? null : joinEngineMetrics(sources);
}

/** Each by itself; null where the configuration names none. */
export async function createEngineSources(
  { prometheus, engines }: Config,
  { directory, clock }: { readonly directory: string; readonly clock: Clock },
): Promise<{ readonly scraped: EngineMetrics | null; readonly prometheus: EngineMetrics | null }> {
  const targets = engines.scrape;
  const timeoutMs = engines.timeoutSeconds * 1000;
  const scraped = targets.length === 0 ? null : createScrapedEngines({ targets, timeoutMs, clock });
  if (prometheus === null) return { scraped, prometheus: null };
  const { namespaceLabel, podLabel, deploymentLabel } = prometheus;
  const access = await prometheusAccess(prometheus, directory);
  return { scraped, prometheus: createPrometheusEngines({ ...access, namespaceLabel, podLabel, deploymentLabel }) };
}

/** Null where the store itself holds the records of a gateway. */
export async function createTraceSource(
  config: Config,
  { directory, clock }: { readonly directory: string; readonly clock: Clock },
): Promise<TraceSource | null> {
  const { demand, prometheus, deployments, models } = config;
  if (demand.source !== 'prometheus' || prometheus === null) return null;
  const { modelLabel, labels, delaySeconds } = prometheusDemand(config);
  const { namespaceLabel, podLabel } = prometheus;
  const served = Object.entries(models).flatMap(([model, { servedNames }]) =>
    servedNames.map((name) => [name, model] as const),
  );
  return createPrometheusDemand(
    {
      ...(await prometheusAccess(prometheus, directory)),
      intervalSeconds: demand.intervalSeconds,
      delaySeconds,
      modelLabel,
      namespaceLabel,
      podLabel,
      namespaces: deployments.namespaces,
      labels,
      models: new Map(served),
      clockToleranceSeconds,
    },
    clock,
  );
}

/** Scrapes and remote writes are late by some seconds, and so may a clock be; a minute is another time. [s] */
const clockToleranceSeconds = 60;

export async function prometheusAccess(
  { url, bearerTokenFile, caFile, timeoutSeconds }: NonNullable<Config['prometheus']>,
  directory: string,
): Promise<PrometheusAccess> {
  return {
    url,
    bearerTokenFile: bearerTokenFile === null ? null : resolve(directory, bearerTokenFile),
    ca: caFile === null ? null : await readText(resolve(directory, caFile), 'the PEM file of prometheus.caFile'),
    timeoutMs: timeoutSeconds * 1000,
  };
}

export async function readText(file: string, expected: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const found =
      code === 'ENOENT'
        ? 'no such file'
        : code === 'EISDIR'
          ? 'a folder'
          : `a file that cannot be read (${quoteInput(code)})`;
    throw new InputError(file, [{ place: '', found, expected }]);
  }
}
