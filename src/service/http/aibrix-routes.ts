import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { InputError, quoteInput } from '../../core/input-error.js';
import { check, parseJson } from '../../core/parse.js';
import { aibrixMetricName } from '../../core/published-names.js';
import { aibrixMetric } from '../publication.js';
import type { ControllerCommands, ControllerView } from '../view.js';
import { bodyText, ignoreContentType, refuseEncodedBody } from './body.js';
import { HttpError, sendAibrixError, shorten } from './errors.js';
import {
  aibrixErrorSchema,
  deploymentParamsSchema,
  expectedReplicas,
  largestFixedReplicas,
  messageSchema,
  modelParamsSchema,
  scaleBodySchema,
  scaledSchema,
} from './schemas.js';

/**
 * The routes of AIBrix's GPU optimizer, as its autoscaler and its users call them.
 *
 * Two differences, on purpose: `/scale` takes whole replicas, and bad input is answered with 4xx, not 500.
 */

type DeploymentRoute = { Params: { namespace: string; deployment: string } };

export type AibrixRoutesOptions = {
  readonly view: ControllerView;
  readonly commands: ControllerCommands;
  /** What one replica counts in the metric; AIBrix's autoscaler divides by its `targetValue`, 100. */
  readonly aibrixUnit: number;
};

const tags = ['AIBrix'];
const deploymentErrors = { 400: aibrixErrorSchema, 404: aibrixErrorSchema };

export function registerAibrixRoutes(app: FastifyInstance, { view, commands, aibrixUnit }: AibrixRoutesOptions): void {
  app.get<DeploymentRoute>(
    '/metrics/:namespace/:deployment',
    {
      schema: {
        tags,
        summary: 'The number that the PodAutoscaler reads',
        description: `Exactly one sample: ${aibrixUnit}·n − ${aibrixUnit / 2} for n whole replicas, 0 for none.`,
        params: deploymentParamsSchema,
        response: {
          200: { description: 'Prometheus text', content: { 'text/plain': { schema: z.string() } } },
          404: aibrixErrorSchema,
          503: aibrixErrorSchema,
        },
      },
    },
    (request, reply) => {
      const { namespace, deployment } = request.params;
      const published = view.replicasOf(namespace, deployment);
      if (published.kind === 'no-such-deployment') throw noSuchDeployment(namespace, deployment);
      if (published.kind === 'not-known') {
        throw new HttpError(
          503,
          'not_known_yet',
          `replicas of ${shorten(`${namespace}/${deployment}`)} are not known yet: ${published.reason}`,
        );
      }
      return reply
        .header('content-type', 'text/plain; charset=utf-8')
        .send(metricBody(published.model, aibrixMetric(published.replicas, aibrixUnit)));
    },
  );

  app.post<DeploymentRoute>(
    '/monitor/:namespace/:deployment',
    {
      onRequest: ignoreContentType,
      schema: {
        tags,
        summary: 'Follow a deployment (again)',
        params: deploymentParamsSchema,
        response: { 200: messageSchema, ...deploymentErrors },
      },
    },
    async (request) => {
      const { namespace, deployment } = request.params;
      const outcome = commands.follow(namespace, deployment);
      if (outcome === 'no-such-deployment') throw noSuchDeployment(namespace, deployment);
      return { message: `Deployment optimization ${outcome === 'started' ? 'started' : 'already started'}` };
    },
  );

  app.delete<DeploymentRoute>(
    '/monitor/:namespace/:deployment',
    {
      onRequest: ignoreContentType,
      schema: {
        tags,
        summary: 'Leave a deployment out of every plan until it is followed again',
        description: 'Answers the same for a deployment that is not followed.',
        params: deploymentParamsSchema,
        response: { 200: messageSchema, 400: aibrixErrorSchema },
      },
    },
    async (request) => {
      await commands.unfollow(request.params.namespace, request.params.deployment);
      return { message: 'Deployment optimization stopped' };
    },
  );

  app.get<{ Params: { model: string } }>(
    '/update_profile/:model',
    {
      // A GET in AIBrix, though it reads the store anew and may change the next plan.
      config: { access: 'change' },
      schema: {
        tags,
        summary: 'Read the profiles of a model now',
        params: modelParamsSchema,
        response: { 200: messageSchema, 400: aibrixErrorSchema, 404: aibrixErrorSchema, 500: aibrixErrorSchema },
      },
    },
    async (request, reply) => {
      const { model } = request.params;
      const outcome = await commands.refreshProfiles(model);
      // The texts are AIBrix's own, without the prefix that other errors of this route carry.
      if (outcome === 'no-such-model') return sendAibrixError(reply, 404, `${shorten(model)} not monitored`);
      if (outcome === 'failed') {
        return sendAibrixError(reply, 500, `failed to update workload profile of ${shorten(model)}`);
      }
      return { message: `workload profile of ${model} updated` };
    },
  );

  app.put<DeploymentRoute>(
    '/scale/:namespace/:deployment',
    {
      onRequest: ignoreContentType,
      schema: {
        tags,
        summary: 'Fix the replicas of a deployment, or clear what was fixed',
        description:
          'Whole replicas. The siblings of the deployment adapt. A number below 0 clears every fixed deployment of the same model, and the answer lists them: the next plan decides, and while the model is held what was published before they were fixed.',
        params: deploymentParamsSchema,
        body: scaleBodySchema,
        response: { 200: scaledSchema, ...deploymentErrors, 415: aibrixErrorSchema },
      },
    },
    async (request) => {
      const { namespace, deployment } = request.params;
      refuseEncodedBody(request);
      const { replicas, ttlSeconds } = parseScaleBody(bodyText(request, 'JSON such as {"replicas": 3}'));
      request.asked = { replicas, ttlSeconds };
      const outcome =
        replicas === -1
          ? await commands.clearFixed(namespace, deployment)
          : await commands.fixReplicas(namespace, deployment, replicas, ttlSeconds);
      if (outcome === 'no-such-deployment') throw noSuchDeployment(namespace, deployment);
      // The message is AIBrix's, which cannot tell what −1 did.
      return { message: `Scaled to ${replicas}`, ...(typeof outcome === 'string' ? {} : { cleared: outcome }) };
    },
  );
}

/** The whole body that AIBrix's autoscaler parses: its older parser takes the last word, its newer one is strict. */
export function metricBody(model: string, value: number): string {
  return `# HELP ${aibrixMetricName} Number of suggested replicas.
# TYPE ${aibrixMetricName} gauge
${aibrixMetricName}{model_name="${escapeLabelValue(model)}"} ${value}
`;
}

/** Escapes a label value for the Prometheus text format. */
export function escapeLabelValue(value: string): string {
  return /[\\"\n]/.test(value) ? value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n') : value;
}

/** A `/scale` request: −1 clears. */
export type ScaleRequest = { readonly replicas: number; readonly ttlSeconds: number | null };

/**
 * Parses the body of `PUT /scale`. Replicas may be a number or its text; every number below −1 means −1, and so
 * does an absent `replicas`, as in AIBrix.
 *
 * @throws InputError for anything that is not a whole number, and for more than `largestFixedReplicas`
 */
export function parseScaleBody(text: string): ScaleRequest {
  const body = check(scaleBodySchema, parseJson(text, 'body'), 'body');
  const number =
    typeof body.replicas === 'number'
      ? body.replicas
      : /^\s*[+-]?\d+\s*$/.test(body.replicas)
        ? Number(body.replicas)
        : Number.NaN;
  if (!Number.isInteger(number) || number > largestFixedReplicas) {
    throw new InputError('body', [
      {
        place: 'replicas',
        found: quoteInput(body.replicas),
        expected: expectedReplicas,
      },
    ]);
  }
  const replicas = Math.max(number, -1);
  if (replicas === -1 && body.ttlSeconds !== null) {
    throw new InputError('body', [
      { place: 'ttlSeconds', found: quoteInput(body.ttlSeconds), expected: 'nothing, where replicas are cleared' },
    ]);
  }
  return { replicas, ttlSeconds: body.ttlSeconds };
}

function noSuchDeployment(namespace: string, deployment: string): HttpError {
  return new HttpError(404, 'no_such_deployment', `no deployment ${shorten(`${namespace}/${deployment}`)} is followed`);
}
