import { z } from 'zod';
import { explanationSchema } from '../../core/explanation.js';
import { planSchema, planStatuses } from '../../core/plan.js';
import { planningProblemSchema } from '../../core/planning-problem.js';
import { consumerKinds, engineLatencies } from '../../core/ports.js';
import { scaleFaults } from '../../core/scale.js';
import { forecasterNames } from '../../demand/forecast.js';
import { scaleResults } from '../actuation/actuation-state.js';
import { withheldReasons } from '../actuation/scale-decision.js';
import type { Landing } from '../landing.js';
import { holdRules } from '../replica-holds.js';
import {
  type ActuationView,
  actuationStates,
  type ConsumerView,
  type DecisionRecord,
  type DemandView,
  type DeploymentActuationView,
  type DeploymentView,
  type InputState,
  type ProfileDriftView,
  type SimulatedServiceView,
} from '../view.js';

/**
 * The JSON that our routes take and give, as schemas: the OpenAPI document is made from them, and the tests hold every
 * answer against them. `satisfies` keeps them in step with the types of the view.
 */

const isoTime = z.string().describe('ISO 8601');
const nullableReplicas = z.int().nullable();

export const errorSchema = z
  .strictObject({ error: z.strictObject({ code: z.string(), message: z.string() }) })
  .describe('Error');

export const aibrixErrorSchema = z.strictObject({ error: z.string() }).describe('Error in the shape of AIBrix');

export const messageSchema = z.strictObject({ message: z.string() });

/** AIBrix's message, and for a number below 0 what that did. */
export const scaledSchema = messageSchema.extend({
  cleared: z
    .array(z.string())
    .optional()
    .describe('where replicas are cleared: the deployments (namespace/name) of the model that had been fixed'),
});

export const healthSchema = z.strictObject({ status: z.literal('ok') });

const inputStateSchema = z.strictObject({
  input: z.string().describe('redis | kubernetes | nodes | profiles | traces | config | engines | prometheus'),
  ok: z.boolean(),
  ageSeconds: z.number().nullable().describe('since it was last read whole; null = never'),
  problem: z.string().nullable(),
}) satisfies z.ZodType<InputState>;

const count = z.int().describe('deployments');

const actuationSchema = z.strictObject({
  mode: z.enum(['scale', 'dry-run']),
  problem: z.string().nullable().describe('why numbers do not land although they should; null = they do'),
  eventProblem: z.string().nullable().describe('why Events are not written, which scales all the same'),
  lastWriteAt: isoTime.nullable(),
  waiting: count.describe('deployments that wait for their turn'),
  withheld: z.record(z.enum(withheldReasons), count).describe('deployments whose number is not written, by reason'),
  failing: z
    .partialRecord(z.enum(scaleFaults), count)
    .describe('deployments that could not be scaled when it was last tried, by fault'),
  results: z.record(z.enum(scaleResults), z.int()).describe('attempts since the start'),
  events: z.strictObject({ written: z.int(), failed: z.int() }),
}) satisfies z.ZodType<ActuationView>;

export const readinessSchema = z.strictObject({
  status: z.enum(['ready', 'starting']),
  detail: z.string().describe('one sentence'),
  mode: z.enum(['live', 'shadow']),
  planStatus: z.enum(planStatuses).nullable(),
  inputs: z.array(inputStateSchema),
  held: z.array(z.strictObject({ model: z.string(), reason: z.string().nullable() })),
  actuation: actuationSchema.nullable().describe('null = autoscalers read the numbers, gpumix writes none'),
});

const demandSchema = z.strictObject({
  rps: z.number().describe('mean arrivals over the known intervals [requests/s]'),
  forecastRps: z.number().describe('planned-for arrivals [requests/s]'),
  forecast: z.strictObject({
    method: z.enum(forecasterNames),
    leader: z.enum(forecasterNames).describe('the forecaster that counts most in it'),
    season: z.string().nullable().describe('how its history repeats: day or week; null = the leader uses none'),
    horizonSeconds: z.number().describe('the largest 60 s mean rate of this time is planned for'),
    event: z.string().nullable().describe('cron expression of the calendar entry that it rests on'),
  }),
  knownIntervals: z.int(),
  windowIntervals: z.int(),
  idle: z.boolean(),
  pendingRequests: z.number(),
  inFlightSurplus: z
    .strictObject({
      requests: z.number().describe('in flight beyond what arrivals, completed lengths and profiles explain'),
      addedRps: z.number().describe('planned for beside the forecast because of them [requests/s]'),
    })
    .nullable()
    .describe('null = too little is known to say'),
  meanInputTokens: z.number().nullable(),
  meanOutputTokens: z.number().nullable(),
}) satisfies z.ZodType<DemandView>;

const nullableSeconds = z.number().nullable().describe('mean [s]');

const heldUpSchema = z.strictObject({
  rule: z.enum(holdRules),
  replicas: z.int(),
  wantedReplicas: z.int().describe('the plan that keeps nothing has so many'),
  until: isoTime.nullable().describe('when the rule lets them go; null = when the demand falls further'),
});

const profileDriftSchema = z.strictObject({
  correctionFactor: z
    .number()
    .nullable()
    .describe("factor on the profile's throughputs in the plan; 1 = its own; null = correction is off"),
  loadRatio: z.number().nullable().describe("observed load of a replica; 1 = the profile's throughput"),
  requests: z.number().nullable().describe('that the observation rests on'),
  observedAt: isoTime.nullable(),
  latencies: z.array(
    z.strictObject({
      latency: z.enum(engineLatencies),
      observedSeconds: nullableSeconds,
      profileSeconds: nullableSeconds,
      lowestRatio: z
        .number()
        .nullable()
        .describe('the engines are at least so many times as slow, by this observation'),
      highestRatio: z.number().nullable(),
      driftRatio: z.number().nullable().describe('times as slow as the profile; null = nothing can be said'),
    }),
  ),
  nothingBecause: z.string().nullable(),
}) satisfies z.ZodType<ProfileDriftView>;

const landingSchema = z.strictObject({
  landed: z.boolean().describe('its Deployment asks for what is published'),
  notLandedSeconds: z.number().describe('how long it has asked for something that is not published; 0 = it does not'),
}) satisfies z.ZodType<Landing>;

const consumerSchema = z.strictObject({
  kind: z.enum(consumerKinds),
  namespace: z.string(),
  name: z.string(),
  minReplicas: nullableReplicas.describe('it keeps so many whatever is published; null = not known'),
  maxReplicas: nullableReplicas.describe('it never starts more; null = not known'),
  pausedBy: z.string().nullable().describe('what keeps it from scaling now; null = nothing'),
}) satisfies z.ZodType<ConsumerView>;

const deploymentActuationSchema = z.strictObject({
  state: z.enum(actuationStates),
  why: z
    .enum([...withheldReasons, ...scaleFaults])
    .nullable()
    .describe('it is withheld or failed'),
  message: z.string().nullable(),
  at: isoTime.describe('since when'),
}) satisfies z.ZodType<DeploymentActuationView>;

const deploymentSchema = z.strictObject({
  id: z.string().describe('namespace/name'),
  namespace: z.string(),
  name: z.string(),
  gpuType: z.string(),
  currentReplicas: nullableReplicas,
  readyReplicas: nullableReplicas,
  pendingReplicas: nullableReplicas,
  replicas: nullableReplicas.describe('published now; null = not known'),
  targetReplicas: nullableReplicas,
  usdPerReplicaHour: z.number().nullable(),
  override: z.strictObject({ replicas: z.int(), expiresAt: isoTime.nullable() }).nullable(),
  paused: z.boolean(),
  heldUp: heldUpSchema.nullable().describe('why the plan has more of it than the demand needs now; null = it has not'),
  profileDrift: profileDriftSchema.nullable().describe('its engines beside its profile; null = they are not read'),
  landing: landingSchema.nullable().describe('null = nothing is published to be done, or nobody can tell'),
  consumers: z.array(consumerSchema).describe('the objects that scale it, as far as was seen'),
  actuation: deploymentActuationSchema
    .nullable()
    .describe('what became of its number where gpumix scales it itself; null = it does not'),
  notices: z.array(z.strictObject({ code: z.string(), message: z.string() })),
}) satisfies z.ZodType<DeploymentView>;

const simulatedSchema = z.strictObject({
  windowSeconds: z.number().describe('requests that ended in the last so many seconds'),
  requests: z.int(),
  failed: z.int().describe('lost with their replica, or refused by it'),
  unserved: z.int().describe('never taken by a replica'),
  attainment: z.number().nullable().describe('share that met the SLO of the model; null = none ended, or no SLO'),
  ttftP95Seconds: z.number().nullable(),
  sinceStart: z.strictObject({ requests: z.int(), attainment: z.number().nullable() }),
}) satisfies z.ZodType<SimulatedServiceView>;

const modelSummaryShape = {
  name: z.string(),
  status: z.enum(planStatuses),
  heldReason: z.string().nullable(),
  planAt: isoTime.nullable(),
  demand: demandSchema.nullable(),
  usdPerHour: z.number().nullable().describe('of the target replicas; null = no plan yet'),
  boundUsdPerHour: z.number().nullable().describe('no plan for this demand is cheaper'),
  gap: z.number().nullable(),
  singleTypeUsdPerHour: z
    .number()
    .nullable()
    .describe(
      'cheapest plan on one GPU type, the most within stability.scaleDownStabilizationSeconds; null = none serves it all, or less of that time was seen',
    ),
  singleTypeGpu: z.string().nullable(),
  simulated: simulatedSchema.nullable().describe('what its requests see; null = its replicas are not simulated'),
  deployments: z.array(deploymentSchema),
};

const modelSummarySchema = z.strictObject(modelSummaryShape);
export type ModelSummary = z.output<typeof modelSummarySchema>;

export const modelsSchema = z.strictObject({ models: z.array(modelSummarySchema) });

export const modelDetailSchema = z.strictObject({
  ...modelSummaryShape,
  plan: planSchema.nullable().describe('the current plan of this model; null = none yet'),
});

export const routingSchema = z.strictObject({
  model: z.string(),
  routing: z.enum(['free', 'proportional']),
  status: z.enum(planStatuses),
  planAt: isoTime.nullable(),
  shares: z.array(
    planSchema.shape.shares.element.extend({
      alsoTo: z
        .array(z.string())
        .optional()
        .describe('deployments without a share that serve the bucket within the SLO; absent = none'),
    }),
  ),
  fullInFlight: z
    .record(z.string(), z.number())
    .describe('requests in flight on a full replica, by deployment, at the present mix; absent = not known'),
});

export const replicasSchema = z.strictObject({
  replicas: z.int().describe('to run now, whole'),
  targetReplicas: z.int().describe('where the plan is heading'),
  status: z.enum(planStatuses),
  heldReason: z.string().nullable(),
  at: isoTime,
});

const decisionSchema = z.strictObject({
  at: isoTime,
  model: z.string(),
  status: z.enum(planStatuses),
  heldReason: z.string().nullable(),
  usdPerHour: z.number(),
  rps: z.number(),
  changes: z.array(
    z.strictObject({ deployment: z.string(), from: nullableReplicas, to: nullableReplicas, reason: z.string() }),
  ),
}) satisfies z.ZodType<DecisionRecord>;

export const historySchema = z.strictObject({ decisions: z.array(decisionSchema) });

export const modelFilterSchema = z.strictObject({
  model: z.string().min(1).optional().describe('only this model; a "/" is written %2F'),
});

/** Most decisions that one answer lists. */
const largestHistoryLimit = 1000;

export const historyQuerySchema = z.strictObject({
  model: z.string().min(1).optional(),
  since: z
    .string()
    .optional()
    .describe('only decisions at or after this time: ISO 8601 (2026-11-20T10:00:00Z) or Unix milliseconds'),
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(largestHistoryLimit)
    .default(100)
    .describe('at most this many of the newest'),
});

export const modelParamsSchema = z.strictObject({ model: z.string().describe('model name; a "/" is written %2F') });
export const deploymentParamsSchema = z.strictObject({ namespace: z.string(), deployment: z.string() });

/** Most replicas that `/scale` fixes for one deployment: a number beyond it is a slip, and an expensive one. */
export const largestFixedReplicas = 10_000;

/** Longest life of fixed replicas [s]: one year. Longer is "until cleared", which is what no life means. */
const longestTtlSeconds = 365 * 24 * 3600;

export const expectedReplicas = `a whole number of replicas from 0 to ${largestFixedReplicas}, or -1 to clear`;

export const scaleBodySchema = z
  .strictObject({
    replicas: z
      .union([z.number(), z.string()], expectedReplicas)
      .default(-1)
      .describe(`whole replicas, 0 to ${largestFixedReplicas}, as a number or its text; below 0 clears`),
    ttlSeconds: z.number().min(1).max(longestTtlSeconds).nullable().default(null).describe('clears itself after this'),
  })
  .describe('Replicas to run whatever the plan says');

export { explanationSchema, planningProblemSchema, planSchema };
