import { scalerDeploymentKey } from '../../core/published-names.js';
import { shorten } from '../http/errors.js';
import type { ControllerView } from '../view.js';
import type { ScaledObjectRef } from './scaler-protocol.js';

/**
 * What the external scaler says to a ScaledObject: the numbers of `GET /api/v1/replicas`, and an error where there is none.
 *
 * KEDA counts errors and falls back as the ScaledObject says. A number that is not known is never 0, which KEDA would act on.
 */

/**
 * The one metric. It holds nothing that KEDA would replace (it writes `-` for `/`, `.`, `:` and `%`): it comes back in
 * GetMetrics as it was told in GetMetricSpec.
 */
export const scalerMetricName = 'gpumix-desired-replicas';

/** Replicas of the Deployment that a ScaledObject is about, or why there is no number. */
export type ScalerAnswer =
  | { readonly kind: 'known'; readonly replicas: number }
  /** The request names no Deployment, or a metric that is none of ours. */
  | { readonly kind: 'bad-request'; readonly message: string }
  | { readonly kind: 'no-such-deployment'; readonly message: string }
  | { readonly kind: 'not-known'; readonly message: string };

/** @param ref null where the request holds none */
export function scalerAnswer(view: Pick<ControllerView, 'replicasOf'>, ref: ScaledObjectRef | null): ScalerAnswer {
  const { namespace = '', name = '', scalerMetadata = {} } = ref ?? {};
  const metadata = Object.hasOwn(scalerMetadata, scalerDeploymentKey) ? scalerMetadata[scalerDeploymentKey]! : '';
  const deployment = metadata === '' ? name : metadata;
  if (namespace === '' || deployment === '') {
    const missing = namespace === '' ? 'namespace' : 'name';
    return { kind: 'bad-request', message: `found a ScaledObjectRef without a ${missing}, expected one with both` };
  }
  const id = shorten(`${namespace}/${deployment}`);
  const published = view.replicasOf(namespace, deployment);
  if (published.kind === 'known') return { kind: 'known', replicas: published.replicas };
  if (published.kind === 'not-known') {
    return { kind: 'not-known', message: `replicas of ${id} are not known yet: ${published.reason}` };
  }
  const where =
    metadata === ''
      ? `the name of the ScaledObject; metadata "${scalerDeploymentKey}" of the trigger names another one`
      : `metadata "${scalerDeploymentKey}" of the trigger`;
  return { kind: 'no-such-deployment', message: `no deployment ${id} is followed (${where})` };
}

/** Where a stream of activity ends. */
export type StreamEnd = Exclude<ScalerAnswer, { readonly kind: 'known' | 'not-known' }>;

export type ActivityStream = {
  readonly send: (isActive: boolean) => void;
  readonly end: (answer: StreamEnd) => void;
};

/**
 * The open streams of KEDA's `external-push` triggers: each is told whether its Deployment should run at all, at once and
 * whenever that changes.
 *
 * While a number is not known nothing is said, so that what was said last goes on; a Deployment that is gone ends its stream.
 */
export class ActivityStreams {
  readonly #view: Pick<ControllerView, 'replicasOf'>;
  readonly #open = new Map<ActivityStream, { readonly ref: ScaledObjectRef; told: boolean | null }>();

  constructor(view: Pick<ControllerView, 'replicasOf'>) {
    this.#view = view;
  }

  get size(): number {
    return this.#open.size;
  }

  add(stream: ActivityStream, ref: ScaledObjectRef): void {
    this.#open.set(stream, { ref, told: null });
    this.#tell(stream);
  }

  remove(stream: ActivityStream): void {
    this.#open.delete(stream);
  }

  /** After numbers were published. */
  tellAll(): void {
    for (const stream of [...this.#open.keys()]) this.#tell(stream);
  }

  #tell(stream: ActivityStream): void {
    const entry = this.#open.get(stream);
    if (entry === undefined) return;
    const answer = scalerAnswer(this.#view, entry.ref);
    if (answer.kind === 'not-known') return;
    if (answer.kind !== 'known') {
      this.#open.delete(stream);
      stream.end(answer);
      return;
    }
    const isActive = answer.replicas > 0;
    if (entry.told === isActive) return;
    entry.told = isActive;
    stream.send(isActive);
  }
}
