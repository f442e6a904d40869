import type { Fleet, FleetService } from '../fleet.js';

/**
 * The order in which the exact search decides on services, and sums over what is still to be decided at each depth.
 *
 * Pinned ones come first, since they have no choice; then critical ones, since their neighbours depend on them; then the
 * larger, since they fit in fewest places. Alike services stand side by side.
 */
export type SearchOrder = {
  readonly services: readonly FleetService[];
  /** Is this service like the one before it, so that exchanging the two changes nothing? */
  readonly isTwin: readonly boolean[];
  /** Critical services that are still to be decided, at each depth (one more than there are services). */
  readonly criticalLeft: Int32Array;
  /** Where services that are neither pinned nor critical begin; from there on they come in descending size. */
  readonly firstOther: number;
  /** Sets of GPUs; a service whose options lie within one cannot leave it. The first is all of them. */
  readonly regions: readonly Region[];
  /** What services to come exceed every GPU by that they may take, wherever they go, at each depth [MiB]. */
  readonly sureExcess: { readonly askedMb: Float64Array; readonly minMb: Float64Array };
};

export type Region = {
  readonly gpus: readonly number[];
  /** Σ over the services to come that cannot leave the region, at each depth, each at most as large as its largest GPU [MiB]. */
  readonly askedMb: Float64Array;
  readonly minMb: Float64Array;
  /** Services to come that cannot leave it, at each depth. */
  readonly count: Int32Array;
  /** What those that cannot leave it exceed its memory by at least, all of them together [MiB]. */
  readonly beyondMb: number;
  /** They ask for more than it has, so that anybody else there would add to what is exceeded. */
  readonly isOverfull: boolean;
  /** Of those that are neither pinned nor critical: sizes, largest first, with their sums before each [MiB]. */
  readonly others: OtherServices;
};

export type OtherServices = {
  /** Σ of the first so many [MiB]. */
  readonly askedMb: Float64Array;
  /** Σ of the least of the first so many [MiB]. */
  readonly minMb: Float64Array;
  /** How many of them are decided at each depth. */
  readonly decided: Int32Array;
};

/** Regions that are looked at in every bound: those that hold most. */
const mostRegions = 8;

/**
 * Whether it is to be proven who must be refused: then those come first whom rules leave the fewest places, since memory
 * is not what decides.
 */
export type OrderFor = 'refusals' | 'objective';

export function searchOrderOf(fleet: Fleet, open: readonly FleetService[], orderFor: OrderFor): SearchOrder {
  const services = [...open].sort((a, b) => {
    const isRulesFirst = orderFor === 'refusals';
    return (
      Number(b.isPinned) - Number(a.isPinned) ||
      (isRulesFirst ? placesLeft(a) - placesLeft(b) : Number(b.critical) - Number(a.critical)) ||
      b.memoryMb - a.memoryMb ||
      b.minMb - a.minMb ||
      b.priority - a.priority ||
      a.options.length - b.options.length ||
      a.at - b.at
    );
  });
  const lastCritical = services.findLastIndex(({ critical, isPinned }) => critical || isPinned);
  const criticalLeft = new Int32Array(services.length + 1);
  for (let i = services.length - 1; i >= 0; i--) {
    criticalLeft[i] = criticalLeft[i + 1]! + Number(services[i]!.critical);
  }
  return {
    services,
    isTwin: services.map((service, i) => i > 0 && areTwins(service, services[i - 1]!)),
    criticalLeft,
    firstOther: lastCritical + 1,
    regions: regionsOf(fleet, services),
    sureExcess: {
      askedMb: sureExcessOf(fleet, services, ({ memoryMb }) => memoryMb),
      minMb: sureExcessOf(fleet, services, ({ minMb }) => minMb),
    },
  };
}

/** The most that is free on a GPU that a service may take; reckoned once for each list of them. */
function widestOf({ gpus }: Fleet): (service: FleetService) => number {
  const known = new Map<readonly number[], number>();
  return ({ options }) => {
    const most = known.get(options) ?? options.reduce((wide, gpu) => Math.max(wide, gpus[gpu]!.freeMb), 0);
    known.set(options, most);
    return most;
  };
}

function sureExcessOf(
  fleet: Fleet,
  services: readonly FleetService[],
  sizeOf: (service: FleetService) => number,
): Float64Array {
  const widest = widestOf(fleet);
  const excess = new Float64Array(services.length + 1);
  for (let i = services.length - 1; i >= 0; i--) {
    const service = services[i]!;
    const own = service.mayUseCpu ? 0 : Math.max(0, sizeOf(service) - widest(service));
    excess[i] = excess[i + 1]! + own;
  }
  return excess;
}

/** A rank: who needs a GPU alone, then who needs a part of one, then who has few to choose from, then all others. */
function placesLeft({ dedicated, computeShare, options, mayUseCpu }: FleetService): number {
  if (mayUseCpu) return Number.MAX_SAFE_INTEGER;
  return (dedicated ? 0 : computeShare > 0 ? 1e6 : 2e6) + options.length;
}

function areTwins(a: FleetService, b: FleetService): boolean {
  return (
    a.memoryMb === b.memoryMb &&
    a.minMb === b.minMb &&
    a.priority === b.priority &&
    a.critical === b.critical &&
    a.dedicated === b.dedicated &&
    a.computeShare === b.computeShare &&
    a.mayUseCpu === b.mayUseCpu &&
    a.isPinned === b.isPinned &&
    a.options === b.options
  );
}

function regionsOf(fleet: Fleet, services: readonly FleetService[]): readonly Region[] {
  const everywhere = fleet.gpus.map(({ at }) => at);
  const asked = new Map<readonly number[], number>();
  for (const { options, isPinned, memoryMb } of services) {
    if (!isPinned && options.length < everywhere.length) asked.set(options, (asked.get(options) ?? 0) + memoryMb);
  }
  const largest = [...asked].sort(([, a], [, b]) => b - a).slice(0, mostRegions - 1);
  const widest = widestOf(fleet);
  return [everywhere, ...largest.map(([gpus]) => gpus)].map((gpus): Region => {
    const inside = new Set(gpus);
    const askedMb = new Float64Array(services.length + 1);
    const minMb = new Float64Array(services.length + 1);
    const count = new Int32Array(services.length + 1);
    const isWithin = new Map<readonly number[], boolean>();
    const staying = services.map(({ mayUseCpu, options }) => {
      const known = isWithin.get(options) ?? options.every((gpu) => inside.has(gpu));
      isWithin.set(options, known);
      return known && !mayUseCpu;
    });
    for (let i = services.length - 1; i >= 0; i--) {
      const service = services[i]!;
      const stays = staying[i]!;
      const mostMb = widest(service);
      askedMb[i] = askedMb[i + 1]! + (stays ? Math.min(mostMb, service.memoryMb) : 0);
      minMb[i] = minMb[i + 1]! + (stays ? Math.min(mostMb, service.minMb) : 0);
      count[i] = count[i + 1]! + Number(stays);
    }
    const freeMb = gpus.reduce((sum, gpu) => sum + Math.max(0, fleet.gpus[gpu]!.freeMb), 0);
    const surelyMb = services.reduce(
      (sum, service, i) => sum + (staying[i]! ? Math.max(0, service.minMb - widest(service)) : 0),
      0,
    );
    const beyondMb = surelyMb + Math.max(0, minMb[0]! - freeMb);
    return {
      gpus,
      askedMb,
      minMb,
      count,
      beyondMb,
      isOverfull: minMb[0]! >= freeMb,
      others: othersOf(services, staying),
    };
  });
}

function othersOf(services: readonly FleetService[], staying: readonly boolean[]): OtherServices {
  const askedMb = [0];
  const minMb = [0];
  const decided = new Int32Array(services.length + 1);
  services.forEach((service, i) => {
    const counts = staying[i]! && !service.isPinned && !service.critical;
    if (counts) {
      askedMb.push(askedMb.at(-1)! + service.memoryMb);
      minMb.push(minMb.at(-1)! + service.minMb);
    }
    decided[i + 1] = askedMb.length - 1;
  });
  return { askedMb: Float64Array.from(askedMb), minMb: Float64Array.from(minMb), decided };
}
