import { z } from 'zod';
import { gpuVendors } from './gpu-types.js';
import { quoteInput } from './input-error.js';
import { check, type DeepReadonly, nearestName } from './parse.js';

/**
 * The whole input of a placement on GPUs that exist, as one plain JSON (or YAML) document.
 *
 * Glossary: a *service* is a process that holds some memory of one GPU (or runs on the CPU); a *strategy* is the rule by
 * which services are given GPUs; a service is *shrinkable* where it can live with less memory than it asks for
 * (`minMemoryMb` < `memoryMb`); *sharing* is how several services use one GPU. Memory is in MiB, as nvidia-smi prints it.
 *
 * Contract: gpumix/v1. Every optional key has its default here; `PlacementRequest` is the document with defaults applied.
 */

/** From the plainest rule to the exact one; what each does is written beside it in `placement/strategies`. */
export const strategyNames = [
  'manual',
  'vram_based',
  'latency_optimized',
  'isolation_first',
  'balanced',
  'optimal',
] as const;
export type StrategyName = (typeof strategyNames)[number];

/** How several services use one GPU, named as NVIDIA's device plugin names its own. */
export const sharingModeNames = ['exclusive', 'mig', 'mps', 'time-slicing', 'memory-limit', 'cpu'] as const;
export type SharingModeName = (typeof sharingModeNames)[number];
/** Those that a GPU can be set to; `cpu` is a service without a GPU. */
export const gpuSharingSettings = ['exclusive', 'mig', 'mps', 'time-slicing', 'memory-limit'] as const;

export const serviceKinds = ['llm', 'embedding', 'reranker', 'vision', 'speech', 'database', 'other'] as const;
export type ServiceKind = (typeof serviceKinds)[number];

/** What a service is built for; `frameworkVendors` says whose GPUs that runs on. */
export const frameworkNames = [
  'cuda',
  'tensorrt',
  'rocm',
  'oneapi',
  'openvino',
  'vulkan',
  'opencl',
  'cann',
  'cpu',
] as const;
export type FrameworkName = (typeof frameworkNames)[number];

/** Largest memory of a document [MiB]: 1 PiB, so that sums stay exact. */
const largestMemoryMb = 2 ** 30;

const name = z.string().min(1).max(253);
const memoryMb = z.int().min(0).max(largestMemoryMb);

/** `key=value:NoSchedule`, as `kubectl taint` writes it. */
const taint = z
  .string()
  .regex(/^[A-Za-z0-9._/-]{1,317}(=[A-Za-z0-9._-]{0,63})?:(NoSchedule|PreferNoSchedule|NoExecute)$/, {
    message: 'a taint as kubectl writes it: key=value:NoSchedule, or key:NoSchedule',
  });
/** `key=value:NoSchedule`, `key=value`, `key:NoSchedule` or `key` (any value); `*` tolerates everything. */
const toleration = z
  .string()
  .regex(/^(\*|[A-Za-z0-9._/-]{1,317}(=[A-Za-z0-9._-]{0,63})?(:(NoSchedule|PreferNoSchedule|NoExecute))?)$/, {
    message: 'a toleration: key=value:NoSchedule, key=value, key (any value), or * (everything)',
  });

const migInstanceSchema = z.strictObject({
  profile: z
    .string()
    .regex(/^\d+g\.\d+gb([+.-][a-z.]+)?$/, { message: 'a MIG profile such as 3g.40gb' })
    .describe('as nvidia-smi mig -lgip names it: 3g.40gb'),
  uuid: z.string().min(1).max(200).nullable().default(null).describe('as nvidia-smi -L prints it: MIG-…'),
});

export const placementGpuSchema = z.strictObject({
  index: z.int().min(0).max(1_000_000).describe('as the tool of its vendor counts on that node'),
  node: name.describe('the machine that it is in'),
  name: z.string().max(200).default('').describe('RTX A5500; its catalogue entry gives architecture and speed'),
  vendor: z.enum(gpuVendors).describe('who made it; the frameworks of a service say whose GPUs it runs on'),
  memoryMb: z.int().min(1).max(largestMemoryMb).describe('all of its memory [MiB]'),
  usedMb: memoryMb.default(0).describe('taken by others: the system, a desktop, another service [MiB]'),
  architecture: z.string().min(1).max(60).nullable().default(null).describe('ampere, rdna3, …; null = the catalogue'),
  speed: z
    .number()
    .gt(0)
    .max(1e6)
    .nullable()
    .default(null)
    .describe('relative to the others; null = its memory bandwidth in the catalogue [TB/s]'),
  taints: z
    .array(taint)
    .max(100)
    .default([])
    .describe('of its node, as kubectl taint writes them; they keep away whoever does not tolerate them'),
  tags: z
    .record(z.string().max(100), z.string().max(500))
    .default({})
    .describe('facts that exports read: uuid, pciBusId, renderNode, vendorIndex, driver'),
  sharing: z
    .enum(gpuSharingSettings)
    .nullable()
    .default(null)
    .describe('what it is set to: exclusive takes one service; null = what suits its services'),
  migInstances: z
    .array(migInstanceSchema)
    .max(64)
    .nullable()
    .default(null)
    .describe('with sharing mig: the instances it is cut into; null = it may be cut anew'),
});

const placementServiceSchema = z
  .strictObject({
    name: name.describe('of its own; exports call it so'),
    model: z.string().max(500).default('').describe('what it serves, as its engine takes it; for messages and exports'),
    memoryMb: memoryMb.describe('what it holds of the memory of its GPU [MiB]'),
    minMemoryMb: memoryMb
      .optional()
      .describe('what it can live with [MiB]; less than memoryMb = it may be shrunk; absent = memoryMb'),
    kind: z
      .enum(serviceKinds)
      .default('other')
      .describe('llm, embedding and reranker hold themselves to a part of memory'),
    critical: z.boolean().default(false).describe('users wait for it: its slowness counts'),
    dedicated: z.boolean().default(false).describe('shares its GPU with nobody'),
    cpuAllowed: z.boolean().default(false).describe('may run without a GPU, as it may with cpu among its frameworks'),
    frameworks: z.array(z.enum(frameworkNames)).max(frameworkNames.length).describe('what it is built for'),
    priority: z.int().min(-1_000_000).max(1_000_000).default(0).describe('higher is refused and shrunk later'),
    computeShare: z
      .number()
      .gt(0)
      .max(1)
      .nullable()
      .default(null)
      .describe('part of the GPU that it needs; null = any'),
    maxSessions: z.int().min(1).max(1_000_000).nullable().default(null).describe('requests at the same time'),
    gpu: z
      .strictObject({
        node: name.describe('node of that GPU'),
        index: z.int().min(0).describe('its index there'),
      })
      .nullable()
      .default(null)
      .describe('the GPU that it is pinned to'),
    tolerations: z
      .array(toleration)
      .max(100)
      .default([])
      .describe('taints that do not keep it away: key=value:NoSchedule, key=value, key, or * for all'),
    image: z.string().min(1).max(500).nullable().default(null).describe('container image, for Kubernetes'),
    importPath: z
      .string()
      .regex(/^[\w.]+:\w+$/, { message: 'a Ray Serve import path: module:application' })
      .nullable()
      .default(null)
      .describe('of its Ray Serve application, for KubeRay; null = by its name'),
  })
  .refine((service) => service.minMemoryMb === undefined || service.minMemoryMb <= service.memoryMb, {
    path: ['minMemoryMb'],
    message: 'at most memoryMb',
  })
  .transform((service) => ({ ...service, minMemoryMb: service.minMemoryMb ?? service.memoryMb }));

export const placementRequestSchema = z
  .strictObject({
    apiVersion: z.literal('gpumix/v1'),
    kind: z.literal('PlacementRequest'),
    strategy: z.enum(strategyNames).default('vram_based').describe('the rule by which services are given GPUs'),
    overcommit: z
      .enum(['warn', 'refuse'])
      .default('warn')
      .describe('warn: place what does not fit and say so; refuse: refuse it'),
    gpus: z.array(placementGpuSchema).max(4096).describe('the GPUs that exist'),
    services: z.array(placementServiceSchema).max(10_000).describe('what is to run on them'),
  })
  .superRefine((request, context) => {
    const places = new Map<string, number>();
    request.gpus.forEach(({ node, index }, g) => {
      const first = places.get(gpuKey({ node, index }));
      if (first !== undefined) {
        context.addIssue({
          code: 'custom',
          path: ['gpus', g, 'index'],
          message: `an index of its own on node ${quoteInput(node)} (gpus[${first}] has it too)`,
        });
      } else places.set(gpuKey({ node, index }), g);
    });
    const names = new Map<string, number>();
    request.services.forEach((service, s) => {
      const first = names.get(service.name);
      if (first !== undefined) {
        context.addIssue({
          code: 'custom',
          path: ['services', s, 'name'],
          message: `a name of its own (services[${first}] has it too)`,
        });
      } else names.set(service.name, s);
      if (service.gpu === null || places.has(gpuKey(service.gpu))) return;
      context.addIssue({ code: 'custom', path: ['services', s, 'gpu'], message: knownGpus(service.gpu, request.gpus) });
    });
  });

/** A document as a person writes it: optional keys may be absent. */
export type PlacementRequestInput = z.input<typeof placementRequestSchema>;
/** The document with every default applied: what `place()` takes. */
export type PlacementRequest = DeepReadonly<z.output<typeof placementRequestSchema>>;
export type PlacementGpu = DeepReadonly<z.output<typeof placementGpuSchema>>;
/** One GPU as a person or a tool writes it: optional keys may be absent. */
export type PlacementGpuInput = DeepReadonly<z.input<typeof placementGpuSchema>>;
export type PlacementService = DeepReadonly<z.output<typeof placementServiceSchema>>;
/** Names one GPU: its node and its index there. */
export type GpuRef = { readonly node: string; readonly index: number };

/** One text for each GPU; no node name holds a NUL that matters. */
export function gpuKey({ node, index }: GpuRef): string {
  return `${node}\0${index}`;
}

/** What a pin to a GPU that is not there should have been, as a noun phrase. */
export function knownGpus(pin: GpuRef, gpus: readonly GpuRef[]): string {
  if (gpus.length === 0) return 'a GPU of gpus, which is empty';
  const nodes = [...new Set(gpus.map(({ node }) => node))];
  const onNode = gpus.filter(({ node }) => node === pin.node).map(({ index }) => index);
  if (onNode.length > 0) return `an index that node ${quoteInput(pin.node)} has (${shortList(onNode)})`;
  const meant = nearestName(pin.node, nodes);
  return `a node of gpus (${shortList(nodes)})${meant === undefined ? '' : `; did you mean ${quoteInput(meant)}?`}`;
}

function shortList(items: readonly (string | number)[]): string {
  return items.length <= 8 ? items.join(', ') : `${items.slice(0, 8).join(', ')}, …`;
}

/**
 * Checks a plain value as a PlacementRequest and applies its defaults.
 *
 * @param source names the document in errors: a file, `standard input`
 * @throws InputError that names path, found and expected
 */
export function checkPlacementRequest(value: unknown, source: string): PlacementRequest {
  return check(placementRequestSchema, value, source);
}
