import type { PlacementGpu } from '../../../core/placement-request.js';
import type { ExportInput } from '../exporter.js';
import { gpuTitle, type PlacedService } from '../placed-service.js';
import { wholeGpuResource } from './device-resources.js';
import { listed } from './gpu-services.js';

/** GPUs that a device plugin hands out under one name, so that it is the plugin that chooses among them. */
export type OneResource = {
  readonly resource: string;
  readonly gpus: readonly PlacementGpu[];
  /** Services that the placement put on one of them. */
  readonly users: readonly PlacedService[];
  /** Whether they are of one kind, so that it matters little which one a pod gets. */
  readonly equal: boolean;
};

/** Where several GPUs of a node are one resource, and in use; those under MIG are offered as instances, by profile. */
export function oneResources(input: ExportInput, placed: readonly PlacedService[]): readonly OneResource[] {
  const groups = new Map<string, PlacementGpu[]>();
  const cut = new Set(
    placed.flatMap(({ gpu, assignment: { mig } }) => (gpu === null || mig === undefined ? [] : [gpu])),
  );
  for (const gpu of input.request.gpus) {
    if (gpu.sharing === 'mig' || cut.has(gpu)) continue;
    const key = JSON.stringify([gpu.node, wholeGpuResource(gpu, input.catalogue)]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [gpu]);
    else group.push(gpu);
  }
  return [...groups.values()].flatMap((gpus): readonly OneResource[] => {
    const first = gpus[0]!;
    const users = placed.filter(({ gpu }) => gpu !== null && gpus.includes(gpu));
    if (gpus.length < 2 || users.length === 0) return [];
    const equal = gpus.every(({ memoryMb, name }) => memoryMb === first.memoryMb && name === first.name);
    return [{ resource: wholeGpuResource(first, input.catalogue), gpus, users, equal }];
  });
}

/** `GPU 0 (RTX A5500) and GPU 1 (RTX A400)`. */
export function titlesOf(gpus: readonly PlacementGpu[], { request }: ExportInput): string {
  return listed(gpus.map((gpu) => `${gpuTitle(gpu, request)}${gpu.name === '' ? '' : ` (${gpu.name})`}`));
}

/** What a person must know where pods ask for one of several GPUs. */
export function choiceNotices(input: ExportInput, placed: readonly PlacedService[]): readonly string[] {
  return oneResources(input, placed).map(({ gpus, users, equal }) => {
    const which = titlesOf(gpus, input);
    if (equal) {
      const shared = users.length > new Set(users.map(({ assignment }) => assignment.gpuIndex)).size;
      return `Which of ${which} a pod gets is chosen when it starts${shared ? ', so that other services may share one than in the placement' : '; they are equal'}. --allocation dra chooses.`;
    }
    return `${which} are one resource here, and a pod may be given any of them: ${listed(users.map(({ service }) => service.name))} may start on the wrong one. What can tell them apart: --allocation dra, by UUID, PCI address or memory; --allocation hami, by UUID (tags.uuid) or type. Patterns for names of their own (resources.gpus) are ignored by released versions of NVIDIA's plugin.`;
  });
}
