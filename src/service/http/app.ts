import type { Socket } from 'node:net';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Access } from '../access.js';
import type { Logger } from '../log.js';
import type { Metrics } from '../metrics.js';
import type { ControllerCommands, ControllerView } from '../view.js';
import { registerAibrixRoutes } from './aibrix-routes.js';
import { defaultWhatIfLimits, registerApiRoutes, type WhatIfLimits } from './api-routes.js';
import { readBodiesAsText } from './body.js';
import { registerDocsRoutes } from './docs.js';
import { errorAnswer, noSuchRoute, sendError } from './errors.js';
import { guardRoutes } from './guard.js';
import { registerOperationRoutes } from './operation-routes.js';

/**
 * The HTTP face of the service. Every read is answered from memory; nothing here waits for Redis or Kubernetes
 * except the commands that say so.
 */

export type AppOptions = {
  readonly view: ControllerView;
  readonly commands: ControllerCommands;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly version: string;
  readonly access: Access;
  /** `publish.aibrixUnit`: what one replica counts in AIBrix's metric. */
  readonly aibrixUnit?: number;
  readonly whatIf?: Partial<WhatIfLimits>;
};

/** Longest name in a URL, as written there. Kubernetes allows 253; a model name of 4,096 may be percent-encoded. */
const longestParam = 3 * 4096;

/** Largest body of routes that do not say otherwise [bytes]: `{"replicas": 3}` has 15. */
const smallBodyBytes = 64 * 1024;

/** Node's default, stated because it bounds what a client may make us hold [bytes]. */
const largestHeaderBytes = 16 * 1024;

/** How long a client may take to send its request [ms]. */
const requestTimeoutMs = 30_000;

/** How long a connection may be silent [ms]: more than the deadline of the slowest answer. */
const connectionTimeoutMs = 60_000;

/** Builds the app with all routes; the caller listens and closes. */
export function buildApp(options: AppOptions): FastifyInstance {
  const { view, commands, metrics, logger, version, access } = options;
  const answer = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const built = errorAnswer(error, { method: request.method, url: request.raw.url ?? '' });
    if (built.internal)
      logger.error({ err: error, method: request.method, route: request.routeOptions.url }, 'request failed');
    return sendError(built, reply);
  };

  const app = Fastify({
    // Requests are not logged one by one: an autoscaler asks every few seconds for every deployment.
    logger: false,
    routerOptions: { maxParamLength: longestParam },
    bodyLimit: smallBodyBytes,
    requestTimeout: requestTimeoutMs,
    connectionTimeout: connectionTimeoutMs,
    forceCloseConnections: 'idle',
    // What is still asked while draining is still answered, with `Connection: close`.
    return503OnClosing: false,
    http: { maxHeaderSize: largestHeaderBytes },
    frameworkErrors: (error, request, reply) => void answer(error, request, reply),
    clientErrorHandler: answerClientError,
  });
  readBodiesAsText(app);
  // No answer is what a browser makes of its first bytes.
  app.addHook('onRequest', async (_request, reply) => void reply.header('x-content-type-options', 'nosniff'));
  app.setErrorHandler(answer);
  app.setNotFoundHandler((request, reply) => answer(noSuchRoute(request), request, reply));
  // Handlers check what they take and name its faults; the schemas are for the document.
  app.addHook('onRoute', (route) => {
    delete route.schema;
  });

  const registerRoutes = (target: FastifyInstance): void => {
    registerAibrixRoutes(target, { view, commands, aibrixUnit: options.aibrixUnit ?? 100 });
    registerApiRoutes(target, { view, commands, whatIf: { ...defaultWhatIfLimits, ...options.whatIf } });
    registerOperationRoutes(target, { view, metrics, version });
  };
  void app.register(async (scope) => {
    await guardRoutes(scope, { access, logger });
    registerRoutes(scope);
    registerDocsRoutes(scope, { version, registerRoutes });
  });
  return app;
}

/** What does not even parse as HTTP: there is no request, so the answer is written to the socket. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return;
  const [status, code, message] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? [
          '431 Request Header Fields Too Large',
          'headers_too_large',
          `URL and headers exceed ${largestHeaderBytes} bytes`,
        ]
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? [
            '408 Request Timeout',
            'request_timeout',
            `the request took longer than ${requestTimeoutMs / 1000} s to arrive`,
          ]
        : ['400 Bad Request', 'bad_request', 'this is not HTTP as it is specified'];
  const body = JSON.stringify({ error: { code, message } });
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
