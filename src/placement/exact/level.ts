import type { FleetService } from '../fleet.js';
import type { Occupancy } from '../occupancy.js';

/**
 * Evens out the fullest GPU: up to two of its services change places with up to two of another GPU, as long as the fuller
 * of the two gets emptier. Exchanges of two for two make steps of a few MiB, where single moves make hundreds.
 *
 * Slowness stays as it is: critical services stay where they are, and where one is, as many leave as come. GPUs on which
 * something is shrunk or exceeded are left alone.
 */
export function level(occupancy: Occupancy, shouldStop: () => boolean): void {
  while (occupancy.fleet.gpus.length > 1 && !shouldStop()) {
    const uses = occupancy.fleet.gpus.map(({ at }) => occupancy.relativeUse(at));
    const fullest = uses.indexOf(Math.max(...uses));
    const best = bestExchange(occupancy, fullest, uses);
    if (best === null || !exchange(occupancy, best)) return;
  }
}

type Exchange = {
  readonly from: number;
  readonly to: number;
  readonly leaving: readonly FleetService[];
  readonly coming: readonly FleetService[];
};

/** Less of a gain is not worth a step: a ten-thousandth of a GPU. */
const leastGain = 1e-4;

function bestExchange(occupancy: Occupancy, from: number, uses: readonly number[]): Exchange | null {
  const { gpus } = occupancy.fleet;
  if (!isFirm(occupancy, from)) return null;
  const source = gpus[from]!;
  const leavingSets = setsOf(movableOf(occupancy, from));
  let best: Exchange | null = null;
  let lowest = uses[from]! - leastGain;
  for (const target of gpus) {
    const to = target.at;
    if (to === from || !isFirm(occupancy, to) || uses[to]! >= lowest) continue;
    const keepsCounts = occupancy.criticalCount(from) + occupancy.criticalCount(to) > 0;
    const comingSets = setsOf(movableOf(occupancy, to));
    for (const leaving of leavingSets) {
      if (leaving.services.length === 0 || !leaving.services.every(({ takes }) => takes[to] === 1)) continue;
      for (const coming of comingSets) {
        if (keepsCounts && coming.services.length !== leaving.services.length) continue;
        const movedMb = leaving.sizeMb - coming.sizeMb;
        if (movedMb <= 0) continue;
        const higher = Math.max(uses[from]! - movedMb / source.memoryMb, uses[to]! + movedMb / target.memoryMb);
        if (higher >= lowest || !coming.services.every(({ takes }) => takes[from] === 1)) continue;
        lowest = higher;
        best = { from, to, leaving: leaving.services, coming: coming.services };
      }
    }
  }
  return best;
}

/** Nothing is shrunk or exceeded there, and what leaves makes as much room as it took. */
function isFirm(occupancy: Occupancy, gpu: number): boolean {
  const { shrunkMb, overMb } = occupancy.loadOf(gpu);
  const { cut, takesOne } = occupancy.fleet.gpus[gpu]!;
  return shrunkMb === 0 && overMb === 0 && cut === null && !takesOne;
}

function movableOf(occupancy: Occupancy, gpu: number): readonly FleetService[] {
  return occupancy
    .servicesOn(gpu)
    .filter((service) => !service.isPinned && !service.critical && !service.dedicated)
    .slice(0, mostMovable);
}

/** Of a GPU with more services, only so many are looked at: two of 24 are 300 sets, and as many of another GPU. */
const mostMovable = 24;

type ServiceSet = { readonly services: readonly FleetService[]; readonly sizeMb: number };

/** None, each one, each two. */
function setsOf(services: readonly FleetService[]): readonly ServiceSet[] {
  const sets: ServiceSet[] = [{ services: [], sizeMb: 0 }];
  services.forEach((first, i) => {
    sets.push({ services: [first], sizeMb: first.memoryMb });
    for (const second of services.slice(i + 1)) {
      sets.push({ services: [first, second], sizeMb: first.memoryMb + second.memoryMb });
    }
  });
  return sets;
}

/** False where a rule forbids it after all; then everything is as it was. */
function exchange(occupancy: Occupancy, { from, to, leaving, coming }: Exchange): boolean {
  const before = [occupancy.loadOf(from), occupancy.loadOf(to)] as const;
  const moved: { readonly service: FleetService; readonly home: number }[] = [];
  for (const service of [...leaving, ...coming]) {
    moved.push({ service, home: occupancy.placeOf(service) });
    occupancy.take(service);
  }
  const isDone = moved.every(({ service, home }) => {
    const away = home === from ? to : from;
    const load = occupancy.with(service, away);
    if (load === null || load.shrunkMb > 0 || load.overMb > 0) return false;
    occupancy.put(service, away, load);
    return true;
  });
  if (isDone) return true;
  for (const { service, home } of moved) {
    if (occupancy.isDecided(service)) occupancy.take(service);
    occupancy.put(service, home, before[home === from ? 0 : 1]);
  }
  return false;
}
