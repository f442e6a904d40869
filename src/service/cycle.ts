import type { GpuCatalogue } from '../core/gpu-types.js';
import type { ModelCatalogue } from '../core/model-types.js';
import type { Plan, PlanNotice } from '../core/plan.js';
import type { PlanningProblem } from '../core/planning-problem.js';
import {
  type Clock,
  type ConsumerSource,
  type DeploymentSnapshot,
  type DeploymentSource,
  type EngineMetrics,
  type GpuNodeSource,
  type ProfileSource,
  type SharedStore,
  type TraceSource,
  Unavailable,
} from '../core/ports.js';
import type { Calendar } from '../demand/calendar.js';
import type { KnownMinute } from '../demand/forecast.js';
import type { ClockSteps } from './clock-steps.js';
import type { Config } from './config.js';
import type { Fleet, ModelState } from './fleet.js';
import type { FleetLimits } from './fleet-limits.js';
import type { InputStates } from './input-states.js';
import type { Logger } from './log.js';
import type { StartupTimes } from './startup-times.js';
import type { Shortage } from './stock-out.js';
import type { StoreEpoch } from './store-epoch.js';
import type { StoredState } from './stored-state.js';
import type { HeldReason } from './view.js';

/** What one pass knows about itself, and what all of its phases work with. */

/** Plans off the event loop. Rejects with InputError for a problem that is refused, with anything else for a fault. */
export interface Planner {
  plan(problem: PlanningProblem, limits: { readonly timeLimitMs: number }): Promise<Plan>;
}

export type PlanningCycleOptions = {
  readonly config: Config;
  readonly clock: Clock;
  /** A steady clock for durations [ms]; it may differ from `clock`, which tells simulated time in a replay. */
  readonly steadyMs: () => number;
  /** Whether somebody set `clock`; absent = nobody can. */
  readonly clockSteps?: ClockSteps;
  readonly store: SharedStore;
  readonly profiles: ProfileSource;
  readonly deployments: DeploymentSource;
  /** Where the objects that scale the deployments are followed; absent or null = nobody looks for them. */
  readonly consumers?: ConsumerSource | null;
  /**
   * Where gpumix scales itself: why it has not scaled a deployment, for people; null = it does not scale. Absent = never.
   */
  readonly whyNotScaled?: (id: string) => string | null;
  /** Where the nodes are followed that pools are counted from; absent or null = pools are those of the configuration. */
  readonly gpuNodes?: GpuNodeSource | null;
  /** Where the engines' own counters come from; absent or null = nobody asks them. */
  readonly engineMetrics?: EngineMetrics | null;
  /** Where demand comes from instead of the store; absent or null = the gateway's records in the store. */
  readonly traceSource?: TraceSource | null;
  readonly planner: Planner;
  readonly catalogue: GpuCatalogue;
  readonly modelCatalogue: ModelCatalogue;
  readonly logger: Logger;
  /** A new name that nothing else has, such as a random UUID. */
  readonly newId: () => string;
  /** Time between two passes [s]; absent = `demand.intervalSeconds`. */
  readonly cadenceSeconds?: number;
  /** Rates before the first window, by model, as a service that ran then would know them; oldest first. */
  readonly knownMinutes?: ReadonlyMap<string, readonly KnownMinute[]>;
  /** Whether it also computes what one GPU type alone would cost, for information; true by default. */
  readonly comparesSingleTypes?: boolean;
};

export type PhaseContext = PlanningCycleOptions & {
  readonly fleet: Fleet;
  readonly stored: StoredState;
  readonly epoch: StoreEpoch;
  readonly inputs: InputStates;
  readonly calendar: Calendar;
  readonly startupTimes: () => StartupTimes;
  /** GPU types that cannot be had at a moment, as far as was seen. */
  readonly shortages: (nowMs: number) => readonly Shortage[];
};

/** One pass. */
export type Cycle = {
  readonly nowMs: number;
  /** The same moment, ISO 8601. */
  readonly at: string;
  readonly errors: { input: string; code: string }[];
  /** Why every model is held; the first reason stands. */
  holdAll: HeldReason | null;
  /** Of the deployments; not synced before phase 1. */
  snapshot: DeploymentSnapshot;
  /** Inputs that this pass read whole. */
  readonly read: Set<'deployments' | 'traces' | 'profiles'>;
  /** What the models share; nothing before phase 5. */
  limits: FleetLimits;
  /** The document of models that were planned together; null where they share nothing, or nothing was planned. */
  joint: PlanningProblem | null;
  /** What the plan says of the fleet and of no model. */
  notices: readonly PlanNotice[];
  nodes: number;
  solver: string;
  planMs: number;
};

/** Models between two turns of the event loop, so that requests are answered during long phases. */
export const modelsPerTurn = 25;

/**
 * The store could not be reached: every model keeps its last plan.
 *
 * @throws the error itself, where it is anything else
 */
export function holdWithoutStore(
  cycle: Cycle,
  { config, inputs }: Pick<PhaseContext, 'config' | 'inputs'>,
  error: unknown,
): void {
  if (!(error instanceof Unavailable)) throw error;
  cycle.holdAll ??= 'redis_unreachable';
  cycle.errors.push({ input: 'traces', code: error.code });
  if (config.redis !== null) {
    inputs.failed('redis', error.message);
    cycle.errors.push({ input: 'redis', code: error.code });
  }
  inputs.failed('traces', error.message);
}

/**
 * The source of the demand could not be read: every model keeps its last plan.
 *
 * @throws the error itself, where it is anything else
 */
export function holdWithoutDemand(
  cycle: Cycle,
  { inputs }: Pick<PhaseContext, 'inputs'>,
  { source, error }: { readonly source: TraceSource; readonly error: unknown },
): void {
  if (!(error instanceof Unavailable)) throw error;
  cycle.holdAll ??= `${source.input}_unreachable`;
  for (const input of ['traces', source.input]) {
    cycle.errors.push({ input, code: error.code });
    inputs.failed(input, error.message);
  }
}

/** A fault that concerns one model holds that model alone. */
export function holdModel(state: ModelState, { logger }: Pick<PhaseContext, 'logger'>, error: unknown): void {
  state.hold ??= 'planning_failed';
  logger.error({ model: state.name, err: error }, `${state.name} cannot be planned: ${sentence(error)}`);
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
