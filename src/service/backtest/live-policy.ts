import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { ModelCatalogue } from '../../core/model-types.js';
import type { DeploymentSnapshot, DeploymentSource, ProfileSource, SharedStore } from '../../core/ports.js';
import { formatTraceRecord } from '../../demand/trace-record.js';
import { plan } from '../../optimizer/plan.js';
import type { Decision, DeploymentView, FleetView, Policy } from '../../simulation/backtest/backtest.js';
import type { Config } from '../config.js';
import type { Logger } from '../log.js';
import { PlanningCycle } from '../planning-cycle.js';
import type { BacktestFleet, FleetMember } from './backtest-fleet.js';

/**
 * gpumix itself as a policy: the planning cycle that runs live, on the simulated clock. It reads what the gateway wrote
 * into its store, sees deployments as a cluster would show them, and its published numbers are the decision. There is no
 * second model of its rules.
 */
export type LivePolicyOptions = {
  /** Of the service; demand, deployments and profiles come from the simulation instead of what it names. */
  readonly config: Config;
  readonly fleet: BacktestFleet;
  readonly gpus: GpuCatalogue;
  readonly models: ModelCatalogue;
  readonly startMs: number;
  /** Time between two plans [s]. */
  readonly cadenceSeconds: number;
  /** From a published number until an autoscaler has acted on it [s]. */
  readonly lagSeconds: number;
  /** A store of its own on that clock. */
  readonly createStore: (clock: { now(): number }) => SharedStore;
  /** Rates before the simulated span, as a service that ran then would know them; oldest first. */
  readonly history: readonly { readonly endSeconds: number; readonly rps: number }[];
};

/**
 * Nodes after which a search ends with the best plan found: a limit in time would make two runs differ. Plans of one
 * model need tens.
 */
const nodeLimit = 20_000;

/** The cycle's warnings are about configurations; a person reads them from the service, not once a simulated minute. */
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} };

/** One run of gpumix; what it learns stays in it. */
export function createLivePolicy(options: LivePolicyOptions): Policy {
  const { fleet, gpus, models, cadenceSeconds, lagSeconds, history } = options;
  let nowMs = options.startMs;
  const clock = { now: () => nowMs };
  const store = options.createStore(clock);
  let snapshot: DeploymentSnapshot = { synced: false, staleSince: null, problem: null, deployments: [] };
  const deployments: DeploymentSource = {
    async start() {},
    snapshot: () => snapshot,
    onChange() {},
    async stop() {},
  };
  let names = 0;
  const cycle = new PlanningCycle({
    config: simulatedConfig(options.config),
    clock,
    steadyMs: () => 0,
    store,
    profiles: profilesOf(fleet),
    deployments,
    planner: { plan: async (problem) => plan(problem) },
    catalogue: gpus,
    modelCatalogue: models,
    logger: silent,
    newId: () => `backtest-${names++}`,
    comparesSingleTypes: false,
    cadenceSeconds,
    knownMinutes: new Map([[fleet.model, history]]),
  });
  return {
    periodSeconds: cadenceSeconds,
    lagSeconds,
    async decide(view: FleetView): Promise<Decision> {
      nowMs = view.nowMs;
      await store.writeTraces(
        view.intervals.map(({ endSeconds, record }) => ({
          model: fleet.model,
          endSeconds,
          text: formatTraceRecord(record),
        })),
      );
      snapshot = { synced: true, staleSince: null, problem: null, deployments: fleet.members.map(observedIn(view)) };
      const { errors } = await cycle.run();
      const fault = errors.find(({ code }) => code === 'internal');
      // Live, the numbers are held and the log says why; here a policy that does nothing would be taken for gpumix.
      if (fault !== undefined)
        throw new Error(`gpumix failed in its phase ${fault.input} at ${new Date(nowMs).toISOString()}`);
      const replicas = new Map<string, number>();
      for (const [id, entry] of cycle.published) if (entry.replicas !== null) replicas.set(id, entry.replicas);
      const state = cycle.models.get(fleet.model);
      return {
        replicas,
        routing: state === undefined ? null : { shares: state.routing, fullInFlight: state.fullInFlight },
        forecastRps: state?.demand?.forecastRps ?? null,
      };
    },
  };
}

/** The configuration with its outside world replaced: what the simulation tells, and nothing that needs a network. */
function simulatedConfig(config: Config): Config {
  return {
    ...config,
    redis: null,
    prometheus: null,
    engines: { ...config.engines, scrape: [] },
    demand: { ...config.demand, source: 'redis', intervalSeconds: 10, replay: null },
    // As a cluster would: what runs is seen, and not taken from what was published.
    deployments: { source: 'kubernetes', namespaces: [], followConsumers: false, list: [] },
    profiles: { ...config.profiles, correction: { ...config.profiles.correction, enabled: false } },
    publish: { ...config.publish, mode: 'live' },
    options: { ...config.options, nodeLimit: config.options.nodeLimit ?? nodeLimit },
    log: { ...config.log, level: 'silent' },
  };
}

function profilesOf({ members }: BacktestFleet): ProfileSource {
  const byId = new Map(
    members.map(({ deployment, profile }) => [deployment.id, { kind: 'present', profile } as const]),
  );
  return { read: async (keys) => keys.map(({ id }) => byId.get(id) ?? { kind: 'absent' }) };
}

/** A deployment as the API server would show it. */
function observedIn(view: FleetView) {
  const byId = new Map(view.deployments.map((each) => [each.id, each]));
  return ({ configured, deployment }: FleetMember) => {
    const seen: DeploymentView | undefined = byId.get(deployment.id);
    return {
      id: deployment.id,
      namespace: configured.namespace,
      name: configured.name,
      model: configured.model,
      gpuType: deployment.gpuType,
      gpusPerReplica: deployment.gpusPerReplica,
      usdPerReplicaHour: deployment.usdPerReplicaHour,
      minReplicas: configured.minReplicas,
      idleMinReplicas: configured.idleMinReplicas,
      maxReplicas: configured.maxReplicas,
      currentReplicas: seen?.wanted ?? 0,
      readyReplicas: seen?.ready ?? 0,
      pendingReplicas: seen?.starting ?? 0,
      // What nobody configured is learnt, as live: the truth of the simulation is not told.
      startupSeconds: configured.startupSeconds,
      maxTokens: configured.maxTokens,
      paused: configured.paused,
      notices: [],
    };
  };
}
