import type { Fleet, FleetService } from '../fleet.js';
import type { Occupancy } from '../occupancy.js';
import { mostFree, openServices, placeOn, withPins } from './filling.js';

/**
 * The LLM alone on the largest GPU, everything else shares what remains.
 *
 * Of several LLMs the first in priority, then in size, chooses first; the next takes the largest GPU that is then empty,
 * as long as the services that remain keep one to run on. A GPU that is an LLM's own is opened to others only where they
 * would have no GPU at all.
 */
export function isolationFirst(fleet: Fleet): Occupancy {
  const occupancy = withPins(fleet);
  const owned = new Set(
    fleet.gpus
      .filter(({ at }) => occupancy.count(at) === 1 && occupancy.servicesOn(at)[0]!.service.kind === 'llm')
      .map(({ at }) => at),
  );
  const open = openServices(occupancy);
  const llms = open
    .filter(({ service }) => service.kind === 'llm')
    .sort((a, b) => b.priority - a.priority || b.memoryMb - a.memoryMb || a.at - b.at);
  const rest = new Set(open);
  for (const llm of llms) {
    rest.delete(llm);
    const empty = llm.options
      .filter((gpu) => occupancy.count(gpu) === 0)
      .sort((a, b) => fleet.gpus[b]!.memoryMb - fleet.gpus[a]!.memoryMb || a - b);
    const own = empty.find((gpu) => leavesRoom(rest, new Set([...owned, gpu])));
    if (own === undefined || occupancy.with(llm, own) === null) {
      rest.add(llm);
      continue;
    }
    owned.add(own);
    placeOn(occupancy, llm, [own], mostFree, 'gpu');
  }
  for (const service of open.filter((each) => rest.has(each))) {
    const shared = service.options.filter((gpu) => !owned.has(gpu) && occupancy.with(service, gpu) !== null);
    placeOn(occupancy, service, shared.length === 0 && !service.mayUseCpu ? service.options : shared, mostFree);
  }
  return occupancy;
}

/** Has everybody who has a GPU now still one, if these are taken? */
function leavesRoom(services: ReadonlySet<FleetService>, taken: ReadonlySet<number>): boolean {
  return [...services].every(
    ({ options, mayUseCpu }) => mayUseCpu || options.length === 0 || options.some((gpu) => !taken.has(gpu)),
  );
}
