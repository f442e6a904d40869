import type { Fleet, FleetService } from '../fleet.js';
import { isRefused, Occupancy, onCpu } from '../occupancy.js';

/** The same fleet where services may go to fewer GPUs. Numbers of services and GPUs stay. */
export function narrowed(fleet: Fleet, mayGo: (service: FleetService, gpu: number) => boolean): Fleet {
  const lists = new Map<string, Pick<FleetService, 'options' | 'takes'>>();
  const services = fleet.services.map((service): FleetService => {
    const options = service.options.filter((gpu) => mayGo(service, gpu));
    if (options.length === service.options.length) return service;
    const key = options.join();
    const known = lists.get(key) ?? { options, takes: takesOf(options, fleet.gpus.length) };
    lists.set(key, known);
    return { ...service, ...known };
  });
  return { ...fleet, services };
}

function takesOf(options: readonly number[], gpus: number): Uint8Array {
  const takes = new Uint8Array(gpus);
  for (const gpu of options) takes[gpu] = 1;
  return takes;
}

/** A part of a fleet that no service can leave: it can be placed on its own. */
export type FleetPart = {
  readonly fleet: Fleet;
  /** Its GPUs and services by their numbers in the whole. */
  readonly gpus: readonly number[];
  readonly services: readonly number[];
};

/**
 * The parts of a fleet that have no GPU that the same service could take, the smallest first.
 *
 * Refusals, what is exceeded, what is shrunk and slowness are sums over GPUs and services, and the fullest GPU is the
 * fullest of a part: what is least in each part is least in all. GPUs that nobody can take, and services that can take
 * none, belong to the first.
 */
export function partsOf(fleet: Fleet): readonly FleetPart[] {
  const root = Array.from(fleet.gpus, ({ at }) => at);
  const find = (gpu: number): number => {
    let at = gpu;
    while (root[at] !== at) at = root[at]!;
    root[gpu] = at;
    return at;
  };
  const isTaken = new Uint8Array(fleet.gpus.length);
  for (const options of new Set(fleet.services.map((service) => service.options))) {
    for (const gpu of options) {
      isTaken[gpu] = 1;
      root[find(gpu)] = find(options[0]!);
    }
  }
  const gpusOf = new Map<number, number[]>();
  for (const { at } of fleet.gpus) {
    if (isTaken[at] === 1) gpusOf.set(find(at), [...(gpusOf.get(find(at)) ?? []), at]);
  }
  const sets = [...gpusOf.values()].sort((a, b) => a.length - b.length || a[0]! - b[0]!);
  if (sets.length < 2)
    return [{ fleet, gpus: fleet.gpus.map(({ at }) => at), services: fleet.services.map(({ at }) => at) }];
  const idle = fleet.gpus.filter(({ at }) => isTaken[at] === 0).map(({ at }) => at);
  return sets.map((own, i) => {
    const gpus = i === 0 ? [...own, ...idle].sort((a, b) => a - b) : own;
    const inside = new Set(own);
    const services = fleet.services.filter(({ options }) => (options.length === 0 ? i === 0 : inside.has(options[0]!)));
    return partOf(fleet, gpus, services);
  });
}

/** These GPUs and services on their own, numbered anew; the options of the services lie among the GPUs. */
export function partOf(fleet: Fleet, gpus: readonly number[], services: readonly FleetService[]): FleetPart {
  return { fleet: fleetWith(fleet, gpus, services), gpus, services: services.map(({ at }) => at) };
}

function fleetWith(fleet: Fleet, gpus: readonly number[], services: readonly FleetService[]): Fleet {
  const numberOf = new Map(gpus.map((gpu, i) => [gpu, i]));
  const lists = new Map<readonly number[], Pick<FleetService, 'options' | 'takes'>>();
  return {
    ...fleet,
    gpus: gpus.map((gpu, at) => ({ ...fleet.gpus[gpu]!, at })),
    services: services.map((service, at) => {
      const known = lists.get(service.options);
      if (known !== undefined) return { ...service, ...known, at };
      const options = service.options.map((gpu) => numberOf.get(gpu)!);
      const own = { options, takes: takesOf(options, gpus.length) };
      lists.set(service.options, own);
      return { ...service, ...own, at };
    }),
  };
}

/** What of a placement of the whole lies in a part. */
export function placedIn(part: FleetPart, whole: Occupancy): Occupancy {
  const occupancy = new Occupancy(part.fleet);
  part.gpus.forEach((gpu, at) => {
    const here = whole.servicesOn(gpu).map((service) => part.fleet.services[part.services.indexOf(service.at)]!);
    for (const service of here) occupancy.put(service, at, whole.loadOf(gpu));
  });
  part.services.forEach((service, at) => {
    const place = whole.placeOf(whole.fleet.services[service]!);
    if (place < 0) occupancy.settle(part.fleet.services[at]!, place === isRefused ? isRefused : onCpu);
  });
  return occupancy;
}

/** The placement of the whole whose parts are these. */
export function joined(fleet: Fleet, parts: readonly (readonly [FleetPart, Occupancy])[]): Occupancy {
  const whole = new Occupancy(fleet);
  for (const [part, occupancy] of parts) putIn(whole, part, occupancy);
  return whole;
}

/** Puts the services of a part, which are nowhere, where they are in a placement of the part. */
function putIn(whole: Occupancy, part: FleetPart, occupancy: Occupancy): void {
  const { services } = whole.fleet;
  part.gpus.forEach((gpu, at) => {
    for (const service of occupancy.servicesOn(at)) {
      whole.put(services[part.services[service.at]!]!, gpu, occupancy.loadOf(at));
    }
  });
  part.services.forEach((service, at) => {
    const place = occupancy.placeOf(occupancy.fleet.services[at]!);
    if (place < 0) whole.settle(services[service]!, place === isRefused ? isRefused : onCpu);
  });
}

/** Places the services of a part anew: where they are in a placement of the part. */
export function replace(whole: Occupancy, part: FleetPart, occupancy: Occupancy): void {
  for (const service of part.services) whole.take(whole.fleet.services[service]!);
  putIn(whole, part, occupancy);
}
