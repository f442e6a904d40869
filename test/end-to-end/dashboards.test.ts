import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Dashboard, Panel } from '@grafana/schema';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { loopbackAccess } from '../../src/service/access.js';
import { buildApp } from '../../src/service/http/app.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics, type Metrics } from '../../src/service/metrics.js';
import { deployment, profileText, unreachable, World } from '../support/controller-world.js';
import { type Choice, interpolate, labelValues, queryPrometheus } from '../support/grafana.js';
import { type PrometheusServer, prometheusMissing, startPrometheus } from '../support/prometheus-server.js';

/**
 * Every query of every dashboard, as Grafana would send it, at a real Prometheus that scrapes a running service. The
 * service is brought into the states that panels are about: unserved demand, a budget, a held model, GPUs that do not come.
 */
if (prometheusMissing !== null) console.log(`dashboards: ${prometheusMissing}`);

const folder = fileURLToPath(new URL('../../charts/gpumix/dashboards/', import.meta.url));
const files = readdirSync(folder).sort();
const moment = { rangeSeconds: 300, points: 300 };

const all = { all: '.*' };
const everything: Readonly<Record<string, Choice>> = { job: 'gpumix', namespace: all, model: all };

type Target = { readonly expr: string; readonly instant: boolean };
const dashboardIn = (file: string) => JSON.parse(readFileSync(`${folder}${file}`, 'utf8')) as Dashboard;
const queries = files.flatMap((file) =>
  (dashboardIn(file).panels ?? []).flatMap((panel) =>
    (((panel as Panel).targets ?? []) as unknown as readonly Target[]).map(({ expr, instant }) => ({
      panel: `${file}: ${panel.title}`,
      expr,
      instant,
    })),
  ),
);

describe.skipIf(prometheusMissing !== null)('the dashboards on a running service', () => {
  const deployments = [
    deployment({ name: 'chat-l4', namespace: 'team-a', model: 'chat', gpuType: 'L4', startupSeconds: 30 }),
    deployment({ name: 'chat-a100', namespace: 'team-a', model: 'chat', startupSeconds: 30 }),
    deployment({ name: 'code-l4', namespace: 'team-b', model: 'code', gpuType: 'L4', startupSeconds: 30 }),
    deployment({ name: 'silent-a100', namespace: 'team-b', model: 'silent' }),
  ];
  const world = new World({
    deployments,
    config: {
      pools: [
        { gpuType: 'L4', gpus: 6 },
        { gpuType: 'A100-80GB', gpus: 8 },
      ],
      quotas: [{ namespace: 'team-b', gpuType: 'L4', gpus: 4 }],
      budgetUsdPerHour: 12,
      stability: { scaleDownStabilizationSeconds: 300, scaleDownTolerance: 0 },
    },
  });
  let app: FastifyInstance;
  let metrics: Metrics;
  let prometheus: PrometheusServer;

  beforeAll(async () => {
    await world.writeProfile('chat-l4', profileText({ rps: 1, cost: 1 }), 'chat');
    await world.writeProfile('chat-a100', profileText({ rps: 3, cost: 2.5 }), 'chat');
    await world.writeProfile('code-l4', profileText({ rps: 1, cost: 1 }), 'code');
    world
      .send('chat', {
        rps: 4,
        pending: 2,
        lengths: [
          [300, 100],
          [3000, 700],
        ],
      })
      .send('code', { rps: 6 });
    await world.start();
    metrics = createMetrics(world.controller);
    const logger = await createLogger({ level: 'silent', to: { write: () => undefined }, pretty: false });
    const { controller } = world;
    const access = loopbackAccess;
    app = buildApp({ view: controller, commands: controller, metrics, logger, version: '0.0.0', access });
    const address = new URL(await app.listen({ port: 0, host: '127.0.0.1' })).host;
    prometheus = await startPrometheus([{ address, labels: { job: 'gpumix' } }]);
    // A quiet spell: what is kept is held up. Of the L4, only two come.
    await followed(8);
    world.send('chat', {
      rps: 2,
      pending: 2,
      lengths: [
        [300, 100],
        [3000, 700],
      ],
    });
    await followed(26);
    world.storeFault = unreachable;
    await world.cycle();
    world.storeFault = null;
    await scraped(2);
    // Rates need something that happens between two scrapes.
    await followed(2);
    await scraped(4);
    // Sums over time look every quarter of a minute, at whole ones.
    await vi.waitFor(
      async () => expect(await seriesOf('count_over_time(gpumix_plan_status[1h:15s])')).not.toEqual([]),
      {
        timeout: 120_000,
        interval: 200,
      },
    );
  }, 240_000);

  afterAll(async () => {
    await prometheus?.stop();
    await world.controller.stop();
    await app?.close();
    metrics?.close();
  });

  async function followed(cycles: number): Promise<void> {
    for (let cycle = 0; cycle < cycles; cycle += 1) {
      world.follow({ L4: 2 });
      await world.cycle();
    }
  }

  const seriesOf = (expr: string) => queryPrometheus(prometheus.url, { expr, instant: true, moment });

  /** Waits for so many scrapes from now on. */
  async function scraped(times: number): Promise<void> {
    const count = async () => {
      const [all] = await seriesOf('sum(count_over_time(gpumix_plan_status{status="held"}[1h]))');
      return all?.values[0] ?? 0;
    };
    const before = await count();
    await vi.waitFor(async () => expect(await count()).toBeGreaterThanOrEqual(before + times), {
      timeout: 120_000,
      interval: 200,
    });
  }

  it.each(queries)('$panel: $expr', async ({ expr, instant }) => {
    const sent = interpolate(expr, everything, moment);
    const series = await queryPrometheus(prometheus.url, { expr: sent, instant, moment });
    expect(series.length, sent).toBeGreaterThan(0);
    expect(
      series.some(({ values }) => values.some(Number.isFinite)),
      sent,
    ).toBe(true);
  });

  it.each(queries)('$panel takes a choice: $expr', async ({ expr, instant }) => {
    const sent = interpolate(expr, { job: 'gpumix', namespace: ['team-a'], model: ['chat', 'none.of+these'] }, moment);
    for (const { metric } of await queryPrometheus(prometheus.url, { expr: sent, instant, moment })) {
      if (metric.model !== undefined && sent.includes('model=~')) expect(metric.model, sent).toBe('chat');
    }
  });

  it.each(files)('%s: every variable has something to choose', async (file) => {
    for (const { name, query, type } of dashboardIn(file).templating?.list ?? []) {
      if (type !== 'query') continue;
      const asked = (query as { readonly query: string }).query;
      const options = await labelValues(prometheus.url, interpolate(asked, { job: 'gpumix' }, moment));
      expect(options.length, name).toBeGreaterThan(0);
      if (name === 'model') expect(options).toEqual(['chat', 'code', 'silent']);
      if (name === 'namespace') expect(options).toEqual(['team-a', 'team-b']);
    }
  });

  it('say what the service says', async () => {
    const { usdPerHour, unserved } = world.controller.plan()!;
    const shown = async (title: string) => {
      const { expr } = queries.find(({ panel }) => panel.endsWith(`: ${title}`))!;
      const series = await queryPrometheus(prometheus.url, {
        expr: interpolate(expr, everything, moment),
        instant: true,
        moment,
      });
      return series[0]!.values[0]!;
    };
    expect(await shown('Cost per hour')).toBeCloseTo(usdPerHour, 9);
    expect(await shown('Budget used')).toBeCloseTo(usdPerHour / 12, 9);
    expect(await shown('Models held')).toBe(1);
    expect(await shown('GPUs short')).toBeGreaterThan(0);
    expect(unserved.length).toBeGreaterThan(0);
  });
});
