import type { IncomingMessage } from 'node:http';
import type { Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { ApiClient } from '../../adapters/kubernetes/api-client.js';
import { apiServiceOwner } from '../../adapters/kubernetes/api-service-owner.js';
import {
  followRequestHeaderAuthentication,
  type RequestHeaderAuthentication,
} from '../../adapters/kubernetes/request-header-authentication.js';
import type { TlsMaterial } from '../../adapters/tls-files.js';
import { InputError } from '../../core/input-error.js';
import {
  externalMetricsGroup as apiGroup,
  externalMetricsApiService as apiServiceName,
  externalMetricsVersion as apiVersion,
} from '../../core/published-names.js';
import type { Timer } from '../controller.js';
import { HttpError, shorten } from '../http/errors.js';
import type { Logger } from '../log.js';
import { QuietConnections, quietMs } from '../quiet-connections.js';
import { type Listener, listenError, shownHost } from '../server.js';
import type { ControllerView } from '../view.js';
import {
  groupDocument,
  groupList,
  openApiV2,
  openApiV3,
  openApiV3List,
  openApiV3Path,
  resourceList,
  statusDocument,
  valueList,
} from './api-documents.js';
import { FrontProxy, type RefusalReason, refusalReasons } from './front-proxy.js';
import { parseLabelSelector } from './label-selector.js';
import { MetricValues } from './metric-values.js';

/**
 * `external.metrics.k8s.io/v1beta1`, as an API server that the cluster's own one asks on behalf of its users.
 *
 * The cluster's API server has authenticated and authorized the user before it passes a request on; here it is checked that
 * the request comes from there (front-proxy.ts). See docs/decisions/external-metrics-authorization.md.
 */

export type MetricsServerOptions = {
  readonly view: ControllerView;
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly tls: {
    readonly first: TlsMaterial;
    /** Follows the files; the result ends that. */
    readonly follow: (onChange: (material: TlsMaterial) => void) => () => void;
  };
  readonly api: ApiClient;
  /** For one answer of the cluster's API server; absent = 5 s [ms]. */
  readonly answerTimeoutMs?: number;
  /** The Service that an APIService has to name for requests to come here. */
  readonly service: { readonly namespace: string; readonly name: string };
  readonly timer: Timer;
  readonly logger: Logger;
};

/** Longest name in a URL; Kubernetes allows 253 in a name. */
const longestParam = 1024;

/** As of the main server. */
const requestTimeoutMs = 30_000;
const connectionTimeoutMs = 60_000;
const largestHeaderBytes = 16 * 1024;

/** How often a draining server looks for connections that have fallen idle [ms]. */
const idleCheckMs = 50;

/** What anyone may ask, as of any API server: probes come without a certificate. */
const healthPaths = ['/healthz', '/livez', '/readyz'];

export class MetricsServer implements Listener {
  readonly #options: MetricsServerOptions;
  readonly #values: MetricValues;
  readonly #frontProxy = new FrontProxy();
  readonly #app: FastifyInstance;
  readonly #server: Server;
  readonly #quiet: QuietConnections;
  readonly #toldRefusals = new Set<RefusalReason>();
  readonly #stopping = new AbortController();
  #material: TlsMaterial;
  #clientCa: string | null = null;
  #ends: (() => void)[] = [];
  #drained: Promise<void> | null = null;

  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#values = new MetricValues(options.view);
    this.#material = options.tls.first;
    this.#app = this.#buildApp();
    this.#server = this.#app.server as unknown as Server;
    // Before TLS begins on it with the certificates of this moment.
    this.#server.prependListener('connection', (socket: Socket) => this.#frontProxy.accepted(socket));
    this.#quiet = new QuietConnections().follow(this.#server);
  }

  async listen(): Promise<string> {
    const { host, port, api, tls, timer, logger, answerTimeoutMs } = this.#options;
    await this.#refuseOtherOwner();
    try {
      await this.#app.listen({ host, port });
    } catch (error) {
      throw listenError(error, { host, port, section: 'externalMetrics' });
    }
    this.#ends.push(
      tls.follow((material) => this.#useCertificate(material)),
      followRequestHeaderAuthentication({
        api,
        timer,
        log: logger,
        onChange: (read) => this.#useAuthority(read),
        ...(answerTimeoutMs === undefined ? {} : { answerTimeoutMs }),
      }),
    );
    const { port: actualPort } = this.#server.address() as AddressInfo;
    return `${apiGroup}/${apiVersion} on https://${shownHost(host)}:${actualPort}`;
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain();
    return this.#drained;
  }

  cut(): void {
    this.#stop();
    this.#server.closeAllConnections();
    this.#quiet.end();
  }

  async #drain(): Promise<void> {
    this.#stop();
    const reaper = setInterval(() => this.#server.closeIdleConnections(), idleCheckMs);
    const endQuiet = setTimeout(() => this.#quiet.end(), quietMs);
    await this.#app.close().finally(() => {
      clearInterval(reaper);
      clearTimeout(endQuiet);
    });
  }

  #stop(): void {
    this.#stopping.abort();
    for (const end of this.#ends.splice(0)) end();
  }

  /** Two that serve one group would overwrite each other's APIService, and autoscalers would ask one of them by chance. */
  async #refuseOtherOwner(): Promise<void> {
    const { api, service, logger, answerTimeoutMs } = this.#options;
    const owner = await apiServiceOwner(api, apiServiceName, {
      signal: this.#stopping.signal,
      ...(answerTimeoutMs === undefined ? {} : { answerTimeoutMs }),
    });
    const ours = `${service.namespace}/${service.name}`;
    if (owner.kind === 'unknown') {
      logger.warn({}, `who serves ${apiGroup} is not known, gpumix goes on: ${owner.message}`);
      return;
    }
    if (owner.kind === 'none') {
      logger.warn(
        {},
        `no APIService ${apiServiceName} is registered: nobody asks here before one names Service ${ours}`,
      );
      return;
    }
    const found = owner.kind === 'built-in' ? 'the API server itself' : `Service ${owner.namespace}/${owner.name}`;
    if (owner.kind === 'service' && `${owner.namespace}/${owner.name}` === ours) return;
    const others =
      owner.kind === 'service'
        ? ' (KEDA and prometheus-adapter serve this group too: read gpumix with those, or remove them)'
        : '';
    throw new InputError('externalMetrics', [
      {
        place: '',
        found: `APIService ${apiServiceName} of ${found}`,
        expected: `none, or one of Service ${ours}: one server has this group in a cluster${others}`,
      },
    ]);
  }

  #useCertificate(material: TlsMaterial): void {
    this.#material = material;
    this.#renewContext();
  }

  #useAuthority(read: RequestHeaderAuthentication): void {
    this.#frontProxy.use(read);
    this.#clientCa = read.clientCa;
    this.#renewContext();
    // A connection of the former authority ends; the API server makes another one for its next request.
    this.#server.closeIdleConnections();
  }

  /** A new context also has new keys for session tickets: a session of before, which would not be checked again, ends with them. */
  #renewContext(): void {
    this.#server.setSecureContext(this.#context());
  }

  /** Without `ca` a context trusts the public authorities: while none is known, it is an empty list. */
  #context(): TlsOptions {
    const { cert, key } = this.#material;
    return { cert, key, ca: this.#clientCa ?? [], minVersion: 'TLSv1.2' };
  }

  #buildApp(): FastifyInstance {
    const app = Fastify({
      https: {
        ...this.#context(),
        requestCert: true,
        // Who is let in is decided for each request: probes come without a certificate.
        rejectUnauthorized: false,
        maxHeaderSize: largestHeaderBytes,
      },
      logger: false,
      routerOptions: { maxParamLength: longestParam },
      bodyLimit: 1024,
      requestTimeout: requestTimeoutMs,
      connectionTimeout: connectionTimeoutMs,
      forceCloseConnections: 'idle',
      return503OnClosing: false,
      frameworkErrors: (error, request, reply) => void this.#sendError(error, request, reply),
    }) as unknown as FastifyInstance;
    app.setErrorHandler((error, request, reply) => this.#sendError(error, request, reply));
    app.setNotFoundHandler((request, reply) => {
      const path = shorten(request.url.split('?', 1)[0] ?? '');
      const error =
        request.method === 'GET' || request.method === 'HEAD'
          ? new HttpError(404, 'not_found', `the server could not find ${path}`)
          : new HttpError(405, 'method', `the server does not allow ${request.method} on ${path}: metrics are read`);
      return this.#sendError(error, request, reply);
    });
    app.addHook('onRequest', async (request) => {
      if (healthPaths.includes(request.url.split('?', 1)[0]!)) return;
      this.#authenticate(request.raw);
      refuseOtherFormats(request);
    });

    for (const path of healthPaths.slice(0, 2)) app.get(path, () => 'ok');
    app.get('/readyz', (_request, reply) =>
      this.#frontProxy.isKnown
        ? reply.send('ok')
        : reply.code(503).send(`not ready: ${refusalReasons['no-authority']}`),
    );
    app.get('/apis', () => groupList);
    app.get(`/apis/${apiGroup}`, () => groupDocument);
    app.get(`/apis/${apiGroup}/${apiVersion}`, () => resourceList(this.#values.names()));
    app.get('/openapi/v2', () => openApiV2);
    app.get('/openapi/v3', () => openApiV3List);
    app.get(openApiV3Path, () => openApiV3);
    app.get<{ Params: { namespace: string; metric: string }; Querystring: { labelSelector?: string | string[] } }>(
      `/apis/${apiGroup}/${apiVersion}/namespaces/:namespace/:metric`,
      (request) => {
        const { namespace, metric } = request.params;
        const { labelSelector = '' } = request.query;
        // Kubernetes reads the first of several.
        const selector = parseLabelSelector(Array.isArray(labelSelector) ? (labelSelector[0] ?? '') : labelSelector);
        const answer = this.#values.read(namespace, metric, selector);
        if (answer.kind === 'values') return valueList(answer.items);
        throw new HttpError(answer.kind === 'none' ? 404 : 503, answer.kind, answer.message);
      },
    );
    return app;
  }

  #authenticate(request: IncomingMessage): void {
    const found = this.#frontProxy.authenticate(request);
    if (found.kind === 'authenticated') return;
    const { reason } = found;
    if (!this.#toldRefusals.has(reason)) {
      // Once each: whoever reaches the port could fill the log otherwise.
      this.#toldRefusals.add(reason);
      this.#options.logger.warn({ reason }, `a request for external metrics is refused: ${refusalReasons[reason]}`);
    }
    throw reason === 'no-authority'
      ? new HttpError(503, reason, 'the server cannot tell yet who asks')
      : new HttpError(401, reason, 'Unauthorized');
  }

  #sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const [code, message] = described(error);
    if (code === 500) this.#options.logger.error({ err: error, route: request.routeOptions.url }, 'request failed');
    // A connection of the former authority is of no more use.
    if (error instanceof HttpError && error.code === 'old-connection') reply.header('connection', 'close');
    return reply.code(code).type('application/json').send(statusDocument(code, message));
  }
}

function described(error: unknown): readonly [number, string] {
  if (error instanceof HttpError) return [error.statusCode, error.message];
  if (error instanceof InputError) return [400, error.message];
  const statusCode = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500;
  if (statusCode < 400 || statusCode >= 500 || !(error instanceof Error)) return [500, 'an internal error'];
  return [statusCode, shorten(error.message)];
}

/**
 * Kubernetes' clients list what they can read; ours is plain JSON. Discovery in another shape (`application/json;as=…`) is asked
 * for first, and again without it after a 406.
 *
 * @throws HttpError 406
 */
function refuseOtherFormats({ headers }: FastifyRequest): void {
  const accepted = (headers.accept ?? '*/*').split(',').map((range) => range.split(';').map((part) => part.trim()));
  const isPlain = ([type, ...parameters]: readonly string[]) =>
    ['application/json', 'application/*', '*/*', ''].includes(type!.toLowerCase()) &&
    !parameters.some((parameter) => /^(as|g|v)=/.test(parameter));
  if (accepted.some(isPlain)) return;
  throw new HttpError(406, 'not_acceptable', 'only application/json is served');
}
