import type { Plan, PlanNotice } from '../core/plan.js';
import type { BucketDemand, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import type { ObservedDeployment } from '../core/ports.js';
import type { BucketRoute } from '../core/routing.js';
import type { DemandForecaster } from '../demand/forecast.js';
import type { DemandHistory, DemandWindow } from '../demand/window.js';
import type { PoolTraits } from '../profiling/pooling.js';
import type { ModelPlan } from './model-plan.js';
import type { ModelProblem } from './problem.js';
import { type PublishedState, restoredPart } from './published-state.js';
import type { ModelHolds } from './replica-holds.js';
import type { Room, SingleType, SingleTypePrice } from './single-type.js';
import type { DemandView, HeldReason } from './view.js';

/** One model, from the first time that a deployment of it is seen until the last one is gone. */
export type ModelState = {
  readonly name: string;
  deployments: readonly ObservedDeployment[];
  /** Null until the store was read once: what an earlier process remembered of the model comes first. */
  window: DemandWindow | null;
  /** There as soon as its window is. */
  forecaster: DemandForecaster | null;
  /** What this cycle saw of its window; null = nothing yet. */
  history: DemandHistory | null;
  demand: DemandView | null;
  /** Planned rate by length. */
  planDemand: readonly BucketDemand[];
  /** Why this cycle does not plan it; null = planned, or about to be. */
  hold: HeldReason | null;
  /** This cycle's problem; null while it is held. */
  built: ModelProblem | null;
  /** The last good plan. `problem` is null for one of an earlier process. */
  planned: { readonly problem: ProblemModel | null; readonly part: ModelPlan } | null;
  /** Shares that a router should follow now: of what serves, not of what is planned. */
  routing: readonly BucketRoute[];
  /** Requests in flight on a full replica of each deployment, at the mix of this cycle; those of which it is known. */
  fullInFlight: ReadonlyMap<string, number>;
  /** Of those whose replicas share load, what they gain by it. */
  pools: ReadonlyMap<string, PoolTraits>;
  /** Names what `routing` was computed for, where that is not the plan itself; null = it is the plan's. */
  routedFor: string | null;
  /** What this cycle's plan keeps above what the demand needs now; null = nothing. */
  holds: ModelHolds | null;
  notices: readonly PlanNotice[];
  /** What one GPU type would cost, and what that was computed for and when. */
  single: {
    readonly rps: number;
    readonly demand: readonly BucketDemand[];
    readonly deployments: readonly ProblemDeployment[];
    readonly room: Room;
    /** Of the time for which plans keep what they had, too; the last is of this demand. */
    readonly recent: readonly { readonly atMs: number; readonly prices: readonly SingleTypePrice[] }[];
    readonly cheapest: SingleType | null;
    /** When this choice of deployments was first compared. */
    readonly sinceMs: number;
    readonly atMs: number;
  } | null;
  traceProblem: string | null;
};

/** What is published for one deployment now. */
export type PublishedEntry = {
  readonly model: string;
  readonly gpuType: string;
  readonly replicas: number | null;
  readonly targetReplicas: number | null;
  /**
   * What gpumix itself published last: `replicas`, except while a person's number is published in its place, and on the way
   * back from there. Null = nothing.
   */
  readonly ownReplicas: number | null;
  /**
   * What was published when it could last be planned, with a profile and a price, and no person had fixed it; null = it
   * never could.
   */
  readonly plannedReplicas: number | null;
  readonly status: Plan['status'];
  readonly heldReason: string | null;
  readonly at: string;
  readonly reason: string;
  /** Published by an earlier process, and not planned since. */
  readonly restored: boolean;
};

/**
 * The models and deployments that are followed, and the number that is published for each deployment.
 *
 * A model comes with its first deployment and goes with its last one, and with it all that was known of it.
 */
export class Fleet {
  readonly #currentIsPublished: boolean;
  readonly #saved: () => PublishedState;
  readonly #models = new Map<string, ModelState>();
  #observed: ReadonlyMap<string, ObservedDeployment> = new Map();
  readonly #readyWhenTold = new Map<string, number>();
  #published: ReadonlyMap<string, PublishedEntry> = new Map();

  /**
   * @param options.currentIsPublished what runs is what was last published: a configuration cannot say what runs
   * @param options.saved what was last published, by this process or an earlier one
   */
  constructor(options: { readonly currentIsPublished: boolean; readonly saved: () => PublishedState }) {
    this.#currentIsPublished = options.currentIsPublished;
    this.#saved = options.saved;
  }

  get models(): ReadonlyMap<string, ModelState> {
    return this.#models;
  }

  /** Followed deployments, by id. */
  get observed(): ReadonlyMap<string, ObservedDeployment> {
    return this.#observed;
  }

  /** By deployment id. */
  get published(): ReadonlyMap<string, PublishedEntry> {
    return this.#published;
  }

  /**
   * Ready replicas for a plan, by deployment id: where the view does not tell them now, as many as when it last did, and
   * no more than are asked for. A gap in a view must not look like a source that never tells, where the old replicas go
   * before anybody saw the new ones. Null = it never told since the deployment is there.
   */
  readyReplicas(id: string): number | null {
    const seen = this.#observed.get(id);
    if (seen === undefined) return null;
    const told = this.#readyWhenTold.get(id) ?? null;
    return seen.readyReplicas ?? (told === null ? null : Math.min(told, seen.currentReplicas ?? told));
  }

  modelsByName(): readonly ModelState[] {
    return [...this.#models.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  /** Takes a complete view: models appear, change and go with their deployments. */
  follow(seen: readonly ObservedDeployment[], unfollowed: ReadonlySet<string>): void {
    const observed = new Map<string, ObservedDeployment>();
    const byModel = new Map<string, ObservedDeployment[]>();
    for (const each of seen) {
      if (unfollowed.has(each.id)) continue;
      const deployment = this.#currentIsPublished
        ? { ...each, currentReplicas: this.#published.get(each.id)?.replicas ?? null }
        : each;
      observed.set(each.id, deployment);
      if (each.readyReplicas !== null) this.#readyWhenTold.set(each.id, each.readyReplicas);
      const ofModel = byModel.get(each.model);
      if (ofModel === undefined) byModel.set(each.model, [deployment]);
      else ofModel.push(deployment);
    }
    this.#observed = observed;
    for (const id of this.#readyWhenTold.keys()) if (!observed.has(id)) this.#readyWhenTold.delete(id);
    for (const name of this.#models.keys()) if (!byModel.has(name)) this.#models.delete(name);
    for (const [name, deployments] of byModel) {
      const state = this.#models.get(name);
      if (state === undefined) this.#models.set(name, this.#newModel(name, deployments));
      else state.deployments = deployments;
    }
  }

  #newModel(name: string, deployments: readonly ObservedDeployment[]): ModelState {
    return {
      name,
      deployments,
      window: null,
      forecaster: null,
      history: null,
      demand: null,
      planDemand: [],
      hold: null,
      built: null,
      planned: this.#savedPlanOf(name),
      routing: [],
      fullInFlight: new Map(),
      pools: new Map(),
      routedFor: null,
      holds: null,
      notices: [],
      single: null,
      traceProblem: null,
    };
  }

  /** Leaves a deployment out at once. */
  remove(id: string): void {
    this.#observed = without(this.#observed, id);
    this.#published = without(this.#published, id);
  }

  publish(entries: ReadonlyMap<string, PublishedEntry>): void {
    this.#published = entries;
  }

  /** Begins with what an earlier process published; numbers of this one stand. */
  restore(now: string): void {
    const published = new Map<string, PublishedEntry>();
    for (const model of this.#saved().models) {
      for (const saved of model.deployments) {
        const { id, gpuType, replicas, targetReplicas, ownReplicas, plannedReplicas, reason } = saved;
        published.set(id, {
          model: model.name,
          gpuType,
          replicas,
          targetReplicas,
          // A document of an older gpumix does not tell what a person had fixed.
          ownReplicas: ownReplicas === undefined ? replicas : ownReplicas,
          plannedReplicas: plannedReplicas ?? null,
          status: 'held',
          heldReason: 'not_synced',
          at: model.planAt ?? now,
          reason,
          restored: true,
        });
      }
    }
    for (const [id, entry] of this.#published) if (entry.replicas !== null) published.set(id, entry);
    this.#published = published;
    for (const state of this.#models.values()) state.planned ??= this.#savedPlanOf(state.name);
  }

  #savedPlanOf(name: string): ModelState['planned'] {
    const saved = this.#saved().models.find((model) => model.name === name);
    return saved === undefined ? null : { problem: null, part: restoredPart(saved) };
  }
}

function without<Value>(map: ReadonlyMap<string, Value>, key: string): ReadonlyMap<string, Value> {
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}
