import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Metrics } from '../metrics.js';
import type { ControllerView, ModelView } from '../view.js';
import { pageHeaders } from './page-headers.js';
import { healthSchema, readinessSchema } from './schemas.js';

/** What operators and people ask first: is it alive, is it ready, what is it measuring, where is what. */

export type OperationRoutesOptions = {
  readonly view: ControllerView;
  readonly metrics: Metrics;
  readonly version: string;
};

const tags = ['Operation'];

export function registerOperationRoutes(app: FastifyInstance, options: OperationRoutesOptions): void {
  const { view, metrics } = options;

  app.get(
    '/healthz',
    { schema: { tags, summary: 'The process is alive', response: { 200: healthSchema } } },
    async () => ({ status: 'ok' }) as const,
  );

  app.get(
    '/readyz',
    {
      schema: {
        tags,
        summary: 'Whether numbers are served, with the state of each input',
        description:
          'Ready once every input was read. It stays ready while a last good plan is held, because that plan is served; `held` and `inputs` say so.',
        response: { 200: readinessSchema, 503: readinessSchema },
      },
    },
    async (_request, reply) => {
      const readiness = readinessOf(view);
      return reply.code(readiness.status === 'ready' ? 200 : 503).send(readiness);
    },
  );

  app.get(
    '/metrics',
    {
      config: { access: 'document' },
      schema: {
        tags,
        summary: "gpumix's own metrics",
        response: { 200: { description: 'Prometheus text', content: { 'text/plain': { schema: z.string() } } } },
      },
    },
    async (_request, reply) => reply.header('content-type', metrics.contentType).send(await metrics.render()),
  );

  app.get(
    '/',
    {
      schema: {
        tags,
        summary: 'Where is what',
        response: {
          200: {
            description: 'A list of URLs',
            content: { 'text/plain': { schema: z.string() }, 'text/html': { schema: z.string() } },
          },
        },
      },
    },
    async (request, reply) => {
      const wantsHtml = request.headers.accept?.includes('text/html') === true;
      const links = linksOf(view);
      return wantsHtml
        ? reply.headers({ ...pageHeaders, 'content-type': 'text/html; charset=utf-8' }).send(indexHtml(links, options))
        : reply.header('content-type', 'text/plain; charset=utf-8').send(indexText(links, options));
    },
  );
}

type Readiness = z.output<typeof readinessSchema>;

function readinessOf(view: ControllerView): Readiness {
  const inputs = [...view.inputs()];
  const heldModels = view.models().filter(({ status }) => status === 'held');
  const held = heldModels.map(({ name, heldReason }) => ({ model: name, reason: heldReason }));
  const ready = view.ready();
  const actuation = view.actuation();
  const failing = inputs.filter(({ ok }) => !ok).map(({ input, problem }) => `${input} (${problem ?? 'not read yet'})`);
  return {
    status: ready ? 'ready' : 'starting',
    detail: detailOf({ ready, failing, held: heldModels, actuationProblem: actuation?.problem ?? null }),
    mode: view.mode,
    planStatus: view.plan()?.status ?? null,
    inputs,
    held,
    actuation,
  };
}

function detailOf({
  ready,
  failing,
  held,
  actuationProblem,
}: {
  readonly ready: boolean;
  readonly failing: readonly string[];
  readonly held: readonly ModelView[];
  readonly actuationProblem: string | null;
}): string {
  const inputs = failing.join(', ');
  if (!ready) {
    return failing.length === 0 ? 'the first cycle has not ended yet' : `waiting for the first reading of ${inputs}`;
  }
  const parts = [];
  if (failing.length > 0) parts.push(`cannot read ${inputs}`);
  const models = (count: number): string => `${count} ${count === 1 ? 'model' : 'models'}`;
  const unplanned = held.filter(({ planAt }) => planAt === null).length;
  const kept = held.length - unplanned;
  if (kept > 0) parts.push(`the last good plan of ${models(kept)} is held and served`);
  if (unplanned > 0) parts.push(`${models(unplanned)} could not be planned yet`);
  if (actuationProblem !== null) parts.push(actuationProblem);
  return parts.length === 0 ? 'every input is read' : parts.join('; ');
}

type Link = { readonly path: string; readonly what: string };

function linksOf(view: ControllerView): readonly Link[] {
  const model = view.models().find(({ deployments }) => deployments.length > 0);
  const deployment = model?.deployments[0];
  const path = (deployment === undefined ? ['namespace', 'deployment'] : [deployment.namespace, deployment.name])
    .map(encodeURIComponent)
    .join('/');
  return [
    { path: '/docs', what: 'every route, to read and to try' },
    { path: '/api/v1/models', what: 'demand, forecast and deployments of every model' },
    { path: '/api/v1/plan', what: 'the current plan with its proof' },
    { path: '/api/v1/explain', what: 'why that plan, and what would change it' },
    { path: '/api/v1/problem', what: 'the problem that it answers, for gpumix plan FILE' },
    { path: '/api/v1/history', what: 'past decisions with their reasons' },
    { path: `/api/v1/replicas/${path}`, what: 'whole replicas of one deployment (KEDA)' },
    { path: `/metrics/${path}`, what: 'the number that the AIBrix PodAutoscaler reads' },
    { path: '/metrics', what: 'Prometheus metrics of gpumix' },
    { path: '/readyz', what: 'the state of each input' },
  ];
}

function indexText(links: readonly Link[], { version, view }: OperationRoutesOptions): string {
  const width = Math.max(...links.map(({ path }) => path.length));
  const lines = links.map(({ path, what }) => `  ${path.padEnd(width)}  ${what}`);
  return `${titleOf(version, view)}\n\n${lines.join('\n')}\n`;
}

function indexHtml(links: readonly Link[], { version, view }: OperationRoutesOptions): string {
  const rows = links.map(
    ({ path, what }) =>
      `<tr><td><a href="${escapeHtml(path)}">${escapeHtml(path)}</a></td><td>${escapeHtml(what)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gpumix</title>
<style>body{font:16px/1.6 system-ui,sans-serif;margin:3rem auto;max-width:48rem;padding:0 1rem;color-scheme:light dark}td{padding-right:2rem}</style>
</head><body><h1>gpumix</h1><p>${escapeHtml(titleOf(version, view))}</p>
<table>
${rows.join('\n')}
</table></body></html>
`;
}

function titleOf(version: string, view: ControllerView): string {
  const shadow = view.mode === 'shadow' ? ', in shadow mode: it computes and shows, and publishes what runs' : '';
  return `gpumix ${version} decides which GPUs should run what${shadow}`;
}

function escapeHtml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}
