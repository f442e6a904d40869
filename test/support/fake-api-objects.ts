import { type ApiObject, type ApiPath, type ApiResource, apiVersionOf, type Json } from './fake-api-resources.js';

/** What API servers do with objects: selectors, merge patches, server-side apply, the view of `scale`. */

export function valueAt(object: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, key) => (value as Record<string, unknown> | null | undefined)?.[key], object);
}

export function withValueAt(object: Json, path: string, value: unknown): Json {
  const [key, ...rest] = path.split('.') as [string, ...string[]];
  const inner = rest.length === 0 ? value : withValueAt((object[key] ?? {}) as Json, rest.join('.'), value);
  return { ...object, [key]: inner };
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch;
  const merged: Record<string, unknown> = isMap(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

function isMap(value: unknown): value is Json {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** Fields of a configuration as dotted paths with their values; a list is one field. */
export function leaves(value: unknown, path = ''): ReadonlyMap<string, unknown> {
  const found = new Map<string, unknown>();
  if (!isMap(value) || (path !== '' && Object.keys(value).length === 0)) return found.set(path, value);
  for (const [key, inner] of Object.entries(value)) {
    for (const [at, leaf] of leaves(inner, path === '' ? key : `${path}.${key}`)) found.set(at, leaf);
  }
  return found;
}

/** Paths that nobody owns: they name the object, or are the server's. */
const unowned = /^(apiVersion$|kind$|metadata\.(name|namespace|uid|resourceVersion|generation|creationTimestamp)$)/;

export function ownedLeaves(value: unknown): ReadonlyMap<string, unknown> {
  return new Map([...leaves(value)].filter(([path]) => !unowned.test(path)));
}

export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Without some fields, and without the maps that this leaves empty. */
export function withoutFields(object: Json, paths: readonly string[]): Json {
  let rest: Json = object;
  for (const path of paths) {
    const keys = path.split('.');
    for (let length = keys.length; length > 0; length--) {
      const at = keys.slice(0, length).join('.');
      const isLeaf = length === keys.length;
      const value = valueAt(rest, at);
      if (!isLeaf && !(isMap(value) && Object.keys(value).length === 0)) break;
      const parent = keys.slice(0, length - 1).join('.');
      const { [keys[length - 1]!]: _, ...others } = (parent === '' ? rest : valueAt(rest, parent)) as Json;
      rest = parent === '' ? others : withValueAt(rest, parent, others);
    }
  }
  return rest;
}

/** The object as `/scale` shows it: autoscaling/v1 Scale. */
export function scaleOf(object: ApiObject, { scale }: ApiResource): Json {
  const selector = scale!.selector === null ? undefined : valueAt(object, scale!.selector);
  const labels = isMap(selector) ? ((selector.matchLabels ?? {}) as Json) : {};
  const text =
    typeof selector === 'string' ? selector : Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: valueAt(object, scale!.replicas) ?? 0 },
    status: { replicas: valueAt(object, scale!.readyReplicas) ?? 0, selector: String(text) },
  };
}

/** Names a field that this resource cannot be selected by; null = all are known. */
export function unknownField(selector: string, { selectable }: ApiResource): string | null {
  const known = ['metadata.name', 'metadata.namespace', ...selectable];
  return fieldTerms(selector).find(({ field }) => !known.includes(field))?.field ?? null;
}

function fieldTerms(selector: string): readonly { field: string; negated: boolean; value: string }[] {
  return selector
    .split(',')
    .filter((part) => part.trim() !== '')
    .map((part) => {
      const [, field, operator, value] = /^\s*([^=!\s]+)\s*(==?|!=)\s*(.*?)\s*$/.exec(part) ?? ['', part, '=', ''];
      return { field: field!, negated: operator === '!=', value: value! };
    });
}

/** Whether an object is in the namespace of a path and fits a request's selectors. */
export function matcher(path: ApiPath, query: Readonly<Record<string, string>>): (object: ApiObject) => boolean {
  const terms = parseSelector(query.labelSelector ?? '');
  const fields = fieldTerms(query.fieldSelector ?? '');
  return (object) => {
    if (path.namespace !== null && object.metadata.namespace !== path.namespace) return false;
    const labels = object.metadata.labels ?? {};
    const fits = fields.every(({ field, negated, value }) => (fieldText(object, field) === value) !== negated);
    return fits && terms.every((term) => term(labels));
  };
}

/** As field selectors compare: what is absent is the empty text, a flag that is absent is false. */
function fieldText(object: ApiObject, field: string): string {
  return String(valueAt(object, field) ?? (field === 'spec.unschedulable' ? 'false' : ''));
}

type Term = (labels: Readonly<Record<string, string>>) => boolean;

/** `key`, `!key`, `key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, joined by commas. */
function parseSelector(selector: string): readonly Term[] {
  const parts = selector.split(/,(?![^(]*\))/).filter((part) => part.trim() !== '');
  return parts.map((part): Term => {
    const sets = /^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$/.exec(part);
    if (sets !== null) {
      const values = sets[3]!.split(',').map((value) => value.trim());
      const wanted = sets[2] === 'in';
      return (labels) => values.includes(labels[sets[1]!] ?? '\u0000') === wanted;
    }
    const [, key, operator, value] = /^\s*([^=!\s]+)\s*(==?|!=)\s*(\S*)\s*$/.exec(part) ?? [];
    if (operator === '!=') return (labels) => labels[key!] !== value;
    if (operator !== undefined) return (labels) => labels[key!] === value;
    const name = part.trim();
    return name.startsWith('!')
      ? (labels) => !Object.hasOwn(labels, name.slice(1))
      : (labels) => Object.hasOwn(labels, name);
  });
}

/** Discovery of a group and version: APIResourceList. */
export function resourceList(resources: readonly ApiResource[]): Json {
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: apiVersionOf(resources[0]!),
    resources: resources.flatMap(({ resource, kind, namespaced, status, scale }) => [
      {
        name: resource,
        singularName: kind.toLowerCase(),
        namespaced,
        kind,
        verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
      },
      ...(status
        ? [{ name: `${resource}/status`, singularName: '', namespaced, kind, verbs: ['get', 'patch', 'update'] }]
        : []),
      ...(scale === null
        ? []
        : [
            {
              name: `${resource}/scale`,
              singularName: '',
              namespaced,
              group: 'autoscaling',
              version: 'v1',
              kind: 'Scale',
              verbs: ['get', 'patch', 'update'],
            },
          ]),
    ]),
  };
}
