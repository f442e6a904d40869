import { z } from 'zod';
import type { DeepReadonly } from './parse.js';
import { planStatuses } from './plan.js';
import { routingModes } from './planning-problem.js';

/**
 * Why a plan is as it is, as one plain JSON document: what would change it, by how much, and what was not computed.
 *
 * Every figure comes from planning a changed problem again, not from the dual prices of a relaxation: replicas are whole,
 * so that the first GPU more may be worth nothing and the second one a lot. Contract: gpumix/v1.
 */

const money = z.number();
const rate = z.number();
const replicas = z.int();

const unservedByPrioritySchema = z.object({ priority: z.int(), rps: rate });

const replicaChangeSchema = z.object({
  deployment: z.string(),
  from: replicas.nullable(),
  to: replicas.nullable(),
});

/**
 * What the plan of a changed problem differs by. Unserved demand comes before money, as in every plan: money is compared
 * at the unserved demand of each.
 */
const planChangeSchema = z.object({
  unservedRps: rate.describe('change of the demand left unserved; below 0 = more is served'),
  unserved: z
    .array(unservedByPrioritySchema)
    .describe('the same by priority, highest first; only priorities where it changes'),
  usdPerHour: money.describe('change of usdPerHour + switching; below 0 = cheaper'),
  lowestUsdPerHour: money
    .nullable()
    .describe('the proven change is not below this; null = not known, because unserved demand is not proven'),
  highestUsdPerHour: money.nullable().describe('the proven change is not above this'),
  proven: z.boolean().describe('both plans are proven optimal: the three figures of money are one'),
  replicas: z.array(replicaChangeSchema).describe('target replicas that differ, the most expensive changes first'),
  moreReplicaChanges: z.int().describe('changes that are not listed'),
});

export const limitKinds = ['pool', 'quota', 'budget', 'max_replicas', 'floor', 'fixed', 'min_served_share'] as const;

const limitSchema = z.object({
  kind: z.enum(limitKinds),
  gpuType: z.string().optional(),
  namespace: z.string().optional(),
  model: z.string().optional(),
  deployment: z.string().optional(),
  unit: z.enum(['GPUs', 'USD/hour', 'replicas', 'share of demand']),
  limit: z.number(),
  used: z.number().describe('by the target replicas'),
  full: z.boolean().describe('there is no room for one more of the largest replicas that count towards it'),
  binds: z
    .boolean()
    .nullable()
    .describe('without it there is a better plan; null = not computed, or not proven either way'),
  without: planChangeSchema.nullable().describe('the plan without this limit; null = not computed'),
  oneMore: z
    .object({
      by: z.number().describe('the smallest step tried that changes the plan, in the unit of the limit'),
      change: planChangeSchema,
    })
    .nullable()
    .describe('what one more is worth; null = nothing, or not computed'),
});

const demandChangeSchema = z.object({
  factor: z.number().describe('every rps times this'),
  change: planChangeSchema,
});

const budgetChangeSchema = z.object({
  factor: z.number(),
  budgetUsdPerHour: money,
  change: planChangeSchema,
});

const bucketCostSchema = z.object({
  inputTokens: z.number(),
  outputTokens: z.number(),
  rps: rate,
  bestEffort: z.boolean(),
  unservedShare: z.number(),
  usdPerHour: money.describe('its part of the cost of the deployments that serve it, by work'),
  usdPer1000Requests: money.nullable().describe('per 1,000 requests that are served; null = none are'),
  servedBy: z.array(
    z.object({
      deployment: z.string(),
      gpuType: z.string(),
      share: z.number().describe('of the requests of the bucket'),
      usdPer1000Requests: money.describe('per 1,000 requests served there'),
    }),
  ),
});

export const unusedReasons = [
  /** It would be used below the price in `entersBelowUsdPerReplicaHour`. */
  'price',
  /** It would not be used even for nothing. */
  'never',
  /** A limit or a floor leaves no room for one replica. */
  'no_room',
  'cannot_serve',
  /** Proportional routing: another deployment can serve a bucket that this one cannot. */
  'not_common',
  'no_demand',
  'no_profile',
  'max_replicas',
  'fixed',
  'not_computed',
] as const;
export type UnusedReason = (typeof unusedReasons)[number];

const unusedDeploymentSchema = z.object({
  deployment: z.string(),
  gpuType: z.string(),
  usdPerReplicaHour: money,
  why: z.enum(unusedReasons),
  entersBelowUsdPerReplicaHour: money
    .nullable()
    .describe('below this price [USD/replica-hour] the plan uses it; null = at no price, or not computed'),
  proven: z.boolean().describe('above that price it is not used; otherwise it may enter at a higher price already'),
  oneReplica: planChangeSchema.nullable().describe('the plan that must use at least one replica of it'),
});

const runnerUpSchema = z.object({
  replicas: z.array(z.object({ deployment: z.string(), gpuType: z.string(), replicas })),
  change: planChangeSchema,
});

const explainedModelSchema = z.object({
  name: z.string(),
  status: z.enum(planStatuses),
  heldReason: z.string().nullable(),
  usdPerHour: money,
  rps: rate,
  unservedRps: rate,
  sharesLimitsWith: z.int().describe('other models under the same finite pools, quotas or budget'),
  usdPer1000Requests: money.nullable().describe('cost of the deployments with work, per 1,000 requests served'),
  usdPerHourWithoutWork: money.describe('cost of replicas that are given no demand: floors, fixed, not profiled'),
  deployments: z.array(
    z.object({
      id: z.string(),
      gpuType: z.string(),
      targetReplicas: replicas.nullable(),
      usdPerReplicaHour: money,
      usdPerHour: money,
      utilization: z.number(),
    }),
  ),
  buckets: z.array(bucketCostSchema),
  demand: z.array(demandChangeSchema).describe('with less and more demand of this model alone'),
  runnerUp: runnerUpSchema
    .nullable()
    .describe(
      'the best plan with fewer replicas of some deployment of this model: the next best mix, since a plan with more replicas of each is only dearer; null = none, or not computed',
    ),
  unused: z.array(unusedDeploymentSchema),
});

export const explainQuestions = ['limit', 'budget', 'demand', 'runner_up', 'entry_price'] as const;
export type ExplainQuestion = (typeof explainQuestions)[number];

export const notComputedReasons = [
  /** The number of plans that one explanation may make is used up. */
  'solves',
  /** The time of one explanation is used up. */
  'time',
  /** The model, or one that shares limits with it, is held. */
  'held',
  /** The changed problem did not get a plan. */
  'no_plan',
] as const;
export type NotComputedReason = (typeof notComputedReasons)[number];

const notComputedSchema = z.object({
  question: z.enum(explainQuestions),
  reason: z.enum(notComputedReasons),
  count: z.int().describe('how many answers are missing'),
  subjects: z.array(z.string()).describe('the first of them: models, deployments, limits'),
  message: z.string(),
});

export const explanationSchema = z.object({
  apiVersion: z.literal('gpumix/v1'),
  kind: z.literal('Explanation'),
  at: z.string().optional(),
  model: z.string().nullable().describe('the one model that was asked about; null = all'),
  plannedModels: z
    .int()
    .describe('models whose money this is: all, or the one asked about with all that share limits with it'),
  routing: z.enum(routingModes).describe('assumed in every figure'),
  status: z.enum(planStatuses),
  usdPerHour: money,
  switchingUsdPerHour: money,
  objectiveUsdPerHour: money.describe('usdPerHour + switching: what changes are compared with'),
  boundUsdPerHour: money,
  proven: z.boolean(),
  rps: rate,
  unserved: z.array(unservedByPrioritySchema).describe('highest priority first; empty where all is served'),
  sentences: z.array(z.string()).describe('all of this in plain words, what matters most first'),
  limits: z.array(limitSchema),
  budget: z.array(budgetChangeSchema),
  demand: z.array(demandChangeSchema).describe('with less and more demand of all models at once'),
  models: z.array(explainedModelSchema),
  notComputed: z.array(notComputedSchema),
  solver: z.object({
    plans: z.int().describe('problems planned for this explanation'),
    nodes: z.int(),
    milliseconds: z.number(),
  }),
});

/** Why a plan is as it is. */
export type Explanation = DeepReadonly<z.output<typeof explanationSchema>>;
export type PlanChange = DeepReadonly<z.output<typeof planChangeSchema>>;
export type ExplainedLimit = DeepReadonly<z.output<typeof limitSchema>>;
export type ExplainedModel = DeepReadonly<z.output<typeof explainedModelSchema>>;
export type BucketCost = DeepReadonly<z.output<typeof bucketCostSchema>>;
export type UnusedDeployment = DeepReadonly<z.output<typeof unusedDeploymentSchema>>;
export type RunnerUp = DeepReadonly<z.output<typeof runnerUpSchema>>;
export type DemandChange = DeepReadonly<z.output<typeof demandChangeSchema>>;
export type BudgetChange = DeepReadonly<z.output<typeof budgetChangeSchema>>;
export type NotComputed = DeepReadonly<z.output<typeof notComputedSchema>>;
export type UnservedByPriority = DeepReadonly<z.output<typeof unservedByPrioritySchema>>;
