import type { UnservedDemand, UnservedReason } from '../core/plan.js';
import type { PlanningProblem, ProblemDeployment } from '../core/planning-problem.js';
import { ReplicaSearch } from './branch-and-bound.js';
import type { Prepared } from './coupling.js';
import { type ModelResult, sum } from './model-result.js';
import type { Program } from './program.js';
import { UnservedDemandLp } from './program-lp.js';
import type { LimitKind, ProblemLimit } from './shared-limits.js';
import { type Stage, unmergedStage } from './stage.js';

/**
 * Why demand stays unserved: limits are lifted one kind after the other, for one model at a time while the others stay as
 * planned. What is served once a kind is lifted was kept out by it.
 */

/** Nodes of a search for what could be served: what it has not found by then counts for the next kind. */
const searchNodes = 500;

type Kind = 'max_replicas' | LimitKind;
const order: readonly Kind[] = ['max_replicas', 'quota', 'pool', 'budget'];
const reasonOf: Readonly<Record<Kind, UnservedReason>> = {
  max_replicas: 'max_replicas',
  quota: 'quota',
  pool: 'capacity',
  budget: 'budget',
};

/** The same results, with the reasons of what they leave unserved. */
export function withReasons(
  problem: PlanningProblem,
  prepared: Prepared,
  results: readonly ModelResult[],
): readonly ModelResult[] {
  const stages = new Map(
    prepared.groups.flatMap(({ entrants }) => entrants.map((it) => [it.index, it.stage] as const)),
  );
  const targets = new Map(results.flatMap(({ deployments }) => deployments.map((it) => [it.id, it.targetReplicas])));
  const useBy = (deployments: readonly ProblemDeployment[], limit: ProblemLimit): number =>
    sum(deployments, (it) => (targets.get(it.id) ?? 0) * limit.useOf(it));
  const taken = prepared.limits.map((limit) => sum(problem.models, ({ deployments }) => useBy(deployments, limit)));
  return results.map((result, m) => {
    const stage = stages.get(m);
    if (stage === undefined || result.entry.status === 'held' || result.unserved.length === 0) return result;
    const own = stage.formulation.deployments;
    // What the other models, and deployments of this one that serve nothing, leave of a limit.
    const rooms = prepared.limits.flatMap((limit, r) => {
      if (!own.some((it) => limit.useOf(it) > 0)) return [];
      const use = useBy(own, limit);
      // What fixed replicas overrun has room for what they take, and for no more.
      return [{ limit, room: Math.max(use, limit.limit - taken[r]! + use) }];
    });
    return { ...result, unserved: attribute(stage, result, rooms) };
  });
}

type Room = { readonly limit: ProblemLimit; readonly room: number };

function attribute(stage: Stage, { shares }: ModelResult, rooms: readonly Room[]): readonly UnservedDemand[] {
  const { formulation } = stage;
  const { model, buckets, placed } = formulation;
  const entries: UnservedDemand[] = [];
  const list = (index: number, rps: number, reason: UnservedReason): void => {
    if (!(rps > 0)) return;
    const { inputTokens, outputTokens } = model.demand[index]!;
    entries.push({ model: model.name, inputTokens, outputTokens, rps, reason });
  };
  const left = Float64Array.from(placed, (index) => shares[index]!.unservedShare);
  const parts = contended(stage, rooms, left);
  const placeOf = new Map(placed.map((index, b) => [index, b]));
  buckets.forEach(({ unplaced }, index) => {
    const { rps } = model.demand[index]!;
    if (unplaced === 'slo' || unplaced === 'max_replicas') list(index, rps, unplaced);
    const b = placeOf.get(index);
    if (b === undefined) return;
    // The last part is the rest, so that the entries of a bucket add up to what its shares leave.
    const whole = shares[index]!.unservedShare;
    let rest = whole;
    parts.forEach(({ kind, share }, p) => {
      const part = p === parts.length - 1 ? rest : Math.min(rest, share[b]!);
      // What is left to the next kind, or not yet, for rounding alone is not told apart.
      const own = part < speck * whole ? 0 : rest - part < speck * whole ? rest : part;
      rest -= own;
      list(index, rps * own, reasonOf[kind]);
    });
  });
  return entries;
}

/** Which part of each placed bucket's share that is unserved is kept out by which kind of limit. */
function contended(
  stage: Stage,
  rooms: readonly Room[],
  unservedShares: Float64Array,
): readonly { readonly kind: Kind; readonly share: Float64Array }[] {
  if (unservedShares.every((share) => share === 0)) return [];
  const { formulation } = stage;
  const open = unmergedStage(withoutCeilings(stage), Number.POSITIVE_INFINITY).program;
  const ceilings = Float64Array.from(formulation.bounds, ({ ceiling, lower }, d) =>
    Math.max(lower, Math.min(ceiling, open.upper[d]!)),
  );
  const isShared = (kind: Kind): boolean => rooms.some(({ limit }) => limit.kind === kind);
  const isCapped = ceilings.some((ceiling, d) => ceiling < open.upper[d]!);
  const shared = order.filter(isShared);
  const kinds: readonly Kind[] = isCapped || shared.length === 0 ? ['max_replicas', ...shared] : shared;
  const parts: { kind: Kind; share: Float64Array }[] = [];
  let before = unservedShares;
  kinds.forEach((kind, k) => {
    const isLast = k === kinds.length - 1;
    const binding = kinds.slice(k + 1);
    const after = isLast
      ? new Float64Array(before.length)
      : leastShares(formulation.routing, before, {
          ...open,
          sharedLimits: rooms
            .filter(({ limit }) => binding.includes(limit.kind))
            .map(({ limit, room }) => ({
              use: Float64Array.from(formulation.deployments, limit.useOf),
              limit: room,
            })),
        });
    parts.push({ kind, share: before.map((share, b) => share - after[b]!) });
    before = after;
  });
  return parts;
}

/** Parts of what a bucket leaves unserved below this are rounding. */
const speck = 1e-7;
/** What is served now weighs this much more than what is not: it stays served. */
const weightOfServed = 1e4;

/**
 * The least unserved shares of the placed buckets in a program with fewer limits: of what is unserved now, what would
 * still be. What is served now stays served, though equally much of something else could be.
 */
function leastShares(routing: 'free' | 'proportional', now: Float64Array, program: Program): Float64Array {
  const parts =
    routing === 'proportional' ? { program, unservedPart: new Int32Array(1) } : splitByService(program, now);
  const { switching: _, ...split } = parts.program;
  const free = new Float64Array(split.deploymentCount);
  const total = split.rate.reduce((sum, rate) => sum + rate, 0);
  const costs = { below: free, above: free, offset: 0, unserved: [{ room: total, price: 1 }] };
  const found = new ReplicaSearch(split, { costs }).minimise({
    shouldStop: () => false,
    timeLimitMs: Number.POSITIVE_INFINITY,
    nodeLimit: searchNodes,
    relativeGap: 0,
  });
  if (found.replicas === null) return now;
  const after = new UnservedDemandLp(split).sharesAt(found.replicas);
  if (routing === 'proportional') return now.map((share) => Math.min(share, after[0]!));
  return now.map((share, b) => (share > 0 ? share * after[parts.unservedPart[b]!]! : 0));
}

/** The same program with every bucket in two parts: what is served now, and what is not. */
function splitByService(program: Program, now: Float64Array): { program: Program; unservedPart: Int32Array } {
  const { deploymentCount } = program;
  const work: number[] = [];
  const rate: number[] = [];
  const unservedPart = new Int32Array(now.length).fill(-1);
  const add = (b: number, share: number, weight: number): void => {
    for (let d = 0; d < deploymentCount; d++) work.push(program.work[b * deploymentCount + d]! * share);
    rate.push(program.rate[b]! * share * weight);
  };
  now.forEach((unserved, b) => {
    if (unserved < 1) add(b, 1 - unserved, weightOfServed);
    if (unserved === 0) return;
    unservedPart[b] = rate.length;
    add(b, unserved, 1);
  });
  return {
    program: { ...program, bucketCount: rate.length, work: Float64Array.from(work), rate: Float64Array.from(rate) },
    unservedPart,
  };
}

/** The model as if its deployments had no ceilings of their own, were not fixed, and shared nothing. */
function withoutCeilings(stage: Stage): Stage {
  const bounds = stage.formulation.bounds.map((bound) => ({ ...bound, upper: Number.MAX_SAFE_INTEGER }));
  return { ...stage, formulation: { ...stage.formulation, bounds } };
}
