import { z } from 'zod';
import { pathPart, pemFile, whole } from './values.js';

/** Who reads the numbers besides HTTP clients, on ports of their own. */

const host = z.string().min(1).nullable().default(null).describe('Address to listen on; null = that of `server.host`.');

const scalerSchema = z
  .strictObject({
    host,
    port: whole.min(0).max(65_535).default(9090).describe('Port of the gRPC server; 0 takes a free one.'),
    certFile: pemFile.describe('PEM file of its certificate; null = in the clear. Read again while it runs.'),
    keyFile: pemFile.describe('PEM file of the key of `certFile`.'),
    clientCaFile: pemFile.describe(
      'PEM file of the authority whose client certificates are let in; null = no client certificate is asked for.',
    ),
  })
  .nullable()
  .default(null)
  .describe("KEDA's external scaler over gRPC (triggers `external` and `external-push`). Null: it is off.");

export const kedaSchema = z.strictObject({ scaler: scalerSchema });

const requiredPem = z.string().min(1);

export const externalMetricsSchema = z
  .strictObject({
    host,
    port: whole.min(0).max(65_535).default(8443).describe('Port of the HTTPS server; 0 takes a free one.'),
    certFile: requiredPem.describe(
      'PEM file of its certificate, for `<serviceName>.<serviceNamespace>.svc`. Read again while it runs.',
    ),
    keyFile: requiredPem.describe('PEM file of the key of `certFile`.'),
    serviceName: pathPart.default('gpumix-external-metrics').describe('The Service that the APIService names.'),
    serviceNamespace: pathPart
      .nullable()
      .default(null)
      .describe('Namespace of that Service; null = the one that gpumix runs in.'),
  })
  .nullable()
  .default(null)
  .describe(
    'The Kubernetes external metrics API, for the HPA and AIBrix. One server has it in a cluster: it does not start beside KEDA or prometheus-adapter. Null: it is off.',
  );
