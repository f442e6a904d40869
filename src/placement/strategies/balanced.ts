import type { Fleet } from '../fleet.js';
import { type ImproveLimits, improve, type Judge } from '../improve.js';
import type { Occupancy } from '../occupancy.js';
import { leastRelativeUse, openServices, placeOn, withPins } from './filling.js';

/**
 * Bin-packing for the smallest variance of relative memory use: largest first to the GPU that is least used with it, then
 * moves and swaps as long as they make the variance smaller, and never more overcommitted, shrunk or refused.
 */
export function balanced(fleet: Fleet, { shouldStop }: ImproveLimits = {}): Occupancy {
  const occupancy = withPins(fleet);
  for (const service of openServices(occupancy)) placeOn(occupancy, service, service.options, leastRelativeUse);
  // An empty GPU is the evenest: without this, whoever may use the CPU would be sent there.
  improve(occupancy, variance, { mayLeaveGpu: false, shouldStop });
  return occupancy;
}

/** n² · variance of relative use: sums that change with one GPU at a time. */
const variance: Judge = {
  measure: (occupancy, gpu, load) => {
    const use = occupancy.relativeUse(gpu, load);
    return [use, use * use];
  },
  value: ([sum = 0, squares = 0], gpus) => [gpus * squares - sum * sum],
};
