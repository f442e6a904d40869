import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrometheusDemand } from '../../src/adapters/prometheus-demand.js';
import { deployment, profileText, World } from '../support/controller-world.js';
import { engineHistory, historySettings, steadyRequests } from '../support/engine-history.js';
import { type PrometheusServer, prometheusMissing, startPrometheus } from '../support/prometheus-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';

if (prometheusMissing !== null) console.log(`service/prometheus-demand: ${prometheusMissing}`);

const startSeconds = Date.UTC(2026, 0, 5) / 1000;

/**
 * Two hours of two engines: 6 requests/s in the first half hour, then 2, none in the second hour; from 1:45 on the pods are
 * gone.
 */
const hour = 3600;
const gone = 1.75 * hour;
const requests = [
  ...steadyRequests({ rps: 3, fromS: 0, toS: hour / 2 }),
  ...steadyRequests({ rps: 1, fromS: hour / 2, toS: hour }),
];

describe.skipIf(prometheusMissing !== null)('plans for demand that Prometheus tells', () => {
  let prometheus: PrometheusServer;
  let network: TcpProxy;
  let world: World;

  beforeAll(async () => {
    const engines = ['0', '1'].map((n) => ({
      pod: `gpu-${n}`,
      model: 'meta/llama',
      toS: gone,
      requests,
      scrapeEveryS: 15,
    }));
    prometheus = await startPrometheus([], {
      history: engineHistory(engines, { startSeconds, durationS: 2 * hour }),
    });
    const { hostname: host, port } = new URL(prometheus.url);
    network = new TcpProxy({ host, port: Number(port) });
    await network.connect();
    world = await new World({
      nowMs: (startSeconds + 600) * 1000,
      deployments: [deployment({ name: 'gpu', currentReplicas: 2, usdPerReplicaHour: 2 })],
      profiles: { gpu: profileText({}) },
      config: {
        demand: { source: 'prometheus', intervalSeconds: 30 },
        forecast: { method: 'window' },
        prometheus: { url: prometheus.url },
        models: { llama: { servedNames: ['meta/llama'] } },
      },
      traceSource: (clock) =>
        createPrometheusDemand(
          {
            ...historySettings,
            url: `http://${host}:${network.port}`,
            timeoutMs: 10_000,
            models: new Map([['meta/llama', 'llama']]),
          },
          clock,
        ),
    }).start();
  });
  afterAll(async () => {
    await world?.controller.stop();
    await network?.cut();
    await prometheus?.stop();
  });
  const inputs = () => new Map(world.controller.inputs().map((input) => [input.input, input]));
  const until = async (seconds: number) => {
    await world.skip(startSeconds + seconds - world.nowMs / 1000);
    await world.cycle();
  };

  it('follow what arrives, from the first cycle on', async () => {
    expect([world.replicas('gpu'), world.held()]).toEqual([6, null]);
    const view = world.controller.models()[0]!;
    expect(view.demand).toMatchObject({ knownIntervals: 8, windowIntervals: 8, idle: false, pendingRequests: 24 });
    expect(view.demand!.rps).toBeCloseTo(6, 6);
    expect(view.demand!.meanInputTokens).toBeCloseTo(700, -1);
    expect(view.demand!.meanOutputTokens).toBeCloseTo(130, -1);
    expect(inputs().get('prometheus')).toMatchObject({ ok: true, ageSeconds: 0, problem: null });
    expect(world.controller.ready()).toBe(true);
  });

  it('are held while Prometheus cannot be reached, however little arrives by then', async () => {
    await network.cut();
    await until(hour - 30);
    await world.cycles(3);
    expect([world.replicas('gpu'), world.held()]).toEqual([6, 'prometheus_unreachable']);
    for (const input of ['prometheus', 'traces']) {
      expect(inputs().get(input)).toMatchObject({ ok: false });
      expect(inputs().get(input)!.problem).toContain('Prometheus at http://127.0.0.1');
    }
    expect(inputs().get('redis')!.ok).toBe(true);
    expect(world.reports.at(-1)?.errors).toContainEqual({ input: 'prometheus', code: 'prometheus_unreachable' });
  });

  it('need no restart once it answers again, and look back at what they missed', async () => {
    await network.connect();
    await world.cycle();
    expect(world.held()).toBeNull();
    // The last four minutes: 2 requests/s, and none in the last of them.
    expect(world.controller.models()[0]!.demand).toMatchObject({ knownIntervals: 8 });
    expect(world.replicas('gpu')).toBe(2);
    expect(inputs().get('prometheus')).toMatchObject({ ok: true });
  });

  it('keep one replica where engines are up and nothing arrives', async () => {
    await until(1.5 * hour);
    expect(world.controller.models()[0]!.demand).toMatchObject({ rps: 0, idle: true, pendingRequests: 0 });
    expect([world.replicas('gpu'), world.held()]).toEqual([1, null]);
  });

  it('are held where the engines have vanished: nobody knows what would arrive', async () => {
    await until(gone + 600);
    expect([world.replicas('gpu'), world.held()]).toEqual([1, 'no_traces']);
    expect(inputs().get('traces')!.problem).toContain('are their engines running, and does Prometheus scrape them?');
    expect(inputs().get('prometheus')!.problem).toContain('found no counters of engines');
    // A model without engines is no error of a key.
    expect(world.reports.at(-1)?.errors).toEqual([]);
  });
});
