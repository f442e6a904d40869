import {
  leaves,
  mergePatch,
  ownedLeaves,
  same,
  scaleOf,
  valueAt,
  withoutFields,
  withValueAt,
} from './fake-api-objects.js';
import { type ApiObject, type ApiPath, apiVersionOf, fullName, type Json } from './fake-api-resources.js';

/**
 * Writes as an API server decides on them: create, replace, merge patch, server-side apply, delete, of an object, its
 * status or its scale.
 *
 * Refused as there: 409 for a resourceVersion that is not the object's and for a name that is taken, apply conflicts with
 * fields that other managers own (unless forced), 415 for other patches, 422 for what cannot be. Field managers are
 * followed for all writes through the API, and told by the server's `managersOf`, not in managedFields.
 */

/** An answer that is an error, with the `reason` of its Status. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

type Managers = ReadonlyMap<string, ReadonlySet<string>>;

export type WriteRequest = {
  readonly method: string;
  readonly path: ApiPath & { readonly name: string };
  readonly query: Readonly<Record<string, string>>;
  readonly contentType: string | null;
  readonly body: unknown;
  /** From the query, else the first word of the user agent. */
  readonly manager: string;
  readonly existing: ApiObject | null;
  readonly managers: Managers;
  /** The request names all objects, as a POST does. */
  readonly collection: boolean;
};

export type WriteOutcome =
  | {
      readonly kind: 'object';
      readonly object: Json;
      /** False: a write that changes nothing, which gets no new version. */
      readonly changed: boolean;
      readonly created: boolean;
      readonly managers: Managers;
    }
  | { readonly kind: 'delete' };

/** @throws Refusal */
export function writeOf(request: WriteRequest): WriteOutcome {
  const { method, collection } = request;
  if (collection && method === 'POST') return created(request);
  if (collection || (method === 'POST' && request.path.subresource === null)) throw notAllowed();
  if (method === 'DELETE') {
    existing(request);
    return { kind: 'delete' };
  }
  if (method === 'PUT') return replaced(request);
  if (method === 'PATCH') return patched(request);
  throw notAllowed();
}

function notAllowed(): Refusal {
  return new Refusal(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
}

function existing({ existing: found, path }: WriteRequest): ApiObject {
  if (found === null) throw new Refusal(404, 'NotFound', `${fullName(path.resource)} "${path.name}" not found`);
  return found;
}

function document({ body }: WriteRequest): Json {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    throw new Refusal(400, 'BadRequest', 'the object provided is unrecognized');
  }
  return body as Json;
}

function created(request: WriteRequest): WriteOutcome {
  const { path, managers, manager } = request;
  const { resource, namespace, name } = path;
  if (name === '') throw new Refusal(422, 'Invalid', `${resource.kind} is invalid: metadata.name: Required value`);
  if (request.existing !== null) {
    throw new Refusal(409, 'AlreadyExists', `${fullName(resource)} "${name}" already exists`);
  }
  const body = document(request);
  const object = identified(body, request, {
    ...(body.metadata as Json),
    name,
    ...(namespace === null ? {} : { namespace }),
  });
  return { kind: 'object', object, changed: true, created: true, managers: owning(managers, {}, object, manager) };
}

function identified(body: Json, { path }: WriteRequest, metadata: Json): Json {
  const { kind } = path.resource;
  const apiVersion = apiVersionOf(path.resource);
  if (body.kind !== kind || body.apiVersion !== apiVersion) {
    throw new Refusal(
      400,
      'BadRequest',
      `the API version in the data (${body.apiVersion}) does not match the expected API version (${apiVersion})`,
    );
  }
  return { ...body, metadata };
}

function replaced(request: WriteRequest): WriteOutcome {
  const before = existing(request);
  const body = document(request);
  const { resource, subresource } = request.path;
  const version = (body.metadata as Json | undefined)?.resourceVersion;
  if (version === undefined && !resource.builtIn && subresource !== 'scale') {
    throw new Refusal(422, 'Invalid', 'metadata.resourceVersion: Invalid value: 0x0: must be specified for an update');
  }
  checkVersion(request, before, body);
  if (subresource === 'scale') return scaled(request, before, body);
  const metadata = { ...(body.metadata as Json), uid: before.metadata.uid };
  return changed(request, before, identified(body, request, metadata));
}

function checkVersion({ path }: WriteRequest, before: ApiObject, body: Json): void {
  const version = (body.metadata as Json | undefined)?.resourceVersion;
  if (version === undefined || version === '' || version === before.metadata.resourceVersion) return;
  const message = `Operation cannot be fulfilled on ${fullName(path.resource)} "${path.name}": the object has been modified; please apply your changes to the latest version and try again`;
  throw new Refusal(409, 'Conflict', message);
}

function patched(request: WriteRequest): WriteOutcome {
  const { path, contentType } = request;
  if (contentType === 'application/apply-patch+yaml') return applied(request);
  const merges =
    contentType === 'application/merge-patch+json' ||
    (path.resource.builtIn && contentType === 'application/strategic-merge-patch+json');
  if (!merges)
    throw new Refusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format - ${contentType}`);
  const before = existing(request);
  const body = document(request);
  checkVersion(request, before, body);
  if (path.subresource === 'scale') {
    return scaled(request, before, mergePatch(scaleOf(before, path.resource), body) as Json);
  }
  return changed(request, before, mergePatch(before, body) as Json);
}

/** A write of an object leaves its status alone, one of its status all else. */
function changed(request: WriteRequest, before: ApiObject, wanted: Json): WriteOutcome {
  const { resource, subresource } = request.path;
  const { status, ...rest } = wanted;
  const { status: statusBefore, ...restBefore } = before;
  const withStatus = (object: Json, value: unknown) => (value === undefined ? object : { ...object, status: value });
  const object =
    subresource === 'status'
      ? withStatus(restBefore, status)
      : resource.status
        ? withStatus(rest, statusBefore)
        : wanted;
  return outcome(request, before, object);
}

function outcome(request: WriteRequest, before: ApiObject, object: Json): WriteOutcome {
  return {
    kind: 'object',
    object,
    changed: !sameContent(before, object),
    created: false,
    managers: owning(request.managers, before, object, request.manager),
  };
}

function sameContent(a: Json, b: Json): boolean {
  const sorted = (object: Json) => [...leaves(object)].sort(([x], [y]) => (x < y ? -1 : 1));
  return same(sorted(a), sorted(b));
}

function scaled(request: WriteRequest, before: ApiObject, scale: Json): WriteOutcome {
  const { resource } = request.path;
  const replicas = (scale.spec as Json | undefined)?.replicas ?? 0;
  if (!Number.isSafeInteger(replicas) || (replicas as number) < 0) {
    throw new Refusal(422, 'Invalid', `Scale is invalid: spec.replicas: Invalid value: ${replicas}`);
  }
  return outcome(request, before, withValueAt(before, resource.scale!.replicas, replicas));
}

/** Fields that a write changed belong to its manager alone. */
function owning(managers: Managers, before: Json, after: Json, manager: string): Managers {
  const next = new Map(managers);
  const had = ownedLeaves(before);
  for (const [path, value] of ownedLeaves(after)) {
    if (!had.has(path) || !same(had.get(path), value)) next.set(path, new Set([manager]));
  }
  return next;
}

/** Server-side apply: what is sent is owned, what others own is a conflict, what is sent no more goes. */
function applied(request: WriteRequest): WriteOutcome {
  const { path, query, managers, existing: before } = request;
  const manager = query.fieldManager;
  if (manager === undefined || manager === '') {
    const message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch';
    throw new Refusal(422, 'Invalid', message);
  }
  const body = document(request);
  if (path.subresource !== null && before === null) existing(request);
  if (before !== null) checkVersion(request, before, body);
  const wanted = path.subresource === 'scale' ? appliedScale(request, body) : body;
  const { resource, namespace, name } = path;
  const base: Json = before ?? {
    apiVersion: apiVersionOf(resource),
    kind: resource.kind,
    metadata: { name, ...(namespace === null ? {} : { namespace }) },
  };
  const sent = ownedLeaves(wanted);
  const others = (field: string) => [...(managers.get(field) ?? [])].filter((each) => each !== manager);
  const conflicts = [...sent].filter(
    ([field, value]) => others(field).length > 0 && !same(valueAt(base, field), value),
  );
  if (conflicts.length > 0 && query.force !== 'true') {
    const [field] = conflicts[0]!;
    const message = `Apply failed with ${conflicts.length} conflict${conflicts.length === 1 ? '' : 's'}: conflict with "${others(field)[0]}" using ${apiVersionOf(resource)}: .${field}`;
    throw new Refusal(409, 'Conflict', message);
  }
  const next = new Map(managers);
  const gone: string[] = [];
  for (const [field, owners] of managers) {
    if (!owners.has(manager) || sent.has(field)) continue;
    if (owners.size === 1) gone.push(field);
    next.set(field, new Set(others(field)));
  }
  const lost = new Set(conflicts.map(([field]) => field));
  for (const field of sent.keys()) next.set(field, new Set(lost.has(field) ? [manager] : [manager, ...others(field)]));
  const object = withoutFields(mergePatch(base, wanted) as Json, path.subresource === null ? gone : []);
  return {
    kind: 'object',
    object,
    changed: before === null || !sameContent(before, object),
    created: before === null,
    managers: next,
  };
}

function appliedScale({ path }: WriteRequest, body: Json): Json {
  const replicas = (body.spec as Json | undefined)?.replicas;
  return replicas === undefined ? {} : withValueAt({}, path.resource.scale!.replicas, replicas);
}
