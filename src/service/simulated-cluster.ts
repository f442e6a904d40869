import type { DeploymentSnapshot, DeploymentSource } from '../core/ports.js';
import type { GatewayTrace } from '../demand/gateway-trace.js';
import type { BacktestRequest } from '../simulation/backtest/backtest.js';
import { latenciesOf } from '../simulation/backtest/fleet.js';
import { FleetGateway } from '../simulation/backtest/fleet-gateway.js';
import { meanDemand, traceFacts } from '../simulation/backtest/trace-facts.js';
import { windowOf } from '../simulation/backtest/trace-load.js';
import { type ConstantFleet, cheapestFleet } from '../simulation/policies/constant-fleets.js';
import type { BacktestFleet } from './backtest/backtest-fleet.js';
import type { Config, SloConfig } from './config.js';
import type { ReplayEngines } from './gateway-replay.js';
import { RecentOutcomes } from './recent-outcomes.js';
import type { ControllerView, SimulatedServiceView } from './view.js';

/**
 * A cluster that runs in the process: replicas of the deployments of one model, on the virtual clock of a replay, which
 * serve its requests. It follows the published numbers as an autoscaler would, shows what runs and what is ready as an
 * API server would, and its gateway follows the published routing. Requests take as long as the engines of the catalogue
 * need for them at the load that there is.
 */
export type SimulatedClusterOptions = {
  readonly fleet: BacktestFleet;
  /** What runs at the start, ready. */
  readonly beginning: Beginning;
  readonly startMs: number;
  readonly simulation: Config['simulation'];
  /** From a published number until an autoscaler has acted on it [s]. */
  readonly lagSeconds: number;
  /** Objective of the model; null = it has none. */
  readonly slo: SloConfig | null;
};

/** The replicas of a demonstration need no other chance than another run of it. */
const seed = 1;

/** What is spent and how long replicas are ready is the plan's to tell: nobody asks the fleet. */
const noTally = { bill() {}, ready() {}, countStart() {}, countStop() {}, countFailure() {} };

/** Replicas by deployment id, and the shares of the requests that each takes until the first are published. */
export type Beginning = Pick<ConstantFleet, 'replicas' | 'shares'>;

/** What runs at the start is what the first requests of so many seconds need ... */
const beginningSeconds = 600;
/** ... with this much to spare, as a forecast would have it. */
const beginningFactor = 1.25;

/**
 * The cheapest replicas that serve the first minutes of a log, and something to spare: a service that is looked at for the
 * first time has not just been switched on.
 */
export async function fleetOfTheBeginning(
  fleet: BacktestFleet,
  requests: AsyncIterable<BacktestRequest>,
): Promise<Beginning> {
  const facts = await traceFacts(windowOf(requests, { fromSeconds: 0, durationSeconds: beginningSeconds, startMs: 0 }));
  return cheapestFleet({
    deployments: fleet.members.map(({ deployment }) => deployment),
    meanDemand: meanDemand(facts, 1),
    rateFactor: beginningFactor,
  });
}

export class SimulatedCluster implements DeploymentSource {
  readonly #options: SimulatedClusterOptions;
  readonly #gateway: FleetGateway;
  readonly #outcomes: RecentOutcomes;
  readonly #listeners: (() => void)[] = [];
  /** Where the ends of requests are written; null until a replay begins. */
  #trace: GatewayTrace | null = null;

  constructor(options: SimulatedClusterOptions) {
    const { fleet, simulation, startMs, beginning, slo } = options;
    this.#options = options;
    this.#outcomes = new RecentOutcomes(slo);
    const outcomes = this.#outcomes;
    this.#gateway = new FleetGateway(
      {
        deployments: fleet.members.map(({ deployment }) => deployment),
        router: 'shares',
        seed,
        startMs,
        initialReplicas: beginning.replicas,
        queueTimeoutSeconds: simulation.queueTimeoutSeconds,
        drainSeconds: simulation.drainSeconds,
        meanHoursBetweenFailures: simulation.meanHoursBetweenFailures,
      },
      noTally,
      {
        answered: (flight, endMs) => {
          const { inputTokens, outputTokens } = flight;
          outcomes.answered({ inputTokens, outputTokens, ...latenciesOf(flight, endMs) }, endMs);
          this.#trace?.complete({ atMs: endMs, inputTokens, outputTokens });
        },
        failed: (_, endMs) => {
          outcomes.missed('failed', endMs);
          this.#trace?.fail(endMs);
        },
        unserved: (_, endMs) => {
          outcomes.missed('unserved', endMs);
          this.#trace?.fail(endMs);
        },
      },
    );
    this.#gateway.setRouting({ shares: beginning.shares, fullInFlight: new Map() });
  }

  /** Its replicas serve a replay, whose records tell of it. */
  serve(trace: GatewayTrace): ReplayEngines {
    this.#trace = trace;
    return {
      arrive: ({ inputTokens, outputTokens }, atMs) => {
        this.advance(atMs);
        trace.arrive(atMs);
        this.#gateway.arrive({ inputTokens, outputTokens });
      },
      advance: (untilMs) => this.advance(untilMs),
    };
  }

  /** Lets everything happen until then, included; a moment that is over already changes nothing. */
  advance(untilMs: number): void {
    if (untilMs <= this.#gateway.nowMs) return;
    const changes = this.#gateway.nextEventMs <= untilMs;
    this.#gateway.advanceTo(untilMs);
    if (changes) this.#tell();
  }

  /** Does what is published now: the gateway at once, the replicas after the autoscaler's lag. Unknown numbers change nothing. */
  follow(view: Pick<ControllerView, 'replicasOf' | 'routingOf'>): void {
    const { fleet, lagSeconds } = this.#options;
    const replicas = new Map<string, number>();
    for (const { configured, deployment } of fleet.members) {
      const published = view.replicasOf(configured.namespace, configured.name);
      if (published.kind === 'known') replicas.set(deployment.id, published.replicas);
    }
    const routing = view.routingOf(fleet.model);
    if (routing.shares.length > 0) this.#gateway.setRouting(routing);
    this.#gateway.want(replicas, lagSeconds);
    this.#tell();
  }

  /** What users of the model feel; null for another model. */
  serviceOf(model: string): SimulatedServiceView | null {
    return model === this.#options.fleet.model ? this.#outcomes.view(this.#gateway.nowMs) : null;
  }

  async start(): Promise<void> {}

  snapshot(): DeploymentSnapshot {
    const seen = new Map(this.#gateway.view().map((view) => [view.id, view]));
    return {
      synced: true,
      staleSince: null,
      problem: null,
      deployments: this.#options.fleet.members.map(({ configured, deployment }) => {
        const { wanted, ready, starting } = seen.get(deployment.id)!;
        return {
          ...configured,
          id: deployment.id,
          gpuType: deployment.gpuType,
          currentReplicas: wanted,
          readyReplicas: ready,
          pendingReplicas: starting,
          notices: [],
        };
      }),
    };
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async stop(): Promise<void> {}

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
