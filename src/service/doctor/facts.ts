import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { AibrixKeys, ClockReading, ExternalMetricsApi, ScalingObject, Workloads } from '../../core/inspection.js';
import type { ProfileReading, Reading, ReplicaConsumer } from '../../core/ports.js';

/** What was seen of a live set-up at one moment: the whole input of a diagnosis. */

export type Sight<Value> =
  /** `missing` says what of it was not looked at; null = it is whole. */
  | { readonly kind: 'seen'; readonly value: Value; readonly missing: string | null }
  /** `isFault`: it should be there; otherwise nobody needs it, or may read it. */
  | { readonly kind: 'unseen'; readonly because: string; readonly isFault: boolean };

export type DoctorSettings = {
  readonly intervalSeconds: number;
  /** Whether demand comes out of the gateway's traces. */
  readonly readsTraces: boolean;
  /** What one replica counts on AIBrix's endpoint. */
  readonly aibrixUnit: number;
  /** Who has to follow what is published: nobody in shadow mode. */
  readonly followedBy: 'autoscalers' | 'gpumix' | 'nobody';
  readonly pools: {
    readonly list: readonly { readonly gpuType: string; readonly gpus: number | null }[];
    readonly areCounted: boolean;
  };
  /** Where the profiles are; null = in Redis. */
  readonly profilesDirectory: string | null;
};

/** A deployment whose pods serve requests now, and what shows it. */
export type BusyDeployment = { readonly id: string; readonly model: string; readonly shownBy: string };

export type DoctorFacts = {
  /** Unix [ms] */
  readonly atMs: number;
  readonly settings: DoctorSettings;
  readonly catalogue: GpuCatalogue;
  readonly redisClocks: Sight<readonly ClockReading[]>;
  readonly apiClock: Sight<ClockReading>;
  readonly keys: Sight<AibrixKeys>;
  /** Newest record of each model. */
  readonly newestTraces: Sight<ReadonlyMap<string, { readonly endSeconds: number; readonly reading: Reading }>>;
  /** Models whose records were missing, and that were looked for once more after an interval: those still without. */
  readonly untraced: Sight<readonly BusyDeployment[]>;
  readonly workloads: Sight<Workloads>;
  readonly consumers: Readonly<Record<ReplicaConsumer['kind'], Sight<readonly ScalingObject[]>>>;
  readonly externalMetrics: Sight<ExternalMetricsApi>;
  /** By id of the deployment. */
  readonly profiles: Sight<ReadonlyMap<string, ProfileReading>>;
};

/** Where nothing was seen. */
export const noWorkloads: Workloads = { deployments: [], slips: [], aibrix: [] };

/** Why a kind has no objects where the cluster does not serve it. */
export const notInstalled = 'this cluster does not have it';

/** What was seen, or the given instead of what was not. */
export function seenOr<Value>(sight: Sight<Value>, instead: Value): Value {
  return sight.kind === 'seen' ? sight.value : instead;
}
