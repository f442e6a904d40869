import { z } from 'zod';
import { InputError } from './input-error.js';
import { check, type DeepReadonly, parseJson } from './parse.js';
import { largestRps, largestTokens, largestUsd, profileGridSchema } from './profile.js';

/**
 * The whole input of a planning decision, as one plain JSON document.
 *
 * Glossary: a *model* is what users ask for by name; a *deployment* (`namespace/name`) is one model on one GPU
 * arrangement, scaled in whole replicas; a *bucket* is a cell of (input tokens, output tokens) with a request rate;
 * a *profile* says how many requests/s of a bucket one replica serves within the SLO.
 *
 * Contract: gpumix/v1. Every optional key has its default here; `PlanningProblem` is the document with defaults applied.
 */

const name = z.string().min(1).max(4096);
const nonNegative = z.number().min(0);
const tokens = nonNegative.max(largestTokens);
const usd = nonNegative.max(largestUsd);
const wholeReplicas = z.int().min(0).max(1_000_000);

const bucketDemandSchema = z.strictObject({
  inputTokens: tokens.describe('prompt tokens'),
  outputTokens: tokens.describe('generated tokens'),
  rps: nonNegative.max(largestRps).describe('arrivals [requests/s]'),
});

export const problemDeploymentSchema = z
  .strictObject({
    id: name.describe('namespace/name'),
    gpuType: name,
    gpusPerReplica: nonNegative.default(1).describe('GPUs that one replica takes'),
    usdPerReplicaHour: usd.describe('price of one replica [USD/hour]'),
    minReplicas: wholeReplicas.default(0).describe('always at least this many'),
    idleMinReplicas: wholeReplicas.default(0).describe('at least this many while the model is idle (every rps is 0)'),
    maxReplicas: wholeReplicas.default(1000),
    currentReplicas: wholeReplicas.nullable().default(null).describe('replicas asked for now; null = not known'),
    readyReplicas: wholeReplicas.nullable().default(null),
    pendingReplicas: wholeReplicas.nullable().default(null),
    fixedReplicas: wholeReplicas.nullable().default(null).describe('set by a person: exactly this many'),
    startupSeconds: nonNegative.nullable().default(null),
    startUsdPerReplica: usd.optional().describe('price of starting a replica; absent = that of the options'),
    stopUsdPerReplica: usd.optional().describe('price of stopping a replica; absent = that of the options'),
    targetUtilization: z.number().gt(0).max(1).default(1).describe('share of a replica that the plan may fill'),
    poolingFactor: z
      .number()
      .min(1)
      .max(10)
      .default(1)
      .describe('what a replica serves beside others that share its load, as a multiple of its profile'),
    maxTokens: z.number().gt(0).nullable().default(null).describe('context limit: input + output tokens'),
    profile: profileGridSchema
      .nullable()
      .describe(
        'throughput within the SLO; null = none known: fixed at its current replicas, serves nothing in the plan',
      ),
  })
  .refine((deployment) => deployment.minReplicas <= deployment.maxReplicas, {
    path: ['minReplicas'],
    message: 'at most maxReplicas',
  });

const previousShareSchema = z.strictObject({
  inputTokens: tokens,
  outputTokens: tokens,
  to: z.array(
    z.strictObject({
      deployment: name,
      share: z
        .number()
        .min(0)
        .max(1 + 1e-9),
    }),
  ),
});

export const problemModelSchema = z
  .strictObject({
    name,
    priority: z.int().default(0).describe('higher is served first'),
    unservedUsdPerRequest: usd.default(1000).describe('weighs models of equal priority [USD/request]'),
    minServedShare: z.number().min(0).max(1).default(0),
    demand: z.array(bucketDemandSchema),
    deployments: z.array(problemDeploymentSchema),
    previousShares: z
      .array(previousShareSchema)
      .default([])
      .describe('shares of the plan in force: among plans of equal cost and utilisation the nearest is chosen'),
  })
  .superRefine((model, context) => {
    reportRepeats(model.deployments, (deployment) => deployment.id, ['deployments'], 'id', context);
  });

export const routingModes = ['free', 'proportional'] as const;

export const planOptionsSchema = z.strictObject({
  routing: z.enum(routingModes).default('free'),
  startUsdPerReplica: usd.default(0),
  stopUsdPerReplica: usd.default(0),
  horizonHours: z.number().gt(0).default(1),
  maxBuckets: z.int().min(1).max(100_000).default(256).describe('raw buckets are merged to at most this many'),
  timeLimitMs: z.number().gt(0).default(1000),
  nodeLimit: z.int().min(1).nullable().default(null).describe('deterministic limit on branch-and-bound nodes'),
  relativeGap: z.number().min(0).max(1).default(0).describe('stop within this distance of the bound'),
});

export const planningProblemSchema = z
  .strictObject({
    apiVersion: z.literal('gpumix/v1'),
    kind: z.literal('PlanningProblem'),
    at: z.iso.datetime({ offset: true }).optional(),
    models: z.array(problemModelSchema).max(100_000),
    pools: z.array(z.strictObject({ gpuType: name, gpus: nonNegative.nullable() })).default([]),
    quotas: z.array(z.strictObject({ namespace: name, gpuType: name, gpus: nonNegative })).default([]),
    budgetUsdPerHour: nonNegative.nullable().default(null),
    options: planOptionsSchema.prefault({}),
  })
  .superRefine((problem, context) => {
    reportRepeats(problem.models, (model) => model.name, ['models'], 'name', context);
    const seen = new Map<string, string>();
    problem.models.forEach((model, m) => {
      model.deployments.forEach((deployment, d) => {
        const other = seen.get(deployment.id);
        if (other !== undefined && other !== model.name) {
          context.addIssue({
            code: 'custom',
            path: ['models', m, 'deployments', d, 'id'],
            message: `an id of its own (model ${JSON.stringify(other)} has it too)`,
          });
        }
        seen.set(deployment.id, model.name);
      });
    });
  });

function reportRepeats<Item>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
  path: readonly string[],
  key: string,
  context: z.RefinementCtx,
): void {
  const seen = new Set<string>();
  items.forEach((item, index) => {
    const value = keyOf(item);
    if (seen.has(value)) {
      context.addIssue({
        code: 'custom',
        path: [...path, index, key],
        message: `${key === 'id' ? 'an' : 'a'} ${key} that no other entry has`,
      });
    }
    seen.add(value);
  });
}

/** A document as a person writes it: optional keys may be absent. */
export type PlanningProblemInput = z.input<typeof planningProblemSchema>;
/** The document with every default applied: what `plan()` takes. */
export type PlanningProblem = DeepReadonly<z.output<typeof planningProblemSchema>>;
export type ProblemModel = DeepReadonly<z.output<typeof problemModelSchema>>;
export type ProblemDeployment = DeepReadonly<z.output<typeof problemDeploymentSchema>>;
export type BucketDemand = DeepReadonly<z.output<typeof bucketDemandSchema>>;
export type PlanOptions = DeepReadonly<z.output<typeof planOptionsSchema>>;

/**
 * Longest problem text that is parsed, in characters: 1,000 models with full windows have about 10 million. A larger one
 * would hold the process for seconds before its first fault is found.
 */
export const largestProblemText = 64 * 1024 * 1024;

/** What it costs to start and to stop one replica of a deployment [USD]. */
export function switchingPrices(
  { startUsdPerReplica, stopUsdPerReplica }: Pick<ProblemDeployment, 'startUsdPerReplica' | 'stopUsdPerReplica'>,
  options: Pick<PlanOptions, 'startUsdPerReplica' | 'stopUsdPerReplica'>,
): { readonly startUsd: number; readonly stopUsd: number } {
  return {
    startUsd: startUsdPerReplica ?? options.startUsdPerReplica,
    stopUsd: stopUsdPerReplica ?? options.stopUsdPerReplica,
  };
}

/** Is a model without demand? Then its idle floors bind. */
export function isIdle(model: ProblemModel): boolean {
  return model.demand.every((bucket) => bucket.rps === 0);
}

/**
 * Parses the JSON text of a PlanningProblem and applies its defaults.
 *
 * @param source names the document in errors: a file, `stdin`, a route
 * @param largestText for a caller that has bounded the text already, and told its user how
 * @throws InputError that names path, found and expected
 */
export function parsePlanningProblem(
  text: string,
  source: string,
  largestText: number = largestProblemText,
): PlanningProblem {
  if (text.length > largestText) {
    throw new InputError(source, [
      { place: '', found: `${text.length} characters`, expected: `at most ${largestText} characters` },
    ]);
  }
  return check(planningProblemSchema, parseJson(text, source), source);
}
