import type { ProfileGrid } from '../../core/profile.js';
import type { FinishedInterval } from '../../demand/gateway-trace.js';
import { gatewayPrecision } from '../../demand/trace-record.js';
import type { Decision, FleetDeployment, FleetView, Policy } from '../backtest/backtest.js';
import { type CountedPoint, densityClusters } from './density-clusters.js';
import { KpaPodAutoscaler, kpaDefaults } from './kpa.js';
import { solveSlices } from './slice-program.js';

/**
 * AIBrix's gpu-optimizer and, behind it, one PodAutoscaler for each deployment: rules of our own writing after its
 * source (HEAD of August 2026, v0.7 and later); docs/backtest-peers.md says where each was read.
 *
 * 1. Completed requests of the last 180 to 240 s are points (log2 input, log2 output); DBSCAN (reach 0.5, 10 points)
 *    finds clusters of them. Four windows are open at a time, begun 60 s apart; the oldest one counts.
 * 2. Each cluster is one cell of the profile, that of its mean; what is in no cluster is spread over the clusters.
 * 3. The rate is the larger of points per second of the window and arrivals per second of the newest record.
 * 4. Mélange's program with 4 slices a cell, in hundredths of a GPU, gives each deployment's number; no cluster yet
 *    keeps the numbers there are, no point at all gives each its `model.aibrix.ai/min_replicas`.
 * 5. The number goes to the deployment's own autoscaler (kpa.ts), which divides it by `targetValue` and rounds up.
 *
 * Where AIBrix is known to err, the copy errs with it as long as users would see that; what crashes it, or makes it a
 * weaker peer by mistake, is left out:
 * - The span of a window counts its first interval too. As written, one record spans 1 s, and a start over-scales tenfold.
 * - A cell that no type serves within the SLO takes the nearest one that some type does. As written it is a load of 10⁶
 *   seconds a request, which asks for every GPU that there is.
 * - `min_replicas` are whole replicas, and hold while nothing arrives. As written the number is read as hundredths.
 * - Nothing is published before the first numbers. As written, a start publishes the replicas there are as hundredths.
 * - Types may have grids of their own. As written, a second grid ends the optimizer.
 * - All records are read, once, and no profile update is lost.
 */
export type AibrixOptions = {
  readonly deployments: readonly FleetDeployment[];
  /** Of the PodAutoscalers: hundredths of a GPU that make a replica; 100 = as documented, less = head-room for bursts. */
  readonly targetValue: number;
  /** `model.aibrix.ai/min_replicas` by deployment id; by default 1 of the cheapest: a model without any is never woken. */
  readonly idleMinReplicas?: ReadonlyMap<string, number>;
  /** `autoscaling.aibrix.ai/scale-down-cooldown-window` of the PodAutoscalers [s]. */
  readonly scaleDownCooldownSeconds?: number;
};

/** Hundredths of a GPU in which the optimizer counts. */
export const aibrixFraction = 100;
export const aibrixSlices = 4;

/** Interval of records, of the optimizer's loop and of the controller's resync [s]. */
const intervalSeconds = 10;
/** The optimizer reads a record two seconds after its time. */
const readDelaySeconds = 2;

/** A reach of 0.5 in log2, in steps of the gateway's buckets. */
const reach = 0.5 * gatewayPrecision;
const minPoints = 10;
const windowCount = 4;
const windowStepSeconds = 60;

/**
 * Where between two grid points (in log2) the upper one begins: AIBrix prefers the next larger cell from a quarter of the
 * way on.
 */
const upperCellFrom = 0.25;

export function aibrixPolicy(options: AibrixOptions): Policy {
  const { deployments, targetValue } = options;
  const idleMinReplicas = options.idleMinReplicas ?? oneOfTheCheapest(deployments);
  const scaleDownCooldownSeconds = options.scaleDownCooldownSeconds ?? kpaDefaults.scaleDownCooldownSeconds;
  const window = new MovingWindow();
  const autoscalers = deployments.map(
    ({ minReplicas, maxReplicas }) =>
      new KpaPodAutoscaler({ ...kpaDefaults, targetValue, minReplicas, maxReplicas, scaleDownCooldownSeconds }),
  );
  let numbers: readonly number[] | null = null;
  return {
    periodSeconds: intervalSeconds,
    lagSeconds: readDelaySeconds,
    decide(view: FleetView): Decision {
      window.read(view.nowMs, view.intervals);
      const { points, rps } = window;
      const idle = points.length === 0;
      if (idle) numbers = deployments.map(({ id }) => idleMinReplicas.get(id) ?? 0);
      else numbers = aibrixNumbers({ deployments, points, rps }) ?? numbers;
      const replicas = deployments.map(({ id }, d) => {
        const seen = view.deployments.find((each) => each.id === id);
        const look = { nowMs: view.nowMs, value: numbers?.[d] ?? null, current: seen?.wanted ?? 0 };
        const scaled = autoscalers[d]!.look(look);
        return [id, idle ? Math.max(scaled, idleMinReplicas.get(id) ?? 0) : scaled] as const;
      });
      return { replicas: new Map(replicas), routing: null, forecastRps: rps };
    },
  };
}

function oneOfTheCheapest(deployments: readonly FleetDeployment[]): ReadonlyMap<string, number> {
  const [cheapest] = deployments.toSorted((a, b) => a.usdPerReplicaHour - b.usdPerReplicaHour);
  return new Map(cheapest === undefined ? [] : [[cheapest.id, 1]]);
}

/** What was read at one moment. */
type Batch = {
  readonly readMs: number;
  readonly endSeconds: number;
  /** Completed requests by length, see `packed`. */
  readonly counts: readonly (readonly [lengths: number, count: number])[];
  readonly requests: number;
};

/** The completed requests that the oldest of four windows holds, and the rate. */
class MovingWindow {
  /** When each window was begun [ms], oldest first. */
  #begun: readonly number[] = [];
  #batches: readonly Batch[] = [];
  readonly #counts = new Map<number, number>();
  #newestRps = 0;

  /** Takes what was written since the last time. */
  read(nowMs: number, intervals: readonly FinishedInterval[]): void {
    const newest = this.#begun.at(-1);
    if (newest === undefined || nowMs - newest >= 1000 * windowStepSeconds) {
      this.#begun = [...this.#begun, nowMs].slice(-windowCount);
    }
    const since = this.#begun[0]!;
    for (const { readMs, counts } of this.#batches) {
      if (readMs < since) for (const [lengths, count] of counts) this.#add(lengths, -count);
    }
    const batches = intervals.map((interval) => batchOf(nowMs, interval));
    for (const { counts } of batches) for (const [lengths, count] of counts) this.#add(lengths, count);
    this.#batches = [...this.#batches.filter(({ readMs }) => readMs >= since), ...batches];
    const last = intervals.at(-1)?.record;
    this.#newestRps = last === undefined ? 0 : last.arrivals / last.intervalSeconds;
  }

  #add(lengths: number, count: number): void {
    const sum = (this.#counts.get(lengths) ?? 0) + count;
    if (sum > 0) this.#counts.set(lengths, sum);
    else this.#counts.delete(lengths);
  }

  get points(): readonly CountedPoint[] {
    return Array.from(this.#counts, ([lengths, count]) => ({ ...unpacked(lengths), count }));
  }

  /** Requests per second that are planned for. */
  get rps(): number {
    const filled = this.#batches.filter(({ requests }) => requests > 0);
    if (filled.length === 0) return this.#newestRps;
    const requests = filled.reduce((sum, batch) => sum + batch.requests, 0);
    const seconds = filled.at(-1)!.endSeconds - filled[0]!.endSeconds + intervalSeconds;
    return Math.max(requests / seconds, this.#newestRps);
  }
}

function batchOf(readMs: number, { endSeconds, record }: FinishedInterval): Batch {
  const counts = record.buckets.map(
    ({ inputTokens, outputTokens, count }) => [packed(indexOf(inputTokens), indexOf(outputTokens)), count] as const,
  );
  // Lengths that the gateway never learnt are taken for the shortest requests.
  if (record.unknownLength > 0) counts.push([packed(0, 0), record.unknownLength]);
  return { readMs, endSeconds, counts, requests: counts.reduce((sum, [, count]) => sum + count, 0) };
}

/** Indexes of gateways stay far below this. */
const indexRange = 2 ** 16;

function packed(x: number, y: number): number {
  return x * indexRange + y;
}

function unpacked(lengths: number): { readonly x: number; readonly y: number } {
  return { x: Math.floor(lengths / indexRange), y: lengths % indexRange };
}

function indexOf(tokens: number): number {
  return Math.round(gatewayPrecision * Math.log2(Math.max(1, tokens)));
}

/** Hundredths of a GPU for each deployment; null = too few points for a cluster, or no type serves any length. */
export function aibrixNumbers(of: {
  readonly deployments: readonly Pick<FleetDeployment, 'profile' | 'usdPerReplicaHour'>[];
  /** Steps of the gateway's buckets: x by input, y by output. */
  readonly points: readonly CountedPoint[];
  readonly rps: number;
}): readonly number[] | null {
  const { deployments, points, rps } = of;
  const { clusters } = densityClusters(points, { reach, minPoints });
  if (clusters.length === 0) return null;
  const clustered = clusters.reduce((sum, { count }) => sum + count, 0);
  const cells = new Map<string, { share: number; readonly tputs: readonly number[] }>();
  for (const { count, centre } of clusters) {
    const at = { input: centre.x / gatewayPrecision, output: centre.y / gatewayPrecision };
    const found = deployments.map(({ profile }) => cellAt(profile, at));
    const key = found.map(({ row, column }) => `${row}:${column}`).join();
    const cell = cells.get(key);
    if (cell !== undefined) {
      cell.share += count / clustered;
      continue;
    }
    const tputs = found.map(({ tput }) => tput);
    const served = tputs.some((tput) => tput > 0)
      ? tputs
      : deployments.map(({ profile }) => nearestServed(profile, at));
    cells.set(key, { share: count / clustered, tputs: served });
  }
  const answer = solveSlices({
    slices: aibrixSlices,
    usdPerUnit: deployments.map(({ usdPerReplicaHour }) => usdPerReplicaHour / aibrixFraction),
    loads: [...cells.values()].map(({ share, tputs }) =>
      tputs.map((tput) => (tput > 0 ? (rps * aibrixFraction * share) / aibrixSlices / tput : Infinity)),
    ),
  });
  return answer?.units ?? null;
}

/** A pair of lengths, in log2 of tokens. */
type LogLengths = { readonly input: number; readonly output: number };

/** The one cell that a cluster is taken for; there is no interpolation. */
function cellAt({ indexes, tputs }: ProfileGrid, { input, output }: LogLengths) {
  const row = placeOn(indexes[0]!, output);
  const column = placeOn(indexes[1]!, input);
  return { row, column, tput: tputs[row]![column] ?? 0 };
}

function placeOn(axis: readonly number[], value: number): number {
  const above = axis.findIndex((tokens) => logOf(tokens) > value);
  if (above < 0) return axis.length - 1;
  if (above === 0) return 0;
  const [low, high] = [logOf(axis[above - 1]!), logOf(axis[above]!)];
  return value === low || value < low + (high - low) * upperCellFrom ? above - 1 : above;
}

function logOf(tokens: number): number {
  return Math.log2(Math.max(1, tokens));
}

/** Throughput of the nearest cell that is served; 0 where none is. */
function nearestServed({ indexes, tputs }: ProfileGrid, { input, output }: LogLengths): number {
  let nearest = 0;
  let least = Infinity;
  tputs.forEach((rates, r) => {
    rates.forEach((tput, c) => {
      const distance = Math.hypot(logOf(indexes[0]![r]!) - output, logOf(indexes[1]![c]!) - input);
      if ((tput ?? 0) === 0 || distance >= least) return;
      least = distance;
      nearest = tput!;
    });
  });
  return nearest;
}
