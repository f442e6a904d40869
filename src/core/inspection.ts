import type { ObservedDeployment, ReplicaConsumer } from './ports.js';

/**
 * The ports of one look at a live set-up from outside the service: a Redis and a cluster as they are at one moment. Nothing
 * is followed and nothing written.
 */

/** An answer, and what of it was left out; null = it is whole. */
export type Look<Value> = { readonly value: Value; readonly missing: string | null };

/** What a clock elsewhere showed, and between which moments here. Unix [ms] */
export type ClockReading = {
  readonly where: string;
  /** It showed a moment of this range; a clock of whole seconds is a second wide. */
  readonly shownMs: readonly [earliest: number, latest: number];
  /** Our clock when it was asked, and when the answer was here. */
  readonly askedMs: readonly [before: number, after: number];
};

/** What one gateway says of one pod. */
export type PodActivity = {
  readonly gateway: string;
  readonly namespace: string;
  readonly pod: string;
  readonly running: number;
  /** Requests that it has seen end since it started; null = not told. */
  readonly completed: number | null;
};

export type AibrixKeys = {
  /** Newest interval record of each model. Unix [s] */
  readonly newestTraces: ReadonlyMap<string, number>;
  /** Names of keys, whole. */
  readonly profiles: readonly string[];
  readonly pods: readonly PodActivity[];
  /** False where there were more keys than are looked at. */
  readonly complete: boolean;
};

export interface RedisInspection {
  /** One for each server; rejects with `Unavailable`. */
  clocks(): Promise<readonly ClockReading[]>;
  keys(): Promise<AibrixKeys>;
  /** Anew, of pods that were seen before: the counters that still are there. */
  activity(pods: readonly PodActivity[]): Promise<readonly PodActivity[]>;
  close(): Promise<void>;
}

/** An object that scales a deployment, and what made it. */
export type SeenConsumer = ReplicaConsumer & {
  readonly owner: { readonly kind: string; readonly name: string } | null;
};

/** How a number reaches a consumer. */
export type MetricWay =
  /** Kubernetes' external metrics API. */
  | 'external-metrics'
  /** An HTTP address that AIBrix's controller asks. */
  | 'endpoint'
  /** KEDA asks an HTTP address. */
  | 'metrics-api'
  /** KEDA asks a Prometheus server. */
  | 'prometheus'
  /** KEDA asks over gRPC. */
  | 'external-scaler'
  /** CPU, memory, pods, a queue: nothing that gpumix publishes. */
  | 'other';

export type ConsumerMetric = {
  /** Where it stands in the object: `spec.metrics[0]`. */
  readonly place: string;
  readonly way: MetricWay;
  /** The metric, URL or query that it names, cut to what people read. */
  readonly asks: string;
  /** Whether that is a number of gpumix; null = nobody can tell from the object. */
  readonly isOurs: boolean | null;
  /** Deployment whose number it asks for, as far as it says: namespace/name. */
  readonly deployment: string | null;
  /** Labels that it selects by; null = none. */
  readonly selector: Readonly<Record<string, string>> | null;
  /** `Value`, `AverageValue`, as it is written; null = not said. */
  readonly targetType: string | null;
  /** What one replica stands for; null = not said, or no number. */
  readonly target: number | null;
  /** The same as it is written. */
  readonly targetText: string | null;
  /** Further settings of a trigger of KEDA. */
  readonly options: Readonly<Record<string, string>>;
};

export type ConsumerMetrics = {
  readonly metrics: readonly ConsumerMetric[];
  /** Relative steps that it does not make; null = not said. */
  readonly tolerance: { readonly up: number | null; readonly down: number | null };
  /** `KPA`, `APA`, `HPA` of a PodAutoscaler; null = none said. */
  readonly strategy: string | null;
};

/** A Deployment that was probably meant to serve a model, and is not followed. */
export type ModelLabelSlip = {
  /** namespace/name */
  readonly id: string;
  /** What stands there: a key, and where. */
  readonly found: string;
};

/** A part of AIBrix on which it depends whether gpumix hears of requests and is heard. */
export type AibrixComponent = {
  readonly part: 'gateway' | 'controller';
  /** namespace/name of its Deployment. */
  readonly id: string;
  readonly image: string;
  /** Null where the image does not say: `nightly`, a digest. */
  readonly version: readonly [major: number, minor: number, patch: number] | null;
  /** `spec.replicas`; 1 where it is absent, as Kubernetes has it. */
  readonly replicas: number;
  /** Environment that the Deployment itself states; what comes out of ConfigMaps is null. */
  readonly environment: Readonly<Record<string, string | null>>;
};

export type Workloads = {
  readonly deployments: readonly ObservedDeployment[];
  readonly slips: readonly ModelLabelSlip[];
  readonly aibrix: readonly AibrixComponent[];
};

/** What an autoscaler's own controller says that it cannot do. Texts are cut, and without control characters. */
export type ConsumerFailure = {
  /** `ScalingActive=False` */
  readonly condition: string;
  /** One word of the controller's; null = none. */
  readonly reason: string | null;
  readonly message: string | null;
};

/** An object that scales a Deployment, with what it asks for, and what it could not do last. */
export type ScalingObject = SeenConsumer & ConsumerMetrics & { readonly failures: readonly ConsumerFailure[] };

/** The APIService of external.metrics.k8s.io and what it serves. */
export type ExternalMetricsApi = {
  /** Null = nobody owns the group. */
  readonly owner: { readonly service: string; readonly available: boolean | null } | null;
  /** Names that discovery lists; null = it could not be read. */
  readonly metrics: readonly string[] | null;
};

/** A Prometheus server, as far as engines are concerned. */
export interface PrometheusInspection {
  /** Its URL, without user, password and query. */
  readonly server: string;
  /**
   * Names of its series that look like those of engines, sorted, and not all of many. Rejects with `Unavailable`.
   */
  engineSeries(): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** Each rejects where it cannot be read, and ends with the signal. */
export interface ClusterInspection {
  /** Where it is asked: the URL of the API server, without credentials. */
  readonly server: string;
  /** Null where its answers have no date. */
  clock(signal: AbortSignal): Promise<ClockReading | null>;
  workloads(signal: AbortSignal): Promise<Look<Workloads>>;
  consumers(kind: ReplicaConsumer['kind'], signal: AbortSignal): Promise<Look<readonly ScalingObject[]>>;
  externalMetrics(signal: AbortSignal): Promise<Look<ExternalMetricsApi>>;
}
