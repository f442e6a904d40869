import { z } from 'zod';
import { parseRedisUrl } from '../adapters/redis-settings.js';
import { defaultStatePrefix } from '../adapters/store-keys.js';
import { InputError } from '../core/input-error.js';
import { weightPrecisions } from '../core/model-types.js';
import { type DeepReadonly, nearestName } from '../core/parse.js';
import { planOptionsSchema, problemModelSchema } from '../core/planning-problem.js';
import { largestUsd } from '../core/profile.js';
import { calendarFault } from '../demand/calendar.js';
import { demandForecasters, forecasterNames } from '../demand/forecast.js';

/**
 * The configuration of the service: every key is declared here once, next to its meaning and default. Validation,
 * the environment variables, the suggestions for misspelt keys and docs/configuration.md all come from this schema.
 */

const whole = z.int();
const replicas = z.int().min(0).max(1_000_000);
const seconds = z.number().gt(0).max(86_400);
const name = z.string().min(1).max(4096);
/** Names that become parts of `namespace/name`: a slash would make two deployments indistinguishable. */
const pathPart = z
  .string()
  .min(1)
  .max(253)
  .refine((text) => !text.includes('/'), { error: 'a name without /' });

const pemFile = z.string().min(1).nullable().default(null);

const serverSchema = z.strictObject({
  host: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe('Address to listen on. Inside a Kubernetes cluster the default is 0.0.0.0.'),
  port: whole.min(0).max(65_535).default(8080).describe('Port to listen on; 0 takes a free one.'),
});

const redisSchema = z
  .strictObject({
    url: z
      .string()
      .superRefine(checkRedisUrl)
      .describe(
        'Server, TLS (`rediss://`), user, password and database in one URL; several hosts or `?cluster=true` are a cluster.',
      ),
    password: z.string().min(1).nullable().default(null).describe('Password; it wins over one in the URL.'),
    statePrefix: z
      .string()
      .min(1)
      .max(200)
      .default(defaultStatePrefix)
      .describe("First part of the names of gpumix's own keys; two gpumix on one Redis need two."),
    caFile: pemFile.describe('With `rediss://`: PEM file of the authority to trust, instead of the system’s.'),
    certFile: pemFile.describe('With `rediss://`: PEM file of the client certificate.'),
    keyFile: pemFile.describe('With `rediss://`: PEM file of the client key.'),
  })
  .nullable()
  .default(null)
  .describe('The shared Redis. Absent: an embedded store inside the process.');

/** What a replayed request takes where nothing else is configured and nothing is simulated: the defaults of `gpumix replay` too. */
export const fixedTimes = { ttftSeconds: 0.5, tpotSeconds: 0.03 } as const;

const replaySchema = z
  .strictObject({
    file: z.string().min(1).describe('Request log `timestamp_ms,input_tokens,output_tokens`, plain or gzip.'),
    model: name.nullable().default(null).describe('Model that the requests ask for; null = the only configured one.'),
    clock: z
      .number()
      .gt(0)
      .max(600)
      .default(60)
      .describe('Simulated seconds a second; the rate stays the true rate of the trace.'),
    startsAt: z.iso
      .datetime({ offset: true })
      .nullable()
      .default(null)
      .describe('Simulated time at which the first request arrives; null = the time of the start.'),
    engines: z
      .enum(['fixed', 'simulated'])
      .default('fixed')
      .describe(
        '`fixed`: every request takes `ttftSeconds` and `tpotSeconds`, whatever replicas there are. `simulated`: a fleet that follows the published replicas serves them, with start-up times, queues and the step times of `simulation`; GPUs and model must be of the catalogue.',
      ),
    ttftSeconds: z
      .number()
      .min(0)
      .max(600)
      .nullable()
      .default(null)
      .describe(`With \`engines: fixed\`: time to first token of a request; null = ${fixedTimes.ttftSeconds}.`),
    tpotSeconds: z
      .number()
      .min(0)
      .max(10)
      .nullable()
      .default(null)
      .describe(`With \`engines: fixed\`: time per output token of a request; null = ${fixedTimes.tpotSeconds}.`),
  })
  .nullable()
  .default(null)
  .describe('With `source: replay`: a request log played in a loop on a virtual clock.');

const labelName = z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/, { error: 'the name of a Prometheus label' });

/** Engines are commonly scraped every 15 or 30 s; an interval must hold at least one scrape. */
export const prometheusIntervalSeconds = 30;

const prometheusDemandSchema = z.strictObject({
  modelLabel: labelName
    .default('model_name')
    .describe('Label of the engines’ series that names the model that they serve.'),
  labels: z
    .record(labelName, z.string().max(1000))
    .default({})
    .describe('Only series with exactly these labels, such as `{ cluster: eu }`.'),
  delaySeconds: z
    .number()
    .min(0)
    .max(120)
    .default(5)
    .describe('How long after its end an interval is asked for: what scrapes and remote writes take to arrive.'),
});

const demandSchema = z.strictObject({
  source: z
    .enum(['redis', 'replay', 'prometheus'])
    .default('redis')
    .describe(
      "`redis`: the gateway's request traces. `replay`: a request log, in the process. `prometheus`: what engines count, as the server of `prometheus` scraped it.",
    ),
  windowSeconds: whole
    .min(10)
    .max(600)
    .default(240)
    .describe('How far back demand looks: a multiple of `intervalSeconds`. Traces live 600 s.'),
  intervalSeconds: whole
    .min(1)
    .max(60)
    .default(10)
    .describe(
      "Length of one trace interval, and time between two plans. AIBrix's gateway writes every 10 s. With `source: prometheus` the default is 30; it must not be shorter than the scrape interval.",
    ),
  replay: replaySchema,
  prometheus: prometheusDemandSchema
    .nullable()
    .default(null)
    .describe('With `source: prometheus`: which series of that server are the engines; null = the defaults.'),
});

const correctionSchema = z.strictObject({
  enabled: z
    .boolean()
    .default(false)
    .describe(
      'Multiply the throughputs of a profile by what its engines’ latencies say; needs `prometheus` or `engines.scrape`.',
    ),
  minFactor: z
    .number()
    .min(0.1)
    .max(1)
    .default(0.5)
    .describe('The factor is never below this: 0.5 plans with half the throughput.'),
  maxFactor: z.number().min(1).max(4).default(1.25).describe('The factor is never above this.'),
  maxStepPerMinute: z
    .number()
    .gt(0)
    .max(1)
    .default(0.05)
    .describe('How far the factor may move within a minute; 0.05 = a twentieth.'),
});

const profilesSchema = z.strictObject({
  source: z
    .enum(['redis', 'files'])
    .default('redis')
    .describe(
      '`redis`: the keys that `gen-profile` writes. `files`: `<model>/<deployment>.json` or `<deployment>.json`.',
    ),
  directory: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('With `source: files`: the folder, relative to the configuration file.'),
  pooling: z
    .enum(['none', 'least-request'])
    .default('none')
    .describe(
      'What the gateway does among the replicas of a deployment. `least-request`: each request goes to the one with the fewest, so that replicas share load and several serve more than so many times the profile of one. `none`: by turns or by chance, and each replica counts as its profile.',
    ),
  correction: correctionSchema.prefault({}),
});

/** A URL of a server that answers over HTTP; user and password in it are sent. */
const httpUrl = z.string().refine(isHttpUrl, { error: 'a URL that begins with http:// or https://' });

function isHttpUrl(text: string): boolean {
  try {
    const { protocol, username, password } = new URL(text);
    decodeURIComponent(username + password);
    return protocol === 'http:' || protocol === 'https:';
  } catch {
    return false;
  }
}

const answerTimeout = z.number().gt(0).max(60).default(5);

const prometheusSchema = z
  .strictObject({
    url: httpUrl.describe('Prometheus, or what speaks its HTTP API; user and password may stand in it.'),
    bearerTokenFile: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe('File with a token to send; read anew each time.'),
    caFile: pemFile.describe('With `https://`: PEM file of the authority to trust, instead of the system’s.'),
    namespaceLabel: labelName.default('namespace').describe('Label of the engines’ series that names the namespace.'),
    podLabel: labelName.default('pod').describe('Label that names the pod, by which a Deployment is known.'),
    deploymentLabel: labelName
      .nullable()
      .default(null)
      .describe('Label that names the deployment itself, where there is one; null = the pod’s name tells it.'),
    timeoutSeconds: answerTimeout.describe('An answer that takes longer is none.'),
  })
  .nullable()
  .default(null)
  .describe(
    'Server that scrapes the engines (vLLM, SGLang): their latencies are compared with the profiles; with `demand.source: prometheus` it tells the demand.',
  );

const enginesSchema = z.strictObject({
  scrape: z
    .array(
      z.strictObject({
        deployment: z
          .string()
          .regex(/^[^/]+\/[^/]+$/, { error: 'namespace/name of a deployment' })
          .describe('Deployment `namespace/name` of which these are replicas.'),
        urls: z.array(httpUrl).min(1).max(10_000).describe('`/metrics` of each of its engines.'),
      }),
    )
    .max(10_000)
    .default([])
    .describe('Engines whose own `/metrics` are read, where no Prometheus does; they win over `prometheus`.'),
  timeoutSeconds: answerTimeout.describe('An engine that answers later is not counted.'),
});

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
  })
  .refine((deployment) => deployment.minReplicas <= deployment.maxReplicas, {
    path: ['minReplicas'],
    error: 'at most maxReplicas',
  });

const deploymentsSchema = z.strictObject({
  source: z
    .enum(['kubernetes', 'config'])
    .default('kubernetes')
    .describe('`kubernetes`: Deployments with the label `model.aibrix.ai/name`. `config`: the list below.'),
  namespaces: z
    .array(pathPart)
    .max(1000)
    .default([])
    .describe('With `source: kubernetes`: only these namespaces; empty = all.'),
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

const modelSchema = z.strictObject({
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

const poolSchema = z.strictObject({
  gpuType: name.describe('GPU type or one of its aliases.'),
  gpus: gpus.nullable().describe('GPUs that exist, for all models together; null = no limit.'),
});

const quotaSchema = z.strictObject({
  namespace: pathPart.describe('Its Deployments share the quota.'),
  gpuType: name.describe('GPU type or one of its aliases.'),
  gpus: gpus.describe('GPUs that the namespace may use.'),
});

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

const forecastSchema = z.strictObject({
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

const publishSchema = z.strictObject({
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

const stabilitySchema = z.strictObject({
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
const optionsSchema = planOptionsSchema.extend({
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

const historySchema = z.strictObject({
  decisions: whole.min(1).max(100_000).default(1000).describe('Past decisions that are remembered.'),
});

/** How the fleet is built that serves a trace: by `gpumix simulate`, and by the service with simulated engines. */
const simulationSchema = z.strictObject({
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

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

const logSchema = z.strictObject({
  level: z.enum(logLevels).default('info').describe('Least severe level that is logged.'),
});

const configObject = z.strictObject({
  server: serverSchema.prefault({}),
  redis: redisSchema,
  demand: demandSchema.prefault({}),
  profiles: profilesSchema.prefault({}),
  prometheus: prometheusSchema,
  engines: enginesSchema.prefault({}),
  deployments: deploymentsSchema.prefault({}),
  models: z
    .record(name, modelSchema)
    .default({})
    .describe('Settings of single models, by model name; a model without an entry has the defaults.'),
  pools: z
    .array(poolSchema)
    .max(10_000)
    .default([])
    .describe(
      'GPUs that exist, by type. With any entry, every type without one is limited to the GPUs that its Deployments were seen to use since the start, and a warning says so.',
    ),
  quotas: z.array(quotaSchema).max(100_000).default([]).describe('GPUs of one type that a namespace may use.'),
  budgetUsdPerHour: z
    .number()
    .min(0)
    .max(largestUsd)
    .nullable()
    .default(null)
    .describe('What all target replicas together may cost; null = no limit.'),
  forecast: forecastSchema.prefault({}),
  publish: publishSchema.prefault({}),
  stability: stabilitySchema.prefault({}),
  options: optionsSchema.prefault({}),
  history: historySchema.prefault({}),
  simulation: simulationSchema.prefault({}),
  log: logSchema.prefault({}),
});

export const configSchema = configObject.superRefine((config, context) =>
  checkTogether(config, context, { demandIsGiven: false }),
);

/** The same for a backtest, whose demand is a trace: what the service reads of demand need not be configured. */
export const backtestConfigSchema = configObject.superRefine((config, context) =>
  checkTogether(config, context, { demandIsGiven: true }),
);

/** The configuration with every default applied. */
export type Config = DeepReadonly<z.output<typeof configSchema>>;
export type ConfiguredDeployment = DeepReadonly<z.output<typeof configuredDeploymentSchema>>;
export type ModelConfig = DeepReadonly<z.output<typeof modelSchema>>;
export type SloConfig = DeepReadonly<z.output<typeof sloSchema>>;

/** What is read of the engines with `demand.source: prometheus`. */
export function prometheusDemand({ demand }: Pick<Config, 'demand'>): z.output<typeof prometheusDemandSchema> {
  return demand.prometheus ?? prometheusDemandSchema.parse({});
}

/** Settings of a model that the configuration does not name. */
const defaultModelConfig: ModelConfig = modelSchema.parse({});

/** The settings of one model. A record lookup that never reaches into Object.prototype. */
export function modelConfig(config: Config, model: string): ModelConfig {
  return Object.hasOwn(config.models, model) ? config.models[model]! : defaultModelConfig;
}

/** True where the replicas that serve are simulated in the process, so that what runs and what is ready is told. */
export function simulatesReplicas({ demand }: Pick<Config, 'demand'>): boolean {
  return demand.source === 'replay' && demand.replay?.engines === 'simulated';
}

/** The model that a replayed request log asks for: the configured one, else the only one there is. */
export function replayedModel(config: Pick<Config, 'demand' | 'deployments'>): string | null {
  const models = new Set(config.deployments.list.map((deployment) => deployment.model));
  return config.demand.replay?.model ?? (models.size === 1 ? [...models][0]! : null);
}

function checkRedisUrl(url: string, context: z.RefinementCtx): void {
  try {
    parseRedisUrl(url, 'redis.url');
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    for (const issue of error.issues) {
      context.addIssue({
        code: 'custom',
        message: `${issue.expected}${issue.place === '' ? '' : ` as ${issue.place}`}`,
      });
    }
  }
}

/** Rules over several keys. Each message is what is expected at the key it names. */
function checkTogether(
  config: z.output<typeof configObject>,
  context: z.RefinementCtx,
  { demandIsGiven }: { readonly demandIsGiven: boolean },
): void {
  const expect = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
  const { demand, deployments, profiles, redis } = config;
  if (demand.windowSeconds % demand.intervalSeconds !== 0) {
    expect(['demand', 'windowSeconds'], `a multiple of demand.intervalSeconds (${demand.intervalSeconds})`);
  }
  if (demand.source === 'redis' && redis === null && !demandIsGiven) {
    expect(['redis'], 'redis: { url: … }, because demand.source is redis (or demand.source: replay)');
  }
  checkPrometheusDemand(config, expect);
  checkReplayEngines(config, expect);
  if (demand.source === 'replay') {
    if (redis !== null) {
      expect(
        ['redis'],
        'no redis with demand.source: replay, which runs on the embedded store (`gpumix replay` plays into Redis)',
      );
    }
    if (demand.intervalSeconds !== 10) {
      expect(
        ['demand', 'intervalSeconds'],
        '10 with demand.source: replay, which writes what an AIBrix gateway writes',
      );
    }
    if (demand.replay === null) expect(['demand', 'replay'], '{ file: … }, because demand.source is replay');
    else if (replayedModel(config) === null) {
      expect(
        ['demand', 'replay', 'model'],
        'the model that the requests ask for (there is not exactly one configured)',
      );
    }
  }
  if (redis?.url.startsWith('redis:')) {
    for (const key of ['caFile', 'certFile', 'keyFile'] as const) {
      if (redis[key] !== null) expect(['redis', key], 'null, because redis.url is not rediss://');
    }
  }
  if (profiles.source === 'redis' && redis === null) {
    expect(['profiles', 'source'], 'files (with profiles.directory), because no redis is configured');
  }
  if (profiles.source === 'files' && profiles.directory === null) {
    expect(['profiles', 'directory'], 'a folder, because profiles.source is files');
  }
  if (deployments.source === 'config' && deployments.list.length === 0) {
    expect(['deployments', 'list'], 'at least one deployment, because deployments.source is config');
  }
  if (deployments.source === 'kubernetes' && deployments.list.length > 0) {
    expect(['deployments', 'source'], 'config, because deployments.list is given');
  }
  checkEngines(config, expect);
  const seen = new Set<string>();
  deployments.list.forEach((deployment, index) => {
    const id = `${deployment.namespace}/${deployment.name}`;
    if (seen.has(id)) expect(['deployments', 'list', index, 'name'], `a name that no other entry has (${id} is twice)`);
    seen.add(id);
  });
}

/** Rules on who serves replayed requests. */
function checkReplayEngines(
  config: z.output<typeof configObject>,
  expect: (path: (string | number)[], message: string) => void,
): void {
  const { demand, deployments } = config;
  if (demand.source !== 'replay' || demand.replay?.engines !== 'simulated') return;
  for (const key of ['ttftSeconds', 'tpotSeconds'] as const) {
    if (demand.replay[key] === null) continue;
    expect(['demand', 'replay', key], 'null with engines: simulated, whose times come of the load (or engines: fixed)');
  }
  if (deployments.source !== 'config') {
    expect(
      ['deployments', 'source'],
      'config with demand.replay.engines: simulated, whose replicas run in the process',
    );
    return;
  }
  const model = replayedModel(config);
  if (model === null) return;
  deployments.list.forEach((deployment, index) => {
    if (deployment.model === model) return;
    const expected = `${model}, which the replayed requests ask for: with demand.replay.engines: simulated there is no other`;
    expect(['deployments', 'list', index, 'model'], expected);
  });
}

/** Rules on demand out of what engines count. */
function checkPrometheusDemand(
  { demand, prometheus, models }: z.output<typeof configObject>,
  expect: (path: (string | number)[], message: string) => void,
): void {
  const isSource = demand.source === 'prometheus';
  if (isSource && prometheus === null) {
    expect(['prometheus'], 'prometheus: { url: … }, because demand.source is prometheus');
  }
  if (!isSource && demand.prometheus !== null) {
    expect(['demand', 'prometheus'], 'null, because demand.source is not prometheus');
  }
  const owners = new Map<string, string>();
  for (const [model, { servedNames }] of Object.entries(models)) {
    if (servedNames.length > 0 && !isSource) {
      expect(['models', model, 'servedNames'], 'no served names, because demand.source is not prometheus');
    }
    servedNames.forEach((served, index) => {
      const path = ['models', model, 'servedNames', index];
      const owner = owners.get(served);
      if (owner !== undefined) expect(path, `a name that no other model is served under (${owner} is)`);
      owners.set(served, model);
    });
  }
}

/** Rules on where engines are read. */
function checkEngines(
  { prometheus, engines, profiles, demand, deployments }: z.output<typeof configObject>,
  expect: (path: (string | number)[], message: string) => void,
): void {
  const isRead = prometheus !== null || engines.scrape.length > 0;
  if (profiles.correction.enabled && !isRead) {
    expect(
      ['profiles', 'correction', 'enabled'],
      'false, or prometheus: { url: … } or engines.scrape, which tell how fast engines are',
    );
  }
  if (isRead && demand.source === 'replay') {
    const path = prometheus === null ? ['engines', 'scrape'] : ['prometheus'];
    expect(path, 'no engines with demand.source: replay: real ones do not serve its simulated requests');
  }
  if (prometheus?.caFile != null && !prometheus.url.startsWith('https:')) {
    expect(['prometheus', 'caFile'], 'null, because prometheus.url is not https://');
  }
  const listed = deployments.list.map(({ namespace, name }) => `${namespace}/${name}`);
  const seen = new Set<string>();
  engines.scrape.forEach(({ deployment }, index) => {
    const path = ['engines', 'scrape', index, 'deployment'];
    if (seen.has(deployment)) expect(path, 'a deployment that no other entry has');
    seen.add(deployment);
    if (deployments.source !== 'config' || listed.includes(deployment)) return;
    const nearest = nearestName(deployment, listed);
    const hint = nearest === undefined ? '' : ` (did you mean ${nearest}?)`;
    expect(path, `a deployment of deployments.list${hint}`);
  });
}

/** One documented key. */
export type ConfigKey = {
  /** Dotted; `[]` is each item of a list, `<model>` each entry of a record. */
  readonly path: string;
  readonly kind: 'section' | 'value';
  /** As a person writes it: `number > 0`, `live | shadow`. */
  readonly type: string;
  /** JSON; undefined = required. */
  readonly fallback: unknown;
  readonly description: string;
  /** Variable that sets it; null for lists, records and what is inside them. */
  readonly environment: string | null;
};

type JsonSchema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
};

/** Every key of the configuration, in the order of the schema. */
export function configKeys(): readonly ConfigKey[] {
  const keys: ConfigKey[] = [];
  const walk = (schema: JsonSchema, path: readonly string[], settable: boolean): void => {
    for (const [key, raw] of Object.entries(schema.properties ?? {})) {
      const inner = raw.anyOf?.find((option) => option.type !== 'null') ?? raw;
      const here = [...path, key];
      const entries = typeof inner.additionalProperties === 'object' ? inner.additionalProperties : undefined;
      const isSection = inner.properties !== undefined || entries !== undefined || inner.items !== undefined;
      keys.push({
        path: here.join('.'),
        kind: inner.properties !== undefined && inner.items === undefined ? 'section' : 'value',
        type: typeOf(raw, inner),
        fallback: raw.default,
        description: raw.description ?? inner.description ?? '',
        environment: settable && !isSection ? variableOf(here) : null,
      });
      if (inner.properties !== undefined) walk(inner, here, settable);
      if (entries !== undefined) walk(entries, [...here, '<model>'], false);
      if (inner.items?.properties !== undefined) walk(inner.items, [...path, `${key}[]`], false);
    }
  };
  walk(z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }) as JsonSchema, [], true);
  return keys;
}

function typeOf(raw: JsonSchema, inner: JsonSchema): string {
  const nullable = raw.anyOf?.some((option) => option.type === 'null') ? ' or null' : '';
  if (inner.enum !== undefined) return inner.enum.join(' \\| ') + nullable;
  if (inner.items !== undefined) return `list${nullable}`;
  if (inner.properties !== undefined || typeof inner.additionalProperties === 'object') return `map${nullable}`;
  const noun = inner.type === 'integer' ? 'whole number' : inner.type === 'string' ? 'text' : (inner.type ?? 'value');
  const low =
    inner.exclusiveMinimum !== undefined
      ? ` > ${inner.exclusiveMinimum}`
      : inner.minimum !== undefined && inner.minimum > Number.MIN_SAFE_INTEGER
        ? ` >= ${inner.minimum}`
        : '';
  const high = inner.maximum !== undefined && inner.maximum < Number.MAX_SAFE_INTEGER ? ` <= ${inner.maximum}` : '';
  return `${noun}${low}${low !== '' && high !== '' ? ',' : ''}${high}${nullable}`;
}

/** `demand.windowSeconds` is GPUMIX_DEMAND_WINDOW_SECONDS; the two keys of `server` go without their section. */
function variableOf(path: readonly string[]): string {
  const parts = path[0] === 'server' ? path.slice(1) : path;
  return `GPUMIX_${parts.map((part) => part.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join('_')}`;
}

/** Keys of the contract that this version does not act on yet: refused with a sentence, never ignored. */
const laterKeys: readonly { readonly pattern: RegExp; readonly what: string }[] = [
  { pattern: /^actuate\b/, what: 'scaling Deployments without an autoscaler' },
];

/** Keys that had another name in an earlier version, with the one that takes their values now. */
const formerKeys: Readonly<Record<string, string>> = { planning: 'options' };

/** The key that an unknown one became, or undefined. */
export function renamedKey(path: string): string | undefined {
  return Object.hasOwn(formerKeys, path) ? formerKeys[path] : undefined;
}

/** What to say about an unknown key instead of a list of the known ones, or undefined. */
export function laterKey(path: string): string | undefined {
  const later = laterKeys.find((entry) => entry.pattern.test(path));
  return later === undefined ? undefined : `no such key: ${later.what} arrives with a later version`;
}

/** The variable that was probably meant, or undefined. */
export function nearestVariable(variable: string): string | undefined {
  return nearestName(
    variable,
    configKeys().flatMap((key) => key.environment ?? []),
  );
}

/** docs/configuration.md: generated, so that it cannot differ from what is accepted. */
export function configReference(): string {
  const rows = configKeys().map((key) => {
    const fallback = key.kind === 'section' ? '' : key.fallback === undefined ? '*required*' : code(key.fallback);
    return `| \`${key.path}\` | ${key.type} | ${fallback} | ${key.environment === null ? '' : `\`${key.environment}\``} | ${key.description} |`;
  });
  return `# Configuration

<!-- Generated from src/service/config.ts: UPDATE_DOCS=1 npx vitest run test/service/config-docs -->

\`gpumix serve --config FILE\` reads YAML, then the environment, then flags; a later one wins. An unknown key is an
error that names the file, the line and the nearest known key. Relative paths start at the folder of the file.

Without a file: inside a Kubernetes cluster, or with \`REDIS_HOST\` set, the service reads Redis and Kubernetes with
the defaults below; otherwise it runs the embedded quickstart.

| key | type | default | environment | meaning |
|---|---|---|---|---|
${rows.join('\n')}

## Environment

A variable that is set to the empty text counts as not set. Besides the variables above:

| variable | meaning |
|---|---|
| \`REDIS_HOST\`, \`REDIS_PORT\` | \`redis.url\` of that host; the port defaults to 6379. \`GPUMIX_REDIS_URL\` wins over them. |
| \`REDIS_PASSWORD\` | \`redis.password\`. \`GPUMIX_REDIS_PASSWORD\` wins over it. |
| \`KUBERNETES_SERVICE_HOST\` | Set by Kubernetes in every container: \`server.host\` is 0.0.0.0 unless configured. |

Kubernetes sets \`GPUMIX_PORT=tcp://…\`, \`REDIS_PORT=tcp://…\` and the like in containers next to a Service of that
name; values of that form are left alone.
`;
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``;
}
