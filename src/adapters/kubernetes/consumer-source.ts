import type { SeenConsumer } from '../../core/inspection.js';
import type { ConsumerSnapshot, ConsumerSource, ReplicaConsumer } from '../../core/ports.js';
import { FollowedObjects, type FollowOptions, placesOf } from './followed-objects.js';
import type { ListWatch } from './list-watch.js';
import { mostReplicas } from './observed-deployment.js';
import { countOf, items, record, textOf } from './wire.js';

export type KubernetesConsumersOptions = FollowOptions & {
  /** Namespaces to follow; empty or absent = all (needs a ClusterRole). */
  readonly namespaces?: readonly string[];
  /** Id of the deployment that an object is; null = of none that is followed. By default each Deployment is one. */
  readonly deploymentOf?: DeploymentOf;
};

/** @param object.group of its apiVersion, without the version */
export type DeploymentOf = (object: {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}) => string | null;

/** How objects of one kind are found and read. */
export type ConsumerResource = {
  readonly kind: ReplicaConsumer['kind'];
  readonly groupVersion: string;
  readonly resource: string;
  readonly permission: string;
  /** What it says of itself; units: whole replicas. Defaults are those of its controller. */
  readonly limitsOf: (
    spec: Readonly<Record<string, unknown>>,
    annotations: Readonly<Record<string, unknown>>,
  ) => Pick<ReplicaConsumer, 'minReplicas' | 'maxReplicas' | 'pausedBy'>;
  /** Target where the reference does not say. */
  readonly target: { readonly apiVersion: string; readonly kind: string } | null;
};

export const consumerResources: readonly ConsumerResource[] = [
  {
    kind: 'HorizontalPodAutoscaler',
    groupVersion: '/apis/autoscaling/v2',
    resource: 'horizontalpodautoscalers',
    permission: 'horizontalpodautoscalers.autoscaling',
    limitsOf: (spec) => ({
      minReplicas: least(spec, 'minReplicas', 1),
      maxReplicas: most(spec, 'maxReplicas', null),
      pausedBy: null,
    }),
    target: null,
  },
  {
    kind: 'ScaledObject',
    groupVersion: '/apis/keda.sh/v1alpha1',
    resource: 'scaledobjects',
    permission: 'scaledobjects.keda.sh',
    limitsOf: (spec, annotations) => ({
      minReplicas: least(spec, 'minReplicaCount', 0),
      maxReplicas: most(spec, 'maxReplicaCount', 100),
      pausedBy: kedaPause(annotations),
    }),
    target: { apiVersion: 'apps/v1', kind: 'Deployment' },
  },
  {
    kind: 'PodAutoscaler',
    groupVersion: '/apis/autoscaling.aibrix.ai/v1alpha1',
    resource: 'podautoscalers',
    permission: 'podautoscalers.autoscaling.aibrix.ai',
    limitsOf: (spec) => ({
      minReplicas: least(spec, 'minReplicas', 1),
      maxReplicas: most(spec, 'maxReplicas', null),
      pausedBy: null,
    }),
    target: null,
  },
];

/**
 * The HorizontalPodAutoscalers, ScaledObjects of KEDA and PodAutoscalers of AIBrix that scale deployments, followed by list
 * and watch.
 *
 * Each kind is followed only where the cluster has it and allows it: one that is not there is looked for again every few
 * minutes, one that is forbidden is told as a problem, and what was known of it stays. A HorizontalPodAutoscaler that KEDA
 * or AIBrix made for an object of theirs is that object's, and not counted beside it. Only what is needed of an object is
 * kept, and only of those that scale a deployment.
 */
export class KubernetesConsumers implements ConsumerSource {
  readonly #namespaces: readonly string[] | undefined;
  readonly #deploymentOf: DeploymentOf;
  readonly #followed: FollowedObjects<ConsumerSnapshot>;
  #watches: readonly {
    /** Null = all. */
    readonly namespace: string | null;
    readonly kind: ConsumerResource['kind'];
    readonly watch: ListWatch<SeenConsumer>;
  }[] = [];

  constructor({ namespaces, deploymentOf = eachDeployment, ...options }: KubernetesConsumersOptions) {
    this.#namespaces = namespaces;
    this.#deploymentOf = deploymentOf;
    this.#followed = new FollowedObjects(options, 'consumers', () => this.#compose());
  }

  /**
   * Finds the cluster's description and begins to follow it in the background.
   *
   * @throws InputError where no usable kubeconfig or service account is found, or a namespace cannot be one
   */
  async start(): Promise<void> {
    const places = consumerResources.flatMap((kind) =>
      placesOf(kind.groupVersion, kind.resource, this.#namespaces).map((place) => ({ ...place, kind })),
    );
    await this.#followed.start((watch) => {
      this.#watches = places.map(({ kind, namespace, path }) => ({
        namespace,
        kind: kind.kind,
        watch: watch({
          path,
          listKind: `${kind.kind}List`,
          labelSelector: '',
          permission: kind.permission,
          optional: true,
          read: (object) => readConsumer(object, kind, this.#deploymentOf),
        }),
      }));
    });
  }

  snapshot(): ConsumerSnapshot {
    return this.#followed.snapshot();
  }

  onChange(listener: () => void): void {
    this.#followed.onChange(listener);
  }

  stop(): Promise<void> {
    return this.#followed.stop();
  }

  #compose(): ConsumerSnapshot {
    const watches = this.#watches.map(({ watch }) => watch);
    const isSettled = ({ synced, absent, problem }: ListWatch<SeenConsumer>) => synced || absent || problem !== null;
    return {
      settled: watches.length > 0 && watches.every(isSettled),
      problems: watches.flatMap(({ problem }) => problem ?? []),
      unread:
        watches.length === 0
          ? [{ namespace: null, reason: 'the cluster has not been found yet' }]
          : this.#watches.flatMap(({ namespace, kind, watch: { synced, absent, problem } }) =>
              (synced || absent) && problem === null
                ? []
                : [{ namespace, reason: problem ?? `${kind} objects have not been read yet` }],
            ),
      consumers: withoutMade(watches.flatMap((watch) => [...watch.items.values()])),
    };
  }
}

const eachDeployment: DeploymentOf = ({ group, kind, namespace, name }) =>
  group === 'apps' && kind === 'Deployment' ? `${namespace}/${name}` : null;

/** Null for what scales no deployment, or is being deleted. */
export function readConsumer(
  object: unknown,
  { kind, limitsOf, target }: ConsumerResource,
  deploymentOf: DeploymentOf = eachDeployment,
): SeenConsumer | null {
  const metadata = record(record(object).metadata);
  const spec = record(record(object).spec);
  const name = textOf(metadata, 'name') ?? '';
  const namespace = textOf(metadata, 'namespace') ?? 'default';
  const reference = record(spec.scaleTargetRef);
  const apiVersion = textOf(reference, 'apiVersion') || target?.apiVersion;
  const targetKind = textOf(reference, 'kind') || target?.kind;
  const targetName = textOf(reference, 'name') ?? '';
  if (name === '' || targetName === '' || (metadata.deletionTimestamp ?? null) !== null) return null;
  const deployment =
    apiVersion === undefined || targetKind === undefined
      ? null
      : deploymentOf({ group: groupOf(apiVersion), kind: targetKind, namespace, name: targetName });
  if (deployment === null) return null;
  return {
    kind,
    namespace,
    name,
    deployment,
    ...limitsOf(spec, record(metadata.annotations)),
    owner: controllerOf(metadata),
  };
}

/** `apps` of `apps/v1`; the core group of `v1` is ''. */
function groupOf(apiVersion: string): string {
  return apiVersion.slice(0, Math.max(0, apiVersion.indexOf('/')));
}

function controllerOf(metadata: Readonly<Record<string, unknown>>): SeenConsumer['owner'] {
  for (const each of items(metadata.ownerReferences)) {
    const { kind, name, controller } = record(each);
    if (controller === true && typeof kind === 'string' && typeof name === 'string') return { kind, name };
  }
  return null;
}

/** A minimum; `instead` where it is absent, null where it is no number of replicas. */
function least(spec: Readonly<Record<string, unknown>>, key: string, instead: number | null): number | null {
  if ((spec[key] ?? null) === null) return instead;
  const count = countOf(spec, key);
  return count === undefined ? null : Math.min(count, mostReplicas);
}

/** A maximum. None of these controllers takes 0 for one: where it stands all the same, it is no reason to stop what runs. */
function most(spec: Readonly<Record<string, unknown>>, key: string, instead: number | null): number | null {
  return least(spec, key, instead) || null;
}

/** KEDA stops at a number of replicas, or where they are, for an annotation. */
function kedaPause(annotations: Readonly<Record<string, unknown>>): string | null {
  const prefix = 'autoscaling.keda.sh/';
  const replicas = textOf(annotations, `${prefix}paused-replicas`);
  if (replicas !== undefined) return `${prefix}paused-replicas: ${JSON.stringify(replicas.slice(0, 20))}`;
  const paused = textOf(annotations, `${prefix}paused`);
  return paused === undefined || paused === 'false' ? null : `${prefix}paused: ${JSON.stringify(paused.slice(0, 20))}`;
}

/**
 * An autoscaler that another one made acts for it: where the maker is known, it alone counts. Where it is not (its kind is
 * forbidden), what it made stands for it with its maximum; what its minimum is nobody knows, since an HPA cannot say 0.
 */
export function withoutMade(seen: readonly SeenConsumer[]): readonly ReplicaConsumer[] {
  const keyOf = (kind: string, namespace: string, name: string) => JSON.stringify([kind, namespace, name]);
  const known = new Set(seen.map(({ kind, namespace, name }) => keyOf(kind, namespace, name)));
  return seen
    .flatMap(({ owner, ...consumer }): readonly ReplicaConsumer[] => {
      const maker = owner === null ? undefined : consumerResources.find(({ kind }) => kind === owner.kind)?.kind;
      if (owner === null || maker === undefined) return [consumer];
      if (known.has(keyOf(maker, consumer.namespace, owner.name))) return [];
      return [{ ...consumer, kind: maker, name: owner.name, minReplicas: null }];
    })
    .sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
}

function sortKey({ deployment, kind, name }: ReplicaConsumer): string {
  return `${deployment} ${kind} ${name}`;
}
