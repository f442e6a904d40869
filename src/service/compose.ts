import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { loadGpuCatalogue, loadModelCatalogue } from '../adapters/catalogue-file.js';
import { createScrapedEngines, joinEngineMetrics } from '../adapters/engine-metrics.js';
import { ApiError, type ClusterAccess, connectToCluster } from '../adapters/kubernetes/api-client.js';
import { inspectCluster } from '../adapters/kubernetes/cluster-inspection.js';
import { KubernetesDeployments } from '../adapters/kubernetes/deployment-source.js';
import { KubernetesGpuNodes } from '../adapters/kubernetes/gpu-nodes.js';
import { createTokenReview } from '../adapters/kubernetes/token-review.js';
import { createMemoryStore } from '../adapters/memory-store.js';
import { PlanningThread } from '../adapters/planning-thread.js';
import { createFileProfiles, createStoreProfiles } from '../adapters/profile-source.js';
import type { PrometheusAccess } from '../adapters/prometheus-api.js';
import { createPrometheusDemand } from '../adapters/prometheus-demand.js';
import { createPrometheusEngines } from '../adapters/prometheus-queries.js';
import { parseRedisUrl, type RedisSettings } from '../adapters/redis-settings.js';
import { readRequestLog } from '../adapters/request-log.js';
import { openTokenFile } from '../adapters/token-file.js';
import type { GpuCatalogue } from '../core/gpu-types.js';
import { InputError, quoteInput } from '../core/input-error.js';
import type { ModelCatalogue } from '../core/model-types.js';
import type {
  Clock,
  DeploymentSource,
  EngineMetrics,
  GpuNodeSource,
  ProfileSource,
  SharedStore,
  TokenAuthority,
  TraceSource,
} from '../core/ports.js';
import { type Access, accessOf } from './access.js';
import { backtestFleet } from './backtest/backtest-fleet.js';
import { createConsumers, createScaling, type Scaling, scaledDeployments } from './compose-actuation.js';
import { createListeners, wallTimer } from './compose-listeners.js';
import { fixedTimes, prometheusDemand, replayedModel, simulatesReplicas } from './config/demand-config.js';
import { type Config, configuredPools, modelConfig } from './config.js';
import { type ConfigFlag, type ConfigLayers, type LoadedConfig, loadConfig } from './config-layers.js';
import { createConfiguredDeployments } from './configured-deployments.js';
import { Controller, type Timer } from './controller.js';
import type { DoctorSources } from './doctor/gather.js';
import { fixedEngines, replayAsGateway } from './gateway-replay.js';
import type { Logger } from './log.js';
import { ReplayTime } from './replay-time.js';
import type { Background, Listener } from './server.js';
import { fleetOfTheBeginning, SimulatedCluster } from './simulated-cluster.js';

/**
 * From a configuration to a service: the only file of this room that names implementations.
 */

/** The configuration of the embedded quickstart; src/service and dist/service are equally deep below the root. */
export const quickstartFile = fileURLToPath(new URL('../../samples/quickstart/gpumix.yaml', import.meta.url));

/** A configuration and where it came from. */
export type ChosenConfig = LoadedConfig & {
  readonly kind: 'file' | 'cluster' | 'quickstart';
  /** Where relative paths start. */
  readonly directory: string;
  /** For the first line that the service says. */
  readonly description: string;
};

/**
 * Decides what to serve: the given file; without one, in a cluster or with REDIS_HOST set, Redis and Kubernetes with
 * defaults; otherwise (or where it is asked for) the embedded quickstart.
 *
 * @throws InputError for a file that cannot be read or used
 */
export async function chooseConfig(options: {
  readonly configFile: string | null;
  readonly quickstart: boolean;
  readonly environment: ConfigLayers['environment'];
  readonly flags?: readonly ConfigFlag[];
  /** As in `ConfigLayers`. */
  readonly demandIsGiven?: boolean;
  /** Without a file: Redis and Kubernetes with defaults, never the quickstart. */
  readonly live?: boolean;
}): Promise<ChosenConfig> {
  const { configFile, quickstart, environment, flags = [], demandIsGiven = false, live = false } = options;
  const catalogue = await loadGpuCatalogue();
  if (configFile !== null && quickstart) {
    throw new InputError('flag --quickstart', [
      {
        place: '',
        found: 'it beside --config',
        expected: 'one of the two: the quickstart has a configuration of its own',
      },
    ]);
  }
  if (configFile !== null) {
    const file = { name: configFile, text: await readText(configFile, 'a configuration in YAML') };
    return {
      ...loadConfig({ file, environment, flags, catalogue, demandIsGiven }),
      kind: 'file',
      directory: dirname(resolve(configFile)),
      description: `configuration from ${configFile}`,
    };
  }
  if (!quickstart && (live || isSet(environment.KUBERNETES_SERVICE_HOST) || isSet(environment.REDIS_HOST))) {
    return {
      ...loadConfig({ file: null, environment, flags, catalogue }),
      kind: 'cluster',
      directory: process.cwd(),
      description: `no configuration file: Redis and Kubernetes with defaults, because ${
        isSet(environment.REDIS_HOST) ? 'REDIS_HOST is set' : 'this is a Kubernetes cluster'
      }`,
    };
  }
  // The quickstart needs no Redis, so a variable that names one is meant for something else.
  const { REDIS_HOST: _host, REDIS_PORT: _port, REDIS_PASSWORD: _password, ...others } = environment;
  const file = { name: quickstartFile, text: await readText(quickstartFile, 'the configuration of the quickstart') };
  return {
    ...loadConfig({ file, environment: others, flags, catalogue }),
    kind: 'quickstart',
    directory: dirname(quickstartFile),
    description: 'embedded quickstart: no Redis, no cluster',
  };
}

export type ComposedService = {
  readonly controller: Controller;
  /** Who may ask the HTTP face for what. */
  readonly access: Access;
  /** Starts and stops everything behind the HTTP face. */
  readonly background: Background;
  /** Who reads the numbers on a port of its own, besides HTTP. */
  readonly listeners: readonly Listener[];
  /** The controller's clock: simulated time in a replay. */
  readonly clock: Clock;
};

/**
 * Builds the service of a configuration. Nothing runs before `background.start()`.
 *
 * @throws InputError for files that the configuration names and that cannot be used
 */
export async function composeService(options: {
  readonly config: Config;
  readonly directory: string;
  readonly logger: Logger;
}): Promise<ComposedService> {
  const { config, directory, logger } = options;
  const time = createTime(config);
  // First of all: what it refuses needs nothing that would have to be closed.
  const { access, warning } = await accessOf(config, await createTokenAuthority(config, { directory, logger }));
  if (warning !== null) logger.warn({}, warning);
  const catalogue = await loadGpuCatalogue();
  const store = await createStore(config, { directory, clock: time.clock, logger });
  const planner = new PlanningThread();
  const whatIfPlanner = new PlanningThread();
  const explainer = new PlanningThread();
  const engineMetrics = await createEngineMetrics(config, { directory, clock: time.clock });
  const traceSource = await createTraceSource(config, { directory, clock: time.clock });
  const modelCatalogue = await loadModelCatalogue();
  const profiles = createProfiles(config, directory, store);
  const cluster = await createSimulatedCluster(config, {
    directory,
    profiles,
    gpus: catalogue,
    models: modelCatalogue,
    clock: time.clock,
  });
  const consumers = createConsumers(config, { clock: time.clock, logger });
  const scaling = createScaling(config, { time, consumers, logger });
  const controller = new Controller({
    config,
    clock: time.clock,
    timer: time.timer,
    steadyMs: () => performance.now(),
    store,
    profiles,
    deployments: cluster ?? createDeployments(config, { catalogue, time, logger, scaling }),
    actuation: scaling,
    consumers,
    gpuNodes: createGpuNodes(config, { catalogue, clock: time.clock, logger }),
    engineMetrics,
    traceSource,
    planner,
    whatIfPlanner,
    explainer,
    catalogue,
    modelCatalogue,
    logger,
    newId: randomUUID,
    ...(cluster === null ? {} : { simulatedService: (model: string) => cluster.serviceOf(model) }),
  });
  if (cluster !== null) controller.onCycle(() => cluster.follow(controller));
  const replay = await createReplay(config, { directory, store, time, cluster, logger });
  const listeners = await createListeners(config, { directory, view: controller, logger });
  return {
    controller,
    access,
    clock: time.clock,
    listeners,
    background: {
      async start() {
        replay?.start();
        await controller.start();
      },
      async stop() {
        await controller.stop();
        await replay?.stop();
        await engineMetrics?.close();
        await traceSource?.close();
        await Promise.all([planner.close(), whatIfPlanner.close(), explainer.close()]);
        await store.close();
      },
    },
  };
}

/** Null where the configuration names none. */
async function createTokenAuthority(
  { server }: Config,
  { directory, logger }: { readonly directory: string; readonly logger: Logger },
): Promise<TokenAuthority | null> {
  // Of people and scripts outside: their time passes as on the wall, whatever a replay simulates.
  const clock = { now: () => Date.now() };
  if (server.tokenFile !== null) return openTokenFile(resolve(directory, server.tokenFile), { clock, log: logger });
  if (server.tokenReview === null) return null;
  return createTokenReview({ client: await connectToCluster({}), ...server.tokenReview, clock });
}

type Time = {
  readonly clock: Clock;
  readonly timer: Timer;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** The virtual time of a replay; null = wall-clock time. */
  readonly replay: ReplayTime | null;
};

/** Wall-clock time, or in a replay simulated time that runs `clock` times as fast. */
function createTime(config: Config): Time {
  const replay = config.demand.source === 'replay' ? config.demand.replay : null;
  const speed = replay?.clock ?? 1;
  const beginMs = replay?.startsAt == null ? Date.now() : Date.parse(replay.startsAt);
  const replayTime =
    replay === null ? null : new ReplayTime({ beginMs, speed, steadyMs: () => performance.now(), delay: wallTimer });
  return {
    clock: replayTime ?? { now: () => Date.now() },
    timer: replayTime?.timer ?? wallTimer,
    replay: replayTime,
    sleep: async (ms, signal) => {
      await sleep(ms / speed, undefined, { signal }).catch((error) => {
        if (!signal.aborted) throw error;
      });
    },
  };
}

/** The replicas that serve a replay; null where nothing is simulated, and requests take fixed times. */
async function createSimulatedCluster(
  config: Config,
  tools: {
    readonly directory: string;
    readonly profiles: ProfileSource;
    readonly gpus: GpuCatalogue;
    readonly models: ModelCatalogue;
    readonly clock: Clock;
  },
): Promise<SimulatedCluster | null> {
  const { replay } = config.demand;
  const model = replayedModel(config);
  if (!simulatesReplicas(config) || replay === null || model === null) return null;
  const { simulation } = config;
  const fleet = await backtestFleet({
    ...tools,
    config: { ...config, simulation: { ...simulation, model } },
    source: 'demand.replay.engines: simulated',
  });
  return new SimulatedCluster({
    fleet,
    beginning: await fleetOfTheBeginning(fleet, readRequestLog({ file: resolve(tools.directory, replay.file) })),
    startMs: tools.clock.now(),
    simulation,
    lagSeconds: config.forecast.consumerLagSeconds,
    slo: modelConfig(config, model).slo,
  });
}

async function createStore(
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
async function redisSettings({ redis }: Config, directory: string): Promise<RedisSettings | null> {
  if (redis === null) return null;
  const parsed = parseRedisUrl(redis.url, 'redis.url');
  const pem = (key: 'caFile' | 'certFile' | 'keyFile') => {
    const file = redis[key];
    return file === null ? null : readText(resolve(directory, file), `the PEM file of redis.${key}`);
  };
  return {
    ...parsed,
    password: redis.password ?? parsed.password,
    tls:
      parsed.tls === null ? null : { ca: await pem('caFile'), cert: await pem('certFile'), key: await pem('keyFile') },
  };
}

function createProfiles(config: Config, directory: string, store: SharedStore): ProfileSource {
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

/**
 * What a live set-up can be looked at by, without running anything of the service.
 *
 * @throws InputError for files that the configuration names and that cannot be used
 */
export async function openDoctor(options: {
  readonly config: Config;
  readonly directory: string;
  readonly access: ClusterAccess;
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
  const engines = await createEngineMetrics(config, { directory, clock });
  // Loaded where it is used, as the store's driver.
  const { openRedisInspection } = await import('../adapters/redis-inspection.js');
  const inspection = settings === null ? null : openRedisInspection(settings, { timeoutMs, now: () => clock.now() });
  const { list, fromNodes } = configuredPools(config);
  return {
    sources: {
      settings: {
        intervalSeconds: demand.intervalSeconds,
        readsTraces: demand.source === 'redis',
        aibrixUnit: publish.aibrixUnit,
        publishes: publish.mode === 'live',
        pools: { list, areCounted: fromNodes !== null },
        profilesDirectory: profiles.source === 'files' ? resolve(directory, profiles.directory ?? '.') : null,
      },
      catalogue,
      clock,
      sleep: options.sleep ?? (async (ms) => void (await sleep(ms))),
      timeoutMs,
      redis: inspection === null ? null : { inspection, store },
      cluster:
        deployments.source === 'config'
          ? 'deployments.source is config: no cluster is followed'
          : await inspectionOfCluster(options.access, { catalogue, clock, timeoutMs, config }),
      listed:
        deployments.source === 'config'
          ? createConfiguredDeployments(deployments.list, catalogue).snapshot().deployments
          : null,
      profiles: createProfiles(config, directory, store),
      engines,
      statusOf: (error) => (error instanceof ApiError ? error.status : null),
    },
    async close() {
      await Promise.all([inspection?.close(), engines?.close(), store.close()]);
    },
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
  // What a flag names must be usable; what the surroundings happen to offer need not.
  const isGiven = Object.keys(access).length > 0;
  try {
    return inspectCluster({
      api: await connectToCluster(access),
      catalogue,
      namespaces: config.deployments.namespaces,
      answerTimeoutMs: timeoutMs,
      now: () => clock.now(),
    });
  } catch (error) {
    if (isGiven || !(error instanceof InputError)) throw error;
    return error;
  }
}

function createDeployments(
  config: Config,
  tools: {
    readonly catalogue: GpuCatalogue;
    readonly time: Time;
    readonly logger: Logger;
    readonly scaling: Scaling | null;
  },
): DeploymentSource {
  const { source, list, namespaces } = config.deployments;
  const { catalogue, time, logger, scaling } = tools;
  if (source === 'kubernetes') {
    return new KubernetesDeployments({ catalogue, clock: time.clock, namespaces, log: logger });
  }
  const configured = createConfiguredDeployments(list, catalogue);
  if (scaling === null) return configured;
  const listed = configured.snapshot().deployments;
  return scaledDeployments(config, { listed, scaling, time, logger });
}

/** Null where the configuration itself says how many GPUs there are. */
function createGpuNodes(
  config: Config,
  tools: { readonly catalogue: GpuCatalogue; readonly clock: Clock; readonly logger: Logger },
): GpuNodeSource | null {
  const { fromNodes } = configuredPools(config);
  return fromNodes === null ? null : new KubernetesGpuNodes({ ...tools, ...fromNodes, log: tools.logger });
}

/** Null where the configuration names no engines to read. */
async function createEngineMetrics(
  { prometheus, engines }: Config,
  { directory, clock }: { readonly directory: string; readonly clock: Clock },
): Promise<EngineMetrics | null> {
  const sources: EngineMetrics[] = [];
  if (engines.scrape.length > 0) {
    const targets = engines.scrape;
    sources.push(createScrapedEngines({ targets, timeoutMs: engines.timeoutSeconds * 1000, clock }));
  }
  if (prometheus !== null) {
    const { namespaceLabel, podLabel, deploymentLabel } = prometheus;
    const access = await prometheusAccess(prometheus, directory);
    sources.push(createPrometheusEngines({ ...access, namespaceLabel, podLabel, deploymentLabel }));
  }
  return sources.length === 0 ? null : joinEngineMetrics(sources);
}

/** Null where the store itself holds the records of a gateway. */
async function createTraceSource(
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
    },
    clock,
  );
}

async function prometheusAccess(
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

type RunningReplay = { start(): void; stop(): Promise<void> };

/** Plays the configured request log into the embedded store, in a loop, as a gateway would have written it. */
async function createReplay(
  config: Config,
  tools: {
    readonly directory: string;
    readonly store: SharedStore;
    readonly time: Time;
    /** Who serves the requests; null = they take fixed times. */
    readonly cluster: SimulatedCluster | null;
    readonly logger: Logger;
  },
): Promise<RunningReplay | null> {
  const { replay } = config.demand;
  const model = replayedModel(config);
  if (config.demand.source !== 'replay' || replay === null || model === null) return null;
  const { directory, store, time, cluster, logger } = tools;
  const file = resolve(directory, replay.file);
  // A log that cannot be read at all stops the start; a bad row later on ends the replay and is logged.
  for await (const _ of readRequestLog({ file })) break;
  const calledOff = new AbortController();
  const fixed = fixedEngines({
    ttftSeconds: replay.ttftSeconds ?? fixedTimes.ttftSeconds,
    tpotSeconds: replay.tpotSeconds ?? fixedTimes.tpotSeconds,
    speed: 1,
  });
  let played: Promise<void> = Promise.resolve();
  return {
    start() {
      played = replayAsGateway({
        open: () => readRequestLog({ file, signal: calledOff.signal }),
        source: file,
        store,
        model,
        speed: 1,
        engines: cluster === null ? fixed : (trace) => cluster.serve(trace),
        durationSeconds: null,
        loop: true,
        clock: time.clock,
        sleep: time.sleep,
        signal: calledOff.signal,
        onReached: (ms) => time.replay?.reached(ms),
      })
        .then(
          () => undefined,
          (error) =>
            logger.error(
              { err: error },
              `the replay of ${file} ended: ${error instanceof Error ? error.message : error}`,
            ),
        )
        // Plans go on without it.
        .finally(() => time.replay?.release());
    },
    async stop() {
      calledOff.abort();
      await played;
    },
  };
}

async function readText(file: string, expected: string): Promise<string> {
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

function isSet(variable: string | undefined): boolean {
  return variable !== undefined && variable !== '';
}
