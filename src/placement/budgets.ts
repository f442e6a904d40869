import type { FleetGpu, FleetService, MigCut, MigCutter } from './fleet.js';

/**
 * What each service of one GPU may hold of its memory.
 *
 * All get what they ask for where that fits. Else the shrinkable ones give way, lowest priority first, each to what the
 * others and the reserve leave, in steps, never below its minimum; only what is then still too much exceeds the GPU.
 *
 * On 4,094 MiB a service of 6,963 that can live with 2,048 gets ⌊(4,094 − 500) / 512⌋ · 512 = 3,584.
 */

/** Kept free on a GPU whose budgets were adjusted [MiB]: what contexts and fragmentation take before anything is stored. */
export const reserveMb = 500;

/** Adjusted budgets are multiples of this [MiB]: half a GiB, as people write them. */
const budgetStepMb = 512;

export type GpuBudgets = {
  /** In the order of the services [MiB]. */
  readonly budgetsMb: readonly number[];
  readonly assignedMb: number;
  readonly shrunkMb: number;
  /** Beyond the memory of the GPU, with what others use of it [MiB]. */
  readonly overMb: number;
  /** Instances of a GPU that is cut by MIG, in the order of the services. */
  readonly cuts: readonly MigCut[] | null;
};

/**
 * Budgets of services on one GPU, or null where the hardware does not let them be there at once: one that takes one, a
 * dedicated one beside another, more than the whole of its compute, instances that do not fit.
 */
export function budgetsOn(gpu: FleetGpu, services: readonly FleetService[]): GpuBudgets | null {
  if (services.length > 1 && (gpu.takesOne || services.some(({ dedicated }) => dedicated))) return null;
  const compute = services.reduce((sum, { computeShare }) => sum + computeShare, 0);
  if (compute > 1 + computeTolerance) return null;
  return gpu.cut === null ? sharedBudgets(gpu, services) : cutBudgets(gpu, services, gpu.cut);
}

/** Shares are written with a few decimals, and ten of 0.1 are a little more than 1. */
export const computeTolerance = 1e-9;

/** The order in which services give way: lowest priority first, then the larger, then by name. */
function givingWay(services: readonly FleetService[]): readonly number[] {
  return services
    .map((_, i) => i)
    .filter((i) => services[i]!.minMb < services[i]!.memoryMb)
    .sort((i, j) => {
      const [a, b] = [services[i]!, services[j]!];
      return a.priority - b.priority || b.memoryMb - a.memoryMb || a.at - b.at;
    });
}

function sharedBudgets(gpu: FleetGpu, services: readonly FleetService[]): GpuBudgets {
  const askedMb = services.map(({ memoryMb }) => memoryMb);
  return withinFree(gpu, services, { wantedMb: askedMb, cuts: null });
}

/** Budgets on a GPU of services that want so much, at most what they ask for, once as many have given way as need to. */
function withinFree(
  gpu: FleetGpu,
  services: readonly FleetService[],
  { wantedMb, cuts }: { readonly wantedMb: readonly number[]; readonly cuts: readonly MigCut[] | null },
): GpuBudgets {
  const budgetsMb = [...wantedMb];
  let totalMb = budgetsMb.reduce((sum, each) => sum + each, 0);
  if (totalMb > Math.max(0, gpu.freeMb)) {
    const targetMb = gpu.freeMb - reserveMb;
    for (const i of givingWay(services)) {
      if (totalMb <= targetMb) break;
      const othersMb = totalMb - budgetsMb[i]!;
      const steppedMb = Math.floor(Math.max(0, targetMb - othersMb) / budgetStepMb) * budgetStepMb;
      const budgetMb = Math.min(budgetsMb[i]!, Math.max(services[i]!.minMb, steppedMb));
      totalMb = othersMb + budgetMb;
      budgetsMb[i] = budgetMb;
    }
  }
  return {
    budgetsMb,
    assignedMb: totalMb,
    shrunkMb: services.reduce((sum, { memoryMb }) => sum + memoryMb, 0) - totalMb,
    overMb: Math.max(0, gpu.usedMb + totalMb - gpu.memoryMb),
    cuts,
  };
}

/**
 * Instances have walls: services that give way, lowest priority first, take the smallest that they can live with until
 * all fit at once; then each, the last of them first, gets the largest that the others leave. What others use of the
 * GPU is outside of the walls, so that the instances together may still hold more than is free.
 */
function cutBudgets(gpu: FleetGpu, services: readonly FleetService[], cut: MigCutter): GpuBudgets | null {
  const needsMb = services.map(({ memoryMb }) => memoryMb);
  let cuts = cut.pack(needsMb);
  const gave: number[] = [];
  for (const i of givingWay(services)) {
    if (cuts !== null) break;
    needsMb[i] = services[i]!.minMb;
    gave.unshift(i);
    cuts = cut.pack(needsMb);
  }
  if (cuts === null) return null;
  for (const i of gave) {
    const { minMb, memoryMb } = services[i]!;
    for (const sizeMb of cut.sizesMb.filter((size) => size > minMb)) {
      const larger = needsMb.with(i, Math.min(memoryMb, sizeMb));
      const wider = cut.pack(larger);
      if (wider === null) continue;
      needsMb[i] = larger[i]!;
      cuts = wider;
      break;
    }
  }
  const instances = cuts;
  const wantedMb = services.map(({ memoryMb }, i) => Math.min(memoryMb, instances[i]!.memoryMb));
  return withinFree(gpu, services, { wantedMb, cuts });
}
