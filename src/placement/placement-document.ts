import type { Placement, PlacementAssignment, PlacementRefusal } from '../core/placement.js';
import type { SharingModeName, StrategyName } from '../core/placement-request.js';
import { budgetsOn, type GpuBudgets } from './budgets.js';
import { hasEngine } from './engine-kinds.js';
import type { FleetGpu, FleetService } from './fleet.js';
import { isRefused, type Occupancy, onCpu } from './occupancy.js';
import { explainRefusal } from './refusals.js';
import { objectiveOf, type Score } from './score.js';
import { warningsOf } from './warnings.js';

/** Turns what was decided into the document that people and exports read. */
export function placementOf(
  occupancy: Occupancy,
  about: {
    readonly strategy: StrategyName;
    readonly bound: Score;
    readonly isProven: boolean;
    readonly nodes: number;
  },
): Placement {
  const { fleet } = occupancy;
  const { request } = fleet;
  const budgets = fleet.gpus.map((gpu) => budgetsOn(gpu, occupancy.servicesOn(gpu.at))!);
  const byName = new Map(fleet.services.map((service) => [service.service.name, service]));
  const inOrder = request.services.map(({ name }) => byName.get(name)!);
  const refused = inOrder.filter((service) => occupancy.placeOf(service) === isRefused);
  const atOf = new Map(fleet.gpus.map(({ gpu, at }) => [gpu, at]));
  return {
    apiVersion: 'gpumix/v1',
    kind: 'Placement',
    strategy: about.strategy,
    status: about.isProven ? 'optimal' : 'feasible',
    overcommit: request.overcommit,
    assignments: inOrder
      .filter((service) => !refused.includes(service))
      .map((service) => assignmentOf(service, occupancy, budgets)),
    gpus: request.gpus.map((gpu) => ({
      node: gpu.node,
      index: gpu.index,
      memoryMb: gpu.memoryMb,
      usedMb: gpu.usedMb,
      assignedMb: budgets[atOf.get(gpu)!]!.assignedMb,
    })),
    warnings: warningsOf(occupancy, budgets),
    refusals: refused.map((service): PlacementRefusal => explainRefusal(service, occupancy, about.strategy)),
    objective: objectiveOf(occupancy.score(), fleet),
    bound: objectiveOf(about.bound, fleet),
    nodes: about.nodes,
  };
}

function assignmentOf(
  service: FleetService,
  occupancy: Occupancy,
  budgets: readonly GpuBudgets[],
): PlacementAssignment {
  const { fleet } = occupancy;
  const at = occupancy.placeOf(service);
  if (at === onCpu) {
    const nodes = new Set(fleet.gpus.map(({ gpu }) => gpu.node));
    return {
      service: service.service.name,
      node: nodes.size === 1 ? [...nodes][0]! : null,
      gpuIndex: null,
      memoryBudgetMb: service.memoryMb,
      sharing: 'cpu',
      share: 0,
    };
  }
  const gpu = fleet.gpus[at]!;
  const services = occupancy.servicesOn(at);
  const own = services.indexOf(service);
  const { budgetsMb, cuts } = budgets[at]!;
  const cut = cuts?.[own];
  return {
    service: service.service.name,
    node: gpu.gpu.node,
    gpuIndex: gpu.gpu.index,
    memoryBudgetMb: budgetsMb[own]!,
    sharing: sharingOn(gpu, services),
    share: cut === undefined ? shareOf(own, services, budgetsMb, gpu) : Math.floor(cut.compute * 1e4 + 1e-6) / 1e4,
    ...(cut === undefined ? {} : { mig: { profile: cut.profile, uuid: cut.uuid } }),
  };
}

/** How the services of a GPU share it: as it is set, else what they can do by themselves. */
function sharingOn({ gpu, cut, takesOne }: FleetGpu, services: readonly FleetService[]): SharingModeName {
  if (cut !== null) return 'mig';
  if (takesOne || services.length === 1) return 'exclusive';
  if (gpu.sharing !== null) return gpu.sharing;
  return services.every(({ service }) => hasEngine(service)) ? 'memory-limit' : 'time-slicing';
}

/**
 * The part of a GPU's compute that a service may count on: what it asks for; all where it is alone; else, of what those
 * that ask leave, a part in proportion to its memory. Down to four decimals, so that the shares of a GPU are at most 1.
 */
function shareOf(own: number, services: readonly FleetService[], budgetsMb: readonly number[], gpu: FleetGpu): number {
  const asked = services[own]!.computeShare;
  if (asked > 0) return asked;
  if (services.length === 1) return 1;
  const askedByOthers = services.reduce((sum, { computeShare }) => sum + computeShare, 0);
  const unasked = budgetsMb.filter((_, i) => services[i]!.computeShare === 0);
  const totalMb = unasked.reduce((sum, each) => sum + each, 0);
  // Where memory is enough, what nobody holds is nobody's; the memory of the GPU is the measure then.
  const measureMb = askedByOthers > 0 ? totalMb : Math.max(totalMb, gpu.memoryMb);
  const part = totalMb === 0 ? 1 / unasked.length : budgetsMb[own]! / measureMb;
  return Math.floor(Math.max(0, 1 - askedByOthers) * part * 1e4 + 1e-6) / 1e4;
}
