import type { FleetService } from '../fleet.js';
import { type Occupancy, onCpu } from '../occupancy.js';

/** Services that change their place in one shake, as a part of all, and at least so many. */
const shakenPart = 0.12;
const leastShaken = 3;

/**
 * A copy in which some services have gone elsewhere, wherever the hardware lets them: where a search by single moves and
 * swaps is stuck, it begins anew near by. Which ones is drawn from `seed`, so that the same seed gives the same copy.
 */
export function shake(occupancy: Occupancy, seed: number): Occupancy {
  const shaken = occupancy.copy();
  const next = pseudoRandom(seed);
  const movable = shaken.fleet.services.filter(({ isPinned, options }) => !isPinned && options.length > 1);
  const moves = Math.min(movable.length, Math.max(leastShaken, Math.round(movable.length * shakenPart)));
  for (let i = 0; i < moves; i++) move(shaken, movable[Math.floor(next() * movable.length)]!, next);
  return shaken;
}

function move(occupancy: Occupancy, service: FleetService, next: () => number): void {
  const from = occupancy.placeOf(service);
  const before = from >= 0 ? occupancy.loadOf(from) : undefined;
  if (from !== onCpu && from < 0) return;
  occupancy.take(service);
  const to = service.options[Math.floor(next() * service.options.length)]!;
  const load = occupancy.with(service, to);
  if (load !== null) occupancy.put(service, to, load);
  else if (from >= 0) occupancy.put(service, from, before!);
  else occupancy.settle(service, onCpu);
}

/** Numbers in [0, 1) by a linear congruential generator (Numerical Recipes, `ranqd1`), enough to pick services by. */
function pseudoRandom(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
