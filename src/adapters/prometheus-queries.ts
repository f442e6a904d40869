import type { EngineMetrics, EngineSample } from '../core/ports.js';
import { addTo, engineMetricNames, everyEnginesCounter, totalsOf } from './engine-metrics.js';
import { createPrometheusApi, type PrometheusAccess, quotedAlternatives, type Vector } from './prometheus-api.js';

/**
 * What engines tell of themselves, from a Prometheus server (or Thanos, Mimir, VictoriaMetrics) that scrapes them: their
 * counters as they stand, by pod, and when each pod was last scraped. Increases are made of them here, as of engines that
 * are scraped directly, so that the same rules hold for restarts and gaps.
 */

export type PrometheusSettings = PrometheusAccess & {
  readonly namespaceLabel: string;
  readonly podLabel: string;
  /** Label that names the deployment itself; null = the pod's name tells it. */
  readonly deploymentLabel: string | null;
};

/** Namespaces that a query names; of more, the series of all are asked for. */
const namedNamespaces = 50;

/** The engines of deployments, from a Prometheus server. */
export function createPrometheusEngines(settings: PrometheusSettings): EngineMetrics {
  const { namespaceLabel, podLabel, deploymentLabel } = settings;
  const api = createPrometheusApi(settings);
  const instanceLabels = [namespaceLabel, ...(deploymentLabel === null ? [] : [deploymentLabel]), podLabel];
  return {
    async read(deployments) {
      if (deployments.length === 0) return { samples: [], problems: [] };
      const where = namespaceMatcher(namespaceLabel, deployments);
      const by = ['__name__', ...instanceLabels].join(', ');
      const counters = await api.instant(`sum by (${by}) ({__name__=~"${oneOf(engineMetricNames)}"${where}})`, null);
      const atSeconds = counters[0]?.value[0] ?? null;
      if (atSeconds === null) return { samples: [], problems: [nothingFound(api.name)] };
      // Of one moment, so that no scrape lies between the two answers.
      const scrapes = await api.instant(
        `max by (${instanceLabels.join(', ')}) (timestamp({__name__=~"${oneOf(everyEnginesCounter)}"${where}}))`,
        atSeconds,
      );
      const samples = samplesOf({ counters, scrapes, deployments, settings });
      // Summed by a label that no series has they are one, of nobody: that would be silence without an end.
      const missing = samples.length > 0 ? undefined : instanceLabels.find((label) => isNowhere(label, counters));
      return { samples, problems: missing === undefined ? [] : [nothingLabelled(api.name, missing)] };
    },
    close: () => api.close(),
  };
}

function nothingFound(server: string): string {
  return `Prometheus at ${server}: found no counters of engines in the namespaces of the deployments, expected those of vLLM or SGLang`;
}

function isNowhere(label: string, series: Vector): boolean {
  return series.every(({ metric }) => (metric[label] ?? '') === '');
}

function nothingLabelled(server: string, label: string): string {
  return `Prometheus at ${server}: found counters of engines without the label ${JSON.stringify(label)}, expected the one that tells whose they are`;
}

function oneOf(names: readonly string[]): string {
  return names.join('|');
}

function namespaceMatcher(label: string, deployments: readonly { readonly namespace: string }[]): string {
  const namespaces = [...new Set(deployments.map(({ namespace }) => namespace))].sort();
  if (namespaces.length > namedNamespaces) return '';
  return `, ${label}=~${quotedAlternatives(namespaces)}`;
}

function samplesOf(options: {
  readonly counters: Vector;
  readonly scrapes: Vector;
  readonly deployments: readonly { readonly id: string; readonly namespace: string; readonly name: string }[];
  readonly settings: Pick<PrometheusSettings, 'namespaceLabel' | 'podLabel' | 'deploymentLabel'>;
}): readonly EngineSample[] {
  const { counters, scrapes, deployments, settings } = options;
  const { namespaceLabel, podLabel, deploymentLabel } = settings;
  const instanceOf = (metric: Readonly<Record<string, string>>): string =>
    [namespaceLabel, deploymentLabel ?? '', podLabel].map((label) => metric[label] ?? '').join('/');
  const sums = new Map<
    string,
    { readonly metric: Readonly<Record<string, string>>; readonly sums: Map<string, number> }
  >();
  for (const { metric, value } of counters) {
    const instance = instanceOf(metric);
    const entry = sums.get(instance) ?? { metric, sums: new Map<string, number>() };
    sums.set(instance, entry);
    addTo(entry.sums, metric.__name__ ?? '', Number(value[1]));
  }
  const scrapedAt = new Map(scrapes.map(({ metric, value }) => [instanceOf(metric), Number(value[1]) * 1000]));
  const byNamespace = new Map<string, Map<string, string>>();
  for (const { id, namespace, name } of deployments) {
    const names = byNamespace.get(namespace) ?? new Map<string, string>();
    byNamespace.set(namespace, names.set(name, id));
  }
  const samples: EngineSample[] = [];
  for (const [instance, entry] of sums) {
    const atMs = scrapedAt.get(instance);
    const names = byNamespace.get(entry.metric[namespaceLabel] ?? '');
    if (atMs === undefined || !Number.isFinite(atMs) || names === undefined) continue;
    const name =
      deploymentLabel === null ? deploymentOfPod(entry.metric[podLabel] ?? '') : entry.metric[deploymentLabel];
    const deployment = names.get(name ?? '');
    const totals = totalsOf(entry.sums);
    if (deployment !== undefined && totals !== null) samples.push({ deployment, instance, atMs, ...totals });
  }
  return samples;
}

/**
 * The Deployment of a pod, by its name: `<deployment>-<hash of the ReplicaSet>-<5 characters>`. Null where it is no such
 * name: a pod of something else, or of a Deployment whose name was too long for its pods.
 */
export function deploymentOfPod(pod: string): string | null {
  // Kubernetes makes both parts of these characters only.
  return /^(.+)-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$/.exec(pod)?.[1] ?? null;
}
