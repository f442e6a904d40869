import { z } from 'zod';
import { knownKindNames } from '../../adapters/kubernetes/scale-kinds.js';
import { weightPrecisions } from '../../core/model-types.js';
import { problemModelSchema } from '../../core/planning-problem.js';
import { largestUsd } from '../../core/profile.js';
import { name, pathPart, replicas, seconds } from './values.js';

/** What there is to plan: deployments, models, GPUs. */

const apiName = z.string().min(1).max(253).nullable().default(null);

/** The object of a cluster that a listed deployment is. */
const targetSchema = z
  .strictObject({
    kind: z
      .string()
      .min(1)
      .max(253)
      .default('Deployment')
      .describe(
        `Its kind: ${knownKindNames.map((kind) => `\`${kind}\``).join(', ')}, or any other that has a \`scale\` subresource, with \`group\`, \`version\` and \`resource\`.`,
      ),
    group: apiName.describe('API group, such as `leaderworkerset.x-k8s.io`; null = as known of the kind.'),
    version: apiName.describe('API version, such as `v1`; null = as known of the kind.'),
    resource: apiName.describe('Plural of the kind, such as `leaderworkersets`; null = as known of the kind.'),
    name: apiName.describe('Its name; null = that of the deployment.'),
  })
  .nullable()
  .default(null)
  .describe('With `actuate`: the object that is scaled; null = a Deployment of that namespace and name.');

/** One deployment that the configuration itself describes. */
export const configuredDeploymentSchema = z
  .strictObject({
    namespace: pathPart.default('default').describe('First half of its id `namespace/name`.'),
    name: pathPart.describe('Second half of its id; the profile carries this name.'),
    model: name.describe('Model name as requests ask for it.'),
    gpuType: name.nullable().default(null).describe('GPU type or one of its aliases; null = its own name.'),
    gpusPerReplica: z.number().min(0).max(100_000).default(1).describe('GPUs that one replica takes.'),
    usdPerReplicaHour: z
      .number()
      .min(0)
      .max(largestUsd)
      .nullable()
      .default(null)
      .describe("Price of a replica; null = the profile's `cost`, else the catalogue's price."),
    minReplicas: replicas.default(0).describe('Always at least this many.'),
    idleMinReplicas: replicas
      .nullable()
      .default(null)
      .describe('At least this many while the model is idle; null on all of a model = 1 on its cheapest.'),
    maxReplicas: replicas.default(1000).describe('Never more than this many.'),
    maxTokens: z.number().gt(0).nullable().default(null).describe('Context limit: input + output tokens.'),
    startupSeconds: z.number().min(0).nullable().default(null).describe('From asked-for to ready.'),
    paused: z.boolean().default(false).describe('Plan it, but publish its current replicas.'),
    target: targetSchema,
  })
  .refine((deployment) => deployment.minReplicas <= deployment.maxReplicas, {
    path: ['minReplicas'],
    error: 'at most maxReplicas',
  });

export const deploymentsSchema = z.strictObject({
  source: z
    .enum(['kubernetes', 'config'])
    .default('kubernetes')
    .describe('`kubernetes`: Deployments with the label `model.aibrix.ai/name`. `config`: the list below.'),
  namespaces: z
    .array(pathPart)
    .max(1000)
    .default([])
    .describe('With `source: kubernetes`: only these namespaces; empty = all.'),
  followConsumers: z
    .boolean()
    .default(true)
    .describe(
      'With `source: kubernetes` or `actuate`: read the HorizontalPodAutoscalers, ScaledObjects and PodAutoscalers that scale the deployments. Their maximum bounds the plan, and `actuate` leaves alone what they scale. What is not allowed is a warning; nothing is actuated meanwhile.',
    ),
  list: z.array(configuredDeploymentSchema).max(100_000).default([]).describe('With `source: config`.'),
});

/** The SLO that a model's profiles should have been made for; a profile made for another one is a warning. */
export const sloSchema = z
  .strictObject({
    ttftSeconds: seconds.nullable().default(null).describe('Time to first token.'),
    ttftSecondsPerInputToken: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('Added to `ttftSeconds` for each token of the prompt: longer prompts may take longer.'),
    tpotSeconds: seconds.nullable().default(null).describe('Time per output token.'),
    e2eSeconds: seconds.nullable().default(null).describe('End to end.'),
    attainment: z.number().gt(0).max(1).default(0.99).describe('Share of requests that must meet it.'),
  })
  .refine((slo) => slo.ttftSecondsPerInputToken === 0 || slo.ttftSeconds !== null, {
    path: ['ttftSecondsPerInputToken'],
    error: '0 without ttftSeconds, to which it is added',
  });

/** Weights of unserved demand are those of the document, with its defaults. */
const { priority, unservedUsdPerRequest, minServedShare } = problemModelSchema.shape;

export const modelSchema = z.strictObject({
  slo: sloSchema
    .nullable()
    .default(null)
    .describe('Objective that the profiles should have been made for; another one is a warning in every plan.'),
  scaleToZero: z
    .boolean()
    .default(false)
    .describe('Something else wakes this model: no replica is kept for it while it is idle.'),
  servedNames: z
    .array(name)
    .max(100)
    .default([])
    .describe(
      'With `demand.source: prometheus`: the names under which engines serve it, where they are others than its own.',
    ),
  priority: priority.describe('Where pools, quotas or the budget are short, higher ones are served first.'),
  unservedUsdPerRequest: unservedUsdPerRequest.describe(
    'Weighs the unserved demand of models of one priority; no price of a plan.',
  ),
  minServedShare: minServedShare.describe(
    'Share of its demand that is served before any priority counts; a plan that cannot is `infeasible`.',
  ),
  weightPrecision: z
    .enum(weightPrecisions)
    .nullable()
    .default(null)
    .describe(
      'Format of its weights, for the check that they fit the GPUs; null = as its name says, else as published.',
    ),
});

const gpus = z.number().min(0).max(1e9);

export const poolSchema = z.strictObject({
  gpuType: name.describe('GPU type or one of its aliases.'),
  gpus: gpus.nullable().describe('GPUs that exist, for all models together; null = no limit.'),
});

const poolList = z.array(poolSchema).max(10_000);

const labelName = '[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?';
const labelKey = `(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?${labelName}`;
/** As the API server reads one term of a label selector: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels */
const selectorTerm = new RegExp(
  `^\\s*(?:!?\\s*${labelKey}|${labelKey}\\s*(?:=|==|!=)\\s*(?:${labelName})?|${labelKey}\\s+(?:in|notin)\\s*\\(\\s*(?:${labelName})?(?:\\s*,\\s*(?:${labelName})?)*\\s*\\)|${labelKey}\\s*[<>]\\s*-?\\d{1,18})\\s*$`,
);

/** What the server would refuse stops the start: later it would only be pools that are never counted. */
function isLabelSelector(text: string): boolean {
  return text.trim() === '' || text.split(/,(?![^(]*\))/).every((term) => selectorTerm.test(term));
}

export const poolsSchema = z.union([
  poolList,
  z.strictObject({
    fromNodes: z
      .boolean()
      .describe(
        'With `deployments.source: kubernetes`: count the GPUs of the nodes that new pods can start on, less what pods of other workloads hold ([how](kubernetes.md#pools-from-nodes)). Needs rights on nodes and pods.',
      ),
    nodeSelector: z
      .string()
      .max(1000)
      .refine(isLabelSelector, { error: 'a label selector, such as team=search,!dedicated' })
      .default('')
      .describe(
        'Label selector as kubectl has it, such as `team=search,!dedicated`: only these nodes are counted; empty = all.',
      ),
    list: poolList
      .default([])
      .describe(
        'Types whose number is given here instead of counted, such as those whose nodes come when pods ask for them.',
      ),
  }),
]);

export const quotaSchema = z.strictObject({
  namespace: pathPart.describe('Its Deployments share the quota.'),
  gpuType: name.describe('GPU type or one of its aliases.'),
  gpus: gpus.describe('GPUs that the namespace may use.'),
});
