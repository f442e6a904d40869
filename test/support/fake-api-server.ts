import { EventEmitter, once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import {
  answer,
  type Fault,
  OpenWatch,
  readBody,
  type SeenRequest,
  status,
  statusObject,
} from './fake-api-exchange.js';
import { matcher, resourceList, scaleOf, unknownField } from './fake-api-objects.js';
import {
  type ApiObject,
  type ApiPath,
  type ApiResource,
  apiVersionOf,
  builtInResources,
  fullName,
  type Json,
  parsePath,
} from './fake-api-resources.js';
import { Refusal, type WriteRequest, writeOf } from './fake-api-writes.js';

export type { Fault, SeenRequest } from './fake-api-exchange.js';
export { OpenWatch } from './fake-api-exchange.js';
export type { ApiObject } from './fake-api-resources.js';

/**
 * A Kubernetes API server, as far as clients that list, watch and write can tell, on loopback.
 *
 * It speaks the real protocol: discovery; resource versions, lists with label and field selectors in pages (limit,
 * continue), watches as chunked JSON lines from a version on, with bookmarks and with 410 for versions that were compacted
 * away; objects that begin or cease to match a selector arrive as ADDED and DELETED; writes (fake-api-writes.ts); reviews
 * that answer as a test says; bearer tokens; TLS; gzip for large answers. It serves what every cluster has, and custom
 * resources once `serve` was told to. On top of it, faults can be injected into any request and any open watch.
 */

export type FakeApiServerOptions = {
  readonly token?: string;
  readonly tls?: { readonly key: string; readonly certificate: string };
  /** How too old a version is reported to a watch; real servers do both. */
  readonly goneAs?: 'status' | 'event';
  /** Custom resources that are there from the beginning. */
  readonly resources?: readonly ApiResource[];
};

type HistoryEntry = {
  readonly version: number;
  readonly resource: ApiResource;
  readonly before: ApiObject | null;
  readonly after: ApiObject | null;
};

/** What a POST of something that is asked and not kept is answered with, such as a TokenReview. */
export type Reply = (body: Json, request: SeenRequest) => { readonly status?: number; readonly body: Json };

const reviews: ReadonlyMap<string, Reply> = new Map<string, Reply>([
  // Nobody is known and nothing allowed, until a test says so.
  ['tokenreviews', (body) => ({ body: { ...body, status: { authenticated: false } } })],
  ['subjectaccessreviews', (body) => ({ body: { ...body, status: { allowed: false } } })],
  ['selfsubjectaccessreviews', (body) => ({ body: { ...body, status: { allowed: false } } })],
]);

export class FakeApiServer extends EventEmitter<{ request: [SeenRequest]; watch: [OpenWatch] }> {
  /** Checked on every request; may be changed while running. */
  token: string | null;
  goneAs: 'status' | 'event';
  /** Every request so far. */
  readonly requests: SeenRequest[] = [];
  /** Watches that are open. */
  readonly watches = new Set<OpenWatch>();
  /** Asked about every request, before anything else. */
  fault: (request: SeenRequest) => Fault | undefined = () => undefined;
  /** By plural name of a resource: how a POST is answered, instead of keeping the object. */
  readonly replies = new Map(reviews);

  readonly #tls: FakeApiServerOptions['tls'];
  #server: http.Server | null = null;
  readonly #sockets = new Set<Socket>();
  #port = 0;
  #version = 100;
  #compacted = 0;
  #uids = 0;
  #served: readonly ApiResource[];
  /** By the resource's full name, then `namespace/name`. */
  readonly #objects = new Map<string, Map<string, ApiObject>>();
  /** Who wrote a field last, by resource, `namespace/name` and the field's path. */
  readonly #managers = new Map<string, Map<string, ReadonlySet<string>>>();
  readonly #history: HistoryEntry[] = [];
  readonly #pages = new Map<string, { readonly version: number; readonly rest: readonly ApiObject[] }>();
  #pageCount = 0;

  constructor(options: FakeApiServerOptions = {}) {
    super();
    this.token = options.token ?? null;
    this.goneAs = options.goneAs ?? 'event';
    this.#tls = options.tls;
    this.#served = [...builtInResources, ...(options.resources ?? [])];
  }

  /** Serves custom resources too, as after their definitions were installed. */
  serve(...resources: readonly ApiResource[]): void {
    this.#served = [...this.#served, ...resources];
  }

  /** Stops serving a resource: its objects are gone, its watches end, and its paths are not found. */
  unserve(resource: ApiResource): void {
    this.#served = this.#served.filter((each) => each !== resource);
    this.#objects.delete(fullName(resource));
    for (const watch of this.watches) if (watch.path.resource === resource) watch.close();
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `${this.#tls === undefined ? 'http' : 'https'}://127.0.0.1:${this.#port}`;
  }

  get version(): number {
    return this.#version;
  }

  async start(): Promise<void> {
    const handle = (request: http.IncomingMessage, response: http.ServerResponse) =>
      void this.#handle(request, response);
    this.#server =
      this.#tls === undefined
        ? http.createServer(handle)
        : https.createServer({ key: this.#tls.key, cert: this.#tls.certificate }, handle);
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Resolves with the next request that fits; one that came before does not count. */
  nextRequest(fits: (request: SeenRequest) => boolean): Promise<SeenRequest> {
    return new Promise((resolve) => {
      const look = (request: SeenRequest) => {
        if (!fits(request)) return;
        this.off('request', look);
        resolve(request);
      };
      this.on('request', look);
    });
  }

  /** Resolves with an open watch, of a resource if one is named by its plural, now or as soon as there is one. */
  async openWatch(resource?: string): Promise<OpenWatch> {
    const fits = ({ request }: OpenWatch) => resource === undefined || request.resource === resource;
    const open = [...this.watches].find(fits);
    if (open !== undefined) return open;
    return new Promise((resolve) => {
      const look = (watch: OpenWatch) => {
        if (!fits(watch)) return;
        this.off('watch', look);
        resolve(watch);
      };
      this.on('watch', look);
    });
  }

  /**
   * Writes an object whole as if through the API; what is there under its name is replaced.
   *
   * @throws Error where its kind is not served
   */
  put(object: Json & { readonly metadata: Json }): ApiObject {
    const resource = this.#served.find((each) => each.kind === object.kind && apiVersionOf(each) === object.apiVersion);
    if (resource === undefined) throw new Error(`nothing serves ${object.apiVersion} ${object.kind}`);
    return this.#store(resource, object);
  }

  /** @param resource its plural name */
  remove(namespace: string | null, name: string, resource = 'deployments'): boolean {
    const definition = this.#served.find((each) => each.resource === resource);
    const before = definition && this.#of(definition).get(keyOf(namespace, name));
    if (definition === undefined || before === undefined) return false;
    this.#version += 1;
    this.#of(definition).delete(keyOf(namespace, name));
    this.#managers.delete(`${fullName(definition)}:${keyOf(namespace, name)}`);
    this.#record({ version: this.#version, resource: definition, before, after: null });
    return true;
  }

  /** Everything of a resource (its plural name) that is stored now. */
  objects(resource = 'deployments'): readonly ApiObject[] {
    const definition = this.#served.find((each) => each.resource === resource);
    return definition === undefined ? [] : [...this.#of(definition).values()];
  }

  /** Field managers that own a field, such as `spec.replicas`, by name. */
  managersOf(resource: string, id: string, path: string): readonly string[] {
    const definition = this.#served.find((each) => each.resource === resource);
    const owned = definition && this.#managers.get(`${fullName(definition)}:${id}`)?.get(path);
    return [...(owned ?? [])].sort();
  }

  /** Forgets the history: any version before the present is too old for a watch, any continue token expired. */
  compact(): void {
    this.#compacted = this.#version;
    this.#history.length = 0;
    this.#pages.clear();
  }

  /** Tells every watch that asked for bookmarks how far it is. */
  bookmark(): void {
    for (const watch of this.watches) {
      if (watch.request.query.allowWatchBookmarks === 'true') {
        const { kind } = watch.path.resource;
        watch.event('BOOKMARK', {
          kind,
          apiVersion: apiVersionOf(watch.path.resource),
          metadata: { resourceVersion: String(this.#version), creationTimestamp: null },
          ...(kind === 'Deployment' ? emptyDeployment : {}),
        });
      }
    }
  }

  /** Something elsewhere in the cluster moves the version on, with no event for our watches. */
  advance(): void {
    this.#version += 1;
  }

  #of(resource: ApiResource): Map<string, ApiObject> {
    const known = this.#objects.get(fullName(resource)) ?? new Map<string, ApiObject>();
    this.#objects.set(fullName(resource), known);
    return known;
  }

  #store(resource: ApiResource, object: Json & { readonly metadata?: unknown }): ApiObject {
    const metadata = (object.metadata ?? {}) as Json;
    const key = keyOf(resource.namespaced ? String(metadata.namespace) : null, String(metadata.name));
    const before = this.#of(resource).get(key) ?? null;
    this.#version += 1;
    if (before === null) this.#uids += 1;
    const specChanged = before === null || JSON.stringify(before.spec) !== JSON.stringify(object.spec);
    const stored = {
      ...object,
      metadata: {
        creationTimestamp: '2026-11-20T09:00:00Z',
        ...metadata,
        uid: before?.metadata.uid ?? `00000000-0000-4000-8000-${String(this.#uids).padStart(12, '0')}`,
        generation: Number(before?.metadata.generation ?? 0) + (specChanged ? 1 : 0),
        resourceVersion: String(this.#version),
      },
    } as unknown as ApiObject;
    this.#of(resource).set(key, stored);
    this.#record({ version: this.#version, resource, before, after: stored });
    return stored;
  }

  #record(entry: HistoryEntry): void {
    this.#history.push(entry);
    for (const watch of this.watches) this.#deliver(watch, entry);
  }

  #deliver(watch: OpenWatch, entry: HistoryEntry): void {
    if (entry.resource !== watch.path.resource) return;
    const matches = matcher(watch.path, watch.request.query);
    const was = entry.before !== null && matches(entry.before);
    const is = entry.after !== null && matches(entry.after);
    if (is) watch.event(was ? 'MODIFIED' : 'ADDED', entry.after);
    else if (was) {
      const metadata = { ...(entry.after ?? entry.before!).metadata, resourceVersion: String(entry.version) };
      watch.event('DELETED', { ...entry.before, metadata: { ...entry.before!.metadata, ...metadata } });
    }
  }

  async #handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://fake');
    const query = Object.fromEntries(url.searchParams);
    const method = request.method ?? 'GET';
    const path = parsePath(url.pathname, this.#served);
    const watches = query.watch === '1' || query.watch === 'true';
    const reading = path === null ? 'other' : path.name !== null ? 'read' : watches ? 'watch' : 'list';
    const seen: SeenRequest = {
      method,
      path: url.pathname,
      query,
      authorization: request.headers.authorization ?? null,
      kind: method === 'GET' ? reading : 'write',
      resource: path?.resource.resource ?? null,
      contentType: request.headers['content-type'] ?? null,
      body: method === 'GET' ? null : await readBody(request),
    };
    this.requests.push(seen);
    this.emit('request', seen);
    const fault = this.fault(seen);
    if (fault !== undefined) {
      this.#fail(fault, response);
      return;
    }
    if (this.token !== null && seen.authorization !== `Bearer ${this.token}`) {
      status(response, 401, 'Unauthorized');
      return;
    }
    if (path === null) {
      this.#discover(seen, response);
      return;
    }
    try {
      if (seen.kind === 'list') this.#list(seen, path, request, response);
      else if (seen.kind === 'watch') this.#watch(seen, path, response);
      else if (seen.kind === 'read') answer(response, 200, this.#view(path, this.#existing(path)));
      else this.#write(seen, path, request.headers['user-agent'] ?? '', response);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      status(response, error.status, error.message, {}, error.reason);
    }
  }

  /** Groups and versions; anything else is not found. */
  #discover(request: SeenRequest, response: http.ServerResponse): void {
    const [, core, group, version] = /^\/(?:api\/(v[^/]+)|apis\/([^/]+)\/(v[^/]+))$/.exec(request.path) ?? [];
    const served = this.#served.filter(
      (each) => each.group === (group ?? '') && each.version === (core ?? version) && request.method === 'GET',
    );
    if (served.length > 0) answer(response, 200, resourceList(served));
    else status(response, 404, 'the server could not find the requested resource', {}, 'NotFound');
  }

  #existing({ resource, namespace, name }: ApiPath): ApiObject {
    const existing = this.#of(resource).get(keyOf(namespace, name!));
    if (existing === undefined) throw new Refusal(404, 'NotFound', `${fullName(resource)} "${name}" not found`);
    return existing;
  }

  #view(path: ApiPath, object: ApiObject): Json {
    return path.subresource === 'scale' ? scaleOf(object, path.resource) : object;
  }

  #fail(fault: Fault, response: http.ServerResponse): void {
    if (fault.kind === 'reset') response.socket?.destroy();
    if (fault.kind === 'stall') {
      response.writeHead(fault.status, { 'content-type': 'application/json' });
      response.write(fault.body ?? '{');
    }
    if (fault.kind !== 'answer') return;
    if (fault.body === undefined) {
      status(response, fault.status, 'injected', fault.headers);
      return;
    }
    response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers }).end(fault.body);
  }

  #list(request: SeenRequest, path: ApiPath, raw: http.IncomingMessage, response: http.ServerResponse): void {
    refuseUnknownField(request, path);
    let version = this.#version;
    let rest: readonly ApiObject[];
    if (request.query.continue === undefined) {
      const matches = matcher(path, request.query);
      const byKey = [...this.#of(path.resource)].sort(([a], [b]) => (a < b ? -1 : 1));
      rest = byKey.map(([, object]) => object).filter(matches);
    } else {
      const page = this.#pages.get(request.query.continue);
      if (page === undefined) {
        status(response, 410, 'The provided continue parameter is too old to display a consistent list result.');
        return;
      }
      ({ version, rest } = page);
    }
    const limit = Number(request.query.limit ?? 0) || rest.length;
    const metadata: Record<string, unknown> = { resourceVersion: String(version) };
    if (rest.length > limit) {
      this.#pageCount += 1;
      metadata.continue = `page-${this.#pageCount}`;
      this.#pages.set(`page-${this.#pageCount}`, { version, rest: rest.slice(limit) });
    }
    const body = JSON.stringify({
      kind: `${path.resource.kind}List`,
      apiVersion: apiVersionOf(path.resource),
      metadata,
      items: rest.slice(0, limit),
    });
    // As the real one: large answers are compressed for those who accept it.
    const zipped = body.length > 131_072 && /\bgzip\b/.test(raw.headers['accept-encoding'] ?? '');
    response.writeHead(200, { 'content-type': 'application/json', ...(zipped ? { 'content-encoding': 'gzip' } : {}) });
    response.end(zipped ? gzipSync(body, { level: 1 }) : body);
  }

  #watch(request: SeenRequest, path: ApiPath, response: http.ServerResponse): void {
    refuseUnknownField(request, path);
    const from = Number(request.query.resourceVersion);
    const tooOld = from < this.#compacted;
    const message = `too old resource version: ${from} (${this.#compacted})`;
    if (tooOld && this.goneAs === 'status') {
      status(response, 410, message);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const watch = new OpenWatch(request, path, response);
    if (tooOld) {
      watch.event('ERROR', statusObject(410, message));
      watch.close();
      return;
    }
    for (const entry of this.#history) if (entry.version > from) this.#deliver(watch, entry);
    this.watches.add(watch);
    const seconds = Number(request.query.timeoutSeconds ?? 1800);
    const timeout = setTimeout(() => watch.close(), seconds * 1000);
    response.on('close', () => {
      clearTimeout(timeout);
      this.watches.delete(watch);
    });
    this.emit('watch', watch);
  }

  #write(request: SeenRequest, path: ApiPath, userAgent: string, response: http.ServerResponse): void {
    const { resource, namespace } = path;
    const reply = this.replies.get(resource.resource);
    if (reply !== undefined && request.method === 'POST') {
      const { status: code = 201, body } = reply(request.body as Json, request);
      answer(response, code, body);
      return;
    }
    const name = path.name ?? nameOfNew(request, this.#uids);
    const key = `${fullName(resource)}:${keyOf(namespace, name)}`;
    const write: WriteRequest = {
      method: request.method,
      path: { ...path, name },
      query: request.query,
      contentType: request.contentType,
      body: request.body,
      manager: request.query.fieldManager ?? userAgent.split('/')[0]!,
      existing: this.#of(resource).get(keyOf(namespace, name)) ?? null,
      managers: this.#managers.get(key) ?? new Map(),
      collection: path.name === null,
    };
    const outcome = writeOf(write);
    const dry = request.query.dryRun === 'All';
    if (outcome.kind === 'delete') {
      if (!dry) this.remove(namespace, name, resource.resource);
      answer(response, 200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' });
      return;
    }
    if (!dry) this.#managers.set(key, new Map(outcome.managers));
    const stored = outcome.changed && !dry ? this.#store(resource, outcome.object) : (outcome.object as ApiObject);
    answer(response, outcome.created ? 201 : 200, this.#view(path, stored));
  }
}

const emptyDeployment = {
  spec: { selector: null, template: { metadata: { creationTimestamp: null }, spec: { containers: null } } },
  status: {},
};

function keyOf(namespace: string | null, name: string): string {
  return `${namespace ?? ''}/${name}`;
}

function nameOfNew(request: SeenRequest, count: number): string {
  const { name, generateName } = ((request.body as Json | null)?.metadata ?? {}) as Json;
  return typeof name === 'string' ? name : typeof generateName === 'string' ? `${generateName}${count}x` : '';
}

function refuseUnknownField(request: SeenRequest, { resource }: ApiPath): void {
  const unknown = unknownField(request.query.fieldSelector ?? '', resource);
  if (unknown !== null) throw new Refusal(400, 'BadRequest', `field label not supported: ${unknown}`);
}
