import type { Fleet, FleetService } from '../fleet.js';
import { cpuSlowness, isRefused, type Load, type Occupancy, onCpu } from '../occupancy.js';
import { pseudoRandom } from './pseudo-random.js';

/**
 * Simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983): services move and change places at random; what makes things
 * worse is taken too, ever less, so that a placement gets out of where single moves are stuck.
 *
 * Chance is drawn from `seed`: the same seed gives the same placement, unless `shouldStop` ended it.
 */
export type AnnealOptions = { readonly seed: number; readonly steps: number; readonly shouldStop: () => boolean };

/** Temperatures, as parts of the slowness of one critical service (or of 1, where there is none). */
const hottest = 0.5;
const coldest = 5e-4;

/** What a MiB too much costs, and one shrunk, in hottest temperatures: a few of them are taken for a better seat. */
const overWeight = 1 / 20;
const shrunkWeight = 1 / 60;

/** What relative use costs, in coldest temperatures: it decides where all else is equal. */
const useWeight = 20;

const stepsBetweenLooks = 1024;

/** Changes the placement in place; it may end worse than it began. */
export function anneal(occupancy: Occupancy, { seed, steps, shouldStop }: AnnealOptions): void {
  const { fleet } = occupancy;
  const movable = fleet.services.filter(
    (service) =>
      !service.isPinned &&
      service.options.length + Number(service.mayUseCpu) > 1 &&
      occupancy.placeOf(service) !== isRefused,
  );
  if (movable.length === 0) return;
  const walk = new Walk(occupancy, movable);
  const next = pseudoRandom(seed);
  for (let step = 0; step < steps; step++) {
    if (step % stepsBetweenLooks === 0 && shouldStop()) return;
    walk.temperature = walk.hottest * (coldest / hottest) ** (step / steps);
    const service = movable[Math.floor(next() * movable.length)]!;
    if (next() < 0.5) walk.move(service, next);
    else walk.swap(service, movable[Math.floor(next() * movable.length)]!, next);
  }
}

class Walk {
  readonly #occupancy: Occupancy;
  readonly #fleet: Fleet;
  readonly hottest: number;
  readonly #use: number;
  /** Of each GPU as it is. */
  readonly #energies: Float64Array;
  temperature = 0;

  constructor(occupancy: Occupancy, movable: readonly FleetService[]) {
    this.#occupancy = occupancy;
    this.#fleet = occupancy.fleet;
    const critical = movable.filter((service) => service.critical).length;
    const slowness = occupancy.score().slowness;
    const seat = critical === 0 || slowness === 0 ? 1 : slowness / critical;
    this.hottest = hottest * seat;
    this.#use = useWeight * coldest * seat;
    this.#energies = new Float64Array(this.#fleet.gpus.length);
    for (const { at } of this.#fleet.gpus) this.#energies[at] = this.#energy(at, occupancy.loadOf(at), 0, 0);
  }

  /** To another GPU, or the CPU. */
  move(service: FleetService, next: () => number): void {
    const occupancy = this.#occupancy;
    const from = occupancy.placeOf(service);
    const drawn = Math.floor(next() * (service.options.length + Number(service.mayUseCpu)));
    const to = service.options[drawn] ?? onCpu;
    if (to === from) return;
    const coming = to === onCpu ? null : occupancy.with(service, to);
    if (to !== onCpu && coming === null) return;
    const leaving = from === onCpu ? null : occupancy.exchanged(from, service, null)!;
    const critical = Number(service.critical);
    const without = leaving === null ? critical * cpuSlowness : this.#energy(from, leaving, -1, -critical);
    const withIt = coming === null ? critical * cpuSlowness : this.#energy(to, coming, 1, critical);
    const before = (leaving === null ? 0 : this.#energies[from]!) + (coming === null ? 0 : this.#energies[to]!);
    const after = (leaving === null ? -without : without) + withIt;
    if (!this.#isTaken(after - before, next)) return;
    occupancy.take(service, leaving ?? undefined);
    if (leaving !== null) this.#energies[from] = without;
    if (coming === null) occupancy.settle(service, onCpu);
    else {
      occupancy.put(service, to, coming);
      this.#energies[to] = withIt;
    }
  }

  swap(service: FleetService, other: FleetService, next: () => number): void {
    const occupancy = this.#occupancy;
    const from = occupancy.placeOf(service);
    const to = occupancy.placeOf(other);
    if (from < 0 || to < 0 || from === to) return;
    if (service.takes[to] === 0 || other.takes[from] === 0) return;
    const here = occupancy.exchanged(from, service, other);
    const there = here === null ? null : occupancy.exchanged(to, other, service);
    if (here === null || there === null) return;
    const shift = Number(other.critical) - Number(service.critical);
    const hereEnergy = this.#energy(from, here, 0, shift);
    const thereEnergy = this.#energy(to, there, 0, -shift);
    const change = hereEnergy + thereEnergy - this.#energies[from]! - this.#energies[to]!;
    if (!this.#isTaken(change, next)) return;
    occupancy.take(service, here);
    occupancy.take(other, there);
    occupancy.put(service, to, there);
    occupancy.put(other, from, here);
    this.#energies[from] = hereEnergy;
    this.#energies[to] = thereEnergy;
  }

  #isTaken(change: number, next: () => number): boolean {
    return change <= 0 || next() < Math.exp(-change / this.temperature);
  }

  #energy(gpu: number, load: Load, moreServices: number, moreCritical: number): number {
    const occupancy = this.#occupancy;
    const { speed, usedMb, memoryMb } = this.#fleet.gpus[gpu]!;
    const critical = occupancy.criticalCount(gpu) + moreCritical;
    const services = occupancy.count(gpu) + moreServices;
    return (
      this.hottest * (overWeight * load.overMb + shrunkWeight * load.shrunkMb) +
      (critical * services) / speed +
      this.#use * twelfthPower((usedMb + load.assignedMb) / memoryMb)
    );
  }
}

/** Large uses weigh so much more than small ones that the largest decides. */
function twelfthPower(use: number): number {
  const square = use * use;
  const fourth = square * square;
  return fourth * fourth * fourth;
}
