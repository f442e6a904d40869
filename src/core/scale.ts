/**
 * The port of direct actuation: objects of a cluster that have a `scale` subresource, read and written one at a time.
 *
 * Outcomes are values: whoever scales a thousand objects goes on where one of them cannot be scaled.
 */

/** An object with a `scale` subresource, as an API server addresses it. */
export type ScaleTarget = {
  /** `apps`; empty = the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  /** Plural of the kind, as it stands in paths and in RBAC rules. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
};

/** `deployments.apps prod/llama`, as people and kubectl write it. */
export function targetText({ group, resource, namespace, name }: ScaleTarget): string {
  return `${resource}${group === '' ? '' : `.${group}`} ${namespace}/${name}`;
}

/** What `scale` says at one moment. */
export type Scale = {
  /** Replicas that are asked for. */
  readonly replicas: number;
  /** Of the object itself: a write that names it lands only if nobody wrote in between. */
  readonly resourceVersion: string;
  /** Of the object; null where the server did not tell it. */
  readonly uid: string | null;
};

/** Why a request did not do what it should. */
export const scaleFaults = [
  /** There is no such object, or it has no `scale`. */
  'not_found',
  /** Somebody else wrote it between our reading and our writing. */
  'conflict',
  'forbidden',
  'unauthorized',
  /** The server, or an admission webhook, does not want this number. */
  'rejected',
  'throttled',
  'server_error',
  /** No answer: nobody listens, the connection broke, the deadline passed. A write may have landed all the same. */
  'unreachable',
  'bad_answer',
] as const;
export type ScaleFaultName = (typeof scaleFaults)[number];

export type ScaleFault = {
  readonly kind: 'fault';
  readonly fault: ScaleFaultName;
  /** For people, one line, without secrets. */
  readonly message: string;
  /** What the server asks everybody to wait; null = nothing. [s] */
  readonly retryAfterSeconds: number | null;
};

export type ScaleAnswer = { readonly kind: 'scale'; readonly scale: Scale } | ScaleFault;

/** Something that happened to an object, for whoever describes it. One is counted up rather than written again. */
export type TargetEvent = {
  readonly target: ScaleTarget;
  readonly uid: string | null;
  /** One word in CamelCase. */
  readonly reason: string;
  readonly message: string;
  /** How often it happened, the first and the last time. [Unix ms] */
  readonly count: number;
  readonly firstMs: number;
  readonly lastMs: number;
};

export type EventAnswer = { readonly kind: 'recorded'; readonly name: string } | ScaleFault;

/** Never rejects; each call ends within the implementation's deadline. */
export interface ScaleClient {
  /** Finds the cluster, before anything else; again does nothing. Rejects with InputError where nothing describes one. */
  start(): Promise<void>;
  read(target: ScaleTarget): Promise<ScaleAnswer>;
  /**
   * Asks for so many replicas, if the object is still at that version; otherwise `conflict`.
   *
   * @param change.dryRun the server checks and answers as if, and stores nothing
   */
  write(
    target: ScaleTarget,
    change: { readonly replicas: number; readonly resourceVersion: string; readonly dryRun: boolean },
  ): Promise<ScaleAnswer>;
  /**
   * @param name of the event that this one counts up, as an earlier answer told it; null = a new one. One that the
   *   server has forgotten meanwhile is written anew.
   */
  recordEvent(event: TargetEvent, name: string | null): Promise<EventAnswer>;
}
