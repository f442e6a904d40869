import { type GpuCatalogue, gpuByName } from '../../../core/gpu-types.js';
import type { PlacementGpu } from '../../../core/placement-request.js';
import { isGaudi } from '../placed-service.js';

/**
 * What the device plugins of the vendors call their GPUs, and how a placement is told to them.
 *
 * Sources: NVIDIA k8s-device-plugin (README, `api/config/v1`), AMD k8s-device-plugin, Intel device plugins for Kubernetes
 * (GPU plugin: one resource for each kernel driver), Huawei Ascend device plugin.
 */

/** Of a whole NVIDIA GPU, and of one that the plugin advertises several times (`renameByDefault`). */
export const nvidiaGpu = 'nvidia.com/gpu';
export const nvidiaSharedGpu = 'nvidia.com/gpu.shared';

/** The resource of a MIG instance under strategy `mixed`: `1g.10gb+me` → `nvidia.com/mig-1g.10gb.me`. */
export function migResource(profile: string): string {
  return `nvidia.com/mig-${profile.replaceAll('+', '.')}`;
}

/** What the request says of the architecture, else the catalogue; null = nobody knows. */
function architectureOf(gpu: PlacementGpu, catalogue: GpuCatalogue): string | null {
  return gpu.architecture ?? gpuByName(catalogue, gpu.name)?.architecture ?? null;
}

/** Architectures that the kernel's `xe` driver binds by default: Battlemage, Lunar Lake and what came later. */
const xeArchitecture = /^(xe[23]|battlemage|celestial|lunar|panther|nova)/i;
/** Arc B580, Arc Pro B60. */
const xeName = /\barc\b.*\bB\d{2,3}\b/i;

/**
 * The kernel driver of an Intel GPU, which names its resource: `tags.driver` where it is said, else by architecture (or by
 * a name such as Arc B580). Alchemist, Flex and Max are on `i915`.
 */
export function intelDriver(gpu: PlacementGpu, catalogue: GpuCatalogue): 'i915' | 'xe' {
  const { driver } = gpu.tags;
  if (driver === 'i915' || driver === 'xe') return driver;
  const architecture = architectureOf(gpu, catalogue);
  return (architecture === null ? xeName.test(gpu.name) : xeArchitecture.test(architecture)) ? 'xe' : 'i915';
}

/** The resource of a whole GPU that nobody else is given. */
export function wholeGpuResource(gpu: PlacementGpu, catalogue: GpuCatalogue): string {
  if (isGaudi(gpu)) return 'habana.ai/gaudi';
  const byVendor = {
    nvidia: () => nvidiaGpu,
    amd: () => 'amd.com/gpu',
    intel: () => `gpu.intel.com/${intelDriver(gpu, catalogue)}`,
    huawei: () => (/310p/i.test(gpu.name) ? 'huawei.com/Ascend310P' : 'huawei.com/Ascend910'),
  } satisfies Record<PlacementGpu['vendor'], () => string>;
  return byVendor[gpu.vendor]();
}
