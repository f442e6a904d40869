import { EventEmitter, once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

/**
 * A Kubernetes API server for Deployments, as far as clients that list, watch and write can tell, on loopback.
 *
 * It speaks the real protocol: resource versions, lists with label selectors in pages (limit, continue), watches as
 * chunked JSON lines from a version on, with bookmarks and with 410 for versions that were compacted away; objects that
 * begin or cease to match a selector arrive as ADDED and DELETED; merge patches, the status subresource; bearer tokens;
 * TLS; gzip for large answers. On top of it, faults can be injected into any request and any open watch.
 */

type Json = Readonly<Record<string, unknown>>;

export type ApiObject = Json & {
  readonly metadata: Json & {
    readonly namespace: string;
    readonly name: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
};

/** A request as it arrived. */
export type SeenRequest = {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly authorization: string | null;
  readonly kind: 'list' | 'watch' | 'write' | 'other';
};

/** What happens to a request instead of its answer. */
export type Fault =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: string;
      readonly headers?: http.OutgoingHttpHeaders;
    }
  /** Status and headers, then nothing more. */
  | { readonly kind: 'stall'; readonly status: number; readonly body?: string }
  /** The connection stays open, nothing comes. */
  | { readonly kind: 'hang' }
  | { readonly kind: 'reset' };

export type FakeApiServerOptions = {
  readonly token?: string;
  readonly tls?: { readonly key: string; readonly certificate: string };
  /** How too old a version is reported to a watch; real servers do both. */
  readonly goneAs?: 'status' | 'event';
};

type HistoryEntry = {
  readonly version: number;
  readonly before: ApiObject | null;
  readonly after: ApiObject | null;
};

/** An open watch, with what can go wrong with one. */
export class OpenWatch {
  readonly request: SeenRequest;
  readonly response: http.ServerResponse;

  constructor(request: SeenRequest, response: http.ServerResponse) {
    this.request = request;
    this.response = response;
  }

  /** Raw bytes into the stream. */
  send(text: string): void {
    if (!this.response.writableEnded) this.response.write(text);
  }

  event(type: string, object: unknown): void {
    this.send(`${JSON.stringify({ type, object })}\n`);
  }

  /** Ends as servers do when timeoutSeconds are over. */
  close(): void {
    this.response.end();
  }

  /** Breaks the connection; bytes sent before arrive. */
  reset(): void {
    this.response.socket?.destroy();
  }
}

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

  readonly #tls: FakeApiServerOptions['tls'];
  #server: http.Server | null = null;
  readonly #sockets = new Set<Socket>();
  #port = 0;
  #version = 100;
  #compacted = 0;
  readonly #objects = new Map<string, ApiObject>();
  readonly #history: HistoryEntry[] = [];
  readonly #pages = new Map<string, { readonly version: number; readonly rest: readonly ApiObject[] }>();
  #pageCount = 0;

  constructor(options: FakeApiServerOptions = {}) {
    super();
    this.token = options.token ?? null;
    this.goneAs = options.goneAs ?? 'event';
    this.#tls = options.tls;
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

  /** Resolves with an open watch, now or as soon as there is one. */
  async openWatch(): Promise<OpenWatch> {
    const [open] = this.watches;
    if (open !== undefined) return open;
    const [watch] = await once(this, 'watch');
    return watch as OpenWatch;
  }

  /** Writes an object as if through the API; what is there under its name is replaced. */
  put(object: Json & { readonly metadata: Json }): ApiObject {
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    this.#version += 1;
    const stored = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(this.#version) },
    } as unknown as ApiObject;
    this.#record({ version: this.#version, before: this.#objects.get(key) ?? null, after: stored });
    this.#objects.set(key, stored);
    return stored;
  }

  remove(namespace: string, name: string): boolean {
    const before = this.#objects.get(`${namespace}/${name}`);
    if (before === undefined) return false;
    this.#version += 1;
    this.#objects.delete(`${namespace}/${name}`);
    this.#record({ version: this.#version, before, after: null });
    return true;
  }

  /** Everything stored now. */
  objects(): readonly ApiObject[] {
    return [...this.#objects.values()];
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
        watch.event('BOOKMARK', {
          kind: 'Deployment',
          apiVersion: 'apps/v1',
          metadata: { resourceVersion: String(this.#version), creationTimestamp: null },
          spec: { selector: null, template: { metadata: { creationTimestamp: null }, spec: { containers: null } } },
          status: {},
        });
      }
    }
  }

  /** Something elsewhere in the cluster moves the version on, with no event for our watches. */
  advance(): void {
    this.#version += 1;
  }

  #record(entry: HistoryEntry): void {
    this.#history.push(entry);
    for (const watch of this.watches) this.#deliver(watch, entry);
  }

  #deliver(watch: OpenWatch, entry: HistoryEntry): void {
    const matches = matcher(watch.request);
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
    const isCollection = /^\/apis\/apps\/v1\/(namespaces\/[^/]+\/)?deployments$/.test(url.pathname);
    const watches = query.watch === '1' || query.watch === 'true';
    const seen: SeenRequest = {
      method,
      path: url.pathname,
      query,
      authorization: request.headers.authorization ?? null,
      kind: method !== 'GET' ? 'write' : !isCollection ? 'other' : watches ? 'watch' : 'list',
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
    if (seen.kind === 'list') {
      this.#list(seen, request, response);
      return;
    }
    if (seen.kind === 'watch') {
      this.#watch(seen, response);
      return;
    }
    if (seen.kind === 'write') {
      this.#write(seen, await readBody(request), response);
      return;
    }
    status(response, 404, 'the server could not find the requested resource');
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

  #list(request: SeenRequest, raw: http.IncomingMessage, response: http.ServerResponse): void {
    let version = this.#version;
    let rest: readonly ApiObject[];
    if (request.query.continue === undefined) {
      const matches = matcher(request);
      rest = [...this.#objects.values()].filter(matches).sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
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
      kind: 'DeploymentList',
      apiVersion: 'apps/v1',
      metadata,
      items: rest.slice(0, limit),
    });
    // As the real one: large answers are compressed for those who accept it.
    const zipped = body.length > 131_072 && /\bgzip\b/.test(raw.headers['accept-encoding'] ?? '');
    response.writeHead(200, { 'content-type': 'application/json', ...(zipped ? { 'content-encoding': 'gzip' } : {}) });
    response.end(zipped ? gzipSync(body, { level: 1 }) : body);
  }

  #watch(request: SeenRequest, response: http.ServerResponse): void {
    const from = Number(request.query.resourceVersion);
    const tooOld = from < this.#compacted;
    const message = `too old resource version: ${from} (${this.#compacted})`;
    if (tooOld && this.goneAs === 'status') {
      status(response, 410, message);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const watch = new OpenWatch(request, response);
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

  #write(request: SeenRequest, body: Json, response: http.ServerResponse): void {
    if (/^\/api\/v1\/namespaces$/.test(request.path) && request.method === 'POST') {
      response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      return;
    }
    const match = /^\/apis\/apps\/v1\/namespaces\/([^/]+)\/deployments(?:\/([^/]+?)(\/status)?)?$/.exec(request.path);
    if (match === null) {
      status(response, 404, 'the server could not find the requested resource');
      return;
    }
    const [, namespace, name] = match;
    const answer = (object: unknown, code = 200) =>
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(object));
    if (request.method === 'POST') {
      const metadata = { ...(body.metadata as Json), namespace };
      answer(this.put({ ...body, metadata }), 201);
      return;
    }
    const existing = this.#objects.get(`${namespace}/${name}`);
    if (existing === undefined) {
      status(response, 404, `deployments.apps "${name}" not found`);
      return;
    }
    if (request.method === 'DELETE') {
      this.remove(namespace!, name!);
      answer(statusObject(200, ''));
      return;
    }
    if (request.method === 'PATCH') {
      answer(this.put(mergePatch(existing, body) as Json & { readonly metadata: Json }));
      return;
    }
    status(response, 405, 'method not allowed');
  }
}

function keyOf(object: ApiObject): string {
  return `${object.metadata.namespace}/${object.metadata.name}`;
}

function statusObject(code: number, message: string): Json {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason: 'Injected', code };
}

function status(
  response: http.ServerResponse,
  code: number,
  message: string,
  headers: http.OutgoingHttpHeaders = {},
): void {
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(statusObject(code, message)));
}

async function readBody(request: http.IncomingMessage): Promise<Json> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  return text === '' ? {} : (JSON.parse(text) as Json);
}

/** RFC 7386. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const merged: Record<string, unknown> =
    target !== null && typeof target === 'object' && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

/** Whether an object is in the request's namespace and fits its label selector. */
function matcher(request: SeenRequest): (object: ApiObject) => boolean {
  const namespace = /\/namespaces\/([^/]+)\//.exec(request.path)?.[1];
  const terms = parseSelector(request.query.labelSelector ?? '');
  return (object) => {
    if (namespace !== undefined && object.metadata.namespace !== namespace) return false;
    const labels = object.metadata.labels ?? {};
    return terms.every((term) => term(labels));
  };
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
