import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadGpuCatalogue, loadModelCatalogue } from '../adapters/catalogue-file.js';
import { connectToCluster } from '../adapters/kubernetes/api-client.js';
import { KubernetesDeployments } from '../adapters/kubernetes/deployment-source.js';
import { KubernetesGpuNodes } from '../adapters/kubernetes/gpu-nodes.js';
import { createTokenReview } from '../adapters/kubernetes/token-review.js';
import { PlanningThread } from '../adapters/planning-thread.js';
import { readRequestLog } from '../adapters/request-log.js';
import { openTokenFile } from '../adapters/token-file.js';
import type { GpuCatalogue } from '../core/gpu-types.js';
import type { ModelCatalogue } from '../core/model-types.js';
import type {
  Clock,
  DeploymentSource,
  GpuNodeSource,
  ProfileSource,
  SharedStore,
  TokenAuthority,
} from '../core/ports.js';
import { type Access, accessOf } from './access.js';
import { backtestFleet } from './backtest/backtest-fleet.js';
import { ClockSteps } from './clock-steps.js';
import { createConsumers, createScaling, type Scaling, scaledDeployments } from './compose-actuation.js';
import { createEngineMetrics, createProfiles, createStore, createTraceSource } from './compose-inputs.js';
import { createListeners, wallTimer } from './compose-listeners.js';
import { fixedTimes, replayedModel, simulatesReplicas } from './config/demand-config.js';
import { type Config, configuredPools, modelConfig } from './config.js';
import { createConfiguredDeployments } from './configured-deployments.js';
import { Controller, type Timer } from './controller.js';
import { fixedEngines, replayAsGateway } from './gateway-replay.js';
import type { Logger } from './log.js';
import { ReplayTime } from './replay-time.js';
import type { Background, Listener } from './server.js';
import { fleetOfTheBeginning, SimulatedCluster } from './simulated-cluster.js';

/**
 * From a configuration to a service: this file and its parts (`compose-*.ts`) are the only ones of this room that name
 * implementations.
 */

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
    // Simulated time is made of steady time: nobody sets it.
    ...(time.replay === null ? { clockSteps: new ClockSteps(time.clock, () => performance.now()) } : {}),
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
