import type { Fleet } from '../fleet.js';
import type { Occupancy } from '../occupancy.js';
import { mostFree, openServices, placeOn, withPins } from './filling.js';

/** Largest service first, each to the GPU with the most free memory. */
export function vramBased(fleet: Fleet): Occupancy {
  const occupancy = withPins(fleet);
  for (const service of openServices(occupancy)) placeOn(occupancy, service, service.options, mostFree);
  return occupancy;
}
