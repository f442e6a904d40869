import { z } from 'zod';
import type { DeepReadonly } from '../core/parse.js';
import { largestUsd } from '../core/profile.js';
import { externalMetricsSchema, kedaSchema } from './config/consumers-config.js';
import { demandSchema } from './config/demand-config.js';
import {
  type configuredDeploymentSchema,
  deploymentsSchema,
  modelSchema,
  poolsSchema,
  quotaSchema,
  type sloSchema,
} from './config/fleet-config.js';
import {
  actuateSchema,
  forecastSchema,
  optionsSchema,
  publishSchema,
  simulationSchema,
  stabilitySchema,
} from './config/planning-config.js';
import { enginesSchema, profilesSchema, prometheusSchema } from './config/profiles-config.js';
import { checkTogether } from './config/rules.js';
import { historySchema, logSchema, redisSchema, serverSchema } from './config/server-config.js';
import { name } from './config/values.js';

/**
 * The configuration of the service: every key is declared once, next to its meaning and default, in the sections of
 * `config/`. Validation, the environment variables, the suggestions for misspelt keys and docs/configuration.md all
 * come from this schema.
 */

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
  pools: poolsSchema
    .default([])
    .describe(
      'GPUs that exist, by type: a list, or `{ fromNodes: true }`. With any entry, every type without one is limited to the GPUs that its Deployments were seen to use since the start, and a warning says so.',
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
  keda: kedaSchema.prefault({}),
  externalMetrics: externalMetricsSchema,
  actuate: actuateSchema,
  stability: stabilitySchema.prefault({}),
  options: optionsSchema.prefault({}),
  history: historySchema.prefault({}),
  simulation: simulationSchema.prefault({}),
  log: logSchema.prefault({}),
});

/** As parsed, before its rules are checked. */
export type WholeConfig = z.output<typeof configObject>;

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

/** Settings of a model that the configuration does not name. */
const defaultModelConfig: ModelConfig = modelSchema.parse({});

/** The settings of one model. A record lookup that never reaches into Object.prototype. */
export function modelConfig(config: Config, model: string): ModelConfig {
  return Object.hasOwn(config.models, model) ? config.models[model]! : defaultModelConfig;
}

/** The pools that the configuration gives, and whether the others are counted; null = they are not. */
export function configuredPools({ pools }: Pick<Config, 'pools'>): {
  readonly list: readonly { readonly gpuType: string; readonly gpus: number | null }[];
  readonly fromNodes: { readonly nodeSelector: string } | null;
} {
  if (!('fromNodes' in pools)) return { list: pools, fromNodes: null };
  const { list, fromNodes, nodeSelector } = pools;
  return { list, fromNodes: fromNodes ? { nodeSelector } : null };
}
