import { z } from 'zod';
import type { DeepReadonly } from './parse.js';
import { routingModes } from './planning-problem.js';

/**
 * The whole output of a planning decision, as one plain JSON document with its proof.
 *
 * Money is that of the target: `usdPerHour`, objective, bound, utilization and shares are of `targetReplicas`;
 * `publishedUsdPerHour` is of `replicas`. Contract: gpumix/v1.
 */

/** From best to worst; a plan's status is the worst of its models'. */
export const planStatuses = ['optimal', 'feasible', 'infeasible', 'held'] as const;
export type PlanStatus = (typeof planStatuses)[number];

const unservedReasons = ['slo', 'max_replicas', 'quota', 'capacity', 'budget'] as const;
export type UnservedReason = (typeof unservedReasons)[number];

const money = z.number();

const plannedDeploymentSchema = z.object({
  id: z.string(),
  model: z.string(),
  gpuType: z.string(),
  replicas: z.int().nullable().describe('to publish now; null = not known'),
  targetReplicas: z.int().nullable().describe('where the plan is heading; null = not known'),
  utilization: z.number().describe('work / targetReplicas, in replicas of full load'),
  usdPerHour: money,
  reason: z.string().describe('one sentence'),
});

const bucketSharesSchema = z.object({
  model: z.string(),
  inputTokens: z.number(),
  outputTokens: z.number(),
  rps: z.number(),
  bestEffort: z.boolean().describe('no deployment meets the SLO for it; placed by the nearest servable cell'),
  extrapolated: z.boolean().describe('its work lies beyond a grid'),
  to: z.array(z.object({ deployment: z.string(), share: z.number() })),
  unservedShare: z.number(),
});

const unservedDemandSchema = z.object({
  model: z.string(),
  inputTokens: z.number(),
  outputTokens: z.number(),
  rps: z.number(),
  reason: z.enum(unservedReasons),
});

const planNoticeSchema = z.object({
  code: z.string(),
  message: z.string(),
  model: z.string().optional(),
  deployment: z.string().optional(),
});

const mergingSchema = z.object({
  rawBuckets: z.int(),
  mergedBuckets: z.int(),
  relativeErrorBound: z
    .number()
    .describe('merging alone can make the plan at most this much dearer (before whole replicas)'),
});

/** Present for each priority, highest first, whose models leave demand unserved. */
const scarcitySchema = z.object({
  priority: z.int(),
  unservedRps: z.number().describe('demand of the models of this priority that stays unserved [requests/s]'),
  penaltyUsdPerHour: money.describe('that demand at the price of its models'),
  boundUsdPerHour: money.describe('no plan that serves higher priorities as well has a lower penalty than this'),
  proven: z.boolean().describe('no plan that serves higher priorities as well leaves less unserved'),
});

const plannedModelSchema = z.object({
  name: z.string(),
  status: z.enum(planStatuses),
  heldReason: z.string().nullable(),
  planAt: z.string().nullable().describe('when the numbers of this model were computed'),
  usdPerHour: money,
  switchingUsdPerHour: money.describe('starting and stopping replicas, spread over the horizon'),
  boundUsdPerHour: money.describe(
    'of usdPerHour + switchingUsdPerHour; models that share limits share their bound in proportion',
  ),
  gap: z.number(),
  merging: mergingSchema.optional().describe('present where raw buckets were merged with an error'),
});

export const planSchema = z.object({
  apiVersion: z.literal('gpumix/v1'),
  kind: z.literal('Plan'),
  at: z.string().optional(),
  status: z.enum(planStatuses),
  routing: z.enum(routingModes),
  usdPerHour: money,
  publishedUsdPerHour: money,
  objectiveUsdPerHour: money.describe('usdPerHour + switching, at the unserved demand of this plan'),
  boundUsdPerHour: money.describe('no plan with the same unserved demand is cheaper than this'),
  gap: z.number().describe('(objective − bound) / objective'),
  penaltyUsdPerHour: money,
  switchingUsdPerHour: money,
  deployments: z.array(plannedDeploymentSchema),
  shares: z.array(bucketSharesSchema),
  unserved: z.array(unservedDemandSchema),
  scarcity: z.array(scarcitySchema).describe('unserved demand by priority, highest first; empty where all is served'),
  shortfalls: z.array(planNoticeSchema),
  warnings: z.array(planNoticeSchema),
  models: z.array(plannedModelSchema),
  solver: z.object({ name: z.string(), nodes: z.int(), milliseconds: z.number() }),
});

export type Plan = DeepReadonly<z.output<typeof planSchema>>;
export type PlannedDeployment = DeepReadonly<z.output<typeof plannedDeploymentSchema>>;
export type BucketShares = DeepReadonly<z.output<typeof bucketSharesSchema>>;
export type UnservedDemand = DeepReadonly<z.output<typeof unservedDemandSchema>>;
export type PlanNotice = DeepReadonly<z.output<typeof planNoticeSchema>>;
export type PriorityScarcity = DeepReadonly<z.output<typeof scarcitySchema>>;
export type PlannedModel = DeepReadonly<z.output<typeof plannedModelSchema>>;

/** The worst of some statuses; `optimal` for none. */
export function worstStatus(statuses: readonly PlanStatus[]): PlanStatus {
  return statuses.reduce<PlanStatus>(
    (worst, status) => (planStatuses.indexOf(status) > planStatuses.indexOf(worst) ? status : worst),
    'optimal',
  );
}
