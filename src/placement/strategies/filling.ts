import type { Fleet, FleetService } from '../fleet.js';
import { isRefused, type Load, Occupancy, onCpu } from '../occupancy.js';

/** Steps that the strategies have in common: pins first, then one service at a time. */

/** A fleet in which only what is pinned has its place; a pin that cannot be kept is refused. */
export function withPins(fleet: Fleet): Occupancy {
  const occupancy = new Occupancy(fleet);
  // Two may be pinned to a GPU that takes one: then priority decides, not size.
  const pinned = fleet.services.filter(({ isPinned }) => isPinned).sort((a, b) => b.priority - a.priority);
  for (const service of pinned) placeOn(occupancy, service, service.options, mostFree);
  return occupancy;
}

/**
 * The order in which services choose: the larger first, since the small ones fit into what is left. Where nothing may
 * exceed a GPU, the higher priority goes before.
 */
function inTurn(fleet: Fleet, services: readonly FleetService[]): readonly FleetService[] {
  return [...services].sort(
    (a, b) =>
      (fleet.refusesOvercommit ? b.priority - a.priority : 0) ||
      b.memoryMb - a.memoryMb ||
      b.priority - a.priority ||
      a.at - b.at,
  );
}

export function openServices(occupancy: Occupancy): readonly FleetService[] {
  return inTurn(
    occupancy.fleet,
    occupancy.fleet.services.filter((service) => !occupancy.isDecided(service)),
  );
}

/** Which of two GPUs a service rather takes, as they would be with it: negative = the first. */
export type Preference = (
  a: { readonly gpu: number; readonly load: Load },
  b: { readonly gpu: number; readonly load: Load },
  occupancy: Occupancy,
) => number;

/** Memory that nobody has, with the service there. */
export const mostFree: Preference = (a, b, { fleet }) =>
  fleet.gpus[b.gpu]!.freeMb - b.load.assignedMb - (fleet.gpus[a.gpu]!.freeMb - a.load.assignedMb);

export const leastRelativeUse: Preference = (a, b, occupancy) =>
  occupancy.relativeUse(a.gpu, a.load) - occupancy.relativeUse(b.gpu, b.load);

/** A service on this GPU is as fast as it gets. */
export const fastest: Preference = (a, b, { fleet }) => fleet.gpus[b.gpu]!.speed - fleet.gpus[a.gpu]!.speed;

/**
 * Puts a service on the GPU that it prefers among `gpus` where it fits as it is; else on the CPU, if it may; else where
 * it exceeds the memory least, and there where least must be shrunk; else nowhere.
 *
 * @param rather what a service that may use the CPU rather has than memory that is exceeded or shrunk; `gpu` leaves the
 *   CPU to those that no GPU may take
 */
export function placeOn(
  occupancy: Occupancy,
  service: FleetService,
  gpus: readonly number[],
  prefer: Preference,
  rather: 'cpu' | 'gpu' = 'cpu',
): void {
  let best: Candidate | undefined;
  for (const gpu of gpus) {
    const load = occupancy.with(service, gpu);
    if (load === null) continue;
    const before = occupancy.loadOf(gpu);
    const moreOverMb = load.overMb - before.overMb;
    const moreShrunkMb = load.shrunkMb - before.shrunkMb;
    const candidate = { gpu, load, moreOverMb, moreShrunkMb };
    if (best === undefined) best = candidate;
    else {
      const difference =
        moreOverMb - best.moreOverMb ||
        moreShrunkMb - best.moreShrunkMb ||
        prefer(candidate, best, occupancy) ||
        gpu - best.gpu;
      if (difference < 0) best = candidate;
    }
  }
  const fits = best !== undefined && best.moreOverMb === 0 && best.moreShrunkMb === 0;
  const leavesGpu = service.mayUseCpu && rather === 'cpu' && !fits;
  if (best !== undefined && !leavesGpu) occupancy.put(service, best.gpu, best.load);
  else occupancy.settle(service, service.mayUseCpu ? onCpu : isRefused);
}

type Candidate = {
  readonly gpu: number;
  readonly load: Load;
  /** What the service there makes it exceed and shrink more [MiB]. */
  readonly moreOverMb: number;
  readonly moreShrunkMb: number;
};

/** Does it fit there as it is, nobody shrunk? */
export function fitsOn(occupancy: Occupancy, service: FleetService, gpu: number): boolean {
  const load = occupancy.with(service, gpu);
  if (load === null) return false;
  const before = occupancy.loadOf(gpu);
  return load.overMb === before.overMb && load.shrunkMb === before.shrunkMb;
}
