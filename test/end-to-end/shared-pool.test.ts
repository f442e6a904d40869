import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore } from '../../src/adapters/redis-store.js';
import type { Plan } from '../../src/core/plan.js';
import { parsePlanningProblem } from '../../src/core/planning-problem.js';
import type { SharedStore } from '../../src/core/ports.js';
import { plan } from '../../src/optimizer/plan.js';
import { loopbackAccess } from '../../src/service/access.js';
import { buildApp } from '../../src/service/http/app.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics, type Metrics } from '../../src/service/metrics.js';
import { deployment, profileText, World } from '../support/controller-world.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

/** Two models of two teams on one pool, from traces in a real Redis to what HTTP says; only the clock is the test's own. */

if (redisMissing !== null) console.log(`shared-pool: ${redisMissing}`);

const deployments = ['chat', 'code'].map((model) =>
  deployment({
    name: model,
    namespace: `team-${model}`,
    model,
    gpuType: 'L4',
    usdPerReplicaHour: 1,
    currentReplicas: 0,
    startupSeconds: 30,
  }),
);

const config = {
  pools: [{ gpuType: 'L4', gpus: 6 }],
  quotas: [{ namespace: 'team-code', gpuType: 'L4', gpus: 4 }],
  models: { code: { priority: 1 } },
};

describe.skipIf(redisMissing !== null)('a pool that two models share', () => {
  let redis: RedisServer;
  let store: SharedStore;
  let world: World;
  let app: FastifyInstance;
  let metrics: Metrics;
  const stops: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    redis = await startRedisServer();
    store = createRedisStore(parseRedisUrl(redis.url, 'redis'), { now: () => world.nowMs });
    await serve(new World({ store, config, deployments }));
    for (const { name, model } of deployments) await world.writeProfile(name, profileText({}), model);
    await world.start();
  });

  async function serve(next: World): Promise<void> {
    world = next;
    metrics = createMetrics(next.controller);
    const made = metrics;
    const logger = await createLogger({ level: 'silent', to: { write: () => undefined }, pretty: false });
    app = buildApp({
      view: next.controller,
      commands: next.controller,
      metrics,
      logger,
      version: '0.0.0',
      access: loopbackAccess,
    });
    const madeApp = app;
    stops.push(async () => {
      await next.controller.stop();
      await madeApp.close();
      made.close();
    });
  }

  afterAll(async () => {
    for (const stop of stops) await stop();
    await store?.close();
    await redis?.stop();
  });

  /** An autoscaler that follows at once, in a cluster with so many L4. */
  async function cycles(count: number, supply = 6): Promise<void> {
    for (let cycle = 0; cycle < count; cycle += 1) {
      world.follow({ L4: supply });
      await world.cycle();
    }
  }

  /** Unserved requests/s that `/metrics` tells of a model, for a reason. */
  const unserved = async (model: string, reason: string): Promise<number> => {
    const { body } = await app.inject('/metrics');
    return Number(body.split(`gpumix_unserved_rps{model="${model}",reason="${reason}"} `)[1]?.split('\n')[0]);
  };

  const published = () => deployments.map(({ name, namespace }) => world.replicas(name, namespace));
  const targets = ({ deployments }: Plan) => deployments.map(({ targetReplicas }) => targetReplicas);
  const get = async <Body>(url: string) => (await app.inject(url)).json<Body>();

  it('goes first to the higher priority, and no GPU is given twice', async () => {
    world.send('chat', { rps: 4 }).send('code', { rps: 4 });
    await cycles(4);
    expect(published()).toEqual([2, 4]);
    const now = await get<Plan>('/api/v1/plan');
    expect(now).toMatchObject({ status: 'optimal', usdPerHour: 6, publishedUsdPerHour: 6 });
    expect(now.scarcity).toMatchObject([{ priority: 0, proven: true }]);
    expect(await unserved('chat', 'capacity')).toBeCloseTo(2, 6);
  });

  it('is in the document that is downloaded, which gives the same plan elsewhere', async () => {
    const text = (await app.inject('/api/v1/problem')).body;
    const problem = parsePlanningProblem(text, 'download');
    expect([problem.pools, problem.quotas]).toEqual([config.pools, config.quotas]);
    const again = plan(problem);
    const now = await get<Plan>('/api/v1/plan');
    expect(targets(again)).toEqual([2, 4]);
    expect(again.objectiveUsdPerHour).toBe(now.objectiveUsdPerHour);
  });

  it('is never given to more than the quota of a namespace, which is then the reason as far as there was room', async () => {
    world.send('chat', { rps: 1 }).send('code', { rps: 6 });
    await cycles(27);
    expect(published()).toEqual([1, 4]);
    expect(await unserved('code', 'quota')).toBeCloseTo(1, 6);
    expect(await unserved('code', 'capacity')).toBeCloseTo(1, 6);
  });

  it('is smaller by what a person fixed, at once in the next plan', async () => {
    const fixed = await app.inject({
      method: 'PUT',
      url: '/scale/team-chat/chat',
      payload: { replicas: 3 },
      headers: { 'content-type': 'application/json' },
    });
    expect(fixed.statusCode).toBe(200);
    await cycles(4);
    expect(published()).toEqual([3, 3]);
    await app.inject({
      method: 'PUT',
      url: '/scale/team-chat/chat',
      payload: { replicas: -1 },
      headers: { 'content-type': 'application/json' },
    });
    await cycles(4);
    expect(published()).toEqual([1, 4]);
  });

  it('is what came, where GPUs do not come; a restart of gpumix remembers it in Redis', async () => {
    // Half of the nodes go.
    await cycles(20, 3);
    const warnings = (await get<Plan>('/api/v1/plan')).warnings.map(({ code }) => code);
    expect(warnings).toContain('stock_out');
    expect((await app.inject('/metrics')).body).toContain('gpumix_gpu_type_short_gpus{gpu_type="L4"} 2');
    // The fourth, of which nothing else serves the demand, stays asked for: it is there when a node comes back.
    expect(published()).toEqual([0, 4]);
    expect(targets(await get<Plan>('/api/v1/plan'))).toEqual([0, 3]);
    const before = world;
    await before.controller.stop();
    await serve(new World({ store, config, deployments: before.deployments.current.deployments, nowMs: before.nowMs }));
    world.send('chat', { rps: 1 }).send('code', { rps: 6 });
    await world.start();
    expect(world.controller.shortages()).toEqual(before.controller.shortages());
    await cycles(3, 3);
    expect(published()).toEqual([0, 4]);
    expect(targets(await get<Plan>('/api/v1/plan'))).toEqual([0, 3]);
  });
});
