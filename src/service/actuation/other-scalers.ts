import type { ConsumerSnapshot, ConsumerSource } from '../../core/ports.js';
import { type ConsumersOf, consumerName, consumersByDeployment } from '../landing.js';

/** What else scales the object of a deployment. */
export type KnownScalers = {
  /** As people name them: `HorizontalPodAutoscaler prod/llama`. */
  readonly names: readonly string[];
  /** Why there may be more, for people; null = there are no more. */
  readonly unknownBecause: string | null;
};

/** @param deployment.id namespace/name; `namespace` is that of its object */
export type OtherScalers = (deployment: { readonly id: string; readonly namespace: string }) => KnownScalers;

/**
 * What the consumers of the cluster say of who else scales. What was read once stays known while it cannot be read
 * again; but what was never read, or cannot be read now, might hold more, so that nobody can say that an object is gpumix's
 * alone.
 */
export function otherScalers(source: Pick<ConsumerSource, 'snapshot'>): OtherScalers {
  let last: { readonly snapshot: ConsumerSnapshot; readonly consumers: ConsumersOf } | null = null;
  return ({ id, namespace }) => {
    const snapshot = source.snapshot();
    if (last?.snapshot !== snapshot) last = { snapshot, consumers: consumersByDeployment(snapshot.consumers) };
    const unread = snapshot.unread.find((each) => each.namespace === null || each.namespace === namespace);
    return {
      names: (last.consumers.get(id) ?? []).map(consumerName),
      unknownBecause: unread?.reason ?? null,
    };
  };
}
