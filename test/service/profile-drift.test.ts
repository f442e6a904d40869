import { afterEach, describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { createScrapedEngines } from '../../src/adapters/engine-metrics.js';
import { gpuByName } from '../../src/core/gpu-types.js';
import { modelByName } from '../../src/core/model-types.js';
import {
  type EngineMetrics,
  type EngineReading,
  type EngineSample,
  type SharedStore,
  Unavailable,
} from '../../src/core/ports.js';
import { createMetrics } from '../../src/service/metrics.js';
import { stepTimesOf } from '../../src/simulation/step-time.js';
import { CountedEngine } from '../profiling/counted-engine.js';
import { deployment, unreachable, World, type WorldOptions } from '../support/controller-world.js';
import { type ScriptedEndpoint, startEndpoint } from '../support/scripted-endpoint.js';

/**
 * A model on H100s, of which each serves 17 requests/s of 1,024 + 256 tokens by its profile. The engines are simulated
 * ones in virtual time; every replica gets its part of the requests.
 */
const stepTimes = stepTimesOf({
  gpu: gpuByName(await loadGpuCatalogue(), 'H100')!,
  model: modelByName(await loadModelCatalogue(), 'llama-3.1-8b')!,
  gpusPerReplica: 1,
  weightPrecision: 'bf16',
});
const throughputRps = 17;
const demandRps = 150;
const minutes = 6;

/** With the latencies that the simulated engine has at that rate: see test/profiling/profile-drift.test.ts. */
function profile(tpot: number | null = 0.0185, created = 1): string {
  const all = (value: number) => [
    [value, value],
    [value, value],
  ];
  return JSON.stringify({
    gpu: 'llama',
    cost: 2,
    created,
    indexes: [
      [64, 1024],
      [128, 4096],
    ],
    tputs: all(throughputRps),
    ...(tpot === null ? {} : { tpot: all(tpot) }),
  });
}

/** One of the replicas, read when the service asks; it runs to the time of the world first. */
class Engines implements EngineMetrics {
  slowness: number;
  /** What one replica gets [requests/s]. */
  rate: () => number = () => 1;
  now: () => number = () => 0;
  fault: Error | null = null;
  hangs = false;
  reads = 0;
  /** Ends with the last reading that was asked for. */
  settled: Promise<unknown> = Promise.resolve();
  #engine: CountedEngine;
  #startMs: number | null = null;

  constructor(slowness: number) {
    this.slowness = slowness;
    this.#engine = new CountedEngine({
      stepTimes,
      slowness,
      lengths: { inputTokens: 1024, outputTokens: 256 },
      seed: 7,
    });
  }

  /** What the engine says now. */
  sample(): EngineSample {
    this.#startMs ??= this.now();
    this.#engine.rate = this.rate();
    this.#engine.runTo(this.now() - this.#startMs);
    const sample = this.#engine.sample('default/llama');
    return { ...sample, atMs: sample.atMs + this.#startMs };
  }

  read(): Promise<EngineReading> {
    this.reads += 1;
    if (this.hangs) return new Promise(() => undefined);
    const reading =
      this.fault === null ? Promise.resolve({ samples: [this.sample()], problems: [] }) : Promise.reject(this.fault);
    this.settled = reading.catch(() => undefined);
    return reading;
  }

  async close(): Promise<void> {}
}

const correction = { profiles: { correction: { enabled: true } }, prometheus: { url: 'http://unused' } };

function build(engines: Engines | null, options: WorldOptions = {}): World {
  const world = new World({
    deployments: [deployment({ name: 'llama', currentReplicas: 9, maxReplicas: 40 })],
    profiles: { llama: profile() },
    ...(engines === null ? {} : { engineMetrics: engines }),
    ...options,
  });
  if (engines !== null) {
    engines.now = () => world.nowMs;
    engines.rate = () => demandRps / world.deployments.current.deployments[0]!.currentReplicas!;
  }
  return world.send('llama', { rps: demandRps, inputTokens: 1024, outputTokens: 256 });
}

function start(engines: Engines | null, options: WorldOptions = {}): Promise<World> {
  return build(engines, options).start();
}

/** Cycles that an autoscaler follows at once. */
async function follow(world: World, engines: Pick<Engines, 'settled'> | null, count: number): Promise<void> {
  for (let cycle = 0; cycle < count; cycle += 1) {
    world.follow();
    await world.cycle();
    await engines?.settled;
  }
}

const viewOf = (world: World) => world.controller.models()[0]!.deployments[0]!.profileDrift;
const plannedRps = (world: World) => world.controller.problem()!.models[0]!.deployments[0]!.profile!.tputs[0]![0];
const driftOf = (world: World) =>
  viewOf(world)?.latencies.find(({ latency }) => latency === 'tpot')?.driftRatio ?? null;

async function metricsOf(world: World): Promise<string> {
  const metrics = createMetrics(world.controller);
  try {
    return await metrics.render();
  } finally {
    metrics.close();
  }
}

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()));
});

describe('a profile that promises more than its engines do', () => {
  it('is reported, and without correction changes nothing in any plan', async () => {
    const engines = new Engines(1.3);
    const [watched, plain] = [await start(engines), await start(null)];
    await follow(watched, engines, 40 * minutes);
    await follow(plain, null, 40 * minutes);
    expect(watched.planned).toEqual(plain.planned);
    expect(watched.warnings()).toEqual([]);
    expect(watched.replicas('llama')).toBe(9);
    expect(driftOf(watched)).toBeGreaterThan(1.1);
    expect(viewOf(watched)).toMatchObject({ correctionFactor: null, nothingBecause: null });
    const text = await metricsOf(watched);
    const labels = 'namespace="default",deployment="llama",model="llama",gpu_type="A100-80GB"';
    const ratio = new RegExp(`^gpumix_profile_drift_ratio\\{${labels},metric="tpot"\\} ([\\d.]+)$`, 'm').exec(text);
    expect(Number(ratio?.[1])).toBeCloseTo(driftOf(watched)!, 9);
    expect(text).toContain(`gpumix_profile_load_ratio{${labels}}`);
    expect(text).not.toContain('gpumix_profile_correction_factor{');
    // The profile has no other latency.
    expect(text).not.toContain('metric="ttft"');
    expect(viewOf(plain)).toBeNull();
    expect(await metricsOf(plain)).not.toContain('gpumix_profile_drift_ratio{');
  });

  it('says as before how many requests fill a replica: slower engines serve fewer, which stay longer', async () => {
    const engines = new Engines(1.3);
    const pooled = JSON.parse(profile());
    const e2e = pooled.tpot.map((row: number[]) => row.map((tpot) => 257 * tpot));
    const text = JSON.stringify({ ...pooled, e2e, slos: { percentile: 99 } });
    const world = await start(engines, { config: correction, profiles: { llama: text } });
    await follow(world, engines, 40 * minutes);
    expect(viewOf(world)!.correctionFactor).toBeLessThan(0.9);
    const { fullInFlight } = world.controller.routingOf('llama');
    expect(fullInFlight.get('default/llama')).toBeCloseTo(throughputRps * 257 * 0.0185, 9);
  });

  it('is corrected where that is on, until its engines do what the plan says', async () => {
    const engines = new Engines(1.3);
    const world = await start(engines, { config: correction });
    await follow(world, engines, 90 * minutes);
    // 150 requests/s take 8.8 replicas by the profile, and 11.5 by the engines.
    expect(world.replicas('llama')).toBe(12);
    const { correctionFactor, loadRatio, latencies } = viewOf(world)!;
    expect(correctionFactor).toBeGreaterThan(0.95 / 1.3);
    expect(correctionFactor).toBeLessThan(1.05 / 1.3);
    expect(plannedRps(world)).toBeCloseTo(throughputRps * correctionFactor!, 9);
    expect(loadRatio).toBeCloseTo(demandRps / 12 / throughputRps, 1);
    const [tpot] = latencies;
    expect(tpot!.lowestRatio).toBeLessThan(1.3);
    expect(tpot!.highestRatio).toBeGreaterThan(1.3);
    const warning = world.controller.plan()!.warnings.find(({ code }) => code === 'profile_corrected')!;
    expect(warning).toMatchObject({ model: 'llama', deployment: 'default/llama' });
    expect(warning.message).toContain(`multiplied by ${correctionFactor}, because its engines are slower`);
    expect(await metricsOf(world)).toMatch(/^gpumix_profile_correction_factor\{.*\} 0\.\d+$/m);
    // Down by a hundredth or a few at a time, as the log tells.
    const said = world.log.flatMap(({ level, message }) => {
      const found = /^default\/llama: the throughputs of its profile are multiplied by (\S+),/.exec(message);
      return found === null ? [] : [{ level, factor: Number(found[1]) }];
    });
    expect(said.length).toBeGreaterThan(5);
    said.forEach(({ level, factor }, index) => {
      expect(level).toBe('warn');
      expect(factor / (said[index - 1]?.factor ?? 1)).toBeGreaterThan(0.97);
    });
    expect(said.at(-1)!.factor).toBe(correctionFactor);
  });

  it('stays corrected while its engines cannot be read, for as long as that takes', async () => {
    const engines = new Engines(1.3);
    const world = await start(engines, { config: correction });
    await follow(world, engines, 60 * minutes);
    const [before, replicas] = [viewOf(world)!.correctionFactor, world.replicas('llama')];
    expect(before).toBeLessThan(0.85);
    engines.fault = new Unavailable('prometheus_unreachable', 'nobody listens');
    await follow(world, engines, 2);
    expect(world.controller.inputs().find(({ input }) => input === 'engines')).toMatchObject({
      ok: false,
      problem: 'nobody listens',
    });
    expect(world.reports.at(-1)!.errors).toEqual([{ input: 'engines', code: 'prometheus_unreachable' }]);
    await follow(world, engines, 3 * 60 * minutes);
    expect(viewOf(world)).toMatchObject({ correctionFactor: before, loadRatio: null, latencies: [] });
    expect(world.replicas('llama')).toBe(replicas);
    expect(world.warnings()).toEqual(['profile_corrected']);
    expect(world.held()).toBeNull();
    // Nothing that is said now rests on anything.
    expect(await metricsOf(world)).not.toContain('gpumix_profile_drift_ratio{');
    expect(world.log.filter(({ message }) => message.includes('nobody listens'))).toHaveLength(1);
  });

  it('stays corrected across a restart, and is not any more where that is switched off', async () => {
    const engines = new Engines(1.3);
    const first = await start(engines, { config: correction });
    await follow(first, engines, 60 * minutes);
    const before = viewOf(first)!.correctionFactor;
    await first.controller.stop();
    const { store } = first;
    const silent = new Engines(1);
    silent.fault = new Unavailable('prometheus_unreachable', 'nobody listens');
    const again = () => ({ store, profiles: {}, nowMs: first.nowMs + 60_000 });
    const second = await start(silent, { config: correction, ...again() });
    await follow(second, silent, 3);
    expect(viewOf(second)!.correctionFactor).toBe(before);
    expect(plannedRps(second)).toBeCloseTo(throughputRps * before!, 9);
    await second.controller.stop();
    const off = await start(silent, { config: { prometheus: { url: 'http://unused' } }, ...again() });
    await follow(off, silent, 3);
    expect(plannedRps(off)).toBe(throughputRps);
    expect(off.warnings()).toEqual([]);
    await off.controller.stop();
    const on = await start(silent, { config: correction, ...again() });
    await follow(on, silent, 3);
    expect(viewOf(on)!.correctionFactor).toBe(1);
    await on.controller.stop();
  });

  it.each(['its profile', 'its deployment', 'the stored state'])(
    'stays corrected where %s could not be read at first after a restart',
    async (what) => {
      const engines = new Engines(1.3);
      const first = await start(engines, { config: correction });
      await follow(first, engines, 60 * minutes);
      const before = viewOf(first)!.correctionFactor!;
      expect(before).toBeLessThan(1);
      await first.controller.stop();
      const silent = new Engines(1);
      silent.fault = new Unavailable('prometheus_unreachable', 'nobody listens');
      let isFaulty = true;
      const readState: SharedStore['readState'] = async (name) => {
        if (isFaulty && what === 'the stored state') throw unreachable;
        return first.store.readState(name);
      };
      const second = build(silent, {
        config: correction,
        store: { ...first.store, readState },
        nowMs: first.nowMs + 60_000,
      });
      const { deployments } = second.deployments.current;
      if (what === 'its profile') second.profilesFault = unreachable;
      if (what === 'its deployment') second.deployments.set({ synced: false, deployments: [] });
      await second.start();
      await follow(second, silent, 2);
      isFaulty = false;
      second.profilesFault = null;
      if (what === 'its deployment') second.deployments.set({ synced: true, deployments });
      await follow(second, silent, 2);
      expect(viewOf(second)!.correctionFactor).toBe(before);
      expect(plannedRps(second)).toBeCloseTo(throughputRps * before, 9);
      await second.controller.stop();
    },
  );

  it('begins anew with another profile, and not with the same one stored again', async () => {
    const engines = new Engines(1.3);
    const world = await start(engines, { config: correction });
    await follow(world, engines, 30 * minutes);
    const before = viewOf(world)!.correctionFactor!;
    expect(before).toBeLessThan(1);
    engines.fault = new Unavailable('gone', 'gone');
    await world.writeProfile('llama', profile(0.0185, 2));
    await follow(world, engines, 2);
    expect(viewOf(world)!.correctionFactor).toBe(before);
    await world.writeProfile('llama', profile(0.024, 3));
    await follow(world, engines, 2);
    expect(viewOf(world)!.correctionFactor).toBe(1);
    expect(plannedRps(world)).toBe(throughputRps);
  });
});

describe('a profile that promises less than its engines do', () => {
  it('is corrected up to its bound, and back to its own numbers when the engines cannot be read', async () => {
    const engines = new Engines(0.8);
    const world = await start(engines, { config: correction });
    // One replica in ten has failed for an hour: the others take more than the profile says that they can.
    engines.rate = () => 1.15 * throughputRps * (viewOf(world)?.correctionFactor ?? 1);
    await follow(world, engines, 60 * minutes);
    const factor = viewOf(world)!.correctionFactor!;
    expect(factor).toBeGreaterThan(1.05);
    expect(factor).toBeLessThanOrEqual(1.25);
    expect(world.replicas('llama')).toBe(Math.ceil(demandRps / (throughputRps * factor)));
    expect(world.controller.plan()!.warnings[0]!.message).toContain('because its engines are faster');
    engines.fault = new Unavailable('gone', 'gone');
    await follow(world, engines, 14 * minutes);
    expect(viewOf(world)!.correctionFactor).toBe(factor);
    await follow(world, engines, 7 * minutes);
    expect(viewOf(world)!.correctionFactor).toBe(1);
    expect(world.replicas('llama')).toBe(9);
    expect(world.warnings()).toEqual([]);
    expect(world.log.at(-1)!.message).toBe('default/llama: its profile counts as it is again');
  });
});

describe('engines that are read', () => {
  it('delay no plan where they hang, and are not asked again meanwhile', async () => {
    const engines = new Engines(1);
    engines.hangs = true;
    const world = await start(engines, { config: correction });
    await follow(world, engines, 5 * minutes);
    expect(engines.reads).toBe(1);
    expect(world.replicas('llama')).toBe(9);
    expect(world.controller.ready()).toBe(true);
    expect(viewOf(world)).toMatchObject({ correctionFactor: 1, requests: null, observedAt: null });
    await world.controller.stop();
  });

  it('hold nothing where reading them fails in a way that nobody thought of', async () => {
    const engines = new Engines(1);
    const world = await start(engines, { config: correction });
    engines.fault = new TypeError('a bug');
    await follow(world, engines, 2);
    expect(world.replicas('llama')).toBe(9);
    expect(world.held()).toBeNull();
    expect(world.reports.at(-1)!.errors).toEqual([{ input: 'engines', code: 'internal' }]);
    expect(world.log.some(({ level, message }) => level === 'error' && message === 'engines: a bug')).toBe(true);
  });

  it('say 1 of a profile that is right', async () => {
    const engines = new Engines(1);
    const world = await start(engines, { config: correction });
    await follow(world, engines, 60 * minutes);
    expect(viewOf(world)!.correctionFactor).toBe(1);
    expect(driftOf(world)).toBeGreaterThan(0.97);
    expect(driftOf(world)).toBeLessThan(1.03);
    expect(world.warnings()).toEqual([]);
  });

  it('say nothing of a profile without latencies, and why', async () => {
    const engines = new Engines(1.3);
    const world = await start(engines, { config: correction, profiles: { llama: profile(null) } });
    await follow(world, engines, 20 * minutes);
    const view = viewOf(world)!;
    expect(view).toMatchObject({ correctionFactor: 1, latencies: [] });
    expect(view.loadRatio).toBeCloseTo(demandRps / 9 / throughputRps, 1);
    expect(view.nothingBecause).toContain('the profile holds no latency of 10');
  });

  it('are forgotten with their deployment', async () => {
    const engines = new Engines(1.3);
    const world = await start(engines, { config: correction });
    await follow(world, engines, 30 * minutes);
    world.deployments.set({ deployments: [deployment({ name: 'other', model: 'other' })] });
    await world.cycle();
    expect(await metricsOf(world)).not.toMatch(/gpumix_profile_\w+\{.*deployment="llama"/);
    // And come back without what was believed of the one before.
    world.deployments.set({ deployments: [deployment({ name: 'llama', currentReplicas: 9 })] });
    engines.fault = new Unavailable('gone', 'gone');
    await world.cycle();
    await world.cycle();
    expect(viewOf(world)!.correctionFactor).toBe(1);
  });
});

describe('engines behind a real HTTP endpoint', () => {
  /** The totals as vLLM writes them. */
  function expose({ promptTokens, generationTokens, latencies }: EngineSample): string {
    const label = '{engine="0",model_name="llama"}';
    const histogram = (name: string, total: { seconds: number; count: number } | null) =>
      total === null ? [] : [`vllm:${name}_sum${label} ${total.seconds}`, `vllm:${name}_count${label} ${total.count}`];
    return [
      `vllm:prompt_tokens_total${label} ${promptTokens}`,
      `vllm:generation_tokens_total${label} ${generationTokens}`,
      ...histogram('time_to_first_token_seconds', latencies.ttft),
      ...histogram('request_time_per_output_token_seconds', latencies.tpot),
      ...histogram('e2e_request_latency_seconds', latencies.e2e),
      '',
    ].join('\n');
  }

  it('correct their profile, and keep it corrected when the endpoint dies', async () => {
    const engine = new Engines(1.3);
    let endpoint: ScriptedEndpoint | null = await startEndpoint((_, response) => response.end(expose(engine.sample())));
    stops.push(async () => endpoint?.stop());
    const scraped = createScrapedEngines({
      targets: [{ deployment: 'default/llama', urls: [`${endpoint.url}/metrics`] }],
      timeoutMs: 5000,
      clock: { now: () => engine.now() },
    });
    stops.push(() => scraped.close());
    const reader = {
      settled: Promise.resolve() as Promise<unknown>,
      read: (deployments: Parameters<EngineMetrics['read']>[0]) => {
        const reading = scraped.read(deployments);
        reader.settled = reading.catch(() => undefined);
        return reading;
      },
      close: () => scraped.close(),
    };
    const world = await start(null, { engineMetrics: reader, config: correction });
    engine.now = () => world.nowMs;
    engine.rate = () => demandRps / world.deployments.current.deployments[0]!.currentReplicas!;
    await follow(world, reader, 60 * minutes);
    const factor = viewOf(world)!.correctionFactor!;
    expect(factor).toBeLessThan(0.85);
    await endpoint.stop();
    endpoint = null;
    await follow(world, reader, 60 * minutes);
    expect(viewOf(world)!.correctionFactor).toBe(factor);
    expect(world.controller.inputs().find(({ input }) => input === 'engines')?.problem).toContain('ECONNREFUSED');
  });
});
