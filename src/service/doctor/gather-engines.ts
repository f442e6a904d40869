import type { Look, PrometheusInspection } from '../../core/inspection.js';
import type { Clock, EngineMetrics, ObservedDeployment, TraceSource, Unavailable } from '../../core/ports.js';

/** What is configured to tell of engines, asked once as the service asks it. */

/** A Prometheus server, and what is read of it. */
export type PrometheusSource = {
  readonly inspection: PrometheusInspection;
  /** Null = demand comes from elsewhere. */
  readonly demand: { readonly source: TraceSource; readonly delaySeconds: number } | null;
  readonly engines: EngineMetrics;
  /** Names of counters of which every engine has one, for each use. */
  readonly wanted: { readonly demand: readonly string[]; readonly engines: readonly string[] };
};

export type ScrapedEngines = {
  readonly source: EngineMetrics;
  /** Of the configuration, whether anything follows them or not. */
  readonly deployments: readonly { readonly id: string; readonly namespace: string; readonly name: string }[];
};

/** What one use of Prometheus lacks. */
export type SeriesConcern = {
  readonly use: 'demand' | 'engines';
  /** As the service says it, with the server. */
  readonly message: string;
  readonly wanted: readonly string[];
};

export type PrometheusLook = {
  readonly server: string;
  /** Of series that look like those of engines. */
  readonly names: readonly string[];
  readonly concerns: readonly SeriesConcern[];
};

/** @throws Unavailable where the server cannot be asked */
export async function lookAtPrometheus(
  { inspection, demand, engines, wanted }: PrometheusSource,
  deployments: readonly ObservedDeployment[],
  { clock, intervalSeconds }: { readonly clock: Clock; readonly intervalSeconds: number },
): Promise<Look<PrometheusLook>> {
  const names = await inspection.engineSeries();
  const look = (concerns: readonly SeriesConcern[], missing: string | null) => ({
    value: { server: inspection.server, names, concerns },
    missing,
  });
  const isAsleep = deployments.length > 0 && deployments.every(({ readyReplicas }) => readyReplicas === 0);
  if (names.length === 0 && isAsleep) return look([], 'series of engines: no replica of any deployment is ready');
  const concerns: SeriesConcern[] = [];
  const add = (use: SeriesConcern['use'], message: string | null | undefined) => {
    if (message) concerns.push({ use, message, wanted: wanted[use] });
  };
  if (deployments.length === 0) {
    // Whose engines they should be is not known; that there are any is.
    for (const use of demand === null ? (['engines'] as const) : (['demand', 'engines'] as const)) {
      const isThere = names.some((name) => wanted[use].includes(name));
      add(use, isThere ? null : `Prometheus at ${inspection.server}: found no counters of engines`);
    }
    return look(concerns, 'whose engines they are: the deployments are not known');
  }
  if (demand !== null) {
    const { source, delaySeconds } = demand;
    const endSeconds = Math.floor((clock.now() / 1000 - delaySeconds) / intervalSeconds) * intervalSeconds;
    const ready = readyByModel(deployments);
    await source.readTraces([...ready].map(([model, readyReplicas]) => ({ model, endSeconds, readyReplicas })));
    add('demand', source.concern);
  }
  add('engines', (await engines.read(deployments)).problems[0]);
  return look(concerns, null);
}

/** Null where a deployment of the model does not tell. */
function readyByModel(deployments: readonly ObservedDeployment[]): ReadonlyMap<string, number | null> {
  const ready = new Map<string, number | null>();
  for (const { model, readyReplicas } of deployments) {
    const before = ready.get(model);
    const sum = before === undefined ? 0 : before;
    ready.set(model, sum === null || readyReplicas === null ? null : sum + readyReplicas);
  }
  return ready;
}

/** Why engines cannot be read, one sentence each. */
export async function lookAtScraped({ source, deployments }: ScrapedEngines): Promise<Look<readonly string[]>> {
  const problems = await source.read(deployments).then(
    (reading) => reading.problems,
    (error: Unavailable) => [error.message],
  );
  return { value: problems, missing: null };
}
