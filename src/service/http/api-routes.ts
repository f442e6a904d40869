import type { FastifyInstance } from 'fastify';
import { InputError, quoteInput } from '../../core/input-error.js';
import { check, nearestName } from '../../core/parse.js';
import type { Plan } from '../../core/plan.js';
import { type PlanningProblem, parsePlanningProblem } from '../../core/planning-problem.js';
import { planOfModel } from '../plan-of-model.js';
import type { ControllerCommands, ControllerView, ModelView } from '../view.js';
import { bodyText, ignoreContentType } from './body.js';
import { HttpError, shorten } from './errors.js';
import { sendLargeJson } from './large-json.js';
import {
  deploymentParamsSchema,
  errorSchema,
  explanationSchema,
  historyQuerySchema,
  historySchema,
  type ModelSummary,
  modelDetailSchema,
  modelFilterSchema,
  modelParamsSchema,
  modelsSchema,
  planningProblemSchema,
  planSchema,
  replicasSchema,
  routingSchema,
} from './schemas.js';

/** `/api/v1`: what the service sees, what it decided, and what it would decide about another problem. */

/** Bounds of `POST /api/v1/plan`, which is work for whoever may ask for it. */
export type WhatIfLimits = {
  readonly largestBodyBytes: number;
  /** Problems planned at one time; one more is answered 429. */
  readonly concurrency: number;
  /** Largest `options.timeLimitMs` that is honoured; a larger one is cut to it. */
  readonly timeLimitMs: number;
  /** When the answer is given up with 503 [ms]: a problem of many models takes its time limit for each. */
  readonly deadlineMs: number;
};

export const defaultWhatIfLimits: WhatIfLimits = {
  largestBodyBytes: 8 * 1024 * 1024,
  concurrency: 2,
  timeLimitMs: 10_000,
  deadlineMs: 30_000,
};

export type ApiRoutesOptions = {
  readonly view: ControllerView;
  readonly commands: ControllerCommands;
  readonly whatIf: WhatIfLimits;
};

const tags = ['gpumix'];
const notFound = { 400: errorSchema, 404: errorSchema };
const notReady = { 503: errorSchema };

export function registerApiRoutes(app: FastifyInstance, { view, commands, whatIf }: ApiRoutesOptions): void {
  app.get(
    '/api/v1/models',
    {
      config: { access: 'document' },
      schema: { tags, summary: 'Every model: demand, forecast, deployments', response: { 200: modelsSchema } },
    },
    async () => {
      const plan = view.plan();
      return { models: view.models().map((model) => summarise(model, plan)) };
    },
  );

  app.get<{ Params: { model: string } }>(
    '/api/v1/models/:model',
    {
      schema: {
        tags,
        summary: 'One model with its current plan',
        params: modelParamsSchema,
        response: { 200: modelDetailSchema, ...notFound },
      },
    },
    async (request) => {
      const model = findModel(view, request.params.model);
      const plan = view.plan();
      return { ...summarise(model, plan), plan: plan === null ? null : ownPlan(view, plan, model) };
    },
  );

  app.get(
    '/api/v1/problem',
    {
      config: { access: 'document' },
      schema: {
        tags,
        summary: 'The last planning problem, whole',
        description: 'Save it and run `gpumix plan FILE`: the answer is the same plan.',
        querystring: modelFilterSchema,
        response: { 200: planningProblemSchema, ...notFound, ...notReady },
      },
    },
    async (request, reply) => {
      const { model } = check(modelFilterSchema, request.query, 'query');
      const problem = view.problem();
      if (problem === null) throw noPlanYet('problem');
      if (model === undefined) return sendLargeJson(reply, problem);
      const models = problem.models.filter(({ name }) => name === model);
      if (models.length > 0) return sendLargeJson(reply, { ...problem, models });
      findModel(view, model);
      throw new HttpError(404, 'not_planned', `model ${shorten(model)} is not in the last problem: it is held`);
    },
  );

  app.get(
    '/api/v1/plan',
    {
      config: { access: 'document' },
      schema: {
        tags,
        summary: 'The current plan, whole',
        description: 'With `model`, the lists and the money of that model alone.',
        querystring: modelFilterSchema,
        response: { 200: planSchema, ...notFound, ...notReady },
      },
    },
    async (request, reply) => {
      const { model } = check(modelFilterSchema, request.query, 'query');
      const plan = view.plan();
      if (plan === null) throw noPlanYet('plan');
      if (model === undefined) return sendLargeJson(reply, plan);
      const own = ownPlan(view, plan, findModel(view, model));
      if (own === null) throw notPlanned(model);
      return sendLargeJson(reply, own);
    },
  );

  let planning = 0;
  const refuseWhenBusy = (): void => {
    if (planning < whatIf.concurrency) return;
    throw new HttpError(429, 'busy', `${planning} problems are being planned already; try again in a second`, {
      retryAfterSeconds: 1,
    });
  };
  app.post(
    '/api/v1/plan',
    {
      config: { access: 'compute' },
      bodyLimit: whatIf.largestBodyBytes,
      onRequest: [
        ignoreContentType,
        (_request, _reply, done) => {
          refuseWhenBusy();
          done();
        },
      ],
      schema: {
        tags,
        summary: 'What if: plan another problem, publish nothing',
        description: `At most ${whatIf.largestBodyBytes} bytes, ${whatIf.concurrency} at a time; options.timeLimitMs is cut to ${whatIf.timeLimitMs}.`,
        body: planningProblemSchema,
        response: {
          200: planSchema,
          400: errorSchema,
          413: errorSchema,
          429: errorSchema,
          503: errorSchema,
        },
      },
    },
    async (request): Promise<Plan> => {
      const problem = parseProblem(bodyText(request, 'a PlanningProblem'), whatIf.timeLimitMs);
      refuseWhenBusy();
      planning += 1;
      // Counted until the planning itself ends, not until its client has gone or the deadline has passed.
      const planned = (async () => commands.whatIf(problem))().finally(() => {
        planning -= 1;
      });
      return withDeadline(planned, { deadlineMs: whatIf.deadlineMs, what: 'plan', advice: 'send a smaller problem' });
    },
  );

  app.get(
    '/api/v1/explain',
    {
      config: { access: 'compute' },
      schema: {
        tags,
        summary: 'Why the current plan is as it is, and what would change it',
        description:
          'Made by planning the last problem again with one thing changed at a time, within 10 s; `notComputed` says what is left. Each plan is explained once.',
        querystring: modelFilterSchema,
        response: { 200: explanationSchema, ...notFound, 429: errorSchema, ...notReady },
      },
    },
    async (request, reply) => {
      const { model } = check(modelFilterSchema, request.query, 'query');
      const problem = view.problem();
      if (model !== undefined) findModel(view, model);
      if (problem === null) throw noPlanYet('plan');
      if (model !== undefined && !problem.models.some(({ name }) => name === model)) throw notPlanned(model);
      const answer = await withDeadline(commands.explain(problem, model ?? null), {
        deadlineMs: whatIf.deadlineMs,
        what: 'explanation',
        advice: 'ask for one model',
      });
      if (answer !== 'busy') return sendLargeJson(reply, answer);
      throw new HttpError(429, 'busy', 'other explanations are being made; try again in some seconds', {
        retryAfterSeconds: 5,
      });
    },
  );

  app.get<{ Params: { model: string } }>(
    '/api/v1/routing/:model',
    {
      schema: {
        tags,
        summary: 'Which share of which requests each deployment should take',
        description:
          'Of the replicas that are ready and stay; the plan has the shares of its targets. A request whose replica already holds `fullInFlight` of its deployment goes to the replica with the least part of its own, of the deployments in `to` and `alsoTo`.',
        params: modelParamsSchema,
        response: { 200: routingSchema, ...notFound, ...notReady },
      },
    },
    async (request) => {
      const model = findModel(view, request.params.model);
      const plan = view.plan();
      if (plan === null) throw noPlanYet('plan');
      const planned = plan.models.find(({ name }) => name === model.name);
      if (planned === undefined) throw notPlanned(model.name);
      const { shares, fullInFlight } = view.routingOf(model.name);
      return {
        model: model.name,
        routing: plan.routing,
        status: planned.status,
        planAt: planned.planAt,
        shares: [...shares],
        fullInFlight: Object.fromEntries(fullInFlight),
      };
    },
  );

  app.get(
    '/api/v1/history',
    {
      config: { access: 'document' },
      schema: {
        tags,
        summary: 'Past decisions with their reasons',
        description: 'The newest that match, oldest first.',
        querystring: historyQuerySchema,
        response: { 200: historySchema, 400: errorSchema },
      },
    },
    async (request) => {
      const { model, since, limit } = check(historyQuerySchema, request.query, 'query');
      const sinceMs = since === undefined ? undefined : parseTime(since);
      return {
        decisions: view.history({
          limit,
          ...(model === undefined ? {} : { model }),
          ...(sinceMs === undefined ? {} : { sinceMs }),
        }),
      };
    },
  );

  app.get<{ Params: { namespace: string; deployment: string } }>(
    '/api/v1/replicas/:namespace/:deployment',
    {
      schema: {
        tags,
        summary: 'Whole replicas of one deployment',
        description: 'For the `metrics-api` scaler of KEDA: `valueLocation: replicas`.',
        params: deploymentParamsSchema,
        response: { 200: replicasSchema, ...notFound, ...notReady },
      },
    },
    async (request) => {
      const { namespace, deployment } = request.params;
      const id = shorten(`${namespace}/${deployment}`);
      const published = view.replicasOf(namespace, deployment);
      if (published.kind === 'no-such-deployment') {
        throw new HttpError(404, 'no_such_deployment', `no deployment ${id} is followed`);
      }
      if (published.kind === 'not-known') {
        throw new HttpError(503, 'not_known_yet', `replicas of ${id} are not known yet: ${published.reason}`);
      }
      const { replicas, targetReplicas, status, heldReason, at } = published;
      return { replicas, targetReplicas, status, heldReason, at };
    },
  );
}

function summarise(model: ModelView, plan: Plan | null): ModelSummary {
  const planned = plan?.models.find(({ name }) => name === model.name);
  return {
    name: model.name,
    status: model.status,
    heldReason: model.heldReason,
    planAt: model.planAt,
    demand: model.demand,
    usdPerHour: planned?.usdPerHour ?? null,
    boundUsdPerHour: planned?.boundUsdPerHour ?? null,
    gap: planned?.gap ?? null,
    singleTypeUsdPerHour: model.singleTypeUsdPerHour,
    singleTypeGpu: model.singleTypeGpu,
    simulated: model.simulated,
    deployments: [...model.deployments] as ModelSummary['deployments'],
  };
}

function ownPlan(view: ControllerView, plan: Plan, model: ModelView): Plan | null {
  const prices = new Map<string, number>();
  for (const { id, usdPerReplicaHour } of model.deployments) {
    if (usdPerReplicaHour !== null) prices.set(id, usdPerReplicaHour);
  }
  return planOfModel(plan, model.name, { prices, problem: view.problem() });
}

/** @throws HttpError 404 that names the nearest known model */
function findModel(view: ControllerView, name: string): ModelView {
  const models = view.models();
  const found = models.find((model) => model.name === name);
  if (found !== undefined) return found;
  const nearest = nearestName(
    name,
    models.map((model) => model.name),
  );
  const hint = nearest === undefined ? '' : `; did you mean ${JSON.stringify(nearest)}?`;
  throw new HttpError(
    404,
    'no_such_model',
    `no deployment of a model ${JSON.stringify(shorten(name))} is known${hint}`,
  );
}

function noPlanYet(what: string): HttpError {
  return new HttpError(503, 'not_ready', `no ${what} has been made yet; /readyz says what is missing`);
}

function notPlanned(model: string): HttpError {
  return new HttpError(503, 'not_ready', `model ${shorten(model)} has not been planned yet; /api/v1/models says why`);
}

/** The problem in a body, with its time limit cut to what this route grants. */
function parseProblem(text: string, timeLimitMs: number): PlanningProblem {
  const problem = parsePlanningProblem(text, 'body');
  const { options } = problem;
  return { ...problem, options: { ...options, timeLimitMs: Math.min(options.timeLimitMs, timeLimitMs) } };
}

async function withDeadline<Value>(
  work: Promise<Value>,
  { deadlineMs, what, advice }: { readonly deadlineMs: number; readonly what: string; readonly advice: string },
): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new HttpError(503, 'took_too_long', `no ${what} within ${deadlineMs / 1000} s; ${advice}`));
    }, deadlineMs);
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** ISO 8601 or Unix milliseconds, as Unix milliseconds. */
function parseTime(text: string): number {
  const milliseconds = /^\d{1,16}$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isFinite(milliseconds)) return milliseconds;
  throw new InputError('query', [
    {
      place: 'since',
      found: quoteInput(text),
      expected: 'a time: ISO 8601 (2026-11-20T10:00:00Z) or Unix milliseconds',
    },
  ]);
}
