import type { Fleet, FleetService } from '../fleet.js';
import type { Occupancy } from '../occupancy.js';
import { compareScores, type Score } from '../score.js';
import { pseudoRandom } from './pseudo-random.js';
import { type FleetPart, partOf, placedIn, replace } from './smaller-fleet.js';

/**
 * A large fleet, a few GPUs at a time: what is on them is taken off and placed anew among them as well as can be, by the
 * exact search, which takes milliseconds for a dozen services (large neighbourhood search; Shaw 1998). Where single moves and
 * swaps are stuck, three to six GPUs that give each other several services often are not.
 *
 * Chance is drawn from `seed`: the same seed gives the same placement, unless `shouldStop` ended it.
 */
export type RepackOptions = {
  readonly seed: number;
  readonly shouldStop: () => boolean;
  /**
   * A placement of a small fleet that is no worse than this one.
   *
   * @param fullElsewhere use of the fullest of the other GPUs: nobody asks for less on these
   */
  readonly solve: (from: Occupancy, fullElsewhere: number) => Occupancy;
};

/** GPUs that are taken together. */
const fewest = 3;
const most = 6;
/** More services than these are not placed anew in a moment: such a set is passed over. */
const mostServices = 40;
/** Ends after so many sets without a gain, for each GPU of the fleet. */
const patience = 20;

/** Changes the placement in place, for the better only. */
export function repack(occupancy: Occupancy, { seed, shouldStop, solve }: RepackOptions): void {
  const { fleet } = occupancy;
  const next = pseudoRandom(seed);
  const draw = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!;
  const options = optionsWith(fleet);
  for (let stale = 0; stale < patience * fleet.gpus.length && !shouldStop(); stale++) {
    const first = draw(fleet.gpus).at;
    const size = fewest + Math.floor(next() * (most - fewest + 1));
    const chosen = new Set([first]);
    const lists = options[first]!;
    // The same may be drawn again: then they are fewer.
    for (let k = 1; k < size && lists.length > 0; k++) chosen.add(draw(draw(lists)));
    const part = partOn(occupancy, chosen);
    if (chosen.size < 2 || part.services.length === 0 || part.services.length > mostServices) continue;
    const before = placedIn(part, occupancy);
    const fullElsewhere = fullestBut(occupancy, chosen);
    if (!mayGain(before.score(), fullElsewhere)) continue;
    const after = solve(before, fullElsewhere);
    if (compareScores(after.score(), before.score()) >= 0) continue;
    replace(occupancy, part, after);
    stale = 0;
  }
}

/** For each GPU, the lists of GPUs that services may take of which it is one. */
function optionsWith({ gpus, services }: Fleet): readonly (readonly (readonly number[])[])[] {
  const lists = gpus.map((): (readonly number[])[] => []);
  for (const options of new Set(services.map((service) => service.options))) {
    for (const gpu of options) lists[gpu]!.push(options);
  }
  return lists;
}

/** The chosen GPUs and who is on them, free to be on any of them that he may take. */
function partOn(occupancy: Occupancy, chosen: ReadonlySet<number>): FleetPart {
  const { fleet } = occupancy;
  const narrow = new Map<readonly number[], readonly number[]>();
  const services = fleet.services
    .filter((service) => chosen.has(occupancy.placeOf(service)))
    .map((service): FleetService => {
      const options = narrow.get(service.options) ?? service.options.filter((gpu) => chosen.has(gpu));
      narrow.set(service.options, options);
      return { ...service, options };
    });
  return partOf(
    fleet,
    [...chosen].sort((a, b) => a - b),
    services,
  );
}

/** Refusals are no part of it: who is refused is on no GPU. */
function mayGain({ overMb, shrunkMb, slowness, use }: Score, fullElsewhere: number): boolean {
  return overMb > 0 || shrunkMb > 0 || slowness > 0 || use > fullElsewhere;
}

function fullestBut(occupancy: Occupancy, chosen: ReadonlySet<number>): number {
  let fullest = 0;
  for (const { at } of occupancy.fleet.gpus) {
    if (!chosen.has(at)) fullest = Math.max(fullest, occupancy.relativeUse(at));
  }
  return fullest;
}
