import { InputError, quoteInput } from '../../core/input-error.js';
import type { PlacementAssignment } from '../../core/placement.js';
import {
  gpuKey,
  type PlacementGpu,
  type PlacementRequest,
  type PlacementService,
} from '../../core/placement-request.js';
import type { ExportInput } from './exporter.js';

/** One assignment with what the request says of its two ends. */
export type PlacedService = {
  readonly service: PlacementService;
  readonly assignment: PlacementAssignment;
  /** Null = the CPU. */
  readonly gpu: PlacementGpu | null;
};

/**
 * The assignments of a placement, in its order, each with its service and its GPU.
 *
 * @throws InputError where the placement names a service or a GPU that the request does not have: it answers another one
 */
export function placedServices({ request, placement }: ExportInput): readonly PlacedService[] {
  const services = new Map(request.services.map((service) => [service.name, service]));
  const gpus = new Map(request.gpus.map((gpu) => [gpuKey(gpu), gpu]));
  return placement.assignments.map((assignment, a) => {
    const service = services.get(assignment.service);
    if (service === undefined) {
      const issue = { place: `assignments[${a}].service`, found: quoteInput(assignment.service) };
      throw new InputError('the placement', [{ ...issue, expected: 'a service of the request that it answers' }]);
    }
    if (assignment.gpuIndex === null) return { service, assignment, gpu: null };
    const gpu =
      assignment.node === null ? undefined : gpus.get(gpuKey({ node: assignment.node, index: assignment.gpuIndex }));
    if (gpu === undefined) {
      const found = `GPU ${assignment.gpuIndex} of ${quoteInput(assignment.node)}`;
      const issue = { place: `assignments[${a}].gpuIndex`, found };
      throw new InputError('the placement', [{ ...issue, expected: 'a GPU of the request that it answers' }]);
    }
    return { service, assignment, gpu };
  });
}

/** The nodes of a request, in the order in which its GPUs name them. */
export function nodesOf(request: PlacementRequest): readonly string[] {
  return [...new Set(request.gpus.map(({ node }) => node))];
}

/** MiB as a number of GB (GiB) that a person reads: two decimals at most, rounded down so that it never promises more. */
export function gbOf(memoryMb: number): number {
  return Math.floor((memoryMb * 100) / 1024) / 100;
}

/** The same, rounded up: what is too much or lost must not read as nothing. */
export function gbOrMore(memoryMb: number): number {
  return Math.ceil((memoryMb * 100) / 1024) / 100;
}

/** `GPU 1`, or `GPU 1 of NODE` where the request has several nodes. */
export function gpuTitle(gpu: Pick<PlacementGpu, 'node' | 'index'>, request: PlacementRequest): string {
  return nodesOf(request).length > 1 ? `GPU ${gpu.index} of ${gpu.node}` : `GPU ${gpu.index}`;
}

/** `GPU 1, RTX A400: 3.5 of 4 GB, time-slicing`: one assignment as the heading of its part of a file. */
export function gpuHeading(gpu: PlacementGpu, assignment: PlacementAssignment, request: PlacementRequest): string {
  const title = gpu.name === '' ? gpuTitle(gpu, request) : `${gpuTitle(gpu, request)}, ${gpu.name}`;
  const mode = assignment.mig === undefined ? assignment.sharing : `mig ${assignment.mig.profile}`;
  const memoryGb = Math.round((gpu.memoryMb * 10) / 1024) / 10;
  return `${title}: ${gbOf(assignment.memoryBudgetMb)} of ${memoryGb} GB, ${mode}`;
}

/**
 * Jetson modules: their driver is part of the board's system, which Docker's device requests do not reach.
 *
 * Source: the hook of NVIDIA's container toolkit, which refuses `--gpus` there and names `--runtime=nvidia`.
 */
export function isJetson(gpu: PlacementGpu): boolean {
  return gpu.vendor === 'nvidia' && /jetson|\b(orin|thor|xavier)\b/i.test(gpu.name);
}

/** Intel's Gaudi accelerators, which have a driver and a container runtime of their own. */
export function isGaudi(gpu: PlacementGpu): boolean {
  return gpu.vendor === 'intel' && /gaudi/i.test(gpu.name);
}
