import type { InputError } from './input-error.js';
import type { GpuProfile } from './profile.js';

/**
 * The outside world as the controller sees it. Implementations live in `adapters/`, are chosen in `service/compose`,
 * and pass the contract tests of their port.
 */

/** Time, so that tests travel in it. */
export interface Clock {
  /** Unix milliseconds. */
  now(): number;
}

/** Thrown by a port when its outside world cannot be reached or answers nonsense; the caller holds its last plan. */
export class Unavailable extends Error {
  /** Short machine-readable cause: `redis_unreachable`, `kubernetes_unreachable`, … */
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'Unavailable';
    this.code = code;
  }
}

/** Names one interval record of request traces: events of [endSeconds − interval, endSeconds). */
export type TraceKey = { readonly model: string; readonly endSeconds: number };

/** What one key of the store held. `absent` is an answer; `failed` means that this one key could not be read. */
export type Reading =
  | { readonly kind: 'present'; readonly text: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'failed'; readonly message: string };

/** Which server answered, and since when it has run: an emptied or replaced store is a different one. */
export type StoreIdentity = {
  readonly runId: string;
  readonly startedAtMs: number;
  /** How far its clock was ahead of ours when it answered [ms]; absent or null = it does not tell the time. */
  readonly aheadMs?: number | null;
};

/** What a source of demand says of one interval. `unknown`: it cannot tell what arrived, which is never zero. */
export type TraceReading = Reading | { readonly kind: 'unknown' };

/**
 * Where interval records come from, if not from the shared store: a Prometheus server that scrapes the engines.
 *
 * `absent` means what `DemandWindow` takes it for; a source that saw nothing arrive says so with a record, and one that
 * did not see says `unknown`.
 */
export interface TraceSource {
  /** Names it in readiness, metrics and errors. */
  readonly input: 'prometheus';
  /** Whose records these are, and since when it has kept them. */
  identity(): Promise<StoreIdentity>;
  /**
   * In the order of the keys. Rejects with `Unavailable` where the source as a whole cannot be read, never with an empty
   * answer instead.
   *
   * @param keys `readyReplicas`: how many of the model serve now, as the cluster says, so that a source that sees far fewer
   *   knows that it does not see all; null or absent = nobody tells
   */
  readTraces(
    keys: readonly (TraceKey & { readonly readyReplicas?: number | null })[],
  ): Promise<readonly TraceReading[]>;
  /** What people should know of the last answers although they were used, in one sentence; null = nothing. */
  readonly concern: string | null;
  close(): Promise<void>;
}

/** Names one profile record. `deployment` is the deployment's name without namespace. */
export type ProfileKey = { readonly model: string; readonly deployment: string };

/**
 * The store that the gateway, the profiles and gpumix share: Redis, or memory in the quickstart and tests.
 *
 * Every method rejects with `Unavailable` when the store cannot be reached (never an empty answer instead), and
 * answers in the order of its arguments. A single bad key is a `failed` reading, not a rejection.
 */
export interface SharedStore {
  identity(): Promise<StoreIdentity>;
  /** Exactly the named interval records; never a scan. Values over 1 MiB are `failed`. */
  readTraces(keys: readonly TraceKey[]): Promise<readonly Reading[]>;
  /** Writes interval records as the gateway does, each with a time to live of 10 minutes. */
  writeTraces(records: readonly (TraceKey & { readonly text: string })[]): Promise<void>;
  /** Exactly the named profiles; never a scan. Values over 1 MiB are `failed`. */
  readProfiles(keys: readonly ProfileKey[]): Promise<readonly Reading[]>;
  writeProfile(key: ProfileKey, text: string): Promise<void>;
  /**
   * A small named document of gpumix's own (overrides, models seen), or null. Survives a restart of gpumix. Rejects with
   * `InputError` where something lies there that is no text of ours; the next write replaces it.
   */
  readState(name: string): Promise<string | null>;
  /** Rejects with `RangeError` for a text of more than 8 MiB. */
  writeState(name: string, text: string): Promise<void>;
  /** Appends to a named list (decision history) and keeps its newest `keep` entries. */
  appendToList(name: string, entries: readonly string[], keep: number): Promise<void>;
  /** Newest last, at most `count` of the newest. `InputError` as for `readState`. */
  readList(name: string, count: number): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** One reading of a profile source. */
export type ProfileReading =
  | { readonly kind: 'present'; readonly profile: GpuProfile }
  | { readonly kind: 'absent' }
  | { readonly kind: 'bad'; readonly error: InputError };

/** Where profiles come from: the shared store, or a directory of files. */
export interface ProfileSource {
  /** In the order of the keys. Rejects with `Unavailable` when the source as a whole cannot be read. */
  read(keys: readonly (ProfileKey & { readonly id: string })[]): Promise<readonly ProfileReading[]>;
}

/** A running total of a latency: the sum over how many observations. */
export type LatencyTotal = { readonly seconds: number; readonly count: number };

/** Latencies that engines tell of themselves and that profiles hold. */
export const engineLatencies = ['ttft', 'tpot', 'e2e'] as const;
export type EngineLatency = (typeof engineLatencies)[number];

/** What one engine process has counted since it started, at one moment. */
export type EngineSample = {
  /** Deployment that it is a replica of: namespace/name. */
  readonly deployment: string;
  /** Names the process among those of its deployment: a pod, a URL. */
  readonly instance: string;
  /** Unix milliseconds at which it said so. */
  readonly atMs: number;
  readonly promptTokens: number;
  readonly generationTokens: number;
  /** Null where the engine does not tell it. */
  readonly latencies: Readonly<Record<EngineLatency, LatencyTotal | null>>;
};

/** One reading of the engines. */
export type EngineReading = {
  readonly samples: readonly EngineSample[];
  /** Why some engines could not be read, a sentence each. */
  readonly problems: readonly string[];
};

/** Where the engines' own counters come from: a Prometheus server, or their `/metrics`. */
export interface EngineMetrics {
  /** Rejects with `Unavailable` when nothing could be read at all. */
  read(
    deployments: readonly { readonly id: string; readonly namespace: string; readonly name: string }[],
  ): Promise<EngineReading>;
  close(): Promise<void>;
}

/** Why something about a deployment is not as its owner meant it; shown in plans as a warning. */
export type DeploymentNotice = { readonly code: string; readonly message: string };

/** A deployment as its cluster (or the config file) describes it at one moment. */
export type ObservedDeployment = {
  /** namespace/name */
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly model: string;
  /** Canonical GPU type; null where nothing names one. */
  readonly gpuType: string | null;
  readonly gpusPerReplica: number;
  /** From the annotation or the config; null = take the profile's, then the catalogue's. */
  readonly usdPerReplicaHour: number | null;
  readonly minReplicas: number;
  /** Null where the deployment carries no idle floor at all (which differs from an explicit 0). */
  readonly idleMinReplicas: number | null;
  readonly maxReplicas: number;
  /** True where its owner says no maximum, so that of the object that scales it binds; absent = false. */
  readonly maxReplicasIsAssumed?: boolean;
  /** `spec.replicas`; null = not known. */
  readonly currentReplicas: number | null;
  readonly readyReplicas: number | null;
  readonly pendingReplicas: number | null;
  readonly startupSeconds: number | null;
  readonly maxTokens: number | null;
  /** Published replicas stay the current ones while true. */
  readonly paused: boolean;
  readonly notices: readonly DeploymentNotice[];
};

/** Where deployments come from: a Kubernetes watch, or the config file. */
export interface DeploymentSource {
  /** Starts watching; resolves without waiting for the first sync. */
  start(): Promise<void>;
  /**
   * The last complete view. `synced` is false until the first full list; `staleSince` is set (Unix ms) while the
   * outside world cannot be reached, and the view then is the last known one, never an empty one.
   */
  snapshot(): DeploymentSnapshot;
  /** Called after every change of the view. */
  onChange(listener: () => void): void;
  stop(): Promise<void>;
}

export type DeploymentSnapshot = {
  readonly synced: boolean;
  readonly staleSince: number | null;
  /** Why it is stale, for people. */
  readonly problem: string | null;
  readonly deployments: readonly ObservedDeployment[];
};

/** What the bearer of a token asks for: the method in small letters and the path without query, as Kubernetes writes them. */
export type Wish = { readonly verb: string; readonly path: string };

export type Verdict =
  /** `user` is for the log: who the token speaks for. */
  | { readonly kind: 'allowed'; readonly user: string }
  /** The token speaks for nobody (any more). */
  | { readonly kind: 'unknown-token' }
  | { readonly kind: 'forbidden'; readonly user: string; readonly reason: string };

/** Says who a bearer token speaks for, and whether they may do what they ask for. */
export interface TokenAuthority {
  /**
   * Rejects with `Unavailable` where nobody can tell now, which is never a permission.
   *
   * @param token as it was sent; it never reaches a message
   */
  judge(token: string, wish: Wish): Promise<Verdict>;
}
/** Objects of a cluster that scale deployments by what gpumix publishes. */
export const consumerKinds = ['HorizontalPodAutoscaler', 'ScaledObject', 'PodAutoscaler'] as const;

/** An object that scales a deployment. */
export type ReplicaConsumer = {
  readonly kind: (typeof consumerKinds)[number];
  readonly namespace: string;
  readonly name: string;
  /** Id of the deployment whose object it scales. */
  readonly deployment: string;
  /** It keeps at least so many whatever is published; null = nobody knows. */
  readonly minReplicas: number | null;
  /** It never starts more; null = nobody knows. */
  readonly maxReplicas: number | null;
  /** What keeps it from scaling at the moment, as its owner wrote it; null = nothing. */
  readonly pausedBy: string | null;
};

/** Where the objects that scale deployments are followed. None of its faults is one of the service. */
export interface ConsumerSource {
  /** Starts watching; resolves without waiting for the first sync. */
  start(): Promise<void>;
  /** The last known view; what can no longer be read stays as it was last seen. */
  snapshot(): ConsumerSnapshot;
  /** Called after every change of the view. */
  onChange(listener: () => void): void;
  stop(): Promise<void>;
}

export type ConsumerSnapshot = {
  /** False until each kind was listed once, or is known not to be there or not to be readable. */
  readonly settled: boolean;
  /** Why some kinds cannot be read now, a sentence each. */
  readonly problems: readonly string[];
  /**
   * Kinds that were never read, or cannot be read now: nobody knows what else of them scales something. Those that the cluster
   * does not have are not.
   */
  readonly unread: readonly {
    /** Null = all namespaces. */
    readonly namespace: string | null;
    /** For people, one line: why not; or that it is on its way. */
    readonly reason: string;
  }[];
  /** By deployment, then kind and name. */
  readonly consumers: readonly ReplicaConsumer[];
};

/** Why new pods cannot start on a node: closed by a person, its kubelet does not answer, about to be removed. */
export type NodeClosure = 'cordoned' | 'not_ready' | 'leaving';

/** Devices of one kind on one node. */
export type NodeGpus = {
  /** As the cluster counts them: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`. */
  readonly resource: string;
  /** Canonical; null where no label of the node names the product. */
  readonly gpuType: string | null;
  readonly allocatable: number;
  /** What pods on the node hold, by deployment; null = pods of no deployment. [devices] */
  readonly held: readonly {
    /** namespace/name */
    readonly deployment: string | null;
    readonly running: number;
    /** Of pods that are being deleted. */
    readonly ending: number;
  }[];
};

export type GpuNode = {
  readonly name: string;
  readonly closed: NodeClosure | null;
  readonly gpus: readonly NodeGpus[];
  /** A label that was probably meant to name the product: `its key` instead of `the known one`; null = none. */
  readonly misspelt: readonly [found: string, expected: string] | null;
};

/** Where the GPUs of a cluster are followed. */
export interface GpuNodeSource {
  /** Starts watching; resolves without waiting for the first sync. */
  start(): Promise<void>;
  /**
   * The last complete view of nodes and pods together; while one of the two cannot be followed it is frozen, so that no
   * fault makes GPUs appear or vanish.
   */
  snapshot(): GpuNodesSnapshot;
  /** Called after every change of the view. */
  onChange(listener: () => void): void;
  stop(): Promise<void>;
}

export type GpuNodesSnapshot = {
  readonly synced: boolean;
  /** Since when the view is frozen [Unix ms]; null = it is not. */
  readonly staleSince: number | null;
  readonly problem: string | null;
  /** Nodes with GPUs, by name. */
  readonly nodes: readonly GpuNode[];
};
