import type { FleetService } from '../fleet.js';
import { isRefused, type Occupancy } from '../occupancy.js';

/**
 * Lets refused services in, highest priority first: into a GPU that has room, or in place of one that matters less, or
 * as much and is larger, which then goes elsewhere or is refused itself.
 *
 * Each exchange refuses less of a higher priority, or as much and frees memory, so that it comes to an end.
 */
export function admit(occupancy: Occupancy): void {
  const refused = (): readonly FleetService[] =>
    occupancy.fleet.services
      .filter((service) => !service.isPinned && service.options.length > 0 && occupancy.placeOf(service) === isRefused)
      .sort((a, b) => b.priority - a.priority || a.minMb - b.minMb || a.at - b.at);
  let hasChanged = true;
  while (hasChanged) {
    hasChanged = refused().some((service) => enter(occupancy, service) || replace(occupancy, service));
  }
}

function enter(occupancy: Occupancy, service: FleetService): boolean {
  for (const gpu of service.options) {
    const load = occupancy.with(service, gpu);
    if (load === null) continue;
    occupancy.take(service);
    occupancy.put(service, gpu, load);
    return true;
  }
  return false;
}

function replace(occupancy: Occupancy, service: FleetService): boolean {
  const isLesser = (other: FleetService): boolean =>
    !other.isPinned &&
    (other.priority < service.priority || (other.priority === service.priority && other.minMb > service.minMb));
  const victims = service.options
    .flatMap((gpu) => occupancy.servicesOn(gpu).map((other) => ({ gpu, other })))
    .filter(({ other }) => isLesser(other))
    .sort((a, b) => a.other.priority - b.other.priority || b.other.minMb - a.other.minMb || a.other.at - b.other.at);
  for (const { gpu, other } of victims) {
    if (occupancy.exchanged(gpu, other, service) === null) continue;
    occupancy.take(other);
    occupancy.settle(other, isRefused);
    occupancy.take(service);
    occupancy.put(service, gpu, occupancy.with(service, gpu)!);
    enter(occupancy, other);
    return true;
  }
  return false;
}
