import { describe, expect, it } from 'vitest';
import { loadGpuCatalogue, loadModelCatalogue } from '../../src/adapters/catalogue-file.js';
import { createMemoryStore } from '../../src/adapters/memory-store.js';
import { createFileProfiles } from '../../src/adapters/profile-source.js';
import type { LoggedRequest } from '../../src/adapters/request-log.js';
import { GatewayTrace } from '../../src/demand/gateway-trace.js';
import { parseTraceRecord } from '../../src/demand/trace-record.js';
import { backtestFleet } from '../../src/service/backtest/backtest-fleet.js';
import { type Config, configSchema } from '../../src/service/config.js';
import { replayAsGateway } from '../../src/service/gateway-replay.js';
import { fleetOfTheBeginning, SimulatedCluster } from '../../src/service/simulated-cluster.js';
import type { PublishedReplicas } from '../../src/service/view.js';

const startMs = Date.UTC(2026, 5, 1, 8);
const id = 'default/llama-3.1-8b-h100';

const config = configSchema.parse({
  demand: { source: 'replay', replay: { file: 'unused.csv', engines: 'simulated' } },
  profiles: { source: 'files', directory: 'unused' },
  deployments: {
    source: 'config',
    list: [{ name: 'llama-3.1-8b-h100', model: 'llama-3.1-8b', gpuType: 'H100', maxReplicas: 3 }],
  },
  models: { 'llama-3.1-8b': { slo: { ttftSeconds: 2, tpotSeconds: 0.1 } } },
  simulation: { startupSeconds: 120, startupSpread: 0 },
});

async function fleet(own: Config = config) {
  const profile = createFileProfiles('profiles/simulated/llama-3.1-8b-ttft-by-length');
  return backtestFleet({
    config: own,
    source: 'test',
    // The shipped profiles have the names of their GPUs, not those of the deployments.
    profiles: {
      read: (keys) =>
        profile.read(keys.map((key) => ({ ...key, deployment: key.deployment.replace('llama-3.1-8b-', '') }))),
    },
    gpus: await loadGpuCatalogue(),
    models: await loadModelCatalogue(),
  });
}

async function cluster(initial: number) {
  return new SimulatedCluster({
    fleet: await fleet(),
    beginning: { replicas: new Map([[id, initial]]), shares: [] },
    startMs,
    simulation: config.simulation,
    lagSeconds: 15,
    slo: config.models['llama-3.1-8b']!.slo,
  });
}

/** What a controller would have published. */
function published(replicas: number | null) {
  const known = { kind: 'known', replicas } as PublishedReplicas;
  return {
    replicasOf: (): PublishedReplicas => (replicas === null ? { kind: 'not-known', reason: 'not yet' } : known),
    routingOf: () => ({ shares: [], fullInFlight: new Map<string, number>() }),
  };
}

const counts = (simulated: SimulatedCluster) => {
  const { currentReplicas, readyReplicas, pendingReplicas } = simulated.snapshot().deployments[0]!;
  return [currentReplicas, readyReplicas, pendingReplicas];
};

describe('a simulated cluster', () => {
  it('follows what is published after the lag and the start-up time, and shows it as an API server would', async () => {
    const simulated = await cluster(1);
    expect(counts(simulated)).toEqual([1, 1, 0]);
    simulated.follow(published(3));
    expect(counts(simulated)).toEqual([3, 1, 0]);
    simulated.advance(startMs + 15_000);
    expect(counts(simulated)).toEqual([3, 1, 2]);
    simulated.advance(startMs + 134_999);
    expect(counts(simulated)).toEqual([3, 1, 2]);
    simulated.advance(startMs + 135_000);
    expect(counts(simulated)).toEqual([3, 3, 0]);
    simulated.follow(published(0));
    simulated.advance(startMs + 150_000);
    expect(counts(simulated)).toEqual([0, 0, 0]);
  });

  it('keeps what it has while no number is known, and goes to no more than the deployment may have', async () => {
    const simulated = await cluster(2);
    simulated.follow(published(null));
    simulated.advance(startMs + 1_000_000);
    expect(counts(simulated)).toEqual([2, 2, 0]);
    simulated.follow(published(50));
    simulated.advance(startMs + 2_000_000);
    expect(counts(simulated)).toEqual([3, 3, 0]);
  });

  it('tells its followers when replicas change, and not while only time passes', async () => {
    const simulated = await cluster(1);
    let told = 0;
    simulated.onChange(() => {
      told += 1;
    });
    simulated.advance(startMs + 60_000);
    expect(told).toBe(0);
    simulated.follow(published(2));
    expect(told).toBe(1);
    simulated.advance(startMs + 60_000 + 134_000);
    expect(told).toBe(2);
    simulated.advance(startMs + 60_000 + 135_000);
    expect(told).toBe(3);
  });

  it('begins with what the first ten minutes need, whatever comes later', async () => {
    const log = async function* (rps: number): AsyncGenerator<LoggedRequest> {
      for (let second = 0; second < 1200; second++) {
        const now = second < 600 ? rps : 100;
        for (let i = 0; i < now; i++) yield { atMs: 5_000_000 + second * 1000, inputTokens: 512, outputTokens: 256 };
      }
    };
    // One H100 serves between 17 and 35 of these a second: the profile has 34.2 for 512 and 256 tokens.
    expect((await fleetOfTheBeginning(await fleet(), log(5))).replicas).toEqual(new Map([[id, 1]]));
    const busy = await fleetOfTheBeginning(await fleet(), log(40));
    expect(busy.replicas).toEqual(new Map([[id, 2]]));
    expect(busy.shares[0]!.to).toEqual([{ deployment: id, share: 1 }]);
  });
});

describe('the gateway of a simulated cluster', () => {
  const other = 'default/llama-3.1-8b-l40s';
  const two: Config = {
    ...config,
    deployments: {
      ...config.deployments,
      list: [
        config.deployments.list[0]!,
        { ...config.deployments.list[0]!, name: 'llama-3.1-8b-l40s', gpuType: 'L40S', maxReplicas: 9 },
      ],
    },
  };

  /** All requests are for the one H100, which serves about 25 of them a second: what do twice as many attain? */
  async function attainment(fullInFlight: Readonly<Record<string, number>>): Promise<number> {
    const simulated = new SimulatedCluster({
      fleet: await fleet(two),
      beginning: {
        replicas: new Map([
          [id, 1],
          [other, 8],
        ]),
        shares: [],
      },
      startMs,
      simulation: config.simulation,
      lagSeconds: 15,
      slo: config.models['llama-3.1-8b']!.slo,
    });
    const bucket = {
      model: 'llama-3.1-8b',
      inputTokens: 1024,
      outputTokens: 256,
      rps: 50,
      bestEffort: false,
      extrapolated: false,
      to: [{ deployment: id, share: 1 }],
      unservedShare: 0,
      alsoTo: [other],
    };
    simulated.follow({
      ...published(null),
      routingOf: () => ({ shares: [bucket], fullInFlight: new Map(Object.entries(fullInFlight)) }),
    });
    const engines = simulated.serve(new GatewayTrace());
    for (let i = 0; i < 3000; i++)
      engines.arrive({ atMs: i * 20, inputTokens: 1024, outputTokens: 256 }, startMs + i * 20);
    engines.advance(startMs + 600_000);
    return simulated.serviceOf('llama-3.1-8b')!.sinceStart.attainment!;
  }

  it('goes round a full replica where it is told when one is full', async () => {
    expect(await attainment({})).toBeLessThan(0.7);
    expect(await attainment({ [id]: 50, [other]: 50 })).toBe(1);
  });
});

describe('a replay on simulated replicas', () => {
  const gapMs = 100;

  async function play(replicas: number) {
    const simulated = await cluster(replicas);
    let nowMs = startMs;
    const clock = { now: () => nowMs };
    const store = createMemoryStore(clock);
    const records = new Map<number, string>();
    const reached: number[] = [];
    const summary = await replayAsGateway({
      open: async function* () {
        for (let i = 0; i < 3000; i++) yield { atMs: i * gapMs, inputTokens: 1024, outputTokens: 256 };
      },
      source: 'log.csv',
      store: {
        ...store,
        writeTraces: async (written) => {
          for (const { endSeconds, text } of written) records.set(endSeconds, text);
        },
      },
      model: 'llama-3.1-8b',
      speed: 1,
      engines: (trace) => simulated.serve(trace),
      durationSeconds: null,
      loop: false,
      clock,
      sleep: async (ms) => {
        nowMs += ms;
      },
      signal: new AbortController().signal,
      onReached: (ms) => reached.push(ms),
    });
    const parsed = [...records.values()].map((text) => parseTraceRecord(text, 'record').record);
    const completed = parsed.reduce((sum, { buckets }) => sum + buckets.reduce((all, { count }) => all + count, 0), 0);
    return { simulated, summary, parsed, completed, reached };
  }

  it('completes every request once, in the time that the engine takes, and says how far it has come', async () => {
    const { simulated, summary, parsed, completed, reached } = await play(1);
    expect(summary.requests).toBe(3000);
    expect(parsed.reduce((sum, { arrivals }) => sum + (arrivals ?? 0), 0)).toBe(3000);
    expect(completed).toBe(3000);
    const service = simulated.serviceOf('llama-3.1-8b')!;
    expect(service).toMatchObject({ requests: 3000, failed: 0, unserved: 0, attainment: 1 });
    // 1024 tokens take about 2 × 8e9 × 1024 / 500e12 = 0.03 s alone; in a batch that decodes somewhat more.
    expect(service.ttftP95Seconds).toBeGreaterThan(0.02);
    expect(service.ttftP95Seconds).toBeLessThan(0.5);
    expect(reached).toEqual([...reached].sort((a, b) => a - b));
    expect(simulated.serviceOf('another')).toBeNull();
  });

  it('leaves them unserved where no replica is there, and the gateway sees them go', async () => {
    const { simulated, parsed, completed } = await play(0);
    expect(completed).toBe(0);
    expect(simulated.serviceOf('llama-3.1-8b')).toMatchObject({ requests: 3000, unserved: 3000, attainment: 0 });
    // The last of them wait when the last record in which something arrives or completes is written.
    expect(parsed.at(-1)!.pending).toBeLessThanOrEqual(601);
  });
});
