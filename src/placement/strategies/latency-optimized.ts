import type { Fleet } from '../fleet.js';
import type { Occupancy } from '../occupancy.js';
import { fastest, fitsOn, mostFree, openServices, placeOn, withPins } from './filling.js';

/**
 * The critical path on the fastest GPU, others spread over the rest: critical services, highest priority first, take the
 * fastest GPU on which they fit, and the CPU only where no GPU may take them; then the others take the one with the most
 * free memory among those without a critical service, and one with a critical service only where they fit on none of the
 * rest.
 */
export function latencyOptimized(fleet: Fleet): Occupancy {
  const occupancy = withPins(fleet);
  const open = openServices(occupancy);
  const critical = open.filter((service) => service.critical).sort((a, b) => b.priority - a.priority);
  for (const service of critical) placeOn(occupancy, service, service.options, fastest, 'gpu');
  for (const service of open.filter((each) => !each.critical)) {
    const rest = service.options.filter((gpu) => occupancy.criticalCount(gpu) === 0);
    const fitsBeside = service.options.some((gpu) => fitsOn(occupancy, service, gpu));
    const fitsApart = rest.some((gpu) => fitsOn(occupancy, service, gpu));
    const isApart = fitsApart || (!fitsBeside && rest.some((gpu) => occupancy.with(service, gpu) !== null));
    placeOn(occupancy, service, isApart ? rest : service.options, mostFree);
  }
  return occupancy;
}
