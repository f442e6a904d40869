import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js';
import Fastify from 'fastify';
import { connectToCluster } from '../src/adapters/kubernetes/api-client.js';
import { desiredReplicasMetric } from '../src/core/published-names.js';
import { valueList } from '../src/service/external-metrics/api-documents.js';
import { parseLabelSelector } from '../src/service/external-metrics/label-selector.js';
import { MetricValues } from '../src/service/external-metrics/metric-values.js';
import { MetricsServer } from '../src/service/external-metrics/metrics-server.js';
import { scalerMetricName } from '../src/service/keda/external-scaler.js';
import { externalScalerService, type GetMetricsResponse } from '../src/service/keda/scaler-protocol.js';
import { ScalerServer } from '../src/service/keda/scaler-server.js';
import { createLogger } from '../src/service/log.js';
import { deploymentView, modelView, scriptedController } from '../test/support/scripted-view.js';
import { certificateAuthority, type Pair } from '../test/support/self-signed.js';
import { kubeconfigText } from '../test/support/test-cluster.js';

/**
 * The two servers of `consumers.ts` on 3,000 deployments, with an API server that knows the authority of front proxies; beside
 * them what they are measured with: grpc-js and Fastify that always answer the same, with the same TLS.
 */

/** What the process tells its parent once it answers. */
export type ConsumersProcess = {
  readonly grpcPort: number;
  readonly bareGrpcPort: number;
  readonly metricsPort: number;
  readonly bareMetricsPort: number;
  readonly ca: string;
  readonly client: Pair;
  readonly deployments: readonly { readonly namespace: string; readonly name: string }[];
  /** Paths of one deployment each, and of a model's hundred. */
  readonly one: readonly string[];
  readonly selected: readonly string[];
};

/** What it answers to any message: processor time so far [ms]. */
export type ConsumersCpu = { readonly cpuMs: number };

const authority = certificateAuthority(new Date());
const models = Array.from({ length: 30 }, (_, m) =>
  modelView({
    name: `model-${m}`,
    deployments: Array.from({ length: 100 }, (_unused, d) =>
      deploymentView({ namespace: 'bench', name: `m${m}-d${d}` }),
    ),
  }),
);
// The controller looks a deployment up; the scripted one would search.
const published = new Map(
  models.flatMap((model) => model.deployments.map(({ id }) => [id, { model: model.name, replicas: 3 }] as const)),
);
const { view: scripted } = scriptedController({ models });
const view: typeof scripted = {
  ...scripted,
  replicasOf: (namespace, name) => {
    const entry = published.get(`${namespace}/${name}`);
    if (entry === undefined) return { kind: 'no-such-deployment' };
    const at = '2026-11-20T10:00:00.000Z';
    const known = { gpuType: 'A100', targetReplicas: 3, status: 'optimal', heldReason: null, at } as const;
    return { kind: 'known', ...entry, ...known };
  },
};

const api = createServer((request, response) => {
  const isConfigMap = request.url?.includes('extension-apiserver-authentication') === true;
  const data = { 'requestheader-client-ca-file': authority.certificate };
  response.writeHead(isConfigMap ? 200 : 404).end(JSON.stringify(isConfigMap ? { data } : {}));
}).listen(0, '127.0.0.1');
await new Promise((resolve) => api.once('listening', resolve));
const folder = mkdtempSync(join(tmpdir(), 'gpumix-bench-consumers-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
process.on('SIGTERM', () => process.exit());
process.on('disconnect', () => process.exit());
const kubeconfig = join(folder, 'kubeconfig');
const apiPort = (api.address() as AddressInfo).port;
writeFileSync(kubeconfig, kubeconfigText({ server: `http://127.0.0.1:${apiPort}`, token: 'bench' }));

const scaler = new ScalerServer({ view, host: '127.0.0.1', port: 0, tls: null });
const { certificate, key } = authority.issue('gpumix');
const metrics = new MetricsServer({
  view,
  host: '127.0.0.1',
  port: 0,
  tls: { first: { cert: certificate, key, clientCa: null }, follow: () => () => undefined },
  api: await connectToCluster({ kubeconfig }),
  service: { namespace: 'bench', name: 'bench' },
  timer: () => () => undefined,
  logger: await createLogger({ level: 'silent', to: 2, pretty: false }),
});
const grpcPort = Number(/:(\d+) /.exec(await scaler.listen())![1]);
const metricsPort = Number(/:(\d+)$/.exec(await metrics.listen())![1]);
// The ConfigMap is read in the background.
await sleep(500);
const base = '/apis/external.metrics.k8s.io/v1beta1/namespaces/bench/gpumix_desired_replicas?labelSelector=';
const deployments = models.flatMap((model) => model.deployments.map(({ namespace, name }) => ({ namespace, name })));

const bareGrpc = new Server();
const metricValues = [{ metricName: scalerMetricName, metricValue: 3, metricValueFloat: 3 }];
bareGrpc.addService(externalScalerService(), {
  GetMetrics: (_call: unknown, answer: sendUnaryData<GetMetricsResponse>) => answer(null, { metricValues }),
});
const bareGrpcPort = await new Promise<number>((resolve, reject) => {
  bareGrpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
    error === null ? resolve(port) : reject(error),
  );
});

const bareMetrics = Fastify({
  https: { cert: certificate, key, ca: authority.certificate, requestCert: true, rejectUnauthorized: true },
});
const values = new MetricValues(view);
/** The same bytes as of the metrics server. */
function bodyFor(selector: string): string {
  const answer = values.read('bench', desiredReplicasMetric, parseLabelSelector(selector));
  return JSON.stringify(answer.kind === 'values' ? valueList(answer.items) : {});
}
const [oneBody, selectedBody] = [bodyFor('deployment=m0-d0'), bodyFor('model=model-0')];
bareMetrics.get('/*', (request, reply) =>
  reply.type('application/json; charset=utf-8').send(request.url.includes('deployment') ? oneBody : selectedBody),
);
await bareMetrics.listen({ host: '127.0.0.1', port: 0 });

const told: ConsumersProcess = {
  grpcPort,
  bareGrpcPort,
  metricsPort,
  bareMetricsPort: (bareMetrics.server.address() as AddressInfo).port,
  ca: authority.certificate,
  client: authority.issue('front-proxy-client'),
  deployments,
  one: deployments.map(({ name }) => `${base}deployment%3D${name}`),
  selected: models.map(({ name }) => `${base}model%3D${name}`),
};
process.on('message', () => {
  const { user, system } = process.cpuUsage();
  process.send!({ cpuMs: (user + system) / 1000 } satisfies ConsumersCpu);
});
process.send!(told);
