import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadGpuCatalogue } from '../adapters/catalogue-file.js';
import { everyEnginesCounter, joinEngineMetrics } from '../adapters/engine-metrics.js';
import { ApiError, type ClusterAccess, connectToCluster } from '../adapters/kubernetes/api-client.js';
import { inspectCluster } from '../adapters/kubernetes/cluster-inspection.js';
import { KubernetesScaleClient } from '../adapters/kubernetes/scale-client.js';
import { listProfileFiles } from '../adapters/profile-source.js';
import { demandMetricNames } from '../adapters/prometheus-demand.js';
import { inspectPrometheus } from '../adapters/prometheus-inspection.js';
import { describeRedis } from '../adapters/redis-settings.js';
import type { GpuCatalogue } from '../core/gpu-types.js';
import { InputError } from '../core/input-error.js';
import type { Clock, EngineMetrics } from '../core/ports.js';
import { listedDeployments, targetOf } from './compose-actuation.js';
import {
  createEngineSources,
  createProfiles,
  createStore,
  createTraceSource,
  prometheusAccess,
  redisSettings,
} from './compose-inputs.js';
import { prometheusDemand } from './config/demand-config.js';
import { type Config, configuredPools } from './config.js';
import { createConfiguredDeployments } from './configured-deployments.js';
import type { DoctorSources } from './doctor/gather.js';

/**
 * What a live set-up can be looked at by, without running anything of the service.
 *
 * @throws InputError for files that the configuration names and that cannot be used
 */
export async function openDoctor(options: {
  readonly config: Config;
  readonly directory: string;
  readonly access: ClusterAccess;
  /** File of the configuration, for people; null = none was given. */
  readonly configuration: string | null;
  /** Where `publish.mode` is set: a file or a variable; null = nowhere. */
  readonly modeFrom: string | null;
  /** For each part that is looked at. */
  readonly timeoutMs: number;
  readonly clock?: Clock;
  readonly sleep?: (ms: number) => Promise<void>;
}): Promise<{ readonly sources: DoctorSources; readonly close: () => Promise<void> }> {
  const { config, directory, timeoutMs, clock = { now: () => Date.now() } } = options;
  const { deployments, demand, profiles, publish } = config;
  const catalogue = await loadGpuCatalogue();
  const settings = await redisSettings(config, directory);
  const store = await createStore(config, { directory, clock, logger: null });
  const { scraped, prometheus: inPrometheus } = await createEngineSources(config, { directory, clock });
  const engineSources = [scraped, inPrometheus].filter((source) => source !== null);
  const prometheus = await prometheusSource(config, { directory, clock, engines: inPrometheus });
  // Loaded where it is used, as the store's driver.
  const { openRedisInspection } = await import('../adapters/redis-inspection.js');
  const inspection = settings === null ? null : openRedisInspection(settings, { timeoutMs, now: () => clock.now() });
  const { list, fromNodes } = configuredPools(config);
  const profilesDirectory = profiles.source === 'files' ? resolve(directory, profiles.directory ?? '.') : null;
  const isListed = deployments.source === 'config';
  const cluster =
    isListed && config.actuate === 'none'
      ? 'deployments.source is config, and actuate is none: what the cluster holds is not looked at'
      : await inspectionOfCluster(options.access, { catalogue, clock, timeoutMs, config });
  return {
    sources: {
      settings: {
        intervalSeconds: demand.intervalSeconds,
        readsTraces: demand.source === 'redis',
        aibrixUnit: publish.aibrixUnit,
        configuration: options.configuration,
        mode: { value: publish.mode, from: options.modeFrom },
        actuate: config.actuate,
        isListed,
        pools: { list, areCounted: fromNodes !== null },
        profilesDirectory,
      },
      addresses: {
        redis: settings === null ? null : describeRedis(settings),
        kubernetes: typeof cluster === 'string' || cluster instanceof Error ? null : cluster.server,
        prometheus: prometheus?.inspection.server ?? null,
      },
      catalogue,
      clock,
      sleep: options.sleep ?? (async (ms) => void (await sleep(ms))),
      timeoutMs,
      redis: inspection === null ? null : { inspection, store },
      cluster,
      scale:
        config.actuate === 'none'
          ? null
          : {
              client: new KubernetesScaleClient({ access: options.access, timeoutMs }),
              targetOf: targetOf(config),
            },
      listed: isListed ? createConfiguredDeployments(deployments.list, catalogue).snapshot().deployments : null,
      profiles: createProfiles(config, directory, store),
      profileFiles: profilesDirectory === null ? null : () => listProfileFiles(profilesDirectory),
      engines: engineSources.length === 0 ? null : joinEngineMetrics(engineSources),
      prometheus,
      scraped:
        scraped === null
          ? null
          : {
              source: scraped,
              deployments: config.engines.scrape.map(({ deployment: id }) => {
                const [namespace = '', name = ''] = id.split('/');
                return { id, namespace, name };
              }),
            },
      statusOf: (error) => (error instanceof ApiError ? error.status : null),
    },
    async close() {
      await Promise.all([
        inspection?.close(),
        ...engineSources.map((source) => source.close()),
        prometheus?.inspection.close(),
        prometheus?.demand?.source.close(),
        store.close(),
      ]);
    },
  };
}

/** Null where none is configured. */
async function prometheusSource(
  config: Config,
  options: { readonly directory: string; readonly clock: Clock; readonly engines: EngineMetrics | null },
): Promise<DoctorSources['prometheus']> {
  const { directory, clock, engines } = options;
  if (config.prometheus === null || engines === null) return null;
  const source = await createTraceSource(config, { directory, clock });
  return {
    inspection: inspectPrometheus(await prometheusAccess(config.prometheus, directory)),
    demand: source === null ? null : { source, delaySeconds: prometheusDemand(config).delaySeconds },
    engines,
    wanted: { demand: demandMetricNames, engines: everyEnginesCounter },
  };
}

/** The error where nothing describes a cluster: that is told like one that does not answer. */
async function inspectionOfCluster(
  access: ClusterAccess,
  tools: {
    readonly catalogue: GpuCatalogue;
    readonly clock: Clock;
    readonly timeoutMs: number;
    readonly config: Config;
  },
): Promise<DoctorSources['cluster']> {
  const { catalogue, clock, timeoutMs, config } = tools;
  const { source, list, namespaces } = config.deployments;
  try {
    return inspectCluster({
      api: await connectToCluster(access),
      catalogue,
      ...(source === 'kubernetes'
        ? { namespaces }
        : {
            namespaces: [...new Set(list.map(({ namespace }) => namespace))],
            deploymentOf: listedDeployments(config),
          }),
      answerTimeoutMs: timeoutMs,
      now: () => clock.now(),
    });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error;
  }
}
