import { type GpuCatalogue, gpuByName } from '../../core/gpu-types.js';
import type { PlacedService } from './placed-service.js';

/**
 * The budget of a service as the part of the memory of the device that it sees, which is what vLLM is told: 0.01 to 1, down
 * to hundredths; null on the CPU. Of a MIG instance it is the part of the instance.
 */
export function memoryPart(one: PlacedService, catalogue: GpuCatalogue): number | null {
  const device = deviceMemoryMb(one, catalogue);
  if (device === null) return null;
  return Math.min(1, Math.max(0.01, Math.floor((one.assignment.memoryBudgetMb / device) * 100 + 1e-9) / 100));
}

/** MiB of the GPU, or of the MIG instance: as the catalogue knows it, else the size in its name. */
function deviceMemoryMb({ gpu, assignment }: PlacedService, catalogue: GpuCatalogue): number | null {
  if (gpu === null) return null;
  const profile = assignment.mig === undefined ? null : /^\d+g\.(\d+)gb/.exec(assignment.mig.profile);
  if (profile === null) return gpu.memoryMb;
  const known = gpuByName(catalogue, gpu.name)?.migProfiles.find(({ name }) => name === profile[0]);
  return (known?.memoryGib ?? Number(profile[1])) * 1024;
}
