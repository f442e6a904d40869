import { Gauge, Registry } from 'prom-client';
import { createMetrics } from '../src/service/metrics.js';
import { deploymentView, modelView, scriptedController } from '../test/support/scripted-view.js';
import { median } from './timing.js';

/**
 * One scrape of `/metrics` with a thousand models on three GPU types each, against the same gauges set and written by
 * prom-client. Both read everything anew, as a series must go with its deployment. Processor time of this process, which
 * the work of others on the machine disturbs less than the clock.
 */
export type ScrapeBenchmark = {
  readonly deployments: number;
  readonly series: number;
  /** Processor time of one scrape [ms]. */
  readonly scrapeMs: number;
  readonly promClientMs: number;
  readonly repetitions: number;
};

const gpuTypes = ['L4', 'A10', 'A100-80GB'];

export async function benchmarkScrape({ quick }: { readonly quick: boolean }): Promise<ScrapeBenchmark> {
  const repetitions = quick ? 5 : 25;
  const models = Array.from({ length: quick ? 100 : 1000 }, (_, i) => {
    const name = `model-${i}`;
    const deployments = gpuTypes.map((gpuType) =>
      deploymentView({ id: `default/${name}-${gpuType}`, name: `${name}-${gpuType}`, gpuType }),
    );
    return modelView({ name, deployments });
  });
  const metrics = createMetrics(scriptedController({ models }).view);
  try {
    const gauges = gaugesIn(await metrics.render());
    const promClient = promClientOf(gauges);
    const own: number[] = [];
    const other: number[] = [];
    for (let i = 0; i < repetitions; i += 1) {
      own.push(await processorMs(() => metrics.render()));
      other.push(await processorMs(promClient));
    }
    return {
      deployments: models.length * gpuTypes.length,
      series: gauges.reduce((sum, { series }) => sum + series.length, 0),
      scrapeMs: median(own),
      promClientMs: median(other),
      repetitions,
    };
  } finally {
    metrics.close();
  }
}

export function describeScrape(result: ScrapeBenchmark): string {
  const { deployments, series, scrapeMs, promClientMs, repetitions } = result;
  return [
    `${deployments} deployments, ${series} series: ${scrapeMs.toFixed(0)} ms of a core`,
    `the same gauges by prom-client: ${promClientMs.toFixed(0)} ms`,
    `ratio ${(scrapeMs / promClientMs).toFixed(2)}`,
    `medians of ${repetitions}`,
  ].join(' · ');
}

type Series = { readonly labels: Readonly<Record<string, string>>; readonly value: number };
type GaugeText = { readonly name: string; readonly labelNames: readonly string[]; readonly series: readonly Series[] };

/** The gauges of the service's own in an exposition. */
function gaugesIn(text: string): readonly GaugeText[] {
  const byName = new Map<string, Series[]>();
  for (const line of text.split('\n')) {
    const [, name, labels = '', value] = /^((?:gpumix|wva)_\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, said]) => [key!, said!] as const);
    const series = byName.get(name) ?? [];
    series.push({ labels: Object.fromEntries(pairs), value: Number(value) });
    byName.set(name, series);
  }
  return [...byName].map(([name, series]) => ({ name, series, labelNames: Object.keys(series[0]!.labels) }));
}

function promClientOf(gauges: readonly GaugeText[]): () => Promise<string> {
  const registry = new Registry();
  const made = gauges.map(({ name, labelNames, series }) => ({
    gauge: new Gauge({ name, help: name, labelNames: [...labelNames], registers: [registry] }),
    series,
  }));
  return async () => {
    for (const { gauge, series } of made) {
      gauge.reset();
      for (const { labels, value } of series) gauge.set(labels, value);
    }
    return registry.metrics();
  };
}

async function processorMs(work: () => Promise<string>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
