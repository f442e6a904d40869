import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../src/adapters/redis-settings.js';
import { createRedisStore } from '../../src/adapters/redis-store.js';
import { type LoggedRequest, readRequestLog } from '../../src/adapters/request-log.js';
import type { SharedStore } from '../../src/core/ports.js';
import { GatewayTrace } from '../../src/demand/gateway-trace.js';
import { formatTraceRecord } from '../../src/demand/trace-record.js';
import { loopbackAccess } from '../../src/service/access.js';
import { buildApp } from '../../src/service/http/app.js';
import { createLogger } from '../../src/service/log.js';
import { createMetrics, type Metrics } from '../../src/service/metrics.js';
import { deployment, World } from '../support/controller-world.js';
import { type RedisServer, redisMissing, startRedisServer } from '../support/redis-server.js';

/**
 * The main job on real parts: a recorded hour of production requests, written to a real Redis as the gateway writes it,
 * profiles from a published simulator, and the number that an autoscaler reads. Only the clock is the test's own.
 */
const logFile = '../shared/data/traces/azure_conv_2023.csv.gz';
const profileFile = (gpu: string): string => `../shared/data/aibrix/simulator-llama2-7b-${gpu}.json`;
const model = 'llama2-7b';
const a40 = 'simulator-llama2-7b-a40';
const a100 = 'simulator-llama2-7b-a100';
/** The cheap type alone cannot carry the rush, so that both types have to move. */
const mostA40 = 6;

const missing = existsSync(logFile) ? redisMissing : 'skipped: no ../shared/data (recorded requests and profiles)';
if (missing !== null) console.log(`redis-to-metric: ${missing}`);

type Profile = { readonly indexes: [number[], number[]]; readonly tputs: number[][]; readonly cost: number };

/** Seconds of the log at which its pace changes, and the pace from then on: a rush of four times the load. */
const paces = [
  { fromS: 0, pace: 1 },
  { fromS: 900, pace: 4 },
  { fromS: 2700, pace: 1 },
] as const;

/** When a second of the log happens, in seconds after the start. */
function happensAt(logSeconds: number): number {
  let at = 0;
  paces.forEach(({ fromS, pace }, i) => {
    const untilS = Math.min(logSeconds, paces[i + 1]?.fromS ?? Number.POSITIVE_INFINITY);
    if (untilS > fromS) at += (untilS - fromS) / pace;
  });
  return at;
}

describe.skipIf(missing !== null)('from request traces in Redis to the metric of an autoscaler', () => {
  let redis: RedisServer;
  let store: SharedStore;
  let world: World;
  let app: FastifyInstance;
  let metrics: Metrics;
  let requests: readonly LoggedRequest[];
  /** The same requests on the world's clock. */
  let arrivalsMs: Float64Array;
  let startMs = 0;
  const profiles = new Map<string, Profile>();
  const gateway = new GatewayTrace();
  let nextRequest = 0;
  let connected: () => void = () => undefined;

  beforeAll(async () => {
    redis = await startRedisServer();
    const clock = { now: () => world.nowMs };
    store = createRedisStore(parseRedisUrl(redis.url, 'redis'), clock, {
      commandTimeoutMs: 500,
      connectTimeoutMs: 500,
      onConnection: (state) => {
        if (state.connected) connected();
      },
    });
    world = new World({
      store,
      config: {
        deployments: {
          source: 'config',
          list: [
            { name: a40, model, gpuType: 'A40' },
            { name: a100, model, gpuType: 'A100-80GB' },
          ],
        },
      },
      deployments: [
        deployment({ name: a40, model, gpuType: 'A40', maxReplicas: mostA40, currentReplicas: null }),
        deployment({ name: a100, model, gpuType: 'A100-80GB', currentReplicas: null }),
      ],
    });
    startMs = Math.ceil(world.nowMs / 10_000) * 10_000 + 60_000;
    await writeProfiles();

    const log: LoggedRequest[] = [];
    for await (const request of readRequestLog({ file: logFile })) log.push(request);
    requests = log;
    arrivalsMs = Float64Array.from(log, (request) => startMs + happensAt(request.atMs / 1000) * 1000);

    metrics = createMetrics(world.controller);
    const logger = await createLogger({ level: 'silent', to: { write: () => undefined }, pretty: false });
    app = buildApp({
      view: world.controller,
      commands: world.controller,
      metrics,
      logger,
      version: '0.0.0',
      access: loopbackAccess,
    });
  });

  afterAll(async () => {
    await world?.controller.stop();
    await app?.close();
    metrics?.close();
    await store?.close();
    await redis?.stop();
  });

  async function writeProfiles(): Promise<void> {
    for (const [name, gpu] of [
      [a40, 'a40'],
      [a100, 'a100'],
    ] as const) {
      const text = readFileSync(profileFile(gpu), 'utf8');
      profiles.set(name, JSON.parse(text) as Profile);
      await store.writeProfile({ model, deployment: name }, text);
    }
  }

  /** Lets the gateway write what it had seen by the next cycle, then runs that cycle. */
  async function cycle(options: { readonly gatewayWrites: boolean }): Promise<void> {
    const nextMs = world.nowMs + Math.max(0, Math.min(...world.waits()));
    const finished = [];
    while (nextRequest < requests.length && arrivalsMs[nextRequest]! <= nextMs) {
      const { inputTokens, outputTokens } = requests[nextRequest]!;
      const atMs = arrivalsMs[nextRequest]!;
      // As `gpumix replay` assumes it by default: 0.5 s to the first token, 0.03 s for each.
      const completesAtMs = atMs + 500 + 30 * outputTokens;
      finished.push(...gateway.add({ atMs, inputTokens, outputTokens, completesAtMs }));
      nextRequest += 1;
    }
    finished.push(...gateway.advanceTo(nextMs));
    if (options.gatewayWrites) {
      const records = finished.map(({ endSeconds, record }) => ({
        model,
        endSeconds,
        text: formatTraceRecord(record),
      }));
      await store.writeTraces(records);
    }
    await world.cycle();
  }

  async function metricOf(name: string): Promise<number | string> {
    const answer = await app.inject({ method: 'GET', url: `/metrics/default/${name}` });
    if (answer.statusCode !== 200) return `status ${answer.statusCode}`;
    const [help, type, sample, ...rest] = answer.body.split('\n');
    expect([help, type, rest]).toEqual([
      '# HELP vllm:deployment_replicas Number of suggested replicas.',
      '# TYPE vllm:deployment_replicas gauge',
      [''],
    ]);
    const value = /^vllm:deployment_replicas\{model_name="llama2-7b"\} (\d+)$/.exec(sample ?? '')?.[1];
    if (value === undefined) throw new Error(`no sample: ${answer.body}`);
    return Number(value);
  }

  /** What AIBrix's autoscaler makes of a metric at `targetValue: "100"`. */
  async function podsOf(name: string): Promise<number> {
    return Math.ceil(Number(await metricOf(name)) / 100);
  }

  async function usdPerHour(): Promise<number> {
    return (await podsOf(a40)) * profiles.get(a40)!.cost + (await podsOf(a100)) * profiles.get(a100)!.cost;
  }

  /** Requests that arrived in the last window, and the busiest 10 s among them against the mean. */
  function recent(): { readonly arrived: readonly LoggedRequest[]; readonly busiest: number } {
    const endMs = Math.floor(world.nowMs / 10_000) * 10_000;
    const arrived = requests.filter((_, i) => arrivalsMs[i]! >= endMs - 240_000 && arrivalsMs[i]! < endMs);
    const perInterval = new Array<number>(24).fill(0);
    for (const [i, atMs] of arrivalsMs.entries()) {
      if (i >= nextRequest) break;
      const interval = Math.floor((atMs - (endMs - 240_000)) / 10_000);
      if (interval >= 0 && interval < 24) perInterval[interval]! += 1;
    }
    return { arrived, busiest: (Math.max(...perInterval) * 24) / Math.max(1, arrived.length) };
  }

  it('has no number before the first request, and says so instead of 0', async () => {
    await world.controller.start();
    await cycle({ gatewayWrites: true });
    expect(await metricOf(a40)).toBe('status 503');
    expect(world.held(model)).toBe('no_traces');
  });

  it('follows the load of a recorded hour, at the cost that its lengths call for', async () => {
    const costs: { atS: number; usd: number; a100Pods: number }[] = [];
    while (nextRequest < requests.length) {
      await cycle({ gatewayWrites: true });
      const atS = (world.nowMs - startMs) / 1000;
      if (atS < 300) continue;
      const usd = await usdPerHour();
      costs.push({ atS, usd, a100Pods: await podsOf(a100) });
      if (costs.length % 6 !== 0) continue;
      // Bounds that share nothing with the optimizer: the fractional cost of the requests as they were logged. Planned
      // for is between the mean and the busiest interval of the window; whole replicas add at most one of each type;
      // the gateway's buckets are up to 7 % short, and completions lag behind arrivals.
      const { arrived, busiest } = recent();
      const rpsEach = 1 / 240;
      expect(usd).toBeGreaterThan(0.85 * fractionalUsd(arrived, rpsEach));
      expect(usd).toBeLessThan(1.15 * fractionalUsd(arrived, rpsEach * busiest) + 1.3);
      expect(world.held(model)).toBeNull();
    }
    const meanUsd = (fromS: number, toS: number): number => {
      const some = costs.filter(({ atS }) => atS >= fromS && atS < toS);
      return some.reduce((sum, { usd }) => sum + usd, 0) / some.length;
    };
    // The rush lasts from 900 s to 1350 s; a window of 240 s later, it is all that is seen.
    const before = meanUsd(300, 900);
    const rush = meanUsd(1150, 1350);
    const after = meanUsd(1650, 1800);
    expect(rush / before).toBeGreaterThan(3);
    expect(after / rush).toBeLessThan(0.5);
    expect(costs.filter(({ atS }) => atS < 900).every(({ a100Pods }) => a100Pods <= 1)).toBe(true);
    expect(costs.some(({ a100Pods }) => a100Pods >= 5)).toBe(true);
  });

  it('holds the value with its reason while Redis is dead', async () => {
    const before = [await metricOf(a40), await metricOf(a100)];
    await redis.kill();
    for (let i = 0; i < 3; i += 1) await world.cycle();
    expect([await metricOf(a40), await metricOf(a100)]).toEqual(before);
    expect(world.held(model)).toBe('redis_unreachable');
    const readiness = await app.inject({ method: 'GET', url: '/readyz' });
    expect(readiness.statusCode).toBe(200);
    expect(readiness.body).toContain('redis_unreachable');
    expect((await app.inject({ method: 'GET', url: '/metrics' })).body).toContain(
      'gpumix_plan_held{model="llama2-7b",reason="redis_unreachable"} 1',
    );
  });

  it('holds the value after Redis came back empty: no traces are not no load', async () => {
    const before = [await metricOf(a40), await metricOf(a100)];
    const reconnected = new Promise<void>((resolve) => {
      connected = resolve;
    });
    await redis.restartEmpty();
    // Reconnecting waits up to three seconds of real time; the world's clock stands still meanwhile.
    await Promise.race([reconnected, delay(20_000, undefined, { ref: false })]);
    // Longer than the window: silence on an empty server never becomes zero, however long it lasts.
    for (let i = 0; i < 40; i += 1) await world.cycle();
    expect([await metricOf(a40), await metricOf(a100)]).toEqual(before);
    expect(world.held(model)).toBe('no_traces');
  });

  it('follows again when traces come back, without a restart', async () => {
    await writeProfiles();
    nextRequest = 0;
    const againMs = Math.ceil(world.nowMs / 10_000) * 10_000;
    // Every fourth request: a quarter of the load.
    requests = requests.filter((_, i) => i % 4 === 0).slice(0, 600);
    arrivalsMs = Float64Array.from(requests, (request) => againMs + request.atMs);
    const before = await usdPerHour();
    for (let i = 0; i < 36; i += 1) await cycle({ gatewayWrites: true });
    expect(world.held(model)).toBeNull();
    const { arrived, busiest } = recent();
    const usd = await usdPerHour();
    expect(usd).toBeLessThan(before);
    expect(usd).toBeGreaterThan(0.85 * fractionalUsd(arrived, 1 / 240));
    expect(usd).toBeLessThan(1.15 * fractionalUsd(arrived, busiest / 240) + 1.3);
  });

  it('holds the value after FLUSHALL, which no restart of the server tells', async () => {
    const before = [await metricOf(a40), await metricOf(a100)];
    redis.command('FLUSHALL');
    // Longer than the window, as above.
    for (let i = 0; i < 40; i += 1) await world.cycle();
    expect([await metricOf(a40), await metricOf(a100)]).toEqual(before);
    expect(world.held(model)).toBe('no_traces');
    expect(redis.command('GET', 'gpumix:state:epoch')).toContain('sinceMs');
  });

  /**
   * Cost of serving some requests with fractions of replicas [USD/h]: all on the A40, and beyond its limit those that
   * cost the least more on the A100. A request that the A100 cannot serve stays.
   */
  function fractionalUsd(some: readonly LoggedRequest[], rpsEach: number): number {
    const works = some.map((request) => ({
      onA40: rpsEach * workOf(profiles.get(a40)!, request),
      onA100: rpsEach * workOf(profiles.get(a100)!, request),
    }));
    let a40Work = works.reduce((sum, work) => sum + work.onA40, 0);
    let a100Work = 0;
    works.sort((a, b) => a.onA100 / a.onA40 - b.onA100 / b.onA40);
    for (const work of works) {
      if (a40Work <= mostA40 || !Number.isFinite(work.onA100)) break;
      a40Work -= work.onA40;
      a100Work += work.onA100;
    }
    return a40Work * profiles.get(a40)!.cost + a100Work * profiles.get(a100)!.cost;
  }
});

/** Seconds of a replica that one request takes: linear in tokens between grid points, in proportion to them beyond. */
function workOf({ indexes, tputs }: Profile, { inputTokens, outputTokens }: LoggedRequest): number {
  const { at: row, part: rowPart, growth: rowGrowth, nearest: nearestRow } = position(indexes[0], outputTokens);
  const {
    at: column,
    part: columnPart,
    growth: columnGrowth,
    nearest: nearestColumn,
  } = position(indexes[1], inputTokens);
  const nearest = tputs[nearestRow]![nearestColumn]!;
  if (nearest === 0) return Number.POSITIVE_INFINITY;
  let work = 0;
  for (const [r, rowWeight] of [
    [row, 1 - rowPart],
    [row + 1, rowPart],
  ] as const) {
    for (const [c, columnWeight] of [
      [column, 1 - columnPart],
      [column + 1, columnPart],
    ] as const) {
      if (rowWeight * columnWeight === 0) continue;
      const rps = tputs[r]![c]!;
      work += (rowWeight * columnWeight) / (rps === 0 ? nearest : rps);
    }
  }
  return work * rowGrowth * columnGrowth;
}

/** The nearest is that by ratio: above the geometric mean of two points it is the upper one. */
function position(axis: readonly number[], tokens: number) {
  const last = axis.length - 1;
  if (tokens <= axis[0]!) return { at: 0, part: 0, growth: 1, nearest: 0 };
  if (tokens >= axis[last]!) return { at: last - 1, part: 1, growth: tokens / axis[last]!, nearest: last };
  const at = axis.findIndex((value) => value > tokens) - 1;
  const [low, high] = [axis[at]!, axis[at + 1]!];
  const nearest = tokens < Math.sqrt(low * high) ? at : at + 1;
  return { at, part: (tokens - low) / (high - low), growth: 1, nearest };
}
