import { z } from 'zod';
import { parseRedisUrl } from '../../adapters/redis-settings.js';
import { defaultStatePrefix } from '../../adapters/store-keys.js';
import { InputError } from '../../core/input-error.js';
import { pemFile, whole } from './values.js';

/** Where the service listens, what it keeps and what it says. */

export const serverSchema = z.strictObject({
  host: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe('Address to listen on. Inside a Kubernetes cluster the default is 0.0.0.0.'),
  port: whole.min(0).max(65_535).default(8080).describe('Port to listen on; 0 takes a free one.'),
});

export const redisSchema = z
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

export const historySchema = z.strictObject({
  decisions: whole.min(1).max(100_000).default(1000).describe('Past decisions that are remembered.'),
});

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

export const logSchema = z.strictObject({
  level: z.enum(logLevels).default('info').describe('Least severe level that is logged.'),
});
