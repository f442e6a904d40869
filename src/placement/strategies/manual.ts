import type { Fleet } from '../fleet.js';
import { isRefused, type Occupancy } from '../occupancy.js';
import { openServices, withPins } from './filling.js';

/** What is pinned goes where it is pinned; everything else is reported, not placed. */
export function manual(fleet: Fleet): Occupancy {
  const occupancy = withPins(fleet);
  for (const service of openServices(occupancy)) occupancy.settle(service, isRefused);
  return occupancy;
}
