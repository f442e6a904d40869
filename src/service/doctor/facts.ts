import type { GpuCatalogue } from '../../core/gpu-types.js';
import type { AibrixKeys, ClockReading, ExternalMetricsApi, ScalingObject, Workloads } from '../../core/inspection.js';
import type { ObservedDeployment, ProfileReading, Reading, ReplicaConsumer } from '../../core/ports.js';
import type { ScaleAnswer } from '../../core/scale.js';
import type { PrometheusLook } from './gather-engines.js';

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
  /** File of the configuration; null = none was given. */
  readonly configuration: string | null;
  /** `shadow`: nobody is given another number than what runs; `from` says where that is set, null = nowhere. */
  readonly mode: { readonly value: 'live' | 'shadow'; readonly from: string | null };
  /** With `scale` gpumix follows what is published, else autoscalers have to. */
  readonly actuate: 'none' | 'dry-run' | 'scale';
  /** Whether the configuration lists the deployments; otherwise they are the labelled Deployments of the cluster. */
  readonly isListed: boolean;
  readonly pools: {
    readonly list: readonly { readonly gpuType: string; readonly gpus: number | null }[];
    readonly areCounted: boolean;
  };
  /** Where the profiles are; null = in Redis. */
  readonly profilesDirectory: string | null;
};

/** A deployment whose pods serve requests now, and what shows it. */
export type BusyDeployment = { readonly id: string; readonly model: string; readonly shownBy: string };

/** What was looked at, as people name it, never with a password; null = there is none. */
export type DoctorAddresses = {
  readonly redis: string | null;
  readonly kubernetes: string | null;
  readonly prometheus: string | null;
};

export type DoctorFacts = {
  /** Unix [ms] */
  readonly atMs: number;
  readonly addresses: DoctorAddresses;
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
  /** The `scale` of what gpumix is to scale, by id of the deployment. */
  readonly scales: Sight<ReadonlyMap<string, { readonly target: string; readonly answer: ScaleAnswer }>>;
  readonly prometheus: Sight<PrometheusLook>;
  /** Of the folder of profiles, relative to it. */
  readonly profileFiles: Sight<readonly string[]>;
  /** Why engines of `engines.scrape` cannot be read. */
  readonly scraped: Sight<readonly string[]>;
  /** By id of the deployment. */
  readonly profiles: Sight<ReadonlyMap<string, ProfileReading>>;
};

/** Where nothing was seen. */
export const noWorkloads: Workloads = { deployments: [], slips: [], aibrix: [] };

/** Why a kind has no objects where the cluster does not serve it. */
export const notInstalled = 'this cluster does not have it';

/** Where a deployment is found by its owner. */
export function deploymentPlace({ settings }: Pick<DoctorFacts, 'settings'>, { id }: Pick<ObservedDeployment, 'id'>) {
  return settings.isListed ? `deployments.list ${id}` : `Deployment ${id}`;
}

/** Absent kinds are seen: they have no objects. */
export function isWholeKind(sight: DoctorFacts['consumers'][keyof DoctorFacts['consumers']]): boolean {
  return sight.kind === 'seen' ? sight.missing === null : !sight.isFault && sight.because === notInstalled;
}

/** What was seen, or the given instead of what was not. */
export function seenOr<Value>(sight: Sight<Value>, instead: Value): Value {
  return sight.kind === 'seen' ? sight.value : instead;
}
