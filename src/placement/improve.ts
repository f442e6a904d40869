import type { FleetService } from './fleet.js';
import { isRefused, type Load, type Occupancy, onCpu } from './occupancy.js';

/**
 * Local search: one service moves, or two change places, as long as that makes things better.
 *
 * Less memory exceeded comes first, then less shrunk, then what the judge says. Nobody is refused for it; a refused
 * service that has found room is placed. Pinned services stay.
 */

/**
 * What is to be made small, as values compared in their order. Each is a function of sums over the GPUs, so that a move
 * costs as much as the two GPUs that it changes.
 */
export type Judge = {
  /** A GPU's part of the sums, as it would be with `load`, `services` on it and `critical` of them. */
  readonly measure: (
    occupancy: Occupancy,
    gpu: number,
    load: Load,
    services: number,
    critical: number,
  ) => readonly number[];
  readonly value: (sums: readonly number[], gpus: number) => readonly number[];
};

/** Differences below are rounding. */
const tolerance = 1e-9;

/** Evaluations of one call: some seconds for 5,000 services on 1,000 GPUs, never reached by 200 on 64. */
const mostEvaluations = 5_000_000;

export type ImproveLimits = {
  readonly shouldStop?: (() => boolean) | undefined;
  /** Whether a service may leave its GPU for the CPU; true by default. */
  readonly mayLeaveGpu?: boolean;
};

/** Improves in place until nothing helps. Deterministic unless stopped. */
export function improve(
  occupancy: Occupancy,
  judge: Judge,
  { shouldStop = () => false, mayLeaveGpu = true }: ImproveLimits = {},
): void {
  const search = new LocalSearch(occupancy, judge, mayLeaveGpu);
  const movable = occupancy.fleet.services.filter(({ isPinned, options }) => !isPinned && options.length > 0);
  let stale = 0;
  while (movable.length > 0 && search.evaluations < mostEvaluations) {
    let hasImproved = false;
    for (const service of movable) {
      if (shouldStop()) return;
      if (search.moveBest(service)) {
        hasImproved = true;
        stale = 0;
      }
    }
    if (hasImproved) continue;
    for (const service of movable) {
      if (shouldStop()) return;
      if (search.swapBest(service, movable)) hasImproved = true;
    }
    if (!hasImproved || ++stale > movable.length) return;
  }
}

/** Exceeded, shrunk, and the judge's values. */
type Merit = readonly number[];

/** Where the judge's sums begin. */
const judged = 3;

class LocalSearch {
  readonly #occupancy: Occupancy;
  readonly #judge: Judge;
  readonly #mayLeaveGpu: boolean;
  /** Of each GPU as it is: exceeded, shrunk, 0, then the judge's. */
  readonly #own: (readonly number[])[];
  /** Σ exceeded, Σ shrunk, critical services on the CPU, then the judge's. */
  #sums: readonly number[];
  readonly #scratch: number[];
  #merit: Merit;
  evaluations = 0;

  constructor(occupancy: Occupancy, judge: Judge, mayLeaveGpu: boolean) {
    const { gpus } = occupancy.fleet;
    this.#occupancy = occupancy;
    this.#judge = judge;
    this.#mayLeaveGpu = mayLeaveGpu;
    this.#own = gpus.map(({ at }) => this.#ownSums(at, occupancy.loadOf(at), 0, 0));
    this.#sums = this.#allSums();
    this.#scratch = [...this.#sums];
    this.#merit = this.#meritOf(this.#sums);
  }

  /** The best other place of one service, if it is better than where it is. */
  moveBest(service: FleetService): boolean {
    const occupancy = this.#occupancy;
    const from = occupancy.placeOf(service);
    const left = from >= 0 ? occupancy.exchanged(from, service, null) : null;
    const away = left === null ? null : { gpu: from, load: left, services: -1, critical: -Number(service.critical) };
    const cpuLess = Number(from === onCpu && service.critical);
    let best: { readonly to: number; readonly load: Load | null; readonly merit: Merit } | null = null;
    // A refused service takes any place.
    let than = from === isRefused ? null : this.#merit;
    const consider = (to: number, load: Load | null): void => {
      const here = load === null ? null : { gpu: to, load, services: 1, critical: Number(service.critical) };
      const merit = this.#meritAfter(away, here, Number(to === onCpu && service.critical) - cpuLess, than);
      if (merit === null) return;
      best = { to, load, merit };
      than = merit;
    };
    for (const to of service.options) {
      if (to === from) continue;
      const load = occupancy.with(service, to);
      if (load !== null) consider(to, load);
    }
    if (service.mayUseCpu && (from === isRefused || (from >= 0 && this.#mayLeaveGpu))) consider(onCpu, null);
    if (best === null) return false;
    const { to, load } = best as { to: number; load: Load | null };
    occupancy.take(service, left ?? undefined);
    if (load === null) occupancy.settle(service, onCpu);
    else occupancy.put(service, to, load);
    this.#refresh(from, to);
    return true;
  }

  /** The best exchange of one service with another on another GPU, if it is better than now. */
  swapBest(service: FleetService, others: readonly FleetService[]): boolean {
    const occupancy = this.#occupancy;
    const from = occupancy.placeOf(service);
    if (from < 0) return false;
    let best: FleetService | null = null;
    let than = this.#merit;
    for (const other of others) {
      const to = occupancy.placeOf(other);
      if (other.at <= service.at || to < 0 || to === from) continue;
      if (service.takes[to] === 0 || other.takes[from] === 0) continue;
      if (other.memoryMb === service.memoryMb && isAlike(service, other)) continue;
      const there = occupancy.exchanged(to, other, service);
      const here = there === null ? null : occupancy.exchanged(from, service, other);
      if (there === null || here === null) continue;
      const shift = Number(service.critical) - Number(other.critical);
      const merit = this.#meritAfter(
        { gpu: from, load: here, services: 0, critical: -shift },
        { gpu: to, load: there, services: 0, critical: shift },
        0,
        than,
      );
      if (merit === null) continue;
      best = other;
      than = merit;
    }
    if (best === null) return false;
    const to = occupancy.placeOf(best);
    occupancy.take(service);
    occupancy.take(best);
    // In this order both fit: each GPU has lost what it gives.
    occupancy.put(service, to, occupancy.with(service, to)!);
    occupancy.put(best, from, occupancy.with(best, from)!);
    this.#refresh(from, to);
    return true;
  }

  #refresh(...changed: readonly number[]): void {
    for (const gpu of changed) {
      if (gpu >= 0) this.#own[gpu] = this.#ownSums(gpu, this.#occupancy.loadOf(gpu), 0, 0);
    }
    this.#sums = this.#allSums();
    this.#merit = this.#meritOf(this.#sums);
  }

  #allSums(): readonly number[] {
    const { fleet } = this.#occupancy;
    const sums: number[] = [];
    for (const own of this.#own) add(sums, own, 1);
    sums[2] = fleet.services.filter((service) => service.critical && this.#occupancy.placeOf(service) === onCpu).length;
    return sums;
  }

  #ownSums(gpu: number, load: Load, services: number, critical: number): readonly number[] {
    const occupancy = this.#occupancy;
    const measured = this.#judge.measure(
      occupancy,
      gpu,
      load,
      occupancy.count(gpu) + services,
      occupancy.criticalCount(gpu) + critical,
    );
    const own = [load.overMb, load.shrunkMb, 0];
    for (const value of measured) own.push(value);
    return own;
  }

  /** The merit with one or two GPUs changed, if it is less than `than`; null if not. Most are not: that is seen first. */
  #meritAfter(a: Change | null, b: Change | null, cpuMore: number, than: Merit | null): Merit | null {
    this.evaluations += 1;
    const overMb = this.#sums[0]! + this.#moreOf(a, 0) + this.#moreOf(b, 0);
    const shrunkMb = this.#sums[1]! + this.#moreOf(a, 1) + this.#moreOf(b, 1);
    // Whole MiB: no tolerance.
    if (than !== null && (overMb > than[0]! || (overMb === than[0] && shrunkMb > than[1]!))) return null;
    const sums = this.#scratch;
    for (let i = 0; i < sums.length; i++) sums[i] = this.#sums[i]!;
    this.#change(sums, a);
    this.#change(sums, b);
    sums[2]! += cpuMore;
    const merit = this.#meritOf(sums);
    return isLess(merit, than) ? merit : null;
  }

  /** What a change adds to what is exceeded (0) or shrunk (1). */
  #moreOf(change: Change | null, which: 0 | 1): number {
    if (change === null) return 0;
    const { load } = change;
    return (which === 0 ? load.overMb : load.shrunkMb) - this.#own[change.gpu]![which]!;
  }

  #change(sums: number[], change: Change | null): void {
    if (change === null) return;
    add(sums, this.#own[change.gpu]!, -1);
    add(sums, this.#ownSums(change.gpu, change.load, change.services, change.critical), 1);
  }

  #meritOf(sums: readonly number[]): Merit {
    const own = sums.slice(judged);
    own.push(sums[2]!);
    const merit = [sums[0]!, sums[1]!];
    for (const value of this.#judge.value(own, this.#occupancy.fleet.gpus.length)) merit.push(value);
    return merit;
  }
}

/** A GPU as it would be, and how many services and critical ones more it would have. */
type Change = { readonly gpu: number; readonly load: Load; readonly services: number; readonly critical: number };

function add(sums: number[], own: readonly number[], sign: 1 | -1): void {
  for (let i = 0; i < own.length; i++) sums[i] = (sums[i] ?? 0) + sign * own[i]!;
}

function isLess(merit: Merit, than: Merit | null): boolean {
  if (than === null) return true;
  for (let i = 0; i < merit.length; i++) {
    const difference = merit[i]! - than[i]!;
    if (Math.abs(difference) > tolerance * Math.max(1, Math.abs(than[i]!))) return difference < 0;
  }
  return false;
}

function isAlike(a: FleetService, b: FleetService): boolean {
  return (
    a.minMb === b.minMb &&
    a.priority === b.priority &&
    a.critical === b.critical &&
    a.dedicated === b.dedicated &&
    a.computeShare === b.computeShare
  );
}
