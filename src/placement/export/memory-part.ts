import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { PlacementAssignment } from '../../core/placement.js';
import type { PlacementGpu } from '../../core/placement-request.js';
import { memoryFractionOf } from '../amounts.js';
import { migProfilesOf, profileMemoryMb } from '../sharing/mig-geometry.js';
import type { PlacedService } from './placed-service.js';

/**
 * The budget of a service as the part of the memory of the device that it sees, which is what vLLM is told: 0.01 to 1, down
 * to hundredths; null on the CPU. Of a MIG instance it is the part of the instance.
 */
export function memoryPart({ gpu, assignment }: PlacedService, catalogue: GpuCatalogue): number | null {
  if (gpu === null) return null;
  const part = memoryFractionOf(assignment.memoryBudgetMb, deviceMemoryMb(gpu, assignment, catalogue));
  return Math.min(1, Math.max(0.01, part));
}

/** MiB of the GPU, or of the MIG instance: as the catalogue knows it, else the size in its name, which is no smaller. */
function deviceMemoryMb(gpu: PlacementGpu, { mig }: PlacementAssignment, catalogue: GpuCatalogue): number {
  const profile = mig === undefined ? null : /^\d+g\.(\d+)gb/.exec(mig.profile);
  if (profile === null) return gpu.memoryMb;
  const known = migProfilesOf(gpu, catalogue).find(({ name }) => name === profile[0]);
  return known === undefined ? Number(profile[1]) * 1024 : profileMemoryMb(known);
}
