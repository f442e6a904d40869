import type { FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import type { ObservedDeployment } from '../../src/core/ports.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { loopbackAccess } from '../../src/service/access.js';
import { buildApp } from '../../src/service/http/app.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics } from '../../src/service/metrics.js';
import { deployment, profileText, unreachable, World, type WorldOptions } from '../support/controller-world.js';
import { followDeployments } from '../support/followed-deployments.js';
import { type FakeCluster, manifest, startFakeCluster } from '../support/test-cluster.js';

/**
 * What the whole controller promises to those who operate it, each on the way that it really takes: what a gateway, a
 * benchmark or a person writes on one side, the number that an autoscaler reads on the other.
 */

const gpu = deployment({ name: 'gpu', usdPerReplicaHour: 2 });

function worldOf(options: WorldOptions = {}): Promise<World> {
  return new World({ deployments: [gpu], profiles: { gpu: profileText({ rps: 1 }) }, ...options }).start();
}

/** The real HTTP face of a world's controller. */
async function faceOf(world: World): Promise<FastifyInstance> {
  const metrics = createMetrics(world.controller);
  const logger = await createLogger({ level: 'silent', to: { write: () => undefined }, pretty: false });
  const app = buildApp({
    view: world.controller,
    commands: world.controller,
    metrics,
    logger,
    version: '0.0.0',
    access: loopbackAccess,
  });
  onTestFinished(async () => {
    await app.close();
    metrics.close();
  });
  return app;
}

/** What the metric's route answers: the number, or the status where there is none. */
async function metricOf(app: FastifyInstance, name: string, namespace = 'default'): Promise<number | string> {
  const answer = await app.inject({ method: 'GET', url: `/metrics/${namespace}/${name}` });
  if (answer.statusCode !== 200) return `status ${answer.statusCode}`;
  return Number(/^vllm:deployment_replicas\{.*\} (\S+)$/m.exec(answer.body)?.[1]);
}

/** Pods at `targetValue: "100"`, as the autoscaler computes them outside of its tolerance. */
function podsAt(metric: number | string): number {
  if (typeof metric !== 'number') throw new Error(`no number: ${metric}`);
  if (metric >= 90 && metric <= 110) throw new Error(`${metric} is within the tolerance: nothing would change`);
  return Math.ceil(metric / 100);
}

describe('a label min_replicas of "3" on a Deployment of an API server', () => {
  let cluster: FakeCluster;

  beforeEach(async () => {
    cluster = await startFakeCluster();
  });
  afterEach(async () => {
    await cluster.stop();
  });

  it('is three pods while the model is idle, through targetValue 100, and what the load needs otherwise', async () => {
    const labels = { 'model.aibrix.ai/min_replicas': '3' };
    await cluster.write.create(manifest({ name: 'llama-l20', model: 'llama', labels, replicas: 8 }));
    const followed = await followDeployments({ kubeconfig: cluster.kubeconfig });
    onTestFinished(() => followed.source.stop());
    const { deployments } = await followed.until(({ synced }) => synced);
    const world = await worldOf({ deployments, profiles: { 'llama-l20': profileText({ rps: 1 }) } });
    const app = await faceOf(world);
    // Eight run, and nothing is known yet: no number, least of all 8 in another unit.
    expect(await metricOf(app, 'llama-l20')).toBe('status 503');
    await world.send('llama', { rps: 1.5 }).cycle();
    expect(podsAt(await metricOf(app, 'llama-l20'))).toBe(2);
    await world.send('llama', null).cycles(26);
    expect(world.controller.models()[0]?.demand?.idle).toBe(true);
    expect(await metricOf(app, 'llama-l20')).toBe(250);
    expect(podsAt(await metricOf(app, 'llama-l20'))).toBe(3);
  });
});

describe('three replicas that a person asks for with PUT /scale', () => {
  it('are three pods, and again what the load needs once it is cleared', async () => {
    const world = await worldOf();
    const app = await faceOf(world);
    await world.send('llama', { rps: 6 }).cycle();
    const scale = (replicas: number) =>
      app.inject({ method: 'PUT', url: '/scale/default/gpu', payload: JSON.stringify({ replicas }) });
    expect((await scale(3)).json()).toEqual({ message: 'Scaled to 3' });
    expect(podsAt(await metricOf(app, 'gpu'))).toBe(3);
    await world.cycles(2);
    expect(podsAt(await metricOf(app, 'gpu'))).toBe(3);
    expect((await scale(-1)).statusCode).toBe(200);
    await world.cycle();
    expect(podsAt(await metricOf(app, 'gpu'))).toBe(6);
  });
});

describe('throughputs', () => {
  it('that are whole numbers are planned with like any others', async () => {
    const tputs = [
      [3, 2],
      [5, 2],
    ];
    const world = await worldOf({ profiles: { gpu: profileText({ tputs }) } });
    // 128 in and 64 out is a point of the grid: 3 requests/s a replica.
    await world.send('llama', { rps: 7, inputTokens: 128, outputTokens: 64 }).cycle();
    expect(world.replicas('gpu')).toBe(3);
  });

  it('may have been measured on another grid for each GPU type', async () => {
    const other = JSON.stringify({
      gpu: 'small',
      cost: 0.5,
      indexes: [
        [0, 32, 128, 512],
        [16, 128, 8192],
      ],
      tputs: [
        [9, 4, 1],
        [9, 4, 1],
        [4, 2, 0.5],
        [2, 1, 0],
      ],
    });
    const world = await worldOf({
      deployments: [gpu, deployment({ name: 'small', gpuType: 'L4', usdPerReplicaHour: 0.5 })],
      profiles: { gpu: profileText({ rps: 8 }), small: other },
    });
    // At 128 in and 128 out small serves 2 requests/s for 0.5 USD/h, the other one 8 for 2: six for 1.5 beats one for 2.
    await world.send('llama', { rps: 6, inputTokens: 128, outputTokens: 128 }).cycle();
    await world.settle();
    expect([world.replicas('gpu'), world.replicas('small')]).toEqual([0, 3]);
  });

  it('measured anew on another grid change the next plan, without a restart', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 6, inputTokens: 512, outputTokens: 128 }).cycle();
    expect(world.replicas('gpu')).toBe(6);
    const finer = {
      gpu: 'gpu',
      cost: 1,
      indexes: [
        [32, 128, 512],
        [128, 512, 2048],
      ],
      tputs: [
        [4, 4, 4],
        [4, 3, 3],
        [2, 2, 2],
      ],
    };
    await world.writeProfile('gpu', JSON.stringify(finer));
    await world.cycle();
    expect([world.replicas('gpu'), world.held(), world.warnings()]).toEqual([2, null, []]);
  });

  it('that are full to the last request take no replica more, and none less', async () => {
    // 0.1 × 3 and the like are no exact numbers: what is exactly full must be neither cut off nor rounded up.
    for (const [rps, perReplica, expected] of [
      [0.3, 0.1, 3],
      [0.7, 0.1, 7],
      [2.1, 0.3, 7],
      [10, 1, 10],
      [0.9, 1, 1],
    ] as const) {
      const world = await worldOf({ profiles: { gpu: profileText({ rps: perReplica }) } });
      await world.send('llama', { rps }).cycle();
      expect([rps, perReplica, world.replicas('gpu')]).toEqual([rps, perReplica, expected]);
    }
  });
});

describe('a length that no deployment serves within the objective', () => {
  it('is served as well as it can be, beside the others, and every plan says so', async () => {
    // Long inputs are beyond the objective. They count with the work of the nearest cell, grown with their tokens.
    const tputs = [
      [2, 0],
      [2, 0],
    ];
    const world = await worldOf({ profiles: { gpu: profileText({ tputs }) } });
    const lengths = [
      [128, 64],
      [4096, 64],
    ] as const;
    await world.send('llama', { rps: 2, lengths }).cycle();
    // One request/s of 128 tokens takes half a replica; one of 4096 takes 32 times as much.
    expect(world.replicas('gpu')).toBe(17);
    expect(world.warnings()).toEqual(['best_effort']);
    const shares = world.controller.plan()!.shares.map(({ inputTokens, bestEffort }) => [inputTokens, bestEffort]);
    expect(shares).toEqual([
      [128, false],
      [4096, true],
    ]);
    expect(world.controller.plan()?.unserved).toEqual([]);
  });
});

describe('sparse traffic', () => {
  /** Every request of another length, one in each interval, none alike. */
  const dissimilar = [
    [128, 64],
    [256, 1024],
    [4096, 64],
    [1024, 256],
    [2048, 512],
    [181, 128],
  ] as const;

  it('of requests none of which is like another is planned for, up and down', async () => {
    const world = await worldOf({ profiles: { gpu: profileText({ rps: 0.05 }) } });
    const seen: (number | string)[] = [];
    for (const [i, length] of dissimilar.entries()) {
      await world.send('llama', { rps: 0.1, lengths: [length] }).cycle();
      if (i > 0) seen.push(world.replicas('gpu'));
    }
    expect(new Set(seen)).toEqual(new Set([2]));
    expect(world.controller.plan()?.shares).toHaveLength(dissimilar.length);
    await world.send('llama', { rps: 0.2, lengths: dissimilar.slice(0, 2) }).cycles(2);
    expect(world.replicas('gpu')).toBe(4);
    // Then silence: the rate falls as the window moves on, before the model is idle.
    world.send('llama', null);
    const falling: (number | string)[] = [];
    while (falling.length < 40) {
      await world.cycle();
      if (world.controller.models()[0]?.demand?.idle) break;
      falling.push(world.replicas('gpu'));
    }
    expect([...new Set(falling)]).toEqual([4, 1]);
    expect(world.controller.models()[0]?.demand?.idle).toBe(true);
  });

  it('of a few long prompts among many short ones is counted with the work of the long ones', async () => {
    const tputs = [
      [10, 0.1],
      [10, 0.1],
    ];
    const world = await worldOf({ profiles: { gpu: profileText({ tputs }) } });
    const short = Array.from({ length: 19 }, () => [128, 64] as const);
    await world.send('llama', { rps: 10, completions: 20, lengths: [...short, [4096, 64]] }).cycle();
    // 9.5 rps of short ones are 0.95 replicas, 0.5 rps of long ones are 5. At their mean length, about 330 tokens in,
    // all ten would seem to take 12 replicas, at the commonest length one.
    expect(world.replicas('gpu')).toBe(6);
    const work = world.controller.plan()!.deployments[0]!;
    expect(work.utilization * 6).toBeCloseTo(5.95, 9);
  });
});

describe('the rate that is planned for', () => {
  it('is that of arrivals while replicas are full and answers come late', async () => {
    const world = await worldOf();
    await world.send('llama', { rps: 10, completions: 20, pending: 80 }).cycles(5);
    expect(world.controller.models()[0]?.demand).toMatchObject({ rps: 10, forecastRps: 10, pendingRequests: 80 });
    expect(world.replicas('gpu')).toBe(10);
  });

  it('takes requests of unknown length for requests like the others, not for tiny ones', async () => {
    const world = await worldOf({
      profiles: {
        gpu: profileText({
          tputs: [
            [8, 1],
            [8, 1],
          ],
        }),
      },
    });
    // Ten arrive a second; nine of ten never say how long they were.
    for (let i = 0; i < 4; i += 1) {
      const endSeconds = Math.floor(world.nowMs / 10_000) * 10 + 10;
      const text = formatTraceRecord({
        intervalSeconds: 10,
        arrivals: 100,
        pending: 0,
        queueing: 0,
        unknownLength: 90,
        buckets: [{ inputTokens: 4096, outputTokens: 1024, count: 10 }],
      });
      await world.store.writeTraces([{ model: 'llama', endSeconds, text }]);
      await world.cycle();
    }
    expect(world.controller.plan()?.shares).toMatchObject([{ inputTokens: 4096, outputTokens: 1024, rps: 10 }]);
    expect(world.replicas('gpu')).toBe(10);
  });

  it('is read whole from the first cycle on that finds the store, also where it was away at the start', async () => {
    const store = createMemoryStore({ now: () => Date.UTC(2026, 10, 20, 9) });
    const before = await new World({ deployments: [gpu], store, profiles: { gpu: profileText({}) } }).start();
    await before.send('llama', { rps: 4 }).cycles(30);
    const world = new World({ deployments: [gpu], store, nowMs: before.nowMs + 1000 });
    world.storeFault = unreachable;
    await world.controller.start();
    await world.cycles(3);
    expect(world.replicas('gpu')).toBe('not-known');
    world.storeFault = null;
    await world.send('llama', { rps: 4 }).cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([4, null]);
    expect(world.controller.models()[0]?.demand?.knownIntervals).toBeGreaterThanOrEqual(22);
  });

  it('does not depend on the second at which the service starts, also where nothing was written yet', async () => {
    for (const startSecond of [0, 3, 7.35, 9.999]) {
      const world = await worldOf({ nowMs: Date.UTC(2026, 10, 20, 10) + startSecond * 1000 });
      await world.cycles(2);
      await world.send('llama', { rps: 5 }).cycles(2);
      expect([startSecond, world.replicas('gpu')]).toEqual([startSecond, 5]);
      expect(world.nowMs % 10_000).toBe(1500);
    }
  });
});

describe('money', () => {
  it('falls with a deployment that is gone, and is a number also where a price is unknown', async () => {
    const second = deployment({ name: 'second', usdPerReplicaHour: 3, minReplicas: 2 });
    const priceless = deployment({ name: 'priceless', gpuType: 'L4', currentReplicas: 1 });
    const world = await worldOf({
      deployments: [gpu, second, priceless],
      profiles: {
        gpu: profileText({ rps: 1 }),
        second: profileText({ rps: 1 }),
        priceless: profileText({ cost: null }),
      },
    });
    await world.send('llama', { rps: 4 }).cycle();
    expect(world.controller.plan()).toMatchObject({ usdPerHour: 10, publishedUsdPerHour: 10, gap: 0 });
    world.deployments.set({ deployments: [gpu, priceless] });
    await world.cycle();
    expect(world.controller.plan()).toMatchObject({ usdPerHour: 8, publishedUsdPerHour: 8, boundUsdPerHour: 8 });
  });
});

describe('many deployments and models that vanish at once', () => {
  it('take nothing else with them', async () => {
    const many: ObservedDeployment[] = [];
    for (let i = 0; i < 20; i += 1) many.push(deployment({ name: `gpu-${i}`, model: `model-${i % 5}` }));
    const world = await worldOf({ deployments: [gpu, ...many] });
    await world.send('llama', { rps: 3 }).cycle();
    expect(world.controller.models()).toHaveLength(6);
    world.deployments.set({ deployments: [gpu, many[7]!] });
    await world.cycle();
    expect(world.controller.models().map(({ name }) => name)).toEqual(['llama', 'model-2']);
    world.deployments.set({ deployments: [gpu] });
    await world.send('llama', { rps: 5 }).cycle();
    expect([world.replicas('gpu'), world.held()]).toEqual([5, null]);
    expect(world.replicas('gpu-7')).toBe('no-such-deployment');
  });
});

describe('requests to stop following what nobody follows', () => {
  it('answer at once, and neither cycles nor other requests wait for them', async () => {
    const world = await worldOf();
    const app = await faceOf(world);
    await world.send('llama', { rps: 2 }).cycle();
    for (const path of ['default/unknown', 'other/gpu', 'default/gpu', 'default/gpu']) {
      const answer = await app.inject({ method: 'DELETE', url: `/monitor/${path}` });
      expect([path, answer.statusCode, answer.json()]).toEqual([
        path,
        200,
        { message: 'Deployment optimization stopped' },
      ]);
    }
    await world.cycle();
    expect(await metricOf(app, 'gpu')).toBe('status 404');
    expect((await app.inject({ method: 'POST', url: '/monitor/default/gpu' })).statusCode).toBe(200);
    await world.send('llama', { rps: 4 }).cycles(2);
    expect(await metricOf(app, 'gpu')).toBe(350);
  });
});

describe('the number', () => {
  it('is answered at once while the store hangs and the API server is gone', async () => {
    const world = await worldOf();
    const app = await faceOf(world);
    await world.send('llama', { rps: 3 }).cycles(2);
    let release = (): void => undefined;
    const hanging = new Promise<never>((_resolve, reject) => {
      release = () => reject(unreachable);
    });
    // Whoever asks gets the rejection; that nobody may have asked is no fault of the test's.
    hanging.catch(() => undefined);
    Object.assign(world.store, { identity: () => hanging, readTraces: () => hanging });
    world.deployments.set({ staleSince: world.nowMs, problem: 'no answer' });
    const cycle = world.cycle();
    let cycleEnded = false;
    void cycle.then(() => {
      cycleEnded = true;
    });
    const answers = await Promise.all(Array.from({ length: 50 }, () => metricOf(app, 'gpu')));
    expect([new Set(answers), cycleEnded]).toEqual([new Set([250]), false]);
    release();
    await cycle;
    expect([await metricOf(app, 'gpu'), world.held()]).toEqual([250, 'kubernetes_unreachable']);
  });
});
