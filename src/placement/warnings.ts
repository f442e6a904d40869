import type { PlacementWarning } from '../core/placement.js';
import { fewOf, gigabytes } from './amounts.js';
import type { GpuBudgets } from './budgets.js';
import { type FleetGpu, type FleetService, tolerates } from './fleet.js';
import { isRefused, type Occupancy, onCpu } from './occupancy.js';

/** What a person should know of a placement although it was made, and of the GPUs that it was made on. */
export function warningsOf(occupancy: Occupancy, budgets: readonly GpuBudgets[]): readonly PlacementWarning[] {
  const { fleet } = occupancy;
  const warnings: PlacementWarning[] = [];
  for (const gpu of fleet.gpus) {
    const services = occupancy.servicesOn(gpu.at);
    warnings.push(...memoryWarnings(gpu, services, budgets[gpu.at]!), ...hardwareWarnings(gpu, services));
  }
  for (const service of fleet.services) {
    if (service.critical && occupancy.placeOf(service) === onCpu) {
      const message = `${service.service.name} is critical and runs on the CPU, where it is far slower than on any GPU`;
      warnings.push({ code: 'critical_on_cpu', service: service.service.name, message });
    }
  }
  warnings.push(...speedWarnings(fleet.gpus, fleet.services));
  if (fleet.gpus.length === 0) {
    const isLeft = fleet.services.some((service) => occupancy.placeOf(service) === isRefused);
    const consequence = isLeft ? 'services that need one are refused' : 'everything runs on the CPU';
    const message = fleet.services.length === 0 ? 'No GPUs detected' : `No GPUs detected: ${consequence}`;
    warnings.push({ code: 'no_gpus', message });
  }
  return warnings;
}

function memoryWarnings(
  gpu: FleetGpu,
  services: readonly FleetService[],
  budgets: GpuBudgets,
): readonly PlacementWarning[] {
  const warnings: PlacementWarning[] = [];
  const { label, memoryMb, usedMb } = gpu;
  const inOrder = services.map((service, i) => ({ service, budgetMb: budgets.budgetsMb[i]!, cut: budgets.cuts?.[i] }));
  inOrder.sort((a, b) => a.service.at - b.service.at);
  for (const { service, budgetMb, cut } of inOrder) {
    const { name, model } = service.service;
    if (budgetMb < service.memoryMb) {
      const asked = `${name} budget (${gigabytes(service.memoryMb)})`;
      const adjusted = `Auto-adjusted to ${gigabytes(budgetMb)}.`;
      if (service.memoryMb > memoryMb) {
        const message = `${asked} exceeds ${label} (${gigabytes(memoryMb)}). ${adjusted}`;
        warnings.push({ code: 'memory_exceeds_gpu', service: name, message });
      } else if (cut !== undefined && budgetMb >= cut.memoryMb) {
        const message = `${asked} exceeds the MIG instance that it can have on ${label} (${cut.profile}). ${adjusted}`;
        warnings.push({ code: 'budget_adjusted', service: name, message });
      } else {
        const othersMb = usedMb + budgets.assignedMb - budgetMb;
        const free = gigabytes(Math.max(0, memoryMb - othersMb));
        const message = `${asked} exceeds what others leave of ${label} (${free} of ${gigabytes(memoryMb)}). ${adjusted}`;
        warnings.push({ code: 'budget_adjusted', service: name, message });
      }
    }
    if (budgetMb > memoryMb) {
      const what = model === '' ? name : `${name} (${model})`;
      const message = `${what} requires ~${gigabytes(budgetMb)}, ${label} only has ${gigabytes(memoryMb)}`;
      warnings.push({ code: 'memory_exceeds_gpu', service: name, message });
    }
  }
  for (const { service, cut } of inOrder) {
    if (cut === undefined || service.computeShare <= cut.compute + 1e-9) continue;
    const { name } = service.service;
    const has = `${cut.profile} of ${label} is ${Number(cut.compute.toFixed(2))} of its compute`;
    const message = `${name} asks for ${service.computeShare} of a GPU's compute (computeShare), and its instance ${has}`;
    warnings.push({ code: 'compute_share_not_met', service: name, message });
  }
  if (budgets.overMb > 0 && services.length > 0) {
    const totalMb = usedMb + budgets.assignedMb;
    if (services.length > 1 || usedMb > 0) {
      const used = usedMb > 0 ? `, ${gigabytes(usedMb)} of it used by others` : '';
      const message = `Combined VRAM (~${gigabytes(totalMb)}${used}) exceeds ${label} capacity (${gigabytes(memoryMb)})`;
      warnings.push({ code: 'combined_memory_exceeds_gpu', message });
    }
  }
  if (usedMb > memoryMb) {
    const message = `${label} has ${gigabytes(memoryMb)}, and others are said to use ${gigabytes(usedMb)} of it (usedMb)`;
    warnings.push({ code: 'used_exceeds_memory', message });
  }
  return warnings;
}

/** Speeds are relative: those of a request and those of the catalogue are not of one scale. */
function speedWarnings(gpus: readonly FleetGpu[], services: readonly FleetService[]): readonly PlacementWarning[] {
  const given = gpus.filter(({ gpu }) => gpu.speed !== null);
  const others = gpus.filter(({ gpu }) => gpu.speed === null);
  if (given.length === 0 || others.length === 0 || !services.some(({ critical }) => critical)) return [];
  const message = `speed is set for ${fewOf(given.map(({ label }) => label))}, and that of ${fewOf(others.map(({ label }) => label))} is the catalogue's (memory bandwidth in TB/s): set it for all of them, or for none`;
  return [{ code: 'speeds_mixed', message }];
}

function hardwareWarnings(gpu: FleetGpu, services: readonly FleetService[]): readonly PlacementWarning[] {
  const warnings: PlacementWarning[] = [];
  if (gpu.sharingFault !== null) {
    const message = `${gpu.label} is set to ${gpu.gpu.sharing}, which does not work there: it takes one service. ${capitalised(gpu.sharingFault)}.`;
    warnings.push({ code: 'sharing_not_supported', message });
  }
  if (gpu.hasImpossibleInstances) {
    const profiles = (gpu.gpu.migInstances ?? []).map(({ profile }) => profile);
    const message = `${gpu.label} cannot be cut into ${fewOf(profiles)} at once: check migInstances against nvidia-smi -L`;
    warnings.push({ code: 'mig_instances_impossible', message });
  }
  if (!gpu.isSpeedKnown && services.some(({ critical }) => critical)) {
    const { name } = gpu.gpu;
    const what = name === '' ? 'has no name' : `(${name}) is not in the catalogue with its memory bandwidth`;
    const message = `${gpu.label} ${what}: its speed is taken as ${gpu.speed}. Set its speed.`;
    warnings.push({ code: 'speed_unknown', message });
  }
  for (const { service } of [...services].sort((a, b) => a.at - b.at)) {
    const taint = gpu.gpu.taints.find(
      (each) => each.endsWith(':PreferNoSchedule') && !tolerates(service.tolerations, each),
    );
    if (taint === undefined) continue;
    const message = `${service.name} is on ${gpu.label}, whose taint ${taint} would rather keep it away`;
    warnings.push({ code: 'taint_preferred', service: service.name, message });
  }
  return warnings;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
