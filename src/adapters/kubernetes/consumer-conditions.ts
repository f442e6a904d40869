import type { ConsumerFailure } from '../../core/inspection.js';
import type { ReplicaConsumer } from '../../core/ports.js';
import { items, record, textOf } from './wire.js';

/**
 * What the controllers of autoscalers say in `status.conditions` that they cannot do: the one place where a wrong host,
 * port or name, or a network policy between them and gpumix, is told.
 *
 * Sources: autoscaling/v2 of Kubernetes and its controller's reasons, `ScaledObject` of keda.sh/v1alpha1, the
 * PodAutoscaler controller of AIBrix up to its main branch.
 */

/** Of one object; the longest have half a dozen. */
const mostConditions = 20;
const longestReason = 80;
const longestMessage = 300;

type Condition = { readonly type: string; readonly status: string; readonly reason: string };

const isFailing = {
  HorizontalPodAutoscaler: ({ type, status, reason }) =>
    status === 'False' &&
    // At 0 replicas an HPA rests, which is as KEDA means it; after a step, older ones wait.
    ((type === 'ScalingActive' && reason !== 'ScalingDisabled') ||
      (type === 'AbleToScale' && !reason.startsWith('Backoff'))),
  // Active=False only says that nothing is wanted.
  ScaledObject: ({ type, status }) =>
    (type === 'Ready' && status === 'False') || (type === 'Fallback' && status === 'True'),
  PodAutoscaler: ({ type, status, reason }) => {
    // It is there only while there is a conflict: False in some versions, True in others.
    if (type === 'MultiPodAutoscalerConflict') return status !== 'Unknown' && reason !== 'AsExpected';
    if (status !== 'False') return false;
    if (type === 'ValidSpec' || type === 'AbleToScale') return true;
    // In newer versions False says that as many run as are wanted (Stable), and Ready=False that it is about to scale.
    return type === 'ScalingActive' && reason !== 'Stable' && reason !== 'ScalingDisabled';
  },
} satisfies Record<ReplicaConsumer['kind'], (condition: Condition) => boolean>;

/** Reads one object as the API server sent it; what is of another shape says nothing. */
export function readConsumerFailures(object: unknown, kind: ReplicaConsumer['kind']): readonly ConsumerFailure[] {
  return items(record(record(object).status).conditions)
    .slice(0, mostConditions)
    .flatMap((each) => {
      const condition = record(each);
      const [type, status] = [textOf(condition, 'type') ?? '', textOf(condition, 'status') ?? ''];
      const reason = textOf(condition, 'reason') ?? '';
      if (!isFailing[kind]({ type, status, reason })) return [];
      return [
        {
          condition: `${type}=${status}`,
          reason: shown(reason, longestReason),
          message: shown(textOf(condition, 'message') ?? '', longestMessage),
        },
      ];
    });
}

/** One line without control characters; null where nothing is left. */
function shown(text: string, longest: number): string | null {
  const line = text
    .slice(0, 4 * longest)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    .replace(/[\s\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+/g, ' ')
    .trim();
  return line === '' ? null : line.length > longest ? `${line.slice(0, longest)}…` : line;
}
