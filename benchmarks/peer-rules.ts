import type { ProblemModel } from '../src/core/planning-problem.js';
import { bucketWork, compileWork } from '../src/core/work.js';
import type { Mip, MipColumn, MipEngine, MipLimits } from './mip.js';

/**
 * How peers decide, as rules of our own writing; benchmarks/README.md says where each was read and what was left out.
 *
 * All of them get the same demand, prices and throughputs as gpumix, exact and already per bucket: what is compared is
 * the decision, not how well each measures.
 */

/** A model's demand and deployments as numbers. */
export type PeerModel = {
  readonly name: string;
  /** Larger first. */
  readonly priority: number;
  /** Arrivals per bucket [requests/s]. */
  readonly rps: readonly number[];
  readonly types: readonly PeerType[];
};

export type PeerType = {
  readonly gpuType: string;
  readonly gpusPerReplica: number;
  readonly usdPerReplicaHour: number;
  /** Replica-seconds per request of each bucket; Infinity = cannot serve. */
  readonly secondsPerRequest: readonly number[];
};

export function peerModelOf(model: ProblemModel): PeerModel {
  const demand = model.demand.filter(({ rps }) => rps > 0);
  return {
    name: model.name,
    priority: model.priority,
    rps: demand.map(({ rps }) => rps),
    types: model.deployments.map(({ gpuType, gpusPerReplica, usdPerReplicaHour, profile, maxTokens }) => {
      const table = compileWork(profile!, maxTokens);
      return {
        gpuType,
        gpusPerReplica,
        usdPerReplicaHour,
        secondsPerRequest: demand.map(
          ({ inputTokens, outputTokens }) => bucketWork(table, inputTokens, outputTokens).work,
        ),
      };
    }),
  };
}

/** Replicas by type, in the order of the model's types; null where an engine found none in time. */
export type PeerPlan = {
  readonly replicas: readonly number[] | null;
  readonly usdPerHour: number;
  readonly status: 'optimal' | 'time-limit' | 'infeasible';
  readonly milliseconds: number;
};

export type SlicedOptions = {
  readonly sliceFactor: number;
  readonly engine: MipEngine;
  readonly limits: MipLimits;
};

/**
 * Mélange (Griggs et al., 2024): every bucket is cut in `sliceFactor` equal slices, each slice goes to one GPU type
 * (binary), and the type needs whole GPUs for the sum of its slices.
 *
 *   minimise Σ_g c_g y_g   subject to   Σ_g x_sg = 1 each slice s,   Σ_s (λ_s / T_sg) x_sg ≤ y_g each type g
 *
 * Where a type cannot serve a bucket the variable is left out; Mélange itself writes a very large load there, which
 * asks the same of a plan and more of the engine.
 */
export function melangePlan(model: PeerModel, { sliceFactor, engine, limits }: SlicedOptions): PeerPlan {
  const answer = engine.solve(sliceProgram(model, sliceFactor, 1), limits);
  const replicas = answer.values?.slice(0, model.types.length).map(Math.round) ?? null;
  return {
    replicas,
    usdPerHour: replicas === null ? Number.NaN : usdOf(model, replicas),
    status: answer.status,
    milliseconds: answer.milliseconds,
  };
}

/** What AIBrix's optimizer multiplies rates by and divides prices by. */
export const aibrixFraction = 100;
/** Slices per bucket that AIBrix's optimizer is compiled with. */
export const aibrixSlices = 4;

export type AibrixPlan = PeerPlan & {
  /** GPUs in units of 1 / fraction, as the optimizer publishes them. */
  readonly fractions: readonly number[] | null;
};

/**
 * AIBrix: Mélange's program with rates × 100 and prices ÷ 100, so that y counts hundredths of a GPU; the autoscaler
 * then rounds each type up to whole replicas by itself.
 */
export function aibrixPlan(model: PeerModel, options: SlicedOptions & { readonly fraction: number }): AibrixPlan {
  const { sliceFactor, engine, limits, fraction } = options;
  const answer = engine.solve(sliceProgram(model, sliceFactor, fraction), limits);
  const fractions = answer.values?.slice(0, model.types.length).map(Math.round) ?? null;
  const replicas = fractions?.map((count) => Math.ceil(count / fraction)) ?? null;
  return {
    fractions,
    replicas,
    usdPerHour: replicas === null ? Number.NaN : usdOf(model, replicas),
    status: answer.status,
    milliseconds: answer.milliseconds,
  };
}

/** Columns: y by type first, then x by slice and type. Rows: one per slice, then one per type. */
export function sliceProgram({ rps, types }: PeerModel, sliceFactor: number, fraction: number): Mip {
  const slices = rps.length * sliceFactor;
  const columns: MipColumn[] = types.map(({ usdPerReplicaHour }, g) => ({
    cost: usdPerReplicaHour / fraction,
    upper: Number.POSITIVE_INFINITY,
    whole: true,
    entries: [[slices + g, -1]],
  }));
  rps.forEach((rate, b) => {
    const sliceRps = (rate * fraction) / sliceFactor;
    for (let s = 0; s < sliceFactor; s++) {
      types.forEach(({ secondsPerRequest }, g) => {
        const seconds = secondsPerRequest[b]!;
        if (seconds === Number.POSITIVE_INFINITY) return;
        const entries: [number, number][] = [
          [b * sliceFactor + s, 1],
          [slices + g, sliceRps * seconds],
        ];
        columns.push({ cost: 0, upper: 1, whole: true, entries });
      });
    }
  });
  return {
    rowLower: [...new Array<number>(slices).fill(1), ...types.map(() => Number.NEGATIVE_INFINITY)],
    rowUpper: [...new Array<number>(slices).fill(1), ...types.map(() => 0)],
    columns,
  };
}

/** Work this much above whole replicas still fits them, relative; the same for gpumix's plans. */
const fitTolerance = 1e-9;

/** One model on one GPU type, as the greedy rule takes or leaves it. */
type Candidate = { readonly type: number; readonly replicas: number; readonly gpus: number; readonly usd: number };

export type GreedyPlan = {
  /** Type and replicas of each model, in the order given; null = the model got nothing. */
  readonly allocations: readonly ({ readonly type: number; readonly replicas: number } | null)[];
  readonly usdPerHour: number;
  /** Arrivals of models that got nothing, or too little [requests/s]. */
  readonly unservedRps: number;
};

/** What is done for models that no type can hold whole; names as in the optimizer's configuration. */
export type SaturationPolicy = 'None' | 'PriorityExhaustive';

/**
 * The greedy rule of the inferno optimizer that llm-d's workload-variant-autoscaler (WVA) began with.
 *
 * A model's candidates are its GPU types, each with the replicas that serve all of the model's demand there; a type
 * that cannot serve some of it is none. Candidates are tried from the cheapest. Models wait in a queue by priority,
 * then by regret (how much dearer the next candidate is than the current one; a last candidate has infinite regret),
 * then by the price of the current candidate, larger first. The first in the queue takes its current candidate if
 * the pool still holds it; otherwise it moves to its next one and is put back in the queue. A model without candidates
 * left gets nothing (`None`), or after the others of its priority as many replicas as fit of its first candidate with
 * any room (`PriorityExhaustive`).
 */
export function greedyPlan(
  models: readonly PeerModel[],
  pools: ReadonlyMap<string, number>,
  policy: SaturationPolicy,
): GreedyPlan {
  const left = new Map(pools);
  const leftOf = (gpuType: string) => left.get(gpuType) ?? Number.POSITIVE_INFINITY;
  const allocations: ({ type: number; replicas: number } | null)[] = models.map(() => null);
  const take = (m: number, candidate: Candidate, replicas: number) => {
    const { gpuType, gpusPerReplica } = models[m]!.types[candidate.type]!;
    left.set(gpuType, leftOf(gpuType) - replicas * gpusPerReplica);
    allocations[m] = { type: candidate.type, replicas };
  };

  const priorities = [...new Set(models.map(({ priority }) => priority))].sort((a, b) => b - a);
  for (const priority of priorities) {
    const waiting = models
      .map((model, m) => ({ m, at: 0, candidates: model.priority === priority ? candidatesOf(model) : [] }))
      .filter(({ m }) => models[m]!.priority === priority);
    const rejected: typeof waiting = waiting.filter(({ candidates }) => candidates.length === 0);
    const queue = waiting.filter(({ candidates }) => candidates.length > 0).sort(inOrder);
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const candidate = next.candidates[next.at]!;
      if (leftOf(models[next.m]!.types[candidate.type]!.gpuType) >= candidate.gpus) {
        take(next.m, candidate, candidate.replicas);
        continue;
      }
      next.at++;
      if (next.at === next.candidates.length) {
        rejected.push(next);
        continue;
      }
      const waiter = next;
      const place = queue.findIndex((other) => inOrder(waiter, other) <= 0);
      queue.splice(place < 0 ? queue.length : place, 0, waiter);
    }
    if (policy === 'None') continue;
    for (const { m, candidates } of rejected) {
      for (const candidate of candidates) {
        const { gpuType, gpusPerReplica } = models[m]!.types[candidate.type]!;
        const replicas = Math.min(candidate.replicas, Math.floor(leftOf(gpuType) / gpusPerReplica));
        if (replicas === 0) continue;
        take(m, candidate, replicas);
        break;
      }
    }
  }

  let usdPerHour = 0;
  let unservedRps = 0;
  models.forEach((model, m) => {
    const allocation = allocations[m]!;
    const rate = model.rps.reduce((sum, rps) => sum + rps, 0);
    if (allocation === null) {
      unservedRps += rate;
      return;
    }
    const type = model.types[allocation.type]!;
    usdPerHour += allocation.replicas * type.usdPerReplicaHour;
    unservedRps += rate * Math.max(0, 1 - (allocation.replicas * (1 + fitTolerance)) / workOn(model, type));
  });
  return { allocations, usdPerHour, unservedRps };
}

type Waiting = { readonly at: number; readonly candidates: readonly Candidate[] };

/** The queue's order among models of one priority: larger regret first, then the dearer candidate. */
function inOrder(a: Waiting, b: Waiting): number {
  const regret = ({ at, candidates }: Waiting) =>
    at + 1 < candidates.length ? candidates[at + 1]!.usd - candidates[at]!.usd : Number.MAX_VALUE;
  return regret(b) - regret(a) || b.candidates[b.at]!.usd - a.candidates[a.at]!.usd;
}

/** The types that can serve a model alone, cheapest first. */
function candidatesOf(model: PeerModel): Candidate[] {
  return model.types
    .map((type, g): Candidate => {
      const replicas = Math.ceil(workOn(model, type) / (1 + fitTolerance));
      return { type: g, replicas, gpus: replicas * type.gpusPerReplica, usd: replicas * type.usdPerReplicaHour };
    })
    .filter(({ replicas }) => replicas < Number.POSITIVE_INFINITY)
    .sort((a, b) => a.usd - b.usd);
}

/** Replicas that all of a model's demand fills on one type. */
function workOn({ rps }: PeerModel, { secondsPerRequest }: PeerType): number {
  return rps.reduce((sum, rate, b) => sum + rate * secondsPerRequest[b]!, 0);
}

function usdOf({ types }: PeerModel, replicas: readonly number[]): number {
  return replicas.reduce((sum, count, g) => sum + count * types[g]!.usdPerReplicaHour, 0);
}
