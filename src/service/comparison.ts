import type { BucketDemand, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { type Cycle, type PhaseContext, sentence } from './cycle.js';
import type { ModelState } from './fleet.js';
import { type ModelPlan, splitPlan } from './model-plan.js';
import { problemOf } from './problem-phase.js';
import { pooledAlone } from './replica-pools.js';
import {
  cheapestSingleType,
  type Room,
  roomBesideOthers,
  type SingleType,
  type SingleTypePrice,
  singleTypePrices,
  singleTypeVariants,
} from './single-type.js';

/** What the cycle computes with the planner besides, for information: what a single GPU type would cost. */

/** Models whose single-type price is computed in one cycle: it is for information, so it may not cost much. */
const singleTypesPerCycle = 64;

/** A single-type price computed for a rate that has moved further than this share is not shown any more. */
const singleTypeTolerance = 0.1;

type Wanted = { readonly state: ModelState; readonly room: Room };

/**
 * After publication: what the cheapest single GPU type would cost. Only for models whose demand, choices or room have
 * changed since, oldest first and at most `singleTypesPerCycle` of them.
 *
 * What a mix keeps for a while above its demand, a fleet of one type would keep as long: its price is the most of that time.
 */
export async function compareWithSingleTypes(cycle: Cycle, context: PhaseContext): Promise<void> {
  const { fleet } = context;
  const roomOf = roomBesideOthers({
    limits: cycle.limits,
    parts: [...fleet.models.values()].flatMap((state) => state.planned?.part ?? []),
    gpusPerReplicaOf: (id) => fleet.observed.get(id)?.gpusPerReplica ?? 0,
  });
  const wanted: Wanted[] = [];
  for (const state of fleet.models.values()) {
    if (state.built === null || state.planned === null) continue;
    const rps = state.demand?.forecastRps ?? 0;
    const { single } = state;
    const { demand, deployments } = state.built.model;
    const room = roomOf(state.built.model);
    if (
      single !== null &&
      sameDemand(single.demand, demand) &&
      sameChoices(single.deployments, deployments) &&
      sameRoom(single.room, room)
    ) {
      const recent = stillKept(single.recent, cycle, context);
      const sinceMs = notLater(single.sinceMs, cycle);
      state.single = { ...single, recent, sinceMs, cheapest: cheapestOf(recent, { sinceMs, cycle, context }) };
      continue;
    }
    if (single !== null && Math.abs(single.rps - rps) > singleTypeTolerance * single.rps) {
      state.single = { ...single, cheapest: null };
    }
    if (rps > 0) wanted.push({ state, room });
  }
  // Those without a price come first, then those that were asked longest ago.
  const chosen = wanted
    .sort((a, b) => (a.state.single?.atMs ?? 0) - (b.state.single?.atMs ?? 0))
    .slice(0, singleTypesPerCycle);
  if (chosen.length === 0) return;
  await compareTogether(cycle, context, chosen);
}

/** Compares some models with one plan; where that fails, each alone, so that none keeps the others from an answer. */
async function compareTogether(cycle: Cycle, context: PhaseContext, chosen: readonly Wanted[]): Promise<void> {
  const { planner, config, logger } = context;
  const { options } = config;
  const variants = chosen.map(({ state, room }) =>
    singleTypeVariants(pooledAlone(withoutStarts(state.built!.model), state.pools), room),
  );
  const models = variants.flatMap((each) => each.models);
  const pools = variants.flatMap((each) => each.pools);
  const quotas = variants.flatMap((each) => each.quotas);
  let parts: ReadonlyMap<string, ModelPlan> = new Map();
  try {
    // A price for every hour to come: what it costs to get there is not in it.
    const steady = { options: { ...options, startUsdPerReplica: 0, stopUsdPerReplica: 0 } } as const;
    const problem = problemOf(models, {
      config: steady,
      limits: { pools, quotas, budgetUsdPerHour: null },
      at: cycle.at,
    });
    parts = splitPlan(await planner.plan(problem, { timeLimitMs: options.timeLimitMs }), models);
  } catch (error) {
    if (chosen.length > 1) {
      for (const each of chosen) await compareTogether(cycle, context, [each]);
      return;
    }
    // Without an answer until its demand or its choices change: asked again, it would fail again.
    const { name } = chosen[0]!.state;
    logger.warn({ model: name, err: error }, `${name}: the single-type comparison failed: ${sentence(error)}`);
  }
  for (const { state, room } of chosen) {
    const model = state.built?.model;
    if (model === undefined || state.planned === null) continue;
    const { demand, deployments } = model;
    const prices = singleTypePrices(model, state.planned.part, { parts, room });
    const isSameChoice = state.single !== null && sameChoices(state.single.deployments, deployments);
    const known = isSameChoice ? state.single : null;
    const before = known?.recent ?? [];
    const sinceMs = notLater(known?.sinceMs ?? cycle.nowMs, cycle);
    const recent = stillKept([...before, { atMs: cycle.nowMs, prices }], cycle, context);
    const rps = state.demand?.forecastRps ?? 0;
    const cheapest = cheapestOf(recent, { sinceMs, cycle, context });
    state.single = { rps, demand, deployments, room, recent, cheapest, sinceMs, atMs: cycle.nowMs };
  }
}

type Moment = { readonly atMs: number; readonly prices: readonly SingleTypePrice[] };

/** The last one, and those before it that ended within the time for which plans keep what they had. */
function stillKept(moments: readonly Moment[], { nowMs }: Cycle, context: PhaseContext): readonly Moment[] {
  const keptMs = keptMsOf(context);
  return moments.filter((_, i) => {
    const next = moments[i + 1];
    return next === undefined || (next.atMs <= nowMs && nowMs - next.atMs < keptMs);
  });
}

/** Null until all of that time was seen: what ran before it is kept, and nobody knows what one type would have kept. */
function cheapestOf(
  moments: readonly Moment[],
  { sinceMs, cycle, context }: { readonly sinceMs: number; readonly cycle: Cycle; readonly context: PhaseContext },
): SingleType | null {
  if (cycle.nowMs - sinceMs < keptMsOf(context)) return null;
  return cheapestSingleType(moments.map(({ prices }) => prices));
}

/** A clock that was set back must not put it off for as long. */
function notLater(sinceMs: number, { nowMs }: Cycle): number {
  return Math.min(sinceMs, nowMs);
}

function keptMsOf({ config }: PhaseContext): number {
  return config.stability.scaleDownStabilizationSeconds * 1000;
}

function withoutStarts(model: ProblemModel): ProblemModel {
  const deployments = model.deployments.map(({ startUsdPerReplica: _, ...deployment }) => deployment);
  return { ...model, deployments };
}

/** Whether the same requests are planned for: at the same total rate, longer ones can make every type dearer. */
function sameDemand(a: readonly BucketDemand[], b: readonly BucketDemand[]): boolean {
  return (
    a.length === b.length &&
    a.every((bucket, index) => {
      const other = b[index]!;
      return (
        bucket.rps === other.rps &&
        bucket.inputTokens === other.inputTokens &&
        bucket.outputTokens === other.outputTokens
      );
    })
  );
}

/** Whether the same deployments with the same profiles and prices are there to choose from. */
function sameChoices(a: readonly ProblemDeployment[], b: readonly ProblemDeployment[]): boolean {
  return (
    a.length === b.length &&
    a.every((deployment, index) => {
      const other = b[index]!;
      return (
        deployment.id === other.id &&
        deployment.usdPerReplicaHour === other.usdPerReplicaHour &&
        deployment.maxReplicas === other.maxReplicas &&
        deployment.profile === other.profile
      );
    })
  );
}

/** Whether the others leave as much of what is shared. */
function sameRoom(a: Room, b: Room): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
