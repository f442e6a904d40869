import { externalMetricsGroup as apiGroup, externalMetricsVersion as apiVersion } from '../../core/published-names.js';
import type { ExternalMetricValue } from './metric-values.js';

/** What an aggregated API server says about itself, and its answers, as Kubernetes reads them. */

const groupVersion = `${apiGroup}/${apiVersion}`;

const version = { groupVersion, version: apiVersion };
const group = { name: apiGroup, versions: [version], preferredVersion: version };

export const groupList = { kind: 'APIGroupList', apiVersion: 'v1', groups: [group] };
export const groupDocument = { kind: 'APIGroup', apiVersion: 'v1', ...group };

export function resourceList(metrics: readonly string[]): object {
  const resources = metrics.map((name) => ({
    name,
    singularName: '',
    namespaced: true,
    kind: 'ExternalMetricValueList',
    verbs: ['get'],
  }));
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources };
}

export function valueList(items: readonly ExternalMetricValue[]): object {
  return { kind: 'ExternalMetricValueList', apiVersion: groupVersion, metadata: {}, items };
}

/** Kubernetes' names for what the statuses mean. */
const reasons: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  406: 'NotAcceptable',
  413: 'RequestEntityTooLarge',
  500: 'InternalError',
  503: 'ServiceUnavailable',
};

/** An error as kubectl and the HPA show it. */
export function statusDocument(code: number, message: string): object {
  const reason = reasons[code];
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    ...(reason === undefined ? {} : { reason }),
    code,
  };
}

const valuePath = `/apis/${groupVersion}/namespaces/{namespace}/{metricName}`;
const definition = 'io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValue';

function valueSchemas(prefix: string): object {
  const text = { type: 'string' };
  return {
    [definition]: {
      type: 'object',
      description: 'One number of a metric.',
      required: ['metricName', 'metricLabels', 'timestamp', 'value'],
      properties: {
        metricName: text,
        metricLabels: { type: 'object', additionalProperties: text },
        timestamp: { type: 'string', format: 'date-time' },
        window: { type: 'integer', format: 'int64' },
        value: { type: 'string', description: 'A quantity: 3, 2500m.' },
      },
    },
    [`${definition}List`]: {
      type: 'object',
      description: 'The numbers of a metric in a namespace.',
      required: ['items'],
      properties: {
        apiVersion: text,
        kind: text,
        metadata: { type: 'object' },
        items: { type: 'array', items: { $ref: `${prefix}${definition}` } },
      },
      'x-kubernetes-group-version-kind': [{ group: apiGroup, version: apiVersion, kind: 'ExternalMetricValueList' }],
    },
  };
}

const about = {
  title: 'gpumix external metrics',
  description: 'Whole replicas that gpumix publishes, for autoscalers.',
  version: apiVersion,
};
const operation = { operationId: 'readExternalMetricsV1beta1NamespacedMetric', tags: ['externalMetrics_v1beta1'] };
const parameterNames = [
  ['namespace', 'path'],
  ['metricName', 'path'],
  ['labelSelector', 'query'],
] as const;

/** OpenAPI 2.0, which the aggregator merges into that of the cluster. */
export const openApiV2 = {
  swagger: '2.0',
  info: about,
  paths: {
    [valuePath]: {
      get: {
        ...operation,
        produces: ['application/json'],
        parameters: parameterNames.map(([name, at]) => ({ name, in: at, required: at === 'path', type: 'string' })),
        responses: { 200: { description: 'OK', schema: { $ref: `#/definitions/${definition}List` } } },
      },
    },
  },
  definitions: valueSchemas('#/definitions/'),
};

/** OpenAPI 3.0 of the group, and the path where the list of documents says that it is. */
export const openApiV3Path = `/openapi/v3/apis/${groupVersion}`;

export const openApiV3List = { paths: { [`apis/${groupVersion}`]: { serverRelativeURL: openApiV3Path } } };

export const openApiV3 = {
  openapi: '3.0.0',
  info: about,
  paths: {
    [valuePath]: {
      get: {
        ...operation,
        parameters: parameterNames.map(([name, at]) => ({
          name,
          in: at,
          required: at === 'path',
          schema: { type: 'string' },
        })),
        responses: {
          200: {
            description: 'OK',
            content: { 'application/json': { schema: { $ref: `#/components/schemas/${definition}List` } } },
          },
        },
      },
    },
  },
  components: { schemas: valueSchemas('#/components/schemas/') },
};
