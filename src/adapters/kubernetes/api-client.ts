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

/** An answer other than 200, or one that no API server gives. */
export class ApiError extends Error {
  /** HTTP status; 0 where the answer is not from an API server. */
  readonly status: number;
  /** What the server asks to wait; null = nothing. [s] */
  readonly retryAfterSeconds: number | null;

  constructor(message: string, answer: { readonly status: number; readonly retryAfterSeconds?: number | null }) {
    super(message);
    this.name = 'ApiError';
    this.status = answer.status;
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
  /** Reads the credentials anew from where they come from, after they were refused. Rejects where that fails. */
  renew(): Promise<void>;
}

/** Nobody sends more in an error; the rest is not read. */
const longestErrorBody = 16_384;

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
    throw new InputError(source, [{ place: '', found: messageOf(error), expected: 'a kubeconfig that can be read' }]);
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
  const either = AbortSignal.any([request.signal, deadline]);
  const options: https.RequestOptions = { headers: {} };
  // Exec plug-ins and OIDC issuers can hang: getting credentials is under the same deadline.
  await unlessAborted(config.applyToHTTPSOptions(options), either);
  const url = new URL(`${server}${request.path}?${new URLSearchParams(request.query)}`);
  const response = await answerTo(url, options, {
    signal: request.signal,
    deadline,
    timeoutMs: request.answerTimeoutMs,
  });
  const body = decoded(response);
  if (response.statusCode === 200) return body;
  if (deadline.aborted) body.destroy();
  deadline.addEventListener('abort', () => body.destroy(), { once: true });
  throw await errorOf(response, body);
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
  limits: { readonly signal: AbortSignal; readonly deadline: AbortSignal; readonly timeoutMs: number },
): Promise<http.IncomingMessage> {
  const headers: http.OutgoingHttpHeaders = {
    ...(options.headers as http.OutgoingHttpHeaders),
    accept: 'application/json',
    // A compressed watch would be held back until a block is full.
    'accept-encoding': url.searchParams.has('watch') ? 'identity' : 'gzip',
    'user-agent': 'gpumix',
  };
  // A token file may end with a newline, which no header may.
  if (typeof headers.Authorization === 'string') headers.Authorization = headers.Authorization.trim();
  return new Promise((resolve, reject) => {
    const send = url.protocol === 'https:' ? https.request : http.request;
    const outgoing = send(url, { ...options, headers, method: 'GET', signal: limits.signal });
    const late = () => outgoing.destroy(new Error(`no answer within ${limits.timeoutMs / 1000} s`));
    limits.deadline.addEventListener('abort', late, { once: true });
    const settled = () => limits.deadline.removeEventListener('abort', late);
    outgoing.once('socket', (socket) => socket.setKeepAlive(true, 30_000));
    outgoing.on('error', (error) => {
      settled();
      reject(error);
    });
    outgoing.once('response', (response) => {
      settled();
      resolve(response);
    });
    outgoing.end();
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
  const reason = statusMessage(Buffer.concat(chunks).toString('utf8'));
  return new ApiError(`${status} ${response.statusMessage ?? ''}${reason === '' ? '' : `: ${reason}`}`.trim(), {
    status,
    retryAfterSeconds: Number.isFinite(retryAfter) && retryAfter >= 0 ? retryAfter : null,
  });
}

/** `message` of a Kubernetes Status, or the first line of another text. */
function statusMessage(text: string): string {
  try {
    return (textOf(record(JSON.parse(text)), 'message') ?? '').slice(0, 500);
  } catch {
    return text.trim().split('\n', 1)[0]!.slice(0, 200);
  }
}

/** An error as one line for people; connection errors to several addresses carry only a code. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  return (error.message === '' ? code : error.message).replaceAll('\n', ' ').slice(0, 500);
}
