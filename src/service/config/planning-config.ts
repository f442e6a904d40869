import { z } from 'zod';
import { planOptionsSchema } from '../../core/planning-problem.js';
import { calendarFault } from '../../demand/calendar.js';
import { demandForecasters, forecasterNames } from '../../demand/forecast.js';
import { name, whole } from './values.js';

/** How plans are made and published, and how a fleet is simulated that follows them. */

const calendarEntrySchema = z
  .strictObject({
    cron: z.string().describe('When it begins: five fields, as in `0 9 * * MON-FRI`.'),
    durationSeconds: z.number().gt(0).max(604_800).describe('How long it lasts.'),
    timeZone: z.string().default('UTC').describe('IANA time zone of the expression, such as `Europe/Berlin`.'),
    model: name.nullable().default(null).describe('Model that it concerns; null = all.'),
    rps: z.number().min(0).max(1e9).nullable().default(null).describe('At least this rate while it lasts.'),
    factor: z
      .number()
      .min(1)
      .max(1000)
      .nullable()
      .default(null)
      .describe('So many times the rate before it. One of `rps` and `factor` is needed.'),
  })
  .superRefine((entry, context) => {
    const fault = calendarFault(entry);
    if (fault !== null) context.addIssue({ code: 'custom', path: [fault.key], message: fault.expected });
    if (entry.rps === null && entry.factor === null) {
      context.addIssue({ code: 'custom', path: ['rps'], message: 'a rate, or a factor: without both it does nothing' });
    }
  });

export const forecastSchema = z.strictObject({
  method: z
    .enum(forecasterNames)
    .default('auto')
    .describe(forecasterNames.map((method) => `\`${method}\`: ${demandForecasters[method].about}.`).join(' ')),
  quantile: z
    .number()
    .gt(0)
    .max(1)
    .default(0.95)
    .describe('Share of the times in which the largest rate of the time until new replicas serve is planned for.'),
  startupSeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(180)
    .describe('From asked-for to ready, until it is learnt, of deployments that say nothing.'),
  consumerLagSeconds: z
    .number()
    .min(0)
    .max(3600)
    .default(15)
    .describe('From a published number until an autoscaler has acted on it; the HPA looks every 15 s.'),
  calendar: z
    .array(calendarEntrySchema)
    .max(1000)
    .default([])
    .describe('Known events; they raise the forecast, of a model that is idle too, as long before as replicas need.'),
});

export const actuateSchema = z
  .enum(['none', 'scale', 'dry-run'])
  .default('none')
  .describe(
    '`none`: autoscalers read what is published. `scale`: gpumix writes it into the `scale` of the objects itself, see [actuation](actuation.md). `dry-run`: the same, and the API server checks but stores nothing.',
  );

export const publishSchema = z.strictObject({
  mode: z
    .enum(['live', 'shadow'])
    .default('live')
    .describe('`shadow`: plan and show everything, but publish the current replicas.'),
  aibrixUnit: whole
    .min(4)
    .max(1_000_000)
    .default(100)
    .describe('`targetValue` of the PodAutoscalers: n replicas are published as unit × n − unit / 2.'),
  maxStepsDownPerMinute: whole
    .min(1)
    .nullable()
    .default(null)
    .describe('How far the published replicas of one deployment may fall within a minute; null = no limit.'),
  maxStepsUpPerMinute: whole
    .min(1)
    .nullable()
    .default(null)
    .describe('How far the published replicas of one deployment may rise within a minute; null = no limit.'),
});

export const stabilitySchema = z.strictObject({
  scaleDownStabilizationSeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(300)
    .describe(
      'The most replicas that were planned for within so many seconds are kept, as far as they run; 0 = none. The HPA has 300, too.',
    ),
  scaleDownTolerance: z
    .number()
    .min(0)
    .max(1)
    .default(0.05)
    .describe(
      'Replicas go only where what is left would also serve demand that is larger by this share, so that demand which trembles moves nothing.',
    ),
  minReplicaLifetimeSeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(0)
    .describe('A number that was raised does not fall for so many seconds; 0 = stabilisation alone.'),
});

/** The options of every PlanningProblem that the service makes: the document's keys and defaults. */
export const optionsSchema = planOptionsSchema.extend({
  routing: planOptionsSchema.shape.routing.describe(
    '`free`: shares of its own for every bucket, for a router that follows them. `proportional`: the same for all, as weights of a Service.',
  ),
  startUsdPerReplica: planOptionsSchema.shape.startUsdPerReplica
    .unwrap()
    .nullable()
    .default(null)
    .describe('What starting a replica costs; null = what it costs to run while it starts, by its start-up time.'),
  stopUsdPerReplica: planOptionsSchema.shape.stopUsdPerReplica.describe('What stopping a replica costs.'),
  horizonHours: planOptionsSchema.shape.horizonHours.describe(
    'Starts and stops are spread over this many hours: a move that saves less is not made.',
  ),
  maxBuckets: planOptionsSchema.shape.maxBuckets.describe('Token buckets of a model are merged to at most this many.'),
  timeLimitMs: z
    .number()
    .gt(0)
    .max(600_000)
    .default(planOptionsSchema.parse({}).timeLimitMs)
    .describe(
      'Time for one plan: of a model, or of all models together where they share pools, quotas or a budget. At the limit the best plan found is taken, with its proven bound.',
    ),
  nodeLimit: planOptionsSchema.shape.nodeLimit.describe(
    'Ends the search after this many nodes, however fast the machine; null = no such limit.',
  ),
  relativeGap: planOptionsSchema.shape.relativeGap.describe('Stop within this distance of the proven bound.'),
});

/** How the fleet is built that serves a trace: by `gpumix simulate`, and by the service with simulated engines. */
export const simulationSchema = z.strictObject({
  model: name
    .nullable()
    .default(null)
    .describe('Configured model that the requests of the trace ask for; null = the only one.'),
  catalogueModel: name
    .nullable()
    .default(null)
    .describe("Model of the catalogue whose engine is simulated; null = the one of the model's own name."),
  startsAt: z.iso
    .datetime({ offset: true })
    .default('2026-01-05T00:00:00Z')
    .describe('Simulated time of the first moment of the trace (a Monday): days, weeks and calendars go by it.'),
  startupSeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(180)
    .describe('From the creation of a replica until it serves, where its deployment says nothing (median).'),
  startupSpread: z
    .number()
    .min(0)
    .max(2)
    .default(0.1)
    .describe('Standard deviation of the logarithm of start-up times; 0 = always the median.'),
  meanHoursBetweenFailures: z
    .number()
    .min(0.001)
    .nullable()
    .default(null)
    .describe('A ready replica fails once in so many hours, on average; null = never.'),
  drainSeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(300)
    .describe('What a replica that is taken away has not finished by then fails; it is billed until it is done.'),
  queueTimeoutSeconds: z
    .number()
    .gt(0)
    .max(86_400)
    .default(60)
    .describe('A request that no replica took for so long is unserved.'),
  maxSequences: whole.min(1).max(100_000).default(256).describe('Sequences that a replica runs at once.'),
  maxBatchedTokens: whole.min(1).max(10_000_000).default(8192).describe('Tokens of one step of a replica.'),
});
