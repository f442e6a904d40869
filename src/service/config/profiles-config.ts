import { z } from 'zod';
import { answerTimeout, httpUrl, labelName, pemFile } from './values.js';

/** What replicas can do: profiles, and the engines that tell how true they are. */

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

export const profilesSchema = z.strictObject({
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

export const prometheusSchema = z
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

export const enginesSchema = z.strictObject({
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
