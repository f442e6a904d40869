import { gpuKey, type PlacementGpu } from '../../../core/placement-request.js';
import { gigabytes } from '../../amounts.js';
import { vendorIndexOf } from '../../vendor-index.js';
import type { ExportInput } from '../exporter.js';
import { gpuTitle, nodesOf, type PlacedService } from '../placed-service.js';
import { migResource, nvidiaGpu, nvidiaSharedGpu, wholeGpuResource } from './device-resources.js';
import type { CommentedManifest } from './documents.js';
import { listed, servicesByGpu } from './gpu-services.js';
import { cutName, longestLabelValue } from './names.js';

/**
 * What NVIDIA's device plugin has to be told of each node, so that the services of a placement fit there.
 *
 * The plugin has one setting for all whole GPUs of a node: it advertises each of them the same number of times, under the
 * same name. (Its configuration has `devices` and `rename`, and names by product; released versions ignore them with a
 * warning: `DisableResourceNamingInConfig`.) So a node with one GPU that three services share offers three of every GPU.
 * Both the objects that ask for GPUs and the plugin's configuration are made of this, so that their names agree.
 */
export type NodeSharing = {
  readonly node: string;
  readonly strategy: 'none' | 'time-slicing' | 'mps';
  /** How often each whole GPU is advertised: as often as the most shared one needs; 1 with `none`. */
  readonly replicas: number;
  /** The NVIDIA GPUs of the node that are cut by MIG, by NVIDIA's count, each with its instances by profile. */
  readonly mig: readonly { readonly index: number; readonly instances: ReadonlyMap<string, number> }[];
  /** Whole NVIDIA GPUs of the node, used or not. */
  readonly whole: readonly PlacementGpu[];
};

/** Of each node of the request with NVIDIA GPUs that has services, in the order of the request. */
export function nodeSharings(
  { request }: ExportInput,
  placed: readonly PlacedService[],
): ReadonlyMap<string, NodeSharing> {
  const byGpu = servicesByGpu(placed);
  const usersOf = (gpu: PlacementGpu) => byGpu.get(gpuKey(gpu)) ?? [];
  const sharings = nodesOf(request).flatMap((node): readonly NodeSharing[] => {
    const gpus = request.gpus.filter((gpu) => gpu.node === node && gpu.vendor === 'nvidia');
    if (!gpus.some((gpu) => usersOf(gpu).length > 0)) return [];
    const isCut = (gpu: PlacementGpu) => gpu.sharing === 'mig' || usersOf(gpu).some(({ assignment }) => assignment.mig);
    const mig = gpus
      .filter(isCut)
      .map((gpu) => ({ index: vendorIndexOf(gpu, request), instances: instancesOf(gpu, usersOf(gpu)) }));
    const whole = gpus.filter((gpu) => !isCut(gpu));
    const shared = whole.filter((gpu) => usersOf(gpu).length > 1);
    if (shared.length === 0) return [{ node, strategy: 'none', replicas: 1, mig, whole }];
    const mps =
      mig.length === 0 && shared.every((gpu) => usersOf(gpu).every(({ assignment }) => assignment.sharing === 'mps'));
    const replicas = Math.max(...shared.map((gpu) => usersOf(gpu).length));
    return [{ node, strategy: mps ? 'mps' : 'time-slicing', replicas, mig, whole }];
  });
  return new Map(sharings.map((sharing) => [sharing.node, sharing]));
}

/** Instances that the GPU is cut into: those of the request, else those that services were given. */
function instancesOf(gpu: PlacementGpu, users: readonly PlacedService[]): ReadonlyMap<string, number> {
  const profiles =
    gpu.migInstances?.map(({ profile }) => profile) ??
    users.flatMap(({ assignment: { mig } }) => (mig ? [mig.profile] : []));
  const counts = new Map<string, number>();
  for (const profile of profiles) counts.set(profile, (counts.get(profile) ?? 0) + 1);
  return counts;
}

/** The resource of the device plugin that a service asks for one of; null on the CPU. */
export function pluginResource(
  { gpu, assignment }: PlacedService,
  sharings: ReadonlyMap<string, NodeSharing>,
  { catalogue }: ExportInput,
): string | null {
  if (gpu === null) return null;
  if (assignment.mig !== undefined) return migResource(assignment.mig.profile);
  if (gpu.vendor !== 'nvidia') return wholeGpuResource(gpu, catalogue);
  return sharings.get(gpu.node)?.strategy === 'none' ? nvidiaGpu : nvidiaSharedGpu;
}

/** What selects a node's configuration of the device plugin, and the cut of its GPUs. */
export const pluginConfigLabel = 'nvidia.com/device-plugin.config';
export const migConfigLabel = 'nvidia.com/mig.config';

/** The key of a node's configuration in the device plugin's ConfigMap; nodes that share alike have the same. Null = none. */
export function pluginConfigName({ strategy, replicas, mig }: NodeSharing): string | null {
  const sharing = strategy === 'none' ? '' : `${strategy}-${replicas}`;
  if (mig.length === 0) return sharing === '' ? null : sharing;
  return sharing === '' ? 'mig-mixed' : `mig-mixed-${sharing}`;
}

/** The name of a node's cut among the configurations of the MIG manager; null = nothing is cut. */
export function migConfigName({ node, mig }: NodeSharing): string | null {
  return mig.length === 0 ? null : cutName(node, longestLabelValue);
}

/** `key=value:NoSchedule` as the fields of a taint; a taint without a value has none. */
export function taintFields(taint: string): { readonly key: string; readonly value?: string; readonly effect: string } {
  const colon = taint.lastIndexOf(':');
  const [key, value] = taint.slice(0, colon).split('=', 2) as [string, string?];
  return { key, ...(value === undefined || value === '' ? {} : { value }), effect: taint.slice(colon + 1) };
}

/** All taints of the GPUs of a node: Kubernetes taints a node, not a GPU. */
export function nodeTaints({ request }: ExportInput, node: string): readonly string[] {
  return [...new Set(request.gpus.filter((gpu) => gpu.node === node).flatMap(({ taints }) => taints))];
}

/** What a wrong name of a node does, which nothing else would tell. */
export function nodeNameNotices(nodes: readonly CommentedManifest[]): readonly string[] {
  if (nodes.length === 0) return [];
  const names = listed(nodes.map(({ manifest }) => manifest.metadata.name));
  return [
    `Names of nodes must be those that kubectl get nodes prints (${names}): apply makes a Node that is not there, and the pods wait for it.`,
  ];
}

/**
 * The nodes as objects for server-side apply: labels that select their configuration, and the taints of the request.
 *
 * Both files that hold nodes are given these same objects: a field that one of two applied files leaves out is taken away
 * again by the later one.
 */
export function nodeManifests(
  input: ExportInput,
  placed: readonly PlacedService[],
  sharings: ReadonlyMap<string, NodeSharing>,
  select: { readonly pluginConfig: boolean; readonly migConfig: boolean },
): readonly CommentedManifest[] {
  const used = new Set(placed.map(({ assignment }) => assignment.node));
  return nodesOf(input.request).flatMap((node): readonly CommentedManifest[] => {
    if (!used.has(node)) return [];
    const sharing = sharings.get(node);
    const labels = new Map([
      [pluginConfigLabel, select.pluginConfig && sharing !== undefined ? pluginConfigName(sharing) : null],
      [migConfigLabel, select.migConfig && sharing !== undefined ? migConfigName(sharing) : null],
    ]);
    const said = [...labels].filter((label) => label[1] !== null);
    const taints = nodeTaints(input, node).map(taintFields);
    if (said.length === 0 && taints.length === 0) return [];
    const metadata = { name: node, ...(said.length === 0 ? {} : { labels: Object.fromEntries(said) }) };
    const spec = taints.length === 0 ? {} : { spec: { taints } };
    return [{ comments: [], manifest: { apiVersion: 'v1', kind: 'Node', metadata, ...spec } }];
  });
}

/** What a person must know of how NVIDIA's plugin shares the GPUs of these nodes. */
export function sharingNotices(
  input: ExportInput,
  placed: readonly PlacedService[],
  sharings: ReadonlyMap<string, NodeSharing>,
): readonly string[] {
  const byGpu = servicesByGpu(placed);
  const usersOf = (gpu: PlacementGpu) => byGpu.get(gpuKey(gpu)) ?? [];
  const notices: string[] = [];
  for (const { node, strategy, replicas, whole, mig } of sharings.values()) {
    if (strategy === 'none') continue;
    for (const gpu of whole.filter((candidate) => usersOf(candidate).length === 1)) {
      const { service } = usersOf(gpu)[0]!;
      notices.push(
        `${service.name} is alone on ${gpuTitle(gpu, input.request)} in the placement, but the device plugin advertises every whole GPU of ${node} ${replicas} times: nothing keeps another pod off it. gpumix place --allocation dra, or hami, gives it the GPU alone.`,
      );
    }
    const shared = whole.filter((gpu) => usersOf(gpu).length > 1);
    if (strategy === 'mps') {
      for (const gpu of shared) {
        const each = gpu.memoryMb / replicas;
        const budgets = new Set(usersOf(gpu).map(({ assignment }) => assignment.memoryBudgetMb));
        const over = usersOf(gpu).filter(({ assignment }) => assignment.memoryBudgetMb > each);
        if (over.length > 0) {
          notices.push(
            `MPS gives each of ${replicas} pods an equal part of ${gpuTitle(gpu, input.request)}, ${gigabytes(Math.floor(each))}: too little for ${listed(over.map(({ service, assignment }) => `${service.name} (${gigabytes(assignment.memoryBudgetMb)})`))}.`,
          );
        } else if (budgets.size > 1) {
          notices.push(
            `MPS gives each of ${replicas} pods an equal part of ${gpuTitle(gpu, input.request)}, ${gigabytes(Math.floor(each))}: the budgets differ, and the plugin does not know them.`,
          );
        }
      }
      continue;
    }
    const wantMps = shared.flatMap((gpu) => usersOf(gpu)).filter(({ assignment }) => assignment.sharing === 'mps');
    if (wantMps.length > 0) {
      notices.push(
        `${listed(wantMps.map(({ service }) => service.name))} should share by MPS, but the device plugin has one way of sharing for a node, and none beside MIG by MPS: ${node} shares by time-slicing${mig.length > 0 ? ', since it has GPUs under MIG' : ', since other services of it do'}.`,
      );
    }
    notices.push(
      `Time-slicing on ${node} isolates no memory: ${listed(shared.flatMap((gpu) => usersOf(gpu)).map(({ service }) => service.name))} must keep to VRAM_BUDGET_GB by themselves.`,
    );
  }
  return notices;
}
