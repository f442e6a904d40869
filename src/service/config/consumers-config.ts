import { z } from 'zod';
import { pemFile, whole } from './values.js';

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
