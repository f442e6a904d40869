import type { BucketDemand } from '../../core/planning-problem.js';
import { bestEffortWork, bucketWork, compileWork } from '../../core/work.js';
import type { Decision, DeploymentView, FleetDeployment, FleetView, Policy } from '../backtest/backtest.js';
import { HorizontalPodAutoscaler, hpaDefaults, hpaSyncSeconds } from './hpa.js';

/**
 * What most users run: one GPU type and a HorizontalPodAutoscaler on it, by requests in flight or by what the GPU
 * reports as utilisation. See hpa.ts for its rules.
 */
export type HpaPolicyOptions = {
  /** Of which `on` is scaled, and the others are not used. */
  readonly deployments: readonly FleetDeployment[];
  /** Id of the deployment that is scaled. */
  readonly on: string;
  readonly target: number;
  /** The metric, summed over the ready pods. */
  readonly sumOf: (seen: DeploymentView, view: FleetView) => number;
};

/** Requests in flight: in a batch, waiting in a replica's queue, and at the gateway; mean over the last look. */
export function requestsInFlight(seen: DeploymentView, view: FleetView): number {
  return seen.meanInFlight + view.queuedRequests;
}

/** Utilisation in percent, as nvidia-smi and DCGM say it: the share of the time in which anything is computed. */
export function utilisationPercent(seen: DeploymentView): number {
  return 100 * seen.busyShare * seen.ready;
}

export function hpaPolicy({ deployments, on, target, sumOf }: HpaPolicyOptions): Policy {
  const scaled = deployments.find(({ id }) => id === on);
  if (scaled === undefined) {
    throw new RangeError(`${on} is none of the deployments: ${deployments.map(({ id }) => id).join(', ')}`);
  }
  const autoscaler = new HorizontalPodAutoscaler({
    ...hpaDefaults,
    target,
    minReplicas: Math.max(hpaDefaults.minReplicas, scaled.minReplicas),
    maxReplicas: scaled.maxReplicas,
  });
  let looked = false;
  return {
    periodSeconds: hpaSyncSeconds,
    lagSeconds: 0,
    decide(view: FleetView): Decision {
      const seen = view.deployments.find(({ id }) => id === on)!;
      // Nothing was measured before the first look; a deployment at zero is one that its user has yet to start.
      const replicas =
        !looked || seen.wanted === 0
          ? Math.max(seen.wanted, hpaDefaults.minReplicas, scaled.minReplicas)
          : autoscaler.look(view.nowMs, {
              current: seen.wanted,
              pods: seen.ready,
              sum: sumOf(seen, view),
              startingPods: seen.starting,
            });
      looked = true;
      // What ran before on other types goes once this one serves.
      const others = seen.ready > 0 ? deployments.filter(({ id }) => id !== on) : [];
      return {
        replicas: new Map([[on, replicas], ...others.map(({ id }) => [id, 0] as const)]),
        routing: null,
        forecastRps: null,
      };
    },
  };
}

/**
 * The deployment that serves a mix for the least money by its profile, alone: what a user would choose who knows the mix.
 *
 * A bucket that a type cannot serve within the SLO counts with the work of the nearest one that it can. The type that
 * leaves the least of the demand beyond its context comes first, whatever its price.
 *
 * @throws RangeError without deployments
 */
export function cheapestAlone(
  deployments: readonly FleetDeployment[],
  demand: readonly BucketDemand[],
): FleetDeployment {
  const [first, ...rest] = deployments;
  if (first === undefined) throw new RangeError('no deployments to choose from');
  let cheapest = { deployment: first, ...aloneOn(first, demand) };
  for (const deployment of rest) {
    const { beyondRps, usd } = aloneOn(deployment, demand);
    if (beyondRps > cheapest.beyondRps || (beyondRps === cheapest.beyondRps && usd >= cheapest.usd)) continue;
    cheapest = { deployment, beyondRps, usd };
  }
  return cheapest.deployment;
}

function aloneOn({ profile, engine, usdPerReplicaHour }: FleetDeployment, demand: readonly BucketDemand[]) {
  const table = compileWork(profile, engine.limits.maxTokens);
  let beyondRps = 0;
  let replicas = 0;
  for (const { inputTokens, outputTokens, rps } of demand) {
    const within = bucketWork(table, inputTokens, outputTokens);
    const work = within.servable ? within.work : bestEffortWork(table, inputTokens, outputTokens);
    if (work < Infinity) replicas += rps * work;
    else beyondRps += rps;
  }
  return { beyondRps, usd: replicas * usdPerReplicaHour };
}
