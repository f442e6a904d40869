import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BucketShares } from '../core/plan.js';
import type { ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { withOverflow } from '../core/routing.js';
import { type Cycle, modelsPerTurn, type PhaseContext, sentence } from './cycle.js';
import type { ModelState } from './fleet.js';
import { unlimited } from './fleet-limits.js';
import { splitPlan } from './model-plan.js';
import { problemOf } from './problem-phase.js';
import { pooledModel } from './replica-pools.js';

/**
 * Which shares a router should follow now.
 *
 * A plan's shares are those of its targets. While replicas start, or others still leave, the targets do not run: shares
 * that are made for them would send most requests to the few replicas that are there already. So a router is told the
 * shares that load what serves now most evenly: the replicas that are ready, without those that are about to go. And it
 * is told which deployments serve a bucket beside those that have a share, for requests that find a replica full.
 */

/** Models that are asked about in one call of the planner. */
const modelsPerCall = 64;

/**
 * After publication: sets `state.routing` of every model that was planned.
 *
 * Where a router's shares cannot be computed the plan's are told: they are never worse than what was told before.
 */
export async function chooseRouting(cycle: Cycle, context: PhaseContext): Promise<void> {
  const { fleet } = context;
  const moving: { readonly state: ModelState; readonly model: ProblemModel }[] = [];
  for (const state of fleet.models.values()) {
    // A held model keeps what it runs, and its router the shares that go with it.
    if (state.hold !== null || state.planned === null || state.built === null) continue;
    const { part } = state.planned;
    const serving = new Map(part.deployments.map(({ id }) => [id, servingReplicas(context, id)]));
    const isThere = part.deployments.every(({ id, targetReplicas }) => serving.get(id) === targetReplicas);
    const isAny = [...serving.values()].some((replicas) => (replicas ?? 0) > 0);
    if (isThere || !isAny) {
      state.routing = part.shares;
      state.routedFor = null;
      continue;
    }
    const shared = pooledModel(state.built.model, state.pools, (id) => serving.get(id) ?? 0);
    const model = asItServes(shared, serving);
    // Nothing moved and the same is asked: so are the shares.
    const routedFor = JSON.stringify([[...serving], model.demand, part.shares]);
    if (state.routedFor === routedFor) continue;
    state.routing = part.shares;
    state.routedFor = routedFor;
    moving.push({ state, model });
  }
  for (let start = 0; start < moving.length; start += modelsPerCall) {
    await routeSome(cycle, context, moving.slice(start, start + modelsPerCall));
  }
  await tellOverflow(context);
}

/** Who may take requests of each bucket beside those that have a share. */
async function tellOverflow({ fleet, config }: PhaseContext): Promise<void> {
  const mayTake = ({ id }: ProblemDeployment) =>
    (fleet.published.get(id)?.replicas ?? fleet.readyReplicas(id) ?? 0) > 0;
  let done = 0;
  for (const state of fleet.models.values()) {
    if (state.hold !== null || state.planned === null || state.built === null) continue;
    if (done++ % modelsPerTurn === 0) await nextTurn();
    const deployments = state.built.model.deployments.filter(mayTake);
    state.routing = withOverflow(state.routing, { deployments, routing: config.options.routing });
  }
}

async function routeSome(
  cycle: Cycle,
  { planner, config, logger }: PhaseContext,
  some: readonly { readonly state: ModelState; readonly model: ProblemModel }[],
): Promise<void> {
  const problem = problemOf(
    some.map(({ model }) => model),
    { config, limits: unlimited, at: cycle.at },
  );
  try {
    const plan = await planner.plan(problem, { timeLimitMs: config.options.timeLimitMs });
    const parts = splitPlan(plan, problem.models);
    for (const { state } of some) {
      const part = parts.get(state.name);
      if (part !== undefined && part.model.heldReason === null) {
        state.routing = besidePlanned(state.routing, part.shares);
      }
    }
  } catch (error) {
    logger.warn({ err: error }, `shares of what is ready cannot be computed: ${sentence(error)}`);
  }
}

/** Buckets that nothing ready serves keep the plan's shares: their deployment is on its way. */
function besidePlanned(planned: readonly BucketShares[], ready: readonly BucketShares[]): readonly BucketShares[] {
  const keyOf = ({ inputTokens, outputTokens }: BucketShares) => `${inputTokens}:${outputTokens}`;
  const before = new Map(planned.map((bucket) => [keyOf(bucket), bucket]));
  return ready.map((bucket) => (bucket.to.length > 0 ? bucket : (before.get(keyOf(bucket)) ?? bucket)));
}

/** Ready, and not about to go; where readiness is not told, what is published. Null = not known. */
function servingReplicas({ fleet }: PhaseContext, id: string): number | null {
  const published = fleet.published.get(id)?.replicas ?? null;
  const ready = fleet.readyReplicas(id);
  if (published === null || ready === null) return published ?? ready;
  return Math.min(published, ready);
}

/**
 * So many times the replicas that serve are given to the planner: shares that load them evenly are the same, and demand
 * that is more than they can serve is spread over them too instead of being left out.
 */
const roominess = 1000;

/** A model whose replicas are decided: what is left to choose are its shares. */
function asItServes(model: ProblemModel, serving: ReadonlyMap<string, number | null>): ProblemModel {
  return {
    ...model,
    minServedShare: 0,
    deployments: model.deployments.map((deployment): ProblemDeployment => {
      const replicas = roominess * (serving.get(deployment.id) ?? 0);
      return {
        ...deployment,
        minReplicas: 0,
        idleMinReplicas: 0,
        maxReplicas: Math.max(deployment.maxReplicas, replicas),
        currentReplicas: replicas,
        readyReplicas: replicas,
        pendingReplicas: 0,
        fixedReplicas: replicas,
      };
    }),
  };
}
