import { type GpuVendor, vendorNames } from '../core/gpu-types.js';
import type { PlacementRefusal, RefusalReason } from '../core/placement.js';
import type { FrameworkName, StrategyName } from '../core/placement-request.js';
import { fewOf, gigabytes, listed } from './amounts.js';
import { computeTolerance } from './budgets.js';
import { type FleetGpu, type FleetService, forbiddingTaints, vendorsOf } from './fleet.js';
import type { Occupancy } from './occupancy.js';

/** Why a service has no place, with the arithmetic, and what would give it one. */
export function explainRefusal(service: FleetService, occupancy: Occupancy, strategy: StrategyName): PlacementRefusal {
  const { name, frameworks } = service.service;
  const refuse = (reason: RefusalReason, why: string, ...remedies: readonly string[]): PlacementRefusal => ({
    service: name,
    reason,
    message: `${why}; what would work: ${[...remedies, ...otherRemedies(service, strategy)].join(', or ')}`,
  });
  const { gpus } = occupancy.fleet;
  if (strategy === 'manual' && !service.isPinned && service.mayUseCpu && service.options.length === 0) {
    return refuse('pinned', `${name} is not pinned, and manual places only what is`, 'any other strategy, for the CPU');
  }
  const vendors = vendorsOf(service.service);
  const builtFor = `frameworks: ${frameworks.join(', ') || 'none'}`;
  if (vendors.size === 0) {
    return refuse('vendor', `${name} is built for no GPU (${builtFor})`, 'one such as cuda in frameworks');
  }
  const wanted = `${listed([...vendors].map((vendor) => vendorNames[vendor]))} GPUs`;
  if (gpus.length === 0) return refuse('vendor', `No GPUs detected, and ${name} runs on ${wanted}`, 'one of those');
  const eligible = service.isPinned ? gpus.filter((gpu) => isPin(gpu, service)) : gpus;
  const ofVendor = eligible.filter(({ gpu }) => vendors.has(gpu.vendor));
  if (ofVendor.length === 0) {
    const here = [...new Set(eligible.map(({ gpu }) => gpu.vendor))].sort();
    const names = listed(here.map((vendor) => vendorNames[vendor]));
    const where = service.isPinned ? `${eligible[0]!.label}, to which it is pinned, is` : 'the GPUs here are';
    const builds = here.map((vendor) => `${usualFrameworks[vendor]} in frameworks`).join(', or ');
    return refuse('vendor', `${name} runs on ${wanted} (${builtFor}), and ${where} ${names}`, builds);
  }
  const open = ofVendor.filter(({ gpu }) => forbiddingTaints(gpu, service.service).length === 0);
  if (open.length === 0) return refuse('taint', ...taintFault(service, ofVendor));
  if (!service.isPinned && strategy === 'manual') {
    const { node, index } = roomiest(service, open, occupancy).gpu;
    const pin = `gpu: { node: ${JSON.stringify(node)}, index: ${index} }`;
    return refuse('pinned', `${name} is not pinned, and manual places only what is`, pin, 'another strategy');
  }
  const faults = open.map((gpu) => faultOf(service, gpu, occupancy));
  // Of GPUs that refuse for different reasons memory is blamed: it is the easier to mend.
  const blamed = faults.find(({ reason }) => reason === 'memory') ?? faults[0]!;
  const { elsewhere, remedies } = blamed;
  if (service.isPinned) {
    const reason = blamed.reason === 'sharing' ? 'pinned' : blamed.reason;
    const need = blamed.need === null ? '' : `${blamed.need} and `;
    return refuse(reason, `${name} ${need}is pinned to ${blamed.label}, which ${blamed.fault}`, ...remedies);
  }
  const texts = [...faults]
    .sort((a, b) => Number(b.reason === blamed.reason) - Number(a.reason === blamed.reason))
    .map(({ label, fault }) => `${label} ${fault}`);
  const more = texts.length > mostTexts ? `, and ${texts.length - mostTexts} GPUs more are no better` : '';
  const why = blamed.need === null ? `no GPU takes ${name}` : `${name} ${blamed.need}`;
  return refuse(blamed.reason, `${why}: ${texts.slice(0, mostTexts).join(', ')}${more}`, elsewhere, ...remedies);
}

/** GPUs that one message goes through. */
const mostTexts = 3;

function isPin({ gpu }: FleetGpu, { service }: FleetService): boolean {
  return service.gpu !== null && gpu.node === service.gpu.node && gpu.index === service.gpu.index;
}

/** What else helps, whatever the reason. */
function otherRemedies({ isPinned, mayUseCpu }: FleetService, strategy: StrategyName): readonly string[] {
  if (isPinned) return ['another pin, or none'];
  return mayUseCpu || strategy === 'manual' ? [] : ['cpuAllowed: true'];
}

/** The GPU with the fewest taints in the way, and the tolerations that it takes. */
function taintFault(service: FleetService, gpus: readonly FleetGpu[]): readonly [why: string, remedy: string] {
  const { name } = service.service;
  const tainted = gpus.map(({ label, gpu }) => ({ label, taints: forbiddingTaints(gpu, service.service) }));
  const { label, taints } = tainted.reduce((a, b) => (b.taints.length < a.taints.length ? b : a));
  const whose = `${label} has the ${taints.length === 1 ? 'taint' : 'taints'} ${listed(taints)}`;
  const tolerations = JSON.stringify(taints.map((taint) => taint.split(':')[0])).replaceAll(',', ', ');
  const remedy = `tolerations: ${tolerations}`;
  if (service.isPinned) {
    const its = taints.length === 1 ? 'its taint' : 'its taints';
    return [`${name} is pinned to ${label} and does not tolerate ${its} ${listed(taints)}`, remedy];
  }
  if (gpus.length === 1) return [`${whose}, which ${name} does not tolerate`, remedy];
  return [`${name} tolerates none of the ${gpus.length} GPUs that it could run on: ${whose}`, remedy];
}

/** The GPU that exceeds and shrinks least with one service more. */
function roomiest(service: FleetService, gpus: readonly FleetGpu[], occupancy: Occupancy): FleetGpu {
  const cost = ({ at, freeMb }: FleetGpu): readonly number[] => {
    const load = occupancy.with(service, at);
    if (load === null) return [Number.POSITIVE_INFINITY, 0, 0];
    const before = occupancy.loadOf(at);
    return [load.overMb - before.overMb, load.shrunkMb - before.shrunkMb, load.assignedMb - freeMb];
  };
  const costs = gpus.map((gpu) => ({ gpu, cost: cost(gpu) }));
  costs.sort((a, b) => {
    const i = a.cost.findIndex((each, c) => each !== b.cost[c]);
    return i === -1 ? 0 : a.cost[i]! - b.cost[i]!;
  });
  return costs[0]!.gpu;
}

type Fault = {
  readonly reason: 'memory' | 'sharing';
  readonly label: string;
  /** What is said of the GPU: `is exclusive and has ai-llm`. */
  readonly fault: string;
  /** What is said of the service: `needs 6 GB`; null = nothing, the GPU says it all. */
  readonly need: string | null;
  /** Which other GPU would take it. */
  readonly elsewhere: string;
  /** What would let it on this one. */
  readonly remedies: readonly string[];
};

/** Why a GPU of the right vendor, without taints, does not take it. */
function faultOf(service: FleetService, gpu: FleetGpu, occupancy: Occupancy): Fault {
  const services = occupancy.servicesOn(gpu.at);
  const names = fewOf(services.map((other) => other.service.name).sort());
  const { label } = gpu;
  const sharing = (fault: string, need: string | null, elsewhere: string, ...remedies: readonly string[]): Fault => ({
    reason: 'sharing',
    label,
    fault,
    need,
    elsewhere,
    remedies,
  });
  if (services.length > 0 && gpu.takesOne) {
    if (gpu.sharingFault === null) {
      const why = gpu.gpu.sharing === null ? 'lets one process at a time use it' : 'is exclusive';
      return sharing(`${why} and has ${names}`, null, 'a GPU that is shared');
    }
    const fault = `takes one service, since ${gpu.gpu.sharing} does not work there, and has ${names}`;
    return sharing(fault, null, 'a GPU that is shared', `another sharing of ${label}`);
  }
  if (services.some(({ dedicated }) => dedicated)) {
    return sharing(`belongs to ${names} alone (dedicated)`, null, 'one GPU more');
  }
  if (services.length > 0 && service.dedicated) {
    return sharing(`has ${names}`, 'shares its GPU with nobody', 'one GPU more', 'dedicated: false');
  }
  const compute = services.reduce((sum, { computeShare }) => sum + computeShare, 0);
  if (compute + service.computeShare > 1 + computeTolerance) {
    const left = Number(Math.max(0, 1 - compute).toFixed(4));
    const need = `needs ${service.computeShare} of the compute of a GPU`;
    return sharing(`has ${left} left beside ${names}`, need, 'one GPU more', 'a smaller computeShare');
  }
  const least = service.minMb < service.memoryMb ? ' at least' : '';
  const need = `needs${least} ${gigabytes(service.minMb)}`;
  if (gpu.cut !== null) {
    const isAlone = services.length === 0;
    const fault = isAlone ? 'has no MIG instance of that size' : `has no such MIG instance left beside ${names}`;
    return sharing(fault, need, `a GPU with ${gigabytes(service.minMb)} free`, 'other instances', 'less memory');
  }
  const takenMb = occupancy.minMb(gpu.at);
  const freeMb = Math.max(0, gpu.freeMb - takenMb);
  const parts = [gigabytes(gpu.memoryMb)];
  if (gpu.usedMb > 0) parts.push(`${gigabytes(gpu.usedMb)} used by others`);
  if (takenMb > 0) parts.push(`${gigabytes(takenMb)} of ${names}`);
  return {
    reason: 'memory',
    label,
    fault: parts.length === 1 ? `has ${parts[0]}` : `has ${gigabytes(freeMb)} free (${parts.join(' − ')})`,
    need,
    elsewhere: `a GPU with ${gigabytes(service.minMb)} free`,
    remedies: ['overcommit: warn'],
  };
}

/** What a build for a vendor's GPUs mostly names. */
const usualFrameworks: Readonly<Record<GpuVendor, FrameworkName>> = {
  nvidia: 'cuda',
  amd: 'rocm',
  intel: 'openvino',
  huawei: 'cann',
};
