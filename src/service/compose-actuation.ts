import { type DeploymentOf, KubernetesConsumers } from '../adapters/kubernetes/consumer-source.js';
import { KubernetesScaleClient } from '../adapters/kubernetes/scale-client.js';
import { scaleTarget } from '../adapters/kubernetes/scale-kinds.js';
import type { Clock, ConsumerSource, DeploymentSource, ObservedDeployment } from '../core/ports.js';
import type { ScaleClient, ScaleTarget } from '../core/scale.js';
import { Actuator } from './actuation/actuator.js';
import { otherScalers } from './actuation/other-scalers.js';
import { longestPlanAgeMs } from './actuation/scale-decision.js';
import { ScaledDeployments } from './actuation/scaled-deployments.js';
import type { Config } from './config.js';
import type { Timer } from './controller.js';
import type { Logger } from './log.js';

/** The part of compose.ts that makes what scales: gpumix itself, and what is known of others. */

type ScalingTime = { readonly clock: Clock; readonly timer: Timer };

export type Scaling = {
  readonly client: ScaleClient;
  readonly actuator: Actuator;
  readonly targetOf: (deployment: ObservedDeployment) => ScaleTarget;
};

/** Null where autoscalers do what is published. */
export function createScaling(
  config: Config,
  {
    time,
    consumers,
    logger,
  }: { readonly time: ScalingTime; readonly consumers: ConsumerSource | null; readonly logger: Logger },
): Scaling | null {
  const { actuate, publish, demand } = config;
  // The configuration has seen to it that consumers are followed.
  if (actuate === 'none' || consumers === null) return null;
  const client = new KubernetesScaleClient();
  const actuator = new Actuator({
    mode: actuate,
    client,
    otherScalers: otherScalers(consumers),
    limits: {
      longestAgeMs: longestPlanAgeMs(demand.intervalSeconds),
      maxStepsDownPerMinute: publish.maxStepsDownPerMinute,
      maxStepsUpPerMinute: publish.maxStepsUpPerMinute,
    },
    clock: time.clock,
    steadyMs: () => performance.now(),
    timer: time.timer,
    random: Math.random,
    logger,
  });
  return { client, actuator, targetOf: targetOf(config) };
}

/** Listed deployments whose replicas are those of the cluster. */
export function scaledDeployments(
  { demand }: Config,
  {
    listed,
    scaling,
    time,
    logger,
  }: {
    readonly listed: readonly ObservedDeployment[];
    readonly scaling: Scaling;
    readonly time: ScalingTime;
    readonly logger: Logger;
  },
): DeploymentSource {
  const { clock, timer } = time;
  return new ScaledDeployments({
    ...scaling,
    listed,
    clock,
    timer,
    intervalMs: demand.intervalSeconds * 1000,
    log: logger,
  });
}

/** The object that a deployment is. */
export function targetOf({
  deployments,
}: Config): (deployment: { readonly id: string; readonly namespace: string; readonly name: string }) => ScaleTarget {
  const listed = new Map(deployments.list.map((each) => [`${each.namespace}/${each.name}`, each.target]));
  return (deployment) => scaleTarget(listed.get(deployment.id) ?? null, deployment);
}

/**
 * Where gpumix scales, an autoscaler of a kind that was just installed must not be fought for five minutes, as kinds that
 * the cluster does not have are otherwise looked for. [ms]
 */
const absentScalersMs = 30_000;

/** Null where nobody but the configuration says what is scaled, or nobody should look. */
export function createConsumers(
  config: Config,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): ConsumerSource | null {
  const { source, list, namespaces, followConsumers } = config.deployments;
  const isActuating = config.actuate !== 'none';
  if (!followConsumers || (source !== 'kubernetes' && !isActuating)) return null;
  const options = {
    clock,
    log: logger,
    ...(isActuating ? { timing: { absentMs: absentScalersMs } } : {}),
  };
  if (source === 'kubernetes') return new KubernetesConsumers({ ...options, namespaces });
  const listedIn = list.map(({ namespace }) => namespace);
  return new KubernetesConsumers({ ...options, namespaces: listedIn, deploymentOf: listedDeployments(config) });
}

/** Which entry of the list an object is. */
export function listedDeployments(config: Config): DeploymentOf {
  const keyOf = ({ group, kind, namespace, name }: Parameters<DeploymentOf>[0]) =>
    [group, kind, namespace, name].join('/');
  const toTarget = targetOf(config);
  const ids = new Map(
    config.deployments.list.map(({ namespace, name }) => {
      const id = `${namespace}/${name}`;
      return [keyOf(toTarget({ id, namespace, name })), id];
    }),
  );
  return (object) => ids.get(keyOf(object)) ?? null;
}
