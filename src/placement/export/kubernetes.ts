import { gpuKey } from '../../core/placement-request.js';
import { commentLines } from './comment-lines.js';
import { origin, remarks } from './export-header.js';
import type { Export, Exporter, ExportInput } from './exporter.js';
import { deploymentOf } from './kubernetes/deployments.js';
import { choiceNotices } from './kubernetes/device-choice.js';
import { type CommentedManifest, yamlFile } from './kubernetes/documents.js';
import { type GpuAllocation, gpuAllocations } from './kubernetes/gpu-allocations.js';
import { listed, type NamedService, namedServices, servicesByGpu } from './kubernetes/gpu-services.js';
import {
  type NodeSharing,
  nodeManifests,
  nodeNameNotices,
  nodeSharings,
  nodeTaints,
  sharingNotices,
} from './kubernetes/node-sharing.js';
import { gpuTitle, isGaudi } from './placed-service.js';

/**
 * Objects for `kubectl apply --server-side`: the nodes with their taints and labels, what hands out the GPUs where that is
 * by claims, and a Deployment for each service. How pods get their GPUs is `gpuAllocation`.
 */
export const kubernetesExporter: Exporter = {
  fileName: 'gpumix-kubernetes.yaml',
  about: 'Deployments on their nodes and GPUs, for kubectl apply --server-side',
  write: writeKubernetes,
};

function writeKubernetes(input: ExportInput): Export {
  const { placement } = input;
  const placed = namedServices(input);
  const name = input.gpuAllocation ?? 'device-plugin';
  const allocation: GpuAllocation = gpuAllocations[name];
  const sharings = nodeSharings(input, placed);
  const byGpu = servicesByGpu(placed);
  const claims: CommentedManifest[] = [];
  const deployments: CommentedManifest[] = [];
  const podNotices: string[] = [];
  for (const one of placed) {
    // A MIG instance is its service's alone, whoever has the others of its GPU.
    const alone = one.gpu === null || one.assignment.mig !== undefined;
    const sharers = alone
      ? [one]
      : byGpu.get(gpuKey(one.gpu))!.filter(({ assignment }) => assignment.mig === undefined);
    const pod = allocation.pod(one, { ...input, sharings, sharers });
    claims.push(...pod.documents);
    podNotices.push(...pod.notices);
    deployments.push(deploymentOf(one, pod, input));
  }
  const nodes = nodeManifests(input, placed, sharings, allocation);
  const documents = [...nodes, ...claims, ...deployments];
  const amended = placed.filter(({ service }) => service.image === null);
  const notices = [
    ...(documents.length === 0 ? ['Nothing was placed, so that there is nothing to apply.'] : []),
    ...amendNotices(placed, amended),
    ...renamedNotices(placed),
    ...nodeNameNotices(nodes),
    ...nodeNotices(input, nodes),
    ...tolerationNotices(input, placed),
    ...allocationNotices(name, allocation, sharings),
    ...(allocation.pluginConfig ? sharingNotices(input, placed, sharings) : []),
    ...(allocation.choosesGpu ? [] : choiceNotices(input, placed)),
    ...otherVendorNotices(input, placed, name),
    ...podNotices,
  ];
  const header = [
    ...commentLines(origin(placement)),
    ...commentLines(`GPUs by ${allocation.about}.`),
    ...commentLines(
      'kubectl apply --server-side -f FILE; -n NAMESPACE for another namespace than that of the kubeconfig.',
    ),
    ...(amended.length === 0
      ? []
      : commentLines(
          `Without an image, to be merged into the Deployment of the same name: ${listed(amended.map((one) => one.name))}.`,
        )),
    ...remarks(placement, 'so not here'),
  ];
  return { files: [{ fileName: kubernetesExporter.fileName, text: yamlFile(header, documents) }], notices };
}

function amendNotices(placed: readonly NamedService[], amended: readonly NamedService[]): readonly string[] {
  if (amended.length === 0) return [];
  const which = amended.length === placed.length ? 'No service' : `Not every service`;
  return [
    `${which} has an image in the request: ${listed(amended.map(({ name }) => name))} can only be merged into Deployments that exist, each with a container of the same name; GPU limits that those have under another name stay, and must be taken out.`,
  ];
}

function renamedNotices(placed: readonly NamedService[]): readonly string[] {
  const renamed = placed.filter(({ service, name }) => service.name !== name);
  if (renamed.length === 0) return [];
  return [
    `Names that Kubernetes does not take were changed: ${listed(renamed.map(({ service, name }) => `${JSON.stringify(service.name)} is ${name}`))}.`,
  ];
}

function nodeNotices(input: ExportInput, nodes: readonly CommentedManifest[]): readonly string[] {
  const tainted = nodes.flatMap(({ manifest: { metadata } }) => {
    const taints = nodeTaints(input, metadata.name);
    return taints.length === 0 ? [] : [`kubectl taint nodes ${metadata.name} ${taints.join(' ')}`];
  });
  if (tainted.length === 0) return [];
  return [
    `Server-side apply owns the whole list of a node's taints; where something else taints the node too, apply refuses with a conflict, and this adds them instead: ${tainted.join('; ')}.`,
  ];
}

/** A taint in the request is of a GPU; in a cluster it is of the node, and meets every pod there. */
function tolerationNotices(input: ExportInput, placed: readonly NamedService[]): readonly string[] {
  return placed.flatMap(({ service, gpu }) => {
    if (gpu === null) return [];
    const others = nodeTaints(input, gpu.node).filter((taint) => !gpu.taints.includes(taint));
    if (others.length === 0) return [];
    return [
      `${service.name} tolerates ${listed(others)} though ${gpuTitle(gpu, input.request)} does not have it: Kubernetes taints the whole of ${gpu.node}.`,
    ];
  });
}

function allocationNotices(
  name: keyof typeof gpuAllocations,
  allocation: GpuAllocation,
  sharings: ReadonlyMap<string, NodeSharing>,
): readonly string[] {
  const all = [...sharings.values()];
  const cut = all.filter(({ mig }) => mig.length > 0).map(({ node }) => node);
  const notices: string[] = [];
  if (name === 'dra') {
    notices.push(
      "Claims need Kubernetes 1.34 and the vendor's DRA driver on the nodes, in place of its device plugin: a GPU that both hand out is given twice.",
    );
  }
  if (name === 'hami') notices.push("HAMi needs its own device plugin on the nodes, in place of NVIDIA's.");
  if (name === 'kai') {
    notices.push(
      "KAI: the queue is default-queue, which KAI makes itself; change the label kai.scheduler/queue for another. Sharing must be on (global.gpuSharing=true), and NVIDIA's device plugin must not share GPUs itself.",
    );
  }
  const shared = allocation.pluginConfig
    ? all.filter(({ strategy }) => strategy !== 'none').map(({ node }) => node)
    : [];
  const labelled = [...new Set([...shared, ...(allocation.migConfig ? cut : [])])];
  if (labelled.length > 0) {
    notices.push(
      `The labels of ${listed(labelled)} name configurations that gpumix place --export device-plugin writes: apply that first.`,
    );
  }
  return notices;
}

/** What the plugins of other vendors need to be told, or cannot do. */
function otherVendorNotices(
  input: ExportInput,
  placed: readonly NamedService[],
  name: keyof typeof gpuAllocations,
): readonly string[] {
  if (name === 'dra') return [];
  return [...servicesByGpu(placed).values()].flatMap((users) => {
    const gpu = users[0]?.gpu;
    if (gpu === null || gpu === undefined || gpu.vendor === 'nvidia' || users.length < 2) return [];
    const names = listed(users.map(({ service }) => service.name));
    if (gpu.vendor === 'intel' && !isGaudi(gpu)) {
      return [
        `${names} share ${gpuTitle(gpu, input.request)}: Intel's GPU plugin must run with -shared-dev-num=${users.length} or more.`,
      ];
    }
    return [
      `${names} share ${gpuTitle(gpu, input.request)}, but its device plugin gives a GPU to one pod: all but one of them stay pending.${gpu.vendor === 'amd' ? ' --allocation dra shares it by a claim.' : ''}`,
    ];
  });
}
