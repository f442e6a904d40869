import type { PlacementGpu } from '../../../core/placement-request.js';
import type { ExportInput } from '../exporter.js';
import { migResource, wholeGpuResource } from '../kubernetes/device-resources.js';
import { type NamedService, servicesByGpu } from '../kubernetes/gpu-services.js';
import { kubernetesNames } from '../kubernetes/names.js';
import { nodeTaints } from '../kubernetes/node-sharing.js';
import { isGaudi } from '../placed-service.js';

/** A Ray application and what it takes of its worker. */
export type RayApp = {
  readonly one: NamedService;
  /** Part of the device of its worker; 0 on the CPU. */
  readonly part: number;
  /** The custom resource that only its group has. */
  readonly group: string;
  /** What Ray calls the devices of that group; null on the CPU. */
  readonly device: RayDevice | null;
};

/** Ray counts NVIDIA, AMD and Intel GPUs as `GPU`, Gaudi as `HPU`, Ascend as `NPU`. */
export type RayDevice = 'GPU' | 'HPU' | 'NPU';

export type WorkerGroup = {
  /** Also the name of its custom resource. */
  readonly name: string;
  /** A GPU of its kind; null for the group of services on the CPU. */
  readonly gpu: PlacementGpu | null;
  readonly device: RayDevice | null;
  /** Resource of the device plugin, one for each worker; null on the CPU. */
  readonly resource: string | null;
  readonly workers: number;
  /** How much of its custom resource a worker has. */
  readonly amount: number;
  /** Where its workers may be; empty = anywhere. */
  readonly nodes: readonly string[];
  readonly taints: readonly string[];
  readonly services: readonly NamedService[];
};

/** One device as a worker holds it: a whole GPU, or a MIG instance. */
type Device = {
  readonly gpu: PlacementGpu;
  readonly profile: string | null;
  readonly services: readonly NamedService[];
};

/** What shared devices keep back, so that rounding never makes two halves more than one: 0.5 becomes 0.49, as in Ray's guide. */
const handedOut = 0.98;
/** Ray counts resources in ten-thousandths. */
const granularity = 10_000;
const cpuGroup = 'cpu-only';
/** `-<group>-worker-<suffix>` follows the name of the cluster in the names of pods. */
const groupRule = { longest: 40, startsWithLetter: true };

/**
 * The parts of one device that its services ask Ray for, in their order. Alone, a share of 1 is all of it; shares of several
 * are kept where they leave 2 % over, else scaled down together. They add up to at most 1.
 */
export function rayParts(shares: readonly number[]): readonly number[] {
  const sum = shares.reduce((total, share) => total + share, 0);
  const scale = shares.length === 1 ? 1 : Math.min(1, handedOut / sum);
  return shares.map((share) => Math.max(1, Math.floor(Math.min(1, share * scale) * granularity + 1e-6)) / granularity);
}

/**
 * The worker groups of a placement, and its applications with the group that each lands on, in the order of the placement.
 *
 * One group for each kind of GPU (vendor, name, memory, MIG profile), a worker for each of its GPUs. Where several GPUs of a
 * kind are in use and one is shared, each shared one is a group of its own: within a group Ray puts an application on any
 * worker that has room, and those that should share would spread.
 */
export function workerGroups(
  input: ExportInput,
  placed: readonly NamedService[],
): { readonly groups: readonly WorkerGroup[]; readonly apps: readonly RayApp[] } {
  const drafts = draftGroups(devicesOf(placed));
  const names = kubernetesNames([cpuGroup, ...drafts.map(({ title }) => title)], groupRule);
  const groups = drafts.map(({ title, devices }): WorkerGroup => {
    const { gpu, profile } = devices[0]!;
    const nodes = [...new Set(devices.map((device) => device.gpu.node))];
    return {
      name: names.get(title)!,
      gpu,
      device: rayDeviceOf(gpu),
      resource: profile === null ? wholeGpuResource(gpu, input.catalogue) : migResource(profile),
      workers: devices.length,
      amount: 1,
      nodes,
      taints: [...new Set(nodes.flatMap((node) => nodeTaints(input, node)))],
      services: devices.flatMap(({ services }) => services),
    };
  });
  const onCpu = placed.filter(({ gpu }) => gpu === null);
  if (onCpu.length > 0) groups.push(groupOnCpu(input, onCpu));
  const byService = new Map<string, RayApp>();
  drafts.forEach(({ devices }, g) => {
    const { name: group, device } = groups[g]!;
    for (const { services, profile } of devices) {
      // An instance is the service's alone, whatever part of the whole GPU it is.
      const parts = rayParts(
        profile === null ? services.map(({ assignment }) => assignment.share) : services.map(() => 1),
      );
      services.forEach((one, s) => {
        byService.set(one.service.name, { one, part: parts[s]!, group, device });
      });
    }
  });
  for (const one of onCpu) byService.set(one.service.name, { one, part: 0, group: cpuGroup, device: null });
  return { groups, apps: placed.map(({ service }) => byService.get(service.name)!) };
}

function rayDeviceOf(gpu: PlacementGpu): RayDevice {
  if (isGaudi(gpu)) return 'HPU';
  return gpu.vendor === 'huawei' ? 'NPU' : 'GPU';
}

function devicesOf(placed: readonly NamedService[]): readonly Device[] {
  return [...servicesByGpu(placed).values()].flatMap((services): readonly Device[] => {
    const gpu = services[0]!.gpu!;
    const whole = services.filter(({ assignment }) => assignment.mig === undefined);
    const cut = services.filter(({ assignment }) => assignment.mig !== undefined);
    return [
      ...(whole.length === 0 ? [] : [{ gpu, profile: null, services: whole }]),
      ...cut.map((one) => ({ gpu, profile: one.assignment.mig!.profile, services: [one] })),
    ];
  });
}

type Draft = { readonly title: string; readonly devices: readonly Device[] };

function draftGroups(devices: readonly Device[]): readonly Draft[] {
  const kinds = new Map<string, Device[]>();
  for (const device of devices) {
    const { vendor, name, memoryMb } = device.gpu;
    const key = JSON.stringify([vendor, name, memoryMb, device.profile]);
    kinds.set(key, [...(kinds.get(key) ?? []), device]);
  }
  const plain = [...kinds.values()].map((alike) => plainTitle(alike[0]!));
  const taken = new Set<string>([cpuGroup]);
  // Two groups of one title get two names all the same, by the hash of what is only added here.
  const unique = (title: string): string => {
    let text = title;
    while (taken.has(text)) text += '\0';
    taken.add(text);
    return text;
  };
  return [...kinds.values()].flatMap((alike, k): readonly Draft[] => {
    const { gpu } = alike[0]!;
    const ambiguous = plain.filter((title) => title === plain[k]).length > 1;
    const title = ambiguous ? `${plain[k]} ${gpu.memoryMb}` : plain[k]!;
    if (alike.length === 1) return [{ title: unique(title), devices: alike }];
    const shared = alike.filter(({ services }) => services.length > 1);
    const single = alike.filter(({ services }) => services.length === 1);
    return [
      ...(single.length === 0 ? [] : [{ title: unique(title), devices: single }]),
      ...shared.map((device) => ({
        title: unique(`${title} ${device.gpu.node} ${device.gpu.index}`),
        devices: [device],
      })),
    ];
  });
}

/** `RTX 2070`, `H200 3g.71gb`; without a name `amd 8192`. Ray has a resource `memory` of its own. */
function plainTitle({ gpu, profile }: Device): string {
  const name = gpu.name.replace(/^(nvidia|amd|intel|geforce|[ _-])+/i, '');
  const title = name === '' || name.toLowerCase() === 'memory' ? `${gpu.vendor} ${gpu.memoryMb}` : name;
  return profile === null ? title : `${title} ${profile}`;
}

function groupOnCpu(input: ExportInput, services: readonly NamedService[]): WorkerGroup {
  const bound = services.flatMap(({ assignment: { node } }) => (node === null ? [] : [node]));
  const nodes = bound.length === services.length ? [...new Set(bound)] : [];
  return {
    name: cpuGroup,
    gpu: null,
    device: null,
    resource: null,
    workers: 1,
    amount: services.length,
    nodes,
    taints: [...new Set(nodes.flatMap((node) => nodeTaints(input, node)))],
    services,
  };
}
