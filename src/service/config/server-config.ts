import { z } from 'zod';
import { parseRedisUrl, type RedisSentinel } from '../../adapters/redis-settings.js';
import { defaultStatePrefix } from '../../adapters/store-keys.js';
import { InputError } from '../../core/input-error.js';
import { pemFile, whole } from './values.js';

/** Where the service listens, what it keeps and what it says. */

const texts = z.array(z.string().min(1).max(1000)).max(100);

const tokenReviewSchema = z
  .strictObject({
    audiences: texts
      .min(1)
      .default(['gpumix'])
      .describe(
        'A token must be meant for one of them: `kubectl create token NAME --audience gpumix`, or a projected volume.',
      ),
    users: texts
      .default([])
      .describe(
        'Users that may do everything, such as `system:serviceaccount:ops:gpumix-admin`; empty = the cluster is asked about each path (`nonResourceURLs` of a ClusterRole).',
      ),
  })
  .nullable()
  .default(null)
  .describe('Bearer tokens that the cluster checks (TokenReview, SubjectAccessReview), instead of `tokenFile`.');

export const serverSchema = z.strictObject({
  host: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe('Address to listen on. Inside a Kubernetes cluster the default is 0.0.0.0.'),
  port: whole.min(0).max(65_535).default(8080).describe('Port to listen on; 0 takes a free one.'),
  tokenFile: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      'File of bearer tokens, one a line, that may change something or have something computed ([who may do what](security.md)); read again when it changes.',
    ),
  tokenReview: tokenReviewSchema,
  allowUnauthenticated: z
    .boolean()
    .default(false)
    .describe(
      '`true`: whoever reaches the port may use every route. Needed where `host` is not loopback and neither of the two above says who may, else these routes answer 401.',
    ),
  requestsPerMinute: whole
    .min(1)
    .max(1_000_000)
    .nullable()
    .default(600)
    .describe(
      'Of one client address to routes that change something, to those that compute, and to those that hand out whole documents, each; numbers of single deployments are never limited, nor is anything where `host` is loopback; null = no limit.',
    ),
  allowedHosts: z
    .array(z.string().regex(/^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/i, { error: 'a host name, without port' }))
    .max(100)
    .default([])
    .describe(
      'Further names under which requests may ask where `host` is loopback (a proxy on this machine); elsewhere, the only names, where there is any. Addresses always may.',
    ),
});

export const redisSchema = z
  .strictObject({
    url: z
      .string()
      .superRefine(checkRedisUrl)
      .describe(
        'Server, TLS (`rediss://`), user, password and database in one URL; several hosts or `?cluster=true` are a cluster, with `?sentinel=NAME` they are the Sentinels (`redis://host:26379,host:26379/0?sentinel=mymaster`) of the master of that name.',
      ),
    password: z.string().min(1).nullable().default(null).describe('Password; it wins over one in the URL.'),
    sentinelUsername: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe('With `?sentinel=`: user of the Sentinels, where they ask for one; `password` is not theirs.'),
    sentinelPassword: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe('With `?sentinel=`: password of the Sentinels, where they ask for one.'),
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
  .superRefine(checkSentinelKeys)
  .nullable()
  .default(null)
  .describe('The shared Redis. Absent: an embedded store inside the process.');

function checkSentinelKeys(
  redis: { readonly url: string; readonly sentinelUsername: string | null; readonly sentinelPassword: string | null },
  context: z.RefinementCtx,
): void {
  if (sentinelOf(redis.url) !== null) return;
  for (const key of ['sentinelUsername', 'sentinelPassword'] as const) {
    if (redis[key] === null) continue;
    context.addIssue({
      code: 'custom',
      path: [key],
      message: 'it only where redis.url names Sentinels: redis://host:26379/0?sentinel=NAME',
    });
  }
}

/** Null also where the URL is wrong, which its own check says. */
function sentinelOf(url: string): RedisSentinel | null {
  try {
    return parseRedisUrl(url, 'redis.url').sentinel;
  } catch {
    return null;
  }
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

export const historySchema = z.strictObject({
  decisions: whole.min(1).max(100_000).default(1000).describe('Past decisions that are remembered.'),
});

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

export const logSchema = z.strictObject({
  level: z.enum(logLevels).default('info').describe('Least severe level that is logged.'),
});
