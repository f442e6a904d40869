import type { PlanNotice } from '../core/plan.js';
import type { ConsumerSnapshot, DeploymentNotice, ObservedDeployment, ReplicaConsumer } from '../core/ports.js';
import type { ModelPlan } from './model-plan.js';

/**
 * What scales a deployment, and whether it does what is published.
 *
 * Glossary: a *consumer* is the object that scales a deployment by what gpumix publishes; a number has *landed* when the
 * Deployment asks for it (`spec.replicas`), which is the consumer's part; that pods then start is the cluster's. With
 * `actuate: scale` gpumix itself does the consumer's part, of what nothing else scales.
 */

/** Consumers of each deployment, by its id. */
export type ConsumersOf = ReadonlyMap<string, readonly ReplicaConsumer[]>;

export function consumersByDeployment<Consumer extends ReplicaConsumer>(
  consumers: readonly Consumer[],
): ReadonlyMap<string, readonly Consumer[]> {
  const byId = new Map<string, Consumer[]>();
  for (const consumer of consumers) {
    const known = byId.get(consumer.deployment);
    if (known === undefined) byId.set(consumer.deployment, [consumer]);
    else known.push(consumer);
  }
  return byId;
}

/** Whether what is published of a deployment has landed. */
export type Landing = {
  readonly landed: boolean;
  /** How long the Deployment has asked for something that is not published [s]; 0 = it does not. */
  readonly notLandedSeconds: number;
};

/**
 * How long a number may not land before people are told [s]. An HPA waits 300 s before it scales down, KEDA as long before
 * it lets the last replica go, AIBrix averages over 180 s: all of that, and a poll, is done after twice 300 s.
 */
const patienceSeconds = 600;

/** Published numbers that are remembered while none lands: a plan changes at most every few seconds. */
const rememberedNumbers = 64;

type Following = {
  /** Unix ms: until then what runs was last published; or the start. */
  readonly sinceMs: number;
  readonly landed: boolean;
  /** What is published. */
  readonly number: number;
  /** By number of replicas, until when it was published [Unix ms]. */
  readonly published: ReadonlyMap<number, number>;
};

/**
 * Follows whether consumers do what is published, deployment by deployment.
 *
 * A consumer that follows late has landed late, not never: the age of what has not landed counts from the last moment at
 * which what runs now was published. `observe` once a cycle with a fresh view; not kept over a restart.
 */
export class LandingWatch {
  #following = new Map<string, Following>();

  /** @param seen of all deployments that a number is published for and that something should scale */
  observe(
    seen: Iterable<{ readonly id: string; readonly published: number; readonly currentReplicas: number }>,
    nowMs: number,
  ): void {
    const next = new Map<string, Following>();
    for (const { id, published, currentReplicas } of seen) {
      const before = this.#following.get(id) ?? {
        sinceMs: nowMs,
        landed: true,
        number: published,
        published: new Map(),
      };
      next.set(id, follow(before, { published, currentReplicas, nowMs }));
    }
    this.#following = next;
  }

  /** Null where nothing is published for it, or nothing should scale it. */
  of(id: string, nowMs: number): Landing | null {
    const following = this.#following.get(id);
    if (following === undefined) return null;
    const { landed, sinceMs } = following;
    return { landed, notLandedSeconds: landed ? 0 : Math.max(0, (nowMs - sinceMs) / 1000) };
  }

  /** Since when a number has not landed, once that is longer than any consumer takes [Unix ms]; null = it is not. */
  overdueSince(id: string, nowMs: number, lagSeconds: number): number | null {
    const following = this.#following.get(id);
    if (following === undefined || following.landed) return null;
    const patienceMs = Math.max(patienceSeconds, 2 * lagSeconds) * 1000;
    return nowMs - following.sinceMs > patienceMs ? following.sinceMs : null;
  }
}

function follow(
  before: Following,
  {
    published,
    currentReplicas,
    nowMs,
  }: { readonly published: number; readonly currentReplicas: number; readonly nowMs: number },
): Following {
  if (published === currentReplicas) return { sinceMs: nowMs, landed: true, number: published, published: new Map() };
  const remembered = new Map(before.published);
  // What another number replaces was published until now.
  for (const number of [before.number, published]) {
    remembered.delete(number);
    remembered.set(number, nowMs);
  }
  for (const oldest of remembered.keys()) {
    if (remembered.size <= rememberedNumbers) break;
    remembered.delete(oldest);
  }
  // A clock that was set back must not make ages of hours.
  const sinceMs = Math.min(nowMs, Math.max(before.sinceMs, remembered.get(currentReplicas) ?? 0));
  return { sinceMs, landed: false, number: published, published: remembered };
}

/**
 * The consumer whose maximum is the deployment's: where its owner says none, that of its consumers binds, so that no plan
 * counts on pods that nobody will ever start. Of several the smallest counts, since each would take the others' back.
 */
export function boundingConsumer(
  { maxReplicasIsAssumed = false }: Pick<ObservedDeployment, 'maxReplicasIsAssumed'>,
  consumers: readonly ReplicaConsumer[],
): ReplicaConsumer | null {
  return maxReplicasIsAssumed ? strictest(consumers) : null;
}

/** Null where none says a maximum. */
function strictest(consumers: readonly ReplicaConsumer[]): ReplicaConsumer | null {
  const ceiling = (consumer: ReplicaConsumer | null) => consumer?.maxReplicas ?? Number.POSITIVE_INFINITY;
  return consumers.reduce<ReplicaConsumer | null>(
    (least, each) => (ceiling(each) < ceiling(least) ? each : least),
    null,
  );
}

/** A deployment with what its consumers make of it: bounded by `boundingConsumer`, its floors too, and told about. */
export function withConsumers(
  deployment: ObservedDeployment,
  consumers: readonly ReplicaConsumer[],
): ObservedDeployment {
  if (consumers.length === 0) return deployment;
  const notices: DeploymentNotice[] = [];
  const low = strictest(consumers);
  const ceiling = low?.maxReplicas ?? null;
  const bound = boundingConsumer(deployment, consumers);
  const maxReplicas = bound?.maxReplicas ?? deployment.maxReplicas;
  if (low !== null && ceiling !== null && maxReplicas > ceiling) {
    notices.push({
      code: 'max_above_consumer',
      message: `gpumix.dev/max-replicas is ${maxReplicas}, but ${consumerName(low)} starts no more than ${ceiling}: the plan counts on replicas that never come`,
    });
  }
  const floor = Math.max(deployment.minReplicas, deployment.idleMinReplicas ?? 0);
  if (bound !== null && floor > maxReplicas) {
    notices.push({
      code: 'min_above_max',
      message: `at least ${floor} replicas are asked for, but ${consumerName(bound)} starts no more than ${maxReplicas}; using ${maxReplicas}`,
    });
  }
  for (const consumer of consumers) {
    const least = Math.min(consumer.minReplicas ?? 0, maxReplicas);
    if (least <= deployment.minReplicas) continue;
    notices.push({
      code: 'consumer_keeps_replicas',
      message: `${consumerName(consumer)} keeps at least ${least} ${least === 1 ? 'replica' : 'replicas'}, whatever is published: set its minimum to 0, or plan with it by gpumix.dev/min-replicas: "${least}"`,
    });
  }
  if (consumers.length > 1) {
    const names = consumers.slice(0, 4).map(consumerName).join(', ');
    notices.push({
      code: 'several_consumers',
      message: `${consumers.length} objects scale it, and each undoes what the others do: ${names}`,
    });
  }
  return {
    ...deployment,
    minReplicas: Math.min(deployment.minReplicas, maxReplicas),
    idleMinReplicas: deployment.idleMinReplicas === null ? null : Math.min(deployment.idleMinReplicas, maxReplicas),
    maxReplicas,
    notices: [...deployment.notices, ...notices],
  };
}

/**
 * Why demand of a model stays unserved, where that is because a consumer starts no more replicas: one for each deployment
 * that is planned at such a maximum. Its text changes only with what it tells.
 *
 * @param bounds deployments of the model whose maximum is that of a consumer, by id
 */
export function boundNotices(
  model: string,
  { unserved, deployments }: Pick<ModelPlan, 'unserved' | 'deployments'>,
  bounds: ReadonlyMap<string, ReplicaConsumer>,
): readonly PlanNotice[] {
  if (!unserved.some(({ reason }) => reason === 'max_replicas')) return [];
  return deployments.flatMap(({ id, targetReplicas }): readonly PlanNotice[] => {
    const bound = bounds.get(id);
    if (bound === undefined || targetReplicas !== bound.maxReplicas) return [];
    const replicas = targetReplicas === 1 ? 'replica' : 'replicas';
    return [
      {
        code: 'bounded_by_consumer',
        message: `${id}: ${consumerName(bound)} starts no more than ${targetReplicas} ${replicas}, so that demand of ${model} stays unserved: raise its maximum, or add a deployment`,
        model,
        deployment: id,
      },
    ];
  });
}

/** Why a published number has not landed, as far as anybody can tell. Its text changes only with what it tells. */
export function notLandedNotice(input: {
  readonly deployment: ObservedDeployment;
  readonly published: number;
  readonly sinceMs: number;
  readonly consumers: readonly ReplicaConsumer[];
  /** Null = nobody looks for consumers. */
  readonly snapshot: Pick<ConsumerSnapshot, 'problems'> | null;
  /** Why gpumix, which scales it itself, has not; null = it does not scale. */
  readonly whyNotScaled: string | null;
}): DeploymentNotice {
  const { deployment, published, sinceMs } = input;
  const asked = `it has asked for others than the published replicas since ${new Date(sinceMs).toISOString()}, now for ${deployment.currentReplicas} instead of ${published}`;
  return { code: 'not_landed', message: `${asked}: ${causeOf(input)}` };
}

function causeOf({ published, consumers, snapshot, whyNotScaled }: Parameters<typeof notLandedNotice>[0]): string {
  const paused = consumers.find(({ pausedBy }) => pausedBy !== null);
  if (paused !== undefined) return `${consumerName(paused)} is paused by ${paused.pausedBy}`;
  const low = consumers.find(({ maxReplicas }) => maxReplicas !== null && published > maxReplicas);
  if (low !== undefined) return `${consumerName(low)} starts no more than ${low.maxReplicas}`;
  const high = consumers.find(({ minReplicas }) => minReplicas !== null && published < minReplicas);
  if (high !== undefined) return `${consumerName(high)} keeps at least ${high.minReplicas}`;
  if (consumers.length > 0) return `${consumers.map(consumerName).join(', ')} does not follow`;
  if (whyNotScaled !== null) return whyNotScaled;
  if (snapshot === null) return 'what scales it does not follow, or nothing does';
  if (snapshot.problems.length > 0) return 'the objects that could scale it cannot all be read';
  return 'no HorizontalPodAutoscaler, ScaledObject or PodAutoscaler targets it';
}

/** `HorizontalPodAutoscaler prod/llama-l4` */
export function consumerName({ kind, namespace, name }: Pick<ReplicaConsumer, 'kind' | 'namespace' | 'name'>): string {
  return `${kind} ${namespace}/${name}`;
}
