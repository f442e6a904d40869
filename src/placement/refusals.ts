import type { PlacementRefusal } from '../core/placement.js';
import type { StrategyName } from '../core/placement-request.js';
import { fewOf, gigabytes, listed } from './amounts.js';
import { computeTolerance } from './budgets.js';
import { type FleetGpu, type FleetService, forbiddingTaints, vendorsOf } from './fleet.js';
import type { Occupancy } from './occupancy.js';

/** Why a service has no place, with the arithmetic, and what would give it one. */
export function explainRefusal(service: FleetService, occupancy: Occupancy, strategy: StrategyName): PlacementRefusal {
  const refuse = (reason: PlacementRefusal['reason'], message: string): PlacementRefusal => ({
    service: service.service.name,
    reason,
    message,
  });
  const { name } = service.service;
  const { gpus } = occupancy.fleet;
  const eligible = service.isPinned ? gpus.filter((gpu) => isPin(gpu, service)) : gpus;
  const vendors = vendorsOf(service.service);
  const wanted =
    vendors.size === 0 ? 'no GPU (its frameworks name none)' : `${listed([...vendors].map(vendorName))} GPUs`;
  if (gpus.length === 0) {
    return refuse('vendor', `No GPUs detected: ${name} runs on ${wanted}; list GPUs, or set cpuAllowed`);
  }
  const ofVendor = eligible.filter(({ gpu }) => vendors.has(gpu.vendor));
  if (ofVendor.length === 0) {
    const here = listed([...new Set(eligible.map(({ gpu }) => vendorName(gpu.vendor)))].sort());
    const where = service.isPinned ? `${eligible[0]!.label}, to which it is pinned, is ${here}` : `here are ${here}`;
    const frameworks = service.service.frameworks.join(', ') || 'none';
    return refuse(
      'vendor',
      `${name} (frameworks: ${frameworks}) runs on ${wanted}, and ${where}; ${otherwise(service, 'a build for that vendor in frameworks')}`,
    );
  }
  const open = ofVendor.filter(({ gpu }) => forbiddingTaints(gpu, service.service).length === 0);
  if (open.length === 0) {
    const [first] = ofVendor;
    const taint = forbiddingTaints(first!.gpu, service.service)[0]!;
    const all = ofVendor.length === 1 ? `${first!.label} has` : `all ${ofVendor.length} GPUs that it could run on have`;
    return refuse(
      'taint',
      `${name} tolerates no taint that keeps it away: ${all} one such as ${taint}; tolerations: ["${taint.split(':')[0]}"] would let it on`,
    );
  }
  if (!service.isPinned && strategy === 'manual') {
    const taking = open.find(({ at }) => occupancy.with(service, at) !== null) ?? open[0]!;
    const pin = `gpu: { node: ${JSON.stringify(taking.gpu.node)}, index: ${taking.gpu.index} }`;
    return refuse(
      'pinned',
      `${name} is not pinned, and manual places only what is; pin it (${pin}) or take another strategy`,
    );
  }
  const faults = open.map((gpu) => faultOf(service, gpu, occupancy));
  const reason = service.isPinned && faults[0]!.reason === 'sharing' ? 'pinned' : nearest(faults);
  const texts = faults
    .filter((fault) => fault.reason === (reason === 'pinned' ? 'sharing' : reason))
    .map(({ text }) => text);
  const remedy = [...new Set(faults.map((fault) => fault.remedy))][0]!;
  const pinned = service.isPinned ? ', pinned there,' : '';
  return refuse(
    reason,
    `${name}${pinned} ${needs(service, reason)}: ${fewOf(texts, 3)}; ${otherwise(service, remedy)}`,
  );
}

function isPin({ gpu }: FleetGpu, { service }: FleetService): boolean {
  return service.gpu !== null && gpu.node === service.gpu.node && gpu.index === service.gpu.index;
}

type Fault = { readonly reason: 'memory' | 'sharing'; readonly text: string; readonly remedy: string };

/** Why a GPU of the right vendor, without taints, does not take it. */
function faultOf(service: FleetService, gpu: FleetGpu, occupancy: Occupancy): Fault {
  const services = occupancy.servicesOn(gpu.at);
  const names = fewOf(services.map((other) => other.service.name).sort());
  const { label } = gpu;
  if (services.length > 0 && gpu.takesOne) {
    return {
      reason: 'sharing',
      text: `${label} ${takesOneText(gpu)} and has ${names}`,
      remedy: 'a GPU that is shared',
    };
  }
  if (services.some(({ dedicated }) => dedicated)) {
    return { reason: 'sharing', text: `${label} belongs to ${names} alone (dedicated)`, remedy: 'one GPU more' };
  }
  if (services.length > 0 && service.dedicated) {
    return { reason: 'sharing', text: `${label} has ${names}`, remedy: 'a GPU of its own, or dedicated: false' };
  }
  const compute = services.reduce((sum, { computeShare }) => sum + computeShare, 0);
  if (compute + service.computeShare > 1 + computeTolerance) {
    const left = Number((1 - compute).toFixed(4));
    return {
      reason: 'sharing',
      text: `of the compute of ${label} ${left} is left beside ${names}, and it asks for ${service.computeShare}`,
      remedy: 'a smaller computeShare',
    };
  }
  if (gpu.cut !== null) {
    const text = `no MIG instance of ${label} with ${gigabytes(service.minMb)} is left beside ${names || 'nobody'}`;
    return { reason: 'sharing', text, remedy: 'other instances, or less memory' };
  }
  const takenMb = occupancy.minMb(gpu.at);
  const freeMb = Math.max(0, gpu.freeMb - takenMb);
  const parts = [gigabytes(gpu.memoryMb)];
  if (gpu.usedMb > 0) parts.push(`${gigabytes(gpu.usedMb)} used by others`);
  if (takenMb > 0) parts.push(`${gigabytes(takenMb)} of ${names}`);
  return {
    reason: 'memory',
    text: `${label} has ${gigabytes(freeMb)} free (${parts.join(' − ')})`,
    remedy: `overcommit: warn, or a GPU with ${gigabytes(service.minMb)} free`,
  };
}

function takesOneText({ gpu, sharingFault }: FleetGpu): string {
  if (sharingFault !== null) return `takes one service (${gpu.sharing} is not supported)`;
  return gpu.sharing === null ? 'lets one process at a time use it' : 'is exclusive';
}

/** What to blame where GPUs refuse for different reasons: memory, which is the easier to mend. */
function nearest(faults: readonly Fault[]): 'memory' | 'sharing' {
  return faults.some(({ reason }) => reason === 'memory') ? 'memory' : 'sharing';
}

function needs(service: FleetService, reason: PlacementRefusal['reason']): string {
  if (reason === 'memory') {
    const least = service.minMb < service.memoryMb ? ' at least' : '';
    return `needs${least} ${gigabytes(service.minMb)}`;
  }
  return service.dedicated ? 'shares its GPU with nobody' : 'finds no GPU that it may share';
}

function otherwise(service: FleetService, remedy: string): string {
  const pin = service.isPinned ? 'another pin, or ' : '';
  const cpu = service.mayUseCpu || service.isPinned ? '' : ', or cpuAllowed';
  return `what would work: ${pin}${remedy}${cpu}`;
}

const vendorNames: Readonly<Record<string, string>> = {
  nvidia: 'NVIDIA',
  amd: 'AMD',
  intel: 'Intel',
  huawei: 'Huawei',
};

function vendorName(vendor: string): string {
  return vendorNames[vendor] ?? vendor;
}
