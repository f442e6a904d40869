import type { GpuCatalogue } from '../../core/gpu-types.js';
import type {
  AibrixComponent,
  ClusterInspection,
  ExternalMetricsApi,
  ModelLabelSlip,
  ScalingObject,
} from '../../core/inspection.js';
import type { ObservedDeployment } from '../../core/ports.js';
import { externalMetricsApiService, externalMetricsGroup, externalMetricsVersion } from '../../core/published-names.js';
import { readAibrixComponent } from './aibrix-components.js';
import { type ApiClient, ApiError } from './api-client.js';
import { apiServicePath, ownerOf } from './api-service-owner.js';
import { readConsumerFailures } from './consumer-conditions.js';
import { readConsumerMetrics } from './consumer-metrics.js';
import { consumerResources, type DeploymentOf, readConsumer } from './consumer-source.js';
import { type Place, placesOf } from './followed-objects.js';
import { listOnce } from './list-once.js';
import { modelLabelSlip } from './model-label-slips.js';
import { observeDeployment } from './observed-deployment.js';
import { items, record, textOf } from './wire.js';

/** One look at a cluster from outside the service: lists and reads, nothing is followed and nothing written. */

/** Objects of one kind that are looked at: of the largest clusters, the beginning. */
const mostObjects = 20_000;

/** Where AIBrix's own parts are, whatever namespaces are followed. */
const aibrixNamespace = 'aibrix-system';

/**
 * Asks nothing yet.
 *
 * @throws InputError for a namespace that can be none
 */
export function inspectCluster(options: {
  readonly api: ApiClient;
  readonly catalogue: GpuCatalogue;
  /** Those that gpumix follows; empty = all. */
  readonly namespaces: readonly string[];
  /** As in `KubernetesConsumersOptions`. */
  readonly deploymentOf?: DeploymentOf;
  readonly answerTimeoutMs: number;
  readonly now: () => number;
}): ClusterInspection {
  const { api, catalogue, namespaces, deploymentOf, answerTimeoutMs, now } = options;
  const deploymentPlaces = placesOf('/apis/apps/v1', 'deployments', namespaces);

  const listAll = async (
    places: readonly Place[],
    listKind: string,
    signal: AbortSignal,
    each: (object: unknown) => void,
  ) => {
    let complete = true;
    for (const { path } of places) {
      const list = await listOnce({ api, path, listKind, mostObjects, answerTimeoutMs, signal, each });
      complete &&= list.complete;
    }
    return complete ? null : `only the first ${mostObjects}: there are more`;
  };
  const readJson = (path: string, signal: AbortSignal) =>
    api.send({ method: 'GET', path, query: {}, body: null, contentType: null, answerTimeoutMs, signal });

  return {
    server: api.server,
    async clock(signal) {
      const before = now();
      const shown = await api.serverTime({ answerTimeoutMs, signal });
      // The head of an answer has whole seconds.
      return shown === null ? null : { where: api.server, shownMs: [shown, shown + 1000], askedMs: [before, now()] };
    },
    async workloads(signal) {
      const deployments: ObservedDeployment[] = [];
      const slips: ModelLabelSlip[] = [];
      const aibrix = new Map<string, AibrixComponent>();
      const takeComponent = (object: unknown) => {
        const component = readAibrixComponent(object);
        if (component !== null) aibrix.set(component.id, component);
      };
      let missing = await listAll(deploymentPlaces, 'DeploymentList', signal, (object) => {
        takeComponent(object);
        const deployment = observeDeployment(object, catalogue);
        if (deployment !== null) deployments.push(deployment);
        const slip = modelLabelSlip(object);
        if (slip !== null) slips.push(slip);
      });
      if (namespaces.length > 0 && !namespaces.includes(aibrixNamespace)) {
        const places = placesOf('/apis/apps/v1', 'deployments', [aibrixNamespace]);
        await listAll(places, 'DeploymentList', signal, takeComponent).catch((error) => {
          if (!(error instanceof ApiError && (error.status === 403 || error.status === 404))) throw error;
          missing = missing ?? `Deployments of ${aibrixNamespace}, which may not be read`;
        });
      }
      return { value: { deployments, slips, aibrix: [...aibrix.values()] }, missing };
    },
    async consumers(kind, signal) {
      const resource = consumerResources.find((each) => each.kind === kind)!;
      const found: ScalingObject[] = [];
      const places = placesOf(resource.groupVersion, resource.resource, namespaces);
      const missing = await listAll(places, `${kind}List`, signal, (object) => {
        const consumer = readConsumer(object, resource, deploymentOf);
        if (consumer === null) return;
        found.push({ ...consumer, ...readConsumerMetrics(object, kind), failures: readConsumerFailures(object, kind) });
      });
      return { value: found, missing };
    },
    async externalMetrics(signal) {
      const service = await readJson(apiServicePath(externalMetricsApiService), signal).catch((error) => {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      });
      if (service === null) return { value: { owner: null, metrics: null }, missing: null };
      const owner = shownOwner(service);
      const listed = await readJson(`/apis/${externalMetricsGroup}/${externalMetricsVersion}`, signal).catch(
        (error: Error) => error,
      );
      if (listed instanceof Error) {
        return { value: { owner, metrics: null }, missing: `its metrics: ${listed.message}` };
      }
      const metrics = items(record(listed).resources).map((each) => textOf(record(each), 'name') ?? '');
      return { value: { owner, metrics }, missing: null };
    },
  };
}

/** As it is told, with what the cluster says of whether it answers; null = nothing yet. */
function shownOwner(apiService: unknown): NonNullable<ExternalMetricsApi['owner']> {
  const owner = ownerOf(apiService);
  const condition = items(record(record(apiService).status).conditions)
    .map(record)
    .find(({ type }) => type === 'Available');
  return {
    service: owner.kind === 'service' ? `${owner.namespace}/${owner.name}` : 'the API server',
    available: condition === undefined ? null : condition.status !== 'False',
  };
}
