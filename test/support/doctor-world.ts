import { type DoctorFlags, runDoctor } from '../../src/cli/doctor.js';
import { type DoctorReport, doctorReportSchema } from '../../src/service/doctor/report.js';
import { customResources } from './fake-api-resources.js';
import { type RedisServer, startRedisServer } from './redis-server.js';
import { type FakeCluster, manifest, startFakeCluster } from './test-cluster.js';

type Json = Readonly<Record<string, unknown>>;
type ApiManifest = Json & { readonly metadata: Json };

/** A live set-up in which the doctor finds nothing, until a test spoils it: a real Redis and the fake API server. */
export type DoctorWorld = {
  readonly redis: RedisServer;
  readonly cluster: FakeCluster;
  /** Writes an object as it is when all is well, changed as a test says. */
  readonly put: (object: ApiManifest) => void;
  /** Back to the healthy set-up. */
  readonly heal: () => void;
  readonly examine: (flags?: Partial<DoctorFlags>, around?: Around) => Promise<Examination>;
  readonly stop: () => Promise<void>;
};

type Around = {
  readonly environment?: Readonly<Record<string, string>>;
  readonly sleep?: (ms: number) => Promise<void>;
  readonly now?: () => number;
};
export type Examination = { readonly code: number; readonly report: DoctorReport; readonly text: string };

export const externalMetric = {
  group: 'external.metrics.k8s.io',
  version: 'v1beta1',
  resource: 'gpumix_desired_replicas',
  kind: 'ExternalMetricValueList',
  namespaced: true,
  status: false,
  scale: null,
  selectable: [],
  builtIn: true,
} as const;

/** The three deployments of the healthy set-up, each scaled by another kind of object. */
export const names = { aibrix: 'llama-l4', keda: 'llama-a100', hpa: 'llama-h100' } as const;
export const model = 'meta/llama-8b';

export function served(name: string, gpuType: string, rest: Partial<Parameters<typeof manifest>[0]> = {}): ApiManifest {
  return manifest({
    namespace: 'prod',
    name,
    model,
    ...rest,
    annotations: { 'gpumix.dev/gpu-type': gpuType, 'gpumix.dev/min-replicas': '1', ...rest.annotations },
  });
}

export function aibrixPart(
  part: 'gateway-plugins' | 'controller-manager',
  tag: string,
  rest: { readonly replicas?: number; readonly env?: Readonly<Record<string, string>> } = {},
): ApiManifest {
  const env = Object.entries(rest.env ?? {}).map(([name, value]) => ({ name, value }));
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { namespace: 'aibrix-system', name: `aibrix-${part}`, labels: {} },
    spec: {
      replicas: rest.replicas ?? 1,
      selector: { matchLabels: { app: part } },
      template: {
        metadata: { labels: { app: part } },
        spec: { containers: [{ name: part, image: `aibrix/${part}:${tag}`, env }] },
      },
    },
  };
}

export const tracing = { AIBRIX_GPU_OPTIMIZER_TRACING_FLAG: 'true' };
const target = (name: string) => ({ apiVersion: 'apps/v1', kind: 'Deployment', name });

export function podAutoscaler(spec: Json = {}, source: Json = {}, annotations: Json = {}): ApiManifest {
  return {
    apiVersion: 'autoscaling.aibrix.ai/v1alpha1',
    kind: 'PodAutoscaler',
    metadata: { namespace: 'prod', name: names.aibrix, annotations },
    spec: {
      scalingStrategy: 'KPA',
      minReplicas: 0,
      maxReplicas: 20,
      metricsSources: [
        {
          metricSourceType: 'domain',
          protocolType: 'http',
          endpoint: 'gpumix.gpu.svc:8080',
          path: `/metrics/prod/${names.aibrix}`,
          targetMetric: 'vllm:deployment_replicas',
          targetValue: '100',
          ...source,
        },
      ],
      scaleTargetRef: target(names.aibrix),
      ...spec,
    },
  };
}

const exact = { scaleUp: { tolerance: '0' }, scaleDown: { tolerance: '0' } };

export function scaledObject(spec: Json = {}, trigger: Json = {}, metadata: Json = {}): ApiManifest {
  return {
    apiVersion: 'keda.sh/v1alpha1',
    kind: 'ScaledObject',
    metadata: { namespace: 'prod', name: names.keda },
    spec: {
      scaleTargetRef: { name: names.keda },
      minReplicaCount: 1,
      maxReplicaCount: 20,
      advanced: { horizontalPodAutoscalerConfig: { behavior: exact } },
      triggers: [
        {
          type: 'metrics-api',
          metricType: 'AverageValue',
          metadata: {
            url: `http://gpumix.gpu.svc:8080/api/v1/replicas/prod/${names.keda}`,
            valueLocation: 'replicas',
            targetValue: '1',
            ...metadata,
          },
          ...trigger,
        },
      ],
      ...spec,
    },
  };
}

export function hpa(spec: Json = {}, external: Json = {}, metadata: Json = {}): ApiManifest {
  return {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: { namespace: 'prod', name: names.hpa, ...metadata },
    spec: {
      scaleTargetRef: target(names.hpa),
      minReplicas: 1,
      maxReplicas: 20,
      behavior: exact,
      metrics: [
        {
          type: 'External',
          external: {
            metric: { name: 'gpumix_desired_replicas', selector: { matchLabels: { deployment: names.hpa } } },
            target: { type: 'AverageValue', averageValue: '1' },
            ...external,
          },
        },
      ],
      ...spec,
    },
  };
}

export function apiService(service: string, available = 'True'): ApiManifest {
  return {
    apiVersion: 'apiregistration.k8s.io/v1',
    kind: 'APIService',
    metadata: { name: 'v1beta1.external.metrics.k8s.io' },
    spec: { group: 'external.metrics.k8s.io', version: 'v1beta1', service: { namespace: 'gpu', name: service } },
    status: { conditions: [{ type: 'Available', status: available }] },
  };
}

export const profileText = JSON.stringify({ gpu: 'x', cost: 1, indexes: [[8], [64]], tputs: [[2]], created: 1 });

export function traceText(interval = 10): string {
  return JSON.stringify({
    '80:50': 8,
    meta_interval_sec: interval,
    meta_pending_reqs: 0,
    meta_precision: 10,
    meta_queueing_reqs: 0,
    meta_total_reqs: 9,
    meta_v: 4,
  });
}

/** The end of the interval that is over at last. [s] */
export function lastTick(): number {
  return Math.floor(Date.now() / 10_000) * 10;
}

export async function startDoctorWorld(): Promise<DoctorWorld> {
  const redis = await startRedisServer();
  const cluster = await startFakeCluster({
    resources: [customResources.scaledObjects, customResources.podAutoscalers, externalMetric],
  });
  const { server } = cluster;
  const put = (object: ApiManifest) => void server.put(object);
  const kinds = ['deployments', 'horizontalpodautoscalers', 'scaledobjects', 'podautoscalers', 'apiservices'];
  const heal = () => {
    server.fault = () => undefined;
    for (const kind of kinds) {
      for (const { metadata } of server.objects(kind)) server.remove(metadata.namespace ?? null, metadata.name, kind);
    }
    put(served(names.aibrix, 'L4', { annotations: { 'gpumix.dev/min-replicas': '0' } }));
    put(served(names.keda, 'A100-80GB'));
    put(served(names.hpa, 'H100'));
    put(aibrixPart('gateway-plugins', 'v0.3.0', { env: tracing }));
    put(aibrixPart('controller-manager', 'v0.4.1'));
    put(podAutoscaler());
    put(scaledObject());
    put(hpa());
    put(apiService('gpumix-metrics'));
    redis.command('FLUSHALL');
    for (const name of Object.values(names)) redis.command('SET', `aibrix:profile_${model}_${name}`, profileText);
    redis.command('SET', `aibrix:${model}_request_trace_${lastTick()}`, traceText(), 'EX', '600');
  };
  return {
    redis,
    cluster,
    put,
    heal,
    async examine(flags = {}, around = {}) {
      const run = async (json: boolean) => {
        let text = '';
        const code = await runDoctor(
          { redis: redis.url, kubeconfig: cluster.kubeconfig, timeout: 5, json, all: false, ...flags },
          {
            environment: {},
            write: (piece) => {
              text += piece;
            },
            color: false,
            width: 100,
            sleep: async () => {},
            ...around,
          },
        );
        return { code, text };
      };
      const { code, text: json } = await run(true);
      return { code, report: doctorReportSchema.parse(JSON.parse(json)), text: (await run(false)).text };
    },
    async stop() {
      await cluster.stop();
      await redis.stop();
    },
  };
}
