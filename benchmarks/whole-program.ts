import type { PlanningProblem } from '../src/core/planning-problem.js';
import type { Mip, MipColumn } from './mip.js';
import { type PeerModel, peerModelOf } from './peer-rules.js';

/**
 * A joint problem that serves everything, as one mixed-integer program in one piece: the way without a decomposition,
 * which the `joint` benchmark takes as its baseline.
 *
 *   minimise Σ c_d y_d   subject to   Σ_d x_bd = 1,   Σ_b work_bd x_bd ≤ y_d,   Σ_{d of type g} a_d y_d ≤ K_g,   y whole
 *
 * Of the document it knows demand, prices, profiles and pools: what the generator of joint instances uses.
 */
export type WholeProgram = {
  readonly mip: Mip;
  /** Whole replicas by model and deployment, once they are found to serve all within the pools; otherwise why not. */
  replicasOf(values: readonly number[]): readonly (readonly number[])[] | string;
};

/** Shares of an engine may be off by this much (relative), which favours it: gpumix's own plans are held to 1e-9. */
const tolerance = 1e-6;

export function wholeProgram({ models, pools }: PlanningProblem): WholeProgram {
  const peers = models.map(peerModelOf);
  const limited = pools.filter(({ gpus }) => gpus !== null);
  const poolRow = new Map(limited.map(({ gpuType }, p) => [gpuType, p]));
  const rowLower: number[] = limited.map(() => Number.NEGATIVE_INFINITY);
  const rowUpper: number[] = limited.map(({ gpus }) => gpus!);
  const columns: MipColumn[] = [];
  /** First column of y, of x; the first row of work, by model. */
  const places = peers.map((model) => {
    const firstWork = rowLower.length;
    for (const _ of model.types) {
      rowLower.push(Number.NEGATIVE_INFINITY);
      rowUpper.push(0);
    }
    const firstBucket = rowLower.length;
    for (const _ of model.rps) {
      rowLower.push(1);
      rowUpper.push(1);
    }
    const firstReplicas = columns.length;
    model.types.forEach(({ gpuType, gpusPerReplica, usdPerReplicaHour }, d) => {
      const entries: [number, number][] = [[firstWork + d, -1]];
      const pool = poolRow.get(gpuType);
      if (pool !== undefined && gpusPerReplica > 0) entries.unshift([pool, gpusPerReplica]);
      columns.push({ cost: usdPerReplicaHour, upper: Number.POSITIVE_INFINITY, whole: true, entries });
    });
    const firstShare = columns.length;
    model.rps.forEach((rate, b) => {
      model.types.forEach(({ secondsPerRequest }, d) => {
        const work = rate * secondsPerRequest[b]!;
        if (work === Number.POSITIVE_INFINITY) return;
        const entries: [number, number][] = [
          [firstWork + d, work],
          [firstBucket + b, 1],
        ];
        columns.push({ cost: 0, upper: 1, whole: false, entries });
      });
    });
    return { firstReplicas, firstShare };
  });
  return {
    mip: { rowLower, rowUpper, columns },
    replicasOf: (values) => {
      const used = limited.map(() => 0);
      const found: number[][] = [];
      for (const [m, model] of peers.entries()) {
        const { firstReplicas, firstShare } = places[m]!;
        const replicas = model.types.map((_, d) => Math.round(values[firstReplicas + d]!));
        model.types.forEach(({ gpuType, gpusPerReplica }, d) => {
          const pool = poolRow.get(gpuType);
          if (pool !== undefined) used[pool]! += gpusPerReplica * replicas[d]!;
        });
        const fault = overfull(model, replicas, values, firstShare);
        if (fault !== null) return fault;
        found.push(replicas);
      }
      const over = limited.findIndex(({ gpus }, p) => used[p]! > gpus!);
      return over < 0 ? found : `${used[over]} GPUs of ${limited[over]!.gpuType}, of ${limited[over]!.gpus}`;
    },
  };
}

/** Says where shares do not serve a model's demand with some replicas; null where they do. */
function overfull(
  { name, rps, types }: PeerModel,
  replicas: readonly number[],
  values: readonly number[],
  firstShare: number,
): string | null {
  const work = types.map(() => 0);
  let column = firstShare;
  for (const [b, rate] of rps.entries()) {
    let shared = 0;
    types.forEach(({ secondsPerRequest }, d) => {
      if (secondsPerRequest[b] === Number.POSITIVE_INFINITY) return;
      const share = values[column++]!;
      shared += share;
      work[d]! += share * rate * secondsPerRequest[b]!;
    });
    if (shared < 1 - tolerance) return `${name}: ${shared} of a bucket is served`;
  }
  const full = work.findIndex((load, d) => load > replicas[d]! + tolerance * Math.max(1, replicas[d]!));
  return full < 0 ? null : `${name}: ${work[full]} replicas of work on ${replicas[full]}`;
}
