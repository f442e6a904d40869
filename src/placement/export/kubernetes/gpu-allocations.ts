import type { PlacementGpu } from '../../../core/placement-request.js';
import type { ExportInput, GpuAllocationName } from '../exporter.js';
import type { CommentedManifest } from './documents.js';
import type { NamedService } from './gpu-services.js';
import { type NodeSharing, pluginResource } from './node-sharing.js';
import { claimOf, hasDraDriver } from './resource-claims.js';

/** What a pod says to be given its GPU. */
export type PodGpu = {
  readonly limits: Readonly<Record<string, string>>;
  readonly claim: { readonly resourceClaimName: string } | { readonly resourceClaimTemplateName: string } | null;
  readonly annotations: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly schedulerName: string | null;
  /** Objects that it needs beside its Deployment. */
  readonly documents: readonly CommentedManifest[];
  readonly notices: readonly string[];
};

export type AllocationInput = ExportInput & {
  readonly sharings: ReadonlyMap<string, NodeSharing>;
  /** All services of its GPU, or of its MIG instance, in the order of the placement. */
  readonly sharers: readonly NamedService[];
};

/** A part of the cluster that hands out GPUs. */
export type GpuAllocation = {
  /** For `--help`, in half a line. */
  readonly about: string;
  /** Whether NVIDIA's device plugin has to be told how the GPUs of a node are shared. */
  readonly pluginConfig: boolean;
  /** Whether the MIG manager has to be told how GPUs are cut. */
  readonly migConfig: boolean;
  /** Whether it can be told which GPU of a node a pod gets. */
  readonly choosesGpu: boolean;
  readonly pod: (one: NamedService, input: AllocationInput) => PodGpu;
};

const nothing: PodGpu = {
  limits: {},
  claim: null,
  annotations: {},
  labels: {},
  schedulerName: null,
  documents: [],
  notices: [],
};

function byPlugin(one: NamedService, input: AllocationInput): PodGpu {
  const resource = pluginResource(one, input.sharings, input);
  return resource === null ? nothing : { ...nothing, limits: { [resource]: '1' } };
}

/** Whether the service has an NVIDIA GPU, which is all that HAMi's and KAI's own ways of sharing are written for here. */
function onNvidia({ gpu }: NamedService): boolean {
  return gpu?.vendor === 'nvidia';
}

export const gpuAllocations = {
  'device-plugin': {
    about: 'device plugins of the vendors: one resource for each kind of device',
    pluginConfig: true,
    migConfig: true,
    choosesGpu: false,
    pod: byPlugin,
  },
  hami: {
    about: 'HAMi: memory and cores of NVIDIA GPUs as limits, the GPU by its UUID or type',
    pluginConfig: false,
    migConfig: false,
    choosesGpu: true,
    pod: (one, input) => {
      const { gpu, assignment } = one;
      if (gpu === null || !onNvidia(one)) return byPlugin(one, input);
      if (assignment.mig !== undefined) return hamiPod(one, gpu, input, null);
      // 100 % of the cores is how HAMi is told that nobody else may be there.
      return hamiPod(
        one,
        gpu,
        input,
        input.sharers.length > 1 ? Math.max(1, Math.floor(assignment.share * 100 + 1e-9)) : 100,
      );
    },
  },
  kai: {
    about: 'KAI scheduler: memory of shared NVIDIA GPUs as an annotation, queues',
    pluginConfig: false,
    migConfig: true,
    choosesGpu: false,
    pod: (one, input) => {
      if (!onNvidia(one)) return byPlugin(one, input);
      const scheduled = {
        ...nothing,
        labels: { 'kai.scheduler/queue': 'default-queue' },
        schedulerName: 'kai-scheduler',
      };
      const { mig, memoryBudgetMb } = one.assignment;
      if (mig === undefined && input.sharers.length > 1) {
        return { ...scheduled, annotations: { 'gpu-memory': String(memoryBudgetMb) } };
      }
      const resource = mig === undefined ? 'nvidia.com/gpu' : pluginResource(one, input.sharings, input)!;
      return { ...scheduled, limits: { [resource]: '1' } };
    },
  },
  dra: {
    about: 'dynamic resource allocation (Kubernetes 1.34): claims that choose the GPU itself',
    pluginConfig: false,
    migConfig: true,
    choosesGpu: true,
    pod: (one, input) => {
      if (one.gpu === null || !hasDraDriver(one.gpu)) return byPlugin(one, input);
      const claim = claimOf(one, input.sharers, input)!;
      return {
        ...nothing,
        claim: claim.reference,
        documents: claim.document === null ? [] : [claim.document],
        notices: claim.notices,
      };
    },
  },
} satisfies Record<GpuAllocationName, GpuAllocation>;

/** @param cores part of the cores [%]; null for a MIG instance, whose profile HAMi finds by the memory */
function hamiPod(one: NamedService, gpu: PlacementGpu, input: AllocationInput, cores: number | null): PodGpu {
  const limits: Record<string, string> = { 'nvidia.com/gpu': '1' };
  if (cores !== 100) limits['nvidia.com/gpumem'] = String(one.assignment.memoryBudgetMb);
  if (cores !== null) limits['nvidia.com/gpucores'] = String(cores);
  const annotations: Record<string, string> = { ...hamiChoice(gpu, input) };
  if (cores === null) annotations['nvidia.com/vgpu-mode'] = 'mig';
  return { ...nothing, limits, annotations };
}

/** By UUID; else by type, where the node has NVIDIA GPUs of other names. */
function hamiChoice(gpu: PlacementGpu, { request }: ExportInput): Readonly<Record<string, string>> {
  if (gpu.tags.uuid !== undefined) return { 'nvidia.com/use-gpuuuid': gpu.tags.uuid };
  const others = request.gpus.filter((other) => other.node === gpu.node && other.vendor === 'nvidia');
  if (gpu.name === '' || others.every(({ name }) => name === gpu.name)) return {};
  return { 'nvidia.com/use-gputype': gpu.name };
}
