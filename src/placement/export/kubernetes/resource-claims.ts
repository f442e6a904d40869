import { gpuNameKey } from '../../../core/gpu-types.js';
import type { PlacementGpu } from '../../../core/placement-request.js';
import { gigabytes } from '../../amounts.js';
import type { ExportInput } from '../exporter.js';
import { gpuTitle, isGaudi } from '../placed-service.js';
import type { CommentedManifest, Manifest } from './documents.js';
import type { NamedService } from './gpu-services.js';
import { cutName } from './names.js';

/**
 * Claims of dynamic resource allocation (`resource.k8s.io/v1`, Kubernetes 1.34), which can say which GPU a pod gets.
 *
 * A service that is alone on its GPU, or has a MIG instance, gets a ResourceClaimTemplate: each pod its own claim. Services
 * that share a GPU name one ResourceClaim, since a device belongs to one claim and a claim to many pods.
 *
 * Attributes and capacities of the drivers: NVIDIA `uuid`, `productName`, MIG `profile`, `parentUUID`, capacity `memory`
 * (dra-driver-nvidia-gpu, `cmd/gpu-kubelet-plugin`; `index` and `minor` are gone since v25.8); AMD `type`, `productName`,
 * capacity `memory` (ROCm/k8s-gpu-dra-driver, `docs/driver-attributes.md`); Intel capacity `memory`
 * (intel-resource-drivers-for-kubernetes); `resource.kubernetes.io/pciBusID` of all that know it.
 */

type DraDriver = {
  readonly deviceClass: string;
  /** Domain of its attributes and capacities. */
  readonly domain: string;
  /** What all claims for a whole GPU ask. */
  readonly whole: readonly string[];
  /** Whether it publishes what `nvidia-smi -L` prints. */
  readonly uuid: boolean;
  readonly productName: boolean;
  readonly memory: boolean;
};

const nvidia: DraDriver = {
  deviceClass: 'gpu.nvidia.com',
  domain: 'gpu.nvidia.com',
  whole: [],
  uuid: true,
  productName: true,
  memory: true,
};
const amd: DraDriver = {
  deviceClass: 'gpu.amd.com',
  domain: 'gpu.amd.com',
  whole: [`device.attributes["gpu.amd.com"].type == "amdgpu"`],
  uuid: false,
  productName: true,
  memory: true,
};
const intel: DraDriver = {
  deviceClass: 'gpu.intel.com',
  domain: 'gpu.intel.com',
  whole: [],
  uuid: false,
  productName: false,
  memory: true,
};
const gaudi: DraDriver = { ...intel, deviceClass: 'gaudi.intel.com', domain: 'gaudi.intel.com', memory: false };

function driverOf(gpu: PlacementGpu): DraDriver | null {
  const byVendor = { nvidia, amd, intel, huawei: null } satisfies Record<PlacementGpu['vendor'], DraDriver | null>;
  return isGaudi(gpu) ? gaudi : byVendor[gpu.vendor];
}

/** True where a driver for dynamic resource allocation hands out GPUs of this vendor. */
export function hasDraDriver(gpu: PlacementGpu): boolean {
  return driverOf(gpu) !== null;
}

/** Sizes nearer than this part of the larger are one size: drivers differ in what they keep for themselves. */
const sameSize = 0.05;

type DeviceChoice = {
  /** CEL, all of which must hold. */
  readonly expressions: readonly string[];
  /** GPUs of the node that these do not tell from this one. */
  readonly alike: readonly PlacementGpu[];
};

/**
 * The CEL expressions that choose this GPU among those of its node: by UUID, else by PCI address (`tags.pciBusId`), else
 * by what tells it apart from its neighbours, memory first. The node itself is chosen by the pod.
 */
function chooseGpu(gpu: PlacementGpu, { request }: ExportInput): DeviceChoice {
  const driver = driverOf(gpu);
  if (driver === null) return { expressions: [], alike: [] };
  // A GPU under MIG is offered in instances only.
  const others = request.gpus.filter(
    (other) =>
      other.node === gpu.node && other.index !== gpu.index && other.sharing !== 'mig' && driverOf(other) === driver,
  );
  if (driver.uuid && gpu.tags.uuid !== undefined) {
    const uuid = JSON.stringify(gpu.tags.uuid);
    return { expressions: [...driver.whole, `device.attributes["${driver.domain}"].uuid == ${uuid}`], alike: [] };
  }
  const pciBusId = pciAddress(gpu);
  if (pciBusId !== null && others.length > 0) {
    const standard = `device.attributes["resource.kubernetes.io"].pciBusID`;
    return {
      expressions: [...driver.whole, `has(${standard}) && ${standard} == ${JSON.stringify(pciBusId)}`],
      alike: [],
    };
  }
  const expressions = [...driver.whole];
  const differ = (a: PlacementGpu, b: PlacementGpu) =>
    Math.abs(a.memoryMb - b.memoryMb) > sameSize * Math.max(a.memoryMb, b.memoryMb);
  let alike = others;
  if (driver.memory) {
    const sizes = others.filter((other) => differ(gpu, other)).map(({ memoryMb }) => memoryMb);
    const below = Math.max(...sizes.filter((size) => size < gpu.memoryMb));
    const above = Math.min(...sizes.filter((size) => size > gpu.memoryMb));
    const bound = (size: number, sign: string) =>
      `device.capacity["${driver.domain}"].memory.compareTo(quantity("${Math.floor((size + gpu.memoryMb) / 2)}Mi")) ${sign} 0`;
    if (Number.isFinite(below)) expressions.push(bound(below, '>'));
    if (Number.isFinite(above)) expressions.push(bound(above, '<'));
    alike = others.filter((other) => !differ(gpu, other));
  }
  const sameName = (other: PlacementGpu) => gpuNameKey(other.name) === gpuNameKey(gpu.name);
  if (driver.productName && gpu.name !== '' && alike.some((other) => !sameName(other))) {
    expressions.push(
      `device.attributes["${driver.domain}"].productName.matches(${JSON.stringify(productPattern(gpu.name))})`,
    );
    alike = alike.filter(sameName);
  }
  return { expressions, alike };
}

/** `tags.pciBusId` as the kernel writes it: nvidia-smi has a longer domain and capitals, `00000000:65:00.0`. */
function pciAddress({ tags }: PlacementGpu): string | null {
  const match = /^(?:[0-9a-f]{0,4}?([0-9a-f]{4}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/i.exec(tags.pciBusId ?? '');
  return match === null ? null : `${match[1] ?? '0000'}:${match[2]}`.toLowerCase();
}

/** RE2 that a product name ends with this name, without its maker: `NVIDIA RTX A5500` by `(?i)rtx[ _-]*a5500$`. */
function productPattern(name: string): string {
  const words = name
    .replace(/^(nvidia|amd|geforce|tesla|[ _-])+/i, '')
    .split(/[ _-]+/)
    .filter((word) => word !== '');
  return `(?i)${words.map((word) => word.replace(/[^A-Za-z0-9]/g, '\\$&')).join('[ _-]*')}$`;
}

/** What a pod names to get its GPU, with the object that holds it; the object is null where another service brings it. */
export type PodClaim = {
  readonly reference: { readonly resourceClaimName: string } | { readonly resourceClaimTemplateName: string };
  readonly document: CommentedManifest | null;
  readonly notices: readonly string[];
};

/** Name of the one request in every claim. */
const requestName = 'gpu';

/**
 * The claim of a service for its GPU.
 *
 * @param sharers all services of its GPU, in order; the first brings the claim that they share
 */
export function claimOf(one: NamedService, sharers: readonly NamedService[], input: ExportInput): PodClaim | null {
  const { gpu, assignment } = one;
  const driver = gpu === null ? null : driverOf(gpu);
  if (gpu === null || driver === null) return null;
  if (assignment.mig !== undefined) return migClaim(one, gpu, assignment.mig);
  const { expressions, alike } = chooseGpu(gpu, input);
  const spec = { devices: { requests: [deviceRequest(driver.deviceClass, expressions)] } };
  const notices =
    alike.length === 0
      ? []
      : [
          `${gpuTitle(gpu, input.request)} is not told from ${alike.map((other) => gpuTitle(other, input.request)).join(', ')}: its claim takes any of them that is free. tags.uuid (NVIDIA) or tags.pciBusId in the request names one.`,
        ];
  if (sharers.length < 2) return templateOf(one.name, spec, notices);
  const name = cutName(`${gpu.node}-gpu-${gpu.index}`, 253);
  const reference = { resourceClaimName: name };
  if (sharers[0] !== one) return { reference, document: null, notices: [] };
  const sharing = mpsConfig(sharers, driver);
  const shared = { devices: { ...spec.devices, ...(sharing === null ? {} : { config: [sharing] }) } };
  const manifest: Manifest = {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata: { name },
    spec: shared,
  };
  const comments = [
    `${gpuTitle(gpu, input.request)}, shared by ${sharers.map(({ service }) => service.name).join(', ')}`,
  ];
  return { reference, document: { comments, manifest }, notices: [...notices, ...mpsNotices(sharing, sharers)] };
}

function migClaim(
  one: NamedService,
  gpu: PlacementGpu,
  mig: { readonly profile: string; readonly uuid: string | null },
): PodClaim {
  const attributes = `device.attributes["${nvidia.domain}"]`;
  const expressions = [`${attributes}.profile == ${JSON.stringify(mig.profile)}`];
  if (mig.uuid !== null) expressions.push(`${attributes}.uuid == ${JSON.stringify(mig.uuid)}`);
  else if (gpu.tags.uuid !== undefined)
    expressions.push(`${attributes}.parentUUID == ${JSON.stringify(gpu.tags.uuid)}`);
  return templateOf(one.name, { devices: { requests: [deviceRequest('mig.nvidia.com', expressions)] } }, []);
}

function templateOf(name: string, spec: object, notices: readonly string[]): PodClaim {
  const manifest = {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: { name },
    spec: { spec },
  };
  return { reference: { resourceClaimTemplateName: name }, document: { comments: [], manifest }, notices };
}

function deviceRequest(deviceClassName: string, expressions: readonly string[]): object {
  const selectors = expressions.map((expression) => ({ cel: { expression } }));
  const exactly = { deviceClassName, count: 1, ...(selectors.length === 0 ? {} : { selectors }) };
  return { name: requestName, exactly };
}

/** NVIDIA's driver runs an MPS daemon for a claim that asks for it; null = the pods take turns, which is its default. */
function mpsConfig(sharers: readonly NamedService[], driver: DraDriver): object | null {
  if (driver !== nvidia || !sharers.every(({ assignment }) => assignment.sharing === 'mps')) return null;
  const largestMb = Math.max(...sharers.map(({ assignment }) => assignment.memoryBudgetMb));
  const mpsConfig = {
    defaultActiveThreadPercentage: Math.max(1, Math.floor(100 / sharers.length)),
    defaultPinnedDeviceMemoryLimit: `${largestMb}Mi`,
  };
  const parameters = {
    apiVersion: 'resource.nvidia.com/v1beta1',
    kind: 'GpuConfig',
    sharing: { strategy: 'MPS', mpsConfig },
  };
  return { requests: [requestName], opaque: { driver: nvidia.domain, parameters } };
}

function mpsNotices(sharing: object | null, sharers: readonly NamedService[]): readonly string[] {
  if (sharing === null) return [];
  const budgets = sharers.map(({ assignment }) => assignment.memoryBudgetMb);
  return [
    'MPS by claim needs the feature gate MPSSupport of the NVIDIA DRA driver (alpha, off by default).',
    ...(new Set(budgets).size > 1
      ? [
          `MPS has one memory limit for all pods of a claim: ${gigabytes(Math.max(...budgets))}, the largest budget of ${sharers.map(({ service }) => service.name).join(', ')}.`,
        ]
      : []),
  ];
}
