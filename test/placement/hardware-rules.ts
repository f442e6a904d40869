import type { Placement } from '../../src/core/placement.js';
import type { PlacementGpu, PlacementRequest, PlacementService } from '../../src/core/placement-request.js';

/**
 * What a placement does that the request's hardware forbids, as sentences: a second reading of the contract, which shares
 * no code with the one that is tested.
 */
export function brokenRules(request: PlacementRequest, placement: Placement): readonly string[] {
  const broken: string[] = [];
  const services = new Map(request.services.map((service) => [service.name, service]));
  const named = [...placement.assignments, ...placement.refusals].map(({ service }) => service).sort();
  if (named.join() !== [...services.keys()].sort().join()) broken.push(`not every service once: ${named.join()}`);
  for (const { service: name, node, gpuIndex, memoryBudgetMb } of placement.assignments) {
    const service = services.get(name)!;
    if (memoryBudgetMb < service.minMemoryMb || memoryBudgetMb > service.memoryMb) {
      broken.push(`${name} has ${memoryBudgetMb} MiB of ${service.minMemoryMb} to ${service.memoryMb}`);
    }
    if (gpuIndex === null) {
      if (service.gpu !== null) broken.push(`${name} is pinned and on the CPU`);
      if (!service.cpuAllowed && !service.frameworks.includes('cpu')) broken.push(`${name} may not be on the CPU`);
      continue;
    }
    const gpu = request.gpus.find((each) => each.node === node && each.index === gpuIndex);
    if (gpu === undefined) {
      broken.push(`${name} is on a GPU that is not there`);
      continue;
    }
    if (service.gpu !== null && (service.gpu.node !== node || service.gpu.index !== gpuIndex)) {
      broken.push(`${name} is pinned to another GPU`);
    }
    if (!service.frameworks.some((framework) => (runsOn[framework] ?? []).includes(gpu.vendor))) {
      broken.push(`${name} is on a GPU of ${gpu.vendor}`);
    }
    for (const taint of gpu.taints.filter((each) => !each.endsWith(':PreferNoSchedule'))) {
      if (!isTolerated(taint, service)) broken.push(`${name} does not tolerate ${taint}`);
    }
  }
  for (const gpu of request.gpus) broken.push(...brokenOn(gpu, services, placement));
  return broken;
}

function brokenOn(
  gpu: PlacementGpu,
  services: ReadonlyMap<string, PlacementService>,
  { assignments, gpus }: Placement,
): readonly string[] {
  const broken: string[] = [];
  const label = `GPU ${gpu.index} of ${gpu.node}`;
  const here = assignments.filter(({ node, gpuIndex }) => node === gpu.node && gpuIndex === gpu.index);
  const wanted = here.map(({ service }) => services.get(service)!);
  if (here.length > 1) {
    if (gpu.sharing === 'exclusive') broken.push(`${label} is exclusive and has ${here.length}`);
    if (wanted.some(({ dedicated }) => dedicated)) broken.push(`${label} has ${here.length}, one of them dedicated`);
  }
  const compute = wanted.reduce((sum, { computeShare }) => sum + (computeShare ?? 0), 0);
  if (compute > 1.000001) broken.push(`${label} gives ${compute} of its compute`);
  const shares = here.reduce((sum, { share }) => sum + share, 0);
  if (shares > 1.000001) broken.push(`shares of ${label} add up to ${shares}`);
  const assignedMb = here.reduce((sum, { memoryBudgetMb }) => sum + memoryBudgetMb, 0);
  const said = gpus.find(({ node, index }) => node === gpu.node && index === gpu.index)?.assignedMb;
  if (said !== assignedMb) broken.push(`${label} says ${said} MiB assigned, its services have ${assignedMb}`);
  if (gpu.migInstances !== null) {
    const uuids = here.map(({ mig }) => mig?.uuid);
    if (new Set(uuids).size !== uuids.length) broken.push(`${label} gives an instance twice: ${uuids.join()}`);
    for (const { service, mig } of here) {
      const instance = gpu.migInstances.find(({ uuid }) => uuid === mig?.uuid);
      if (instance?.profile !== mig?.profile) broken.push(`${service} has an instance that ${label} has not`);
    }
  }
  return broken;
}

const runsOn: Readonly<Record<string, readonly string[]>> = {
  cuda: ['nvidia'],
  tensorrt: ['nvidia'],
  rocm: ['amd'],
  oneapi: ['intel'],
  openvino: ['intel'],
  vulkan: ['nvidia', 'amd', 'intel'],
  opencl: ['nvidia', 'amd', 'intel'],
  cann: ['huawei'],
};

/** `key=value:Effect`, `key=value`, `key:Effect`, `key` or `*`. */
function isTolerated(taint: string, { tolerations }: PlacementService): boolean {
  const [, key = '', value = '', effect = ''] = /^([^=:]+)(?:=([^:]*))?:(.+)$/.exec(taint)!;
  const spellings = ['*', key, `${key}=${value}`, `${key}:${effect}`, `${key}=${value}:${effect}`];
  return spellings.some((spelling) => tolerations.includes(spelling));
}
