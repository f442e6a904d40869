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

/** Evaluations of one call: some seconds at the largest documents, never reached by the usual ones. */
const mostEvaluations = 20_000_000;

export type ImproveLimits = { readonly shouldStop?: (() => boolean) | undefined };

/** Improves in place until nothing helps. Deterministic unless stopped. */
export function improve(occupancy: Occupancy, judge: Judge, { shouldStop = () => false }: ImproveLimits = {}): void {
  const search = new LocalSearch(occupancy, judge);
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

class LocalSearch {
  readonly #occupancy: Occupancy;
  readonly #judge: Judge;
  /** Of each GPU as it is. */
  readonly #own: (readonly number[])[];
  #sums: readonly number[];
  #merit: Merit;
  evaluations = 0;

  constructor(occupancy: Occupancy, judge: Judge) {
    this.#occupancy = occupancy;
    this.#judge = judge;
    this.#own = occupancy.fleet.gpus.map(({ at }) => this.#ownSums(at));
    this.#sums = this.#allSums();
    this.#merit = this.#meritOf(this.#sums);
  }

  /** The best other place of one service, if it is better than where it is. */
  moveBest(service: FleetService): boolean {
    const occupancy = this.#occupancy;
    const from = occupancy.placeOf(service);
    const left = from >= 0 ? occupancy.exchanged(from, service, null) : null;
    let best: { readonly to: number; readonly load: Load | null; readonly merit: Merit } | null = null;
    const consider = (to: number, load: Load | null): void => {
      this.evaluations += 1;
      const sums = this.#sumsAfter(
        [
          ...(left === null ? [] : [{ gpu: from, load: left, services: -1, critical: -Number(service.critical) }]),
          ...(load === null ? [] : [{ gpu: to, load, services: 1, critical: Number(service.critical) }]),
        ],
        to === onCpu && service.critical ? 1 : 0,
        from === onCpu && service.critical ? 1 : 0,
      );
      const merit = this.#meritOf(sums);
      if (isLess(merit, best?.merit ?? (from === isRefused ? null : this.#merit))) best = { to, load, merit };
    };
    for (const to of service.options) {
      if (to === from) continue;
      const load = occupancy.with(service, to);
      if (load !== null) consider(to, load);
    }
    if (service.mayUseCpu && from !== onCpu) consider(onCpu, null);
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
    let best: { readonly other: FleetService; readonly merit: Merit } | null = null;
    for (const other of others) {
      const to = occupancy.placeOf(other);
      if (other.at <= service.at || to < 0 || to === from) continue;
      if (other.memoryMb === service.memoryMb && isAlike(service, other)) continue;
      if (!service.options.includes(to) || !other.options.includes(from)) continue;
      const there = occupancy.exchanged(to, other, service);
      const here = there === null ? null : occupancy.exchanged(from, service, other);
      if (there === null || here === null) continue;
      this.evaluations += 1;
      const shift = Number(service.critical) - Number(other.critical);
      const merit = this.#meritOf(
        this.#sumsAfter([
          { gpu: from, load: here, services: 0, critical: -shift },
          { gpu: to, load: there, services: 0, critical: shift },
        ]),
      );
      if (isLess(merit, (best as { merit: Merit } | null)?.merit ?? this.#merit)) best = { other, merit };
    }
    if (best === null) return false;
    const { other } = best as { other: FleetService };
    const to = occupancy.placeOf(other);
    occupancy.take(service);
    occupancy.take(other);
    // In this order both fit: each GPU has lost what it gives.
    occupancy.put(service, to, occupancy.with(service, to)!);
    occupancy.put(other, from, occupancy.with(other, from)!);
    this.#refresh(from, to);
    return true;
  }

  #refresh(...changed: readonly number[]): void {
    for (const gpu of changed) if (gpu >= 0) this.#own[gpu] = this.#ownSums(gpu);
    this.#sums = this.#allSums();
    this.#merit = this.#meritOf(this.#sums);
  }

  /** Σ exceeded, Σ shrunk, critical services on the CPU, then the judge's. */
  #allSums(): readonly number[] {
    const { fleet } = this.#occupancy;
    let sums: number[] = [];
    for (const own of this.#own) sums = added(sums, own, 1);
    const onCpuNow = fleet.services.filter(
      (service) => service.critical && this.#occupancy.placeOf(service) === onCpu,
    ).length;
    sums[2] = onCpuNow;
    return sums;
  }

  #ownSums(gpu: number, change?: Change): readonly number[] {
    const occupancy = this.#occupancy;
    const load = change?.load ?? occupancy.loadOf(gpu);
    const services = occupancy.count(gpu) + (change?.services ?? 0);
    const critical = occupancy.criticalCount(gpu) + (change?.critical ?? 0);
    return [load.overMb, load.shrunkMb, 0, ...this.#judge.measure(occupancy, gpu, load, services, critical)];
  }

  #sumsAfter(changes: readonly Change[], cpuMore = 0, cpuLess = 0): readonly number[] {
    const sums = [...this.#sums];
    for (const change of changes) {
      added(sums, this.#own[change.gpu]!, -1);
      added(sums, this.#ownSums(change.gpu, change), 1);
    }
    sums[2]! += cpuMore - cpuLess;
    return sums;
  }

  #meritOf([overMb = 0, shrunkMb = 0, cpuCritical = 0, ...own]: readonly number[]): Merit {
    return [overMb, shrunkMb, ...this.#judge.value([...own, cpuCritical], this.#occupancy.fleet.gpus.length)];
  }
}

type Change = { readonly gpu: number; readonly load: Load; readonly services: number; readonly critical: number };

function added(sums: number[], own: readonly number[], sign: 1 | -1): number[] {
  for (let i = 0; i < own.length; i++) sums[i] = (sums[i] ?? 0) + sign * own[i]!;
  return sums;
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
