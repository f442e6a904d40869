import type { ConsumerMetric, ConsumerMetrics } from '../../core/inspection.js';
import type { ReplicaConsumer } from '../../core/ports.js';
import {
  aibrixMetricName,
  aibrixMetricPrefix,
  desiredReplicasMetric,
  scalerDeploymentKey,
  targetReplicasMetric,
  wvaDesiredReplicasMetric,
} from '../../core/published-names.js';
import { items, record, textEntries, textOf } from './wire.js';

/**
 * What an object that scales a deployment asks for, and how it makes replicas of the answer: the fields on which it
 * depends whether a published number is done. Sources: autoscaling/v2 of Kubernetes, KEDA's ScaledObject, AIBrix's
 * PodAutoscaler.
 */

type AnyRecord = Readonly<Record<string, unknown>>;

/** Enough of any object; the API server keeps none above 1.5 MiB. */
const mostMetrics = 20;
const longestAsk = 200;

/** Series that say whole replicas of one deployment. */
const wholeReplicas: readonly string[] = [desiredReplicasMetric, targetReplicasMetric, wvaDesiredReplicasMetric];

/** Reads one object as the API server sent it; whatever is of another shape than its schema says is not there. */
export function readConsumerMetrics(object: unknown, kind: ReplicaConsumer['kind']): ConsumerMetrics {
  const spec = record(record(object).spec);
  const metadata = record(record(object).metadata);
  const namespace = textOf(metadata, 'namespace') ?? 'default';
  const name = textOf(metadata, 'name') ?? '';
  return readers[kind]({ spec, namespace, name, annotations: record(metadata.annotations) });
}

type ReadInput = {
  readonly spec: AnyRecord;
  readonly namespace: string;
  readonly name: string;
  readonly annotations: AnyRecord;
};

const readers = {
  HorizontalPodAutoscaler: ({ spec, namespace }) => ({
    metrics: items(spec.metrics)
      .slice(0, mostMetrics)
      .map((metric, index) => ofHpa(record(metric), `spec.metrics[${index}]`, namespace)),
    tolerance: toleranceOf(record(spec.behavior)),
    strategy: null,
  }),
  ScaledObject: ({ spec, namespace, name }) => ({
    metrics: items(spec.triggers)
      .slice(0, mostMetrics)
      .map((trigger, index) => ofTrigger(record(trigger), `spec.triggers[${index}]`, { namespace, name })),
    tolerance: toleranceOf(record(record(record(spec.advanced).horizontalPodAutoscalerConfig).behavior)),
    strategy: null,
  }),
  PodAutoscaler: ({ spec, namespace, annotations }) => ({
    metrics: items(spec.metricsSources)
      .slice(0, mostMetrics)
      .map((source, index) => ofAibrix(record(source), `spec.metricsSources[${index}]`, namespace)),
    tolerance: {
      up: quantity(annotations['autoscaling.aibrix.ai/scale-up-tolerance']),
      down: quantity(annotations['autoscaling.aibrix.ai/scale-down-tolerance']),
    },
    strategy: textOf(spec, 'scalingStrategy') ?? null,
  }),
} satisfies Record<ReplicaConsumer['kind'], (input: ReadInput) => ConsumerMetrics>;

const nothingAsked = { isOurs: false, deployment: null, selector: null, options: {} } as const;

function ofHpa(metric: AnyRecord, place: string, namespace: string): ConsumerMetric {
  const type = textOf(metric, 'type') ?? '';
  const external = record(metric.external);
  const named = record(external.metric);
  const name = textOf(named, 'name') ?? '';
  if (type !== 'External') {
    const target = record(record(metric[type === '' ? 'external' : type[0]!.toLowerCase() + type.slice(1)]).target);
    return { place, way: 'other', asks: cut(type), ...nothingAsked, ...targetOf(target) };
  }
  const labels = textEntries(record(named.selector).matchLabels);
  const selector = labels.length === 0 ? null : Object.fromEntries(labels.slice(0, mostMetrics));
  const asked = selector?.deployment ?? selector?.variant_name;
  const ours = wholeReplicas.includes(name) || name.startsWith(aibrixMetricPrefix);
  return {
    place,
    way: 'external-metrics',
    asks: cut(name),
    isOurs: ours,
    deployment: asked === undefined ? null : `${selector?.namespace ?? namespace}/${asked}`,
    selector,
    options: {},
    ...targetOf(record(external.target)),
  };
}

function targetOf(target: AnyRecord): Pick<ConsumerMetric, 'targetType' | 'target' | 'targetText'> {
  const type = textOf(target, 'type') ?? null;
  const written = type === 'AverageValue' ? target.averageValue : type === 'Value' ? target.value : undefined;
  return { targetType: type, ...amountOf(written) };
}

function amountOf(written: unknown): Pick<ConsumerMetric, 'target' | 'targetText'> {
  const isShown = typeof written === 'string' || typeof written === 'number';
  return { target: quantity(written), targetText: isShown ? cut(String(written)) : null };
}

function ofTrigger(
  trigger: AnyRecord,
  place: string,
  { namespace, name }: Pick<ReadInput, 'namespace' | 'name'>,
): ConsumerMetric {
  const type = textOf(trigger, 'type') ?? '';
  const entries = textEntries(trigger.metadata).slice(0, mostMetrics);
  const options = Object.fromEntries(entries.map(([key, value]) => [key, cut(value)]));
  const metadata = Object.fromEntries(entries);
  // KEDA's own default.
  const targetType = textOf(trigger, 'metricType') ?? 'AverageValue';
  const rest = { place, selector: null, options, targetType };
  if (type === 'metrics-api') {
    const path = /\/api\/v1\/replicas\/([^/?#\s]+)\/([^/?#\s]+)/.exec(metadata.url ?? '');
    return {
      ...rest,
      way: 'metrics-api',
      asks: cut(metadata.url ?? ''),
      isOurs: path !== null,
      deployment: path === null ? null : `${decoded(path[1]!)}/${decoded(path[2]!)}`,
      ...amountOf(metadata.targetValue),
    };
  }
  if (type === 'prometheus') {
    const query = metadata.query ?? '';
    const label = (key: string) => new RegExp(`[{,\\s]${key}="([^"]*)"`).exec(query)?.[1];
    const asked = label('exported_deployment') ?? label('deployment') ?? label('variant_name');
    return {
      ...rest,
      way: 'prometheus',
      asks: cut(query),
      isOurs: wholeReplicas.some((name) => query.includes(name)),
      deployment:
        asked === undefined ? null : `${label('exported_namespace') ?? label('namespace') ?? namespace}/${asked}`,
      ...amountOf(metadata.threshold),
    };
  }
  if (type === 'external' || type === 'external-push') {
    // Whose scaler listens at an address, the object does not say; a name of ours does.
    const address = metadata.scalerAddress ?? '';
    const isOurs = /gpumix/i.test(address) ? true : null;
    // As the scaler itself takes it: the name of the ScaledObject, unless the trigger names another one.
    const asked = (metadata[scalerDeploymentKey] ?? '') || name;
    return {
      ...rest,
      way: 'external-scaler',
      asks: cut(address),
      isOurs,
      deployment: isOurs === true ? `${namespace}/${asked}` : null,
      target: null,
      targetText: null,
    };
  }
  return { ...rest, way: 'other', asks: cut(type), isOurs: false, deployment: null, target: null, targetText: null };
}

function ofAibrix(source: AnyRecord, place: string, namespace: string): ConsumerMetric {
  const metric = textOf(source, 'targetMetric') ?? '';
  const endpoint = textOf(source, 'endpoint') ?? '';
  const type = textOf(source, 'metricSourceType') ?? '';
  const rest = { place, options: {}, selector: null, targetType: null, ...amountOf(source.targetValue) };
  if (type !== 'domain' && type !== 'external') {
    return { ...rest, way: 'other', asks: cut(`${type} ${metric}`.trim()), isOurs: false, deployment: null };
  }
  if (endpoint === '') {
    const isOurs = metric.startsWith(aibrixMetricPrefix);
    const asked = isOurs ? `${namespace}/${metric.slice(aibrixMetricPrefix.length)}` : null;
    return { ...rest, way: 'external-metrics', asks: cut(metric), isOurs, deployment: asked };
  }
  const path = textOf(source, 'path') ?? '';
  const asked = /^\/?metrics\/([^/?#\s]+)\/([^/?#\s]+)$/.exec(path);
  return {
    ...rest,
    way: 'endpoint',
    asks: cut(`${endpoint}${path.startsWith('/') ? '' : '/'}${path}`),
    isOurs: metric === aibrixMetricName,
    deployment: asked === null ? null : `${decoded(asked[1]!)}/${decoded(asked[2]!)}`,
  };
}

function toleranceOf(behavior: AnyRecord): ConsumerMetrics['tolerance'] {
  return { up: quantity(record(behavior.scaleUp).tolerance), down: quantity(record(behavior.scaleDown).tolerance) };
}

const suffixes: Readonly<Record<string, number>> = { m: 0.001, '': 1, k: 1000, M: 1e6, G: 1e9 };

/** A Kubernetes quantity as far as it is a number of replicas or a share: `1`, `"2500m"`; null where it is none. */
function quantity(written: unknown): number | null {
  if (typeof written === 'number') return Number.isFinite(written) ? written : null;
  if (typeof written !== 'string' || written.length > 30) return null;
  const [, digits, suffix] = /^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)([mkMG]?)\s*$/.exec(written) ?? [];
  if (digits === undefined) return null;
  // In this order a thousandth is exact: 2500m is 2.5.
  const value = suffix === 'm' ? Number(digits) / 1000 : Number(digits) * suffixes[suffix ?? '']!;
  return Number.isFinite(value) ? value : null;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function cut(text: string): string {
  return text.length > longestAsk ? `${text.slice(0, longestAsk)}…` : text;
}
