import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { InputError } from '../core/input-error.js';
import { check, parseJson } from '../core/parse.js';
import { type EngineMetrics, type EngineSample, Unavailable } from '../core/ports.js';
import { createAgent, RequestFailed, readBounded, shownUrl } from './bounded-request.js';
import { addTo, engineMetricNames, everyEnginesCounter, totalsOf } from './engine-metrics.js';

/**
 * What engines tell of themselves, from a Prometheus server (or Thanos, Mimir, VictoriaMetrics) that scrapes them: their
 * counters as they stand, by pod, and when each pod was last scraped. Increases are made of them here, as of engines that
 * are scraped directly, so that the same rules hold for restarts and gaps.
 */

export type PrometheusSettings = {
  /** Of the server; `/api/v1/query` is added. */
  readonly url: string;
  /** File with a token that is sent as `Authorization: Bearer`; read anew for each query, since tokens are renewed. */
  readonly bearerTokenFile: string | null;
  /** PEM text of the authority to trust, instead of the system's. */
  readonly ca: string | null;
  readonly namespaceLabel: string;
  readonly podLabel: string;
  /** Label that names the deployment itself; null = the pod's name tells it. */
  readonly deploymentLabel: string | null;
  readonly timeoutMs: number;
};

/** Counters of a thousand replicas have about 3 MB. */
const largestAnswerBytes = 64 * 1024 * 1024;

/** Namespaces that a query names; of more, the series of all are asked for. */
const namedNamespaces = 50;

const answerSchema = z.object({
  status: z.literal('success'),
  data: z.object({
    resultType: z.literal('vector'),
    result: z.array(
      z.object({
        metric: z.record(z.string(), z.string()),
        value: z.tuple([z.number(), z.string()]),
      }),
    ),
  }),
});
type Vector = z.output<typeof answerSchema>['data']['result'];

/** The engines of deployments, from a Prometheus server. */
export function createPrometheusEngines(settings: PrometheusSettings): EngineMetrics {
  const { namespaceLabel, podLabel, deploymentLabel } = settings;
  const agent = createAgent(settings.ca);
  const instanceLabels = [namespaceLabel, ...(deploymentLabel === null ? [] : [deploymentLabel]), podLabel];
  const query = async (text: string, atSeconds: number | null): Promise<Vector> => {
    const url = new URL(settings.url);
    url.pathname = `${url.pathname.replace(/\/$/, '')}/api/v1/query`;
    const source = `Prometheus at ${shownUrl(url)}`;
    try {
      const headers = {
        accept: 'application/json',
        'content-type': 'application/x-www-form-urlencoded',
        ...(await authorization(settings.bearerTokenFile)),
      };
      const parameters = new URLSearchParams({
        query: text,
        ...(atSeconds === null ? {} : { time: String(atSeconds) }),
      });
      const body = parameters.toString();
      const { timeoutMs } = settings;
      const limits = { timeoutMs, largestBytes: largestAnswerBytes, dispatcher: agent };
      const answer = await readBounded({ url, method: 'POST', headers, body, ...limits });
      return check(answerSchema, parseJson(answer, source), source).data.result;
    } catch (error) {
      if (error instanceof RequestFailed) {
        throw new Unavailable(
          'prometheus_unreachable',
          `${source}: found ${error.message}, expected the answer to a query`,
        );
      }
      if (error instanceof InputError) throw new Unavailable('prometheus_malformed', error.message);
      throw error;
    }
  };
  return {
    async read(deployments) {
      if (deployments.length === 0) return { samples: [], problems: [] };
      const where = namespaceMatcher(namespaceLabel, deployments);
      const by = ['__name__', ...instanceLabels].join(', ');
      const counters = await query(`sum by (${by}) ({__name__=~"${oneOf(engineMetricNames)}"${where}})`, null);
      const atSeconds = counters[0]?.value[0] ?? null;
      if (atSeconds === null) return { samples: [], problems: [nothingFound(settings.url)] };
      // Of one moment, so that no scrape lies between the two answers.
      const scrapes = await query(
        `max by (${instanceLabels.join(', ')}) (timestamp({__name__=~"${oneOf(everyEnginesCounter)}"${where}}))`,
        atSeconds,
      );
      const samples = samplesOf({ counters, scrapes, deployments, settings });
      // Summed by a label that no series has they are one, of nobody: that would be silence without an end.
      const missing = samples.length > 0 ? undefined : instanceLabels.find((label) => isNowhere(label, counters));
      return { samples, problems: missing === undefined ? [] : [nothingLabelled(settings.url, missing)] };
    },
    close: () => agent.destroy(),
  };
}

function nothingFound(url: string): string {
  return `Prometheus at ${shownUrl(new URL(url))}: found no counters of engines in the namespaces of the deployments, expected those of vLLM or SGLang`;
}

function isNowhere(label: string, series: Vector): boolean {
  return series.every(({ metric }) => (metric[label] ?? '') === '');
}

function nothingLabelled(url: string, label: string): string {
  return `Prometheus at ${shownUrl(new URL(url))}: found counters of engines without the label ${JSON.stringify(label)}, expected the one that tells whose they are`;
}

async function authorization(file: string | null): Promise<Record<string, string>> {
  if (file === null) return {};
  try {
    return { authorization: `Bearer ${(await readFile(file, 'utf8')).trim()}` };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new RequestFailed(`no token in ${file} (${code})`);
  }
}

function oneOf(names: readonly string[]): string {
  return names.join('|');
}

function namespaceMatcher(label: string, deployments: readonly { readonly namespace: string }[]): string {
  const namespaces = [...new Set(deployments.map(({ namespace }) => namespace))].sort();
  if (namespaces.length > namedNamespaces) return '';
  // First as a regular expression, then as a text in double quotes.
  const escaped = namespaces.map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return `, ${label}=~${JSON.stringify(escaped.join('|'))}`;
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
