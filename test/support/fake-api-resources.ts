/**
 * What a fake API server serves: resources by group, version and name, as discovery and paths know them.
 */

export type Json = Readonly<Record<string, unknown>>;

export type ApiObject = Json & {
  readonly metadata: Json & {
    /** Absent on objects of the whole cluster. */
    readonly namespace: string;
    readonly name: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
};

export type ApiResource = {
  /** '' is the core group. */
  readonly group: string;
  readonly version: string;
  /** Plural, as in paths. */
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** `/status` is written on its own; writes of the object leave it alone. */
  readonly status: boolean;
  /** `/scale`: where the numbers are; null = no such subresource. */
  readonly scale: {
    readonly replicas: string;
    readonly readyReplicas: string;
    /** A text, or a LabelSelector; null = none is told. */
    readonly selector: string | null;
  } | null;
  /** Fields that a field selector may name beside metadata.name and metadata.namespace. */
  readonly selectable: readonly string[];
  /** A PUT needs no resourceVersion, and strategic merge patches work: built-in types, not custom resources. */
  readonly builtIn: boolean;
};

function builtIn(
  apiVersion: string,
  resource: string,
  kind: string,
  rest: Partial<Omit<ApiResource, 'resource' | 'kind'>> = {},
): ApiResource {
  const [group, version] = groupVersion(apiVersion);
  return {
    group,
    version,
    resource,
    kind,
    namespaced: true,
    status: false,
    scale: null,
    selectable: [],
    builtIn: true,
    ...rest,
  };
}

const cluster = { namespaced: false } as const;
const scaled = {
  status: true,
  scale: { replicas: 'spec.replicas', readyReplicas: 'status.replicas', selector: 'spec.selector' },
} as const;

/** What every cluster serves, as far as gpumix asks for it. */
export const builtInResources: readonly ApiResource[] = [
  builtIn('v1', 'namespaces', 'Namespace', { ...cluster, status: true, selectable: ['status.phase'] }),
  builtIn('v1', 'nodes', 'Node', { ...cluster, status: true, selectable: ['spec.unschedulable'] }),
  builtIn('v1', 'pods', 'Pod', {
    status: true,
    selectable: ['spec.nodeName', 'spec.schedulerName', 'spec.serviceAccountName', 'status.phase', 'status.podIP'],
  }),
  builtIn('v1', 'services', 'Service', { status: true }),
  builtIn('v1', 'configmaps', 'ConfigMap'),
  builtIn('v1', 'secrets', 'Secret', { selectable: ['type'] }),
  builtIn('v1', 'events', 'Event', {
    selectable: ['involvedObject.kind', 'involvedObject.name', 'involvedObject.namespace', 'reason', 'type'],
  }),
  builtIn('apps/v1', 'deployments', 'Deployment', scaled),
  builtIn('apps/v1', 'replicasets', 'ReplicaSet', scaled),
  builtIn('apps/v1', 'statefulsets', 'StatefulSet', scaled),
  builtIn('autoscaling/v2', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler', { status: true }),
  builtIn('coordination.k8s.io/v1', 'leases', 'Lease', { builtIn: false }),
  builtIn('apiregistration.k8s.io/v1', 'apiservices', 'APIService', { ...cluster, status: true }),
  builtIn('apiextensions.k8s.io/v1', 'customresourcedefinitions', 'CustomResourceDefinition', {
    ...cluster,
    status: true,
  }),
  builtIn('authentication.k8s.io/v1', 'tokenreviews', 'TokenReview', cluster),
  builtIn('authorization.k8s.io/v1', 'subjectaccessreviews', 'SubjectAccessReview', cluster),
  builtIn('authorization.k8s.io/v1', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview', cluster),
];

function custom(apiVersion: string, resource: string, kind: string, rest: Partial<ApiResource> = {}): ApiResource {
  return builtIn(apiVersion, resource, kind, { status: true, builtIn: false, ...rest });
}

/** Custom resources that a test can have the cluster serve; absent until then, as where nobody installed them. */
export const customResources = {
  scaledObjects: custom('keda.sh/v1alpha1', 'scaledobjects', 'ScaledObject'),
  podAutoscalers: custom('autoscaling.aibrix.ai/v1alpha1', 'podautoscalers', 'PodAutoscaler'),
  stormServices: custom('orchestration.aibrix.ai/v1alpha1', 'stormservices', 'StormService', {
    scale: { replicas: 'spec.replicas', readyReplicas: 'status.replicas', selector: 'status.scalingTargetSelector' },
  }),
  rayClusterFleets: custom('orchestration.aibrix.ai/v1alpha1', 'rayclusterfleets', 'RayClusterFleet', {
    scale: { replicas: 'spec.replicas', readyReplicas: 'status.replicas', selector: 'status.scalingTargetSelector' },
  }),
  leaderWorkerSets: custom('leaderworkerset.x-k8s.io/v1', 'leaderworkersets', 'LeaderWorkerSet', {
    scale: { replicas: 'spec.replicas', readyReplicas: 'status.replicas', selector: 'status.hpaPodSelector' },
  }),
  inferenceServices: custom('serving.kserve.io/v1beta1', 'inferenceservices', 'InferenceService'),
} as const;

export function groupVersion(apiVersion: string): readonly [group: string, version: string] {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? ['', apiVersion] : [apiVersion.slice(0, slash), apiVersion.slice(slash + 1)];
}

export function apiVersionOf({ group, version }: Pick<ApiResource, 'group' | 'version'>): string {
  return group === '' ? version : `${group}/${version}`;
}

/** `deployments.apps`, as messages and CRDs name a resource. */
export function fullName({ group, resource }: Pick<ApiResource, 'group' | 'resource'>): string {
  return group === '' ? resource : `${resource}.${group}`;
}

export const subresources = ['status', 'scale'] as const;
export type Subresource = (typeof subresources)[number];

/** What a path names: all objects of a resource (name null), one, or a part of one. */
export type ApiPath = {
  readonly resource: ApiResource;
  /** Null = all namespaces, or a resource of the whole cluster. */
  readonly namespace: string | null;
  readonly name: string | null;
  readonly subresource: Subresource | null;
};

/** Null where nothing of the kind is served. */
export function parsePath(path: string, served: readonly ApiResource[]): ApiPath | null {
  const match = /^\/(?:api\/(v[^/]+)|apis\/([^/]+)\/(v[^/]+))\/(.+)$/.exec(path);
  if (match === null) return null;
  const group = match[2] ?? '';
  const version = match[1] ?? match[3];
  const parts = match[4]!.split('/').map(decodeURIComponent);
  const find = (name: string | undefined) =>
    served.find((each) => each.group === group && each.version === version && each.resource === name);
  const inNamespace = parts[0] === 'namespaces' && parts.length > 2 && !isSubresource(parts[2]);
  const namespace = inNamespace ? parts[1]! : null;
  const [resourceName, name = null, subresource = null, ...more] = inNamespace ? parts.slice(2) : parts;
  const resource = find(resourceName);
  if (resource === undefined || more.length > 0 || (inNamespace && !resource.namespaced)) return null;
  // An object of a namespace is named by it.
  if (name !== null && resource.namespaced !== inNamespace) return null;
  if (subresource === null) return { resource, namespace, name, subresource: null };
  if (!isSubresource(subresource)) return null;
  const has = subresource === 'status' ? resource.status : resource.scale !== null;
  return has ? { resource, namespace, name, subresource } : null;
}

function isSubresource(name: string | undefined): name is Subresource {
  return (subresources as readonly (string | undefined)[]).includes(name);
}
