import type { ScaleTarget } from '../../core/scale.js';

/**
 * Kinds of objects that serve models and have a `scale` subresource, or have one that does.
 *
 * Versions and plurals as their projects serve them: aibrix (api/orchestration/v1alpha1), lws (api/leaderworkerset/v1). An
 * InferenceService has no `scale` of its own; in KServe's mode RawDeployment (Standard) its predictor is the Deployment
 * `<name>-predictor`, which has. Served by Knative it has neither: Knative counts its own replicas.
 */
const knownKinds = {
  Deployment: { group: 'apps', version: 'v1', resource: 'deployments' },
  StatefulSet: { group: 'apps', version: 'v1', resource: 'statefulsets' },
  StormService: { group: 'orchestration.aibrix.ai', version: 'v1alpha1', resource: 'stormservices' },
  RayClusterFleet: { group: 'orchestration.aibrix.ai', version: 'v1alpha1', resource: 'rayclusterfleets' },
  LeaderWorkerSet: { group: 'leaderworkerset.x-k8s.io', version: 'v1', resource: 'leaderworkersets' },
  InferenceService: { group: 'serving.kserve.io', version: 'v1beta1', resource: 'inferenceservices' },
} as const satisfies Readonly<Record<string, Pick<ScaleTarget, 'group' | 'version' | 'resource'>>>;

export const knownKindNames = Object.keys(knownKinds) as readonly (keyof typeof knownKinds)[];

/** As a configuration names it; null = as known of the kind. */
export type NamedKind = {
  readonly kind: string;
  readonly group: string | null;
  readonly version: string | null;
  readonly resource: string | null;
};

/** Whether the kind is known, and of that group where one is named: then nothing else has to be. */
export function isKnownKind({ kind, group }: Pick<NamedKind, 'kind' | 'group'>): boolean {
  return (
    Object.hasOwn(knownKinds, kind) && (group === null || knownKinds[kind as keyof typeof knownKinds].group === group)
  );
}

/**
 * The object whose `scale` is written.
 *
 * @param named null = a Deployment. Of a kind that is not known, group, version and resource are needed.
 */
export function scaleTarget(
  named: (NamedKind & { readonly name: string | null }) | null,
  deployment: { readonly namespace: string; readonly name: string },
): ScaleTarget {
  const { namespace } = deployment;
  const name = named?.name ?? deployment.name;
  const kind = named?.kind ?? 'Deployment';
  if (kind === 'InferenceService' && isKnownKind(named!)) {
    return { ...knownKinds.Deployment, kind: 'Deployment', namespace, name: `${name}-predictor` };
  }
  const known = isKnownKind({ kind, group: named?.group ?? null }) ? knownKinds[kind as keyof typeof knownKinds] : null;
  return {
    group: named?.group ?? known?.group ?? '',
    version: named?.version ?? known?.version ?? '',
    resource: named?.resource ?? known?.resource ?? '',
    kind,
    namespace,
    name,
  };
}
