import type { PlacementRequest, PlacementRequestInput } from '../src/core/placement-request.js';
import { checkPlacementRequest } from '../src/core/placement-request.js';

/**
 * Generated fleets for placements: GPUs of three vendors as they stand in workstations, homelabs and servers, and the
 * services that people run on them, with sizes of real models. The same seed gives the same fleet.
 */
export type FleetShape = {
  readonly seed: number;
  readonly gpus: number;
  readonly services: number;
  /** What all services ask for, as a part of all memory; about 0.5 is roomy, above 1 something must give way. */
  readonly fill: number;
  readonly overcommit?: 'warn' | 'refuse';
  /** Only NVIDIA, so that everything can go everywhere. */
  readonly isOneVendor?: boolean;
  /** Everything that a document can say: pins, taints, exclusive GPUs, dedicated services, shares of compute. */
  readonly hasRules?: boolean;
};

type GpuInput = PlacementRequestInput['gpus'][number];
type ServiceInput = PlacementRequestInput['services'][number];

const parts: readonly Pick<GpuInput, 'name' | 'vendor' | 'memoryMb'>[] = [
  { name: 'RTX A5500', vendor: 'nvidia', memoryMb: 24564 },
  { name: 'RTX A400', vendor: 'nvidia', memoryMb: 4094 },
  { name: 'RTX 3090', vendor: 'nvidia', memoryMb: 24576 },
  { name: 'RTX 3060', vendor: 'nvidia', memoryMb: 12288 },
  { name: 'L4', vendor: 'nvidia', memoryMb: 23034 },
  { name: 'A100-80GB', vendor: 'nvidia', memoryMb: 81920 },
  { name: 'P40', vendor: 'nvidia', memoryMb: 24576 },
  { name: 'RTX 2070', vendor: 'nvidia', memoryMb: 8192 },
  { name: 'Radeon RX 7900 XTX', vendor: 'amd', memoryMb: 24560 },
  { name: 'MI210', vendor: 'amd', memoryMb: 65520 },
  { name: 'Arc A770', vendor: 'intel', memoryMb: 16288 },
];

/** Shapes of services: sizes in MiB at the least and at the most. */
const kinds: readonly {
  readonly kind: NonNullable<ServiceInput['kind']>;
  readonly from: number;
  readonly to: number;
  readonly weight: number;
}[] = [
  { kind: 'llm', from: 4_500, to: 22_500, weight: 3 },
  { kind: 'embedding', from: 600, to: 3_000, weight: 2 },
  { kind: 'reranker', from: 900, to: 3_500, weight: 1 },
  { kind: 'vision', from: 650, to: 7_000, weight: 3 },
  { kind: 'speech', from: 1_000, to: 5_000, weight: 2 },
  { kind: 'database', from: 2_000, to: 8_000, weight: 1 },
];

const frameworksOf = { nvidia: 'cuda', amd: 'rocm', intel: 'openvino', huawei: 'cann' } as const;

export function generatedFleet(shape: FleetShape): PlacementRequest {
  const next = random(shape.seed);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(next() * items.length)]!;
  const chance = (probability: number): boolean => next() < probability;
  const gpus = Array.from({ length: shape.gpus }, (_, i): GpuInput => {
    const part = pick(parts.filter(({ vendor }) => shape.isOneVendor !== true || vendor === 'nvidia'));
    return {
      ...part,
      node: `node-${Math.floor(i / 4)}`,
      index: i % 4,
      usedMb: chance(0.2) ? Math.floor(next() * 1500) : 0,
      ...(shape.hasRules === true && chance(0.15) ? { taints: ['workload=llm:NoSchedule'] } : {}),
      ...(shape.hasRules === true && chance(0.15) ? { sharing: 'exclusive' as const } : {}),
    };
  });
  const vendors = [...new Set(gpus.map(({ vendor }) => vendor))];
  const drawn = Array.from({ length: shape.services }, (_, i): ServiceInput => {
    const { kind, from, to } = pick(kinds.flatMap((each) => Array.from({ length: each.weight }, () => each)));
    const size = from * (to / from) ** next();
    return {
      name: `${kind}-${i}`,
      kind,
      memoryMb: size,
      critical: chance(kind === 'llm' ? 0.5 : 0.15),
      cpuAllowed: kind === 'database' || chance(0.05),
      frameworks: chance(0.6) ? vendors.map((vendor) => frameworksOf[vendor]) : [frameworksOf[pick(vendors)]],
      priority: pick([0, 0, 0, 5, 10]),
      ...(shape.hasRules === true && chance(0.2) ? { tolerations: ['workload=llm'] } : {}),
      ...(shape.hasRules === true && chance(0.1) ? { dedicated: true } : {}),
      ...(shape.hasRules === true && chance(0.2) ? { computeShare: pick([0.25, 0.5, 0.75]) } : {}),
      ...(shape.hasRules === true && chance(0.15) ? { gpu: (({ node, index }) => ({ node, index }))(pick(gpus)) } : {}),
    };
  });
  const total = gpus.reduce((sum, { memoryMb, usedMb = 0 }) => sum + memoryMb - usedMb, 0);
  const asked = drawn.reduce((sum, { memoryMb }) => sum + memoryMb, 0);
  const services = drawn.map((service): ServiceInput => {
    const memoryMb = Math.max(64, Math.round((service.memoryMb * shape.fill * total) / asked));
    return chance(0.2) ? { ...service, memoryMb, minMemoryMb: Math.round(memoryMb / 2) } : { ...service, memoryMb };
  });
  const { overcommit = 'warn' } = shape;
  return checkPlacementRequest(
    { apiVersion: 'gpumix/v1', kind: 'PlacementRequest', strategy: 'optimal', overcommit, gpus, services },
    `generated fleet ${shape.seed}`,
  );
}

/** Numbers in [0, 1): mulberry32. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
