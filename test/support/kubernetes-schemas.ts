import * as client from '@kubernetes/client-node';
import type { Manifest } from './chart-renderer.js';

/**
 * What an API server would say against a manifest: values by the schemas of Kubernetes and of the projects that own the
 * kinds; misspelt keys, which those schemas let pass, by the fields that Kubernetes' own client knows.
 */

const packages: Readonly<Record<string, string>> = {
  'cert-manager.io/v1': '@kubernetes-models/cert-manager/cert-manager.io/v1',
  'monitoring.coreos.com/v1': '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
};

/** Newer than the package of schemas: checked by their fields alone. */
const fieldsOnly: Readonly<Record<string, string>> = {
  'resource.k8s.io/v1 ResourceClaim': 'ResourceV1ResourceClaim',
  'resource.k8s.io/v1 ResourceClaimTemplate': 'V1ResourceClaimTemplate',
};

type Kind = new (data: Manifest) => { validate(): void };

/** Sentences, one for each fault; none = it would be accepted. */
export async function manifestFaults(manifest: Manifest): Promise<readonly string[]> {
  const { apiVersion, kind } = manifest;
  const fields = fieldsOnly[`${apiVersion} ${kind}`];
  if (fields !== undefined) return [...unknownFields(manifest, fields, kind)];
  const name = `${packages[apiVersion] ?? `kubernetes-models/${apiVersion}`}/${kind}`;
  // By a name that is computed: the compiler would otherwise read the types of every kind there is, which takes minutes.
  const module: Readonly<Record<string, Kind>> = await import(name).catch(() => ({}));
  const type = module[kind];
  if (type === undefined) return [`${apiVersion} ${kind}: no such kind is known`];
  const faults = [...unknownFields(manifest, `V1${kind}`, kind)];
  try {
    new type(manifest).validate();
  } catch (error) {
    faults.push(`${kind} ${manifest.metadata?.name}: ${(error as Error).message}`);
  }
  return faults;
}

/** Of each manifest, with its name. */
export async function faultsOfAll(manifests: readonly Manifest[]): Promise<readonly string[]> {
  const found = await Promise.all(manifests.map(manifestFaults));
  return found.flat();
}

type Field = { readonly baseName: string; readonly type: string };

/** Kinds that are not Kubernetes' own have no such table. */
function* unknownFields(value: unknown, type: string, path: string): Generator<string> {
  const list = /^Array<(.+)>$/.exec(type)?.[1];
  if (list !== undefined && Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* unknownFields(item, list, `${path}[${i}]`);
    return;
  }
  const model = (client as unknown as Record<string, { attributeTypeMap?: readonly Field[] } | undefined>)[type];
  if (model?.attributeTypeMap === undefined || typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    const field = model.attributeTypeMap.find(({ baseName }) => baseName === key);
    if (field === undefined) yield `${path}.${key}: no such field`;
    else yield* unknownFields(inner, field.type, `${path}.${key}`);
  }
}
