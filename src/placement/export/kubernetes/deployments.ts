import { hasEngine } from '../../engine-kinds.js';
import type { ExportInput } from '../exporter.js';
import { memoryPart } from '../memory-part.js';
import { gbOf, gpuTitle } from '../placed-service.js';
import type { CommentedManifest } from './documents.js';
import type { PodGpu } from './gpu-allocations.js';
import type { NamedService } from './gpu-services.js';
import { longestLabelValue } from './names.js';
import { nodeTaints, taintFields } from './node-sharing.js';

/** A toleration that matches exactly this taint. */
function tolerationOf(taint: string): object {
  const { key, value, effect } = taintFields(taint);
  return { key, ...(value === undefined ? { operator: 'Exists' } : { operator: 'Equal', value }), effect };
}

/**
 * The parts of a pod that bind it to these nodes; nothing where there are none.
 *
 * `kubernetes.io/hostname` is the node's name up to 63 characters; one node with a longer name is chosen by the name itself.
 */
export function boundTo(nodes: readonly string[], taints: readonly string[]): Readonly<Record<string, unknown>> {
  const tolerations = taints.length === 0 ? {} : { tolerations: taints.map(tolerationOf) };
  const [first] = nodes;
  if (first === undefined) return tolerations;
  if (nodes.length === 1 && first.length <= longestLabelValue) {
    return { nodeSelector: { 'kubernetes.io/hostname': first }, ...tolerations };
  }
  // Of one term, all fields must match; of several terms, one: a term for each node, since fields take one value each.
  const nodeSelectorTerms = nodes.map((node) => ({
    matchFields: [{ key: 'metadata.name', operator: 'In', values: [node] }],
  }));
  const required = { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } };
  return { affinity: { nodeAffinity: required }, ...tolerations };
}

/** `vllm/vllm-openai:v0.11.0`, `quay.io/me/vllm-rocm`: an image whose program takes vLLM's arguments. */
const vllmImage = /(^|\/)[^/]*vllm[^/]*$/i;

/** What vLLM is told of its budget, where the image is one of vLLM; its other arguments are not known here. */
function vllmArguments(one: NamedService, { catalogue }: ExportInput): readonly string[] {
  const { service } = one;
  const part = memoryPart(one, catalogue);
  if (part === null || service.image === null || service.model === '') return [];
  if (!vllmImage.test(service.image) || !hasEngine(service)) return [];
  // An option, not the argument: images from before `vllm serve` was their entry point know the option alone.
  return [
    `--model=${service.model}`,
    `--gpu-memory-utilization=${part.toFixed(2)}`,
    ...(service.maxSessions === null ? [] : [`--max-num-seqs=${service.maxSessions}`]),
  ];
}

/**
 * A service as a Deployment for server-side apply.
 *
 * With an image it is whole. Without one it holds what the placement decides and nothing else, to be merged into the
 * Deployment of that name, whose container must have that name too; it has no selector then, since another than that of
 * the Deployment that exists would be refused.
 *
 * The old pod goes before the new one starts: on a fixed pool there is no second GPU for it. (`Recreate` says the same, but
 * cannot be merged into a Deployment whose `rollingUpdate` has values.)
 */
export function deploymentOf(one: NamedService, pod: PodGpu, input: ExportInput): CommentedManifest {
  const { service, assignment, gpu, name } = one;
  const whole = service.image !== null;
  const selector = { 'app.kubernetes.io/name': name };
  const labels = { ...(whole ? selector : {}), ...pod.labels };
  const templateMetadata = {
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(Object.keys(pod.annotations).length === 0 ? {} : { annotations: pod.annotations }),
  };
  const taints = assignment.node === null ? [] : nodeTaints(input, assignment.node);
  const args = vllmArguments(one, input);
  const resources = {
    ...(Object.keys(pod.limits).length === 0 ? {} : { limits: pod.limits }),
    ...(pod.claim === null ? {} : { claims: [{ name: 'gpu' }] }),
  };
  const container = {
    name,
    ...(whole ? { image: service.image } : {}),
    ...(args.length === 0 ? {} : { args }),
    ...(gpu === null ? {} : { env: [{ name: 'VRAM_BUDGET_GB', value: String(gbOf(assignment.memoryBudgetMb)) }] }),
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
  };
  const manifest = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas: 1,
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
      ...(whole ? { selector: { matchLabels: selector } } : {}),
      template: {
        ...(Object.keys(templateMetadata).length === 0 ? {} : { metadata: templateMetadata }),
        spec: {
          ...boundTo(assignment.node === null ? [] : [assignment.node], taints),
          ...(pod.schedulerName === null ? {} : { schedulerName: pod.schedulerName }),
          ...(pod.claim === null ? {} : { resourceClaims: [{ name: 'gpu', ...pod.claim }] }),
          containers: [container],
        },
      },
    },
  };
  const where = gpu === null ? 'the CPU' : placeOf(one, input);
  const how = whole ? '' : '; merged into the Deployment of this name';
  return { comments: [`${service.name} on ${where}${how}`], manifest };
}

/** `GPU 1 of box, RTX A400: 3.5 GB, time-slicing`. */
function placeOf({ gpu, assignment }: NamedService, { request }: ExportInput): string {
  const title = gpu === null || gpu.name === '' ? '' : `, ${gpu.name}`;
  const mode = assignment.mig === undefined ? assignment.sharing : `mig ${assignment.mig.profile}`;
  return `${gpu === null ? '' : gpuTitle(gpu, request)}${title}: ${gbOf(assignment.memoryBudgetMb)} GB, ${mode}`;
}
