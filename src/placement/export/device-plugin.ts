import { gpuKey } from '../../core/placement-request.js';
import { vendorIndexOf } from '../vendor-index.js';
import { commentLines } from './comment-lines.js';
import { origin, remarks } from './export-header.js';
import type { Export, Exporter, ExportInput } from './exporter.js';
import { intelDriver } from './kubernetes/device-resources.js';
import { type CommentedManifest, yamlFile, yamlText } from './kubernetes/documents.js';
import { listed, type NamedService, namedServices, servicesByGpu } from './kubernetes/gpu-services.js';
import {
  migConfigLabel,
  migConfigName,
  type NodeSharing,
  nodeManifests,
  nodeNameNotices,
  nodeSharings,
  pluginConfigLabel,
  pluginConfigName,
  sharingNotices,
} from './kubernetes/node-sharing.js';
import { gpuTitle, isGaudi, nodesOf } from './placed-service.js';

/**
 * What the device plugins on the nodes must be told before the pods of the `kubernetes` export find their GPUs: for NVIDIA
 * two ConfigMaps, and labels of the nodes that select from them; for Intel and AMD arguments, as notices.
 *
 * Sources: NVIDIA k8s-device-plugin, "Configuration File" (`version: v1`; MPS for whole GPUs, excluding time-slicing; at
 * least 2 replicas); NVIDIA mig-parted, configuration format (`version: v1`, `mig-configs`) as the GPU operator reads it.
 */
export const devicePluginExporter: Exporter = {
  fileName: 'gpumix-device-plugin.yaml',
  about: 'ConfigMaps and node labels by which device plugins share and cut GPUs',
  write: writeDevicePlugin,
};

/** The ConfigMap with a configuration of the device plugin under each key. */
const pluginConfigMap = 'gpumix-device-plugin';
/** The ConfigMap of the MIG manager, which reads the one key `config.yaml`. */
const migConfigMap = 'gpumix-mig-parted';

function writeDevicePlugin(input: ExportInput): Export {
  const placed = namedServices(input);
  const sharings = nodeSharings(input, placed);
  const configured = [...sharings.values()].filter((sharing) => pluginConfigName(sharing) !== null);
  const nodes = nodeManifests(input, placed, sharings, { pluginConfig: true, migConfig: true }).filter(({ manifest }) =>
    configured.some(({ node }) => node === manifest.metadata.name),
  );
  const documents = [...pluginConfigs(configured), ...migConfigs(configured, input), ...nodes];
  const notices = [
    ...(documents.length > 0 ? [] : [nothingToConfigure(placed)]),
    ...installNotices(configured),
    ...nodeNameNotices(nodes),
    ...sharingNotices(input, placed, sharings),
    ...intelNotices(input, placed),
    ...amdNotices(input, placed),
  ];
  const header = [
    ...commentLines(origin(input.placement)),
    ...commentLines(
      documents.length > 0
        ? 'kubectl apply --server-side -n NAMESPACE -f FILE, in the namespace of the device plugin (or the GPU operator).'
        : nothingToConfigure(placed),
    ),
    ...remarks(input.placement, 'so not counted here'),
  ];
  return { files: [{ fileName: devicePluginExporter.fileName, text: yamlFile(header, documents) }], notices };
}

function nothingToConfigure(placed: readonly NamedService[]): string {
  const shared = [...servicesByGpu(placed).values()].some((users) => users.length > 1);
  return shared
    ? "No NVIDIA GPU is shared or cut, so that NVIDIA's device plugin needs no configuration; the file holds no object."
    : 'No GPU is shared or cut, so that the device plugins need no configuration; the file holds no object.';
}

/**
 * One key for each way of sharing; nodes that share alike select the same. `default` is for nodes without the label: the
 * plugin would otherwise give them the only configuration that there is.
 */
function pluginConfigs(configured: readonly NodeSharing[]): readonly CommentedManifest[] {
  if (configured.length === 0) return [];
  const byName = new Map<string, object>([
    ['default', { version: 'v1' }],
    ...configured.map((sharing) => [pluginConfigName(sharing)!, pluginConfig(sharing)] as const),
  ]);
  const data = Object.fromEntries([...byName].map(([name, config]) => [name, yamlText(config)]));
  const manifest = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: pluginConfigMap }, data };
  return [{ comments: [`Selected by the node label ${pluginConfigLabel}`], manifest }];
}

function pluginConfig({ strategy, replicas, mig }: NodeSharing): object {
  const flags = mig.length === 0 ? {} : { flags: { migStrategy: 'mixed' } };
  if (strategy === 'none') return { version: 'v1', ...flags };
  const resources = [{ name: 'nvidia.com/gpu', replicas }];
  const sharing =
    strategy === 'mps'
      ? { mps: { renameByDefault: true, resources } }
      : // More than one share is no more compute under time-slicing: who asks for two has misunderstood.
        { timeSlicing: { renameByDefault: true, failRequestsGreaterThanOne: true, resources } };
  return { version: 'v1', ...flags, sharing };
}

function migConfigs(configured: readonly NodeSharing[], input: ExportInput): readonly CommentedManifest[] {
  const cut = configured.filter(({ mig }) => mig.length > 0);
  if (cut.length === 0) return [];
  const configs = Object.fromEntries(cut.map((sharing) => [migConfigName(sharing)!, migConfig(sharing, input)]));
  const config = yamlText({ version: 'v1', 'mig-configs': configs });
  const manifest = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: migConfigMap },
    data: { 'config.yaml': config },
  };
  return [{ comments: [`Selected by the node label ${migConfigLabel}`], manifest }];
}

/** GPUs cut alike are one entry; those that stay whole are said too, since they may be cut now. */
function migConfig({ mig, whole }: NodeSharing, { request }: ExportInput): readonly object[] {
  const entries = new Map<string, { devices: number[]; 'mig-enabled': true; 'mig-devices': object }>();
  for (const { index, instances } of mig) {
    const devices = Object.fromEntries([...instances].sort(([a], [b]) => (a < b ? -1 : 1)));
    const key = JSON.stringify(devices);
    const entry = entries.get(key) ?? { devices: [], 'mig-enabled': true, 'mig-devices': devices };
    entry.devices.push(index);
    entries.set(key, entry);
  }
  const rest = whole.map((gpu) => vendorIndexOf(gpu, request));
  return [...entries.values(), ...(rest.length === 0 ? [] : [{ devices: rest, 'mig-enabled': false }])];
}

function installNotices(configured: readonly NodeSharing[]): readonly string[] {
  const notices: string[] = [];
  if (configured.length > 0) {
    notices.push(
      `The device plugin must read the ConfigMap: devicePlugin.config.name=${pluginConfigMap} in the GPU operator's ClusterPolicy, or config.name=${pluginConfigMap} for its own Helm chart. The operator's does not watch it: restart the plugin's DaemonSet after a change.`,
    );
  }
  const cut = configured.filter(({ mig }) => mig.length > 0).map(({ node }) => node);
  if (cut.length > 0) {
    notices.push(
      `The MIG manager must read the other: migManager.config.name=${migConfigMap}. It stops the pods with GPUs of ${listed(cut)} to cut them, and works only where nothing else holds them.`,
    );
  }
  return notices;
}

/** One DaemonSet serves all nodes, so that its number is that of the most shared GPU. */
function intelNotices(input: ExportInput, placed: readonly NamedService[]): readonly string[] {
  const shared = [...servicesByGpu(placed).values()].filter(
    (users) => users.length > 1 && users[0]!.gpu!.vendor === 'intel' && !isGaudi(users[0]!.gpu!),
  );
  if (shared.length === 0) return [];
  const count = Math.max(...shared.map((users) => users.length));
  const gpus = shared.map((users) => gpuTitle(users[0]!.gpu!, input.request));
  const drivers = new Set(shared.map((users) => `gpu.intel.com/${intelDriver(users[0]!.gpu!, input.catalogue)}`));
  return [
    `Intel's GPU plugin has arguments instead: -shared-dev-num=${count} -allocation-policy=${intelPolicy(input, placed)}, for ${listed([...drivers])} of ${listed(gpus)}. It shares every GPU of its nodes alike and isolates nothing.`,
  ];
}

/** `packed` fills one GPU before the next, as a placement does that leaves one free; else `balanced` spreads. */
function intelPolicy({ request }: ExportInput, placed: readonly NamedService[]): 'packed' | 'balanced' {
  const used = new Set(placed.flatMap(({ gpu }) => (gpu === null ? [] : [gpuKey(gpu)])));
  const packed = nodesOf(request).some((node) => {
    const gpus = request.gpus.filter((gpu) => gpu.node === node && gpu.vendor === 'intel');
    return gpus.some((gpu) => used.has(gpuKey(gpu))) && gpus.some((gpu) => !used.has(gpuKey(gpu)));
  });
  return packed ? 'packed' : 'balanced';
}

function amdNotices(input: ExportInput, placed: readonly NamedService[]): readonly string[] {
  const shared = [...servicesByGpu(placed).values()].filter(
    (users) => users.length > 1 && users[0]!.gpu!.vendor === 'amd',
  );
  if (shared.length === 0) return [];
  const gpus = listed(shared.map((users) => gpuTitle(users[0]!.gpu!, input.request)));
  return [
    `AMD's device plugin gives a GPU to one pod; ${gpus} cannot be shared by it. gpumix place --export kubernetes --allocation dra shares by a claim; an Instinct MI300 can be partitioned (-resource_naming_strategy=mixed, amd.com/cpx_nps4).`,
  ];
}
