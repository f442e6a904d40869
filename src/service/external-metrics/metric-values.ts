import { aibrixMetricPrefix, deploymentLabels, desiredReplicasMetric } from '../../core/published-names.js';
import { shorten } from '../http/errors.js';
import type { ControllerView } from '../view.js';
import type { LabelSelector } from './label-selector.js';

/**
 * The numbers of the external metrics API.
 *
 * `gpumix_desired_replicas` says n for each Deployment, told apart by labels: for an HPA with AverageValue 1. AIBrix's
 * PodAutoscaler sums what a metric says in its namespace without a selector, and holds within 10 % of its target: for it each
 * Deployment has a metric of its own, `gpumix-aibrix-<deployment>`, which says n - 0.5.
 */

/** One item of an ExternalMetricValueList. */
export type ExternalMetricValue = {
  readonly metricName: string;
  readonly metricLabels: Readonly<Record<string, string>>;
  /** RFC 3339: when the number was computed. */
  readonly timestamp: string;
  /** A Kubernetes quantity. */
  readonly value: string;
};

export type MetricAnswer =
  | { readonly kind: 'values'; readonly items: readonly ExternalMetricValue[] }
  /** Nothing of that name, or nothing that the selector fits. */
  | { readonly kind: 'none'; readonly message: string }
  /** Of a Deployment that fits, the number is not known: an error makes autoscalers hold. */
  | { readonly kind: 'not-known'; readonly message: string };

type KnownDeployment = { readonly name: string; readonly labels: Readonly<Record<string, string>> };

export class MetricValues {
  readonly #view: Pick<ControllerView, 'models' | 'replicasOf' | 'ready'>;
  #indexed: ReturnType<ControllerView['models']> | null = null;
  #byNamespace: ReadonlyMap<string, readonly KnownDeployment[]> = new Map();

  constructor(view: Pick<ControllerView, 'models' | 'replicasOf' | 'ready'>) {
    this.#view = view;
  }

  /** Every metric there is, for discovery; names that several namespaces have come once. */
  names(): readonly string[] {
    const deployments = [...this.#deployments().values()].flat().map(({ name }) => `${aibrixMetricPrefix}${name}`);
    return [desiredReplicasMetric, ...[...new Set(deployments)].sort()];
  }

  /**
   * Readers add up what they get. So one number that is not known makes the answer not known: without it the sum would be too
   * small, and would scale down what nothing is known of.
   */
  read(namespace: string, metric: string, selector: LabelSelector): MetricAnswer {
    const inNamespace = this.#deployments().get(namespace) ?? [];
    const ofMetric = metric === desiredReplicasMetric ? inNamespace : inNamespace.filter(isNamed(metric));
    const fitting = ofMetric.filter(({ labels }) => selector(labels));
    if (fitting.length === 0) return this.#nothing(namespace, metric, ofMetric.length);
    const quantity = metric === desiredReplicasMetric ? String : aibrixQuantity;
    const items: ExternalMetricValue[] = [];
    for (const { name, labels } of fitting) {
      const published = this.#view.replicasOf(namespace, name);
      if (published.kind !== 'known') {
        const reason = published.kind === 'not-known' ? published.reason : 'it is not followed any more';
        return { kind: 'not-known', message: `replicas of ${namespace}/${name} are not known: ${reason}` };
      }
      const { replicas, at } = published;
      items.push({ metricName: metric, metricLabels: labels, timestamp: wholeSeconds(at), value: quantity(replicas) });
    }
    return { kind: 'values', items };
  }

  #nothing(namespace: string, metric: string, ofMetric: number): MetricAnswer {
    const where = shorten(namespace);
    if (!this.#view.ready()) {
      return {
        kind: 'not-known',
        message: `nothing is known of namespace ${where} yet: not every input has been read`,
      };
    }
    if (ofMetric > 0) {
      const message = `no deployment of namespace ${where} fits the label selector; labels are ${deploymentLabels.join(', ')}`;
      return { kind: 'none', message };
    }
    const known = `${desiredReplicasMetric} and ${aibrixMetricPrefix}<deployment> are there for deployments that gpumix follows`;
    return { kind: 'none', message: `no metric ${shorten(metric)} in namespace ${where}: ${known}` };
  }

  /** By namespace; made anew when the view has changed. */
  #deployments(): ReadonlyMap<string, readonly KnownDeployment[]> {
    const models = this.#view.models();
    if (models === this.#indexed) return this.#byNamespace;
    const byNamespace = new Map<string, KnownDeployment[]>();
    for (const { name: model, deployments } of models) {
      for (const { namespace, name, gpuType } of deployments) {
        const known = { name, labels: { namespace, deployment: name, model, gpu_type: gpuType } };
        const others = byNamespace.get(namespace);
        if (others === undefined) byNamespace.set(namespace, [known]);
        else others.push(known);
      }
    }
    this.#indexed = models;
    this.#byNamespace = byNamespace;
    return byNamespace;
  }
}

/** Whether a Deployment is the one whose own metric this is. */
function isNamed(metric: string): (deployment: KnownDeployment) => boolean {
  if (!metric.startsWith(aibrixMetricPrefix)) return () => false;
  const wanted = metric.slice(aibrixMetricPrefix.length);
  return ({ name }) => name === wanted;
}

/** n - 0.5 in thousandths, as the quantity that AIBrix's autoscaler rounds up to n outside its dead band; 0 for none. */
function aibrixQuantity(replicas: number): string {
  return replicas === 0 ? '0' : `${replicas * 1000 - 500}m`;
}

/** Kubernetes' own times have no fractions of a second. */
function wholeSeconds(at: string): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}
