import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/**
 * What KEDA's external scaler says over gRPC, package `externalscaler`: names and numbers of the fields are the contract.
 *
 * Described here, and not read from a .proto file at run time: seven messages need no parser and no file beside the code.
 * samples/keda/external-scaler.proto is the same for people and for clients; a test talks to the service through it.
 */

/** Who asks: a ScaledObject, and what its trigger says. */
export type ScaledObjectRef = {
  readonly name: string;
  readonly namespace: string;
  /** Metadata of the trigger, without what KEDA itself reads. */
  readonly scalerMetadata: Readonly<Record<string, string>>;
};

export type IsActiveResponse = { readonly result: boolean };

export type MetricSpec = {
  readonly metricName: string;
  /** Read by KEDA where the float is not > 0, and by versions that know no float. */
  readonly targetSize: number;
  readonly targetSizeFloat: number;
};

export type GetMetricSpecResponse = { readonly metricSpecs: readonly MetricSpec[] };

export type GetMetricsRequest = {
  /** Null where a client sent none. */
  readonly scaledObjectRef: ScaledObjectRef | null;
  readonly metricName: string;
};

export type MetricValue = {
  readonly metricName: string;
  /** KEDA reads the float only where it is > 0: zero is said here. */
  readonly metricValue: number;
  readonly metricValueFloat: number;
};

export type GetMetricsResponse = { readonly metricValues: readonly MetricValue[] };

const messages = {
  ScaledObjectRef: {
    fields: {
      name: { type: 'string', id: 1 },
      namespace: { type: 'string', id: 2 },
      scalerMetadata: { keyType: 'string', type: 'string', id: 3 },
    },
  },
  IsActiveResponse: { fields: { result: { type: 'bool', id: 1 } } },
  GetMetricSpecResponse: { fields: { metricSpecs: { rule: 'repeated', type: 'MetricSpec', id: 1 } } },
  MetricSpec: {
    fields: {
      metricName: { type: 'string', id: 1 },
      targetSize: { type: 'int64', id: 2 },
      targetSizeFloat: { type: 'double', id: 3 },
    },
  },
  GetMetricsRequest: {
    fields: {
      scaledObjectRef: { type: 'ScaledObjectRef', id: 1 },
      metricName: { type: 'string', id: 2 },
    },
  },
  GetMetricsResponse: { fields: { metricValues: { rule: 'repeated', type: 'MetricValue', id: 1 } } },
  MetricValue: {
    fields: {
      metricName: { type: 'string', id: 1 },
      metricValue: { type: 'int64', id: 2 },
      metricValueFloat: { type: 'double', id: 3 },
    },
  },
};

const methods = {
  IsActive: {
    requestType: 'ScaledObjectRef',
    responseType: 'IsActiveResponse',
    comment: 'Whether there should be any replica.',
  },
  StreamIsActive: {
    requestType: 'ScaledObjectRef',
    responseType: 'IsActiveResponse',
    responseStream: true,
    comment: 'The same, at once and whenever it changes.',
  },
  GetMetricSpec: {
    requestType: 'ScaledObjectRef',
    responseType: 'GetMetricSpecResponse',
    comment: 'The metric and its target.',
  },
  GetMetrics: {
    requestType: 'GetMetricsRequest',
    responseType: 'GetMetricsResponse',
    comment: 'The number.',
  },
  // StreamMetricSpec is left out, hence answered UNIMPLEMENTED: it tells of targets that change, and ours is always 1.
};

/** The service as grpc-js serves it. */
export function externalScalerService(): ServiceDefinition<UntypedServiceImplementation> {
  const packages = fromJSON(
    { nested: { externalscaler: { nested: { ExternalScaler: { methods }, ...messages } } } },
    { longs: Number, defaults: true },
  );
  return packages['externalscaler.ExternalScaler'] as ServiceDefinition<UntypedServiceImplementation>;
}
