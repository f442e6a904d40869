import { blockTokens } from '../../core/gpu-memory.js';
import type { BacktestRequest, FleetDeployment, FleetSettings, RequestObjective } from './backtest.js';
import { chanceOf, normalFrom } from './chance.js';
import {
  attainingMs,
  countDemand,
  type DemandClasses,
  type SlotGrid,
  type SpanDemand,
  slotGrid,
  slotLengths,
  workWindow,
} from './oracle-demand.js';
import {
  ascend,
  type ClassWork,
  DualEvaluator,
  flatPotentials,
  type PriceSearch,
  pricesOf,
  type SlotPrices,
} from './oracle-prices.js';
import { SaddleSearch, saddleStartups } from './oracle-saddle.js';
import { WindowMinimum } from './window-minimum.js';
import { decodeFloorMs, prefillFloorMs, type WorkFloor, type WorkTotals, workFloorOf } from './work-floor.js';

/**
 * The least that any policy must spend to attain so much: proven, for policies that know the future too.
 *
 * What it knows and what it need not pay for is in docs/backtest.md, with the proof. In short: no request takes a
 * replica less time than its floor (`work-floor.ts`); if it attains, that time lies between its arrival and its latest
 * allowed end; replicas are billed from their start and serve nothing for their start-up time. Prices on the replica-time of
 * slots at which no replica earns more than it costs turn that into money (`oracle-prices.ts`), request by request.
 */

export type OracleOptions = {
  readonly settings: Pick<FleetSettings, 'deployments' | 'objective' | 'seed' | 'scoredFromMs' | 'endMs'>;
  /** All that arrive in the scored span; others are left out. A function is called for each of the two passes. */
  readonly requests: RequestSource;
  /** Shares of the requests that may miss, 0..1. */
  readonly missAllowance: readonly number[];
  /** Shorter slots see shorter bursts and take longer. By default 10 s, and more for spans over a day. */
  readonly slotSeconds?: number;
};

type RequestStream = AsyncIterable<BacktestRequest> | Iterable<BacktestRequest>;
export type RequestSource = readonly BacktestRequest[] | (() => RequestStream);

export type OraclePoint = { readonly attainment: number; readonly usd: number };

export type OracleBound = {
  /** By attainment, ascending: attaining so much costs at least so much. Without those that nothing can attain. */
  readonly points: readonly OraclePoint[];
  /** The same for any other attainment 0..1; Infinity where nothing attains so much. */
  readonly usdAt: (attainment: number) => number;
  readonly requests: number;
  /** Requests that attain on no deployment, however idle. */
  readonly hopelessRequests: number;
  readonly slotSeconds: number;
  readonly deployments: readonly OracleDeployment[];
  /** Sentences: what it knows, and what it need not pay for. */
  readonly assumptions: readonly string[];
};

export type OracleDeployment = {
  readonly id: string;
  readonly floor: WorkFloor;
  /** No start was taken to be shorter [s]. */
  readonly startupSeconds: number;
};

/** Bursts of about the time that a first token may take; shorter ones are evened out in a replica's queue. */
const defaultSlotSeconds = 10;
/** Slots of a default: a day of 10 s. */
const defaultSlots = 8640;
/** Allowances that get prices of their own; others take the best of those. */
const maxSearches = 4;
/** Of the search for a saddle point, the first time and from the one before. */
const firstRounds = 800;
const furtherRounds = 160;
/** Of the ascent after it, in which each deployment has prices of its own. */
const ascentRounds = 20;
/** Times that floors are fitted again to what each deployment serves. */
const floorRounds = 2;
/** Rounding of sums is far below this share. */
const roundingShare = 1e-9;
/** Starts of one deployment in one run among which the shortest is looked for. */
const startsLookedAt = 10_000;

/**
 * Bounds the cost of a scored span from below.
 *
 * @throws RangeError for shares outside of 0..1, a slot that is not > 0, and step times that have no floor
 */
export async function oracleBound(options: OracleOptions): Promise<OracleBound> {
  const { settings, requests, missAllowance } = options;
  const { scoredFromMs, endMs, objective } = settings;
  for (const share of missAllowance) {
    if (!(share >= 0 && share <= 1)) throw new RangeError(`a miss allowance of ${share}, expected a share from 0 to 1`);
  }
  const spanSeconds = Math.max(0, endMs - scoredFromMs) / 1000;
  const slotSeconds = options.slotSeconds ?? Math.max(defaultSlotSeconds, spanSeconds / defaultSlots);
  if (!(slotSeconds > 0)) throw new RangeError(`slots of ${slotSeconds} s, expected more than 0`);
  const grid = slotGrid({ fromMs: scoredFromMs, endMs, slotMs: slotSeconds * 1000 });
  const open = typeof requests === 'function' ? requests : () => requests;
  const demand = await countDemand(open(), { grid, objective });
  const servers = settings.deployments.map((deployment) => serverOf(deployment, settings));
  const allowed = [...new Set(missAllowance.map((share) => missesOf(share, demand.requests)))].sort((a, b) => a - b);
  const search = fittedSearch(servers, { demand, objective });
  const priceSets = findPrices(search, allowed);
  const bills = priceSets.map((prices) => new BillHistogram(prices));
  let hopeless = 0;
  for await (const request of open()) {
    if (!(request.atMs >= grid.fromMs && request.atMs < grid.endMs)) continue;
    if (!countRequest(request, { servers: search.servers, bills, grid, objective })) hopeless++;
  }
  const lines = bills.flatMap((bill) => bill.lines());
  const usdAtMisses = (misses: number): number => {
    if (misses < hopeless) return Number.POSITIVE_INFINITY;
    const most = lines.reduce((usd, line) => Math.max(usd, line.usd - line.perMiss * misses), 0);
    return most * (1 - roundingShare);
  };
  const points = [...new Set(missAllowance)]
    .sort((a, b) => b - a)
    .map((share) => ({ attainment: 1 - share, usd: usdAtMisses(missesOf(share, demand.requests)) }))
    .filter(({ usd }) => Number.isFinite(usd));
  return {
    points,
    usdAt: (attainment) => usdAtMisses(missesOf(1 - attainment, demand.requests)),
    requests: demand.requests,
    hopelessRequests: hopeless,
    slotSeconds,
    deployments: search.servers.map(({ deployment, floor, startupMs }) => ({
      id: deployment.id,
      floor,
      startupSeconds: startupMs / 1000,
    })),
    assumptions: assumptionsOf(search.servers, { slotSeconds, hopeless, requests: demand.requests }),
  };
}

/** Whole requests; the little more keeps a share that was computed from a count at that count. */
function missesOf(share: number, requests: number): number {
  return Math.floor(share * requests + 1e-6);
}

/** A deployment as the bound sees it. */
type Server = {
  readonly deployment: FleetDeployment;
  readonly usdPerMs: number;
  readonly startupMs: number;
  /** Longest sequence that it takes, and tokens of its cache. */
  readonly maxTokens: number;
  readonly cacheTokens: number;
  /** Least time of a prompt alone on a replica. */
  readonly promptFloor: WorkFloor;
  /** Least time of a further token alone on a replica [ms]. */
  readonly tokenMs: number;
};

type FlooredServer = Server & { readonly floor: WorkFloor };

function serverOf(deployment: FleetDeployment, settings: Pick<FleetSettings, 'seed' | 'objective'>): Server {
  const { stepTimes, limits } = deployment.engine;
  const inputTokens = 4 * Math.min(limits.maxBatchedTokens, 8192);
  const step = { prefillTokens: 0, prefillAttention: 0, decodeSequences: 0, decodeContextTokens: 0 };
  return {
    deployment,
    usdPerMs: deployment.usdPerReplicaHour / 3.6e6,
    startupMs: leastStartupMs(deployment, settings.seed),
    maxTokens: limits.maxTokens,
    cacheTokens: Math.floor(stepTimes.kvCacheTokens / blockTokens) * blockTokens,
    promptFloor: workFloorOf(deployment.engine, { mix: mixOf(inputTokens, 1), objective: settings.objective }),
    tokenMs: Math.min(
      stepTimes.stepMs({ ...step, decodeSequences: 1 }),
      // A preempted sequence gets its next token of computing its prompt again.
      stepTimes.stepMs({ ...step, prefillTokens: 1 }),
    ),
  };
}

/** The shortest of the start-ups that a run of this seed draws, in either fidelity [ms]. */
function leastStartupMs({ id, startup }: FleetDeployment, seed: number): number {
  const { medianSeconds, spread } = startup;
  if (!(spread > 0)) return medianSeconds * 1000;
  let least = 0;
  for (let number = 1; number <= startsLookedAt; number++) {
    least = Math.min(least, normalFrom(chanceOf(seed, `${id} ${number}`)));
  }
  return medianSeconds * 1000 * Math.exp(spread * least);
}

function mixOf(inputTokens: number, outputTokens: number): WorkTotals {
  const decodeTokens = outputTokens - 1;
  return {
    decodeTokens,
    decodeContextTokens: decodeTokens * inputTokens + (decodeTokens * (decodeTokens + 1)) / 2,
    prefillTokens: inputTokens,
    prefillAttention: (inputTokens * inputTokens) / 2,
  };
}

/** Whether a request can attain on a replica that has nothing else to do. */
function canAttain(server: Server, request: BacktestRequest, objective: RequestObjective): boolean {
  const inputTokens = Math.max(1, request.inputTokens);
  const outputTokens = Math.max(1, request.outputTokens);
  if (inputTokens + outputTokens > server.maxTokens) return false;
  if (inputTokens + outputTokens - 1 > server.cacheTokens) return false;
  const { firstTokenMs } = attainingMs({ inputTokens, outputTokens }, objective);
  if (prefillFloorMs(server.promptFloor, inputTokens) > firstTokenMs * (1 + roundingShare)) return false;
  return outputTokens === 1 || server.tokenMs <= 1000 * objective.tpotSeconds * (1 + roundingShare);
}

type FittedSearch = PriceSearch & { readonly servers: readonly FlooredServer[]; readonly requests: number };

/**
 * Floors fitted to the work that each deployment would serve. At first that is the mean of all; then what it is the
 * cheapest one for at those floors. The fit that is worth most is taken.
 */
function fittedSearch(
  servers: readonly Server[],
  { demand, objective }: { readonly demand: SpanDemand; readonly objective: RequestObjective },
): FittedSearch {
  let best: FittedSearch | null = null;
  let bestUsd = Number.NEGATIVE_INFINITY;
  let mixes: readonly WorkTotals[] = servers.map(() => demand.totals);
  let floors: readonly (WorkFloor | null)[] = servers.map(() => null);
  for (let round = 0; round <= floorRounds; round++) {
    const floored = servers.map((server, d): FlooredServer => {
      const kept = mixes[d]!.prefillTokens > 0 ? null : floors[d]!;
      return { ...server, floor: kept ?? workFloorOf(server.deployment.engine, { mix: mixes[d]!, objective }) };
    });
    floors = floored.map(({ floor }) => floor);
    const fitted: FittedSearch = {
      servers: floored,
      requests: demand.requests,
      classes: demand.classes,
      work: floored.map((server) => classWork(server, demand.classes, objective)),
      deployments: floored,
      slotLengths: slotLengths(demand.grid),
    };
    const usd = new DualEvaluator(fitted).evaluate(pricesOf(flatPotentials(fitted), fitted), { misses: 0, near: 0 });
    if (usd > bestUsd) {
      best = fitted;
      bestUsd = usd;
    }
    mixes = servedMixes(fitted);
    if (servers.length === 1) break;
  }
  return best!;
}

function classWork(server: FlooredServer, classes: DemandClasses, objective: RequestObjective): ClassWork {
  const prefillMs = new Float64Array(classes.requests.length);
  const decodeMs = new Float64Array(classes.requests.length);
  for (let i = 0; i < prefillMs.length; i++) {
    const count = classes.requests[i]!;
    const inputTokens = classes.prefillTokens[i]! / count;
    const outputTokens = 1 + classes.decodeTokens[i]! / count;
    if (!canAttain(server, { atMs: 0, inputTokens, outputTokens }, objective)) {
      prefillMs[i] = Number.POSITIVE_INFINITY;
      decodeMs[i] = Number.POSITIVE_INFINITY;
      continue;
    }
    const { floor } = server;
    prefillMs[i] =
      floor.msPerPrefillToken * classes.prefillTokens[i]! + floor.msPerAttention * classes.prefillAttention[i]!;
    decodeMs[i] =
      floor.msPerDecodeToken * classes.decodeTokens[i]! + floor.msPerContextToken * classes.decodeContextTokens[i]!;
  }
  return { prefillMs, decodeMs };
}

/** The work of the classes for which each deployment is the cheapest one, at all times alike. */
function servedMixes({ classes, work, deployments }: PriceSearch): readonly WorkTotals[] {
  const mixes = deployments.map(() => ({
    decodeTokens: 0,
    decodeContextTokens: 0,
    prefillTokens: 0,
    prefillAttention: 0,
  }));
  for (let i = 0; i < classes.requests.length; i++) {
    let least = Number.POSITIVE_INFINITY;
    let chosen = -1;
    for (let d = 0; d < deployments.length; d++) {
      const cost = deployments[d]!.usdPerMs * (work[d]!.prefillMs[i]! + work[d]!.decodeMs[i]!);
      if (cost < least) {
        least = cost;
        chosen = d;
      }
    }
    const mix = mixes[chosen];
    if (mix === undefined) continue;
    mix.decodeTokens += classes.decodeTokens[i]!;
    mix.decodeContextTokens += classes.decodeContextTokens[i]!;
    mix.prefillTokens += classes.prefillTokens[i]!;
    mix.prefillAttention += classes.prefillAttention[i]!;
  }
  return mixes;
}

/** Prices for a few of the allowances, each found from those of the one before; and the flat ones. */
function findPrices(search: FittedSearch, allowed: readonly number[]): readonly SlotPrices[] {
  const sets: SlotPrices[] = [pricesOf(flatPotentials(search), search)];
  for (const startupMs of saddleStartups(search)) {
    const saddle = new SaddleSearch(search, startupMs);
    for (const [i, misses] of evenly(allowed, maxSearches).entries()) {
      const found = saddle.find({ misses, rounds: i === 0 ? firstRounds : furtherRounds });
      sets.push(pricesOf(ascend(search, { from: found, misses, rounds: ascentRounds }), search));
    }
  }
  return sets;
}

/** At most so many of a list, its ends among them. */
function evenly(values: readonly number[], most: number): readonly number[] {
  if (values.length <= most) return values;
  return Array.from({ length: most }, (_, i) => values[Math.round((i * (values.length - 1)) / (most - 1))]!);
}

/** What requests pay at one set of prices: how many pay how much, in bins of a hundredth. */
class BillHistogram {
  readonly minima: readonly WindowMinimum[];
  readonly #counts = new Float64Array(binCount);
  readonly #sums = new Float64Array(binCount);

  constructor(prices: SlotPrices) {
    this.minima = prices.map((values) => new WindowMinimum(values));
  }

  add(usd: number): void {
    if (!(usd > 0)) return;
    const bin = Math.min(binCount - 1, Math.max(0, Math.floor(Math.log(usd / leastBilledUsd) * binsPerLog)));
    this.#counts[bin] = this.#counts[bin]! + 1;
    this.#sums[bin] = this.#sums[bin]! + (usd === Number.POSITIVE_INFINITY ? 0 : usd);
  }

  /** Bounds that are straight in the misses: at a cost of a miss, all pay the smaller of it and their own. */
  lines(): readonly { readonly usd: number; readonly perMiss: number }[] {
    let above = this.#counts.reduce((sum, count) => sum + count, 0);
    let below = 0;
    const lines: { usd: number; perMiss: number }[] = [];
    for (let bin = 0; bin < binCount; bin++) {
      if (this.#counts[bin] === 0) continue;
      above -= this.#counts[bin]!;
      below += this.#sums[bin]!;
      const perMiss = leastBilledUsd * Math.exp((bin + 1) / binsPerLog);
      lines.push({ usd: below + perMiss * above, perMiss });
    }
    return lines;
  }
}

const leastBilledUsd = 1e-15;
const binsPerLog = 100;
const binCount = 6000;

/** Bills a request at all sets of prices; false where no deployment can make it attain. */
function countRequest(
  request: BacktestRequest,
  {
    servers,
    bills,
    grid,
    objective,
  }: {
    readonly servers: readonly FlooredServer[];
    readonly bills: readonly BillHistogram[];
    readonly grid: SlotGrid;
    readonly objective: RequestObjective;
  },
): boolean {
  const inputTokens = Math.max(1, request.inputTokens);
  const { first, prefillLast, decodeLast } = workWindow({ ...request, inputTokens }, { grid, objective });
  const least = new Float64Array(bills.length).fill(Number.POSITIVE_INFINITY);
  let served = false;
  for (const [d, server] of servers.entries()) {
    if (!canAttain(server, request, objective)) continue;
    served = true;
    const prefillMs = prefillFloorMs(server.floor, inputTokens);
    const decodeMs = decodeFloorMs(server.floor, inputTokens, request.outputTokens);
    for (const [k, bill] of bills.entries()) {
      const minimum = bill.minima[d]!;
      const usd = prefillMs * minimum.of(first, prefillLast) + decodeMs * minimum.of(first, decodeLast);
      if (usd < least[k]!) least[k] = usd;
    }
  }
  for (const [k, bill] of bills.entries()) bill.add(least[k]!);
  return served;
}

function assumptionsOf(
  servers: readonly FlooredServer[],
  facts: { readonly slotSeconds: number; readonly hopeless: number; readonly requests: number },
): readonly string[] {
  const { slotSeconds, hopeless, requests } = facts;
  const startups = servers.map(({ deployment, startupMs }) => `${deployment.id} ${(startupMs / 1000).toFixed(1)} s`);
  const drawn = servers.some(({ deployment }) => deployment.startup.spread > 0);
  return [
    'It knows all requests in advance, with their lengths, and routes and batches them as it likes.',
    'Every request takes a replica the least time that its tokens can take in any batch that fits the simulated engine.',
    `Work of a request that attains lies between its arrival and its latest allowed end, in slots of ${slotSeconds} s; in a slot it is packed without loss.`,
    'Fractions of replicas count; limits on their number, failures and draining do not.',
    'The fleet at the start of the scored span is free to choose, and costs what it runs; work after its end costs nothing.',
    `A start is billed at least: ${startups.join(', ')}${drawn ? ` (the shortest of the first ${startsLookedAt} that this seed draws)` : ''}.`,
    'The misses are the requests that cost most.',
    ...(hopeless > 0
      ? [`${hopeless} of ${requests} requests attain on no deployment, however idle: they are among the misses.`]
      : []),
  ];
}
