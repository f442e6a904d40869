import { canonicalGpuType, type GpuCatalogue, gpuTypeInName, isKnownGpuType } from '../../core/gpu-types.js';
import type { DeploymentNotice } from '../../core/ports.js';
import { items, record, textEntries, textOf } from './wire.js';

/**
 * Which GPUs a pod template asks for: their type from where its pods may run, their number from its limits.
 *
 * Everything here comes off the wire and may have any shape; nothing throws.
 */

/** What one replica takes. */
export type GpuDemand = {
  /** Canonical; null where nothing names a type. */
  readonly gpuType: string | null;
  readonly gpusPerReplica: number;
};

type Notices = DeploymentNotice[];

/**
 * Extended resources that count whole devices, of every vendor with a device plugin that we know of. Resources beside
 * them that measure memory, cores or telemetry (`nvidia.com/gpumem`, `gpu.intel.com/i915_monitoring`,
 * `huawei.com/Ascend910-memory`) are not devices and are left out by the exact patterns.
 */
const deviceResources: readonly RegExp[] = [
  /^[a-z0-9.-]+\/gpu$/,
  /^nvidia\.com\/(gpu\.shared|mig-.+)$/,
  /^amd\.com\/[sdtqc]px_nps\d$/,
  /^gpu\.intel\.com\/(i915|xe)$/,
  /^habana\.ai\/gaudi$/,
  /^huawei\.com\/(ascend[0-9a-z]+|npu)$/,
  /^aliyun\.com\/(gpu-count|ppu)$/,
  /^volcano\.sh\/v?gpu-number$/,
  /^cambricon\.com\/v?mlu\d*$/,
  /^hygon\.com\/(dcu|dcunum)$/,
  /^(metax-tech\.com\/sgpu|iluvatar\.(ai|com)\/vgpu|mthreads\.com\/vgpu)$/,
  /^(enflame\.com\/v?gcu|kunlunxin\.com\/v?xpu)$/,
  /^(google\.com\/tpu|aws\.amazon\.com\/neuron(device)?)$/,
];

/** Resources and pod annotations that take a part of a GPU without saying which part of a whole one it is. */
const sharedResources: readonly RegExp[] = [/^aliyun\.com\/gpu-mem$/, /^nvidia\.com\/gpumem(-percentage)?$/];

/** Node label keys whose value is a GPU's product name, whether we know the name or not. */
const productKeys: readonly RegExp[] = [
  /gpu[-_.]product([-_.]name)?$/,
  /gpu[-_.]name$/,
  /gpu[-_.]model$/,
  /nvidia[-_.]name$/,
  /^gpu\.nvidia\.com\/(model|class)$/,
  /^gpu\.intel\.com\/product$/,
  /^node\.kubernetes\.io\/npu\.chip\.name$/,
  /(^|[-_./])(gke-)?accelerator([-_.](type|name|model))?$/,
];

/** Values that such keys may carry without naming a type. */
const vendorWords = new Set(['nvidia', 'amd', 'intel', 'habana', 'huawei', 'gpu', 'true', 'false', 'yes', 'none', '']);

/** Longest type name that is taken over; Kubernetes allows label values of 63 characters. */
export const longestGpuType = 100;

/**
 * Reads GPU type and GPUs per replica from a pod template.
 *
 * The type is, in this order: `named` (the annotation), what `nodeSelector` and required node affinity select, what the
 * deployment's name mentions. Parts of GPUs (MIG, shared) are types of their own.
 */
export function gpuDemandOf(input: {
  readonly template: unknown;
  readonly deploymentName: string;
  /** Type of the annotation; null = none. */
  readonly named: string | null;
  readonly catalogue: GpuCatalogue;
  readonly notices: Notices;
}): GpuDemand {
  const { template, deploymentName, named, catalogue, notices } = input;
  const podSpec = record(record(template).spec);
  const counts = countDevices(podSpec);
  const gpusPerReplica = gpuCount(record(template), counts, notices);
  if (named !== null) return { gpuType: canonicalGpuType(catalogue, named), gpusPerReplica };
  const whole = selectedGpuType(podSpec, catalogue, notices) ?? gpuTypeInName(catalogue, deploymentName);
  return { gpuType: whole === null ? null : withPart(whole, [...counts.keys()]), gpusPerReplica };
}

/**
 * The type of the GPUs that a node offers under an extended resource, named as deployments on it name theirs; null where
 * no label names the product.
 */
export function nodeGpuType(
  labels: Readonly<Record<string, unknown>>,
  resource: string,
  catalogue: GpuCatalogue,
): string | null {
  // What the vendor's own labels say goes before those of a cloud, which may not tell sizes apart.
  const vendor = resource.slice(0, resource.indexOf('/') + 1);
  const candidates = textEntries(labels).map(([key, value]) => ({ key, value }));
  const own = candidates.filter(({ key }) => key.startsWith(vendor));
  const [whole] = typesAmong([...own, ...candidates.filter(({ key }) => !key.startsWith(vendor))], catalogue);
  return whole === undefined ? null : withPart(whole, [resource]);
}

/** Whole devices that a node offers to pods, by extended resource. */
export function allocatableDevices(allocatable: unknown): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  addCounts(counts, record(allocatable));
  return counts;
}

/** A100-80GB asked for as `nvidia.com/mig-1g.10gb` is `A100-80GB-MIG-1g.10gb`, as node labels name it. */
function withPart(gpuType: string, resources: readonly string[]): string {
  if (resources.length !== 1 || /-(MIG-|SHARED)/.test(gpuType)) return gpuType;
  const resource = resources[0]!;
  const profile = /^nvidia\.com\/mig-(.+)$/.exec(resource)?.[1];
  if (profile !== undefined) return `${gpuType}-MIG-${profile}`;
  return resource === 'nvidia.com/gpu.shared' ? `${gpuType}-SHARED` : gpuType;
}

function gpuCount(
  template: Readonly<Record<string, unknown>>,
  counts: ReadonlyMap<string, number>,
  notices: Notices,
): number {
  let total = 0;
  for (const count of counts.values()) total += count;
  if (total > 0) return total;
  // KAI and Run:ai ask for a fraction of one GPU with a pod annotation instead of a limit.
  const fraction = Number(textOf(record(record(template.metadata).annotations), 'gpu-fraction') ?? Number.NaN);
  if (fraction > 0 && fraction <= 1) return fraction;
  // 1, not 0: with 0 its replicas would cost nothing and take nothing from a pool.
  notices.push({ code: 'gpu_count_assumed', message: assumedBecause(record(template.spec)) });
  return 1;
}

function assumedBecause(podSpec: Readonly<Record<string, unknown>>): string {
  const consequence = 'one GPU per replica is assumed';
  if (items(podSpec.resourceClaims).length > 0) {
    return `the pods ask for devices through resource claims, which are not read; ${consequence}`;
  }
  for (const container of [...items(podSpec.containers), ...items(podSpec.initContainers)]) {
    const shared = Object.keys(limitsOf(container)).find((key) => sharedResources.some((pattern) => pattern.test(key)));
    if (shared !== undefined) return `the limit ${shared} takes a part of a GPU of unknown size; ${consequence}`;
  }
  return `no container has a GPU in its limits; ${consequence}`;
}

/**
 * Devices that one pod holds at most, per resource: its containers and sidecars together, or an init container with
 * the sidecars that started before it, whichever is more (the scheduler's rule).
 */
export function countDevices(podSpec: Readonly<Record<string, unknown>>): ReadonlyMap<string, number> {
  const running = new Map<string, number>();
  const starting = new Map<string, number>();
  for (const container of items(podSpec.initContainers)) {
    if (record(container).restartPolicy === 'Always') {
      addDevices(running, container);
      continue;
    }
    const together = new Map(running);
    addDevices(together, container);
    for (const [key, count] of together) starting.set(key, Math.max(count, starting.get(key) ?? 0));
  }
  for (const container of items(podSpec.containers)) addDevices(running, container);
  for (const [key, count] of starting) running.set(key, Math.max(count, running.get(key) ?? 0));
  return running;
}

function addDevices(counts: Map<string, number>, container: unknown): void {
  addCounts(counts, limitsOf(container));
}

function addCounts(counts: Map<string, number>, quantities: Readonly<Record<string, unknown>>): void {
  for (const [key, value] of Object.entries(quantities)) {
    const resource = key.toLowerCase();
    if (!deviceResources.some((pattern) => pattern.test(resource))) continue;
    const count = quantity(value);
    if (count > 0) counts.set(resource, (counts.get(resource) ?? 0) + count);
  }
}

/** Limits; Kubernetes copies an extended resource's request there, but a template may name only the request. */
function limitsOf(container: unknown): Readonly<Record<string, unknown>> {
  const resources = record(record(container).resources);
  return { ...record(resources.requests), ...record(resources.limits) };
}

const quantityScale: Readonly<Record<string, number>> = { '': 1, m: 1e-3, k: 1e3, M: 1e6 };

/** More devices than one pod can hold; a larger number is an error of its writer, not a demand. */
const mostDevices = 100_000;

/** A Kubernetes quantity of devices: `8`, `"8"`, `"8000m"`; 0 for anything else. */
function quantity(value: unknown): number {
  // String() calls the toString of an object, which off the wire may be anything.
  const text = typeof value === 'string' || typeof value === 'number' ? String(value) : '';
  const match = /^(\d{1,12}(?:\.\d{1,6})?)([mkM]?)$/.exec(text.trim());
  const count = match === null ? 0 : Number(match[1]) * quantityScale[match[2]!]!;
  return count <= mostDevices ? count : 0;
}

type Candidate = { readonly key: string; readonly value: string };

function selectedGpuType(
  podSpec: Readonly<Record<string, unknown>>,
  catalogue: GpuCatalogue,
  notices: Notices,
): string | null {
  const types = typesAmong(nodeCandidates(podSpec), catalogue);
  if (types.length > 1) {
    notices.push({
      code: 'several_gpu_types',
      message: `its pods may run on ${types.slice(0, 8).join(', ')}; planned as ${types[0]} (gpumix.dev/gpu-type decides, one deployment per type is better)`,
    });
  }
  return types[0] ?? null;
}

/** GPU types that labels name, the surest kind of label alone. */
function typesAmong(labels: readonly Candidate[], catalogue: GpuCatalogue): readonly string[] {
  const candidates = labels.filter(
    ({ value }) => value.length <= longestGpuType && !vendorWords.has(value.trim().toLowerCase()),
  );
  const namesProduct = ({ key }: Candidate) => productKeys.some((pattern) => pattern.test(key.toLowerCase()));
  const isKnown = ({ value }: Candidate) => isKnownGpuType(catalogue, value);
  // A known type under a key that names products is the surest, then a known one under any key (instance types, a
  // cluster's own labels), then an unknown name under a key that names products.
  const ranked = [
    candidates.filter((candidate) => namesProduct(candidate) && isKnown(candidate)),
    candidates.filter(isKnown),
    candidates.filter(namesProduct),
  ].find((some) => some.length > 0);
  return [...new Set((ranked ?? []).map(({ value }) => canonicalGpuType(catalogue, value)))];
}

/** Label values that a node must have, or one of which it must have: nodeSelector, then required node affinity. */
function nodeCandidates(podSpec: Readonly<Record<string, unknown>>): readonly Candidate[] {
  const candidates: Candidate[] = textEntries(podSpec.nodeSelector).map(([key, value]) => ({ key, value }));
  const required = record(record(record(podSpec.affinity).nodeAffinity).requiredDuringSchedulingIgnoredDuringExecution);
  for (const term of items(required.nodeSelectorTerms)) {
    for (const expression of items(record(term).matchExpressions)) {
      const { key, operator, values } = record(expression);
      if (typeof key !== 'string' || operator !== 'In') continue;
      for (const value of items(values)) if (typeof value === 'string') candidates.push({ key, value });
    }
  }
  return candidates;
}
