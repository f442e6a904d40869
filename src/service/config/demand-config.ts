import { z } from 'zod';
import type { Config } from '../config.js';
import { labelName, name, whole } from './values.js';

/** Where demand comes from. */

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

export const demandSchema = z.strictObject({
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

/** What is read of the engines with `demand.source: prometheus`. */
export function prometheusDemand({ demand }: Pick<Config, 'demand'>): z.output<typeof prometheusDemandSchema> {
  return demand.prometheus ?? prometheusDemandSchema.parse({});
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
