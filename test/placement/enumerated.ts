import type { PlacementGpu, PlacementRequest, PlacementService } from '../../src/core/placement-request.js';

/**
 * Every placement of a small request, judged by the words of the contract: an independent second reading, which shares no
 * code with the one that is tested.
 */
export type Judged = {
  readonly refused: readonly (readonly [priority: number, count: number])[];
  readonly overMb: number;
  readonly shrunkMb: number;
  readonly slowness: number;
  readonly thousandths: number;
};

const vendorsOf: Readonly<Record<string, readonly string[]>> = {
  cuda: ['nvidia'],
  rocm: ['amd'],
  openvino: ['intel'],
};

/** Speeds as the test's catalogue has them. */
export type SpeedOf = (gpu: PlacementGpu) => number;

export function leastByEnumeration(request: PlacementRequest, speedOf: SpeedOf): Judged {
  const { gpus, services } = request;
  const choices = services.map((service) => [
    ...gpus.map((_, g) => g).filter((g) => mayRun(service, gpus[g]!)),
    ...(service.cpuAllowed && service.gpu === null ? [-1] : []),
    -2,
  ]);
  let best: Judged | null = null;
  const places = services.map(() => 0);
  const visit = (s: number): void => {
    if (s === services.length) {
      const judged = judge(request, places, speedOf);
      if (judged !== null && (best === null || compareJudged(judged, best) < 0)) best = judged;
      return;
    }
    for (const place of choices[s]!) {
      places[s] = place;
      visit(s + 1);
    }
  };
  visit(0);
  return best!;
}

function mayRun(service: PlacementService, gpu: PlacementGpu): boolean {
  if (service.gpu !== null && (service.gpu.node !== gpu.node || service.gpu.index !== gpu.index)) return false;
  if (!service.frameworks.some((framework) => vendorsOf[framework]!.includes(gpu.vendor))) return false;
  return gpu.taints.every((taint) => service.tolerations.some((toleration) => taint.startsWith(toleration)));
}

/** Null where the hardware forbids it, or `refuse` does. */
export function judge(request: PlacementRequest, places: readonly number[], speedOf: SpeedOf): Judged | null {
  const refusedCounts = new Map<number, number>();
  let overMb = 0;
  let shrunkMb = 0;
  let slowness = 0;
  let use = 0;
  request.services.forEach((service, s) => {
    if (places[s] === -2) refusedCounts.set(service.priority, (refusedCounts.get(service.priority) ?? 0) + 1);
    if (places[s] === -1 && service.critical) slowness += 100;
  });
  for (const [g, gpu] of request.gpus.entries()) {
    const here = request.services.filter((_, s) => places[s] === g);
    if (here.length > 1 && (gpu.sharing === 'exclusive' || here.some(({ dedicated }) => dedicated))) return null;
    if (here.reduce((sum, { computeShare }) => sum + (computeShare ?? 0), 0) > 1.000001) return null;
    const budgets = new Map(here.map((service) => [service.name, service.memoryMb]));
    const total = (): number => [...budgets.values()].reduce((sum, each) => sum + each, 0);
    const room = gpu.memoryMb - gpu.usedMb;
    if (total() > room) {
      const lowestFirst = here
        .filter(({ memoryMb, minMemoryMb }) => minMemoryMb < memoryMb)
        .sort((a, b) => a.priority - b.priority || b.memoryMb - a.memoryMb || (a.name < b.name ? -1 : 1));
      for (const service of lowestFirst) {
        if (total() <= room - 500) break;
        const others = total() - service.memoryMb;
        const halves = Math.floor(Math.max(0, room - 500 - others) / 512);
        budgets.set(service.name, Math.min(service.memoryMb, Math.max(service.minMemoryMb, halves * 512)));
      }
    }
    const over = Math.max(0, gpu.usedMb + total() - gpu.memoryMb);
    if (request.overcommit === 'refuse' && here.length > 0 && over > 0) return null;
    overMb += over;
    shrunkMb += here.reduce((sum, { memoryMb }) => sum + memoryMb, 0) - total();
    slowness += (here.filter(({ critical }) => critical).length * here.length) / speedOf(gpu);
    use = Math.max(use, (gpu.usedMb + total()) / gpu.memoryMb);
  }
  return {
    refused: [...refusedCounts].sort(([a], [b]) => b - a),
    overMb,
    shrunkMb,
    slowness: Number(slowness.toFixed(6)),
    thousandths: Math.ceil(use * 1000 - 1e-6),
  };
}

export function compareJudged(a: Judged, b: Judged): number {
  const priorities = [...new Set([...a.refused, ...b.refused].map(([priority]) => priority))].sort((x, y) => y - x);
  for (const priority of priorities) {
    const count = ({ refused }: Judged): number => refused.find(([each]) => each === priority)?.[1] ?? 0;
    if (count(a) !== count(b)) return count(a) - count(b);
  }
  if (a.overMb !== b.overMb) return a.overMb - b.overMb;
  if (a.shrunkMb !== b.shrunkMb) return a.shrunkMb - b.shrunkMb;
  if (Math.abs(a.slowness - b.slowness) > 1e-5) return a.slowness - b.slowness;
  return a.thousandths - b.thousandths;
}
