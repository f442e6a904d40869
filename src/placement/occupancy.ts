import { budgetsOn, computeTolerance, type GpuBudgets } from './budgets.js';
import type { Fleet, FleetGpu, FleetService } from './fleet.js';
import type { Score } from './score.js';

/** Where a service is: a GPU by its number, or one of these. */
export const onCpu = -1;
export const isRefused = -2;
const isOpen = -3;

/** What a GPU would be with one service more. */
export type Load = Pick<GpuBudgets, 'assignedMb' | 'shrunkMb' | 'overMb'>;

/** What is kept of one GPU, so that a service more or less costs little. */
type Occupied = {
  readonly services: FleetService[];
  askedMb: number;
  minMb: number;
  critical: number;
  dedicated: number;
  compute: number;
  load: Load;
};

/**
 * Which service sits where while a placement is made: a state that strategies fill and the exact search walks through.
 *
 * What hardware forbids is never in it. Services go in and out one at a time; `score()` is what has come of it.
 */
export class Occupancy {
  readonly fleet: Fleet;
  readonly #gpus: readonly Occupied[];
  readonly #place: Int32Array;

  constructor(fleet: Fleet) {
    this.fleet = fleet;
    this.#gpus = fleet.gpus.map((gpu) => ({
      services: [],
      askedMb: 0,
      minMb: 0,
      critical: 0,
      dedicated: 0,
      compute: 0,
      load: emptyLoad(gpu),
    }));
    this.#place = new Int32Array(fleet.services.length).fill(isOpen);
  }

  /** GPU number, `onCpu` or `isRefused`; anything else = not decided. */
  placeOf(service: FleetService): number {
    return this.#place[service.at]!;
  }

  isDecided(service: FleetService): boolean {
    return this.#place[service.at] !== isOpen;
  }

  servicesOn(gpu: number): readonly FleetService[] {
    return this.#gpus[gpu]!.services;
  }

  count(gpu: number): number {
    return this.#gpus[gpu]!.services.length;
  }

  criticalCount(gpu: number): number {
    return this.#gpus[gpu]!.critical;
  }

  loadOf(gpu: number): Load {
    return this.#gpus[gpu]!.load;
  }

  /** Σ of what its services ask for, and of their least [MiB]. */
  askedMb(gpu: number): number {
    return this.#gpus[gpu]!.askedMb;
  }

  minMb(gpu: number): number {
    return this.#gpus[gpu]!.minMb;
  }

  /** (used + assigned) / memory. */
  relativeUse(gpu: number, load: Pick<Load, 'assignedMb'> = this.#gpus[gpu]!.load): number {
    const { usedMb, memoryMb } = this.fleet.gpus[gpu]!;
    return (usedMb + load.assignedMb) / memoryMb;
  }

  /** Nobody else can go there, whoever it is. */
  isClosed(gpu: number): boolean {
    const occupied = this.#gpus[gpu]!;
    return occupied.services.length > 0 && (this.fleet.gpus[gpu]!.takesOne || occupied.dedicated > 0);
  }

  /** What the GPU would be with this service, or null where it may not go there. */
  with(service: FleetService, gpu: number): Load | null {
    const target = this.fleet.gpus[gpu]!;
    const occupied = this.#gpus[gpu]!;
    const count = occupied.services.length;
    if (count > 0 && (service.dedicated || occupied.dedicated > 0 || target.takesOne)) return null;
    if (occupied.compute + service.computeShare > 1 + computeTolerance) return null;
    if (this.fleet.refusesOvercommit && occupied.minMb + service.minMb > Math.max(0, target.freeMb)) return null;
    const askedMb = occupied.askedMb + service.memoryMb;
    const isFirm = askedMb === occupied.minMb + service.minMb;
    if (target.cut === null && (isFirm || askedMb <= target.freeMb)) return unshrunk(target, askedMb);
    return budgetsOn(target, [...occupied.services, service]);
  }

  /** What the GPU would be if `leaving` went and `coming` came; null where that may not be. */
  exchanged(gpu: number, leaving: FleetService, coming: FleetService | null): Load | null {
    const target = this.fleet.gpus[gpu]!;
    const occupied = this.#gpus[gpu]!;
    const askedMb = occupied.askedMb - leaving.memoryMb + (coming?.memoryMb ?? 0);
    if (coming !== null) {
      const isShared = occupied.services.length > 1;
      const minMb = occupied.minMb - leaving.minMb + coming.minMb;
      if (this.fleet.refusesOvercommit && minMb > Math.max(0, target.freeMb)) return null;
      const stays = occupied.dedicated - Number(leaving.dedicated);
      if (isShared && (coming.dedicated || stays > 0 || target.takesOne)) return null;
      const compute = occupied.compute - leaving.computeShare + coming.computeShare;
      if (compute > 1 + computeTolerance) return null;
    }
    const isFirm = askedMb === occupied.minMb - leaving.minMb + (coming?.minMb ?? 0);
    if (target.cut === null && (isFirm || askedMb <= target.freeMb)) return unshrunk(target, askedMb);
    const rest = occupied.services.filter((other) => other !== leaving);
    return budgetsOn(target, coming === null ? rest : [...rest, coming]);
  }

  /** Puts a service that is nowhere on a GPU that may take it. `load` is what `with` said. */
  put(service: FleetService, gpu: number, load: Load): void {
    this.#place[service.at] = gpu;
    const occupied = this.#gpus[gpu]!;
    occupied.services.push(service);
    count(occupied, service, 1);
    occupied.load = load;
  }

  /** Puts a service that is nowhere on the CPU, or nowhere for good. */
  settle(service: FleetService, place: typeof onCpu | typeof isRefused): void {
    this.#place[service.at] = place;
  }

  /** Takes a service out again. `load` is what its GPU was before it came, where that is known. */
  take(service: FleetService, load?: Load): void {
    const gpu = this.#place[service.at]!;
    this.#place[service.at] = isOpen;
    if (gpu < 0) return;
    const occupied = this.#gpus[gpu]!;
    occupied.services.splice(occupied.services.lastIndexOf(service), 1);
    count(occupied, service, -1);
    occupied.load = load ?? loadOf(this.fleet.gpus[gpu]!, occupied.services);
  }

  /** Everything as in another state of the same fleet. */
  copy(): Occupancy {
    const { fleet } = this;
    const copy = new Occupancy(fleet);
    for (const service of fleet.services) {
      const place = this.placeOf(service);
      if (place === onCpu || place === isRefused) copy.settle(service, place);
    }
    for (const { at } of fleet.gpus) {
      const { services, load } = this.#gpus[at]!;
      for (const service of services) copy.put(service, at, load);
    }
    return copy;
  }

  score(): Score {
    const { fleet } = this;
    const refused = fleet.priorities.map(() => 0);
    let slowness = 0;
    for (const service of fleet.services) {
      const place = this.placeOf(service);
      if (place === isRefused) refused[fleet.priorities.indexOf(service.priority)]! += 1;
      if (place === onCpu && service.critical) slowness += cpuSlowness;
    }
    let overMb = 0;
    let shrunkMb = 0;
    let use = 0;
    for (const { at, speed } of fleet.gpus) {
      const { load, critical, services } = this.#gpus[at]!;
      overMb += load.overMb;
      shrunkMb += load.shrunkMb;
      slowness += (critical * services.length) / speed;
      use = Math.max(use, this.relativeUse(at));
    }
    return { refused, overMb, shrunkMb, slowness, use };
  }
}

/** Of a critical service on the CPU, whatever else runs there. */
export const cpuSlowness = 100;

function count(occupied: Occupied, service: FleetService, sign: 1 | -1): void {
  occupied.askedMb += sign * service.memoryMb;
  occupied.minMb += sign * service.minMb;
  occupied.critical += sign * Number(service.critical);
  occupied.dedicated += sign * Number(service.dedicated);
  if (service.computeShare === 0) return;
  // Not a running sum: fractions would leave dust behind.
  occupied.compute = occupied.services.reduce((sum, { computeShare }) => sum + computeShare, 0);
}

/** Where everything fits as it is, or nobody can shrink. */
function unshrunk(gpu: FleetGpu, askedMb: number): Load {
  return { assignedMb: askedMb, shrunkMb: 0, overMb: Math.max(0, askedMb - gpu.freeMb) };
}

function emptyLoad(gpu: FleetGpu): Load {
  return { assignedMb: 0, shrunkMb: 0, overMb: Math.max(0, -gpu.freeMb) };
}

function loadOf(gpu: FleetGpu, services: readonly FleetService[]): Load {
  return services.length === 0 ? emptyLoad(gpu) : budgetsOn(gpu, services)!;
}
