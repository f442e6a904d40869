import type { Explanation } from '../core/explanation.js';
import type { Plan } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import type { EngineLatency, ReplicaConsumer } from '../core/ports.js';
import type { ModelRouting } from '../core/routing.js';
import type { ScaleFaultName } from '../core/scale.js';
import type { ForecasterName } from '../demand/forecast.js';
import type { InFlightSurplus } from '../demand/requests-in-flight.js';
import type { ScaleResult } from './actuation/actuation-state.js';
import type { WithheldReason } from './actuation/scale-decision.js';
import type { Landing } from './landing.js';
import type { HoldRule } from './replica-holds.js';

/**
 * What the HTTP routes, the metrics and the terminal table see of the controller, and what they may ask of it.
 * Reads are synchronous and from memory: a slow Redis or API server never stalls an answer.
 */

/** The seven phases of a cycle, in order; each has a duration metric. */
export const cyclePhases = ['sync', 'deployments', 'demand', 'forecast', 'problem', 'plan', 'publish'] as const;
export type CyclePhase = (typeof cyclePhases)[number];

/** Why the numbers of a model are those of an earlier plan. */
export const heldReasons = [
  'not_synced',
  'nodes_unread',
  'redis_unreachable',
  'kubernetes_unreachable',
  'prometheus_unreachable',
  'no_traces',
  'requests_pending',
  'no_lengths',
  'no_profile',
  'nothing_servable',
  'planning_failed',
  'plan_rejected',
] as const;
export type HeldReason = (typeof heldReasons)[number];

/** The same for people, of a deployment (or a model) that has no number yet. */
export const heldSentences: Readonly<Record<HeldReason, string>> = {
  not_synced: 'the deployments have not been listed yet',
  nodes_unread: 'the nodes and pods that pools are counted from have not been listed yet',
  redis_unreachable: 'the store cannot be reached',
  kubernetes_unreachable: 'the API server cannot be reached',
  prometheus_unreachable: 'Prometheus, which tells the demand, cannot be read',
  no_traces: 'no recent request traces of its model were found',
  requests_pending: 'requests of its model are pending and nothing arrives',
  no_lengths: 'no request of its model has completed with its lengths yet',
  no_profile: 'no deployment of its model has a usable profile',
  nothing_servable: 'no profile of its model serves any of its requests within the SLO',
  planning_failed: 'its model could not be planned',
  plan_rejected: 'the plan of its model failed its check',
};

/** What is published for one deployment. */
export type PublishedReplicas =
  | {
      readonly kind: 'known';
      readonly model: string;
      readonly gpuType: string;
      readonly replicas: number;
      readonly targetReplicas: number;
      readonly status: Plan['status'];
      readonly heldReason: string | null;
      /** ISO 8601: when these numbers were computed. */
      readonly at: string;
    }
  /**
   * No number yet, never reported as 0: of a deployment that gpumix follows, and before every input was read once of any,
   * since nobody can tell a misspelt name from one that is about to be found.
   */
  | { readonly kind: 'not-known'; readonly reason: string }
  | { readonly kind: 'no-such-deployment' };

/** State of one input, for readiness and `gpumix_input_age_seconds`. */
export type InputState = {
  /** redis | kubernetes | nodes | profiles | traces | config | engines */
  readonly input: string;
  readonly ok: boolean;
  /** Seconds since it was last read whole; null = never. */
  readonly ageSeconds: number | null;
  readonly problem: string | null;
};

/** Demand of a model as the last cycle saw it. */
export type DemandView = {
  /** Mean arrivals over the known intervals [requests/s]. */
  readonly rps: number;
  /** Planned-for arrivals [requests/s]. */
  readonly forecastRps: number;
  /** How that came about. */
  readonly forecast: {
    readonly method: ForecasterName;
    /** The forecaster that counts most in it. */
    readonly leader: ForecasterName;
    /** How its history repeats: `day` or `week`; null = the leader uses none. */
    readonly season: string | null;
    /** The largest minute of this time is planned for [s]. */
    readonly horizonSeconds: number;
    /** Cron expression of the calendar entry that it rests on; null = none. */
    readonly event: string | null;
  };
  readonly knownIntervals: number;
  readonly windowIntervals: number;
  readonly idle: boolean;
  readonly pendingRequests: number;
  /** Of these beyond what arrivals, completed lengths and profiles explain; null = too little is known to say. */
  readonly inFlightSurplus: InFlightSurplus | null;
  /** Mean lengths of completed requests; null = unknown. */
  readonly meanInputTokens: number | null;
  readonly meanOutputTokens: number | null;
};

/** What users of a model feel whose replicas are simulated (`demand.replay.engines: simulated`). */
export type SimulatedServiceView = {
  /** Requests that ended in the last so many seconds. */
  readonly windowSeconds: number;
  readonly requests: number;
  /** Of these lost with their replica, or refused by it. */
  readonly failed: number;
  /** Of these never taken by a replica. */
  readonly unserved: number;
  /** Share of them that met the model's `slo`; null = none ended, or it has none. */
  readonly attainment: number | null;
  /** 95th percentile of the time to first token, of those that were answered; null = none was. */
  readonly ttftP95Seconds: number | null;
  /** The same over all requests that ended. */
  readonly sinceStart: { readonly requests: number; readonly attainment: number | null };
};

export type ModelView = {
  readonly name: string;
  readonly status: Plan['status'];
  readonly heldReason: string | null;
  readonly planAt: string | null;
  readonly demand: DemandView | null;
  /**
   * Cheapest plan that uses a single GPU type, at the most of the time for which plans keep what they had [USD/hour]; null = none
   * serves it all, or that time has not been seen yet.
   */
  readonly singleTypeUsdPerHour: number | null;
  readonly singleTypeGpu: string | null;
  /** What its requests see; null = its replicas are not simulated. */
  readonly simulated: SimulatedServiceView | null;
  readonly deployments: readonly DeploymentView[];
};

export type DeploymentView = {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly gpuType: string;
  readonly currentReplicas: number | null;
  readonly readyReplicas: number | null;
  readonly pendingReplicas: number | null;
  /** Null = not known. */
  readonly replicas: number | null;
  readonly targetReplicas: number | null;
  readonly usdPerReplicaHour: number | null;
  readonly override: { readonly replicas: number; readonly expiresAt: string | null } | null;
  readonly paused: boolean;
  /** Why the plan has more of it than the demand needs now; null = it has not. */
  readonly heldUp: HeldUpView | null;
  /** What its engines say of its profile; null = they are not read, or it has none. */
  readonly profileDrift: ProfileDriftView | null;
  /** Whether its Deployment asks for what is published; null = nobody is meant to do it, or nobody can tell. */
  readonly landing: Landing | null;
  /** What scales it, as far as was seen. */
  readonly consumers: readonly ConsumerView[];
  /** What became of its number where gpumix scales it itself; null = it does not, or has not come to it yet. */
  readonly actuation: DeploymentActuationView | null;
  readonly notices: readonly { readonly code: string; readonly message: string }[];
};

/** An object that scales a deployment. */
export type ConsumerView = Omit<ReplicaConsumer, 'deployment'>;

/** States of a number that gpumix writes itself; `waiting`: queued, or the server asked to wait. */
export const actuationStates = ['landed', 'scaled', 'dry-run', 'waiting', 'withheld', 'failed'] as const;

export type DeploymentActuationView = {
  readonly state: (typeof actuationStates)[number];
  /** Why it is withheld or failed. */
  readonly why: WithheldReason | ScaleFaultName | null;
  /** The same for people. */
  readonly message: string | null;
  /** ISO 8601: since when. */
  readonly at: string;
};

/** Direct actuation as a whole: see docs/actuation.md. */
export type ActuationView = {
  readonly mode: 'scale' | 'dry-run';
  /** Why numbers do not land although they should, for people; null = they do. */
  readonly problem: string | null;
  /** Why Events are not written, which scales all the same; null = they are. */
  readonly eventProblem: string | null;
  /** ISO 8601; null = nothing was written since the start. */
  readonly lastWriteAt: string | null;
  /** Deployments that wait for their turn. */
  readonly waiting: number;
  /** Deployments whose number is not written, by reason. */
  readonly withheld: Readonly<Record<WithheldReason, number>>;
  /** Deployments that could not be scaled when it was last tried, by fault. */
  readonly failing: Readonly<Partial<Record<ScaleFaultName, number>>>;
  /** Attempts since the start. */
  readonly results: Readonly<Record<ScaleResult, number>>;
  readonly events: { readonly written: number; readonly failed: number };
};

/** Replicas that are kept for a while: see docs/decisions/stability.md. */
export type HeldUpView = {
  readonly rule: HoldRule;
  readonly replicas: number;
  /** The plan without holds has so many. */
  readonly wantedReplicas: number;
  /** ISO 8601: when the rule lets them go, unless they are planned anew; null = when the demand falls further. */
  readonly until: string | null;
};

/** The engines of a deployment beside its profile: see docs/decisions/profile-drift.md. */
export type ProfileDriftView = {
  /** Factor on the profile's throughputs in the plan: 1 = its own numbers; null = correction is switched off. */
  readonly correctionFactor: number | null;
  /** Observed load of a replica, 1 = the profile's throughput; null = not known. */
  readonly loadRatio: number | null;
  /** Requests that the observation rests on; null = too few. */
  readonly requests: number | null;
  /** ISO 8601 */
  readonly observedAt: string | null;
  readonly latencies: readonly {
    readonly latency: EngineLatency;
    /** Means [s]; null = not compared now. */
    readonly observedSeconds: number | null;
    readonly profileSeconds: number | null;
    /** How many times as slow as the profile the engines can be, by this observation alone. */
    readonly lowestRatio: number | null;
    readonly highestRatio: number | null;
    /** How many times as slow as the profile they are taken to be, by all recent ones; null = nothing can be said. */
    readonly driftRatio: number | null;
  }[];
  /** Why nothing is compared now; null = something is. */
  readonly nothingBecause: string | null;
};

/** One decision that changed something, kept in a bounded history. */
export type DecisionRecord = {
  /** ISO 8601 */
  readonly at: string;
  readonly model: string;
  readonly status: Plan['status'];
  readonly heldReason: string | null;
  readonly usdPerHour: number;
  readonly rps: number;
  readonly changes: readonly {
    readonly deployment: string;
    readonly from: number | null;
    readonly to: number | null;
    readonly reason: string;
  }[];
};

/** A GPU type of which fewer can be had than were asked for. */
export type GpuShortage = {
  readonly gpuType: string;
  /** GPUs that were asked for and did not come. */
  readonly shortGpus: number;
  /** GPUs that the plan may use meanwhile. */
  readonly usableGpus: number;
  /** Unix milliseconds on the controller's clock: then more may be asked for again. */
  readonly until: number;
};

/** One finished cycle. */
export type CycleReport = {
  /** Unix milliseconds on the controller's clock. */
  readonly at: number;
  readonly phaseSeconds: Readonly<Record<CyclePhase, number>>;
  readonly plan: Plan | null;
  readonly errors: readonly { readonly input: string; readonly code: string }[];
};

export interface ControllerView {
  readonly mode: 'live' | 'shadow';
  plan(): Plan | null;
  problem(): PlanningProblem | null;
  models(): readonly ModelView[];
  replicasOf(namespace: string, name: string): PublishedReplicas;
  /** What a router of a model should follow now; without shares where there are none. */
  routingOf(model: string): ModelRouting;
  inputs(): readonly InputState[];
  /** GPU types that cannot be had now. */
  shortages(): readonly GpuShortage[];
  /** Null where gpumix scales nothing itself. */
  actuation(): ActuationView | null;
  /** True once a first cycle has read every input. */
  ready(): boolean;
  history(query: {
    readonly model?: string;
    readonly sinceMs?: number;
    readonly limit: number;
  }): readonly DecisionRecord[];
  onCycle(listener: (report: CycleReport) => void): void;
}

/** What users may ask of the controller. Outcomes are values; a rejection is a bug. */
export interface ControllerCommands {
  /** POST /monitor: follow a deployment (again). */
  follow(namespace: string, name: string): 'started' | 'already-started' | 'no-such-deployment';
  /** DELETE /monitor: leave a deployment out of every plan until it is followed again. */
  unfollow(namespace: string, name: string): Promise<'stopped' | 'not-followed'>;
  /** GET /update_profile: read the profiles of a model now. */
  refreshProfiles(model: string): Promise<'updated' | 'no-such-model' | 'failed'>;
  /** PUT /scale: fixes whole replicas, for `ttlSeconds` or until cleared. */
  fixReplicas(
    namespace: string,
    name: string,
    replicas: number,
    ttlSeconds: number | null,
  ): Promise<'fixed' | 'no-such-deployment'>;
  /**
   * PUT /scale with −1: clears the fixed replicas of every deployment of that deployment's model.
   *
   * @returns the ids (namespace/name) of those that were fixed
   */
  clearFixed(namespace: string, name: string): Promise<readonly string[] | 'no-such-deployment'>;
  /** POST /api/v1/plan: plans another problem, bounded in time, without publishing it. */
  whatIf(problem: PlanningProblem): Promise<Plan>;
  /** GET /api/v1/explain: why the plan of the last problem is as it is; `model` null = all of it. */
  explain(problem: PlanningProblem, model: string | null): Promise<Explanation | 'busy'>;
}
