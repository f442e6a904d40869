import http from 'node:http';
import https from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { KubeConfig } from '@kubernetes/client-node';
import { InputError, quoteInput } from '../../core/input-error.js';
import { nearestName } from '../../core/parse.js';
import { record, textOf } from './wire.js';

/**
 * Requests to a Kubernetes API server: credentials from @kubernetes/client-node, transport from node:http(s).
 *
 * client-node knows every way to authenticate (service account, kubeconfig with certificates, tokens, exec plug-ins,
 * OIDC, proxies) and refreshes what expires. Its generated client and its `Watch` are not used: see list-watch.ts.
 */

/** Where the cluster and its credentials are described. Nothing set: KUBECONFIG, ~/.kube/config, service account. */
export type ClusterAccess = {
  /** A kubeconfig file instead of those. */
  readonly kubeconfig?: string;
  /** A context of the kubeconfig other than its current one. */
  readonly context?: string;
  /** Folder above `var/run/secrets/kubernetes.io/serviceaccount`; set: the service account is used, no kubeconfig. */
  readonly serviceAccountRoot?: string;
};

/** An answer that is no success, or one that no API server gives. */
export class ApiError extends Error {
  /** HTTP status; 0 where the answer is not from an API server. */
  readonly status: number;
  /** The `reason` of a Kubernetes Status, such as `Conflict` or `AlreadyExists`; null = none was given. */
  readonly reason: string | null;
  /** What the server asks to wait; null = nothing. [s] */
  readonly retryAfterSeconds: number | null;

  constructor(
    message: string,
    answer: { readonly status: number; readonly reason?: string | null; readonly retryAfterSeconds?: number | null },
  ) {
    super(message);
    this.name = 'ApiError';
    this.status = answer.status;
    this.reason = answer.reason ?? null;
    this.retryAfterSeconds = answer.retryAfterSeconds ?? null;
  }
}

export type ApiRequest = {
  /** With leading `/`, without query. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** For credentials, connecting and the status line together. [ms] */
  readonly answerTimeoutMs: number;
  readonly signal: AbortSignal;
};

/** A request whose answer is one document. */
export type ApiCall = Omit<ApiRequest, 'answerTimeoutMs'> & {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Sent as JSON, which is YAML too; null = no body. */
  readonly body: unknown;
  /** Of the body; a PATCH says by it what kind of patch it is. Null = `application/json`. */
  readonly contentType: string | null;
  /** For credentials, connecting, sending and the whole answer together. [ms] */
  readonly answerTimeoutMs: number;
};

/** A connection to one API server. Requests are independent; a client has no state beyond its credentials. */
export interface ApiClient {
  /** Base URL, for messages. */
  readonly server: string;
  /**
   * A GET whose status is 200; the caller reads the body, and destroys it where it stops earlier.
   *
   * Rejects with `ApiError` for another status, with the transport's error where there is no answer.
   */
  get(request: ApiRequest): Promise<Readable>;
  /**
   * Any request for one document: the JSON of an answer of 200 to 299, null where it has no body.
   *
   * A 401 did nothing, so the credentials are read anew and it is sent once more. Rejects as `get` does, and with
   * `ApiError` of status 0 for an answer that is not JSON or longer than any object. A request that has a deadline may
   * have been done although it rejects: repeat only what may be done twice.
   */
  send(call: ApiCall): Promise<unknown>;
  /** What the server's clock shows, by the head of whatever it answers; null where it does not say. Unix [ms], whole seconds */
  serverTime(request: Pick<ApiRequest, 'answerTimeoutMs' | 'signal'>): Promise<number | null>;
  /** Reads the credentials anew from where they come from, after they were refused. Rejects where that fails. */
  renew(): Promise<void>;
}

/** Nobody sends more in an error; the rest is not read. */
const longestErrorBody = 16_384;
/** etcd keeps no object above 1.5 MiB; some JSON is longer than what is kept. */
const longestDocument = 8 * 1024 * 1024;

/**
 * Finds the cluster and its credentials; sends nothing yet.
 *
 * @throws InputError where nothing describes a cluster, or the description cannot be used
 */
export async function connectToCluster(access: ClusterAccess): Promise<ApiClient> {
  let config = await loadKubeConfig(access);
  const server = config.getCurrentCluster()!.server.replace(/\/+$/, '');
  return {
    server,
    get: (request) => get(config, server, request),
    send: async (call) => {
      try {
        return await send(config, server, call);
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 401)) throw error;
        config = await loadKubeConfig(access);
        return send(config, server, call);
      }
    },
    serverTime: (request) => serverTime(config, server, request),
    renew: async () => {
      config = await loadKubeConfig(access);
    },
  };
}

async function loadKubeConfig(access: ClusterAccess): Promise<KubeConfig> {
  // Imported here and not at the top: it takes half a second, which a service without a cluster need not spend.
  const { KubeConfig: Config } = await import('@kubernetes/client-node');
  const config = new Config();
  const source = access.kubeconfig ?? process.env.KUBECONFIG ?? 'the default kubeconfig';
  try {
    if (access.serviceAccountRoot !== undefined) config.loadFromCluster(access.serviceAccountRoot);
    else if (access.kubeconfig !== undefined) config.loadFromFile(access.kubeconfig);
    else config.loadFromDefault();
  } catch (error) {
    throw new InputError(source, [{ place: '', found: unreadable(error), expected: 'a kubeconfig that can be read' }]);
  }
  if (config.getCurrentContext() === 'loaded-context') {
    // What client-node makes up where it finds neither a kubeconfig nor a service account.
    throw new InputError('Kubernetes', [
      { place: '', found: 'no kubeconfig and no service account', expected: 'KUBECONFIG, or a pod of a cluster' },
    ]);
  }
  selectContext(config, access.context, source);
  return withoutTlsOnPlainHttp(config, Config);
}

/** Parsers quote the lines around a fault, and those of a kubeconfig hold tokens and keys: only what and where is said. */
function unreadable(error: unknown): string {
  const fault = record(error);
  const reason = textOf(fault, 'reason');
  const line = record(fault.mark).line;
  if (reason === undefined) return messageOf(error);
  return `no YAML (${reason}${typeof line === 'number' ? `, line ${line + 1}` : ''})`;
}

function selectContext(config: KubeConfig, wanted: string | undefined, source: string): void {
  const known = (config.getContexts() ?? []).map((context) => context.name);
  const context = wanted ?? config.getCurrentContext();
  if (context !== undefined && known.includes(context)) config.setCurrentContext(context);
  const cluster = known.includes(context) ? config.getCurrentCluster() : null;
  if (cluster !== null && isServerUrl(cluster.server)) return;
  const suggestion = wanted === undefined || known.includes(wanted) ? undefined : nearestName(wanted, known);
  throw new InputError(source, [
    {
      place: wanted === undefined ? 'current-context' : 'context',
      found: quoteInput(context),
      expected: `a context whose cluster has a server URL (one of ${known.join(', ') || 'none'})`,
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ]);
}

function isServerUrl(server: unknown): boolean {
  return typeof server === 'string' && /^https?:\/\//.test(server) && URL.canParse(server);
}

/** client-node refuses http:// unless verification is off; `kubectl proxy` has no certificate to verify. */
function withoutTlsOnPlainHttp(config: KubeConfig, Config: typeof KubeConfig): KubeConfig {
  const changed = new Config();
  changed.loadFromOptions({
    clusters: config.clusters.map((cluster) =>
      cluster.server?.startsWith('http:') ? { ...cluster, skipTLSVerify: true } : cluster,
    ),
    users: config.users,
    contexts: config.contexts,
    currentContext: config.currentContext,
  });
  return changed;
}

async function get(config: KubeConfig, server: string, request: ApiRequest): Promise<Readable> {
  const deadline = AbortSignal.timeout(request.answerTimeoutMs);
  const response = await exchange(config, server, {
    ...request,
    method: 'GET',
    body: null,
    contentType: null,
    deadline,
  });
  const body = decoded(response);
  if (response.statusCode === 200) return body;
  throw await refusalOf(response, body, deadline);
}

/** Also a refusal is dated: no right is needed to be told the time. */
async function serverTime(
  config: KubeConfig,
  server: string,
  request: Pick<ApiRequest, 'answerTimeoutMs' | 'signal'>,
): Promise<number | null> {
  const deadline = AbortSignal.timeout(request.answerTimeoutMs);
  const response = await exchange(config, server, {
    ...request,
    path: '/version',
    query: {},
    method: 'GET',
    body: null,
    contentType: null,
    deadline,
  });
  response.destroy();
  const shown = Date.parse(response.headers.date ?? '');
  return Number.isFinite(shown) ? shown : null;
}

async function send(config: KubeConfig, server: string, call: ApiCall): Promise<unknown> {
  const deadline = AbortSignal.timeout(call.answerTimeoutMs);
  const response = await exchange(config, server, { ...call, deadline });
  const body = decoded(response);
  const status = response.statusCode ?? 0;
  if (status < 200 || status > 299) throw await refusalOf(response, body, deadline);
  endWith(body, deadline);
  return documentOf(await wholeText(body, call, deadline));
}

async function wholeText(body: Readable, call: ApiCall, deadline: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > longestDocument) throw new ApiError(`found more than ${longestDocument} bytes`, { status: 0 });
    }
  } catch (error) {
    if (deadline.aborted) throw new Error(`no complete answer within ${call.answerTimeoutMs / 1000} s`);
    throw error;
  }
  return Buffer.concat(chunks).toString('utf8');
}

function documentOf(text: string): unknown {
  if (text.trim() === '') return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError('found a text that is not JSON, expected a document', { status: 0 });
  }
}

function endWith(body: Readable, deadline: AbortSignal): void {
  if (deadline.aborted) body.destroy();
  const end = () => body.destroy(new Error('too late'));
  deadline.addEventListener('abort', end, { once: true });
  body.once('close', () => deadline.removeEventListener('abort', end));
}

async function exchange(
  config: KubeConfig,
  server: string,
  request: ApiCall & { readonly deadline: AbortSignal },
): Promise<http.IncomingMessage> {
  const either = AbortSignal.any([request.signal, request.deadline]);
  const options: https.RequestOptions = { headers: {} };
  // Exec plug-ins and OIDC issuers can hang: getting credentials is under the same deadline.
  await unlessAborted(config.applyToHTTPSOptions(options), either).catch((error) => {
    // It quotes what a plug-in printed, which is credentials.
    throw error instanceof SyntaxError ? new Error('the credentials are not the JSON that is expected of them') : error;
  });
  const query = new URLSearchParams(request.query).toString();
  const url = new URL(`${server}${request.path}${query === '' ? '' : `?${query}`}`);
  return answerTo(url, options, request);
}

async function refusalOf(response: http.IncomingMessage, body: Readable, deadline: AbortSignal): Promise<ApiError> {
  if (deadline.aborted) body.destroy();
  deadline.addEventListener('abort', () => body.destroy(), { once: true });
  return errorOf(response, body);
}

function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

function answerTo(
  url: URL,
  options: https.RequestOptions,
  { method, body, contentType, signal, deadline, answerTimeoutMs }: ApiCall & { readonly deadline: AbortSignal },
): Promise<http.IncomingMessage> {
  const text = body === null ? null : JSON.stringify(body);
  const headers: http.OutgoingHttpHeaders = {
    ...(options.headers as http.OutgoingHttpHeaders),
    accept: 'application/json',
    // A compressed watch would be held back until a block is full.
    'accept-encoding': url.searchParams.has('watch') ? 'identity' : 'gzip',
    'user-agent': 'gpumix',
    ...(text === null
      ? {}
      : { 'content-type': contentType ?? 'application/json', 'content-length': Buffer.byteLength(text) }),
  };
  // A token file may end with a newline, which no header may.
  if (typeof headers.Authorization === 'string') headers.Authorization = headers.Authorization.trim();
  return new Promise((resolve, reject) => {
    const send = url.protocol === 'https:' ? https.request : http.request;
    const outgoing = send(url, { ...options, headers, method, signal });
    const late = () => outgoing.destroy(new Error(`no answer within ${answerTimeoutMs / 1000} s`));
    deadline.addEventListener('abort', late, { once: true });
    const settled = () => deadline.removeEventListener('abort', late);
    outgoing.once('socket', (socket) => socket.setKeepAlive(true, 30_000));
    outgoing.on('error', (error) => {
      settled();
      reject(error);
    });
    outgoing.once('response', (response) => {
      settled();
      resolve(response);
    });
    outgoing.end(text ?? undefined);
  });
}

function decoded(response: http.IncomingMessage): Readable {
  if (response.headers['content-encoding'] !== 'gzip') return response;
  // `pipeline` hands errors and the end of either stream to the other; its own callback has nothing to add.
  return pipeline(response, createGunzip(), () => {});
}

async function errorOf(response: http.IncomingMessage, body: Readable): Promise<ApiError> {
  const status = response.statusCode ?? 0;
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > longestErrorBody) break;
    }
  } catch {
    // The status line says enough.
  }
  const retryAfter = Number(response.headers['retry-after'] ?? Number.NaN);
  const { message, reason } = statusOf(Buffer.concat(chunks).toString('utf8'));
  return new ApiError(`${status} ${response.statusMessage ?? ''}${message === '' ? '' : `: ${message}`}`.trim(), {
    status,
    reason,
    retryAfterSeconds: Number.isFinite(retryAfter) && retryAfter >= 0 ? retryAfter : null,
  });
}

/** Message and reason of a Kubernetes Status, or the first line of another text. */
function statusOf(text: string): { readonly message: string; readonly reason: string | null } {
  try {
    const status = record(JSON.parse(text));
    return {
      message: (textOf(status, 'message') ?? '').slice(0, 500),
      reason: textOf(status, 'reason')?.slice(0, 100) ?? null,
    };
  } catch {
    return { message: text.trim().split('\n', 1)[0]!.slice(0, 200), reason: null };
  }
}

/** An error as one line for people; connection errors to several addresses carry only a code. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  return (error.message === '' ? code : error.message).replaceAll('\n', ' ').slice(0, 500);
}
