import { withoutMade } from '../../adapters/kubernetes/consumer-source.js';
import type { ConsumerMetric, ScalingObject } from '../../core/inspection.js';
import { consumerKinds, type ObservedDeployment, type ReplicaConsumer } from '../../core/ports.js';
import { aibrixMetricPrefix, deploymentLabels } from '../../core/published-names.js';
import { consumerName, consumersByDeployment, withConsumers } from '../landing.js';
import { type DoctorFacts, deploymentPlace, isWholeKind, seenOr } from './facts.js';
import { type Finding, finding } from './report.js';

/** Whether what is published is done: the objects that scale the followed Deployments, field by field. */

export function checkConsumers(facts: DoctorFacts): readonly Finding[] {
  const { workloads, settings } = facts;
  if (workloads.kind === 'unseen') return [];
  const objects = consumerKinds.flatMap((kind) => seenOr(facts.consumers[kind], []));
  const byDeployment = consumersByDeployment(objects);
  const allSeen = consumerKinds.every((kind) => isWholeKind(facts.consumers[kind]));
  return workloads.value.deployments.flatMap((deployment) => {
    const all = byDeployment.get(deployment.id) ?? [];
    const own = withoutMade(all);
    const scaling = all.filter(({ kind, name }) => own.some((each) => each.kind === kind && each.name === name));
    if (all.length === 0) {
      if (!allSeen || settings.actuate === 'scale') return [];
      return [
        finding('nothing_scales', {
          place: deploymentPlace(facts, deployment),
          found: 'no HorizontalPodAutoscaler, ScaledObject or PodAutoscaler that targets it',
          expected: 'one that reads the number of gpumix',
        }),
      ];
    }
    if (settings.actuate === 'scale') {
      return [
        finding('other_scaler', {
          // Also the maker of what was seen, where it cannot be read itself.
          place: own.map(consumerName).slice(0, 3).join(', '),
          found: `${own.length === 1 ? 'it targets' : 'they target'} ${settings.isListed ? 'what deployments.list has as' : 'Deployment'} ${deployment.id}`,
          expected: 'nothing else that scales it, because of actuate: scale',
        }),
      ];
    }
    return [
      ...several(facts, deployment, own),
      ...failures(all),
      ...limitFindings(facts, deployment, own),
      ...foreign(deployment, scaling),
      ...scaling.flatMap((object) => ofObject(object, deployment, facts)),
      ...dropped(all),
    ];
  });
}

function several(
  facts: DoctorFacts,
  deployment: ObservedDeployment,
  own: readonly ReplicaConsumer[],
): readonly Finding[] {
  if (own.length < 2) return [];
  const rest = own.length - shownNames;
  const names = own.slice(0, shownNames).map(consumerName).join(', ');
  return [
    finding('several_consumers', {
      place: deploymentPlace(facts, deployment),
      found: `${own.length} objects scale it: ${names}${rest > 0 ? ` and ${rest} more` : ''}`,
      expected: 'one',
    }),
  ];
}

/** Names that one sentence lists. */
const shownNames = 4;

/** Notices name annotations, and what is listed has none. */
function inList(message: string): string {
  return message
    .replaceAll('gpumix.dev/max-replicas', 'deployments.list[].maxReplicas')
    .replaceAll('gpumix.dev/min-replicas', 'deployments.list[].minReplicas');
}

/** What their controllers say; also of what KEDA or AIBrix made, since that is what asks for the number. */
function failures(all: readonly ScalingObject[]): readonly Finding[] {
  return all
    .filter((object) => object.failures.length > 0)
    .map((object) =>
      finding('consumer_fails', {
        place: `${consumerName(object)} status.conditions`,
        found: object.failures
          .map(({ condition, reason, message }) =>
            [condition, ...(reason === null ? [] : [`(${reason})`]), ...(message === null ? [] : [message])].join(' '),
          )
          .join('; '),
        expected: 'an autoscaler that gets its number and can scale',
      }),
    );
}

const limits = new Set(['max_above_consumer', 'min_above_max', 'consumer_keeps_replicas']);

/** What plans say of limits too, there as warnings. */
function limitFindings(
  facts: DoctorFacts,
  deployment: ObservedDeployment,
  own: Parameters<typeof withConsumers>[1],
): readonly Finding[] {
  // A PodAutoscaler's minimum has a finding of its own.
  const counted = own.map((each) => (each.kind === 'PodAutoscaler' ? { ...each, minReplicas: null } : each));
  return withConsumers({ ...deployment, notices: [] }, counted)
    .notices.filter(({ code }) => limits.has(code))
    .map(({ message }) =>
      finding('consumer_limits', {
        place: deploymentPlace(facts, deployment),
        found: facts.settings.isListed ? inList(message) : message,
        expected: 'limits that the Deployment knows',
      }),
    );
}

function foreign({ id }: ObservedDeployment, scaling: readonly ScalingObject[]): readonly Finding[] {
  const metrics = scaling.flatMap((object) => object.metrics.map((metric) => ({ object, metric })));
  // What was made by an object that cannot be read asks for what its maker says.
  if (scaling.length === 0 || metrics.some(({ metric }) => metric.isOurs === null)) return [];
  const others = metrics.filter(({ metric }) => metric.isOurs === false);
  const isRead = metrics.some(({ metric }) => metric.isOurs === true);
  const place = scaling.map(consumerName).slice(0, 3).join(', ');
  if (!isRead) {
    const asked = others.map(({ metric }) => metric.asks).slice(0, 4);
    return [
      finding('foreign_metric', {
        place,
        found: asked.length === 0 ? 'no metric' : `nothing but ${asked.join(', ')}`,
        expected: `the number of gpumix for ${id}`,
      }),
    ];
  }
  return others.map(({ object, metric }) =>
    finding('foreign_metric', {
      place: `${consumerName(object)} ${metric.place}`,
      found: `${metric.asks} beside the number of gpumix`,
      expected: 'that number alone',
    }),
  );
}

function ofObject(object: ScalingObject, deployment: ObservedDeployment, facts: DoctorFacts): readonly Finding[] {
  const { pausedBy, metrics } = object;
  const found: Finding[] = [];
  if (pausedBy !== null) {
    const place = consumerName(object);
    found.push(finding('consumer_paused', { place, found: pausedBy, expected: 'no such annotation' }));
  }
  const read = metrics.filter(({ isOurs }) => isOurs !== false);
  if (read.length === 0) return found;
  for (const metric of read) found.push(...ofMetric(object, metric, facts));
  if (object.kind === 'PodAutoscaler') found.push(...ofPodAutoscaler(object));
  else found.push(...deadBand(object, deployment));
  return found;
}

function ofMetric(object: ScalingObject, metric: ConsumerMetric, facts: DoctorFacts): readonly Finding[] {
  const place = `${consumerName(object)} ${metric.place}`;
  const found: Finding[] = [];
  if (metric.deployment !== null && metric.deployment !== object.deployment) {
    found.push(
      finding('other_deployment', {
        place,
        found: `the number of ${metric.deployment} (${metric.asks})`,
        expected: `that of ${object.deployment}, which it scales`,
      }),
    );
  }
  if (metric.targetType === 'Value') {
    found.push(finding('value_target', { place, found: 'type Value', expected: 'AverageValue' }));
  }
  found.push(...selectorFindings(place, object, metric), ...unitFindings(place, object, metric, facts));
  if (object.kind === 'ScaledObject') found.push(...triggerFindings(place, metric));
  return found;
}

const seriesLabels: readonly string[] = deploymentLabels;
/** After a scrape of Prometheus, and those of the series for switchers. */
const otherLabels: readonly string[] = [
  'exported_namespace',
  'exported_deployment',
  'variant_name',
  'accelerator_type',
  'job',
  'instance',
  'pod',
  'service',
];

function selectorFindings(place: string, object: ScalingObject, metric: ConsumerMetric): readonly Finding[] {
  if (metric.way !== 'external-metrics' || object.kind !== 'HorizontalPodAutoscaler') return [];
  if (metric.asks.startsWith(aibrixMetricPrefix)) return [];
  const keys = Object.keys(metric.selector ?? {});
  const unknown = keys.filter((key) => !seriesLabels.includes(key) && !otherLabels.includes(key));
  if (unknown.length === 0 && metric.deployment !== null) return [];
  const name = object.deployment.slice(object.deployment.indexOf('/') + 1);
  return [
    finding('metric_selector', {
      place: `${place}.external.metric.selector`,
      found:
        unknown.length > 0
          ? `the label ${unknown.join(', ')}, which no series has`
          : keys.length === 0
            ? 'no matchLabels: every deployment is added up'
            : `matchLabels of ${keys.join(', ')}, and no deployment`,
      expected: `matchLabels: { deployment: ${name} }, of ${seriesLabels.join(', ')}`,
    }),
  ];
}

function unitFindings(
  place: string,
  object: ScalingObject,
  metric: ConsumerMetric,
  { settings }: DoctorFacts,
): readonly Finding[] {
  // The scaler itself says the target over gRPC.
  if (metric.way === 'external-scaler' || metric.targetType === 'Value') return [];
  const unit = metric.way === 'endpoint' ? settings.aibrixUnit : 1;
  // KEDA takes an absent threshold for an error of its own, and AIBrix an absent target.
  if (metric.target === unit) return [];
  return [
    finding('target_units', {
      place,
      found: `target ${metric.targetText ?? '(none)'}${metric.targetType === null ? '' : ` of type ${metric.targetType}`}`,
      expected: `${unit} for each replica${metric.way === 'endpoint' ? ' (publish.aibrixUnit)' : ''}${object.kind === 'HorizontalPodAutoscaler' ? ', as averageValue' : ''}`,
    }),
  ];
}

function triggerFindings(place: string, metric: ConsumerMetric): readonly Finding[] {
  const { way, options } = metric;
  const option = (name: string) => (Object.hasOwn(options, name) ? options[name] : undefined);
  const found: Finding[] = [];
  if (way === 'metrics-api' && !['replicas', 'targetReplicas'].includes(option('valueLocation') ?? '')) {
    found.push(
      finding('value_location', {
        place: `${place}.metadata.valueLocation`,
        found: option('valueLocation') ?? '(not set)',
        expected: 'replicas',
      }),
    );
  }
  if (way === 'prometheus' && option('ignoreNullValues') !== 'false') {
    found.push(
      finding('null_values', {
        place: `${place}.metadata.ignoreNullValues`,
        found: option('ignoreNullValues') ?? '(not set, which is true)',
        expected: '"false"',
      }),
    );
  }
  const activation = option(way === 'prometheus' ? 'activationThreshold' : 'activationTargetValue');
  if (activation !== undefined && Number(activation) >= 1) {
    found.push(finding('activation', { place: `${place}.metadata`, found: activation, expected: 'below 1, best "0"' }));
  }
  return found;
}

/** From so many replicas on, one more or one less is within the tolerance that an HPA has by default. */
const bandReplicas = 10;

function deadBand(object: ScalingObject, deployment: ObservedDeployment): readonly Finding[] {
  const most = Math.min(object.maxReplicas ?? Number.POSITIVE_INFINITY, deployment.maxReplicas);
  const { up, down } = object.tolerance;
  if (most < bandReplicas || (up === 0 && down === 0)) return [];
  const shown = (side: number | null) => side ?? 'not set (0.1)';
  const path =
    object.kind === 'ScaledObject' ? 'spec.advanced.horizontalPodAutoscalerConfig.behavior' : 'spec.behavior';
  return [
    finding('dead_band', {
      place: `${consumerName(object)} ${path}`,
      found: `tolerance ${shown(up)} up, ${shown(down)} down, with up to ${most} replicas`,
      expected: '"0" for both where there may be ten replicas or more',
    }),
  ];
}

/** What KEDA made of a tolerance that it was told. */
function dropped(all: readonly ScalingObject[]): readonly Finding[] {
  return all.flatMap((object) => {
    const { owner, tolerance } = object;
    if (owner?.kind !== 'ScaledObject') return [];
    const maker = all.find(({ kind, name }) => kind === 'ScaledObject' && name === owner.name);
    const isSame = maker?.tolerance.up === tolerance.up && maker.tolerance.down === tolerance.down;
    if (maker === undefined || isSame || (tolerance.up !== null && tolerance.down !== null)) return [];
    if ((maker.tolerance.up ?? maker.tolerance.down) === null) return [];
    return [
      finding('tolerance_dropped', {
        place: `${consumerName(object)} spec.behavior`,
        found: 'no tolerance',
        expected: `that of ${consumerName(maker)}`,
      }),
    ];
  });
}

function ofPodAutoscaler(object: ScalingObject): readonly Finding[] {
  const { minReplicas, strategy, tolerance } = object;
  const found: Finding[] = [];
  const place = consumerName(object);
  if (minReplicas !== 0) {
    const value = minReplicas ?? 'what is no number';
    found.push(
      finding('aibrix_min_replicas', { place: `${place} spec.minReplicas`, found: `${value}`, expected: '0' }),
    );
  }
  if (strategy !== 'KPA') {
    found.push(
      finding('aibrix_strategy', {
        place: `${place} spec.scalingStrategy`,
        found: strategy ?? '(none)',
        expected: 'KPA',
      }),
    );
  }
  const wide = Math.max(tolerance.up ?? 0, tolerance.down ?? 0);
  if (wide >= 0.5) {
    found.push(
      finding('aibrix_tolerance', {
        place: `${place} annotations autoscaling.aibrix.ai/scale-up-tolerance, scale-down-tolerance`,
        found: String(wide),
        expected: '"0"',
      }),
    );
  }
  return found;
}
