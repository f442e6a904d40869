import type { Fleet, FleetService } from '../fleet.js';
import { isRefused, type Load, type Occupancy, onCpu } from '../occupancy.js';
import { compareScores, type Score } from '../score.js';
import type { Bounds, Known } from './bounds.js';
import type { SearchOrder } from './search-order.js';

/** GPUs times services that are looked at between two looks at `shouldStop`: a few milliseconds. */
const looksEvery = 60_000;

/** Where a search begins, in which order services are decided, and the bounds of that order. */
export type SearchTools = {
  /** Nobody is in it but who can be nowhere; it is left as it was. */
  readonly start: Occupancy;
  readonly order: SearchOrder;
  readonly bounds: Bounds;
};

export type SearchLimits = { readonly shouldStop: () => boolean; readonly nodeLimit: number };

/**
 * Depth-first branch and bound over one service after the other.
 *
 * It looks for a placement that is better than the best known in the first `count` components, and prunes what cannot be;
 * where it ends, the best known is the least there is in these. So components are proven one after the other, each with
 * the bounds that the ones before allow.
 */
export class Search {
  readonly #limits: SearchLimits;
  readonly #nodesBetweenLooks: number;
  #occupancy: Occupancy;
  /** GPUs that are alike while nobody is on them have one number. */
  readonly #kinds: readonly number[];
  #tools: SearchTools | null = null;
  #best: Occupancy;
  #bestScore: Score;
  #count = 0;
  #known: Known = { refused: 0, overMb: null, shrunkMb: null, slowness: null, expectedSlowness: 0, expectedUse: 0 };
  #isStopped = false;
  nodes = 0;

  /** @param best a placement of the fleet that every search of this one begins with empty */
  constructor(best: Occupancy, limits: SearchLimits) {
    this.#occupancy = best;
    this.#best = best;
    this.#bestScore = best.score();
    this.#limits = limits;
    const { gpus, services } = best.fleet;
    this.#nodesBetweenLooks = Math.max(1, Math.floor(looksEvery / Math.max(1, gpus.length * services.length)));
    this.#kinds = kindsOf(best.fleet);
  }

  get best(): Occupancy {
    return this.#best;
  }

  /** Goes on from a better placement that somebody else found. */
  offer(occupancy: Occupancy): void {
    const score = occupancy.score();
    if (compareScores(score, this.#bestScore) >= 0) return;
    this.#best = occupancy;
    this.#bestScore = score;
  }

  /**
   * Proves the first `count` components of the best placement, which it may replace by a better one.
   *
   * @param known the components before, which are proven
   * @returns whether they are proven; false where a limit ended the search
   */
  prove(count: number, known: Known, tools: SearchTools): boolean {
    this.#tools = tools;
    this.#occupancy = tools.start;
    this.#count = count;
    this.#known = known;
    this.#isStopped = false;
    this.#descend(0);
    return !this.#isStopped;
  }

  #descend(depth: number): void {
    this.nodes += 1;
    if (
      this.nodes >= this.#limits.nodeLimit ||
      (this.nodes % this.#nodesBetweenLooks === 0 && this.#limits.shouldStop())
    ) {
      this.#isStopped = true;
      return;
    }
    const { services, isTwin } = this.#tools!.order;
    const occupancy = this.#occupancy;
    if (depth === services.length) {
      const score = occupancy.score();
      // Pruned unless better in what is being proven; at a leaf the rest decides too.
      if (compareScores(score, this.#bestScore) < 0) {
        this.#best = occupancy.copy();
        this.#bestScore = score;
      }
      return;
    }
    const service = services[depth]!;
    const least = isTwin[depth] ? rank(occupancy.placeOf(services[depth - 1]!)) : 0;
    for (const { gpu, load } of this.#childrenOf(service, least)) {
      if (load === null) {
        occupancy.settle(service, onCpu);
        this.#visit(depth + 1);
        occupancy.take(service);
      } else {
        const before = occupancy.loadOf(gpu);
        occupancy.put(service, gpu, load);
        this.#visit(depth + 1);
        occupancy.take(service, before);
      }
      if (this.#isStopped) return;
    }
    occupancy.settle(service, isRefused);
    this.#visit(depth + 1);
    occupancy.take(service);
  }

  #visit(depth: number): void {
    const question = { known: this.#known, count: this.#count, least: this.#bestScore };
    const bound = this.#tools!.bounds.at(this.#occupancy, depth, question);
    if (compareScores(bound, this.#bestScore, this.#count) < 0) this.#descend(depth);
  }

  /**
   * Where a service may go, the most promising first: what costs least in the components, then the least used GPU.
   *
   * @param least rank of its twin's place: lower ones are the same with the two exchanged
   */
  #childrenOf(service: FleetService, least: number): readonly Child[] {
    const occupancy = this.#occupancy;
    const { gpus } = occupancy.fleet;
    const seen = new Set<number>();
    const children: Child[] = [];
    for (const gpu of service.options) {
      if (occupancy.count(gpu) === 0) {
        if (seen.has(this.#kinds[gpu]!)) continue;
        seen.add(this.#kinds[gpu]!);
      }
      const load = occupancy.with(service, gpu);
      if (load === null) continue;
      const before = occupancy.loadOf(gpu);
      const critical = occupancy.criticalCount(gpu);
      const more = service.critical ? critical + occupancy.count(gpu) + 1 : critical;
      children.push({
        gpu,
        load,
        overMb: load.overMb - before.overMb,
        shrunkMb: load.shrunkMb - before.shrunkMb,
        slowness: more / gpus[gpu]!.speed,
        use: occupancy.relativeUse(gpu, load),
      });
    }
    children.sort(
      (a, b) =>
        a.overMb - b.overMb || a.shrunkMb - b.shrunkMb || a.slowness - b.slowness || a.use - b.use || a.gpu - b.gpu,
    );
    // Who needs no part of a GPU for itself closes none to others: where one is open to him, he need not be elsewhere,
    // and of that one place it does not matter where his twin is.
    if (this.#count === 1 && !occupancy.fleet.refusesOvercommit && !service.dedicated && service.computeShare === 0) {
      const shared = children.find(({ gpu }) => !gpus[gpu]!.takesOne && gpus[gpu]!.cut === null);
      if (shared !== undefined) return [shared];
    }
    if (service.mayUseCpu) {
      children.push({ gpu: onCpu, load: null, overMb: 0, shrunkMb: 0, slowness: 0, use: 0 });
    }
    return least === 0 ? children : children.filter(({ gpu }) => rank(gpu) >= least);
  }
}

type Child = {
  readonly gpu: number;
  /** Null on the CPU. */
  readonly load: Load | null;
  readonly overMb: number;
  readonly shrunkMb: number;
  readonly slowness: number;
  readonly use: number;
};

/** Twins go to places of ascending rank: GPUs by number, then the CPU, then nowhere. */
function rank(place: number): number {
  if (place === onCpu) return Number.MAX_SAFE_INTEGER - 1;
  return place === isRefused ? Number.MAX_SAFE_INTEGER : place;
}

function kindsOf(fleet: Fleet): readonly number[] {
  const kinds = new Map<string, number>();
  return fleet.gpus.map(({ at, memoryMb, usedMb, speed, takesOne, cut, gpu }) => {
    const takers = fleet.services.map(({ takes }) => takes[at]).join('');
    const parts = cut === null ? '' : JSON.stringify([gpu.name, gpu.migInstances]);
    const key = [memoryMb, usedMb, speed, takesOne, parts, takers].join('|');
    const kind = kinds.get(key) ?? kinds.size;
    kinds.set(key, kind);
    return kind;
  });
}
