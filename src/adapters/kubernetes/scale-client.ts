import { randomUUID } from 'node:crypto';
import type {
  EventAnswer,
  Scale,
  ScaleAnswer,
  ScaleClient,
  ScaleFault,
  ScaleFaultName,
  ScaleTarget,
  TargetEvent,
} from '../../core/scale.js';
import {
  type ApiCall,
  type ApiClient,
  ApiError,
  type ClusterAccess,
  connectToCluster,
  messageOf,
} from './api-client.js';
import { countOf, isRecord, record, textOf } from './wire.js';

/**
 * The `scale` subresource and the Events of a cluster's objects, over the API server's HTTP.
 *
 * A write is a merge patch of `scale` with the version that was read: the server refuses it (409) where anybody wrote the
 * object in between, so that two writers, or two gpumix, cannot take turns without seeing each other.
 */

/** Who wrote `spec.replicas`, as `kubectl get -o yaml --show-managed-fields` tells it. */
const fieldManager = 'gpumix';

/** Admission webhooks may take 10 s by default, and all of them are called before an answer. [ms] */
const answerTimeoutMs = 15_000;
/** Nobody waits for an Event. [ms] */
const eventTimeoutMs = 5_000;

export class KubernetesScaleClient implements ScaleClient {
  readonly #access: ClusterAccess;
  readonly #timeoutMs: number;
  #api: ApiClient | null = null;

  /** @param options.timeoutMs of one request, for tests */
  constructor(options: { readonly access?: ClusterAccess; readonly timeoutMs?: number } = {}) {
    this.#access = options.access ?? {};
    this.#timeoutMs = options.timeoutMs ?? answerTimeoutMs;
  }

  async start(): Promise<void> {
    this.#api ??= await connectToCluster(this.#access);
  }

  async read(target: ScaleTarget): Promise<ScaleAnswer> {
    return this.#scale(target, { method: 'GET', query: {}, body: null, contentType: null });
  }

  async write(
    target: ScaleTarget,
    { replicas, resourceVersion, dryRun }: Parameters<ScaleClient['write']>[1],
  ): Promise<ScaleAnswer> {
    return this.#scale(target, {
      method: 'PATCH',
      query: { fieldManager, ...(dryRun ? { dryRun: 'All' } : {}) },
      body: { metadata: { resourceVersion }, spec: { replicas } },
      contentType: 'application/merge-patch+json',
    });
  }

  async recordEvent(event: TargetEvent, name: string | null): Promise<EventAnswer> {
    const path = `/api/v1/namespaces/${part(event.target.namespace)}/events`;
    if (name !== null) {
      const { message, count, lastMs } = event;
      const answer = await this.#send({
        path: `${path}/${part(name)}`,
        method: 'PATCH',
        query: { fieldManager },
        body: { message, count, lastTimestamp: secondsOf(lastMs) },
        contentType: 'application/merge-patch+json',
        answerTimeoutMs: Math.min(eventTimeoutMs, this.#timeoutMs),
      });
      // Servers forget Events after an hour.
      if (answer.kind === 'document') return { kind: 'recorded', name };
      if (answer.fault !== 'not_found') return answer;
    }
    const body = eventObject(event);
    const answer = await this.#send({
      path,
      method: 'POST',
      query: { fieldManager },
      body,
      contentType: null,
      answerTimeoutMs: Math.min(eventTimeoutMs, this.#timeoutMs),
    });
    return answer.kind === 'document' ? { kind: 'recorded', name: body.metadata.name } : answer;
  }

  async #scale(
    target: ScaleTarget,
    call: Pick<ApiCall, 'method' | 'query' | 'body' | 'contentType'>,
  ): Promise<ScaleAnswer> {
    const answer = await this.#send({ ...call, path: scalePath(target), answerTimeoutMs: this.#timeoutMs });
    if (answer.kind === 'fault') return answer;
    const scale = scaleOf(answer.document, target);
    return scale === null
      ? fault('bad_answer', `found another document, expected the Scale of ${target.namespace}/${target.name}`)
      : { kind: 'scale', scale };
  }

  async #send(
    call: Omit<ApiCall, 'signal'>,
  ): Promise<{ readonly kind: 'document'; readonly document: unknown } | ScaleFault> {
    if (this.#api === null) return fault('unreachable', 'the cluster has not been found yet');
    try {
      // Nothing calls it off: a write that was sent is waited for, up to its deadline.
      const document = await this.#api.send({ ...call, signal: new AbortController().signal });
      return { kind: 'document', document };
    } catch (error) {
      return faultOf(error, `${call.method} ${this.#api.server}${call.path}`);
    }
  }
}

/** `/apis/apps/v1/namespaces/prod/deployments/llama/scale` */
function scalePath({ group, version, resource, namespace, name }: ScaleTarget): string {
  const root = group === '' ? '/api' : `/apis/${part(group)}`;
  return `${root}/${part(version)}/namespaces/${part(namespace)}/${part(resource)}/${part(name)}/scale`;
}

/** A segment of a path: a name out of a configuration must not lead anywhere else. */
function part(text: string): string {
  return encodeURIComponent(text);
}

/**
 * autoscaling/v1 Scale. Absent `spec.replicas` is 0: the server leaves out what is empty. It never leaves out `spec`: a
 * document without one says nothing, least of all that nothing runs.
 */
function scaleOf(document: unknown, { name }: Pick<ScaleTarget, 'name'>): Scale | null {
  const scale = record(document);
  const metadata = record(scale.metadata);
  const { spec } = scale;
  if (!isRecord(spec)) return null;
  if ((textOf(metadata, 'name') ?? name) !== name) return null;
  const resourceVersion = textOf(metadata, 'resourceVersion') ?? '';
  const replicas = Object.hasOwn(spec, 'replicas') ? countOf(spec, 'replicas') : 0;
  if (scale.kind !== 'Scale' || resourceVersion === '' || replicas === undefined) return null;
  return { replicas, resourceVersion, uid: textOf(metadata, 'uid') ?? null };
}

function eventObject({ target, uid, reason, message, count, firstMs, lastMs }: TargetEvent) {
  const { group, version, kind, namespace, name } = target;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: eventName(name), namespace },
    involvedObject: {
      apiVersion: group === '' ? version : `${group}/${version}`,
      kind,
      namespace,
      name,
      ...(uid === null ? {} : { uid }),
    },
    type: 'Normal',
    reason,
    message,
    count,
    firstTimestamp: secondsOf(firstMs),
    lastTimestamp: secondsOf(lastMs),
    source: { component: fieldManager },
    reportingComponent: fieldManager,
    reportingInstance: '',
  };
}

/** A name that no other Event of the object has; of at most 253 characters. */
function eventName(name: string): string {
  return `${name.slice(0, 200)}.${randomUUID().replaceAll('-', '').slice(0, 16)}`;
}

/** Kubernetes' Time has whole seconds. */
function secondsOf(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function faultOf(error: unknown, what: string): ScaleFault {
  const message = `${what}: ${messageOf(error)}`;
  if (!(error instanceof ApiError)) return fault('unreachable', message);
  return { ...fault(faultName(error), message), retryAfterSeconds: error.retryAfterSeconds };
}

function faultName({ status }: ApiError): ScaleFaultName {
  switch (status) {
    case 0:
      return 'bad_answer';
    case 401:
      return 'unauthorized';
    case 403:
      return 'forbidden';
    case 404:
    case 405:
    case 410:
      return 'not_found';
    case 409:
      return 'conflict';
    case 429:
      return 'throttled';
    default:
      // A server that shuts down, or one behind it, refuses with 5xx; what is left is about this object.
      return status >= 500 ? 'server_error' : 'rejected';
  }
}

function fault(name: ScaleFaultName, message: string): ScaleFault {
  return { kind: 'fault', fault: name, message, retryAfterSeconds: null };
}
