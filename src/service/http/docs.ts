import Fastify, { type FastifyInstance, type RouteOptions } from 'fastify';
import { accessOfRoute, needsToken } from './guard.js';
import { pageHeaders } from './page-headers.js';
import { aibrixErrorSchema, errorSchema } from './schemas.js';

/**
 * `/docs` and `/openapi.json`. The document is made from the very route definitions of the service, in an app of its
 * own that is built when somebody first asks: the Swagger packages would otherwise slow every start and every request.
 */

export type DocsOptions = {
  readonly version: string;
  readonly registerRoutes: (app: FastifyInstance) => void;
};

/** Serves the two routes on an app. */
export function registerDocsRoutes(app: FastifyInstance, options: DocsOptions): void {
  let building: Promise<FastifyInstance> | undefined;
  const docs = (): Promise<FastifyInstance> => {
    building ??= buildDocsApp(options);
    return building;
  };
  const hidden = { schema: { hide: true }, config: { access: 'document' } } as const;
  app.get('/openapi.json', hidden, async () => (await docs()).swagger());
  for (const url of ['/docs', '/docs/*']) {
    app.get(url, hidden, async (request, reply) => {
      const docsApp = await docs();
      reply.hijack();
      for (const [name, value] of Object.entries(pageHeaders)) reply.raw.setHeader(name, value);
      docsApp.routing(request.raw, reply.raw);
    });
  }
  app.addHook('onClose', async () => {
    await (await building)?.close();
  });
}

/** In place of the Swagger packages' own. */
const logo =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 150 40"><text x="0" y="29" font-family="sans-serif" font-size="28" font-weight="bold" fill="#fff">gpumix</text></svg>';

async function buildDocsApp({ version, registerRoutes }: DocsOptions): Promise<FastifyInstance> {
  const [{ default: swagger }, { default: swaggerUi }, { createJsonSchemaTransform, createJsonSchemaTransformObject }] =
    await Promise.all([import('@fastify/swagger'), import('@fastify/swagger-ui'), import('fastify-type-provider-zod')]);
  const { componentSchemas } = await import('./openapi-components.js');
  const app = Fastify({ logger: false });
  app.setValidatorCompiler(() => (value) => ({ value }));
  app.setSerializerCompiler(() => JSON.stringify);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'gpumix',
        version,
        description: 'Decides which GPUs should run what, at the lowest cost that still meets the latency objectives.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      components: { securitySchemes: { bearer: bearerScheme } },
      tags: [
        { name: 'gpumix', description: 'Problems, plans, models, routing, history' },
        { name: 'AIBrix', description: "The routes of AIBrix's GPU optimizer" },
        { name: 'Operation', description: 'Health, readiness, metrics' },
      ],
    },
    transform: createJsonSchemaTransform({ schemaRegistry: componentSchemas }),
    transformObject: createJsonSchemaTransformObject({ schemaRegistry: componentSchemas }),
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { docExpansion: 'list', tryItOutEnabled: true },
    theme: { title: 'gpumix' },
    logo: { type: 'image/svg+xml', content: logo },
  });
  await app.register(async (scope) => {
    scope.addHook('onRoute', describeAccess);
    registerRoutes(scope);
  });
  await app.ready();
  return app;
}

const bearerScheme = {
  type: 'http',
  scheme: 'bearer',
  description:
    'A token of `server.tokenFile`, or one that `server.tokenReview` has the cluster check. None is needed where the service listens on loopback alone, or with `server.allowUnauthenticated: true`.',
} as const;

/** Says of a route what stands before it. Its handler is taken away: no request reaches a route by way of this app. */
function describeAccess(route: RouteOptions): void {
  route.handler = (_request, reply) => void reply.code(404).send();
  const access = accessOfRoute(route);
  if (access === 'read') return;
  const { tags, response } = { tags: [] as readonly string[], response: {}, ...route.schema };
  const error = tags.includes('AIBrix') ? aibrixErrorSchema : errorSchema;
  const refusals = needsToken(access) ? { 401: error, 403: error, 429: error, 503: error } : { 429: error };
  route.schema = {
    ...route.schema,
    ...(needsToken(access) ? { security: [{ bearer: [] }] } : {}),
    response: { ...(response as object), ...refusals },
  };
}
